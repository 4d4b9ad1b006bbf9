"""A data set and a row as somebody would add them: each is one file, this one is both.

Two people with five joints before three cameras, 2D detections, no images, three splits; and a row that learns the
mean pose about the hip from one person at a time.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from poseboard.datasets.adapter import Adapter
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import DataState, Facts
from poseboard.datasets.sample import Group, Poses, Sample, Truth, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, Options, Training, parse_options
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.geometry.observations import observe
from poseboard.methods.geometry.triangulation import dlt

FIVE = Skeleton(
    "five", ("ear", "hip", "paw", "tail", "nose"), (("ear", "hip"), ("hip", "paw"), ("hip", "tail")), "hip", ()
)
FRAMES = {"train": range(6), "validate": range(6, 10), "test": range(10, 16)}
PEOPLE = 2
_K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])


def write_gym(root: Path) -> None:
    """The published layout: one array (frames, people, joints, 3), mm."""
    rng = np.random.default_rng(3)
    shape = np.array([(0, -300, 0), (0, 0, 0), (0, 400, 50), (-200, 50, 0), (60, -280, 0)])
    places = rng.uniform(-600, 600, (16, PEOPLE, 1, 3)) + np.array([[-900], [900]])[None, :, None, :] * (1, 0, 0)
    np.save(root / "poses.npy", shape + places + rng.normal(0, 30, (16, PEOPLE, 5, 3)))


class Gym(Adapter):
    """The adapter."""

    name, title, licence, obtain = "gym", "Gym", "made up", "ask them"
    skeleton, views, splits = FIVE, ("left", "middle", "right"), tuple(FRAMES)

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._cameras = [
            Camera(_K, np.eye(3), (dx, 0, 5000.0), size=(640, 480)) for dx in (-1500.0, 0.0, 1500.0)
        ]  # the world's middle is five metres ahead

    def inspect(self) -> tuple[DataState, str]:
        present = (self.root / "poses.npy").is_file()
        return ("ready", "16 moments") if present else ("missing", "no poses.npy")

    def facts(self, split: str) -> Facts:
        return Facts(boxes="detected", truth="motion capture")

    def content_sha256(self) -> str:
        return hashlib.sha256((self.root / "poses.npy").read_bytes()).hexdigest()

    def keys(self, split: str) -> list[str]:
        self.check_split(split)
        return [f"gym/{frame:02d}" for frame in FRAMES[split]]

    def truth(self, key: str) -> Truth:
        return Truth(self._poses(key))

    def sample(self, key: str) -> Sample:
        poses = self._poses(key)
        views = []
        for name, camera in zip(self.views, self._cameras, strict=True):
            points = camera.project(poses)
            boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
            views.append(View(name, camera, None, boxes, points, np.ones(points.shape[:2])))
        return Sample(key, tuple(views), Group("gym", "Running", f"morning-{int(key[-2:]) % 3}"))

    def _poses(self, key: str) -> np.ndarray:
        if key not in {known for split in FRAMES for known in self.keys(split)}:
            raise self.unknown_key(key, self.root / "poses.npy")
        return np.load(self.root / "poses.npy")[int(key[-2:])]


class MeanOptions(Options):
    """Of the row."""

    steps: int = 40


class MeanPose(nn.Module):
    """Five joints, metres."""

    def __init__(self) -> None:
        super().__init__()
        self.pose = nn.Parameter(torch.zeros(5, 3, dtype=torch.float64))

    def forward(self) -> Tensor:
        return self.pose


class MeanTraining(Training):
    """Learns the mean pose about the hip."""

    def __init__(self, options: MeanOptions) -> None:
        self.architecture: dict[str, Any] = {}
        self.inputs = Inputs(images=False)
        self.model = MeanPose()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.05)
        self.scheduler = None
        self.steps, self.batch_size = options.steps, 4

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> dict[str, Any]:
        assert len(truth.joints_mm) == 1, "one person at a time"
        return {"pose": (truth.joints_mm[0] - truth.joints_mm[0, 1]) / 1000}

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"total": ((self.model() - batch["pose"]) ** 2).mean()}


class Mean:
    """Triangulates the hip and hangs the mean pose on it."""

    inputs = Inputs(images=False)

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        self.options, self.skeleton = parse_options(MeanOptions, options, "mean"), skeleton

    def load(self, checkpoint: Path | None, device: str) -> None:
        if checkpoint is None:
            raise InputError("mean", "it has no weights", "train it first")
        self._pose_mm = 1000 * Checkpoint.read(checkpoint).state["pose"].numpy()

    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        seen = observe(samples, self.skeleton, 15.0)
        assert seen.sample.tolist() == list(range(len(samples))), "one person at a time"
        hips_mm = dlt(seen.P, seen.points_px)[:, [1]]
        return [Poses(self.skeleton, joints[None], np.ones(1)) for joints in hips_mm + self._pose_mm]

    def training(self, start: Path | None, seed: int) -> MeanTraining:
        return MeanTraining(self.options)
