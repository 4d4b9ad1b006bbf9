"""Mean per-joint position error after the root joint is subtracted from prediction and truth.

Learnable triangulation, release code: ``per_pose_error_relative``. The root's own error is 0 and counts among the
joints. The published headline is the mean over frames; the mean of the action means is another signature.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import metrics
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.single_person import SinglePerson


class MpjpeRelative(SinglePerson):
    """Root-relative MPJPE: mean over joints, then over poses, mm.

    Args:
        root: name of the subtracted joint, or names of several joints whose mean is subtracted; None: the data set's
            root.
    """

    name: ClassVar[str] = "mpjpe_relative"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "mpjpe"
    alignment: ClassVar[str] = "root"

    root: str | tuple[str, ...] | None = Field(default=None)

    def root_joints(self, skeleton: Skeleton) -> tuple[str, ...]:
        """Joints whose mean is subtracted; InputError if neither the table nor the data set names a root."""
        named = (self.root,) if isinstance(self.root, str) else self.root
        roots = named or skeleton.root_joints
        unknown = [root for root in roots or (None,) if root not in skeleton.joints]
        if unknown:
            raise InputError(
                f"protocol {self.name}: root",
                f"{unknown[0]!r} is not a joint of {skeleton.name}",
                "set `root` in the table to one of its joints",
            )
        return roots

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """Error of each joint, (N, J); see :class:`SinglePerson`."""
        root = [joints.index(name) for name in self.root_joints(skeleton)]
        return metrics.joint_errors(pred, truth, root=root, rows=rows)
