"""The area under the curve of a number against the severity of a perturbation, as one number.

Divided by the range of severities, it is in the unit of the number: its mean over the range, by the trapezoidal rule.
Rows of several severities have the column `SEVERITY`; where all rows lack it, the number is the protocol's own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.protocols.base import Breakdown, Protocol, number_or_none

SEVERITY = "severity"
"""Column of the rows of an area: the severity of each; NaN in rows of other numbers."""


def is_area(table: pd.DataFrame) -> bool:
    """Whether the rows are of several severities."""
    return SEVERITY in table and bool(table[SEVERITY].notna().any())


def estimate(
    protocol: Protocol, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The number under each row of ``multiplicity``, (R,), see `Protocol.estimate`; NaN where a severity has none."""
    if not is_area(table):
        return protocol.estimate(table, codes, multiplicity)
    severity = table[SEVERITY].to_numpy()
    levels = np.unique(severity)
    values = [protocol.estimate(table[severity == level], codes[severity == level], multiplicity) for level in levels]
    return _mean_height(np.array(values), levels)


def summarise(protocol: Protocol, table: pd.DataFrame) -> float | None:
    """The number of rows of one seed; None where nothing was predicted at some severity."""
    return number_or_none(estimate(protocol, table, np.zeros(len(table), dtype=np.int64), np.ones((1, 1)))[0])


def breakdown(protocol: Protocol, table: pd.DataFrame) -> Breakdown:
    """`Protocol.breakdown`, each entry as the area under its own curve."""
    if not is_area(table):
        return protocol.breakdown(table)
    severity = table[SEVERITY].to_numpy()
    levels = np.unique(severity)
    of_level = [protocol.breakdown(table[severity == level]) for level in levels]

    def area(field: str, name: str) -> float | None:
        numbers = [one[field].get(name) for one in of_level]
        values = np.array([np.nan if number is None else number for number in numbers])
        return number_or_none(_mean_height(values[:, None], levels)[0])

    return {field: {name: area(field, name) for name in entries} for field, entries in of_level[0].items()}


def _mean_height(values: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (S, R) at levels (S,) -> (R,)."""
    widths = np.diff(levels)[:, None]
    return np.asarray((widths * (values[1:] + values[:-1]) / 2).sum(axis=0) / (levels[-1] - levels[0]))
