"""Examples: the best, the median and the worst sample of a row, with predicted and true skeleton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from poseboard.report.results import Examples


@dataclass(frozen=True)
class Overlay:
    """One crop with predicted and true skeleton as SVG paths in crop pixels."""

    view: str
    image: str
    predicted: str
    truth: str
    predicted_joints: tuple[tuple[str, str], ...]
    missing: bool


@dataclass(frozen=True)
class Example:
    """One sample of the examples file: "best", "median" or "worst" by error, with all its views."""

    place: str
    key: str
    error_mm: float
    side_px: int
    overlays: tuple[Overlay, ...]


def pick_examples(error_mm: Sequence[float] | np.ndarray) -> list[tuple[str, int]]:
    """Place and index of the best, median and worst sample by error, each once; no error counts as worst."""
    errors = np.asarray(error_mm, dtype=np.float64)
    order = np.argsort(np.where(np.isfinite(errors), errors, np.inf), kind="stable")
    if not len(order):
        return []
    picks: dict[int, str] = {}
    for place, k in (("best", 0), ("worst", len(order) - 1), ("median", (len(order) - 1) // 2)):
        picks.setdefault(int(order[k]), place)
    return sorted(((p, k) for k, p in picks.items()), key=lambda pick: ("best", "median", "worst").index(pick[0]))


def limb_path(points_px: np.ndarray, edges: np.ndarray) -> str:
    """Edges between finite joints as the ``d`` of an SVG path."""
    ends = points_px[edges]
    ends = ends[np.isfinite(ends).all(axis=(1, 2))]
    return "".join(f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" for (x0, y0), (x1, y1) in ends)


def overlay(examples: Examples, sample: int, view: int, image: str) -> Overlay:
    """Predicted and true skeleton of one view."""
    predicted = examples.predicted_px[sample, view]
    finite = predicted[np.isfinite(predicted).all(axis=1)]
    return Overlay(
        view=examples.views[view],
        image=image,
        predicted=limb_path(predicted, examples.edges),
        truth=limb_path(examples.truth_px[sample, view], examples.edges),
        predicted_joints=tuple((f"{x:.1f}", f"{y:.1f}") for x, y in finite),
        missing=not len(finite),
    )
