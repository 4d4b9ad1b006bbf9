"""The leaderboard: a folder of static pages that need no network and no JavaScript."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from poseboard.datasets.files import Content, WholeFiles
from poseboard.report.board import boards, caveats, finding
from poseboard.report.drawing import charts
from poseboard.report.export import export
from poseboard.report.formatting import duration, integer, number, signed
from poseboard.report.index_page import index_context
from poseboard.report.method_page import method_context
from poseboard.report.page import PageFiles, Site, row_slots
from poseboard.report.results import Results, common_commit, read_results
from poseboard.report.training_cost import cost
from poseboard.report.wording import aim_of_speed, compared_speed, measured, metric_label

TEMPLATES = Path(__file__).parent / "templates"


def build(
    results: Path,
    profile: str,
    out: Path,
    rows: Mapping[str, Collection[str]] | None = None,
    colours: Mapping[str, str] | None = None,
    folders: Mapping[str, Path] | None = None,
) -> list[Path]:
    """Write ``index.html``, one page per method, figures, pictures and ``leaderboard.{csv,json}`` into ``out``.

    Equal results give equal bytes. Files of an earlier build are overwritten, not deleted.

    Args:
        results: the results/ folder.
        profile: a folder of ``results``.
        out: folder of the pages; created if absent.
        rows: row of the run -> its data sets; other results of the pipeline are not shown. None: all are shown.
        colours: row -> name of its colour (`charts.COLOURS`); the colour of other rows depends on their name.
        folders: row -> folder of its method, whose README.md its page shows.

    Returns:
        The written files, ``index.html`` first.

    Raises:
        ResultError: a file of ``results`` is broken, or a colour is unknown; the message names it.
        OSError: a file cannot be written; all files of an earlier build remain unchanged.

    Example:
        >>> build(Path("results"), "default", Path("results/default/leaderboard"))[0].name
        'index.html'
    """
    contents = read_results(results, profile, rows)
    site = Site(contents, boards(contents), row_slots(contents, rows or {}, colours or {}), folders or {})
    written = []
    with WholeFiles() as files:
        for name, content in render(site):
            files.write(out / name, content)
            written.append(out / name)
    return written


def render(site: Site) -> list[tuple[str, Content]]:
    """Names and contents of all files of the site, ``index.html`` first."""
    templates = environment("sort.js")
    common = _common_context(site.results) | {"index": site.slots, "pages": site.pages}

    def page(template: str, root: str, context: dict[str, Any]) -> bytes:
        return templates.get_template(template).render(common | context | {"root": root}).encode()

    files = PageFiles()
    index = page("index.html.j2", "", index_context(site, files))
    for name, path in site.pages.items():
        files.add(path, page("method.html.j2", "../", method_context(site, name, files)))
    return [("index.html", index), *files.contents, *export(site).contents]


def _common_context(results: Results) -> dict[str, Any]:
    scores = [entry.scores for entry in results.entries]
    return {
        "profile": results.profile,
        "warnings": list(dict.fromkeys(file.warning for file in scores if file.warning)),
        "commits": common_commit(scores),
        "created": max((file.provenance.created for file in scores), default=""),
        "synthetic": any(file.synthetic for file in scores),
        "training": results.training,
    }


def environment(script: str) -> Environment:
    """Jinja environment of the pages; their policy admits one script, by its hash.

    Args:
        script: file in ``TEMPLATES``.

    Example:
        >>> "script_hash" in environment("sort.js").globals
        True
    """
    text = (TEMPLATES / script).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        number=number,
        signed=signed,
        integer=integer,
        duration=duration,
        metric=metric_label,
        breakable=lambda name: Markup("_<wbr>").join(name.split("_")),
    )
    templates.globals.update(
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup(text),
        script_hash=digest,
        caveats=caveats,
        finding=finding,
        is_bound=lambda boards, name: any(board.is_bound(name) for board in boards),
        cost=cost,
        palette=len(charts.PALETTE),
        light_colours=list(charts.COLOURS.values()),
        dark_colours=list(charts.DARK_COLOURS.values()),
        shape=charts.marker_path,
        compared_speed=compared_speed,
        aim_of_speed=aim_of_speed,
        measured=measured,
    )
    return templates
