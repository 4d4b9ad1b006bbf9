"""The train stage: trainings of a row on its data sets, with all seeds of the profile."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from poseboard.benchmarks.handover import Handover
from poseboard.benchmarks.harness import TrainingData, fitted_constants, options_in_force, root_row
from poseboard.benchmarks.jobs import is_first_process, only_writer, progress
from poseboard.benchmarks.plan import Run
from poseboard.benchmarks.predict import from_all_cameras, predicted_roots_mm
from poseboard.benchmarks.provenance import (
    check_weights,
    code_sha256,
    file_sha256,
    prediction_code,
    provenance,
    training_code,
    weights_sha256,
)
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file, parse_json, read_bytes, write_file
from poseboard.datasets.sample import images_sha256
from poseboard.methods.base import LabelledSamples, Training, declared_inputs
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.loop import Fit, fit, launch
from poseboard.protocols.records import Curve, ResultError, TrainingFile, TrainingRun, Weights

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Processes:
    """Training processes of one command, launched by its first training and reused by the others.

    Args:
        most: number of processes on a CPU, and maximum number of processes on GPUs.

    Attributes:
        trained: hash of dependencies -> run, for the trainings of this command. It is equal in all processes, even
            while rank 0 is still writing files.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.trained: dict[str, Run] = {}

    @cached_property
    def fabric(self) -> Fabric:
        """Fabric with one process per GPU, or on a CPU with the profile's number of processes."""
        cuda = torch.cuda.is_available()
        return launch(min(self._most, torch.cuda.device_count()) if cuda else self._most, "cuda" if cuda else "cpu")

    @cached_property
    def alone(self) -> Fabric:
        """Fabric with only this process, for a row without training steps, which only fits constants."""
        return launch(1, "cuda" if torch.cuda.is_available() else "cpu")


def train_stage(runs: Sequence[Run], processes: int) -> Iterator[str]:
    """Train the runs of a row; yield a line per data set with its training, or the reason for skipping it.

    Args:
        runs: runs of one row.
        processes: number of training processes.

    Raises:
        InputError: a data set, the options or the checkpoint to start from cannot be used, or another process is
            training this row.
    """
    together = Processes(processes)
    for run in runs:
        why = run.left_out or ("" if run.weights is not None else TrainingData(run).nothing_to_learn)
        if why and is_first_process():
            yield f"{run}: left out, {why}"
        elif not why and (line := train(run, runs, together)) is not None:
            yield line


def train(run: Run, runs: Sequence[Run], processes: Processes) -> str | None:
    """Train one row on one data set, or copy its ``weights`` file, and write its TrainingFile.

    A finished training is kept if none of its dependencies changed.

    Args:
        run: the row on a data set.
        runs: all runs of the row; weights of a run with the same dependencies are copied.
        processes: worker processes that the trainings of a command share.

    Returns:
        A line for the terminal; None in processes other than rank 0.

    Raises:
        InputError: the data set, the options or the checkpoint to start from cannot be used, or another process
            is training this row.
    """
    lock = run.layout.row_lock("checkpoints", run.row, run.source.name)
    with only_writer(lock, "training this row", group=True):
        if run.weights is not None:
            return _take_from_file(run, run.weights) if is_first_process() else None
        data = TrainingData(run)
        if run.same_as is not None and not run.same_as.source.is_absent:
            return _train_as(data, run.same_as, runs, processes)
        bases = _bases(data)
        # What this command has trained, its first process may still be writing.
        trained = processes.trained.get(_sha256(bases))
        if (trained is not None and trained.source.name == run.source.name) or _is_finished(run, bases):
            line: str | None = f"{run}: nothing that it depends on changed"
        elif (other := _equal(data, bases, runs, processes.trained)) is not None:
            line = _take_over(data, other, bases) if is_first_process() else None
            if is_first_process():
                _write_finished(run, bases, {})
        else:
            line = _train(data, bases, processes)
            processes.trained[_sha256(bases)] = run
        return f"{line}{data.without}" if line is not None and is_first_process() else None


class _Seed(NamedTuple):
    """Weights of one seed; ``record`` is None if they are copied from another row."""

    parameters: int
    weights: Weights | None
    record: TrainingRun | None
    roots_sha256: str | None


def _train(data: TrainingData, bases: Mapping[int, dict[str, Any]], processes: Processes) -> str | None:
    """Train all seeds and write the record; None in processes other than rank 0."""
    run = data.run
    seeds = {seed: _train_seed(data, seed, basis, processes) for seed, basis in bases.items()}
    done = {seed: of_seed for seed, of_seed in seeds.items() if of_seed is not None}
    if not done:
        return None
    last = list(done.values())[-1]
    trained = [of_seed.record for of_seed in done.values() if of_seed.record is not None]
    after = None if run.start is None else run.start.row
    options = options_in_force(data.learner(), run.options)
    written = _write(data, after, last.parameters, trained, options, last.weights)
    roots_sha256 = {seed: of_seed.roots_sha256 for seed, of_seed in done.items() if of_seed.roots_sha256 is not None}
    _write_finished(run, bases, roots_sha256)
    seconds = sum(each.seconds for each in trained)
    return f"{run}: {len(trained)} trained, {written.parameters} parameters, {seconds:.0f} s"


def _train_seed(data: TrainingData, seed: int, basis: dict[str, Any], processes: Processes) -> _Seed | None:
    """Train one seed, or copy the start weights of a row without training; None in processes other than rank 0."""
    run = data.run
    start, target = None if run.start is None else run.start.checkpoint(seed), run.checkpoint(seed)
    if run.start is not None and start is not None and start.is_file():
        check_weights(run.start)
    training = data.learner().training(start, seed)
    if training is None:
        return _take_start(run, start, target, basis["start"])
    _check_samples(data)
    fabric = processes.fabric if training.steps else processes.alone
    samples, roots_sha256 = _samples(data, training, seed, target.with_suffix(".roots.npz"), fabric)
    with progress(f"train {run} seed {seed}") as report:
        result = fit(
            fabric,
            training,
            samples,
            seed=seed,
            state_path=target.with_suffix(".state.pt"),
            configuration={**basis, "roots": roots_sha256},
            # On a GPU the processor prepares the next batch, frames that are decoded on the fly included.
            workers=min(8, os.cpu_count() or 1) if torch.cuda.is_available() else 0,
            progress=report,
        )
    if not fabric.is_global_zero:
        return None
    constants = fitted_constants(training, samples)
    folder = Path(run.code).name
    Checkpoint(folder, training.architecture, result.state, constants, data.trained_on).save(target)
    weights = Weights(origin="trained", architecture=training.architecture, trained_on=data.trained_on)
    parameters = sum(value.numel() for value in training.model.parameters())
    return _Seed(parameters, weights, _record(seed, training, fabric.world_size, result, constants), roots_sha256)


def _take_start(run: Run, start: Path | None, target: Path, digest: str | None) -> _Seed | None:
    """Copy the start weights of a row without training; None in processes other than rank 0."""
    if run.start is None or start is None or not start.exists():
        remedy = "set `after` to a trained row" if run.start is None else f"train {run.start.row} first"
        raise InputError(start or run.row, "there is no checkpoint to copy", remedy)
    if not is_first_process():  # two writers of one file would remove each other's
        return None
    _copy(start, target, digest)
    of_start = TrainingFile.read(run.start.path("training"))
    return _Seed(of_start.parameters, of_start.provenance.weights, None, None)


def _check_samples(data: TrainingData) -> None:
    """Raise InputError if there are no training samples."""
    if reason := data.nothing_to_learn:
        run = data.run
        status = run.dataset.status()
        lacking = f": {run.layout.portable(status.detail)}" if status.state == "partial" and data.own else ""
        problem = "has no training samples" if data.own else f"{run.row} cannot be trained for it: {reason}"
        raise InputError(f"data set {run.source.name}", problem, f"give it some, or import weights{lacking}")


def _samples(
    data: TrainingData, training: Training, seed: int, kept: Path, fabric: Fabric
) -> tuple[LabelledSamples, str | None]:
    """Samples of a training, and the hash of its predicted roots (None: the row uses no roots).

    Args:
        data: data sets of the training.
        training: training of the row.
        seed: seed of the training.
        kept: file for the predicted roots.
        fabric: processes of the training.
    """
    run, each_view = data.run, data.each_view
    with progress(f"crops {run.source.name}") as report:
        inputs = declared_inputs(training.inputs, f"row {run.row}")
        if not data.own:
            return data.samples(training, inputs, seed, report), None
        roots_mm, of_roots = None, None
        if inputs.root == "predicted":
            condition = from_all_cameras(run.dataset, "train")
            with _first_before_others(fabric):
                roots_mm = predicted_roots_mm(run, seed, condition, kept=kept, progress=report)
            of_roots = _roots_sha256(run, seed)
        handover = Handover(run.dataset, inputs, run.layout.crops, roots_mm=roots_mm, progress=report)
        return handover.examples("train", each_view=each_view), of_roots


@contextmanager
def _first_before_others(fabric: Fabric) -> Iterator[None]:
    """Run the block in rank 0 first, then in the other processes, which read the file that rank 0 wrote."""
    try:
        if not fabric.is_global_zero:
            fabric.barrier()
        yield
        if fabric.is_global_zero:
            fabric.barrier()
    except RuntimeError:
        if fabric.is_global_zero:
            raise
        raise SystemExit(2) from None  # the first process says why it ended


def _equal(
    data: TrainingData, bases: Mapping[int, dict[str, Any]], runs: Sequence[Run], trained: Mapping[str, Run]
) -> Run | None:
    """Another run of the row with the same training data, start and options, and therefore the same weights.

    Args:
        data: data sets of the training.
        bases: dependencies of the training by seed.
        runs: all runs of the row.
        trained: trainings of this command (`Processes`).

    Returns:
        The other run; None: there is none.
    """
    if data.own:
        return None
    if (other := trained.get(_sha256(bases))) is not None:
        return other
    for other in runs:
        record = other.path("training")
        if other.source.name == data.run.source.name or other.source.is_absent or not record.is_file():
            continue
        try:
            is_copy = TrainingFile.read(record).same_as is not None
        except ResultError:
            continue
        if not is_copy and _is_finished(other, bases):
            return other
    return None


def _train_as(data: TrainingData, other: Run, runs: Sequence[Run], processes: Processes) -> str | None:
    """Train the row on its training data set, unless this is done, and copy the weights.

    The training has the options, samples and predicted roots of the row's run on that data set.
    """
    run = data.run
    if other.weights is None and (why := TrainingData(other).nothing_to_learn):
        problem = f"{run.row} cannot be trained for it: {why}"
        raise InputError(f"data set {run.source.name}", problem, f"add training samples to {other.source.name}")
    train(other, runs, processes)
    if not is_first_process():
        return None
    digests = TrainingFile.read(other.path("training")).provenance.checkpoint_sha256
    if _holds_copies(data, other, {run.checkpoint(seed): digests[f"seed{seed}"] for seed in other.seeds}):
        return f"{run}: nothing that it depends on changed"
    return _take_over(data, other, other.seeds)


def _holds_copies(data: TrainingData, other: Run, digests: Mapping[Path, str]) -> bool:
    """Whether the weights are a copy of those of another data set, and neither they nor the data changed since."""
    try:
        record = TrainingFile.read(data.run.path("training"))
        manifests = (record.training_manifests, record.provenance.data_manifest)
        return (
            record.same_as == other.source.name
            and manifests == (data.manifests, data.run.dataset.manifest())
            and record.provenance.checkpoint_sha256 == {path.stem: digest for path, digest in digests.items()}
            and all(file_sha256(path) == digest for path, digest in digests.items())
        )
    except (OSError, ResultError):
        return False


def _take_over(data: TrainingData, other: Run, seeds: Iterable[int]) -> str:
    """Copy the weights of an equal training on another data set; return a line for the terminal."""
    record = TrainingFile.read(other.path("training"))
    for seed in seeds:
        digest = record.provenance.checkpoint_sha256[f"seed{seed}"]
        _copy(other.checkpoint(seed), data.run.checkpoint(seed), digest)
    weights = record.provenance.weights
    if weights is not None and weights.origin == "trained" and not weights.trained_on:
        weights = weights.model_copy(update={"trained_on": data.trained_on})
    same_as = other.source.name
    _write(data, record.after, record.parameters, [], record.provenance.options, weights, same_as=same_as)
    return f"{data.run}: trained as for {same_as}, whose weights it takes over"


def _take_from_file(run: Run, file: Path) -> str:
    """Copy a Poseboard checkpoint as the weights of a row without training; return a line for the terminal."""
    name = run.layout.portable(str(file))
    if not file.is_file():
        raise InputError(
            f"params.yaml: methods.{run.row}.weights",
            f"there is no {name}",
            "create it from a published checkpoint with `poseboard weights import`",
        )
    read, digest = Checkpoint.read(file), file_sha256(file)
    for target in run.checkpoints.values():
        if not target.is_file() or file_sha256(target) != digest:
            _copy(file, target, digest)
    weights = Weights(
        origin="imported", file=name, file_sha256=digest, architecture=read.architecture, trained_on=read.trained_on
    )
    parameters = sum(value.numel() for value in read.state.values())
    _write(TrainingData(run), None, parameters, [], weights.stated(dict(run.options)), weights)
    return f"{run}: not trained, weights from {name}, {parameters} parameters"


def _write(
    data: TrainingData,
    after: str | None,
    parameters: int,
    trained: list[TrainingRun],
    options: Mapping[str, Any],
    weights: Weights | None,
    same_as: str | None = None,
) -> TrainingFile:
    run = data.run
    written = TrainingFile(
        method=run.row,
        dataset=run.source.name,
        synthetic=run.dataset.synthetic,
        profile=run.layout.profile,
        after=after,
        parameters=parameters,
        training_manifests=data.manifests,
        same_as=same_as,
        runs=trained,
        provenance=provenance(
            run.layout,
            name=f"{run.row}/train/{run.source.name}",
            options=options,
            manifest=run.dataset.manifest(),
            checkpoints={seed: file_sha256(path) for seed, path in run.checkpoints.items()},
            weights=weights,
        ),
    )
    written.write(run.path("training"))
    return written


def _copy(source: Path, target: Path, digest: str | None) -> None:
    with open_file(source) as file:
        write_file(target, partial(shutil.copyfileobj, file), durable=True)
    if file_sha256(target) != digest:
        target.unlink()
        raise InputError(target, f"the copy of {source} differs from the original", "check the disk")


def _bases(data: TrainingData) -> dict[int, dict[str, Any]]:
    """Dependencies of the weights by seed, without predicted roots; equal dependencies give equal weights."""
    run = data.run
    common = {
        "options": dict(run.options),
        "files": _files(run),
        "code": code_sha256(training_code(run, data.names)),
        **_data_basis(data),
    }
    starts = {seed: None if run.start is None else run.start.checkpoint(seed) for seed in run.seeds}
    return {
        seed: {**common, "start": weights_sha256(run.layout, start) if start is not None and start.is_file() else None}
        for seed, start in starts.items()
    }


def _data_basis(data: TrainingData) -> dict[str, Any]:
    """Dependencies of the weights on the data."""
    of_data = [
        {
            "manifest": dataset.manifest(),
            "images": images_sha256(dataset.sample(key) for key in dataset.keys("train")),
        }
        for dataset in data.datasets
    ]
    return of_data[0] if data.own else {"data": dict(zip(data.names, of_data, strict=True)), "joints": data.joints}


def _files(run: Run) -> dict[str, str]:
    """Hashes of files named in options, because their content can change."""
    paths = {key: run.layout.home / value for key, value in run.options.items() if isinstance(value, str) and value}
    return {key: file_sha256(path) for key, path in paths.items() if path.is_file()}


def _roots_sha256(run: Run, seed: int) -> str:
    """Hash of the dependencies of the predicted roots in a row's training."""
    start = root_row(run)[1]
    source = weights_sha256(run.layout, start.checkpoint(seed))
    return _sha256([source, dict(start.options), code_sha256(prediction_code(start))])


def _finished(run: Run) -> Path:
    """Path of the file next to the checkpoints with the dependency hashes of finished trainings, by seed."""
    return run.path("checkpoints") / "finished.json"


def _is_finished(run: Run, bases: Mapping[int, dict[str, Any]]) -> bool:
    """Whether all seeds are trained, and neither their dependencies nor their checkpoints have changed since."""
    try:
        known = parse_json(read_bytes(_finished(run)))
        recorded = TrainingFile.read(run.path("training")).provenance.checkpoint_sha256
        return set(known) == {f"seed{seed}" for seed in bases} and all(
            known[f"seed{seed}"]["basis"] == _sha256(basis)
            and ((roots := known[f"seed{seed}"]["roots"]) is None or roots == _roots_sha256(run, seed))
            and recorded[f"seed{seed}"] == file_sha256(run.checkpoint(seed))
            for seed, basis in bases.items()
        )
    except (OSError, ValueError, KeyError, TypeError, ResultError):
        return False


def _write_finished(run: Run, bases: Mapping[int, dict[str, Any]], roots_sha256: Mapping[int, str]) -> None:
    entries = {
        f"seed{seed}": {"basis": _sha256(basis), "roots": roots_sha256.get(seed)} for seed, basis in bases.items()
    }
    write_file(_finished(run), (json.dumps(entries, indent=1, sort_keys=True) + "\n").encode())


def _sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _record(seed: int, training: Training, processes: int, result: Fit, constants: dict[str, float]) -> TrainingRun:
    curves = {
        name: Curve(
            x=[step for step, _ in points],
            y=[value if math.isfinite(value) else None for _, value in points],
            x_label="step",
            y_label=name,
        )
        for name, points in result.curve.items()
    }
    return TrainingRun(
        seed=seed,
        steps=training.steps,
        batch_size=training.batch_size,
        processes=processes,
        seconds=round(result.seconds, 2),
        processor_seconds=None if result.processor_seconds is None else round(result.processor_seconds, 2),
        gpu_seconds=None if result.gpu_seconds is None else round(result.gpu_seconds, 2),
        curves=curves,
        constants=constants,
    )
