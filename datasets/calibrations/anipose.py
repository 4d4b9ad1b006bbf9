"""Calibrations of Pose2Sim, anipose and FreeMoCap: a TOML file with one table per camera.

    [cam_0]
    name = "cam_0"                    camera name; without it, the name of the table
    size = [1920, 1080]               width, height
    matrix = [[fx, 0, cx], …]
    distortions = [k1, k2, p1, p2]    or with k3
    rotation = [rx, ry, rz]           rotation vector, world to camera
    translation = [tx, ty, tz]        x_cam = R X + t
    fisheye = false                   optional

The file does not state the unit: Pose2Sim writes metres, anipose and FreeMoCap the unit of the calibration board.
"""

from __future__ import annotations

from typing import Any

from poseboard.datasets.calibrations.format import (
    Cameras,
    Document,
    Format,
    distortion,
    image_size,
    make_camera,
    numbers,
    refuse_fisheye,
    rotation,
)
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError


def _tables(document: Document) -> dict[str, dict[str, Any]]:
    """Camera tables of the file by name: those with intrinsics or a pose."""
    values = document.toml or {}
    fields = {"matrix", "rotation", "translation"}
    return {key: table for key, table in values.items() if isinstance(table, dict) and fields & table.keys()}


def _recognises(document: Document) -> bool:
    tables = _tables(document).values()
    return bool(tables) and not any({"port", "cam_id"} & table.keys() for table in tables)


def _read(document: Document) -> Cameras:
    cameras: dict[str, Camera] = {}
    for key, table in _tables(document).items():
        where = f"{document.path}: {key}"
        name = table.get("name", key)
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}.name", f"{name!r} is not text", "write the name in quotes")
        if name in cameras:
            raise InputError(f"{where}.name", f"{name!r} names two cameras", "give each camera its own name")
        cameras[name] = camera_of(table, where)
    return Cameras(cameras)


def camera_of(table: dict[str, Any], where: str) -> Camera:
    """Make the camera of one table; ``t`` stays in the unit of the file. The module docstring lists the fields."""
    refuse_fisheye(table.get("fisheye"), f"{where}.fisheye")
    return make_camera(
        numbers(table.get("matrix"), (3, 3), f"{where}.matrix"),
        rotation(table.get("rotation"), f"{where}.rotation"),
        numbers(table.get("translation"), (3,), f"{where}.translation"),
        distortion(table.get("distortions"), f"{where}.distortions"),
        image_size(table.get("size"), f"{where}.size"),
        where,
    )


FORMAT = Format(
    name="anipose",
    title="Pose2Sim, anipose, FreeMoCap (TOML)",
    convention="world to camera, rotation vector",
    unit=None,
    recognises=_recognises,
    read=_read,
)
