"""Candidate explanations of exact rigs with one mistake, and the coarse costs by which they are chosen."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_tracks import rig, walking

from poseboard.datasets.camera import Camera
from poseboard.methods.geometry.rig_mistakes import explanations
from poseboard.methods.geometry.rig_mistakes.epipolar_fit import (
    FOCAL,
    K1,
    NO_RELATION,
    SCALE,
    Fit,
    costs,
    fit,
    pairs_of,
)
from poseboard.methods.geometry.rig_mistakes.explanations import (
    CoarseCost,
    candidates,
    correct_prior,
    from_centre,
    inverted,
    lenses,
    transposed,
    triangulated,
    with_intrinsics,
)
from poseboard.methods.geometry.rig_mistakes.rig_state import RigState

COUNTS = np.array([50.0, 60, 70, 80, 90, 100])
EVERYONE = (0, 1, 2, 3)
STRAIGHT = (0.0,) * 5
WEAK = (-0.21, 0.042, 0, 0, 0)
"""A lens of the search."""


def rotated(camera, degrees, shift_mm=(0.0, 0, 0)):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    R = turn @ camera.R
    return replace(camera, R=R, t=-R @ (camera.centre_mm + shift_mm))


def recorded(cameras, calibrated=None, **options):
    """Tracks of people that ``cameras`` record, and the state of the cameras that are ``calibrated``."""
    return walking(cameras, **options), RigState.of(cameras if calibrated is None else calibrated)


def of_kind(listed, kind, views):
    (explanation,) = [e for e in listed if (e.kind, e.views) == (kind, views)]
    return explanation


def test_a_correct_camera_has_small_errors():
    prior = correct_prior(3)
    sigma = [np.deg2rad(0.25)] * 3 + [0.004] * 3 + [0.006, 0.01, 0.3, 0]
    np.testing.assert_allclose(prior, [sigma] * 3)


def test_gains_are_those_of_all_pairs():
    tracks, state = recorded(rig(4))
    tracks = replace(tracks, flip_order=np.array([1, 0, 2]))
    tracks.joints_px[0, :10] = np.nan
    coarse = CoarseCost(tracks, state, COUNTS)

    def total(state):
        cost, _ = costs(tracks.rays(state), pairs_of(4))
        return (np.where(np.isfinite(cost), cost, NO_RELATION) * COUNTS).sum()

    changes = [
        state.with_camera(2, rotated(state.cameras[2], 2)),
        replace(state, source=(0, 1, 3, 3)),
        state.with_offset(1, 2),
        state.with_offset(1, 25),  # no common points
        state.with_swapped(3),
        state.with_exchanged(0, 3),
    ]
    for changed in changes:
        assert coarse.gain(changed) == pytest.approx(total(state) - total(changed))
        assert coarse.gain(changed) < -10
    assert coarse.gain(state) == 0


def test_scaled_intrinsics():
    K = np.array([[1000.0, 2, 500], [0, 1100, 400], [0, 0, 1]])
    camera = Camera(K, np.eye(3), np.zeros(3), np.zeros(5), (1001, 801))
    longer = with_intrinsics(camera, focal=1.5)
    np.testing.assert_allclose(longer.K, [[1500, 2, 500], [0, 1650, 400], [0, 0, 1]])
    assert longer.size == (1001, 801)
    smaller = with_intrinsics(camera, scale=0.5)
    np.testing.assert_allclose(smaller.K, [[500, 1, 250], [0, 550, 200], [0, 0, 1]])
    assert smaller.size == (500, 400)
    np.testing.assert_array_equal(camera.K, K)


def test_each_change_of_extrinsics_undoes_its_mistake():
    camera = rotated(rig(4)[1], 20)
    mistakes = {
        inverted: replace(camera, R=camera.R.T, t=camera.centre_mm),
        from_centre: replace(camera, t=camera.centre_mm),
        transposed: replace(camera, R=camera.R.T),
    }
    for change, wrong in mistakes.items():
        right = change(wrong)
        np.testing.assert_allclose(right.R, camera.R)
        np.testing.assert_allclose(right.t, camera.t, atol=1e-9)
    assert list(explanations.EXTRINSICS.values()) == list(mistakes)


EXTRINSICS = {
    "extrinsics inverted": lambda c: replace(c, R=c.R.T, t=c.centre_mm),
    "centre for translation": lambda c: replace(c, t=c.centre_mm),
    "rotation transposed": lambda c: replace(c, R=c.R.T),
}


@pytest.mark.parametrize("kind", EXTRINSICS)
@pytest.mark.parametrize("views", [(2,), EVERYONE])
def test_extrinsics_of_one_camera_or_of_all(kind, views):
    cameras = rig(4)
    tracks, state = recorded(cameras, [EXTRINSICS[kind](c) if v in views else c for v, c in enumerate(cameras)])
    listed = candidates(tracks, state, COUNTS)
    best = of_kind(listed, kind, views)
    assert best.gain == max(e.gain for e in listed)
    for camera, expected in zip(best.state.cameras, cameras, strict=True):
        np.testing.assert_allclose(camera.R, expected.R)
        np.testing.assert_allclose(camera.t, expected.t, atol=1e-6)
    assert (best.widths, best.value) == ({}, None)
    assert best.log_prior == pytest.approx(0 if views == EVERYONE else -np.log(4))
    assert best.gain == pytest.approx(CoarseCost(tracks, state, COUNTS).gain(best.state))


@pytest.mark.parametrize(("a", "b"), [(0, 1), (1, 3)])
def test_exchanged_cameras(a, b):
    cameras = rig(4)
    wrong = RigState.of(cameras).with_exchanged(a, b)
    tracks, state = recorded(cameras, wrong.cameras)
    listed = candidates(tracks, state, COUNTS)
    best = of_kind(listed, "cameras swapped", (a, b))
    assert best.gain == max(e.gain for e in listed)
    assert best.state.cameras == tuple(cameras)
    assert best.log_prior == pytest.approx(-np.log(6))
    assert all(type(v) is int for v in best.views)


@pytest.mark.parametrize(("lag", "frames"), [(3, 40), (-5, 40), (31, 100), (-29, 100), (13, 40)])
def test_detections_that_start_late(lag, frames):
    cameras = rig(4)
    tracks, state = recorded(cameras, frames=frames)
    joints_px = tracks.joints_px.copy()
    joints_px[1] = np.roll(joints_px[1], lag, axis=0)
    joints_px[1, slice(0, lag) if lag > 0 else slice(lag, None)] = np.nan
    tracks = replace(tracks, joints_px=joints_px, _undistorted={})
    base = state.with_offset(1, 1)  # frames are relative to the present offset
    listed = candidates(tracks, base, COUNTS)
    best = of_kind(listed, "frame offset", (1,))
    assert best.value == lag - 1
    assert best.state.offset_frames == (0, lag, 0, 0)
    assert best.log_prior == pytest.approx(-np.log(2 * 30 * 4))
    assert best.gain == pytest.approx(CoarseCost(tracks, base, COUNTS).gain(best.state))
    assert best.widths == {}


def test_offsets_are_searched_up_to_a_third_of_the_recording_and_30_frames():
    for frames, largest in ((12, 4), (15, 5), (120, 30), (2, 0)):
        tracks, state = recorded(rig(2), frames=frames)
        searched = []

        class Coarse:
            def gain(self, state, searched=searched):
                searched.append(state.offset_frames)
                return float(sum(state.offset_frames))

        listed = list(explanations._offsets(tracks, state.with_offset(0, 7), Coarse()))
        assert sorted(k - 7 for k, _ in searched[: 2 * largest]) == [k for k in range(-largest, largest + 1) if k]
        assert len(searched) == 4 * largest
        assert [e.value for e in listed] == [largest] * (2 if largest else 0)
        assert [e.gain for e in listed] == [7 + largest] * (2 if largest else 0)


def test_exchanged_sides():
    cameras = rig(4)
    tracks, state = recorded(cameras)
    tracks = replace(tracks, flip_order=np.array([1, 0, 2]))
    tracks.joints_px[3] = tracks.joints_px[3][:, [1, 0, 2]]
    listed = candidates(tracks, state, COUNTS)
    best = of_kind(listed, "sides swapped", (3,))
    assert best.gain == max(e.gain for e in listed)
    assert best.state.swapped == (False, False, False, True)
    assert best.log_prior == pytest.approx(-np.log(4))
    assert best.gain == pytest.approx(CoarseCost(tracks, state, COUNTS).gain(best.state))


@pytest.mark.parametrize(
    ("kind", "factor"),
    [
        *(("focal length", f) for f in (0.5, 0.937, 1.2, 2.0)),
        *(("resolution", f) for f in (0.25, 0.937, 2 / 3, 4.0)),
    ],
)
@pytest.mark.parametrize("views", [(2,), EVERYONE])
def test_focal_lengths_and_sizes_of_images(kind, factor, views):
    cameras = rig(4, STRAIGHT)
    name = "focal" if kind == "focal length" else "scale"
    wrong = [with_intrinsics(c, **{name: 1 / factor}) if v in views else c for v, c in enumerate(cameras)]
    tracks, state = recorded(cameras, wrong)
    coarse = CoarseCost(tracks, state, COUNTS)
    listed = list(explanations._scaled(tracks, state, coarse))
    scopes = [(0,), (1,), (2,), (3,), EVERYONE]
    assert [(e.kind, e.views) for e in listed] == [(k, s) for s in scopes for k in ("focal length", "resolution")]
    best = of_kind(listed, kind, views)
    assert np.log(best.value / factor) == pytest.approx(0, abs=0.0051)  # steps of 1 %
    for v, (camera, calibrated) in enumerate(zip(best.state.cameras, wrong, strict=True)):
        expected = with_intrinsics(calibrated, **{name: best.value if v in views else 1.0})
        np.testing.assert_allclose(camera.K, expected.K)
        assert camera.size == expected.size
    one = len(views) == 1
    assert best.widths == ({FOCAL if name == "focal" else SCALE: 0.02} if one else {})
    assert best.log_prior == pytest.approx(np.log(0.02 / 0.4) - (np.log(4) if one else 0))
    assert best.gain == pytest.approx(coarse.gain(best.state))
    assert best.gain > 50


@pytest.mark.parametrize("views", [(2,), EVERYONE])
@pytest.mark.parametrize("k1", [-0.45, -0.21, -0.03, 0.03, 0.2])
def test_lenses_that_the_calibration_lacks(views, k1):
    dist = np.array([k1, -0.2 * k1, 0, 0, 0])
    cameras = [replace(c, dist=dist if v in views else np.zeros(5)) for v, c in enumerate(rig(4))]
    tracks, state = recorded(cameras, [c.undistorted() for c in cameras])
    coarse = CoarseCost(tracks, state, COUNTS)
    listed = list(explanations._lenses(tracks, state, coarse))
    assert [e.views for e in listed] == [(0,), (1,), (2,), (3,), EVERYONE]
    best = of_kind(listed, "distortion", views)
    assert best.value == pytest.approx(k1)
    for v, camera in enumerate(best.state.cameras):
        np.testing.assert_allclose(camera.dist, dist if v in views else np.zeros(5), atol=1e-12)
    assert best.widths == {K1: 0.05}
    assert best.log_prior == pytest.approx(np.log(0.05 / 0.3) - (np.log(4) if len(views) == 1 else 0))
    assert best.gain == pytest.approx(coarse.gain(best.state))
    assert best.gain == max(e.gain for e in listed)


def test_lenses_that_are_undone_twice():
    cameras = rig(4, WEAK)
    tracks, state = recorded([c.undistorted() for c in cameras], cameras)
    coarse = CoarseCost(tracks, state, COUNTS)
    listed = list(explanations._lenses(tracks, state, coarse))
    assert [e.views for e in listed] == [(0,), (1,), (2,), (3,), EVERYONE]
    best = of_kind(listed, "distortion", EVERYONE)
    assert best.gain == max(e.gain for e in listed)
    for e in listed:
        assert (e.kind, e.value, e.widths) == ("distortion", "twice", {})
        assert [bool(c.dist.any()) for c in e.state.cameras] == [v not in e.views for v in EVERYONE]
        assert e.log_prior == pytest.approx(0 if e.views == EVERYONE else -np.log(4))
        assert e.gain == pytest.approx(coarse.gain(e.state))


def test_cameras_with_and_without_lenses_have_no_common_change():
    cameras = [c if v else c.undistorted() for v, c in enumerate(rig(4, WEAK))]
    tracks, state = recorded(cameras)
    listed = list(explanations._lenses(tracks, state, CoarseCost(tracks, state, COUNTS)))
    assert [e.views for e in listed] == [(0,), (1,), (2,), (3,)]
    assert [e.value == "twice" for e in listed] == [False, True, True, True]


def test_lenses_of_a_fit():
    cameras = rig(4, STRAIGHT)

    def free(*k1):
        theta = np.zeros((4, 10))
        theta[:, K1] = k1
        return Fit(theta, 0.0, pairs_of(4), np.zeros(6), np.ones(6), 1.0)

    listed = lenses(RigState.of(cameras), free(0.01, -0.3, 0.05, 0.2))
    assert [(e.kind, e.views, e.value) for e in listed] == [
        ("distortion", EVERYONE, pytest.approx(0.03)),
        ("distortion", (1,), pytest.approx(-0.3)),
        ("distortion", (3,), pytest.approx(0.2)),
    ]
    np.testing.assert_allclose(listed[1].state.cameras[1].dist, [-0.3, 0.06, 0, 0, 0])
    bent = [replace(c, dist=np.array(WEAK)) for c in cameras]
    listed = lenses(RigState.of(bent), free(0.01, -0.3, 0.05, 0.2))
    assert [(e.views, e.value) for e in listed] == [(EVERYONE, "twice"), ((1,), "twice"), ((3,), "twice")]
    listed = lenses(RigState.of([bent[0], *cameras[1:]]), free(0.4, -0.3, 0.05, 0.2))
    assert [(e.views, e.value) for e in listed] == [((0,), "twice"), ((1,), pytest.approx(-0.3))]


@pytest.mark.parametrize("view", [0, 3])
def test_a_moved_camera_is_placed_by_the_others(view):
    cameras = rig(4)
    wrong = [rotated(c, 10, (300.0, -100, 50)) if v == view else c for v, c in enumerate(cameras)]
    tracks, state = recorded(cameras, wrong)
    listed = candidates(tracks, state, COUNTS)
    best = of_kind(listed, "camera moved", (view,))
    assert best.gain == max(e.gain for e in listed)
    np.testing.assert_allclose(best.state.cameras[view].R, cameras[view].R, atol=1e-5)
    np.testing.assert_allclose(best.state.cameras[view].centre_mm, cameras[view].centre_mm, atol=0.1)
    assert best.widths == {0: np.deg2rad(1), 1: np.deg2rad(1), 2: np.deg2rad(1), 3: 0.02, 4: 0.02, 5: 0.02}
    assert best.log_prior == pytest.approx(3 * np.log(0.1) + 3 * np.log(0.2) - np.log(4))
    assert best.gain == pytest.approx(CoarseCost(tracks, state, COUNTS).gain(best.state))


def test_a_camera_without_detections_is_not_placed():
    tracks, state = recorded(rig(4))
    tracks.joints_px[1] = np.nan
    listed = list(explanations._moved(tracks, state, CoarseCost(tracks, state, COUNTS)))
    assert [e.views for e in listed] == [(0,), (2,), (3,)]


@pytest.mark.parametrize("spoiled", [1, 2])
def test_outliers_do_not_place_a_moved_camera(spoiled):
    cameras = rig(5)
    wrong = [rotated(c, 10, (300.0, -100, 50)) if v == 2 else c for v, c in enumerate(cameras)]
    tracks, state = recorded(cameras, wrong, noise_px=0.5)
    rng = np.random.default_rng(0)
    outliers = rng.random(tracks.joints_px[spoiled].shape[:2]) < 0.25
    tracks.joints_px[spoiled][outliers] += rng.uniform(60, 200, (outliers.sum(), 2))
    coarse = CoarseCost(tracks, state, np.full(10, 50.0))
    best = of_kind(explanations._moved(tracks, state, coarse), "camera moved", (2,))
    assert np.abs(best.state.cameras[2].R - cameras[2].R).max() < 2e-3
    assert np.linalg.norm(best.state.cameras[2].centre_mm - cameras[2].centre_mm) < 10


def test_no_candidate_of_a_correct_rig():
    tracks, state = recorded(rig(4))
    assert candidates(tracks, state, COUNTS) == []
    assert fit(tracks.rays(state), correct_prior(4), COUNTS).scale_px == pytest.approx([0.2] * 6)


def test_the_best_two_candidates_of_a_kind_for_single_views_and_for_several():
    cameras = rig(4, STRAIGHT)
    wrong = [rotated(with_intrinsics(c, focal=0.8 + 0.1 * v), 3 * v) for v, c in enumerate(cameras)]
    tracks, state = recorded(cameras, wrong)
    coarse = CoarseCost(tracks, state, COUNTS)
    listed = candidates(tracks, state, COUNTS)
    parts = ("_whole_rig", "_exchanged", "_offsets", "_sides", "_scaled", "_lenses", "_single_poses", "_moved")
    every = [e for part in parts for e in getattr(explanations, part)(tracks, state, coarse)]
    for kind in {e.kind for e in every}:
        for several in (False, True):
            gains = sorted((e.gain for e in every if e.kind == kind and (len(e.views) > 1) == several), reverse=True)
            best = [e.gain for e in listed if e.kind == kind and (len(e.views) > 1) == several]
            assert best == pytest.approx([g for g in gains[:2] if g > 2])
    assert len(listed) > 6


@pytest.mark.parametrize(("gain", "enough"), [(2.0, False), (2.001, True)])
def test_candidates_must_gain_two_nats(monkeypatch, gain, enough):
    tracks, state = recorded(rig(4))
    monkeypatch.setattr(
        CoarseCost, "gain", lambda self, changed: gain * (changed.swapped == (False, True, False, False))
    )
    listed = candidates(tracks, state, COUNTS)
    assert [(e.kind, e.views) for e in listed] == ([("sides swapped", (1,))] if enough else [])


def test_of_equal_gains_fewer_views_come_first(monkeypatch):
    tracks, state = recorded(rig(4))
    monkeypatch.setattr(CoarseCost, "gain", lambda self, changed: 5.0)
    listed = [e.views for e in candidates(tracks, state, COUNTS) if e.kind == "resolution"]
    assert listed == [(0,), (1,), EVERYONE]


def test_points_are_triangulated_without_a_view_that_disagrees():
    cameras = rig(5, STRAIGHT)
    P = np.stack([np.column_stack([c.R, c.t]) for c in cameras])
    focal_px = np.array([c.K[0, 0] for c in cameras])
    exact, noisy = (walking(cameras, noise_px=px) for px in (0, 0.5))
    X = triangulated(P, exact.rays(RigState.of(cameras)).points, focal_px)
    for camera, px in zip(cameras, exact.joints_px, strict=True):
        np.testing.assert_allclose(camera.project(X), px.reshape(-1, 2), atol=1e-6)
    m = noisy.rays(RigState.of(cameras)).points

    def error_mm(m, focal_px=focal_px):
        return np.linalg.norm(triangulated(P, m, focal_px) - X, axis=1)

    usual = error_mm(m)
    assert np.median(usual) < 2
    assert usual.max() < 5
    m[1, 1] = np.nan
    m[1:, 3] = np.nan
    for off in (0.03, 0.1):
        spoiled = m.copy()
        spoiled[2, ::5] += off
        error = error_mm(spoiled)
        assert np.isnan(error).tolist() == [i == 3 for i in range(len(X))]
        assert np.nanmedian(error[::5]) < 1.3 * np.median(usual)
        assert np.nanmax(error) < 3 * usual.max()
        np.testing.assert_allclose(error_mm(spoiled, 1e3 * focal_px), error, atol=1e-3)  # only ratios of errors count
        np.testing.assert_allclose(error_mm(spoiled, 1e-3 * focal_px), error, atol=1e-3)
        assert np.nanmedian(np.linalg.norm(explanations.dlt(P, spoiled) - X, axis=1)[::5]) > 50


def test_views_without_points_are_triangulated_as_unknown():
    P = np.stack([np.column_stack([c.R, c.t]) for c in rig(2)])
    assert np.isnan(triangulated(P, np.full((2, 5, 2), np.nan), np.ones(2))).all()


def resected(count, wrong=0, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    camera = rig(4, STRAIGHT)[1]
    X = rng.uniform([-900, -900, 100], [900, 900, 1800], (count, 3))
    m = camera.normalised(camera.project(X)) + noise * rng.standard_normal((count, 2))
    m[:wrong] = rng.uniform(-0.4, 0.4, (wrong, 2))
    return camera, X, m


@pytest.mark.parametrize(("count", "wrong"), [(12, 0), (60, 15)])
def test_the_pose_of_a_camera_follows_from_points(count, wrong):
    camera, X, m = resected(count, wrong)
    X = np.concatenate([X, X[:2], X[:2]])
    m = np.concatenate([m, m[:2], m[:2]])
    X[-2:] = np.nan
    m[-4:-2] = np.nan
    R, t = explanations._resection(X, m, 0.02)
    np.testing.assert_allclose(R, camera.R, atol=1e-5)
    np.testing.assert_allclose(t, camera.t, atol=0.1)
    assert t.shape == (3,)


def test_no_pose_follows_from_few_or_unrelated_points():
    _, X, m = resected(12)
    assert explanations._resection(X[:11], m[:11], 0.02) is None
    _, X, m = resected(40, wrong=40)
    assert explanations._resection(X, m, 0.002) is None
    _, X, m = resected(40, wrong=29)
    assert explanations._resection(X, m, 0.0001) is None
