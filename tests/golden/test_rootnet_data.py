"""Annotation files in the published layouts against what the reference implementation loads from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseboard.datasets.boxes import crop_boxes
from poseboard.datasets.human36m_coco import Human36MCoco
from poseboard.datasets.mpii import Mpii
from poseboard.datasets.mscoco import MsCoco
from poseboard.datasets.muco import MuCo
from poseboard.datasets.mupots import MuPoTS
from poseboard.datasets.pw3d import Pw3d
from poseboard.datasets.sample import Dataset


def write(path: Path, content: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.tobytes())


def people(dataset: Dataset, split: str, folder: str) -> dict[str, list[Any]]:
    """What the adapter hands over, person by person, in the reference's terms: paths, crops, roots, cameras."""
    rows: dict[str, list[Any]] = {name: [] for name in ("path", "bbox", "root_cam", "root_img", "vis", "f", "c", "id")}
    for key in dataset.keys(split):
        sample, truth = dataset.sample(key), dataset.truth(key)
        for view in sample.views:
            camera = view.camera
            joints = camera.to_camera(truth.joints_mm)
            assert len(joints) == len(view.boxes_px)
            boxes = np.concatenate([view.boxes_px[:, :2], view.boxes_px[:, 2:] - view.boxes_px[:, :2]], axis=1)
            rows["bbox"].extend(crop_boxes(boxes, camera.size))
            roots = dataset.skeleton.root_of(joints)
            rows["root_cam"].extend(roots)
            pixels = (
                dataset.skeleton.root_of(camera.image(truth.annotated[view.name]))
                if view.name in truth.annotated
                else camera.image(roots[:, :2] / roots[:, 2:])
            )
            rows["root_img"].extend(np.concatenate([pixels, np.nan_to_num(roots[:, 2:])], axis=1))
            seen = truth.seen[view.name][:, dataset.skeleton.indices(dataset.skeleton.root_joints)].all(axis=1)
            rows["vis"].extend(seen)
            for _ in joints:
                rows["f"].append(camera.K[[0, 1], [0, 1]])
                rows["c"].append(camera.K[:2, 2])
                rows["path"].append(view.image.read.args[0].relative_to(folder).as_posix())
    return rows


def compare(rows: dict[str, list[Any]], file: dict[str, np.ndarray], name: str, *, px: float, mm: float) -> None:
    """In the order of the reference's images; people of an image in the order in which both have them."""
    of_reference = {field.removeprefix(f"{name}/"): file[field] for field in file if field.startswith(f"{name}/")}
    order = sorted(range(len(rows["path"])), key=lambda row: rows["path"][row])
    paths = of_reference["img_path"].tolist()
    theirs = sorted(range(len(paths)), key=lambda row: paths[row])
    assert len(order) == len(theirs)
    for ours, reference in zip(order, theirs, strict=True):
        assert paths[reference].endswith(f"/{rows['path'][ours]}")
    vis = of_reference["root_vis"].reshape(-1)[theirs].astype(bool)
    np.testing.assert_array_equal(np.array(rows["vis"])[order], vis)
    np.testing.assert_allclose(np.array(rows["bbox"])[order], of_reference["bbox"][theirs], rtol=0, atol=1e-9)
    root_img = np.array(rows["root_img"])[order]
    known = vis if np.isnan(root_img).any() else np.ones_like(vis)
    np.testing.assert_allclose(root_img[known], of_reference["root_img"][theirs][known], rtol=0, atol=px)
    for field, tolerance in (("root_cam", mm), ("f", 1e-3), ("c", 1e-3)):
        if field in of_reference:
            ours = np.array(rows[field])[order]
            np.testing.assert_allclose(ours, of_reference[field][theirs], rtol=0, atol=tolerance)


@pytest.fixture
def human36m(golden_rootnet, tmp_path: Path) -> dict[str, np.ndarray]:
    file = golden_rootnet("loaders")
    for key in file:
        if key.startswith("h36m/file/"):
            name = key.removeprefix("h36m/file/")
            write(tmp_path / ("bbox" if name.startswith("bbox") else "annotations") / name, file[key])
    return file


@pytest.mark.parametrize(
    ("split", "boxes", "name"),
    [("train", "annotated", "train"), ("test", "annotated", "test_gt"), ("test", "detected", "test_det")],
)
def test_human36m(human36m, tmp_path: Path, split: str, boxes: str, name: str) -> None:
    dataset = Human36MCoco(tmp_path, boxes=boxes)
    rows = people(dataset, split, tmp_path)
    compare(rows, human36m, f"h36m/{name}", px=1e-2, mm=1e-2)
    ids = [dataset.image_id(key, view.name) for key in dataset.keys(split) for view in dataset.sample(key).views]
    assert sorted(ids) == sorted(human36m[f"h36m/{name}/img_id"].tolist())


def test_the_other_convention_of_human36m_is_found(human36m, tmp_path: Path) -> None:
    before = people(Human36MCoco(tmp_path), "test", tmp_path)
    assert "centre" not in Human36MCoco(tmp_path).status().detail
    for path in (tmp_path / "annotations").glob("*_camera.json"):
        cameras = json.loads(path.read_text())
        for camera in cameras.values():
            camera["t"] = (-np.array(camera["R"]).T @ camera["t"]).tolist()
        path.write_text(json.dumps(cameras))
    after = Human36MCoco(tmp_path)
    np.testing.assert_allclose(people(after, "test", tmp_path)["root_cam"], before["root_cam"], atol=1e-6)
    assert "t is the camera's centre in the files of S1, S5, S6, S7, S8, S9, S11" in after.status().detail


def test_muco(golden_rootnet, tmp_path: Path) -> None:
    file = golden_rootnet("loaders")
    write(tmp_path / "data" / "MuCo-3DHP.json", file["muco/file/MuCo-3DHP.json"])
    compare(people(MuCo(tmp_path), "train", tmp_path), file, "muco/train", px=1e-9, mm=1e-9)


@pytest.mark.parametrize("split", ["train", "test"])
def test_mscoco(golden_rootnet, tmp_path: Path, split: str) -> None:
    file = golden_rootnet("loaders")
    for name in ("train", "val"):
        path = tmp_path / "annotations" / f"person_keypoints_{name}2017.json"
        write(path, file["coco/file/person_keypoints.json"])
        (tmp_path / "images" / f"{name}2017").mkdir(parents=True)
    dataset = MsCoco(tmp_path)
    compare(people(dataset, split, tmp_path), file, f"coco/{split}", px=1e-9, mm=0)
    ids = [dataset.image_id(key) for key in dataset.keys(split) for _ in dataset.sample(key).views[0].boxes_px]
    assert ids == file[f"coco/{split}/image_id"].tolist()


def test_mpii(golden_rootnet, tmp_path: Path) -> None:
    file = golden_rootnet("loaders")
    write(tmp_path / "annotations" / "train.json", file["mpii/file/train.json"])
    compare(people(Mpii(tmp_path), "train", tmp_path), file, "mpii/train", px=1e-9, mm=0)


def test_pw3d(golden_rootnet, tmp_path: Path) -> None:
    file = golden_rootnet("eval_pw3d")
    write(tmp_path / "data" / "3DPW_test.json", file["json"])
    (tmp_path / "data" / "imageFiles").mkdir()
    dataset = Pw3d(tmp_path)
    metres = {f"pw3d/{name}": values for name, values in file.items()}
    for name in ("pw3d/root_cam", "pw3d/root_img"):
        metres[name] = metres[name].astype(np.float64) * ([1, 1, 1000] if name.endswith("img") else 1000)
    compare(people(dataset, "test", tmp_path), metres, "pw3d", px=1e-2, mm=1e-2)
    assert [n for key in dataset.keys("test") for n in dataset.annotation_ids(key)] == file["ann_id"].tolist()
    assert "1 boxes beyond the image" in dataset.status().detail


@pytest.mark.parametrize("boxes", ["annotated", "detected"])
def test_mupots(golden_rootnet, tmp_path: Path, boxes: str) -> None:
    file = golden_rootnet("eval_mupots")
    write(tmp_path / "data" / "MuPoTS-3D.json", file["e2e_gtbox/json"])
    write(tmp_path / "bbox" / "bbox_mupots_output.json", file["e2e_detbox/det_json"])
    dataset = MuPoTS(tmp_path, boxes=boxes)
    name = "e2e_gtbox" if boxes == "annotated" else "e2e_detbox"
    order = np.argsort(file[f"{name}/image_id"], kind="stable")
    ids, crops, scores, truths = [], [], [], []
    for key in dataset.keys("test"):
        (view,) = dataset.sample(key).views
        boxes_xywh = np.concatenate([view.boxes_px[:, :2], view.boxes_px[:, 2:] - view.boxes_px[:, :2]], axis=1)
        crops.extend(crop_boxes(boxes_xywh, view.camera.size))
        ids += [dataset.image_id(key)] * len(view.boxes_px)
        scores += [1.0] * len(view.boxes_px) if view.box_scores is None else view.box_scores.tolist()
        truths += [(dataset.image_id(key), *root) for root in dataset.skeleton.root_of(dataset.truth(key).joints_mm)]
    assert ids == file[f"{name}/image_id"][order].tolist()
    np.testing.assert_allclose(crops, file[f"{name}/bbox"][order], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(scores, file[f"{name}/{'score' if boxes == 'detected' else 'dump_score'}"][order])
    annotations = json.loads(file["e2e_gtbox/json"].tobytes())["annotations"]
    valid = [(a["image_id"], *a["keypoints_cam"][14]) for a in annotations if a["is_valid"]]
    assert sorted(truths) == sorted(map(tuple, valid))
    if boxes == "detected":
        assert "1 detected boxes without area, 1 detected boxes beyond the image" in dataset.status().detail
