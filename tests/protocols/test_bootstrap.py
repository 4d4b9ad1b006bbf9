"""Intervals: right on average, by groups, paired where asked for."""

import numpy as np
import pytest
from scipy.stats import norm

from poseboard.protocols import bootstrap


def test_ratio_is_the_mean_of_the_rows_it_names() -> None:
    """Multiplicities do what repeating the rows would do, for frames and for strata."""
    rng = np.random.default_rng(0)
    codes, strata = rng.integers(0, 6, 200), rng.integers(0, 3, 200)
    values = rng.normal(size=200)
    values[::7] = np.nan
    multiplicity = bootstrap.draws(6, 20, seed=1)
    frames = bootstrap.ratio(values, codes, multiplicity)
    actions = bootstrap.ratio(values, codes, multiplicity, strata)
    for k, row in enumerate(multiplicity):
        again = np.concatenate([np.repeat(np.flatnonzero(codes == g), int(row[g])) for g in range(6)])
        assert frames[k] == pytest.approx(np.nanmean(values[again]))
        assert actions[k] == pytest.approx(np.mean([np.nanmean(values[again][strata[again] == s]) for s in range(3)]))
    assert bootstrap.ratio(values, codes, np.ones((1, 6)))[0] == pytest.approx(np.nanmean(values))


def test_a_stratum_that_is_not_drawn_is_left_out() -> None:
    found = bootstrap.ratio(np.array([1.0, 5.0]), np.array([0, 1]), np.array([[2.0, 0.0]]), np.array([0, 1]))
    assert found.tolist() == [1.0]
    assert np.isnan(bootstrap.ratio(np.array([np.nan]), np.array([0]), np.ones((1, 1))))[0]
    assert np.isnan(bootstrap.ratio(np.array([]), np.array([], dtype=int), np.ones((1, 1))))[0]


def test_draws_are_resamples_and_repeat() -> None:
    first = bootstrap.draws(9, 500, seed=3)
    assert first.shape == (500, 9)
    assert (first.sum(axis=1) == 9).all()
    assert (first == bootstrap.draws(9, 500, seed=3)).all()
    assert (first != bootstrap.draws(9, 500, seed=4)).any()
    assert bootstrap.RESAMPLES >= 2000


def simulate(rng: np.random.Generator, groups: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Frames of recordings: the recording's level dominates, its frames say little more."""
    sizes = rng.integers(5, 40, groups)
    level = rng.normal(30, 5, groups)
    return np.repeat(level, sizes) + rng.normal(0, 1, sizes.sum()), np.repeat(np.arange(groups), sizes)


def test_coverage_over_groups_and_not_over_frames() -> None:
    rng = np.random.default_rng(7)
    by_group, by_frame, trials = 0, 0, 200
    for _ in range(trials):
        values, codes = simulate(rng)
        low, high = bootstrap.interval(bootstrap.ratio(values, codes, bootstrap.draws(30, 600))) or (0, 0)
        by_group += low <= 30 <= high
        half = norm.ppf(0.975) * values.std() / np.sqrt(len(values))
        by_frame += abs(values.mean() - 30) <= half
    assert 0.86 <= by_group / trials <= 0.99
    assert by_frame / trials < 0.6, "frames as independent draws would be far too sure"


def test_paired_interval_is_narrower() -> None:
    rng = np.random.default_rng(2)
    a, codes = simulate(rng)
    b = a + 1 + rng.normal(0, 0.5, len(a))
    same, other = bootstrap.draws(30, 3000, seed=1), bootstrap.draws(30, 3000, seed=2)
    paired = bootstrap.interval(bootstrap.ratio(a, codes, same) - bootstrap.ratio(b, codes, same))
    unpaired = bootstrap.interval(bootstrap.ratio(a, codes, same) - bootstrap.ratio(b, codes, other))
    assert paired is not None
    assert unpaired is not None
    assert paired[1] < 0, "the difference of 1 mm is found"
    assert unpaired[0] < 0 < unpaired[1]
    assert (paired[1] - paired[0]) * 5 < unpaired[1] - unpaired[0]


def test_interval_without_values() -> None:
    assert bootstrap.interval(np.array([np.nan, np.inf])) is None
    assert bootstrap.interval(np.arange(1001.0)) == pytest.approx((25, 975))


def test_ranks() -> None:
    estimates = np.array([[1.0, 1.0, 3.0, 2.0], [2.0, 1.0, 2.0, 1.0], [9.0, 9.0, 9.0, 9.0]])
    assert bootstrap.ranks(estimates).tolist() == [[1, 1, 2, 2], [2, 1, 1, 1], [3, 3, 3, 3]]
    assert bootstrap.ranks(estimates, lower_is_better=False)[2].tolist() == [1, 1, 1, 1]
