"""Facts of a data set: its state, and the sources of boxes and truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DataState = Literal["ready", "partial", "missing", "damaged"]
"""State of a data set's folder, see `sample.Status`."""

BoxSource = Literal["annotated", "detected", "true joints"]
"""Source of the boxes: labels of the image (masks, by hand), a detector, or the true joints."""

TruthSource = Literal["motion capture", "triangulated", "annotated", "synthetic", "none"]
"""Source of the true poses: recorded, triangulated from 2D key points, annotated by hand, or rendered; none."""


@dataclass(frozen=True)
class Facts:
    """Facts of a split that influence all its numbers. Signatures state the sources of boxes and true poses.

    Args:
        boxes: source of the boxes. Boxes from "true joints" leak the true position and size of a person.
        truth: source of the true poses.
        hand: whether samples state left or right hand, see `Sample.hand`.
        associated: whether row p is the same person in all views of a sample. False if a detector processes each view
            separately, so that people are in any order.
        rate_hz: frames per second if keys of the split are consecutive frames; None: they are not, or it is unknown.

    Example:
        >>> Facts(boxes="detected", truth="triangulated")
        Facts(boxes='detected', truth='triangulated', hand=False, associated=True, rate_hz=None)
    """

    boxes: BoxSource
    truth: TruthSource
    hand: bool = False
    associated: bool = True
    rate_hz: float | None = None
