"""TRC files, as OpenSim documents and reads them: text with tabs, Y up.

    PathFileType <4> (X/Y/Z) <file name>
    DataRate CameraRate NumFrames NumMarkers Units OrigDataRate OrigDataStartFrame OrigNumFrames
    60 60 100 26 mm 60 0 100
    Frame# Time <name> <empty> <empty> <name> …
    <empty> <empty> X1 Y1 Z1 X2 …
    <empty line>
    0 0.000000 <x> <y> <z> …           a missing point has three empty cells

Every row ends with a tab, as in files of OpenSim: its reader drops an empty cell at the end of a line otherwise, and
refuses the row. Time is (frame - OrigDataStartFrame) / DataRate. The format does not state axes; OpenSim's have Y up.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file, read_file, write_file
from poseboard.datasets.motion.motion import MAX_POINTS, Motion

_KEYS = ("DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate", "OrigDataStartFrame",
         "OrigNumFrames")  # fmt: skip
_UNITS_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_EXPORT = "export the file again"


def recognise(path: Path) -> bool:
    """Whether a file starts with `PathFileType`."""
    try:
        with open_file(path) as file:
            return file.read(15).lstrip(b"\xef\xbb\xbf").startswith(b"PathFileType")
    except OSError:
        return False


def write(path: Path, motion: Motion) -> None:
    """Write a TRC file in millimetres with Y up.

    Raises:
        InputError: a name is empty or holds a tab or a line break.
    """
    for name in motion.names:
        if not name.strip() or re.search(r"[\t\r\n]", name):
            raise InputError(path, f"{name!r} is empty or has a tab or line break", "rename the point")
    turned = motion.turned("y")
    rate, count = f"{motion.rate_hz:.10g}", len(motion)
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{path.name}",
        "\t".join(_KEYS),
        f"{rate}\t{rate}\t{count}\t{len(motion.names)}\tmm\t{rate}\t{motion.start_frame}\t{count}",
        "Frame#\tTime\t" + "".join(f"{name}\t\t\t" for name in motion.names),
        "\t\t" + "".join(f"X{i}\tY{i}\tZ{i}\t" for i in range(1, len(motion.names) + 1)),
        "",
    ]
    for frame, time, points, gaps in zip(motion.frames, motion.times_s, turned.points_mm, turned.missing, strict=True):
        cells = [
            "\t\t\t" if gap else f"{x:.4f}\t{y:.4f}\t{z:.4f}\t" for (x, y, z), gap in zip(points, gaps, strict=True)
        ]
        lines.append(f"{frame}\t{time:.6f}\t" + "".join(cells))
    write_file(path, ("\n".join(lines) + "\n").encode())


def read(path: Path) -> Motion:
    """Read a TRC file in mm, cm or m.

    Raises:
        InputError: the header is incomplete, or rows do not have a frame, a time and three cells per marker.
    """
    try:
        text = read_file(path, "check the path").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(path, "is not UTF-8 text", "save the file as UTF-8") from None
    lines = text.splitlines()
    if len(lines) < 5:
        raise InputError(path, f"has {len(lines)} lines: the header is incomplete", _EXPORT)
    header = dict(zip(lines[1].split(), lines[2].split(), strict=False))
    values = {key: _positive(header, key, path) for key in ("DataRate", "NumFrames", "NumMarkers")}
    unit = header.get("Units", "")
    if unit.lower() not in _UNITS_MM:
        raise InputError(f"{path}: Units", f"is {unit[:20]!r}, not mm, cm or m", "export the markers in mm")
    names = tuple(name.strip() for name in lines[3].split("\t")[2:] if name.strip())
    if len(names) != values["NumMarkers"] or not lines[3].startswith("Frame#\tTime"):
        problem = f"names {len(names)} markers, NumMarkers is {values['NumMarkers']:g}"
        raise InputError(f"{path}: line 4", problem, _EXPORT)
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise InputError(f"{path}: line 4", f"names {double} twice", "rename one of the markers")
    frames, points = _rows(lines[5:], len(names), path)
    if len(frames) != values["NumFrames"]:
        problem = f"is {values['NumFrames']:g}, but the file has {len(frames)} frames"
        raise InputError(f"{path}: NumFrames", problem, "copy the file again, or correct the number")
    remarks = ("axes: Y up, as in all TRC files for OpenSim; the file does not state them", f"unit: {unit}")
    filled = _placed(frames, points * _UNITS_MM[unit.lower()], path)
    return Motion(names, filled, values["DataRate"], "y", int(frames[0]) if len(frames) else 0, remarks)


def _positive(header: dict[str, str], key: str, path: Path) -> float:
    try:
        value = float(header[key])
        if not 0 < value < 1e9 or (key != "DataRate" and value != int(value)):
            raise ValueError
    except KeyError:
        raise InputError(f"{path}: {key}", "field is missing", _EXPORT) from None
    except ValueError:
        raise InputError(
            f"{path}: {key}",
            f"is {header[key][:20]!r}, not above 0 and whole",
            "export the file again, or correct the number",
        ) from None
    return value


def _rows(lines: list[str], count: int, path: Path) -> tuple[Array, Array]:
    """Frame numbers (F,) and points (F, N, 3) of the rows after the header."""
    rows = []
    for number, line in enumerate(lines, 6):
        if not line.strip():
            continue
        cells = line.split("\t")
        if cells[-1].strip() == "" and len(cells) == 3 * count + 3:
            cells.pop()
        if len(cells) != 3 * count + 2:
            raise InputError(f"{path}: line {number}", f"has {len(cells)} cells, not {3 * count + 2}", _EXPORT)
        try:
            rows.append([float(cell) if cell.strip() else np.nan for cell in cells])
        except ValueError:
            raise InputError(
                f"{path}: line {number}", "a cell is not a number", "write a number, or leave the cell empty"
            ) from None
    table = np.array(rows, dtype=np.float64).reshape(-1, 3 * count + 2)
    points = table[:, 2:].reshape(-1, count, 3)
    points[~np.isfinite(points).all(axis=2)] = np.nan
    return table[:, 0], points


def _placed(frames: Array, points_mm: Array, path: Path) -> Array:
    """Place points (n, N, 3) at their frame numbers (n,); frames without a row become NaN."""
    if not len(frames):
        return points_mm
    whole = np.isfinite(frames).all() and (frames == np.floor(frames)).all() and (np.abs(frames) < 2**53).all()
    if not whole or (np.diff(frames) < 1).any():
        raise InputError(f"{path}: Frame#", "numbers are not whole and rising", "number the frames 1, 2, 3, …")
    span = int(frames[-1] - frames[0]) + 1
    if span == len(frames):
        return points_mm
    if span > 100 * len(frames) or span * points_mm.shape[1] > MAX_POINTS:
        raise InputError(f"{path}: Frame#", f"{len(frames)} lines span {span} frames", "number the frames 1, 2, 3, …")
    placed = np.full((span, *points_mm.shape[1:]), np.nan)
    placed[(frames - frames[0]).astype(np.int64)] = points_mm
    return placed
