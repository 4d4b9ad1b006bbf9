"""Share of the joints detected in two or more views that a row predicts in 3D. Needs no ground truth.

Read it with the numbers of the predicted joints: a row can have a small error because it predicts only easy joints.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.protocols import bootstrap
from poseboard.protocols.base import Breakdown, TruthTable, number_or_none
from poseboard.protocols.predictions import PoseTable, positions
from poseboard.protocols.single_person import JOINT_COLUMN
from poseboard.protocols.without_truth import WithoutTruth, triangulable


class JointsTriangulated(WithoutTruth):
    """Percent of the joints detected in two or more input views that are predicted.

    A record is a frame. Joints that are predicted more often than they are detected count once per detection.

    Example:
        >>> JointsTriangulated().unit, JointsTriangulated().lower_is_better
        ('%', False)
    """

    name: ClassVar[str] = "joints_triangulated"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "joints triangulated"
    average: ClassVar[str] = "joints"
    is_share: ClassVar[bool] = True

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """One row per frame with a joint in two views; see :class:`Protocol`.

        Further columns: ``joints``, the number of joints in two views, and ``joint/<name>``, the percentage of each.
        """
        points = self.detections(pred, truth)
        assert truth.groups is not None
        detected = triangulable(points, truth, pred)
        predicted = np.zeros_like(detected)
        np.add.at(
            predicted,
            positions(pred, truth.split_keys),
            np.isfinite(pred.mapped(points.skeleton.joints)).all(axis=-1),
        )
        both, joints = np.minimum(predicted, detected), detected.sum(axis=1)
        frames = np.flatnonzero(joints)
        share = np.divide(100.0 * both, detected, out=np.full(both.shape, np.nan), where=detected > 0)
        return pd.DataFrame(
            {
                "key": pd.Series(truth.split_keys[frames], dtype=object),
                "person": np.zeros(len(frames), dtype=np.int32),
                **{name: values.take(frames) for name, values in truth.groups.items()},
                "error": 100.0 * both.sum(axis=1)[frames] / joints[frames],
                "missing": np.zeros(len(frames), dtype=bool),
                "false": np.zeros(len(frames), dtype=bool),
                "joints": joints[frames].astype(np.float64),
                **dict(zip([JOINT_COLUMN + name for name in points.skeleton.joints], share[frames].T, strict=True)),
            }
        )

    def estimate(
        self, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Percentage of predicted joints (R,), for each row of ``multiplicity``."""
        share, joints = table["error"].to_numpy(dtype=np.float64), table["joints"].to_numpy(dtype=np.float64)
        mean: Array = bootstrap.ratio(share * joints, codes, multiplicity)
        return mean / bootstrap.ratio(joints, codes, multiplicity)

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action, subject and joint."""
        names = [column for column in table.columns if column.startswith(JOINT_COLUMN)]
        joints = {name.removeprefix(JOINT_COLUMN): number_or_none(float(table[name].mean())) for name in names}
        return {**super().breakdown(table), "joint": joints}
