"""The step of the hand-over that spoils what a method sees: a sample in, a sample out, by kind, severity and seed.

What is drawn depends on the seed, the kind, the view and the sample's key alone, whatever the row, the batch and the
other views; for cameras and their clocks on the sequence instead of the key, because a rig that is calibrated badly, or
out of step, stays so. Pixels are changed where an image is read, and not before.

* Noise (detections, boxes, intrinsics, extrinsics, image_noise) is Gaussian. Detections move by a share of the longer
  side of their person's box. The principal point moves by a share of the focal length, as a turned camera would.
  Extrinsics change R and t alone: a camera is turned about its own centre, and the centre is moved.
* outlier_views, left_right_swap and missing_cameras strike as many of a sample's views as the severity says, drawn for
  each sample. At least two views are left of several. An outlier is a detector that is off the person: the box, and
  given detections with it, lie a whole side of the box elsewhere.
* left_right_swap is what detectors do to people seen from behind. Of given detections the labels
  are swapped. Images bear no labels: there the view is mirrored, image and camera together (the first row of K turns
  negative), so that every pixel keeps its ray while a left arm looks like a right one. Mirroring the image alone would
  be no swap: it would move every joint as well.
* occlusion draws a grey box within each person's box; given detections below it are lost.
* time_shift takes images, boxes and detections of a camera from another frame of the sequence, and leaves the camera.
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
    """The sample as a perturbation leaves it; severity 0 leaves the same object.

    Args:
        sample: with whole frames.
        perturbation: kind, severity and seed.
        flip_order: of the joints of given detections, index of each one's mirror image (`Skeleton.flip_order`).
        neighbour: for time_shift; None: there is no other sample.

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
    """Whether a method with these inputs sees anything else after a perturbation than before.

    Args:
        before: the sample.
        after: as `perturb` left it.
        inputs: what the method declares.
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
    """Random numbers of a sample's views."""

    perturbation: Perturbation
    sample: Sample

    def name(self, view: View) -> str:
        """All that the draws of a view depend on."""
        key, group = self.sample.key, self.sample.group
        if self.perturbation.kind in CAMERA_KINDS or self.perturbation.kind == "time_shift":
            key = f"{group.subject} {group.action} {group.sequence}"
        return f"{self.perturbation.seed} {self.perturbation.kind} {key} {view.name}"

    def rng(self, view: View) -> np.random.Generator:
        return _rng(self.name(view))

    def views(self, count: int) -> set[str]:
        """Names of ``count`` views; of more views those of fewer, and some more."""
        drawn = sorted((self.rng(view).random(), view.name) for view in self.sample.views)
        return {name for _, name in drawn[:count]}


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def _sides(boxes_px: Array) -> Array:
    """Width and height of boxes (P, 4) -> (P, 2)."""
    return boxes_px[:, 2:] - boxes_px[:, :2]


def _longer_side(view: View) -> Array:
    """(P,) longer side of each person's box; of one without a box that of the given detections, 0 without either."""
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
    """With boxes whose places move by a share of their sides, and whose sizes change by a factor."""
    draws = percent / 100 * rng.standard_normal((len(view.boxes_px), 3))
    sides = _sides(view.boxes_px)
    centre = view.boxes_px[:, :2] + sides / 2 + draws[:, :2] * sides
    half = sides / 2 * np.exp(draws[:, 2:])
    return replace(view, boxes_px=np.concatenate([centre - half, centre + half], axis=1))


def _off(view: View, rng: np.random.Generator) -> View:
    """With every person's box, and given detections with it, a side of the box elsewhere."""
    rng.random()  # which chose the view
    angle = rng.uniform(0, 2 * np.pi, len(view.boxes_px))
    shift_px = _longer_side(view)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    joints_px = None if view.joints_px is None else view.joints_px + shift_px[:, None]
    return replace(view, boxes_px=view.boxes_px + np.tile(shift_px, 2), joints_px=joints_px)


def _mirrored(view: View, flip_order: Sequence[int]) -> View:
    """With left and right swapped in given detections; where there is an image the whole view is mirrored with it."""
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
    """With image, boxes and detections of another frame: the nearest one to ``frames`` later that is there."""
    step = 1 if frames > 0 else -1
    for later in range(frames, 0, -step):
        other = None if neighbour is None else neighbour(later)
        same = next((one for one in other.views if one.name == view.name), None) if other is not None else None
        if same is not None:
            return replace(same, camera=view.camera)
    return view


def _with_pixels(view: View, change: Callable[[Image], Image]) -> View:
    """With an image that is changed where it is read."""
    return view if view.image is None else replace(view, image=lambda: change(view.pixels()))


@dataclass(frozen=True)
class _Corruption:
    """A change of pixels, (H, W, 3) uint8, the same whenever it is applied."""

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
