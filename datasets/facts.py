"""What is known of a data set beside its samples: whether it can be used, and what its numbers depend on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DataState = Literal["ready", "partial", "missing", "damaged"]
"""Of a data set at the time of a run."""

BoxSource = Literal["annotated", "detected", "true joints"]
"""Where the boxes of people come from: labels of the image (masks, by hand), a detector, or the true joints."""

TruthSource = Literal["motion capture", "triangulated", "annotated", "synthetic"]
"""Where the true poses come from: recorded, triangulated from 2D key points, annotated by hand, or rendered."""


@dataclass(frozen=True)
class Facts:
    """What a number on a split of a data set depends on, whatever a method is shown; its signature states them.

    Args:
        boxes: whose boxes. "true joints" tell a method of the truth: where the person is, and how large.
        truth: whose true poses.
        hand: whether a sample tells which hand it shows, see `Sample.hand`.

    Example:
        >>> Facts(boxes="detected", truth="triangulated")
        Facts(boxes='detected', truth='triangulated', hand=False)
    """

    boxes: BoxSource
    truth: TruthSource
    hand: bool = False
