"""Made-up cameras, people, samples and checkpoints that several tests of methods share."""

import numpy as np

from poseboard.datasets.camera import Camera
from poseboard.datasets.sample import Group, Sample, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.base import Checkpoint
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
        View(f"c{v}", camera, rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), np.zeros((1, 4)))
        for v, camera in enumerate(cameras(views, size=SIDE))
    ]
    return Sample(key, tuple(made), Group("S1", "Walking", "1"))


def person(seed=0, joints=17, at=(0.0, 0.0)):
    offsets = np.random.default_rng(seed).uniform([-250, -250, 100], [250, 250, 1700], (joints, 3))
    return offsets + np.array([*at, 0.0])


def write_checkpoint(path, method="ransac", constants=None):
    architecture = Architecture(network="small", joints=HUMAN36M.joints, crop_px=SIDE)
    state = architecture.build(seed=1).state_dict()
    Checkpoint(method, architecture.plain(), state, constants or {}).save(path)
    return path
