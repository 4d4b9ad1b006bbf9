"""Tables of 3D points: Parquet with one row per point, and CSV with one row per frame.

Parquet: frame: int, time_s: float, joint: text, x_mm, y_mm, z_mm: float; missing points have no row.
         The schema's metadata `poseboard` holds names, rate, vertical axis and the first and last frame.
CSV:     # Poseboard motion: unit mm, z up, 60 Hz
         frame,time_s,left_knee_x_mm,left_knee_y_mm,left_knee_z_mm,…       missing points have empty cells
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file, read_file, write_file
from poseboard.datasets.motion.motion import MAX_POINTS, Motion, Up

_METADATA = b"poseboard"
_COORDINATES = ("x_mm", "y_mm", "z_mm")
_WRITE = "write the columns frame, time_s, joint, x_mm, y_mm, z_mm"
_COMMENT = re.compile(r"# Poseboard motion: unit mm, (-?[xyz]) up, ([0-9.eE+-]+) Hz\s*")
_CSV_REMEDY = (
    "write the first line `# Poseboard motion: unit mm, z up, 60 Hz` and the columns frame, time_s, <name>_x_mm, …"
)


class _Header(msgspec.Struct):
    names: list[str]
    rate_hz: float
    up: Up
    start_frame: int
    frames: int
    motion: int = 1


def recognise_parquet(path: Path) -> bool:
    """Whether a file is Parquet."""
    return _start(path).startswith(b"PAR1")


def recognise_csv(path: Path) -> bool:
    """Whether a file starts with the comment of our CSV files."""
    return _start(path).lstrip(b"\xef\xbb\xbf").startswith(b"# Poseboard motion")


def write_parquet(path: Path, motion: Motion) -> None:
    """Write a Parquet file in the axes of the motion; equal motions give equal bytes."""
    row, joint = np.nonzero(~motion.missing)
    names = pa.array(list(motion.names), pa.string())
    columns: dict[str, Any] = {
        "frame": motion.frames[row],
        "time_s": motion.times_s[row],
        "joint": pa.DictionaryArray.from_arrays(pa.array(joint, pa.int32()), names),
    }
    columns |= {name: motion.points_mm[row, joint, axis] for axis, name in enumerate(_COORDINATES)}
    header = _Header(list(motion.names), motion.rate_hz, motion.up, motion.start_frame, len(motion))
    table = pa.table(columns).replace_schema_metadata({_METADATA: msgspec.json.encode(header)})
    write_file(path, lambda file: pq.write_table(table, file, compression="zstd"))


def read_parquet(path: Path) -> Motion:
    """Read a Parquet file of points. Files of other tools need a column `time_s`; they are read as Z up.

    Raises:
        InputError: a column is missing or of another type, or a point occurs twice in a frame.
    """
    try:
        with open_file(path) as file:
            table = pq.read_table(file)
        for name in ("frame", "joint", *_COORDINATES):
            if table.column_names.count(name) != 1:
                raise InputError(f"{path}: {name}", "column is missing", _WRITE)
        frame = table.column("frame").cast(pa.int64()).to_numpy()
        joint = table.column("joint").cast(pa.string()).to_numpy()
        xyz = np.stack([table.column(name).cast(pa.float64()).to_numpy() for name in _COORDINATES], axis=1)
        if table.column("frame").null_count or table.column("joint").null_count:
            raise InputError(f"{path}: frame, joint", "cells are empty", "fill both columns, or delete these lines")
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        problem = f"is not a readable table ({(str(error).splitlines() or [''])[0][:80]})"
        raise InputError(path, problem, _WRITE) from None
    header, remarks = _header(table, frame, joint, path)
    if not 0 <= header.frames * len(header.names) <= MAX_POINTS:
        raise InputError(f"{path}: frame", f"{len(frame)} lines span {header.frames} frames", "count the frames from 0")
    index = {name: i for i, name in enumerate(header.names)}
    columns = np.array([index.get(name, -1) for name in joint.tolist()], dtype=np.int64)
    rows = frame - header.start_frame
    if (columns < 0).any() or ((rows < 0) | (rows >= header.frames)).any():
        raise InputError(f"{path}: metadata", "names other frames or joints than the columns", "write the file again")
    cells = rows * len(header.names) + columns
    if len(np.unique(cells)) < len(cells):
        raise InputError(f"{path}: joint", "a point occurs twice in a frame", "keep one person per file")
    points = np.full((header.frames * len(header.names), 3), np.nan)
    points[cells] = np.where(np.isfinite(xyz).all(axis=1)[:, None], xyz, np.nan)
    placed = points.reshape(header.frames, len(header.names), 3)
    return Motion(tuple(header.names), placed, header.rate_hz, header.up, header.start_frame, remarks)


def _header(table: Any, frame: Any, joint: Any, path: Path) -> tuple[_Header, tuple[str, ...]]:
    """Read names, rate, axes and frames from the metadata; a file without metadata: from its rows."""
    metadata = (table.schema.metadata or {}).get(_METADATA)
    if metadata is not None:
        try:
            header = msgspec.json.decode(metadata, type=_Header)
        except (msgspec.DecodeError, RecursionError):
            raise InputError(f"{path}: metadata", "does not describe a motion", "write the file again") from None
        if len(set(header.names)) < len(header.names) or not (np.isfinite(header.rate_hz) and header.rate_hz > 0):
            raise InputError(f"{path}: metadata", "repeats a name or has no rate", "write the file again")
        return header, ()
    try:
        times = table.column("time_s").cast(pa.float64()).to_numpy()
    except (KeyError, pa.ArrowException):
        raise InputError(f"{path}: time_s", "column is missing, so the frame rate is unknown", _WRITE) from None
    first, last = (int(frame.argmin()), int(frame.argmax())) if len(frame) else (0, 0)
    rate = (
        (frame[last] - frame[first]) / (times[last] - times[first])
        if len(frame) and times[last] > times[first]
        else 0.0
    )
    if not (np.isfinite(rate) and rate > 0):
        raise InputError(f"{path}: time_s", "does not rise with the frame", "write the time of each frame in seconds")
    names = list(dict.fromkeys(joint.tolist()))
    span = int(frame[last] - frame[first]) + 1
    remarks = ("axes: Z up; the file does not state them", f"rate: {rate:.6g} Hz, by time_s")
    return _Header(names, float(rate), "z", int(frame[first]), span), remarks


def write_csv(path: Path, motion: Motion) -> None:
    """Write a CSV file in the axes of the motion."""
    text = io.StringIO()
    text.write(f"# Poseboard motion: unit mm, {motion.up} up, {motion.rate_hz:.10g} Hz\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["frame", "time_s", *(f"{name}_{axis}" for name in motion.names for axis in _COORDINATES)])
    for frame, time, points, gaps in zip(motion.frames, motion.times_s, motion.points_mm, motion.missing, strict=True):
        cells = ["" if gap else f"{value:.4f}" for point, gap in zip(points, gaps, strict=True) for value in point]
        writer.writerow([frame, f"{time:.6f}", *cells])
    write_file(path, text.getvalue().encode())


def read_csv(path: Path) -> Motion:
    """Read a CSV file that `write_csv` wrote.

    Raises:
        InputError: the comment or a column is missing, or a cell is not a number.
    """
    try:
        lines = read_file(path, "check the path").decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(path, "is not UTF-8 text", "save the file as UTF-8") from None
    comment = _COMMENT.fullmatch(lines[0]) if lines else None
    try:
        rate = float(comment[2]) if comment else np.nan
        rows = list(csv.reader(lines[1:]))
    except (ValueError, csv.Error):
        rate, rows = np.nan, []
    if comment is None or not (np.isfinite(rate) and rate > 0) or not rows:
        raise InputError(f"{path}: line 1", "does not state unit, axes and rate", _CSV_REMEDY)
    columns = rows[0]
    names = tuple(name.removesuffix("_x_mm") for name in columns[2::3])
    if columns != ["frame", "time_s", *(f"{name}_{axis}" for name in names for axis in _COORDINATES)]:
        raise InputError(f"{path}: line 2", "columns are not frame, time_s, <name>_x_mm, _y_mm, _z_mm", _CSV_REMEDY)
    if len(set(names)) < len(names):
        raise InputError(f"{path}: line 2", "a point occurs twice", "rename one of the points")
    table = _numbers(rows[1:], len(columns), path)
    frames = table[:, 0]
    if len(frames) and not (np.isfinite(frames).all() and (np.diff(frames) == 1).all()):
        raise InputError(f"{path}: frame", "numbers do not rise by 1", "write a line for every frame")
    points = table[:, 2:].reshape(-1, len(names), 3)
    points[~np.isfinite(points).all(axis=2)] = np.nan
    up: Up = next(axis for axis in get_args(Up) if axis == comment[1])
    return Motion(names, points, rate, up, int(frames[0]) if len(frames) else 0)


def _numbers(rows: list[list[str]], count: int, path: Path) -> Array:
    table = []
    for number, row in enumerate(rows, 3):
        if len(row) != count:
            raise InputError(f"{path}: line {number}", f"has {len(row)} cells, not {count}", "write the file again")
        try:
            table.append([float(cell) if cell.strip() else np.nan for cell in row])
        except ValueError:
            raise InputError(
                f"{path}: line {number}", "a cell is not a number", "write a number, or leave the cell empty"
            ) from None
    return np.array(table, dtype=np.float64).reshape(-1, count)


def _start(path: Path) -> bytes:
    try:
        with open_file(path) as file:
            return file.read(32)
    except OSError:
        return b""
