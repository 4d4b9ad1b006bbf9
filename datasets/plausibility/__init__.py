"""Plausibility checks of a data set: cameras, true poses, boxes, detections and images.

Each check is a pure function of `Labels`, the samples and truths of one split, and yields `Finding`s: errors for data
that cannot be right, warnings for data that is odd. docs/data-checks.md lists the checks with their bounds. `CHECKS`
lists causes before effects: labels in metres, for example, also have short bones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from poseboard.datasets.plausibility.cameras import check_intrinsics, check_rigs
from poseboard.datasets.plausibility.images import check_image
from poseboard.datasets.plausibility.labels import (
    BODY_MM,
    HAND_MM,
    UNITS,
    Finding,
    Labels,
    extents_mm,
    scale_to,
)
from poseboard.datasets.plausibility.poses import (
    check_bones,
    check_distance,
    check_numbers,
    check_order,
    check_proportions,
    check_sides,
    check_size,
)
from poseboard.datasets.plausibility.sequences import check_constancy, check_frames
from poseboard.datasets.plausibility.views import (
    check_annotations,
    check_boxes,
    check_detections,
    check_epipolar,
    check_images,
    check_places,
    check_projection,
    check_swapped,
    check_upright,
)

__all__ = [
    "BODY_MM",
    "CHECKS",
    "HAND_MM",
    "UNITS",
    "Finding",
    "Labels",
    "check_image",
    "extents_mm",
    "findings",
    "scale_to",
]

CHECKS: tuple[Callable[[Labels], Iterator[Finding]], ...] = (
    check_intrinsics,
    check_constancy,
    check_frames,
    check_numbers,
    check_size,
    check_distance,
    check_bones,
    check_order,
    check_proportions,
    check_sides,
    check_rigs,
    check_swapped,
    check_projection,
    check_images,
    check_places,
    check_upright,
    check_boxes,
    check_annotations,
    check_detections,
    check_epipolar,
)
"""All checks, in the order of reporting."""


def findings(labels: Labels) -> Iterator[tuple[str, Finding]]:
    """Run all checks in the order of `CHECKS`, and yield each finding with the name of its check.

    Example:
        >>> list(findings(Labels(samples, truths, HUMAN36M, dataset.facts("test"))))
        []
    """
    for check in CHECKS:
        with np.errstate(all="ignore"):  # damaged numbers are what the checks look for
            found = list(check(labels))
        yield from ((check.__name__, finding) for finding in found)
