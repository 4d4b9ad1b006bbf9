"""Plausibility checks over the samples of a subject or sequence that several cameras recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from poseboard.datasets.plausibility.labels import Finding, Labels

_OTHER = 0.25
"""Largest share of a subject's samples in which another calibration of a camera is odd."""


def check_constancy(labels: Labels) -> Iterator[Finding]:
    """Warn if K or the lens of a camera differs in few samples of a subject."""
    calibrations: dict[tuple[str, str], dict[tuple[bytes, bytes], list[str]]] = {}
    for sample in labels.samples:
        for view in sample.views if len(sample.views) > 1 else ():
            of_camera = calibrations.setdefault((view.name, sample.group.subject), {})
            of_camera.setdefault((view.camera.K.tobytes(), view.camera.dist.tobytes()), []).append(sample.key)
    for (name, subject), of_camera in calibrations.items():
        usual, *others = sorted(of_camera.values(), key=len, reverse=True)
        count = sum(map(len, others))
        if 0 < count <= _OTHER * (count + len(usual)):
            problem = f"{count} of {count + len(usual)} samples of {subject} have another K or lens than the rest"
            remedy = "check the calibration of these samples"
            yield Finding(f"camera {name}", problem, remedy, is_error=False, key=others[0][0])


def check_frames(labels: Labels) -> Iterator[Finding]:
    """Warn if the frame numbers of a sequence go back."""
    samples = [sample for sample in labels.samples if len(sample.views) > 1]
    back = [
        (before.key, sample.key)
        for before, sample in pairwise(samples)
        if before.group == sample.group and _number(sample.key) < _number(before.key)
    ]
    if back:
        problem = f"go back {len(back)} times, first after {back[0][0]}"
        yield Finding("frames", problem, "check the frame numbers of the labels", is_error=False, key=back[0][1])


def _number(key: str) -> int:
    """Last number of a key; 0 without one."""
    digits = re.findall(r"\d+", key)
    return int(digits[-1]) if digits else 0
