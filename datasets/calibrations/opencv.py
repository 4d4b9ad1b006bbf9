"""Calibrations in OpenCV's FileStorage (YAML or XML): EasyMocap's pair of files, or one file per camera in a folder.

EasyMocap, intri.yml and extri.yml in one folder, or all in one file:

    names           camera names
    K_<name>        3 x 3
    dist_<name>     k1, k2, p1, p2, k3
    R_<name>        rotation vector, world to camera; or Rot_<name>, 3 x 3
    T_<name>        x_cam = R X + T
    H_<name>, W_<name>    height and width of the image, optional

One file per camera, named like the camera, such as cam1.yml or OpenPose's <serial>.xml:

    camera_matrix, K or Intrinsics
    distortion_coefficients, dist or Distortion
    CameraMatrix    3 x 4 [R | t]; or R, rvec or rotation with T, t, tvec or translation
    image_width, image_height    optional

The files do not state the unit. Without a size, the image size is (0, 0): not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from poseboard.datasets.calibrations.format import (
    Cameras,
    Document,
    Format,
    distortion,
    image_size,
    make_camera,
    numbers,
    rotation,
)
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError

_PAIR = ("intri", "extri")
_SUFFIXES = (".yml", ".yaml", ".xml")
_K = ("camera_matrix", "K", "Intrinsics")
_DIST = ("distortion_coefficients", "dist", "Distortion")
_R = ("R", "Rot", "rvec", "rotation")
_T = ("T", "t", "tvec", "translation")
_POSE = "CameraMatrix"


def _pair(document: Document) -> dict[str, tuple[Path, Any]]:
    """Values of EasyMocap's files: key -> (file, value). Empty for other documents."""
    if document.files:
        parts = {Path(name).stem: part for name, part in document.files.items() if Path(name).suffix in _SUFFIXES}
        parts = {stem: part for stem, part in parts.items() if stem in _PAIR}
    elif document.path.stem in _PAIR:
        siblings = [document.path.with_stem(stem) for stem in _PAIR]
        parts = {path.stem: Document(path) for path in siblings if path.is_file()}
    else:
        parts = {document.path.stem: document}
    values: dict[str, tuple[Path, Any]] = {}
    for part in parts.values():
        values |= {key: (part.path, value) for key, value in (part.storage or {}).items()}
    return values if "names" in values and any(key.startswith(("K_", "R_", "T_")) for key in values) else {}


def _each(document: Document) -> dict[str, Document]:
    """Camera name -> file of a folder with one file per camera."""
    parts = {Path(name).stem: part for name, part in document.files.items() if Path(name).suffix.lower() in _SUFFIXES}
    return {stem: part for stem, part in parts.items() if part.storage and not part.storage.keys().isdisjoint(_K)}


def _recognises(document: Document) -> bool:
    return bool(_pair(document)) or bool(_each(document))


def _read(document: Document) -> Cameras:
    values = _pair(document)
    if values:
        return _read_pair(document, values)
    each = _each(document)
    others = [name for name in document.files if Path(name).suffix.lower() in _SUFFIXES and Path(name).stem not in each]
    cameras = {name: _of_one(part.storage or {}, str(part.path)) for name, part in each.items()}
    return Cameras(cameras, tuple(f"{name} is left out: no intrinsics can be read from it" for name in others))


def _read_pair(document: Document, values: Mapping[str, tuple[Path, Any]]) -> Cameras:
    path, names = values["names"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{path}: names", "is not a list of camera names", "write the names in quotes")
    if len(set(names)) < len(names):
        raise InputError(f"{path}: names", "repeats a camera", "give each camera its own name")
    intri, extri = (document.path.parent / f"{stem}.yml" for stem in _PAIR)
    if document.files:
        intri, extri = (document.path / f"{stem}.yml" for stem in _PAIR)

    def value(key: str, default: Path) -> tuple[str, Any]:
        of_key, content = values.get(key, (default, None))
        return f"{of_key}: {key}", content

    def array(key: str, shape: tuple[int, ...], default: Path) -> Array:
        where, content = value(key, default)
        return numbers(content, shape, where)

    cameras: dict[str, Camera] = {}
    for name in names:
        where, dist = value(f"dist_{name}", intri)
        coefficients = distortion(dist, where)
        keys = [key for key in (f"R_{name}", f"Rot_{name}") if key in values] or [f"R_{name}"]
        rotations = [rotation(value(key, extri)[1], value(key, extri)[0]) for key in keys]
        if np.abs(rotations[0] - rotations[-1]).max() > 1e-4:
            remedy = f"delete the wrong one of {' and '.join(keys)}"
            raise InputError(f"{values[keys[0]][0]}: {keys[0]}", f"differs from the rotation {keys[1]}", remedy)
        sides = [f"{side}_{name}" for side in "WH"]
        size = (0, 0)
        if all(side in values for side in sides):
            size = image_size([values[side][1] for side in sides], f"{values[sides[0]][0]}: {sides[0]}")
        K, t = array(f"K_{name}", (3, 3), intri), array(f"T_{name}", (3,), extri)
        cameras[name] = make_camera(K, rotations[-1], t, coefficients, size, f"{document.path}: {name}")
    return Cameras(cameras)


def _of_one(values: Mapping[str, Any], where: str) -> Camera:
    """Camera of a file that holds only this camera."""
    K = _first(values, _K)
    dist = _first(values, _DIST)
    if _POSE in values:
        pose = numbers(values[_POSE], (3, 4), f"{where}: {_POSE}")
        R, t = pose[:, :3], pose[:, 3]
    else:
        (r_key, r), (t_key, t_value) = _first(values, _R), _first(values, _T)
        R, t = rotation(r, f"{where}: {r_key}"), numbers(t_value, (3,), f"{where}: {t_key}")
    sides = ("image_width", "image_height")
    size = (0, 0)
    if all(side in values for side in sides):
        size = image_size([values[side] for side in sides], f"{where}: image_width")
    coefficients = distortion(dist[1], f"{where}: {dist[0]}")
    return make_camera(numbers(K[1], (3, 3), f"{where}: {K[0]}"), R, t, coefficients, size, where)


def _first(values: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[str, Any]:
    """First key that the file contains, and its value; the first key and None if the file contains none of them."""
    return next(((key, values[key]) for key in keys if key in values), (keys[0], None))


FORMAT = Format(
    name="opencv",
    title="OpenCV FileStorage: EasyMocap (intri.yml and extri.yml), OpenPose or one file per camera",
    convention="world to camera",
    unit=None,
    recognises=_recognises,
    read=_read,
)
