"""Distributions of cameras: angular central Gaussian and multivariate Student-t.

Quaternions are (w, x, y, z). q and -q are the same rotation, and the angular central Gaussian gives both the same
density. In Rodrigues vectors about a rotation, 2 tan(angle / 2) times the axis (`rodrigues`), this density is a Cauchy
distribution, the central projection of a Gaussian onto the tangent plane. Therefore, each rotation of a joint Cauchy
distribution of several rotations has an angular central Gaussian (`acg_scale`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_NO_DIRECTION = 1e-6
"""Length below which a Gaussian draw has no direction."""


def acg_sample(scale_tril: Tensor, normals: Tensor) -> Tensor:
    """Draw unit quaternions from an angular central Gaussian, given standard normal numbers.

    Args:
        scale_tril: (..., 4, 4) Cholesky factor of the parameter matrix.
        normals: (..., 4) standard normal numbers.

    Returns:
        Quaternions (..., 4); the identity for a draw of length 0.

    Example:
        >>> acg_sample(torch.eye(4), torch.tensor([3.0, 0.0, 4.0, 0.0])).tolist()
        [0.6000000238418579, 0.0, 0.800000011920929, 0.0]
    """
    g = (scale_tril @ normals[..., None])[..., 0]
    length = torch.linalg.vector_norm(g, dim=-1, keepdim=True)
    identity = torch.zeros_like(g)
    identity[..., 0] = 1
    return torch.where(length < _NO_DIRECTION, identity, g / length.clamp_min(_NO_DIRECTION))


def acg_log_prob(scale_tril: Tensor, q: Tensor) -> Tensor:
    """Log density (...) of an angular central Gaussian on S³ at unit quaternions (..., 4).

    Args:
        scale_tril: (..., 4, 4) Cholesky factor of the parameter matrix.
        q: (..., 4) unit quaternions.
    """
    solved = torch.linalg.solve_triangular(scale_tril, q[..., None], upper=False)[..., 0]
    log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -math.log(2 * math.pi**2) - log_det - 2 * (solved**2).sum(-1).log()


def student_t_log_prob(loc: Tensor, scale_tril: Tensor, df: float, value: Tensor) -> Tensor:
    """Log density (...) of a multivariate Student-t distribution at values (..., d); ``df=1`` is the Cauchy."""
    solved = torch.linalg.solve_triangular(scale_tril, (value - loc)[..., None], upper=False)[..., 0]
    return student_t_log_prob_of(solved, scale_tril, df)


def student_t_log_prob_of(solved: Tensor, scale_tril: Tensor, df: float) -> Tensor:
    """Log density as `student_t_log_prob`, for standardised values (..., d): ``scale_tril``^-1 (value - loc)."""
    d = solved.shape[-1]
    log_det = scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = math.lgamma((df + d) / 2) - math.lgamma(df / 2) - d / 2 * math.log(df * math.pi)
    return constant - log_det - (df + d) / 2 * torch.log1p((solved**2).sum(-1) / df)


def rodrigues(q: Tensor) -> Tensor:
    """Convert unit quaternions (..., 4) to Rodrigues vectors (..., 3): 2 tan(angle / 2) times the axis."""
    return 2 * q[..., 1:] / q[..., :1]


def quaternion_of_rodrigues(x: Tensor) -> Tensor:
    """Convert Rodrigues vectors (..., 3) to unit quaternions (..., 4)."""
    g = torch.cat([torch.ones_like(x[..., :1]), x / 2], dim=-1)
    return g / torch.linalg.vector_norm(g, dim=-1, keepdim=True)


def haar_log_density(x: Tensor) -> Tensor:
    """Log density (...) of uniformly distributed rotations at Rodrigues vectors (..., 3), up to a constant."""
    return -2 * torch.log1p((x**2).sum(-1) / 4)


def acg_scale(q: Tensor, covariance: Tensor) -> Tensor:
    """Parameter matrix (..., 4, 4) of the angular central Gaussian that equals a Cauchy distribution about rotations.

    Args:
        q: (..., 4) rotations with the highest density.
        covariance: (..., 3, 3) scale matrix of the Cauchy distribution of left Rodrigues vectors.
    """
    w, x, y, z = q.unbind(-1)
    # d/dx of quaternion_of_rodrigues(x) q at 0, twice
    tangent = torch.stack(
        [
            torch.stack([-x, -y, -z], -1),
            torch.stack([w, z, -y], -1),
            torch.stack([-z, w, x], -1),
            torch.stack([y, -x, w], -1),
        ],
        dim=-2,
    )
    return q[..., :, None] * q[..., None, :] + tangent @ covariance @ tangent.mT / 4
