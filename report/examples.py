"""Examples: the best, the median and the worst sample of a row, with predicted and true skeleton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseboard.protocols.records import ResultError

_ARRAYS = {
    "images": ("nvss3", "u"),
    "truth_px": ("nvj2", "f"),
    "predicted_px": ("nvj2", "f"),
    "edges": ("e2", "iu"),
    "keys": ("n", "U"),
    "error_mm": ("n", "f"),
    "views": ("v", "U"),
}
"""Array -> its axes (a letter has the same length everywhere) and kinds of dtype."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Predictions and ground truth on the crops of N samples (V views, J joints, S px).

    Args:
        images: (N, V, S, S, 3) uint8 RGB.
        predicted_px: (N, V, J, 2) in crop pixels; NaN: not predicted.
        truth_px: (N, V, J, 2) in crop pixels; NaN: not annotated.
        edges: (E, 2) joint indices.
        keys: (N,) sample keys.
        error_mm: (N,) root-relative MPJPE; NaN: not predicted.
        views: (V,) camera names.
    """

    images: NDArray[np.uint8]
    predicted_px: NDArray[np.float64]
    truth_px: NDArray[np.float64]
    edges: NDArray[np.int64]
    keys: list[str]
    error_mm: NDArray[np.float64]
    views: list[str]


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


def read_examples(path: Path) -> Examples:
    """Read an examples file without executing code; ResultError names file and array."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, NDArray[Any]] = {name: archive[name] for name in _ARRAYS if name in archive}
    except Exception as error:  # zipfile, zlib and numpy raise many types for damaged or hostile files
        raise ResultError(f"{path}: cannot be read ({str(error).splitlines()[0] if str(error) else error!r})") from None
    lengths = {"2": 2, "3": 3}
    for name, (axes, kinds) in _ARRAYS.items():
        if name not in arrays:
            raise ResultError(f"{path}: {name}: array is missing")
        array = arrays[name]
        if array.ndim == len(axes):
            lengths |= {axis: n for axis, n in zip(axes, array.shape, strict=True) if axis not in lengths}
        expected = tuple(lengths.get(axis, 0) for axis in axes)
        if array.shape != expected or array.dtype.kind not in kinds:
            raise ResultError(f"{path}: {name}: is {array.dtype} {array.shape}, expected shape {expected}")
    edges = arrays["edges"].astype(np.int64)
    if edges.size and (edges.min() < 0 or edges.max() >= lengths["j"]):
        raise ResultError(f"{path}: edges: name joints outside 0…{lengths['j'] - 1}")
    return Examples(
        images=arrays["images"].astype(np.uint8),
        predicted_px=arrays["predicted_px"].astype(np.float64),
        truth_px=arrays["truth_px"].astype(np.float64),
        edges=edges,
        keys=[str(key) for key in arrays["keys"]],
        error_mm=arrays["error_mm"].astype(np.float64),
        views=[str(view) for view in arrays["views"]],
    )


def pick_examples(error_mm: Sequence[float] | np.ndarray) -> list[tuple[str, int]]:
    """Place and index of the best, median and worst sample by error, each once; a sample without error is worst."""
    errors = np.asarray(error_mm, dtype=np.float64)
    order = np.argsort(np.where(np.isfinite(errors), errors, np.inf), kind="stable").tolist()
    if not order:
        return []
    places = {"best": order[0], "worst": order[-1], "median": order[(len(order) - 1) // 2]}
    first_place = {k: place for place, k in reversed(places.items())}
    return [(place, k) for place in ("best", "median", "worst") if first_place[k := places[place]] == place]


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
