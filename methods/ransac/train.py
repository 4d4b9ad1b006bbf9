"""Further training of the backbone on single views, then a fit of the threshold to the 3D error on training samples."""

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
    """Options of robust triangulation; those of the training are `HeatmapOptions`.

    Args:
        recipe: "small": the backbone is trained further. "published": it is not, as in the release.
        steps: optimiser steps, or `Epochs`; as many as for algebraic triangulation, for a fair comparison.
        learning_rate: maximum.
        threshold_px: reprojection distance up to which a view agrees, crop pixels (frame pixels for given detections);
            None: the one fitted in training, 30 without training.
        association_px: mean epipolar distance up to which given detections are one person.
        swaps: views are also tried with left and right swapped, see `methods.geometry.swaps`; not with ``compat``. The
            weights and the threshold are those of the row under ``after``.
        compat: the release's scheme draw by draw, on whole heat-map pixels and with its threshold.
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
            raise ValueError("swaps: the published scheme (compat) tries none")
        return self


class RansacTraining(HeatmapTraining):
    """Single-view training of the backbone, and a fit of the threshold at its end."""

    def finish(self, samples: Sequence[Sample], truths: Sequence[Truth]) -> dict[str, float]:
        """``threshold_px`` (crop pixels) with the smallest mean 3D error on training samples; {} without any error."""
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
