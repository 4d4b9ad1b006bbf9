"""The pages in a browser: tables that are sorted, filtered, copied and linked to, and rows that are compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fabricated_results import provenance, score, signature, write_examples, write_judged

from poseboard.protocols.records import ComparisonFile, PairedDifference, ScoreFile, TableComparison
from poseboard.report import grids
from poseboard.report.board import Board, boards
from poseboard.report.formatting import signed
from poseboard.report.pictures import CHROMIUM
from poseboard.report.results import read_results
from poseboard.report.sheet import bibtex, csv_text, latex, markdown, sheets
from poseboard.report.site import build

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")

HOSTILE = "</script><script>alert(1)</script>"
LEVELS = {"algebraic": 71.9, "lifting": 120.4, "dlt": 87.6, "claim": 80.2}
INPUTS: dict[str, dict[str, Any]] = {
    "algebraic": {"views": [2, 1000], "extrinsics": True, "images": True},
    "lifting": {"views": [1, 1], "extrinsics": False, "images": True},
    "dlt": {"views": [2, 1000], "extrinsics": True, "images": False},
}
BOARD = "#board-human36m"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of results and their site, in which titles, actions and notes are HTML."""
    root = tmp_path_factory.mktemp("browser")
    rng = np.random.default_rng(0)
    for method, level in LEVELS.items():
        scores = [score(method, level, table, rng) for table in ("T1", "T2")]
        scores += [score(method, level * (5 - n), "human36m-cameras", rng, n) for n in (3, 4)]
        scores += [score(method, level, table, rng) for table in ("pelvis", "pelvis-again")]
        for one in scores:
            one.title = HOSTILE
            one.notes.append(HOSTILE)
            one.breakdown.get("action", {})[HOSTILE] = level
        ScoreFile(
            method=method, dataset="human36m", synthetic=True, profile="default", inputs=INPUTS.get(method),
            source="submission" if method == "claim" else "pipeline", scores=scores, provenance=provenance(method),
        ).write(root / f"results/default/scores/{method}/human36m.json")  # fmt: skip
    names = list(LEVELS)
    pairs = [
        PairedDifference(
            a=a, b=b, difference=LEVELS[a] - LEVELS[b], n_samples=900, n_groups=60,
            ci95=(LEVELS[a] - LEVELS[b] - 2, LEVELS[a] - LEVELS[b] + 2.5), training="none",
        )
        for k, a in enumerate(names)
        for b in names[k + 1 :]
    ]  # fmt: skip
    table = TableComparison(table="T1", signature=signature(False), unit="mm", pairs=pairs, ranks=[])
    ComparisonFile(dataset="human36m", synthetic=True, profile="default", tables=[table]).write(
        root / "results/default/comparisons/human36m.json"
    )
    write_examples(root / "results/default/comparisons/human36m.npz", LEVELS)
    write_judged(root / "results")
    build(root / "results", "default", root / "site")
    return root


@pytest.fixture(scope="module")
def all_boards(folder: Path) -> list[Board]:
    return boards(read_results(folder / "results", "default"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu"])


@pytest.fixture(scope="module")
def tab(browser: Any) -> Any:
    """The tab of all tests: each further one costs a process."""
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    tab.set_default_timeout(300_000)  # ms; a busy machine is slow, not wrong
    return tab


@pytest.fixture
def page(tab: Any) -> Iterator[Any]:
    """The tab; the test fails if a page logs an error, opens a dialog or requests anything but a file."""
    faults: list[str] = []
    listeners = {
        "console": lambda message: message.type in ("error", "warning") and faults.append(message.text),
        "pageerror": lambda error: faults.append(str(error)),
        "dialog": lambda dialog: (faults.append(dialog.message), dialog.dismiss()),
        "request": lambda request: request.url.startswith("file:") or faults.append(request.url),
    }
    for event, listener in listeners.items():
        tab.on(event, listener)
    yield tab
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)
    assert not faults


def rows_of(page: Any, table: str = BOARD) -> list[str]:
    """Names of the visible rows of a table, in order."""
    heads = "heads => heads.filter(head => head.checkVisibility()).map(head => head.dataset.value)"
    return list(page.eval_on_selector_all(f"{table} tbody th", heads))


def state(page: Any) -> tuple[object, ...]:
    """What a reader has made of the board."""
    heads = page.locator(f"{BOARD} thead").inner_text()
    checked = page.eval_on_selector_all(f"{BOARD} tbody input:checked", "boxes => boxes.map(box => box.ariaLabel)")
    return rows_of(page), heads, checked, page.get_by_label("Search").first.input_value()


def test_a_link_restores_sort_search_filters_columns_and_selection(folder: Path, page: Any, all_boards: Any) -> None:
    page.goto(f"file://{folder}/site/boards/human36m.html")
    whole = state(page)
    tools = page.get_by_role("group", name="Tools: Leaderboard of human36m")
    (first,) = (board for board in all_boards if board.table == "T1")
    assert rows_of(page) == [row.method for row in first.rows]
    page.locator(f"{BOARD} th[data-column='T1'] button").click()
    assert rows_of(page) == sorted(LEVELS, key=LEVELS.__getitem__)
    page.locator(f"{BOARD} th[data-column='T1'] button").click()
    assert rows_of(page) == sorted(LEVELS, key=LEVELS.__getitem__, reverse=True)
    tools.get_by_label("Source").select_option("claimed")
    assert rows_of(page) == ["claim"]
    tools.get_by_label("Source").select_option("any")
    tools.get_by_label("Inputs").select_option("2D detections")
    assert rows_of(page) == ["dlt"]
    tools.get_by_label("Inputs").select_option("calibrated")
    assert rows_of(page) == ["dlt", "algebraic"]
    tools.get_by_label("Search").fill("AL")
    assert rows_of(page) == ["algebraic"]
    tools.get_by_label("Search").fill("l")
    assert tools.locator("output").inner_text() == "2 of 4 rows"
    tools.get_by_text("Columns").click()
    tools.get_by_label(re.compile("absolute")).uncheck()
    assert "absolute" not in page.locator(f"{BOARD} thead").inner_text()
    assert page.locator(f"{BOARD} tbody tr:visible").first.locator("td:visible").count() == 4  # of 8
    tools.get_by_label("Size").check()  # hidden at first
    assert page.locator(f"{BOARD} tbody tr:visible").first.locator("td:visible").count() == 5
    for name in ("dlt", "algebraic"):
        page.get_by_label(f"Select {name}").first.check()
    left, address = state(page), page.url
    page.reload()
    assert page.url == address
    assert state(page) == left != whole
    page.get_by_label("Search").first.fill("nothing")
    page.evaluate("link => { location.hash = link }", address.partition("#")[2])
    sync_api.expect(page.get_by_label("Search").first).to_have_value("l")
    assert state(page) == left
    page.get_by_role("link", name="Compare 2 rows").click()
    assert page.url.endswith("/compare.html#row=algebraic&row=dlt")
    page.goto(f"file://{folder}/site/boards/human36m.html{BOARD}&sort=99:up&inputs=x&column=-1&row={HOSTILE}&search=&&")
    assert state(page) == whole


def test_the_text_of_a_table_is_that_of_the_export(folder: Path, page: Any, all_boards: Any) -> None:
    page.goto(f"file://{folder}/site/boards/human36m.html")
    printed = sheets(all_boards, "human36m", "default")
    texts = {
        "CSV": csv_text(printed), "LaTeX": latex(printed), "Markdown": markdown(printed), "BibTeX": bibtex(printed, {})
    }  # fmt: skip
    assert HOSTILE in texts["CSV"]
    tools = page.get_by_role("group", name="Tools: Leaderboard of human36m")
    page.evaluate("navigator.clipboard.writeText = async text => { window.copied = text }; 0")
    for name, text in texts.items():
        tools.get_by_role("button", name=f"Copy as {name}").click()
        sync_api.expect(tools.locator("output")).to_have_text(f"{name} of all rows copied")
        assert page.evaluate("window.copied") == text
    page.evaluate("navigator.clipboard.writeText = () => Promise.reject(); 0")
    for name, text in texts.items():
        tools.get_by_role("button", name=f"Copy as {name}").click()
        sync_api.expect(tools.get_by_label("Text to copy")).to_have_value(text)
        assert page.evaluate("getSelection().toString().length") == len(text)


def test_differences_and_actions_are_copied_and_linked_to(folder: Path, page: Any, all_boards: Any) -> None:
    page.goto(f"file://{folder}/site/boards/human36m.html")
    (first,) = (board for board in all_boards if board.table == "T1")
    page.evaluate("navigator.clipboard.writeText = async text => { window.copied = text }; 0")
    for name, grid in (("", grids.differences(first, "default")), (" by action", grids.actions(first, "default"))):
        tools = page.get_by_role("group", name=re.compile(rf"^Tools: {re.escape(first.label)} on human36m{name}, mm"))
        for kind, text in grid.texts.items():
            tools.get_by_role("button", name=f"Copy as {kind}").click()
            sync_api.expect(tools.locator("output")).to_have_text(f"{kind} of all rows copied")
            assert page.evaluate("window.copied") == text
    tools = page.get_by_role("group", name=re.compile(r"^Tools: MPJPE, .*\(T1\) on human36m, mm"))
    tools.get_by_text("Columns").click()
    tools.get_by_label("dlt").uncheck()
    tools.get_by_label("Search").fill("lifting")
    sync_api.expect(page).to_have_url(re.compile("#differences-1&search=lifting&column=dlt$"))
    page.reload()
    assert rows_of(page, "#differences-1") == ["lifting"]
    assert page.locator("#differences-1 thead th:visible").count() == len(LEVELS)


def test_the_keyboard_reaches_all_controls_and_the_signature(folder: Path, page: Any, all_boards: Any) -> None:
    page.goto(f"file://{folder}/site/boards/human36m.html")
    page.get_by_label("Search").first.focus()
    reached = []
    while not reached or not reached[-1].startswith("MPJPE, mm (T1)"):
        page.keyboard.press("Tab")
        words = page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent")
        assert words not in reached, reached  # around the page without the sort button
        reached.append(" ".join(words.split()))
        if reached[-1].startswith("signature of MPJPE, root-relative"):
            tip = page.get_by_role("tooltip").inner_text()
            assert all(fact in tip for fact in all_boards[0].signature.facts.values())
            page.keyboard.press("Escape")
            assert not page.get_by_role("tooltip").is_visible()
    page.keyboard.press("Enter")
    assert rows_of(page) == sorted(LEVELS, key=LEVELS.__getitem__)
    wanted = ("Copy as CSV", "Copy as BibTeX", "Link to this view", "Columns", "signature of MPJPE, root-relative")
    assert all(any(name.startswith(start) for name in reached) for start in wanted), reached
    page.keyboard.press("Shift+Tab")
    page.locator("a.signature").first.hover()
    assert page.get_by_role("tooltip").is_visible()
    page.locator("a.signature").first.click()
    assert page.locator(f"{BOARD}-1 dl").is_visible()  # the signature is in the page, too


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_no_page_is_wider_than_the_window(folder: Path, page: Any, width: int) -> None:
    site = folder / "site"
    page.set_viewport_size({"width": width, "height": 900})
    for path in (*site.glob("*.html"), *{path.parent: path for path in sorted(site.glob("*/*.html"))}.values()):
        page.goto(f"file://{path}")
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path.name
    page.set_viewport_size({"width": 1440, "height": 900})


@pytest.mark.parametrize("width", [390, 768])
def test_a_narrow_matrix_shows_intervals_and_scrolls_beside_its_names(folder: Path, page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"file://{folder}/site/differences/human36m.html")
    table = page.locator("table.matrix").first
    intervals = table.locator(".ci")
    assert intervals.count() == len(LEVELS) * (len(LEVELS) - 1)
    assert all(interval.is_visible() for interval in intervals.all())
    overflow = "cells => cells.filter(cell => cell.scrollWidth > cell.clientWidth).map(cell => cell.innerText)"
    assert table.locator("th, td").evaluate_all(overflow) == []
    table.evaluate("table => { table.style.width = '2000px'; table.parentElement.scrollLeft = 500 }")
    name, region = table.locator("tbody th").first.bounding_box(), table.locator("..").bounding_box()
    assert name["x"] == pytest.approx(region["x"], abs=1)
    page.set_viewport_size({"width": 1440, "height": 900})


def test_sort_buttons_of_a_narrow_table_name_their_columns(folder: Path, page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(f"file://{folder}/site/boards/human36m.html")
    tables = page.locator("table.sortable:has(thead button)")
    assert tables.count() == 2
    for table in tables.all():
        names = [" ".join(name.split()) for name in table.locator("thead button:visible").all_inner_texts()]
        assert len(names) > 3
        assert len(set(names)) == len(names), names
    page.set_viewport_size({"width": 1440, "height": 900})


def test_cards_of_a_narrow_table_have_no_empty_lines(site: Path, page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    empty = "cells => cells.filter(cell => cell.checkVisibility() && /^\\s*–?\\s*$/.test(cell.innerText)).length"
    papers = list(site.glob("papers/*.html"))
    assert papers
    for path in papers:
        page.goto(f"file://{path}")
        assert page.eval_on_selector_all("table.stack > tbody > tr > td", empty) == 0, path.name
    page.set_viewport_size({"width": 1440, "height": 900})


def test_the_list_of_columns_closes_on_escape_and_on_a_click_outside(folder: Path, page: Any) -> None:
    page.goto(f"file://{folder}/site/boards/human36m.html")
    columns = page.locator(".tools details").first
    summary, box = columns.locator("summary"), columns.get_by_label("Training")
    summary.click()
    box.uncheck()
    assert box.is_visible()
    page.keyboard.press("Escape")
    assert not box.is_visible()
    assert summary.evaluate("summary => summary === document.activeElement")
    summary.click()
    assert box.is_visible()
    page.locator("h1").click()
    assert not box.is_visible()


def test_labels_of_cameras_do_not_overlap(folder: Path, page: Any) -> None:
    page.goto(f"file://{folder}/site/frames/human36m.html")
    page.evaluate("""() => {
        const pen = CanvasRenderingContext2D.prototype, fillText = pen.fillText, clearRect = pen.clearRect
        pen.clearRect = function (...box) { window.labels = []; clearRect.apply(this, box) }
        pen.fillText = function (text, x, y) {
            window.labels.push([x, y, this.measureText(text).width])
            fillText.call(this, text, x, y)
        }
    }""")
    farther, counts = page.get_by_role("button", name="Zoom out"), []
    for _ in range(12):
        farther.click()
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        labels = sorted(page.evaluate("window.labels"))
        counts.append(len(labels))
        for k, (x, y, width) in enumerate(labels):
            assert all(other_x >= x + width or abs(other_y - y) >= 14 for other_x, other_y, _ in labels[k + 1 :])
    assert 0 < counts[-1] < max(counts)


def test_rows_are_compared_with_the_numbers_of_the_boards(folder: Path, page: Any, all_boards: Any) -> None:
    page.goto(f"file://{folder}/site/compare.html#row=dlt&row=algebraic&row={HOSTILE}")
    (first,) = (board for board in all_boards if board.table == "T1")
    line = page.locator("table.compared tbody tr").first
    sync_api.expect(line).to_be_visible()
    difference, (low, high) = first.pair("algebraic", "dlt") or (0.0, (0.0, 0.0))
    words = f"{signed(difference)} [{signed(low)}, {signed(high)}] {first.verdict('algebraic', 'dlt')}"
    reason = "not significant: variation between trainings not known"
    assert line.locator("td").last.text_content() == words.replace("open", reason)
    details = page.locator("details", has_text="by action").first
    details.locator("summary").click()
    numbers = [row.score.breakdown["action"] for row in (first.row("dlt"), first.row("algebraic")) if row]
    for cells in details.locator("tbody tr").all():
        action, *values = cells.locator("th, td").all_inner_texts()
        a, b = (of_row[action] for of_row in numbers)
        assert values[0] == f"{a:.1f}"
        assert float(values[2].replace("−", "-").replace("±", "")) == pytest.approx(b - a, abs=0.051)
    assert HOSTILE in details.inner_text()
    page.get_by_label("Row 3").select_option("lifting")
    assert page.url.endswith("#row=dlt&row=algebraic&row=lifting")
    page.reload()
    head = page.locator("table.compared thead").first
    sync_api.expect(head).to_contain_text("lifting − dlt")


def test_frames_are_shown_in_images_and_turned_and_played_in_3d(folder: Path, page: Any) -> None:
    page.goto(f"file://{folder}/site/compare.html#row=dlt&row=algebraic")
    sync_api.expect(page.locator(".frames h4").first).to_have_text("S9/Discussion-1/000256")
    pictures = page.locator(".frames figure")
    assert pictures.count() == 6
    assert pictures.first.locator("path.limb").count() == 2  # ground truth and one row
    page.get_by_role("link", name="Frames on which they differ").click()
    worst = page.locator("#differences a").first
    sync_api.expect(worst).to_have_text("S9/Discussion-1/000256")
    worst.click()
    canvas, images = page.locator("canvas"), page.locator("#images figure")
    sync_api.expect(images).to_have_count(4)
    assert images.first.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
    assert images.first.locator("path.limb").count() == 3  # ground truth and two rows

    def pixels() -> str:
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return str(canvas.evaluate("canvas => canvas.toDataURL()"))

    drawn = [pixels()]
    canvas.focus()
    for key in ("ArrowLeft", "ArrowUp", "+", "-", ","):
        page.keyboard.press(key)
        drawn.append(pixels())
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 120)
    page.mouse.up()
    drawn.append(pixels())
    page.mouse.wheel(0, -200)
    drawn.append(pixels())
    page.get_by_label("lifting").check()
    drawn.append(pixels())
    assert all(before != after for before, after in pairwise(drawn))
    assert images.first.locator("path.limb").count() == 4
    page.get_by_label("Action").select_option("Directions")
    sync_api.expect(page.get_by_label("Sequence")).to_have_value("0")
    page.get_by_role("button", name="Play").click()
    sync_api.expect(page.locator("#viewer output")).to_have_text("S9/Directions-1/000128")
    page.get_by_role("button", name="Pause").click()
    shown = page.locator("#viewer output").inner_text()
    page.wait_for_url(f"**#frame={quote(shown, safe='')}&*row=lifting")
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    sync_api.expect(page.locator("#viewer output")).to_have_text(shown)


def test_long_tables_show_their_first_rows_until_all_are_asked_for(folder: Path, page: Any) -> None:
    text = (folder / "site/boards/human36m.html").read_text(encoding="utf-8")
    rows = re.search(r"(?s)<tbody>(.*?)</tbody>", text)
    assert rows is not None
    long = folder / "site/boards/long.html"
    long.write_text(text.replace(rows[1], rows[1] * 20, 1), encoding="utf-8")
    page.goto(f"file://{long}")
    long.unlink()
    assert len(rows_of(page)) == 50
    page.get_by_label("Search").first.fill("dlt")
    assert len(rows_of(page)) == 20
    page.get_by_label("Search").first.fill("")
    page.get_by_role("button", name="Show all 80 rows").click()
    assert len(rows_of(page)) == 80


def test_without_javascript_tables_are_whole_and_no_control_is_there(folder: Path) -> None:
    text = (folder / "site/boards/human36m.html").read_text(encoding="utf-8")
    assert re.findall(r'<th scope="row" data-value="(\w+)"', text)[: len(LEVELS)] == [
        "algebraic",
        "claim",
        "dlt",
        "lifting",
    ]
    assert not re.search(r"<(button|input|select)|\shidden\b", text)
    assert "needs JavaScript" in (folder / "site/compare.html").read_text(encoding="utf-8")


def test_no_page_has_a_serious_fault_of_accessibility(folder: Path, page: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    site = folder / "site"
    of_each_kind = {path.parent: path for path in sorted(site.glob("*/*.html"))}

    def check(**options: object) -> None:
        options |= {"preload": False, "resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa"]}
        found = axe.Axe().run(page, {"exclude": [["svg"]]}, options).response["violations"]
        assert not [one["nodes"] for one in found if one["impact"] in ("serious", "critical")], page.url

    for path in [*site.glob("*.html"), *of_each_kind.values()]:
        page.goto(f"file://{path}")
        check(rules={"color-contrast": {"enabled": False}})  # slow, and the colours are those of one file
    for name, scheme in (("index.html", "light"), ("compare.html", "dark")):
        page.emulate_media(color_scheme=scheme)
        page.goto(f"file://{site}/{name}")
        check()
