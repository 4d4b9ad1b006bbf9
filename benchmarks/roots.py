"""Roots that one row predicts for another: predictions of the row named under ``after``, kept as files.

Predictions are kept in float32, which moves a root by up to 0.0003 mm, and with it the cube that a network looks at and
every step of its training. So the roots themselves are kept in float64, beside the predictions:
``<condition>-seed<k>.roots.npz``, written by the predict stage for the conditions that rows after it need. The roots of
a training lie beside the checkpoints of the row that is trained. Where neither file exists, or it is of other weights,
data or code, the roots are predicted now.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from poseboard.benchmarks.handover import Progress, transfer
from poseboard.benchmarks.harness import (
    LoadedRow,
    Prediction,
    build_method,
    fewest_root_views,
    options_of_pass,
    predict_all,
    roots_of,
)
from poseboard.benchmarks.plan import Run
from poseboard.benchmarks.provenance import check_weights, code_sha256, prediction_code, weights_sha256
from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles, write_file
from poseboard.datasets.sample import Dataset, Poses
from poseboard.protocols.condition import Condition


def predicted_roots_mm(
    run: Run,
    seed: int,
    condition: Condition,
    *,
    predictions: Path | None = None,
    kept: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Predicted root positions (P, 3) by key, world mm, as input of a row; NaN for people without a prediction.

    They are predictions of the row under ``after`` with its weights of the same seed.

    Args:
        run: the row that needs them.
        seed: of the training.
        condition: inputs of the row that predicts them (`Condition.of_root`).
        predictions: folder of the predictions of the row under ``after``.
        kept: file for roots that are predicted now, so that this is done once; None: nothing is kept.
        progress: called with (samples done, samples in all).

    Raises:
        InputError: no row predicts them, or it needs more cameras.
    """
    keys = condition.samples(run.dataset.keys(condition.split))
    fewest = fewest_root_views(run)
    assert run.start is not None  # or the line above raises
    if len(condition.cameras) < fewest:
        where = f"views {', '.join(condition.cameras)}"
        raise InputError(where, f"roots need at least {fewest}", "choose more cameras")
    basis = roots_basis(run.start, seed, condition)
    if predictions is not None:
        roots_mm = read_roots(predictions / roots_name(condition, seed), keys, basis)
        if roots_mm is not None:
            return roots_mm

    roots_mm = None if kept is None else read_roots(kept, keys, basis)
    if roots_mm is None:
        roots_mm = _predict_roots(run.start, seed, condition, keys, progress)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_roots(kept, roots_mm, basis)
    return roots_mm


def conditions_of_followers(run: Run, conditions: Sequence[Condition]) -> list[Condition]:
    """The conditions under which rows after a row need its roots, each once.

    Args:
        run: the row that predicts roots.
        conditions: of the tables, of one split.
    """
    of_roots: dict[Condition, None] = {}
    for follower in run.followers:
        try:
            inputs = build_method(follower).inputs
            fewest = fewest_root_views(follower) if inputs.root == "predicted" else 0
        except InputError:
            continue  # its own evaluation says so
        for condition in conditions if inputs.root == "predicted" else ():
            fits = inputs.views[0] <= len(condition.cameras) <= inputs.views[1]
            if fits and len(condition.root_cameras) >= fewest:
                of_roots[condition.of_root] = None
    return list(of_roots)


class RootFiles:
    """The roots that a row predicts for others, as files beside its predictions.

    Args:
        run: the row that predicts them.
        seed: of its weights.
        conditions: its inputs -> one of `conditions_of_followers`.
    """

    def __init__(self, run: Run, seed: int, conditions: Mapping[Condition, Condition]) -> None:
        self._run, self._seed, self._conditions = run, seed, conditions

    def files(self, condition: Condition) -> list[Path]:
        """The file of a condition; none if no row needs its roots."""
        of_roots = self._conditions.get(condition)
        return [] if of_roots is None else [self._run.path("predictions") / roots_name(of_roots, self._seed)]

    def is_current(self, condition: Condition) -> bool:
        """Whether the file of a condition is whole and depends on nothing that changed, if one is needed."""
        if (of_roots := self._conditions.get(condition)) is None:
            return True
        keys = condition.samples(self._run.dataset.keys(condition.split))
        basis = roots_basis(self._run, self._seed, of_roots)
        return all(read_roots(path, keys, basis) is not None for path in self.files(condition))

    def write(self, condition: Condition, predictions: Sequence[Poses], files: WholeFiles) -> list[Path]:
        """Write the roots of the predictions of a split under a condition, if they are needed; returns their file."""
        of_roots, run = self._conditions.get(condition), self._run
        for path in self.files(condition) if of_roots is not None else ():
            assert of_roots is not None
            keys = condition.samples(run.dataset.keys(condition.split))
            skeleton = run.trained(condition.trained_on).dataset.skeleton
            roots_mm = roots_of(skeleton, run.row, keys, predictions)
            write_roots(path, roots_mm, roots_basis(run, self._seed, of_roots), files)
        return self.files(condition)


def roots_name(condition: Condition, seed: int) -> str:
    """Name of the file beside the predictions of a row."""
    return f"{condition.slug}-seed{seed}.roots.npz"


def roots_basis(run: Run, seed: int, condition: Condition) -> str:
    """SHA-256 of everything that the roots of a row depend on."""
    dataset, origin = run.dataset, run.trained(condition.trained_on)
    keys = condition.samples(dataset.keys(condition.split))
    weights = origin.checkpoint(seed)
    if not weights.is_file():
        raise InputError(weights, f"there is no checkpoint of {run.row}", "train it first: another row needs its roots")
    check_weights(origin)
    values = [
        [dataset.name, dataset.manifest(), images_state_sha256(dataset, keys), keys],
        [run.row, options_of_pass(origin), weights_sha256(run.layout, weights), seed],
        [condition.model_dump(mode="json", exclude_defaults=True), code_sha256(prediction_code(run))],
        *transfer_basis(run, condition),
    ]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def transfer_basis(run: Run, condition: Condition) -> list[object]:
    """What predictions depend on beside the weights if these are of another data set; empty if they are not."""
    if condition.trained_on is None:
        return []
    differs = transfer(run.dataset, run.trained(condition.trained_on).dataset)
    return [[condition.trained_on, differs.skeleton.joints, differs.turn.tolist()]]


def from_all_cameras(dataset: Dataset, split: str) -> Condition:
    """The condition of roots for a training: all cameras at once."""
    views = tuple(dataset.views)
    return Condition(split=split, cameras=views, root="predicted", root_cameras=views)


def images_state_sha256(dataset: Dataset, keys: Sequence[str]) -> str:
    """SHA-256 of the state of all images, boxes and given detections."""
    digest = hashlib.sha256()
    for key in keys:
        for view in dataset.sample(key).views:
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


def _predict_roots(
    run: Run, seed: int, condition: Condition, keys: Sequence[str], progress: Progress | None
) -> dict[str, Array]:
    origin = run.trained(condition.trained_on)
    loaded = LoadedRow(run.row, partial(build_method, origin), origin.checkpoint(seed))
    other = None if origin is run else origin.source
    prediction = Prediction(run.source, run.layout.crops, loaded, condition, keys, origin=other)
    (poses,) = predict_all([prediction], progress)
    return roots_of(origin.dataset.skeleton, run.row, keys, [poses[key] for key in keys])
