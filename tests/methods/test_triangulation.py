import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import cameras, person
from scipy.spatial.transform import Rotation

from poseboard.methods.geometry import compiled_triangulation, triangulation
from poseboard.methods.geometry.triangulation import (
    DAMPING,
    damp,
    dlt,
    in_threads,
    invert,
    owned,
    project,
    ray_distance,
    reprojection_error,
)

seeds = st.integers(0, 2**32 - 1)


def rig(rng, views):
    """Cameras on a 4 m ring looking inwards, (V, 3, 4)."""
    P = np.empty((views, 3, 4))
    for v, angle in enumerate(2 * np.pi * (np.arange(views) + rng.uniform(-0.3, 0.3, views)) / (views + 0.5)):
        centre = np.array([4000 * np.cos(angle), 4000 * np.sin(angle), rng.uniform(1200, 1800)])
        forward = np.array([0, 0, 900.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        P[v] = np.array([[1145, 0, 512], [0, 1143, 515], [0, 0, 1.0]]) @ np.column_stack([R, -R @ centre])
    return P


def see(P, X):
    """(F, V, J, 2) pixels of (F, J, 3)."""
    return project(torch.tensor(P), torch.tensor(X))[0].numpy()


def people(rng, frames, joints=5):
    return rng.uniform([-800, -800, 300], [800, 800, 1800], (frames, joints, 3))


def svd_loop(P, points, weights):
    X = np.empty((len(points), points.shape[2], 3))
    for f in range(len(points)):
        for j in range(points.shape[2]):
            rows = points[f, :, j, :, None] * P[:, 2:] - P[:, :2]
            y = np.linalg.svd((weights[f, :, j, None, None] * rows).reshape(-1, 4))[2][3]
            X[f, j] = y[:3] / y[3]
    return X


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 9), st.booleans(), st.booleans())
def test_recovers_noiseless_points_exactly(seed, views, weighted, homogeneous):
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 3)
    points = see(P, X)
    weights = rng.uniform(1e-3, 1, points.shape[:-1]) if weighted else None
    np.testing.assert_allclose(dlt(P, points, weights, homogeneous=homogeneous), X, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 8), st.sampled_from([0.5, 5.0, 80.0]))
def test_equals_the_svd_of_the_published_rows(seed, views, noise_px):
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 4)
    points = see(P, X) + rng.normal(0, noise_px, (4, views, 5, 2))
    weights = rng.uniform(0.05, 1, points.shape[:-1])
    published = dlt(P, points, weights, homogeneous=True)
    np.testing.assert_allclose(published, svd_loop(P, points, weights), atol=1e-4)


def test_equals_the_svd_at_the_world_origin_where_the_homogeneous_norm_degenerates():
    rng = np.random.default_rng(3)
    P = rig(rng, 4)
    X = rng.uniform(-3, 3, (20, 5, 3))
    points = see(P, X) + rng.normal(0, 2, (20, 4, 5, 2))
    published = dlt(P, points, homogeneous=True)
    np.testing.assert_allclose(published, svd_loop(P, points, np.ones(points.shape[:-1])), rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 7), st.booleans())
def test_does_not_depend_on_the_order_of_views(seed, views, homogeneous):
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 2)
    points = see(P, X) + rng.normal(0, 3, (2, views, 5, 2))
    weights = rng.uniform(0.1, 1, points.shape[:-1])
    order = rng.permutation(views)
    again = dlt(P[order], points[:, order], weights[:, order], homogeneous=homogeneous)
    np.testing.assert_allclose(again, dlt(P, points, weights, homogeneous=homogeneous), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 7))
def test_a_rigid_motion_of_the_world_moves_the_published_answer(seed, views):
    # Noiseless for translations: with noise, the unit homogeneous vector prefers points far from the origin.
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 2)
    R, t = Rotation.random(random_state=seed % 2**31).as_matrix(), rng.uniform(-3000, 3000, 3)
    moved = P @ np.vstack([np.column_stack([R.T, -R.T @ t]), [0, 0, 0, 1]])
    np.testing.assert_allclose(dlt(moved, see(P, X), homogeneous=True), X @ R.T + t, atol=1e-5)
    noisy = see(P, X) + rng.normal(0, 3, (2, views, 5, 2))
    rotated = P @ np.block([[R.T, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
    there, here = (dlt(world, noisy, homogeneous=True) for world in (rotated, P))
    np.testing.assert_allclose(there, here @ R.T, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 7))
def test_the_solution_moves_with_the_world_and_survives_its_origin(seed, views):
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 2)
    noisy = see(P, X) + rng.normal(0, 3, (2, views, 5, 2))
    weights = rng.uniform(0.1, 1, noisy.shape[:-1])
    R, t = Rotation.random(random_state=seed % 2**31).as_matrix(), -X[0, 0]
    moved = P @ np.vstack([np.column_stack([R.T, -R.T @ t]), [0, 0, 0, 1]])
    here = dlt(P, noisy, weights)
    np.testing.assert_allclose(dlt(moved, noisy, weights), here @ R.T + t, atol=1e-5)
    rows = weights[0, :, 0, None, None] * (noisy[0, :, 0, :, None] * P[:, 2:] - P[:, :2])
    A = rows.reshape(-1, 4)
    np.testing.assert_allclose(here[0, 0], np.linalg.lstsq(A[:, :3], -A[:, 3])[0], atol=1e-5)


ABSENT = ["weight 0", "negative weight", "nan weight", "infinite weight", "nan point", "zero camera", "nan camera"]


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(3, 7), st.sampled_from([*ABSENT, "infinite camera"]), st.booleans(), st.booleans())
def test_an_absent_view_is_a_view_removed(seed, views, how, homogeneous, weighted):
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 2)
    points = see(P, X) + rng.normal(0, 3, (2, views, 5, 2))
    weights = rng.uniform(0.1, 1, points.shape[:-1])
    gone = int(rng.integers(views))
    rest = [v for v in range(views) if v != gone]
    weighted = weighted or "weight" in how
    expected = dlt(P[rest], points[:, rest], weights[:, rest] if weighted else None, homogeneous=homogeneous)
    if "weight" in how:
        weights[:, gone] = {"weight 0": 0, "negative weight": -1, "nan weight": np.nan, "infinite weight": np.inf}[how]
    elif how == "nan point":
        points[:, gone] = np.nan
    elif how == "zero camera":
        P[gone] = 0
    else:
        P[gone, 0, rng.integers(4)] = np.nan if how == "nan camera" else np.inf
    found = dlt(P, points, weights if weighted else None, homogeneous=homogeneous)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    as_tensors = [torch.tensor(a, requires_grad=True) for a in ((P, points, weights) if weighted else (P, points))]
    found = dlt(*as_tensors, homogeneous=homogeneous)
    np.testing.assert_allclose(found.detach(), expected, atol=1e-6)
    found.sum().backward()
    assert all(torch.isfinite(a.grad).all() for a in as_tensors)


def test_fewer_than_two_views_is_nan_for_that_joint_alone():
    rng = np.random.default_rng(0)
    P, X = rig(rng, 3), people(rng, 1)
    points = see(P, X)
    points[0, :2, 1] = np.nan
    found = dlt(P, points)
    assert np.isnan(found[0, 1]).all()
    np.testing.assert_allclose(np.delete(found, 1, 1), np.delete(X, 1, 1), atol=1e-5)
    once = np.ones(points.shape[:-1])
    once[:, 1:] = 0
    assert np.isnan(dlt(P, points, once)).all()
    P[0] = 0
    for two in (dlt(P[:2], see(P, X)[:, 1:]), dlt(*map(torch.tensor, (P[:2], see(P, X)[:, 1:])))):
        assert torch.isnan(torch.as_tensor(two)).all()


def test_gradients_are_those_of_finite_differences():
    rng = np.random.default_rng(5)
    P = torch.tensor(rig(rng, 3))
    points = torch.tensor(see(P.numpy(), people(rng, 2, 3)) + rng.normal(0, 4, (2, 3, 3, 2)), requires_grad=True)
    weights = torch.tensor(rng.uniform(0.2, 1, (2, 3, 3)), requires_grad=True)
    for homogeneous in (True, False):

        def solve(p, w, homogeneous=homogeneous):
            return dlt(P, p, w, homogeneous=homogeneous)

        assert torch.autograd.gradcheck(solve, (points, weights), eps=1e-4, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize("homogeneous", [True, False])
@pytest.mark.parametrize("case", ["parallel", "same camera", "all weights 0", "one view", "equal singular values"])
def test_gradients_stay_finite_where_the_answer_is_not_determined(case, homogeneous):
    rng = np.random.default_rng(2)
    P = torch.tensor(rig(rng, 2))
    points = torch.tensor(see(P.numpy(), people(rng, 1, 4)))
    weights = torch.ones(1, 2, 4, dtype=torch.float64)
    if case == "parallel":
        # The second camera is the first shifted sideways, and shows every point at the same pixel.
        P[1] = P[0]
        P[1, :, 3] += torch.tensor([5e5, 0.0, 0.0])
        points[:, 1] = points[:, 0]
    elif case == "same camera":
        P[1] = P[0]
        points[:, 1] = points[:, 0]
    elif case == "all weights 0":
        weights[:] = 0
    elif case == "one view":
        weights[:, 1] = 0
    else:
        # Rows 0, 1, 2, … of the identity: every singular value is 1.
        P = torch.zeros(2, 3, 4, dtype=torch.float64)
        P[0, 0, 0] = P[0, 1, 1] = P[1, 0, 2] = P[1, 1, 3] = -1.0
        P[:, 2, 0] = 1e-300
        points[:] = 0
    points.requires_grad_()
    weights.requires_grad_()
    X = dlt(P, points, weights, homogeneous=homogeneous)
    assert torch.isnan(X).all() if case in {"all weights 0", "one view"} else torch.isfinite(X).all()
    torch.nansum(X).backward()
    assert torch.isfinite(points.grad).all()
    assert torch.isfinite(weights.grad).all()


def test_batches_broadcast_and_float32_is_solved_in_float64():
    rng = np.random.default_rng(8)
    P, X = rig(rng, 4), people(rng, 6)
    points = see(P, X).reshape(2, 3, 4, 5, 2)
    assert dlt(P, points).shape == (2, 3, 5, 3)
    np.testing.assert_allclose(dlt(P, points[0]), dlt(P, points)[0], atol=1e-9)
    single = dlt(torch.tensor(P, dtype=torch.float32), torch.tensor(points, dtype=torch.float32))
    assert single.dtype == torch.float64
    np.testing.assert_allclose(single.numpy(), X.reshape(2, 3, 5, 3), atol=0.05)


@pytest.mark.parametrize("weights_batch", [(), (4,), (2, 1, 1)])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_cameras_points_and_weights_broadcast_against_each_other(weights_batch, as_tensor):
    rng = np.random.default_rng(9)
    P = np.stack([rig(rng, 3) for _ in range(6)]).reshape(6, 1, 3, 3, 4)
    X = people(rng, 4)
    points = see(P, X) + rng.normal(0, 3, (6, 4, 3, 5, 2))
    for observed, weights in (
        (points[0], rng.uniform(0.1, 1, (*weights_batch, 3, 5))),
        (points, rng.uniform(0.1, 1, (*weights_batch, 3, 5))),
        (points[0, 0], rng.uniform(0.1, 1, (*weights_batch, 3, 5))),
    ):
        batch = np.broadcast_shapes((6, 1), observed.shape[:-3], weights_batch)
        given = (P, observed, weights)
        found = np.asarray(dlt(*map(torch.tensor, given)) if as_tensor else dlt(*given))
        assert found.shape == (*batch, 5, 3)
        whole = [np.broadcast_to(a, (*batch, *a.shape[-kept:])) for a, kept in zip(given, (3, 3, 2), strict=True)]
        for index in np.ndindex(batch):
            np.testing.assert_allclose(found[index], dlt(*(a[index] for a in whole)), atol=1e-6)


@pytest.mark.parametrize("homogeneous", [True, False])
def test_the_scale_of_a_joints_weights_is_arbitrary(homogeneous):
    rng = np.random.default_rng(10)
    P, X = rig(rng, 4), people(rng, 2, 3)
    points = see(P, X) + rng.normal(0, 3, (2, 4, 3, 2))
    weights = rng.uniform(0.1, 1, (2, 4, 3))
    expected = dlt(P, points, weights, homogeneous=homogeneous)
    scaled = weights * [1, 1e-200, 1e200]
    np.testing.assert_allclose(dlt(P, points, scaled, homogeneous=homogeneous), expected, atol=1e-5)
    found = dlt(*map(torch.tensor, (P, points, scaled)), homogeneous=homogeneous)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_arrays_of_float32_are_solved_in_float64():
    rng = np.random.default_rng(11)
    P, X = rig(rng, 4), people(rng, 2)
    single = [a.astype(np.float32) for a in (P, see(P, X), rng.uniform(0.1, 1, (2, 4, 5)))]
    np.testing.assert_array_equal(dlt(*single), dlt(*(a.astype(np.float64) for a in single)))
    np.testing.assert_allclose(reprojection_error(single[0], X, single[1]), 0, atol=0.01)


def test_ordinary_noise_needs_no_singular_value_decomposition(monkeypatch):
    rng = np.random.default_rng(12)
    P, X = rig(rng, 4), people(rng, 20)
    points = see(P, X) + rng.normal(0, 2, (20, 4, 5, 2))
    expected = dlt(P, points, homogeneous=True)
    monkeypatch.delattr(torch.linalg, "svd")
    np.testing.assert_allclose(dlt(*map(torch.tensor, (P, points)), homogeneous=True), expected, atol=1e-6)


def test_no_view_is_no_triangulation_of_tensors():
    X = dlt(torch.zeros(2, 0, 3, 4), torch.zeros(2, 0, 5, 2), torch.zeros(2, 0, 5))
    assert X.shape == (2, 5, 3)
    assert torch.isnan(X).all()


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize(
    ("shapes", "named"),
    [
        (((3, 3, 4), (2, 5, 2)), r"P \(\.\.\., V, 3, 4\)"),
        (((3, 4, 4), (3, 5, 2)), r"P \(\.\.\., V, 3, 4\)"),
        (((3, 3, 4), (3, 5, 3)), r"P \(\.\.\., V, 3, 4\)"),
        (((3, 3, 4), (3, 2)), r"P \(\.\.\., V, 3, 4\)"),
        (((2, 3, 4), (2, 5, 2), (5, 2)), "weights"),
    ],
)
def test_wrong_shapes_are_named(shapes, named, as_tensor):
    with pytest.raises(ValueError, match=named):
        dlt(*((torch.zeros if as_tensor else np.zeros)(shape) for shape in shapes))


def test_inverses_have_determinants_with_a_lower_bound():
    rng = np.random.default_rng(14)
    A = rng.normal(size=(50, 3, 3))
    S = torch.tensor(np.moveaxis(A @ A.transpose(0, 2, 1), 0, -1))
    inverse, determinant = invert(S)
    torch.testing.assert_close(inverse.movedim(-1, 0), torch.linalg.inv(S.movedim(-1, 0)))
    torch.testing.assert_close(determinant, torch.linalg.det(S.movedim(-1, 0)))
    flat = torch.diag_embed(torch.tensor([[2.0, 0, 0], [0, 3, 0], [0, 0, 5], [0, 0, 0]], dtype=torch.float64))
    inverse, determinant = invert(flat.movedim(0, -1))
    least = [DAMPING**2 * 8, DAMPING**2 * 27, DAMPING**2 * 125, torch.finfo(torch.float64).tiny]
    assert determinant.tolist() == pytest.approx(least, rel=1e-12, abs=0)
    assert (inverse == 0).all()


def test_damping_is_relative_to_the_trace():
    S = torch.diag_embed(torch.tensor([[0.1, 0.2, 0.3], [0, 0, 0]], dtype=torch.float64)).movedim(0, -1)
    added = (damp(S.clone()) - S).movedim(-1, 0)
    identity = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(added[0], 0.6 * DAMPING * identity, rtol=1e-3, atol=0)
    torch.testing.assert_close(added[1], identity)


def test_a_point_at_depth_0_has_no_projection():
    pixels, depths = project(torch.eye(3, 4)[None], torch.tensor([[1.0, 2, 0], [1, 2, 1]]))
    assert depths.tolist() == [[0, 1]]
    assert torch.isnan(pixels[0, 0]).all()
    assert pixels[0, 1].tolist() == [1, 2]


def test_reprojection_error_is_the_full_distance():
    rng = np.random.default_rng(0)
    P, X = rig(rng, 3), people(rng, 2)
    error = reprojection_error(P, X, see(P, X) + np.array([3.0, 4.0]))
    np.testing.assert_allclose(error, 5.0, atol=1e-9)
    assert error.shape == (2, 3, 5)


def test_distance_from_a_line_of_sight():
    made = cameras(3)
    P = np.stack([camera.P for camera in made])
    X = person(0, joints=4)
    px = np.stack([camera.project(X) for camera in made])
    np.testing.assert_allclose(ray_distance(P, X, px), 0, atol=1e-6)
    across = np.stack([camera.R[0] for camera in made])  # to the right of the image
    aside = ray_distance(P, X + 20 * across[1], px)[1]
    sight = (X - made[1].centre_mm) / np.linalg.norm(X - made[1].centre_mm, axis=1, keepdims=True)
    np.testing.assert_allclose(aside, 20 * np.sqrt(1 - (sight @ across[1]) ** 2), rtol=1e-9)
    px[0, 0], P[2] = np.nan, 0
    missing = np.isnan(ray_distance(P, X, px))
    assert missing.tolist() == [[True, False, False, False], [False] * 4, [True] * 4]


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([1e-6, 1.0, 1e3]))
def test_distance_from_a_line_of_sight_of_any_projective_camera(seed, scale):
    rng = np.random.default_rng(seed)
    # Skewed and turned pixels, where the two planes of an observation are not orthogonal.
    P = (np.eye(3) + 0.3 * rng.normal(size=(3, 3))) @ rig(rng, 3)
    X = people(rng, 1)[0]
    points_px = see(P, people(rng, 1))[0]
    centres = -np.linalg.solve(P[:, :, :3], P[:, :, 3:])[..., 0]
    rays = np.linalg.solve(P[:, None, :, :3], np.concatenate([points_px, np.ones((3, 5, 1))], -1)[..., None])[..., 0]
    across = np.cross(X - centres[:, None], rays / np.linalg.norm(rays, axis=-1, keepdims=True))
    np.testing.assert_allclose(ray_distance(scale * P, X, points_px), np.linalg.norm(across, axis=-1), rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 9), st.sampled_from([0.0, 2.0, 80.0]), st.booleans(), st.booleans())
def test_compiled_arrays_have_the_answer_of_tensors(seed, views, noise_px, weighted, homogeneous):
    rng = np.random.default_rng(seed)
    P, X = rig(rng, views), people(rng, 2)
    points = see(P, X) + noise_px * rng.standard_normal((2, views, 5, 2))
    points[rng.random(points.shape[:-1]) < 0.1] = np.nan
    weights = rng.uniform(0, 1, points.shape[:-1]) if weighted else None
    expected = dlt(
        torch.tensor(P),
        torch.tensor(points),
        None if weights is None else torch.tensor(weights),
        homogeneous=homogeneous,
    )
    # Of two views at 80 px some points are kilometres away.
    np.testing.assert_allclose(dlt(P, points, weights, homogeneous=homogeneous), expected.numpy(), rtol=1e-9, atol=1e-8)


def test_equal_singular_values_and_parallel_rays_are_solved_as_tensors_are():
    P = np.zeros((2, 3, 4))
    P[0, 0, 0] = P[0, 1, 1] = P[1, 0, 2] = P[1, 1, 3] = -1.0
    P[:, 2, 0] = 1e-300
    shifted = np.stack([rig(np.random.default_rng(0), 2)[0]] * 2)
    shifted[1, :, 3] += [5e5, 0, 0]
    for both in (P, shifted, shifted[[0, 0]]):
        for homogeneous in (True, False):
            expected = dlt(torch.tensor(both), torch.zeros(2, 3, 2).double(), homogeneous=homogeneous)
            found = dlt(both, np.zeros((2, 3, 2)), homogeneous=homogeneous)
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


def test_threads_and_kinds_of_arrays_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    P, X = rig(rng, 4), people(rng, 7)
    points = see(P, X) + rng.normal(0, 2, (7, 4, 5, 2))
    expected = dlt(P, points)
    frozen = points.copy()
    frozen.setflags(write=False)
    for all_P in (P, np.broadcast_to(P, (7, 4, 3, 4)), np.tile(P, (7, 1, 1, 1))[::-1]):
        for observed in (frozen, np.asfortranarray(points), points[::-1][::-1]):
            np.testing.assert_array_equal(dlt(all_P, observed), expected)
    monkeypatch.setattr(triangulation, "_WORK_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    np.testing.assert_array_equal(dlt(P, points), expected)


@pytest.mark.skipif(not hasattr(compiled_triangulation.triangulate, "signatures"), reason="numba compiles nothing")
def test_arrays_of_all_kinds_share_one_compiled_loop():
    rng = np.random.default_rng(3)
    P, points = rig(rng, 4), rng.uniform(0, 1000, (7, 4, 5, 2))
    frozen = points.astype(np.float32)
    frozen.setflags(write=False)
    for all_P in (P.astype(np.float32), np.broadcast_to(P, (7, 4, 3, 4)), np.tile(P, (7, 1, 1, 1))[::-1]):
        for observed in (frozen, np.asfortranarray(points), points[::-1]):
            dlt(all_P, observed, np.ones((4, 5), np.float32))
    assert len(compiled_triangulation.triangulate.signatures) == 1


@pytest.mark.parametrize("homogeneous", [True, False])
def test_a_thread_that_starts_at_the_second_frame_checks_its_cameras(monkeypatch, homogeneous):
    rng = np.random.default_rng(15)
    P, X = np.stack([rig(rng, 3), rig(rng, 3)]), people(rng, 2, 1)
    points = see(P, X)
    monkeypatch.setattr(triangulation, "_WORK_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    np.testing.assert_allclose(dlt(P, points, homogeneous=homogeneous), X, atol=1e-5)
    P[1, 0] = np.nan
    np.testing.assert_allclose(dlt(P, points, homogeneous=homogeneous), X, atol=1e-5)


def test_the_common_scale_of_all_cameras_is_arbitrary():
    rng = np.random.default_rng(16)
    P, X = rig(rng, 3), people(rng, 2)
    for scale in (1e-4, 1e4):
        np.testing.assert_allclose(dlt(scale * P, see(P, X)), X, atol=1e-5)
    assert np.isfinite(dlt(1e-120 * P, see(P, X))).all()  # products of its entries underflow


def test_an_array_in_order_is_not_copied():
    array = np.zeros((2, 3))
    assert owned(array, array.shape) is array
    spread = owned(array, (4, 2, 3))
    assert spread.shape == (4, 2, 3)
    assert spread.flags.writeable


def test_a_thread_is_added_per_share_of_the_work(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    def ranges(points, work):
        calls = []
        in_threads(lambda start, stop: calls.append((start, stop)), points, work=work, per_thread=10)
        return sorted(calls)

    assert ranges(10, 19) == [(0, 10)]
    assert ranges(10, 20) == [(0, 5), (5, 10)]
    assert ranges(10, 29) == [(0, 5), (5, 10)]
    assert ranges(10, 1000) == [(0, 3), (3, 6), (6, 10)]
    assert ranges(1, 1000) == [(0, 1)]
