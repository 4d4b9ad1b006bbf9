from pathlib import Path

import numpy as np
import pytest
import torch

from poseboard.methods.nets import losses
from poseboard.methods.nets.pose_resnet import PoseResNet
from poseboard.methods.nets.soft_argmax import soft_argmax_2d, soft_argmax_3d


def noise(seed, shape):
    values = np.random.default_rng(int(seed)).standard_normal(tuple(shape))
    return torch.from_numpy(values.astype(np.float32))


@pytest.fixture(autouse=True)
def _inference():
    torch.set_num_threads(1)


@pytest.mark.parametrize(("depth", "tolerance"), [(50, 1e-4), (152, 1e-3)])
def test_pose_resnet(golden, fill_by_rule, depth, tolerance):
    stored = golden("pose_resnet")
    tag = f"r{depth}_"
    net = PoseResNet(depth, 17, alg_confidences=True, vol_confidences=True).eval()
    fill_by_rule(net, stored["weight_seed"])
    with torch.inference_mode():
        out = net(noise(stored[tag + "image_seed"], stored[tag + "image_shape"]))
    found = {
        "heatmaps": out.heatmaps,
        "features_every32nd_channel": out.features[:, ::32],
        "alg_confidences": out.alg_confidences,
        "vol_confidences": out.vol_confidences,
    }
    for name, value in found.items():
        want = stored[tag + name]
        np.testing.assert_allclose(value, want, rtol=0, atol=tolerance * np.abs(want).max(), err_msg=name)
    assert out.features.abs().mean() == pytest.approx(float(stored[tag + "features_mean_abs"]), rel=tolerance)


@pytest.mark.parametrize(
    ("name", "multiplier", "softmax"), [("softmax_x1", 1, True), ("softmax_x100", 100, True), ("relu", 1, False)]
)
def test_softargmax_2d(golden, name, multiplier, softmax):
    stored = golden("softargmax_2d")
    coordinates, maps = soft_argmax_2d(torch.from_numpy(stored["heatmaps"]), multiplier, softmax)
    np.testing.assert_allclose(coordinates, stored[f"coords_{name}"], rtol=0, atol=1e-3)
    want = stored[f"probs_{name}" if softmax else "maps_relu"]
    np.testing.assert_allclose(maps[:, :2], want, rtol=0, atol=1e-5)


def test_softargmax_3d(golden):
    stored = golden("softargmax_3d")
    volumes, positions = torch.from_numpy(stored["volumes"]), torch.from_numpy(stored["coord_volumes"])
    index, p = soft_argmax_3d(volumes)
    np.testing.assert_allclose(index, stored["index_coords_softmax"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(p[:, :1], stored["probs_softmax"], rtol=0, atol=1e-5)
    index, _ = soft_argmax_3d(volumes, softmax=False)
    np.testing.assert_allclose(index, stored["index_coords_relu"], rtol=0, atol=1e-3)
    world, _ = soft_argmax_3d(volumes, positions)
    np.testing.assert_allclose(world, stored["world_coords_softmax"], rtol=0, atol=0.01)
    world, _ = soft_argmax_3d(volumes, positions, softmax=False, unnormalised_relu=True)
    np.testing.assert_allclose(world, stored["world_coords_relu_unnormalised"], rtol=1e-5)


KEYPOINT_LOSSES = {
    "mse": losses.keypoint_mse,
    "mse_smooth_400": lambda p, t, v: losses.keypoint_mse_smooth(p, t, v, 400.0),
    "mae": losses.keypoint_mae,
    "l2": losses.keypoint_l2,
}


@pytest.mark.parametrize("name", KEYPOINT_LOSSES)
@pytest.mark.parametrize("scaled", [False, True])
def test_keypoint_losses(golden, name, scaled):
    stored = golden("losses")
    scale = float(stored["scale_keypoints_3d"]) if scaled else 1.0
    suffix = "_scaled" if scaled else ""
    predicted = torch.from_numpy(stored["pred"]).requires_grad_()
    truth, validity = torch.from_numpy(stored["gt"]), torch.from_numpy(stored["validity"])
    loss = KEYPOINT_LOSSES[name](predicted * scale, truth * scale, validity)
    assert loss.item() == pytest.approx(float(stored[name + suffix]), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert torch.isfinite(gradient).all()
    want = stored[f"{name}{suffix}_grad"]
    known = np.isfinite(want)
    np.testing.assert_allclose(gradient.numpy()[known], want[known], rtol=1e-4, atol=1e-4 * np.abs(want[known]).max())
    nothing = KEYPOINT_LOSSES[name](predicted, truth, torch.zeros_like(validity))
    assert nothing.item() == float(stored[f"{name}_all_invalid"])


def test_voxel_cross_entropy(golden):
    stored = golden("losses")
    positions, volumes = torch.from_numpy(stored["ce_coord_volumes"]), torch.from_numpy(stored["ce_volumes"])
    n = len(volumes)
    truth, validity = torch.from_numpy(stored["gt"])[:n], torch.from_numpy(stored["validity"])[:n]
    found = losses.voxel_cross_entropy(positions, volumes, truth, validity)
    assert found.item() == pytest.approx(float(stored["ce"]), rel=1e-5)
