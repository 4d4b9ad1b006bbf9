"""Prediction in several processes: the same files to the byte, and nothing half written where one of them ends."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import distributed

from poseboard.benchmarks import harness, predicting
from poseboard.benchmarks.sharing import Sharing
from poseboard.datasets.errors import InputError

PROGRAM = Path(__file__).with_name("predict_together.py")
CHUNK = 2
PREDICTIONS = "results/smoke/predictions/algebraic/human36m"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def predict(folder: Path, *launcher: str, spoil: str = "", processes: int = 1) -> subprocess.CompletedProcess[str]:
    params = folder / "params.yaml"
    values = yaml.safe_load(params.read_text())
    values["profiles"]["smoke"]["processes"] = processes
    params.write_text(yaml.safe_dump(values, sort_keys=False))
    own = {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONDONTWRITEBYTECODE": "",
        "SPOIL": spoil,
        "CHUNK": str(CHUNK),
    }
    command = [sys.executable, *launcher, str(PROGRAM), "predict", "human36m", "algebraic"]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **own}, capture_output=True, text=True, check=False, timeout=300
    )


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / PREDICTIONS).rglob("*") if path.is_file()}


def test_several_processes_write_what_one_does(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "chunks", partial(harness.chunks, size=CHUNK))
    workspace.must("train", "human36m", "algebraic")
    alone = workspace.must("predict", "human36m", "algebraic")
    files = held(workspace.folder)
    assert any(name.endswith(".parquet") for name in files)

    for path in (workspace.folder / PREDICTIONS).glob("*.parquet"):
        path.unlink()
    together = predict(workspace.folder, *TORCHRUN)
    assert together.returncode == 0, together.stderr
    assert held(workspace.folder) == files
    assert together.stdout == alone.out, "each line once"

    for path in (workspace.folder / PREDICTIONS).glob("*.parquet"):
        path.unlink()
    left = held(workspace.folder)
    done = predict(workspace.folder, spoil="kill", processes=2)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("predict human36m")]  # progress
    assert (done.returncode, done.stdout, len(lines)) == (2, "", 1), done.stderr
    assert lines[0].startswith("poseboard: prediction in several processes: one of them ended")
    assert held(workspace.folder) == left


class Two:
    """The first of two processes, or the second."""

    world_size = 2

    def __init__(self, rank: int) -> None:
        self.global_rank, self.is_global_zero = rank, rank == 0


def test_a_failure_in_one_process_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(chunks: Any) -> dict[str, int]:
        raise ValueError("the network is\nodd")

    def gathered(own: Any, parts: list[Any] | None) -> None:
        if parts is not None:
            parts[:] = [own, of_second]

    monkeypatch.setattr(distributed, "gather_object", gathered)
    first, second = Sharing(2), Sharing(2)
    vars(first)["_fabric"], vars(second)["_fabric"] = Two(0), Two(1)
    of_second: Any = {"2": 4}
    chunks = [["1"], ["2"]]
    assert first.answers(chunks, lambda mine: {"1": len(mine)}) == {"1": 1, "2": 4}
    assert second.answers(chunks, lambda mine: {"2": len(mine)}) is None
    with pytest.raises(ValueError, match="the network is"):
        first.answers(chunks, fail)
    with pytest.raises(SystemExit):
        second.answers(chunks, fail)
    of_second = "the network is odd"
    with pytest.raises(InputError, match="prediction in several processes: the network is odd"):
        first.answers(chunks, lambda mine: {"1": 2})


def test_one_process_or_one_chunk_starts_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(chunks: Any) -> dict[str, int]:
        return {key: 2 * int(key) for chunk in chunks for key in chunk}

    assert Sharing(1).answers([["1", "2"], ["3"]], doubled) == {"1": 2, "2": 4, "3": 6}
    assert Sharing(2).answers([["1", "2"]], doubled) == {"1": 2, "2": 4}
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Sharing(2).answers([["1", "2"]], doubled) is None
