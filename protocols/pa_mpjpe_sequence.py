"""PA-MPJPE with one similarity for several frames of a rig, in the frame of one camera by the recovered cameras.

Unlike PA-MPJPE, it keeps the error of the motion: poses that turn, grow or jump from frame to frame are wrong. Frames
share a similarity if a method may use them together, because they then have one gauge. The recovered cameras influence
the number, because they transform poses from the frames of different cameras to one frame.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import metrics
from poseboard.protocols.base import TruthTable
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Measure
from poseboard.protocols.recovered_cameras import Rigs, collect_rigs
from poseboard.protocols.single_person import SinglePerson


class PaMpjpeSequence(SinglePerson):
    """MPJPE after Procrustes alignment with one similarity per group of frames of a rig, mm.

    Groups have up to ``frames`` frames (`SeenBy.together`), even if the method uses fewer frames together. So a method
    that recovers the cameras of each frame separately gets no additional alignments. All poses of a group are judged in
    the frame of the camera that was recovered most often. A pose without this camera is missing. The camera in whose
    frame a pose was predicted does not matter.

    Args:
        frames: largest number of frames with a common similarity.

    Example:
        >>> PaMpjpeSequence(frames=10).metric_name(), PaMpjpeSequence(frames=10).columns
        ('pa_mpjpe', ('camera_R', 'camera_t_mm'))
    """

    name: ClassVar[str] = "pa_mpjpe_sequence"
    version: ClassVar[int] = 2
    metric: ClassVar[str] = "pa_mpjpe"
    alignment: ClassVar[str] = "procrustes"
    any_frame: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = ("camera_R", "camera_t_mm")

    frames: int = Field(ge=2)

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol for the signatures of its numbers."""
        alignment = f"{self.alignment}, one per {self.frames} frames of a rig"
        return super().measure(skeleton).model_copy(update={"alignment": alignment})

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """One row per true pose; see :class:`SinglePerson`.

        Raises:
            InputError: recovered cameras are not cameras of the input, or a pose is not in the frame of one of them.
        """
        return super().errors(self._moved(pred, truth), truth)

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """Error of each joint, (N, J) mm, of the aligned poses."""
        return metrics.joint_errors(pred, truth, rows=rows)

    def _moved(self, pred: PoseTable, truth: TruthTable) -> PoseTable:
        """Align the predicted poses of each group with the truth by one similarity."""
        joints = self.joints or truth.skeleton.joints
        rows = self._answers(pred, truth)
        answered = np.flatnonzero(rows >= 0)
        of_pose = rows[answered]
        if truth.seen_by is None:
            raise InputError(f"{truth.dataset}: cameras", "are missing", "collect the truth with its cameras")
        rigs = collect_rigs(pred, truth, rows, answered)
        groups = truth.seen_by.together(self.frames)[truth.place[answered]]
        camera = _common_camera(rigs, groups)
        each = np.arange(len(answered))
        R, t_mm = rigs.R[each, camera], rigs.t_mm[each, camera]
        in_camera = np.einsum("nij,nkj->nki", R, pred.mapped(joints)[of_pose].astype(np.float64)) + t_mm[:, None]
        joints_mm = np.full(pred.joints_mm.shape, np.nan, dtype=np.float32)
        place = [pred.info.joints.index(joint) for joint in joints]
        joints_mm[of_pose[:, None], place] = metrics.procrustes_together(
            in_camera, truth.mapped(joints)[answered], groups
        )
        return replace(pred, joints_mm=joints_mm)


def _common_camera(rigs: Rigs, groups: NDArray[np.integer]) -> NDArray[np.int64]:
    """Index (N,) of the camera that is recovered in most poses of each pose's group; ties: the first camera."""
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    recovered = np.isfinite(rigs.R).all(axis=(2, 3)) & np.isfinite(rigs.t_mm).all(axis=2)
    counts = np.zeros((int(codes.max(initial=-1)) + 1, len(rigs.names)), dtype=np.int64)
    np.add.at(counts, codes, recovered)
    return np.asarray(counts.argmax(axis=1)[codes], dtype=np.int64)
