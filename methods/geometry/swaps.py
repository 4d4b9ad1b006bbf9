"""Views in which a detector took a person's left side for the right one: found by how well all views agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from poseboard.methods.geometry.triangulation import reprojection_error

Array = NDArray[np.float64]

EXHAUSTIVE_VIEWS = 5
"""Up to this many views every set of at most half of them is tried."""
_ROUNDS = 5
"""Of the descent with more views."""
_PRICE = 1.0
"""By how much the disagreement has to fall for each swapped view, in joints that do not fit: noise swaps none."""


def without_swaps(
    triangulate: Callable[[Array, Array], Array],
    P: Array,
    points_px: Array,
    flip_order: Sequence[int],
    threshold_px: float,
) -> tuple[Array, NDArray[np.bool_]]:
    """Triangulate people after left and right are swapped back in the views where that makes all views agree better.

    The disagreement of a person is ``sum min(d / threshold, 1)²`` over views and joints, d the reprojection distance.
    Up to `EXHAUSTIVE_VIEWS` views every set of at most half of them is tried, because a pose whose sides are swapped in
    all views agrees as well. With more views those are swapped that fit the pose of all views better so, in turns.

    Args:
        triangulate: P (n, V, 3, 4) and points (n, V, J, 2) to points (n, J, 3), robust to single outliers.
        P: (N, V, 3, 4) projection matrices.
        points_px: (N, V, J, 2) undistorted pixels, NaN where a view has no observation.
        flip_order: index of each joint's mirror image.
        threshold_px: distance from which a joint does not fit at all.

    Returns:
        Points (N, J, 3), world mm, and (N, V) whether each view was swapped back.

    Example:
        >>> swapped_px = points_px.copy()
        >>> swapped_px[0, 2] = points_px[0, 2][flip_order]  # doctest: +SKIP
        >>> without_swaps(ransac_points, P, swapped_px, flip_order, 30.0)[1].tolist()  # doctest: +SKIP
        [[False, False, True, False]]
    """
    people, views = points_px.shape[:2]
    flipped_px = points_px[:, :, list(flip_order)]

    def solved(some: NDArray[np.intp], swapped: NDArray[np.bool_]) -> tuple[Array, Array]:
        chosen_px = np.where(swapped[..., None, None], flipped_px[some], points_px[some])
        X = triangulate(P[some], chosen_px)
        return X, _misfit(P[some], X, chosen_px, threshold_px).sum(axis=1) + _PRICE * swapped.sum(axis=1)

    best = np.zeros((people, views), dtype=bool)
    X, cost = solved(np.arange(people), best)
    rounds: list[tuple[int, ...]] = [()] * _ROUNDS
    for chosen in _sets(views) if views <= EXHAUSTIVE_VIEWS else rounds:
        some = np.flatnonzero(cost > _PRICE)  # a swap costs as much
        if chosen:
            trial = np.zeros((len(some), views), dtype=bool)
            trial[:, list(chosen)] = True
        else:
            misfit, swapped_misfit = (
                _misfit(P[some], X[some], px[some], threshold_px) for px in (points_px, flipped_px)
            )
            trial = swapped_misfit + _PRICE < misfit
            other = (trial != best[some]).any(axis=1) & (trial.sum(axis=1) <= views / 2)
            some, trial = some[other], trial[other]
        if not len(some):
            break
        trial_X, trial_cost = solved(some, trial)
        better = trial_cost < cost[some]
        some, trial = some[better], trial[better]
        X[some], cost[some], best[some] = trial_X[better], trial_cost[better], trial
    return X, best


def _sets(views: int) -> list[tuple[int, ...]]:
    """Sets of one view to half of them; of two halves that are each other's rest the one without the first view."""
    sets = [chosen for size in range(1, views // 2 + 1) for chosen in combinations(range(views), size)]
    return [chosen for chosen in sets if 2 * len(chosen) < views or 0 not in chosen]


def _misfit(P: Array, X: Array, points_px: Array, threshold_px: float) -> Array:
    """(N, V) sum over joints of min(d / threshold, 1)²; a joint that is not observed fits."""
    distance = np.nan_to_num(reprojection_error(P, X, points_px), nan=0.0) / threshold_px
    return np.asarray((np.minimum(distance, 1.0) ** 2).sum(axis=-1))
