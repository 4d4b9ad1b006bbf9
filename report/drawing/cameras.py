"""Charts of recovered cameras: a rig from above, and the reliability of stated uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from poseboard.protocols.records import Curve, PlannedCamera, RigPlan
from poseboard.report.drawing.charts import COLOURS, INK, LINE_CHARACTERS, RULE, STYLE, WIDTH, in_lines, look, printable

LEVEL, BAND = 95.0, (90.0, 98.0)
"""Level of the ellipses and of the judged regions, and the range of accepted coverage at this level; %."""
ZOOMS_PER_ROW = 4
_LIMB_M = 0.9
"""Length of viewing directions on the plan."""
_TRUE: Any = {"color": COLOURS["blue"], "linewidth": 1.1, "linestyle": (0, (4, 2))}
_RECOVERED: Any = {"color": COLOURS["orange"], "linewidth": 1.4, "linestyle": "-"}
"""The colours of the skeletons on the crops of a method's page."""
_TRUE_CENTRE: Any = {
    "marker": "o", "markersize": 7, "markerfacecolor": "none", "markeredgecolor": COLOURS["blue"], "linestyle": "none",
}  # fmt: skip
_RECOVERED_CENTRE: Any = {"marker": "o", "markersize": 4, "color": COLOURS["orange"], "linestyle": "none"}


def reliability(curves: Mapping[str, Curve], index: Mapping[str, int]) -> Figure:
    """Reliability diagram: observed against nominal confidence level, one line per row, with `BAND` at `LEVEL`."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.2 + 0.2 * (len(curves) // 4)), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.plot([LEVEL, LEVEL], BAND, color=INK, linewidth=5, solid_capstyle="butt", alpha=0.35, zorder=1)
        for name, curve in curves.items():
            y = [np.nan if value is None else value for value in curve.y]
            axes.plot(curve.x, y, linewidth=1.7, markersize=4.5, **look(index[name]))
        first = next(iter(curves.values()))
        axes.set(xlim=(0, 100), ylim=(0, 101), aspect="equal")
        axes.set_xlabel(printable(first.x_label))
        axes.set_ylabel(in_lines(printable(first.y_label), LINE_CHARACTERS * 2 // 3))
        axes.set_xticks([0, 20, 40, 60, 80, LEVEL], ["0", "20", "40", "60", "80", f"{LEVEL:g}"])
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        lines = [Line2D([], [], markersize=4.5, linewidth=1.7, **look(index[name])) for name in curves]
        diagonal = Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        band = Line2D([], [], color=INK, linewidth=5, alpha=0.35, solid_capstyle="butt")
        words = [*map(printable, curves), "as stated", f"{BAND[0]:g}–{BAND[1]:g} % at {LEVEL:g} %"]
        figure.legend([*lines, diagonal, band], words, loc="outside upper left", ncols=3)
    return figure


def rig_plan(plan: RigPlan) -> Figure:
    """Draw a true and a recovered rig.

    Top left: camera centres, viewing directions and the person, from above. Top right: the person from the side.
    Bottom: the recovered centre of each camera relative to its true centre, on a common enlarged scale, with the
    confidence ellipse at `LEVEL`.
    """
    rows = -(-len(plan.cameras) // ZOOMS_PER_ROW)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.5 + 1.3 * rows), layout="constrained")
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.5, 1.3 * rows))[:, 0]
        left, right = above.subplots(1, 2, width_ratios=(2.1, 1))
        _from_above(left, plan)
        _from_the_side(right, plan)
        below.suptitle("centres, enlarged", fontsize=8.5, x=0.02, ha="left")
        panels = below.subplots(rows, ZOOMS_PER_ROW, squeeze=False)
        reach_cm = _reach_cm(plan.cameras)
        for place, axes in enumerate(panels.flat):
            if place < len(plan.cameras):
                _zoom(axes, plan.cameras[place], place + 1, reach_cm, first=place % ZOOMS_PER_ROW == 0)
            else:
                axes.set_visible(False)
        handles = [Line2D([], [], **{**_TRUE_CENTRE, **_TRUE}), Line2D([], [], **{**_RECOVERED_CENTRE, **_RECOVERED})]
        figure.legend(handles, ["true", "recovered"], loc="outside upper left", ncols=2)
    return figure


def ellipse_semi_axes(covariance: Sequence[float], level: float = LEVEL / 100) -> tuple[float, float, float]:
    """Semi-axes of a confidence ellipse, longer one first, and the angle of the longer axis in degrees.

    Args:
        covariance: xx, xy, yy of a 2D normal distribution.
        level: confidence level. The squared Mahalanobis radius is -2 ln(1 - level): chi-square, two degrees of freedom.

    Example:
        >>> [round(value, 2) for value in ellipse_semi_axes((1.0, 0.0, 4.0))]
        [4.9, 2.45, 90.0]
    """
    xx, xy, yy = covariance
    values, vectors = np.linalg.eigh(np.array([[xx, xy], [xy, yy]]))
    narrow, long = np.sqrt(-2 * np.log1p(-level) * np.maximum(values, 0))
    return float(long), float(narrow), float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])) % 180)


def _from_above(axes: Axes, plan: RigPlan) -> None:
    for number, camera in enumerate(plan.cameras, 1):
        true, recovered = np.array(camera.true_m), np.array(camera.recovered_m)
        axes.plot(*_ray(true, camera.true_direction), **_TRUE)
        axes.plot(*_ray(recovered, camera.recovered_direction), **_RECOVERED)
        axes.plot(*true, **_TRUE_CENTRE)
        axes.plot(*recovered, **_RECOVERED_CENTRE)
        if camera.covariance_m2 is not None:
            _region(axes, recovered, camera.covariance_m2, per_m=1.0)
        back = -9 * np.array(camera.true_direction) / max(float(np.linalg.norm(camera.true_direction)), 1e-9)
        at: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 8}
        axes.annotate(str(number), camera.true_m, (float(back[0]), float(back[1])), **at)
    _skeletons(axes, plan, (0, 1))
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    axes.set(xlabel=f"{plan.axes[0]} (m)", ylabel=f"{plan.axes[1]} (m)")
    axes.set_title("from above")
    _plain(axes)


def _from_the_side(axes: Axes, plan: RigPlan) -> None:
    _skeletons(axes, plan, (0, 2))
    axes.set_aspect("equal", adjustable="datalim")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.set(xlabel=f"{plan.axes[0]} (m)")
    axes.set_title("the person")
    _plain(axes)


def _zoom(axes: Axes, camera: PlannedCamera, number: int, reach_cm: float, *, first: bool) -> None:
    offset = 100 * (np.array(camera.recovered_m) - np.array(camera.true_m))
    axes.plot([0, offset[0]], [0, offset[1]], **{**_RECOVERED, "linewidth": 0.8})
    axes.plot(0, 0, **_TRUE_CENTRE)
    axes.plot(*offset, **_RECOVERED_CENTRE)
    if camera.covariance_m2 is not None and not camera.reference:
        _region(axes, offset, camera.covariance_m2, per_m=100.0)
    tick = float(f"{reach_cm / 2:.0e}")
    axes.set(xlim=(-reach_cm, reach_cm), ylim=(-reach_cm, reach_cm), aspect="equal")
    axes.set_xticks([-tick, 0, tick])
    axes.set_yticks([-tick, 0, tick])
    axes.set_title(f"{number}, reference" if camera.reference else str(number), fontsize=8)
    if first:
        axes.set_ylabel("cm", fontsize=7.5)
    _plain(axes)
    axes.tick_params(labelleft=first, labelbottom=False)


def _reach_cm(cameras: Iterable[PlannedCamera]) -> float:
    """Half side of the enlarged panels in cm, so that they contain all centres and ellipses."""
    reach = [1e-3]
    for camera in cameras:
        region = 0.0 if camera.covariance_m2 is None else ellipse_semi_axes(camera.covariance_m2)[0]
        reach.append(float(np.abs(np.array(camera.recovered_m) - np.array(camera.true_m)).max()) + region)
    return 100 * 1.15 * max(reach)


def _region(axes: Axes, centre: NDArray[np.float64], covariance: Sequence[float], *, per_m: float) -> None:
    long, narrow, angle = ellipse_semi_axes(covariance)
    size = {"width": 2 * per_m * long, "height": 2 * per_m * narrow, "angle": angle}
    at, colour = (float(centre[0]), float(centre[1])), _RECOVERED["color"]
    axes.add_patch(Ellipse(at, **size, facecolor=colour, alpha=0.25))
    axes.add_patch(Ellipse(at, **size, fill=False, edgecolor=colour, linewidth=0.9))


def _ray(centre: NDArray[np.float64], direction: Sequence[float]) -> NDArray[np.float64]:
    return np.stack([centre, centre + _LIMB_M * np.array(direction)]).T


def _skeletons(axes: Axes, plan: RigPlan, across: tuple[int, int]) -> None:
    """Draw the true and the recovered person, projected on two axes of a plan."""
    for joints, look_of in ((plan.true_joints_m, _TRUE), (plan.recovered_joints_m, _RECOVERED)):
        for a, b in plan.edges:
            if (start := joints[a]) is not None and (end := joints[b]) is not None:
                axes.plot(*np.array([start, end])[:, across].T, **look_of)


def _plain(axes: Axes) -> None:
    axes.grid(visible=True, color=RULE)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7.5, length=2.5)
