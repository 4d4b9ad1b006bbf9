"""The released module of the paper (V1), batched: its triangulation, weights, update and particle loop.

For comparison only: its draws are few and its noise shrinks to nothing, so that it does not leave the neighbourhood of
its start (README.md). Coordinates are normalised image points, the frame of the first camera, and the distance of the
first two cameras as the unit.
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
        R: (..., V, 3, 3).
        t: (..., V, 3).
        points: (..., V, J, 2).
        confidence: (..., V, J).

    Returns:
        points (..., J, 3) and exp(-smallest singular value) (..., J); zeros with fewer than two views, where the
        release reads another joint's.
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
    """exp(-power times the mean reprojection error) (...), in normalised units, over views and joints alike."""
    in_view = torch.einsum("...vrc,...jc->...vjr", R, X) + t[..., None, :]
    error = torch.linalg.vector_norm(in_view[..., :2] / in_view[..., 2:] - points, dim=-1)
    return torch.exp(-power * error.mean((-2, -1)))


class Update(NamedTuple):
    """What is kept of the draws of B rigs, and their moments.

    Args:
        q: (k, B, V, 4) kept rotations, the best first.
        t: (k, B, V, 3).
        weights: (k, B).
        mean_q: (B, V, 4).
        mean_t: (B, V, 3) with the second camera at distance 1.
        tril_q: (B, V - 1, 4, 4) Cholesky factor of the weighted second moment of the kept rotations.
    """

    q: Tensor
    t: Tensor
    weights: Tensor
    mean_q: Tensor
    mean_t: Tensor
    tril_q: Tensor


def update(q: Tensor, t: Tensor, weights: Tensor, keep: int) -> Update:
    """The best draws and their moments.

    Args:
        q: (M, B, V, 4).
        t: (M, B, V, 3).
        weights: (M, B).
        keep: number k of draws.
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
    """Unit quaternions, |t| of the second camera 1, the first camera at the origin."""
    q, t = q.clone(), t.clone()
    q[..., 0, :] = torch.tensor([1.0, 0, 0, 0], dtype=q.dtype, device=q.device)
    t[..., 0, :] = 0
    return q / torch.linalg.vector_norm(q, dim=-1, keepdim=True), t / baseline(t)


Noise = Callable[[int, int], Tensor]
"""(count, d) -> standard normal numbers (count, B, V - 1, d)."""


def particle_loop(
    R: Tensor, t: Tensor, X: Tensor, points: Tensor, confidence: Tensor, noise: Noise, draws: int = DRAWS
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The particle loop of the published notebook.

    Args:
        R: (B, V, 3, 3) start.
        t: (B, V, 3).
        X: (B, J, 3) the start's points, by which the first round's draws are judged.
        points: (B, V, J, 2).
        confidence: (B, V, J).
        noise: called in the order of use.
        draws: M; an eighth of them is kept.

    Returns:
        the best draw's R (B, V, 3, 3) and t (B, V, 3), the kept weights (k, B), and the weights (4, M, B) of the rounds
        that triangulate anew.
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
    """Rigs after the particle loop from given ones; an observation with a weight counts fully.

    Args:
        rig: to start from.
        rays: (B, V, N, 2) observations; finite where their weight is not 0.
        weights: (B, V, N).
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
