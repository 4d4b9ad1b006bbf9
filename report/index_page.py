"""First page: findings, one board, and the tables of papers that are reproduced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from poseboard.protocols.records import DataFile
from poseboard.report import plots
from poseboard.report.board import Board
from poseboard.report.page import PREVIEW, Page, PageFiles, Picture, Site
from poseboard.report.papers import PaperTable
from poseboard.report.results import Results

MOST_FINDINGS = 3


@dataclass(frozen=True, eq=False)
class IndexContext:
    """Variables of ``index.html.j2``."""

    sheet: tuple[DataFile, Picture] | None
    findings: list[Board]
    headline: Board | None
    """The first column of the first board."""
    papers: list[tuple[str, PaperTable]]
    """Tables of the papers, each with the path of its page."""


def pages(site: Site) -> Iterator[Page]:
    """Yield ``index.html``."""
    yield Page(
        path="index.html",
        section="",
        title="3D human pose from one or many cameras",
        summary="A reproducible benchmark: published methods, rerun under the protocols of their papers. "
        "Every number has a signature, a confidence interval and its provenance.",
        template="index.html.j2",
        context=partial(_context, site),
    )


def _context(site: Site, files: PageFiles) -> IndexContext:
    headline = next(iter(site.mains.values()))[0] if site.mains else None
    if headline is not None:
        figure = plots.intervals(site, headline)
        files.add(
            PREVIEW, partial(figure.savefig, format="png", dpi=150, facecolor="white", metadata={"Software": None})
        )
    return IndexContext(
        sheet=_sheet(site.results, files),
        findings=findings(site),
        headline=headline,
        papers=[(path, paper) for path, tables in site.papers.items() for paper in tables if paper.numbered],
    )


def findings(site: Site) -> list[Board]:
    """Up to `MOST_FINDINGS` boards with a significant difference; main boards and different data sets come first."""
    mains = [board for columns in site.mains.values() for board in columns]
    on_board = {id(board) for board in mains}
    decided = [board for board in (*mains, *(b for b in site.boards if id(b) not in on_board)) if board.decided]
    first = {id(board) for board in {board.dataset: board for board in reversed(decided)}.values()}
    return sorted(decided, key=lambda board: id(board) not in first)[:MOST_FINDINGS]


def _sheet(results: Results, files: PageFiles) -> tuple[DataFile, Picture] | None:
    """First contact sheet of a synthetic data set; None if there is no file."""
    for file, paths in results.data:
        for path in paths:
            if file.synthetic and (picture := files.picture(path, f"data-{file.dataset}")):
                return file, picture
    return None
