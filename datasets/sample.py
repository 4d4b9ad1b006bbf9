"""Samples (input of methods), poses (their output), and the `Dataset` protocol. A sample never contains the truth."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Box, Camera, crop_affine, scale_box
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import DataState, Facts
from poseboard.datasets.files import read_bytes
from poseboard.datasets.skeleton import Skeleton

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_LARGEST_BOX_PX = 32_000  # OpenCV resizes no larger images

Hand = Literal["left", "right"]
HANDS: tuple[Hand, ...] = get_args(Hand)
"""Names of the hands, left first; arrays number hands in this order."""

Image = NDArray[np.uint8]
ImageSource = Path | Image | Callable[[], Image]
Resampling = Literal["area", "bilinear"]
"""Method of cropping and resizing an image, see `View.crop`."""


@dataclass(frozen=True)
class FileState:
    """State of a file: size, time and checksum, to detect changes.

    Args:
        size_bytes: size of the file; -1 if it is absent.
        modified_ns: time of the last modification; None for content of an archive or in memory.
        checksum: CRC-32 of the content; None for a file on disk, because computing it would read the file.
    """

    size_bytes: int
    modified_ns: int | None = None
    checksum: int | None = None

    @classmethod
    def of(cls, path: Path) -> FileState:
        """State of a file on disk; the file may be absent."""
        try:
            state = path.stat()
        except OSError:
            return cls(-1)
        return cls(state.st_size, state.st_mtime_ns)


@dataclass(frozen=True)
class ReadImage:
    """Lazy image: a function that reads it, and the state of its file.

    Args:
        read: function that returns the image, (H, W, 3) uint8 RGB.
        state: function that returns the state of the file.
        path: image file; None for an image in an archive or a video.
    """

    read: Callable[[], Image]
    state: Callable[[], FileState]
    path: Path | None = None

    @classmethod
    def of(cls, path: Path, size: tuple[int, int]) -> ReadImage:
        """Make the image of a file, which must have the (width, height) of the annotations."""
        return cls(partial(read_image, path, size), partial(FileState.of, path), path)

    def __call__(self) -> Image:
        """Read the image, (H, W, 3) uint8 RGB."""
        return self.read()


def read_image(path: Path, size: tuple[int, int] | None = None) -> Image:
    """Read an image file as (H, W, 3) uint8 RGB.

    Args:
        path: path of the file.
        size: width and height that the annotations state; None: any size.

    Raises:
        InputError: the file is absent, not an image, or of another size.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise InputError(
            path, f"image cannot be read ({error.strerror})", "copy it into the images of the data set"
        ) from None
    image = decode_image(data, path)
    height, width = image.shape[:2]
    if size is not None and (width, height) != size:
        problem = f"is {width} x {height}, its annotations are for {size[0]} x {size[1]}"
        raise InputError(path, problem, "extract the images at their full size")
    return image


def decode_image(data: bytes | NDArray[np.uint8], path: Path) -> Image:
    """Decode the bytes of an image file to (H, W, 3) uint8 RGB; InputError if the bytes of ``path`` are not an image.

    The EXIF orientation is ignored, because annotations refer to rows and columns of the file.
    """
    encoded = np.frombuffer(data, dtype=np.uint8)
    content = encoded.tobytes()
    try:
        with PIL.Image.open(io.BytesIO(content)):  # reads the header, and refuses more than 179 million pixels
            pass
    except PIL.Image.DecompressionBombError as error:
        raise InputError(path, f"image is too large ({str(error).partition(',')[0]})", "extract it again") from None
    except Exception:  # OpenCV decodes formats that PIL does not
        pass
    # OpenCV fills the rest of a truncated JPEG with grey. No entropy-coded data contains the end marker.
    is_cut = content.startswith(_JPEG_START) and content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN)
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(encoded, flags) if encoded.size and not is_cut else None
    except cv2.error:
        image = None
    if image is None:
        raise InputError(path, "file is not a readable image (empty or truncated)", "extract it again")
    return np.ascontiguousarray(image[..., ::-1])


def crop_image(image: Image, box_px: Box, size: tuple[int, int]) -> Image:
    """Crop a box with black padding and resize it to (width, height) by pixel area; (h, w, 3) uint8.

    As in the release code of learnable triangulation, area interpolation is also used for enlargement.
    """
    left, upper, right, lower = box_px
    height, width = image.shape[:2]
    crop = np.zeros((lower - upper, right - left, image.shape[2]), dtype=np.uint8)
    x0, x1, y0, y1 = max(left, 0), min(right, width), max(upper, 0), min(lower, height)
    if x1 > x0 and y1 > y0:
        crop[y0 - upper : y1 - upper, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def warp_image(image: Image, A: Array, size: tuple[int, int]) -> Image:
    """Warp an image bilinearly to ``size`` (width, height); A (3, 3) maps pixels of the image to the result."""
    return np.asarray(cv2.warpAffine(image, A[:2], size, flags=cv2.INTER_LINEAR), dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class View:
    """One camera's view of a sample.

    Args:
        name: name of the camera in its data set.
        camera: calibration in the world frame of the sample.
        image: path, array (H, W, 3) uint8 RGB, or function that returns such an array (`ReadImage` if the file may
            change); None for views with detections only.
        boxes_px: (P, 4) left, upper, right, lower per person.
        joints_px: (P, J, 2) 2D detections; None without detections.
        confidence: (P, J) confidence of the detections; None without detections.
        box_scores: (P,) score of the detector for each box; None: the boxes are annotated.

    Example:
        >>> crop = view.crop(384)  # the first person
        >>> crop.pixels().shape, crop.camera.size
        ((384, 384, 3), (384, 384))
    """

    name: str
    camera: Camera
    image: ImageSource | None
    boxes_px: Array
    joints_px: Array | None = None
    confidence: Array | None = None
    box_scores: Array | None = None

    def pixels(self) -> Image:
        """Read the image, (H, W, 3) uint8 RGB; InputError if the image cannot be read."""
        if self.image is None:
            raise InputError(f"view {self.name}", "this data set has no images", "use a method that takes detections")
        if isinstance(self.image, Path):
            return read_image(self.image)
        return self.image() if callable(self.image) else self.image

    @property
    def image_path(self) -> Path | None:
        """Image file; None for other sources of images, and without an image."""
        source = self.image.path if isinstance(self.image, ReadImage) else self.image
        return source if isinstance(source, Path) else None

    def image_state(self) -> FileState | None:
        """State of the image file; None if there is no image, or no file behind the image."""
        if isinstance(self.image, Path):
            return FileState.of(self.image)
        if isinstance(self.image, ReadImage):
            return self.image.state()
        if isinstance(self.image, np.ndarray):
            return FileState(self.image.nbytes, checksum=zlib.crc32(self.image.tobytes()))
        return None

    def crop(self, side_px: int, box_scale: float = 1.0, person: int = 0, resampling: Resampling = "area") -> View:
        """Crop one person to a square view. Camera and 2D detections are transformed like the image.

        Args:
            side_px: side of the crop.
            box_scale: factor on the sides of the box.
            person: index of the person.
            resampling: "area": crop the box in whole pixels and resize by pixel area (learnable triangulation).
                "bilinear": extend the exact box to a square and warp the image (epipolar transformers).
        """
        if resampling == "bilinear":
            return self._warped(side_px, box_scale, person)
        left, upper, right, lower = (round(float(v)) for v in self.boxes_px[person])
        box = scale_box((left, upper, right, lower), box_scale)
        if max(box[2] - box[0], box[3] - box[1]) > _LARGEST_BOX_PX:
            problem = f"box {person} is {box[2] - box[0]} x {box[3] - box[1]} px"
            raise InputError(
                f"view {self.name}: boxes", problem, f"correct the box to a side of at most {_LARGEST_BOX_PX} px"
            )
        size = (side_px, side_px)
        joints = self.joints_px
        if joints is not None:
            factor = np.array([side_px / (box[2] - box[0]), side_px / (box[3] - box[1])])
            joints = (joints[person : person + 1] - np.array(box[:2])) * factor
        return replace(
            self,
            camera=self.camera.crop_resize(box, size),
            image=None if self.image is None else crop_image(self.pixels(), box, size),
            boxes_px=np.array([[0.0, 0.0, side_px, side_px]]),
            joints_px=joints,
            confidence=None if self.confidence is None else self.confidence[person : person + 1],
            box_scores=None if self.box_scores is None else self.box_scores[person : person + 1],
        )

    def crop_affine(self, side_px: int, box_scale: float = 1.0, person: int = 0, rotation_deg: float = 0.0) -> Array:
        """Affine transform (3, 3) of the "bilinear" `crop` with a rotation, see `camera.crop_affine`."""
        left, upper, right, lower = (float(v) for v in self.boxes_px[person])
        square_px = box_scale * max(right - left, lower - upper)
        return crop_affine(((left + right) / 2, (upper + lower) / 2), square_px, (side_px, side_px), rotation_deg)

    def _warped(self, side_px: int, box_scale: float, person: int) -> View:
        size = (side_px, side_px)
        A = self.crop_affine(side_px, box_scale, person)
        joints = self.joints_px
        return replace(
            self,
            camera=replace(self.camera, K=A @ self.camera.K, size=size),
            image=None if self.image is None else warp_image(self.pixels(), A, size),
            boxes_px=np.array([[0.0, 0.0, side_px, side_px]]),
            joints_px=None if joints is None else joints[person : person + 1] @ A[:2, :2].T + A[:2, 2],
            confidence=None if self.confidence is None else self.confidence[person : person + 1],
            box_scores=None if self.box_scores is None else self.box_scores[person : person + 1],
        )


@dataclass(frozen=True)
class Group:
    """Subject, action and sequence of a sample. Bootstraps resample (subject, sequence); tables average actions."""

    subject: str
    action: str
    sequence: str


@dataclass(frozen=True, eq=False)
class Sample:
    """Input of a method: one frame, in the views of one or several cameras.

    Args:
        key: unique and stable name in the data set, such as "S9/Walking-1/000123".
        views: views that the method may use.
        group: subject, action and sequence of the sample.
        root_mm: (P, 3) root positions for methods that declare this input, else None.
        hand: left or right hand, for methods that declare this input; None: a body, both hands, or withheld.
        rig: random name of the rig, for methods that declare several frames per rig. Samples with equal names have the
            same cameras and may be used together. Names differ from run to run.
    """

    key: str
    views: tuple[View, ...]
    group: Group
    root_mm: Array | None = None
    hand: Hand | None = None
    rig: str | None = None


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground truth of a sample.

    Args:
        joints_mm: (P, J, 3) mm in the world frame; NaN for joints without annotation. People with only 2D annotations
            are rows of NaN (`Truth.in_views`).
        seen: name of a view -> (P, J) whether a joint is annotated as visible. In views without an entry, all joints
            are visible.
        annotated: name of a view -> (P, J, 2) 2D annotations as undistorted directions (x / z, y / z) in the camera
            frame, which do not change with crops. `Camera.image` converts directions to pixels. Views without an
            entry have only the projection of ``joints_mm``.
    """

    joints_mm: Array
    seen: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    annotated: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def in_views(cls, annotated: Mapping[str, Array]) -> Truth:
        """Ground truth with 2D annotations and without 3D poses.

        Args:
            annotated: name of a view -> (P, J, 2) directions of the same people in every view; NaN without annotation.

        Raises:
            ValueError: views have different numbers of people or joints, or there is no view.

        Example:
            >>> Truth.in_views({"left": np.zeros((2, 17, 2))}).joints_mm.shape
            (2, 17, 3)
        """
        shapes = {points.shape[:2] for points in annotated.values()}
        if len(shapes) != 1:
            raise ValueError(f"views are annotated with (people, joints) {sorted(shapes)}, not with the same")
        return cls(np.full((*shapes.pop(), 3), np.nan), annotated=annotated)


CAMERA_COLUMNS: Mapping[str, tuple[int, ...]] = {"camera_R": (3, 3), "camera_t_mm": (3,), "camera_covariance": (6, 6)}
"""Columns of `Poses` for recovered cameras: name -> shape per camera. A column has the shape (P, V, *shape).

View v of the sample has ``x_v = R @ X + t``, with X in the frame of the prediction and t in the unit of the joints. The
covariance is of (w, t), where the rotation vector w (radians) acts on the left: ``R_true = exp(w) R``. Values are NaN
for cameras that are not recovered.
"""


@dataclass(frozen=True, eq=False)
class Poses:
    """Predicted people of one sample.

    Args:
        skeleton: joint set of the prediction.
        joints_mm: (P, J, 3) mm; NaN for joints that are not predicted.
        score: (P,) confidence of each person; higher is more confident.
        frame: coordinate frame: "world", or the name of a camera.
        columns: name -> (P, ...) additional numbers per person, stored with the predictions: ``size_mm``, the assumed
            size of a pose without observable scale, and recovered cameras (`CAMERA_COLUMNS`).

    Raises:
        ValueError: shapes do not match.

    Example:
        >>> Poses(HUMAN36M, np.zeros((2, 17, 3)), np.array([0.9, 0.8])).frame  # two people
        'world'
    """

    skeleton: Skeleton
    joints_mm: Array
    score: Array
    frame: str = "world"
    columns: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.joints_mm.ndim != 3 or self.joints_mm.shape[1:] != (len(self.skeleton), 3):
            raise ValueError(f"poses need (P, {len(self.skeleton)}, 3), got {self.joints_mm.shape}")
        if self.score.shape != self.joints_mm.shape[:1]:
            raise ValueError(f"scores need ({len(self.joints_mm)},), got {self.score.shape}")
        for name, values in self.columns.items():
            if len(values) != len(self.joints_mm):
                raise ValueError(f"column {name} needs ({len(self.joints_mm)}, ...), got {values.shape}")


@dataclass(frozen=True)
class Status:
    """Whether a data set can be used.

    Args:
        state: "ready"; "partial": ``detail`` states what is missing; "missing"; or "damaged": ``detail`` names an
            unreadable file.
        detail: one line for the user.
        obtain: where to get the data set.
    """

    state: DataState
    detail: str
    obtain: str


@runtime_checkable
class Dataset(Protocol):
    """Protocol of a data set, read from its published layout. Samples and ground truth are separate.

    The optional attribute ``truth_skeleton`` is the joint set of the ground truth if predictions have other joints
    (`skeleton_of_truth`).

    Example:
        >>> dataset = open_dataset("human36m", {"root": "data/human36m"})
        >>> for key in dataset.keys("test"):
        ...     sample, truth = dataset.sample(key), dataset.truth(key)
    """

    @property
    def name(self) -> str:
        """Name in params.yaml and results/."""
        ...

    @property
    def skeleton(self) -> Skeleton:
        """Joints of predictions and 2D detections, and of the ground truth unless ``truth_skeleton`` is set."""
        ...

    @property
    def synthetic(self) -> bool:
        """Whether the people are rendered; results state this."""
        ...

    @property
    def views(self) -> tuple[str, ...]:
        """Camera names in the data set's order."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, including "train" and "test"; a split may be empty."""
        ...

    def status(self) -> Status:
        """Whether the data set can be used; never raises."""
        ...

    def facts(self, split: str) -> Facts:
        """Sources of boxes and true poses of a split, and other facts that influence numbers on the split."""
        ...

    def manifest(self) -> str:
        """Hash of keys, ground truth, cameras and options. It does not depend on the images."""
        ...

    def keys(self, split: str) -> Sequence[str]:
        """Keys of a split in a fixed order; InputError for an unknown split."""
        ...

    def sample(self, key: str) -> Sample:
        """Sample of a key; InputError for an unknown key."""
        ...

    def truth(self, key: str) -> Truth:
        """True poses of a key; InputError for a data set without true poses."""
        ...


def skeleton_of_truth(dataset: Dataset) -> Skeleton:
    """Joint set of the ground truth: ``truth_skeleton``, else ``skeleton``."""
    skeleton: Skeleton = getattr(dataset, "truth_skeleton", dataset.skeleton)
    return skeleton


def images_sha256(samples: Iterable[Sample]) -> str:
    """SHA-256 of file sizes and archive checksums of the images; independent of paths and times."""
    digest = hashlib.sha256()
    for sample in samples:
        for view in sample.views:
            state = view.image_state()
            content = None if state is None else (state.size_bytes, state.checksum)
            digest.update(f"{sample.key} {view.name} {content}\n".encode())
    return digest.hexdigest()
