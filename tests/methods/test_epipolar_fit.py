"""Fits of a rig by epipolar distances: parameters of exact rigs, priors, starts, and the evidence."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_tracks import rig, tracked
from scipy.spatial.transform import Rotation

from poseboard.methods.geometry.rig_mistakes.epipolar_fit import (
    CENTRE,
    FOCAL,
    K1,
    LAG,
    NO_RELATION,
    PARAMETERS,
    ROTATION,
    SCALE,
    _linearise,
    costs,
    fit,
    pairs_of,
    rig_size,
    rotations,
    sampson_px,
)
from poseboard.methods.geometry.rig_mistakes.rig_state import RigState

COUNTS = np.full(6, 300.0)


def rays_of(views=4, **options):
    cameras = rig(views)
    return tracked(cameras, frames=30, joints=3, **options).rays(RigState.of(cameras))


def prior_of(views=4, **sigma):
    """Prior standard deviations (V, 10) of all views; parameters without a name are not fitted."""
    prior = np.zeros((views, len(PARAMETERS)))
    for name, value in sigma.items():
        prior[:, PARAMETERS.index(name)] = value
    return prior


def undone(rays, theta, size):
    """Rays that become ``rays`` by the parameters ``theta`` (V, 10)."""
    k1 = theta[:, K1, None, None]
    out = rays.moved(np.where(np.arange(10) < FOCAL, 0, -theta) * (np.arange(10) != K1), size)
    return replace(
        out,
        points=out.points * (1 + k1 * (out.points**2).sum(-1, keepdims=True)),
        centres=rays.centres - size * theta[:, CENTRE],
        R=np.ascontiguousarray(rays.R @ rotations(-theta[:, ROTATION]).mT),
    )


@pytest.mark.parametrize("rotation", [[0.3, -0.5, 0.2], [0, 0, 3.0], [1e-8, 2e-8, 0], [1e-10, 0, -1e-10], [0, 0, 0]])
def test_rotations_are_those_of_scipy(rotation):
    both = np.array([[rotation, [0.1, 0.2, 0.3]]])
    expected = Rotation.from_rotvec(both.reshape(-1, 3)).as_matrix().reshape(1, 2, 3, 3)
    np.testing.assert_allclose(rotations(both), expected, atol=1e-15)


def test_the_size_of_a_rig_is_the_median_distance_from_the_mean_centre():
    centres = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 3, 0], [0, -3, 0], [0, 0, 0]]) + np.array([10, 20, 30])
    assert rig_size(centres) == pytest.approx(1)
    assert rig_size(centres[:1]) == 1e-9


def test_pairs_are_all_combinations():
    assert pairs_of(3).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert pairs_of(1).shape == (0, 2)
    assert pairs_of(4).dtype == np.intp


def test_moved_rays_turn_about_the_axes_of_the_world():
    rays = rays_of(3)
    theta = np.zeros((3, 10))
    theta[:, ROTATION], theta[:, CENTRE] = [[0.1, 0.2, 0.3]] * 3, [[0.1, 0, -0.2]] * 3
    after = rays.moved(theta, 2000.0)
    # The same turn and shift of all cameras are a change of the world, after which all distances are equal.
    turn = Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix()
    np.testing.assert_allclose(after.R @ turn, rays.R, atol=1e-12)
    np.testing.assert_allclose(after.centres - rays.centres, [[200, 0, -400]] * 3)
    about_origin = replace(after, centres=rays.centres @ turn.T)
    np.testing.assert_allclose(sampson_px(about_origin, pairs_of(3)), sampson_px(rays, pairs_of(3)), atol=1e-8)


@pytest.mark.parametrize("parameter", [*range(6), FOCAL, K1, LAG, SCALE])
def test_an_exact_change_of_one_camera_is_fitted(parameter):
    rays = rays_of()
    theta = np.zeros((4, 10))
    theta[2, parameter] = {LAG: 2.0, K1: -0.05}.get(parameter, 0.03)
    changed = undone(rays, theta, 1000.0)
    fitted = fit(changed, np.where(theta != 0, 10.0, 0.0), COUNTS)
    assert fitted.size == pytest.approx(rig_size(changed.centres))
    theta[:, CENTRE] *= 1000.0 / fitted.size
    np.testing.assert_allclose(fitted.theta, theta, atol=1e-5 * max(1, np.abs(theta).max()))
    assert fitted.scale_px == pytest.approx([0.2] * 6)


def test_a_rig_with_noise_is_fitted_to_the_minimum_of_cost_and_prior():
    rays = rays_of(noise_px=3.0)
    prior = prior_of(rx=0.01, cz=0.01, focal=0.02, k1=0.03, lag=0.5)
    fitted = fit(rays, prior, COUNTS)
    free = np.flatnonzero(prior.ravel())

    def objective(theta):
        cost, _ = costs(rays.moved(theta, fitted.size), pairs_of(4))
        used = prior > 0
        return (cost * COUNTS).sum() + 0.5 * ((theta[used] / prior[used]) ** 2).sum()

    least = objective(fitted.theta)
    assert least < objective(np.zeros((4, 10))) - 1
    for i in free:
        step = np.zeros(40)
        step[i] = 0.3 * prior.ravel()[i]
        assert objective(fitted.theta + step.reshape(4, 10)) > least - 0.05
        assert objective(fitted.theta - step.reshape(4, 10)) > least - 0.05
    np.testing.assert_allclose(np.delete(fitted.theta, free), 0, atol=1e-7)
    at = rays.moved(fitted.theta, fitted.size)
    np.testing.assert_allclose((fitted.cost, fitted.scale_px), costs(at, pairs_of(4)))
    np.testing.assert_array_equal(fitted.pairs, pairs_of(4))


def test_the_evidence_is_the_posterior_times_its_width_in_units_of_the_prior():
    rays = rays_of(noise_px=3.0)
    prior = prior_of(rx=0.01, focal=0.02)
    fitted = fit(rays, prior, COUNTS)
    at = rays.moved(fitted.theta, fitted.size)
    normal, _ = _linearise(at, fitted.pairs, fitted.scale_px, COUNTS, fitted.size)
    free = np.flatnonzero(prior.ravel())
    sigma = prior.ravel()[free]
    width = np.linalg.slogdet(normal[np.ix_(free, free)] * sigma * sigma[:, None] + np.eye(len(free)))[1]
    chi2 = ((fitted.theta.ravel()[free] / sigma) ** 2).sum()
    expected = -(fitted.cost * COUNTS).sum() - chi2 / 2 - width / 2
    assert fitted.evidence == pytest.approx(expected, abs=0.02)


def test_a_prior_of_0_fixes_a_parameter():
    rays = rays_of(noise_px=3.0)
    fitted = fit(rays, prior_of(), COUNTS)
    np.testing.assert_allclose(fitted.theta, 0, atol=1e-7)
    assert fitted.evidence == pytest.approx(-(costs(rays, pairs_of(4))[0] * COUNTS).sum(), abs=1e-3)


def test_counts_weigh_pairs():
    rays = rays_of(noise_px=3.0)
    prior = prior_of(rx=0.02, ry=0.02)
    one = np.array([1e4, 0, 0, 0, 0, 0])
    fitted = fit(rays, prior, one)
    assert fitted.cost[0] < costs(rays, pairs_of(4))[0][0]
    assert fitted.cost[1:].sum() > costs(rays, pairs_of(4))[0][1:].sum()
    np.testing.assert_allclose(fitted.theta[2:], 0, atol=1e-9)


def test_a_start_is_used_if_it_is_better():
    rays = rays_of()
    size = rig_size(rays.centres)
    theta = np.zeros((4, 10))
    theta[1, :3] = 0.05
    changed = undone(rays, theta, size)
    prior = prior_of(rx=0.1, ry=0.1, rz=0.1)
    started = fit(changed, prior, COUNTS, theta, steps=0)
    np.testing.assert_array_equal(started.theta, theta)
    assert started.scale_px == pytest.approx([0.2] * 6)
    assert started.evidence == pytest.approx(-6 * 300 * np.log(0.2) - 3 * 0.25 / 2, abs=1e-3)
    unused = fit(rays, prior, COUNTS, theta, steps=0)
    np.testing.assert_array_equal(unused.theta, 0)
    assert unused.scale_px == pytest.approx([0.2] * 6)
    np.testing.assert_array_equal(fit(rays, prior, COUNTS, np.zeros((4, 10)), steps=0).theta, 0)


def test_steps_are_at_most_the_maximum():
    theta = np.zeros((4, 10))
    theta[1, :3] = 0.05
    rays = rays_of()
    changed = undone(rays, theta, rig_size(rays.centres))
    errors = [np.abs(fit(changed, np.abs(theta) * 20, COUNTS, steps=s).theta - theta).max() for s in range(4)]
    assert errors[0] == 0.05
    assert (np.diff(errors) < 0).all()
    assert np.abs(fit(changed, np.abs(theta) * 20, COUNTS).theta - theta).max() < 1e-5


def test_a_pair_without_common_points_costs_a_constant():
    rays = rays_of(noise_px=3.0)
    expected = fit(rays, prior_of(), COUNTS)
    rays.points[0] = np.nan
    fitted = fit(rays, prior_of(), COUNTS)
    assert np.isnan(fitted.cost).tolist() == [True] * 3 + [False] * 3
    assert np.isnan(fitted.scale_px).tolist() == [True] * 3 + [False] * 3
    gone = 300 * (expected.cost[:3] - NO_RELATION).sum()
    assert fitted.evidence - expected.evidence == pytest.approx(gone, abs=1e-3)


def test_no_step_is_taken_that_loses():
    rays = rays_of(noise_px=2.0)
    for turn in np.linspace(0.1, 3, 12):
        theta = np.zeros((4, 10))
        theta[0, :3] = turn
        changed = undone(rays, theta, 1.0)
        fitted = fit(changed, prior_of(rx=0.5, ry=0.5, rz=0.5), COUNTS)
        start = (costs(changed, pairs_of(4))[0] * COUNTS).sum()
        assert (fitted.cost * COUNTS).sum() + ((fitted.theta[:, :3] / 0.5) ** 2).sum() / 2 <= start
