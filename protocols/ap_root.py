"""Average precision and recall of roots.

AP_25 of MuPoTS-3D is the AP at 250 mm (RootNet, Moon et al., ICCV 2019). The published rule has quirks that move the
number, so there are two signatures; :mod:`poseboard.protocols.average_precision` describes both. Recall is the share of
true people with a matched root; false predictions do not change it.

Predictions in an image without annotated people cannot be judged and are ignored; the published rule also ignores
those in an image without people. ``unjudged`` counts them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.protocols.average_precision import match, match_published
from poseboard.protocols.base import TruthTable
from poseboard.protocols.camera_frame import People, gather
from poseboard.protocols.found_people import FoundPeople
from poseboard.protocols.pairing import Index
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Measure

_RULES = {
    "sound": "each person matched once, highest precision at each recall",
    "published": "nearest person even if taken, first point of the curve left out",
}


class ApRoot(FoundPeople):
    """Average precision or recall of roots, percent.

    Args:
        rule: "sound", or "published" (compat).
        report: "ap", or "recall": the share of annotated people that are matched; only by the sound rule.
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
        """True: only the root is judged."""
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

    def match(self, pred: PoseTable, truth: TruthTable) -> tuple[People, Index]:
        """Return the people with a root, and the rows of annotated people."""
        people = gather(pred, truth, ROOT.joints)
        people = people.take_predicted(np.flatnonzero(np.isfinite(people.pred[:, 0]).all(axis=1)))
        return people, np.flatnonzero(np.isfinite(people.truth[:, 0]).all(axis=1))

    def records_of(self, matched: tuple[People, Index], pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """Compute the records, see `of_matches`. Predictions in images without annotated people are not judged."""
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
        return self.of_matches(replace(matches, judged=judged), people, annotated, pred, truth)

    @property
    def by_published_rule(self) -> bool:
        """Whether AP is computed by the published rule."""
        return self.rule == "published"
