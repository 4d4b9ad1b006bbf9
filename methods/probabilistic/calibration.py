"""Calibration of the posterior's uncertainty on training rigs, for which the cameras are known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import scipy
import torch
from torch import Tensor

from poseboard.datasets.sample import Sample
from poseboard.methods.geometry.bundle import Rig
from poseboard.methods.geometry.relative_pose import estimate
from poseboard.methods.geometry.rotations import rotation_log
from poseboard.methods.probabilistic.model import rigs_without_swaps
from poseboard.methods.probabilistic.posterior import Posterior, Sampling, sample_posterior

FRAMES = 10
"""Of a rig that the fit is made on."""
LEVEL = 0.8
"""Share of the true rotations that the regions of this level shall hold. Not more: of the furthest some belong to rigs
that were solved wrongly, by tens of degrees, and a posterior so wide that it holds them is right about no rig."""
_STEPS = 5
_RANGE = (1.0, 100.0)


class KnownRigs(NamedTuple):
    """Observations of B rigs with known rotations.

    Args:
        rays: (B, V, N, 2) observations as (x / z, y / z).
        weights: (B, V, N) weights of the observations.
        focal_px: (B, V, N) focal length of each observation.
        R: (B, V, 3, 3) true rotations relative to the first camera.
    """

    rays: Tensor
    weights: Tensor
    focal_px: Tensor
    R: Tensor


def frames_of_rigs(samples: Sequence[Sample], frames: int = FRAMES) -> Iterator[list[int]]:
    """Iterate over groups of ``frames`` samples with equal cameras (their indices), evenly spread over the samples."""
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, sample in enumerate(samples):
        cameras = [view.camera for view in sample.views]
        rows[b"".join(camera.R.tobytes() + camera.t.tobytes() for camera in cameras)].append(row)
    for of_rig in rows.values():
        count = len(of_rig) // frames
        for group in range(count):
            yield of_rig[group::count][:frames]


def squared_errors(posterior: Posterior, R: Tensor) -> Tensor:
    """Squared Mahalanobis distances (B, V - 1) of true rotations R from posterior means; 3 degrees of freedom each."""
    error = rotation_log(R[:, 1:] @ posterior.rotation[:, 1:].mT)[..., None]
    solved, singular = torch.linalg.solve_ex(posterior.covariance[:, 1:, :3, :3], error)
    return torch.where(singular != 0, torch.inf, (error * solved)[..., 0].sum(-1))


def fit_temperature(
    batches: Iterable[KnownRigs], sampling: Sampling, seed: int, flip_order: Sequence[int] | None = None
) -> float:
    """Fit the temperature (at least 1) at which credible regions of level `LEVEL` contain a share `LEVEL` of the truth.

    A higher temperature widens the regions, nearly in proportion. Each iteration therefore multiplies the temperature
    by the ratio of the empirical quantile of the squared distances to the quantile of their chi-squared distribution.

    Args:
        batches: training rigs; if there are none, the result is 1.
        sampling: draws and rounds of the posterior; its temperature is not used.
        seed: seed of the draws.
        flip_order: index of each joint's mirror image, to correct swapped sides (`rigs_without_swaps`); None: do not.
    """
    rigs = [(known, estimate(known.rays, known.weights, known.focal_px)) for known in batches]
    if flip_order is not None:
        rigs = [_without_swaps(known, rig, flip_order) for known, rig in rigs]
    if not rigs:
        return 1.0
    expected = float(scipy.stats.chi2.ppf(LEVEL, 3))
    temperature = 1.0
    for _ in range(_STEPS):
        tempered = replace(sampling, temperature=temperature)
        errors: list[Tensor] = []
        for known, rig in rigs:
            generator = torch.Generator().manual_seed(seed)
            posterior = sample_posterior(rig, known.rays, known.weights, known.focal_px, tempered, generator)
            errors.append(squared_errors(posterior, known.R).flatten())
        ratio = float(np.quantile(torch.cat(errors).numpy(), LEVEL)) / expected
        temperature = float(np.clip(temperature * ratio, *_RANGE))
    return temperature


def _without_swaps(known: KnownRigs, rig: Rig, flip_order: Sequence[int]) -> tuple[KnownRigs, Rig]:
    rig, rays, weights = rigs_without_swaps(rig, known.rays, known.weights, known.focal_px, flip_order)
    return known._replace(rays=rays, weights=weights), rig
