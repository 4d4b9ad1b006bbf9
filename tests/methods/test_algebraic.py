import numpy as np
import pytest
import torch

from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Group, Sample, Truth, View
from poseboard.datasets.skeleton import COCO, HUMAN36M
from poseboard.methods.algebraic.method import Algebraic
from poseboard.methods.algebraic.model import normalised_weights, triangulate
from poseboard.methods.base import Checkpoint, Method, Training, find_method
from poseboard.methods.geometry.triangulation import dlt
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.augmentation import NO_AUGMENTATION

SIDE = 64
J = len(HUMAN36M)
TINY = {"steps": 6, "batch_size": 3, "views": 3, "warmup_steps": 0}


def camera(i, dist=(0, 0, 0, 0, 0)):
    a = 2 * np.pi * i / 5 + 0.3
    R = np.array([[-np.sin(a), np.cos(a), 0], [0, 0, -1], [-np.cos(a), -np.sin(a), 0]])
    K = np.array([[1.3 * SIDE, 0, SIDE / 2], [0, 1.3 * SIDE, SIDE / 2], [0, 0, 1]])
    return Camera(K, R, np.array([0, 0, 4000.0]), np.array(dist, dtype=float), (SIDE, SIDE))


def moment(seed, views=3, dist=(0, 0, 0, 0, 0)):
    """A made-up person: a coloured dot a joint."""
    truth = np.random.default_rng(seed).uniform(-600, 600, size=(1, J, 3))
    colours = np.random.default_rng(1).integers(80, 256, size=(J, 3))
    made = []
    for i in range(views):
        image = np.full((SIDE, SIDE, 3), 30, dtype=np.uint8)
        seen = camera(i, dist).project(truth[0])
        for (x, y), colour in zip(np.rint(seen).astype(int), colours, strict=True):
            image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = colour
        made.append(View(f"c{i}", camera(i, dist), image, np.array([[0.0, 0, SIDE, SIDE]])))
    return Sample(f"s{seed}", tuple(made), Group("S1", "Walking", "1")), Truth(truth)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    arch = Architecture(network="small", joints=HUMAN36M.joints, crop_px=SIDE)
    path = tmp_path_factory.mktemp("weights") / "backbone.pt"
    Checkpoint("backbone", arch.plain(), arch.build(seed=1).state_dict()).save(path)
    return path


def started(backbone, **options):
    return Algebraic({**TINY, **options}, HUMAN36M).training(backbone, seed=0)


@pytest.fixture
def trained(backbone, tmp_path):
    training = started(backbone)
    path = tmp_path / "algebraic.pt"
    Checkpoint("algebraic", training.architecture, training.model.state_dict()).save(path)
    method = Algebraic(TINY, HUMAN36M)
    method.load(path, "cpu")
    return method


def batch_of(training, count=3):
    examples = [training.example(*moment(i), np.random.default_rng([0, i])) for i in range(count)]
    return torch.utils.data.default_collate(examples)


def test_fulfils_the_contracts(backbone):
    assert find_method("algebraic") is Algebraic
    assert isinstance(Algebraic({}, HUMAN36M), Method)
    training = started(backbone)
    assert isinstance(training, Training)
    assert training.finish([], []) == {}


@pytest.mark.parametrize("options", [{}, {"use_confidences": False}, {"recipe": "published", "learning_rate": 1e-3}])
def test_a_few_steps_reduce_the_loss(backbone, options):
    training = started(backbone, **options)
    batch = batch_of(training)
    training.model.train()
    totals = []
    for _ in range(8):
        training.optimizer.zero_grad()
        loss = training.loss(batch)["total"]
        loss.backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in training.model.parameters())
        training.optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < totals[0]


def test_the_head_learns_faster(backbone):
    rates = [group["lr"] for group in started(backbone, learning_rate=1e-4).optimizer.param_groups]
    assert rates == pytest.approx([1e-4, 4e-4])
    assert len(started(backbone, use_confidences=False).optimizer.param_groups) == 1


def test_published_recipe_is_plain_adam(backbone):
    training = started(backbone, recipe="published")
    assert type(training.optimizer) is torch.optim.Adam
    assert training.optimizer.param_groups[0]["lr"] == 1e-5
    assert training.scheduler is None
    assert training.architecture["homogeneous"]
    assert not started(backbone).architecture["homogeneous"]
    example = training.example(*moment(0), np.random.default_rng(0))
    np.testing.assert_array_equal(example["images"], [view.pixels() for view in moment(0)[0].views])


def test_the_backbone_starts_as_it_was(backbone):
    given = Checkpoint.read(backbone).state
    state = started(backbone).model.state_dict()
    assert all(torch.equal(value, state[f"backbone.{key}"]) for key, value in given.items())
    assert any(".alg_confidences." in key for key in state)
    other = Algebraic(TINY, HUMAN36M).training(backbone, seed=1).model.state_dict()
    head = "backbone.alg_confidences.first.weight"
    assert not torch.equal(state[head], other[head])
    assert torch.equal(state[head], started(backbone).model.state_dict()[head])


def test_example_is_a_function_of_its_generator(backbone):
    training = started(backbone)
    first, again, other = (training.example(*moment(0), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not np.array_equal(first["images"], other["images"])


@pytest.mark.parametrize("dist", [(0, 0, 0, 0, 0), (0.1, -0.1, 0.01, -0.02, 0)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_augmented_views_still_triangulate_to_the_truth(backbone, flip, dist):
    training = started(backbone, augmentation={"flip": flip, "rotation_deg": 20, "scale": 0.1})
    example = training.example(*moment(0, dist=dist), np.random.default_rng(0))
    pinhole = (example["points_px"] + example["lens_px"]).astype(np.float64)
    points = np.where(example["weights"][..., None] > 0, pinhole, np.nan)
    found = dlt(example["P"], points)
    known = np.isfinite(found).all(-1)
    assert known.sum() > 8
    np.testing.assert_allclose(found[known], example["joints_mm"][known], atol=0.05)
    order = HUMAN36M.flip_order if flip else range(J)
    np.testing.assert_array_equal(example["joints_mm"], moment(0)[1].joints_mm[0][order])


def test_missing_views_are_padded_and_do_not_matter(backbone):
    plain = {"augmentation": NO_AUGMENTATION.model_dump()}
    narrow, wide = started(backbone, views=2, **plain), started(backbone, views=5, **plain)
    sample, truth = moment(0, views=2)
    losses = []
    for training in (narrow, wide):
        example = training.example(sample, truth, np.random.default_rng(0))
        training.model.eval()
        losses.append(training.loss(torch.utils.data.default_collate([example]))["total"].item())
    assert example["valid"].tolist() == [True, True, False, False, False]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_more_views_than_slots_are_drawn_at_random(backbone):
    training = started(backbone, views=2, augmentation=NO_AUGMENTATION.model_dump())
    sample, truth = moment(0, views=5)
    seen = {training.example(sample, truth, np.random.default_rng(seed))["P"].tobytes() for seed in range(40)}
    assert 6 < len(seen) <= 10


def test_joints_without_truth_do_not_count(backbone):
    training = started(backbone)
    sample, truth = moment(0)
    joints = truth.joints_mm.copy()
    joints[0, 3] = np.nan
    example = training.example(sample, Truth(joints), np.random.default_rng(0))
    loss = training.loss(torch.utils.data.default_collate([example, example]))
    assert example["known"].sum() == J - 1
    assert all(torch.isfinite(value) for value in loss.values())


def test_confidences_become_weights():
    valid = torch.tensor([[True, True, False], [True, False, False]])
    confidences = torch.tensor([0.6, 0.2, 0.9])[None, :, None].expand(2, 3, J)
    weights = normalised_weights(confidences, valid)
    assert weights[0, :, 0].tolist() == pytest.approx([0.75 + 1e-5, 0.25 + 1e-5, 0])
    assert weights[1, :, 0].tolist() == pytest.approx([1 + 1e-5, 0, 0])


def test_triangulation_follows_the_confident_views():
    truth = np.random.default_rng(0).uniform(-500, 500, (J, 3))
    P = torch.from_numpy(np.stack([camera(i).P for i in range(4)]))[None]
    points = torch.from_numpy(np.stack([camera(i).project(truth) for i in range(4)]))
    points[3] += 6.0
    valid = torch.ones(1, 4, dtype=torch.bool)
    even = torch.full((4, J), 0.5, dtype=torch.float64)
    doubting = even.clone()
    doubting[3] = 1e-4
    errors = [
        np.linalg.norm(
            triangulate(points, confidences, P, valid, homogeneous=False)[0][0].numpy() - truth, axis=-1
        ).mean()
        for confidences in (even, doubting)
    ]
    assert errors[1] < 0.05 * errors[0]


def test_any_number_of_views(trained):
    samples = [moment(0, views=2)[0], moment(1, views=5)[0], moment(2, views=1)[0], moment(3, views=0)[0]]
    poses = trained.predict(samples)
    assert [np.isfinite(pose.joints_mm).all() for pose in poses] == [True, True, False, False]
    assert all(pose.joints_mm.shape == (1, J, 3) and pose.frame == "world" for pose in poses)
    assert all(0 < pose.score[0] < 1 for pose in poses[:3])
    assert poses[3].score[0] == 0
    alone = trained.predict(samples[:1])[0]
    np.testing.assert_allclose(alone.joints_mm, poses[0].joints_mm, rtol=1e-3, atol=0.5)
    assert trained.predict([]) == []


def test_prediction_undoes_the_lens(trained):
    plain = moment(0)[0]
    bent = Sample(
        "bent",
        tuple(View(v.name, camera(i, (0.3, 0, 0.02, 0, 0)), v.image, v.boxes_px) for i, v in enumerate(plain.views)),
        plain.group,
    )
    found = [trained.predict([sample])[0].joints_mm for sample in (plain, bent)]
    assert np.isfinite(found[1]).all()
    assert not np.array_equal(*found)


def test_what_cannot_be_loaded(backbone, trained, tmp_path):
    training = started(backbone)
    path = tmp_path / "weights.pt"
    Checkpoint("algebraic", training.architecture, training.model.state_dict()).save(path)
    with pytest.raises(InputError, match="use_confidences"):
        Algebraic({**TINY, "use_confidences": False}, HUMAN36M).load(path, "cpu")
    with pytest.raises(InputError, match="coco-17"):
        Algebraic(TINY, COCO).load(path, "cpu")
    with pytest.raises(InputError, match="is of backbone"):
        Algebraic(TINY, HUMAN36M).load(backbone, "cpu")
    state = training.model.state_dict()
    state.pop("backbone.final_layer.bias")
    Checkpoint("algebraic", training.architecture, state).save(path)
    with pytest.raises(InputError, match=r"missing: backbone\.final_layer\.bias"):
        Algebraic(TINY, HUMAN36M).load(path, "cpu")
    for call in (lambda: Algebraic({}, HUMAN36M).load(None, "cpu"), lambda: Algebraic({}, HUMAN36M).training(None, 0)):
        with pytest.raises(InputError, match="algebraic"):
            call()
    with pytest.raises(InputError, match=r"algebraic\W+colour"):
        Algebraic({"colour": 1}, HUMAN36M)
