"""Page of the data sets: content, source and state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from poseboard.protocols.records import DataFile
from poseboard.report.page import Page, PageFiles, Picture, Site


@dataclass(frozen=True, eq=False)
class DataContext:
    """Variables of ``data.html.j2``."""

    data: list[tuple[DataFile, list[Picture | None]]]
    """Data sets of the run with their contact sheets; None: the file is absent."""
    catalog: tuple[DataFile, ...]
    """Other known data sets."""
    without_pictures: bool
    """Whether a contact sheet is absent."""


def pages(site: Site) -> Iterator[Page]:
    """Yield ``data.html``."""
    yield Page(
        path="data.html",
        section="Data",
        title="Data sets",
        summary="Data sets of this run, their state, and where to get them.",
        template="data.html.j2",
        context=partial(_context, site),
    )


def _context(site: Site, files: PageFiles) -> DataContext:
    data = [
        (file, [files.picture(path, f"data-{file.dataset}") for path in paths if file.synthetic])
        for file, paths in site.results.data
    ]
    absent = any(picture is None for _, pictures in data for picture in pictures)
    return DataContext(data, site.results.catalog, absent)
