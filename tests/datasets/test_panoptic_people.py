"""CMU Panoptic with several people: frames and people by VoxelPose's convention, detections of every view."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from made_up_panoptic_people import CAMERAS, FRAMES, SEQUENCES, write_panoptic_people

from poseboard.datasets.detections import detections_path, encode_detections, read_detections
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.panoptic_people import PanopticPeople

ONE = SEQUENCES[:1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_panoptic_people(tmp_path, ONE)
    return tmp_path


def test_every_twelfth_labelled_frame_with_a_person_is_used(folder: Path) -> None:
    keys = PanopticPeople(folder, ONE).keys("test")
    assert keys == [f"{ONE[0]}/00000100", f"{ONE[0]}/00000112"]
    assert PanopticPeople(folder, ONE).keys("train") == []
    every = PanopticPeople(folder, ONE, every=1).keys("test")
    assert len(every) == len(FRAMES) - 1, "nobody is in one of them"


def test_people_without_a_body_centre_are_none(folder: Path) -> None:
    dataset = PanopticPeople(folder, ONE, every=1)
    people = {key[-3:]: len(dataset.truth(key).joints_mm) for key in dataset.keys("test")}
    assert people == {str(frame): 1 if frame % 3 == 0 else 2 for frame in FRAMES if frame != 105}
    joints = dataset.truth(f"{ONE[0]}/00000100").joints_mm
    assert joints.shape == (2, 17, 3)
    assert 400 < np.linalg.norm(joints[0].mean(axis=0) - joints[1].mean(axis=0)) < 1200, "millimetres"


def test_views_have_the_detections_of_their_camera_in_the_order_of_the_file(folder: Path) -> None:
    dataset = PanopticPeople(folder, ONE)
    assert dataset.facts("test") == Facts(boxes="detected", truth="triangulated", associated=False)
    path = detections_path(folder / ONE[0], ONE[0])
    assert path is not None
    written = pickle.loads(path.read_bytes())
    sample = dataset.sample(f"{ONE[0]}/00000112")
    assert [view.name for view in sample.views] == list(CAMERAS)
    for view in sample.views:
        people = [person["pred"] for person in written[f"{int(view.name[3:])}_112"]]
        assert len(view.boxes_px) == len(people)
        assert view.image is None
        if people:
            np.testing.assert_array_equal(view.joints_px, np.array(people)[..., :2])
            np.testing.assert_array_equal(view.confidence, np.array(people)[..., 2])
            np.testing.assert_array_equal(view.boxes_px[:, :2], np.array(people)[..., :2].min(axis=1))
    assert {len(view.boxes_px) for view in sample.views} == {0, 1, 2}


def test_status_tells_what_is_there_and_what_lacks(tmp_path: Path) -> None:
    write_panoptic_people(tmp_path, SEQUENCES[:2], images=True)
    status = PanopticPeople(tmp_path, SEQUENCES[:2]).status()
    assert status.state == "ready"
    assert "4 frames with 8 people, " in status.detail
    assert status.detail.endswith("detections in 5 cameras, images")
    partial = PanopticPeople(tmp_path).status()
    assert (partial.state, "160906_ian5" in partial.detail) == ("partial", True)
    path = detections_path(tmp_path / ONE[0], ONE[0])
    assert path is not None
    path.unlink()
    without = PanopticPeople(tmp_path, ONE)
    assert "160906_pizza1/pred_160906_pizza1" in without.status().detail
    with pytest.raises(InputError, match="pred_160906_pizza1"):
        without.sample(without.keys("test")[0])
    assert PanopticPeople(tmp_path / "nowhere").status().state == "missing"


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"panoptic-people: cameras: .*50_01"):
        PanopticPeople(tmp_path, cameras=("50_01",))
    assert len(PanopticPeople(tmp_path, cameras="all").views) == 31


def test_detections_are_written_as_they_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    people = {
        (3, 12): rng.uniform(0, 900, (2, 17, 3)),
        (23, 0): rng.uniform(0, 900, (3, 17, 3)),
        (6, 0): np.zeros((0, 17, 3)),
    }
    path = tmp_path / "pred_x_maskrcnn_hrnet_coco.npz"
    path.write_bytes(encode_detections(people))
    first = path.read_bytes()
    read = read_detections(path)
    assert set(read) == {(3, 12), (23, 0)}, "of nobody there is nothing to say"
    for view, of_view in read.items():
        np.testing.assert_array_equal(of_view, people[view].astype(np.float32))
    path.write_bytes(encode_detections(people))
    assert path.read_bytes() == first
    path.write_bytes(encode_detections({}))
    assert read_detections(path) == {}
