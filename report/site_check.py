"""Check of a finished site before publication: links, anchors, loaded files and size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGEST_MB = 50.0
"""Size of a whole site."""
_POLICY_SOURCES = re.compile(r"'none'|'self'|file:|data:|'sha256-[A-Za-z0-9+/=]+'")
_CSS_URL = re.compile(r"url\(\s*[\"']?([^\"')]*)|@import\s+[\"']([^\"']*)")


@dataclass(frozen=True)
class Problem:
    """Problem in a file of a site.

    Args:
        file: path in the site; ".": the whole site.
        text: description of the problem.
    """

    file: str
    text: str


@dataclass
class _Document(HTMLParser):
    """Links, loaded files, ids and policy of an HTML or SVG file."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    policy: str = ""
    _style: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self._style = tag == "style"
        if "id" in attributes:
            self.ids.add(attributes["id"])
        if attributes.get("http-equiv", "").lower() == "content-security-policy":
            self.policy = attributes.get("content", "")
        of = self.links if tag in ("a", "area") else self.loads
        of += [attributes[name] for name in ("href", "xlink:href", "src", "data", "poster") if name in attributes]
        self.loads += [each.split()[0] for each in attributes.get("srcset", "").split(",") if each.strip()]
        self.loads += _css_loads(attributes.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if self._style:
            self.loads += _css_loads(data)


def _css_loads(text: str) -> Iterator[str]:
    return (url or imported for url, imported in _CSS_URL.findall(text))


def check_site(folder: Path) -> list[Problem]:
    """Find problems that a site would have on a static host.

    Each link and anchor must lead to an existing file and id, or to another host by http or https. Scripts, styles and
    pictures must be files of the site. Each page must have a Content-Security-Policy that forbids external files and
    inline scripts. The whole site must have at most `LARGEST_MB` megabytes.

    Args:
        folder: folder of the site.

    Returns:
        Problems; empty if the site is valid.

    Raises:
        OSError: a file cannot be read.

    Example:
        >>> check_site(Path("results/default/leaderboard"))  # doctest: +SKIP
        []
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix() for path in paths}
    size_mb = sum(path.stat().st_size for path in paths) / 1e6
    problems = [] if "index.html" in names else [Problem(".", "has no index.html")]
    if size_mb > LARGEST_MB:
        problems.append(Problem(".", f"has {size_mb:.1f} MB, more than {LARGEST_MB:g} MB"))
    documents = {name: _read(folder / name) for name in names if name.endswith((".html", ".svg", ".css"))}
    for name, document in sorted(documents.items()):
        found = [text for link in document.links if (text := _broken(link, name, names, documents, may_leave=True))]
        found += [text for link in document.loads if (text := _broken(link, name, names, documents, may_leave=False))]
        if name.endswith(".html"):
            found += _policy_problems(document.policy)
        problems += [Problem(name, text) for text in dict.fromkeys(found)]
    return problems


def _read(path: Path) -> _Document:
    document, text = _Document(), path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        document.loads += _css_loads(text)
    else:
        document.feed(text)
        document.close()
    return document


def _broken(link: str, page: str, names: set[str], documents: dict[str, _Document], *, may_leave: bool) -> str:
    """Reason why a link of a page does not work; empty if it works."""
    try:
        parts = urlsplit(link)
    except ValueError:
        return f"{link[:80]!r} is not a link"
    if may_leave and (parts.scheme or parts.netloc):
        leads_on = parts.scheme in ("http", "https") and parts.hostname not in (None, "localhost", "127.0.0.1", "::1")
        return "" if leads_on else f"link to {link[:80]!r}"
    if parts.scheme or parts.netloc:
        return "" if link.startswith("data:image/") else f"loads {link[:80]!r} from elsewhere"
    path, anchor = unquote(parts.path), unquote(parts.fragment).partition("=")[0]  # "=" begins what a table shows
    target = _joined(page, path) if path else page
    if target not in names:
        return f"link to {link[:80]!r}, which does not exist"
    has_anchor = not anchor or target not in documents or anchor in documents[target].ids
    return "" if has_anchor else f"link to {link[:80]!r}: {target} has no such anchor"


def _joined(page: str, path: str) -> str:
    """Path in the site of a relative path on a page; starts with ".." outside the site."""
    parts = page.split("/")[:-1]
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _policy_problems(policy: str) -> list[str]:
    """Problems of a Content-Security-Policy: what it allows but should not."""
    if not policy:
        return ["has no Content-Security-Policy"]
    directives = {words[0]: words[1:] for part in policy.split(";") if (words := part.split())}
    if directives.get("default-src") != ["'none'"]:
        return ["Content-Security-Policy without default-src 'none'"]
    return [
        f"Content-Security-Policy with {source} in {name}"
        for name, sources in directives.items()
        for source in sources
        if not _POLICY_SOURCES.fullmatch(source) and (name, source) != ("style-src", "'unsafe-inline'")
    ]
