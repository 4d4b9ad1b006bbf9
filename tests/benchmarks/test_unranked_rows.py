"""Rows without a rank, from params.yaml and predictions to comparisons, the page and the terminal."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from poseboard.benchmarks.pipeline import summary
from poseboard.benchmarks.plan import Plan
from poseboard.protocols.records import ComparisonFile, ScoreFile

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def plan(workspace: Any) -> Plan:
    """A workspace with two rows more, copies of the scored one: a bound, and one with half of its predictions."""
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    row = params["methods"]["dlt"]
    params["methods"] |= {"limit": {**row, "bound": True}, "shy": row}
    workspace.write_params(**params)
    results = workspace.folder / "results" / "smoke"
    for name in ("limit", "shy"):
        for stage in ("train", "evaluate"):
            workspace.must(stage, "human36m", name)
    record = ScoreFile.read(results / "scores" / "shy" / "human36m.json")
    assert not record.bound
    scores = [
        score.model_copy(update={"value": score.value / 2, "n_missing": 1, "n_left_out": 1})
        for score in record.scores
        if score.value is not None and score.unit == "mm"
    ]
    (results / "scores" / "shy" / "human36m.json").unlink()
    record.model_copy(update={"scores": scores}).write(results / "scores" / "shy" / "human36m.json")
    return Plan.read(workspace.folder / "params.yaml")


def test_a_bound_and_an_incomplete_row_are_shown_and_not_ranked(plan: Plan, workspace: Any) -> None:
    results = plan.layout.results
    assert ScoreFile.read(results / "scores" / "limit" / "human36m.json").bound
    assert "bound" not in ScoreFile.read(results / "scores" / "limit" / "human36m.json").provenance.options
    lines = [line.split() for line in summary(plan).splitlines() if "mpjpe" in line]
    assert [line[2] for line in lines] == ["dlt", "shy", "limit"]
    assert lines[1][-3:] == ["(incomplete,", "not", "ranked)"]
    assert lines[2][-1] == "(bound)"
    workspace.must("report")
    with (plan.layout.page / "leaderboard.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "T1"]
    assert [(row["method"], row["rank"], row["bound"]) for row in rows] == [
        ("dlt", "1", "False"), ("shy", "", "False"), ("limit", "", "True")]  # fmt: skip


def test_compare_ranks_no_bound(plan: Plan, workspace: Any) -> None:
    (plan.layout.results / "scores" / "shy" / "human36m.json").unlink()
    workspace.must("compare", "human36m")
    (table,) = [
        one
        for one in ComparisonFile.read(plan.layout.results / "comparisons" / "human36m.json").tables
        if one.table == "T1"
    ]
    assert [rank.method for rank in table.ranks] == ["dlt"]
    assert table.unranked == ["limit"]
    assert [pair.decided for pair in table.pairs] == [False]


def test_of_the_committed_rows_the_true_cameras_are_a_bound() -> None:
    rows = Plan.read(ROOT / "params.yaml").rows
    assert [name for name, row in rows.items() if row.bound] == ["true_cameras"]
