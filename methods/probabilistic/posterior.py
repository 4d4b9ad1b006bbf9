"""Posterior of the cameras of a rig and of the triangulated points, by iterated importance sampling.

Jiang, Hu and Xia (ICCV 2023) draw camera poses, weight them by the agreement of the 2D points, refit the proposal and
repeat. We correct this in four ways:

* The start is a bundle adjustment, and its covariance defines the first proposal.
* Weights are likelihood times prior divided by proposal density, over the draws of all rounds (adaptive multiple
  importance sampling).
* The proposal is refitted only if the effective sample size is large enough.
* The prediction is the posterior mean of the triangulated points instead of the best draw.

In the proposal, rotations of all cameras after the first are jointly Cauchy in Rodrigues vectors, so that each rotation
has an angular central Gaussian. Given the rotations, translations are Student-t with 3 degrees of freedom. The large
correlations between cameras are kept. The common scale is fixed by |t| = 1 for the second camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poseboard.methods.geometry import compiled_rigs
from poseboard.methods.geometry.bundle import Rig, as_array, baseline, information, robust_weights, triangulate
from poseboard.methods.geometry.rotations import (
    matrix_of_quaternion,
    quaternion_of_matrix,
    quaternion_products,
    rodrigues_of_matrix,
)
from poseboard.methods.probabilistic.distributions import (
    haar_log_density,
    quaternion_of_rodrigues,
    student_t_log_prob_of,
)

Array = NDArray[np.float64]

ENOUGH = 20.0
"""Effective sample size from which a proposal is fitted to the draws."""
TRANSLATION_DF = 3.0
_ROTATION_DF = 1.0  # Cauchy
_FLOOR = 1e-10
"""Smallest eigenvalue of the proposal's information and covariance, relative to the largest."""


@dataclass(frozen=True)
class Sampling:
    """Options for sampling the posterior.

    Args:
        draws: number of draws per round.
        rounds: number of rounds of drawing and refitting.
        inflation: factor on the scale of the proposals.
        fewest_effective: effective sample size below which weights are tempered (raised to a power below 1); 0: never.
            Used in training, because gradients of few effective draws are mostly noise.
        temperature: number of observations that count as one; the likelihood is raised to the inverse. It accounts for
            errors of a network that are correlated within a frame and a view (`calibration`).
    """

    draws: int = 256
    rounds: int = 3
    inflation: float = 1.0
    fewest_effective: float = 0.0
    temperature: float = 1.0


class Posterior(NamedTuple):
    """Camera posterior of B rigs: M weighted draws and their moments.

    Args:
        R: (B, M, V, 3, 3) drawn rotations; the first camera is the reference.
        t: (B, M, V, 3) drawn translations; the second camera's has length 1.
        points: (B, M, N, 3) points triangulated with each draw.
        weights: (B, M) normalised weights of the draws.
        rotation: (B, V, 3, 3) mean rotations.
        translation: (B, V, 3) mean translations.
        covariance: (B, V, 6, 6) covariance of the left rotation vector and of t about the means; zero for the first
            camera.
        effective: (B,) effective sample size.
    """

    R: Tensor
    t: Tensor
    points: Tensor
    weights: Tensor
    rotation: Tensor
    translation: Tensor
    covariance: Tensor
    effective: Tensor

    @property
    def mean_points(self) -> Tensor:
        """Posterior mean (B, N, 3) of the points; differentiable."""
        return torch.einsum("bm,bmnc->bnc", self.weights, self.points)


class _Proposal(NamedTuple):
    """Proposal in coordinates about the start: rotations are Cauchy, and given them, translations are Student-t."""

    rotation: Tensor  # (B, 3 C) location
    rotation_tril: Tensor  # (B, 3 C, 3 C)
    translation: Tensor  # (B, 3 C - 1) location at the rotation's
    slope: Tensor  # (B, 3 C - 1, 3 C) of the translation's location by the rotation
    translation_tril: Tensor  # (B, 3 C - 1, 3 C - 1)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw coordinates (B, count, 6 C - 1)."""
        x = self._t(self.rotation_tril, _ROTATION_DF, count, generator)
        tau = self._t(self.translation_tril, TRANSLATION_DF, count, generator)
        tau = tau + self.translation[:, None] + x @ self.slope.mT
        return torch.cat([x + self.rotation[:, None], tau], dim=-1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density (B, M) of draws (B, M, 6 C - 1)."""
        d = self.rotation.shape[-1]
        x = z[..., :d] - self.rotation[:, None]
        tau = z[..., d:] - self.translation[:, None] - x @ self.slope.mT
        return _t_density(x, self.rotation_tril, _ROTATION_DF) + _t_density(tau, self.translation_tril, TRANSLATION_DF)

    @staticmethod
    def _t(tril: Tensor, df: float, count: int, generator: torch.Generator) -> Tensor:
        # The same numbers for every rig, so that an answer does not depend on the rigs beside it.
        normals = torch.randn(count, tril.shape[-1], generator=generator, dtype=torch.float64).to(tril)
        # chi-square with df degrees of freedom as a sum of squares: df is whole
        chi2 = torch.randn(count, int(df), generator=generator, dtype=torch.float64).square().sum(-1).to(tril)
        return normals @ tril.mT * (df / chi2.clamp_min(1e-12)).sqrt()[..., None]


def _t_density(centred: Tensor, tril: Tensor, df: float) -> Tensor:
    solved = torch.linalg.solve_triangular(tril, centred.mT, upper=False).mT
    return student_t_log_prob_of(solved, tril[:, None], df)


def _floored(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of symmetric matrices, raised to at least a share of the largest, and eigenvectors."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    return values.clamp_min((_FLOOR * values[..., -1:]).clamp_min(1e-30)), vectors


def _tril(covariance: Tensor) -> Tensor:
    """Cholesky factor of a covariance whose eigenvalues are raised to a floor, see `_floored`."""
    values, vectors = _floored(covariance)
    # QR of a square root: its R is the factor, up to signs
    upper = torch.linalg.qr((vectors * values.sqrt()[..., None, :]).mT).R
    sign = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(upper)
    return (sign[..., :, None] * upper).mT


def _proposal(mean: Tensor, covariance: Tensor, d: int, inflation: float) -> _Proposal:
    rotation, cross = covariance[:, :d, :d], covariance[:, d:, :d]
    # Condition the joint normal: tau given x has mean S_tx S_xx^-1 x and covariance S_tt - S_tx S_xx^-1 S_xt.
    values, vectors = _floored(rotation)
    slope = cross @ ((vectors / values[..., None, :]) @ vectors.mT)
    given = covariance[:, d:, d:] - slope @ cross.mT
    return _Proposal(mean[:, :d], inflation * _tril(rotation), mean[:, d:], slope, inflation * _tril(given))


def _scale_free(t: Tensor) -> Tensor:
    """Orthonormal basis (B, 3 C, 3 C - 1) of changes of translations (B, 3 C) that keep their common scale."""
    direction = t / torch.linalg.vector_norm(t, dim=-1, keepdim=True).clamp_min(1e-12)
    last = torch.zeros_like(direction)
    last[..., -1] = torch.where(direction[..., -1] > 0, -1.0, 1.0).to(t)  # far from the direction: no cancellation
    # Householder reflection that maps the last axis to the direction, up to sign; its other columns are the basis.
    normal = direction - last
    normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
    eye = torch.eye(t.shape[-1], dtype=t.dtype, device=t.device)
    return (eye - 2 * normal[..., :, None] * normal[..., None, :])[..., :-1]


class Coordinates(NamedTuple):
    """Coordinates of cameras relative to a start: Rodrigues vectors, and translations at fixed scale.

    The first camera is the reference and has no coordinates; C other cameras have 6 C - 1.
    """

    q: Tensor  # (B, C, 4)
    t: Tensor  # (B, 3 C)
    basis: Tensor  # (B, 3 C, 3 C - 1)

    @classmethod
    def about(cls, R: Tensor, t: Tensor) -> Coordinates:
        """Coordinates about cameras R (B, V, 3, 3), t (B, V, 3)."""
        flat = t[:, 1:].flatten(1)
        return cls(quaternion_of_matrix(R[:, 1:]), flat, _scale_free(flat))

    def cameras(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Convert coordinates (B, M, 6 C - 1) to R (B, M, V, 3, 3) and t (B, M, V, 3), second camera at distance 1."""
        C = self.q.shape[1]
        x = z[..., : 3 * C].unflatten(-1, (C, 3))
        turn = matrix_of_quaternion(quaternion_of_rodrigues(x))
        R = turn @ matrix_of_quaternion(self.q)[:, None]
        t = (self.t[:, None] + z[..., 3 * C :] @ self.basis.mT).unflatten(-1, (C, 3))
        first = torch.eye(3, dtype=z.dtype, device=z.device).expand(*R.shape[:2], 1, 3, 3)
        t = torch.cat([torch.zeros_like(t[:, :, :1]), t], dim=2)
        return torch.cat([first, R], dim=2), t / baseline(t)

    def prior(self, z: Tensor) -> Tensor:
        """Log prior density (B, M), up to a constant: uniform rotations and flat translations."""
        C = self.q.shape[1]
        return haar_log_density(z[..., : 3 * C].unflatten(-1, (C, 3))).sum(-1)

    def precision(self, information: Tensor) -> Tensor:
        """Precision matrix (B, 6 C - 1, 6 C - 1) in these coordinates, from an `information` matrix (B, 6 C, 6 C)."""
        C = self.q.shape[1]
        # (w, t) per camera -> all rotations, then all translations. The basis takes out the common scale.
        order = torch.arange(6 * C, device=information.device).view(C, 2, 3).transpose(0, 1).flatten()
        sorted_ = information[:, order][:, :, order]
        eye = torch.eye(3 * C, dtype=information.dtype, device=information.device).expand(len(information), -1, -1)
        zero = torch.zeros_like(self.basis)
        basis = torch.cat([torch.cat([eye, zero], -1), torch.cat([torch.zeros_like(eye), self.basis], -1)], 1)
        return basis.mT @ sorted_ @ basis

    def covariance(self, information: Tensor) -> Tensor:
        """Covariance matrix (B, 6 C - 1, 6 C - 1): the inverse of `precision`, with a floor on its eigenvalues."""
        values, vectors = _floored(self.precision(information))
        return (vectors / values[..., None, :]) @ vectors.mT


def log_likelihood(
    R: Tensor, t: Tensor, rays: Tensor, weights: Tensor, focal_px: Tensor, sigma_px: Tensor, points: Tensor
) -> Tensor:
    """Log likelihood (B, M) of observations, with Cauchy tails beyond three standard deviations.

    Args:
        R: (B, M, V, 3, 3) drawn rotations.
        t: (B, M, V, 3) drawn translations.
        rays: (B, V, N, 2) observations as (x / z, y / z).
        weights: (B, V, N) factors on the log likelihood of each observation.
        focal_px: (B, V, N) focal length of each observation.
        sigma_px: (B,) standard deviation of a coordinate.
        points: (B, M, N, 3) points of each draw.
    """
    in_view = torch.einsum("bmvrc,bmnc->bmvnr", R, points) + t[..., None, :]
    depth = in_view[..., 2]
    inverse = 1 / torch.where(depth.abs() < 1e-3, torch.where(depth < 0, -1e-3, 1e-3).to(depth), depth)
    error = focal_px[:, None, ..., None] * (in_view[..., :2] * inverse[..., None] - rays[:, None])
    # log p = -(9/2) log(1 + e² / (9 σ²)): for small errors that of a Gaussian, -e² / (2 σ²).
    variance = 9 * (sigma_px**2)[:, None, None, None]
    u = (error**2).sum(-1) / variance
    # a point behind a camera is as bad as one far off
    u = torch.where(depth > 0, u, u.detach().clamp_min(1e4))
    return -4.5 * (weights[:, None] * torch.log1p(u)).sum((2, 3))


def see_by_draws(
    R: Tensor, t: Tensor, rays: Tensor, weights: Tensor, focal_px: Tensor, sigma_px: Tensor
) -> tuple[Tensor, Tensor]:
    """Triangulate points (B, M, N, 3) with each draw of the cameras, and compute `log_likelihood` (B, M).

    The function has no gradients.

    Args:
        R: (B, M, V, 3, 3) drawn rotations.
        t: (B, M, V, 3) drawn translations.
        rays: (B, V, N, 2) observations; finite.
        weights: (B, V, N) weights of the observations.
        focal_px: (B, V, N) focal length of each observation.
        sigma_px: (B,) standard deviation of a coordinate.
    """
    points = np.empty((*R.shape[:2], 3, rays.shape[2]))
    likelihood = np.empty(R.shape[:2])
    arrays = (R, t, rays.mT, weights.flatten(1), focal_px.flatten(1), sigma_px)
    compiled_rigs.see_by_draws(*map(as_array, arrays), points, likelihood)
    return torch.from_numpy(points).to(rays).mT, torch.from_numpy(likelihood).to(rays)


def sample_posterior(
    rig: Rig,
    rays: Tensor,
    weights: Tensor,
    focal_px: Tensor,
    sampling: Sampling,
    generator: torch.Generator,
) -> Posterior:
    """Sample the camera posterior about an adjusted rig: draws, importance weights and moments.

    Draws and proposals are treated as constants. Gradients reach ``rays`` and ``weights`` through the triangulated
    points and through the weights of the draws.

    Args:
        rig: result of `adjust` or `estimate`.
        rays: (B, V, N, 2) observations; finite where their weight is not 0.
        weights: (B, V, N), at least 0.
        focal_px: (B, V, N) focal length of each observation.
        sampling: options of the sampling.
        generator: random generator of the draws; the same state gives the same draws.

    Example:
        >>> posterior = sample_posterior(rig, rays, weights, focal_px, Sampling(), torch.Generator())  # doctest: +SKIP
        >>> posterior.mean_points.shape  # doctest: +SKIP
        torch.Size([8, 17, 3])
    """
    rays = torch.where((weights > 0)[..., None], rays, torch.zeros_like(rays))
    weights = weights / sampling.temperature
    sigma = rig.sigma_px
    C = rig.R.shape[1] - 1
    with torch.no_grad():
        # 1. The first proposal: the covariance of the bundle adjustment.
        robust, _ = robust_weights(rig, rays, weights, focal_px)
        space = Coordinates.about(rig.R, rig.t)
        covariance = space.covariance(information(rig, rays, robust, focal_px) / (sigma**2)[:, None, None])
        mean = torch.zeros(len(covariance), 6 * C - 1, dtype=rays.dtype, device=rays.device)
        proposals = [_proposal(mean, covariance, 3 * C, sampling.inflation)]
        rounds: list[_Round] = []
        # 2. Draw, refit the proposal to all draws so far, repeat.
        while True:
            rounds.append(_draw(space, proposals[-1], sampling.draws, generator, rays, weights, focal_px, sigma))
            if len(rounds) == sampling.rounds:
                break
            proposals.append(_refitted(space, rounds, proposals, covariance, sampling.inflation))
        # 3. Every draw is weighted by the mixture of all proposals, not only by its own (AMIS).
        z = torch.cat([one.z for one in rounds], dim=1)
        prior = space.prior(z) - torch.stack([one.log_prob(z) for one in proposals]).logsumexp(0)
    R, t = torch.cat([one.R for one in rounds], dim=1), torch.cat([one.t for one in rounds], dim=1)
    # 4. Triangulate and weigh again with gradients; draws and proposals stay constants.
    if torch.is_grad_enabled() and (rays.requires_grad or weights.requires_grad):
        points = triangulate(R, t, rays[:, None], weights[:, None])
        likelihood = log_likelihood(R, t, rays, weights, focal_px, sigma, points)
    else:
        points = torch.cat([one.points for one in rounds], dim=1)
        likelihood = torch.cat([one.likelihood for one in rounds], dim=1)
    log_weights = likelihood + prior
    if sampling.fewest_effective:
        log_weights = log_weights * tempering(log_weights.detach(), sampling.fewest_effective)[:, None]
    # 5. Self-normalised importance weights, and the effective sample size 1 / sum w².
    share = torch.softmax(log_weights, dim=1)
    constant = share.detach()
    effective = 1 / (constant**2).sum(1)
    return Posterior(R, t, points, share, *_moments(R, t, constant, space, covariance, effective), effective)


def tempering(log_weights: Tensor, fewest: float) -> Tensor:
    """Largest power (B,), at most 1, of the weights at which the effective sample size is at least ``fewest``.

    Example:
        >>> tempering(torch.tensor([[0.0, 0.0, -50.0], [0.0, 0.0, 0.0]]), 2.5)
        tensor([0.0245, 1.0000])
    """
    low, high = torch.zeros_like(log_weights[:, 0]), torch.ones_like(log_weights[:, 0])
    power = high
    for _ in range(20):
        share = torch.softmax(log_weights * power[:, None], dim=1)
        enough = 1 / (share**2).sum(1) >= fewest
        low, high = torch.where(enough, power, low), torch.where(enough, high, power)
        power = (low + high) / 2
    return torch.where(high == 1, high, low)


class _Round(NamedTuple):
    """Draws of one proposal, with their cameras, triangulated points and log likelihoods."""

    z: Tensor
    R: Tensor
    t: Tensor
    points: Tensor
    likelihood: Tensor


def _draw(
    space: Coordinates,
    proposal: _Proposal,
    count: int,
    generator: torch.Generator,
    rays: Tensor,
    weights: Tensor,
    focal_px: Tensor,
    sigma_px: Tensor,
) -> _Round:
    z = proposal.draw(count, generator)
    R, t = space.cameras(z)
    return _Round(z, R, t, *see_by_draws(R, t, rays, weights, focal_px, sigma_px))


def _refitted(
    space: Coordinates,
    rounds: list[_Round],
    proposals: list[_Proposal],
    covariance: Tensor,
    inflation: float,
) -> _Proposal:
    """Fit the next proposal to the moments of all draws, or to the start if the effective sample size is too small.

    In adaptive multiple importance sampling, draws of all rounds have weights likelihood · prior / (sum of proposals).
    """
    z = torch.cat([one.z for one in rounds], dim=1)
    likelihood = torch.cat([one.likelihood for one in rounds], dim=1)
    log_proposal = torch.stack([one.log_prob(z) for one in proposals]).logsumexp(0)
    share = torch.softmax(likelihood + space.prior(z) - log_proposal, dim=1)
    effective = 1 / (share**2).sum(1)
    mean = (share[..., None] * z).sum(1)
    centred = z - mean[:, None]
    # Shrinkage: the covariance of the start counts as one draw per dimension, as few draws do not fill all dimensions.
    kept = z.shape[-1]
    spread = (share[..., None] * centred).mT @ centred
    spread = (effective[:, None, None] * spread + kept * covariance) / (effective[:, None, None] + kept)
    enough = (effective > ENOUGH)[:, None]
    mean = torch.where(enough, mean, torch.zeros_like(mean))
    spread = torch.where(enough[..., None], spread, covariance)
    return _proposal(mean, spread, proposals[0].rotation.shape[-1], inflation)


def _moments(
    R: Tensor, t: Tensor, share: Tensor, space: Coordinates, covariance: Tensor, effective: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean cameras, and the covariance (B, V, 6, 6) of each camera about its mean."""
    mean_R, mean_t = _means(R, t, share)
    x = rodrigues_of_matrix(R @ mean_R[:, None].mT)
    moved = torch.cat([x, t - mean_t[:, None]], dim=-1)
    sampled = torch.einsum("bm,bmvi,bmvj->bvij", share, moved, moved)
    return mean_R, mean_t, _with_start(sampled, space, covariance, effective)


def _means(R: Tensor, t: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cameras (B, V, 3, 3), (B, V, 3) of weighted draws.

    The mean rotation is the principal eigenvector of the second moment of the quaternions, so that their signs do not
    matter.
    """
    # The second moment of the quaternions is linear in the matrices.
    mean_q = torch.linalg.eigh(quaternion_products(torch.einsum("bm,bmvij->bvij", share, R))).eigenvectors[..., -1]
    mean_R = matrix_of_quaternion(mean_q)
    mean_t = torch.einsum("bm,bmvi->bvi", share, t)
    return mean_R, mean_t / baseline(mean_t)


def _with_start(sampled: Tensor, space: Coordinates, covariance: Tensor, effective: Tensor) -> Tensor:
    """Shrink the covariance (B, V, 6, 6) of draws to that of the start; use only the latter if too few draws count."""
    C = space.q.shape[1]
    to_t = space.basis @ covariance[:, 3 * C :, 3 * C :] @ space.basis.mT
    cross = covariance[:, : 3 * C, 3 * C :] @ space.basis.mT
    whole = torch.cat([torch.cat([covariance[:, : 3 * C, : 3 * C], cross], -1), torch.cat([cross.mT, to_t], -1)], dim=1)
    blocks = whole.view(-1, 2, C, 3, 2, C, 3).diagonal(dim1=2, dim2=5)  # (B, 2, 3, 2, 3, C)
    laplace = torch.zeros_like(sampled)
    laplace[:, 1:] = blocks.permute(0, 5, 1, 2, 3, 4).reshape(-1, C, 6, 6)
    # The mean of both, weighted by the effective number of draws; the start counts as 6 draws.
    kept = 6.0
    known = effective[:, None, None, None]
    both = torch.where(known > ENOUGH, (known * sampled + kept * laplace) / (known + kept), laplace)
    both[:, 0] = 0
    return both
