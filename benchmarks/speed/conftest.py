"""Fixtures of the speed comparisons: time ours and a peer in turns, and write the SpeedFile that the page shows."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from threadpoolctl import threadpool_limits
from torch import Tensor

from poseboard.benchmarks.provenance import hardware
from poseboard.protocols.records import SpeedFile


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread for both sides: small linear algebra is slower in several."""
    threads, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)
    cv2.setNumThreads(of_opencv)


class Race(Protocol):
    """Median seconds of ours, then of each peer."""

    def __call__(
        self, ours: Callable[[], object], *theirs: Callable[[], object], rounds: int = ..., calls: int = ...
    ) -> list[float]: ...


@pytest.fixture
def race(benchmark: BenchmarkFixture) -> Race:
    """Time callables in turns, so that noise of the machine hits all; pytest-benchmark's table shows ours.

    A turn is one call of each peer, then ``calls`` of ours: if ours takes microseconds, a single call would measure the
    caches that a peer has just emptied.
    """

    def run(ours: Callable[[], object], *theirs: Callable[[], object], rounds: int = 7, calls: int = 1) -> list[float]:
        seconds: list[list[float]] = [[] for _ in range(1 + len(theirs))]

        def clock(runner: int, function: Callable[[], object], repeats: int = 1) -> None:
            start = time.perf_counter()
            for _ in range(repeats):
                function()
            seconds[runner].append((time.perf_counter() - start) / repeats)

        def peers() -> None:
            for runner, function in enumerate(theirs, start=1):
                clock(runner, function)

        ours()  # the first call pays for caches and lazy imports
        benchmark.pedantic(lambda: clock(0, ours, calls), setup=peers, rounds=rounds, iterations=1)
        return [float(np.median(times)) for times in seconds]

    return run


class RecordSpeed(Protocol):
    """Write ``<name>.json``; the peer should take at least ``aim`` times as long as ours, and ``kept`` be true."""

    def __call__(
        self,
        name: str,
        title: str,
        peer: str,
        aim: float | None,
        ours: float,
        theirs: float,
        details: Mapping[str, float] = ...,
        kept: bool = ...,
    ) -> None: ...


@pytest.fixture
def record_speed() -> RecordSpeed:
    """Write a ratio to the folder $POSEBOARD_SPEED. Without that folder an aim or a limit that is missed fails."""

    def record(
        name: str,
        title: str,
        peer: str,
        aim: float | None,
        ours: float,
        theirs: float,
        details: Mapping[str, float] | None = None,
        kept: bool = True,
    ) -> None:
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
            details={key: float(value) for key, value in (details or {}).items()},
            hardware=f"{hardware()}, {torch.get_num_threads()} torch threads",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if folder := os.environ.get("POSEBOARD_SPEED"):
            file.write(Path(folder) / f"{name}.json")
        else:
            assert file.met, f"{name}: {ratio} times as fast as {peer}, aim {aim}; {file.details}"

    return record


class PeakMemory(Protocol):
    """The result of a call, and the MiB by which memory peaks above what was in use; None if /proc does not show it."""

    def __call__(self, function: Callable[[], Tensor]) -> tuple[Tensor, float | None]: ...


@pytest.fixture
def peak_memory() -> PeakMemory:
    """Measure one call; call the function once before, so that one-off costs are paid."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def mib(field: str) -> float:
        return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith(field))

    def measure(function: Callable[[], Tensor]) -> tuple[Tensor, float | None]:
        gc.collect()
        try:
            # Freed memory that the process keeps would be used again without counting.
            ctypes.CDLL(None).malloc_trim(0)
            reset.write_text("5")
            before = mib("VmRSS")
        except (OSError, AttributeError, StopIteration):
            return function(), None
        result = function()
        return result, mib("VmHWM") - before

    return measure


@pytest.fixture
def own_process(request: pytest.FixtureRequest) -> Callable[..., dict[str, float]]:
    """Run the test's file as a program with some arguments and read the JSON that it prints; its memory is its own."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")

    def run(*arguments: object) -> dict[str, float]:
        command = [sys.executable, str(request.path), *map(str, arguments)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return dict(json.loads(printed.splitlines()[-1]))

    return run
