"""The tables of Shelf and Campus on made-up trees of their published layout."""

from pathlib import Path

import numpy as np
import pytest
from made_up_shelf import write_shelf
from predicted import answered, rows_of

from poseboard.datasets.catalog import open_dataset
from poseboard.datasets.multi_human_pose import TUM14
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.protocols.scoring import score
from poseboard.protocols.table import read_tables

TABLES = Path(__file__).resolve().parents[2] / "benchmarks" / "tables"


@pytest.mark.parametrize("name", ["shelf", "campus"])
def test_the_tables_on_a_made_up_tree(tmp_path: Path, name: str) -> None:
    """Read as published: the actors' own poses are whole, and half of them in half of the limbs are half as good."""
    write_shelf(tmp_path, frames=4, name=name)
    truth = TruthTable.collect(open_dataset(name, {"root": tmp_path}), "test")
    assert (truth.skeleton, len(truth)) == (TUM14, 8)
    there = np.isfinite(truth.joints_mm).all(axis=(1, 2))
    info = PredictionInfo(skeleton="tum-14", joints=TUM14.joints, dataset=name, manifest=truth.manifest,
                          condition=Condition(cameras=truth.views), method="oracle")  # fmt: skip
    pred = PoseTable(
        truth.keys[there], truth.person[there], np.ones(there.sum(), np.float32),
        np.full(there.sum(), "world", dtype=object), truth.joints_mm[there].astype(np.float32), info,
    )  # fmt: skip
    by_id = {table.id: table for table in read_tables(TABLES / f"{name}-pcp3d.yaml")}
    for convention in ("pcp3d", "pcp3d-dropped"):
        table = by_id[f"{name}-{convention}"]
        (found,) = score(table, answered(pred), truth, resamples=10).scores
        assert (found.value, found.n_samples, found.n_missing) == (pytest.approx(100), 6, 0)
        assert found.ci95 is None
        (found,) = score(table, answered(rows_of(pred, slice(3))), truth, resamples=10).scores
        assert found.n_missing == 3
        assert found.value == pytest.approx(50 if convention == "pcp3d" else 100)
    none = TruthTable.collect(open_dataset(name, {"root": tmp_path, "truth": "none"}), "test")
    assert len(none) == 0
    assert none.manifest != truth.manifest
