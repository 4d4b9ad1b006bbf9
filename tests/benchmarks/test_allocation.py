"""Freed memory is kept: what is asked for again is not mapped anew."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from poseboard.benchmarks.allocation import keep_freed_memory

print(keep_freed_memory() if sys.argv[1] == "keep" else None)
np.ones(2**21)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    np.ones(2**21)  # 16 MiB, which glibc maps anew each time
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> tuple[str, int]:
    for name in [*os.environ]:
        if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES":
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    said, count = done.stdout.split()
    return said, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc is left as it is")
def test_freed_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    said, kept = faults("keep", monkeypatch)
    _, handed_back = faults("leave", monkeypatch)
    assert said == "True"
    assert kept < handed_back / 4
    assert faults("keep", monkeypatch, MALLOC_ARENA_MAX="2")[0] == "False", "whoever set it meant it"
