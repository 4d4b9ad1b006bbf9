"""Work in several processes: independent jobs, locks on files, progress on stderr.

joblib runs the jobs in this process, in processes of this machine, or on a Dask cluster. A job is a picklable argument
of a function that all jobs of a call share. Jobs and their results do not depend on the number of workers, so each
backend gives the same bytes. `workers` chooses the backend for a whole command, and for
`datasets.synthetic.generation`, which calls joblib directly.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import filelock
from joblib import Parallel, delayed, parallel_config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from poseboard.datasets.errors import InputError

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")

_PDEATHSIG = 1


@contextmanager
def workers(processes: int, cluster: str | None = None) -> Iterator[None]:
    """Run the jobs of the block in worker processes, one thread each.

    Args:
        processes: number of processes on this machine, at most one per GPU; 1: jobs run in this process.
        cluster: address of a Dask scheduler, whose workers run the jobs instead. They need the same checkout, data and
            results under the same paths. None: this machine runs the jobs.

    Raises:
        InputError: the cluster cannot be reached, or a worker was killed.

    Example:
        >>> with workers(processes=2):
        ...     list(run_jobs(abs, [-3, -4]))
        [3, 4]
    """
    with ExitStack() as stack:
        if cluster is not None:
            stack.enter_context(parallel_config("dask", client=stack.enter_context(_dask_client(cluster))))
        elif (count := min(processes, _gpus() or processes)) > 1:
            # Loky replaces a worker whose memory grows by 300 MB, which a network's does. No job is lost.
            warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor")
            warnings.filterwarnings("ignore", ".*tasks which were still being processed by the workers")  # an error's
            stack.enter_context(
                parallel_config("loky", n_jobs=count, inner_max_num_threads=1, initializer=_set_up_worker)
            )
        try:
            yield
        except BrokenProcessPool:
            remedy = "run the same command again, with fewer `processes` if memory is short"
            raise InputError("a worker process", "was killed", remedy) from None


def run_jobs(function: Callable[[JobT], ResultT], jobs: Sequence[JobT]) -> Iterator[ResultT]:
    """Run jobs, and yield their results in order as soon as they are finished.

    Raises:
        Exception: the first error of a job. Further jobs are dropped.

    Example:
        >>> list(run_jobs(abs, [-3, -4]))
        [3, 4]
    """
    parallel = Parallel(n_jobs=1 if len(jobs) < 2 else None, return_as="generator", batch_size=1, max_nbytes=None)
    # A tuple: joblib moves other large arguments to single Dask workers, where they are lost if that worker is killed.
    yield from parallel(delayed(_run)((function, job)) for job in jobs)


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends, even by SIGKILL. Has an effect on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)


def end_with(process: int) -> None:
    """Kill this process as soon as another process ends, which need not be its parent. Has an effect on Linux only.

    Example:
        >>> end_with(os.getppid())
    """
    if not hasattr(os, "pidfd_open"):
        return
    try:
        ended = os.pidfd_open(process)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)

    def wait() -> None:
        select.select([ended], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def worker_number() -> int | None:
    """Index of this worker process, which selects its GPU; None in the main process and on a cluster."""
    name, _, number = multiprocessing.current_process().name.partition("-")
    return int(number) if name == "LokyProcess" and number.isdecimal() else None


def use_one_thread() -> None:
    """Limit PyTorch to one CPU thread, so that results do not depend on the number of cores or workers."""
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(1)


def _gpus() -> int:
    """Number of GPUs of this machine; 0 if the command does not use PyTorch."""
    torch = sys.modules.get("torch")
    return 0 if torch is None else int(torch.cuda.device_count())


@contextmanager
def _dask_client(address: str) -> Iterator[object]:
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise InputError(f"cluster {address}", "Dask is not installed", "pip install 'poseboard[cluster]'") from None
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        remedy = "start `dask scheduler` and workers, or remove `cluster`"
        raise InputError(f"cluster {address}", f"cannot be reached ({error})", remedy) from None
    try:
        with client:
            yield client
    except KilledWorker as error:
        remedy = "give the workers more memory, or read their logs for another cause"
        raise InputError(f"cluster {address}", f"workers were killed by the same job ({error})", remedy) from None


def _set_up_worker() -> None:
    """Set up a worker of this machine: it computes in one thread and ends with its parent."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    end_with_parent()
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)


def _run(call: tuple[Callable[[JobT], ResultT], JobT]) -> ResultT:
    function, job = call
    try:
        return function(job)
    except Exception as error:
        if _is_picklable(error):
            raise
        readable = RuntimeError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            readable.add_note(note)
    raise readable  # outside of the handler, since Dask also pickles the exception that was being handled


def _is_picklable(error: Exception) -> bool:
    """Whether an error can be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True


Report = Callable[..., None]
"""Called with (done, total) and, from a training, the losses of the step."""

_LINE_EVERY_S = 10.0


@contextmanager
def progress(title: str) -> Iterator[Report]:
    """Show progress on stderr: a bar on a terminal, a line every ten seconds elsewhere; only in the first process."""
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
    """Whether this is the only process, or rank 0 of the processes of torchrun or SLURM."""
    return all(os.environ.get(rank, "").strip() in ("", "0") for rank in _RANKS)


@contextmanager
def only_writer(path: Path, doing: str, *, group: bool = False) -> Iterator[None]:
    """Hold a lock file during the block.

    Args:
        path: path of the lock file.
        doing: work of the block in words, for the error, such as "training this row".
        group: whether processes launched together share the work; rank 0 then holds the lock for all.

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
