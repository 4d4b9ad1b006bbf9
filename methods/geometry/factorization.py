"""Cameras of a rig from all 2D points together, by factorization under scaled orthography.

Noisy points in a small part of the image hardly determine the relative pose of a pair of views. Without perspective,
the matrix of all observations is the product of cameras and points, and the cameras have a closed form (Tomasi and
Kanade, IJCV 1992; scaled orthography: Poelman and Kanade, PAMI 1997). The result is a rough start for `bundle`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poseboard.methods.geometry.rotations import matrix_of_quaternion

_FLATTEST = 0.02
"""Least ratio of the smallest to the largest eigenvalue of the metric: uncertain points can make it indefinite."""
_SMALL = 1e-12


def factorize(rays: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate two rigs of cameras from 2D points only. Without perspective, a rig and its mirror image fit equally.

    Each view is rotated so that its optical axis points at the mean direction of its points. Only points that all views
    observe are used.

    Args:
        rays: (B, V, N, 2) observations, V at least 2; finite where their weight is not 0.
        weights: (B, V, N), at least 0. A view with only zeros is absent and gets the pose R = I, t = 0.

    Returns:
        R (B, 2, V, 3, 3) and t (B, 2, V, 3), up to a common rotation and scale. With fewer than three views or four
        points the result is finite but arbitrary.

    Example:
        >>> R, t = factorize(torch.rand(8, 4, 17, 2), torch.ones(8, 4, 17))
        >>> R.shape
        torch.Size([8, 2, 4, 3, 3])
    """
    there = weights.sum(2) > 0  # (B, V)
    w = torch.where(there[..., None], weights, torch.inf).amin(1)
    w = torch.where(torch.isfinite(w), w, 0)[:, None, :, None]  # (B, 1, N, 1)
    whole = w.sum(2, keepdim=True).clamp_min(_SMALL)
    # Rotate each view to the mean direction of its points, where scaled orthography fits best, and centre the points.
    directions = torch.nn.functional.normalize(torch.cat([rays, torch.ones_like(rays[..., :1])], dim=-1), dim=-1)
    ahead = _ahead((w * directions).sum(2))  # (B, V, 3, 3) turns the middle to the axis
    turned = directions @ ahead.mT
    flat = turned[..., :2] / turned[..., 2:].clamp_min(_SMALL)
    middle = (w * flat).sum(2, keepdim=True) / whole
    flat = there[..., None, None] * w.sqrt() * (flat - middle)

    # Rank-3 factorization by the three largest eigenvalues of the observations' second moment. Cameras are determined
    # up to a 3x3 matrix A; A A' is the metric that makes both rows of each camera orthogonal and equally long.
    stacked = flat.mT.flatten(1, 2)  # (B, 2 V, N): cameras times points
    values, vectors = torch.linalg.eigh(stacked @ stacked.mT)
    cameras = (vectors[..., -3:] * values[..., None, -3:].clamp_min(0).sqrt()).unflatten(1, (-1, 2))
    upper = _root(_metric(cameras))
    # The nearest pair of orthonormal rows (polar decomposition); the scale of a camera is the inverse of its depth.
    u, s, vh = torch.linalg.svd(cameras @ upper[:, None], full_matrices=False)
    x_y = u @ vh
    R = torch.cat([x_y, torch.linalg.cross(x_y[..., 0, :], x_y[..., 1, :])[..., None, :]], dim=-2)
    depth = 1 / s.mean(-1).clamp_min(_SMALL)
    t = depth[..., None] * torch.cat([middle[..., 0, :], torch.ones_like(depth)[..., None]], dim=-1)
    R, t = ahead.mT @ R, (ahead.mT @ t[..., None])[..., 0]
    # The other solution: the points mirrored in depth.
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=R.dtype, device=R.device))
    R = torch.stack([R, ahead.mT @ (mirror @ ahead @ R @ mirror)], dim=1)
    t = torch.stack([t, t], dim=1)
    known = there[:, None, :, None]
    return torch.where(known[..., None], R, torch.eye(3, dtype=R.dtype, device=R.device)), torch.where(known, t, 0)


def _ahead(middle: Tensor) -> Tensor:
    """Rotations (..., 3, 3) from directions (..., 3) with z above 0 to the z axis; identity for zero vectors."""
    x, y, z = middle.unbind(-1)
    length = torch.linalg.vector_norm(middle, dim=-1)
    q = torch.stack([length + z, y, -x, torch.zeros_like(z)], dim=-1)
    return matrix_of_quaternion(torch.nn.functional.normalize(q, dim=-1))


def _metric(cameras: Tensor) -> Tensor:
    """Symmetric metric (B, 3, 3) in which the two rows of each camera (B, V, 2, 3) are orthogonal and equally long."""
    size = (cameras**2).sum((2, 3)).clamp_min(_SMALL)[..., None, None]
    x, y = cameras.unbind(2)
    equal = x[..., :, None] * x[..., None, :] - y[..., :, None] * y[..., None, :]
    orthogonal = x[..., :, None] * y[..., None, :] + y[..., :, None] * x[..., None, :]
    rows = (torch.cat([equal, orthogonal], dim=1) / torch.cat([size, size], dim=1)).flatten(2)  # (B, 2 V, 9)
    row, column = torch.triu_indices(3, 3, device=rows.device)
    # Six unknowns; those beside the diagonal stand twice in the matrix.
    rows = rows[..., 3 * row + column] * torch.where(row == column, 1.0, 2.0).to(rows)
    metric = torch.linalg.eigh(rows.mT @ rows).eigenvectors[..., 0]
    full = torch.empty((*metric.shape[:-1], 3, 3), dtype=metric.dtype, device=metric.device)
    full[..., row, column] = metric
    full[..., column, row] = metric
    trace = full.diagonal(dim1=-2, dim2=-1).sum(-1)
    return full * torch.where(trace < 0, -1.0, 1.0)[:, None, None]


def _root(metric: Tensor) -> Tensor:
    """Square root A (B, 3, 3) of a metric made positive: A A^T is the metric."""
    values, vectors = torch.linalg.eigh(metric)
    return vectors * torch.maximum(values, _FLATTEST * values[..., -1:]).clamp_min(_SMALL).sqrt()[..., None, :]
