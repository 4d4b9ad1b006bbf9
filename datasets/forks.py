"""Independent tasks in forks of this process.

A fork starts within milliseconds and has all that this process has. So neither a task nor what it works on is pickled,
only what it returns.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

from poseboard.datasets.errors import InputError

T = TypeVar("T")
Task = Callable[[], T]

_PDEATHSIG = 1
_REMEDY = "run it again, where memory is short with fewer processes; earlier results are as they were"


def can_fork() -> bool:
    """Whether tasks run in forks here: on Linux alone, elsewhere libraries of the system do not expect a fork."""
    return sys.platform == "linux"


def forked(tasks: Sequence[Task[T]], processes: int) -> Iterator[T]:
    """What each task returns, in order, as soon as it is known.

    A fork takes the next task when it has done one, so the longest should come first. In it PyTorch and OpenCV compute
    in one thread, no processes of multiprocessing can be started, and it ends with this process. With one process or
    one task, and where nothing is forked, the tasks run in this process.

    Args:
        tasks: that depend on nothing that another of them does.
        processes: forks at most.

    Raises:
        InputError: a fork was killed.
        Exception: the first one that a task raises, with a note that has its traceback; further tasks are given up.

    Example:
        >>> list(forked([lambda: 2 * 3, lambda: 3 * 3], processes=2))
        [6, 9]
    """
    if min(processes, len(tasks)) < 2 or not can_fork():
        yield from (task() for task in tasks)
        return
    context = multiprocessing.get_context("fork")
    workers: dict[Any, BaseProcess] = {}  # by the connection to it
    rest, answers = iter(range(len(tasks))), dict[int, T]()
    try:
        for _ in range(min(processes, len(tasks))):
            ours, theirs = context.Pipe()
            # A daemon is not waited for, should this process end while it works.
            process = context.Process(target=_work, args=(tasks, theirs, os.getpid()), daemon=True)
            with _uninterrupted():
                process.start()
                workers[ours] = process
            theirs.close()
            ours.send(next(rest))
        for place in range(len(tasks)):
            while place not in answers:
                for worker in cast(list[Any], wait(list(workers))):
                    try:
                        done, answer, error = pickle.loads(worker.recv_bytes())
                        if (following := next(rest, None)) is not None:
                            worker.send(following)
                    except (EOFError, OSError):
                        workers[worker].join()
                        problem = f"ended ({workers[worker].exitcode})"
                        raise InputError("a process that shares the work", problem, _REMEDY) from None
                    if error is not None:
                        raise error
                    answers[done] = answer
            yield answers.pop(place)
    finally:
        for fork in workers.values():
            fork.kill()
        for worker, fork in workers.items():
            fork.join()
            worker.close()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C is heard afterwards: in the middle of a fork, Python tells it to functions that cannot pass it on."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(tasks: Sequence[Task[T]], connection: Connection[Any, Any], parent: int) -> None:
    """Do the tasks that are asked for until this process is killed."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, too, and ends this process
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Not a progress bar's, which waits for a thread that is not there.
    sys.stdout, sys.stderr = sys.__stdout__ or sys.stdout, sys.__stderr__ or sys.stderr
    _compute_in_one_thread()
    while True:
        place = connection.recv()
        answer, failure = None, None
        try:
            answer = tasks[place]()
        except Exception as error:
            failure = error
            failure.add_note(traceback.format_exc())
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send_bytes(_packed(place, answer, failure))


def _compute_in_one_thread() -> None:
    """The threads of PyTorch and OpenCV are not there in a fork, and a call that waits for them waits for ever."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    if (cv2 := sys.modules.get("cv2")) is not None:
        cv2.setNumThreads(0)


def _packed(place: int, answer: Any, failure: Exception | None) -> bytes:
    """An answer, or why there is none, as the parent can read it."""
    try:
        packed = pickle.dumps((place, answer, failure))
        if failure is not None:
            pickle.loads(packed)  # some exceptions can be written and not read
    except Exception as error:
        told = failure or error
        stand_in = RuntimeError(f"{type(told).__name__}: {told}")
        for note in getattr(told, "__notes__", ()):
            stand_in.add_note(note)
        packed = pickle.dumps((place, None, stand_in))
    return packed
