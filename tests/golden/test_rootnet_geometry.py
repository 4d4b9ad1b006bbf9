"""Boxes, cameras, crops and the distance prior of RootNet against the reference implementation's numbers."""

import numpy as np
import pytest

from poseboard.datasets.boxes import crop_boxes, key_point_box
from poseboard.datasets.camera import Camera
from poseboard.methods.rootnet.crop import back_projected, distance_prior_mm, patch_affine


@pytest.mark.parametrize(("name", "aspect"), [("sq", 1.0), ("tall", 288 / 384)])
def test_crop_boxes(golden_rootnet, name, aspect):
    file = golden_rootnet("geometry")
    before = file["bbox_in"].copy()
    found = crop_boxes(file["bbox_in"], file["bbox_imgsize"], aspect)
    np.testing.assert_allclose(found, file[f"bbox_out_{name}"], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(file["bbox_in"], before)


def test_boxes_of_key_points(golden_rootnet):
    file = golden_rootnet("geometry")
    np.testing.assert_allclose(key_point_box(file["kpbox_in"]), file["kpbox_out"], rtol=0, atol=1e-9)


def camera(f, c, R=None, t=None):
    K = np.array([[f[0], 0, c[0]], [0, f[1], c[1]], [0, 0, 1.0]])
    return Camera(K, np.eye(3) if R is None else R, np.zeros(3) if t is None else np.ravel(t))


def test_cameras(golden_rootnet):
    file = golden_rootnet("geometry")
    for i in range(len(file["cam_f"])):
        one = camera(file["cam_f"][i], file["cam_c"][i])
        points = file["cam_xyz"][i]
        # the reference divides by Z + 1e-8
        np.testing.assert_allclose(one.project(points), file["cam_pix"][i, :, :2], rtol=1e-10, atol=1e-6)
        back = back_projected(one, file["cam_pix"][i, :, :2], file["cam_pix"][i, :, 2])
        np.testing.assert_allclose(back, file["cam_back"][i], rtol=0, atol=1e-6)
        away = back_projected(one, file["pix_in"][i, :, :2], file["pix_in"][i, :, 2])
        np.testing.assert_allclose(away, file["pix_cam"][i], rtol=1e-9, atol=1e-9)
        placed = camera(file["cam_f"][i], file["cam_c"][i], file["ext_R"][i], file["ext_t"][i])
        np.testing.assert_allclose(placed.to_camera(file["ext_world"][i]), file["ext_cam"][i], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "size"), [("aff_fwd", (256, 256)), ("aff_fwd_288x384", (288, 384))])
def test_patches(golden_rootnet, name, size):
    file = golden_rootnet("geometry")
    for i, (x, y, width, height, rotation) in enumerate(file["aff_in"].tolist()):
        A = patch_affine((x - width / 2, y - height / 2, width, height), size, rotation)
        scale = np.abs(file[name][i][:, :2]).max()
        np.testing.assert_allclose(A[:2, :2], file[name][i][:, :2], rtol=1e-5, atol=1e-5 * scale)
        np.testing.assert_allclose(A[:2, 2], file[name][i][:, 2], rtol=1e-5, atol=2e-2)
        if name == "aff_fwd":
            inverse = np.linalg.inv(A)[:2]
            np.testing.assert_allclose(
                inverse[:, :2], file["aff_inv"][i][:, :2], rtol=1e-5, atol=1e-5 * np.abs(inverse[:, :2]).max()
            )
            np.testing.assert_allclose(inverse[:, 2], file["aff_inv"][i][:, 2], rtol=1e-5, atol=2e-2)
            moved = A[:2, :2] @ file["aff_pt_in"][i] + A[:2, 2]
            np.testing.assert_allclose(moved, file["aff_pt_out"][i], rtol=1e-5, atol=2e-2)


def test_the_distance_prior_in_both_units(golden_rootnet):
    """Where a data set is in metres, its prior is ours in metres: there is nothing to set."""
    file = golden_rootnet("geometry")
    k_mm = distance_prior_mm(file["k_f"], file["k_area"])
    np.testing.assert_allclose(k_mm, file["k_out_mm"], rtol=1e-6)
    np.testing.assert_allclose(k_mm / 1000, file["k_out_m"], rtol=1e-6)
