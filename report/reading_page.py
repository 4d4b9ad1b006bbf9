"""Page that explains how to read the scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from poseboard.report.page import Page, Site


@dataclass(frozen=True)
class ReadingContext:
    """Variables of ``reading.html.j2``: none besides those of all templates."""


def pages(site: Site) -> Iterator[Page]:
    """Yield ``reading.html``."""
    yield Page(
        path="reading.html",
        section="How to read",
        title="How to read the numbers",
        summary="What a signature, an interval, a rank and a mark mean, and what is counted as missing.",
        template="reading.html.j2",
        context=lambda files: ReadingContext(),
    )
