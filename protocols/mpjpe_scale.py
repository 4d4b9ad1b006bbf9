"""MPJPE about the root after each pose is scaled to the truth, in the frame of the camera that it is answered in.

For methods that cannot see how large the scene is. Other than in PA-MPJPE no rotation is removed: what is left is the
error of the pose's shape and of its orientation in the reference camera.
"""

from __future__ import annotations

from typing import ClassVar

from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import metrics
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.mpjpe_root_camera import MpjpeRootCamera


class MpjpeScale(MpjpeRootCamera):
    """As `MpjpeRootCamera`, after the factor of least squares on each pose about its root; mm."""

    name: ClassVar[str] = "mpjpe_scale"
    version: ClassVar[int] = 1
    alignment: ClassVar[str] = "root and scale, in the camera's frame"

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """Error of each joint, (N, J); see :class:`SinglePerson`."""
        root = [joints.index(name) for name in self.root_joints(skeleton)]
        return metrics.scaled_joint_errors(pred, truth, root, rows=rows)
