"""Figure of the attention: the epipolar line of one pixel in every other view, and the weights along the line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Image
from poseboard.methods.drawing import style
from poseboard.methods.drawing.style import INK, RULE

JOINT = "right_wrist"
"""The joint whose attention is drawn. It is far from the trunk and often occluded, so one view is not enough."""

_DPI = 150
STYLE: Any = {
    **style.STYLE,
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
_PREDICTED: dict[str, Any] = {"marker": "X", "color": "#ff8a2b", "markersize": 7, "markeredgecolor": "black"}
_QUERY: dict[str, Any] = {
    "marker": "s", "color": "none", "markersize": 11, "markeredgecolor": "#e8308a", "markeredgewidth": 1.6,
}  # fmt: skip
_BEST: dict[str, Any] = {**_QUERY, "marker": "o"}


@dataclass(frozen=True, eq=False)
class Match:
    """Attention of one pixel of a reference view to a source view.

    Args:
        pixel_px: (2,) crop pixel of the reference view, the centre of a map cell.
        line_px: (2, 2) ends of the epipolar line in the source crop; NaN if the samples are not on a line.
        samples_px: (K, 2) samples, crop pixels of the source view.
        weights: (K,) attention weights of the samples.
        hit: whether any sample is inside the source crop.
    """

    pixel_px: Array
    line_px: Array
    samples_px: Array
    weights: Array
    hit: bool


def draw_matches(
    names: Sequence[str], crops: Sequence[Image] | None, side_px: int, predicted_px: Array, matches: Sequence[Match]
) -> Figure:
    """Draw a pixel of the first view and its samples in every other view.

    Top: the crops with the epipolar line and the samples, larger and brighter with their weight. Bottom: the weights
    along the line, or by distance from the predicted joint if the samples are not on a line.

    Args:
        names: names of the V views.
        crops: (S, S, 3) image of each view; None: images are not shown.
        side_px: side S of the crops.
        predicted_px: (V, 2) predicted joint in each crop.
        matches: attention to each of the V - 1 other views.
    """
    highest = float(max(*(match.weights.max() for match in matches), 1e-12))
    lowest = min(0.0, *(float(match.weights.min()) for match in matches))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.35 * len(names), 4.1), dpi=_DPI, layout="constrained")
        above, below = figure.subplots(2, len(names), squeeze=False, height_ratios=(1.75, 1))
        for v, axes in enumerate(above):
            if crops is not None:
                axes.imshow(crops[v], extent=(-0.5, side_px - 0.5, side_px - 0.5, -0.5))
            axes.set(aspect="equal", xlim=(-0.5, side_px - 0.5), ylim=(side_px - 0.5, -0.5), xticks=[], yticks=[])
            axes.set_title(names[v])
            _mark(axes, predicted_px[v], **_PREDICTED)
        _mark(above[0], matches[0].pixel_px, **_QUERY)
        for k, (crop, axes, match) in enumerate(zip(above[1:], below[1:], matches, strict=True)):
            share = np.clip(match.weights / highest, 0, 1)
            shades = mpl.colormaps["plasma"](0.12 + 0.75 * share)
            if match.hit:
                _places(crop, match, share, shades)
            else:
                crop.set_xlabel("the line misses this crop")
            _weights(axes, match, predicted_px[k + 1], shades)
            axes.set_ylim(lowest, 1.08 * highest)
            axes.tick_params(labelleft=k == 0)
        below[1].set_ylabel("weight")
        keys = {"query": _QUERY, "predicted": _PREDICTED, "largest weight": _BEST}
        handles = [Line2D([], [], linestyle="none", **mark) for mark in keys.values()]
        handles.append(Line2D([], [], color=INK, linewidth=0.7, linestyle=(0, (3, 2))))
        below[0].axis("off")
        below[0].legend(handles, [*keys, "equal weights"], loc="center left", borderaxespad=0)
    return figure


def _places(crop: Axes, match: Match, share: Array, shades: NDArray[np.float64]) -> None:
    """Draw the line and its samples in a crop. Samples with the largest weights are largest and on top."""
    crop.plot(*match.line_px.T, color="white", linewidth=2.4, alpha=0.55, zorder=2)
    crop.plot(*match.line_px.T, color="black", linewidth=0.7, zorder=2)
    order = np.argsort(share, kind="stable")
    x, y = match.samples_px[order].T
    crop.scatter(x, y, s=5 + 25 * share[order], c=shades[order], linewidths=0.4, edgecolors="black", zorder=3)
    _mark(crop, match.samples_px[int(share.argmax())], **_BEST)


def _weights(axes: Axes, match: Match, joint_px: Array, shades: NDArray[np.float64]) -> None:
    """Plot the weights along the line, or by distance from the predicted joint if the samples are not on a line."""
    start, end = match.line_px
    straight = bool(np.isfinite(match.line_px).all() and (end != start).any())
    if straight:
        along = (end - start) / np.linalg.norm(end - start)
        at, joint_at = (match.samples_px - start) @ along, float((joint_px - start) @ along)
    else:
        at, joint_at = np.linalg.norm(match.samples_px - joint_px, axis=1), 0.0
    axes.vlines(at, 0, match.weights, colors=[tuple(shade) for shade in shades], linewidth=2.2)
    axes.axhline(1 / len(at), color=INK, linewidth=0.7, linestyle=(0, (3, 2)))
    axes.axvline(joint_at, color=_PREDICTED["color"], linewidth=1.4, zorder=0)
    axes.set_xlabel("along the line, px" if straight else "from the predicted joint, px")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y")
    axes.set_axisbelow(True)


def _mark(axes: Axes, place_px: Array, **look: Any) -> None:
    """Draw a marker with a dark edge, which is visible on any image; draw nothing at NaN."""
    if np.isfinite(place_px).all():
        axes.plot(*place_px[:, None], linestyle="none", zorder=4, **look)
