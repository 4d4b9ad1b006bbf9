"""``average: worst_subject``: the mean of the subject with the worst one, and what its interval is."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from predicted import answered

from poseboard.datasets.errors import InputError
from poseboard.protocols import bootstrap
from poseboard.protocols.base import find_protocol
from poseboard.protocols.comparison import compare
from poseboard.protocols.scoring import score

SUBJECTS = [f"R{number:02d}" for number in range(1, 6)]


@pytest.fixture
def make_rigs(make_truth):
    """A truth table of five subjects with three sequences each, of unequal lengths."""

    def make():
        truth = make_truth(sequences={"Walking-1": 8, "Sitting-1": 4, "Greeting-1": 3})
        part = truth.take(np.arange(15))
        subject = np.repeat(SUBJECTS, 15)
        keys = np.array([f"{s}/{key.split('/', 1)[1]}" for s, key in zip(subject, np.tile(part.keys, 5), strict=True)])
        categories = {
            name: pd.Categorical(np.tile(np.asarray(getattr(part, name)), 5)) for name in ("action", "sequence")
        }
        return replace(
            part,
            keys=keys.astype(object),
            split_keys=keys.astype(object),
            person=np.tile(part.person, 5),
            joints_mm=np.tile(part.joints_mm, (5, 1, 1)),
            subject=pd.Categorical(subject),
            **categories,
        )

    return make


def moved_by(truth, by_subject_mm):
    """The truth with every subject's poses moved by so many mm."""
    shift = np.array([by_subject_mm[name] for name in np.asarray(truth.subject)])
    return truth.joints_mm + shift[:, None, None] * np.array([1.0, 0.0, 0.0])


OFF_MM = dict(zip(SUBJECTS, (10.0, 20.0, 60.0, 30.0, 40.0), strict=True))


def test_it_is_the_largest_of_the_subjects_means(make_rigs, make_predictions, make_table) -> None:
    truth = make_rigs()
    pred = answered(make_predictions(truth, moved_by(truth, OFF_MM)))
    (worst,) = score(make_table("mpjpe_absolute", average="worst_subject"), pred, truth, resamples=200).scores
    (mean,) = score(make_table("mpjpe_absolute"), pred, truth, resamples=200).scores
    assert worst.value == pytest.approx(60, abs=1e-3)
    assert mean.value == pytest.approx(32, abs=1e-3)
    assert worst.breakdown["subject"] == pytest.approx(OFF_MM, abs=1e-3)
    assert worst.breakdown["subject"] == pytest.approx(mean.breakdown["subject"])
    assert worst.value == pytest.approx(max(value for value in mean.breakdown["subject"].values() if value is not None))
    assert worst.signature.average == "worst_subject"
    assert worst.signature != mean.signature
    assert worst.signature.version == mean.signature.version == 1


def test_of_shares_it_is_the_smallest(make_rigs, make_predictions, make_table) -> None:
    truth = make_rigs()
    joints_mm = truth.joints_mm.copy()
    joints_mm[np.asarray(truth.subject) == "R02", :4] += 1000.0
    table = make_table("pck", average="worst_subject")
    (found,) = score(table, answered(make_predictions(truth, joints_mm)), truth, resamples=100).scores
    assert found.value == pytest.approx(100 * 13 / 17, abs=1e-3)


def test_an_oracle_is_perfect_and_what_is_missing_is_told(make_rigs, make_predictions, make_table) -> None:
    truth = make_rigs()
    table = make_table("mpjpe_relative", average="worst_subject")
    (oracle,) = score(table, answered(make_predictions(truth)), truth, resamples=100).scores
    assert oracle.value == pytest.approx(0, abs=1e-3)
    assert oracle.ci95 == pytest.approx((0, 0), abs=1e-3)
    joints_mm = truth.joints_mm.copy()
    joints_mm[np.asarray(truth.subject) == "R03"] = np.nan
    (found,) = score(table, answered(make_predictions(truth, joints_mm)), truth, resamples=100).scores
    assert (found.n_missing, found.breakdown["subject"]["R03"]) == (15, None)


def test_a_shift_of_one_subject_is_all_that_the_others_do_not_hide(make_rigs, make_predictions, make_table) -> None:
    """Leak test: a subject that fails is seen whole, however many others there are; the mean shows a fifth of it."""
    truth = make_rigs()
    pred = answered(make_predictions(truth, moved_by(truth, dict.fromkeys(SUBJECTS, 0.0) | {"R04": 100.0})))
    (worst,) = score(make_table("mpjpe_absolute", average="worst_subject"), pred, truth, resamples=100).scores
    (mean,) = score(make_table("mpjpe_absolute"), pred, truth, resamples=100).scores
    assert worst.value == pytest.approx(5 * mean.value, abs=1e-2)


def test_under_resampling_it_is_the_largest_of_the_resampled_means() -> None:
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"subject": np.repeat(list("abcd"), 30), "error": rng.gamma(2, 10, 120)})
    codes = np.repeat(np.arange(12), 10)
    rule = find_protocol("mpjpe_relative", {"average": "worst_subject"}, "test")
    multiplicity = bootstrap.draws(12, 50)
    estimates = rule.estimate(table, codes, multiplicity)
    for row, estimate in zip(multiplicity, estimates, strict=True):
        again = table.loc[np.concatenate([np.repeat(np.flatnonzero(codes == g), int(row[g])) for g in range(12)])]
        assert estimate == pytest.approx(again.groupby("subject")["error"].mean().max())


def test_the_interval_is_moved_against_the_bias_of_resampling() -> None:
    """Subjects that differ, each known by three noisy sequences: percentiles alone lie too high."""
    rng = np.random.default_rng(0)
    subjects, sequences, trials = 20, 3, 120
    codes, strata = np.arange(subjects * sequences), np.repeat(np.arange(subjects), sequences)
    multiplicity = bootstrap.draws(subjects * sequences, 300)
    held = {"moved": 0, "percentiles": 0}
    for _ in range(trials):
        true_means = 40 + 5 * rng.standard_normal(subjects)
        values = np.repeat(true_means, sequences) + 8 * rng.standard_normal(subjects * sequences)
        value = bootstrap.extreme(values, codes, np.ones((1, len(codes))), strata, largest=True)[0]
        estimates = bootstrap.extreme(values, codes, multiplicity, strata, largest=True)
        for name, (low, high) in {
            "moved": bootstrap.interval_of_extreme(value, estimates),
            "percentiles": bootstrap.interval(estimates),
        }.items():
            held[name] += low <= true_means.max() <= high
    assert held["moved"] / trials > 0.7
    assert held["percentiles"] / trials < 0.6


def test_a_number_of_one_resample_has_no_bias() -> None:
    assert bootstrap.interval_of_extreme(5.0, np.array([5.0, 5.0])) == (5.0, 5.0)
    assert bootstrap.interval_of_extreme(5.0, np.array([np.nan])) is None


def test_an_error_has_no_interval_below_zero(make_rigs, make_predictions, make_table) -> None:
    truth = make_rigs()
    rng = np.random.default_rng(1)
    off_mm = dict.fromkeys(SUBJECTS, 0.0)
    joints_mm = moved_by(truth, off_mm) + (rng.random(len(truth)) < 0.05)[:, None, None] * 300.0
    table = make_table("mpjpe_absolute", average="worst_subject")
    (found,) = score(table, answered(make_predictions(truth, joints_mm)), truth, resamples=200).scores
    assert found.ci95 is not None
    assert 0 <= found.ci95[0] <= found.ci95[1]


def test_two_methods_are_compared_on_the_worst_subject_of_each(make_rigs, make_predictions, make_table) -> None:
    truth = make_rigs()
    table = make_table("mpjpe_absolute", average="worst_subject")
    better = {name: mm / 2 for name, mm in OFF_MM.items()}
    scored = {
        name: score(table, answered(make_predictions(truth, moved_by(truth, off_mm))), truth, resamples=100)
        for name, off_mm in (("a", better), ("b", OFF_MM))
    }
    (compared,) = compare(table, scored, resamples=100)
    (pair,) = compared.pairs
    assert (pair.a, pair.b) == ("a", "b")
    assert pair.difference == pytest.approx(-30, abs=1e-3)
    assert pair.ci95[0] <= pair.difference <= pair.ci95[1] + 1e-6


def test_other_averages_are_refused() -> None:
    with pytest.raises(InputError, match=r"parameters\.average"):
        find_protocol("mpjpe_relative", {"average": "worst"}, "test")
