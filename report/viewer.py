"""Data for the 3D viewer (templates/viewer.js): tracks of people, and cameras."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 200_000
"""Most points of the viewer, about 5 MB; frames of a longer recording are left out at equal steps."""


@dataclass(frozen=True, eq=False)
class RigCamera:
    """Camera of a rig.

    Args:
        name: name of the camera.
        description: position, direction and field of view in one line.
        centre_mm: (3,) camera centre in a world with y up, mm.
        corners: (4, 3) vectors from the centre to the image corners at depth 1, in order around the image, in a world
            with y up.
    """

    name: str
    description: str
    centre_mm: NDArray[np.float64]
    corners: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RigPerson:
    """Track of a person.

    Args:
        name: "person1", …
        start_frame: number of the first frame.
        points_mm: (F, J, 3) joints in consecutive frames, in a world with y up, mm; NaN: not predicted.
    """

    name: str
    start_frame: int
    points_mm: NDArray[np.float64]


def viewer_data(
    joints: Sequence[str],
    edges: Sequence[tuple[int, int]],
    cameras: Sequence[RigCamera],
    people: Sequence[RigPerson],
    rate_hz: float,
    most_points: int = MOST_POINTS,
) -> dict[str, Any]:
    """Data for the viewer as JSON values: frames in the format of the JSON export, and cameras; y is up, unit mm.

    Only every ``stride``-th frame is kept, counted from the first frame with a person.

    Args:
        joints: J joint names.
        edges: limbs as pairs of joint indices.
        cameras: cameras, which the viewer draws as pyramids.
        people: tracks of the people.
        rate_hz: frames per second.
        most_points: maximum number of joints, summed over people and kept frames; determines the stride.

    Example:
        >>> person = RigPerson("person1", 5, np.full((4, 1, 3), 1.26))
        >>> data = viewer_data(["nose"], [], [], [person], 60.0, most_points=2)
        >>> data["stride"], data["first_frame"], data["frames"], data["people"][0]["frames"][0]
        (2, 5, 2, [[1.3, 1.3, 1.3]])
    """
    first = min((person.start_frame for person in people), default=0)
    last = max((person.start_frame + len(person.points_mm) - 1 for person in people), default=-1)
    points = sum(len(person.points_mm) for person in people) * len(joints)
    stride = max(1, math.ceil(points / most_points))
    kept_people = []
    for person in people:
        skipped = -(person.start_frame - first) % stride
        kept = person.points_mm[skipped::stride]
        start = (person.start_frame + skipped - first) // stride
        kept_people.append({"name": person.name, "start": start, "frames": rounded_points(kept)})
    centre, reach = _extent(people, cameras)
    depth_mm = 0.12 * reach
    return {
        "unit": "mm",
        "up": "y",
        "rate_hz": rate_hz,
        "first_frame": first,
        "stride": stride,
        "frames": (last - first) // stride + 1,
        "names": list(joints),
        "edges": [list(edge) for edge in edges],
        "people": kept_people,
        "cameras": [
            {
                "name": camera.name,
                "centre": rounded_points(camera.centre_mm),
                "corners": rounded_points(camera.centre_mm + depth_mm * camera.corners),
            }
            for camera in cameras
        ],
        "centre": rounded_points(centre),
        "reach": round(reach, 1),
        "floor": _floor_mm(people),
    }


def _extent(people: Sequence[RigPerson], cameras: Sequence[RigCamera]) -> tuple[NDArray[np.float64], float]:
    """Centre (3,) and radius of the scene in mm: the median joint, and the largest camera distance except outliers."""
    joints = np.concatenate([np.empty((0, 3)), *(person.points_mm.reshape(-1, 3) for person in people)])
    joints = joints[np.isfinite(joints).all(axis=1)]
    centre = np.median(joints, axis=0) if len(joints) else np.zeros(3)
    distances = [float(np.linalg.norm(camera.centre_mm - centre)) for camera in cameras]
    # A camera with a wrong position must not make the others and the people tiny.
    reach = min(max(distances), 2 * float(np.median(distances))) if distances else 0.0
    return centre, reach or 2000.0


def _floor_mm(people: Sequence[RigPerson]) -> float:
    """Height of the floor in mm: median height of each person's lowest joint over all frames; 0 without people."""
    heights = [person.points_mm[..., 1] for person in people]
    lowest = [np.where(np.isfinite(height), height, np.inf).min(axis=1) for height in heights]
    values = np.concatenate([np.empty(0), *lowest])
    values = values[np.isfinite(values)]
    return round(float(np.median(values)), 1) if len(values) else 0.0


def rounded_points(values: NDArray[np.floating]) -> Any:
    """Convert points (..., D) to nested lists with one decimal, or integers if all are whole; None: not finite.

    Example:
        >>> rounded_points(np.array([[1.26, 2.0], [np.nan, 0.0]])), rounded_points(np.array([3.0, 2.0]))
        ([[1.3, 2.0], None], [3, 2])
    """
    if np.isfinite(values).all():
        rounded = np.round(values, 1)
        return (rounded.astype(np.int64) if (rounded == np.round(rounded)).all() else rounded).tolist()
    return [rounded_points(part) for part in values] if values.ndim > 1 else None
