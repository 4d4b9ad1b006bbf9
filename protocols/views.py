"""Cameras and 2D points of the views of a split, without duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.sample import Sample, Truth
from poseboard.datasets.skeleton import Skeleton

PointsKind = Literal["detected", "annotated"]
"""2D points that a sample gives its methods, or those that its truth was annotated with in the view itself."""


@dataclass(frozen=True, eq=False)
class SeenBy:
    """Camera of each view of each sample. Equal cameras are stored once.

    Args:
        cameras: the distinct cameras.
        place: (S, V) index into ``cameras``; -1 if a sample lacks the view.
    """

    cameras: tuple[Camera, ...]
    place: NDArray[np.signedinteger]

    @classmethod
    def collect(cls, cameras: Sequence[Sequence[Camera | None]], views: int) -> SeenBy:
        """Collect the cameras of S samples, each a sequence of V cameras; None for a missing view."""
        collected = CamerasOfSplit(len(cameras), views)
        for place, of_sample in enumerate(cameras):
            collected.add(place, ((view, camera) for view, camera in enumerate(of_sample) if camera is not None))
        return collected.seen_by()

    def together(self, frames_per_rig: int) -> NDArray[np.integer]:
        """Group number (S,) of each sample. The cameras of a group are recovered together.

        Samples with equal cameras are divided into n groups, the smallest number with at most ``frames_per_rig``
        samples per group. Each group takes every n-th sample.
        """
        _, rig = np.unique(self.place, axis=0, return_inverse=True)
        rig = rig.reshape(-1)
        order = np.argsort(rig, kind="stable")
        sizes = np.bincount(rig)
        nth = np.empty_like(rig)
        nth[order] = np.arange(len(rig)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        parts = -(-sizes // frames_per_rig)
        return np.asarray((np.cumsum(parts) - parts)[rig] + nth % parts[rig])

    def rotations(self, view: int, samples: NDArray[np.integer]) -> Array:
        """World-to-camera rotations (N, 3, 3) of a view in N samples; NaN if a sample lacks the view."""
        turns = np.array([camera.R for camera in self.cameras] + [np.full((3, 3), np.nan)])
        return np.asarray(turns[self.place[samples, view]])  # -1 is the last: NaN

    def project(self, points_mm: NDArray[np.floating], view: int, samples: NDArray[np.integer]) -> Array:
        """Project world points (N, J, 3), mm, to distorted pixels (N, J, 2) of a view.

        NaN behind the camera, and for samples without the view.
        """
        pixels = np.full((*points_mm.shape[:-1], 2), np.nan)
        for camera, rows in self.each(view, samples):
            pixels[rows] = camera.project(points_mm[rows])
        return pixels

    def each(self, view: int, samples: NDArray[np.integer]) -> Iterator[tuple[Camera, NDArray[np.int64]]]:
        """Yield each distinct camera of a view in N samples, with the indices (0 to N - 1) of its samples."""
        places = self.place[samples, view]
        order = np.argsort(places, kind="stable")
        used, starts = np.unique(places[order], return_index=True)
        for place, rows in zip(used.tolist(), np.split(order, starts[1:]), strict=True) if len(order) else ():
            if place >= 0:
                yield self.cameras[place], rows

    def sizes_px(self, view: int, samples: NDArray[np.integer]) -> Array:
        """Width and height (N, 2) of the images of a view, pixels; infinite if unknown."""
        sizes = np.array([camera.size for camera in self.cameras] + [(0, 0)], dtype=np.float64)
        sizes[sizes == 0] = np.inf
        return np.asarray(sizes[self.place[samples, view]])


class CamerasOfSplit:
    """Collector of the cameras of a split, one sample at a time.

    Args:
        samples: number of samples.
        views: number of views of the data set.
    """

    def __init__(self, samples: int, views: int) -> None:
        self._place = np.full((samples, views), -1, dtype=np.int32)
        self._cameras: list[Camera] = []
        self._by_numbers: dict[object, int] = {}
        self._by_object: dict[int, int] = {}
        """Of `_cameras`, which stay alive. Most data sets give the same object for all samples of a sequence."""

    def add(self, place: int, cameras: Iterable[tuple[int, Camera]]) -> None:
        """Add the cameras of sample ``place``, each with the index of its view."""
        for view, camera in cameras:
            number = self._by_object.get(id(camera))
            self._place[place, view] = self._number(camera) if number is None else number

    def _number(self, camera: Camera) -> int:
        numbers = (camera.K.tobytes(), camera.R.tobytes(), camera.t.tobytes(), camera.dist.tobytes())
        identity = (numbers, camera.size, camera.distortion)
        if identity not in self._by_numbers:
            self._by_numbers[identity] = self._by_object[id(camera)] = len(self._cameras)
            self._cameras.append(camera)
        return self._by_numbers[identity]

    def seen_by(self) -> SeenBy:
        """Camera of each view of each sample that was added."""
        narrowest = np.min_scalar_type(-max(len(self._cameras), 1))
        return SeenBy(tuple(self._cameras), self._place.astype(narrowest))


@dataclass(frozen=True, eq=False)
class ViewPoints:
    """2D points of people, one row per person and view.

    Args:
        sample: (D,) int64, index of the sample in its split.
        view: (D,) int32, index of the view in the data set.
        person: (D,) int32, number from 0 within sample and view; for annotated points, the person of the truth.
        points_px: (D, J, 2) pixels of the distorted image; NaN = no point.
        skeleton: joint set of the points.
    """

    sample: NDArray[np.int64]
    view: NDArray[np.int32]
    person: NDArray[np.int32]
    points_px: Array
    skeleton: Skeleton

    def __len__(self) -> int:
        return len(self.sample)


class PointsOfSplit:
    """Collector of the 2D points of a split, one sample at a time.

    Args:
        kind: kind of the points.
        views: name of a view -> its index in the data set.
        skeleton: joint set of the points.
    """

    def __init__(self, kind: PointsKind, views: dict[str, int], skeleton: Skeleton) -> None:
        self._kind, self._views, self._skeleton = kind, views, skeleton
        self._where: list[tuple[int, int, int]] = []
        self._points: list[Array] = []

    def add(self, place: int, sample: Sample, truth: Truth) -> None:
        """Add the points of sample ``place``; people without points in a view get no row for the view."""
        for view in sample.views:
            if self._kind == "detected":
                points_px = view.joints_px
                if points_px is not None and view.confidence is not None:
                    points_px = np.where((view.confidence > 0)[..., None], points_px, np.nan)
            else:
                annotated = truth.annotated.get(view.name)
                points_px = None if annotated is None else view.camera.image(annotated)
            for person, points in enumerate(() if points_px is None else points_px):
                if np.isfinite(points).any():
                    self._where.append((place, self._views[view.name], person))
                    self._points.append(points)

    def table(self) -> ViewPoints:
        """Table of all added points."""
        where = np.array(self._where, dtype=np.int64).reshape(-1, 3)
        points_px = np.array(self._points, dtype=np.float64).reshape(-1, len(self._skeleton), 2)
        person = where[:, 2].astype(np.int32)
        return ViewPoints(where[:, 0], where[:, 1].astype(np.int32), person, points_px, self._skeleton)
