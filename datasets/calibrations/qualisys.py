"""Calibrations of Qualisys Track Manager: .qca.txt or XML, ``<calibration><cameras><camera>``, in millimetres.

    transform   x, y, z: camera centre; r11 … r33: rows of the rotation world to camera, in Qualisys' camera axes (x
                right, y up, z backward), so the second and third row change their sign for OpenCV's axes
    intrinsic   focal lengths and principal point in 1/64 px of the sensor; distortion on normalised coordinates
    fov_video   part of the sensor that the video shows: left, top, right, bottom, inclusive

Marker cameras record no video and are left out. Without ``model``, all cameras are read. The distortion coefficients
are dimensionless. Pose2Sim 0.10.49 divides them by 64 as well; the chessboard images of its demo confirm the values of
the file (k1 −0.047 to −0.062 by OpenCV, −0.046 to −0.048 in the file).
"""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from poseboard.datasets.calibrations.format import Cameras, Document, Format, image_size, make_camera
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError

_SUBPIXELS = 64.0
_AXES = np.diag([1.0, -1.0, -1.0])
_VIDEO_MODELS = ("video", "none")


def _elements(document: Document) -> list[ElementTree.Element]:
    root = document.xml
    return [] if root is None or root.tag.lower() != "calibration" else root.findall("cameras/camera")


def _recognises(document: Document) -> bool:
    return any(element.find("transform") is not None for element in _elements(document))


def _read(document: Document) -> Cameras:
    cameras: dict[str, Camera] = {}
    remarks = []
    for index, element in enumerate(_elements(document)):
        where = f"{document.path}: camera {index + 1}"
        name = element.get("serial", "").strip()
        if not name:
            raise InputError(f"{where}.serial", "attribute is missing", "export the calibration again")
        where = f"{document.path}: {name}"
        model = element.get("model", "none")
        if not any(kind in model.lower() for kind in _VIDEO_MODELS):
            remarks.append(f"{name} is left out: {model} records markers, not video")
            continue
        if name in cameras:
            raise InputError(f"{where}.serial", "names two cameras", "give each camera its own serial")
        if (turned := element.get("viewrotation", "0")) not in ("", "0"):
            remarks.append(f"{name}: viewrotation {turned} is not applied; the calibration is of the unrotated image")
        cameras[name] = _camera(element, where)
    if not cameras:
        raise InputError(document.path, "no camera records video", "export the calibration of the video cameras")
    return Cameras(cameras, tuple(remarks))


def _camera(element: ElementTree.Element, where: str) -> Camera:
    left, top, right, bottom = (
        _number(element, "fov_video", side, where) for side in ("left", "top", "right", "bottom")
    )
    fu, fv, cu, cv, skew = (
        _number(element, "intrinsic", field, where, default) / _SUBPIXELS
        for field, default in (
            *(("focalLengthU", None), ("focalLengthV", None), ("centerPointU", None), ("centerPointV", None)),
            ("skew", 0.0),
        )
    )
    dist = [
        _number(element, "intrinsic", field, where, default)
        for field, default in (
            *(("radialDistortion1", None), ("radialDistortion2", None)),
            *(("tangentalDistortion1", None), ("tangentalDistortion2", None), ("radialDistortion3", 0.0)),
        )
    ]
    rows = [[_number(element, "transform", f"r{i}{j}", where) for j in (1, 2, 3)] for i in (1, 2, 3)]
    R = _AXES @ np.array(rows)
    centre = np.array([_number(element, "transform", axis, where) for axis in "xyz"])
    K = np.array([[fu, skew, cu - left], [0, fv, cv - top], [0, 0, 1]])
    size = image_size([right - left + 1, bottom - top + 1], f"{where}.fov_video")
    return make_camera(K, R, -R @ centre, np.array(dist), size, where)


def _number(element: ElementTree.Element, tag: str, field: str, where: str, default: float | None = None) -> float:
    part = element.find(tag)
    text = None if part is None else part.get(field)
    if text is None:
        if default is not None and part is not None:
            return default
        raise InputError(f"{where}.{tag}.{field}", "attribute is missing", "export the calibration again")
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{where}.{tag}.{field}", f"{text[:40]!r} is not a number", "export the calibration again")
    return value


FORMAT = Format(
    name="qualisys",
    title="Qualisys (.qca.txt or XML)",
    convention="camera centre, and rotation in Qualisys' camera axes",
    unit="mm",
    recognises=_recognises,
    read=_read,
)
