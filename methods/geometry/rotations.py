"""Rotations as matrices, unit quaternions (w, x, y, z) and rotation vectors, batched and differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

_SMALL = 1e-8
"""Squared angle below which series replace quotients by the angle."""
_PHI, _PSI = 2.0**0.5, 1.533751168755204288118041
"""Constants of the super-Fibonacci spiral: sqrt(2), and the positive root of psi⁴ = psi + 4."""


def cross_matrix(v: Tensor) -> Tensor:
    """Cross-product matrices M (..., 3, 3) of vectors v (..., 3): M x = v × x."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def rotation_exp(w: Tensor) -> Tensor:
    """Convert rotation vectors (..., 3), radians, to matrices (..., 3, 3) by Rodrigues' formula.

    Example:
        >>> rotation_exp(torch.tensor([0.0, 0.0, torch.pi / 2])).round().tolist()
        [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    # R = I + sin(a) / a W + (1 - cos(a)) / a² W², with Taylor series of both factors near a = 0.
    squared = (w * w).sum(-1)[..., None, None]
    small = squared < _SMALL
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    a = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / (angle * angle))
    W = cross_matrix(w)
    return torch.eye(3, dtype=w.dtype, device=w.device) + a * W + b * (W @ W)


def rotation_log(R: Tensor) -> Tensor:
    """Convert matrices (..., 3, 3) to rotation vectors (..., 3), radians, with angles up to pi."""
    # Half the angle is atan2(|(x, y, z)|, w): precise near 0 and near pi, where arccos of the trace is not.
    q = quaternion_of_matrix(R)
    q = torch.where(q[..., :1] < 0, -q, q)
    sine = torch.linalg.vector_norm(q[..., 1:], dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, q[..., :1])
    return q[..., 1:] * torch.where(sine**2 < _SMALL, 2 / q[..., :1].clamp_min(0.5), angle / sine.clamp_min(1e-12))


def matrix_of_quaternion(q: Tensor) -> Tensor:
    """Convert unit quaternions (..., 4) to matrices (..., 3, 3); q and -q are the same rotation."""
    w, x, y, z = q.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def quaternion_products(R: Tensor) -> Tensor:
    """Four times the products q q^T (..., 4, 4) of the quaternions of matrices (..., 3, 3), an affine function of R."""
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    return torch.stack(
        [
            torch.stack(
                [
                    1 + xx + yy + zz,
                    R[..., 2, 1] - R[..., 1, 2],
                    R[..., 0, 2] - R[..., 2, 0],
                    R[..., 1, 0] - R[..., 0, 1],
                ],
                -1,
            ),
            torch.stack(
                [
                    R[..., 2, 1] - R[..., 1, 2],
                    1 + xx - yy - zz,
                    R[..., 1, 0] + R[..., 0, 1],
                    R[..., 0, 2] + R[..., 2, 0],
                ],
                -1,
            ),
            torch.stack(
                [
                    R[..., 0, 2] - R[..., 2, 0],
                    R[..., 1, 0] + R[..., 0, 1],
                    1 - xx + yy - zz,
                    R[..., 2, 1] + R[..., 1, 2],
                ],
                -1,
            ),
            torch.stack(
                [
                    R[..., 1, 0] - R[..., 0, 1],
                    R[..., 0, 2] + R[..., 2, 0],
                    R[..., 2, 1] + R[..., 1, 2],
                    1 - xx - yy + zz,
                ],
                -1,
            ),
        ],
        dim=-2,
    )


def rodrigues_of_matrix(R: Tensor) -> Tensor:
    """Convert matrices (..., 3, 3) to Rodrigues vectors (..., 3): 2 tan(angle / 2) times the axis, infinite at pi."""
    sines = torch.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], -1)
    return 2 * sines / (1 + R.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True))


def quaternion_of_matrix(R: Tensor) -> Tensor:
    """Convert matrices (..., 3, 3) to unit quaternions (..., 4) whose component of largest magnitude is positive."""
    # Each row is q times one of its components, and the row of the largest component is precise.
    outer = quaternion_products(R)
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4))[..., 0, :]
    return row / torch.linalg.vector_norm(row, dim=-1, keepdim=True)


def angle_deg(R: Tensor) -> Tensor:
    """Rotation angles (...) in degrees of matrices (..., 3, 3)."""
    return torch.rad2deg(torch.linalg.vector_norm(rotation_log(R), dim=-1))


def spread_rotations(count: int) -> Tensor:
    """Rotations (count, 3, 3) float64 that are evenly spread over SO(3).

    They lie on super-Fibonacci spirals (Alexa, CVPR 2022, section 3).

    Example:
        >>> spread_rotations(24).shape
        torch.Size([24, 3, 3])
    """
    s = torch.arange(count, dtype=torch.float64) + 0.5
    r, R = (s / count).sqrt(), (1 - s / count).sqrt()
    alpha, beta = 2 * torch.pi * s / _PHI, 2 * torch.pi * s / _PSI
    q = torch.stack([r * alpha.sin(), r * alpha.cos(), R * beta.sin(), R * beta.cos()], dim=-1)
    return matrix_of_quaternion(q)
