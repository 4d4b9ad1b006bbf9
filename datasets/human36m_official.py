"""Files of the official Human3.6M download, before any preparation.

    Poses_D3_Positions_S1.tgz                   <prefix>.cdf: Pose (1, T, 96), world mm, 50 Hz
    Poses_D3_Positions_mono_universal_S1.tgz    <prefix>.<serial>.cdf: the same in the camera's frame
    Videos_S1.tgz                               <prefix>.<serial>.mp4
    Segments_mat_gt_bb_S1.tgz                   <prefix>.<serial>.mat: MATLAB 7.3, one mask per frame
    metadata.xml                                names of actions, files and cameras; extrinsics and intrinsics

The prefix of a sequence, such as "Directions 1", is in metadata.xml; nothing else maps a sequence to its files.
World frame: millimetres, z up. Cameras have the distortion model of the release (`Camera.distortion` "human36m").
"""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import zlib
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.parsers import expat

import cdflib
import h5py
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file, read_file
from poseboard.datasets.human36m import CAMERAS

SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
"""Subjects with public poses, in the order of the labels."""

JOINTS_OF_32 = (3, 2, 1, 6, 7, 8, 0, 12, 13, 15, 27, 26, 25, 17, 18, 19, 14)
"""Indices of the joints of `skeleton.HUMAN36M` among the 32 recorded ones."""

ARCHIVES = {
    "poses": "Poses_D3_Positions_{subject}.tgz",
    "choice": "Poses_D3_Positions_mono_universal_{subject}.tgz",
    "boxes": "Segments_mat_gt_bb_{subject}.tgz",
    "videos": "Videos_{subject}.tgz",
}
"""Kind of files -> name of the archive of a subject."""

_AGAIN = "download it again"
_LARGEST_XML = 64 * 2**20
_LARGEST_MEMBER = 8 * 2**30
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)
_SMALLEST_BOX_PX = 2
_MOVED_MM = 40.0
_TEST_STRIDE = 64


@dataclass(frozen=True)
class Sequence:
    """A sequence of a subject.

    Args:
        subject: name of the subject, such as "S9".
        name: action and number, such as "Walking-1".
        prefix: first part of the file names of the sequence, such as "Walking 2".
        action: number of the action in metadata.xml, from 2.
        subaction: number of the sub-action, 1 or 2.
    """

    subject: str
    name: str
    prefix: str
    action: int
    subaction: int

    def __str__(self) -> str:
        return f"{self.subject}/{self.name}"


@dataclass(frozen=True, eq=False)
class Metadata:
    """Content of metadata.xml.

    Args:
        sequences: sequences of the subjects in `SUBJECTS`, by subject, then in the order of the file.
        cameras: subject -> serial number -> camera, world mm, without image size.
    """

    sequences: tuple[Sequence, ...]
    cameras: Mapping[str, Mapping[str, Camera]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences in the order of the file, without the subject."""
        return tuple(dict.fromkeys(sequence.name for sequence in self.sequences))


def read_metadata(path: Path) -> Metadata:
    """Read metadata.xml.

    Raises:
        InputError: the file is not XML, or a field is missing or wrong.
    """
    content = read_file(path, "it is part of the code bundle of the data set")
    if len(content) > _LARGEST_XML or _declares_entities(content):
        raise InputError(path, "is larger than metadata.xml, or declares entities", _AGAIN)
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(path, f"is not XML ({error})", _AGAIN) from None
    serials = tuple(_text(item) for item in root.findall("dbcameras/index2id/item"))
    if serials != CAMERAS:
        problem = f"cameras are {', '.join(serials) or 'missing'}, not {', '.join(CAMERAS)}"
        raise InputError(f"{path}: dbcameras.index2id", problem, _AGAIN)
    actions = [_text(item) for item in root.findall("actionnames/item")]
    return Metadata(_sequences(root, actions, path), _cameras(root, path))


def _declares_entities(content: bytes) -> bool:
    """Whether an XML file of any encoding has a document type. Parsing stops there, before any entity is expanded."""
    declared: list[bool] = []

    def stop(*_: object) -> None:
        declared.append(True)
        raise ValueError

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = stop
    # What is not XML at all is reported by the parser that reads it.
    with suppress(expat.ExpatError, ValueError, LookupError):
        parser.Parse(content, True)
    return bool(declared)


def _sequences(root: ElementTree.Element, actions: list[str], path: Path) -> tuple[Sequence, ...]:
    where = f"{path}: mapping"
    rows = [[_text(cell) for cell in row.findall("td")] for row in root.findall("mapping/tr")]
    columns = rows[0] if rows else []
    if missing := [subject for subject in SUBJECTS if subject not in columns]:
        raise InputError(where, f"has no column {missing[0]}", _AGAIN)
    sequences = []
    for subject in SUBJECTS:
        for number, row in enumerate(rows[1:], start=1):
            if len(row) != len(columns) or not (row[0].isdecimal() and row[1].isdecimal()):
                raise InputError(f"{where}: row {number}", "is not action, subaction and a name per subject", _AGAIN)
            action, subaction = int(row[0]), int(row[1])
            if not 1 <= action <= len(actions):
                raise InputError(f"{where}: row {number}", f"action {action} has no name in actionnames", _AGAIN)
            if action == 1:  # all actions in one, which has no files
                continue
            prefix, name = row[columns.index(subject)], f"{actions[action - 1]}-{subaction}"
            for text in (prefix, name):  # they become file names
                if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,63}", text) is None:
                    raise InputError(f"{where}: row {number}", f"{text[:40]!r} is not a plain name", _AGAIN)
            sequences.append(Sequence(subject, name, prefix, action, subaction))
        own = [sequence for sequence in sequences if sequence.subject == subject]
        for names in ([sequence.name for sequence in own], [sequence.prefix for sequence in own]):
            if twice := [name for name in names if names.count(name) > 1]:
                raise InputError(f"{where}: {subject}", f"{twice[0]!r} occurs twice", _AGAIN)
    return tuple(sequences)


def _cameras(root: ElementTree.Element, path: Path) -> dict[str, dict[str, Camera]]:
    """Cameras of all subjects from ``w0``: 4 × 11 × 6 extrinsics, then 4 × 9 intrinsics."""
    element = root.find("w0")
    text = "" if element is None else _text(element).strip("[]")
    try:
        numbers = np.array([float(number) for number in re.split(r"[\s,;]+", text.strip()) if number])
    except ValueError:
        numbers = np.empty(0)
    if numbers.shape != (300,) or not np.isfinite(numbers).all():
        raise InputError(f"{path}: w0", "is not 300 numbers in brackets", _AGAIN)
    cameras: dict[str, dict[str, Camera]] = {}
    for subject in SUBJECTS:
        cameras[subject] = {}
        for c, serial in enumerate(CAMERAS):
            extrinsics = numbers[6 * (11 * c + int(subject[1:]) - 1) :][:6]
            fx, fy, cx, cy, k1, k2, k3, p1, p2 = numbers[264 + 9 * c :][:9]
            R, centre_mm = _rotation(*extrinsics[:3]), extrinsics[3:]
            K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
            try:
                camera = Camera(K, R, -R @ centre_mm, np.array([k1, k2, p1, p2, k3]), distortion="human36m")
            except ValueError as error:
                raise InputError(f"{path}: w0", f"{subject}, camera {serial}: {error}", _AGAIN) from None
            cameras[subject][serial] = camera
    return cameras


def _rotation(alpha: float, beta: float, gamma: float) -> Array:
    """``Rx(alpha) Ry(beta) Rz(gamma)``, radians."""
    (sa, ca), (sb, cb), (sc, cc) = ((np.sin(angle), np.cos(angle)) for angle in (alpha, beta, gamma))
    Rx = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    Ry = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    Rz = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return np.asarray(Rx @ Ry @ Rz)


def _text(element: ElementTree.Element) -> str:
    return (element.text or "").strip()


def archive_path(folder: Path, kind: str, subject: str) -> Path:
    """Path of an archive in `ARCHIVES`."""
    return folder / ARCHIVES[kind].format(subject=subject)


def extract(archive: Path, names: Container[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """Extract files of an archive lazily, one per iteration, in one pass over the stream.

    Folders in the archive are stripped, so no file is written outside of ``folder``. Links and devices are skipped.

    Args:
        archive: compressed tar file.
        names: file names, without folders.
        folder: folder of the extracted files.

    Yields:
        File name and path.

    Raises:
        InputError: the archive is absent, no tar file, truncated, or has a file of more than 8 GB.
        OSError: a file cannot be written.
    """
    try:
        opened = open_file(archive)
    except OSError as error:
        remedy = "download it, or leave out its subject"
        raise InputError(archive, f"archive cannot be read ({error.strerror})", remedy) from None
    try:
        tar = tarfile.open(fileobj=opened, mode="r|*")  # noqa: SIM115  # closed below
    except _DAMAGED as error:
        raise InputError(archive, f"is damaged or truncated ({str(error)[:80]})", _AGAIN) from None
    with opened, tar:
        extracted = set[str]()
        while True:
            try:
                member = tar.next()
                if member is None:
                    return
                name = PurePosixPath(member.name).name
                if not member.isreg() or name not in names or name in extracted:
                    continue
                if member.size > _LARGEST_MEMBER:
                    raise InputError(
                        f"{archive}: {name}",
                        f"has {member.size / 2**30:.1f} GiB, more than {_LARGEST_MEMBER / 2**30:g}",
                        _AGAIN,
                    )
                content = tar.extractfile(member)
                assert content is not None
                with (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file, 2**20)
            except _DAMAGED as error:
                raise InputError(archive, f"is damaged or truncated ({str(error)[:80]})", _AGAIN) from None
            extracted.add(name)
            yield name, folder / name


def read_poses(path: Path) -> NDArray[np.float32]:
    """Read a CDF file of poses: (T, 32, 3) mm.

    Raises:
        InputError: the file is not a CDF, or has no poses of 32 joints.
    """
    try:
        open_file(path).close()  # refuses devices
        values = np.asarray(cdflib.CDF(path).varget("Pose"))
    except Exception as error:  # cdflib raises many types for damaged files
        raise InputError(path, f"is not a CDF file with a variable Pose ({str(error)[:80]})", _AGAIN) from None
    is_pose = values.dtype.kind == "f" and values.ndim in (2, 3) and values.shape[-1] == 96
    if not is_pose or not values.size or values.size != values.shape[-2] * 96:
        raise InputError(f"{path}: Pose", f"is {values.dtype} {values.shape}, not floats (1, T, 96)", _AGAIN)
    poses = values.reshape(-1, 32, 3).astype(np.float32)
    if not np.isfinite(poses).all():
        raise InputError(f"{path}: Pose", "is not finite", _AGAIN)
    return poses


def read_boxes(path: Path, frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """Read the square boxes around the masks of some frames.

    Args:
        path: MATLAB 7.3 file with ``Masks``.
        frames: (n,) frame numbers from 0.

    Returns:
        (m, 4) top, left, bottom, right with exclusive ends, for the m ≤ n frames that the file has.

    Raises:
        InputError: the file is not a MATLAB 7.3 file with masks, or a mask is empty.
    """
    boxes: list[tuple[int, int, int, int]] = []
    try:
        open_file(path).close()  # refuses devices
        with h5py.File(path, "r") as file:
            references = np.asarray(file["Masks"]).ravel()
            # One mask at a time: thousands of them, of 1 MB each, do not fit into memory.
            for frame in frames[: int(np.searchsorted(frames, len(references)))].tolist():
                boxes.append(_box_of(np.asarray(file[references[frame]]).T, f"{path}: Masks, frame {frame}"))
    except InputError:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(path, f"is not a MATLAB 7.3 file with Masks ({str(error)[:80]})", _AGAIN) from None
    return np.array(boxes, dtype=np.int64).reshape(-1, 4)


def _box_of(mask: NDArray[np.generic], where: str) -> tuple[int, int, int, int]:
    """Square box of a mask (H, W), which MATLAB stores columns first; InputError if the mask is empty."""
    if mask.ndim != 2:
        raise InputError(where, f"has shape {mask.shape}, not (width, height)", _AGAIN)
    box = square_box_of(mask)
    if box[2] - box[0] < _SMALLEST_BOX_PX:
        raise InputError(where, "mask is empty", _AGAIN)
    return box


def square_box_of(mask: NDArray[np.generic]) -> tuple[int, int, int, int]:
    """Square box of a mask (H, W): top, left, bottom, right; the shorter side grows about its centre. Zeros if empty.

    Example:
        >>> square_box_of(np.pad(np.ones((4, 2)), 3))
        (3, 2, 7, 6)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0, 0, 0, 0
    (top, bottom), (left, right) = ((int(side[0]), int(side[-1]) + 1) for side in (rows, columns))
    side = max(bottom - top, right - left)
    if bottom - top < side:
        top = round((top + bottom) / 2 - side / 2)
    if right - left < side:
        left = round((left + right) / 2 - side / 2)
    return top, left, top + side, left + side


def moved_frames(poses_mm: NDArray[np.floating], moved_mm: float = _MOVED_MM) -> NDArray[np.int64]:
    """Select frames of poses (T, J, 3) in which a joint moved by ``moved_mm`` or more since the last selected frame.

    The first frame is selected. This is the published choice of training frames (learnable triangulation,
    preprocessing).

    Example:
        >>> moved_frames(np.arange(5.0)[:, None, None] * [[[15.0, 0, 0]]]).tolist()
        [0, 3]
    """
    chosen = [0]
    # A chosen frame depends on the one before it: no step over all frames at once.
    while True:
        distances = np.linalg.norm(poses_mm[chosen[-1] + 1 :] - poses_mm[chosen[-1]], axis=-1)
        moved = np.flatnonzero((distances >= moved_mm).any(axis=1))
        if not moved.size:
            return np.array(chosen, dtype=np.int64)
        chosen.append(chosen[-1] + 1 + int(moved[0]))


def strided_frames(count: int, every: int = _TEST_STRIDE) -> NDArray[np.int64]:
    """Every n-th frame from the first; 64 is the published choice for testing."""
    return np.arange(0, count, every, dtype=np.int64)
