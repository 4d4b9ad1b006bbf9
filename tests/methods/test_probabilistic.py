"""The camera posterior, its distributions, and the method over rigs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up import image_sample, write_checkpoint
from test_recovered_rigs import made_up_rigs

from poseboard.datasets.camera import Camera
from poseboard.datasets.sample import Group, Sample, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.geometry.bundle import Rig, adjust, first_frame, triangulate
from poseboard.methods.geometry.relative_pose import estimate
from poseboard.methods.geometry.rotations import (
    angle_deg,
    matrix_of_quaternion,
    quaternion_of_matrix,
    rotation_exp,
    rotation_log,
)
from poseboard.methods.probabilistic import method as method_module
from poseboard.methods.probabilistic.calibration import (
    KnownRigs,
    fit_temperature,
    frames_of_rigs,
    squared_errors,
)
from poseboard.methods.probabilistic.distributions import (
    acg_log_prob,
    acg_sample,
    acg_scale,
    haar_log_density,
    quaternion_of_rodrigues,
    rodrigues,
    student_t_log_prob,
)
from poseboard.methods.probabilistic.essential import essential_rigs, essential_start
from poseboard.methods.probabilistic.method import Probabilistic
from poseboard.methods.probabilistic.model import observations
from poseboard.methods.probabilistic.posterior import (
    Sampling,
    log_likelihood,
    sample_posterior,
    see_by_draws,
    tempering,
)
from poseboard.methods.probabilistic.release import particle_rigs
from poseboard.methods.probabilistic.train import bone_lengths_mm, similarity_aligned


def test_acg_is_cauchy_in_rodrigues_vectors():
    """Change of variables: the density on the sphere is that of x, by the uniform density at x."""
    rng = np.random.default_rng(0)
    root = torch.from_numpy(rng.standard_normal((3, 3))) / 4
    covariance = root @ root.mT
    q0 = torch.tensor([0.5, -0.5, 0.5, 0.5], dtype=torch.float64)
    scale = acg_scale(q0, covariance)
    x = torch.from_numpy(rng.standard_normal((50, 3))) / 2
    turn = quaternion_of_rodrigues(x)
    R = matrix_of_quaternion(turn) @ matrix_of_quaternion(q0)
    q = quaternion_of_matrix(R)
    cauchy = student_t_log_prob(torch.zeros(3).double(), torch.linalg.cholesky(covariance).expand(50, 3, 3), 1.0, x)
    difference = acg_log_prob(torch.linalg.cholesky(scale).expand(50, 4, 4), q) + haar_log_density(x) - cauchy
    torch.testing.assert_close(difference, difference[:1].expand(50), atol=1e-9, rtol=0)


def test_rodrigues_vectors_are_rotation_vectors_for_small_angles():
    w = torch.tensor([[0.01, -0.02, 0.005]], dtype=torch.float64)
    torch.testing.assert_close(rotation_exp(w), matrix_of_quaternion(quaternion_of_rodrigues(w)), atol=1e-5, rtol=0)
    q = quaternion_of_rodrigues(w)
    torch.testing.assert_close(rodrigues(-q), w, atol=1e-12, rtol=0)


def test_draws_without_a_direction_are_the_identity():
    assert acg_sample(torch.eye(4), torch.zeros(4)).tolist() == [1, 0, 0, 0]


def posterior_of(count=16, noise_px=1.0, points=68, seed=0, draws=256):
    R, t, rays, weights, focal = made_up_rigs(count=count, noise_px=noise_px, points=points, seed=seed)
    rig = estimate(rays, weights, focal)
    generator = torch.Generator().manual_seed(0)
    return R, t, rays, sample_posterior(rig, rays, weights, focal, Sampling(draws, 3), generator)


def test_the_mean_is_near_the_truth_and_enough_draws_count():
    R, _, _, posterior = posterior_of()
    assert angle_deg(posterior.rotation @ R.mT).max() < 2
    torch.testing.assert_close(posterior.weights.sum(1), torch.ones(16).double(), atol=1e-12, rtol=0)
    assert posterior.effective.median() > 30
    torch.testing.assert_close(posterior.translation[:, 1].norm(dim=-1), torch.ones(16).double(), atol=1e-9, rtol=0)


def test_its_region_holds_the_truth_as_often_as_it_says():
    """Fixed seeds: 48 rigs of three cameras; 95 % ± three standard errors of 144 draws."""
    R, _, _, posterior = posterior_of(count=48, noise_px=2.0, draws=128)
    w = rotation_log(R[:, 1:] @ posterior.rotation[:, 1:].mT)
    covariance = posterior.covariance[:, 1:, :3, :3]
    distance = (w[..., None, :] @ torch.linalg.solve(covariance, w[..., None]))[..., 0, 0]
    share = (distance < 7.815).double().mean()
    assert 0.89 < share < 0.995


def test_what_a_diverged_network_says_is_no_observation():
    points, confidences = torch.zeros(2, 17, 2), torch.ones(2, 17)
    points[0, 3, 1], confidences[1, 5] = torch.nan, torch.inf
    K, valid = torch.eye(3).expand(1, 2, 3, 3), torch.ones(1, 2, dtype=torch.bool)
    rays, weights, focal_px = observations(points, confidences, K, valid)
    assert torch.isfinite(rays).all()
    assert (weights == 0).nonzero().tolist() == [[0, 0, 3], [0, 1, 5]]
    posterior = sample_posterior(
        estimate(rays, weights, focal_px), rays, weights, focal_px, Sampling(8, 1), torch.Generator()
    )
    assert torch.isfinite(posterior.rotation).all()


def test_particles_of_a_rig_do_not_depend_on_the_rigs_beside_it():
    _, _, rays, weights, focal = made_up_rigs(count=3, noise_px=1.0)
    rig = estimate(rays, weights, focal)
    together = particle_rigs(rig, rays, weights, seed=0)
    alone = particle_rigs(Rig(*(value[1:2] for value in rig)), rays[1:2], weights[1:2], seed=0)
    torch.testing.assert_close(alone.R, together.R[1:2])
    torch.testing.assert_close(alone.t, together.t[1:2])


def test_the_same_generator_gives_the_same_answer_whatever_stands_beside():
    _, _, rays, weights, focal = made_up_rigs(count=3, noise_px=1.0)
    rig = estimate(rays, weights, focal)
    both = sample_posterior(rig, rays, weights, focal, Sampling(32, 2), torch.Generator().manual_seed(3))
    alone = sample_posterior(
        type(rig)(*(value[1:2] for value in rig)),
        rays[1:2],
        weights[1:2],
        focal[1:2],
        Sampling(32, 2),
        torch.Generator().manual_seed(3),
    )
    torch.testing.assert_close(both.mean_points[1:2], alone.mean_points, atol=1e-9, rtol=0)


def test_compiled_draws_agree_with_the_differentiable_ones():
    """Three views of one rig do not see a point, one view of another rig is absent, and some points are behind."""
    _, _, rays, weights, focal = made_up_rigs(count=3, noise_px=3.0)
    weights[0, :3, 5] = 0
    weights[1, 3] = 0
    weights[2] *= torch.linspace(0.1, 2, 34)
    rig = estimate(rays, weights, focal)
    rng = np.random.default_rng(0)
    turns = rotation_exp(
        torch.from_numpy(rng.standard_normal((3, 20, 4, 3)) * np.geomspace(1e-3, 2, 20)[:, None, None])
    )
    R, t = turns @ rig.R[:, None], rig.t[:, None] + torch.from_numpy(0.01 * rng.standard_normal((3, 20, 4, 3)))
    points = triangulate(R, t, rays[:, None], weights[:, None])
    seen = see_by_draws(R, t, rays, weights, focal, rig.sigma_px)
    torch.testing.assert_close(seen[0], points, atol=1e-8, rtol=1e-8)
    expected = log_likelihood(R, t, rays, weights, focal, rig.sigma_px, points)
    torch.testing.assert_close(seen[1], expected, atol=1e-5, rtol=1e-7)


def test_gradients_reach_points_and_confidences():
    _, _, rays, weights, focal = made_up_rigs(count=2, noise_px=2.0)
    rig = estimate(rays, weights, focal)
    rays, weights = rays.requires_grad_(), weights.requires_grad_()
    posterior = sample_posterior(rig, rays, weights, focal, Sampling(32, 1), torch.Generator().manual_seed(0))
    posterior.mean_points.square().sum().backward()
    for value in (rays, weights):
        assert torch.isfinite(value.grad).all()
        assert value.grad.abs().max() > 0


def test_tempering_keeps_so_many_draws_and_no_more_than_needed():
    rng = np.random.default_rng(0)
    log_weights = torch.from_numpy(20 * rng.standard_normal((5, 64)))
    power = tempering(log_weights, 16.0)
    share = torch.softmax(power[:, None] * log_weights, dim=1)
    torch.testing.assert_close(1 / share.square().sum(1), torch.full((5,), 16.0).double(), atol=0.05, rtol=0)
    assert tempering(torch.zeros(1, 64), 16.0).item() == 1


def test_alignment_undoes_a_similarity():
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.standard_normal((3, 17, 3)))
    turn = rotation_exp(torch.from_numpy(rng.standard_normal((3, 3))))
    moved = 0.3 * truth @ turn.mT + 5
    torch.testing.assert_close(similarity_aligned(moved, truth, torch.ones(3, 17, 1)), truth, atol=1e-9, rtol=0)


def test_size_is_the_sum_of_the_bones():
    pose = np.zeros((1, 17, 3))
    assert bone_lengths_mm(pose, HUMAN36M)[0] == 0
    pose[0, HUMAN36M.joints.index("right_wrist")] = [0, 0, 250]
    assert bone_lengths_mm(pose, HUMAN36M)[0] == 250


def test_only_the_bound_sees_the_true_cameras():
    assert Probabilistic({"solver": "given"}, HUMAN36M).inputs.extrinsics
    for solver in ("posterior", "bundle", "particles", "essential"):
        inputs = Probabilistic({"solver": solver}, HUMAN36M).inputs
        assert not inputs.extrinsics
        assert inputs.frames_per_rig > 1


def frames_of_one_rig(count=12, views=4, seed=0):
    """A rig that sees people of 17 joints without noise: samples, and rays (S, V, J, 2) of the order of the views."""
    R, t, rays, _, _ = made_up_rigs(count=1, views=views, points=17 * count, seed=seed)
    rays = rays[0].unflatten(1, (count, 17)).transpose(0, 1)
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    cameras = [Camera(np.diag([1000.0, 1000, 1]), R[0, v].numpy(), t[0, v].numpy()) for v in range(views)]
    seen = tuple(View(f"view-{v}", camera, np.array([[0.0, 0, 8, 8]]), image) for v, camera in enumerate(cameras))
    return (
        [Sample(f"s{i}", seen, Group("S1", "Walking", "Walking-1"), rig="rig") for i in range(count)],
        rays,
        R[0],
        t[0],
    )


@pytest.mark.parametrize("solver", ["posterior", "bundle", "particles", "essential", "given"])
def test_frames_of_a_rig_share_its_cameras_whatever_views_they_have(monkeypatch, solver):
    samples, rays, R, t = frames_of_one_rig()
    orders = [[0, 1, 2, 3]] * 10 + [[0, 2, 3], [1, 3, 0]]  # a view that is absent, and an order of its own
    samples = [replace(s, views=tuple(s.views[v] for v in order)) for s, order in zip(samples, orders, strict=True)]
    places = torch.tensor([order + [0] * (4 - len(order)) for order in orders])
    there = torch.tensor([[place < len(order) for place in range(4)] for order in orders])
    seen = (
        torch.take_along_dim(rays, places[..., None, None], 1),
        there[..., None].expand(-1, -1, 17).double(),
        torch.full((12, 4, 17), 1000.0, dtype=torch.float64),
    )
    monkeypatch.setattr(method_module, "observe", lambda *_: seen)
    method = Probabilistic({"solver": solver, "draws": 32}, HUMAN36M)
    monkeypatch.setattr(Probabilistic, "loaded", property(lambda _: None))
    method._constants = {"size_mm": 5000.0, "temperature": 1.0}
    if solver == "given":
        samples = [replace(sample, rig=None) for sample in samples]
    truth = triangulate(R[None], t[None], rays.transpose(0, 1).flatten(1, 2)[None], torch.ones(1, 4, 12 * 17).double())
    truth = truth[0].unflatten(0, (12, 17)).numpy()
    answers = method.predict(samples)
    tolerance = 1e-2 if solver in ("particles", "essential") else 1e-4  # their starts are not exact
    sizes = [bone_lengths_mm(answer.joints_mm[0], HUMAN36M) for answer in answers]
    for answer, sample, order, pose in zip(answers, samples, orders, truth, strict=True):
        if solver == "given":
            np.testing.assert_allclose(answer.joints_mm[0], pose, atol=1e-6)
            continue
        assert answer.frame == sample.views[0].name
        relative_R = (R[order] @ R[order[0]].T).numpy()
        np.testing.assert_allclose(answer.columns["camera_R"][0], relative_R, atol=tolerance)
        in_first = pose @ R[order[0]].numpy().T + t[order[0]].numpy()
        scale = np.linalg.norm(np.ptp(answer.joints_mm[0], axis=0)) / np.linalg.norm(np.ptp(in_first, axis=0))
        np.testing.assert_allclose(answer.joints_mm[0], scale * in_first, rtol=10 * tolerance, atol=2)
        true_t = t[order].numpy() - relative_R @ t[order[0]].numpy()
        np.testing.assert_allclose(answer.columns["camera_t_mm"][0], scale * true_t, rtol=10 * tolerance, atol=5)
    if solver != "given":
        assert abs(np.median(sizes) - 5000) < 1e-6


@pytest.mark.parametrize("solver", ["posterior", "essential", "given"])
def test_what_one_view_alone_sees_is_not_known(monkeypatch, solver):
    samples, rays, _, _ = frames_of_one_rig()
    weights = torch.ones(12, 4, 17, dtype=torch.float64)
    weights[0, 1:] = 0.0  # one view says anything of this frame
    weights[1, :3, 5] = 0.0  # and of this joint
    seen = (rays, weights, torch.full((12, 4, 17), 1000.0, dtype=torch.float64))
    method = Probabilistic({"solver": solver, "draws": 32}, HUMAN36M)
    monkeypatch.setattr(Probabilistic, "loaded", property(lambda _: None))
    method._constants = {"size_mm": 5000.0, "temperature": 1.0}

    def answers(rows: slice) -> np.ndarray:
        monkeypatch.setattr(method_module, "observe", lambda *_: tuple(part[rows] for part in seen))
        asked = [replace(one, rig=None) if solver == "given" else one for one in samples[rows]]
        return np.array([answer.joints_mm[0] for answer in method.predict(asked)])

    joints_mm = answers(slice(None))
    unknown = np.zeros((12, 17), dtype=bool)
    unknown[0], unknown[1, 5] = True, True
    np.testing.assert_array_equal(np.isnan(joints_mm), np.repeat(unknown[..., None], 3, axis=2))
    if solver != "given":
        assert abs(np.median(bone_lengths_mm(joints_mm[2:], HUMAN36M)) - 5000) < 1e-6
        assert np.isnan(answers(slice(0, 2))).all(), "no pose is whole: the scale is not known"


def test_the_temperature_is_by_how_much_observations_repeat_one_another():
    """Every point is there five times, with the same errors: regions by their number alone are too small."""
    R, _, rays, weights, focal = made_up_rigs(count=10, noise_px=1.0, points=34, seed=1)
    rays, weights, focal = (torch.cat([value] * 5, dim=2) for value in (rays, weights, focal))
    sampling, generator = Sampling(64, 1), torch.Generator().manual_seed(1)
    temperature = fit_temperature([KnownRigs(rays, weights, focal, R)], sampling, seed=0)
    assert 2.5 < temperature < 12
    rig = estimate(rays, weights, focal)
    inside = [
        squared_errors(sample_posterior(rig, rays, weights, focal, tempered, generator), R) < 7.815
        for tempered in (sampling, replace(sampling, temperature=temperature))
    ]
    assert inside[0].double().mean() < 0.8
    assert inside[1].double().mean() >= 0.9
    assert fit_temperature([], sampling, seed=0) == 1


def test_rigs_that_were_solved_wrongly_make_the_regions_of_the_others_no_wider():
    R, _, rays, weights, focal = made_up_rigs(count=24, noise_px=1.0, points=34, seed=2)
    sampling = Sampling(64, 1)
    right = fit_temperature([KnownRigs(rays, weights, focal, R)], sampling, seed=0)
    wrong = R.clone()
    wrong[:2] = rotation_exp(torch.tensor([0.0, 0.6, 0.0], dtype=R.dtype)) @ R[:2]  # 34 degrees
    wrong[:2, 0] = torch.eye(3, dtype=R.dtype)
    assert fit_temperature([KnownRigs(rays, weights, focal, wrong)], sampling, seed=0) < 1.5 * right


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1], [3, 1, 0, 2]])
def test_a_bad_first_pair_of_views_does_not_decide_the_rig(order):
    R, t, rays, weights, focal = made_up_rigs(count=12, noise_px=5.0, points=17, seed=5)
    R, _ = first_frame(R[:, order], t[:, order])
    rays, weights, focal = rays[:, order], weights[:, order], focal[:, order]
    starts = [essential_start(rays[b].numpy(), weights[b].numpy(), 2 / 1145) for b in range(12)]
    assert all(start is not None for start in starts)
    of_first_pair = tuple(torch.from_numpy(np.stack(values)) for values in zip(*starts, strict=True))
    adjusted = adjust(*of_first_pair, rays, weights, focal, 30)
    assert angle_deg(adjusted.R @ R.mT).max() > 30, "the first pair is bad"
    assert angle_deg(essential_rigs(rays, weights, focal).R @ R.mT).max() < 12


def test_a_first_pair_of_views_without_a_common_joint_is_passed_over():
    R, _, rays, weights, focal = made_up_rigs(count=3, points=34)
    weights[:, 0, 17:], weights[:, 1, :17] = 0, 0
    assert essential_start(rays[0].numpy(), weights[0].numpy(), 2 / 1145) is None
    assert angle_deg(essential_rigs(rays, weights, focal).R @ R.mT).max() < 0.1
    weights[:, 1:, 4:] = 0  # no pair has five joints in common: the rig is unknown, and nothing fails
    assert torch.isfinite(essential_rigs(rays, weights, focal).R).all()


def test_frames_of_a_rig_are_those_of_equal_cameras():
    one, other = frames_of_one_rig(25, seed=1)[0], frames_of_one_rig(9, seed=2)[0]
    rows = list(frames_of_rigs([*one, *other]))
    assert rows == [list(range(0, 20, 2)), list(range(1, 21, 2))]


def test_what_samples_no_posterior_does_not_say_how_sure_it_is(tmp_path):
    start = write_checkpoint(tmp_path / "backbone.pt", "backbone")
    training = Probabilistic({}, HUMAN36M).training(start, 0)
    constants = {"size_mm": 4000.0, "temperature": 1.0}
    Checkpoint("probabilistic", training.architecture, training.model.state_dict(), constants).save(tmp_path / "own.pt")
    method = Probabilistic({"solver": "essential"}, HUMAN36M)
    method.load(tmp_path / "own.pt", "cpu")
    for answer in method.predict([image_sample(0, 3), image_sample(1, 1)]):
        assert set(answer.columns) == {"camera_R", "camera_t_mm", "size_mm"}
