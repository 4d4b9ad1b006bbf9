"""Further training of the backbone on single views, then the threshold, by 3D error on training samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field, PositiveInt

from poseboard.datasets.sample import Sample, Truth
from poseboard.methods.geometry.robust import ransac
from poseboard.methods.nets.detector import Detector
from poseboard.methods.nets.heatmap_training import HeatmapOptions, HeatmapTraining
from poseboard.methods.nets.schedule import Epochs
from poseboard.methods.nets.triangulator import ASSOCIATION_PX

_GRID = np.geomspace(0.01, 0.5, 18)
"""Thresholds tried, as shares of the crop's side; the published one is 30 / 384 = 0.08."""


class RansacOptions(HeatmapOptions):
    """What is trained, how, and how points are triangulated.

    Args:
        recipe: "small" trains the backbone further; "published" takes it as it comes, as the release does.
        steps: of the optimiser, or `Epochs`: as many as algebraic triangulation gets, so that it wins nothing by longer
            training.
        learning_rate: highest rate.
        threshold_px: reprojection distance at which a view stops agreeing, crop pixels (full frame for given
            detections); None: what the training fitted, 30 without a training.
        association_px: mean epipolar distance up to which given detections are one person.
        compat: the release's scheme draw by draw, on whole heat-map pixels and with its threshold.
    """

    steps: PositiveInt | Epochs = 600
    learning_rate: float = Field(default=5e-4, gt=0)
    threshold_px: float | None = Field(default=None, gt=0)
    association_px: float = Field(default=ASSOCIATION_PX, gt=0)
    compat: bool = False


class RansacTraining(HeatmapTraining):
    """The single-view training, and the threshold fitted at its end."""

    def finish(self, samples: Sequence[Sample], truths: Sequence[Truth]) -> dict[str, float]:
        """``threshold_px`` (crop pixels) with the smallest mean 3D error on training samples.

        {} where no joint can be triangulated and compared.
        """
        device = str(next(self.model.parameters()).device)
        found = Detector(self._architecture, self.model, device).detect(samples)
        true_mm = np.concatenate([truth.joints_mm for truth in truths])
        thresholds = _GRID * self._architecture.crop_px
        predicted_mm = np.stack([ransac(found.P, found.points_px, threshold).points_mm for threshold in thresholds])
        errors = np.linalg.norm(predicted_mm - true_mm, axis=-1)
        known = np.isfinite(errors).all(axis=0)  # which joints are is the same for every threshold
        if not known.any():
            return {}
        return {"threshold_px": float(thresholds[errors[:, known].mean(axis=1).argmin()])}
