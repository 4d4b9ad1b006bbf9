import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.nets import losses
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.joints import see_both_ways, see_joints
from poseboard.methods.nets.pose_resnet import BLOCKS, SmallPoseNet, build_backbone
from poseboard.methods.nets.soft_argmax import soft_argmax_2d
from poseboard.methods.volumetric.losses import voxel_cross_entropy


@pytest.mark.parametrize("network", ["small", *(f"resnet{depth}" for depth in BLOCKS if depth < 101)])
def test_one_interface(network):
    net = build_backbone(network, 5, alg_confidences=True).eval()
    with torch.inference_mode():
        out = net(torch.randn(2, 3, 128, 128))
    assert out.heatmaps.shape == (2, 5, 32, 32)
    assert out.features.shape[::2] == (2, 32)
    assert out.alg_confidences.shape == (2, 5)
    assert ((out.alg_confidences > 0) & (out.alg_confidences < 1)).all()
    assert out.vol_confidences is None


def test_confidence_head_does_not_bend_the_heatmaps():
    net = SmallPoseNet(4, alg_confidences=True)
    net(torch.randn(2, 3, 64, 64)).alg_confidences.sum().backward()
    assert net.final_layer.weight.grad is None
    assert all(torch.isfinite(p.grad).all() for p in net.alg_confidences.parameters())


def test_confidence_head_survives_a_map_of_one_pixel():
    net = SmallPoseNet(4, alg_confidences=True)
    maps = torch.zeros(1, 4, 16, 16)
    maps[..., 3, 3] = 1e4
    assert torch.isfinite(net.alg_confidences(maps, torch.zeros(1, 48, 16, 16))).all()


@settings(max_examples=25, deadline=None)
@given(
    x=st.floats(2, 28), y=st.floats(2, 20), sharpness=st.floats(0.1, 1), multiplier=st.sampled_from([1.0, 10.0, 100.0])
)
def test_soft_argmax_finds_the_mean_of_a_gaussian(x, y, sharpness, multiplier):
    grid_y, grid_x = torch.meshgrid(torch.arange(60.0) - 15, torch.arange(70.0) - 15, indexing="ij")
    logits = -sharpness * ((grid_x - x) ** 2 + (grid_y - y) ** 2) / multiplier
    point, maps = soft_argmax_2d(logits.double(), multiplier)
    assert point.numpy() == pytest.approx([x + 15, y + 15], abs=0.05)
    assert maps.sum().item() == pytest.approx(1)


def test_soft_argmax_in_low_precision_is_taken_in_float32():
    point, _ = soft_argmax_2d(torch.zeros(1, 1, 64, 64, dtype=torch.bfloat16))
    assert point.dtype == torch.float32
    assert point.flatten().tolist() == pytest.approx([31.5, 31.5], abs=1e-3)


LOSSES = {
    "mse": losses.keypoint_mse,
    "mse_smooth": losses.keypoint_mse_smooth,
    "mae": losses.keypoint_mae,
    "l2": losses.keypoint_l2,
    "robust": lambda p, t, v: losses.keypoint_robust(p, t, v, 50.0),
}
points = arrays.arrays(np.float64, (2, 3, 3), elements=st.floats(-1e3, 1e3))


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25, deadline=None)
@given(predicted=points, truth=points, valid=arrays.arrays(np.bool_, (2, 3, 1)))
def test_invalid_joints_touch_neither_loss_nor_gradient(name, predicted, truth, valid):
    mask = torch.from_numpy(valid)
    clean = torch.from_numpy(predicted).requires_grad_()
    loss = LOSSES[name](clean, torch.from_numpy(truth), mask.double())
    (gradient,) = torch.autograd.grad(loss, clean)
    spoiled = torch.from_numpy(np.where(valid, predicted, np.nan)).requires_grad_()
    again = LOSSES[name](spoiled, torch.from_numpy(np.where(valid, truth, np.nan)), mask.double())
    (spoiled_gradient,) = torch.autograd.grad(again, spoiled)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(spoiled_gradient, gradient)
    assert (gradient[~mask.expand_as(gradient)] == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_vanish_with_finite_gradient_at_the_truth(name):
    predicted = torch.ones(1, 2, 3, requires_grad=True)
    loss = LOSSES[name](predicted, torch.ones(1, 2, 3), torch.ones(1, 2, 1))
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert loss.item() == 0
    assert (gradient == 0).all()


def test_robust_loss_pulls_hardest_at_its_scale():
    offset = torch.tensor([10.0, 50.0, 500.0], requires_grad=True)
    for value in offset:
        losses.keypoint_robust(
            torch.stack([value, value * 0, value * 0])[None, None], torch.zeros(1, 1, 3), torch.ones(1, 1, 1), 50.0
        ).backward(retain_graph=True)
    assert offset.grad.argmax() == 1


def test_heatmap_cross_entropy_is_lowest_at_the_truth():
    grid_y, grid_x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    truth = torch.tensor([[[9.3, 14.0]]])

    def loss(x, y, weight=1.0):
        logits = -((grid_x - x) ** 2 + (grid_y - y) ** 2)[None, None] / 2
        return losses.heatmap_cross_entropy(logits, truth, torch.full((1, 1), weight)).item()

    assert loss(9.3, 14) < min(loss(10.3, 14), loss(8.3, 14), loss(9.3, 15), loss(9.3, 13))
    assert loss(0, 0, weight=0.0) == 0


def test_a_truth_outside_the_volume_counts_at_its_border():
    axis = torch.tensor([0.0, 1.0])
    positions = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)[None]
    p = torch.full((1, 1, 2, 2, 2), 0.1)
    p[0, 0, 1, 1, 1] = 0.3
    outside = torch.tensor([[[50.0, 60.0, 70.0]]])
    found = voxel_cross_entropy(positions, p, outside, torch.ones(1, 1, 1))
    assert found.item() == pytest.approx(-np.log(0.3), rel=1e-4)


def test_what_is_seen_both_ways_turns_with_the_image():
    """Of the mirror image it is the mirrored answer, which that of one way alone is not."""
    architecture = Architecture(network="small", joints=HUMAN36M.joints, crop_px=64, alg_confidences=True).exact
    net, order = architecture.build(seed=1).eval(), list(HUMAN36M.flip_order)
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def mirrored(points_px):
        return torch.stack([63 - points_px[:, order, 0], points_px[:, order, 1]], dim=-1)

    with torch.inference_mode():
        one = see_joints(architecture, net, images)
        both, turned = (see_both_ways(architecture, net, way, order) for way in (images, images.flip(-1)))
    torch.testing.assert_close(turned.points_px, mirrored(both.points_px), atol=1e-3, rtol=0)
    torch.testing.assert_close(turned.confidences, both.confidences[:, order], atol=1e-5, rtol=0)
    assert not torch.allclose(both.points_px, one.points_px, atol=0.1)
