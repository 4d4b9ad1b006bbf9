"""Leaderboard as a folder of static pages, which need no network and no JavaScript.

To add a page, write a module with a function from `Site` to `Page` objects, a template, and an entry of `PAGES`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from poseboard.datasets.files import Content, WholeFiles
from poseboard.report import (
    board_page,
    cells,
    compare_page,
    curve_page,
    data_page,
    frames_page,
    grids,
    index_page,
    method_page,
    pairs_page,
    paper_page,
    reading_page,
)
from poseboard.report.board import Board, badge_of, boards, caveats, column_ids, finding, traits_of
from poseboard.report.drawing import charts
from poseboard.report.export import export
from poseboard.report.formatting import duration, file_name, integer, number, signed, visible
from poseboard.report.inference_cost import costs_on, workload
from poseboard.report.page import PREVIEW, Page, PageFiles, Site, row_slots
from poseboard.report.results import common_commit, read_results
from poseboard.report.sheet import Sheet, about_card, texts
from poseboard.report.training_cost import cost, measure_of
from poseboard.report.wording import metric_label

TEMPLATES = Path(__file__).parent / "templates"

PAGES: tuple[Callable[[Site], Iterable[Page]], ...] = (
    index_page.pages,
    board_page.pages,
    paper_page.pages,
    curve_page.pages,
    pairs_page.pages,
    compare_page.pages,
    method_page.pages,
    frames_page.pages,
    data_page.pages,
    reading_page.pages,
)
"""All pages, in the order of the menu; ``index.html`` first."""


def build(
    results: Path,
    profile: str,
    out: Path,
    rows: Mapping[str, Collection[str]] | None = None,
    colours: Mapping[str, str] | None = None,
    folders: Mapping[str, Path] | None = None,
    url: str = "",
    *,
    is_local: bool = True,
) -> list[Path]:
    """Write the pages, their figures, pictures and scripts, and ``leaderboard.{csv,json}`` into ``out``.

    Equal results give equal bytes. Files of an earlier build are overwritten, not deleted.

    Args:
        results: path of results/.
        profile: name of the profile, a folder in results/.
        out: folder for the pages; created if missing.
        rows: row of params.yaml -> its data sets; results of other rows of the pipeline are skipped. None: all.
        colours: row -> name of its colour (`charts.COLOURS`); other rows have a colour that depends on their name.
        folders: row -> folder of its method, whose README.md is part of the row's page.
        url: address of the published folder with a final slash, for previews of links; empty: pages have none.
        is_local: whether pages link to the MLflow runs on this machine.

    Returns:
        Paths of the written files, ``index.html`` first.

    Raises:
        ResultError: a result file does not follow its schema, or a colour is unknown; the message names it.
        OSError: a file cannot be written; all files of an earlier build remain unchanged.

    Example:
        >>> build(Path("results"), "default", Path("results/default/leaderboard"))[0].name
        'index.html'
    """
    contents = read_results(results, profile, rows)
    if not is_local:
        contents = replace(contents, runs={})
    site = Site(contents, boards(contents), row_slots(contents, rows or {}, colours or {}), folders or {}, url)
    written: dict[Path, None] = {}
    with WholeFiles() as files:
        for name, content in render(site):
            if out / name not in written:  # two pages may show one picture
                files.write(out / name, content)
                written[out / name] = None
    return list(written)


def render(site: Site) -> Iterator[tuple[str, Content]]:
    """Names and contents of all files of the site, ``index.html`` first."""
    pages = [page for of_module in PAGES for page in of_module(site)]
    menu: dict[str, list[Page]] = {}
    for page in pages:
        menu.setdefault(page.section, []).append(page)
    templates, common = environment(), _common_variables(site) | {"menu": menu}
    for page in pages:
        files = PageFiles()
        of_page = {"page": page, "root": page.root, "texts": partial(_texts, site, files)}
        variables = common | vars(page.context(files)) | of_page
        yield page.path, templates.get_template(page.template).render(variables).encode()
        yield from files.contents
    yield "style.css", stylesheet().encode()
    for script in sorted({script for page in pages for script in page.scripts}):
        yield script, (TEMPLATES / script).read_bytes()
    yield from export(site).contents


def _common_variables(site: Site) -> dict[str, Any]:
    """Variables of all templates."""
    results = site.results
    scores = [entry.scores for entry in results.entries]
    return {
        "profile": results.profile,
        "warnings": list(dict.fromkeys(file.warning for file in scores if file.warning)),
        "data_warnings": {file.dataset: file.warnings for file, _ in results.data},
        "commits": common_commit(scores),
        "created": max((file.provenance.created for file in scores), default=""),
        "synthetic": any(file.synthetic for file in scores),
        "training": results.training,
        "results": results,
        "url": site.url,
        "preview": PREVIEW if site.mains else "",
        "slots": site.slots,
        "method_pages": site.method_pages,
        "board_pages": site.board_pages,
        "methods_in": _methods_in,
        "measure_in": partial(_measure_in, site),
    }


def _texts(site: Site, files: PageFiles, boards: Sequence[Board], kind: str = "", profile: str = "") -> str:
    """Add a file with a table in the formats that readers copy; return its path.

    Args:
        site: content of the site.
        files: files of the page.
        boards: columns of the table.
        kind: "differences" or "actions" of one board; empty: the values of all boards.
        profile: profile of the boards; empty: the profile of the site.
    """
    sheet = Sheet.of(boards, profile or site.results.profile)
    path = f"texts/{'-'.join(filter(None, (sheet.slug, kind, profile)))}.js"
    cards = {name: about_card(submission.card) for name, submission in site.results.submissions.items()}
    copied = texts(sheet, cards | {row: readme.about for row, readme in site.readmes.items()})
    if kind:
        grid = {"differences": grids.differences, "actions": grids.actions}[kind]
        copied |= grid(boards[0], sheet.profile).texts
    files.data(path, copied)
    return path


def _methods_in(columns: Iterable[Board]) -> list[str]:
    """Names of the rows of a table with some columns, in order."""
    return list(dict.fromkeys(row.method for board in columns for row in board.rows))


def _measure_in(site: Site, methods: Iterable[str], dataset: str) -> str | None:
    """Unit of the training costs in a table of some methods; None without any training."""
    return measure_of(cost(site.results.training, dataset, method) for method in methods)


def stylesheet() -> str:
    """Style sheet of all pages, with the colours of the rows in both themes."""
    light, dark = (
        "".join(f"--m{k}: {c}; " for k, c in enumerate(of.values())) for of in (charts.COLOURS, charts.DARK_COLOURS)
    )
    return (
        (TEMPLATES / "style.css").read_text(encoding="utf-8")
        + f":root {{ {light}}}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}\n"
        + "".join(f".m{k} {{ color: var(--m{k}); }}\n" for k in range(len(charts.COLOURS)))
    )


def environment() -> Environment:
    """Jinja environment of the pages.

    Example:
        >>> environment().autoescape
        True
    """
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        number=number,
        signed=signed,
        integer=integer,
        duration=duration,
        file_name=file_name,
        metric=metric_label,
        counted=cells.counted,
        coded=cells.coded,
        breakable=lambda name: Markup("_<wbr>").join(name.split("_")),
    )
    templates.globals.update(
        caveats=caveats,
        finding=finding,
        column_ids=column_ids,
        most_drawn=charts.MOST_DRAWN,
        traits_of=traits_of,
        badge_of=badge_of,
        value_of=cells.value,
        interval_of=cells.interval,
        rank_of=cells.rank,
        seeds_of=cells.seeds,
        absent_word=cells.absent,
        facts_line=cells.facts_line,
        facts_list=cells.facts,
        is_bound=lambda boards, name: any(board.is_bound(name) for board in boards),
        cost=cost,
        costs_on=costs_on,
        workload=workload,
        palette=len(charts.PALETTE),
        shape=charts.marker_path,
    )
    return templates
