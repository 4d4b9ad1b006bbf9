"""Start of a Python program in forks of the test process, which has already imported the slow libraries.

Several processes get the environment variables that torchrun sets.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import runpy
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

import lightning_fabric  # noqa: F401  # this and the next before the forks, not after each
import numpy as np
import torch
import torch._dynamo
from torch import distributed

PATIENCE_S = 600
"""Time limit, several times the duration on a busy machine."""


def launch(program: Path, *arguments: str, folder: Path, processes: int = 1) -> None:
    """Run a Python file to its end; AssertionError if a process fails or exceeds `PATIENCE_S`.

    Args:
        program: Python file.
        arguments: command-line arguments.
        folder: working directory.
        processes: number of processes.
    """
    context = multiprocessing.get_context("fork")
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "GLOO_SOCKET_IFNAME": "lo",
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        **dict.fromkeys(("GROUP_RANK", "TORCHELASTIC_RESTART_COUNT"), "0"),
        **dict.fromkeys(("GROUP_WORLD_SIZE", "TORCHELASTIC_MAX_RESTARTS"), "1"),
    }
    started = []
    try:
        for rank in map(str, range(processes)):
            environment = {**common, "RANK": rank, "LOCAL_RANK": rank} if processes > 1 else {}
            process = context.Process(target=_become, args=(program, arguments, folder, environment))
            process.start()
            started.append(process)
        deadline, left = time.monotonic() + PATIENCE_S, list(started)
        # After a failure the other processes may wait forever.
        while left and all(process.exitcode in (None, 0) for process in started):
            wait([process.sentinel for process in left], max(deadline - time.monotonic(), 0))
            left = [process for process in left if process.is_alive() and time.monotonic() < deadline]
        assert [process.exitcode for process in started] == [0] * processes
    finally:
        for process in started:
            assert process.pid is not None
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and its child processes
            process.kill()
            process.join()


def _become(program: Path, arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> None:
    os.setsid()
    torch.set_num_threads(1)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [str(program), *arguments]
    runpy.run_path(str(program), run_name="__main__")


def draw_otherwise(number: int) -> None:
    """Seed the global random generators, so that code that depends on them differs between forks."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def under_a_name_of_its_own(name: str) -> None:
    """Put the keys of a training under a prefix: the launcher's store still has the keys of the previous training."""
    join = distributed.init_process_group
    store = distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)

    def join_by_name(*given: object, **options: object) -> None:
        join(*given, **{**options, "store": distributed.PrefixStore(name, store)})  # type: ignore[arg-type]

    distributed.init_process_group = join_by_name
