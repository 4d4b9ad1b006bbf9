"""Commands that run in several processes: locks on the files they write, and their progress on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import filelock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from poseboard.datasets.errors import InputError

Report = Callable[..., None]
"""Called with (done, total) and, from a training, the losses of the step."""

_LINE_EVERY_S = 10.0


@contextmanager
def progress(title: str) -> Iterator[Report]:
    """Show a bar on a terminal, or a line every ten seconds in a file or pipe; only in the first process."""
    if not is_first_process():
        yield lambda done, total, values=None: None
        return
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(
            *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=Console(stderr=True)
        ) as bar:
            task = bar.add_task(title, total=None, note="")

            def move(done: int, total: int, values: Mapping[str, float] | None = None) -> None:
                bar.update(task, completed=done, total=total, note=_note(values))

            yield move
        return
    last = time.monotonic()
    began: tuple[float, int, int] | None = None

    def line(done: int, total: int, values: Mapping[str, float] | None = None) -> None:
        nonlocal began, last
        now = time.monotonic()
        # Count from the first report of a phase: the steps before a resumed training cost nothing now.
        if began is None or total != began[2] or done < began[1]:
            began = (now, done, total)
        if now - last < _LINE_EVERY_S:
            return
        last = now
        left = (now - began[0]) / max(done - began[1], 1) * (total - done)
        print(f"{title}: {done}/{total}, {left:.0f} s left {_note(values)}".rstrip(), file=sys.stderr, flush=True)

    yield line


def _note(values: Mapping[str, float] | None) -> str:
    return "" if not values else " ".join(f"{name} {value:.4g}" for name, value in values.items())


_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


def is_first_process() -> bool:
    """Whether this process is the first of those that torchrun or SLURM launched together, or the only one."""
    return all(os.environ.get(rank, "").strip() in ("", "0") for rank in _RANKS)


@contextmanager
def only_writer(path: Path, doing: str, *, group: bool = False) -> Iterator[None]:
    """Hold a lock file during the block.

    Args:
        path: of the lock.
        doing: the work of the block, for the error.
        group: whether processes that were launched together share the work. Their first one holds the lock for all.

    Raises:
        InputError: another process holds the lock.
    """
    if group and not is_first_process():
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(path, timeout=0):
            yield
    except filelock.Timeout:
        raise InputError(path, f"another process is {doing}", "wait for it or stop it") from None
