"""Page of each data set with the paired differences of all its tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from poseboard.report.board import Board
from poseboard.report.page import Page, PageFiles, Site


@dataclass(frozen=True, eq=False)
class PairsContext:
    """Variables of ``pairs.html.j2``."""

    compared: list[Board]


def pages(site: Site) -> Iterator[Page]:
    """Yield ``differences/<data set>.html`` for each data set with paired differences."""
    for dataset, path in site.difference_pages.items():
        yield Page(
            path=path,
            section="Differences",
            title=dataset,
            summary=f"Paired differences between rows in every table of {dataset}.",
            template="pairs.html.j2",
            context=partial(_context, site, dataset),
        )


def _context(site: Site, dataset: str, files: PageFiles) -> PairsContext:
    return PairsContext([board for board in site.boards if board.dataset == dataset and board.compares])
