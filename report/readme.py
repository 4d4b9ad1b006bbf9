"""README of a method: its front matter, and its text as safe HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from pydantic import Field, ValidationError, field_validator

from poseboard.datasets.files import parse_yaml, read_bytes
from poseboard.protocols.records import Record, ResultError

_MARK = "---"


class About(Record):
    """Front matter of ``methods/<name>/README.md``."""

    summary: str = Field(description="description of the method in two sentences")
    paper: str | None = Field(default=None, description="title; null for a method without one")
    authors: str = ""
    venue: str = ""
    year: int | None = None
    link: str = Field(default="", pattern=r"^(https://\S+)?$", description="of the paper")
    bibtex: str = Field(
        default="",
        pattern=r"^(@[a-z]+\{[A-Za-z0-9:._-]+,\s[^@\x00-\x08\x0b-\x1f]*\}\s*)?$",
        description="one BibTeX entry",
    )

    @field_validator("bibtex")
    @classmethod
    def _balanced(cls, bibtex: str) -> str:
        depths = list(accumulate({"{": 1, "}": -1}.get(character, 0) for character in bibtex.rstrip()))
        if depths and (depths[-1] != 0 or 0 in depths[bibtex.index("{") : -1]):
            raise ValueError("its braces do not close at the end of the entry")
        return bibtex

    @property
    def citation_key(self) -> str:
        """Key of the BibTeX entry; empty without an entry.

        Example:
            >>> About(summary="A method.", bibtex="@book{hartley2004multiple, year = {2004}}").citation_key
            'hartley2004multiple'
        """
        return self.bibtex.partition("{")[2].partition(",")[0]


@dataclass(frozen=True)
class Readme:
    """README of a method: front matter and text."""

    about: About | None
    """None without front matter."""
    html: Markup
    """The text without the title."""


def read_readme(path: Path) -> Readme | None:
    """Read a README; None if the file does not exist.

    Raises:
        ResultError: the file cannot be read, or its front matter violates ``About``; the message names the field.
    """
    try:
        text = read_bytes(path).decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ResultError(f"{path}: cannot be read ({reason}); write it as UTF-8 text") from None
    about, text = _front_matter(path, text)
    return Readme(about, render(text))


def _front_matter(path: Path, text: str) -> tuple[About | None, str]:
    lines = text.splitlines()
    if not lines or lines[0].strip() != _MARK or _MARK not in (line.strip() for line in lines[1:]):
        return None, text
    end = next(k for k, line in enumerate(lines[1:], 1) if line.strip() == _MARK)
    try:
        about = About.model_validate(parse_yaml("\n".join(lines[1:end])))
        return about, "\n".join(lines[end + 1 :])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ResultError(f"{path}: front matter: {where}: {first['msg']}; correct it") from None
    except ValueError as error:
        raise ResultError(f"{path}: front matter: is not YAML ({error}); correct it") from None


def render(text: str) -> Markup:
    """Convert Markdown to HTML for a page that loads nothing from the network.

    HTML is escaped, links other than https become text, and pictures become their descriptions. The title is removed,
    and headings start at the third level.

    Example:
        >>> render("See [a file](../x.py), <b>not</b> bold.").strip()
        Markup('<p>See a file, &lt;b&gt;not&lt;/b&gt; bold.</p>')
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    if len(tokens) > 2 and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        tokens = tokens[3:]
    _label_cells(tokens)
    for k, token in enumerate(tokens):
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
        if token.type == "th_open":
            token.attrSet("scope", "col")
        if token.type == "th_open" and not tokens[k + 1].content.strip():
            token.tag, token.attrs, tokens[k + 2].tag = "td", {}, "td"  # an empty cell is not a heading
        if token.type == "inline" and token.children:
            token.children = _harmless(token.children)
    # CommonMark without HTML: the parser escapes everything that is not Markdown.
    return Markup(parser.renderer.render(tokens, parser.options, {}))


def _label_cells(tokens: Sequence[Token]) -> None:
    """Add the name of its column to each cell, because a narrow screen shows each row of a table as a card."""
    heads: list[str] = []
    column = 0
    for k, token in enumerate(tokens):
        if token.type == "table_open":
            token.attrSet("class", "stack")
            heads = []
        elif token.type == "tr_open":
            column = 0
        elif token.type == "th_open":
            heads.append("".join(child.content for child in tokens[k + 1].children or []))
        elif token.type == "td_open":
            if column:
                token.attrSet("class", "words")
            if column and len(heads) > 2:  # with two columns the first is the name of the second
                token.attrSet("data-label", heads[column])
            column += 1


def _harmless(tokens: Sequence[Token]) -> list[Token]:
    """Replace pictures, and links that would not work on the page, by their text."""
    kept: list[Token] = []
    open_links: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            safe = str(token.attrGet("href") or "").startswith("https://")
            open_links.append(safe)
            if not safe:
                continue
            token.attrs = {"href": token.attrs["href"], "rel": "noreferrer"}
        elif token.type == "link_close" and not open_links.pop():
            continue
        elif token.type == "image":
            words = Token("text", "", 0)
            words.content = token.content
            kept.append(words)
            continue
        kept.append(token)
    return kept
