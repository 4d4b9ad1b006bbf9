"""Bundle adjustment of small rigs: their frame and scale, robust cost, noise, and the information about cameras."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_recovered_rigs import made_up_rigs

from poseboard.methods.geometry.bundle import (
    Rig,
    adjust,
    as_array,
    baseline,
    first_frame,
    information,
    residuals,
    robust_weights,
    triangulate,
    triangulate_compiled,
)
from poseboard.methods.geometry.rotations import rotation_exp


def noisy_rigs(count=2, views=3, points=9, noise_px=2.0, seed=0):
    """Rigs, points, and weighted rays; a fifth of a view's observations are absent, their rays NaN."""
    R, t, rays, weights, focal = made_up_rigs(count, views, points, noise_px, seed)
    rng = np.random.default_rng(seed)
    weights = torch.from_numpy(rng.uniform(0.2, 1, weights.shape))
    weights[:, 1, ::5] = 0
    weights[1, 2, 1] = 0
    rays[weights == 0] = torch.nan
    focal = focal * torch.from_numpy(rng.uniform(0.5, 1.5, focal.shape))
    return R, t, triangulate(R, t, torch.nan_to_num(rays), weights), rays, weights, focal


def squared_px(R, t, X, rays, focal):
    """Squared reprojection errors (B, V, N) by NumPy."""
    in_view = np.einsum("bvij,bnj->bvni", R, X) + t.numpy()[:, :, None]
    return ((focal.numpy()[..., None] * (in_view[..., :2] / in_view[..., 2:] - rays.numpy())) ** 2).sum(-1)


def robust_scale_px(squared, weights):
    """Three standard deviations of a coordinate, by the median of lengths, which is 1.1774 of them; (B, 1, 1)."""
    lengths = [np.sort(np.sqrt(s[w > 0])) for s, w in zip(squared, weights.numpy(), strict=True)]
    return 3 / 1.1774 * np.array([row[(len(row) - 1) // 2] for row in lengths])[:, None, None]


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_the_frame_of_the_first_camera_and_the_scale_of_the_second(batch):
    rng = np.random.default_rng(0)
    R = rotation_exp(torch.from_numpy(rng.standard_normal((*batch, 4, 3))))
    t, X = (torch.from_numpy(rng.standard_normal((*batch, n, 3))) for n in (4, 5))
    new_R, new_t = first_frame(R, t)
    torch.testing.assert_close(new_R[..., 0, :, :], torch.eye(3, dtype=R.dtype).expand(*batch, 3, 3))
    assert (new_t[..., 0, :].abs() < 1e-12).all()
    torch.testing.assert_close(new_t[..., 1, :].norm(dim=-1), torch.ones(batch, dtype=R.dtype))
    in_views = torch.einsum("...vij,...nj->...vni", R, X) + t[..., None, :]
    again = torch.einsum("...vij,...nj->...vni", new_R, in_views[..., 0, :, :])
    distance = (t[..., 1, :] - (R[..., 1, :, :] @ R[..., 0, :, :].mT @ t[..., 0, :, None])[..., 0]).norm(dim=-1)
    torch.testing.assert_close(again + distance[..., None, None, None] * new_t[..., None, :], in_views)


def test_a_rig_without_a_baseline_keeps_its_scale():
    R, t, *_ = made_up_rigs(count=2)
    t = 3 * t
    t[:, 0] = 0
    t[0, 1] = 0
    torch.testing.assert_close(baseline(t), torch.tensor([[[1.0]], [[3]]]).double())
    torch.testing.assert_close(first_frame(R, t)[1], torch.stack([t[0], t[1] / 3]))
    torch.testing.assert_close(baseline(t[:, :2] / 6), torch.tensor([[[1.0]], [[0.5]]]).double())
    assert baseline(t[:, :1]).tolist() == [[[1]], [[1]]]
    one = first_frame(R[:, 2:3], t[:, 2:3])
    assert (one[0].shape, one[1].shape) == ((2, 1, 3, 3), (2, 1, 3))
    assert (one[1].abs() < 1e-12).all()


def test_points_of_fewer_than_two_views_are_zero():
    R, t, rays, weights, _ = made_up_rigs(count=2, points=5)
    weights[0, :3, 1] = 0
    weights[1, :, 4] = 0
    X = triangulate(R, t, rays, weights)
    assert (X == 0).all(-1).tolist() == [[False, True, False, False, False], [False] * 4 + [True]]
    seen = squared_px(R, t, X, rays, torch.ones_like(weights))
    np.testing.assert_allclose(seen[(X != 0).any(-1)[:, None].expand(weights.shape).numpy()], 0, atol=1e-12)
    torch.testing.assert_close(triangulate_compiled(R, t, rays, weights), X)
    single = triangulate_compiled(*(value.float() for value in (R, t, rays, weights)))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, X.float(), atol=1e-3, rtol=0)


def test_residuals_are_those_of_the_projection():
    R, t, X, rays, weights, focal = noisy_rigs()
    squared, depth = residuals(R, t, X, rays, focal)
    np.testing.assert_allclose(squared, squared_px(R, t, X, rays, focal), rtol=1e-9)
    np.testing.assert_allclose(depth, np.einsum("bvj,bnj->bvn", R[:, :, 2], X) + t.numpy()[..., 2:])
    assert squared.shape == weights.shape


def test_residuals_have_no_pole_in_the_plane_of_the_camera():
    depth = torch.tensor([0.0, 4e-4, -4e-4, 2e-3, -2e-3, 1e-3]).double()
    X = torch.stack([torch.full_like(depth, 0.1), torch.zeros_like(depth), depth], dim=-1)[None]
    rays, focal = torch.zeros(1, 1, 6, 2).double(), torch.ones(1, 1, 6).double()
    rays[..., 0] = 10
    squared, of_points = residuals(torch.eye(3).double()[None, None], torch.zeros(1, 1, 3).double(), X, rays, focal)
    torch.testing.assert_close(of_points[0, 0], depth)
    torch.testing.assert_close(squared[0, 0].sqrt(), torch.tensor([90.0, 90, 110, 40, 60, 90]).double())


@pytest.mark.parametrize("scale", [1, 1e-9])
def test_cost_and_share_behind_of_a_rig_that_is_not_adjusted(scale):
    R, t, X, rays, weights, focal = noisy_rigs()
    X[1, :3] *= -1
    rig = adjust(R, t, rays, scale * weights, focal, 0, X)
    torch.testing.assert_close((rig.R, rig.t, rig.points), (R, t, X), atol=1e-12, rtol=1e-12)
    squared, w = squared_px(R, t, X, rays, focal), weights.numpy()
    u = np.nan_to_num(squared / robust_scale_px(squared, weights) ** 2)
    np.testing.assert_allclose(rig.cost, (w * np.log1p(u)).sum((1, 2)) / w.sum((1, 2)))
    behind = np.einsum("bvj,bnj->bvn", R[:, :, 2], X) + t.numpy()[..., 2:] < 0
    assert behind[1].any()
    np.testing.assert_allclose(rig.behind, (w * behind).sum((1, 2)) / w.sum((1, 2)))


def test_robust_weights_fall_with_the_residual():
    R, t, X, rays, weights, focal = noisy_rigs(noise_px=5.0)
    rig = adjust(R, t, rays, weights, focal, 0, X)
    robust, scale = robust_weights(rig, rays, weights, focal)
    squared = squared_px(R, t, X, rays, focal)
    expected = robust_scale_px(squared, weights)
    np.testing.assert_allclose(scale, expected[:, 0, 0])
    np.testing.assert_allclose(robust, weights.numpy() / (1 + np.nan_to_num(squared) / expected**2))


@pytest.mark.parametrize(("noise_px", "scale_px"), [(0.0, 1e-3), (1e4, 50.0)])
def test_the_robust_scale_is_bounded(noise_px, scale_px):
    R, t, X, rays, weights, focal = noisy_rigs(noise_px=noise_px)
    assert robust_weights(adjust(R, t, rays, weights, focal, 0, X), rays, weights, focal)[1].tolist() == [scale_px] * 2


def test_an_adjusted_rig_is_the_minimum_of_its_robust_least_squares():
    R, t, X, rays, weights, focal = noisy_rigs(points=30, noise_px=1.0)
    rays[:, 1, ::7] += 0.1
    rig = adjust(R, t, rays, weights, focal, 200, X)
    rays = torch.nan_to_num(rays)
    robust, _ = robust_weights(rig, rays, weights, focal)

    def steepest(w):
        variables = [value.clone().requires_grad_() for value in (rig.t, rig.points)]
        (w * residuals(rig.R, *variables, rays, focal)[0]).sum().backward()
        return max(value.grad[:, 1:].abs().max() for value in variables)

    assert steepest(robust) < 1e-3 * steepest(weights)


def test_noise_is_estimated_from_the_degrees_of_freedom():
    """Two per observation, less three per point and six per camera after the first, but for the common scale."""
    R, t, _, rays, weights, focal = noisy_rigs(views=4, points=40)
    weights[0, 3] = 0
    weights[1, 1:, 3] = 0  # a point of one view takes none
    X = triangulate(R, t, torch.nan_to_num(rays), weights)
    X[1, 3] = torch.cat([rays[1, 0, 3], torch.ones(1).double()])
    free = 2 * (weights > 0).sum((1, 2)) - torch.tensor([3 * 40 + 6 * 2 - 1, 3 * 39 + 6 * 3 - 1])
    rig = adjust(R, t, rays, weights, focal, 0, X)
    robust, _ = robust_weights(rig, rays, weights, focal)
    total = np.nansum(robust.numpy() * squared_px(R, t, X, rays, focal), (1, 2))
    variance = total / free.numpy() / 0.8579 * (weights.sum((1, 2)) / robust.sum((1, 2))).numpy()
    np.testing.assert_allclose(rig.sigma_px, np.sqrt(variance), rtol=1e-6)
    light = adjust(R, t, rays, 1e-6 * weights, focal, 0, X).sigma_px
    torch.testing.assert_close(1e3 * light, rig.sigma_px)


@pytest.mark.parametrize(("views", "points", "free"), [(1, 7, 14), (2, 5, 1)])
def test_noise_of_one_camera_and_of_too_few_observations(views, points, free):
    R, t, rays, weights, focal = (value[:, :views] for value in made_up_rigs(points=points, noise_px=2.0))
    X = triangulate(*made_up_rigs(points=points)[:4])
    rig = adjust(R, t, rays, weights, focal, 0, X)
    robust, _ = robust_weights(rig, rays, weights, focal)
    total = (robust.numpy() * squared_px(R, t, X, rays, focal)).sum((1, 2))
    np.testing.assert_allclose(rig.sigma_px, np.sqrt(total / free / 0.8579 / robust.mean((1, 2)).numpy()))


def test_a_rig_without_observations_is_unchanged_and_finite():
    R, t, X, rays, weights, focal = noisy_rigs()
    rig = adjust(R, t, rays, 0 * weights, focal, 5)
    torch.testing.assert_close((rig.R, rig.t), (R, t), atol=1e-12, rtol=0)
    assert [value.tolist() for value in (rig.cost, rig.behind)] == [[0, 0], [0, 0]]
    np.testing.assert_allclose(rig.sigma_px, 1e-3 / 3)
    robust, scale = robust_weights(rig._replace(points=X), rays, 0 * weights, focal)
    assert (robust == 0).all()
    np.testing.assert_allclose(scale, 3 / 1.1774)


def test_inputs_are_kept_and_their_type_is_that_of_the_rig():
    R, t, X, rays, weights, focal = (value.float() for value in noisy_rigs())
    arguments = R, t, rays, weights, focal, 3, X
    before = [value.clone() for value in (R, t, rays, weights, focal, X)]
    rig = adjust(*arguments)
    assert {value.dtype for value in rig} == {torch.float32}
    assert not torch.equal(rig.points, X)
    torch.testing.assert_close([R, t, rays, weights, focal, X], before, equal_nan=True)
    assert information(rig, rays, weights, focal).dtype == torch.float32
    double = adjust(*(value.double() if isinstance(value, torch.Tensor) else value for value in arguments))
    torch.testing.assert_close(rig.R, double.R.float())


def test_starting_points_are_triangulated_by_default_and_steps_limit_the_search():
    R, t, _, rays, weights, focal = noisy_rigs()
    rays = torch.nan_to_num(rays)
    turned = rotation_exp(torch.full((2, 3, 3), 0.02).double()) @ R
    points = triangulate(*first_frame(turned, t), rays, weights)
    costs = []
    for steps in range(4):
        default, explicit = (adjust(turned, t, rays, weights, focal, steps, X) for X in (None, points))
        for value, other in zip(default, explicit, strict=True):
            torch.testing.assert_close(value, other, atol=0, rtol=0)
        costs.append(default.sigma_px.max())
    assert costs == sorted(costs, reverse=True)
    assert costs[3] < costs[0] / 2


def test_a_camera_without_observations_is_not_turned():
    R, t, _, rays, weights, focal = noisy_rigs(views=4)
    weights[:, 3] = 0
    rig = adjust(R, t, rays, weights, focal, 10)
    torch.testing.assert_close(rig.R[:, 3], R[:, 3], atol=1e-12, rtol=0)
    assert not torch.allclose(rig.R[:, 2], R[:, 2], atol=1e-6, rtol=0)
    three = adjust(*(value[:, :3] for value in (R, t, rays, weights, focal)), 10)
    torch.testing.assert_close(rig.R[:, :3], three.R, atol=1e-6, rtol=0)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_adjustment_never_raises_the_cost(seed):
    R, t, rays, weights, focal = made_up_rigs(count=2, noise_px=2.0, seed=seed)
    rng = np.random.default_rng(seed)
    turned = rotation_exp(torch.from_numpy(0.1 * rng.standard_normal((2, 4, 3)))) @ R
    points = triangulate(*first_frame(turned, t), rays, weights)
    before = adjust(turned, t, rays, weights, focal, 0, points)
    after = adjust(turned, t, rays, weights, focal, 15, points)
    assert (after.sigma_px <= before.sigma_px + 1e-9).all()


def test_information_is_the_curvature_of_the_cost_with_the_best_points():
    """Of squared residuals that are 0: half the second derivative along random directions."""
    R, t, X, rays, weights, focal = noisy_rigs(points=12, noise_px=0.0)
    rig = adjust(R, t, rays, weights, focal, 0, X)
    matrix = information(rig, rays, weights, focal)
    torch.testing.assert_close(matrix, matrix.mT, atol=0, rtol=0)
    rays = torch.nan_to_num(rays)
    rng = np.random.default_rng(0)
    for row, direction in [(row, torch.from_numpy(d)) for row in range(2) for d in rng.standard_normal((3, 12))]:
        change = 1e-4 * direction
        w, dt = change.view(2, 2, 3).unbind(1)
        turned, moved = rig.R[row].clone(), rig.t[row].clone()
        turned[1:], moved[1:] = rotation_exp(w) @ turned[1:], moved[1:] + dt

        def residuals_px(X, R=turned, t=moved, row=row):
            seen = torch.einsum("vij,nj->vni", R, X) + t[:, None]
            factor = focal[row] * weights[row].sqrt()
            return (factor[..., None] * (seen[..., :2] / seen[..., 2:] - rays[row])).flatten()

        J = torch.autograd.functional.jacobian(residuals_px, rig.points[row]).reshape(-1, 36)
        left = residuals_px(rig.points[row])
        left = left - J @ torch.linalg.lstsq(J, left[:, None]).solution[:, 0]
        torch.testing.assert_close(change @ matrix[row] @ change, left @ left, rtol=0.02, atol=0)


def test_there_is_no_information_about_the_common_scale():
    R, t, X, rays, weights, focal = noisy_rigs(views=4, points=12)
    matrix = information(Rig(R, t, X, *torch.zeros(3, 2)), rays, weights, focal)
    scale = torch.cat([torch.zeros_like(t), t], dim=-1)[:, 1:].flatten(1)
    along = torch.einsum("bi,bij,bj->b", scale, matrix, scale)
    assert (along < 1e-8 * torch.einsum("bii->b", matrix)).all()


def test_arrays_of_float64_are_not_copied():
    values = torch.zeros(2, 3, dtype=torch.float64)
    as_array(values)[0, 0] = 1
    assert values[0, 0] == 1
    array = as_array(torch.zeros(2, 3, requires_grad=True).mT)
    assert array.dtype == np.float64
    assert array.flags.c_contiguous
