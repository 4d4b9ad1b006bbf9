"""Fixtures of the speed comparisons: time our code and a reference in turns, and write the SpeedFile of the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from poseboard.benchmarks.provenance import hardware
from poseboard.benchmarks.speed.process import one_thread, with_peak_memory
from poseboard.protocols.records import SpeedFile


@pytest.fixture(name="one_thread")
def in_one_thread() -> Iterator[None]:
    """Run both sides in one thread, because small linear algebra is slower with several threads."""
    with one_thread():
        yield


class Race(Protocol):
    """Median seconds of our code, then of each reference."""

    def __call__(
        self, ours: Callable[[], object], *theirs: Callable[[], object], rounds: int = ..., calls: int = ...
    ) -> list[float]: ...


@pytest.fixture
def race(benchmark: BenchmarkFixture) -> Race:
    """Time callables in turns, so that noise of the machine affects all; pytest-benchmark's table shows our time.

    In a turn, each reference is called once and our code ``calls`` times. If our code takes microseconds, a single call
    would measure the caches that a reference has just emptied.
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
    """Write ``<name>.json``; the reference should be at least ``aim`` times slower, and ``kept`` should be true."""

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
    """Write a ratio to the folder $POSEBOARD_SPEED; without this variable, a missed aim or limit fails the test."""

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
    """Result of a call, and its peak memory in MiB above the memory in use before; None: not measured."""

    def __call__(self, function: Callable[[], Tensor]) -> tuple[Tensor, float | None]: ...


@pytest.fixture
def peak_memory() -> PeakMemory:
    """Measure the peak memory of a call (`with_peak_memory`)."""
    return with_peak_memory


@pytest.fixture
def own_process(request: pytest.FixtureRequest) -> Callable[..., dict[str, float]]:
    """Run the test's file as a separate process to measure its memory, and read the JSON that it prints."""
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")

    def run(*arguments: object) -> dict[str, float]:
        command = [sys.executable, str(request.path), *map(str, arguments)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return dict(json.loads(printed.splitlines()[-1]))

    return run
