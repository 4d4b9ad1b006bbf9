"""Example frames of a data set: true poses, predictions of all rows, cameras, and a few images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from poseboard.datasets.files import read_npz
from poseboard.protocols.records import ResultError

PICTURE_BYTES = 40_000
"""Largest image."""
_ARRAYS = {
    "rows": ("r", "U"),
    "joints": ("j", "U"),
    "edges": ("e2", "iu"),
    "views": ("v", "U"),
    "keys": ("f", "U"),
    "actions": ("f", "U"),
    "sequences": ("f", "U"),
    "error_mm": ("rf", "f"),
    "picks": ("r3", "i"),
    "n_frames": ("1", "i"),
    "hardware": ("1", "U"),
    "anchor_mm": ("f3", "f"),
    "truth_mm": ("fj3", "f"),
    "predicted_mm": ("rfj3", "f"),
    "frusta_mm": ("fv53", "f"),
    "pictured": ("p", "i"),
    "picture_views": ("w", "i"),
    "truth_px": ("pwj2", "f"),
    "predicted_px": ("rpwj2", "f"),
    "jpegs": ("b", "u"),
    "jpeg_ends": ("pw", "i"),
}
"""Array -> its axes (a letter has the same length everywhere) and kinds of dtype."""
_INDICES = {"edges": "j", "picks": "f", "pictured": "f", "picture_views": "v"}
"""Array of indices -> axis that they refer to."""
PLACES = ("best", "median", "worst")
"""Columns of `Examples.picks`."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Example frames of a data set: true poses, predictions of R rows, cameras and images; the y axis points up.

    F frames of J joints and V cameras are recorded. P of these frames have images, from W of the cameras.

    Args:
        rows: (R,) names of the rows, sorted by error.
        joints: (J,) names of the joints.
        edges: (E, 2) joint indices of the limbs.
        views: (V,) names of the cameras.
        keys: (F,) sample keys, in the order of the split.
        actions: (F,) names of the actions.
        sequences: (F,) names of the sequences, with their subjects.
        n_frames: number of frames in the split, at least F.
        hardware: machine of the predictions.
        error_mm: (R, F) root-relative MPJPE; NaN: not predicted.
        picks: (R, 3) indices of the frames with a row's smallest, median and largest error; -1: not recorded.
        truth_mm: (F, J, 3) true joints; NaN: not annotated.
        predicted_mm: (R, F, J, 3) predicted joints; NaN: not predicted.
        frusta_mm: (F, V, 5, 3) camera centres, and corners of the images at 1 m depth; NaN: no image.
        pictured: (P,) indices of the frames with images.
        picture_views: (W,) indices of the cameras with images.
        images: P times W JPEG files.
        side_px: side of the images.
        truth_px: (P, W, J, 2) true joints in pixels of the images; NaN: not annotated.
        predicted_px: (R, P, W, J, 2) predicted joints in pixels of the images; NaN: not predicted.
    """

    rows: list[str]
    joints: list[str]
    edges: NDArray[np.int64]
    views: list[str]
    keys: list[str]
    actions: list[str]
    sequences: list[str]
    n_frames: int
    hardware: str
    error_mm: NDArray[np.float64]
    picks: NDArray[np.int64]
    truth_mm: NDArray[np.float64]
    predicted_mm: NDArray[np.float64]
    frusta_mm: NDArray[np.float64]
    pictured: list[int]
    picture_views: list[int]
    images: list[list[bytes]]
    side_px: int
    truth_px: NDArray[np.float64]
    predicted_px: NDArray[np.float64]


@dataclass(frozen=True)
class Overlay:
    """Crop with the predicted and the true skeleton as SVG paths in crop pixels."""

    view: str
    image: str
    predicted: str
    truth: str
    predicted_joints: tuple[tuple[str, str], ...]
    missing: bool


@dataclass(frozen=True)
class Example:
    """Frame with the smallest, median or largest error of a row, with its images and the address of its page."""

    place: str
    key: str
    address: str
    error_mm: float
    side_px: int
    overlays: tuple[Overlay, ...]


def read_examples(path: Path) -> Examples:
    """Read an examples file without executing code; raise ResultError with the file and array if it is damaged."""
    try:
        arrays = read_npz(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["damaged archive"])[0]
        raise ResultError(f"{path}: cannot be read ({reason}); run the compare stage again") from None
    lengths = {number: int(number) for number in "1235"}
    for name, (axes, kinds) in _ARRAYS.items():
        if name not in arrays:
            raise ResultError(f"{path}: {name}: array is missing")
        array = arrays[name]
        if array.ndim == len(axes):
            lengths |= {axis: n for axis, n in zip(axes, array.shape, strict=True) if axis not in lengths}
        expected = tuple(lengths.get(axis, 0) for axis in axes)
        if array.shape != expected or array.dtype.kind not in kinds:
            raise ResultError(f"{path}: {name}: is {array.dtype} {array.shape}, expected shape {expected}")
        lowest = -1 if name == "picks" else 0
        if (axis := _INDICES.get(name)) and array.size and not lowest <= array.min() <= array.max() < lengths[axis]:
            raise ResultError(f"{path}: {name}: has indices outside 0…{lengths[axis] - 1}")
    images = np.split(arrays["jpegs"].astype(np.uint8), arrays["jpeg_ends"].ravel())[:-1]
    files = [image.tobytes() for image in images]
    values: dict[str, Any] = {
        name: arrays[name].astype(np.float64) if kinds == "f" else arrays[name].tolist()
        for name, (_, kinds) in _ARRAYS.items()
        if kinds in "Uf"
    }
    values["hardware"] = arrays["hardware"].tolist()[0]
    # True poses are relative to a point of each frame, and predicted ones to the true ones.
    anchor_mm = values.pop("anchor_mm")[:, None]
    values["predicted_mm"] += np.nan_to_num(values["truth_mm"]) + anchor_mm
    values["truth_mm"] += anchor_mm
    values["predicted_px"] += np.nan_to_num(values["truth_px"])
    return Examples(
        edges=arrays["edges"].astype(np.int64),
        picks=arrays["picks"].astype(np.int64),
        n_frames=int(arrays["n_frames"][0]),
        pictured=arrays["pictured"].tolist(),
        picture_views=arrays["picture_views"].tolist(),
        images=[files[k : k + lengths["w"]] for k in range(0, len(files), max(lengths["w"], 1))],
        side_px=_side_of(path, files),
        **values,
    )


def _side_of(path: Path, files: Sequence[bytes]) -> int:
    """Side of the images in pixels, which must be square and of equal size; 1 without images."""
    sizes = {(1, 1)} if not files else set()
    try:
        for file in files:
            with Image.open(io.BytesIO(file), formats=["JPEG"]) as image:
                sizes.add(image.size)
    except (OSError, ValueError, Image.DecompressionBombError):
        sizes.clear()
    if len(sizes) != 1 or max(map(len, files), default=0) > PICTURE_BYTES or (size := sizes.pop())[0] != size[1]:
        raise ResultError(f"{path}: jpegs: are not square JPEG files of one size and at most {PICTURE_BYTES} bytes")
    return size[0]


def limb_path(points_px: np.ndarray, edges: np.ndarray) -> str:
    """Edges between finite joints as the ``d`` attribute of an SVG path."""
    ends = points_px[edges]
    ends = ends[np.isfinite(ends).all(axis=(1, 2))]
    return "".join(f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" for (x0, y0), (x1, y1) in ends)


def overlay(examples: Examples, row: int, picture: int, view: int, image: str) -> Overlay:
    """Overlay of the predicted and the true skeleton on one image of a row."""
    predicted = examples.predicted_px[row, picture, view]
    finite = predicted[np.isfinite(predicted).all(axis=1)]
    return Overlay(
        view=examples.views[examples.picture_views[view]],
        image=image,
        predicted=limb_path(predicted, examples.edges),
        truth=limb_path(examples.truth_px[picture, view], examples.edges),
        predicted_joints=tuple((f"{x:.1f}", f"{y:.1f}") for x, y in finite),
        missing=not len(finite),
    )
