"""The train stage: a row's training pipeline on its data sets, every seed of the profile."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from poseboard.benchmarks.handover import taken
from poseboard.benchmarks.harness import Bench, options_in_force
from poseboard.benchmarks.locks import is_first_process, only_writer
from poseboard.benchmarks.matching import places
from poseboard.benchmarks.progress import progress
from poseboard.benchmarks.provenance import (
    check_weights,
    code_sha256,
    file_sha256,
    prediction_code,
    provenance,
    training_code,
    weights_sha256,
)
from poseboard.benchmarks.roots import from_all_cameras, handed_roots_mm
from poseboard.benchmarks.settings import Settings
from poseboard.benchmarks.training_data import TrainingData, fitted_constants
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.datasets.sample import images_sha256
from poseboard.methods.base import LabelledSamples, Training
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.loop import Fit, fit, launch
from poseboard.protocols.records import Curve, ResultError, TrainingFile, TrainingRun, Weights

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Processes:
    """The training processes of one command, launched by its first training and used by all.

    Attributes:
        trained: trainings of this command: hash of what they depend on -> data set. Equal in all processes, while the
            first process may still be writing the files.
    """

    def __init__(self, settings: Settings) -> None:
        self._most = settings.profile.processes
        self.trained: dict[str, str] = {}

    @cached_property
    def fabric(self) -> Fabric:
        """One process per GPU, or on a CPU as many as the profile names."""
        cuda = torch.cuda.is_available()
        return launch(min(self._most, torch.cuda.device_count()) if cuda else self._most, "cuda" if cuda else "cpu")

    @cached_property
    def alone(self) -> Fabric:
        """Only this process, for a row without training steps, which only fits constants."""
        return launch(1, "cuda" if torch.cuda.is_available() else "cpu")


def train_stage(settings: Settings, row: str) -> Iterator[str]:
    """Train a row on every data set that it runs on; yields a line per data set.

    Raises:
        InputError: a data set, the options or the checkpoint to start from cannot be used, or another process is
            training this row.
    """
    for kind in ("checkpoints", "training"):
        settings.row_folder(kind, row).mkdir(parents=True, exist_ok=True)
    processes = Processes(settings)
    on = list(places(settings, row))
    if not on and is_first_process():
        yield settings.nowhere(row)
    for place in on:
        if why := place.left_out or _nothing_to_learn(settings, row, place.dataset):
            line: str | None = f"{place.dataset}/{row}: left out, {why}" if is_first_process() else None
        else:
            line = train(settings, place.dataset, row, processes)
        if line is not None:
            yield line


def _nothing_to_learn(settings: Settings, row: str, dataset: str) -> str:
    if settings.weights(row, dataset) is not None:
        return ""
    return TrainingData(Bench.open(settings, dataset), row).nothing_to_learn


def train(settings: Settings, dataset: str, row: str, processes: Processes | None = None) -> str | None:
    """Train one row on one data set, or copy the weights that it names, and write its TrainingFile.

    A finished training is kept if nothing that it depends on changed.

    Args:
        settings: params.yaml in one profile.
        dataset: name in params.yaml.
        row: name in params.yaml.
        processes: shared by the trainings of a command; None: new ones.

    Returns:
        A line for the terminal, or None in further processes.

    Raises:
        InputError: the data set, the options or the checkpoint to start from cannot be used, or another process
            is training this row.
    """
    file = settings.weights(row, dataset)
    with only_writer(settings.row_lock("checkpoints", row, dataset), "training this row", group=True):
        bench = Bench.open(settings, dataset)
        if file is not None:
            return _take_from_file(bench, row, file) if is_first_process() else None
        data, processes = TrainingData(bench, row), processes or Processes(settings)
        if (same := data.same_as) is not None:
            return _train_as(data, same, processes)
        bases = _bases(data)
        # What this command has trained, its first process may still be writing.
        if processes.trained.get(_sha256(bases)) == dataset or _is_finished(bench, row, bases):
            line: str | None = f"{dataset}/{row}: nothing that it depends on changed"
        elif (other := _equal(bench, row, bases, processes.trained)) is not None:
            line = _take_over(data, other, bases) if is_first_process() else None
            if is_first_process():
                _write_finished(bench, row, bases, {})
        else:
            line = _train(data, bases, processes)
            processes.trained[_sha256(bases)] = dataset
        return f"{line}{data.without}" if line is not None and is_first_process() else None


class _Seed(NamedTuple):
    """Weights of one seed; ``run`` is None if they are those of another row."""

    parameters: int
    weights: Weights | None
    run: TrainingRun | None
    roots_sha256: str | None


def _train(data: TrainingData, bases: Mapping[int, dict[str, Any]], processes: Processes) -> str | None:
    """Train every seed and write the record; None in further processes."""
    settings, dataset, row = data.bench.settings, data.bench.dataset.name, data.row
    after = settings.after(row)
    seeds = {seed: _train_seed(data, seed, basis, processes) for seed, basis in bases.items()}
    done = {seed: of_seed for seed, of_seed in seeds.items() if of_seed is not None}
    if not done:
        return None
    last = list(done.values())[-1]
    runs = [of_seed.run for of_seed in done.values() if of_seed.run is not None]
    options = options_in_force(data.learner(), settings.options(row, dataset))
    written = _write(data, after, last.parameters, runs, options, last.weights)
    roots_sha256 = {seed: of_seed.roots_sha256 for seed, of_seed in done.items() if of_seed.roots_sha256 is not None}
    _write_finished(data.bench, row, bases, roots_sha256)
    seconds = sum(run.seconds for run in runs)
    return f"{dataset}/{row}: {len(runs)} trained, {written.parameters} parameters, {seconds:.0f} s"


def _train_seed(data: TrainingData, seed: int, basis: dict[str, Any], processes: Processes) -> _Seed | None:
    """Train one seed, or copy the weights that a row without training starts from; None in further processes."""
    bench, row, settings, dataset = data.bench, data.row, data.bench.settings, data.bench.dataset.name
    start, after, target = (
        _start(settings, dataset, row, seed),
        settings.after(row),
        settings.checkpoint(dataset, row, seed),
    )
    if start is not None and after is not None and start.is_file():
        check_weights(bench, after)
    training = data.learner().training(start, seed)
    if training is None:
        return _take_start(settings, dataset, row, start, target, basis["start"])
    _check_samples(data)
    fabric = processes.fabric if training.steps else processes.alone
    samples, roots_sha256 = _samples(data, training, seed, target.with_suffix(".roots.npz"), fabric)
    with progress(f"train {dataset}/{row} seed {seed}") as report:
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
    folder = Path(settings.entry(row).code).name
    Checkpoint(folder, training.architecture, result.state, constants, data.trained_on).save(target)
    weights = Weights(origin="trained", architecture=training.architecture, trained_on=data.trained_on)
    parameters = sum(value.numel() for value in training.model.parameters())
    return _Seed(parameters, weights, _run(seed, training, fabric.world_size, result, constants), roots_sha256)


def _take_start(
    settings: Settings, dataset: str, row: str, start: Path | None, target: Path, digest: str | None
) -> _Seed | None:
    """Copy the weights of the row that a row without training starts from; None in further processes."""
    after = settings.after(row)
    if start is None or after is None or not start.exists():
        remedy = f"train {after} first" if after else "name a row under `after`"
        raise InputError(start or row, "there is no checkpoint to take over", remedy)
    if not is_first_process():  # two writers of one file would remove each other's
        return None
    _copy(start, target, digest)
    of_start = TrainingFile.read(settings.row_path("training", after, dataset))
    return _Seed(of_start.parameters, of_start.provenance.weights, None, None)


def _check_samples(data: TrainingData) -> None:
    """InputError if there is nothing to learn from."""
    if reason := data.nothing_to_learn:
        dataset = data.bench.dataset
        status = dataset.status()
        lacking = f": {data.bench.settings.portable(status.detail)}" if status.state == "partial" and data.own else ""
        problem = "has no training samples" if data.own else f"{data.row} cannot be trained for it: {reason}"
        raise InputError(f"data set {dataset.name}", problem, f"give it some, or import weights{lacking}")


def _samples(
    data: TrainingData, training: Training, seed: int, kept: Path, fabric: Fabric
) -> tuple[LabelledSamples, str | None]:
    """Samples of a training, and the hash of the predicted roots (None: the row uses none).

    Args:
        data: the training data.
        training: of the row.
        seed: of the training.
        kept: file of the predicted roots.
        fabric: processes of the training.
    """
    bench, row, each_view = data.bench, data.row, data.each_view
    with progress(f"crops {bench.dataset.name}") as report:
        inputs = taken(training.inputs, f"row {row}")
        if not data.own:
            return data.samples(training, inputs, seed, report), None
        if inputs.root != "predicted":
            return bench.handover(inputs, progress=report).examples("train", each_view=each_view), None
        asked = from_all_cameras(bench, "train")
        with _first_before_others(fabric):
            roots_mm = handed_roots_mm(bench, row, seed, asked, kept=kept, progress=report)
        samples = bench.handover(inputs, roots_mm=roots_mm, progress=report).examples("train", each_view=each_view)
    return samples, _roots_sha256(bench, row, seed)


@contextmanager
def _first_before_others(fabric: Fabric) -> Iterator[None]:
    """Run the block in the first process of a training, then in the others, which read the file that it left."""
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


def _equal(bench: Bench, row: str, bases: Mapping[int, dict[str, Any]], trained: Mapping[str, str]) -> str | None:
    """Another data set for which the row has the same weights, because everything that they depend on is equal.

    Args:
        bench: the data set.
        row: name in params.yaml.
        bases: everything that the training depends on, by seed.
        trained: trainings of this command, see `Processes`.
    """
    if TrainingData(bench, row).own:
        return None
    if (other := trained.get(_sha256(bases))) is not None:
        return other
    settings = bench.settings
    for name in settings.params.datasets:
        record = settings.row_path("training", row, name)
        if name == bench.dataset.name or settings.is_absent(name) or not record.is_file():
            continue
        try:
            is_copy = TrainingFile.read(record).same_as is not None
        except ResultError:
            continue
        if not is_copy and _is_finished(Bench.open(settings, name), row, bases):
            return name
    return None


def _train_as(data: TrainingData, other: str, processes: Processes) -> str | None:
    """Train the row on the data set that it names instead, unless that is done, and copy its weights.

    The training uses the options, samples and predicted roots of the other data set.
    """
    settings, dataset, row = data.bench.settings, data.bench.dataset.name, data.row
    elsewhere = TrainingData(Bench.open(settings, other), row)
    if settings.weights(row, other) is None and (why := elsewhere.nothing_to_learn):
        raise InputError(f"data set {dataset}", f"{row} cannot be trained for it: {why}", f"give {other} some samples")
    train(settings, other, row, processes)
    if not is_first_process():
        return None
    record = TrainingFile.read(settings.row_path("training", row, other))
    digests = record.provenance.checkpoint_sha256
    files = {seed: settings.checkpoint(dataset, row, seed) for seed in settings.seeds(row, other)}
    if _holds_copies(data, other, {files[seed]: digests[f"seed{seed}"] for seed in files}):
        return f"{dataset}/{row}: nothing that it depends on changed"
    return _take_over(data, other, files)


def _holds_copies(data: TrainingData, other: str, digests: Mapping[Path, str]) -> bool:
    """True if the weights are a copy of those of another data set, and neither they nor the data changed since."""
    settings, dataset = data.bench.settings, data.bench.dataset
    try:
        record = TrainingFile.read(settings.row_path("training", data.row, dataset.name))
        return (
            record.same_as == other
            and (record.training_manifests, record.provenance.data_manifest) == (data.manifests, dataset.manifest())
            and record.provenance.checkpoint_sha256 == {path.stem: digest for path, digest in digests.items()}
            and all(file_sha256(path) == digest for path, digest in digests.items())
        )
    except (OSError, ResultError):
        return False


def _take_over(data: TrainingData, other: str, seeds: Iterable[int]) -> str:
    """Copy the weights of an equal training for another data set."""
    settings, dataset, row = data.bench.settings, data.bench.dataset.name, data.row
    record = TrainingFile.read(settings.row_path("training", row, other))
    for seed in seeds:
        digest = record.provenance.checkpoint_sha256[f"seed{seed}"]
        _copy(settings.checkpoint(other, row, seed), settings.checkpoint(dataset, row, seed), digest)
    weights = record.provenance.weights
    if weights is not None and weights.origin == "trained" and not weights.trained_on:
        weights = weights.model_copy(update={"trained_on": data.trained_on})
    options = record.provenance.options
    _write(data, record.after, record.parameters, [], options, weights, same_as=other)
    return f"{dataset}/{row}: trained as for {other}, whose weights it takes over"


def _take_from_file(bench: Bench, row: str, file: Path) -> str:
    """Copy the checkpoint that params.yaml names for a row."""
    settings, dataset = bench.settings, bench.dataset.name
    if not file.is_file():
        raise InputError(
            f"params.yaml: methods.{row}.weights",
            f"there is no {settings.portable(str(file))}",
            "`poseboard weights import` writes it from a published checkpoint",
        )
    read, digest = Checkpoint.read(file), file_sha256(file)
    for seed in settings.seeds(row, dataset):
        target = settings.checkpoint(dataset, row, seed)
        if not target.is_file() or file_sha256(target) != digest:
            _copy(file, target, digest)
    name = settings.portable(str(file))
    weights = Weights(
        origin="imported", file=name, file_sha256=digest, architecture=read.architecture, trained_on=read.trained_on
    )
    options = weights.stated(settings.options(row, dataset))
    parameters = sum(value.numel() for value in read.state.values())
    _write(TrainingData(bench, row), None, parameters, [], options, weights)
    return f"{dataset}/{row}: not trained, weights from {name}, {parameters} parameters"


def _write(
    data: TrainingData,
    after: str | None,
    parameters: int,
    runs: list[TrainingRun],
    options: Mapping[str, Any],
    weights: Weights | None,
    same_as: str | None = None,
) -> TrainingFile:
    bench, row = data.bench, data.row
    settings, dataset = bench.settings, bench.dataset.name
    written = TrainingFile(
        method=row,
        dataset=dataset,
        synthetic=bench.dataset.synthetic,
        profile=settings.params.profile,
        after=after,
        parameters=parameters,
        training_manifests=data.manifests,
        same_as=same_as,
        runs=runs,
        provenance=provenance(
            settings,
            run=f"{row}/train/{dataset}",
            options=options,
            manifest=bench.dataset.manifest(),
            checkpoints={
                seed: file_sha256(settings.checkpoint(dataset, row, seed)) for seed in settings.seeds(row, dataset)
            },
            weights=weights,
        ),
    )
    written.write(settings.row_path("training", row, dataset))
    return written


def _copy(source: Path, target: Path, digest: str | None) -> None:
    with source.open("rb") as file:
        write_file(target, partial(shutil.copyfileobj, file), durable=True)
    if file_sha256(target) != digest:
        target.unlink()
        raise InputError(target, f"its copy of {source} came out as another file", "check the disk")


def _start(settings: Settings, dataset: str, row: str, seed: int) -> Path | None:
    after = settings.after(row)
    return None if after is None else settings.checkpoint(dataset, after, seed)


def _bases(data: TrainingData) -> dict[int, dict[str, Any]]:
    """By seed, everything that the weights depend on except the predicted roots; equal values train equal weights."""
    settings, dataset, row = data.bench.settings, data.bench.dataset.name, data.row
    options = settings.options(row, dataset)
    common = {
        "options": options,
        "files": _files(settings, options),
        "code": code_sha256(training_code(settings, data.names, row)),
        **_data_basis(data),
    }
    starts = {seed: _start(settings, dataset, row, seed) for seed in settings.seeds(row, dataset)}
    return {
        seed: {**common, "start": weights_sha256(settings, start) if start is not None and start.is_file() else None}
        for seed, start in starts.items()
    }


def _data_basis(data: TrainingData) -> dict[str, Any]:
    """The part of the data that weights depend on."""
    of_data = [
        {
            "manifest": bench.dataset.manifest(),
            "images": images_sha256(bench.dataset.sample(key) for key in bench.dataset.keys("train")),
        }
        for bench in data.benches
    ]
    return of_data[0] if data.own else {"data": dict(zip(data.names, of_data, strict=True)), "joints": data.joints}


def _files(settings: Settings, options: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the files that options name, whose content may change under their name."""
    paths = {key: settings.home / value for key, value in options.items() if isinstance(value, str) and value}
    return {key: file_sha256(path) for key, path in paths.items() if path.is_file()}


def _roots_sha256(bench: Bench, row: str, seed: int) -> str:
    """Hash of everything that the predicted roots of a training depend on."""
    settings, entry = bench.settings, bench.settings.entry(row)
    source = weights_sha256(settings, bench.roots_source(row, seed, "train"))
    if "train" in entry.roots:
        return source
    options = settings.options(entry.after, bench.dataset.name)
    return _sha256([source, options, code_sha256(prediction_code(settings, bench.dataset.name, entry.after))])


def _finished(bench: Bench, row: str) -> Path:
    """File beside the checkpoints with the hashes of what the finished trainings depend on, by seed."""
    return bench.settings.row_path("checkpoints", row, bench.dataset.name) / "finished.json"


def _is_finished(bench: Bench, row: str, bases: Mapping[int, dict[str, Any]]) -> bool:
    """True if all seeds are trained, nothing that they depend on changed, and their checkpoints are unchanged."""
    settings, dataset = bench.settings, bench.dataset.name
    try:
        known = json.loads(_finished(bench, row).read_text(encoding="utf-8"))
        recorded = TrainingFile.read(settings.row_path("training", row, dataset)).provenance.checkpoint_sha256
        return set(known) == {f"seed{seed}" for seed in bases} and all(
            known[f"seed{seed}"]["basis"] == _sha256(basis)
            and ((roots := known[f"seed{seed}"]["roots"]) is None or roots == _roots_sha256(bench, row, seed))
            and recorded[f"seed{seed}"] == file_sha256(settings.checkpoint(dataset, row, seed))
            for seed, basis in bases.items()
        )
    except (OSError, ValueError, KeyError, TypeError, ResultError):
        return False


def _write_finished(
    bench: Bench, row: str, bases: Mapping[int, dict[str, Any]], roots_sha256: Mapping[int, str]
) -> None:
    entries = {
        f"seed{seed}": {"basis": _sha256(basis), "roots": roots_sha256.get(seed)} for seed, basis in bases.items()
    }
    write_file(_finished(bench, row), (json.dumps(entries, indent=1, sort_keys=True) + "\n").encode())


def _sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _run(seed: int, training: Training, processes: int, result: Fit, constants: dict[str, float]) -> TrainingRun:
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
