"""Cameras, crops, label selection and prediction alignment against the reference implementation's numbers."""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from poseboard.datasets.camera import Camera, scale_box, square_box
from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import LABELS, Human36M, read_predictions
from poseboard.datasets.sample import crop_image
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.nets.architecture import Architecture

Golden = Callable[[str], Mapping[str, NDArray[np.generic]]]

SELECTIONS = {
    "val_all": {"split": "test"},
    "val_clean": {"split": "test", "damaged": False},
    "val_clean_every3": {"split": "test", "damaged": False, "every": 3},
    "train": {"split": "train"},
}


@pytest.fixture
def labels(golden_folder: Path) -> Path:
    path = golden_folder / "h36m_labels_fabricated.npy"
    if not path.exists():
        pytest.skip(f"{path} is not in this set of vectors")
    return path


def test_undistortion(golden: Golden) -> None:
    file = golden("undistort_map")
    for c in range(len(file["K"])):
        camera = Camera(file["K"][c], np.eye(3), np.zeros(3), file["dist"][c], distortion="human36m")
        source = camera.distort(file["output_pixels"])
        np.testing.assert_allclose(source, file["source_pixels"][c], atol=1e-6, rtol=0)
        np.testing.assert_allclose(camera.undistort(source), file["output_pixels"], atol=1e-6, rtol=0)


def test_boxes(golden: Golden) -> None:
    file = golden("crop_resize")
    for i, box in enumerate(file["boxes"].tolist()):
        assert square_box(tuple(box)) == tuple(file["square_boxes"][i].tolist())
        assert scale_box(tuple(box), float(file["scales"][i])) == tuple(file["scaled_boxes"][i].tolist())


def test_crop_moves_the_camera(golden: Golden) -> None:
    file = golden("crop_resize")
    for c, box in enumerate(file["camera_boxes"].tolist()):
        camera = Camera(file["K"][c], file["R"][c], file["t"][c])
        left, upper, right, lower = box
        unresized = camera.crop_resize(tuple(box), (right - left, lower - upper))
        np.testing.assert_allclose(unresized.K, file["K_after_crop"][c], atol=1e-9, rtol=1e-12)
        cropped = camera.crop_resize(tuple(box), (384, 384))
        np.testing.assert_allclose(cropped.K, file["K_after_resize_384"][c], atol=1e-9, rtol=1e-12)
        np.testing.assert_allclose(cropped.P, file["P_after"][c], rtol=1e-9, atol=1e-6)


def test_crop_moves_the_pixels(golden: Golden) -> None:
    file = golden("crop_resize")
    for i, box in enumerate(file["crop_boxes"].tolist()):
        crop = file[f"crop_{i}"]
        height, width = crop.shape[:2]
        np.testing.assert_array_equal(crop_image(file["image"], tuple(box), (width, height)), crop)
        for name in (name for name in file if name.startswith(f"resize_{i}_")):
            h, w = map(int, name.rsplit("_", 1)[1].split("x"))
            resized = crop_image(file["image"], tuple(box), (w, h))
            assert np.abs(resized.astype(int) - file[name].astype(int)).max() <= 1, name


def test_crops_are_normalised_for_published_weights(golden: Golden) -> None:
    """The recorded crops are BGR as they stand; ours are RGB, and the published backbones' channels are turned."""
    file = golden("crop_resize")
    published = Architecture.published("resnet50", HUMAN36M.joints)
    for i, box in enumerate(file["crop_boxes"].tolist()):
        rgb = np.ascontiguousarray(file["image"][..., ::-1])
        for name in (name for name in file if name.startswith(f"norm_{i}_")):
            h, w = map(int, name.rsplit("_", 1)[1].split("x"))
            crop = crop_image(rgb, tuple(box), (w, h))
            found = published.prepare(torch.from_numpy(crop)[None])[0].permute(1, 2, 0)
            np.testing.assert_allclose(found, file[name], rtol=0, atol=0.02)


@pytest.mark.parametrize("tag", SELECTIONS)
def test_selection(golden: Golden, labels: Path, tmp_path: Path, tag: str) -> None:
    file = golden("h36m_eval")
    expected = [
        f"{file['subject_names'][s]}/{file['action_names'][a]}/{f:06d}"
        for s, a, f in zip(*(file[f"{tag}_{column}_idx"] for column in ("subject", "action", "frame")), strict=True)
    ]
    assert list(Human36M(tmp_path, labels=labels).select(**SELECTIONS[tag])) == expected


def test_labels_written_by_other_code(golden: Golden, labels: Path, tmp_path: Path) -> None:
    """A tree whose labels were not written by us: every row's boxes, cameras, images and truth."""
    file = golden("h36m_eval")
    (tmp_path / LABELS).parent.mkdir()
    (tmp_path / LABELS).write_bytes(labels.read_bytes())
    names = file["camera_names"].tolist()
    boxes = file["table_bbox_by_camera_tlbr"]
    dataset = Human36M(tmp_path, images="original")
    assert dataset.views == tuple(names)
    assert not dataset.synthetic
    image_sides = np.arange(len(names)) + 20
    seen_missing = False
    keys = []
    for row in range(len(file["table_frame_idx"])):
        s, a, frame = (int(file[f"table_{column}_idx"][row]) for column in ("subject", "action", "frame"))
        subject, sequence = str(file["subject_names"][s]), str(file["action_names"][a])
        keys.append(f"{subject}/{sequence}/{frame:06d}")
        for c, name in enumerate(names):
            folder = tmp_path / "processed" / subject / sequence / "imageSequence" / name
            if boxes[row, c, 2] > boxes[row, c, 0]:
                folder.mkdir(parents=True, exist_ok=True)
                pixels = np.full((image_sides[c], 30, 3), (0, 0, row), dtype=np.uint8)  # OpenCV writes BGR
                assert cv2.imwrite(str(folder / f"img_{frame + 1:06d}.jpg"), pixels)
    for row, key in enumerate(keys):
        s = int(file["table_subject_idx"][row])
        sample = dataset.sample(key)
        present = [c for c in range(len(names)) if boxes[row, c, 2] > boxes[row, c, 0]]
        seen_missing |= len(present) < len(names)
        assert [view.name for view in sample.views] == [names[c] for c in present]
        for c, view in zip(present, sample.views, strict=True):
            top, left, bottom, right = boxes[row, c].tolist()
            assert view.boxes_px.tolist() == [[left, top, right, bottom]]
            assert view.camera.K.dtype == np.float64
            np.testing.assert_array_equal(view.camera.K, file["cameras_K"][s, c])
            np.testing.assert_array_equal(view.camera.R, file["cameras_R"][s, c])
            np.testing.assert_array_equal(view.camera.t, file["cameras_t"][s, c, :, 0])
            np.testing.assert_array_equal(view.camera.dist, file["cameras_dist"][s, c])
            assert view.camera.distortion == "human36m"
            assert view.camera.size == (30, image_sides[c])
            if row % 10 == 0:
                assert abs(int(view.pixels()[5, 5, 0]) - row) <= 3  # RGB: red is first
        assert sample.group.subject == key.split("/")[0]
        assert sample.group.sequence == key.split("/")[1]
        assert sample.group.action == key.split("/")[1].rsplit("-", 1)[0]
        np.testing.assert_array_equal(dataset.truth(key).joints_mm[0], file["table_keypoints"][row])
    assert seen_missing, "the fabricated labels have a missing view"
    assert dataset.status().state == "ready"
    assert all(not v.camera.dist.any() for v in Human36M(tmp_path).sample(keys[0]).views)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_predictions_are_put_in_order(golden: Golden, labels: Path, tmp_path: Path, every: int) -> None:
    import pickle

    file = golden("pred_results_alignment")
    path = tmp_path / "val.pkl"
    path.write_bytes(pickle.dumps({"keypoints_3d": file["keypoints_3d"], "indexes": file["indexes"].tolist()}))
    dataset = Human36M(tmp_path, labels=labels)
    keys = dataset.select("test", every=every)
    aligned = read_predictions(path, keys, every)
    np.testing.assert_array_equal(aligned[:, 6], file[f"aligned_every{every}"])
    with pytest.raises(InputError, match=r"val\.pkl: keypoints_3d: "):
        read_predictions(path, dataset.select("test", damaged=False, every=every), every)
