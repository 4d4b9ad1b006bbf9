"""MPJPE after each predicted pose is moved onto the truth by its best similarity transform ("reconstruction error").

Rotation, scale and shift are removed, a reflection is not. What is left is the error of the pose's shape alone, so the
frame that a pose is given in does not matter. With one similarity per sequence the error of its motion is left too:
poses that turn, grow or jump from frame to frame are wrong. Poses of a sequence in frames of different cameras cannot
be in one frame without knowing more than the method did: those in one frame have one similarity.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pandas as pd

from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import metrics
from poseboard.protocols.base import TruthTable
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Measure
from poseboard.protocols.single_person import SinglePerson


class PaMpjpe(SinglePerson):
    """Distance of every joint after Procrustes alignment, mean over joints, then over poses; mm.

    Args:
        fit: "pose": each pose has a similarity of its own; "sequence": the poses of a sequence that are answered in the
            frame of one camera, or in the world's, have one.
    """

    name: ClassVar[str] = "pa_mpjpe"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "pa_mpjpe"
    alignment: ClassVar[str] = "procrustes"
    any_frame: ClassVar[bool] = True

    fit: Literal["pose", "sequence"] = "pose"

    def measure(self, skeleton: Skeleton) -> Measure:
        """See :class:`Protocol`."""
        alignment = self.alignment if self.fit == "pose" else f"{self.alignment}, one per sequence"
        return super().measure(skeleton).model_copy(update={"alignment": alignment})

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """See :class:`SinglePerson`."""
        return super().errors(pred if self.fit == "pose" else self._moved(pred, truth), truth)

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """See :class:`SinglePerson`."""
        if self.fit == "sequence":  # already moved
            return metrics.joint_errors(pred, truth, rows=rows)
        return metrics.aligned_joint_errors(pred, truth, rows=rows)

    def _moved(self, pred: PoseTable, truth: TruthTable) -> PoseTable:
        """The predictions with the poses of each sequence moved onto the truth by one similarity."""
        joints = self.joints or truth.skeleton.joints
        rows = self._answers(pred, truth)
        answered = np.flatnonzero(rows >= 0)
        of_pose = rows[answered]
        together = pd.DataFrame(
            {
                "subject": truth.subject.take(answered),
                "sequence": truth.sequence.take(answered),
                "frame": pred.frame[of_pose],
            }
        )
        codes = together.groupby(list(together), observed=True, sort=False).ngroup().to_numpy()
        joints_mm = np.full(pred.joints_mm.shape, np.nan, dtype=np.float32)
        place = [pred.info.joints.index(joint) for joint in joints]
        moved = metrics.procrustes_together(pred.mapped(joints)[of_pose], truth.mapped(joints)[answered], codes)
        joints_mm[of_pose[:, None], place] = moved
        return replace(pred, joints_mm=joints_mm)
