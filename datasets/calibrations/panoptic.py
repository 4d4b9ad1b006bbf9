"""Calibrations of CMU Panoptic: JSON with a list ``cameras`` of name, resolution, K, distCoef, R, t, in centimetres."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from poseboard.datasets.calibrations.format import Cameras, Document, Format, has_booleans
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError

_SHAPES = {"resolution": (2,), "K": (3, 3), "R": (3, 3), "t": (3, 1), "distCoef": (5,)}


def entries_of(content: Any, where: str, remedy: str) -> dict[str, Mapping[str, Any]]:
    """Entries of a parsed calibration file by camera name; raise InputError if it has no list of cameras."""
    entries = content.get("cameras") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{where}: cameras", "is not a list of cameras", remedy)
    return {entry["name"]: entry for entry in entries if isinstance(entry.get("name"), str)}


def camera_of(entry: Mapping[str, Any], unit_mm: float, where: str, remedy: str) -> Camera:
    """Make the camera of an entry, mm: ``t`` is multiplied by ``unit_mm``. InputError names a wrong field."""
    fields = {}
    for field, shape in _SHAPES.items():
        values = numbers_below_a_million(entry.get(field))
        if values is None or values.shape != shape:
            raise InputError(
                f"{where}.{field}", f"is missing or not {' x '.join(map(str, shape))} numbers below 10^6", remedy
            )
        fields[field] = values
    width, height = (int(value) for value in fields["resolution"])
    if width < 1 or height < 1:
        raise InputError(f"{where}.resolution", f"is {width} x {height}, not above 0", remedy)
    if min(fields["K"][0, 0], fields["K"][1, 1], fields["K"][2, 2]) <= 0:
        raise InputError(where, "camera K has a focal length that is not above 0", remedy)
    try:
        return Camera(fields["K"], fields["R"], fields["t"] * unit_mm, fields["distCoef"], (width, height))
    except ValueError as error:
        raise InputError(where, str(error), remedy) from None


def numbers_below_a_million(values: Any) -> Array | None:
    """Convert nested lists of numbers below a million (pixels, centimetres) to an array; None for other values."""
    if not isinstance(values, list):
        return None
    try:
        array = np.array(values)
    except (TypeError, ValueError, OverflowError):
        return None
    if array.dtype.kind not in "iuf" or has_booleans(values):
        return None
    if not (np.abs(array.astype(np.float64)) < 1e6).all():  # false for NaN
        return None
    return array.astype(np.float64)


def _recognises(document: Document) -> bool:
    content = document.json
    entries = content.get("cameras") if isinstance(content, dict) else None
    return isinstance(entries, list) and any(isinstance(entry, dict) and "distCoef" in entry for entry in entries)


def _read(document: Document) -> Cameras:
    remedy = "download the file again"
    entries = entries_of(document.json, str(document.path), remedy)
    return Cameras({name: camera_of(entry, 1.0, f"{document.path}: {name}", remedy) for name, entry in entries.items()})


FORMAT = Format(
    name="panoptic",
    title="CMU Panoptic (calibration_<sequence>.json)",
    convention="world to camera, matrix",
    unit="cm",
    recognises=_recognises,
    read=_read,
)
