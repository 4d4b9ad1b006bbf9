import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io
from made_up_shelf import write_shelf

from poseboard.datasets.campus import Campus
from poseboard.datasets.errors import InputError
from poseboard.datasets.multi_human_pose import TUM14
from poseboard.datasets.sample import Dataset
from poseboard.datasets.shelf import Shelf
from poseboard.datasets.skeleton import COCO

SAMPLE = Path(__file__).resolve().parents[2] / "../shared/data/shelf"


@pytest.fixture
def sample() -> Shelf:
    """Real calibration, annotations and detections, cut to 3 frames."""
    if not SAMPLE.is_dir():
        pytest.skip("the sample of Shelf is not beside the repository")
    return Shelf(SAMPLE)


def test_the_sample_is_read_as_it_is(sample: Shelf) -> None:
    assert isinstance(sample, Dataset)
    assert sample.status().state == "ready"
    assert "with detections, no images" in sample.status().detail
    assert len(sample.views) == 5
    assert list(sample.keys("test")) == ["shelf/000000", "shelf/000001", "shelf/000002"]
    assert list(sample.keys("train")) == []
    with np.load(SAMPLE / "pred_shelf_maskrcnn_hrnet_coco.npz") as file:
        for frame, key in enumerate(sample.keys("test")):
            for camera, view in enumerate(sample.sample(key).views):
                rows = file["keypoints"][(file["camera"] == camera) & (file["frame"] == frame)]
                assert len(rows)
                np.testing.assert_array_equal(view.joints_px, rows[..., :2])
                np.testing.assert_array_equal(view.confidence, rows[..., 2])
                assert view.image is None
                np.testing.assert_array_equal(view.boxes_px[:, :2], rows[..., :2].min(axis=1))
                np.testing.assert_array_equal(view.boxes_px[:, 2:], rows[..., :2].max(axis=1))


def test_the_calibration_projects_the_truth_onto_the_annotated_pixels(sample: Shelf) -> None:
    annotated = scipy.io.loadmat(SAMPLE / "actorsGT.mat")["actor2D"]
    compared = 0
    for frame, key in enumerate(sample.keys("test")):
        truth = sample.truth(key).joints_mm
        assert truth.shape == (4, len(TUM14), 3)
        for actor, joints in enumerate(truth):
            for view, pixels in zip(sample.sample(key).views, annotated[0, actor][frame, 0].reshape(-1), strict=False):
                if np.isfinite(joints).all() and np.size(pixels):
                    np.testing.assert_allclose(view.camera.project(joints), pixels, atol=0.05)
                    compared += 1
    assert compared >= 5 * 3


def test_the_published_pickle_reads_as_the_converted_file(sample: Shelf, tmp_path: Path) -> None:
    for name in ("calibration_shelf.json", "actorsGT.mat"):
        shutil.copy(SAMPLE / name, tmp_path / name)
    with np.load(SAMPLE / "pred_shelf_maskrcnn_hrnet_coco.npz") as file:
        people: dict[str, Any] = {str(entry): [] for entry in file["entry"]}
        for camera, frame, joints in zip(file["camera"], file["frame"], file["keypoints"], strict=True):
            people[f"{camera}_{frame}"].append({"pred": joints})
    (tmp_path / "pred_shelf_maskrcnn_hrnet_coco.pkl").write_bytes(pickle.dumps(people))
    again = Shelf(tmp_path)
    for key in sample.keys("test"):
        for a, b in zip(sample.sample(key).views, again.sample(key).views, strict=True):
            np.testing.assert_array_equal(a.joints_px, b.joints_px)
    assert again.manifest() != sample.manifest()


def test_a_made_up_set_comes_back(tmp_path: Path) -> None:
    joints = write_shelf(tmp_path, frames=4)
    dataset = Shelf(tmp_path)
    assert dataset.views == ("Camera0", "Camera1")
    for frame, key in enumerate(dataset.keys("test")):
        np.testing.assert_allclose(dataset.truth(key).joints_mm, joints[frame] * 1000)
        for camera, view in enumerate(dataset.sample(key).views):
            people = (camera + frame) % 3
            assert view.joints_px.shape == (people, len(COCO), 2)
            assert view.confidence.shape == (people, len(COCO))
            assert view.boxes_px.shape == (people, 4)
    calibration = json.loads((tmp_path / "calibration_shelf.json").read_text())["1"]
    camera = dataset.sample("shelf/000000").views[1].camera
    np.testing.assert_allclose(camera.centre_mm, np.reshape(calibration["T"], 3), atol=1e-9)
    assert camera.dist.tolist() == [0.1, 0.01, 0.002, 0.003, 0.001]


def test_a_full_set_is_evaluated_on_the_usual_frames(tmp_path: Path) -> None:
    write_shelf(tmp_path, frames=602, cameras=1)
    keys = Shelf(tmp_path).keys("test")
    assert (keys[0], keys[-1], len(keys)) == ("shelf/000300", "shelf/000600", 301)
    with pytest.raises(InputError, match="shelf/000299"):
        Shelf(tmp_path).sample("shelf/000299")


def test_campus_has_files_frames_and_images_of_its_own(tmp_path: Path) -> None:
    write_shelf(tmp_path, frames=752, cameras=1, name="campus")
    dataset = Campus(tmp_path)
    keys = dataset.keys("test")
    assert (keys[0], keys[120], keys[121], keys[-1], len(keys)) == (
        "campus/000350", "campus/000470", "campus/000650", "campus/000750", 222)  # fmt: skip
    (tmp_path / "Camera0").mkdir()
    image = np.full((288, 360, 3), 7, dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "Camera0" / "campus4-c0-00350.png"), image)
    (view,) = dataset.sample("campus/000350").views
    assert view.camera.size == (360, 288)
    assert view.pixels()[0, 0].tolist() == [7, 7, 7]
    for key in ("campus/000471", "shelf/000350"):
        with pytest.raises(InputError, match=rf"campus: .*{key}"):
            dataset.truth(key)
    (tmp_path / "pred_campus_maskrcnn_hrnet_coco.pkl").unlink()
    assert Campus(tmp_path).status().state == "partial"


def test_frames_are_those_of_the_detections(tmp_path: Path) -> None:
    """30 frames with detections and 3 with annotations are 30; without truth the annotations need not be there."""
    write_shelf(tmp_path, frames=30)
    detections = (tmp_path / "pred_shelf_maskrcnn_hrnet_coco.pkl").read_bytes()
    write_shelf(tmp_path, frames=3)
    (tmp_path / "pred_shelf_maskrcnn_hrnet_coco.pkl").write_bytes(detections)
    keys = [f"shelf/{frame:06d}" for frame in range(30)]
    annotated = Shelf(tmp_path)
    assert list(annotated.keys("test")) == keys
    assert annotated.status().detail == "30 frames with detections, 3 of them in actorsGT.mat, no images"
    assert np.isfinite(annotated.truth(keys[2]).joints_mm[0]).all()
    assert annotated.truth(keys[3]).joints_mm.shape == (2, len(TUM14), 3)
    assert np.isnan(annotated.truth(keys[3]).joints_mm).all()

    (tmp_path / "actorsGT.mat").unlink()
    assert annotated.status().state == "missing"
    dataset = Shelf(tmp_path, truth="none")
    assert dataset.status().detail == "30 frames with detections, no images"
    assert list(dataset.keys("test")) == keys
    assert dataset.truth(keys[29]).joints_mm.shape == (0, len(TUM14), 3)
    assert len(dataset.sample(keys[29]).views[0].boxes_px) == 29 % 3
    with_annotations = dataset.manifest()
    (tmp_path / "actorsGT.mat").write_bytes(b"of another tree")
    assert Shelf(tmp_path, truth="none").manifest() == with_annotations

    (tmp_path / "pred_shelf_maskrcnn_hrnet_coco.pkl").write_bytes(pickle.dumps({}))
    assert Shelf(tmp_path, truth="none").status().state == "damaged"
    (tmp_path / "pred_shelf_maskrcnn_hrnet_coco.pkl").unlink()
    without = Shelf(tmp_path, truth="none")
    assert without.status().state == "missing"
    with pytest.raises(InputError, match=r"pred_shelf_maskrcnn_hrnet_coco\.pkl"):
        without.keys("test")


def test_images_are_used_where_they_are(tmp_path: Path) -> None:
    write_shelf(tmp_path, frames=2)
    for camera in range(2):
        (tmp_path / f"Camera{camera}").mkdir()
        for frame in range(2):
            image = np.full((776, 1032, 3), 10 * camera + frame, dtype=np.uint8)
            cv2.imwrite(str(tmp_path / f"Camera{camera}" / f"img_{frame:06d}.png"), image)
    dataset = Shelf(tmp_path)
    assert dataset.status().state == "ready"
    view = dataset.sample("shelf/000001").views[1]
    assert view.pixels()[0, 0].tolist() == [11, 11, 11]
    assert view.camera.size == (1032, 776)
    (tmp_path / "pred_shelf_maskrcnn_hrnet_coco.pkl").unlink()
    alone = Shelf(tmp_path)
    assert alone.status().state == "partial"
    view = alone.sample("shelf/000001").views[0]
    assert (view.joints_px, view.confidence, len(view.boxes_px)) == (None, None, 0)


def _calibration(root: Path, change: dict[str, Any]) -> None:
    path = root / "calibration_shelf.json"
    content = json.loads(path.read_text())
    content["1"].update(change)
    path.write_text(json.dumps({k: {n: v for n, v in c.items() if v is not None} for k, c in content.items()}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"R": None}, r"json: 1\.R: "),
        ({"fx": None}, r"json: 1\.fx: "),
        ({"fx": "wide"}, r"json: 1: "),
        ({"R": [1, 2, 3]}, r"json: 1: "),
        ({"R": (2 * np.eye(3)).tolist()}, r"json: 1: .*\bR\b"),
        ({"T": [0, 0]}, r"json: 1: "),
        ({"p": [0]}, r"json: 1: "),
    ],
)
def test_a_damaged_calibration_is_named(tmp_path: Path, change: dict, message: str) -> None:
    write_shelf(tmp_path, frames=1)
    _calibration(tmp_path, change)
    with pytest.raises(InputError, match=message):
        Shelf(tmp_path).sample("shelf/000000")
    assert Shelf(tmp_path).status().state == "damaged"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"0": 3}', '{"a": {}}', "\x00"])
def test_a_calibration_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    write_shelf(tmp_path, frames=1)
    (tmp_path / "calibration_shelf.json").write_text(content)
    with pytest.raises(InputError, match=r"calibration_shelf\.json"):
        Shelf(tmp_path).sample("shelf/000000")


def test_damaged_annotations_are_named(tmp_path: Path) -> None:
    write_shelf(tmp_path, frames=3)
    path = tmp_path / "actorsGT.mat"
    scipy.io.savemat(path, {"actor2D": np.zeros(3)})
    with pytest.raises(InputError, match=r"actorsGT\.mat: actor3D: "):
        Shelf(tmp_path).keys("test")
    scipy.io.savemat(path, {"actor3D": np.zeros((4, 5))})
    with pytest.raises(InputError, match=r"actorsGT\.mat: actor3D: "):
        Shelf(tmp_path).keys("test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "dict"),
        ({"a": []}, "a: "),
        ({"0_0": [{"x": 1}]}, "0_0: "),
        ({"0_0": [{"pred": np.zeros((14, 3))}]}, "0_0: "),
        ({"0_0": 3}, "0_0: "),
        ({"0_0": [{"pred": [10**5000] * 51}]}, "64 bits"),
        ({"0_0": [print]}, "builtins.print"),
    ],
)
def test_damaged_detections_are_named(tmp_path: Path, content: Any, message: str) -> None:
    write_shelf(tmp_path, frames=1)
    (tmp_path / "pred_shelf_maskrcnn_hrnet_coco.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=message):
        Shelf(tmp_path).sample("shelf/000000")


def test_damaged_converted_detections_are_named(tmp_path: Path) -> None:
    write_shelf(tmp_path, frames=1)
    (tmp_path / "pred_shelf_maskrcnn_hrnet_coco.pkl").unlink()
    path = tmp_path / "pred_shelf_maskrcnn_hrnet_coco.npz"
    good = {"camera": np.zeros(2, int), "frame": np.zeros(2, int), "keypoints": np.ones((2, 17, 3))}
    np.savez(path, **good)
    assert len(Shelf(tmp_path).sample("shelf/000000").views[0].boxes_px) == 2
    whole = path.read_bytes()
    for damage in ({"keypoints": np.ones((2, 14, 3))}, {"frame": np.zeros(3, int)}, {"camera": np.zeros((2, 1))}):
        np.savez(path, **{**good, **damage})
        with pytest.raises(InputError, match="npz: keypoints: "):
            Shelf(tmp_path).sample("shelf/000000")
    np.savez(path, camera=good["camera"])
    with pytest.raises(InputError, match="frame"):
        Shelf(tmp_path).sample("shelf/000000")
    np.savez(path, **{**good, "keypoints": np.array([print], dtype=object)}, allow_pickle=True)
    with pytest.raises(InputError, match="npz"):
        Shelf(tmp_path).sample("shelf/000000")
    for length in (0, 30, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="npz"):
            Shelf(tmp_path).sample("shelf/000000")
