"""Spread of bone lengths over a recording: bones are rigid, so their length should not change. Needs no ground truth.

The length of each bone is measured in every frame. Its spread is the coefficient of variation over the frames of a
person: standard deviation / mean, in percent. The score is the mean over bones, weighted by their length: the sum of
the standard deviations over the sum of the lengths. Without the weights, short bones such as those of the face would
dominate. Each person is weighted by the number of frames.

It reveals errors that change from frame to frame, but not constant errors such as a wrong unit of the calibration.
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
    """Mean over bones of the coefficient of variation of their length, weighted by length, percent.

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
        """Length of each bone, mm, and ``error``: the mean deviation from the person's median bone lengths."""
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
        """Mean over bones of the coefficient of variation (R,), for each row of ``multiplicity``."""
        spread_mm, length_mm = np.zeros(len(multiplicity)), np.zeros(len(multiplicity))
        for bone in _bones(table):
            deviation_mm, mean_mm = _deviation(table, bone, codes, multiplicity)
            known = np.isfinite(deviation_mm)
            spread_mm += np.where(known, deviation_mm, 0)
            length_mm += np.where(known, mean_mm, 0)
        return np.divide(100 * spread_mm, length_mm, out=np.full(len(length_mm), np.nan), where=length_mm > 0)

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action, subject and bone."""
        codes, ones = np.zeros(len(table), dtype=np.int64), np.ones((1, 1))
        bones = {}
        for name in _bones(table):
            deviation_mm, mean_mm = _deviation(table, name, codes, ones)
            bones[name.removeprefix(BONE_COLUMN)] = number_or_none(100 * float(deviation_mm[0]) / float(mean_mm[0]))
        return {**super().breakdown(table), "bone": bones}


def _deviation(table: pd.DataFrame, bone: str, codes: NDArray[np.integer], multiplicity: Array) -> tuple[Array, Array]:
    """Standard deviation and mean of a bone's length (R,), mm, mean over people by their number of frames."""
    lengths_mm = table[bone].to_numpy(dtype=np.float64)
    known = np.isfinite(lengths_mm)
    nothing = np.full(len(multiplicity), np.nan)
    if not known.any():
        return nothing, nothing
    people = pd.factorize(table["track"][known])[0]
    means = bootstrap.means(lengths_mm[known], codes[known], multiplicity, people)
    squares = bootstrap.means(lengths_mm[known] ** 2, codes[known], multiplicity, people)
    deviations = np.sqrt(np.maximum(squares - means**2, 0))
    frames = np.bincount(people) * np.isfinite(means)
    total = frames.sum(axis=1)
    deviation, mean = (
        np.divide((np.nan_to_num(values) * frames).sum(axis=1), total, out=nothing.copy(), where=total > 0)
        for values in (deviations, means)
    )
    return deviation, mean


def _bones(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if name.startswith(BONE_COLUMN)]
