"""Association of detections across views by clustering with epipolar distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy  # its parts load when they are used
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NEVER = 1e9
"""Cost (px) of two detections of one view: no average over a cluster that has such a pair is below a threshold."""
_CAP = 3.0
"""Maximum cost of a joint, in thresholds: one swapped limb does not separate the detections of a person."""


def fundamental(P_a: Array, P_b: Array) -> Array:
    """Fundamental matrices F (..., 3, 3) with ``x_b' F x_a = 0`` (Hartley and Zisserman, section 17.1).

    Args:
        P_a: (..., 3, 4) projection matrices of the first view.
        P_b: (..., 3, 4) projection matrices of the second view.
    """
    # F_ij is, up to its sign, the determinant of two rows of each camera; cyclic pairs of rows give the sign.
    other = ((1, 2), (2, 0), (0, 1))
    F = np.empty((*P_a.shape[:-2], 3, 3))
    for i in range(3):
        for j in range(3):
            rows = np.concatenate([P_a[..., other[j], :], P_b[..., other[i], :]], axis=-2)
            F[..., i, j] = np.linalg.det(rows)
    return F


def epipolar_distance(P_a: Array, P_b: Array, a_px: Array, b_px: Array) -> Array:
    """Sampson distance in pixels: the smallest shift of two observations, to first order, that makes them correspond.

    Args:
        P_a: (..., 3, 4) projection matrices of the first view.
        P_b: (..., 3, 4) projection matrices of the second view.
        a_px: (..., J, 2) undistorted pixels in the first view.
        b_px: (..., J, 2) undistorted pixels in the second view.

    Returns:
        (..., J) pixels; NaN where an observation is NaN. Arbitrary or NaN if the cameras have the same centre.

    Example:
        >>> P_a, P_b = np.eye(3, 4), np.hstack([np.eye(3), [[1.0], [0], [0]]])  # side by side: lines are rows
        >>> epipolar_distance(P_a, P_b, np.array([[0.0, 3]]), np.array([[5.0, 3]])).tolist()
        [0.0]
    """
    F = fundamental(P_a, P_b)
    a = np.concatenate([a_px, np.ones_like(a_px[..., :1])], axis=-1)
    b = np.concatenate([b_px, np.ones_like(b_px[..., :1])], axis=-1)
    line_b, line_a = a @ np.swapaxes(F, -1, -2), b @ F
    squared = (line_a[..., :2] ** 2).sum(-1) + (line_b[..., :2] ** 2).sum(-1)
    return np.asarray(np.abs((b * line_b).sum(-1)) / np.sqrt(np.where(squared > 0, squared, np.nan)))


def associate(
    P: Array, points_px: Sequence[Array], confidence: Sequence[Array], threshold_px: float
) -> NDArray[np.intp]:
    """Group the detections of all views into people.

    The cost of two detections is the confidence-weighted mean epipolar distance of their joints. Detections are merged
    by average linkage up to the threshold. Detections of one view are never merged, and a person needs two views.

    Args:
        P: (V, 3, 4) projection matrices.
        points_px: V arrays (N_v, J, 2), undistorted pixels, NaN where a joint is not detected.
        confidence: V arrays (N_v, J), at least 0.
        threshold_px: maximum mean distance of detections of one person.

    Returns:
        (people, V) index of each person's detection in each view, -1 if there is none. People are sorted by number of
        views, largest first.

    Example:
        >>> people = associate(P, [left_px, right_px], [left_confidence, right_confidence], threshold_px=15)
    """
    views, counts = len(P), [len(points) for points in points_px]
    # Detections of all views in one list; `cost` is the condensed distance matrix that SciPy's linkage takes.
    view = np.repeat(np.arange(views), counts)
    if len(view) < 2:
        return np.zeros((0, views), dtype=np.intp)
    index = np.concatenate([np.arange(count) for count in counts])
    points, weights = np.concatenate(points_px), np.concatenate(confidence)
    first, second = np.triu_indices(len(view), k=1)
    cost = np.full(len(first), _NEVER)
    for a in range(views):
        for b in range(a + 1, views):
            pairs = np.flatnonzero((view[first] == a) & (view[second] == b))
            if not len(pairs):
                continue
            # Mean Sampson distance of the joints, weighted by the confidences of both detections. Joints are capped at
            # `_CAP` thresholds, so that one swapped limb does not separate the detections of a person.
            i, j = first[pairs], second[pairs]
            distance = epipolar_distance(P[a], P[b], points[i], points[j])
            weight = np.where(np.isfinite(distance), np.sqrt(weights[i] * weights[j]), 0.0)
            distance = np.minimum(np.nan_to_num(distance), _CAP * threshold_px)
            total = weight.sum(-1)
            mean = (weight * distance).sum(-1) / np.where(total > 0, total, 1.0)
            cost[pairs] = np.where(total > 0, mean, _NEVER)
    # Average linkage keeps clusters apart that share a view: `_NEVER` pushes any average above the threshold.
    hierarchy = scipy.cluster.hierarchy
    label = hierarchy.fcluster(hierarchy.linkage(cost, "average"), threshold_px, "distance") - 1
    people = np.full((label.max() + 1, views), -1, dtype=np.intp)
    people[label, view] = index
    seen = (people >= 0).sum(axis=1)
    return people[np.argsort(-seen, kind="stable")][: (seen >= 2).sum()]
