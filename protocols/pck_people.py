"""3D PCK of several people in the frame of one camera, as MuPoTS-3D has it (Mehta et al., 3DV 2018).

Four numbers go by this name, and literature confuses them: *absolute* (PCK_abs) compares joints where they are in the
camera's frame, *relative* (PCK_rel) each about its own root; and either counts *all* annotated people, of whom those
that nobody predicted have no right joint, or those *matched* alone, which leaves out whoever was hard to find. Each is
a signature of its own.

A predicted person is matched with a true one in the image: by how many joints lie within 40 px of each other along x
and along y. Pairs with more such joints come first, then those that are closer, so that the order of people decides
nothing (the release's Matlab code goes through the true people in the order of the file). A joint is right *strictly*
within the distance. The release offers to scale predictions to the true lengths of bones; that is not done here.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.protocols import bootstrap
from poseboard.protocols.average_precision import greedy, same_image
from poseboard.protocols.base import Breakdown, Protocol, TruthTable
from poseboard.protocols.camera_frame import gather, pixels
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Measure

Array = NDArray[np.float64]


def match_in_image(
    pred_px: Array, pred_image: NDArray[np.integer], truth_px: Array, truth_image: NDArray[np.integer], within_px: float
) -> NDArray[np.int64]:
    """The true person that each predicted one is matched with, (N,), -1: nobody.

    Args:
        pred_px: (N, J, 2); NaN = no point.
        pred_image: (N,).
        truth_px: (M, J, 2) likewise.
        truth_image: (M,).
        within_px: largest distance of a joint along either axis, itself too large.

    Example:
        >>> match_in_image(np.full((1, 2, 2), 9.0), np.zeros(1, int), np.zeros((1, 2, 2)), np.zeros(1, int), 10)
        array([0])
    """
    p, t = same_image(pred_image, truth_image)
    apart = np.abs(pred_px[p] - truth_px[t]).max(axis=2)
    near = apart < within_px  # not for NaN
    count = near.sum(axis=1)
    mean = np.where(near, apart, 0.0).sum(axis=1) / np.maximum(count, 1)
    order = np.lexsort((t, mean, -count))
    order = order[count[order] > 0]
    return greedy(p[order], t[order], len(pred_px), len(truth_px))


class PckPeople(Protocol):
    """Percent of joints that are right, mean over joints, then over people, or over sequences too.

    Args:
        relative: joints about their own root.
        people: "all" annotated ones, or those that were "matched".
        average: "frames": mean over people; "sequences": mean of the sequences' means, as MuPoTS-3D prints it.
        joints: names of those evaluated; None: all of the data set's. ("root",) is the root, whatever else is answered.
        threshold_mm: a joint is right below this distance.
        within_px: see `match_in_image`.
    """

    name: ClassVar[str] = "pck_people"
    version: ClassVar[int] = 1
    any_frame: ClassVar[bool] = True

    relative: bool = False
    people: Literal["all", "matched"] = "all"
    average: Literal["frames", "sequences"] = "frames"
    joints: tuple[str, ...] | None = Field(default=None, min_length=1)
    threshold_mm: float = Field(default=150, gt=0)
    within_px: float = Field(default=40, gt=0)

    @model_validator(mode="after")
    def _not_of_the_root_alone(self) -> Self:
        if self.relative and self.joints == ROOT.joints:
            raise ValueError("joints: a root about itself is always right")
        return self

    @property
    def unit(self) -> str:
        """Percent."""
        return "%"

    @property
    def lower_is_better(self) -> bool:
        """More is better."""
        return False

    @property
    def roots_suffice(self) -> bool:
        """Where the root alone is judged."""
        return self.joints == ROOT.joints

    def measure(self, skeleton: Skeleton) -> Measure:
        """See :class:`Protocol`."""
        joints = f"all {len(skeleton)} of {skeleton.name}"
        if self.joints is not None:
            joints = f"{len(self.joints)} of {skeleton.name}: {', '.join(self.joints)}"
        over = "people" if self.average == "frames" else "sequences"
        return Measure(
            metric=f"pck_{'rel' if self.relative else 'abs'}@{self.threshold_mm:g}mm",
            alignment="root, in the camera's frame" if self.relative else "none, in the camera's frame",
            root=", ".join(skeleton.root_joints) if self.relative else "none",
            joints=joints,
            average=f"{over}, {'all' if self.people == 'all' else 'matched ones only'}, matched within "
            f"{self.within_px:g} px",
            version=self.version,
        )

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """See :class:`Protocol`; a row per annotated person, ``missing`` where nobody was matched."""
        joints = self.joints or truth.skeleton.joints
        of_root = truth.skeleton.root_joints if self.relative else ()
        people = gather(pred, truth, (*joints, *(joint for joint in of_root if joint not in joints)))
        if people.view is None:
            raise InputError(
                f"{pred.source}: condition", f"{len(pred.info.condition.cameras)} cameras were seen", "show one"
            )
        points = [
            pixels(truth, people.view, joints_mm[:, : len(joints)], place)
            for joints_mm, place in ((people.pred, people.pred_place), (people.truth, people.truth_place))
        ]
        found = match_in_image(points[0], people.pred_place, points[1], people.truth_place, self.within_px)
        answer = np.full(len(truth), -1, dtype=np.int64)
        answer[found[found >= 0]] = np.flatnonzero(found >= 0)
        predicted = np.full(people.truth.shape, np.nan)
        predicted[answer >= 0] = people.pred[answer[answer >= 0]]
        true = people.truth
        if self.relative:
            all_joints = [*joints, *(joint for joint in of_root if joint not in joints)]
            root = [all_joints.index(joint) for joint in of_root]
            predicted = predicted - predicted[:, root].mean(axis=1, keepdims=True)
            true = true - true[:, root].mean(axis=1, keepdims=True)
        distance = np.linalg.norm(predicted - true, axis=2)[:, : len(joints)]
        evaluated = np.isfinite(true[:, : len(joints)]).all(axis=2)
        count = evaluated.sum(axis=1)
        right = (distance < self.threshold_mm) & evaluated  # not for NaN
        share = 100 * right.sum(axis=1) / np.maximum(count, 1)
        kept = np.flatnonzero(count > 0)
        missing = answer[kept] < 0
        rows = truth.take(kept)
        return pd.DataFrame(
            {
                "key": pd.Series(rows.keys, dtype=object),
                "person": rows.person,
                "subject": rows.subject,
                "action": rows.action,
                "sequence": rows.sequence,
                "error": np.where(missing & (self.people == "matched"), np.nan, share[kept]),
                "missing": missing,
            }
        )

    def estimate(
        self, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """See :class:`Protocol`."""
        strata = None if self.average == "frames" else pd.factorize(table["sequence"])[0]
        return bootstrap.ratio(table["error"].to_numpy(dtype=np.float64), codes, multiplicity, strata)

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """By action, subject and sequence; None for an action without a person."""
        of_all = super().breakdown(table)
        return {
            **of_all,
            "action": {**dict.fromkeys(map(str, table["action"].cat.categories)), **of_all["action"]},
            "sequence": self.by("sequence", table),
        }
