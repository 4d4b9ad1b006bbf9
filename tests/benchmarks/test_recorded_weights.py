"""Weights of the train stage are those whose hash the training recorded; others are refused, wherever they are used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poseboard.methods.checkpoint import Checkpoint
from poseboard.protocols.records import TrainingFile

CHECKPOINTS = Path("results/smoke/checkpoints")


@pytest.fixture
def moved(workspace: Any) -> Path:
    """A checkpoint of the train stage, whole and sound, but with a tensor moved after the training."""
    path = workspace.folder / CHECKPOINTS / "dlt/human36m/seed0.pt"
    read = Checkpoint.read(path)
    key = next(key for key, value in read.state.items() if value.is_floating_point())
    read.state[key] += 1
    read.save(path)
    return path


def test_weights_of_another_hash_than_the_training_recorded(
    workspace: Any, moved: Path, spoil: Callable[..., Any]
) -> None:
    recorded = TrainingFile.read(workspace.folder / "results/smoke/training/dlt/human36m.json")
    digest = recorded.provenance.checkpoint_sha256["seed0"]
    error = spoil("predict", "human36m", "dlt").error
    assert str(moved) in error
    assert digest[:12] in error
    assert "dlt/human36m.json recorded" in error
    assert "poseboard train human36m dlt" in error
    # The remedy is one.
    workspace.must("train", "human36m", "dlt")
    workspace.must("predict", "human36m", "dlt")


def test_a_training_starts_from_no_such_weights_nor_takes_them_over(workspace: Any, spoil: Callable[..., Any]) -> None:
    backbone = workspace.folder / CHECKPOINTS / "backbone/human36m/seed0.pt"
    shutil.copyfile(backbone, backbone.with_name("kept"))
    read = Checkpoint.read(backbone)
    Checkpoint(read.method, read.architecture, read.state, {"told": 1.0}).save(backbone)
    for row in ("dlt", "algebraic"):
        error = spoil("train", "human36m", row).error
        assert str(backbone) in error
        assert "poseboard train human36m backbone" in error


def test_a_damaged_state_of_a_training_is_told_and_the_training_starts_anew(workspace: Any) -> None:
    path = workspace.folder / CHECKPOINTS / "backbone/human36m/seed0.pt"
    before, state = Checkpoint.read(path).state, path.with_suffix(".state.pt")
    whole = bytearray(state.read_bytes())
    whole[len(whole) // 2] ^= 1
    state.write_bytes(whole)
    path.unlink()
    workspace.must("train", "human36m", "backbone")
    after = Checkpoint.read(path).state
    assert all(before[key].equal(after[key]) for key in before)
    assert state.read_bytes() != whole
