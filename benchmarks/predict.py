"""The predict stage: a row's predictions on every sample, one Parquet file per condition and seed.

Predictions are stored in float32. This moves a root by up to 0.0003 mm, which would change the input cube of the next
network and every step of its training. Roots that other rows need are therefore also stored in float64, next to the
predictions: ``<condition>-seed<k>.roots.npz``. Roots for a training are stored next to the checkpoints of the trained
row. If neither file exists, or a file belongs to other weights, data or code, the roots are predicted again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from poseboard.benchmarks.handover import Handover, Progress, transfer
from poseboard.benchmarks.harness import (
    LoadedRow,
    Prediction,
    TrainingData,
    build_method,
    options_of_pass,
    predict_all,
    root_row,
    roots_of,
)
from poseboard.benchmarks.jobs import only_writer, progress
from poseboard.benchmarks.pictures import PICTURES, write_pictures
from poseboard.benchmarks.plan import Run
from poseboard.benchmarks.provenance import (
    check_weights,
    code_sha256,
    prediction_code,
    weights_sha256,
    weights_source,
)
from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles, read_npz
from poseboard.datasets.sample import Dataset, Poses, Sample
from poseboard.methods.base import Inputs, Method
from poseboard.protocols import predictions
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Weights

_INPUTS = TypeAdapter(Inputs)


def weights_path(run: Run, seed: int) -> Path | None:
    """Checkpoint of a row; None if the row cannot be trained on the data set and has no checkpoint."""
    path = run.checkpoint(seed)
    return path if path.is_file() or not TrainingData(run).nothing_to_learn else None


def row_lock(run: Run) -> AbstractContextManager[None]:
    """Lock for writing or scoring a row's predictions, so that a score never mixes two runs."""
    lock = run.layout.row_lock("predictions", run.row, run.source.name)
    return only_writer(lock, "predicting or scoring this row", group=True)


def predict_stage(run: Run, split: str = "test") -> Iterator[str]:
    """Write the predictions files that the tables need; yield a line per file.

    A file is kept if none of its dependencies changed. Files of the split with another seed or condition are removed,
    so that they are not scored.

    Args:
        run: the row on a data set.
        split: name of the split. A split without tables, such as "train", is predicted from all cameras.

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
    """Predict all seeds and conditions of a split; return all files of the run, including kept ones."""
    run.conditions(split)  # names a wrong table before missing weights
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
    """Predictions of one seed of a row on a split: conditions and their files.

    Args:
        run: the row on a data set.
        split: name of the split.
        seed: seed of the training.
        keys: keys of all samples of the split.
        images_sha256: hash of the state of the images (`images_state_sha256`).

    Attributes:
        conditions: conditions of all tables, reduced to the inputs that the method declares.
        drawn_condition: condition of the samples that the method draws; None: no pictures of this split and seed.

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
        # Roots that other rows need are also written in float64, see the module docstring.
        self._root_conditions = {_reduced(each, self._inputs): each for each in of_roots if own.sha256 is not None}
        of_code = [run, run.start] if self._needs_roots and run.start is not None else [run]
        self._basis = {
            "data": [run.source.name, run.dataset.synthetic, run.dataset.manifest(), images_sha256, keys],
            "code": [code_sha256(prediction_code(each)) for each in of_code],
        }

    def why_left_out(self, condition: Condition) -> str:
        """Reason why the row cannot predict under a condition; empty if it can."""
        run, inputs, fewest_of_roots = self._run, self._inputs, self._trained[None].fewest_of_roots
        if condition.trained_on is not None and (why := no_transfer(run, condition.trained_on)):
            return why
        fewest, most = inputs.views
        if not (fewest <= condition.fewest_views and len(condition.cameras) <= most):
            return f"the method takes {fewest} to {most} views"
        if fewest_of_roots and condition.of_root.fewest_views < fewest_of_roots:
            return f"its predicted root needs at least {fewest_of_roots} views"
        if condition.perturbation is not None:
            unrooted = replace(inputs, root="none")  # roots change only with their own inputs
            handover = Handover(
                run.dataset, unrooted, run.layout.crops, condition.cameras, perturbation=condition.perturbation
            )
            if not handover.is_perturbed(condition.samples(self._keys)):
                return f"{condition.perturbation.kind} does not apply: it changes none of the row's inputs"
        return ""

    def unchanged_table(self, condition: Condition) -> PoseTable | None:
        """Predictions of an earlier run if none of their dependencies changed; None otherwise."""
        roots, keys = self._root_file(condition), condition.samples(self._keys)
        if roots is not None and read_roots(roots[0], keys, roots[1]) is None:
            return None
        try:
            table = predictions.read(self._path(condition))
        except InputError:
            return None
        is_whole = table.info.answers_sha256 is not None  # reading compares it with the rows
        return table if is_whole and table.info.basis_sha256 == self._basis_sha256(condition) else None

    def files(self, condition: Condition) -> set[Path]:
        """Files of a condition: predictions, and roots for other rows."""
        roots = self._root_file(condition)
        return {self._path(condition)} if roots is None else {self._path(condition), roots[0]}

    def pictures(self, condition: Condition) -> set[Path]:
        """Pictures that an earlier run drew under a condition."""
        return set((self._run.path("predictions") / PICTURES).glob("*")) if condition == self.drawn_condition else set()

    def to_predict(self, conditions: Sequence[Condition]) -> list[Prediction]:
        """Prediction jobs for some conditions, with the roots that the row needs."""
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
        """Write the predictions of a condition, and its roots if other rows need them."""
        condition, in_order = prediction.condition, [poses[key] for key in prediction.keys]
        first = prediction.handover().samples(prediction.keys[0]) if prediction.keys else ()
        info = self._info(condition).model_copy(update={"input_summary": input_summary(first)})
        table = _collected(prediction.keys, in_order, info)
        predictions.write(self._path(condition), table, outputs)
        if (roots := self._root_file(condition)) is not None:
            skeleton = self._run.trained(condition.trained_on).dataset.skeleton
            roots_mm = roots_of(skeleton, self._run.row, {key: poses[key] for key in prediction.keys})
            write_roots(roots[0], roots_mm, roots[1], outputs)
        return table

    def summary(self, condition: Condition, table: PoseTable) -> str:
        """Line for the terminal: the file, and the number of samples without predictions."""
        path, keys = self._path(condition).relative_to(self._run.layout.home), condition.samples(self._keys)
        lacking = set(table.keys[np.isnan(table.joints_mm).any(axis=(1, 2))]) | (set(keys) - set(table.keys))
        predicted = f"{len(lacking)} without a whole pose" if lacking else "all predicted"
        return f"{path}: {len(keys)} samples, {len(condition.cameras)} cameras, {predicted}"

    @property
    def _needs_roots(self) -> bool:
        return self._inputs.root == "predicted"

    def _path(self, condition: Condition) -> Path:
        return self._run.layout.predictions(self._run.source.name, self._run.row, condition, self._seed)

    def _root_file(self, condition: Condition) -> tuple[Path, str] | None:
        """File for the roots of a condition, and the hash of what they depend on; None if no row needs them."""
        if (of_roots := self._root_conditions.get(condition)) is None:
            return None
        path = self._run.path("predictions") / roots_name(of_roots, self._seed)
        return path, roots_basis(self._run, self._seed, of_roots)

    def _weights(self, condition: Condition) -> _Trained:
        """Row with the weights of a condition, which may be trained on another data set."""
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
        with progress(f"roots of {self._run} {condition.slug} seed {self._seed}") as report:
            return predicted_roots_mm(self._run, self._seed, condition, progress=report)

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
    """Row with the weights of one training.

    Args:
        row: row with loaded weights.
        source: origin of the weights; None: not recorded.
        sha256: hash of the weights; None: the row has no weights.
        options: resolved options of the row.
        fewest_of_roots: minimum number of cameras of the row that predicts its roots; 0: the row needs no roots.
        roots_sha256: hash of the checkpoint that predicts these roots; None: no roots or no checkpoint.
    """

    row: LoadedRow
    source: Weights | None
    sha256: str | None
    options: dict[str, Any]
    fewest_of_roots: int
    roots_sha256: str | None

    @classmethod
    def load(cls, run: Run, seed: int) -> _Trained:
        """Load the row with the weights of its training on the data set of a run."""
        weights, source = weights_path(run, seed), weights_source(run)
        if weights is not None and weights.is_file():
            check_weights(run)
        row = LoadedRow(run.row, partial(build_method, run), weights)
        is_imported = source is not None and source.origin == "imported"  # such weights bring their own options
        fewest_of_roots, roots_sha256 = 0, None
        if row.inputs.root == "predicted":
            fewest_of_roots, start = root_row(run)
            roots_sha256 = weights_sha256(run.layout, start.checkpoint(seed))
        return cls(
            row,
            source,
            None if weights is None else weights_sha256(run.layout, weights),
            source.stated(dict(run.options)) if source is not None and is_imported else row.options(run.options),
            fewest_of_roots,
            roots_sha256,
        )

    def basis(self, method: str, seed: int) -> dict[str, list[object]]:
        """Dependencies of a predictions file on the row and its weights."""
        return {
            "method": [method, self.options, _INPUTS.dump_python(self.row.inputs, mode="json")],
            "weights": [self.sha256, self.roots_sha256, seed],
        }

    @property
    def data(self) -> tuple[str, ...] | None:
        """Names of the training data sets, for the metadata of predictions."""
        return self.source.training_data if self.sha256 and self.source is not None else None


def _reduced(condition: Condition, inputs: Inputs) -> Condition:
    """The condition, reduced to the inputs that the method declares."""
    return condition.reduced(inputs.root, inputs.hand, inputs.people, inputs.frames_per_rig)


def _extent(condition: Condition) -> tuple[bool, int, int, int]:
    """Sort key: own weights without perturbation first, then samples, cameras and frames per rig."""
    usual = condition.perturbation is None and condition.trained_on is None
    return usual, -condition.every, len(condition.cameras), condition.frames_per_rig


def _check_views(row: str, inputs: Inputs, conditions: Sequence[Condition]) -> None:
    """Raise InputError for a row that cannot predict under any condition."""
    fewest, most = inputs.views
    if not any(fewest <= len(condition.cameras) <= most for condition in conditions):
        raise InputError(f"method {row}", f"takes {fewest} to {most} views, but no table has them", "add a table")


def no_transfer(run: Run, trained_on: str) -> str:
    """Reason why weights from another data set cannot be tested on the data set of a run; empty if they can.

    Args:
        run: the row on the test data set.
        trained_on: name of the training data set.
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
    """Collect predictions in a table with metadata; raise InputError for another skeleton."""
    elsewhere = next((one.skeleton.name for one in answers if one.skeleton.joints != info.joints), None)
    if elsewhere is not None:
        raise InputError(
            f"method {info.method}",
            f"predicts in the skeleton {elsewhere}",
            "use the skeleton that the constructor gets",
        )
    table = PoseTable.collect(keys, answers, info)
    return replace(table, info=table.info.model_copy(update={"answers_sha256": table.answers_sha256()}))


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


def predicted_roots_mm(
    run: Run, seed: int, condition: Condition, *, kept: Path | None = None, progress: Progress | None = None
) -> dict[str, Array]:
    """Predicted root positions (P, 3) by key, world mm, as input of a row; NaN for people without a prediction.

    The row that ``after`` names predicts the roots with its weights of the same seed. If a file has up-to-date roots,
    they are read instead.

    Args:
        run: the row that needs the roots.
        seed: seed of the training.
        condition: input of the row that predicts the roots (`Condition.of_root`).
        kept: file of the roots, which is written if it is missing or outdated; None: read the file from the evaluate
            stage of the row that ``after`` names.
        progress: called with (samples done, samples in all).

    Raises:
        InputError: no row predicts the roots, or that row needs more cameras.
    """
    keys = condition.samples(run.dataset.keys(condition.split))
    fewest, start = root_row(run)
    if len(condition.cameras) < fewest:
        where = f"views {', '.join(condition.cameras)}"
        raise InputError(where, f"roots need at least {fewest}", "choose more cameras")
    basis = roots_basis(start, seed, condition)
    path = kept or start.path("predictions") / roots_name(condition, seed)
    if (roots_mm := read_roots(path, keys, basis)) is not None:
        return roots_mm
    origin = start.trained(condition.trained_on)
    loaded = LoadedRow(start.row, partial(build_method, origin), origin.checkpoint(seed))
    other = None if origin is start else origin.source
    prediction = Prediction(run.source, run.layout.crops, loaded, condition, keys, origin=other)
    (poses,) = predict_all([prediction], progress)
    roots_mm = roots_of(origin.dataset.skeleton, start.row, {key: poses[key] for key in keys})
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with WholeFiles() as files:
            write_roots(kept, roots_mm, basis, files)
    return roots_mm


def conditions_of_followers(run: Run, conditions: Sequence[Condition]) -> list[Condition]:
    """Distinct conditions under which the followers of a row need its roots.

    Args:
        run: the row that predicts roots.
        conditions: conditions of the tables on one split.
    """
    of_roots: dict[Condition, None] = {}
    for follower in run.followers:
        try:
            inputs = build_method(follower).inputs
            fewest = root_row(follower)[0] if inputs.root == "predicted" else 0
        except InputError:
            continue  # its own evaluation says so
        for condition in conditions if inputs.root == "predicted" else ():
            fits = inputs.views[0] <= len(condition.cameras) <= inputs.views[1]
            if fits and len(condition.root_cameras) >= fewest:
                of_roots[condition.of_root] = None
    return list(of_roots)


def roots_name(condition: Condition, seed: int) -> str:
    """File name of the roots of a condition and seed, next to the predictions."""
    return f"{condition.slug}-seed{seed}.roots.npz"


def roots_basis(run: Run, seed: int, condition: Condition) -> str:
    """SHA-256 of everything that the roots of a row depend on."""
    dataset, origin = run.dataset, run.trained(condition.trained_on)
    keys = condition.samples(dataset.keys(condition.split))
    weights = origin.checkpoint(seed)
    if not weights.is_file():
        raise InputError(
            weights, f"checkpoint of {run.row} is missing", f"train {run.row} first; another row uses its roots"
        )
    check_weights(origin)
    values = [
        [dataset.name, dataset.manifest(), images_state_sha256(dataset, keys), keys],
        [run.row, options_of_pass(origin), weights_sha256(run.layout, weights), seed],
        [condition.model_dump(mode="json", exclude_defaults=True), code_sha256(prediction_code(run))],
        *transfer_basis(run, condition),
    ]
    return _sha256(values)


def transfer_basis(run: Run, condition: Condition) -> list[object]:
    """Dependencies of predictions with weights of another data set, besides the weights; empty without a transfer."""
    if condition.trained_on is None:
        return []
    differs = transfer(run.dataset, run.trained(condition.trained_on).dataset)
    return [[condition.trained_on, differs.skeleton.joints, differs.turn.tolist()]]


def from_all_cameras(dataset: Dataset, split: str) -> Condition:
    """Condition with all cameras at once, used for the roots of a training."""
    views = tuple(dataset.views)
    return Condition(split=split, cameras=views, root="predicted", root_cameras=views)


def input_summary(samples: Sequence[Sample]) -> dict[str, list[float | None]]:
    """Summary statistics of the input of a method: crops, colours, cameras and detections.

    Args:
        samples: input of the method for one key: one sample per person, or one with all people.

    Returns:
        Quantity -> values, sample by sample and view by view, averaged over the people of a sample; None: not finite.

    Example:
        >>> input_summary(handover.samples(key))["box px"]  # two views, each a crop of 96 px  # doctest: +SKIP
        [0.0, 0.0, 96.0, 96.0, 0.0, 0.0, 96.0, 96.0]
    """
    summary: dict[str, list[float | None]] = {}

    def add(name: str, values: Array) -> None:
        rounded = np.round(np.asarray(values, dtype=np.float64).reshape(-1), 3)
        summary.setdefault(name, []).extend(float(value) if np.isfinite(value) else None for value in rounded)

    def add_mean(name: str, values: Array) -> None:
        rows = np.asarray(values)[np.isfinite(values).all(axis=1)]
        add(name, rows.mean(axis=0) if len(rows) else np.full(np.shape(values)[1], np.nan))

    for sample in samples:
        for view in sample.views:
            camera = view.camera
            if view.image is not None:
                add("mean colour", view.pixels().mean(axis=(0, 1)))
            if hasattr(camera, "K"):  # not withheld
                add("camera matrix px", camera.K[[0, 1, 0, 1], [0, 1, 2, 2]])
            if hasattr(camera, "R"):
                add("camera centre mm", camera.centre_mm)
            add_mean("box px", view.boxes_px)
            if view.joints_px is not None:
                add_mean("detection px", view.joints_px.reshape(-1, 2))
        if sample.root_mm is not None:
            add_mean("root mm", sample.root_mm)
    return summary


def images_state_sha256(dataset: Dataset, keys: Sequence[str]) -> str:
    """SHA-256 of the state of all images, boxes and 2D detections."""
    digest = hashlib.sha256()
    for key in keys:
        for view in dataset.sample(key).views:
            given = [None if values is None else values.tolist() for values in (view.joints_px, view.confidence)]
            if view.box_scores is not None:
                given.append(view.box_scores.tolist())
            digest.update(f"{key} {view.name} {view.image_state()} {view.boxes_px.tolist()} {given}\n".encode())
    return digest.hexdigest()


def write_roots(path: Path, roots_mm: Mapping[str, Array], basis: str, files: WholeFiles) -> None:
    """Write roots by key, with the hash of their dependencies."""
    packed = io.BytesIO()
    counts = np.array([len(of_key) for of_key in roots_mm.values()], dtype=np.int64)
    together = np.concatenate([np.empty((0, 3)), *roots_mm.values()])
    np.savez(packed, basis=np.array(basis), counts=counts, roots_mm=together)
    files.write(path, packed.getvalue())


def read_roots(path: Path, keys: Sequence[str], basis: str) -> dict[str, Array] | None:
    """Read roots (P, 3) by key, world mm; None if the file is damaged or its dependencies changed.

    Args:
        path: file written by `write_roots`.
        keys: keys of the split, in order.
        basis: current hash of the dependencies (`roots_basis`).
    """
    try:
        held = read_npz(path)
        if str(held["basis"]) != basis:
            return None
        counts, roots_mm = held["counts"], held["roots_mm"]
    except (OSError, ValueError, KeyError):
        return None
    is_whole = counts.dtype.kind == "i" and counts.shape == (len(keys),) and counts.min(initial=0) >= 0
    if not is_whole or roots_mm.shape != (counts.sum(), 3) or roots_mm.dtype.kind != "f":
        return None
    return dict(zip(keys, np.split(roots_mm, np.cumsum(counts)[:-1]), strict=True))


def predict_split(run: Run, split: str) -> Iterator[str]:
    """Like `predict_stage`, but a row without input raises instead of being skipped.

    Raises:
        InputError: the split has no input for the row, or an error of `predict_stage`.
    """
    if why := _no_people(run, [split]):
        raise InputError(f"{run}: split {split}", why, "complete the data set, or choose another row")
    yield from predict_stage(run, split)


def prediction_of_views(run: Run, most: int) -> Prediction:
    """Prediction job on the test split without perturbation, from at most ``most`` cameras.

    Args:
        run: the row on a data set; its first seed is used.
        most: maximum number of cameras.

    Raises:
        InputError: the row cannot predict under any such condition.
    """
    of_seed = _Seed(run, "test", run.seeds[0], list(run.dataset.keys("test")), "")
    usual = [each for each in of_seed.conditions if _extent(each)[0] and not of_seed.why_left_out(each)]
    if not usual:
        raise InputError(f"{run}", "has no condition without perturbation", "add a table without one")
    condition = min(usual, key=lambda each: (abs(most - len(each.cameras)), each.every, each.frames_per_rig))
    return of_seed.to_predict([condition])[0]


def has_people(dataset: Dataset, splits: Iterable[str]) -> bool:
    """Whether any view has a box or a 2D detection, false positives included."""
    views = (view for split in splits for key in dataset.keys(split) for view in dataset.sample(key).views)
    return any(len(view.boxes_px) or view.joints_px is not None for view in views)


def no_input(run: Run) -> str:
    """Reason why the row cannot predict on a data set; empty if it can."""
    weights, method = weights_path(run, run.seeds[0]), build_method(run)
    lacking = "it has no training samples, and {0.where}: {0.problem}"
    try:
        if weights is None:
            method.load(None, "cpu")
    except InputError as error:
        return lacking.format(error)
    if why := _no_people(run, run.splits):
        return why
    # A row that names its data sets either works without weights or raises an error of its own.
    if weights is not None or run.names_dataset or method.inputs.root == "predicted":
        return ""
    try:
        method.predict(_first_samples(run, method.inputs))
    except InputError as error:
        return lacking.format(error)
    return ""


def _first_samples(run: Run, inputs: Inputs) -> Sequence[Sample]:
    """Input of a method for the first sample; raise InputError if an image cannot be read."""
    key = next((key for split in run.splits for key in run.dataset.keys(split)), None)
    samples = () if key is None else Handover(run.dataset, inputs, run.layout.crops).samples(key)
    for sample in samples:
        for view in sample.views:
            if view.image is not None:
                view.pixels()
    return samples


def _no_people(run: Run, splits: Sequence[str]) -> str:
    """Reason why a row cannot detect any person in some splits; empty if it can."""
    if has_people(run.dataset, splits):
        return ""
    method: Method = build_method(run)
    method.load(weights_path(run, run.seeds[0]), "cpu")  # what it declares may depend on its weights
    finds_people = method.inputs.images and method.inputs.people == "all"
    return "" if finds_people else "there are no boxes and no 2D detections of people, which it needs"
