"""Views in which left and right of a person are exchanged, found by what triangulates better with given cameras.

A detector takes left for right where a person is seen from behind or from the side, and then with all joints of a view.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from poseboard.methods.geometry.bundle import residuals, triangulate_compiled
from poseboard.methods.geometry.compiled_rigs import SCALE_RANGE

LARGEST = 0.6
"""Share of the root mean squared residual that may be left where sides are exchanged: views disagree for other reasons,
too. On 960 frames of eight people of another synthetic world poses were equally good from 0.6 to 0.8, and fewest failed
from 0.5 to 0.6."""


def sort_sides(
    R: Tensor, t: Tensor, rays: Tensor, weights: Tensor, focal_px: Tensor, flip_order: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Exchange left and right in views that contradict the others.

    View after view the one is exchanged that lowers the residuals of the triangulated joints most. What is exchanged in
    the end is kept where little of the residuals is left. Which side is which, the views with the larger weights say:
    a person whose sides are exchanged in all views has the same residuals.

    Args:
        R: (B, V, 3, 3) of the cameras that see a person each.
        t: (B, V, 3) likewise.
        rays: (B, V, J, 2) of the joints; finite where their weight is not 0.
        weights: (B, V, J), at least 0; 0 where a view is absent.
        focal_px: (B, V, J), by which a residual becomes pixels.
        flip_order: of the joints, each at the place of its counterpart (`Skeleton.flip_order`).

    Returns:
        rays and weights with sides exchanged, and in which views (B, V) they are.

    Example:
        >>> rays, weights, exchanged = sort_sides(R, t, rays, weights, focal_px, HUMAN36M.flip_order)  # doctest: +SKIP
    """
    views = rays.shape[1]
    order, each = list(flip_order), torch.eye(views, dtype=torch.bool)
    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))

    def turned(exchanged: Tensor) -> tuple[Tensor, Tensor]:
        return (
            torch.where(exchanged[..., None, None], rays[:, None, :, order], rays[:, None]),
            torch.where(exchanged[..., None], weights[:, None, :, order], weights[:, None]),
        )

    def error(exchanged: Tensor) -> Tensor:
        """(B, C) mean squared residual for C choices (B, C, V)."""
        choices = exchanged.shape[1]
        of_choice = [value.repeat_interleave(choices, 0) for value in (R, t, focal_px)]
        seen, w = (value.flatten(0, 1) for value in turned(exchanged))
        w = w * ((w > 0).sum(1, keepdim=True) > 1)  # what one view alone sees has no place
        points = triangulate_compiled(of_choice[0], of_choice[1], seen, w)
        squared, _ = residuals(of_choice[0], of_choice[1], points, seen, of_choice[2])
        return ((w * squared).sum((1, 2)) / w.sum((1, 2)).clamp_min(1e-12)).unflatten(0, (-1, choices))

    exchanged = torch.zeros(weights.shape[:2], dtype=torch.bool)
    before = least = error(exchanged[:, None])[:, 0]
    for _ in range(views // 2):
        lower, which = error(exchanged[:, None] ^ each).min(1)
        better = lower < least
        if not better.any():
            break
        exchanged = exchanged ^ (each[which] & better[:, None])
        least = torch.where(better, lower, least)
    total = weights.sum(2)
    mostly = (total * exchanged).sum(1) > total.sum(1) / 2
    kept = (least < LARGEST**2 * before) & (before > SCALE_RANGE[0] ** 2)  # less is rounding
    exchanged = (exchanged ^ mostly[:, None]) & kept[:, None]
    seen, w = turned(exchanged[:, None])
    return seen[:, 0], w[:, 0], exchanged
