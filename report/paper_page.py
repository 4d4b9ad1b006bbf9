"""Page of each paper: its published tables, with our scores beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from poseboard.report.page import Page, PageFiles, Site
from poseboard.report.papers import PaperTable


@dataclass(frozen=True, eq=False)
class PaperContext:
    """Variables of ``paper.html.j2``."""

    papers: Sequence[PaperTable]


def pages(site: Site) -> Iterator[Page]:
    """Yield ``papers/<paper>.html`` for each paper, and for each collection of scores from several papers."""
    for path, tables in site.papers.items():
        first = tables[0]
        ids = ", ".join(paper.table.id for paper in tables)
        yield Page(
            path=path,
            section="Papers",
            title=first.table.paper.partition(" (")[0] if first.numbered else first.table.title,
            summary=f"{first.table.paper}: {ids}, as published, beside our numbers."
            if first.numbered
            else "Numbers of several papers as third parties quote them. Check them before you quote them.",
            template="paper.html.j2",
            context=partial(_context, tables),
        )


def _context(tables: Sequence[PaperTable], files: PageFiles) -> PaperContext:
    return PaperContext(tables)
