"""Prediction by several processes: each predicts a share of the samples, and the first gathers the answers.

A method is asked for the same samples together as in one process, so that its answers are the same to the bit. Each
process takes the next piece of the work when it is done with one. The processes are those of torchrun or SLURM. Else
they are as many as the command names: forks of it, or, with GPUs and where nothing is forked, launched ones. The first
process alone reads and writes results and tells the progress.
"""

from __future__ import annotations

import atexit
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from itertools import accumulate, count, takewhile
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, cast

from poseboard.benchmarks.locks import is_first_process
from poseboard.datasets.errors import InputError
from poseboard.datasets.forks import Task, can_fork, forked

if TYPE_CHECKING:
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
        predict: the answers of some of the chunks by key, with its progress; called for each piece apart.
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


class Sharing:
    """The processes of one command.

    Args:
        processes: of the command, but under torchrun and SLURM, whose processes are used.
        device: torch device that is predicted on, cpu or cuda.
        forks: as many where the other processes are forks; None: `processes`.
        joined: whether so many processes are in one process group already, as those of a training are.

    Example:
        >>> work = Work([["S9/a", "S9/b"]], lambda chunks, progress: {key: 0 for chunk in chunks for key in chunk})
        >>> Sharing(processes=2).answers([work])
        [{'S9/a': 0, 'S9/b': 0}]
    """

    def __init__(self, processes: int, device: str = "cpu", *, forks: int | None = None, joined: bool = False) -> None:
        self._processes, self._device, self._joined = processes, device.partition(":")[0], joined
        can = not joined and self._device == "cpu" and can_fork() and not launched_together()
        self._forks = (forks or processes) if can else None

    @cached_property
    def _group(self) -> int:
        """The processes of the group, which is joined here unless a training did."""
        import torch.distributed as dist

        if not (self._joined or dist.is_initialized()):
            _join(self._processes, self._device)
        return dist.get_world_size() if dist.is_initialized() else 1

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
            progress: called with (samples done, samples in all).

        Raises:
            InputError: a prediction failed in another process, or one of them was killed.
        """
        whole = _whole(works)
        several = sum(map(len, whole.values())) > 1
        if several and self._forks is not None and self._forks > 1:
            return _together(works, self._of_forks(works, progress, self._forks))
        if not (several and self._several):
            return _together(works, [_predicted(works, whole, progress)]) if is_first_process() else None
        import torch.distributed as dist

        processes = self._group
        if processes == 1:
            return _together(works, [_predicted(works, whole, progress)])
        failure: Exception | None = None
        own: dict[int, dict[str, AnswerT]] | str = {}
        try:
            own = _drawn(works, _apart(works, processes), _draws(), progress)
        except Exception as error:  # raised again below: the others wait for an answer
            failure, own = error, " ".join(str(error).split())
        parts: list[dict[int, dict[str, AnswerT]] | str | None] | None = None
        if dist.get_rank() == 0:
            parts = [None] * processes
        try:
            with _all_there():
                dist.gather_object(own, parts)
        except InputError:
            if failure is not None:
                raise failure from None
            raise
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
        tasks = [partial(_predicted, works, piece, None) for piece in _apart(works, forks, LONGEST)]
        total, done = _samples(works), 0
        for answers in self.each(tasks):
            done += sum(map(len, answers.values()))
            if progress is not None:
                progress(done, total)
            yield answers

    def of_first(self, value: ValueT) -> ValueT:
        """What the first process holds, in all of them."""
        if not self._several:
            return value
        import torch.distributed as dist

        held = [value]
        try:
            if self._group > 1:
                dist.broadcast_object_list(held)
        except RuntimeError:
            if is_first_process():
                raise
            raise SystemExit(2) from None  # the first process says why it ended
        return held[0]


def _join(processes: int, device: str) -> None:
    import torch

    if device == "cpu" and torch.distributed.is_torchelastic_launched():
        # What a training joins by takes one and a half seconds to import.
        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
        atexit.register(torch.distributed.destroy_process_group)  # its threads must not outlive the interpreter
        return
    from poseboard.methods.loop import launch

    launch(min(processes, torch.cuda.device_count()) if device == "cuda" else processes, device)
    torch.use_deterministic_algorithms(False)  # as in one process: it is for trainings


_PATIENCE = timedelta(days=1)
"""With a process that is not done; one that ends is noticed at once."""
_SHARED = count()
"""Calls that several processes have shared so far, the same number in all of them."""


@contextmanager
def _all_there() -> Iterator[None]:
    """Where another process ended, the first one raises an InputError; the others end, for nobody else to say it."""
    try:
        yield
    except RuntimeError as error:
        if not is_first_process():
            raise SystemExit(2) from None
        remedy = "run it again; files of earlier predictions are as they were"
        raise InputError("prediction in several processes", "one of them ended", remedy) from error


def _draws() -> Iterator[int]:
    """Numbers from 0 on, of which each of several processes gets the next that none has had."""
    import torch.distributed as dist

    name = f"poseboard-{next(_SHARED)}"
    while True:
        with _all_there():
            number = cast("dist.ProcessGroup", dist.group.WORLD).get_group_store().add(name, 1) - 1
        yield number


def _drawn(
    works: Sequence[Work[AnswerT]],
    apart: Sequence[Mapping[int, Sequence[int]]],
    draws: Iterable[int],
    progress: Progress | None,
) -> dict[int, dict[str, AnswerT]]:
    """Answers by the place of the work, of the pieces whose numbers one of several processes draws."""
    own: dict[int, dict[str, AnswerT]] = {}
    total = _samples(works)
    before = [0, *accumulate(_samples(works, piece) for piece in apart)]
    for number in takewhile(lambda drawn: drawn < len(apart), draws):
        for work, answers in _predicted(
            works, apart[number], partial(_further, progress, before[number], total)
        ).items():
            own.setdefault(work, {}).update(answers)
    return own


def _whole(works: Sequence[Work[AnswerT]]) -> dict[int, Sequence[int]]:
    """All chunks, by the place of the work."""
    return {place: range(len(work.chunks)) for place, work in enumerate(works)}


def _samples(works: Sequence[Work[AnswerT]], chunks: Mapping[int, Sequence[int]] | None = None) -> int:
    """How many samples there are in some chunks, or in all."""
    of_works = (_whole(works) if chunks is None else chunks).items()
    return sum(len(works[place].chunks[chunk]) for place, of_work in of_works for chunk in of_work)


def _apart(works: Sequence[Work[AnswerT]], processes: int, longest: float = math.inf) -> list[dict[int, list[int]]]:
    """Works and their chunks by place, as processes take them one after the other; ``longest``: samples at most."""
    costs = _costs(works)
    most = sum(map(sum, costs)) * min(1 / (RUNS * processes), longest / _samples(works))
    return [{piece.work: piece.chunks} for piece in pieces(costs, most)]


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
