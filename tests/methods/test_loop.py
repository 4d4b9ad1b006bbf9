"""The training loop: kill -9 and resume give bit-equal weights; batches are pure functions of (seed, step)."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from poseboard.methods import loop

PROGRAM = Path(__file__).with_name("train_toy.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def run(folder: Path, *arguments: str, processes: int = 1) -> int:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(PROGRAM), str(folder), *arguments]
    if processes > 1:
        rendezvous = ["--master-addr=127.0.0.1", f"--master-port={29400 + os.getpid() % 500}"]
        launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", *rendezvous]
        command = [sys.executable, *launcher, str(PROGRAM), str(folder), f"--processes={processes}", *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=180, check=False).returncode


def final(folder: Path) -> dict[str, dict[str, Any]]:
    return torch.load(folder / "final.pt", weights_only=True)


def assert_bit_equal(one: Path, other: Path) -> None:
    first, second = final(one), final(other)
    assert first["state"].keys() == second["state"].keys()
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), name
    assert first["curve"] == second["curve"]


@pytest.mark.parametrize("processes", [1, 2], ids=["one-process", "two-under-torchrun"])
def test_kill_and_rerun_gives_bit_equal_weights(tmp_path: Path, processes: int) -> None:
    assert run(tmp_path / "straight", processes=processes) == 0
    assert run(tmp_path / "killed", "--kill-at=17", "--busy=0.02", processes=processes) != 0
    saved = torch.load(tmp_path / "killed" / "state.pt", weights_only=True)
    assert 0 < saved["step"] <= 17
    assert not (tmp_path / "killed" / "final.pt").exists()
    assert run(tmp_path / "killed", "--busy=0.02", processes=processes) == 0
    assert_bit_equal(tmp_path / "straight", tmp_path / "killed")
    # The busy steps of both sessions, though it is another process than the first that is busy.
    assert final(tmp_path / "killed")["times"]["processor"] >= 30 * 0.02


def test_processor_time_leaves_out_what_a_training_waits_for(tmp_path: Path) -> None:
    assert run(tmp_path, "--idle=0.05") == 0
    times = final(tmp_path)["times"]
    assert times["seconds"] - times["processor"] >= 30 * 0.05 / 2  # the rest: what else the two processors run at once
    assert times["gpu"] is None


def test_prefetching_threads_and_other_configurations(tmp_path: Path) -> None:
    assert run(tmp_path / "a") == 0
    assert run(tmp_path / "b", "--workers=2") == 0
    assert_bit_equal(tmp_path / "a", tmp_path / "b")
    # A state of another configuration is not resumed: the whole training runs anew.
    before = torch.load(tmp_path / "a" / "state.pt", weights_only=True)["identity"]
    assert run(tmp_path / "a", "--learning-rate=0.5") == 0
    assert torch.load(tmp_path / "a" / "state.pt", weights_only=True)["identity"] != before


def test_every_epoch_shows_every_sample_once() -> None:
    for epoch in range(3):
        seen = [loop._shuffled(4, epoch * 11 + place, 11) for place in range(11)]
        assert sorted(seen) == list(range(11))
    assert [loop._shuffled(4, p, 11) for p in range(11)] != [loop._shuffled(4, 11 + p, 11) for p in range(11)]


@pytest.mark.parametrize(
    ("environment", "processes"),
    [
        ({}, None),
        ({"LOCAL_WORLD_SIZE": "3", "GROUP_WORLD_SIZE": "2"}, (3, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}, (4, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "bash"}, None),
    ],
    ids=["alone", "torchrun", "srun", "shell-in-slurm"],
)
def test_processes_of_a_launcher_are_found(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], processes: tuple[int, int] | None
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert loop._launched_processes() == processes
