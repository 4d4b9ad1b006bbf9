"""Simulated rigs with one mistake: cameras, 2D joints of a person who walks about, and the truth about the mistake.

Everything follows from a seed and a `World`, the knobs of the simulation. The person is a simple articulated walker
that is not shared with the synthetic world of the suite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.skeleton import COCO

KINDS = (
    "extrinsics inverted",
    "centre for translation",
    "unit",
    "cameras swapped",
    "resolution",
    "distortion",
    "frame offset",
    "sides swapped",
    "up axis",
    "rotation transposed",
    "focal length",
    "camera moved",
)
_RATE = 200.0
"""Samples of the walker per second; frames are interpolated between them."""


@dataclass(frozen=True)
class World:
    """Knobs of the simulation; pairs are ranges that a seed draws from."""

    cameras: tuple[int, int] = (4, 8)
    frames: tuple[int, int] = (150, 400)
    fps: tuple[float, ...] = (25.0, 30.0, 50.0, 60.0)
    noise_px: tuple[float, float] = (2.0, 10.0)
    noise_correlation: float = 0.0  # of the noise of consecutive frames
    outliers: float = 0.05
    missing: float = 0.06
    gaps: float = 0.1  # share of cameras × joints that miss a quarter of the frames
    sync_frames: float = 0.5
    rotation_noise_deg: float = 0.2
    centre_noise_mm: float = 8.0
    focal_noise: float = 0.003
    different_sizes: float = 0.5  # share of rigs with cameras of different resolution
    distorted: float = 0.6  # share of rigs with lens distortion
    radius_mm: tuple[float, float] = (3000.0, 6000.0)
    area_mm: float = 1500.0  # radius of the area in which the person walks
    speed: tuple[float, float] = (0.5, 1.5)
    lag: tuple[int, int] = (2, 15)
    moved_deg: tuple[float, float] = (3.0, 15.0)
    moved_mm: tuple[float, float] = (100.0, 600.0)
    wrong_focal: tuple[float, float] = (0.07, 0.35)
    k1: tuple[float, float] = (-0.35, -0.1)  # of rigs with a mistake about distortion


@dataclass(frozen=True, eq=False)
class Simulation:
    """What a user hands in, and the mistake in it: a kind (None: clean) and the cameras that it concerns."""

    cameras: dict[str, Camera]
    joints_px: Array
    confidence: Array
    joints: tuple[str, ...]
    fps: float
    kind: str | None
    concerned: tuple[str, ...]
    magnitude: str


def walk(rng: Generator, duration_s: float, world: World) -> Array:
    """Joints (T, 17, 3) in mm of COCO, Z up, of a person who walks about with turns and stops, at `_RATE` Hz."""
    count = int(duration_s * _RATE) + 1
    time = np.arange(count) / _RATE
    turn = _smooth(rng, time, 2.0, 8.0) * 0.7
    cruise = rng.uniform(*world.speed) * 1000
    speed = cruise * np.clip(0.8 + 0.6 * _smooth(rng, time, 3.0, 10.0), 0.0, 1.4)
    place, heading = np.empty((count, 2)), np.empty(count)
    at, facing = rng.uniform(-0.6, 0.6, 2) * world.area_mm, rng.uniform(0, 2 * np.pi)
    for i in range(count):
        place[i], heading[i] = at, facing
        home = np.arctan2(-at[1], -at[0]) - facing
        pull = np.clip(np.hypot(*at) / world.area_mm - 0.5, 0, 1) * 5.0
        facing = facing + (turn[i] + pull * np.sin(home)) / _RATE
        at = at + speed[i] / _RATE * np.array([np.cos(facing), np.sin(facing)])
    height = rng.uniform(1500, 1950)
    scale = height / 1750
    phase = np.cumsum(speed) / _RATE / (1400 * scale) * 2 * np.pi + rng.uniform(0, 6)
    effort = np.clip(speed / 1000, 0, 1.2)
    idle = np.clip(1 - effort / 0.4, 0, 1)
    forward = np.stack([np.cos(heading), np.sin(heading), np.zeros(count)], 1)
    left = np.stack([-np.sin(heading), np.cos(heading), np.zeros(count)], 1)
    up = np.array([0.0, 0, 1])

    def along(angle: Array, length: float, outward: Array | float = 0.0) -> Array:
        """Limb hanging down, swung forward by an angle."""
        return length * (
            np.sin(angle)[:, None] * forward - np.cos(angle)[:, None] * up + np.reshape(outward, (-1, 1)) * left
        )

    thigh, shin, arm, fore, trunk = (scale * v for v in (430, 420, 300, 260, 500))
    lean = 0.06 + 0.05 * effort + 0.25 * idle * np.clip(_smooth(rng, time, 3.0, 9.0), 0, 1)
    twist = 0.12 * effort * np.sin(phase) + 0.15 * _smooth(rng, time, 3.0, 9.0)
    pelvis = np.concatenate([place, np.zeros((count, 1))], 1)
    parts: dict[str, Array] = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        gait = np.sin(phase + (0 if sign > 0 else np.pi))
        bend = np.clip(np.cos(phase + (0 if sign > 0 else np.pi)), 0, 1)
        hip = pelvis + sign * 105 * scale * left
        flexion = effort * 0.45 * gait + 0.05
        knee = hip + along(flexion, thigh, sign * 0.03)
        ankle = knee + along(flexion - 0.1 - effort * 0.95 * bend, shin)
        neck = pelvis + trunk * (np.sin(lean)[:, None] * forward + np.cos(lean)[:, None] * up)
        across = np.cos(twist)[:, None] * left + np.sin(twist)[:, None] * forward * 1.0
        shoulder = neck + sign * 185 * scale * across
        lift = idle * np.clip(_smooth(rng, time, 2.0, 6.0), 0, 2) * 0.9
        swing = -effort * 0.4 * gait + lift
        elbow = shoulder + along(swing, arm, sign * 0.15)
        wrist = elbow + along(swing + 0.3 + 0.2 * effort + 0.8 * lift, fore, sign * 0.05)
        parts |= {f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": ankle}
        parts |= {f"{side}_shoulder": shoulder, f"{side}_elbow": elbow, f"{side}_wrist": wrist}
    look = heading + 0.5 * _smooth(rng, time, 2.0, 7.0)
    gaze = np.stack([np.cos(look), np.sin(look), np.zeros(count)], 1)
    beside = np.stack([-np.sin(look), np.cos(look), np.zeros(count)], 1)
    head = neck + scale * 160 * up + scale * 30 * gaze
    parts["nose"] = head + scale * 100 * gaze
    for side, sign in (("left", 1.0), ("right", -1.0)):
        parts[f"{side}_eye"] = head + scale * (85 * gaze + 32 * sign * beside + 35 * up)
        parts[f"{side}_ear"] = head + scale * (75 * sign * beside + 20 * up)
    joints = np.stack([parts[name] for name in COCO.joints], 1)
    lowest = np.minimum(parts["left_ankle"][:, 2], parts["right_ankle"][:, 2])
    joints[..., 2] += (80 - lowest)[:, None]
    return joints


def _smooth(rng: Generator, time: Array, fastest_s: float, slowest_s: float) -> Array:
    """Random smooth curve (T,): three sinusoids with a standard deviation of about 1."""
    period, phase = rng.uniform(fastest_s, slowest_s, 3), rng.uniform(0, 2 * np.pi, 3)
    return np.asarray(np.sin(2 * np.pi * time[:, None] / period + phase).sum(1) * np.sqrt(2 / 3))


def _look_at(centre: Array, target: Array, roll_deg: float) -> Array:
    z = (target - centre) / np.linalg.norm(target - centre)
    x = np.cross(z, [0, 0, 1.0])
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    return _rotation(np.array([0, 0, np.deg2rad(roll_deg)])) @ R


def _rotation(w: Array) -> Array:
    angle = float(np.linalg.norm(w))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = w / angle
    W = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * W + (1 - np.cos(angle)) * W @ W)


def _direction(rng: Generator) -> Array:
    v = rng.normal(size=3)
    return np.asarray(v / np.linalg.norm(v))


def posed(camera: Camera, R: Array, centre: Array) -> Camera:
    return replace(camera, R=R, t=-R @ centre)


def scaled(camera: Camera, factor: float) -> Camera:
    """The intrinsics of the same camera at another resolution."""
    K = camera.K.copy()
    K[:2] *= factor
    return replace(camera, K=K, size=(round(camera.size[0] * factor), round(camera.size[1] * factor)))


def build_rig(rng: Generator, world: World, *, distorted: bool | None = None) -> list[Camera]:
    """True cameras around the area, millimetres, Z up."""
    count = int(rng.integers(world.cameras[0], world.cameras[1] + 1))
    sizes = [(1920, 1080), (1280, 720), (1000, 1000), (1088, 1920), (1600, 1200), (1280, 960)]
    one = sizes[rng.integers(len(sizes))]
    mixed = rng.random() < world.different_sizes
    bent = rng.random() < world.distorted if distorted is None else distorted
    one_bend = rng.uniform(*world.k1) if distorted else rng.uniform(-0.25, 0.05)
    arc = 2 * np.pi * rng.uniform(0.5, 1.0)
    start = rng.uniform(0, 2 * np.pi)
    cameras = []
    for i in range(count):
        size = sizes[rng.integers(len(sizes))] if mixed else one
        angle = start + arc * (i + rng.uniform(-0.25, 0.25)) / count
        radius = rng.uniform(*world.radius_mm)
        centre = np.array([radius * np.cos(angle), radius * np.sin(angle), rng.uniform(900, 3000)])
        target = np.array([rng.uniform(-300, 300), rng.uniform(-300, 300), rng.uniform(700, 1200)])
        R = _look_at(centre, target, rng.normal(0, 2))
        # The area where people walk fills the shorter side of the picture.
        focal = min(size) / 2 / np.tan(np.deg2rad(rng.uniform(22, 32)))
        K = np.array(
            [
                [focal, 0, size[0] / 2 + rng.normal(0, 8)],
                [0, focal * rng.uniform(0.997, 1.003), size[1] / 2 + rng.normal(0, 8)],
                [0, 0, 1],
            ]
        )
        dist = np.zeros(5)
        if bent:
            k1 = one_bend * rng.uniform(0.8, 1.2)
            dist = np.array([k1, -0.3 * k1 * rng.uniform(0, 1), rng.normal(0, 5e-4), rng.normal(0, 5e-4), 0.0])
        cameras.append(Camera(K, R, -R @ centre, dist, size))
    return cameras


def observe(rng: Generator, cameras: list[Camera], world: World) -> tuple[Array, Array, float]:
    """2D joints (V, F, J, 2) with noise, outliers and gaps, confidences (V, F, J) and the frame rate."""
    fps = float(rng.choice(world.fps))
    frames = int(rng.integers(world.frames[0], world.frames[1] + 1))
    margin = world.lag[1] + 2
    body = walk(rng, (frames + 2 * margin) / fps, world)
    noise = rng.uniform(*world.noise_px)
    views = len(cameras)
    seen = np.empty((views, frames + 2 * margin, len(COCO), 2))
    for v, camera in enumerate(cameras):
        at = (np.arange(frames + 2 * margin) + rng.uniform(-world.sync_frames, world.sync_frames)) / fps * _RATE
        at = np.clip(at, 0, len(body) - 1.001)
        low = at.astype(int)
        part = (at - low)[:, None, None]
        seen[v] = camera.project(body[low] * (1 - part) + body[low + 1] * part)
    white = rng.normal(size=seen.shape)
    if world.noise_correlation:
        c = world.noise_correlation
        for f in range(1, white.shape[1]):
            white[:, f] = c * white[:, f - 1] + np.sqrt(1 - c * c) * white[:, f]
    joints = seen + noise * white
    spread = np.nanmax(seen, axis=2) - np.nanmin(seen, axis=2)
    wrong = rng.random(seen.shape[:3]) < world.outliers
    far = np.nanmean(seen, axis=2, keepdims=True) + rng.uniform(-1, 1, seen.shape) * spread[:, :, None]
    joints = np.where(wrong[..., None], far, joints)
    missing = rng.random(seen.shape[:3]) < world.missing
    for v, j in np.argwhere(rng.random((views, len(COCO))) < world.gaps):
        begin = rng.integers(0, max(1, frames * 3 // 4))
        missing[v, begin : begin + frames // 4, j] = True
    size = np.array([camera.size for camera in cameras], dtype=float)[:, None, None]
    outside = ~((joints >= 0) & (joints < size)).all(-1)
    joints[missing | outside] = np.nan
    confidence = np.where(np.isnan(joints[..., 0]), 0.0, rng.uniform(0.5, 1.0, seen.shape[:3]))
    return joints, confidence, fps


def simulate(seed: int, kind: str | None = None, world: World | None = None) -> Simulation:  # noqa: PLR0912
    """A rig with calibration noise and, unless `kind` is None, one mistake of that kind."""
    world = world or World()
    rng = np.random.default_rng(seed)
    true = build_rig(rng, world, distorted=True if kind == "distortion" else None)
    joints, confidence, fps = observe(rng, true, world)
    views = len(true)
    cameras = []
    for camera in true:
        centre = camera.centre_mm + rng.normal(0, world.centre_noise_mm, 3)
        R = _rotation(np.deg2rad(rng.normal(0, world.rotation_noise_deg, 3))) @ camera.R
        K = camera.K.copy()
        K[0, 0] *= (factor := 1 + rng.normal(0, world.focal_noise))
        K[1, 1] *= factor
        cameras.append(posed(replace(camera, K=K), R, centre))
    name = [f"cam{v + 1}" for v in range(views)]
    v = int(rng.integers(views))
    everyone = tuple(name)
    concerned, magnitude = everyone, ""
    margin = world.lag[1] + 2
    start = np.full(views, margin)
    if kind == "extrinsics inverted":
        cameras = [replace(c, R=c.R.T, t=-c.R.T @ c.t) for c in cameras]
    elif kind == "centre for translation":
        cameras = [replace(c, t=c.centre_mm) for c in cameras]
    elif kind == "rotation transposed":
        cameras = [replace(c, R=c.R.T) for c in cameras]
    elif kind == "unit":
        cameras = [replace(c, t=c.t / 1000) for c in cameras]
        magnitude = "m"
    elif kind == "cameras swapped":
        w = int((v + rng.integers(1, views)) % views)
        cameras[v], cameras[w] = cameras[w], cameras[v]
        concerned = tuple(sorted((name[v], name[w])))
    elif kind == "resolution":
        factor = float(rng.choice([0.5, 2 / 3, 0.75, 4 / 3, 1.5, 2.0]))
        whole = rng.random() < 0.5
        cameras = [scaled(c, factor) if whole or i == v else c for i, c in enumerate(cameras)]
        concerned, magnitude = everyone if whole else (name[v],), f"x {factor:.2f}"
    elif kind == "distortion":
        whole, twice = rng.random() < 0.5, rng.random() < 0.5
        magnitude = "twice" if twice else "ignored"
        concerned = everyone if whole else (name[v],)
        for i in range(views) if whole else [v]:
            if twice:
                joints[i] = true[i].undistort(joints[i])
            else:
                cameras[i] = cameras[i].undistorted()
    elif kind == "frame offset":
        lag = int(rng.integers(world.lag[0], world.lag[1] + 1)) * int(rng.choice([-1, 1]))
        start[v] += lag
        concerned, magnitude = (name[v],), f"{lag:+d} frames"
    elif kind == "sides swapped":
        joints[v], confidence[v] = joints[v][:, COCO.flip_order], confidence[v][:, COCO.flip_order]
        concerned = (name[v],)
    elif kind == "up axis":
        Q = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # Z up to Y up
        cameras = [replace(c, R=c.R @ Q.T) for c in cameras]
    elif kind == "focal length":
        factor = float((1 + rng.uniform(*world.wrong_focal)) ** rng.choice([-1, 1]))
        K = cameras[v].K.copy()
        K[0, 0] *= factor
        K[1, 1] *= factor
        cameras[v] = replace(cameras[v], K=K)
        concerned, magnitude = (name[v],), f"x {factor:.2f}"
    elif kind == "camera moved":
        angle, distance = rng.uniform(*world.moved_deg), rng.uniform(*world.moved_mm)
        c = cameras[v]
        R = _rotation(np.deg2rad(angle) * _direction(rng)) @ c.R
        cameras[v] = posed(c, R, c.centre_mm + distance * _direction(rng))
        concerned, magnitude = (name[v],), f"{angle:.1f} deg, {distance:.0f} mm"
    frames = joints.shape[1] - 2 * margin
    cut = [slice(s, s + frames) for s in start]
    return Simulation(
        dict(zip(name, cameras, strict=True)),
        np.stack([joints[i, cut[i]] for i in range(views)]),
        np.stack([confidence[i, cut[i]] for i in range(views)]),
        COCO.joints,
        fps,
        kind,
        concerned,
        magnitude,
    )
