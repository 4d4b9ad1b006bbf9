"""Calibrations of caliscope: camera_array.toml with a table [cameras.<number>] per camera, in metres.

The fields are those of :mod:`poseboard.datasets.calibrations.anipose`. Tables may say ``ignore = true``, and cameras
without a pose have no rotation; both are left out. Older versions wrote tables [cam_<number>] with the field ``port``
into config.toml. Cameras are named cam_<number>, as in caliscope's own export for anipose.
"""

from __future__ import annotations

from typing import Any

from poseboard.datasets.calibrations.anipose import camera_of
from poseboard.datasets.calibrations.format import Cameras, Document, Format
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError


def _tables(document: Document) -> dict[str, dict[str, Any]]:
    """Camera name -> table."""
    values = document.toml or {}
    nested = values.get("cameras")
    if isinstance(nested, dict):
        return {f"cam_{key}": table for key, table in nested.items() if isinstance(table, dict)}
    tables = {key: table for key, table in values.items() if isinstance(table, dict) and "matrix" in table}
    return {f"cam_{table.get('port', table.get('cam_id'))}": table for table in tables.values()}


def _recognises(document: Document) -> bool:
    tables = _tables(document)
    return any("matrix" in table for table in tables.values()) and "cam_None" not in tables


def _read(document: Document) -> Cameras:
    cameras: dict[str, Camera] = {}
    remarks = []
    for name, table in _tables(document).items():
        if table.get("ignore") is True:
            remarks.append(f"{name} is left out: the file says ignore = true")
        elif "rotation" not in table and "translation" not in table:
            remarks.append(f"{name} is left out: the file has no pose of it")
        else:
            cameras[name] = camera_of(table, f"{document.path}: {name}")
    if not cameras:
        raise InputError(document.path, "no camera has a pose", "calibrate the extrinsics in caliscope")
    return Cameras(cameras, tuple(remarks))


FORMAT = Format(
    name="caliscope",
    title="caliscope (camera_array.toml)",
    convention="world to camera, rotation vector",
    unit="m",
    recognises=_recognises,
    read=_read,
)
