"""What formats of calibration files share: the parsed file, checked numbers, cameras in the unit of the file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import cv2
import numpy as np

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import parse_json, parse_yaml, read_bytes

Unit = Literal["m", "cm", "mm"]
"""Unit of the translations of a file."""

UNIT_MM: Mapping[Unit, float] = {"m": 1000.0, "cm": 10.0, "mm": 1.0}
"""Unit -> millimetres."""

_EXPORT = "export the calibration again, or correct the field"
_ADD = "export the calibration again, or add the field"
_LARGEST = 64 * 2**20
_SIZE = "(width, height), pixels"


@dataclass(frozen=True, eq=False)
class Document:
    """A calibration file or a folder of files, parsed on first access.

    A property such as `toml` is None if the file is not TOML. Formats use this to recognise their files by content.

    Args:
        path: file or folder.
    """

    path: Path

    @cached_property
    def files(self) -> dict[str, Document]:
        """Files of the folder by name, sorted; empty for a file. Hidden files are skipped."""
        if not self.path.is_dir():
            return {}
        paths = sorted(path for path in self.path.iterdir() if path.is_file() and not path.name.startswith("."))
        return {path.name: Document(path) for path in paths}

    @cached_property
    def content(self) -> bytes:
        """Bytes of the file; empty for a folder.

        Raises:
            InputError: the file cannot be read, or is too large for a calibration.
        """
        if self.path.is_dir():
            return b""
        try:
            if self.path.stat().st_size > _LARGEST:
                raise InputError(self.path, "is larger than 64 MiB", "name the calibration file")
            return read_bytes(self.path)
        except OSError as error:
            raise InputError(self.path, f"file cannot be read ({error.strerror})", "check the path") from None

    @cached_property
    def text(self) -> str | None:
        """Text of the file; None if the file is not UTF-8 text."""
        try:
            return self.content.decode("utf-8-sig") or None
        except UnicodeDecodeError:
            return None

    @cached_property
    def toml(self) -> dict[str, Any] | None:
        """Values of a TOML file; None for other files."""
        try:
            return tomllib.loads(self.text or "") or None
        except (tomllib.TOMLDecodeError, RecursionError):
            return None

    @cached_property
    def json(self) -> Any:
        """Values of a JSON file; None for other files."""
        try:
            return parse_json(self.text or "")
        except ValueError:
            return None

    @cached_property
    def yaml(self) -> Any:
        """Values of a YAML 1.2 file; None for other files and for OpenCV's FileStorage (see `storage`)."""
        if self.text is None or self.text.startswith("%YAML:"):
            return None
        try:
            return parse_yaml(self.text)
        except ValueError:
            return None

    @cached_property
    def xml(self) -> ElementTree.Element | None:
        """Root of an XML file; None for other files and for XML that declares entities."""
        content = self.content.lstrip(b"\xef\xbb\xbf \t\r\n")
        if not content.startswith(b"<") or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            return None
        try:
            return ElementTree.fromstring(content)
        except (ElementTree.ParseError, ValueError, LookupError):
            return None

    @cached_property
    def storage(self) -> dict[str, Any] | None:
        """Top-level values (arrays, numbers, text, lists of text) of an OpenCV FileStorage; None for other files."""
        text = self.text
        if text is None or "\0" in text or not (text.startswith("%YAML") or "<opencv_storage>" in text[:1000]):
            return None
        try:
            storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
            root = storage.root()
            return {key: _node(root.getNode(key)) for key in root.keys()} or None  # noqa: SIM118
        except (cv2.error, SystemError, UnicodeDecodeError):
            return None


def _node(node: Any) -> Any:
    if node.isSeq():
        items = [node.at(index) for index in range(node.size())]
        return [_node(item) for item in items]
    if node.isMap():
        return node.mat()
    if node.isString():
        return node.string()
    return node.real() if node.isReal() or node.isInt() else None


@dataclass(frozen=True)
class Cameras:
    """Cameras of one calibration, in the unit of the file.

    Args:
        cameras: name -> camera; ``t`` is in the unit of the file.
        remarks: what the reader left out or assumed, one sentence each.
    """

    cameras: Mapping[str, Camera]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A format of calibration files.

    Args:
        name: value of ``--format``.
        title: tools that write it.
        convention: how its numbers are read, one clause.
        unit: unit that the format fixes; None: the file does not state its unit.
        recognises: whether a document is of this format, by its content.
        read: cameras of a document; raises InputError if a field is missing or wrong.
    """

    name: str
    title: str
    convention: str
    unit: Unit | None
    recognises: Callable[[Document], bool]
    read: Callable[[Document], Cameras]


def numbers(value: Any, shape: tuple[int, ...], where: str) -> Array:
    """Convert a value to an array of ``shape``; raise InputError if it is missing, misshapen or not finite.

    Example:
        >>> numbers([[1], [2]], (2,), "file: t").tolist()
        [1.0, 2.0]
    """
    if value is None:
        raise InputError(where, "field is missing", _ADD)
    flat = numbers_of(value, where)
    if flat.size != math.prod(shape) or (len(shape) > 1 and np.shape(value) not in (shape, (math.prod(shape),))):
        raise InputError(where, f"has shape {np.shape(value)}, not {shape}", _EXPORT)
    return flat.reshape(shape)


def numbers_of(value: Any, where: str) -> Array:
    """Flatten nested lists of finite numbers to (n,); raise InputError for other values, booleans and text included."""
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "iuf" or has_booleans(value):
        raise InputError(where, "is not a list of numbers", _EXPORT)
    flat = np.asarray(array, dtype=np.float64).reshape(-1)
    if not np.isfinite(flat).all():
        raise InputError(where, "has a number that is not finite", _EXPORT)
    return flat


def has_booleans(value: Any) -> bool:
    """Whether nested lists hold a boolean, which NumPy would take for 0 or 1.

    Example:
        >>> has_booleans([[1.0, True]])
        True
    """
    return any(isinstance(item, bool) for item in np.asarray(value, dtype=object).ravel())


def rotation(value: Any, where: str) -> Array:
    """Rotation matrix (3, 3) from a matrix or from a rotation vector (3,) in radians (Rodrigues)."""
    if value is None:
        raise InputError(where, "field is missing", _ADD)
    flat = numbers_of(value, where)
    if flat.size == 3:
        return np.asarray(cv2.Rodrigues(flat)[0], dtype=np.float64)
    if flat.size != 9:
        raise InputError(
            where, f"has {flat.size} numbers, neither a rotation vector of 3 nor a matrix of 3 x 3", _EXPORT
        )
    return numbers(value, (3, 3), where)


def distortion(value: Any, where: str) -> Array:
    """Distortion (5,) k1, k2, p1, p2, k3 from 0, 4, 5, 8, 12 or 14 coefficients of OpenCV.

    Missing coefficients are 0. Coefficients after k3 must be 0.

    Raises:
        InputError: the lens model has coefficients that `Camera` does not have.
    """
    if value is None:
        raise InputError(where, "field is missing", _ADD)
    flat = numbers_of(value, where)
    if flat.size in (0, 4, 5, 8, 12, 14) and not flat[5:].any():
        return np.pad(flat[:5], (0, 5 - min(flat.size, 5)))
    if flat.size in (8, 12, 14):
        remedy = "calibrate with the 5 coefficients k1 k2 p1 p2 k3, or undistort the videos first"
        raise InputError(where, f"is a lens model of {flat.size} coefficients, which is not supported", remedy)
    raise InputError(where, f"has {flat.size} coefficients", "give k1 k2 p1 p2, or k1 k2 p1 p2 k3")


def image_size(value: Any, where: str) -> tuple[int, int]:
    """Width and height in whole pixels."""
    width, height = numbers(value, (2,), where).tolist()
    if min(width, height) < 1 or width != round(width) or height != round(height):
        raise InputError(where, f"is {width:g} x {height:g}, not whole numbers from 1", f"give {_SIZE}")
    return int(width), int(height)


def refuse_fisheye(value: Any, where: str) -> None:
    """Raise InputError for a camera that is marked as fisheye."""
    if value is None or value is False:
        return
    remedy = "undistort its videos and detections, and give the camera of the undistorted images"
    raise InputError(where, "a fisheye lens is not supported", remedy)


def make_camera(K: Array, R: Array, t: Array, dist: Array, size: tuple[int, int], where: str) -> Camera:
    """Make a camera; raise InputError if K is not an intrinsic matrix or R is not a rotation."""
    if K[2].tolist() != [0, 0, 1] or K[1, 0] or not (K[0, 0] > 0 and K[1, 1] > 0):
        remedy = "write the rows [fx, skew, cx], [0, fy, cy], [0, 0, 1]"
        raise InputError(where, "the intrinsic matrix is not of the form fx 0 cx, 0 fy cy, 0 0 1", remedy)
    try:
        return Camera(K, R, t, dist, size)
    except ValueError as error:
        raise InputError(where, str(error), _EXPORT) from None
