"""Motion of people: the fifteen actions of Human3.6M as key poses blended over time, and a gait for walking.

A motion is a function of continuous time, so that frames can be sampled at any rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from poseboard.datasets.camera import Array
from poseboard.datasets.synthetic.body import ANGLES, Body, Figure, clip_angles, lowest_mm, penetration_mm, pose

# Key poses replace angles of the standing pose, degrees. A name with the suffix "r" or "l" is of one side, without it
# of both. Sequences are mirrored at random, so that "right" can become left.
_Key = Mapping[str, float]
_SHORT = {
    "hf": "hip_flexion", "ha": "hip_abduction", "hr": "hip_rotation", "kn": "knee", "sf": "shoulder_flexion",
    "sa": "shoulder_abduction", "sr": "shoulder_rotation", "el": "elbow",
}  # fmt: skip
_TRUNK = {
    "bend": "spine_flexion", "side": "spine_side", "twist": "spine_twist", "hunch": "thorax_flexion",
    "turn": "thorax_twist", "nod": "neck_flexion", "tilt": "neck_side", "look": "neck_twist",
}  # fmt: skip
_STAND: _Key = {"hf": 3, "ha": 4, "hr": 8, "kn": 6, "sf": 3, "sa": 9, "sr": 10, "el": 16, "bend": 2, "hunch": 4}

KEY_POSES: dict[str, Sequence[_Key]] = {
    "Directions": (
        {"sfr": 85, "sar": 10, "elr": 12, "look": -15},
        {"sar": 88, "sfr": 15, "elr": 10, "look": -35, "turn": -12},
        {"sfr": 125, "elr": 25, "nod": -12},
        {"sfr": 40, "elr": 75, "sfl": 30, "ell": 70},
    ),
    "Discussion": (
        {"sf": 28, "el": 88, "sa": 18, "sr": 10},
        {"sfr": 45, "elr": 75, "sar": 35, "srr": -15, "look": 20},
        {"sf": 15, "el": 60, "sa": 30, "sr": -20, "nod": 8},
        {"sfl": 40, "ell": 105, "srl": 40, "sfr": 5, "turn": 12},
    ),
    "Eating": (
        {"sfr": 48, "elr": 128, "srr": 28, "nod": 14, "sfl": 25, "ell": 80, "srl": 25},
        {"sfr": 25, "elr": 85, "srr": 20, "nod": 24, "sfl": 25, "ell": 85, "srl": 30},
    ),
    "Greeting": (
        {"sar": 100, "elr": 75, "srr": -75, "sfr": 10},
        {"sfr": 55, "elr": 35, "bend": 10, "nod": 5},
        {"sfr": 140, "elr": 25, "sar": 20},
        {"bend": 32, "hunch": 12, "nod": 15, "sf": 5},
    ),
    "Phoning": (
        {"sfr": 62, "sar": 14, "elr": 138, "srr": 32, "tilt": 9},
        {"sfr": 40, "sar": 35, "elr": 140, "srr": 15, "tilt": 12, "sfl": 25, "ell": 95, "srl": 50},
        {"sfr": 60, "elr": 138, "srr": 30, "look": 28, "hfl": 14, "knl": 20},
    ),
    "Posing": (
        {"sa": 42, "el": 98, "sr": 55, "sf": -12},
        {"sar": 45, "elr": 100, "srr": 55, "sfr": -10, "hal": 14, "side": -8, "look": 25},
        {"sfr": 35, "elr": 118, "srr": 58, "sfl": 32, "ell": 95, "srl": 62, "look": -20},
        {"sf": 160, "el": 60, "sa": 20, "nod": -8},
    ),
    "Purchases": (
        {"bend": 44, "hunch": 12, "hf": 48, "kn": 58, "sf": 55, "el": 20},
        {"bend": 40, "hf": 82, "kn": 100, "sf": 65, "el": 25, "nod": 10},
        {"sf": 30, "el": 88, "sr": 15, "nod": 20},
        {"sfr": 100, "elr": 30, "nod": -5},
    ),
    "Sitting": (
        {"hf": 88, "kn": 86, "ha": 10, "sf": 32, "el": 62, "sr": 25, "bend": 6},
        {"hf": 92, "knr": 100, "knl": 62, "ha": 12, "bend": 22, "hunch": 14, "sf": 48, "el": 70, "sr": 35},
        {"hf": 84, "kn": 70, "ha": 6, "bend": -8, "sf": 10, "el": 45, "look": 25},
        {"hf": 90, "kn": 84, "ha": 14, "sfr": 60, "elr": 110, "srr": 30, "sfl": 40, "ell": 55, "nod": 15},
    ),
    "SittingDown": (
        {"kn": 112, "ha": 14, "bend": 42, "hunch": 15, "sf": 55, "el": 40, "sr": 20},
        {"knr": 108, "knl": 40, "ha": 12, "bend": 36, "sfr": 50, "elr": 60, "sfl": -20, "ell": 15},
        {"kn": 16, "ha": 12, "bend": 14, "sf": -35, "el": 14},
        {"kn": 105, "ha": 34, "hr": 40, "bend": 40, "sf": 45, "el": 55, "sr": 30},
    ),
    "Smoking": (
        {"sfr": 50, "elr": 130, "srr": 32, "sfl": 22, "ell": 95, "srl": 65},
        {"sfr": 10, "elr": 50, "sar": 20, "sfl": 22, "ell": 98, "srl": 65, "look": 20},
        {"sfr": 5, "elr": 25, "nod": -14, "hal": 9, "side": 5},
    ),
    "TakingPhoto": (
        {"sf": 70, "el": 100, "sa": 12, "sr": 24, "nod": 4},
        {"sf": 78, "el": 88, "sr": 22, "bend": 22, "hf": 40, "kn": 60},
        {"sf": 95, "el": 75, "sr": 20, "nod": -14},
        {"sf": 28, "el": 98, "sr": 30, "nod": 30},
    ),
    "Waiting": (
        {"sfr": 32, "elr": 105, "srr": 68, "sfl": 34, "ell": 98, "srl": 66, "hal": 10, "side": 4},
        {"sf": -28, "el": 45, "sr": 45, "look": 35},
        {"sfr": 30, "elr": 105, "srr": 20, "nod": 25, "turn": -6},
        {"hfr": 25, "knr": 50, "sa": 30, "el": 85, "sr": 50, "sf": -10},
    ),
    "Walking": ({},),
    "WalkingDog": ({"sfr": 38, "elr": 22, "bend": -6}, {"sfr": 62, "elr": 10, "bend": 14, "nod": 14}),
    "WalkingTogether": ({"look": 25}, {"sfr": 20, "elr": 85, "srr": 10, "look": 30}),
}
"""Key poses of the fifteen actions of Human3.6M, in the data set's order."""

ACTIONS = tuple(KEY_POSES)
GAITS = {"Walking": 1.0, "WalkingDog": 0.85, "WalkingTogether": 0.9}
SEATS = {"Sitting": "chair", "SittingDown": "floor"}


@dataclass(frozen=True, eq=False)
class Motion:
    """Motion of a person over T frames: joint angles and root as passed to ``body.pose``, and the posed figure."""

    angles_deg: Array
    root_mm: Array
    yaw_deg: Array
    pitch_deg: Array
    roll_deg: Array
    figure: Figure


def _angles(key: _Key) -> Array:
    out = np.zeros(len(ANGLES))
    for entries in (_STAND, key):
        for short, degrees in entries.items():
            if short in _TRUNK:
                names = [_TRUNK[short]]
            elif short in _SHORT:
                names = [f"{_SHORT[short]}_left", f"{_SHORT[short]}_right"]
            else:
                names = [_SHORT[short[:-1]] + ("_right" if short[-1] == "r" else "_left")]
            for name in names:
                out[ANGLES.index(name)] = degrees
    return out


def _mirror(angles: Array) -> Array:
    out = angles.copy()
    for i, name in enumerate(ANGLES):
        if name.endswith("_left"):
            j = ANGLES.index(name.replace("_left", "_right"))
            out[..., i], out[..., j] = angles[..., j], angles[..., i]
        elif name.endswith(("_side", "_twist")):
            out[..., i] = -angles[..., i]
    return out


def _wander(rng: Generator, time_s: Array, count: int, slowest_s: float = 9.0, fastest_s: float = 2.5) -> Array:
    """Sample smooth random curves (T, count): sums of three sinusoids with a standard deviation of about 1."""
    period = rng.uniform(fastest_s, slowest_s, (3, count))
    phase = rng.uniform(0, 2 * np.pi, (3, count))
    return np.asarray(np.sin(2 * np.pi * time_s[:, None, None] / period + phase).sum(1) * np.sqrt(2 / 3))


_DEVIATION = np.array(
    [
        next(
            degrees
            for part, degrees in (
                ("hip_flexion", 5), ("hip", 4), ("knee", 6), ("ankle", 2), ("shoulder_rotation", 12),
                ("shoulder_flexion", 12), ("shoulder", 7), ("elbow", 14), ("neck_twist", 14), ("neck", 6), ("twist", 6),
                ("", 4),
            )
            if part in name
        )
        for name in ANGLES
    ],
    dtype=np.float64,
)  # fmt: skip


def _gait(angles: Array, phase: Array, vigour: float, free_arms: tuple[bool, bool]) -> None:
    """Overwrite angles by a two-phase walk, in place. ``free_arms``: whether the left and the right arm swing."""
    for side, offset, free in (("left", 0.0, free_arms[0]), ("right", np.pi, free_arms[1])):
        swing = phase + offset
        angles[:, ANGLES.index(f"hip_flexion_{side}")] = 8 + 26 * vigour * np.sin(swing)
        angles[:, ANGLES.index(f"knee_{side}")] = 22 + 28 * vigour * np.sin(swing + 1.9)
        if free:
            angles[:, ANGLES.index(f"shoulder_flexion_{side}")] = 2 - 24 * vigour * np.sin(swing)
            angles[:, ANGLES.index(f"elbow_{side}")] = 24 - 12 * np.sin(swing)
    angles[:, ANGLES.index("thorax_twist")] += 6 * np.sin(phase)
    angles[:, ANGLES.index("spine_twist")] -= 3 * np.sin(phase)


def move(
    action: str, body: Body, time_s: Array, centre_mm: tuple[float, float], reach_mm: float, rng: Generator
) -> Motion:
    """Sample the motion of one person who performs an action.

    Args:
        action: one of ACTIONS.
        body: body of the person.
        time_s: (T,) times of the frames.
        centre_mm: (2,) centre of the floor area.
        reach_mm: approximate maximum distance of the pelvis from the centre.
        rng: source of the random choices, which do not depend on ``time_s``.

    Returns:
        Motion with the lowest point of the body on the floor: of four random variants, the one with the least
            self-penetration.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> motion = move("Walking", sample_body(rng), np.arange(5) / 10, (0.0, 0.0), 800, rng)
        >>> motion.figure.joints_mm.shape
        (5, 17, 3)
    """
    best: tuple[float, Motion] | None = None
    for _ in range(4):
        motion = _variant(action, body, time_s, centre_mm, reach_mm, rng)
        depth = penetration_mm(body, motion.figure)
        if best is None or depth < best[0]:
            best = depth, motion
    assert best is not None
    return best[1]


def _variant(
    action: str, body: Body, time_s: Array, centre_mm: tuple[float, float], reach_mm: float, rng: Generator
) -> Motion:
    # Blend the key poses by a softmax of smooth random curves; 2.6 makes one of them dominate most of the time.
    keys = np.stack([_angles(key) for key in KEY_POSES[action]])
    weights = np.exp(2.6 * _wander(rng, time_s, len(keys)))
    angles = weights @ keys / weights.sum(1, keepdims=True)
    # A constant personal offset, and smooth variation over time.
    angles = angles + _DEVIATION * (0.75 * rng.standard_normal(len(ANGLES)))
    angles += _DEVIATION * 0.4 * _wander(rng, time_s, len(ANGLES), 6.0, 1.5)
    yaw = np.full(len(time_s), rng.uniform(0, 360))
    drift = _wander(rng, time_s, 4, 20.0, 8.0)
    place = np.array(centre_mm) + rng.uniform(-0.35, 0.35, 2) * reach_mm
    frequency, turning, start = rng.uniform(0.75, 1.05), rng.choice([-1.0, 1.0]), rng.uniform(0, 2 * np.pi)
    radius = reach_mm * rng.uniform(0.65, 1.0)
    if action in GAITS:
        phase = 2 * np.pi * frequency * time_s + rng.uniform(0, 2 * np.pi)
        _gait(angles, phase, GAITS[action], (True, action != "WalkingDog"))
        # Two steps per cycle, each about 0.37 of the body height, along a slightly irregular circle.
        speed = 0.74 * body.height * frequency * GAITS[action]
        around = start + turning * speed * time_s / radius
        wobble = radius * (1 + 0.06 * drift[:, 0])
        path = np.array(centre_mm) + wobble[:, None] * np.stack([np.cos(around), np.sin(around)], 1)
        yaw = np.rad2deg(around) + 90 * turning + 5 * drift[:, 1]
    else:
        still = 0.25 if action in SEATS else 1.0
        path = place + still * 0.12 * reach_mm * drift[:, :2]
        yaw = yaw + still * 28 * drift[:, 2]
    if rng.random() < 0.5:
        angles = _mirror(angles)
    angles = clip_angles(angles)
    pitch = np.zeros(len(time_s))
    roll = (0.5 if action in SEATS else 1.5) * drift[:, 3]
    root = np.concatenate([path, np.zeros((len(time_s), 1))], 1)
    if action not in SEATS:
        # Lean so that the body's centre is above the feet: a person who bends forward moves the hips back.
        level = pose(body, angles, np.zeros_like(root), np.zeros_like(yaw), pitch, roll).points_mm
        middle = 0.5 * level["thorax"] + 0.2 * level["nose"] + 0.15 * (level["left_knee"] + level["right_knee"])
        feet = 0.25 * (level["left_ankle"] + level["right_ankle"] + level["left_toe"] + level["right_toe"])
        rise = np.maximum(300.0, (middle - feet)[:, 2])
        lean = np.rad2deg(np.arctan2((middle - feet)[:, 0], rise))
        pitch = np.clip(-0.9 * lean, -28, 12) if action not in GAITS else np.full(len(time_s), 3.0)
    if SEATS.get(action) == "floor":
        pitch[:] = -22  # the pelvis rolls back
        for side in ("left", "right"):
            # Hip flexion that puts the heel on the floor, with thigh and shin as one vector from the hip.
            knee = np.deg2rad(angles[:, ANGLES.index(f"knee_{side}")])
            down, ahead = body.thigh + body.shin * np.cos(knee), body.shin * np.sin(knee)
            lift = np.arccos(np.clip(0.015 * body.height / np.hypot(down, ahead), -1, 1))
            angles[:, ANGLES.index(f"hip_flexion_{side}")] = np.rad2deg(np.arctan2(ahead, down) + lift) + pitch
        angles = clip_angles(angles)
    for side in ("left", "right"):
        # Soles stay horizontal within the limits of the ankle.
        column = {part: ANGLES.index(f"{part}_{side}") for part in ("hip_flexion", "knee", "ankle")}
        level_sole = pitch - angles[:, column["hip_flexion"]] + angles[:, column["knee"]]
        angles[:, column["ankle"]] = level_sole + 0.3 * (angles[:, column["ankle"]])
    angles = clip_angles(angles)
    root[:, 2] -= lowest_mm(body, pose(body, angles, root, yaw, pitch, roll))
    return Motion(angles, root, yaw, pitch, roll, pose(body, angles, root, yaw, pitch, roll))
