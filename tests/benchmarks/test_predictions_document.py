"""docs/predictions.md: its example runs as it stands, and its tables name the fields that there are."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseboard.datasets.human36m import LABELS
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.datasets.unpickle import read_pickle
from poseboard.protocols import predictions
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import LARGEST_MM, PredictionInfo

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs/predictions.md").read_text(encoding="utf-8")


def table_after(words: str) -> dict[str, bool]:
    """Field -> whether the document says that it is needed, of the first table after some words."""
    rows = DOCUMENT[DOCUMENT.index(words) :].partition("|---|")[2].partition("\n\n")[0].splitlines()[1:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {cell[0].strip("`"): cell[1] == "yes" for cell in cells}


def test_the_example_needs_nothing_of_ours_and_is_scored(ready_workspace: Any, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(# mean_pose\.py.*?)```", DOCUMENT, flags=re.DOTALL)
    assert set(re.findall(r"(?m)^(?:import|from) (\w+)", code)) == {"json", "sys", "numpy", "pyarrow"}
    program, written = tmp_path / "mean_pose.py", tmp_path / "mean_pose.parquet"
    program.write_text(code)
    labels = ready_workspace.world / LABELS
    record = ready_workspace.folder / "results/smoke/data/human36m.json"
    subprocess.run([sys.executable, program, labels, record, written], check=True)
    assert predictions.read(written).info.joints == HUMAN36M.joints

    arguments = ("score", "human36m", "mean_pose", "--json", "--predictions", written)
    scores = {score["table"]: score for score in json.loads(ready_workspace.must(*arguments).out)["scores"]}
    table = read_pickle(labels)["table"]
    test = np.isin(np.array(read_pickle(labels)["subject_names"])[table["subject_idx"]], ["S9", "S11"])
    pose_mm, true_mm = table["keypoints"][~test].mean(axis=0), table["keypoints"][test].astype(np.float64)
    pelvis = HUMAN36M.joints.index("pelvis")
    apart = (pose_mm - pose_mm[pelvis]) - (true_mm - true_mm[:, pelvis : pelvis + 1])
    assert scores["T1"]["value"] == pytest.approx(np.linalg.norm(apart, axis=-1).mean(), abs=1e-3)
    assert scores["T1"]["n_missing"] == 0


def test_every_field_stands_in_the_document() -> None:
    for words, model in (("## Metadata", PredictionInfo), ("`condition` is an object", Condition)):
        needed = {name: field.is_required() for name, field in model.model_fields.items()}
        assert table_after(words) == needed, words
    columns = table_after("## Columns")
    assert set(columns) == {"key", "person", "score", "frame", "joints_mm"}
    assert f"beyond {LARGEST_MM:,.0f} mm" in DOCUMENT
