"""Training cost of a method, including the trainings of the rows that it starts from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from poseboard.protocols.records import TrainingFile, TrainingRun

Measure = Literal["processor s", "GPU s", "wall s × processes"]
"""Units of training cost. Processor s: user + system time. GPU s: wall time × GPUs. Wall s × processes: for files
without the other two; it also depends on other programs. They cannot be converted into each other."""


@dataclass(frozen=True)
class Cost:
    """Training cost of a method: time and number of parameters."""

    own_s: float | None
    total_s: float | None
    """With the trainings that it starts from; None if these have another unit."""
    measure: Measure | None
    """Unit of the method's training, or of the training that it starts from; None without any training."""
    parameters: int | None
    chain: tuple[str, ...]
    hardware: tuple[str, ...]
    """Hardware of all these trainings."""


def cost(training: Mapping[tuple[str, str], TrainingFile], dataset: str, method: str) -> Cost:
    """Training time (mean over seeds, in s) and parameters of a method, summed over the chain of ``after``."""
    first = _own_training(training, dataset, method)
    if first is None:
        return Cost(None, None, None, None, (), ())
    chain: list[str] = []
    hardware: dict[str, None] = {}
    measures: list[Measure] = []
    total = 0.0
    name: str | None = method
    while name is not None and name not in chain:
        chain.append(name)
        file = _own_training(training, dataset, name)
        if file is None:
            total = inf
            break
        if file.runs:
            hardware[file.provenance.hardware] = None
            measure, seconds = _mean_seconds(file)
            measures.append(measure)
            total = total + seconds if len(set(measures)) == 1 else inf
        name = file.after
    return Cost(
        own_s=_mean_seconds(first)[1] if first.runs else 0.0,
        total_s=None if total == inf else total,
        measure=measures[0] if measures else None,
        parameters=first.parameters,
        chain=tuple(chain),
        hardware=tuple(hardware),
    )


def _own_training(training: Mapping[tuple[str, str], TrainingFile], dataset: str, method: str) -> TrainingFile | None:
    """Training record of a method's weights; if they are copied from another data set, the record there."""
    file = training.get((dataset, method))
    return file if file is None or file.same_as is None else training.get((file.same_as, method), file)


def _mean_seconds(file: TrainingFile) -> tuple[Measure, float]:
    """Unit and mean training time over seeds. All seeds have one unit: one command trains them on one machine."""
    spent = [_spent(run) for run in file.runs]
    return spent[0][0], sum(seconds for _, seconds in spent) / len(spent)


def _spent(run: TrainingRun) -> tuple[Measure, float]:
    if run.processor_seconds is not None:
        return "processor s", run.processor_seconds
    if run.gpu_seconds is not None:
        return "GPU s", run.gpu_seconds
    return "wall s × processes", run.seconds * run.processes


def measure_of(costs: Iterable[Cost]) -> Measure | None:
    """Most frequent unit of some costs (in a tie, the first one); None without any training."""
    counts = Counter(cost.measure for cost in costs if cost.measure is not None)
    return counts.most_common(1)[0][0] if counts else None
