"""Compiled loops over pairs of views against direct formulas and finite differences."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_tracks import LENS, rig, tracked

from poseboard.datasets.camera import Camera
from poseboard.methods.geometry.rig_mistakes.epipolar_fit import Rays, _linearise, costs, pairs_of, sampson_px
from poseboard.methods.geometry.rig_mistakes.explanations import with_intrinsics
from poseboard.methods.geometry.rig_mistakes.rig_state import RigState, undistorted


def camera_of(fx=900.0, fy=1100.0, skew=0.0, dist=(0.0,) * 5, model="opencv"):
    K = np.array([[fx, skew, 510], [0, fy, 470], [0, 0, 1]])
    return Camera(K, np.eye(3), np.zeros(3), np.array(dist), (1000, 1000), model)


def directions(camera, points_px):
    return camera.normalised(camera.undistort(points_px))


def derivative(function, at, step):
    """Central differences (..., outputs, inputs) of a function of points (..., inputs)."""
    h = step * np.eye(at.shape[-1])
    return np.stack([(function(at + d) - function(at - d)) / (2 * step) for d in h], axis=-1)


def rays_of(cameras, **options):
    return tracked(cameras, **options).rays(RigState.of(cameras))


def general(rays, seed=5):
    """The same rays with lenses that have other derivatives in every point, and with exact ones of the pixels."""
    rng = np.random.default_rng(seed)
    return replace(rays, per_px=rays.per_px @ (np.eye(2) + 0.2 * rng.normal(size=rays.per_px.shape)))


@pytest.mark.parametrize(
    "camera",
    [
        camera_of(),
        camera_of(skew=30.0),
        camera_of(dist=LENS),
        camera_of(dist=LENS, skew=30.0),
        camera_of(dist=(0, 0, 0.02, 0.03, 0), model="human36m"),
        *(camera_of(dist=0.05 * row) for row in np.eye(5)),
    ],
)
def test_pixels_are_undistorted_with_their_derivatives(camera):
    px = np.stack(np.meshgrid([5.0, 300, 510, 950], [20.0, 470, 800]), -1).reshape(-1, 2)
    px[3] = np.nan
    m, per_px = undistorted(camera, px)
    np.testing.assert_allclose(m, directions(camera, px), atol=1e-8)
    visible = np.arange(len(px)) != 3
    expected = derivative(lambda at: directions(camera, at), px, 0.01)
    np.testing.assert_allclose(per_px[visible], expected[visible], atol=2e-7)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_pixel_that_the_lens_does_not_reach_has_no_direction(axis):
    def around(fx, fy):
        """Pixels along an axis, up to and beyond the largest radius that the lens makes."""
        camera = camera_of(fx, fy, dist=(-0.5, 0, 0, 0, 0))
        px = np.tile(camera.K[:2, 2], (4001, 1))
        px[:, axis] += (fx, fy)[axis] * np.linspace(-0.7, 0.7, 4001)
        m, _ = undistorted(camera, px)
        visible = np.isfinite(m).all(1)
        assert np.isnan(m[~visible]).all()
        return camera, px, m, visible

    camera, px, m, visible = around(2000.0, 3000.0)
    error = np.abs(camera.image(m) - px)[visible].max()
    assert 0.9 < error < 1
    assert (np.abs(px[visible] - camera.K[:2, 2]).max(0) / camera.K[[0, 1], [0, 1]]).max() == pytest.approx(
        0.54, abs=0.01
    )
    # Few pixels: every direction returns to within one, and the derivative of the lens decides.
    camera, px, m, visible = around(4.0, 4.0)
    area = np.linalg.det(derivative(lambda at: camera.image(at) / 4, m[visible], 1e-5))
    assert 0.05 < area.min() < 0.06


def test_changed_intrinsics_are_those_of_a_camera_with_them():
    cameras = rig(3, (0.0,) * 5)
    tracks = tracked(cameras)
    theta = np.zeros((3, 10))
    theta[:, 6], theta[:, 9] = np.log([1.3, 1, 0.8]), np.log([0.7, 1.5, 1])
    moved = tracks.rays(RigState.of(cameras)).moved(theta, 1000.0)
    changed = [
        with_intrinsics(c, focal=np.exp(f), scale=np.exp(s))
        for c, f, s in zip(cameras, theta[:, 6], theta[:, 9], strict=True)
    ]
    expected = tracks.rays(RigState.of(changed))
    for name in ("points", "per_frame", "per_px"):
        np.testing.assert_allclose(getattr(moved, name), getattr(expected, name), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("k1", [-0.1, 0.08])
def test_changed_lenses_are_inverted_with_their_derivatives(k1):
    rays = general(rays_of(rig(3)))
    theta = np.zeros((3, 10))
    theta[:, 7] = k1, 0, -k1

    def points(m):
        return replace(rays, points=m).moved(theta, 1.0).points

    m = points(rays.points)
    radius = (m**2).sum(-1, keepdims=True)
    np.testing.assert_allclose(m * (1 + theta[:, 7, None, None] * radius), rays.points, atol=1e-6)
    expected = derivative(points, rays.points, 1e-5) @ rays.per_px
    np.testing.assert_allclose(rays.moved(theta, 1.0).per_px, expected, rtol=1e-5, atol=1e-8)


def test_an_extreme_lens_keeps_directions_finite():
    rays = rays_of(rig(2))
    theta = np.zeros((2, 10))
    theta[:, 7] = -50
    moved = rays.moved(theta, 1.0)
    far = (rays.points**2).sum(-1) > 0.05
    np.testing.assert_allclose(moved.points[far], rays.points[far] / 0.3)
    assert np.isfinite(moved.per_px).all()


def test_a_delay_moves_points_along_their_velocity():
    rays = rays_of(rig(3))
    theta = np.zeros((3, 10))
    theta[:, 8] = 2.5, 0, -1
    moved = rays.moved(theta, 1.0)
    np.testing.assert_allclose(moved.points, rays.points + theta[:, 8, None, None] * rays.per_frame)
    for name in ("per_frame", "per_px", "R", "centres", "offset"):
        np.testing.assert_allclose(getattr(moved, name), getattr(rays, name), atol=1e-15)


def test_the_sampson_distance_is_the_constraint_over_the_length_of_its_gradient():
    cameras = rig(3)
    rays = general(rays_of(cameras, noise_px=8.0))
    pairs = pairs_of(3)
    residual = sampson_px(rays, pairs)
    for p, (a, b) in enumerate(pairs):

        def constraint(px, a=a, b=b):
            """Triple product of the baseline and both lines of sight, at changes (N, 4) of both pixels."""
            m = [rays.points[v] + (rays.per_px[v] @ d[..., None])[..., 0] for v, d in ((a, px[:, :2]), (b, px[:, 2:]))]
            d_a, d_b = (np.c_[x, np.ones(len(x))] @ rays.R[v] for v, x in ((a, m[0]), (b, m[1])))
            return (d_b * np.cross(rays.centres[b] - rays.centres[a], d_a)).sum(-1, keepdims=True)

        at = np.zeros((rays.points.shape[1], 4))
        gradient = derivative(constraint, at, 1e-3)[:, 0]
        np.testing.assert_allclose(residual[p], constraint(at)[:, 0] / np.linalg.norm(gradient, axis=1), rtol=1e-6)


def likelihood(residual_px):
    """Mean negative log likelihood of Student's t, 4 degrees of freedom, at its most likely scale; and this scale."""
    squared, s2 = residual_px**2, np.median(residual_px**2)
    for _ in range(500):
        s2 = 5 * np.mean(squared * s2 / (4 * s2 + squared))
    return 2.5 * np.log1p(squared / (4 * s2)).mean() + 0.5 * np.log(s2), np.sqrt(s2)


@pytest.mark.parametrize("missing", range(9))
def test_costs_are_likelihoods_of_the_common_points(missing):
    rays = rays_of(rig(3), frames=10, noise_px=4.0)
    rays.points[0, :missing] = np.nan
    rays.points[1, 20] += 0.3  # an outlier
    cost, scale_px = costs(rays, pairs_of(3))
    for p, residual in enumerate(sampson_px(rays, pairs_of(3))):
        assert np.isnan(residual).sum() == (missing if p < 2 else 0)
        expected = likelihood(residual[np.isfinite(residual)])
        assert (cost[p], scale_px[p]) == (pytest.approx(expected[0], rel=1e-6), pytest.approx(expected[1], rel=2e-3))


def test_the_scale_of_exact_points_is_a_fifth_of_a_pixel():
    cost, scale_px = costs(rays_of(rig(3)), pairs_of(3))
    assert scale_px == pytest.approx([0.2] * 3)
    assert cost == pytest.approx([np.log(0.2)] * 3, abs=1e-6)


@pytest.mark.parametrize("common", [19, 20])
def test_a_pair_needs_twenty_common_points(common):
    rays = rays_of(rig(3), noise_px=1.0)
    rays.points[1, common:] = np.nan
    for values in costs(rays, pairs_of(3)):
        assert np.isfinite(values).tolist() == [common == 20, True, common == 20]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, where numba compiles nothing
@pytest.mark.parametrize("scale", [1e-120, 1e-170])
def test_a_point_at_any_distance_costs_a_finite_amount(scale):
    rays = rays_of(rig(2), frames=8, noise_px=1.0)
    usual, _ = costs(rays, pairs_of(2))
    for far in (3, 23):
        pixels = replace(rays, per_px=rays.per_px.copy())
        pixels.per_px[:, far] *= scale  # 1e120 pixels off, or more than can be squared
        cost, scale_px = costs(pixels, pairs_of(2))
        assert scale_px < 3
        assert (0 < cost - usual < 10) if scale == 1e-120 else (abs(cost - usual) < 0.1)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, where numba compiles nothing
def test_lines_of_sight_along_the_baseline_are_left_out_of_normal_equations():
    rays = replace(rays_of(rig(2)), R=np.stack([np.eye(3)] * 2), centres=np.array([[0, 0, 0], [0, 0, 1000.0]]))
    other = [replace(rays, points=rays.points.copy()) for _ in range(2)]
    other[0].points[:, 3] = 0
    other[1].points[:, 3] = np.nan
    actual, expected = (_linearise(r, pairs_of(2), np.ones(1), np.ones(1), 1.0) for r in other)
    for values, of_rest in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(values, of_rest)


def test_normal_equations_do_not_depend_on_the_unit_of_the_world():
    rays = rays_of(rig(3), noise_px=1.0)
    expected = _linearise(rays, pairs_of(3), np.ones(3), np.ones(3), 2000.0)
    actual = _linearise(replace(rays, centres=rays.centres / 1000), pairs_of(3), np.ones(3), np.ones(3), 2.0)
    for values, of_mm in zip(actual, expected, strict=True):
        np.testing.assert_allclose(values, of_mm, rtol=1e-6, atol=1e-6 * np.abs(of_mm).max())


def test_normal_equations_are_those_of_the_weighted_residuals():
    rays = general(rays_of(rig(3), frames=7, noise_px=5.0))
    rays.points[2, 4:6] = np.nan
    pairs, size = pairs_of(3), 1500.0
    scale_px, counts = np.array([3.0, 5.0, 8.0]), np.array([10.0, 20.0, 40.0])
    normal, gradient = _linearise(rays, pairs, scale_px, counts, size)
    residual = sampson_px(rays, pairs)
    J = derivative(lambda theta: sampson_px(rays.moved(theta.reshape(3, 10), size), pairs), np.zeros(30), 1e-5)
    weight = 5 / (4 + (residual / scale_px[:, None]) ** 2) / scale_px[:, None] ** 2
    weight *= (counts / np.isfinite(residual).sum(1))[:, None]
    visible = np.isfinite(residual)
    J, r, w = J[visible], residual[visible], weight[visible]
    unit = np.sqrt(np.diag(J.T @ (w[:, None] * J)))
    np.testing.assert_allclose(normal / unit / unit[:, None], J.T @ (w[:, None] * J) / unit / unit[:, None], atol=1e-6)
    np.testing.assert_allclose(gradient / unit, J.T @ (w * r) / unit, atol=1e-5)


def test_pairs_without_common_points_add_nothing_to_the_normal_equations():
    rays = rays_of(rig(3), noise_px=1.0)
    pairs, counts = pairs_of(3), np.full(3, 10.0)
    expected = _linearise(rays, pairs[1:2], np.ones(1), counts[:1], 1.0)
    rays.points[1] = np.nan
    for scale_px in (np.ones(3), np.array([np.nan, 1, np.nan])):
        for actual, of_one in zip(_linearise(rays, pairs, scale_px, counts, 1.0), expected, strict=True):
            np.testing.assert_array_equal(actual, of_one)


def test_a_view_of_another_order_is_the_same_pair():
    rays = general(rays_of(rig(2), noise_px=3.0))
    order = [1, 0]
    exchanged = Rays(
        *(
            np.ascontiguousarray(getattr(rays, f)[order])
            for f in ("points", "per_frame", "R", "centres", "per_px", "offset")
        )
    )
    np.testing.assert_allclose(np.abs(sampson_px(exchanged, pairs_of(2))), np.abs(sampson_px(rays, pairs_of(2))))
