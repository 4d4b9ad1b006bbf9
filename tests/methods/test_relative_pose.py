"""Steps of the calibration from 2D points: poses of pairs, stars of pairs, and the choice between hypotheses."""

import numpy as np
import pytest
import torch
from test_recovered_rigs import made_up_rigs

from poseboard.methods.geometry.bundle import Rig, triangulate
from poseboard.methods.geometry.relative_pose import (
    _depths,
    _stars,
    _strided,
    _table,
    _two_best,
    best_hypotheses,
    estimate,
    relative_poses,
)
from poseboard.methods.geometry.rotations import angle_deg, rotation_exp


def normal(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def turns(*angles_deg):
    """Rotations (n, 3, 3) by angles about the z axis."""
    return rotation_exp(torch.deg2rad(torch.tensor(angles_deg).double())[:, None] * torch.eye(3).double()[2])


def pairs_of(R, t, pairs):
    """Relative poses (B, pairs, 3, 3), (B, pairs, 3) of pairs of views; translations of length 1."""
    R_pairs = torch.stack([R[:, j] @ R[:, i].mT for i, j in pairs], dim=1)
    t_pairs = torch.stack([t[:, j] - (R[:, j] @ R[:, i].mT @ t[:, i, :, None])[..., 0] for i, j in pairs], dim=1)
    return R_pairs, torch.nn.functional.normalize(t_pairs, dim=-1)


def test_depths_on_both_rays():
    y, b, depths = normal(6, 3), normal(6, 3, seed=1), normal(2, 6, seed=2)
    found = _depths(y, b, depths[1, :, None] * b - depths[0, :, None] * y)
    torch.testing.assert_close(torch.stack(found), depths)
    assert torch.stack(_depths(y, 2 * y, normal(6, 3))).isfinite().all()


def test_strided_points_are_spread_over_the_observed_ones():
    weights = torch.tensor([[1, 0, 2, 0.5, 0, 3], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
    assert _strided(weights, 2).tolist() == [[0, 3], [3, 0], [0, 1]]
    assert _strided(weights, 3).tolist() == [[0, 2, 3], [3, 0, 1], [0, 1, 2]]
    assert _strided(weights, 6).tolist() == [[0, 2, 3, 5, 1, 4], [3, 0, 1, 2, 4, 5], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(("aside_deg", "second"), [(0, 1), (29, 1), (31, 0), (180, 0)])
def test_the_second_pose_of_a_pair_differs_in_rotation_or_direction(aside_deg, second):
    R = turns(16, 10, 0, 90).expand(2, -1, -1, -1).clone()
    R[1] = R[1].flip(0)
    x = (1 + 1e-12) * torch.eye(3).double()[0]  # by rounding, a cosine may exceed 1
    t = torch.stack([x, turns(aside_deg)[0] @ x, x, x]).expand(2, -1, -1).clone()
    t[1] = t[1].flip(0)
    cost = torch.tensor([[3.0, 2, 1, 4], [4, 1, 2, 3]])
    pairs = _two_best(R, t, cost)
    expected = torch.tensor([[2, 1 - second], [1, 2 if second == 0 else 3]])
    for values, of_pairs in zip((R, t, cost), pairs, strict=True):
        torch.testing.assert_close(of_pairs, torch.stack([values[b, expected[b]] for b in range(2)]))


def test_relative_poses_of_exact_points():
    R, t, rays, weights, focal = made_up_rigs(count=3, views=2)
    weights[:, :, ::6] = 0
    rays[:, 1, ::6] += 1
    pairs = relative_poses(rays[:, 0], rays[:, 1], weights[:, 0], focal[:, 0])
    assert [values.shape for values in pairs] == [(3, 2, 3, 3), (3, 2, 3), (3, 2)]
    torch.testing.assert_close(pairs.R[:, 0], R[:, 1], atol=1e-6, rtol=0)
    torch.testing.assert_close(pairs.t[:, 0], t[:, 1], atol=1e-6, rtol=0)
    torch.testing.assert_close(pairs.t.norm(dim=-1), torch.ones(3, 2).double())
    assert (pairs.cost[:, 0] < 1e-6).all()
    assert (pairs.cost[:, 1] > 0.01).all()
    single = relative_poses(*(values.float() for values in (rays[:, 0], rays[:, 1], weights[:, 0], focal[:, 0])))
    assert {values.dtype for values in single} == {torch.float32}


def test_poses_of_all_ordered_pairs_of_views():
    R, t, first, second = rotation_exp(normal(2, 3, 2, 3)), normal(2, 3, 2, 3), [0, 0, 1], [1, 2, 2]
    table_R, table_t = _table(R, t, torch.tensor(first), torch.tensor(second), 3)
    X = normal(3)
    for view in range(3):
        assert (table_R[:, :, view, view] == torch.eye(3)).all()
        assert (table_t[:, :, view, view] == 0).all()
    for pair, (i, j) in enumerate(zip(first, second, strict=True)):
        torch.testing.assert_close((table_R[:, :, i, j], table_t[:, :, i, j]), (R[:, pair], t[:, pair]))
        there = table_R[:, :, i, j] @ X + table_t[:, :, i, j]
        back = (table_R[:, :, j, i] @ there[..., None])[..., 0] + table_t[:, :, j, i]
        torch.testing.assert_close(back, X.expand_as(back))


def test_stars_of_true_pairs_are_the_rig():
    R, t, rays, weights, _ = made_up_rigs(count=2, views=4)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    first, second = torch.tensor(pairs).T
    R_pairs, t_pairs = pairs_of(R, t, pairs)
    turned = rotation_exp(0.2 * normal(2, 6, 3)) @ R_pairs
    table = _table(torch.stack([R_pairs, turned], 2), torch.stack([t_pairs, t_pairs], 2), first, second, 4)
    weights[:, 1, ::3] = 0
    rays[:, 1, ::3] = 7.0
    rays[:, 2, 1::9] += 0.5  # outliers
    stars_R, stars_t = _stars(*table, rays, weights)
    assert (stars_R.shape, stars_t.shape) == ((2, 8, 4, 3, 3), (2, 8, 4, 3))
    torch.testing.assert_close(stars_R[:, :4], R[:, None].expand(-1, 4, -1, -1, -1))
    torch.testing.assert_close(stars_t[:, :4], t[:, None].expand(-1, 4, -1, -1))
    for centre in range(4):
        of_centre = table[0][:, 1, centre]
        torch.testing.assert_close(stars_R[:, 4 + centre], of_centre @ of_centre[:, :1].mT)


def test_a_star_ignores_points_behind_its_views():
    R, t, rays, weights, _ = made_up_rigs(count=1, views=3, points=30)
    pairs = [(0, 1), (0, 2), (1, 2)]
    R_pairs, t_pairs = (values[:, :, None].repeat_interleave(2, 2) for values in pairs_of(R, t, pairs))
    table = _table(R_pairs, t_pairs, *torch.tensor(pairs).T, 3)
    X = triangulate(R, t, rays, weights)[0]
    X[:18] *= -1  # the rays of a pair intersect behind both views
    in_view = torch.einsum("vij,nj->vni", R[0], X) + t[0, :, None]
    rays = (in_view[..., :2] / in_view[..., 2:])[None]
    assert (in_view[:, :18, 2] < 0).all(1).any()
    torch.testing.assert_close(_stars(*table, rays, weights)[1], t[:, None].expand(-1, 6, -1, -1))


def test_a_star_ignores_absent_observations():
    R, t, rays, weights, _ = made_up_rigs(count=1, views=3, points=30)
    assert t[0, 2].norm() > 1  # so that the scales of the star about the first view refer to the third
    pairs = [(0, 1), (0, 2), (1, 2)]
    R_pairs, t_pairs = (values[:, :, None].repeat_interleave(2, 2) for values in pairs_of(R, t, pairs))
    weights[:, 1, ::2] = weights[:, 1, ::3] = 0
    X = triangulate(R, t, rays, weights)
    farther = 1.5 * X @ R[:, 1].mT + t[:, 1, None]  # of the same points, seen from the first view
    rays[:, 1] = torch.where(weights[:, 1, :, None] > 0, rays[:, 1], farther[..., :2] / farther[..., 2:])
    stars_R, stars_t = _stars(*_table(R_pairs, t_pairs, *torch.tensor(pairs).T, 3), rays, weights)
    torch.testing.assert_close(stars_t[:, :2], t[:, None].expand(-1, 2, -1, -1))
    assert stars_R.shape[1] == 6


def test_a_star_without_common_points_keeps_the_scales_of_its_pairs():
    R, t, rays, weights, _ = made_up_rigs(count=1, views=3)
    pairs = [(0, 1), (0, 2), (1, 2)]
    R_pairs, t_pairs = (values[:, :, None].repeat_interleave(2, 2) for values in pairs_of(R, t, pairs))
    stars_R, stars_t = _stars(*_table(R_pairs, t_pairs, *torch.tensor(pairs).T, 3), rays, 0 * weights)
    torch.testing.assert_close(stars_R, R[:, None].expand_as(stars_R))
    torch.testing.assert_close(stars_t[:, 0].norm(dim=-1), torch.tensor([[0.0, 1, 1]]).double(), atol=1e-9, rtol=0)


def hypotheses(of, angles_deg, behind, residuals_px=None, sigma_px=1.0):
    """Rigs of three views and 10 points, the third view turned about its axis, with their observations.

    Every observation of hypothesis m is ``residuals_px[m]`` away from the projection.
    """
    M = len(of)
    R = torch.eye(3).double().repeat(M, 3, 1, 1)
    R[:, 2] = turns(*angles_deg)
    t = torch.tensor([[0.0, 0, 3], [1, 0, 3], [0, 1, 3]]).double().expand(M, -1, -1)
    X = normal(10, 3).expand(M, -1, -1).clamp(-1, 1)
    in_view = torch.einsum("mvij,mnj->mvni", R, X) + t[..., None, :]
    rays = in_view[..., :2] / in_view[..., 2:]
    focal = torch.full((M, 3, 10), 100.0).double()
    off = torch.zeros(M, 10) if residuals_px is None else torch.as_tensor(residuals_px).expand(10, M).T
    rays[..., 1] += off[:, None] / focal
    sigma = torch.as_tensor(sigma_px).double().expand(M)
    rig = Rig(R, t, X, torch.full((M,), torch.nan), sigma, torch.tensor(behind).double())
    return rig, torch.tensor(of), rays, torch.ones(M, 3, 10).double(), focal


def test_the_best_hypotheses_of_each_rig_from_best_to_worst():
    of = [0, 0, 0, 0, 0, 2, 2, 2]
    behind = [0.016, 0.0, 0.004, 0.012, 0.008, 0.1, 0.102, 0.101]
    arguments = hypotheses(of, [9, 0, 3.5, 2.5, 6, 0, 90, 50], behind)
    assert best_hypotheses(*arguments, 10).tolist() == [1, 2, 4, 0, 5, 7, 6]
    assert best_hypotheses(*arguments, 2).tolist() == [1, 2, 5, 7]
    assert best_hypotheses(*arguments, 1).tolist() == [1, 5]


def test_hypotheses_that_cost_much_more_than_the_best_are_dropped():
    assert best_hypotheses(*hypotheses([0, 0, 0], [0, 30, 60], [0.5, 0.5199, 0.5201]), 3).tolist() == [0, 1]
    # log(1 + 1.4² / 9) = 0.197 and log(1 + 1.45² / 9) = 0.210
    arguments = hypotheses([0, 0, 0], [0, 30, 60], [0, 0, 0], [0.0, 1.4, 1.45])
    assert best_hypotheses(*arguments, 3).tolist() == [0, 1]
    # The scale is that of the best fit of the rig.
    for sigma, kept in (([9.0, 1, 9], [0, 1]), ([9.0, 9, 2], [0, 1, 2]), ([2.0, 9, 9], [0, 1, 2])):
        assert best_hypotheses(arguments[0]._replace(sigma_px=torch.tensor(sigma)), *arguments[1:], 3).tolist() == kept
    rig, of, *observations = hypotheses([0, 1, 1], [0, 0, 60], [0, 0, 0], [0.0, 0.0, 1.45], [0.1, 2, 2])
    assert best_hypotheses(rig, of, *observations, 3).tolist() == [0, 1, 2]
    rig, of, rays, weights, focal = hypotheses([0, 0, 0], [0, 30, 60], [0, 0, 0], [0.0, 2.8, 2.9], 2.0)
    assert best_hypotheses(rig, of, rays, 1e-3 * weights, focal, 3).tolist() == [0, 1]


def test_outliers_cost_little_and_absent_observations_nothing():
    rig, of, rays, weights, focal = hypotheses([0, 0], [0, 40], [0, 0], [1.0, 0.0])
    rays[1, 0, 0, 0] += 0.1  # an outlier of 10 px in 30 observations, which least squares would mind
    assert best_hypotheses(rig, of, rays, weights, focal, 1).tolist() == [1]
    rays[1, 1, :5, 0] += 0.1
    assert best_hypotheses(rig, of, rays, weights, focal, 1).tolist() == [0]
    weights[:, 1, :5] = 0
    for scale in (1, 1e-9):
        assert best_hypotheses(rig, of, rays, scale * weights, focal, 1).tolist() == [1]
    assert best_hypotheses(rig, of, rays, 0 * weights, focal, 2).tolist() == [0, 1]


def test_hypotheses_without_finite_points_come_last():
    rig, *observations = hypotheses([0, 0, 0], [0, 40, 80], [0, 0.5, 0.3])
    rig.points[0, 3] = torch.nan
    rig.points[1, 3] = torch.tensor([0, 0, -3.0])  # in the plane of the cameras
    assert best_hypotheses(rig, *observations, 1).tolist() == [2]
    assert best_hypotheses(rig._replace(behind=torch.zeros(3)), *observations, 1).tolist() == [2]


def test_a_point_in_the_plane_of_a_camera_is_one_outlier():
    rig, *observations = hypotheses([0, 0], [0, 40], [0.5, 0])
    rig.points[1, 3] = torch.tensor([0, 0, -3.0])
    assert best_hypotheses(rig, *observations, 1).tolist() == [1]


def test_all_points_count_before_the_last_adjustment():
    _, _, rays, weights, focal = made_up_rigs(count=2, views=3, noise_px=3.0, points=800)
    none, default, twelve, many = (
        estimate(rays, weights, focal, **steps) for steps in ({"steps": 0}, {}, {"steps": 12}, {"steps": 60})
    )
    assert angle_deg(none.R @ many.R.mT).max() < 0.01
    assert (many.sigma_px <= none.sigma_px).all()
    torch.testing.assert_close(default.R, twelve.R, atol=0, rtol=0)


def test_views_of_few_common_points_and_weights_of_any_scale():
    R, _, rays, weights, focal = made_up_rigs(count=3, points=200, noise_px=0.5)
    weights = weights * torch.from_numpy(np.random.default_rng(0).uniform(0.2, 1, weights.shape))
    weights[:, 0, ::2] = 0
    weights[:, 2, 1::4] = 0
    rays = torch.where(weights[..., None] > 0, rays, torch.nan)
    rig = estimate(rays, weights, focal)
    assert angle_deg(rig.R @ R.mT).max() < 1
    torch.testing.assert_close(estimate(rays, 1e-3 * weights, focal).R, rig.R, atol=1e-5, rtol=0)


def test_points_of_small_weight_do_not_decide():
    R, _, rays, weights, focal = made_up_rigs(count=6, views=2, noise_px=0.5, points=60, seed=1)
    draws = torch.Generator().manual_seed(0)
    rays[:, 1, ::2] += 0.3 * torch.randn(rays[:, 1, ::2].shape, generator=draws, dtype=rays.dtype)
    weights[:, :, ::2] = 1e-3
    assert angle_deg(estimate(rays, weights, focal).R @ R.mT).max() < 1


def test_points_that_no_view_observes_do_not_count():
    _, _, rays, weights, focal = made_up_rigs(count=8, noise_px=2.0, points=10)
    padded = [torch.cat([torch.zeros_like(v).repeat_interleave(99, 2), v], dim=2) for v in (rays, weights, focal)]
    torch.testing.assert_close(estimate(*padded).R, estimate(rays, weights, focal).R, atol=1e-4, rtol=0)


def test_factorization_avoids_wrong_minima_of_noisy_views():
    R, _, rays, weights, focal = (
        values[[25, 30, 39]] for values in made_up_rigs(count=40, views=3, noise_px=20.0, points=17, seed=5)
    )
    # With only the stars of pairs, the errors are 117, 161 and 30 degrees.
    assert angle_deg(estimate(rays, weights, focal).R @ R.mT).max() < 22


def test_one_view_is_no_rig():
    _, _, rays, weights, focal = made_up_rigs(count=1)
    with pytest.raises(ValueError, match=r"^two views are needed, got 1$"):
        estimate(rays[:, :1], weights[:, :1], focal[:, :1])
