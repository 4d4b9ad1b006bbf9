"""Error of lifted poses at the true size, as the release of epipolar transformers measures its lifting networks.

A network that lifts one view answers in units of a pose's own size, which one view does not show. The release (He et
al., CVPR 2020) multiplies prediction and truth, both about the root, by the true size before it measures them, counts
no joint with more than 150 mm, and hidden joints like seen ones. The predicted root is not subtracted: if it is not at
0 that is an error of its own. The size need not be found for this; `mpjpe_root_camera` is the number where it must be.
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
    """Distance of every joint, at most ``limit_mm``, after each prediction is scaled to the true size; mm.

    Judges only predictions that state the size that they are scaled to (column ``size_mm``).

    Args:
        size: two joints; their distance is the size of a true pose.
        limit_mm: what a joint counts at most. A joint that is not predicted stays missing.
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
        """With its limit, as `MpjpeClipped` has it."""
        return f"mpjpe<={self.limit_mm:g}mm"

    def measure(self, skeleton: Skeleton) -> Measure:
        """See :class:`Protocol`; the size is given."""
        return super().measure(skeleton).model_copy(update={"given": ("size",)})

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """See :class:`SinglePerson`.

        Raises:
            InputError: predictions without sizes above 0, or a size between joints there are not.
        """
        size_mm = pred.column("size_mm")
        if (bad := ~((size_mm >= SMALLEST_MM) & (size_mm <= LARGEST_MM))).any():
            raise InputError(
                f"{pred.source}: size_mm",
                f"{int(bad.sum())} rows have none from {SMALLEST_MM:g} to {LARGEST_MM:.0f} mm, "
                f"first {pred.keys[int(np.argmax(bad))]!r}",
                "give each answer the size that it has",
            )
        return super().errors(replace(pred, joints_mm=pred.joints_mm / size_mm[:, None, None]), truth)

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """See :class:`SinglePerson`; ``pred`` in units of its size."""
        unknown = [name for name in self.size if name not in joints]
        if unknown:
            raise InputError(
                f"protocol {self.name}: size",
                f"{unknown[0]!r} is not a joint of {skeleton.name}",
                "name two of its joints",
            )
        first, second = (truth[:, joints.index(name)] for name in self.size)
        size_mm = np.linalg.norm(first - second, axis=-1)
        size_mm = np.where(size_mm > 0, size_mm, np.nan)
        about_root = truth - truth[:, [joints.index(name) for name in self.root_joints(skeleton)]].mean(
            1, keepdims=True
        )
        return metrics.sized_joint_errors(pred, about_root / size_mm[:, None, None], size_mm, self.limit_mm, rows)
