"""A synthetic studio: one actor among furniture and bystanders, in front of a rig of cameras.

A layout (``layouts/``) writes it in the format of a published data set; nothing here depends on a format. There are
three kinds of rigs: four cameras for all subjects (`WorldOptions`), a random rig per subject (`synthetic.rigs`), and a
dome (`synthetic.dome`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field, model_validator

from poseboard.datasets import human36m
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.synthetic.body import JOINTS, Body, Outfit, sample_body, sample_outfit
from poseboard.datasets.synthetic.generation import Extent, GenerationOptions, JpegQuality, Seed, random_part
from poseboard.datasets.synthetic.motion import ACTIONS, SEATS, Motion, move
from poseboard.datasets.synthetic.renderer import Backdrop, Light, Picture, Room, backdrop, render
from poseboard.datasets.synthetic.scene import (
    FREESTANDING,
    Furniture,
    Person,
    assemble,
    free_place,
    make_room,
    put_screen,
    put_seat,
    sample_light,
    visible_joints,
)

CAMERAS = human36m.CAMERAS
"""Camera names of a rig modelled on Human3.6M's; a layout may rename them."""
SEQUENCES = tuple(f"{action}-{trial}" for action in ACTIONS for trial in (1, 2))
"""All sequences of a subject: each action twice."""
FRAME_RATE_HZ = 50.0
_ROOM_FOR_OBJECTS_MM = (2500.0, 3300.0)

Subject = Annotated[str, Field(pattern=r"^S[1-9][0-9]{0,2}$")]


class StudioOptions(Protocol):
    """Options that the studio needs: subjects, cameras and actions. Hashable, because they are keys of caches."""

    def __hash__(self) -> int:
        """Hash of the values, because options are keys of caches."""
        ...

    @property
    def seed(self) -> int:
        """Seed of people, motion, room and light."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras of every rig."""
        ...

    @property
    def frame_rate_hz(self) -> float:
        """Frame rate of the cameras."""
        ...

    @property
    def frame_step(self) -> int:
        """Stride over frames at this rate."""
        ...

    @property
    def occlusion(self) -> float:
        """Amount of furniture and bystanders, 0 to 1."""
        ...

    @property
    def jpeg_quality(self) -> int:
        """JPEG quality of the images."""
        ...

    def frames(self, subject: str) -> int:
        """Number of frames per sequence of a subject."""
        ...

    def actor(self, subject: str) -> str:
        """Name of the actor of a subject. Subjects with one actor have equal bodies, clothes, motion and light."""
        ...

    def rig(self, subject: str) -> tuple[Camera, ...]:
        """Cameras of a subject in the order of `cameras`. Repeated calls return the same object."""
        ...

    def room(self) -> Room:
        """Room with textured walls in which people are rendered."""
        ...


class RosterOptions(StudioOptions, Protocol):
    """Options of a world in which every subject has the same sequences."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects, in the order of the labels."""
        ...

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names of the sequences of a subject."""
        ...


class WorldOptions(GenerationOptions):
    """Options of a world. Equal options give equal bytes on one machine, for any number of processes."""

    lens: ClassVar[bool] = True
    """Whether the cameras have lens distortion."""
    cameras: ClassVar[tuple[str, ...]] = CAMERAS
    frame_rate_hz: ClassVar[float] = FRAME_RATE_HZ

    seed: Seed = 0
    side_px: Annotated[int, Field(ge=48, le=1000)] = 288
    train_subjects: tuple[Subject, ...] = ("S1", "S5", "S6", "S7", "S8", "S2", "S3", "S4")
    test_subjects: tuple[Subject, ...] = ("S9", "S11")
    train_frames: Annotated[int, Field(ge=0, le=500)] = 8
    test_frames: Annotated[int, Field(ge=0, le=500)] = 5
    frame_step: Annotated[int, Field(ge=1, le=65)] = 32
    """Stride over frames at 50 Hz."""
    actions: tuple[str, ...] = ACTIONS
    """Names without trial ("Walking"); both trials are generated."""
    occlusion: Annotated[float, Field(ge=0, le=1)] = 0.5
    jpeg_quality: JpegQuality = 92

    @model_validator(mode="after")
    def _consistent(self) -> WorldOptions:
        subjects = (*self.train_subjects, *self.test_subjects)
        if not subjects or len(set(subjects)) != len(subjects):
            raise ValueError("train_subjects and test_subjects must name every subject once, and at least one")
        unknown = [action for action in self.actions if action not in ACTIONS]
        if unknown or len(set(self.actions)) != len(self.actions):
            raise ValueError(f"actions: unknown or repeated {unknown or self.actions}; known are {', '.join(ACTIONS)}")
        return self

    @property
    def subjects(self) -> tuple[str, ...]:
        """All subjects, in the order of rendering."""
        return (*self.train_subjects, *self.test_subjects)

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names of the sequences of a subject."""
        return tuple(name for name in SEQUENCES if name.rsplit("-", 1)[0] in self.actions)

    def frames(self, subject: str) -> int:
        """Number of frames per sequence of a subject."""
        return self.test_frames if subject in self.test_subjects else self.train_frames

    def actor(self, subject: str) -> str:
        """Name of the actor: the subject."""
        return subject

    def rig(self, subject: str) -> tuple[Camera, ...]:
        """The cameras of a subject; see `rig`."""
        return rig(self, subject)

    def room(self) -> Room:
        """Room with textured walls in which people are rendered."""
        return make_room(random_part(self.seed, "room"))

    def samples(self, split: str) -> int:
        """Number of samples of "train" or "test". A sample is one frame in all cameras."""
        subjects = self.test_subjects if split == "test" else self.train_subjects
        return len(subjects) * self.frames(subjects[0]) * 2 * len(self.actions) if subjects else 0

    @property
    def extent(self) -> Extent:
        """Size of the world. Each sample has one frame per camera; with lens distortion, also an undistorted copy."""
        shots = (self.samples("train") + self.samples("test")) * len(CAMERAS)
        trees = 2 if self.lens else 1
        folders = (trees * len(CAMERAS) + 3) * 2 * len(self.actions) * len(self.subjects)
        return Extent(shots, self.side_px**2, trees, folders, len(CAMERAS))


@dataclass(frozen=True, eq=False)
class Take:
    """Content of one sequence before rendering. If there is an actor, the actor is the first person."""

    people: list[Person]
    furniture: Furniture
    light: Light


class Shot(NamedTuple):
    """The image of one camera at one instant.

    Args:
        instant: index of the frame in the sequence.
        view: index of the camera in the rig.
        picture: the rendered view.
        seen: (J,) visibility of the actor's joints.
    """

    instant: int
    view: int
    picture: Picture
    seen: NDArray[np.bool_]


def facing(place_mm: Array, target_mm: Array) -> Array:
    """Rotation (3, 3), world to camera, of a camera without roll at ``place_mm`` that looks at ``target_mm``."""
    forward = (target_mm - place_mm) / np.linalg.norm(target_mm - place_mm)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


@lru_cache(maxsize=128)
def rig(options: WorldOptions, subject: str) -> tuple[Camera, ...]:
    """Four cameras of a subject. All subjects share intrinsics and a rig, displaced by up to 4 cm per subject.

    Values are rounded to float32, as in published labels.
    """
    rng = random_part(options.seed, "rig")
    cameras = []
    scale = options.side_px / 1000
    # One camera near each corner of the room, as in Human3.6M.
    for name, (x, y) in zip(CAMERAS, ((1, -1), (-1, -1), (1, 1), (-1, 1)), strict=True):
        place = np.array([x * rng.uniform(1600, 2300), y * rng.uniform(4100, 5100), rng.uniform(1350, 1750)])
        target = np.array([*rng.uniform(-120, 120, 2), rng.uniform(840, 960)])
        focal, skewed = rng.uniform(1140, 1150), rng.uniform(-0.6, 0.6)
        K = np.array(
            [[focal, 0, 500 + rng.uniform(-14, 14)], [0, focal + skewed, 500 + rng.uniform(-14, 14)], [0, 0, 1]]
        )
        K[:2] *= scale
        dist = (
            rng.uniform(-0.21, -0.19), rng.uniform(0.22, 0.27), rng.uniform(-0.002, 0.002), rng.uniform(-0.002, 0.002),
            rng.uniform(-0.01, 0.0),
        )  # fmt: skip
        # A generator of its own, so that the rig of a subject does not depend on the other subjects.
        shift = random_part(options.seed, "rig", subject, name)
        place = place + shift.uniform(-40, 40, 3)
        target = target + shift.uniform(-40, 40, 3)
        R = facing(place, target)
        cameras.append(
            Camera(
                K=K.astype(np.float32),
                R=R.astype(np.float32),
                t=(-R @ place).astype(np.float32),
                dist=np.array(dist if options.lens else np.zeros(5), dtype=np.float32),
                size=(options.side_px, options.side_px),
                distortion="human36m",
            )
        )
    return tuple(cameras)


def subject_body(options: StudioOptions, subject: str) -> Body:
    """The body of a subject, the same in every sequence."""
    return sample_body(random_part(options.seed, "body", options.actor(subject)))


@dataclass(frozen=True, eq=False)
class Performance:
    """Performance of the actor in a sequence, independent of the cameras.

    Args:
        body: body of the actor.
        outfit: clothes of the actor.
        motion: motion at all instants.
        time_s: (T,) times of the instants.
        rng: generator for the rest of the sequence. Copy it before use: the performance is cached.
    """

    body: Body
    outfit: Outfit
    motion: Motion
    time_s: Array
    rng: Generator


@lru_cache(maxsize=64)
def perform(options: StudioOptions, subject: str, name: str) -> Performance:
    """Sample the actor's performance in one sequence."""
    rng = random_part(options.seed, "take", options.actor(subject), name)
    time_s = np.arange(options.frames(subject)) * options.frame_step / options.frame_rate_hz
    action = name.rsplit("-", 1)[0]
    body = subject_body(options, subject)
    outfit = sample_outfit(rng)
    motion = move(action, body, time_s, (rng.uniform(-200, 200), rng.uniform(-200, 200)), rng.uniform(600, 1000), rng)
    return Performance(body, outfit, motion, time_s, rng)


def direct(options: StudioOptions, subject: str, name: str) -> Take:
    """Sample people, furniture and light of one sequence."""
    acted = perform(options, subject, name)
    body, motion, rng = acted.body, acted.motion, deepcopy(acted.rng)
    action, count = name.rsplit("-", 1)[0], len(acted.time_s)
    people, furniture = [Person(body, acted.outfit, motion.figure)], Furniture()
    if SEATS.get(action) == "chair" and count:
        seat(furniture, rng, body, motion)
    taken = motion.figure.joints_mm[..., :2].reshape(-1, 2) if count else np.zeros((1, 2))
    cameras = options.rig(subject)
    for _ in range(rng.poisson(2.2 * options.occlusion)):
        put = FREESTANDING[rng.integers(len(FREESTANDING))]
        place = free_place(rng, taken, (750, 1700), 500, _ROOM_FOR_OBJECTS_MM)
        if place is not None:
            put(furniture, rng, place, rng.uniform(0, 2 * np.pi))
    # Sometimes a screen between the actor and one camera. It must not touch the actor's path.
    if rng.random() < 0.4 * options.occlusion:
        camera = cameras[rng.integers(len(cameras))].centre_mm[:2]
        middle = taken.mean(0) + rng.uniform(-250, 250, 2)
        share = rng.uniform(0.35, 0.6)
        along = camera - middle
        spot = middle + share * along
        if np.linalg.norm(taken - spot, axis=1).min() > 350:
            yaw = float(np.arctan2(along[1], along[0]) + rng.uniform(-0.3, 0.3))
            put_screen(furniture, rng, (float(spot[0]), float(spot[1])), yaw)
    for _ in range(rng.poisson(1.0 * options.occlusion)):
        place = free_place(rng, taken, (850, 1900), 560, _ROOM_FOR_OBJECTS_MM)
        if place is None:
            continue
        other, wear = sample_body(rng), sample_outfit(rng)
        doing = str(rng.choice(["Discussion", "Waiting", "Posing", "TakingPhoto", "Phoning", "Directions", "Smoking"]))
        people.append(Person(other, wear, move(doing, other, acted.time_s, place, 150, rng).figure))
        taken = np.concatenate([taken, [place]])
    return Take(people, furniture, sample_light(random_part(options.seed, "light", options.actor(subject), name)))


def seat(furniture: Furniture, rng: Generator, body: Body, motion: Motion) -> None:
    """Add a chair under the pelvis of a seated person."""
    scale = body.height / 1720
    place = motion.root_mm.mean(0)
    turned = np.deg2rad(motion.yaw_deg)
    yaw = float(np.arctan2(np.sin(turned).mean(), np.cos(turned).mean()))
    height = float(motion.root_mm[:, 2].min() - 92 * scale * body.leg_girth)
    put_seat(furniture, rng, (float(place[0]), float(place[1])), yaw, max(220.0, height))


@lru_cache(maxsize=2)
def _studio(options: StudioOptions) -> Room:
    return options.room()


@lru_cache(maxsize=2)
def _views(options: StudioOptions, cameras: tuple[Camera, ...]) -> list[Backdrop]:
    return [backdrop(_studio(options), camera) for camera in cameras]


def shots(
    options: StudioOptions, subject: str, name: str, take: Take, joints: Sequence[str] = JOINTS
) -> Iterator[Shot]:
    """Render every instant of a sequence for every camera, camera by camera.

    Args:
        options: options of the studio.
        subject: subject to render.
        name: name of the sequence.
        take: people, furniture and light.
        joints: joints of the actor whose visibility is computed.
    """
    instants = assemble(take.people, take.furniture)
    for v, view in enumerate(_views(options, options.rig(subject))):
        gain = random_part(options.seed, "gain", options.cameras[v]).uniform(0.95, 1.05, 3)
        light = replace(take.light, tint=take.light.tint * gain)
        for i, solids in enumerate(instants):
            noise = zlib.crc32(f"{options.seed}/{subject}/{name}/{i}/{v}".encode())
            picture = render(solids, view, light, noise << 20)
            yield Shot(i, v, picture, visible_joints(solids, take.people[0], 0, i, view.camera, joints))


def jobs(options: RosterOptions) -> list[tuple[str, str]]:
    """Subject and name of all sequences, in the order of rendering."""
    return [(subject, name) for subject in options.subjects if options.frames(subject) for name in options.sequences]
