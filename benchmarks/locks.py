"""Locks against two commands that write the same files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from poseboard.datasets.errors import InputError

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
