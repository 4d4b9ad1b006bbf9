"""Rows that predict only what they are sure of: such a row has no rank and no mark, or its number gets worse."""

from collections.abc import Callable

import numpy as np
import pytest
from crowd import crowd, told
from numpy.typing import NDArray
from predicted import answered, rows_of

from poseboard.protocols.base import TruthTable
from poseboard.protocols.comparison import compare
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.scoring import Scored, score
from poseboard.protocols.table import Table

Kept = NDArray[np.bool_]
Choice = Callable[[TruthTable, NDArray[np.float64], NDArray[np.float64]], Kept]
"""Truth, error and own score of each pose -> which poses the cheat predicts."""


def surest_fifth(truth: TruthTable, error_mm: NDArray[np.float64], sureness: NDArray[np.float64]) -> Kept:
    return sureness >= np.quantile(sureness, 0.8)


def easier_half(truth: TruthTable, error_mm: NDArray[np.float64], sureness: NDArray[np.float64]) -> Kept:
    return error_mm <= np.median(error_mm)


def three_surest(truth: TruthTable, error_mm: NDArray[np.float64], sureness: NDArray[np.float64]) -> Kept:
    return sureness >= np.sort(sureness)[-3]


def three_frames(truth: TruthTable, error_mm: NDArray[np.float64], sureness: NDArray[np.float64]) -> Kept:
    return np.asarray(np.arange(len(truth)) < 3)


def all_but_the_hardest_action(truth: TruthTable, error_mm: NDArray[np.float64], sureness: NDArray[np.float64]) -> Kept:
    actions = np.asarray(truth.action)
    hardest = max(np.unique(actions).tolist(), key=lambda action: float(error_mm[actions == action].mean()))
    return np.asarray(actions != hardest)


def usual_depths(truth: TruthTable, error_mm: NDArray[np.float64], sureness: NDArray[np.float64]) -> Kept:
    depth_mm = np.linalg.norm(np.nanmean(truth.joints_mm, axis=1), axis=-1)
    return np.abs(depth_mm - np.median(depth_mm)) <= np.quantile(np.abs(depth_mm - np.median(depth_mm)), 0.6)


def one_person_per_frame(truth: TruthTable, error_mm: NDArray[np.float64], sureness: NDArray[np.float64]) -> Kept:
    surest: dict[str, int] = {}
    for row in np.argsort(sureness).tolist():
        surest[truth.keys[row]] = row
    return np.isin(np.arange(len(truth)), list(surest.values()))


CHOICES: tuple[Choice, ...] = (
    surest_fifth,
    easier_half,
    three_surest,
    three_frames,
    all_but_the_hardest_action,
    usual_depths,
)


def is_better(cheat: Scored, honest: Scored) -> bool:
    a, b = cheat.scores[0], honest.scores[0]
    assert a.value is not None
    assert b.value is not None
    return a.value < b.value if a.lower_is_better else a.value > b.value


def assert_nothing_is_gained(table: Table, rows: dict[str, Scored], cheat: Scored) -> None:
    """The cheat is unranked and unmarked, or no better than the same row with all predictions; others keep places."""
    (without,) = compare(table, rows, resamples=200, learned=())
    (found,) = compare(table, {**rows, "cheat": cheat}, resamples=200, learned=())
    (one,) = cheat.scores
    assert one.n_missing > 0, "how many are missing is stated"
    of_cheat = [pair for pair in found.pairs if "cheat" in (pair.a, pair.b)]
    if one.complete:
        assert not is_better(cheat, rows["weak"])
        place = {rank.method: rank.rank for rank in found.ranks}
        assert place["cheat"] >= place["weak"]
    else:
        assert found.ranks == without.ranks
        assert [pair for pair in found.pairs if pair not in of_cheat] == without.pairs
        assert sorted(found.unranked) == sorted(["cheat", *without.unranked])
        assert not any(pair.decided for pair in of_cheat)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.__name__)
@pytest.mark.parametrize(
    ("protocol", "parameters"),
    [
        ("mpjpe_absolute", {}),
        ("mpjpe_absolute", {"average": "actions"}),
        ("mpjpe_clipped", {"limit_mm": 150}),
        ("pa_mpjpe", {}),
        ("pck", {"threshold_mm": 100}),
        ("pck", {"report": "auc"}),
        ("failure_rate", {"limit_mm": 60}),
    ],
)
def test_poses_that_are_left_out_bring_nothing(
    make_truth, make_predictions, make_table, choice: Choice, protocol: str, parameters: dict
) -> None:
    truth, rng = make_truth(), np.random.default_rng(0)
    hard = rng.uniform(0.3, 3.0, len(truth))
    off = hard[:, None, None] * rng.normal(0, 35, truth.joints_mm.shape)
    error_mm = np.linalg.norm(off, axis=2).mean(axis=1)
    sureness = -error_mm + rng.normal(0, 5, len(truth))
    kept = choice(truth, error_mm, sureness)
    assert 0 < kept.sum() < len(truth)
    table = make_table(protocol, **parameters)

    def scored(pred: PoseTable) -> Scored:
        return score(table, answered(pred), truth, resamples=200)

    weak = make_predictions(truth, truth.joints_mm + off)
    rows = {"good": scored(make_predictions(truth, truth.joints_mm + 0.8 * off)), "weak": scored(weak)}
    cheat = scored(rows_of(weak, np.flatnonzero(kept)))
    if choice in (surest_fifth, easier_half, three_surest) and protocol.startswith("mpjpe"):
        assert is_better(cheat, rows["good"]), "its number alone would have the first place"
    assert_nothing_is_gained(table, rows, cheat)


@pytest.mark.parametrize("choice", [*CHOICES, one_person_per_frame], ids=lambda choice: choice.__name__)
@pytest.mark.parametrize(
    ("protocol", "parameters"),
    [
        ("ap_people", {"within_mm": 100}),
        ("ap_people", {"report": "mpjpe", "within_mm": 500}),
        ("ap_people", {"report": "recall", "within_mm": 500}),
        ("ap_root", {"within_mm": 150}),
        ("ap_root", {"report": "recall", "within_mm": 150}),
        ("mrpe", {}),
        ("mrpe", {"part": "z"}),
        ("pck_people", {}),
        ("pck_people", {"people": "matched"}),
    ],
)
def test_people_who_are_left_out_bring_nothing(choice: Choice, protocol: str, parameters: dict) -> None:
    truth, joints_mm = crowd((4, 3, 5, 2, 4, 3), scenes=3, seed=4)
    rng = np.random.default_rng(1)
    off = rng.uniform(0.3, 3.0, len(truth))[:, None, None] * rng.normal(0, 60, (len(truth), 1, 3))
    error_mm = np.linalg.norm(off, axis=2).mean(axis=1)
    sureness = 1 / (1 + error_mm / 100)
    kept = choice(truth, error_mm, sureness)
    assert 0 < kept.sum() < len(truth)
    table = Table.model_validate(
        {"id": "R", "title": "t", "dataset": "crowd", "protocol": protocol, "parameters": parameters}
    )

    def scored(pred: PoseTable) -> Scored:
        return score(table, answered(pred), truth, resamples=200)

    good, weak = (told(truth, joints_mm + s * off, score=sureness, roots_only=False) for s in (0.8, 1.0))
    cheat = scored(rows_of(weak, np.flatnonzero(kept)))
    assert_nothing_is_gained(table, {"good": scored(good), "weak": scored(weak)}, cheat)
