"""Pictures of a row's predictions for its page in the report.

There are two kinds: pictures drawn by the method itself (`write_pictures`), and views from above of true and predicted
roots (`write_plans`). Only pictures of synthetic people contain images, because the licences of real data sets forbid
publishing images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from poseboard.benchmarks.handover import Handover, poses_of
from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import Dataset, Poses, View, skeleton_of_truth
from poseboard.datasets.skeleton import ROOT
from poseboard.methods.base import Drawing, Method, Picture
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import DrawnPicture, PictureFile

PICTURES = "pictures"
"""Folder beside the predictions of a row, for the pictures that its method draws."""
DRAWN_SAMPLES = 3
"""Number of samples with pictures: the middle ones of equal parts of the split, the same for all rows."""


def write_pictures(
    method: Method, row: str, handover: Handover, poses: Mapping[str, Poses], folder: Path, files: WholeFiles
) -> set[Path]:
    """Write pictures that a method draws of a few samples.

    The method gets its inputs and its own prediction, but no ground truth. Of several people, only the first is drawn.

    Args:
        method: a loaded method; a method that is not a `Drawing` has no pictures.
        row: name of the row, for errors.
        handover: chain of steps that makes the input of the row.
        poses: key -> prediction, for all keys of the split in order.
        folder: folder of the pictures and their index.
        files: group of files that are written together.

    Returns:
        Paths of the written files.

    Raises:
        InputError: the method does not return pictures, (height, width, 3) uint8 RGB.
    """
    if not isinstance(method, Drawing):
        return set()
    drawn: list[tuple[str, Picture]] = []
    for key in _middle_keys(list(poses)):
        samples, of_first = handover.samples(key), poses[key]
        if not samples or (len(samples) > 1 and len(of_first.score) != len(samples)):
            continue
        if len(samples) > 1:
            of_first = poses_of(of_first, 0)
        drawn += [(key, each) for each in method.figures(samples[0], of_first, images=handover.dataset.synthetic)]
    for _, picture in drawn:
        image = picture.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            problem = f"drew {image.dtype} {image.shape}, which is not a picture"
            raise InputError(f"row {row}: figures", problem, "draw (height, width, 3) uint8 RGB")
    return _write(drawn, folder, "", files)


def write_plans(table: PoseTable, dataset: Dataset, folder: Path, files: WholeFiles) -> set[Path]:
    """Write views from above of true and predicted roots in a few samples, for a row that predicts only roots.

    Args:
        table: predictions of the row.
        dataset: data set of the predictions.
        folder: folder of the pictures and their index.
        files: group of files that are written together.

    Returns:
        Paths of the written files; empty for a row that predicts other joints.
    """
    if table.info.joints != ROOT.joints:
        return set()
    from poseboard.methods.drawing.root_plan import plan_caption

    caption = f"{plan_caption(true=True)} Drawn by the evaluate stage: the method does not see the truth."
    predicted = np.isfinite(table.joints_mm).all(axis=(1, 2))
    keys = _middle_keys(list(dict.fromkeys(table.keys[predicted].tolist())))
    drawn = [(key, Picture("True and predicted roots", caption, _plan(table, dataset, key))) for key in keys]
    return _write(drawn, folder, "plan-", files)


def _middle_keys(keys: Sequence[str]) -> list[str]:
    """Middle keys of equal parts of the split."""
    return [keys[(2 * i + 1) * len(keys) // (2 * DRAWN_SAMPLES)] for i in range(min(DRAWN_SAMPLES, len(keys)))]


def _write(drawn: Iterable[tuple[str, Picture]], folder: Path, prefix: str, files: WholeFiles) -> set[Path]:
    """Write pictures with the keys of their samples, and an index; return the paths."""
    records: dict[Path, DrawnPicture] = {}
    for number, (key, picture) in enumerate(drawn):
        path = folder / f"{prefix}{number}.png"
        files.write(path, partial(Image.fromarray(picture.image).save, format="PNG"))
        records[path] = DrawnPicture(file=path.name, key=key, title=picture.title, caption=picture.caption)
    if not records:
        return set()
    index = folder / "pictures.json"
    files.write(index, PictureFile(pictures=list(records.values())).text().encode())
    return {*records, index}


def _plan(table: PoseTable, dataset: Dataset, key: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    from poseboard.methods.drawing.root_plan import Photograph, draw_plan
    from poseboard.methods.drawing.style import pixels

    rows = np.flatnonzero(table.keys == key)
    views = {view.name: view for view in dataset.sample(key).views}
    frame = str(table.frame[rows[0]])
    view = views.get(frame) or next(iter(views.values()))
    roots_mm = table.joints_mm[rows, 0].astype(np.float64)
    if frame not in views:
        roots_mm = view.camera.to_camera(roots_mm)
    true_mm = view.camera.to_camera(skeleton_of_truth(dataset).root_of(dataset.truth(key).joints_mm))
    image = view.pixels() if dataset.synthetic and view.image is not None else None
    photograph = Photograph(view.camera, image, _boxes(view, table.person[rows]))
    known = true_mm[np.isfinite(true_mm).all(axis=1)]
    return pixels(draw_plan(photograph, roots_mm, known if len(known) else None))


def _boxes(view: View, people: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> Array:
    """Boxes (P, 4) of the predicted people in pixels; NaN: no box."""
    boxes = np.full((len(people), 4), np.nan)
    with_box = people < len(view.boxes_px)
    boxes[with_box] = view.boxes_px[people[with_box]]
    return boxes
