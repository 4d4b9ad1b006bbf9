"""Error of lifted poses at the true size, as the release of epipolar transformers measures its lifting networks.

A network that lifts one view predicts poses in units of the pose's size, because one view does not determine the size.
The release (He et al., CVPR 2020) scales prediction and truth, both relative to the root, to the true size, clips the
error of each joint at 150 mm, and counts hidden joints like visible ones. The predicted root is not subtracted, so a
root that is not at 0 has an error. The method does not need to estimate the size; for `mpjpe_root_camera` it must.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import metrics
from poseboard.protocols.base import TruthTable
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.mpjpe_root_camera import MpjpeRootCamera
from poseboard.protocols.predictions import LARGEST_MM, PoseTable
from poseboard.protocols.records import Measure

SMALLEST_MM = 1e-3
"""Smallest size of a prediction."""


class MpjpeTrueSize(MpjpeRootCamera):
    """Clipped MPJPE after each predicted pose is scaled to the true size, mm.

    Only predictions with the column ``size_mm``, the size of the predicted pose, can be judged.

    Args:
        size: names of two joints; their distance is the size of a true pose.
        limit_mm: upper limit of a joint's error. A joint that is not predicted stays missing.
    """

    name: ClassVar[str] = "mpjpe_true_size"
    version: ClassVar[int] = 1
    alignment: ClassVar[str] = "true root and size, in the camera's frame"
    columns: ClassVar[tuple[str, ...]] = ("size_mm",)

    size: tuple[str, str]
    limit_mm: float = Field(default=150, gt=0)

    @model_validator(mode="after")
    def _measured(self) -> Self:
        absent = [name for name in self.size if self.joints is not None and name not in self.joints]
        if absent:
            raise ValueError(f"size needs {absent[0]!r} among the joints")
        return self

    def metric_name(self) -> str:
        """Name of the metric with its limit, as in `MpjpeClipped`."""
        return f"mpjpe<={self.limit_mm:g}mm"

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol, which states that the true size is used."""
        return super().measure(skeleton).model_copy(update={"given": ("size",)})

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """One row per true pose; see :class:`SinglePerson`.

        Raises:
            InputError: predictions lack positive sizes, or ``size`` names an unknown joint.
        """
        size_mm = pred.column("size_mm")
        if (bad := ~((size_mm >= SMALLEST_MM) & (size_mm <= LARGEST_MM))).any():
            raise InputError(
                f"{pred.source}: size_mm",
                f"{int(bad.sum())} records have no size from {SMALLEST_MM:g} to {LARGEST_MM:.0f} mm, "
                f"first {pred.keys[int(np.argmax(bad))]!r}",
                "write the size of each predicted pose in mm",
            )
        return super().errors(replace(pred, joints_mm=pred.joints_mm / size_mm[:, None, None]), truth)

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """Error of each joint, (N, J) mm; ``pred`` is in units of its size."""
        unknown = [name for name in self.size if name not in joints]
        if unknown:
            raise InputError(
                f"protocol {self.name}: size",
                f"{unknown[0]!r} is not a joint of {skeleton.name}",
                "name two joints of this skeleton",
            )
        first, second = (truth[:, joints.index(name)] for name in self.size)
        size_mm = np.linalg.norm(first - second, axis=-1)
        size_mm = np.where(size_mm > 0, size_mm, np.nan)
        about_root = truth - truth[:, [joints.index(name) for name in self.root_joints(skeleton)]].mean(
            1, keepdims=True
        )
        return metrics.sized_joint_errors(pred, about_root / size_mm[:, None, None], size_mm, self.limit_mm, rows)
