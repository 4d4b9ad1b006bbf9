"""Conversion between predictions and root files, ``bbox_root_<data set>_output.json``, as other programs exchange them.

A JSON list with one entry per person: ``image_id``; ``root_cam``, x, y, z in the camera's frame, in millimetres (metres
for 3DPW); ``bbox``, x, y, width, height; ``score``, optional. The boxes are *processed*: squared and enlarged, as the
network cropped them. A file of raw detections (``bbox_<data set>_output.json``) looks alike but has no ``root_cam``.
Mistaking one for the other enlarges boxes twice (RootNet's AP on MuPoTS-3D is then 15 instead of 31). So our files have
``bbox_processed: true``, which readers of the release ignore.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from poseboard.datasets.boxes import crop_boxes
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import parse_json, read_bytes, write_file
from poseboard.datasets.sample import Dataset, Poses, Sample, View
from poseboard.datasets.skeleton import ROOT
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo

LengthUnit = Literal["mm", "m"]
_MM = {"mm": 1.0, "m": 1000.0}
_REMEDY = "give a bbox_root_*_output.json as RootNet writes it"
_NEAREST_MM, _FARTHEST_MM = 50.0, 1e6
"""Bounds of the depth of a person."""
_IN_BOX = 0.6
"""Maximum distance of a root from the centre of its box, in sides: the root is in the box."""
_LARGEST = 1e9
"""Largest number of a field."""
_SAME_BOX_PX = 1.0
"""Boxes that differ by less are the same: files round them."""


@runtime_checkable
class NumberedImages(Protocol):
    """Data set whose annotation files give each image an id."""

    def image_id(self, key: str, view: str) -> int:
        """Id of the image of a sample in a view."""
        ...


@dataclass(frozen=True)
class RootRecord:
    """One person of a root file.

    Args:
        image_id: id in the data set's annotation file.
        root_mm: x, y, z in the camera's frame.
        box_xywh: box of the crop, squared and enlarged.
        score: confidence of the detector; 1 for an annotated box.
    """

    image_id: int
    root_mm: tuple[float, float, float]
    box_xywh: tuple[float, float, float, float]
    score: float = 1.0


def length_unit(dataset: Dataset) -> LengthUnit:
    """Unit of length in the data set's published root files."""
    unit: LengthUnit = getattr(dataset, "length_unit", "mm")
    return unit


def camera_conditions(dataset: Dataset, split: str) -> list[Condition]:
    """Conditions of root files: one per camera, because root files hold predictions from single cameras."""
    return [Condition(split=split, cameras=(camera,)) for camera in dataset.views]


def to_records(dataset: Dataset, table: PoseTable) -> list[RootRecord]:
    """Convert predictions from one camera to root records, in the order of the data set.

    Raises:
        InputError: the images have no ids, or the predictions have other joints, other boxes or another state of the
            data set.
    """
    image_id, condition = _image_ids(dataset), table.info.condition
    if table.info.joints != ROOT.joints:
        raise InputError(
            f"{table.source}: metadata.joints", "are not only the root", "use predictions of a row that predicts roots"
        )
    if table.info.manifest != dataset.manifest():
        remedy = f"run `poseboard predict {dataset.name} {table.info.method} --split {condition.split}` again"
        raise InputError(f"{table.source}: metadata.manifest", f"is of another state of {dataset.name}", remedy)
    rows_of: dict[str, list[int]] = {}
    for row in np.lexsort((table.person, table.keys.astype(str))).tolist():
        rows_of.setdefault(str(table.keys[row]), []).append(row)
    records = []
    for key in dataset.keys(condition.split):
        view = _view(dataset.sample(key), condition.cameras[0])
        if view is None or key not in rows_of:
            continue
        boxes = processed_boxes(view)
        for row in rows_of[key]:
            if table.person[row] >= len(boxes):
                raise InputError(
                    f"{table.source}: {key}", "has not one root per box", "use predictions of a row that predicts roots"
                )
            x, y, z = table.joints_mm[row, 0].astype(np.float64).tolist()
            left, upper, width, height = boxes[table.person[row]].tolist()
            number = image_id.image_id(key, view.name)
            records.append(RootRecord(number, (x, y, z), (left, upper, width, height), float(table.score[row])))
    return records


def to_predictions(
    dataset: Dataset, split: str, records: Iterable[RootRecord], method: str, source: str
) -> dict[str, PoseTable]:
    """Convert the entries of a root file to predictions, by camera.

    An entry whose box equals that of a person gets the number of this person; the other entries get the next numbers.
    If boxes are an input, protocols compare people of equal numbers.

    Args:
        dataset: data set with ids of images.
        split: split of the data set.
        records: entries of the file.
        method: name of the method that wrote the file.
        source: path of the file, for error messages.

    Raises:
        InputError: the images have no ids, an entry is of an image that the split does not have, or a root does not
            project into its box.
    """
    image_id = _image_ids(dataset)
    of_image: dict[int, list[RootRecord]] = {}
    for record in records:
        of_image.setdefault(record.image_id, []).append(record)
    unused, keys, tables = set(of_image), list(dataset.keys(split)), {}
    for condition in camera_conditions(dataset, split):
        camera, poses = condition.cameras[0], []
        for key in keys:
            view = _view(dataset.sample(key), camera)
            number = None if view is None else image_id.image_id(key, camera)
            people = [] if number is None else of_image.get(number, [])
            if view is not None:
                for record in people:
                    _check_projection(record, view.camera, f"{source}: image {number}")
            poses.append(_in_order_of_boxes(people, view))
            unused -= {number}
        info = PredictionInfo(
            skeleton=ROOT.name,
            joints=ROOT.joints,
            dataset=dataset.name,
            condition=condition,
            manifest=dataset.manifest(),
            method=method,
            trained_on=(),
        )
        tables[camera] = PoseTable.collect(keys, poses, info)
    if unused:
        problem = f"{min(unused)} is not an image of {split} of {dataset.name}"
        raise InputError(f"{source}: image_id", problem, "name the split with --split")
    return tables


def processed_boxes(view: View) -> Array:
    """Boxes (P, 4) of the crops around the people of a view: x, y, width, height, pixels."""
    left_upper, right_lower = view.boxes_px[:, :2], view.boxes_px[:, 2:]
    return crop_boxes(np.concatenate([left_upper, right_lower - left_upper], axis=1), view.camera.size)


def write_roots(path: Path, records: Iterable[RootRecord], unit: LengthUnit = "mm") -> None:
    """Write a root file atomically; people without a root are omitted.

    Args:
        path: ``bbox_root_<data set>_output.json``.
        records: people to write.
        unit: unit of the coordinates.

    Example:
        >>> write_roots(Path("bbox_root_mupots_output.json"), [])  # doctest: +SKIP
    """
    entries = [
        {
            "image_id": record.image_id,
            "root_cam": [value / _MM[unit] for value in record.root_mm],
            "bbox": list(record.box_xywh),
            "score": record.score,
            "bbox_processed": True,
        }
        for record in records
        if all(map(math.isfinite, record.root_mm))
    ]
    write_file(path, json.dumps(entries).encode())


def read_roots(path: Path, unit: LengthUnit = "mm") -> list[RootRecord]:
    """Read predicted roots from JSON, written by this project or another program; entries keep their order.

    Args:
        path: path of the file.
        unit: unit of the file.

    Raises:
        InputError: the file is absent or not a JSON list, a field of an entry is absent or not a number, or the boxes
            are detections instead of the square crops of the network.
    """
    try:
        entries = parse_json(read_bytes(path))
    except FileNotFoundError:
        raise InputError(path, "there is no such file", _REMEDY) from None
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read as JSON ({str(error).splitlines()[0][:80]})", _REMEDY) from None
    if not isinstance(entries, list):
        raise InputError(path, "holds no list of records", _REMEDY)
    return [_record(entry, f"{path}: entry {number}", _MM[unit]) for number, entry in enumerate(entries)]


def _record(entry: Any, where: str, mm: float) -> RootRecord:
    if not isinstance(entry, Mapping):
        raise InputError(where, "is not an object", _REMEDY)
    if "root_cam" not in entry:
        raise InputError(f"{where}: root_cam", "is absent: this is a file of raw detections", _REMEDY)
    if entry.get("bbox_processed", True) is not True:
        raise InputError(f"{where}: bbox_processed", "is not true: the box is raw", _REMEDY)
    image_id = entry.get("image_id")
    if type(image_id) is not int:
        raise InputError(f"{where}: image_id", "is not a whole number", _REMEDY)
    x, y, z = _numbers(entry["root_cam"], 3, f"{where}: root_cam")
    left, upper, width, height = _numbers(entry.get("bbox"), 4, f"{where}: bbox")
    if min(width, height) <= 0:
        raise InputError(f"{where}: bbox", f"is {width:g} x {height:g} px", "write x, y, width, height")
    if abs(width - height) > _SAME_BOX_PX + 0.01 * max(width, height):
        raise InputError(f"{where}: bbox", f"is {width:g} x {height:g} px, and not square: the box is raw", _REMEDY)
    (score,) = _numbers([entry.get("score", 1.0)], 1, f"{where}: score")
    if not _NEAREST_MM < z * mm < _FARTHEST_MM:
        raise InputError(
            f"{where}: root_cam",
            f"is {z * mm:.4g} mm in front of the camera",
            "write x, y, z in the unit of the data set, z forwards",
        )
    return RootRecord(image_id, (x * mm, y * mm, z * mm), (left, upper, width, height), score)


def _numbers(values: Any, count: int, where: str) -> list[float]:
    whole = isinstance(values, list) and len(values) == count
    if not whole or any(type(value) not in (int, float) or not abs(value) < _LARGEST for value in values):
        raise InputError(where, f"is not {count} finite numbers", _REMEDY)
    return [float(value) for value in values]


def _image_ids(dataset: Dataset) -> NumberedImages:
    if not isinstance(dataset, NumberedImages):
        raise InputError(
            f"data set {dataset.name}", "its images have no ids", "use a data set with image ids, such as mupots"
        )
    return dataset


def _check_projection(record: RootRecord, camera: Camera, where: str) -> None:
    """Raise InputError if a root does not project into the box of its crop, in which the network predicted it."""
    root, box = np.array(record.root_mm), np.array(record.box_xywh)
    place = (camera.image(root[:2] / root[2]) - box[:2]) / box[2:]
    if np.abs(place - 0.5).max() > _IN_BOX:
        problem = f"projects to {place[0]:.2f} of the width and {place[1]:.2f} of the height of its bbox"
        raise InputError(f"{where}: root_cam", problem, f"check both, and that they are of this image; {_REMEDY}")


def _view(sample: Sample, camera: str) -> View | None:
    return next((view for view in sample.views if view.name == camera), None)


def _in_order_of_boxes(people: Sequence[RootRecord], view: View | None) -> Poses:
    """Order people like the view's boxes (NaN for a box without a person), followed by people without a box."""
    boxes = np.empty((0, 4)) if view is None else processed_boxes(view)
    free, places, count = np.ones(len(boxes), dtype=np.bool_), [], len(boxes)
    for record in people:
        difference_px = np.abs(boxes - np.array(record.box_xywh)).max(axis=1, initial=0.0)
        nearest = int(np.where(free, difference_px, np.inf).argmin()) if len(boxes) else -1
        if nearest >= 0 and free[nearest] and difference_px[nearest] < _SAME_BOX_PX:
            free[nearest] = False
            places.append(nearest)
        else:
            places.append(count)
            count += 1
    joints_mm, score = np.full((count, 1, 3), np.nan), np.zeros(count)
    for place, record in zip(places, people, strict=True):
        joints_mm[place, 0], score[place] = record.root_mm, record.score
    return Poses(ROOT, joints_mm, score, "world" if view is None else view.name)
