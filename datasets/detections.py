"""2D detections of people in several views, in VoxelPose's file format for Shelf and Campus.

    pred_<name>_maskrcnn_hrnet_coco.pkl     dict "{camera}_{frame}" -> list of {"pred": 17 x 3}: x px, y px, score
    pred_<name>_maskrcnn_hrnet_coco.npz     the same without a pickle: camera (n,), frame (n,), keypoints (n, 17, 3)

Joints are `skeleton.COCO`. A detector processes each view separately, so people are in any order.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import read_npz
from poseboard.datasets.skeleton import COCO
from poseboard.datasets.unpickle import read_pickle

Detections = dict[tuple[int, int], Array]
"""2D detections: (camera, frame) -> (people, 17, 3) x px, y px, score."""

_COPY = "copy it again from its source"


def detections_name(name: str) -> str:
    """File name of the detections without its suffix.

    Example:
        >>> detections_name("shelf")
        'pred_shelf_maskrcnn_hrnet_coco'
    """
    return f"pred_{name}_maskrcnn_hrnet_coco"


def detections_path(folder: Path, name: str) -> Path | None:
    """Path of the detections in a folder: the .pkl file, else the .npz file, else None."""
    paths = (folder / f"{detections_name(name)}{suffix}" for suffix in (".pkl", ".npz"))
    return next((path for path in paths if path.is_file()), None)


def read_detections(path: Path) -> Detections:
    """Read a file of detections. Views without people may be absent.

    Raises:
        InputError: the file cannot be read or does not contain detections.
    """
    return _from_pickle(path) if path.suffix == ".pkl" else _from_npz(path)


def encode_detections(detections: Mapping[tuple[int, int], Array]) -> bytes:
    """Encode detections as the content of an .npz file; equal detections give equal bytes."""
    counts = [len(people) for people in detections.values()]
    views = np.repeat(np.array(list(detections), dtype=np.int64).reshape(-1, 2), counts, axis=0)
    keypoints = np.concatenate([np.zeros((0, len(COCO), 3)), *detections.values()]).astype(np.float32)
    buffer = io.BytesIO()
    np.savez(buffer, camera=views[:, 0], frame=views[:, 1], keypoints=keypoints)
    return buffer.getvalue()


def boxes_about(joints_px: Array) -> Array:
    """Boxes (P, 4) left, upper, right, lower around joints (P, J, 2), in pixels.

    Example:
        >>> boxes_about(np.array([[[1.0, 5.0], [3.0, 4.0]]])).tolist()
        [[1.0, 4.0, 3.0, 5.0]]
    """
    if not len(joints_px):
        return np.zeros((0, 4))
    return np.concatenate([joints_px.min(axis=1), joints_px.max(axis=1)], axis=1)


def _from_pickle(path: Path) -> Detections:
    """Read the published format: ``"{camera}_{frame}"`` -> list of ``{"pred": 17 x 3}``."""
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise InputError(path, f"holds a {type(content).__name__}, not a dict of detections", _COPY)
    detections = {}
    for entry, people in content.items():
        where, match = f"{path}: {str(entry)[:40]}", re.fullmatch(r"([0-9]+)_([0-9]+)", str(entry))
        if match is None:
            raise InputError(where, "key is not CAMERA_FRAME, two numbers", _COPY)
        try:
            joints = [np.asarray(person["pred"], dtype=np.float64).reshape(len(COCO), 3) for person in people]
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            problem = f'is not a list of people with "pred" of shape 17 x 3 ({str(error)[:80]})'
            raise InputError(where, problem, _COPY) from None
        detections[int(match[1]), int(match[2])] = np.array(joints).reshape(-1, len(COCO), 3)
    return detections


def _from_npz(path: Path) -> Detections:
    """Read the arrays camera (n,), frame (n,), keypoints (n, 17, 3)."""
    try:
        arrays = read_npz(path)
        camera, frame, keypoints = (arrays[name] for name in ("camera", "frame", "keypoints"))
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]}", "array is missing", _COPY) from None
    except (OSError, ValueError) as error:
        raise InputError(path, f"is damaged or truncated ({str(error)[:80]})", _COPY) from None
    if keypoints.shape != (len(keypoints), len(COCO), 3) or not camera.shape == frame.shape == keypoints.shape[:1]:
        raise InputError(f"{path}: keypoints", f"shape is {keypoints.shape}, not (people, 17, 3)", _COPY)
    order = np.lexsort((frame, camera))  # stable: people of a view stay in their order
    entries = np.stack([camera, frame], axis=1)[order]
    starts = np.flatnonzero(np.append(True, (entries[1:] != entries[:-1]).any(axis=1))) if len(order) else order
    people = np.split(keypoints[order].astype(np.float64), starts[1:])
    return {(int(c), int(f)): of_view for (c, f), of_view in zip(entries[starts], people, strict=False)}
