"""Figure of several people: their detections and projections in every view, and their poses in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Image
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.drawing.style import COLOURS, NO_IMAGE, STYLE

_DPI = 120


@dataclass(frozen=True, eq=False)
class ViewOfPeople:
    """One view with its detections and projected people.

    Args:
        title: title of the panel.
        size_px: (width, height) of the image.
        image: (H, W, 3) uint8 RGB; None: not shown.
        detected_px: (N, J, 2) detected joints; NaN: not detected.
        projected_px: (P, J, 2) projections of the 3D poses, in the order of the poses; NaN: not predicted.
    """

    title: str
    size_px: tuple[int, int]
    image: Image | None
    detected_px: Array
    projected_px: Array


def draw_people(views: Sequence[ViewOfPeople], joints_mm: Array, skeleton: Skeleton) -> Figure:
    """Draw one panel per view (dots: detected joints, lines: projected people) and one panel of the 3D poses.

    A person has the same colour in all panels. Colours are assigned by position, so that a person keeps a colour in
    neighbouring frames.

    Args:
        views: at least one view.
        joints_mm: (P, J, 3) world mm.
        skeleton: skeleton of all joints.
    """
    panels = len(views) + 1
    columns = min(panels, 3)
    rows = -(-panels // columns)
    order = np.argsort(_mean_y(joints_mm), kind="stable")
    colours = {int(person): COLOURS[place % len(COLOURS)] for place, person in enumerate(order)}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.3 * columns, 2.8 * rows), dpi=_DPI, layout="constrained")
        for place, view in enumerate(views):
            _draw_view(figure.add_subplot(rows, columns, place + 1), view, skeleton, colours)
        _draw_in_space(figure.add_subplot(rows, columns, panels, projection="3d"), joints_mm, skeleton, colours)
    return figure


def _draw_view(axes: Axes, view: ViewOfPeople, skeleton: Skeleton, colours: dict[int, str]) -> None:
    width, height = view.size_px
    if view.image is not None:
        axes.imshow(view.image)
    else:
        axes.set_facecolor(NO_IMAGE)
    x, y = view.detected_px.reshape(-1, 2).T
    axes.scatter(x, y, s=5, color="black", alpha=0.55, linewidths=0, zorder=3)
    for person, joints_px in enumerate(view.projected_px):
        for a, b in skeleton.edge_indices:
            axes.plot(*joints_px[[a, b]].T, color=colours[person], linewidth=1.3)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    axes.set_title(view.title)


def _draw_in_space(axes: Axes3D, joints_mm: Array, skeleton: Skeleton, colours: dict[int, str]) -> None:
    for person, joints in enumerate(joints_mm / 1000):
        for a, b in skeleton.edge_indices:
            axes.plot(*joints[[a, b]].T, color=colours[person], linewidth=1.3)
    extent = np.array([np.ptp(limits) for limits in (axes.get_xlim(), axes.get_ylim(), axes.get_zlim())])
    axes.set_box_aspect(extent, zoom=0.8)  # equal scales of the axes, with room for the labels
    axes.set(xlabel="x (m)", ylabel="y (m)", zlabel="z (m)")
    axes.tick_params(labelsize=6)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(MaxNLocator(3))


def _mean_y(joints_mm: Array) -> Array:
    """Mean y (P,) of each person's predicted joints; 0 for a person without predicted joints."""
    known = np.isfinite(joints_mm).all(axis=-1)
    total = np.where(known, joints_mm[..., 1], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(known.sum(axis=1), 1))
