"""Contents of table cells as HTML. In Jinja, a table of 100,000 values takes ten times as long."""

from __future__ import annotations

import re
from collections.abc import Mapping

from markupsafe import Markup, escape

from poseboard.protocols.records import Score
from poseboard.report.board import Row
from poseboard.report.formatting import integer, number, visible

_SPECIAL = re.compile(r"[^ !#-%(-;=?-~\xa0-\u2029\u2030-\u2065]")
"""Characters that may need an escape, and some more."""
_TICKS = re.compile(r"`([^`]+)`")
_ONE_TRAINING = "one training; the variation between trainings is not known"


def interval(row: Row) -> Markup:
    """Value of a row with its interval and its missing and false predictions.

    Example:
        >>> interval(row)  # doctest: +SKIP
        Markup('<b>22.4</b> <span class="ci">[21.9, 23.0]</span>')
    """
    return Markup(f"{_value(row)}{_missing(row)}")


def value(row: Row) -> Markup:
    """Like `interval`, with secondary values, the spread between trainings and a small number of samples."""
    score, unit = row.score, row.score.unit
    parts = [_value(row)]
    parts.append(_missing(row))
    for name, figure in score.secondary.items():
        if figure is not None:
            parts.append(f' <span class="aside line">{escape(visible(name))} {number(figure, "")}</span>')
    if sets := score.sets:
        ends = f"{number(sets.lowest, unit)} to {number(sets.highest, unit)}"
        title = f"standard deviation between {sets.count} sets of cameras, which range from {ends}"
        parts.append(_aside(title, f"±{number(sets.sd, unit)} between {sets.count} sets"))
    if row.training:
        title = f"standard deviation between trainings of this row, from {row.training.seeds} seeds"
        parts.append(_aside(title, f"±{number(row.training.sd, unit)}"))
    elif row.of_one_training:
        parts.append(_aside(_ONE_TRAINING, "±?"))
    if row.few:
        parts.append(f' <span class="aside">n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{integer(score.n_samples)}</span>')
    return Markup("".join(parts))


def absent(row: Row) -> str:
    """Word for predictions that are absent: "not found" for people, "missing" for poses."""
    return "not found" if row.score.counted == "people" else "missing"


def coded(text: str) -> Markup:
    """Text as HTML, with `code` between back ticks.

    Example:
        >>> coded("`make page` <b>")
        Markup('<code>make page</code> &lt;b&gt;')
    """
    return Markup(_TICKS.sub(r"<code>\1</code>", str(escape(text))))


def counted(score: Score) -> str:
    """What the number of samples of a score counts: "poses", or "person instances", of which one person has many."""
    return "person instances" if score.counted == "people" else score.counted


def facts_line(of: Mapping[str, str]) -> str:
    """Facts of a signature as one line.

    Example:
        >>> facts_line({"metric": "pck", "frames": "all"})
        'metric: pck; frames: all'
    """
    return "; ".join(f"{name}: {text}" for name, text in of.items())


def facts(of: Mapping[str, str]) -> Markup:
    """Facts of a signature as a list.

    Example:
        >>> print(facts({"metric": "pck", "frames": "<all>"}))
        <dl class="facts">
        <dt>metric</dt><dd>pck</dd>
        <dt>frames</dt><dd>&lt;all&gt;</dd>
        </dl>
    """
    special = _SPECIAL.search("".join([*of, *of.values()]))
    texts = [escape(visible(text)) for text in of.values()] if special else of.values()
    names = [escape(visible(name)) for name in of] if special else of
    lines = [f"<dt>{name}</dt><dd>{text}</dd>\n" for name, text in zip(names, texts, strict=True)]
    return Markup(f'<dl class="facts">\n{"".join(lines)}</dl>')


def rank(row: Row) -> Markup:
    """Rank of a row with its interval; a dash without a rank."""
    if row.rank is None:
        return Markup(row.order or "–")
    low, high = row.rank.ci95
    return Markup(f'{row.rank.rank} <span class="ci">{f"[{low}–{high}]" if low != high else ""}</span>')


def seeds(row: Row) -> str:
    """Values of a row by seed."""
    unit = row.score.unit
    return ", ".join(f"{seed.seed}:\N{NO-BREAK SPACE}{number(seed.value, unit)}" for seed in row.score.seeds)


def _value(row: Row) -> str:
    score, unit = row.score, row.score.unit
    text = number(score.value, unit)
    text = f"<b>{text}</b>" if row.bold else text
    if score.ci95:
        text += f' <span class="ci">[{number(score.ci95[0], unit)}, {number(score.ci95[1], unit)}]</span>'
    return text


def _missing(row: Row) -> str:
    score, text = row.score, ""
    if score.n_missing:
        text = f' <span class="gone">{integer(score.n_missing)} of {integer(row.answers)} {absent(row)}</span>'
    if score.counted == "people" and score.signature.truth != "none":
        text += f' <span class="gone">{integer(score.n_false)} false</span>'
        if score.n_unjudged:
            text += f' <span class="aside">{integer(score.n_unjudged)} unjudged</span>'
    return text


def _aside(title: str, text: str) -> str:
    return f' <span class="aside"><abbr title="{title}">{text}</abbr></span>'
