"""Compiled loops over rigs against dense algebra with derivatives by finite differences."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_recovered_rigs import made_up_rigs

from poseboard.methods.geometry import compiled_rigs
from poseboard.methods.geometry.compiled_rigs import NEAREST
from poseboard.methods.geometry.triangulation import dlt

OVER_2D, OVER_1D = (3 / 1.1774) ** 2, (3 * 1.4826) ** 2
"""Squared scale of the loss over the median of squared lengths in 2D, and of squared distances."""


def cross(v):
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


def cayley(v):
    return np.linalg.solve(np.eye(3) - cross(v) / 2, np.eye(3) + cross(v) / 2)


def derivative(function, count, step=1e-6):
    """Central differences (outputs, count) of a function at 0."""
    h = step * np.eye(count)
    return np.stack([(function(d) - function(-d)) / (2 * step) for d in h], axis=-1)


def squared_scale(squared, w, over):
    used = np.sort(squared[w > 0])
    return np.clip(over * used[(len(used) - 1) // 2] if len(used) else over, 1e-3**2, 50.0**2)


def cost(squared, w, scale):
    return (w * np.log1p(squared / scale)).sum()


# --- bundle adjustment


def scene(seed, views=3, points=9, noise_px=1.0, weighted=True):
    """Arrays of one rig: R, t, X (3, N), rays (V, 2, N), weights and focal lengths (V N,)."""
    R, t, rays, _, _ = made_up_rigs(1, views, points, noise_px, seed)
    rng = np.random.default_rng(seed)
    w = rng.uniform(0.2, 1, views * points) if weighted else np.ones(views * points)
    if weighted:
        w[3] = w[points + 5] = 0
    f = rng.uniform(900, 1300, views * points)
    R, t, rays = R[0].numpy(), t[0].numpy(), rays[0].numpy()
    R[0], t[0] = np.eye(3), 0
    P = np.concatenate([R, t[..., None]], -1)
    X = dlt(P, rays).T
    return R, t, np.ascontiguousarray(X), np.ascontiguousarray(rays.transpose(0, 2, 1)), w, f


def perturbed(R, t, X, seed, size):
    rng = np.random.default_rng(seed)
    R, t, X = R.copy(), t.copy(), X + size * rng.normal(size=X.shape)
    for v in range(1, len(R)):
        R[v] = cayley(size * rng.normal(size=3)) @ R[v]
        t[v] += size * rng.normal(size=3)
    t /= np.linalg.norm(t[1])
    return R, t, X


def projections(R, t, X):
    """Rays (V, 2, N) of points; depths near 0 are moved to the nearer bound."""
    x = R @ X + t[..., None]
    z = np.copysign(np.maximum(np.abs(x[:, 2:]), NEAREST), x[:, 2:])
    return x[:, :2] / z


def squared_px(R, t, X, ray, f):
    return f**2 * ((projections(R, t, X) - ray) ** 2).sum(1).ravel()


def moved(R, t, X, d):
    """Cameras and points after steps d (6 (V - 1) + 3 N): left rotations, translations, points."""
    of_cameras, of_points = d[: 6 * (len(R) - 1)].reshape(-1, 6), d[6 * (len(R) - 1) :]
    R = np.stack([R[0], *(cayley(c[:3]) @ r for c, r in zip(of_cameras, R[1:], strict=True))])
    t = np.concatenate([t[:1], t[1:] + of_cameras[:, 3:]])
    return R, t, X + of_points.reshape(-1, 3).T


def normal_equations(R, t, X, ray, weight):
    """Hessian and gradient of the least squares with weights (V N,)."""
    count = 6 * (len(R) - 1) + X.size
    J = derivative(lambda d: projections(*moved(R, t, X, d)).ravel(), count)
    W = np.repeat(weight.reshape(len(R), 1, -1), 2, axis=1).ravel()
    return J.T @ (W[:, None] * J), J.T @ (W * (projections(R, t, X) - ray).ravel())


def adjusted(R, t, X, ray, w, f, steps):
    """Levenberg-Marquardt of all unknowns at once."""
    damping, squared = 1e-3, squared_px(R, t, X, ray, f)
    for _ in range(steps):
        scale = squared_scale(squared, w, OVER_2D)
        H, g = normal_equations(R, t, X, ray, w * f**2 / (1 + squared / scale))
        D = 6 * (len(R) - 1)
        small = np.full(len(H), 1e-9 * (1 + np.trace(H[:D, :D]) / max(D, 1)))
        small[D:] = np.repeat(1e-12 * np.diag(H)[D:].reshape(-1, 3).sum(1) + 1e-30, 3)
        d = np.linalg.solve(H + np.diag(damping * np.diag(H) + small), g)
        trial = moved(R, t, X, -d)
        length = np.linalg.norm(trial[1][1]) if len(R) > 1 else 1.0
        trial = trial[0], trial[1] / length, trial[2] / length
        after = squared_px(*trial, ray, f)
        if cost(after, w, scale) < cost(squared, w, scale):
            (R, t, X), squared, damping = trial, after, max(damping / 5, 1e-9)
        else:
            damping *= 6
    return R, t, X, squared


def adjust(R, t, X, ray, w, f, steps):
    one = [np.ascontiguousarray(a[None]).copy() for a in (R, t, X, ray, w, f, np.empty_like(w))]
    compiled_rigs.adjust_rigs(*one, steps)
    return one[0][0], one[1][0], one[2][0], one[6][0]


@pytest.mark.parametrize("size", [0.01, 0.3])
@pytest.mark.parametrize("steps", [0, 1, 2, 4])
@pytest.mark.parametrize("views", [2, 3])
def test_steps_of_the_adjustment_are_those_of_dense_algebra(views, steps, size):
    for seed in range(2):
        R, t, X, ray, w, f = scene(seed, views)
        R, t, X = perturbed(R, t, X, seed, size)
        result, expected = (function(R, t, X, ray, w, f, steps) for function in (adjust, adjusted))
        for values, reference in zip(result, expected, strict=True):
            np.testing.assert_allclose(values, reference, rtol=1e-4, atol=1e-5)


def test_steps_that_raise_the_cost_are_undone():
    undone = 0
    for seed in (0, 1, 2, 6):
        R, t, X, ray, w, f = scene(seed)
        R, t, X = perturbed(R, t, X, seed, 2.0)
        before = squared_px(R, t, X, ray, f)
        *after, squared = adjust(R, t, X, ray, w, f, 1)
        scale = squared_scale(before, w, OVER_2D)
        if all(np.array_equal(a, b) for a, b in zip(after, (R, t, X), strict=True)):
            undone += 1
            np.testing.assert_allclose(squared, before)
        else:
            assert cost(squared, w, scale) < cost(before, w, scale)
        result, expected = (function(R, t, X, ray, w, f, 3) for function in (adjust, adjusted))
        for values, reference in zip(result, expected, strict=True):
            np.testing.assert_allclose(values, reference, rtol=1e-3, atol=1e-4)
    assert undone == 2


def test_exact_points_give_the_cameras_whatever_the_other_rigs_are():
    scenes = [scene(seed, noise_px=0.0) for seed in (1, 2)]
    starts = [perturbed(*of[:3], seed, 0.03) for seed, of in enumerate(scenes)]
    batch = [np.stack(values) for values in zip(*starts, strict=True)]
    batch += [np.stack(values) for values in zip(*(of[3:] for of in scenes), strict=True)]
    squared = np.empty_like(batch[4])
    compiled_rigs.adjust_rigs(*batch, squared, 30)
    for b, (R, t, X, *_) in enumerate(scenes):
        np.testing.assert_allclose(batch[0][b], R, atol=1e-6)
        np.testing.assert_allclose(batch[1][b], t, atol=1e-6)
        np.testing.assert_allclose(batch[2][b], X, atol=1e-5)
        assert squared[b][batch[4][b] > 0].max() < 1e-6
        single = adjust(*starts[b], *scenes[b][3:], 30)
        np.testing.assert_array_equal(batch[0][b], single[0])


def test_the_adjustment_ends_at_a_minimum():
    R, t, X, ray, w, f = scene(4, weighted=False)
    R, t, X, squared = adjust(*perturbed(R, t, X, 0, 0.02), ray, w, f, 60)
    scale = squared_scale(squared, w, OVER_2D)
    _, gradient = normal_equations(R, t, X, ray, w * f**2 / (1 + squared / scale))
    H, _ = normal_equations(R, t, X, ray, w * f**2)
    assert np.abs(gradient / np.sqrt(np.diag(H))).max() < 1e-3
    assert np.linalg.norm(t[1]) == pytest.approx(1)
    np.testing.assert_array_equal(R[0], np.eye(3))
    np.testing.assert_array_equal(t[0], 0)


def test_points_near_the_plane_of_a_camera_have_bounded_residuals():
    R, t, X, ray, w, f = scene(5)
    X[:, 0], X[:, 1], X[:, 2], X[:, 3] = [1, 2, 5e-4], [1, 2, -5e-4], [1, 2, -3], [1, 2, 2e-3]
    squared = adjust(R, t, X, ray, w, f, 0)[3]
    np.testing.assert_allclose(squared, squared_px(R, t, X, ray, f))
    result, expected = (function(R, t, X, ray, w, f, 1) for function in (adjust, adjusted))
    assert np.isfinite(result[2]).all()
    assert cost(result[3], w, squared_scale(squared, w, OVER_2D)) <= cost(
        squared, w, squared_scale(squared, w, OVER_2D)
    )
    assert expected[0].shape == result[0].shape


def test_a_single_view_keeps_its_camera():
    R, t, X, ray, _, f = scene(6, views=2)
    result = adjust(R[:1], t[:1], X + 0.01, ray[:1], np.ones(9), f[:9], 5)
    np.testing.assert_array_equal(result[0], R[:1])
    np.testing.assert_array_equal(result[1], t[:1])
    assert result[3].max() < 1


def test_rigs_without_observations_are_kept():
    R, t, X, ray, w, f = scene(7)
    result = adjust(R, t, X, ray, 0 * w, f, 3)
    for values, before in zip(result, (R, t, X), strict=False):
        np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("views", [2, 4])
def test_the_information_is_that_of_the_cameras_after_elimination_of_the_points(views):
    scenes = [scene(seed, views) for seed in (8, 9)]
    D = 6 * (views - 1)
    matrix = np.full((2, D, D), np.nan)
    compiled_rigs.information_of_rigs(*(np.stack(values) for values in zip(*scenes, strict=True)), matrix)
    for of_rig, (R, t, X, ray, w, f) in zip(matrix, scenes, strict=True):
        H, _ = normal_equations(R, t, X, ray, w * f**2)
        floor = np.repeat(1e-12 * np.diag(H)[D:].reshape(-1, 3).sum(1) + 1e-30, 3)  # for points of a single view
        expected = H[:D, :D] - H[:D, D:] @ np.linalg.solve(H[D:, D:] + np.diag(floor), H[D:, :D])
        np.testing.assert_allclose(of_rig, expected, atol=1e-5 * np.abs(H[:D, :D]).max())
        np.testing.assert_array_equal(of_rig, of_rig.T)


# --- draws of cameras


def test_draws_triangulate_points_and_have_a_likelihood():
    draws, arrays = [], []
    for seed in (10, 11):
        R, t, X, ray, w, f = scene(seed, views=3)
        w = w * 1e-3  # the scale of the weights does not matter for points
        w.reshape(3, 9)[::2, 4:8] = 0  # a single view
        w.reshape(3, 9)[:, 8] = 0
        draws.append([perturbed(R, t, X, 5 * seed + k, 0.02)[:2] for k in range(3)])
        draws[-1].append((R, t * [[1], [-1], [-1]]))  # behind some cameras
        draws[-1].append((R, t - [[0, 0, 0], [0, 0, 0.65], [0, 0, 0.65]]))  # in the midst of the points
        arrays.append((ray, w, f, 2.0 + seed))
    R, t = (np.array([[draw[i] for draw in of_rig] for of_rig in draws]) for i in range(2))
    ray, w, f, sigma = (np.array(values) for values in zip(*arrays, strict=True))
    points, likelihood = np.full((2, 5, 3, 9), np.nan), np.full((2, 5), np.nan)
    compiled_rigs.see_by_draws(R, t, ray, w, f, sigma, points, likelihood)
    behind = 0
    for b, m in np.ndindex(2, 5):
        P = np.concatenate([R[b, m], t[b, m, ..., None]], -1)
        X = np.nan_to_num(dlt(P, ray[b].transpose(0, 2, 1), w[b].reshape(3, 9)))
        np.testing.assert_allclose(points[b, m].T, X, rtol=1e-5, atol=1e-6)
        assert (points[b, m][:, 4:] == 0).all()
        u = squared_px(R[b, m], t[b, m], points[b, m], ray[b], f[b]) / (9 * sigma[b] ** 2)
        z = (R[b, m] @ points[b, m] + t[b, m, ..., None])[:, 2].ravel()
        behind += ((z <= 0) & (w[b] > 0) & (u < 1e4)).sum()
        u = np.where(z > 0, u, np.maximum(u, 1e4))
        assert likelihood[b, m] == pytest.approx(-4.5 * (w[b] * np.log1p(u)).sum(), rel=1e-9)
    assert behind


# --- relative poses


def pair_of(seed, points=20, noise_px=1.0):
    """Rays of both views, weights and focal lengths (6, N), and the pose of the second view."""
    R, t, rays, _, _ = made_up_rigs(1, 2, points, noise_px, seed)
    rng = np.random.default_rng(seed)
    w, f = rng.uniform(0.2, 1, points), rng.uniform(900, 1300, points)
    w[3] = 0
    return np.vstack([rays[0, 0].numpy().T, rays[0, 1].numpy().T, w, f]), R[0, 1].numpy(), t[0, 1].numpy()


def rays_of(pair):
    return np.vstack([pair[:2], np.ones(pair.shape[1])]), np.vstack([pair[2:4], np.ones(pair.shape[1])])


def sampson(R, t, pair):
    """Constraint and squared norm of its gradient of every point; their quotient in px² is the squared distance."""
    a, b = rays_of(pair)
    E = cross(t) @ R
    return (b * (E @ a)).sum(0), ((E @ a)[:2] ** 2).sum(0) + ((E.T @ b)[:2] ** 2).sum(0)


def sampson_px(R, t, pair):
    e, norm = sampson(R, t, pair)
    return pair[5] ** 2 * e**2 / norm


def translation(R, pair):
    """Smallest eigenvector of the epipolar constraints with normals of unit length; its sign is arbitrary."""
    a, b = rays_of(pair)
    m = np.cross((R @ a).T, b.T)
    m /= np.linalg.norm(m, axis=1, keepdims=True)
    return np.linalg.eigh(m.T @ (pair[4][:, None] * m))[1][:, 0]


def tangents(t):
    """Two unit vectors orthogonal to t and to each other; the smallest entry of t is 0 in the first."""
    least = np.abs(t).argmin()
    i, j = [k for k in range(3) if k != least]
    u = np.zeros(3)
    u[i], u[j] = t[j], -t[i]
    u *= (1, -1, 1)[least] / np.linalg.norm(u)
    return np.stack([u, np.cross(t, u)])


def refined(R, t, pair, steps):
    damping, w = 1e-3, pair[4]
    for _ in range(steps):
        squared = sampson_px(R, t, pair)
        scale = squared_scale(squared, w, OVER_1D)
        e, norm = sampson(R, t, pair)
        basis = tangents(t)
        J = derivative(lambda d, R=R, t=t, basis=basis: sampson(cayley(d[:3]) @ R, t + d[3:] @ basis, pair)[0], 5)
        weight = w * pair[5] ** 2 / norm / (1 + squared / scale)
        H, g = J.T @ (weight[:, None] * J), J.T @ (weight * e)
        small = 1e-12 * (1 + np.trace(H) / 5)
        d = -np.linalg.solve(H + np.diag(damping * np.diag(H) + small), g)
        new_R, new_t = cayley(d[:3]) @ R, t + d[3:] @ basis
        new_t /= np.linalg.norm(new_t)
        if cost(sampson_px(new_R, new_t, pair), w, scale) < cost(squared, w, scale):
            R, t, damping = new_R, new_t, max(damping / 5, 1e-9)
        else:
            damping = min(damping * 6, 1e6)
    return R, t


def behind(R, t, pair):
    """Weighted share of points behind a view."""
    a, b = rays_of(pair)
    depths = np.stack([
        np.linalg.lstsq(np.stack([R @ p, -q], 1), -t, rcond=None)[0] for p, q in zip(a.T, b.T, strict=True)
    ])  # fmt: skip
    return (pair[4] * (depths < 0).any(1)).sum() / pair[4].sum()


def in_front(R, t, pair):
    turned = (2 * np.outer(t, t) - np.eye(3)) @ R
    poses = [(R, t), (R, -t), (turned, t), (turned, -t)]
    shares = [behind(*pose, pair) for pose in poses]
    return *poses[int(np.argmin(shares))], min(shares)


def search(pairs, R, keep, steps, more_steps):
    R = np.stack([R] * len(pairs)) if R.ndim == 3 else R.copy()
    t, costs = np.full(R.shape[:3], np.nan), np.full(R.shape[:2], np.nan)
    w = np.ascontiguousarray(pairs[:, 4])
    compiled_rigs.search_pairs(np.ascontiguousarray(pairs), w, R, t, costs, keep, steps, more_steps)
    return R, t, costs


STARTS = Rotation.random(7, random_state=0).as_matrix()


@pytest.mark.parametrize("noise_px", [0.0, 1.0, 100.0])
def test_starting_rotations_get_translations_and_costs(noise_px):
    pairs = [pair_of(seed, noise_px=noise_px) for seed in (0, 1)]
    # Exact poses of exact points reach the smallest scale.
    near = [R if noise_px == 0 else cayley([0.01, -0.02, 0.005]) @ R for _, R, _ in pairs]
    starts = np.stack([np.concatenate([STARTS[:6], R[None]]) for R in near])
    R, t, costs = search(np.stack([pair for pair, *_ in pairs]), starts, 3, 0, 0)
    for p, (pair, *_) in enumerate(pairs):
        of_start = [translation(start, pair) for start in starts[p]]
        squared = np.stack(
            [sampson_px(start, direction, pair) for start, direction in zip(starts[p], of_start, strict=True)]
        )
        scales = [squared_scale(of_pose, pair[4], OVER_1D) for of_pose in squared]
        every = np.array([cost(of_pose, pair[4], min(scales)) for of_pose in squared]) / pair[4].sum()
        best = np.argsort(every)[:3]
        assert np.isinf(np.delete(costs[p], best)).all()
        squared = np.stack([sampson_px(*pose, pair) for pose in zip(R[p], t[p], strict=True)])
        kept = min(squared_scale(squared[h], pair[4], OVER_1D) for h in best)
        for h in best:
            expected_R, expected_t, share = in_front(starts[p][h], of_start[h], pair)
            np.testing.assert_allclose(R[p, h], expected_R, atol=1e-6)
            np.testing.assert_allclose(t[p, h], expected_t, atol=1e-6)
            of_pose = cost(squared[h], pair[4], kept) / pair[4].sum()
            assert costs[p, h] == pytest.approx(of_pose + share, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize(("steps", "more_steps"), [(1, 0), (0, 1), (2, 1)])
@pytest.mark.parametrize("degrees", [2, 25])
def test_steps_of_a_relative_pose_are_those_of_gauss_newton(steps, more_steps, degrees):
    for seed in range(3):
        pair, R, _ = pair_of(seed)
        start = Rotation.from_rotvec(np.deg2rad(degrees) * np.array([0.6, 0, -0.8])).as_matrix() @ R
        direction = translation(start, pair)
        result_R, result_t, costs = search(pair[None], start[None], 1, steps, more_steps)
        first = refined(start, direction, pair, steps)
        expected_R, expected_t, share = in_front(*refined(*first, pair, more_steps), pair)
        np.testing.assert_allclose(result_R[0, 0], expected_R, atol=1e-5)
        np.testing.assert_allclose(result_t[0, 0], expected_t, atol=1e-5)
        squared = sampson_px(expected_R, expected_t, pair)
        expected = cost(squared, pair[4], squared_scale(squared, pair[4], OVER_1D)) / pair[4].sum() + share
        assert costs[0, 0] == pytest.approx(expected, rel=1e-3)


def test_exact_points_give_the_relative_pose_from_any_of_its_four_poses():
    for seed in range(4):
        pair, R, t = pair_of(seed, noise_px=0.0)
        for start in (R, (2 * np.outer(t, t) - np.eye(3)) @ R):
            result_R, result_t, costs = search(pair[None], (cayley([0.004, 0.002, -0.006]) @ start)[None], 1, 6, 10)
            np.testing.assert_allclose(result_R[0, 0], R, atol=1e-6)
            np.testing.assert_allclose(result_t[0, 0], t / np.linalg.norm(t), atol=1e-6)
            assert costs[0, 0] < 1e-6


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_wide_views_are_in_front_after_translations_along_each_axis(axis, sign):
    rng = np.random.default_rng(axis)
    t = sign * np.eye(3)[axis] + np.roll([0.01, 0.02, 0.03], axis)
    X = rng.uniform([-4, -4, 1], [4, 4, 4], (200, 3))
    R = Rotation.from_rotvec([0.1, -0.2, 0.3]).as_matrix()
    x = X @ R.T + t
    X, x = (points[x[:, 2] > 0.3][:30] for points in (X, x))
    pair = np.vstack([(X[:, :2] / X[:, 2:]).T, (x[:, :2] / x[:, 2:]).T, np.ones(30), np.full(30, 1000.0)])
    turned = (2 * np.outer(t, t) / (t @ t) - np.eye(3)) @ R
    for start in (R, turned):
        result_R, result_t, costs = search(pair[None], (cayley([0.004, 0.002, -0.006]) @ start)[None], 1, 6, 10)
        np.testing.assert_allclose(result_R[0, 0], R, atol=1e-6)
        np.testing.assert_allclose(result_t[0, 0], t / np.linalg.norm(t), atol=1e-6)
        assert costs[0, 0] < 1e-6


def test_pairs_without_weights_have_finite_poses():
    pair, R, _ = pair_of(0)
    pair[4] = 0
    result_R, result_t, costs = search(pair[None], R[None], 1, 2, 2)
    np.testing.assert_array_equal(result_R[0, 0], R)
    assert np.linalg.norm(result_t[0, 0]) == pytest.approx(1)
    assert costs[0, 0] == 0
