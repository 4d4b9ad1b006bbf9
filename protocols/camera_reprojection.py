"""Reprojection error of recovered poses and cameras together.

Each predicted pose is projected by the recovered cameras, with the true intrinsics and lens distortion, and compared
with the true pose in the full frame. No alignment is needed, because position and scale of the scene cancel in images.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols.base import TruthTable, joints_in_words
from poseboard.protocols.camera_frame import pixels
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Measure
from poseboard.protocols.recovered_cameras import Array, RecoveredCameras, Rigs


class CameraReprojection(RecoveredCameras):
    """Mean reprojection error over joints and cameras, including the reference camera, pixels.

    Args:
        limit_px: upper limit of a joint's error. A joint behind a camera has this error.

    Example:
        >>> CameraReprojection().metric_name()
        'camera reprojection<=1000px'
    """

    name: ClassVar[str] = "camera_reprojection"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "camera reprojection"
    error_unit: ClassVar[str] = "px"

    limit_px: float = Field(default=1000, gt=0)

    def metric_name(self) -> str:
        """Name of the metric with its limit."""
        return f"{self.metric}<={self.limit_px:g}px"

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol for the signatures of its numbers."""
        joints = joints_in_words(None, skeleton)
        update = {"alignment": "in the images", "joints": joints}
        return super().measure(skeleton).model_copy(update=update)

    def camera_values(self, rigs: Rigs, pred: PoseTable, truth: TruthTable) -> tuple[Array, NDArray[np.bool_]]:
        """Mean error of each camera, NaN if a joint is not predicted, and mask of the cameras that count."""
        assert truth.seen_by is not None
        answer_mm = pred.mapped(truth.skeleton.joints)[rigs.rows].astype(np.float64)
        true_mm, sample = truth.joints_mm[rigs.poses], truth.place[rigs.poses]
        values = np.full((len(rigs.poses), len(rigs.names)), np.nan)
        for v, name in enumerate(rigs.names):
            in_camera = answer_mm @ np.swapaxes(rigs.R[:, v], 1, 2) + rigs.t_mm[:, v, None]
            seen_px = pixels(truth, name, in_camera, sample)
            true_px = truth.seen_by.project(true_mm, truth.views.index(name), sample)
            distance = np.linalg.norm(seen_px - true_px, axis=2)
            distance = np.where(in_camera[..., 2] > 0, np.minimum(distance, self.limit_px), self.limit_px)
            evaluated = np.isfinite(true_px).all(axis=2)
            distance[np.isnan(in_camera).any(axis=2)] = np.nan
            count = evaluated.sum(axis=1)
            total = np.where(evaluated, distance, 0.0).sum(axis=1)
            values[:, v] = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
        return values, rigs.sees
