import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poseboard.methods.volumetric.unprojection import AGGREGATIONS, centred, rotation_about, unproject, voxel_offsets

UP = torch.tensor([0.0, 0, 1], dtype=torch.float64)
EYE = torch.eye(3)[None]


def ring(views, size=(24, 24), radius=4000.0):
    """P (V, 3, 4) of cameras about the origin, to pixels of a map (height, width) that shows 2.5 m."""
    height, width = size
    made = []
    for i in range(views):
        a = 2 * np.pi * i / views + 0.4
        R = np.array([[-np.sin(a), np.cos(a), 0], [0, 0, -1], [-np.cos(a), -np.sin(a), 0]])
        focal = radius * min(size) / 2500
        K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        made.append(K @ np.column_stack([R, [0, 0, radius]]))
    return torch.from_numpy(np.stack(made))


def coordinates(size):
    """A map whose two channels are its own x and y, so that sampling answers where it sampled."""
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in size), indexing="ij")
    return torch.stack([x, y])


def all_valid(samples, views):
    return torch.ones(samples, views, dtype=torch.bool)


@given(st.integers(2, 7), st.floats(100, 5000), st.floats(-4, 4))
@settings(max_examples=25, deadline=None)
def test_cubes_are_turned_about_their_centre(voxels, side, theta):
    turn = rotation_about(UP, torch.tensor([theta], dtype=torch.float64))
    offsets = voxel_offsets(side, voxels, turn)
    assert offsets.shape == (1, voxels, voxels, voxels, 3)
    torch.testing.assert_close(offsets, -offsets.flip(1, 2, 3))
    torch.testing.assert_close(offsets[0, -1, 0, 0] - offsets[0, 0, 0, 0], side * turn[0, :, 0])
    torch.testing.assert_close(offsets[0, :, :, 0, 2], torch.full((voxels, voxels), -side / 2, dtype=torch.float64))


@pytest.mark.parametrize("size", [(24, 24), (16, 30), (30, 16)])
def test_samples_where_the_camera_projects(size):
    P = ring(3, size)
    positions = 600 * (2 * torch.rand(1, 4, 5, 6, 3, generator=torch.Generator().manual_seed(0)) - 1)
    valid = torch.eye(3, dtype=torch.bool)
    found = unproject(
        coordinates(size).expand(3, -1, -1, -1), P.expand(3, -1, -1, -1), positions.expand(3, -1, -1, -1, -1), valid,
        "sum",
    )  # fmt: skip
    x = torch.einsum("vrc,xyzc->vrxyz", P[..., :3].float(), positions[0]) + P[..., 3, None, None, None].float()
    torch.testing.assert_close(found, x[:, :2] / x[:, 2:], rtol=0, atol=2e-3)


def test_outside_behind_and_nowhere_is_zero():
    P = ring(1)[None]
    forward = P[0, 0, 2, :3].float()
    positions = torch.stack(
        [
            -8000 * forward,  # behind the camera, where its ray passes the middle of the map
            torch.tensor([0.0, 0, 9000]),
            torch.full((3,), torch.nan),
            torch.full((3,), torch.inf),
            -4000 * forward,  # the camera's own centre
        ]
    )[None, :, None, None]
    found = unproject(torch.ones(1, 3, 24, 24), P, positions, all_valid(1, 1), "sum")
    assert torch.equal(found, torch.zeros_like(found))


def test_the_border_fades_over_one_pixel():
    P = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])[None, None]
    xs = torch.tensor([-1.5, -1, -0.25, 0, 5, 5.25, 6, 7])
    at = torch.stack([xs, torch.full_like(xs, 2), torch.ones_like(xs)], dim=-1)
    want = torch.tensor([0, 0, 0.75, 1, 1, 0.75, 0, 0])
    for positions in (at, at[:, [1, 0, 2]]):
        found = unproject(torch.ones(1, 1, 6, 6), P, positions[None, :, None, None], all_valid(1, 1), "sum")
        torch.testing.assert_close(found.flatten(), want)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_absent_views_take_no_part(aggregation):
    generator = torch.Generator().manual_seed(0)
    features, confidences = torch.randn(5, 4, 24, 24, generator=generator), torch.rand(5, 4, generator=generator)
    offsets = voxel_offsets(2000.0, 6, EYE)
    P = ring(3)
    valid = torch.tensor([[True, False, True], [True, True, True]])
    padded = torch.stack([P * torch.tensor([1, 0, 1])[:, None, None], P])
    both = unproject(features, padded, offsets.expand(2, -1, -1, -1, -1), valid, aggregation, confidences)
    for i, (views, some) in enumerate([([0, 2], slice(0, 2)), ([0, 1, 2], slice(2, 5))]):
        count = len(views)
        alone = unproject(features[some], P[None, views], offsets, all_valid(1, count), aggregation, confidences[some])
        torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_gradients_reach_features_and_confidences(aggregation):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(4, 2, 6, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    confidences = torch.rand(4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    offsets = voxel_offsets(2000.0, 3, EYE.double()).expand(2, -1, -1, -1, -1)
    P, valid = ring(2, (6, 6)).expand(2, -1, -1, -1), all_valid(2, 2)
    given = (features, confidences) if aggregation.startswith("conf") else (features,)
    assert torch.autograd.gradcheck(
        lambda f, c=None: unproject(f, P, offsets, valid, aggregation, c, memory_bytes=2000), given
    )


def test_memory_is_no_matter_of_the_answer():
    features = torch.randn(6, 8, 24, 24, generator=torch.Generator().manual_seed(2))
    offsets = voxel_offsets(2400.0, 10, EYE).expand(2, -1, -1, -1, -1)
    P, valid = ring(3).expand(2, -1, -1, -1), all_valid(2, 3)
    whole, pieces = (
        unproject(features, P, offsets, valid, "softmax", memory_bytes=budget) for budget in (2**30, 5_000)
    )
    torch.testing.assert_close(whole, pieces)
    assert whole.is_contiguous(memory_format=torch.channels_last_3d)


def test_centred_projections_keep_their_digits():
    P, base = ring(2)[None], torch.tensor([[90_000.0, -70_000.0, 800.0]], dtype=torch.float64)
    far = P.clone()
    far[..., 3] -= torch.einsum("bvrc,bc->bvr", P[..., :3], base)  # the same cameras about a person far away
    offsets = voxel_offsets(2000.0, 4, EYE)
    features = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(3))
    near, moved = (unproject(features, p.float(), offsets, all_valid(1, 2), "sum") for p in (P, centred(far, base)))
    torch.testing.assert_close(near, moved, rtol=0, atol=1e-4)


def test_what_is_refused():
    given = (torch.zeros(2, 3, 8, 8), ring(2)[None], torch.zeros(1, 2, 2, 2, 3), all_valid(1, 2))
    with pytest.raises(ValueError, match="mean"):
        unproject(*given, "mean")
    with pytest.raises(ValueError, match="conf"):
        unproject(*given, "conf")
