"""The page of a rig: numbers of a run, cameras, pictures, and a 3D viewer of its people, in one file."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseboard.report.site import environment

MOST_POINTS = 200_000
"""Most points of the viewer, about 5 MB; frames of a longer recording are left out at equal steps."""

BLIND_SPOTS: Mapping[str, str] = {
    "rig-held-out": "An error that all cameras share. It includes the error of the detections.",
    "rig-held-out-p90": "An error that all cameras share. It includes the error of the detections.",
    "rig-bones": "Errors that do not change over time.",
    "rig-jitter": "Errors that change slowly; smoothing lowers it.",
    "rig-joints": "Whether they are right.",
    "rig-reprojection": "Errors in depth.",
    "rig-mpjpe": "An error of the whole rig.",
}
"""Table -> what its number does not see, as in docs/rig.md."""


@dataclass(frozen=True)
class RigNumber:
    """A number of the run.

    Args:
        table: id of its table.
        title: what it is.
        unit: its unit.
        value: the number; None: there is none.
        ci95: 95 % confidence interval, if there is one.
        counts: missing and false predictions in words; empty: none.
        details: lines by camera and of the worst joints.
    """

    table: str
    title: str
    unit: str
    value: float | None
    ci95: tuple[float, float] | None = None
    counts: str = ""
    details: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class RigCamera:
    """A camera of the rig.

    Args:
        name: its name.
        description: position, direction and field of view in one line.
        centre_mm: (3,) camera centre, world with y up, mm.
        corners: (4, 3) directions from the centre to the corners of the image, in order around it, 1 along the optical
            axis, world with y up.
    """

    name: str
    description: str
    centre_mm: NDArray[np.float64]
    corners: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RigPerson:
    """A tracked person.

    Args:
        name: "person1", …
        start_frame: number of the first frame.
        points_mm: (F, J, 3) joints in consecutive frames, world with y up, mm; NaN: not predicted.
    """

    name: str
    start_frame: int
    points_mm: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RigRun:
    """Content of the page.

    Args:
        rig: name of the rig.
        row: row that predicted the people.
        detail: frames, cameras and joints in one line.
        up: axis of the world of the calibration that points up.
        rate_hz: frames per second.
        joints: J joint names.
        edges: limbs as pairs of joint indices.
        numbers: in the order of the page.
        cameras: of the rig.
        people: tracked over the frames.
        pictures: caption and PNG of some frames.
        warning: of the profile, if its numbers must not be quoted.
        profile: name of the profile.
    """

    rig: str
    row: str
    detail: str
    up: str
    rate_hz: float
    joints: Sequence[str]
    edges: Sequence[tuple[int, int]]
    numbers: Sequence[RigNumber]
    cameras: Sequence[RigCamera]
    people: Sequence[RigPerson]
    pictures: Sequence[tuple[str, bytes]] = ()
    warning: str | None = None
    profile: str = "default"


def rig_page(run: RigRun) -> bytes:
    """HTML of the page: one file without requests. Without JavaScript, all but the 3D viewer can be read.

    Example:
        >>> run = RigRun("hall", "dlt", "no frames", "z", 60.0, ["nose"], [], [], [], [])
        >>> rig_page(run).decode().splitlines()[0]
        '<!doctype html>'
    """
    templates = environment("rig.js")
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    scene = viewer_data(run)
    return (
        templates.get_template("rig.html.j2")
        .render(
            run=run,
            scene=scene,
            blind_spots=BLIND_SPOTS,
            pictures=[(caption, base64.b64encode(png).decode()) for caption, png in run.pictures],
            warnings=[run.warning] if run.warning else [],
            profile=run.profile,
        )
        .encode()
    )


def viewer_data(run: RigRun, most_points: int = MOST_POINTS) -> dict[str, Any]:
    """What the viewer draws, as JSON values: the frames of the JSON export, and cameras; y is up, unit mm.

    Every ``stride``-th frame of the rig is kept, counted from the first frame with a person.

    Args:
        run: content of the page.
        most_points: maximum number of joints of all people and frames.

    Example:
        >>> person = RigPerson("person1", 5, np.full((4, 1, 3), 1.26))
        >>> run = RigRun("hall", "dlt", "", "z", 60.0, ["nose"], [], [], [], [person])
        >>> data = viewer_data(run, most_points=2)
        >>> data["stride"], data["first_frame"], data["frames"], data["people"][0]["frames"][0]
        (2, 5, 2, [[1.3, 1.3, 1.3]])
    """
    first = min((person.start_frame for person in run.people), default=0)
    last = max((person.start_frame + len(person.points_mm) - 1 for person in run.people), default=-1)
    points = sum(len(person.points_mm) for person in run.people) * len(run.joints)
    stride = max(1, math.ceil(points / most_points))
    people = []
    for person in run.people:
        skipped = -(person.start_frame - first) % stride
        kept = person.points_mm[skipped::stride]
        start = (person.start_frame + skipped - first) // stride
        people.append({"name": person.name, "start": start, "frames": _rounded(kept)})
    centre, reach = _extent(run)
    depth_mm = 0.12 * reach
    return {
        "unit": "mm",
        "up": "y",
        "rate_hz": run.rate_hz,
        "first_frame": first,
        "stride": stride,
        "frames": (last - first) // stride + 1,
        "names": list(run.joints),
        "edges": [list(edge) for edge in run.edges],
        "people": people,
        "cameras": [
            {
                "name": camera.name,
                "centre": _rounded(camera.centre_mm),
                "corners": _rounded(camera.centre_mm + depth_mm * camera.corners),
            }
            for camera in run.cameras
        ],
        "centre": _rounded(centre),
        "reach": round(reach, 1),
        "floor": _floor_mm(run),
    }


def _extent(run: RigRun) -> tuple[NDArray[np.float64], float]:
    """Median of all joints, and a distance from it within which the cameras are; the origin and 2 m without them."""
    joints = np.concatenate([np.empty((0, 3)), *(person.points_mm.reshape(-1, 3) for person in run.people)])
    joints = joints[np.isfinite(joints).all(axis=1)]
    centre = np.median(joints, axis=0) if len(joints) else np.zeros(3)
    distances = [float(np.linalg.norm(camera.centre_mm - centre)) for camera in run.cameras]
    # A camera with a wrong position must not make the others and the people tiny.
    reach = min(max(distances), 2 * float(np.median(distances))) if distances else 0.0
    return centre, reach or 2000.0


def _floor_mm(run: RigRun) -> float:
    """Height of the floor, mm: median over the frames of the height of each person's lowest joint; 0 without people."""
    heights = [person.points_mm[..., 1] for person in run.people]
    lowest = [np.where(np.isfinite(height), height, np.inf).min(axis=1) for height in heights]
    values = np.concatenate([np.empty(0), *lowest])
    values = values[np.isfinite(values)]
    return round(float(np.median(values)), 1) if len(values) else 0.0


def _rounded(values: NDArray[np.float64]) -> Any:
    """Nested lists of points (..., 3) with one decimal; None for a point that is not finite."""
    if values.ndim > 1:
        return [_rounded(part) for part in values]
    return np.round(values, 1).tolist() if np.isfinite(values).all() else None
