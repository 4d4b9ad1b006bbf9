"""Pages of recorded frames: data of their scripts, images, links, and names that must not become markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated_results import LEVELS, edit_scores, provenance, write_examples, write_method
from page_reader import Page

from poseboard.report import frames_page, method_page
from poseboard.report import site as report_site
from poseboard.report.site import build

HOSTILE = "</script><script>alert(1)</script>\u2028"


def data_of(path: Path) -> Any:
    """Data of a script of the site."""
    text = path.read_text(encoding="utf-8")
    return json.loads(text.removeprefix("document.currentScript.data = ").removesuffix(";\n"))


def index_of(page: Path) -> Any:
    return data_of(page.with_suffix("") / "frames.js")


def test_every_frame_is_in_the_file_of_its_sequence(site: Path) -> None:
    index = index_of(site / "frames/human36m.html")
    assert sorted(index["rows"]) == sorted(LEVELS)
    assert [sequence["frames"] for sequence in index["sequences"]] == [[0, 1, 2], [3, 4]]
    assert {path.name for path in (site / "frames/human36m").glob("*.js")} == {"frames.js", "0.js", "1.js"}
    for number, sequence in enumerate(index["sequences"]):
        data = data_of(site / f"frames/human36m/{number}.js")
        people = data["scene"]["people"]
        assert len(people) == 1 + len(LEVELS)
        assert all(len(person["frames"]) == len(sequence["frames"]) for person in people)
        assert [camera["name"] for camera in data["scene"]["cameras"]] == index["views"]
        assert data["scene"]["labels"] == [index["keys"][frame] for frame in sequence["frames"]]
        for frame in sequence["frames"]:
            assert len(data["pixels"][str(frame)]) == len(people)
            for view in range(len(index["views"])):
                assert (site / f"frames/human36m/{frame}-{view}.jpg").read_bytes()[:2] == b"\xff\xd8"
    # The first joint of the last frame is not predicted.
    assert [person["frames"][-1][0] is None for person in people] == [False] + [True] * len(LEVELS)


def test_the_table_and_pages_of_methods_lead_to_frames(site: Path) -> None:
    page = Page((site / "frames/human36m.html").read_text(encoding="utf-8"))
    frames = {link for link in page.links() if link.startswith("#frame=")}
    assert len(frames) == 3 * len(LEVELS)
    assert "#frame=S9%2FDirections-1%2F000000&row=dlt" in frames
    linked = Page((site / "methods/dlt.html").read_text(encoding="utf-8")).links()
    assert {f"../frames/human36m.html{link}" for link in frames if link.endswith("&row=dlt")} <= set(linked)


@pytest.fixture
def few_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the pages that show frames, since a whole site takes seconds."""
    monkeypatch.setattr(report_site, "PAGES", (frames_page.pages, method_page.pages))


@pytest.mark.usefixtures("few_pages")
def test_hostile_names_are_text(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    names = {"keys": 5, "actions": 5, "sequences": 5, "views": 4, "joints": 13}
    hostile = {name: np.array([f"{HOSTILE}{k}" for k in range(n)]) for name, n in names.items()}
    write_examples(tmp_path / "default/comparisons/human36m.npz", {"dlt": 80.0, HOSTILE: 1.0}, **hostile)
    build(tmp_path, "default", tmp_path / "out")
    page = tmp_path / "out/frames/human36m.html"
    assert index_of(page)["rows"] == ["dlt"]  # the other row has no scores
    assert index_of(page)["keys"][0] == f"{HOSTILE}0"
    for path in (page, *page.with_suffix("").glob("*.js"), tmp_path / "out/methods/dlt.html"):
        text = path.read_text(encoding="utf-8")
        assert "</script><script>alert" not in text
    assert "\u2028" not in (page.with_suffix("") / "0.js").read_text(encoding="utf-8")


@pytest.mark.usefixtures("few_pages")
def test_bounds_are_last_and_not_drawn_at_first(tmp_path: Path) -> None:
    levels = {"true_cameras": 20.0, "dlt": 80.0}
    for name, level in levels.items():
        write_method(tmp_path, "human36m", name, level)
    edit_scores(tmp_path, "true_cameras", bound=True)
    write_examples(tmp_path / "default/comparisons/human36m.npz", levels)
    build(tmp_path, "default", tmp_path / "out")
    assert index_of(tmp_path / "out/frames/human36m.html")["rows"] == ["dlt", "true_cameras"]


@pytest.mark.usefixtures("few_pages")
@pytest.mark.parametrize("hardware", ["another machine", provenance("dlt").hardware])
def test_frames_of_another_machine_than_the_scores_say_so(tmp_path: Path, hardware: str) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    write_examples(tmp_path / "default/comparisons/human36m.npz", {"dlt": 80.0}, hardware=np.array([hardware]))
    build(tmp_path, "default", tmp_path / "out")
    for name in ("frames/human36m.html", "methods/dlt.html"):
        text = Page((tmp_path / "out" / name).read_text(encoding="utf-8")).text
        assert ("These frames are of a run on another machine" in text) == (hardware == "another machine")


@pytest.mark.usefixtures("few_pages")
def test_without_records_the_page_says_how_to_make_them(tmp_path: Path) -> None:
    write_method(tmp_path, "human36m", "dlt", 80.0)
    build(tmp_path, "default", tmp_path / "out")
    assert "make repro records them" in Page((tmp_path / "out/frames/index.html").read_text(encoding="utf-8")).text
