"""C3D files by ezc3d: millimetres, Z up, both stated in the file (POINT:UNITS, and POINT:X_SCREEN and Y_SCREEN).

A missing point has the residual -1, as the format's manual asks. Coordinates are 32-bit floats, frames at most 65,535.
A damaged file can crash ezc3d, a C++ library. Files are therefore read in another process, and only that one ends.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ezc3d
import numpy as np

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.datasets.motion.motion import Motion, Up

_UNITS_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_MAX_FRAMES, _LONGEST_NAME = 65_535, 127
_EXPORT = "export the file again"
_SECONDS = 120


def recognise(path: Path) -> bool:
    """Whether a file has C3D's second byte, and parameters where the first byte says."""
    try:
        with path.open("rb") as file:
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
            raise InputError(path, f"{name[:40]!r} cannot be a label", "rename the point")
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
        raise InputError(path, "does not exist", "check the path")
    values = _read_apart(path)
    points, labels = values["points"], values["labels"].tolist()
    unit = str(values["unit"])
    if unit.lower() not in _UNITS_MM:
        raise InputError(f"{path}: POINT:UNITS", f"is {unit[:20]!r}, not mm, cm or m", "correct the parameter")
    rate = float(values["rate"])
    if not (np.isfinite(rate) and rate > 0):
        raise InputError(f"{path}: POINT:RATE", f"is {rate}", "correct the parameter")
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
    """Vertical axis from POINT:Y_SCREEN, and a remark."""
    axes: dict[str, Up] = {"+X": "x", "+Y": "y", "+Z": "z", "-X": "-x", "-Y": "-y", "-Z": "-z"}
    axis = y_screen.strip().upper()
    if axis in axes:
        return axes[axis], f"axes: {axis[1] if axis[0] == '+' else axis} up, by POINT:Y_SCREEN"
    return "z", "axes: Z up, as is usual; the file does not state them"


def _read_apart(path: Path) -> dict[str, Any]:
    """Content of a file, read in another process."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("c3d_process.py")), str(path.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(path, f"cannot be read in {_SECONDS} s", _EXPORT) from None
    if done.returncode == 0:
        with np.load(io.BytesIO(done.stdout), allow_pickle=False) as values:
            return dict(values)
    reason = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["the reader crashed"])[-1]
    raise InputError(path, f"is not a readable C3D file ({reason[:80]})", "copy the file again from its source")
