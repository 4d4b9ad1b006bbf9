"""Rigs from 2D points only."""

import numpy as np
import pytest
import torch

from poseboard.methods.geometry.bundle import first_frame, triangulate
from poseboard.methods.geometry.relative_pose import estimate
from poseboard.methods.geometry.rotations import angle_deg


def made_up_rigs(count=4, views=4, points=34, noise_px=0.0, seed=0):
    """Cameras on a ring about points, with rays and focal lengths; the frame of the first, its baseline 1."""
    rng = np.random.default_rng(seed)
    azimuth = np.arange(views) * 2 * np.pi / views + rng.uniform(-0.3, 0.3, (count, views))
    centre = np.stack([4 * np.cos(azimuth), 4 * np.sin(azimuth), rng.uniform(1, 2, azimuth.shape)], axis=-1)
    z = np.array([0, 0, 1.0]) + 0.1 * rng.standard_normal(centre.shape) - centre
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    x = np.cross(z, [0, 0, 1.0])
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    R = np.stack([x, np.cross(z, x), z], axis=-2)
    t = -(R @ centre[..., None])[..., 0]
    X = rng.uniform([-0.4, -0.4, 0], [0.4, 0.4, 1.8], (count, points, 3))
    seen = np.einsum("bvij,bnj->bvni", R, X) + t[:, :, None]
    focal = 1145.0
    rays = seen[..., :2] / seen[..., 2:] + noise_px / focal * rng.standard_normal((count, views, points, 2))
    R, t, rays = (torch.from_numpy(a) for a in (R, t, rays))
    R, t = first_frame(R, t)
    return R, t, rays, torch.ones(rays.shape[:3], dtype=torch.float64), torch.full(rays.shape[:3], focal).double()


@pytest.mark.parametrize("views", [2, 3, 4])
def test_exact_points_give_the_cameras(views):
    R, t, rays, weights, focal = made_up_rigs(views=views)
    rig = estimate(rays, weights, focal)
    assert angle_deg(rig.R @ R.mT).max() < 1e-3
    torch.testing.assert_close(rig.t, t, atol=1e-4, rtol=0)
    torch.testing.assert_close(rig.points, triangulate(R, t, rays, weights), atol=1e-4, rtol=0)
    assert rig.behind.max() == 0


def test_noise_of_a_pixel_is_near_the_true_cameras():
    R, _, rays, weights, focal = made_up_rigs(count=12, noise_px=1.0, points=68)
    rig = estimate(rays, weights, focal)
    assert angle_deg(rig.R @ R.mT).max() < 2
    assert rig.sigma_px.min() > 0.8
    assert rig.sigma_px.max() < 1.2
    assert abs(rig.sigma_px.mean() - 1) < 0.07


@pytest.mark.parametrize(("noise_px", "frames", "most_deg"), [(1.0, 60, 0.15), (3.0, 60, 0.5), (8.0, 180, 0.5)])
def test_frames_of_a_sequence_pooled_give_rotations_to_half_a_degree(noise_px, frames, most_deg):
    """Seventeen joints in each frame, ten rigs: the median of their worst cameras, and so of all."""
    R, _, rays, weights, focal = made_up_rigs(count=10, noise_px=noise_px, points=frames * 17, seed=3)
    rig = estimate(rays, weights, focal)
    assert angle_deg(rig.R @ R.mT).amax(dim=-1).median() <= most_deg


def test_outliers_do_not_move_the_cameras():
    R, _, rays, weights, focal = made_up_rigs(count=4, noise_px=0.5, points=68)
    spoiled = rays.clone()
    spoiled[:, 1, ::10] += 0.1  # a tenth of the points of a view, 115 px off
    rig = estimate(spoiled, weights, focal)
    assert angle_deg(rig.R @ R.mT).max() < 2


def test_observations_without_weight_do_not_count():
    _, _, rays, weights, focal = made_up_rigs(count=3, noise_px=1.0)
    weights[:, :, 20:] = 0
    changed = rays.clone()
    changed[:, :, 20:] = torch.nan
    rig, other = estimate(rays, weights, focal), estimate(changed, weights, focal)
    torch.testing.assert_close(rig.R, other.R, atol=0, rtol=0)
    missing = weights.clone()
    missing[:, 3] = 0
    three = estimate(rays[:, :3], weights[:, :3], focal[:, :3])
    four = estimate(rays, missing, focal)
    torch.testing.assert_close(angle_deg(four.R[:, :3] @ three.R.mT), torch.zeros(3, 3).double(), atol=0.05, rtol=0)


def test_rigs_of_a_batch_do_not_depend_on_one_another():
    _, _, rays, weights, focal = made_up_rigs(count=4, noise_px=1.0)
    together = estimate(rays, weights, focal)
    alone = estimate(rays[2:3], weights[2:3], focal[2:3])
    torch.testing.assert_close(together.R[2:3], alone.R, atol=1e-7, rtol=0)
