"""`poseboard rig new`, and a rig as a data set of params.yaml by its kind."""

import importlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from poseboard.benchmarks import plan
from poseboard.benchmarks.rigs.new import NewRig, match_names, measure_people, new_rig
from poseboard.datasets.catalog import open_dataset
from poseboard.datasets.errors import InputError
from poseboard.datasets.motion import Motion, write_motion
from poseboard.datasets.rig import read_rig
from poseboard.protocols.records import DataFile, ScoreFile

HERE = Path(__file__).parents[1] / "datasets"


@pytest.fixture(scope="module")
def made() -> Iterator[Any]:
    """The module with the made-up recording."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        yield importlib.import_module("made_up_rig")


@pytest.fixture(scope="module")
def inputs(made: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Calib.toml of Pose2Sim, and a folder of OpenPose's files; tests do not change them."""
    calibration, detections = made.write_inputs(tmp_path_factory.mktemp("inputs"))
    return calibration, detections


def request_of(inputs: tuple[Path, Path], **changes: Any) -> NewRig:
    return NewRig(**{"name": "myrig", "calibration": inputs[0], "detections": inputs[1], **changes})


def test_two_files_become_a_data_set(made: Any, inputs: tuple[Path, Path], tmp_path: Path) -> None:
    lines = new_rig(request_of(inputs), tmp_path)
    text = "\n".join(lines)
    assert "format anipose" in text
    assert "unit m (the only unit in which people have a person's size)" in text
    assert "front: at (3.84, -1.12, 1.80) m, looks at (0.00, 0.00, 1.00) m in 4.08 m distance" in text
    assert "Frames per second: 60 (assumed; correct it in rig.yaml, or give --fps)" in text
    assert re.search(r"People: 1\.[67]\d m tall, as \d+ pairs of views triangulate them", text)
    assert "Up: z (the direction from people's feet to their shoulders)" in text
    assert "  myrig: {kind: rig, root: data/myrig}" in lines
    assert (tmp_path / "data/myrig/rig.yaml").read_text().count("# front: at (3.84, -1.12, 1.80) m") == 1

    rig = open_dataset("rig", {"root": tmp_path / "data/myrig"}, name="myrig")
    assert rig.status().state == "ready"
    assert len(rig.keys("test")) == 60
    cameras = made.made_up_rig(made.NAMES)
    joints = made.walk(60)
    for view in rig.sample("myrig/000030").views:
        assert np.abs(view.joints_px[0] - cameras[view.name].project(joints[30])).max() < 12  # noise of 2 px
        np.testing.assert_allclose(view.camera.R, cameras[view.name].R, atol=1e-9)
        np.testing.assert_allclose(view.camera.t, cameras[view.name].t, atol=1e-9)

    with pytest.raises(InputError, match=r"rig.yaml: exists already; choose another name, or add --overwrite"):
        new_rig(request_of(inputs), tmp_path)
    new_rig(request_of(inputs, overwrite=True, fps=50.0, up="y", offsets={"left": 2}), tmp_path)
    rig_file = read_rig(tmp_path / "data/myrig/rig.yaml")
    assert (rig_file.fps, rig_file.up) == (50.0, "y")
    assert [camera.offset_frames for camera in rig_file.cameras.values()] == [0, 0, 2, 0]


@pytest.mark.parametrize(("unit", "unit_mm"), [("m", 1000.0), ("cm", 10.0), ("mm", 1.0)])
def test_people_decide_the_unit(
    made: Any, inputs: tuple[Path, Path], tmp_path: Path, unit: str, unit_mm: float
) -> None:
    path = made.write_pose2sim(tmp_path, made.made_up_rig(made.NAMES), unit_mm)
    lines = new_rig(request_of((path, inputs[1])), tmp_path)
    assert f"unit {unit} (the only unit" in lines[0]
    lines = new_rig(request_of((path, inputs[1]), unit=unit, overwrite=True), tmp_path)
    assert f"unit {unit} (as --unit says)" in lines[0]


def test_a_wrong_unit_is_seen_in_the_people(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    text = "\n".join(new_rig(request_of(inputs, unit="mm"), tmp_path))
    assert "People: 0.00 m tall" in text
    assert "that is not a person's height: check the unit by `poseboard rig check`" in text


def test_several_people_are_measured(made: Any, tmp_path: Path) -> None:
    inputs = made.write_inputs(tmp_path / "two", people=2)
    text = "\n".join(new_rig(request_of(inputs), tmp_path))
    assert "up to 2 people per view" in text
    assert "unit m (the only unit" in text


def test_people_who_do_not_meet_are_not_measured(made: Any) -> None:
    cameras = made.made_up_rig(made.NAMES)
    keypoints = made.seen(cameras, [made.walk(60)])
    measured = measure_people(cameras, keypoints, {})
    assert measured is not None
    assert measured.height == pytest.approx(1720, abs=40)
    rng = np.random.default_rng(0)
    anywhere = {
        name: replace(people, xy_px=rng.uniform(0, 1000, people.xy_px.shape))
        for name, people in keypoints.cameras.items()
    }
    assert measure_people(cameras, replace(keypoints, cameras=anywhere), {}) is None


def test_names_of_cameras_are_matched_or_both_sides_listed() -> None:
    assert match_names(["cam1", "cam2"], ["cam2", "cam1", "cam3"], {}, "f") == {"cam1": "cam1", "cam2": "cam2"}
    assert match_names(["Cam_01_json", "02"], ["int_cam1_img", "cam02"], {}, "f") == {
        "Cam_01_json": "int_cam1_img", "02": "cam02",
    }  # fmt: skip
    assert match_names(["über Tür"], ["Links", "Rechts"], {"über Tür": "Links"}, "f") == {"über Tür": "Links"}
    with pytest.raises(InputError) as caught:
        match_names(["left", "right"], ["Kamera links", "right"], {}, "pose and Calib.toml")
    assert str(caught.value) == (
        "pose and Calib.toml: no camera of the calibration for left: detections have left, right; calibration: "
        "Kamera links, right; say which is which, such as --camera 'left=Kamera links'"
    )
    with pytest.raises(InputError, match="cam01 and cam1 are both cam1: detections have"):
        match_names(["cam01", "cam1"], ["cam1", "cam2"], {}, "f")
    with pytest.raises(InputError, match=r"--camera a=lft: no such camera in the calibration; did you mean left\?"):
        match_names(["a"], ["left"], {"a": "lft"}, "f")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "shelf"}, "NAME shelf: is the name of a published data set"),
        ({"name": "my rig"}, "NAME: 'my rig'"),
        ({"offsets": {"lft": 3}}, r"--offset lft: no such camera in the detections; did you mean left\?"),
        ({"cameras": {"lft": "left"}}, r"--camera lft: no such camera in the detections; did you mean left\?"),
        ({"cameras": {"left": "right"}}, "left and right are both right"),
        ({"fps": 0.0}, "--fps 0.0: is not a frame rate"),
        ({"up": "upwards"}, "--up upwards: is not an axis; use one of x, y, z"),
        ({"unit": "inch"}, "--unit inch: no such unit; use one of m, cm, mm"),
        ({"format": "qualisys"}, "is not a calibration of the format qualisys"),
        ({"calibration": Path("nowhere.toml")}, "nowhere.toml: there is no such file"),
        ({"detections": Path("nowhere")}, "nowhere: does not exist"),
        ({"videos": Path("nowhere")}, "nowhere: is not a folder; name the folder with one video per camera"),
        ({"truth": Path("nowhere.trc")}, "nowhere.trc: does not exist"),
        ({"offsets": {"left": 500, "right": 1000, "back": 1500}}, "no two cameras have detections at the same time"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    changes: dict[str, Any], message: str, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        new_rig(request_of(inputs, **{"unit": "m", **changes}), tmp_path)
    assert "\n" not in str(caught.value)


def test_cameras_on_one_side_only(made: Any, inputs: tuple[Path, Path], tmp_path: Path) -> None:
    more = made.write_pose2sim(tmp_path, made.made_up_rig((*made.NAMES, "Decke")))
    assert "  left out, because they have no detections: Decke" in new_rig(request_of((more, inputs[1])), tmp_path)
    fewer = made.write_pose2sim(tmp_path, made.made_up_rig(made.NAMES[:3]))
    with pytest.raises(
        InputError, match="no camera of the calibration for front: detections have back, front, left, right; "
    ):
        new_rig(request_of((fewer, inputs[1]), name="other"), tmp_path)


def test_truth_is_aligned_and_started_by_the_detections(made: Any, inputs: tuple[Path, Path], tmp_path: Path) -> None:
    joints = made.walk(120)[30:]  # as if the truth had started half a second later
    R = cv2.Rodrigues(np.array([0.3, -0.2, 2.0]))[0]
    points = (joints @ R.T + [500, -200, 90])[:, 5:]
    names = tuple(made.COCO.joints[5:])
    write_motion(tmp_path / "walk.trc", Motion(names, points, 60.0, "z"))
    lines = new_rig(request_of(inputs, truth=tmp_path / "walk.trc"), tmp_path)
    (at,) = (line for line in lines if "frame 0 of the rig" in line)
    assert "is -0.500 s after its first frame (by the best fit; at 0 s the distance is" in at
    rig = open_dataset("rig", {"root": tmp_path / "data/myrig"}, name="myrig")
    assert np.isnan(rig.truth("myrig/000029").joints_mm).all()
    for frame in (30, 45, 59):
        true = rig.truth(f"myrig/{frame:06d}").joints_mm[0, 5:]
        assert np.linalg.norm(true - made.walk(120)[frame, 5:], axis=1).max() < 5


def test_videos_give_rate_and_size(made: Any, inputs: tuple[Path, Path], tmp_path: Path) -> None:
    cameras = made.made_up_rig(made.NAMES)
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, camera in cameras.items():
        writer = cv2.VideoWriter(str(folder / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, camera.size)
        for frame in range(3):
            writer.write(np.full((camera.size[1], camera.size[0], 3), 80 * frame, np.uint8))
        writer.release()
    lines = new_rig(request_of(inputs, videos=folder), tmp_path)
    assert "Frames per second: 25 (of the videos)" in lines
    entries = read_rig(tmp_path / "data/myrig/rig.yaml").cameras
    assert {name: entry.video for name, entry in entries.items()} == {
        name: f"../../videos/{name}.avi" for name in entries
    }
    rig = open_dataset("rig", {"root": tmp_path / "data/myrig"}, name="myrig")
    first, later = (rig.sample(f"myrig/{frame:06d}").views for frame in (2, 3))
    for view in first:
        assert view.pixels().shape[:2] == view.camera.size[::-1]
        assert abs(int(view.pixels().mean()) - 160) < 4, "frame 2 is the brightest"
    assert [view.image for view in later] == [None] * 4, "the videos have ended"
    (folder / "left.avi").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"left.avi: is not a video that OpenCV can open"):
        new_rig(request_of(inputs, videos=folder, overwrite=True), tmp_path)
    (folder / "left.avi").unlink()
    with pytest.raises(InputError, match=r"no camera of the videos for left: .* name the videos like"):
        new_rig(request_of(inputs, videos=folder, overwrite=True), tmp_path)


ROWS = {"dlt": {"code": "methods/dlt", "after": "scratch", "weighting": "peak"}}


def test_videos_a_few_pixels_smaller_are_reported(made: Any, inputs: tuple[Path, Path], tmp_path: Path) -> None:
    cameras = made.made_up_rig(made.NAMES)
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, camera in cameras.items():
        size = (camera.size[0] - 8, camera.size[1]) if name == "left" else camera.size
        writer = cv2.VideoWriter(str(folder / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, size)
        writer.write(np.zeros((size[1], size[0], 3), np.uint8))
        writer.release()
    lines = [line for line in new_rig(request_of(inputs, videos=folder), tmp_path) if "the video is" in line]
    assert [line.split(":")[0].strip() for line in lines] == ["left"]
    assert read_rig(tmp_path / "data/myrig/rig.yaml").cameras["left"].size == cameras["left"].size


def test_it_is_a_data_set_of_params_yaml(
    workspace_with: Any, inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line, from two files to a score; the tables of its kind are run on it."""
    monkeypatch.setattr(plan, "TABLES", tmp_path / "tables")
    (tmp_path / "tables").mkdir()
    table = {"id": "rig-held-out", "title": "Held out", "dataset": "rig", "split": "test", "protocol": "reprojection"}
    table |= {"groups": [{"leave_out": True}], "parameters": {"judged": "held_out", "cap_px": 100}}
    (tmp_path / "tables" / "rig-held-out.yaml").write_text(yaml.safe_dump(table))
    home = tmp_path / "home"
    home.mkdir()
    made = workspace_with(home, "human36m-unused", "shelf", "unused", ROWS, frames=4)
    done = made.must("rig", "new", "myrig", "--calibration", inputs[0], "--detections", inputs[1], "--fps", "60")
    (line,) = (line for line in done.out.splitlines() if "kind: rig" in line)
    params = yaml.safe_load((home / "params.yaml").read_text())
    made.write_params(**{**params, "datasets": yaml.safe_load(line), "methods": ROWS})
    assert "myrig" in made.must("data", "status").out
    assert "myrig: ready" in made.must("data", "prepare", "myrig").out
    made.must("evaluate", "dlt")
    (score,) = ScoreFile.read(home / "results/smoke/scores/dlt/myrig.json").scores
    assert (score.table, score.n_samples, score.n_missing) == ("rig-held-out", 60 * 4, 0)
    assert score.value is not None
    assert 1 < score.value < 8, "noise of 2 px in each view"
    assert DataFile.read(home / "results/smoke/data/myrig.json").counts["test samples"] == 60


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"myrig": {"kind": "rigg"}}, r"datasets.myrig.kind: 'rigg' is not a kind of data set; did you mean rig\?"),
        ({"shelf": {"kind": "rig"}}, "datasets.shelf.kind: shelf is a data set of another kind"),
    ],
)
def test_a_wrong_kind_is_refused(datasets: dict[str, Any], message: str, workspace_with: Any, tmp_path: Path) -> None:
    made = workspace_with(tmp_path, "shelf", "shelf", "unused", ROWS, frames=2)
    params = yaml.safe_load((tmp_path / "params.yaml").read_text())
    made.write_params(**{**params, "datasets": datasets, "methods": ROWS})
    assert re.search(message, made.run("plan").error)


def test_any_adapter_can_have_another_name(workspace_with: Any, tmp_path: Path) -> None:
    made = workspace_with(tmp_path, "lab", "shelf", "copy", ROWS, frames=3)
    params = yaml.safe_load((tmp_path / "params.yaml").read_text())
    made.write_params(**{**params, "datasets": {"lab": {"kind": "shelf", "root": "copy"}}, "methods": ROWS})
    assert "lab: ready" in made.must("data", "prepare", "lab").out
    made.must("evaluate", "dlt")
    scores = ScoreFile.read(tmp_path / "results/smoke/scores/dlt/lab.json").scores
    assert {score.table for score in scores} >= {"shelf-pcp3d", "shelf-reprojection"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--offset", "left"], "--offset left: is not of the form NAME=VALUE"),
        (["--offset", "left=soon"], "--offset left=soon: is not a number of frames"),
        (["--camera", "a=b", "--camera", "a=c"], "--camera a=c: a is repeated"),
    ],
)
def test_options_of_the_command_line(
    arguments: list[str], message: str, workspace_with: Any, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    made = workspace_with(tmp_path, "shelf", "shelf", "unused", ROWS, frames=2)
    done = made.run("rig", "new", "myrig", "--calibration", inputs[0], "--detections", inputs[1], *arguments)
    assert message in done.error
