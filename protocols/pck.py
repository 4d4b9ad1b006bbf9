"""3D PCK: the share of joints within a distance of the truth, its curve over distances and the area under it.

Joints are relative to the root as in :mod:`poseboard.protocols.mpjpe_relative`. The root itself counts, and is correct
if the pose is predicted. A joint or pose that is not predicted is wrong, so use PCK to compare methods that leave out
poses. Thresholds follow MPI-INF-3DHP (0 to 150 mm in steps of 5), except that a joint at exactly the threshold is
correct. So a perfect prediction has an AUC of 100 %, not 96.8 %.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from poseboard.protocols import metrics
from poseboard.protocols.base import Breakdown, number_or_none
from poseboard.protocols.metrics import Array
from poseboard.protocols.mpjpe_relative import MpjpeRelative
from poseboard.protocols.records import Curve
from poseboard.protocols.single_person import JOINT_COLUMN


class Pck(MpjpeRelative):
    """3D PCK or its AUC, percent: mean over joints, then over poses.

    Args:
        report: the number of the table: "pck" at ``threshold_mm``, or "auc" over the whole curve.
        threshold_mm: largest error of a correct joint.
        longest_mm: last threshold of the curve, which starts at 0.
        step_mm: step between thresholds of the curve.
    """

    name: ClassVar[str] = "pck"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "pck"
    is_share: ClassVar[bool] = True

    report: Literal["pck", "auc"] = "pck"
    threshold_mm: float = Field(default=150, gt=0)
    longest_mm: float = Field(default=150, gt=0)
    step_mm: float = Field(default=5, gt=0)

    @property
    def thresholds_mm(self) -> list[float]:
        """Thresholds of the curve, mm."""
        return [float(t) for t in np.arange(0, self.longest_mm + self.step_mm / 2, self.step_mm)]

    def metric_name(self) -> str:
        """Name of the metric with its threshold, because each threshold is another metric."""
        if self.report == "pck":
            return f"pck@{self.threshold_mm:g}mm"
        return f"pck-auc@0-{self.longest_mm:g}mm/{self.step_mm:g}"

    def missing(self, errors: Array) -> NDArray[np.bool_]:
        """Mask (N,) of the poses without any predicted joint. In other poses, missing joints count as wrong."""
        return np.asarray(np.fmin.reduce(errors, axis=1) == np.inf)

    def pose_values(self, errors: Array) -> NDArray[np.float64]:
        """Convert errors (N, J) to the PCK or AUC of each pose, percent."""
        if self.report == "pck":
            return 100 * metrics.pose_pck(errors, self.threshold_mm)
        return 100 * metrics.pose_auc(errors, self.thresholds_mm)

    def joint_values(self, distances: Array, missing: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Convert a joint's distances (N,) to percent, 0 or 100 at one threshold; a missing joint is wrong."""
        return self.pose_values(distances[:, None])

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """PCK by action, subject and joint; and over all poses, PCK at 50, 100 and 150 mm and the AUC."""
        distances = self._distances(table)
        codes, ones = np.zeros(len(table), dtype=np.int64), np.ones((1, 1))
        readings = {f"PCK@{t} mm": metrics.pose_pck(distances, t) for t in (50, 100, 150)}
        readings[f"AUC 0–{self.longest_mm:g} mm"] = metrics.pose_auc(distances, self.thresholds_mm)
        values = {name: 100 * float(self.mean(v, table, codes, ones)[0]) for name, v in readings.items()}
        return {
            **super().breakdown(table),
            "reading": {name: number_or_none(value) for name, value in values.items()},
        }

    def curves(self, table: pd.DataFrame) -> dict[str, Curve]:
        """PCK over thresholds, mean over all poses."""
        share = 100 * metrics.pck_curve(self._distances(table), self.thresholds_mm)
        y = [number_or_none(value) for value in share]
        return {"pck": Curve(x=self.thresholds_mm, y=y, x_label="distance (mm)", y_label="joints within it (%)")}

    @staticmethod
    def _distances(table: pd.DataFrame) -> Array:
        return table[[column for column in table.columns if column.startswith(JOINT_COLUMN)]].to_numpy()
