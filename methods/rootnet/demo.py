"""Demo of root prediction on a user's photographs: position of each person in metres from the camera.

The focal length comes from the user or from EXIF, boxes from a file or from OpenCV's HOG detector. The principal point
is assumed in the middle of the image, and lens distortion is ignored.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from PIL import Image as Picture
from PIL import ImageOps

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.coco_json import Detection, LeftOut, corners, parse, used_boxes
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import read_bytes, read_file, write_file
from poseboard.datasets.photographs import CAMERA
from poseboard.datasets.sample import Group, Image, Poses, Sample, View
from poseboard.datasets.skeleton import ROOT
from poseboard.methods.rootnet.method import Rootnet

_BOXES = "a JSON list of x, y, width, height (one list of boxes per image), or a bbox_*_output.json"
_EXIF, _FOCAL_35MM = 0x8769, 0xA405
_FILM_DIAGONAL_MM = float(np.hypot(36, 24))
_HOG_SIDE_PX, _HOG_WINDOW_PX, _HOG_OVERLAP = 1000, (64, 128), 0.5
Numbers = tuple[float, float, float, float]
Focal = tuple[float, float]
FocalOf = Callable[[Image, float | None, Path], tuple[Focal, str]]
"""Image, focal length in 35 mm film, path -> fx, fy in pixels, and where they come from in words."""


@dataclass(frozen=True, eq=False)
class Photo:
    """Photograph with its camera and boxes.

    Args:
        path: image file.
        image: (H, W, 3) uint8 RGB, upright.
        focal_px: fx and fy.
        focal_source: source of the focal length, as text.
        boxes_px: (P, 4) left, upper, right, lower.
        scores: (P,) scores of the detector; None: the boxes have no scores.
        boxes_source: source of the boxes, as text.
        left_out: numbers of unused boxes by reason, as text; empty if all boxes are used.
    """

    path: Path
    image: Image
    focal_px: Focal
    focal_source: str
    boxes_px: Array
    scores: Array | None
    boxes_source: str
    left_out: str

    @property
    def sample(self) -> Sample:
        """Sample with the photograph as its only view."""
        height, width = self.image.shape[:2]
        K = np.array([[self.focal_px[0], 0, width / 2], [0, self.focal_px[1], height / 2], [0, 0, 1]])
        camera = Camera(K, np.eye(3), np.zeros(3), size=(width, height))
        view = View(CAMERA, camera, self.image, self.boxes_px, box_scores=self.scores)
        name = self.path.stem
        return Sample(name, (view,), Group(name, name, name))


@dataclass(frozen=True, eq=False)
class Located:
    """Predicted people of one photograph.

    Args:
        photo: photograph with the boxes that were used.
        roots_mm: (P, 3) root positions in the camera frame.
        scores: (P,) scores of the people.
        pictures: pictures of boxes, roots and the people from above, (H, W, 3) uint8 RGB.
    """

    photo: Photo
    roots_mm: Array
    scores: Array
    pictures: Sequence[Image]

    def lines(self) -> list[str]:
        """Text with one line per person."""
        people = zip(self.roots_mm.tolist(), self.scores.tolist(), strict=True)
        name = self.photo.path.name
        return [
            f"{name}: person {n}: x {x / 1000:.2f} y {y / 1000:.2f} z {z / 1000:.2f} m, score {score:.2f}"
            for n, ((x, y, z), score) in enumerate(people, start=1)
        ] or [f"{name}: no people"]

    def record(self) -> dict[str, Any]:
        """Plain values for JSON: positions in metres along OpenCV's axes (x right, y down, z forward)."""
        photo = self.photo
        height, width = photo.image.shape[:2]
        people = zip(self.roots_mm.tolist(), photo.boxes_px.tolist(), self.scores.tolist(), strict=True)
        return {
            "image": str(photo.path),
            "size_px": [width, height],
            "focal_px": list(photo.focal_px),
            "focal_from": photo.focal_source,
            "principal_point_px": [width / 2, height / 2],
            "boxes_from": photo.boxes_source,
            "people": [
                {"root_m": [value / 1000 for value in root], "box_px": [x0, y0, x1 - x0, y1 - y0], "score": score}
                for root, (x0, y0, x1, y1), score in people
            ],
        }


def locate(method: Rootnet, photos: Sequence[Photo]) -> list[Located]:
    """Predict the root of every person in the photographs, with the same inputs as in a data set.

    Args:
        method: root method with loaded weights.
        photos: photographs with cameras and boxes.
    """
    return [_locate(method, photo) for photo in photos]


def _locate(method: Rootnet, photo: Photo) -> Located:
    sample = photo.sample
    (view,) = sample.views
    if not len(view.boxes_px):
        return Located(photo, np.empty((0, 3)), np.empty(0), [])
    people = []
    for person in range(len(view.boxes_px)):
        alone = View(CAMERA, view.camera, view.image, view.boxes_px[[person]])
        if method.inputs.crop_px is not None:
            alone = alone.crop(method.inputs.crop_px, method.inputs.box_scale, resampling=method.inputs.resampling)
        people.append(Sample(sample.key, (alone,), sample.group))
    joints_mm = np.concatenate([poses.joints_mm for poses in method.predict(people)])
    scores = np.ones(len(people)) if photo.scores is None else photo.scores
    poses = Poses(ROOT, joints_mm, scores, CAMERA)
    pictures = [picture.image for picture in method.figures(sample, poses, images=True)]
    return Located(photo, joints_mm[:, 0], scores, pictures)


def write_pictures(located: Sequence[Located], folder: Path) -> list[list[Path]]:
    """Write the pictures as PNG files with the names of their photographs; return the paths of each photograph."""
    names: set[str] = set()
    written = []
    for number, people in enumerate(located, start=1):
        stem = people.photo.path.stem
        name = stem if stem not in names else f"{stem}-{number}"
        names.add(name)
        ends = ["", *(f"-{place}" for place in range(2, len(people.pictures) + 1))]
        paths = [folder / f"{name}-people{end}.png" for end, _ in zip(ends, people.pictures, strict=False)]
        for path, picture in zip(paths, people.pictures, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, partial(Picture.fromarray(picture).save, format="PNG"))
        written.append(paths)
    return written


def read_photos(paths: Sequence[Path], focal: FocalOf, boxes: Path | None, min_score: float = -np.inf) -> list[Photo]:
    """Read photographs with cameras and boxes.

    Args:
        paths: image files.
        focal: source of the focal length, see `focal_of`.
        boxes: file of boxes, see `read_boxes`; None: OpenCV's HOG detector detects people.
        min_score: minimum score of a box.

    Raises:
        InputError: an image or the file of boxes cannot be read, or a focal length is unknown.
    """
    by_image = None if boxes is None else read_boxes(boxes, paths)
    source = "opencv-hog" if boxes is None else str(boxes)
    photos = []
    for place, path in enumerate(paths):
        image, film_mm = _read_image(path)
        focal_px, focal_source = focal(image, film_mm, path)
        boxes_xywh, scores = detect_people(image) if by_image is None else by_image[place]
        left_out = LeftOut()
        size = np.array([image.shape[1::-1]] * len(boxes_xywh), dtype=np.int64).reshape(-1, 2)
        # RootNet's rule in `used_boxes` would move a box beyond the left or upper edge into the image.
        ends = boxes_xywh[:, :2] + boxes_xywh[:, 2:]
        within = np.asarray(((boxes_xywh[:, :2] < size) & (ends > 0)).all(axis=1))
        kept = left_out.keep(within, np.ones(len(boxes_xywh), dtype=np.bool_), "boxes beyond the image")
        if scores is not None:
            kept = left_out.keep(scores >= min_score, kept, f"boxes with a score below {min_score:g}")
        kept = used_boxes(boxes_xywh, size, kept, left_out)
        kept_scores = None if scores is None else scores[kept]
        kept_boxes = corners(boxes_xywh[kept])
        photos.append(Photo(path, image, focal_px, focal_source, kept_boxes, kept_scores, source, str(left_out)))
    return photos


def _read_image(path: Path) -> tuple[Image, float | None]:
    """Read an upright image (H, W, 3) uint8 RGB, and its 35 mm equivalent focal length from EXIF, or None."""
    try:
        with Picture.open(io.BytesIO(read_bytes(path))) as opened:
            film_mm = opened.getexif().get_ifd(_EXIF).get(_FOCAL_35MM)
            upright = ImageOps.exif_transpose(opened).convert("RGB")
    except OSError as error:
        problem = f"cannot be read ({error.strerror})" if error.strerror else "is not an image"
        raise InputError(path, problem, "give a photograph: JPEG, PNG, …") from None
    except (ValueError, SyntaxError, Picture.DecompressionBombError):
        raise InputError(path, "is not an image", "give a photograph: JPEG, PNG, …") from None
    valid = isinstance(film_mm, int | float) and 1 <= film_mm <= 10_000
    return np.array(upright), float(film_mm) if valid and film_mm is not None else None


def focal_of(text: str | None, fov_deg: float | None) -> FocalOf:
    """Function that returns the focal length of a photograph: from pixels, from a field of view, or from EXIF data.

    Args:
        text: value of ``--focal``, "FX,FY" or "F" in pixels; None: not set.
        fov_deg: value of ``--fov``, horizontal field of view in degrees; None: not set.

    Raises:
        InputError: both are set, or a value is invalid.
    """
    if text is not None and fov_deg is not None:
        raise InputError("--focal, --fov", "are used together", "leave one of them out")
    if text is not None:
        parts = text.split(",")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2) or not all(0 < number < 1e6 for number in numbers):
            raise InputError(f"--focal {text}", "is not a focal length in pixels", "give FX,FY, such as 1145,1143")
        focal_px = (numbers[0], numbers[-1])
        return lambda image, film_mm, path: (focal_px, "--focal")
    if fov_deg is not None:
        if not 1 <= fov_deg <= 175:
            raise InputError(
                f"--fov {fov_deg:g}", "is not a field of view", "give its horizontal angle, 1 to 175 degrees"
            )
        half = np.tan(np.deg2rad(fov_deg) / 2)
        return lambda image, film_mm, path: ((float(image.shape[1] / 2 / half),) * 2, "--fov")
    return _of_exif


def _of_exif(image: Image, film_mm: float | None, path: Path) -> tuple[Focal, str]:
    if film_mm is None:
        remedy = "give --focal FX,FY in pixels, or --fov DEG, the horizontal field of view (phones: 65 to 75)"
        raise InputError(path, "has no focal length in its EXIF data", remedy)
    focal = film_mm / _FILM_DIAGONAL_MM * float(np.hypot(*image.shape[:2]))  # equal angle over the diagonal
    return (focal, focal), f"EXIF, {film_mm:g} mm in 35 mm film"


def read_boxes(path: Path, images: Sequence[Path]) -> list[tuple[Array, Array | None]]:
    """Read the boxes of each image, (P, 4) x, y, width, height in pixels, and their scores if the file has them.

    Args:
        path: JSON file in one of two formats. A list with one list of boxes per image, in order; for one image also
            just its list of boxes. Or a detector's list of entries with ``image_id``, ``bbox`` and ``score``; the ids
            are the numbers in the file names of the images.
        images: image files.

    Raises:
        InputError: the file cannot be read or has neither format; the error names the entry.
    """
    content = read_file(path, f"give {_BOXES}")
    entries = parse(content, list[msgspec.Raw], path)
    first = bytes(entries[0]).lstrip() if entries else b""
    if first.startswith(b"{"):
        return _detections(parse(content, list[Detection], path), path, images)
    if first.startswith(b"[") and len(images) == 1 and not first[1:].lstrip().startswith((b"[", b"]")):
        by_image = [parse(content, list[Numbers], path)]
    else:
        by_image = parse(content, list[list[Numbers]], path)
    if len(by_image) != len(images) and not (len(images) == 1 and not by_image):
        raise InputError(path, f"holds boxes of {len(by_image)} images, {len(images)} are given", f"give {_BOXES}")
    return [(np.array(boxes, dtype=np.float64).reshape(-1, 4), None) for boxes in by_image or [[]]]


def _detections(entries: list[Detection], path: Path, images: Sequence[Path]) -> list[tuple[Array, Array | None]]:
    for row, entry in enumerate(entries):
        if entry.root_cam is not None:
            problem = "is RootNet's output, which has enlarged boxes"
            raise InputError(f"{path}: [{row}].root_cam", problem, "give the output file of the detector")
    ids = {entry.image_id for entry in entries}
    by_image: list[tuple[Array, Array | None]] = []
    for image in images:
        number = re.search(r"(\d+)$", image.stem)
        if number is None or int(number[1]) not in ids:
            raise InputError(path, f"has no image_id that is the number of {image.name}", f"give {_BOXES}")
        people = [entry for entry in entries if entry.image_id == int(number[1]) and entry.category_id == 1]
        scores = [entry.score for entry in people]
        scored = None if None in scores else np.array(scores, dtype=np.float64)
        by_image.append((np.array([entry.bbox for entry in people], dtype=np.float64).reshape(-1, 4), scored))
    return by_image


def detect_people(image: Image) -> tuple[Array, Array]:
    """Detect upright people with OpenCV's HOG detector (Dalal and Triggs, CVPR 2005).

    If boxes overlap by more than half, only the one with the highest score is kept.

    Returns:
        Boxes (P, 4) x, y, width, height in pixels without the detector's margin, and scores (P,).
    """
    height, width = image.shape[:2]
    factor = min(1.0, _HOG_SIDE_PX / max(width, height))
    factor = max(factor, _HOG_WINDOW_PX[0] / width, _HOG_WINDOW_PX[1] / height)  # smaller images crash the detector
    size = (int(np.ceil(factor * width)), int(np.ceil(factor * height)))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    detector = cv2.HOGDescriptor()
    detector.setSVMDetector(np.array(cv2.HOGDescriptor.getDefaultPeopleDetector(), dtype=np.float32))
    boxes, weights = detector.detectMultiScale(
        np.ascontiguousarray(resized[..., ::-1]), winStride=(4, 4), padding=(8, 8), scale=1.05
    )
    boxes_xywh = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    scores = np.array(weights, dtype=np.float64).reshape(-1)
    # Windows are 64 x 128 px for people of 96 px, with the same margin at the sides.
    boxes_xywh = np.concatenate([boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 8, boxes_xywh[:, 2:] * 3 / 4], axis=1)
    kept = cv2.dnn.NMSBoxes(boxes_xywh.tolist(), scores.tolist(), 0.0, _HOG_OVERLAP) if len(scores) else []
    order = np.array(kept, dtype=np.int64).reshape(-1)
    return boxes_xywh[order] / factor, scores[order]
