"""Rendered Hand Pose (Zimmermann and Brox, ICCV 2017): rendered images of one or two hands, in the published layout.

On disk, below one root (``RHD_published_v2``), for the sets ``training`` and ``evaluation``:

    <set>/anno_<set>.pickle     number -> {uv_vis: 42 x 3 px px 0|1, xyz: 42 x 3 m in the camera's frame, K: 3 x 3}
    <set>/color/%05d.png        320 x 320
    <set>/mask/%05d.png         0 background, 1 person, 2 to 17 left hand, 18 to 33 right hand

Each image has one camera. The world frame is the camera frame. Each hand has 21 key points, the left hand first. As in
the release of epipolar transformers, the first key point, the wrist, is replaced by the palm: the mean of the wrist and
the base of the middle finger.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.adapter import Adapter
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import DataState, Facts
from poseboard.datasets.files import files_sha256, read_bytes
from poseboard.datasets.sample import HANDS, Group, Sample, Truth, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.datasets.unpickle import read_pickle

_FINGERS = ("thumb", "index", "middle", "ring", "little")
_PARTS = ("tip", "upper", "lower", "base")

RHD_HAND = Skeleton(
    name="rhd-21",
    joints=("palm", *(f"{finger}_{part}" for finger in _FINGERS for part in _PARTS)),
    edges=tuple(
        edge
        for finger in _FINGERS
        for edge in (
            ("palm", f"{finger}_base"),
            (f"{finger}_base", f"{finger}_lower"),
            (f"{finger}_lower", f"{finger}_upper"),
            (f"{finger}_upper", f"{finger}_tip"),
        )
    ),
    root="palm",
    flip_pairs=(),
)
"""Joint set of one hand: 21 key points, each finger from tip to base."""

SETS = {"train": "training", "test": "evaluation"}

_COPY = "extract the published archive again"
_SIZE = (320, 320)
_HAND = len(RHD_HAND)
_MIDDLE_BASE = RHD_HAND.joints.index("middle_base")
_FIRST_RIGHT_LABEL = 18
_SIDE_PX = (50.0, 256.0)
"""Minimum and maximum side of a box. The release clips the side to 50 … 500 and the factor to 256 px to 1 … 10."""
_RELEASED_SIDE_PX = (50.0, 500.0)


class Rhd(Adapter):
    """Adapter of RHD, with one sample per image.

    The action of a sample's group is "left hand", "right hand" or "both hands". Every image is a sequence.

    Args:
        root: folder with ``training/`` and ``evaluation/``.
        hands: "dominant": the hand with more pixels in the mask (ties: right), as in the release of epipolar
            transformers. "both": every hand with a visible key point, left first.
        boxes: "hand": square centred at the base of the middle finger; half the side is the largest distance of a
            visible key point along either axis. "compat": boxes of the release, see `released_box`, for weights that
            were trained on such boxes. Both kinds are computed from the true key points.
    """

    name = "rhd"
    title = "Rendered Hand Pose"
    licence = "see the data set's page"
    obtain = "download RHD_published_v2 from the Rendered Handpose Dataset page of the Freiburg computer vision group"
    skeleton = RHD_HAND
    views = ("camera",)

    def __init__(
        self,
        root: Path,
        hands: Literal["dominant", "both"] = "dominant",
        boxes: Literal["hand", "compat"] = "hand",
    ) -> None:
        super().__init__(root)
        self._hands, self._boxes = hands, boxes
        self._hands_by_key: dict[str, tuple[int, ...]] = {}

    def inspect(self) -> tuple[DataState, str]:
        """Ready if the annotations can be read and each set has its first and last image and mask."""
        annotated = [name for name in SETS.values() if self._annotation_path(name).is_file()]
        if not annotated:
            return "missing", f"no {self._annotation_path('training')}"
        sets = {name: self._sets[name] for name in annotated}
        absent = [f"{name}/anno_{name}.pickle" for name in SETS.values() if name not in annotated]
        for name, of_set in sets.items():
            for number in (of_set.numbers[0], of_set.numbers[-1]):
                files = [f"{name}/{kind}/{number:05d}.png" for kind in ("color", "mask")]
                absent += [file for file in files if not (self.root / file).is_file()]
        if absent:
            return "partial", f"{absent[0]} is missing"
        count = sum(len(of_set.numbers) for of_set in sets.values())
        gaps = sum(of_set.numbers[-1] + 1 for of_set in sets.values()) - count
        source = {"hand": "about the hand", "compat": "as in the release of epipolar transformers"}
        left_out = f"; left out: {gaps} pictures without annotations" if gaps else ""
        return "ready", f"{count} pictures; boxes {source[self._boxes]}{left_out}"

    def content_sha256(self) -> str:
        """SHA-256 of the annotations and the options."""
        paths = [self._annotation_path(name) for name in SETS.values()]
        return files_sha256(f"{self._hands} {self._boxes}", paths, self.obtain)

    def facts(self, split: str) -> Facts:
        """Facts of a split. Boxes enclose the true key points; poses are rendered. Samples of one hand name it."""
        return Facts(boxes="true joints", truth="synthetic", hand=True)

    def keys(self, split: str) -> Sequence[str]:
        """Keys of "train" ("training/00000", …) or "test" ("evaluation/00000", …), by image number."""
        self.check_split(split)
        name = SETS[split]
        return [f"{name}/{number:05d}" for number in self._sets[name].numbers]

    def sample(self, key: str) -> Sample:
        """Sample of one image, with a box per hand.

        Raises:
            InputError: the key is unknown, or the mask that determines the dominant hand cannot be read.
        """
        of_set, row, folder = self._row(key)
        hands = self._hands_of(key)
        box = released_box if self._boxes == "compat" else _box
        boxes = np.array([box(of_set.uv_px[row, hand], of_set.visible[row, hand]) for hand in hands]).reshape(-1, 4)
        camera = Camera(of_set.K[row], np.eye(3), np.zeros(3), size=_SIZE)
        view = View(self.views[0], camera, folder / "color" / f"{key.partition('/')[2]}.png", boxes)
        action = f"{HANDS[hands[0]]} hand" if len(hands) == 1 else "both hands"
        hand = HANDS[hands[0]] if len(hands) == 1 else None
        return Sample(key, (view,), Group(self.name, action, key), hand=hand)

    def truth(self, key: str) -> Truth:
        """True poses (hands, 21, 3), mm in the camera frame, in the order of the boxes; includes hidden key points."""
        of_set, row, _ = self._row(key)
        hands = list(self._hands_of(key))
        x, y = np.moveaxis(of_set.uv_px[row, hands], -1, 0)
        directions = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(of_set.K[row]).T
        return Truth(
            of_set.joints_mm[row, hands],
            {self.views[0]: of_set.visible[row, hands]},
            {self.views[0]: directions[..., :2] / directions[..., 2:]},
        )

    def _annotation_path(self, name: str) -> Path:
        return self.root / name / f"anno_{name}.pickle"

    @cached_property
    def _sets(self) -> _Sets:
        return _Sets(self._annotation_path)

    def _row(self, key: str) -> tuple[_Annotations, int, Path]:
        match = re.fullmatch(r"(training|evaluation)/([0-9]{5})", key)
        row = None if match is None else self._sets[match[1]].rows.get(int(match[2]))
        if match is None or row is None:
            raise self.unknown_key(key, self.root)
        return self._sets[match[1]], row, self.root / match[1]

    def _hands_of(self, key: str) -> tuple[int, ...]:
        """Indices of the hands of a sample: 0 for the left hand, 1 for the right hand."""
        if key not in self._hands_by_key:
            of_set, row, folder = self._row(key)
            if self._hands == "both":
                self._hands_by_key[key] = tuple(np.flatnonzero(of_set.visible[row].any(axis=1)).tolist())
            else:
                labels = _read_mask(folder / "mask" / f"{key.partition('/')[2]}.png")
                right = int((labels >= _FIRST_RIGHT_LABEL).sum())
                left = int((labels > 1).sum()) - right
                self._hands_by_key[key] = (int(right >= left),)
        return self._hands_by_key[key]


@dataclass(frozen=True, eq=False)
class _Annotations:
    """Annotations of one set: n images, two hands, 21 key points."""

    numbers: list[int]
    rows: dict[int, int]
    uv_px: Array
    visible: NDArray[np.bool_]
    joints_mm: Array
    K: Array


class _Sets(dict[str, _Annotations]):
    """Annotations by name of the set, read on first use."""

    def __init__(self, path_of: Callable[[str], Path]) -> None:
        super().__init__()
        self._path_of = path_of

    def __missing__(self, name: str) -> _Annotations:
        self[name] = _read_annotations(self._path_of(name))
        return self[name]


def _read_annotations(path: Path) -> _Annotations:
    if not path.is_file():
        raise InputError(path, "there is no such file", Rhd.obtain)
    content = read_pickle(path)
    if not isinstance(content, dict) or not content:
        raise InputError(path, f"holds a {type(content).__name__}, not a dict of pictures", _COPY)
    shapes = {"uv_vis": (2 * _HAND, 3), "xyz": (2 * _HAND, 3), "K": (3, 3)}
    columns: dict[str, list[Array]] = {field: [] for field in shapes}
    for number, entry in content.items():
        where = f"{path}: {str(number)[:40]}"
        if not isinstance(number, int) or not 0 <= number < 100_000 or not isinstance(entry, dict):
            raise InputError(where, "is not a picture number of 0 to 99999 with a dict of fields", _COPY)
        for field, shape in shapes.items():
            if field not in entry:
                raise InputError(f"{where}.{field}", "field is missing", _COPY)
            try:
                values = np.asarray(entry[field], dtype=np.float64)
            except (TypeError, ValueError, OverflowError):
                values = np.empty(0)
            if values.shape != shape or not np.isfinite(values).all():
                raise InputError(f"{where}.{field}", f"is not {shape[0]} x {shape[1]} finite numbers", _COPY)
            columns[field].append(values)
    order = np.argsort(list(content))
    numbers = np.array(list(content))[order].tolist()
    uv_vis, xyz = (np.stack(columns[field])[order].reshape(-1, 2, _HAND, 3) for field in ("uv_vis", "xyz"))
    K = np.stack(columns["K"])[order]
    singular = np.abs(np.linalg.det(K)) < 1e-9
    if singular.any():
        raise InputError(f"{path}: {numbers[int(np.argmax(singular))]}.K", "is singular", _COPY)
    visible = uv_vis[..., 2] > 0
    wrong = ~np.isin(uv_vis[..., 2], (0, 1)).all(axis=(1, 2))
    if wrong.any():
        raise InputError(
            f"{path}: {numbers[int(np.argmax(wrong))]}.uv_vis", "has a visibility other than 0 and 1", _COPY
        )
    for values in (xyz, uv_vis):
        values[:, :, 0] = (values[:, :, 0] + values[:, :, _MIDDLE_BASE]) / 2
    visible[:, :, 0] |= visible[:, :, _MIDDLE_BASE]
    rows = {number: row for row, number in enumerate(numbers)}
    return _Annotations(numbers, rows, uv_vis[..., :2], visible, xyz * 1000.0, K)


def _box(uv_px: Array, visible: NDArray[np.bool_]) -> Array:
    """Compute the box "hand" of `Rhd`. If no key point is visible, hidden key points are used."""
    centre = uv_px[_MIDDLE_BASE]
    seen = uv_px[visible] if visible.any() else uv_px
    half = np.clip(2 * np.abs(seen - centre).max(), *_SIDE_PX) / 2
    return np.concatenate([centre - half, centre + half])


def released_box(uv_px: Array, visible: NDArray[np.bool_]) -> Array:
    """Box of one hand as in the release of epipolar transformers, which resizes the crop to a square.

    The release has a defect: it compares the x of key points with the row of the centre, and the y with the column. The
    centre is the base of the middle finger. Hidden key points count as (0, 0). The side is 50 to 500 px. Centre and box
    are clipped to the image, so the box is rarely square.

    Args:
        uv_px: (21, 2) key points, px.
        visible: (21,) whether each key point is visible.

    Returns:
        Box (4,): left, upper, right, lower in whole pixels; right and lower are exclusive.
    """
    last = _SIZE[0] - 1
    centre = uv_px[_MIDDLE_BASE, ::-1]
    points = uv_px * visible[:, None]
    low, high = np.maximum(points.min(axis=0), 0.0), np.minimum(points.max(axis=0), _SIZE[0])
    side = np.clip(2 * np.maximum(high - centre, centre - low).max(), *_RELEASED_SIDE_PX)
    middle = np.clip(centre, 0, last)
    upper_left, lower_right = (np.clip(np.trunc(middle + sign * side / 2), 0, last) for sign in (-1, 1))
    return np.concatenate([upper_left[::-1], lower_right[::-1]])


def _read_mask(path: Path) -> NDArray[np.uint8]:
    try:
        data = np.frombuffer(read_bytes(path), dtype=np.uint8)
    except OSError as error:
        raise InputError(path, f"mask cannot be read ({error.strerror})", _COPY) from None
    try:
        mask = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error:  # a header that states more than a billion pixels
        mask = None
    if mask is None or mask.shape != _SIZE:
        raise InputError(path, "file is not a mask of one channel and 320 x 320 px", _COPY)
    return np.asarray(mask, dtype=np.uint8)
