"""Labels: samples of a split with their ground truth, in the form that the checks compare.

People with at least half of their joints are compared. Medians over them have wide bounds, so children, seated people
and half visible people pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.facts import Facts
from poseboard.datasets.sample import Sample, Truth, View
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
FEW = 10
"""Minimum number of people in a view to judge its camera, if other views have more people."""
LEAST_SHARE = 0.5
"""Minimum of the median share of a person's joints that project into the box or near the 2D annotation."""
_LEAST_SIZES = 0.2, 0.01
"""Minimum extent of a projected person relative to the box and to the image; smaller projections are dots."""
SOME = 0.01
"""Share of people or samples from which a single mistake is an error; below, it is a warning."""


@dataclass(frozen=True)
class Finding:
    """A problem of the data.

    Args:
        field: field with the problem, such as "joints", "camera left: K" or "view left: boxes".
        problem: measured value and bounds.
        remedy: action for the user, with the factor of a wrong unit.
        is_error: whether the data cannot be right. A warning is only odd.
        key: an affected sample; empty: the problem concerns all samples together.

    Example:
        >>> str(Finding("camera left: K", "is transposed", "transpose it"))
        'camera left: K: is transposed; transpose it'
    """

    field: str
    problem: str
    remedy: str
    is_error: bool = True
    key: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.field}: {self.problem}; {self.remedy}".removeprefix(": ")


@dataclass(frozen=True, eq=False)
class Sight:
    """2D labels of one person in one view.

    Args:
        sample: index of the sample.
        person: row of `Labels.joints_mm`.
        view: view with camera and image.
        box_px: (4,) box of the person; None without a box.
        points_px: (J, 2) 2D annotation with lens distortion; None without annotation.
    """

    sample: int
    person: int
    view: View
    box_px: Array | None
    points_px: Array | None

    @property
    def camera(self) -> Camera:
        """Camera of the view."""
        return self.view.camera


@dataclass(frozen=True, eq=False)
class Labels:
    """Samples of a split with their ground truth.

    Args:
        samples: samples of the split, or a selection.
        truths: ground truth of each sample.
        skeleton: joints of the ground truth.
        facts: facts of the split.
        detected: joints of the 2D detections; None: those of the ground truth.
        cameras: names of all cameras, including cameras that no sample has.
    """

    samples: Sequence[Sample]
    truths: Sequence[Truth]
    skeleton: Skeleton
    facts: Facts
    detected: Skeleton | None = None
    cameras: Sequence[str] = ()

    @cached_property
    def views(self) -> Mapping[str, list[tuple[int, View]]]:
        """Name of a view -> its (index of the sample, view) in all samples."""
        views: dict[str, list[tuple[int, View]]] = {}
        for index, sample in enumerate(self.samples):
            for view in sample.views:
                views.setdefault(view.name, []).append((index, view))
        return views

    @cached_property
    def rigs(self) -> list[Sample]:
        """The first sample of each set of cameras."""
        rigs: dict[tuple[object, ...], Sample] = {}
        for sample in self.samples:
            cameras = ((view.name, view.camera) for view in sample.views)
            calibration = tuple(
                (name, c.K.tobytes(), c.R.tobytes(), c.t.tobytes(), c.dist.tobytes(), c.size) for name, c in cameras
            )
            rigs.setdefault(calibration, sample)
        return list(rigs.values())

    @cached_property
    def people(self) -> list[tuple[int, Array]]:
        """(index of the sample, joints (J, 3)) of all people with a 3D joint; infinite numbers count as joints."""
        truths = enumerate(truth.joints_mm for truth in self.truths)
        return [(index, pose) for index, poses in truths for pose in poses if not np.isnan(pose).any(axis=-1).all()]

    def key(self, index: int) -> str:
        """Key of a sample."""
        return self.samples[index].key

    @cached_property
    def joints_mm(self) -> Array:
        """Poses (N, J, 3) of the people with at least half of their joints; NaN for infinite numbers."""
        none = np.empty((0, len(self.skeleton), 3))
        poses_mm = np.concatenate([none, *(truth.joints_mm[_whole(truth)] for truth in self.truths)])
        return np.where(np.isfinite(poses_mm), poses_mm, np.nan)

    @cached_property
    def sample_of_person(self) -> NDArray[np.intp]:
        """Index (N,) of the sample of each row of `joints_mm`."""
        return np.repeat(np.arange(len(self.truths)), [int(_whole(truth).sum()) for truth in self.truths])

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
    def sights(self) -> Mapping[str, list[Sight]]:
        """Name of a view -> people with a 2D annotation or a box in the view."""
        sights: dict[str, list[Sight]] = {}
        first = 0
        for index, (sample, truth) in enumerate(zip(self.samples, self.truths, strict=True)):
            whole = np.flatnonzero(_whole(truth))
            for view in sample.views:
                boxes, annotated = self._boxes(view.boxes_px, len(truth.joints_mm)), truth.annotated.get(view.name)
                for row, person in enumerate(whole):
                    box = None if boxes is None or not np.all(boxes[person, 2:] > boxes[person, :2]) else boxes[person]
                    points = None if annotated is None else view.camera.image(annotated[person])
                    points = None if points is None or not np.isfinite(points).any() else points
                    if box is not None or points is not None:
                        sights.setdefault(view.name, []).append(Sight(index, first + row, view, box, points))
            first += len(whole)
        return sights

    def _boxes(self, boxes_px: Array, people: int) -> Array | None:
        """Box of each person; None if the boxes are not in the order of the people, such as a detector's boxes."""
        alone = people == 1 and self.facts.associated
        in_order = len(boxes_px) == people and (alone or self.facts.boxes != "detected")
        return boxes_px if in_order else None

    @cached_property
    def judged(self) -> list[str]:
        """Views with enough people in `sights` to judge their cameras."""
        most = max(map(len, self.sights.values()), default=0)
        return [view for view, sights in self.sights.items() if len(sights) >= min(FEW, most)]

    def share(self, view: str, joints_scale: float = 1.0, camera_scale: float = 1.0) -> float | None:
        """Median over people of the share of joints that project near their 2D annotation; without one, into the box.

        Args:
            view: name of the view.
            joints_scale: factor on the joints.
            camera_scale: factor on the camera's t.
        """
        shares = [
            share_of(sight, joints_scale * self.joints_mm[sight.person], camera_scale)
            for sight in self.sights.get(view, ())
        ]
        return float(np.median(shares)) if shares else None

    def projects(self, joints_scale: float = 1.0) -> bool:
        """Whether scaled joints match boxes or 2D annotations in the median view; True without either."""
        shares = [share for view in self.sights if (share := self.share(view, joints_scale)) is not None]
        return not shares or float(np.median(shares)) >= LEAST_SHARE

    @property
    def in_images(self) -> float | None:
        """Median over people of the share of joints in the image, in each person's best view; None without people."""
        shares = [
            max((share_in_image(view.camera, joints) for view in sample.views), default=0.0)
            for sample, truth in zip(self.samples, self.truths, strict=True)
            for joints in (pose[np.isfinite(pose).all(axis=-1)] for pose in truth.joints_mm[_whole(truth)])
        ]
        return float(np.median(shares)) if shares else None


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


def share_of(sight: Sight, joints_mm: Array, camera_scale: float = 1.0) -> float:
    """Share of a person's joints that project near the 2D annotation or into the box; 0 if they project to a dot."""
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


def share_in_image(camera: Camera, joints_mm: Array) -> float:
    """Share of joints (J, 3) that project into the image; 0 if the projection is a dot."""
    points, inside = _inside(camera, joints_mm)
    return 0.0 if _is_dot(points[inside], _LEAST_SIZES[1] * max(camera.size)) else float(inside.mean())


def _is_dot(points_px: Array, least_px: float) -> bool:
    """Whether two or more points (n, 2) are too close together for the projection of a person."""
    return len(points_px) > 1 and float(np.ptp(points_px, axis=0).max()) < least_px


def _inside(camera: Camera, joints_mm: Array, camera_scale: float = 1.0) -> tuple[Array, NDArray[np.bool_]]:
    """Project joints (J, 3) by a camera with scaled t: pixels (J, 2), and the mask (J,) of those in the image."""
    scaled = camera if camera_scale == 1.0 else replace(camera, t=camera_scale * camera.t)
    points = scaled.project(joints_mm)
    size = np.array([side or np.inf for side in camera.size])
    return points, np.all((points >= 0) & (points < size), axis=-1)  # false for NaN
