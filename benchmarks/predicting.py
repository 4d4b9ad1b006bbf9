"""The predict stage: a row's answers on every sample, one Parquet file per condition and seed."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from poseboard.benchmarks.harness import Bench, LoadedRow, Restricted, predict
from poseboard.benchmarks.locks import only_writer
from poseboard.benchmarks.pictures import write_pictures
from poseboard.benchmarks.progress import progress
from poseboard.benchmarks.provenance import weights_sha256
from poseboard.benchmarks.settings import Settings
from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Drawing, Inputs
from poseboard.protocols import predictions
from poseboard.protocols.condition import Condition
from poseboard.protocols.table import Group, Table

TABLES = Path(__file__).parent / "tables"
PICTURES = "pictures"
"""Folder beside the predictions of a row: what the method drew for its page."""


def tables_on(dataset: str, split: str = "test") -> list[Table]:
    """The tables that are run on a split of a data set, by id; InputError names a file that is wrong."""
    tables = [Table.read(path) for path in sorted(TABLES.glob("*.yaml"))]
    return [table for table in tables if table.dataset == dataset and table.split == split]


def asked(dataset: str, names: Sequence[str], split: str = "test") -> list[Condition]:
    """The conditions that some table offers, each once; all cameras at once for a split that no table is run on.

    Args:
        dataset: its name in params.yaml.
        names: its cameras in order.
        split: of it.
    """
    tables = tables_on(dataset, split)
    offered = [condition for table in tables for group in table.conditions(names) for condition in group]
    if not tables:
        offered = list(Group().conditions(names, split, "none"))
    return list(dict.fromkeys(offered))


def predictions_path(settings: Settings, dataset: str, method: str, condition: Condition, seed: int) -> Path:
    """File of a row's predictions."""
    return settings.file("predictions", dataset, method) / f"{condition.slug}-seed{seed}.parquet"


def row_lock(settings: Settings, dataset: str, method: str) -> AbstractContextManager[None]:
    """Held while a row's predictions are written or scored: nobody scores half of one run and half of another."""
    return only_writer(settings.file("predictions", dataset, f".{method}.lock"), "predicting or scoring this row")


def predict_stage(
    settings: Settings, dataset: str, method: str, split: str = "test", checkpoint: Path | None = None
) -> Iterator[str]:
    """Predict and write every file that the tables need; yields a line a file.

    Files of the split that an earlier run left and this one does not write (of another seed or condition) are
    removed, so that they are not scored beside these.

    Args:
        settings: params.yaml in one profile.
        dataset: name in params.yaml.
        method: row in params.yaml.
        split: "test", or "train", which is predicted with all cameras only.
        checkpoint: weights to use for the first seed, instead of every seed of the train stage.

    Raises:
        InputError: the data set, the row, its checkpoint or its answers cannot be used, or another process is
            predicting or scoring this row.
    """
    settings.entry(method)
    with row_lock(settings, dataset, method):
        if dataset in settings.params.detections:
            from poseboard.benchmarks.detections import detections_stage

            yield from detections_stage(settings, dataset, method)
        else:
            # Together and last: whatever fails leaves the files of an earlier run, and never some of two runs.
            with WholeFiles() as outputs:
                written = yield from _predict(settings, dataset, method, split, checkpoint, outputs)
            _remove_others(settings.file("predictions", dataset, method), split, written)


def _predict(
    settings: Settings, dataset: str, method: str, split: str, checkpoint: Path | None, outputs: WholeFiles
) -> Generator[str, None, set[Path]]:
    import torch

    given = settings.options(method)
    written: set[Path] = set()
    shown: tuple[LoadedRow, Restricted, dict[str, Poses]] | None = None
    bench = Bench.open(settings, dataset)
    names = bench.dataset.views
    keys = list(bench.dataset.keys(split))
    offered = asked(dataset, names, split)
    for seed in settings.profile.seeds[:1] if checkpoint else settings.profile.seeds:
        weights = checkpoint or settings.checkpoint(dataset, method, seed)
        row = LoadedRow(method, partial(bench.method, method), weights, "cuda" if torch.cuda.is_available() else "cpu")
        of_weights = weights_sha256(settings, weights)
        fewest, most = row.inputs.views
        if not any(fewest <= len(condition.cameras) <= most for condition in offered):
            raise InputError(f"method {method}", f"takes {fewest} to {most} views, no table offers that", "add a table")
        rooted = row.inputs.root == "predicted"
        of_roots = bench.fewest_root_views(method, split) if rooted else 0
        roots_sha256 = weights_sha256(settings, bench.roots_source(method, seed, split)) if rooted else None
        known_mm: dict[tuple[str, ...], dict[str, Array]] = {}
        conditions = list(dict.fromkeys(condition.shown(row.inputs.root, row.inputs.hand) for condition in offered))
        drawn = max(conditions, key=lambda condition: len(condition.cameras))
        for condition in conditions:
            name = condition.slug
            if not fewest <= len(condition.cameras) <= most:
                yield f"{dataset}/{method}: {name} left out, the method takes {fewest} to {most} views"
                continue
            if rooted and len(condition.root_cameras) < of_roots:
                yield f"{dataset}/{method}: {name} left out, the root it is handed takes at least {of_roots} views"
                continue
            with progress(f"predict {dataset}/{method} {name} seed {seed}") as report:
                if rooted and condition.root_cameras not in known_mm:
                    known_mm[condition.root_cameras] = bench.roots_mm(
                        method, seed, split, condition.root_cameras, report
                    )
                roots_mm = known_mm.get(condition.root_cameras)
                samples = bench.restricted(row.inputs, condition.cameras, roots_mm, report)
                model = row.model()
                answers = predict(model, samples, keys, progress=report)
            for answer in answers:
                if answer.skeleton.joints != bench.dataset.skeleton.joints:
                    raise InputError(f"method {method}", f"answers in {answer.skeleton.name}", "use the given skeleton")
            info = predictions.PredictionInfo(
                skeleton=bench.dataset.skeleton.name,
                joints=bench.dataset.skeleton.joints,
                dataset=dataset,
                condition=condition,
                roots_sha256=roots_sha256,
                inputs=TypeAdapter(Inputs).dump_python(row.inputs, mode="json"),
                manifest=bench.dataset.manifest(),
                method=method,
                checkpoint_sha256=of_weights,
                seed=seed,
                options=row.options(given),
            )
            path = predictions_path(settings, dataset, method, condition, seed)
            predictions.write(path, predictions.PoseTable.collect(keys, answers, info), outputs)
            written.add(path)
            if (split, condition, seed) == ("test", drawn, settings.profile.seeds[0]) and isinstance(model, Drawing):
                shown = row, samples, dict(zip(keys, answers, strict=True))
            missing = sum(not len(one.joints_mm) or bool(np.isnan(one.joints_mm).any()) for one in answers)
            told = f"{missing} without a whole answer" if missing else "all answered"
            cameras = len(condition.cameras)
            yield f"{path.relative_to(settings.home)}: {len(keys)} samples, {cameras} cameras, {told}"
    if shown is not None:  # last, by a model that has predicted nothing: what it is asked here, no answer can rest on
        row, samples, of_key = shown
        folder = settings.file("predictions", dataset, method) / PICTURES
        written |= write_pictures(row.model(), method, samples, of_key, folder, outputs)
    return written


def _remove_others(folder: Path, split: str, written: set[Path]) -> None:
    """What an earlier run left of a split and this one has not written."""
    for path in folder.glob(f"{split}-*.parquet"):
        if path not in written:
            path.unlink()
    for path in (folder / PICTURES).glob("*") if split == "test" else ():
        if path not in written:
            path.unlink()
