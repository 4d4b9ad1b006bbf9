"""The predict stage: a row's answers on every sample, one Parquet file per condition and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from poseboard.benchmarks.harness import Bench, LoadedRow
from poseboard.benchmarks.locks import only_writer
from poseboard.benchmarks.pictures import write_pictures
from poseboard.benchmarks.prediction_jobs import Prediction, predict_all
from poseboard.benchmarks.progress import progress
from poseboard.benchmarks.provenance import (
    check_weights,
    code_sha256,
    prediction_code,
    weights_sha256,
    weights_source,
)
from poseboard.benchmarks.roots import (
    HandedOn,
    handed_roots_mm,
    images_state_sha256,
    roots_asked,
    transfer_basis,
)
from poseboard.benchmarks.settings import Settings
from poseboard.benchmarks.training_data import TrainingData
from poseboard.benchmarks.transfer import check_transfers, no_transfer
from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import FileState, Poses
from poseboard.methods.base import Inputs
from poseboard.protocols import predictions
from poseboard.protocols.condition import Condition
from poseboard.protocols.controls import check_control
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Weights
from poseboard.protocols.table import Group, Table, read_tables

TABLES = Path(__file__).parent / "tables"
PICTURES = "pictures"
"""Folder beside the predictions of a row: what the method drew for its page."""

_INPUTS = TypeAdapter(Inputs)


def tables_on(dataset: str, profile: str, split: str | None = None) -> list[Table]:
    """The tables that a profile runs on a data set, or on a split of it, by id; InputError names a wrong file."""
    of_profile = [table for table in _tables() if not table.profiles or profile in table.profiles]
    of_dataset = [table for table in of_profile if table.dataset == dataset and split in (None, table.split)]
    return [table.in_profile(profile) for table in of_dataset]


def control_of(table: Table, profile: str) -> Table | None:
    """The table that a table names as its control; None without one, or where the profile does not run it.

    Raises:
        InputError: there is no such table, or the two cannot be compared.
    """
    if table.control is None:
        return None
    by_id = {one.id: one for one in _tables()}
    if table.control not in by_id:
        raise InputError(
            f"table {table.id}: control", f"no table {table.control!r}", did_you_mean(table.control, by_id)
        )
    check_control(table, by_id[table.control])
    return next((one for one in tables_on(table.dataset, profile) if one.id == table.control), None)


def splits_on(dataset: str, profile: str) -> list[str]:
    """The splits of a data set that some table is run on, in the order of the tables."""
    return list(dict.fromkeys(table.split for table in tables_on(dataset, profile)))


def splits_with_samples(bench: Bench) -> list[str]:
    """Those of `splits_on` that the data set has samples of; all of them where it has none of any."""
    splits = splits_on(bench.dataset.name, bench.settings.params.profile)
    return [split for split in splits if bench.dataset.keys(split)] or splits


def _tables() -> list[Table]:
    """All tables, in the order of their ids; InputError where two have the same."""
    by_id: dict[str, tuple[Table, Path]] = {}
    for path in sorted(TABLES.glob("*.yaml")):
        for table in _tables_in(path, FileState.of(path)):
            if table.id in by_id:
                other = by_id[table.id][1].name
                raise InputError(f"{path}: id", f"{table.id!r} is also in {other}", "give each number an id of its own")
            by_id[table.id] = table, path
    # T7-x before T7, as files of these names are listed: the order in the files of results/
    return [table for table, _ in sorted(by_id.values(), key=lambda entry: f"{entry[0].id}.yaml")]


@lru_cache(maxsize=1024)
def _tables_in(path: Path, state: FileState) -> tuple[Table, ...]:
    """The tables of a file in a state: every stage asks for all of them often."""
    return read_tables(path)


def asked(
    dataset: str, profile: str, names: Sequence[str], split: str = "test", *, in_world: bool = True
) -> list[Condition]:
    """The conditions that some table offers, each once; all cameras at once for a split that no table is run on.

    Args:
        dataset: its name in params.yaml.
        profile: of params.yaml.
        names: its cameras in order.
        split: of it.
        in_world: whether answers from several cameras are in the world's frame; without, tables that judge there alone
            ask for none.

    Raises:
        InputError: a table names cameras, or another data set's weights, that cannot be.
    """
    tables = tables_on(dataset, profile, split)
    check_transfers(tables)
    for table in tables:
        control_of(table, profile)
    offered = [
        condition
        for table in tables
        for group in table.conditions(names)
        for condition in group
        if in_world or len(condition.cameras) == 1 or table.rule().any_frame
    ]
    if not tables:
        offered = list(Group().conditions(names, split, "none"))
    return list(dict.fromkeys(offered))


def predictions_path(settings: Settings, dataset: str, method: str, condition: Condition, seed: int) -> Path:
    """File of a row's predictions."""
    return settings.row_path("predictions", method, dataset) / f"{condition.slug}-seed{seed}.parquet"


def weights_path(bench: Bench, method: str, seed: int) -> Path | None:
    """The checkpoint of a row; None on data sets on which it has none because nothing can be trained there."""
    path = bench.settings.checkpoint(bench.dataset.name, method, seed)
    return path if path.is_file() or not TrainingData(bench, method).nothing_to_learn else None


def row_lock(settings: Settings, dataset: str, method: str) -> AbstractContextManager[None]:
    """Lock for writing or scoring a row's predictions, so that a score never mixes two runs."""
    return only_writer(settings.row_lock("predictions", method, dataset), "predicting or scoring this row", group=True)


def predict_stage(bench: Bench, method: str, split: str = "test") -> Iterator[str]:
    """Write the predictions files that the tables need; yields a line per file.

    A file is kept where nothing that it depends on changed. Files of the split that this run does not need, of another
    seed or condition, are removed, so that they are not scored.

    Args:
        bench: the data set.
        method: row in params.yaml.
        split: of the data set. A split without tables, such as "train", is predicted from all cameras.

    Raises:
        InputError: the row, its checkpoint or its predictions cannot be used, or another process is predicting or
            scoring this row.
    """
    settings, dataset = bench.settings, bench.dataset.name
    settings.entry(method)
    with row_lock(settings, dataset, method):
        # All files are replaced together and last, so that an error leaves those of the earlier run.
        with WholeFiles() as outputs:
            written = yield from _predict_split(bench, method, split, outputs)
        _remove_others(settings.row_path("predictions", method, dataset), split, written)


def _predict_split(bench: Bench, method: str, split: str, outputs: WholeFiles) -> Generator[str, None, set[Path]]:
    """Predict every seed and condition of a split; returns the files that belong to the run, kept ones included."""
    settings, dataset = bench.settings, bench.dataset.name
    where = f"{dataset}/{method}"
    asked(dataset, settings.params.profile, bench.dataset.views, split)  # a wrong table is named before missing weights
    keys = list(bench.dataset.keys(split))
    images_sha256 = images_state_sha256(bench, keys)
    files: set[Path] = set()
    to_draw: tuple[Prediction, dict[str, Poses]] | None = None
    for seed in settings.seeds(method, dataset):
        of_seed = _Seed(bench, method, split, seed, keys, images_sha256)
        due: list[Condition] = []
        for condition in of_seed.conditions:
            if reason := of_seed.why_left_out(condition):
                yield f"{where}: {condition.slug} left out, {reason}"
            elif (table := of_seed.unchanged_table(condition)) is not None:
                files |= of_seed.files(condition) | of_seed.pictures(condition)
                yield f"{of_seed.summary(condition, table)}; nothing that it depends on changed"
            else:
                due.append(condition)
        needed = of_seed.to_predict(due)
        with progress(f"predict {where} seed {seed}") as report:
            for prediction, poses in zip(needed, predict_all(needed, report), strict=True):
                table = of_seed.write(prediction, poses, outputs)
                files |= of_seed.files(prediction.condition)
                yield of_seed.summary(prediction.condition, table)
                if prediction.condition == of_seed.drawn_condition:
                    to_draw = prediction, {key: poses[key] for key in prediction.keys}
    if to_draw is not None:  # after all predictions: none can depend on what a method does here
        prediction, poses = to_draw
        model, handover = prediction.row.model(), prediction.handover()
        folder = settings.row_path("predictions", method, dataset) / PICTURES
        files |= write_pictures(model, method, handover, poses, folder, outputs)
    return files


class _Seed:
    """One seed of a row on a split: its conditions, and the file of each.

    Args:
        bench: the data set.
        method: row in params.yaml.
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

    def __init__(
        self, bench: Bench, method: str, split: str, seed: int, keys: Sequence[str], images_sha256: str
    ) -> None:
        settings, dataset = bench.settings, bench.dataset
        self._bench, self._method, self._split, self._seed, self._keys = bench, method, split, seed, keys
        self._folder = settings.row_path("predictions", method, dataset.name)
        own = _Trained.on(bench, method, seed, split)
        self._trained: dict[str | None, _Trained] = {None: own}
        self._inputs = own.row.inputs

        of_tables = asked(dataset.name, settings.params.profile, dataset.views, split, in_world=self._inputs.extrinsics)
        of_roots = roots_asked(bench, method, of_tables)
        offered = list(dict.fromkeys([*of_tables, *of_roots]))
        _refuse_unused(method, self._inputs, offered)
        self.conditions = list(dict.fromkeys(_shown(condition, self._inputs) for condition in offered))
        has_pictures = (split, seed) == ("test", settings.profile.seeds[0])
        self.drawn_condition = max(self.conditions, key=_shown_most) if has_pictures else None
        by_condition = {_shown(one, self._inputs): one for one in of_roots if own.sha256 is not None}
        self._root_files = HandedOn(bench, method, seed, self._folder, by_condition)
        self._basis = {
            "data": [dataset.name, dataset.synthetic, dataset.manifest(), images_sha256, keys],
            "code": _code_sha256(settings, dataset.name, method, rooted=self._needs_roots),
        }

    def why_left_out(self, condition: Condition) -> str:
        """Reason why the row cannot predict under a condition; empty if it can."""
        return _left_out(self._bench, self._method, condition, self._inputs, self._trained[None].fewest_of_roots)

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
        return set((self._folder / PICTURES).glob("*")) if condition == self.drawn_condition else set()

    def to_predict(self, conditions: Sequence[Condition]) -> list[Prediction]:
        """The predictions under some conditions, with the roots that the row needs."""
        roots_mm: dict[Condition, Mapping[str, Array] | None] = dict.fromkeys(conditions)
        if self._needs_roots:
            by_root = {root: self._roots_mm(root) for root in dict.fromkeys(one.of_root for one in conditions)}
            roots_mm = {condition: by_root[condition.of_root] for condition in conditions}
        return [
            Prediction(
                self._bench,
                self._weights(condition).row,
                condition,
                condition.samples(self._keys),
                roots_mm[condition],
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
        return _told(self._bench.settings, self._path(condition), condition.samples(self._keys), table)

    @property
    def _needs_roots(self) -> bool:
        return self._inputs.root == "predicted"

    def _path(self, condition: Condition) -> Path:
        return predictions_path(self._bench.settings, self._bench.dataset.name, self._method, condition, self._seed)

    def _weights(self, condition: Condition) -> _Trained:
        """The weights of a condition, which may be trained on another data set."""
        on = condition.trained_on
        if on not in self._trained:
            self._trained[on] = _Trained.on(self._bench.trained(on), self._method, self._seed, self._split)
        return self._trained[on]

    def _basis_sha256(self, condition: Condition) -> str:
        """Hash of everything that the predictions depend on."""
        # Without defaults, so that a new field of `Condition` makes no file due.
        stated = condition.model_dump(mode="json", exclude_defaults=True)
        basis = {**self._basis, **self._weights(condition).basis(self._method, self._seed)}
        return _sha256([basis, stated, *transfer_basis(self._bench, condition)])

    def _roots_mm(self, condition: Condition) -> dict[str, Array]:
        """Root positions by key, predicted under a condition by the row that this one starts from."""
        bench, method = self._bench, self._method
        folder = bench.settings.row_path("predictions", bench.settings.entry(method).after, bench.dataset.name)
        with progress(f"roots of {bench.dataset.name}/{method} {condition.slug} seed {self._seed}") as report:
            return handed_roots_mm(bench, method, self._seed, condition, predictions=folder, progress=report)

    def _info(self, condition: Condition) -> predictions.PredictionInfo:
        """Metadata of a predictions file."""
        bench, weights, on = self._bench, self._weights(condition), condition.trained_on
        skeleton = weights.row.answers or bench.trained(on).dataset.skeleton
        return predictions.PredictionInfo(
            skeleton=skeleton.name,
            joints=skeleton.joints,
            dataset=bench.dataset.name,
            condition=condition,
            roots_sha256=weights.roots_sha256,
            basis_sha256=self._basis_sha256(condition),
            # The file format has `window`: methods see one sample of a sequence.
            inputs={**_INPUTS.dump_python(weights.row.inputs, mode="json"), "window": 1},
            manifest=bench.dataset.manifest(),
            method=self._method,
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
    def on(cls, origin: Bench, method: str, seed: int, split: str) -> _Trained:
        """Load the weights that a row has for a data set."""
        settings, dataset = origin.settings, origin.dataset.name
        weights, source = weights_path(origin, method, seed), weights_source(settings, dataset, method)
        if weights is not None and weights.is_file():
            check_weights(origin, method)
        row = LoadedRow(method, partial(origin.method, method), weights)
        return cls(
            row,
            source,
            None if weights is None else weights_sha256(settings, weights),
            _options(settings, dataset, row, source),
            *(_source_of_roots(origin, method, seed, split) if row.inputs.root == "predicted" else (0, None)),
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


def _source_of_roots(bench: Bench, method: str, seed: int, split: str) -> tuple[int, str]:
    """Minimum number of cameras for the roots that a row needs, and the hash of the file that predicts them."""
    fewest = bench.fewest_root_views(method, split)
    return fewest, weights_sha256(bench.settings, bench.roots_source(method, seed, split))


def _options(settings: Settings, dataset: str, row: LoadedRow, source: Weights | None) -> dict[str, Any]:
    """The options in force: with all defaults, or for imported weights, which have their own, those of params.yaml."""
    given = settings.options(row.name, dataset)
    return source.stated(given) if source is not None and source.origin == "imported" else row.options(given)


def _told(settings: Settings, path: Path, keys: Sequence[str], table: PoseTable) -> str:
    """Path and content of a predictions file, for the terminal."""
    lacking = set(table.keys[np.isnan(table.joints_mm).any(axis=(1, 2))]) | (set(keys) - set(table.keys))
    answered = f"{len(lacking)} without a whole answer" if lacking else "all answered"
    cameras = len(table.info.condition.cameras)
    return f"{path.relative_to(settings.home)}: {len(keys)} samples, {cameras} cameras, {answered}"


def _shown(offered: Condition, inputs: Inputs) -> Condition:
    """The condition, reduced to the inputs that the method declares."""
    return offered.shown(inputs.root, inputs.hand, inputs.people, inputs.frames_per_rig)


def _shown_most(condition: Condition) -> tuple[bool, int, int, int]:
    """Sort key: own weights without perturbation first, then samples, cameras and frames per rig."""
    usual = condition.perturbation is None and condition.trained_on is None
    return usual, -condition.every, len(condition.cameras), condition.frames_per_rig


def _refuse_unused(method: str, inputs: Inputs, offered: Sequence[Condition]) -> None:
    """InputError if no condition of the tables fits the views that a method takes."""
    fewest, most = inputs.views
    if not any(fewest <= len(condition.cameras) <= most for condition in offered):
        raise InputError(f"method {method}", f"takes {fewest} to {most} views, no table offers that", "add a table")


def _left_out(bench: Bench, method: str, condition: Condition, inputs: Inputs, fewest_of_roots: int) -> str:
    """Reason why a row cannot predict under a condition; empty if it can."""
    other = condition.trained_on
    if other is not None and (why := no_transfer(bench.settings, bench.dataset.name, method, other)):
        return why
    fewest, most = inputs.views
    if not (fewest <= condition.fewest_views and len(condition.cameras) <= most):
        return f"the method takes {fewest} to {most} views"
    if fewest_of_roots and condition.of_root.fewest_views < fewest_of_roots:
        return f"the root it is handed takes at least {fewest_of_roots} views"
    if condition.perturbation is not None:
        unrooted = replace(inputs, root="none")  # of roots nothing is spoiled but what they are predicted from
        given = bench.handover(unrooted, condition.cameras, perturbation=condition.perturbation)
        if not given.is_perturbed(condition.samples(bench.dataset.keys(condition.split))):
            return f"{condition.perturbation.kind} does not apply: the row is shown nothing that it changes"
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


def _code_sha256(settings: Settings, dataset: str, method: str, *, rooted: bool) -> list[str]:
    """Hashes of the code of a row, and of the row that predicts its roots."""
    rows = [method, settings.entry(method).after] if rooted else [method]
    return [code_sha256(prediction_code(settings, dataset, row)) for row in rows]


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
