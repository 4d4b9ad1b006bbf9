"""Root-relative MPJPE of monocular methods, in the frame of the input's camera.

Each camera is a separate input, and the score is over the predictions of all cameras. The truth is rotated to the
camera's axes, so the method needs no extrinsics and no root position. A pose in the world frame is compared in the
world frame, which gives the same distance.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from poseboard.datasets.errors import InputError
from poseboard.protocols.base import Breakdown, TruthTable
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.mpjpe_relative import MpjpeRelative
from poseboard.protocols.predictions import PoseTable


class MpjpeRootCamera(MpjpeRelative):
    """Root-relative MPJPE in the frame of a camera of the input, mm."""

    name: ClassVar[str] = "mpjpe_root_camera"
    version: ClassVar[int] = 2
    alignment: ClassVar[str] = "root, in the camera's frame"
    any_frame: ClassVar[bool] = True

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action, subject, joint and, if the records have the column ``cameras``, camera."""
        return {**super().breakdown(table), **({"camera": self.by("cameras", table)} if "cameras" in table else {})}

    def true_joints(self, truth: TruthTable, joints: tuple[str, ...], pred: PoseTable, rows: Rows) -> Array:
        """True joints (N, J, 3), mm, rotated to the camera's axes but not translated: only offsets to the root count.

        Raises:
            InputError: a pose is not in the frame of a camera of the input, or that camera does not see the sample.
        """
        joints_mm = truth.mapped(joints)
        answered = np.flatnonzero(rows >= 0)
        frame = np.asarray(pred.frame[rows[answered]], dtype=str)
        turned = np.array(joints_mm, dtype=np.float64)
        for name in np.unique(frame).tolist():
            if name == "world":
                continue
            of_camera = answered[frame == name]
            R = truth.rotations(name, of_camera)
            if name not in pred.info.condition.cameras or R is None:
                raise InputError(
                    f"{pred.source}: frame",
                    f"{len(of_camera)} records are in the frame of {name!r}, first {truth.keys[of_camera[0]]!r}",
                    f"predict in the frame of an input camera: {', '.join(pred.info.condition.cameras)}",
                )
            unseen = np.isnan(R).any(axis=(1, 2))
            if unseen.any():
                raise InputError(
                    f"{pred.source}: frame",
                    f"{int(unseen.sum())} records are in the frame of {name!r}, which does not see their sample, first "
                    f"{truth.keys[of_camera[int(np.argmax(unseen))]]!r}",
                    "leave out these samples, or name another camera",
                )
            turned[of_camera] = joints_mm[of_camera] @ np.swapaxes(R, -1, -2)
        return turned
