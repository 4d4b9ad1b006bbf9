from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Group, Sample, Truth, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.batches.augmentation import NO_AUGMENTATION
from poseboard.methods.batches.multiview import drawn_views
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.soft_argmax import soft_argmax_3d
from poseboard.methods.volumetric.method import Volumetric
from poseboard.methods.volumetric.model import VolumetricArchitecture, VolumetricTriangulation
from poseboard.methods.volumetric.train import VolumetricOptions, VolumetricTraining
from poseboard.methods.volumetric.unprojection import AGGREGATIONS, rotation_about, unproject, voxel_offsets
from poseboard.methods.volumetric.v2v import V2V
from poseboard.methods.weights import import_weights

pytestmark = pytest.mark.usefixtures("weights_are_given")

JOINTS = tuple(f"joint_{i}" for i in range(17))
PELVIS, HIPS = 6, [11, 12]


def noise(seed, shape):
    values = np.random.default_rng(int(seed)).standard_normal(tuple(shape))
    return torch.from_numpy(values.astype(np.float32))


@pytest.fixture(autouse=True)
def _inference():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


def test_rotations(golden):
    stored = golden("coord_volumes")
    axes = stored["axes"] / np.linalg.norm(stored["axes"], axis=-1, keepdims=True)
    found = rotation_about(torch.from_numpy(axes), torch.from_numpy(stored["thetas"]))
    np.testing.assert_allclose(found, stored["rotation_matrices"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["mpii_eval", "mpii_train", "coco_train", "mpii_transfer_eval", "coco_transfer_train"])
def test_coordinate_volumes(golden, name):
    stored = golden("coord_volumes")
    joints = torch.from_numpy(stored["keypoints_3d_for_base"])
    coco = name.startswith("coco")
    base = joints[:, HIPS].mean(dim=1) if coco else joints[:, PELVIS]
    np.testing.assert_allclose(base, stored[f"{name}_base_points"], rtol=0, atol=1e-3)
    axis = torch.tensor([0.0, 1, 0] if coco else [0.0, 0, 1], dtype=torch.float64)
    turn = rotation_about(axis, torch.from_numpy(stored[f"{name}_thetas"]))
    offsets = voxel_offsets(
        float(stored["cuboid_side"]), int(stored["volume_size"]), turn.float(), transfer="transfer" in name
    )
    positions = base[:, None, None, None] + offsets
    np.testing.assert_allclose(positions, stored[f"{name}_coord_volumes"], rtol=0, atol=0.01)
    uniform, _ = soft_argmax_3d(torch.zeros(len(base), 1, *offsets.shape[1:4]), positions)
    np.testing.assert_allclose(uniform, stored[f"{name}_uniform_volume_keypoints"], rtol=0, atol=0.01)


def in_its_plane(P, positions):
    """(B, V, x, y, z) whether a voxel is less than 5 mm before or behind the camera."""
    depth = torch.einsum("bvc,bxyzc->bvxyz", P[:, :, 2, :3], positions) + P[:, :, 2, 3, None, None, None]
    return depth.abs() < 5


@pytest.mark.parametrize("memory_bytes", [None, 10_000])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("tag", ["square", "behind", "nonsquare_quirk"])
def test_unprojection(golden, tag, aggregation, memory_bytes):
    stored = golden("unproject")
    features, P, positions, confidences = (
        torch.from_numpy(stored[f"{tag}_{name}"]) for name in ("features", "P", "coord_volumes", "view_confidences")
    )
    found = unproject(
        features.flatten(0, 1),
        P,
        positions,
        torch.ones(P.shape[:2], dtype=torch.bool),
        aggregation,
        confidences.flatten(0, 1),
        compat=True,
        memory_bytes=memory_bytes,
    )
    difference = np.abs(found.numpy() - stored[f"{tag}_{aggregation}"])
    if tag == "behind":  # a point in a camera's plane is anywhere in its image
        difference[in_its_plane(P, positions).any(dim=1)[:, None].expand(found.shape).numpy()] = 0
    assert difference.max() < 2e-3
    assert (difference < 1e-4).mean() > 0.99


@pytest.mark.parametrize("tag", ["square", "behind", "nonsquare_quirk"])
def test_unprojection_of_single_views(golden, tag):
    stored = golden("unproject")
    features, P, positions = (torch.from_numpy(stored[f"{tag}_{name}"]) for name in ("features", "P", "coord_volumes"))
    valid = torch.eye(P.shape[1], dtype=torch.bool)
    count = len(valid)
    found = unproject(
        features[0], P[:1].expand(count, -1, -1, -1), positions[:1].expand(count, *positions.shape[1:]), valid, "sum",
        compat=True,
    )  # fmt: skip
    difference = np.abs(found.numpy() - stored[f"{tag}_per_view"][0])
    if tag == "behind":
        difference[in_its_plane(P[:1], positions[:1])[0][:, None].expand(found.shape).numpy()] = 0
    assert difference.max() < 2e-3
    assert (difference < 1e-4).mean() > 0.99


@pytest.mark.parametrize("train", [False, True])
def test_v2v_of_few_channels(golden, fill_by_rule, train):
    stored = golden("v2v")
    net = V2V(4, 5).train(train)
    fill_by_rule(net, stored["weight_seed"])
    found = net(noise(stored["small_input_seed"], stored["small_input_shape"]))[..., ::4, ::4, ::4]
    want = stored["small_output_trainmode_sub" if train else "small_output_sub"]
    np.testing.assert_allclose(found, want, rtol=0, atol=(1e-3 if train else 1e-4) * np.abs(want).max())


def test_v2v(golden, fill_by_rule):
    stored = golden("v2v")
    net = V2V(32, 17).eval()
    fill_by_rule(net, stored["weight_seed"])
    found = net(noise(stored["input_seed"], stored["input_shape"]))
    largest = np.abs(stored["output_sub"]).max()
    np.testing.assert_allclose(found[..., ::4, ::4, ::4], stored["output_sub"], rtol=0, atol=1e-4 * largest)
    np.testing.assert_allclose(found.mean(dim=(0, 2, 3, 4)), stored["output_mean"], rtol=0, atol=1e-4 * largest)
    np.testing.assert_allclose(found.std(dim=(0, 2, 3, 4)), stored["output_std"], rtol=0, atol=1e-4 * largest)


def volumetric(stored, fill_by_rule, variant):
    aggregation = {"softmax_m200": "softmax", "max_relu": "max", "sum_transfer_coco": "sum"}.get(variant, variant)
    side = int(stored["image_shape"][-1])
    heads = {"vol_confidences": aggregation.startswith("conf")}
    architecture = VolumetricArchitecture(
        backbone=Architecture.published("resnet50", JOINTS).model_copy(update={"crop_px": side, **heads}),
        aggregation=aggregation,
        voxels=32,
        multiplier=1.0 if variant in ("softmax", "max_relu") else 200.0,
        softmax=variant != "max_relu",
        transfer="transfer" in variant,
    )
    model = VolumetricTriangulation.build(architecture).eval()
    fill_by_rule(model, stored["weight_seed"])
    return model


@pytest.mark.parametrize("variant", ["softmax", "softmax_m200", "conf_norm", "conf", "sum_transfer_coco", "max_relu"])
def test_whole_network(golden, fill_by_rule, variant):
    stored = golden("vol_net")
    model = volumetric(stored, fill_by_rule, variant)
    images = noise(stored["image_seed"], stored["image_shape"])
    K, R, t = (torch.from_numpy(stored[name]) for name in "KRt")
    P = K @ torch.cat([R, t], dim=-1)
    valid = torch.ones(P.shape[:2], dtype=torch.bool)
    joints = torch.from_numpy(stored["pred_keypoints_3d"]).double()
    base = joints[:, HIPS].mean(dim=1) if "coco" in variant else joints[:, PELVIS]
    maps = model.see(images.flatten(0, 1))
    found = model.fill(maps, P, valid, base, torch.eye(3).expand(len(P), 3, 3))

    want = {key.removeprefix(f"{variant}_"): value for key, value in stored.items() if key.startswith(f"{variant}_")}
    features = maps.features.unflatten(0, valid.shape)[:, :, ::4, ::4, ::4]
    largest = np.abs(want["processed_features_sub"]).max()
    np.testing.assert_allclose(features, want["processed_features_sub"], rtol=0, atol=1e-4 * largest)
    corners = (base[:, None, None, None] + found.offsets_mm)[:, ::31, ::31, ::31]
    np.testing.assert_allclose(corners, want["coord_volumes_corners"], rtol=0, atol=0.02)
    np.testing.assert_allclose(base, want["base_points"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(base - model.architecture.cuboid_mm / 2, want["cuboid_position"], rtol=0, atol=1e-3)
    if maps.confidences is not None:
        confidences = maps.confidences.unflatten(0, valid.shape)
        if variant == "conf_norm":
            confidences = confidences / confidences.sum(dim=1, keepdim=True)
        np.testing.assert_allclose(confidences, want["vol_confidences"], rtol=0, atol=1e-5)
    volumes = found.probabilities[:, ::4, ::4, ::4, ::4]
    np.testing.assert_allclose(volumes, want["volumes_sub"], rtol=0, atol=1e-3 * want["volumes_sub"].max())
    if variant == "max_relu":
        np.testing.assert_allclose(found.joints_mm, want["keypoints_3d"], rtol=1e-3)
    else:
        tolerance = 0.5 if variant == "softmax" else 2.0
        np.testing.assert_allclose(found.joints_mm, want["keypoints_3d"], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("network", "aggregation", "tensors", "parameters"),
    [
        ("resnet152", "softmax", 1311, 80_588_050),
        ("resnet152", "sum", 1311, 80_588_050),
        ("resnet152", "conf", 1331, 91_478_322),
        ("resnet50", "softmax", 699, 45_952_274),
    ],
)
def test_published_layout(network, aggregation, tensors, parameters):
    architecture = VolumetricArchitecture.published(network, JOINTS, aggregation)
    with torch.device("meta"):
        model = VolumetricTriangulation.build(architecture)
    assert len(model.state_dict()) == tensors
    assert sum(value.numel() for value in model.parameters()) == parameters


@pytest.mark.parametrize("name", ["volumetric", "volumetric_conf"])
def test_published_weights_load_whole(golden, fill_by_rule, tmp_path, name):
    model = volumetric(golden("vol_net"), fill_by_rule, "conf" if name.endswith("conf") else "softmax")
    file = tmp_path / "weights.pth"
    torch.save({f"module.{key}": value for key, value in model.state_dict().items()}, file)
    checkpoint = import_weights(name, file)
    architecture = VolumetricArchitecture.of(checkpoint, file)
    assert (architecture.voxels, architecture.cuboid_mm, architecture.backbone.crop_px) == (64, 2500.0, 384)
    assert architecture.compat
    assert all(torch.equal(value, checkpoint.state[key]) for key, value in model.state_dict().items())
    checkpoint.save(tmp_path / "ours.pt")
    method = Volumetric({}, HUMAN36M)
    method.load(tmp_path / "ours.pt", "cpu")
    assert method.inputs.crop_px == 384


def shown(number):
    """A sample of ``number`` views, each a crop of its own grey."""
    camera = Camera(np.array([[80.0, 0, 31], [0, 80, 31], [0, 0, 1]]), np.eye(3), np.array([0, 0, 3000.0]))
    views = [
        View(f"c{i}", camera, np.full((64, 64, 3), i, dtype=np.uint8), np.array([[0.0, 0, 64, 64]]))
        for i in range(number)
    ]
    return Sample("s", tuple(views), Group("S1", "Walking", "1"))


def of_a_training(number, rng, **options):
    """Indices of the views that an example of the training has, of a sample with ``number`` of them."""
    backbone = Architecture(network="small", joints=HUMAN36M.joints, crop_px=64)
    chosen = VolumetricOptions(augmentation=NO_AUGMENTATION, voxels=16, **options)
    model = VolumetricTriangulation.build(chosen.architecture(backbone, "a test"))
    training = VolumetricTraining(model, chosen, HUMAN36M)
    sample, truth = shown(number), Truth(np.zeros((1, 17, 3)))
    while True:
        example = training.example(sample, truth, rng)
        yield example["images"].shape[0], example["images"][example["valid"]][:, 0, 0, 0].tolist()


def test_all_views_in_order_where_their_number_is_not_drawn(golden):
    stored = golden("collate")
    slots = int(stored["n_images_per_item"].max())
    for number in stored["n_images_per_item"].tolist():
        width, views = next(of_a_training(number, np.random.default_rng(0), random_views=0.0, views=slots))
        assert views == list(range(number))  # the release cuts all of a batch to the fewest, ours are masked
        assert width == slots
        if number == stored["images_shape"][1]:
            assert views == stored["fixed_views"].tolist()


def test_drawn_views_are_distributed_as_recorded(golden):
    stored = golden("collate")
    recorded = [row[row >= 0].tolist() for row in stored["chosen_views"]]
    number = int(stored["n_images_per_item"].min())
    rng = np.random.default_rng(stored["np_seeds"])  # another generator than the recorded: alike in distribution only
    examples = of_a_training(number, rng, random_views=1.0, fewest_views=1, views=4)
    ours = [views for _, (_, views) in zip(range(600), examples, strict=False)]
    sample = shown(number)
    alone = [[int(view.name[1:]) for view in drawn_views(sample, 1, 4, rng)] for _ in range(600)]
    tables = []
    for draws in (recorded, ours, alone):
        assert all(len(set(views)) == len(views) and set(views) <= set(range(number)) for views in draws)
        counts = np.bincount([len(views) for views in draws], minlength=number + 1)[1:]
        tables.append(counts)
        assert stats.chisquare(counts).pvalue > 1e-6
        for size in range(1, number):
            sets = Counter(tuple(sorted(views)) for views in draws if len(views) == size)
            expected = list(combinations(range(number), size))
            assert stats.chisquare([sets[each] for each in expected]).pvalue > 1e-6
    for found in tables[1:]:
        assert stats.chi2_contingency(np.stack([tables[0], found])).pvalue > 1e-6


def test_as_many_views_as_the_options_say():
    rng = np.random.default_rng(0)
    counts = {len(drawn_views(shown(4), 2, 3, rng)) for _ in range(60)}
    assert counts == {2, 3}
    assert {len(drawn_views(shown(1), 2, 3, rng)) for _ in range(5)} == {1}
    with pytest.raises(InputError, match="fewest_views"):
        Volumetric({"views": 2, "fewest_views": 3}, HUMAN36M)
