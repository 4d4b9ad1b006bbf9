"""A page as a browser would see it, for the tests of its content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path


@dataclass
class Table:
    """A table: its classes, its cells, what the cells say they are, and the tags in it."""

    classes: set[str]
    cells: list[tuple[str, str]] = field(default_factory=list)
    labels: list[tuple[list[str], str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """Tags with their attributes, ids, and text, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.cells: list[tuple[str, str]] = []
        self.tables: list[Table] = []
        self._cell: list[str] | None = None
        self._class = ""
        self._tag = False
        self._open = False
        self._row: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        found = dict(attrs)
        self._tag = tag == "span" and "tag" in (found.get("class") or "").split()
        if tag == "table":
            self.tables.append(Table(set((found.get("class") or "").split())))
            self._open = True
        if tag == "td":
            self._cell, self._class = [], found.get("class") or ""
            if "groups" not in self._row:
                self.tables[-1].labels.append((self._class.split(), found.get("data-label") or ""))
        if tag == "tr":
            self._row = (found.get("class") or "").split()

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._open = False
        if tag == "td" and self._cell is not None:
            self.cells.append((self._class, "".join(self._cell).strip()))
            self.tables[-1].cells.append(self.cells[-1])
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._tag and self._open:
            self.tables[-1].tags.append(data)
            self._tag = False
        if self._cell is not None:
            self._cell.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def links(self) -> Iterator[str]:
        for _, attributes in self.tags:
            yield from (attributes[name] for name in ("href", "src") if name in attributes)


def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))
