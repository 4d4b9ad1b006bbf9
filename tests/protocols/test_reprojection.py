"""Reprojection: pairs of people and 2D people, what is counted, held-out cameras, and comparison by sample."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from predicted import answered

from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols.base import TruthTable
from poseboard.protocols.comparison import compare
from poseboard.protocols.condition import Condition
from poseboard.protocols.pairing import assigned
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.protocols.records import Score
from poseboard.protocols.reprojection import Reprojection
from poseboard.protocols.scoring import Scored, score
from poseboard.protocols.table import Table
from poseboard.protocols.views import SeenBy, ViewPoints

PAIR = Skeleton("pair", ("a", "b"), (), None, ())
VIEWS = ("left", "middle", "right")
K = np.array([[100.0, 0, 320], [0, 100, 240], [0, 0, 1]])
CAMERAS = [Camera(K, np.eye(3), (dx, 0, 0), size=(640, 480)) for dx in (0, 500, -500)]
"""A person at a depth of one metre moves ten pixels per 100 mm."""

People = dict[str, NDArray[np.float64]]


def people(*middles_mm: float) -> NDArray[np.float64]:
    """One person per middle: two joints 200 mm apart, one metre before the middle of the left camera."""
    return np.array([[(x, -100.0, 1000.0), (x, 100.0, 1000.0)] for x in middles_mm]).reshape(-1, 2, 3)


def truth_of(detected: People, groups: int = 1) -> TruthTable:
    """Detections are what the cameras see of these people; samples are spread over ``groups`` sequences."""
    keys = np.array(list(detected), dtype=object)
    where, points = [], []
    for (s, of_sample), (v, camera) in itertools.product(enumerate(detected.values()), enumerate(CAMERAS)):
        for p, joints_mm in enumerate(of_sample):
            where.append((s, v, p))
            points.append(camera.project(joints_mm))
    sample, view, person = np.array(where, dtype=np.int64).reshape(-1, 3).T
    sequences = pd.Categorical([f"q{s * groups // len(keys)}" for s in range(len(keys))])
    constant = pd.Categorical(["S"] * len(keys))
    none = np.zeros(0, dtype=np.int64)
    return TruthTable(
        keys=keys[none], person=none.astype(np.int32), joints_mm=np.empty((0, 2, 3)), subject=constant.take(none),
        action=constant.take(none), sequence=sequences.take(none), split_keys=keys, skeleton=PAIR, dataset="hall",
        split="test", views=VIEWS, manifest="m", seen_by=SeenBy.collect([CAMERAS] * len(keys), 3),
        groups={"subject": constant, "action": constant, "sequence": sequences},
        points={"detected": ViewPoints(sample, view.astype(np.int32), person.astype(np.int32),
                                       np.array(points).reshape(-1, 2, 2), PAIR)},
    )  # fmt: skip


def answers_of(predicted: People, cameras: tuple[str, ...] = VIEWS, seed: int = 0, method: str = "m") -> PoseTable:
    keys = np.array([key for key, of_key in predicted.items() for _ in of_key], dtype=object)
    person = np.array([p for of_key in predicted.values() for p in range(len(of_key))], dtype=np.int32)
    info = PredictionInfo(skeleton="pair", joints=("b", "a"), dataset="hall", condition=Condition(cameras=cameras),
                          manifest="m", method=method, seed=seed)  # fmt: skip
    joints = np.concatenate([*predicted.values(), np.empty((0, 2, 3))])[:, ::-1].astype(np.float32)
    frame = np.full(len(keys), "world", dtype=object)
    return PoseTable(keys, person, np.ones(len(keys), np.float32), frame, joints, info)


def table_of(judged: str = "seen", **parameters: object) -> Table:
    groups = [{"leave_out": judged == "held_out"}]
    return Table.model_validate(
        {"id": "R", "title": "t", "dataset": "hall", "protocol": "reprojection", "groups": groups,
         "parameters": {"judged": judged, "cap_px": 50, **parameters}}
    )  # fmt: skip


def judge(truth: TruthTable, *tables: PoseTable, judged: str = "seen", **parameters: object) -> Score:
    (found,) = score(table_of(judged, **parameters), answered(*tables), truth, resamples=20).scores
    return found


def test_a_perfect_answer_has_no_error_and_nobody_is_missing() -> None:
    scene = {"k/0": people(-800, 0, 900), "k/1": people(50)}
    found = judge(truth_of(scene), answers_of(scene))
    assert found.value == pytest.approx(0, abs=1e-3)
    assert (found.n_samples, found.n_missing, found.n_false, found.n_groups) == (12, 0, 0, 1)
    assert found.ci95 is None, "one sequence has no interval"
    assert found.unit == "px"


def test_pixels_by_hand() -> None:
    """One of two people is 100 mm off, ten pixels in each of three views; the mean over six pairs is five."""
    detected = {"k/0": people(-800, 0)}
    found = judge(truth_of(detected), answers_of({"k/0": people(100, -800)}))
    assert found.value == pytest.approx(5, abs=1e-3)
    assert found.breakdown["view"] == pytest.approx(dict.fromkeys(VIEWS, 5.0), abs=1e-3)
    assert found.breakdown["joint"] == pytest.approx({"a": 5.0, "b": 5.0}, abs=1e-3)
    assert found.breakdown["median of joints"]["left"] == pytest.approx(5, abs=1e-3)


def test_people_whom_nobody_explains_and_people_without_support_are_counted() -> None:
    detected = {"k/0": people(0, 900), "k/1": people(0), "k/2": people(0)}
    predicted = {"k/0": people(0, -900), "k/1": people(), "k/2": people(0, 9_000)}
    found = judge(truth_of(detected), answers_of(predicted))
    assert found.n_samples == 12
    assert found.n_missing == 6, "two people in three views each"
    assert found.n_false == 1, "the one far to the side is in no image, where nothing could support it"
    assert found.value == pytest.approx(0, abs=1e-3)
    nobody = judge(truth_of(detected), answers_of({"k/0": people()}))
    assert (nobody.value, nobody.n_missing, nobody.n_false) == (None, 12, 0)


def test_joints_that_were_not_detected_or_predicted_do_not_count() -> None:
    truth = truth_of({"k/0": people(0)})
    points_px = truth.points["detected"].points_px.copy()
    points_px[:, 1] = np.nan
    truth = replace(truth, points={"detected": replace(truth.points["detected"], points_px=points_px)})
    predicted = people(0)
    predicted[0, 1] += 300
    assert judge(truth, answers_of({"k/0": predicted})).value == pytest.approx(0, abs=1e-3)
    predicted[0, 0] = np.nan
    found = judge(truth, answers_of({"k/0": predicted}))
    assert (found.value, found.n_missing, found.n_false) == (None, 3, 1)


def test_a_camera_held_out_is_judged_by_what_the_others_told() -> None:
    """Each condition is judged in the one view that it lacks: right and left are exact, the middle is 100 mm off."""
    detected = {"k/0": people(0)}
    tables = [
        answers_of({"k/0": people(100 if out == "middle" else 0)}, tuple(v for v in VIEWS if v != out)) for out in VIEWS
    ]
    found = judge(truth_of(detected), *tables, judged="held_out")
    assert found.value == pytest.approx(10 / 3, abs=1e-3)
    assert found.breakdown["view"] == pytest.approx({"left": 0, "middle": 10, "right": 0}, abs=1e-3)
    assert (found.n_samples, found.signature.cameras[0]) == (3, ("middle", "right"))
    assert "held out" in found.signature.judged
    assert "held out" in str(found.signature)
    with pytest.raises(InputError, match="none is held out"):
        Reprojection(judged="held_out").errors(answers_of(detected), truth_of(detected))


@pytest.mark.parametrize("judged", ["seen", "held_out"])
def test_depth_shows_in_a_view_that_was_not_seen_only(judged: str) -> None:
    """A person moved along the ray of the left camera is exact there and off in the others."""
    detected = {"k/0": people(0)}
    further = people(0) * 1.25
    truth = truth_of(detected)
    table = Table.model_validate({**table_of(judged).model_dump(), "groups": [{"cameras": ["left"]}]})
    (found,) = score(table, answered(answers_of({"k/0": further}, ("left",))), truth, resamples=20).scores
    assert found.value == pytest.approx(0 if judged == "seen" else 10, abs=1e-3)


def test_poses_in_a_cameras_frame_and_truth_without_points_are_refused() -> None:
    scene = {"k/0": people(0)}
    table = answers_of(scene)
    with pytest.raises(InputError, match="predict in the world frame"):
        judge(truth_of(scene), replace(table, frame=np.array(["left"], dtype=object)))
    with pytest.raises(InputError, match="annotated points are missing"):
        judge(truth_of(scene), table, against="annotated")


def test_exclusions_and_every_hold_for_samples() -> None:
    scene = {f"{s}/{i}": people(0) for s in "ab" for i in range(4)}
    off = {key: people(100 if key == "b/2" else 0) for key in scene}
    table = table_of().model_copy(update={"exclude": ("a",), "every": 2})
    (found,) = score(table, answered(answers_of(off)), truth_of(scene), resamples=20).scores
    assert (found.n_samples, found.value) == (6, pytest.approx(5, abs=1e-3))


def test_methods_are_compared_on_the_samples_that_all_answer() -> None:
    """Leaving out the hard sample, or adding people, makes no method better than another."""
    scene = {f"k/{i}": people(0, 900) for i in range(6)}
    hard = {key: people(*(100 if key == "k/0" else 20, 900)) for key in scene}
    shy = {key: of_key if key != "k/0" else people() for key, of_key in hard.items()}
    truth = truth_of(scene, groups=3)
    scored = {
        name: score(table_of(), answered(answers_of(predicted, method=name)), truth, resamples=50)
        for name, predicted in {"whole": hard, "shy": shy}.items()
    }
    assert scored["shy"].scores[0].value < scored["whole"].scores[0].value
    (compared,) = compare(table_of(), scored, resamples=50, learned=())
    (pair,) = compared.pairs
    assert pair.difference == pytest.approx(0, abs=1e-3)
    assert (pair.n_samples, pair.n_groups) == (5, 3)


def test_seeds_with_other_people_share_their_groups() -> None:
    scene = {f"k/{i}": people(0) for i in range(4)}
    first = {"k/0": people(0), "k/1": people(0), "k/2": people(), "k/3": people()}
    second = {key: people(100) for key in scene}
    scored: Scored = score(
        table_of(), answered(answers_of(first), answers_of(second, seed=1)), truth_of(scene, groups=2), resamples=50
    )
    (found,) = scored.scores
    assert found.value == pytest.approx(5, abs=1e-3)
    assert [seed.value for seed in found.seeds] == pytest.approx([0, 10], abs=1e-3)
    assert (found.n_missing, found.n_groups) == (6, 2)


def least(first: list[int], second: list[int], cost: list[float], cap: float) -> float:
    """Least total of one-to-one pairs, whoever is alone costing the cap, by trying every set of pairs."""
    best = np.inf
    for size in range(len(cost) + 1):
        for pairs in itertools.combinations(range(len(cost)), size):
            rows, columns = [first[k] for k in pairs], [second[k] for k in pairs]
            if len(set(rows)) == len(rows) and len(set(columns)) == len(columns):
                best = min(best, sum(cost[k] - cap for k in pairs))
    return best


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 12), min_size=9, max_size=9))
def test_pairs_are_the_best_ones(costs: list[float]) -> None:
    first, second = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
    chosen = assigned(first, second, np.array(costs), 8.0)
    assert len(set(first[chosen])) == len(set(second[chosen])) == len(chosen)
    assert all(costs[k] <= 8 for k in chosen)
    total = sum(costs[k] - 8 for k in chosen)
    assert total == pytest.approx(least(first.tolist(), second.tolist(), costs, 8.0), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(3)), st.permutations(range(3)))
def test_the_order_of_people_does_not_count(of_detected: list[int], of_predicted: list[int]) -> None:
    seen, said = people(-800, 30, 900), people(-750, 0, 880)
    plain = judge(truth_of({"k/0": seen}), answers_of({"k/0": said}))
    mixed = judge(truth_of({"k/0": seen[of_detected]}), answers_of({"k/0": said[of_predicted]}))
    assert mixed.value == pytest.approx(plain.value, abs=1e-9)
    assert (mixed.n_missing, mixed.n_false) == (plain.n_missing, plain.n_false) == (0, 0)
