"""Human3.6M with the multi-view labels of learnable triangulation's release ("multiview labels with GT boxes").

On disk, below one root:

    processed/<S>/<Action-k>/imageSequence[-undistorted]/<camera>/img_%06d.jpg     see `image_path`
    extra/human36m-multiview-labels-GTbboxes.npy                                   a pickled dict, see `_Labels`

World frame: millimetres, z up. Joints: `skeleton.HUMAN36M`. Camera names are the serial numbers.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poseboard.datasets.adapter import Adapter, Scale
from poseboard.datasets.camera import Array, Camera, scale_box
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import DataState, Facts
from poseboard.datasets.manifest import labels_digest, verify
from poseboard.datasets.sample import Group, Sample, Truth, View, read_image
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.datasets.unpickle import read_pickle

DAMAGED = ("S9/Greeting-2", "S9/SittingDown-2", "S9/Waiting-1")
"""Sequences whose annotations are shifted relative to the images. Absolute errors exclude them."""

TEST_SUBJECTS = ("S9", "S11")
"""Subjects of the published test split. All other subjects are used for training."""

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
"""Serial numbers of the published cameras, in the order of the labels."""

LABELS = Path("extra") / "human36m-multiview-labels-GTbboxes.npy"

_REBUILD = "run `poseboard data convert human36m` again"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ .-]*")
TREES = ("imageSequence", "imageSequence-undistorted")
"""Folders of a sequence's images: with lens distortion, and undistorted."""
_TREE_OF = {"undistorted": TREES[1], "original": TREES[0]}


_CAMERA = np.dtype(
    [("R", np.float32, (3, 3)), ("t", np.float32, (3, 1)), ("K", np.float32, (3, 3)), ("dist", np.float32, 5)]
)
ROW = np.dtype(
    [
        ("subject_idx", np.int8),
        ("action_idx", np.int8),
        ("frame_idx", np.int16),
        ("keypoints", np.float32, (len(HUMAN36M), 3)),
        ("bbox_by_camera_tlbr", np.int16, (len(CAMERAS), 4)),
    ]
)
"""Row of the labels' table. A box is top, left, bottom, right; zeros where the camera has no image."""


def labels_content(
    subjects: Sequence[str], actions: Sequence[str], cameras: Sequence[Sequence[Camera]], table: NDArray[Any]
) -> dict[str, Any]:
    """Build the published label dictionary with the field names, types and order of learnable triangulation.

    Args:
        subjects: names of the S subjects.
        actions: names of the sequences, such as "Walking-1".
        cameras: cameras of each subject, in the order of `CAMERAS`.
        table: (n,) rows of type `ROW`.
    """
    of_subjects = np.zeros((len(subjects), len(CAMERAS)), dtype=_CAMERA)
    for s, own in enumerate(cameras):
        for v, camera in enumerate(own):
            of_subjects[s, v] = (camera.R, camera.t[:, None], camera.K, camera.dist)
    return {
        "subject_names": list(subjects),
        "camera_names": list(CAMERAS),
        "action_names": list(actions),
        "cameras": of_subjects,
        "table": table,
    }


def encode_labels(labels: dict[str, Any]) -> bytes:
    """Encode labels as the content of the labels file: a pickled dictionary in a 0-d array."""
    pickled = io.BytesIO()
    np.save(pickled, np.array(labels, dtype=object), allow_pickle=True)
    return pickled.getvalue()


def image_path(root: Path, subject: str, sequence: str, tree: str, camera: str, frame: int) -> Path:
    """Path of the image of one camera and frame. Images are numbered from 1, frames from 0.

    Args:
        root: folder with ``processed/``.
        subject: name of the subject, such as "S9".
        sequence: name of the sequence, such as "Walking-1".
        tree: one of `TREES`.
        camera: serial number of the camera.
        frame: ``frame_idx`` of the labels.

    Example:
        >>> image_path(Path("h36m"), "S9", "Walking-1", TREES[0], "54138969", 0).as_posix()
        'h36m/processed/S9/Walking-1/imageSequence/54138969/img_000001.jpg'
    """
    return root / f"processed/{subject}/{sequence}/{tree}/{camera}/img_{frame + 1:06d}.jpg"


class Human36M(Adapter):
    """Adapter of Human3.6M in the published multi-view layout.

    Args:
        root: folder with ``processed/`` and ``extra/``.
        images: image tree. Cameras of "undistorted" images have no distortion; those of "original" images have the
            distortion of the labels, in the model of the Human3.6M release.
        labels: path of the labels file; None: `LABELS` below ``root``.
        synthetic: see `Adapter`.
        box_scale: factor on the sides of the boxes, around their integer centres.

    Example:
        >>> dataset = Human36M(Path("data/human36m"))
        >>> sample = dataset.sample("S9/Walking-1/000064")
        >>> [view.name for view in sample.views]
        ['54138969', '55011271', '58860488', '60457274']
    """

    name = "human36m"
    title = "Human3.6M (multi-view labels of learnable triangulation)"
    licence = "academic use by registration and signed agreement, no redistribution"
    obtain = (
        "register at vision.imar.ro/human3.6m (academic use, no redistribution), download the archives, and run "
        "`poseboard data convert human36m`, see docs/human36m.md"
    )
    layout = "human36m"
    skeleton = HUMAN36M

    def __init__(
        self,
        root: Path,
        images: Literal["undistorted", "original"] = "undistorted",
        labels: Path | None = None,
        synthetic: bool = False,
        box_scale: Scale = 1.0,
    ) -> None:
        super().__init__(root, synthetic)
        self.is_generated = self.is_generated and labels is None
        self._images = images
        self._labels_path = Path(labels) if labels is not None else self.root / LABELS
        self._box_scale = float(box_scale)
        self._cameras: dict[int, tuple[Camera, ...]] = {}

    @property
    def views(self) -> tuple[str, ...]:
        """Camera names in the order of the labels; the four published cameras if there are no labels."""
        return self._labels.camera_names if self._labels_path.is_file() else CAMERAS

    def inspect(self) -> tuple[DataState, str]:
        """Ready if the labels can be read and every sequence and camera has its first and last image."""
        if not self._labels_path.is_file():
            return "missing", f"no labels at {self._labels_path}"
        labels = self._labels
        count, incomplete = 0, []
        for rows in labels.sequences():
            present = labels.present[rows]
            for c in range(len(labels.camera_names)):
                of_camera = rows[present[:, c]]
                if of_camera.size:
                    count += 1
                    frames = labels.frame[of_camera]
                    ends = [self._image(int(row), c) for row in of_camera[[frames.argmin(), frames.argmax()]]]
                    if not all(path.is_file() for path in ends):
                        incomplete.append(ends[0].parent.relative_to(self.root).as_posix())
        if not incomplete:
            return "ready", f"{len(labels.frame)} labelled frames, {count} image sequences"
        return "partial", f"{len(incomplete)} of {count} image sequences are incomplete, first {incomplete[0]}"

    def content_sha256(self) -> str:
        """SHA-256 of the labels and of the options that differ from their defaults."""
        content, options = self._labels.digest.hexdigest(), (self._images, self._box_scale)
        if options == ("undistorted", 1.0):
            return content
        return hashlib.sha256(f"{content} {options}".encode()).hexdigest()

    def facts(self, split: str) -> Facts:
        """Facts of a split. Boxes come from foreground masks, true poses from motion capture.

        The labels do not state the source of the boxes. We assume that they are the published boxes.
        """
        return Facts(boxes="annotated", truth=self.truth_source("motion capture"))

    def read_results(self, path: Path, split: str) -> Array:
        """Read the poses (N, J, 3), world mm, of a published results file, in the order of a split's keys.

        Raises:
            InputError: the file is not a results file or has another number of frames, see `read_predictions`.
        """
        return read_predictions(path, self.keys(split))

    def verified(self, every_byte: bool = False) -> dict[str, Any]:
        """Check that a generated world is unchanged and return its manifest; see `manifest.verify`."""
        labels = self._labels
        sequences: dict[str, list[Path]] = {}
        for rows in sorted(labels.sequences(), key=lambda rows: int(rows[0])):
            subject, action = labels.subjects[labels.subject[rows[0]]], labels.actions[labels.action[rows[0]]]
            sequences[f"{subject}/{action}"] = [
                image_path(self.root, subject, action, tree, camera, frame)
                for frame in labels.frame[rows].tolist()
                for camera in labels.camera_names
                for tree in TREES
            ]
        return verify(self.root, labels.digest, sequences, every_byte)

    def verify(self) -> None:
        """Raise InputError if a generated world was changed."""
        self.verified()

    def split_of(self, subject: str) -> str:
        """Split of a subject: "test" for S9 and S11, else "train"."""
        return "test" if subject in TEST_SUBJECTS else "train"

    def keys(self, split: str) -> Sequence[str]:
        """All keys of a split in table order, including those of damaged sequences."""
        return self.select(split)

    def select(self, split: str, damaged: bool = True, every: int = 1) -> tuple[str, ...]:
        """Keys of a split with a stride, optionally without damaged sequences.

        Args:
            split: one of `splits`.
            damaged: whether to keep the sequences in `DAMAGED`.
            every: stride over the remaining rows, in table order.

        Returns:
            Keys "S9/Walking-1/000123": subject, sequence, frame_idx.
        """
        self.check_split(split)
        labels = self._labels
        chosen = np.array([self.split_of(subject) == split for subject in labels.subjects])[labels.subject]
        if not damaged:
            for subject, action in (name.split("/") for name in DAMAGED):
                chosen &= ~(
                    (np.array(labels.subjects) == subject)[labels.subject]
                    & (np.array(labels.actions) == action)[labels.action]
                )
        keys = labels.keys
        return tuple(keys[row] for row in np.flatnonzero(chosen)[::every].tolist())

    def sample(self, key: str) -> Sample:
        """Sample of one frame. Cameras without a box are left out."""
        labels, row = self._labels, self._row(key)
        subject, action = int(labels.subject[row]), int(labels.action[row])
        cameras = self._cameras_of(subject)
        boxes = labels.boxes_px[row]
        views = tuple(
            View(labels.camera_names[c], cameras[c], self._image(row, c), self._box(boxes[c]))
            for c in np.flatnonzero(labels.present[row]).tolist()
        )
        sequence = labels.actions[action]
        return Sample(key, views, Group(labels.subjects[subject], sequence.partition("-")[0], sequence))

    def truth(self, key: str) -> Truth:
        """True pose (1, 17, 3) of one frame, world mm."""
        return Truth(self._labels.joints_mm[self._row(key)][None].astype(np.float64))

    @cached_property
    def _labels(self) -> _Labels:
        return _Labels(self._labels_path)

    def _row(self, key: str) -> int:
        try:
            return self._labels.rows[key]
        except KeyError:
            raise self.unknown_key(key, self._labels_path) from None

    def _image(self, row: int, camera: int) -> Path:
        labels = self._labels
        subject, action = labels.subjects[labels.subject[row]], labels.actions[labels.action[row]]
        tree, frame = _TREE_OF[self._images], int(labels.frame[row])
        return image_path(self.root, subject, action, tree, labels.camera_names[camera], frame)

    def _box(self, box: NDArray[np.int64]) -> Array:
        if self._box_scale == 1.0:
            return box[None].astype(np.float64)
        left, upper, right, lower = box.tolist()
        return np.array([scale_box((left, upper, right, lower), self._box_scale)], dtype=np.float64)

    def _cameras_of(self, subject: int) -> tuple[Camera, ...]:
        if subject not in self._cameras:
            labels = self._labels
            cameras = []
            for c, (name, values) in enumerate(zip(labels.camera_names, labels.cameras[subject], strict=True)):
                dist = values["dist"] if self._images == "original" else np.zeros(5)
                try:
                    size = self._image_size(subject, c)
                    cameras.append(Camera(values["K"], values["R"], values["t"], dist, size, "human36m"))
                except ValueError as error:
                    where = f"{self._labels_path}: cameras[{labels.subjects[subject]}, {name}]"
                    raise InputError(where, str(error), _REBUILD) from None
            self._cameras[subject] = tuple(cameras)
        return self._cameras[subject]

    def _image_size(self, subject: int, camera: int) -> tuple[int, int]:
        """Size of a camera's first existing image. The labels do not state image sizes, and cameras differ."""
        labels = self._labels
        rows = np.flatnonzero((labels.subject == subject) & labels.present[:, camera])
        for row in rows[np.unique(labels.action[rows], return_index=True)[1]].tolist():
            path = self._image(row, camera)
            if path.is_file():
                try:
                    height, width = read_image(path).shape[:2]
                except InputError:
                    continue
                return width, height
        return 0, 0


class _Labels:
    """Labels file, validated and split into columns over the n rows of the table.

    Raises:
        InputError: a field is absent, of a wrong type or shape, or out of range.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        content = read_pickle(path)
        if not isinstance(content, dict):
            raise InputError(path, f"holds a {type(content).__name__}, not a dict of labels", _REBUILD)
        absent = [
            field
            for field in ("subject_names", "camera_names", "action_names", "cameras", "table")
            if field not in content
        ]
        if absent:
            raise InputError(f"{path}: {absent[0]}", "field is missing", _REBUILD)
        self.subjects = self._names(content, "subject_names")
        self.camera_names = self._names(content, "camera_names")
        self.actions = self._names(content, "action_names")
        count = len(self.camera_names)

        self.cameras = self._structured(
            content, "cameras", {"R": ("f", 9), "t": ("f", 3), "K": ("f", 9), "dist": ("f", 5)}
        )
        if self.cameras.shape != (len(self.subjects), count):
            raise self._wrong("cameras", f"shape is {self.cameras.shape}, not {(len(self.subjects), count)}")
        table = self._structured(
            content,
            "table",
            {
                "subject_idx": ("iu", 1),
                "action_idx": ("iu", 1),
                "frame_idx": ("iu", 1),
                "keypoints": ("f", 3 * len(HUMAN36M)),
                "bbox_by_camera_tlbr": ("iu", 4 * count),
            },
        )
        if table.ndim != 1 or not len(table):
            raise self._wrong("table", f"shape is {table.shape}, not (poses,)")
        self.digest = labels_digest((self.subjects, self.camera_names, self.actions), self.cameras, table)
        self.subject = self._index(table, "subject_idx", len(self.subjects))
        self.action = self._index(table, "action_idx", len(self.actions))
        self.frame = self._index(table, "frame_idx", 1_000_000)
        sequence = self.subject * len(self.actions) + self.action
        _, first = np.unique(sequence * 1_000_000 + self.frame, return_index=True)
        again = np.setdiff1d(np.arange(len(table)), first)
        if again.size:
            raise self._wrong("table", f"{self.keys[again[0]]} occurs twice")
        self.joints_mm: NDArray[Any] = table["keypoints"].reshape(len(table), len(HUMAN36M), 3)
        self._reject("keypoints", ~np.isfinite(self.joints_mm).all(axis=(1, 2)), "is not finite")

        top, left, bottom, right = np.moveaxis(table["bbox_by_camera_tlbr"].reshape(len(table), count, 4), -1, 0)
        self._reject("bbox_by_camera_tlbr", ((bottom < top) | (right < left)).any(axis=1), "has an inverted box")
        self.boxes_px: NDArray[np.int64] = np.stack([left, top, right, bottom], axis=-1).astype(np.int64)
        """(n, cameras, 4) left, upper, right, lower."""
        self.present: NDArray[np.bool_] = (bottom > top) & (right > left)
        """(n, cameras): whether there is a view; a box of height 0 means that there is none."""

        for field in ("R", "t", "K", "dist"):
            values = self.cameras[field].reshape(len(self.subjects), count, -1)
            self._check_cameras(field, ~np.isfinite(values).all(axis=-1), "is not finite")
        K = self.cameras["K"].reshape(len(self.subjects), count, 3, 3).astype(np.float64)
        self._check_cameras("K", np.abs(np.linalg.det(np.where(np.isfinite(K), K, 0.0))) < 1e-9, "is singular")

    @cached_property
    def keys(self) -> list[str]:
        """Keys ``subject/action/frame`` in the order of the label table."""
        prefix = [[f"{subject}/{action}/" for action in self.actions] for subject in self.subjects]
        columns = zip(self.subject.tolist(), self.action.tolist(), self.frame.tolist(), strict=True)
        return [f"{prefix[subject][action]}{frame:06d}" for subject, action, frame in columns]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of each key."""
        return {key: row for row, key in enumerate(self.keys)}

    def sequences(self) -> list[NDArray[np.intp]]:
        """Rows of each (subject, action) with at least one row."""
        code = self.subject * len(self.actions) + self.action
        order = np.argsort(code, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(code[order])) + 1)

    def _wrong(self, field: str, problem: str) -> InputError:
        return InputError(f"{self._path}: {field}", problem, _REBUILD)

    def _reject(self, column: str, bad: ArrayLike, problem: str) -> None:
        if np.any(bad):
            raise self._wrong(f"table.{column}", f"row {int(np.argmax(bad))} {problem}")

    def _check_cameras(self, field: str, bad: NDArray[np.bool_], problem: str) -> None:
        # Cameras of a subject without rows may be empty.
        bad = bad & np.isin(np.arange(len(self.subjects)), self.subject)[:, None]
        if bad.any():
            subject, camera = np.argwhere(bad)[0]
            where = f"cameras[{self.subjects[subject]}, {self.camera_names[camera]}].{field}"
            raise self._wrong(where, problem)

    def _names(self, content: dict[str, Any], field: str) -> tuple[str, ...]:
        values = content[field]
        names = tuple(values) if isinstance(values, list | tuple | np.ndarray) else ()
        # Names become folders: a name must not lead out of the tree.
        if not names or not all(isinstance(name, str) and _NAME.fullmatch(name) and len(name) < 100 for name in names):
            raise self._wrong(field, "is not a list of plain names")
        if len(set(names)) != len(names):
            raise self._wrong(field, "has a name twice")
        return tuple(map(str, names))

    def _structured(self, content: dict[str, Any], field: str, columns: dict[str, tuple[str, int]]) -> NDArray[Any]:
        array = content[field]
        if not isinstance(array, np.ndarray) or array.dtype.names is None:
            raise self._wrong(field, "is not a structured array")
        for name, (kinds, size) in columns.items():
            if name not in array.dtype.names:
                raise self._wrong(f"{field}.{name}", "field is missing")
            column = array.dtype[name]
            if column.base.kind not in kinds:
                raise self._wrong(f"{field}.{name}", f"type is {column.base}")
            if int(np.prod(column.shape)) != size:
                raise self._wrong(f"{field}.{name}", f"shape is {column.shape}, {size} numbers are expected")
        return array

    def _index(self, table: NDArray[Any], column: str, end: int) -> NDArray[np.int64]:
        values: NDArray[np.int64] = table[column].reshape(len(table)).astype(np.int64)
        self._reject(column, (values < 0) | (values >= end), f"is outside 0 … {end - 1}")
        return values


def read_predictions(path: Path, keys: Sequence[str], every: int = 1) -> Array:
    """Read poses in the published format ("pred_results"): a pickled dict of ``keypoints_3d`` and ``indexes``.

    As in the release code of learnable triangulation, rows are sorted by ``indexes``, then every n-th row is kept.

    Args:
        path: path of the pickle. ``keypoints_3d`` is (m, J, 3) in world mm. ``indexes`` (m,) is the position of each
            row in the predicted selection with stride 1.
        keys: keys of the poses, for example ``dataset.select("test", every=every)``.
        every: stride of ``keys`` in the predicted selection.

    Returns:
        Poses (len(keys), J, 3) in world mm, float64, in the order of ``keys``.

    Raises:
        InputError: a field is missing, an index is missing or occurs twice, or the lengths differ.
    """
    content = read_pickle(path)
    remedy = "write it with the same labels, split and filter, and stride 1"
    if not isinstance(content, dict):
        raise InputError(path, f"holds a {type(content).__name__}, not a dict of predictions", remedy)
    arrays = []
    for field in ("keypoints_3d", "indexes"):
        if field not in content:
            raise InputError(f"{path}: {field}", "field is missing", remedy)
        try:
            arrays.append(np.asarray(content[field]))
        except ValueError:
            raise InputError(f"{path}: {field}", "poses differ in shape", remedy) from None
    joints, indexes = arrays
    if joints.ndim != 3 or joints.shape[2] != 3 or joints.dtype.kind != "f":
        raise InputError(f"{path}: keypoints_3d", f"is {joints.dtype} {joints.shape}, not floats (n, J, 3)", remedy)
    if indexes.shape != joints.shape[:1] or indexes.dtype.kind not in "iu":
        raise InputError(
            f"{path}: indexes",
            f"is {indexes.dtype} {indexes.shape}, not one integer for each of {len(joints)} poses",
            remedy,
        )
    order = np.argsort(indexes, kind="stable")
    if not np.array_equal(indexes[order], np.arange(len(order))):
        raise InputError(f"{path}: indexes", f"do not have each of 0 … {len(order) - 1} once", remedy)
    kept = joints[order][::every].astype(np.float64)
    if len(kept) != len(keys):
        raise InputError(f"{path}: keypoints_3d", f"has {len(kept)} poses for {len(keys)} frames", remedy)
    return kept
