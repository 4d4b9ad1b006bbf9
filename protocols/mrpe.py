"""Mean root position error: distance of the predicted from the true root, in the frame of the input's camera.

RootNet (Moon et al., ICCV 2019) and its release: Euclidean distance, and the mean absolute error along each axis of the
camera (x right, y down, z depth). Nothing is aligned. The input has boxes of the people, and a prediction is compared
with the true person of the same number in the sample.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.protocols.base import Breakdown, MatchingProtocol, TruthTable, number_or_none
from poseboard.protocols.camera_frame import gather
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Measure

Array = NDArray[np.float64]

PARTS = ("all", "x", "y", "z")


def root_errors(pred: Array, truth: Array) -> Array:
    """Errors (N, 4) of roots: Euclidean distance, and absolute error along x, y and z, in the unit of the roots.

    Args:
        pred: (N, 3) predicted roots in the camera's frame; NaN = not predicted.
        truth: (N, 3) true roots in the camera's frame; NaN = not annotated.

    Example:
        >>> root_errors(np.array([[3.0, 0.0, 3004.0]]), np.array([[0.0, 0.0, 3000.0]])).tolist()
        [[5.0, 3.0, 0.0, 4.0]]
    """
    if pred.shape != truth.shape or pred.ndim != 2 or pred.shape[1] != 3:
        raise ValueError(f"roots need (N, 3) each, got {pred.shape} and {truth.shape}")
    parts = np.abs(pred.astype(np.float64) - truth.astype(np.float64))
    return np.concatenate([np.linalg.norm(parts, axis=1, keepdims=True), parts], axis=1)


class Mrpe(MatchingProtocol):
    """Mean root position error over people, or the mean over actions of each action's mean.

    Args:
        part: "all": the distance; "x", "y", "z": the absolute error along one axis.
        average: "frames": mean over all people; "actions": mean of the actions' means.
        in_metres: state the number in metres, like the published numbers of 3DPW.
    """

    name: ClassVar[str] = "mrpe"
    version: ClassVar[int] = 1
    any_frame: ClassVar[bool] = True
    matched_by: ClassVar[tuple[str, ...]] = ()

    part: Literal["all", "x", "y", "z"] = "all"
    average: Literal["frames", "actions"] = "frames"
    in_metres: bool = False

    @property
    def unit(self) -> str:
        """Unit of the number."""
        return "m" if self.in_metres else "mm"

    @property
    def roots_suffice(self) -> bool:
        """True: only the root is judged."""
        return True

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol for the signatures of its numbers."""
        return Measure(
            metric="mrpe" if self.part == "all" else f"mrpe_{self.part}",
            alignment="none, in the camera's frame",
            root="none",
            joints=f"root of {skeleton.name}",
            average=self.average,
            version=self.version,
        )

    def match(self, pred: PoseTable, truth: TruthTable) -> tuple[TruthTable, Array, str | None]:
        """Return the annotated people, their `root_errors` in mm, and the camera.

        Raises:
            InputError: numbers of people repeat within a sample.
        """
        people = gather(pred, truth, ROOT.joints)
        answer = pd.Series(np.arange(len(people.pred)), _of(people.pred_place, pred.person[people.pred_row]))
        if answer.index.has_duplicates:
            raise InputError(f"{pred.source}: person", "numbers repeat within a sample", "number people from 0")
        rows = answer.reindex(_of(people.truth_place, truth.person)).to_numpy(dtype=np.float64)
        found = np.full((len(truth), 3), np.nan)
        answered = np.flatnonzero(~np.isnan(rows))
        found[answered] = people.pred[rows[answered].astype(np.int64), 0]
        annotated = np.flatnonzero(np.isfinite(people.truth[:, 0]).all(axis=1))
        return truth.take(annotated), root_errors(found[annotated], people.truth[annotated, 0]), people.view

    def records_of(
        self, matched: tuple[TruthTable, Array, str | None], pred: PoseTable, truth: TruthTable
    ) -> pd.DataFrame:
        """Compute the records. Column ``all`` is the distance; ``x``, ``y`` and ``z`` are the errors along the axes.

        Raises:
            InputError: the score is along one axis, but the predictions use several cameras, whose axes differ.
        """
        truth, parts, view = matched
        if view is None and self.part != "all":
            raise InputError(
                f"{pred.source}: condition",
                f"{len(pred.info.condition.cameras)} cameras are in the input",
                "predict from one camera",
            )
        parts = parts / 1000 if self.in_metres else parts
        return pd.DataFrame(
            {
                **truth.columns,
                "error": parts[:, PARTS.index(self.part)],
                "missing": np.isnan(parts).any(axis=1),
                **{part: parts[:, i] for i, part in enumerate(PARTS)},
            }
        )

    def strata(self, table: pd.DataFrame) -> pd.Series[Any] | None:
        """Actions of equal weight, if the number is their mean."""
        return None if self.average == "frames" else table["action"]

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action (None without people), subject and part."""
        codes, ones = np.zeros(len(table), dtype=np.int64), np.ones((1, 1))
        of_all = super().breakdown(table)
        return {
            **of_all,
            "action": {**dict.fromkeys(map(str, table["action"].cat.categories)), **of_all["action"]},
            "part": {
                part: number_or_none(self.mean(table[part].to_numpy(dtype=np.float64), table, codes, ones)[0])
                for part in PARTS
            },
        }


def _of(place: NDArray[np.integer], person: NDArray[np.integer]) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([place, person])
