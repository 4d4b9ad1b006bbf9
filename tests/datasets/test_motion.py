"""Files of 3D points: what each format states, and what comes back from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import ezc3d
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poseboard.datasets.errors import InputError
from poseboard.datasets.keypoints.joint_sets import HALPE_26
from poseboard.datasets.motion import FORMATS, Motion, Up, read_motion, write_motion

AXES: dict[str, Up] = {"trc": "y", "c3d": "z", "parquet": "-y", "csv": "-y"}
"""Vertical axis in each file of a motion with -y up."""


def make_motion(up: Up = "-y", frames: int = 7, names: tuple[str, ...] = HALPE_26.joints) -> Motion:
    """Points of a room of 6 m; one is missing in frame 2, one throughout, and all in the last frame."""
    rng = np.random.default_rng(3)
    points = rng.uniform(-3000, 3000, (frames, len(names), 3))
    points[2, 1], points[:, 4], points[-1] = np.nan, np.nan, np.nan
    return Motion(names, points, 59.94, up, start_frame=12)


@pytest.mark.parametrize("name", AXES)
def test_round_trips(tmp_path: Path, name: str) -> None:
    motion = make_motion()
    path = tmp_path / f"Lauf ü 1.{name}"
    write_motion(path, motion)
    read = read_motion(path)
    assert read.up == AXES[name]
    assert (read.names, read.start_frame, len(read)) == (motion.names, 12, 7)
    assert read.rate_hz == pytest.approx(59.94, rel=1e-6)
    tolerance = {"parquet": 0, "c3d": 3e-4}.get(name, 1e-4)
    np.testing.assert_allclose(read.turned("-y").points_mm, motion.points_mm, rtol=0, atol=tolerance)
    assert np.isnan(read.points_mm[2, 1]).all()


def test_axes_that_opensim_documents() -> None:
    """OpenSim: X forward, Y up, Z right; laboratories: X forward, Y left, Z up."""
    laboratory = Motion(("p",), np.array([[[10.0, 20, 30]]]), 1.0, "z")
    np.testing.assert_array_equal(laboratory.turned("y").points_mm[0, 0], [10, 30, -20])


@pytest.mark.parametrize("up", ["x", "y", "z", "-x", "-y", "-z"])
@pytest.mark.parametrize("target", ["x", "y", "z", "-x", "-y", "-z"])
def test_turning_keeps_shape_and_lifts_the_axis(up: Up, target: Up) -> None:
    axes = {"x": [1.0, 0, 0], "y": [0, 1.0, 0], "z": [0, 0, 1.0]}
    vertical = np.array(axes[up[-1]]) * (-1 if up[0] == "-" else 1)
    expected = np.array(axes[target[-1]]) * (-1 if target[0] == "-" else 1)
    motion = Motion(("a", "b", "c", "d"), np.array([[vertical, *np.eye(3)]]), 1.0, up)
    turned = motion.turned(target)
    np.testing.assert_array_equal(turned.points_mm[0, 0], expected)
    assert np.linalg.det(turned.points_mm[0, 1:]) == pytest.approx(1)
    np.testing.assert_array_equal(turned.turned(up).points_mm, motion.points_mm)


def test_the_header_of_trc_files(tmp_path: Path) -> None:
    points = np.array([[[1.0, 2.0, 3.0], [np.nan] * 3], [[4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]])
    write_motion(tmp_path / "a.trc", Motion(("LKnee", "Nose"), points, 60.0, "y", 5))
    assert (tmp_path / "a.trc").read_text() == (
        "PathFileType\t4\t(X/Y/Z)\ta.trc\n"
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames\n"
        "60\t60\t2\t2\tmm\t60\t5\t2\n"
        "Frame#\tTime\tLKnee\t\t\tNose\t\t\t\n"
        "\t\tX1\tY1\tZ1\tX2\tY2\tZ2\t\n"
        "\n"
        "5\t0.000000\t1.0000\t2.0000\t3.0000\t\t\t\t\n"
        "6\t0.016667\t4.0000\t5.0000\t6.0000\t7.0000\t8.0000\t9.0000\t\n"
    )


def test_rows_as_opensim_splits_them(tmp_path: Path) -> None:
    """OpenSim splits at tabs, drops what follows the last tab if it is empty, and counts the cells."""
    write_motion(tmp_path / "a.trc", make_motion())
    for line in (tmp_path / "a.trc").read_text().split("\n")[6:-1]:
        cells = line.split("\t")
        assert cells.pop() == ""
        assert len(cells) == 2 + 3 * 26


TRC = (
    "PathFileType\t4\t(X/Y/Z)\ta.trc\n"
    "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames\n"
    "60\t60\t2\t1\tm\t60\t0\t2\n"
    "Frame#\tTime\tNose\t\t\t\n"
    "\t\tX1\tY1\tZ1\t\n"
    "0\t0.0\t0.1\t0.2\t0.3\n"
    "2\t0.033\t\t\t\n"
)
"""As Pose2Sim writes it: metres, no empty line, no tab at the end of a row."""


def test_trc_files_of_other_tools(tmp_path: Path) -> None:
    path = tmp_path / "a.trc"
    path.write_bytes(TRC.replace("\n", "\r\n").encode())
    motion = read_motion(path)
    assert len(motion) == 3, "frame 1 has no row: it is missing"
    np.testing.assert_allclose(motion.points_mm[0, 0], [100, 200, 300])
    assert np.isnan(motion.points_mm[1:]).all()
    assert motion.up == "y"
    assert any("Y up" in remark for remark in motion.remarks)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("\tm\t", "\tinch\t", "Units: is 'inch'"),
        ("60\t60\t2\t1", "60\t60\t3\t1", "NumFrames: is 3, but the file has 2 frames"),
        ("60\t60\t2\t1", "60\t60\t2\t4", "names 1 markers, NumMarkers is 4"),
        ("60\t60\t2\t1", "0\t60\t2\t1", "DataRate: is '0'"),
        ("NumFrames", "Frames", "NumFrames: field is missing"),
        ("0.1", "abc", "line 6: a cell is not a number"),
        ("\t0.3\n", "\n", "line 6: has 4 cells, not 5"),
        ("\n2\t", "\n0\t", "Frame#: numbers are not whole and rising"),
        ("\n2\t", "\n2000000000\t", "2 lines span 2000000001 frames"),
        ("Frame#\tTime\tNose\t\t\t\n", "", "line 4"),
    ],
)
def test_damaged_trc_files(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in TRC
    path = tmp_path / "a.trc"
    path.write_text(TRC.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_motion(path)
    assert problem in str(error.value)
    assert error.value.remedy
    assert "\n" not in str(error.value)


def test_what_c3d_files_state(tmp_path: Path) -> None:
    path = tmp_path / "a.c3d"
    motion = make_motion("z")
    write_motion(path, motion)
    file = ezc3d.c3d(str(path))
    point = file["parameters"]["POINT"]
    assert point["UNITS"]["value"] == ["mm"]
    assert (point["X_SCREEN"]["value"], point["Y_SCREEN"]["value"]) == (["+X"], ["+Z"])
    assert point["LABELS"]["value"] == list(motion.names)
    assert file["data"]["points"].shape == (4, 26, 7)
    np.testing.assert_allclose(file["data"]["points"][:3, 0, 0], motion.points_mm[0, 0], rtol=1e-6)
    assert file["data"]["meta_points"]["residuals"][0, 4, 0] == -1, "a missing point"


def test_c3d_files_in_metres_with_y_up_and_many_points(tmp_path: Path) -> None:
    file = ezc3d.c3d()
    names = [f"point{i}" for i in range(300)]
    for parameter, value in (("RATE", [100.0]), ("UNITS", ["m"]), ("LABELS", names)):
        file["parameters"]["POINT"][parameter]["value"] = value
    file.add_parameter("POINT", "Y_SCREEN", ["+Y"])
    file["data"]["points"] = np.full((4, 300, 2), 1.5)
    file.write(str(tmp_path / "a.c3d"))
    motion = read_motion(tmp_path / "a.c3d")
    assert (motion.up, motion.rate_hz, motion.names) == ("y", 100.0, tuple(names))
    assert (motion.points_mm == 1500).all()


@pytest.mark.parametrize("damage", [lambda b: b[:3000], lambda b: b[: len(b) - 600], lambda b: b[:600] + b"\xff" * 600])
def test_damaged_c3d_files(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "a.c3d"
    write_motion(path, make_motion(frames=40))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError) as error:
        read_motion(path)
    assert str(path) in error.value.where
    assert error.value.remedy
    assert "\n" not in str(error.value)


def test_long_motions_do_not_fit_into_c3d(tmp_path: Path) -> None:
    motion = Motion(("a",), np.zeros((65_536, 1, 3)), 100.0, "z")
    with pytest.raises(InputError, match="at most 65535 frames"):
        write_motion(tmp_path / "a.c3d", motion)
    assert not (tmp_path / "a.c3d").exists()


def test_parquet_of_other_tools(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"frame": [3, 4, 6], "time_s": [0.1, 0.2, 0.4], "joint": ["nose", "nose", "neck"]}
    columns |= {axis: [1.0, 2.0, 3.0] for axis in ("x_mm", "y_mm", "z_mm")}
    pq.write_table(pa.table(columns), path)
    motion = read_motion(path)
    assert (motion.names, len(motion), motion.start_frame) == (("nose", "neck"), 4, 3)
    assert motion.rate_hz == pytest.approx(10)
    assert "axes: Z up; the file does not state them" in motion.remarks
    for changes, problem in (
        ({"frame": [3, 3, 6]}, "a point occurs twice in a frame"),
        ({"frame": [3, 4, 2**40]}, "lines span"),
        ({"time_s": [0.1, 0.1, 0.1]}, "time_s: does not rise"),
        ({"joint": [None, "nose", "neck"]}, "cells are empty"),
        ({"x_mm": ["a", "b", "c"]}, "is not a readable table"),
    ):
        pq.write_table(pa.table(columns | changes), path)
        with pytest.raises(InputError, match=problem):
            read_motion(path)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (" 59.94 Hz", "", "line 1: does not state unit, axes and rate"),
        ("nose_y_mm", "nose_y", "line 2: columns are not"),
        ("\n13,", "\n14,", "frame: numbers do not rise by 1"),
        ("\n13,", "\nx,", "line 4: a cell is not a number"),
        ("\n13,", "\n13,7,", "line 4: has 81 cells, not 80"),
    ],
)
def test_damaged_csv_files(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "a.csv"
    write_motion(path, make_motion())
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_motion(path)
    assert problem in str(error.value)


def test_json_for_web_viewers(tmp_path: Path) -> None:
    motion = make_motion("z")
    write_motion(tmp_path / "a.json", motion)
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["unit"], content["up"], content["start_frame"]) == ("mm", "y", 12)
    assert content["frames"][2][1] is None
    np.testing.assert_allclose(content["frames"][0][0], motion.turned("y").points_mm[0, 0], atol=0.0501)
    assert [content["names"][i] for i in content["edges"][0]] == list(HALPE_26.edges[0])
    with pytest.raises(InputError, match="no known format of 3D points; export it as one of trc, c3d, parquet, csv"):
        read_motion(tmp_path / "a.json")


def test_formats_by_suffix(tmp_path: Path) -> None:
    assert all(kind.suffix == f".{name}" for name, kind in FORMATS.items())
    with pytest.raises(InputError, match=r"\.tcr is not a format of 3D points; did you mean \.trc"):
        write_motion(tmp_path / "a.tcr", make_motion())
    with pytest.raises(InputError, match="is empty or has a tab"):
        write_motion(tmp_path / "a.trc", make_motion(names=("a\tb", "c", "d", "e", "f")))
    (tmp_path / "empty.trc").touch()
    with pytest.raises(InputError, match="file is empty"):
        read_motion(tmp_path / "empty.trc")
    with pytest.raises(InputError, match="does not exist"):
        read_motion(tmp_path / "absent.trc")
