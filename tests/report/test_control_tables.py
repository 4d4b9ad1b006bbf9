"""Controls on the page: a row's number beside that of the same people shown as in training, and the increase."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fabricated_results import LEVELS, score, write_everything

from poseboard.protocols.records import ComparisonFile, ControlComparison, Increase, ScoreFile, SeedValue
from poseboard.report import board
from poseboard.report.controls import controls
from poseboard.report.results import read_results
from poseboard.report.site import build

ROWS = {"dlt": 20.0, "algebraic": 10.0}
STALE = "ransac"
NOTE = "The same people before the cameras of the training."


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows with an increase, and one that was scored again since."""
    folder = tmp_path_factory.mktemp("results")
    write_everything(folder)
    of_table = None
    known_value = {}
    for name in (*ROWS, STALE):
        path = folder / "default" / "scores" / name / "human36m.json"
        record = ScoreFile.read(path)
        plain = score(name, LEVELS[name], "elsewhere", np.random.default_rng(0))
        other = plain.model_copy(update={"headline": False, "title": "Other cameras", "n_missing": 0})
        split = {"signature": other.signature.model_copy(update={"split": "known"})}
        known_value[name] = LEVELS[name] / (1 + ROWS.get(name, 0) / 100)
        known = other.model_copy(
            update={"table": "known", "title": "Known cameras", "value": known_value[name], "notes": [NOTE], **split}
        )
        record.model_copy(update={"scores": [*record.scores, other, known]}).write(path)
        of_table = other.signature
    assert of_table is not None
    found = [
        Increase(
            method=name,
            value=value,
            ci95=(value - 7, value + 8),
            n_samples=897,
            n_people=20,
            seeds=[SeedValue(seed=0, value=value)],
            scores=(known_value[name] + (name == STALE), LEVELS[name]),
        )
        for name, value in {**ROWS, STALE: 5.0}.items()
    ]
    path = folder / "default" / "comparisons" / "human36m.json"
    compared = ControlComparison(table="elsewhere", control="known", signature=of_table, increases=found)
    ComparisonFile.read(path).model_copy(update={"controls": [compared]}).write(path)
    return folder


def test_rows_stand_beside_their_control_the_least_increase_first(results: Path) -> None:
    (table,) = controls(board.boards(read_results(results, "default")))
    assert [one.table for one in table.columns] == ["known", "elsewhere"]
    assert list(table.increases) == ["algebraic", "dlt"], "what was scored again since has none"
    assert table.methods == ("algebraic", "dlt", STALE)
    assert (table.people, table.few, table.trainings) == (20, False, 1)


def test_the_page_has_a_table_and_a_plot(results: Path, tmp_path: Path) -> None:
    written = {path.name for path in build(results, "default", tmp_path)}
    assert "human36m-elsewhere-increase-1.svg" in written
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="controls">') : page.index('<section id="actions">')]
    assert section.count('class="plot"') == 1
    assert "+20.0" in section
    assert "[+13.0, +28.0]" in section
    assert NOTE in section
    assert "of one training" in section
    assert section.count('data-label="Increase, %" data-value=""') == 1, "the row that was scored again"
    assert 'href="#controls"' in page
    further = page[page.index('<section id="board">') : page.index('<section id="differences">')]
    assert "elsewhere" in further
    assert "known" not in further.replace("not known", ""), "a control does not stand among the others"


def test_without_a_control_there_is_no_section(results: Path, tmp_path: Path) -> None:
    path = results / "default" / "comparisons" / "human36m.json"
    before = path.read_bytes()
    ComparisonFile.read(path).model_copy(update={"controls": []}).write(path)
    try:
        assert controls(board.boards(read_results(results, "default"))) == []
        build(results, "default", tmp_path)
    finally:
        path.write_bytes(before)
    assert "controls" not in (tmp_path / "index.html").read_text(encoding="utf-8")
