"""Base class of the protocols that match predicted people to true ones."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.protocols import bootstrap
from poseboard.protocols.average_precision import Matches, average_precision
from poseboard.protocols.base import Breakdown, MatchingProtocol, TruthTable
from poseboard.protocols.camera_frame import People
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Curve


class FoundPeople(MatchingProtocol):
    """Base class: predicted people are matched, false or unjudged; true people are matched or missed.

    Args:
        report: "ap"; "mpjpe": the mean error of the matched people; "recall": the share of matched people.
    """

    records: ClassVar[Literal["truth", "predicted"]] = "predicted"
    paired_on: ClassVar[Literal["person", "sample"]] = "sample"
    several_people: ClassVar[bool] = True
    any_frame: ClassVar[bool] = True

    report: Literal["ap", "mpjpe", "recall"] = "ap"

    @property
    def unit(self) -> str:
        """Percent, or mm for the mean error."""
        return "mm" if self.report == "mpjpe" else "%"

    @property
    def lower_is_better(self) -> bool:
        """True for the mean error."""
        return self.report == "mpjpe"

    def of_matches(
        self, matches: Matches, people: People, annotated: NDArray[np.int64], pred: PoseTable, truth: TruthTable
    ) -> pd.DataFrame:
        """Records of predicted people in the order of the file, then of missed annotated people.

        For AP and recall, ``error`` is 100 for a matched person and 0 otherwise. For the MPJPE, ``error`` is the
        distance of a matched person. Further columns: ``score`` (NaN for missed people), ``unjudged`` and
        ``distance_mm``, the distance to the nearest true person.

        Args:
            matches: matches of the N predicted people; true people are indices into ``annotated``.
            people: predicted and true people in one frame.
            annotated: rows of ``truth`` that could be matched.
            pred: predictions of the split.
            truth: true people that the table evaluates.
        """
        if truth.groups is None:
            raise ValueError("the truth does not say to which group a sample belongs")
        missed = np.delete(annotated, matches.truth[matches.correct])
        place = np.concatenate([people.pred_place, people.truth_place[missed]])
        nothing, missing = np.zeros(len(missed), dtype=bool), np.arange(len(place)) >= len(people.pred)
        false = np.concatenate([~matches.correct & matches.judged, nothing])
        unjudged = np.concatenate([~matches.judged, nothing])
        distance_mm = np.where(np.isfinite(matches.distance_mm), matches.distance_mm, np.nan)
        nearest = np.concatenate([distance_mm, np.full(len(missed), np.nan)])
        error = np.where(false | missing, np.nan, nearest)
        if self.report != "mpjpe":
            error = np.where(false | missing, 0.0, 100.0)
        return pd.DataFrame(
            {
                "key": pd.Series(truth.split_keys[place], dtype=object),
                "person": np.concatenate([pred.person[people.pred_row], truth.person[missed]]),
                **{name: truth.groups[name].take(place) for name in ("subject", "action", "sequence")},
                "score": np.concatenate([pred.score[people.pred_row].astype(np.float64), np.full(len(missed), np.nan)]),
                "false": false,
                "missing": missing,
                "unjudged": unjudged,
                "distance_mm": nearest,
                "error": np.where(unjudged, np.nan, error),
            }
        )

    def estimate(
        self, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Score (R,) for each row of ``multiplicity``: AP, recall or MPJPE."""
        if self.report == "mpjpe":
            return super().estimate(table, codes, multiplicity)
        false, missing, unjudged = (table[name].to_numpy(dtype=bool) for name in ("false", "missing", "unjudged"))
        true, predicted = ~(false | unjudged), ~(missing | unjudged)
        if self.report == "recall":
            return bootstrap.ratio(np.where(missing, 0.0, 100.0)[true], codes[true], multiplicity)
        return 100 * average_precision(
            ~false[predicted],
            table["score"].to_numpy(dtype=np.float64)[predicted],
            codes[predicted],
            np.bincount(codes[true], minlength=multiplicity.shape[1]).astype(np.float64),
            multiplicity,
            published=self.by_published_rule,
        )

    @property
    def by_published_rule(self) -> bool:
        """Whether AP is the area that the release of MuPoTS-3D computes; see `average_precision`."""
        return False

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action and subject (None without people), and recall and precision of all predictions, percent."""
        by_field = {
            field: {**dict.fromkeys(map(str, table[field].cat.categories)), **of_field}
            for field, of_field in super().breakdown(table).items()
        }
        false, missing, unjudged = (int(table[name].sum()) for name in ("false", "missing", "unjudged"))
        found = len(table) - false - missing - unjudged
        reading = {
            "recall": 100 * found / (found + missing) if found + missing else None,
            "precision": 100 * found / (found + false) if found + false else None,
        }
        return {**by_field, "reading": reading}

    def curves(self, table: pd.DataFrame) -> dict[str, Curve]:
        """Precision over recall, at every hundredth of the recall; nothing beyond the highest recall."""
        predicted = table[~(table["missing"] | table["unjudged"])]
        people = int((~(table["false"] | table["unjudged"])).sum())
        falling = predicted.sort_values("score", ascending=False, kind="stable")
        right = (~falling["false"]).to_numpy().cumsum()
        if not people or not len(falling):
            return {}
        precision = right / np.arange(1, len(right) + 1)
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        levels = np.arange(101) / 100
        place = np.searchsorted(right / people, levels - 1e-12, side="left")
        y = [float(highest[p]) * 100 if p < len(highest) else None for p in place.tolist()]
        x = [float(level) * 100 for level in levels]
        return {"precision": Curve(x=x, y=y, x_label="recall (%)", y_label="precision (%)")}
