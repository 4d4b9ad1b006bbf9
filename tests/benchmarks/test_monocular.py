"""A monocular row through every stage: trained on all cameras, predicted from each alone, scored in its frame."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from poseboard.datasets.human36m import CAMERAS, Human36M
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.protocols import predictions
from poseboard.protocols.scores import ScoreFile

ROW = {"code": "methods/lifting", "after": "backbone", "network": "image_rotation", "steps": 2, "batch_size": 2}


@pytest.fixture
def lifted(workspace):
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["lifting"] = ROW
    workspace.write_params(**params)
    for stage in ("train", "predict", "score"):
        workspace.must(stage, "human36m", "lifting")
    return workspace, workspace.folder / "results" / "smoke"


def test_a_monocular_row(lifted):
    workspace, results = lifted
    files = sorted((results / "predictions" / "human36m" / "lifting").glob("*.parquet"))
    assert [path.name for path in files] == sorted(f"test-{camera}-seed0.parquet" for camera in CAMERAS)
    for path in files:
        table = predictions.read(path)
        (camera,) = table.info.views
        assert set(table.frame) == {camera}
        assert not table.joints_mm[:, HUMAN36M.root_index].any()
    record = ScoreFile.read(results / "scores" / "human36m" / "lifting.json")
    assert {found.table: found.signature.views for found in record.scores} == {
        "human36m-monocular": "each alone",
        "T3": "each alone; root from all",
    }
    errors = pd.read_parquet(results / "errors" / "human36m" / "lifting.parquet")
    for found in record.scores:
        rows = errors[errors["table"] == found.table]
        assert found.value == pytest.approx(rows["error"].mean(), rel=1e-5)
        assert found.n_samples == len(rows) == 4 * (rows["cameras"] == CAMERAS[0]).sum()
        assert found.breakdown["camera"] == pytest.approx(rows.groupby("cameras")["error"].mean().to_dict(), rel=1e-5)

    # drawn where the person is, so that pictures of a weak method are no empty crops
    with np.load(results / "examples" / "human36m" / "lifting.npz") as drawn:
        pelvis = HUMAN36M.root_index
        assert len(drawn["keys"])
        np.testing.assert_allclose(drawn["predicted_px"][:, :, pelvis], drawn["truth_px"][:, :, pelvis], atol=1e-2)

    left_out = workspace.must("predict", "human36m", "dlt").out
    assert f"{CAMERAS[0]} left out, the method takes 2 to" in left_out
    for command in (["compare", "human36m"], ["report"]):
        workspace.must(*command)
    page = (workspace.folder / "results" / "leaderboard" / "index.html").read_text()
    assert "human36m-monocular" in page


def test_the_truth_in_another_cameras_frame_is_no_oracle(lifted):
    """Rewritten by hand: the truth of each camera scores 0, that of its neighbour does not."""
    workspace, results = lifted
    dataset = Human36M(workspace.world)
    path = next((results / "predictions" / "human36m" / "lifting").glob(f"test-{CAMERAS[1]}-*.parquet"))
    table = predictions.read(path)
    values = {}
    for name in CAMERAS[:2]:
        for row, key in enumerate(table.keys):
            R = next(view.camera.R for view in dataset.sample(key).views if view.name == name)
            table.joints_mm[row] = dataset.truth(key).joints_mm[0] @ R.T
        made = workspace.folder / f"{name}.parquet"
        predictions.write(made, table)
        told = workspace.must("score", "human36m", "lifting", "--predictions", made).out
        values[name] = float(told.split("human36m-monocular")[1].split()[0])
    assert values[CAMERAS[1]] == pytest.approx(0, abs=0.05)
    assert values[CAMERAS[0]] > 100


def test_hands_go_through_the_same_stages(ready_workspace, tmp_path):
    made_up = Path(__file__).parents[1] / "datasets" / "made_up_rhd.py"
    spec = importlib.util.spec_from_file_location("made_up_rhd", made_up)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_rhd(tmp_path / "rhd")
    workspace = type(ready_workspace)(tmp_path)
    params = yaml.safe_load((ready_workspace.folder / "params.yaml").read_text())
    params["datasets"]["rhd"] = {"root": str(tmp_path / "rhd")}
    params["methods"] = {"lifting": {**ROW, "network": "rotation", "handed": True, "mirror_right": True}}
    workspace.write_params(**params)
    for stage in ("train rhd backbone", "train rhd lifting", "predict rhd lifting", "score rhd lifting"):
        workspace.must(*stage.split())
    (found,) = ScoreFile.read(tmp_path / "results" / "smoke" / "scores" / "rhd" / "lifting.json").scores
    assert (found.table, found.n_samples, found.n_missing, found.n_groups) == ("rhd", 4, 0, 4)
    assert found.signature.root == "palm"
    assert set(found.breakdown["action"]) == {"left hand", "right hand"}
    assert 0 < found.value < 1000
