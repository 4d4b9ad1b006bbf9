"""The data stage: contact sheets of whatever tree there is, and folders that are named but not there or not whole."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import yaml

from poseboard.datasets.human36m import LABELS
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.datasets.unpickle import read_pickle
from poseboard.protocols.records import DataFile

TREES = {
    "human36m": "human36m",
    "human36m-toolbox": "toolbox",
    "panoptic": "panoptic",
    "rhd": "rhd",
    "shelf": "shelf",
}
"""Data set -> the tests' made-up tree of it."""
OPTIONS: dict[str, dict[str, Any]] = {"shelf": {"frames": 3}}
NEEDED = {
    "human36m": "processed/S9/Walking-1/imageSequence-undistorted/54138969/img_000001.jpg",
    "human36m-toolbox": "images/s_09_ca_01/000001.jpg",
    "panoptic": "171204_pose6/hdImgs/00_02/00_02_00001500.jpg",
    "rhd": "evaluation/color/00000.png",
    "shelf": "pred_shelf_maskrcnn_hrnet_coco.pkl",
}
"""A file of each tree that a run needs."""

Made = Callable[..., None]


@pytest.fixture
def home(workspace_with: Any, tmp_path: Path) -> Any:
    """A workspace of its own, with a made-up RHD in ``hands``."""
    return workspace_with(tmp_path, "rhd", "rhd", "hands", {"dlt": {"code": "methods/dlt", "after": "backbone"}})


def name_roots(workspace: Any, **roots: str | None) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["datasets"] |= {name.replace("_", "-"): {"root": root} for name, root in roots.items()}
    workspace.write_params(**params)


@pytest.mark.parametrize("dataset", TREES)
def test_a_real_tree_has_a_contact_sheet_and_is_left_as_it_is(home: Any, made_up: Made, dataset: str) -> None:
    root = home.folder / "theirs"
    made_up(TREES[dataset], root, **OPTIONS.get(dataset, {}))
    name_roots(home, **{dataset: "theirs"})
    home.must("data", "prepare", dataset)
    folder = home.folder / "results" / "smoke" / "data"
    record = DataFile.read(folder / f"{dataset}.json")
    assert (record.state, record.synthetic) == ("ready", False)
    assert record.pictures == [f"{dataset}-contact-sheet.png"]
    sheet = cv2.imread(str(folder / record.pictures[0]))
    assert sheet.shape[0] >= 288
    assert sheet.std() > 10
    before = (folder / record.pictures[0]).read_bytes()
    home.must("data", "prepare", dataset)
    assert (folder / record.pictures[0]).read_bytes() == before
    assert not list(root.rglob("*contact*"))  # nothing is written into the user's folder

    (root / NEEDED[dataset]).unlink()
    told = home.run("data", "prepare", dataset).error
    assert f"params.yaml: datasets.{dataset}.root: " in told
    named = "S9/Walking-1" if dataset == "human36m" else Path(NEEDED[dataset]).stem
    assert named in told
    assert (folder / record.pictures[0]).read_bytes() == before


@pytest.mark.parametrize("dataset", TREES)
def test_a_named_folder_has_to_be_there(home: Any, dataset: str) -> None:
    name_roots(home, **{dataset: "nowhere"})
    assert f"datasets.{dataset}.root: there is no folder nowhere" in home.run("data", "prepare", dataset).error
    assert not (home.folder / "results" / "smoke" / "data" / f"{dataset}.json").exists()
    if dataset != "human36m":
        name_roots(home, **{dataset: None})
        assert f"data/{dataset} is not there" in home.must("data", "prepare", dataset).out


def test_root_on_the_command_line_is_a_name_too(home: Any) -> None:
    params = yaml.safe_load((home.folder / "params.yaml").read_text())
    params["datasets"]["shelf"] = {"root": None}
    home.write_params(**params)
    assert "names no folder" in home.run("predict", "shelf", "dlt").error
    assert "there is no folder" in home.run("predict", "shelf", "dlt", "--root", "nowhere").error


def test_the_folder_of_a_name_is_used_where_it_is_there(home: Any) -> None:
    name_roots(home, rhd=None)
    (home.folder / "data").mkdir()
    (home.folder / "hands").rename(home.folder / "data" / "rhd")
    assert "rhd: ready, 8 pictures" in home.must("data", "prepare", "rhd").out
    assert "ready   rhd" in home.must("data", "status").out
    (home.folder / "data" / "rhd" / NEEDED["rhd"]).unlink()
    assert "evaluation/color/00000.png is missing" in home.run("data", "prepare", "rhd").error


def test_damaged_data_is_not_called_missing(home: Any) -> None:
    """What can be read of a folder that is there and cannot be is an error, whether it is named or at its place."""
    name_roots(home, rhd=None)
    (home.folder / "data").mkdir()
    (home.folder / "hands").rename(home.folder / "data" / "rhd")
    annotations = next((home.folder / "data" / "rhd").rglob("anno_*.pickle"))
    annotations.write_bytes(annotations.read_bytes()[:-20])
    listed = home.run("data", "status")
    assert listed.code == 2
    assert "damaged rhd" in listed.out
    assert annotations.name in listed.out
    for command in (["data", "prepare", "rhd"], ["score", "rhd", "dlt"]):
        assert annotations.name in home.run(*command).error


def test_labels_in_metres_are_refused_with_the_factor(home: Any, made_up: Made) -> None:
    made_up("human36m", home.folder / "theirs")
    name_roots(home, human36m="theirs")
    path = home.folder / "theirs" / LABELS
    labels = read_pickle(path)
    labels["table"] = labels["table"].copy()
    labels["table"]["keypoints"] /= 1000
    np.save(path, np.array(labels, dtype=object), allow_pickle=True)
    told = home.run("data", "prepare", "human36m").error
    assert "theirs: train: joints: the median person is 1." in told
    assert "labels look like metres: multiply the joints by 1000; " in told
    assert told.endswith("more: `poseboard data check human36m` lists all")
    assert not (home.folder / "results" / "smoke" / "data" / "human36m.json").exists()


def test_damage_is_an_error_and_oddities_are_recorded(home: Any, made_up: Made) -> None:
    made_up("human36m", home.folder / "theirs")
    name_roots(home, human36m="theirs")
    record = home.folder / "results" / "smoke" / "data" / "human36m.json"
    home.must("data", "prepare", "human36m")
    assert "warnings" not in json.loads(record.read_text())
    assert home.must("data", "check", "human36m").out == "human36m: 45 samples, 0 errors, 0 warnings\n"
    path = home.folder / "theirs" / LABELS
    labels = read_pickle(path)
    labels["table"] = labels["table"].copy()
    labels["table"]["keypoints"] = labels["table"]["keypoints"][:, HUMAN36M.flip_order]
    np.save(path, np.array(labels, dtype=object), allow_pickle=True)
    home.must("data", "prepare", "human36m")
    backwards = "knees, elbows and faces bend or look backwards"
    assert [backwards in line for line in DataFile.read(record).warnings] == [True, True]
    checked = home.must("data", "check", "human36m").out.splitlines()
    assert [line.startswith("warning: ") and backwards in line for line in checked] == [True, True, False]
    assert checked[-1] == "human36m: 45 samples, 0 errors, 2 warnings"

    labels["cameras"] = labels["cameras"].copy()
    labels["cameras"]["K"] = labels["cameras"]["K"].swapaxes(-1, -2)
    np.save(path, np.array(labels, dtype=object), allow_pickle=True)
    for image in (home.folder / "theirs" / "processed" / "S9").rglob("*.jpg"):
        image.write_bytes(image.read_bytes()[:200])
    told = home.run("data", "prepare", "human36m").error
    assert "theirs: train: S1/" in told
    assert ": camera 54138969: K: last row is 50 48 1, not 0 0 1; transpose it; " in told
    done = home.run("data", "check", "human36m")
    lines = done.out.splitlines()
    assert (done.code, done.err) == (2, "")
    assert sum("is not a readable image" in line for line in lines) == 10
    assert any(re.fullmatch("error: [0-9]+ more like the last one", line) for line in lines)
    assert [line.startswith("warning") for line in lines[:-1]] == sorted(
        line.startswith("warning") for line in lines[:-1]
    )
    assert home.run("data", "check", "shelf").error


def test_equal_oddities_are_one_warning(home: Any, made_up: Made) -> None:
    made_up("human36m", home.folder / "theirs")
    name_roots(home, human36m="theirs")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # orientation
    for path in (home.folder / "theirs" / "processed" / "S9").rglob("*.jpg"):
        with PIL.Image.open(path) as image:
            image.save(path, exif=exif)
    home.must("data", "prepare", "human36m")
    warnings = DataFile.read(home.folder / "results" / "smoke" / "data" / "human36m.json").warnings
    views = [re.search(r"view ([0-9]+): image: has EXIF orientation 6.* \([0-9]+ more\)$", line) for line in warnings]
    assert len({view[1] for view in views if view}) == len(views) == 4


def test_without_samples_for_training_a_run_of_rows_says_so(home: Any, made_up: Made) -> None:
    made_up("toolbox", home.folder / "theirs")
    name_roots(home, human36m_toolbox="theirs")
    (home.folder / "theirs" / "annot" / "h36m_train.pkl").unlink()
    for command in (["data", "prepare", "human36m-toolbox"], ["train", "human36m-toolbox", "backbone"]):
        assert "h36m_train.pkl" in home.run(*command).error


@pytest.mark.parametrize("images", [False, True])
def test_rows_that_need_detections_do_not_run_where_there_are_none(
    workspace_with: Any, tmp_path: Path, images: bool
) -> None:
    """Neither an error nor the 0 % of a row that answers nobody: it is left out, with the reason."""
    rows = {"dlt": {"code": "methods/dlt", "after": "scratch", "on": ["campus"]}}
    home = workspace_with(tmp_path, "campus", "shelf", "theirs", rows, frames=4, name="campus")
    (tmp_path / "theirs/pred_campus_maskrcnn_hrnet_coco.pkl").unlink()
    for path in (tmp_path / f"theirs/Camera{c}/campus4-c{c}-{f:05d}.png" for c in range(2) for f in range(4)):
        if images:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"never read")
    said = home.must("evaluate", "dlt").out
    assert "campus/dlt: left out, there are no boxes and no 2D detections of people, which it needs" in said
    assert not list((tmp_path / "results/smoke/scores/dlt").glob("*.json"))
    assert "there are no boxes and no 2D detections of people" in home.run("predict", "campus", "dlt").error


def test_recorded_results_of_absent_data_are_kept(home: Any) -> None:
    name_roots(home, rhd=None)
    (home.folder / "data").mkdir()
    copy = home.folder / "data" / "rhd"
    (home.folder / "hands").rename(copy)
    home.must("data", "prepare", "rhd")
    record = home.folder / "results" / "smoke" / "data" / "rhd.json"
    ready = record.read_bytes()
    copy.rename(home.folder / "elsewhere")
    assert "rhd: ready" in home.must("data", "prepare", "rhd").out
    assert record.read_bytes() == ready
    assert "missing rhd" in home.must("data", "status").out
    scores = home.folder / "results" / "smoke" / "scores" / "dlt" / "rhd.json"
    scores.parent.mkdir(parents=True)
    scores.write_text("recorded")
    assert "rhd: the data set is absent, its recorded comparisons are kept" in home.must("compare").out
