"""Released code of the paper (V1), batched: triangulation, weights, update and particle loop.

It serves only for comparison. Its draws are few and its noise shrinks to zero, so it stays near its start (README.md).
Coordinates are normalised image points. The frame is that of the first camera, and the unit is the distance of the
first two cameras.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from poseboard.methods.geometry.bundle import Rig, baseline, triangulate
from poseboard.methods.geometry.rotations import matrix_of_quaternion, quaternion_of_matrix

GATE = 0.5
"""Confidence above which an observation counts."""
POWER = 4.0
"""Factor on the error of a draw in its weight; 1 for a single pose."""
DRAWS, KEPT, ROUNDS = 32, 4, 4
_FIRST_SPREAD, _SHRINKAGE = 1e-3, 0.1


def gated_dlt(R: Tensor, t: Tensor, points: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence-weighted linear triangulation over unit homogeneous vectors, with a gate.

    Args:
        R: (..., V, 3, 3) rotations.
        t: (..., V, 3) translations.
        points: (..., V, J, 2) normalised image points.
        confidence: (..., V, J) confidences of the points.

    Returns:
        Points (..., J, 3), and exp(-smallest singular value) (..., J). Both are zero with fewer than two views, where
        the release reads values of another joint.
    """
    P = torch.cat([R, t[..., None]], dim=-1)[..., None, :, :]  # (..., V, 1, 3, 4)
    used = confidence > GATE
    c = torch.where(used, confidence, torch.zeros_like(confidence))[..., None, None]
    rows = c * (points[..., None] * P[..., 2:, :] - P[..., :2, :])  # (..., V, J, 2, 4)
    A = rows.movedim(-3, -4).flatten(-3, -2)  # (..., J, V, 2, 4) -> (..., J, 2 V, 4)
    _, S, Vh = torch.linalg.svd(A, full_matrices=False)
    y = Vh[..., 3, :]
    enough = used.sum(-2) >= 2
    X = torch.where(enough[..., None], y[..., :3] / y[..., 3:], torch.zeros_like(y[..., :3]))
    return X, torch.where(enough, torch.exp(-S[..., 3].abs()), torch.zeros_like(S[..., 3]))


def pose_weights(R: Tensor, t: Tensor, points: Tensor, X: Tensor, power: float = POWER) -> Tensor:
    """Weight (...) of a draw: exp(-power times the mean reprojection error over views and joints), normalised units."""
    in_view = torch.einsum("...vrc,...jc->...vjr", R, X) + t[..., None, :]
    error = torch.linalg.vector_norm(in_view[..., :2] / in_view[..., 2:] - points, dim=-1)
    return torch.exp(-power * error.mean((-2, -1)))


class Update(NamedTuple):
    """Best k draws of B rigs, and their moments.

    Args:
        q: (k, B, V, 4) rotations of the draws, the best first.
        t: (k, B, V, 3) translations of the draws.
        weights: (k, B) weights of the draws.
        mean_q: (B, V, 4) mean rotations.
        mean_t: (B, V, 3) mean translations, with the second camera at distance 1.
        tril_q: (B, V - 1, 4, 4) Cholesky factor of the weighted second moment of the rotations.
    """

    q: Tensor
    t: Tensor
    weights: Tensor
    mean_q: Tensor
    mean_t: Tensor
    tril_q: Tensor


def update(q: Tensor, t: Tensor, weights: Tensor, keep: int) -> Update:
    """Select the best draws and compute their moments.

    Args:
        q: (M, B, V, 4) drawn rotations, unit quaternions.
        t: (M, B, V, 3) drawn translations.
        weights: (M, B) weights of the draws.
        keep: number k of draws to keep.
    """
    best = weights.topk(keep, dim=0).indices
    q = torch.take_along_dim(q, best[..., None, None], 0)
    t = torch.take_along_dim(t, best[..., None, None], 0)
    weights = torch.take_along_dim(weights, best, 0)
    share = weights / weights.sum(0)
    mean_q = torch.einsum("kb,kbvi->bvi", share, q)
    mean_q = mean_q / torch.linalg.vector_norm(mean_q, dim=-1, keepdim=True)
    mean_t = torch.einsum("kb,kbvi->bvi", share, t)
    second = torch.einsum("kb,kbvi,kbvj->bvij", share, q, q)[:, 1:]
    factor, failed = torch.linalg.cholesky_ex(second)
    eye = torch.eye(4, dtype=q.dtype, device=q.device)
    return Update(
        q, t, weights, mean_q, mean_t / baseline(mean_t), torch.where((failed > 0)[..., None, None], eye, factor)
    )


def _normalised(q: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Normalise cameras: unit quaternions, first camera at the origin, |t| = 1 for the second camera."""
    q, t = q.clone(), t.clone()
    q[..., 0, :] = torch.tensor([1.0, 0, 0, 0], dtype=q.dtype, device=q.device)
    t[..., 0, :] = 0
    return q / torch.linalg.vector_norm(q, dim=-1, keepdim=True), t / baseline(t)


Noise = Callable[[int, int], Tensor]
"""(count, d) -> standard normal numbers (count, B, V - 1, d)."""


def particle_loop(
    R: Tensor, t: Tensor, X: Tensor, points: Tensor, confidence: Tensor, noise: Noise, draws: int = DRAWS
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the particle loop of the published notebook.

    Args:
        R: (B, V, 3, 3) starting rotations.
        t: (B, V, 3) starting translations.
        X: (B, J, 3) starting points, which weight the draws of the first round.
        points: (B, V, J, 2) normalised image points.
        confidence: (B, V, J) confidences of the points.
        noise: source of random numbers. The loop calls it in a fixed order.
        draws: number M of draws; an eighth of them is kept.

    Returns:
        R (B, V, 3, 3) and t (B, V, 3) of the best draw, the weights (k, B) of the kept draws, and the weights (4, M, B)
        of the rounds that triangulate again.
    """
    keep = draws // 8
    start = quaternion_of_matrix(R)
    q, t = start.expand(keep, *start.shape).clone(), t.expand(keep, *t.shape).clone()
    q[1:, :, 1:] += 1e-3 * noise(keep - 1, 4)
    t[1:, :, 1:] += 1e-2 * noise(keep - 1, 3)
    q, t = _normalised(q, t)
    spread, log = _FIRST_SPREAD, []
    for number in range(ROUNDS + 1):
        q, t = q.repeat(draws // keep, 1, 1, 1), t.repeat(draws // keep, 1, 1, 1)
        q[:, :, 1:] += spread * noise(draws, 4)
        t[:, :, 1:] += spread * noise(draws, 3)
        q, t = _normalised(q, t)
        spread *= _SHRINKAGE
        q[1:, :, 1:] += spread * noise(draws - 1, 4)
        t[1:, :, 1:] += 10 * spread * noise(draws - 1, 3)
        q, t = _normalised(q, t)
        matrices = matrix_of_quaternion(q)
        of_draws = X if number == 0 else gated_dlt(matrices, t, points, confidence)[0]
        log.append(pose_weights(matrices, t, points, of_draws))
        kept = update(q, t, log[-1], keep)
        q, t = kept.q, kept.t
    return matrix_of_quaternion(q[0]), t[0], kept.weights, torch.stack(log[1:])


def particle_rigs(rig: Rig, rays: Tensor, weights: Tensor, seed: int) -> Rig:
    """Refine rigs by the particle loop. All observations with a weight above 0 count equally.

    Args:
        rig: rigs to start from.
        rays: (B, V, N, 2) observations; finite where their weight is not 0.
        weights: (B, V, N) weights of the observations.
        seed: seed of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    batch, views = rig.t.shape[:2]

    def noise(count: int, d: int) -> Tensor:
        # The same numbers for every rig, so that an answer does not depend on the rigs beside it.
        drawn = torch.randn(count, 1, views - 1, d, generator=generator, dtype=torch.float64)
        return drawn.expand(-1, batch, -1, -1).to(rays)

    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))
    R, t, _, _ = particle_loop(rig.R, rig.t, rig.points, rays, (weights > 0).to(rays), noise)
    return rig._replace(R=R, t=t, points=triangulate(R, t, rays, weights))
