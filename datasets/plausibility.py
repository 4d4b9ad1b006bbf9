"""Plausibility checks of labels: size of people, length of bones, and projection into the images.

Each check is a pure function of `Labels`, the samples and truths of one split. It returns a `Finding`, or None.
`CHECKS` lists causes before effects: labels in metres, for example, also have short bones. Checks compare medians over
people with wide bounds. So single bad annotations, children, and seated or half visible people pass. People without 3D
annotations are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.facts import Facts
from poseboard.datasets.sample import Sample, Truth
from poseboard.datasets.skeleton import Skeleton

BODY_MM = (500.0, 2500.0)
"""Bounds of the largest distance between two joints of a person, from sitting children to jumping players."""
HAND_MM = (50.0, 300.0)
"""Bounds of the largest distance between two joints of a hand, from a child's fist to a spread hand."""
LIMB_MM = (60.0, 700.0)
"""Bounds of the length of an upper arm, forearm, thigh or shin."""
FINGER_BONE_MM = (5.0, 150.0)
"""Bounds of the length of an edge of a hand, palm included."""
SCALES = (1000.0, 100.0, 10.0, 0.1, 0.01, 0.001)
"""Factors between common units of length: metres, decimetres, centimetres and millimetres."""

_LIMBS = tuple(map(frozenset, (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))))
UNITS = {1000.0: "metres", 10.0: "centimetres", 0.001: "micrometres"}
"""Factor to millimetres -> name of the unit, used in remedies."""
_BOX_SCALE = 1.5
"""Factor on the sides of a box before the test whether joints are inside."""
_FEW = 10
"""Minimum number of people in a view to judge its camera, if other views have more people."""
_LEAST_SHARE = 0.5
"""Minimum of the median share of a person's joints that project into the box or near the 2D annotation."""
_LEAST_SIZES = 0.2, 0.01
"""Minimum extent of a projected person relative to the box and to the image; smaller projections are dots."""
_SURE_SHARE = 0.9
"""Minimum share of projected joints at which a remedy suggests a factor on a camera's t."""


@dataclass(frozen=True)
class Finding:
    """A problem of labels.

    Args:
        field: field with the problem: "joints", "cameras" or "camera <name>".
        problem: measured value and bounds.
        remedy: action for the user, with the factor of a wrong unit.
    """

    field: str
    problem: str
    remedy: str


@dataclass(frozen=True, eq=False)
class _Sight:
    """One person in one view.

    Args:
        person: row of `Labels.joints_mm`.
        camera: camera of the view.
        box_px: (4,) box of the person; None without a box.
        points_px: (J, 2) 2D annotation with lens distortion; None without annotation.
    """

    person: int
    camera: Camera
    box_px: Array | None
    points_px: Array | None


@dataclass(frozen=True, eq=False)
class Labels:
    """Samples of a split with their ground truth.

    Args:
        samples: samples of the split, or a selection.
        truths: ground truth of each sample.
        skeleton: joints of the ground truth.
        facts: facts of the split.
    """

    samples: Sequence[Sample]
    truths: Sequence[Truth]
    skeleton: Skeleton
    facts: Facts

    @cached_property
    def joints_mm(self) -> Array:
        """Poses (N, J, 3) of the people with at least half of their joints."""
        return np.concatenate([np.empty((0, len(self.skeleton), 3)), *(t.joints_mm[_whole(t)] for t in self.truths)])

    @cached_property
    def size_mm(self) -> tuple[float, float] | None:
        """Bounds of the size of a pose, mm; None for skeletons other than a body or a hand."""
        if self.is_hand:
            return HAND_MM
        return BODY_MM if self.limbs else None

    @property
    def is_hand(self) -> bool:
        """Whether the joints are those of a hand."""
        return any(joint.startswith("thumb") for joint in self.skeleton.joints)

    @property
    def limbs(self) -> list[tuple[str, str]]:
        """Edges of the upper arms, forearms, thighs and shins."""
        return [edge for edge in self.skeleton.edges if frozenset(joint.split("_")[-1] for joint in edge) in _LIMBS]

    @cached_property
    def sights(self) -> Mapping[str, list[_Sight]]:
        """Name of a view -> people with a 2D annotation or a box in the view."""
        sights: dict[str, list[_Sight]] = {}
        first = 0
        for sample, truth in zip(self.samples, self.truths, strict=True):
            whole = np.flatnonzero(_whole(truth))
            for view in sample.views:
                boxes, annotated = self._boxes(view.boxes_px, len(truth.joints_mm)), truth.annotated.get(view.name)
                for row, person in enumerate(whole):
                    box = None if boxes is None or not np.all(boxes[person, 2:] > boxes[person, :2]) else boxes[person]
                    points = None if annotated is None else view.camera.image(annotated[person])
                    points = None if points is None or not np.isfinite(points).any() else points
                    if box is not None or points is not None:
                        sights.setdefault(view.name, []).append(_Sight(first + row, view.camera, box, points))
            first += len(whole)
        return sights

    def _boxes(self, boxes_px: Array, people: int) -> Array | None:
        """Box of each person; None if the boxes are not in the order of the people, such as a detector's boxes."""
        alone = people == 1 and self.facts.associated
        in_order = len(boxes_px) == people and (alone or self.facts.boxes != "detected")
        return boxes_px if in_order else None

    def share(self, view: str, joints_scale: float = 1.0, camera_scale: float = 1.0) -> float | None:
        """Median over people of the share of joints that project near the 2D annotation, or else into the box.

        Args:
            view: name of the view.
            joints_scale: factor on the joints.
            camera_scale: factor on the camera's t.
        """
        shares = [
            _share(sight, joints_scale * self.joints_mm[sight.person], camera_scale)
            for sight in self.sights.get(view, ())
        ]
        return float(np.median(shares)) if shares else None

    @property
    def in_images(self) -> float | None:
        """Median over people of the share of joints in the image, in each person's best view; None without people."""
        shares = [
            max((_share_in_image(view.camera, joints) for view in sample.views), default=0.0)
            for sample, truth in zip(self.samples, self.truths, strict=True)
            for joints in (pose[np.isfinite(pose).all(axis=-1)] for pose in truth.joints_mm[_whole(truth)])
        ]
        return float(np.median(shares)) if shares else None


Check = Callable[[Labels], Finding | None]


def check_size(labels: Labels) -> Finding | None:
    """Check the size of poses, the largest distance between two joints: people 0.5 to 2.5 m, hands 5 to 30 cm.

    Example:
        >>> check_size(Labels(samples, [Truth(truth.joints_mm / 1000) for truth in truths], HUMAN36M, facts)).remedy
        'labels look like metres: multiply the joints by 1000'
    """
    bounds, what = labels.size_mm, "hand" if labels.is_hand else "person"
    if bounds is None or not len(labels.joints_mm):
        return None
    size_mm = float(np.median(extents_mm(labels.joints_mm)))
    if bounds[0] <= size_mm <= bounds[1]:
        return None
    problem = f"the median {what} is {size_mm:.4g} mm tall, not {bounds[0]:g} to {bounds[1]:g} mm"
    factor = scale_to(size_mm, bounds)
    if factor is None:
        return Finding("joints", problem, "check their unit and their order")
    unit = f"labels look like {UNITS[factor]}: " if factor in UNITS else ""
    # If the cameras are in the same wrong unit, joints project to their place as they are, and not once scaled.
    with_cameras = _projects(labels) and not _projects(labels, factor)
    what = "the joints and the cameras' t" if with_cameras else "the joints"
    return Finding("joints", problem, f"{unit}multiply {what} by {factor:g}")


def check_bones(labels: Labels) -> Finding | None:
    """Check the length of bones: upper arms, forearms, thighs and shins 60 to 700 mm, bones of a hand 5 to 150 mm."""
    low, high = FINGER_BONE_MM if labels.is_hand else LIMB_MM
    for first, second in labels.skeleton.edges if labels.is_hand else labels.limbs:
        a, b = labels.skeleton.indices((first, second))
        lengths_mm = np.linalg.norm(labels.joints_mm[:, a] - labels.joints_mm[:, b], axis=-1)
        lengths_mm = lengths_mm[np.isfinite(lengths_mm)]
        if len(lengths_mm) and not low <= (length_mm := float(np.median(lengths_mm))) <= high:
            problem = f"the median distance from {first} to {second} is {length_mm:.4g} mm, not {low:g} to {high:g} mm"
            return Finding("joints", problem, f"check their order: {', '.join(labels.skeleton.joints)}")
    return None


def check_projection(labels: Labels) -> Finding | None:
    """Check for each camera that joints project to their 2D annotations, or into the enlarged box of the person."""
    most = max(map(len, labels.sights.values()), default=0)
    judged = [view for view, sights in labels.sights.items() if len(sights) >= min(_FEW, most)]
    shares = {view: share for view in judged if (share := labels.share(view)) is not None}
    view = min(shares, key=lambda name: shares[name], default=None)
    if view is None or shares[view] >= _LEAST_SHARE:
        return None
    sights = labels.sights[view]
    where = "into the person's box" if sights[0].points_px is None else "near their 2D annotations"
    problem = f"{shares[view]:.0%} of the median person's joints project {where}, not {_LEAST_SHARE:.0%} or more"
    for factor in sorted(SCALES):  # the nearest camera first: far ones put everyone into the middle
        if (labels.share(view, camera_scale=factor) or 0.0) >= _SURE_SHARE:
            return Finding(f"camera {view}", problem, f"its t is in another unit: multiply it by {factor:g}")
    return Finding(f"camera {view}", problem, "check its K, R and t, and that labels and images are of the same frames")


def check_images(labels: Labels) -> Finding | None:
    """Check that the joints of people project into the image of at least one camera."""
    share = labels.in_images
    if share is None or share >= _LEAST_SHARE:
        return None
    problem = f"{share:.0%} of the median person's joints project into any image, not {_LEAST_SHARE:.0%} or more"
    return Finding("cameras", problem, "check their K, R and t, and their unit of length")


CHECKS: tuple[Check, ...] = (check_size, check_bones, check_projection, check_images)
"""All checks, in the order of reporting."""


def findings(labels: Labels) -> Iterator[Finding]:
    """Run all checks and return their findings, in the order of `CHECKS`."""
    return (finding for check in CHECKS if (finding := check(labels)) is not None)


def extents_mm(joints_mm: NDArray[np.floating]) -> Array:
    """Largest distance (N,) between two joints of poses (N, J, 3); 0 for fewer than two joints.

    Example:
        >>> extents_mm(np.array([[[0.0, 0, 0], [3, 4, 0], [1, 0, 0]]]))
        array([5.])
    """
    distances = np.linalg.norm(joints_mm[:, :, None] - joints_mm[:, None], axis=-1)
    return np.asarray(np.nan_to_num(distances).max(axis=(1, 2), initial=0.0), dtype=np.float64)


def scale_to(value: float, bounds: tuple[float, float]) -> float | None:
    """Factor in `SCALES` that brings a value between bounds; None if no factor does.

    Example:
        >>> scale_to(1.7, BODY_MM)
        1000.0
    """
    return next((factor for factor in SCALES if bounds[0] <= factor * value <= bounds[1]), None)


def _whole(truth: Truth) -> NDArray[np.bool_]:
    """Mask (P,) of the people with at least half of the joints."""
    return np.asarray(np.isfinite(truth.joints_mm).all(axis=-1).mean(axis=-1) >= 0.5)


def _projects(labels: Labels, joints_scale: float = 1.0) -> bool:
    """Whether scaled joints match boxes or 2D annotations in the median view; True without either."""
    shares = [share for view in labels.sights if (share := labels.share(view, joints_scale)) is not None]
    return not shares or float(np.median(shares)) >= _LEAST_SHARE


def _share(sight: _Sight, joints_mm: Array, camera_scale: float) -> float:
    """Share of a person's joints that project near the 2D annotation or into the box; 0 for a dot."""
    points, inside = _inside(sight.camera, joints_mm, camera_scale)
    if sight.points_px is not None:
        both = np.isfinite(sight.points_px).all(axis=-1) & np.isfinite(joints_mm).all(axis=-1)
        if not both.any():
            return 1.0  # nothing to compare
        extent_px = np.linalg.norm(np.ptp(sight.points_px[both], axis=0))
        apart = np.linalg.norm(points - sight.points_px, axis=-1)[both]
        return float((apart < extent_px / 4).mean())
    assert sight.box_px is not None
    centre, sides = (sight.box_px[:2] + sight.box_px[2:]) / 2, sight.box_px[2:] - sight.box_px[:2]
    if not inside.any() or _is_dot(points[inside], _LEAST_SIZES[0] * sides.max()):
        return 0.0
    return float((np.abs(points[inside] - centre) <= _BOX_SCALE * sides / 2).all(axis=-1).mean())


def _share_in_image(camera: Camera, joints_mm: Array) -> float:
    """Share of joints (J, 3) that project into the image; 0 if the projection is a dot."""
    points, inside = _inside(camera, joints_mm)
    return 0.0 if _is_dot(points[inside], _LEAST_SIZES[1] * max(camera.size)) else float(inside.mean())


def _is_dot(points_px: Array, least_px: float) -> bool:
    """Whether two or more points (n, 2) are too close together for the projection of a person."""
    return len(points_px) > 1 and float(np.ptp(points_px, axis=0).max()) < least_px


def _inside(camera: Camera, joints_mm: Array, camera_scale: float = 1.0) -> tuple[Array, NDArray[np.bool_]]:
    """Project joints (J, 3) by a camera with scaled t; (J, 2) pixels and whether each is in the image (J,)."""
    scaled = camera if camera_scale == 1.0 else replace(camera, t=camera_scale * camera.t)
    points = scaled.project(joints_mm)
    size = np.array([side or np.inf for side in camera.size])
    return points, np.all((points >= 0) & (points < size), axis=-1)  # false for NaN
