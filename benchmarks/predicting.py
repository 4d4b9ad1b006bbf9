"""The predict stage: a row's answers on every sample, one Parquet file per condition and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
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
from poseboard.datasets.skeleton import Skeleton
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
    """The checkpoint of a row; None where there is none to be had, as on a data set that nothing can be trained on."""
    path = bench.settings.checkpoint(bench.dataset.name, method, seed)
    return path if path.is_file() or not TrainingData(bench, method).nothing_to_learn else None


def row_lock(settings: Settings, dataset: str, method: str) -> AbstractContextManager[None]:
    """Held while a row's predictions are written or scored: nobody scores half of one run and half of another."""
    return only_writer(settings.row_lock("predictions", method, dataset), "predicting or scoring this row", group=True)


def predict_stage(bench: Bench, method: str, split: str = "test") -> Iterator[str]:
    """Predict and write every file that the tables need; yields a line a file.

    A file that depends on nothing that changed is left as it is: so a table's note costs nothing, and a further
    condition only its own predictions.

    Files of the split that an earlier run left and this one does not write (of another seed or condition) are
    removed, so that they are not scored beside these.

    Args:
        bench: the data set.
        method: row in params.yaml.
        split: of the data set; one that no table is run on, as "train", is predicted with all cameras only.

    Raises:
        InputError: the row, its checkpoint or its answers cannot be used, or another process is predicting or scoring
            this row.
    """
    settings, dataset = bench.settings, bench.dataset.name
    settings.entry(method)
    with row_lock(settings, dataset, method):
        # Together and last: whatever fails leaves the files of an earlier run, and never some of two runs.
        with WholeFiles() as outputs:
            written = yield from _predict(bench, method, split, outputs)
        _remove_others(settings.row_path("predictions", method, dataset), split, written)


def _predict(bench: Bench, method: str, split: str, outputs: WholeFiles) -> Generator[str, None, set[Path]]:
    settings, dataset = bench.settings, bench.dataset.name
    folder = settings.row_path("predictions", method, dataset)
    written: set[Path] = set()
    shown: tuple[Prediction, dict[str, Poses]] | None = None
    states = images_state_sha256(bench, keys := list(bench.dataset.keys(split)))
    # Before weights are looked for: it says what is wrong with a table.
    asked(dataset, settings.params.profile, bench.dataset.views, split)
    for seed in settings.seeds(method, dataset):
        of_training: dict[str | None, _Trained] = {None: (own := _Trained.on(bench, method, seed, split))}
        inputs = own.row.inputs
        of_tables = asked(dataset, settings.params.profile, bench.dataset.views, split, in_world=inputs.extrinsics)
        offered = list(dict.fromkeys([*of_tables, *(of_others := roots_asked(bench, method, of_tables))]))
        _refuse_unused(method, inputs, offered)
        rooted = inputs.root == "predicted"
        conditions = list(dict.fromkeys(_shown(condition, inputs) for condition in offered))
        handed_on = HandedOn(
            bench, method, seed, folder, {_shown(one, inputs): one for one in of_others if own.sha256 is not None}
        )
        drawn = max(conditions, key=_shown_most) if (split, seed) == ("test", settings.profile.seeds[0]) else None
        common = {
            "data": [dataset, bench.dataset.synthetic, bench.dataset.manifest(), states, keys],
            "code": _code_sha256(settings, dataset, method, rooted=rooted),
        }
        due: list[_Due] = []
        for condition in conditions:
            if why := _left_out(bench, method, condition, inputs, own.fewest_of_roots):
                yield f"{dataset}/{method}: {condition.slug} left out, {why}"
                continue
            if condition.trained_on not in of_training:
                origin = bench.trained(condition.trained_on)
                of_training[condition.trained_on] = _Trained.on(origin, method, seed, split)
            used = of_training[condition.trained_on]
            path, shown_keys = predictions_path(settings, dataset, method, condition, seed), condition.samples(keys)
            # What a condition may state one day and this one does not is no change.
            stated = condition.model_dump(mode="json", exclude_defaults=True)
            basis_sha256 = _sha256([{**common, **used.basis(method, seed)}, stated, *transfer_basis(bench, condition)])
            if handed_on.is_current(condition) and (kept := _unchanged(path, basis_sha256)) is not None:
                pictures = (folder / PICTURES).glob("*") if condition == drawn else ()
                written |= {path, *handed_on.files(condition), *pictures}
                yield f"{_told(settings, path, shown_keys, kept)}; nothing that it depends on changed"
                continue
            due.append(_Due(condition, used, path, shown_keys, basis_sha256))
        of_root = dict.fromkeys(one.condition.of_root for one in due) if rooted else ()
        roots_mm = {asked: _roots_mm(bench, method, seed, asked) for asked in of_root}
        needed = [
            Prediction(
                bench, one.used.row, one.condition, one.keys, roots_mm[one.condition.of_root] if rooted else None
            )
            for one in due
        ]
        with progress(f"predict {dataset}/{method} seed {seed}") as report:
            for one, prediction, poses in zip(due, needed, predict_all(needed, report), strict=True):
                answers = [poses[key] for key in one.keys]
                info = _info(bench, method, seed, one, prediction.handover().skeleton)
                table = _collected(one.keys, answers, info)
                predictions.write(one.path, table, outputs)
                written |= {one.path, *handed_on.write(one.condition, answers, outputs)}
                if one.condition == drawn:
                    shown = prediction, dict(zip(one.keys, answers, strict=True))
                yield _told(settings, one.path, one.keys, table)
    if shown is not None:  # last, by a model that has predicted nothing: what it is asked here, no answer can rest on
        prediction, of_key = shown
        model, samples = prediction.row.model(), prediction.handover()
        written |= write_pictures(model, method, samples, of_key, folder / PICTURES, outputs)
    return written


@dataclass(frozen=True, eq=False)
class _Due:
    """What is to be predicted for one file.

    Args:
        condition: that it is of.
        used: the row with its weights.
        path: of the file.
        keys: of the samples.
        basis_sha256: of all that the answers depend on.
    """

    condition: Condition
    used: _Trained
    path: Path
    keys: Sequence[str]
    basis_sha256: str


@dataclass(frozen=True, eq=False)
class _Trained:
    """A row with the weights of one training.

    Args:
        row: with these weights.
        source: where they come from; None: not recorded.
        sha256: of the weights; None without any.
        options: in force.
        fewest_of_roots: cameras that the roots are predicted from which it is handed; 0: it is handed none.
        roots_sha256: of what these roots are from.
    """

    row: LoadedRow
    source: Weights | None
    sha256: str | None
    options: dict[str, Any]
    fewest_of_roots: int
    roots_sha256: str | None

    @classmethod
    def on(cls, origin: Bench, method: str, seed: int, split: str) -> _Trained:
        """With the weights that a row has of a data set."""
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
        """What answers depend on of the row and its weights."""
        return {
            "method": [method, self.options, _INPUTS.dump_python(self.row.inputs, mode="json")],
            "weights": [self.sha256, self.roots_sha256, seed],
        }

    @property
    def data(self) -> tuple[str, ...] | None:
        """The data sets that the weights were trained on, as predictions state them."""
        return self.source.training_data if self.sha256 and self.source is not None else None


def _source_of_roots(bench: Bench, method: str, seed: int, split: str) -> tuple[int, str]:
    """From how many cameras the roots are that a row is handed, and the hash of the file that they are from."""
    fewest = bench.fewest_root_views(method, split)
    return fewest, weights_sha256(bench.settings, bench.roots_source(method, seed, split))


def _roots_mm(bench: Bench, method: str, seed: int, asked: Condition) -> dict[str, Array]:
    """What the row is handed as roots under a condition."""
    after = bench.settings.row_path("predictions", bench.settings.entry(method).after, bench.dataset.name)
    with progress(f"roots of {bench.dataset.name}/{method} {asked.slug} seed {seed}") as report:
        return handed_roots_mm(bench, method, seed, asked, predictions=after, progress=report)


def _info(bench: Bench, method: str, seed: int, due: _Due, skeleton: Skeleton) -> predictions.PredictionInfo:
    """What a file says of its predictions; ``skeleton`` is the one that the row was made with."""
    used, of_others, answered = due.used, due.condition.trained_on, due.used.row.answers or skeleton
    return predictions.PredictionInfo(
        skeleton=answered.name,
        joints=answered.joints,
        dataset=bench.dataset.name,
        condition=due.condition,
        roots_sha256=used.roots_sha256,
        basis_sha256=due.basis_sha256,
        inputs=_INPUTS.dump_python(used.row.inputs, mode="json"),
        manifest=bench.dataset.manifest(),
        method=method,
        checkpoint_sha256=used.sha256,
        seed=seed,
        options=used.options,
        weights=used.source if used.sha256 else None,
        trained_on=used.data if of_others is None else (of_others,),
    )


def _options(settings: Settings, dataset: str, row: LoadedRow, source: Weights | None) -> dict[str, Any]:
    """The options in force: with all defaults, or of imported weights, which bring their own, those that are given."""
    given = settings.options(row.name, dataset)
    return source.stated(given) if source is not None and source.origin == "imported" else row.options(given)


def _told(settings: Settings, path: Path, keys: Sequence[str], table: PoseTable) -> str:
    """What a file holds, for the terminal."""
    lacking = set(table.keys[np.isnan(table.joints_mm).any(axis=(1, 2))]) | (set(keys) - set(table.keys))
    answered = f"{len(lacking)} without a whole answer" if lacking else "all answered"
    cameras = len(table.info.condition.cameras)
    return f"{path.relative_to(settings.home)}: {len(keys)} samples, {cameras} cameras, {answered}"


def _shown(offered: Condition, inputs: Inputs) -> Condition:
    """What a row with these inputs is shown of what is offered."""
    return offered.shown(inputs.root, inputs.hand, inputs.people, inputs.frames_per_rig)


def _shown_most(condition: Condition) -> tuple[bool, int, int, int]:
    """Orders conditions by how much is shown: unspoiled to its own weights, samples, cameras, frames per rig."""
    usual = condition.perturbation is None and condition.trained_on is None
    return usual, -condition.every, len(condition.cameras), condition.frames_per_rig


def _refuse_unused(method: str, inputs: Inputs, offered: Sequence[Condition]) -> None:
    """InputError for a row that can answer under no condition that is offered."""
    fewest, most = inputs.views
    if not any(fewest <= len(condition.cameras) <= most for condition in offered):
        raise InputError(f"method {method}", f"takes {fewest} to {most} views, no table offers that", "add a table")


def _left_out(bench: Bench, method: str, condition: Condition, inputs: Inputs, fewest_of_roots: int) -> str:
    """Why a row cannot answer under a condition; empty where it can."""
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
    """Answers as a table that says what it holds; InputError for another skeleton."""
    elsewhere = next((one.skeleton.name for one in answers if one.skeleton.joints != info.joints), None)
    if elsewhere is not None:
        raise InputError(f"method {info.method}", f"answers in {elsewhere}", "use the given skeleton")
    table = PoseTable.collect(keys, answers, info)
    return replace(table, info=table.info.model_copy(update={"answers_sha256": table.answers_sha256()}))


def _unchanged(path: Path, basis_sha256: str) -> PoseTable | None:
    """The answers of the same basis that lie there whole, as the predict stage wrote them; None for any other file."""
    try:
        table = predictions.read(path)
    except InputError:
        return None
    same = table.info.basis_sha256 == basis_sha256 and table.info.answers_sha256 == table.answers_sha256()
    return table if same else None


def _code_sha256(settings: Settings, dataset: str, method: str, *, rooted: bool) -> list[str]:
    """Of the row, and of the one that predicts its roots."""
    rows = [method, settings.entry(method).after] if rooted else [method]
    return [code_sha256(prediction_code(settings, dataset, row)) for row in rows]


def _sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _remove_others(folder: Path, split: str, written: set[Path]) -> None:
    """What an earlier run left of a split and this one has not written."""
    for path in (*folder.glob(f"{split}-*.parquet"), *folder.glob(f"{split}-*.roots.npz")):
        if path not in written:
            path.unlink()
    for path in (folder / PICTURES).glob("*") if split == "test" else ():
        if path not in written:
            path.unlink()
