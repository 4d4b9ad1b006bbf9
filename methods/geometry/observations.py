"""Arrays of 2D observations of people in several views, the input of triangulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Poses, Sample
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.geometry.association import associate

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Observations:
    """2D observations of N people in up to V views.

    Args:
        points_px: (N, V, J, 2) undistorted pixels; NaN where a joint is not observed.
        confidence: (N, V, J), at least 0; undefined where a joint is not observed.
        P: (N, V, 3, 4) projection matrices; zero where a view is absent.
        sample: (N,) index of the person's sample in its batch.
    """

    points_px: Array
    confidence: Array
    P: Array
    sample: NDArray[np.intp]

    def answers(self, joints_mm: Array, skeleton: Skeleton, count: int) -> list[Poses]:
        """Group triangulated poses of the N people by sample.

        Args:
            joints_mm: (N, J, 3) world mm.
            skeleton: skeleton of the joints.
            count: number of samples in the batch.

        Returns:
            One `Poses` per sample, in the world frame. The score of a person is the mean confidence of the joints.
        """
        seen = np.isfinite(self.points_px).all(axis=-1)
        total = np.where(seen, self.confidence, 0.0).sum(axis=(1, 2))
        score = total / np.maximum(seen.sum(axis=(1, 2)), 1)
        people = [np.flatnonzero(self.sample == i) for i in range(count)]
        return [Poses(skeleton, joints_mm[rows], score[rows]) for rows in people]


def has_detections(sample: Sample) -> bool:
    """Whether every view of the sample has 2D detections."""
    return bool(sample.views) and all(view.joints_px is not None for view in sample.views)


def observe(samples: Sequence[Sample], skeleton: Skeleton, threshold_px: float) -> Observations:
    """Collect the 2D detections of samples. If a view has several detections, people are associated across views.

    Args:
        samples: samples with ``joints_px`` in every view.
        skeleton: skeleton of the detections.
        threshold_px: maximum mean epipolar distance of detections of one person, see `associate`.

    Raises:
        InputError: the detections have other joints than the skeleton.

    Example:
        >>> seen = observe(samples, skeleton, threshold_px=15)
        >>> joints_mm = dlt(seen.P, seen.points_px, seen.confidence)  # (people, J, 3) world mm
    """
    views = max((len(sample.views) for sample in samples), default=0)
    joints = len(skeleton)
    points, confidence, P, owner = [], [], [], []
    for position, sample in enumerate(samples):
        px, weights = _detections(sample, skeleton)
        cameras = np.stack([view.camera.P for view in sample.views])
        counts = [len(of_view) for of_view in px]
        if max(counts) > 1:
            people = associate(cameras, px, weights, threshold_px)
        else:
            people = np.array([[count - 1 for count in counts]])
        for person in people:
            person_px, person_weights = np.full((views, joints, 2), np.nan), np.zeros((views, joints))
            person_P = np.zeros((views, 3, 4))
            for view in np.flatnonzero(person >= 0):
                person_px[view], person_weights[view] = px[view][person[view]], weights[view][person[view]]
                person_P[view] = cameras[view]
            points.append(person_px)
            confidence.append(person_weights)
            P.append(person_P)
            owner.append(position)
    return Observations(
        np.reshape(points, (len(owner), views, joints, 2)),
        np.reshape(confidence, (len(owner), views, joints)),
        np.reshape(P, (len(owner), views, 3, 4)),
        np.array(owner, dtype=np.intp),
    )


def _detections(sample: Sample, skeleton: Skeleton) -> tuple[list[Array], list[Array]]:
    """Undistorted points (N, J, 2), NaN where the confidence is 0, and confidences (N, J), one array per view."""
    px, weights = [], []
    for view in sample.views:
        joints = np.asarray(view.joints_px, dtype=np.float64)
        if joints.ndim != 3 or joints.shape[1:] != (len(skeleton), 2):
            raise InputError(
                f"sample {sample.key}, view {view.name}: joints_px",
                f"shape {joints.shape} is not (people, {len(skeleton)}, 2) as {skeleton.name} needs",
                "use the same skeleton for detections and predictions",
            )
        weight = np.ones(joints.shape[:2]) if view.confidence is None else np.nan_to_num(view.confidence)
        px.append(np.where((weight > 0)[..., None], view.camera.undistort(joints), np.nan))
        weights.append(np.maximum(weight, 0.0))
    return px, weights
