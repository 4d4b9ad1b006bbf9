"""PCK of several people: oracles, leaks, and how its four readings differ."""

from dataclasses import replace

import numpy as np
import pytest
from crowd import BODY, STANDING_MM, crowd, told, value

from poseboard.datasets.errors import InputError
from poseboard.datasets.mupots import MUPOTS
from poseboard.protocols.condition import Condition
from poseboard.protocols.pck_people import (
    JOINTS,
    PckPeople,
    match_in_file_order,
    match_in_image,
    with_true_bone_lengths,
)

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
    with pytest.raises(InputError, match="2 cameras are in the input"):
        PckPeople().errors(several, truth)
    with pytest.raises(InputError, match="no head, pelvis, foot"):
        PckPeople().errors(told(truth, joints), truth)


# The published rule, on people before a camera of 900 px focal length at the world's origin. Expectations by hand.

PUBLISHED = {key: PckPeople(rule="published", relative=key[0] == "rel", people=key[1]) for key in READINGS}


def standing(*pelvises_mm):
    """Truth of one image with people whose pelvises are there; joints in the camera's frame, which is the world's."""
    truth, _ = crowd((0, len(pelvises_mm)), skeleton=MUPOTS)
    joints = np.array(pelvises_mm, dtype=np.float64)[:, None] + STANDING_MM
    return replace(truth, joints_mm=joints), joints


def both_rules(truth, joints, **how):
    """The numbers of all people by the published and by the sound rule: absolute, relative."""
    pred = told(truth, joints, roots_only=False, **how)
    return [
        tuple(value(readings[kind, "all"], pred, truth) for kind in ("abs", "rel"))
        for readings in (PUBLISHED, READINGS)
    ]


def moved(joints, by_mm, *names):
    joints = joints.copy()
    joints[:, MUPOTS.indices(names)] += by_mm
    return joints


def test_the_published_rule_has_mupots_joints_and_a_signature_of_its_own():
    assert MUPOTS.joints == JOINTS
    measure = PUBLISHED["rel", "matched"].measure(MUPOTS)
    assert measure.judged == "published: true people in file order, most of 13 joints within 40 px in the image"
    assert measure.joints.startswith("14 of mupots-17: head_top, thorax, ")
    assert "pelvis" not in measure.joints
    assert "bones scaled to their true lengths" in measure.alignment
    measures = [protocol.measure(MUPOTS) for protocol in (*PUBLISHED.values(), *READINGS.values())]
    assert len({str(one) for one in measures}) == 8
    truth, joints = standing((0, 0, 4000), (2000, 0, 5000))
    assert both_rules(truth, joints) == [(100, 100), (100, 100)]


def test_by_the_published_rule_true_people_choose_in_the_order_of_the_file():
    """One person 200 mm behind another, 9 px apart at the head; predicted is the one behind, exactly."""
    truth, joints = standing((0, 0, 4000), (0, 0, 4200))
    published, sound = both_rules(truth, joints[1:], rows=[1])
    assert published == (0, 50), "the first takes it, 200 mm off, and the second has no one"
    assert sound == (50, 50)
    # the same people in the other order
    turned = truth.take(np.array([1, 0]))
    assert both_rules(turned, joints[1:], rows=[0]) == [(50, 50), (50, 50)]


def test_by_the_published_rule_of_equal_counts_the_first_prediction_is_taken():
    """180 mm in depth move the feet by 8 px of 900 * 800 / 4000 = 180: all 13 joints of both are within 40 px."""
    truth, joints = standing((0, 0, 4000))
    two = np.concatenate([joints + np.array([0, 0, 180]), joints])
    assert both_rules(truth, two, rows=[0, 0]) == [(0, 100), (100, 100)]
    assert both_rules(truth, two[::-1], rows=[0, 0]) == [(100, 100), (100, 100)]


def test_by_the_published_rule_a_prediction_with_more_near_joints_is_taken():
    """Both hands of the first are 45 px off (200 mm), so the second has 13 near joints of 13 and the first 11."""
    truth, joints = standing((0, 0, 4000))
    hands = moved(joints, (0, 200, 0), "left_wrist", "right_wrist")
    assert both_rules(truth, np.concatenate([hands, joints]), rows=[0, 0])[0] == (100, 100)
    # two people: the second person, too, may only have what is left
    image, px = np.zeros(3, dtype=int), np.zeros((3, 2, 2))
    px[1] += 30
    assert match_in_file_order(px, image, px, image, 40).tolist() == [0, 1, 2]
    assert match_in_file_order(px[[1, 0]], image[:2], px, image, 40).tolist() == [0, 1]
    assert match_in_file_order(px[:1] + 40, image[:1], px[:1], image[:1], 40).tolist() == [-1]
    assert match_in_file_order(px[:0], image[:0], px, image, 40).tolist() == []
    assert match_in_file_order(px, image, px[:0], image[:0], 40).tolist() == [-1, -1, -1]


def test_the_published_rule_scales_bones():
    """A quarter too large about the pelvis: ankles are 202 mm off, the top of the head 188, all others below 150."""
    truth, joints = standing((0, 0, 4000))
    large = joints + 0.25 * STANDING_MM
    published, sound = both_rules(truth, large)
    assert published == (100, 100)
    assert sound == pytest.approx((100 * 14 / 17, 100 * 14 / 17))
    # a left arm that points sideways, its upper bone twice as long: scaled, elbow and wrist are both 424 mm off
    arm = moved(moved(joints, (600, -300, 0), "left_elbow"), (600, 0, 0), "left_wrist")
    scaled = with_true_bone_lengths(arm, joints)[0] - joints[0]
    np.testing.assert_allclose(scaled[MUPOTS.indices(["left_elbow", "left_wrist"])], [[300, -300, 0]] * 2, atol=1e-9)
    assert np.abs(scaled).sum() == pytest.approx(1200)
    published, sound = both_rules(truth, arm)
    assert published == pytest.approx((100 * 12 / 14, 100 * 12 / 14))
    assert sound == pytest.approx((100 * 15 / 17, 100 * 15 / 17))


def test_the_published_rule_averages_fourteen_joints_and_matches_by_thirteen():
    truth, joints = standing((0, 0, 4000))
    head = moved(joints, (1000, 0, 0), "head")
    assert both_rules(truth, head)[0] == (100, 100)
    assert both_rules(truth, head)[1] == pytest.approx((100 * 16 / 17, 100 * 16 / 17))
    # only the top of the head, pelvis, spine and head are near in the image: none of joints 2 to 14
    away = moved(joints, (1000, 0, 0), *JOINTS[1:14])
    published, sound = both_rules(truth, away)
    assert published == (0, 0)
    assert sound == pytest.approx((100 * 4 / 17, 100 * 4 / 17))


def test_the_published_rule_counts_matched_people_only_where_asked_and_sequences_alike():
    truth, joints = crowd((3, 1), scenes=2, skeleton=MUPOTS)
    pred = told(truth, joints[:3], rows=[0, 1, 2], roots_only=False)
    assert value(PUBLISHED["rel", "all"], pred, truth) == 75
    assert value(PckPeople(rule="published", average="sequences"), pred, truth) == 50
    assert value(PUBLISHED["rel", "matched"], pred, truth) == 100
    rows = PUBLISHED["rel", "matched"].errors(pred, truth)
    assert (rows["missing"].tolist(), rows["error"].isna().sum()) == ([False, False, False, True], 1)


def test_the_published_rule_refuses_other_joints():
    truth, joints = crowd()
    with pytest.raises(InputError, match=r"crowd: truth: has no head_top; use the sound rule"):
        PckPeople(rule="published").errors(told(truth, joints, roots_only=False), truth)
    with pytest.raises(ValueError, match="the published rule has its own"):
        PckPeople(rule="published", joints=("root",))
