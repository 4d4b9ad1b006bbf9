"""The network of rays_mlp against numbers recorded from the reference implementation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from filled_weights import filled

from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.rays_mlp.losses import IMAGE_WING, wing_loss
from poseboard.methods.rays_mlp.mobileone import EncoderSizes, Maps, MobileOneBlock, folded
from poseboard.methods.rays_mlp.model import (
    Fusion,
    FusionSizes,
    RaysArchitecture,
    RaysNet,
    decode_peaks,
    rays,
    sampled_features,
)
from poseboard.methods.rays_mlp.published import published

pytestmark = pytest.mark.usefixtures("weights_are_given")

NORM = 0.75
RELEASE = RaysArchitecture(
    joints=HUMAN36M.joints, views=4, crop_px=64, encoder=EncoderSizes(), features=True, compat=True
)


def shapes_of(texts):
    return [tuple(int(side) for side in text.split("x") if side) for text in texts]


def filled_module(module, prefix):
    """With the weights of the rule, whose keys have a prefix."""
    state = module.state_dict()
    keys = [prefix + key for key in state]
    values = filled(keys, [tuple(value.shape) for value in state.values()], norm=NORM)
    module.load_state_dict({key.removeprefix(prefix): value.clone() for key, value in values.items()}, assign=True)
    return module.eval()


def empty(architecture):
    """Without weights, which are many."""
    with torch.device("meta"):
        return RaysNet(architecture)


@pytest.fixture(scope="module")
def net():
    return filled_module(empty(RELEASE), "")


@pytest.fixture(scope="module")
def deployed(net):
    return folded(net)


def close_to_maximum(found, expected, share):
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * np.abs(expected).max())


def test_keys_in_both_forms(golden_probabilistic, net, deployed):
    file = golden_probabilistic("state_dict_keys")
    state = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert state == dict(zip(file["train_keys"].tolist(), shapes_of(file["train_shapes"].tolist()), strict=True))
    first = [float(net.state_dict()[key].flatten()[0]) for key in file["train_keys"].tolist()]
    np.testing.assert_allclose(first, file["train_first"], rtol=1e-6)
    keys = dict(zip(file["deploy_keys"].tolist(), shapes_of(file["deploy_shapes"].tolist()), strict=True))
    assert {key: tuple(value.shape) for key, value in deployed.state_dict().items()} == keys
    for form, module in (("train", net), ("deploy", deployed)):
        imported = published(module.state_dict(), Path("pretrain.pth"))
        assert imported.architecture["deploy"] == (form == "deploy")
        assert imported.architecture["views"] == 4
        assert imported.architecture["compat"] is True
        assert imported.state.keys() == set(file[f"{form}_keys"].tolist())


@pytest.mark.parametrize(
    ("case", "arguments"),
    [
        ("dense_skip", {"width_in": 6, "width_out": 6}),
        ("depthwise_s2", {"width_in": 8, "width_out": 8, "stride": 2, "groups": 8}),
        ("depthwise_se", {"width_in": 32, "width_out": 32, "groups": 32, "excite": True}),
        ("pointwise", {"width_in": 6, "width_out": 10, "kernel": 1}),
        ("three_branch", {"width_in": 6, "width_out": 6, "branches": 3}),
    ],
)
def test_blocks(golden_probabilistic, case, arguments):
    file = golden_probabilistic("mobileone_blocks")
    block = filled_module(MobileOneBlock(**arguments), f"block.{case}.")
    images = torch.from_numpy(file[f"{case}_in"])
    with torch.no_grad():
        np.testing.assert_allclose(block(images), file[f"{case}_out"], rtol=0, atol=5e-6)
        kernel, bias = block.fused()
        np.testing.assert_allclose(kernel, file[f"{case}_kernel"], rtol=0, atol=5e-6)
        np.testing.assert_allclose(bias, file[f"{case}_bias"], rtol=0, atol=5e-6)
        np.testing.assert_allclose(folded(block)(images), file[f"{case}_out"], rtol=0, atol=5e-6)


@pytest.mark.parametrize("form", ["net", "deployed"])
def test_encoder(golden_probabilistic, form, request):
    file = golden_probabilistic("backbone")
    backbone = request.getfixturevalue(form).backbone
    with torch.no_grad():
        maps = backbone(torch.from_numpy(file["image"]))
        np.testing.assert_allclose(maps.heatmaps, file["hm"], rtol=0, atol=2e-6)
        close_to_maximum(maps.offsets, file["reg"], 1e-5)
        close_to_maximum(maps.features[:, ::4], file["feature"], 1e-5)
        x = torch.from_numpy(file["image"])
        for i, stage in enumerate(backbone.stages()):
            x = stage(x)
            assert tuple(x.shape) == tuple(file[f"stage{i}_shape"])
            close_to_maximum(x.mean(dim=(2, 3)), file[f"stage{i}_chmean"], 1e-5)
            close_to_maximum(x.amax(dim=(2, 3)), file[f"stage{i}_chmax"], 1e-5)


def test_folded_kernels(golden_probabilistic, net):
    file = golden_probabilistic("backbone")
    blocks = {"stage0": net.backbone.stage0, "stage1_0": net.backbone.stage1[0], "stage1_2": net.backbone.stage1[2]}
    for name, block in blocks.items():
        for found, part in zip(block.fused(), ("kernel", "bias"), strict=True):
            np.testing.assert_allclose(found.detach(), file[f"reparam_{name}_{part}"], rtol=0, atol=1e-6)


def test_decoding(golden_probabilistic):
    file = golden_probabilistic("decode")
    count, _, side, _ = file["heatmap"].shape
    grid = np.arange(side)
    channel, view = np.arange(1, 129)[None, :, None, None], np.arange(count)[:, None, None, None]
    wave = np.sin(0.01 * channel * grid + 0.3 * view) + np.cos(0.008 * channel * grid[:, None] - 0.2 * view)
    maps = Maps(*(torch.from_numpy(file[name]) for name in ("heatmap", "offset")), torch.from_numpy(wave).float())
    cells, peak, index = decode_peaks(maps)
    np.testing.assert_array_equal(index, file["peak_index"])
    points = (cells * (int(file["image_size"]) / side)).unflatten(0, (2, 4))
    np.testing.assert_allclose(points, file["x2d"], rtol=0, atol=1e-3)
    found = rays(points, peak.unflatten(0, (2, 4)), torch.from_numpy(file["K"]))
    np.testing.assert_allclose(found, file["xdir"], rtol=0, atol=1e-5)
    features = sampled_features(maps.features, cells).unflatten(0, (2, 4))
    np.testing.assert_allclose(features, file["xfeat"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("views", [4, 3])
def test_fusion(golden_probabilistic, net, views):
    file = golden_probabilistic("fusion")
    fusion = filled_module(Fusion(17, views, 128, FusionSizes()), "fusion.")
    directions, features = (torch.from_numpy(file[f"v{views}_{name}"]).requires_grad_() for name in ("xdir", "xfeat"))
    pose = fusion(directions, features)
    np.testing.assert_allclose(pose.detach(), file[f"v{views}_x3d"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(fusion(directions).detach(), file[f"v{views}_x3d_no_feat"], rtol=0, atol=2e-6)
    loss = wing_loss(pose, torch.from_numpy(file[f"v{views}_target"]), *IMAGE_WING).mean()
    np.testing.assert_allclose(float(loss.detach()), file[f"v{views}_loss"], rtol=2e-6)
    loss.backward()
    close_to_maximum(directions.grad, file[f"v{views}_grad_xdir"], 1e-3)
    close_to_maximum(features.grad, file[f"v{views}_grad_xfeat"], 1e-3)


@pytest.mark.parametrize("form", ["net", "deployed"])
def test_images_to_poses(golden_probabilistic, form, request):
    file = golden_probabilistic("end_to_end")
    net = request.getfixturevalue(form)
    images = torch.from_numpy(file["image"])[0]
    as_loaded = images.permute(0, 2, 3, 1).flip(-1) * 255  # RGB, 0 … 255
    with torch.no_grad():
        answer = net(as_loaded, torch.from_numpy(file["K"]))
    apart = np.abs(answer.seen.points_px[None].numpy() - file["x2d"]).max(axis=-1)
    flipped = apart > 1e-3  # peaks lead by 1e-6: rounding may flip one
    assert flipped.sum() <= 1
    np.testing.assert_allclose(answer.seen.peak[None], file["heatmap_max"], rtol=0, atol=1e-5)
    if not flipped.any():
        np.testing.assert_allclose(answer.pose_mm, file["x3d"], rtol=0, atol=1e-5)
