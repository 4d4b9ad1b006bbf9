"""Bundle adjustment of small rigs with known intrinsics, batched over rigs, in the frame of the first camera.

Conventions: rays are points (x / z, y / z) in a camera's frame, ``X_view = R X + t``, and lengths have the unit of the
translations. An observation with weight 0 does not count, so rigs with different numbers of views and points can share
a batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poseboard.methods.geometry import compiled_rigs
from poseboard.methods.geometry.compiled_rigs import MEDIAN_OF_RAYLEIGH, NEAREST, SCALE_RANGE, SHARE_OF_VARIANCE
from poseboard.methods.geometry.triangulation import dlt

Array = NDArray[np.float64]


class Rig(NamedTuple):
    """Cameras and 3D points of B rigs.

    Args:
        R: (B, V, 3, 3) rotations; the first is the identity.
        t: (B, V, 3) translations; the first is zero, and the second has length 1 unless the rig has no second view.
        points: (B, N, 3) points in the first camera's frame.
        cost: (B,) mean robust cost of an observation, divided by the squared scale of the loss.
        sigma_px: (B,) standard deviation of a coordinate of an observation, estimated from the residuals.
        behind: (B,) weighted share of observations whose point is behind the camera.
    """

    R: Tensor
    t: Tensor
    points: Tensor
    cost: Tensor
    sigma_px: Tensor
    behind: Tensor


def first_frame(R: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Transform extrinsics R (..., V, 3, 3), t (..., V, 3) to the frame of the first camera, with baseline 1.

    The baseline is the distance between the first two cameras. With one camera, or if these two coincide, the scale is
    unchanged.
    """
    R0, t0 = R[..., :1, :, :], t[..., :1, :]
    R = R @ R0.mT
    t = t - (R @ t0[..., None])[..., 0]
    return R, t / baseline(t)


def baseline(t: Tensor) -> Tensor:
    """Distance (..., 1, 1) between the first two cameras; 1 if they coincide or there is only one camera."""
    if t.shape[-2] < 2:
        return torch.ones_like(t[..., :1, :1])
    length = torch.linalg.vector_norm(t[..., 1:2, :], dim=-1, keepdim=True)
    return torch.where(length > 0, length, torch.ones_like(length))


def triangulate(R: Tensor, t: Tensor, rays: Tensor, weights: Tensor) -> Tensor:
    """Weighted linear triangulation (..., N, 3) of rays (..., V, N, 2); 0 for a point with fewer than two views."""
    points = dlt(torch.cat([R, t[..., None]], dim=-1), rays, weights)
    return torch.nan_to_num(points)


def triangulate_compiled(R: Tensor, t: Tensor, rays: Tensor, weights: Tensor) -> Tensor:
    """Same as `triangulate` in compiled code, without gradients."""
    P = torch.cat([R, t[..., None]], dim=-1)
    return torch.from_numpy(np.nan_to_num(dlt(as_array(P), as_array(rays), as_array(weights)))).to(rays)


def residuals(R: Tensor, t: Tensor, points: Tensor, rays: Tensor, focal_px: Tensor) -> tuple[Tensor, Tensor]:
    """Squared reprojection errors (B, V, N) in px², and depths (B, V, N)."""
    in_view = torch.einsum("bvrc,bnc->bvnr", R, points) + t[..., None, :]
    depth = in_view[..., 2]
    # The residual has a pole at depth 0: depths between -NEAREST and NEAREST are moved to the nearer bound.
    near = torch.where(depth < 0, -NEAREST, NEAREST)
    projected = in_view[..., :2] / torch.where(depth.abs() < NEAREST, near, depth)[..., None]
    return focal_px**2 * ((projected - rays) ** 2).sum(-1), depth


def _robust(squared: Tensor, weights: Tensor, scale_px: Tensor) -> tuple[Tensor, Tensor]:
    """Mean Cauchy cost (B,) per observation, and the weights (B, V, N) of the least squares with the same gradient."""
    # rho(u) = log(1 + u) with u = r² / s², so that rho'(u) = 1 / (1 + u).
    u = squared / (scale_px[:, None, None] ** 2)
    total = weights.sum((1, 2)).clamp_min(1e-12)
    return (weights * torch.log1p(u)).sum((1, 2)) / total, weights / (1 + u)


def _scale_px(squared: Tensor, weights: Tensor) -> Tensor:
    """Scale (B,) of the robust loss: three standard deviations of a coordinate, from the median residual.

    The length of a 2D Gaussian error has a Rayleigh distribution, whose median is 1.1774 standard deviations.
    """
    used = torch.where(weights > 0, squared, torch.nan).flatten(1)
    median = torch.nan_to_num(used.nanmedian(dim=1).values, nan=1.0).sqrt()
    return (3 * median / MEDIAN_OF_RAYLEIGH).clamp(*SCALE_RANGE)


def adjust(
    R: Tensor,
    t: Tensor,
    rays: Tensor,
    weights: Tensor,
    focal_px: Tensor,
    steps: int,
    points: Tensor | None = None,
) -> Rig:
    """Robust bundle adjustment: Levenberg-Marquardt over cameras and points with the Cauchy loss.

    The points are eliminated by the Schur complement. The scale of the loss is three standard deviations of the
    residuals, estimated from their median in each step. Every rig has a separate damping. A step that raises the cost
    of a rig is undone.

    Args:
        R: (B, V, 3, 3) starting rotations.
        t: (B, V, 3) starting translations.
        rays: (B, V, N, 2) observations; finite where their weight is not 0.
        weights: (B, V, N), at least 0.
        focal_px: (B, V, N) focal length that converts the residual of each observation to pixels.
        steps: maximum number of steps.
        points: (B, N, 3) starting points; None: triangulate them from the starting cameras.

    Returns:
        The adjusted rig. Cameras without observations are unchanged.

    Example:
        >>> rig = adjust(R, t, rays, torch.ones(rays.shape[:3]), focal_px, steps=20)  # doctest: +SKIP
    """
    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))
    R, t = first_frame(R, t)
    points = triangulate(R, t, rays, weights) if points is None else points
    R, t, by_axis = _copied(R), _copied(t), _copied(points.mT)
    squared = torch.empty(weights.shape, dtype=torch.float64)
    arrays = (R, t, by_axis, rays.mT, weights.flatten(1), focal_px.flatten(1), squared.flatten(1))
    compiled_rigs.adjust_rigs(*map(as_array, arrays), steps)
    R, t, points, squared = (value.to(rays) for value in (R, t, by_axis.mT, squared))
    scale = _scale_px(squared, weights)
    cost, robust = _robust(squared, weights, scale)
    total = weights.sum((1, 2)).clamp_min(1e-12)
    depth = (points @ R[:, :, 2].mT).mT + t[..., 2:]
    behind = (weights * (depth < 0)).sum((1, 2)) / total
    return Rig(R, t, points, cost, _sigma_px(squared, weights, robust), behind)


def _copied(values: Tensor) -> Tensor:
    """Contiguous copy, which a compiled loop may change."""
    return values.detach().to("cpu", torch.float64, copy=True, memory_format=torch.contiguous_format)


def as_array(values: Tensor) -> Array:
    """Convert a tensor to a contiguous float64 array. A tensor that already is contiguous float64 is not copied."""
    return np.ascontiguousarray(values.detach().cpu().double().numpy())


def _sigma_px(squared_px: Tensor, weights: Tensor, robust: Tensor) -> Tensor:
    """Standard deviation (B,) of a coordinate of an observation with weight 1, estimated from robust residuals."""
    used = weights > 0
    cameras = used.any(2).sum(1)
    # Degrees of freedom: two per observation, less three per point and six per camera after the first, but for the
    # common scale. The robust weights shrink the sum of squares by SHARE_OF_VARIANCE even without outliers.
    free = 2 * used.sum((1, 2)) - 3 * (used.sum(1) >= 2).sum(1) - (6 * (cameras - 1) - 1).clamp_min(0)
    total = (robust * squared_px).sum((1, 2))
    share = robust.sum((1, 2)) / weights.sum((1, 2)).clamp_min(1e-12)
    variance = total / (SHARE_OF_VARIANCE * free.clamp_min(1) * share.clamp_min(1e-6))
    return variance.sqrt().clamp_min(SCALE_RANGE[0] / 3)


def information(rig: Rig, rays: Tensor, weights: Tensor, focal_px: Tensor) -> Tensor:
    """Information matrix (B, D, D), px^-2, of all cameras except the first, D = 6 (V - 1).

    This is the Gauss-Newton matrix with points eliminated. Coordinates of each camera are a left rotation vector and
    then the translation. The matrix is singular along the common scale of all translations.

    Args:
        rig: rig at which the residuals are linearised.
        rays: (B, V, N, 2) observations.
        weights: (B, V, N) weights of the least squares, see `robust_weights`.
        focal_px: (B, V, N) focal lengths, see `adjust`.
    """
    degrees = 6 * (rig.R.shape[1] - 1)
    matrix = torch.empty(len(rays), degrees, degrees, dtype=torch.float64)
    arrays = (rig.R, rig.t, rig.points.mT, rays.mT, weights.flatten(1), focal_px.flatten(1), matrix)
    compiled_rigs.information_of_rigs(*map(as_array, arrays))
    return matrix.to(rays)


def robust_weights(rig: Rig, rays: Tensor, weights: Tensor, focal_px: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, V, N) of the least squares that has the same minimum as the robust cost, and its scale (B,) in px."""
    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))
    squared, _ = residuals(rig.R, rig.t, rig.points, rays, focal_px)
    scale = _scale_px(squared, weights)
    return _robust(squared, weights, scale)[1], scale
