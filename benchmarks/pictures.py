"""The pictures that a method draws for its page, after all predictions of the row, kept beside them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from poseboard.benchmarks.handover import Handover, answer_of
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Drawing, Method, Picture
from poseboard.protocols.records import DrawnPicture, PictureFile

SAMPLES = 3
"""Number of samples that are drawn: the middle ones of equal parts of the split, the same for all rows."""
INDEX = "pictures.json"


def write_pictures(
    method: Method,
    name: str,
    samples: Handover,
    answers: Mapping[str, Poses],
    folder: Path,
    files: WholeFiles,
) -> set[Path]:
    """Let a method draw a few samples, and write its pictures.

    Of several people the first is drawn. The method gets its inputs and its own prediction, and no ground truth. Only
    pictures of synthetic people contain images: those of real data sets may not be published.

    Args:
        method: loaded; one that is no `Drawing`, or draws nothing, leaves no file.
        name: of the row, for errors.
        samples: as the row sees them.
        answers: key -> prediction, every key of the split in order.
        folder: of the pictures and their captions.
        files: predictions that the pictures are written together with.

    Returns:
        The written files.

    Raises:
        InputError: the method returns something else than pictures.
    """
    if not isinstance(method, Drawing):
        return set()
    keys = list(answers)
    chosen = [keys[(2 * i + 1) * len(keys) // (2 * SAMPLES)] for i in range(min(SAMPLES, len(keys)))]
    written: set[Path] = set()
    drawn: list[DrawnPicture] = []
    for key in chosen:
        for title, caption, png in _drawn(method, name, samples, key, answers[key]):
            path = folder / f"{len(drawn)}.png"
            files.write(path, png)
            written.add(path)
            drawn.append(DrawnPicture(file=path.name, key=key, title=title, caption=caption))
    if drawn:
        files.write(folder / INDEX, PictureFile(pictures=drawn).text().encode())
        written.add(folder / INDEX)
    return written


def _drawn(method: Drawing, name: str, samples: Handover, key: str, answer: Poses) -> list[tuple[str, str, bytes]]:
    """Title, caption and PNG of each picture of a sample."""
    shown = samples.shown(key)
    if not shown or (len(shown) > 1 and len(answer.score) != len(shown)):
        return []
    found = []
    of_first = answer if len(shown) == 1 else answer_of(answer, 0)
    for picture in method.figures(shown[0], of_first, images=samples.dataset.synthetic):
        png = io.BytesIO()
        Image.fromarray(_pixels(picture, name)).save(png, format="PNG")
        found.append((picture.title, picture.caption, png.getvalue()))
    return found


def _pixels(picture: Picture, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    image = picture.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"row {name}: figures",
            f"drew {image.dtype} {image.shape}, which is no picture",
            "draw (height, width, 3) uint8 RGB",
        )
    return image
