"""Freed memory that a process keeps for its next arrays."""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""
LARGEST = (128 * 2**20, 32 * 2**20)
"""Bytes; larger blocks go back to the system at once. The second is the most that an older glibc takes."""
_KEPT = 2**31 - 1
"""Bytes at the end of the heap, at most."""


def keep_freed_memory() -> bool:
    """Have glibc keep freed blocks in place of handing each large one back; whether it does.

    A network frees and asks for the same few megabytes in every layer. By default each of them is mapped anew, and its
    pages are cleared: a seventh of the time of a prediction. Other C libraries, and an environment with ``MALLOC_``
    variables or tunables of its own, are left as they are.
    """
    if os.name != "posix" or any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return any(mallopt(_M_MMAP_THRESHOLD, largest) for largest in LARGEST) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT))
