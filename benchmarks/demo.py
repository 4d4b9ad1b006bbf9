"""The demo: a user's own photographs in; where everyone in them stands, and pictures of it, out."""

from __future__ import annotations

import io
import json
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

from poseboard.benchmarks.handover import crop, one_person, together, withhold
from poseboard.benchmarks.harness import LoadedRow, check_answers, device
from poseboard.benchmarks.provenance import training_path, weights_sha256
from poseboard.benchmarks.settings import Settings
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.coco_json import Detection, LeftOut, corners, decode, parse, used_boxes
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.datasets.photographs import CAMERA
from poseboard.datasets.sample import Group, Image, Sample, View
from poseboard.datasets.skeleton import HUMAN36M, ROOT
from poseboard.methods.base import Drawing, Inputs, Method, answer_skeleton, find_learner, find_method, predicts
from poseboard.protocols.records import TrainingFile

_BOXES = "a JSON list of x, y, width, height (one list of boxes per image), or a bbox_*_output.json"
_EXIF, _FOCAL_35MM = 0x8769, 0xA405
_FILM_PX = float(np.hypot(36, 24))
"""Diagonal of 35 mm film in mm; focal lengths in 35 mm are compared by diagonals."""
_HOG_SIDE_PX, _HOG_WINDOW_PX, _HOG_OVERLAP = 1000, (64, 128), 0.5
Numbers = tuple[float, float, float, float]
Focal = tuple[float, float]
FocalOf = Callable[[Image, float | None, Path], tuple[Focal, str]]
"""Image, focal length in 35 mm film, path -> fx, fy px, and in words where they come from."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph with its camera and boxes.

    Args:
        path: of its file.
        image: (H, W, 3) uint8 RGB, upright.
        focal_px: fx, fy.
        focal_source: in words, where they come from.
        boxes_px: (P, 4) left, upper, right, lower.
        scores: (P,) of the detector; None: the boxes have none.
        boxes_source: in words, where they come from.
    """

    path: Path
    image: Image
    focal_px: tuple[float, float]
    focal_source: str
    boxes_px: Array
    scores: Array | None
    boxes_source: str

    @property
    def sample(self) -> Sample:
        """As a data set of photographs would hand it over; the principal point is the middle of the image."""
        height, width = self.image.shape[:2]
        K = np.array([[self.focal_px[0], 0, width / 2], [0, self.focal_px[1], height / 2], [0, 0, 1]])
        camera = Camera(K, np.eye(3), np.zeros(3), size=(width, height))
        view = View(CAMERA, camera, self.image, self.boxes_px, box_scores=self.scores)
        name = self.path.stem
        return Sample(name, (view,), Group(name, name, name))


def read_photo(path: Path) -> tuple[Image, float | None]:
    """A user's image file as (H, W, 3) uint8 RGB, upright, and its focal length in 35 mm where EXIF has it.

    Raises:
        InputError: the file is absent or no image.
    """
    try:
        with Picture.open(io.BytesIO(path.read_bytes())) as opened:
            film_mm = opened.getexif().get_ifd(_EXIF).get(_FOCAL_35MM)
            upright = ImageOps.exif_transpose(opened).convert("RGB")
    except OSError as error:
        problem = f"cannot be read ({error.strerror})" if error.strerror else "is no image"
        raise InputError(path, problem, "give a photograph: JPEG, PNG, …") from None
    except (ValueError, SyntaxError, Picture.DecompressionBombError):
        raise InputError(path, "is no image", "give a photograph: JPEG, PNG, …") from None
    known = isinstance(film_mm, int | float) and 1 <= film_mm <= 10_000
    return np.array(upright), float(film_mm) if known and film_mm is not None else None


def focal_of(text: str | None, fov_deg: float | None) -> FocalOf:
    """How the focal length of a photograph is found: given in pixels, as a field of view, or in its EXIF data.

    Args:
        text: "FX,FY" or "F", px.
        fov_deg: horizontal field of view.

    Raises:
        InputError: both are given, or one is no focal length.
    """
    if text is not None and fov_deg is not None:
        raise InputError("--focal, --fov", "are both given", "give one of them")
    if text is not None:
        parts = text.split(",")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2) or not all(0 < number < 1e6 for number in numbers):
            raise InputError(f"--focal {text}", "is no focal length in pixels", "give FX,FY, such as 1145,1143")
        given = (numbers[0], numbers[-1])
        return lambda image, film_mm, path: (given, "--focal")
    if fov_deg is not None:
        if not 1 <= fov_deg <= 175:
            raise InputError(f"--fov {fov_deg:g}", "is no field of view", "give its horizontal angle, 1 to 175 degrees")
        half = np.tan(np.deg2rad(fov_deg) / 2)
        return lambda image, film_mm, path: ((float(image.shape[1] / 2 / half),) * 2, "--fov")
    return _of_exif


def _of_exif(image: Image, film_mm: float | None, path: Path) -> tuple[Focal, str]:
    if film_mm is None:
        remedy = "give --focal FX,FY in pixels, or --fov DEG, the horizontal field of view (phones: 65 to 75)"
        raise InputError(path, "its focal length is not known", remedy)
    focal = film_mm / _FILM_PX * float(np.hypot(*image.shape[:2]))
    return (focal, focal), f"EXIF, {film_mm:g} mm in 35 mm film"


def read_boxes(path: Path, images: Sequence[Path]) -> list[tuple[Array, Array | None]]:
    """Boxes of each image, (P, 4) x, y, width, height in pixels, and their scores where the file has them.

    Args:
        path: JSON. A list of boxes for each image, in order; of one image, the list of its boxes; or a detector's
            list of ``image_id``, ``bbox``, ``score``, whose ids are the numbers in the names of the images.
        images: that it is asked for.

    Raises:
        InputError: the file is absent, or is neither; names the entry.
    """
    entries = decode(path, list[msgspec.Raw], f"give {_BOXES}")
    content = path.read_bytes()
    first = bytes(entries[0]).lstrip()[:1] if entries else b""
    if first == b"{":
        return _detections(parse(content, list[Detection], path), path, images)
    if first == b"[" and len(images) == 1 and not bytes(entries[0]).lstrip()[1:].lstrip().startswith((b"[", b"]")):
        of_image = [parse(content, list[Numbers], path)]
    else:
        of_image = parse(content, list[list[Numbers]], path)
    if len(of_image) != len(images) and not (len(images) == 1 and not of_image):
        raise InputError(path, f"holds boxes of {len(of_image)} images, {len(images)} are given", f"give {_BOXES}")
    return [(np.array(boxes, dtype=np.float64).reshape(-1, 4), None) for boxes in of_image or [[]]]


def _detections(entries: list[Detection], path: Path, images: Sequence[Path]) -> list[tuple[Array, Array | None]]:
    for row, entry in enumerate(entries):
        if entry.root_cam is not None:
            problem = "is RootNet's output, whose boxes are enlarged already"
            raise InputError(f"{path}: [{row}].root_cam", problem, "give the detector's own file")
    ids = {entry.image_id for entry in entries}
    of_image: list[tuple[Array, Array | None]] = []
    for image in images:
        number = re.search(r"(\d+)$", image.stem)
        if number is None or int(number[1]) not in ids:
            raise InputError(path, f"has no image_id that is the number of {image.name}", f"give {_BOXES}")
        own = [entry for entry in entries if entry.image_id == int(number[1]) and entry.category_id == 1]
        scores = [entry.score for entry in own]
        known = None if None in scores else np.array(scores, dtype=np.float64)
        of_image.append((np.array([entry.bbox for entry in own], dtype=np.float64).reshape(-1, 4), known))
    return of_image


def detect_people(image: Image) -> tuple[Array, Array]:
    """People whom OpenCV's HOG detector (Dalal and Triggs, CVPR 2005) finds.

    Returns:
        boxes (P, 4) x, y, width, height in pixels, and scores (P,).

    Of boxes that overlap by more than half, the surer one is kept. It finds upright people alone, and its boxes have a
    margin about them, which is taken off.
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
    # Windows are 64 x 128 px for people of 96 px, with as much margin at the sides.
    boxes_xywh = np.concatenate([boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 8, boxes_xywh[:, 2:] * 3 / 4], axis=1)
    kept = cv2.dnn.NMSBoxes(boxes_xywh.tolist(), scores.tolist(), 0.0, _HOG_OVERLAP) if len(scores) else []
    order = np.array(kept, dtype=np.int64).reshape(-1)
    return boxes_xywh[order] / factor, scores[order]


@dataclass(frozen=True, eq=False)
class Seen:
    """What was answered of one photograph.

    Args:
        photo: with the boxes that were used.
        roots_mm: (P, 3) in the camera's frame.
        scores: (P,).
        pictures: that the method drew, (H, W, 3) uint8 RGB.
    """

    photo: Photo
    roots_mm: Array
    scores: Array
    pictures: Sequence[Image]

    def lines(self) -> list[str]:
        """One line per person."""
        of_person = zip(self.roots_mm.tolist(), self.scores.tolist(), strict=True)
        return [
            f"{self.photo.path.name}: person {number}: x {x / 1000:.2f} y {y / 1000:.2f} z {z / 1000:.2f} m, "
            f"score {score:.2f}"
            for number, ((x, y, z), score) in enumerate(of_person, start=1)
        ] or [f"{self.photo.path.name}: nobody"]

    def record(self) -> dict[str, Any]:
        """The same in plain values, for JSON."""
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


@dataclass(frozen=True)
class Weights:
    """The weights that are used.

    Args:
        row: whose method and options.
        path: of the checkpoint; None: the method has none.
        trained_on: in words.
        synthetic: whether that was a synthetic world; None: not known.
    """

    row: str
    path: Path | None
    trained_on: str
    synthetic: bool | None


def photos(
    paths: Sequence[Path],
    focal: FocalOf,
    boxes: Path | None,
    say: Callable[[str], None] = lambda line: None,
    min_score: float = -np.inf,
) -> list[Photo]:
    """The photographs with their cameras, and their boxes: those of a file, or people whom HOG detects.

    Args:
        paths: of the images.
        focal: see `focal_of`.
        boxes: file of boxes, see `read_boxes`; None: they are detected.
        say: called with a line where boxes are left out.
        min_score: detected boxes with a lower score are left out.

    Raises:
        InputError: an image or the file cannot be read, or a focal length is not known.
    """
    given = None if boxes is None else read_boxes(boxes, paths)
    source = "opencv-hog" if boxes is None else str(boxes)
    made = []
    for place, path in enumerate(paths):
        image, film_mm = read_photo(path)
        focal_px, focal_source = focal(image, film_mm, path)
        boxes_xywh, scores = detect_people(image) if given is None else given[place]
        left_out = LeftOut()
        size = np.array([image.shape[1::-1]] * len(boxes_xywh), dtype=np.int64).reshape(-1, 2)
        # RootNet's rule, which follows, moves a box beyond the left or the upper edge into the image.
        ends = boxes_xywh[:, :2] + boxes_xywh[:, 2:]
        within = np.asarray(((boxes_xywh[:, :2] < size) & (ends > 0)).all(axis=1))
        kept = left_out.keep(within, np.ones(len(boxes_xywh), dtype=np.bool_), "boxes beyond the image")
        if scores is not None:
            kept = left_out.keep(scores >= min_score, kept, f"boxes with a score below {min_score:g}")
        kept = used_boxes(boxes_xywh, size, kept, left_out)
        if left_out.counts:
            say(f"{path.name}{left_out}")
        of_kept = None if scores is None else scores[kept]
        made.append(Photo(path, image, focal_px, focal_source, corners(boxes_xywh[kept]), of_kept, source))
    return made


def find_weights(settings: Settings, row: str | None, checkpoint: Path | None) -> Weights:
    """The row that finds roots, and its weights.

    Args:
        settings: params.yaml in one profile.
        row: of it; None: the first that answers with one root per person.
        checkpoint: a checkpoint of ours or an imported one; None: that of the row in the profile's results.

    Raises:
        InputError: there is no such row, it finds no roots, or it has no checkpoint.
    """
    finders = (name for name in settings.rows if _finds_roots(settings, name))
    row = row or next(finders, None)
    if row is None:
        remedy = "add one whose method answers with one root per person"
        raise InputError("params.yaml: methods", "no row finds the roots of people", remedy)
    if not _finds_roots(settings, row):
        remedy = f"name one that does: {', '.join(finders) or 'there is none'}"
        raise InputError(f"row {row}", "does not find the roots of people", remedy)
    path = checkpoint or next(
        (
            path
            for dataset in settings.params.datasets
            for seed in settings.profile.seeds
            if (path := settings.checkpoint(dataset, row, seed)).is_file()
        ),
        None,
    )
    if path is None:
        remedy = f"run `poseboard train {row}`, or give --checkpoint FILE"
        raise InputError(f"row {row}", f"has no checkpoint in {settings.portable(str(settings.results))}", remedy)
    if not path.is_file():
        raise InputError(path, "there is no such checkpoint", "give a checkpoint of ours or an imported one")
    weights_sha256(settings, path)
    record = training_path(settings, path)
    training = TrainingFile.read(record) if record is not None and record.is_file() else None
    origin = None if training is None else training.provenance.weights
    if training is None or (origin is not None and origin.origin == "imported"):
        return Weights(row, path, "not known", None)
    names = ", ".join(training.training_manifests or [training.dataset])
    world = " (a synthetic world)" if training.synthetic else ""
    return Weights(row, path, f"{names}{world}", training.synthetic)


def run(settings: Settings, weights: Weights, taken: Sequence[Photo]) -> list[Seen]:
    """Find everyone in the photographs.

    Raises:
        InputError: the weights do not fit the row.
    """
    kind = find_method(settings.entry(weights.row).spec)
    options = settings.options(weights.row, _dataset(settings, weights.row))
    row = LoadedRow(weights.row, lambda: kind(options, ROOT), weights.path, device())
    model = row.model()
    return [_seen(model, row.inputs, photo) for photo in taken]


def write_pictures(seen: Sequence[Seen], folder: Path) -> list[list[Path]]:
    """Write the pictures that the method drew, as PNG named after their photographs; returns those of each."""
    names: set[str] = set()
    written = []
    for number, one in enumerate(seen, start=1):
        name = one.photo.path.stem if one.photo.path.stem not in names else f"{one.photo.path.stem}-{number}"
        names.add(name)
        ends = ["", *(f"-{place}" for place in range(2, len(one.pictures) + 1))]
        paths = [folder / f"{name}-people{end}.png" for end, _ in zip(ends, one.pictures, strict=False)]
        for path, picture in zip(paths, one.pictures, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, partial(Picture.fromarray(picture).save, format="PNG"))
        written.append(paths)
    return written


def as_json(seen: Sequence[Seen], weights: Weights, pictures: Sequence[Sequence[Path]]) -> str:
    """Everything as a JSON list with one object per photograph; x, y, z in metres, OpenCV axes."""
    used = {
        "row": weights.row,
        "checkpoint": str(weights.path),
        "trained_on": weights.trained_on,
        "synthetic": weights.synthetic,
    }
    records = [
        {**one.record(), "weights": used, "pictures": [str(path) for path in of_one]}
        for one, of_one in zip(seen, pictures, strict=True)
    ]
    return json.dumps(records, indent=1)


def _finds_roots(settings: Settings, row: str) -> bool:
    spec = settings.entry(row).spec
    if not predicts(find_learner(spec)):
        return False
    try:
        method = find_method(spec)(settings.options(row, _dataset(settings, row)), HUMAN36M)
    except InputError:  # a method that does not take these joints
        return False
    return answer_skeleton(method, HUMAN36M).joints == ROOT.joints


def _dataset(settings: Settings, row: str) -> str:
    """Whose values count where options differ between data sets: the first that the row runs on."""
    return next(iter(settings.on(row) or settings.params.datasets))


def _seen(model: Method, inputs: Inputs, photo: Photo) -> Seen:
    sample = photo.sample
    shown = [_shown(one_person(sample, person), inputs) for person in range(len(photo.boxes_px))]
    if not shown:
        return Seen(photo, np.empty((0, 3)), np.empty(0), [])
    answers = model.predict(shown)
    check_answers(answers, len(shown), type(model).__name__)
    answer = together(answers, ROOT, str(photo.path))
    pictures = model.figures(sample, answer, images=True) if isinstance(model, Drawing) else []
    return Seen(photo, answer.joints_mm[:, 0], answer.score, [picture.image for picture in pictures])


def _shown(sample: Sample, inputs: Inputs) -> Sample:
    """One person of a photograph as the hand-over shows a sample of a data set."""
    if inputs.crop_px is not None:
        sample = crop(sample, inputs.crop_px, inputs.box_scale, inputs.resampling)
    return withhold(sample, inputs)
