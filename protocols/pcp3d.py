"""3D PCP: percentage of correct limbs, the metric of Shelf and Campus (Belagiannis et al., CVPR 2014).

A limb is correct if the mean distance of its two ends from the true ones is at most ``alpha`` times its true length.
Ten limbs of the 14 annotated joints count: two lower and two upper arms, two lower and two upper legs, the head (chin
to top of the head) and the torso (middle of the hips to chin). An actor's number is over the frames in which the actor
is annotated; the number of a table is the mean of its actors' numbers, by convention the first three.

Predictions in COCO's joints are converted to the 14: twelve by their names, chin and top of the head by one of the two
published rules (``head``), both from the evaluation code of VoxelPose (github.com/microsoft/voxelpose-pytorch,
lib/dataset), where s is the middle of the shoulders, e the middle of the ears and n the nose:

* "ears", on Campus: chin = (s + e) / 2, top = chin + 2 (e - chin), which is 2 e - chin;
* "nose_and_ears", on Shelf: a quarter of the positions by "ears", plus three quarters of chin = s + (n - s) / 2 and
  top = s + (n - s) * (0.75, 0.75, 1.5) along x, y and z of the world, z up.

Predictions with the 14 joints are used unchanged.

There are two ways to match predicted people with actors (``rule``):

* "sound": one to one. A predicted person can match the nearest true one by the mean distance of the joints, within
  ``within_mm``, as in :mod:`poseboard.protocols.ap_people`. Of several predictions for one person the one with the
  highest score is matched; among equal scores, the farthest. So copies of a prediction gain nothing.
* "compat": the published conventions, which the number of predicted people can raise. In the evaluation of MVPose
  (github.com/zju3dv/mvpose, src/m_utils/evaluate.py) and of VoxelPose each actor is matched with the nearest predicted
  person by the mean distance of the 14 joints. Two actors can share a match. Without a prediction all limbs are wrong.
  Others pair people one to one and leave out actors without a prediction, which raises the number of a method that
  misses people: ``missed: dropped`` (issue 10 of github.com/zhangyux15/4d_association on its script).

False people cost nothing. Read the number with the predicted people per true person.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols.average_precision import match_nearest, same_image
from poseboard.protocols.base import Breakdown, Protocol, TruthTable, number_or_none
from poseboard.protocols.pairing import Index, assigned, mean_distances, row_means
from poseboard.protocols.predictions import LARGEST_MM, PoseTable, positions
from poseboard.protocols.records import Measure

LIMB_COLUMN = "limb/"
"""Prefix of the columns that say whether a limb is right: 1 or 0, NaN = not annotated."""
MIDDLE = "hips"
"""The middle of the hips, which no joint is."""

LIMBS = {
    "head": (("chin", "head_top"),),
    "torso": ((MIDDLE, "chin"),),
    "upper arms": (("right_shoulder", "right_elbow"), ("left_shoulder", "left_elbow")),
    "lower arms": (("right_elbow", "right_wrist"), ("left_elbow", "left_wrist")),
    "upper legs": (("right_hip", "right_knee"), ("left_hip", "left_knee")),
    "lower legs": (("right_knee", "right_ankle"), ("left_knee", "left_ankle")),
}
JOINTS = tuple(dict.fromkeys(end for limbs in LIMBS.values() for limb in limbs for end in limb if end != MIDDLE))
"""The 14 annotated joints, in the order of the limbs."""
_HEAD = ("chin", "head_top")
_OF_HEAD = ("left_shoulder", "right_shoulder", "left_ear", "right_ear", "nose")


class Pcp3d(Protocol):
    """Percentage of correct limbs: mean over an actor's frames, then over actors.

    Args:
        actors: numbers of the evaluated actors, from 0 in the data set's order.
        alpha: largest mean error of a limb's two ends, as a share of the limb's length.
        head: rule that computes chin and top of the head from COCO's joints.
        rule: matching of predicted and true people: "sound", or "compat" as published.
        missed: an actor without a prediction is "wrong" in every limb, or "dropped".
        within_mm: largest mean joint distance of a match by the sound rule, exclusive.

    Example:
        >>> from poseboard.datasets.skeleton import COCO
        >>> Pcp3d(rule="compat", missed="dropped").measure(COCO).judged
        'compat: people paired one to one, missed people dropped'
    """

    name: ClassVar[str] = "pcp3d"
    version: ClassVar[int] = 2
    several_people: ClassVar[bool] = True
    is_share: ClassVar[bool] = True

    actors: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    alpha: float = Field(default=0.5, gt=0)
    head: Literal["ears", "nose_and_ears"] = "ears"
    rule: Literal["sound", "compat"] = "sound"
    missed: Literal["wrong", "dropped"] = "wrong"
    within_mm: float = Field(default=500, gt=0)

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol for the signatures of its numbers."""
        made = self.head.replace("_", " ")
        people = f"sound: one to one by score, nearest person within {self.within_mm:g} mm"
        if self.rule == "compat":
            people = "compat: people paired one to one" if self.missed == "dropped" else "compat: the nearest person"
        return Measure(
            metric=f"pcp3d@{self.alpha:g}",
            alignment="none",
            root="none",
            joints=f"10 limbs of {len(JOINTS)} joints, the head from {made}",
            average=f"actors {', '.join(str(actor) for actor in self.actors)}",
            judged=f"{people}, missed people {self.missed}",
            version=self.version,
        )

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """One row per frame of an actor; ``error`` is the percentage of the actor's limbs that are correct.

        Further columns: ``limb/<group> <number>``.

        Raises:
            InputError: the truth or the predictions lack a joint, or poses are in a camera's frame.
        """
        self.in_frame(pred)
        if lacking := [name for name in JOINTS if name not in truth.skeleton.joints]:
            raise InputError(f"{truth.dataset}: truth", f"has no {lacking[0]}", "use this protocol for Shelf or Campus")
        place = positions(pred, truth.split_keys)
        truth = truth.take(np.flatnonzero(np.isfinite(truth.mapped(JOINTS)).all(axis=2).any(axis=1)))
        actors = np.flatnonzero(np.isin(truth.person, self.actors))
        true_mm, predicted_mm = truth.mapped(JOINTS).astype(np.float64), self._of_truth(pred)
        if self.rule == "sound":  # among all annotated people: another person's prediction is not one of an actor
            answer = self._by_score(predicted_mm, place, pred.score, true_mm, truth.place)[actors]
        else:
            answer = self._as_published(predicted_mm, place, true_mm[actors], truth.place[actors])
        truth, true_mm = truth.take(actors), true_mm[actors]
        missing_pose = np.full((1, len(JOINTS), 3), np.nan)
        right = self._right(np.concatenate([predicted_mm, missing_pose])[answer], true_mm)  # index -1: the appended NaN
        missing = answer < 0
        if self.missed == "dropped":
            right[missing] = np.nan
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        **truth.columns,
                        "error": 100 * row_means(right),
                        "missing": missing,
                    }
                ),
                pd.DataFrame(right.astype(np.float32), columns=_limb_columns()),
            ],
            axis=1,
        )

    def strata(self, table: pd.DataFrame) -> pd.Series[Any] | None:
        """Column of the actors, which have equal weight."""
        return table["person"]

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action, subject, actor and kind of limb."""
        codes, ones = np.zeros(len(table), dtype=np.int64), np.ones((1, 1))
        limbs = {}
        for kind in LIMBS:
            columns = [column for column in table.columns if column.startswith(f"{LIMB_COLUMN}{kind} ")]
            share = 100 * row_means(table[columns].to_numpy(dtype=np.float64))
            limbs[kind] = number_or_none(self.mean(share, table, codes, ones)[0])
        actors = {f"actor {actor}": value for actor, value in self.by("person", table).items()}
        return {**super().breakdown(table), "actor": actors, "limb": limbs}

    def _of_truth(self, pred: PoseTable) -> Array:
        """Convert predictions to the joints of the truth, (N, 14, 3) mm."""
        if set(JOINTS) <= set(pred.info.joints):
            return pred.mapped(JOINTS).astype(np.float64)
        limbs = tuple(name for name in JOINTS if name not in _HEAD)
        chin_and_top = _head(pred.mapped(_OF_HEAD).astype(np.float64), self.head)
        joined = np.concatenate([pred.mapped(limbs).astype(np.float64), chin_and_top], axis=1)
        return joined[:, [(*limbs, *_HEAD).index(name) for name in JOINTS]]

    def _by_score(
        self, predicted_mm: Array, place: Index, score: NDArray[np.floating], true_mm: Array, true_place: Index
    ) -> Index:
        """Match by the sound rule: row of ``predicted_mm`` for each true pose; -1 if unmatched."""
        there = np.flatnonzero(np.any(np.isfinite(predicted_mm).all(axis=2), axis=1))
        p, t, apart_mm = mean_distances(predicted_mm[there], place[there], true_mm, true_place, self.within_mm)
        matches = match_nearest(p, t, apart_mm, score[there], len(true_mm), self.within_mm)
        answer = np.full(len(true_mm), -1, dtype=np.int64)
        answer[matches.truth[matches.correct]] = there[matches.correct]
        return answer

    def _as_published(self, predicted_mm: Array, place: Index, true_mm: Array, true_place: Index) -> Index:
        """Match by the compat rule: row of ``predicted_mm`` for each true pose; -1 if unmatched."""
        first, second = same_image(true_place, place)
        cost = row_means(np.linalg.norm(predicted_mm[second] - true_mm[first], axis=-1))
        known = np.isfinite(cost)
        first, second, cost = first[known], second[known], cost[known]
        answer = np.full(len(true_mm), -1, dtype=np.int64)
        if self.missed == "dropped":
            pairs = assigned(first, second, cost, 10 * LARGEST_MM)
            answer[first[pairs]] = second[pairs]
        else:
            farthest_first = np.lexsort((-cost, first))
            answer[first[farthest_first]] = second[farthest_first]  # of several the last, the nearest, stays
        return answer

    def _right(self, predicted_mm: Array, true_mm: Array) -> Array:
        """Judge each limb, (N, 10): 1 correct, 0 wrong, NaN not annotated."""
        (from_mm, to_mm), (true_from_mm, true_to_mm) = _ends(predicted_mm), _ends(true_mm)
        off_mm = (np.linalg.norm(from_mm - true_from_mm, axis=-1) + np.linalg.norm(to_mm - true_to_mm, axis=-1)) / 2
        length_mm = np.linalg.norm(true_from_mm - true_to_mm, axis=-1)
        right = np.where(np.isfinite(off_mm) & (off_mm <= self.alpha * length_mm), 1.0, 0.0)
        return np.where(np.isfinite(length_mm), right, np.nan)


def _head(joints_mm: Array, rule: Literal["ears", "nose_and_ears"]) -> Array:
    """Compute chin and top of the head (N, 2, 3) from shoulders, ears and nose (N, 5, 3)."""
    shoulders, ears, nose = joints_mm[:, :2].mean(axis=1), joints_mm[:, 2:4].mean(axis=1), joints_mm[:, 4]
    chin = (shoulders + ears) / 2
    by_ears = np.stack([chin, 2 * ears - chin], axis=1)
    if rule == "ears":
        return by_ears
    shares = np.array([[0.5, 0.5, 0.5], [0.75, 0.75, 1.5]])
    by_nose = shoulders[:, None] + (nose - shoulders)[:, None] * shares
    return np.asarray(0.75 * by_nose + 0.25 * by_ears)


def _ends(joints_mm: Array) -> tuple[Array, Array]:
    """Both ends of the ten limbs, (N, 10, 3) each, from the 14 joints."""
    hips = joints_mm[:, [JOINTS.index("left_hip"), JOINTS.index("right_hip")]].mean(axis=1, keepdims=True)
    points, names = np.concatenate([joints_mm, hips], axis=1), (*JOINTS, MIDDLE)
    limbs = [limb for of_kind in LIMBS.values() for limb in of_kind]
    first, second = ([names.index(limb[end]) for limb in limbs] for end in (0, 1))
    return points[:, first], points[:, second]


def _limb_columns() -> list[str]:
    return [f"{LIMB_COLUMN}{kind} {number}" for kind, limbs in LIMBS.items() for number in range(len(limbs))]
