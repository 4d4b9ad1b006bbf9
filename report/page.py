"""Common classes of all pages: the content of the site, a page, and the files of a page."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from poseboard.datasets.files import Content, open_file
from poseboard.protocols.records import ResultError
from poseboard.report.axes import AXES, Axis, AxisTable, not_on_boards
from poseboard.report.board import Board, main_boards
from poseboard.report.drawing import Figure, charts
from poseboard.report.formatting import file_name
from poseboard.report.papers import PaperTable, paper_tables
from poseboard.report.readme import Readme, read_readme
from poseboard.report.results import Results

PREVIEW = "preview.png"
"""Picture of the first board, for previews of links to the pages."""
PICTURE_PX, PICTURE_BYTES = 1280, 200_000
"""Maximum width and file size of a picture on the pages."""


@dataclass(frozen=True, eq=False)
class Site:
    """Content of the whole site.

    Args:
        results: results of one profile.
        boards: all boards of the results.
        slots: row -> index of its colour and marker.
        folders: row -> folder of its method.
        url: address of the published folder with a final slash; empty: not known.
    """

    results: Results
    boards: list[Board]
    slots: dict[str, int]
    folders: Mapping[str, Path]
    url: str = ""

    @property
    def method_pages(self) -> dict[str, str]:
        """Row -> path of its page."""
        return {name: f"methods/{file_name(name)}.html" for name in sorted(self.slots)}

    @cached_property
    def readmes(self) -> dict[str, Readme]:
        """Row -> README of its method; rows without a README are skipped."""
        files = {row: read_readme(folder / "README.md") for row, folder in self.folders.items() if folder.is_dir()}
        return {row: readme for row, readme in files.items() if readme}

    @cached_property
    def board_pages(self) -> dict[str, str]:
        """Data set -> path of the page with its boards; data sets with a main board come first."""
        names = dict.fromkeys([*(dataset for dataset, _ in self.mains), *(board.dataset for board in self.boards)])
        return {name: f"boards/{file_name(name)}.html" for name in names}

    @cached_property
    def difference_pages(self) -> dict[str, str]:
        """Data set -> path of the page with its paired differences."""
        compared = dict.fromkeys(board.dataset for board in self.boards if board.compares)
        return {name: f"differences/{file_name(name)}.html" for name in self.board_pages if name in compared}

    @cached_property
    def mains(self) -> dict[tuple[str, bool], list[Board]]:
        """Main boards of all data sets (`main_boards`)."""
        return main_boards(self.boards)

    @cached_property
    def axes(self) -> list[tuple[Axis, list[AxisTable]]]:
        """Axes with their tables; axes without tables are skipped."""
        return [(axis, tables) for axis in AXES if (tables := axis.tables(self.boards))]

    @cached_property
    def papers(self) -> dict[str, list[PaperTable]]:
        """Path of a page -> its published tables, from one paper or from a collection of several papers."""
        tables: dict[str, list[PaperTable]] = {}
        for paper in paper_tables(self.results, self.boards):
            words = paper.table.paper.partition(" (")[0] if paper.numbered else paper.table.id
            name = file_name("-".join(re.findall("[a-z0-9]+", words.lower())))
            tables.setdefault(f"papers/{name}.html", []).append(paper)
        return tables

    @cached_property
    def on_curves(self) -> set[int]:
        """Python ids of boards that are listed only on the page of an axis (`not_on_boards`)."""
        return not_on_boards((table for _, tables in self.axes for table in tables), self.boards)


@dataclass(frozen=True, eq=False)
class Page:
    """Page of the site.

    Args:
        path: path of the file in the folder of the site, such as "curves/cameras.html".
        section: menu entry of the page; the entry leads to the first page of its section.
        title: heading of the page, and its name among the pages of its section.
        summary: content of the page in one sentence.
        template: name of the template in ``templates``.
        context: function from the page's files, to which it adds plots and pictures, to the template's variables.
        scripts: names of scripts in ``templates`` that the page loads.
    """

    path: str
    section: str
    title: str
    summary: str
    template: str
    context: Callable[[PageFiles], Any]
    scripts: tuple[str, ...] = ("site.js",)

    @property
    def root(self) -> str:
        """Relative path from the page to the folder of the site, such as "../"."""
        return "../" * self.path.count("/")


@dataclass(frozen=True)
class Plot:
    """Plot on a page: inline, and as a file for slides and papers."""

    title: str
    caption: str
    svg: Markup
    file: str


@dataclass(frozen=True)
class Picture:
    """Picture file of the pages, with its size in pixels."""

    file: str
    width: int
    height: int


class PageFiles:
    """Files of one page, in the order in which they were added."""

    def __init__(self) -> None:
        self.contents: list[tuple[str, Content]] = []

    def add(self, name: str, content: Content) -> None:
        """Add a file."""
        self.contents.append((name, content))

    def data(self, name: str, value: object) -> None:
        """Add JSON values as a script that stores them in its element's ``data``; works for pages opened from disk."""
        text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        self.add(name, f"document.currentScript.data = {text};\n".encode())

    def plot(self, name: str, title: str, caption: str, figure: Figure) -> Plot:
        """Add a figure as an SVG file."""
        svg = charts.to_svg(figure, name)
        self.add(f"figures/{name}.svg", svg.encode())
        return Plot(title, caption, Markup(charts.to_inline(svg, name, title)), f"figures/{name}.svg")

    def picture(self, path: Path, prefix: str) -> Picture | None:
        """Add a picture as a JPEG file of at most `PICTURE_BYTES`; None if the file is missing.

        Raises:
            ResultError: the file is not a picture.
        """
        if not path.is_file():
            return None
        try:
            with open_file(path) as file, Image.open(file) as opened:
                image = opened.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            reason = str(error).splitlines()[0]
            raise ResultError(f"{path}: cannot be read as a picture ({reason}); make it again") from None
        image.thumbnail((PICTURE_PX, 4 * PICTURE_PX))
        for quality in (65, 55, 45, 30, 30, 30):
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
    """Colours and markers (`charts.slots`) of all rows with results: rows of params.yaml first, then others by name."""
    scored = {entry.scores.method for entry in results.entries}
    return charts.slots([*(row for row in rows if row in scored), *sorted(scored - set(rows))], colours)
