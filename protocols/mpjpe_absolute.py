"""Mean per-joint position error in the world frame, without alignment.

Learnable triangulation, release code: ``per_pose_error``. On Human3.6M the annotations of three clips of S9 are shifted
against the images. A table can exclude these clips under ``exclude``; its signature states this.
"""

from __future__ import annotations

from typing import ClassVar

from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import metrics
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.single_person import SinglePerson


class MpjpeAbsolute(SinglePerson):
    """MPJPE in the world frame: mean Euclidean joint distance, first over joints, then over poses, mm."""

    name: ClassVar[str] = "mpjpe_absolute"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "mpjpe"
    alignment: ClassVar[str] = "none"

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """Error of each joint, (N, J); see :class:`SinglePerson`."""
        return metrics.joint_errors(pred, truth, rows=rows)
