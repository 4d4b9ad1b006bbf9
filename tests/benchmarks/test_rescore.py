"""`poseboard rescore`: numbers of stored predictions after a change of tables or protocols."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from poseboard.benchmarks import plan, predict

EXAMPLE = Path(__file__).resolve().parents[2] / "docs/example-submission"
NEW_TABLE = """
id: human36m-pck50
title: Human3.6M, 3D PCK at 50 mm
dataset: human36m
split: test
protocol: pck
parameters: {report: pck, threshold_mm: 50}
"""


@pytest.fixture
def no_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("predicts")

    monkeypatch.setattr(predict, "predict_stage", refuse)


@pytest.fixture
def with_new_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(plan.TABLES, tmp_path / "tables")
    (tmp_path / "tables/human36m-pck50.yaml").write_text(NEW_TABLE)
    monkeypatch.setattr(plan, "TABLES", tmp_path / "tables")


def scores_of(workspace: Any) -> Path:
    return workspace.folder / "results/smoke/scores/dlt/human36m.json"


def test_unchanged_tables_have_equal_numbers(workspace: Any, no_inference: None) -> None:
    before = workspace.snapshot()
    done = workspace.must("rescore", "dlt")
    assert done.out.endswith("numbers of 1 runs scored; none changed\n")
    after = workspace.snapshot()
    assert {path for path in before if after[path] != before[path]} <= {str(scores_of(workspace))}
    assert any(path.endswith("comparisons/human36m.json") for path in after)


def test_a_changed_number_is_printed_and_mended(workspace: Any, no_inference: None) -> None:
    path = scores_of(workspace)
    scores = json.loads(path.read_text())
    recorded = scores["scores"].copy()
    wrong = next(score for score in scores["scores"] if score["table"] == "T1")
    wrong["value"] += 1
    scores["scores"] = [score for score in scores["scores"] if score["table"] != "T2"]
    path.write_text(json.dumps(scores))
    done = workspace.must("rescore")
    assert f"human36m/dlt T1: {wrong['value']:.1f} -> {wrong['value'] - 1:.1f} mm\n" in done.out
    assert "human36m/dlt T2: no number -> " in done.out
    wrong["value"] -= 1
    assert json.loads(path.read_text())["scores"] == recorded


def test_a_new_table_is_scored_on_old_predictions(workspace: Any, no_inference: None, with_new_table: None) -> None:
    before = workspace.snapshot()
    shown = workspace.must("rescore", "--table", "human36m-pck50").out
    assert shown.startswith("human36m/dlt human36m-pck50: ")
    assert shown.endswith("%, not recorded\n")
    assert workspace.snapshot() == before, "--table writes nothing"
    assert "human36m/dlt human36m-pck50: no number -> " in workspace.must("rescore").out
    assert "not recorded" not in workspace.must("rescore", "--table", "human36m-pck50").out


def test_submissions_are_scored_too(workspace: Any, no_inference: None, with_new_table: None) -> None:
    workspace.must("submit", EXAMPLE / "example.parquet", "--card", EXAMPLE / "card.yaml")
    shown = workspace.must("rescore", "--table", "human36m-pck50").out
    assert {line.split()[0] for line in shown.splitlines()} == {"human36m/dlt", "human36m/example"}
    for name in ("dlt", "example"):
        (line,) = workspace.must("rescore", name, "--table", "human36m-pck50").out.splitlines()
        assert line.startswith(f"human36m/{name} ")
    assert "human36m/example human36m-pck50: no number -> " in workspace.must("rescore", "example").out
    record = json.loads((workspace.folder / "results/smoke/scores/example/human36m.json").read_text())
    assert "human36m-pck50" in {score["table"] for score in record["scores"]}


def test_a_bad_submission_is_left_out_with_a_warning(workspace: Any, no_inference: None) -> None:
    def add(name: str, of_card: str, content: bytes) -> None:
        folder = workspace.folder / "submissions" / name
        folder.mkdir(parents=True)
        card = yaml.safe_load((EXAMPLE / "card.yaml").read_text())
        (folder / "card.yaml").write_text(yaml.safe_dump({**card, "name": of_card}))
        (folder / "a.parquet").write_bytes(content)

    content = (EXAMPLE / "example.parquet").read_bytes()
    add("example", "example", content)
    problems = {"raw": "metadata.method: is 'example'", "moved": "unlike the folder", "cut": "not readable Parquet"}
    add("raw", "raw", content)
    add("moved", "example", content)
    add("cut", "cut", content[:3000])
    done = workspace.must("rescore", "--table", "T1")
    assert {line.split()[0] for line in done.out.splitlines()} == {"human36m/dlt", "human36m/example"}
    for name, problem in problems.items():
        (warning,) = (line for line in done.err.splitlines() if f"warning: {name}: left out, " in line)
        assert problem in warning
        assert problem in workspace.run("rescore", name).error


def test_data_sets_that_are_absent_are_left_out(workspace: Any) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["datasets"]["panoptic"] = {"root": None}
    params["profiles"]["smoke"]["worlds"]["panoptic"] = params["profiles"]["smoke"]["worlds"]["human36m"]
    workspace.write_params(**params)
    results = workspace.folder / "results/smoke"
    shutil.copytree(results / "predictions/dlt/human36m", results / "predictions/dlt/panoptic")
    shutil.copy(scores_of(workspace), scores_of(workspace).with_name("panoptic.json"))
    assert "no " in workspace.run("verify", "dlt", "--dataset", "panoptic").error
    for command in ("rescore", "rescore --table T1", "verify"):
        done = workspace.must(*command.split(), "dlt")
        assert "poseboard: left out, absent here: panoptic\n" in done.err
        assert "human36m" in done.out or "none changed" in done.out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--table", "T11"], "--table T11: is not a table on their data sets"),
        (["dtl"], "dlt"),
        (["algebraic"], "has no predictions of algebraic; run `poseboard evaluate` first"),
    ],
)
def test_mistakes_are_one_line(ready_workspace: Any, arguments: list[str], error: str) -> None:
    done = ready_workspace.run("rescore", *arguments)
    assert done.code == 2
    assert error in done.error
