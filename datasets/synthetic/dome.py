"""Dome of 31 cameras around and above one actor, modelled on the HD cameras of CMU Panoptic.

The cameras are on a part of a sphere, from the height of the knees to almost above the middle. Each day of recording
has its own calibration, with slightly displaced cameras. The dome contains only the actor and a chair.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator

from poseboard.datasets import panoptic
from poseboard.datasets.camera import Camera
from poseboard.datasets.synthetic.generation import Extent, GenerationOptions, JpegQuality, Seed, random_part
from poseboard.datasets.synthetic.motion import ACTIONS
from poseboard.datasets.synthetic.renderer import Room
from poseboard.datasets.synthetic.scene import make_room
from poseboard.datasets.synthetic.world import facing

HD_CAMERAS = panoptic.HD_CAMERAS
HD_RATE_HZ = 29.97
RADIUS_MM, CENTRE_HEIGHT_MM = 2720.0, 1390.0
"""Radius and height of the centre of the sphere with the cameras."""
HEIGHT_MM = (750.0, 3400.0)
"""Range of the heights of the cameras above the floor."""
FOCAL_PX = (1390.0, 1650.0)
"""Range of the focal lengths for images 1920 px wide."""
TILT_MM = 120.0
"""Maximum distance of a camera's target from the middle of the dome, along each axis."""
_DISPLACED_MM = 30.0
_ROUND, _UP = 9, 24
"""Steps from one camera to the next in azimuth and in height, of 31 each."""
_HALF_ROOM_MM, _ROOM_HEIGHT_MM = 3000.0, 3700.0


class DomeOptions(GenerationOptions):
    """Options of a dome world. Equal options give equal bytes on one machine, for any number of processes.

    Subjects are the published sequences of one person. Each sequence has a different actor. A take is part of one
    published range of frames and contains one action.

    Args:
        width_px: width of the 16:9 images; the published ones are 1920 px wide.
        train_frames: frames per take for training.
        test_frames: frames per take for testing.
        takes: maximum number of takes per sequence.
        frame_step: stride over frames at 29.97 Hz.
    """

    cameras: ClassVar[tuple[str, ...]] = HD_CAMERAS
    frame_rate_hz: ClassVar[float] = HD_RATE_HZ
    occlusion: ClassVar[float] = 0.0

    seed: Seed = 0
    width_px: Annotated[int, Field(ge=96, le=1920, multiple_of=16)] = 192
    train_frames: Annotated[int, Field(ge=1, le=500)] = 6
    test_frames: Annotated[int, Field(ge=1, le=500)] = 4
    takes: Annotated[int, Field(ge=1, le=8)] = 8
    frame_step: Annotated[int, Field(ge=1, le=60)] = 20
    jpeg_quality: JpegQuality = 92

    @model_validator(mode="after")
    def _inside_the_ranges(self) -> DomeOptions:
        shortest = min(end - first for ranges in panoptic.RANGES.values() for first, end in ranges)
        if (max(self.train_frames, self.test_frames) - 1) * self.frame_step >= shortest:
            raise ValueError(f"frame_step: frames do not fit into the shortest published range of {shortest} frames")
        return self

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the images."""
        return self.width_px, self.width_px * 9 // 16

    def takes_of(self, subject: str) -> tuple[str, ...]:
        """Names of the takes of a sequence, such as "Walking-3": action, and number of the range from 1."""
        return tuple(_TAKES[subject])[: self.takes]

    def frames(self, subject: str) -> int:
        """Number of frames per take of a sequence."""
        return self.test_frames if subject in panoptic.SEQUENCES["test"] else self.train_frames

    def numbers(self, subject: str, take: str) -> list[int]:
        """Numbers of the frames of a take."""
        first = _TAKES[subject][take]
        return list(range(first, first + self.frames(subject) * self.frame_step, self.frame_step))

    def actor(self, subject: str) -> str:
        """Name of the actor: the name of the sequence, because each sequence has another actor."""
        return subject

    def rig(self, subject: str) -> tuple[Camera, ...]:
        """Cameras of a sequence, shared by all sequences of a day; see `dome_rig`."""
        return dome_rig(self, day(subject))

    def room(self) -> Room:
        """Room that is wide and high enough for all cameras."""
        return dome_room(self.seed)

    def samples(self, split: str) -> int:
        """Number of samples of a split. A sample is one frame in all cameras."""
        names = {"train": panoptic.SEQUENCES["train"], "test": panoptic.SEQUENCES["test"]}.get(split, ())
        return sum(len(self.takes_of(name)) * self.frames(name) for name in names)

    @property
    def extent(self) -> Extent:
        """Size of the world: images, files and folders."""
        moments, views = self.samples("train") + self.samples("test"), len(self.cameras)
        width, height = self.size_px
        return Extent(moments * views, width * height, 1, len(panoptic.RANGES) * (views + 3), views)


def dome_room(seed: int) -> Room:
    """Room around the dome; equal seeds give equal rooms."""
    return make_room(random_part(seed, "room"), _HALF_ROOM_MM, _HALF_ROOM_MM, _ROOM_HEIGHT_MM)


def day(subject: str) -> str:
    """Day of a sequence, the first part of the sequence's name.

    Example:
        >>> day("171204_pose5")
        '171204'
    """
    return subject.partition("_")[0]


def _named_takes() -> Mapping[str, Mapping[str, int]]:
    """First frame of each take: sequence -> name of the take -> frame. Actions rotate over all sequences."""
    named: dict[str, dict[str, int]] = {}
    count = 0
    for subject, ranges in panoptic.RANGES.items():
        named[subject] = {}
        for number, (first, _) in enumerate(ranges, start=1):
            named[subject][f"{ACTIONS[count % len(ACTIONS)]}-{number}"] = first
            count += 1
    return named


_TAKES = _named_takes()


@lru_cache(maxsize=8)
def dome_rig(options: DomeOptions, of_day: str) -> tuple[Camera, ...]:
    """Generate the cameras of one day in the order of `HD_CAMERAS`. World frame of the studio: z up, mm.

    Azimuths and heights are a rank-1 lattice: each camera is 9/31 of a turn and 24/31 of the height range after the
    previous camera. So no two cameras are close together, and the first few always surround the actor. Intrinsics do
    not change from day to day. Values are rounded to the precision of the files, so that reading returns equal values.

    Example:
        >>> cameras = dome_rig(DomeOptions(), "171204")
        >>> len(cameras), cameras[0].size
        (31, (192, 108))
    """
    scale, count = options.width_px / 1920, len(HD_CAMERAS)
    cameras = []
    for k, name in enumerate(HD_CAMERAS):
        rng, shift = random_part(options.seed, "rig", name), random_part(options.seed, "rig", of_day, name)
        height = HEIGHT_MM[0] + (HEIGHT_MM[1] - HEIGHT_MM[0]) * (_UP * k % count) / (count - 1)
        along = np.sqrt(RADIUS_MM**2 - (height - CENTRE_HEIGHT_MM) ** 2)
        azimuth = 2 * np.pi * (_ROUND * k % count) / count
        place = np.array([along * np.cos(azimuth), along * np.sin(azimuth), height])
        target = np.array([0.0, 0.0, 950.0]) + rng.uniform(-TILT_MM, TILT_MM, 3)
        focal, skewed = rng.uniform(*FOCAL_PX), rng.uniform(2.0, 5.0)
        middle = rng.uniform(-16, 16, 2)
        dist = np.array(
            [
                *(rng.uniform(-0.29, -0.22), rng.uniform(0.165, 0.23), *rng.uniform(-1e-3, 1e-3, 2)),
                rng.uniform(-0.06, 0.03),
            ]
        )
        place, target = (
            place + shift.uniform(-1, 1, 3) * _DISPLACED_MM,
            target + shift.uniform(-1, 1, 3) * _DISPLACED_MM,
        )
        K = np.array([[focal, 0, 960 + middle[0]], [0, focal - skewed, 540 + middle[1]], [0, 0, 1]])
        K[:2] *= scale
        R = np.round(facing(place, target), 10)
        cameras.append(Camera(np.round(K, 4), R, np.round(-R @ place, 4), np.round(dist, 6), options.size_px))
    return tuple(cameras)
