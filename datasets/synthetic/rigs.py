"""Random rigs for the studio: every subject has four cameras of its own, different from all other worlds.

They reveal networks that have memorised the training rig. Unlike in `world.WorldOptions`, position, height, direction,
roll and focal length differ from rig to rig, and so does the order of the cameras around the person. The whole actor is
in every image.

These people and motions may be harder than those of another world. As a control, the training rig films each of them,
too. The remaining difference has two causes: harder camera placement, and overfitting to the training rig.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, ClassVar

import numpy as np
from numpy.random import Generator
from pydantic import Field, model_validator

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.human36m_rigs import KNOWN, UNSEEN
from poseboard.datasets.synthetic.generation import Extent, GenerationOptions, JpegQuality, Seed, random_part
from poseboard.datasets.synthetic.motion import ACTIONS
from poseboard.datasets.synthetic.renderer import Room
from poseboard.datasets.synthetic.scene import make_room
from poseboard.datasets.synthetic.world import CAMERAS, FRAME_RATE_HZ, WorldOptions, facing, perform, rig

DISTANCE_MM = (3200.0, 4800.0)
"""Distance of a camera from the middle of the room, along the floor."""
HEIGHT_MM = (800.0, 2500.0)
LEAST_ANGLE_DEG = 25.0
"""Smallest angle between two cameras of a rig, from above, at the middle of the room."""
ROLL_DEG = 5.0
FOCAL_PX = (800.0, 1600.0)
"""Focal lengths per 1000 px of the image; also limited so that the whole actor is in the image."""
_FLESH_MM = 130.0
"""Maximum distance of the body's surface from its points."""
_MARGIN = 0.04
"""Empty margin at each border, as a share of the image's side."""
_HALF_ROOM_MM = (5400.0, 6300.0)
_DRAWS = 200


class RigsOptions(GenerationOptions):
    """Options of a world of random rigs. Equal options give equal bytes on one machine, for any number of processes."""

    cameras: ClassVar[tuple[str, ...]] = CAMERAS
    frame_rate_hz: ClassVar[float] = FRAME_RATE_HZ

    seed: Seed = 0
    side_px: Annotated[int, Field(ge=48, le=1000)] = 288
    rigs: Annotated[int, Field(ge=1, le=99)] = 20
    """Number of rigs, each with its own actor."""
    known_rig: Seed | None = None
    """Seed of the world of one rig (`world.WorldOptions`) by whose cameras every actor is filmed as well; None: not."""
    actions: tuple[str, ...] = ("Greeting", "Sitting", "Walking")
    """Names without trial ("Walking"); one trial of each is generated."""
    frames_per_sequence: Annotated[int, Field(ge=1, le=500)] = 4
    frame_step: Annotated[int, Field(ge=1, le=65)] = 32
    """Stride over frames at 50 Hz."""
    occlusion: Annotated[float, Field(ge=0, le=1)] = 0.5
    jpeg_quality: JpegQuality = 92

    @model_validator(mode="after")
    def _known_actions(self) -> RigsOptions:
        unknown = [action for action in self.actions if action not in ACTIONS]
        if unknown or not self.actions or len(set(self.actions)) != len(self.actions):
            raise ValueError(f"actions: unknown or repeated {unknown or self.actions}; known are {', '.join(ACTIONS)}")
        return self

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects. R01, R02, … have a rig each; K01, K02, … are the same actors on the training rig."""
        letters = (UNSEEN,) if self.known_rig is None else (UNSEEN, KNOWN)
        return tuple(f"{letter}{number:02d}" for letter in letters for number in range(1, self.rigs + 1))

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names of the sequences of a rig."""
        return tuple(f"{action}-1" for action in ACTIONS if action in self.actions)

    def frames(self, subject: str) -> int:
        """Number of frames per sequence."""
        return self.frames_per_sequence

    def actor(self, subject: str) -> str:
        """Name of the actor of a subject: R01 for R01 and for K01."""
        return UNSEEN + subject[1:]

    def rig(self, subject: str) -> tuple[Camera, ...]:
        """The cameras of a subject; see `random_rig` and, for K01, K02, …, `world.rig`."""
        if self.known_rig is None or not subject.startswith(KNOWN):
            return random_rig(self, subject)
        return rig(WorldOptions(seed=self.known_rig, side_px=self.side_px), subject)

    def room(self) -> Room:
        """A studio that is wide enough for all cameras."""
        return make_room(random_part(self.seed, "room"), *_HALF_ROOM_MM)

    def samples(self, split: str) -> int:
        """Number of samples of the split "test" or "known". Both are for testing; other splits are empty."""
        whole = self.rigs * len(self.actions) * self.frames_per_sequence
        return {"test": whole, "known": 0 if self.known_rig is None else whole}.get(split, 0)

    @property
    def extent(self) -> Extent:
        """Size of the world. Each sample has one frame per camera, stored twice: distorted and undistorted."""
        folders = (2 * len(CAMERAS) + 3) * len(self.actions) * len(self.subjects)
        samples = self.samples("test") + self.samples("known")
        return Extent(samples * len(CAMERAS), self.side_px**2, 2, folders, len(CAMERAS))


@lru_cache(maxsize=128)
def random_rig(options: RigsOptions, subject: str) -> tuple[Camera, ...]:
    """Sample four cameras around the middle of the room.

    A camera is sampled again if the actor does not fit into its image with the widest lens. Values are rounded to
    float32, as in published labels.

    Example:
        >>> [camera.size for camera in random_rig(RigsOptions(frames_per_sequence=1), "R01")]
        [(288, 288), (288, 288), (288, 288), (288, 288)]
    """
    motions = [perform(options, subject, name).motion.figure.points_mm for name in options.sequences]
    actor_mm = np.concatenate([points_mm.reshape(-1, 3) for motion in motions for points_mm in motion.values()])
    rng = random_part(options.seed, "rig", subject)
    spare_deg = rng.dirichlet(np.ones(len(CAMERAS))) * (360 - LEAST_ANGLE_DEG * len(CAMERAS))
    azimuths = np.deg2rad(rng.uniform(0, 360) + np.cumsum(spare_deg + LEAST_ANGLE_DEG))
    return tuple(_camera(rng, azimuth, actor_mm, options.side_px) for azimuth in rng.permutation(azimuths))


def _camera(rng: Generator, azimuth: float, actor_mm: Array, side_px: int) -> Camera:
    """Sample a camera at ``azimuth`` from the middle of the room, with the actor's points and body in its image."""
    for _ in range(_DRAWS):
        distance = rng.uniform(*DISTANCE_MM)
        place = np.array([distance * np.cos(azimuth), distance * np.sin(azimuth), rng.uniform(*HEIGHT_MM)])
        target = np.array([*rng.uniform(-250, 250, 2), rng.uniform(700, 1050)])
        roll = np.deg2rad(rng.uniform(-ROLL_DEG, ROLL_DEG))
        turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        R = turn @ facing(place, target)
        offset, skewed = rng.uniform(-14, 14, 2), rng.uniform(-0.6, 0.6)
        dist = np.array(
            [
                *(rng.uniform(-0.21, -0.19), rng.uniform(0.22, 0.27), *rng.uniform(-0.002, 0.002, 2)),
                rng.uniform(-0.01, 0.0),
            ]
        )
        share = rng.uniform(0.7, 1.0)
        lens = Camera(np.eye(3), R, -R @ place, dist, distortion="human36m")
        longest = _longest_focal(lens, actor_mm, offset)
        if longest >= FOCAL_PX[0]:
            focal = float(np.clip(share * longest, *FOCAL_PX))
            K = np.array([[focal, 0, 500 + offset[0]], [0, focal + skewed, 500 + offset[1]], [0, 0, 1]])
            K[:2] *= side_px / 1000
            return Camera(
                K=K.astype(np.float32),
                R=R.astype(np.float32),
                t=(-R @ place).astype(np.float32),
                dist=dist.astype(np.float32),
                size=(side_px, side_px),
                distortion="human36m",
            )
    raise RuntimeError(f"none of {_DRAWS} cameras sees the whole actor")


def _longest_focal(lens: Camera, points_mm: Array, offset_px: Array) -> float:
    """Longest focal length (px per 1000 px of image) with all points inside, with and without lens distortion.

    Args:
        lens: camera with the identity as K.
        points_mm: (N, 3) points in the world, each the centre of a ball with radius `_FLESH_MM`.
        offset_px: (2,) offset of the principal point from the middle of the image.
    """
    # |x| / z of the balls' silhouettes, bounded by (|x| + r) / (z - r). Distortion may move points outward or inward.
    x_mm = lens.to_camera(points_mm)
    nearest = x_mm[:, 2:].min() - _FLESH_MM
    if nearest <= 0:
        return 0.0
    reach = (np.abs(x_mm[:, :2]) + _FLESH_MM) / (x_mm[:, 2:] - _FLESH_MM)
    ends = np.concatenate([reach, np.abs(lens.image(reach))])
    return float(((500 - 1000 * _MARGIN - np.abs(offset_px)) / ends.max(axis=0)).min())
