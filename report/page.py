"""What the pages share: the results in order, and the files of a page."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from poseboard.datasets.files import Content
from poseboard.protocols.records import ResultError
from poseboard.report.board import Board
from poseboard.report.drawing import Figure, charts
from poseboard.report.formatting import file_name
from poseboard.report.results import Results

PICTURE_PX, PICTURE_BYTES = 1600, 280_000
"""Maximum width and file size of a picture on the pages."""


@dataclass(frozen=True, eq=False)
class Site:
    """The content of all pages.

    Args:
        results: of one profile.
        boards: all boards of the results.
        slots: row -> index of its colour and marker.
        folders: row -> folder of its method.
    """

    results: Results
    boards: list[Board]
    slots: dict[str, int]
    folders: Mapping[str, Path]

    @property
    def pages(self) -> dict[str, str]:
        """Row -> path of its page."""
        return {name: f"methods/{file_name(name)}.html" for name in sorted(self.slots)}


@dataclass(frozen=True)
class Plot:
    """A plot on a page: inline, and as a file for slides and papers."""

    title: str
    caption: str
    svg: Markup
    file: str


@dataclass(frozen=True)
class Picture:
    """A picture file of the pages, with its size in pixels."""

    file: str
    width: int
    height: int


class PageFiles:
    """The files of one page, in the order in which they were added."""

    def __init__(self) -> None:
        self.contents: list[tuple[str, Content]] = []

    def add(self, name: str, content: Content) -> None:
        """Add a file."""
        self.contents.append((name, content))

    def plot(self, name: str, title: str, caption: str, figure: Figure) -> Plot:
        """Add a figure as an SVG file."""
        svg = charts.to_svg(figure, name)
        self.add(f"figures/{name}.svg", svg.encode())
        return Plot(title, caption, Markup(charts.to_inline(svg, name, title)), f"figures/{name}.svg")

    def picture(self, path: Path, prefix: str) -> Picture | None:
        """Add a picture as a JPEG file of at most `PICTURE_BYTES`; None if the file is absent.

        Raises:
            ResultError: the file is not a picture.
        """
        if not path.is_file():
            return None
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            reason = str(error).splitlines()[0]
            raise ResultError(f"{path}: cannot be read as a picture ({reason}); make it again") from None
        image.thumbnail((PICTURE_PX, 4 * PICTURE_PX))
        for quality in (88, 80, 70, 60, 45, 30, 30, 30):
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
            if buffer.tell() <= PICTURE_BYTES:
                break
            if quality <= 45:
                image.thumbnail((image.width * 3 // 4, image.height * 3 // 4))
        name = f"pictures/{file_name(f'{prefix}-{path.stem}'.lower())}.jpg"
        self.add(name, buffer.getvalue())
        return Picture(name, *image.size)


def row_slots(results: Results, rows: Mapping[str, Collection[str]], colours: Mapping[str, str]) -> dict[str, int]:
    """`charts.slots` of all rows with results: first the rows of the run in its order, then the others by name."""
    scored = {entry.scores.method for entry in results.entries}
    return charts.slots([*(row for row in rows if row in scored), *sorted(scored - set(rows))], colours)
