"""Calibration from 2D points only: relative poses of all pairs of views, and the rig estimated from them.

Everything is batched over rigs, pairs and hypotheses. Conventions are those of `bundle`.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from poseboard.methods.geometry import compiled_rigs
from poseboard.methods.geometry.bundle import Rig, adjust, as_array, first_frame, triangulate_compiled
from poseboard.methods.geometry.factorization import factorize
from poseboard.methods.geometry.rotations import angle_deg, spread_rotations

SEARCH = ((24, 4), (6, 6))
"""(starting rotations of each pair, steps of each), then (number of best ones, further steps of each)."""
POINTS_OF_SEARCH = 64
"""Maximum number of points of a pair in the search, evenly strided over the points that both views observe."""
POINTS_OF_HYPOTHESES = 136
"""Maximum number of points of a rig in the first rounds of `ADJUST`, evenly strided over all points."""
ADJUST = ((10, 4), (4, 8), (1, 12))
"""Rounds of (hypotheses that are kept, steps of bundle adjustment before); the last round uses all points."""
_GIVEN_UP = 0.2
"""A hypothesis is dropped if its mean robust cost exceeds that of the best by more."""
_SAME_DEG = 3.0
"""Hypotheses are the same if all cameras differ in rotation by less."""
_DISTINCT_DEG = 15.0
"""The second hypothesis of a pair differs at least so much from the first."""


class Pairs(NamedTuple):
    """Two hypotheses of the relative pose of each pair of views, the better one first.

    Args:
        R: (..., 2, 3, 3) rotations, x_second = R x_first + t.
        t: (..., 2, 3) translations of length 1.
        cost: (..., 2) robust cost plus share of points behind a camera.
    """

    R: Tensor
    t: Tensor
    cost: Tensor


def _homogeneous(rays: Tensor) -> Tensor:
    return torch.cat([rays, torch.ones_like(rays[..., :1])], dim=-1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _depths(y: Tensor, b: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Depths (depth_a, depth_b) that solve ``depth_b b = depth_a y + t``, with y the rotated ray of the first view."""
    # Cross products with b and with y eliminate one depth each; both are then measured along the normal b × y.
    normal = torch.linalg.cross(b, y)
    squared = _dot(normal, normal).clamp_min(1e-15)
    return -_dot(normal, torch.linalg.cross(b, t)) / squared, -_dot(normal, torch.linalg.cross(y, t)) / squared


def relative_poses(a: Tensor, b: Tensor, weights: Tensor, focal_px: Tensor) -> Pairs:
    """Relative pose of two views: robust minimisation of Sampson's distance from many starting rotations.

    For each rotation of `SEARCH`, spread over SO(3), the translation is the smallest eigenvector of the epipolar
    constraints ``b · (t × R a) = 0``. Both are then refined by damped Gauss-Newton with Cauchy weights. Four poses have
    the same essential matrix; the result is the one with the most points in front of both views.

    Args:
        a: (B, N, 2) rays of the first view; finite where their weight is not 0.
        b: (B, N, 2) rays of the second view.
        weights: (B, N), at least 0.
        focal_px: (B, N) focal length that converts distances to pixels.

    Returns:
        Two hypotheses per pair, with batch dimension B.
    """
    (count, steps), (keep, more_steps) = SEARCH
    pairs = torch.cat([a.mT, b.mT, weights[:, None], focal_px[:, None]], dim=1)
    starts = spread_rotations(count).expand(len(a), -1, -1, -1)
    R, t, cost = starts.numpy().copy(), np.empty((len(a), count, 3)), np.empty((len(a), count))
    compiled_rigs.search_pairs(as_array(pairs), as_array(weights), R, t, cost, keep, steps, more_steps)
    return _two_best(*(torch.from_numpy(values).to(a) for values in (R, t, cost)))


def _two_best(R: Tensor, t: Tensor, cost: Tensor) -> Pairs:
    """Best pose of each pair, and the best pose with a different rotation or direction of translation."""
    first = cost.argmin(1, keepdim=True)
    best = torch.take_along_dim(R, first[..., None, None], 1)
    apart = angle_deg(R @ best.mT) > _DISTINCT_DEG
    apart |= (
        torch.rad2deg(torch.acos(_dot(t, torch.take_along_dim(t, first[..., None], 1)).clamp(-1, 1)))
        > 2 * _DISTINCT_DEG
    )
    second = torch.where(apart, cost, torch.inf).argmin(1, keepdim=True)
    both = torch.cat([first, second], dim=1)
    return Pairs(
        torch.take_along_dim(R, both[..., None, None], 1),
        torch.take_along_dim(t, both[..., None], 1),
        torch.take_along_dim(cost, both, 1),
    )


def _strided(weights: Tensor, count: int) -> Tensor:
    """Indices (B, count) of evenly strided points with a weight above 0, padded with the remaining points."""
    used = weights > 0
    order = used.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    number = used.sum(1, keepdim=True).clamp_min(1)
    steps = torch.arange(count, device=weights.device)[None]
    place = torch.where(number > count, steps * number // count, steps)
    return order.gather(1, place)


def estimate(rays: Tensor, weights: Tensor, focal_px: Tensor, steps: int = 12) -> Rig:
    """Estimate cameras and points from 2D points only.

    1. Relative poses of all pairs of views, two hypotheses each (`relative_poses`).
    2. Hypotheses of the rig. Each view in turn is the centre of a star: the poses of the other views are those of their
       pairs with this view. The scale of each translation follows from the median ratio of depths. The second poses of
       the pairs give as many further stars. With three or more views, `factorize` adds two hypotheses.
    3. Rounds of bundle adjustment (`ADJUST`). After each round, hypotheses with a higher cost and duplicates are
       dropped. The cost is the robust reprojection error plus a penalty on points behind a camera.
    4. Bundle adjustment of the last hypothesis with all points.

    Args:
        rays: (B, V, N, 2) observations, V at least 2; finite where their weight is not 0.
        weights: (B, V, N), at least 0; 0 for an absent view. The first two views must be present.
        focal_px: (B, V, N) focal length that converts the residual of each observation to pixels.
        steps: number of steps of the last adjustment.

    Returns:
        The rig in the frame of the first view, with the second view at distance 1.

    Raises:
        ValueError: fewer than two views.

    Example:
        >>> rig = estimate(rays, torch.ones(rays.shape[:3]), focal_px)  # doctest: +SKIP
        >>> rig.R.shape  # doctest: +SKIP
        torch.Size([8, 4, 3, 3])
    """
    B, V, N = rays.shape[:3]
    if V < 2:
        raise ValueError(f"two views are needed, got {V}")
    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))
    # Step 1. An observation of a pair has the geometric mean of both weights, so that one absent view removes it.
    pairs = list(combinations(range(V), 2))
    first, second = (torch.tensor(places, device=rays.device) for places in zip(*pairs, strict=True))
    both = (weights[:, first] * weights[:, second]).sqrt().flatten(0, 1)
    count = min(N, POINTS_OF_SEARCH)
    chosen = _strided(both, count)
    a, b = (torch.take_along_dim(rays[:, side].flatten(0, 1), chosen[..., None], 1) for side in (first, second))
    focal = ((focal_px[:, first] + focal_px[:, second]) / 2).flatten(0, 1).gather(1, chosen)
    found = relative_poses(a, b, both.gather(1, chosen), focal)
    R, t = _table(found.R.unflatten(0, (B, -1)), found.t.unflatten(0, (B, -1)), first, second, V)
    # Step 2: stars (B, 2 V, V, 3, 3), factorizations (B, 2, V, 3, 3).
    rigs = [_stars(R, t, rays, weights), *([factorize(rays, weights)] if V > 2 else [])]
    R, t = (torch.cat(values, dim=1) for values in zip(*rigs, strict=True))
    of = torch.arange(B, device=rays.device).repeat_interleave(R.shape[1])  # the rig of each hypothesis
    R, t = R.flatten(0, 1), t.flatten(0, 1)
    # Step 3. A subset of the points ranks hypotheses as well as all points, at a fraction of the time.
    few = _strided((weights > 0).sum(1), min(N, POINTS_OF_HYPOTHESES))[:, None].expand(-1, V, -1)
    some = torch.take_along_dim(rays, few[..., None], 2), weights.gather(2, few), focal_px.gather(2, few)
    for kept, of_round in ADJUST:
        observed = (rays, weights, focal_px) if kept == 1 else some
        seen, w, f = (value[of] for value in observed)
        R, t = first_frame(R, t)
        rig = adjust(R, t, seen, w, f, of_round, triangulate_compiled(R, t, seen, w))
        best = best_hypotheses(rig, of, seen, w, f, kept)
        R, t, of = rig.R[best], rig.t[best], of[best]
    return adjust(R, t, rays, weights, focal_px, steps, triangulate_compiled(R, t, rays, weights))


def _table(R: Tensor, t: Tensor, first: Tensor, second: Tensor, views: int) -> tuple[Tensor, Tensor]:
    """Relative poses of all ordered pairs, R (B, 2, V, V, 3, 3) and t (B, 2, V, V, 3), from row view to column view."""
    table_R = torch.eye(3, dtype=R.dtype, device=R.device).repeat(len(R), 2, views, views, 1, 1)
    table_t = torch.zeros(*table_R.shape[:-1], dtype=R.dtype, device=R.device)
    R, t = R.transpose(1, 2), t.transpose(1, 2)  # (B, 2, pairs, ...)
    table_R[:, :, first, second], table_t[:, :, first, second] = R, t
    table_R[:, :, second, first], table_t[:, :, second, first] = R.mT, -(R.mT @ t[..., None])[..., 0]
    return table_R, table_t


def _stars(R: Tensor, t: Tensor, rays: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Star hypotheses (B, 2 V, V, ...): each view as centre, with the first and then the second poses of the pairs."""
    f = _homogeneous(rays)  # (B, V, N, 3)
    y = torch.einsum("bhcvij,bcnj->bhcvni", R, f)
    depth, _ = _depths(y, f[:, None, None].expand_as(y), t[..., None, :].expand_as(y))  # (B, 2, V, V, N)
    seen = (weights[:, :, None] > 0) & (weights[:, None] > 0)
    usable = seen[:, None] & (depth > 0)
    log_depth = torch.where(usable, depth.clamp_min(1e-9).log(), torch.nan)
    # A longer baseline has smaller depths in its own unit: its scale is the inverse of their ratio to a common depth.
    common = log_depth.nanmedian(dim=3, keepdim=True).values
    scale = torch.nan_to_num((common - log_depth).nanmedian(dim=-1).values).exp()
    R, t = first_frame(R, t * scale[..., None])
    return R.flatten(1, 2), t.flatten(1, 2)


def best_hypotheses(rig: Rig, of: Tensor, rays: Tensor, weights: Tensor, focal_px: Tensor, kept: int) -> Tensor:
    """Indices of the best hypotheses of each rig, ordered by rig and then from best to worst.

    Args:
        rig: M hypotheses of rigs.
        of: (M,) index of each hypothesis's rig, ascending; every rig has at least one hypothesis.
        rays: (M, V, N, 2) observations.
        weights: (M, V, N) weights of the observations.
        focal_px: (M, V, N) focal lengths, see `estimate`.
        kept: maximum number of hypotheses per rig.
    """
    # One robust scale for all hypotheses of a rig, that of the best fit: with its own scale, a hypothesis with large
    # residuals would look good.
    least = torch.full_like(rig.sigma_px, torch.inf).scatter_reduce(0, of, rig.sigma_px, "amin")
    in_view = torch.einsum("bvrc,bnc->bvnr", rig.R, rig.points) + rig.t[..., None, :]
    depth = in_view[..., 2]
    projected = in_view[..., :2] / torch.where(depth == 0, torch.ones_like(depth), depth)[..., None]
    residual = focal_px[..., None] * (projected - rays)
    u = (residual**2).sum(-1) / (9 * least[of][:, None, None] ** 2)
    cost = (weights * torch.log1p(u)).sum((1, 2)) / weights.sum((1, 2)).clamp_min(1e-12)
    cost = torch.nan_to_num(cost, nan=torch.inf) + 10 * rig.behind
    # Sorted by rig, then by cost; drop copies of the best hypothesis and those that cost `_GIVEN_UP` more.
    order = cost.argsort(stable=True)
    order = order[of[order].argsort(stable=True)]
    first = torch.searchsorted(of, of)  # of the rig of each
    R, cost = rig.R[order], cost[order]
    other = angle_deg(R @ R[first].mT).amax(-1) > _SAME_DEG
    wanted = (first == torch.arange(len(of), device=of.device)) | (other & (cost <= cost[first] + _GIVEN_UP))
    number = wanted.cumsum(0)
    return order[wanted & (number - number[first] < kept)]
