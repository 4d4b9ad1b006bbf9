"""3D PCK of several people in the frame of one camera, as on MuPoTS-3D (Mehta et al., 3DV 2018).

Four numbers go by this name, and literature confuses them: *absolute* (PCK_abs) compares joints where they are in the
camera's frame, *relative* (PCK_rel) each about its own root. Either counts *all* annotated people, where every joint of
a missed person is wrong, or only *matched* people, which leaves out those who are hard to detect. Each has its own
signature.

A joint is correct *strictly* within the distance. Everything else differs between two rules:

* "sound": a predicted person is matched with a true one in the image by the number of joints that lie within 40 px of
  each other along x and along y. Pairs with more such joints come first, then closer pairs, so that the order of people
  does not matter. All predicted joints count.
* "published": the evaluation code that is released with MuPoTS-3D (Matlab; mpii_mupots_multiperson_eval and what it
  calls). True people choose in the order of the file: each takes, of the remaining predicted people, the first with the
  most joints within 40 px, among joints 2 to 14 of the file. Each bone of the prediction is scaled to its true
  length, from the pelvis outwards, its direction kept. The number is over the 14 joints of the groups of
  MPI-INF-3DHP: pelvis, spine and head do not count. The release prints it per sequence, papers their mean
  (``average: sequences``). The release compares with poses scaled to one height (univ_annot3). The JSON annotations
  lack these poses, so we compare with the poses in mm.

Read both with the predicted people per true person: false people cost nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.protocols.average_precision import greedy, same_image
from poseboard.protocols.base import Breakdown, MatchingProtocol, TruthTable, joints_in_words
from poseboard.protocols.camera_frame import People, gather, pixels
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Measure

Array = NDArray[np.float64]


JOINTS = (
    *("head_top", "thorax", "right_shoulder", "right_elbow", "right_wrist"),
    *("left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("pelvis", "spine", "head"),
)
"""Joints of MuPoTS-3D in the order of its files; the first 14 are evaluated by the published rule."""
_EVALUATED = 14
_PARENTS = {
    "spine": "pelvis", "thorax": "spine", "head_top": "thorax", "head": "thorax",
    "right_shoulder": "thorax", "right_elbow": "right_shoulder", "right_wrist": "right_elbow",
    "left_shoulder": "thorax", "left_elbow": "left_shoulder", "left_wrist": "left_elbow",
    "right_hip": "pelvis", "right_knee": "right_hip", "right_ankle": "right_knee",
    "left_hip": "pelvis", "left_knee": "left_hip", "left_ankle": "left_knee",
}  # fmt: skip
"""Child -> parent of each bone, from the pelvis outwards."""


def match_in_image(
    pred_px: Array, pred_image: NDArray[np.integer], truth_px: Array, truth_image: NDArray[np.integer], within_px: float
) -> NDArray[np.int64]:
    """Match predicted with true people in the image by the sound rule.

    Returns the index (N,) of the true person of each predicted person; -1 if unmatched.

    Args:
        pred_px: (N, J, 2) joints of predicted people; NaN = no point.
        pred_image: (N,) image of each predicted person.
        truth_px: (M, J, 2) joints of true people; NaN = no point.
        truth_image: (M,) image of each true person.
        within_px: a joint agrees if its distances along x and y are below this limit.

    Example:
        >>> match_in_image(np.full((1, 2, 2), 9.0), np.zeros(1, int), np.zeros((1, 2, 2)), np.zeros(1, int), 10)
        array([0])
    """
    p, t, apart = _apart_px(pred_px, pred_image, truth_px, truth_image)
    near = apart < within_px  # not for NaN
    count = near.sum(axis=1)
    mean = np.where(near, apart, 0.0).sum(axis=1) / np.maximum(count, 1)
    order = np.lexsort((t, mean, -count))
    order = order[count[order] > 0]
    return greedy(p[order], t[order], len(pred_px), len(truth_px))


def match_in_file_order(
    pred_px: Array, pred_image: NDArray[np.integer], truth_px: Array, truth_image: NDArray[np.integer], within_px: float
) -> NDArray[np.int64]:
    """Like `match_in_image`, by the published rule: each true person in turn takes the prediction with most joints.

    Example:
        >>> image, px = np.zeros(2, int), np.zeros((2, 1, 2))
        >>> match_in_file_order(px[:1] + 9, image[:1], px, image, 10)
        array([0])
    """
    p, t, apart = _apart_px(pred_px, pred_image, truth_px, truth_image)
    count = (apart < within_px).sum(axis=1)
    turn = pd.Series(truth_image).groupby(truth_image).cumcount().to_numpy()[t]
    order = np.lexsort((p, -count, t))
    order = order[count[order] > 0]
    matched = np.full(len(pred_px), -1, dtype=np.int64)
    for of_turn in range(int(turn.max(initial=-1)) + 1):
        left = order[(turn[order] == of_turn) & (matched[p[order]] < 0)]
        _, first = np.unique(t[left], return_index=True)  # of equal counts the first in the file
        matched[p[left[first]]] = t[left[first]]
    return matched


def with_true_bone_lengths(pred_mm: Array, truth_mm: Array) -> Array:
    """Poses (N, 17, 3) of `JOINTS` with the bone directions of ``pred_mm`` and the bone lengths of ``truth_mm``.

    The pelvis stays. A joint at the end of a bone without length is NaN, and so are the joints beyond it.
    """
    scaled = pred_mm.copy()
    for child, parent in _PARENTS.items():
        c, p = JOINTS.index(child), JOINTS.index(parent)
        bone, length_mm = pred_mm[:, c] - pred_mm[:, p], np.linalg.norm(truth_mm[:, c] - truth_mm[:, p], axis=1)
        own_mm = np.linalg.norm(bone, axis=1)
        factor = np.divide(length_mm, own_mm, out=np.full(len(bone), np.nan), where=own_mm > 0)
        scaled[:, c] = scaled[:, p] + bone * factor[:, None]
    return scaled


def _apart_px(
    pred_px: Array, pred_image: NDArray[np.integer], truth_px: Array, truth_image: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Pairs of `same_image`, and the larger of the distances along x and y of each joint, (K, J)."""
    p, t = same_image(pred_image, truth_image)
    return p, t, np.abs(pred_px[p] - truth_px[t]).max(axis=2)


class PckPeople(MatchingProtocol):
    """Percentage of correct joints: mean over joints, then over people, and optionally over sequences.

    Args:
        rule: "sound", or "published".
        relative: compare joints relative to each person's root.
        people: "all" annotated people, or only "matched" people.
        average: "frames": mean over people; "sequences": mean of the sequences' means, as MuPoTS-3D prints it.
        joints: names of the evaluated joints; None: all of the data set, or the 14 of the published rule. ("root",)
            evaluates only the root.
        threshold_mm: a joint is correct below this distance.
        within_px: see `match_in_image`.
    """

    name: ClassVar[str] = "pck_people"
    version: ClassVar[int] = 2
    several_people: ClassVar[bool] = True
    any_frame: ClassVar[bool] = True
    is_share: ClassVar[bool] = True
    matched_by: ClassVar[tuple[str, ...]] = ("rule", "joints", "within_px")

    rule: Literal["sound", "published"] = "sound"
    relative: bool = False
    people: Literal["all", "matched"] = "all"
    average: Literal["frames", "sequences"] = "frames"
    joints: tuple[str, ...] | None = Field(default=None, min_length=1)
    threshold_mm: float = Field(default=150, gt=0)
    within_px: float = Field(default=40, gt=0)

    @model_validator(mode="after")
    def _sensible_joints(self) -> Self:
        if self.relative and self.joints == ROOT.joints:
            raise ValueError("joints: a root about itself is always right")
        if self.rule == "published" and self.joints is not None:
            raise ValueError("joints: the published rule has its own")
        return self

    @property
    def roots_suffice(self) -> bool:
        """Whether only the root is evaluated."""
        return self.joints == ROOT.joints

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol for the signatures of its numbers."""
        evaluated = JOINTS[:_EVALUATED] if self.rule == "published" else self.joints
        alignment = "root, in the camera's frame" if self.relative else "none, in the camera's frame"
        judged = f"sound: most joints within {self.within_px:g} px in the image, then the closest"
        if self.rule == "published":
            alignment += ", bones scaled to their true lengths"
            joints_matched = f"most of {_EVALUATED - 1} joints within {self.within_px:g} px in the image"
            judged = f"published: true people in file order, {joints_matched}"
        over = "people" if self.average == "frames" else "sequences"
        return Measure(
            metric=f"pck_{'rel' if self.relative else 'abs'}@{self.threshold_mm:g}mm",
            alignment=alignment,
            root=", ".join(skeleton.root_joints) if self.relative else "none",
            joints=joints_in_words(evaluated, skeleton),
            average=f"{over}, {'all' if self.people == 'all' else 'matched ones only'}",
            judged=judged,
            version=self.version,
        )

    def match(self, pred: PoseTable, truth: TruthTable) -> tuple[People, tuple[str, ...], int, NDArray[np.int64]]:
        """Match people in the image, see :class:`MatchingProtocol`.

        Returns:
            The people; the names of their joints; the number of evaluated joints, which come first; and the index of
            the true person of each predicted person (-1: unmatched).
        """
        joints = self.joints or truth.skeleton.joints
        further = () if self.roots_suffice else truth.skeleton.root_joints
        matching, match = slice(None), match_in_image
        if self.rule == "published":
            if lacking := [name for name in JOINTS if name not in truth.skeleton.joints]:
                remedy = "use the sound rule: the published one is of MuPoTS-3D's joints"
                raise InputError(f"{truth.dataset}: truth", f"has no {lacking[0]}", remedy)
            joints, further = JOINTS[:_EVALUATED], JOINTS[_EVALUATED:]
            matching, match = slice(1, None), match_in_file_order
        names = (*joints, *(joint for joint in further if joint not in joints))
        people = gather(pred, truth, names)
        if people.view is None:
            raise InputError(
                f"{pred.source}: condition",
                f"{len(pred.info.condition.cameras)} cameras are in the input",
                "predict from one camera",
            )
        points = [
            pixels(truth, people.view, joints_mm[:, : len(joints)][:, matching], place)
            for joints_mm, place in ((people.pred, people.pred_place), (people.truth, people.truth_place))
        ]
        found = match(points[0], people.pred_place, points[1], people.truth_place, self.within_px)
        return people, names, len(joints), found

    def records_of(
        self,
        matched: tuple[People, tuple[str, ...], int, NDArray[np.int64]],
        pred: PoseTable,
        truth: TruthTable,
    ) -> pd.DataFrame:
        """One record per annotated person, ``missing`` if unmatched; see :class:`MatchingProtocol`."""
        people, names, joints, found = matched
        answer = np.full(len(truth), -1, dtype=np.int64)
        answer[found[found >= 0]] = np.flatnonzero(found >= 0)
        predicted = np.full(people.truth.shape, np.nan)
        predicted[answer >= 0] = people.pred[answer[answer >= 0]]
        true = people.truth
        if self.relative:
            root = [names.index(joint) for joint in truth.skeleton.root_joints]
            predicted = predicted - predicted[:, root].mean(axis=1, keepdims=True)
            true = true - true[:, root].mean(axis=1, keepdims=True)
        if self.rule == "published":
            predicted = with_true_bone_lengths(predicted, true)
        distance = np.linalg.norm(predicted - true, axis=2)[:, :joints]
        evaluated = np.isfinite(true[:, :joints]).all(axis=2)
        count = evaluated.sum(axis=1)
        right = (distance < self.threshold_mm) & evaluated  # not for NaN
        share = 100 * right.sum(axis=1) / np.maximum(count, 1)
        kept = np.flatnonzero(count > 0)
        missing = answer[kept] < 0
        return pd.DataFrame(
            {
                **truth.take(kept).columns,
                "error": np.where(missing & (self.people == "matched"), np.nan, share[kept]),
                "missing": missing,
            }
        )

    def strata(self, table: pd.DataFrame) -> pd.Series[Any] | None:
        """Sequences of equal weight, if the number is their mean."""
        return None if self.average == "frames" else table["sequence"]

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action, subject and sequence; None for an action without people."""
        of_all = super().breakdown(table)
        return {
            **of_all,
            "action": {**dict.fromkeys(map(str, table["action"].cat.categories)), **of_all["action"]},
            "sequence": self.by("sequence", table),
        }
