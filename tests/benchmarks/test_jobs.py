"""Jobs: the same results in the same order however they are run, and no process that outlives what goes wrong."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import dask
import psutil
import pytest
import torch
from distributed import LocalCluster
from joblib.externals.loky import get_reusable_executor

from poseboard.benchmarks import harness
from poseboard.benchmarks.jobs import end_with, run_jobs, workers
from poseboard.datasets.errors import InputError

PREDICTIONS = "results/smoke/predictions/algebraic/human36m"


@pytest.fixture(scope="module", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


def threads(place: int) -> tuple[int, int, int]:
    time.sleep(0.05)
    return os.getpid(), torch.get_num_threads(), cv2.getNumThreads()


def test_workers_compute_in_one_thread() -> None:
    with workers(2):
        results = list(run_jobs(threads, range(8)))
    processes = {process for process, _, _ in results}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert {(torch_threads, cv_threads) for _, torch_threads, cv_threads in results} == {(1, 1)}


@pytest.mark.parametrize(("processes", "jobs"), [(1, 3), (2, 1)])
def test_one_process_or_one_job_starts_no_other(processes: int, jobs: int) -> None:
    with workers(processes):
        assert {process for process, _, _ in run_jobs(threads, range(jobs))} == {os.getpid()}


class OddError(Exception):
    """Can be written, not read."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} is odd")


ERRORS = {"input": InputError("methods.mine", "cannot", "do otherwise"), "key": KeyError("hip"), "odd": OddError(1, 2)}


def fail(name: str) -> None:
    ERRORS[name].add_note("on S9/Walking-1/000123")
    raise ERRORS[name]


@pytest.mark.parametrize(
    ("name", "kind", "processes"),
    [
        ("input", InputError, 1),
        ("key", KeyError, 1),
        ("odd", RuntimeError, 1),
        ("input", InputError, 2),
        ("odd", RuntimeError, 2),
    ],
)
def test_an_error_is_raised_with_its_note(name: str, kind: type[Exception], processes: int) -> None:
    with workers(processes), pytest.raises(kind) as raised:
        list(run_jobs(fail, [name, name]))
    assert "on S9/Walking-1/000123" in raised.value.__notes__
    assert str(ERRORS[name]) in str(raised.value)


def kill_or_wait(place: int) -> None:
    if place == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def test_a_killed_worker_is_an_input_error_and_the_next_run_works() -> None:
    with pytest.raises(InputError, match="worker process: was killed; run the same command again"), workers(2):
        list(run_jobs(kill_or_wait, [1, 0]))
    with workers(2):
        assert list(run_jobs(abs, [-1, -2])) == [1, 2]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(number: int, tmp_path: Path) -> None:
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import pathlib, sys, time; from poseboard.benchmarks.jobs import run_jobs, workers\n"
        "def wait(path): pathlib.Path(path).touch(); time.sleep(600)\n"
        "with workers(2): list(run_jobs(wait, sys.argv[1:]))"
    )
    begun = [tmp_path / "first", tmp_path / "second"]
    with subprocess.Popen([sys.executable, "-c", program, *begun], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        while not all(path.exists() for path in begun) and time.monotonic() < deadline:
            time.sleep(0.05)
        parent = psutil.Process(process.pid)
        children = parent.children()  # the workers, and what tracks their semaphores
        for one in [*children, parent] if number == signal.SIGINT else [parent]:
            one.send_signal(number)
        assert process.wait(300) != 0
        assert process.stderr is not None
        assert process.stderr.read().count("Traceback") <= 1
    assert len(children) > 2
    assert psutil.wait_procs(children, timeout=300)[1] == []


def test_a_stage_ends_with_its_run() -> None:
    def stage() -> None:
        end_with(run.pid)
        time.sleep(60)

    fork = multiprocessing.get_context("fork")
    run = subprocess.Popen(["sleep", "60"])
    during, after = fork.Process(target=stage), fork.Process(target=stage)
    during.start()
    time.sleep(0.2)
    assert during.is_alive()
    run.kill()
    run.wait()
    after.start()
    for process in (during, after):
        process.join(30)
        assert process.exitcode == -signal.SIGKILL


def test_a_cluster_runs_the_same_jobs(cluster: LocalCluster) -> None:
    with workers(1, cluster.scheduler_address):
        results = list(run_jobs(threads, range(12)))
    assert len({process for process, _, _ in results} - {os.getpid()}) == 3
    assert {torch_threads for _, torch_threads, _ in results} == {1}


def die_once(job: tuple[str, int]) -> int:
    """Kill the worker, unless an earlier one has left the file."""
    mark, number = job
    if number == 4 and not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return number * number


def test_jobs_of_a_killed_worker_run_on_another_one(cluster: LocalCluster, tmp_path: Path) -> None:
    with workers(1, cluster.scheduler_address):
        results = list(run_jobs(die_once, [(str(tmp_path / "killed"), number) for number in range(12)]))
    assert (tmp_path / "killed").exists()
    assert results == [number * number for number in range(12)]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere"])
def test_a_cluster_that_is_not_there_is_an_input_error(address: str) -> None:

    with (
        dask.config.set({"distributed.comm.timeouts.connect": 1}),
        pytest.raises(InputError, match=f"cluster {address}: cannot be reached"),
        workers(1, address),
    ):
        pass


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / PREDICTIONS).rglob("*") if path.is_file()}


def remove_predictions(folder: Path) -> None:
    for path in (folder / PREDICTIONS).glob("*.parquet"):
        path.unlink()


def test_workers_and_a_cluster_write_the_same_bytes_as_one_process(
    workspace: Any, cluster: LocalCluster, only_tables: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    only_tables("T1", "human36m-cameras")
    monkeypatch.setattr(harness, "PIECE", 2)
    workspace.must("train", "human36m", "algebraic")
    alone = workspace.must("predict", "human36m", "algebraic")
    files = written(workspace.folder)
    assert any(name.endswith(".parquet") for name in files)

    params = (workspace.folder / "params.yaml").read_text()
    remove_predictions(workspace.folder)
    (workspace.folder / "params.yaml").write_text(params.replace("processes: 1", "processes: 2"))
    assert workspace.must("predict", "human36m", "algebraic").out == alone.out
    assert written(workspace.folder) == files

    remove_predictions(workspace.folder)
    (workspace.folder / "params.yaml").write_text(f"{params}\ncluster: {cluster.scheduler_address}\n")
    assert workspace.must("predict", "human36m", "algebraic").out == alone.out
    assert written(workspace.folder) == files
