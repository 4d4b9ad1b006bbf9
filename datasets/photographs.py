"""Base class of the adapters of single photographs with any number of people.

The world frame of a photograph is its camera's frame (R = I, t = 0). Its only view is called "camera". Boxes and truth
have the same people in the same order, unless the boxes are a detector's. Joints without 3D annotation are NaN in
``Truth.joints_mm``; ``Truth.annotated`` has their 2D annotation.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.adapter import Adapter
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.coco_json import (
    COPY,
    AnnotationT,
    Boxes,
    ByImage,
    File,
    Image,
    Images,
    KeyPoints,
    LeftOut,
    boxed,
    corners,
    single_people,
    visible,
)
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import DataState
from poseboard.datasets.files import files_sha256
from poseboard.datasets.sample import Group, ReadImage, Sample, Truth, View

CAMERA = "camera"
"""Name of the only view of a photograph."""

ASSUMED_FOCAL_PX = 1500.0
"""Assumed focal length of photographs without calibration (RootNet)."""


@dataclass(frozen=True, eq=False)
class People:
    """Columns of the m annotated people of a file.

    Args:
        image: (m,) row of each person's image.
        boxes_px: (m, 4) left, upper, right, lower.
        seen: (m, J) whether a joint is annotated as visible.
        joints_mm: (m, J, 3) poses in the camera frame; None: no 3D annotation.
        joints_px: (m, J, 2) joints in the image, NaN for unlabelled joints; None: the projections of ``joints_mm``.
        ids: (m,) ids of the annotations, -1 for those without an id.
    """

    image: NDArray[np.int64]
    boxes_px: Array
    seen: NDArray[np.bool_]
    joints_mm: Array | None
    joints_px: Array | None
    ids: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Photos:
    """Columns of the n images of one split.

    Args:
        images: ids, names and sizes of the images.
        intrinsics: (n, 4) fx, fy, cx, cy, px.
        people: annotated people.
        left_out: counts of unused entries.
        boxes: boxes of the views; None: the boxes of ``people``.
        order: rows of ``people`` in the order of boxes and ground truth; unlisted rows are left out.
        sequences: name of each image's scene; None: each image is a sequence.
        empty: whether to keep images without people.
        prefix: first part of the keys.
    """

    images: Images
    intrinsics: Array
    people: People
    left_out: LeftOut
    boxes: Boxes | None = None
    order: NDArray[np.int64] | None = None
    sequences: Sequence[str] | None = None
    empty: bool = False
    prefix: str = ""
    rows: dict[str, int] = field(init=False)
    """Key of a sample -> row of its image."""

    def __post_init__(self) -> None:
        names = (os.path.splitext(name)[0] for name in self.images.names)
        keys = [self.prefix + name for name in names]
        if len(set(keys)) < len(keys):
            again = Counter(keys).most_common(1)[0][0]
            raise InputError(f"{self.images.path}: images", f"{again} occurs twice", COPY)
        kept = self.of_people.counts > 0
        if self.empty:
            kept[:] = True
        else:
            self.left_out.keep(kept, np.ones(len(keys), dtype=np.bool_), "images without people")
        if not len(self.of_people.rows):
            raise InputError(self.images.path, f"holds no person to use{self.left_out}", COPY)
        object.__setattr__(self, "rows", {keys[row]: row for row in np.flatnonzero(kept).tolist()})

    @cached_property
    def of_people(self) -> ByImage:
        """Rows of ``people`` of each image."""
        return ByImage.of(self.people.image, len(self.images.ids), self.order)

    @cached_property
    def of_boxes(self) -> ByImage | None:
        """Rows of ``boxes`` of each image."""
        return None if self.boxes is None else ByImage.of(self.boxes.image, len(self.images.ids))

    def camera(self, row: int) -> Camera:
        """Camera of an image, at the origin of the world frame."""
        fx, fy, cx, cy = self.intrinsics[row]
        width, height = self.images.sizes[row].tolist()
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        return Camera(K, np.eye(3), np.zeros(3), np.zeros(5), (width, height))


class Photographs(Adapter):
    """Adapter of a data set of photographs. Subclasses read each split as `Photos`.

    `inspect` counts the entries that are left out. Reading an image raises InputError if the image is absent,
    unreadable or not of the annotated size.

    Args:
        root: folder of the data set.
        synthetic: see `Adapter`.
    """

    views = (CAMERA,)
    length_unit: ClassVar[Literal["mm", "m"]] = "mm"
    """Unit of the published files, and of exchanged predictions."""

    def __init__(self, root: Path, synthetic: bool = False) -> None:
        super().__init__(root, synthetic)
        self._read_splits: dict[str, Photos] = {}

    @abstractmethod
    def _file(self, split: str) -> Path | None:
        """Path of the annotation file of a split; None if the data set lacks the split."""

    @abstractmethod
    def _folder(self, split: str) -> Path:
        """Path of the folder of a split's images."""

    @abstractmethod
    def _read(self, split: str, path: Path) -> Photos:
        """Read the annotations of a split."""

    def _prefix(self, split: str) -> str:
        """First part of all keys of a split."""
        return ""

    def _options(self) -> Mapping[str, object]:
        """Names and values of the options that select or change labels."""
        return {}

    def _other_files(self) -> Sequence[Path]:
        """Paths of the files that are required in addition to the annotations."""
        return ()

    def inspect(self) -> tuple[DataState, str]:
        """Ready if annotations can be read and all their images exist; counts used and unused people."""
        files = {split: path for split in self.splits if (path := self._file(split)) is not None}
        present = [split for split, path in files.items() if path.is_file()]
        if not present:
            return "missing", f"no {next(iter(files.values()))}"
        for path in self._other_files():
            if not path.is_file():
                return "missing", f"no {path}"
        details, absent = [], [f"no {path}" for split, path in files.items() if split not in present]
        for split in present:
            photos = self._photos(split)
            people = len(photos.of_people.rows)
            details.append(f"{split}: {len(photos.rows)} images, {people} people{photos.left_out}")
            names = [photos.images.names[row] for row in photos.rows.values()]
            missing = _absent(self._folder(split), names)
            if missing:
                absent.append(f"{len(missing)} of {len(names)} images are missing, first {missing[0]}")
        return "partial" if absent else "ready", "; ".join([*details, *absent])

    def content_sha256(self) -> str:
        """SHA-256 of the annotations, other required files, and options."""
        annotations = [path for split in self.splits if (path := self._file(split)) is not None]
        if not any(path.is_file() for path in annotations):
            raise InputError(annotations[0], "there is no such file", self.obtain)
        options = str(sorted(self._options().items()))
        return files_sha256(options, (*annotations, *self._other_files()), self.obtain)

    def keys(self, split: str) -> Sequence[str]:
        """Keys of a split: names of the images in the order of the annotation file.

        A split without an annotation file is empty. If all splits lack the file, InputError is raised.
        """
        self.check_split(split)
        path = self._file(split)
        if path is None or (not path.is_file() and any(self._has(other) for other in self.splits)):
            return ()
        return tuple(self._photos(split).rows)

    def sample(self, key: str) -> Sample:
        """Sample of one photograph, with the boxes of its people."""
        split, photos, row = self._find(key)
        camera = photos.camera(row)
        image = ReadImage.of(self._folder(split) / photos.images.names[row], camera.size)
        boxes, scores = photos.people.boxes_px[photos.of_people[row]], None
        if photos.boxes is not None and photos.of_boxes is not None:
            chosen = photos.of_boxes[row]
            boxes = photos.boxes.boxes_px[chosen]
            scores = None if photos.boxes.scores is None else photos.boxes.scores[chosen]
        return Sample(key, (View(CAMERA, camera, image, boxes, box_scores=scores),), self._group(key, photos, row))

    def truth(self, key: str) -> Truth:
        """True poses (P, J, 3), mm in the camera frame; NaN for joints without 3D annotation."""
        _, photos, row = self._find(key)
        people, chosen = photos.people, photos.of_people[row]
        seen = people.seen[chosen]
        joints = np.full((*seen.shape, 3), np.nan) if people.joints_mm is None else people.joints_mm[chosen]
        annotated = {}
        if people.joints_px is not None:
            annotated = {CAMERA: photos.camera(row).normalised(people.joints_px[chosen])}
        return Truth(joints, {CAMERA: seen}, annotated)

    def image_id(self, key: str, view: str = CAMERA) -> int:
        """Id of a sample's image in the annotation file, used in exchanged prediction files."""
        _, photos, row = self._find(key)
        return int(photos.images.ids[row])

    def annotation_ids(self, key: str) -> list[int]:
        """Annotation ids of the people of a sample, in the order of ``truth``."""
        _, photos, row = self._find(key)
        return [int(number) for number in photos.people.ids[photos.of_people[row]]]

    def _group(self, key: str, photos: Photos, row: int) -> Group:
        sequence = key if photos.sequences is None else photos.sequences[row]
        return Group(self.name, sequence if photos.sequences is not None else self.name, sequence)

    def _has(self, split: str) -> bool:
        path = self._file(split)
        return path is not None and path.is_file()

    def _photos(self, split: str) -> Photos:
        if split not in self._read_splits:
            path = self._file(split)
            assert path is not None, f"{self.name} has no {split}"
            self._read_splits[split] = self._read(split, path)
        return self._read_splits[split]

    def _find(self, key: str) -> tuple[str, Photos, int]:
        for split in self.splits:
            if self._has(split) and key.startswith(self._prefix(split)):
                photos = self._photos(split)
                if key in photos.rows:
                    return split, photos, photos.rows[key]
        files = [path for split in self.splits if (path := self._file(split)) is not None]
        raise self.unknown_key(key, files[0])


def _absent(folder: Path, names: Sequence[str]) -> list[str]:
    """Select the ``names`` that are missing below ``folder``. Listing each folder is faster than a stat per file."""
    files: dict[str, set[str]] = {}
    absent = []
    for name in names:
        parent, _, file = name.rpartition("/")
        if parent not in files:
            try:
                files[parent] = set(os.listdir(folder / parent))
            except OSError:
                files[parent] = set()
        if file not in files[parent]:
            absent.append(name)
    return absent


def people_of(
    images: Images,
    annotations: Sequence[AnnotationT],
    kept: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    joints_mm: Array | None,
    joints_px: Array | None,
) -> People:
    """Collect the columns of the annotated people in the mask ``kept`` (m,); other arguments have m rows."""
    used = [annotations[row] for row in np.flatnonzero(kept).tolist()]
    return People(
        images.rows([a.image_id for a in used], f"{images.path}: annotations"),
        corners(np.array([a.bbox for a in used])),
        seen[kept],
        None if joints_mm is None else joints_mm[kept],
        None if joints_px is None else joints_px[kept],
        np.array([a.id for a in used], dtype=np.int64),
    )


def labelled_photos(
    file: File[Image, KeyPoints], path: Path, joints: int, prefix: str = "", counted: bool = False
) -> Photos:
    """Convert COCO-style 2D annotations to `Photos`. Only single people with key points are used.

    Raises:
        InputError: an annotation has another number of key points than ``joints``, or, if ``counted``, of labelled ones
            than its ``num_keypoints``.
    """
    images, left_out = Images.of(path, file.images), LeftOut()
    for row, annotation in enumerate(file.annotations):
        if len(annotation.keypoints) != 3 * joints:
            where = f"{path}: annotations[{row}].keypoints"
            raise InputError(where, f"has {len(annotation.keypoints)} numbers, not {3 * joints}", COPY)
    values = np.array([a.keypoints for a in file.annotations], dtype=np.float64).reshape(-1, joints, 3)
    joints_px, seen = key_points(values, f"{path}: annotations[{{}}].keypoints")
    counts = np.array([a.num_keypoints for a in file.annotations], dtype=np.int64)
    miscounted = (counts > 0) & (seen.sum(axis=1) != counts)
    if counted and miscounted.any():
        row = int(miscounted.argmax())
        where = f"{path}: annotations[{row}].num_keypoints"
        raise InputError(where, f"is {counts[row]}, and {seen[row].sum()} key points are labelled", COPY)
    labelled = seen.any(axis=1) & (counts > 0)
    kept = left_out.keep(labelled, single_people(file, left_out), "people without key points")
    kept = boxed(file, images, kept, left_out)
    people = people_of(images, file.annotations, kept, seen, None, joints_px)
    return Photos(images, assumed_intrinsics(images), people, left_out, prefix=prefix)


def assumed_intrinsics(images: Images) -> Array:
    """Assumed intrinsics (n, 4) of uncalibrated photographs: focal length 1500 px, centre of the image (RootNet)."""
    return np.concatenate([np.full((len(images.ids), 2), ASSUMED_FOCAL_PX), images.sizes / 2], axis=1)


def key_points(values: Array, where: str) -> tuple[Array, NDArray[np.bool_]]:
    """Split COCO's x, y, v (m, J, 3) into pixels (m, J, 2), NaN for v = 0, and the mask v > 0 (m, J).

    InputError names ``where``, with {} for the row, if v is not 0, 1 or 2.
    """
    seen = visible(values[..., 2], where)
    return np.where(seen[..., None], values[..., :2], np.nan), seen
