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
from typing import TYPE_CHECKING, Any

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
    """The training processes of one command: launched when the first training needs them, and used by all of them.

    Attributes:
        trained: what this command has trained: hash of what it depends on -> data set. All processes know it alike,
            while the first of them may still be writing the files.
    """

    def __init__(self, settings: Settings) -> None:
        self._most = settings.profile.processes
        self.trained: dict[str, str] = {}

    @cached_property
    def fabric(self) -> Fabric:
        """The group, one process per GPU or as many as the profile names."""
        cuda = torch.cuda.is_available()
        return launch(min(self._most, torch.cuda.device_count()) if cuda else self._most, "cuda" if cuda else "cpu")

    @cached_property
    def alone(self) -> Fabric:
        """This process, for a row that makes no step and only fits constants: others would take seconds to start."""
        return launch(1, "cuda" if torch.cuda.is_available() else "cpu")


def train_stage(settings: Settings, row: str) -> Iterator[str]:
    """Train a row on every data set that it runs on; yields a line per data set, or why there is none.

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
    """Train one row on one data set, or take its weights from the file that it names, and write its TrainingFile.

    A training that is finished and depends on nothing that changed is left as it is.

    Args:
        settings: params.yaml in one profile.
        dataset: name in params.yaml.
        row: name in params.yaml.
        processes: that trainings of the same command share; None for its own.

    Returns:
        What was done, or None on the further processes of a group.

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


def _train(data: TrainingData, bases: Mapping[int, dict[str, Any]], processes: Processes) -> str | None:
    bench, row, settings, dataset = data.bench, data.row, data.bench.settings, data.bench.dataset.name
    after = settings.after(row)
    runs: list[TrainingRun] = []
    parameters, leader = 0, True
    weights: Weights | None = None
    roots_sha256: dict[int, str] = {}
    for seed, basis in bases.items():
        start = _start(settings, dataset, row, seed)
        if start is not None and after is not None and start.is_file():
            check_weights(bench, after)
        training = data.learner().training(start, seed)
        target = settings.checkpoint(dataset, row, seed)
        if training is None:
            if start is None or after is None or not start.exists():
                raise InputError(
                    start or row,
                    "there is no checkpoint to take over",
                    f"train {after} first" if after else "name a row under `after`",
                )
            leader = is_first_process()
            if not leader:  # two writers of one file would remove each other's
                continue
            _copy(start, target, basis["start"])
            of_start = TrainingFile.read(settings.row_path("training", after, dataset))
            parameters, weights = of_start.parameters, of_start.provenance.weights
            continue
        if why := data.nothing_to_learn:
            status = bench.dataset.status()
            lacking = f": {settings.portable(status.detail)}" if status.state == "partial" and data.own else ""
            problem = "has no training samples" if data.own else f"{row} cannot be trained for it: {why}"
            raise InputError(f"data set {dataset}", problem, f"give it some, or import weights{lacking}")
        fabric = processes.fabric if training.steps else processes.alone
        leader = fabric.is_global_zero
        samples, of_roots = _samples(data, training, seed, target.with_suffix(".roots.npz"), fabric)
        if of_roots is not None:
            roots_sha256[seed] = of_roots
        with progress(f"train {dataset}/{row} seed {seed}") as report:
            result = fit(
                fabric,
                training,
                samples,
                seed=seed,
                state_path=target.with_suffix(".state.pt"),
                configuration={**basis, "roots": roots_sha256.get(seed)},
                # On a GPU the processor prepares what comes next, frames that are decoded on the fly included.
                workers=min(8, os.cpu_count() or 1) if torch.cuda.is_available() else 0,
                progress=report,
            )
        parameters = sum(value.numel() for value in training.model.parameters())
        if leader:
            constants = fitted_constants(training, samples)
            folder = Path(settings.entry(row).code).name
            checkpoint = Checkpoint(folder, training.architecture, result.state, constants, data.trained_on)
            checkpoint.save(target)
            weights = Weights(origin="trained", architecture=training.architecture, trained_on=data.trained_on)
            runs.append(_run(seed, training, fabric.world_size, result, constants))
    if not leader:
        return None
    options = options_in_force(data.learner(), settings.options(row, dataset))
    written = _write(data, after, parameters, runs, options, weights)
    _write_finished(bench, row, bases, roots_sha256)
    seconds = sum(run.seconds for run in runs)
    return f"{dataset}/{row}: {len(runs)} trained, {written.parameters} parameters, {seconds:.0f} s"


def _samples(
    data: TrainingData, training: Training, seed: int, kept: Path, fabric: Fabric
) -> tuple[LabelledSamples, str | None]:
    """What a training sees, and the hash of what the roots depend on that it is handed, if it is handed any.

    Args:
        data: that it is trained on.
        training: of the row.
        seed: of the weights.
        kept: file in which predicted roots lie.
        fabric: the processes of the training.
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
    """Another data set for which the row was trained on the same from the same, so that its weights are the same.

    Args:
        bench: the data set.
        row: name in params.yaml.
        bases: all that the training depends on.
        trained: what this command has trained, see `Processes`.
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
    """Train the row on the data set that it names instead, unless that is done, and take its weights over as they are.

    That training is the other data set's own, with its options, its samples and the roots that it is handed.
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
    """Whether the weights of another data set were taken over as they are now, for the data as it is now."""
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
    """The weights of a training for another data set that is equal in everything."""
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
    """The weights of a row that is not trained: a checkpoint of ours, as it is."""
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
    """By seed, all that its weights depend on but the roots that a row is handed; what is equal trains the same."""
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
    """What weights depend on of the data."""
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
    """Of what the roots depend on that a row is handed for its training."""
    settings, entry = bench.settings, bench.settings.entry(row)
    source = weights_sha256(settings, bench.roots_source(row, seed, "train"))
    if "train" in entry.roots:
        return source
    options = settings.options(entry.after, bench.dataset.name)
    return _sha256([source, options, code_sha256(prediction_code(settings, bench.dataset.name, entry.after))])


def _finished(bench: Bench, row: str) -> Path:
    """Beside the checkpoints: what the finished trainings depended on, by seed."""
    return bench.settings.row_path("checkpoints", row, bench.dataset.name) / "finished.json"


def _is_finished(bench: Bench, row: str, bases: Mapping[int, dict[str, Any]]) -> bool:
    """Whether all seeds are trained, from the same, and their checkpoints are those that the training left."""
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
