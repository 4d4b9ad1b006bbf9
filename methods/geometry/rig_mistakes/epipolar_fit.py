"""Fit of a rig to 2D points of all pairs of views, with priors on the error of each camera.

The residual of a pair is the Sampson distance in pixels, so no point is triangulated. Residuals follow Student's t with
one scale per pair, which limits the cost of outliers and of pairs whose points do not correspond. Every camera has ten
parameters (`PARAMETERS`) with normal priors around 0. The log evidence of the fit (Laplace approximation) compares
explanations with different priors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.methods.geometry.rig_mistakes import compiled_pairs

PARAMETERS = ("rx", "ry", "rz", "cx", "cy", "cz", "focal", "k1", "lag", "scale")
"""Rotation in rad about the world's axes, centre in units of the rig's size, log of the focal length, first radial
distortion, frames, log of the scale of the picture (focal length and principal point)."""
ROTATION, CENTRE, FOCAL, K1, LAG, SCALE = slice(0, 3), slice(3, 6), 6, 7, 8, 9
FREEDOM = compiled_pairs.FREEDOM
NO_RELATION = 7.0
"""Cost of a pair without enough common points: as of a scale of about 400 px. No change may gain by losing points."""
_FIXED = 1e-9
"""Prior standard deviation of a parameter that is not fitted."""


@dataclass(frozen=True, eq=False)
class Rays:
    """2D points of V views in normalised coordinates, and the cameras of these views.

    Args:
        points: (V, N, 2) undistorted directions x / z and y / z; NaN where missing.
        per_frame: (V, N, 2) change of ``points`` from one frame to the next.
        R: (V, 3, 3) rotations, world to camera.
        centres: (V, 3) camera centres.
        per_px: (V, N, 2, 2) derivative of each point with respect to its (distorted) pixel.
        offset: (V, 2) principal points divided by the focal lengths.
    """

    points: Array
    per_frame: Array
    R: Array
    centres: Array
    per_px: Array
    offset: Array

    def moved(self, theta: Array, size: float) -> Rays:
        """Apply parameters (V, 10) to points and cameras. Centres in the parameters are in units of ``size``."""
        m, per_frame, per_px = (np.empty_like(a) for a in (self.points, self.per_frame, self.per_px))
        compiled_pairs.change_lens(
            self.points, self.per_frame, self.per_px, self.offset,
            np.exp(theta[:, SCALE]), np.exp(theta[:, FOCAL]), theta[:, K1], theta[:, LAG], m, per_frame, per_px,
        )  # fmt: skip
        turn = rotations(theta[:, ROTATION])
        return Rays(
            m,
            per_frame,
            np.ascontiguousarray(self.R @ turn.mT),
            self.centres + size * theta[:, CENTRE],
            per_px,
            self.offset,
        )


@dataclass(frozen=True, eq=False)
class Fit:
    """Result of fitting a rig (`fit`).

    Args:
        theta: (V, 10) parameters of the cameras, see `PARAMETERS`.
        evidence: log evidence, nats.
        pairs: (P, 2) views of each pair.
        cost: (P,) mean negative log likelihood of each pair; NaN for a pair with too few common points.
        scale_px: (P,) scale of each pair's residuals; NaN for a pair with too few common points.
        size: unit of the camera centres in ``theta``.
    """

    theta: Array
    evidence: float
    pairs: NDArray[np.intp]
    cost: Array
    scale_px: Array
    size: float


def rotations(w: Array) -> Array:
    """Convert rotation vectors (..., 3), rad, to matrices (..., 3, 3)."""
    angle = np.linalg.norm(w, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(w, -1, 0)
    zero = np.zeros_like(x)
    W = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*w.shape, 3)
    safe = np.where(angle > 1e-9, angle, 1.0)
    a = np.where(angle > 1e-9, np.sin(safe) / safe, 1.0)
    b = np.where(angle > 1e-9, (1 - np.cos(safe)) / safe**2, 0.5)
    return np.asarray(np.eye(3) + a * W + b * (W @ W))


def rig_size(centres: Array) -> float:
    """Typical distance of camera centres (V, 3) from their common centre, in the unit of the centres."""
    return float(max(np.median(np.linalg.norm(centres - centres.mean(0), axis=-1)), 1e-9))


def pairs_of(views: int) -> NDArray[np.intp]:
    """Indices (P, 2) of all pairs of views."""
    return np.array(list(combinations(range(views), 2)), dtype=np.intp).reshape(-1, 2)


def sampson_px(rays: Rays, pairs: NDArray[np.intp]) -> Array:
    """Signed Sampson distances (P, N) in pixels; NaN where the point is missing in a view."""
    out = np.empty((len(pairs), rays.points.shape[1]))
    compiled_pairs.residuals(rays.points, rays.per_px, rays.R, rays.centres, pairs, out)
    return out


def costs(rays: Rays, pairs: NDArray[np.intp]) -> tuple[Array, Array]:
    """Mean negative log likelihood (P,) and scale in pixels (P,) of each pair; NaN with too few common points."""
    cost, scale = np.empty(len(pairs)), np.empty(len(pairs))
    compiled_pairs.costs(rays.points, rays.per_px, rays.R, rays.centres, pairs, cost, scale)
    return cost, scale


def fit(rays: Rays, prior: Array, counts: Array, start: Array | None = None, steps: int = 12) -> Fit:
    """Fit the most probable parameters of all cameras by reweighted Gauss–Newton, and compute the log evidence.

    Args:
        rays: points and cameras to start from.
        prior: (V, 10) prior standard deviations of the parameters; 0: the parameter is not fitted.
        counts: (P,) weight of each pair as a number of observations, in the order of `pairs_of`.
        start: (V, 10) starting parameters; None: zeros.
        steps: maximum number of iterations.
    """
    views = len(rays.R)
    pairs = pairs_of(views)
    size = rig_size(rays.centres)
    sigma = np.maximum(prior, _FIXED)
    precision = 1 / sigma.ravel() ** 2

    # Negative log posterior: costs of the pairs, and the Gaussian prior. A pair without a relation costs a constant.
    def objective(at: Rays, theta: Array) -> tuple[float, Array, Array]:
        cost, scale = costs(at, pairs)
        filled = np.where(np.isfinite(cost), cost, NO_RELATION)
        return float((filled * counts).sum() + 0.5 * ((theta / sigma) ** 2).sum()), cost, scale

    theta = np.zeros((views, len(PARAMETERS)))
    at = rays
    value, cost, scale = objective(at, theta)
    # The start may be worse than no correction at all.
    if start is not None:
        started = rays.moved(start, size)
        by_start = objective(started, start)
        if by_start[0] < value:
            theta, at, (value, cost, scale) = start, started, by_start
    H = np.diag(precision)
    for _ in range(steps):
        # Gauss-Newton step with the weights of the present residuals, shortened until the objective falls.
        normal, gradient = _linearise(at, pairs, scale, counts, size)
        H = normal + np.diag(precision)
        gradient = gradient + theta.ravel() * precision
        step = -np.linalg.solve(H, gradient).reshape(theta.shape)
        gain = 0.0
        for factor in (1.0, 0.5, 0.2, 0.05):
            trial = theta + factor * step
            at_trial = rays.moved(trial, size)
            of_trial, cost_trial, scale_trial = objective(at_trial, trial)
            if of_trial < value:
                gain = value - of_trial
                theta, at, value, cost, scale = trial, at_trial, of_trial, cost_trial, scale_trial
                break
        # A gain of 0.05 in the log posterior changes no decision between explanations.
        if gain < 0.05:
            break
    # H in units of the priors, so that parameters that are not fitted add nothing.
    unit = sigma.ravel()
    _, log_determinant = np.linalg.slogdet(H * unit * unit[:, None])
    return Fit(theta, -value - 0.5 * float(log_determinant), pairs, cost, scale, size)


def _linearise(rays: Rays, pairs: NDArray[np.intp], scale: Array, counts: Array, size: float) -> tuple[Array, Array]:
    """Normal matrix (10 V, 10 V) and gradient (10 V,) of the weighted residuals."""
    unknowns = len(rays.R) * len(PARAMETERS)
    normal, gradient = np.zeros((unknowns, unknowns)), np.zeros(unknowns)
    compiled_pairs.linearise(
        rays.points, rays.per_frame, rays.per_px, rays.R, rays.centres, rays.offset,
        pairs, scale, counts, size, normal, gradient,
    )  # fmt: skip
    return normal, gradient
