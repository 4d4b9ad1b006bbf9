from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up import batch_of, ring_camera, totals_of_steps
from made_up import dotted_moment as moment

from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.algebraic.method import Algebraic
from poseboard.methods.algebraic.model import normalised_weights, triangulate
from poseboard.methods.batches.augmentation import NO_AUGMENTATION
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.geometry.triangulation import dlt

J = len(HUMAN36M)
TINY = {"steps": 6, "batch_size": 3, "views": 3, "warmup_steps": 0}


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


@pytest.mark.parametrize("options", [{}, {"use_confidences": False}, {"recipe": "published", "learning_rate": 1e-3}])
def test_a_few_steps_reduce_the_loss(backbone, options):
    training = started(backbone, **options)
    totals = totals_of_steps(training, batch_of(training, map(moment, range(3))), 8)
    assert totals[-1] < totals[0]


def test_the_head_learns_faster(backbone):
    rates = [group["lr"] for group in started(backbone, learning_rate=1e-4).optimizer.param_groups]
    assert rates == pytest.approx([1e-4, 4e-4])
    assert len(started(backbone, use_confidences=False).optimizer.param_groups) == 1


def test_published_recipe_leaves_crops_as_they_are(backbone):
    training = started(backbone, recipe="published")
    assert training.architecture["homogeneous"]
    assert not started(backbone).architecture["homogeneous"]
    example = training.example(*moment(0), np.random.default_rng(0))
    np.testing.assert_array_equal(example["images"], [view.pixels() for view in moment(0)[0].views])


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


def test_confidences_become_weights():
    valid = torch.tensor([[True, True, False], [True, False, False]])
    confidences = torch.tensor([0.6, 0.2, 0.9])[None, :, None].expand(2, 3, J)
    weights = normalised_weights(confidences, valid)
    assert weights[0, :, 0].tolist() == pytest.approx([0.75 + 1e-5, 0.25 + 1e-5, 0])
    assert weights[1, :, 0].tolist() == pytest.approx([1 + 1e-5, 0, 0])


def test_triangulation_follows_the_confident_views():
    truth = np.random.default_rng(0).uniform(-500, 500, (J, 3))
    P = torch.from_numpy(np.stack([ring_camera(i).P for i in range(4)]))[None]
    points = torch.from_numpy(np.stack([ring_camera(i).project(truth) for i in range(4)]))
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


def test_prediction_undoes_the_lens(trained):
    plain = moment(0)[0]
    lens = (0.3, 0, 0.02, 0, 0)
    bent = replace(plain, views=tuple(replace(v, camera=ring_camera(i, lens)) for i, v in enumerate(plain.views)))
    found = [trained.predict([sample])[0].joints_mm for sample in (plain, bent)]
    assert np.isfinite(found[1]).all()
    assert not np.array_equal(*found)
