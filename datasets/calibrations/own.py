"""Poseboard's own form of cameras, the section ``cameras`` of rig.yaml, in millimetres.

cameras:
  left:
    size: [1920, 1080]            width, height; null: not known
    f: [1450.0, 1450.0]           focal lengths, pixels
    c: [960.0, 540.0]             principal point; instead of f and c: K, 3 x 3
    dist: [k1, k2, p1, p2, k3]    OpenCV's lens model; left out: none
    rotation: [rx, ry, rz]        rotation vector, world to camera; or R, 3 x 3
    t_mm: [tx, ty, tz]            x_cam = R X + t
    offset_frames: 0              frame of the detections = time of the rig in frames + offset
    swap_sides: false             whether left and right joints of the detections are exchanged
    video: null                   file, relative to rig.yaml
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from poseboard.datasets.calibrations.format import Cameras, Document, Format, make_camera, rotation
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError, validated


def _no_text(value: Any) -> Any:
    """Refuse text and booleans, which pydantic would convert to numbers."""
    if isinstance(value, bool | str):
        raise ValueError("is not a number")
    return value


Number = Annotated[float, BeforeValidator(_no_text), Field(allow_inf_nan=False)]
Pixels = Annotated[StrictInt, Field(ge=1, lt=1_000_000)]


class OwnCamera(BaseModel):
    """Fields of one camera in rig.yaml; the module docstring explains them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[Pixels, Pixels] | None = None
    f: tuple[Number, Number] | None = None
    c: tuple[Number, Number] | None = None
    K: tuple[tuple[Number, Number, Number], ...] | None = Field(default=None, min_length=3, max_length=3)
    dist: tuple[Number, Number, Number, Number, Number] | None = None
    rotation: tuple[Number, Number, Number] | None = None
    R: tuple[tuple[Number, Number, Number], ...] | None = Field(default=None, min_length=3, max_length=3)
    t_mm: tuple[Number, Number, Number]
    offset_frames: StrictInt = 0
    swap_sides: StrictBool = False
    video: StrictStr | None = None

    @model_validator(mode="after")
    def _one_form(self) -> OwnCamera:
        if (self.K is None) == (self.f is None) or (self.f is None) != (self.c is None):
            raise ValueError("needs either f and c, or K")
        if (self.rotation is None) == (self.R is None):
            raise ValueError("needs either rotation or R")
        return self

    def camera(self, where: str) -> Camera:
        """Make the camera, world mm; raise InputError if K or R is invalid."""
        if self.f is not None and self.c is not None:
            K = np.array([[self.f[0], 0, self.c[0]], [0, self.f[1], self.c[1]], [0, 0, 1]], dtype=np.float64)
        else:
            K = np.array(self.K, dtype=np.float64)
        R = rotation(self.R if self.rotation is None else self.rotation, f"{where}.rotation")
        dist = np.array(self.dist if self.dist is not None else np.zeros(5), dtype=np.float64)
        return make_camera(K, R, np.array(self.t_mm, dtype=np.float64), dist, self.size or (0, 0), where)


def own_cameras(section: Any, where: str) -> dict[str, OwnCamera]:
    """Validate a section ``cameras``: camera name -> fields. InputError names the wrong camera and field."""
    if not isinstance(section, dict) or not section:
        raise InputError(where, "is not a mapping from camera names to cameras", "write one entry per camera")
    cameras = {}
    for name, fields in section.items():
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}.{name}", "is not a camera name", f'write the name in quotes: "{name}"')
        if not isinstance(fields, dict):
            raise InputError(f"{where}.{name}", "is not a mapping of fields", "write the fields of docs/rig.md")
        cameras[name] = validated(OwnCamera, fields, f"{where}.{name}")
    return cameras


def _recognises(document: Document) -> bool:
    if "cameras" not in (document.text or ""):  # YAML can be read into nearly any text, slowly
        return False
    content = document.yaml
    section = content.get("cameras") if isinstance(content, dict) else None
    return isinstance(section, dict) and any(isinstance(each, dict) and "t_mm" in each for each in section.values())


def _read(document: Document) -> Cameras:
    where = f"{document.path}: cameras"
    cameras = own_cameras(document.yaml["cameras"], where)
    of_rig = [name for name, each in cameras.items() if each.offset_frames or each.swap_sides or each.video]
    remarks = [f"{name}: offset_frames, swap_sides and video are not part of a calibration" for name in of_rig]
    return Cameras({name: each.camera(f"{where}.{name}") for name, each in cameras.items()}, tuple(remarks))


FORMAT = Format(
    name="poseboard",
    title="Poseboard (cameras of rig.yaml)",
    convention="world to camera, rotation vector or matrix",
    unit="mm",
    recognises=_recognises,
    read=_read,
)
