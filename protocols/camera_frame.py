"""Predicted and true people in one frame: the camera's if the input has one camera, else the world's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.protocols.base import TruthTable
from poseboard.protocols.predictions import PoseTable, positions

Array = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class People:
    """Predicted and true people of the samples that a table evaluates, in one frame.

    Args:
        pred: (N, J, 3) predicted people, mm; NaN = not predicted.
        pred_place: (N,) index of each predicted person's sample in the keys of the split.
        pred_row: (N,) row of each predicted person in the predictions.
        truth: (M, J, 3) true people, mm; NaN = not annotated.
        truth_place: (M,) index of each true person's sample in the keys of the split.
        view: camera of the frame; None: the world.
    """

    pred: Array
    pred_place: Places
    pred_row: Places
    truth: Array
    truth_place: Places
    view: str | None

    def take_predicted(self, rows: Places) -> People:
        """Copy with some rows of the predicted people."""
        return replace(self, pred=self.pred[rows], pred_place=self.pred_place[rows], pred_row=self.pred_row[rows])


def mapped_or_root(pred: PoseTable, joints: tuple[str, ...], skeleton: Skeleton) -> Array:
    """Predicted joints (N, J, 3), mm, by name; ("root",) is the root of ``skeleton``, also if only roots are predicted.

    Raises:
        InputError: the predictions lack a joint.
    """
    if joints != ROOT.joints or ROOT.joints[0] in skeleton.joints or pred.info.joints == ROOT.joints:
        return np.asarray(pred.mapped(joints), dtype=np.float64)
    return np.asarray(pred.mapped(skeleton.root_joints), dtype=np.float64).mean(axis=1, keepdims=True)


def true_or_root(truth: TruthTable, joints: tuple[str, ...]) -> Array:
    """True joints (M, J, 3), mm in the world frame, by name; ("root",) is the root, as in `mapped_or_root`."""
    if joints == ROOT.joints and ROOT.joints[0] not in truth.skeleton.joints:
        return np.asarray(truth.skeleton.root_of(truth.joints_mm), dtype=np.float64)[:, None]
    return np.asarray(truth.mapped(joints), dtype=np.float64)


def gather(pred: PoseTable, truth: TruthTable, joints: tuple[str, ...]) -> People:
    """Collect the people of the evaluated samples in one frame: of the camera if the input has one, else the world.

    Raises:
        InputError: a key is unknown, a joint is absent, or a pose is in the frame of a camera that is not in the input
            or does not see the sample.
    """
    place = positions(pred, truth.split_keys)
    chosen = np.ones(len(truth.split_keys), dtype=bool) if truth.chosen is None else truth.chosen
    rows = np.flatnonzero(chosen[place])
    joints_mm = mapped_or_root(pred, joints, truth.skeleton)[rows]
    true_mm, place = true_or_root(truth, joints), place[rows]
    seen = pred.info.condition.cameras
    view = seen[0] if len(seen) == 1 and truth.seen_by is not None else None
    frame = pred.frame[rows]
    wrong = (frame != "world") & (frame != view)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(
            f"{pred.source}: frame",
            f"{int(wrong.sum())} records are in the frame of {frame[first]!r}, first {pred.keys[rows[first]]!r}",
            f"predict in the frame of an input camera: {', '.join(seen)}",
        )
    if view is not None and truth.seen_by is not None:
        of_world = np.flatnonzero(frame == "world")
        joints_mm = joints_mm.copy()
        joints_mm[of_world] = in_camera(truth, view, joints_mm[of_world], place[of_world])
        true_mm = in_camera(truth, view, true_mm, truth.place)
        unseen = truth.seen_by.place[place, truth.views.index(view)] < 0
        if unseen.any():
            raise InputError(
                f"{pred.source}: frame",
                f"{int(unseen.sum())} records are of samples that {view!r} does not see, first "
                f"{pred.keys[rows[int(np.argmax(unseen))]]!r}",
                "leave out these samples, or name another camera",
            )
    return People(joints_mm, place, rows, true_mm, truth.place, view)


def in_camera(truth: TruthTable, view: str, points_mm: Array, place: Places) -> Array:
    """Transform world points (N, J, 3), mm, of samples (N,) to the frame of a view; NaN if a sample lacks the view."""
    moved = np.full(points_mm.shape, np.nan)
    assert truth.seen_by is not None
    for camera, rows in truth.seen_by.each(truth.views.index(view), place):
        moved[rows] = camera.to_camera(points_mm[rows])
    return moved


def pixels(truth: TruthTable, view: str, points_mm: Array, place: Places) -> Array:
    """Project points (N, J, 3), mm in the frame of a view, to pixels (N, J, 2); NaN behind the camera."""
    z = np.where(points_mm[..., 2:] > 0, points_mm[..., 2:], np.nan)
    seen = np.full((*points_mm.shape[:-1], 2), np.nan)
    assert truth.seen_by is not None
    for camera, rows in truth.seen_by.each(truth.views.index(view), place):
        seen[rows] = camera.image(points_mm[rows, :, :2] / z[rows])
    return seen
