"""A sweep over 2 to 31 cameras with 100,000 frames of predictions for each number: written, read and scored in 2 GB."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from poseboard.benchmarks.speed.test_handover_memory import CAMERAS, Fabricated, peak_memory_mb
from poseboard.datasets.sample import Poses
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.protocols.base import TruthTable
from poseboard.protocols.predictions import PoseTable, PredictionInfo, read, write
from poseboard.protocols.scoring import score
from poseboard.protocols.table import Group, Table

if TYPE_CHECKING:
    from poseboard.benchmarks.speed.conftest import RecordSpeed

SAMPLES, MOST_MB = 100_000, 2000.0
SIZES = (2, 3, 4, 6, 8, 12, 16, 24, 31)


def sweep(samples: int) -> dict[str, float]:
    """Run in a process of its own, whose peak memory is then that of the sweep."""
    dataset = Fabricated(samples)
    names, keys = dataset.views, list(dataset.keys("test"))
    groups = tuple(Group(cameras=names[:size]) for size in SIZES)
    table = Table(id="sweep", title="sweep", dataset=dataset.name, protocol="mpjpe_relative", groups=groups)
    before = peak_memory_mb()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{size}.parquet" for size in SIZES]
        for size, path, conditions in zip(SIZES, paths, table.conditions(names), strict=True):
            info = PredictionInfo(
                skeleton=HUMAN36M.name, joints=HUMAN36M.joints, dataset=dataset.name,
                condition=conditions[0].shown("none"), manifest=dataset.manifest(), method="noise",
            )  # fmt: skip
            # As the harness holds them: an answer a sample, of all samples of a condition.
            answers = [
                Poses(HUMAN36M, rng.normal(0, 100 / np.sqrt(size), (1, len(HUMAN36M), 3)), np.ones(1)) for _ in keys
            ]
            write(path, PoseTable.collect(keys, answers, info))
            del answers
        written = peak_memory_mb()
        start = time.perf_counter()
        truth = TruthTable.collect(dataset, "test")
        predictions = {table.info.condition: {0: table} for table in map(read, paths)}
        values = [found.value or 0.0 for found in score(table, predictions, truth).scores]
        seconds = time.perf_counter() - start
        del predictions
        start = time.perf_counter()
        rows = sum(len(pd.read_parquet(path)) for path in paths)
        reading = time.perf_counter() - start
    assert rows == samples * len(SIZES)
    assert len(values) == len(SIZES)
    assert all(more > fewer for more, fewer in pairwise(values))  # 100 mm over the root of n
    return {
        "seconds": seconds, "reading_s": reading, "before_mb": before, "written_mb": written,
        "peak_mb": peak_memory_mb(),
    }  # fmt: skip


@pytest.mark.full_size
@pytest.mark.own_process(SAMPLES)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_sweep_stays_within_two_gigabytes(own_process: dict[str, float], record_speed: RecordSpeed) -> None:
    ours = own_process
    record_speed(
        name="sweep",
        title=f"Scoring a sweep over 2 to {CAMERAS} cameras, {SAMPLES:,} frames of each of {len(SIZES)} numbers",
        peer="the same files of predictions read by pandas, without truth and scores",
        aim=None,
        ours=ours["seconds"],
        theirs=ours["reading_s"],
        details={
            "samples": SAMPLES,
            "cameras": CAMERAS,
            "peak_memory_mb": ours["peak_mb"],
            "of_which_writing_mb": ours["written_mb"],
            "of_which_libraries_mb": ours["before_mb"],
        },
    )
    assert ours["peak_mb"] <= MOST_MB


if __name__ == "__main__":
    print(json.dumps(sweep(int(sys.argv[1]))))
