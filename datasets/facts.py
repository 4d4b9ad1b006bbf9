"""Facts of a data set: whether it can be used, and what its numbers depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DataState = Literal["ready", "partial", "missing", "damaged"]
"""State of a data set at the time of a run."""

BoxSource = Literal["annotated", "detected", "true joints"]
"""Where the boxes of people come from: labels of the image (masks, by hand), a detector, or the true joints."""

TruthSource = Literal["motion capture", "triangulated", "annotated", "synthetic"]
"""Where the true poses come from: recorded, triangulated from 2D key points, annotated by hand, or rendered."""


@dataclass(frozen=True)
class Facts:
    """Facts of a split on which its numbers depend, for every method; signatures state the first two.

    Args:
        boxes: source of the boxes. Boxes from "true joints" show a method the true position and size of a person.
        truth: source of the true poses.
        hand: whether samples say which hand they show, see `Sample.hand`.
        associated: whether the same place among the boxes and detections of a sample's views is the same person. A
            detector that looks at each view alone finds people in any order, be they equally many by chance.

    Example:
        >>> Facts(boxes="detected", truth="triangulated")
        Facts(boxes='detected', truth='triangulated', hand=False, associated=True)
    """

    boxes: BoxSource
    truth: TruthSource
    hand: bool = False
    associated: bool = True
