"""3D points over time, and the direction of their vertical axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array

Up = Literal["x", "y", "z", "-x", "-y", "-z"]
"""Axis that points up. Axes are right-handed. `-y` is the world of a camera that stands upright."""

_TO_Y_UP: Mapping[Up, Array] = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "x": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "-y": np.diag([1.0, -1, -1]),
    "-z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-x": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
}
"""Rotations to the axes with y up; those of x, z and their opposites turn by 90°, and -y by 180°."""

MAX_POINTS = 100_000_000
"""Most points of a file, present or missing: 2.4 GB of coordinates."""


@dataclass(frozen=True, eq=False)
class Motion:
    """Named points in F frames at a constant rate.

    Args:
        names: N distinct names.
        points_mm: (F, N, 3) points in the world, mm; NaN for a missing point.
        rate_hz: frames per second.
        up: axis of the world that points up.
        start_frame: number of the first frame.
        remarks: what the reader assumed, one sentence each.

    Example:
        >>> motion = Motion(("nose",), np.array([[[1.0, 2.0, 1500.0]]]), 50.0, up="z")
        >>> motion.turned("y").points_mm.tolist()
        [[[1.0, 1500.0, -2.0]]]
    """

    names: tuple[str, ...]
    points_mm: Array
    rate_hz: float
    up: Up
    start_frame: int = 0
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.points_mm.ndim != 3 or self.points_mm.shape[1:] != (len(self.names), 3):
            raise ValueError(f"points of shape {self.points_mm.shape} for {len(self.names)} names")
        if len(set(self.names)) < len(self.names):
            raise ValueError("names repeat")
        if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise ValueError(f"rate of {self.rate_hz} Hz")
        if self.up not in get_args(Up):
            raise ValueError(f"{self.up} is not an axis")

    def __len__(self) -> int:
        return len(self.points_mm)

    @property
    def frames(self) -> NDArray[np.int64]:
        """(F,) frame numbers."""
        return np.arange(self.start_frame, self.start_frame + len(self), dtype=np.int64)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(F, N) whether a point is missing."""
        return ~np.asarray(np.isfinite(self.points_mm).all(axis=2))

    @property
    def times_s(self) -> Array:
        """(F,) seconds after the first frame."""
        return np.arange(len(self)) / self.rate_hz

    def turned(self, up: Up) -> Motion:
        """Rotate the world so that another axis points up; distances and handedness stay.

        From z up to y up, the new x, y, z are the old x, z, -y, as in OpenSim's documentation.
        """
        rotation = _TO_Y_UP[up].T @ _TO_Y_UP[self.up]
        # Entries are 0 and ±1: adding 0 turns -0 into 0.
        return replace(self, points_mm=self.points_mm @ rotation.T + 0.0, up=up)
