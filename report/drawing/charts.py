"""Charts of results: pure functions from results to a matplotlib Figure, and from a Figure to SVG."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, TypeVar

import matplotlib as mpl
import numpy as np
import seaborn as sns
from markupsafe import escape
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from poseboard.protocols.records import Curve, Increase, ResultError, Score, TrainingFile

T = TypeVar("T")

COLOURS = {
    "blue": "#1166d3", "rust": "#b45100", "green": "#1d8452", "pink": "#b7509c", "sky": "#2e98d2", "orange": "#e87011",
    "purple": "#71439e", "grey": "#7f7f7f", "maroon": "#511e18", "olive": "#3c4600", "crimson": "#c1203b",
    "teal": "#0a4954", "violet": "#6007e0", "indigo": "#430889", "magenta": "#e712fd", "plum": "#4e1562",
}  # fmt: skip
"""Names for ``colours`` in params.yaml. Each colour has enough contrast to white, and any two are distinguishable with
protanopia, deuteranopia and tritanopia (`tests/report/test_charts.py` measures both)."""
DARK_COLOURS = {
    "blue": "#54bafb", "rust": "#d56e1d", "green": "#0da57a", "pink": "#e58fc8", "sky": "#a9dcff", "orange": "#edc233",
    "purple": "#937ac1", "grey": "#c9b9b4", "maroon": "#b87b45", "olive": "#a5c652", "crimson": "#ff5879",
    "teal": "#137788", "violet": "#a801f3", "indigo": "#6effaa", "magenta": "#b20cc8", "plum": "#f6f90e",
}  # fmt: skip
"""The same colours for the dark theme."""
PALETTE = tuple(COLOURS.values())
FREE = 4
"""Number of colours, the last ones, for rows without an entry in ``colours``, such as rows that users add."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "h", ">", "*")
WIDTH = 4.9
"""Width of a plot in inches: its text is readable on a phone."""
LINE_CHARACTERS = 62
"""Characters per line of a label: at 9 points they fit into ``WIDTH``."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
LOG_FROM = 10
"""Minimum ratio of the last to the first tick for a logarithmic axis."""
LABELLED = 3
"""Minimum number of labelled ticks on a logarithmic axis, so that its scale is visible."""
ASIDE_PT, WIDEST_PT = 3.0, 12.0
"""Maximum distance between two methods at one tick, and from the first to the last method; points."""
CROWDED = 6
"""Maximum number of methods in one plot: more lines and intervals cannot be distinguished."""
MOST_DRAWN = 40
"""Maximum number of rows with a mark in one plot, the first ones."""
SPREAD_FROM = 3
"""Minimum ratio of the largest to the smallest value for panels with a logarithmic axis."""
_BOUND: Any = {"marker": "", "linestyle": (0, (1, 1)), "linewidth": 1.2}
INK, RULE = "#1b1e23", "#d5d8dc"
STYLE: Any = {  # matplotlib types every key of it as a literal
    **sns.axes_style("white"),
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "axes.formatter.useoffset": False,
    "text.parse_math": False,  # a method's name may hold dollar signs
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
}


def first(rows: Mapping[str, T]) -> dict[str, T]:
    """The first `MOST_DRAWN` rows."""
    return dict(islice(rows.items(), MOST_DRAWN))


def left_out(rows: int) -> str:
    """Sentence for the caption of a plot that draws only the first rows; empty if it draws all rows.

    Example:
        >>> left_out(3), left_out(50)
        ('', ' Only the first 40 of 50 rows are drawn.')
    """
    return f" Only the first {MOST_DRAWN} of {rows} rows are drawn." if rows > MOST_DRAWN else ""


def printable(name: str) -> str:
    """Make a name printable in a plot: XML forbids control characters, and matplotlib hides names like "_a"."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


def slots(names: Iterable[str], colours: Mapping[str, str]) -> dict[str, int]:
    """Assign a colour and a marker to each row, as the index for `look`. Appending a row does not change other rows.

    A row in ``colours`` has that colour; a second row with the same colour has another marker. Other rows have one of
    the last `FREE` colours. The hash of their name selects colour and marker; if taken, the next free pair is used.

    Args:
        names: names of the rows; earlier rows take precedence.
        colours: row -> key of ``COLOURS``.

    Returns:
        Row -> index.

    Raises:
        ResultError: a colour is unknown.

    Example:
        >>> slots(["dlt"], {"dlt": "rust"})
        {'dlt': 1}
    """
    count, places = len(PALETTE), FREE * len(MARKERS)
    slot_of: dict[str, int] = {}
    for name in sorted(names, key=lambda name: name not in colours):  # stable
        if (colour := colours.get(name)) is None:
            start = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")
            pairs = (divmod((start + k) % places, FREE) for k in range(places))
            candidates = [marker * count + count - FREE + free for marker, free in pairs]
        elif colour in COLOURS:
            candidates = list(range(list(COLOURS).index(colour), count * len(MARKERS), count))
        else:
            raise ResultError(f"colours.{name}: unknown colour {colour!r}; use one of {', '.join(COLOURS)}")
        taken = set(slot_of.values())
        slot_of[name] = next((slot for slot in candidates if slot not in taken), candidates[0])
    return slot_of


def marker_path(index: int) -> str:
    """Marker of ``look(index)`` as the ``d`` attribute of an SVG path with coordinates in -1 … 1."""
    style = MarkerStyle(MARKERS[_marker(index)])
    path = style.get_path().transformed(style.get_transform())
    outlines = [np.asarray(outline, dtype=np.float64) for outline in path.to_polygons()]
    size = max(float(np.abs(outline).max()) for outline in outlines)
    return "".join(
        "M" + "L".join(f"{x / size:.2f} {-y / size:.2f}" for x, y in outline[:-1]) + "Z" for outline in outlines
    )


def _marker(index: int) -> int:
    return sum(divmod(index, len(PALETTE))) % len(MARKERS)


def look(index: int) -> dict[str, Any]:
    """Colour, marker and dash pattern of the method with an index, equal in all plots."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "marker": MARKERS[_marker(index)],
        "linestyle": DASHES[sum(divmod(index, len(PALETTE))) % len(DASHES)],
    }


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def in_lines(label: str, characters: int) -> str:
    """Break a label after commas into lines of at most ``characters``, if possible."""
    lines: list[str] = []
    for part in label.split(", "):
        if lines and len(lines[-1]) + len(part) + 3 <= characters:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return ",\n".join(lines)


def _centred(figure: Figure, label: str) -> None:
    """Put the label of the x axis at the centre of the figure, because a long label could be cut off elsewhere."""
    figure.supxlabel(in_lines(label, LINE_CHARACTERS), fontsize=STYLE["axes.labelsize"])


def _finish(axes: Axes, grid: str) -> None:
    axes.grid(True, axis=grid)  # type: ignore[arg-type]  # "x", "y" or "both"
    axes.set_axisbelow(True)
    sns.despine(ax=axes, left=grid == "x", bottom=False)
    axes.tick_params(left=False, bottom=grid != "x", length=3, width=0.7)


def _legend(
    figure: Figure, names: Sequence[str], index: Mapping[str, int], lines: bool, bounds: Collection[str] = ()
) -> None:
    columns = min(len(names), 2 if bounds else 3)  # three with a bound are wider than the figure
    names = [name for first in range(columns) for name in names[first::columns]]  # matplotlib fills column by column
    looks = [{**look(index[n]), **(_BOUND if n in bounds else {} if lines else {"linestyle": "none"})} for n in names]
    handles = [Line2D([], [], markersize=5, **{"linewidth": 1.6, **one}) for one in looks]
    words = [printable(n) + (" (bound)" if n in bounds else "") for n in names]
    figure.legend(handles, words, loc="outside upper left", ncols=columns)


def intervals(
    scores: Mapping[str, Score | Increase], index: Mapping[str, int], label: str, *, zero: bool = False
) -> Figure:
    """Forest plot of the methods' values with 95 % intervals, best on top; optionally with a line at zero."""
    values = {name: (score.value, score.ci95) for name, score in scores.items() if score.value is not None}
    with mpl.rc_context(STYLE):
        figure, axes = _axes(WIDTH, 0.8 + 0.3 * max(len(values), 1))
        if zero:
            axes.axvline(0, color=INK, linewidth=1)
        for y, (name, (value, ci95)) in enumerate(values.items()):
            style = look(index[name])
            if ci95 is not None:
                axes.plot(ci95, [y, y], color=style["color"], linewidth=2.2, solid_capstyle="butt")
            axes.plot([value], [y], marker=style["marker"], color=style["color"], markersize=6.5)
        axes.set_yticks(range(len(values)), [printable(name) for name in values])
        axes.set_ylim(len(values) - 0.4, -0.6)
        _centred(figure, f"{label}, with 95 % interval")
        _finish(axes, "x")
    return figure


def transfer(
    pairs: Mapping[str, tuple[Score, Score]], index: Mapping[str, int], heads: tuple[str, str], label: str
) -> Figure:
    """Bar chart of two scores per method with 95 % intervals: the first filled, the second as an outline.

    Args:
        pairs: method -> its two scores, best on top.
        index: method -> argument of `look`.
        heads: names of the two scores.
        label: axis label of the values.
    """
    thickness = 0.36
    with mpl.rc_context(STYLE):
        figure, axes = _axes(WIDTH, 1.2 + 0.55 * max(len(pairs), 1))
        for y, (name, scores) in enumerate(pairs.items()):
            colour = look(index[name])["color"]
            for k, one in enumerate(scores):
                place = y + (k - 0.5) * thickness
                if one.value is not None:
                    fill = colour if k == 0 else "none"
                    axes.barh(place, one.value, 0.8 * thickness, color=fill, edgecolor=colour, linewidth=1.2)
                if one.ci95 is not None:
                    axes.plot(one.ci95, [place, place], color=INK, linewidth=1.4, solid_capstyle="butt")
        axes.set_yticks(range(len(pairs)), [printable(name) for name in pairs])
        axes.set_ylim(len(pairs) - 0.4, -0.6)
        axes.set_xlim(left=0)
        _centred(figure, f"{label}, with 95 % interval")
        handles = [Patch(facecolor=fill, edgecolor=INK, linewidth=1.2) for fill in (INK, "none")]
        figure.legend(handles, [printable(head) for head in heads], loc="outside upper left", ncols=2)
        _finish(axes, "x")
    return figure


def breakdown(scores: Mapping[str, Score], index: Mapping[str, int], kind: str, label: str) -> Figure:
    """Dot plot of values by action, joint or subject: one line per category, one mark per method, worst on top."""
    order: dict[str, list[float]] = {}
    for score in scores.values():
        for name, value in score.breakdown.get(kind, {}).items():
            order.setdefault(name, []).extend([] if value is None else [value])
    sign = 1 if all(score.lower_is_better for score in scores.values()) else -1
    categories = sorted(order, key=lambda name: (sign * np.mean(order[name]) if order[name] else np.inf, name))
    with mpl.rc_context(STYLE):
        figure, axes = _axes(WIDTH, 1.2 + 0.235 * max(len(categories), 1))
        for y, category in enumerate(categories):
            if order[category]:
                axes.plot([min(order[category]), max(order[category])], [y, y], color=RULE, linewidth=3, zorder=1)
        for name, score in scores.items():
            values = [score.breakdown.get(kind, {}).get(category) for category in categories]
            x = [np.nan if value is None else value for value in values]
            style = {**look(index[name]), "linestyle": "none"}
            axes.plot(x, range(len(categories)), markersize=5.5, markeredgewidth=0, **style)
        axes.set_yticks(range(len(categories)), [printable(name.replace("_", " ")) for name in categories])
        axes.set_ylim(-0.7, len(categories) - 0.3)
        _centred(figure, label)
        _legend(figure, list(scores), index, lines=False)
        _finish(axes, "x")
    return figure


def lines(
    curves: Mapping[str, Curve],
    index: Mapping[str, int],
    marks: bool,
    from_zero: bool,
    bounds: Mapping[str, float] | None = None,
    ranges: Mapping[str, Sequence[tuple[float, float] | None]] | None = None,
    widest: Mapping[str, Sequence[tuple[float, float] | None]] | None = None,
) -> Figure:
    """Line plot, one line per method, for example of PCK against the threshold.

    Args:
        curves: method -> curve; the first curve has the axis labels.
        index: method -> argument of `look`, also for the methods in ``bounds``.
        marks: whether every value has a mark.
        from_zero: whether the axis of values starts at 0.
        bounds: bound -> its value, drawn as a horizontal line.
        ranges: method -> interval of each value (None: no interval), drawn as bars. Methods are shifted sideways, so
            that no bar hides another one.
        widest: method -> wider interval of each value (None: no interval), drawn as thin lines.
    """
    bounds = bounds or {}
    with mpl.rc_context(STYLE):
        figure, axes = _axes(WIDTH, 3.5)
        for name, curve, aside in zip(curves, curves.values(), _side_by_side(len(curves)), strict=True):
            style = look(index[name]) if marks else {**look(index[name]), "marker": ""}
            drawn: list[Artist] = [*axes.plot(curve.x, _values(curve), linewidth=1.7, markersize=5.5, **style)]
            drawn += _bars(axes, curve, style["color"], (ranges or {}).get(name, ()), (widest or {}).get(name, ()))
            for artist in drawn if ranges else ():  # after matplotlib has computed the limits
                moved = ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
                artist.set_transform(axes.transData + moved)
        for name, value in bounds.items():
            axes.axhline(value, **{**look(index[name]), **_BOUND})
        first = next(iter(curves.values()))
        axes.set_xlabel(printable(first.x_label))
        axes.set_ylabel(in_lines(printable(first.y_label), LINE_CHARACTERS * 2 // 3))
        if from_zero:
            axes.set_ylim(bottom=0)
        ticks = sorted({x for curve in curves.values() for x in curve.x})
        if marks and len(ticks) <= 12:
            _ticks(axes, ticks, ticks)
        _legend(figure, [*curves, *bounds], index, lines=True, bounds=bounds)
        _finish(axes, "both")
    return figure


def each(
    curves: Mapping[str, Curve],
    index: Mapping[str, int],
    bounds: Mapping[str, float] | None = None,
    ranges: Mapping[str, Sequence[tuple[float, float] | None]] | None = None,
    widest: Mapping[str, Sequence[tuple[float, float] | None]] | None = None,
) -> Figure:
    """Line plots of many methods: one panel per method, with the other methods in grey.

    Args:
        curves: method -> curve; all have the same quantities along both axes.
        index: method -> argument of `look`, also for the methods in ``bounds``.
        bounds: bound -> its value, drawn as a horizontal line.
        ranges: method -> interval of each value (None: no interval), drawn as bars.
        widest: method -> wider interval of each value (None: no interval), drawn as thin lines.
    """
    bounds = bounds or {}
    first, ticks = next(iter(curves.values())), sorted({x for curve in curves.values() for x in curve.x})
    labelled = {ticks[round(place)] for place in np.linspace(0, len(ticks) - 1, min(len(ticks), 4))}
    with mpl.rc_context(STYLE):
        columns = min(len(curves), 3)
        panels = [(name, curves, {name}) for name in curves]
        figure, drawn = _small_multiples(panels, index, columns, 1.25 * -(-len(curves) // columns) + 0.6)
        for axes, (name, curve) in zip(drawn, curves.items(), strict=True):
            colour = look(index[name])["color"]
            _bars(axes, curve, colour, (ranges or {}).get(name, ()), (widest or {}).get(name, ()))
            for bound, value in bounds.items():
                axes.axhline(value, **{**look(index[bound]), **_BOUND})
            axes.set_title(printable(name), color=colour, fontsize=STYLE["legend.fontsize"])
            _ticks(axes, ticks, labelled)
            axes.margins(x=0.08)  # no mark is clipped
        for axes in drawn[:-columns]:
            axes.tick_params(labelbottom=False)
        figure.supxlabel(printable(first.x_label), fontsize=STYLE["axes.labelsize"])
        figure.supylabel(in_lines(printable(first.y_label), LINE_CHARACTERS), fontsize=STYLE["axes.labelsize"])
        if bounds:
            _legend(figure, list(bounds), index, lines=True, bounds=bounds)
    return figure


def _small_multiples(
    panels: Sequence[tuple[str, Mapping[str, Curve], Collection[str]]],
    index: Mapping[str, int],
    columns: int,
    height: float,
) -> tuple[Figure, list[Axes]]:
    """Grid of panels with a common axis of values. A panel has a title, all its curves, and the methods in colour."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    drawn = list(figure.subplots(-(-len(panels) // columns), columns, squeeze=False, sharey=True).flat)
    for axes in drawn[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, curves, coloured) in zip(drawn, panels, strict=False):
        for name, curve in curves.items():
            style = {**look(index[name]), "zorder": 3} if name in coloured else {"color": RULE}
            axes.plot(curve.x, _values(curve), linewidth=1.5, markersize=4, **style)
        axes.set_title(printable(title))
        _finish(axes, "both")
    return figure, drawn[: len(panels)]


def _bars(axes: Axes, curve: Curve, colour: str, *ranges: Sequence[tuple[float, float] | None]) -> list[LineCollection]:
    """Draw vertical bars for the ranges of a curve's values; the second ranges as thin lines."""
    drawn = []
    for of_curve, thickness in zip(ranges, (2.2, 0.7), strict=True):
        known = [(x, *ends) for x, ends in zip(curve.x, of_curve, strict=False) if ends is not None]
        if known:
            x, low, high = np.transpose(known)
            drawn.append(axes.vlines(x, low, high, colour, linewidth=thickness))
    return drawn


def _ticks(axes: Axes, ticks: Sequence[float], named: Collection[float]) -> None:
    """Set ticks along x, with labels for those in ``named``; the axis is logarithmic from a ratio of `LOG_FROM`."""
    if 0 < LOG_FROM * ticks[0] <= ticks[-1]:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [f"{x:g}" if x in named else "" for x in ticks])


def _logarithmic(axes: Axes, along: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with labels at three ticks or more if its ends differ by a factor of 3 or more."""
    axes.set(**{f"{along}scale": "log"})
    axis, (low, high) = (axes.xaxis, axes.get_xlim()) if along == "x" else (axes.yaxis, axes.get_ylim())
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 6, 8)):
        ticks = [tick for tick in np.outer(decades, steps).flat if low <= tick <= high]
        if len(ticks) >= LABELLED:
            break
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=range(1, 10), numticks=100))
    axis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis=along, which="both", left=along == "y", bottom=along == "x", width=0.7)
    axes.tick_params(axis=along, which="minor", length=1.5)


def _values(curve: Curve) -> list[float]:
    return [np.nan if value is None else value for value in curve.y]


def _side_by_side(count: int) -> NDArray[np.float64]:
    """Sideways shift of each method, in typographic points."""
    step = min(ASIDE_PT, WIDEST_PT / max(count - 1, 1))
    return np.asarray((np.arange(count) - (count - 1) / 2) * step)


def panels(curves: Mapping[str, Mapping[str, Curve]], index: Mapping[str, int], label: str) -> Figure:
    """Line plots in one panel per title, with a common axis of values; logarithmic if the values differ much.

    With more than `CROWDED` methods a title has several panels. Each has a part of the methods in colour and the other
    methods in grey.

    Args:
        curves: title -> method -> curve; all have the same quantity along x, from 0.
        index: method -> argument of `look`.
        label: axis label of the values.
    """
    methods = list(dict.fromkeys(name for of_panel in curves.values() for name in of_panel))
    known = [value for of_panel in curves.values() for curve in of_panel.values() for value in curve.y if value]
    parts = -(-len(methods) // CROWDED)
    coloured = [set(methods[part::parts]) for part in range(parts)]
    titled = [(title, of_panel, part) for title, of_panel in curves.items() for part in coloured]
    with mpl.rc_context(STYLE):
        columns = min(len(titled), 2) if parts == 1 else parts
        height = 1.9 * -(-len(titled) // columns) + 0.2 * -(-len(methods) // 3) + 0.4
        figure, drawn = _small_multiples(titled, index, columns, height)
        for axes, (_, of_panel, _) in zip(drawn, titled, strict=True):
            ticks = sorted({x for curve in of_panel.values() for x in curve.x})
            axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        if known and min(known) > 0 and max(known) > SPREAD_FROM * min(known):
            label = f"{label}, log scale"
            for axes in drawn:
                _logarithmic(axes, "y")
        figure.supylabel(in_lines(printable(label), LINE_CHARACTERS), fontsize=STYLE["axes.labelsize"])
        figure.supxlabel("severity", fontsize=STYLE["axes.labelsize"])
        _legend(figure, methods, index, lines=True)
    return figure


def error_against_cost(
    points: Mapping[str, tuple[float, float]],
    index: Mapping[str, int],
    label: str,
    cost_label: str,
    lower_is_better: bool = True,
) -> Figure:
    """Scatter plot of error against cost, with the Pareto front of all points.

    Only the first `MOST_DRAWN` points are marked.

    Args:
        points: method -> (cost, error).
        index: method -> argument of `look`.
        label: axis label of the error.
        cost_label: axis label of the cost.
        lower_is_better: whether a smaller error is better; if not, the Pareto front has the largest values.
    """
    with mpl.rc_context(STYLE):
        figure, axes = _axes(WIDTH, 3.6)
        sign = 1 if lower_is_better else -1
        front, best = [], np.inf
        for cost, error in sorted(points.values(), key=lambda point: (point[0], sign * point[1])):
            if sign * error < best:
                front.append((cost, error))
                best = sign * error
        if front:
            axes.step(*zip(*front, strict=True), where="post", color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
        for name, (cost, error) in first(points).items():
            style = look(index[name])
            axes.plot([cost], [error], marker=style["marker"], color=style["color"], markersize=7)
        axes.margins(x=0.08, y=0.12)
        costs = [cost for cost, _ in points.values() if cost > 0]
        if len(costs) == len(points) and max(costs) >= LOG_FROM * min(costs):
            cost_label = f"{cost_label}, log scale"
            _logarithmic(axes, "x")
        _centred(figure, cost_label)
        axes.set_ylabel(in_lines(label, LINE_CHARACTERS * 2 // 3))
        _legend(figure, list(first(points)), index, lines=False)
        _finish(axes, "both")
    return figure


def training_curves(training: TrainingFile, index: int) -> Figure:
    """Plot the losses of a training against the step, with running means: one panel per loss, one line per seed."""
    names = sorted({name for run in training.runs for name in run.curves}, key=lambda name: (name != "total", name))
    with mpl.rc_context(STYLE):
        columns = min(max(len(names), 1), 2)
        rows = max(-(-len(names) // columns), 1)
        height = 2.0 * rows
        figure = Figure(figsize=(WIDTH, height))
        # Fixed margins in inches: a constrained layout takes longer than all other parts of such a figure.
        left, right, top, bottom, beside, below = 0.52, 0.08, 0.26, 0.66, 0.6, 0.72
        inner = (WIDTH - left - right + beside) / columns - beside, (height - top - bottom + below) / rows - below
        figure.subplots_adjust(
            left / WIDTH, bottom / height, 1 - right / WIDTH, 1 - top / height, beside / inner[0], below / inner[1]
        )
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        for axes, name in zip(panels, names, strict=False):
            low, high = np.inf, -np.inf
            for k, run in enumerate(training.runs):
                if (curve := run.curves.get(name)) is None or not curve.y:
                    continue
                y = np.array([np.nan if value is None else value for value in curve.y])
                low, high = min(low, *y[np.isfinite(y)], np.inf), max(high, *y[np.isfinite(y)], -np.inf)
                window = max(1, len(y) // 12)
                colour, mean = look(index)["color"], np.convolve(y, np.full(window, 1 / window), "valid")
                axes.plot(curve.x, y, color=colour, linewidth=0.7, alpha=0.35)
                step = max(1, window // 4)  # a mean over so many steps has no finer shape
                axes.plot(
                    curve.x[window // 2 : window // 2 + len(mean)][::step], mean[::step], color=colour, linewidth=1.9,
                    linestyle=DASHES[k % len(DASHES)], label=f"seed {run.seed}",
                )  # fmt: skip
                axes.set_xlabel(printable(curve.x_label))
                if curve.y_label != name:
                    axes.set_ylabel(printable(curve.y_label))
            is_logarithmic = low > 0 and high / low > 10
            axes.set_title(printable(name) + (", log scale" if is_logarithmic else ""))
            _finish(axes, "both")
            if is_logarithmic:
                _logarithmic(axes, "y")
        if len(training.runs) > 1:
            panels[0].legend()
        world = ", synthetic world" if training.synthetic else ""
        figure.supxlabel(printable(f"trained on {training.dataset}{world}"), fontsize=8.5)
    return figure


def to_svg(figure: Figure, name: str) -> str:
    """Convert a figure to a standalone SVG file; equal figures and names give equal bytes."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
    # its date and version would differ from build to build
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r"<!DOCTYPE[^>]*>\s*", "", text)
    # Hundredths of a point and no indentation, which halve the file.
    return re.sub(r"\n +", "\n", re.sub(r"(\d\.\d\d)\d+", r"\1", text))


def to_inline(svg: str, name: str, title: str) -> str:
    """Convert the SVG of ``to_svg`` for use in a page: with unique ids, and colours as variables of the themes."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    width = re.search(r'\swidth="([\d.]+)pt"', body)
    # On a phone a wide figure scrolls instead of becoming too small to read.
    wide = width is not None and float(width[1]) > 100 * WIDTH
    least = f"min-width:{0.65 * float(width[1]):.0f}pt;" if width and wide else ""
    widest = f' style="{least}max-width:{(1.3 if wide else 1.6) * float(width[1]):.0f}pt"' if width else ""
    body = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", body, count=2)
    body = body.replace("<svg", f'<svg role="img" aria-label="{escape(title)}" class="plot"{widest}', 1).replace(
        "xlink:href", "href"
    )
    body = re.sub(r'\sxmlns(?::xlink)?="[^"]*"', "", body)
    body = body.replace(INK, "currentColor").replace(RULE, "var(--rule)")
    for k, colour in enumerate(PALETTE):
        body = body.replace(colour, f"var(--m{k})")
    return body
