"""Robustness curves on the page: a table and a plot per kind, and the numbers nowhere among unperturbed ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricated_results import LEVELS, score, write_everything

from poseboard.protocols.perturbation import SCALES, Perturbation
from poseboard.protocols.records import ScoreFile
from poseboard.report import board
from poseboard.report.results import read_results
from poseboard.report.robustness import Predicted, predicted, robustness
from poseboard.report.site import build

ROWS = ("dlt", "algebraic")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows under two kinds, one of which has an area."""
    folder = tmp_path_factory.mktemp("results")
    write_everything(folder)
    for name in ROWS:
        path = folder / "default" / "scores" / name / "human36m.json"
        record = ScoreFile.read(path)
        plain = score(name, LEVELS[name], "human36m-robustness", np.random.default_rng(0))
        scores = [plain.model_copy(update={"headline": False, "published": None})]
        for kind, severity, severities in (
            ("extrinsics", 1, ()), ("extrinsics", 4, ()), ("extrinsics", 4, (0, 1, 4)), ("left_right_swap", 1, ()),
        ):  # fmt: skip
            spoiled = Perturbation.model_validate({"kind": kind, "severity": severity})
            of_it = plain.signature.model_copy(update={"perturbation": spoiled, "severities": severities})
            changes = {"signature": of_it, "value": LEVELS[name] + severity, "ci95": None, "group": len(scores)}
            scores.append(scores[0].model_copy(update=changes))
        record.model_copy(update={"scores": [*record.scores, *scores]}).write(path)
    return folder


def test_a_curve_per_kind_starts_unperturbed_and_ends_in_its_area(results: Path) -> None:
    boards = board.boards(read_results(results, "default"))
    (table,) = robustness(boards)
    extrinsics, swap = table.curves
    assert (extrinsics.kind, extrinsics.severities) == ("extrinsics", (0, 1, 4))
    assert extrinsics.heads == ("unperturbed", "severity 1", "severity 4", "area under the curve")
    assert extrinsics.area is not None
    assert extrinsics.area.signature.severities == (0, 1, 4)
    assert set(extrinsics.methods) == set(ROWS)
    assert extrinsics.curves()["dlt"].x == [0, 1, 4]
    assert extrinsics.curves()["dlt"].y[1:] == [LEVELS["dlt"] + 1, LEVELS["dlt"] + 4]
    assert (swap.kind, swap.severities, swap.area) == ("left_right_swap", (0, 1), None)
    kept = {id(one) for columns in board.main_boards(boards).values() for one in columns}
    assert not kept & {id(one) for curve in table.curves for one in curve.columns[1:]}


def test_a_table_has_its_rows_in_the_order_of_the_unperturbed_numbers(results: Path) -> None:
    (table,) = robustness(board.boards(read_results(results, "default")))
    assert table.unperturbed is not None
    assert table.methods == tuple(row.method for row in table.unperturbed.rows)
    extrinsics, swap = table.curves
    row = table.unperturbed.row("dlt")
    assert row is not None
    assert table.growth(extrinsics, "dlt") == pytest.approx((LEVELS["dlt"] + 4) / row.score.value)
    assert table.growth(swap, "dlt") is None, "it has no area"
    assert "spoiled" not in table.details


def test_predictions_are_counted_once_however_many_tables_have_them(results: Path) -> None:
    boards = board.boards(read_results(results, "default"))
    (table,) = robustness(boards)
    (row, *_) = table.curves[0].columns[1].rows
    expected = Predicted(poses=3 * len(ROWS) * row.score.n_samples, conditions=3, rows=len(ROWS))
    assert predicted([table]) == expected
    again = [replace(one, table="human36m-robustness-pa") for one in boards if one.table == "human36m-robustness"]
    assert len(robustness([*boards, *again])) == 2
    assert predicted(robustness([*boards, *again])) == expected


def test_the_page_shows_tables_and_plots(results: Path, tmp_path: Path) -> None:
    build(results, "default", tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    section = text.partition('<section id="robustness">')[2].partition("</section>")[0]
    assert section.count("<table") == 3, "the areas, and each of two kinds"
    assert "Area under the curve per kind" in section
    assert SCALES["extrinsics"].meaning in section
    assert "Severities 1 to 5: cameras turned by 0.1, 0.25, 0.5, 1, 2°" in section
    assert "cameras turned by 1° and moved by 20 mm per degree" in section
    (plot,) = (tmp_path / "figures").glob("*-robustness-*.svg")
    drawn = plot.read_text(encoding="utf-8")
    assert all(word in drawn for word in (*ROWS, "extrinsics", "left right swap", "severity"))
    others = text.replace(section, "")
    assert "spoiled by" not in others.partition('<section id="compared">')[0]
    assert '<a href="#robustness">' in others
