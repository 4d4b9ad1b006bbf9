"""Cameras from all 2D points at once, as if no view had perspective."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from poseboard.methods.geometry.factorization import _metric, _root, factorize
from poseboard.methods.geometry.rotations import angle_deg, matrix_of_quaternion


def far_cameras(
    distance: float, views: int = 4, points: int = 17, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rays (1, V, N, 2) of a cloud of size 1 in the middle, and the true R (V, 3, 3) and t (V, 3)."""
    draws = torch.Generator().manual_seed(seed)
    q = torch.nn.functional.normalize(torch.randn(views, 4, dtype=torch.float64, generator=draws), dim=-1)
    R = matrix_of_quaternion(q)
    aside = torch.rand(views, 2, dtype=torch.float64, generator=draws) - 0.5
    t = distance * torch.cat([aside, 1 + torch.rand(views, 1, dtype=torch.float64, generator=draws)], dim=-1)
    X = torch.randn(points, 3, dtype=torch.float64, generator=draws)
    seen = X @ R.mT + t[:, None]
    return (seen[..., :2] / seen[..., 2:])[None], R, t


def error_deg(R: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """(..., V, 3, 3) -> (...) the largest angle of a camera relative to the first."""
    relative, wanted = R @ R[..., :1, :, :].mT, true @ true[:1].mT
    return angle_deg(relative @ wanted.mT).amax(-1)


@given(st.integers(3, 6), st.integers(0, 30))
def test_far_cameras_are_found_up_to_the_mirror_image(views: int, seed: int) -> None:
    rays, R, t = far_cameras(1e4, views, seed=seed)
    found_R, found_t = factorize(rays, torch.ones(rays.shape[:3], dtype=rays.dtype))
    errors = error_deg(found_R[0], R)
    assert errors.min() < 0.5
    best = int(errors.argmin())
    # Where the middle of the points is for each camera, in one unit.
    ratio = found_t[0, best].norm(dim=-1) / t.norm(dim=-1)
    torch.testing.assert_close(ratio / ratio[0], torch.ones(views, dtype=ratio.dtype), rtol=2e-3, atol=0)


def test_at_a_persons_distance_it_is_a_start() -> None:
    errors = []
    for seed in range(20):
        rays, R, _ = far_cameras(9, seed=seed)
        errors.append(error_deg(factorize(rays, torch.ones(rays.shape[:3], dtype=rays.dtype))[0][0], R).min())
    assert torch.stack(errors).median() < 25


def test_points_and_views_without_weight_change_nothing() -> None:
    rays, _, _ = far_cameras(50)
    weights = torch.rand(rays.shape[:3], dtype=rays.dtype, generator=torch.Generator().manual_seed(1)) + 0.1
    R, t = factorize(rays, weights)
    more_rays = torch.cat([rays, rays[:, :1]], dim=1)
    more_rays = torch.cat([more_rays, torch.full_like(more_rays[:, :, :3], 0.7)], dim=2)
    more_weights = torch.zeros(more_rays.shape[:3], dtype=rays.dtype)
    more_weights[:, :4, :17] = weights
    more_R, more_t = factorize(more_rays, more_weights)
    turn, expected = more_R[:, :, :4] @ more_R[:, :, :1].mT, R @ R[:, :, :1].mT
    same = (turn - expected).abs().amax((2, 3, 4)) < 1e-6
    swapped = (turn - expected.flip(1)).abs().amax((2, 3, 4)) < 1e-6
    assert (same | swapped).all(), "in one order or the other"
    torch.testing.assert_close(more_t[:, :, :4].norm(dim=-1), t.norm(dim=-1))
    torch.testing.assert_close(more_R[0, :, 4], torch.eye(3, dtype=rays.dtype).expand(2, 3, 3))


@given(st.integers(2, 5), st.integers(1, 6), st.integers(0, 20))
def test_it_is_finite_whatever_is_seen(views: int, points: int, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    rays = torch.randn(3, views, points, 2, dtype=torch.float64, generator=draws)
    weights = (torch.rand(3, views, points, dtype=torch.float64, generator=draws) - 0.3).clamp_min(0)
    for w in (weights, torch.zeros_like(weights)):
        R, t = factorize(rays, w)
        assert torch.isfinite(R).all()
        assert torch.isfinite(t).all()
        torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=R.dtype).expand_as(R))


def without_perspective(views: int, points: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Rays (1, V, N, 2) that are exactly scaled orthography, their weights (1, V, N), R (V, 3, 3) and t (V, 3)."""
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=draws)

    weights = (torch.rand(points, dtype=torch.float64, generator=draws) + 0.1).expand(1, views, points)
    X = 0.2 * normal(points, 3)
    X -= (weights[0, 0, :, None] * X).sum(0) / weights[0, 0].sum()
    turn, aside = (
        matrix_of_quaternion(torch.nn.functional.normalize(q, dim=-1))
        for q in (normal(views, 4), 0.1 * normal(views, 4) + torch.eye(4, dtype=torch.float64)[0])
    )
    depth = 1 + torch.rand(views, 1, 1, dtype=torch.float64, generator=draws)
    flat = (X @ turn.mT)[..., :2] / depth
    middle = torch.zeros(views, 1, 2, dtype=torch.float64)
    for _ in range(50):  # until the mean direction is the optical axis
        directions = torch.nn.functional.normalize(
            torch.cat([flat + middle, torch.ones_like(flat[..., :1])], dim=-1), dim=-1
        )
        middle -= (weights[0, ..., None] * directions[..., :2]).sum(1, keepdim=True) / weights[0].sum(1)[:, None, None]
    rays = directions @ aside.mT
    t = depth[:, 0] * torch.cat([middle[:, 0], torch.ones_like(middle[:, 0, :1])], dim=-1)
    return (
        (rays[..., :2] / rays[..., 2:])[None],
        weights,
        aside @ turn,
        (aside @ t[..., None])[..., 0],
    )


@given(st.integers(3, 5), st.integers(0, 20))
def test_scaled_orthography_is_recovered_exactly_in_every_row_of_a_batch(views: int, seed: int) -> None:
    rigs = [without_perspective(views, 17, seed + row) for row in range(2)]
    # The scale of the weights is arbitrary.
    R, t = factorize(torch.cat([rig[0] for rig in rigs]), 1e-3 * torch.cat([rig[1] for rig in rigs]))
    for row, (_, _, true_R, true_t) in enumerate(rigs):
        errors = error_deg(R[row], true_R)
        assert errors.min() < 1e-5
        ratio = t[row, 0] / true_t
        torch.testing.assert_close(ratio / ratio[0, 0], torch.ones_like(ratio), rtol=1e-7, atol=0)
        torch.testing.assert_close(t[row, 1], t[row, 0])


def test_a_view_without_weight_has_no_translation() -> None:
    rays, weights, _, _ = without_perspective(4, 17, 0)
    weights = weights.clone()
    weights[:, 1] = 0
    R, t = factorize(rays, weights)
    assert (t[:, :, 1] == 0).all()
    assert (R[:, :, 1] == torch.eye(3)).all()


@given(st.integers(0, 50))
def test_the_metric_does_not_depend_on_the_depth_of_a_camera(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    cameras = torch.randn(2, 5, 2, 3, dtype=torch.float64, generator=draws)
    metric = _metric(cameras)
    torch.testing.assert_close(_metric(cameras * torch.tensor([1.0, 3, 0.2, 5, 1])[:, None, None]), metric)
    assert (metric.diagonal(dim1=-2, dim2=-1).sum(-1) >= 0).all()


def test_the_root_of_an_indefinite_metric_is_that_of_a_flat_one() -> None:
    root = _root(torch.diag(torch.tensor([100.0, 9.0, -5.0]))[None])
    torch.testing.assert_close(root @ root.mT, torch.diag(torch.tensor([100.0, 9.0, 2.0]))[None])
