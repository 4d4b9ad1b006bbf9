"""Several people in the dome, and a simulated detector of 2D joints.

People stand around the middle of the dome, move a little and occlude each other. The detector processes each view
separately:

* it misses mostly occluded people and reports the other people in any order;
* visible joints have noise proportional to the person's size in the image; joints that are occluded or outside the
  image have more noise and a low score, and are moved into the image;
* it sometimes swaps left and right, as detectors do for people seen from behind;
* it reports false people with lower scores.

Its errors have not been compared with those of a real detector.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field, model_validator

from poseboard.datasets import panoptic, panoptic_people
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.skeleton import COCO
from poseboard.datasets.synthetic.body import sample_body, sample_outfit
from poseboard.datasets.synthetic.dome import HD_RATE_HZ, DomeOptions, day, dome_rig, dome_room
from poseboard.datasets.synthetic.generation import Extent, GenerationOptions, JpegQuality, Seed, random_part
from poseboard.datasets.synthetic.motion import ACTIONS, SEATS, move
from poseboard.datasets.synthetic.renderer import Backdrop, Picture, backdrop, render
from poseboard.datasets.synthetic.scene import Furniture, Person, assemble, sample_light, visible_joints
from poseboard.datasets.synthetic.world import Take, seat

FIRST_FRAME = 120
"""Number of the first frame of a sequence."""
STAND_MM, GAP_MM, REACH_MM = 1150.0, 650.0, 220.0
"""Maximum distance of people from the middle, minimum distance between people, and extent of motion."""
FALSE_PEOPLE = 0.2
"""Mean number of false people per view."""
SWAPPED = 0.04
"""Share of the detected people with left and right swapped."""
SEEN_NOISE, HIDDEN_NOISE = 0.008, 0.03
"""Standard deviation of a joint along each axis, as a share of the person's size in the image."""
LEAST_SEEN = 0.15
"""Minimum share of visible joints of a detected person."""

_Count = Annotated[int, Field(ge=1, le=8)]


class DomePeopleOptions(GenerationOptions):
    """Options of a dome world with several people. Equal options give equal bytes on one machine.

    Args:
        width_px: width of the 16:9 images; the published ones are 1920 px wide.
        frames: frames per sequence.
        frame_step: stride over frames at 29.97 Hz.
        people: minimum and maximum number of people per sequence.
    """

    cameras: ClassVar[tuple[str, ...]] = panoptic_people.CAMERAS
    subjects: ClassVar[tuple[str, ...]] = panoptic_people.SEQUENCES

    seed: Seed = 0
    width_px: Annotated[int, Field(ge=96, le=1920, multiple_of=16)] = 640
    frames: Annotated[int, Field(ge=1, le=500)] = 6
    frame_step: Annotated[int, Field(ge=1, le=600)] = 60
    people: tuple[_Count, _Count] = (3, 5)
    jpeg_quality: JpegQuality = 88

    @model_validator(mode="after")
    def _consistent(self) -> DomePeopleOptions:
        if self.people[0] > self.people[1]:
            raise ValueError("people: the first value must not exceed the second")
        return self

    @property
    def numbers(self) -> list[int]:
        """Numbers of the frames of each sequence."""
        return list(range(FIRST_FRAME, FIRST_FRAME + self.frames * self.frame_step, self.frame_step))

    def dome(self, subject: str) -> tuple[Camera, ...]:
        """All 31 cameras of the dome for a sequence; see `dome_rig`."""
        return dome_rig(DomeOptions(seed=self.seed, width_px=self.width_px), day(subject))

    def samples(self, split: str) -> int:
        """Number of samples of a split. A sample is one frame in the five cameras."""
        return len(self.subjects) * self.frames if split == "test" else 0

    @property
    def extent(self) -> Extent:
        """Size of the world: images, files and folders."""
        views = len(self.cameras)
        shots = len(self.subjects) * self.frames * views
        return Extent(shots, self.width_px * self.width_px * 9 // 16, 1, len(self.subjects) * (views + 3), views)


class Shot(NamedTuple):
    """Image of one camera at one frame.

    Args:
        instant: index of the frame in the sequence.
        view: index of the camera among those that are rendered.
        picture: the rendered view.
    """

    instant: int
    view: int
    picture: Picture


def places(rng: Generator, count: int) -> Array:
    """Sample places (P, 2) of up to ``count`` people on the floor, mm."""
    chosen: list[Array] = []
    for _ in range(200 * count):
        if len(chosen) == count:
            break
        azimuth, distance = rng.uniform(0, 2 * np.pi), STAND_MM * np.sqrt(rng.random())
        place = distance * np.array([np.cos(azimuth), np.sin(azimuth)])
        if all(np.linalg.norm(place - other) >= GAP_MM for other in chosen):
            chosen.append(place)
    return np.array(chosen).reshape(-1, 2)


def direct(options: DomePeopleOptions, subject: str) -> Take:
    """Sample the people, furniture and light of one sequence."""
    rng = random_part(options.seed, "people", subject)
    time_s = np.arange(options.frames) * options.frame_step / HD_RATE_HZ
    people, furniture = [], Furniture()
    for x, y in places(rng, int(rng.integers(options.people[0], options.people[1] + 1))).tolist():
        body, outfit, action = sample_body(rng), sample_outfit(rng), str(rng.choice(ACTIONS))
        motion = move(action, body, time_s, (x, y), REACH_MM, rng)
        if SEATS.get(action) == "chair":
            seat(furniture, rng, body, motion)
        people.append(Person(body, outfit, motion.figure))
    return Take(people, furniture, sample_light(rng))


def visible(options: DomePeopleOptions, subject: str, scene: Take, names: tuple[str, ...]) -> NDArray[np.bool_]:
    """Compute which named points of each person are visible in each camera of the dome: (T, 31, P, J)."""
    return np.array(
        [
            [
                [visible_joints(solids, person, p, i, camera, names) for p, person in enumerate(scene.people)]
                for camera in options.dome(subject)
            ]
            for i, solids in enumerate(assemble(scene.people, scene.furniture))
        ]
    )


@lru_cache(maxsize=2)
def _views(seed: int, width_px: int, of_day: str, cameras: tuple[str, ...]) -> list[Backdrop]:
    room, dome = dome_room(seed), dome_rig(DomeOptions(seed=seed, width_px=width_px), of_day)
    return [backdrop(room, dome[panoptic.HD_CAMERAS.index(name)]) for name in cameras]


def shots(options: DomePeopleOptions, subject: str, scene: Take) -> Iterator[Shot]:
    """Render every frame of a sequence for every used camera, camera by camera."""
    instants = assemble(scene.people, scene.furniture)
    for v, view in enumerate(_views(options.seed, options.width_px, day(subject), options.cameras)):
        for i, solids in enumerate(instants):
            noise = zlib.crc32(f"{options.seed}/{subject}/{i}/{v}".encode())
            yield Shot(i, v, render(solids, view, scene.light, noise << 20))


def detect(camera: Camera, joints_mm: Array, seen: NDArray[np.bool_], rng: Generator) -> Array:
    """Simulate a detector on one image. Returns (people, 17, 3) x px, y px, score; people in any order.

    Args:
        camera: camera of the image.
        joints_mm: (P, 17, 3) joints of `COCO`, in the world frame.
        seen: (P, 17) visibility of the joints.
        rng: random generator.
    """
    points_px = camera.project(joints_mm)
    size_px = np.ptp(points_px, axis=1).max(axis=1)
    share = seen.mean(axis=1)
    reported = (share >= LEAST_SEEN) & (rng.random(len(share)) < 0.35 + 0.9 * share)
    noise_px = np.where(seen, SEEN_NOISE, HIDDEN_NOISE) * size_px[:, None]
    points_px = points_px + rng.normal(0, 1, points_px.shape) * noise_px[..., None]
    scores = np.where(seen, rng.normal(0.88, 0.06, seen.shape), rng.normal(0.35, 0.12, seen.shape))
    swapped = rng.random(len(share)) < SWAPPED
    points_px[swapped] = points_px[swapped][:, COCO.flip_order]
    people = [np.concatenate([points_px, scores[..., None]], axis=-1)[reported]]
    for _ in range(rng.poisson(FALSE_PEOPLE) if len(points_px) else 0):
        people.append(_false_person(camera, points_px[rng.integers(len(points_px))], rng)[None])
    together = np.concatenate(people)
    together[..., :2] = np.clip(together[..., :2], 0, np.array(camera.size) - 1)
    together[..., 2] = np.clip(together[..., 2], 0.02, 1)
    return together[rng.permutation(len(together))]


def _false_person(camera: Camera, like_px: Array, rng: Generator) -> Array:
    """Simulate a false detection (17, 3): a true person, mirrored, shrunk and moved."""
    middle = (like_px.min(axis=0) + like_px.max(axis=0)) / 2
    shape = (like_px - middle) * rng.uniform(0.35, 0.8) * np.array([-1.0, 1.0])
    place = rng.uniform(0.1, 0.9, 2) * np.array(camera.size)
    noisy = shape * rng.normal(1, 0.15, shape.shape) + place
    return np.concatenate([noisy, rng.uniform(0.05, 0.55, (len(shape), 1))], axis=1)
