"""Work in several processes: independent jobs, locks on files, progress on stderr.

joblib runs the jobs in this process, in processes of this machine, or on a Dask cluster. A job is a picklable value,
and all jobs of a call share one function of it. Jobs and their results do not depend on the number of workers, so every
way of running them gives the same bytes. `workers` chooses the way for a whole command, and for
`datasets.synthetic.generation`, which calls joblib directly.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
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
        processes: on this machine, one per GPU at most; 1 runs the jobs in this process.
        cluster: address of a Dask scheduler, whose workers run the jobs instead. They need the same checkout, data and
            results under the same paths.

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
            stack.enter_context(
                parallel_config("loky", n_jobs=count, inner_max_num_threads=1, initializer=_set_up_worker)
            )
        try:
            yield
        except BrokenProcessPool:
            remedy = "run the same command again, where memory is short with fewer `processes`"
            raise InputError("a worker process", "was killed", remedy) from None


def run_jobs(function: Callable[[JobT], ResultT], jobs: Sequence[JobT]) -> Iterator[ResultT]:
    """Yield the result of each job in order, as soon as it is there.

    Raises:
        Exception: the first one that a job raises. Further jobs are dropped.

    Example:
        >>> list(run_jobs(abs, [-3, -4]))
        [3, 4]
    """
    parallel = Parallel(n_jobs=1 if len(jobs) < 2 else None, return_as="generator", batch_size=1, max_nbytes=None)
    # A tuple: joblib moves other large arguments to single Dask workers, where they are lost if that worker is killed.
    yield from parallel(delayed(_run)((function, job)) for job in jobs)


def worker_number() -> int | None:
    """Number of this worker process, which chooses its GPU; None in the main process and on a cluster."""
    name, _, number = multiprocessing.current_process().name.partition("-")
    return int(number) if name == "LokyProcess" and number.isdecimal() else None


def use_one_thread() -> None:
    """Limit PyTorch to one thread on a CPU, so that results do not depend on the number of cores or workers."""
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(1)


def _gpus() -> int:
    """Number of GPUs of this machine, 0 in a command that has no use for PyTorch."""
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
        remedy = "start `dask scheduler` and workers, or leave out `cluster`"
        raise InputError(f"cluster {address}", f"cannot be reached ({error})", remedy) from None
    try:
        with client:
            yield client
    except KilledWorker as error:
        remedy = "give workers more memory, or see their logs"
        raise InputError(f"cluster {address}", f"workers were killed by the same job ({error})", remedy) from None


def _set_up_worker() -> None:
    """Let a worker of this machine compute in one thread, and end with its parent."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
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
    """True if another process can read the error."""
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
