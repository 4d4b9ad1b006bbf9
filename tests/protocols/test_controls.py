"""How much larger errors are than in a control: paired over people, whatever is hard for them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from predicted import answered

from poseboard.datasets.errors import InputError
from poseboard.protocols.base import TruthTable
from poseboard.protocols.comparison import increases
from poseboard.protocols.records import Increase
from poseboard.protocols.scoring import Scored, score
from poseboard.protocols.table import Group, Table, check_control

TABLE = "B"
TWIN = {"S9": "K9", "S11": "K11"}


def as_control(truth: TruthTable, *, backwards: bool = False) -> TruthTable:
    """The same people under other names, in the split "known"."""
    chosen = truth.take(np.argsort([key.split("/")[0] == "S9" for key in truth.keys], kind="stable"))
    chosen = chosen if backwards else truth
    keys = np.array([f"{TWIN[key.split('/')[0]]}/{key.split('/', 1)[1]}" for key in chosen.keys], dtype=object)
    subject = pd.Categorical([key.split("/")[0] for key in keys])
    return replace(chosen, keys=keys, split_keys=keys, subject=subject, split="known")


@pytest.fixture
def scored(make_predictions, make_table):
    """A method whose x is off by so many mm per pose, one array a seed; where it is NaN there is no answer."""

    def run(truth: TruthTable, *offsets, protocol: str = "mpjpe_absolute", **info) -> Scored:
        tables = []
        for seed, given in enumerate(offsets):
            offset = np.broadcast_to(given, len(truth))
            there = np.isfinite(offset)
            joints_mm = (truth.joints_mm + offset[:, None, None] * np.array([1.0, 0, 0]))[there]
            tables.append(make_predictions(truth, joints_mm, truth.keys[there], seed=seed, **info))
        groups = (Group(cameras=info.get("cameras", "all")),)
        table = make_table(protocol).model_copy(update={"split": truth.split, "groups": groups})
        return score(table, answered(*tables), truth, resamples=50)

    return run


@pytest.fixture
def tables(make_table) -> tuple[Table, Table]:
    table = make_table("mpjpe_absolute").model_copy(update={"control": "known"})
    return table, table.model_copy(update={"id": "known", "split": "known", "control": None})


@pytest.fixture
def compared(tables):
    """The increases of rows: name -> that of the row."""

    def run(here: dict[str, Scored], there: dict[str, Scored]) -> dict[str, Increase]:
        found = increases(*tables, here, there, resamples=200)
        assert all((one.table, one.control, one.signature.split) == (TABLE, "known", "test") for one in found)
        return {increase.method: increase for one in found for increase in one.increases}

    return run


def test_what_is_hard_for_both_cancels(make_truth, scored, compared) -> None:
    truth = make_truth()
    known = as_control(truth)
    hard = np.random.default_rng(0).uniform(10, 90, len(truth))
    rows = {"equal": hard, "tenth": 1.1 * hard}
    found = compared(
        {name: scored(truth, offset) for name, offset in rows.items()},
        {name: scored(known, hard) for name in rows} | {"elsewhere": scored(known, hard)},
    )
    assert set(found) == {"equal", "tenth"}, "a row without a number in both is left out"
    equal, tenth = found["equal"], found["tenth"]
    assert (equal.value, *equal.ci95) == pytest.approx((0, 0, 0), abs=1e-3)
    assert (tenth.value, *tenth.ci95) == pytest.approx((10, 10, 10), abs=1e-3)
    assert (tenth.n_people, tenth.n_samples) == (2, 34)


def test_people_are_paired_by_number_and_resampled_together(make_truth, scored, compared) -> None:
    """One person's errors grow and the other's do not: the interval is from the one to the other, in any order."""
    truth = make_truth()
    known = as_control(truth, backwards=True)
    here = np.where([key.startswith("S9/") for key in truth.keys], 60.0, 20.0)
    there = np.where([key.startswith("K9/") for key in known.keys], 40.0, 20.0)
    increase = compared({"a": scored(truth, here)}, {"a": scored(known, there)})["a"]
    assert increase.value == pytest.approx(100 * (40 / 30 - 1), abs=1e-3)
    assert increase.ci95 == pytest.approx((0, 50), abs=1e-3)


def test_poses_count_that_both_answer(make_truth, scored, compared) -> None:
    """Who leaves out hard poses in one of the two gains nothing."""
    truth = make_truth()
    known = as_control(truth)
    hard = np.where(np.arange(34) % 3 == 0, 90.0, 10.0)
    shy = scored(truth, np.where(hard > 50, np.nan, hard))
    increase = compared({"a": shy}, {"a": scored(known, hard)})["a"]
    assert shy.scores[0].value == pytest.approx(10)
    assert (increase.value, *increase.ci95) == pytest.approx((0, 0, 0), abs=1e-3)
    assert increase.n_samples == int((hard < 50).sum())
    assert increase.scores == pytest.approx((hard.mean(), 10))


def test_a_person_who_is_answered_in_one_alone_does_not_count(make_truth, scored, compared) -> None:
    truth = make_truth()
    first = np.array([key.startswith("S9/") for key in truth.keys])
    increase = compared(
        {"a": scored(truth, np.where(first, 30.0, np.nan))}, {"a": scored(as_control(truth), np.where(first, 20.0, 5))}
    )["a"]
    assert (increase.value, increase.ci95, increase.n_people) == (pytest.approx(50), None, 1)
    nobody = scored(truth, np.where(first, 30.0, np.nan)), scored(as_control(truth), np.where(first, np.nan, 20.0))
    assert not compared({"a": nobody[0]}, {"a": nobody[1]})


def test_the_interval_of_several_seeds_has_their_spread(make_truth, scored, compared) -> None:
    truth = make_truth()
    known = as_control(truth)
    increase = compared({"a": scored(truth, 20.0, 30.0)}, {"a": scored(known, 20.0, 20.0)})["a"]
    assert [(one.seed, one.value) for one in increase.seeds] == [(0, pytest.approx(0)), (1, pytest.approx(50))]
    assert increase.value == pytest.approx(25), "of the means, as scores are"
    assert increase.ci95_people == pytest.approx((25, 25))
    assert increase.ci95[0] < 0
    assert increase.ci95[1] > 50
    assert not compared({"a": scored(truth, 20.0, 30.0)}, {"a": scored(known, 20.0)}), "other seeds: other trainings"


def test_numbers_of_other_cameras_are_not_compared(make_truth, scored, compared) -> None:
    truth = make_truth()
    known = scored(as_control(truth), 20.0, cameras=truth.views[:2])
    assert not compared({"a": scored(truth, 20.0)}, {"a": known})


def test_people_in_one_of_the_two_are_left_out(make_truth, scored, compared) -> None:
    """A control of some of the people is one of these; one of nobody is refused."""
    truth = make_truth()
    known = as_control(truth)
    some = known.take(np.flatnonzero([key.startswith("K9/") for key in known.keys]))
    increase = compared({"a": scored(truth, 30.0)}, {"a": scored(some, 20.0)})["a"]
    assert (increase.value, increase.n_people) == (pytest.approx(50), 1)
    others = as_control(make_truth(sequences={"Posing-1": 7}))
    with pytest.raises(InputError, match=f"table {TABLE}: control: known: has none of its people"):
        compared({"a": scored(truth, 20.0)}, {"a": scored(others, 20.0)})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"split": "test"}, "is of the same split"),
        ({"dataset": "panoptic"}, "is run on panoptic"),
        ({"protocol": "pa_mpjpe"}, "differs in protocol"),
        ({"groups": (Group(frames_per_rig=2),)}, "differs in groups"),
        ({"every": 2}, "differs in every"),
    ],
)
def test_a_control_that_is_none_is_refused(tables, changes, why) -> None:
    table, control = tables
    check_control(table, control)
    with pytest.raises(InputError, match=f"table {TABLE}: control: known: {why}"):
        check_control(table, control.model_copy(update=changes))


@pytest.mark.parametrize("protocol", ["pck", "ap_people"])
def test_a_protocol_without_errors_of_true_poses_has_no_control(tables, protocol) -> None:
    changes = {"protocol": protocol, "parameters": {}}
    table, control = (one.model_copy(update=changes) for one in tables)
    with pytest.raises(InputError, match=f"{protocol} states no error of each true pose"):
        check_control(table, control)
