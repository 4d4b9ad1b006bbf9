"""Threads and memory of this process, for measurements."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import cv2
from threadpoolctl import threadpool_limits

ResultT = TypeVar("ResultT")


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread in PyTorch, OpenCV and linear algebra during the block."""
    import torch

    threads, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)
    cv2.setNumThreads(of_opencv)


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far in MB (getrusage would count the parent as well)."""
    return _of_status("VmHWM") * 1024 / 1e6


def with_peak_memory(function: Callable[[], ResultT]) -> tuple[ResultT, float | None]:
    """Result of a call, and its peak memory in MiB above the memory in use before; None: /proc does not report it.

    Call the function once before the measurement to exclude one-off costs.
    """
    gc.collect()
    try:
        # Freed memory that the process keeps would be used again without counting.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _of_status("VmRSS")
    except (OSError, AttributeError, StopIteration):
        return function(), None
    result = function()
    return result, (_of_status("VmHWM") - before) / 1024


def _of_status(field: str) -> int:
    """Value of a field of /proc/self/status in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])
