"""Plausibility checks of images: readable, and of the size of the camera."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

import PIL.Image

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import open_file
from poseboard.datasets.plausibility.labels import Finding
from poseboard.datasets.sample import View

_LEAST_SIDE_PX = 16
"""Minimum side of an image."""
_BLOCK_PX = 16
"""Largest difference of a side that is only odd: codecs cut and pad videos to multiples of 8 or 16 px."""
_DAMAGE = "Corrupt JPEG data: "
"""Start of libjpeg's warnings."""
_ORIENTATION = 0x0112
"""EXIF tag of the orientation; 1 is upright."""


def check_image(key: str, view: View) -> Iterator[Finding]:
    """Check that an image can be read and has the size of its camera; warn of damaged data and of an EXIF orientation.

    Missing files pass the check: `Dataset.status` reports them.

    Args:
        key: key of the sample.
        view: a view with or without an image.

    Example:
        >>> [finding.field for finding in check_image("shelf/000300", view)]  # a truncated file
        ['view Camera0: image']
    """
    path = view.image_path
    if view.image is None or (path is not None and not path.exists()):
        return
    field = f"view {view.name}: image"
    try:
        (height, width), complaint = _decoded(view)
    except InputError as error:
        yield Finding(field, f"{error.where}: {error.problem}", error.remedy, key=key)
        return
    size = view.camera.size
    if min(width, height) < _LEAST_SIDE_PX:
        yield Finding(field, f"is {width} x {height} px", "extract the images again", key=key)
    elif min(size) > 0 and (width, height) != size:
        problem = f"is {width} x {height} px, the camera is of {size[0]} x {size[1]} px"
        is_error = max(abs(width - size[0]), abs(height - size[1])) >= _BLOCK_PX
        remedy = "extract the images at their full size, or correct the camera"
        yield Finding(field, problem, remedy, is_error=is_error, key=key)
    if complaint:
        problem = f"{path or 'image'}: has damaged pixels ({complaint})"
        yield Finding(field, problem, "extract or copy the image again", is_error=False, key=key)
    if path is not None:
        with open_file(path) as file, PIL.Image.open(file) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
        if orientation != 1:
            problem = f"has EXIF orientation {orientation}, and its pixels are read as stored"
            yield Finding(field, problem, "check that labels are of the stored pixels", is_error=False, key=key)


def _decoded(view: View) -> tuple[tuple[int, int], str]:
    """Height and width of the image of a view, and libjpeg's message about damaged data (empty: none).

    OpenCV returns an image with grey or shifted blocks, and libjpeg writes the reason to standard error.
    """
    with tempfile.TemporaryFile() as written:
        standard_error = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            height, width = view.pixels().shape[:2]
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            written.seek(0)
            lines = written.read().decode(errors="replace").splitlines()
            for line in lines:
                if not line.startswith(_DAMAGE):  # of another thread
                    sys.stderr.write(f"{line}\n")
    complaints = [line.removeprefix(_DAMAGE) for line in lines if line.startswith(_DAMAGE)]
    return (height, width), complaints[0] if complaints else ""
