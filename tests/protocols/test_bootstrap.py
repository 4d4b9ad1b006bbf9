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
    default = bootstrap.draws(3)
    assert (default == bootstrap.draws(3, bootstrap.RESAMPLES, bootstrap.SEED)).all()
    assert (default.shape, default.dtype) == ((bootstrap.RESAMPLES, 3), np.float64)
    assert default is bootstrap.draws(3)
    with pytest.raises(ValueError, match="read-only"):
        default[0, 0] = 1


def test_every_group_is_drawn_equally_often() -> None:
    mean = bootstrap.draws(4, 4000, seed=0).mean(axis=0)
    assert np.abs(mean - 1).max() < 0.06  # four standard errors


def test_means_of_strata_and_the_largest_and_smallest_of_them() -> None:
    values = np.array([1.0, 3, 8, np.nan, 6, 20])
    codes, strata = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 3])
    multiplicity = np.array([[1.0, 1, 1], [0, 2, 0], [2, 1, 0], [0, 0, 0]])
    expected = [[4, 6, np.nan, 20], [8, np.nan, np.nan, np.nan], [(2 * 4 + 8) / 5, *[np.nan] * 3], [np.nan] * 4]
    np.testing.assert_allclose(bootstrap.means(values, codes, multiplicity, strata), expected)
    np.testing.assert_allclose(bootstrap.means(values, codes, multiplicity)[:, 0], [38 / 5, 8, (2 * 4 + 8) / 5, np.nan])
    largest = bootstrap.extreme(values, codes, multiplicity, strata, largest=True)
    np.testing.assert_allclose(largest, [20, 8, 3.2, np.nan])
    smallest = bootstrap.extreme(values, codes, multiplicity, strata, largest=False)
    np.testing.assert_allclose(smallest, [4, 8, 3.2, np.nan])
    few = bootstrap.means(values, codes, multiplicity, strata.astype(np.int8) * 40)  # cells exceed int8
    assert few.shape == (4, 121)
    np.testing.assert_allclose(few[:, [0, 40, 120]], np.array(expected)[:, [0, 1, 3]])
    assert bootstrap.means(values[:0], codes[:0], multiplicity, strata[:0]).shape == (4, 1)


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.9, 1.0])
def test_a_quantile_is_the_smallest_value_with_its_share_of_the_weight(share: float) -> None:
    rng = np.random.default_rng(0)
    values, codes = rng.integers(0, 20, 50).astype(float), rng.integers(0, 5, 50)
    values[::9] = np.nan
    multiplicity = np.concatenate([bootstrap.draws(5, 20, seed=2), np.zeros((1, 5)), 0.1 * np.ones((1, 5))])
    found = bootstrap.quantile(values, codes, multiplicity, share)
    assert np.isnan(found[20])
    for row, of_row in zip(multiplicity[[*range(20), 21]], found[[*range(20), 21]], strict=True):
        weight = row[codes] * np.isfinite(values)
        enough = [v for v in values if weight[values <= v].sum() >= share * weight.sum() * (1 - 1e-12)]
        assert of_row == min(enough)
    assert found.dtype == np.float64
    light = np.array([[0.1, 0.0], [0.0, 0.1], [0.0, 0.0]])
    np.testing.assert_array_equal(bootstrap.quantile(np.array([4.0]), np.array([1]), light, share), [np.nan, 4, np.nan])
    of_two = bootstrap.quantile(np.array([5.0, 4]), np.array([0, 1]), light, share)
    np.testing.assert_array_equal(of_two, [5, 4, np.nan])
    nothing = bootstrap.quantile(np.full(3, np.nan), codes[:3], multiplicity, share)
    assert (nothing.shape, np.isnan(nothing).all()) == ((22,), True)


def test_quantiles_of_many_values_and_resamples_are_computed_in_blocks() -> None:
    rng = np.random.default_rng(1)
    values, codes = rng.normal(size=30_000), rng.integers(0, 5, 30_000)
    multiplicity = bootstrap.draws(5, 340, seed=3)
    found = bootstrap.quantile(values, codes, multiplicity, 0.5)
    for k in (0, 169, 170, 339):
        assert found[k] == np.quantile(
            np.repeat(values, multiplicity[k][codes].astype(int)), 0.5, method="inverted_cdf"
        )


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
    assert bootstrap.interval(np.array([np.nan, *np.arange(101.0)]), level=0.5) == pytest.approx((25, 75))


def test_ranks() -> None:
    estimates = np.array([[1.0, 1.0, 3.0, 2.0], [2.0, 1.0, 2.0, 1.0], [9.0, 9.0, 9.0, 9.0]])
    assert bootstrap.ranks(estimates).tolist() == [[1, 1, 2, 2], [2, 1, 1, 1], [3, 3, 3, 3]]
    assert bootstrap.ranks(estimates, lower_is_better=False)[2].tolist() == [1, 1, 1, 1]
