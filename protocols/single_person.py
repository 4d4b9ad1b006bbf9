"""Base class of the protocols that compare one predicted person with one true person, joint by joint.

Predictions are looked up by key. Joints are mapped by name, so a file with another joint set is scored if it has
every evaluated joint. True joints without annotation are not evaluated; true poses without any annotated joint are
ignored. A pose that lacks an evaluated joint is *missing*: it counts in ``n_missing`` and is left out of the mean. It
has no error in millimetres, and the mean over its other joints would reward leaving out hard joints. A method with
missing poses has a score but no rank (:mod:`poseboard.protocols.comparison`). PCK ranks it, because PCK counts missing
joints as wrong.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import bootstrap, metrics
from poseboard.protocols.base import Breakdown, Protocol, TruthTable, joints_in_words, number_or_none
from poseboard.protocols.metrics import Array, Rows
from poseboard.protocols.predictions import PoseTable, positions
from poseboard.protocols.records import Measure

JOINT_COLUMN = "joint/"
"""Prefix of the columns of distances: mm, NaN = not evaluated, inf = not predicted."""


class SinglePerson(Protocol):
    """Base class for one person per sample, in the world frame unless a subclass declares ``any_frame``.

    Args:
        average: "frames": mean over all poses. "actions": mean of the actions' means, so that long and short actions
            have equal weight; on Human3.6M the two differ by up to 1 mm. "worst_subject": mean of the subject with the
            worst mean; in breakdowns, of the worst subject within each entry. A method that misses all poses of a
            subject has no such number. The worst subject's mean has no interval, and rows are not compared by it. The
            largest of several noisy means is biased upwards, resampling adds the same bias again, and a few sequences
            per subject are too few to estimate the bias. In simulations of 20 subjects with three sequences, percentile
            intervals contained the true largest mean in 0 to 85 % of cases; bias-corrected intervals in 50 to 85 %, and
            these need not contain the number itself.
        joints: names of the evaluated joints; None: all of the data set.
    """

    average: Literal["frames", "actions", "worst_subject"] = "frames"
    joints: tuple[str, ...] | None = Field(default=None, min_length=1)

    metric: ClassVar[str]
    alignment: ClassVar[str]

    def metric_name(self) -> str:
        """Name of the metric in the signature."""
        return self.metric

    @abstractmethod
    def joint_errors(self, pred: Array, truth: Array, rows: Rows, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
        """Joint errors (N, J), mm, by the conventions of :mod:`poseboard.protocols.metrics`."""

    def true_joints(self, truth: TruthTable, joints: tuple[str, ...], pred: PoseTable, rows: Rows) -> Array:
        """True joints (N, J, 3), mm, in the frame of the predictions ``rows``: by default the world frame."""
        return truth.mapped(joints)

    def root_joints(self, skeleton: Skeleton) -> tuple[str, ...]:
        """Joints whose mean is the root that is subtracted; empty for absolute positions."""
        return ()

    def missing(self, errors: Array) -> NDArray[np.bool_]:
        """Mask (N,) of the poses that count as missing."""
        return np.asarray(np.fmax.reduce(errors, axis=1) == np.inf)

    def pose_values(self, errors: Array) -> NDArray[np.float64]:
        """Convert distances (N, J) to the poses' numbers (N,) in ``unit``; inf or NaN if a pose has none."""
        return metrics.pose_errors(errors)

    def joint_values(self, distances: Array, missing: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Convert one joint's distances (N,) to numbers in ``unit``; NaN where the joint does not count."""
        return np.where(missing, np.nan, distances.astype(np.float64))

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol for the signatures of its numbers."""
        root = ", ".join(self.root_joints(skeleton)) or "none"
        return Measure(
            metric=self.metric_name(),
            alignment=self.alignment,
            root=f"mean of {root}" if len(self.root_joints(skeleton)) > 1 else root,
            joints=joints_in_words(self.joints, skeleton),
            average=self.average,
            version=self.version,
        )

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """Compute one record per true pose. Columns ``joint/<name>`` hold the joint errors."""
        rows = self._answers(pred, truth)
        joints = self.joints or truth.skeleton.joints
        # the root is needed even where it is not evaluated
        needed = (*joints, *(root for root in self.root_joints(truth.skeleton) if root not in joints))
        joints_mm = self.true_joints(truth, needed, pred, rows)
        distances = self.joint_errors(pred.mapped(needed), joints_mm, rows, needed, truth.skeleton)
        distances = distances[:, : len(joints)]
        evaluated = np.flatnonzero(~np.isnan(np.fmax.reduce(distances, axis=1)))
        if len(evaluated) < len(truth):
            distances, truth = distances[evaluated], truth.take(evaluated)
        values = self.pose_values(distances)
        frame = pd.DataFrame(
            {
                **truth.columns,
                "error": np.where(np.isfinite(values), values, np.nan),
                "missing": self.missing(distances),
            }
        )
        columns = pd.DataFrame(
            distances.astype(np.float32, copy=False), columns=[JOINT_COLUMN + joint for joint in joints], copy=False
        )
        return pd.concat([frame, columns], axis=1)

    def strata(self, table: pd.DataFrame) -> pd.Series[Any] | None:
        """Actions of equal weight, if the number is their mean."""
        return table["action"] if self.average == "actions" else None

    def interval(self, estimates: NDArray[np.float64]) -> tuple[float, float] | None:
        """95 % CI; None for the mean of the worst subject, see ``average``."""
        return None if self.average == "worst_subject" else super().interval(estimates)

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action, subject and joint."""
        names = [column for column in table.columns if column.startswith(JOINT_COLUMN)]
        missing = table["missing"].to_numpy(dtype=bool)
        codes, ones = np.zeros(len(table), dtype=np.int64), np.ones((1, 1))
        joints = {
            name.removeprefix(JOINT_COLUMN): number_or_none(
                self.mean(self.joint_values(table[name].to_numpy(), missing), table, codes, ones)[0]
            )
            for name in names
        }
        return {**super().breakdown(table), "joint": joints}

    def mean(
        self,
        values: NDArray[np.float64],
        table: pd.DataFrame,
        codes: NDArray[np.integer],
        multiplicity: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Mean of values of the records; see :class:`Protocol`."""
        if self.average == "worst_subject":
            subjects = pd.factorize(table["subject"])[0]
            worst = bootstrap.extreme(values, codes, multiplicity, subjects, largest=self.lower_is_better)
            # A method that leaves a subject out altogether would choose which one is not its worst.
            left_out = (table["missing"].to_numpy(dtype=bool) & np.isnan(values)).astype(np.float64)
            share = bootstrap.means(left_out, codes, multiplicity, subjects)
            return np.where(np.any(share == 1, axis=1), np.nan, worst)
        return super().mean(values, table, codes, multiplicity)

    def _answers(self, pred: PoseTable, truth: TruthTable) -> Rows:
        """Index in ``pred`` of the prediction for each true pose, (N,); -1 if missing."""
        rows = one_answer_each(pred, truth)
        self.in_frame(pred)
        return rows


def one_answer_each(pred: PoseTable, truth: TruthTable) -> Rows:
    """Index in ``pred`` of the prediction for each true pose, (N,); -1 if missing.

    Raises:
        InputError: samples have several people, or a predicted key repeats or is not in the split.
    """
    place = positions(pred, truth.split_keys)
    if truth.person.any():
        raise InputError(
            f"{truth.dataset}: {truth.split}", "samples have several people", "use a protocol that matches people"
        )
    answer = np.full(len(truth.split_keys), -1, dtype=np.int64)
    answer[place] = np.arange(len(pred))
    repeated = answer[place] != np.arange(len(pred))
    if repeated.any():
        raise InputError(
            f"{pred.source}: key",
            f"{int(repeated.sum())} records repeat a key, first {pred.keys[int(np.argmax(repeated))]!r}",
            "write one person per sample, or choose a table of several people",
        )
    return np.asarray(answer[truth.place])
