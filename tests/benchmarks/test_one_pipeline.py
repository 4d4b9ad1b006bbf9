"""One pipeline: what dvc.yaml states once, which rows run where, and what a change makes run again."""

from __future__ import annotations

import ast
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from poseboard.benchmarks import predict, train
from poseboard.benchmarks.plan import Plan
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import View
from poseboard.methods.base import Inputs
from poseboard.methods.checkpoint import Checkpoint
from poseboard.protocols.records import ScoreFile, TrainingFile

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINTS = "results/smoke/checkpoints"
SHARED_ROOMS = ("benchmarks", "protocols", "report")
"""Rooms in which no method and no data set is named; in datasets/ the catalogue names all of them."""
NAMED = {
    ("benchmarks/cli.py", "human36m"),  # a joint set of published heat maps, beside "coco"
    ("benchmarks/cli.py", "rootnet"),  # the demo, and the file by which roots are exchanged
}


def stages() -> dict[str, Any]:
    entries: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return entries


def test_the_pipeline_is_short_and_states_no_list_twice() -> None:
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 150
    listed = {name: set(stage.get("do", stage).get("deps", ())) for name, stage in stages().items()}
    for (one, of_one), (other, of_other) in combinations(listed.items(), 2):
        common = of_one & of_other
        assert len(common) <= 4, (one, other, common)
        assert not common or common not in (of_one, of_other), (one, other)
    # Code outside this repository is in no list: the stage that hashes it runs every time.
    assert [name for name, stage in stages().items() if stage.get("always_changed")] == ["plan"]


def test_stages_grow_with_rows_only() -> None:
    each = [stage["foreach"] for stage in stages().values() if "foreach" in stage]
    assert each == ["${methods}", "${methods}"]


def test_no_shared_room_names_a_method_or_a_data_set() -> None:
    folders = {path.parent.name for path in (ROOT / "methods").glob("*/method.py")}
    published = {name for name, entry in catalog().items() if entry.adapter.is_published}
    names = folders | published | {name.replace("-", "_") for name in published}
    named = set()
    for path in (file for room in SHARED_ROOMS for file in (ROOT / room).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            words = [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
            words += (node.module or "").split(".") if isinstance(node, ast.ImportFrom) else []
            named |= {(path.relative_to(ROOT).as_posix(), word) for word in words if word in names}
    assert named <= NAMED


def test_a_finished_training_is_not_begun_again(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workspace.folder / CHECKPOINTS
    files = [folder / row / "human36m/seed0.pt" for row in ("backbone", "dlt")]
    before = [path.stat().st_mtime_ns for path in files]
    with monkeypatch.context() as patched:
        patched.setattr(train, "fit", None)
        for row in ("backbone", "dlt"):
            assert "nothing that it depends on changed" in workspace.must("train", row).out
    assert [path.stat().st_mtime_ns for path in files] == before
    # A row that is edited is trained, and what starts from it only where its weights are others.
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["backbone"]["steps"] = 2
    workspace.write_params(**params)
    assert "1 trained" in workspace.must("train", "human36m", "backbone").out
    assert "0 trained" in workspace.must("train", "human36m", "dlt").out
    assert "nothing that it depends on changed" in workspace.must("train", "human36m", "dlt").out


def test_a_row_that_predicts_nothing_is_trained_and_passed_over(workspace: Any) -> None:
    assert (
        workspace.must("evaluate", "backbone").out == "backbone: predicts no poses; other rows start from its weights\n"
    )
    assert "lacks load, predict" in workspace.run("predict", "human36m", "backbone").error


def test_weights_from_a_file_are_a_row_that_says_so(workspace: Any) -> None:
    source = workspace.folder / CHECKPOINTS / "backbone/human36m/seed0.pt"
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    row = {"code": "methods/dlt", "after": "scratch", "weights": "theirs.pt", "weighting": "peak"}
    params["methods"]["theirs"] = row
    workspace.write_params(**params)
    assert "methods.theirs.weights: there is no theirs.pt" in workspace.run("train", "theirs").error
    (workspace.folder / "theirs.pt").write_bytes(source.read_bytes())
    before = TrainingFile.read(workspace.folder / "results/smoke/training/dlt/human36m.json")
    assert "not trained, weights from theirs.pt" in workspace.must("train", "theirs").out
    workspace.must("evaluate", "theirs")
    record = TrainingFile.read(workspace.folder / "results/smoke/training/theirs/human36m.json")
    scores = ScoreFile.read(workspace.folder / "results/smoke/scores/theirs/human36m.json")
    assert (record.runs, record.after) == ([], None)
    for made in (record.provenance, scores.provenance):
        assert made.weights is not None
        assert (made.weights.origin, made.weights.file) == ("imported", "theirs.pt")
        assert made.weights.architecture == Checkpoint.read(source).architecture
        assert made.options == {"weighting": "peak"}
        assert made.weights.trained_on == ()
    assert {score.signature.trained_on for score in scores.scores} == {()}
    trained = before.provenance.weights
    assert trained is not None
    assert (trained.origin, trained.file) == ("trained", None)
    assert before == TrainingFile.read(workspace.folder / "results/smoke/training/dlt/human36m.json")

    # Numbers of weights of another data set stand apart, in the words of the checkpoint.
    elsewhere = replace(Checkpoint.read(source), trained_on=("panoptic", "rhd"))
    elsewhere.save(workspace.folder / "theirs.pt")
    for command in ("train", "evaluate"):
        workspace.must(command, "theirs")
    scores = ScoreFile.read(workspace.folder / "results/smoke/scores/theirs/human36m.json")
    assert {(one.signature.trained_on, one.signature.usual) for one in scores.scores} == {(("panoptic", "rhd"), False)}
    of_dlt = ScoreFile.read(workspace.folder / "results/smoke/scores/dlt/human36m.json")
    assert {one.signature.trained_on for one in of_dlt.scores} == {None}


def test_a_row_runs_where_it_fits_or_where_it_says(workspace: Any) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["datasets"]["rhd"] = {"root": None}
    params["methods"]["hands"] = {"code": "methods/dlt", "after": "backbone", "on": ["rhd"]}
    params["methods"]["nowhere"] = {"code": "methods/dlt", "after": "hands"}
    params["methods"]["idle"] = {"code": "methods/dlt", "after": "backbone", "on": []}
    workspace.write_params(**params)
    plan = Plan.read(workspace.folder / "params.yaml")
    by_row = {row: [run.source.name for run in plan.runs(row) if not run.left_out] for row in plan.rows}
    assert [by_row[row] for row in ("dlt", "hands", "nowhere")] == [["human36m"], [], []]
    (absent,) = plan.runs("hands")
    assert absent.left_out.startswith("no folder is named and data/rhd is not there; to run on it, download")
    assert "rhd/hands: left out" in workspace.must("train", "hands").out
    for command in ("train", "evaluate"):
        said = workspace.must(command, "idle").out.splitlines()
        assert said == ["idle: left out, params.yaml runs it on no data set in profile smoke"]
    reasons = {run.source.name: run.left_out for run in plan.runs("nowhere")}
    assert reasons["human36m"] == "hands, whose weights it starts from, does not run on it"


def test_without_training_samples_rows_run_that_need_no_weights(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from poseboard.datasets.human36m import Human36M

    keys = Human36M.keys
    monkeypatch.setattr(Human36M, "keys", lambda self, split: keys(self, split) if split == "test" else [])
    for row in ("dlt", "algebraic"):
        (workspace.folder / CHECKPOINTS / row / "human36m/seed0.pt").unlink(missing_ok=True)
        assert f"human36m/{row}: left out, it has no training samples" in workspace.must("train", row).out
    assert (
        "left out, it has no training samples, and algebraic: it needs a checkpoint"
        in workspace.must("evaluate", "algebraic").out
    )


def test_a_damaged_image_is_no_reason_to_leave_a_row_out(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from poseboard.datasets.human36m import Human36M

    keys = Human36M.keys
    monkeypatch.setattr(Human36M, "keys", lambda self, split: keys(self, split) if split == "test" else [])
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["mine"] = {"code": "methods/dlt", "after": "dlt"}
    workspace.write_params(**params)
    run = Plan.read(workspace.folder / "params.yaml").run("mine", "human36m")
    assert "no training samples, and dlt: " in predict.no_input(run)

    def unreadable(self: View) -> None:
        raise InputError("image.jpg", "cannot be read", "copy it again")

    monkeypatch.setattr(View, "pixels", unreadable)
    with pytest.raises(InputError, match=r"image\.jpg: cannot be read"):
        predict._first_samples(run, Inputs())
