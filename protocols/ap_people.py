"""AP, MPJPE of the matched and recall of people in 3D, matched by the mean error of their joints.

The rule is that of VoxelPose (Tu et al., ECCV 2020; evaluate of lib/dataset/panoptic.py in its release), by which MvP,
MVGFormer and others are evaluated on CMU Panoptic:

* The distance between a predicted and a true person is the mean over the annotated joints, in the world, not aligned.
  A predicted person can match only the nearest true one of its frame.
* AP at a threshold: predicted people are sorted by falling score over all frames. A prediction is correct if its
  distance is below the threshold and no prediction with a higher score matched the same true person; else it is false.
  AP is the area under the curve of the highest precision at each recall or beyond.
* MPJPE: the mean distance of the correct predictions at 500 mm.
* Recall: the share of true people with a prediction below 500 mm.

So a true person is matched once, and a second prediction for it is false even if another person is within reach. AP_25
of MuPoTS-3D (:mod:`poseboard.protocols.ap_root`) is another number: of roots, at 250 mm, in one camera's frame.

The rule leaves some cases open. Among predictions of equal score the farthest comes first, so copies of a prediction
cannot lower the error. They form one point of the curve, so the order of the file does not matter. An annotated joint
that is not predicted is off by ``lacking_mm``, so that leaving out a joint gains nothing. A predicted person with less
than half of the joints of a true one is false. Predictions in frames without a true person are ignored, as in the
release (``unjudged`` counts them). The release adds 1e-5 to two counts that it divides by, which changes no printed
digit.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from poseboard.datasets.camera import Array
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols.average_precision import match_nearest
from poseboard.protocols.base import TruthTable, joints_in_words
from poseboard.protocols.camera_frame import People, gather
from poseboard.protocols.found_people import FoundPeople
from poseboard.protocols.pairing import Index, mean_distances
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Curve, Measure

_METRICS = {"ap": "ap_people", "mpjpe": "mpjpe_matched", "recall": "recall_people"}
_AVERAGES = {
    "ap": "each person matched once, highest precision at each recall",
    "mpjpe": "people found, each matched once",
    "recall": "each person matched once, share of people",
}


class ApPeople(FoundPeople):
    """AP or recall of predicted people, percent, or MPJPE of the matched people, mm.

    Args:
        report: "ap"; "mpjpe": the mean error of the matched people; "recall": the share of matched people.
        within_mm: a prediction can be correct below this mean distance of the joints.
        joints: names of the evaluated joints; None: all joints of the ground truth.
        lacking_mm: distance that counts for an annotated joint without a prediction.

    Example:
        >>> from poseboard.datasets.skeleton import COCO
        >>> ApPeople(report="mpjpe", within_mm=500).measure(COCO).metric
        'mpjpe_matched@500mm'
    """

    name: ClassVar[str] = "ap_people"
    version: ClassVar[int] = 2
    matched_by: ClassVar[tuple[str, ...]] = ("joints", "lacking_mm")

    within_mm: float = Field(default=25, gt=0)
    joints: tuple[str, ...] | None = Field(default=None, min_length=1)
    lacking_mm: float = Field(default=500, gt=0)

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol for the signatures of its numbers."""
        return Measure(
            metric=f"{_METRICS[self.report]}@{self.within_mm:g}mm",
            alignment="none",
            root="none",
            joints=joints_in_words(self.joints, skeleton),
            average=_AVERAGES[self.report],
            judged=f"the nearest person by the mean of the joints, {self.lacking_mm:g} mm for one not predicted, "
            "half of them predicted",
            version=self.version,
        )

    def match(self, pred: PoseTable, truth: TruthTable) -> tuple[People, Index, tuple[Index, Index, Array]]:
        """Return the people, the rows of annotated people, and the `mean_distances` of all pairs."""
        people = gather(pred, truth, self.joints or truth.skeleton.joints)
        people = people.take_predicted(np.flatnonzero(np.any(np.isfinite(people.pred).all(axis=2), axis=1)))
        annotated = np.flatnonzero(np.any(np.isfinite(people.truth).all(axis=2), axis=1))
        distances = mean_distances(
            people.pred, people.pred_place, people.truth[annotated], people.truth_place[annotated], self.lacking_mm
        )
        return people, annotated, distances

    def records_of(
        self, matched: tuple[People, Index, tuple[Index, Index, Array]], pred: PoseTable, truth: TruthTable
    ) -> pd.DataFrame:
        """Compute the records, see `of_matches`; ``distance_mm`` ignores pairs with less than half of the joints."""
        people, annotated, (p, t, distance) = matched
        matches = match_nearest(p, t, distance, pred.score[people.pred_row], len(annotated), self.within_mm)
        return self.of_matches(matches, people, annotated, pred, truth)

    def curves(self, table: pd.DataFrame) -> dict[str, Curve]:
        """Precision over recall, if the number is AP."""
        return super().curves(table) if self.report == "ap" else {}
