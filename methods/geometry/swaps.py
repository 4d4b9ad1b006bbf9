"""Correction of views in which a detector confused the left and right side of a person.

`without_swaps` works with any triangulation that is robust to single outliers, `swap_back` with the linear one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poseboard.methods.geometry.bundle import residuals, triangulate_compiled
from poseboard.methods.geometry.compiled_rigs import SCALE_RANGE
from poseboard.methods.geometry.triangulation import reprojection_error

Array = NDArray[np.float64]

EXHAUSTIVE_VIEWS = 5
"""Up to this many views every set of at most half of them is tried."""
_ROUNDS = 5
"""Rounds of the descent with more views."""
_PRICE = 1.0
"""Cost of a swapped view, in joints that do not fit: noise alone swaps no view."""
_LEFT = 0.6
"""`swap_back` swaps only if the root mean squared residual falls below this share: views disagree for other reasons,
too. On 960 frames of eight people of another synthetic world poses were equally good from 0.6 to 0.8, and fewest failed
from 0.5 to 0.6."""


def without_swaps(
    triangulate: Callable[[Array, Array], Array],
    P: Array,
    points_px: Array,
    flip_order: Sequence[int],
    threshold_px: float,
) -> tuple[Array, NDArray[np.bool_]]:
    """Triangulate people after correcting views with swapped sides, where this lowers the disagreement of the views.

    The disagreement of a person is ``sum min(d / threshold, 1)²`` over views and joints; d is the reprojection
    distance. With up to `EXHAUSTIVE_VIEWS` views, every set of at most half of the views is tried. Larger sets are not
    needed, because a pose with swapped sides in all views agrees equally well. With more views, each round swaps all
    views that then fit the current pose better.

    Args:
        triangulate: function of P (n, V, 3, 4) and points (n, V, J, 2) that returns points (n, J, 3) and is robust to
            single outliers.
        P: (N, V, 3, 4) projection matrices.
        points_px: (N, V, J, 2) undistorted pixels, NaN where a view has no observation.
        flip_order: index of each joint's mirror image.
        threshold_px: distance at which a joint's disagreement reaches its maximum.

    Returns:
        Points (N, J, 3), world mm, and (N, V) bool, whether each view was swapped back.

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


def swap_back(
    R: Tensor, t: Tensor, rays: Tensor, weights: Tensor, focal_px: Tensor, flip_order: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Swap left and right back in views that contradict the others.

    The search is greedy: each round swaps the view that lowers the residuals of the triangulated joints most. The swaps
    of a person are kept only if the residuals fall below `_LEFT`. Swapping all views does not change the residuals, so
    the views with the larger weights decide which side is left.

    Args:
        R: (B, V, 3, 3) rotations of the cameras of B people.
        t: (B, V, 3) translations of the cameras.
        rays: (B, V, J, 2) joints as (x / z, y / z); finite where their weight is not 0.
        weights: (B, V, J), at least 0; 0 where a view is absent.
        focal_px: (B, V, J) focal length that converts a residual to pixels.
        flip_order: index of each joint's mirror image (`Skeleton.flip_order`).

    Returns:
        Corrected rays and weights, and (B, V) bool, whether each view was swapped back.

    Example:
        >>> rays, weights, swapped = swap_back(R, t, rays, weights, focal_px, HUMAN36M.flip_order)  # doctest: +SKIP
    """
    views = rays.shape[1]
    order, each = list(flip_order), torch.eye(views, dtype=torch.bool)
    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))

    def seen_as(swapped: Tensor) -> tuple[Tensor, Tensor]:
        return (
            torch.where(swapped[..., None, None], rays[:, None, :, order], rays[:, None]),
            torch.where(swapped[..., None], weights[:, None, :, order], weights[:, None]),
        )

    def error(swapped: Tensor) -> Tensor:
        """Mean squared residual (B, C) of C choices of swapped views (B, C, V)."""
        choices = swapped.shape[1]
        of_choice = [value.repeat_interleave(choices, 0) for value in (R, t, focal_px)]
        seen, w = (value.flatten(0, 1) for value in seen_as(swapped))
        w = w * ((w > 0).sum(1, keepdim=True) > 1)  # one view does not determine a point
        points = triangulate_compiled(of_choice[0], of_choice[1], seen, w)
        squared, _ = residuals(of_choice[0], of_choice[1], points, seen, of_choice[2])
        return ((w * squared).sum((1, 2)) / w.sum((1, 2)).clamp_min(1e-12)).unflatten(0, (-1, choices))

    swapped = torch.zeros(weights.shape[:2], dtype=torch.bool)
    before = least = error(swapped[:, None])[:, 0]
    for _ in range(views // 2):
        lower, which = error(swapped[:, None] ^ each).min(1)
        better = lower < least
        if not better.any():
            break
        swapped = swapped ^ (each[which] & better[:, None])
        least = torch.where(better, lower, least)
    total = weights.sum(2)
    mostly = (total * swapped).sum(1) > total.sum(1) / 2
    kept = (least < _LEFT**2 * before) & (before > SCALE_RANGE[0] ** 2)  # less is rounding
    swapped = (swapped ^ mostly[:, None]) & kept[:, None]
    seen, w = seen_as(swapped[:, None])
    return seen[:, 0], w[:, 0], swapped


def _sets(views: int) -> list[tuple[int, ...]]:
    """All sets of 1 to V / 2 views. Of two complementary halves, only the one without the first view is listed."""
    sets = [chosen for size in range(1, views // 2 + 1) for chosen in combinations(range(views), size)]
    return [chosen for chosen in sets if 2 * len(chosen) < views or 0 not in chosen]


def _misfit(P: Array, X: Array, points_px: Array, threshold_px: float) -> Array:
    """Sum (N, V) over joints of min(d / threshold, 1)²; 0 for joints that are not observed."""
    distance = np.nan_to_num(reprojection_error(P, X, points_px)) / threshold_px
    return np.asarray((np.minimum(distance, 1.0) ** 2).sum(axis=-1))
