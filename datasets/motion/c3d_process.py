"""Program that reads a C3D file by ezc3d and writes its points to standard output as .npz; see `c3d`."""

from __future__ import annotations

import io
import struct
import sys

import ezc3d
import numpy as np


def main(path: str) -> None:
    """Write points, labels, unit, rate, axes and frame counts of a C3D file to standard output as .npz."""
    file = ezc3d.c3d(path)
    point, header = file["parameters"]["POINT"], file["header"]["points"]
    names = [
        "LABELS",
        *sorted((k for k in point if k.startswith("LABELS") and k != "LABELS"), key=lambda k: int(k[6:])),
    ]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        points=np.asarray(file["data"]["points"], dtype=np.float64),
        residuals=np.asarray(file["data"]["meta_points"]["residuals"], dtype=np.float64)[0],
        labels=np.array([label for name in names for label in point[name]["value"]], dtype=np.str_),
        unit=_text(point, "UNITS"),
        y_screen=_text(point, "Y_SCREEN"),
        rate=float(point["RATE"]["value"][0]),
        first_frame=int(header["first_frame"]),
        stated_frames=_stated_frames(path),
    )
    sys.stdout.buffer.write(buffer.getvalue())


def _stated_frames(path: str) -> int:
    """Number of frames that the header states; 0: unknown. For a truncated file, ezc3d reports the stored number."""
    with open(path, "rb") as file:
        head = file.read(10)
        file.seek(512 * (head[0] - 1) + 3)
        intel = file.read(1) == b"\x54"
    first, last = struct.unpack("<HH", head[6:10])
    return last - first + 1 if intel else 0


def _text(group: object, name: str) -> str:
    values = group[name]["value"] if name in group else []  # type: ignore[operator, index]
    return str(values[0]) if len(values) else ""


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}"[:200])
