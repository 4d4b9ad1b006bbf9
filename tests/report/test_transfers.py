"""Transfer on the page: each row's number of its own training beside that of another, and nowhere among usual ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fabricated_results import LEVELS, score, write_everything

from poseboard.protocols.records import PublishedRow, PublishedTable, ScoreFile
from poseboard.report import board
from poseboard.report.drawing import charts
from poseboard.report.papers import paper_tables
from poseboard.report.results import read_results
from poseboard.report.site import build
from poseboard.report.transfers import transfers

ROWS = ("dlt", "algebraic")
TITLE = "Transfer from CMU Panoptic to Human3.6M"
WORSE = 2.5


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows with both trainings, and one whose imported weights alone are of other data."""
    folder = tmp_path_factory.mktemp("results")
    write_everything(folder)
    for name in (*ROWS, "ransac"):
        path = folder / "default" / "scores" / name / "human36m.json"
        record = ScoreFile.read(path)
        plain = score(name, LEVELS[name], "transfer-human36m", np.random.default_rng(0))
        own = plain.model_copy(update={"headline": False, "published": "F2", "title": TITLE, "n_missing": 0})
        elsewhere = own.signature.model_copy(update={"trained_on": ("panoptic",)})
        value = WORSE * LEVELS[name]
        changes = {"signature": elsewhere, "value": value, "ci95": (value - 9, value + 9), "group": 1}
        scores = [own, own.model_copy(update=changes)]
        if name == "ransac":
            imported = own.signature.model_copy(update={"trained_on": ("mpii",)})
            scores = [own.model_copy(update={"signature": imported})]
        record.model_copy(update={"scores": [*record.scores, *scores]}).write(path)
    rows = [PublishedRow(name="algebraic", method="algebraic", values={"paper": 36})]
    PublishedTable(
        id="F2", title=TITLE, paper="Learnable Triangulation of Human Pose (ICCV 2019)", dataset="human36m", unit="mm",
        trained_on=("panoptic",), sources={"paper": "a sentence"}, signature={}, rows=rows,
    ).write(folder / "published" / "F2.yaml")  # fmt: skip
    return folder


def test_rows_with_both_trainings_stand_side_by_side(results: Path) -> None:
    boards = board.boards(read_results(results, "default"))
    (table,) = transfers(boards)
    assert table.heads == ("trained on human36m", "trained on panoptic")
    assert set(table.methods) == set(ROWS)
    assert [one.signature.trained_on for one in table.columns] == [None, ("panoptic",)]
    (other,) = table.others
    for name in ROWS:
        assert table.growth(other, name) == pytest.approx(WORSE)
        assert table.growth(table.own, name) is None
        own, elsewhere = table.pairs(other)[name]
        assert (own.value, elsewhere.value) == (LEVELS[name], WORSE * LEVELS[name])
    assert table.growth(other, "ransac") is None, "it has no number of either"
    kept = {id(one) for columns in board.main_boards(boards).values() for one in columns}
    assert not kept & {id(one) for one in table.columns}


def test_beside_a_published_transfer_stand_weights_of_that_training_first(results: Path) -> None:
    contents = read_results(results, "default")
    (paper,) = [one for one in paper_tables(contents, board.boards(contents)) if one.table.id == "F2"]
    assert [one.signature.trained_on for one in paper.ours] == [("panoptic",), None]
    cells = paper.cells(paper.table.rows[0])
    assert [cell.score.value for cell in cells if cell] == [WORSE * LEVELS["algebraic"], LEVELS["algebraic"]]
    assert paper.extra == ("dlt",)
    assert not paper.absent


def test_the_page_has_a_table_and_a_plot(results: Path, tmp_path: Path) -> None:
    written = {path.name for path in build(results, "default", tmp_path)}
    assert "human36m-transfer-human36m-1.svg" in written
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="transfer">') : page.index('<section id="actions">')]
    assert section.count('class="plot"') == 1
    assert "2.50 ×" in section
    assert "trained on panoptic" in section
    assert 'href="#transfer"' in page
    further = page[page.index('<section id="board">') : page.index('<section id="differences">')]
    assert "trained on mpii" in further
    assert "trained on panoptic" not in further, "what stands side by side does not stand among the others"


def test_bars_are_drawn_for_both_scores_of_each_method(results: Path) -> None:
    (table,) = transfers(board.boards(read_results(results, "default")))
    pairs = table.pairs(table.others[0])
    figure = charts.transfer(pairs, {name: k for k, name in enumerate(pairs)}, ("a", "b"), "MPJPE, mm")
    (axes,) = figure.axes
    assert sorted(bar.get_width() for bar in axes.patches) == sorted(one.value for of in pairs.values() for one in of)
    assert len(axes.lines) == 4, "an interval each"
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(pairs)
