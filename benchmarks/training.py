"""The train stage: a method's training pipeline on one data set, every seed of the profile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import torch

import poseboard.methods.base
from poseboard.benchmarks.harness import Bench
from poseboard.benchmarks.progress import progress
from poseboard.benchmarks.provenance import code_sha256, file_sha256, provenance
from poseboard.benchmarks.settings import BACKBONE, Settings
from poseboard.datasets.errors import InputError
from poseboard.methods.base import Checkpoint, Training
from poseboard.methods.loop import Fit, fit, launch
from poseboard.methods.nets.backbone import Backbone
from poseboard.protocols.scores import Curve, TrainingFile, TrainingRun

FINISH_SAMPLES = 256
"""Training samples, evenly strided, that constants are fitted on after training."""


def checkpoint_path(settings: Settings, dataset: str, method: str, seed: int) -> Path:
    """File of a row's final weights."""
    return settings.file("checkpoints", dataset, method) / f"seed{seed}.pt"


def train(settings: Settings, dataset: str, method: str) -> TrainingFile | None:
    """Train one row (or the backbone) and write its checkpoints and its TrainingFile.

    Returns:
        What was written, or None on the further processes of a group.

    Raises:
        InputError: the data set, the options or the checkpoint to start from cannot be used, or another process
            is training this row.
    """
    with _only_writer(settings.file("checkpoints", dataset, f".{method}.lock")):
        return _train(settings, dataset, method)


def _train(settings: Settings, dataset: str, method: str) -> TrainingFile | None:
    bench = Bench.open(settings, dataset)
    after = None if method == BACKBONE else settings.entry(method).after
    starts = {
        seed: checkpoint_path(settings, dataset, after, seed) if after else None for seed in settings.profile.seeds
    }
    runs: list[TrainingRun] = []
    parameters, leader, fabric = 0, True, None
    for seed, start in starts.items():
        training = _training(bench, method, start, seed)
        target = checkpoint_path(settings, dataset, method, seed)
        if training is None:
            if start is None or not start.exists():
                raise InputError(start or method, "there is no checkpoint to take over", f"train {after} first")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(start, target)
            parameters = TrainingFile.read(settings.file("training", dataset, f"{after}.json")).parameters
            continue
        if fabric is None:
            cuda = torch.cuda.is_available()
            count = min(settings.profile.processes, torch.cuda.device_count()) if cuda else settings.profile.processes
            fabric = launch(count, "cuda" if cuda else "cpu")
            leader = fabric.is_global_zero
        with progress(f"crops {dataset}") as report:
            samples = bench.restricted(training.inputs, progress=report)
        with progress(f"train {dataset}/{method} seed {seed}") as report:
            result = fit(
                fabric,
                training,
                samples,
                seed=seed,
                state_path=target.with_suffix(".state.pt"),
                configuration={
                    "options": settings.options(method),
                    "start": None if start is None else file_sha256(start),
                    "manifest": bench.dataset.manifest(),
                    "code": _code(settings, method),
                },
                workers=1 if torch.cuda.is_available() else 0,
                progress=report,
            )
        parameters = sum(value.numel() for value in training.model.parameters())
        if leader:
            keys = samples.keys("train")
            keys = keys[:: max(1, len(keys) // FINISH_SAMPLES)]
            constants = training.finish([samples.sample(key) for key in keys], [samples.truth(key) for key in keys])
            folder = method if method == BACKBONE else Path(settings.entry(method).code).name
            Checkpoint(folder, training.architecture, result.state, constants).save(target)
            runs.append(_run(seed, training, fabric.world_size, result, constants))
    if not leader:
        return None
    written = TrainingFile(
        method=method,
        dataset=dataset,
        synthetic=bench.dataset.synthetic,
        profile=settings.params.profile,
        after=after,
        parameters=parameters,
        runs=runs,
        provenance=provenance(
            settings,
            run=f"train/{dataset}/{method}",
            options=settings.options(method),
            manifest=bench.dataset.manifest(),
            checkpoints={seed: checkpoint_path(settings, dataset, method, seed) for seed in settings.profile.seeds},
        ),
    )
    written.write(settings.file("training", dataset, f"{method}.json"))
    return written


def _training(bench: Bench, method: str, start: Path | None, seed: int) -> Training | None:
    if method == BACKBONE:
        return Backbone(bench.settings.options(BACKBONE), bench.dataset.skeleton).training(start, seed)
    return bench.method(method).training(start, seed)


def _code(settings: Settings, method: str) -> str:
    room = Path(poseboard.methods.base.__file__).parent
    own = [] if method == BACKBONE else [settings.home / settings.entry(method).code]
    return code_sha256([*own, room / "base.py", room / "loop.py", room / "nets", room / "geometry"])


def _run(seed: int, training: Training, processes: int, result: Fit, constants: dict[str, float]) -> TrainingRun:
    curves = {
        name: Curve(x=[step for step, _ in points], y=[value for _, value in points], x_label="step", y_label=name)
        for name, points in result.curve.items()
    }
    return TrainingRun(
        seed=seed,
        steps=training.steps,
        batch_size=training.batch_size,
        processes=processes,
        seconds=round(result.seconds, 2),
        curves=curves,
        constants=constants,
    )


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    # Further processes of a group run the same command; their first one holds the lock for all.
    if int(os.environ.get("LOCAL_RANK", "0")) > 0 or int(os.environ.get("NODE_RANK", "0")) > 0:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(path, timeout=0):
            yield
    except filelock.Timeout:
        raise InputError(path, "another process is training this row", "wait for it or stop it") from None
