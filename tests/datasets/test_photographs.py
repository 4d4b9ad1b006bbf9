"""Data sets of photographs: what comes back of made-up trees, and what one thing wrong in a tree does."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_up_photographs import (
    SIZE,
    TREES,
    C,
    F,
    Files,
    changed,
    human36m_coco,
    mpii_list,
    mscoco,
    muco,
    mupots,
    pw3d,
    write_tree,
)

from poseboard.datasets.catalog import open_dataset
from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import CAMERAS
from poseboard.datasets.human36m_coco import Human36MCoco
from poseboard.datasets.human36m_toolbox import JOINTS
from poseboard.datasets.mpii import Mpii
from poseboard.datasets.mscoco import MsCoco
from poseboard.datasets.muco import MuCo
from poseboard.datasets.mupots import MUPOTS, MuPoTS
from poseboard.datasets.pw3d import Pw3d
from poseboard.datasets.sample import Dataset, read_image

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
MAIN = {
    "human36m-coco": "annotations/Human36M_subject9_data.json",
    "mpii": "annotations/train.json",
    "mscoco": "annotations/person_keypoints_val2017.json",
    "muco": "data/MuCo-3DHP.json",
    "mupots": "data/MuPoTS-3D.json",
    "pw3d": "data/3DPW_test.json",
}
"""The file of each tree in which something is made wrong."""


def walk(dataset: Dataset) -> int:
    """Ask for everything that a run asks for; how many boxes were handed over."""
    dataset.manifest()
    boxes = 0
    for split in dataset.splits:
        dataset.facts(split)
        for key in dataset.keys(split):
            truth = dataset.truth(key)
            for view in dataset.sample(key).views:
                assert view.pixels().shape == (*view.camera.size[::-1], 3)
                assert view.image_state() is not None
                assert np.isfinite(view.boxes_px).all()
                boxes += len(view.boxes_px)
                assert len(truth.seen[view.name]) == len(truth.joints_mm)
    return boxes


def corners(annotation: dict[str, Any]) -> list[float]:
    x, y, width, height = annotation["bbox"]
    return [x, y, x + width, y + height]


def test_muco_hands_over_the_people_that_rootnet_trains_on(tmp_path: Path) -> None:
    files = muco()
    annotations = files["data/MuCo-3DHP.json"]["annotations"]
    close = annotations[3]["keypoints_cam"][14]
    for person, root in ((0, [0, 0, 9000]), (2, [close[0] + 300, 0, 2000]), (4, [close[0] + 2000, 0, 1600])):
        annotations[person]["keypoints_cam"][14] = root
    write_tree(tmp_path, "muco", files)
    dataset = MuCo(tmp_path)
    first, second = dataset.keys("train")
    assert (first, second) == ("augmented_set/0/000007", "unaugmented_set/1/000008")
    assert dataset.keys("test") == ()
    # Of the first image one person is too far away; of the second all but the closest stand before each other.
    assert dataset.annotation_ids(first) == [101]
    assert dataset.annotation_ids(second) == [104]
    (view,) = dataset.sample(first).views
    np.testing.assert_allclose(view.boxes_px, [corners(annotations[1])])
    truth = dataset.truth(first)
    np.testing.assert_allclose(truth.joints_mm, [annotations[1]["keypoints_cam"]])
    np.testing.assert_allclose(view.camera.image(truth.annotated["camera"]), [annotations[1]["keypoints_img"]])
    assert truth.seen["camera"].tolist() == [[True] * 20 + [False]]
    np.testing.assert_array_equal(view.camera.K, [[F[0], 0, C[0]], [0, F[1], C[1]], [0, 0, 1]])
    np.testing.assert_array_equal(view.camera.R, np.eye(3))
    assert "left out: 2 people beside others, 1 people too near or far, 1 images without people" in (
        dataset.status().detail
    )


def test_the_closest_person_comes_first(tmp_path: Path) -> None:
    files = muco()
    people = files["data/MuCo-3DHP.json"]["annotations"][2:]
    for person, depth in zip(people, (4000, 3500, 2500), strict=True):
        person["keypoints_cam"][14][2] = depth
    write_tree(tmp_path, "muco", files)
    assert MuCo(tmp_path).annotation_ids("unaugmented_set/1/000008") == [104, 102, 103]


def test_mupots_uses_every_image_and_all_valid_people(tmp_path: Path) -> None:
    write_tree(tmp_path, "mupots", mupots(detections=True))
    annotations = mupots()["data/MuPoTS-3D.json"]["annotations"]
    dataset, detected = MuPoTS(tmp_path), MuPoTS(tmp_path, boxes="detected")
    keys = ("TS1/img_000000", "TS1/img_000001", "TS20/img_000000")
    assert dataset.keys("test") == detected.keys("test") == keys
    assert dataset.keys("train") == ()
    assert dataset.manifest() != detected.manifest()
    for key, people in zip(keys, (annotations[:2], annotations[2:4], []), strict=True):
        truth, view = dataset.truth(key), dataset.sample(key).views[0]
        np.testing.assert_allclose(truth.joints_mm, np.reshape([a["keypoints_cam"] for a in people], (-1, 17, 3)))
        np.testing.assert_allclose(view.boxes_px, np.reshape([corners(a) for a in people], (-1, 4)))
        assert view.box_scores is None
        np.testing.assert_array_equal(detected.truth(key).joints_mm, truth.joints_mm)
    view = detected.sample(keys[1]).views[0]
    assert view.boxes_px.tolist() == [[20, 10, 50, 70], [60, 10, 90, 70]]
    assert view.box_scores is not None
    assert view.box_scores.tolist() == [0.5, 0.75]
    assert detected.sample(keys[2]).views[0].boxes_px.tolist() == [[40.5, 10, 70.5, 70]]
    assert [dataset.sample(key).group.sequence for key in keys] == ["TS1", "TS1", "TS20"]
    assert MUPOTS.joints[14] == "pelvis"
    assert (dataset.facts("test").boxes, detected.facts("test").boxes) == ("true joints", "detected")
    (tmp_path / "bbox" / "bbox_mupots_output.json").unlink()
    assert MuPoTS(tmp_path, boxes="detected").status().state == "missing"


def test_a_valid_person_without_a_box_stays_in_the_truth(tmp_path: Path) -> None:
    files = mupots()
    files["data/MuPoTS-3D.json"]["annotations"][0]["bbox"] = [10, 10, -5, 20]
    write_tree(tmp_path, "mupots", files)
    dataset = MuPoTS(tmp_path)
    assert len(dataset.sample("TS1/img_000000").views[0].boxes_px) == 1
    assert len(dataset.truth("TS1/img_000000").joints_mm) == 2
    assert "1 boxes without area" in dataset.status().detail


def test_pw3d_is_metres_on_disk_and_millimetres_here(tmp_path: Path) -> None:
    files = pw3d()
    write_tree(tmp_path, "pw3d")
    dataset = Pw3d(tmp_path)
    assert dataset.splits == ("train", "validation", "test")
    for number, split in enumerate(dataset.splits):
        annotations = files[f"data/3DPW_{split}.json"]["annotations"]
        keys = dataset.keys(split)
        assert keys == tuple(f"{split}/street_0{number}/image_{frame:05d}" for frame in range(2))
        truth = dataset.truth(keys[1])
        metres = np.reshape([a["joint_cam"] for a in annotations[2:]], (2, 24, 3))
        np.testing.assert_allclose(truth.joints_mm, 1000 * metres)
        assert truth.annotated == {}
        view = dataset.sample(keys[1]).views[0]
        pixels = view.camera.project(truth.joints_mm)
        within = ((pixels >= 0) & (pixels < SIZE)).all(axis=-1)
        np.testing.assert_array_equal(truth.seen["camera"], within)
        np.testing.assert_allclose(view.boxes_px, [corners(a) for a in annotations[2:]])
        assert dataset.annotation_ids(keys[1]) == [2, 3]
    (tmp_path / "data" / "imageFiles").rename(tmp_path / "imageFiles")
    assert Pw3d(tmp_path).status().state == "ready"


def test_mscoco_has_2d_truth_alone(tmp_path: Path) -> None:
    annotations = mscoco()["annotations/person_keypoints_val2017.json"]["annotations"]
    write_tree(tmp_path, "mscoco")
    dataset = MsCoco(tmp_path)
    assert dataset.keys("test") == ("val2017/000000000040", "val2017/000000000041")
    assert dataset.keys("train") == ("train2017/000000000040", "train2017/000000000041")
    truth, view = dataset.truth("val2017/000000000041"), dataset.sample("val2017/000000000041").views[0]
    points = np.reshape([a["keypoints"] for a in annotations[1:]], (2, 17, 3))
    assert np.isnan(truth.joints_mm).all()
    assert truth.joints_mm.shape == (2, 17, 3)
    np.testing.assert_array_equal(truth.seen["camera"], points[..., 2] > 0)
    pixels = view.camera.image(truth.annotated["camera"])
    assert np.isnan(pixels[:, 1]).all()
    np.testing.assert_allclose(pixels[:, 2:], points[:, 2:, :2])
    np.testing.assert_array_equal(view.camera.K, [[1500, 0, 80], [0, 1500, 60], [0, 0, 1]])
    np.testing.assert_allclose(view.boxes_px, [corners(a) for a in annotations[1:]])
    assert dataset.image_id("val2017/000000000041") == 41
    assert "1 images without people" in dataset.status().detail
    (tmp_path / "images" / "val2017").rename(tmp_path / "val2017")
    assert MsCoco(tmp_path).status().state == "ready"
    (tmp_path / "annotations" / "person_keypoints_train2017.json").unlink()
    only = MsCoco(tmp_path)
    assert only.keys("train") == ()
    assert only.status().state == "partial"
    assert "no " in only.status().detail


def test_mpii_reads_both_of_its_forms(tmp_path: Path) -> None:
    write_tree(tmp_path, "mpii")
    dataset = Mpii(tmp_path)
    assert dataset.keys("train") == ("images/000000040", "images/000000041")
    assert dataset.truth("images/000000040").joints_mm.shape == (1, 16, 3)
    (tmp_path / "annotations/train.json").write_text(json.dumps(mpii_list()["annotations/train.json"]))
    dataset = Mpii(tmp_path)
    assert dataset.keys("train") == ("images/000000040", "images/000000041")
    entry = mpii_list()["annotations/train.json"][2]
    sample, truth = dataset.sample("images/000000041"), dataset.truth("images/000000041")
    (view,) = sample.views
    assert view.camera.size == SIZE
    pixels = view.camera.image(truth.annotated["camera"])[1]
    np.testing.assert_allclose(np.delete(pixels, 1, axis=0), np.delete(entry["joints"], 1, axis=0))
    assert np.isnan(pixels[1]).all()
    left, upper, right, lower = view.boxes_px[1]
    np.testing.assert_allclose((right - left, lower - upper), (50, 50))
    np.testing.assert_allclose(
        ((left + right) / 2, (upper + lower) / 2), np.array(entry["center"]) - 1 + (0, 15 * 0.25)
    )
    (tmp_path / "images/000000041.jpg").unlink()
    absent = Mpii(tmp_path)
    with pytest.raises(InputError, match=r"000000041\.jpg: "):
        absent.keys("train")
    (tmp_path / "images/000000041.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"000000041\.jpg: "):
        Mpii(tmp_path).keys("train")


def test_human36m_moments_have_the_cameras_that_were_there(tmp_path: Path) -> None:
    files = human36m_coco(detections=True)
    write_tree(tmp_path, "human36m-coco", files)
    dataset = Human36MCoco(tmp_path)
    assert dataset.keys("train") == ("S1/Directions-2/000000", "S1/Directions-2/000005")
    assert dataset.keys("test") == tuple(f"S{s}/Directions-2/{f:06d}" for s in (9, 11) for f in (0, 64))
    assert [view.name for view in dataset.sample("S11/Directions-2/000064").views] == list(CAMERAS[1:])
    sample, truth = dataset.sample("S9/Directions-2/000064"), dataset.truth("S9/Directions-2/000064")
    assert [view.name for view in sample.views] == list(CAMERAS)
    assert (sample.group.subject, sample.group.action, sample.group.sequence) == ("S9", "Directions", "Directions-2")
    pose = np.array(files["annotations/Human36M_subject9_joint_3d.json"]["2"]["2"]["64"])
    by_name = dict(zip(JOINTS, pose, strict=True))
    np.testing.assert_allclose(truth.joints_mm[0], [by_name[name] for name in dataset.skeleton.joints])
    flags = truth.seen[CAMERAS[0]][0]
    assert not flags[dataset.skeleton.joints.index("right_wrist")]
    assert flags.sum() == 16
    cameras = files["annotations/Human36M_subject9_camera.json"]
    np.testing.assert_allclose(sample.views[2].camera.t, cameras["3"]["t"])
    annotation = files["annotations/Human36M_subject9_data.json"]["annotations"][8]
    np.testing.assert_allclose(sample.views[0].boxes_px, [corners(annotation)])
    assert dataset.image_id("S9/Directions-2/000064", CAMERAS[0]) == annotation["image_id"]
    with pytest.raises(InputError, match="view"):
        dataset.image_id("S11/Directions-2/000064", CAMERAS[0])

    detected = Human36MCoco(tmp_path, boxes="detected")
    view = detected.sample("S9/Directions-2/000064").views[0]
    np.testing.assert_allclose(view.boxes_px[0, 2:] - view.boxes_px[0, :2], (30, 40))
    assert view.box_scores is not None
    assert view.box_scores.tolist() == [0.9]
    assert (detected.facts("test").boxes, detected.facts("train").boxes) == ("detected", "true joints")
    first = Human36MCoco(tmp_path, protocol=1)
    assert [key[:3] for key in first.keys("test")] == ["S11", "S11"]
    assert {key.split("/")[0] for key in first.keys("train")} == {"S1", "S9"}
    assert Human36MCoco(tmp_path, every_test=5).keys("test")[1] == "S9/Directions-2/000005"
    assert len({d.manifest() for d in (dataset, detected, first, Human36MCoco(tmp_path, every_test=5))}) == 4
    status = dataset.status()
    assert status.state == "partial"
    assert "Human36M_subject5_data.json" in status.detail


def _annotation(**fields: Any) -> Callable[[Any], None]:
    """Set fields of the first annotation; None removes one."""

    def change(content: Any) -> None:
        annotation = content["annotations"][0]
        for name, value in fields.items():
            if value is None:
                del annotation[name]
            else:
                annotation[name] = value

    return change


def _image(**fields: Any) -> Callable[[Any], None]:
    return lambda content: content["images"][0].update(fields)


def _again(name: str) -> Callable[[Any], None]:
    return lambda content: content["images"][1].update({name: content["images"][0][name]})


def _no_people(content: Any) -> None:
    content["annotations"].clear()


def _no_images(content: Any) -> None:
    content["annotations"].clear()
    content["images"].clear()


EVERYWHERE: list[tuple[Callable[[Any], None], str]] = [
    (_annotation(bbox=None), r"annotations\[0\].* bbox"),
    (_annotation(bbox=[1, 2, 3]), r"annotations\[0\]\.bbox: "),
    (_annotation(bbox="wide"), r"annotations\[0\]\.bbox: "),
    (_annotation(bbox=[1, 2, 3, float("nan")]), r"JSON"),
    (_annotation(image_id=5), r"annotations\[0\]\.image_id: 5 "),
    (_no_people, r"json: "),
    (_no_images, r"json: "),
    (_image(width=0), r"images\[0\]\.width: "),
    (_image(file_name="../../up.jpg"), r"images\[0\]\.file_name: "),
    (_image(file_name="/etc/passwd"), r"images\[0\]\.file_name: "),
    (_again("id"), r"images: id [0-9]+ "),
    (lambda content: content.pop("images"), r" images"),
]
"""Things wrong in any annotation file, and the error."""

COUNTED: list[tuple[Callable[[Any], None], str]] = [
    (_annotation(bbox=[10, 10, -5, 20]), "1 boxes without area"),
    (_annotation(bbox=[10, 10, -5, -20]), "1 boxes without area"),
    (_annotation(bbox=[10, 10, 1, 0.5]), "1 boxes of one pixel"),
    (_annotation(bbox=[SIZE[0] + 5, 10, 5, 20]), "1 boxes beyond the image"),
]
"""Things that are left out and counted; of photographs also annotations of other things and crowds."""

ONLY: dict[str, list[tuple[str | None, Callable[[Any], None], str]]] = {
    "mscoco": [
        (None, _annotation(keypoints=[1, 2, 3]), r"annotations\[0\]\.keypoints: .*51"),
        (None, _annotation(keypoints=["a"] * 51), r"annotations\[0\]\.keypoints\[0\]: "),
        (None, lambda content: content["categories"][0].update(name="dog"), "person"),
    ],
    "mpii": [
        (None, _annotation(keypoints=[0] * 51), r"annotations\[0\]\.keypoints: .*48"),
        (None, _again("file_name"), r"images: images/000000040 "),
    ],
    "muco": [
        (None, _annotation(keypoints_cam=[[1, 2, 3]]), r"annotations\[0\]\.keypoints_cam: "),
        (None, _annotation(keypoints_vis=["a"] * 21), r"annotations\[0\]\.keypoints_vis\[0\]: "),
        (None, _image(f=[0, 100]), r"images\[0\]\.f\[0\]: "),
        (None, lambda c: _scale(c, "keypoints_cam", 0.001), r"keypoints_cam: .* 4\.\d* mm"),
    ],
    "mupots": [
        (None, _annotation(is_valid=None), r"annotations\[0\].* is_valid"),
        (None, _image(intrinsic=[100, 100, 50]), r"images\[0\]\.intrinsic: "),
        (None, lambda c: _scale(c, "keypoints_cam", 0.001), r"keypoints_cam: .* 4\.\d* mm"),
    ],
    "pw3d": [
        (None, _annotation(joint_cam=[0.5] * 71), r"annotations\[0\]\.joint_cam: "),
        (None, lambda content: content["images"][0]["cam_param"].pop("focal"), r" focal"),
        (None, lambda c: _scale(c, "joint_cam", 1000), r"joint_cam: .* 3\.\d*e\+06 mm"),
    ],
    "human36m-coco": [
        (None, _image(action_idx=1), r"images\[0\]\.action_idx: "),
        (None, _image(cam_idx=5), r"images\[0\]\.cam_idx: "),
        (None, _image(cam_idx=2), r"images"),
        (None, lambda c: c["annotations"].append(c["annotations"][0]), r"annotations: image \d+ "),
        ("joint_3d", lambda c: c["2"]["2"].pop("64"), r"joint_3d\.json: \[2\]\[2\]\[64\]: "),
        ("joint_3d", lambda c: c["2"]["2"]["0"].pop(), r"\[2\]\[2\]\[0\]: "),
        ("camera", lambda c: c.pop("3"), r"camera\.json: 3: "),
        ("camera", lambda c: c["3"].update(R=np.ones((3, 3)).tolist()), r"camera\.json: 3: .*\bR\b"),
        ("camera", lambda c: c["3"].pop("t"), r"camera\.json: .*\bt\b"),
        ("camera", lambda c: [v.update(c=[9000, 9000]) for v in c.values()], r"project"),
    ],
}
"""Things wrong in one data set, in which of its files (None: the one of `MAIN`), and the error."""


def _scale(content: Any, field: str, factor: float) -> None:
    for annotation in content["annotations"]:
        annotation[field] = (np.array(annotation[field]) * factor).tolist()


def _fails(root: Path, name: str, message: str) -> None:
    """Everything that a run asks for ends in one line that names the file; the state is damaged."""
    with pytest.raises(InputError, match=message) as raised:
        walk(open_dataset(name, {"root": root}))
    assert "\n" not in str(raised.value)
    assert str(root) in str(raised.value)
    status = open_dataset(name, {"root": root}).status()
    assert (status.state, "\n" in status.detail) == ("damaged", False)
    assert re.search(message, status.detail)


@pytest.mark.parametrize("name", TREES)
def test_one_thing_wrong_is_one_line(tmp_path: Path, name: str) -> None:
    write_tree(tmp_path, name)
    assert walk(open_dataset(name, {"root": tmp_path})) > 0
    path = tmp_path / MAIN[name]
    content = TREES[name]()[MAIN[name]]
    for change, message in EVERYWHERE:
        path.write_text(json.dumps(changed(content, change)))
        _fails(tmp_path, name, message)
    path.write_text(json.dumps(content))
    for kind, change, message in ONLY[name]:
        other = MAIN[name] if kind is None else MAIN[name].replace("_data", f"_{kind}")
        before = (tmp_path / other).read_text()
        (tmp_path / other).write_text(json.dumps(changed(json.loads(before), change)))
        _fails(tmp_path, name, message)
        (tmp_path / other).write_text(before)


@pytest.mark.parametrize("name", TREES)
def test_what_a_file_may_hold_is_left_out_and_counted(tmp_path: Path, name: str) -> None:
    write_tree(tmp_path, name)
    path = tmp_path / MAIN[name]
    content = TREES[name]()[MAIN[name]]
    whole = walk(open_dataset(name, {"root": tmp_path}))
    changes = list(COUNTED)
    if name != "human36m-coco":
        changes += [(_annotation(category_id=99), "1 annotations of no people"), (_annotation(iscrowd=1), "1 crowds")]
    else:
        changes += [(lambda content: content["annotations"].pop(0), "1 images without annotation")]
    if name in ("mscoco", "mpii"):
        changes += [(_annotation(num_keypoints=0), "1 people without key points")]
    for change, counted in changes:
        path.write_text(json.dumps(changed(content, change)))
        dataset = open_dataset(name, {"root": tmp_path})
        assert walk(dataset) == whole - 1
        assert counted in dataset.status().detail
        assert dataset.status().state in ("ready", "partial")


@pytest.mark.parametrize("name", TREES)
def test_an_image_that_is_absent_or_another_is_told(tmp_path: Path, name: str) -> None:
    write_tree(tmp_path, name)
    dataset = open_dataset(name, {"root": tmp_path})
    key = [key for split in dataset.splits for key in dataset.keys(split)][-1]
    path = dataset.sample(key).views[-1].image.read.args[0]  # type: ignore[union-attr]
    path.unlink()
    status = open_dataset(name, {"root": tmp_path}).status()
    assert status.state == "partial"
    assert path.name in status.detail
    for content, message in (
        (None, ""),
        (b"", ""),
        (cv2.imencode(".jpg", np.zeros((30, 20, 3), dtype=np.uint8))[1].tobytes(), r".*20 x 30"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{path.name}: {message}"):
            walk(dataset)


@pytest.mark.parametrize(
    ("name", "tree", "path"),
    [
        ("mupots", mupots, "bbox/bbox_mupots_output.json"),
        ("human36m-coco", human36m_coco, "bbox/bbox_human36m_output.json"),
    ],
)
def test_detected_boxes_are_checked(tmp_path: Path, name: str, tree: Callable[..., Files], path: str) -> None:
    files = tree(detections=True)
    write_tree(tmp_path, name, files)

    def again(change: Callable[[Any], None]) -> Dataset:
        (tmp_path / path).write_text(json.dumps(changed(files[path], change)))
        return open_dataset(name, {"root": tmp_path, "boxes": "detected"})

    whole = walk(again(lambda content: None))
    for change, message in (
        (lambda content: content[1].update(root_cam=[0, 0, 3000]), r"json: \[1\]\.root_cam: "),
        (lambda content: content[1].pop("bbox"), r"json: \[1\].* bbox"),
        (lambda content: content[1].update(bbox=[0, 0, float("nan"), 1]), r"json: .*JSON"),
        (lambda content: content[1].pop("score"), r"json: \[1\]\.score: "),
    ):
        dataset = again(change)
        with pytest.raises(InputError, match=message):
            walk(dataset)
        assert dataset.status().state == "damaged"
    for change, counted in (
        (lambda content: content[0].update(bbox=[5000, 10, 50, 50]), "1 detected boxes beyond the image"),
        (lambda content: content[0].update(bbox=[10, 10, 0, 50]), "1 detected boxes without area"),
        (lambda content: content[0].update(category_id=2), "1 detections of no people"),
    ):
        dataset = again(change)
        if name == "mupots":
            assert walk(dataset) == whole - 1
            assert counted in dataset.status().detail
        else:  # every image needs its box
            with pytest.raises(InputError, match=r" 1 image|: 1 image"):
                walk(dataset)
    if name == "mupots":
        with pytest.raises(InputError, match=r"json: \[0\]\.image_id: 1 "):
            walk(again(lambda content: content[0].update(image_id=1)))
        assert walk(again(lambda content: content.clear())) == 0
        assert walk(again(lambda content: [entry.pop("score") for entry in content])) == whole


def test_images_are_read_as_they_are_stored(tmp_path: Path) -> None:
    """A data set annotates rows and columns of the file, whatever EXIF says of how it is to be turned."""
    import PIL.Image

    picture = PIL.Image.fromarray(np.zeros((10, 20, 3), dtype=np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg", (20, 10)).shape == (10, 20, 3)


def test_the_photograph_of_coco(tmp_path: Path) -> None:
    if not (SHARED / "coco").is_dir():
        # not ours to redistribute, so a clone has none
        pytest.skip("the sample of MSCOCO is not beside the repository")
    path = tmp_path / "annotations" / "person_keypoints_val2017.json"
    path.parent.mkdir()
    path.symlink_to(SHARED / "coco" / "annotations" / "test_coco.json")
    (tmp_path / "val2017").symlink_to(SHARED / "coco" / "val2017")
    dataset = MsCoco(tmp_path)
    status = dataset.status()
    assert status.state == "partial"
    assert "test: 4 images, 12 people; left out: 2 people without key points" in status.detail
    assert "3 of 4 images are missing" in status.detail
    assert dataset.keys("train") == ()
    key = "val2017/000000000785"
    (view,) = dataset.sample(key).views
    assert view.pixels().shape == (425, 640, 3)
    points = view.camera.image(dataset.truth(key).annotated["camera"])[0]
    assert len(dataset.truth(key).joints_mm) == 1
    left, upper, right, lower = view.boxes_px[0]
    seen = dataset.truth(key).seen["camera"][0]
    assert seen.sum() == 17
    assert ((points > (left - 1, upper - 1)) & (points < (right + 1, lower + 1))).all()
    with pytest.raises(InputError, match=r"\.jpg: "):
        walk(dataset)


def test_the_people_of_mpii(tmp_path: Path) -> None:
    if not (SHARED / "mpii").is_dir():
        # not ours to redistribute, so a clone has none
        pytest.skip("the sample of MPII is not beside the repository")
    path = SHARED / "mpii" / "annotations" / "test_mpii.json"
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").symlink_to(path)
    (tmp_path / "images").mkdir()
    people = json.loads(path.read_text())
    for person in people:  # no image is in the sample
        cv2.imwrite(str(tmp_path / "images" / person["image"]), np.zeros((1080, 1920), dtype=np.uint8))
    dataset = Mpii(tmp_path)
    assert dataset.status().state == "ready"
    found = 0
    for key in dataset.keys("train"):
        (view,) = dataset.sample(key).views
        truth = dataset.truth(key)
        for points, box in zip(view.camera.image(truth.annotated["camera"]), view.boxes_px, strict=True):
            (person,) = [p for p in people if np.allclose(np.nan_to_num(points), _labelled_points(p))]
            side = 200 * person["scale"]
            np.testing.assert_allclose(box[2:] - box[:2], (side, side))
            inside = ((points > box[:2] - side / 4) & (points < box[2:] + side / 4)).all(axis=1)
            assert inside[np.isfinite(points[:, 0])].mean() > 0.9
            found += 1
    assert found == len(people)


def _labelled_points(person: dict[str, Any]) -> np.ndarray:
    return np.where(np.array(person["joints_vis"])[:, None] > 0, person["joints"], 0)
