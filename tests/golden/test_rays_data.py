"""Crops, colours and generated data of rays_mlp against numbers recorded from the reference implementation."""

import numpy as np
import torch

from poseboard.datasets.camera import Camera
from poseboard.datasets.sample import View
from poseboard.methods.rays_mlp.augmentation import ColourChange, about_root, crop_frame, jittered_square, padded_crop
from poseboard.methods.rays_mlp.mobileone import SMALL
from poseboard.methods.rays_mlp.model import RaysArchitecture
from poseboard.methods.rays_mlp.rigs import noisy_rays

ROOT = 6


def test_crops_and_cameras(golden_probabilistic):
    file = golden_probabilistic("augment")
    scale, *shift = file["crop_draws"].tolist()
    box = jittered_square(tuple(file["crop_box_ltrb"].tolist()), scale, tuple(shift))
    assert box[2] - box[0] == box[3] - box[1] == int(file["crop_side"])
    image = np.ascontiguousarray(file["crop_image_in"][..., ::-1])
    np.testing.assert_array_equal(padded_crop(image, box)[..., ::-1], file["crop_image_out"])
    camera = Camera(file["K_in"], file["R"], file["t"], size=image.shape[1::-1])
    view = View("a", camera, image, file["crop_box_ltrb"].astype(np.float64)[None])
    side = file["resized"].shape[0]
    crop, of_crop = crop_frame(view, side, scale, tuple(shift))
    assert np.mean(np.abs(crop[..., ::-1] - file["resized"]) > 0.5) <= 1e-3
    np.testing.assert_allclose(of_crop.K, file["K_after_resize"], rtol=0, atol=1e-4)
    joints = file["x3d_world"].astype(np.float64)
    np.testing.assert_allclose(about_root(of_crop, joints, ROOT), file["x3d_cam_rootrel"], rtol=0, atol=1e-2)
    np.testing.assert_allclose(of_crop.project(joints), file["x2d"], rtol=0, atol=1e-3)


def test_colours(golden_probabilistic):
    file = golden_probabilistic("augment")
    image = file["photo_in"][..., ::-1]
    of_bgr = file["photo_perm"].tolist()
    channels = tuple(2 - of_bgr[2 - i] for i in range(3))
    linear = {"brightness": float(file["photo_brightness"]), "contrast": float(file["photo_contrast"])}
    in_hsv = {"saturation": float(file["photo_saturation"]), "hue_deg": float(file["photo_hue"])}
    for change, name in (
        (ColourChange(), "photo_none"),
        (ColourChange(**linear), "photo_brightness_contrast"),
        (ColourChange(**linear, **in_hsv, channels=channels), "photo_all"),
    ):
        changed = change.changed(image)
        assert np.mean(np.abs(changed[..., ::-1] - file[name]) > 0.05) <= 1e-3, name
    architecture = RaysArchitecture(joints=("a",), views=2, crop_px=64, encoder=SMALL, compat=True)
    prepared = architecture.prepare(torch.from_numpy(changed)[None])[0]
    assert np.mean(np.abs(prepared.numpy() - file["norm_image"]) > 0.5 / 255) <= 1e-3


def test_generated_rays(golden_probabilistic):
    file = golden_probabilistic("generated_data")
    for name in ("test", "train"):
        row, order = int(file[f"{name}_row"]), file[f"{name}_view_order"]
        subject = int(file["table_subject_idx"][row])
        R, t, K = (file[f"camera_{part}"][subject][order].astype(np.float64) for part in "RtK")
        joints = file["table_keypoints"][row].astype(np.float64)
        points = torch.from_numpy(np.einsum("vij,kj->vki", R, joints) + np.swapaxes(t, 1, 2))
        noise = torch.from_numpy(file["train_noise_px"]) if name == "train" else torch.zeros(4, len(joints), 2)
        K = torch.from_numpy(K)
        # The two focal lengths of a camera may differ: an error is divided by each.
        share = noise.double() * (K[:, 0, 0, None, None] / torch.stack([K[:, 0, 0], K[:, 1, 1]], dim=-1)[:, None])
        found = noisy_rays(points, share, K[:, 0, 0])
        np.testing.assert_allclose(found[..., :3], file[f"{name}_xdir"][..., :3], rtol=0, atol=1e-5)
        confidence = torch.exp(-torch.linalg.vector_norm(noise.double(), dim=-1))
        np.testing.assert_allclose(confidence, file[f"{name}_xdir"][..., 3], rtol=0, atol=1e-5)
        about = points - points[:, ROOT, None]
        np.testing.assert_allclose(about, file[f"{name}_x3d"], rtol=0, atol=1e-2)
