"""Conversion of the official Human3.6M download to the layouts of our adapters (`poseboard data convert`).

Each archive is read in one pass, a few files at a time, and never unpacked whole. After each finished file a record is
written to ``<out>/conversion``, so a killed conversion continues after the last finished video. Labels come last.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from poseboard.benchmarks.jobs import only_writer, progress, run_jobs
from poseboard.datasets import human36m_coco as coco
from poseboard.datasets import human36m_official as official
from poseboard.datasets.camera import Camera, undistortion_map
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import parse_json, read_bytes, write_file
from poseboard.datasets.human36m import CAMERAS, LABELS, ROW, TEST_SUBJECTS, TREES, encode_labels, image_path
from poseboard.datasets.human36m import labels_content as labels_of
from poseboard.datasets.human36m_toolbox import JOINTS
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.datasets.video import Video

Target = Literal["human36m", "human36m-coco"]

MISSING = ("S11", "Directions-2", "54138969")
"""Subject, sequence and camera whose official video is damaged. It has no boxes and no images."""

JPEG_QUALITY = 95
_MOST_FRAMES_LACKING = 10
"""Frames by which a video may be shorter than the poses; more is a damaged video."""
_LEAST_INSIDE = 0.5
"""Share of the joints inside the boxes below which cameras, boxes and poses cannot belong together."""
_BATCH = 4
_AGAIN = "download it again"

Integers = NDArray[np.int64]
JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Conversion:
    """Options of a conversion.

    Args:
        target: data set whose layout is written.
        archives: folder with the archives of `human36m_official.ARCHIVES`.
        metadata: path of metadata.xml.
        out: folder to write.
        frames: "published", "every:N" or "all".
        undistort: whether to also write undistorted images (human36m).
        partial: whether to skip subjects with missing archives instead of raising an error.
        processes: number of worker processes; sets the batch size.
    """

    target: Target
    archives: Path
    metadata: Path
    out: Path
    frames: str = "published"
    undistort: bool = False
    partial: bool = False
    processes: int = 1

    @cached_property
    def every(self) -> int | None:
        """Stride between converted frames; None: the published frames.

        Raises:
            InputError: ``frames`` is not "published", "every:N" or "all".
        """
        if self.frames in ("published", "all"):
            return None if self.frames == "published" else 1
        match = re.fullmatch(r"every:([1-9][0-9]{0,5})", self.frames)
        if match is None:
            raise InputError(f"--frames {self.frames}", "is not a choice of frames", "use published, all, or every:5")
        return int(match[1])

    def kinds(self, subject: str) -> list[str]:
        """Kinds of archives that a subject needs."""
        kinds = ["poses", "videos"]
        if self.target == "human36m":
            kinds.append("boxes")
            if self.every is None and subject not in TEST_SUBJECTS:
                kinds.append("choice")
        return kinds

    def subjects(self) -> list[str]:
        """The subjects with all archives.

        Raises:
            InputError: archives of a subject are missing, and the conversion is not partial.
        """
        lacking = {
            subject: [path.name for kind in self.kinds(subject) if not (path := self.archive(kind, subject)).is_file()]
            for subject in official.SUBJECTS
        }
        incomplete = [f"{subject}: {', '.join(names)}" for subject, names in lacking.items() if names]
        complete = [subject for subject, names in lacking.items() if not names]
        if incomplete and not (self.partial and complete):
            remedy = "download the archives" + (", or add --partial to convert the other subjects" if complete else "")
            raise InputError(self.archives, f"lacks archives of {'; '.join(incomplete)}", remedy)
        return complete

    def archive(self, kind: str, subject: str) -> Path:
        """Path of the archive of one kind for a subject."""
        return official.archive_path(self.archives, kind, subject)

    def images(self, sequence: official.Sequence, camera: str, frame: int) -> list[Path]:
        """Paths of the recorded image and, with ``undistort``, of the undistorted one."""
        if self.target == "human36m-coco":
            numbers = int(sequence.subject[1:]), sequence.action, sequence.subaction
            return [self.out / "images" / coco.file_name(*numbers, CAMERAS.index(camera), frame)]
        trees = TREES if self.undistort else TREES[:1]
        return [image_path(self.out, sequence.subject, sequence.name, tree, camera, frame) for tree in trees]

    def record(self, kind: str, sequence: official.Sequence, camera: str) -> Path:
        """Path of the record of a finished file."""
        return self.out / "conversion" / sequence.subject / f"{sequence.prefix}.{camera}.{kind}.json"


def convert(conversion: Conversion) -> Iterator[str]:
    """Convert the archives and yield messages for the user.

    Raises:
        InputError: an archive, metadata.xml or a file in an archive is missing or damaged, or the files are not from
            the same release.
        OSError: a file cannot be written.
    """
    subjects, metadata = conversion.subjects(), official.read_metadata(conversion.metadata)
    conversion.out.mkdir(parents=True, exist_ok=True)
    with only_writer(conversion.out / "conversion.lock", "converting into this folder"):
        sequences = [sequence for sequence in metadata.sequences if sequence.subject in subjects]
        poses, chosen = _read_poses(conversion, sequences)
        boxes: dict[tuple[official.Sequence, str], Integers] = {}
        if conversion.target == "human36m":
            boxes = _read_boxes(conversion, sequences, chosen)
            yield _check_boxes(metadata, poses, chosen, boxes)
        videos = _read_videos(conversion, metadata, sequences, chosen)
        kept = {
            sequence: chosen[sequence][: _common_length(sequence, chosen[sequence], boxes, videos)]
            for sequence in sequences
        }
        for sequence, frames in kept.items():
            if len(frames) < len(chosen[sequence]):
                yield f"{sequence}: a file ends before frame {chosen[sequence][len(frames)]}; {len(frames)} are used"
        if conversion.target == "human36m":
            _write_labels(conversion, metadata, kept, poses, boxes)
        else:
            _write_coco(conversion, metadata, kept, poses, videos)
        for subject in subjects:
            own = [sequence for sequence in sequences if sequence.subject == subject]
            moments = sum(len(kept[sequence]) for sequence in own)
            images = sum(len(kept[sequence]) for sequence, camera in videos if sequence in own)
            yield f"{subject}: {len(own)} sequences, {moments} moments, {images} images"
        absent = [f"{s}, camera {c}" for s in sequences for c in CAMERAS if (s, c) not in videos]
        yield f"without images: {'; '.join(absent) or 'none'}"
        yield f"{conversion.out}: set `root:` of {conversion.target} in params.yaml to this folder"


def _read_poses(
    conversion: Conversion, sequences: Sequence[official.Sequence]
) -> tuple[dict[official.Sequence, NDArray[np.float32]], dict[official.Sequence, Integers]]:
    """Read the poses (T, 32, 3) of each sequence, and choose its frames."""
    poses: dict[official.Sequence, NDArray[np.float32]] = {}
    moved: dict[official.Sequence, Integers] = {}
    subjects = list(dict.fromkeys(sequence.subject for sequence in sequences))
    with _scratch(conversion) as scratch, progress("poses") as report:
        for done, subject in enumerate(subjects):
            report(done, len(subjects))
            by_file = {f"{each.prefix}.cdf": each for each in sequences if each.subject == subject}
            for name, path in official.extract(conversion.archive("poses", subject), by_file, scratch):
                poses[by_file[name]] = official.read_poses(path)
            if missing := [sequence for sequence in by_file.values() if sequence not in poses]:
                archive = conversion.archive("poses", subject)
                raise InputError(f"{archive}: {missing[0].prefix}.cdf", "file is missing", _AGAIN)
            if "choice" in conversion.kinds(subject):
                # The choices of the four cameras differ by rounding only; the first camera's is used for all.
                by_file = {f"{each.prefix}.{CAMERAS[0]}.cdf": each for each in by_file.values()}
                for name, path in official.extract(conversion.archive("choice", subject), by_file, scratch):
                    moved[by_file[name]] = official.moved_frames(official.read_poses(path))
                if missing := [sequence for sequence in by_file.values() if sequence not in moved]:
                    archive = conversion.archive("choice", subject)
                    raise InputError(f"{archive}: {missing[0].prefix}.{CAMERAS[0]}.cdf", "file is missing", _AGAIN)
    chosen = {}
    for sequence, joints_mm in poses.items():
        if sequence in moved:
            chosen[sequence] = moved[sequence][moved[sequence] < len(joints_mm)]
        else:
            published = 64 if sequence.subject in TEST_SUBJECTS else 5
            chosen[sequence] = official.strided_frames(len(joints_mm), conversion.every or published)
    return poses, chosen


def _read_boxes(
    conversion: Conversion, sequences: Sequence[official.Sequence], chosen: Mapping[official.Sequence, Integers]
) -> dict[tuple[official.Sequence, str], Integers]:
    """Read the boxes (n, 4) of the chosen frames by sequence and camera: top, left, bottom, right."""

    def job(sequence: official.Sequence, camera: str, path: Path) -> _Boxes:
        return _Boxes(path, tuple(chosen[sequence].tolist()))

    results = _each_file(conversion, "boxes", ".mat", sequences, chosen, job, _boxes_of)
    return {key: np.array(result["boxes"], dtype=np.int64).reshape(-1, 4) for key, result in results.items()}


def _read_videos(
    conversion: Conversion,
    metadata: official.Metadata,
    sequences: Sequence[official.Sequence],
    chosen: Mapping[official.Sequence, Integers],
) -> dict[tuple[official.Sequence, str], dict[str, Any]]:
    """Write the images of the chosen frames; return frame count and image size by sequence and camera."""

    def job(sequence: official.Sequence, camera: str, path: Path) -> _Frames:
        frames = chosen[sequence].tolist()
        images = tuple(tuple(conversion.images(sequence, camera, frame)) for frame in frames)
        return _Frames(path, tuple(frames), images, metadata.cameras[sequence.subject][camera])

    return _each_file(conversion, "videos", ".mp4", sequences, chosen, job, _write_frames)


def _each_file(
    conversion: Conversion,
    kind: str,
    suffix: str,
    sequences: Sequence[official.Sequence],
    chosen: Mapping[official.Sequence, Integers],
    job: Callable[[official.Sequence, str, Path], JobT],
    function: Callable[[JobT], dict[str, Any]],
) -> dict[tuple[official.Sequence, str], dict[str, Any]]:
    """Apply a function to the file of each sequence and camera; results of finished files come from their records."""
    needed = {(sequence, camera) for sequence in sequences for camera in CAMERAS}
    results: dict[tuple[official.Sequence, str], dict[str, Any]] = {}
    request = {"undistort": conversion.undistort} if kind == "videos" else {}
    for sequence, camera in needed:
        record = _read_record(conversion.record(kind, sequence, camera))
        if record.get("request") == {"frames": chosen[sequence].tolist(), **request}:
            results[sequence, camera] = record["result"]
    with _scratch(conversion) as scratch, progress(kind) as report:
        for subject in dict.fromkeys(sequence.subject for sequence in sequences):
            by_file = {
                f"{sequence.prefix}.{camera}{suffix}": (sequence, camera)
                for sequence, camera in needed - results.keys()
                if sequence.subject == subject
            }
            files = official.extract(conversion.archive(kind, subject), by_file, scratch) if by_file else iter(())
            while batch := list(islice(files, _BATCH * conversion.processes)):
                jobs = [(*by_file[name], job(*by_file[name], path)) for name, path in batch]
                calls = [(function, each) for *_, each in jobs]
                for (sequence, camera, _), result in zip(jobs, run_jobs(_tried, calls), strict=True):
                    if isinstance(result, InputError):
                        if (sequence.subject, sequence.name, camera) != MISSING:
                            where = f"{conversion.archive(kind, subject)}: {result.where}"
                            raise InputError(where, result.problem, result.remedy)
                        continue
                    content = {"request": {"frames": chosen[sequence].tolist(), **request}, "result": result}
                    write_file(conversion.record(kind, sequence, camera), json.dumps(content).encode())
                    results[sequence, camera] = result
                    report(len(results), len(needed))
                for _, path in batch:
                    path.unlink()
    for sequence, camera in sorted(needed - results.keys(), key=str):
        if (sequence.subject, sequence.name, camera) != MISSING:
            archive = conversion.archive(kind, sequence.subject)
            raise InputError(f"{archive}: {sequence.prefix}.{camera}{suffix}", "file is missing", _AGAIN)
    return results


def _read_record(path: Path) -> dict[str, Any]:
    """Read the record of a finished file; empty if it is missing or unreadable."""
    try:
        record = parse_json(read_bytes(path))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


@contextmanager
def _scratch(conversion: Conversion) -> Iterator[Path]:
    """Temporary folder in the output for extracted files."""
    folder = conversion.out / "conversion" / "files"
    shutil.rmtree(folder, ignore_errors=True)  # of a killed conversion
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tried(call: tuple[Callable[[JobT], dict[str, Any]], JobT]) -> dict[str, Any] | InputError:
    """Result of a job, or its InputError: one file of the release is damaged (`MISSING`)."""
    function, job = call
    try:
        return function(job)
    except InputError as error:
        where = error.where.rpartition("/")[2]
        return InputError(where, error.problem, error.remedy)


@dataclass(frozen=True)
class _Boxes:
    """Job: read the boxes of selected frames from a mask file."""

    path: Path
    frames: tuple[int, ...]


def _boxes_of(job: _Boxes) -> dict[str, Any]:
    return {"boxes": official.read_boxes(job.path, np.array(job.frames, dtype=np.int64)).tolist()}


@dataclass(frozen=True, eq=False)
class _Frames:
    """Job: write selected frames of a video as images, recorded and undistorted."""

    path: Path
    frames: tuple[int, ...]
    images: tuple[tuple[Path, ...], ...]
    camera: Camera


def _write_frames(job: _Frames) -> dict[str, Any]:
    """Write the images of a job. The video may be a few frames shorter than the poses."""
    targets = dict(zip(job.frames, job.images, strict=True))
    written, count = 0, 0
    maps: Any = None
    with Video(job.path) as video:
        size = video.size
        for count, image in enumerate(video.images(), start=1):
            if (paths := targets.get(count - 1)) is None:
                continue
            data = _jpeg(image[..., ::-1])
            write_file(paths[0], data)
            if len(paths) > 1:
                whole, part = maps = maps or undistortion_map(_with_size(job.camera, size))
                # As published, undistorted images are made from the JPEG files.
                picture = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)
                flat = cv2.remap(picture, whole, part, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
                write_file(paths[1], _jpeg(flat))
            written += 1
    if job.frames and count + _MOST_FRAMES_LACKING <= job.frames[-1]:
        problem = f"video ends after {count} frames, its poses need frame {job.frames[-1]}"
        raise InputError(job.path.name, problem, _AGAIN)
    return {"frames": written, "size": list(size)}


def _jpeg(picture: NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def _with_size(camera: Camera, size: tuple[int, int]) -> Camera:
    return Camera(camera.K, camera.R, camera.t, camera.dist, size, camera.distortion)


def _common_length(
    sequence: official.Sequence,
    frames: Integers,
    boxes: Mapping[tuple[official.Sequence, str], Integers],
    videos: Mapping[tuple[official.Sequence, str], Mapping[str, Any]],
) -> int:
    """Number of the chosen frames that all cameras of a sequence have."""
    lengths = [len(boxes[key]) for key in boxes if key[0] == sequence]
    lengths += [int(videos[key]["frames"]) for key in videos if key[0] == sequence]
    return min([len(frames), *lengths])


def _check_boxes(
    metadata: official.Metadata,
    poses: Mapping[official.Sequence, NDArray[np.float32]],
    chosen: Mapping[official.Sequence, Integers],
    boxes: Mapping[tuple[official.Sequence, str], Integers],
) -> str:
    """Check before the slow video step that the joints project into the boxes; return the share in words.

    Raises:
        InputError: the share is too small for a subject and camera.
    """
    shares: dict[tuple[str, str], list[float]] = {}
    for (sequence, serial), of_camera in boxes.items():
        frames = chosen[sequence][: len(of_camera)]
        joints_mm = poses[sequence][frames][:, official.JOINTS_OF_32].astype(np.float64)
        points = metadata.cameras[sequence.subject][serial].project(joints_mm)
        top, left, bottom, right = np.moveaxis(of_camera[:, None].astype(np.float64), -1, 0)
        inside = (
            (points[..., 0] >= left) & (points[..., 0] < right) & (points[..., 1] >= top) & (points[..., 1] < bottom)
        )
        shares.setdefault((sequence.subject, serial), []).append(float(inside.mean()) if inside.size else 1.0)
    means = {key: float(np.mean(values)) for key, values in shares.items()}
    (subject, serial), share = min(means.items(), key=lambda item: item[1])
    if share < _LEAST_INSIDE:
        problem = f"{share:.0%} of the joints of {subject} project into the boxes of camera {serial}"
        raise InputError("boxes", problem, "download metadata.xml, poses and boxes of one release")
    return f"{np.mean(list(means.values())):.1%} of the joints project into their box, {share:.1%} in the worst camera"


def _write_labels(
    conversion: Conversion,
    metadata: official.Metadata,
    kept: Mapping[official.Sequence, Integers],
    poses: Mapping[official.Sequence, NDArray[np.float32]],
    boxes: Mapping[tuple[official.Sequence, str], Integers],
) -> None:
    """Write the multi-view labels of learnable triangulation."""
    parts = []
    for sequence, frames in kept.items():
        part = np.zeros(len(frames), dtype=ROW)
        part["subject_idx"] = official.SUBJECTS.index(sequence.subject)
        part["action_idx"], part["frame_idx"] = metadata.names.index(sequence.name), frames
        part["keypoints"] = poses[sequence][frames][:, official.JOINTS_OF_32]
        for v, camera in enumerate(CAMERAS):
            if (sequence, camera) in boxes:
                part["bbox_by_camera_tlbr"][:, v] = boxes[sequence, camera][: len(frames)]
        parts.append(part)
    cameras = [list(metadata.cameras[subject].values()) for subject in official.SUBJECTS]
    labels = labels_of(official.SUBJECTS, metadata.names, cameras, np.concatenate(parts))
    write_file(conversion.out / LABELS, encode_labels(labels))


def _write_coco(
    conversion: Conversion,
    metadata: official.Metadata,
    kept: Mapping[official.Sequence, Integers],
    poses: Mapping[official.Sequence, NDArray[np.float32]],
    videos: Mapping[tuple[official.Sequence, str], Mapping[str, Any]],
) -> None:
    """Write RootNet's annotation files of each subject."""
    order = [official.JOINTS_OF_32[HUMAN36M.joints.index(name)] for name in JOINTS]
    first_id = 0
    for subject in dict.fromkeys(sequence.subject for sequence in kept):
        annotated = coco.SubjectAnnotations(int(subject[1:]), list(metadata.cameras[subject].values()), first_id)
        for sequence, frames in kept.items():
            if sequence.subject != subject:
                continue
            views = [v for v, camera in enumerate(CAMERAS) if (sequence, camera) in videos]
            sizes = {v: tuple(videos[sequence, CAMERAS[v]]["size"]) for v in views}
            joints_mm = poses[sequence][frames][:, order].astype(np.float64)
            shots = [(instant, v) for v in views for instant in range(len(frames))]
            annotated.add(sequence.action, sequence.subaction, frames, joints_mm, shots, sizes)
        for name, content in annotated.files().items():
            write_file(conversion.out / name, json.dumps(content).encode())
        first_id = annotated.next_id
