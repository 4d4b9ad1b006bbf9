"""Plausibility checks of calibrations: intrinsics, and the cameras of a sample among each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.plausibility.labels import Finding, Labels
from poseboard.datasets.sample import Sample

FOCAL_SIDES = (0.2, 20.0)
"""Bounds of the focal length in longer sides of the image."""
_MOST_SKEW = 0.01
"""Maximum of the skew, relative to the focal length."""
_ASPECT = (0.5, 2.0)
"""Bounds of fx / fy."""
_OFF_CENTRE = 0.1
"""Distance of the principal point from the border of the image, in its sides, below which it is odd."""
_LENS = (0.5, 2.0)
"""Bounds of the factor of lens distortion half-way to the corners of the image."""
_SPREAD_MM = (20.0, 200_000.0)
"""Bounds of the largest distance between two cameras of a sample."""
_LEAST_DEPTH_MM = 100.0
"""Minimum of the median distance of joints from a camera along its axis."""
_UNIT_RATIO = 200.0
"""Maximum ratio of the length of a t to that of the median camera, and of the median to it."""
_ZERO_MM = 0.01
"""Maximum length of a t that is zero."""
_ISOLATED = 8.0
"""Maximum distance of a camera from the nearest other one, relative to the median distance between two cameras."""
_SAME_CENTRE_MM = 1.0
"""Largest distance between the centres of two records of one camera."""


def check_intrinsics(labels: Labels) -> Iterator[Finding]:
    """Check that each K is upper triangular without skew, with a focal length of 0.2 to 20 image sides."""
    # A data set of single photographs without 3D poses assumes its focal lengths.
    is_calibrated = len(labels.joints_mm) > 0 or any(len(rig.views) > 1 for rig in labels.rigs)
    reported = set()
    for rig in labels.rigs:
        for view in rig.views:
            for problem, remedy, is_error in _intrinsics(view.camera, is_calibrated):
                if (view.name, remedy) not in reported:
                    reported.add((view.name, remedy))
                    yield Finding(f"camera {view.name}: K", problem, remedy, is_error, rig.key)


def _intrinsics(camera: Camera, is_calibrated: bool) -> Iterator[tuple[str, str, bool]]:
    """Yield problem, remedy, and whether the problem is an error, for each problem of a camera's K."""
    K, (width, height) = camera.K, camera.size
    form = "write fx 0 cx, 0 fy cy, 0 0 1"
    if np.abs(K[2] - (0, 0, 1)).max() > 1e-6:
        transposed = np.abs(K[:, 2] - (0, 0, 1)).max() <= 1e-6
        yield f"last row is {_numbers(K[2])}, not 0 0 1", "transpose it" if transposed else form, True
        return
    fx, fy = float(K[0, 0]), float(K[1, 1])
    if min(fx, fy) <= 0:
        yield f"focal lengths are {_numbers(np.array([fx, fy]))} px, not above 0", form, True
        return
    if max(abs(K[0, 1]), abs(K[1, 0])) > _MOST_SKEW * fx:
        yield f"skew is {K[0, 1]:.4g} and {K[1, 0]:.4g} px at a focal length of {fx:.4g} px", form, True
    if not _ASPECT[0] <= fx / fy <= _ASPECT[1]:
        yield f"fx is {fx:.4g} px and fy {fy:.4g} px", "check both, in pixels", True
    if min(camera.size) > 0:
        # Towards the corners, a polynomial of a good calibration may turn back.
        corners = (np.array([[0, 0], [width, 0], [0, height], [width, height]]) - K[:2, 2]) / (fx, fy)
        moved = np.linalg.norm((camera.image(corners / 2) - K[:2, 2]) / (fx, fy), axis=-1)
        factors = moved / np.maximum(np.linalg.norm(corners / 2, axis=-1), 1e-9)
        if not ((factors > _LENS[0]) & (factors < _LENS[1])).all():
            worst = factors[np.argmax(np.abs(np.log(np.maximum(factors, 1e-300))))]
            problem = f"lens distortion moves points half-way to the corners {worst:.3g} times as far from the centre"
            yield problem, "check k1 k2 p1 p2 k3, in this order, and their signs", True
    side = max(camera.size) or 2 * float(K[:2, 2].max())
    if is_calibrated and side > 0 and not FOCAL_SIDES[0] <= fx / side <= FOCAL_SIDES[1]:
        bounds = f"{FOCAL_SIDES[0]:g} to {FOCAL_SIDES[1]:g}"
        problem = f"focal length {fx:.4g} px is {fx / side:.3g} sides of an image of {side:.4g} px, not {bounds}"
        yield problem, "give it in pixels of the full image", True
    elif min(camera.size) > 0 and not np.all(np.abs(K[:2, 2] / camera.size - 0.5) <= 0.5 - _OFF_CENTRE):
        problem = (
            f"principal point {_numbers(K[:2, 2])} px is outside or near the border of the image, {width} x {height} px"
        )
        yield problem, "check cx and cy, and that K is of the full image", False


def check_rigs(labels: Labels) -> Iterator[Finding]:
    """Check that the cameras of a sample differ, in one unit, 2 cm to 200 m apart and 10 cm or more from people."""
    reported = set()
    for rig in labels.rigs:
        for finding in (*_units(rig), *_spread(rig), *_twice(rig), *_isolated(rig)):
            if finding.field not in reported:
                reported.add(finding.field)
                yield finding
    yield from _depths(labels)


def _spread(rig: Sample) -> Iterator[Finding]:
    """Yield an error if all cameras are in one place, or if their distances have a wrong unit."""
    if len(rig.views) < 2:
        return
    centres_mm = np.stack([view.camera.centre_mm for view in rig.views])
    spread_mm = float(np.linalg.norm(centres_mm[:, None] - centres_mm, axis=-1).max())
    if spread_mm < 1e-3:
        place = "at the origin" if np.abs(centres_mm).max() < 1e-3 else f"at {_numbers(centres_mm[0])} mm"
        yield Finding("cameras", f"all {len(centres_mm)} have their centre {place}", "check R and t", key=rig.key)
    elif not _SPREAD_MM[0] <= spread_mm <= _SPREAD_MM[1]:
        bounds = f"{_SPREAD_MM[0]:g} to {_SPREAD_MM[1]:g}"
        unit, factor = ("metres", 1000.0) if spread_mm < _SPREAD_MM[0] else ("micrometres", 0.001)
        problem = f"are at most {spread_mm:.4g} mm apart, not {bounds} mm"
        yield Finding("cameras", problem, f"t looks like {unit}: multiply it by {factor:g}", key=rig.key)


def _twice(rig: Sample) -> Iterator[Finding]:
    """Yield an error for each pair of cameras in one place, unless all cameras are in one place."""
    centres_mm = {view.name: view.camera.centre_mm for view in rig.views}
    pairs = combinations(centres_mm, 2)
    same = [(a, b) for a, b in pairs if np.linalg.norm(centres_mm[a] - centres_mm[b]) < _SAME_CENTRE_MM]
    # If all centres are equal, `_spread` reports them.
    if len(centres_mm) == 2 or len(same) < len(centres_mm) * (len(centres_mm) - 1) / 2:
        for a, b in same:
            problem = f"have the same centre, {_numbers(centres_mm[a])} mm"
            yield Finding(f"cameras {a} and {b}", problem, "check for a calibration that is copied twice", key=rig.key)


def _isolated(rig: Sample) -> Iterator[Finding]:
    """Warnings of cameras that are far from all others."""
    if len(rig.views) < 4:
        return
    centres_mm = np.stack([view.camera.centre_mm for view in rig.views])
    apart_mm = np.linalg.norm(centres_mm[:, None] - centres_mm, axis=-1)
    typical_mm = float(np.quantile(apart_mm[np.triu_indices(len(apart_mm), 1)], 0.5, method="lower"))
    for view, of_view in zip(rig.views, apart_mm, strict=True):
        nearest_mm = float(np.sort(of_view)[1])
        if nearest_mm > _ISOLATED * typical_mm > 0:
            problem = (
                f"is {nearest_mm:.4g} mm from the nearest other camera; the median distance is {typical_mm:.4g} mm"
            )
            yield Finding(f"camera {view.name}: t", problem, "check t", is_error=False, key=rig.key)


def _units(rig: Sample) -> Iterator[Finding]:
    """Yield an error for each camera with its translation in another unit than the other cameras."""
    lengths_mm = {view.name: float(np.linalg.norm(view.camera.t)) for view in rig.views}
    if len(lengths_mm) < 3:
        return
    median_mm = float(np.median(list(lengths_mm.values())))
    for name, length_mm in lengths_mm.items():
        # A camera that defines the world has t = 0.
        ratio = length_mm / median_mm if median_mm else 0.0
        if length_mm > _ZERO_MM and not 1 / _UNIT_RATIO <= ratio <= _UNIT_RATIO:
            problem = f"t is {length_mm:.4g} mm long, {median_mm:.4g} mm in the median camera"
            yield Finding(f"camera {name}: t", problem, "check its unit, mm", key=rig.key)


def _depths(labels: Labels) -> Iterator[Finding]:
    """Yield an error for each camera that is implausibly close to people, which suggests a wrong unit."""
    for name, views in labels.views.items():
        depths_mm = [
            view.camera.to_camera(pose[np.isfinite(pose).all(axis=-1)])[:, 2]
            for index, view in views
            for pose in labels.truths[index].joints_mm
        ]
        depths = np.concatenate([np.empty(0), *depths_mm])
        depth_mm = float(np.median(depths)) if len(depths) else np.inf
        if 0 < depth_mm < _LEAST_DEPTH_MM:
            problem = f"people are {depth_mm:.4g} mm away from it, not {_LEAST_DEPTH_MM:g} mm or more"
            yield Finding(f"camera {name}", problem, "check the unit of t, and of the joints: both are mm")


def _numbers(values: Array) -> str:
    return " ".join(f"{value:.4g}" for value in values)
