"""AP, MPJPE and recall of 3D people: oracles, leaks, the rule written anew, and what is reported of nobody."""

from dataclasses import replace

import numpy as np
import pytest
from crowd import BODY, VIEW, crowd, told, value

from poseboard.protocols.ap_people import ApPeople
from poseboard.protocols.ap_root import ApRoot

AP, MPJPE, RECALL = (
    ApPeople(within_mm=100),
    ApPeople(report="mpjpe", within_mm=500),
    ApPeople(report="recall", within_mm=500),
)
ALL = (AP, MPJPE, RECALL)


def pose(truth, joints_mm, **options):
    return told(truth, joints_mm, roots_only=False, **options)


def by_the_rule(pred, truth, within_mm):
    """VoxelPose's evaluation, one person after the other: AP (%), MPJPE (mm) and recall (%)."""
    judged = []
    for key, joints, certain in zip(pred.keys, pred.joints_mm, pred.score, strict=True):
        people = np.flatnonzero(truth.keys == key)
        if len(people):
            off = [np.linalg.norm(joints - truth.joints_mm[k], axis=1).mean() for k in people]
            judged.append((float(certain), min(off), people[int(np.argmin(off))]))
    taken, right, errors = set(), [], []
    for _, off, person in sorted(judged, key=lambda one: -one[0]):
        right.append(off < within_mm and person not in taken)
        if right[-1]:
            taken.add(person)
            errors.append(off)
    hits, area = np.cumsum(right), 0.0
    for k in np.flatnonzero(right):
        area += max(hits[j] / (j + 1) for j in range(k, len(right))) / len(truth)
    found = {person for _, off, person in judged if off < within_mm}
    return 100 * area, float(np.mean(errors)), 100 * len(found) / len(truth)


@pytest.mark.parametrize("frame", [VIEW, "world"])
def test_the_truth_is_perfect(frame):
    truth, joints = crowd()
    pred = pose(truth, joints if frame == VIEW else truth.joints_mm, frame=frame)
    for within in (25, 50, 75, 100, 125, 150):
        assert value(ApPeople(within_mm=within), pred, truth) == pytest.approx(100)
    assert value(MPJPE, pred, truth) == pytest.approx(0, abs=1e-3)
    assert value(RECALL, pred, truth) == 100


def test_a_metre_ruins_everything():
    truth, joints = crowd()
    far = pose(truth, joints + np.array([0.0, 0, 1000]))
    assert [value(protocol, far, truth) for protocol in ALL] == [0, None, 0]
    nobody = pose(truth, joints[:0], rows=[])
    assert [value(protocol, nobody, truth) for protocol in ALL] == [0, None, 0]


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_rule_of_voxelpose(seed):
    rng = np.random.default_rng(seed)
    truth, _ = crowd((4, 3, 5, 2, 0, 1), seed=seed)
    truth = replace(truth, joints_mm=truth.joints_mm * 0.1)  # some stand within each other's reach
    rows = rng.integers(len(truth), size=20)  # twice, thrice, or not at all
    guesses = truth.joints_mm[rows] + rng.normal(0, 30, (20, 3, 3)) + rng.normal(0, 50, (20, 1, 3))
    pred = pose(truth, guesses, rows=rows, score=rng.uniform(size=20), frame="world")
    for within in (75, 150, 500):
        numbers = [value(ApPeople(report=r, within_mm=within), pred, truth) for r in ("ap", "mpjpe", "recall")]
        assert numbers == pytest.approx(by_the_rule(pred, truth, within), rel=1e-5), within


def noisy(joints, seed):
    return joints + np.random.default_rng(seed).normal(0, 60, joints.shape)


@pytest.mark.parametrize("tied", [False, True])
def test_the_order_of_people_does_not_matter(tied):
    truth, joints = crowd((4, 3, 5, 2), seed=1)
    guesses = noisy(np.tile(joints, (2, 1, 1)), 3)
    rows = np.tile(np.arange(len(truth)), 2)
    scores = np.full(len(rows), 0.5) if tied else np.random.default_rng(2).uniform(size=len(rows))
    reference = [value(protocol, pose(truth, guesses, rows=rows, score=scores), truth) for protocol in ALL]
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(rows))
        pred = pose(truth, guesses[order], rows=rows[order], score=scores[order])
        assert [value(protocol, pred, truth) for protocol in ALL] == pytest.approx(reference)
        moved = truth.take(np.random.default_rng(seed).permutation(len(truth)))
        assert [value(protocol, pred, moved) for protocol in ALL] == pytest.approx(reference)


def test_people_told_twice_do_not_help_and_false_people_hurt():
    truth, joints = crowd((3, 2, 4), seed=4)
    guesses = noisy(joints, 5)
    once = pose(truth, guesses)
    best = [value(protocol, once, truth) for protocol in ALL]
    rows = np.tile(np.arange(len(truth)), 2)
    surer = np.concatenate([once.score, once.score + 1])
    for scores in (np.tile(once.score, 2), np.concatenate([once.score, once.score - 1]), surer):
        twice = pose(truth, np.concatenate([guesses, guesses]), rows=rows, score=scores)
        ap, mpjpe, recall = (value(protocol, twice, truth) for protocol in ALL)
        assert ap <= best[0] + 1e-9
        assert (mpjpe, recall) == pytest.approx(best[1:])
        assert int(AP.errors(twice, truth)["false"].sum()) >= len(truth)
    elsewhere = pose(truth, np.concatenate([guesses, guesses + 5000]), rows=rows, score=surer)
    assert value(AP, elsewhere, truth) < 0.8 * best[0]
    assert [value(protocol, elsewhere, truth) for protocol in (MPJPE, RECALL)] == pytest.approx(best[1:])


def test_people_who_are_missing_hurt():
    truth, joints = crowd((3, 2, 4), seed=4)
    some = np.arange(0, len(truth), 2)
    pred = pose(truth, joints[some], rows=some)
    share = 100 * len(some) / len(truth)
    assert [value(protocol, pred, truth) for protocol in (AP, RECALL)] == pytest.approx([share, share])
    table = AP.errors(pred, truth)
    assert (int(table["missing"].sum()), int(table["false"].sum())) == (len(truth) - len(some), 0)
    # who has no number of its own is not a zero in the mean
    assert value(MPJPE, pred, truth) == pytest.approx(0, abs=1e-3)


def test_a_joint_that_is_left_out_counts_as_far_off():
    truth, joints = crowd()
    guesses = joints.copy()
    guesses[:, 2] = np.nan
    pred = pose(truth, guesses)
    assert value(MPJPE, pred, truth) == pytest.approx(500 / 3, abs=1e-2)
    assert value(AP, pred, truth) == 0
    some = ApPeople(within_mm=100, joints=("head", "pelvis"))
    assert value(some, pred, truth) == pytest.approx(100)
    guesses[:] = np.nan
    assert not len(AP.errors(pose(truth, guesses), truth).query("not missing"))


def test_a_person_with_less_than_half_of_the_joints_stands_for_no_one():
    truth, joints = crowd()
    head_alone, two_of_three = joints.copy(), joints.copy()
    head_alone[:, 1:] = np.nan
    two_of_three[:, 1] = np.nan
    # one joint of three is 333 mm off by the mean, within 500 mm
    assert [value(protocol, pose(truth, head_alone), truth) for protocol in ALL] == [0, None, 0]
    table = RECALL.errors(pose(truth, head_alone), truth)
    assert int(table["false"].sum()) == int(table["missing"].sum()) == len(truth)
    assert value(RECALL, pose(truth, two_of_three), truth) == 100
    # half of the joints that are annotated will do
    gaps = truth.joints_mm.copy()
    gaps[:, 2] = np.nan
    assert value(RECALL, pose(truth, head_alone), replace(truth, joints_mm=gaps)) == 100


def test_copies_of_equal_score_lower_no_error():
    truth, joints = crowd((3, 2, 4), seed=4)
    guesses = noisy(joints, 5)
    rows = np.tile(np.arange(len(truth)), 300)
    copies = np.concatenate([guesses, *(noisy(guesses, 100 + k) for k in range(299))])
    honest = value(MPJPE, pose(truth, guesses, score=np.full(len(truth), 0.5)), truth)
    assert value(MPJPE, pose(truth, copies, rows=rows, score=np.full(len(rows), 0.5)), truth) >= honest
    drawn = np.random.default_rng(6).uniform(size=len(rows))
    assert value(MPJPE, pose(truth, copies, rows=rows, score=drawn), truth) > honest


def test_joints_that_are_not_annotated_are_not_judged():
    truth, joints = crowd((2, 1))
    gaps = truth.joints_mm.copy()
    gaps[0, 1] = np.nan
    guesses = joints.copy()
    guesses[0, 1] += 3000
    assert value(MPJPE, pose(truth, guesses), replace(truth, joints_mm=gaps)) == pytest.approx(0, abs=1e-3)


def test_frames_without_annotated_people_are_passed_over():
    truth, joints = crowd((2, 1, 0), unannotated=(2,))
    keys = np.array([*truth.keys, truth.split_keys[2]], dtype=object)
    pred = pose(truth, np.concatenate([joints, joints[:1]]), rows=[0, 1, 2, 0], keys=keys, frame="world")
    pred = replace(pred, joints_mm=np.concatenate([truth.joints_mm[:2], joints[2:3], joints[:1]]).astype(np.float32))
    table = AP.errors(pred, truth)
    assert (len(table), int(table["unjudged"].sum()), int(table["false"].sum())) == (4, 2, 0)
    assert value(AP, pred, truth) == pytest.approx(100)


def test_signatures_differ_from_those_of_roots_and_from_each_other():
    measures = [
        p.measure(BODY) for p in (*ALL, ApRoot(), ApPeople(within_mm=50), ApPeople(within_mm=100, joints=("head",)))
    ]
    assert len({one.model_dump_json() for one in measures}) == len(measures)
    assert [(p.unit, p.lower_is_better) for p in ALL] == [("%", False), ("mm", True), ("%", False)]
