"""Time and memory of our code and of a peer, measured in the same run, and the SpeedFile that the page shows."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from poseboard.benchmarks.provenance import hardware
from poseboard.protocols.records import SpeedFile


def race(ours: Callable[[], object], *theirs: Callable[[], object], rounds: int = 7, calls: int = 1) -> list[float]:
    """Median seconds of ours, then of each peer, timed in turns, so that noise of the machine hits all.

    A turn is one call of each peer, then ``calls`` of ours: if ours takes microseconds, a single call would measure the
    caches that a peer has just emptied.
    """
    seconds: list[list[float]] = [[] for _ in range(1 + len(theirs))]

    def clock(runner: int, function: Callable[[], object], repeats: int) -> None:
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        seconds[runner].append((time.perf_counter() - start) / repeats)

    ours()  # the first call pays for caches and lazy imports
    for _ in range(rounds):
        for runner, function in enumerate(theirs, start=1):
            clock(runner, function, 1)
        clock(0, ours, calls)
    return [float(np.median(times)) for times in seconds]


def record_speed(
    name: str,
    title: str,
    peer: str,
    aim: float | None,
    ours: float,
    theirs: float,
    details: Mapping[str, float],
    kept: bool = True,
) -> None:
    """Write ``<name>.json`` to the folder $POSEBOARD_SPEED. Without that folder a missed aim or limit fails.

    The peer should take at least ``aim`` times as long as ours, and ``kept`` be true.
    """
    ratio = theirs / ours
    file = SpeedFile(
        name=name,
        title=title,
        peer=peer,
        ours_s=ours,
        peer_s=theirs,
        ratio=ratio,
        aim="none" if aim is None else f"at least {aim:g} times as fast",
        met=kept and (aim is None or ratio >= aim),
        details={key: float(value) for key, value in details.items()},
        hardware=f"{hardware()}, {torch.get_num_threads()} torch threads",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if folder := os.environ.get("POSEBOARD_SPEED"):
        file.write(Path(folder) / f"{name}.json")
    else:
        assert file.met, f"{name}: {ratio} times as fast as {peer}, aim {aim}; {file.details}"


def _status_kib(field: str) -> int:
    """A size from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def peak_memory(function: Callable[[], Tensor]) -> tuple[Tensor, float | None]:
    """The result of a call, and the MiB by which memory peaks above what was in use; None if /proc does not show it.

    Call the function once before, so that one-off costs are paid.
    """
    gc.collect()
    try:
        # Freed memory that the process keeps would be used again without counting.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_kib("VmRSS")
    except (OSError, AttributeError, StopIteration):
        return function(), None
    result = function()
    return result, (_status_kib("VmHWM") - before) / 1024


def peak_memory_mb() -> float:
    """Largest resident size of this process so far (getrusage would count the parent as well)."""
    return _status_kib("VmHWM") * 1024 / 1e6


def in_own_process(program: str, *arguments: object) -> dict[str, float]:
    """Run a file as a program and read the JSON that it prints; its peak memory is then its own."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    command = [sys.executable, program, *map(str, arguments)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))
