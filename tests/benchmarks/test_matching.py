"""Where a row looks in other views: from the predict stage to its page, on the miniature world."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from poseboard.benchmarks.harness import Bench
from poseboard.benchmarks.settings import Settings
from poseboard.datasets.crops import CroppedDataset

ROWS = {"epipolar": "epipolar", "control": "unconstrained", "baseline": "none"}


@pytest.fixture(scope="module")
def trained(ready_workspace: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("matching") / "copy"
    shutil.copytree(ready_workspace.folder, folder, symlinks=True)
    workspace = type(ready_workspace).__new__(type(ready_workspace))
    workspace.folder = folder
    row = {"code": "methods/epipolar", "after": "backbone", "steps": 1, "batch_size": 2}
    rows = {name: {**row, "fusion": fusion, "attention": {"samples": 6}} for name, fusion in ROWS.items()}
    params = yaml.safe_load((folder / "params.yaml").read_text())
    workspace.write_params(**{**params, "methods": rows})
    for name in ROWS:
        workspace.must("train", "human36m", name)
        workspace.must("predict", "human36m", name)
        workspace.must("score", "human36m", name)
    return workspace


def matches_of(workspace: Any, row: str) -> Path:
    return Path(workspace.folder / "results/smoke/predictions/human36m" / row / "matches.npz")


def test_rows_that_look_at_other_views_leave_where(trained: Any) -> None:
    assert not matches_of(trained, "baseline").exists()
    with np.load(matches_of(trained, "epipolar")) as own, np.load(matches_of(trained, "control")) as other:
        found, control = dict(own), dict(other)
    n, views, side = len(found["keys"]), len(found["views"]), int(found["side_px"])
    assert n == 3
    assert found["images"].shape == (n, views, side, side, 3)
    assert found["weights"].shape == control["weights"].shape == (n, views - 1, 6)
    np.testing.assert_allclose(found["weights"].sum(axis=-1), 1, atol=1e-5)
    for name in ("keys", "truth_px", "pixel_px", "images"):  # both are asked the same
        np.testing.assert_array_equal(found[name], control[name])
    # the true joint lies on the line of its pixel, as nearly as a cell lies to the joint
    assert np.abs(found["pixel_px"] - found["truth_px"][:, 0]).max() <= 2 + 1e-9
    along = found["line_px"][..., 1, :] - found["line_px"][..., 0, :]
    off = found["truth_px"][:, 1:] - found["line_px"][..., 0, :]
    away = np.abs(along[..., 0] * off[..., 1] - along[..., 1] * off[..., 0]) / np.linalg.norm(along, axis=-1)
    assert found["hit"].any()
    assert away[found["hit"]].max() < 8
    assert np.isnan(control["line_px"]).all()


def test_what_is_drawn_is_the_true_joint_in_the_crop_that_the_row_sees(trained: Any) -> None:
    with np.load(matches_of(trained, "epipolar")) as archive:
        found = dict(archive)
    bench = Bench.open(Settings.read(trained.folder / "params.yaml"), "human36m")
    crops = CroppedDataset(bench.dataset, int(found["side_px"]), 1.0, trained.folder / "data" / "crops")
    joint = bench.dataset.skeleton.joints.index(str(found["joint"]))
    for i, key in enumerate(found["keys"]):
        for v, view in enumerate(crops.sample(str(key)).views):
            np.testing.assert_array_equal(found["images"][i, v], view.pixels())
            true_px = view.camera.project(bench.dataset.truth(str(key)).joints_mm[0, joint][None])[0]
            np.testing.assert_allclose(found["truth_px"][i, v], true_px)


def test_they_are_on_the_pages_of_these_rows(trained: Any) -> None:
    trained.must("report")
    pages = trained.folder / "results/smoke/leaderboard/methods"
    for name in ("epipolar", "control"):
        text = (pages / f"{name}.html").read_text(encoding="utf-8")
        assert text.count("<strong>Right wrist of") == 3
        assert text.count('href="data:image/png') == 3 * 4
    assert "Where it looks" not in (pages / "baseline.html").read_text(encoding="utf-8")


def test_images_of_a_real_data_set_are_left_out_and_an_old_file_does_not_stay(trained: Any) -> None:
    (trained.world / "manifest.json").unlink()  # a tree without it is read as a real one
    trained.must("predict", "human36m", "epipolar")
    with np.load(matches_of(trained, "epipolar")) as archive:
        assert archive["images"].size == 0
        assert np.isfinite(archive["samples_px"]).all()
    left = matches_of(trained, "baseline")
    left.write_bytes(b"of an earlier run")
    trained.must("predict", "human36m", "baseline")
    assert not left.exists()
