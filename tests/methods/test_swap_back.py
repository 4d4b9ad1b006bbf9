"""Swapped sides of weighted joints: found with given cameras, and left alone where nothing contradicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_recovered_rigs import made_up_rigs
from torch import Tensor

from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.geometry.bundle import adjust, residuals, triangulate
from poseboard.methods.geometry.rotations import angle_deg
from poseboard.methods.geometry.swaps import swap_back
from poseboard.methods.probabilistic.model import rigs_without_swaps

JOINTS = len(HUMAN36M)
ORDER = HUMAN36M.flip_order


def exchange(values: Tensor, views: list[int], frames: slice = slice(None)) -> Tensor:
    """Values (B, V, J, ...) with the sides of some views swapped in some frames."""
    changed = values.clone()
    for view in views:
        changed[frames, view] = values[frames, view][:, list(ORDER)]
    return changed


def people(count: int = 6, noise_px: float = 3.0, seed: int = 0) -> tuple[Tensor, ...]:
    R, t, rays, weights, focal = made_up_rigs(count=count, noise_px=noise_px, points=JOINTS, seed=seed)
    rng = np.random.default_rng(seed)
    return R, t, rays, weights * torch.from_numpy(rng.uniform(0.5, 1.5, weights.shape)), focal


@settings(max_examples=20)
@given(st.integers(0, 500), st.integers(0, 3))
def test_one_swapped_view_of_four_is_found(seed: int, view: int) -> None:
    R, t, rays, weights, focal = people(seed=seed)
    spoiled = exchange(rays, [view]), exchange(weights, [view])
    sorted_rays, sorted_weights, swapped = swap_back(R, t, *spoiled, focal, ORDER)
    assert swapped[:, view].all()
    assert swapped.sum() == len(R)
    torch.testing.assert_close(sorted_rays, rays)
    torch.testing.assert_close(sorted_weights, weights)


def test_of_two_views_each_the_heavier_ones_are_right() -> None:
    R, t, rays, weights, focal = people()
    weights[:, [1, 2]] *= 0.5
    *_, swapped = swap_back(R, t, exchange(rays, [1, 2]), exchange(weights, [1, 2]), focal, ORDER)
    assert swapped.tolist() == [[False, True, True, False]] * len(R)


def test_the_heavier_views_decide_which_side_is_left() -> None:
    R, t, rays, weights, focal = people()
    weights[:, [1, 2]] *= 3
    *_, swapped = swap_back(R, t, exchange(rays, [1, 2]), exchange(weights, [1, 2]), focal, ORDER)
    assert swapped.tolist() == [[True, False, False, True]] * len(R)


def test_two_views_suffice() -> None:
    R, t, rays, weights, focal = people(noise_px=0.5)
    R, t, rays, weights, focal = R[:, :2], t[:, :2], rays[:, :2], weights[:, :2].clone(), focal[:, :2]
    weights[:, 1] *= 0.5
    *_, swapped = swap_back(R, t, exchange(rays, [1]), exchange(weights, [1]), focal, ORDER)
    assert swapped.tolist() == [[False, True]] * len(R)


def test_joints_of_a_single_view_and_the_scale_of_the_weights_do_not_count() -> None:
    R, t, rays, weights, focal = people()
    weights[:, [0, 2, 3], 11:] = 0  # their joints in the second view have residuals of any size, swapped or not
    spoiled = exchange(rays, [1]), exchange(weights, [1])
    for scale in (1, 1e-6):
        *_, swapped = swap_back(R, t, spoiled[0], scale * spoiled[1], focal, ORDER)
        assert swapped.tolist() == [[False, True, False, False]] * len(R)


@settings(max_examples=20)
@given(st.integers(0, 500), st.sampled_from([0.0, 1.0, 10.0, 30.0]))
def test_nothing_is_swapped_where_nothing_contradicts(seed: int, noise_px: float) -> None:
    R, t, rays, weights, focal = people(noise_px=noise_px, seed=seed)
    sorted_rays, sorted_weights, swapped = swap_back(R, t, rays, weights, focal, ORDER)
    assert not swapped.any()
    torch.testing.assert_close((sorted_rays, sorted_weights), (rays, weights), atol=0, rtol=0)


def test_a_frame_does_not_depend_on_others_nor_on_absent_views() -> None:
    R, t, rays, weights, focal = people()
    spoiled, w = exchange(rays, [2], slice(0, 3)), exchange(weights, [2], slice(0, 3))
    together = swap_back(R, t, spoiled, w, focal, ORDER)
    assert together[2].any(1).tolist() == [True] * 3 + [False] * 3
    alone = swap_back(R[1:2], t[1:2], spoiled[1:2], w[1:2], focal[1:2], ORDER)
    for part, whole in zip(alone, together, strict=True):
        torch.testing.assert_close(part[0], whole[1], atol=0, rtol=0)
    w[:, 0] = 0
    spoiled[:, 0] = torch.nan
    three = swap_back(R, t, spoiled, w, focal, ORDER)
    assert three[2].any(1).tolist() == [True] * 3 + [False] * 3
    assert not three[2][:, 0].any()
    assert torch.isfinite(three[0]).all()


def test_a_rig_is_adjusted_again_by_its_sorted_frames() -> None:
    frames = 4
    R, t, rays, weights, focal = made_up_rigs(count=3, noise_px=2.0, points=frames * JOINTS, seed=2)
    spoiled = rays.unflatten(2, (frames, JOINTS)).clone()
    spoiled[:2, 1, 0] = spoiled[:2, 1, 0][:, list(ORDER)]  # in a frame of two rigs
    spoiled = spoiled.flatten(2, 3)
    rig = adjust(R, t, spoiled, weights, focal, 20)
    again, sorted_rays, sorted_weights = rigs_without_swaps(rig, spoiled, weights, focal, ORDER)
    torch.testing.assert_close(sorted_rays, rays)
    torch.testing.assert_close(sorted_weights, weights)
    torch.testing.assert_close(again.R[2], rig.R[2], atol=0, rtol=0)
    assert (angle_deg(again.R @ R.mT).amax(-1) <= angle_deg(rig.R @ R.mT).amax(-1) + 0.05).all()
    assert (again.sigma_px < 3).all()
    points = triangulate(again.R, again.t, sorted_rays, sorted_weights)
    torch.testing.assert_close(again.points, points, atol=0.1, rtol=0.1)


def residual_squared(R: Tensor, t: Tensor, rays: Tensor, weights: Tensor, focal: Tensor) -> Tensor:
    """Weighted mean squared residual (B,) of triangulated joints, px²."""
    squared, _ = residuals(R, t, triangulate(R, t, rays, weights), rays, focal)
    return (weights * squared).sum((1, 2)) / weights.sum((1, 2))


@pytest.mark.parametrize(("root_mean_square_px", "kept"), [(0.9e-3, False), (1.1e-3, True), (0.05, True)])
def test_residuals_within_the_rounding_swap_nothing(root_mean_square_px: float, kept: bool) -> None:
    R, t, rays, weights, focal = people(noise_px=0.0)
    spoiled = exchange(rays, [1]), exchange(weights, [1])
    before = residual_squared(R, t, *spoiled, focal)[:, None, None]
    *_, swapped = swap_back(R, t, *spoiled, focal * root_mean_square_px / before.sqrt(), ORDER)
    assert (swapped[:, 1] == kept).all()


@pytest.mark.parametrize(("share", "kept"), [(0.55, True), (0.65, False), (0.9, False)])
def test_a_swap_must_lower_the_residuals_to_a_share(share: float, kept: bool) -> None:
    R, t, rays, weights, focal = people(noise_px=0.0)
    draws = torch.Generator().manual_seed(1)
    noise = torch.randn(rays.shape, dtype=rays.dtype, generator=draws)
    low, high = 0.0, 1.0
    for _ in range(40):  # the noise that leaves this share of the residuals after the swap
        size = (low + high) / 2
        noisy = rays[:1] + size * noise[:1]
        after, before = (
            residual_squared(R[:1], t[:1], px, w, focal[:1])
            for px, w in ((noisy, weights[:1]), (exchange(noisy, [1]), exchange(weights[:1], [1])))
        )
        low, high = (size, high) if after < share**2 * before else (low, size)
    *_, swapped = swap_back(R[:1], t[:1], exchange(noisy, [1]), exchange(weights[:1], [1]), focal[:1], ORDER)
    assert swapped.any() == kept
