"""The train stage: a method's training pipeline on one data set, every seed of the profile."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

import poseboard.methods.loop
from poseboard.benchmarks.handover import taken
from poseboard.benchmarks.harness import Bench, options_in_force
from poseboard.benchmarks.locks import is_first_process, only_writer
from poseboard.benchmarks.progress import progress
from poseboard.benchmarks.provenance import file_sha256, provenance, row_code_sha256, weights_sha256
from poseboard.benchmarks.settings import BACKBONE, Settings
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.datasets.sample import images_sha256
from poseboard.methods.backbone.train import Backbone
from poseboard.methods.base import Method, Training
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.loop import Fit, fit, launch
from poseboard.protocols.records import Curve, TrainingFile, TrainingRun

FINISH_SAMPLES = 256
"""Training samples, evenly strided, that constants are fitted on after training."""


def train(settings: Settings, dataset: str, method: str) -> TrainingFile | None:
    """Train one row (or the backbone) and write its checkpoints and its TrainingFile.

    Returns:
        What was written, or None on the further processes of a group.

    Raises:
        InputError: the data set, the options or the checkpoint to start from cannot be used, or another process
            is training this row.
    """
    if method != BACKBONE:
        settings.entry(method)
    with only_writer(settings.row_lock("checkpoints", method, dataset), "training this row", group=True):
        return _train(settings, dataset, method)


def _train(settings: Settings, dataset: str, method: str) -> TrainingFile | None:
    bench = Bench.open(settings, dataset)
    after = None if method == BACKBONE else settings.entry(method).after
    starts = {seed: settings.checkpoint(dataset, after, seed) if after else None for seed in settings.profile.seeds}
    runs: list[TrainingRun] = []
    parameters, leader, fabric = 0, True, None
    given = settings.options(method)
    for seed, start in starts.items():
        start_sha256 = weights_sha256(settings, start) if start is not None and start.is_file() else None
        training = _learner(bench, method).training(start, seed)
        target = settings.checkpoint(dataset, method, seed)
        if training is None:
            if start is None or not start.exists():
                raise InputError(start or method, "there is no checkpoint to take over", f"train {after} first")
            leader = is_first_process()
            if not leader:  # two writers of one file would remove each other's
                continue
            with start.open("rb") as source:
                write_file(target, partial(shutil.copyfileobj, source), durable=True)
            if file_sha256(target) != start_sha256:
                target.unlink()
                raise InputError(target, f"its copy of {start} came out as another file", "check the disk")
            parameters = TrainingFile.read(settings.row_path("training", str(after), dataset)).parameters
            continue
        if not bench.dataset.keys("train"):
            raise InputError(f"data set {dataset}", "has no training samples", "give it some, or import weights")
        if fabric is None:
            cuda = torch.cuda.is_available()
            count = min(settings.profile.processes, torch.cuda.device_count()) if cuda else settings.profile.processes
            fabric = launch(count, "cuda" if cuda else "cpu")
            leader = fabric.is_global_zero
        with progress(f"crops {dataset}") as report:
            inputs = taken(training.inputs, f"row {method}")
            roots_mm = bench.roots_mm(method, seed, "train", progress=report) if inputs.root == "predicted" else None
            samples = bench.handover(inputs, roots_mm=roots_mm, progress=report).examples("train")
        with progress(f"train {dataset}/{method} seed {seed}") as report:
            result = fit(
                fabric,
                training,
                samples,
                seed=seed,
                state_path=target.with_suffix(".state.pt"),
                configuration={
                    "options": given,
                    "start": start_sha256,
                    **_weights(settings, given),
                    "roots": None if roots_mm is None else sorted((key, r.tolist()) for key, r in roots_mm.items()),
                    "manifest": bench.dataset.manifest(),
                    "images": images_sha256(bench.dataset.sample(key) for key in bench.dataset.keys("train")),
                    "code": row_code_sha256(settings, dataset, method, Path(poseboard.methods.loop.__file__)),
                },
                # On a GPU the processor prepares what comes next, frames that are decoded on the fly included.
                workers=min(8, os.cpu_count() or 1) if torch.cuda.is_available() else 0,
                progress=report,
            )
        parameters = sum(value.numel() for value in training.model.parameters())
        if leader:
            some = [samples[place] for place in range(len(samples))[:: max(1, len(samples) // FINISH_SAMPLES)]]
            constants = training.finish([sample for sample, _ in some], [truth for _, truth in some])
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
            run=f"{method}/train/{dataset}",
            options=options_in_force(_learner(bench, method), given),
            manifest=bench.dataset.manifest(),
            checkpoints={
                seed: file_sha256(settings.checkpoint(dataset, method, seed)) for seed in settings.profile.seeds
            },
        ),
    )
    written.write(settings.row_path("training", method, dataset))
    return written


def _weights(settings: Settings, options: Mapping[str, Any]) -> dict[str, str]:
    """Hash of the file that the option ``weights`` names, whose content may change under its name."""
    named = options.get("weights")
    file = settings.home / named if isinstance(named, str) else None
    return {"weights": file_sha256(file)} if file is not None and file.is_file() else {}


def _learner(bench: Bench, method: str) -> Backbone | Method:
    if method == BACKBONE:
        return Backbone(bench.options(BACKBONE), bench.dataset.skeleton)
    return bench.method(method)


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
