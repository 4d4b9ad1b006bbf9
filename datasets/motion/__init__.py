"""Files of 3D points over time: TRC, C3D, Parquet and CSV to read and write, JSON for web viewers to write.

    motion = read_motion(Path("walk.trc"))
    write_motion(Path("walk.c3d"), motion)

Units and vertical axis are stated in each file, or fixed by its format, and `write_motion` rotates the points to them:
TRC and JSON have Y up, C3D has Z up, Parquet and CSV keep the axes of the motion and name them.
A new format is a module with `recognise`, `read` and `write`, and an entry in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.motion import c3d, table, trc, viewer
from poseboard.datasets.motion.motion import Motion, Up

__all__ = ["FORMATS", "Format", "Motion", "Up", "read_motion", "write_motion"]


@dataclass(frozen=True)
class Format:
    """File format of 3D points.

    Args:
        what: unit and axes in one line.
        suffix: suffix of files of this format.
        write: writer of a motion to a path.
        recognise: whether a file is of this format, by its content; None: the format cannot be read.
        read: reader of a path; None as for `recognise`.
    """

    what: str
    suffix: str
    write: Callable[[Path, Motion], None]
    recognise: Callable[[Path], bool] | None = None
    read: Callable[[Path], Motion] | None = None


FORMATS: Mapping[str, Format] = {
    "trc": Format("TRC for OpenSim: mm, Y up", ".trc", trc.write, trc.recognise, trc.read),
    "c3d": Format("C3D: mm, Z up", ".c3d", c3d.write, c3d.recognise, c3d.read),
    "parquet": Format(
        "Parquet: mm, axes as in the world",
        ".parquet",
        table.write_parquet,
        table.recognise_parquet,
        table.read_parquet,
    ),
    "csv": Format("CSV: mm, axes as in the world", ".csv", table.write_csv, table.recognise_csv, table.read_csv),
    "json": Format("JSON for web viewers: mm, Y up", ".json", viewer.write),
}


def write_motion(path: Path, motion: Motion, format: str | None = None) -> None:
    """Write 3D points in the unit and axes of the format.

    Args:
        path: file to write.
        motion: 3D points.
        format: name in `FORMATS`; None: by the suffix of the path.

    Raises:
        InputError: the format is unknown, or cannot hold the motion.
    """
    if format is None:
        suffixes = {kind.suffix: name for name, kind in FORMATS.items()}
        if path.suffix.lower() not in suffixes:
            raise InputError(path, f"{path.suffix or 'no suffix'} is not a format of 3D points",
                             did_you_mean(path.suffix, suffixes))  # fmt: skip
        format = suffixes[path.suffix.lower()]
    if format not in FORMATS:
        raise InputError("format", f"{format} is not a format of 3D points", did_you_mean(format, FORMATS))
    FORMATS[format].write(path, motion)


def read_motion(path: Path) -> Motion:
    """Read 3D points; the format is recognised by content.

    Raises:
        InputError: the file is of no known format, or damaged.
    """
    if not path.is_file():
        raise InputError(path, "does not exist", "correct the path of the 3D points")
    for kind in FORMATS.values():
        if kind.read is not None and kind.recognise is not None and kind.recognise(path):
            return kind.read(path)
    readable = ", ".join(name for name, kind in FORMATS.items() if kind.read is not None)
    problem = "file is empty" if not path.stat().st_size else "holds no known format of 3D points"
    raise InputError(path, problem, f"export it as one of {readable}")
