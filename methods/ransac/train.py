"""Training of the backbone on single views, then a fit of the threshold that minimises the 3D training error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from poseboard.datasets.sample import Sample, Truth
from poseboard.methods.geometry.robust import ransac
from poseboard.methods.nets.detector import Detector
from poseboard.methods.nets.heatmap_training import HeatmapOptions, HeatmapTraining
from poseboard.methods.nets.training import Epochs
from poseboard.methods.nets.triangulator import ASSOCIATION_PX

_GRID = np.geomspace(0.01, 0.5, 18)
"""Candidate thresholds as shares of the crop's side; the published one is 30 / 384 = 0.08."""


class RansacOptions(HeatmapOptions):
    """Options of robust triangulation, in addition to `HeatmapOptions`.

    Args:
        recipe: "small": the backbone is trained further. "published": it is not, as in the release.
        steps: optimiser steps, or `Epochs`. The default is that of algebraic triangulation, for a fair comparison.
        learning_rate: maximum learning rate.
        threshold_px: maximum reprojection distance of a view that agrees, in crop pixels (in frame pixels for samples
            with 2D detections). None: the value fitted in training, or 30 without training.
        association_px: maximum mean epipolar distance of 2D detections of one person.
        swaps: also try views with left and right swapped, see `methods.geometry.swaps`. Weights and threshold are those
            of the row that ``after:`` names. Not possible with ``compat``.
        compat: repeat the release's scheme draw by draw, on integer heat-map pixels and with its threshold.
    """

    steps: PositiveInt | Epochs = 600
    learning_rate: float = Field(default=5e-4, gt=0)
    threshold_px: float | None = Field(default=None, gt=0)
    association_px: float = Field(default=ASSOCIATION_PX, gt=0)
    swaps: bool = False
    compat: bool = False

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.swaps and self.compat:
            raise ValueError("swaps and compat cannot be combined")
        return self


class RansacTraining(HeatmapTraining):
    """Training of the backbone on single views, with a fit of the threshold at the end."""

    def finish(self, samples: Sequence[Sample], truths: Sequence[Truth]) -> dict[str, float]:
        """Fit ``threshold_px`` (crop pixels) to the smallest mean 3D error on training samples; {} if none has one."""
        device = str(next(self.model.parameters()).device)
        seen = Detector(self.network, self.model, device).detect(samples)
        true_mm = np.reshape([truth.joints_mm for truth in truths], (-1, len(self.network.joints), 3))
        thresholds = _GRID * self.network.crop_px
        predicted_mm = np.stack([ransac(seen.P, seen.points_px, threshold).points_mm for threshold in thresholds])
        errors = np.linalg.norm(predicted_mm - true_mm, axis=-1)
        known = np.isfinite(errors).all(axis=0)  # the same joints for every threshold
        if not known.any():
            return {}
        return {"threshold_px": float(thresholds[errors[:, known].mean(axis=1).argmin()])}
