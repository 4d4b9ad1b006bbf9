"""Plausibility checks of images: readable, and of the size of the camera."""

from __future__ import annotations

from collections.abc import Iterator

import PIL.Image

from poseboard.datasets.errors import InputError
from poseboard.datasets.plausibility.labels import Finding
from poseboard.datasets.sample import View

_LEAST_SIDE_PX = 16
"""Minimum side of an image."""
_ORIENTATION = 0x0112
"""EXIF tag of the orientation; 1 is upright."""


def check_image(key: str, view: View) -> Iterator[Finding]:
    """Check that the image of a view can be read and has the size of its camera; warn of an EXIF orientation.

    Absent files pass: the status of the data set names them.

    Args:
        key: of the sample.
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
        height, width = view.pixels().shape[:2]
    except InputError as error:
        yield Finding(field, f"{error.where}: {error.problem}", error.remedy, key=key)
        return
    size = view.camera.size
    if min(width, height) < _LEAST_SIDE_PX:
        yield Finding(field, f"is {width} x {height} px", "extract the images again", key=key)
    elif min(size) > 0 and (width, height) != size:
        problem = f"is {width} x {height} px, the camera is of {size[0]} x {size[1]} px"
        yield Finding(field, problem, "extract the images at their full size, or correct the camera", key=key)
    if path is not None:
        with PIL.Image.open(path) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
        if orientation != 1:
            problem = f"has EXIF orientation {orientation}, and its pixels are read as stored"
            yield Finding(field, problem, "check that labels are of the stored pixels", is_error=False, key=key)
