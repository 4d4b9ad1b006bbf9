"""C3D files by ezc3d: millimetres, Z up, both stated in the file (POINT:UNITS, and POINT:X_SCREEN and Y_SCREEN).

A missing point has the residual -1, as the format's manual requires. Coordinates are 32-bit floats. A file holds at
most 65,535 frames. A damaged file can crash ezc3d, a C++ library. Files are therefore read in a separate process.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import ezc3d
import numpy as np

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file, read_apart, write_file
from poseboard.datasets.motion.motion import Motion, Up

_UNITS_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_MAX_FRAMES, _LONGEST_NAME = 65_535, 127
_EXPORT = "export the file again"


def recognise(path: Path) -> bool:
    """Whether a file has C3D's second byte, 0x50, and a parameter block at the block number in its first byte."""
    try:
        with open_file(path) as file:
            start = file.read(2)
            if len(start) < 2 or start[1] != 0x50 or not start[0]:
                return False
            file.seek(512 * (start[0] - 1))
            return len(file.read(4)) == 4
    except OSError:
        return False


def write(path: Path, motion: Motion) -> None:
    """Write a C3D file in millimetres with Z up.

    Raises:
        InputError: there are too many frames for the format, or a name is too long.
    """
    if len(motion) > _MAX_FRAMES:
        raise InputError(path, f"C3D holds at most {_MAX_FRAMES} frames, not {len(motion)}", "write TRC or Parquet")
    for name in motion.names:
        if not name.strip() or len(name.encode()) > _LONGEST_NAME:
            raise InputError(path, f"point name {name[:40]!r} has not 1 to {_LONGEST_NAME} bytes", "rename the point")
    points, missing = motion.turned("z").points_mm.transpose(2, 1, 0), motion.missing.T
    data = np.ones((4, *points.shape[1:]))
    data[:3] = np.where(missing, 0.0, points)
    file = ezc3d.c3d()
    del file["data"]["meta_points"]
    file["parameters"]["POINT"]["RATE"]["value"] = [motion.rate_hz]
    file["parameters"]["POINT"]["UNITS"]["value"] = ["mm"]
    file["parameters"]["POINT"]["LABELS"]["value"] = list(motion.names)
    file["data"]["points"] = data
    file["data"]["meta_points"] = {
        "residuals": np.where(missing, -1.0, 0.0)[None],
        "camera_masks": np.zeros((7, *missing.shape), dtype=np.bool_),
    }
    file["header"]["points"]["first_frame"] = motion.start_frame
    file.add_parameter("POINT", "X_SCREEN", ["+X"])
    file.add_parameter("POINT", "Y_SCREEN", ["+Z"])
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "motion.c3d"
        file.write(str(temporary))
        content = temporary.read_bytes()
    write_file(path, content)


def read(path: Path) -> Motion:
    """Read the points of a C3D file.

    Raises:
        InputError: the file is damaged, truncated, has no points, or does not state a known unit.
    """
    if not path.is_file():
        raise InputError(path, "does not exist", "correct the path")
    content = read_apart(Path(__file__).with_name("c3d_process.py"), path, kind="C3D", remedy=_EXPORT)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        values = dict(arrays)
    points, labels = values["points"], values["labels"].tolist()
    unit = str(values["unit"])
    if unit.lower() not in _UNITS_MM:
        raise InputError(f"{path}: POINT:UNITS", f"is {unit[:20]!r}, not mm, cm or m", "export the points in mm")
    rate = float(values["rate"])
    if not (np.isfinite(rate) and rate > 0):
        raise InputError(f"{path}: POINT:RATE", f"is {rate}, not above 0", "set it to the frame rate in Hz")
    names = [label.strip() for label in labels[: points.shape[1]]]
    if len(names) < points.shape[1] or not names:
        raise InputError(f"{path}: POINT:LABELS", f"has {len(names)} names for {points.shape[1]} points", _EXPORT)
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise InputError(f"{path}: POINT:LABELS", f"repeats {double!r}", "rename one of the points")
    stated = int(values["stated_frames"])
    if points.shape[2] < stated:
        raise InputError(path, f"holds {points.shape[2]} of {stated} frames", "copy the file again from its source")
    points_mm = points[:3].transpose(2, 1, 0) * _UNITS_MM[unit.lower()]
    points_mm[(values["residuals"].T < 0) | ~np.isfinite(points_mm).all(axis=2)] = np.nan
    up, axes = _up(str(values["y_screen"]))
    return Motion(tuple(names), points_mm, rate, up, int(values["first_frame"]), (axes, f"unit: {unit}"))


def _up(y_screen: str) -> tuple[Up, str]:
    """Vertical axis from POINT:Y_SCREEN, and a remark about it for the user."""
    axes: dict[str, Up] = {"+X": "x", "+Y": "y", "+Z": "z", "-X": "-x", "-Y": "-y", "-Z": "-z"}
    axis = y_screen.strip().upper()
    if axis in axes:
        return axes[axis], f"axes: {axis[1] if axis[0] == '+' else axis} up, by POINT:Y_SCREEN"
    return "z", "axes: Z up, as is usual; the file does not state them"
