"""Fixtures of the speed comparisons: measure ours and a peer in turns, and write the SpeedFile that the page shows."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from poseboard.benchmarks.provenance import hardware
from poseboard.protocols.scores import SpeedFile

ROOT = Path(__file__).resolve().parents[2]


class Race(Protocol):
    """Median seconds of ours and of the peer, measured in turns so that noise of the machine hits both."""

    def __call__(
        self, ours: Callable[[], object], theirs: Callable[[], object] | None, rounds: int = ..., calls: int = ...
    ) -> tuple[float, float | None]: ...


class RecordSpeed(Protocol):
    """Writes ``<results>/<name>.json``, then asserts that the peer takes at least ``aim`` times as long as ours."""

    def __call__(
        self,
        name: str,
        title: str,
        peer: str,
        aim: float | None,
        ours: float,
        theirs: float | None,
        details: Mapping[str, float] = ...,
    ) -> SpeedFile: ...


@pytest.fixture
def race(benchmark: BenchmarkFixture) -> Race:
    """Time two callables in turns; ours appears in pytest-benchmark's table, both medians are returned.

    A turn is one call of theirs, then ``calls`` of ours: where ours takes microseconds, one call would measure the
    caches that the peer has just emptied.
    """

    def run(
        ours: Callable[[], object], theirs: Callable[[], object] | None, rounds: int = 7, calls: int = 1
    ) -> tuple[float, float | None]:
        mine: list[float] = []
        peer: list[float] = []

        def clock(function: Callable[[], object], seconds: list[float]) -> None:
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)

        ours()  # the first call pays for caches and lazy imports
        turn = (lambda: clock(theirs, peer)) if theirs is not None else None

        def repeat() -> None:
            for _ in range(calls):
                ours()

        benchmark.pedantic(lambda: clock(repeat, mine), setup=turn, rounds=rounds, iterations=1)
        return float(np.median(mine)) / calls, float(np.median(peer)) if peer else None

    return run


class PeakMemory(Protocol):
    """A call's answer, and the MiB by which memory peaks above what is held before; None where nothing tells."""

    def __call__(self, function: Callable[[], Tensor]) -> tuple[Tensor, float | None]: ...


@pytest.fixture
def peak_memory() -> PeakMemory:
    """Measure after the race, when the first call's costs have been paid."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def mib(field: str) -> float:
        return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith(field))

    def measure(function: Callable[[], Tensor]) -> tuple[Tensor, float | None]:
        gc.collect()
        try:
            # What earlier calls freed would be used again without counting.
            ctypes.CDLL(None).malloc_trim(0)
            reset.write_text("5")
            before = mib("VmRSS")
        except (OSError, AttributeError, StopIteration):
            return function(), None
        answer = function()
        return answer, mib("VmHWM") - before

    return measure


@pytest.fixture
def record_speed() -> RecordSpeed:
    """Record a measured ratio. Folder: $POSEBOARD_SPEED, else results/speed of the repository."""

    def record(
        name: str,
        title: str,
        peer: str,
        aim: float | None,
        ours: float,
        theirs: float | None,
        details: Mapping[str, float] | None = None,
    ) -> SpeedFile:
        ratio = None if theirs is None else theirs / ours
        met = aim is None or (ratio is not None and ratio >= aim)
        file = SpeedFile(
            name=name,
            title=title,
            peer=peer,
            ours_s=ours,
            peer_s=theirs,
            ratio=ratio,
            aim="none" if aim is None else f"at least {aim:g} times as fast",
            met=met,
            details={key: float(value) for key, value in (details or {}).items()},
            hardware=f"{hardware()}, {torch.get_num_threads()} torch threads",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        file.write(Path(os.environ.get("POSEBOARD_SPEED", ROOT / "results" / "speed")) / f"{name}.json")
        assert met, f"{name}: {ratio} times as fast as {peer}, aim {aim}"
        return file

    return record
