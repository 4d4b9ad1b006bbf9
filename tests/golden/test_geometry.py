import random

import numpy as np
import pytest
import torch

from poseboard.datasets.camera import Camera
from poseboard.methods.geometry.robust import ransac, ransac_published
from poseboard.methods.geometry.triangulation import dlt, project, reprojection_error

SCENARIOS = ["2", "3", "4", "6", "4hard"]


@pytest.mark.parametrize("views", [2, 3, 4, 5, 6])
@pytest.mark.parametrize(
    ("weights", "name"), [(None, "unweighted"), ("conf", "weighted"), ("conf_norm", "weighted_norm")]
)
def test_dlt(golden, views, weights, name):
    g = golden("dlt")
    X = dlt(
        g[f"P_{views}"], g[f"points_2d_{views}"], None if weights is None else g[f"{weights}_{views}"], homogeneous=True
    )
    np.testing.assert_allclose(X, g[f"X_{name}_f64_{views}"], rtol=0, atol=1e-4)
    # The recorded float32 solution is not held against ours: it is up to millimetres from its own float64 one.


def test_projection(golden):
    g = golden("projection")
    pixels, _ = project(torch.tensor(g["P"]), torch.tensor(g["points_3d"]))
    np.testing.assert_allclose(pixels, g["points_2d"], rtol=1e-8)
    homogeneous = np.concatenate([g["points_3d"], np.ones((len(g["points_3d"]), 1))], axis=1)
    for v in range(len(g["P"])):
        # The lens is kept with the camera and has no part in the projection matrix.
        camera = Camera(g["K"][v], g["R"][v], g["t"][v], g["dist"][v], distortion="human36m")
        np.testing.assert_allclose(camera.P, g["P"][v], rtol=1e-8)
        np.testing.assert_allclose(homogeneous @ camera.P.T, g["points_2d_homogeneous"][v], rtol=1e-8)
        np.testing.assert_allclose(camera.undistorted().project(g["points_3d"]), g["points_2d"][v], rtol=1e-8)
        assert np.abs(camera.project(g["points_3d"]) - g["points_2d"][v]).max() > 0.01
        np.testing.assert_allclose(camera.undistort(camera.project(g["points_3d"])), g["points_2d"][v], atol=1e-3)
    # The recorded error is half the distance.
    error = reprojection_error(g["P"], g["points_3d"], g["noisy_2d"])
    np.testing.assert_allclose(error.T / 2, g["reprojection_error"], rtol=1e-8)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("kind", ["noopt", "opt"])
def test_batched_ransac_is_no_worse(golden, scenario, kind):
    g = golden("ransac")
    found = ransac(g[f"P_{scenario}"], g[f"points_2d_{scenario}"], refined=kind == "opt")
    error = np.linalg.norm(found.points_mm - g[f"gt_{scenario}"], axis=-1)
    if scenario in {"3", "4hard"}:  # their means are ruled by joints that nobody can tell
        assert np.median(error) <= 1.1 * float(g[f"median_err_{kind}_{scenario}"]) + 0.3
    else:
        assert error.mean() <= 1.05 * float(g[f"mean_err_{kind}_{scenario}"]) + 0.2


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("kind", ["noopt", "opt"])
def test_published_ransac_draw_by_draw(golden, scenario, kind):
    g = golden("ransac")
    rng = random.Random(int(g[f"py_seed_{scenario}"]))
    found = ransac_published(g[f"P_{scenario}"], g[f"points_2d_{scenario}"], rng, refined=kind == "opt")
    np.testing.assert_array_equal(found.inliers.swapaxes(-1, -2), g[f"inliers_{kind}_{scenario}"])
    tolerance = 1e-3 if kind == "noopt" else 0.05
    np.testing.assert_allclose(found.points_mm, g[f"X_{kind}_{scenario}"], atol=tolerance)
    error = np.linalg.norm(found.points_mm - g[f"gt_{scenario}"], axis=-1)
    assert error.mean() == pytest.approx(float(g[f"mean_err_{kind}_{scenario}"]), abs=tolerance)
    assert np.median(error) == pytest.approx(float(g[f"median_err_{kind}_{scenario}"]), abs=tolerance)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_outliers_cost_without_ransac(golden, scenario):
    g = golden("ransac")
    P, points, truth = g[f"P_{scenario}"], g[f"points_2d_{scenario}"], g[f"gt_{scenario}"]
    plain = np.linalg.norm(dlt(P, points, homogeneous=True) - truth, axis=-1)
    assert plain.mean() == pytest.approx(float(g[f"mean_err_plain_dlt_{scenario}"]), rel=1e-4, abs=0.01)
    if scenario in {"4", "6"}:
        told = np.where(g[f"is_outlier_{scenario}"][..., None], np.nan, points)
        best = np.linalg.norm(dlt(P, told, homogeneous=True) - truth, axis=-1).mean()
        found = np.linalg.norm(ransac(P, points).points_mm - truth, axis=-1).mean()
        assert found < 1.1 * best + 0.2 < plain.mean()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_consensus_leaves_the_outliers_out(golden, scenario):
    """No more of them are taken in, and no more good observations lost, than in the recorded consensus."""
    g = golden("ransac")
    outlier = g[f"is_outlier_{scenario}"]
    ours = ransac(g[f"P_{scenario}"], g[f"points_2d_{scenario}"]).inliers
    recorded = g[f"inliers_opt_{scenario}"].swapaxes(-1, -2)
    assert (ours & outlier).sum() <= (recorded & outlier).sum() + 2
    assert (~ours & ~outlier).sum() <= (recorded & outlier).sum() + (~recorded & ~outlier).sum() + 2


@pytest.mark.parametrize("variant", ["conf", "noconf", "conf_m10", "noconf_relu"])
def test_dlt_of_recorded_network_outputs(golden, variant):
    g = golden("alg_net")
    X = dlt(g["P"], g[f"{variant}_keypoints_2d"], g[f"{variant}_confidences"], homogeneous=True)
    np.testing.assert_allclose(X, g[f"{variant}_keypoints_3d_f64_from_2d"], atol=1e-3)


def test_published_ransac_of_recorded_network_outputs(golden):
    g = golden("alg_net")
    rng = random.Random(int(g["ransac_py_seed"]))
    X = ransac_published(g["P"], g["ransac_keypoints_2d"], rng).points_mm
    # Observations are those of an untrained network; where they leave the minimum flat, it moves with rounding.
    distance = np.linalg.norm(X - g["ransac_keypoints_3d"], axis=-1)
    assert np.quantile(distance, 0.9) < 0.05
