"""Cameras of several kinds, points in a room, and their pixels as tracks."""

from dataclasses import replace

import numpy as np
from made_up import cameras

from poseboard.methods.geometry.rig_mistakes.rig_state import Tracks

LENS = (-0.12, 0.03, 1e-3, -2e-3, 0.01)


def rig(views, dist=LENS):
    """Cameras of a ring with different focal lengths, principal points and rolls."""
    rng = np.random.default_rng(views)
    made = []
    for camera in cameras(views, dist):
        K = camera.K.copy()
        K[0, 0] *= rng.uniform(0.8, 1.2)
        K[1, 1] *= rng.uniform(0.8, 1.2)
        K[:2, 2] += rng.uniform(-40, 40, 2)
        roll = rng.uniform(-0.3, 0.3)
        turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        made.append(replace(camera, K=K, R=turn @ camera.R, t=turn @ camera.t))
    return made


def tracked(cameras, frames=10, joints=3, noise_px=0.0, speed_mm=20.0, seed=0):
    """All joints of random points that move at a constant velocity, with that velocity in pixels."""
    rng = np.random.default_rng(seed)
    X = rng.uniform([-900, -900, 100], [900, 900, 1800], (frames, joints, 3))
    step = rng.uniform(-speed_mm, speed_mm, X.shape)
    joints_px = np.stack([camera.project(X) for camera in cameras])
    velocity_px = np.stack([500 * (c.project(X + 0.001 * step) - c.project(X - 0.001 * step)) for c in cameras])
    joints_px += noise_px * rng.standard_normal(joints_px.shape)
    return replace(Tracks.grid(joints_px, list(range(joints)), frames), velocity_px=velocity_px)


def walking(cameras, frames=40, joints=3, noise_px=0.0, seed=0):
    """All joints, on smooth paths through a room."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[:, None, None] / 40
    phase, pace = rng.uniform(0, 6, (2, joints, 3)), rng.uniform(1, 3, (2, joints, 3))
    X = [0, 0, 950] + 450 * np.sin(2 * pace[0] * time + phase[0]) + 300 * np.sin(3 * pace[1] * time + phase[1])
    joints_px = np.stack([camera.project(X) for camera in cameras])
    joints_px += noise_px * rng.standard_normal(joints_px.shape)
    return Tracks.grid(joints_px, list(range(joints)), frames)
