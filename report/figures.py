"""Plots: pure functions from result objects to a matplotlib Figure, and one function that turns a Figure into SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from poseboard.protocols.scores import Curve, Score, TrainingFile

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6bb1", "#7f7f7f")
"""Okabe and Ito's colour-blind-safe colours without black and yellow; two more for long boards."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
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


def printable(name: str) -> str:
    """``name`` as plot text: control characters, which XML forbids, replaced; a leading underscore kept visible."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


def look(index: int) -> dict[str, Any]:
    """Colour, marker and dash of the method with this index, the same in every plot."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[index % len(DASHES)],
    }


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _finish(axes: Axes, grid: str) -> None:
    axes.grid(True, axis=grid)  # type: ignore[arg-type]  # "x", "y" or "both"
    axes.set_axisbelow(True)
    sns.despine(ax=axes, left=grid == "x", bottom=False)
    axes.tick_params(left=False, bottom=grid != "x", length=3, width=0.7)


def _legend(figure: Figure, names: Sequence[str], index: Mapping[str, int], lines: bool) -> None:
    columns = min(len(names), 4)
    names = [name for first in range(columns) for name in names[first::columns]]  # matplotlib fills column by column
    handles = [
        Line2D([], [], markersize=5, linewidth=1.6, **{**look(index[n]), **({} if lines else {"linestyle": "none"})})
        for n in names
    ]
    figure.legend(handles, [printable(n) for n in names], loc="outside upper left", ncols=columns)


def intervals(scores: Mapping[str, Score], index: Mapping[str, int], unit: str) -> Figure:
    """Forest plot: each method's value with its 95 % interval, best on top."""
    shown = {name: (score.value, score.ci95) for name, score in scores.items() if score.value is not None}
    with mpl.rc_context(STYLE):
        figure, axes = _axes(6.4, 0.8 + 0.3 * max(len(shown), 1))
        for y, (name, (value, ci95)) in enumerate(shown.items()):
            style = look(index[name])
            if ci95 is not None:
                axes.plot(ci95, [y, y], color=style["color"], linewidth=2.2, solid_capstyle="butt")
            axes.plot([value], [y], marker=style["marker"], color=style["color"], markersize=6.5)
        axes.set_yticks(range(len(shown)), [printable(name) for name in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlabel(f"error, {unit}, with 95 % interval")
        _finish(axes, "x")
    return figure


def breakdown(scores: Mapping[str, Score], index: Mapping[str, int], kind: str, unit: str) -> Figure:
    """Value by action, joint or subject: one row a category, one mark a method, worst category on top."""
    order: dict[str, list[float]] = {}
    for score in scores.values():
        for name, value in score.breakdown.get(kind, {}).items():
            order.setdefault(name, []).extend([] if value is None else [value])
    categories = sorted(order, key=lambda name: (np.mean(order[name]) if order[name] else np.inf, name))
    with mpl.rc_context(STYLE):
        figure, axes = _axes(6.4, 1.2 + 0.235 * max(len(categories), 1))
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
        axes.set_xlabel(f"error, {unit}")
        _legend(figure, list(scores), index, lines=False)
        _finish(axes, "x")
    return figure


def lines(curves: Mapping[str, Curve], index: Mapping[str, int], marks: bool, from_zero: bool) -> Figure:
    """One line a method (PCK against threshold, error against number of cameras); axes are labelled by the curves."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes(6.4, 3.5)
        for name, curve in curves.items():
            style = look(index[name]) if marks else {**look(index[name]), "marker": ""}
            y = [np.nan if value is None else value for value in curve.y]
            axes.plot(curve.x, y, linewidth=1.7, markersize=5.5, **style)
        first = next(iter(curves.values()))
        axes.set_xlabel(printable(first.x_label))
        axes.set_ylabel(printable(first.y_label))
        if from_zero:
            axes.set_ylim(bottom=0)
        ticks = sorted({x for curve in curves.values() for x in curve.x})
        if marks and len(ticks) <= 12:
            axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
        _legend(figure, list(curves), index, lines=True)
        _finish(axes, "both")
    return figure


def error_against_cost(points: Mapping[str, tuple[float, float]], index: Mapping[str, int], unit: str) -> Figure:
    """Error (second of each pair, ``unit``) against training seconds (first), with the Pareto front drawn."""
    with mpl.rc_context(STYLE):
        figure, axes = _axes(6.4, 3.2)
        front, best = [], np.inf
        for seconds, error in sorted(points.values()):
            if error < best:
                front.append((seconds, error))
                best = error
        if front:
            axes.step(*zip(*front, strict=True), where="post", color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
        for name, (seconds, error) in points.items():
            style = look(index[name])
            axes.plot([seconds], [error], marker=style["marker"], color=style["color"], markersize=7)
            axes.annotate(
                printable(name), (seconds, error), xytext=(7, 3), textcoords="offset points", color=INK, fontsize=8.5
            )
        axes.margins(x=0.22, y=0.16)
        axes.set_xlabel("training, seconds (with the training it starts from)")
        axes.set_ylabel(f"error, {unit}")
        _finish(axes, "both")
    return figure


def training_curves(training: TrainingFile, index: int) -> Figure:
    """Every loss of a method's training against the step, one panel a loss, one line a seed."""
    names = sorted({name for run in training.runs for name in run.curves}, key=lambda name: (name != "total", name))
    with mpl.rc_context(STYLE):
        columns = min(max(len(names), 1), 3)
        rows = max(-(-len(names) // columns), 1)
        figure = Figure(figsize=(max(3.0 * columns, 4.2), 2.3 * rows), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        for axes, name in zip(panels, names, strict=False):
            positive = True
            for k, run in enumerate(training.runs):
                if (curve := run.curves.get(name)) is None:
                    continue
                y = np.array([np.nan if value is None else value for value in curve.y])
                positive = positive and bool(np.all(y[np.isfinite(y)] > 0))
                axes.plot(
                    curve.x, y, color=look(index)["color"], linestyle=DASHES[k % len(DASHES)], linewidth=1.5,
                    label=f"seed {run.seed}",
                )  # fmt: skip
                axes.set_xlabel(printable(curve.x_label))
                if curve.y_label != name:
                    axes.set_ylabel(printable(curve.y_label))
            if positive:
                axes.set_yscale("log")
                for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                    ticks(FuncFormatter(lambda y, _: f"{y:g}"))
            axes.set_title(printable(name))
            _finish(axes, "both")
        if len(training.runs) > 1:
            panels[0].legend()
        world = ", synthetic world" if training.synthetic else ""
        figure.supxlabel(printable(f"trained on {training.dataset}{world}"), fontsize=8.5)
    return figure


def to_svg(figure: Figure, name: str) -> str:
    """The figure as a standalone SVG file; the same figure and name give the same bytes."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
    # its date and version would differ from build to build
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", buffer.getvalue(), flags=re.DOTALL)
    return re.sub(r"<!DOCTYPE[^>]*>\s*", "", text)


def to_inline(svg: str, name: str) -> str:
    """The SVG of ``to_svg`` for use inside a page: ids made unique by ``name``, colours handed to the page's themes."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    width = re.search(r'\swidth="([\d.]+)pt"', body)
    widest = f' style="max-width:{1.3 * float(width[1]):.0f}pt"' if width else ""
    body = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", body, count=2)
    body = body.replace("<svg", f'<svg role="img" class="plot"{widest}', 1).replace("xlink:href", "href")
    body = re.sub(r'\sxmlns(?::xlink)?="[^"]*"', "", body)
    body = body.replace(INK, "currentColor").replace(RULE, "var(--rule)")
    for k, colour in enumerate(PALETTE):
        body = body.replace(colour, f"var(--m{k})")
    return body
