"""Intervals by the bootstrap over groups (subject × sequence), never over frames.

Neighbouring frames of a recording err alike, so frames are not independent draws; recordings are (Davison & Hinkley,
Bootstrap Methods and their Application, section 3.8). A resample is a vector of multiplicities, how often each group
was drawn; an estimate under it is a ratio of weighted group sums, so no frame is touched again and all resamples are
one matrix product. Everything that is compared is estimated under the same resamples, which makes it paired.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.integer]

RESAMPLES = 4000
SEED = 20190828
LEVEL = 0.95


@lru_cache(maxsize=16)
def draws(groups: int, resamples: int = RESAMPLES, seed: int = SEED) -> Array:
    """Multiplicities (R, G) of ``groups`` groups drawn with replacement, the same for the same arguments; read-only."""
    rng = np.random.default_rng(seed)
    multiplicity = rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples).astype(np.float64)
    multiplicity.flags.writeable = False
    return multiplicity


def means(values: Array, codes: Codes, multiplicity: Array, strata: Codes | None = None) -> Array:
    """Mean of the values of each stratum under each resample, (R, S); NaN where a resample holds none of a stratum.

    Args:
        values: (N,) finite, or NaN where there is none (left out of sum and count).
        codes: (N,) group of each value, in [0, G).
        multiplicity: (R, G), from :func:`draws`; ones (1, G) give the estimate itself.
        strata: (N,) stratum (action, subject) of each value, in [0, S); None: all are of one.

    Example:
        >>> means(np.array([1.0, 3.0, 8.0]), np.array([0, 0, 1]), np.ones((1, 2)), np.array([0, 0, 1])).tolist()
        [[2.0, 8.0]]
    """
    groups = multiplicity.shape[1]
    number = 1 if strata is None or not strata.size else int(strata.max()) + 1
    cell = codes if strata is None else strata.astype(np.int64) * groups + codes
    there = ~np.isnan(values)
    if not there.all():
        cell, values = cell[there], values[there]
    sums = np.bincount(cell, weights=values, minlength=number * groups).reshape(number, groups)
    counts = np.bincount(cell, minlength=number * groups).reshape(number, groups)
    return _divide(multiplicity @ sums.T, multiplicity @ counts.T)


def ratio(values: Array, codes: Codes, multiplicity: Array, strata: Codes | None = None) -> Array:
    """Mean of the values under each resample, (R,); with strata the mean of their means, see :func:`means`.

    A stratum that a resample did not draw is left out of that resample's mean.

    Returns:
        (R,); NaN where a resample holds no value.
    """
    of_strata = means(values, codes, multiplicity, strata)
    drawn = ~np.isnan(of_strata)
    return _divide(np.where(drawn, of_strata, 0.0).sum(axis=1), drawn.sum(axis=1))


def extreme(values: Array, codes: Codes, multiplicity: Array, strata: Codes, *, largest: bool) -> Array:
    """The largest of the strata's means under each resample, or the smallest, (R,); see :func:`means`.

    A stratum that a resample did not draw is left out of it.

    Returns:
        (R,); NaN where a resample holds no value.
    """
    of_strata = means(values, codes, multiplicity, strata)
    return np.asarray((np.fmax if largest else np.fmin).reduce(of_strata, axis=1))


def quantile(values: Array, codes: Codes, multiplicity: Array, share: float) -> Array:
    """Quantile of the values under each resample, (R,): the smallest with at least ``share`` of the weight up to it.

    Args:
        values: (N,); NaN where there is none.
        codes: (N,) group of each value, in [0, G).
        multiplicity: (R, G), from :func:`draws`.
        share: in (0, 1]; 0.5 is the median.

    Returns:
        (R,); NaN where a resample holds no value.

    Example:
        >>> values, groups = np.array([3.0, 1.0, 2.0, np.nan]), np.array([0, 0, 1, 1])
        >>> quantile(values, groups, np.array([[1.0, 1.0], [0.0, 1.0]]), 0.5).tolist()
        [2.0, 2.0]
    """
    order = np.argsort(values, kind="stable")[: np.isfinite(values).sum()]
    if not order.size:
        return np.full(len(multiplicity), np.nan)
    ordered, groups = values[order], codes[order]
    quantiles = np.full(len(multiplicity), np.nan)
    for rows in np.array_split(np.arange(len(multiplicity)), -(-len(multiplicity) * order.size // 10**7)):
        weight = np.cumsum(multiplicity[rows][:, groups], axis=1)
        # The smallest value whose cumulative weight reaches the share, without rounding of equal sums.
        place = (weight < share * weight[:, -1:] - 1e-9).sum(axis=1)
        quantiles[rows] = np.where(weight[:, -1] > 0, ordered[np.minimum(place, order.size - 1)], np.nan)
    return quantiles


def interval(estimates: Array, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of the resamples' estimates; None where none of them has a value."""
    finite = estimates[np.isfinite(estimates)]
    if not finite.size:
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ranks(estimates: Array, lower_is_better: bool = True) -> NDArray[np.int64]:
    """Place of each method under each resample: (M, R) -> (M, R), 1 is best, ties share the better place."""
    signed = estimates if lower_is_better else -estimates
    # ours is the place after all that are strictly better
    return np.array([1 + (signed < mine).sum(axis=0) for mine in signed], dtype=np.int64)


def _divide(numerator: Array, denominator: NDArray[np.generic]) -> Array:
    out = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0)
