"""Comparison of explanations: scores, figures and repaired states of rigs with one mistake."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_tracks import rig, tracked, walking
from scipy.spatial.transform import Rotation

from poseboard.methods.geometry.rig_mistakes import comparison
from poseboard.methods.geometry.rig_mistakes.comparison import Scored, explain
from poseboard.methods.geometry.rig_mistakes.epipolar_fit import (
    FOCAL,
    K1,
    LAG,
    NO_RELATION,
    ROTATION,
    SCALE,
    Fit,
    costs,
    fit,
    pairs_of,
    rig_size,
    sampson_px,
)
from poseboard.methods.geometry.rig_mistakes.explanations import Explanation, correct_prior, with_intrinsics
from poseboard.methods.geometry.rig_mistakes.rig_state import RigState, Tracks

STRAIGHT = (0.0,) * 5
FLIP = [1, 0, 3, 2, 4, 5]
CAMERAS = rig(4, STRAIGHT)
STATE = RigState.of(CAMERAS)


def joints_of(cameras=CAMERAS, noise_px=2.0, frames=150, seed=0):
    """Joints (V, F, 6, 2) that ``cameras`` record."""
    return walking(cameras, frames, 6, noise_px, seed).joints_px


def fit_of(theta=None, scale_px=1.0, size=1.0):
    theta = np.zeros((4, 10)) if theta is None else theta
    return Fit(theta, 0.0, pairs_of(4), np.zeros(6), np.full(6, scale_px), size)


def theta_of(view, **values):
    theta = np.zeros((4, 10))
    for name, value in values.items():
        theta[view, {"focal": FOCAL, "k1": K1, "lag": LAG, "scale": SCALE}[name]] = value
    return theta


def turned(camera, degrees, shift_mm=(0.0, 0, 0)):
    R = Rotation.from_euler("y", degrees, degrees=True).as_matrix() @ camera.R
    return replace(camera, R=R, t=-R @ (camera.centre_mm + shift_mm))


# --- parts of the comparison


def test_pairs_count_as_their_share_of_the_degrees_of_freedom():
    rays = walking(rig(5), joints=6).rays(RigState.of(rig(5)))
    assert comparison._counts(rays) == pytest.approx([240 * 7 / 10] * 10)
    rays.points[0, :100] = np.nan
    rays.points[1, 50:, 1] = np.nan
    common = {(0, 1): 20, (0, 2): 140, (1, 2): 50, (2, 3): 240}
    counts = dict(zip(map(tuple, pairs_of(5).tolist()), comparison._counts(rays), strict=True))
    for pair, number in common.items():
        assert counts[pair] == pytest.approx(number * 7 / 10)


def test_the_prior_of_the_changed_views_is_widened():
    e = Explanation("focal length", (1, 3), STATE, {FOCAL: 0.02, LAG: 8.0})
    prior = correct_prior(4)
    wide = comparison._widened(prior, e)
    expected = correct_prior(4)
    expected[[1, 3], FOCAL], expected[[1, 3], LAG] = 0.02, 8
    np.testing.assert_array_equal(wide, expected)
    np.testing.assert_array_equal(prior, correct_prior(4))


def test_the_changed_views_start_from_0():
    unchanged = fit_of(np.arange(40.0).reshape(4, 10))
    start = comparison._start(unchanged, Explanation("focal length", (1, 3), STATE))
    np.testing.assert_array_equal(start[[0, 2]], unchanged.theta[[0, 2]])
    assert (start[[1, 3]] == 0).all()
    assert unchanged.theta[1, 0] == 10


def test_slow_offsets_are_those_of_the_two_largest_delays():
    theta = np.zeros((4, 10))
    theta[:, LAG] = 0.1, -0.5, 0.3, 0.2
    offsets = list(comparison._slow_offsets(STATE, fit_of(theta)))
    assert [(e.kind, e.views, e.widths, e.value) for e in offsets] == [
        ("frame offset", (1,), {LAG: 8.0}, 0),
        ("frame offset", (2,), {LAG: 8.0}, 0),
    ]
    assert all(e.state is STATE and e.log_prior == pytest.approx(-np.log(4)) for e in offsets)


def shows(kind, camera, tracks, views=(2,)):
    state = STATE.with_camera(2, camera)
    return comparison._shows_detections(tracks, Scored(Explanation(kind, views, state), fit_of(), 0, {}, True, state))


@pytest.mark.parametrize(("inside", "shown"), [(94, False), (95, True)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("end", [0, 1])
def test_an_image_must_show_the_detections(inside, shown, axis, end):
    joints_px = np.full((4, 60, 2, 2), 300.0)
    joints_px[2, ..., axis] = 0.5
    joints_px[2].reshape(-1, 2)[inside:100, axis] = (-5, 705)[end] if axis else (-5, 905)[end]
    joints_px[2].reshape(-1, 2)[100:] = np.nan
    tracks = Tracks.grid(joints_px, [0, 1], 60)
    camera = replace(CAMERAS[2], size=(900, 700))
    assert shows("resolution", camera, tracks) == shown
    assert shows("resolution", camera, tracks, (0, 2)) == shown
    assert shows("resolution", camera, tracks, (0, 1))
    assert shows("resolution", replace(camera, size=(0, 0)), tracks)
    assert shows("focal length", camera, tracks)


@pytest.mark.parametrize(("inside", "shown"), [(94, False), (95, True)])
def test_a_lens_must_reach_the_detections(inside, shown):
    camera = replace(CAMERAS[2], dist=np.array([-0.5, 0, 0, 0, 0]))
    joints_px = np.tile(camera.K[:2, 2], (4, 60, 2, 1))
    joints_px[2].reshape(-1, 2)[inside:100, 0] += 0.7 * camera.K[0, 0]
    joints_px[2].reshape(-1, 2)[100:] = np.nan
    tracks = Tracks.grid(joints_px, [0, 1], 60)
    assert shows("distortion", camera, tracks) == shown
    assert shows("resolution", replace(camera, size=(5000, 5000)), tracks) == shown
    assert shows("distortion", CAMERAS[2], tracks)


@pytest.mark.parametrize("length", [1, 3, 30, 60])
def test_dependence_is_the_variance_of_sums_over_30_frames(length):
    rng = np.random.default_rng(0)
    exact = joints_of(noise_px=0.0, frames=1200)
    # The same noise for a number of frames, from the start of a block of 30.
    noise = np.repeat(rng.normal(0, 2, (4, 1200 // length, 6, 2)), length, axis=1)
    tracks = Tracks.grid(exact + noise, FLIP, 1200)
    tracks = replace(tracks, frame=tracks.frame[tracks.joint < 5], joint=tracks.joint[tracks.joint < 5])
    fitted = fit(tracks.rays(STATE), np.zeros((4, 10)), np.full(6, 1000.0))
    dependence = comparison._dependence(tracks, STATE, fitted)
    assert dependence == pytest.approx(min(length, 30), rel=0.12)
    few = replace(fitted, scale_px=np.full(6, 1e-3))  # residuals beyond three standard deviations count as three
    assert comparison._dependence(tracks, STATE, few) == pytest.approx(min(length, 30), rel=0.2)


def test_no_residuals_depend_on_nothing():
    tracks = walking(CAMERAS, joints=6)
    tracks.joints_px[:] = np.nan
    assert comparison._dependence(tracks, STATE, fit_of()) == 0


def test_parameters_of_the_fit_count_for_the_dependence():
    tracks = walking(CAMERAS, 600, 6, noise_px=2.0)
    wrong = fit_of(theta_of(1, focal=0.05), scale_px=2.0)
    assert comparison._dependence(tracks, STATE, wrong) > 2 * comparison._dependence(
        tracks, STATE, fit_of(scale_px=2.0)
    )


def test_the_score_of_an_offset_is_lowered_by_what_chance_gains():
    many = replace(walking(CAMERAS, 60, 6, noise_px=2.0), _undistorted={})
    many.joints_px[1, 40:] = np.nan
    counts, prior = np.array([10.0, 20, 30, 40, 50, 60]), correct_prior(4)
    unchanged = fit(many.rays(STATE), prior, counts)
    e = Explanation("frame offset", (1,), STATE.with_offset(1, 1))
    fitted = fit(many.rays(e.state), prior, counts)
    concerned = [0, 3, 4]

    def terms(state, of):
        """Negative log likelihood of every point and pair."""
        rays = many.rays(state).moved(of.theta, of.size)
        r, s = sampson_px(rays, pairs_of(4))[concerned], costs(rays, pairs_of(4))[1][concerned, None]
        number = np.isfinite(r).sum(1, keepdims=True)
        nats = 2.5 * np.log1p((r / s) ** 2 / 4) + np.log(s)
        centred = nats - np.nanmean(nats, axis=1, keepdims=True)
        weight = counts[concerned, None]
        return (weight * nats / number), np.nansum(weight * centred / number, axis=0)

    (before, of_point), (after, of_changed) = terms(STATE, unchanged), terms(e.state, fitted)
    spread = np.sqrt(((of_point - of_changed) ** 2).sum())
    # Of equal points in both comparisons, only the spread remains.
    assert comparison._luck(many, STATE, unchanged, e, fitted, counts) == pytest.approx(3 * spread, rel=1e-6)
    few = many.subset(200)
    on_few = fit(few.rays(STATE), prior, counts), fit(few.rays(e.state), prior, counts)
    gain_few = ((on_few[0].cost - on_few[1].cost) * counts)[concerned].sum()
    (before, of_point), (after, of_changed) = terms(STATE, on_few[0]), terms(e.state, on_few[1])
    gain_many = np.nansum(before) - np.nansum(after)
    expected = gain_few - gain_many + 3 * np.sqrt(((of_point - of_changed) ** 2).sum())
    assert comparison._luck(many, STATE, *(on_few[0], e, on_few[1]), counts) == pytest.approx(expected, rel=1e-6)
    same = Explanation("focal length", (1,), STATE)
    assert comparison._luck(many, STATE, unchanged, same, fitted, counts) == 0


def test_chance_gains_nothing_by_losing_points():
    many = walking(CAMERAS, 60, 6, noise_px=2.0)
    counts, prior = np.full(6, 10.0), correct_prior(4)
    unchanged = fit(many.rays(STATE), prior, counts)
    e = Explanation("frame offset", (1,), STATE.with_offset(1, 59))  # 6 common points
    fitted = fit(many.rays(e.state), prior, counts)
    luck = comparison._luck(many, STATE, unchanged, e, fitted, counts)
    of_all = costs(many.rays(STATE).moved(unchanged.theta, unchanged.size), pairs_of(4))[0][[0, 3, 4]]
    assert np.isnan(fitted.cost[[0, 3, 4]]).all()
    assert ((unchanged.cost[[0, 3, 4]] - NO_RELATION) * 10).sum() - (
        (of_all - NO_RELATION) * 10
    ).sum() == pytest.approx(0)
    assert 0 < luck < 100


# --- figures and states


def change(kind, views, value=None, state=STATE, base=STATE, **theta):
    fitted = fit_of(theta_of(list(views), **theta), size=2000.0)
    return comparison._change(base, Explanation(kind, views, state, value=value), fitted)


@pytest.mark.parametrize(("frames", "lag", "figure", "clear", "offset"), [
    (0, 0.99, 0.99, False, 3), (0, -1.0, -1.0, True, 1), (4, 1.6, 5.6, True, 8), (-3, 0.4, -2.6, True, -1),
])  # fmt: skip
def test_frame_offsets(frames, lag, figure, clear, offset):
    base = STATE.with_offset(1, 2)
    figures, is_clear, state = change("frame offset", (1,), frames, base.with_offset(1, 2 + frames), base, lag=lag)
    assert figures == {"frames": pytest.approx(figure)}
    assert is_clear == clear
    assert state.offset_frames == (0, offset, 0, 0)


@pytest.mark.parametrize("views", [(2,), (0, 1, 2, 3)])
@pytest.mark.parametrize(("factor", "clear"), [(1.029, False), (1.032, True), (1 / 1.029, False), (1 / 1.032, True)])
def test_focal_lengths(views, factor, clear):
    figures, is_clear, state = change("focal length", views, 1.2, focal=np.log(factor / 1.2))
    assert figures == {"factor": pytest.approx(factor)}
    assert is_clear == clear
    for v, (camera, before) in enumerate(zip(state.cameras, CAMERAS, strict=True)):
        np.testing.assert_allclose(camera.K, with_intrinsics(before, focal=factor if v in views else 1.0).K)


def test_figures_are_means_over_the_views():
    theta = np.zeros((4, 10))
    theta[[1, 3], FOCAL], theta[[1, 3], SCALE], theta[[1, 3], K1] = [0.1, 0.2], [0.3, 0.42], [-0.1, -0.2]
    fitted = fit_of(theta)
    for kind, key, expected in (("focal length", "factor", np.exp(0.15)), ("resolution", "factor", np.exp(0.36))):
        figures, *_ = comparison._change(STATE, Explanation(kind, (1, 3), STATE, value=1.0), fitted)
        assert figures[key] == pytest.approx(expected)
    figures, _, state = comparison._change(STATE, Explanation("distortion", (1, 3), STATE, value=-0.05), fitted)
    assert figures == {"k1": pytest.approx(-0.2)}
    np.testing.assert_allclose([c.dist[:2] for c in state.cameras], [[0, 0], [-0.15, 0.03], [0, 0], [-0.25, 0.05]])
    assert all((c.dist[2:] == 0).all() for c in state.cameras)


@pytest.mark.parametrize(
    ("factor", "rounded"), [(0.51, 0.5), (0.49, 0.49), (1.53, 1.5), (1.55, 1.55), (2.97, 3), (1.05, 1.05)]
)
def test_sizes_of_images_are_rounded_to_common_ratios(factor, rounded):
    figures, clear, state = change("resolution", (2,), 0.9, scale=np.log(factor / 0.9))
    assert figures == {"factor": pytest.approx(rounded)}
    assert clear == (factor != 1.05)
    np.testing.assert_allclose(state.cameras[2].K, with_intrinsics(CAMERAS[2], scale=rounded).K)
    assert state.cameras[2].size == (round(1000 * rounded),) * 2
    assert change("resolution", (2,), 1.0, scale=np.log(1.052))[1]
    assert not change("resolution", (2,), 1.0, scale=-np.log(1.05))[1]


def test_common_ratios_of_resolutions():
    ratios = [1 / 4, 1 / 3, 3 / 8, 4 / 9, 1 / 2, 9 / 16, 3 / 5, 5 / 8, 2 / 3, 3 / 4, 4 / 5, 5 / 6]
    for ratio in (*ratios, *(1 / r for r in ratios)):
        for near in (1.005, 1 / 1.005):
            assert comparison._simple_ratio(ratio * near) == pytest.approx(ratio, rel=1e-12)
    assert comparison._simple_ratio(0.5 * np.exp(0.0199)) == 0.5
    assert comparison._simple_ratio(0.5 * np.exp(-0.0201)) == 0.5 * np.exp(-0.0201)


@pytest.mark.parametrize(("k1", "clear"), [(0.039, False), (0.041, True), (-0.039, False), (-0.041, True)])
def test_lenses(k1, clear):
    bent = STATE.with_camera(1, replace(CAMERAS[1], dist=np.array([0.3, 0, 0, 0, 0])))
    figures, is_clear, state = change("distortion", (1,), 0.3, bent, k1=k1 - 0.3)
    assert figures == {"k1": pytest.approx(k1)}
    assert is_clear == clear
    np.testing.assert_allclose(state.cameras[1].dist, [k1, -0.2 * k1, 0, 0, 0])
    assert comparison._change(STATE, Explanation("distortion", (1,), bent, value="twice"), fit_of()) == ({}, True, bent)
    assert comparison._change(STATE, Explanation("sides swapped", (1,), bent), fit_of()) == ({}, True, bent)


@pytest.mark.parametrize(
    ("degrees", "distance", "clear"),
    [(0.99, 29, False), (1.01, 29, True), (0.99, 31, True), (170, 0, True), (0, 0, False)],
)
def test_moved_cameras(degrees, distance, clear):
    before = CAMERAS[1]
    halfway = turned(before, degrees / 2)
    theta = np.zeros((4, 10))
    rest = (turned(before, degrees).R.T @ halfway.R).T  # of the camera, as a rotation of the world
    theta[1, ROTATION] = Rotation.from_matrix(rest.T).as_rotvec()
    theta[1, 3:6] = np.array([0.6, 0, -0.8]) * distance / 2000
    fitted = fit_of(theta, size=2000.0)
    e = Explanation("camera moved", (1,), STATE.with_camera(1, halfway))
    figures, is_clear, state = comparison._change(STATE, e, fitted)
    assert figures == {"angle_deg": pytest.approx(degrees, abs=1e-5), "distance": pytest.approx(distance, abs=1e-6)}
    assert is_clear == clear
    np.testing.assert_allclose(state.cameras[1].R, turned(before, degrees).R, atol=1e-9)
    np.testing.assert_allclose(state.cameras[1].centre_mm, before.centre_mm + np.array([0.6, 0, -0.8]) * distance)
    assert state.cameras[0] is CAMERAS[0]


def test_a_moved_camera_is_that_of_moved_rays():
    theta = np.zeros((4, 10))
    theta[2, :6] = 0.1, -0.2, 0.3, 0.05, 0.02, -0.03
    tracks = tracked(CAMERAS)
    size = rig_size(np.array([c.centre_mm for c in CAMERAS]))
    rays = tracks.rays(STATE).moved(theta, size)
    camera = comparison._moved_camera(CAMERAS[2], theta[2], size)
    np.testing.assert_allclose(camera.R, rays.R[2])
    np.testing.assert_allclose(camera.centre_mm, rays.centres[2])
    np.testing.assert_array_equal(camera.K, CAMERAS[2].K)


# --- the comparison


def scores_of(tracks, listed, counts):
    """Log evidence minus that of the unchanged rig, of explanations that keep the frames."""
    prior = correct_prior(4)
    rays = tracks.rays(STATE)
    unchanged = fit(rays, prior, counts)
    out = []
    for e in listed:
        wide = prior.copy()
        for parameter, width in e.widths.items():
            wide[list(e.views), parameter] = width
        start = unchanged.theta.copy()
        start[list(e.views)] = 0
        out.append(fit(tracks.rays(e.state), wide, counts, start).evidence + e.log_prior - unchanged.evidence)
    return unchanged, out


def candidates_are(monkeypatch, *listed):
    calls = []

    def candidates(tracks, base, counts):
        calls.append((tracks, base, counts))
        return list(listed)

    monkeypatch.setattr(comparison, "candidates", candidates)
    return calls


def test_the_first_comparison_decides_by_its_evidence(monkeypatch):
    wrong = [with_intrinsics(c, focal=1 / 1.3) if v == 2 else c for v, c in enumerate(CAMERAS)]
    base = RigState.of(wrong)
    right = Explanation("focal length", (2,), STATE, {FOCAL: 0.02}, -3.0, 1.3, 100.0)
    # Not an improvement: it is listed, with its lower score.
    other = Explanation("camera moved", (1,), base.with_camera(1, turned(CAMERAS[1], 3)), {}, -1.0)
    offset = Explanation("frame offset", (1,), base.with_offset(1, 1), {}, -5.0, 1)
    calls = candidates_are(monkeypatch, other, offset, right)
    joints_px = joints_of()
    compared = explain(joints_px, base, FLIP)
    ((tracks, of_base, counts),) = calls
    assert of_base is base
    few = Tracks.of(joints_px, FLIP, 4000).subset(700)
    np.testing.assert_array_equal((tracks.frame, tracks.joint), (few.frame, few.joint))
    np.testing.assert_allclose(counts, 0.3 * comparison._counts(few.rays(base)))
    assert tracks.flip_order.tolist() == FLIP
    rays = few.rays(base)
    prior = correct_prior(4)
    unchanged = fit(rays, prior, counts)
    assert compared.base is base
    assert compared.unchanged.evidence == pytest.approx(unchanged.evidence)
    np.testing.assert_allclose(compared.before_px, costs(rays, pairs_of(4))[1])
    best = compared.scored[0]
    assert (best.kind, best.views, best.explanation) == ("focal length", (2,), right)
    prior[2, FOCAL] = 0.02
    start = unchanged.theta.copy()
    start[2] = 0
    fitted = fit(few.rays(STATE), prior, counts, start)
    assert best.score == pytest.approx(fitted.evidence - 3 - unchanged.evidence)
    assert best.score > 60
    np.testing.assert_array_equal(best.fit.theta, fitted.theta)
    assert best.figures == {"factor": pytest.approx(1.3, abs=0.01)}
    assert best.clear
    np.testing.assert_allclose(best.state.cameras[2].K, CAMERAS[2].K, rtol=0.01)
    kinds = [(s.kind, s.views) for s in compared.scored]
    assert ("camera moved", (1,)) in kinds
    assert sum(kind == "frame offset" for kind, _ in kinds) == 3
    (of_offset,) = [s for s in compared.scored if s.explanation is offset]
    luck = comparison._luck(Tracks.of(joints_px, FLIP, 4000), base, unchanged, offset, of_offset.fit, counts)
    assert of_offset.score == pytest.approx(of_offset.fit.evidence - 5 - unchanged.evidence - luck)
    assert luck > 1
    assert [s.score for s in compared.scored] == sorted((s.score for s in compared.scored), reverse=True)


def test_explanations_that_do_not_show_the_detections_are_left_out(monkeypatch):
    wrong = [with_intrinsics(c, focal=1 / 1.3) if v == 2 else c for v, c in enumerate(CAMERAS)]
    right = Explanation("focal length", (2,), STATE, {FOCAL: 0.02}, -3.0, 1.3, 100.0)
    tiny = STATE.with_camera(2, replace(CAMERAS[2], size=(9, 9)))
    hidden = Explanation("resolution", (2,), tiny, {}, 500.0, 1.0, 900.0)
    candidates_are(monkeypatch, hidden, right)
    monkeypatch.setattr(comparison, "_change", lambda base, e, fitted: ({"frames": 0.0}, True, e.state))
    compared = explain(joints_of(), RigState.of(wrong), FLIP)
    assert compared.scored[0].kind == "focal length"
    assert all(s.kind != "resolution" for s in compared.scored)


def test_a_small_change_is_compared_on_all_points(monkeypatch):
    wrong = [with_intrinsics(c, focal=1 / 1.04) if v == 2 else c for v, c in enumerate(CAMERAS)]
    base = RigState.of(wrong)
    right = Explanation("focal length", (2,), STATE, {FOCAL: 0.02}, -3.0, 1.04, 100.0)
    bad = Explanation("rotation transposed", (1,), base.with_camera(1, turned(CAMERAS[1], 40)), {}, 0.0, None, 5.0)
    candidates_are(monkeypatch, bad, right)
    joints_px = joints_of()
    compared = explain(joints_px, base, FLIP)
    many = Tracks.of(joints_px, FLIP, 4000)
    assert len(many.frame) > 700
    rays = many.rays(base)
    counts = comparison._counts(rays)
    unchanged = fit(rays, correct_prior(4), counts)
    assert compared.unchanged.evidence == pytest.approx(unchanged.evidence)
    np.testing.assert_allclose(compared.before_px, costs(rays, pairs_of(4))[1])
    best = compared.scored[0]
    assert (best.kind, best.views) == ("focal length", (2,))
    prior = correct_prior(4)
    prior[2, FOCAL] = 0.02
    start = unchanged.theta.copy()
    start[2] = 0
    fitted = fit(many.rays(STATE), prior, counts, start)
    assert best.score == pytest.approx(fitted.evidence - 3 - unchanged.evidence)
    assert best.figures == {"factor": pytest.approx(1.04, abs=0.005)}
    # The bad explanation fell out in the first comparison; lenses of the rig and two views are compared in addition.
    kinds = [s.kind for s in compared.scored]
    assert "rotation transposed" not in kinds
    assert kinds.count("distortion") == 3
    assert len(kinds) <= 7
    assert [s.score for s in compared.scored] == sorted((s.score for s in compared.scored), reverse=True)


@pytest.mark.parametrize("views", [(1,), (0, 1, 2, 3)])
def test_a_weak_lens_is_noticed_on_all_points(monkeypatch, views):
    lens = np.array([-0.09, 0.018, 0, 0, 0])
    true = [replace(c, dist=lens if v in views else np.zeros(5)) for v, c in enumerate(CAMERAS)]
    candidates_are(monkeypatch)
    compared = explain(joints_of(true, noise_px=1.0, frames=300), STATE, FLIP)
    best = compared.scored[0]
    assert (best.kind, best.views) == ("distortion", views)
    assert best.figures["k1"] == pytest.approx(-0.09, abs=0.025)
    assert best.clear
    assert best.score > 6
    for v, camera in enumerate(best.state.cameras):
        np.testing.assert_allclose(camera.dist, lens if v in views else np.zeros(5), atol=0.025)


@pytest.mark.parametrize(("gain", "views"), [(60.0, [(0, 1, 2, 3), (0,), (3,)]), (60.01, [(0, 1, 2, 3)])])
def test_lenses_are_not_compared_twice(monkeypatch, gain, views):
    base = RigState.of([replace(c, dist=np.array([-0.1, 0.02, 0, 0, 0])) for c in CAMERAS])
    candidates_are(monkeypatch, Explanation("distortion", (0, 1, 2, 3), STATE, {}, 0.0, "twice", gain))
    compared = explain(joints_of(noise_px=5.0), base, FLIP)
    assert sorted(s.views for s in compared.scored if s.kind == "distortion") == sorted(views)


def test_noise_that_lasts_counts_less(monkeypatch):
    late = Explanation("frame offset", (1,), STATE.with_offset(1, 1), {}, 90.0, 1, 20.0)  # a prior that is not dropped
    candidates_are(monkeypatch, late)
    exact = joints_of(noise_px=0.0, frames=300)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 2, (4, 150, 6, 2)).repeat(2, axis=1)
    compared = explain(exact + noise, STATE, FLIP)
    many = Tracks.of(exact + noise, FLIP, 4000)
    rays = many.rays(STATE)
    counts = comparison._counts(rays)
    full = fit(rays, correct_prior(4), counts)
    dependence = comparison._dependence(many, STATE, full)
    assert dependence == pytest.approx(2, abs=0.4)
    # The least dependence of all explanations decides; those of this correct rig are alike.
    share = compared.unchanged.evidence / full.evidence
    assert share == pytest.approx(1 / dependence, rel=0.05)
    (of_late,) = [s for s in compared.scored if s.explanation is late]
    luck = of_late.fit.evidence + 90 - compared.unchanged.evidence - of_late.score
    of_full = comparison._luck(many, STATE, compared.unchanged, late, of_late.fit, counts)
    assert luck / of_full == pytest.approx(1 / dependence, rel=0.05)
    others = [s for s in compared.scored if s is not of_late]
    for s in others:
        assert s.fit.evidence / full.evidence == pytest.approx(share, rel=0.02)
        assert abs(s.score) < 15
    candidates_are(monkeypatch)
    white = explain(exact + rng.normal(0, 2, exact.shape), STATE, FLIP)
    assert all(s.score < 6 for s in (*white.scored, *others))


@pytest.mark.parametrize("lag", [3, -2])
def test_an_offset_is_fitted_again_from_the_nearest_frame(lag):
    joints_px = joints_of(noise_px=1.0, frames=200)
    joints_px[1] = np.roll(joints_px[1], lag, axis=0)
    joints_px[1, slice(0, lag) if lag > 0 else slice(lag, None)] = np.nan
    compared = explain(joints_px, STATE, FLIP)
    best = compared.scored[0]
    assert (best.kind, best.views) == ("frame offset", (1,))
    assert best.figures == {"frames": pytest.approx(lag, abs=0.15)}
    assert best.state.offset_frames == (0, lag, 0, 0)
    many = Tracks.of(joints_px, FLIP, 4000)
    rays = many.rays(STATE.with_offset(1, lag))
    prior = correct_prior(4)
    prior[1, LAG] = 2
    again = fit(rays, prior, comparison._counts(rays))
    assert best.figures["frames"] == pytest.approx(lag + again.theta[1, LAG])


def test_an_offset_that_the_search_missed_follows_from_the_velocity(monkeypatch):
    candidates_are(monkeypatch)
    joints_px = joints_of(noise_px=1.0, frames=200)
    joints_px[1] = np.roll(joints_px[1], 4, axis=0)
    joints_px[1, :4] = np.nan
    best = explain(joints_px, STATE, FLIP).scored[0]
    assert (best.kind, best.views, best.explanation.state) == ("frame offset", (1,), STATE)
    assert abs(round(best.fit.theta[1, LAG])) == 3  # too few, because a joint accelerates
    assert best.figures == {"frames": pytest.approx(4, abs=0.5)}
    assert best.state.offset_frames == (0, 4, 0, 0)


def test_a_weak_offset_is_compared_on_all_points(monkeypatch):
    joints_px = joints_of(noise_px=6.0, frames=150)
    joints_px[1] = np.roll(joints_px[1], 2, axis=0)
    joints_px[1, :2] = np.nan
    right = Explanation("frame offset", (1,), STATE.with_offset(1, 2), {}, 5.0, 2, 20.0)
    candidates_are(monkeypatch, right)
    compared = explain(joints_px, STATE, FLIP)
    (of_right,) = [s for s in compared.scored if s.explanation is right]
    many = Tracks.of(joints_px, FLIP, 4000)
    counts, unchanged = comparison._counts(many.rays(STATE)), compared.unchanged
    luck = comparison._luck(many, STATE, unchanged, right, of_right.fit, counts)
    assert luck > 1
    assert of_right.score == pytest.approx(of_right.fit.evidence + 5 - unchanged.evidence - luck)
    np.testing.assert_allclose(compared.before_px, costs(many.rays(STATE), pairs_of(4))[1])
    best = compared.scored[0]  # the offset along the velocity
    assert (best.kind, best.views, best.explanation.state) == ("frame offset", (1,), STATE)
    assert best.state.offset_frames == (0, 2, 0, 0)
    assert best.figures["frames"] == pytest.approx(2, abs=0.3)


def test_an_offset_of_less_than_a_frame_after_the_second_fit_stays(monkeypatch):
    joints_px = joints_of(noise_px=1.0, frames=200)  # in sync
    many = Tracks.of(joints_px, FLIP, 4000)
    e = Explanation("frame offset", (1,), STATE)
    best = Scored(e, fit_of(), 50.0, {"frames": 1.2}, True, STATE.with_offset(1, 1))
    assert comparison._measured_offset(many, STATE, best) is best
    for listed in ([best], [replace(best, clear=False)], [replace(best, explanation=replace(e, kind="unit"))], []):
        measured = []
        monkeypatch.setattr(
            comparison, "_measured_offset", lambda many, base, s, measured=measured: measured.append(s) or s
        )
        compared = comparison._round(many, STATE, np.zeros(6), fit_of(), list(listed))
        assert len(measured) == (listed == [best])
        assert compared.scored == tuple(listed)
