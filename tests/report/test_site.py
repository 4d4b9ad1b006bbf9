"""The pages: complete, labelled, harmless, and the same bytes twice."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml
from fabricated_results import (
    INCOMPLETE,
    LEVELS,
    provenance,
    score,
    write_everything,
    write_method,
    write_pictures,
    write_published,
)
from matplotlib.image import imsave

from poseboard.protocols.records import DataFile, PublishedTable, ResultError, ScoreFile, TrainingFile
from poseboard.protocols.scoring import PREDICTED_PER_TRUE
from poseboard.report.site import build

HOSTILE = "../../<img src=x onerror=alert(1)>\"'&$x^2$\x1b"


@dataclass
class Table:
    """A table: its classes, its cells, what the cells say they are, and the tags in it."""

    classes: set[str]
    cells: list[tuple[str, str]] = field(default_factory=list)
    labels: list[tuple[list[str], str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """Tags with their attributes, ids, and text, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.cells: list[tuple[str, str]] = []
        self.tables: list[Table] = []
        self._cell: list[str] | None = None
        self._class = ""
        self._tag = False
        self._open = False
        self._row: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        found = dict(attrs)
        self._tag = tag == "span" and "tag" in (found.get("class") or "").split()
        if tag == "table":
            self.tables.append(Table(set((found.get("class") or "").split())))
            self._open = True
        if tag == "td":
            self._cell, self._class = [], found.get("class") or ""
            if "groups" not in self._row:
                self.tables[-1].labels.append((self._class.split(), found.get("data-label") or ""))
        if tag == "tr":
            self._row = (found.get("class") or "").split()

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._open = False
        if tag == "td" and self._cell is not None:
            self.cells.append((self._class, "".join(self._cell).strip()))
            self.tables[-1].cells.append(self.cells[-1])
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._tag and self._open:
            self.tables[-1].tags.append(data)
            self._tag = False
        if self._cell is not None:
            self._cell.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def links(self) -> Iterator[str]:
        for _, attributes in self.tags:
            yield from (attributes[name] for name in ("href", "src") if name in attributes)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_everything(folder)
    return folder


@pytest.fixture(scope="module")
def site(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    build(results, "default", out)
    return out


def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_an_empty_folder_gives_a_page_that_says_what_would_fill_it(tmp_path: Path) -> None:
    written = build(tmp_path / "results", "default", tmp_path / "out")
    assert written[0] == tmp_path / "out" / "index.html"
    text = page(written[0]).text
    assert "make repro" in text
    assert "results/default/data" in text
    assert "are from a synthetic world" not in text


def test_all_that_is_written_is_reported_and_lies_inside(results: Path, tmp_path: Path) -> None:
    written = build(results, "default", tmp_path / "out")
    assert sorted(written) == sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert len(written) == len(set(written))


def test_same_results_give_the_same_bytes(results: Path, site: Path, tmp_path: Path) -> None:
    for path in build(results, "default", tmp_path):
        assert path.read_bytes() == (site / path.relative_to(tmp_path)).read_bytes(), path.name


def test_the_board_shows_value_interval_rank_and_cost(site: Path) -> None:
    found = page(site / "index.html")
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
    found = page(site / "index.html")
    beside = [text for _, text in found.cells if re.search(r"3 of (900|864) missing", text)]
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
    path = source / "default" / "scores" / "algebraic" / "human36m.json"
    ScoreFile.read(path).model_copy(update={"bound": True}).write(path)
    build(source, "default", tmp_path / "out")
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    board = html[html.index('<section id="board">') : html.index('<section id="differences">')]
    assert re.search(r"<h3>human36m</h3>\s*<p>dlt_peak is significantly better than both other ranked rows by ", board)
    row = board[board.index('<tr class="bound">') :]
    row = row[: row.index("</tr>")]
    assert "algebraic</a>" in row
    assert "bound, unranked" in row
    assert 'data-label="Rank (T1)" data-value="">–' in row
    assert re.findall(r'data-value="([^"]*)">71\.9', row) == [""], "no column is sorted by its number"
    assert "<b>" not in row


def test_a_board_without_a_ranked_row_says_that_nothing_is_decided(results: Path, tmp_path: Path) -> None:
    source = tmp_path / "results"
    shutil.copytree(results, source)
    for path in (source / "default" / "scores").glob("*/human36m.json"):
        ScoreFile.read(path).model_copy(update={"bound": True}).write(path)
    build(source, "default", tmp_path / "out")
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert re.search(r"<h3>human36m</h3>\s*<p>Nothing is decided by ", html)


def test_of_many_numbers_the_first_are_listed_and_the_others_folded(
    results: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(folder: Path) -> list[list[str]]:
        tables = page(folder / "methods" / "dlt.html").tables
        return [[text for _, text in table.cells] for table in tables if "numbers" in table.classes]

    assert "further numbers" not in page(site / "methods" / "dlt.html").text
    monkeypatch.setattr("poseboard.report.method_page.MOST_LISTED", 1)
    build(results, "default", tmp_path)
    folded = page(tmp_path / "methods" / "dlt.html")
    assert re.search(r"\d+ further numbers on human36m", folded.text)
    (whole,), (first, others) = listed(site), listed(tmp_path)
    assert 0 < len(first) < len(whole)
    assert sorted(first + others) == sorted(whole)


def test_the_spread_of_training_is_on_the_page(site: Path, results: Path, tmp_path: Path) -> None:
    text = page(site / "index.html").text
    assert "The value is of one training; the standard deviation between trainings is 0.5 mm" in text
    assert "step-down comparison" in text
    assert "Over several trainings" in text
    cells = [text.replace("\xa0", " ") for _, text in page(site / "index.html").cells]
    assert "0: 71.9, 1: 72.9, 2: 72.4" in cells
    alone = tmp_path / "results"
    shutil.copytree(results, alone, ignore=shutil.ignore_patterns("seeds"))
    build(alone, "default", tmp_path / "out")
    text = page(tmp_path / "out" / "index.html").text
    assert "the variation between trainings is not known" in text
    assert "Over several trainings" not in text


def test_every_paper_table_is_there_with_its_sources(site: Path) -> None:
    text = page(site / "index.html").text
    for k in range(1, 11):
        assert f"Title of table {k} T{k} " in text
    assert "README of the code release" in text
    assert "Ours are absent: panoptic is missing." in text
    assert "research licence" in text
    assert (
        "Ours are absent: mupots is missing. MuPoTS-3D (non-commercial research): no adapter. Where to get it:" in text
    )
    assert "Other known data sets" in text


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
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    first, second, *_ = re.findall(r'<tr><th scope="row">RANSAC<.*?</tr>', text)  # of T1 and T2
    assert "boxes: true joints" in first
    assert "boxes:" not in second


def test_every_table_with_our_numbers_says_once_that_they_are_synthetic(results: Path, site: Path) -> None:
    entries = [ScoreFile.read(path) for path in results.glob("default/scores/*/*.json")]
    values = {f"{s.value:.1f}" for entry in entries for s in entry.scores}
    values |= {f"{v:.1f}" for e in entries for s in e.scores for kind in s.breakdown.values() for v in kind.values()}
    for path in (site / "index.html", *site.glob("methods/*.html")):
        found = page(path)
        ours = 0
        for table in found.tables:
            numbers = {
                number
                for classes, text in table.cells
                if not re.search("published|words", classes)
                for number in re.findall(r"(?<![\d.])\d+\.\d(?!\d)", text)
            }
            if numbers & values:
                ours += 1
                assert table.tags == ["synthetic world"], (path.name, table.cells[:3])
            else:
                assert table.tags.count("synthetic world") <= 1, path.name  # of differences
        assert ours
        assert not any(tag == "sup" for tag, _ in found.tags)
    for figure in (site / "figures").glob("*.svg"):
        assert "synthetic world" in figure.read_text(encoding="utf-8"), figure.name


def test_tables_are_named_by_what_they_measure_and_then_by_their_id(site: Path) -> None:
    text = page(site / "index.html").text
    assert "By MPJPE, root-relative, algebraic is best" in text
    assert re.search(r"MPJPE, root-relative every 64th frame · mean of the actions · T1 ", text)
    assert re.search(r"MPJPE, absolute every 64th frame · without 3 sequences · T2 ", text)
    svg = (site / "figures" / "human36m-intervals.svg").read_text(encoding="utf-8")
    assert "MPJPE, root-relative, mm, synthetic world" in svg
    with (site / "leaderboard.csv").open(encoding="utf-8") as file:
        assert {"T1", "T2"} <= {row["table"] for row in csv.DictReader(file)}


def test_a_column_is_sorted_best_first_and_every_cell_knows_its_column(site: Path) -> None:
    found = page(site / "index.html")
    heads = [attributes for tag, attributes in found.tags if tag == "th" and "data-column" in attributes]
    assert heads
    assert any(attributes.get("data-first") == "descending" for attributes in heads)  # PCK
    script = (site / "index.html").read_text(encoding="utf-8")
    assert 'head.setAttribute("aria-sort", order)' in script
    for name in ("index.html", "methods/algebraic.html"):
        for table in page(site / name).tables:
            if "stack" in table.classes:
                bare = [
                    classes for classes, label in table.labels if not label and not {"none", "interval"} & {*classes}
                ]
                assert not bare, (name, table.cells[:3])


def test_no_head_of_a_table_is_empty_and_every_plot_has_a_name(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<th[^>]*>\s*</th>", text), path.name
        for tag, attributes in page(path).tags:
            if tag == "svg" and attributes.get("role") == "img":
                assert attributes["aria-label"], path.name


def test_regions_and_sort_buttons_of_a_page_have_names_of_their_own(site: Path) -> None:
    for path in site.rglob("*.html"):
        labels = [attributes["aria-label"] for _, attributes in page(path).tags if attributes.get("role") == "region"]
        assert len(labels) == len({*labels}), path.name
    text = (site / "index.html").read_text(encoding="utf-8")
    board = re.search(r'<table class="board.*?</thead>', text, re.DOTALL)
    assert board is not None
    heads = re.findall(r"<th[^>]* data-column=[^>]*>(.*?)</th>", board[0], re.DOTALL)
    assert len(heads) > 4
    assert len(heads) == len({*heads})


def test_the_foot_says_how_to_regenerate_add_and_cite(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = page(path).text
        for words in ("Regenerate Check out a454ba0c1d and run make repro", "Add a row", "CITATION.cff"):
            assert words in text, (path.name, words)


def test_links_resolve_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loading = {"img", "script", "link", "iframe", "source", "image", "use", "object", "embed"}
    for path in site.rglob("*.html"):
        found = page(path)
        ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
        assert len(ids) == len(set(ids)), path.name
        for tag, attributes in found.tags:
            for name in ("href", "src"):
                link = attributes.get(name, "")
                if tag in loading:
                    assert not re.match(r"(?:[a-z]+:)?//", link), link
                if link.startswith("#"):
                    assert link[1:] in ids, link
                elif link and not link.startswith(("https://", "data:image/png;base64,")):
                    assert (path.parent / unquote(link.split("#")[0])).resolve().is_file(), link
        text = path.read_text(encoding="utf-8")
        assert "@import" not in text
        assert not re.search(r"url\((?!#)", text)


def test_hostile_names_stay_text_and_never_become_paths(tmp_path: Path) -> None:
    results, out = tmp_path / "results", tmp_path / "deep" / "er" / "out"
    formulas = (HOSTILE, "=cmd()|x", "two lines\r=cmd()", "\x00 +1", "\u2028@x")
    for k, title in enumerate(formulas):
        known = score("evil", 50.0, "T1", np.random.default_rng(0))
        file = ScoreFile(
            method=f"evil{k}", dataset="evil", synthetic=True, profile="default", provenance=provenance("evil"),
            scores=[known.model_copy(update={"title": title, "unit": HOSTILE})],
        )  # fmt: skip
        file.write(results / "default" / "scores" / f"evil{k}" / "evil.json")
    DataFile(
        dataset="evil", synthetic=True, state="missing", detail=HOSTILE, obtain="javascript:alert(1)", manifest=None
    ).write(results / "default" / "data" / "x.json")
    written = build(results, "default", out)
    for path in written:
        assert path.resolve().is_relative_to(out.resolve())
    assert sorted(p for p in tmp_path.rglob("*.html")) == sorted(p for p in written if p.suffix == ".html")
    for path in (path for path in written if path.suffix == ".html"):
        found = page(path)
        assert not any("onerror" in attributes for _, attributes in found.tags)
        assert not any(tag == "img" for tag, _ in found.tags)
        assert not any(link.startswith("javascript") for link in found.links())
        assert len([tag for tag, _ in found.tags if tag == "script"]) == 1
    assert any(HOSTILE[:10] in words for words in page(written[0]).words)
    raw = (out / "leaderboard.csv").read_bytes()
    assert not re.search(rb"[\r\x00]|\xe2\x80\xa8", raw)
    assert raw.count(b"\n") == len(formulas) + 1
    with (out / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        titles = [row["title"] for row in csv.DictReader(file)]
    assert titles == [HOSTILE.replace("\x1b", " "), "'=cmd()|x", "two lines =cmd()", "'  +1", "' @x"]


def test_a_name_that_is_none_is_refused_by_its_file(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    path = tmp_path / "default/scores/dlt/human36m.json"
    values = json.loads(path.read_text())
    for name in ("method", "dataset", "profile"):
        path.write_text(json.dumps({**values, name: "../../evil"}))
        with pytest.raises(ResultError, match=rf"human36m\.json: {name}: .*'\.\./\.\./evil' is no name"):
            build(tmp_path, "default", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("default/scores/dlt/human36m.json", "{", "cannot be read"),
        ("default/scores/dlt/human36m.json", "{}", "method"),
        ("default/catalog/mupots.json", '{"surprise": 1}', "mend the file"),
        ("default/data/human36m.json", '{"dataset": 3}', "dataset"),
        ("published/T1.yaml", "id: [", "cannot be read"),
        ("speed/x.json", "[]", "speed"),
        ("default/examples/dlt/human36m.npz", "no zip", "cannot be read"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(ResultError, match=re.escape(Path(name).name)) as caught:
        build(tmp_path, "default", tmp_path / "out")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_profile_that_is_not_meant_to_be_read_says_so_on_every_page_and_plot(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    write_method(tmp_path, "human36m", "ransac", 70.0)
    words = "plumbing only: the numbers mean nothing"
    for path in (tmp_path / "default" / "scores").glob("*/*.json"):
        ScoreFile.read(path).model_copy(update={"warning": words}).write(path)
    written = build(tmp_path, "default", tmp_path / "out")
    pages = [path for path in written if path.suffix == ".html"]
    assert len(pages) == 3
    for path in pages:
        found = page(path)
        assert found.text.count(f"Profile default: {words}.") == 1, path.name
        assert any(attributes.get("class") == "warning" for _, attributes in found.tags)
    plots = [path for path in written if path.suffix == ".svg" and not path.name.startswith("training-")]
    assert plots
    for path in plots:
        assert words in path.read_text(encoding="utf-8"), path.name
    assert {row["warning"] for row in json.loads((tmp_path / "out" / "leaderboard.json").read_text())} == {words}


def test_pages_of_a_profile_that_is_meant_to_be_read_carry_no_warning(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert not any(attributes.get("class") == "warning" for _, attributes in page(path).tags)


def test_examples_that_would_run_code_or_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    path = tmp_path / "default/examples/dlt/human36m.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    for change in ({"keys": np.array([{}], dtype=object)}, {"edges": np.array([[0, 99]])}, {"views": np.array(["a"])}):
        np.savez(path, **{**arrays, **change})
        with pytest.raises(ResultError, match=r"dlt/human36m\.npz"):
            build(tmp_path, "default", tmp_path / "out")


@pytest.mark.parametrize("picture", ["../secret.png", "/etc/passwd", "a\\b.png", "page.svg", "page.html"])
def test_a_picture_is_a_plain_file_name(tmp_path: Path, picture: str) -> None:
    file = DataFile(dataset="d", synthetic=True, state="ready", detail="", obtain="", manifest=None, pictures=[picture])
    file.write(tmp_path / "default" / "data" / "d.json")
    with pytest.raises(ResultError, match="pictures"):
        build(tmp_path, "default", tmp_path / "out")


@pytest.mark.parametrize("picture", ["../0.png", "/etc/passwd", "0.svg"])
def test_so_is_one_that_a_method_drew(tmp_path: Path, picture: str) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    folder = tmp_path / "default/predictions/dlt/human36m/pictures"
    write_pictures(folder, picture)
    with pytest.raises(ResultError, match=r"pictures\.json: pictures: "):
        build(tmp_path, "default", tmp_path / "out")
    write_pictures(folder)
    (folder / "0.png").write_bytes(b"no picture")
    with pytest.raises(ResultError, match=r"0\.png: cannot be read as a picture"):
        build(tmp_path, "default", tmp_path / "out")


def test_a_picture_is_no_link_to_another_one(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    folder = tmp_path / "default/predictions/dlt/human36m/pictures"
    write_pictures(folder)
    private = tmp_path / "private.png"
    (folder / "0.png").rename(private)
    (folder / "0.png").symlink_to(private)
    with pytest.raises(ResultError, match=r"pictures\.json: pictures: '0\.png' is a symbolic link; "):
        build(tmp_path, "default", tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.jpg"))
    (folder / "0.png").unlink()
    private.rename(folder / "0.png")
    build(tmp_path, "default", tmp_path / "out")
    assert list((tmp_path / "out").rglob("*.jpg"))


def test_pictures_of_real_people_stay_off_the_page(tmp_path: Path) -> None:
    for synthetic in (True, False):
        name = f"synthetic-{synthetic}"
        file = DataFile(
            dataset=name,
            synthetic=synthetic,
            state="ready",
            detail="",
            obtain="",
            manifest=None,
            pictures=[f"{name}.png"],
        )
        file.write(tmp_path / "default" / "data" / f"{name}.json")
        imsave(tmp_path / "default" / "data" / f"{name}.png", np.zeros((4, 4, 3), dtype=np.uint8))
    build(tmp_path, "default", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8").lower()
    assert "people of synthetic-true" in page
    assert "people of synthetic-false" not in page
    assert not list((tmp_path / "out").rglob("*synthetic-false*"))


def test_a_page_of_what_git_keeps_says_once_how_to_get_pictures(results: Path, tmp_path: Path) -> None:
    sentence = "Contact sheets and drawn predictions are not in git; make repro draws them."
    kept = tmp_path / "results"
    shutil.copytree(results, kept, ignore=shutil.ignore_patterns("examples", "predictions", "*.png"))
    for name in ("one", "two"):
        pictures = [f"{name}-contact-sheet.png"]
        DataFile(
            dataset=name, synthetic=True, state="ready", detail="", obtain="", manifest=None, pictures=pictures
        ).write(kept / "default" / "data" / f"{name}.json")
    build(kept, "default", tmp_path / "out")
    text = page(tmp_path / "out" / "index.html").text
    assert text.count(sentence) == 1
    assert "contact-sheet" not in text
    for path in (tmp_path / "out" / "methods").glob("*.html"):
        assert "redictions</h2>" not in path.read_text(encoding="utf-8")
        assert 'href="#predictions"' not in path.read_text(encoding="utf-8")
    for path in (kept / "default" / "data").glob("*.json"):
        for name in DataFile.read(path).pictures:
            imsave(path.with_name(name), np.zeros((4, 4, 3), dtype=np.uint8))
    build(kept, "default", tmp_path / "out")
    whole = {path.name: sentence in page(path).text for path in (tmp_path / "out").rglob("*.html")}
    assert not whole["index.html"]


def test_one_commit_stands_at_the_top_and_all_of_them_at_the_foot(tmp_path: Path) -> None:
    for k, method in enumerate(("dlt", "ransac", "algebraic")):
        write_method(tmp_path, "human36m", method, 80.0 + k)
        path = tmp_path / "default" / "scores" / method / "human36m.json"
        file = ScoreFile.read(path)
        made = {"git_commit": f"{min(k, 1)}" * 40, "created": f"2026-11-2{k}T00:00:00+00:00"}
        path.unlink()  # a file that differs only by this is not rewritten
        file.model_copy(update={"provenance": file.provenance.model_copy(update=made)}).write(path)
    build(tmp_path, "default", tmp_path / "out")
    text = page(tmp_path / "out" / "index.html").text
    head, foot = text[: text.index("Leaderboard")], text[text.rindex("These results") :]
    assert re.search(r"commit\s+1111111111\s+and 1 earlier", head), head
    assert "0000000000" not in head
    assert "1111111111 (2 results), 0000000000 (1 result)" in foot
    assert "Check out 1111111111" in foot


def test_the_contact_sheet_stands_at_the_top_as_a_small_jpeg(tmp_path: Path) -> None:
    file = DataFile(
        dataset="d", synthetic=True, state="ready", detail="", obtain="", manifest=None, pictures=["sheet.png"]
    )  # fmt: skip
    file.write(tmp_path / "default" / "data" / "d.json")
    noise = np.random.default_rng(0).integers(0, 256, (1200, 2000, 3), dtype=np.uint8)  # no picture is larger
    imsave(tmp_path / "default" / "data" / "sheet.png", noise)
    build(tmp_path, "default", tmp_path / "out")
    (picture,) = (tmp_path / "out" / "pictures").iterdir()
    assert picture.suffix == ".jpg"
    assert picture.read_bytes()[:2] == b"\xff\xd8"
    assert picture.stat().st_size < 300_000
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert text.index(f"pictures/{picture.name}") < text.index('id="board"')
    (tmp_path / "default" / "data" / "sheet.png").write_bytes(b"no picture")
    with pytest.raises(ResultError, match=r"sheet\.png: cannot be read as a picture"):
        build(tmp_path, "default", tmp_path / "out")


def test_a_method_page_says_what_it_is_and_shows_its_readme(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "methods" / "algebraic"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(
        "---\nsummary: It votes. It triangulates.\npaper: A Paper\nyear: 2019\nlink: https://example.org/a\n---\n\n"
        "# Algebraic\n\nWords of it. <script>alert(1)</script>\n"
    )
    folders = {"algebraic": folder, "algebraic_no_conf": folder, "dlt": tmp_path / "absent"}
    path = results / "default" / "scores" / "algebraic" / "human36m.json"
    before = path.read_bytes()
    inputs = {"views": [2, 1000], "intrinsics": True, "extrinsics": True, "crop_px": 96, "root": "none", "window": 1}
    ScoreFile.read(path).model_copy(update={"inputs": inputs}).write(path)
    try:
        build(results, "default", tmp_path / "out", folders=folders)
    finally:
        path.write_bytes(before)
    text = page(tmp_path / "out" / "methods" / "algebraic.html").text
    assert "It votes. It triangulates." in text
    assert re.search(r"Paper A Paper 2019 ?\. ?example\.org/a", text)
    assert re.search(
        r"cameras: 2 or more ?; calibration: intrinsics and extrinsics ?; images: the person’s crops, 96 px", text
    )
    assert "Words of it. <script>alert(1)</script>" in text
    assert "This row is a variant" not in text
    variant = page(tmp_path / "out" / "methods" / "algebraic_no_conf.html").text
    assert re.search(
        r"a variant of algebraic ?, with use_confidences = False ?; all other options are the same", variant
    )
    assert "Inputs not recorded" in variant
    assert 'id="readme"' in (tmp_path / "out" / "methods" / "algebraic.html").read_text(encoding="utf-8")
    assert 'id="readme"' not in (tmp_path / "out" / "methods" / "dlt.html").read_text(encoding="utf-8")


def test_one_method_is_not_scored_twice_and_profiles_do_not_mix(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    write_method(tmp_path, "human36m", "dlt", 70.0, stem="again")
    with pytest.raises(ResultError, match="dlt"):
        build(tmp_path, "default", tmp_path / "out")
    (tmp_path / "default" / "scores" / "again" / "human36m.json").unlink()
    (tmp_path / "default").rename(tmp_path / "smoke")
    with pytest.raises(ResultError, match="profile"):
        build(tmp_path, "smoke", tmp_path / "out")


def test_rows_taken_out_of_the_run_are_not_shown(results: Path, tmp_path: Path) -> None:
    build(results, "default", tmp_path, rows=dict.fromkeys(("algebraic", "dlt"), ("human36m",)))
    found = page(tmp_path / "index.html")
    assert "dlt_peak" not in found.text
    assert not (tmp_path / "methods" / "ransac.html").exists()
    assert (tmp_path / "methods" / "dlt.html").is_file()
    # the comparison at hand is of other rows, and says nothing about these
    assert "There is no comparison" in found.text


def test_rows_of_two_states_of_a_data_set_do_not_share_a_page(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    write_method(tmp_path, "human36m", "ransac", 70.0)
    path = tmp_path / "default" / "scores" / "ransac" / "human36m.json"
    file = ScoreFile.read(path)
    other = file.provenance.model_copy(update={"data_manifest": "1234" * 16})
    file.model_copy(update={"provenance": other}).write(path)
    with pytest.raises(ResultError, match=r"ransac/human36m\.json: provenance\.data_manifest"):
        build(tmp_path, "default", tmp_path / "out")


def test_a_method_page_shows_the_options_in_force(site: Path) -> None:
    text = page(site / "methods" / "algebraic.html").text
    assert "learning_rate = 0.001 , steps = 600 , use_confidences = True" in text


def test_results_from_outside_of_git_say_that_their_commit_is_not_known(tmp_path: Path) -> None:
    write_method(tmp_path / "results", "human36m", "algebraic", 60.0)
    path = tmp_path / "results/default/scores/algebraic/human36m.json"
    record = json.loads(path.read_text())
    record["provenance"] |= {"git_commit": None, "git_dirty": None}
    path.write_text(json.dumps(record))
    build(tmp_path / "results", "default", tmp_path / "out")
    for name in ("index.html", "methods/algebraic.html"):
        text = page(tmp_path / "out" / name).text
        assert "commit not known" in text
        assert "uncommitted" not in text
    assert {row["git_commit"] for row in json.loads((tmp_path / "out/leaderboard.json").read_text())} == {None}


def test_what_a_method_drew_is_on_its_page_alone(site: Path) -> None:
    found = page(site / "methods" / "algebraic.html")
    assert "Right wrist of S9/Posing-1/000000" in found.text
    assert "Right wrist of S9/Eating-1/000064" not in found.text, "its file is not there"
    assert "Brighter is <b>surer</b>." in found.text, "it is text, not markup"
    (picture,) = (site / "pictures").glob("algebraic-human36m-*")
    assert f"../pictures/{picture.name}" in {attributes.get("src") for _, attributes in found.tags}
    assert "Right wrist of" not in page(site / "methods" / "ransac.html").text


def test_training_of_a_row_counts_every_training_its_weights_have_been_through(results: Path, site: Path) -> None:
    seconds = {
        method: sum(
            run.processor_seconds or 0.0
            for run in TrainingFile.read(results / f"default/training/{method}/human36m.json").runs
        )
        for method in ("backbone", "ransac", "algebraic")
    }
    found = page(site / "index.html")
    cells = [text for _, text in found.cells]
    with_backbone = round(seconds["backbone"] + seconds["algebraic"])
    assert f"{with_backbone} own {round(seconds['algebraic'])}" in cells
    assert f"{round(seconds['backbone'] + seconds['ransac'])} own 0" in cells  # dlt: nothing of its own
    titles = [attributes["title"] for tag, attributes in found.tags if tag == "td" and "title" in attributes]
    assert any(title.startswith("backbone → algebraic; 2 CPU cores") for title in titles)
    assert "2 CPU cores (x86-64), 8 GB" in found.text
    tables = [attributes for tag, attributes in found.tags if tag == "th" and "training" in attributes.get("class", "")]
    assert len(tables) == 3  # the board, the further measures, the sweep


def test_predictions_are_drawn_best_median_and_worst(site: Path) -> None:
    found = page(site / "methods" / "ransac.html")
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(images) == 3 * 4
    for place in ("Best", "Median", "Worst"):
        assert f"{place} of the drawn samples" in found.text
    assert "nothing predicted" in found.text
    assert "9c0a" * 16 in found.text


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
    index, method = (page(tmp_path / "pages" / name) for name in ("index.html", "methods/dlt.html"))
    beside = [text for shown in (index, method) for _, text in shown.cells if "false" in text]
    assert len(beside) > 10
    assert all("1 234 false" in " ".join(text.split()) and "56 unjudged" in text for text in beside)
    assert all(any("predicted per true person 300.5" in text for _, text in shown.cells) for shown in (index, method))
    assert re.search(r"n = \d+ people, \d+ sequences", index.text)
    assert not re.search(r"n = \d+ poses", index.text)
    flat = json.loads((tmp_path / "pages" / "leaderboard.json").read_text(encoding="utf-8"))
    assert {(row["counted"], row["n_false"], row["n_unjudged"]) for row in flat} == {("people", 1234, 56)}
    assert {row["secondary"] for row in flat} == {"predicted per true person: 300.5"}
