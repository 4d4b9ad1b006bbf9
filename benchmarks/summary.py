"""What a run and params.yaml amount to, in text for a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import poseboard.methods
from poseboard.benchmarks.plan import Plan
from poseboard.protocols.records import Score, ScoreFile, row_paths

FREE_BYTES = 3 * 10**9
"""Free disk that a first run of the default profile needs; the README states it."""


def summary(plan: Plan) -> str:
    """The scored rows by the first headline table, best first, rows without a rank last, and where the page is."""
    rows = []
    for path in row_paths(plan.layout.results, "scores"):
        record = ScoreFile.read(path)
        if record.method not in plan.rows:
            continue
        chosen = [found for found in record.scores if found.headline and found.signature.usual]
        if chosen:
            rows.append((record, chosen))
    if not rows:
        return f"nothing has been scored in profile {plan.params.profile}"
    rows.sort(key=lambda row: (row[0].dataset, *_place(*row)))
    width = max(len(record.method) for record, _ in rows)
    warning = plan.profile.warning
    lines = [f"profile {plan.params.profile}" + (f": {warning}" if warning else "")]
    for record, chosen in rows:
        values = "   ".join(
            f"{found.signature.metric} {'relative' if found.signature.alignment == 'root' else 'absolute'} "
            + (
                f"{found.value:6.1f} {found.unit}"
                + (f" [{found.ci95[0]:.1f}, {found.ci95[1]:.1f}]" if found.ci95 else "")
                + (f", {found.n_missing} missing" if found.n_missing else "")
                if found.value is not None
                else "     -"
            )
            for found in chosen
        )
        label = " (synthetic)" if record.synthetic else ""
        standing = "   (bound)" if record.bound else "" if chosen[0].complete else "   (incomplete, not ranked)"
        lines.append(f"  {record.dataset}{label}  {record.method:{width}}  {values}{standing}")
    page = plan.layout.page / "index.html"
    return "\n".join([*lines, f"page: {page.as_uri()}", "runs: make runs"])


def _place(record: ScoreFile, chosen: Sequence[Score]) -> tuple[bool, bool, float]:
    """Sort key of a row by its first number."""
    value = chosen[0].value or 0.0
    return record.bound, not chosen[0].complete, value if chosen[0].lower_is_better else -value


def duration(seconds: float) -> str:
    """A span of time as one says it: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def disk_line(home: Path) -> str:
    """A warning if less disk is free than a run of the default profile needs; empty if enough is."""
    free = shutil.disk_usage(home).free
    if free >= FREE_BYTES:
        return ""
    return f"{free / 1e9:.1f} GB of disk are free, and a first run in profile default needs {FREE_BYTES / 1e9:.0f} GB"


def method_lines(plan: Plan) -> Iterator[str]:
    """The rows of params.yaml with their options in force, then the folders of methods/ that no row uses."""
    yield f"rows of params.yaml (profile {plan.params.profile}):"
    width = max(map(len, plan.rows), default=0)
    for name, entry in plan.rows.items():
        options = ", ".join(f"{key}={value}" for key, value in plan.options(name).items())
        yield f"  {name:{width}}  {entry.spec}, after {entry.after}" + (f"; {options}" if options else "")
    room = Path(poseboard.methods.__path__[0])
    used = {entry.spec for entry in plan.rows.values()}
    unused = sorted(path.parent.name for path in room.glob("*/method.py") if path.parent.name not in used)
    if unused:
        yield f"folders without a row: {', '.join(unused)}"
