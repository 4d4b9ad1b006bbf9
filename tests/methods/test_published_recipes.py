"""The `full` profile of params.yaml trains as the releases do: every number of their configurations, row by row.

Networks are the small one, on made-up people; what a training is made of does not depend on its size.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from made_up import SIDE, dotted_moment

from poseboard.benchmarks.harness import build_method, options_of_pass
from poseboard.benchmarks.plan import Plan, Run
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import parse_yaml
from poseboard.datasets.rhd import RHD_HAND
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.backbone.method import Backbone
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.loop import fit, launch
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.pose_resnet import PoseResNet
from poseboard.methods.nets.starting_weights import IMAGE_NETWORK
from poseboard.methods.nets.training import Epochs, Length
from poseboard.methods.weights import import_weights

ROOT = Path(__file__).resolve().parents[2]
MOMENTS = 40_003
"""Training samples of the made-up data set: one that no batch size divides."""


@dataclass
class Counted:
    """As much of a data set as a training that is never started asks for."""

    name: str = "human36m"
    skeleton = HUMAN36M

    def keys(self, split):
        return range(MOMENTS)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    params = parse_yaml((ROOT / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"profile": "full"}))
    return Plan.read(folder / "params.yaml")


def given(folder, kind="backbone", joints=HUMAN36M.joints):
    """Weights such as are imported, but of the small network."""
    architecture = Architecture.published("small", joints).model_copy(update={"crop_px": 64})
    path = folder / f"{kind}-{len(joints)}.pt"
    Checkpoint(kind, architecture.plain(), architecture.build(seed=1).state_dict()).save(path)
    return path


def counted(full: Plan, row: str, dataset: str = "human36m") -> Run:
    """The run of a row on a data set of `MOMENTS` moments."""
    run = full.run(row, dataset)
    vars(run.source)["dataset"] = Counted(dataset)
    return run


def training_of(full, row, folder, dataset="human36m"):
    """The training of a row with its committed options, but for the weights, and crops of `SIDE`."""
    run = counted(full, row, dataset)
    method, options = build_method(run), options_of_pass(run)
    if options.get("start_weights"):
        kind = IMAGE_NETWORK if "imagenet" in options["start_weights"] else "backbone"
        options["start_weights"] = str(given(folder, kind))
    if options.get("image_px"):
        options["image_px"] = SIDE
    if "voxels" in options:
        options["voxels"] = 32
    start = given(folder)
    return type(method)(options, HUMAN36M).training(start, seed=3), start


def rates(training, step):
    """Of each group of parameters in step ``step``, counted from 0; the scheduler is a function of the step."""
    if training.scheduler is None:
        return [group["lr"] for group in training.optimizer.param_groups]
    falls = sum(count for milestone, count in training.scheduler.milestones.items() if milestone <= step)
    return [rate * training.scheduler.gamma**falls for rate in training.scheduler.base_lrs]


EPIPOLAR = {"batch": 16, "per_epoch": MOMENTS // 16, "epochs": 4, "every": 1, "rates": {0: 1e-3, 2: 1e-4, 3: 1e-5}}
FIFTH = -(-MOMENTS // 5)
LIFTING = {"batch": 8, "per_epoch": FIFTH // 8, "epochs": 16, "every": 5, "rates": {0: 1e-5, 11: 1e-5, 12: 1e-6}}
ROWS = {
    "algebraic": {"batch": 8, "per_epoch": 1875, "epochs": 61, "every": 1, "rates": {0: 1e-5, 60: 1e-5}},
    "algebraic_no_conf": {"batch": 8, "per_epoch": 1250, "epochs": 61, "every": 1, "rates": {0: 1e-5, 60: 1e-5}},
    "epipolar": EPIPOLAR,
    "epipolar_control": EPIPOLAR,
    "epipolar_augmented": EPIPOLAR,
    "epipolar_extra_data": EPIPOLAR | {"batch": 32, "per_epoch": MOMENTS // 32},
    "epipolar_baseline": {
        "batch": 8,
        "per_epoch": FIFTH // 8,
        "epochs": 30,
        "every": 5,
        "rates": {0: 1e-3, 19: 1e-3, 20: 1e-4, 24: 1e-4, 25: 1e-5},
    },
    "lifting": LIFTING,
    "lifting_image": LIFTING,
}


@pytest.mark.parametrize("row", ROWS)
def test_optimiser_schedule_and_length_are_those_of_the_release(full, row, tmp_path):
    training, _ = training_of(full, row, tmp_path)
    want = ROWS[row]
    assert type(training.optimizer) is torch.optim.Adam
    assert [group["weight_decay"] for group in training.optimizer.param_groups] == [0]
    assert training.clip_norm is None
    assert training.batch_size == want["batch"]
    assert training.steps == want["epochs"] * want["per_epoch"]
    assert training.every == want["every"]
    before = None
    for epoch, rate in want["rates"].items():
        first = epoch * want["per_epoch"]
        assert rates(training, first) == pytest.approx([rate])
        if before is not None:  # it falls between the last step of an epoch and the first of the next
            assert rates(training, first - 1) == pytest.approx([before])
        before = rate


def test_the_volumetric_network_has_three_rates(full, tmp_path):
    training, _ = training_of(full, "volumetric", tmp_path)
    model = training.model
    rate = {id(p): group["lr"] for group in training.optimizer.param_groups for p in group["params"]}
    assert type(training.optimizer) is torch.optim.Adam
    assert {rate[id(p)] for p in model.volume_net.parameters()} == {1e-3}
    assert {rate[id(p)] for p in model.process_features.parameters()} == {1e-3}
    assert {rate.get(id(p)) for p in model.backbone.parameters() if p.requires_grad} == {1e-4}
    assert not any(p.requires_grad for p in model.backbone.final_layer.parameters())
    assert (training.scheduler, training.clip_norm, training.batch_size) == (None, None, 5)
    assert training.steps == 41 * 3000


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith("epipolar")])
def test_epipolar_heat_maps_start_anew_and_the_rest_from_the_weights(full, row, tmp_path):
    training, _ = training_of(full, row, tmp_path)
    state = training.model.backbone.state_dict()
    weights, bias = state["final_layer.weight"], state["final_layer.bias"]
    assert torch.equal(bias, torch.zeros_like(bias))
    assert weights.std().item() == pytest.approx(0.001, rel=0.15)
    assert abs(weights.mean().item()) < 0.0002
    own = Checkpoint.read(given(tmp_path)).state
    assert all(torch.equal(value, own[key]) for key, value in state.items() if not key.startswith("final_layer."))
    other = training_of(full, row, tmp_path)[0].model.backbone.state_dict()["final_layer.weight"]
    assert torch.equal(weights, other)  # a function of the seed


def test_losses_targets_and_triangulation_of_the_four_published_configurations(full):
    told = {
        row: [full.options(row).get(key) for key in ("loss", "target_sigma_px", "triangulation", "image_px")]
        for row in ("epipolar_baseline", "epipolar", "epipolar_augmented", "epipolar_extra_data")
    }
    assert told == {
        "epipolar_baseline": ["joint_sum", 8, "pymvg", 256],
        "epipolar": ["joint", 8, "pymvg", 256],
        "epipolar_augmented": ["joint", 8, "pymvg", 256],
        "epipolar_extra_data": ["joint", 12, "epipolar", 384],
    }
    augmented = full.options("epipolar_augmented")
    assert (augmented["scale_factor"], augmented["rotation_deg"]) == (0.25, 30)
    assert "scale_factor" not in full.options("epipolar")
    assert "rotation_deg" not in full.options("epipolar_extra_data")
    weights = {row: Path(full.options(row)["start_weights"]).stem for row in told}
    assert weights.pop("epipolar_extra_data") == "pose_resnet152"
    assert set(weights.values()) == {"resnet50_imagenet"}


def test_hands_are_trained_on_every_sample(full):
    steps = options_of_pass(counted(full, "lifting", "rhd"))["steps"]
    assert (steps["every"], steps["moments"]) == (1, MOMENTS)


def test_the_published_baseline_of_robust_triangulation_is_not_trained(full, tmp_path):
    assert training_of(full, "ransac", tmp_path)[0] is None
    assert full.options("ransac")["compat"]


def backbone_of(full, path, skeleton=HUMAN36M):
    return Backbone(options_of_pass(counted(full, "backbone")) | {"start_weights": str(path)}, skeleton)


def test_a_pose_network_for_the_same_joints_is_taken_as_it_is(full, tmp_path):
    path = given(tmp_path)
    training = backbone_of(full, path).training(None, seed=0)
    assert training.steps == 0
    own = Checkpoint.read(path).state
    assert all(torch.equal(value, own[key]) for key, value in training.model.state_dict().items())
    architecture = Architecture.model_validate(training.architecture)
    assert (architecture.multiplier, architecture.channels, architecture.precision) == (100.0, "bgr", "float32")


@pytest.mark.parametrize(("kind", "skeleton"), [(IMAGE_NETWORK, HUMAN36M), ("backbone", RHD_HAND)])
def test_other_weights_are_trained_on_plain_squared_errors_of_heat_maps(full, tmp_path, kind, skeleton):
    training = backbone_of(full, given(tmp_path, kind), skeleton).training(None, seed=0)
    assert training.steps == 10 * (MOMENTS // 64)
    assert type(training.optimizer) is torch.optim.Adam
    assert rates(training, 0) == rates(training, training.steps - 1) == [1e-4]
    assert (training.scheduler, training.clip_norm) == (None, None)
    state = training.model.state_dict()
    assert len(state["final_layer.bias"]) == len(skeleton)
    assert state["final_layer.weight"].std().item() == pytest.approx(0.001, rel=0.15)


def test_the_backbones_loss_is_the_squared_error_of_gaussian_maps(full, tmp_path):
    training = backbone_of(full, given(tmp_path, IMAGE_NETWORK)).training(None, seed=0)
    training.model.eval()
    example = training.example(*dotted_moment(0), np.random.default_rng(0))
    batch = torch.utils.data.default_collate([example])
    with torch.no_grad():
        found = training.loss(batch)["total"].item()
        architecture = Architecture.model_validate(training.architecture)
        maps = training.model(architecture.prepare(batch["image"])).heatmaps[0].double().numpy()
    rows, columns = np.mgrid[: maps.shape[1], : maps.shape[2]]
    x, y = (example["points_px"].astype(float) / 4).T[..., None, None]
    gaussians = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 3**2)).clip(0.01)
    assert found == pytest.approx(np.mean(example["weights"][:, None, None] * (maps - gaussians) ** 2), rel=1e-4)


@pytest.mark.parametrize("weights", [None, "data/weights/none.pt"])
def test_missing_weights_are_told_with_what_to_supply_and_how(full, tmp_path, weights):
    options = options_of_pass(counted(full, "backbone")) | {"start_weights": weights}
    with pytest.raises(InputError, match=r"backbone: start_weights: .*pose_resnet_4\.5.*weights import backbone"):
        Backbone(options, HUMAN36M).training(None, seed=0)
    row = build_method(counted(full, "epipolar"))
    with pytest.raises(InputError, match=r"epipolar: start_weights: .*resnet50_imagenet\.pt"):
        row.training(given(tmp_path), seed=0)


def test_a_network_of_labelled_images_is_imported_for_training_alone(tmp_path):
    state = {k: v for k, v in PoseResNet(18, 17).state_dict().items() if not k.startswith(("deconv", "final"))}
    torch.save(state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, tmp_path / "resnet18.pth")
    imported = import_weights("backbone", tmp_path / "resnet18.pth")
    assert imported.method == IMAGE_NETWORK
    assert all(torch.equal(imported.state[key], value) for key, value in state.items())
    architecture = Architecture.of(imported, "resnet18")
    assert (architecture.multiplier, architecture.channels, architecture.precision) == (100.0, "bgr", "float32")
    assert imported.state["deconv_layers.0.weight"].std().item() == pytest.approx(0.001, rel=0.05)
    torch.save(PoseResNet(18, 17).state_dict(), tmp_path / "pose.pth")
    assert import_weights("backbone", tmp_path / "pose.pth").method == "backbone"


def test_lifting_maps_needs_a_pose_network(full, tmp_path):
    options = options_of_pass(counted(full, "lifting")) | {"start_weights": str(given(tmp_path, IMAGE_NETWORK))}
    method = type(build_method(counted(full, "lifting")))(options, HUMAN36M)
    with pytest.raises(InputError, match=r"start_weights|image network"):
        method.training(None, seed=0)


def test_a_user_may_clip_or_not(full, tmp_path):
    for row, clip in (("algebraic", 5.0), ("epipolar", 5.0), ("volumetric", 5.0), ("lifting", 5.0)):
        kind = type(build_method(counted(full, row)))
        assert kind({"recipe": "published", "clip_norm": clip}, HUMAN36M).options.clip_norm == clip
        assert kind({}, HUMAN36M).options.clip_norm == 10.0
        assert kind({"clip_norm": None}, HUMAN36M).options.clip_norm is None


@pytest.mark.parametrize(
    ("steps", "batch", "want"),
    [(7, 3, 7), (Epochs(epochs=2, moments=10), 3, 6), (Epochs(epochs=2, moments=2), 3, 2)],
)
def test_epochs_are_whole_batches(steps, batch, want):
    assert Length(steps, batch).steps == want


def test_epochs_of_unknown_length_are_told():
    with pytest.raises(InputError, match=r"samples|epoch"):
        Length(Epochs(epochs=1), 4)


def test_only_every_so_many_samples_are_trained_on(tmp_path):
    moments = [dotted_moment(i) for i in range(7)]
    asked = set()

    class Seven:
        def __len__(self):
            return len(moments)

        def __getitem__(self, place):
            asked.add(place)
            return moments[place]

    options = {"image_px": SIDE, "steps": {"epochs": 4, "moments": 3, "every": 3}, "batch_size": 3, "warmup_steps": 0}
    training = Backbone(options, HUMAN36M).training(None, seed=0)
    fit(launch(1, "cpu"), training, Seven(), seed=0, state_path=tmp_path / "state.pt", configuration={})
    assert training.steps == 4
    assert asked == {0, 3, 6}
