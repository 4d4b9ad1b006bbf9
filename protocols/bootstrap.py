"""Intervals by the bootstrap over groups (subject × sequence), never over frames.

Neighbouring frames of a recording err alike, so frames are no independent draws; recordings are (Davison & Hinkley,
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


def interval(estimates: Array, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of the resamples' estimates; None where none of them has a value."""
    finite = estimates[np.isfinite(estimates)]
    if not finite.size:
        return None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def interval_of_extreme(value: float, estimates: Array, level: float = LEVEL) -> tuple[float, float] | None:
    """Interval of the largest or smallest of several means: the percentiles, moved against the bias of resampling.

    The largest of several noisy means is too large: noise lifts whichever mean it likes. Resampling adds noise of the
    same size once more. So the resamples lie above the number by about as much as the number lies above the truth, and
    the interval is moved down by twice the mean distance of the resamples from the number; of smallest means up.
    The number itself is left as it is, the largest mean that was measured.

    In simulations of 20 strata of three groups each it holds the true largest mean in 80 to 90 % of cases where strata
    differ, the percentiles as they are in 50 to 90 %. It is no 95 % interval: three groups say too little of a stratum.

    Args:
        value: the number.
        estimates: (R,) from :func:`extreme`, or of the difference of two such.
        level: of the interval.
    """
    percentiles = interval(estimates, level)
    if percentiles is None or not np.isfinite(value):
        return percentiles
    shift = 2 * (float(np.mean(estimates[np.isfinite(estimates)])) - value)
    return percentiles[0] - shift, percentiles[1] - shift


def ranks(estimates: Array, lower_is_better: bool = True) -> NDArray[np.int64]:
    """Place of each method under each resample: (M, R) -> (M, R), 1 is best, ties share the better place."""
    signed = estimates if lower_is_better else -estimates
    # ours is the place after all that are strictly better
    return np.array([1 + (signed < mine).sum(axis=0) for mine in signed], dtype=np.int64)


def _divide(numerator: Array, denominator: NDArray[np.generic]) -> Array:
    out = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0)
