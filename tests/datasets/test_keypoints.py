"""Readers of 2D detections: one made-up set in each format, and files that are not as they should be."""

from __future__ import annotations

import gzip
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import made_up_keypoints as made_up
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_keypoints import OPENPOSE_NAMES, make_keypoints

from poseboard.datasets.errors import InputError
from poseboard.datasets.keypoints import FORMATS, Keypoints, People, read_keypoints, write_keypoints
from poseboard.datasets.keypoints.joint_sets import (
    BLAZEPOSE,
    BODY_25,
    COCO_18,
    HALPE_26,
    JOINT_SETS,
    canonical_name,
    skeleton_of,
    unknown_joints,
)
from poseboard.datasets.skeleton import COCO

Write = Callable[[Path, Keypoints], None]
FORMATS_WRITTEN: dict[str, tuple[str, tuple[str, ...], Write]] = {
    "openpose COCO-18": ("openpose", COCO_18.joints, made_up.write_openpose),
    "openpose BODY_25": ("openpose", BODY_25.joints, made_up.write_openpose),
    "openpose HALPE_26": ("openpose", HALPE_26.joints, made_up.write_openpose),
    "openpose COCO-17": ("openpose", COCO.joints, made_up.write_openpose),
    "openpose BlazePose": ("openpose", BLAZEPOSE.joints, made_up.write_openpose),
    "coco": ("coco", COCO.joints, made_up.write_coco),
    "deeplabcut csv": ("deeplabcut", COCO_18.joints, lambda f, k: made_up.write_deeplabcut_csv(f, k, OPENPOSE_NAMES)),
    "deeplabcut h5": ("deeplabcut", COCO_18.joints, lambda f, k: made_up.write_deeplabcut_h5(f, k, OPENPOSE_NAMES)),
    "sleap h5": ("sleap", COCO_18.joints, lambda f, k: made_up.write_sleap(f, k, OPENPOSE_NAMES)),
    "sleap h5 standard": (
        "sleap",
        COCO_18.joints,
        lambda f, k: made_up.write_sleap(f, k, OPENPOSE_NAMES, standard=True),
    ),
    "sleap csv": ("sleap", COCO_18.joints, lambda f, k: made_up.write_sleap_csv(f, k, OPENPOSE_NAMES)),
    "parquet": ("parquet", COCO_18.joints, write_keypoints),
}


def assert_same(read: Keypoints, expected: Keypoints) -> None:
    assert read.joints == expected.joints
    assert list(read.cameras) == list(expected.cameras)
    for name, people in expected.cameras.items():
        for field in ("frame", "person", "xy_px", "confidence"):
            np.testing.assert_array_equal(getattr(read.cameras[name], field), getattr(people, field), f"{name} {field}")


@pytest.mark.parametrize("name", FORMATS_WRITTEN)
def test_each_format_gives_the_same_arrays(tmp_path: Path, name: str) -> None:
    kind, joints, write = FORMATS_WRITTEN[name]
    expected = make_keypoints(joints)
    path = tmp_path / "Aufnahme 1"
    write(path, expected)
    read = read_keypoints(path)
    assert_same(read, expected)
    assert_same(read_keypoints(path, kind), expected)
    others = [other for other, format in FORMATS.items() if other != kind and format.recognise(path)]
    assert others == []
    if joints is COCO_18.joints and kind != "openpose":
        assert read.remarks == ()


@pytest.mark.parametrize("write", [made_up.write_openpose, made_up.write_coco, write_keypoints])
def test_people_without_identity(tmp_path: Path, write: Write) -> None:
    expected = make_keypoints(tracked=False)
    write(tmp_path / "pose", expected)
    assert_same(read_keypoints(tmp_path / "pose"), expected)


@pytest.mark.parametrize("name", ["deeplabcut csv", "deeplabcut h5"])
def test_one_animal_of_deeplabcut_has_no_identity(tmp_path: Path, name: str) -> None:
    _, joints, write = FORMATS_WRITTEN[name]
    expected = make_keypoints(joints, tracked=False, people=1)
    write(tmp_path / "pose", expected)
    assert_same(read_keypoints(tmp_path / "pose"), expected)


@pytest.mark.parametrize("kind", ["table", "fixed"])
def test_tables_that_pandas_wrote(tmp_path: Path, kind: str) -> None:
    """The vectors were written by `DataFrame.to_hdf`; values are frame + column / 10."""
    packed = Path(__file__).parents[1] / "golden" / "vectors" / "keypoints" / f"deeplabcut_{kind}.h5.gz"
    path = tmp_path / "cam1DLC_resnet50.h5"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    read = read_keypoints(path)
    people = read.cameras["cam1"]
    assert read.joints == ("nose", "left_knee", "Müller")
    values = np.arange(3)[:, None] + np.arange(9) / 100 + 0.01
    np.testing.assert_allclose(people.xy_px, values.reshape(3, 3, 3)[..., :2] * 100, rtol=1e-12)
    np.testing.assert_array_equal(people.frame, [0, 1, 2])
    assert any("'Müller' is not known" in remark for remark in read.remarks)


def test_parquet_keeps_cameras_without_people_and_its_bytes(tmp_path: Path) -> None:
    keypoints = make_keypoints()
    none = People(np.zeros(0, np.int64), np.zeros((0, 17, 2)), np.zeros((0, 17)), np.zeros(0, np.int64))
    keypoints = Keypoints(keypoints.joints, {**keypoints.cameras, "cam3": none})
    for name in ("a.parquet", "b.parquet"):
        write_keypoints(tmp_path / name, keypoints)
    assert_same(read_keypoints(tmp_path / "a.parquet"), keypoints)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert keypoints.summary()[2] == "cam3: no people"


def test_parquet_of_other_tools(tmp_path: Path) -> None:
    rows = {"camera": ["b", "b", "a"], "frame": [4, 3, 3], "joint": ["LKnee", "LKnee", "nose"]}
    table = pa.table({**rows, "x_px": [1, 2, 3], "y_px": [20.5, 30.5, None], "confidence": [0.5, 0.25, 1]})
    pq.write_table(table, tmp_path / "a.parquet")
    read = read_keypoints(tmp_path / "a.parquet")
    assert read.joints == ("left_knee", "nose")
    assert list(read.cameras) == ["b", "a"]
    np.testing.assert_array_equal(read.cameras["b"].frame, [3, 4])
    np.testing.assert_array_equal(read.cameras["b"].xy_px[:, 0], [[2, 30.5], [1, 20.5]])
    assert len(read.cameras["a"]) == 0, "a joint without y is missing, and with it the person"


def test_openpose_of_pose2sim_with_empty_people_and_nan(tmp_path: Path) -> None:
    keypoints = make_keypoints(HALPE_26.joints, people=1, tracked=False)
    made_up.write_openpose(tmp_path, keypoints)
    nan = "{" + '"people": [{}, {"pose_keypoints_2d": [' + "NaN, NaN, NaN, " * 25 + "1.5, 20.0, 0.5]}]}"
    (tmp_path / "cam2_json" / "cam2_000020.json").write_text(nan)
    people = read_keypoints(tmp_path).cameras["cam2"]
    assert people.frame[-1] == 20
    np.testing.assert_array_equal(people.xy_px[-1, 25], [1.5, 20])
    assert np.isnan(people.xy_px[-1, :25]).all()
    assert not people.confidence[-1, :25].any()


def test_whole_body_files_give_body_and_feet(tmp_path: Path) -> None:
    values = np.arange(399.0)
    values[2::3] = 0.5
    (tmp_path / "c_0.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": values.tolist()}]}))
    read = read_keypoints(tmp_path)
    assert read.joints[17:] == JOINT_SETS["coco_133"].joints[17:]
    np.testing.assert_array_equal(read.cameras[tmp_path.name].xy_px[0, 22], [66, 67])
    assert read.remarks == ("joints: coco_133, by their number 133",)


def test_frames_are_the_last_digits_and_in_order(tmp_path: Path) -> None:
    for name in ("take2_cam1_000010_keypoints", "take2_cam1_000002_keypoints"):
        values = [float(name[13:17]) + 5, 5.0, 0.5] * 17
        (tmp_path / f"{name}.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": values}]}))
    (tmp_path / "._take2_cam1_000010_keypoints.json").write_bytes(b"\0\5")  # macOS puts such files on USB disks
    np.testing.assert_array_equal(read_keypoints(tmp_path).cameras[tmp_path.name].frame, [2, 10])


def test_confidence_scales(tmp_path: Path) -> None:
    def write(score: float) -> Path:
        path = tmp_path / "cam1.json"
        path.write_text(json.dumps([{"image_id": 1, "keypoints": [10.0, 20.0, score] * 17}]))
        return path

    for score, problem in ((80.0, "lies in 80 to 80, not 0 to 1"), (-3.0, "lies in -3 to -3")):
        with pytest.raises(InputError, match=problem) as error:
            read_keypoints(write(score))
        assert "percent" in error.value.remedy
    assert read_keypoints(write(80.0), confidence="percent").cameras["cam1"].confidence[0, 0] == 0.8
    assert read_keypoints(write(0.0), confidence="logit").cameras["cam1"].confidence[0, 0] == 0.5
    assert read_keypoints(write(6.5), confidence="clip").cameras["cam1"].confidence[0, 0] == 1
    slightly = read_keypoints(write(1.05))
    assert slightly.cameras["cam1"].confidence.max() == 1
    assert any("17 confidences" in remark for remark in slightly.remarks)
    with pytest.raises(InputError, match="did you mean percent"):
        read_keypoints(write(0.5), confidence="percents")  # type: ignore[arg-type]


def test_joint_set_by_number_or_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cam1.json"
    path.write_text(json.dumps([{"image_id": 1, "keypoints": [10.0, 20.0, 0.5] * 19}]))
    with pytest.raises(InputError, match="has 19 joints per person; use one of coco"):
        read_keypoints(path)
    with pytest.raises(InputError, match="body_25 has 25"):
        read_keypoints(path, joints="body_25")
    with pytest.raises(InputError, match="did you mean body_25"):
        read_keypoints(path, joints="body25")


def one_camera(**changes: Any) -> dict[str, Any]:
    return {"people": [{"pose_keypoints_2d": [5.0, 6.0, 0.5] * 25} | changes]}


OPENPOSE_FAULTS: dict[str, tuple[str | bytes, str]] = {
    "empty": (b"", "file is empty"),
    "truncated": (json.dumps(one_camera())[:-20], "is not JSON"),
    "binary": (b"\xff\xfe\x00{", "is not JSON"),
    "deep": ('{"people": ' + "[" * 200_000, "is not JSON|people"),
    "no people": ("{}", "people"),
    "people is text": ('{"people": "none"}', "people: expected array"),
    "text for a number": (json.dumps(one_camera(pose_keypoints_2d=["a"] * 75)), r"people\[0\].pose_keypoints_2d"),
    "another length": (json.dumps(one_camera(pose_keypoints_2d=[1.0] * 54)), "has 54 numbers, not 75"),
    "no multiple of 3": (json.dumps(one_camera(pose_keypoints_2d=[1.0] * 74)), "not x, y, confidence"),
    "huge numbers": (json.dumps(one_camera(pose_keypoints_2d=[1e30, 1.0, 0.5] * 25)), "reach 1e.30 px"),
    "beyond a float": ('{"people": [{"pose_keypoints_2d": [1e999, 1, 1]}]}', "is not JSON|people"),
}


@pytest.mark.parametrize("fault", OPENPOSE_FAULTS)
def test_damaged_openpose_files(tmp_path: Path, fault: str) -> None:
    content, problem = OPENPOSE_FAULTS[fault]
    folder = tmp_path / "cam 1_json"
    folder.mkdir()
    (folder / "cam 1_0.json").write_text(json.dumps(one_camera()))
    (folder / "cam 1_1.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=problem) as error:
        read_keypoints(tmp_path)
    assert "\n" not in str(error.value)
    assert error.value.remedy
    assert "cam 1" in error.value.where


def test_openpose_folders_that_do_not_fit(tmp_path: Path) -> None:
    for camera, count in (("cam1", 25), ("cam2", 26)):
        (tmp_path / f"{camera}_json").mkdir()
        entry = one_camera(pose_keypoints_2d=[5.0, 6.0, 0.5] * count)
        (tmp_path / f"{camera}_json" / "a_0.json").write_text(json.dumps(entry))
    with pytest.raises(InputError, match="cam1 has 25 joints, cam2 26"):
        read_keypoints(tmp_path)
    (tmp_path / "cam2_json" / "a_0.json").write_text('{"people": []}')
    assert len(read_keypoints(tmp_path).cameras["cam2"]) == 0
    (tmp_path / "cam2_json" / "b_00.json").write_text('{"people": []}')
    with pytest.raises(InputError, match="has frame number 0, like a_0"):
        read_keypoints(tmp_path)
    (tmp_path / "cam2_json" / "b_00.json").rename(tmp_path / "cam2_json" / "readme.json")
    with pytest.raises(InputError, match="does not end in a frame number"):
        read_keypoints(tmp_path)
    (tmp_path / "cam2_json" / "readme.json").unlink()
    (tmp_path / "cam1").mkdir()
    (tmp_path / "cam1" / "a_0.json").write_text('{"people": []}')
    with pytest.raises(InputError, match="have one camera name"):
        read_keypoints(tmp_path)


def test_normalised_coordinates(tmp_path: Path) -> None:
    (tmp_path / "a_0.json").write_text(json.dumps(one_camera(pose_keypoints_2d=[0.4, 0.6, 0.5] * 25)))
    with pytest.raises(InputError, match=r"at most 0\.6: not pixels; multiply by the image size"):
        read_keypoints(tmp_path)


DLC = "scorer,s,s,s\nbodyparts,nose,nose,nose\ncoords,x,y,likelihood\n"
TEXT_FAULTS: dict[str, tuple[str, str]] = {
    "dlc no number": (DLC + "0,1,2,high\n", r"nose likelihood\[0\]: 'high' is not a number"),
    "dlc frame": (DLC + "first,10,20,0.5\n", r"frame\[0\]"),
    "dlc coords": (DLC.replace("likelihood", "z") + "0,1,2,3\n", "coords: has 'z'"),
    "dlc header": (DLC.replace("coords", "coordinates") + "0,1,2,3\n", "header lines are not scorer"),
    "dlc short header": (DLC.replace("nose,nose,nose", "nose,nose") + "0,1,2,3\n", "different lengths"),
    "dlc double": (DLC.replace("x,y", "x,x") + "0,1,2,3\n", "nose x occurs twice"),
    "dlc long row": (DLC + "0,1,2,0.5,7,8\n", r"record 0: has 6 cells, not 4"),
    "dlc truncated": (DLC + "0,1,2,0.5\n1,1,2", r"record 1: has 3 cells, not 4"),
    "dlc two scorers": (DLC.replace("s,s,s", "s,s,t") + "0,1,2,0.5\n", "several scorers"),
    "sleap no column": ("track,frame_idx,instance.score,a.x,a.y\n,0,1,2,3\n", "a.score: column is missing"),
    "sleap no number": (
        "track,frame_idx,instance.score,a.x,a.y,a.score\n,0,1,2,b,3\n",
        "a.y: holds [a-z]+, not numbers",
    ),
    "sleap frame": ("track,frame_idx,instance.score,a.x,a.y,a.score\n,0.5,1,2,3,1\n", "'0.5' does not|frame"),
    "sleap no nodes": ("track,frame_idx,instance.score\n,0,1\n", "no columns"),
}


@pytest.mark.parametrize("fault", TEXT_FAULTS)
def test_damaged_tables_of_text(tmp_path: Path, fault: str) -> None:
    content, problem = TEXT_FAULTS[fault]
    (tmp_path / "cam ä.csv").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=problem) as error:
        read_keypoints(tmp_path / "cam ä.csv")
    assert "\n" not in str(error.value)
    assert error.value.remedy


def test_pickles_in_hdf5_run_nothing(tmp_path: Path) -> None:
    target = tmp_path / "ran"

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (target,)

    path = tmp_path / "cam1DLC.h5"
    made_up.write_pandas_table(path, np.ones((2, 3)), pickle.dumps([Attack()], 0))
    with pytest.raises(InputError, match="nothing was run"):
        read_keypoints(path)
    assert not target.exists()


HDF5_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "kind of another length": (
        lambda path: made_up.write_pandas_table(path, np.ones((2, 3)), pickle.dumps([("s", "nose", "x")], 0)),
        "no column names; export the file again",
    ),
    "kind is not a list": (
        lambda path: made_up.write_pandas_table(path, np.ones((2, 1)), pickle.dumps([["s", "nose", "x"]], 0)),
        "column names are not text",
    ),
    "kind is damaged": (lambda path: made_up.write_pandas_table(path, np.ones((2, 1)), b"(lp0\nVx"), "damaged"),
    "signature alone": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100), "not a readable HDF5"),
}


@pytest.mark.parametrize("fault", HDF5_FAULTS)
def test_damaged_hdf5_files(tmp_path: Path, fault: str) -> None:
    write, problem = HDF5_FAULTS[fault]
    write(tmp_path / "cam1.h5")
    with pytest.raises(InputError, match=problem) as error:
        read_keypoints(tmp_path / "cam1.h5")
    assert "\n" not in str(error.value)


def test_hdf5_arrays_that_claim_too_much_or_lie_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "cam1.analysis.h5"
    with h5py.File(path, "w") as file:
        file["node_names"] = [b"nose"]
        file.create_dataset("tracks", shape=(10**6, 2, 1, 10**6), dtype="f8", chunks=(1, 2, 1, 1000))
    with pytest.raises(InputError, match="which is too large for the file"):
        read_keypoints(path)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["tracks"] = np.ones((1, 2, 1, 3))
    with h5py.File(path, "w") as file:
        file["node_names"] = [b"nose"]
        file["tracks"] = h5py.ExternalLink(str(other), "tracks")
    with pytest.raises(InputError, match="no known format"):
        read_keypoints(path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"joint": None}, "joint: column is missing"),
        ({"frame": [0.5, 1.5]}, "frame: is of type double, not whole numbers"),
        ({"x_px": ["a", "b"]}, "x_px: is of type string, not numbers"),
        ({"camera": [None, "a"]}, "camera: 1 cells are empty"),
        ({"confidence": [50.0, 70.0]}, "confidence: lies in 50 to 70"),
        ({"frame": [0, -1]}, "frame: is -1 in a line, below 0"),
        ({"frame": [1, 1]}, "nose of camera a, frame 1 occurs twice"),
        ({"joint": ["nose", "Nose"]}, "both mean nose"),
        ({"joint": ["nose", " "]}, "empty name"),
    ],
)
def test_parquet_files_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    columns = {"camera": ["a", "a"], "frame": [0, 1], "joint": ["nose", "nose"], "x_px": [1.0, 2.0]}
    columns |= {"y_px": [10.0, 20.0], "confidence": [0.5, 0.5]} | changes
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path)
    with pytest.raises(InputError, match=re.escape(problem)) as error:
        read_keypoints(path)
    assert error.value.remedy
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="readable Parquet"):
        read_keypoints(path)


@pytest.mark.parametrize("name", ["openpose COCO-18", "coco", "deeplabcut csv", "deeplabcut h5", "sleap h5", "parquet"])
def test_changed_bytes_are_read_or_named(tmp_path: Path, name: str) -> None:
    """Damaged files give detections of the right shape or one line, and no other error."""
    _, joints, write = FORMATS_WRITTEN[name]
    path = tmp_path / "pose"
    write(path, make_keypoints(joints))
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    rng = np.random.default_rng(4)
    messages = []
    for _ in range(15):
        file = files[rng.integers(len(files))]
        content = file.read_bytes()
        damaged = bytearray(content)
        for place in rng.integers(0, len(damaged), rng.choice([1, 4, 30])):
            damaged[place] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            assert read_keypoints(path).cameras
        except InputError as error:
            messages.append(str(error))
        file.write_bytes(content)
    assert len(messages) > 3
    assert not any("\n" in message for message in messages)


def test_paths_without_detections(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_keypoints(tmp_path / "absent")
    with pytest.raises(InputError, match="no known format of 2D detections; convert it to one of openpose"):
        read_keypoints(tmp_path)
    (tmp_path / "a.csv").touch()
    with pytest.raises(InputError, match="file is empty"):
        read_keypoints(tmp_path / "a.csv")
    with pytest.raises(InputError, match="did you mean openpose"):
        read_keypoints(tmp_path, "open_pose")
    with pytest.raises(InputError, match="holds no OpenPose JSON"):
        read_keypoints(tmp_path, "openpose")


def test_folders_with_several_formats(tmp_path: Path) -> None:
    (tmp_path / "cam1.json").write_text(json.dumps([{"image_id": 1, "keypoints": [10.0, 20.0, 0.5] * 17}]))
    (tmp_path / "cam1.csv").write_text(DLC + "0,10,20,0.5\n")
    with pytest.raises(InputError, match="several formats: coco, deeplabcut; choose one with --format"):
        read_keypoints(tmp_path)
    assert read_keypoints(tmp_path, "deeplabcut").joints == ("nose",)


def test_spellings_of_joints() -> None:
    spelt = {"LKnee": "left_knee", "knee_left": "left_knee", "Left Big Toe": "left_big_toe", "MidHip": "pelvis",
             "RSmallToe": "right_small_toe", "hip": "pelvis", "L_Hip": "left_hip", "mouth_right": "right_mouth",
             "Müller": None, "l": None, "": None}  # fmt: skip
    assert {name: canonical_name(name) for name in spelt} == spelt
    for skeleton in JOINT_SETS.values():
        assert [canonical_name(joint) for joint in skeleton.joints] == list(skeleton.joints)
        assert skeleton_of(skeleton.joints) is skeleton
    assert [canonical_name(name) for name in OPENPOSE_NAMES] == list(COCO_18.joints)
    assert unknown_joints(["nose", "nosee", "Schwanz"]) == {"nosee": "nose", "Schwanz": None}


def test_skeletons_of_any_joints() -> None:
    skeleton = skeleton_of(("left_hip", "tail", "right_hip", "left_knee", "right_knee"))
    assert skeleton.root == ("left_hip", "right_hip")
    assert set(skeleton.edges) == {("left_hip", "left_knee"), ("right_hip", "right_knee"), ("left_hip", "right_hip")}
    assert skeleton.flip_pairs == (("left_hip", "right_hip"), ("left_knee", "right_knee"))
    assert skeleton_of(("tail",)).root is None


def test_renamed_joints() -> None:
    keypoints = make_keypoints()
    assert keypoints.renamed({"nose": "snout"}, "rig.yaml: joints").joints[0] == "snout"
    with pytest.raises(InputError, match=r"rig.yaml: joints: nos is not a joint.*did you mean nose"):
        keypoints.renamed({"nos": "snout"}, "rig.yaml: joints")
    with pytest.raises(InputError, match="two joints would be named nose"):
        keypoints.renamed({"left_eye": "nose"}, "rig.yaml: joints")
