"""Bundle adjustment of small rigs with known intrinsics, batched over rigs; the first camera is the reference.

Conventions: rays are points (x / z, y / z) of a camera's own frame, ``X_view = R X + t``, the frame is the first
camera's, lengths have the unit of the translations. An observation with weight 0 does not count, so rigs with other
numbers of views and points share a batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from poseboard.methods.geometry.rotations import cross_matrix, rotation_exp
from poseboard.methods.geometry.triangulation import dlt

_NEAREST = 1e-3
"""Depth below which a point counts as that far in front of or behind a camera, in units of the first baseline."""
_SCALE_RANGE = (1e-3, 50.0)
"""The robust scale, px, is kept in this range."""
_MEDIAN_OF_RAYLEIGH = 1.1774
"""Median length of a 2D Gaussian error over its standard deviation."""
_SHARE_OF_VARIANCE = 0.8579
"""Of a 2D Gaussian error's variance, under the loss: (1 / E - 1) a, with E = a exp(a) E1(a) and a = 9 / 2."""


class Rig(NamedTuple):
    """Cameras of B rigs and the points that they see.

    Args:
        R: (B, V, 3, 3); the first is the identity.
        t: (B, V, 3); the first is zero, and the second has length 1 where it is there.
        points: (B, N, 3) in the first camera's frame.
        cost: (B,) mean robust cost of an observation, in squared robust scales.
        sigma_px: (B,) standard deviation of an observation's coordinate, from the residuals.
        behind: (B,) weighted share of observations whose point is behind the camera.
    """

    R: Tensor
    t: Tensor
    points: Tensor
    cost: Tensor
    sigma_px: Tensor
    behind: Tensor


def first_frame(R: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Cameras (..., V, 3, 3), (..., V, 3) in the frame of the first one, with the second at distance 1.

    Rigs of one camera, or whose first two coincide, keep their scale.
    """
    R0, t0 = R[..., :1, :, :], t[..., :1, :]
    R = R @ R0.mT
    t = t - (R @ t0[..., None])[..., 0]
    return R, t / baseline(t)


def baseline(t: Tensor) -> Tensor:
    """(..., V, 3) -> (..., 1, 1) distance of the second camera from the first; 1 where it is 0 or there is none."""
    if t.shape[-2] < 2:
        return torch.ones_like(t[..., :1, :1])
    length = torch.linalg.vector_norm(t[..., 1:2, :], dim=-1, keepdim=True)
    return torch.where(length > 0, length, torch.ones_like(length))


def triangulate(R: Tensor, t: Tensor, rays: Tensor, weights: Tensor) -> Tensor:
    """Weighted linear triangulation (..., N, 3) of rays (..., V, N, 2); zero where fewer than two views see a point."""
    points = dlt(torch.cat([R, t[..., None]], dim=-1), rays, weights)
    return torch.nan_to_num(points)


class _Seen(NamedTuple):
    """Points as the cameras see them."""

    turned: Tensor  # (B, V, N, 3), R X
    inverse_depth: Tensor  # (B, V, N), signed
    projected: Tensor  # (B, V, N, 2)
    residual_px: Tensor  # (B, V, N, 2)


def _see(R: Tensor, t: Tensor, points: Tensor, rays: Tensor, focal_px: Tensor) -> _Seen:
    turned = torch.einsum("bvrc,bnc->bvnr", R, points)
    in_view = turned + t[..., None, :]
    depth = in_view[..., 2]
    near = torch.where(depth < 0, -_NEAREST, _NEAREST).to(depth.dtype)
    inverse = 1 / torch.where(depth.abs() < _NEAREST, near, depth)
    projected = in_view[..., :2] * inverse[..., None]
    return _Seen(turned, inverse, projected, focal_px[..., None] * (projected - rays))


def _robust(residual_px: Tensor, weights: Tensor, scale_px: Tensor) -> tuple[Tensor, Tensor]:
    """Cauchy cost (B,), mean of the observations, and the weights (B, V, N) of the equal least squares."""
    u = (residual_px**2).sum(-1) / (scale_px[:, None, None] ** 2)
    total = weights.sum((1, 2)).clamp_min(1e-12)
    return (weights * torch.log1p(u)).sum((1, 2)) / total, weights / (1 + u)


def _scale_px(residual_px: Tensor, weights: Tensor) -> Tensor:
    """(B,) three standard deviations of an observation's coordinate, by the median residual."""
    length = torch.linalg.vector_norm(residual_px, dim=-1).flatten(1)
    length = torch.where(weights.flatten(1) > 0, length, torch.nan)
    median = torch.nan_to_num(length.nanmedian(dim=1).values, nan=1.0)
    return (3 * median / _MEDIAN_OF_RAYLEIGH).clamp(*_SCALE_RANGE)


class _System(NamedTuple):
    """Normal equations of cameras and points."""

    cameras: Tensor  # (B, V, 6, 6)
    cross: Tensor  # (B, V, N, 6, 3)
    points: Tensor  # (B, N, 3, 3)
    of_cameras: Tensor  # (B, V, 6)
    of_points: Tensor  # (B, N, 3)


def _system(R: Tensor, seen: _Seen, focal_px: Tensor, weights: Tensor) -> _System:
    """Cameras move by (w, dt): R -> exp(w) R, t -> t + dt."""
    f = focal_px * seen.inverse_depth  # (B, V, N)
    zero = torch.zeros_like(f)
    x, y = seen.projected.unbind(-1)
    of_view = torch.stack([f, zero, -f * x, zero, f, -f * y], -1).unflatten(-1, (2, 3))  # (B, V, N, 2, 3)
    J_camera = torch.cat([-of_view @ cross_matrix(seen.turned), of_view], dim=-1)  # (B, V, N, 2, 6)
    J_point = of_view @ R[:, :, None]
    weighted_c, weighted_p = weights[..., None, None] * J_camera, weights[..., None, None] * J_point
    residual = seen.residual_px[..., None]
    return _System(
        torch.einsum("bvnri,bvnrj->bvij", weighted_c, J_camera),
        weighted_c.mT @ J_point,
        torch.einsum("bvnri,bvnrj->bnij", weighted_p, J_point),
        (weighted_c.mT @ residual)[..., 0].sum(2),
        (weighted_p.mT @ residual)[..., 0].sum(1),
    )


def _reduced(system: _System, damping: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The system of the cameras after the first alone: matrix (B, D, D), right side (B, D); inverses of the points."""
    B, V = system.cameras.shape[:2]
    eye3 = torch.eye(3, dtype=damping.dtype, device=damping.device)
    trace = system.points.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    damped = system.points * (1 + damping[:, None, None, None] * eye3) + (1e-12 * trace + 1e-30) * eye3
    inverse = torch.linalg.inv(damped)
    cross = system.cross[:, 1:]  # (B, V-1, N, 6, 3)
    carried = cross @ inverse[:, None]
    D = 6 * (V - 1)
    blocks = -torch.einsum("bvnip,bwnjp->bviwj", carried, cross).reshape(B, D, D)
    own = torch.zeros(B, V - 1, 6, V - 1, 6, dtype=blocks.dtype, device=blocks.device)
    place = torch.arange(V - 1, device=blocks.device)
    own[:, place, :, place] = system.cameras[:, 1:].transpose(0, 1)
    own = own.reshape(B, D, D)
    diagonal = own.diagonal(dim1=-2, dim2=-1)
    matrix = blocks + own + torch.diag_embed(damping[:, None] * diagonal + 1e-9 * (1 + diagonal.mean(-1, keepdim=True)))
    right = system.of_cameras[:, 1:] - torch.einsum("bvnip,bnp->bvi", carried, system.of_points)
    return matrix, right.reshape(B, D), inverse


def adjust(
    R: Tensor, t: Tensor, rays: Tensor, weights: Tensor, focal_px: Tensor, steps: int, points: Tensor | None = None
) -> Rig:
    """Robust bundle adjustment: Levenberg-Marquardt over cameras and points with Cauchy's loss.

    The points are eliminated by the Schur complement. The loss's scale is three standard deviations of the residuals,
    by their median in each step. Every rig has damping of its own, and keeps its best state.

    Args:
        R: (B, V, 3, 3) to start from.
        t: (B, V, 3) likewise.
        rays: (B, V, N, 2) observations; finite where their weight is not 0.
        weights: (B, V, N) at least 0.
        focal_px: (B, V, N), by which the residual of each observation becomes pixels.
        steps: at most so many.
        points: (B, N, 3) to start from; None: triangulated.

    Returns:
        The rig; cameras that nobody observes stay where they were.

    Example:
        >>> rig = adjust(R, t, rays, torch.ones(rays.shape[:3]), focal_px, steps=20)  # doctest: +SKIP
    """
    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))
    R, t = first_frame(R, t)
    points = triangulate(R, t, rays, weights) if points is None else points
    damping = torch.full(R.shape[:1], 1e-3, dtype=R.dtype, device=R.device)
    seen = _see(R, t, points, rays, focal_px)
    for _ in range(steps):
        scale = _scale_px(seen.residual_px, weights)
        cost, robust = _robust(seen.residual_px, weights, scale)
        system = _system(R, seen, focal_px, robust)
        matrix, right, inverse = _reduced(system, damping)
        step = torch.linalg.solve_ex(matrix, -right).result.unflatten(-1, (-1, 6))
        step = torch.nan_to_num(step)
        moved = torch.cat([torch.zeros_like(step[:, :1]), step], dim=1)
        of_points = system.of_points + torch.einsum("bvnip,bvi->bnp", system.cross, moved)
        new_points = points - (inverse @ of_points[..., None])[..., 0]
        new_R, new_t = rotation_exp(moved[..., :3]) @ R, t + moved[..., 3:]
        scaled = baseline(new_t)
        new_t, new_points = new_t / scaled, new_points / scaled
        new_seen = _see(new_R, new_t, new_points, rays, focal_px)
        better = _robust(new_seen.residual_px, weights, scale)[0] < cost
        R = torch.where(better[:, None, None, None], new_R, R)
        t = torch.where(better[:, None, None], new_t, t)
        points = torch.where(better[:, None, None], new_points, points)
        seen = _Seen(
            *(torch.where(better.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(new_seen, seen, strict=True))
        )
        damping = torch.where(better, damping * 0.2, damping * 6).clamp(1e-9, 1e6)
    scale = _scale_px(seen.residual_px, weights)
    cost, robust = _robust(seen.residual_px, weights, scale)
    total = weights.sum((1, 2)).clamp_min(1e-12)
    behind = (weights * (seen.inverse_depth < 0)).sum((1, 2)) / total
    return Rig(R, t, points, cost, _sigma_px(seen.residual_px, weights, robust), behind)


def _sigma_px(residual_px: Tensor, weights: Tensor, robust: Tensor) -> Tensor:
    """(B,) of a coordinate of an observation with weight 1, by the residuals that the robust loss leaves."""
    used = weights > 0
    cameras = used.any(2).sum(1)
    free = 2 * used.sum((1, 2)) - 3 * (used.sum(1) >= 2).sum(1) - (6 * (cameras - 1) - 1).clamp_min(0)
    squared = (robust * (residual_px**2).sum(-1)).sum((1, 2))
    share = robust.sum((1, 2)) / weights.sum((1, 2)).clamp_min(1e-12)
    variance = squared / (_SHARE_OF_VARIANCE * free.clamp_min(1) * share.clamp_min(1e-6))
    return variance.sqrt().clamp_min(_SCALE_RANGE[0] / 3)


def information(rig: Rig, rays: Tensor, weights: Tensor, focal_px: Tensor) -> Tensor:
    """Information (B, D, D), D = 6 (V - 1), of the cameras after the first, px^-2: Gauss-Newton, points eliminated.

    Coordinates of each camera: a left rotation vector, then its translation. It is singular along the common scale.

    Args:
        rig: the state.
        rays: (B, V, N, 2).
        weights: (B, V, N), those of the robust loss included.
        focal_px: (B, V, N).
    """
    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))
    seen = _see(rig.R, rig.t, rig.points, rays, focal_px)
    return _reduced(_system(rig.R, seen, focal_px, weights), torch.zeros_like(rig.cost))[0]


def robust_weights(rig: Rig, rays: Tensor, weights: Tensor, focal_px: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, V, N) of the least squares that has the robust cost's minimum, and the loss's scale (B,) px."""
    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))
    residual = _see(rig.R, rig.t, rig.points, rays, focal_px).residual_px
    scale = _scale_px(residual, weights)
    return _robust(residual, weights, scale)[1], scale
