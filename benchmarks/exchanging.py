"""The file that roots are exchanged by, of a row and back: ``bbox_root_<data set>_output.json``.

What it holds is described in :mod:`poseboard.protocols.root_files`. Written are the answers of a row as the predict
stage left them; a file of others becomes files of predictions, which `poseboard score` takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from poseboard.benchmarks.handover import choose_cameras
from poseboard.benchmarks.harness import Bench
from poseboard.benchmarks.predicting import asked, predictions_path
from poseboard.benchmarks.settings import Settings
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import Dataset, Poses, Sample
from poseboard.datasets.skeleton import ROOT
from poseboard.protocols import predictions
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.protocols.records import check_name
from poseboard.protocols.root_files import (
    LengthUnit,
    RootRecord,
    processed_boxes,
    read_roots,
    records_of,
    write_roots,
)

SAME_PX = 1.0
"""Boxes that differ by less are one: files round them."""


@runtime_checkable
class NumberedImages(Protocol):
    """A data set whose images have ids in its own files, by which the community names them."""

    def image_id(self, key: str, view: str) -> int:
        """Id of the image of a sample in a view."""
        ...


def write_exchanged(settings: Settings, dataset: str, row: str, out: Path | None = None, split: str = "test") -> str:
    """Write what a row answered of a split, with its first seed; returns what was written, in a line.

    Args:
        settings: params.yaml in one profile.
        dataset: name in params.yaml.
        row: that answers roots.
        out: of the file; None: ``bbox_root_<data set>_output.json`` beside the predictions of the row.
        split: of the data set.

    Raises:
        InputError: there are no predictions, they are no roots or of another state of the data set, or images have no
            ids.
    """
    bench = Bench.open(settings, dataset)
    ids, unit = _numbered(bench.dataset), _unit(bench.dataset)
    seed = settings.seeds(row, dataset)[0]
    records: list[RootRecord] = []
    for condition in _each_alone(bench, split):
        paths = (predictions_path(settings, dataset, row, way, seed) for way in condition.ways)
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            missing = settings.portable(str(settings.row_path("predictions", row, dataset)))
            raise InputError(
                missing,
                f"there are no predictions of {split} from {condition.cameras[0]} alone",
                f"run `poseboard predict {dataset} {row} --split {split}` first",
            )
        table = predictions.read(path)
        if table.info.manifest != bench.dataset.manifest():
            remedy = f"run `poseboard predict {dataset} {row} --split {split}` again"
            raise InputError(f"{path}: metadata.manifest", f"is of another state of {dataset}", remedy)
        records += _records(bench.dataset, ids, table, condition)
    name = f"bbox_root_{dataset}_output.json"
    out = settings.row_path("predictions", row, dataset) / name if out is None else out
    write_roots(out, records, unit)
    return f"{settings.portable(str(out))}: {len(records)} people, in {unit}"


def read_exchanged(
    settings: Settings, dataset: str, file: Path, name: str, out: Path, split: str = "test"
) -> list[Path]:
    """Make files of predictions of a file of roots, one per camera of the data set; returns those written.

    People are numbered as the boxes of the data set where theirs is one of them, and after those otherwise: protocols
    of given boxes compare people of the same number.

    Args:
        settings: params.yaml in one profile.
        dataset: name in params.yaml.
        file: ``bbox_root_<data set>_output.json``, in the unit of the data set.
        name: of the method that it is of.
        out: of the predictions; of several cameras each name is added to it.
        split: of the data set.

    Raises:
        InputError: it is no such file, or names an image that the split does not have.
    """
    bench = Bench.open(settings, dataset)
    ids = _numbered(bench.dataset)
    by_image: dict[int, list[RootRecord]] = {}
    for record in read_roots(file, _unit(bench.dataset)):
        by_image.setdefault(record.image_id, []).append(record)
    keys = list(bench.dataset.keys(split))
    conditions = _each_alone(bench, split)
    tables: dict[Path, PoseTable] = {}
    unknown = set(by_image)
    for condition in conditions:
        answers = []
        for key in keys:
            shown = choose_cameras(bench.dataset.sample(key), condition.cameras)
            number = ids.image_id(key, condition.cameras[0]) if shown.views else None
            people = by_image.get(number, []) if number is not None else []
            unknown.discard(-1 if number is None else number)
            answers.append(_numbered_as_boxes(people, shown))
        info = PredictionInfo(
            skeleton=ROOT.name,
            joints=ROOT.joints,
            dataset=dataset,
            condition=condition.shown("none"),
            manifest=bench.dataset.manifest(),
            method=name,
            trained_on=(),
        )
        path = (
            out if len(conditions) == 1 else out.with_stem(f"{out.stem}-{check_name('camera', condition.cameras[0])}")
        )
        tables[path] = PoseTable.collect(keys, answers, info)
    if unknown:
        raise InputError(
            f"{file}: image_id", f"{min(unknown)} is no image of {split} of {dataset}", "name the split that it is of"
        )
    with WholeFiles() as outputs:
        for path, table in tables.items():
            predictions.write(path, table, outputs)
    return list(tables)


def _numbered(dataset: Dataset) -> NumberedImages:
    if not isinstance(dataset, NumberedImages):
        raise InputError(f"data set {dataset.name}", "its images have no ids", "no file of roots is exchanged of it")
    return dataset


def _unit(dataset: Dataset) -> LengthUnit:
    unit: LengthUnit = getattr(dataset, "length_unit", "mm")
    return unit


def _each_alone(bench: Bench, split: str) -> list[Condition]:
    """The conditions of a split that tables offer from one camera without perturbation, one per camera."""
    offered = asked(bench.dataset.name, bench.settings.params.profile, bench.dataset.views, split)
    alone = {one.cameras[0]: one for one in offered if len(one.cameras) == 1 and one.perturbation is None}
    return [alone[name] for name in bench.dataset.views if name in alone]


def _records(dataset: Dataset, ids: NumberedImages, table: PoseTable, condition: Condition) -> list[RootRecord]:
    """Of the predictions from one camera, in the order of the data set."""
    if table.info.joints != ROOT.joints:
        raise InputError(f"{table.source}: metadata.joints", "are no roots alone", "name a row that answers roots")
    view = condition.cameras[0]
    order = np.argsort(table.keys.astype(str), kind="stable")
    keys, first = np.unique(table.keys.astype(str)[order], return_index=True)
    rows = dict(zip(keys.tolist(), np.split(order, first[1:]), strict=True))
    samples, answers, numbers = [], [], []
    for key in dataset.keys(condition.split):
        sample = choose_cameras(dataset.sample(key), condition.cameras)
        if key in rows and sample.views:
            samples.append(sample)
            answers.append(_of_rows(table, rows[key], len(sample.views[0].boxes_px)))
            numbers.append(ids.image_id(key, view))
    return records_of(samples, answers, numbers)


def _of_rows(table: PoseTable, rows: NDArray[np.int64], people: int) -> Poses:
    """The answers of a sample by the number of the person, NaN where there is none."""
    joints_mm, score = np.full((people, 1, 3), np.nan), np.zeros(people)
    number = table.person[rows]
    joints_mm[number], score[number] = table.joints_mm[rows], table.score[rows]
    return Poses(ROOT, joints_mm, score)


def _numbered_as_boxes(people: Sequence[RootRecord], sample: Sample) -> Poses:
    """People of an image in the order of its boxes; of a box without anybody the root is NaN."""
    boxes = processed_boxes(sample.views[0]) if sample.views else np.empty((0, 4))
    places: list[int] = []
    for record in people:
        apart = np.abs(boxes - np.array(record.box_xywh)).max(axis=1, initial=0.0)
        apart[[place for place in places if place < len(boxes)]] = np.inf
        nearest = int(apart.argmin()) if len(apart) else -1
        is_one = nearest >= 0 and apart[nearest] < SAME_PX
        places.append(nearest if is_one else len(boxes) + sum(place >= len(boxes) for place in places))
    count = max([len(boxes), *(place + 1 for place in places)])
    joints_mm, score = np.full((count, 1, 3), np.nan), np.zeros(count)
    for place, record in zip(places, people, strict=True):
        joints_mm[place, 0], score[place] = record.root_mm, record.score
    return Poses(ROOT, joints_mm, score, sample.views[0].name if sample.views else "world")
