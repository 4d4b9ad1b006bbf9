"""Spread of bone lengths over a recording: bones are rigid, so their length should not change. Needs no ground truth.

The length of each bone is measured in every frame. Its spread is the coefficient of variation over the frames of a
person: standard deviation / mean, in percent. The number is the mean over bones, and over people by their frames.

It sees errors that change from frame to frame. It does not see errors that stay, such as a wrong unit of the
calibration.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.protocols import bootstrap
from poseboard.protocols.base import Breakdown, TruthTable, number_or_none
from poseboard.protocols.pairing import row_means
from poseboard.protocols.without_truth import Index, TrackedPeople

BONE_COLUMN = "bone/"
"""Prefix of the columns of bone lengths in mm."""


class BoneSpread(TrackedPeople):
    """Mean over bones of the coefficient of variation of their length, percent.

    Example:
        >>> BoneSpread().unit, BoneSpread().lower_is_better
        ('%', True)
    """

    name: ClassVar[str] = "bone_spread"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "bone-length CV"
    average: ClassVar[str] = "bones"
    error_unit: ClassVar[str] = "%"

    def values(self, joints_mm: Array, frame: Index, person: Index, truth: TruthTable) -> dict[str, Array]:
        """Length of each bone, and as ``error`` the mean deviation of a person's bones from their median lengths."""
        skeleton = truth.points["detected"].skeleton
        first, second = (skeleton.indices([edge[end] for edge in skeleton.edges]) for end in (0, 1))
        lengths_mm = np.linalg.norm(joints_mm[:, first] - joints_mm[:, second], axis=-1)
        medians_mm = pd.DataFrame(lengths_mm).groupby(person).transform("median").to_numpy()
        names = [f"{BONE_COLUMN}{a}-{b}" for a, b in skeleton.edges]
        columns = dict(zip(names, lengths_mm.T, strict=True))
        return {"error": 100 * row_means(np.abs(lengths_mm / medians_mm - 1)), "track": person.astype(float), **columns}

    def estimate(
        self, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Mean over bones of the coefficient of variation under each row of ``multiplicity``, (R,)."""
        spreads = [self._spread(table, name, codes, multiplicity) for name in _bones(table)]
        return row_means(np.array(spreads).T.reshape(len(multiplicity), -1))

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action, subject and bone."""
        codes, ones = np.zeros(len(table), dtype=np.int64), np.ones((1, 1))
        bones = {
            name.removeprefix(BONE_COLUMN): number_or_none(self._spread(table, name, codes, ones)[0])
            for name in _bones(table)
        }
        return {**super().breakdown(table), "bone": bones}

    @staticmethod
    def _spread(table: pd.DataFrame, bone: str, codes: NDArray[np.integer], multiplicity: Array) -> Array:
        """Coefficient of variation of one bone (R,), percent, mean over people by their number of frames."""
        lengths_mm = table[bone].to_numpy(dtype=np.float64)
        known = np.isfinite(lengths_mm)
        if not known.any():
            return np.full(len(multiplicity), np.nan)
        people = pd.factorize(table["track"][known])[0]
        means = bootstrap.means(lengths_mm[known], codes[known], multiplicity, people)
        squares = bootstrap.means(lengths_mm[known] ** 2, codes[known], multiplicity, people)
        spreads = 100 * np.sqrt(np.maximum(squares - means**2, 0)) / means
        frames = np.bincount(people) * np.isfinite(spreads)
        total = frames.sum(axis=1)
        return np.divide(
            (np.nan_to_num(spreads) * frames).sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0
        )


def _bones(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name.startswith(BONE_COLUMN)]
