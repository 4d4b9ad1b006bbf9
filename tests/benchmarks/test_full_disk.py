"""A full disk, too little memory and data that disappear: one line, nothing half-written, earlier results stay."""

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

from poseboard.benchmarks.jobs import only_writer
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
    errors, scores = (
        workspace.folder / RESULTS / name for name in ("errors/dlt/human36m.parquet", "scores/dlt/human36m.json")
    )
    assert str(errors) in fails(workspace, "score", "human36m", "dlt")
    # There is room for the first of the two files: it is that of the earlier run as well.
    room = errors.stat().st_size + 1000
    assert room < scores.stat().st_size
    assert str(scores) in fails(workspace, "score", "human36m", "dlt", room=room)
    workspace.must("score", "human36m", "dlt")
    assert "comparisons/human36m.json" in fails(workspace, "compare", "human36m")
    workspace.must("compare", "human36m")
    assert f"{workspace.folder / RESULTS}" in fails(workspace, "report")
    assert "mlflow.json" in fails_to_sync(workspace, monkeypatch)


def fails_to_sync(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    from poseboard.benchmarks import mlflow_sync

    monkeypatch.setattr(mlflow_sync, "sync", lambda *_: (2, 0, []))
    monkeypatch.setattr(mlflow_sync, "run_addresses", lambda *_: {})
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


@pytest.mark.parametrize(
    ("command", "lock", "doing"),
    [
        ("data prepare human36m", ".data.lock", "preparing data"),
        ("compare human36m", "results/smoke/.comparisons.lock", "comparing rows"),
        ("report", "results/smoke/.leaderboard.lock", "writing the page"),
    ],
)
def test_a_second_command_says_who_runs(workspace: Any, command: str, lock: str, doing: str) -> None:
    before = workspace.snapshot()
    with only_writer(workspace.folder / lock, doing):
        assert f"{lock}: another process is {doing}; wait for it" in workspace.run(*command.split()).error
    assert workspace.snapshot() == before
    workspace.must(*command.split())


SPOILER = '''
"""Uses up the memory, or deletes the images of the test subject, and predicts nobody."""
import shutil
from pathlib import Path
import numpy as np
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Inputs


class Spoiler:
    inputs = Inputs()

    def __init__(self, options, skeleton):
        self.skeleton, self.fault = skeleton, options["fault"]

    def load(self, checkpoint, device):
        pass

    def predict(self, samples):
        if self.fault == "memory":
            np.empty(1 << 45)
        for folder in Path("data").glob("synthetic-human36m-*/processed/S9"):
            shutil.rmtree(folder)
        return [Poses(self.skeleton, np.empty((0, len(self.skeleton), 3)), np.empty(0)) for _ in samples]

    def training(self, start, seed):
        return None
'''


@pytest.mark.parametrize(("fault", "line"), [("memory", "poseboard: not enough memory; "), ("data", ".jpg: ")])
def test_too_little_memory_and_data_that_disappear(
    workspace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str, line: str
) -> None:
    code = tmp_path / "spoiler.py"
    code.write_text(SPOILER)
    monkeypatch.syspath_prepend(str(tmp_path))
    row = {"class": "spoiler:Spoiler", "code": str(code), "after": "backbone", "fault": fault}
    change(workspace, methods={"spoiler": row})
    workspace.must("train", "human36m", "spoiler")
    before = workspace.snapshot()
    assert line in workspace.run("predict", "human36m", "spoiler").error
    assert workspace.snapshot() == before
    assert not list(workspace.folder.rglob("*.partial*"))
    if fault == "data":
        assert "delete the folder and generate the data set again" in workspace.run("data", "prepare", "human36m").error
        shutil.rmtree(workspace.world)
        workspace.must("data", "prepare", "human36m")
        assert workspace.snapshot() == before


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
