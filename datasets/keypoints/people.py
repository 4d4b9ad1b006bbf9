"""2D detections of all cameras of a rig as arrays.

A joint is missing if it has no position, or a confidence that is not above 0: its position is NaN and its confidence 0.
Coordinates are pixels of the distorted image, x to the right, y down, as the detector wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError, did_you_mean

Integers = NDArray[np.int64]
Scale = Literal["unit", "percent", "logit", "clip"]
"""Scale of confidences: 0 to 1, 0 to 100, logits, or any scale cut to 0 to 1."""

_SLACK = 0.2
"""Confidences may lie outside 0 to 1 by this much: heat map peaks of RTMPose and SLEAP do. They are cut."""
_FARTHEST_PX = 1e6


@dataclass(frozen=True)
class Options:
    """Options of the readers, for what a file does not state.

    Args:
        joints: joint set in `joint_sets.JOINT_SETS` of files without joint names; None: by the number of joints.
        confidence: scale of the confidences; None: 0 to 1, and other values are an error.
    """

    joints: str | None = None
    confidence: Scale | None = None

    def __post_init__(self) -> None:
        if self.confidence is not None and self.confidence not in get_args(Scale):
            remedy = did_you_mean(str(self.confidence), get_args(Scale))
            raise InputError("confidence", f"{self.confidence} is not a scale of confidence", remedy)


@dataclass(frozen=True, eq=False)
class People:
    """2D detections of one camera, sorted by frame: n people over all frames.

    Args:
        frame: (n,) frame number of each detected person.
        xy_px: (n, J, 2) joints, px; NaN for a missing joint.
        confidence: (n, J) in 0 to 1; 0 for a missing joint.
        person: (n,) identity of the person over the frames; -1 if the detector does not track people.
    """

    frame: Integers
    xy_px: Array
    confidence: Array
    person: Integers

    def __post_init__(self) -> None:
        n = len(self.frame)
        joints = self.confidence.shape[-1]
        shapes = (self.frame.shape, self.person.shape, self.xy_px.shape, self.confidence.shape)
        if shapes != ((n,), (n,), (n, joints, 2), (n, joints)):
            raise ValueError(f"shapes of frame, person, xy_px, confidence are {shapes}")

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, eq=False)
class Keypoints:
    """2D detections of all cameras.

    Args:
        joints: names of the J joints.
        cameras: detections by camera name.
        remarks: what the reader assumed or changed, one sentence each.

    Example:
        >>> people = People(np.array([0]), np.zeros((1, 2, 2)), np.ones((1, 2)), np.array([-1]))
        >>> print(*Keypoints(("nose", "neck"), {"cam1": people}).summary(), sep="; ")
        cam1: 1 person in 1 frame (0 to 0), 100 % of joints detected, median confidence 1.00
    """

    joints: tuple[str, ...]
    cameras: Mapping[str, People]
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, people in self.cameras.items():
            if people.confidence.shape[1] != len(self.joints):
                raise ValueError(f"{name}: {people.confidence.shape[1]} joints, not {len(self.joints)}")

    def summary(self) -> list[str]:
        """One line per camera: people, frames, share of detected joints, confidence."""
        return [f"{name}: {_summary(people)}" for name, people in self.cameras.items()]

    def renamed(self, names: Mapping[str, str], where: str) -> Keypoints:
        """Replace joint names.

        Args:
            names: new name by old name.
            where: setting with the names, for errors.

        Raises:
            InputError: an old name is not a joint, or a new name occurs twice.
        """
        for name in names:
            if name not in self.joints:
                raise InputError(where, f"{name} is not a joint of the detections", did_you_mean(name, self.joints))
        joints = tuple(names.get(joint, joint) for joint in self.joints)
        double = next((joint for joint in joints if joints.count(joint) > 1), None)
        if double is not None:
            raise InputError(where, f"two joints would be named {double}", "choose another name for one of them")
        return Keypoints(joints, self.cameras, self.remarks)


@dataclass
class Cleaner:
    """Checks and conversions that all formats share. Remarks for the user are collected in ``remarks``.

    Args:
        scale: scale of the confidences, see `Options`.
    """

    scale: Scale | None
    remarks: list[str] = field(default_factory=list)

    def people(self, frame: Any, xy_px: Array, confidence: Array, person: Any, where: str) -> People:
        """Check the detections of a camera, mark missing joints, leave out people without joints, and sort by frame.

        Args:
            frame: (n,) frame numbers.
            xy_px: (n, J, 2) joints, px.
            confidence: (n, J) as in the file.
            person: (n,) identity of the person; -1: not tracked.
            where: file, for errors.

        Raises:
            InputError: confidences are on another scale, or coordinates are not pixels.
        """
        frame, person = np.asarray(frame, dtype=np.int64), np.asarray(person, dtype=np.int64)
        score = self._rescaled(np.asarray(confidence, dtype=np.float64), where)
        xy = np.asarray(xy_px, dtype=np.float64)
        if np.isinf(xy).any():
            raise InputError(f"{where}: coordinates", "are infinite", "write NaN for a missing joint")
        missing = ~(np.isfinite(xy).all(axis=-1) & (score > 0))
        xy, score = np.where(missing[..., None], np.nan, xy), np.where(missing, 0.0, score)
        _check_pixels(xy[~missing], where)
        rows = np.flatnonzero(~missing.all(axis=1))
        rows = rows[np.argsort(frame[rows], kind="stable")]
        return People(frame[rows], xy[rows], score[rows], person[rows])

    def _rescaled(self, confidence: Array, where: str) -> Array:
        if np.isinf(confidence).any():
            raise InputError(f"{where}: confidence", "is infinite", "write NaN for a missing joint")
        finite = confidence[np.isfinite(confidence)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        if self.scale == "logit":
            with np.errstate(over="ignore"):
                return 1 / (1 + np.exp(-confidence))
        if self.scale == "clip":
            return np.clip(confidence, 0, 1)
        top = 100.0 if self.scale == "percent" else 1.0
        if not (-_SLACK * top <= low and high <= (1 + _SLACK) * top):
            remedy = "state the scale: --confidence percent (0 to 100), logit, or clip (cut to 0 to 1)"
            raise InputError(f"{where}: confidence", f"lies in {low:.4g} to {high:.4g}, not 0 to {top:g}", remedy)
        if low < 0 or high > top:
            count = int(((finite < 0) | (finite > top)).sum())
            self.remarks.append(f"{where}: {count} confidences in {low:.3g} to {high:.3g} are cut to 0 to {top:g}")
        return np.clip(confidence / top, 0, 1)


def _check_pixels(xy_px: Array, where: str) -> None:
    if not len(xy_px):
        return
    farthest = float(np.abs(xy_px).max())
    if farthest > _FARTHEST_PX:
        raise InputError(
            f"{where}: coordinates", f"reach {farthest:.4g} px, outside of any image", "write pixels of the image"
        )
    if len(xy_px) > 10 and farthest <= 1.5:
        remedy = "multiply by the image size (OpenPose: --keypoint_scale 0)"
        raise InputError(f"{where}: coordinates", f"are at most {farthest:.3g}: not pixels", remedy)


def _summary(people: People) -> str:
    if not len(people):
        return "no people"
    frames = np.unique(people.frame)
    detected = people.confidence > 0
    return (
        f"{len(people)} {'person' if len(people) == 1 else 'people'} in "
        f"{len(frames)} frame{'s' if len(frames) != 1 else ''} ({frames[0]} to {frames[-1]}), "
        f"{100 * detected.mean():.0f} % of joints detected, "
        f"median confidence {np.median(people.confidence[detected]):.2f}"
    )
