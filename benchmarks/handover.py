"""Hand-over of samples to a method: a chain of pure steps ``Sample -> Sample`` that makes the method's input.

choose cameras -> perturb -> one sample per person -> crop -> turn -> rescale -> withhold. No other code changes the
input of a method. A method that takes one person at a time gets one sample per person, with a key that does not reveal
the other people. Its predictions are merged afterwards.

A method without extrinsics gets samples that do not identify a camera, frame or file. Keys, groups and camera names are
opaque. Samples, and the views within a sample, are in random order. Images are arrays or handles without a path. For a
method of several views, views are also rescaled, so that K and the image size do not identify the camera (`rescale`).
Samples with the same cameras that the method may use together have the same opaque rig name and order of views.

Trust model. All random choices depend on a salt: a hash of the data set's manifest (keys, truth, cameras) and of the
chosen cameras. So every machine computes the same scores, and all methods get the same draws. A method does not get the
salt, but the code is public. Three things are not hidden: the background can show which camera took an image; lens
coefficients identify the camera of a distorted image; the edges of a whole frame show its scale. One method object
predicts all samples of a condition, so it can also recognise a rig from its own estimates.

These steps prevent accidental leaks. They are not a sandbox: the code of a row runs in this process and can reach
module globals, files, the stack and the data set. Read the code of a row before you trust its scores. Submitted
predictions are not protected at all, because the code of a submission is not run.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import overload
from weakref import WeakKeyDictionary

import cv2
import numpy as np

from poseboard.benchmarks.perturb import CAMERA_KINDS, PIXEL_KINDS, changes, perturb
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.crops import CropStore
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import (
    CAMERA_COLUMNS,
    Dataset,
    Group,
    Image,
    ImageSource,
    Poses,
    Resampling,
    Sample,
    Truth,
    View,
    read_image,
    skeleton_of_truth,
)
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, declared_inputs, is_separable
from poseboard.protocols.perturbation import Perturbation

Progress = Callable[[int, int], None]

KEPT_VIEWS = 20_000
"""Views whose cameras and boxes are kept between two uses of a sample: some kilobytes each, pixels apart."""

SCALE = 0.02
"""Largest relative change of an axis; several times the differences between focal lengths of a rig."""
MARGIN = 0.14
"""Least margin of the black canvas, as a share of the frame's side. The frame is placed on it at random."""
CANVAS_STEP_PX = 64
"""Sides of a canvas are multiples of it, so that frames of slightly different sizes have the same."""
FRAME_PX = 1000
"""Side of a frame that has no image and no known size."""

LOOKED_AT = 64
"""Samples of a split, evenly strided, whose cameras tell where up is."""

WITHHELD = Group("withheld", "withheld", "withheld")
"""Group of a sample for methods without extrinsics."""


def choose_cameras(sample: Sample, cameras: Sequence[str]) -> Sample:
    """Keep the views of some cameras, in the order of ``cameras``; cameras without a view are skipped.

    Example:
        >>> camera = Camera(np.eye(3), np.eye(3), np.zeros(3))
        >>> views = tuple(View(name, camera, None, np.zeros((1, 4))) for name in "abc")
        >>> sample = Sample("key", views, Group("S1", "Walking", "Walking-1"))
        >>> [view.name for view in choose_cameras(sample, ("c", "a", "x")).views]
        ['c', 'a']
    """
    by_name = {view.name: view for view in sample.views}
    return replace(sample, views=tuple(by_name[name] for name in cameras if name in by_name))


def count_people(sample: Sample) -> int:
    """Number of people in a sample, equal in all views; 1 for a sample without views.

    Args:
        sample: a sample whose people are associated across views (`Facts.associated`).

    Raises:
        InputError: the views have different numbers of people.
    """
    counts = {view.name: len(view.boxes_px) for view in sample.views}
    if len(set(counts.values())) > 1:
        by_view = ", ".join(f"{count} in {name}" for name, count in counts.items())
        raise InputError(
            f"{sample.key}: people",
            f"{by_view}, but the data set declares people as associated across views",
            "give each view a row per person, NaN for a person who is not visible",
        )
    return next(iter(counts.values()), 1)


def one_person(sample: Sample, person: int) -> Sample:
    """Keep one person of a sample, and only the views that show the person; an unknown root is NaN.

    Args:
        sample: a sample with the same order of people in every view.
        person: index of the person.
    """
    views = tuple(_of_person(view, person) for view in sample.views if _shows(view, person))
    root_mm = sample.root_mm
    if root_mm is not None:
        root_mm = root_mm[person : person + 1] if person < len(root_mm) else np.full((1, 3), np.nan)
    return replace(sample, views=views, root_mm=root_mm)


def _of_person(view: View, person: int) -> View:
    only = slice(person, person + 1)
    return replace(
        view,
        boxes_px=view.boxes_px[only],
        joints_px=None if view.joints_px is None else view.joints_px[only],
        confidence=None if view.confidence is None else view.confidence[only],
        box_scores=None if view.box_scores is None else view.box_scores[only],
    )


def _shows(view: View, person: int) -> bool:
    """Whether the view has a box or a 2D detection of the person."""
    detected = view.joints_px is not None and bool(np.isfinite(view.joints_px[person]).any())
    return detected or bool(np.isfinite(view.boxes_px[person]).all())


def without_images(sample: Sample) -> Sample:
    """Remove the images of a sample; keep cameras, boxes and detections."""
    return replace(
        sample, views=tuple(view if view.image is None else replace(view, image=None) for view in sample.views)
    )


def crop(
    sample: Sample,
    side_px: int,
    box_scale: float = 1.0,
    resampling: Resampling = "area",
    stored: Callable[[str], Image | None] | None = None,
) -> Sample:
    """Replace each view by a square crop of the person; camera and 2D detections are adapted (`View.crop`).

    Args:
        sample: a sample of one person.
        side_px: side of the crops in pixels.
        box_scale: factor on the size of the box.
        resampling: interpolation of the pixels (`View.crop`).
        stored: function from the name of a view to its stored crop, or None; saves decoding the image.

    Raises:
        InputError: an image cannot be read, or a view has no box.
    """

    def cropped(view: View) -> View:
        if not np.isfinite(view.boxes_px).all():
            raise InputError(f"{sample.key}: view {view.name}", "has a person without a box", "leave the view out")
        pixels = None if view.image is None or stored is None else stored(view.name)
        if pixels is None:
            return view.crop(side_px, box_scale, resampling=resampling)
        return replace(replace(view, image=None).crop(side_px, box_scale, resampling=resampling), image=pixels)

    return replace(sample, views=tuple(map(cropped, sample.views)))


@dataclass(frozen=True)
class RigGroup:
    """Group of samples with the same cameras, which a method may use together.

    Args:
        keys: keys of the samples, in the order of the data set.
        cameras: names of the cameras, in the order of `choose_cameras`.
    """

    keys: tuple[str, ...]
    cameras: tuple[str, ...]

    def names(self, salt: bytes = b"") -> dict[str, str]:
        """Map cameras to opaque names, in the random order of the group's views.

        Args:
            salt: seed of the random order.

        Example:
            >>> RigGroup(("S9/Walking-1/000001",), ("a", "b", "c")).names(b"salt")
            {'b': 'view-0', 'c': 'view-1', 'a': 'view-2'}
        """
        order = _rng(salt, "views", self.keys[0]).permutation(len(self.cameras)).tolist()
        return {self.cameras[place]: f"view-{i}" for i, place in enumerate(order)}


def rig_groups(samples: Iterable[Sample], most: int) -> list[RigGroup]:
    """Divide samples with equal cameras into as few groups of at most ``most`` samples as possible.

    If n groups are needed, each gets every n-th sample, so that it covers the whole sequence. Two cameras are equal if
    their names, intrinsics, lens coefficients and poses are equal. Groups are in the order of their first samples.

    Args:
        samples: samples with all people, in the data set's order.
        most: maximum size of a group.

    Example:
        >>> camera = Camera(np.eye(3), np.eye(3), np.zeros(3))
        >>> views = (View("a", camera, None, np.zeros((1, 4))),)
        >>> samples = [Sample(key, views, Group("S1", "Walking", "Walking-1")) for key in "pqrst"]
        >>> [group.keys for group in rig_groups(samples, 2)]
        [('p', 's'), ('q', 't'), ('r',)]
    """
    by_rig: dict[tuple[tuple[str, ...], tuple[bytes, ...]], list[str]] = {}
    for sample in samples:
        names = tuple(view.name for view in sample.views)
        by_rig.setdefault((names, tuple(_calibration(view.camera) for view in sample.views)), []).append(sample.key)
    groups: list[RigGroup] = []
    for (names, _), keys in by_rig.items():
        count = -(-len(keys) // most)
        groups += [RigGroup(tuple(keys[first::count]), names) for first in range(count)]
    return groups


def _calibration(camera: Camera) -> bytes:
    return camera.distortion.encode() + b"".join(a.tobytes() for a in (camera.K, camera.R, camera.t, camera.dist))


def rescale(
    sample: Sample, salt: bytes, *, crops: bool, group: RigGroup | None = None, person: int | None = None
) -> Sample:
    """Scale each view in x and y by random factors within 1 ± `SCALE`; adapt K and 2D detections.

    Every pixel keeps its ray, so 3D positions in the camera frame do not change, but fx, fy and fx / fy no longer
    identify the camera. The factors are drawn once per view of a rig group, so averaging over its frames reveals
    nothing. Each crop is also shifted at random, because boxes in whole pixels would reveal the factors.

    * A crop keeps its size and its box. Its edge pixels are repeated beyond the edge.
    * A whole frame is placed at random on a larger black canvas without being cut. The sides of its boxes change by two
      further factors, because a box of known shape, such as a square, would reveal the first two.

    Args:
        sample: sample after the previous steps.
        salt: seed of the random factors.
        crops: True for crops of one person, False for whole frames.
        group: samples that the method may use with this one; None: none.
        person: index of the person in the crop.
    """
    rig = sample.key if group is None else group.keys[0]

    def rescaled(view: View) -> View:
        of_rig = _rng(salt, "scale", rig, view.name).uniform(1 - SCALE, 1 + SCALE, (2, 2))
        place = _rng(salt, "place", sample.key, str(person), view.name).uniform(size=(2, 2))
        return _rescaled_crop(view, of_rig[0], place[0]) if crops else _rescaled_frame(view, of_rig, place)

    return replace(sample, views=tuple(map(rescaled, sample.views)))


def _rescaled_crop(view: View, factors: Array, place: Array) -> View:
    """Scale a crop about its centre, and shift it by less than 1 % of its side."""
    size = np.array(view.camera.size)
    A = _scaling(factors, (1 - factors) * size / 2 + (2 * place - 1) * size * SCALE / 2)
    changed = _transformed(view, A, view.camera.size, cv2.BORDER_REPLICATE)
    return replace(changed, boxes_px=view.boxes_px)


def _rescaled_frame(view: View, factors: Array, place: Array) -> View:
    """Place a scaled frame on its canvas; without an image, the camera has no image size."""
    size = np.array(view.camera.size)
    if view.image is not None and not size.all():
        size = np.array(view.pixels().shape[1::-1])
    sides = np.where(size > 0, size, FRAME_PX)
    canvas = -(-sides * (1 + MARGIN) // CANVAS_STEP_PX).astype(int) * CANVAS_STEP_PX
    A = _scaling(factors[0], place[0] * (canvas - factors[0] * sides))
    at = (0, 0) if view.image is None else (int(canvas[0]), int(canvas[1]))
    changed = _transformed(view, A, at, cv2.BORDER_CONSTANT)
    low, high = changed.boxes_px[:, :2], changed.boxes_px[:, 2:]
    middle, half = (low + high) / 2 + place[1] - 0.5, (high - low) / 2 * factors[1]
    return replace(changed, boxes_px=np.concatenate([middle - half, middle + half], axis=1))


def _scaling(factors: Array, shift_px: Array) -> Array:
    """Affine transform (3, 3): scale in x and y, then shift."""
    return np.array([[factors[0], 0.0, shift_px[0]], [0.0, factors[1], shift_px[1]], [0.0, 0.0, 1.0]])


def _transformed(view: View, A: Array, size: tuple[int, int], border: int) -> View:
    """Apply an affine transform (3, 3) without rotation to a view; images are still read lazily."""

    def moved(image: Image) -> Image:
        return np.asarray(cv2.warpAffine(image, A[:2], size, flags=cv2.INTER_CUBIC, borderMode=border), dtype=np.uint8)

    image = view.image
    if isinstance(image, np.ndarray):
        image = moved(image)
    elif image is not None:
        image = partial(_read_then, view.pixels, moved)
    scale, shift = A[[0, 1], [0, 1]], A[:2, 2]
    return replace(
        view,
        camera=replace(view.camera, K=A @ view.camera.K, size=size),
        image=image,
        boxes_px=view.boxes_px * np.tile(scale, 2) + np.tile(shift, 2),
        joints_px=None if view.joints_px is None else view.joints_px * scale + shift,
    )


def _read_then(read: Callable[[], Image], change: Callable[[Image], Image]) -> Image:
    return change(read())


def withhold(
    sample: Sample,
    inputs: Inputs,
    nonce: bytes = b"",
    person: int | None = None,
    group: RigGroup | None = None,
    salt: bytes = b"",
) -> Sample:
    """Copy a sample with only the declared inputs.

    For a method without extrinsics, the key, the group and the names of the views are replaced, the views are in random
    order, and images have no path. The order depends only on the salt and the keys, so it is the same for all people of
    a sample and all samples of a group. Crops are copied because a slice of a memory map gives access to all crops.

    Args:
        sample: sample after the previous steps.
        inputs: inputs that the method declares.
        nonce: secret of the hashes that replace keys.
        person: index of the person in a sample of several people; None: one person. The new key hides the index.
        group: samples that the method may use with this one; None: none.
        salt: seed of the random order of the views.
    """
    changed = replace(
        sample,
        views=tuple(_declared(view, inputs) for view in sample.views),
        root_mm=None if inputs.root == "none" else _read_only(sample.root_mm),
        hand=sample.hand if inputs.hand else None,
    )
    name = sample.key if person is None else f"{sample.key} {person}"
    if inputs.extrinsics:
        views = tuple(
            replace(view, image=view.image.copy()) if isinstance(view.image, np.ndarray) else view
            for view in changed.views
        )
        return replace(changed, key=sample.key if person is None else _opaque(name, b""), views=views)
    by_name = {view.name: view for view in changed.views}
    names = (group or RigGroup((sample.key,), tuple(by_name))).names(salt)
    views = tuple(
        replace(by_name[camera], name=withheld, image=_detached(by_name[camera].image))
        for camera, withheld in names.items()
        if camera in by_name
    )
    return replace(changed, key=_opaque(name, nonce), group=WITHHELD, views=views)


def _declared(view: View, inputs: Inputs) -> View:
    camera = view.camera
    if not (inputs.intrinsics and inputs.extrinsics):
        camera = camera.withhold(intrinsics=not inputs.intrinsics, extrinsics=not inputs.extrinsics)
    # Three times as fast as `replace`; this runs for every view.
    return View(
        name=view.name,
        camera=camera,
        image=view.image if inputs.images else None,
        boxes_px=_read_only(view.boxes_px),
        joints_px=_read_only(view.joints_px),
        confidence=_read_only(view.confidence),
        box_scores=_read_only(view.box_scores),
    )


def _opaque(name: str, nonce: bytes, what: str = "sample") -> str:
    return f"{what}-{hashlib.blake2b(name.encode(), key=nonce, digest_size=8).hexdigest()}"


def _rng(salt: bytes, *names: str) -> np.random.Generator:
    """Random generator seeded by the salt and by names."""
    return np.random.default_rng(int.from_bytes(_digest(salt, *names), "big"))


def _digest(salt: bytes, *names: str) -> bytes:
    return hashlib.blake2b("\n".join(names).encode(), key=salt, digest_size=16).digest()


@overload
def _read_only(array: Array) -> Array: ...
@overload
def _read_only(array: None) -> None: ...
def _read_only(array: Array | None) -> Array | None:
    """Read-only copy without a reference to another array."""
    if array is None:
        return None
    copy = np.array(array)
    copy.setflags(write=False)
    return copy


class _Handle:
    """Reader of an image that hides its path."""

    __slots__ = ("__weakref__",)

    def __call__(self) -> Image:
        source = _SOURCES[self]
        return read_image(source) if isinstance(source, Path) else source()


_SOURCES: WeakKeyDictionary[_Handle, Path | Callable[[], Image]] = WeakKeyDictionary()


def _detached(image: ImageSource | None) -> ImageSource | None:
    """Image source with the same pixels but without a path, camera or memory map."""
    if image is None:
        return None
    if isinstance(image, np.ndarray):
        return image.copy()
    handle = _Handle()
    _SOURCES[handle] = image
    return handle


def truth_of(truth: Truth, person: int) -> Truth:
    """Ground truth of one person, with joints_mm (1, J, 3)."""
    only = slice(person, person + 1)
    return replace(
        truth,
        joints_mm=truth.joints_mm[only],
        seen={view: seen[only] for view, seen in truth.seen.items()},
        annotated={view: points[only] for view, points in truth.annotated.items()},
    )


@dataclass(frozen=True, eq=False)
class Transfer:
    """Skeleton and world rotation for applying weights that were trained on another data set.

    Args:
        skeleton: skeleton of the training data set, and of the predictions.
        turn: (3, 3) rotation from this world's vertical axis to the training data set's.
    """

    skeleton: Skeleton
    turn: Array


def turn_world(sample: Sample, turn: Array) -> Sample:
    """Rotate the world frame of a sample, ``X' = turn @ X``, without changing projections.

    Example:
        >>> camera = Camera(np.eye(3), np.eye(3), np.zeros(3))
        >>> view = View("a", camera, None, np.zeros((1, 4)))
        >>> sample = Sample("key", (view,), Group("S1", "Walking", "Walking-1"), root_mm=np.array([[0.0, 0.0, 5.0]]))
        >>> turn_world(sample, np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])).root_mm
        array([[ 0., -5.,  0.]])
    """
    views = tuple(replace(view, camera=replace(view.camera, R=view.camera.R @ turn.T)) for view in sample.views)
    root_mm = None if sample.root_mm is None else sample.root_mm @ turn.T
    return replace(sample, views=views, root_mm=root_mm)


def turn_back(poses: Poses, turn: Array) -> Poses:
    """Undo `turn_world` in predictions; predictions in a camera frame are returned unchanged."""
    if poses.frame != "world":
        return poses
    columns = dict(poses.columns)
    if "camera_R" in columns:
        columns["camera_R"] = columns["camera_R"] @ turn
    return replace(poses, joints_mm=poses.joints_mm @ turn, columns=columns)


def transfer(dataset: Dataset, origin: Dataset) -> Transfer:
    """Transfer of weights trained on the data set ``origin`` to another data set."""
    return Transfer(origin.skeleton, turn_between(up_axis(dataset), up_axis(origin)))


def up_axis(dataset: Dataset) -> Array:
    """Upward axis (3,) of a data set's world: the signed coordinate axis closest to "up" in its images.

    Example: (0, 0, 1) for Human3.6M, (0, -1, 0) for CMU Panoptic.

    Raises:
        InputError: no sample has a view.
    """
    for split in dataset.splits:
        keys = dataset.keys(split)
        samples = map(dataset.sample, keys[:: max(1, len(keys) // LOOKED_AT)])
        down = [view.camera.R[1] for sample in samples for view in sample.views]
        if down:
            mean = np.mean(down, axis=0)
            axis = int(np.abs(mean).argmax())
            return np.asarray(-np.sign(mean[axis]) * np.eye(3)[axis])
    raise InputError(
        f"data set {dataset.name}",
        "no sample has a view, so its vertical axis is unknown",
        "add samples with at least one view",
    )


def turn_between(a: Array, b: Array) -> Array:
    """Rotation (3, 3) about a coordinate axis that maps one signed axis to another.

    Example:
        >>> turn_between(np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0])) @ [0.0, 0.0, 5.0]
        array([ 0., -5.,  0.])
    """
    if (a == b).all():
        return np.eye(3)
    if (a == -b).all():
        about = np.roll(np.abs(a), 1)
        return np.asarray(2 * np.outer(about, about) - np.eye(3))
    about = np.cross(a, b)
    return np.asarray(np.outer(b, a) - np.outer(a, b) + np.outer(about, about))


def poses_of(poses: Poses, person: int) -> Poses:
    """Keep the prediction of one person."""
    only = slice(person, person + 1)
    columns = {name: values[only] for name, values in poses.columns.items()}
    return replace(poses, joints_mm=poses.joints_mm[only], score=poses.score[only], columns=columns)


def merge_people(predictions: Sequence[Poses], skeleton: Skeleton, key: str) -> Poses:
    """Merge the predictions of a sample's people, in their order.

    A single prediction is returned unchanged. A person without a prediction becomes NaN with score 0, so that the index
    of the other people does not change. If all predictions are empty, so is the result.

    Args:
        predictions: one per person, each with one person or empty.
        skeleton: skeleton of an empty result.
        key: key of the sample, for errors.

    Raises:
        InputError: a prediction has several people, or predictions differ in frame or columns.

    Example:
        >>> one = Poses(HUMAN36M, np.zeros((1, 17, 3)), np.ones(1))
        >>> missed = Poses(HUMAN36M, np.zeros((0, 17, 3)), np.ones(0))
        >>> merge_people([one, missed, one], HUMAN36M, "key").score
        array([1., 0., 1.])
    """
    if len(predictions) == 1:
        return predictions[0]
    nonempty = [poses for poses in predictions if len(poses.score)]
    if not nonempty:
        return Poses(skeleton, np.empty((0, len(skeleton), 3)), np.empty(0))
    crowded = next((poses for poses in nonempty if len(poses.score) > 1), None)
    if crowded is not None:
        raise InputError(
            f"{key}: people",
            f"{len(crowded.score)} predicted for a sample of one person",
            "predict one, or declare people: all",
        )
    if len(frames := {poses.frame: None for poses in nonempty}) > 1:
        raise InputError(
            f"{key}: frame", f"people are predicted in {', '.join(frames)}", "predict all in the same frame"
        )
    shapes = {name: np.shape(values)[1:] for name, values in nonempty[0].columns.items()}
    if any({name: np.shape(values)[1:] for name, values in poses.columns.items()} != shapes for poses in nonempty):
        raise InputError(f"{key}: columns", "differ between people", "return the same columns for each person")

    gaps = replace(
        nonempty[0],
        joints_mm=np.full((1, *nonempty[0].joints_mm.shape[1:]), np.nan),
        score=np.zeros(1),
        columns={name: np.full((1, *shape), np.nan) for name, shape in shapes.items()},
    )
    whole = [poses if len(poses.score) else gaps for poses in predictions]
    return replace(
        gaps,
        joints_mm=np.concatenate([poses.joints_mm for poses in whole]),
        score=np.concatenate([poses.score for poses in whole]),
        columns={name: np.concatenate([poses.columns[name] for poses in whole]) for name in shapes},
    )


class Handover:
    """The chain of steps that turns a data set into the input of a method.

    Args:
        dataset: data set to predict or train on.
        inputs: inputs that the method declares.
        crops: folder of the crop store.
        cameras: names of the input cameras, in order; None: all.
        roots_mm: key -> (P, 3) root positions predicted by another method, for ``inputs.root == "predicted"``.
        progress: called while crops are decoded.
        perturbation: perturbation of the input; None: none.
        frames_per_rig: maximum number of samples with the same cameras to use together; the method may declare fewer.
        transfer: transfer of weights from another data set; None: the weights were trained on this data set.

    Attributes:
        dataset: the whole data set, which a method never gets.
        skeleton: skeleton of the predictions.
        inputs: a frozen copy of the inputs.
        cameras: names of the input cameras.
        frames_per_rig: number of samples to use together.

    Raises:
        InputError: there are fewer cameras than the method needs, predicted roots are missing, or a method of one
            person at a time gets people who are not associated across views.

    Example:
        >>> handover = Handover(dataset, Inputs(crop_px=96), folder)  # doctest: +SKIP
        >>> samples = handover.samples("S9/Walking-1/000123")  # one per person  # doctest: +SKIP
        >>> handover.merge("S9/Walking-1/000123", method.predict(samples))  # doctest: +SKIP
    """

    def __init__(
        self,
        dataset: Dataset,
        inputs: Inputs,
        crops: Path,
        cameras: Sequence[str] | None = None,
        roots_mm: Mapping[str, Array] | None = None,
        progress: Progress | None = None,
        perturbation: Perturbation | None = None,
        frames_per_rig: int = 1,
        transfer: Transfer | None = None,
    ) -> None:
        inputs = declared_inputs(inputs, "method")
        fewest, most = inputs.views
        chosen = tuple(dataset.views if cameras is None else cameras)[:most]
        if len(chosen) < fewest:
            raise InputError(f"views {', '.join(chosen)}", f"the method needs at least {fewest}", "choose more cameras")
        if inputs.root == "predicted" and roots_mm is None:
            raise InputError(
                "inputs.root", "the method needs predicted roots", "set `after` to a row that predicts roots"
            )
        if len(chosen) > 1 and not is_separable(dataset, inputs):
            raise InputError(
                f"{dataset.name}: people",
                "are not associated across views",
                "use a method that sees all people (people: all in its Inputs), or one view",
            )
        self.dataset, self.inputs, self.cameras = dataset, inputs, chosen
        self.frames_per_rig = min(inputs.frames_per_rig, frames_per_rig)
        self.skeleton = dataset.skeleton if transfer is None else transfer.skeleton
        self._turn = None if transfer is None else transfer.turn
        self._roots_mm, self._perturbation = roots_mm, perturbation
        self._store: CropStore | None = None
        other_pixels = perturbation is not None and perturbation.kind in PIXEL_KINDS  # of which no crop is stored
        if inputs.crop_px is not None and inputs.images and not other_pixels:
            self._store = CropStore(dataset, inputs.crop_px, inputs.box_scale, crops, progress, inputs.resampling)
        self._nonce = secrets.token_bytes(16)
        self._kept: OrderedDict[tuple[str, int | None], Sample] = OrderedDict()
        self._groups: dict[str, dict[str, RigGroup]] = {}

    def rigs(self, keys: Sequence[str]) -> list[tuple[str, ...]]:
        """Group the keys of samples with the same cameras, which a method may use together.

        Groups are in the order of ``keys``, or in random order for a method without extrinsics.
        """
        if not self.inputs.extrinsics:
            keys = sorted(keys, key=lambda key: _digest(self._salt, "samples", key))
        if self.frames_per_rig == 1:
            return [(key,) for key in keys]
        together: dict[RigGroup, list[str]] = {}
        for key in keys:
            together.setdefault(self._group(key), []).append(key)
        return [tuple(of_group) for of_group in together.values()]

    @cached_property
    def _salt(self) -> bytes:
        """Seed of the random choices that are hidden from methods without extrinsics; the same on every machine."""
        return hashlib.sha256("\n".join((self.dataset.manifest(), *self.cameras)).encode()).digest()

    def _group(self, key: str) -> RigGroup:
        """Rig group of a sample."""
        if self.frames_per_rig == 1:
            return rig_groups([self._with_cameras(key)], 1)[0]
        split = self._places[key][0]
        if split not in self._groups:
            of_cameras = self._perturbation is not None and self._perturbation.kind in CAMERA_KINDS
            of_rig = self._perturbed if of_cameras else self._with_cameras
            whole = (of_rig(one) for one in self.dataset.keys(split))
            self._groups[split] = {one: group for group in rig_groups(whole, self.frames_per_rig) for one in group.keys}
        return self._groups[split][key]

    def samples(self, key: str) -> tuple[Sample, ...]:
        """Input of the method for a key: one sample per person, or one sample with all people.

        Raises:
            InputError: the key is unknown, an image cannot be read, or people are not associated across views.
        """
        people = self.people(key)
        return tuple(self.sample(key, person, others=len(people) > 1) for person in people)

    def merge(self, key: str, answers: Sequence[Poses], skeleton: Skeleton | None = None) -> Poses:
        """Merge the predictions for `samples` into one prediction with the original camera names.

        Recovered cameras are put in the order of `cameras`, with NaN for cameras without a view of the sample.

        Args:
            key: key of the sample.
            answers: one prediction per sample of `samples`.
            skeleton: skeleton of the predictions; None: `Handover.skeleton`.

        Raises:
            InputError: a frame does not name a view, recovered cameras do not match the views, or the predictions of
                the people have different frames or columns.
        """
        in_view = not self.inputs.extrinsics and any(answer.frame != "world" for answer in answers)
        if in_view or any(name in answer.columns for answer in answers for name in CAMERA_COLUMNS):
            people = self.people(key)
            answers = [self._with_camera_names(key, *pair) for pair in zip(people, answers, strict=True)]
        if self._turn is not None:
            answers = [turn_back(answer, self._turn) for answer in answers]
        return merge_people(answers, skeleton or self.skeleton, key)

    def examples(self, split: str = "train", *, each_view: bool = False) -> Examples:
        """Training samples of a split with their ground truth: one per person, or one per person and view."""
        return Examples(self, split, each_view=each_view)

    def people(self, key: str) -> Sequence[int | None]:
        """Indices of the people, one sample each; [None] if the method takes all people at once."""
        return [None] if self.inputs.people == "all" else range(count_people(self.dataset.sample(key)))

    def sample(self, key: str, person: int | None = None, *, others: bool = False) -> Sample:
        """Input of the method for one sample, after the whole chain.

        Args:
            key: key of the sample.
            person: index of a person (`people`); None: all people.
            others: whether the sample has other people; the new key then hides the index.
        """
        prepared, alone = self._prepared(key, person), self.inputs.frames_per_rig == 1
        group = RigGroup((key,), tuple(view.name for view in prepared.views)) if alone else self._group(key)
        salt, nonce = (b"", b"") if self.inputs.extrinsics else (self._salt, self._nonce)
        of = person if others else None
        sample = withhold(prepared, inputs=self.inputs, nonce=nonce, person=of, group=group, salt=salt)
        return replace(sample, rig=None if alone else _opaque(group.keys[0], nonce, "rig"))

    def _prepared(self, key: str, person: int | None) -> Sample:
        """Sample after all steps except `withhold`.

        Samples are cached for training, up to `KEPT_VIEWS` views, unless their pixels are in memory (rescaled crops).
        """
        if (kept := self._kept.get((key, person))) is not None:
            return kept
        inputs = self.inputs
        sample = replace(self.dataset.sample(key), root_mm=self._root_mm(key))
        sample = choose_cameras(sample, self.cameras)
        if self._perturbation is not None:
            sample = self._perturb(sample)
        if person is not None:
            sample = one_person(sample, person)
        if not inputs.images:
            sample = without_images(sample)
        if inputs.crop_px is not None:
            stored = None if self._store is None else partial(self._store.pixels, key, person=person or 0)
            sample = crop(sample, inputs.crop_px, inputs.box_scale, inputs.resampling, stored)
        if self._turn is not None:
            sample = turn_world(sample, self._turn)
        if self._is_rescaled:
            group = None if inputs.frames_per_rig == 1 else self._group(key)
            sample = rescale(sample, self._salt, crops=inputs.crop_px is not None, group=group, person=person)
        if not any(isinstance(view.image, np.ndarray) and view.image.base is None for view in sample.views):
            self._kept[key, person] = sample
            while len(self._kept) * len(self.cameras) > KEPT_VIEWS:
                self._kept.popitem(last=False)
        return sample

    @property
    def _is_rescaled(self) -> bool:
        """Whether K or the image size of a view could identify its camera.

        Monocular methods are exempt: a single view says nothing about other cameras, and they need the exact box, from
        whose area RootNet infers the distance. A crop without K does not identify the camera, but the size of a frame
        does.
        """
        inputs = self.inputs
        return not inputs.extrinsics and inputs.views[1] > 1 and (inputs.intrinsics or inputs.crop_px is None)

    def is_perturbed(self, keys: Iterable[str]) -> bool:
        """Whether the perturbation changes any declared input of these samples."""
        if self._perturbation is None:
            return False
        return any(changes(whole, self._perturb(whole), self.inputs) for whole in map(self._with_cameras, keys))

    def _with_cameras(self, key: str) -> Sample:
        return choose_cameras(self.dataset.sample(key), self.cameras)

    def _perturbed(self, key: str) -> Sample:
        """Whole sample with the perturbation applied, if any."""
        return self._with_cameras(key) if self._perturbation is None else self._perturb(self._with_cameras(key))

    def _perturb(self, sample: Sample) -> Sample:
        assert self._perturbation is not None
        neighbour = partial(self._neighbour, sample)
        return perturb(sample, self._perturbation, self.dataset.skeleton.flip_order, neighbour)

    def _neighbour(self, sample: Sample, frames: int) -> Sample | None:
        """Sample ``frames`` later in the same sequence, by the frame number at the end of the key; None: missing.

        A method of one person at a time gets no neighbour of a sample of several people, because people are not
        associated between frames.
        """
        before, slash, frame = sample.key.rpartition("/")
        if not frame.isdecimal():
            return None
        key = f"{before}{slash}{int(frame) + frames:0{len(frame)}d}"
        if key not in self._places or self._places[key][0] != self._places[sample.key][0]:
            return None
        other = self._with_cameras(key)
        alone = all(len(view.boxes_px) == 1 for view in (*sample.views, *other.views))
        return other if other.group == sample.group and (alone or self.inputs.people == "all") else None

    def _root_mm(self, key: str) -> Array | None:
        if self.inputs.root == "truth":
            return skeleton_of_truth(self.dataset).root_of(self.dataset.truth(key).joints_mm)
        if self.inputs.root == "predicted" and self._roots_mm is not None:
            return self._roots_mm.get(key)
        return None

    def _with_camera_names(self, key: str, person: int | None, answer: Poses) -> Poses:
        of_rig, shown = self._views_of(key, person)
        answer = replace(answer, columns=self._of_cameras(key, of_rig, shown, answer.columns))
        seen = {name: camera for name, camera in of_rig.items() if camera in shown}
        if self.inputs.extrinsics or answer.frame == "world":
            return answer
        if answer.frame not in seen:
            raise InputError(
                f"{key}: frame",
                f"prediction is in frame {answer.frame!r}, which is not a view of the sample",
                f"predict in the frame of a view: {', '.join(seen)}",
            )
        return replace(answer, frame=seen[answer.frame])

    def _views_of(self, key: str, person: int | None) -> tuple[dict[str, str], list[str]]:
        """Map names of views to cameras in the order of the method's input; also the cameras that show the person."""
        whole = self._perturbed(key)
        shown = [view.name for view in (whole if person is None else one_person(whole, person)).views]
        group = RigGroup((key,), tuple(shown)) if self.inputs.frames_per_rig == 1 else self._group(key)
        if self.inputs.extrinsics:
            return dict(zip(group.cameras, group.cameras, strict=True)), shown
        return {withheld: camera for camera, withheld in group.names(self._salt).items()}, shown

    def _of_cameras(
        self, key: str, of_rig: Mapping[str, str], shown: Sequence[str], columns: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Reorder recovered cameras in the columns of a prediction from the order of views to that of `cameras`.

        A method may recover the cameras of all views of the rig, or only of views that show the person.
        """
        every = list(of_rig.values())
        of_person = [camera for camera in every if camera in shown]
        ordered = dict(columns)
        for column, shape in CAMERA_COLUMNS.items():
            if column not in columns:
                continue
            values = columns[column]
            cameras = next((names for names in (every, of_person) if values.shape[1:] == (len(names), *shape)), None)
            if cameras is None:
                raise InputError(
                    f"{key}: {column}",
                    f"is {values.shape}, for {len(every)} views",
                    f"return (people, {', '.join(map(str, (len(every), *shape)))}), in the order of the views",
                )
            ordered[column] = np.full((len(values), len(self.cameras), *shape), np.nan)
            ordered[column][:, [self.cameras.index(camera) for camera in cameras]] = values
        return ordered

    @cached_property
    def _places(self) -> dict[str, tuple[str, int]]:
        """Map keys to (split, index in the split)."""
        splits = self.dataset.splits
        return {key: (split, place) for split in splits for place, key in enumerate(self.dataset.keys(split))}


class Examples:
    """Training samples of a split with their ground truth, as input of a method: one per person, or with all people.

    Args:
        handover: chain of steps that makes the samples.
        split: split of the data set.
        each_view: whether each view of a sample is a training sample by itself (`Learner`).

    Raises:
        InputError: the numbers of boxes and of annotated people differ, or people are not associated across views.
    """

    def __init__(self, handover: Handover, split: str, *, each_view: bool = False) -> None:
        self._handover = handover
        self._places: list[tuple[str, int | None, bool, slice]] = []
        for key in handover.dataset.keys(split):
            people = handover.people(key)
            some = people if len(people) == 1 else self._with_a_view(key, people)
            for person in some:
                views = [slice(None)]
                if each_view:
                    views = [slice(view, view + 1) for view in range(len(self._views(key, person)))]
                self._places += [(key, person, len(people) > 1, view) for view in views]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> tuple[Sample, Truth]:
        """Sample and ground truth at an index; joints (P, J, 3), with P = 1 for samples of one person."""
        key, person, others, views = self._places[place]
        truth = self._handover.dataset.truth(key)
        sample = self._handover.sample(key, person, others=others)
        return replace(sample, views=sample.views[views]), truth if person is None else truth_of(truth, person)

    def _with_a_view(self, key: str, people: Sequence[int | None]) -> Sequence[int | None]:
        """People who are visible in at least one camera."""
        annotated = len(self._handover.dataset.truth(key).joints_mm)
        if annotated != len(people):
            raise InputError(
                f"{key}: people", f"{len(people)} boxes and {annotated} annotated people", "give one box per person"
            )
        return [person for person in people if self._views(key, person)]

    def _views(self, key: str, person: int | None) -> tuple[View, ...]:
        """Views that show a person, or all views for person None."""
        sample = choose_cameras(self._handover.dataset.sample(key), self._handover.cameras)
        return (sample if person is None else one_person(sample, person)).views
