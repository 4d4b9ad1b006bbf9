"""2D detections from the files of other tools: one file per format, and one entry in `FORMATS`.

    keypoints = read_keypoints(Path("pose"))
    keypoints.cameras["cam1"].xy_px       # (n, J, 2) px, one row per person and frame
    keypoints.remarks                     # what the reader assumed, for the user to check

A new format is a module with `recognise(path)` and `read(path, options)`, and an entry below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.keypoints import coco, deeplabcut, openpose, own, sleap
from poseboard.datasets.keypoints.own import write_keypoints
from poseboard.datasets.keypoints.people import Keypoints, Options, People, Scale

__all__ = ["FORMATS", "Format", "Keypoints", "People", "read_keypoints", "write_keypoints"]


@dataclass(frozen=True)
class Format:
    """File format of 2D detections.

    Args:
        what: description in one line.
        recognise: whether a path looks like this format, by its content; InputError only for a damaged HDF5 file.
        read: reader of a path.
    """

    what: str
    recognise: Callable[[Path], bool]
    read: Callable[[Path, Options], Keypoints]


FORMATS: Mapping[str, Format] = {
    "openpose": Format("OpenPose JSON, a folder per camera", openpose.recognise, openpose.read),
    "coco": Format("COCO results JSON, a file per camera", coco.recognise, coco.read),
    "deeplabcut": Format("DeepLabCut CSV or HDF5, a file per camera", deeplabcut.recognise, deeplabcut.read),
    "sleap": Format("SLEAP analysis HDF5 or CSV, a file per camera", sleap.recognise, sleap.read),
    "parquet": Format("Poseboard's Parquet, one file", own.recognise, own.read),
}


def read_keypoints(
    path: Path, format: str | None = None, *, joints: str | None = None, confidence: Scale | None = None
) -> Keypoints:
    """Read the 2D detections of all cameras.

    Args:
        path: file or folder; the module of each format describes its layout.
        format: name in `FORMATS`; None: recognised by content.
        joints: joint set of files without joint names; None: by the number of joints, see `joint_sets`.
        confidence: scale of the confidences; None: 0 to 1, and other values raise an error.

    Raises:
        InputError: no format or several match, or the files are damaged.
    """
    options = Options(joints, confidence)
    if not path.exists():
        raise InputError(path, "does not exist", "correct the path of the detections")
    if format is None:
        format = _recognised(path)
    if format not in FORMATS:
        raise InputError("format", f"{format} is not a format of 2D detections", did_you_mean(format, FORMATS))
    if not FORMATS[format].recognise(path):
        raise InputError(path, f"holds no {FORMATS[format].what}", "correct the path, or leave the format out")
    return FORMATS[format].read(path, options)


def _recognised(path: Path) -> str:
    matches = [name for name, kind in FORMATS.items() if kind.recognise(path)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(path, f"holds files of several formats: {', '.join(matches)}", "choose one with --format")
    known = "; ".join(f"{name}: {kind.what}" for name, kind in FORMATS.items())
    if path.is_file() and not path.stat().st_size:
        raise InputError(path, "file is empty", "run the detector again")
    raise InputError(path, "holds no known format of 2D detections", f"convert it to one of {known}")
