"""3D PCP on made-up people: counted by hand, and what must hold for any answer."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.datasets.multi_human_pose import TUM14
from poseboard.datasets.skeleton import COCO, HUMAN36M, Skeleton
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.pcp3d import JOINTS, Pcp3d
from poseboard.protocols.predictions import PoseTable, PredictionInfo

STANDING = {
    "ankle": (100, 0, 0), "knee": (100, 0, 400), "hip": (100, 0, 800), "shoulder": (200, 0, 1400),
    "elbow": (200, 0, 1100), "wrist": (200, 0, 800),
}  # fmt: skip
"""Limbs along z: legs 400 mm, arms 300 mm, a head of 200 mm and a torso of 700 mm."""


def person(x_mm: float = 0.0) -> NDArray[np.float64]:
    """(14, 3) a standing person with the left side at positive x."""
    joints = {f"{side}_{part}": (sign * x, y, z) for part, (x, y, z) in STANDING.items()
              for side, sign in (("left", 1), ("right", -1))}  # fmt: skip
    joints |= {"chin": (0, 0, 1500), "head_top": (0, 0, 1700)}
    return np.array([joints[name] for name in TUM14.joints], dtype=np.float64) + np.array([x_mm, 0, 0])


def truth_of(*frames: list[NDArray[np.float64]], skeleton: Skeleton = TUM14) -> TruthTable:
    """One key per frame, its actors in order; an actor of NaN is absent."""
    keys = np.array([f"hall/{i}" for i in range(len(frames))], dtype=object)
    people = [len(of_frame) for of_frame in frames]
    rows = np.repeat(np.arange(len(frames)), people)
    group = pd.Categorical(["g"] * len(rows))
    return TruthTable(
        keys=keys[rows], person=np.concatenate([np.arange(n, dtype=np.int32) for n in people]),
        joints_mm=np.concatenate([np.stack(of_frame) for of_frame in frames]), subject=group, action=group,
        sequence=group, split_keys=keys, skeleton=skeleton, dataset="hall", split="test", views=("a",), manifest="m",
    )  # fmt: skip


def answers_of(
    *frames: list[NDArray[np.float64]], skeleton: Skeleton = TUM14, score: NDArray[np.float64] | None = None
) -> PoseTable:
    keys = np.array([f"hall/{i}" for i, of_frame in enumerate(frames) for _ in of_frame], dtype=object)
    joints = np.array([pose for of_frame in frames for pose in of_frame]).reshape(-1, len(skeleton), 3)
    info = PredictionInfo(skeleton=skeleton.name, joints=skeleton.joints, dataset="hall",
                          condition=Condition(cameras=("a",)), manifest="m", method="m")  # fmt: skip
    number = np.array([p for of_frame in frames for p in range(len(of_frame))], dtype=np.int32)
    frame = np.full(len(keys), "world", dtype=object)
    score = np.ones(len(keys)) if score is None else score
    return PoseTable(keys, number, score.astype(np.float32), frame, joints.astype(np.float32), info)


def pcp(pred: PoseTable, truth: TruthTable, **parameters: object) -> float | None:
    rule = Pcp3d.model_validate(parameters)
    return rule.summarise(rule.errors(pred, truth))


def moved(pose: NDArray[np.float64], by_mm: tuple[float, float, float], *names: str) -> NDArray[np.float64]:
    pose = pose.copy()
    pose[TUM14.indices(names)] += by_mm
    return pose


NOBODY = np.full((14, 3), np.nan)


def test_limbs_by_hand() -> None:
    """A wrist off by 290 of 300 mm leaves its limb right (145 is at most 150), by 310 mm it does not."""
    truth = truth_of([person()])
    assert pcp(answers_of([person()]), truth) == 100
    assert pcp(answers_of([moved(person(), (0, 290, 0), "left_wrist")]), truth) == 100
    assert pcp(answers_of([moved(person(), (0, 310, 0), "left_wrist")]), truth) == pytest.approx(90)
    # an elbow is an end of two limbs
    assert pcp(answers_of([moved(person(), (0, 310, 0), "left_elbow")]), truth) == pytest.approx(80)
    # a chin off by 210 mm spoils the head (105 of 100) and not the torso (105 of 350)
    rule = Pcp3d()
    rows = rule.errors(answers_of([moved(person(), (0, 210, 0), "chin")]), truth)
    assert rule.breakdown(rows)["limb"] == {
        "head": 0, "torso": 100, "upper arms": 100, "lower arms": 100, "upper legs": 100, "lower legs": 100,
    }  # fmt: skip
    # hips that are off in opposite ways leave their middle where it is: 700 mm of torso, 400 mm of either leg
    apart = moved(moved(person(), (0, 410, 0), "left_hip"), (0, -410, 0), "right_hip")
    rows = rule.errors(answers_of([apart]), truth)
    assert (rule.breakdown(rows)["limb"]["torso"], rule.breakdown(rows)["limb"]["upper legs"]) == (100, 0)


def test_the_number_is_the_mean_of_actors_whatever_their_frames() -> None:
    """Actor 0 has three frames, all right; actor 1 one frame with a wrong limb; a fourth actor does not count."""
    wrong = moved(person(2000), (0, 310, 0), "left_wrist")
    truth = truth_of(*[[person(), person(2000) if i == 0 else NOBODY, NOBODY, person(4000)] for i in range(3)])
    pred = answers_of([person(), wrong], [person()], [person()])
    assert pcp(pred, truth) == pytest.approx((100 + 90) / 2)
    rows = Pcp3d().errors(pred, truth)
    assert len(rows) == 4
    assert Pcp3d().breakdown(rows)["actor"] == pytest.approx({"actor 0": 100, "actor 1": 90})


def test_a_missed_person_is_wrong_unless_the_signature_says_dropped() -> None:
    truth = truth_of([person(), person(5000)], [person(), person(5000)])
    pred = answers_of([person()], [])
    for rule in ("sound", "compat"):
        assert pcp(pred, truth, rule=rule) == pytest.approx((50 + 0) / 2), "the person is far from the second actor"
        assert pcp(pred, truth, rule=rule, missed="dropped") == 100
        rows = Pcp3d(rule=rule, missed="dropped").errors(pred, truth)
        assert rows["missing"].tolist() == [False, True, True, True]
        assert pcp(answers_of([], []), truth, rule=rule) == 0
        assert pcp(answers_of([], []), truth, rule=rule, missed="dropped") is None
    assert Pcp3d().errors(pred, truth)["missing"].tolist() == [False, True, True, True]
    assert Pcp3d(rule="compat").errors(pred, truth)["missing"].tolist() == [False, False, True, True]


def test_signatures_name_the_rule_and_what_missed_people_are() -> None:
    judged = {
        Pcp3d(rule=rule, missed=missed).measure(TUM14).judged
        for rule in ("sound", "compat")
        for missed in ("wrong", "dropped")
    }
    assert len(judged) == 4
    assert sum(words.startswith("compat: ") for words in judged) == 2


def test_one_person_may_answer_two_actors_only_by_the_compat_rule() -> None:
    truth = truth_of([person(), person(100)])
    pred = answers_of([person(50)])
    assert pcp(pred, truth, rule="compat") == 100
    assert pcp(pred, truth) == 50
    rows = Pcp3d(rule="compat", missed="dropped").errors(pred, truth)
    assert rows["missing"].sum() == 1


def test_of_several_answers_the_one_of_the_highest_score_counts() -> None:
    wrong = moved(person(), (0, 310, 0), "left_wrist")
    truth = truth_of([person()])
    assert pcp(answers_of([person(), wrong], score=np.array([0.9, 0.1])), truth) == 100
    assert pcp(answers_of([person(), wrong], score=np.array([0.1, 0.9])), truth) == pytest.approx(90)
    assert pcp(answers_of([person(), wrong]), truth) == pytest.approx(90), "of equal scores the farthest"
    assert pcp(answers_of([wrong, person()], score=np.array([0.9, 0.1])), truth, rule="compat") == 100


def test_an_answer_is_within_half_a_metre_and_has_half_of_the_joints() -> None:
    truth = truth_of([person()])
    assert pcp(answers_of([person(49)]), truth) == 100
    arm = moved(person(), (0, 5000, 0), *(name for name in TUM14.joints if not name.startswith("left_")))
    assert pcp(answers_of([arm]), truth) == 0, "2.9 m off on average"
    assert pcp(answers_of([arm]), truth, rule="compat") > 0
    seven, six = person(), person()
    seven[TUM14.indices(sorted(TUM14.joints)[7:])] = np.nan
    six[TUM14.indices(sorted(TUM14.joints)[6:])] = np.nan
    assert not Pcp3d().errors(answers_of([seven]), truth)["missing"].any()
    assert Pcp3d().errors(answers_of([six]), truth)["missing"].all()


def test_a_person_who_is_no_actor_answers_none() -> None:
    truth = truth_of([person(), NOBODY, NOBODY, person(300)])
    pred = answers_of([person(300), person()], score=np.array([0.9, 0.1]))
    assert pcp(pred, truth) == 100
    assert pcp(answers_of([person(300)]), truth) == 0


@pytest.mark.parametrize("equal", [True, False])
def test_copies_do_not_raise_the_number(equal: bool) -> None:
    """300 copies with noise, and 100 shifted ones; by the compat rule they do, which is what its name warns of."""
    actors = [person(), person(2000), person(4000)]
    rng = np.random.default_rng(1)
    guesses = [pose + rng.normal(0, 150, (14, 3)) for pose in actors]
    truth = truth_of(actors)
    honest = {rule: pcp(answers_of(guesses), truth, rule=rule) for rule in ("sound", "compat")}
    jittered = [pose + rng.normal(0, 60, (14, 3)) for pose in guesses for _ in range(300)]
    shifted = [pose + rng.uniform(-200, 200, 3) for pose in guesses for _ in range(100)]
    for copies in (jittered, shifted):
        several = [*guesses, *copies]
        first = np.concatenate([np.ones(3), np.full(len(copies), 0.5)])  # the honest answers are surest
        pred = answers_of(several, score=np.ones(len(several)) if equal else first)
        assert pcp(pred, truth) <= honest["sound"]
        assert pcp(pred, truth, rule="compat") > honest["compat"]


def test_the_head_is_made_of_cocos_joints_by_the_published_rules() -> None:
    """Shoulders at 1400, ears at 1600, the nose 100 mm before them at 1550: by the rules of Campus and of Shelf."""
    pose = np.zeros((len(COCO), 3))
    for name in COCO.joints:
        if name in TUM14.joints:
            pose[COCO.joints.index(name)] = person()[TUM14.joints.index(name)]
    pose[COCO.indices(["left_ear", "right_ear", "nose"])] = [(80, 0, 1600), (-80, 0, 1600), (0, 100, 1550)]
    for rule, chin, top in (
        ("ears", (0, 0, 1500), (0, 0, 1700)),
        ("nose_and_ears", (0, 37.5, 1481.25), (0, 56.25, 1643.75)),
    ):
        joints_mm = Pcp3d(head=rule)._of_truth(answers_of([pose], skeleton=COCO))[0]
        np.testing.assert_allclose(joints_mm[JOINTS.index("chin")], chin, atol=1e-3)
        np.testing.assert_allclose(joints_mm[JOINTS.index("head_top")], top, atol=1e-3)
        knee = joints_mm[JOINTS.index("left_knee")]
        np.testing.assert_array_equal(knee, person()[TUM14.joints.index("left_knee")])
    assert pcp(answers_of([pose], skeleton=COCO), truth_of([person()])) == 100
    pose[COCO.joints.index("left_ear")] = np.nan
    assert pcp(answers_of([pose], skeleton=COCO), truth_of([person()])) == pytest.approx(80), "no head, no torso"


def test_limbs_that_are_not_annotated_do_not_count() -> None:
    truth = truth_of([moved(person(), (np.nan, 0, 0), "left_wrist")])
    assert pcp(answers_of([moved(person(), (0, 310, 0), "left_elbow")]), truth) == pytest.approx(100 * 8 / 9)


def test_what_cannot_be_judged_is_refused() -> None:
    pred = answers_of([person()])
    with pytest.raises(InputError, match="predict in the world frame"):
        pcp(replace(pred, frame=np.array(["a"], dtype=object)), truth_of([person()]))
    with pytest.raises(InputError, match=r"hall: truth: has no (head_top|chin)"):
        pcp(pred, truth_of([np.zeros((17, 3))], skeleton=HUMAN36M))
    with pytest.raises(InputError, match=r"has no .*(chin|left_ear)"):
        pcp(answers_of([np.zeros((17, 3))], skeleton=HUMAN36M), truth_of([person()]))


@pytest.mark.parametrize("size", [0.0, 1e3, 1e6])
def test_a_constant_answer_has_no_limb(size: float) -> None:
    assert pcp(answers_of([np.full((14, 3), size)]), truth_of([person()])) == 0


poses = st.lists(st.floats(-3000, 3000), min_size=1, max_size=4, unique_by=round)
rules = st.sampled_from(["sound", "compat"])


@settings(max_examples=25, deadline=None)
@given(poses, st.randoms(use_true_random=False), rules, st.sampled_from(["wrong", "dropped"]))
def test_a_perfect_answer_is_whole_in_any_order(places: list[float], random, rule: str, missed: str) -> None:
    actors = [person(x) for x in places]
    mixed = random.sample(actors, len(actors))
    assert pcp(answers_of(mixed), truth_of(actors), rule=rule, missed=missed) == pytest.approx(100)


@settings(max_examples=25, deadline=None)
@given(
    poses, st.integers(0, 2**32 - 1), st.randoms(use_true_random=False), rules, st.sampled_from(["wrong", "dropped"])
)
def test_the_order_of_people_and_keys_does_not_count(
    places: list[float], seed: int, random, rule: str, missed: str
) -> None:
    actors = [person(x) for x in places]
    noisy = [pose + np.random.default_rng([seed, i]).normal(0, 120, (14, 3)) for i, pose in enumerate(actors)]
    mixed = random.sample(noisy, len(noisy))
    truth = truth_of(actors, actors)
    plain = pcp(answers_of(noisy, noisy), truth, rule=rule, missed=missed)
    assert pcp(answers_of(mixed, noisy), truth, rule=rule, missed=missed) == pytest.approx(plain)
    # whoever is added far away answers nobody and changes nothing
    assert pcp(answers_of([*noisy, person(90_000)], noisy), truth, rule=rule, missed=missed) == pytest.approx(plain)
