"""Absolute mean per-joint position error with each joint's error clipped at a limit.

Epipolar transformers, release code: its "MPJPE" is the world-frame distance of each joint, clipped at 150 mm, mean over
joints and frames. A joint that is metres away then counts as much as a joint that is 15 cm away, so the number must not
be compared with an unclipped MPJPE.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import metrics
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.mpjpe_absolute import MpjpeAbsolute


class MpjpeClipped(MpjpeAbsolute):
    """MPJPE in the world frame with each joint error clipped at ``limit_mm``, mm.

    Args:
        limit_mm: upper limit of a joint's error. A joint that is not predicted stays missing.
    """

    name: ClassVar[str] = "mpjpe_clipped"
    version: ClassVar[int] = 1

    limit_mm: float = Field(default=150, gt=0)

    def metric_name(self) -> str:
        """Name of the metric with its limit, because each limit is another metric."""
        return f"mpjpe<={self.limit_mm:g}mm"

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """Error of each joint, (N, J); see :class:`SinglePerson`."""
        return metrics.clipped(metrics.joint_errors(pred, truth, rows=rows), self.limit_mm)
