"""Cameras and 2D points of the views of a split, each kept once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """Which camera is behind each view of each sample. A camera is kept once, however many samples it sees.

    Args:
        cameras: each once.
        place: (S, V) among ``cameras``, -1 where a view does not see a sample.
    """

    cameras: tuple[Camera, ...]
    place: NDArray[np.signedinteger]

    @classmethod
    def collect(cls, cameras: Sequence[Sequence[Camera | None]], views: int) -> SeenBy:
        """From S sequences of V cameras, None where there is none."""
        known: dict[object, int] = {}
        each: list[Camera] = []
        place = np.full((len(cameras), views), -1, dtype=np.int32)
        for s, of_sample in enumerate(cameras):
            for v, camera in enumerate(of_sample):
                if camera is None:
                    continue
                numbers = (camera.K.tobytes(), camera.R.tobytes(), camera.t.tobytes(), camera.dist.tobytes())
                identity = (numbers, camera.size, camera.distortion)
                if identity not in known:
                    known[identity] = len(each)
                    each.append(camera)
                place[s, v] = known[identity]
        return cls(tuple(each), place.astype(np.min_scalar_type(-max(len(each), 1))))  # no wider than it must be

    def together(self, frames_per_rig: int) -> NDArray[np.integer]:
        """Which samples' cameras are recovered together, (S,): those with equal numbers.

        Samples with equal cameras are divided into the fewest groups of at most ``frames_per_rig``, each of which takes
        every so many of them.
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
        """(N, 3, 3) world to camera of a view in N samples; NaN where it does not see one."""
        turns = np.array([camera.R for camera in self.cameras] + [np.full((3, 3), np.nan)])
        return np.asarray(turns[self.place[samples, view]])  # -1 is the last: NaN

    def project(self, points_mm: NDArray[np.floating], view: int, samples: NDArray[np.integer]) -> Array:
        """World points (N, J, 3) mm to the pixels of a view, (N, J, 2), through the lens.

        NaN behind the camera, and where the view does not see the sample.
        """
        pixels = np.full((*points_mm.shape[:-1], 2), np.nan)
        for camera, rows in self.each(view, samples):
            pixels[rows] = camera.project(points_mm[rows])
        return pixels

    def each(self, view: int, samples: NDArray[np.integer]) -> Iterator[tuple[Camera, NDArray[np.int64]]]:
        """Cameras behind a view in N samples, each with the indices (0 to N - 1) of the samples that it sees."""
        places = self.place[samples, view]
        order = np.argsort(places, kind="stable")
        used, starts = np.unique(places[order], return_index=True)
        for place, rows in zip(used.tolist(), np.split(order, starts[1:]), strict=True) if len(order) else ():
            if place >= 0:
                yield self.cameras[place], rows

    def sizes_px(self, view: int, samples: NDArray[np.integer]) -> Array:
        """(N, 2) width and height of the images of a view; infinite where they are not known."""
        sizes = np.array([camera.size for camera in self.cameras] + [(0, 0)], dtype=np.float64)
        sizes[sizes == 0] = np.inf
        return np.asarray(sizes[self.place[samples, view]])


@dataclass(frozen=True, eq=False)
class ViewPoints:
    """2D points of people, one person in one view a row.

    Args:
        sample: (D,) int64, place of the sample in its split.
        view: (D,) int32, place of the view in the data set.
        person: (D,) int32, from 0 within (sample, view); of annotated points the person of the truth.
        points_px: (D, J, 2) pixels of the image as it is, its lens included; NaN = no point.
        skeleton: of the joints.
    """

    sample: NDArray[np.int64]
    view: NDArray[np.int32]
    person: NDArray[np.int32]
    points_px: Array
    skeleton: Skeleton

    def __len__(self) -> int:
        return len(self.sample)


class PointsOfSplit:
    """Collects the `ViewPoints` of a split, one sample at a time.

    Args:
        kind: which points.
        views: place of each view in the data set, by name.
        skeleton: of the points.
    """

    def __init__(self, kind: PointsKind, views: dict[str, int], skeleton: Skeleton) -> None:
        self._kind, self._views, self._skeleton = kind, views, skeleton
        self._where: list[tuple[int, int, int]] = []
        self._points: list[Array] = []

    def add(self, place: int, sample: Sample, truth: Truth) -> None:
        """The points of a sample; people without any in a view have no row there."""
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
        """All points that were added."""
        where = np.array(self._where, dtype=np.int64).reshape(-1, 3)
        points_px = np.array(self._points, dtype=np.float64).reshape(-1, len(self._skeleton), 2)
        person = where[:, 2].astype(np.int32)
        return ViewPoints(where[:, 0], where[:, 1].astype(np.int32), person, points_px, self._skeleton)
