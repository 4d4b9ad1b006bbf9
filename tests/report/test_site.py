"""The pages as a whole: accessible, labelled, harmless, and the same bytes twice."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from fabricated_results import (
    edit_scores,
    provenance,
    score,
    write_method,
)
from page_reader import page

from poseboard.protocols.records import DataFile, ScoreFile
from poseboard.report.site import build
from poseboard.report.site_check import check_site

HOSTILE = "../../<img src=x onerror=alert(1)>\"'&$x^2$\x1b"


def test_same_results_give_the_same_bytes_and_every_file_is_reported(results: Path, site: Path, tmp_path: Path) -> None:
    written = build(results, "default", tmp_path)
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    for path in written:
        assert path.read_bytes() == (site / path.relative_to(tmp_path)).read_bytes(), path.name


def test_every_table_with_our_numbers_says_once_that_they_are_synthetic(results: Path, site: Path) -> None:
    entries = [ScoreFile.read(path) for path in results.glob("default/scores/*/*.json")]
    values = {f"{s.value:.1f}" for entry in entries for s in entry.scores}
    values |= {f"{v:.1f}" for e in entries for s in e.scores for kind in s.breakdown.values() for v in kind.values()}
    for path in (site / "index.html", site / "boards/human36m.html", *site.glob("methods/*.html")):
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


def test_a_column_is_sorted_best_first_and_every_cell_knows_its_column(site: Path) -> None:
    found = page(site / "boards/human36m.html")
    heads = [attributes for tag, attributes in found.tags if tag == "th" and "data-column" in attributes]
    assert heads
    assert any(attributes.get("data-first") == "descending" for attributes in heads)  # PCK
    for name in ("index.html", "boards/human36m.html", "methods/algebraic.html"):
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


def test_the_main_table_of_a_data_set_with_only_weights_of_other_data_is_not_folded(tmp_path: Path) -> None:
    for method in ("dlt", "algebraic"):
        write_method(tmp_path, "human36m", method, 70.0)
        path = tmp_path / f"default/scores/{method}/human36m.json"
        scores = [
            score.model_copy(update={"signature": score.signature.model_copy(update={"trained_on": ("panoptic",)})})
            for score in ScoreFile.read(path).scores
        ]
        edit_scores(tmp_path, method, scores=scores)
    build(tmp_path, "default", tmp_path / "out")
    text = (tmp_path / "out/compare/human36m.js").read_text(encoding="utf-8")
    compared = json.loads(text.partition("= ")[2].rstrip(";\n"))
    assert {board["details"].rpartition(" · ")[2] for board in compared if board["usual"]} > {"T1", "T2"}


def test_links_resolve_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    assert check_site(site) == []
    for path in site.rglob("*.html"):
        ids = [attributes["id"] for _, attributes in page(path).tags if "id" in attributes]
        assert len(ids) == len(set(ids)), path.name


POLICY = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self'">"""


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.html", POLICY + '<a href="b.html">', "link to 'b.html', which does not exist"),
        ("a/b.html", POLICY + '<a href="../../index.html">', "link to '../../index.html', which does not exist"),
        ("a.html", POLICY + '<a href="/index.html">', "link to '/index.html', which does not exist"),
        ("a.html", POLICY + '<a href="index.html#gone">', "index.html has no such anchor"),
        ("a.html", POLICY + '<a href="#gone">', "a.html has no such anchor"),
        ("a.html", POLICY + '<a href="javascript:alert(1)">', "link to 'javascript:alert(1)'"),
        ("a.html", POLICY + '<img src="https://x.example/1.png">', "loads 'https://x.example/1.png' from elsewhere"),
        (
            "a.html",
            POLICY + '<img srcset="1.png 1x, //x.example/1.png 2x">',
            "loads '//x.example/1.png' from elsewhere",
        ),
        ("a.html", POLICY + "<p style=\"background: url('http://x.example')\">", "loads 'http://x.example' from"),
        ("a.html", POLICY + "<style>@import 'http://x.example';</style>", "loads 'http://x.example' from elsewhere"),
        ("a.css", "p { background: url(gone.png) }", "link to 'gone.png', which does not exist"),
        ("a.svg", '<svg><image xlink:href="http://x.example/1.png"/></svg>', "loads 'http://x.example/1.png' from"),
        ("a.html", "<p>", "has no Content-Security-Policy"),
        ("a.html", POLICY.replace("'none'", "*"), "Content-Security-Policy without default-src 'none'"),
        (
            "a.html",
            POLICY.replace("img-src", "script-src 'unsafe-inline'; img-src"),
            "with 'unsafe-inline' in script-src",
        ),
        ("a.html", POLICY.replace("'self'", "https:"), "with https: in img-src"),
    ],
)
def test_each_problem_of_a_site_is_named_with_its_file(tmp_path: Path, name: str, text: str, says: str) -> None:
    works = """<p id="top"><a href="#top=sort:2"></a><a href="https://x.example"></a><img src="1%20.png">"""
    index = POLICY + works + """<img src="data:image/png,">"""
    for file, content in {"index.html": index, "1 .png": "", name: text}.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content)
    problems = check_site(tmp_path)
    assert [problem.file for problem in problems if says in problem.text] == [name], problems
    assert {problem.file for problem in problems} == {name}


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
        scripts = [Path(attributes["src"]).name for tag, attributes in found.tags if tag == "script"]
        assert scripts == ["site.js", "compare.js"][: 1 + (path.name == "compare.html")]
    assert any(HOSTILE[:10] in words for words in page(written[0]).words)
    raw = (out / "leaderboard.csv").read_bytes()
    assert not re.search(rb"[\r\x00]|\xe2\x80\xa8", raw)
    assert raw.count(b"\n") == len(formulas) + 1
    with (out / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        titles = [row["title"] for row in csv.DictReader(file)]
    assert titles == [HOSTILE.replace("\x1b", " "), "'=cmd()|x", "two lines =cmd()", "'  +1", "' @x"]


def test_warnings_of_the_data_are_above_its_board(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    data = tmp_path / "default" / "data" / "human36m.json"
    file = DataFile(dataset="human36m", synthetic=False, state="ready", detail="", obtain="", manifest=None)
    file.write(data)
    assert "warnings" not in data.read_text()
    assert "Check the data" not in page(build(tmp_path, "default", tmp_path / "out")[0]).text
    file.model_copy(update={"warnings": ["elbows bend backwards"]}).write(data)
    index = page(build(tmp_path, "default", tmp_path / "out", url="https://x.example/")[0])
    previews = {attributes.get("property"): attributes.get("content") for _, attributes in index.tags}
    assert previews["og:url"] == "https://x.example/index.html"
    assert previews["og:image"] == "https://x.example/preview.png"
    text = index.text
    assert "Check the data of human36m:" in page(tmp_path / "out" / "data.html").text
    assert text.index("elbows bend backwards") < text.index("Leaderboard of human36m")


def test_a_profile_that_is_not_meant_to_be_read_says_so_on_every_page_and_plot(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    write_method(tmp_path, "human36m", "ransac", 70.0)
    words = "plumbing only: the numbers mean nothing"
    for method in ("dlt", "ransac"):
        edit_scores(tmp_path, method, warning=words)
    written = build(tmp_path, "default", tmp_path / "out")
    pages = [path for path in written if path.suffix == ".html"]
    assert {path.name for path in pages} == {
        "index.html",
        "human36m.html",
        "dlt.html",
        "ransac.html",
        "cameras.html",
        "compare.html",
        "data.html",
        "reading.html",
    }
    for path in pages:
        assert page(path).text.count(f"Profile default: {words}.") == 1, path.name
    plots = [path for path in written if path.suffix == ".svg" and not path.name.startswith("training-")]
    assert plots
    for path in plots:
        assert words in path.read_text(encoding="utf-8"), path.name
    assert {row["warning"] for row in json.loads((tmp_path / "out" / "leaderboard.json").read_text())} == {words}
