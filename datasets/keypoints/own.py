"""Poseboard's own file of 2D detections: one Parquet table for all cameras, one row per joint.

    camera: text, frame: int, person: int, joint: text, x_px: float, y_px: float, confidence: float in 0 to 1

`person` tells people of a frame apart. From 0 on, it is an identity that holds over the frames; negative numbers mean
that people are not tracked. Absent rows are missing joints. Files of other tools need only these columns, and no
`person` if each frame has one person. The metadata `poseboard` of our files holds the order of joints and cameras, so
that cameras without any detection stay known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file, write_file
from poseboard.datasets.keypoints.files import head
from poseboard.datasets.keypoints.joint_sets import canonical_names
from poseboard.datasets.keypoints.people import Cleaner, Keypoints, Options

_COLUMNS = ("camera", "frame", "person", "joint", "x_px", "y_px", "confidence")
_KINDS: dict[str, str] = {"camera": "text", "joint": "text", "frame": "whole numbers", "person": "whole numbers"}
_WRITE = "write the columns " + ", ".join(_COLUMNS)
_METADATA = b"poseboard"


class _Order(msgspec.Struct):
    """Metadata of our files: the order of joints and cameras."""

    joints: list[str]
    cameras: list[str]
    keypoints: int = 1


def recognise(path: Path) -> bool:
    """Whether a file is Parquet."""
    return path.is_file() and head(path, 4) == b"PAR1"


def write_keypoints(path: Path, keypoints: Keypoints) -> None:
    """Write detections as Parquet; equal detections give equal bytes. Missing joints have no row."""
    tables = [_rows(name, index, keypoints) for index, name in enumerate(keypoints.cameras)]
    columns: dict[str, Any] = {
        name: np.concatenate([table[name] for table in tables]) if tables else [] for name in _ROW_TYPES
    }
    arrays: dict[str, Any] = {name: pa.array(columns[name], kind) for name, kind in _ROW_TYPES.items()}
    for name, names in (("camera", list(keypoints.cameras)), ("joint", list(keypoints.joints))):
        arrays[name] = pa.DictionaryArray.from_arrays(arrays[name], pa.array(names, pa.string()))
    order = _Order(list(keypoints.joints), list(keypoints.cameras))
    table = pa.table({name: arrays[name] for name in _COLUMNS})
    table = table.replace_schema_metadata({_METADATA: msgspec.json.encode(order)})
    write_file(path, lambda file: pq.write_table(table, file, compression="zstd"))


_ROW_TYPES = {
    "camera": pa.int32(),
    "frame": pa.int64(),
    "person": pa.int64(),
    "joint": pa.int32(),
    "x_px": pa.float64(),
    "y_px": pa.float64(),
    "confidence": pa.float64(),
}


def _rows(name: str, index: int, keypoints: Keypoints) -> dict[str, np.ndarray[Any, Any]]:
    """Columns of one camera; camera and joint as indices."""
    people = keypoints.cameras[name]
    row, joint = np.nonzero(people.confidence > 0)
    # Untracked people are numbered -1, -2, … within their frame.
    untracked = people.person < 0
    frames = pd.Series(people.frame[untracked])
    person = people.person.copy()
    person[untracked] = -1 - frames.groupby(frames).cumcount().to_numpy()
    return {
        "camera": np.full(len(row), index),
        "frame": people.frame[row],
        "person": person[row],
        "joint": joint,
        "x_px": people.xy_px[row, joint, 0],
        "y_px": people.xy_px[row, joint, 1],
        "confidence": people.confidence[row, joint],
    }


def read(path: Path, options: Options) -> Keypoints:
    """Read a Parquet file of detections; the module docstring describes its columns.

    Raises:
        InputError: a column is missing or of another type, a frame is below 0, or a joint of a person occurs twice in a
            frame.
    """
    if options.joints is not None:
        raise InputError("joints", "the file contains joint names", "leave the option out")
    try:
        with open_file(path) as file:
            table = pq.read_table(file)
        order = _order(table.schema.metadata or {}, path)
        data = {name: table.column(name) for name in table.column_names if table.column_names.count(name) == 1}
        if "person" not in data and "frame" in data:
            data["person"] = pa.chunked_array([pa.array(np.full(len(table), -1))])
        columns = {name: _column(data, name, path) for name in _COLUMNS}
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        problem = f"is not a readable Parquet file ({(str(error).splitlines() or [''])[0][:80]})"
        raise InputError(path, problem, "write the file again") from None
    if len(table) and (least := int(columns["frame"].min())) < 0:
        raise InputError(f"{path}: frame", f"is {least} in a line, below 0", "count frames from 0")
    cameras, camera = _codes(columns["camera"], order.cameras)
    joints, joint = _codes(columns["joint"], order.joints)
    named, remarks = canonical_names(joints, f"{path}: joint")
    cleaner = Cleaner(options.confidence)
    result = {}
    for index, name in enumerate(cameras):
        rows = np.flatnonzero(camera == index)
        frame, person = columns["frame"][rows], columns["person"][rows]
        group = pd.DataFrame({"frame": frame, "person": person}).groupby(["frame", "person"], sort=False).ngroup()
        body = group.to_numpy(dtype=np.int64)
        cells = body * len(joints) + joint[rows]
        _, first, counts = np.unique(cells, return_index=True, return_counts=True)
        if (counts > 1).any():
            row = rows[first[int((counts > 1).argmax())]]
            problem = f"{columns['joint'][row]} of camera {name}, frame {columns['frame'][row]} occurs twice"
            raise InputError(f"{path}: joint", problem, "number the people of a frame in the column person")
        people = int(body.max()) + 1 if len(body) else 0
        flat = np.full((people * len(joints), 3), np.nan)
        flat[cells] = np.stack([columns[c][rows] for c in ("x_px", "y_px", "confidence")], axis=1)
        filled = flat.reshape(people, len(joints), 3)
        _, start = np.unique(body, return_index=True)
        result[name] = cleaner.people(
            frame[start], filled[..., :2], filled[..., 2], np.maximum(person[start], -1), f"{path.name}: {name}"
        )
    if not result:
        raise InputError(path, "holds no detections", _WRITE)
    return Keypoints(named, result, (*remarks, *cleaner.remarks))


def joints_of(path: Path) -> tuple[str, ...]:
    """Joint names of a Parquet file. In our own files, only the metadata is read.

    Raises:
        InputError: the file is not a readable table of detections.
    """
    try:
        order = _order(pq.read_schema(open_file(path)).metadata or {}, path)
    except (pa.ArrowException, OSError) as error:
        problem = f"is not a readable Parquet file ({(str(error).splitlines() or [''])[0][:80]})"
        raise InputError(path, problem, "write the file again") from None
    if order.joints:
        return canonical_names(order.joints, f"{path}: joint")[0]
    return read(path, Options()).joints


def _order(metadata: dict[bytes, bytes], path: Path) -> _Order:
    if _METADATA not in metadata:
        return _Order([], [])
    try:
        order = msgspec.json.decode(metadata[_METADATA], type=_Order)
    except (msgspec.DecodeError, RecursionError):
        raise InputError(f"{path}: metadata", "names no joints and cameras", "write the file again") from None
    if len(set(order.joints)) < len(order.joints) or len(set(order.cameras)) < len(order.cameras):
        raise InputError(f"{path}: metadata", "repeats a joint or a camera", "write the file again")
    return order


def _column(data: dict[str, Any], name: str, path: Path) -> Any:
    """Column as a numpy array of text, integers or floats; InputError for another type or for empty cells."""
    where = f"{path}: {name}"
    if name not in data:
        raise InputError(where, "column is missing", _WRITE)
    column = data[name]
    kind = _KINDS.get(name, "numbers")
    if kind != "numbers" and column.null_count:
        raise InputError(where, f"{column.null_count} cells are empty", "fill the cells, or delete their lines")
    try:
        if kind == "text":
            return column.cast(pa.string()).to_numpy()
        if pa.types.is_boolean(column.type) or pa.types.is_string(column.type):
            raise pa.ArrowInvalid("no number")
        return column.cast(pa.int64() if kind == "whole numbers" else pa.float64()).to_numpy()
    except pa.ArrowException:
        raise InputError(where, f"is of type {column.type}, not {kind}", _WRITE) from None


def _codes(names: Any, known: list[str]) -> tuple[list[str], Any]:
    """Distinct names, starting with ``known``, and the index of each row's name in this list."""
    codes, new = pd.factorize(names)
    order = list(dict.fromkeys([*known, *new.tolist()]))
    place = {name: index for index, name in enumerate(order)}
    return order, np.array([place[name] for name in new.tolist()], dtype=np.int64)[codes] if len(codes) else codes
