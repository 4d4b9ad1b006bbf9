"""A server of the MLflow store on this machine, as long as it is looked at."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from poseboard.datasets.errors import InputError

HOST = "127.0.0.1"
_POLL_S = 0.2
_LAST_WORD_S = 10.0


def command(store: str, port: int) -> list[str]:
    """MLflow's own server of ``store``, an URI, in one process."""
    server = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--workers", "1"]
    # At its usual level it names the address that opens in the view of traces, and every request.
    return [*server, "--host", HOST, "--port", str(port), "--uvicorn-opts", "--log-level warning"]


@contextmanager
def serving(program: Sequence[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that listens on ``port``; entered once it does, and stopped at the end or by SIGTERM.

    Raises:
        InputError: the port is in use, or the server stopped before it listened.

    Example:
        >>> with serving([sys.executable, "-m", "http.server", "8000"], 8000):  # doctest: +SKIP
        ...     print("listens")
    """
    if _listens(port):
        raise InputError(f"port {port}", "another program uses it", "stop that, or name another one with --port")
    # Evaluations by language models would start seven more processes.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = subprocess.Popen(list(program), env=environment)
    try:
        while not _listens(port):
            if process.poll() is not None:
                raise InputError("the server", f"stopped with exit code {process.returncode}", "it says why above")
            time.sleep(_POLL_S)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_LAST_WORD_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        signal.signal(signal.SIGTERM, handler)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
