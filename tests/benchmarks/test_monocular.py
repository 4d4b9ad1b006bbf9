"""A monocular row through every stage: trained on all cameras, predicted from each alone, scored in its frame."""

import csv
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from predicted import file_name

from poseboard.datasets.human36m import CAMERAS, Human36M
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.checkpoint import Checkpoint
from poseboard.protocols import predictions
from poseboard.protocols.records import ComparisonFile, ScoreFile
from poseboard.report.examples import read_examples

ROOT = Path(__file__).parents[2]
OUTS = {"train": ("checkpoints", "training"), "evaluate": ("predictions", "scores", "errors", "examples")}
ROW = {"code": "methods/lifting", "after": "backbone", "network": "image_rotation", "steps": 2, "batch_size": 2}


@pytest.fixture(scope="module")
def lifted(copied_into, tmp_path_factory):
    workspace = copied_into(tmp_path_factory.mktemp("lifted"))
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["lifting"] = ROW
    workspace.write_params(**params)
    for stage in ("train", "predict", "score"):
        workspace.must(stage, "human36m", "lifting")
    return workspace, workspace.folder / "results" / "smoke"


def test_a_monocular_row(lifted):
    workspace, results = lifted
    files = sorted((results / "predictions" / "lifting" / "human36m").glob("*.parquet"))
    assert [path.name for path in files] == sorted(file_name(camera) for camera in CAMERAS)
    for path in files:
        table = predictions.read(path)
        (camera,) = table.info.condition.cameras
        assert set(table.frame) == {camera}
        assert (table.column("size_mm") > 0).all()
    record = ScoreFile.read(results / "scores" / "lifting" / "human36m.json")
    assert {found.table: found.signature.views for found in record.scores} == {
        "human36m-monocular": "each alone",
        "T3": "each alone; root from all",
    }
    errors = pd.read_parquet(results / "errors" / "lifting" / "human36m.parquet")
    for found in record.scores:
        rows = errors[errors["table"] == found.table]
        assert found.value == pytest.approx(rows["error"].mean(), rel=1e-5)
        assert found.n_samples == len(rows) == 4 * (rows["cameras"] == CAMERAS[0]).sum()
        assert found.breakdown["camera"] == pytest.approx(rows.groupby("cameras")["error"].mean().to_dict(), rel=1e-5)

    left_out = workspace.must("predict", "human36m", "dlt").out
    assert re.search(f"{CAMERAS[0]}-[0-9a-f]+ left out, the method takes 2 to", left_out)
    for command in (["compare", "human36m"], ["report"]):
        workspace.must(*command)
    # drawn where the person is, so that pictures of a weak method are not empty crops
    drawn = read_examples(results / "comparisons" / "human36m.npz")
    lifting_px = drawn.predicted_px[drawn.rows.index("lifting")]
    pelvis = HUMAN36M.root_index
    assert drawn.images
    np.testing.assert_allclose(lifting_px[:, :, pelvis], drawn.truth_px[:, :, pelvis], atol=1e-2)
    page = workspace.folder / "results" / "smoke" / "leaderboard"
    assert "human36m-monocular" in (page / "boards" / "human36m.html").read_text()
    with (page / "leaderboard.csv").open() as file:
        rows = [(row["table"], row["method"]) for row in csv.DictReader(file)]
    assert {table for table, method in rows if method == "lifting"} == {"human36m-monocular", "T3"}
    assert {method for table, method in rows if table == "T1"} == {"dlt"}
    compared = ComparisonFile.read(results / "comparisons" / "human36m.json").tables
    assert not compared  # a row of all cameras and one of one camera have no table in common


def test_the_median_of_views_is_no_monocular_row(workspace):
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["lifting"] = {**ROW, "after": "dlt", "views": "median"}
    workspace.write_params(**params)
    for stage in ("train", "predict", "score"):
        workspace.must(stage, "human36m", "lifting")
    results = workspace.folder / "results" / "smoke"
    table = predictions.read(results / "predictions" / "lifting" / "human36m" / file_name(root_cameras=CAMERAS))
    assert set(table.frame) == {"world"}
    assert not table.columns
    scored = {found.table for found in ScoreFile.read(results / "scores" / "lifting" / "human36m.json").scores}
    assert {"T1", "T2", "human36m-cameras"} <= scored
    assert "human36m-monocular" not in scored


def test_the_truth_in_another_cameras_frame_is_no_oracle(lifted):
    """Rewritten by hand: the truth of each camera scores 0, that of its neighbour does not."""
    workspace, results = lifted
    dataset = Human36M(workspace.world)
    path = next((results / "predictions" / "lifting" / "human36m").glob(f"test-{CAMERAS[1]}-*.parquet"))
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


@pytest.fixture
def hands(workspace_with, tmp_path):
    """A workspace whose params.yaml points at a miniature RHD, with the rows that Human3.6M has."""
    rows = {"lifting": {**ROW, "network": "direct"}, "lifting_image": ROW}
    return workspace_with(tmp_path, "rhd", "rhd", "rhd", rows)


def test_hands_go_through_the_same_stages_with_the_same_rows(hands):
    hands.must("data", "prepare", "rhd")
    hands.must("train", "rhd", "backbone")
    for row in ("lifting", "lifting_image"):
        hands.must("train", "rhd", row)
        hands.must("evaluate", "rhd", row)
    hands.must("compare", "rhd")
    results = hands.folder / "results" / "smoke"
    for row in ("lifting", "lifting_image"):
        scores = {found.table: found for found in ScoreFile.read(results / "scores" / row / "rhd.json").scores}
        found, at_true_size = scores.pop("rhd"), scores.pop("rhd-true-size")
        assert not scores
        assert at_true_size.signature.given == ("hand", "size")
        assert at_true_size.signature.metric == "mpjpe<=150mm"
        assert 0 < at_true_size.value < 150
        assert (found.table, found.n_samples, found.n_missing, found.n_groups) == ("rhd", 4, 0, 4)
        assert found.signature.root == "palm"
        assert set(found.breakdown["action"]) == {"left hand", "right hand"}
        assert 0 < found.value < 1000
        assert Checkpoint.read(results / "checkpoints" / row / "rhd" / "seed0.pt").architecture["handed"]
    drawn = read_examples(results / "comparisons" / "rhd.npz")
    assert len(drawn.keys)
    # Nothing of a real image gets onto a page.
    assert not any(np.asarray(Image.open(io.BytesIO(file))).any() for files in drawn.images for file in files)
    tables = ComparisonFile.read(results / "comparisons" / "rhd.json").tables
    assert {compared.table for compared in tables} == {"rhd", "rhd-true-size"}
    assert all({rank.method for rank in compared.ranks} == {"lifting", "lifting_image"} for compared in tables)
    hands.must("report")
    page = (hands.folder / "results" / "smoke" / "leaderboard" / "index.html").read_text()
    assert "rhd" in page
    assert "are from a synthetic world" not in page


def test_absent_hands_are_left_out(hands):
    shutil.rmtree(hands.folder / "rhd")
    params = yaml.safe_load((hands.folder / "params.yaml").read_text())
    for command in (["data", "prepare", "rhd"], ["evaluate", "rhd", "lifting"]):
        assert "datasets.rhd.root: there is no folder" in hands.run(*command).error  # it is named
    params["datasets"]["rhd"] = {"root": None}
    hands.write_params(**params)
    assert "rhd: missing" in hands.must("data", "prepare", "rhd").out
    params["methods"]["lifting"]["on"] = ["rhd"]
    hands.write_params(**params)
    results = hands.folder / "results" / "smoke"
    for stage, kinds in OUTS.items():
        assert "rhd/lifting: left out, no folder is named" in hands.must(stage, "lifting").out
        assert not any(any((results / kind / "lifting").iterdir()) for kind in kinds)
    hands.must("report")
    page = (hands.folder / "results" / "smoke" / "leaderboard" / "data.html").read_text()
    assert re.search(r'<h2 id="rhd">rhd <span class="tag missing">missing</span>', page)


def test_hands_have_no_synthetic_world(hands):
    params = yaml.safe_load((hands.folder / "params.yaml").read_text())
    params["datasets"]["rhd"] = {"root": None}
    hands.write_params(**params)
    assert "rhd: missing, Rendered Hand Pose" in hands.must("data", "prepare", "rhd").out
    assert "datasets.rhd.root: names no folder" in hands.run("train", "rhd", "backbone").error
    assert not (hands.folder / "data").exists()
