"""Prediction by several processes: each predicts a share of the samples, and the first gathers the answers.

A method is asked for the same samples together as in one process, so that its answers are the same to the bit. The
processes are those of torchrun or SLURM, among which it is settled before who predicts what. Else they are as many as
the command names: forks of it, which take what is left, or, with GPUs and where nothing is forked, launched ones. The
first process alone reads and writes results and tells its progress.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from poseboard.benchmarks.locks import is_first_process
from poseboard.datasets.errors import InputError
from poseboard.datasets.forks import Task, can_fork, forked

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from poseboard.benchmarks.handover import Progress

AnswerT = TypeVar("AnswerT")
ValueT = TypeVar("ValueT")
Chunks = Sequence[Sequence[str]]
"""Keys of the samples that are predicted together."""

RUNS = 12
"""Pieces of equal cost per process, into which what is predicted is divided at least: so no process is left with much
more than another, and few models have to be loaded by two."""
LONGEST = 512
"""About how many samples a fork takes at once at most: where there are many, progress would otherwise stand still."""


@dataclass(frozen=True, eq=False)
class Work(Generic[AnswerT]):
    """What one model predicts.

    Args:
        chunks: of the samples.
        predict: the answers of some of the chunks by key, with its progress; called once at most in a process, but for
            forks, which call it per piece.
        views: of a sample.
    """

    chunks: Chunks
    predict: Callable[[Chunks, Progress], Mapping[str, AnswerT]]
    views: int = 1


class Piece(NamedTuple):
    """Chunks of one work that are predicted together."""

    cost: float
    work: int
    chunks: list[int]


def pieces(costs: Sequence[Sequence[float]], most: float) -> list[Piece]:
    """What is predicted together, the most costly first.

    A work is one piece unless it costs more than ``most``; then pieces of similar cost, one chunk at least.

    Args:
        costs: of the chunks of each work, above 0.
        most: that a piece should cost.

    Example:
        >>> [piece.chunks for piece in pieces([[2.0, 2.0, 2.0, 1.0], [3.0]], most=4)]
        [[0, 1], [2, 3], [0]]
    """
    found: list[Piece] = []
    for work, of_work in enumerate(costs):
        whole = sum(of_work)
        count = min(len(of_work), math.ceil(whole / most))
        places: list[list[int]] = [[] for _ in range(count)]
        for place, (cost, until) in enumerate(zip(of_work, accumulate(of_work), strict=True)):
            places[int((until - cost / 2) / whole * count)].append(place)
        found += [Piece(sum(of_work[place] for place in run), work, run) for run in places if run]
    return sorted(found, key=lambda piece: -piece.cost)


def shares(costs: Sequence[Sequence[float]], processes: int) -> list[dict[int, list[int]]]:
    """Who predicts what: for each process, the places of works and of their chunks, in order.

    The largest pieces are given away first, each to the process that has least to do.

    Args:
        costs: of the chunks of each work, above 0.
        processes: how many there are.

    Example:
        >>> shares([[4.0], [1.0], [2.0], [1.0]], 2)
        [{0: [0]}, {1: [0], 2: [0], 3: [0]}]
        >>> shares([[2.0, 2.0, 2.0, 1.0]], 2)
        [{0: [0, 2]}, {0: [1, 3]}]
    """
    load = [0.0] * processes
    given: list[dict[int, list[int]]] = [{} for _ in range(processes)]
    for cost, work, run in pieces(costs, sum(map(sum, costs)) / (RUNS * processes)):
        least = load.index(min(load))
        load[least] += cost
        given[least].setdefault(work, []).extend(run)
    return [{work: sorted(own[work]) for work in sorted(own)} for own in given]


class Sharing:
    """The processes of one command.

    Args:
        processes: of the command, but under torchrun and SLURM, whose processes are used.
        device: torch device that is predicted on, cpu or cuda.
        fabric: the processes of a training, in place of those.
        forks: as many where the other processes are forks; None: `processes`.

    Example:
        >>> work = Work([["S9/a", "S9/b"]], lambda chunks, progress: {key: 0 for chunk in chunks for key in chunk})
        >>> Sharing(processes=2).answers([work])
        [{'S9/a': 0, 'S9/b': 0}]
    """

    def __init__(
        self, processes: int, device: str = "cpu", fabric: Fabric | None = None, forks: int | None = None
    ) -> None:
        self._processes = processes if fabric is None else fabric.world_size
        self._device, self._launched = device.partition(":")[0], fabric
        can = fabric is None and self._device == "cpu" and can_fork() and not launched_together()
        self._forks = (forks or processes) if can else None

    @cached_property
    def _fabric(self) -> Fabric:
        if self._launched is not None:
            return self._launched
        import torch

        from poseboard.methods.loop import launch

        most = torch.cuda.device_count() if self._device == "cuda" else self._processes
        fabric = launch(min(self._processes, most), self._device)
        torch.use_deterministic_algorithms(False)  # as in one process: it is for trainings
        return fabric

    @property
    def _several(self) -> bool:
        """Whether this process is one of several from the beginning of the command to its end."""
        return launched_together() or (self._processes > 1 and self._forks is None)

    def answers(
        self, works: Sequence[Work[AnswerT]], progress: Progress | None = None
    ) -> list[dict[str, AnswerT]] | None:
        """The answers of each work, in the first process; None in the others.

        Args:
            works: what is predicted; a single chunk is left to the first process.
            progress: called with (samples done, samples in all), of launched processes those of this one's share.

        Raises:
            InputError: a prediction failed in another process, or one of them was killed.
        """
        whole = {place: list(range(len(work.chunks))) for place, work in enumerate(works)}
        several = sum(map(len, whole.values())) > 1
        if several and self._forks is not None and self._forks > 1:
            return _together(works, self._of_forks(works, progress, self._forks))
        if not (several and self._several):
            return _together(works, [_predicted(works, whole, progress)]) if is_first_process() else None
        import torch.distributed as dist

        fabric = self._fabric
        if fabric.world_size == 1:
            return _together(works, [_predicted(works, whole, progress)])
        own_share = shares(_costs(works), fabric.world_size)[fabric.global_rank]
        failure: Exception | None = None
        own: dict[int, Mapping[str, AnswerT]] | str = {}
        try:
            own = _predicted(works, own_share, progress)
        except Exception as error:  # raised again below: the others wait for an answer
            failure, own = error, " ".join(str(error).split())
        parts: list[dict[int, Mapping[str, AnswerT]] | str | None] | None = None
        if fabric.is_global_zero:
            parts = [None] * fabric.world_size
        try:
            dist.gather_object(own, parts)
        except RuntimeError as error:
            if failure is not None:
                raise failure from None
            if not fabric.is_global_zero:
                raise SystemExit(2) from None  # the first process says so, unless it was killed
            raise InputError(
                "prediction in several processes",
                "one of them ended",
                "run it again; files of earlier predictions are as they were",
            ) from error
        if parts is None:
            if failure is not None:
                raise SystemExit(2)  # the first process says why
            return None
        if failure is not None:
            raise failure
        told = next((part for part in parts if isinstance(part, str)), None)
        if told is not None:
            raise InputError("prediction in several processes", told, "see the row with one process")
        return _together(works, [part for part in parts if isinstance(part, dict)])

    def each(self, tasks: Sequence[Task[ValueT]]) -> Iterator[ValueT]:
        """What each of several independent tasks returns, in order; called in the first process alone.

        Raises:
            InputError: a process was killed.
            Exception: the first one that a task raises.
        """
        return forked(tasks, self._forks or 1)

    def _of_forks(
        self, works: Sequence[Work[AnswerT]], progress: Progress | None, forks: int
    ) -> Iterator[Mapping[int, Mapping[str, AnswerT]]]:
        """Answers by the place of the work, a piece at a time."""
        costs, total = _costs(works), sum(len(chunk) for work in works for chunk in work.chunks)
        most = sum(map(sum, costs)) * min(1 / (RUNS * forks), LONGEST / total)
        apart = [{piece.work: piece.chunks} for piece in pieces(costs, most)]
        tasks = [partial(_predicted, works, piece, None) for piece in apart]
        done = 0
        for answers in self.each(tasks):
            done += sum(map(len, answers.values()))
            if progress is not None:
                progress(done, total)
            yield answers

    def of_first(self, value: ValueT) -> ValueT:
        """What the first process holds, in all of them."""
        if not self._several:
            return value
        try:
            return self._fabric.broadcast(value)
        except RuntimeError:
            if is_first_process():
                raise
            raise SystemExit(2) from None  # the first process says why it ended


def _costs(works: Sequence[Work[AnswerT]]) -> list[list[float]]:
    """Of the chunks of each work: of a sample its views, and as much again as the mean sample has.

    What a sample costs beside its views is nothing for one row and most of it for another.
    """
    samples = [[len(chunk) for chunk in work.chunks] for work in works]
    views = sum(sum(of_work) * work.views for of_work, work in zip(samples, works, strict=True))
    mean = views / max(sum(map(sum, samples)), 1)
    return [[count * (work.views + mean) for count in of_work] for of_work, work in zip(samples, works, strict=True)]


def _predicted(
    works: Sequence[Work[AnswerT]], share: Mapping[int, Sequence[int]], progress: Progress | None
) -> dict[int, Mapping[str, AnswerT]]:
    """The answers to a share of the chunks, by the place of the work."""
    found: dict[int, Mapping[str, AnswerT]] = {}
    counts = {place: sum(len(works[place].chunks[chunk]) for chunk in chunks) for place, chunks in share.items()}
    done, total = 0, sum(counts.values())
    for place, chunks in share.items():
        report = partial(_further, progress, done, total)
        found[place] = works[place].predict([works[place].chunks[chunk] for chunk in chunks], report)
        done += counts[place]
    return found


def _further(progress: Progress | None, before: int, total: int, done: int, _: int) -> None:
    if progress is not None:
        progress(before + done, total)


def _together(
    works: Sequence[Work[AnswerT]], parts: Iterable[Mapping[int, Mapping[str, AnswerT]]]
) -> list[dict[str, AnswerT]]:
    together: list[dict[str, AnswerT]] = [{} for _ in works]
    for part in parts:
        for place, answers in part.items():
            together[place] |= answers
    return together


def launched_together() -> bool:
    """Whether torchrun or SLURM launched this process together with others."""
    return any(int(os.environ.get(count, "1") or 1) > 1 for count in ("WORLD_SIZE", "SLURM_NTASKS"))
