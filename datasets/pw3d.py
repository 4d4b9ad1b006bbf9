"""3DPW: people in the street, recorded by one moving camera; true poses from body-worn sensors.

On disk, below one root, as RootNet publishes the annotations:

    data/3DPW_{train,validation,test}.json      sequence, cam_param (focal, princpt); bbox, joint_cam (metres)
    data/imageFiles/<sequence>/image_%05d.jpg   or imageFiles/ next to data/

World frame: the camera frame, in mm (files: metres). Joints: `SMPL`. Joints that project into the image count as
visible.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.coco_json import (
    COPY,
    Annotation,
    File,
    Focal,
    Image,
    Images,
    LeftOut,
    Pair,
    Triple,
    boxed,
    check_millimetres,
    decode,
    single_people,
)
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.photographs import Photographs, Photos, people_of
from poseboard.datasets.skeleton import Skeleton, sides

_NAMES = (
    *("pelvis", "left_hip", "right_hip", "torso", "left_knee", "right_knee", "spine", "left_ankle", "right_ankle"),
    *("chest", "left_toe", "right_toe", "neck", "left_thorax", "right_thorax", "head", "left_shoulder"),
    *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand"),
)
_PARENTS = (0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
SMPL = Skeleton(
    name="smpl-24",
    joints=_NAMES,
    edges=tuple((_NAMES[parent], name) for parent, name in zip(_PARENTS, _NAMES[1:], strict=True)),
    root="pelvis",
    flip_pairs=sides("hip", "knee", "ankle", "toe", "thorax", "shoulder", "elbow", "wrist", "hand"),
)
"""The 24 joints of SMPL."""

_MM = 1000.0
_SIZE = 3 * len(SMPL)


class _Camera(msgspec.Struct, gc=False):
    focal: tuple[Focal, Focal]
    princpt: Pair


class _Image(Image, gc=False):
    sequence: str
    cam_param: _Camera


class _Annotation(Annotation, kw_only=True, gc=False):
    joint_cam: Annotated[list[float | Triple], msgspec.Meta(min_length=len(SMPL), max_length=_SIZE)]


class Pw3d(Photographs):
    """Adapter of 3DPW: images such as "test/downtown_walking_00/image_00000".

    Args:
        root: folder with ``data/``.
        synthetic: see `Adapter`.
    """

    name = "pw3d"
    title = "3DPW"
    licence = "research only"
    obtain = (
        "download the images from virtualhumans.mpi-inf.mpg.de/3DPW (5 GB; research only, by a form), and "
        "3DPW_{train,validation,test}.json from the links in the RootNet README"
    )
    layout = "pw3d"
    skeleton = SMPL
    splits = ("train", "validation", "test")
    length_unit = "m"

    def facts(self, split: str) -> Facts:
        """Facts of a split. Poses are recorded; boxes enclose the true joints."""
        return Facts(boxes="true joints", truth=self.truth_source("motion capture"))

    def _file(self, split: str) -> Path:
        return self.root / "data" / f"3DPW_{split}.json"

    def _folder(self, split: str) -> Path:
        nested = self.root / "data" / "imageFiles"
        return nested if nested.is_dir() else self.root / "imageFiles"

    def _prefix(self, split: str) -> str:
        return f"{split}/"

    def _read(self, split: str, path: Path) -> Photos:
        file = decode(path, File[_Image, _Annotation], self.obtain)
        entries = [Image(i.id, f"{i.sequence}/{i.file_name}", i.width, i.height) for i in file.images]
        images, left_out = Images.of(path, entries), LeftOut()
        joints_mm = _joints(file.annotations, path)
        check_millimetres(joints_mm, SMPL.root_index, f"{path}: joint_cam")
        intrinsics = np.array([(*i.cam_param.focal, *i.cam_param.princpt) for i in file.images]).reshape(-1, 4)
        image = images.rows([a.image_id for a in file.annotations], f"{path}: annotations")
        seen = _within(joints_mm, intrinsics[image], images.sizes[image])
        kept = boxed(file, images, single_people(file, left_out), left_out)
        people = people_of(images, file.annotations, kept, seen, joints_mm, None)
        scenes = [i.sequence for i in file.images]
        return Photos(images, intrinsics, people, left_out, sequences=scenes, prefix=self._prefix(split))


def _joints(annotations: list[_Annotation], path: Path) -> Array:
    """Read joints (m, 24, 3) mm from lists of 24 x 3 or 72 numbers in metres."""
    for row, annotation in enumerate(annotations):
        nested = sum(isinstance(value, tuple) for value in annotation.joint_cam)
        if (nested, len(annotation.joint_cam)) not in ((len(SMPL), len(SMPL)), (0, _SIZE)):
            raise InputError(f"{path}: annotations[{row}].joint_cam", f"is not {len(SMPL)} x 3 numbers", COPY)
    return np.array([np.reshape(a.joint_cam, -1) for a in annotations]).reshape(-1, len(SMPL), 3) * _MM


def _within(joints_mm: Array, intrinsics: Array, sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask (m, 24) of the joints (m, 24, 3) that project into images with intrinsics (m, 4) and sizes (m, 2)."""
    depth = joints_mm[..., 2:]
    pixels = joints_mm[..., :2] / np.where(depth > 0, depth, np.nan) * intrinsics[:, None, :2] + intrinsics[:, None, 2:]
    return np.asarray(((pixels >= 0) & (pixels < sizes[:, None])).all(axis=-1))
