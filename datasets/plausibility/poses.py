"""Plausibility checks of true poses: finite numbers, size, bones, order of joints, and sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.plausibility.labels import (
    FINGER_BONE_MM,
    LIMB_MM,
    SOME,
    UNITS,
    Finding,
    Labels,
    extents_mm,
    scale_to,
)
from poseboard.datasets.skeleton import Skeleton

FARTHEST_MM = 1e6
"""Maximum of a coordinate: 1 km."""
_OUTLIER = 3.0
"""Factor on the upper bounds beyond which a single person or bone is impossible."""
_SHORTER = 0.9
"""Another order of joints whose edges are shorter than this factor is the likely one."""
_LONG_EDGE_MM = 1050.0
"""Length of an edge of a body's skeleton beyond which it is odd."""
_LEAST_PEOPLE = 8
"""Minimum number of people to know the median one."""
_MOST_DETECTED = 2000
"""Maximum number of detected people that are compared."""
_LEAST_BONE_MM = 100.0
"""Minimum of the median length of a bone that is compared; noise matters in shorter ones."""
_PROPORTION = 2.0
"""Factor on a bone, relative to the person's other bones and to the median person, beyond which it is odd."""
_ODD_BONES = 0.15
"""Share of odd bones from which a person is odd."""
_LEAST_BEND = 0.15
"""Minimum distance of a knee from the line of hip and ankle, relative to the thigh; likewise of an elbow."""
_BACKWARDS = -0.3
"""Balance of bends (-1: all backwards, 1: all forwards) below which sides look mirrored."""
_LEAST_VOTES = 10
"""Minimum number of bends and faces to judge sides."""


def check_numbers(labels: Labels) -> Iterator[Finding]:
    """Check that true poses exist and are finite, and that no joint lies exactly at the origin."""
    has_2d = labels.facts.truth != "motion capture" and any(truth.annotated for truth in labels.truths)
    if any(len(truth.joints_mm) for truth in labels.truths) and not labels.people and not has_2d:
        yield Finding("joints", "all are NaN", "check the file of the poses")
    if not labels.people:
        return
    of_sample = np.array([index for index, _ in labels.people])
    poses_mm = np.stack([pose for _, pose in labels.people])
    infinite = np.asarray(np.isinf(poses_mm).any(axis=(1, 2)))
    yield from _of_people(labels, of_sample, infinite, "have infinite numbers", "write NaN for a missing joint", True)
    zero = np.all(poses_mm == 0, axis=-1)
    all_zero: NDArray[np.bool_] = (zero | np.isnan(poses_mm).any(axis=-1)).all(axis=1)
    remedy = "leave the person out, or write NaN"
    yield from _of_people(labels, of_sample, all_zero, "have all joints at the origin", remedy)
    often = np.flatnonzero(zero[~all_zero].sum(axis=0) >= 2)
    if len(often):
        first, share = labels.skeleton.joints[often[0]], zero[~all_zero][:, often[0]].mean()
        more = f" (and {len(often) - 1} other joints)" if len(often) > 1 else ""
        problem = f"{first}{more} lies exactly at the origin in {share:.1%} of the people"
        index = int(of_sample[np.flatnonzero(zero[:, often[0]] & ~all_zero)[0]])
        remedy = "write NaN for a missing joint, and poses in the world frame instead of relative to a joint"
        yield Finding("joints", problem, remedy, key=labels.key(index))


def check_size(labels: Labels) -> Iterator[Finding]:
    """Check the size of poses, the largest distance between two joints: people 0.5 to 2.5 m, hands 5 to 30 cm.

    Example:
        >>> next(check_size(Labels(samples, [Truth(truth.joints_mm / 1000) for truth in truths], HUMAN36M, facts)))
        Finding(field='joints', ..., remedy='labels look like metres: multiply the joints by 1000', ...)
    """
    bounds, what = labels.size_mm, "hand" if labels.is_hand else "person"
    if bounds is None or not len(labels.joints_mm):
        return
    sizes_mm = extents_mm(labels.joints_mm)
    size_mm = float(np.median(sizes_mm))
    if bounds[0] <= size_mm <= bounds[1]:
        large, small = sizes_mm > _OUTLIER * bounds[1], sizes_mm < bounds[0] / _OUTLIER
        problem = f"have joints more than {_OUTLIER * bounds[1]:g} mm apart"
        yield from _of_people(labels, labels.sample_of_person, large, problem, "write NaN for a missing joint")
        problem = f"have all joints within {bounds[0] / _OUTLIER:.3g} mm"
        yield from _of_people(labels, labels.sample_of_person, small, problem, "check their unit, mm")
        return
    problem = f"the median {what} is {size_mm:.4g} mm tall, not {bounds[0]:g} to {bounds[1]:g} mm"
    factor = scale_to(size_mm, bounds)
    if factor is None:
        yield Finding("joints", problem, "check their unit and their order")
        return
    unit = f"labels look like {UNITS[factor]}: " if factor in UNITS else ""
    # If the cameras are in the same wrong unit, joints project to their place as they are, and not once scaled.
    with_cameras = labels.projects() and not labels.projects(factor)
    what = "the joints and the cameras' t" if with_cameras else "the joints"
    yield Finding("joints", problem, f"{unit}multiply {what} by {factor:g}")


def check_distance(labels: Labels) -> Iterator[Finding]:
    """Check that people are within 1 km of the origin."""
    far = np.asarray((np.abs(labels.joints_mm) > FARTHEST_MM).any(axis=(1, 2)))
    remedy = "check their unit, and write NaN for a missing joint"
    yield from _of_people(labels, labels.sample_of_person, far, "are more than 1 km away", remedy, True)


def check_bones(labels: Labels) -> Iterator[Finding]:
    """Check the length of bones: upper arms, forearms, thighs and shins 60 to 700 mm, bones of a hand 5 to 150 mm."""
    low, high = FINGER_BONE_MM if labels.is_hand else LIMB_MM
    remedy = f"check their order: {', '.join(labels.skeleton.joints)}"
    for first, second in labels.skeleton.edges if labels.is_hand else labels.limbs:
        a, b = labels.skeleton.indices((first, second))
        lengths_mm = np.linalg.norm(labels.joints_mm[:, a] - labels.joints_mm[:, b], axis=-1)
        if not np.isfinite(lengths_mm).any():
            continue
        length_mm = float(np.nanmedian(lengths_mm))
        if not low <= length_mm <= high:
            problem = f"the median distance from {first} to {second} is {length_mm:.4g} mm, not {low:g} to {high:g} mm"
            yield Finding("joints", problem, remedy)
            return
        problem = f"have {first} and {second} more than {_OUTLIER * high:g} mm apart"
        long = lengths_mm > _OUTLIER * high
        yield from _of_people(labels, labels.sample_of_person, long, problem, "write NaN for a missing joint")
    if labels.limbs:
        a, b = np.array(labels.skeleton.edge_indices).T
        edges_mm = np.linalg.norm(labels.joints_mm[:, a] - labels.joints_mm[:, b], axis=-1)
        long = np.asarray((edges_mm > _LONG_EDGE_MM).any(axis=1))
        problem = f"have neighbouring joints more than {_LONG_EDGE_MM:g} mm apart"
        for finding in _of_people(labels, labels.sample_of_person, long, problem, "check single joints"):
            yield replace(finding, is_error=False)


def check_proportions(labels: Labels) -> Iterator[Finding]:
    """Warn of single people whose bones have other proportions than those of the median person.

    Children and adults have similar proportions. A pose with its joints in another order, or with a joint elsewhere,
    has several bones that are far too long or too short.
    """
    if len(labels.joints_mm) < _LEAST_PEOPLE or not labels.skeleton.edges:
        return
    a, b = np.array(labels.skeleton.edge_indices).T
    lengths_mm = np.linalg.norm(labels.joints_mm[:, a] - labels.joints_mm[:, b], axis=-1)
    typical_mm = _median(lengths_mm)
    if labels.is_hand or not (long := typical_mm >= _LEAST_BONE_MM).any():
        return
    ratios = lengths_mm[:, long] / typical_mm[long]
    relative = ratios / np.maximum(np.nanmedian(ratios, axis=1, keepdims=True), 1e-9)
    is_odd = (relative > _PROPORTION) | (relative < 1 / _PROPORTION)
    bad = is_odd.sum(axis=1) >= np.maximum(2, _ODD_BONES * np.isfinite(relative).sum(axis=1))
    if np.any(bad):
        problem = f"{int(bad.sum())} of {len(bad)} people have bones of other proportions than the median person"
        key = labels.key(int(labels.sample_of_person[np.argmax(bad)]))
        yield Finding("joints", problem, "check the order of their joints", is_error=False, key=key)


def check_order(labels: Labels) -> Iterator[Finding]:
    """Warn if rolling, reversing or swapping joints makes the edges of the skeleton much shorter in total."""
    yield from _order(labels.joints_mm, labels.skeleton, "joints")
    skeleton = labels.detected or labels.skeleton
    detected = [view.joints_px for sample in labels.samples for view in sample.views if view.joints_px is not None]
    points_px = np.concatenate([np.empty((0, len(skeleton), 2)), *detected])
    if len(points_px) >= _LEAST_PEOPLE:
        yield from _order(points_px[:_MOST_DETECTED], skeleton, "detections")


def _order(poses: Array, skeleton: Skeleton, field: str) -> Iterator[Finding]:
    """Yield a warning if another order of the joints of points (N, J, 2 or 3) is more plausible."""
    J = len(skeleton)
    if not len(poses) or J < 5 or not skeleton.edges:
        return
    distances = np.array([_median(np.linalg.norm(poses - poses[:, [j]], axis=-1)) for j in range(J)])
    if np.isnan(distances).any():  # a joint is never annotated
        return
    a, b = np.array(skeleton.edge_indices).T
    joints, order = skeleton.joints, np.arange(J)

    def length(order: NDArray[np.intp]) -> float:
        return float(distances[order[a], order[b]].sum())

    orders = {f"rolled by {abs(k)}": np.roll(order, k) for k in (1, -1, 2, -2)} | {"reversed": order[::-1]}
    for i, j in combinations(range(J), 2):
        orders[f"{joints[i]} and {joints[j]} are swapped"] = np.where(order == i, j, np.where(order == j, i, order))
    name, other = min(orders.items(), key=lambda item: length(item[1]))
    if length(other) < _SHORTER * length(order):
        saved = 1 - length(other) / length(order)
        what = f"look {name}" if "swapped" not in name else f"look as if {name}"
        problem = f"{what}: so all edges together are {saved:.0%} shorter"
        yield Finding(field, problem, f"check their order: {', '.join(joints)}", is_error=False)


def check_sides(labels: Labels) -> Iterator[Finding]:
    """Warn if most knees, elbows and faces point backwards, as after swapping left and right or mirroring an axis."""
    votes = np.concatenate(list(_bends(labels)) or [np.empty(0)])
    votes = votes[np.isfinite(votes)]
    if len(votes) < _LEAST_VOTES or not votes.any():
        return
    balance = float(votes.sum() / np.abs(votes).sum())
    if balance < _BACKWARDS:
        problem = f"{(votes < 0).mean():.0%} of {len(votes)} knees, elbows and faces bend or look backwards"
        yield Finding("joints", problem, "check left against right, and the handedness of the axes", is_error=False)


def _bends(labels: Labels) -> Iterator[Array]:
    """Yield signed bends of knees and elbows and directions of faces; positive values are anatomically possible."""
    joints = {name: labels.joints_mm[:, index] for index, name in enumerate(labels.skeleton.joints)}
    if not {"left_hip", "right_hip", "left_shoulder", "right_shoulder"} <= joints.keys():
        return
    up = joints["left_shoulder"] + joints["right_shoulder"] - joints["left_hip"] - joints["right_hip"]
    for part, (upper, middle, lower), sign in (
        ("hip", ("hip", "knee", "ankle"), 1.0),
        ("shoulder", ("shoulder", "elbow", "wrist"), -1.0),
    ):
        forward = _unit(np.cross(up, joints[f"right_{part}"] - joints[f"left_{part}"]))
        for side in ("left", "right"):
            limb = [joints.get(f"{side}_{name}") for name in (upper, middle, lower)]
            if any(joint is None for joint in limb):
                continue
            first, bent, last = (np.asarray(joint) for joint in limb)
            along = _unit(last - first)
            off = bent - first - ((bent - first) * along).sum(axis=-1, keepdims=True) * along
            scaled = off / np.maximum(np.linalg.norm(bent - first, axis=-1, keepdims=True), 1e-9)
            yield np.where(
                np.linalg.norm(scaled, axis=-1) > _LEAST_BEND, sign * (scaled * forward).sum(axis=-1), np.nan
            )
    behind = ("left_ear", "right_ear") if "left_ear" in joints else ("thorax", "head_top")
    if {"nose", *behind} <= joints.keys():
        face = _unit(joints["nose"] - (joints[behind[0]] + joints[behind[1]]) / 2)
        yield (face * _unit(np.cross(up, joints["right_shoulder"] - joints["left_shoulder"]))).sum(axis=-1)


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def _median(values: Array) -> Array:
    """Median (J,) over the rows (N, J) without NaN; NaN for columns without a number."""
    columns = [column[np.isfinite(column)] for column in values.T]
    return np.array([np.median(column) if len(column) else np.nan for column in columns])


def _of_people(
    labels: Labels,
    of_sample: NDArray[np.intp],
    bad: NDArray[np.bool_],
    problem: str,
    remedy: str,
    always_error: bool = False,
) -> Iterator[Finding]:
    """Yield a finding if any of N people is bad: an error if at least a share of `SOME` is bad, else a warning.

    Args:
        labels: labels of the people.
        of_sample: (N,) index of each person's sample.
        bad: (N,) whether the person is bad.
        problem: verb phrase about the bad people.
        remedy: remedy of the finding.
        always_error: whether a single bad person is an error.
    """
    if np.any(bad):
        problem = f"{int(np.sum(bad))} of {len(bad)} people {problem}"
        is_error = always_error or float(np.mean(bad)) >= SOME
        yield Finding("joints", problem, remedy, is_error, labels.key(int(of_sample[np.argmax(bad)])))
