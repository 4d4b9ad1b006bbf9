"""Distance in the images between predicted people and 2D points; needs no 3D ground truth.

Every predicted person is projected into the judged views, through the lens. In each view predicted people and 2D people
are paired one to one, with the smallest sum of distances. The distance of a pair is the mean over the joints that both
have, and at most a cap. The number is the mean distance over the pairs, in pixels.

The judged views are those of the input, or those held out. Views of the input measure how well 2D points, association
and calibration agree; a pose with a wrong depth can have a small error. In a held-out view it cannot.

All people are counted: 2D people without a predicted one are missing, predicted people without a 2D one in any judged
view are false. Neither enters the mean, since neither has a distance: read the number with its counts.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import bootstrap
from poseboard.protocols.average_precision import same_image
from poseboard.protocols.base import Breakdown, Protocol, TruthTable, finite
from poseboard.protocols.pairing import assigned, row_means
from poseboard.protocols.predictions import PoseTable, positions
from poseboard.protocols.records import Measure
from poseboard.protocols.single_person import JOINT_COLUMN
from poseboard.protocols.views import PointsKind, SeenBy, ViewPoints

Index = NDArray[np.int64]

_SHARES = {"median": 0.5, "p90": 0.9}


class Reprojection(Protocol):
    """Reprojection error: mean distance between projected people and 2D people, over all pairs, pixels.

    Args:
        judged: "seen": the views of the input; "held_out": all other views of the data set.
        against: "detected": 2D points of the input; "annotated": 2D points of the ground truth.
        cap_px: largest mean distance of a pair.
        report: number over the pairs: their mean, their median, or their 90th percentile ("p90").

    Example:
        >>> from poseboard.datasets.skeleton import COCO
        >>> Reprojection(judged="held_out", cap_px=50).measure(COCO).judged
        'views held out, people within 50 px'
    """

    name: ClassVar[str] = "reprojection"
    version: ClassVar[int] = 1
    records: ClassVar[Literal["truth", "predicted"]] = "predicted"
    paired_on: ClassVar[Literal["person", "sample"]] = "sample"
    several_people: ClassVar[bool] = True
    error_unit: ClassVar[str] = "px"

    judged: Literal["seen", "held_out"] = "seen"
    against: PointsKind = "detected"
    cap_px: float = Field(default=50, gt=0)
    report: Literal["mean", "median", "p90"] = "mean"

    @property
    def points(self) -> PointsKind:
        """Kind of 2D points that the protocol compares with."""
        return self.against

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol for the signatures of its numbers."""
        views = "views seen" if self.judged == "seen" else "views held out"
        return Measure(
            metric=f"reprojection to {self.against} points",
            alignment="none",
            root="none",
            joints=f"those {self.against}",
            average={"mean": "frames", "median": "median of pairs", "p90": "90th percentile of pairs"}[self.report],
            judged=f"{views}, people within {self.cap_px:g} px",
            version=self.version,
        )

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """One row per pair, per missing 2D person and per false predicted person; see :class:`Protocol`.

        Further columns: ``view``, ``false``, and ``joint/<name>``, the distances of each pair in pixels. ``person`` is
        -1 for a missing 2D person.

        Raises:
            InputError: poses are in a camera's frame, keys or joints are not in the data set, or no view can be judged.
        """
        self.in_frame(pred)
        points = truth.points.get(self.against)
        if points is None or truth.seen_by is None or truth.groups is None:
            raise InputError(
                f"{truth.dataset}: views", f"{self.against} points are missing", "collect the truth with its views"
            )
        seen = set(pred.info.condition.cameras)
        views = [v for v, name in enumerate(truth.views) if (name in seen) == (self.judged == "seen")]
        if not views:
            raise InputError(
                f"{pred.source}: metadata.condition.cameras",
                "are all cameras of the data set, so that none is held out",
                "give the table a group with `leave_out: true`, or evaluate the input views",
            )
        sample = positions(pred, truth.split_keys)
        people = np.flatnonzero(self._evaluated(truth, sample) & np.isfinite(pred.joints_mm).any(axis=(1, 2)))
        joints_mm = pred.mapped(points.skeleton.joints)[people].astype(np.float64)
        parts = [self._of_view(joints_mm, sample[people], points, truth, v) for v in views]
        pairs = pd.concat([pairs for pairs, _ in parts], ignore_index=True)
        in_image = np.any([inside for _, inside in parts], axis=0)
        supported = np.zeros(len(people), dtype=bool)
        supported[pairs["row"][pairs["row"] >= 0]] = True
        alone = np.flatnonzero(in_image & ~supported)
        false = pd.DataFrame({"row": alone, "sample": sample[people][alone], "view": -1, "error": np.nan})
        rows = pd.concat([pairs, false], ignore_index=True).sort_values(["sample", "view", "row"], kind="stable")
        return self._named(rows.reset_index(drop=True), pred.person[people], truth, points.skeleton)

    def estimate(
        self, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Mean, median or 90th percentile over pairs (R,), for each row of ``multiplicity``."""
        distances_px = table["error"].to_numpy(dtype=np.float64)
        if self.report == "mean":
            return bootstrap.ratio(distances_px, codes, multiplicity)
        return bootstrap.quantile(distances_px, codes, multiplicity, _SHARES[self.report])

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action, subject, view and joint, and medians over all joints, which are robust to outliers."""
        by_joint = self.by_column(JOINT_COLUMN, table)
        of_joints = np.stack([*by_joint.values()], axis=1)
        of_view = table["view"].astype(str).to_numpy()
        views = [view for view in table["view"].cat.categories if (of_view == view).any()]
        share = _SHARES.get(self.report)
        statistic = np.mean if share is None else partial(np.quantile, q=share)
        medians = {"all views": of_joints, **{view: of_joints[of_view == view] for view in views}}
        return {
            **super().breakdown(table),
            "view": self.by("view", table[table["view"].notna()]),
            "joint": {joint: finite(statistic, values) for joint, values in by_joint.items()},
            "median of joints": {view: finite(np.median, values) for view, values in medians.items()},
        }

    @staticmethod
    def _evaluated(truth: TruthTable, sample: Index) -> NDArray[np.bool_]:
        return np.ones(len(sample), dtype=bool) if truth.chosen is None else truth.chosen[sample]

    def _of_view(
        self, joints_mm: Array, sample: Index, points: ViewPoints, truth: TruthTable, view: int
    ) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
        """Pairs and missing 2D people of a view, and a mask of the predicted people with a joint in its image.

        Columns: row (index of the predicted person, -1 for a missing one), sample, view, error, and one per joint.
        """
        seen_by = truth.seen_by
        assert seen_by is not None
        seen = np.flatnonzero((points.view == view) & self._evaluated(truth, points.sample))
        points_px, of_points = points.points_px[seen], points.sample[seen]
        projected_px = seen_by.project(joints_mm, view, sample)
        first, second = same_image(sample, of_points)
        distances = np.linalg.norm(projected_px[first] - points_px[second], axis=-1)
        cost = row_means(distances)
        chosen = assigned(first, second, cost, self.cap_px)
        row = np.full(len(seen), -1, dtype=np.int64)
        error, of_joints = np.full(len(seen), np.nan), np.full((len(seen), points_px.shape[1]), np.nan)
        row[second[chosen]] = first[chosen]
        error[second[chosen]], of_joints[second[chosen]] = cost[chosen], distances[chosen]
        table = pd.DataFrame({"row": row, "sample": of_points, "view": view, "error": error})
        columns = [JOINT_COLUMN + joint for joint in points.skeleton.joints]
        table = pd.concat([table, pd.DataFrame(of_joints.astype(np.float32), columns=columns)], axis=1)
        return table, _in_image(projected_px, seen_by, view, sample)

    @staticmethod
    def _named(rows: pd.DataFrame, person: NDArray[np.int32], truth: TruthTable, skeleton: Skeleton) -> pd.DataFrame:
        """Add the columns that every protocol has: names instead of indices of samples, people and views."""
        assert truth.groups is not None
        sample, row = rows["sample"].to_numpy(dtype=np.int64), rows["row"].to_numpy(dtype=np.int64)
        view = rows["view"].to_numpy(dtype=np.int64)
        explained = np.full(len(rows), -1, dtype=np.int32)
        explained[row >= 0] = person[row[row >= 0]]
        named = pd.DataFrame(
            {
                "key": pd.Series(truth.split_keys[sample], dtype=object),
                "person": explained,
                **{name: values.take(sample) for name, values in truth.groups.items()},
                "error": rows["error"].to_numpy(dtype=np.float64),
                "missing": row < 0,
                "false": view < 0,
                "view": pd.Categorical.from_codes(view, pd.Index(truth.views, dtype=object)),
            }
        )
        columns = [JOINT_COLUMN + joint for joint in skeleton.joints]
        return pd.concat([named, rows[columns].astype(np.float32)], axis=1)


def _in_image(projected_px: Array, seen_by: SeenBy, view: int, sample: Index) -> NDArray[np.bool_]:
    """Mask (N,) of the people with a joint in the image."""
    inside = (projected_px >= 0) & (projected_px < seen_by.sizes_px(view, sample)[:, None])
    return np.asarray(inside.all(axis=-1).any(axis=-1))
