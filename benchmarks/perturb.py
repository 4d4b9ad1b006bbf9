"""Perturbations of the input of a method, by kind, severity and seed: one step ``Sample -> Sample`` of the hand-over.

Random draws depend only on the seed, the kind, the view and the key of the sample, not on the row, the batch or the
other views. Draws for cameras and their clocks depend on the sequence instead of the key, because a rig with a wrong
calibration or synchronisation keeps it. Pixels are changed only when an image is read.

* Noise (detections, boxes, intrinsics, extrinsics, image_noise) is Gaussian. Detections move by a share of the longer
  side of the person's box. The principal point moves by a share of the focal length, like a rotation of the camera.
  Extrinsics noise changes only R and t: it rotates a camera about its centre, and moves the centre.
* outlier_views, left_right_swap and missing_cameras affect as many views of a sample as the severity says, drawn for
  each sample. Of several views, missing_cameras keeps at least two. An outlier is a detection beside the person: the
  box, together with its 2D detections, is shifted by the length of the box's longer side.
* left_right_swap is a common mistake of detectors on people who turn their back to the camera. It swaps the left and
  right labels of 2D detections. Images have no labels, so image and camera are mirrored together: the first row of K
  becomes negative, and every pixel keeps its ray while a left arm looks like a right one. Mirroring only the image
  would also move every joint.
* occlusion draws a grey box within each person's box and removes 2D detections inside the grey box.
* time_shift replaces images, boxes and detections of a camera by those of another frame of the sequence; the camera
  does not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Image, Sample, View
from poseboard.methods.base import Inputs
from poseboard.protocols.perturbation import MM_PER_DEGREE, Perturbation, PerturbationKind

Neighbour = Callable[[int], Sample | None]
"""The sample so many frames later in the same sequence, earlier below 0; None where there is none."""

CAMERA_KINDS: frozenset[PerturbationKind] = frozenset({"intrinsics", "extrinsics"})
"""Kinds that change cameras as a rig, for a whole sequence."""
PIXEL_KINDS: frozenset[PerturbationKind] = frozenset(
    {
        *("boxes", "outlier_views", "left_right_swap", "occlusion", "time_shift"),
        *("image_noise", "image_blur", "image_contrast", "image_compression"),
    }
)
"""Kinds after which the crop of a person holds other pixels."""

_GREY = 128


def perturb(
    sample: Sample, perturbation: Perturbation, flip_order: Sequence[int] = (), neighbour: Neighbour | None = None
) -> Sample:
    """Perturb a sample; severity 0 returns the same object.

    Args:
        sample: a sample with whole frames.
        perturbation: kind, severity and seed.
        flip_order: for each joint of the 2D detections, index of its left-right counterpart (`Skeleton.flip_order`).
        neighbour: function from a number of frames to the sample that much later (time_shift); None: no other sample.

    Example:
        >>> camera = Camera(np.diag([900.0, 900.0, 1.0]), np.eye(3), np.zeros(3))
        >>> views = tuple(View(name, camera, None, np.zeros((1, 4))) for name in "abc")
        >>> sample = Sample("key", views, Group("S1", "Walking", "Walking-1"))
        >>> moved = perturb(sample, Perturbation(kind="intrinsics", severity=1)).views[0].camera
        >>> (moved.K != camera.K).sum(), (moved.R == camera.R).all()
        (4, True)
        >>> len(perturb(sample, Perturbation(kind="missing_cameras", severity=1)).views)
        2
    """
    if perturbation.severity == 0:
        return sample
    amount, draw = perturbation.amount, _Draw(perturbation, sample)
    match perturbation.kind:
        case "missing_cameras":
            least = min(2, len(sample.views))
            struck = draw.views(min(round(amount), len(sample.views) - least))
            return replace(sample, views=tuple(view for view in sample.views if view.name not in struck))
        case "outlier_views":
            struck = draw.views(round(amount))
            views = [_off(view, draw.rng(view)) if view.name in struck else view for view in sample.views]
        case "left_right_swap":
            if list(flip_order) == sorted(flip_order):
                return sample  # of hands, say, whose joints have no other side
            struck = draw.views(round(amount))
            views = [_mirrored(view, flip_order) if view.name in struck else view for view in sample.views]
        case "time_shift":
            views = [_shifted(view, round(amount * draw.rng(view).uniform(-1, 1)), neighbour) for view in sample.views]
        case kind if kind in _OF_PIXELS:
            views = [_with_pixels(view, _Corruption(kind, amount, draw.name(view))) for view in sample.views]
        case kind:
            views = [_OF_VIEW[kind](view, amount, draw.rng(view)) for view in sample.views]
    return replace(sample, views=tuple(views))


def changes(before: Sample, after: Sample, inputs: Inputs) -> bool:
    """Whether a perturbation changed any of the inputs that a method declares.

    Args:
        before: sample before the perturbation.
        after: sample after the perturbation.
        inputs: inputs that the method declares.
    """
    if len(before.views) != len(after.views):
        return True
    return any(_differ(*pair, inputs) for pair in zip(before.views, after.views, strict=True))


def _differ(one: View, other: View, inputs: Inputs) -> bool:
    cameras = (one.camera, other.camera)
    pairs = [(one.joints_px, other.joints_px), (one.confidence, other.confidence)]
    if inputs.images and one.image is not None:
        pairs += [(one.boxes_px, other.boxes_px)]
        if one.image is not other.image:
            return True
    if inputs.intrinsics:
        pairs += [(cameras[0].K, cameras[1].K)]
    if inputs.extrinsics:
        pairs += [(cameras[0].R, cameras[1].R), (cameras[0].t, cameras[1].t)]
    return any(
        first is not second and (first is None or second is None or not np.array_equal(first, second, equal_nan=True))
        for first, second in pairs
    )


@dataclass(frozen=True)
class _Draw:
    """Random draws for the views of a sample."""

    perturbation: Perturbation
    sample: Sample

    def name(self, view: View) -> str:
        """Text that seeds the draws of a view: seed, kind, key or sequence, and view."""
        key, group = self.sample.key, self.sample.group
        if self.perturbation.kind in CAMERA_KINDS or self.perturbation.kind == "time_shift":
            key = f"{group.subject} {group.action} {group.sequence}"
        return f"{self.perturbation.seed} {self.perturbation.kind} {key} {view.name}"

    def rng(self, view: View) -> np.random.Generator:
        return _rng(self.name(view))

    def views(self, count: int) -> set[str]:
        """Draw ``count`` views; a larger count adds views to those of a smaller one."""
        drawn = sorted((self.rng(view).random(), view.name) for view in self.sample.views)
        return {name for _, name in drawn[:count]}


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def _sides(boxes_px: Array) -> Array:
    """Width and height (P, 2) of boxes (P, 4) in pixels."""
    return boxes_px[:, 2:] - boxes_px[:, :2]


def _longer_side(view: View) -> Array:
    """Longer side (P,) of each person's box in px; without a box, that of the 2D detections, or else 0."""
    side = _sides(view.boxes_px).max(axis=1)
    if view.joints_px is not None and view.joints_px.shape[1]:
        there = np.isfinite(view.joints_px)
        low = np.where(there, view.joints_px, np.inf).min(axis=1)
        high = np.where(there, view.joints_px, -np.inf).max(axis=1)
        extent = np.where(there.any(axis=1), high - low, 0.0).max(axis=1)
        side = np.where(np.isfinite(side), side, extent)
    return np.nan_to_num(side)


def _moved_detections(view: View, percent: float, rng: np.random.Generator) -> View:
    if view.joints_px is None:
        return view
    std_px = percent / 100 * _longer_side(view)[:, None, None]
    return replace(view, joints_px=view.joints_px + std_px * rng.standard_normal(view.joints_px.shape))


def _moved_boxes(view: View, percent: float, rng: np.random.Generator) -> View:
    """Shift boxes by a share of their sides, and scale them by a factor."""
    draws = percent / 100 * rng.standard_normal((len(view.boxes_px), 3))
    sides = _sides(view.boxes_px)
    centre = view.boxes_px[:, :2] + sides / 2 + draws[:, :2] * sides
    half = sides / 2 * np.exp(draws[:, 2:])
    return replace(view, boxes_px=np.concatenate([centre - half, centre + half], axis=1))


def _off(view: View, rng: np.random.Generator) -> View:
    """Shift every person's box and 2D detections by the longer side of the box, in a random direction."""
    rng.random()  # which chose the view
    angle = rng.uniform(0, 2 * np.pi, len(view.boxes_px))
    shift_px = _longer_side(view)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    joints_px = None if view.joints_px is None else view.joints_px + shift_px[:, None]
    return replace(view, boxes_px=view.boxes_px + np.tile(shift_px, 2), joints_px=joints_px)


def _mirrored(view: View, flip_order: Sequence[int]) -> View:
    """Swap left and right in 2D detections; in a view with an image, mirror the image and the camera, too."""
    order = list(flip_order)
    joints_px = None if view.joints_px is None else view.joints_px[:, order]
    confidence = None if view.confidence is None else view.confidence[:, order]
    if view.image is None:
        return replace(view, joints_px=joints_px, confidence=confidence)
    width = view.camera.size[0] or view.pixels().shape[1]
    mirror = np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    left, upper, right, lower = view.boxes_px.T
    mirrored = replace(
        view,
        camera=replace(view.camera, K=mirror @ view.camera.K),
        boxes_px=np.column_stack([width - right, upper, width - left, lower]),
        joints_px=None if joints_px is None else joints_px * (-1, 1) + (width - 1, 0),
        confidence=confidence,
    )
    return _with_pixels(mirrored, lambda image: np.ascontiguousarray(image[:, ::-1]))


def _other_intrinsics(view: View, percent: float, rng: np.random.Generator) -> View:
    draws = percent / 100 * rng.standard_normal(3)
    K = np.array(view.camera.K)
    focal_px = np.abs((K[0, 0], K[1, 1]))
    K[:2, :2] *= np.exp(draws[0])
    K[:2, 2] += draws[1:] * focal_px
    return replace(view, camera=replace(view.camera, K=K))


def _other_extrinsics(view: View, degrees: float, rng: np.random.Generator) -> View:
    turn = cv2.Rodrigues(np.deg2rad(degrees) * rng.standard_normal(3))[0]
    centre_mm = view.camera.centre_mm + degrees * MM_PER_DEGREE * rng.standard_normal(3)
    R = turn @ view.camera.R
    return replace(view, camera=replace(view.camera, R=R, t=-R @ centre_mm))


def _occluded(view: View, percent: float, rng: np.random.Generator) -> View:
    sides = _sides(view.boxes_px)
    corner = view.boxes_px[:, :2] + rng.random((len(sides), 2)) * (1 - percent / 100) * sides
    boxes_px = np.concatenate([corner, corner + percent / 100 * sides], axis=1)
    boxes_px = boxes_px[np.isfinite(boxes_px).all(axis=1)]
    if not len(boxes_px):
        return view
    if view.image is not None:
        view = _with_pixels(view, lambda image: _covered(image, boxes_px))
    if view.joints_px is None:
        return view
    x, y = view.joints_px[..., None, 0], view.joints_px[..., None, 1]
    left, upper, right, lower = boxes_px.T
    hidden = ((left <= x) & (x < right) & (upper <= y) & (y < lower)).any(axis=-1)
    confidence = np.ones(hidden.shape) if view.confidence is None else view.confidence
    return replace(
        view,
        joints_px=np.where(hidden[..., None], np.nan, view.joints_px),
        confidence=np.where(hidden, 0.0, confidence),
    )


def _covered(image: Image, boxes_px: Array) -> Image:
    covered = image.copy()
    for left, upper, right, lower in np.maximum(np.rint(boxes_px), 0).astype(int):
        covered[upper:lower, left:right] = _GREY
    return covered


def _shifted(view: View, frames: int, neighbour: Neighbour | None) -> View:
    """Take image, boxes and detections from the frame ``frames`` later, or the closest existing frame before that."""
    step = 1 if frames > 0 else -1
    for later in range(frames, 0, -step):
        other = None if neighbour is None else neighbour(later)
        same = next((one for one in other.views if one.name == view.name), None) if other is not None else None
        if same is not None:
            return replace(same, camera=view.camera)
    return view


def _with_pixels(view: View, change: Callable[[Image], Image]) -> View:
    """Change the image of a view when it is read."""
    return view if view.image is None else replace(view, image=lambda: change(view.pixels()))


@dataclass(frozen=True)
class _Corruption:
    """Deterministic change of the pixels (H, W, 3) uint8 of an image."""

    kind: PerturbationKind
    amount: float
    draws: str

    def __call__(self, image: Image) -> Image:
        return _OF_PIXELS[self.kind](image, self.amount, _rng(self.draws))


def _noisy(image: Image, grey_levels: float, rng: np.random.Generator) -> Image:
    return _bytes(image + np.float32(grey_levels) * rng.standard_normal(image.shape, dtype=np.float32))


def _blurred(image: Image, percent: float, rng: np.random.Generator) -> Image:
    sigma_px = percent / 100 * max(image.shape[:2])
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE), dtype=np.uint8)


def _flat(image: Image, percent: float, rng: np.random.Generator) -> Image:
    mean = image.mean(dtype=np.float64)
    return _bytes(mean + percent / 100 * (image - mean))


def _compressed(image: Image, quality: float, rng: np.random.Generator) -> Image:
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(quality)])[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)[..., ::-1])


def _bytes(values: NDArray[np.floating[Any]]) -> Image:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


_OF_VIEW: Mapping[PerturbationKind, Callable[[View, float, np.random.Generator], View]] = {
    "detections": _moved_detections,
    "boxes": _moved_boxes,
    "intrinsics": _other_intrinsics,
    "extrinsics": _other_extrinsics,
    "occlusion": _occluded,
}
_OF_PIXELS: Mapping[PerturbationKind, Callable[[Image, float, np.random.Generator], Image]] = {
    "image_noise": _noisy,
    "image_blur": _blurred,
    "image_contrast": _flat,
    "image_compression": _compressed,
}
