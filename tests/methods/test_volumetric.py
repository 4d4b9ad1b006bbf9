from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up import SIDE, batch_of, ring_camera, totals_of_steps
from made_up import dotted_moment as moment

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Truth
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.batches.augmentation import NO_AUGMENTATION
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.precision import bfloat16
from poseboard.methods.volumetric.lens import without_lens
from poseboard.methods.volumetric.method import Volumetric
from poseboard.methods.volumetric.model import Maps, VolumetricArchitecture, VolumetricTriangulation
from poseboard.methods.volumetric.train import VolumetricTraining
from poseboard.methods.volumetric.v2v import SMALL, V2V

J = len(HUMAN36M)
PLAIN = NO_AUGMENTATION.model_dump()
TINY = {"steps": 6, "batch_size": 3, "views": 3, "warmup_steps": 0, "voxels": 16, "precision": "float32"}
BENT = (0.3, -0.1, 0.02, -0.01, 0)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    arch = Architecture(network="small", joints=HUMAN36M.joints, crop_px=SIDE, alg_confidences=True)
    state = {f"backbone.{key}": value for key, value in arch.build(seed=1).state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "algebraic.pt"
    Checkpoint("algebraic", arch.plain(), state).save(path)
    return path


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    arch = Architecture(network="resnet18", joints=HUMAN36M.joints, crop_px=SIDE)
    path = tmp_path_factory.mktemp("weights") / "resnet.pt"
    Checkpoint("backbone", arch.plain(), arch.build(seed=1).state_dict()).save(path)
    return path


def started(start, **options):
    return Volumetric({**TINY, **options}, HUMAN36M).training(start, seed=0)


def saved(training, folder, **options):
    path = folder / "volumetric.pt"
    Checkpoint("volumetric", training.architecture, training.model.state_dict()).save(path)
    method = Volumetric({**TINY, **options}, HUMAN36M)
    method.load(path, "cpu")
    return method


@pytest.fixture
def trained(backbone, tmp_path):
    return saved(started(backbone), tmp_path)


def test_it_is_handed_a_root(backbone):
    training = started(backbone)
    assert (training.inputs.root, training.inputs.views[0], training.inputs.crop_px) == ("predicted", 1, SIDE)
    assert started(backbone, use_gt_pelvis=True).inputs.root == "truth"
    assert Volumetric({"use_gt_pelvis": True}, HUMAN36M).inputs.root == "truth"


@pytest.mark.parametrize("options", [{}, {"precision": "bf16"}, {"aggregation": "softmax"}])
def test_a_few_steps_reduce_the_loss(backbone, options):
    training = started(backbone, **options)
    frozen = {key: value.clone() for key, value in training.model.backbone.state_dict().items()}
    totals = totals_of_steps(training, batch_of(training, map(moment, range(3))), 6)
    assert totals[-1] < totals[0]
    assert all(torch.equal(value, frozen[key]) for key, value in training.model.backbone.state_dict().items())


def test_published_recipe(resnet):
    training = started(resnet, recipe="published", voxels=32, views=2)
    assert type(training.optimizer) is torch.optim.Adam
    assert training.scheduler is None
    assert sorted(group["lr"] for group in training.optimizer.param_groups) == [1e-4, 1e-3, 1e-3]
    assert training.architecture["compat"]
    assert training.architecture["aggregation"] == "softmax"
    sample, truth = moment(0, views=2)
    example = training.example(sample, truth, np.random.default_rng(0))
    np.testing.assert_array_equal(example["images"], [view.pixels() for view in sample.views])
    np.testing.assert_array_equal(example["base_mm"], sample.root_mm[0])
    before = training.model.backbone.conv1.weight.clone()
    training.model.train()
    loss = training.loss(torch.utils.data.default_collate([example, example]))["total"]
    loss.backward()
    training.optimizer.step()
    assert training.model.backbone.final_layer.weight.grad is None
    assert not torch.equal(before, training.model.backbone.conv1.weight)


def evidence_of(truth, views=3):
    """P (1, V, 3, 4) and what views (V, J, 16, 16) that see the joints (1, J, 3) with a spread of a pixel bring."""
    P = torch.from_numpy(np.stack([ring_camera(i).P for i in range(views)]))[None]
    x = torch.einsum("bvrc,bjc->bvjr", P[..., :3], truth) + P[..., 3][:, :, None]
    at = x[..., :2] / x[..., 2:] / 4
    grid = torch.stack(torch.meshgrid(torch.arange(16), torch.arange(16), indexing="xy"), dim=-1)
    peaks = torch.exp(-(at[0, :, :, None, None] - grid).square().sum(-1) / 2)
    return P, torch.log1p(peaks / peaks.sum((-2, -1), keepdim=True) / 3e-4).float()


def test_the_small_network_starts_at_the_evidence(backbone):
    """Untrained, it answers where the product of the views' heat maps is: closer than the cube's centre is."""
    training = started(backbone, augmentation=PLAIN, random_views=0.0)
    model = training.model.eval()
    truth = torch.from_numpy(moment(0)[1].joints_mm)
    P, evidence = evidence_of(truth)
    found = model.fill(
        Maps(evidence, None), P, torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3).double(), torch.eye(3)[None]
    )
    error = torch.linalg.vector_norm(found.joints_mm - truth, dim=-1)
    assert error.mean() < 0.15 * torch.linalg.vector_norm(truth, dim=-1).mean()
    torch.testing.assert_close(found.probabilities.flatten(2).sum(-1), torch.ones(1, J))


def test_evidence_follows_the_confident_views(backbone):
    model = started(backbone).model.eval()
    truth = torch.from_numpy(moment(0)[1].joints_mm)
    P, evidence = evidence_of(truth, 4)
    evidence[3] = evidence[3].flip(-1)
    valid, base, turn = torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 3).double(), torch.eye(3)[None]
    even = torch.full((4, J), 0.5)
    doubting = even.clone()
    doubting[3] = 1e-4
    errors = [
        torch.linalg.vector_norm(model.fill(Maps(evidence, c), P, valid, base, turn).joints_mm - truth, dim=-1).mean()
        for c in (even, doubting)
    ]
    assert errors[1] < 0.7 * errors[0]
    same = [model.fill(Maps(evidence, c), P, valid, base, turn).joints_mm for c in (None, even)]
    torch.testing.assert_close(*same)


@pytest.mark.parametrize("turned", [0.0, 1.1])
def test_turning_the_cube_leaves_the_answer_in_the_world(backbone, turned):
    training = started(backbone, voxels=32)
    model = training.model.eval()
    generator = torch.Generator().manual_seed(0)
    maps = Maps(torch.zeros(3, J, 16, 16), None)
    maps.features[:, :, 5:11, 5:11] = 6 * torch.rand(3, J, 1, 1, generator=generator) + 2
    P = torch.from_numpy(np.stack([ring_camera(i).P for i in range(3)]))[None]
    turn = torch.tensor([[np.cos(turned), -np.sin(turned), 0], [np.sin(turned), np.cos(turned), 0], [0, 0, 1]])[None]
    base = torch.tensor([[30.0, -20, 10]], dtype=torch.float64)
    straight, other = (
        model.fill(maps, P, torch.ones(1, 3, dtype=torch.bool), base, t).joints_mm
        for t in (torch.eye(3)[None], turn.float())
    )
    torch.testing.assert_close(straight, other, rtol=0, atol=15.0)


def test_cubes_are_turned_about_the_vertical_and_moved(backbone):
    training = started(backbone, augmentation=PLAIN)
    examples = [training.example(*moment(0), np.random.default_rng(seed)) for seed in range(200)]
    turns = np.stack([example["turn"] for example in examples])
    np.testing.assert_allclose(turns[:, 2], np.broadcast_to([0, 0, 1], (200, 3)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(turns), 1, rtol=1e-5)
    angles = np.arctan2(turns[:, 1, 0], turns[:, 0, 0])
    assert np.histogram(angles, 4, (-np.pi, np.pi))[0].min() > 25
    moved = np.stack([example["base_mm"] for example in examples]) - moment(0)[0].root_mm[0]
    assert np.abs(moved.mean(axis=0)).max() < 10
    np.testing.assert_allclose(moved.std(axis=0), 30, rtol=0.2)
    sideways = started(backbone, up="y").example(*moment(0), np.random.default_rng(0))["turn"]
    np.testing.assert_allclose(np.abs(sideways[1]), [0, 1, 0], atol=1e-6)


def test_the_vertical_is_what_the_cameras_say(backbone):
    """A world whose y points down, as CMU Panoptic's, instead of one whose z points up."""
    sample, truth = moment(0)
    lying = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # world of y down -> of z up
    views = tuple(replace(view, camera=replace(view.camera, R=view.camera.R @ lying)) for view in sample.views)
    other = replace(sample, views=views, root_mm=sample.root_mm @ lying)
    truth = Truth(truth.joints_mm @ lying)
    turn = started(backbone).example(other, truth, np.random.default_rng(0))["turn"]
    np.testing.assert_allclose(turn[1], [0, 1, 0], atol=1e-6)


def test_a_mirrored_person_is_a_person_in_a_mirrored_cube(backbone):
    sample, truth = moment(0)
    options = {**PLAIN, "flip": 1.0}
    example = started(backbone, augmentation=options).example(sample, truth, np.random.default_rng(0))
    assert np.linalg.det(example["turn"]) == pytest.approx(-1, abs=1e-5)
    joints = truth.joints_mm[0]
    np.testing.assert_array_equal(example["joints_mm"], joints[HUMAN36M.flip_order])
    for image, P, view in zip(example["images"], example["P"], sample.views, strict=False):
        seen = view.camera.project(joints)
        mirrored = P @ np.column_stack([joints, np.ones(J)]).T
        np.testing.assert_allclose(mirrored[0] / mirrored[2], SIDE - 1 - seen[:, 0])
        np.testing.assert_allclose(mirrored[1] / mirrored[2], seen[:, 1])
        np.testing.assert_array_equal(image, view.pixels()[:, ::-1])


def test_numbers_of_views_are_drawn(backbone):
    for share, expected in ((1.0, {1, 2, 3}), (0.0, {3})):
        training = started(backbone, random_views=share)
        counts = {int(training.example(*moment(0), np.random.default_rng(s))["valid"].sum()) for s in range(40)}
        assert counts == expected


def test_absent_views_do_not_matter(backbone):
    losses = []
    for slots in (2, 5):
        training = started(backbone, views=slots, augmentation=PLAIN, random_views=0.0, centre_noise_mm=0.0)
        example = training.example(*moment(0, views=2), np.random.default_rng(0))
        training.model.eval()
        losses.append(training.loss(torch.utils.data.default_collate([example]))["total"].item())
    assert example["valid"].tolist() == [True, True, False, False, False]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_where_nobody_predicted_the_root_training_takes_the_true_one(backbone):
    training = started(backbone, centre_noise_mm=0.0, augmentation=PLAIN)
    sample, truth = moment(0)
    for root in (None, np.full((1, 3), np.nan)):
        example = training.example(replace(sample, root_mm=root), truth, np.random.default_rng(0))
        np.testing.assert_array_equal(example["base_mm"], truth.joints_mm[0, HUMAN36M.root_index])
    joints = truth.joints_mm.copy()
    joints[0, HUMAN36M.root_index] = np.nan
    example = training.example(replace(sample, root_mm=None), Truth(joints), np.random.default_rng(0))
    assert example["known"].sum() == 0
    loss = training.loss(torch.utils.data.default_collate([example, example]))
    assert all(torch.isfinite(value) for value in loss.values())


def test_a_single_view_is_judged_relative_to_the_root_in_training(backbone):
    """One view cannot tell how far a person is: moving all of them costs only what the root moved."""
    training = started(backbone)
    generator = torch.Generator().manual_seed(0)
    truth = 100 * torch.randn(2, J, 3, generator=generator, dtype=torch.float64)
    moved = truth + torch.tensor([50.0, 0, 0])
    valid = torch.tensor([[True, False], [True, True]])
    known = torch.ones(2, J, 1, dtype=torch.float64)
    known[0, HUMAN36M.root_index] = 0
    predicted, wanted, counted = training._single_views(moved, truth, known, valid)
    off = (predicted - wanted)[..., 0]
    assert torch.count_nonzero(off[0].abs() > 1e-9) == 1
    torch.testing.assert_close(off[1], torch.full((J,), 50.0, dtype=torch.float64))
    assert counted[:, :, 0].sum(dim=1).tolist() == [0, J]  # nothing is relative to a root that is not known

    # COCO's root is not a joint: every joint is relative to it
    middle = replace(HUMAN36M, root=("left_hip", "right_hip"))
    training = VolumetricTraining(training.model, training.options, middle)
    known[0] = 1
    predicted, wanted, counted = training._single_views(moved, truth, known, valid)
    off = (predicted - wanted)[..., 0]
    assert off[0].abs().max() < 1e-9
    torch.testing.assert_close(wanted[0], truth[0] - truth[0, middle.indices(middle.root_joints)].mean(dim=0))
    torch.testing.assert_close(off[1], torch.full((J,), 50.0, dtype=torch.float64))
    known[0, HUMAN36M.joints.index("left_hip")] = 0
    assert training._single_views(moved, truth, known, valid)[2][:, :, 0].sum(dim=1).tolist() == [0, J]


def test_nothing_is_predicted_without_a_root(trained):
    sample = moment(0)[0]
    roots = (sample.root_mm, None, np.full((1, 3), np.nan))
    poses = trained.predict([replace(sample, root_mm=root) for root in roots])
    assert [np.isfinite(pose.joints_mm).all() for pose in poses] == [True, False, False]
    assert poses[0].score[0] > 0
    assert all(np.isnan(pose.joints_mm).all() and pose.score[0] == 0 for pose in poses[1:])


def test_answers_move_with_the_world(trained):
    """Cameras and root moved together move the answer as much, however far."""
    sample = moment(0)[0]
    shift = np.array([80_000.0, -50_000, 1_000])
    moved = replace(
        sample,
        views=tuple(replace(v, camera=replace(v.camera, t=v.camera.t - v.camera.R @ shift)) for v in sample.views),
        root_mm=sample.root_mm + shift,
    )
    here, there = (trained.predict([s])[0].joints_mm for s in (sample, moved))
    np.testing.assert_allclose(there - shift, here, rtol=0, atol=0.01)


def test_lenses_are_undone(trained):
    plain, bent = moment(0)[0], moment(0, dist=BENT)[0]
    view = without_lens(bent.views[0])
    assert not view.camera.dist.any()
    assert without_lens(plain.views[0]) is plain.views[0]
    bright = (view.pixels().max(axis=-1) > 75).astype(float)
    seen = np.rint(view.camera.project(moment(0)[1].joints_mm[0])).astype(int)
    inside = ((seen > 2) & (seen < SIDE - 3)).all(axis=1)
    hit = [bright[y - 1 : y + 2, x - 1 : x + 2].max() for x, y in seen[inside]]
    assert inside.sum() > 8
    assert np.mean(hit) > 0.9
    found = [trained.predict([sample])[0].joints_mm for sample in (plain, bent)]
    assert np.isfinite(found[1]).all()


def test_bf16_gradients_are_those_of_float32():
    torch.manual_seed(0)
    net, volumes = V2V(4, 5, SMALL), torch.randn(2, 4, 16, 16, 16)
    gradients = []
    for enabled in (False, True):
        with bfloat16("cpu", enabled):
            answer = net(volumes)
        kernels = [p for p in net.parameters() if p.ndim == 5]
        gradients.append(torch.autograd.grad(answer.float().square().mean(), kernels))
    for exact, rough in zip(*gradients, strict=True):
        assert torch.nn.functional.cosine_similarity(exact.flatten(), rough.float().flatten(), dim=0) > 0.9


def test_rows_predict_in_float32_unless_they_ask_for_bf16(backbone, tmp_path):
    training = started(backbone, precision="bf16")
    totals_of_steps(training, batch_of(training, map(moment, range(3))), 6)
    path, answers = tmp_path / "volumetric.pt", []
    for trained, asked in (("float32", None), ("bf16", None), ("bf16", "float32"), ("bf16", "bf16")):
        architecture = {**training.architecture, "precision": trained}
        Checkpoint("volumetric", architecture, training.model.state_dict()).save(path)
        method = Volumetric({**TINY, "precision": asked}, HUMAN36M)
        method.load(path, "cpu")
        answers.append(method.predict([moment(5)[0]])[0].joints_mm)
    assert np.ptp(answers[0]) > 100
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])
    assert np.linalg.norm(answers[3] - answers[0], axis=-1).max() > 0.1


def test_what_cannot_be_combined(backbone, resnet):
    for options, told in (
        ({"voxels": 20}, "voxels"),
        ({"aggregation": "conf"}, "aggregation"),
        ({"recipe": "published", "voxels": 16}, "voxels"),
    ):
        with pytest.raises(InputError, match=told):
            started(backbone, **options)
    assert started(resnet, recipe="published", voxels=32, aggregation="conf").architecture["backbone"][
        "vol_confidences"
    ]
    with pytest.raises(ValueError, match="vol_confidences"):
        VolumetricArchitecture(backbone=Architecture.published("resnet50", HUMAN36M.joints), aggregation="conf")


def test_confidence_volumes_predict(resnet, tmp_path):
    """The published form with its confidence head, whole: build, save, load, predict."""
    options = {"recipe": "published", "aggregation": "conf_norm", "voxels": 32}
    big = Architecture(network="resnet18", joints=HUMAN36M.joints, crop_px=128)
    architecture = Volumetric({**TINY, **options}, HUMAN36M).options.architecture(big, "test")
    model = VolumetricTriangulation.build(architecture)
    path = tmp_path / "conf.pt"
    Checkpoint("volumetric", architecture.plain(), model.state_dict()).save(path)
    method = Volumetric({}, HUMAN36M)
    method.load(path, "cpu")
    sample = moment(0)[0]
    larger = []
    for view in sample.views:
        image = np.kron(view.image, np.ones((2, 2, 1), np.uint8))
        larger.append(replace(view, camera=view.camera.crop_resize((0, 0, SIDE, SIDE), (128, 128)), image=image))
    sample = replace(sample, views=tuple(larger))
    assert np.isfinite(method.predict([sample])[0].joints_mm).all()
