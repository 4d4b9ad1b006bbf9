"""MPJPE after Procrustes alignment of each predicted pose with the truth ("reconstruction error").

Rotation, scale and translation are removed, a reflection is not. The error of the shape remains, so the frame of
a predicted pose does not matter. For the error of the motion see :mod:`poseboard.protocols.pa_mpjpe_sequence`.
"""

from __future__ import annotations

from typing import ClassVar

from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import metrics
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.single_person import SinglePerson


class PaMpjpe(SinglePerson):
    """PA-MPJPE: MPJPE after Procrustes alignment of each pose, mm."""

    name: ClassVar[str] = "pa_mpjpe"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "pa_mpjpe"
    alignment: ClassVar[str] = "procrustes"
    any_frame: ClassVar[bool] = True

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """Error of each joint, (N, J); see :class:`SinglePerson`."""
        return metrics.aligned_joint_errors(pred, truth, rows=rows)
