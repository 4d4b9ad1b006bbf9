"""Weights of the train stage are those whose hash the training recorded; others are refused, wherever they are used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from poseboard.datasets.human36m import LABELS
from poseboard.methods.checkpoint import Checkpoint
from poseboard.protocols.records import ScoreFile, TrainingFile

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


@pytest.fixture
def elsewhere(workspace: Any) -> Any:
    """The workspace with a copy of its world as a real data set, whose labels are moved by 3 mm."""
    copy = workspace.folder / "copy"
    shutil.copytree(workspace.world, copy)
    labels: Any = np.load(copy / LABELS, allow_pickle=True).item()  # written by ourselves
    labels["table"]["keypoints"] += 3
    np.save(copy / LABELS, np.array(labels, dtype=object), allow_pickle=True)
    (copy / "manifest.json").unlink()
    write_params(workspace, root="copy")
    workspace.must("data", "prepare", "human36m")
    return workspace


def write_params(workspace: Any, root: str | None, **rows: Any) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["datasets"]["human36m"]["root"] = root
    params["methods"] |= rows
    workspace.write_params(**params)


def test_weights_of_another_state_of_the_data_set_are_refused(elsewhere: Any, spoil: Callable[..., Any]) -> None:
    for command in (("evaluate", "dlt"), ("evaluate", "human36m", "dlt"), ("predict", "human36m", "dlt")):
        error = spoil(*command).error
        assert "row dlt: its weights were trained on another state of human36m" in error
        assert "run `poseboard train dlt`" in error
    # No row starts from such weights and says that it was trained on these data.
    assert "run `poseboard train backbone`" in spoil("train", "dlt").error
    for command in (("train", "backbone"), ("train", "dlt"), ("evaluate", "dlt")):
        elsewhere.must(*command)
    scores = ScoreFile.read(elsewhere.folder / "results/smoke/scores/dlt/human36m.json")
    assert not scores.synthetic
    assert {score.signature.trained_on for score in scores.scores} == {None}
    # And back: the weights are of the copy now.
    write_params(elsewhere, root=None)
    assert "its weights were trained on another state of human36m" in spoil("evaluate", "dlt").error


def test_weights_of_other_data_are_a_row_that_says_so(elsewhere: Any) -> None:
    dlt = elsewhere.folder / CHECKPOINTS / "dlt/human36m/seed0.pt"
    shutil.copyfile(dlt, elsewhere.folder / "theirs.pt")
    row = {"code": "methods/dlt", "after": "scratch", "weights": "theirs.pt", "weighting": "peak"}
    write_params(elsewhere, root="copy", theirs=row)
    for command in ("train", "evaluate"):
        elsewhere.must(command, "theirs")
    scores = ScoreFile.read(elsewhere.folder / "results/smoke/scores/theirs/human36m.json")
    assert {score.signature.trained_on for score in scores.scores} == {()}, "not known, which tables say"


def test_weights_without_a_record_of_their_training_are_refused(workspace: Any, spoil: Callable[..., Any]) -> None:
    (workspace.folder / "results/smoke/training/dlt/human36m.json").unlink()
    error = spoil("evaluate", "dlt").error
    assert "its weights for human36m have no record of their training" in error
    assert "results/smoke/training/dlt/human36m.json" in error
    workspace.must("train", "dlt")
    workspace.must("evaluate", "dlt")
