"""The pictures of the README: drawn from results, and never older than those in git."""

from pathlib import Path

import numpy as np
import pytest
from fabricated_results import INCOMPLETE, write_everything
from matplotlib.image import imsave
from PIL import Image

from poseboard.benchmarks.plan import Plan
from poseboard.protocols.records import DataFile, ResultError, ScoreFile
from poseboard.report import plots
from poseboard.report.board import boards
from poseboard.report.drawing import charts
from poseboard.report.page import Site, row_slots
from poseboard.report.pictures import CHROMIUM, PEOPLE, SCREEN, current, drawn, write_pictures
from poseboard.report.results import read_results

ROOT = Path(__file__).resolve().parents[2]
ROWS = {"algebraic": ("human36m",), "ransac": ("human36m",), "dlt": ("human36m",)}
COLOURS = {"dlt": "grey"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_everything(tmp_path)
    (record,) = (tmp_path / "default" / "data").glob("human36m.json")
    for name in DataFile.read(record).pictures:
        imsave(record.with_name(name), np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8))
    return tmp_path


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_pictures_carry_what_they_show_and_are_old_once_it_changes(home: Path) -> None:
    results = read_results(home, "default", ROWS)
    index = home / "index.html"
    index.write_text("<body style='background: #0000ff'>")
    paths = write_pictures(results, ROWS, COLOURS, index, home / "images")
    assert [path.name for path in paths] == [PEOPLE, SCREEN]
    before = current(results, ROWS, COLOURS)
    assert {path.name: drawn(path) for path in paths} == before
    with Image.open(paths[0]) as people, Image.open(paths[1]) as screen:
        assert people.size == (160, 40)
        assert screen.convert("RGB").getcolors() == [(1440 * 1080, (0, 0, 255))]
    contents = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_pictures(results, ROWS, COLOURS, index, home / "images")] == contents

    path = home / "default" / "scores" / "dlt" / "human36m.json"
    file = ScoreFile.read(path)
    scores = [score.model_copy(update={"value": 70.0}) if score.table == "T1" else score for score in file.scores]
    file.model_copy(update={"scores": scores}).write(path)
    after = current(read_results(home, "default", ROWS), ROWS, COLOURS)
    assert after[SCREEN] != before[SCREEN]
    assert after[PEOPLE] == before[PEOPLE]
    record = home / "default" / "data" / "human36m.json"
    DataFile.read(record).model_copy(update={"manifest": "f" * 64}).write(record)
    assert current(read_results(home, "default", ROWS), ROWS, COLOURS)[PEOPLE] != before[PEOPLE]


def test_a_row_with_missing_predictions_is_not_drawn(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn_rows = []
    intervals = charts.intervals
    monkeypatch.setattr(
        charts, "intervals", lambda scores, *rest: drawn_rows.extend(scores) or intervals(scores, *rest)
    )
    results = read_results(home, "default", ROWS)
    site = Site(results, boards(results), row_slots(results, ROWS, COLOURS), {})
    plots.intervals(site, next(iter(site.mains.values()))[0])
    assert set(drawn_rows) == set(ROWS) - {INCOMPLETE}


def test_nothing_is_written_without_a_contact_sheet(home: Path) -> None:
    for path in (home / "default" / "data").glob("*.png"):
        path.unlink()
    with pytest.raises(ResultError, match="there is no contact sheet; run `poseboard data prepare`"):
        write_pictures(read_results(home, "default", ROWS), ROWS, COLOURS, home / "index.html", home / "images")
    assert not (home / "images").exists()


def test_the_pictures_of_the_readme_show_the_recorded_results() -> None:
    settings = Plan.read(ROOT / "params.yaml").in_profile("default")
    rows = {row: settings.may_run(row) for row in settings.rows}
    results = read_results(ROOT / "results", "default", rows)
    in_git = {name: drawn(ROOT / "report" / "images" / name) for name in (SCREEN, PEOPLE)}
    old = "the pictures are older than the results: run `poseboard report --pictures --profile default`"
    assert in_git == current(results, rows, settings.params.colours), old
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = {path.name for path in (ROOT / "report" / "images").iterdir()}
    assert pictures == set(in_git), "a picture that no command draws cannot be kept up to date"
    assert all(f"(report/images/{name})" in readme for name in pictures)
