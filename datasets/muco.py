"""MuCo-3DHP: composites of one to four people of MPI-INF-3DHP; for training.

On disk, below one root, as RootNet publishes it:

    data/MuCo-3DHP.json                     f, c; bbox, keypoints_cam (mm), keypoints_img, keypoints_vis
    data/{augmented_set,unaugmented_set}/   images

World frame: the camera frame, mm. Joints: `MUCO`. Selection of people as in RootNet's release code: the closest person
of an image is used. Other people are used if their root differs from every other root by at least 500 mm in x and y.
People nearer than 1500 mm or farther than 7500 mm are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy  # its parts load when they are used
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.coco_json import (
    File,
    Focal,
    Image,
    Images,
    LeftOut,
    Pair,
    Posed,
    boxed,
    check_millimetres,
    decode,
    posed_joints,
    single_people,
)
from poseboard.datasets.facts import Facts
from poseboard.datasets.photographs import Photographs, Photos, people_of
from poseboard.datasets.skeleton import Skeleton, sides

MUCO = Skeleton(
    name="muco-21",
    joints=(
        *("head_top", "thorax", "right_shoulder", "right_elbow", "right_wrist"),
        *("left_shoulder", "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle"),
        *("left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head"),
        *("right_hand", "left_hand", "right_toe", "left_toe"),
    ),
    edges=(
        ("head_top", "head"),
        ("head", "thorax"),
        ("thorax", "spine"),
        ("spine", "pelvis"),
        ("pelvis", "right_hip"),
        ("pelvis", "left_hip"),
        ("right_hip", "right_knee"),
        ("right_knee", "right_ankle"),
        ("right_ankle", "right_toe"),
        ("left_hip", "left_knee"),
        ("left_knee", "left_ankle"),
        ("left_ankle", "left_toe"),
        ("thorax", "right_shoulder"),
        ("right_shoulder", "right_elbow"),
        ("right_elbow", "right_wrist"),
        ("right_wrist", "right_hand"),
        ("thorax", "left_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("left_elbow", "left_wrist"),
        ("left_wrist", "left_hand"),
    ),
    root="pelvis",
    flip_pairs=sides("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "hand", "toe"),
)
"""MuCo's 21 joints."""

_APART_MM, _NEAREST_MM, _FARTHEST_MM = 500.0, 1500.0, 7500.0
_NO_NEIGHBOUR_MM = 1e7
"""Offset between images in one k-d tree of all people; larger than any distance within an image."""


class _Image(Image, gc=False):
    f: tuple[Focal, Focal]
    c: Pair


class MuCo(Photographs):
    """Adapter of MuCo-3DHP: images such as "augmented_set/0/000000", without a test split.

    The closest person of an image is first. The other people follow in the order of the file.

    Args:
        root: folder with ``data/``.
        synthetic: see `Adapter`.
    """

    name = "muco"
    title = "MuCo-3DHP"
    licence = "non-commercial research, no redistribution"
    obtain = (
        "download the composites and MuCo-3DHP.json from the links in the RootNet README; the generator is on the "
        "SingleShotMultiPerson page of the MPI-INF graphics group (non-commercial research, no redistribution)"
    )
    layout = "muco"
    skeleton = MUCO

    def facts(self, split: str) -> Facts:
        """Facts of a split. Poses are recorded. The source of boxes is not documented; we assume the true joints."""
        return Facts(boxes="true joints", truth=self.truth_source("motion capture"))

    def _file(self, split: str) -> Path | None:
        return self.root / "data" / "MuCo-3DHP.json" if split == "train" else None

    def _folder(self, split: str) -> Path:
        return self.root / "data"

    def _read(self, split: str, path: Path) -> Photos:
        file = decode(path, File[_Image, Posed], self.obtain)
        images, left_out = Images.of(path, file.images), LeftOut()
        joints_mm, joints_px, seen = posed_joints(file.annotations, len(MUCO), path)
        check_millimetres(joints_mm, MUCO.root_index, f"{path}: keypoints_cam")
        people, root = single_people(file, left_out), joints_mm[:, MUCO.root_index]
        image = images.rows([a.image_id for a in file.annotations], f"{path}: annotations")
        closest, apart = np.zeros_like(people), np.zeros_like(people)
        closest[people] = _closest(root[people], image[people])
        apart[people] = _apart(root[people], image[people])
        kept = left_out.keep(closest | apart, people, "people beside others")
        near = np.asarray((root[:, 2] >= _NEAREST_MM) & (root[:, 2] <= _FARTHEST_MM))
        kept = boxed(file, images, left_out.keep(near, kept, "people too near or far"), left_out)
        return Photos(
            images,
            np.array([(*i.f, *i.c) for i in file.images], dtype=np.float64).reshape(-1, 4),
            people_of(images, file.annotations, kept, seen, joints_mm, joints_px),
            left_out,
            order=np.argsort(~closest[kept], kind="stable"),
        )


def _closest(root_mm: Array, image: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask (m,) of the closest person of each image, from roots (m, 3) and images (m,); ties: the first person."""
    closest = np.zeros(len(root_mm), dtype=np.bool_)
    order = np.lexsort([root_mm[:, 2], image])
    closest[order[np.unique(image[order], return_index=True)[1]]] = True
    return closest


def _apart(root_mm: Array, image: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask (m,) of the people far enough in x and y from all others in their image, from roots (m, 3)."""
    if len(root_mm) < 2:
        return np.ones(len(root_mm), dtype=np.bool_)
    places = np.column_stack([root_mm[:, :2], image * _NO_NEIGHBOUR_MM])
    distance = np.asarray(scipy.spatial.KDTree(places).query(places, k=2)[0])
    return np.asarray(distance[:, 1] >= _APART_MM)
