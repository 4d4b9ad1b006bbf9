"""A real training that is killed and run again ends bit-equal to one that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

PROGRAM = Path(__file__).with_name("train_and_kill.py")
# The snapshot of step 5 is two steps into a point of the curve, and two steps old when the process dies.
STEPS, SAVED, POINT_STEPS, KILLED = 12, 5, 3, 8
PATIENCE_S = 240
"""Five times what a training took on a machine with four times as much work as cores, start included."""
# Augmentation and turned cubes are on without being named: all that makes one step differ from the next.
ROWS: dict[str, dict[str, Any]] = {
    "volumetric": {"voxels": 16, "random_views": 0.5, "centre_noise_mm": 30.0, "after": "dlt"},
    "epipolar": {"views": 3},
}


@pytest.fixture
def folder(workspace: Any) -> Path:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    common = {"after": "backbone", "steps": STEPS, "batch_size": 4, "warmup_steps": 2}
    params["methods"] |= {name: {"code": f"methods/{name}", **common, **options} for name, options in ROWS.items()}
    workspace.write_params(**params)
    return workspace.folder


def train(folder: Path, method: str, processes: int, kill_at: int = 0) -> int:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*(launcher if processes > 1 else ()), str(PROGRAM), str(kill_at), "train", "human36m", method]
    # The launcher starts its workers in sessions of their own and ends them on SIGTERM, not when it is killed itself.
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            _, said = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            _, said = process.communicate()
            pytest.fail(f"{method} on {processes} processes took over {PATIENCE_S} s: {said}")
    assert kill_at or process.returncode == 0, said
    return process.returncode


def left_by(folder: Path, method: str, processes: int) -> tuple[dict[str, Any], ...]:
    """Checkpoint, last state (optimiser, schedule) and record with the curves of a training; they are taken away."""
    results = folder / "results" / "smoke"
    checkpoint = results / "checkpoints" / "human36m" / method / "seed0.pt"
    weights, state = (torch.load(p, weights_only=True) for p in (checkpoint, checkpoint.with_suffix(".state.pt")))
    record = json.loads((results / "training" / "human36m" / f"{method}.json").read_text())["runs"][0]
    assert (state["step"], record["processes"]) == (STEPS, processes)
    for times in (state, record):
        assert times.pop("processor_seconds") > 0
        assert times.pop("seconds") > 0
    checkpoint.unlink()
    checkpoint.with_suffix(".state.pt").unlink()
    return weights, state, record


def assert_bit_equal(one: Any, other: Any, where: str = "") -> None:
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_bit_equal(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, (first, second) in enumerate(zip(one, other, strict=True)):
            assert_bit_equal(first, second, f"{where}/{i}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


@pytest.mark.parametrize("processes", [1, 2], ids=["one-process", "two-under-torchrun"])
@pytest.mark.parametrize("method", ROWS)
def test_training_resumes_bit_equal_after_kill_9(folder: Path, method: str, processes: int) -> None:
    train(folder, method, processes)
    straight = left_by(folder, method, processes)
    assert train(folder, method, processes, KILLED) != 0
    checkpoints = folder / "results" / "smoke" / "checkpoints" / "human36m" / method
    snapshot = torch.load(checkpoints / "seed0.state.pt", weights_only=True)
    assert (snapshot["step"], len(snapshot["pending"])) == (SAVED, SAVED % POINT_STEPS)
    assert not (checkpoints / "seed0.pt").exists()
    train(folder, method, processes)
    assert_bit_equal(straight, left_by(folder, method, processes))
