"""Warnings about predictions: another unit, or a mistake that a simple change would undo.

They help with files of other programs. A warning is one line for the user. It does not change any number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.datasets.plausibility import BODY_MM, HAND_MM, UNITS, extents_mm, scale_to
from poseboard.datasets.skeleton import ROOT
from poseboard.protocols.base import TruthTable
from poseboard.protocols.metrics import Array
from poseboard.protocols.predictions import PoseTable

_POSES = 1000
"""Poses, evenly chosen, whose size is measured."""
_SAMPLES = 300
"""Samples, evenly chosen, on which changes are tried."""
_PEOPLE = 50
"""Predictions of a sample, the surest ones, that are compared."""
_LARGE_MM = 100.0
"""Mean errors below are not doubted. Left and right swapped cost a standing person about 200 mm."""
_MUCH_LOWER = 1 / 3
"""Part of the error that a change has to come below. Predictions without a mistake gain far less by any change."""


def doubt(table: PoseTable, truth: TruthTable) -> str | None:
    """Warning if predictions are probably in another unit, axis order or joint order; None if plausible.

    Args:
        table: predictions of the split.
        truth: ground truth of the split.
    """
    return unit_doubt(table, truth) or mistake_doubt(table, truth)


def unit_doubt(table: PoseTable, truth: TruthTable) -> str | None:
    """Warning if poses have an implausible size, or roots an implausible distance; None if plausible.

    The size of a pose is the largest distance between two joints. The distance of a root is measured from the origin of
    its frame.
    """
    if table.info.joints == ROOT.joints:
        return _root_unit_doubt(table, truth)
    tall_mm, true_mm = (_median_size_mm(joints_mm) for joints_mm in (table.joints_mm, truth.joints_mm))
    if tall_mm is None or true_mm is None:
        return None
    bounds = next((bounds for bounds in (BODY_MM, HAND_MM) if bounds[0] <= true_mm <= bounds[1]), None)
    if bounds is None or bounds[0] <= tall_mm <= bounds[1]:
        return None
    factor = scale_to(tall_mm, (0.5 * true_mm, 2 * true_mm)) if tall_mm else None
    measured = f"the median pose is {tall_mm:.3g} mm tall, that of the truth {true_mm:.0f} mm"
    return f"{table.source}: joints_mm: {measured}; {_hint(factor)}"


def mistake_doubt(table: PoseTable, truth: TruthTable) -> str | None:
    """Warning if reordering joints or axes cuts the mean error to less than a third; None otherwise.

    Each true person of a subset is compared with the nearest predicted person: first in absolute position, then
    relative to the root.
    """
    pairs = _Pairs.of(table, truth)
    if pairs is None:
        return None
    for about_root in (False, True) if len(pairs.root) and len(pairs.joints) > 1 else (False,):
        error_mm = pairs.error_mm(pairs.predicted_mm, about_root)
        if not error_mm > _LARGE_MM:  # NaN, too
            continue
        changed = ((pairs.error_mm(poses_mm, about_root), words) for words, poses_mm in _changes(pairs))
        lowest_mm, words = min((of for of in changed if np.isfinite(of[0])), default=(np.inf, ""))
        if lowest_mm < _MUCH_LOWER * error_mm:
            of_what = " about the root" if about_root else ""
            falls = f"your error{of_what} falls from {error_mm:.0f} to {lowest_mm:.0f} mm if {words}"
            return f"{table.source}: joints_mm: {falls}"
    return None


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of predicted and true people of the same samples, in their common joints.

    Args:
        predicted_mm: (n, J, 3) all joints of the file.
        true_mm: (n, C, 3) the common joints, in the frame of the prediction.
        joints: names of the J joints.
        common: (C,) indices of the common joints in ``joints``.
        root: indices in ``common`` of the joints whose mean is the root; empty: unknown.
        person: (n,) true person of each pair, ascending.
    """

    predicted_mm: Array
    true_mm: Array
    joints: tuple[str, ...]
    common: list[int]
    root: list[int]
    person: NDArray[np.int64]

    @classmethod
    def of(cls, table: PoseTable, truth: TruthTable) -> _Pairs | None:
        """Pair people in an even selection of samples; None without common joints or samples."""
        only_root = table.info.joints == ROOT.joints and bool(truth.skeleton.root_joints)
        names = ROOT.joints if only_root else truth.skeleton.joints
        common = [joint for joint in names if joint in table.info.joints]
        predicted, true = _some_pairs(table, truth)
        if not common or not len(predicted):
            return None
        poses_mm = truth.joints_mm[true].astype(np.float64)
        if only_root:
            poses_mm = truth.skeleton.root_of(poses_mm)[:, None]
        else:
            poses_mm = poses_mm[:, truth.skeleton.indices(common)]
        root = truth.skeleton.root_joints
        return cls(
            table.joints_mm[predicted].astype(np.float64),
            _in_frames(poses_mm, table.frame[predicted], truth, true),
            table.info.joints,
            [table.info.joints.index(joint) for joint in common],
            [common.index(joint) for joint in root] if root and set(root) <= set(common) else [],
            true,
        )

    def error_mm(self, poses_mm: Array, about_root: bool) -> float:
        """Mean over true people of the joint error of the nearest pose in ``poses_mm`` (n, J, 3); NaN if empty."""
        poses_mm, true_mm = poses_mm[:, self.common], self.true_mm
        if about_root:
            poses_mm = poses_mm - poses_mm[:, self.root].mean(axis=1, keepdims=True)
            true_mm = true_mm - true_mm[:, self.root].mean(axis=1, keepdims=True)
        errors = np.linalg.norm(poses_mm - true_mm, axis=-1)
        known = np.isfinite(errors)
        sums, counts = np.where(known, errors, 0.0).sum(axis=1), known.sum(axis=1)
        each = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
        first = np.flatnonzero(np.diff(self.person, prepend=-1))
        nearest = np.minimum.reduceat(each, first)
        nearest = nearest[np.isfinite(nearest)]
        return float(nearest.mean()) if len(nearest) else np.nan


def _changes(pairs: _Pairs) -> Iterator[tuple[str, Array]]:
    """Yield candidate corrections: description (words after "if") and the changed poses.

    The scale is not changed: `unit_doubt` judges it, and shrinking any wrong pose to a point reduces its error.
    """
    poses_mm = pairs.predicted_mm
    if len(pairs.joints) > 1:
        yield "the joints are reversed", poses_mm[:, ::-1]
    swapped = poses_mm[:, _other_side(pairs.joints)]
    yield "left and right are swapped", swapped
    for axis, name in enumerate("xyz"):
        signs = np.where(np.arange(3) == axis, -1.0, 1.0)
        yield f"{name} is negated", poses_mm * signs
        yield f"{name} is negated and left and right are swapped", swapped * signs
    yield "y and z are negated", poses_mm * (1, -1, -1)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        order = np.arange(3)
        order[[a, b]] = b, a
        yield f"{'xyz'[a]} and {'xyz'[b]} are swapped", poses_mm[..., order]
    yield "the axes are x, -z, y", poses_mm[..., [0, 2, 1]] * (1, -1, 1)
    yield "the axes are x, z, -y", poses_mm[..., [0, 2, 1]] * (1, 1, -1)


def _other_side(joints: Sequence[str]) -> list[int]:
    """Index of each joint's mirror image, or of the joint itself."""
    place = {joint: i for i, joint in enumerate(joints)}
    sides = {"left": "right", "right": "left"}
    mirrored = ["_".join(sides.get(part, part) for part in joint.split("_")) for joint in joints]
    return [place.get(other, i) for i, other in enumerate(mirrored)]


def _some_pairs(table: PoseTable, truth: TruthTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair rows of predictions and truth with equal keys, for up to `_SAMPLES` keys, in the order of the truth."""
    true_keys = pd.Index(truth.keys, dtype=object)
    keys = pd.unique(table.keys[pd.Index(table.keys, dtype=object).isin(true_keys)])
    keys = keys[np.linspace(0, len(keys) - 1, min(len(keys), _SAMPLES)).astype(int)] if len(keys) else keys
    rows = np.flatnonzero(pd.Index(table.keys, dtype=object).isin(keys))
    rows = rows[np.argsort(-table.score[rows], kind="stable")]
    predicted = pd.DataFrame({"key": table.keys[rows], "predicted": rows}).groupby("key").head(_PEOPLE)
    of_keys = np.flatnonzero(true_keys.isin(keys))
    pairs = pd.DataFrame({"key": truth.keys[of_keys], "true": of_keys}).merge(predicted, on="key").sort_values("true")
    return pairs["predicted"].to_numpy(np.int64), pairs["true"].to_numpy(np.int64)


def _in_frames(poses_mm: Array, frame: NDArray[np.object_], truth: TruthTable, rows: NDArray[np.int64]) -> Array:
    """Transform true world poses (n, C, 3) to the frame that each prediction states; NaN for an unknown frame."""
    turned = np.where((frame == "world")[:, None, None], poses_mm, np.nan)
    seen_by = truth.seen_by
    if seen_by is None:
        return turned
    for name in sorted(set(frame.tolist()) & set(truth.views)):
        of_camera = np.flatnonzero(frame == name)
        for camera, chosen in seen_by.each(truth.views.index(name), truth.place[rows[of_camera]]):
            turned[of_camera[chosen]] = camera.to_camera(poses_mm[of_camera[chosen]])
    return turned


def _root_unit_doubt(table: PoseTable, truth: TruthTable) -> str | None:
    """Warning if the median distance of roots from the origin equals the true distance in another unit."""
    pairs = _Pairs.of(table, truth)
    if pairs is None:
        return None
    far_mm, true_mm = (
        float(np.median(norms[np.isfinite(norms)])) if np.isfinite(norms).any() else 0.0
        for norms in (np.linalg.norm(poses[:, 0], axis=-1) for poses in (pairs.predicted_mm, pairs.true_mm))
    )
    factor = (
        None
        if not far_mm or not true_mm or 0.2 <= far_mm / true_mm <= 5
        else scale_to(far_mm, (0.5 * true_mm, 2 * true_mm))
    )
    if factor is None:
        return None
    measured = f"the median root is {far_mm:.3g} mm from the origin of its frame, that of the truth {true_mm:.0f} mm"
    return f"{table.source}: joints_mm: {measured}; {_hint(factor)}"


def _hint(factor: float | None) -> str:
    if factor not in UNITS:
        return "check the unit, predictions are in millimetres"
    return f"these seem to be {UNITS[factor]}: multiply them by {factor:g}, predictions are in millimetres"


def _median_size_mm(joints_mm: NDArray[np.floating]) -> float | None:
    """Median over `_POSES` poses of the largest distance between two joints; None without any."""
    chosen = joints_mm[:: max(len(joints_mm) // _POSES, 1)].astype(np.float64)
    chosen = chosen[~np.isnan(chosen).all(axis=(1, 2))]
    return float(np.median(extents_mm(chosen))) if len(chosen) else None
