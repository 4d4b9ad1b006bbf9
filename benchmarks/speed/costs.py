"""The costs stage: time, memory and operations of each row's predictions, on one workload per data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from poseboard.benchmarks.harness import Prediction, chunks, device
from poseboard.benchmarks.plan import Plan, Run
from poseboard.benchmarks.predict import prediction_of_views
from poseboard.benchmarks.provenance import hardware
from poseboard.benchmarks.speed.process import one_thread, with_peak_memory
from poseboard.datasets.sample import Sample
from poseboard.methods.base import Method, find_learner, predicts
from poseboard.protocols.records import CostFile, InferenceCost, TrainingFile

SAMPLES, VIEWS = 64, 4
"""The workload: the first samples of the test split, from this many cameras or as many as the row takes."""
SECONDS, LEAST_CALLS = 1.0, 3
"""Calls are repeated for this time, and at least this often where a call is of one sample."""


def costs_stage(plan: Plan, *, record: bool = False) -> Iterator[str]:
    """Measure all trained rows and write a `CostFile` per data set; yield a line per row.

    Rows with the weights of another data set (`Run.same_as`) have the same cost on both and are not measured again.

    Args:
        plan: rows and data sets.
        record: whether to write to results/speed/rows, which is in git, instead of results/<profile>/costs.
    """
    folder = plan.home / "results" / "speed" / "rows" if record else plan.layout.results / "costs"
    folder.mkdir(parents=True, exist_ok=True)
    samples, seconds = (SAMPLES, SECONDS) if plan.profile.full_size else (4, 0.0)
    runs = [run for row in plan.rows for run in plan.runs(row) if _is_measured(run)]
    for dataset in dict.fromkeys(run.source.name for run in runs):
        costs = []
        for run in runs:
            if run.source.name == dataset:
                costs.append(measure(run, samples, seconds))
                yield _line(dataset, costs[-1])
        opened = plan.source(dataset).dataset
        CostFile(
            dataset=dataset,
            synthetic=opened.synthetic,
            profile=plan.params.profile,
            samples=min(samples, len(opened.keys("test"))),
            threads=1,
            device=_device_name(),
            hardware=hardware(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            reference=plan.params.cost_reference,
            rows=costs,
        ).write(folder / f"{dataset}.json")


def measure(run: Run, samples: int, seconds: float) -> InferenceCost:
    """Measure the cost of a row's predictions with its first seed, in one CPU thread or on the GPU.

    Decoding and cropping of images are not included. Times are medians of processor time, or of wall time on a GPU.

    Args:
        run: the trained row on a data set.
        samples: number of samples in the workload.
        seconds: minimum duration of the repeated calls in s (`SECONDS`).

    Raises:
        InputError: the row cannot predict under any condition without perturbation.
    """
    prediction = prediction_of_views(run, VIEWS)
    calls = _calls(replace(prediction, keys=prediction.keys[:samples]))
    largest = max(calls, key=len)
    method = prediction.row.model()
    with one_thread():
        gflops = _gflops(method, largest[:1])
        memory_mib = _memory_mib(lambda: method.predict(largest))
        of_batch = _median_seconds([lambda: method.predict(largest)], seconds, 1) / len(largest)
        singly = [lambda sample=sample: method.predict([sample]) for call in calls for sample in call]
        of_one = _median_seconds(singly, seconds, LEAST_CALLS)
    training = run.path("training")
    return InferenceCost(
        method=run.row,
        views=max(len(sample.views) for sample in largest),
        batch=len(largest),
        ms_single=_rounded(1000 * of_one),
        ms_batch=_rounded(1000 * of_batch),
        memory_mib=None if memory_mib is None else _rounded(memory_mib),
        parameters=TrainingFile.read(training).parameters if training.is_file() else None,
        gflops=_rounded(gflops),
    )


def _is_measured(run: Run) -> bool:
    """Whether a row predicts on a data set with weights that were trained on it."""
    if run.left_out or run.same_as is not None or run.source.is_absent or not predicts(find_learner(run.spec)):
        return False
    return run.path("predictions").is_dir() and any(run.path("predictions").glob("test-*.parquet"))


def _calls(prediction: Prediction) -> list[list[Sample]]:
    """Samples of each call of the method, with images in memory."""
    handover = prediction.handover()
    calls = [[sample for key in keys for sample in handover.samples(key)] for keys in chunks(handover, prediction.keys)]
    return [[_decoded(sample) for sample in call] for call in calls if call]


def _decoded(sample: Sample) -> Sample:
    views = (view if view.image is None else replace(view, image=view.pixels()) for view in sample.views)
    return replace(sample, views=tuple(views))


def _gflops(method: Method, samples: Sequence[Sample]) -> float:
    """GFLOP per sample in convolutions and matrix products of PyTorch; other operations are not counted."""
    with FlopCounterMode(display=False) as counter:
        method.predict(samples)
    return counter.get_total_flops() / 1e9 / len(samples)


def _memory_mib(call: Callable[[], object]) -> float | None:
    """Peak memory of a call in MiB, above the loaded row and the images; None: unknown."""
    if device() == "cpu":
        return with_peak_memory(call)[1]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _median_seconds(calls: Sequence[Callable[[], object]], seconds: float, least: int) -> float:
    """Median time of calls, repeated in turn until ``seconds`` have passed and at least ``least`` times."""
    clock = time.process_time if device() == "cpu" else time.perf_counter
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < least or time.perf_counter() - began < seconds:
        start = clock()
        calls[len(times) % len(calls)]()
        times.append(clock() - start)
    return float(np.median(times))


def _device_name() -> str:
    return "cpu" if device() == "cpu" else torch.cuda.get_device_name()


def _rounded(value: float) -> float:
    """Round to four significant digits; further digits are noise."""
    return float(f"{value:.4g}")


def _line(dataset: str, cost: InferenceCost) -> str:
    memory = "-" if cost.memory_mib is None else f"{cost.memory_mib:.0f} MiB"
    return (
        f"{dataset}/{cost.method}: {cost.ms_single:.3g} ms alone, {cost.ms_batch:.3g} ms in batches of {cost.batch}, "
        f"{memory}, {cost.gflops:.3g} GFLOPs"
    )
