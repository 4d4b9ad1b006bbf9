"""A full disk is one line that names the file; nothing half written stays, and what was there before does."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from full_disk import no_room_beyond
from predicted import file_name

from poseboard.protocols.records import ScoreFile

RESULTS = Path("results/smoke")


def fails(workspace: Any, *command: str, room: int = 10) -> str:
    """The error of a command that runs out of disk; nothing in results/ is lost, changed or left over by it."""
    before = workspace.snapshot()
    with no_room_beyond(room):
        done = workspace.run(*command)
    assert workspace.snapshot() == before
    assert not list(workspace.folder.rglob("*.partial*"))
    assert "too large; check the path, its rights and the disk" in done.error
    return str(done.error)


def change(workspace: Any, **values: Any) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    for key, entries in values.items():
        params[key] |= entries
    workspace.write_params(**params)


def test_train(workspace: Any) -> None:
    folder = workspace.folder / RESULTS / "checkpoints"
    (folder / "backbone/human36m/seed0.pt").unlink()
    (folder / "dlt/human36m/seed0.pt").unlink()
    # Nothing is left to be learned: only the checkpoint is written again.
    assert str(folder / "backbone/human36m/seed0.pt") in fails(workspace, "train", "human36m", "backbone")
    # A row that takes over a checkpoint copies it.
    workspace.must("train", "human36m", "backbone")
    assert str(folder / "dlt/human36m/seed0.pt") in fails(workspace, "train", "human36m", "dlt")
    backbone = yaml.safe_load((workspace.folder / "params.yaml").read_text())["methods"]["backbone"]
    change(workspace, methods={"backbone": {**backbone, "steps": 2}})
    assert str(folder / "backbone/human36m/seed0.state.pt") in fails(workspace, "train", "human36m", "backbone")


def test_predict(workspace: Any) -> None:
    folder = workspace.folder / RESULTS / "predictions/dlt/human36m"
    change(workspace, methods={"dlt": {"code": "methods/dlt", "after": "backbone", "weighting": "uniform"}})
    assert str(folder / file_name()) in fails(workspace, "predict", "human36m", "dlt")


def test_predict_ends_in_the_middle(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    change(workspace, methods={"dlt": {"code": "methods/dlt", "after": "backbone", "weighting": "uniform"}})
    from poseboard.protocols import predictions

    write, seen = predictions.write, []

    def write_then_none(path: Path, *given: Any) -> None:
        seen.append(path)
        with no_room_beyond(10 if len(seen) > 2 else resource.RLIM_INFINITY):
            write(path, *given)

    monkeypatch.setattr(predictions, "write", write_then_none)
    before = workspace.snapshot()
    done = workspace.run("predict", "human36m", "dlt")
    assert str(seen[2]) in done.error
    assert workspace.snapshot() == before, "no file of the new run stands beside those of the old one"


def test_score_compare_report_and_sync(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Something else is to be written than what is there.
    change(workspace, methods={"dlt": {"code": "methods/dlt", "after": "backbone", "weighting": "uniform"}})
    workspace.must("predict", "human36m", "dlt")
    errors, examples = (
        workspace.folder / RESULTS / name for name in ("errors/dlt/human36m.parquet", "examples/dlt/human36m.npz")
    )
    assert str(errors) in fails(workspace, "score", "human36m", "dlt")
    # There is room for the first of the three files: it is that of the earlier run as well.
    room = examples.stat().st_size // 2
    assert room > 2 * errors.stat().st_size
    assert str(examples) in fails(workspace, "score", "human36m", "dlt", room=room)
    workspace.must("score", "human36m", "dlt")
    assert "comparisons/human36m.json" in fails(workspace, "compare", "human36m")
    workspace.must("compare", "human36m")
    assert f"{workspace.folder / RESULTS}" in fails(workspace, "report")
    assert "mlflow.json" in fails_to_sync(workspace, monkeypatch)


def fails_to_sync(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    from poseboard.benchmarks import mlflow_sync

    monkeypatch.setattr(mlflow_sync, "sync", lambda *_: (2, 0, []))
    return fails(workspace, "sync", "--record", "mlflow.json")


def test_rendering(workspace: Any) -> None:
    profiles = yaml.safe_load((workspace.folder / "params.yaml").read_text())["profiles"]
    profiles["smoke"]["worlds"]["human36m"]["seed"] = 4
    change(workspace, profiles=profiles)
    error = fails(workspace, "data", "prepare", "human36m")
    assert "synthetic-human36m-" in error


def test_rendering_ends_in_the_middle_and_the_next_run_completes_it(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = workspace.world
    whole = {path.relative_to(world): path.read_bytes() for path in world.rglob("*") if path.is_file()}
    images = {path: len(content) for path, content in whole.items() if path.suffix == ".jpg"}
    largest = max(images.values())
    without_room = [path for path, size in images.items() if size == largest]
    # The first sequence has room: it is another process that finds none, for a later one.
    assert not any(path.is_relative_to("processed/S1/Greeting-1") for path in without_room)
    shutil.rmtree(world)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    error = fails(workspace, "data", "prepare", "human36m", room=largest - 1)
    assert any(f"{world / path}: " in error for path in without_room)
    left = {path.relative_to(world) for path in world.rglob("*.jpg")}
    assert left.issuperset(path for path in images if path.is_relative_to("processed/S1/Greeting-1"))
    assert left.isdisjoint(without_room)
    assert not (world / "manifest.json").exists()
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    workspace.must("data", "prepare", "human36m")
    assert {path.relative_to(world): path.read_bytes() for path in world.rglob("*") if path.is_file()} == whole


NOBODY = '''
"""Answers nobody: no row at all for any sample."""
import numpy as np
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Inputs


class Nobody:
    inputs = Inputs(images=False)

    def __init__(self, options, skeleton):
        self.skeleton = skeleton

    def load(self, checkpoint, device):
        pass

    def predict(self, samples):
        return [Poses(self.skeleton, np.empty((0, len(self.skeleton), 3)), np.empty(0)) for _ in samples]

    def training(self, start, seed):
        return None
'''


def test_a_method_that_answers_nobody_is_scored_as_all_missing(
    workspace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = tmp_path / "answers_nobody.py"
    module.write_text(NOBODY)
    monkeypatch.syspath_prepend(str(tmp_path))
    row = {"class": f"{module.stem}:Nobody", "code": str(module), "after": "backbone"}
    change(workspace, methods={"nobody": row})
    for stage in ("train", "predict", "score"):
        workspace.must(stage, "human36m", "nobody")
    for score in ScoreFile.read(workspace.folder / RESULTS / "scores/nobody/human36m.json").scores:
        assert score.n_missing == score.n_samples > 0
        if score.signature.metric.startswith("failed"):
            assert score.value == 100
        elif not score.signature.metric.startswith("pck"):
            assert score.value is None
    workspace.must("compare", "human36m")
    workspace.must("report")
