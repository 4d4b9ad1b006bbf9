"""The predict stage: a row's predictions on every sample, one Parquet file per condition and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from poseboard.benchmarks.handover import Handover
from poseboard.benchmarks.harness import LoadedRow, Prediction, build_method, fewest_root_views, predict_all
from poseboard.benchmarks.locks import only_writer
from poseboard.benchmarks.pictures import write_pictures
from poseboard.benchmarks.plan import Run
from poseboard.benchmarks.progress import progress
from poseboard.benchmarks.provenance import (
    check_weights,
    code_sha256,
    prediction_code,
    weights_sha256,
    weights_source,
)
from poseboard.benchmarks.roots import (
    RootFiles,
    conditions_of_followers,
    images_state_sha256,
    predicted_roots_mm,
    transfer_basis,
)
from poseboard.benchmarks.training_data import TrainingData
from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Inputs
from poseboard.protocols import predictions
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Weights

PICTURES = "pictures"
"""Folder beside the predictions of a row: what the method drew for its page."""

_INPUTS = TypeAdapter(Inputs)


def weights_path(run: Run, seed: int) -> Path | None:
    """The checkpoint of a row; None on data sets on which it has none because nothing can be trained there."""
    path = run.checkpoint(seed)
    return path if path.is_file() or not TrainingData(run).nothing_to_learn else None


def row_lock(run: Run) -> AbstractContextManager[None]:
    """Lock for writing or scoring a row's predictions, so that a score never mixes two runs."""
    lock = run.layout.row_lock("predictions", run.row, run.source.name)
    return only_writer(lock, "predicting or scoring this row", group=True)


def predict_stage(run: Run, split: str = "test") -> Iterator[str]:
    """Write the predictions files that the tables need; yields a line per file.

    A file is kept where nothing that it depends on changed. Files of the split that this run does not need, of another
    seed or condition, are removed, so that they are not scored.

    Args:
        run: the row on a data set.
        split: of the data set. A split without tables, such as "train", is predicted from all cameras.

    Raises:
        InputError: the row, its checkpoint or its predictions cannot be used, or another process is predicting or
            scoring this row.
    """
    with row_lock(run):
        # All files are replaced together and last, so that an error leaves those of the earlier run.
        with WholeFiles() as outputs:
            written = yield from _predict_split(run, split, outputs)
        _remove_others(run.path("predictions"), split, written)


def _predict_split(run: Run, split: str, outputs: WholeFiles) -> Generator[str, None, set[Path]]:
    """Predict every seed and condition of a split; returns the files that belong to the run, kept ones included."""
    keys = list(run.dataset.keys(split))
    images_sha256 = images_state_sha256(run.dataset, keys)
    files: set[Path] = set()
    to_draw: tuple[Prediction, dict[str, Poses]] | None = None
    for seed in run.seeds:
        of_seed = _Seed(run, split, seed, keys, images_sha256)
        due: list[Condition] = []
        for condition in of_seed.conditions:
            if reason := of_seed.why_left_out(condition):
                yield f"{run}: {condition.slug} left out, {reason}"
            elif (table := of_seed.unchanged_table(condition)) is not None:
                files |= of_seed.files(condition) | of_seed.pictures(condition)
                yield f"{of_seed.summary(condition, table)}; nothing that it depends on changed"
            else:
                due.append(condition)
        needed = of_seed.to_predict(due)
        with progress(f"predict {run} seed {seed}") as report:
            for prediction, poses in zip(needed, predict_all(needed, report), strict=True):
                table = of_seed.write(prediction, poses, outputs)
                files |= of_seed.files(prediction.condition)
                yield of_seed.summary(prediction.condition, table)
                if prediction.condition == of_seed.drawn_condition:
                    to_draw = prediction, {key: poses[key] for key in prediction.keys}
    if to_draw is not None:  # after all predictions: none can depend on what a method does here
        prediction, poses = to_draw
        model, handover = prediction.row.model(), prediction.handover()
        folder = run.path("predictions") / PICTURES
        files |= write_pictures(model, run.row, handover, poses, folder, outputs)
    return files


class _Seed:
    """One seed of a row on a split: its conditions, and the file of each.

    Args:
        run: the row on a data set.
        split: of the data set.
        seed: of the training.
        keys: of all samples of the split.
        images_sha256: see `images_state_sha256`.

    Attributes:
        conditions: those of all tables, reduced to the inputs that the method declares.
        drawn_condition: the one whose samples the method draws; None on splits and seeds without pictures.

    Raises:
        InputError: the weights cannot be used, or no condition fits the method.
    """

    def __init__(self, run: Run, split: str, seed: int, keys: Sequence[str], images_sha256: str) -> None:
        self._run, self._seed, self._keys = run, seed, keys
        own = _Trained.load(run, seed)
        self._trained: dict[str | None, _Trained] = {None: own}
        self._inputs = own.row.inputs

        of_tables = run.conditions(split, in_world=self._inputs.extrinsics)
        of_roots = conditions_of_followers(run, of_tables)
        of_both = list(dict.fromkeys([*of_tables, *of_roots]))
        _check_views(run.row, self._inputs, of_both)
        self.conditions = list(dict.fromkeys(_reduced(condition, self._inputs) for condition in of_both))
        has_pictures = (split, seed) == ("test", run.seeds[0])
        self.drawn_condition = max(self.conditions, key=_extent) if has_pictures else None
        by_condition = {_reduced(each, self._inputs): each for each in of_roots if own.sha256 is not None}
        self._root_files = RootFiles(run, seed, by_condition)
        self._basis = {
            "data": [run.source.name, run.dataset.synthetic, run.dataset.manifest(), images_sha256, keys],
            "code": _code_sha256(run, needs_roots=self._needs_roots),
        }

    def why_left_out(self, condition: Condition) -> str:
        """Reason why the row cannot predict under a condition; empty if it can."""
        return _left_out(self._run, condition, self._inputs, self._trained[None].fewest_of_roots)

    def unchanged_table(self, condition: Condition) -> PoseTable | None:
        """The predictions of an earlier run, if nothing that they depend on changed."""
        if not self._root_files.is_current(condition):
            return None
        return _unchanged(self._path(condition), self._basis_sha256(condition))

    def files(self, condition: Condition) -> set[Path]:
        """The files of a condition: predictions, and roots for other rows."""
        return {self._path(condition), *self._root_files.files(condition)}

    def pictures(self, condition: Condition) -> set[Path]:
        """The pictures that an earlier run drew under a condition."""
        return set((self._run.path("predictions") / PICTURES).glob("*")) if condition == self.drawn_condition else set()

    def to_predict(self, conditions: Sequence[Condition]) -> list[Prediction]:
        """The predictions under some conditions, with the roots that the row needs."""
        roots_mm: dict[Condition, Mapping[str, Array] | None] = dict.fromkeys(conditions)
        if self._needs_roots:
            by_root = {root: self._roots_mm(root) for root in dict.fromkeys(each.of_root for each in conditions)}
            roots_mm = {condition: by_root[condition.of_root] for condition in conditions}
        return [
            Prediction(
                self._run.source,
                self._run.layout.crops,
                self._weights(condition).row,
                condition,
                condition.samples(self._keys),
                roots_mm[condition],
                None if condition.trained_on is None else self._run.trained(condition.trained_on).source,
            )
            for condition in conditions
        ]

    def write(self, prediction: Prediction, poses: Mapping[str, Poses], outputs: WholeFiles) -> PoseTable:
        """Write the predictions of a condition, and the roots that other rows need of it."""
        condition, in_order = prediction.condition, [poses[key] for key in prediction.keys]
        table = _collected(prediction.keys, in_order, self._info(condition))
        predictions.write(self._path(condition), table, outputs)
        self._root_files.write(condition, in_order, outputs)
        return table

    def summary(self, condition: Condition, table: PoseTable) -> str:
        """A line for the terminal: the file, and how many samples lack predictions."""
        return _line(self._run, self._path(condition), condition.samples(self._keys), table)

    @property
    def _needs_roots(self) -> bool:
        return self._inputs.root == "predicted"

    def _path(self, condition: Condition) -> Path:
        return self._run.layout.predictions(self._run.source.name, self._run.row, condition, self._seed)

    def _weights(self, condition: Condition) -> _Trained:
        """The weights of a condition, which may be trained on another data set."""
        on = condition.trained_on
        if on not in self._trained:
            self._trained[on] = _Trained.load(self._run.trained(on), self._seed)
        return self._trained[on]

    def _basis_sha256(self, condition: Condition) -> str:
        """Hash of everything that the predictions depend on."""
        # Without defaults, so that a new field of `Condition` makes no file due.
        stated = condition.model_dump(mode="json", exclude_defaults=True)
        basis = {**self._basis, **self._weights(condition).basis(self._run.row, self._seed)}
        return _sha256([basis, stated, *transfer_basis(self._run, condition)])

    def _roots_mm(self, condition: Condition) -> dict[str, Array]:
        """Root positions by key, predicted under a condition by the row that this one starts from."""
        run = self._run
        folder = None if run.start is None else run.start.path("predictions")
        with progress(f"roots of {run} {condition.slug} seed {self._seed}") as report:
            return predicted_roots_mm(run, self._seed, condition, predictions=folder, progress=report)

    def _info(self, condition: Condition) -> predictions.PredictionInfo:
        """Metadata of a predictions file."""
        run, weights, on = self._run, self._weights(condition), condition.trained_on
        skeleton = weights.row.answers or run.trained(on).dataset.skeleton
        return predictions.PredictionInfo(
            skeleton=skeleton.name,
            joints=skeleton.joints,
            dataset=run.source.name,
            condition=condition,
            roots_sha256=weights.roots_sha256,
            basis_sha256=self._basis_sha256(condition),
            # The file format has `window`: methods see one sample of a sequence.
            inputs={**_INPUTS.dump_python(weights.row.inputs, mode="json"), "window": 1},
            manifest=run.dataset.manifest(),
            method=run.row,
            checkpoint_sha256=weights.sha256,
            seed=self._seed,
            options=weights.options,
            weights=weights.source if weights.sha256 else None,
            trained_on=weights.data if on is None else (on,),
        )


@dataclass(frozen=True, eq=False)
class _Trained:
    """A row with the weights of one training.

    Args:
        row: with these weights.
        source: origin of the weights; None: not recorded.
        sha256: hash of the weights; None: the row has none.
        options: in force.
        fewest_of_roots: minimum number of cameras for the roots that the row needs; 0: it needs none.
        roots_sha256: hash of the file that predicts these roots.
    """

    row: LoadedRow
    source: Weights | None
    sha256: str | None
    options: dict[str, Any]
    fewest_of_roots: int
    roots_sha256: str | None

    @classmethod
    def load(cls, run: Run, seed: int) -> _Trained:
        """The row with the weights of a training on the data set of a run."""
        weights, source = weights_path(run, seed), weights_source(run)
        if weights is not None and weights.is_file():
            check_weights(run)
        row = LoadedRow(run.row, partial(build_method, run), weights)
        return cls(
            row,
            source,
            None if weights is None else weights_sha256(run.layout, weights),
            _options(run, row, source),
            *(_source_of_roots(run, seed) if row.inputs.root == "predicted" else (0, None)),
        )

    def basis(self, method: str, seed: int) -> dict[str, list[object]]:
        """The part of a predictions file's basis that belongs to the row and its weights."""
        return {
            "method": [method, self.options, _INPUTS.dump_python(self.row.inputs, mode="json")],
            "weights": [self.sha256, self.roots_sha256, seed],
        }

    @property
    def data(self) -> tuple[str, ...] | None:
        """The data sets that the weights were trained on, as the metadata of predictions names them."""
        return self.source.training_data if self.sha256 and self.source is not None else None


def _source_of_roots(run: Run, seed: int) -> tuple[int, str]:
    """Number of cameras that predicted roots need, and the hash of the weights that predict them."""
    fewest = fewest_root_views(run)
    assert run.start is not None  # or the line above raises
    return fewest, weights_sha256(run.layout, run.start.checkpoint(seed))


def _options(run: Run, row: LoadedRow, source: Weights | None) -> dict[str, Any]:
    """The options in force: with all defaults, or of imported weights, which bring their own, those of params.yaml."""
    options = dict(run.options)
    return source.stated(options) if source is not None and source.origin == "imported" else row.options(options)


def _line(run: Run, path: Path, keys: Sequence[str], table: PoseTable) -> str:
    """Path and content of a predictions file, for the terminal."""
    lacking = set(table.keys[np.isnan(table.joints_mm).any(axis=(1, 2))]) | (set(keys) - set(table.keys))
    answered = f"{len(lacking)} without a whole answer" if lacking else "all answered"
    cameras = len(table.info.condition.cameras)
    return f"{path.relative_to(run.layout.home)}: {len(keys)} samples, {cameras} cameras, {answered}"


def _reduced(condition: Condition, inputs: Inputs) -> Condition:
    """The condition, reduced to the inputs that the method declares."""
    return condition.shown(inputs.root, inputs.hand, inputs.people, inputs.frames_per_rig)


def _extent(condition: Condition) -> tuple[bool, int, int, int]:
    """Sort key: own weights without perturbation first, then samples, cameras and frames per rig."""
    usual = condition.perturbation is None and condition.trained_on is None
    return usual, -condition.every, len(condition.cameras), condition.frames_per_rig


def _check_views(row: str, inputs: Inputs, conditions: Sequence[Condition]) -> None:
    """InputError for a row that cannot predict under any condition."""
    fewest, most = inputs.views
    if not any(fewest <= len(condition.cameras) <= most for condition in conditions):
        raise InputError(f"method {row}", f"takes {fewest} to {most} views, no table offers that", "add a table")


def _left_out(run: Run, condition: Condition, inputs: Inputs, fewest_of_roots: int) -> str:
    """Reason why the row cannot predict under a condition; empty if it can."""
    if condition.trained_on is not None and (why := no_transfer(run, condition.trained_on)):
        return why
    fewest, most = inputs.views
    if not (fewest <= condition.fewest_views and len(condition.cameras) <= most):
        return f"the method takes {fewest} to {most} views"
    if fewest_of_roots and condition.of_root.fewest_views < fewest_of_roots:
        return f"the root it is handed takes at least {fewest_of_roots} views"
    if condition.perturbation is not None:
        unrooted = replace(inputs, root="none")  # roots change only with their own inputs
        handover = Handover(
            run.dataset, unrooted, run.layout.crops, condition.cameras, perturbation=condition.perturbation
        )
        if not handover.is_perturbed(condition.samples(run.dataset.keys(condition.split))):
            return f"{condition.perturbation.kind} does not apply: it changes none of the row's inputs"
    return ""


def no_transfer(run: Run, trained_on: str) -> str:
    """Reason why a row has no number on a data set with its weights of another one; empty if it has.

    Args:
        run: the row on the data set of the test.
        trained_on: name of the other data set.
    """
    origin = run.by_training.get(trained_on)
    if origin is None or origin.source.is_absent:
        return f"there is no copy of {trained_on}"
    if origin.left_out:
        return f"it does not run on {trained_on}"
    source = weights_source(origin)
    if source is None or not all(path.is_file() for path in origin.checkpoints.values()):
        return f"it has no weights of {trained_on}"
    if source.training_data is not None:
        return f"its weights for {trained_on} were not trained on it alone"
    if origin.seeds != run.seeds:
        return f"its weights for {trained_on} are of other seeds"
    return ""


def _collected(keys: Sequence[str], answers: Sequence[Poses], info: predictions.PredictionInfo) -> PoseTable:
    """Predictions as a table with its metadata; InputError for another skeleton."""
    elsewhere = next((one.skeleton.name for one in answers if one.skeleton.joints != info.joints), None)
    if elsewhere is not None:
        raise InputError(f"method {info.method}", f"answers in {elsewhere}", "use the given skeleton")
    table = PoseTable.collect(keys, answers, info)
    return replace(table, info=table.info.model_copy(update={"answers_sha256": table.answers_sha256()}))


def _unchanged(path: Path, basis_sha256: str) -> PoseTable | None:
    """The predictions in a file, if the predict stage wrote them from the same basis; None otherwise."""
    try:
        table = predictions.read(path)
    except InputError:
        return None
    same = table.info.basis_sha256 == basis_sha256 and table.info.answers_sha256 == table.answers_sha256()
    return table if same else None


def _code_sha256(run: Run, *, needs_roots: bool) -> list[str]:
    """Of the row, and of the one that predicts its roots."""
    runs = [run, run.start] if needs_roots and run.start is not None else [run]
    return [code_sha256(prediction_code(each)) for each in runs]


def _sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _remove_others(folder: Path, split: str, written: set[Path]) -> None:
    """Remove the files of a split that belong to an earlier run."""
    for path in (*folder.glob(f"{split}-*.parquet"), *folder.glob(f"{split}-*.roots.npz")):
        if path not in written:
            path.unlink()
    for path in (folder / PICTURES).glob("*") if split == "test" else ():
        if path not in written:
            path.unlink()
