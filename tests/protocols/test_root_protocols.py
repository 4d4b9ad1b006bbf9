"""MRPE and AP of roots: oracles, leaks, both rules, intervals and what is reported where nothing is there."""

from dataclasses import replace

import numpy as np
import pytest
from crowd import BODY, VIEW, crowd, told, value
from predicted import answered

from poseboard.datasets.errors import InputError
from poseboard.protocols.ap_root import ApRoot
from poseboard.protocols.average_precision import average_precision, match, match_published
from poseboard.protocols.comparison import compare
from poseboard.protocols.mrpe import Mrpe, root_errors
from poseboard.protocols.scoring import score
from poseboard.protocols.table import Table

SOUND, PUBLISHED, RECALL = ApRoot(), ApRoot(rule="published"), ApRoot(report="recall")
ABSOLUTE = [SOUND, PUBLISHED, RECALL]
DEEPER = np.array([0.0, 0, 1000])


def table_of(protocol, **parameters):
    return Table.model_validate(
        {"id": "R", "title": "t", "dataset": "crowd", "protocol": protocol, "parameters": parameters}
    )


@pytest.mark.parametrize("roots_only", [True, False])
@pytest.mark.parametrize("frame", [VIEW, "world"])
def test_the_truth_is_perfect(roots_only, frame):
    truth, joints = crowd()
    told_joints = joints if frame == VIEW else truth.joints_mm
    pred = told(truth, told_joints, frame=frame, roots_only=roots_only)
    assert value(Mrpe(), pred, truth) == pytest.approx(0, abs=1e-3)
    assert value(SOUND, pred, truth) == pytest.approx(100)
    assert value(RECALL, pred, truth) == 100
    # the published rule leaves out the first of eight steps
    assert value(PUBLISHED, pred, truth) == pytest.approx(100 * 7 / 8)


def test_a_metre_of_depth_ruins_absolute_metrics():
    truth, joints = crowd()
    far = told(truth, joints + DEEPER)
    assert value(Mrpe(), far, truth) == pytest.approx(1000, abs=1e-2)
    assert [value(Mrpe(part=part), far, truth) for part in "xyz"] == pytest.approx([0, 0, 1000], abs=1e-2)
    assert value(Mrpe(in_metres=True, part="z"), far, truth) == pytest.approx(1, abs=1e-5)
    assert [value(protocol, far, truth) for protocol in ABSOLUTE] == [0, 0, 0]
    assert SOUND.errors(far, truth)["distance_mm"].min() >= 250


def noisy(joints, seed):
    rng = np.random.default_rng(seed)
    return joints + rng.normal(0, 180, (len(joints), 1, 3))


@pytest.mark.parametrize("tied", [False, True])
def test_the_order_of_people_does_not_matter(tied):
    """By the sound rule, not even among equal scores; by the published one, where scores differ."""
    truth, joints = crowd((4, 3, 5, 2), seed=1)
    rng = np.random.default_rng(2)
    joints[:, :, 0] *= 0.1  # closer than they can be told apart
    world = np.array([(joint - c.t) @ c.R for joint, c in zip(joints, cameras_of(truth), strict=True)])
    truth = replace(truth, joints_mm=world)
    scores = np.full(len(truth), 1.0) if tied else rng.uniform(size=len(truth))
    guesses = noisy(joints, 3)
    reference = [value(protocol, told(truth, guesses, score=scores), truth) for protocol in (SOUND, RECALL, PUBLISHED)]
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(truth))
        pred = told(truth, guesses[order], rows=order, score=scores[order])
        assert value(SOUND, pred, truth) == pytest.approx(reference[0])
        assert value(RECALL, pred, truth) == reference[1]
        if not tied:
            assert value(PUBLISHED, pred, truth) == pytest.approx(reference[2])
        shuffled = np.random.default_rng(seed).permutation(len(truth))
        moved = truth.take(shuffled)
        assert value(SOUND, pred, moved) == pytest.approx(reference[0])


def cameras_of(truth):
    return [truth.seen_by.cameras[place] for place in truth.seen_by.place[truth.place, 0]]


def test_people_told_twice_do_not_help():
    truth, joints = crowd((3, 2, 4), seed=4)
    guesses = noisy(joints, 5)
    once = told(truth, guesses)
    for scores in (np.tile(once.score, 2), np.concatenate([once.score, once.score - 1])):
        rows = np.tile(np.arange(len(truth)), 2)
        twice = told(truth, np.concatenate([guesses, guesses]), rows=rows, score=scores)
        for protocol in (SOUND, RECALL, PUBLISHED):
            assert value(protocol, twice, truth) <= value(protocol, once, truth) + 1e-9
        errors = SOUND.errors(twice, truth)
        assert (errors["false"].sum() + errors["missing"].sum()) > SOUND.errors(once, truth)["false"].sum()
    perfect, double = told(truth, joints), told(truth, np.tile(joints, (2, 1, 1)), rows=rows, score=[1] * len(rows))
    assert value(SOUND, double, truth) == pytest.approx(50)
    assert value(SOUND, perfect, truth) == pytest.approx(100)


def test_missing_people_hurt():
    truth, joints = crowd((3, 2, 4), seed=4)
    whole = [value(protocol, told(truth, joints), truth) for protocol in ABSOLUTE]
    some = told(truth, joints[1::2], rows=np.arange(len(truth))[1::2])
    for protocol, best in zip(ABSOLUTE, whole, strict=True):
        assert value(protocol, some, truth) < best
    assert value(RECALL, some, truth) == pytest.approx(100 * 4 / 9)
    errors = Mrpe().errors(some, truth)
    assert errors["missing"].sum() > 0
    none = told(truth, joints[:0], rows=[])
    assert [value(protocol, none, truth) for protocol in ABSOLUTE] == [0, 0, 0]
    assert value(Mrpe(), none, truth) is None
    nan = told(truth, np.full_like(joints, np.nan))
    assert [value(protocol, nan, truth) for protocol in ABSOLUTE] == [0, 0, 0]
    assert Mrpe().errors(nan, truth)["missing"].all()


def test_what_the_published_rule_does_and_the_sound_one_does_not():
    """A person whose nearest is taken takes the next one; a first point counts; people where nobody is are false."""
    truth = np.array([[0.0, 0, 3000], [240, 0, 3000]])
    pred = np.array([[0.0, 0, 3000], [100, 0, 3000]])
    image, scores = np.zeros(2, dtype=int), np.array([0.9, 0.8])
    assert match(pred, image, scores, truth, image).truth.tolist() == [0, 1]
    assert match_published(pred, image, scores, truth, image).truth.tolist() == [0, -1]
    edge = np.array([[250.0, 0, 0]])
    for rule in (match, match_published):
        assert rule(edge, image[:1], scores[:1], np.zeros((1, 3)), image[:1]).truth.tolist() == [-1]
        assert rule(edge - 0.01, image[:1], scores[:1], np.zeros((1, 3)), image[:1]).truth.tolist() == [0]
    table, joints = crowd((1, 0))
    ghost = told(table, joints[[0, 0]], score=[0.5, 0.9], keys=table.split_keys)
    assert value(SOUND, ghost, table) == 50
    assert value(PUBLISHED, ghost, table) == 0
    assert PUBLISHED.errors(ghost, table)["unjudged"].sum() == 1


def test_images_whose_people_are_not_annotated_are_passed_over():
    truth, joints = crowd((2, 1), unannotated=(0, 1))
    errors = SOUND.errors(told(truth, joints), truth)
    assert errors["unjudged"].tolist() == [True, True, False]
    assert value(SOUND, told(truth, joints), truth) == 100
    found = score(table_of("ap_root"), answered(told(truth, joints)), truth).scores[0]
    assert (found.n_samples, found.n_unjudged, found.n_false, found.n_missing) == (1, 2, 0, 0)
    truth, joints = crowd((2, 1), unannotated=(0, 1, 2))
    assert [value(protocol, told(truth, joints), truth) for protocol in ABSOLUTE] == [None] * 3
    assert value(Mrpe(), told(truth, joints), truth) is None


def test_actions_without_people_are_reported():
    truth, joints = crowd((2, 0, 2, 0), actions=("Walking", "Eating"))
    for protocol in (Mrpe(), SOUND, RECALL):
        of_action = protocol.breakdown(protocol.errors(told(truth, joints), truth))["action"]
        assert of_action["Eating"] is None
        assert of_action["Walking"] is not None
    found = score(table_of("ap_root"), answered(told(truth, joints)), truth).scores[0]
    assert found.breakdown["action"] == {"Walking": 100.0, "Eating": None}
    assert found.breakdown["reading"] == {"recall": 100.0, "precision": 100.0}


def test_scores_have_intervals_over_scenes_and_are_compared():
    truth, joints = crowd((2, 3, 1, 2, 2, 3, 1, 2, 2, 2, 2, 2), scenes=6, seed=8)
    good, bad = noisy(joints, 1), noisy(joints, 2) + np.array([0, 0, 250])
    for protocol, parameters in (
        ("ap_root", {}),
        ("ap_root", {"rule": "published"}),
        ("ap_root", {"report": "recall"}),
        ("mrpe", {}),
        ("ap_people", {"within_mm": 300}),
        ("ap_people", {"report": "mpjpe", "within_mm": 500}),
        ("ap_people", {"report": "recall", "within_mm": 400}),
    ):
        table = table_of(protocol, **parameters)
        of_roots = protocol != "ap_people"
        scored = {
            name: score(table, answered(told(truth, guess, roots_only=of_roots)), truth, resamples=300)
            for name, guess in (("good", good), ("bad", bad))
        }
        one = scored["good"].scores[0]
        assert one.ci95 is not None
        assert one.ci95[0] <= one.value <= one.ci95[1]
        assert one.counted == ("poses" if protocol == "mrpe" else "people")
        assert (one.n_groups, one.n_samples) == (6, len(truth))
        assert ("reading" in one.breakdown) == (protocol != "mrpe")
        if protocol == "ap_people":
            assert bool(one.curves) == ("report" not in parameters)
        pair = compare(table, scored, resamples=300)[0].pairs[0]
        better = pair.difference < 0 if one.lower_is_better else pair.difference > 0
        assert better == (pair.a == "good")
    metrics = {str(score_of(truth, joints, **p).signature) for p in ({}, {"rule": "published"}, {"report": "recall"})}
    assert len(metrics) == 3


def score_of(truth, joints, **parameters):
    return score(table_of("ap_root", **parameters), answered(told(truth, joints)), truth).scores[0]


def test_the_interval_is_that_of_the_drawn_scenes():
    """AP under multiplicities is AP of a list in which the drawn scenes stand so often; by the published rule too."""
    rng = np.random.default_rng(0)
    correct, scores, codes = rng.random(40) < 0.6, rng.uniform(size=40), rng.integers(0, 4, 40)
    people = np.array([8.0, 9, 7, 10])
    m = np.array([[1.0, 1, 1, 1], [2, 0, 1, 1], [0, 3, 0, 1], [0, 0, 0, 0]])
    found = average_precision(correct, scores, codes, people, m)
    for row, of_row in zip(m[:3], found, strict=False):
        times = row[codes].astype(int)
        again = average_precision(
            np.repeat(correct, times),
            np.repeat(scores, times),
            np.zeros(times.sum(), dtype=int),
            np.array([people @ row]),
            np.ones((1, 1)),
        )
        assert of_row == pytest.approx(again[0])
    assert np.isnan(found[3])
    alone = average_precision(correct, scores, codes, people, np.eye(4), published=True)
    for group in range(4):
        mine = codes == group
        args = correct[mine], scores[mine], np.zeros(mine.sum(), dtype=int), people[[group]], np.ones((1, 1))
        assert alone[group] == pytest.approx(average_precision(*args, published=True)[0])


def test_every_so_many_samples_are_judged_with_all_of_their_people():
    truth, joints = crowd(people=(2, 3, 1, 0, 2, 4))
    third = Table.select(table_of("ap_root").model_copy(update={"every": 3}), truth)
    assert np.unique(third.place).tolist() == [0], "the sample of nobody is one of those"
    other = Table.select(table_of("ap_root").model_copy(update={"every": 2}), truth)
    assert (np.unique(other.place).tolist(), len(other)) == ([0, 2, 4], 2 + 1 + 2)
    pred = told(truth, joints)
    table = SOUND.errors(pred, other)
    assert (len(table), table["false"].sum(), table["missing"].sum()) == (5, 0, 0)
    assert SOUND.summarise(table) == 100
    rows = Mrpe().errors(pred, other)
    assert set(rows["key"]) == set(other.keys)


def test_answers_that_cannot_be_judged_are_told():
    truth, joints = crowd()
    with pytest.raises(InputError, match="frame: 8 records are in the frame of 'elsewhere'"):
        SOUND.errors(told(truth, joints, frame="elsewhere"), truth)
    with pytest.raises(InputError, match="key: 8 records have keys that are not in split"):
        Mrpe().errors(told(truth, joints, keys=np.array(["no"] * len(joints), dtype=object)), truth)
    with pytest.raises(ValueError, match="recall"):
        ApRoot(rule="published", report="recall")
    with pytest.raises(ValueError, match="not finite"):
        match(np.full((1, 3), np.nan), np.zeros(1, int), np.ones(1), np.zeros((1, 3)), np.zeros(1, int))
    with pytest.raises(ValueError, match="roots need"):
        root_errors(np.zeros((2, 3)), np.zeros((1, 3)))
    assert Mrpe().measure(BODY).metric == "mrpe"
