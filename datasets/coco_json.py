"""COCO-style annotation files: JSON of images and annotations, decoded into typed and checked columns.

Undeclared fields are skipped, so files of hundreds of megabytes are decoded in seconds. A declared field must be
present, finite, of its type and length, and refer to an existing image; otherwise an `InputError` names file and field.
Some valid entries cannot be used: crowds, other categories, boxes without area or outside the image. They are left out,
and `Status` reports their counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.boxes import cut_boxes
from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import read_file
from poseboard.datasets.plausibility import BODY_MM, extents_mm, scale_to

Number = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
"""Type of an id or index that fits into int64."""
Side = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
"""Width or height of an image, px."""
Focal = Annotated[float, msgspec.Meta(gt=0)]
Pair = tuple[float, float]
Triple = tuple[float, float, float]
Flag = bool | int | float

COPY = "get the file again from its source"
_DEPTHS_MM, _EXTENTS_MM = (300.0, 100_000.0), (100.0, 10_000.0)
"""Plausible ranges of the median depth of people and of the median diagonal of their 3D bounding boxes."""


class Image(msgspec.Struct, gc=False):
    """Entry of ``images``; adapters add fields."""

    id: Number
    file_name: str
    width: Side
    height: Side


class Annotation(msgspec.Struct, kw_only=True, gc=False):
    """Entry of ``annotations``: one person, or an object of another category; adapters add fields."""

    image_id: Number
    bbox: tuple[float, float, float, float]
    id: Number = -1
    category_id: Number = 1
    iscrowd: int = 0


class KeyPoints(Annotation, kw_only=True, gc=False):
    """Annotation of a person in COCO's format: J times x, y, v in pixels; v = 0 for unlabelled joints."""

    num_keypoints: int
    keypoints: list[float]


class Posed(Annotation, kw_only=True, gc=False):
    """Annotation of a person with 3D joints. `column` decodes the joints: lists take ten times the memory."""

    keypoints_cam: msgspec.Raw
    keypoints_img: msgspec.Raw
    keypoints_vis: msgspec.Raw


class Category(msgspec.Struct, gc=False):
    """Entry of ``categories``."""

    id: Number
    name: str


ImageT = TypeVar("ImageT", bound=Image)
AnnotationT = TypeVar("AnnotationT", bound=Annotation)
KindT = TypeVar("KindT")


class File(msgspec.Struct, Generic[ImageT, AnnotationT]):
    """Content of an annotation file."""

    images: list[ImageT]
    annotations: list[AnnotationT]
    categories: list[Category] = []


class Detection(msgspec.Struct, kw_only=True, gc=False):
    """Entry of a detector's file, which is a list of detections."""

    image_id: Number
    bbox: tuple[float, float, float, float]
    score: float | None = None
    category_id: Number = 1
    root_cam: Any = None


def decode(path: Path, kind: type[KindT], obtain: str) -> KindT:
    """Decode a JSON file to a typed value.

    Args:
        path: path of the file.
        kind: type of the value, for msgspec.
        obtain: remedy for an absent file.

    Raises:
        InputError: the file is absent or truncated, or a field is missing or invalid.
    """
    return parse(read_file(path, obtain), kind, path)


def parse(content: bytes | msgspec.Raw, kind: type[KindT], path: Path, part: str = "") -> KindT:
    """Decode JSON to a typed value, see `decode`; ``part`` is the place of the content in the file."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).replace("`", "").partition(" - at ")
        place = (part + place.removeprefix("$")).removeprefix(".")
        raise InputError(f"{path}: {place}" if place else path, problem.lower(), COPY) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(path, f"is not JSON ({str(error)[:80]})", COPY) from None


def column(parts: Sequence[msgspec.Raw], shape: tuple[int, ...], path: Path, place: str) -> Array:
    """Decode m nested lists of numbers or flags to one array (m, *shape).

    Args:
        parts: raw JSON of the m lists.
        shape: shape (J,) or (J, C) of each list.
        path: path of the file.
        place: place of the lists in the file for errors, with {} for the row.

    Raises:
        InputError: a list has another shape or other values.
    """
    item: Any = Flag if len(shape) == 1 else tuple[(float,) * shape[1]]  # type: ignore[misc]
    kind = Annotated[list[item], msgspec.Meta(min_length=shape[0], max_length=shape[0])]
    decoder = msgspec.json.Decoder(kind)
    values = np.empty((len(parts), *shape))
    for row, part in enumerate(parts):
        try:
            values[row] = decoder.decode(part)
        except msgspec.ValidationError:
            parse(part, kind, path, place.format(row))  # names the place
    return values


def posed_joints(annotations: Sequence[Posed], joints: int, path: Path) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Joints of m people: (m, J, 3) mm in the camera frame, (m, J, 2) px in the image, and visibility (m, J)."""
    mm, px, flags = (
        column(
            [getattr(annotation, name) for annotation in annotations],
            (joints, size) if size else (joints,),
            path,
            f"annotations[{{}}].{name}",
        )
        for name, size in (("keypoints_cam", 3), ("keypoints_img", 2), ("keypoints_vis", 0))
    )
    return mm, px, visible(flags, f"{path}: annotations[{{}}].keypoints_vis")


def visible(flags: Array, where: str) -> NDArray[np.bool_]:
    """Mask of flags (m, J) that are not 0; InputError names ``where``, with {} for the row, if one is not 0, 1 or 2."""
    wrong = ~np.isin(flags, (0, 1, 2)).all(axis=-1)
    if wrong.any():
        raise InputError(where.format(int(wrong.argmax())), "has a visibility that is not 0, 1 or 2", COPY)
    return np.asarray(flags > 0)


@dataclass(frozen=True, eq=False)
class Images:
    """Columns of the n images of an annotation file, in the order of the file.

    Args:
        path: path of the annotation file.
        ids: (n,) ids of the images.
        names: n paths below the folder of the images.
        sizes: (n, 2) width and height, px.
    """

    path: Path
    ids: NDArray[np.int64]
    names: list[str]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, path: Path, images: Sequence[Image]) -> Images:
        """Collect image entries in columns; InputError for a repeated id or a path outside the folder."""
        ids = np.array([image.id for image in images], dtype=np.int64)
        names = [image.file_name for image in images]
        for row, name in enumerate(names):
            if {"", "..", "."} & set(name.split("/")) or "\\" in name or "\0" in name:
                raise InputError(
                    f"{path}: images[{row}].file_name", f"{name[:80]!r} is not a path below the images", COPY
                )
        if len(np.unique(ids)) < len(ids):
            values, counts = np.unique(ids, return_counts=True)
            raise InputError(f"{path}: images", f"id {values[counts > 1][0]} occurs twice", COPY)
        sizes = np.array([(image.width, image.height) for image in images], dtype=np.int64).reshape(-1, 2)
        return cls(path, ids, names, sizes)

    def find(self, image_ids: Sequence[int]) -> NDArray[np.int64]:
        """Rows of images by id; -1 for an unknown id."""
        wanted = np.array(image_ids, dtype=np.int64)
        if not len(self.ids):
            return np.full(len(wanted), -1)
        order = np.argsort(self.ids, kind="stable")
        places = np.searchsorted(self.ids, wanted, sorter=order)
        rows = order[np.minimum(places, len(order) - 1)]
        return np.asarray(np.where(self.ids[rows] == wanted, rows, -1), dtype=np.int64)

    def rows(self, image_ids: Sequence[int], where: str) -> NDArray[np.int64]:
        """Rows of images by id; for an unknown id, InputError names the entry in the list ``where``."""
        rows = self.find(image_ids)
        if (rows < 0).any():
            row = int((rows < 0).argmax())
            raise InputError(f"{where}[{row}].image_id", f"{image_ids[row]} is not an image of {self.path.name}", COPY)
        return rows


@dataclass(frozen=True, eq=False)
class ByImage:
    """Index of a table's rows by image: image i has ``rows[first[i]:first[i + 1]]``, in table order."""

    rows: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, image: NDArray[np.int64], count: int, rows: NDArray[np.int64] | None = None) -> ByImage:
        """Group m rows by their images (m,); ``rows`` selects some rows of the table (None: all)."""
        chosen = np.arange(len(image)) if rows is None else rows
        order = np.argsort(image[chosen], kind="stable")
        of_image = image[chosen][order]
        return cls(chosen[order], np.searchsorted(of_image, np.arange(count + 1)))

    def __getitem__(self, image: int) -> NDArray[np.int64]:
        return self.rows[self.first[image] : self.first[image + 1]]

    @property
    def counts(self) -> NDArray[np.int64]:
        """(n,) number of rows of each image."""
        return np.diff(self.first)


@dataclass
class LeftOut:
    """Counts of unused entries of a file by reason."""

    counts: dict[str, int] = field(default_factory=dict)

    def keep(self, good: NDArray[np.bool_], kept: NDArray[np.bool_], why: str) -> NDArray[np.bool_]:
        """Remove the entries of ``kept`` that are not ``good``, and count them under the reason ``why``."""
        bad = int((kept & ~good).sum())
        if bad:
            self.counts[why] = self.counts.get(why, 0) + bad
        return kept & good

    def __str__(self) -> str:
        return "; left out: " + ", ".join(f"{n} {why}" for why, n in self.counts.items()) if self.counts else ""


def single_people(file: File[ImageT, AnnotationT], left_out: LeftOut) -> NDArray[np.bool_]:
    """Mask (m,) of the annotations of single people; other categories and crowds are counted as left out."""
    people = {category.id for category in file.categories if category.name == "person"} if file.categories else {1}
    kept = np.ones(len(file.annotations), dtype=np.bool_)
    is_person = np.array([a.category_id in people for a in file.annotations], dtype=np.bool_)
    kept = left_out.keep(is_person, kept, "annotations of no people")
    return left_out.keep(np.array([a.iscrowd == 0 for a in file.annotations], dtype=np.bool_), kept, "crowds")


def boxed(
    file: File[ImageT, AnnotationT], images: Images, kept: NDArray[np.bool_], left_out: LeftOut
) -> NDArray[np.bool_]:
    """Mask (m,) of the annotations in ``kept`` that have a usable box, see `used_boxes`."""
    image = images.rows([a.image_id for a in file.annotations], f"{images.path}: annotations")
    boxes = np.array([a.bbox for a in file.annotations], dtype=np.float64).reshape(-1, 4)
    return used_boxes(boxes, images.sizes[image], kept, left_out)


def used_boxes(
    boxes_xywh: Array, sizes: NDArray[np.int64], kept: NDArray[np.bool_], left_out: LeftOut, what: str = ""
) -> NDArray[np.bool_]:
    """Mask (m,) of the entries in ``kept`` that have a usable box; the other entries are counted as left out.

    Boxes are unusable if a side is not above 0, if they have a single pixel, or if they lie outside the image. This is
    RootNet's rule (see `boxes.cut_boxes`), made stricter: boxes with two negative sides or a single pixel would give an
    infinite distance.
    """
    boxes = boxes_xywh.reshape(-1, 4)
    cut = cut_boxes(boxes, sizes)
    for good, why in (
        ((boxes[:, 2:] > 0).all(axis=1), "without area"),
        (np.isfinite(cut).all(axis=1), "beyond the image"),
        (np.nan_to_num(cut[:, 2:]).any(axis=1), "of one pixel"),
    ):
        kept = left_out.keep(np.asarray(good), kept, f"{what}boxes {why}")
    return kept


def corners(boxes_xywh: Array) -> Array:
    """Convert boxes (m, 4) from x, y, width, height to left, upper, right, lower."""
    boxes = np.asarray(boxes_xywh, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


@dataclass(frozen=True, eq=False)
class Boxes:
    """Columns of b boxes of people, in the order of the file.

    Args:
        image: (b,) row of the image.
        boxes_px: (b, 4) left, upper, right, lower.
        scores: (b,) scores of the detector; None for annotated boxes.
    """

    image: NDArray[np.int64]
    boxes_px: Array
    scores: Array | None


def read_detections(path: Path, images: Images, obtain: str, left_out: LeftOut, *, partial: bool = False) -> Boxes:
    """Read a detector's file: a list of image_id, bbox (x, y, width, height) and score.

    Args:
        path: path of the file.
        images: images of the annotations.
        obtain: remedy for an absent file.
        left_out: counts of unused entries; the counts of this file are added.
        partial: whether the file may have detections in images that are not in ``images``; they are skipped.

    Raises:
        InputError: the file cannot be read, an image id is unknown, or the boxes have ``root_cam``: such boxes are
            RootNet's output, already squared and enlarged.
    """
    entries = decode(path, list[Detection], obtain)
    for row, entry in enumerate(entries):
        if entry.root_cam is not None:
            problem = "is RootNet's output, with enlarged boxes"
            raise InputError(f"{path}: [{row}].root_cam", problem, f"use the detector's own file; {obtain}")
    scored = [entry.score is not None for entry in entries]
    if any(scored) and not all(scored):
        raise InputError(f"{path}: [{scored.index(False)}].score", "field is missing, but other boxes have it", COPY)
    ids = [entry.image_id for entry in entries]
    image = images.find(ids) if partial else images.rows(ids, f"{path}: ")
    is_person = np.array([entry.category_id == 1 for entry in entries], dtype=np.bool_)
    kept = left_out.keep(is_person, image >= 0, "detections of no people")
    boxes = np.array([entry.bbox for entry in entries], dtype=np.float64).reshape(-1, 4)
    kept = used_boxes(boxes, images.sizes[image], kept, left_out, "detected ")
    scores = np.array([entry.score for entry in entries], dtype=np.float64)[kept] if all(scored) else None
    return Boxes(image[kept], corners(boxes[kept]), scores)


def check_millimetres(joints_mm: Array, root: int, where: str) -> None:
    """Raise InputError if people (m, J, 3) in camera frames have an implausible depth or size for millimetres."""
    if len(joints_mm):
        depth = float(np.median(joints_mm[:, root, 2]))
        extent = float(np.median(np.linalg.norm(np.ptp(joints_mm, axis=1), axis=-1)))
        for name, value, (least, most) in (("depth", depth, _DEPTHS_MM), ("extent", extent, _EXTENTS_MM)):
            if not least <= value <= most:
                factor = scale_to(float(np.median(extents_mm(joints_mm[:1000]))), BODY_MM)
                remedy = "convert the joints to mm" if factor is None else f"multiply the joints by {factor:g}"
                raise InputError(where, f"median {name} of people is {value:.4g} mm, so the unit is wrong", remedy)
