"""The main page: what its sections show."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from fabricated_results import (
    INCOMPLETE,
    LEVELS,
    edit_scores,
    provenance,
    write_data,
    write_everything,
    write_judged,
    write_method,
    write_published,
)
from matplotlib.image import imsave
from page_reader import page

from poseboard.protocols.records import PublishedTable, ResultError, ScoreFile, TrainingFile
from poseboard.protocols.scoring import PREDICTED_PER_TRUE
from poseboard.report.site import build


def test_an_empty_folder_gives_a_page_that_says_what_would_fill_it(tmp_path: Path) -> None:
    written = build(tmp_path / "results", "default", tmp_path / "out")
    assert written[0] == tmp_path / "out" / "index.html"
    text = page(written[0]).text
    assert "make repro" in text
    assert "results/default/data" in page(tmp_path / "out" / "data.html").text
    assert "are from a synthetic world" not in text


def test_the_first_page_is_short_and_says_what_was_found_and_which_tables_are_reproduced(site: Path) -> None:
    found = page(site / "index.html")
    assert (site / "index.html").stat().st_size < 300_000
    assert 1 <= found.text.count("is significantly better than") <= 3
    (status,) = (table for table in found.tables if "status" in table.classes)
    words = [text for _, text in status.cells if text in ("synthetic stand-in", "published only")]
    assert len(words) == 10
    assert {"synthetic stand-in", "published only"} == {*words}
    assert "data.html#panoptic" in found.links()


def test_every_page_has_the_same_menu_and_its_place_in_it(site: Path) -> None:
    menus = {}
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        menu = text[text.index('<nav class="menu"') :].partition("</nav>")[0]
        menus[path] = [name.strip() for name in re.findall(r"<a[^>]*>([^<]*)</a>", menu)]
        assert menu.count("aria-current") == (path.name != "index.html" or path.parent != site), path
    assert len({tuple(menu) for menu in menus.values()}) == 1
    assert {"Boards", "Papers", "Curves", "Differences", "Methods", "Data", "How to read"} <= {*menus.popitem()[1]}


def test_the_board_shows_value_interval_rank_and_cost(site: Path) -> None:
    found = page(site / "boards/human36m.html")
    cells = [text for _, text in found.cells]
    for level in LEVELS.values():
        assert any(cell.startswith(f"{level:.1f} [") for cell in cells)
    assert "3 [3–4]" in cells
    with (site / "leaderboard.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "T1"]
    order = [*(method for method in LEVELS if method != INCOMPLETE), INCOMPLETE]
    assert [row["method"] for row in rows] == order
    assert [float(row["value"]) for row in rows] == [LEVELS[method] for method in order]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", ""]
    assert rows == [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in json.loads((site / "leaderboard.json").read_text())
        if row["table"] == "T1"
    ]


def test_missing_poses_stand_beside_every_number(site: Path) -> None:
    """ransac lacks 3 poses of 900 (864 under T2): in the main board in a column, everywhere else at the number."""
    found = page(site / "boards/human36m.html")
    cells = [*found.cells, *page(site / "curves" / "cameras.html").cells]
    cells += [cell for path in site.glob("papers/*.html") for cell in page(path).cells]
    beside = [text for _, text in cells if re.search(r"3 of (900|864) missing", text)]
    # further measures, three numbers of cameras, tables T1 and T2 of the papers
    assert len(beside) >= 6
    assert "Such a row has no rank, is never best, and is listed below the complete rows." in found.text
    assert "– 85.9 [" in found.text, "a dash instead of a rank"
    method = page(site / "methods" / "ransac.html")
    assert "of 900 missing" in method.text
    assert "Such a row has no rank" in method.text
    assert "missing" not in " ".join(text for _, text in page(site / "methods" / "dlt.html").cells)


def test_the_page_starts_with_the_finding_and_ranks_no_bound(results: Path, tmp_path: Path) -> None:
    source = tmp_path / "results"
    shutil.copytree(results, source)
    edit_scores(source, "algebraic", bound=True)
    write_judged(source)
    build(source, "default", tmp_path / "out")
    html = (tmp_path / "out" / "boards/human36m.html").read_text(encoding="utf-8")
    board = html[html.index('<section id="board">') : html.index('<section id="differences">')]
    assert re.search(
        r"<h2>Leaderboard</h2>\s*<p>dlt_peak is significantly better than both other ranked rows by ", board
    )
    ranked, _, row = board.partition('<tr class="heading">')
    assert "algebraic</a>" not in ranked
    row = row[: row.index("</tr>", row.index("</tr>") + 1)]
    assert "Bounds, not ranked" in row
    assert "algebraic</a>" in row
    assert 'data-label="Rank (T1)" data-value="">–' in row
    assert re.findall(r'data-value="([^"]*)">71\.9', row) == [""], "no column is sorted by its number"
    assert "<b>" not in row


def test_the_spread_of_training_and_every_paper_are_on_the_page(site: Path) -> None:
    found = page(site / "boards/human36m.html")
    assert "the standard deviation between trainings is 0.5 mm" in found.text
    assert "0: 71.9, 1: 72.9, 2: 72.4" in [text.replace("\xa0", " ") for _, text in found.cells]
    papers = " ".join(page(path).text for path in site.glob("papers/*.html"))
    for k in range(1, 11):
        assert f"Title of table {k} T{k} " in papers
    assert "README of the code release" in papers
    assert "research licence" in papers


def test_a_page_without_the_run_of_several_seeds_claims_less(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results", ignore=shutil.ignore_patterns("seeds"))
    write_judged(tmp_path / "results")
    build(tmp_path / "results", "default", tmp_path / "out")
    text = page(tmp_path / "out" / "boards/human36m.html").text
    assert "the variation between trainings is not known" in text
    assert "its rank is between 1 and " in text


def test_our_boxes_stand_beside_a_published_number_of_known_boxes(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "ransac", 80.0)
    write_published(tmp_path)
    path = tmp_path / "default" / "scores" / "ransac" / "human36m.json"
    file = ScoreFile.read(path)
    boxes = {"boxes": "true joints"}
    scores = [s.model_copy(update={"signature": s.signature.model_copy(update=boxes)}) for s in file.scores]
    file.model_copy(update={"scores": scores}).write(path)
    table = PublishedTable.read(tmp_path / "published" / "T1.yaml").model_copy(
        update={"signature": {"boxes": "detected"}}
    )
    (tmp_path / "published" / "T1.yaml").write_text(yaml.safe_dump(table.model_dump(mode="json")))
    build(tmp_path, "default", tmp_path / "page")
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((tmp_path / "page" / "papers").iterdir()))
    first, second, *_ = re.findall(r'<tr><th scope="row"><a[^>]*>RANSAC<.*?</tr>', text, re.DOTALL)  # of T1 and T2
    assert "boxes: true joints" in first
    assert "boxes:" not in second


def test_pictures_of_real_people_stay_off_the_page(tmp_path: Path) -> None:
    for synthetic in (True, False):
        name = f"synthetic-{synthetic}"
        path = write_data(tmp_path, name, [f"{name}.png"], synthetic=synthetic)
        imsave(path.with_suffix(".png"), np.zeros((4, 4, 3), dtype=np.uint8))
    build(tmp_path, "default", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8").lower()
    assert "people of synthetic-true" in page
    assert "people of synthetic-false" not in page
    assert not list((tmp_path / "out").rglob("*synthetic-false*"))


def test_all_commits_stand_at_the_foot(tmp_path: Path) -> None:
    for k, method in enumerate(("dlt", "ransac", "algebraic")):
        write_method(tmp_path, "human36m", method, 80.0 + k)
        made = {"git_commit": f"{min(k, 1)}" * 40, "created": f"2026-11-2{k}T00:00:00+00:00"}
        edit_scores(tmp_path, method, provenance=provenance(method).model_copy(update=made))
    build(tmp_path, "default", tmp_path / "out")
    text = page(tmp_path / "out" / "index.html").text
    head, foot = text[: text.rindex("These results")], text[text.rindex("These results") :]
    assert "1111111111" not in head
    assert "1111111111 (2 results), 0000000000 (1 result)" in foot
    assert "Check out 1111111111" in foot


def test_the_contact_sheet_is_a_small_jpeg(tmp_path: Path) -> None:
    write_data(tmp_path, "d", ["sheet.png"])
    noise = np.random.default_rng(0).integers(0, 256, (1200, 2000, 3), dtype=np.uint8)  # no picture is larger
    imsave(tmp_path / "default" / "data" / "sheet.png", noise)
    build(tmp_path, "default", tmp_path / "out")
    (picture,) = (tmp_path / "out" / "pictures").iterdir()
    assert picture.read_bytes()[:2] == b"\xff\xd8"
    assert picture.stat().st_size < 300_000
    (tmp_path / "default" / "data" / "sheet.png").write_bytes(b"no picture")
    with pytest.raises(ResultError, match=r"sheet\.png: cannot be read as a picture"):
        build(tmp_path, "default", tmp_path / "out")


def test_rows_taken_out_of_the_run_are_not_shown(results: Path, tmp_path: Path) -> None:
    build(results, "default", tmp_path, rows=dict.fromkeys(("algebraic", "dlt"), ("human36m",)))
    found = page(tmp_path / "boards/human36m.html")
    assert "dlt_peak" not in found.text
    assert not (tmp_path / "methods" / "ransac.html").exists()
    assert (tmp_path / "methods" / "dlt.html").is_file()
    # the comparison at hand is of other rows, and says nothing about these
    assert "There is no comparison" in found.text


def test_results_from_outside_of_git_say_that_their_commit_is_not_known(tmp_path: Path) -> None:
    write_method(tmp_path / "results", "human36m", "algebraic", 60.0)
    unknown = provenance("algebraic").model_copy(update={"git_commit": None, "git_dirty": None})
    edit_scores(tmp_path / "results", "algebraic", provenance=unknown)
    build(tmp_path / "results", "default", tmp_path / "out")
    for name in ("index.html", "methods/algebraic.html"):
        text = page(tmp_path / "out" / name).text
        assert "commit not known" in text
        assert "uncommitted" not in text
    assert {row["git_commit"] for row in json.loads((tmp_path / "out/leaderboard.json").read_text())} == {None}


def test_training_of_a_row_counts_every_training_its_weights_have_been_through(results: Path, site: Path) -> None:
    seconds = {
        method: sum(
            run.processor_seconds or 0.0
            for run in TrainingFile.read(results / f"default/training/{method}/human36m.json").runs
        )
        for method in ("backbone", "ransac", "algebraic")
    }
    found = page(site / "boards/human36m.html")
    cells = [text for _, text in found.cells]
    with_backbone = round(seconds["backbone"] + seconds["algebraic"])
    assert f"{with_backbone} own {round(seconds['algebraic'])}" in cells
    assert f"{round(seconds['backbone'] + seconds['ransac'])} own 0" in cells  # dlt: nothing of its own


def test_numbers_of_predicted_people_state_who_is_false_and_who_is_not_judged(tmp_path: Path) -> None:
    write_everything(tmp_path)
    for path in (tmp_path / "default" / "scores").glob("*/*.json"):
        file = ScoreFile.read(path)
        of_people = [
            one.model_copy(
                update={
                    "counted": "people",
                    "n_false": 1234,
                    "n_unjudged": 56,
                    "secondary": {PREDICTED_PER_TRUE: 300.5},
                }
            )
            for one in file.scores
        ]
        file.model_copy(update={"scores": of_people}).write(path)
    build(tmp_path, "default", tmp_path / "pages")
    index, method = (page(tmp_path / "pages" / name) for name in ("boards/human36m.html", "methods/dlt.html"))
    beside = [text for shown in (index, method) for _, text in shown.cells if "false" in text]
    assert len(beside) > 10
    assert all("1 234 false" in " ".join(text.split()) and "56 unjudged" in text for text in beside)
    assert all(any("predicted per true person 300.5" in text for _, text in shown.cells) for shown in (index, method))
    assert re.search(r"n = \d+ person instances, \d+ sequences", index.text)
    assert not re.search(r"n = \d+ poses", index.text)
    flat = json.loads((tmp_path / "pages" / "leaderboard.json").read_text(encoding="utf-8"))
    assert {(row["counted"], row["n_false"], row["n_unjudged"]) for row in flat} == {("people", 1234, 56)}
    assert {row["secondary"] for row in flat} == {"predicted per true person: 300.5"}
