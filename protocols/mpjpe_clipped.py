"""Absolute mean per-joint position error in which no joint counts more than a limit.

Epipolar transformers, release code: its "MPJPE" is the world-frame distance of each joint, clipped at 150 mm, mean over
joints and frames. A few joints thrown metres away then weigh as much as a few that are 15 cm off, so the number is not
to be read beside an unclipped one.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import metrics
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.mpjpe_absolute import MpjpeAbsolute


class MpjpeClipped(MpjpeAbsolute):
    """Euclidean distance of every joint, at most ``limit_mm``, mean over joints, then over poses; mm.

    Args:
        limit_mm: what a joint counts at most. A joint that is not predicted stays missing.
    """

    name: ClassVar[str] = "mpjpe_clipped"
    version: ClassVar[int] = 1

    limit_mm: float = Field(default=150, gt=0)

    def metric_name(self) -> str:
        """With its limit: two limits are two metrics."""
        return f"mpjpe<={self.limit_mm:g}mm"

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """Error of each joint, (N, J); see :class:`SinglePerson`."""
        return metrics.clipped(metrics.joint_errors(pred, truth, rows=rows), self.limit_mm)
