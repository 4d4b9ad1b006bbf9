"""Intervals by the bootstrap over groups (subject × sequence), never over frames.

Errors of neighbouring frames are correlated, so recordings are resampled and not frames (Davison & Hinkley, Bootstrap
Methods and their Application, section 3.8). A resample is a vector of multiplicities: how often each group was drawn.
An estimate is a ratio of weighted sums over groups, so all resamples are one matrix product. Methods are compared under
the same resamples, which makes the comparison paired.
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
    """Draw ``groups`` groups with replacement, R times: multiplicities (R, G), deterministic and read-only."""
    rng = np.random.default_rng(seed)
    multiplicity = rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples).astype(np.float64)
    multiplicity.flags.writeable = False
    return multiplicity


def means(values: Array, codes: Codes, multiplicity: Array, strata: Codes | None = None) -> Array:
    """Mean of each stratum in each resample, (R, S); NaN where a resample has no value of the stratum.

    Args:
        values: (N,) finite values; NaN values are ignored.
        codes: (N,) group of each value, in [0, G).
        multiplicity: (R, G) from :func:`draws`; ones (1, G) give the estimate itself.
        strata: (N,) stratum (action, subject) of each value, in [0, S); None: a single stratum.

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
    """Mean of the values in each resample; with strata, the mean of the strata's means, see :func:`means`.

    Strata without values in a resample are left out of its mean.

    Returns:
        Means (R,); NaN where a resample has no value.
    """
    of_strata = means(values, codes, multiplicity, strata)
    drawn = ~np.isnan(of_strata)
    return _divide(np.where(drawn, of_strata, 0.0).sum(axis=1), drawn.sum(axis=1))


def extreme(values: Array, codes: Codes, multiplicity: Array, strata: Codes, *, largest: bool) -> Array:
    """Largest or smallest mean of a stratum in each resample, see :func:`means`.

    Strata without values in a resample are ignored there.

    Returns:
        Means (R,); NaN where a resample has no value.
    """
    of_strata = means(values, codes, multiplicity, strata)
    return np.asarray((np.fmax if largest else np.fmin).reduce(of_strata, axis=1))


def quantile(values: Array, codes: Codes, multiplicity: Array, share: float) -> Array:
    """Quantile of the values in each resample: the smallest value with at least ``share`` of the weight up to it.

    Args:
        values: (N,) values; NaN values are ignored.
        codes: (N,) group of each value, in [0, G).
        multiplicity: (R, G) from :func:`draws`.
        share: share of the weight, in (0, 1]; 0.5 is the median.

    Returns:
        Quantiles (R,); NaN where a resample has no value.

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
        quantiles[rows] = np.where(weight[:, -1] > 0, ordered[place], np.nan)
    return quantiles


def interval(estimates: Array, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of bootstrap estimates (R,); None if all are NaN."""
    finite = estimates[np.isfinite(estimates)]
    if not finite.size:
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ranks(estimates: Array, lower_is_better: bool = True) -> NDArray[np.int64]:
    """Rank of each method in each resample, (M, R) from estimates (M, R): 1 is best, ties share the better rank."""
    signed = estimates if lower_is_better else -estimates
    # ours is the place after all that are strictly better
    return np.array([1 + (signed < mine).sum(axis=0) for mine in signed], dtype=np.int64)


def _divide(numerator: Array, denominator: NDArray[np.generic]) -> Array:
    out = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0)
