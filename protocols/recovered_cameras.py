"""Base class of the protocols that judge recovered cameras (`CAMERA_COLUMNS`).

A record is a pose; its number is the mean over the cameras of the input. The pose is in the frame of the reference
camera. Cameras are judged relative to this camera, because the method does not know the world frame. A camera of the
sample that is not recovered makes the record *missing*, as a missing joint does in
:mod:`poseboard.protocols.single_person`: it is counted and has no number.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import CAMERA_COLUMNS
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols.base import Breakdown, Protocol, TruthTable, finite
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Measure
from poseboard.protocols.single_person import one_answer_each

Array = NDArray[np.float64]
CAMERA_COLUMN = "camera/"
"""Prefix of the columns of a camera's values; NaN = it is the reference, or does not see the sample."""
ORTHONORMAL = 1e-3
"""How far the entries of ``R R^T`` may be from the identity's."""


@dataclass(frozen=True, eq=False)
class Rigs:
    """True and recovered cameras of N poses, V of each.

    Args:
        names: (V,) names of the cameras.
        reference: (N,) index of the camera whose frame each pose is in.
        R: (N, V, 3, 3) recovered rotations; NaN = not recovered.
        t_mm: (N, V, 3) recovered translations; NaN = not recovered.
        true_rotation: (N, V, 3, 3) true rotations, world to camera; NaN = the sample lacks the view.
        true_translation_mm: (N, V, 3) true translations, world to camera; NaN = the sample lacks the view.
        rows: (N,) row of each pose in the predictions.
        poses: (N,) row of each pose in the ground truth.
    """

    names: tuple[str, ...]
    reference: NDArray[np.int64]
    R: Array
    t_mm: Array
    true_rotation: Array
    true_translation_mm: Array
    rows: NDArray[np.int64]
    poses: NDArray[np.int64]

    @cached_property
    def relative(self) -> tuple[Array, Array]:
        """Recovered rotations (N, V, 3, 3) and translations (N, V, 3), mm, from the reference to each camera."""
        return _relative(self.R, self.t_mm, self.reference)

    @cached_property
    def true_relative(self) -> tuple[Array, Array]:
        """True rotations (N, V, 3, 3) and translations (N, V, 3), mm, from the reference to each camera."""
        return _relative(self.true_rotation, self.true_translation_mm, self.reference)

    @cached_property
    def counts(self) -> NDArray[np.bool_]:
        """(N, V) whether a camera sees the sample and is not the reference."""
        others: NDArray[np.bool_] = np.arange(len(self.names)) != self.reference[:, None]
        return others & self.sees

    @cached_property
    def sees(self) -> NDArray[np.bool_]:
        """(N, V) whether a camera sees the sample."""
        return np.asarray(np.all(np.isfinite(self.true_rotation), axis=(2, 3)))


def _relative(R: Array, t_mm: Array, reference: NDArray[np.int64]) -> tuple[Array, Array]:
    each = np.arange(len(R))
    turn = R @ np.swapaxes(R[each, reference], 1, 2)[:, None]
    return turn, t_mm - (turn @ t_mm[each, reference][:, None, :, None])[..., 0]


def angle_deg(a: Array, b: Array) -> Array:
    """Angle (...) of the rotation between rotations a and b (..., 3, 3), degrees; exact for small angles too.

    Example:
        >>> quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        >>> float(angle_deg(np.eye(3), quarter).round(9)), float(angle_deg(quarter, quarter))
        (90.0, 0.0)
    """
    half = np.linalg.norm(a - b, axis=(-2, -1)) / np.sqrt(8)
    return np.asarray(np.rad2deg(2 * np.arcsin(np.minimum(half, 1))))


def direction_deg(a: Array, b: Array) -> Array:
    """Angle (...) between vectors a and b (..., 3), degrees; NaN where one has no length.

    Example:
        >>> float(direction_deg(np.array([1.0, 0, 0]), np.array([0.0, 7, 0])))
        90.0
    """
    across, along = np.linalg.norm(np.cross(a, b), axis=-1), np.einsum("...k,...k->...", a, b)
    angle = np.rad2deg(np.arctan2(across, along))
    return np.where((across == 0) & (along == 0), np.nan, angle)


class RecoveredCameras(Protocol):
    """Base class: mean over poses of the mean over cameras; one person per sample, in the frame of a camera."""

    columns: ClassVar[tuple[str, ...]] = ("camera_R", "camera_t_mm")
    any_frame: ClassVar[bool] = True
    error_unit: ClassVar[str] = "deg"
    metric: ClassVar[str]

    @abstractmethod
    def camera_values(self, rigs: Rigs, pred: PoseTable, truth: TruthTable) -> tuple[Array, NDArray[np.bool_]]:
        """Values (N, V) of the cameras, NaN if not recovered; and a mask (N, V) of the cameras that count."""

    def further(self, rigs: Rigs, pred: PoseTable) -> dict[str, Array]:
        """Further values (N, V) of the cameras, by prefix of their columns; empty by default."""
        return {}

    def number(self, values: Array) -> Array:
        """Convert camera values to numbers in ``unit``; NaN stays NaN."""
        return values

    def metric_name(self) -> str:
        """Name of the metric in the signature."""
        return self.metric

    def measure(self, skeleton: Skeleton) -> Measure:
        """Measure of this protocol for the signatures of its numbers."""
        return Measure(
            metric=self.metric_name(),
            alignment="relative to the reference camera",
            root="none",
            joints="none",
            average="frames",
            judged="recovered cameras",
            version=self.version,
        )

    def errors(self, pred: PoseTable, truth: TruthTable) -> pd.DataFrame:
        """Compute one record per pose. Column ``camera/<name>`` is the value of that camera (`camera_values`).

        Raises:
            InputError: see `collect_rigs`.
        """
        rows = one_answer_each(pred, truth)
        annotated: NDArray[np.bool_] = np.any(np.isfinite(truth.joints_mm), axis=(1, 2))
        evaluated = np.flatnonzero(annotated)
        rigs = collect_rigs(pred, truth, rows, evaluated[rows[evaluated] >= 0])
        values, counts = self.camera_values(rigs, pred, truth)
        lost: NDArray[np.bool_] = np.any(counts & np.isnan(values), axis=1) | ~np.any(counts, axis=1)
        values = np.where(counts & ~lost[:, None], values, np.nan)
        numbers = self.number(values)
        count = np.maximum(np.isfinite(numbers).sum(axis=1), 1)
        error = np.full(len(truth), np.nan)
        error[rigs.poses] = np.where(lost, np.nan, np.nansum(numbers, axis=1) / count)
        of_cameras = np.full((len(truth), len(rigs.names)), np.nan)
        of_cameras[rigs.poses] = values
        frame = pd.DataFrame(
            {
                **truth.take(evaluated).columns,
                "error": error[evaluated],
                "missing": np.isnan(error[evaluated]),
            }
        )
        columns = [pd.DataFrame(of_cameras[evaluated], columns=[CAMERA_COLUMN + name for name in rigs.names])]
        for prefix, further in self.further(rigs, pred).items():
            of_cameras = np.full((len(truth), len(rigs.names)), np.nan)
            of_cameras[rigs.poses] = np.where(counts & ~lost[:, None], further, np.nan)
            columns.append(pd.DataFrame(of_cameras[evaluated], columns=[prefix + name for name in rigs.names]))
        return pd.concat([frame, *columns], axis=1)

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action, subject and camera, and the median over poses, which is robust to outliers."""
        return {
            **super().breakdown(table),
            "camera": {
                name: finite(np.mean, self.number(values))
                for name, values in self.by_column(CAMERA_COLUMN, table).items()
            },
            "median of poses": {"all": finite(np.median, table["error"].to_numpy(dtype=np.float64))},
        }


def collect_rigs(pred: PoseTable, truth: TruthTable, rows: NDArray[np.integer], poses: NDArray[np.integer]) -> Rigs:
    """Collect true and recovered cameras of the given poses.

    Args:
        pred: predictions with the columns of recovered cameras.
        truth: ground truth with its cameras.
        rows: row of ``pred`` for each true pose.
        poses: indices of the true poses that have a prediction.

    Raises:
        InputError: true cameras are unknown, a column has another shape, a matrix is not a rotation, or a pose is not
            in the frame of a camera of the input.
    """
    if truth.seen_by is None:
        raise InputError(f"{truth.dataset}: cameras", "are missing", "collect the truth with its cameras")
    names = pred.info.condition.cameras
    for column in (name for name in CAMERA_COLUMNS if name in pred.columns):
        expected = (len(names), *CAMERA_COLUMNS[column])
        if pred.columns[column].shape[1:] != expected:
            raise InputError(
                f"{pred.source}: {column}",
                f"is {pred.columns[column].shape[1:]} per person",
                f"store {expected}, in the order of the condition's cameras",
            )
    of_pose = rows[poses].astype(np.int64)
    R, t_mm = (pred.column(name)[of_pose].astype(np.float64) for name in ("camera_R", "camera_t_mm"))
    whole = np.isfinite(R).all(axis=(2, 3))
    off = np.abs(R @ np.swapaxes(R, 2, 3) - np.eye(3)).max(axis=(2, 3)) > ORTHONORMAL
    wrong = np.any(whole & (off | (np.linalg.det(np.where(whole[..., None, None], R, np.eye(3))) < 0)), axis=1)
    _refuse(pred, of_pose, wrong, "camera_R", "have a matrix that is not a rotation", "store proper rotations")
    reference = np.full(len(poses), -1, dtype=np.int64)
    for place, name in enumerate(names):
        reference[pred.frame[of_pose] == name] = place
    _refuse(
        pred,
        of_pose,
        (reference < 0) & whole.any(axis=1),
        "frame",
        "are not in the frame of an input camera",
        _frames(names),
    )
    places = truth.seen_by.place[truth.place[poses][:, None], [truth.views.index(name) for name in names]]
    absent = np.full((1, 3, 4), np.nan)
    true = np.concatenate([*(np.c_[c.R, c.t][None] for c in truth.seen_by.cameras), absent])[places]  # -1 is the last
    # what is not whole is not recovered
    R = np.where(whole[..., None, None], R, np.nan)
    return Rigs(names, reference, R, t_mm, true[..., :3], true[..., 3], of_pose, np.asarray(poses, dtype=np.int64))


def _frames(names: Sequence[str]) -> str:
    return f"predict in the frame of an input camera: {', '.join(names)}"


def _refuse(
    pred: PoseTable, of_pose: NDArray[np.int64], bad: NDArray[np.bool_], field: str, problem: str, remedy: str
) -> None:
    if bad.any():
        first = pred.keys[of_pose[int(np.argmax(bad))]]
        raise InputError(f"{pred.source}: {field}", f"{int(bad.sum())} records {problem}, first {first!r}", remedy)
