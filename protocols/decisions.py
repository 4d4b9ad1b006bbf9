"""Confidence intervals that include the variance between training runs, and marks that hold simultaneously.

The score of a learned row varies with the test recordings and with the training run of its weights.
The recordings are resampled as groups, subject × sequence (:mod:`poseboard.protocols.bootstrap`). Two or three seeds
cannot be resampled; their part of an interval is Student's t. Every seed predicts the same recordings, so the two parts
are independent and their half-widths add in squares, on each side separately (MOVER; Zou and Donner, Statistics in
Medicine 2008). A number without variation between seeds keeps the bootstrap's interval.

**Variance between trainings.** Rows are paired by seed: seed 1 of two rows started from the same backbone and saw the
same data, so a pair has its own variance, that of the differences of equal seeds. A row of one seed is one draw; its
variance is that of the same row in a run of several seeds (`results/seeds`). Three seeds estimate a variance badly, so
intervals moderate it by the other pairs of the table (Smyth, Statistical Applications in Genetics and Molecular Biology
2004): the variances follow a scaled inverse chi-square with d0 degrees of freedom about s0², both estimated from the
table. A pair with d degrees of freedom then has the variance (d0 s0² + d s²) / (d0 + d) with d0 + d degrees of freedom.
Pairs share rows and a shared backbone moves many rows at once, so they are fewer observations than they look. The more
the variances differ, the smaller is d0. We take the upper end of the 95 % interval of this heterogeneity, by a
jackknife over rows. Rows without training have no variance between seeds and do not enter. A row without recorded seeds
takes s0² with at most the degrees of freedom of one pair. Fewer than four rows give no prior; such a row then stays
undecided.

**Marks.** Within one table the probability of any wrong mark is at most 5 %. Only complete rows are ranked, and no
bounds; a difference from another row is stated without a mark. Pairs of ranked rows are marked by a step-down
comparison with the largest statistic (Romano and Wolf, Journal of the American Statistical Association 2005). Its
distribution without any difference is drawn by rotating the seeds: if trainings are normal and nothing differs, all
rotations of the seeds are equally likely, whatever the variances and correlations of the rows (Langsrud, Statistics and
Computing 2005). So marks use each pair's own variance; only rows without recorded seeds use the prior. Holm's procedure
considers one pair at a time, while one backbone moves many pairs at once. With Student's t it needs 33 standard errors
for 55 pairs and three seeds. With the moderated t its error exceeds 5 %, because the variances of the pairs are
dependent. The groups' part is normal over an estimated standard error. `tests/protocols/test_marks.py` simulates error
and power.

A pair whose interval contains zero has no mark, so that a mark never contradicts the printed interval.

Pairs of fewer than G groups with ``2^(1 - G) <= 5 % / pairs`` are not tested: not even unanimous groups could decide
them. The interval of ranks follows from the marks: the rows that are significantly better or worse bound a rank
(Mohamad, Goeman and van Zwet, Statistics in Medicine 2022).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot, sqrt
from typing import Literal

import numpy as np
import scipy  # its parts load when they are used
from numpy.typing import NDArray

from poseboard.protocols import bootstrap
from poseboard.protocols.records import PairedDifference, Rank, Score, ScoreFile, TableComparison, TrainingFile

LEVEL = 0.95
NORMAL = 1.959964
"""Half-width of a 95 % interval in standard errors."""
REFERENCE = "seeds"
"""The profile whose results say how far trainings of a row differ."""
Interval = tuple[float, float]
Array = NDArray[np.float64]

SIZE = 0.04
"""At which marks are decided: with 30 skewed groups the error is up to a fifth larger in simulation, so within 5 %."""
DRAWS = 5000
SEED = 20041101
"""Of the rotations that marks are decided by."""


@dataclass(frozen=True)
class Spread:
    """Spread between training runs: the part of a number's uncertainty that is not due to the recordings.

    Args:
        sd: standard deviation between seeds, of a number or of a paired difference.
        seeds: number of seeds in the estimate.
        draws: number of training runs that the number averages.
        prior: degrees of freedom added from the other pairs of the table.
    """

    sd: float
    seeds: int
    draws: int
    prior: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float], draws: int) -> Spread:
        """Estimate the spread from the values of several seeds, for a number that averages ``draws`` training runs."""
        return cls(float(np.std(values, ddof=1)), len(values), draws)

    @property
    def degrees_of_freedom(self) -> float:
        """Degrees of freedom of ``sd``, including the prior's."""
        return self.prior + max(self.seeds - 1, 0)

    def half_width(self, level: float) -> float:
        """Half-width of the confidence interval by Student's t, for a level such as 0.95."""
        if self.sd == 0:
            return 0.0
        quantile = -float(scipy.special.stdtrit(self.degrees_of_freedom, (1 - level) / 2))
        return quantile * self.sd / sqrt(self.draws)


FIXED = Spread(sd=0.0, seeds=0, draws=1)
"""Nothing is trained."""


def interval(value: float, groups: Interval, spread: Spread) -> Interval:
    """95 % CI of a number over groups, widened by the spread between training runs.

    Args:
        value: the number.
        groups: 95 % CI of the number over groups only.
        spread: spread between training runs.

    Example:
        >>> interval(10.0, (9.0, 12.0), Spread(sd=0.0, seeds=3, draws=3))
        (9.0, 12.0)
        >>> low, high = interval(10.0, (9.0, 12.0), Spread(sd=0.3, seeds=3, draws=3))
        >>> round(low, 2), round(high, 2)
        (8.75, 12.13)
    """
    low, high = groups
    trained = spread.half_width(LEVEL)
    if trained == 0:
        return groups
    return value - hypot(max(value - low, 0.0), trained), value + hypot(max(high - value, 0.0), trained)


@dataclass(frozen=True)
class Prior:
    """Scaled inverse chi-square distribution of a table's variances between training runs (Smyth 2004).

    Args:
        degrees_of_freedom: d0; large if the variances of the pairs are similar.
        variance: s0², the centre of the distribution.
        of_unknown: degrees of freedom of s0² for a row without recorded seeds: at most those of one pair, since one
            cause may move all pairs alike.
    """

    degrees_of_freedom: float
    variance: float
    of_unknown: float = 0.0

    @classmethod
    def of(cls, variances: Mapping[tuple[str, str], tuple[float, int]]) -> Prior | None:
        """Estimate the prior from the moments of the log variances; None for fewer than four rows.

        Args:
            variances: pair of rows -> sample variance between seeds, number of seeds. Zero variances are ignored.
        """
        pairs = [pair for pair, (variance, _) in variances.items() if variance > 0]
        rows = sorted({row for pair in pairs for row in pair})  # sums over a set differ in the last digit by its order
        freedom = np.array([variances[pair][1] - 1 for pair in pairs])
        # log of the variance, less the bias of the log of a chi-square
        logs = np.array([np.log(variances[pair][0]) for pair in pairs])
        logs = logs - scipy.special.digamma(freedom / 2) + np.log(freedom / 2)
        without = [np.array([row not in pair for pair in pairs]) for row in rows]
        if len(rows) < LEAST_ROWS or min(kept.sum() for kept in without) < LEAST_PAIRS:
            return None
        jackknife = np.array([logs[kept].var(ddof=1) for kept in without])
        error = sqrt((len(rows) - 1) * jackknife.var())
        upper = logs.var(ddof=1) + NORMAL * error
        excess = upper - scipy.special.polygamma(1, freedom / 2).mean()
        half = _trigamma_inverse(max(float(excess), 1e-5))
        variance = float(np.exp(logs.mean() + scipy.special.digamma(half) - np.log(half)))
        pooled = (len(rows) - 1) * float(freedom.max())
        return cls(min(2 * half, pooled), variance, min(2 * half, float(freedom.min())))

    def moderated(self, variance: Array, freedom: Array) -> Array:
        """Posterior variance of each pair: mean of s0² and its variance, weighted by the degrees of freedom."""
        d0 = self.degrees_of_freedom
        return np.asarray((d0 * self.variance + freedom * variance) / (d0 + freedom))


LEAST_ROWS, LEAST_PAIRS = 4, 3
"""From which a prior can be estimated: with and without one of its rows."""


def _trigamma_inverse(value: float) -> float:
    # bounds: trigamma(y) is between 1/y and 1/y + 1/y²
    return float(scipy.optimize.brentq(lambda y: scipy.special.polygamma(1, y) - value, 0.5 / value, 1 / value + 1.0))


@dataclass(frozen=True)
class PairTest:
    """Paired difference of two rows, with the uncertainty that a test of its sign needs.

    Args:
        rows: the two compared rows.
        difference: mean difference over training runs.
        groups_sd: standard error of the difference over groups.
        groups: number of groups.
        trainings: seed -> difference; empty if no row is trained or a row is in ``unknown``.
        unknown: rows without recorded seeds; the prior gives their variance.
    """

    rows: tuple[str, str]
    difference: float
    groups_sd: float
    groups: int
    trainings: Mapping[int, float]
    unknown: tuple[str, ...] = ()


def step_down(tests: Sequence[PairTest], prior: Prior | None) -> list[bool]:
    """Decide which differences are significant, with a familywise error of at most 5 %.

    The statistic of a pair is |difference| / sqrt(groups_sd² + training variance). It is compared with the largest
    statistic of all pairs under the null (Romano and Wolf 2005), drawn `DRAWS` times.

    Args:
        tests: the pairs of one table.
        prior: prior of the variances between training runs, for ``unknown`` rows.
    """
    if not tests:
        return []
    rng = np.random.default_rng(SEED)
    trainings = _BySeed.of(tests, prior)
    groups = np.array([test.groups for test in tests])
    # from the variance over groups, which divides by G, to the unbiased one, which divides by G - 1
    groups_sd = np.array([test.groups_sd for test in tests]) * np.sqrt(groups / (groups - 1))
    statistic = _ratio(trainings.difference, np.sqrt(groups_sd**2 + trainings.variance))
    error, variance = trainings.rotated(groups_sd, rng)
    error = error + _of_unknown(tests, prior, rng)
    # normal over an estimated standard error: Student's t with G - 1 degrees of freedom
    chi_square = rng.chisquare(groups - 1, size=(DRAWS, len(tests))) / (groups - 1)
    error += groups_sd * _of_groups(tests, groups_sd, rng) / np.sqrt(chi_square)
    under_null = _ratio(np.abs(error), np.sqrt(groups_sd**2 + variance))
    p = _step_down_p(statistic, under_null)
    return [bool(significant) for significant in (p <= SIZE) & (trainings.difference > 0)]


def _step_down_p(statistic: Array, under_null: Array) -> Array:
    """Adjusted p-values (T,): the k-th largest statistic against the maximum over the pairs from the k-th on.

    Args:
        statistic: (T,) statistics of the pairs.
        under_null: (DRAWS, T) statistics of the same pairs under the null hypothesis of no differences.
    """
    order = np.argsort(-statistic, kind="stable")
    largest = np.maximum.accumulate(under_null[:, order[::-1]], axis=1)[:, ::-1]
    p = (1 + (largest >= statistic[order]).sum(axis=0)) / (DRAWS + 1)
    adjusted = np.empty(len(statistic))
    adjusted[order] = np.maximum.accumulate(p)  # a pair is significant only if all before it are
    return adjusted


@dataclass(frozen=True, eq=False)
class _BySeed:
    """Differences of T pairs by seed, and the variances of their means.

    Args:
        difference: (T,) absolute differences.
        residuals: (S, T) deviation of each seed from the pair's mean, with the sign that makes the difference positive;
            0 if a pair lacks the seed.
        recorded: (S, T) whether a pair has the seed.
        draws: (T,) number of seeds n, at least 1.
        freedom: (T,) n - 1, at least 1.
        of_prior: (T,) variance from the prior, for pairs with ``unknown`` rows.
    """

    difference: Array
    residuals: Array
    recorded: NDArray[np.bool_]
    draws: NDArray[np.integer]
    freedom: NDArray[np.integer]
    of_prior: Array

    @classmethod
    def of(cls, tests: Sequence[PairTest], prior: Prior | None) -> _BySeed:
        seeds = sorted({seed for test in tests for seed in test.trainings})
        values = np.array([[test.trainings.get(seed, np.nan) for test in tests] for seed in seeds])
        values = values.reshape(len(seeds), len(tests)) * np.sign([test.difference for test in tests])
        recorded = ~np.isnan(values)
        n = recorded.sum(axis=0)
        draws = np.maximum(n, 1)
        return cls(
            difference=np.abs([test.difference for test in tests]),
            residuals=np.where(recorded, values - np.where(recorded, values, 0).sum(axis=0) / draws, 0.0),
            recorded=recorded,
            draws=draws,
            freedom=np.maximum(n - 1, 1),
            of_prior=np.array([prior.variance if prior and test.unknown else 0.0 for test in tests]),
        )

    @property
    def variance(self) -> Array:
        """Variances (T,) of the means over seeds: s² / n, with s² of the same pair."""
        return np.asarray((self.residuals**2).sum(axis=0) / self.freedom / self.draws + self.of_prior)

    def rotated(self, groups_sd: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Sample means over seeds and their variances under the null, (DRAWS, T) each, by rotation (Langsrud 2005)."""
        # The part of each difference that is due to trainings under the null. It uses the upper end of the variance: a
        # variance that two degrees of freedom underestimate must not count as noise of the groups.
        quantile = scipy.special.stdtrit(self.freedom, (1 + LEVEL) / 2) / NORMAL
        part = _ratio(quantile**2 * self.variance, groups_sd**2 + quantile**2 * self.variance)
        values = self.residuals + self.recorded * np.sqrt(part) * self.difference
        # One rotation for all pairs: sqrt(n) times the mean over seeds becomes the component along a random direction.
        direction = rng.normal(size=(DRAWS, len(self.residuals)))
        along = _ratio(direction @ values, np.sqrt(direction**2 @ self.recorded))
        # What is left of the sum of squares is the variance between seeds.
        rest = np.maximum((values**2).sum(axis=0) - along**2, 0.0)
        return np.asarray(along / np.sqrt(self.draws)), rest / self.freedom / self.draws + self.of_prior


def _of_groups(tests: Sequence[PairTest], groups_sd: Array, rng: np.random.Generator) -> Array:
    """Sample standard normal errors over groups (DRAWS, T). Pairs that share a row are correlated.

    The variances of all pairwise differences determine the covariance of the rows, except for a component common to all
    rows (classical scaling; Torgerson, Psychometrika 1952). If a pair is missing, the errors are independent, which is
    conservative (Šidák, Journal of the American Statistical Association 1967).
    """
    rows = sorted({row for test in tests for row in test.rows})
    if len(tests) != len(rows) * (len(rows) - 1) // 2:
        return rng.normal(size=(DRAWS, len(tests)))
    a, b = np.array([[rows.index(row) for row in test.rows] for test in tests]).T
    squares = np.zeros((len(rows), len(rows)))
    squares[a, b] = squares[b, a] = groups_sd**2
    centring = np.eye(len(rows)) - 1 / len(rows)
    of_rows, vectors = np.linalg.eigh(-centring @ squares @ centring / 2)
    root = vectors * np.sqrt(np.maximum(of_rows, 0.0))
    errors = rng.normal(size=(DRAWS, len(rows))) @ root.T
    sign = np.sign([test.difference for test in tests])
    return _ratio(sign * (errors[:, a] - errors[:, b]), np.linalg.norm(root[a] - root[b], axis=1))


def _of_unknown(tests: Sequence[PairTest], prior: Prior | None, rng: np.random.Generator) -> Array:
    """Sample training errors (DRAWS, T) of pairs with unknown rows. A row has the same error in all its pairs."""
    rows = sorted({row for test in tests for row in test.unknown})
    if prior is None or not rows:
        return np.zeros((DRAWS, len(tests)))
    drawn = rng.standard_t(prior.of_unknown, size=(DRAWS, len(rows)))
    weights = np.zeros((len(rows), len(tests)))
    for k, test in enumerate(tests):
        for row, sign in zip(test.unknown, (1, -1), strict=False):
            weights[rows.index(row), k] = sign * sqrt(prior.variance / len(test.unknown))
    return np.asarray(drawn @ weights)


def _ratio(a: Array, b: Array) -> Array:
    """Divide a by b elementwise; 0 / 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(a == 0, 0.0, a / b)


def few_groups(groups: int, pairs: int = 1, level: float = LEVEL) -> bool:
    """Whether no pair can be significant with this number of groups, even if all groups agree.

    Example:
        >>> few_groups(5), few_groups(6), few_groups(6, pairs=36), few_groups(11, pairs=36)
        (True, False, True, False)
    """
    return 2.0 ** (1 - groups) > (1 - level) / max(pairs, 1)


def with_training(score: Score) -> Score:
    """Widen the interval of a score with several seeds by the spread between them; other scores are unchanged."""
    values = [seed.value for seed in score.seeds if seed.value is not None]
    if len(values) < 2 or score.value is None or score.ci95 is None or score.ci95_groups is not None:
        return score
    ci95 = interval(score.value, score.ci95, Spread.of(values, len(values)))
    if score.unit == "%":
        ci95 = max(ci95[0], 0.0), min(ci95[1], 100.0)
    elif score.ci95[0] >= 0:
        ci95 = max(ci95[0], 0.0), ci95[1]
    return score.model_copy(update={"ci95": ci95, "ci95_groups": score.ci95})


def trained(file: ScoreFile) -> bool:
    """Whether the weights of a row were trained, by this row or by the row from which it starts."""
    return bool(file.provenance.checkpoint_sha256)


def same_row(
    file: ScoreFile,
    other: ScoreFile,
    training: Mapping[str, TrainingFile],
    other_training: Mapping[str, TrainingFile],
) -> bool:
    """Whether two runs trained the same row on the same data and so share the spread between training runs.

    True if checkpoints of an equal seed are equal, or if all options that both runs state are equal, for the row
    and for the rows that it starts from. An option that only one run states is newer and had no other value before.

    Args:
        file: scores of the row in the first run.
        other: scores of the row in the second run.
        training: training files of the first run on this data set, by row.
        other_training: training files of the second run, by row.
    """
    ours, theirs = file.provenance, other.provenance
    if (file.method, file.dataset, ours.data_manifest) != (other.method, other.dataset, theirs.data_manifest):
        return False
    common = ours.checkpoint_sha256.keys() & theirs.checkpoint_sha256.keys()
    if any(ours.checkpoint_sha256[seed] == theirs.checkpoint_sha256[seed] for seed in common):
        return True
    options = [(ours.options, theirs.options)]
    seen: set[str] = set()
    own, of_other = training.get(file.method), other_training.get(file.method)
    if own is not None and of_other is not None and own.training_manifests != of_other.training_manifests:
        return False
    name = None if own is None else own.after
    while name is not None and name not in seen:
        seen.add(name)
        mine, others = training.get(name), other_training.get(name)
        if mine is None or others is None:
            return False
        options.append((mine.provenance.options, others.provenance.options))
        name = mine.after
    return all(a[key] == b[key] for a, b in options for key in a.keys() & b.keys())


def judge(
    comparison: TableComparison,
    scores: Mapping[str, Score],
    reference: Mapping[str, Score],
    learned: Collection[str],
) -> TableComparison:
    """Add the spread between training runs, the marks and the intervals of ranks to a comparison.

    Args:
        comparison: comparison of one table; earlier marks are replaced.
        scores: scores of its rows in this run.
        reference: scores of the same rows in a run of several seeds; rows without such a run are absent.
        learned: rows with trained weights.
    """
    trainings = [_trainings(pair, scores, reference, learned) for pair in comparison.pairs]
    prior = _prior(comparison.pairs, trainings, learned)
    spreads = [_spread_of(of_pair, prior) for of_pair in trainings]
    decided = _decided(comparison, trainings, spreads, prior)
    intervals = [
        _groups(pair) if spread is None else interval(pair.difference, _groups(pair), spread)
        for pair, (_, spread) in zip(comparison.pairs, spreads, strict=True)
    ]
    pairs = [
        pair.model_copy(
            update={
                "ci95": (low, high),
                "ci95_groups": _groups(pair),
                "training": kind,
                "training_sd": None if spread is None else spread.sd,
                "training_seeds": 0 if spread is None else spread.seeds,
                "training_df": None if spread is None else spread.degrees_of_freedom,
                "decided": mark and not low <= 0 <= high,
            }
        )
        for pair, (kind, spread), mark, (low, high) in zip(comparison.pairs, spreads, decided, intervals, strict=True)
    ]
    ranks = _placed(comparison.ranks, pairs, scores)
    return comparison.model_copy(update={"pairs": pairs, "ranks": ranks, "marks": "step-down"})


def _groups(pair: PairedDifference) -> Interval:
    return pair.ci95 if pair.ci95_groups is None else pair.ci95_groups


Kind = Literal["none", "own", "reference", "prior", "unknown"]
Trainings = tuple[Kind, dict[int, float]]
"""Where the differences of equal seeds come from, and seed -> difference."""


def _trainings(
    pair: PairedDifference, scores: Mapping[str, Score], reference: Mapping[str, Score], learned: Collection[str]
) -> Trainings:
    """Recorded training runs of a pair of rows."""
    if pair.a not in learned and pair.b not in learned:
        return "none", {}
    own = {seed.seed: seed.value for seed in pair.seeds if seed.value is not None}
    own = own or _differences(pair, scores, learned)
    if len(own) > 1:
        return "own", own
    if any(len(scores[name].seeds) > 1 for name in (pair.a, pair.b) if name in scores):
        return "unknown", {}  # of other seeds than each other
    untrained = {name: score for name, score in scores.items() if name not in learned}
    others = _differences(pair, {**untrained, **reference}, learned)
    return ("reference", others) if len(others) > 1 else ("unknown", {})


def _prior(pairs: Sequence[PairedDifference], trainings: Sequence[Trainings], learned: Collection[str]) -> Prior | None:
    """Estimate the prior from all pairs of a table. Rows without training count as one row."""
    variances = {}
    for pair, (_, values) in zip(pairs, trainings, strict=True):
        if len(values) > 1:
            rows = sorted(name if name in learned else "" for name in (pair.a, pair.b))
            variances[rows[0], rows[1]] = float(np.var([*values.values()], ddof=1)), len(values)
    return Prior.of(variances)


def _spread_of(trainings: Trainings, prior: Prior | None) -> tuple[Kind, Spread | None]:
    """Source and value of the spread of a pair between training runs; None if it is unknown."""
    kind, values = trainings
    if kind == "none":
        return kind, FIXED
    if kind == "unknown":
        if prior is None or prior.of_unknown < 1:
            return kind, None
        return "prior", Spread(sqrt(prior.variance), 0, 1, prior.of_unknown)
    n = len(values)
    spread = Spread.of([*values.values()], n if kind == "own" else 1)
    if prior is None:
        return kind, spread
    variance = float(prior.moderated(np.array(spread.sd**2), np.array(n - 1)))
    return kind, replace(spread, sd=sqrt(variance), prior=prior.degrees_of_freedom)


def _decided(
    comparison: TableComparison,
    trainings: Sequence[Trainings],
    spreads: Sequence[tuple[Kind, Spread | None]],
    prior: Prior | None,
) -> list[bool]:
    """Decide which pairs get a mark. Pairs with an unranked row, no spread or too few groups are not tested."""
    by_pair = list(zip(comparison.pairs, trainings, strict=True))
    recorded = {name for pair, (_, values) in by_pair if values for name in (pair.a, pair.b)}
    unranked, compared = set(comparison.unranked), len(comparison.ranked_pairs)
    tests: dict[int, PairTest] = {}
    for k, (pair, of_pair) in enumerate(by_pair):
        ranked = unranked.isdisjoint((pair.a, pair.b))
        if not ranked or spreads[k][1] is None or few_groups(pair.n_groups, compared):
            continue
        if (test := _pair_test(pair, of_pair, recorded)) is not None:
            tests[k] = test
    significant = dict(zip(tests, step_down([*tests.values()], prior), strict=True))
    return [significant.get(k, False) for k in range(len(by_pair))]


def _pair_test(pair: PairedDifference, trainings: Trainings, recorded: Collection[str]) -> PairTest | None:
    """Make the test of a pair; None if the mean of the recorded seeds and the difference have opposite signs.

    For rows of one seed the mean of their recorded seeds is tested.
    """
    kind, values = trainings
    mean = float(np.mean([*values.values()])) if kind == "reference" else pair.difference
    if mean * pair.difference <= 0:
        return None
    low, high = _groups(pair)
    half = pair.difference - low if pair.difference > 0 else high - pair.difference  # on the side of zero
    # Two recorded rows without common seeds: the variance of neither is known in this pair.
    unrecorded = tuple(name for name in (pair.a, pair.b) if name not in recorded)
    return PairTest(
        rows=(pair.a, pair.b),
        difference=mean,
        groups_sd=max(half, 0.0) / NORMAL,
        groups=pair.n_groups,
        trainings=values,
        unknown=(unrecorded or (pair.a, pair.b)) if kind == "unknown" else (),
    )


def _differences(pair: PairedDifference, scores: Mapping[str, Score], learned: Collection[str]) -> dict[int, float]:
    """Difference of two rows by seed, from their scores; empty if a row misses poses, as poses then differ."""
    by_seed: list[dict[int, float]] = []
    for name in (pair.a, pair.b):
        if name not in learned:
            continue
        if name not in scores or scores[name].n_left_out:
            return {}
        by_seed.append({seed.seed: seed.value for seed in scores[name].seeds if seed.value is not None})
    if len(by_seed) == 1:  # against a number that does not vary
        sign = 1 if pair.a in learned else -1
        fixed = pair.b if pair.a in learned else pair.a
        offset = scores[fixed].value if fixed in scores else None
        return {} if offset is None else {seed: sign * (value - offset) for seed, value in by_seed[0].items()}
    a, b = by_seed
    return {seed: a[seed] - b[seed] for seed in a if seed in b}


def _placed(ranks: Sequence[Rank], pairs: Sequence[PairedDifference], scores: Mapping[str, Score]) -> list[Rank]:
    """Add the intervals of ranks that are consistent with the marks."""
    if not ranks:
        return []
    lower_is_better = scores[ranks[0].method].lower_is_better
    wins, losses = Counter[str](), Counter[str]()
    for pair in pairs:
        if pair.decided:
            a_is_better = (pair.difference < 0) == lower_is_better
            wins[pair.a if a_is_better else pair.b] += 1
            losses[pair.b if a_is_better else pair.a] += 1
    return [
        rank.model_copy(
            update={
                "ci95": (min(1 + losses[rank.method], rank.rank), max(len(ranks) - wins[rank.method], rank.rank)),
            }
        )
        for rank in ranks
    ]


def places(scores: Mapping[str, Score]) -> list[Rank]:
    """Rank complete rows by their scores; ties share the better rank. `judge` narrows the intervals of ranks.

    Args:
        scores: scores of the rows to rank, all of one signature.

    Returns:
        Ranks, best first; empty for a single group, which cannot decide any difference.
    """
    if not scores or min(score.n_groups for score in scores.values()) < 2:
        return []
    numbers = np.array([score.value for score in scores.values()], dtype=np.float64)
    lower_is_better = next(iter(scores.values())).lower_is_better
    rank = bootstrap.ranks(numbers[:, None], lower_is_better)[:, 0]
    ranks = [Rank(method=name, rank=int(rank[i]), ci95=(1, len(scores))) for i, name in enumerate(scores)]
    return sorted(ranks, key=lambda place: (place.rank, place.method))
