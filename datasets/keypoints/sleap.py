"""SLEAP analysis files, HDF5 or CSV, one per camera.

    tracks (tracks, 2, nodes, frames), point_scores (tracks, nodes, frames), node_names (nodes,)     HDF5
    track,frame_idx,instance.score,<node>.x,<node>.y,<node>.score,…                                  CSV

Other orders of the axes of HDF5 arrays are read where the attribute `dims` names them. The camera is the file name
without `.analysis`. SLEAP's origin is the centre of the first pixel.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import parse_json, read_file
from poseboard.datasets.keypoints import hdf5
from poseboard.datasets.keypoints.files import files_of, head, whole_frames
from poseboard.datasets.keypoints.joint_sets import canonical_names
from poseboard.datasets.keypoints.people import Cleaner, Integers, Keypoints, Options, People

_SUFFIXES = (".h5", ".hdf5", ".csv")
_EXPORT = "export the analysis file again from SLEAP"
_Table = tuple[tuple[str, ...], Integers, Array, Array, Integers]


def recognise(path: Path) -> bool:
    """Whether the first HDF5 file has `tracks` and `node_names`, or the first CSV file the columns of SLEAP."""
    for file in files_of(path, _SUFFIXES)[:1]:
        if hdf5.is_hdf5(file):
            with hdf5.opened(file) as content:
                return {"tracks", "node_names"} <= set(hdf5.names(content))
        return head(file).lstrip(b"\xef\xbb\xbf").startswith(b"track,frame_idx")
    return False


def read(path: Path, options: Options) -> Keypoints:
    """Read the detections of all cameras; the module docstring describes the layout.

    Raises:
        InputError: a file is damaged, or files have different nodes.
    """
    if options.joints is not None:
        raise InputError("joints", "SLEAP files contain joint names", "leave the option out")
    cleaner = Cleaner(options.confidence)
    cameras: dict[str, People] = {}
    nodes: tuple[str, ...] = ()
    for file in files_of(path, _SUFFIXES):
        own, frame, xy, score, track = _from_hdf5(file) if hdf5.is_hdf5(file) else _from_csv(file)
        nodes = nodes or own
        if set(own) != set(nodes):
            raise InputError(f"{file}: node_names", f"are {', '.join(own)}; not {', '.join(nodes)}"[:200],
                             "use one model for all cameras")  # fmt: skip
        order = [own.index(node) for node in nodes]
        camera = file.stem.removesuffix(".analysis")
        if camera in cameras:
            raise InputError(file, f"is of camera {camera}, like another file", "keep one file per camera")
        cameras[camera] = cleaner.people(frame, xy[:, order], score[:, order], track, file.name)
    joints, remarks = canonical_names(nodes, f"{path}: node_names")
    return Keypoints(joints, cameras, (*remarks, *cleaner.remarks))


def _from_hdf5(file: Path) -> _Table:
    with hdf5.opened(file) as content:
        nodes = tuple(hdf5.texts(content, "node_names", file))
        tracks = _axes(content, "tracks", ("track", "xy", "node", "frame"), file)
        if "point_scores" in hdf5.names(content):
            scores = _axes(content, "point_scores", ("track", "node", "frame"), file)
        else:  # files of older versions
            scores = np.ones((tracks.shape[0], *tracks.shape[2:]))
    count, two, joints, frames = tracks.shape
    if two != 2 or joints != len(nodes):
        raise InputError(f"{file}: tracks", f"shape is {tracks.shape}, not (tracks, 2, {len(nodes)}, frames)", _EXPORT)
    if scores.shape != (count, joints, frames):
        raise InputError(f"{file}: point_scores", f"shape is {scores.shape}, not {(count, joints, frames)}", _EXPORT)
    xy = tracks.transpose(3, 0, 2, 1).reshape(-1, joints, 2)
    score = scores.transpose(2, 0, 1).reshape(-1, joints)
    # Labelled instances have no scores: each labelled joint is certain.
    score = np.where(np.isnan(score) & np.isfinite(xy).all(axis=-1), 1.0, score)
    return nodes, np.repeat(np.arange(frames), count), xy, score, np.tile(np.arange(count), frames)


def _axes(content: h5py.File, name: str, order: tuple[str, ...], file: Path) -> Array:
    """Array with its axes in ``order``. Files without the attribute `dims` have this order."""
    values: NDArray[Any] = hdf5.array(content, name, file)
    dims = content[name].attrs.get("dims")
    if dims is not None:
        try:
            stored = parse_json(dims)
            values = values.transpose([stored.index(axis) for axis in order])
        except (TypeError, ValueError, AttributeError):
            raise InputError(f"{file}: {name}.dims", f"does not name the axes {', '.join(order)}", _EXPORT) from None
    if values.ndim != len(order) or values.dtype.kind not in "fiu":
        raise InputError(f"{file}: {name}", f"has {values.ndim} axes of {values.dtype}, not {len(order)}", _EXPORT)
    return values.astype(np.float64)


def _from_csv(file: Path) -> _Table:
    try:
        text = read_file(file, _EXPORT).decode("utf-8-sig")
        header = next(csv.reader(io.StringIO(text)), [])
        table = pd.read_csv(io.StringIO(text), dtype={"track": str})
    except UnicodeDecodeError:
        raise InputError(file, "is not UTF-8 text", "save the file as UTF-8") from None
    except (csv.Error, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(file, f"is not a table ({str(error)[:80].strip()})", _EXPORT) from None
    nodes = tuple(name.removesuffix(".x") for name in header if name.endswith(".x"))
    parts = []
    for name in [f"{node}.{part}" for node in nodes for part in ("x", "y", "score")]:
        if name not in table.columns:
            raise InputError(f"{file}: {name}", "column is missing", _EXPORT)
        if table[name].dtype.kind not in "fiu":
            raise InputError(f"{file}: {name}", f"holds {table[name].dtype}, not numbers", _EXPORT)
        parts.append(table[name].to_numpy(dtype=np.float64))
    if not nodes:
        raise InputError(file, "has no columns <node>.x", _EXPORT)
    if "frame_idx" not in table.columns:
        raise InputError(f"{file}: frame_idx", "column is missing", _EXPORT)
    joints = np.stack(parts, axis=1).reshape(len(table), len(nodes), 3)
    codes, _ = pd.factorize(table["track"])  # -1 for an empty cell: not tracked
    frame = whole_frames(table["frame_idx"].tolist(), f"{file}: frame_idx")
    return nodes, frame, joints[..., :2], joints[..., 2], codes.astype(np.int64)
