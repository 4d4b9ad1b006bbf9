"""States of a rig, the selection of points from tracks, and the motion of joints."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_tracks import rig, tracked

from poseboard.methods.geometry.rig_mistakes.rig_state import Motion, RigState, Tracks, undistorted

FLIP = [0, 2, 1]


@pytest.fixture
def four():
    cameras = rig(4)
    return cameras, tracked(cameras), RigState.of(cameras)


def test_a_state_is_changed_in_a_copy(four):
    cameras, _, state = four
    assert state.cameras == tuple(cameras)
    assert (state.source, state.offset_frames, state.swapped) == ((0, 1, 2, 3), (0,) * 4, (False,) * 4)
    other = cameras[0].undistorted()
    for view in range(4):
        changed = state.with_camera(view, other)
        assert [c is other for c in changed.cameras] == [v == view for v in range(4)]
        changed = state.with_offset(view, 7).with_offset((view + 1) % 4, -2)
        assert changed.offset_frames == tuple({view: 7, (view + 1) % 4: -2}.get(v, 0) for v in range(4))
        changed = state.with_swapped(view)
        assert changed.swapped == tuple(v == view for v in range(4))
        assert changed.with_swapped(view).swapped == (False,) * 4
    exchanged = state.with_exchanged(1, 3)
    assert exchanged.cameras == (cameras[0], cameras[3], cameras[2], cameras[1])
    assert (exchanged.source, exchanged.offset_frames) == (state.source, state.offset_frames)
    assert state.cameras == tuple(cameras)


def test_a_grid_has_all_joints_of_evenly_spaced_frames():
    joints_px = np.zeros((2, 11, 3, 2))
    grid = Tracks.grid(joints_px, FLIP, 6)
    assert grid.frame.tolist() == np.repeat([0, 2, 4, 6, 8, 10], 3).tolist()
    assert grid.joint.tolist() == [0, 1, 2] * 6
    assert grid.flip_order.tolist() == FLIP
    assert grid.joints_px is joints_px
    assert grid.frame.dtype == np.intp
    assert grid.velocity_px.shape == joints_px.shape
    assert (grid.velocity_px == 0).all()
    assert Tracks.grid(joints_px, FLIP, 30).frame.tolist() == np.repeat(np.arange(11), 3).tolist()


def test_a_subset_is_drawn_from_the_selected_points(four):
    _, tracks, state = four
    assert tracks.subset(30) is tracks
    tracks.normalised(state, 0)
    few = tracks.subset(12)
    assert len(few.frame) == 12
    index = few.frame * 3 + few.joint
    assert (np.diff(index) > 0).all()
    assert few.rays(state).points.shape == (4, 12, 2)
    np.testing.assert_array_equal(tracks.subset(12).frame, few.frame)
    assert not np.array_equal(tracks.subset(12, seed=2).frame * 3 + tracks.subset(12, seed=2).joint, index)
    np.testing.assert_array_equal(few.rays(state).points, tracks.rays(state).points[:, index])


def test_pixels_of_a_changed_state(four):
    _, tracks, state = four
    tracks = replace(tracks, flip_order=np.array(FLIP))
    px, velocity = tracks.joints_px, tracks.velocity_px
    np.testing.assert_array_equal(tracks.raw(state, 2), (px[2].reshape(-1, 2), velocity[2].reshape(-1, 2)))
    points, change = tracks.raw(state.with_swapped(2), 2)
    np.testing.assert_array_equal(points, px[2][:, FLIP].reshape(-1, 2))
    np.testing.assert_array_equal(change, velocity[2][:, FLIP].reshape(-1, 2))
    for offset in (3, -3):
        points, change = tracks.raw(state.with_offset(2, offset), 2)
        expected = np.full_like(px[2], np.nan)
        if offset > 0:
            expected[:-offset] = px[2][offset:]
        else:
            expected[-offset:] = px[2][:offset]
        np.testing.assert_array_equal(points, expected.reshape(-1, 2))
        visible = np.isfinite(points).all(-1)
        shifted = np.roll(velocity[2], -offset, axis=0).reshape(-1, 2)
        np.testing.assert_array_equal(change[visible], shifted[visible])
        assert np.isfinite(change).all()
    points, change = tracks.raw(replace(state, source=(0, 1, 3, 2)), 2)
    np.testing.assert_array_equal((points, change), (px[3].reshape(-1, 2), velocity[3].reshape(-1, 2)))


def test_rays_are_directions_and_cameras(four):
    cameras, tracks, state = four
    rays = tracks.rays(state)
    for v, camera in enumerate(cameras):
        px = tracks.joints_px[v].reshape(-1, 2)
        np.testing.assert_allclose(rays.points[v], camera.normalised(camera.undistort(px)), atol=1e-8)
        focal, centre = camera.K[[0, 1], [0, 1]], camera.K[:2, 2]
        np.testing.assert_allclose(rays.per_frame[v], tracks.velocity_px[v].reshape(-1, 2) / focal)
        np.testing.assert_allclose(rays.offset[v], centre / focal)
        np.testing.assert_array_equal(rays.R[v], camera.R)
        np.testing.assert_allclose(rays.centres[v], camera.centre_mm)
        m, per_px = undistorted(camera, px)
        np.testing.assert_array_equal(rays.points[v], m)
        np.testing.assert_array_equal(rays.per_px[v], per_px)


def test_every_change_of_a_view_changes_its_rays(four):
    cameras, tracks, state = four
    tracks = replace(tracks, flip_order=np.array(FLIP), _undistorted={})
    K = cameras[1].K.copy()
    K[0, 0] *= 1.1
    changes = [
        state.with_camera(1, replace(cameras[1], K=K)),
        state.with_camera(1, replace(cameras[1], dist=np.zeros(5))),
        state.with_camera(1, replace(cameras[1], distortion="human36m")),
        state.with_offset(1, 1),
        state.with_swapped(1),
        replace(state, source=(0, 3, 2, 1)),
    ]
    base = tracks.rays(state)
    for changed in changes:
        fresh = replace(tracks, _undistorted={}).rays(changed)
        assert not np.array_equal(fresh.points[1], base.points[1], equal_nan=True)
        for again in (tracks.rays(changed), tracks.rays(changed, base, [1])):
            np.testing.assert_array_equal(again.points[1], fresh.points[1])
            np.testing.assert_array_equal(again.per_frame[1], fresh.per_frame[1])
            np.testing.assert_array_equal(again.per_px[1], fresh.per_px[1])


def test_only_changed_views_are_computed_from_a_base(four):
    cameras, tracks, state = four
    base = tracks.rays(state)
    before = base.points.copy()
    turned = replace(cameras[2], R=cameras[0].R, K=cameras[0].K, t=cameras[0].t)
    changed = tracks.rays(state.with_camera(2, turned), base, [2])
    full = tracks.rays(state.with_camera(2, turned))
    for name in ("points", "per_frame", "R", "centres", "per_px", "offset"):
        np.testing.assert_array_equal(getattr(changed, name), getattr(full, name))
        assert getattr(changed, name) is not getattr(base, name)
    np.testing.assert_array_equal(base.points, before)
    kept = tracks.rays(state.with_camera(2, turned), base, [])
    np.testing.assert_array_equal(kept.R, base.R)


def test_many_states_are_undistorted_correctly(four):
    cameras, tracks, state = four
    tracks = replace(tracks, _undistorted={})
    base = tracks.normalised(state, 0)[0]
    for i in range(1100):
        tracks.normalised(state.with_camera(0, replace(cameras[0], dist=np.array([1e-5 * i, 0, 0, 0, 0]))), 0)
        assert len(tracks._undistorted) < 600  # a limit on memory
    np.testing.assert_array_equal(tracks.normalised(state, 0)[0], base)


def test_the_lens_model_of_a_camera_is_used():
    (camera,) = rig(1, (0, 0, 0.02, 0.03, 0))
    px = np.array([[100.0, 200], [900, 300]])
    for model in ("opencv", "human36m"):
        of_model = replace(camera, distortion=model)
        np.testing.assert_allclose(of_model.image(undistorted(of_model, px)[0]), px, atol=1e-4)


def walk(frames=200, speed=(3.0, -2.0), joints=2, views=3, noise_px=0.0, seed=0):
    """Joints (V, F, J, 2) on straight lines, with noise."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(300, 500, (views, 1, joints, 2))
    exact = start + np.arange(frames)[:, None, None] * np.array(speed)
    return exact + noise_px * rng.standard_normal(exact.shape), exact


def test_exact_lines_have_exact_velocities():
    joints_px, _ = walk()
    joints_px[0, 50:53, 0] = np.nan
    motion = Motion.of(joints_px)
    np.testing.assert_allclose(motion.velocity_px, np.broadcast_to([3.0, -2.0], joints_px.shape), atol=1e-9)
    expected = np.where(np.isnan(motion.expected_px), 0, motion.expected_px - walk()[0])
    np.testing.assert_allclose(expected, 0, atol=1e-9)
    assert np.isfinite(motion.expected_px).all()
    np.testing.assert_allclose(motion.noise_px, 0, atol=1e-9)


@pytest.mark.parametrize("frames", [3, 4, 5, 6])
def test_a_line_needs_four_frames(frames):
    joints_px, _ = walk(40)
    joints_px[:, :17] = np.nan
    joints_px[:, 17 + frames :] = np.nan
    motion = Motion.of(joints_px)
    inside = motion.velocity_px[:, 17 : 17 + frames]
    np.testing.assert_allclose(inside, np.broadcast_to([3.0, -2.0] if frames >= 4 else [0, 0], inside.shape), atol=1e-9)
    predicted = np.isfinite(motion.expected_px[:, 17 : 17 + frames])
    assert predicted.all() == (frames >= 5)
    assert predicted.any() == (frames >= 5)
    assert (motion.velocity_px[:, :10] == 0).all()


def test_outliers_change_neither_velocity_nor_noise():
    joints_px, exact = walk(400, noise_px=1.0, speed=(4.0, -4.0))
    clean = Motion.of(joints_px)
    spoiled = joints_px.copy()
    spoiled[:, ::25] += [90.0, 70.0]
    motion = Motion.of(spoiled)
    assert clean.noise_px == pytest.approx([1.0] * 3, rel=0.15)  # 9 frames predict the tenth
    assert motion.noise_px == pytest.approx(clean.noise_px, rel=0.1)
    at = np.arange(20, 380)
    assert np.abs(motion.velocity_px[:, at] - [4.0, -4.0]).max() < 0.7
    assert np.abs(motion.expected_px[:, at] - exact[:, at]).max() < 3


@pytest.mark.parametrize(
    ("speed", "error"), [(8.0, 0.129), (0.27, 0.129), (0.19, 0.049), (0.095, 0.049), (0.07, 0.028)]
)
def test_slow_motion_is_measured_over_more_frames(speed, error):
    # Standard deviation of the slope through 2 r + 1 frames, r = 4, 8 and 12, with noise of 1 px.
    joints_px, _ = walk(300, speed=(speed, -speed), joints=20, noise_px=1.0)
    velocity = Motion.of(joints_px).velocity_px[:, 15:-15]
    assert (velocity - [speed, -speed]).std() == pytest.approx(error, rel=0.15)


def test_joints_that_leave_their_line_or_are_near_the_border_are_unreliable():
    rng = np.random.default_rng(2)
    angle = np.linspace(0, 6 * np.pi, 900)[:, None]
    centre = np.array([500.0, 400.0])
    circle = centre + np.stack([200 * np.cos(angle), 150 * np.sin(angle)], -1)
    inner = centre + 0.3 * (circle - centre)
    joints_px = np.stack([np.concatenate([circle, inner], 1)] * 2) + rng.normal(0, 2.0, (2, 900, 2, 2))
    joints_px[0, 100, 1] += [0, 40.0]
    joints_px[0, 200, 1] -= [40.0, 0]
    joints_px[1, 300, 1] = np.nan
    joints_px[1, 301, 1, 0] = np.nan
    motion = Motion.of(joints_px)
    reliable = motion.reliable(joints_px)
    for view, frame in ((0, 100), (0, 200), (1, 300), (1, 301)):
        assert not reliable[view, frame, 1]
    assert reliable[:, 10:-10, 1].mean() > 0.97
    # Joints whose line is within three standard deviations of the extent, on each of the four sides.
    extent = joints_px[0, :, 0].min(0), joints_px[0, :, 0].max(0)
    depth = np.concatenate([motion.expected_px[0, :, 0] - extent[0], extent[1] - motion.expected_px[0, :, 0]], -1)
    for of_side in depth.T:
        assert (of_side < 5).any()
        assert not reliable[0, of_side < 5, 0].any()
    near, far = ((depth.min(-1) > least) & (depth.min(-1) < most) for least, most in ((7.3, 8.3), (8.3, 1000)))
    assert reliable[0, near, 0].mean() > 0.8
    assert reliable[0, far, 0].mean() > 0.97


def test_a_view_without_joints_is_unreliable():
    joints_px = people(600)
    joints_px[1] = np.nan
    joints_px[2, 300] += 40
    motion = Motion.of(joints_px)
    assert motion.noise_px[1] == 0
    assert (motion.velocity_px[1] == 0).all()
    reliable = motion.reliable(joints_px)
    assert not reliable[1].any()
    assert not reliable[2, 300].any()
    assert reliable[2].mean() > 0.7


def people(points, views=3, seed=1):
    """Joints (V, F, 1, 2) on a smooth path through the picture, in ``points`` frames away from the border."""
    angle = np.linspace(0, 40, points)
    path = np.stack([500 + 80 * np.cos(angle) * np.cos(angle / 9), 500 + 80 * np.sin(angle)], -1)[:, None]
    return path + np.random.default_rng(seed).normal(0, 0.1, (views, points, 1, 2))


def test_points_are_selected_that_two_views_have():
    joints_px = people(600)
    joints_px[0, 100:200] = np.nan
    joints_px[1, 150:300] = np.nan
    tracks = Tracks.of(joints_px, [0], 10000)
    visible = np.isfinite(tracks.joints_px).all(-1).sum(0)
    np.testing.assert_array_equal(np.stack([tracks.frame, tracks.joint], 1), np.argwhere(visible >= 2))
    motion = Motion.of(joints_px)
    np.testing.assert_array_equal(np.isfinite(tracks.joints_px).all(-1), motion.reliable(joints_px))
    np.testing.assert_array_equal(tracks.velocity_px, motion.velocity_px)
    assert len(np.intersect1d(tracks.frame, np.arange(150, 200))) == 0
    assert len(tracks.frame) > 400
    assert tracks.flip_order.dtype == np.intp


def test_at_most_so_many_points_are_drawn_and_more_often_those_of_many_views():
    joints_px = people(4000, views=5)
    joints_px[2:, ::2] = np.nan  # two views in every other frame
    tracks = Tracks.of(joints_px, [0], 300)
    assert len(tracks.frame) == 300
    assert (np.diff(tracks.frame) > 0).all()
    worth = np.sqrt(np.maximum(np.isfinite(tracks.joints_px).all(-1).sum(0)[:, 0] - 1, 0))
    assert (tracks.frame % 2 == 1).mean() == pytest.approx(worth[1::2].sum() / worth.sum(), abs=0.05)
    np.testing.assert_array_equal(Tracks.of(joints_px, [0], 300).frame, tracks.frame)
    assert not np.array_equal(Tracks.of(joints_px, [0], 300, seed=1).frame, tracks.frame)


def test_fewer_than_a_hundred_points_are_refused():
    joints_px = people(600, views=2)
    sizes, refusals = [], set()
    for frames in range(100, 160):
        try:
            sizes.append(len(Tracks.of(joints_px[:, :frames], [0], 1000).frame))
        except ValueError as error:
            refusals.add(str(error))
    assert refusals == {"fewer than 100 joints in two cameras agree with their neighbouring frames"}
    assert min(sizes) == 100
