"""Roots that one row predicts for another, which names it under ``after``.

Predictions are stored in float32, which moves a root by up to 0.0003 mm, and with it the cube that a network looks at
and every step of its training. The predict stage therefore stores the roots that other rows need in float64 beside the
predictions: ``<condition>-seed<k>.roots.npz``. The roots of a training lie beside the checkpoints of the trained row.
Without a file of the same weights, data and code, the roots are predicted when they are needed.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from poseboard.benchmarks.handover import Progress
from poseboard.benchmarks.harness import Bench, LoadedRow, roots_of
from poseboard.benchmarks.prediction_jobs import Prediction, predict_all
from poseboard.benchmarks.provenance import check_weights, code_sha256, prediction_code, weights_sha256
from poseboard.benchmarks.transfer import transfer
from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles, write_file
from poseboard.datasets.sample import Poses
from poseboard.protocols.condition import Condition


@runtime_checkable
class WithResultsFiles(Protocol):
    """A data set whose format for predictions is published, so that the results of others can be read."""

    def read_results(self, path: Path, split: str) -> Array:
        """Poses (N, J, 3), world mm, in the order of the keys of a split; InputError for another file."""
        ...


def handed_roots_mm(
    bench: Bench,
    row: str,
    seed: int,
    asked: Condition,
    *,
    predictions: Path | None = None,
    kept: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Predicted root positions for a row: key -> (P, 3), world mm, NaN for samples without a prediction.

    They come from the row named under ``after`` with its weights of the same seed, or from the published results file
    that params.yaml names under ``roots``.

    Args:
        bench: the data set.
        row: the row that uses the roots.
        seed: of the training.
        asked: condition of the row that predicts them (`Condition.of_root`).
        predictions: folder of the predictions of the row under ``after``.
        kept: file that keeps newly predicted roots for the next call; None: they are not kept.
        progress: called with (samples done, samples in all).

    Raises:
        InputError: no row predicts roots, it needs more cameras, or the file has other samples.
    """
    entry, split = bench.settings.entry(row), asked.split
    keys = asked.samples(bench.dataset.keys(split))
    fewest = bench.fewest_root_views(row, split)
    if len(asked.cameras) < fewest:
        raise InputError(f"views {', '.join(asked.cameras)}", f"roots need at least {fewest}", "choose more cameras")
    source = bench.roots_source(row, seed, split)
    if split in entry.roots:
        if not isinstance(bench.dataset, WithResultsFiles):
            problem = f"results of {bench.dataset.name} are not published as files"
            remedy = "name a row that predicts them under `after`"
            raise InputError(f"params.yaml: methods.{row}.roots", problem, remedy)
        roots = bench.dataset.skeleton.root_of(bench.dataset.read_results(source, split))
        return dict(zip(bench.dataset.keys(split), roots[:, None], strict=True))
    basis = roots_basis(bench, entry.after, seed, asked)
    if predictions is not None:
        roots_mm = read_roots(predictions / roots_name(asked, seed), keys, basis)
        if roots_mm is not None:
            return roots_mm

    roots_mm = None if kept is None else read_roots(kept, keys, basis)
    if roots_mm is None:
        roots_mm = _predicted(bench, entry.after, seed, asked, progress)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_roots(kept, roots_mm, basis)
    return roots_mm


def roots_asked(bench: Bench, row: str, offered: Sequence[Condition]) -> list[Condition]:
    """The conditions under which other rows need the roots of a row, each once.

    Args:
        bench: the data set.
        row: the row that predicts roots.
        offered: conditions of the tables on one split.
    """
    asked: dict[Condition, None] = {}
    for name, entry in bench.settings.rows.items():
        if entry.after != row:
            continue
        try:
            inputs = bench.method(name).inputs
            fewest = bench.fewest_root_views(name, "") if inputs.root == "predicted" else 0
        except InputError:
            continue  # it says so where it is run itself
        for condition in offered if inputs.root == "predicted" else ():
            fits = inputs.views[0] <= len(condition.cameras) <= inputs.views[1]
            if fits and len(condition.root_cameras) >= fewest and condition.split not in entry.roots:
                asked[condition.of_root] = None
    return list(asked)


class HandedOn:
    """The files beside a row's predictions with the roots that other rows need.

    Args:
        bench: the data set.
        row: the row that predicts the roots.
        seed: of its weights.
        folder: of its predictions.
        conditions: condition of its predictions -> one of `roots_asked`.
    """

    def __init__(
        self, bench: Bench, row: str, seed: int, folder: Path, conditions: Mapping[Condition, Condition]
    ) -> None:
        self._bench, self._row, self._seed, self._folder = bench, row, seed, folder
        self._conditions = conditions

    def files(self, condition: Condition) -> list[Path]:
        """The file of a condition; empty if no row needs its roots."""
        asked = self._conditions.get(condition)
        return [] if asked is None else [self._folder / roots_name(asked, self._seed)]

    def is_current(self, condition: Condition) -> bool:
        """True if the file of the condition is there, or not needed, and nothing that it depends on changed."""
        keys = condition.samples(self._bench.dataset.keys(condition.split))
        basis = partial(roots_basis, self._bench, self._row, self._seed)
        asked = self._conditions.get(condition)
        return asked is None or all(read_roots(path, keys, basis(asked)) is not None for path in self.files(condition))

    def write(self, condition: Condition, answers: Sequence[Poses], files: WholeFiles) -> list[Path]:
        """Write the roots of the predictions under a condition, if a row needs them; returns their file."""
        asked = self._conditions.get(condition)
        if asked is not None:
            keys = condition.samples(self._bench.dataset.keys(condition.split))
            basis = roots_basis(self._bench, self._row, self._seed, asked)
            path = self._folder / roots_name(asked, self._seed)
            skeleton = self._bench.trained(condition.trained_on).dataset.skeleton
            write_roots(path, roots_of(skeleton, self._row, keys, answers), basis, files)
        return self.files(condition)


def roots_name(asked: Condition, seed: int) -> str:
    """Name of the file beside the predictions of a row."""
    return f"{asked.slug}-seed{seed}.roots.npz"


def roots_basis(bench: Bench, row: str, seed: int, asked: Condition) -> str:
    """SHA-256 of everything that the roots of a row depend on."""
    settings, dataset, origin = bench.settings, bench.dataset, bench.trained(asked.trained_on)
    keys = asked.samples(dataset.keys(asked.split))
    weights = settings.checkpoint(origin.dataset.name, row, seed)
    if not weights.is_file():
        raise InputError(weights, f"there is no checkpoint of {row}", "train it first: another row takes its roots")
    check_weights(origin, row)
    values = [
        [dataset.name, dataset.manifest(), images_state_sha256(bench, keys), keys],
        [row, origin.options(row), weights_sha256(settings, weights), seed],
        [
            asked.model_dump(mode="json", exclude_defaults=True),
            code_sha256(prediction_code(settings, dataset.name, row)),
        ],
        *transfer_basis(bench, asked),
    ]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def transfer_basis(bench: Bench, shown: Condition) -> list[object]:
    """What predictions also depend on if the weights were trained on another data set; otherwise empty."""
    differs = transfer(bench, shown.trained_on)
    return [] if differs is None else [[shown.trained_on, differs.skeleton.joints, differs.turn.tolist()]]


def from_all_cameras(bench: Bench, split: str) -> Condition:
    """The condition of the roots of a training: all cameras."""
    views = tuple(bench.dataset.views)
    return Condition(split=split, cameras=views, root="predicted", root_cameras=views)


def images_state_sha256(bench: Bench, keys: Sequence[str]) -> str:
    """SHA-256 of the state of all images, boxes and given detections."""
    digest = hashlib.sha256()
    for key in keys:
        for view in bench.dataset.sample(key).views:
            given = [None if values is None else values.tolist() for values in (view.joints_px, view.confidence)]
            if view.box_scores is not None:
                given.append(view.box_scores.tolist())
            digest.update(f"{key} {view.name} {view.image_state()} {view.boxes_px.tolist()} {given}\n".encode())
    return digest.hexdigest()


def write_roots(path: Path, roots_mm: Mapping[str, Array], basis: str, files: WholeFiles | None = None) -> None:
    """Write roots, whole or not at all; with ``files`` together with those."""
    packed = io.BytesIO()
    counts = np.array([len(of_key) for of_key in roots_mm.values()], dtype=np.int64)
    together = np.concatenate([np.empty((0, 3)), *roots_mm.values()])
    np.savez(packed, basis=np.array(basis), counts=counts, roots_mm=together)
    if files is None:
        write_file(path, packed.getvalue())
    else:
        files.write(path, packed.getvalue())


def read_roots(path: Path, keys: Sequence[str], basis: str) -> dict[str, Array] | None:
    """Read roots; None if the file is damaged or has another basis.

    Args:
        path: written by `write_roots`.
        keys: of the split, in order.
        basis: see `roots_basis`.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            if str(held["basis"]) != basis:
                return None
            counts, roots_mm = held["counts"], held["roots_mm"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if len(counts) != len(keys) or roots_mm.shape != (counts.sum(), 3):
        return None
    return dict(zip(keys, np.split(roots_mm, np.cumsum(counts)[:-1]), strict=True))


def _predicted(bench: Bench, row: str, seed: int, asked: Condition, progress: Progress | None) -> dict[str, Array]:
    origin = bench.trained(asked.trained_on)
    keys = asked.samples(bench.dataset.keys(asked.split))
    weights = bench.settings.checkpoint(origin.dataset.name, row, seed)
    loaded = LoadedRow(row, partial(origin.method, row), weights)
    (poses,) = predict_all([Prediction(bench, loaded, asked, keys)], progress)
    return roots_of(origin.dataset.skeleton, row, keys, [poses[key] for key in keys])
