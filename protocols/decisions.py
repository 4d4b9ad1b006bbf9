"""What a comparison may claim: intervals that include the randomness of training, and marks that hold all at once.

Two things are random in a number of a learned row: which recordings were tested, and which weights the training ended
at. The groups (subject × sequence) are resampled (:mod:`poseboard.protocols.bootstrap`); the seeds are too few for
that: a bootstrap of three has ten different resamples and a variance a third too small. Their part is Student's t with
one degree of freedom less than there are seeds, 4.3 standard deviations for three, and no less than that: three seeds
say little about how far a fourth would be off. Seeds and groups are crossed, every seed answers the same recordings,
so their parts are independent and half-widths add in squares, on each side by itself (MOVER; Zou and Donner, Statistics
in Medicine 2008). Where nothing varies between seeds the bootstrap's interval comes out unchanged.

Rows are paired by seed: seed 1 of two rows started from the same backbone and saw the same data, so the spread is that
of the differences of equal seeds. A row of one seed is one draw of its training. How far draws differ is taken from a
run of several seeds of the same row (`results/seeds`), and not divided by the root of their number. Where a row is
learned and no such run is at hand, its spread is unknown and nothing about it is decided. A row that learns nothing
itself but takes a trained checkpoint over varies with it. One that has no checkpoint does not vary.

Within one table the marks hold simultaneously: Holm's procedure over all pairs of ranked rows, so the probability that
any mark is wrong is at most 5 % (Holm, Scandinavian Journal of Statistics 1979). Only complete rows are ranked, and no
bounds: a difference from another row is stated, without a mark. A pair is decided by no fewer than G groups with
``2^(1 - G) <= 5 % / pairs``: with fewer not even a test of signs in which all groups agree could decide it. The
interval of places follows from the marks: as many rows are ahead as are decided better (Mohamad, Goeman and van Zwet,
Statistics in Medicine 2022).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
import scipy  # its parts load when they are used

from poseboard.protocols import bootstrap
from poseboard.protocols.records import PairedDifference, Rank, Score, ScoreFile, TableComparison, TrainingFile

LEVEL = 0.95
REFERENCE = "seeds"
"""The profile whose results say how far trainings of a row differ."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Spread:
    """How far trainings differ: the part of a number's uncertainty that is no recording's.

    Args:
        sd: standard deviation between seeds, of a number or of a paired difference.
        seeds: that it is estimated from, at least 2 where it is not 0.
        draws: trainings that the number is the mean of.
    """

    sd: float
    seeds: int
    draws: int

    @classmethod
    def of(cls, values: Sequence[float], draws: int) -> Spread:
        """Of the values of several seeds, of which the number is the mean of ``draws``."""
        return cls(float(np.std(values, ddof=1)), len(values), draws)

    def half_width(self, level: float) -> float:
        """By Student's t."""
        if self.sd == 0:
            return 0.0
        return -float(scipy.special.stdtrit(self.seeds - 1, (1 - level) / 2)) * self.sd / sqrt(self.draws)


FIXED = Spread(sd=0.0, seeds=0, draws=1)
"""Nothing is trained."""


def interval(value: float, groups: Interval, spread: Spread, level: float = LEVEL) -> Interval:
    """The interval of a number over groups, widened by the spread between trainings.

    Args:
        value: the number.
        groups: its 95 % interval over groups alone.
        spread: between trainings.
        level: of the result; the tails of the groups' part go on as a normal distribution's.

    Example:
        >>> interval(10.0, (9.0, 12.0), Spread(sd=0.0, seeds=3, draws=3))
        (9.0, 12.0)
        >>> low, high = interval(10.0, (9.0, 12.0), Spread(sd=0.3, seeds=3, draws=3))
        >>> round(low, 2), round(high, 2)
        (8.75, 12.13)
    """
    low, high = groups
    further = (
        1.0 if level == LEVEL else float(scipy.special.ndtri((1 - level) / 2) / scipy.special.ndtri((1 - LEVEL) / 2))
    )
    below, above = further * max(value - low, 0.0), further * max(high - value, 0.0)
    trained = spread.half_width(level)
    if trained == 0 and level == LEVEL:
        return groups
    return value - sqrt(below**2 + trained**2), value + sqrt(above**2 + trained**2)


def p_value(difference: float, groups: Interval, spread: Spread) -> float:
    """The least p whose interval of level 1 - p leaves out zero; 1 where none does."""
    if difference == 0:
        return 1.0

    def reaches(log_p: float) -> float:
        """How far beyond zero the interval ends, from the side of the difference."""
        low, high = interval(difference, groups, spread, 1 - float(np.exp(log_p)))
        return low if difference > 0 else -high

    least, most = -27.0, -1e-6  # e^-27 is 2e-12
    if reaches(least) >= 0:
        return float(np.exp(least))
    if reaches(most) <= 0:
        return 1.0
    return float(np.exp(scipy.optimize.brentq(reaches, least, most, xtol=1e-9)))


def holm(p: Sequence[float | None], level: float = LEVEL) -> list[bool]:
    """Which of several hypotheses are rejected so that the probability of any wrong rejection is at most 1 - level.

    Args:
        p: of each hypothesis; None: it is not in the family and is not rejected.
        level: of the family.

    Example:
        >>> holm([0.001, 0.04, 0.02])
        [True, True, True]
        >>> holm([0.03, 0.04]), holm([0.03, None])
        ([False, False], [True, False])
    """
    rejected = [False] * len(p)
    family = sorted((value, i) for i, value in enumerate(p) if value is not None)
    for step, (value, i) in enumerate(family):
        if value > (1 - level) / (len(family) - step):
            break
        rejected[i] = True
    return rejected


def few_groups(groups: int, pairs: int = 1, level: float = LEVEL) -> bool:
    """Whether groups are too few for any of so many pairs to be decided, were they all to agree.

    Example:
        >>> few_groups(5), few_groups(6), few_groups(6, pairs=36), few_groups(11, pairs=36)
        (True, False, True, False)
    """
    return 2.0 ** (1 - groups) > (1 - level) / max(pairs, 1)


def with_training(score: Score) -> Score:
    """A score of several seeds whose interval includes their spread; any other, or one that does already, as it is."""
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
    """Whether the weights of a row came out of a training, its own or that of the row it started from."""
    return bool(file.provenance.checkpoint_sha256)


def same_row(
    file: ScoreFile,
    other: ScoreFile,
    training: Mapping[str, TrainingFile],
    other_training: Mapping[str, TrainingFile],
) -> bool:
    """Whether two runs trained the same row on the same data, so that one says how far trainings of the other differ.

    They did where a checkpoint of the same seed is the same, or where they agree in every option that both state, of
    the row and of all rows it starts from (an option that one does not state came later and had no other value).

    Args:
        file: the row in one run.
        other: in the other.
        training: of the first run on this data set, by row.
        other_training: of the other.
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
    """A comparison with the spread of training in its intervals, its marks, and the places that follow from them.

    Args:
        comparison: of one table, judged before or not.
        scores: of its rows in this run.
        reference: of the same rows in a run of several seeds, where there is one.
        learned: rows whose weights came out of a training.
    """
    spreads = [_spread_of(pair, scores, reference, learned) for pair in comparison.pairs]
    family = len(comparison.ranked_pairs)
    p: list[float | None] = []
    for pair, (_, spread) in zip(comparison.pairs, spreads, strict=True):
        if not {pair.a, pair.b}.isdisjoint(comparison.unranked):
            p.append(None)
            continue
        known = spread is not None and not few_groups(pair.n_groups, family)
        p.append(p_value(pair.difference, _groups(pair), spread) if known and spread is not None else 1.0)
    pairs = [
        pair.model_copy(
            update={
                "ci95": _groups(pair) if spread is None else interval(pair.difference, _groups(pair), spread),
                "ci95_groups": _groups(pair),
                "training": kind,
                "training_sd": None if spread is None else spread.sd,
                "training_seeds": 0 if spread is None else spread.seeds,
                "decided": decided,
            }
        )
        for pair, (kind, spread), decided in zip(comparison.pairs, spreads, holm(p), strict=True)
    ]
    ranks = [_placed(rank, len(comparison.ranks), pairs, scores) for rank in comparison.ranks]
    return comparison.model_copy(update={"pairs": pairs, "ranks": ranks, "marks": "holm"})


def _groups(pair: PairedDifference) -> Interval:
    return pair.ci95 if pair.ci95_groups is None else pair.ci95_groups


def _spread_of(
    pair: PairedDifference, scores: Mapping[str, Score], reference: Mapping[str, Score], learned: Collection[str]
) -> tuple[Literal["none", "own", "reference", "unknown"], Spread | None]:
    """Where the spread of a pair comes from, and what it is."""
    if pair.a not in learned and pair.b not in learned:
        return "none", FIXED
    own = [seed.value for seed in pair.seeds if seed.value is not None] or _differences(pair, scores, learned)
    if len(own) > 1:
        return "own", Spread.of(own, len(own))
    if any(len(scores[name].seeds) > 1 for name in (pair.a, pair.b) if name in scores):
        return "unknown", None  # of other seeds than each other
    others = _differences(pair, reference, learned)
    return ("reference", Spread.of(others, 1)) if len(others) > 1 else ("unknown", None)


def _differences(pair: PairedDifference, scores: Mapping[str, Score], learned: Collection[str]) -> list[float]:
    """Of equal seeds, from the rows' own numbers; none where a pose is missing, so that these are of other poses."""
    by_seed: list[dict[int, float]] = []
    for name in (pair.a, pair.b):
        if name not in learned:
            continue
        if name not in scores or scores[name].n_left_out:
            return []
        by_seed.append({seed.seed: seed.value for seed in scores[name].seeds if seed.value is not None})
    if len(by_seed) == 1:  # against a number that does not vary
        return list(by_seed[0].values())
    a, b = by_seed
    return [a[seed] - b[seed] for seed in a if seed in b]


def _placed(rank: Rank, rows: int, pairs: Sequence[PairedDifference], scores: Mapping[str, Score]) -> Rank:
    """A rank with the interval of places that the marks leave it."""
    better = worse = 0
    for pair in pairs:
        if not pair.decided or rank.method not in (pair.a, pair.b):
            continue
        lower = (pair.difference < 0) == (rank.method == pair.a)
        if lower == scores[rank.method].lower_is_better:
            worse += 1
        else:
            better += 1
    return rank.model_copy(update={"ci95": (min(1 + better, rank.rank), max(rows - worse, rank.rank))})


def places(scores: Mapping[str, Score]) -> list[Rank]:
    """Ranks of complete rows by their numbers, equal ones sharing the better place; `judge` narrows the intervals.

    Args:
        scores: of the rows to rank, all of one signature.

    Returns:
        None of a single group: no difference could be decided.
    """
    if not scores or min(score.n_groups for score in scores.values()) < 2:
        return []
    numbers = np.array([score.value for score in scores.values()], dtype=np.float64)
    lower_is_better = next(iter(scores.values())).lower_is_better
    rank = bootstrap.ranks(numbers[:, None], lower_is_better)[:, 0]
    ranks = [Rank(method=name, rank=int(rank[i]), ci95=(1, len(scores))) for i, name in enumerate(scores)]
    return sorted(ranks, key=lambda place: (place.rank, place.method))
