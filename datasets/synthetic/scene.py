"""Rooms, furniture, light, and scenes of people and furniture.

World frame: z up, millimetres, origin at the centre of the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.synthetic.body import JOINTS, MATERIALS_PER_PERSON, Body, Figure, Outfit, flesh
from poseboard.datasets.synthetic.casting import CARTON, DRAWERS, FABRIC, MATERIAL_COLUMNS, PLAIN, WOOD
from poseboard.datasets.synthetic.renderer import Light, Room, Solids, first_hits

_TEXELS = (320, 640)
# Maximum distance, mm for average height, of a visible joint from the surface of the body in front of it.
_FLESH_MM = {
    "hip": 150.0, "knee": 90.0, "ankle": 80.0, "pelvis": 185.0, "spine": 165.0, "thorax": 155.0, "head_top": 110.0,
    "nose": 75.0, "shoulder": 105.0, "elbow": 70.0, "wrist": 65.0, "eye": 75.0, "ear": 75.0,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Person:
    """A posed person over T instants."""

    body: Body
    outfit: Outfit
    figure: Figure


@dataclass(eq=False)
class Furniture:
    """Static boxes and their materials; rows as in ``renderer.Solids``."""

    boxes: list[Array] = field(default_factory=list)
    material: list[int] = field(default_factory=list)
    materials: list[Array] = field(default_factory=list)

    def add_material(
        self, rng: Generator, kind: float, colour: Array | None = None, value: tuple[float, float] = (0.3, 0.9)
    ) -> int:
        """Add a material and return its index; ``colour`` in display values, random if None."""
        row = np.zeros(MATERIAL_COLUMNS)
        base = rng.uniform(*value) * (1 - rng.uniform(0.1, 0.75) * rng.uniform(0, 1, 3)) if colour is None else colour
        row[0], row[1:4] = kind, np.clip(base, 0, 1) ** 2
        row[4:7] = row[1:4] * rng.uniform(0.3, 0.7)
        row[7:10] = row[1:4] * rng.uniform(0.4, 0.75)
        row[10], row[11], row[12] = float(rng.random() < 0.4), rng.uniform(140, 380), rng.uniform(0, 50)
        self.materials.append(row)
        return len(self.materials) - 1

    def add(
        self,
        material: int,
        place_mm: tuple[float, float],
        yaw: float,
        local_mm: Sequence[float],
        size_mm: Sequence[float] | Array,
    ) -> None:
        """Add a box with its centre at ``local_mm`` (forward, left, up) of a piece of furniture at ``place_mm``."""
        c, s = np.cos(yaw), np.sin(yaw)
        x, y, z = local_mm
        half = np.array(size_mm) / 2
        centre = [place_mm[0] + c * x - s * y, place_mm[1] + s * x + c * y, z]
        self.boxes.append(np.array([*centre, *half, c, s]))
        self.material.append(material)


def _wood(rng: Generator) -> Array:
    return np.array([0.72, 0.5, 0.32]) * rng.uniform(0.55, 1.25) * (1 + rng.uniform(-0.08, 0.08, 3))


def put_table(piece: Furniture, rng: Generator, place_mm: tuple[float, float], yaw: float) -> None:
    """Add a table with four legs, sometimes with a carton on it."""
    top, legs = piece.add_material(rng, WOOD, _wood(rng)), piece.add_material(rng, PLAIN)
    height, length, width = rng.uniform(560, 780), rng.uniform(500, 850), rng.uniform(420, 560)
    piece.add(top, place_mm, yaw, (0, 0, height), (length, width, 40))
    for x in (-1, 1):
        for y in (-1, 1):
            local = (x * (length / 2 - 40), y * (width / 2 - 40), height / 2)
            piece.add(legs, place_mm, yaw, local, (45, 45, height - 40))
    if rng.random() < 0.5:
        size = rng.uniform(150, 320, 3)
        box = piece.add_material(rng, CARTON, np.array([0.75, 0.58, 0.4]) * rng.uniform(0.8, 1.2))
        piece.add(box, place_mm, yaw + rng.uniform(-0.5, 0.5), (0, 0, height + 20 + size[2] / 2), size)


def put_cabinet(piece: Furniture, rng: Generator, place_mm: tuple[float, float], yaw: float) -> None:
    """Add a chest of drawers or a locker."""
    size = (rng.uniform(330, 480), rng.uniform(380, 700), rng.uniform(480, 1100))
    material = piece.add_material(rng, DRAWERS, _wood(rng) if rng.random() < 0.4 else None)
    piece.add(material, place_mm, yaw, (0, 0, size[2] / 2), size)


def put_cartons(piece: Furniture, rng: Generator, place_mm: tuple[float, float], yaw: float) -> None:
    """Add a stack of one to three cartons."""
    z = 0.0
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(280, 520, 3)
        material = piece.add_material(rng, CARTON, np.array([0.75, 0.58, 0.4]) * rng.uniform(0.7, 1.25))
        local = (rng.uniform(-40, 40), rng.uniform(-40, 40), z + size[2] / 2)
        piece.add(material, place_mm, yaw + rng.uniform(-0.4, 0.4), local, size)
        z += size[2]


def put_shelf(piece: Furniture, rng: Generator, place_mm: tuple[float, float], yaw: float) -> None:
    """Add an open shelf with objects. People are visible through it."""
    wood = piece.add_material(rng, WOOD, _wood(rng))
    depth, width, height = rng.uniform(260, 340), rng.uniform(500, 750), rng.uniform(800, 1300)
    for y in (-1, 1):
        piece.add(wood, place_mm, yaw, (0, y * width / 2, height / 2), (depth, 30, height))
    for z in np.linspace(60, height - 15, 4):
        piece.add(wood, place_mm, yaw, (0, 0, z), (depth, width, 26))
        if z < height - 100:
            tall, wide = rng.uniform(120, 240), rng.uniform(0.2, 0.7) * width
            thing = piece.add_material(rng, FABRIC)
            piece.add(
                thing,
                place_mm,
                yaw,
                (0, rng.uniform(-0.12, 0.12) * width, z + 13 + tall / 2),
                (0.7 * depth, wide, tall),
            )


def put_armchair(piece: Furniture, rng: Generator, place_mm: tuple[float, float], yaw: float) -> None:
    """Add an upholstered chair."""
    cloth = piece.add_material(rng, FABRIC)
    piece.add(cloth, place_mm, yaw, (20, 0, 215), (560, 560, 430))
    piece.add(cloth, place_mm, yaw, (-260, 0, 480), (130, 640, 900))
    for y in (-1, 1):
        piece.add(cloth, place_mm, yaw, (20, y * 320, 310), (560, 100, 620))


def put_seat(piece: Furniture, rng: Generator, place_mm: tuple[float, float], yaw: float, height_mm: float) -> None:
    """Add a chair or a stool with its seat at ``height_mm``."""
    wood, legs = piece.add_material(rng, WOOD, _wood(rng)), piece.add_material(rng, PLAIN)
    piece.add(wood, place_mm, yaw, (30, 0, height_mm - 22), (430, 430, 44))
    for x in (-1, 1):
        for y in (-1, 1):
            piece.add(legs, place_mm, yaw, (30 + x * 190, y * 190, (height_mm - 44) / 2), (36, 36, height_mm - 44))
    if rng.random() < 0.6:
        back = rng.uniform(280, 420)
        for y in (-1, 1):
            piece.add(legs, place_mm, yaw, (-195, y * 190, height_mm + back / 2), (30, 36, back))
        piece.add(wood, place_mm, yaw, (-195, 0, height_mm + back - 80), (26, 430, 150))


def put_screen(piece: Furniture, rng: Generator, place_mm: tuple[float, float], yaw: float) -> None:
    """Add a cloth partition, perpendicular to its yaw direction."""
    cloth = piece.add_material(rng, FABRIC)
    size = (40, rng.uniform(300, 620), rng.uniform(1000, 1900))
    piece.add(cloth, place_mm, yaw, (0, 0, size[2] / 2 + rng.uniform(0, 150)), size)


FREESTANDING = (put_table, put_cabinet, put_cartons, put_shelf, put_armchair)


def free_place(
    rng: Generator, taken_mm: Array, distance_mm: tuple[float, float], gap_mm: float, limit_mm: tuple[float, float]
) -> tuple[float, float] | None:
    """Sample a free position on the floor near people.

    Args:
        rng: source of up to thirty random positions.
        taken_mm: (N, 2) positions of people.
        distance_mm: minimum and maximum distance from the mean of ``taken_mm``.
        gap_mm: minimum distance from each of ``taken_mm``.
        limit_mm: half extents of the usable floor.

    Returns:
        x and y, mm; None if no sampled position was free.
    """
    middle = taken_mm.mean(0)
    for _ in range(30):
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(*distance_mm)
        place = middle + distance * np.array([np.cos(angle), np.sin(angle)])
        clear = np.linalg.norm(taken_mm - place, axis=1).min() >= gap_mm
        if clear and abs(place[0]) < limit_mm[0] and abs(place[1]) < limit_mm[1]:
            return float(place[0]), float(place[1])
    return None


def sample_light(rng: Generator) -> Light:
    """Sample a light from above: direction, strength, tint and sensor noise."""
    angle, elevation = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(48, 72))
    direction = np.array(
        [np.cos(angle) * np.cos(elevation), np.sin(angle) * np.cos(elevation), np.sin(elevation)]
    )  # fmt: skip
    key = rng.uniform(0.5, 0.8)
    tint = rng.uniform(0.85, 1.1) * (1 + rng.uniform(-0.09, 0.09, 3))
    return Light(direction, key, rng.uniform(0.42, 0.6), tint, rng.uniform(2, 5))


def make_room(rng: Generator, half_x_mm: float = 3600, half_y_mm: float = 6300, height_mm: float = 3100) -> Room:
    """Sample a studio: floor with a mat, walls with posters, windows, doors, shelves and boards."""
    faces = [_floor(rng), _ceiling(rng)]
    faces += [_wall(rng, 2 * half_y_mm, height_mm) for _ in range(2)]
    faces += [_wall(rng, 2 * half_x_mm, height_mm) for _ in range(2)]
    return Room(half_x_mm, half_y_mm, height_mm, np.stack(faces).astype(np.float32))


def _cloud(rng: Generator, shape: tuple[int, int], texels: float) -> Array:
    """Smooth noise in [-1, 1] with structures of about ``texels`` texels."""
    coarse = rng.uniform(-1, 1, (max(2, int(shape[0] / texels)), max(2, int(shape[1] / texels))))
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC))


def _grain(rng: Generator, face: Array) -> Array:
    noise = 1 + 0.08 * _cloud(rng, _TEXELS, 40) + 0.06 * _cloud(rng, _TEXELS, 7) + 0.035 * rng.standard_normal(_TEXELS)
    return np.asarray(np.clip(face * noise[..., None], 0.01, 1))


def _floor(rng: Generator) -> Array:
    height, width = _TEXELS
    y, x = np.mgrid[:height, :width]
    one = np.array([0.42, 0.34, 0.27]) * rng.uniform(0.8, 1.2)
    checks = ((y * 40 // height * 1 + x * 22 // width) % 2)[..., None]  # tiles of about 32 cm
    face = one * (1 - 0.22 * checks)
    mat = np.array([0.22, 0.27, 0.34]) * rng.uniform(0.7, 1.3)
    ring = np.maximum(abs(x / width - 0.5) / 0.3, abs(y / height - 0.5) / 0.17)[..., None]
    face = np.where(ring < 1, mat * (1 - 0.25 * checks * 0.4), face)
    face = np.where((ring < 1) & (ring > 0.94), np.array([0.55, 0.5, 0.38]), face)
    return _grain(rng, face)


def _ceiling(rng: Generator) -> Array:
    height, width = _TEXELS
    y, x = np.mgrid[:height, :width]
    face = np.full((height, width, 3), 0.55)
    lamps = (abs((x / width * 3) % 1 - 0.5) < 0.12) & (abs((y / height * 4) % 1 - 0.5) < 0.3)
    face[lamps] = 1.0
    return _grain(rng, face)


def _wall(rng: Generator, length_mm: float, height_mm: float) -> Array:
    rows, columns = _TEXELS
    face = np.empty((rows, columns, 3))
    paint = np.array([0.5, 0.5, 0.48]) * rng.uniform(0.75, 1.2) * (1 + rng.uniform(-0.12, 0.12, 3))
    face[:] = paint
    per_x, per_y = columns / length_mm, rows / height_mm

    def block(left: float, low: float, width: float, high: float, colour: Array) -> None:
        x0, x1 = int(left * per_x), int((left + width) * per_x)
        y0, y1 = int((height_mm - low - high) * per_y), int((height_mm - low) * per_y)
        face[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = colour

    block(0, 0, length_mm, 900, paint * rng.uniform(0.55, 0.8))
    block(0, 900, length_mm, 40, paint * 0.4)
    block(0, 0, length_mm, 110, np.full(3, 0.12))
    at = rng.uniform(100, 500)
    while at < length_mm - 700:
        kind = rng.choice(["poster", "poster", "poster", "window", "door", "books", "board", "gap"])
        width = rng.uniform(450, 900)
        if kind == "poster":
            low, high = rng.uniform(950, 1450), rng.uniform(600, 1100)
            colour = rng.uniform(0.05, 0.8, 3)
            block(at, low, width, high, np.full(3, 0.7))
            block(at + 30, low + 30, width - 60, high - 60, colour)
            for _ in range(int(rng.integers(2, 6))):
                dx, dy = rng.uniform(0.08, 0.5) * width, rng.uniform(0.08, 0.6) * high
                block(at + dx, low + dy, 0.35 * width, 0.25 * high, rng.uniform(0.03, 0.85, 3))
        elif kind == "window":
            width = rng.uniform(900, 1300)
            block(at, 950, width, 1500, np.full(3, 0.75))
            for i in range(2):
                for j in range(2):
                    block(at + 40 + i * width / 2, 990 + j * 740, width / 2 - 80, 680, np.array([0.5, 0.68, 0.9]))
        elif kind == "door":
            width = 920
            colour = rng.uniform(0.12, 0.4, 3)
            block(at, 0, width, 2080, colour * 0.5)
            block(at + 50, 0, width - 100, 2030, colour)
            block(at + 120, 1000, 60, 60, np.full(3, 0.7))
        elif kind == "books":
            width = rng.uniform(900, 1400)
            block(at, 300, width, 1900, np.array([0.22, 0.13, 0.07]))
            for shelf in range(5):
                x = at + 40.0
                while x < at + width - 70:
                    thick = rng.uniform(30, 90)
                    block(x, 340 + 370 * shelf, thick, rng.uniform(220, 310), rng.uniform(0.03, 0.7, 3))
                    x += thick + 5
        elif kind == "board":
            width = rng.uniform(1100, 1700)
            block(at, 1000, width, 1000, np.full(3, 0.35))
            block(at + 30, 1030, width - 60, 940, np.full(3, 0.82))
            for _ in range(7):
                x = at + rng.uniform(80, 0.6 * width)
                block(x, rng.uniform(1080, 1850), rng.uniform(100, 400), 18, rng.uniform(0, 0.4, 3))
        at += width + rng.uniform(120, 600)
    return _grain(rng, face)


def assemble(people: Sequence[Person], furniture: Furniture) -> list[Solids]:
    """Combine people and furniture to the solids at each of T instants. ``owner`` is the index in ``people``."""
    cones, frames, paint, owner, materials = [], [], [], [], []
    for number, person in enumerate(people):
        clothed = flesh(person.body, person.outfit, person.figure)
        cones.append(clothed.cones)
        frames.append(clothed.frames)
        paint.append(clothed.paint + np.array([1.0, 1.0, 0.0]) * number * MATERIALS_PER_PERSON)
        owner.append(np.full(clothed.cones.shape[1], number))
        materials.append(person.outfit.materials)
    boxes = np.array(furniture.boxes, dtype=np.float64).reshape(-1, 8)
    rows = np.concatenate([*materials, np.array(furniture.materials).reshape(-1, MATERIAL_COLUMNS)])
    box_material: NDArray[np.int64] = np.array(furniture.material, dtype=np.int64) + len(people) * MATERIALS_PER_PERSON
    all_cones = np.ascontiguousarray(np.concatenate(cones, 1))
    all_frames = np.ascontiguousarray(np.concatenate(frames, 1))
    all_paint, all_owner = np.concatenate(paint), np.concatenate(owner).astype(np.int64)
    return [
        Solids(all_cones[i], all_frames[i], all_paint, all_owner, boxes, box_material, rows)
        for i in range(len(all_cones))
    ]


def visible_joints(
    solids: Solids, person: Person, number: int, instant: int, camera: Camera, names: Sequence[str] = JOINTS
) -> NDArray[np.bool_]:
    """Compute which joints (J,) of a person are visible in a camera: the first surface belongs to this person.

    Joints are inside the body, so a ray towards a visible joint always ends on a surface in front of it.
    """
    joints = np.stack([person.figure.points_mm[name][instant] for name in names])
    reach_mm = np.array([_FLESH_MM[name.removeprefix("left_").removeprefix("right_")] for name in names])
    fraction, index = first_hits(solids, camera.centre_mm, joints)
    way = np.linalg.norm(joints - camera.centre_mm, axis=1)
    own = (
        (index < len(solids.owner)) & (solids.owner[np.clip(index, 0, len(solids.owner) - 1)] == number) & (index >= 0)
    )
    near = (1 - fraction) * way <= reach_mm * person.body.height / 1720
    pixels = camera.project(joints)
    inside = ((pixels >= -0.5) & (pixels < np.array(camera.size) - 0.5)).all(1)
    return np.asarray(inside & ((fraction >= 1) | (own & near)))
