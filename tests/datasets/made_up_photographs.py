"""Made-up data sets of photographs in the layouts that RootNet reads, written without our own code.

Each function returns the trees' JSON files by their paths below the root; `write_tree` puts them there, with the
images. Tests change the content before they write it.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Files = dict[str, Any]
SIZE = (160, 120)
F, C = (150.0, 151.0), (80.5, 61.0)


def _people(seed: int, joints: int, count: int) -> np.ndarray:
    """(count, joints, 3) mm before a camera, whose root is anywhere among them; 1 m beside each other."""
    rng = np.random.default_rng(seed)
    roots = np.stack([np.linspace(-700, 700, count), rng.uniform(-100, 100, count), rng.uniform(3000, 5000, count)], 1)
    return np.round(roots[:, None] + rng.uniform(-300, 300, (count, joints, 3)), 3)


def _pixels(people: np.ndarray) -> np.ndarray:
    return people[..., :2] / people[..., 2:] * F + C


def _box(pixels: np.ndarray) -> list[float]:
    (left, upper), (right, lower) = pixels.min(axis=0), pixels.max(axis=0)
    return [round(float(v), 2) for v in (left, upper, right - left, lower - upper)]


def _posed(joints: int, **fields: Any) -> list[dict[str, Any]]:
    """Five people in three images: two, three and none, as MuCo and MuPoTS annotate them."""
    annotations = []
    for image, count in ((7, 2), (8, 3)):
        for person in _people(image, joints, count):
            annotations.append(
                {
                    "id": 100 + len(annotations),
                    "image_id": image,
                    "bbox": _box(_pixels(person)),
                    "keypoints_cam": person.tolist(),
                    "keypoints_img": _pixels(person).tolist(),
                    "keypoints_vis": [1] * (joints - 1) + [0],
                    **fields,
                }
            )
    return annotations


def muco() -> Files:
    """Training images of MuCo."""
    names = ("augmented_set/0/000007.jpg", "unaugmented_set/1/000008.jpg", "unaugmented_set/1/000009.jpg")
    images = [
        {"id": 7 + i, "file_name": name, "width": SIZE[0], "height": SIZE[1], "f": F, "c": C}
        for i, name in enumerate(names)
    ]
    return {"data/MuCo-3DHP.json": {"images": images, "annotations": _posed(21)}}


def mupots(detections: bool = False) -> Files:
    """Test images of MuPoTS; the last person of an image is not valid."""
    names = ("TS1/img_000000.jpg", "TS1/img_000001.jpg", "TS20/img_000000.jpg")
    images = [
        {"id": 7 + i, "file_name": name, "width": SIZE[0], "height": SIZE[1], "intrinsic": [*F, *C]}
        for i, name in enumerate(names)
    ]
    annotations = _posed(17, is_valid=1)
    annotations[-1]["is_valid"] = 0
    files: Files = {"data/MuPoTS-3D.json": {"images": images, "annotations": annotations}}
    if detections:
        files["bbox/bbox_mupots_output.json"] = [
            {"image_id": 8, "category_id": 1, "bbox": [20.0, 10.0, 30.0, 60.0], "score": 0.5},
            {"image_id": 9, "category_id": 1, "bbox": [40.5, 10.0, 30.0, 60.0], "score": 0.25},
            {"image_id": 8, "category_id": 1, "bbox": [60.0, 10.0, 30.0, 60.0], "score": 0.75},
        ]
    return files


def pw3d() -> Files:
    """The three splits of 3DPW, in metres; joints of the test split are flat lists."""
    files: Files = {}
    for number, split in enumerate(("train", "validation", "test")):
        images, annotations = [], []
        for frame in range(2):
            images.append(
                {
                    "id": frame,
                    "file_name": f"image_{frame:05d}.jpg",
                    "sequence": f"street_0{number}",
                    "frame_idx": frame,
                    "width": SIZE[0],
                    "height": SIZE[1],
                    "cam_param": {"focal": F, "princpt": C, "R": np.eye(3).tolist(), "t": [0, 0, 0]},
                }
            )
            for person in _people(10 * number + frame, 24, 2):
                joints = np.round(person / 1000, 6)
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": frame,
                        "bbox": _box(_pixels(person)),
                        "joint_cam": (joints.reshape(-1) if split == "test" else joints).tolist(),
                    }
                )
        files[f"data/3DPW_{split}.json"] = {"images": images, "annotations": annotations}
    return files


def _labelled(joints: int, names: list[str]) -> dict[str, Any]:
    """Three people in two of three images, with key points as COCO has them; the second joint is not labelled."""
    images = [
        {"id": 40 + i, "file_name": name, "width": SIZE[0], "height": SIZE[1], "license": 4}
        for i, name in enumerate(names)
    ]
    annotations = []
    for image, count in ((40, 1), (41, 2)):
        for person in _people(image, joints, count):
            pixels = np.round(_pixels(person))
            flags = np.arange(joints) % 2 + 1
            pixels[1], flags[1] = 0, 0
            annotations.append(
                {
                    "id": 900 + len(annotations),
                    "image_id": image,
                    "category_id": 1,
                    "iscrowd": 0,
                    "area": 10.0,
                    "bbox": _box(_pixels(person)),
                    "num_keypoints": joints - 1,
                    "keypoints": np.column_stack([pixels, flags]).astype(int).reshape(-1).tolist(),
                    "segmentation": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
                }
            )
    categories = [{"id": 1, "name": "person", "keypoints": [], "skeleton": []}]
    return {"images": images, "annotations": annotations, "categories": categories}


def mscoco() -> Files:
    """Both sets of MSCOCO."""
    names = [f"{number:012d}.jpg" for number in (40, 41, 42)]
    return {f"annotations/person_keypoints_{s}2017.json": _labelled(17, names) for s in ("train", "val")}


def mpii() -> Files:
    """MPII as RootNet has it; each image shows one person."""
    content = _labelled(16, [f"images/{number:09d}.jpg" for number in (40, 41, 42)])
    del content["annotations"][2]
    return {"annotations/train.json": content}


def mpii_list() -> Files:
    """The same as a list of people; two of them in one image."""
    people = []
    for image, count in (("000000040.jpg", 1), ("000000041.jpg", 2)):
        for person in _people(count, 16, count):
            pixels = _pixels(person)
            flags = [1] * 16
            flags[1] = 0
            people.append(
                {
                    "image": image,
                    "center": [*(pixels.mean(axis=0) + 1)],
                    "scale": 0.25,
                    "joints": pixels.tolist(),
                    "joints_vis": flags,
                }
            )
    return {"annotations/train.json": people}


def human36m_coco(detections: bool = False) -> Files:
    """Subjects 1, 9 and 11 with four cameras, frames 0, 5 and 64 of one action; the first joint is the pelvis."""
    rng = np.random.default_rng(36)
    files: Files = {}
    boxes = []
    number = 1000
    for subject in (1, 9, 11):
        cameras: dict[str, Any] = {}
        for camera in range(1, 5):
            angle = camera * np.pi / 2 + 0.1 * subject
            forward = np.array([np.cos(angle), np.sin(angle), 0])
            R = np.array([[forward[1], -forward[0], 0], [0, 0, -1], forward])
            centre = -4000 * forward + (0, 0, 1000)
            cameras[str(camera)] = {"R": R.tolist(), "t": (-R @ centre).tolist(), "f": F, "c": C}
        images, annotations, poses = [], [], {}
        for frame in (0, 5, 64):
            pose = np.round(rng.uniform(-300, 300, (17, 3)) + np.array([0, 0, 900]), 4)
            poses[str(frame)] = pose.tolist()
            for camera in range(1, 5):
                if (subject, camera) == (11, 1):
                    continue
                R, t = np.array(cameras[str(camera)]["R"]), np.array(cameras[str(camera)]["t"])
                folder = f"s_{subject:02d}_act_02_subact_02_ca_{camera:02d}"
                images.append(
                    {
                        "id": number,
                        "file_name": f"{folder}/{folder}_{frame + 1:06d}.jpg",
                        "width": SIZE[0],
                        "height": SIZE[1],
                        "subject": subject,
                        "action_name": "Directions",
                        "action_idx": 2,
                        "subaction_idx": 2,
                        "cam_idx": camera,
                        "frame_idx": frame,
                    }
                )
                box = _box(_pixels(pose @ R.T + t))
                annotations.append(
                    {"id": number, "image_id": number, "keypoints_vis": [True] * 16 + [False], "bbox": box}
                )
                if subject != 1:
                    boxes.append({"image_id": number, "category_id": 1, "bbox": [*box[:2], 30.0, 40.0], "score": 0.9})
                number += 1
        files[f"annotations/Human36M_subject{subject}_data.json"] = {"images": images, "annotations": annotations}
        files[f"annotations/Human36M_subject{subject}_camera.json"] = cameras
        files[f"annotations/Human36M_subject{subject}_joint_3d.json"] = {"2": {"2": poses}}
    if detections:
        files["bbox/bbox_human36m_output.json"] = boxes
    return files


TREES: dict[str, Callable[[], Files]] = {
    "human36m-coco": human36m_coco,
    "mpii": mpii,
    "mscoco": mscoco,
    "muco": muco,
    "mupots": mupots,
    "pw3d": pw3d,
}
"""Data set -> its tree."""

_FOLDERS = {
    "human36m-coco": "images",
    "mpii": "",
    "mscoco": "images/{set}2017",
    "muco": "data",
    "mupots": "data/MultiPersonTestSet",
    "pw3d": "data/imageFiles",
}


def write_tree(root: Path, name: str, files: Files | None = None) -> None:
    """Write JSON files (those of the tree where there are none) and an image for each that the tree names."""
    tree = TREES[name]()
    for path, content in (tree if files is None else files).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content if isinstance(content, str) else json.dumps(content))
    for path, content in tree.items():
        if not isinstance(content, dict) or "images" not in content:
            continue
        folder = root / _FOLDERS[name].format(set="train" if "train" in path else "val")
        for image in content["images"]:
            target = folder / image.get("sequence", "") / image["file_name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((SIZE[1], SIZE[0], 3), image["id"] % 200, dtype=np.uint8)
            cv2.imwrite(str(target), pixels)


def changed(files: Files, change: Callable[[Files], None]) -> Files:
    """A copy of the content of a tree with one thing changed."""
    again = copy.deepcopy(files)
    change(again)
    return again
