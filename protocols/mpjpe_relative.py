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
    """Distance of every joint from its place relative to the root, mean over joints, then over poses; mm.

    Args:
        root: name of the joint that is subtracted; None: the data set's root.
    """

    name: ClassVar[str] = "mpjpe_relative"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "mpjpe"
    alignment: ClassVar[str] = "root"

    root: str | None = Field(default=None)

    def root_name(self, skeleton: Skeleton) -> str:
        """See :class:`SinglePerson`; InputError if neither the table nor the data set names a root."""
        root = self.root or skeleton.root
        if root is None or root not in skeleton.joints:
            raise InputError(
                f"protocol {self.name}: root", f"{root!r} is no joint of {skeleton.name}", "name one in the table"
            )
        return root

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """See :class:`SinglePerson`."""
        return metrics.joint_errors(pred, truth, root=joints.index(self.root_name(skeleton)), rows=rows)
