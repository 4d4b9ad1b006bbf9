"""PCK of several people: oracles, leaks, and how its four readings differ."""

from dataclasses import replace

import numpy as np
import pytest
from crowd import BODY, crowd, told, value

from poseboard.datasets.errors import InputError
from poseboard.protocols.condition import Condition
from poseboard.protocols.pck_people import PckPeople, match_in_image

READINGS = {
    (kind, people): PckPeople(relative=kind == "rel", people=people)
    for kind in ("abs", "rel")
    for people in ("all", "matched")
}


def values(truth, joints, **how):
    return {
        name: value(protocol, told(truth, joints, roots_only=False, **how), truth)
        for name, protocol in READINGS.items()
    }


def test_the_truth_is_perfect_in_all_and_their_signatures_differ():
    truth, joints = crowd()
    assert set(values(truth, joints).values()) == {100}
    assert len({str(protocol.measure(BODY)) for protocol in READINGS.values()}) == 4
    of_roots = PckPeople(joints=("root",))
    assert value(of_roots, told(truth, joints), truth) == 100
    assert value(of_roots, told(truth, joints, roots_only=False), truth) == 100


def test_depth_ruins_the_absolute_ones_alone():
    """A person is moved along the ray of the root: the image hardly changes, and so does the pose about the root."""
    truth, joints = crowd()
    root = joints[:, 1:2]
    moved = joints + root * (500 / root[..., 2:])
    found = values(truth, moved)
    assert found["abs", "all"] == found["abs", "matched"] == 0
    assert found["rel", "all"] == found["rel", "matched"] == 100


def test_missing_people_hurt_where_all_count():
    truth, joints = crowd((2, 3, 1, 0, 2))
    found = values(truth, joints[::2], rows=np.arange(len(truth))[::2])
    assert found == {("abs", "all"): 50, ("abs", "matched"): 100, ("rel", "all"): 50, ("rel", "matched"): 100}
    none = values(truth, joints[:0], rows=[])
    assert none == {("abs", "all"): 0, ("abs", "matched"): None, ("rel", "all"): 0, ("rel", "matched"): None}


def test_neither_order_nor_repetition_matters():
    truth, joints = crowd((3, 2, 4), seed=4)
    rng = np.random.default_rng(5)
    guesses = joints + rng.normal(0, 90, joints.shape)
    reference = values(truth, guesses)
    order = rng.permutation(len(truth))
    assert values(truth, guesses[order], rows=order) == pytest.approx(reference)
    rows = np.tile(np.arange(len(truth)), 2)
    assert values(truth, np.tile(guesses, (2, 1, 1)), rows=rows) == pytest.approx(reference)
    # a joint at exactly the distance is wrong
    edge = joints + np.array([150.0, 0, 0])
    assert values(truth, edge)["abs", "all"] < 100
    assert values(truth, joints + np.array([149.9, 0, 0]))["abs", "all"] == 100


def test_matching_prefers_more_joints_then_closer_ones():
    truth = np.array([[[0.0, 0], [100, 0]], [[30, 0], [500, 0]]])
    pred = np.array([[[20.0, 0], [110, 0]], [[1, 0], [np.nan, np.nan]]])
    image = np.zeros(2, dtype=int)
    assert match_in_image(pred, image, truth, image, 40).tolist() == [0, 1]
    assert match_in_image(pred[1:], image[:1], truth, image, 40).tolist() == [0]
    assert match_in_image(pred + np.array([0, 40]), image, truth, image, 40).tolist() == [-1, -1]
    assert match_in_image(pred, image + 1, truth, image, 40).tolist() == [-1, -1]


def test_joints_that_are_not_annotated_do_not_count():
    truth, joints = crowd((2, 1))
    world = truth.joints_mm.copy()
    world[0, 2] = np.nan
    lacking = replace(truth, joints_mm=world)
    assert set(values(lacking, joints).values()) == {100}
    wrong = joints.copy()
    wrong[0, 2] += 1000
    assert set(values(lacking, wrong).values()) == {100}
    assert values(truth, wrong)["abs", "all"] == pytest.approx(100 * 8 / 9)
    world[0] = np.nan
    assert (
        len(READINGS["abs", "all"].errors(told(truth, joints, roots_only=False), replace(truth, joints_mm=world))) == 2
    )


def test_sequences_weigh_the_same_where_asked():
    truth, joints = crowd((3, 1), scenes=2)
    wrong = joints.copy()
    wrong[3] += [0, 0, 5000]
    pred = told(truth, wrong, roots_only=False)
    assert value(PckPeople(), pred, truth) == 75
    assert value(PckPeople(average="sequences"), pred, truth) == 50
    assert PckPeople().breakdown(PckPeople().errors(pred, truth))["sequence"] == {"TS0": 100.0, "TS1": 0.0}


def test_what_makes_no_sense_is_refused():
    truth, joints = crowd()
    with pytest.raises(ValueError, match="a root about itself"):
        PckPeople(relative=True, joints=("root",))
    pred = told(truth, joints, frame="world", roots_only=False)
    several = replace(pred, info=pred.info.model_copy(update={"condition": Condition(cameras=("camera", "other"))}))
    with pytest.raises(InputError, match="2 cameras were seen"):
        PckPeople().errors(several, truth)
    with pytest.raises(InputError, match="no head, pelvis, foot"):
        PckPeople().errors(told(truth, joints), truth)
