"""People: limb lengths, joint angles, body surface and clothes.

The frame of a body: forward +x, left +y, up +z, millimetres. A pose has 26 joint angles in degrees, each within its
limits, and a root (position, yaw, pitch, roll).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from poseboard.datasets.camera import Array
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.datasets.synthetic.casting import CLOTH, HEAD, MATERIAL_COLUMNS, SHIRT, SHOE, TROUSERS

LIMITS_DEG: dict[str, tuple[float, float]] = {
    **{
        f"{name}_{side}": limits
        for side in ("left", "right")
        for name, limits in (
            ("hip_flexion", (-25.0, 115.0)),
            ("hip_abduction", (-10.0, 40.0)),
            ("hip_rotation", (-30.0, 45.0)),
            ("knee", (0.0, 140.0)),
            ("ankle", (-35.0, 30.0)),
            ("shoulder_flexion", (-50.0, 170.0)),
            ("shoulder_abduction", (-15.0, 140.0)),
            ("shoulder_rotation", (-80.0, 80.0)),
            ("elbow", (2.0, 145.0)),
        )
    },
    "spine_flexion": (-15.0, 55.0),
    "spine_side": (-20.0, 20.0),
    "spine_twist": (-30.0, 30.0),
    "thorax_flexion": (-10.0, 35.0),
    "thorax_twist": (-25.0, 25.0),
    "neck_flexion": (-30.0, 45.0),
    "neck_side": (-25.0, 25.0),
    "neck_twist": (-60.0, 60.0),
}
"""Anatomical limits. Positive flexion is forward, abduction outward, rotation inward (arm) or outward (leg)."""

ANGLES = tuple(LIMITS_DEG)
JOINTS = HUMAN36M.joints
FACE_LANDMARKS = {"eye": (87.0, 29.0, 195.0), "ear": (0.0, 75.5, 178.0)}
"""Positions of painted eyes and ear centres: forward, outward and up from the thorax, for a head of 285 mm."""
SKIN_PART, SHIRT_PART, SLEEVE_PART, TROUSERS_PART, SHOE_PART, HEAD_PART, HAIR_PART = range(7)
MATERIALS_PER_PERSON = 7


@dataclass(frozen=True)
class Body:
    """Body of a person: lengths in mm, and girths as factors on an average build."""

    height: float
    thigh: float
    shin: float
    upper_arm: float
    forearm: float
    hip: float
    shoulder: float
    spine: float
    thorax: float
    neck: float
    head: float
    girth: float
    leg_girth: float
    bust: float


@dataclass(frozen=True, eq=False)
class Outfit:
    """Clothes, skin and hair of a person.

    Args:
        materials: (7, 16) rows as in ``renderer``: skin, shirt, sleeve, trousers, shoe, head, hair.
        sleeve: end of the sleeve: 0 shoulder, 1 elbow, 2 wrist.
        leg: end of the trousers: 0 hip, 1 knee, 2 ankle.
        hair: "bald", "short", "long", "bun" or "pony".
        loose: factor on the girth of the trunk, at least 1.
    """

    materials: Array
    sleeve: float
    leg: float
    hair: str
    loose: float


@dataclass(frozen=True, eq=False)
class Figure:
    """Posed body over T frames.

    Args:
        points_mm: named points (T, 3): the joints of ``HUMAN36M``, toes, knuckles, eyes and ears.
        frames: named frames of body parts (T, 3, 3); columns point forward, left and up.
    """

    points_mm: dict[str, Array]
    frames: dict[str, Array]

    @property
    def joints_mm(self) -> Array:
        """Joints (T, 17, 3), mm, in the order of ``HUMAN36M``."""
        return self.landmarks_mm(JOINTS)

    def landmarks_mm(self, names: Sequence[str]) -> Array:
        """Named points (T, J, 3), mm, for example ``figure.landmarks_mm(COCO.joints)``."""
        return np.stack([self.points_mm[name] for name in names], 1)


@dataclass(frozen=True, eq=False)
class Flesh:
    """Surface of a figure over T frames, as round cones with the columns of ``renderer.Solids``."""

    cones: Array
    frames: Array
    paint: Array


def sample_body(rng: Generator) -> Body:
    """Sample a random body: height 1.52–1.95 m, segments within 5 % of their average share, thin to stout."""
    height = rng.uniform(1520, 1950)
    fractions = {
        "thigh": 0.245, "shin": 0.246, "upper_arm": 0.17, "forearm": 0.145, "hip": 0.066, "shoulder": 0.098,
        "spine": 0.135, "thorax": 0.15, "neck": 0.068, "head": 0.0975,
    }  # fmt: skip
    lengths = {name: height * share * rng.uniform(0.95, 1.05) for name, share in fractions.items()}
    woman = rng.random() < 0.5
    lengths["shoulder"] *= 0.95 if woman else 1.04
    lengths["hip"] *= 1.05 if woman else 0.97
    bust = rng.uniform(0.6, 1.1) if woman else 0.0
    return Body(height=height, girth=rng.uniform(0.82, 1.35), leg_girth=rng.uniform(0.85, 1.25), bust=bust, **lengths)


def _linear(hue: float, saturation: float, value: float) -> Array:
    """Convert an HSV colour to linear light (display value squared)."""
    ramp = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return np.asarray((value * (1 - saturation * (1 - ramp))) ** 2)


def _material(kind: float, a: Array, b: Array | None = None, c: Array | None = None) -> Array:
    row = np.zeros(MATERIAL_COLUMNS)
    row[0], row[1:4], row[4:7], row[7:10], row[11] = kind, a, a if b is None else b, a if c is None else c, 100.0
    return row


def sample_outfit(rng: Generator) -> Outfit:
    """Sample random clothes, skin and hair."""
    tone = rng.uniform(0, 1)
    skin = (1 - tone) * np.array([0.74, 0.48, 0.36]) + tone * np.array([0.19, 0.098, 0.06])
    hair_colours = ((0.03, 0.025, 0.022), (0.09, 0.05, 0.025), (0.42, 0.29, 0.12), (0.25, 0.08, 0.03), (0.4, 0.4, 0.4))
    hair = np.array(hair_colours[rng.choice(5, p=[0.36, 0.3, 0.18, 0.08, 0.08])])

    def cloth(dark: bool) -> Array:
        return _linear(rng.uniform(), rng.uniform(0.05, 0.75), rng.uniform(0.22, 0.6) if dark else rng.uniform(0.5, 1))

    shirt = _material(SHIRT, cloth(False), cloth(rng.random() < 0.5), cloth(False))
    shirt[10] = rng.choice(6, p=[0.42, 0.2, 0.08, 0.1, 0.1, 0.1])
    shirt[11], shirt[12], shirt[13] = rng.uniform(55, 130), rng.uniform(), rng.uniform(0.25, 0.7)
    shirt[14], shirt[15] = float(rng.random() < 0.4), rng.uniform(-0.5, 1)
    sleeve = shirt.copy()
    sleeve[10] = 0.0 if shirt[10] == 4 else shirt[10]
    sleeve[14] = sleeve[15] = 0.0
    trousers = _material(TROUSERS, cloth(True), cloth(True))
    if rng.random() < 0.4:  # jeans
        trousers[1:4] = _linear(0.6, rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.6))
    trousers[10], trousers[11] = (5.0, rng.uniform(30, 60)) if rng.random() < 0.12 else (0.0, 100.0)
    trousers[13] = rng.uniform(0.25, 0.6)
    shoe = _material(SHOE, cloth(True), _linear(0, 0, rng.choice([0.2, 0.5, 0.95])), cloth(False))
    style = str(rng.choice(["bald", "short", "long", "bun", "pony"], p=[0.08, 0.5, 0.2, 0.1, 0.12]))
    head = _material(HEAD, skin, hair)
    head[14] = float(style in {"bald", "short"} and rng.random() < 0.3)
    head[15] = float(style != "bald")
    hair_row = _material(CLOTH, hair)
    hair_row[13] = 0.5
    return Outfit(
        materials=np.stack([_material(CLOTH, skin), shirt, sleeve, trousers, shoe, head, hair_row]),
        sleeve=float(rng.choice([0.55, 0.7, 2.0, 1.9, 1.3])),
        leg=float(rng.choice([0.75, 0.95, 1.5, 2.0, 2.0, 2.0])),
        hair=style,
        loose=rng.uniform(1.0, 1.1),
    )


def _turn(axis: int, degrees: Array) -> Array:
    """Rotation matrices (T, 3, 3) about axis 0, 1 or 2 (x, y, z) by angles (T,) in degrees."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    out = np.zeros((*angle.shape, 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    out[..., axis, axis] = 1
    out[..., i, i] = out[..., j, j] = c
    out[..., i, j], out[..., j, i] = -s, s
    return out


def _at(origin: Array, frame: Array, forward: float, left: float, up: float) -> Array:
    return np.asarray(origin + frame @ np.array([forward, left, up]))


def clip_angles(angles_deg: Array) -> Array:
    """Clip joint angles (T, 26), degrees, to their anatomical limits."""
    low, high = np.array(list(LIMITS_DEG.values())).T
    return np.asarray(np.clip(angles_deg, low, high))


def pose(body: Body, angles_deg: Array, root_mm: Array, yaw_deg: Array, pitch_deg: Array, roll_deg: Array) -> Figure:
    """Pose a body by forward kinematics.

    Args:
        body: body with the limb lengths.
        angles_deg: (T, 26) joint angles in the order of ANGLES.
        root_mm: (T, 3) position of the pelvis.
        yaw_deg: (T,) rotation about the vertical axis; 0 faces +x.
        pitch_deg: (T,) pitch of the pelvis; positive values lean forward.
        roll_deg: (T,) roll of the pelvis; positive values lean right.
    """
    # Frames are chained from the pelvis outward; columns of a frame are the part's forward, left and up axes.
    # Rotation about y by a positive angle leans forward, because y is left.
    a = {name: angles_deg[:, i] for i, name in enumerate(ANGLES)}
    pelvis = _turn(2, yaw_deg) @ _turn(1, pitch_deg) @ _turn(0, roll_deg)
    spine = pelvis @ _turn(1, a["spine_flexion"]) @ _turn(0, a["spine_side"]) @ _turn(2, a["spine_twist"])
    thorax = spine @ _turn(1, a["thorax_flexion"]) @ _turn(2, a["thorax_twist"])
    head = thorax @ _turn(2, a["neck_twist"]) @ _turn(1, a["neck_flexion"]) @ _turn(0, a["neck_side"])
    points = {"pelvis": root_mm}
    points["spine"] = _at(root_mm, spine, 0, 0, body.spine)
    points["thorax"] = _at(points["spine"], thorax, 0, 0, body.thorax)
    tall = body.neck + body.head
    points["nose"] = _at(points["thorax"], head, 0.36 * tall, 0, 0.6 * tall)
    points["head_top"] = _at(points["thorax"], head, 0.04 * tall, 0, tall)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for part, (forward, left, up) in FACE_LANDMARKS.items():
            points[f"{side}_{part}"] = _at(
                points["thorax"], head, forward * tall / 285, sign * left * tall / 285, up * tall / 285
            )
    frames = {"pelvis": pelvis, "spine": spine, "thorax": thorax, "head": head}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        # Limbs hang along -z of their frames. Flexion lifts them forward: a negative turn about y. Abduction and
        # rotation change their sign with the side.
        hip = (
            pelvis
            @ _turn(1, -a[f"hip_flexion_{side}"])
            @ _turn(0, sign * a[f"hip_abduction_{side}"])
            @ _turn(2, sign * a[f"hip_rotation_{side}"])
        )
        knee = hip @ _turn(1, a[f"knee_{side}"])
        ankle = knee @ _turn(1, -a[f"ankle_{side}"])
        points[f"{side}_hip"] = _at(root_mm, pelvis, 0, sign * body.hip, 0)
        points[f"{side}_knee"] = _at(points[f"{side}_hip"], hip, 0, 0, -body.thigh)
        points[f"{side}_ankle"] = _at(points[f"{side}_knee"], knee, 0, 0, -body.shin)
        points[f"{side}_toe"] = _at(points[f"{side}_ankle"], ankle, 0.098 * body.height, 0, -0.034 * body.height)
        shoulder = (
            thorax
            @ _turn(1, -a[f"shoulder_flexion_{side}"])
            @ _turn(0, sign * a[f"shoulder_abduction_{side}"])
            @ _turn(2, -sign * a[f"shoulder_rotation_{side}"])
        )
        elbow = shoulder @ _turn(1, -a[f"elbow_{side}"])
        points[f"{side}_shoulder"] = _at(points["thorax"], thorax, 0, sign * body.shoulder, -0.018 * body.height)
        points[f"{side}_elbow"] = _at(points[f"{side}_shoulder"], shoulder, 0, 0, -body.upper_arm)
        points[f"{side}_wrist"] = _at(points[f"{side}_elbow"], elbow, 0, 0, -body.forearm)
        points[f"{side}_knuckles"] = _at(points[f"{side}_wrist"], elbow, 0, 0, -0.05 * body.height)
        frames |= {
            f"{side}_thigh": hip, f"{side}_shin": knee, f"{side}_foot": ankle, f"{side}_upper_arm": shoulder,
            f"{side}_forearm": elbow,
        }  # fmt: skip
    return Figure(points, frames)


def lowest_mm(body: Body, figure: Figure) -> Array:
    """Height (T,) of the lowest point of a figure: soles, knees or seat."""
    scale = body.height / 1720
    candidates = [figure.points_mm["pelvis"][:, 2] - 105 * scale * np.sqrt(body.girth)]
    for side in ("left", "right"):
        ankle, foot = figure.points_mm[f"{side}_ankle"], figure.frames[f"{side}_foot"]
        candidates += [
            _at(ankle, foot, forward * scale, 0, up * scale)[:, 2] - radius * scale
            for forward, up, radius in ((-22, -42, 38), (110, -50, 30), (160, -56, 24))
        ]
        candidates.append(figure.points_mm[f"{side}_knee"][:, 2] - 52 * scale * body.leg_girth)
    return np.min(candidates, axis=0)


def penetration_mm(body: Body, figure: Figure) -> float:
    """Approximate depth of self-penetration, summed over frames, mm: arms in trunk or head, legs in each other."""
    points, depth = figure.points_mm, 0.0
    scale = body.height / 1720
    trunk = [
        ((1 - s) * points["pelvis"] + s * points["thorax"], (98 + 25 * s) * scale * body.girth)
        for s in (0.0, 0.25, 0.5, 0.75)
    ]
    skull = (0.5 * (points["nose"] + points["head_top"]), 105 * scale)
    for side in ("left", "right"):
        middle = 0.5 * (points[f"{side}_elbow"] + points[f"{side}_wrist"])
        for limb in (points[f"{side}_wrist"], points[f"{side}_knuckles"], middle):
            for centre, radius in (*trunk, skull):
                depth += float(np.maximum(0, radius + 30 * scale - np.linalg.norm(limb - centre, axis=1)).sum())
    for part in ("knee", "ankle"):
        gap = np.linalg.norm(points[f"left_{part}"] - points[f"right_{part}"], axis=1)
        depth += float(np.maximum(0, 100 * scale - gap).sum())
    return depth


class _Sculptor:
    """Builder of the round cones of one figure; lengths are for a body height of 1720 mm."""

    def __init__(self, body: Body, outfit: Outfit, figure: Figure) -> None:
        self.body, self.outfit = body, outfit
        self.points, self.frames = figure.points_mm, figure.frames
        self.s = body.height / 1720
        self.trunk_girth = self.s * body.girth * outfit.loose
        self.leg_girth = self.s * body.leg_girth
        self.arm_girth = self.s * (0.55 + 0.45 * body.girth)
        self.cones: list[Array] = []
        self.textures: list[Array] = []
        self.paint: list[tuple[float, float, float]] = []

    def at(self, point: str, frame: str, forward: float, left: float, up: float) -> Array:
        """World position (T, 3) of a point at an offset (mm) from a joint, in the frame of a body part."""
        return _at(self.points[point], self.frames[frame], forward * self.s, left * self.s, up * self.s)

    def add(
        self, a: Array, b: Array, ra: float, rb: float, frame: str, origin: Array, first: int, then: int | None = None,
        cut: float = 2.0,
    ) -> None:  # fmt: skip
        """Add a cone from a to b with material ``first`` up to ``cut`` of its length and ``then`` beyond."""
        count = len(a)
        self.cones.append(np.concatenate([a, b, np.full((count, 1), ra), np.full((count, 1), rb)], 1))
        axes = np.swapaxes(self.frames[frame], 1, 2).reshape(count, 9)
        self.textures.append(np.concatenate([axes, origin], 1))
        self.paint.append((float(first), float(first if then is None else then), cut))

    def trunk(self) -> None:
        """Add the trunk: two columns side by side, shoulders and hips.

        The texture of every part has its origin at the pelvis, in the part's own frame, so that stripes are continuous.
        """
        body, s, girth, legs, arms = self.body, self.s, self.trunk_girth, self.leg_girth, self.arm_girth
        points, frames = self.points, self.frames
        low = points["pelvis"]
        mid = _at(points["spine"], frames["spine"], 0, 0, -body.spine)
        high = _at(points["thorax"], frames["thorax"], 0, 0, -body.spine - body.thorax)
        for side, sign in (("left", 1.0), ("right", -1.0)):
            hip, waist = self.at("pelvis", "pelvis", -4, sign * 62, 22), self.at("spine", "spine", 0, sign * 42, 0)
            chest = self.at("thorax", "thorax", 0, sign * 0.36 * body.shoulder / s, -100)
            self.add(hip, waist, 93 * girth, 83 * girth, "pelvis", low, SHIRT_PART)
            self.add(waist, chest, 82 * girth, 94 * girth, "thorax", high, SHIRT_PART)
            shoulder = points[f"{side}_shoulder"]
            self.add(chest, shoulder, 88 * girth, 52 * arms, "thorax", high, SHIRT_PART)
            collar = self.at("thorax", "thorax", -12, sign * 22, 12)
            self.add(collar, shoulder, 48 * s, 50 * arms, "thorax", high, SHIRT_PART)
            if body.bust:
                cup = self.at("thorax", "thorax", 58, sign * 58, -125)
                self.add(chest, cup, 84 * s, 56 * s * body.bust * np.sqrt(body.girth), "thorax", high, SHIRT_PART)
            buttock = self.at("pelvis", "pelvis", -38, sign * 62, -18)
            self.add(buttock, hip, 84 * legs, 80 * legs, "pelvis", low, TROUSERS_PART)
        belly, breast = self.at("spine", "spine", 12 * body.girth, 0, -40), self.at("thorax", "thorax", 6, 0, -105)
        self.add(belly, breast, 88 * girth, 90 * s, "spine", mid, SHIRT_PART)
        self.add(points["left_hip"], points["right_hip"], 83 * legs, 83 * legs, "pelvis", low, TROUSERS_PART)

    def head(self) -> None:
        """Add skull, jaw, nose, ears and hair; lengths are for a head of 285 mm from thorax to top."""
        k = (self.body.neck + self.body.head) / 285

        def on_head(forward: float, left: float, up: float) -> Array:
            return _at(self.points["thorax"], self.frames["head"], forward * k, left * k, up * k)

        crown = on_head(12, 0, 190)
        neck = self.at("thorax", "thorax", -10, 0, -5)
        self.add(neck, on_head(0, 0, 140), 57 * self.arm_girth, 51 * k, "head", crown, SKIN_PART)
        shapes = list(_FACE)
        if self.outfit.hair != "bald":
            shapes += _HAIR["short"]
        if self.outfit.hair in _HAIR and self.outfit.hair != "short":
            shapes += _HAIR[self.outfit.hair]
        for a, b, ra, rb, part in shapes:
            self.add(on_head(*a), on_head(*b), ra * k, rb * k, "head", crown, part)

    def leg(self, side: str, sign: float) -> None:
        """Add thigh, shin with a calf, and shoe, with skin below the end of the trousers."""
        hip, knee, ankle = (self.points[f"{side}_{joint}"] for joint in ("hip", "knee", "ankle"))
        thigh, shin, foot = f"{side}_thigh", f"{side}_shin", f"{side}_foot"
        girth, s, hem = self.leg_girth, self.s, self.outfit.leg
        covered = hem > 1
        first = TROUSERS_PART if covered else SKIN_PART
        self.add(hip, knee, 82 * girth, 57 * girth, thigh, hip, TROUSERS_PART, SKIN_PART, hem)
        narrow = 38 * (1.12 if hem >= 2 else 1.0) * girth
        self.add(knee, ankle, 55 * girth, narrow, shin, knee, first, SKIN_PART, hem - 1 if covered else 2.0)
        length = self.body.shin / s
        calf, low_calf = (self.at(f"{side}_knee", shin, x, 0, z * length) for x, z in ((-16, -0.22), (-8, -0.62)))
        cut = (hem - 1.22) / 0.4 if covered else 2.0
        self.add(calf, low_calf, 55 * girth, 42 * girth, shin, knee, first, SKIN_PART, cut)
        places = ((-22, 0, -42), (110, 0, -50), (160, sign * -6, -56), (10, 0, -12))
        heel, ball, toe, instep = (self.at(f"{side}_ankle", foot, *place) for place in places)
        self.add(heel, ball, 38 * s, 30 * s, foot, ankle, SHOE_PART)
        self.add(ball, toe, 34 * s, 24 * s, foot, ankle, SHOE_PART)
        self.add(instep, ball, 38 * s, 28 * s, foot, ankle, SHOE_PART)

    def arm(self, side: str, sign: float) -> None:
        """Add upper arm, forearm, palm, fingers and thumb, with skin below the end of the sleeve."""
        shoulder, elbow, wrist = (self.points[f"{side}_{joint}"] for joint in ("shoulder", "elbow", "wrist"))
        upper, fore = f"{side}_upper_arm", f"{side}_forearm"
        girth, s, sleeve = self.arm_girth, self.s, self.outfit.sleeve
        self.add(shoulder, elbow, 54 * girth, 41 * girth, upper, shoulder, SLEEVE_PART, SKIN_PART, sleeve)
        first = SLEEVE_PART if sleeve > 1 else SKIN_PART
        muscle = self.at(f"{side}_elbow", fore, 4, 0, -0.25 * self.body.forearm / s)
        self.add(elbow, muscle, 39 * girth, 42 * girth, fore, shoulder, first)
        self.add(muscle, wrist, 42 * girth, 29 * s, fore, shoulder, first, SKIN_PART, (sleeve - 1.25) / 0.75)
        knuckles, tips = self.points[f"{side}_knuckles"], self.at(f"{side}_knuckles", fore, 22, -sign * 6, -66)
        self.add(wrist, knuckles, 27 * s, 34 * s, fore, wrist, SKIN_PART)
        self.add(knuckles, tips, 32 * s, 17 * s, fore, wrist, SKIN_PART)
        thumb, tip = (self.at(f"{side}_wrist", fore, *p) for p in ((28, -sign * 14, -35), (54, -sign * 18, -86)))
        self.add(thumb, tip, 18 * s, 12 * s, fore, wrist, SKIN_PART)


_Shape = tuple[tuple[float, float, float], tuple[float, float, float], float, float, int]
_FACE: list[_Shape] = [
    ((-14, 0, 206), (22, 0, 204), 78, 72, HEAD_PART),
    ((20, 0, 172), (40, 0, 122), 62, 40, HEAD_PART),
    ((86, 0, 182), (101, 0, 158), 9, 14, SKIN_PART),
    ((2, 74, 188), (-2, 77, 168), 16, 11, SKIN_PART),
    ((2, -74, 188), (-2, -77, 168), 16, 11, SKIN_PART),
]
_HAIR: dict[str, list[_Shape]] = {
    "short": [((-30, 0, 216), (8, 0, 224), 81, 76, HAIR_PART), ((-36, 0, 205), (-34, 0, 165), 72, 55, HAIR_PART)],
    "long": [
        ((-40, 0, 200), (-48, 0, 70), 78, 58, HAIR_PART),
        ((-10, 50, 215), (-5, 62, 95), 42, 28, HAIR_PART),
        ((-10, -50, 215), (-5, -62, 95), 42, 28, HAIR_PART),
    ],
    "bun": [((-88, 0, 252), (-96, 0, 262), 40, 38, HAIR_PART)],
    "pony": [((-98, 0, 238), (-112, 0, 90), 34, 16, HAIR_PART)],
}
"""Ends (forward, left, up from the thorax, for a head of 285 mm), radii and part. All hair includes "short"."""


def flesh(body: Body, outfit: Outfit, figure: Figure) -> Flesh:
    """Build the surface of a clothed figure from about forty round cones. Materials are rows of the outfit."""
    sculptor = _Sculptor(body, outfit, figure)
    sculptor.trunk()
    sculptor.head()
    for side, sign in (("left", 1.0), ("right", -1.0)):
        sculptor.leg(side, sign)
        sculptor.arm(side, sign)
    return Flesh(np.stack(sculptor.cones, 1), np.stack(sculptor.textures, 1), np.array(sculptor.paint))
