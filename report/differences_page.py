"""Page of `poseboard compare --html`: one file without scripts and external requests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from poseboard.report.formatting import number, signed, visible

_TEMPLATES = Path(__file__).parent / "templates"


def differences_page(context: Mapping[str, Any]) -> bytes:
    """Render the page of a comparison as HTML.

    Args:
        context: variables of the template. ``a`` and ``b``: names of the results. ``verdict``: a sentence or empty.
            ``differences``: fields of `Differences`, with the ``input`` of each table in words, or None for two
            folders. ``folders``: for two folders, fields of `FolderChanges` with ``is_equal`` and ``grouped`` changes.

    Example:
        >>> names = {"a": "before", "b": "after", "verdict": ""}
        >>> same = {"is_equal": True, "files": (3, 3), "gone": [], "added": [], "signatures": [], "grouped": {}}
        >>> b"Nothing differs" in differences_page(names | {"differences": None, "folders": same})
        True
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, signed=signed)
    style = Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    return environment.get_template("differences.html.j2").render(context, style=style).encode()
