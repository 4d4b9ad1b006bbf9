"""Jitter of predicted joints: the root mean square of their jerk, the third derivative of position. No ground truth.

The jerk is the third difference over four consecutive frames of a person, times the cube of the frame rate (Flash and
Hogan, J. Neuroscience 1985, measure smoothness of movements by it). People move smoothly, so most of it is noise. A
row that smooths over frames lowers it without being more accurate: read it with the error in a held-out camera.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.protocols import bootstrap
from poseboard.protocols.base import Breakdown, TruthTable
from poseboard.protocols.pairing import row_means
from poseboard.protocols.single_person import JOINT_COLUMN
from poseboard.protocols.without_truth import Index, TrackedPeople, root_mean_square


class Jitter(TrackedPeople):
    """Root mean square over joints and frames of the third difference of positions, m/s³.

    Example:
        >>> Jitter().unit
        'm/s³'
    """

    name: ClassVar[str] = "jitter"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "RMS jerk"
    error_unit: ClassVar[str] = "m/s³"

    def values(self, joints_mm: Array, frame: Index, person: Index, truth: TruthTable) -> dict[str, Array]:
        """Jerk of each joint, from a frame and the three frames before, and ``error``: its root mean square.

        Raises:
            InputError: the frame rate of the data set is unknown.
        """
        rate_hz = None if truth.facts is None else truth.facts.rate_hz
        if rate_hz is None:
            raise InputError(f"{truth.dataset}: frame rate", "is unknown", "state it in the data set (fps of rig.yaml)")
        order = np.lexsort((frame, person))
        jerk = np.full(joints_mm.shape[:2], np.nan)
        if len(order) > 3:
            same = (person[order][3:] == person[order][:-3]) & (frame[order][3:] - frame[order][:-3] == 3)
            differences_m = np.diff(joints_mm[order], n=3, axis=0) / 1000
            jerk[order[3:]] = np.where(same[:, None], np.linalg.norm(differences_m, axis=-1) * rate_hz**3, np.nan)
        names = [JOINT_COLUMN + joint for joint in truth.points["detected"].skeleton.joints]
        return {"error": np.sqrt(row_means(jerk**2)), **dict(zip(names, jerk.T, strict=True))}

    def estimate(
        self, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Root mean square over frames (R,), for each row of ``multiplicity``."""
        squares = table["error"].to_numpy(dtype=np.float64) ** 2
        return np.sqrt(bootstrap.ratio(squares, codes, multiplicity))

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action, subject and joint."""
        joints = self.by_column(JOINT_COLUMN, table)
        return {**super().breakdown(table), "joint": {name: root_mean_square(jerk**2) for name, jerk in joints.items()}}
