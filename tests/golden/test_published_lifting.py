"""Lifting networks as the release saves them, brought in and used, against its steps written out plainly.

Weights follow the rule of the vectors' README; keys, shapes and steps are those of epipolar transformers' release.
"""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from poseboard.benchmarks import cli
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.rhd import RHD_HAND
from poseboard.datasets.sample import HANDS, Group, Sample, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.lifting.method import Lifting
from poseboard.methods.lifting.model import ImageLiftingNet, LiftingNet
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.detector import decode_heatmaps
from poseboard.methods.nets.pose_resnet import PoseResNet
from poseboard.methods.weights import import_weights

WEIGHT_SEED, SCALE_MM, SIDE = 5, 450.0, 256
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
RELEASE = [
    *("pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("spine", "thorax", "nose", "head_top"),
    *("left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist"),
]
"""The release's 17 joints of a body, by our names: those of its skeleton's edges."""


def released(fill_by_rule, network, joints=17, handed=False):
    """The release's two modules on a ResNet-18 and the state it saves of them, under data parallel's prefixes."""
    nets = {
        "direct": lambda: LiftingNet(joints, 64, 8, rotation=False, handed=handed),
        "rotation": lambda: LiftingNet(joints, 64, 2, rotation=True, handed=handed),
        "image_rotation": lambda: ImageLiftingNet(joints, 512, handed=handed),
    }
    model = nn.ModuleDict({"backbone": PoseResNet(18, joints), "liftingnet": nets[network]()}).eval()
    fill_by_rule(model, WEIGHT_SEED)
    model["backbone"].final_layer.weight.data *= 100  # or the answer hardly depends on the picture
    state = {".module.".join(key.split(".", 1)): value for key, value in model.state_dict().items()}
    if network == "image_rotation":  # its ResNet answers image features and has no layers behind them
        behind = ("backbone.module.deconv_layers.", "backbone.module.final_layer.")
        state = {key: value for key, value in state.items() if not key.startswith(behind)}
    return model, state


@pytest.fixture(scope="module")
def direct_state(fill_by_rule):
    """What the release saves of its network "direct"; tests do not change it."""
    return released(fill_by_rule, "direct")[1]


def saved(tmp_path, state):
    path = tmp_path / "model_final.pth"
    torch.save({"model": state, "epoch": 16, "optimizer": {}, "scheduler": {}}, path)
    return path


def run_import(monkeypatch, file, out, *more):
    """By the command line."""
    arguments = ["weights", "import", "lifting", file, "--set", f"scale_mm={SCALE_MM}", "--out", out, *more]
    monkeypatch.setattr(sys, "argv", ["poseboard", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code


def sample(hand=None):
    blocks = np.random.default_rng(3).integers((120, 20, 20), (240, 140, 60), (8, 8, 3), dtype=np.uint8)  # reddish
    image = np.kron(blocks, np.ones((SIDE // 8, SIDE // 8, 1), dtype=np.uint8))
    camera = Camera(np.array([[300.0, 0, 128], [0, 300, 128], [0, 0, 1]]), np.eye(3), np.zeros(3), size=(SIDE, SIDE))
    view = View("view-0", camera, image, np.zeros((1, 4)))
    return image, Sample("key", (view,), Group("S9", "Walking", "s"), hand=hand)


@torch.inference_mode()
def lifted(model, pixels, side=None):
    """(J, 3) about the root, times the size: what the release answers to pixels (S, S, 3) as its network takes them."""
    out = model["backbone"](torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))[None])
    net = model["liftingnet"]
    seen = out.deepest.mean(dim=(-2, -1)) if isinstance(net, ImageLiftingNet) else out.heatmaps
    return net(seen, side).pose[0].numpy() * SCALE_MM


@pytest.mark.parametrize("network", ["direct", "rotation", "image_rotation"])
def test_a_body_is_lifted_as_by_the_release(tmp_path, fill_by_rule, monkeypatch, network):
    model, state = released(fill_by_rule, network)
    file, ours = saved(tmp_path, state), tmp_path / "ours.pt"
    run_import(monkeypatch, file, ours)
    method = Lifting({"network": network}, HUMAN36M)
    method.load(ours, "cpu")
    assert method.inputs.crop_px == SIDE
    image, seen = sample()
    (answer,) = method.predict([seen])
    expected, with_rgb = (lifted(model, (pixels / 255 - MEAN) / STD) for pixels in (image[..., ::-1], image))
    order = [RELEASE.index(joint) for joint in HUMAN36M.joints]
    assert order != sorted(order)
    np.testing.assert_allclose(answer.joints_mm[0], expected[order], rtol=1e-4, atol=0.02)
    assert np.abs(with_rgb - expected).max() > 0.5


@pytest.mark.parametrize("network", ["direct", "rotation", "image_rotation"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_hand_is_lifted_as_by_the_release(tmp_path, fill_by_rule, network, side):
    model, state = released(fill_by_rule, network, joints=21, handed=True)
    import_weights("lifting", saved(tmp_path, state), scale_mm=SCALE_MM).save(tmp_path / "ours.pt")
    method = Lifting({"network": network}, RHD_HAND)
    method.load(tmp_path / "ours.pt", "cpu")
    image, seen = sample(HANDS[side])
    (answer,) = method.predict([seen])
    stretched = 255.0 * (image - float(image.min())) / float(image.max() - image.min())
    expected, other = (lifted(model, stretched, torch.tensor([[float(value)]])) for value in (side, 1 - side))
    longest = np.abs(expected).max()
    np.testing.assert_allclose(answer.joints_mm[0], expected, rtol=0, atol=1e-4 * longest)
    assert np.abs(other - expected).max() > 1e-3 * longest


@pytest.mark.parametrize("network", ["direct", "rotation"])
@pytest.mark.parametrize("kind", ["hand", "body"])
def test_networks_on_true_maps_see_maps_like_those(tmp_path, fill_by_rule, monkeypatch, network, kind):
    """Gaussians about the joints that a backbone of ours finds; of hands transposed and in a corner of a larger map."""
    skeleton, side_px = (RHD_HAND, 64) if kind == "hand" else (HUMAN36M, 96)
    cells, sigma = (224, 25) if kind == "hand" else (64, 8)
    net = LiftingNet(len(skeleton), cells, 8, rotation=network == "rotation", handed=kind == "hand").eval()
    fill_by_rule(net, WEIGHT_SEED)
    file = saved(tmp_path, {f"liftingnet.module.{key}": value for key, value in net.state_dict().items()})
    architecture = Architecture(network="small", joints=skeleton.joints, crop_px=side_px, multiplier=20.0)
    ours = architecture.build(seed=3).eval()
    Checkpoint("backbone", architecture.plain(), ours.state_dict()).save(tmp_path / "backbone.pt")
    run_import(monkeypatch, file, tmp_path / "ours.pt", "--set", f"backbone={tmp_path / 'backbone.pt'}")
    method = Lifting({"network": network}, skeleton)
    method.load(tmp_path / "ours.pt", "cpu")
    assert method.inputs.crop_px == side_px
    image = np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    camera = Camera(np.array([[80.0, 0, 32], [0, 80, 32], [0, 0, 1]]), np.eye(3), np.zeros(3), size=(side_px, side_px))
    view = View("view-0", camera, image, np.zeros((1, 4)))
    (answer,) = method.predict([Sample("key", (view,), Group("rhd", "", "s"), hand=HANDS[1])])
    with torch.inference_mode():
        heatmaps = ours(architecture.prepare(torch.from_numpy(image)[None])).heatmaps
        points = decode_heatmaps(architecture, heatmaps, "softargmax")[0][0].numpy() * 256 / side_px
        assert np.ptp(points, axis=0).min() > 1
        if kind == "hand":
            points = points[:, ::-1]
        order = [HUMAN36M.joints.index(joint) for joint in RELEASE] if kind == "body" else range(21)
        centres = 4 * np.arange(cells) + 1.5
        squared = [(points[list(order), axis, None] - centres) ** 2 for axis in (0, 1)]
        exponent = (squared[1][:, :, None] + squared[0][:, None, :]) / (2 * sigma**2)
        maps = torch.from_numpy(np.exp(-np.minimum(exponent, 4.60517019)).astype(np.float32))[None]
        side = torch.ones(1, 1) if kind == "hand" else None
        expected = net(maps, side).pose[0].numpy() * SCALE_MM
    if kind == "body":
        expected = expected[[RELEASE.index(joint) for joint in HUMAN36M.joints]]
    longest = np.abs(expected).max()
    np.testing.assert_allclose(answer.joints_mm[0], expected, rtol=0, atol=1e-4 * longest)


def test_a_backbone_is_given_where_one_is_needed(tmp_path, direct_state):
    state = direct_state
    architecture = Architecture(network="small", joints=RHD_HAND.joints, crop_px=64)
    hands = tmp_path / "hands.pt"
    Checkpoint("backbone", architecture.plain(), architecture.build(seed=3).state_dict()).save(hands)
    with pytest.raises(InputError, match="--set backbone"):
        import_weights("lifting", saved(tmp_path, state), scale_mm=SCALE_MM, backbone=hands)
    alone = {key: value for key, value in state.items() if key.startswith("liftingnet")}
    with pytest.raises(InputError, match="human36m-17"):
        import_weights("lifting", saved(tmp_path, alone), scale_mm=SCALE_MM, backbone=hands)
    with pytest.raises(InputError, match=r"algebraic --set backbone: .*joints"):
        import_weights("algebraic", saved(tmp_path, state), backbone=hands)
    alone["liftingnet.module.extra"] = torch.zeros(2)
    bodies = Architecture(network="small", joints=HUMAN36M.joints, crop_px=64)
    Checkpoint("backbone", bodies.plain(), bodies.build(seed=3).state_dict()).save(tmp_path / "bodies.pt")
    with pytest.raises(InputError, match=r"liftingnet\.extra"):
        import_weights("lifting", saved(tmp_path, alone), scale_mm=SCALE_MM, backbone=tmp_path / "bodies.pt")


def test_layers_behind_the_pooled_features_may_be_there(tmp_path, fill_by_rule, caplog):
    _, state = released(fill_by_rule, "image_rotation")
    alone = import_weights("lifting", saved(tmp_path, state), scale_mm=SCALE_MM)
    head = {"backbone.module.fc.weight": torch.ones(1000, 512), "backbone.module.fc.bias": torch.ones(1000)}
    found = import_weights("lifting", saved(tmp_path, {**state, **head}), scale_mm=SCALE_MM)
    assert found.state.keys() == alone.state.keys()
    assert all(torch.equal(found.state[key], value) for key, value in alone.state.items())
    assert "2 tensors behind the pooled features are left out" in caplog.text


def test_every_key_that_does_not_fit_is_listed(tmp_path, fill_by_rule):
    for network in ("direct", "image_rotation"):
        _, state = released(fill_by_rule, network)
        branch = "poseprior.3" if network == "direct" else "viewpoint"
        del state["backbone.module.bn1.weight"]
        state["liftingnet.module.extra"] = torch.zeros(2)
        state["reference.module.conv1.weight"] = torch.zeros(2)
        state[f"liftingnet.module.{branch}.bias"] = torch.zeros(4)
        with pytest.raises(InputError) as error:
            import_weights("lifting", saved(tmp_path, state), scale_mm=SCALE_MM)
        for told in (
            "backbone.bn1.weight",
            "liftingnet.extra, reference.conv1.weight",
            f"liftingnet.{branch}.bias (4,)",
        ):
            assert told in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda s: {k: v for k, v in s.items() if k.startswith("liftingnet")}, "--set backbone"),
        (lambda s: {k: v for k, v in s.items() if k.startswith("backbone")}, "liftingnet"),
        (lambda s: {k: v for k, v in s.items() if not k.endswith("poseprior.6.weight")}, r"poseprior\.6\.weight"),
        (lambda s: {**s, "liftingnet.module.poseprior.6.weight": torch.zeros(50, 512)}, r"\(50, 512\)"),
        (lambda s: {**s, "liftingnet.module.poseprior.0.weight": torch.zeros(512)}, r"\(512,\)"),
        # maps of 224, which no backbone of the release answers to its crops of 256
        (lambda s: {**s, "liftingnet.module.poseprior.0.weight": torch.zeros(512, 2048)}, r"\(512, 2048\)"),
        (lambda s: {k: v for k, v in s.items() if ".layer3." not in k}, "PoseResNet"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, direct_state, spoil, told):
    with pytest.raises(InputError, match=told):
        import_weights("lifting", saved(tmp_path, spoil(direct_state)), scale_mm=SCALE_MM)


def test_the_size_has_to_be_given(tmp_path, direct_state):
    file = saved(tmp_path, direct_state)
    for scale_mm in (None, 0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="--set scale_mm"):
            import_weights("lifting", file, scale_mm=scale_mm)
