"""Base class of the protocols that match predicted people to true ones."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.protocols.base import Breakdown, MatchingProtocol, TruthTable
from poseboard.protocols.camera_frame import People
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Curve


class FoundPeople(MatchingProtocol):
    """Predicted people are matched, false or unjudged; true people are matched or missed."""

    records: ClassVar[Literal["truth", "predicted"]] = "predicted"
    paired_on: ClassVar[Literal["person", "sample"]] = "sample"
    several_people: ClassVar[bool] = True
    any_frame: ClassVar[bool] = True
    is_share: ClassVar[bool] = True

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """By action and by subject; None for an entry without people."""
        return {
            field: {**dict.fromkeys(map(str, table[field].cat.categories)), **of_field}
            for field, of_field in super().breakdown(table).items()
        }

    @staticmethod
    def readings(table: pd.DataFrame) -> dict[str, float | None]:
        """Recall, and precision over all predictions, in percent; None without people."""
        false, missing, unjudged = (int(table[name].sum()) for name in ("false", "missing", "unjudged"))
        found = len(table) - false - missing - unjudged
        return {
            "recall": 100 * found / (found + missing) if found + missing else None,
            "precision": 100 * found / (found + false) if found + false else None,
        }


def precision_curve(table: pd.DataFrame) -> dict[str, Curve]:
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


def records(pred: PoseTable, truth: TruthTable, people: People, found: NDArray[np.integer]) -> pd.DataFrame:
    """One row per predicted person, in the order of the file, then one per annotated person that is missed.

    Args:
        pred: the predictions.
        truth: the people of the table.
        people: predicted and true people in one frame.
        found: (N,) row of ``truth`` that each predicted person was matched with, -1: none.

    Returns:
        key, person, subject, action, sequence, score (NaN of the missing), false, missing, truth (row, -1: none).
    """
    annotated = np.flatnonzero(np.any(np.isfinite(people.truth).all(axis=2), axis=1))
    was_found = np.zeros(len(people.truth), dtype=bool)
    was_found[found[found >= 0]] = True
    missed = annotated[~was_found[annotated]]
    place = np.concatenate([people.pred_place, people.truth_place[missed]])
    groups = truth.groups
    if groups is None:
        raise ValueError("the truth does not say to which group a sample belongs")
    return pd.DataFrame(
        {
            "key": pd.Series(truth.split_keys[place], dtype=object),
            "person": np.concatenate([pred.person[people.pred_row], truth.person[missed]]),
            **{name: groups[name].take(place) for name in ("subject", "action", "sequence")},
            "score": np.concatenate([pred.score[people.pred_row].astype(np.float64), np.full(len(missed), np.nan)]),
            "false": np.concatenate([found < 0, np.zeros(len(missed), dtype=bool)]),
            "missing": np.concatenate([np.zeros(len(found), dtype=bool), np.ones(len(missed), dtype=bool)]),
            "truth": np.concatenate([found, missed]),
        }
    )
