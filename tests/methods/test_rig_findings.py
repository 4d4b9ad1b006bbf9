"""Findings and repairs of a rig: which explanations become findings, their evidence, texts and changes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from made_up_tracks import rig

from poseboard.datasets.camera import Camera
from poseboard.methods.geometry.rig_mistakes import KINDS, Finding, Repair, check_rig, findings, flip_order
from poseboard.methods.geometry.rig_mistakes.comparison import Round, Scored
from poseboard.methods.geometry.rig_mistakes.epipolar_fit import Fit, pairs_of
from poseboard.methods.geometry.rig_mistakes.explanations import Explanation, with_intrinsics
from poseboard.methods.geometry.rig_mistakes.rig_state import RigState

NAMES = ("north", "east", "south", "west")
PARTS = ("shoulder", "hip", "knee", "ankle")
JOINTS = tuple(f"{side}_{part}" for side in ("left", "right") for part in PARTS)
CAMERAS = dict(zip(NAMES, rig(4), strict=True))


def body(frames=30):
    """Joints (F, 8, 3) of a person of 1.75 m who walks through the room, Z up."""
    heights = 1330 * np.array([1.0, 0.6, 0.3, 0.0])
    place = np.stack([np.linspace(-500, 500, frames), np.linspace(300, -300, frames), np.full(frames, 100.0)], 1)
    joints = np.zeros((frames, 2, 4, 3)) + place[:, None, None]
    joints[..., 2] += heights
    joints[:, 0, :, 0] += 150
    joints[:, 1, :, 1] += 150
    return joints.reshape(frames, 8, 3)


def seen_by(cameras=CAMERAS, frames=30):
    return np.stack([camera.project(body(frames)) for camera in cameras.values()])


def fit_of(scale_px, theta=None):
    pairs = pairs_of(4)
    return Fit(np.zeros((4, 10)) if theta is None else theta, 0.0, pairs, np.zeros(6), np.asarray(scale_px, float), 1.0)


def scored(kind="camera moved", views=(1,), score=10.0, clear=True, state=None, scale_px=(2.0,) * 6, **figures):
    state = state or RigState.of(list(CAMERAS.values()))
    return Scored(Explanation(kind, views, state), fit_of(scale_px), score, figures, clear, state)


class Rounds:
    """Replacement of `explain` that returns these comparisons in turn and keeps the arguments of each call."""

    def __init__(self, monkeypatch, *rounds, before_px=(4.0,) * 6):
        self.rounds, self.before_px, self.calls = rounds, np.asarray(before_px, float), []
        monkeypatch.setattr(findings, "explain", self)

    def __call__(self, joints_px, base, order):
        self.calls.append((joints_px, base, order))
        number = len(self.calls) - 1
        now = self.rounds[number] if number < len(self.rounds) else []
        return Round(base, self.before_px, fit_of(self.before_px), tuple(now))


def kinds(reported):
    return [(f.kind, f.cameras) for f in reported]


def test_offsets_move_detections_and_leave_gaps():
    joints_px = np.arange(4 * 6 * 8 * 2.0).reshape(4, 6, 8, 2)
    before = joints_px.copy()
    cameras, out = Repair(offset_frames={"east": 2, "west": -1}).apply(CAMERAS, joints_px, JOINTS)
    assert cameras == CAMERAS
    np.testing.assert_array_equal(out[1, :4], before[1, 2:])
    assert np.isnan(out[1, 4:]).all()
    np.testing.assert_array_equal(out[3, 1:], before[3, :-1])
    assert np.isnan(out[3, 0]).all()
    np.testing.assert_array_equal(out[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(joints_px, before)


def test_sides_are_exchanged_and_cameras_replaced():
    joints_px = np.arange(4 * 6 * 8 * 2).reshape(4, 6, 8, 2)
    other = with_intrinsics(CAMERAS["south"], focal=1.1)
    cameras, out = Repair({"south": other}, swap_sides=("north", "west")).apply(CAMERAS, joints_px, JOINTS)
    assert list(cameras) == list(NAMES)
    assert [cameras[name] is (other if name == "south" else CAMERAS[name]) for name in NAMES] == [True] * 4
    order = [4, 5, 6, 7, 0, 1, 2, 3]
    np.testing.assert_array_equal(out[[0, 3]], joints_px[[0, 3]][:, :, order])
    np.testing.assert_array_equal(out[[1, 2]], joints_px[[1, 2]])
    assert out.dtype == np.float64


def test_changes_are_the_fields_of_the_rig_file():
    K = np.array([[1000.12345, 0, 500], [0, 1000.56789, 400], [0, 0, 1]])
    before = Camera(K, np.eye(3), np.zeros(3), np.zeros(5), (1000, 800))

    def changes(**values):
        return Repair({"c": replace(before, **values)}).changes({"c": before})

    assert changes() == {}
    longer = K * np.array([[1.1], [1.1], [1]])
    longer[:2, 2] = K[:2, 2]
    assert changes(K=longer) == {"cameras.c.f": [1100.136, 1100.625]}
    moved = K.copy()
    moved[1, 2] = 410.12345
    assert changes(K=moved) == {"cameras.c.f": [1000.123, 1000.568], "cameras.c.c": [500.0, 410.123]}
    assert changes(size=(500, 400)) == {"cameras.c.size": [500, 400]}
    assert changes(dist=[0.1234567, 0, 0, 0, 0.5]) == {"cameras.c.dist": [0.123457, 0.0, 0.0, 0.0, 0.5]}
    turn = np.array([0.1234567, 0.2, -0.3])
    assert changes(R=cv2.Rodrigues(turn)[0]) == {"cameras.c.rotation": [0.123457, 0.2, -0.3]}
    assert changes(t=[1.23456, 2, 3]) == {"cameras.c.t_mm": [1.235, 2.0, 3.0]}
    several = Repair(offset_frames={"c": -3, "d": 2}, swap_sides=("d",), up="-y").changes({"c": before})
    assert several == {
        "cameras.c.offset_frames": -3,
        "cameras.d.offset_frames": 2,
        "cameras.d.swap_sides": True,
        "up": "-y",
    }


def test_the_text_names_cameras_mistake_and_size():
    finding = Finding("frame offset", ("a", "b"), False, {"frames": 3.14159, "factor": 2.0}, {}, Repair())
    assert finding.text == f"a and b: {KINDS['frame offset']} (frames 3.14, factor 2)"
    everyone = replace(finding, whole_rig=True, figures={})
    assert everyone.text == f"all cameras: {KINDS['frame offset']}"


def test_partners_of_joints_follow_from_names():
    assert flip_order(JOINTS) == [4, 5, 6, 7, 0, 1, 2, 3]
    assert flip_order(["nose", "right_eye", "left_eye", "left_ear"]) == [0, 2, 1, 3]


@pytest.mark.parametrize("shape", [(3, 30, 8, 2), (4, 30, 7, 2), (4, 30, 8, 3), (4, 30, 8)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"^joints \(4, F, 8, 2\) expected, got \(") as raised:
        check_rig(CAMERAS, np.zeros(shape), JOINTS)
    assert str(raised.value).endswith(str(shape))


@pytest.mark.parametrize("common", [99, 100])
def test_a_hundred_joints_in_two_cameras_are_needed(monkeypatch, common):
    Rounds(monkeypatch)
    joints_px = seen_by()
    joints_px[2:] = np.nan
    joints_px[1].reshape(-1, 2)[common:, 1] = np.nan
    if common == 100:
        check_rig(CAMERAS, joints_px, JOINTS)
    else:
        message = "^fewer than 100 joints are detected by two cameras in the same frame$"
        with pytest.raises(ValueError, match=message):
            check_rig(CAMERAS, joints_px, JOINTS)


def test_uncertain_and_half_missing_detections_are_not_used(monkeypatch):
    rounds = Rounds(monkeypatch)
    joints_px = seen_by()
    joints_px[3, 5, 2, 0] = np.nan
    confidence = np.full((4, 30, 8), 0.8)
    confidence[0, 0], confidence[0, 1], confidence[0, 2], confidence[0, 3] = 0.2, 0.0, 0.201, np.nan
    confidence[1] = 0
    confidence[2] *= 0.01
    confidence[3, :20], confidence[3, 20] = 0, 0.19  # zeros do not lower the median
    check_rig(CAMERAS, joints_px, JOINTS, confidence)
    used, base, order = rounds.calls[0]
    expected = joints_px.copy()
    expected[0, [0, 1, 3]] = np.nan
    expected[1] = np.nan
    expected[3, :21] = np.nan
    np.testing.assert_array_equal(used, expected)
    assert base.cameras == tuple(CAMERAS.values())
    assert order == flip_order(JOINTS)
    check_rig(CAMERAS, joints_px, JOINTS)
    expected = joints_px.copy()
    expected[3, 5, 2] = np.nan
    np.testing.assert_array_equal(rounds.calls[1][0], expected)


@pytest.mark.parametrize(("first", "second", "count"), [(5.99, 50, 0), (6, 19.99, 1), (6, 20, 2)])
def test_scores_from_which_explanations_are_findings(monkeypatch, first, second, count):
    rounds = Rounds(monkeypatch, [scored(score=first)], [scored(views=(2,), score=second)])
    reported = check_rig(CAMERAS, seen_by(), JOINTS)
    assert kinds(reported) == [("camera moved", ("south",)), ("camera moved", ("east",))][2 - count :]
    assert [f.certainty for f in reported] == [second, first][2 - count :]
    assert len(rounds.calls) == count + 1


def test_at_most_three_mistakes_are_searched_each_in_the_repaired_rig(monkeypatch):
    states = [RigState.of(list(CAMERAS.values())).with_offset(0, k) for k in range(1, 5)]
    rounds = Rounds(monkeypatch, *([scored(views=(k,), score=60 - k, state=state)] for k, state in enumerate(states)))
    reported = check_rig(CAMERAS, seen_by(), JOINTS)
    assert [f.cameras for f in reported] == [("north",), ("east",), ("south",)]
    assert [base.offset_frames[0] for _, base, _ in rounds.calls] == [0, 1, 2]
    assert [f.repair.offset_frames for f in reported] == [{"north": 1}] * 3


@pytest.mark.parametrize(
    ("scores", "clear", "expected"),
    [
        ((10, 4.1), (False, True), None),
        ((14, 8), (False, True), 1),
        ((14, 7.9), (False, True), None),
        ((14, 13, 12), (False, False, True), 2),
        ((14, 13), (True, True), 0),
        ((14,), (False,), None),
    ],
)
def test_a_small_change_gives_way_to_a_clear_one_of_similar_score(monkeypatch, scores, clear, expected):
    Rounds(
        monkeypatch, [scored(views=(v,), score=s, clear=c) for v, (s, c) in enumerate(zip(scores, clear, strict=True))]
    )
    reported = check_rig(CAMERAS, seen_by(), JOINTS)
    assert [f.cameras for f in reported] == ([] if expected is None else [(NAMES[expected],)])


def test_alternatives_are_other_clear_explanations_of_similar_score(monkeypatch):
    listed = [
        scored("camera moved", (1,), 20),
        scored("camera moved", (1,), 19),
        scored("focal length", (1,), 18, factor=1.2),
        scored("focal length", (1,), 17.5),
        scored("focal length", (2,), 17, clear=False),
        scored("resolution", (0, 1, 2, 3), 14.01),
        scored("sides swapped", (3,), 14),
    ]
    Rounds(monkeypatch, listed)
    (finding,) = check_rig(CAMERAS, seen_by(), JOINTS)
    assert kinds(finding.alternatives) == [("focal length", ("east",)), ("resolution", NAMES)]
    assert finding.alternatives[0].figures == {"factor": 1.2}
    assert finding.runner_up == "focal length (east)"
    assert [a.whole_rig for a in finding.alternatives] == [False, True]
    assert finding.alternatives[0].runner_up == "camera moved (east)"
    Rounds(monkeypatch, [scored(score=40), scored("cameras swapped", (1, 2), 12)])
    (finding,) = check_rig(CAMERAS, seen_by(), JOINTS)
    assert finding.runner_up == "cameras swapped (east, south)"


def test_evidence_is_that_of_the_pairs_with_a_changed_camera(monkeypatch):
    before, after = [8.0, 1, 1, 12, 16, 1], [2.0, 9, 9, np.nan, 4, 9]
    other = scored("resolution", (0, 1, 2, 3), 12)
    Rounds(monkeypatch, [scored(score=40, scale_px=after, angle_deg=3.0), other], before_px=before)
    (finding,) = check_rig(CAMERAS, seen_by(), JOINTS)
    assert finding.evidence == {"before_px": 12, "after_px": 3, "ratio": 0.25, "score": 40, "runner_up_score": 12}
    assert finding.figures == {"angle_deg": 3.0}
    assert finding.runner_up == "resolution (all cameras)"
    assert not finding.warning
    assert not finding.whole_rig
    Rounds(monkeypatch, [scored(views=(0, 2), score=40, scale_px=[np.nan] * 6)], before_px=before)
    (finding,) = check_rig(CAMERAS, seen_by(), JOINTS)
    assert finding.cameras == ("north", "south")
    assert (finding.evidence["before_px"], finding.runner_up) == (1, None)
    assert np.isnan(finding.evidence["after_px"])
    assert "runner_up_score" not in finding.evidence


def test_a_repair_is_what_differs_from_the_rig(monkeypatch):
    first = RigState.of(list(CAMERAS.values())).with_offset(0, 4).with_swapped(3)
    other = with_intrinsics(CAMERAS["south"], focal=1.1)
    second = first.with_camera(2, other).with_offset(0, 3).with_offset(1, -2).with_swapped(3).with_swapped(1)
    Rounds(monkeypatch, [scored(score=90, state=first)], [scored(score=80, state=second)])
    reported = check_rig(CAMERAS, seen_by(), JOINTS)
    assert vars(reported[0].repair) == vars(Repair({}, {"north": 4}, ("west",)))
    assert vars(reported[1].repair) == vars(Repair({"south": other}, {"north": -1, "east": -2}, ("east", "west")))


@pytest.mark.parametrize(("misfit", "expected"), [(0.149, False), (0.151, True)])
def test_a_camera_that_fits_no_other_is_reported_relative_to_the_size_of_people(monkeypatch, misfit, expected):
    joints_px = seen_by()
    low, high = np.percentile(joints_px, [5, 95], axis=2)
    size_px = np.median(np.linalg.norm(high - low, axis=-1), axis=1)
    pairs = pairs_of(4)
    of_pair = np.sqrt((size_px[pairs] ** 2).mean(1))
    before = np.where((pairs == 2).any(1), misfit * of_pair, 1.0)
    before[1] *= 3  # the least decides
    Rounds(monkeypatch, before_px=before)
    reported = check_rig(CAMERAS, joints_px, JOINTS)
    assert kinds(reported) == ([("no explanation", ("south",))] if expected else [])
    if expected:
        (finding,) = reported
        assert finding.evidence == pytest.approx(
            {"misfit_px": np.median(before[(pairs == 2).any(1)]), "person_px": size_px[2]}
        )
        assert (finding.certainty, finding.warning, finding.whole_rig, dict(finding.figures)) == (0, False, False, {})
        assert finding.repair.changes(CAMERAS) == {}


@pytest.mark.parametrize(("detections", "expected"), [(200, False), (201, True)])
def test_a_camera_without_any_pair_is_reported_if_it_has_detections(monkeypatch, detections, expected):
    joints_px = seen_by()
    joints_px[1].reshape(-1, 2)[detections:] = np.nan
    before = np.where((pairs_of(4) == 1).any(1), np.nan, 1.0)
    Rounds(monkeypatch, before_px=before)
    reported = check_rig(CAMERAS, joints_px, JOINTS)
    assert kinds(reported) == ([("no explanation", ("east",))] if expected else [])
    if expected:
        assert np.isnan(reported[0].evidence["misfit_px"])


def test_the_misfit_that_a_finding_leaves_is_reported_after_it(monkeypatch):
    before = np.where((pairs_of(4) == 0).any(1), 500.0, 1.0)
    Rounds(monkeypatch, [scored(score=30)], before_px=before)
    assert kinds(check_rig(CAMERAS, seen_by(), JOINTS)) == [("camera moved", ("east",)), ("no explanation", ("north",))]
    Rounds(monkeypatch, *([scored(score=30)] for _ in range(3)), before_px=before)
    assert kinds(check_rig(CAMERAS, seen_by(), JOINTS)) == [("camera moved", ("east",))] * 3


def test_the_size_of_people_is_that_of_frames_with_five_joints(monkeypatch):
    joints_px = seen_by(frames=40)
    full = joints_px[2].copy()
    joints_px[2, ::2, 4:] = np.nan  # four joints
    joints_px[2, 1::2, 5:] = np.nan
    Rounds(monkeypatch, before_px=np.where((pairs_of(4) == 2).any(1), 500.0, 1.0))
    (finding,) = check_rig(CAMERAS, joints_px, JOINTS)
    low, high = np.percentile(full[1::2, :5], [5, 95], axis=1)
    assert finding.evidence["person_px"] == pytest.approx(np.median(np.linalg.norm(high - low, axis=-1)))
    joints_px[2, :, 4:] = np.nan
    before = np.where((pairs_of(4) == 2).any(1), np.nan, 1.0)
    joints_px = np.concatenate([joints_px] * 2, axis=1)
    Rounds(monkeypatch, before_px=before)
    (finding,) = check_rig(CAMERAS, joints_px, JOINTS)
    assert np.isnan(finding.evidence["person_px"])


@pytest.mark.parametrize(("unit", "factor"), [("m", 1000.0), ("cm", 10.0), ("mm", 1.0)])
def test_translations_in_another_unit_are_reported(monkeypatch, unit, factor):
    cameras = {name: replace(c, t=c.t / factor) for name, c in CAMERAS.items()}
    Rounds(monkeypatch, [scored(score=999, state=RigState.of(list(cameras.values())))] if unit == "m" else [])
    reported = check_rig(cameras, seen_by(), JOINTS)
    if unit == "mm":
        assert reported == []
        return
    finding = reported[0]
    assert (finding.kind, finding.cameras, finding.whole_rig, finding.warning) == ("unit", NAMES, True, False)
    assert finding.figures == {"factor": factor}
    chain = {"shoulder_to_ankle": 1330 / factor, "shoulder_to_ankle_repaired_mm": 1330}
    assert finding.evidence == pytest.approx(chain, rel=1e-6)
    assert finding.certainty == 1000
    assert list(finding.repair.cameras) == list(NAMES)
    for name, camera in finding.repair.cameras.items():
        np.testing.assert_allclose(camera.t, CAMERAS[name].t)
        np.testing.assert_array_equal(camera.K, CAMERAS[name].K)
    assert len(reported) == (2 if unit == "m" else 1)


def test_another_vertical_axis_is_a_warning(monkeypatch):
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # Z up becomes -Y up
    cameras = {name: replace(c, R=c.R @ turn.T) for name, c in CAMERAS.items()}
    for score, position in ((400, 0), (600, 1)):
        Rounds(monkeypatch, [scored(score=score, state=RigState.of(list(cameras.values())))])
        reported = check_rig(cameras, seen_by(), JOINTS)
        assert len(reported) == 2
        assert reported[position].kind == "up axis"
    finding = reported[1]
    assert (finding.cameras, finding.whole_rig, finding.warning, finding.certainty) == (NAMES, True, True, 500)
    assert finding.evidence == pytest.approx({"up_x": 0, "up_y": -1, "up_z": 0}, abs=1e-6)
    assert finding.repair.changes(cameras) == {"up": "-y"}
    assert finding.figures == {}
    Rounds(monkeypatch)
    assert check_rig(cameras, seen_by(), JOINTS, up="-y") == []
    assert check_rig(cameras, seen_by(), JOINTS, up=None) == []
    assert kinds(check_rig(CAMERAS, seen_by(), JOINTS, up="y")) == [("up axis", NAMES)]
    others = [f"joint {i}" for i in range(8)]
    assert check_rig(cameras, seen_by(), others) == []


def test_the_body_is_measured_in_the_repaired_rig_without_outliers(monkeypatch):
    rng = np.random.default_rng(0)
    joints_px = seen_by(frames=100)
    wrong = rng.random(joints_px.shape[:3]) < 0.2
    joints_px[wrong] += rng.uniform(100, 300, (wrong.sum(), 2))
    of_others = [replace(CAMERAS[n], t=CAMERAS[n].t / 1000) for n in ("east", "north", "south", "west")]
    state = RigState.of(of_others)
    Rounds(monkeypatch, [scored("cameras swapped", (0, 1), 50, state=state.with_exchanged(0, 1))])
    reported = check_rig(dict(zip(NAMES, of_others, strict=True)), joints_px, JOINTS)
    assert kinds(reported) == [("unit", NAMES), ("cameras swapped", ("north", "east"))]
    assert reported[0].evidence["shoulder_to_ankle"] == pytest.approx(1.33, rel=2e-3)
