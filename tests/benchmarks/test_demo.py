"""Photographs in, people out: lines, JSON and pictures, where boxes and focal lengths come from, and what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from poseboard.datasets.errors import InputError
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.rootnet.demo import detect_people, read_boxes
from poseboard.methods.rootnet.model import JOINTS, RootArchitecture, RootNet

SIZE = (120, 90)
BOX = [40, 15, 25, 60]
PHOTO = Path(__file__).resolve().parents[2] / "../shared/data/coco/val2017/000000000785.jpg"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params.yaml, a checkpoint and two photographs."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "methods").symlink_to(Path(__file__).resolve().parents[2] / "methods")
    rows = {
        "dlt": {"code": "methods/dlt", "after": "scratch"},
        "roots": {"code": "methods/rootnet", "after": "scratch"},
    }
    params = {"profile": "p", "datasets": {"human36m": {"root": None}}, "methods": rows}
    params["profiles"] = {"p": {"seeds": [0], "processes": 1}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for whole_frames in (True, False):
        backbone = Architecture(network="small", joints=JOINTS, crop_px=32)
        architecture = RootArchitecture(backbone=backbone, whole_frames=whole_frames)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = RootNet(architecture, backbone.build(seed=0), gamma=1.0).state_dict()
        state["depth_layer.weight"].zero_()  # the depth is k
        name = "frames" if whole_frames else "crops"
        Checkpoint("rootnet", architecture.plain(), state).save(folder / f"{name}.pt")
    rng = np.random.default_rng(0)
    for number in (7, 8):
        pixels = cv2.GaussianBlur(rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8), (0, 0), 2)
        Image.fromarray(pixels).save(folder / f"photo_{number}.png")
    (folder / "boxes.json").write_text(json.dumps([BOX]))
    return folder


@pytest.fixture
def demo(place: Path, workspace_of: Callable[[Path], Any]) -> Callable[..., Any]:
    return lambda *arguments: workspace_of(place).run("demo", *arguments)


@pytest.mark.parametrize("weights", ["crops", "frames"])
def test_one_line_per_person_at_the_distance_of_the_box(demo: Callable[..., Any], tmp_path: Path, weights: str) -> None:
    """k of a crop of 1.25 x 60 px (59 px, as the release cuts boxes) at 100 px: 2000 x 100 / 75 mm."""
    out = tmp_path / "out"
    arguments = ("photo_7.png", "--focal", "100,100", "--boxes", "boxes.json", "--checkpoint", f"{weights}.pt")
    done = demo(*arguments, "--out", out)
    assert done.code == 0, done.err
    person, picture = done.out.splitlines()
    side = {"crops": 75.0, "frames": 73.75}[weights]
    assert person.startswith("photo_7.png: person 1: x ")
    assert f"z {200 / side:.2f} m, score 1.00" in person
    assert "trained on: not known" in done.err
    assert "HOG" not in done.err
    with Image.open(picture) as drawn:
        assert drawn.width > drawn.height > 300


def test_json_has_the_same_with_cameras_and_weights(demo: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(
        json.dumps([[BOX], [BOX, [5, 5, 20, 50], [500, 5, 20, 50], [-80, 5, 20, 50], [5, -80, 20, 50]]])
    )
    images = ("photo_7.png", "photo_8.png")
    done = demo(
        *images, "--fov", "90", "--boxes", tmp_path / "boxes.json", "--checkpoint", "crops.pt", "--out", tmp_path,
        "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "photo_8.png; left out: 3 boxes beyond the image" in done.err
    first, second = json.loads(done.out)
    assert (len(first["people"]), len(second["people"])) == (1, 2)
    assert first["focal_px"] == pytest.approx([60, 60])  # half the width, at 45 degrees
    assert first["people"][0]["box_px"] == BOX
    assert first["people"][0]["root_m"][2] == pytest.approx(120 / 75, abs=0.02)
    assert first["weights"] == {
        "row": "roots", "checkpoint": "crops.pt", "trained_on": "not known", "synthetic": None,
    }  # fmt: skip
    assert all(Path(path).is_file() for one in (first, second) for path in one["pictures"])


def test_without_boxes_the_detector_is_named(demo: Callable[..., Any], tmp_path: Path) -> None:
    done = demo("photo_7.png", "--focal", "100", "--checkpoint", "crops.pt", "--out", tmp_path)
    assert done.code == 0, done.err
    assert "OpenCV's HOG detector" in done.err
    assert done.out == "photo_7.png: no people\n"


@pytest.mark.parametrize(("options", "people"), [((), 2), (("--min-score", "0.1"), 3), (("--min-score", "0.9"), 1)])
def test_boxes_with_a_low_score_are_left_out_and_counted(
    demo: Callable[..., Any], tmp_path: Path, options: tuple[str, ...], people: int
) -> None:
    entries = [{"image_id": 7, "bbox": BOX, "score": score} for score in (0.95, 0.31, 0.29)]
    (tmp_path / "bbox_street_output.json").write_text(json.dumps(entries))
    arguments = ("--focal", "100", "--boxes", tmp_path / "bbox_street_output.json", "--checkpoint", "crops.pt")
    done = demo("photo_7.png", *arguments, "--out", tmp_path, *options)
    assert done.code == 0, done.err
    assert len([line for line in done.out.splitlines() if "person" in line]) == people
    assert (f"{3 - people} boxes with a score below" in done.err) == (people < 3)


@pytest.mark.skipif(not PHOTO.is_file(), reason="the photograph is not at hand")
def test_the_detector_finds_the_skier() -> None:
    boxes, scores = detect_people(cv2.imread(str(PHOTO))[..., ::-1])
    left, upper, width, height = boxes[np.argmax(scores)]
    assert 280 < left < left + width < 500
    assert 0 < upper < upper + height < 392


def test_exif_gives_the_focal_length_and_the_way_up(demo: Callable[..., Any], place: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif.get_ifd(0x8769)[0xA405] = 50
    path = tmp_path / "phone.jpg"
    with Image.open(place / "photo_7.png") as image:
        image.save(path, exif=exif)
    done = demo(path, "--boxes", "boxes.json", "--checkpoint", "crops.pt", "--out", tmp_path, "--json")
    assert done.code == 0, done.err
    (only,) = json.loads(done.out)
    assert only["size_px"] == [90, 120]
    assert only["focal_px"] == pytest.approx([150 * 50 / np.hypot(36, 24)] * 2)
    assert "EXIF" in only["focal_from"]


def test_boxes_of_a_detector_go_to_the_image_of_their_number(tmp_path: Path) -> None:
    path = tmp_path / "bbox_street_output.json"
    entries = [
        {"image_id": 8, "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 1},
        {"image_id": 7, "bbox": BOX, "score": 0.25},
        {"image_id": 7, "bbox": BOX, "score": 0.25, "category_id": 3},
    ]
    path.write_text(json.dumps(entries))
    (boxes_7, scores_7), (boxes_8, scores_8) = read_boxes(path, [Path("photo_7.png"), Path("a/000008.jpg")])
    assert (boxes_7.tolist(), scores_7.tolist()) == ([BOX], [0.25])
    assert (boxes_8.tolist(), scores_8.tolist()) == ([[1, 2, 3, 4]], [0.5])
    with pytest.raises(InputError, match=r"no image_id that is the number of photo_9.png"):
        read_boxes(path, [Path("photo_9.png")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.png", "--fov", "60"), r"none\.png: cannot be read \(No such file or directory\)"),
        (("params.yaml", "--fov", "60"), r"params\.yaml: is not an image"),
        (("photo_7.png",), r"photo_7\.png: has no focal length in its EXIF data; give --focal FX,FY"),
        (("photo_7.png", "--focal", "abc"), r"--focal abc: is not a focal length"),
        (("photo_7.png", "--focal", "nan,100"), r"--focal nan,100: is not a focal length"),
        (("photo_7.png", "--focal", "100,-3"), r"--focal 100,-3: is not a focal length"),
        (("photo_7.png", "--fov", "180"), r"--fov 180: is not a field of view"),
        (("photo_7.png", "--fov", "60", "--focal", "100"), r"are used together; leave one"),
        (("photo_7.png", "--fov", "60", "--boxes", "no.json"), r"no\.json: file cannot be read"),
        (("photo_7.png", "--fov", "60", "--boxes", "params.yaml"), r"params\.yaml: is not JSON"),
        (("photo_7.png", "--fov", "60", "--boxes", "nan.json"), r"nan\.json: is not JSON"),
        (("photo_7.png", "--fov", "60", "--boxes", "short.json"), r"short\.json: \[0\]: expected `?array`?"),
        (("photo_7.png", "--fov", "60", "--boxes", "two.json"), r"holds boxes of 2 images, 1 are given"),
        (("photo_7.png", "--fov", "60", "--boxes", "root.json"), r"root\.json: \[0\]\.root_cam: is RootNet's output"),
        (("photo_7.png", "--fov", "60", "--boxes", "boxes.json", "--checkpoint", "no.pt"), r"no\.pt: there is no such"),
        (("photo_7.png", "--fov", "60", "--boxes", "boxes.json", "--checkpoint", "two.json"), r"two\.json: .*weights"),
        (("photo_7.png", "--fov", "60", "--boxes", "boxes.json", "--row", "dlt"), r"dlt: does not predict roots"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(demo: Callable[..., Any], place: Path, arguments: Any, message: str) -> None:
    for name, content in {
        "nan.json": "[[1, 2, NaN, 4]]",
        "short.json": "[[1, 2, 3]]",
        "two.json": json.dumps([[BOX], [BOX]]),
        "root.json": json.dumps([{"image_id": 7, "bbox": BOX, "root_cam": [0, 0, 1]}]),
    }.items():
        (place / name).write_text(content)
    before = set(place.iterdir())
    given = arguments if {"--checkpoint", "--row"} & set(arguments) else (*arguments, "--checkpoint", "crops.pt")
    assert re.search(message, demo(*given).error)
    assert set(place.iterdir()) == before


def test_without_a_checkpoint_it_says_how_to_get_one(demo: Callable[..., Any]) -> None:
    error = demo("photo_7.png", "--fov", "60").error
    assert "has no checkpoint in results/p; run `poseboard train roots`" in error
