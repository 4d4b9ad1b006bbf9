"""COCO-style annotation files: JSON of images and annotations, decoded into typed and checked columns.

Undeclared fields are skipped, so files of hundreds of megabytes are decoded in seconds. A declared field that is
absent, not finite, of another type or length, or refers to a missing image raises an `InputError` with file and field.
Valid entries that a data set cannot use (crowds, other categories, boxes without area or beyond the image) are left out
and counted; `Status` reports the counts.
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
"""An id or index, as wide as a column of int64."""
Side = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
"""Width or height of an image, px."""
Focal = Annotated[float, msgspec.Meta(gt=0)]
Pair = tuple[float, float]
Triple = tuple[float, float, float]
Flag = bool | int | float

COPY = "get the file again from its source"
_DEPTHS_MM, _EXTENTS_MM = (300.0, 100_000.0), (100.0, 10_000.0)
"""Plausible medians of people's depths and of the diagonals of their 3D bounding boxes."""


class Image(msgspec.Struct, gc=False):
    """An entry of ``images``; adapters add fields."""

    id: Number
    file_name: str
    width: Side
    height: Side


class Annotation(msgspec.Struct, kw_only=True, gc=False):
    """An entry of ``annotations``: one person, or a thing of another category; adapters add fields."""

    image_id: Number
    bbox: tuple[float, float, float, float]
    id: Number = -1
    category_id: Number = 1
    iscrowd: int = 0


class KeyPoints(Annotation, kw_only=True, gc=False):
    """COCO's person: J times x, y, v in pixels; v = 0: not labelled."""

    num_keypoints: int
    keypoints: list[float]


class Posed(Annotation, kw_only=True, gc=False):
    """A person with 3D joints, kept as raw JSON: `column` decodes them with a tenth of the memory."""

    keypoints_cam: msgspec.Raw
    keypoints_img: msgspec.Raw
    keypoints_vis: msgspec.Raw


class Category(msgspec.Struct, gc=False):
    """An entry of ``categories``."""

    id: Number
    name: str


ImageT = TypeVar("ImageT", bound=Image)
AnnotationT = TypeVar("AnnotationT", bound=Annotation)
KindT = TypeVar("KindT")


class File(msgspec.Struct, Generic[ImageT, AnnotationT]):
    """A whole file."""

    images: list[ImageT]
    annotations: list[AnnotationT]
    categories: list[Category] = []


class Detection(msgspec.Struct, kw_only=True, gc=False):
    """An entry of a detector's file, a list of detections."""

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
        InputError: the file is absent or truncated, or a field is missing or invalid; names file and field.
    """
    return parse(read_file(path, obtain), kind, path)


def parse(content: bytes | msgspec.Raw, kind: type[KindT], path: Path, part: str = "") -> KindT:
    """Decode JSON to a typed value, see `decode`; ``part`` is its place in the file."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).replace("`", "").partition(" - at ")
        place = (part + place.removeprefix("$")).removeprefix(".")
        raise InputError(f"{path}: {place}" if place else path, problem.lower(), COPY) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(path, f"is no JSON ({str(error)[:80]})", COPY) from None


def column(parts: Sequence[msgspec.Raw], shape: tuple[int, ...], path: Path, place: str) -> Array:
    """Decode m lists of numbers or flags, nested as ``shape``, to one array (m, *shape).

    Args:
        parts: raw JSON of the m lists.
        shape: (J,) or (J, C).
        path: path of the file.
        place: place of the lists in the file, with {} for the row.

    Raises:
        InputError: a list has another form; names its place.
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
    """Joints of m people in the camera frame (m, J, 3) mm, in the image (m, J, 2) px, and their visibility (m, J)."""
    mm, px, flags = (
        column(
            [getattr(annotation, name) for annotation in annotations],
            (joints, size) if size else (joints,),
            path,
            f"annotations[{{}}].{name}",
        )
        for name, size in (("keypoints_cam", 3), ("keypoints_img", 2), ("keypoints_vis", 0))
    )
    return mm, px, flags > 0


@dataclass(frozen=True, eq=False)
class Images:
    """The n images of an annotation file, in its order.

    Args:
        path: path of the annotation file.
        ids: (n,) ids.
        names: paths below the folder of the images.
        sizes: (n, 2) width and height, px.
    """

    path: Path
    ids: NDArray[np.int64]
    names: list[str]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, path: Path, images: Sequence[Image]) -> Images:
        """Columns of image entries; InputError for a repeated id, and for a path that leaves the folder."""
        ids = np.array([image.id for image in images], dtype=np.int64)
        names = [image.file_name for image in images]
        for row, name in enumerate(names):
            if {"", "..", "."} & set(name.split("/")) or "\\" in name or "\0" in name:
                raise InputError(f"{path}: images[{row}].file_name", "is no path below the images", COPY)
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
        """Rows of images by id; InputError names the first entry of ``where`` with an unknown id."""
        rows = self.find(image_ids)
        if (rows < 0).any():
            row = int((rows < 0).argmax())
            raise InputError(f"{where}[{row}].image_id", f"{image_ids[row]} is no image of {self.path.name}", COPY)
        return rows


@dataclass(frozen=True, eq=False)
class ByImage:
    """Rows of a table by image: those of image i are ``rows[first[i]:first[i + 1]]``, in table order."""

    rows: NDArray[np.int64]
    first: NDArray[np.int64]

    @classmethod
    def of(cls, image: NDArray[np.int64], count: int, rows: NDArray[np.int64] | None = None) -> ByImage:
        """Group m rows, or a selection ``rows`` of them, by their images (m,)."""
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
        """``kept`` without bad entries, which are counted under the reason ``why``."""
        bad = int((kept & ~good).sum())
        if bad:
            self.counts[why] = self.counts.get(why, 0) + bad
        return kept & good

    def __str__(self) -> str:
        return "; left out: " + ", ".join(f"{n} {why}" for why, n in self.counts.items()) if self.counts else ""


def single_people(file: File[ImageT, AnnotationT], left_out: LeftOut) -> NDArray[np.bool_]:
    """Which annotations (m,) are single people; counts other categories and crowds."""
    people = {category.id for category in file.categories if category.name == "person"} if file.categories else {1}
    kept = np.ones(len(file.annotations), dtype=np.bool_)
    is_person = np.array([a.category_id in people for a in file.annotations], dtype=np.bool_)
    kept = left_out.keep(is_person, kept, "annotations of no people")
    return left_out.keep(np.array([a.iscrowd == 0 for a in file.annotations], dtype=np.bool_), kept, "crowds")


def boxed(
    file: File[ImageT, AnnotationT], images: Images, kept: NDArray[np.bool_], left_out: LeftOut
) -> NDArray[np.bool_]:
    """Which of the annotations ``kept`` (m,) have a usable box, see `used_boxes`."""
    image = images.rows([a.image_id for a in file.annotations], f"{images.path}: annotations")
    boxes = np.array([a.bbox for a in file.annotations], dtype=np.float64).reshape(-1, 4)
    return used_boxes(boxes, images.sizes[image], kept, left_out)


def used_boxes(
    boxes_xywh: Array, sizes: NDArray[np.int64], kept: NDArray[np.bool_], left_out: LeftOut, what: str = ""
) -> NDArray[np.bool_]:
    """Which of ``kept`` (m,) have a box from which a person can be cropped; counts the others.

    Boxes with a side not above 0, of a single pixel, or beyond the image are unusable. This is RootNet's rule (see
    `boxes.cut_boxes`), made stricter for two negative sides and single pixels, which lead to an infinite distance.
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
    """Boxes of b people, in the order of their file.

    Args:
        image: (b,) row of the image.
        boxes_px: (b, 4) left, upper, right, lower.
        scores: (b,) scores of the detector, or None.
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
        left_out: counts of unused entries, to add to.
        partial: whether ``images`` are only some of the file's; detections in others are skipped.

    Raises:
        InputError: the file cannot be read; an image does not exist; or the boxes are RootNet's output (they have
            ``root_cam``), which are already squared and enlarged.
    """
    entries = decode(path, list[Detection], obtain)
    for row, entry in enumerate(entries):
        if entry.root_cam is not None:
            problem = "is RootNet's output, with enlarged boxes"
            raise InputError(f"{path}: [{row}].root_cam", problem, f"use the detector's own file; {obtain}")
    scored = [entry.score is not None for entry in entries]
    if any(scored) and not all(scored):
        raise InputError(f"{path}: [{scored.index(False)}].score", "field is missing", COPY)
    ids = [entry.image_id for entry in entries]
    image = images.find(ids) if partial else images.rows(ids, f"{path}: ")
    is_person = np.array([entry.category_id == 1 for entry in entries], dtype=np.bool_)
    kept = left_out.keep(is_person, image >= 0, "detections of no people")
    boxes = np.array([entry.bbox for entry in entries], dtype=np.float64).reshape(-1, 4)
    kept = used_boxes(boxes, images.sizes[image], kept, left_out, "detected ")
    scores = np.array([entry.score for entry in entries], dtype=np.float64)[kept] if all(scored) else None
    return Boxes(image[kept], corners(boxes[kept]), scores)


def check_millimetres(joints_mm: Array, root: int, where: str) -> None:
    """Raise InputError if depth or size of people (m, J, 3) in camera frames is implausible in millimetres."""
    if len(joints_mm):
        depth = float(np.median(joints_mm[:, root, 2]))
        extent = float(np.median(np.linalg.norm(np.ptp(joints_mm, axis=1), axis=-1)))
        for name, value, (least, most) in (("depth", depth, _DEPTHS_MM), ("extent", extent, _EXTENTS_MM)):
            if not least <= value <= most:
                factor = scale_to(float(np.median(extents_mm(joints_mm[:1000]))), BODY_MM)
                remedy = COPY if factor is None else f"multiply the joints by {factor:g}"
                raise InputError(where, f"median {name} of people is {value:.4g} mm: wrong unit", remedy)
