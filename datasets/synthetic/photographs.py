"""Scenes of several people in front of one camera, and the base class of the layouts of photographs.

A scene is a room with one still camera. Focal length, height and distance differ from scene to scene, and people stand,
walk and sit in front of each other, so that the size of a person in the image does not determine the distance.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field, model_validator

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.skeleton import COCO
from poseboard.datasets.synthetic.body import sample_body, sample_outfit
from poseboard.datasets.synthetic.generation import (
    Clip,
    Extent,
    GenerationOptions,
    ImageWriter,
    Job,
    JpegQuality,
    Layout,
    Seed,
    random_part,
)
from poseboard.datasets.synthetic.motion import ACTIONS, GAITS, SEATS, move
from poseboard.datasets.synthetic.renderer import Light, Room, backdrop, render
from poseboard.datasets.synthetic.scene import (
    FREESTANDING,
    Furniture,
    Person,
    assemble,
    free_place,
    make_room,
    sample_light,
    visible_joints,
)
from poseboard.datasets.synthetic.world import FRAME_RATE_HZ, seat

DEPTHS_MM = (2000.0, 8000.0)
"""Range of distances of people from the camera."""
_ROOMS = 6
_FRAME_STEP = 32
_GAP_MM, _WALK_MM = 750.0, 420.0
LEAST_SEEN = 0.25
"""Minimum share of visible joints of a recognisable person."""
_ALMOST_BEHIND = 0.5
"""Share of the people, after the first, who stand almost behind another person."""
_BETWEEN = {
    "neck": ("thorax", "thorax", 0.0),
    "torso": ("pelvis", "spine", 0.5),
    "chest": ("spine", "thorax", 0.5),
    "head": ("left_ear", "right_ear", 0.5),
    **{f"{side}_thorax": ("thorax", f"{side}_shoulder", 0.4) for side in ("left", "right")},
    **{f"{side}_hand": (f"{side}_knuckles", f"{side}_knuckles", 0.0) for side in ("left", "right")},
}
"""Joints of other skeletons: two points of a figure, and the share of the way between them."""

Scenes = Annotated[int, Field(ge=0, le=100_000)]
Frames = Annotated[int, Field(ge=1, le=1000)]
_Side = Annotated[int, Field(ge=48, le=4000)]
Size = tuple[_Side, _Side]
_Count = Annotated[int, Field(ge=1, le=6)]
Counts = tuple[_Count, _Count]
_Share = Annotated[float, Field(ge=0.4, le=4)]


class WorldOptions(GenerationOptions):
    """Options of a world of photographs.

    Args:
        size_px: width and height of the images.
        frames: images per scene.
        people: minimum and maximum number of people per scene.
        focal: minimum and maximum focal length as a share of the image's height.
        occlusion: amount of furniture, 0 to 1. People occlude each other in any case.
    """

    splits: ClassVar[tuple[str, ...]] = ()

    seed: Seed = 0
    size_px: Size = (288, 216)
    train_scenes: Scenes = 0
    validation_scenes: Scenes = 0
    test_scenes: Scenes = 0
    frames: Frames = 8
    people: Counts = (1, 4)
    focal: tuple[_Share, _Share] = (0.9, 1.9)
    occlusion: Annotated[float, Field(ge=0, le=1)] = 0.5
    jpeg_quality: JpegQuality = 92

    @model_validator(mode="after")
    def _consistent(self) -> WorldOptions:
        if self.people[0] > self.people[1] or self.focal[0] > self.focal[1]:
            raise ValueError("people and focal: the first value must not exceed the second")
        unused = [s for s in ("train", "validation", "test") if s not in self.splits and self.scenes(s)]
        if unused:
            raise ValueError(f"{unused[0]}_scenes: the layout's splits are {', '.join(self.splits)}")
        if not any(self.scenes(split) for split in self.splits):
            raise ValueError("there is no scene")
        return self

    def scenes(self, split: str) -> int:
        """Number of scenes of a split."""
        return {"train": self.train_scenes, "validation": self.validation_scenes, "test": self.test_scenes}[split]

    def samples(self, split: str) -> int:
        """Number of images of a split. Adapters leave out images without usable people."""
        return self.scenes(split) * self.frames

    @property
    def extent(self) -> Extent:
        """Size of the world."""
        scenes = sum(self.scenes(split) for split in self.splits)
        return Extent(scenes * self.frames, self.size_px[0] * self.size_px[1], 1, scenes, 1)


@dataclass(frozen=True, eq=False)
class Scene:
    """Content of one scene before rendering: people, furniture, light and camera."""

    people: list[Person]
    furniture: Furniture
    light: Light
    room: Room
    camera: Camera


@dataclass(frozen=True, eq=False)
class Photograph:
    """Ground truth of one rendered image with P people.

    Args:
        split: split of the image.
        scene: number of the scene in its split.
        frame: number of the image in its scene.
        number: number of the image in the world.
        camera: camera at the origin of its own frame.
        points_mm: named points (P, 3) in the camera's frame.
        seen: (P, 17) visibility of the joints of `COCO`.
        surface_px: (P, 4) left, upper, right, lower of a person's visible parts; NaN if completely hidden.
    """

    split: str
    scene: int
    frame: int
    number: int
    camera: Camera
    points_mm: Mapping[str, Array]
    seen: NDArray[np.bool_]
    surface_px: Array

    def joints_mm(self, names: Sequence[str]) -> Array:
        """Joints (P, J, 3) in the camera's frame, by the names of our skeletons."""
        ends = [_BETWEEN.get(name, (name, name, 0.0)) for name in names]
        points = [self.points_mm[a] + share * (self.points_mm[b] - self.points_mm[a]) for a, b, share in ends]
        return np.stack(points, axis=1)

    def joints_px(self, names: Sequence[str]) -> Array:
        """Projections (P, J, 2) of joints by name."""
        return self.camera.project(self.joints_mm(names))

    def entry(self, file_name: str, **fields: object) -> dict[str, Any]:
        """Entry of ``images`` in a COCO-style file, with additional ``fields``."""
        width, height = self.camera.size
        return {"id": self.number, "file_name": file_name, **fields, "width": width, "height": height}

    @property
    def focal_px(self) -> list[float]:
        """Focal lengths along x and y."""
        return [float(self.camera.K[0, 0]), float(self.camera.K[1, 1])]

    @property
    def principal_point_px(self) -> list[float]:
        """Principal point x, y."""
        return [float(self.camera.K[0, 2]), float(self.camera.K[1, 2])]

    @property
    def recognisable(self) -> NDArray[np.bool_]:
        """Mask (P,) of the people with enough visible joints to be annotated."""
        return np.asarray(self.seen.mean(axis=1) >= LEAST_SEEN)

    def inside(self, joints_px: Array) -> NDArray[np.bool_]:
        """Mask (...) of the points (..., 2) in the image."""
        return np.asarray(((joints_px >= 0) & (joints_px < np.array(self.camera.size))).all(axis=-1))


@dataclass(frozen=True, eq=False, kw_only=True)
class PhotographedClip(Clip):
    """The images of one scene."""

    photographs: list[Photograph]


def scene_camera(options: WorldOptions, rng: Generator, room: Room) -> tuple[Camera, float]:
    """Sample a camera near one end of a room. Returns the camera and the mean distance of the people, mm."""
    width, height = options.size_px
    focal = height * np.exp(rng.uniform(*np.log(options.focal)))
    # A person of 1700 mm fills 36 to 62 % of the image's height at the mean distance, whatever the focal length.
    middle = float(np.clip(focal * 1700 / (height * rng.uniform(0.36, 0.62)), 2800, 6200))
    place = np.array([rng.uniform(-900, 900), -room.half_y_mm + rng.uniform(300, 700), rng.uniform(1000, 2100)])
    target = np.array([rng.uniform(-500, 500), place[1] + middle, rng.uniform(820, 1000)])
    forward = (target - place) / np.linalg.norm(target - place)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    cx, cy = width / 2 + rng.uniform(-4, 4), height / 2 + rng.uniform(-4, 4)
    K = np.round(np.array([[focal, 0, cx], [0, focal * rng.uniform(0.995, 1.005), cy], [0, 0, 1]]), 3)
    return Camera(K, R, -R @ place, np.zeros(5), (width, height)), middle


def stand(options: WorldOptions, rng: Generator, room: Room, camera: Camera, middle_mm: float, count: int) -> Array:
    """Sample places (P, 2), mm, of up to ``count`` people on the floor, some almost behind another person."""
    width, height = options.size_px
    focal, centre = float(camera.K[1, 1]), camera.centre_mm[:2]
    ahead, beside = camera.R[2, :2] / np.linalg.norm(camera.R[2, :2]), camera.R[0, :2]
    nearest = max(DEPTHS_MM[0] + 150, focal * 1800 / (0.92 * height))
    farthest = min(DEPTHS_MM[1] - 300, 2 * room.half_y_mm - 1500)
    places: list[Array] = []
    columns: list[tuple[float, float]] = []
    for _ in range(60 * count):
        if len(places) == count:
            break
        depth = float(np.clip(middle_mm + rng.normal(0, 1100), nearest, farthest))
        column = rng.uniform(0.14, 0.86) * width
        # Almost behind another person: the same column of the image but for about 260 mm at the farther of both.
        if columns and rng.random() < _ALMOST_BEHIND:
            other, far = columns[rng.integers(len(columns))]
            column = other + rng.normal(0, 260) * focal / max(depth, far)
        place = centre + depth * ahead + (column - camera.K[0, 2]) / float(camera.K[0, 0]) * depth * beside
        clear = all(np.linalg.norm(place - other) >= _GAP_MM for other in places)
        in_room = abs(place[0]) < room.half_x_mm - 500 and abs(place[1]) < room.half_y_mm - 500
        if clear and in_room and 0.08 * width < column < 0.92 * width:
            places.append(place)
            columns.append((column, depth))
    return np.array(places).reshape(-1, 2)


@lru_cache(maxsize=_ROOMS)
def _room(seed: int, number: int) -> Room:
    rng = random_part(seed, "room", str(number))
    return make_room(rng, rng.uniform(3200, 4300), rng.uniform(5600, 6900), rng.uniform(2800, 3500))


def direct(options: WorldOptions, split: str, number: int) -> Scene:
    """Sample people, furniture, light and camera of one scene."""
    rng = random_part(options.seed, "scene", split, str(number))
    room = _room(options.seed, int(rng.integers(_ROOMS)))
    camera, middle = scene_camera(options, rng, room)
    places = stand(options, rng, room, camera, middle, int(rng.integers(options.people[0], options.people[1] + 1)))
    time_s = np.arange(options.frames) * _FRAME_STEP / FRAME_RATE_HZ
    people, furniture = [], Furniture()
    for x, y in places.tolist():
        body, outfit, action = sample_body(rng), sample_outfit(rng), str(rng.choice(ACTIONS))
        reach = 0.75 * _WALK_MM if action in GAITS else _WALK_MM
        motion = move(action, body, time_s, (x, y), reach, rng)
        if SEATS.get(action) == "chair":
            seat(furniture, rng, body, motion)
        people.append(Person(body, outfit, motion.figure))
    taken = np.concatenate([person.figure.joints_mm[..., :2].reshape(-1, 2) for person in people])
    for _ in range(rng.poisson(3.0 * options.occlusion)):
        put = FREESTANDING[rng.integers(len(FREESTANDING))]
        place = free_place(rng, taken, (600, 2400), 450, (room.half_x_mm - 600, room.half_y_mm - 600))
        yaw = rng.uniform(0, 2 * np.pi)
        if place is not None and np.linalg.norm(place - camera.centre_mm[:2]) > 1900:
            put(furniture, rng, place, yaw)
    return Scene(people, furniture, sample_light(rng), room, camera)


def _photograph(
    options: WorldOptions, job: tuple[str, int], number: int, scene: Scene
) -> list[tuple[Photograph, NDArray[np.uint8]]]:
    """Render a scene. Returns ground truth and image of each frame; ``number`` is the number of the first image."""
    split, place = job
    view = backdrop(scene.room, scene.camera)
    own = Camera(scene.camera.K, np.eye(3), np.zeros(3), np.zeros(5), scene.camera.size)
    shots = []
    for i, solids in enumerate(assemble(scene.people, scene.furniture)):
        noise = zlib.crc32(f"{options.seed}/{split}/{place}/{i}".encode())
        picture = render(solids, view, scene.light, noise << 20)
        owner = np.full(picture.ids.shape, -1)
        on_people = (picture.ids >= 0) & (picture.ids < len(solids.owner))
        owner[on_people] = solids.owner[picture.ids[on_people]]
        people = range(len(scene.people))
        names = scene.people[0].figure.points_mm
        points = {name: np.stack([p.figure.points_mm[name][i] for p in scene.people]) for name in names}
        seen = [visible_joints(solids, scene.people[p], p, i, scene.camera, COCO.joints) for p in people]
        photograph = Photograph(
            split,
            place,
            i,
            number + i,
            own,
            {name: scene.camera.to_camera(of_people) for name, of_people in points.items()},
            np.array(seen),
            np.array([bounds(owner == p) for p in people]),
        )
        shots.append((photograph, picture.image))
    return shots


def bounds(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Bounding box of a mask: left, upper, right, lower, the last two exclusive; NaN if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return (np.nan,) * 4
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def xywh(corners_px: Array) -> list[list[float]]:
    """Convert boxes (N, 4) from left, upper, right, lower to x, y, width, height, rounded for a file."""
    boxes = np.concatenate([corners_px[:, :2], corners_px[:, 2:] - corners_px[:, :2]], axis=1)
    values: list[list[float]] = np.round(boxes, 2).tolist()
    return values


def joint_boxes(joints_px: Array, scale: float) -> Array:
    """Boxes (N, 4) left, upper, right, lower about joints (N, J, 2), scaled about their centre; ignores NaN."""
    lower, upper = np.nanmin(joints_px, axis=1), np.nanmax(joints_px, axis=1)
    half = scale * (upper - lower) / 2
    return np.concatenate([(lower + upper) / 2 - half, (lower + upper) / 2 + half], axis=1)


class PhotographLayout(Layout[WorldOptions, PhotographedClip]):
    """Base class of the layouts of photographs."""

    @abstractmethod
    def image(self, split: str, scene: int, frame: int, number: int) -> str:
        """Path of an image below the root."""

    @abstractmethod
    def annotations(self, options: WorldOptions, photographs: Sequence[Photograph]) -> dict[str, Any]:
        """Compute the label files: path below the root -> value to write as JSON."""

    def jobs(self, options: WorldOptions) -> list[Job]:
        """List split and number of all scenes."""
        return [(split, f"{scene:04d}") for split in options.splits for scene in range(options.scenes(split))]

    def write_sequence(self, root: Path, options: WorldOptions, job: Job) -> PhotographedClip:
        """Render one scene and write its images."""
        split, scene = job[0], int(job[1])
        number = self.jobs(options).index(job) * options.frames
        images, photographs = ImageWriter(root, options.jpeg_quality), []
        for photograph, image in _photograph(options, (split, scene), number, direct(options, split, scene)):
            images.write(self.image(split, scene, photograph.frame, photograph.number), image)
            photographs.append(photograph)
        visibility = np.array([photograph.seen.mean() for photograph in photographs])
        return PhotographedClip(visibility, *images.record(), photographs=photographs)

    def labels(self, options: WorldOptions, clips: Sequence[PhotographedClip]) -> dict[str, Any]:
        """Label files of all photographs."""
        return self.annotations(options, [photograph for clip in clips for photograph in clip.photographs])
