"""A row without extrinsics, from the hand-over to the page's numbers, on a miniature world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from poseboard.protocols import predictions
from poseboard.protocols.records import RigFile, ScoreFile

ROW = '''
import numpy as np
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Inputs


class Level:
    """All joints in one place, and cameras in a row that look the same way."""

    inputs = Inputs(extrinsics=False, images=False, frames_per_rig=1_000)

    def __init__(self, options, skeleton):
        self.skeleton = skeleton

    def load(self, checkpoint, device):
        pass

    def training(self, start, seed):
        return None

    def predict(self, samples):
        together = {}
        for sample in samples:
            together[sample.rig] = together.get(sample.rig, 0) + 1
        answers = []
        for sample in samples:
            views = len(sample.views)
            joints_mm = np.full((1, len(self.skeleton), 3), float(together[sample.rig]))
            columns = {
                "camera_R": np.tile(np.eye(3), (1, views, 1, 1)),
                "camera_t_mm": np.arange(3.0 * views).reshape(1, views, 3),
                "camera_covariance": np.tile(np.eye(6), (1, views, 1, 1)),
            }
            answers.append(Poses(self.skeleton, joints_mm, np.ones(1), "view-0", columns))
        return answers
'''


def test_a_row_without_extrinsics_is_predicted_and_scored(
    workspace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = tmp_path / "free_rows.py"
    module.write_text(ROW)
    monkeypatch.syspath_prepend(str(tmp_path))
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["free"] = {"class": "free_rows:Level", "code": str(module), "after": "backbone"}
    workspace.write_params(**params)
    for stage in ("train", "predict", "score"):
        workspace.must(stage, "human36m", "free")
    folder = workspace.folder / "results/smoke/predictions/free/human36m"
    tables = [predictions.read(path) for path in sorted(folder.glob("*.parquet"))]
    whole = {t.info.condition.frames_per_rig: t for t in tables if len(t.info.condition.cameras) == 4}
    assert set(whole) == {1, 2, 5, 10, 30}
    samples = len(whole[1])
    for frames, table in whole.items():
        most = table.joints_mm.max()
        assert most == -(-samples // -(-samples // frames)), "one subject, one rig: as many as are offered"
        assert table.info.columns["camera_R"] == (4, 3, 3)
        assert set(table.frame) <= set(table.info.condition.cameras)
    scores = ScoreFile.read(workspace.folder / "results/smoke/scores/free/human36m.json").scores
    by_table: dict[str, list[Any]] = {}
    for score in scores:
        assert score.signature.extrinsics == "withheld"
        by_table.setdefault(score.table, []).append(score)
    assert {"T6", "human36m-failures", "human36m-mpjpe-scale", "human36m-camera-rotation"} <= set(by_table)
    assert not {"T1", "T2", "human36m-cameras"} & set(by_table), "they judge in the world's frame"
    assert [s.signature.frames_per_rig for s in by_table["human36m-frames-per-rig"]] == [1, 2, 5, 10, 30]
    assert by_table["human36m-failures"][0].value == 100
    assert by_table["human36m-camera-rotation"][0].value > 20
    drawn = RigFile.read(workspace.folder / "results/smoke/examples/free/human36m/rigs.json").plans
    assert {plan.frames_per_rig for plan in drawn} == {10}, "those that the tables of cameras judge"
    assert all(len(plan.cameras) == 4 and plan.rotation_deg > 20 for plan in drawn)
    assert not (workspace.folder / "results/smoke/examples/dlt/human36m/rigs.json").exists()
    calibrated = ScoreFile.read(workspace.folder / "results/smoke/scores/dlt/human36m.json").scores
    of_frames = [score for score in calibrated if score.table == "human36m-frames-per-rig"]
    assert [(s.signature.frames_per_rig, s.signature.extrinsics) for s in of_frames] == [(1, "given")]
    assert not [score for score in calibrated if score.table.startswith("human36m-camera-")]
    assert np.isfinite([s.value for s in by_table["T6"]]).all()
