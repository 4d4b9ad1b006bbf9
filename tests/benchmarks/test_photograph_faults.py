"""Photographs with one thing wrong in their tree, through the commands: one line of error, or what is left out counted.

The adapters' own tests have every fault of every file; here is what the commands make of them: `data status`,
`data prepare` and `evaluate`, with a tiny network that has learned nothing.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.rootnet.model import JOINTS, RootArchitecture, RootNet
from poseboard.protocols.records import DataFile, PictureFile, ScoreFile

ROOT = Path(__file__).resolve().parents[2]
TREES = ("human36m-coco", "mpii", "mscoco", "muco", "mupots", "pw3d")
SCORED = ("human36m-coco", "mupots", "pw3d")
"""Those that tables are run on: the others are trained on."""
FILE = {
    "human36m-coco": "annotations/Human36M_subject9_data.json",
    "mpii": "annotations/train.json",
    "mscoco": "annotations/person_keypoints_val2017.json",
    "muco": "data/MuCo-3DHP.json",
    "mupots": "data/MuPoTS-3D.json",
    "pw3d": "data/3DPW_test.json",
}
"""An annotation file of each."""


@pytest.fixture(scope="module")
def photographs() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "made_up_photographs", ROOT / "tests" / "datasets" / "made_up_photographs.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "roots.pt"
    backbone = Architecture(network="small", joints=JOINTS, crop_px=32)
    architecture = RootArchitecture(backbone=backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = RootNet(architecture, backbone.build(seed=0), gamma=1.0)
    Checkpoint("rootnet", architecture.plain(), network.state_dict()).save(path)
    return path


@pytest.fixture
def place(
    tmp_path: Path, photographs: ModuleType, weights: Path, workspace_of: Callable[[Path], Any]
) -> Callable[..., Any]:
    """A workspace with one tree, changed as a function of its files says."""

    def make(dataset: str, change: Callable[[dict[str, Any]], None] = lambda files: None) -> Any:
        files = photographs.changed(photographs.TREES[dataset](), change)
        photographs.write_tree(tmp_path / "tree", dataset, files)
        entry = {"root": "tree", **({"boxes": "annotated"} if dataset == "mupots" else {})}
        params = {
            "profile": "p",
            "datasets": {dataset: entry},
            "methods": {
                "roots": {"code": "methods/rootnet", "after": "scratch", "weights": str(weights)},
            },
            "profiles": {"p": {"seeds": [0], "processes": 1}},
        }
        (tmp_path / "methods").symlink_to(ROOT / "methods")
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        return workspace_of(tmp_path)

    return make


def state(workspace: Any, dataset: str) -> tuple[int, str]:
    """Exit code of `data status`, and its line of the data set."""
    done = workspace.run("data", "status")
    assert "Traceback" not in done.err
    (line,) = [line for line in done.out.splitlines() if line.split()[1:2] == [dataset]]
    return done.code, line


def test_a_tree_that_lacks_subjects_is_one_line(place: Callable[..., Any]) -> None:
    workspace = place("human36m-coco")
    code, line = state(workspace, "human36m-coco")
    assert (code, "no Human36M_subject5_data.json" in line) == (0, True)
    error = workspace.run("data", "prepare", "human36m-coco").error
    assert "complete the folder" in error
    assert "or say `partial: true` there" in error
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    entry = params["datasets"]["human36m-coco"]
    for said in ("yes", True):
        entry["partial"] = said
        (workspace.folder / "params.yaml").write_text(yaml.safe_dump(params))
        if said == "yes":
            assert "datasets.human36m-coco.partial: is 'yes'" in workspace.run("data", "prepare", "human36m-coco").error
    assert "no Human36M_subject5_data.json" in workspace.must("data", "prepare", "human36m-coco").out
    record = DataFile.read(workspace.folder / "results/p/data/human36m-coco.json")
    assert (record.state, record.counts["test subjects"]) == ("partial", 2)
    assert state(workspace, "human36m-coco")[0] == 0


@pytest.mark.parametrize("dataset", ["mupots", "pw3d"])
def test_whole_trees_are_scored_and_drawn(place: Callable[..., Any], dataset: str) -> None:
    workspace = place(dataset)
    assert state(workspace, dataset)[0] == 0
    workspace.must("data", "prepare", dataset)
    workspace.must("train", dataset, "roots")
    workspace.must("evaluate", dataset, "roots")
    scores = ScoreFile.read(workspace.folder / f"results/p/scores/roots/{dataset}.json").scores
    assert all(score.n_samples for score in scores)
    folder = workspace.folder / f"results/p/examples/roots/{dataset}"
    index = PictureFile.read(folder / "pictures.json")
    assert {picture.file for picture in index.pictures} == {path.name for path in folder.glob("*.png")}
    assert "open circles" in index.pictures[0].caption.lower()


def test_a_data_set_without_a_table_is_not_scored(place: Callable[..., Any]) -> None:
    assert "no table is scored on it" in place("muco").run("score", "muco", "roots").error


def _set(field: str, value: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda annotations: annotations[0].update({field: value})


def _people(dataset: str, change: Callable[[list[dict[str, Any]]], None]) -> Callable[[dict[str, Any]], None]:
    return lambda files: change(files[FILE[dataset]]["annotations"])


FATAL: dict[str, Callable[[str], Callable[[dict[str, Any]], None]]] = {
    "truncated json": lambda dataset: lambda files: files.update({FILE[dataset]: '{"images": [{"id": 1, '}),
    "NaN": lambda dataset: _people(dataset, _set("bbox", [float("nan"), 1, 2, 3])),
    "no bbox": lambda dataset: _people(dataset, lambda people: people[0].pop("bbox")),
    "zero people": lambda dataset: _people(dataset, lambda people: people.clear()),
}


@pytest.mark.parametrize("fault", FATAL)
@pytest.mark.parametrize("dataset", TREES)
def test_a_damaged_file_is_one_line(place: Callable[..., Any], dataset: str, fault: str) -> None:
    workspace = place(dataset, FATAL[fault](dataset))
    code, line = state(workspace, dataset)
    assert (code, "damaged" in line) == (2, True), line
    assert Path(FILE[dataset]).name in workspace.run("data", "prepare", dataset).error
    if dataset in SCORED:
        assert Path(FILE[dataset]).name in workspace.run("evaluate", dataset, "roots").error
        assert not (workspace.folder / f"results/p/scores/roots/{dataset}.json").exists()


COUNTED: dict[str, tuple[Callable[[list[dict[str, Any]]], None], str]] = {
    "negative box": (_set("bbox", [10, 10, -5, 20]), "1 boxes without area"),
    "box outside the image": (_set("bbox", [5000, 10, 50, 50]), "1 boxes beyond the image"),
    "unknown category": (_set("category_id", 77), "1 annotations of no people"),
}


@pytest.mark.parametrize("fault", COUNTED)
@pytest.mark.parametrize("dataset", ["mscoco", "muco", "mupots", "pw3d"])
def test_what_is_left_out_is_counted(place: Callable[..., Any], dataset: str, fault: str) -> None:
    change, counted = COUNTED[fault]
    workspace = place(dataset, _people(dataset, change))
    code, line = state(workspace, dataset)
    assert (code, counted in line) == (0, True), line
    assert counted in workspace.must("data", "prepare", dataset).out
    record = DataFile.read(workspace.folder / f"results/p/data/{dataset}.json")
    assert counted in record.detail


def test_photographs_without_boxes_are_no_data_of_nobody(place: Callable[..., Any]) -> None:
    """A run leaves the row out, with the reason; who asks for it by name is refused: neither scores 0 %."""
    workspace = place("mupots", lambda files: files.update({"bbox/bbox_mupots_output.json": "[]"}))
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["datasets"]["mupots"]["boxes"] = "detected"
    (workspace.folder / "params.yaml").write_text(yaml.safe_dump(params))
    workspace.must("train", "mupots", "roots")
    why = "there are no boxes and no 2D detections of people, which it needs"
    assert f"mupots/roots: left out, {why}" in workspace.must("evaluate", "mupots", "roots").out
    assert f"mupots/roots: split test: {why}" in workspace.run("predict", "mupots", "roots").error
    assert "there are no predictions" in workspace.run("score", "mupots", "roots").error
    assert not list(workspace.folder.rglob("*.parquet"))


def test_an_image_that_is_absent_is_named(place: Callable[..., Any]) -> None:
    workspace = place("mupots")
    (workspace.folder / "tree/data/MultiPersonTestSet/TS1/img_000000.jpg").unlink()
    code, line = state(workspace, "mupots")
    assert code in (0, 2)
    assert "1 of 3 images are missing" in line
    workspace.run("train", "mupots", "roots")
    assert "img_000000.jpg" in workspace.run("evaluate", "mupots", "roots").error


@pytest.mark.parametrize(
    ("dataset", "field"), [("mupots", "keypoints_cam"), ("muco", "keypoints_cam"), ("pw3d", "joint_cam")]
)
def test_people_in_another_unit_are_refused(place: Callable[..., Any], dataset: str, field: str) -> None:
    factor = 1000 if dataset == "pw3d" else 0.001

    def spoil(people: list[dict[str, Any]]) -> None:
        for person in people:
            flat = [v for joint in person[field] for v in (joint if isinstance(joint, list) else [joint])]
            scaled = [v * factor for v in flat]
            nested = [scaled[i : i + 3] for i in range(0, len(scaled), 3)]
            person[field] = nested if isinstance(person[field][0], list) else scaled

    workspace = place(dataset, _people(dataset, spoil))
    assert state(workspace, dataset)[0] == 2
    assert re.search(
        rf"median (depth|extent) of people is .* unit is wrong; multiply the joints by {1 / factor:g};",
        workspace.run("data", "prepare", dataset).error,
    )
