"""Crops, items and the order of moments against the release of epipolar transformers."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from poseboard.datasets.camera import Camera, crop_affine
from poseboard.datasets.human36m import DAMAGED
from poseboard.datasets.human36m_toolbox import ACTIONS, JOINTS, OF_20, Human36MToolbox
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.batches.crops import crop_pixels
from poseboard.methods.batches.multiview import stack_changed
from poseboard.methods.epipolar.model import EpipolarArchitecture
from poseboard.methods.epipolar.release_rules import turned_crop
from poseboard.methods.nets.gaussian_maps import gaussian_maps

OURS = [JOINTS.index(name) for name in HUMAN36M.joints]
SIDE = 128


def test_affine(golden_epipolar):
    stored = golden_epipolar("affine")
    for i in range(len(stored["scale"])):
        size = tuple(stored["out_wh"][i].tolist())
        A = crop_affine(stored["center"][i], 200 * stored["scale"][i], size, stored["rot_deg"][i])
        np.testing.assert_allclose(A[:2], stored["trans"][i], rtol=0, atol=1e-3)
        np.testing.assert_allclose(np.linalg.inv(A)[:2], stored["trans_inv"][i], rtol=0, atol=1e-3)
        np.testing.assert_allclose(A[:2] @ (*stored["pt"][i], 1), stored["pt_out"][i], rtol=0, atol=1e-3)


def test_cropped_cameras(golden_epipolar):
    stored = golden_epipolar("cameras")
    width, height = np.broadcast_to(stored["image_size"], 2).tolist()
    for i in range(len(stored["K"])):
        R = stored["R"][i]
        camera = Camera(stored["K"][i], R, -R @ stored["T"][i].reshape(3))
        A = crop_affine(stored["crop_center"][i], 200 * np.ravel(stored["crop_scale"][i])[0], (width, height))
        np.testing.assert_allclose(A[:2], stored["trans"][i], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(A @ camera.K, stored["cropK"][i], rtol=1e-5, atol=1e-9)
        cropped = replace(camera, K=A @ camera.K)
        np.testing.assert_allclose(cropped.P, stored["KRT"][i], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.column_stack([camera.R, camera.t]), stored["RT"][i], rtol=1e-9, atol=1e-9)


def record(**fields):
    pose = np.zeros((17, 3))
    camera = {"R": np.eye(3), "T": np.zeros((3, 1)), "k": np.zeros((3, 1)), "p": np.zeros((2, 1))}
    camera |= {"fx": 1000.0, "fy": 1000.0, "cx": 500.0, "cy": 500.0}
    base = {
        "image": "a.jpg",
        "source": "h36m",
        "subject": 9,
        "action": 2,
        "subaction": 1,
        "image_id": 1,
        "camera_id": 0,
    }
    base |= {
        "joints_2d": pose[:, :2],
        "joints_3d": pose,
        "joints_3d_camera": pose + np.array([0.0, 0.0, 4000.0]),
        "joints_vis": pose + 1,
    }
    return {**base, "center": np.full(2, 500.0), "scale": np.full(2, 2.0), "camera": camera, **fields}


def tree(folder, records):
    (folder / "annot").mkdir()
    (folder / "annot" / "h36m_validation.pkl").write_bytes(pickle.dumps(records))
    return Human36MToolbox(folder, truth="recorded")


def test_order_of_moments(golden_epipolar, tmp_path):
    """Rows of the files that the adapter hands out as moments, without the damaged sequences."""
    stored = golden_epipolar("h36m_index")
    names = ("subject", "action", "subaction", "image_id", "camera_id")
    rows = [dict(zip(names, row, strict=True)) for row in stored["records"].tolist()]
    data = tree(tmp_path, [record(image=f"{i}.jpg", **row) for i, row in enumerate(rows)])
    damaged = [f"S{row['subject']}/{ACTIONS[row['action'] - 2]}-{row['subaction']}" in DAMAGED for row in rows]
    np.testing.assert_array_equal(~np.array(damaged), stored["kept"])
    keys = [key for key in data.keys("test") if key.rpartition("/")[0] not in DAMAGED]
    groups = np.array(
        [[int(view.image.read.args[2].removesuffix(".jpg")) for view in data.sample(key).views] for key in keys]
    )
    after_filter = np.cumsum(stored["kept"]) - 1
    np.testing.assert_array_equal(after_filter[groups], stored["groups_all"])
    np.testing.assert_array_equal(after_filter[groups[::4]], stored["groups_every4"])
    union = np.full(20, -1)
    union[list(OF_20)] = np.arange(17)
    np.testing.assert_array_equal(union, stored["union_to_actual"])


@pytest.fixture
def one_moment(golden_epipolar, tmp_path):
    """The recorded item as one of four cameras, and its frame on disk (losslessly, whatever its name says)."""
    stored = golden_epipolar("h36m_sample")
    K = stored["K"]
    camera = {"R": stored["R"], "T": stored["T"], "k": stored["k"], "p": stored["p"]}
    camera |= {"fx": K[0, 0], "fy": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    fields = ("joints_2d", "joints_3d", "joints_3d_camera", "joints_vis", "center")
    own = {name: stored[name] for name in fields} | {"scale": np.full(2, float(stored["scale"])), "camera": camera}
    data = tree(tmp_path, [record(image="frame.png", camera_id=i, **own) for i in range(4)])
    (tmp_path / "images").mkdir()
    frame = np.kron(stored["tile"], np.ones((40, 40, 1), np.uint8))[:1002]
    assert cv2.imwrite(str(tmp_path / "images" / "frame.png"), frame)
    (key,) = data.keys("test")
    return stored, data.sample(key).views[0], data.truth(key)


def compare(stored, kind, example, view):
    P, points = example["P"][0], example["points_px"][0][:, :2]
    np.testing.assert_allclose(P, stored[f"{kind}_KRT"], rtol=1e-6)
    np.testing.assert_allclose(np.column_stack([view.camera.R, view.camera.t]), stored[f"{kind}_RT"], rtol=1e-6)
    seen = stored[f"{kind}_visibility"][OURS, 0]
    np.testing.assert_array_equal(example["weights"][0], seen)
    np.testing.assert_allclose(points[seen > 0], stored[f"{kind}_points2d"][OURS][seen > 0], rtol=0, atol=1e-3)
    np.testing.assert_allclose(example["joints_mm"], stored[f"{kind}_points3d"][OURS], rtol=0, atol=1e-3)
    architecture = EpipolarArchitecture.released("resnet50", HUMAN36M.joints, SIDE)
    image = architecture.prepare(torch.from_numpy(example["images"]))[0].numpy()
    difference = np.abs(image - stored[f"{kind}_img"])
    assert difference.mean() < 0.02
    assert (difference < 0.1).mean() > 0.98
    maps = gaussian_maps(torch.from_numpy(stored[f"{kind}_points2d"]), (32, 32), 8)
    np.testing.assert_allclose(maps[[0, 9]], stored[f"{kind}_heatmap_j0_j9"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(maps.sum((1, 2)), stored[f"{kind}_heatmap_sum"], rtol=1e-5)
    in_camera = view.camera.to_camera(stored[f"{kind}_points3d"])
    about_root = in_camera - in_camera[0]
    length = np.linalg.norm(about_root[8])
    np.testing.assert_allclose(length, stored[f"{kind}_kpscale"], rtol=1e-6)
    np.testing.assert_allclose(about_root / length, stored[f"{kind}_normed"], rtol=0, atol=1e-6)


def test_item_of_the_test_set(one_moment):
    stored, view, truth = one_moment
    cropped = view.crop(SIDE, resampling="bilinear")
    np.testing.assert_allclose(cropped.camera.K, stored["test_cropK"], rtol=1e-6, atol=1e-9)
    example = stack_changed(
        [cropped],
        truth,
        lambda v: (crop_pixels(v, SIDE), np.eye(3)),
        crop_px=SIDE,
        slots=1,
        flip_order=None,
        published=True,
    )
    compare(stored, "test", example, cropped)


def test_augmented_item(one_moment):
    stored, view, truth = one_moment
    size, angle = float(stored["aug_scale_multiplier"]), float(stored["aug_rot_deg"])
    _, A = turned_crop(view, SIDE, size, angle)
    np.testing.assert_allclose(A @ view.camera.K, stored["aug_cropK"], rtol=1e-6, atol=1e-9)
    example = stack_changed(
        [view],
        truth,
        lambda v: turned_crop(v, SIDE, size, angle),
        crop_px=SIDE,
        slots=1,
        flip_order=None,
        published=True,
    )
    compare(stored, "aug", example, view)
