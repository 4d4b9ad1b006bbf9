"""MPJPE about the root after each pose is scaled to the truth, in the frame of its camera.

For methods that cannot recover the scale of the scene. Unlike PA-MPJPE it removes no rotation, so the error of the
orientation in the reference camera counts.
"""

from __future__ import annotations

from typing import ClassVar

from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import metrics
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.mpjpe_root_camera import MpjpeRootCamera


class MpjpeScale(MpjpeRootCamera):
    """Root-relative MPJPE after scaling each pose about its root by the least-squares factor, mm."""

    name: ClassVar[str] = "mpjpe_scale"
    version: ClassVar[int] = 1
    alignment: ClassVar[str] = "root and scale, in the camera's frame"

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """Error of each joint, (N, J); see :class:`SinglePerson`."""
        root = [joints.index(name) for name in self.root_joints(skeleton)]
        return metrics.scaled_joint_errors(pred, truth, root, rows=rows)
