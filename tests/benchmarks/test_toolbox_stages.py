"""Human3.6M in the layout of epipolar transformers' release, through every stage, and with published weights."""

import numpy as np
import pytest
import torch
import yaml

from poseboard.datasets.human36m_toolbox import Human36MToolbox
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.epipolar.method import Epipolar
from poseboard.methods.nets.pose_resnet import PoseResNet
from poseboard.protocols.records import ScoreFile

NAME = "human36m-toolbox"
STEPS = {"steps": 2, "batch_size": 2}
BASE = {"code": "methods/epipolar", "after": "backbone", **STEPS}
METHODS = {
    "epipolar_baseline": {**BASE, "fusion": "none"},
    "epipolar": BASE,
    "epipolar_published": {**BASE, "recipe": "published", "scale_factor": 0.25, "rotation_deg": 30},
}


@pytest.fixture(scope="module")
def toolbox(workspace_with, tmp_path_factory):
    return workspace_with(tmp_path_factory.mktemp("toolbox"), NAME, "toolbox", "h36m", METHODS, moments=3, damaged=True)


def test_from_the_files_to_the_table(toolbox):
    told = toolbox.must("data", "prepare", NAME).out
    assert "9 moments of four cameras; truth of the test split is triangulated" in told
    toolbox.must("train", NAME, "backbone")
    for row in METHODS:
        toolbox.must("train", NAME, row)
        toolbox.must("evaluate", NAME, row)
    for row in METHODS:
        (found,) = ScoreFile.read(toolbox.folder / "results" / "smoke" / "scores" / row / f"{NAME}.json").scores
        assert (found.table, found.protocol, found.n_missing) == ("T5-human36m-toolbox", "mpjpe_clipped", 0)
        assert found.n_samples == 1  # one of 64, of three
        assert 0 < found.value <= 150
    toolbox.must("report")
    assert NAME in (toolbox.folder / "results" / "smoke" / "leaderboard" / "index.html").read_text()


def test_published_weights_see_warped_crops(toolbox):
    torch.manual_seed(0)
    net = PoseResNet(50, 20)
    torch.save(
        {"model": {f"backbone.module.{key}": value for key, value in net.state_dict().items()}},
        toolbox.folder / "model.pth",
    )
    toolbox.must("weights", "import", "epipolar", "model.pth", "--out", "released.pt")
    method = Epipolar({"fusion": "none"}, HUMAN36M)
    method.load(toolbox.folder / "released.pt", "cpu")
    assert (method.inputs.resampling, method.inputs.crop_px) == ("bilinear", 256)
    view = Human36MToolbox(toolbox.folder / "h36m").sample("S9/Directions-1/000001").views[0]
    warped, cut = view.crop(256, resampling="bilinear"), view.crop(256)
    middle = view.boxes_px.reshape(2, 2).mean(axis=0)
    in_crop = (warped.camera.K @ np.linalg.solve(view.camera.K, (*middle, 1)))[:2]
    np.testing.assert_allclose(in_crop, 128, atol=1e-4)  # but for float32, where whole pixels are up to half a one off
    assert np.abs((cut.camera.K @ np.linalg.solve(view.camera.K, (*middle, 1)))[:2] - 128).max() > 1e-6
    params = yaml.safe_load((toolbox.folder / "params.yaml").read_text())
    released = {"code": "methods/epipolar", "after": "scratch", "weights": "released.pt", "fusion": "none"}
    params["methods"]["released"] = released
    toolbox.write_params(**params)
    toolbox.must("train", NAME, "released")
    assert f"{NAME}/released: T5" in toolbox.must("evaluate", NAME, "released").out
