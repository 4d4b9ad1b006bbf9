"""Roots of people by RootNet, in batches, against one person at a time as the release does it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from poseboard.datasets.camera import Camera
from poseboard.datasets.sample import Group, Image, Sample, View
from poseboard.datasets.skeleton import ROOT
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.rootnet.method import Rootnet
from poseboard.methods.rootnet.model import JOINTS, RootArchitecture, RootNet

if TYPE_CHECKING:
    from poseboard.benchmarks.speed.conftest import Race, RecordSpeed

Array = NDArray[np.float64]
IMAGES, SIZE, CROP_PX, THREADS = 256, (640, 480), 64, 2
FOCAL, CENTRE = np.array([1500.0, 1490.0]), np.array([321.0, 238.0])
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Person(NamedTuple):
    """A person of an image, with the tight box x, y, width, height."""

    image: Image
    box_xywh: Array


@pytest.fixture(autouse=True)
def _two_threads() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(threads)


def made_up() -> list[Person]:
    """Noise with a person anywhere, some of whose boxes stick out of the image."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    image = np.asarray(cv2.GaussianBlur(noise, (0, 0), 4), dtype=np.uint8)
    sides = rng.uniform((40, 120), (160, 320), (IMAGES, 2))
    corners = rng.uniform((-20, -20), np.array(SIZE) - 0.8 * sides)
    return [Person(image, np.concatenate(pair)) for pair in zip(corners, sides, strict=True)]


def samples_of(people: list[Person]) -> list[Sample]:
    """As the hand-over gives them: one person each, whole frames."""
    K = np.array([[FOCAL[0], 0, CENTRE[0]], [0, FOCAL[1], CENTRE[1]], [0, 0, 1]])
    camera = Camera(K, np.eye(3), np.zeros(3), size=SIZE)
    group = Group("S", "A", "A")
    boxes = [np.concatenate([box[:2], box[:2] + box[2:]])[None] for _, box in people]
    views = [View("camera", camera, person.image, box) for person, box in zip(people, boxes, strict=True)]
    return [Sample(str(place), (view,), group) for place, view in enumerate(views)]


def one_at_a_time(network: nn.Module, people: list[Person]) -> Array:
    """The peer: box, k, crop, normalisation, network and back-projection of one person after the other (the
    specification's sections on boxes, patches, the network and its output)."""
    roots = np.empty((len(people), 3))
    for place, (image, box) in enumerate(people):
        height, width = image.shape[:2]
        x, y, w, h = box
        left, upper = max(0.0, x), max(0.0, y)
        right, lower = min(width - 1, left + max(0.0, w - 1)), min(height - 1, upper + max(0.0, h - 1))
        w, h = right - left, lower - upper
        side = 1.25 * max(w, h)
        corner = np.array([left + w / 2 - side / 2, upper + h / 2 - side / 2])
        k = np.sqrt(2000.0**2 * FOCAL[0] * FOCAL[1] / side**2)
        centre = corner + side / 2
        source = np.array(
            [centre, centre + np.array([0, side / 2]), centre + np.array([side / 2, 0])], dtype=np.float32
        )
        half = CROP_PX / 2
        target = np.array([[half, half], [half, CROP_PX], [CROP_PX, half]], dtype=np.float32)
        affine = cv2.getAffineTransform(source, target)
        patch = cv2.warpAffine(image, affine, (CROP_PX, CROP_PX), flags=cv2.INTER_LINEAR)
        normalised = (patch.astype(np.float32) / 255 - MEAN.astype(np.float32)) / STD.astype(np.float32)
        tensor = torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))[None]
        with torch.no_grad():
            found = network(tensor, torch.tensor([k], dtype=torch.float32))
        cells, depth = found.cells[0].numpy(), float(found.depth_mm[0])
        pixel = cells / (CROP_PX / 4) * side + corner
        roots[place] = [*((pixel - CENTRE) / FOCAL * depth), depth]
    return roots


@pytest.mark.full_size
def test_rootnet_images_per_second(race: Race, record_speed: RecordSpeed, tmp_path: Path) -> None:
    backbone = Architecture(network="small", joints=JOINTS, crop_px=CROP_PX)
    architecture = RootArchitecture(backbone=backbone, whole_frames=True)
    network = RootNet(architecture, backbone.build(seed=0), gamma=1.0).eval()
    Checkpoint("rootnet", architecture.plain(), network.state_dict()).save(tmp_path / "weights.pt")
    method = Rootnet({}, ROOT)
    method.load(tmp_path / "weights.pt", "cpu")
    people = made_up()
    samples = samples_of(people)
    theirs_mm = one_at_a_time(network, people)
    difference = float(
        np.abs(np.stack([answer.joints_mm[0, 0] for answer in method.predict(samples)]) - theirs_mm).max()
    )
    assert difference < 0.5
    ours, theirs = race(lambda: method.predict(samples), lambda: one_at_a_time(network, people), rounds=5)
    record_speed(
        "rootnet",
        f"Roots of {IMAGES} people by RootNet with the small network, crops of {CROP_PX} px of whole frames",
        "one person at a time: box, crop, normalisation, network, back-projection",
        3,
        ours,
        theirs,
        {
            "images_per_second": IMAGES / ours,
            "peer_images_per_second": IMAGES / theirs,
            "largest_difference_mm": difference,
            "torch_threads": THREADS,
        },
    )
