"""Data sets of single photographs with any number of people: what their adapters share.

The world frame of a photograph is its camera's frame (R = I, t = 0), its one view is called "camera". Rows of the truth
are the people of the boxes, unless the boxes are those of a detector. A joint that nobody has placed in 3D is NaN in
``Truth.joints_mm``; where its place in the image is labelled, ``Truth.annotated`` has it.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
    files_sha256,
    single_people,
)
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts, TruthSource
from poseboard.datasets.sample import FileState, Group, ReadImage, Sample, Status, Truth, View, read_image
from poseboard.datasets.skeleton import Skeleton
from poseboard.datasets.synthetic.manifest import NAME, verify_files

CAMERA = "camera"
"""Name of the one view of a photograph."""

ASSUMED_FOCAL_PX = 1500.0
"""Focal length of photographs whose camera nobody knows."""


@dataclass(frozen=True, eq=False)
class People:
    """The m annotated people of a file, in columns.

    Args:
        image: (m,) row of the image.
        boxes_px: (m, 4) left, upper, right, lower.
        seen: (m, J) whether a joint is annotated as visible.
        joints_mm: (m, J, 3) in the camera's frame, or None: nobody knows.
        joints_px: (m, J, 2), NaN where a joint is not labelled; None: the projections of ``joints_mm``.
        ids: (m,) of the annotations, -1 where they have none.
    """

    image: NDArray[np.int64]
    boxes_px: Array
    seen: NDArray[np.bool_]
    joints_mm: Array | None
    joints_px: Array | None
    ids: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Photos:
    """The n images of one split, in columns.

    Args:
        images: their ids, names and sizes.
        intrinsics: (n, 4) fx, fy, cx, cy, px.
        people: annotated.
        left_out: entries that are not used.
        boxes: those that are handed over instead of the ones of ``people``.
        order: rows of ``people`` in the order in which those of an image are handed over, without those that are not.
        sequences: name of each image's scene; None: each image is one of its own.
        empty: whether images without people are kept.
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
    """Key -> row of the image."""

    def __post_init__(self) -> None:
        names = (os.path.splitext(name)[0] for name in self.images.names)
        keys = [self.prefix + name for name in names]
        if len(set(keys)) < len(keys):
            again = Counter(keys).most_common(1)[0][0]
            raise InputError(f"{self.images.path}: images", f"{again} stands twice", COPY)
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
        """Annotated people of each image."""
        return ByImage.of(self.people.image, len(self.images.ids), self.order)

    @cached_property
    def of_boxes(self) -> ByImage | None:
        """The boxes of each image that are handed over instead."""
        return None if self.boxes is None else ByImage.of(self.boxes.image, len(self.images.ids))

    def camera(self, row: int) -> Camera:
        """Of an image, at the origin of its own frame."""
        fx, fy, cx, cy = self.intrinsics[row]
        width, height = self.images.sizes[row].tolist()
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        return Camera(K, np.eye(3), np.zeros(3), np.zeros(5), (width, height))


class Photographs(ABC):
    """Base of an adapter: a `Dataset` over `Photos`, one for each split that the data set has.

    Annotations of a split are read whole at the first question that needs them. What is left out of them is counted in
    ``status()``. An image that is absent, unreadable or of another size than its annotation says is an InputError
    when it is read, and makes the state "partial" where it is absent.

    Args:
        root: folder of the data set.
        synthetic: whether these are rendered people; a tree with a ``manifest.json`` of our generator always is.
    """

    name: str
    skeleton: Skeleton
    splits: tuple[str, ...] = ("train", "test")
    views = (CAMERA,)
    obtain: str
    length_unit: Literal["mm", "m"] = "mm"
    """Of the published files, which exchanged files have as well; everything here is in millimetres."""

    def __init__(self, root: Path, synthetic: bool = False) -> None:
        self.root = Path(root)
        self._is_generated = (self.root / NAME).is_file()
        self.synthetic = synthetic or self._is_generated
        self._read_splits: dict[str, Photos] = {}

    @abstractmethod
    def facts(self, split: str) -> Facts:
        """Whose boxes, and whose truth."""

    @abstractmethod
    def _file(self, split: str) -> Path | None:
        """The annotations of a split; None where the data set has no such split."""

    @abstractmethod
    def _folder(self, split: str) -> Path:
        """The folder that names of images are below."""

    @abstractmethod
    def _read(self, split: str, path: Path) -> Photos:
        """Read the annotations of a split."""

    def _truth_of(self, published: TruthSource) -> TruthSource:
        """Whose truth: the published one's, or that of rendered people."""
        return "synthetic" if self.synthetic else published

    def _prefix(self, split: str) -> str:
        """What keys of a split begin with."""
        return ""

    def _options(self) -> Mapping[str, object]:
        """Options that the numbers depend on."""
        return {}

    def _other_files(self) -> Sequence[Path]:
        """Files that are needed beside the annotations."""
        return ()

    def status(self) -> Status:
        """Annotations readable and each image of theirs present; how many people are used and left out."""
        files = {split: path for split in self.splits if (path := self._file(split)) is not None}
        there = {split: path for split, path in files.items() if path.is_file()}
        if not there:
            return Status("missing", f"no {next(iter(files.values()))}", self.obtain)
        for path in self._other_files():
            if not path.is_file():
                return Status("missing", f"no {path}", self.obtain)
        details, absent = [], [f"no {path}" for split, path in files.items() if split not in there]
        for split in there:
            try:
                photos = self._photos(split)
            except InputError as error:
                return Status("damaged", str(error), self.obtain)
            people = len(photos.of_people.rows)
            details.append(f"{split}: {len(photos.rows)} images, {people} people{photos.left_out}")
            names = [photos.images.names[row] for row in photos.rows.values()]
            missing = _absent(self._folder(split), names)
            if missing:
                absent.append(f"{len(missing)} of {len(names)} images are missing, first {missing[0]}")
        return Status("partial" if absent else "ready", "; ".join([*details, *absent]), self.obtain)

    def manifest(self) -> str:
        """SHA-256 of the files and of the options that decide what is used of them.

        Raises:
            InputError: a file cannot be read, or a generated world was changed.
        """
        return self._manifest

    def keys(self, split: str) -> Sequence[str]:
        """Images by their names, in the order of the file; none of a split whose file is absent where another's is."""
        if split not in self.splits:
            raise InputError(
                f"{self.name}: split", f"{split!r} is no split", "one of " + ", ".join(f'"{s}"' for s in self.splits)
            )
        path = self._file(split)
        if path is None or (not path.is_file() and any(self._has(other) for other in self.splits)):
            return ()
        return tuple(self._photos(split).rows)

    def sample(self, key: str) -> Sample:
        """The photograph with the boxes of its people."""
        split, photos, row = self._find(key)
        camera = photos.camera(row)
        path = self._folder(split) / photos.images.names[row]
        boxes, scores = photos.people.boxes_px[photos.of_people[row]], None
        if photos.boxes is not None and photos.of_boxes is not None:
            chosen = photos.of_boxes[row]
            boxes = photos.boxes.boxes_px[chosen]
            scores = None if photos.boxes.scores is None else photos.boxes.scores[chosen]
        image = ReadImage(partial(read_image, path, camera.size), partial(FileState.of, path))
        return Sample(key, (View(CAMERA, camera, image, boxes, box_scores=scores),), self._group(key, photos, row))

    def truth(self, key: str) -> Truth:
        """(P, J, 3) mm in the camera's frame, NaN where only the image is annotated; what is visible, and where."""
        _, photos, row = self._find(key)
        people, chosen = photos.people, photos.of_people[row]
        seen = people.seen[chosen]
        joints = np.full((*seen.shape, 3), np.nan) if people.joints_mm is None else people.joints_mm[chosen]
        annotated = {}
        if people.joints_px is not None:
            annotated = {CAMERA: photos.camera(row).normalised(people.joints_px[chosen])}
        return Truth(joints, {CAMERA: seen}, annotated)

    def image_id(self, key: str, view: str = CAMERA) -> int:
        """Id of an image in its file, as the files that the community exchanges name it; every view is the one."""
        _, photos, row = self._find(key)
        return int(photos.images.ids[row])

    def annotation_ids(self, key: str) -> list[int]:
        """Ids of an image's annotated people, in the order of ``truth``."""
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
        raise InputError(f"{self.name}: key {key!r}", "there is no such image", f"see {files[0]}")

    @cached_property
    def _manifest(self) -> str:
        if self._is_generated:
            verify_files(self.root)
        annotations = [path for split in self.splits if (path := self._file(split)) is not None]
        if not any(path.is_file() for path in annotations):
            raise InputError(annotations[0], "there is no such file", self.obtain)
        options = str(sorted(self._options().items()))
        return files_sha256(options, (*annotations, *self._other_files()), self.obtain)


def _absent(folder: Path, names: Sequence[str]) -> list[str]:
    """Those of ``names`` below ``folder`` that are no files; each folder is listed once."""
    there: dict[str, set[str]] = {}
    absent = []
    for name in names:
        parent, _, file = name.rpartition("/")
        if parent not in there:
            try:
                there[parent] = set(os.listdir(folder / parent))
            except OSError:
                there[parent] = set()
        if file not in there[parent]:
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
    """Those of m annotations that are ``kept`` (m,), with what their data set says of the joints of all m."""
    used = [annotations[row] for row in np.flatnonzero(kept).tolist()]
    return People(
        images.rows([a.image_id for a in used], f"{images.path}: annotations"),
        corners(np.array([a.bbox for a in used])),
        seen[kept],
        None if joints_mm is None else joints_mm[kept],
        None if joints_px is None else joints_px[kept],
        np.array([a.id for a in used], dtype=np.int64),
    )


def labelled_photos(file: File[Image, KeyPoints], path: Path, joints: int, prefix: str = "") -> Photos:
    """Photographs of COCO's form, annotated in the image alone; used are single people with key points.

    Raises:
        InputError: an annotation does not have ``joints`` key points.
    """
    images, left_out = Images.of(path, file.images), LeftOut()
    for row, annotation in enumerate(file.annotations):
        if len(annotation.keypoints) != 3 * joints:
            where = f"{path}: annotations[{row}].keypoints"
            raise InputError(where, f"has {len(annotation.keypoints)} numbers, not {3 * joints}", COPY)
    joints_px, seen = key_points(
        np.array([a.keypoints for a in file.annotations], dtype=np.float64).reshape(-1, joints, 3)
    )
    labelled = np.array([a.num_keypoints > 0 for a in file.annotations], dtype=np.bool_)
    kept = left_out.keep(labelled, single_people(file, left_out), "people without key points")
    kept = boxed(file, images, kept, left_out)
    people = people_of(images, file.annotations, kept, seen, None, joints_px)
    return Photos(images, assumed_intrinsics(images), people, left_out, prefix=prefix)


def assumed_intrinsics(images: Images) -> Array:
    """(n, 4) of photographs whose camera nobody knows: 1500 px, and the middle of the image (RootNet)."""
    return np.concatenate([np.full((len(images.ids), 2), ASSUMED_FOCAL_PX), images.sizes / 2], axis=1)


def key_points(values: Array) -> tuple[Array, NDArray[np.bool_]]:
    """COCO's x, y, v (m, J, 3) as pixels (m, J, 2), NaN where v is 0, and whether v is above 0 (m, J)."""
    seen = values[..., 2] > 0
    return np.where(seen[..., None], values[..., :2], np.nan), seen
