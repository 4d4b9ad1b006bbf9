"""MPII Human Pose: photographs of people with manual 2D annotations; for training.

On disk, below one root:

    annotations/train.json     in one of its two published forms
    images/*.jpg

RootNet's form is COCO-style: ``file_name`` begins "images/"; ``bbox``, ``num_keypoints``, ``keypoints`` = 16 x (x, y,
v). The form of simple baselines, HRNet and mmpose is a list of people: ``image``, ``center``, ``scale`` (in 200 px),
``joints``, ``joints_vis``. It has no boxes and no image sizes. Sizes are read from the images. A person's box is the
square of side 200 x scale about the centre moved down by 15 x scale, as in the code of these releases.

Cameras are not calibrated; `mscoco` describes the assumed intrinsics. People with key points are used. Joints: `MPII`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import PIL.Image

from poseboard.datasets.camera import Array
from poseboard.datasets.coco_json import (
    COPY,
    File,
    Flag,
    Image,
    Images,
    KeyPoints,
    LeftOut,
    Pair,
    corners,
    decode,
    used_boxes,
)
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.files import open_file
from poseboard.datasets.photographs import (
    People,
    Photographs,
    Photos,
    assumed_intrinsics,
    key_points,
    labelled_photos,
)
from poseboard.datasets.skeleton import Skeleton, sides

MPII = Skeleton(
    name="mpii-16",
    joints=(
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "neck"),
        *("head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
    ),
    edges=(
        ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"),
        ("right_hip", "pelvis"),
        ("thorax", "right_shoulder"),
        ("right_shoulder", "right_elbow"),
        ("right_elbow", "right_wrist"),
        ("left_ankle", "left_knee"),
        ("left_knee", "left_hip"),
        ("left_hip", "pelvis"),
        ("thorax", "left_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("left_elbow", "left_wrist"),
        ("pelvis", "thorax"),
        ("thorax", "neck"),
        ("neck", "head_top"),
    ),
    root="pelvis",
    flip_pairs=sides("ankle", "knee", "hip", "wrist", "elbow", "shoulder"),
)
"""MPII's 16 joints."""

_SCALE_PX, _DOWN_PX = 200.0, 15.0


class _Person(msgspec.Struct, gc=False):
    image: str
    center: Pair
    scale: float
    joints: Annotated[list[Pair], msgspec.Meta(min_length=len(MPII), max_length=len(MPII))]
    joints_vis: Annotated[list[Flag], msgspec.Meta(min_length=len(MPII), max_length=len(MPII))]


class Mpii(Photographs):
    """Adapter of MPII: photographs such as "images/015601864", with 2D ground truth only and no test split.

    Args:
        root: folder with ``annotations/`` and ``images/``.
        synthetic: see `Adapter`.
    """

    name = "mpii"
    title = "MPII Human Pose"
    licence = "annotations for research, no commercial use; images are YouTube frames"
    obtain = (
        "download the images from human-pose.mpi-inf.mpg.de (12.9 GB; research, no commercial use), and the "
        "annotations as JSON from the links in the RootNet README, or from HRNet or mmpose"
    )
    skeleton = MPII

    def facts(self, split: str) -> Facts:
        """Facts of a split. Joints are annotated by hand; boxes are computed from these joints."""
        return Facts(boxes="true joints", truth=self.truth_source("annotated"))

    def _file(self, split: str) -> Path | None:
        return self.root / "annotations" / "train.json" if split == "train" else None

    def _folder(self, split: str) -> Path:
        return self.root

    def _read(self, split: str, path: Path) -> Photos:
        either: Any = File[Image, KeyPoints] | list[_Person]
        file: File[Image, KeyPoints] | list[_Person] = decode(path, either, self.obtain)
        return self._of_list(file, path) if isinstance(file, list) else labelled_photos(file, path, len(MPII))

    def _of_list(self, file: list[_Person], path: Path) -> Photos:
        names = list(dict.fromkeys(person.image for person in file))
        number = {name: row for row, name in enumerate(names)}
        Images.of(path, [Image(row, name, 1, 1) for row, name in enumerate(names)])  # before any path is made of a name
        entries = [Image(row, f"images/{name}", *_size(self.root / "images" / name)) for row, name in enumerate(names)]
        images, left_out = Images.of(path, entries), LeftOut()
        image = np.array([number[person.image] for person in file], dtype=np.int64)
        values = [[(*place, v) for place, v in zip(p.joints, p.joints_vis, strict=True)] for p in file]
        joints_px, seen = key_points(
            np.array(values, dtype=np.float64).reshape(-1, len(MPII), 3), f"{path}: [{{}}].joints_vis"
        )
        boxes = _boxes(np.array([(*person.center, person.scale) for person in file], dtype=np.float64).reshape(-1, 3))
        kept = left_out.keep(np.asarray(seen.any(axis=1)), np.ones(len(file), dtype=np.bool_), "without key points")
        kept = used_boxes(boxes, images.sizes[image], kept, left_out)
        people = People(
            image[kept], corners(boxes[kept]), seen[kept], None, joints_px[kept], np.full(int(kept.sum()), -1)
        )
        return Photos(images, assumed_intrinsics(images), people, left_out)


def _boxes(centre_scale: Array) -> Array:
    """Boxes (m, 4) x, y, width, height, pixels, from 1-based centres and scales (m, 3): x, y, scale."""
    side = _SCALE_PX * centre_scale[:, 2:]
    centre = centre_scale[:, :2] - 1 + np.array([0.0, _DOWN_PX]) * centre_scale[:, 2:]
    return np.concatenate([centre - side / 2, side, side], axis=1)


def _size(path: Path) -> tuple[int, int]:
    """Width and height of an image from its header."""
    try:
        with open_file(path) as file, PIL.Image.open(file) as image:
            return image.size
    except (OSError, PIL.Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "is not an image"
        raise InputError(path, f"size cannot be read ({reason}), and the annotations do not state it", COPY) from None
