"""Page of each axis of `axes`, with its tables and plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from poseboard.report import plots
from poseboard.report.axes import Axis, AxisTable
from poseboard.report.page import Page, PageFiles, Plot, Site


@dataclass(frozen=True, eq=False)
class CurveContext:
    """Variables of ``curve.html.j2``: an axis, and its tables with their plots."""

    axis: Axis
    tables: list[tuple[AxisTable, list[Plot]]]


def pages(site: Site) -> Iterator[Page]:
    """Yield ``curves/<axis>.html`` for each axis that has tables."""
    for axis, tables in site.axes:
        yield Page(
            path=f"curves/{axis.name}.html",
            section="Curves",
            title=axis.heading,
            summary=f"Errors by {axis.quantity}: {', '.join(dict.fromkeys(table.board.dataset for table in tables))}.",
            template="curve.html.j2",
            context=partial(_context, site, axis, tables),
        )


def _context(site: Site, axis: Axis, tables: Sequence[AxisTable], files: PageFiles) -> CurveContext:
    return CurveContext(
        axis, [(table, [*plots.axis_plots(site, table, k, files)]) for k, table in enumerate(tables, 1)]
    )
