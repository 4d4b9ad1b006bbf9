"""Marks, by simulation: how often a table has a wrong one, and how often a difference as large as ours has one."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import scipy
from predicted import SIGNATURE
from scipy import stats

from poseboard.protocols import bootstrap, decisions
from poseboard.protocols.decisions import PairTest, Prior, judge, step_down
from poseboard.protocols.records import PairedDifference, Score, SeedValue, TableComparison

GROUPS, SEEDS = 30, 3
Array = np.ndarray


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch) -> None:
    """A p-value of k draws counts the observed one, so it is valid for any number of them."""
    monkeypatch.setattr(decisions, "DRAWS", 499)


def judged(values: Array, learned: set[str]) -> dict[tuple[str, str], bool]:
    """Marks of a table from numbers (seeds, rows, groups), by the bootstrap and the judgement of real tables."""
    names = [str(k) for k in range(values.shape[1])]
    means = values.mean(axis=2)
    of_groups = values.mean(axis=0).T
    resampled = bootstrap.draws(GROUPS, 1000) @ of_groups / GROUPS
    scores = {}
    for k, name in enumerate(names):
        scores[name] = Score(
            table="T1", title="t", protocol="p", signature=SIGNATURE, unit="mm", lower_is_better=True,
            value=means[:, k].mean(), ci95=(0, 1), n_samples=300, n_missing=0, n_left_out=0, n_groups=GROUPS,
            seeds=[SeedValue(seed=s, value=means[s, k]) for s in range(SEEDS if name in learned else 1)],
        )  # fmt: skip
    pairs = []
    for a, b in combinations(range(len(names)), 2):
        low, high = np.quantile(resampled[:, a] - resampled[:, b], [0.025, 0.975])
        pairs.append(
            PairedDifference(
                a=names[a], b=names[b], difference=float(means[:, a].mean() - means[:, b].mean()),
                ci95=(low, high), n_samples=300, n_groups=GROUPS,
            )
        )  # fmt: skip
    table = TableComparison(table="T1", signature=SIGNATURE, unit="mm", pairs=pairs, ranks=[])
    return {(pair.a, pair.b): bool(pair.decided) for pair in judge(table, scores, {}, learned).pairs}


def numbers(rng: np.random.Generator, means: Array, trainings: Array, between_groups: float) -> Array:
    """Numbers (seeds, rows, groups): all frames of a group err alike, recordings are hard for all rows, and skewed.

    Args:
        rng: of the draws.
        means: (rows,) expected numbers.
        trainings: (seeds, rows) what each training adds.
        between_groups: standard deviation between groups of what is hard for one row alone.
    """
    hard = rng.gamma(2.0, 5.0, GROUPS)
    of_rows = between_groups * rng.standard_t(8, (len(means), GROUPS))
    interaction = 0.3 * between_groups * rng.normal(size=(SEEDS, len(means), GROUPS))
    return means[:, None] + hard + of_rows + trainings[:, :, None] + interaction


SPREADS = np.array([0.0, 0.0, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0])
LOADINGS = np.array([0.0, 0.0, 0.2, 0.5, 0.6, 1.0, 1.2, -1.0])
NOTHING, SOMETHING = np.zeros(8), np.repeat([0.0, 25.0], 4)


def independent(rng: np.random.Generator) -> Array:
    return rng.normal(size=(SEEDS, 8)) * SPREADS


def one_backbone(rng: np.random.Generator) -> Array:
    """One cause moves all rows, each by its own amount."""
    return rng.normal(size=(SEEDS, 1)) * LOADINGS + 0.1 * rng.normal(size=(SEEDS, 8)) * (SPREADS > 0)


@pytest.mark.parametrize("trained", [independent, one_backbone])
def test_a_table_has_a_wrong_mark_in_at_most_5_percent(trained: Callable[[np.random.Generator], Array]) -> None:
    """Rows of unequal spread, two of them untrained: all equal or in two halves, trainings or recordings dominant."""
    rng = np.random.default_rng(17)
    learned = {str(k) for k in range(8) if SPREADS[k]}
    trials = wrong = missed = 0
    for means in (NOTHING, SOMETHING):
        for between_groups in (0.2, 3.0):
            for _ in range(250):
                marks = judged(numbers(rng, means, trained(rng), between_groups), learned)
                trials += 1
                wrong += any(mark for (a, b), mark in marks.items() if means[int(a)] == means[int(b)])
                missed += means is SOMETHING and not marks["0", "7"]
    assert wrong / trials <= 0.05
    assert stats.beta.ppf(0.95, wrong + 1, trials - wrong) <= 0.065
    assert missed / trials <= 0.02, "25 mm"


def test_holm_with_moderated_t_would_be_wrong_more_often() -> None:
    """Why marks do not use the prior: one backbone moves all pairs, so their variances are not as many as they look."""
    rng = np.random.default_rng(2)
    trials, wrong = 400, 0
    loadings = np.linspace(0, 2, 10)
    for _ in range(trials):
        values = rng.normal(size=(SEEDS, 1)) * loadings + 0.1 * rng.normal(size=(SEEDS, 10))
        differences = {(str(a), str(b)): values[:, a] - values[:, b] for a, b in combinations(range(10), 2)}
        variances = {pair: float(x.var(ddof=1)) for pair, x in differences.items()}
        logs = np.log([*variances.values()])
        half = decisions._trigamma_inverse(max(logs.var(ddof=1) - float(scipy.special.polygamma(1, 1)), 1e-5))
        prior = Prior(
            2 * half, float(np.exp(logs.mean() - scipy.special.digamma(1) + scipy.special.digamma(half) - np.log(half)))
        )
        sd = np.sqrt([prior.moderated(np.array(v), np.array(2)) / SEEDS for v in variances.values()])
        t = np.abs([x.mean() for x in differences.values()]) / sd
        wrong += 2 * stats.t.sf(t.max(), prior.degrees_of_freedom + 2) <= 0.05 / len(t)
    assert wrong / trials > 0.065


def test_a_difference_as_large_as_that_of_volumetric_and_dlt_is_decided() -> None:
    """-20.6, -16.7 and -16.5 mm in three trainings, [-25.8, -15.3] over sequences, in tables of ten rows."""
    rng = np.random.default_rng(9)
    trials, found = 60, 0
    means = np.array([0.0, 2.5, 3, 8, 10.6, 10.6, 11.5, 13.6, 15.5, 18])
    sd = np.array([1.1, 0.8, 0.1, 0.3, 0.4, 0.1, 1.3, 1.7, 0.6, 1.2])
    learned = {str(k) for k in range(10)}
    for _ in range(trials):
        # standard error over 30 groups of a difference: 2.7 mm
        values = numbers(rng, means, rng.normal(size=(SEEDS, 10)) * sd, 8.9)
        found += judged(values, learned)["0", "9"]
    assert found / trials >= 0.8


def test_trainings_that_agree_decide_and_the_groups_alone_do_too() -> None:
    def one(*trainings: float, groups_sd: float = 2.7) -> PairTest:
        seeds = dict(enumerate(trainings))
        return PairTest(("a", "b"), float(np.mean(trainings)) if trainings else -18.0, groups_sd, 60, seeds)

    assert step_down([one(-20.6, -16.7, -16.5)], None) == [True]
    assert step_down([one(-20.6, 3.7, -16.5)], None) == [False]
    assert step_down([one()], None) == [True]
    assert step_down([one(groups_sd=9.0)], None) == [False]
    assert step_down([], None) == []
    # one test of three seeds without groups is Student's t of two degrees of freedom
    t = stats.t.isf(decisions.SIZE / 2, 2)
    for factor, expected in ((1.4, True), (0.7, False)):
        centre = factor * t / np.sqrt(3)
        assert step_down([one(centre - 1, centre, centre + 1, groups_sd=0.0)], None) == [expected]


def test_the_prior_finds_degrees_of_freedom_and_variance() -> None:
    rng = np.random.default_rng(1)
    rows = [str(k) for k in range(200)]
    pairs = [*zip(rows[::2], rows[1::2], strict=True), *zip(rows[1::2], rows[2::2] + rows[:1], strict=True)]

    def estimated(d0: float) -> Prior:
        true = 4.0 * d0 / rng.chisquare(d0, len(pairs)) if np.isfinite(d0) else np.full(len(pairs), 4.0)
        found = Prior.of({pair: (float(v * rng.chisquare(2) / 2), 3) for pair, v in zip(pairs, true, strict=True)})
        assert found is not None
        return found

    alike, unlike = [estimated(np.inf) for _ in range(7)], [estimated(2.0) for _ in range(7)]
    assert np.median([p.degrees_of_freedom for p in alike]) > 4 > np.median([p.degrees_of_freedom for p in unlike])
    assert np.median([p.degrees_of_freedom for p in unlike]) <= 2, "the upper end of heterogeneity"
    assert 2.5 < np.median([p.variance for p in alike]) < 5
    assert all(p.of_unknown <= 2 for p in (*alike, *unlike))
    assert Prior.of({("a", "b"): (1.0, 3), ("a", "c"): (1.0, 3), ("b", "c"): (2.0, 3)}) is None
    moderated = Prior(4.0, 1.0).moderated(np.array(4.0), np.array(2))
    assert moderated == pytest.approx((4 * 1 + 2 * 4) / 6)
