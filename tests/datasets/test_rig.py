"""The adapter of a user's own rig: frames, people, offsets, truth, and a strict rig.yaml."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_calibrations import made_up_rig, write_own
from made_up_rig import NAMES, seen, walk, write_rig_tree

from poseboard.datasets.camera import Camera
from poseboard.datasets.catalog import open_dataset
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.keypoints import Keypoints, write_keypoints
from poseboard.datasets.motion import Motion, write_motion
from poseboard.datasets.rig import (
    RigFile,
    RigTruth,
    at_times,
    describe_cameras,
    focus_mm,
    own_camera,
    read_rig,
    rig_text,
)
from poseboard.datasets.sample import Dataset
from poseboard.datasets.skeleton import COCO


def open_rig(folder: Path) -> Dataset:
    return open_dataset("rig", {"root": folder}, name="myrig")


def write_rig(folder: Path, keypoints: Keypoints, truth: RigTruth | None = None, **changes: dict) -> dict[str, Camera]:
    """rig.yaml of the made-up rig with changed fields of cameras."""
    cameras = made_up_rig(NAMES)
    entries = {name: own_camera(camera, **changes.get(name, {})) for name, camera in cameras.items()}
    rig = RigFile(fps=60.0, truth=truth, cameras=entries)
    (folder / "rig.yaml").write_text(rig_text(rig, describe_cameras(cameras)), encoding="utf-8")
    write_keypoints(folder / "detections.parquet", keypoints)
    return cameras


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    cameras = made_up_rig(("new\nline: \x85\u2028\x7f", 'Kamera über "Tür"', "b: 2", "3"), k3=0.02)
    entries = {name: own_camera(camera, 3, True, "../Videos/ü 1.mp4") for name, camera in cameras.items()}
    truth = RigTruth(file="walk.trc", rotation=(0.1, 0.2, 0.3), t_mm=(1.0, 2.0, 3.0), start_s=0.25)
    rig = RigFile(fps=59.94, up="-y", block_s=2.0, truth=truth, sources={"unit": 'm: "people"'}, cameras=entries)
    (tmp_path / "rig.yaml").write_text(rig_text(rig, describe_cameras(cameras)), encoding="utf-8")
    again = read_rig(tmp_path / "rig.yaml")
    assert again == rig
    for name, camera in cameras.items():
        read = again.cameras[name].camera(name)
        for field in ("K", "R", "t", "dist"):
            np.testing.assert_allclose(getattr(read, field), getattr(camera, field), rtol=0, atol=1e-9)


def test_samples_have_the_detections_of_their_frame(tmp_path: Path) -> None:
    joints = walk(90)
    cameras = write_rig(tmp_path, seen(made_up_rig(NAMES), [joints]))
    rig = open_rig(tmp_path)
    assert rig.name == "myrig"
    assert rig.skeleton == COCO
    assert rig.views == NAMES
    assert rig.facts("test") == Facts(boxes="detected", truth="none", associated=True, rate_hz=rig.rig.fps)
    keys = rig.keys("test")
    assert (len(keys), keys[0], keys[-1]) == (90, "myrig/000000", "myrig/000089")
    assert not rig.keys("train")
    sample = rig.sample("myrig/000041")
    for view in sample.views:
        np.testing.assert_allclose(view.joints_px, cameras[view.name].project(joints[41])[None])
        np.testing.assert_allclose(view.boxes_px[0, :2], cameras[view.name].project(joints[41]).min(axis=0))
    assert {rig.sample(key).group.sequence for key in keys} == {"block 0000", "block 0001"}
    assert rig.sample("myrig/000059").group.sequence == "block 0000"
    assert rig.truth("myrig/000041").joints_mm.shape == (0, 17, 3)


def test_offsets_and_swapped_sides_are_undone(tmp_path: Path) -> None:
    joints = walk(60)
    keypoints = seen(made_up_rig(NAMES), [joints])
    right = keypoints.cameras["right"]
    late = replace(right, frame=right.frame + 7, xy_px=right.xy_px[:, COCO.flip_order])
    shifted = Keypoints(COCO.joints, {**keypoints.cameras, "right": late})
    cameras = write_rig(tmp_path, shifted, right={"offset_frames": 7, "swap_sides": True})
    rig = open_rig(tmp_path)
    assert len(rig.keys("test")) == 60
    view = rig.sample("myrig/000030").views[1]
    np.testing.assert_allclose(view.joints_px[0], cameras["right"].project(joints[30]))


def test_frames_are_those_that_two_cameras_recorded(tmp_path: Path) -> None:
    """3 frames in one camera, 100 in another, and one camera that starts late."""
    keypoints = seen(made_up_rig(NAMES), [walk(100)])
    spans = {"left": (0, 3), "right": (0, 100), "back": (20, 80), "front": (99, 100)}
    cut = {}
    for name, (start, stop) in spans.items():
        people = keypoints.cameras[name]
        rows = (people.frame >= start) & (people.frame < stop)
        cut[name] = type(people)(people.frame[rows], people.xy_px[rows], people.confidence[rows], people.person[rows])
    write_rig(tmp_path, Keypoints(COCO.joints, cut))
    rig = open_rig(tmp_path)
    assert [rig.keys("test")[i] for i in (0, -1)] == ["myrig/000000", "myrig/000099"]
    views = {view.name: view for view in rig.sample("myrig/000010").views}
    assert np.isfinite(views["right"].joints_px).all()
    for name in ("left", "back", "front"):
        assert views[name].joints_px.shape == (1, 17, 2)
        assert np.isnan(views[name].joints_px).all()
        assert np.isnan(views[name].boxes_px).all()


def test_several_people_are_not_associated(tmp_path: Path) -> None:
    write_rig(tmp_path, seen(made_up_rig(NAMES), [walk(20), walk(10, radius=1500.0)]))
    rig = open_rig(tmp_path)
    assert rig.facts("test") == Facts(boxes="detected", truth="none", associated=False, rate_hz=rig.rig.fps)
    assert [len(view.boxes_px) for view in rig.sample("myrig/000005").views] == [2, 2, 2, 2]
    assert [len(view.boxes_px) for view in rig.sample("myrig/000015").views] == [1, 1, 1, 1]


def test_truth_is_turned_into_the_world_of_the_cameras(tmp_path: Path) -> None:
    joints = walk(60)
    # Turned by 90° about z and shifted, at 120 Hz, from half a second before the rig's frame 0.
    turned = joints @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) - [100, 0, 50]
    times = (np.arange(180) - 60) / 2
    frame = np.clip(times, 0, 59)
    below = np.minimum(frame.astype(int), 58)
    points = turned[below] + (frame - below)[:, None, None] * (turned[below + 1] - turned[below])
    named = Motion(("RKnee", "LKnee", "Nose", "extra"), points[:, [14, 13, 0, 5]], 120.0, "z")
    write_motion(tmp_path / "walk.c3d", named)
    R = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    t = tuple((R @ [100, 0, 50]).tolist())
    truth = RigTruth(file="walk.c3d", rotation=(0.0, 0.0, np.pi / 2), t_mm=t, start_s=0.5)
    write_rig(tmp_path, seen(made_up_rig(NAMES), [joints]), truth)
    rig = open_rig(tmp_path)
    assert rig.facts("test").truth == "motion capture"
    true = rig.truth("myrig/000020").joints_mm
    assert true.shape == (1, 17, 3)
    np.testing.assert_allclose(true[0, [13, 14, 0]], joints[20, [13, 14, 0]], atol=0.02)
    assert np.isnan(true[0, 1:13]).all()


def test_points_between_frames_are_interpolated() -> None:
    points = np.array([[[0.0, 0, 0]], [[10.0, 0, 0]], [[np.nan, 0, 0]], [[30.0, 0, 0]]])
    motion = Motion(("a",), points, 10.0, "z")
    x = at_times(motion, np.array([-0.01, 0, 0.05, 0.1, 0.15, 0.3, 0.31]))[:, 0, 0]
    np.testing.assert_allclose(x, [np.nan, 0, 5, 10, np.nan, 30, np.nan])


def test_the_lines_say_where_a_camera_is_and_looks() -> None:
    cameras = made_up_rig()
    np.testing.assert_allclose(focus_mm(list(cameras.values())), [0, 0, 1000], atol=1e-6)
    line = describe_cameras(cameras)["left"]
    assert line == (
        "left: at (3.82, 1.18, 1.50) m, looks at (0.00, 0.00, 1.00) m in 4.03 m distance, field of view 71° x 43°"
    )
    behind = replace(cameras["left"], R=np.diag([-1.0, 1, -1]) @ cameras["left"].R)
    both = {**cameras, "left": replace(behind, t=-behind.R @ cameras["left"].centre_mm)}
    assert "away from the point that the other cameras look at" in describe_cameras(both)["left"]
    assert "image size not known" in describe_cameras({"a": replace(cameras["left"], size=(0, 0))})["a"]


FAULTS = {
    "fps: 60": ("fps: 0", r"rig.yaml: fps: input should be greater than 0"),
    "fps: 60\n": (
        "fps: 60\nspeed: 3\n",
        r"rig.yaml: speed: there is no such field; remove it, or use one of block_s, cameras",
    ),
    "fps: 60\ncameras": ("fps: sixty\ncameras", r"rig.yaml: fps: is not a number"),
    "    t_mm": ("    tmm", r"rig.yaml: cameras.left: t_mm: field is missing"),
    "    dist: [-": ("    dist: [abc", r"rig.yaml: cameras.left: dist.0: is not a number"),
    "    f: [": (
        "    offset_frames: 1.5\n    f: [",
        r"rig.yaml: cameras.left: offset_frames: input should be a valid int",
    ),
    "    c: [": ("    swap_sides: 1\n    c: [", r"rig.yaml: cameras.left: swap_sides: input should be a valid boolean"),
    '  "left"': ('  "middle"', r"cameras.middle: detections.parquet has no such camera; delete the camera, or give it"),
    "cameras:\n": ("cameras:\n  - 1\n", r"rig.yaml: is not YAML \(line 4: "),
    "    size: [1920, 1080]": ("    size: 1920", r"rig.yaml: cameras.left: size: input should be a valid tuple"),
    "fps: 60\nc": ("fps: 60\nfps: 50\nc", r"rig.yaml: is not YAML \(line 2: found duplicate key"),
    "fps": ("up: upwards\nfps", r"rig.yaml: up: input should be 'x', 'y', 'z'"),
    "cameras": ("truth: {file: none.trc}\ncameras", r"none.trc: does not exist"),
}


@pytest.mark.parametrize("old", FAULTS)
def test_a_wrong_line_is_named(old: str, tmp_path: Path) -> None:
    new, message = FAULTS[old]
    write_rig_tree(tmp_path)
    path = tmp_path / "rig.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    status = open_rig(tmp_path).status()
    assert status.state == "damaged"
    assert re.search(message, status.detail)
    assert "\n" not in status.detail
    with pytest.raises(InputError, match=message):
        open_rig(tmp_path).inspect()


def test_cameras_without_a_common_time_are_refused(tmp_path: Path) -> None:
    offsets = {name: {"offset_frames": 1000 * index} for index, name in enumerate(NAMES)}
    write_rig(tmp_path, seen(made_up_rig(NAMES), [walk(10)]), **offsets)
    with pytest.raises(InputError, match="no two cameras have detections at the same time; correct offset_frames"):
        open_rig(tmp_path).keys("test")


def test_comments_and_sources_do_not_change_the_manifest(tmp_path: Path) -> None:
    write_rig_tree(tmp_path)
    before = open_rig(tmp_path).manifest()
    path = tmp_path / "rig.yaml"
    path.write_text(f"# measured on Monday\nsources: {{lens: 12 mm}}\n{path.read_text()}")
    assert open_rig(tmp_path).manifest() == before
    path.write_text(path.read_text().replace("t_mm: [", "t_mm: [1", 1))
    assert open_rig(tmp_path).manifest() != before


def test_a_camera_can_be_left_out_by_deleting_it(tmp_path: Path) -> None:
    write_rig_tree(tmp_path)
    section = write_own(tmp_path, made_up_rig(NAMES[:2]))
    (tmp_path / "rig.yaml").write_text(f"fps: 60\n{section.read_text()}")
    rig = open_rig(tmp_path)
    assert rig.views == NAMES[:2]
    assert "unused cameras of the detections: back" in rig.status().detail
