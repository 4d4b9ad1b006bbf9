"""What may be claimed: intervals that know of training, marks that hold all at once, too few samples."""

import os
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from predicted import SIGNATURE, answered
from scipy import stats

from poseboard.protocols import bootstrap, decisions
from poseboard.protocols.comparison import compare
from poseboard.protocols.decisions import Spread, few_groups, interval, judge, same_row, with_training
from poseboard.protocols.records import (
    PairedDifference,
    Provenance,
    Rank,
    Score,
    ScoreFile,
    SeedValue,
    TableComparison,
    TrainingFile,
)
from poseboard.protocols.scoring import score


def row(*values: float, ci95: tuple[float, float] | None = None, missing: int = 0, lower: bool = True) -> Score:
    mean = float(np.mean(values))
    return Score(
        table="T1", title="t", protocol="p", signature=SIGNATURE, unit="mm", lower_is_better=lower, value=mean,
        ci95=ci95 or (mean - 1, mean + 1), n_samples=300, n_missing=missing, n_left_out=missing, n_groups=60,
        seeds=[SeedValue(seed=k, value=v) for k, v in enumerate(values)],
    )  # fmt: skip


def table(*pairs: PairedDifference, ranks: str = "") -> TableComparison:
    places = [Rank(method=name, rank=k, ci95=(1, len(ranks))) for k, name in enumerate(ranks, 1)]
    return TableComparison(table="T1", signature=SIGNATURE, unit="mm", pairs=list(pairs), ranks=places)


def pair(a: str, b: str, difference: float, half: float = 0.5, groups: int = 60, **fields) -> PairedDifference:
    ci95 = (difference - half, difference + half)
    return PairedDifference(a=a, b=b, difference=difference, ci95=ci95, n_samples=300, n_groups=groups, **fields)


def seeds(*values: float) -> list[SeedValue]:
    return [SeedValue(seed=k, value=value) for k, value in enumerate(values)]


def test_the_seeds_part_is_students_t_and_the_groups_part_the_bootstraps() -> None:
    values = [70.0, 72.0, 75.0]
    spread = Spread.of(values, draws=3)
    low, high = interval(np.mean(values), (np.mean(values), np.mean(values)), spread)
    exact = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (low, high) == pytest.approx(exact)
    assert interval(5.0, (4.0, 7.5), Spread(0.0, 3, 3)) == (4.0, 7.5)
    assert interval(5.0, (4.0, 7.5), decisions.FIXED) == (4.0, 7.5)
    low, high = interval(5.0, (4.0, 7.5), Spread(1.0, 3, 1))
    assert (5 - low, high - 5) == pytest.approx((np.hypot(1, 4.3027), np.hypot(2.5, 4.3027)), abs=1e-3)


def test_intervals_of_three_seeds_hold_the_truth_as_often_as_they_say() -> None:
    """Trainings and recordings both random: the old interval misses often, the new one seldom."""
    rng = np.random.default_rng(11)
    trials, groups = 400, 40
    old = new = 0
    for _ in range(trials):
        recordings = rng.normal(0, 3, groups)
        trained = rng.normal(0, 1, 3)
        tables = [recordings + effect + rng.normal(0, 1, groups) for effect in trained]
        mean = np.mean(tables, axis=0)
        estimates = bootstrap.ratio(mean, np.arange(groups), bootstrap.draws(groups, 400))
        over_groups = bootstrap.interval(estimates)
        assert over_groups is not None
        low, high = interval(float(mean.mean()), over_groups, Spread.of([float(t.mean()) for t in tables], 3))
        old += over_groups[0] <= 0 <= over_groups[1]
        new += low <= 0 <= high
    assert old / trials < 0.8
    assert 0.93 <= new / trials <= 1.0


def test_marks_hold_all_at_once() -> None:
    """No row differs: some of the pairs' own intervals leave zero out, a mark is wrong in at most 5 % of the tables."""
    rng = np.random.default_rng(5)
    rows, groups, trials = 8, 40, 150
    alone = marked = 0
    draws = bootstrap.draws(groups, 400)
    for _ in range(trials):
        means = [bootstrap.ratio(rng.normal(size=groups), np.arange(groups), draws) for _ in range(rows)]
        pairs = []
        for i in range(rows):
            for j in range(i):
                difference = means[i] - means[j]
                low, high = bootstrap.interval(difference) or (0, 0)
                centre = float(difference.mean())
                pairs.append(
                    PairedDifference(
                        a=str(i), b=str(j), difference=centre, ci95=(low, high), n_samples=groups, n_groups=groups
                    )
                )
        judged = judge(table(*pairs), {}, {}, ())
        alone += any(p.ci95[0] > 0 or p.ci95[1] < 0 for p in judged.pairs)
        marked += any(p.decided for p in judged.pairs)
    assert alone / trials > 0.3
    assert marked / trials <= 0.09


def test_a_spread_from_other_trainings_undoes_what_one_seed_seemed_to_decide() -> None:
    """-0.6 [-1.1, -0.1] with these weights; three seeds differ by 0.4."""
    of_three = {"control": row(77.9, 74.3, 75.9), "baseline": row(78.46, 74.53, 75.75)}
    one = {"control": row(77.9), "baseline": row(78.46)}
    found = judge(table(pair("control", "baseline", -0.6)), one, of_three, ("control", "baseline")).pairs[0]
    spread = np.std([-0.56, -0.23, 0.15], ddof=1)
    assert (found.training, found.training_seeds) == ("reference", 3)
    assert found.training_sd == pytest.approx(spread)
    assert found.ci95_groups == pytest.approx((-1.1, -0.1))
    assert found.ci95[1] - found.difference == pytest.approx(np.hypot(0.5, 4.3027 * spread), abs=1e-3)
    assert found.decided is False
    fixed = judge(table(pair("control", "baseline", -0.6)), one, of_three, ()).pairs[0]
    assert (fixed.training, fixed.ci95, fixed.decided) == ("none", fixed.ci95_groups, True)
    far = {"control": row(77.9, 74.3, 75.9), "baseline": row(84.46, 80.53, 81.75)}
    large = judge(table(pair("control", "baseline", -6.56)), one, far, ("control", "baseline")).pairs[0]
    assert large.decided is True
    lucky = judge(table(pair("control", "baseline", -6.56)), one, of_three, ("control", "baseline")).pairs[0]
    assert lucky.decided is False, "three trainings differ by 0.2 on average"


def test_trainings_of_a_table_are_pooled_and_rows_without_seeds_take_the_prior() -> None:
    three = {
        "a": row(70, 71, 72.4),
        "b": row(80, 81.5, 81.7),
        "c": row(90, 91, 93),
        "d": row(60, 60.4, 63),
        "u": row(99.0),
    }
    pairs = [pair(x, y, three[x].value - three[y].value) for x, y in combinations("abcd", 2)]
    pairs += [pair(x, "u", three[x].value - 99.0) for x in "abcd"]
    found = {(p.a, p.b): p for p in judge(table(*pairs), three, {}, "abcdu").pairs}
    own, unknown = found["a", "b"], found["a", "u"]
    assert (own.training, own.training_seeds) == ("own", 3)
    assert own.training_df > 2
    s = np.std([-10, -10.5, -9.3], ddof=1)
    assert s != pytest.approx(own.training_sd), "moderated"
    assert (unknown.training, unknown.training_seeds) == ("prior", 0)
    assert 1 <= unknown.training_df <= 2
    sd = {p.training_sd for key, p in found.items() if "u" in key}
    assert len(sd) == 1
    d0, d = own.training_df - 2, 2
    assert own.training_sd**2 == pytest.approx((d0 * sd.pop() ** 2 + d * s**2) / (d0 + d))
    few = {name: three[name] for name in "abu"}
    (alone,) = judge(table(pair("a", "u", -28.0)), few, {}, "abu").pairs
    assert (alone.training, alone.decided) == ("unknown", False)


def test_an_unknown_spread_decides_nothing() -> None:
    one = {"a": row(10.0), "b": row(90.0)}
    for reference in ({}, {"a": row(1.0, 2.0)}, {"a": row(1.0, 2.0, missing=3), "b": row(1.0, 2.0)}):
        found = judge(table(pair("a", "b", -80.0)), one, reference, ("a", "b")).pairs[0]
        assert (found.training, found.decided, found.training_sd) == ("unknown", False, None)
        assert found.ci95 == found.ci95_groups
    against_fixed = judge(table(pair("a", "b", -80.0)), one, {"a": row(1.0, 2.0, 1.4)}, ("a",)).pairs[0]
    assert (against_fixed.training, against_fixed.decided) == ("reference", True)


def test_several_seeds_are_paired_and_their_mean_varies_less() -> None:
    both = {"a": row(70.0, 60.0, 65.0), "b": row(71.0, 61.2, 65.8)}
    found = judge(table(pair("a", "b", -1.0, half=0.1)), both, {}, ("a", "b")).pairs[0]
    assert found.training == "own"
    assert found.training_sd == pytest.approx(0.2)
    assert found.ci95[1] == pytest.approx(-1 + np.hypot(0.1, 4.3027 * 0.2 / np.sqrt(3)), abs=1e-3)
    stated = pair("a", "b", -1.0, half=0.1, seeds=seeds(-1.0, -1.6, -0.4))
    assert judge(table(stated), both, {}, ("a", "b")).pairs[0].training_sd == pytest.approx(0.6)
    missing = {"a": row(70.0, 60.0, missing=2), "b": row(71.0, 61.0)}
    assert judge(table(pair("a", "b", -1.0)), missing, {}, ("a", "b")).pairs[0].training == "unknown"


def test_judging_twice_changes_nothing() -> None:
    both = {"a": row(70.0, 60.0, 65.0), "b": row(71.0, 61.2, 65.8)}
    once = judge(table(pair("a", "b", -1.0), ranks="ab"), both, {}, ("a", "b"))
    assert judge(once, both, {}, ("a", "b")) == once
    assert once.marks == "step-down"


def test_places_follow_from_the_marks() -> None:
    pairs = [pair("a", "b", -0.1), pair("a", "c", -9.0), pair("b", "c", -8.9)]
    scores = {name: row(1.0) for name in "abc"}
    judged = judge(table(*pairs, ranks="abc"), scores, {}, ())
    assert [(r.rank, r.ci95) for r in judged.ranks] == [(1, (1, 2)), (2, (1, 2)), (3, (3, 3))]
    more = {name: row(1.0, lower=False) for name in "abc"}
    judged = judge(table(*pairs, ranks="cba"), more, {}, ())
    assert [(r.method, r.ci95) for r in judged.ranks] == [("c", (1, 1)), ("b", (2, 3)), ("a", (2, 3))]


def test_five_recordings_decide_nothing() -> None:
    """Were all of five to agree, a test of signs would still not reach 5 %."""
    assert [few_groups(n) for n in (1, 5, 6)] == [True, True, False]
    assert stats.binomtest(0, 5).pvalue > 0.05 >= stats.binomtest(0, 6).pvalue
    scores = {name: row(1.0) for name in "ab"}
    assert judge(table(pair("a", "b", -50.0, groups=5), ranks="ab"), scores, {}, ()).pairs[0].decided is False
    assert judge(table(pair("a", "b", -50.0, groups=6), ranks="ab"), scores, {}, ()).pairs[0].decided is True


def test_a_score_of_several_seeds_is_widened_once() -> None:
    plain = row(70.0, ci95=(68.0, 73.0))
    assert with_training(plain) is plain
    several = with_training(row(70.0, 68.0, 72.0, ci95=(69.0, 71.0)))
    half = np.hypot(1, 4.3027 * 2 / np.sqrt(3))
    assert several.ci95_groups == (69.0, 71.0)
    assert several.ci95 == pytest.approx((70 - half, 70 + half), abs=1e-3)
    assert with_training(several) is several
    percent = with_training(row(98.0, 99.0, 99.9, ci95=(98.0, 99.9)).model_copy(update={"unit": "%"}))
    assert percent.ci95[1] == 100


def file(method: str = "m", **provenance) -> ScoreFile:
    values = {
        "git_commit": "c", "git_dirty": False, "options": {"steps": 5}, "params_sha256": "p", "data_manifest": "d",
        "checkpoint_sha256": {"seed0": "x"}, "seeds": [0], "versions": {}, "hardware": "h",
        "created": "2026-01-01T00:00:00+00:00", "mlflow_run": "r",
    }  # fmt: skip
    made = Provenance.model_validate({**values, **provenance})
    return ScoreFile(method=method, dataset="human36m", synthetic=True, profile="p", scores=[], provenance=made)


def training(method: str, after: str | None, **options) -> TrainingFile:
    return TrainingFile(
        method=method, dataset="human36m", synthetic=True, profile="p", after=after, parameters=1, runs=[],
        provenance=file(options=options).provenance,
    )  # fmt: skip


def test_the_spread_is_of_the_same_row() -> None:
    assert same_row(file(), file(options={"steps": 9}), {}, {}), "the same weights"
    other = {"seed0": "y", "seed1": "z"}
    assert same_row(file(), file(checkpoint_sha256=other, options={"steps": 5, "later": 1}), {}, {})
    assert not same_row(file(), file(checkpoint_sha256=other, options={"steps": 9}), {}, {})
    assert not same_row(file(), file(data_manifest="another world"), {}, {})
    assert not same_row(file(), file("n"), {}, {})
    ours = {"m": training("m", "backbone"), "backbone": training("backbone", None, steps=3000)}
    small = {"m": training("m", "backbone"), "backbone": training("backbone", None, steps=12)}
    far = file(checkpoint_sha256=other)
    assert same_row(file(), far, ours, ours)
    assert not same_row(file(), far, ours, small)
    assert not same_row(file(), far, ours, {})


def test_compare_records_the_differences_of_equal_seeds(make_truth, make_predictions, make_table) -> None:
    truth, table = make_truth(), make_table("mpjpe_absolute")

    def scored(*offsets: float):
        tables = [
            make_predictions(truth, truth.joints_mm + np.array([offset, 0, 0]), seed=seed)
            for seed, offset in enumerate(offsets)
        ]
        return score(table, answered(*tables), truth, resamples=50)

    (found,) = compare(table, {"a": scored(10, 12, 14), "b": scored(20, 24, 25)}, resamples=50)
    (one,) = found.pairs
    assert [seed.value for seed in one.seeds] == pytest.approx([-10, -12, -11], abs=1e-4)
    assert one.difference == pytest.approx(-11, abs=1e-4)
    assert one.ci95_groups == pytest.approx((-11, -11), abs=1e-4)
    assert one.ci95 == pytest.approx((-11 - 2.4841, -11 + 2.4841), abs=1e-3)
    assert (one.training, one.decided) == ("own", True)
    assert [(rank.method, rank.ci95) for rank in found.ranks] == [("a", (1, 1)), ("b", (2, 2))]
    singles = {"a": scored(10), "b": scored(20)}
    (unknown,) = compare(table, singles, resamples=50)
    assert unknown.pairs[0].decided is False
    known = {"a": scored(10, 12, 14).scores, "b": scored(20, 24, 25).scores}
    (judged,) = compare(table, singles, resamples=50, reference=known)
    assert (judged.pairs[0].training, judged.pairs[0].training_sd) == ("reference", pytest.approx(1, abs=1e-4))
    (uneven,) = compare(table, {"a": scored(10, 12, 14), "b": scored(20, 24)}, resamples=50)
    assert uneven.pairs[0].seeds == []


def test_rows_without_common_seeds_vary_by_the_prior_in_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has recorded seeds, and yet the spread of their difference is not known: it is not taken for none."""
    first = {name: row(*(level + 8 * np.array(of_row))) for name, level, of_row in zip(
        "acde", (70, 71, 72, 73), [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)], strict=True)}  # fmt: skip
    others = {
        name: row(*values).model_copy(
            update={"seeds": [SeedValue(seed=k, value=v) for k, v in zip((3, 4, 5), values, strict=True)]}
        )
        for name, values in {"b": (80.0, 90.0, 101.0), "f": (85.0, 90.0, 95.0)}.items()
    }
    scores = {**first, **others}
    pairs = [pair(a, b, scores[a].value - scores[b].value) for a, b in combinations(scores, 2)]
    tested = []
    monkeypatch.setattr(decisions, "step_down", lambda tests, prior: tested.extend(tests) or [True] * len(tests))
    judged = judge(table(*pairs), scores, {}, set(scores))
    without = {(p.a, p.b) for p in judged.pairs if (p.a in first) != (p.b in first)}
    assert {p.training for p in judged.pairs if (p.a, p.b) in without} == {"prior"}
    assert {test.rows: test.unknown for test in tested if test.unknown} == {rows: rows for rows in without}
    assert all(not p.decided for p in judged.pairs if p.ci95[0] <= 0 <= p.ci95[1]), "no mark against its interval"


def test_the_prior_does_not_depend_on_the_order_of_a_set() -> None:
    """The hash of a text differs between processes, and with it the order in which a set is iterated over."""
    program = (
        "import numpy as np\n"
        "from itertools import combinations\n"
        "from poseboard.protocols.decisions import Prior\n"
        "names = ['algebraic', 'dlt', 'dlt_peak', 'epipolar', 'ransac', 'ransac_swap', 'volumetric', 'lifting']\n"
        "for values in np.random.default_rng(0).chisquare(2, (40, 28)):\n"
        "    print(Prior.of({p: (float(v), 3) for p, v in zip(combinations(names, 2), values)}))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3", "4", "5")
    }
    assert len(printed) == 1
