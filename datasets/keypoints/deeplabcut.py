"""DeepLabCut CSV and HDF5 files, one per camera; also written by Lightning Pose.

    scorer,DLC_resnet50…,…        <- header rows of the columns; `individuals` only for several animals
    individuals,mouse1,…
    bodyparts,nose,nose,nose,…
    coords,x,y,likelihood,…
    0,431.2,120.4,0.98,…          <- frame

The camera is the file name up to `DLC`. HDF5 files are tables of pandas with pickled column names. These are read by a
reader that admits lists, tuples and strings only; nothing of the file is executed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import read_file
from poseboard.datasets.keypoints import hdf5
from poseboard.datasets.keypoints.files import files_of, head, whole_frames
from poseboard.datasets.keypoints.joint_sets import canonical_names
from poseboard.datasets.keypoints.people import Cleaner, Integers, Keypoints, Options, People
from poseboard.datasets.unpickle import decode_pickle

_LEVELS = ("scorer", "individuals", "bodyparts", "coords")
_SUFFIXES = (".csv", ".h5", ".hdf5")
_CSV = "export the file again from DeepLabCut, as CSV"
Columns = Sequence[tuple[str, ...]]


def recognise(path: Path) -> bool:
    """Whether the first CSV file starts with `scorer`, or the first HDF5 file holds a table of pandas."""
    for file in files_of(path, _SUFFIXES)[:1]:
        if hdf5.is_hdf5(file):
            with hdf5.opened(file) as content:
                return any("pandas_type" in content[name].attrs for name in hdf5.names(content))
        return head(file).lstrip(b"\xef\xbb\xbf").startswith((b"scorer,", b'"scorer"'))
    return False


def read(path: Path, options: Options) -> Keypoints:
    """Read the detections of all cameras. If a CSV and an HDF5 file have the same name, the HDF5 file is read.

    Raises:
        InputError: a file is damaged, files have different body parts, or two files are of the same camera.
    """
    if options.joints is not None:
        raise InputError("joints", "DeepLabCut files contain joint names", "leave the option out")
    cleaner = Cleaner(options.confidence)
    files = files_of(path, _SUFFIXES)
    stems = {file.stem for file in files if file.suffix.lower() != ".csv"}
    cameras: dict[str, People] = {}
    parts: tuple[str, ...] = ()
    source: dict[str, Path] = {}
    for file in files:
        if file.suffix.lower() == ".csv" and file.stem in stems:
            cleaner.remarks.append(f"{file.name} is left out: the HDF5 file has the same name")
            continue
        camera = re.split(r"DLC[_A-Z]", file.stem)[0].rstrip("_-. ") or file.stem
        if camera in source:
            raise InputError(file, f"is of camera {camera}, like {source[camera].name}", "keep one file per camera")
        source[camera] = file
        columns, index, values = _from_hdf5(file) if hdf5.is_hdf5(file) else _from_csv(file)
        own, frame, joints, person = _people(columns, index, values, file)
        parts = parts or own
        if set(own) != set(parts):
            raise InputError(f"{file}: bodyparts", f"are {', '.join(own)}; not {', '.join(parts)}"[:200],
                             "use one model for all cameras")  # fmt: skip
        joints = joints[:, [own.index(part) for part in parts]]
        cameras[camera] = cleaner.people(frame, joints[..., :2], joints[..., 2], person, file.name)
    joints_named, remarks = canonical_names(parts, f"{path}: bodyparts")
    return Keypoints(joints_named, cameras, (*remarks, *cleaner.remarks))


def _people(
    columns: Columns, index: Sequence[Any], values: Array, file: Path
) -> tuple[tuple[str, ...], Integers, Array, Integers]:
    """Return body parts, frames (n,), joints (n, J, 3) and identities (n,), n = individuals times rows."""
    if len({column[0] for column in columns}) > 1:
        raise InputError(f"{file}: scorer", "names several scorers", "export one scorer per file")
    if any(len(column) not in (3, 4) for column in columns) or not columns:
        raise InputError(file, "header levels are not scorer, (individuals,) bodyparts, coords", _CSV)
    several = len(columns[0]) == 4
    animals = tuple(dict.fromkeys(column[1] for column in columns)) if several else ("",)
    parts = tuple(dict.fromkeys(column[-2] for column in columns))
    table = np.full((len(values), len(animals), len(parts), 3), np.nan)
    filled = np.zeros(table.shape[1:], dtype=np.bool_)
    coords = {"x": 0, "y": 1, "likelihood": 2}
    for number, column in enumerate(columns):
        if column[-1] not in coords:
            raise InputError(f"{file}: coords", f"has {column[-1]!r}", "name the columns x, y, likelihood")
        place = (animals.index(column[1]) if several else 0, parts.index(column[-2]), coords[column[-1]])
        if filled[place]:
            raise InputError(f"{file}: columns", f"{column[-2]} {column[-1]} occurs twice", _CSV)
        table[:, *place] = values[:, number]
        filled[place] = True
    # Labelled frames have no likelihood: each labelled joint is certain.
    table[..., 2] = np.where(filled[..., 2], table[..., 2], 1.0)
    frame = np.repeat(whole_frames(index, f"{file}: frame"), len(animals))
    person = np.tile(np.arange(len(animals)) if several else np.array([-1]), len(values))
    return parts, frame, table.reshape(-1, len(parts), 3), person


def _from_csv(file: Path) -> tuple[Columns, list[Any], Array]:
    """Read column names, frame index and values of a CSV file."""
    try:
        text = read_file(file, _CSV).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(file, "is not UTF-8 text", "save the file as UTF-8") from None
    try:
        rows = csv.reader(io.StringIO(text))
        header: list[list[str]] = []
        for row in rows:
            if not row or row[0] not in _LEVELS:
                break
            header.append(row)
        if [row[0] for row in header] not in (list(_LEVELS), [_LEVELS[0], *_LEVELS[2:]]):
            raise InputError(file, "header lines are not scorer, (individuals,) bodyparts, coords", _CSV)
        # Labelled frames may have three index columns; the others have an empty header.
        first = next((i for i, cell in enumerate(header[0][1:], 1) if cell), 1)
        if len({len(row) for row in header}) != 1 or first >= len(header[0]):
            raise InputError(file, "header lines have different lengths", _CSV)
        width = len(header[0])
        body = [row for row in csv.reader(io.StringIO(text)) if row][len(header) :]
        short = next((number for number, row in enumerate(body) if len(row) != width), None)
        if short is not None:
            raise InputError(f"{file}: record {short}", f"has {len(body[short])} cells, not {width}", _CSV)
    except csv.Error as error:
        raise InputError(file, f"is not a table ({str(error)[:80].strip()})", _CSV) from None
    columns = list(zip(*(row[first:] for row in header), strict=True))
    cells = pd.DataFrame([row[first:] for row in body], columns=range(width - first), dtype=str)
    return columns, [row[first - 1] for row in body], _numbers(cells, file, columns)


def _numbers(cells: pd.DataFrame, file: Path, columns: Columns) -> Array:
    values = np.full(cells.shape, np.nan)
    for number in range(cells.shape[1]):
        column = cells.iloc[:, number].fillna("").str.strip()
        parsed = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
        bad = np.isnan(parsed) & ~column.str.lower().isin(["", "nan", "na"]).to_numpy(dtype=np.bool_)
        if bad.any():
            row = int(bad.argmax())
            where = f"{file}: {' '.join(columns[number][-2:])}[{row}]"
            raise InputError(where, f"{column.iloc[row][:40]!r} is not a number", _CSV)
        values[:, number] = parsed
    return values


def _from_hdf5(file: Path) -> tuple[Columns, list[Any], Array]:
    """Read column names, frame index and values of the only pandas table in an HDF5 file."""
    with hdf5.opened(file) as content:
        tables = [name for name in hdf5.names(content) if "pandas_type" in content[name].attrs]
        if len(tables) != 1:
            raise InputError(file, f"holds {len(tables)} tables of pandas, not 1", _CSV)
        group = content[tables[0]]
        if "table" in hdf5.names(group):
            return _from_table(group, file)
        if "block0_values" in hdf5.names(group):
            return _from_blocks(group, file)
        raise InputError(file, "holds no table that can be read without running code", _CSV)


def _from_table(group: h5py.Group, file: Path) -> tuple[Columns, list[Any], Array]:
    """Read a table of `to_hdf(format="table")`: a compound data set with pickled column names in attributes."""
    table = hdf5.array(group, "table", file)
    fields = table.dtype.names or ()
    blocks = [name for name in fields if name.startswith("values_block_")]
    columns: list[tuple[str, ...]] = []
    values = []
    for name in blocks:
        pickled = group["table"].attrs.get(f"{name}_kind")
        kind = decode_pickle(bytes(pickled), f"{file}: {name}_kind") if isinstance(pickled, bytes) else None
        block = table[name].reshape(len(table), -1)
        if not isinstance(kind, list) or len(kind) != block.shape[1]:
            raise InputError(f"{file}: {name}", "has no column names", _CSV)
        columns += [_column(column, file) for column in kind]
        values.append(_floats(block, file))
    if not blocks or "index" not in fields:
        raise InputError(file, "table has no index or no values", _CSV)
    return columns, table["index"].tolist(), np.concatenate(values, axis=1)


def _from_blocks(group: h5py.Group, file: Path) -> tuple[Columns, list[Any], Array]:
    """Read a table of `to_hdf(format="fixed")`: levels and labels of the columns, and one array of values."""
    if "block1_values" in hdf5.names(group):
        raise InputError(file, "table has columns of several types", _CSV)
    levels = int(np.asarray(group.attrs.get("block0_items_nlevels", 0)))
    if levels not in (3, 4):
        raise InputError(file, f"columns have {levels} levels, not 3 or 4", _CSV)
    names = []
    for level in range(levels):
        texts = np.array(hdf5.texts(group, f"block0_items_level{level}", file), dtype=object)
        labels = hdf5.array(group, f"block0_items_label{level}", file)
        if labels.dtype.kind not in "iu" or not ((labels >= 0) & (labels < len(texts))).all():
            raise InputError(f"{file}: block0_items_label{level}", "is not an index of names", _CSV)
        names.append(texts[labels].tolist())
    values = _floats(hdf5.array(group, "block0_values", file), file)
    index = hdf5.array(group, "axis1", file)
    columns = list(zip(*names, strict=False))
    if values.shape != (len(index), len(columns)):
        raise InputError(f"{file}: block0_values", f"shape is {values.shape}, not {(len(index), len(columns))}", _CSV)
    return columns, index.tolist(), values


def _column(column: Any, file: Path) -> tuple[str, ...]:
    if not isinstance(column, tuple) or not all(isinstance(part, str) for part in column):
        raise InputError(file, "column names are not text", _CSV)
    return column


def _floats(values: NDArray[Any], file: Path) -> Array:
    if values.dtype.kind not in "fiu" or values.ndim != 2:
        raise InputError(file, f"values are of type {values.dtype}, not numbers", _CSV)
    return values.astype(np.float64)
