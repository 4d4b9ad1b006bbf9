"""Distributions and the released module (V1) of probabilistic triangulation against the recorded numbers."""

import numpy as np
import torch

from poseboard.methods.geometry.rotations import matrix_of_quaternion, quaternion_of_matrix
from poseboard.methods.probabilistic.distributions import acg_log_prob, acg_sample, student_t_log_prob
from poseboard.methods.probabilistic.release import gated_dlt, particle_loop, pose_weights, update


def double(file, *names):
    return [torch.from_numpy(np.asarray(file[name], dtype=np.float64)) for name in names]


def test_rotations(golden_probabilistic):
    file = golden_probabilistic("v1_distributions")
    q, matrix = double(file, "quat", "matrix")
    np.testing.assert_allclose(matrix_of_quaternion(q), matrix, atol=1e-5)
    np.testing.assert_allclose(quaternion_of_matrix(matrix), file["quat_back"], atol=1e-5)


def test_distributions(golden_probabilistic):
    file = golden_probabilistic("v1_distributions")
    tril, normals, samples = double(file, "acg_scale_tril", "acg_normals", "acg_samples")
    np.testing.assert_allclose(acg_sample(tril, normals), samples, atol=1e-5)
    np.testing.assert_allclose(acg_log_prob(tril.expand(5, -1, -1, -1), samples), file["acg_log_prob"], atol=1e-5)
    loc, scale, value = double(file, "t_loc", "t_scale_tril", "t_value")
    log_prob = student_t_log_prob(loc, scale.expand(5, -1, -1, -1), float(file["t_df"]), value)
    np.testing.assert_allclose(log_prob, file["t_log_prob"], rtol=1e-5, atol=1e-5)


def test_triangulation_and_weights(golden_probabilistic):
    file = golden_probabilistic("v1_triangulation")
    points, confidence, R, t = double(file, "points2d", "confidence", "R", "t")
    X, certainty = gated_dlt(R, t, points, confidence)
    np.testing.assert_allclose(X, file["points3d"], atol=1e-5)
    np.testing.assert_allclose(certainty, file["confidence3d"], atol=1e-5)
    np.testing.assert_allclose(pose_weights(R, t, points, X, power=1.0), file["weight_single"], atol=1e-5)
    R, t = double(file, "sample_R", "sample_t")
    X, certainty = gated_dlt(R, t, points.expand(6, -1, -1, -1, -1), confidence.expand(6, -1, -1, -1))
    np.testing.assert_allclose(X, file["sample_points3d"], atol=1e-5)
    np.testing.assert_allclose(certainty, file["sample_confidence3d"], atol=1e-5)
    np.testing.assert_allclose(pose_weights(R, t, points, X), file["sample_weights"], atol=1e-5)


def test_update(golden_probabilistic):
    file = golden_probabilistic("v1_update")
    q, t, weights = double(file, "quat", "translation", "weights")
    kept = update(q, t, weights, int(file["keep"]))
    np.testing.assert_allclose(kept.q, file["buffer_quat"], atol=1e-5)
    np.testing.assert_allclose(kept.t, file["buffer_t"], atol=1e-5)
    np.testing.assert_allclose(kept.mean_q, file["mean_quat"], atol=1e-5)
    np.testing.assert_allclose(kept.mean_t, file["mean_t"], atol=1e-5)
    np.testing.assert_allclose(kept.tril_q, file["tril_quat"], atol=1e-5)
    np.testing.assert_allclose(kept.q[0], file["best_quat"], atol=1e-5)
    np.testing.assert_allclose(kept.t[0], file["best_t"], atol=1e-5)


def test_particle_loop(golden_probabilistic):
    file = golden_probabilistic("v1_particle_loop")
    R, t, X, points = double(file, "init_R", "init_t", "init_points3d", "points2d")
    recorded = iter(double(file, *sorted(name for name in file if name.startswith("noise_"))))

    def noise(count, d):
        values = next(recorded)
        assert values.shape == (count, len(R), 3, d)
        return values

    R, t, kept, log = particle_loop(R, t, X, points, torch.ones(points.shape[:-1]), noise, int(file["M"]))
    np.testing.assert_allclose(log, file["weights_log"], atol=2e-5)
    np.testing.assert_allclose(R, file["final_R"], atol=2e-5)
    np.testing.assert_allclose(t, file["final_t"], atol=2e-5)
    np.testing.assert_allclose(kept, file["buffer_weights"], atol=2e-5)
