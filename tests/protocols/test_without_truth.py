"""Numbers without ground truth: bone lengths, jitter, joints triangulated, quantiles of the held-out error."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from predicted import answered

from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols import bootstrap
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.protocols.records import Score
from poseboard.protocols.scoring import score
from poseboard.protocols.table import Table
from poseboard.protocols.views import SeenBy, ViewPoints
from poseboard.protocols.without_truth import track

ARM = Skeleton("arm", ("shoulder", "elbow", "wrist"), (("shoulder", "elbow"), ("elbow", "wrist")), None, ())
VIEWS = ("left", "middle", "right")
K = np.array([[1000.0, 0, 640], [0, 1000, 360], [0, 0, 1]])
CAMERAS = [Camera(K, np.eye(3), (dx, 0, 0), size=(1280, 720)) for dx in (-400, 0, 400)]
REST_MM = np.array([[0.0, -300, 3000], [0, 0, 3000], [0, 250, 3000]])
RATE_HZ = 50.0

People = list[NDArray[np.float64]]
"""Frame -> (P, 3, 3) mm."""


def moving(frames: int, jerk_m_s3: float = 0.0) -> People:
    """One arm that moves with a constant jerk along x."""
    seconds = np.arange(frames) / RATE_HZ
    return [REST_MM[None] + [1000 * jerk_m_s3 * t**3 / 6, 0, 0] for t in seconds]


def truth_of(people: People, blocks: int = 2, rate_hz: float | None = RATE_HZ) -> TruthTable:
    """What the cameras detect of these people."""
    where = [(s, v, p) for s, of in enumerate(people) for v in range(3) for p in range(len(of))]
    points_px = [CAMERAS[v].project(people[s][p]) for s, v, p in where]
    sample, view, person = np.array(where, dtype=np.int64).reshape(-1, 3).T
    keys = np.array([f"hall/{s:06d}" for s in range(len(people))], dtype=object)
    one = pd.Categorical(["hall"] * len(keys))
    sequence = pd.Categorical([f"block {s * blocks // len(keys)}" for s in range(len(keys))])
    none = np.zeros(0, dtype=np.int64)
    return TruthTable(
        keys=keys[none], person=none.astype(np.int32), joints_mm=np.empty((0, 3, 3)), subject=one.take(none),
        action=one.take(none), sequence=sequence.take(none), split_keys=keys, skeleton=ARM, dataset="hall",
        split="test", views=VIEWS, manifest="m", seen_by=SeenBy.collect([CAMERAS] * len(keys), 3),
        groups={"subject": one, "action": one, "sequence": sequence},
        points={"detected": ViewPoints(sample, view.astype(np.int32), person.astype(np.int32),
                                       np.array(points_px).reshape(-1, 3, 2), ARM)},
        facts=Facts(boxes="detected", truth="annotated", associated=False, rate_hz=rate_hz),
    )  # fmt: skip


def predicted(people: People, cameras: tuple[str, ...] = VIEWS) -> PoseTable:
    keys = np.array([f"hall/{s:06d}" for s, of in enumerate(people) for _ in of], dtype=object)
    person = np.array([p for of in people for p in range(len(of))], dtype=np.int32)
    joints_mm = np.concatenate([*people, np.empty((0, 3, 3))]).astype(np.float32)
    info = PredictionInfo(skeleton="arm", joints=ARM.joints, dataset="hall", condition=Condition(cameras=cameras),
                          manifest="m", method="m")  # fmt: skip
    return PoseTable(keys, person, np.ones(len(keys), np.float32), np.full(len(keys), "world", object), joints_mm, info)


def judge(protocol: str, truth: TruthTable, *tables: PoseTable, **parameters: object) -> Score:
    groups = [{"leave_out": parameters.get("judged") == "held_out"}]
    table = Table.model_validate(
        {"id": "R", "title": "t", "dataset": "hall", "protocol": protocol, "groups": groups, "parameters": parameters}
    )
    (number,) = score(table, answered(*tables), truth, resamples=50).scores
    return number


def test_rigid_bones_have_no_spread() -> None:
    people = moving(12, jerk_m_s3=40)
    number = judge("bone_spread", truth_of(people), predicted(people))
    assert number.value == pytest.approx(0, abs=1e-4)
    assert (number.n_samples, number.n_missing, number.unit) == (12, 0, "%")


def test_spread_of_bones_by_hand() -> None:
    """The upper arm is 300 mm long, and 10 % longer or shorter in every other frame; the forearm is rigid."""
    people = [REST_MM[None].copy() for _ in range(12)]
    for s, of in enumerate(people):
        of[0, 0, 1] = -300 * (1.1 if s % 2 else 0.9)
    number = judge("bone_spread", truth_of(people), predicted(people))
    assert number.breakdown["bone"] == pytest.approx({"shoulder-elbow": 10.0, "elbow-wrist": 0.0}, abs=1e-3)
    assert number.value == pytest.approx(100 * 30 / 550, abs=1e-3), "weighted by length"
    assert number.ci95 is not None
    assert number.ci95[0] <= number.value <= number.ci95[1] + 1e-6


def test_people_of_different_size_have_no_spread() -> None:
    tall = [np.stack([frame[0], 1.5 * frame[0] + [3000, 0, 0]]) for frame in moving(8)]
    swapped = [frame[::-1] if s % 2 else frame for s, frame in enumerate(tall)]
    number = judge("bone_spread", truth_of(tall), predicted(swapped))
    assert number.value == pytest.approx(0, abs=1e-3), "people are tracked, whatever their order in a frame"


def test_jitter_is_the_jerk() -> None:
    people = moving(20, jerk_m_s3=40)
    number = judge("jitter", truth_of(people), predicted(people))
    assert number.value == pytest.approx(40, rel=1e-2), "float32 predictions"
    assert judge("jitter", truth_of(people), predicted(moving(20))).value == pytest.approx(0, abs=0.5)


def test_jitter_needs_consecutive_frames_and_their_rate() -> None:
    people = moving(20, jerk_m_s3=40)
    gap = [of if s != 7 else of[:0] for s, of in enumerate(people)]
    number = judge("jitter", truth_of(gap), predicted(gap))
    assert number.value == pytest.approx(40, rel=1e-2), "no difference spans a missing frame"
    with pytest.raises(InputError, match="hall: frame rate"):
        judge("jitter", truth_of(people, rate_hz=None), predicted(people))


def test_share_of_joints_by_hand() -> None:
    people = moving(10)
    partly = [of.copy() for of in people]
    for of in partly[:5]:
        of[0, 2] = np.nan
    number = judge("joints_triangulated", truth_of(people), predicted(partly))
    assert number.value == pytest.approx(100 * 25 / 30)
    assert number.breakdown["joint"] == pytest.approx({"shoulder": 100, "elbow": 100, "wrist": 50})
    nothing = judge("joints_triangulated", truth_of(people), predicted([of[:0] for of in people]))
    assert nothing.value == 0


def test_joints_in_one_view_are_not_expected() -> None:
    truth = truth_of(moving(4))
    points = truth.points["detected"]
    points.points_px[points.view > 0, 2] = np.nan  # the wrist is in one view only
    without_wrist = [np.where(np.arange(3)[:, None] == 2, np.nan, of) for of in moving(4)]
    assert judge("joints_triangulated", truth, predicted(without_wrist)).value == 100


@pytest.mark.parametrize("protocol", ["bone_spread", "jitter"])
def test_people_left_out_are_missing(protocol: str) -> None:
    people = moving(10)
    fewer = [of if s < 6 else of[:0] for s, of in enumerate(people)]
    number = judge(protocol, truth_of(people), predicted(fewer))
    assert (number.n_missing, number.complete) == (4, False)


def test_quantiles_of_the_held_out_error() -> None:
    """In every fourth frame the prediction is 30 mm off, 10 px at 3 m; elsewhere it is exact."""
    people = moving(40)
    off = [of + np.array([30.0, 0, 0]) if s % 4 == 0 else of for s, of in enumerate(people)]
    tables = [predicted(off, tuple(v for v in VIEWS if v != left_out)) for left_out in VIEWS]
    truth = truth_of(people)
    values = {
        report: judge("reprojection", truth, *tables, judged="held_out", report=report).value
        for report in ("mean", "median", "p90")
    }
    assert values == pytest.approx({"mean": 2.5, "median": 0.0, "p90": 10.0}, abs=1e-2)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.floats(0.05, 1.0), st.integers(1, 4))
def test_a_quantile_is_that_of_the_repeated_values(values: list[float], share: float, times: int) -> None:
    codes = np.arange(len(values)) % 2
    multiplicity = np.array([[times, 2 * times]])
    found = bootstrap.quantile(np.array(values), codes, multiplicity.astype(float), share)
    repeated = np.sort(np.repeat(values, multiplicity[0][codes]))
    if repeated.size:
        assert found[0] == repeated[max(int(np.ceil(share * repeated.size - 1e-9)), 1) - 1]


@given(st.permutations(range(4)), st.integers(0, 3))
def test_tracks_do_not_depend_on_the_order_of_people(order: list[int], frame: int) -> None:
    places_mm = 1500.0 * np.arange(4)[:, None, None] + np.zeros((4, 3, 3))
    frames = [places_mm + 20 * s for s in range(4)]
    frames[frame] = frames[frame][order]
    tracks = track(np.concatenate(frames), np.repeat(np.arange(4), 4)).reshape(4, 4)
    expected = tracks[(frame + 1) % 4]
    assert np.array_equal(tracks[frame], expected[order])
    assert len(set(expected.tolist())) == 4
