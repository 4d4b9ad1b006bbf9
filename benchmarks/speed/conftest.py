"""Fixtures of the speed comparisons: measure ours and a peer in turns, and write the SpeedFile that the page shows."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from poseboard.benchmarks.provenance import hardware
from poseboard.protocols.records import SpeedFile

BROKEN = 16
"""Exit status of pytest where a comparison failed before it recorded anything; that of a missed aim is 1."""
_RECORDED, _BROKEN = pytest.StashKey[bool](), pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a comparison that failed before it recorded anything."""
    report = yield
    if report.failed and not item.stash.get(_RECORDED, False):
        item.session.stash[_BROKEN] = True
        if "POSEBOARD_SPEED" in os.environ:  # the stage shows no traceback of aims that are only missed
            print(report.longreprtext, file=sys.stderr)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the speed stage by the exit status."""
    if session.stash.get(_BROKEN, False):
        session.exitstatus = BROKEN


@pytest.fixture(scope="session")
def _started(request: pytest.FixtureRequest) -> Generator[dict[Path, Future[dict[str, float]]]]:
    """The programs of all selected tests that are marked ``own_process``, as many at a time as there are processors."""

    def run(file: Path, arguments: tuple[object, ...]) -> dict[str, float]:
        command = [sys.executable, str(file), *map(str, arguments)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return dict(json.loads(answer.stdout.splitlines()[-1]))

    marked = {item.path: mark for item in request.session.items if (mark := item.get_closest_marker("own_process"))}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield {path: pool.submit(run, path, mark.args) for path, mark in marked.items()}


@pytest.fixture
def own_process(request: pytest.FixtureRequest, _started: dict[Path, Future[dict[str, float]]]) -> dict[str, float]:
    """What the test's file, run as a program with the arguments of the mark ``own_process``, prints as JSON.

    Its memory is its own, and it is in one thread, so that several of them run at a time. Nothing else is measured
    meanwhile.
    """
    wait(_started.values())
    return _started[request.path].result()


class Race(Protocol):
    """Median seconds of ours, then of each peer, measured in turns so that noise of the machine hits all."""

    def __call__(
        self, ours: Callable[[], object], *theirs: Callable[[], object], rounds: int = ..., calls: int = ...
    ) -> list[float]: ...


class RecordSpeed(Protocol):
    """Writes ``<results>/<name>.json``, then asserts that the peer takes at least ``aim`` times as long as ours."""

    def __call__(
        self,
        name: str,
        title: str,
        peer: str,
        aim: float | None,
        ours: float,
        theirs: float,
        details: Mapping[str, float] = ...,
    ) -> SpeedFile: ...


@pytest.fixture
def race(benchmark: BenchmarkFixture) -> Race:
    """Time callables in turns; ours appears in pytest-benchmark's table, the medians of all are returned.

    A turn is one call of each of theirs, then ``calls`` of ours: where ours takes microseconds, one call would measure
    the caches that a peer has just emptied.
    """

    def run(ours: Callable[[], object], *theirs: Callable[[], object], rounds: int = 7, calls: int = 1) -> list[float]:
        seconds: list[list[float]] = [[] for _ in range(1 + len(theirs))]

        def clock(runner: int, function: Callable[[], object]) -> None:
            start = time.perf_counter()
            function()
            seconds[runner].append(time.perf_counter() - start)

        def peers() -> None:
            for runner, function in enumerate(theirs, start=1):
                clock(runner, function)

        def repeat() -> None:
            for _ in range(calls):
                ours()

        ours()  # the first call pays for caches and lazy imports
        benchmark.pedantic(lambda: clock(0, repeat), setup=peers, rounds=rounds, iterations=1)
        mine, *others = (float(np.median(times)) for times in seconds)
        return [mine / calls, *others]

    return run


class PeakMemory(Protocol):
    """A call's answer, and the MiB by which memory peaks above what is held before; None where nothing tells."""

    def __call__(self, function: Callable[[], Tensor]) -> tuple[Tensor, float | None]: ...


@pytest.fixture
def peak_memory() -> PeakMemory:
    """Measure after a first call, whose costs are then paid."""
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
def record_speed(request: pytest.FixtureRequest) -> RecordSpeed:
    """Check a measured ratio against its aim, and write it to the folder $POSEBOARD_SPEED if that is set."""

    def record(
        name: str,
        title: str,
        peer: str,
        aim: float | None,
        ours: float,
        theirs: float,
        details: Mapping[str, float] | None = None,
    ) -> SpeedFile:
        ratio = theirs / ours
        met = aim is None or ratio >= aim
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
        if folder := os.environ.get("POSEBOARD_SPEED"):
            file.write(Path(folder) / f"{name}.json")
        request.node.stash[_RECORDED] = True
        assert met, f"{name}: {ratio} times as fast as {peer}, aim {aim}"
        return file

    return record
