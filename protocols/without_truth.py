"""Base classes of protocols that judge predicted people without ground truth, from 2D detections and motion."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import scipy  # its parts load when they are used
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols.average_precision import same_image
from poseboard.protocols.base import Protocol, TruthTable, number_or_none
from poseboard.protocols.pairing import assigned, row_means
from poseboard.protocols.predictions import PoseTable, positions
from poseboard.protocols.records import Measure
from poseboard.protocols.views import PointsKind, ViewPoints

Index = NDArray[np.int64]

NEAR_MM = 500.0
"""Largest mean distance that the joints of a person move from one frame to the next."""


class WithoutTruth(Protocol):
    """Base class of protocols that need no ground truth. Rows are compared on the same frames."""

    records: ClassVar[Literal["truth", "predicted"]] = "predicted"
    paired_on: ClassVar[Literal["person", "sample"]] = "sample"
    several_people: ClassVar[bool] = True
    metric: ClassVar[str]
    average: ClassVar[str] = "frames"

    @property
    def points(self) -> PointsKind | None:
        """Kind "detected": 2D detections determine which joints could be triangulated."""
        return "detected"

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol for the signatures of its numbers."""
        return Measure(
            metric=self.metric,
            alignment="none",
            root="none",
            joints=f"detected joints of {skeleton.name}",
            average=self.average,
            judged="without ground truth",
            version=self.version,
        )

    def detections(self, pred: PoseTable, truth: TruthTable) -> ViewPoints:
        """2D detections of the split.

        Raises:
            InputError: poses are in a camera's frame, or 2D detections are absent.
        """
        self.in_frame(pred)
        if truth.groups is None or (points := truth.points.get("detected")) is None:
            raise InputError(f"{truth.dataset}: views", "have no 2D detections", "use a table with ground truth")
        return points


class TrackedPeople(WithoutTruth):
    """Base class of protocols that judge a person over consecutive frames.

    A record is a predicted person. People are tracked from frame to frame (`track`). A person who is detected in two or
    more input views and not predicted is a missing record, so a row that leaves out people has no rank.
    """

    @abstractmethod
    def values(self, joints_mm: Array, frame: Index, person: Index, truth: TruthTable) -> dict[str, Array]:
        """Compute columns (N,) of the records: ``error`` and further columns by name.

        Args:
            joints_mm: (N, J, 3) predicted people, in the joints of the detections; NaN = not predicted.
            frame: (N,) index of each person's frame in the split.
            person: (N,) track of each person, see `track`.
            truth: facts and skeleton of the split.
        """

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """One row per predicted person and per missing person; see :class:`Protocol`.

        Raises:
            InputError: poses are in a camera's frame, keys or joints are not in the data set, or 2D detections are
                absent.
        """
        points = self.detections(pred, truth)
        assert truth.groups is not None
        frame = positions(pred, truth.split_keys)
        people = np.flatnonzero(np.isfinite(pred.joints_mm).any(axis=(1, 2)))
        people = people[np.argsort(frame[people], kind="stable")]
        joints_mm, frame = pred.mapped(points.skeleton.joints)[people].astype(np.float64), frame[people]
        columns = self.values(joints_mm, frame, track(joints_mm, frame), truth)
        detected = triangulable(points, truth, pred).max(axis=1)
        lacking = np.maximum(detected - np.bincount(frame, minlength=len(detected)), 0)
        missing = np.repeat(np.arange(len(lacking)), lacking)
        rows = np.concatenate([frame, missing])
        nothing = np.full(len(missing), np.nan)
        return pd.DataFrame(
            {
                "key": pd.Series(truth.split_keys[rows], dtype=object),
                "person": np.concatenate([pred.person[people], np.full(len(missing), -1, dtype=np.int32)]),
                **{name: values.take(rows) for name, values in truth.groups.items()},
                **{name: np.concatenate([values, nothing]) for name, values in columns.items()},
                "missing": np.arange(len(rows)) >= len(frame),
                "false": np.zeros(len(rows), dtype=bool),
            }
        )


def track(joints_mm: Array, frame: Index) -> Index:
    """Track people from frame to frame by the mean distance of their joints.

    Args:
        joints_mm: (N, J, 3) people; NaN = not predicted.
        frame: (N,) index of the frame of each person.

    Returns:
        (N,) number of each person's track. If no frame has two people, they are all one track. Otherwise, a track
        ends where no person is within `NEAR_MM` in the next frame.

    Example:
        >>> a, b = np.zeros((1, 3)), np.full((1, 3), 2000.0)
        >>> track(np.array([a, b, b + 10, a + 10]), np.array([0, 0, 1, 1])).tolist()
        [0, 1, 1, 0]
    """
    if not len(frame) or np.bincount(frame).max() == 1:
        return np.zeros(len(frame), dtype=np.int64)
    first, second = same_image(frame, frame - 1)
    distances = row_means(np.linalg.norm(joints_mm[first] - joints_mm[second], axis=-1))
    linked = assigned(first, second, distances, NEAR_MM)
    links = scipy.sparse.coo_array((np.ones(len(linked)), (first[linked], second[linked])), shape=(len(frame),) * 2)
    return np.asarray(scipy.sparse.csgraph.connected_components(links, directed=False)[1], dtype=np.int64)


def triangulable(points: ViewPoints, truth: TruthTable, pred: PoseTable) -> NDArray[np.int64]:
    """Number (S, J) of people in each frame with a joint that is detected in two or more input views.

    People are not associated across views. The number is therefore the second largest of the views' counts.
    """
    cameras = pred.info.condition.cameras
    counts = np.zeros((len(cameras), len(truth.split_keys), points.points_px.shape[1]), dtype=np.int64)
    for of_view, name in zip(counts, cameras, strict=True):
        seen = points.view == truth.views.index(name)
        np.add.at(of_view, points.sample[seen], np.isfinite(points.points_px[seen]).all(axis=-1))
    return np.sort(counts, axis=0)[-2] if len(cameras) > 1 else np.zeros_like(counts[0])


def root_mean_square(squares: Array) -> float | None:
    """Square root of the mean of the finite squares; None without a finite value."""
    finite = squares[np.isfinite(squares)]
    return number_or_none(float(np.sqrt(finite.mean()))) if finite.size else None
