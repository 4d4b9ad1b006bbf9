"""What rows lose from a control: paired over people, whatever is hard for them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from predicted import answered

from poseboard.datasets.errors import InputError
from poseboard.protocols.base import TruthTable
from poseboard.protocols.controls import losses
from poseboard.protocols.records import ControlComparison
from poseboard.protocols.scoring import Scored, score
from poseboard.protocols.table import Group


def as_control(truth: TruthTable, names: dict[str, str]) -> TruthTable:
    """The same people under other names, in the split "known"."""
    keys = np.array([f"{names[key.split('/')[0]]}/{key.split('/', 1)[1]}" for key in truth.keys], dtype=object)
    subject = pd.Categorical([key.split("/")[0] for key in keys])
    return replace(truth, keys=keys, split_keys=keys, subject=subject, split="known")


TABLE = "B"
NAMES = {"S9": "K1", "S11": "K2"}


@pytest.fixture
def scored(make_predictions, make_table):
    """A method whose x is off by so many mm per pose, one array a seed."""

    def run(truth: TruthTable, *offsets, protocol: str = "mpjpe_absolute", **info) -> Scored:
        shifts = [np.broadcast_to(offset, len(truth))[:, None, None] * np.array([1.0, 0, 0]) for offset in offsets]
        tables = [
            make_predictions(truth, truth.joints_mm + shift, seed=seed, **info) for seed, shift in enumerate(shifts)
        ]
        table = make_table(protocol).model_copy(
            update={"split": truth.split, "groups": (Group(cameras=info.get("cameras", "all")),)}
        )
        return score(table, answered(*tables), truth, resamples=50)

    return run


@pytest.fixture
def compared(make_table):
    def run(here: dict[str, Scored], there: dict[str, Scored], **changes: object) -> list[ControlComparison]:
        table = make_table("mpjpe_absolute").model_copy(update={"control": "known"})
        control = table.model_copy(update={"id": "known", "split": "known", **changes})
        return losses(table, control, here, there, resamples=200)

    return run


def test_what_is_hard_for_both_cancels(make_truth, scored, compared) -> None:
    truth = make_truth()
    known = as_control(truth, NAMES)
    hard = np.random.default_rng(0).uniform(10, 90, len(truth))
    rows = {"equal": hard, "tenth": 1.1 * hard}
    (found,) = compared(
        {name: scored(truth, offset) for name, offset in rows.items()},
        {name: scored(known, hard) for name in rows} | {"elsewhere": scored(known, hard)},
    )
    assert (found.table, found.control, found.signature.split) == (TABLE, "known", "test")
    equal, tenth = found.losses
    assert (equal.method, tenth.method) == ("equal", "tenth"), "a row without a number in both is left out"
    assert (equal.value, *equal.ci95) == pytest.approx((0, 0, 0), abs=1e-3)
    assert (tenth.value, *tenth.ci95) == pytest.approx((10, 10, 10), abs=1e-3)
    assert tenth.n_groups == 2


def test_people_are_paired_and_resampled_together(make_truth, scored, compared) -> None:
    """One person loses and the other one does not: the interval is from the one's loss to the other's."""
    truth = make_truth()
    first = np.array([key.startswith("S9/") for key in truth.keys])
    (found,) = compared(
        {"a": scored(truth, np.where(first, 60.0, 20.0))},
        {"a": scored(as_control(truth, {"S9": "K2", "S11": "K1"}), np.where(first, 40.0, 20.0))},
    )
    (loss,) = found.losses
    assert loss.value == pytest.approx(100 * (40 / 30 - 1), abs=1e-3)
    assert loss.ci95 == pytest.approx((0, 50), abs=1e-3)


def test_seeds_are_told_one_by_one(make_truth, scored, compared) -> None:
    truth = make_truth()
    known = as_control(truth, NAMES)
    (found,) = compared({"a": scored(truth, 20.0, 30.0)}, {"a": scored(known, 20.0, 20.0)})
    (loss,) = found.losses
    assert [(one.seed, one.value) for one in loss.seeds] == [(0, pytest.approx(0)), (1, pytest.approx(50))]
    assert loss.value == pytest.approx(25), "of the means, as scores are"
    assert not compared({"a": scored(truth, 20.0, 30.0)}, {"a": scored(known, 20.0)}), "other seeds are other trainings"


def test_numbers_of_other_cameras_are_not_compared(make_truth, scored, compared) -> None:
    truth = make_truth()
    known = scored(as_control(truth, NAMES), 20.0, cameras=truth.views[:2])
    assert not compared({"a": scored(truth, 20.0)}, {"a": known})


@pytest.mark.parametrize("sequences", [{"Walking-1": 17}, {"Walking-1": 7, "Walking-2": 5}])
def test_a_control_of_others_is_refused(make_truth, scored, compared, sequences) -> None:
    truth, others = make_truth(), as_control(make_truth(sequences=sequences), NAMES)
    with pytest.raises(InputError, match=f"table {TABLE}: control: known: shows others"):
        compared({"a": scored(truth, 20.0)}, {"a": scored(others, 20.0)})


def test_a_control_of_another_protocol_is_refused(make_truth, scored, compared) -> None:
    truth = make_truth()
    row = {"a": scored(truth, 20.0)}
    with pytest.raises(InputError, match="control: known: has another protocol"):
        compared(row, row, protocol="pa_mpjpe")
