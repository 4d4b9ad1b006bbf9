"""Paired differences and rank intervals between methods."""

from dataclasses import replace

import numpy as np
import pytest
from predicted import answered, seen_by

from poseboard.protocols.comparison import compare
from poseboard.protocols.records import TableComparison
from poseboard.protocols.scoring import Scored, score


@pytest.fixture
def scored(make_truth, make_predictions, make_table):
    """Score methods whose x is off by the given mm: name -> (N,) or number."""

    def run(protocol: str = "mpjpe_absolute", seeds: int = 1, **offsets) -> dict[str, Scored]:
        truth = make_truth()
        found = {}
        for method, offset in offsets.items():
            joints = truth.joints_mm + np.broadcast_to(offset, len(truth))[:, None, None] * np.array([1.0, 0, 0])
            tables = [make_predictions(truth, joints, seed=seed) for seed in range(seeds)]
            found[method] = score(make_table(protocol), answered(*tables), truth, resamples=50)
        return found

    return run


def pair(comparison: TableComparison, a: str, b: str):
    return next(p for p in comparison.pairs if (p.a, p.b) == (a, b))


def test_paired_differences(scored, make_table) -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(10, 90, 34)
    methods = scored(worse=hard + 2, best=hard, other=hard + 1 + rng.normal(0, 0.2, 34))
    (found,) = compare(make_table("mpjpe_absolute"), methods, learned=())
    assert [(p.a, p.b) for p in found.pairs] == [("best", "other"), ("best", "worse"), ("other", "worse")]
    exact = pair(found, "best", "worse")
    assert exact.difference == pytest.approx(-2, abs=1e-3)
    assert exact.ci95 == pytest.approx((-2, -2), abs=1e-3)
    assert (exact.n_samples, exact.n_groups) == (34, 8)
    close = pair(found, "best", "other")
    low, high = methods["best"].scores[0].ci95
    assert close.ci95[0] < close.difference < close.ci95[1] < 0
    assert (close.ci95[1] - close.ci95[0]) * 10 < high - low, "pairing cancels what is hard for both"
    assert [(r.method, r.rank, r.ci95) for r in found.ranks] == [
        ("best", 1, (1, 1)), ("other", 2, (2, 2)), ("worse", 3, (3, 3))]  # fmt: skip
    assert found.signature == methods["best"].scores[0].signature


def test_rank_intervals_widen_where_methods_are_close(scored, make_table) -> None:
    rng = np.random.default_rng(1)
    methods = scored(a=rng.uniform(10, 90, 34), b=rng.uniform(10, 90, 34), last=500.0)
    (found,) = compare(make_table("mpjpe_absolute"), methods, learned=())
    intervals = {rank.method: rank.ci95 for rank in found.ranks}
    assert intervals["a"] == intervals["b"] == (1, 2)
    assert intervals["last"] == (3, 3)


def test_only_common_poses_are_compared(make_truth, make_predictions, make_table) -> None:
    """A method that leaves out its worst poses gains in its own mean, not in the difference, and has no rank."""
    truth = make_truth()
    offset = np.where(np.arange(34) < 10, 100.0, 10.0)[:, None, None] * np.array([1.0, 0, 0])
    whole = truth.joints_mm + offset
    shy = whole[10:]
    table = make_table("mpjpe_absolute")
    methods = {
        "whole": score(table, answered(make_predictions(truth, whole)), truth, resamples=50),
        "shy": score(table, answered(make_predictions(truth, shy, truth.keys[10:])), truth, resamples=50),
    }
    assert methods["shy"].scores[0].value < methods["whole"].scores[0].value
    (found,) = compare(table, methods, learned=())
    assert found.pairs[0].difference == pytest.approx(0, abs=1e-4)
    assert found.pairs[0].n_samples == 24
    assert [(rank.method, rank.rank, rank.ci95) for rank in found.ranks] == [("whole", 1, (1, 1))]
    assert found.unranked == ["shy"]


def test_a_bound_is_compared_without_a_mark_and_has_no_rank(scored, make_table) -> None:
    methods = scored(bound=1.0, near=10.0, far=30.0)
    (found,) = compare(make_table("mpjpe_absolute"), methods, learned=(), bounds={"bound"})
    assert [(rank.method, rank.rank, rank.ci95) for rank in found.ranks] == [("near", 1, (1, 1)), ("far", 2, (2, 2))]
    assert {(one.a, one.b): one.decided for one in found.pairs} == {
        ("bound", "near"): False,
        ("bound", "far"): False,
        ("near", "far"): True,
    }


@pytest.mark.parametrize("protocol", ["mpjpe_absolute", "pck"])
def test_a_pair_is_the_same_whoever_else_is_compared(make_truth, make_predictions, make_table, protocol: str) -> None:
    """Numbers of rows that answer everything are computed once for all pairs; of a row with gaps for each."""
    truth, rng = make_truth(), np.random.default_rng(2)
    table = make_table(protocol)
    methods = {}
    for method, gaps in {"a": 0, "b": 0, "c": 9, "d": 0, "e": 9, "f": 4}.items():
        joints = truth.joints_mm + rng.normal(0, 60, truth.joints_mm.shape)
        tables = [make_predictions(truth, joints[gaps:] + seed, truth.keys[gaps:], seed=seed) for seed in range(2)]
        methods[method] = score(table, answered(*tables), truth, resamples=50)
    (together,) = compare(table, methods, resamples=50, learned=())
    assert len(together.pairs) == 15
    for found in together.pairs:
        (alone,) = compare(table, {name: methods[name] for name in (found.a, found.b)}, resamples=50, learned=())
        (same,) = alone.pairs
        assert {same.a, same.b} == {found.a, found.b}
        sign = 1 if same.a == found.a else -1
        assert sign * same.difference == found.difference
        assert (same.n_samples, same.n_groups) == (found.n_samples, found.n_groups)
        assert sorted(sign * end for end in same.ci95) == sorted(found.ci95)
        assert [sign * seed.value for seed in same.seeds] == [seed.value for seed in found.seeds]


def test_tables_that_share_no_signature_are_not_compared(scored, make_table) -> None:
    frames = scored(a=1.0)
    assert compare(make_table("mpjpe_absolute"), frames) == []
    empty = make_table("mpjpe_absolute", id="other")
    assert compare(empty, scored(a=1.0, b=2.0)) == []


def test_a_share_counts_what_is_missing_as_wrong(make_truth, make_predictions, make_table) -> None:
    """Leaving out poses costs in the comparison by PCK as it costs in PCK itself."""
    truth = make_truth()
    table = make_table("pck", threshold_mm=30)
    shift = np.array([100.0, 0, 0]) * (np.arange(17) == 1)[:, None]  # one joint of 17 is wrong
    methods = {
        "whole": score(table, answered(make_predictions(truth, truth.joints_mm + shift)), truth, resamples=50),
        "shy": score(
            table, answered(make_predictions(truth, truth.joints_mm[17:], truth.keys[17:])), truth, resamples=50
        ),
    }
    assert (methods["shy"].scores[0].n_missing, methods["shy"].scores[0].n_left_out) == (17, 0)
    (found,) = compare(table, methods, learned=())
    assert found.unit == "%"
    assert pair(found, "whole", "shy").difference == pytest.approx(100 * (16 / 17 - 17 / 34))
    assert [(rank.method, rank.rank) for rank in found.ranks] == [("whole", 1), ("shy", 2)]


def test_one_group_ranks_nothing(make_truth, make_predictions, make_table) -> None:
    truth = make_truth().take(np.arange(7))  # S9/Walking-1
    table = make_table("mpjpe_absolute")
    methods = {
        name: score(table, answered(make_predictions(truth, truth.joints_mm + shift)), truth, resamples=50)
        for name, shift in (("near", 1.0), ("far", 9.0))
    }
    (found,) = compare(table, methods, learned=())
    assert (found.pairs, found.ranks) == ([], [])


def test_frames_whose_cameras_are_one_estimate_are_drawn_together(make_truth, make_predictions, make_table) -> None:
    """Errors are equal within a rig, from frames of all sequences: sequences alone would all have the same mean."""
    frames = 3
    truth = make_truth(sequences={f"Walking-{n}": 12 for n in range(5)})
    truth = replace(truth, seen_by=seen_by(np.broadcast_to(np.eye(3), (len(truth), 4, 3, 3))))
    rig = truth.seen_by.together(frames)
    assert len(set(rig)) == len(truth) // frames
    off_mm = np.random.default_rng(0).normal(100, 30, len(set(rig)))[rig]
    direction = np.zeros((len(truth), len(truth.skeleton), 3))
    direction[..., 0] = off_mm[:, None]
    table = make_table("mpjpe_absolute", groups=[{"frames_per_rig": frames}])
    rows = {
        name: score(
            table,
            answered(make_predictions(truth, truth.joints_mm + s * direction, method=name, frames_per_rig=frames)),
            truth,
            resamples=2000,
        )
        for name, s in (("near", 1.0), ("far", 1.5))
    }
    spread = off_mm.std() / np.sqrt(len(set(rig)))
    low, high = rows["near"].scores[0].ci95
    assert 0.7 * 3.92 * spread < high - low < 1.3 * 3.92 * spread
    (compared,) = compare(table, rows, resamples=2000)
    low, high = pair(compared, "near", "far").ci95
    assert 0.7 * 3.92 * spread / 2 < high - low < 1.3 * 3.92 * spread / 2
    # one frame alone: every one is an estimate of its own
    alone = score(make_table("mpjpe_absolute"), answered(make_predictions(truth, truth.joints_mm + direction)), truth)
    assert "rig" not in alone.errors
