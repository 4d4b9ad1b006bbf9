"""PA-MPJPE with one similarity for frames of a rig, brought into the frame of one camera by the recovered cameras.

The error of the motion is left too: poses that turn, grow or jump from frame to frame are wrong. The frames that share
a similarity are those that a method may use together, so that they have one gauge. Cameras are part of what is judged:
without them, poses that are predicted in frames of different cameras cannot be compared with one another.
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
    """Distance of every joint after one similarity for the frames of a rig, mean over joints, then over poses; mm.

    Frames are divided as for a method that uses ``frames`` of them together (`SeenBy.together`), whatever number it
    used: a method that recovers the cameras of each frame alone gains no similarity by it. All poses of such a group
    are judged in the frame of one camera, the one that was recovered in the most of them; a pose for which it was not
    recovered is missing. Which camera a pose was predicted in does not matter.

    Args:
        frames: largest number of frames that share a similarity.

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
        """See :class:`SinglePerson`.

        Raises:
            InputError: what is recovered are not cameras of those that were shown, or poses are in the frame of none.
        """
        return super().errors(self._moved(pred, truth), truth)

    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """See :class:`SinglePerson`; poses are moved already."""
        return metrics.joint_errors(pred, truth, rows=rows)

    def _moved(self, pred: PoseTable, truth: TruthTable) -> PoseTable:
        """The predictions with the poses of each group moved onto the truth by one similarity."""
        joints = self.joints or truth.skeleton.joints
        rows = self._answers(pred, truth)
        answered = np.flatnonzero(rows >= 0)
        of_pose = rows[answered]
        if truth.seen_by is None:
            raise InputError(f"{truth.dataset}: cameras", "are not known", "collect them with the truth")
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
    """(N,) place of the camera that is recovered in the most poses of each one's group, the first of equals."""
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    recovered = np.isfinite(rigs.R).all(axis=(2, 3)) & np.isfinite(rigs.t_mm).all(axis=2)
    counts = np.zeros((int(codes.max(initial=-1)) + 1, len(rigs.names)), dtype=np.int64)
    np.add.at(counts, codes, recovered)
    return np.asarray(counts.argmax(axis=1)[codes], dtype=np.int64)
