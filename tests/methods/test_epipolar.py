from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import SIDE, batch_of, cameras, image_sample, person, totals_of_steps
from torch.nn import functional

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Truth
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.batches.augmentation import NO_AUGMENTATION
from poseboard.methods.batches.labels import inside_crop, visible_joints
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.epipolar import sampling
from poseboard.methods.epipolar.attention import AttentionSettings, EpipolarSampler, Samples, along_lines, everywhere
from poseboard.methods.epipolar.lines import (
    MapGrid,
    camera_centres,
    cut,
    cut_published,
    epipolar_lines,
    epipolar_segments,
    nearest_views,
    normalised,
)
from poseboard.methods.epipolar.method import Epipolar
from poseboard.methods.epipolar.model import EpipolarArchitecture
from poseboard.methods.epipolar.published import image_px_of
from poseboard.methods.epipolar.release_metrics import joint_detection_rate
from poseboard.methods.epipolar.release_rules import scale_and_turn, window_peaks
from poseboard.methods.epipolar.triangulation import Correspondences, confident_dlt, triangulate_released
from poseboard.methods.geometry.triangulation import dlt
from poseboard.methods.nets.pose_resnet import PoseResNet
from poseboard.methods.weights import import_weights

J = len(HUMAN36M)
TINY = {"steps": 6, "batch_size": 2, "views": 3, "warmup_steps": 0}
PLAIN = {"layers": (), "residual": False}
GRID = MapGrid(16, 16, 4, 0.0)


def projections(count=4):
    return torch.from_numpy(np.stack([camera.P for camera in cameras(count, size=SIDE)]))


# --- lines


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_point_is_seen_on_its_line(seed):
    made = cameras(4)
    X = person(seed, joints=5)
    P = torch.from_numpy(np.stack([camera.P for camera in made]))
    for ref, src in ((0, 1), (2, 0)):
        here, there = (torch.from_numpy(made[i].project(X)) for i in (ref, src))
        lines = epipolar_lines(P[ref : ref + 1], P[src : src + 1], here)[0]
        assert torch.linalg.vector_norm(lines[:, :2], dim=-1).numpy() == pytest.approx(np.ones(5))
        assert (lines[:, :2] * there).sum(-1).add(lines[:, 2]).abs().max() < 1e-6


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 2 * np.pi), st.floats(-50, 50))
def test_both_cuts_agree_inside_the_map(angle, shift):
    normal = np.array([np.cos(angle), np.sin(angle)])
    line = torch.tensor([[*normal, -normal @ (30.0, 30.0) + shift]], dtype=torch.float64)
    ours, published = cut(line, GRID), cut_published(line, GRID)
    if ours.hit:
        for end in (ours.start_px[0], ours.end_px[0]):
            assert abs(float(line[0, :2] @ end + line[0, 2])) < 1e-8
            assert -1e-8 <= float(end.min()) <= float(end.max()) <= 60 + 1e-8
            assert min(float((end - 0).abs().min()), float((end - 60).abs().min())) < 1e-8
    long = ours.hit and float((ours.end_px - ours.start_px).norm()) > 1
    assert bool(published.hit) <= bool(ours.hit)
    if long and published.hit:
        ends = sorted(map(tuple, torch.cat([published.start_px, published.end_px]).tolist()))
        want = sorted(map(tuple, torch.cat([ours.start_px, ours.end_px]).tolist()))
        assert np.abs(np.array(ends) - np.array(want)).max() < 2e-2 or np.abs(np.sin(2 * angle)) < 2e-3


def test_a_line_through_corners_is_lost_by_the_published_rule_alone():
    diagonal = torch.tensor([[1.0, 1.0, -60.0]], dtype=torch.float64) / np.sqrt(2)
    assert not cut_published(diagonal, GRID).hit
    ours = cut(diagonal, GRID)
    assert ours.hit
    assert sorted(ours.start_px[0].tolist() + ours.end_px[0].tolist()) == pytest.approx([0, 0, 60, 60])


def test_cameras_without_epipolar_lines_are_missed():
    P = projections(1)
    segments = epipolar_segments(P, P, GRID)
    assert not segments.hit.any()
    assert torch.isfinite(segments.start_px).all()


def test_sources_are_the_nearest_views_that_are_there():
    P = projections(5)[None]
    valid = torch.tensor([[True, True, False, True, True]])
    near = nearest_views(P, valid, None)[0]
    assert near.shape == (5, 4)
    centres = camera_centres(P[0])
    for view in (0, 1, 3, 4):
        others = [i for i in near[view].tolist() if i >= 0]
        assert sorted(others) == sorted({0, 1, 3, 4} - {view})
        distance = torch.linalg.vector_norm(centres[others] - centres[view], dim=-1)
        assert distance.tolist() == sorted(distance.tolist())
        assert near[view, 3] == -1
    assert (near[2] == -1).all()
    assert torch.equal(nearest_views(P, valid, 1)[0, :, 0], near[:, 0])
    assert nearest_views(P[:, :1], valid[:, :1], None).shape == (1, 1, 0)


# --- attention


def naive(reference, source, samples, grid, scale=0.125):
    """The specification's section 4.2 for one pair, every sample gathered."""
    cells = grid.height * grid.width
    at = normalised(samples.at(slice(None), torch.arange(cells)), grid).float().transpose(1, 2)
    gathered = functional.grid_sample(source, at, align_corners=True)
    similarity = (reference.flatten(2)[:, :, None] * gathered).sum(1)
    weights = (scale * torch.where(similarity == 0, -1e10, similarity)).softmax(dim=1)
    return (weights[:, None] * gathered).sum(2).unflatten(2, (grid.height, grid.width)), weights.mT


@pytest.fixture(params=["loops", "matrices"])
def way(request, monkeypatch):
    """How attention is computed: as on a CPU, by compiled loops, or as on a GPU, by products of matrices."""
    monkeypatch.setattr("poseboard.methods.epipolar.attention._is_compiled", lambda _: request.param == "loops")
    return request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("side", [16, 40])  # whole maps, and blocks of cells
@pytest.mark.parametrize("where", ["lines", "anywhere"])
def test_attention_equals_gathering_everything(side, where):
    generator = torch.Generator().manual_seed(side)
    grid = MapGrid(side, side, 4, 1.5)
    reference, source = torch.randn(2, 1, 6, side, side, generator=generator)
    if where == "lines":
        P = torch.from_numpy(np.stack([camera.P for camera in cameras(4, size=4 * side)]))
        samples = along_lines(epipolar_segments(P[:1], P[1:2], grid), grid, 20)
    else:
        start = torch.rand(1, side * side, 2, generator=generator, dtype=torch.float64) * 1.2 * side - 0.1 * side
        samples = Samples(start, 0.3 * start.flip(1), torch.rand(20, 2).double(), torch.ones(1, side * side) > 0)
    module = EpipolarSampler(6, AttentionSettings(samples=20, **PLAIN))
    pair = torch.tensor([[0, 0]])
    gradients = []
    for ours in (True, False):
        maps = [reference.clone().requires_grad_(), source.clone().requires_grad_()]
        out = module(*maps, pair, samples, grid).features if ours else naive(*maps, samples, grid)[0]
        out.square().sum().backward()
        gradients.append((out.detach(), maps[0].grad, maps[1].grad))
    for mine, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    with torch.no_grad():
        detail = module(reference, source, pair, samples, grid, detail=True)
    weights = naive(reference, source, samples, grid)[1]
    np.testing.assert_allclose(detail.weights, weights, rtol=0, atol=1e-5)
    assert (detail.weights.argmax(-1) == weights.argmax(-1)).float().mean() > 0.99


def test_samples_that_are_nowhere_are_zero():
    maps = torch.ones(1, 256, 3, requires_grad=True)
    vectors, source = torch.ones(1, 1, 3), torch.tensor([0])
    nowhere = torch.tensor([[-1, 2], [16, 2], [2, -1], [2, 16], [1e30, 2], [2, -torch.inf], [torch.nan, 2]])
    places = nowhere[None, None].double()
    found = sampling.products(vectors, maps, source, places, GRID)
    assert torch.equal(found, torch.zeros(1, 1, 7))
    total = sampling.sums(torch.ones(1, 1, 7), maps, source, places, GRID)
    assert torch.equal(total, torch.zeros(1, 1, 3))
    (found.sum() + total.sum()).backward()
    assert torch.equal(maps.grad, torch.zeros_like(maps))


@pytest.mark.usefixtures("way")
def test_a_table_in_place_of_similarities_is_the_weights():
    """As it is: neither a soft-max nor masked; the maximum is of cosines whatever the similarity is."""
    generator = torch.Generator().manual_seed(0)
    reference, source = torch.randn(2, 2, 8, 16, 16, generator=generator)
    table = torch.rand(2, 24, 16, 16, generator=generator)
    table[:, 3] = 0
    P = projections()
    samples = along_lines(epipolar_segments(P[:2], P[2:], GRID), GRID, 24)
    pairs = torch.tensor([[0, 0], [1, 1]])

    def attended(**options):
        made = EpipolarSampler(8, AttentionSettings(**PLAIN, samples=24, **options))
        prior = table if options["similarity"] == "prior" else None
        return made(reference, source, pairs, samples, GRID, prior=prior, detail=True)

    found = attended(similarity="prior")
    torch.testing.assert_close(found.weights, table.flatten(2).mT)
    at = normalised(samples.at(slice(None), torch.arange(256)), GRID).float().transpose(1, 2)
    gathered = functional.grid_sample(source, at, align_corners=True).unflatten(3, (16, 16))
    torch.testing.assert_close(found.features, (table[:, None] * gathered).sum(2), rtol=1e-4, atol=1e-4)
    by_cosine = attended(similarity="cos", attention="max")
    torch.testing.assert_close(attended(similarity="prior", attention="max").features, by_cosine.features)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("options", [{"similarity": "cos"}, {"pool": True}, {"attention": "max"}, {"softmax": False}])
def test_blocks_do_not_matter(monkeypatch, options):
    P = projections()
    samples = along_lines(epipolar_segments(P[:2], P[2:], GRID), GRID, 12)
    module = EpipolarSampler(5, AttentionSettings(samples=12, **PLAIN, **options))
    maps = torch.randn(4, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    pairs = torch.tensor([[0, 2], [1, 3]])
    whole = module(maps, maps, pairs, samples, GRID).features
    for name, value in (("_BLOCK_NUMBERS", 700), ("_DENSE_CELLS", 0), ("_BLOCK_CELLS", 50)):
        monkeypatch.setattr(f"poseboard.methods.epipolar.attention.{name}", value)
    np.testing.assert_allclose(module(maps, maps, pairs, samples, GRID).features, whole, rtol=1e-4, atol=1e-5)


def test_several_sources_are_averaged_over_those_that_see_the_line():
    P = projections()
    module = EpipolarSampler(5, AttentionSettings(samples=12, **PLAIN))
    maps = torch.randn(4, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    pairs = torch.tensor([[0, 1], [0, 2], [0, 3]])
    segments = epipolar_segments(P[pairs[:, 0]], P[pairs[:, 1]], GRID)
    segments.hit[2, :40] = False
    samples = along_lines(segments, GRID, 12)
    together = module(maps[:1], maps, pairs, samples, GRID).features[0].flatten(1)
    one_by_one = [Samples(*(s[[i]] for s in samples[:2]), samples.path, samples.hit[[i]]) for i in range(3)]
    each = [module(maps[:1], maps, pairs[[i]], one, GRID).features[0].flatten(1) for i, one in enumerate(one_by_one)]
    count = samples.hit.sum(0)
    hits = samples.hit.float()
    want = sum(out * hit for out, hit in zip(each, hits, strict=True)) / count.clamp(min=1)
    np.testing.assert_allclose(together, want, rtol=1e-4, atol=1e-5)


def test_a_view_without_sources_gets_nothing():
    module = EpipolarSampler(5, AttentionSettings(samples=12))
    torch.nn.init.ones_(module.bn.bias)
    P = projections()
    samples = along_lines(epipolar_segments(P[:1], P[1:2], GRID), GRID, 12)
    maps = torch.randn(2, 5, 16, 16)
    out = module(maps, maps, torch.tensor([[0, 1]]), samples, GRID).features
    assert out[0].abs().min() > 0
    assert not out[1].any()
    empty = Samples(*(torch.zeros(0, 256, 2, dtype=torch.float64),) * 2, samples.path, torch.zeros(0, 256) > 0)
    assert not module(maps, maps, torch.zeros(0, 2, dtype=torch.long), empty, GRID).features.any()


def test_the_control_looks_at_as_many_places_whatever_the_cameras():
    samples = everywhere(3, GRID, 24)
    places = samples.at(slice(None), torch.arange(256))
    assert places.shape == (3, 256, 24, 2)
    assert (places == places[:1, :1]).all()
    assert places.min() >= 0
    assert places.max() <= 15
    assert len(torch.unique(places[0, 0], dim=0)) == 24
    spread = places[0, 0].numpy()
    assert all(((spread < 7.5) == quadrant).all(axis=1).sum() >= 4 for quadrant in ([0, 0], [0, 1], [1, 0], [1, 1]))


@pytest.mark.parametrize(
    "wrong", [{"bottleneck": 2}, {"layers": ()}, {"pool": True, "samples": 5}, {"similarity": "chebyshev"}]
)
def test_settings_that_contradict_each_other_are_refused(wrong):
    with pytest.raises(InputError, match=r"epipolar\W+attention"):
        Epipolar({"attention": wrong}, HUMAN36M)


# --- the method


def moment(seed, views=4):
    return image_sample(seed, views, key=f"s{seed}"), Truth(person(seed)[None])


def started(backbone, **options):
    return Epipolar({**TINY, **options}, HUMAN36M).training(backbone, seed=0)


def loaded(backbone, folder, **options):
    training = started(backbone, **options)
    path = folder / "epipolar.pt"
    Checkpoint("epipolar", training.architecture, training.model.state_dict()).save(path)
    method = Epipolar({**TINY, **options}, HUMAN36M)
    method.load(path, "cpu")
    return method


@pytest.mark.parametrize("fusion", ["epipolar", "unconstrained"])
def test_a_fresh_block_changes_nothing(backbone, tmp_path, fusion):
    sample, _ = moment(0)
    (alone,) = loaded(backbone, tmp_path, fusion="none").predict([sample])
    (fused,) = loaded(backbone, tmp_path, fusion=fusion).predict([sample])
    np.testing.assert_allclose(fused.joints_mm, alone.joints_mm, rtol=1e-4, atol=1e-2)


def test_the_control_is_the_same_network(backbone):
    constrained, control, single = (
        started(backbone, fusion=fusion).model.state_dict() for fusion in ("epipolar", "unconstrained", "none")
    )
    assert constrained.keys() == control.keys() > single.keys()
    assert all(torch.equal(value, control[key]) for key, value in constrained.items())
    assert {key.split(".")[0] for key in constrained} == {"backbone", "epipolar_sampler"}


@pytest.mark.parametrize("fusion", ["epipolar", "unconstrained"])
@pytest.mark.parametrize("recipe", ["small", "published"])
def test_a_few_steps_reduce_the_loss(backbone, fusion, recipe):
    training = started(backbone, fusion=fusion, recipe=recipe, learning_rate=2e-3)
    before = {key: value.clone() for key, value in training.model.state_dict().items()}
    totals = totals_of_steps(training, batch_of(training, [moment(i, 3) for i in range(2)]), 8)
    assert totals[-1] < totals[0]
    moved = [key for key, value in training.model.state_dict().items() if not torch.equal(value, before[key])]
    assert {key.split(".")[0] for key in moved} == {"backbone", "epipolar_sampler"}


@pytest.mark.parametrize("loss", ["joint_sum", "smoothmse", "mse"])
def test_the_other_published_losses(backbone, loss):
    training, usual = (started(backbone, recipe="published", learning_rate=2e-3, **o) for o in ({"loss": loss}, {}))
    batch = batch_of(training, [moment(i, 3) for i in range(2)])
    totals, of_usual = totals_of_steps(training, batch, 6), totals_of_steps(usual, batch, 1)
    assert totals[-1] < totals[0]
    assert totals[0] == pytest.approx(of_usual[0] * (J if loss == "joint_sum" else 1), rel=1e-4)  # all joints are seen


def test_the_published_recipe_logs_the_measures_of_the_release(backbone):
    training = started(backbone, recipe="published")
    losses = training.loss(batch_of(training, [moment(i, 3) for i in range(2)]))
    assert losses.keys() == {"total", "error_px", "jdr", "pck_x_5px", "pck_x_10px"}
    assert [name for name, value in losses.items() if value.requires_grad] == ["total"]
    assert 0 <= losses["pck_x_5px"] <= losses["pck_x_10px"] <= 1
    assert 0 <= losses["jdr"] <= 1


def test_detection_on_maps_that_are_not_square_is_the_releases():
    """It measures columns by the map's height and rows by its width."""
    target = torch.zeros(4, 1, 20, 80)
    found = target.clone()
    target[:, 0, 10, 40] = 1
    for i, (row, column) in enumerate([(10, 40), (13, 40), (10, 42), (14, 40)]):
        found[i, 0, row, column] = 1
    of_each = [joint_detection_rate(found[i : i + 1], target[i : i + 1]).item() for i in range(4)]
    assert of_each == [1, 1, 0, 0]  # 3 rows are 3 / 80 of the width, 2 columns 2 / 20 of the height


@pytest.mark.parametrize("choice", [1, 3])
def test_the_published_recipe_shows_a_view_and_one_near_it(backbone, choice):
    training = started(backbone, recipe="published", source_choice=choice)
    sample, truth = moment(0, 5)
    centres = np.stack([view.camera.centre_mm for view in sample.views])
    pairs = set()
    for seed in range(60):
        example = training.example(sample, truth, np.random.default_rng(seed))
        found = camera_centres(torch.from_numpy(example["P"])).numpy()
        ref, src = (int(np.linalg.norm(centres - centre, axis=1).argmin()) for centre in found)
        distance = np.linalg.norm(centres - centres[ref], axis=1)
        assert 1 <= np.argsort(distance, kind="stable").tolist().index(src) <= choice
        pairs.add((ref, src))
        assert example["images"].shape == (2, SIDE, SIDE, 3)
    assert len({ref for ref, _ in pairs}) == 5
    assert len(pairs) > 5 if choice > 1 else len(pairs) == 5
    alone = started(backbone, recipe="published", fusion="none").example(sample, truth, np.random.default_rng(0))
    assert alone["valid"].tolist() == [True]


@pytest.mark.parametrize("recipe", ["small", "published"])
def test_changed_crops_keep_their_cameras(backbone, recipe):
    training = started(backbone, recipe=recipe, scale_factor=0.25, rotation_deg=30)
    sample, truth = moment(0, 3)
    example = training.example(sample, truth, np.random.default_rng(1))
    assert not np.array_equal(example["images"][0], sample.views[0].pixels())
    points = np.where(example["weights"][..., None] > 0, example["points_px"].astype(np.float64), np.nan)
    found = dlt(example["P"], points)
    known = np.isfinite(found).all(-1)
    assert known.sum() > 5
    np.testing.assert_allclose(found[known], example["joints_mm"][known], atol=0.1)


def test_the_published_change_of_a_crop():
    view = image_sample(0, 2).views[0]
    same, A = scale_and_turn(view, SIDE, 0, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(same, view.pixels())
    np.testing.assert_allclose(A, np.eye(3), atol=1e-12)
    smaller, _ = scale_and_turn(view, SIDE // 2, 0, 0, np.random.default_rng(0))
    assert smaller.shape == (SIDE // 2, SIDE // 2, 3)
    turned = 0
    for seed in range(200):  # crops are solved from points in float32, as the release's are
        _, A = scale_and_turn(view, SIDE, 0.25, 30, np.random.default_rng(seed))
        size = 1 / np.sqrt(np.linalg.det(A[:2, :2]))
        assert 0.75 - 1e-6 <= size <= 1.25 + 1e-6
        angle = np.rad2deg(np.arctan2(A[0, 1], A[0, 0]))
        assert abs(angle) <= 60 + 1e-4
        turned += abs(angle) > 1e-4
    assert 90 < turned < 150


def test_a_turned_crop_needs_a_box():
    view = replace(image_sample(0, 2).views[0], boxes_px=np.full((1, 4), np.nan))
    with pytest.raises(InputError, match=r"view c0.*box"):
        scale_and_turn(view, SIDE, 0.25, 30, np.random.default_rng(0))


def annotated(sample, px):
    """Of every view the pixels (J, 2) of its crop, as a data set would have annotated them."""
    return {view.name: view.camera.normalised(px)[None] for view in sample.views}


def test_targets_of_the_published_recipe_are_the_annotated_joints(backbone):
    sample, pose = image_sample(0, 3), person(0)
    off_px = np.array([1.5, -2.0])
    moved = {view.name: view.camera.normalised(view.camera.project(pose) + off_px)[None] for view in sample.views}
    truth = Truth(pose[None], annotated=moved)
    for recipe, off in (("published", off_px), ("small", 0 * off_px)):
        training = Epipolar({**TINY, "recipe": recipe, "augmentation": NO_AUGMENTATION}, HUMAN36M).training(backbone, 0)
        example = training.example(sample, truth, np.random.default_rng(0))
        for i in np.flatnonzero(example["valid"]):
            (view,) = (v for v in sample.views if np.allclose(v.camera.P, example["P"][i]))
            seen = example["weights"][i] > 0
            assert seen.any()
            expected = view.camera.project(pose) + off
            np.testing.assert_allclose(example["points_px"][i][seen], expected[seen], atol=1e-4)


def test_the_published_recipe_counts_the_whole_last_column(backbone):
    """The release takes 0 <= x < side; the small recipe the span between the centres of the outermost pixels."""
    px = np.full((J, 2), SIDE / 2)
    edges = [-0.01, 0.0, SIDE - 1, SIDE - 0.5, SIDE - 0.01, SIDE]
    px[: len(edges), 0] = px[len(edges) : 2 * len(edges), 1] = edges
    sample = image_sample(0, 2)
    truth = Truth(person(0)[None], annotated=annotated(sample, px))
    training = Epipolar({**TINY, "recipe": "published"}, HUMAN36M).training(backbone, 0)
    found = training.example(sample, truth, np.random.default_rng(0))["weights"]
    assert found[0].tolist() == 2 * [0, 1, 1, 1, 1, 0] + [1] * (J - 12)
    assert inside_crop(px, SIDE).tolist() == 2 * [0, 1, 1, 0, 0, 0] + [1] * (J - 12)


@pytest.mark.parametrize("side", [SIDE, None], ids=["crop", "frame"])
def test_hidden_joints_keep_their_annotated_place_in_the_published_recipe(side):
    """The release draws the maps of hidden joints; the weights alone leave them out."""
    view = image_sample(0, 2).views[0]
    px = np.linspace(5, SIDE - 5, 2 * J).reshape(J, 2)
    shown = (np.arange(J) % 3 > 0)[None]
    truth = Truth(person(0)[None], {view.name: shown}, {view.name: view.camera.normalised(px)[None]})
    points, weights = visible_joints(view, truth, side, published=True)
    np.testing.assert_allclose(points, px, atol=1e-9)
    np.testing.assert_array_equal(weights, shown[0])


def test_joints_beyond_the_frame_count_where_the_crop_shows_them(backbone):
    """The crop of a box that leaves the frame is black there; the release trains on those joints all the same."""
    training = started(backbone, recipe="published", scale_factor=0.0001)
    sample, truth = moment(0, 3)
    left = 3 * SIDE // 4  # the frame is the right part of what the box is about
    moved = tuple(
        replace(
            view,
            camera=replace(
                view.camera, K=[[1, 0, -left], [0, 1, 0], [0, 0, 1]] @ view.camera.K, size=(SIDE - left, SIDE)
            ),
            image=np.ascontiguousarray(view.pixels()[:, left:]),
            boxes_px=np.array([[-left, 0.0, SIDE - left, SIDE]]),
        )
        for view in sample.views
    )
    whole = training.example(replace(sample, views=moved), truth, np.random.default_rng(0))
    seen = training.example(sample, truth, np.random.default_rng(0))
    np.testing.assert_array_equal(whole["weights"], seen["weights"])
    np.testing.assert_allclose(whole["points_px"], seen["points_px"], atol=1e-3)


@pytest.mark.filterwarnings("error")
def test_lines_that_miss_lose_no_joint_of_a_view_with_a_lens(backbone, tmp_path):
    """The far place that such a line answers is not a pixel of the lens."""
    method = loaded(backbone, tmp_path, triangulation="epipolar_dlt", confidence=2.0)
    sample, _ = moment(0, 2)
    aside = np.array([[1, 0, 0], [0, 1, 1.5 * SIDE], [0, 0, 1]])  # crops that do not see the same part of the world
    first, second = sample.views
    second = replace(second, camera=replace(second.camera, K=aside @ second.camera.K))
    sample = replace(sample, views=(first, second))
    bent = tuple(
        replace(view, camera=replace(view.camera, dist=(0.02, 0.01, 0.001, 0.001, 0.005))) for view in sample.views
    )
    for views in (sample.views, bent):
        (answer,) = method.predict([replace(sample, views=views)])
        assert np.isfinite(answer.joints_mm).all()


@pytest.mark.parametrize("decoding", ["softargmax", "window", "argmax"])
def test_released_cells_lie_half_a_cell_in(decoding):
    """However maps are read: peaks on the cells of the release's grid are found where that has them."""
    released = EpipolarArchitecture.released("resnet50", HUMAN36M.joints)
    cells = torch.tensor([[20, 31], [40, 8]])
    heatmaps = torch.full((2, 1, 64, 64), -50.0)
    heatmaps[torch.arange(2), 0, cells[:, 1], cells[:, 0]] = 50.0
    points, _ = released.decode(heatmaps, decoding)
    np.testing.assert_allclose(points[:, 0], cells * 4 + 1.5, atol=1e-3)


def seen_person(views, joints):
    """P (V, 3, 4) of cameras, a person X (J, 3) and its pixels (V, J, 2)."""
    made, X = cameras(views), person(0, joints=joints)
    return np.stack([camera.P for camera in made]), X, np.stack([camera.project(X) for camera in made])


def test_confident_views_triangulate_alone():
    P, X, px = seen_person(4, 3)
    px[0] += 40
    scores = np.array([[0.04] * 3, [0.9] * 3, [0.8, 0.8, 0.01], [0.7, 0.03, -0.02]])
    found = confident_dlt(P, px, scores)
    np.testing.assert_allclose(found[0], X[0], atol=1e-6)
    np.testing.assert_allclose(found[1], X[1], atol=1e-6)
    assert np.linalg.norm(found[2] - X[2]) > 5  # only one is sure, and the spoilt view is the next
    px[1:] = np.nan
    assert np.isnan(confident_dlt(P, px, scores)).all()


@pytest.mark.parametrize("scheme", ["naive", "refine", "epipolar"])
def test_views_that_disagree_are_left_out(scheme):
    made = cameras(5)
    X = np.stack([person(seed, joints=6) for seed in range(3)])
    P = np.stack([camera.P for camera in made])
    px = np.stack([[camera.project(frame) for camera in made] for frame in X])
    px[0, 1] += 40
    px[1, 3:] += (-30, 50)
    px[2, 0, 2] = np.nan
    scores = np.full(px.shape[:-1], 0.9)
    found_in = Correspondences(np.full(scores.shape[:2], -1), np.full_like(px, np.nan))
    found = triangulate_released(scheme, P, px, scores, found_in)
    np.testing.assert_allclose(found, X, atol=1e-5)
    alone = np.stack(
        [triangulate_released(scheme, P, *one) for one in zip(px, scores, map(Correspondences, *found_in), strict=True)]
    )
    np.testing.assert_allclose(found, alone, atol=1e-9)
    order = [3, 1, 4, 0, 2]
    turned = triangulate_released(scheme, P[order], px[:, order], scores[:, order], found_in)
    np.testing.assert_allclose(turned, found, atol=1e-6)
    scores[:, 1:] = 0.01
    assert np.isnan(triangulate_released(scheme, P, px, scores, found_in)).all()


def test_thresholds_of_the_released_triangulations():
    P, X, px = seen_person(3, 2)
    px[2] += 9  # some 40 mm
    scores = np.array([[0.7] * 2, [0.8] * 2, [0.9] * 2])
    near, wide = (triangulate_released("refine", P, px, scores, inlier_mm=mm) for mm in (5.0, 500.0))
    np.testing.assert_allclose(near, X, atol=1e-6)
    np.testing.assert_allclose(wide, dlt(P, px, homogeneous=True), atol=1e-6)
    sure = triangulate_released("refine", P, px, scores, confidence=0.75)
    np.testing.assert_allclose(sure, dlt(P[1:], px[1:], homogeneous=True), atol=1e-6)


@pytest.mark.parametrize("scheme", ["naive", "refine", "epipolar"])
def test_where_no_view_agrees_the_release_answers_the_origin(scheme):
    """Published weights are measured so; elsewhere the point of the nearest pair of rays is the answer."""
    P, X, px = seen_person(4, 3)
    px[:, 0] += [(40, 0), (0, -60), (-50, 30), (20, 70)]  # no two views agree
    px[2:, 1] += [(-50, 30), (20, 70)]  # two do
    scores = np.full(px.shape[:-1], 0.9)
    found_in = Correspondences(np.full(4, -1), np.full_like(px, np.nan))

    def found(compat, scores=scores):
        return triangulate_released(scheme, P, px, scores, found_in, inlier_mm=1e-3, compat=compat)

    ours, theirs = found(compat=False), found(compat=True)
    assert (theirs[0] == 0).all()
    assert np.linalg.norm(ours[0] - X[0]) < 500
    np.testing.assert_allclose(ours[1:], X[1:], atol=1e-5)
    np.testing.assert_array_equal(theirs[1:], ours[1:])
    scores = np.full(px.shape[:-1], 0.01)
    scores[0] = 0.9  # one view is sure: of these schemes "epipolar" alone knows what to do then
    assert np.isnan(found(compat=False, scores=scores)).all()
    assert np.isnan(found(compat=True, scores=scores)).all() == (scheme == "epipolar")
    assert (np.nan_to_num(found(compat=True, scores=scores)) == 0).all()


@pytest.mark.parametrize("sure", [0, 1])
@pytest.mark.parametrize("scheme", ["epipolar", "epipolar_dlt"])
def test_a_view_that_is_sure_alone_asks_where_it_looked(scheme, sure):
    P, X, truth = seen_person(3, 2)
    px = truth + np.array([30.0, 0, 30])[:, None, None]
    scores = np.array([[0.2] * 2, [0.95 if sure else 0.5] * 2, [0.3] * 2])
    found_in = Correspondences(np.array([1, 2, 0]), np.roll(truth, -1, axis=0))
    np.testing.assert_allclose(triangulate_released(scheme, P, px, scores, found_in), X, atol=1e-6)
    with pytest.raises(ValueError, match="correspondences"):
        triangulate_released(scheme, P, px, scores)


@torch.inference_mode()
def test_the_network_tells_where_it_found_a_joint(backbone, tmp_path):
    method = loaded(backbone, tmp_path, triangulation="epipolar_dlt", confidence=2.0)  # nobody is that sure
    samples = [moment(0, 2)[0], moment(1, 4)[0]]
    answers = method.predict(samples)
    grid = method.loaded.architecture.grid(torch.zeros(1, 1, SIDE // 4, SIDE // 4))
    for sample, answer in zip(samples, answers, strict=True):
        P, valid = projections(len(sample.views))[None], torch.ones(1, len(sample.views), dtype=torch.bool)
        source = nearest_views(P, valid, 1)[0, :, 0].tolist()
        images = torch.from_numpy(np.stack([view.pixels() for view in sample.views]))
        seen = method._decoded(method.loaded, images, P.numpy(), valid.numpy())
        for joint in (0, 7):
            view = int(seen.peaks[:, joint].argmax())
            point = seen.points_px[view, joint]
            (match,) = method.match(sample, view, [source[view]], np.floor(point / 4) * 4 + grid.offset_px)
            there = match.samples_px[match.weights.argmax()]
            pair = [view, source[view]]
            want = dlt(P[0, pair].numpy(), np.stack([point, there])[:, None], homogeneous=True)[0]
            np.testing.assert_allclose(answer.joints_mm[0, joint], want, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"triangulation": "epipolar", "fusion": "none"}, "fusion"),
        ({"triangulation": "epipolarr"}, "triangulation: .*'epipolar_dlt'"),
        ({"confidence": 0.5}, "confidence.*triangulation"),
        ({"triangulation": "pymvg", "inlier_mm": 5}, "inlier_mm.*triangulation"),
    ],
)
def test_options_that_have_no_effect_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        Epipolar(wrong, HUMAN36M)


def test_a_match_lies_on_the_line_of_its_pixel(backbone, tmp_path):
    method = loaded(backbone, tmp_path)
    sample, _ = moment(0)
    (match,) = method.match(sample, 2, [0], (30.2, 41.0))
    assert match.pixel_px.tolist() == [32, 40]  # the cell asked
    assert match.hit
    P = torch.from_numpy(np.stack([view.camera.P for view in sample.views]))
    line = epipolar_lines(P[2:3], P[:1], torch.from_numpy(match.pixel_px)[None])[0, 0].numpy()
    assert np.abs(match.samples_px @ line[:2] + line[2]).max() < 1e-6
    np.testing.assert_array_equal(match.line_px, match.samples_px[[0, -1]])
    assert match.weights.sum() == pytest.approx(1, abs=1e-5)
    (control,) = loaded(backbone, tmp_path, fusion="unconstrained").match(sample, 2, [0], (30.2, 41.0))
    assert control.samples_px.shape == match.samples_px.shape
    assert np.isnan(control.line_px).all()
    assert loaded(backbone, tmp_path, fusion="none").match(sample, 0, [1], (1, 1)) == []


def test_a_picture_is_drawn_of_the_sample_and_the_answer_alone(backbone, tmp_path):
    method = loaded(backbone, tmp_path)
    sample, _ = moment(0)
    (answer,) = method.predict([sample])
    (picture,) = method.figures(sample, answer, images=True)
    assert picture.title == "Right wrist"
    assert all(view.name in picture.caption for view in sample.views)
    moved = replace(answer, joints_mm=answer.joints_mm + 300.0)
    (other,) = method.figures(sample, moved, images=True)
    assert not np.array_equal(picture.image, other.image)  # it is the answer's joint that is asked for
    (hidden,) = method.figures(sample, answer, images=False)
    assert "not shown" in hidden.caption
    far = replace(answer, joints_mm=answer.joints_mm + 1e30 * sample.views[0].camera.R[0])
    assert len(method.figures(sample, far, images=False)) == 1
    nobody = replace(answer, joints_mm=np.full_like(answer.joints_mm, np.nan))
    assert method.figures(sample, nobody, images=True) == []
    assert method.figures(replace(sample, views=sample.views[:1]), answer, images=True) == []
    alone = loaded(backbone, tmp_path, fusion="none")
    assert alone.figures(sample, answer, images=True) == []


def test_options_decide_how_it_triangulates(backbone, tmp_path):
    sample, _ = moment(0)

    def answer(**options):
        return loaded(backbone, tmp_path, **options).predict([sample])[0].joints_mm

    plain, argmax, window = answer(), answer(decoding="argmax"), answer(decoding="window")
    others = [answer(triangulation="robust"), answer(triangulation="pymvg"), argmax, window]
    assert not any(np.allclose(plain, other) for other in others)
    assert not np.allclose(argmax, window)
    np.testing.assert_allclose(plain, answer(sources=3), rtol=1e-4, atol=1e-2)  # a fresh block adds nothing


def test_weights_of_the_release_decode_as_their_attention_looks_up():
    maps = torch.rand(2, J, 16, 16, generator=torch.Generator().manual_seed(0))
    made = {"network": "small", "joints": HUMAN36M.joints, "crop_px": SIDE, "compat": True}
    for align in (True, False):
        arch = EpipolarArchitecture(**made, attention=AttentionSettings(align_corners=align))
        cells, _ = window_peaks(maps, arch.window_cells, align_corners=align)
        np.testing.assert_allclose(arch.decode(maps)[0], cells * 4 + 1.5, rtol=1e-6)
    whole, _ = arch.decode(maps, "argmax")
    assert set((whole.flatten() - 1.5).remainder(4).tolist()) == {0.0}
    assert arch.decode(-maps, "argmax")[0].unique().tolist() == [1.5]


@pytest.mark.parametrize("sources", [1, 2, 9])
def test_any_number_of_source_views(backbone, tmp_path, sources):
    method = loaded(backbone, tmp_path, sources=sources)
    torch.nn.init.ones_(method.loaded.epipolar_sampler.bn.weight)
    answers = method.predict([moment(0, views)[0] for views in (4, 2, 3)])
    assert all(np.isfinite(answer.joints_mm).all() for answer in answers)
    P, valid = projections(4)[None], torch.ones(1, 4, dtype=torch.bool)
    pairs = method.loaded.pairs(P, valid, method.loaded.architecture.sources)
    assert len(pairs) == 4 * min(sources, 3)


def test_no_augmentation_hands_over_the_crops(backbone):
    training = started(backbone, augmentation=NO_AUGMENTATION.model_dump())
    sample, truth = moment(0, 3)
    example = training.example(sample, truth, np.random.default_rng(0))
    np.testing.assert_array_equal(example["images"], [view.pixels() for view in sample.views])


# --- published weights


PREFIXES = ("reference", "backbone")


def published_state(joints=17, settings=None, prefixes=PREFIXES):
    torch.manual_seed(0)
    net = PoseResNet(18, joints)
    torch.nn.init.normal_(net.final_layer.bias)
    if settings is not None:
        net.epipolar_sampler = EpipolarSampler(256, settings)
    return net, {f"{prefix}.module.{key}": value for prefix in prefixes for key, value in net.state_dict().items()}


def saved(folder, state):
    path = folder / "model_final.pth"
    torch.save({"model": state, "epoch": 4}, path)
    return path


OLDER = {"correct_normalise": False}


@pytest.mark.parametrize(
    ("joints", "settings"),
    [
        (17, AttentionSettings()),
        (20, AttentionSettings(**OLDER)),  # resnet152_384_strong
        (17, AttentionSettings(**PLAIN, **OLDER)),
        (20, AttentionSettings(**PLAIN, **OLDER)),
        (20, AttentionSettings(layers=("z", "theta", "phi", "g"), residual=False, bottleneck=2, pool=True, **OLDER)),
        (20, None),
    ],
)
def test_published_layouts_are_recognised(tmp_path, joints, settings):
    net, state = published_state(joints, settings, PREFIXES[1:] if settings is None else PREFIXES)
    checkpoint = import_weights("epipolar", saved(tmp_path, state))
    architecture = EpipolarArchitecture.of(checkpoint, "x")
    assert architecture.fusion == ("none" if settings is None else "epipolar")
    assert settings is None or architecture.attention == settings
    assert (architecture.channels, architecture.sources, architecture.compat) == ("bgr", 1, True)
    assert set(architecture.joints) == set(HUMAN36M.joints)
    assert len(checkpoint.state["backbone.final_layer.bias"]) == 17
    neck = architecture.joints.index("thorax")
    assert checkpoint.state["backbone.final_layer.bias"][neck] == net.final_layer.bias[9 if joints == 20 else 8]
    checkpoint.save(tmp_path / "ours.pt")
    method = Epipolar({"fusion": architecture.fusion}, HUMAN36M)
    method.load(tmp_path / "ours.pt", "cpu")
    assert method.inputs.crop_px == 256


@pytest.mark.parametrize(
    ("network", "file", "side"),
    [
        ("resnet50", "outs.epipolar.keypoint_h36m_fixed/model_final.pth", 256),
        ("resnet50", "epipolar/keypoint_h36m_resnet50_384_strong_fixed/model_003.pth", 384),
        ("resnet152", "epipolar/keypoint_h36m_resnet152_320/model_final.pth", 320),
        ("resnet152", "epipolar/keypoint_h36m_resnet152_320_fixed_8gpu/model_final.pth", 320),
        ("resnet152", "resnet152_320/keypoint_h36m_resnet152_384_pretrained_8gpu.pth", 384),
        ("resnet152", "model_final.pth", None),
        ("resnet152", "keypoint_h36m_resnet50_256/model_final.pth", None),
    ],
)
def test_the_side_of_the_crops_is_that_of_the_configuration(network, file, side):
    if side is None:
        with pytest.raises(InputError, match="image_px=320"):
            image_px_of(network, Path(file))
    else:
        assert image_px_of(network, Path(file)) == side


@pytest.mark.parametrize(("joints", "side", "sigma"), [(17, 384, 12), (17, 320, 10), (20, 320, 12), (17, None, 8)])
def test_the_side_of_the_crops_can_be_told_and_sets_the_window(tmp_path, joints, side, sigma):
    _, state = published_state(joints, AttentionSettings())
    architecture = EpipolarArchitecture.of(import_weights("epipolar", saved(tmp_path, state), image_px=side), "x")
    assert (architecture.crop_px, architecture.window_cells) == (side or 256, sigma)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda s: s.pop("reference.module.bn1.weight"), "differ"),
        (lambda s: s.update({"reference.module.bn1.weight": torch.zeros(64)}), "differ"),
        (lambda s: s.update({"liftingnet.module.x": torch.zeros(1)}), "liftingnet.x"),
        (lambda s: [s.pop(f"{p}.module.bn1.weight") for p in PREFIXES], "backbone.bn1.weight"),
        (
            lambda s: s.update({f"{p}.module.epipolar_sampler.z.bias": torch.zeros(3) for p in PREFIXES}),
            r"epipolar_sampler.z.bias \(3,\)",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, spoil, told):
    _, state = published_state(settings=AttentionSettings())
    spoil(state)
    with pytest.raises(InputError, match=told):
        import_weights("epipolar", saved(tmp_path, state))
