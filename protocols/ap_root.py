"""Average precision and recall of roots.

AP_25 of MuPoTS-3D is that at 250 mm (RootNet, Moon et al., ICCV 2019). The published rule has quirks that move the
number, so there are two signatures; :mod:`poseboard.protocols.average_precision` describes both. Recall is the share of
true people with a matched root; false predictions do not change it.

Predictions in an image without annotated people cannot be judged and are ignored; the published rule also ignores
those in an image without people. ``unjudged`` counts them.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.protocols import bootstrap
from poseboard.protocols.average_precision import average_precision, match, match_published
from poseboard.protocols.base import Breakdown, TruthTable
from poseboard.protocols.camera_frame import People, gather
from poseboard.protocols.found_people import FoundPeople, precision_curve, records
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Curve, Measure

_RULES = {
    "sound": "each person matched once, highest precision at each recall",
    "published": "nearest person even if taken, first point of the curve left out",
}


class ApRoot(FoundPeople):
    """Percent.

    Args:
        rule: "sound", or "published" (compat).
        report: "ap", or "recall": the share of annotated people that are matched, by the sound rule.
        within_mm: a prediction can match a true root below this distance.
    """

    name: ClassVar[str] = "ap_root"
    version: ClassVar[int] = 1
    matched_by: ClassVar[tuple[str, ...]] = ()

    rule: Literal["sound", "published"] = "sound"
    report: Literal["ap", "recall"] = "ap"
    within_mm: float = Field(default=250, gt=0)

    @model_validator(mode="after")
    def _one_recall(self) -> Self:
        if self.report == "recall" and self.rule != "sound":
            raise ValueError("recall: is of the sound rule, nothing is published")
        return self

    @property
    def roots_suffice(self) -> bool:
        """They do."""
        return True

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol for the signatures of its numbers."""
        recall = self.report == "recall"
        name = "recall" if recall else "ap" if self.rule == "published" else "sound_ap"
        return Measure(
            metric=f"{name}_root@{self.within_mm:g}mm",
            alignment="none",
            root="none",
            joints=f"root of {skeleton.name}",
            average="each person matched once, share of people" if recall else _RULES[self.rule],
            version=self.version,
        )

    def match(self, pred: PoseTable, truth: TruthTable) -> tuple[People, NDArray[np.integer]]:
        """See :class:`MatchingProtocol`: people with a root, and rows of the annotated ones."""
        people = _with_root(gather(pred, truth, ROOT.joints))
        return people, np.flatnonzero(np.isfinite(people.truth[:, 0]).all(axis=1))

    def records_of(
        self, matched: tuple[People, NDArray[np.integer]], pred: PoseTable, truth: TruthTable
    ) -> pd.DataFrame:
        """See :class:`MatchingProtocol`; a row per predicted person, and per true person that is not found.

        ``error`` is 100 for one that is found, else 0; ``distance_mm`` is to the nearest person. A predicted person
        without a root is ignored.
        """
        people, annotated = matched
        score = pred.score[people.pred_row]
        match_roots = match_published if self.rule == "published" else match
        matches = match_roots(
            people.pred[:, 0],
            people.pred_place,
            score,
            people.truth[annotated, 0],
            people.truth_place[annotated],
            self.within_mm,
        )
        unannotated = np.zeros(len(truth.split_keys), dtype=bool)
        unannotated[people.truth_place] = True
        unannotated[people.truth_place[annotated]] = False
        judged = matches.judged & ~unannotated[people.pred_place]
        found = np.append(annotated, -1)[matches.truth]
        table = records(pred, truth, people, found)
        unjudged = np.zeros(len(table), dtype=bool)
        unjudged[: len(judged)] = ~judged
        distance = np.full(len(table), np.nan)
        distance[: len(judged)] = matches.distance_mm
        return table.drop(columns="truth").assign(
            false=table["false"] & ~unjudged,
            unjudged=unjudged,
            distance_mm=distance,
            error=np.where(unjudged, np.nan, np.where(table["missing"] | table["false"], 0.0, 100.0)),
        )

    def estimate(
        self, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Number under each row of ``multiplicity``, (R,); see :class:`Protocol`."""
        false, missing, unjudged = (table[name].to_numpy(dtype=bool) for name in ("false", "missing", "unjudged"))
        true = ~(false | unjudged)
        if self.report == "recall":
            return bootstrap.ratio(np.where(missing, 0.0, 100.0)[true], codes[true], multiplicity)
        of_groups = np.bincount(codes[true], minlength=multiplicity.shape[1]).astype(np.float64)
        predicted = ~(missing | unjudged)
        return 100 * average_precision(
            ~false[predicted],
            table["score"].to_numpy(dtype=np.float64)[predicted],
            codes[predicted],
            of_groups,
            multiplicity,
            published=self.rule == "published",
        )

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Also the recall, and the precision of all that was predicted."""
        return {**super().breakdown(table), "reading": self.readings(table)}

    def curves(self, table: pd.DataFrame) -> dict[str, Curve]:
        """Precision over recall, at every hundredth of the recall; nothing beyond the highest recall."""
        return precision_curve(table)


def _with_root(people: People) -> People:
    """Remove predicted people without a root."""
    return people.take_predicted(np.flatnonzero(np.isfinite(people.pred[:, 0]).all(axis=1)))
