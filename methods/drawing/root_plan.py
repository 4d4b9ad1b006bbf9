"""Figure of the root plan: a photograph with boxes and roots, and the same people from above."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Rectangle

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.sample import Image
from poseboard.methods.drawing.style import COLOURS, INK, NO_IMAGE, STYLE

_RING_COLOUR = "#b9bec6"
_DPI = 120
_HEIGHT, _PLAN_WIDTH, _MARGIN, _FOOT = 3.4, 3.4, 0.3, 0.42  # inches
_RINGS = 5
"""Maximum number of range rings."""
_STEPS_M = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Distances between range rings."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """Image with the boxes of P people with predicted roots.

    Args:
        camera: camera of the image. Roots are in its frame.
        image: (H, W, 3) uint8 RGB; None: not shown.
        boxes_px: (P, 4) left, upper, right, lower, detected or annotated; NaN: no box.
    """

    camera: Camera
    image: Image | None
    boxes_px: Array


def draw_plan(photograph: Photograph, roots_mm: Array, true_mm: Array | None = None, title: str = "") -> Figure:
    """Draw the photograph with boxes and roots, and next to it the people from above.

    The plan has x to the right and depth z upwards, both in metres, with the camera's field of view and range rings. A
    person has the same number and colour in both panels. True roots are open circles.

    Args:
        photograph: the image and its boxes.
        roots_mm: (P, 3) predicted roots in the camera's frame, mm; NaN: not predicted.
        true_mm: (T, 3) true roots of the annotated people in the camera's frame, mm; None: not annotated.
        title: title of the photograph.
    """
    width, height = photograph.camera.size
    photograph_width = (_HEIGHT - _MARGIN - _FOOT) * min(max(width / height, 0.4), 2.4)
    whole = photograph_width + _PLAN_WIDTH + 3 * _MARGIN
    tall = (_HEIGHT - _MARGIN - _FOOT) / _HEIGHT
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(whole, _HEIGHT), dpi=_DPI)
        left = figure.add_axes((0.1 / whole, _FOOT / _HEIGHT, photograph_width / whole, tall))
        at = (photograph_width + 2 * _MARGIN + 0.1) / whole
        right = figure.add_axes((at, _FOOT / _HEIGHT, _PLAN_WIDTH / whole, tall))
        _draw_photograph(left, photograph, roots_mm, true_mm, title)
        _draw_from_above(right, photograph.camera, roots_mm, true_mm)
    return figure


def ring_step_m(farthest_m: float) -> float:
    """Distance between range rings in metres, such that at most five rings are drawn.

    Example:
        >>> ring_step_m(4.2), ring_step_m(30.0)
        (1.0, 10.0)
    """
    return next((step for step in _STEPS_M if farthest_m <= _RINGS * step), farthest_m / _RINGS)


def _colour(person: int) -> str:
    return COLOURS[person % len(COLOURS)]


def _projected(camera: Camera, roots_mm: Array) -> Array:
    """Project roots to pixels (P, 2); NaN where a root is behind the camera or not predicted."""
    z = np.where(roots_mm[:, 2:] > 0, roots_mm[:, 2:], np.nan)
    return camera.image(roots_mm[:, :2] / z)


def _draw_photograph(axes: Axes, photograph: Photograph, roots_mm: Array, true_mm: Array | None, title: str) -> None:
    width, height = photograph.camera.size
    if photograph.image is not None:
        axes.imshow(photograph.image)
    else:
        axes.set_facecolor(NO_IMAGE)
    for person, (x0, y0, x1, y1) in enumerate(photograph.boxes_px):
        if not np.isfinite((x0, y0, x1, y1)).all():
            continue
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=_colour(person), linewidth=1.3))
        corner = (np.clip(x0, 0, width), np.clip(y0, 0, height))
        axes.annotate(
            str(person + 1), corner, (2, -2), textcoords="offset points", color="white", fontsize=7, va="top",
            bbox={"facecolor": _colour(person), "edgecolor": "none", "pad": 1.2},
        )  # fmt: skip
    true_px = None if true_mm is None else _projected(photograph.camera, true_mm)
    _mark(axes, _projected(photograph.camera, roots_mm), true_px)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title)


def _mark(axes: Axes, points: Array, true: Array | None, labels: bool = False) -> None:
    """Draw predicted roots as dots in their person's colour, and true roots as open circles."""
    if true is not None:
        axes.scatter(true[:, 0], true[:, 1], s=75, facecolors="none", edgecolors="white", linewidths=2.6, zorder=3)
        axes.scatter(true[:, 0], true[:, 1], s=75, facecolors="none", edgecolors=INK, linewidths=1.1, zorder=4)
    colours = [_colour(person) for person in range(len(points))]
    axes.scatter(points[:, 0], points[:, 1], s=24, c=colours, edgecolors="white", linewidths=0.7, zorder=5)
    for person, point in enumerate(points if labels else ()):
        if np.isfinite(point).all():
            axes.annotate(
                str(person + 1), point, (4, 3), textcoords="offset points", fontsize=7, color=_colour(person), zorder=6
            )


def _draw_from_above(axes: Axes, camera: Camera, roots_mm: Array, true_mm: Array | None) -> None:
    roots, true = roots_mm[:, [0, 2]] / 1000, None if true_mm is None else true_mm[:, [0, 2]] / 1000
    every = roots if true is None else np.concatenate([roots, true])
    every = every[np.isfinite(every).all(axis=1)]
    farthest = float(np.linalg.norm(every, axis=1).max(initial=1.0))
    step = ring_step_m(farthest)
    rings = step * np.arange(1, int(np.ceil(farthest / step)) + 1)
    reach = float(rings[-1])
    width, height = camera.size
    sides = np.array([[0.0, height / 2], [width, height / 2]])
    edges = camera.normalised(camera.undistort(sides))[:, 0]
    angles = np.degrees(np.arctan2(1.0, edges))  # of the left and the right edge of the image, from x to z
    for radius in rings:
        axes.add_patch(
            Arc((0, 0), 2 * radius, 2 * radius, theta1=angles[1], theta2=angles[0], color=_RING_COLOUR, linewidth=0.7)
        )
        axes.annotate(
            f"{radius:g} m", (radius * np.cos(np.radians(angles[1])), radius * np.sin(np.radians(angles[1]))), (3, -3),
            textcoords="offset points", fontsize=6.5, color="#5a616b",
        )  # fmt: skip
    for edge in edges:
        direction = np.array([edge, 1.0]) / np.hypot(edge, 1.0)
        axes.plot(*np.outer(direction, [0, reach]), color=INK, linewidth=0.9)
    axes.plot(0, 0, marker="^", color=INK, markersize=6, clip_on=False)
    _mark(axes, roots, true, labels=True)
    lower, upper = _limits(every, edges, reach)
    axes.set(xlim=(lower[0], upper[0]), ylim=(lower[1], upper[1]), aspect="equal", xlabel="x (m)", ylabel="z (m)")
    axes.set_title("from above" if true is None else "from above; open circles: true roots")
    axes.tick_params(labelsize=6.5, length=2.5)
    axes.spines[["top", "right"]].set_visible(False)


def _limits(every: Array, edges: Array, reach: float) -> tuple[Array, Array]:
    """Lower left and upper right corner (x, z) of a square that contains all people, the camera and the rings."""
    direction = edges / np.hypot(edges, 1.0)
    points = np.concatenate([every, [[0.0, 0.0], [0.0, reach]], np.stack([reach * direction, [0.0, 0.0]], axis=1)])
    lower, upper = points.min(axis=0), points.max(axis=0)
    side = 1.08 * float((upper - lower).max())
    middle = (lower + upper) / 2
    corner = np.array([middle[0] - side / 2, lower[1] - 0.04 * side])
    return corner, corner + side


def plan_caption(*, true: bool) -> str:
    """Caption that explains the symbols of the figure."""
    known = " Open circles are true roots." if true else ""
    return (
        "Left: boxes, and each person's root. Right: the same people from above, in metres, with the camera at the "
        f"origin, its field of view and range rings.{known}"
    )
