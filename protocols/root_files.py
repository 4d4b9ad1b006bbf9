"""The file that the community exchanges roots by: ``bbox_root_<data set>_output.json``.

A list with one entry per person: ``image_id``; ``root_cam``, x, y, z in the camera's frame, in millimetres (metres for
3DPW); ``bbox``, x, y, width, height; ``score`` where there is one. Boxes are *processed*: squared and enlarged, as the
network cropped them. A file of raw detections (``bbox_<data set>_output.json``) looks alike but has no ``root_cam``;
who takes one for the other enlarges boxes twice (RootNet's AP on MuPoTS-3D is then 15 instead of 31). So ours say it:
``bbox_processed`` is true, which readers of the release pass over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.boxes import crop_boxes
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.datasets.sample import Poses, Sample, View
from poseboard.datasets.skeleton import ROOT

LengthUnit = Literal["mm", "m"]
_MM = {"mm": 1.0, "m": 1000.0}
_REMEDY = "give a bbox_root_*_output.json as RootNet writes it"


@dataclass(frozen=True)
class RootRecord:
    """One person.

    Args:
        image_id: of the data set's annotation file.
        root_mm: x, y, z in the camera's frame.
        box_xywh: of the crop, squared and enlarged.
        score: of the detector; 1 where the box was annotated.
    """

    image_id: int
    root_mm: tuple[float, float, float]
    box_xywh: tuple[float, float, float, float]
    score: float = 1.0


def processed_boxes(view: View) -> NDArray[np.float64]:
    """(P, 4) x, y, width, height of the crops about the boxes of a view."""
    left_upper, right_lower = view.boxes_px[:, :2], view.boxes_px[:, 2:]
    return crop_boxes(np.concatenate([left_upper, right_lower - left_upper], axis=1), view.camera.size)


def records_of(samples: Sequence[Sample], answers: Sequence[Poses], image_ids: Sequence[int]) -> list[RootRecord]:
    """What was answered of whole frames, sample by sample and in the order of the boxes.

    Args:
        samples: with the frames and tight boxes that were handed over.
        answers: of `ROOT`, one person per box.
        image_ids: of the samples.

    Raises:
        InputError: an answer has another joint set, or not one person per box.
    """
    records = []
    for sample, answer, image_id in zip(samples, answers, image_ids, strict=True):
        view = sample.views[0]
        if answer.skeleton.joints != ROOT.joints or len(answer.score) != len(view.boxes_px):
            raise InputError(sample.key, "has not one root per box", "write what rootnet answered")
        boxes = processed_boxes(view)
        for root, box, score in zip(
            answer.joints_mm[:, 0].tolist(), boxes.tolist(), answer.score.tolist(), strict=True
        ):
            records.append(
                RootRecord(int(image_id), (root[0], root[1], root[2]), (box[0], box[1], box[2], box[3]), score)
            )
    return records


def write_roots(path: Path, records: Iterable[RootRecord], unit: LengthUnit = "mm") -> None:
    """Write the file, whole or not at all; people without a root are left out.

    Args:
        path: ``bbox_root_<data set>_output.json``.
        records: people.
        unit: of the file: that of the data set as it is published.

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
    """Read a file of ours or of others, in its order.

    Args:
        path: of the file.
        unit: of its roots.

    Raises:
        InputError: it is absent or no JSON list; an entry lacks a field or holds what is no number; its boxes are raw.
    """
    try:
        entries = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(path, "there is no such file", _REMEDY) from None
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read as JSON ({str(error).splitlines()[0][:80]})", _REMEDY) from None
    if not isinstance(entries, list):
        raise InputError(path, "holds no list", _REMEDY)
    return [_record(entry, f"{path}: entry {number}", unit) for number, entry in enumerate(entries)]


def answers_of(records: Iterable[RootRecord], frame: str) -> dict[int, Poses]:
    """Image id -> its people in the order of the file, in the frame of the camera ``frame``."""
    of_image: dict[int, list[RootRecord]] = {}
    for record in records:
        of_image.setdefault(record.image_id, []).append(record)
    return {
        image_id: Poses(
            ROOT,
            np.array([record.root_mm for record in people])[:, None],
            np.array([record.score for record in people]),
            frame,
        )
        for image_id, people in of_image.items()
    }


def _record(entry: Any, where: str, unit: LengthUnit) -> RootRecord:
    if not isinstance(entry, Mapping):
        raise InputError(where, "is no object", _REMEDY)
    if "root_cam" not in entry:
        raise InputError(f"{where}: root_cam", "is absent: this is a file of raw detections", _REMEDY)
    if entry.get("bbox_processed", True) is not True:
        raise InputError(f"{where}: bbox_processed", "is not true: the box is raw", _REMEDY)
    image_id = entry.get("image_id")
    if type(image_id) is not int:
        raise InputError(f"{where}: image_id", "is no whole number", _REMEDY)
    x, y, z = _numbers(entry["root_cam"], 3, f"{where}: root_cam")
    left, upper, width, height = _numbers(entry.get("bbox"), 4, f"{where}: bbox")
    (score,) = _numbers([entry.get("score", 1.0)], 1, f"{where}: score")
    mm = _MM[unit]
    return RootRecord(image_id, (x * mm, y * mm, z * mm), (left, upper, width, height), score)


def _numbers(values: Any, count: int, where: str) -> list[float]:
    whole = isinstance(values, list) and len(values) == count
    if not whole or any(type(value) not in (int, float) or not math.isfinite(value) for value in values):
        raise InputError(where, f"is not {count} finite numbers", _REMEDY)
    return [float(value) for value in values]
