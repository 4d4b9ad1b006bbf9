"""CMU Panoptic through every stage: absent, trained and scored on a made-up tree, and with published weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from poseboard.datasets.panoptic import CAMERAS, SEQUENCES, Panoptic
from poseboard.datasets.skeleton import COCO
from poseboard.methods.nets.pose_resnet import PoseResNet
from poseboard.protocols import predictions
from poseboard.protocols.records import DataFile, ScoreFile
from poseboard.protocols.table import read_tables

TABLE = Path(__file__).resolve().parents[2] / "benchmarks" / "tables" / "T4.yaml"
OF_FOUR = f"test-{'+'.join(CAMERAS)}-*.parquet"
"""The predictions under the condition of that table."""
STEPS = {"steps": 2, "batch_size": 2}
METHODS = {
    "ransac": {"code": "methods/ransac", "after": "backbone", **STEPS},
    "dlt": {"code": "methods/dlt", "after": "ransac"},
    "algebraic": {"code": "methods/algebraic", "after": "backbone", **STEPS},
    # the world's vertical is y here
    "volumetric": {"code": "methods/volumetric", "after": "algebraic", "voxels": 16, "up": "y", **STEPS},
}
METHODS["volumetric_true"] = {**METHODS["volumetric"], "use_gt_pelvis": True}


@pytest.fixture(scope="module")
def panoptic(workspace_with, tmp_path_factory):
    return workspace_with(tmp_path_factory.mktemp("panoptic"), "panoptic", "panoptic", "dome", METHODS)


def test_the_table_is_on_the_cameras_that_are_read_by_default():
    (board,) = read_tables(TABLE)
    (group,) = board.groups
    assert (board.dataset, board.published, group.cameras) == ("panoptic", "T4", CAMERAS)
    assert not {f"00_{c}" for c in (22, 23, 25, 26, 29)} & set(CAMERAS)  # known to be faulty
    assert all(camera in " ".join(board.notes) for camera in CAMERAS)


def test_from_the_files_to_the_table(panoptic):
    record = panoptic.must("data", "prepare", "panoptic").out
    assert "13 frames of one person in 4 cameras" in record
    assert "boxes about the true joints" in record
    panoptic.must("train", "panoptic", "backbone")
    results = panoptic.folder / "results" / "smoke"
    for method in METHODS:
        for stage in ("train", "predict", "score"):
            panoptic.must(stage, "panoptic", method)
        scores = ScoreFile.read(results / "scores" / method / "panoptic.json").scores
        (found,) = [score for score in scores if score.table == "T4"]
        # of the sweep over 31 cameras, the groups that four cameras have
        sweep = [score for score in scores if score.table == "F1"]
        assert [(score.group, len(score.signature.cameras[0])) for score in sweep] == [(0, 2), (1, 3), (2, 4)]
        assert sweep[2].value == found.value
        assert (found.table, found.n_samples, found.n_missing, found.n_groups) == ("T4", 6, 0, 4)
        assert (found.signature.root, found.signature.alignment) == ("mean of left_hip, right_hip", "root")
        assert found.signature.joints == "all 17 of coco-17"
        assert found.signature.given == (("root",) if method == "volumetric_true" else ())
        assert found.signature.cameras == (CAMERAS,)
        assert set(found.breakdown["subject"]) == set(SEQUENCES["test"])
        assert 0 < found.value < 1e5
        (path,) = (results / "predictions" / method / "panoptic").glob(OF_FOUR)
        table = predictions.read(path)
        assert table.info.joints == COCO.joints
        assert table.info.condition.cameras == CAMERAS

    # the cube of volumetric stands about the middle of the hips, that which algebraic predicts or the true one
    answers = {m: predictions.read(next((results / "predictions" / m / "panoptic").glob(OF_FOUR))) for m in METHODS}
    dataset = Panoptic(panoptic.folder / "dome")
    roots = {
        "volumetric": COCO.root_of(answers["algebraic"].joints_mm),
        "volumetric_true": COCO.root_of(np.stack([dataset.truth(key).joints_mm[0] for key in dataset.keys("test")])),
    }
    for method, root_mm in roots.items():
        away_mm = np.abs(answers[method].joints_mm - root_mm[:, None]).max()
        assert away_mm <= 2300 / 2 + 0.01

    panoptic.must("compare", "panoptic")
    panoptic.must("report")
    page = (panoptic.folder / "results" / "smoke" / "leaderboard" / "boards" / "panoptic.html").read_text()
    assert "CMU Panoptic, MPJPE relative to the middle of the hips, 4 cameras" in page


def test_with_published_weights_nothing_is_trained(panoptic, tmp_path):
    params = yaml.safe_load((panoptic.folder / "params.yaml").read_text())
    # Of the published crops, which are large, one frame is enough.
    one = {"root": str(panoptic.folder / "dome"), "sequences": {"test": ["171204_pose4"]}}
    params["datasets"]["panoptic"] = one
    workspace = type(panoptic)(tmp_path)
    workspace.write_params(**params)
    torch.manual_seed(0)
    net = PoseResNet(18, 17)
    torch.save({f"module.{key}": value for key, value in net.state_dict().items()}, tmp_path / "coco.pth")
    named = workspace.run("weights", "import", "backbone", "coco.pth", "--out", "x.pt", "--set", "joints=mpii").error
    assert "weights import backbone --set joints=mpii: input should be 'human36m' or 'coco'" in named
    workspace.must("weights", "import", "backbone", "coco.pth", "--out", "own.pt")
    params["methods"]["dlt"]["weights"] = "own.pt"
    workspace.write_params(**params)
    workspace.must("train", "panoptic", "dlt")
    assert "not those of coco-17" in workspace.run("predict", "panoptic", "dlt").error
    of = ("--set", "joints=coco", "--trained-on", "mscoco", "--trained-on", "human36m")
    workspace.must("weights", "import", "backbone", "coco.pth", "--out", "coco.pt", *of)
    assert "trained on mscoco, human36m" in workspace.must("weights", "show", "coco.pt").out
    params["methods"]["dlt"]["weights"] = "coco.pt"
    workspace.write_params(**params)
    assert "not trained, weights from coco.pt" in workspace.must("train", "panoptic", "dlt").out
    assert "panoptic/dlt: T4" in workspace.must("evaluate", "panoptic", "dlt").out
    record = ScoreFile.read(tmp_path / "results/smoke/scores/dlt/panoptic.json")
    recorded = record.provenance
    assert {one.signature.trained_on for one in record.scores} == {("mscoco", "human36m")}
    assert (recorded.weights.origin, recorded.weights.file) == ("imported", "coco.pt")
    assert recorded.weights.architecture["joints"] == list(COCO.joints)
    assert recorded.options == {}, "none was given, and defaults may not be what the weights were made for"


def test_other_cameras_than_those_of_the_table_are_told(panoptic, tmp_path):
    params = yaml.safe_load((panoptic.folder / "params.yaml").read_text())
    params["datasets"]["panoptic"] = {"root": str(panoptic.folder / "dome"), "cameras": list(CAMERAS[1:])}
    workspace = type(panoptic)(tmp_path)
    workspace.write_params(**params)
    told = workspace.run("predict", "panoptic", "dlt").error
    assert "table T4: cameras: there is no camera '00_01'; use cameras of 00_02, 00_10, 00_13" in told


def test_without_training_sequences_training_says_so(panoptic, tmp_path):
    params = yaml.safe_load((panoptic.folder / "params.yaml").read_text())
    params["datasets"]["panoptic"] = {"root": str(panoptic.folder / "dome"), "sequences": {"test": ["171204_pose6"]}}
    workspace = type(panoptic)(tmp_path)
    workspace.write_params(**params)
    told = workspace.run("train", "panoptic", "backbone").error
    assert "data set panoptic: has no training samples; give it some, or import weights" in told


def test_absent_it_is_no_failure_and_the_page_says_so(workspace):
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["datasets"] |= {"panoptic": {"root": None}, "shelf": {"root": None}}
    workspace.write_params(**params)
    assert "missing panoptic" in workspace.must("data", "status").out
    workspace.must("plan", "--write")
    results = workspace.folder / "results" / "smoke"
    assert not (results / "catalog" / "panoptic.json").exists()
    assert "missing, CMU Panoptic" in workspace.must("data", "prepare", "panoptic").out
    assert DataFile.read(results / "data" / "panoptic.json").state == "missing"
    assert not list((workspace.folder / "data").glob("synthetic-panoptic-*"))
    for command in (["train", "panoptic", "backbone"], ["predict", "panoptic", "dlt"], ["score", "panoptic", "dlt"]):
        assert "datasets.panoptic.root: names no folder" in workspace.run(*command).error
    for command in (["train", "dlt"], ["evaluate", "dlt"]):
        assert "panoptic/dlt: left out, no folder is named" in workspace.must(*command).out
    workspace.must("predict", "human36m", "dlt")
    (workspace.folder / "results" / "published").mkdir(exist_ok=True)
    published = TABLE.parents[2] / "results" / "published" / "T4.yaml"
    (workspace.folder / "results" / "published" / "T4.yaml").write_text(published.read_text())
    workspace.must("report")
    (paper,) = (workspace.folder / "results" / "smoke" / "leaderboard" / "papers").iterdir()
    page = paper.read_text()
    assert "13.7" in page
    assert "Ours are absent: panoptic is missing." in page
    assert "panoptic-toolbox" in page
