"""2D detector: BlazePose by OpenCV's dnn, for videos of rigs without detections of another tool.

The network maps a square, turned region around a person to 33 joints, and to the region of the next frame: its circle
around the hips. A person is therefore followed from frame to frame, and searched for only at the start and when lost:
candidates are the boxes of OpenCV's HOG detector and large squares of the picture, each refined by the network itself.
MediaPipe's own person detector is not used: OpenCV cannot read its sparse weights.

The module stands beside the readers of `keypoints` because its product is the same: 2D detections of a rig. It is no
method of the benchmark: it is never trained and predicts no 3D pose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import read_file
from poseboard.datasets.keypoints.joint_sets import BLAZEPOSE
from poseboard.datasets.keypoints.people import People

SHA256 = "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f"
"""Hash of pose_landmark_full.tflite of mediapipe 0.10.21."""
FETCH = "run `poseboard data fetch blazepose`"

_INPUT_PX = 256
_JOINTS = len(BLAZEPOSE)
_CENTRE, _RIM = 33, 34
"""Auxiliary points: middle of the hips, and a point of the circle around the person above it."""
_MARGIN = 1.25
"""Side of the region, divided by the diameter of the circle."""
_PRESENT = 0.5
"""Probability of a person below which a region is given up, as in MediaPipe."""
_FOUND = 0.8
_HEAT_SIZE, _KERNEL, _HEAT_MIN = 64, 7, 0.5
_REFINEMENTS = 3
_SEARCH_EVERY = 15
"""Frames between two searches while fewer people are followed than asked for."""
_SAME = 0.35
"""Distance of two regions, divided by the larger side, below which they hold the same person."""
_HOG_HEIGHT_PX = 720

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Region:
    """Rotated square region of an image.

    Args:
        x_px: x of the centre.
        y_px: y of the centre.
        side_px: length of a side.
        turn: clockwise rotation, radians.
    """

    x_px: float
    y_px: float
    side_px: float
    turn: float = 0.0

    @property
    def to_image(self) -> Array:
        """(2, 3) affine map from the pixels of the network's input to those of the image."""
        scale = self.side_px / _INPUT_PX
        cos, sin = scale * np.cos(self.turn), scale * np.sin(self.turn)
        half = _INPUT_PX / 2
        return np.array(
            [[cos, -sin, self.x_px - half * (cos - sin)], [sin, cos, self.y_px - half * (sin + cos)]], dtype=np.float64
        )

    def is_same(self, other: Region) -> bool:
        """Whether two regions hold the same person."""
        distance = np.hypot(self.x_px - other.x_px, self.y_px - other.y_px)
        return bool(distance < _SAME * max(self.side_px, other.side_px))


@dataclass(frozen=True, eq=False)
class Person:
    """One detected person.

    Args:
        xy_px: (33, 2) joints of `BLAZEPOSE`, px.
        confidence: (33,) in 0 to 1.
        presence: probability that the region holds a person.
        region: region of this person for the next frame.
    """

    xy_px: Array
    confidence: Array
    presence: float
    region: Region


class BlazePose:
    """The BlazePose network of MediaPipe, for joints of one person in a region.

    Args:
        weights: path of pose_landmark_full.tflite.

    Raises:
        InputError: the file is absent or is not this network.
    """

    def __init__(self, weights: Path) -> None:
        content = read_file(weights, FETCH)
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise InputError(weights, "is not pose_landmark_full.tflite of mediapipe 0.10.21", FETCH)
        self._net = cv2.dnn.readNetFromTFLite(str(weights), cv2.dnn.ENGINE_CLASSIC)
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector(), dtype=np.float32))

    def detect(self, image: Image, region: Region) -> Person:
        """Detect the joints of the person in a region of an image (H, W, 3) uint8 RGB."""
        to_image = region.to_image
        crop = cv2.warpAffine(image, to_image, (_INPUT_PX, _INPUT_PX), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        self._net.setInput(cv2.dnn.blobFromImage(crop, 1 / 255))
        heat, output, presence = self._net.forward(["Identity_3", "Identity", "Identity_1"])
        points = np.asarray(output, dtype=np.float64).reshape(39, 5)
        xy = _refined(points[:, :2], np.asarray(heat[0], dtype=np.float64))
        xy_px = xy @ to_image[:, :2].T + to_image[:, 2]
        centre, rim = xy_px[_CENTRE], xy_px[_RIM] - xy_px[_CENTRE]
        turn = float(np.arctan2(rim[0], -rim[1]))
        following = Region(float(centre[0]), float(centre[1]), float(2 * _MARGIN * np.hypot(*rim)), turn)
        # Columns 3 and 4 are logits: whether a joint is visible, and whether it is in the region.
        confidence = _sigmoid(points[:_JOINTS, 3:]).min(axis=1)
        return Person(xy_px[:_JOINTS], confidence, float(presence[0, 0]), following)

    def find(self, image: Image, known: Sequence[Person] = ()) -> list[Person]:
        """Detect the people in an image except the ``known`` people, the largest first."""
        people: list[Person] = []
        for candidate in self._candidates(image):
            if any(candidate.is_same(person.region) for person in known):
                continue
            region = candidate
            person = self.detect(image, region)
            for _ in range(_REFINEMENTS):
                if person.presence < _PRESENT / 5 or not _is_inside(person.region, image):
                    break
                person = self.detect(image, person.region)
            if person.presence >= _FOUND and _is_inside(person.region, image):
                people.append(person)
        people.sort(key=lambda person: -person.region.side_px)
        distinct: list[Person] = []
        for person in people:
            if not any(person.region.is_same(other.region) for other in (*distinct, *known)):
                distinct.append(person)
        return distinct

    def _candidates(self, image: Image) -> list[Region]:
        """Candidate regions of people: the whole image, its large squares, and boxes of the HOG detector."""
        height, width = image.shape[:2]
        long, short = max(height, width), min(height, width)
        regions = [Region(width / 2, height / 2, long)]
        for place in (0.0, 0.5, 1.0):
            along = short / 2 + place * (long - short)
            regions.append(Region(along, height / 2, short) if width > height else Region(width / 2, along, short))
        scale = _HOG_HEIGHT_PX / long
        grey = cv2.resize(
            cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
        )
        boxes, _ = self._hog.detectMultiScale(grey, winStride=(8, 8), padding=(16, 16), scale=1.1)
        for x, y, w, h in np.asarray(boxes, dtype=np.float64).reshape(-1, 4) / scale:
            regions.append(Region(x + w / 2, y + h / 2, h))
        return regions


def follow(network: BlazePose, images: Iterable[Image], people: int = 1) -> Iterator[list[Person | None]]:
    """Track people over the frames of a video.

    Args:
        network: the detector.
        images: frames in order, (H, W, 3) uint8 RGB.
        people: maximum number of tracked people; the largest people are preferred.

    Yields:
        For each frame, a list with one entry per tracked person; None while an entry has no person. A person keeps the
        same entry until lost.
    """
    places: list[Person | None] = [None] * people
    rest = 0
    for image in images:
        for place, before in enumerate(places):
            if before is not None:
                person = network.detect(image, before.region)
                places[place] = person if _is_person(person, image, places[:place]) else None
                rest = rest if places[place] is not None else 0
        if None in places and rest <= 0:
            found = network.find(image, [person for person in places if person is not None])
            for place, _ in [entry for entry in enumerate(places) if entry[1] is None][: len(found)]:
                places[place] = found.pop(0)
            rest = _SEARCH_EVERY
        rest -= 1
        yield list(places)


def people_of(frames: Iterable[list[Person | None]], *, tracked: bool) -> People:
    """Collect the people of all frames in one table; frames are numbered from 0.

    Args:
        frames: people of each frame, from `follow`.
        tracked: whether the index of an entry of `follow` is used as the identity of the person.
    """
    rows = [
        (frame, place, person) for frame, people in enumerate(frames) for place, person in enumerate(people) if person
    ]
    return People(
        np.array([frame for frame, _, _ in rows], dtype=np.int64),
        np.array([person.xy_px for _, _, person in rows], dtype=np.float64).reshape(-1, _JOINTS, 2),
        np.array([person.confidence for _, _, person in rows], dtype=np.float64).reshape(-1, _JOINTS),
        np.array([place if tracked else -1 for _, place, _ in rows], dtype=np.int64),
    )


def _is_person(person: Person, image: Image, others: Sequence[Person | None]) -> bool:
    """Whether a tracked person is still present and is not a duplicate of another tracked person."""
    doubled = any(other is not None and person.region.is_same(other.region) for other in others)
    return person.presence >= _PRESENT and _is_inside(person.region, image) and not doubled


def _is_inside(region: Region, image: Image) -> bool:
    """Whether the centre of a region is in or near the image, and its size is plausible for a person."""
    height, width = image.shape[:2]
    margin = 0.2 * max(height, width)
    inside = -margin <= region.x_px <= width + margin and -margin <= region.y_px <= height + margin
    return inside and _INPUT_PX / 8 <= region.side_px <= 3 * max(height, width)


def _refined(xy: Array, heat: Array) -> Array:
    """Move points (39, 2) to the centre of mass of their heat maps (39, 64, 64) if the maps are confident."""
    half, cell = _KERNEL // 2, _INPUT_PX / _HEAT_SIZE
    # Outside the map nothing is likely: a border makes all windows of equal size.
    probability = np.pad(_sigmoid(heat), ((0, 0), (half, half), (half, half)))
    at = np.clip((xy / cell).astype(np.int64), 0, _HEAT_SIZE - 1)
    steps = np.arange(_KERNEL)
    rows, columns = at[:, 1, None] + steps, at[:, 0, None] + steps
    windows = probability[np.arange(len(xy))[:, None, None], rows[:, :, None], columns[:, None, :]]
    mass = windows.sum(axis=(1, 2))
    x = (windows.sum(axis=1) * (columns - half)).sum(axis=1)
    y = (windows.sum(axis=2) * (rows - half)).sum(axis=1)
    sure = (windows.max(axis=(1, 2)) >= _HEAT_MIN) & (mass > 0)
    moved = np.stack([x, y], axis=1) / np.maximum(mass, 1e-9)[:, None] * cell
    return np.where(sure[:, None], moved, xy)


def _sigmoid(logits: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))
