"""Made-up cameras, people, samples and checkpoints that several tests of methods share."""

import numpy as np
import torch

from poseboard.datasets.camera import Camera
from poseboard.datasets.sample import Group, Sample, Truth, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture

SIDE = 64


def cameras(count, dist=(0.0, 0.0, 0.0, 0.0, 0.0), size=1000):
    made = []
    for angle in 2 * np.pi * np.arange(count) / (count + 0.5):
        centre = np.array([4000 * np.cos(angle), 4000 * np.sin(angle), 1500.0])
        forward = np.array([0, 0, 900.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        K = np.array([[1.145 * size, 0, size / 2], [0, 1.143 * size, size / 2], [0, 0, 1.0]])
        made.append(Camera(K, R, -R @ centre, np.array(dist), (size, size)))
    return made


def given_sample(people_mm, views=4, dist=(0.0, 0.0, 0.0, 0.0, 0.0), confidence=0.8, key="s", shift_px=None):
    """Detections of everybody in every view, in another order in each; ``shift_px`` (V,) spoils a view."""
    made = []
    for v, camera in enumerate(cameras(views, dist)):
        px = np.roll(np.stack([camera.project(person) for person in people_mm]), v, axis=0)
        if shift_px is not None:
            px = px + shift_px[v]
        sure = None if confidence is None else np.full(px.shape[:2], confidence)
        boxes = np.concatenate([px.min(1), px.max(1)], axis=1)
        made.append(View(f"c{v}", camera, None, boxes, px, sure))
    return Sample(key, tuple(made), Group("S1", "Walking", "1"))


def image_sample(seed, views, key="i"):
    rng = np.random.default_rng(seed)
    made = [
        View(f"c{v}", camera, rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), np.array([[0, 0, SIDE, SIDE]]))
        for v, camera in enumerate(cameras(views, size=SIDE))
    ]
    return Sample(key, tuple(made), Group("S1", "Walking", "1"))


def ring_camera(i, dist=(0, 0, 0, 0, 0)):
    """One of five about the origin, 4 m away, that see 2.7 m of it."""
    a = 2 * np.pi * i / 5 + 0.3
    R = np.array([[-np.sin(a), np.cos(a), 0], [0, 0, -1], [-np.cos(a), -np.sin(a), 0]])
    K = np.array([[1.5 * SIDE, 0, SIDE / 2], [0, 1.5 * SIDE, SIDE / 2], [0, 0, 1]])
    return Camera(K, R, np.array([0, 0, 4000.0]), np.array(dist, dtype=float), (SIDE, SIDE))


def dotted_moment(seed, views=3, dist=(0, 0, 0, 0, 0)):
    """A person whose crops show a coloured dot a joint; the root that is handed over is 15 mm off on every axis."""
    truth = np.random.default_rng(seed).uniform(-600, 600, size=(1, len(HUMAN36M), 3))
    truth[0, HUMAN36M.root_index] /= 6
    colours = np.random.default_rng(1).integers(80, 256, size=(len(HUMAN36M), 3))
    made = []
    for camera in (ring_camera(i, dist) for i in range(views)):
        image = np.full((SIDE, SIDE, 3), 30, dtype=np.uint8)
        for (x, y), colour in zip(np.rint(camera.project(truth[0])).astype(int), colours, strict=True):
            image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = colour
        made.append(View(f"c{len(made)}", camera, image, np.array([[0.0, 0, SIDE, SIDE]])))
    root_mm = truth[:, HUMAN36M.root_index] + 15.0
    return Sample(f"s{seed}", tuple(made), Group("S1", "Walking", "1"), root_mm=root_mm), Truth(truth)


def batch_of(training, moments):
    examples = [training.example(*moment, np.random.default_rng([0, i])) for i, moment in enumerate(moments)]
    return torch.utils.data.default_collate(examples)


def totals_of_steps(training, batch, steps):
    """The loss before each of some steps on one batch, whose gradients are all finite."""
    training.model.train()
    totals = []
    for step in range(steps):
        torch.manual_seed(step)
        training.optimizer.zero_grad()
        loss = training.loss(batch)["total"]
        loss.backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in training.model.parameters())
        training.optimizer.step()
        totals.append(loss.item())
    return totals


def person(seed=0, joints=17, at=(0.0, 0.0)):
    offsets = np.random.default_rng(seed).uniform([-250, -250, 100], [250, 250, 1700], (joints, 3))
    return offsets + np.array([*at, 0.0])


def write_checkpoint(path, method="ransac", constants=None):
    architecture = Architecture(network="small", joints=HUMAN36M.joints, crop_px=SIDE)
    state = architecture.build(seed=1).state_dict()
    Checkpoint(method, architecture.plain(), state, constants or {}).save(path)
    return path
