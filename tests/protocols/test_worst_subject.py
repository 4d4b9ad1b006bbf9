"""``average: worst_subject``: the mean of the subject with the worst one, which states no interval."""

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


def test_a_row_that_leaves_out_its_worst_subject_has_no_number(make_rigs, make_predictions, make_table) -> None:
    """`rigs-worst`: the worst of the rigs that a row chose to predict is not its worst. PCK counts them as wrong."""
    truth = make_rigs()
    kept = np.asarray(truth.subject) != "R03"
    pred = answered(make_predictions(truth, moved_by(truth, OFF_MM)[kept], truth.keys[kept]))
    (found,) = score(make_table("mpjpe_absolute", average="worst_subject"), pred, truth, resamples=100).scores
    assert (found.value, found.n_missing, found.complete) == (None, 15, False)
    assert found.breakdown["subject"]["R03"] is None
    one_pose = kept | (np.arange(len(truth)) == 30)
    pred = answered(make_predictions(truth, moved_by(truth, OFF_MM)[one_pose], truth.keys[one_pose]))
    (found,) = score(make_table("mpjpe_absolute", average="worst_subject"), pred, truth, resamples=100).scores
    assert found.value == pytest.approx(60, abs=1e-3)
    assert (found.n_left_out, found.complete) == (14, False)
    pred = answered(make_predictions(truth, truth.joints_mm[kept], truth.keys[kept]))
    (share,) = score(make_table("pck", average="worst_subject"), pred, truth, resamples=100).scores
    assert (share.value, share.n_missing, share.complete) == (0, 15, True)


def test_a_shift_of_one_subject_is_all_that_the_others_do_not_hide(make_rigs, make_predictions, make_table) -> None:
    """Leak test: a subject that fails is seen whole, however many others there are; the mean shows a fifth of it."""
    truth = make_rigs()
    pred = answered(make_predictions(truth, moved_by(truth, dict.fromkeys(SUBJECTS, 0.0) | {"R04": 100.0})))
    (worst,) = score(make_table("mpjpe_absolute", average="worst_subject"), pred, truth, resamples=100).scores
    (mean,) = score(make_table("mpjpe_absolute"), pred, truth, resamples=100).scores
    assert worst.value == pytest.approx(5 * mean.value, abs=1e-2)


def test_under_resampling_it_is_the_largest_of_the_resampled_means() -> None:
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"subject": np.repeat(list("abcd"), 30), "error": rng.gamma(2, 10, 120), "missing": False})
    codes = np.repeat(np.arange(12), 10)
    rule = find_protocol("mpjpe_relative", {"average": "worst_subject"}, "test")
    multiplicity = bootstrap.draws(12, 50)
    estimates = rule.estimate(table, codes, multiplicity)
    for row, estimate in zip(multiplicity, estimates, strict=True):
        again = table.loc[np.concatenate([np.repeat(np.flatnonzero(codes == g), int(row[g])) for g in range(12)])]
        assert estimate == pytest.approx(again.groupby("subject")["error"].mean().max())


def test_it_has_no_interval_and_two_rows_are_not_compared_by_it(make_rigs, make_predictions, make_table) -> None:
    """The largest of noisy means is too large by what three sequences do not tell: see `SinglePerson`."""
    truth = make_rigs()
    for average, stated in (("worst_subject", False), ("frames", True)):
        table = make_table("mpjpe_absolute", average=average)
        scored = {
            name: score(table, answered(make_predictions(truth, moved_by(truth, off_mm))), truth, resamples=100)
            for name, off_mm in (("b", OFF_MM), ("a", {name: mm / 2 for name, mm in OFF_MM.items()}))
        }
        assert [(scored[name].scores[0].ci95 is not None) for name in scored] == [stated, stated]
        (compared,) = compare(table, scored, resamples=100)
        assert len(compared.pairs) == stated
        assert [(rank.method, rank.rank) for rank in compared.ranks] == [("a", 1), ("b", 2)]


def test_other_averages_are_refused() -> None:
    with pytest.raises(InputError, match=r"parameters\.average"):
        find_protocol("mpjpe_relative", {"average": "worst"}, "test")
