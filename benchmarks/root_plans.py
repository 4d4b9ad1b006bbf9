"""Root plans of the evaluate stage: predicted and true roots of a few samples, in the image and from above."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from poseboard.datasets.camera import Array
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import Dataset, View, skeleton_of_truth
from poseboard.datasets.skeleton import ROOT
from poseboard.methods.drawing.root_plan import Photograph, draw_plan, plan_caption
from poseboard.methods.drawing.style import pixels
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import DrawnPicture, PictureFile

SAMPLES = 3
"""Number of samples drawn: the middle ones of equal parts of the samples with a predicted person."""
INDEX = "pictures.json"


def write_plans(table: PoseTable, dataset: Dataset, folder: Path, files: WholeFiles) -> set[Path]:
    """Draw the plans of a few samples with true and predicted roots, for a row that predicts only roots.

    Photographs are drawn for synthetic data only: the licences of real data sets do not let us publish theirs.

    Args:
        table: predictions of the row.
        dataset: the data set of these predictions.
        folder: of the pictures and their index.
        files: group of files that are written together.

    Returns:
        Paths of the written files; empty for poses of another joint set.
    """
    if table.info.joints != ROOT.joints:
        return set()
    predicted = np.isfinite(table.joints_mm).all(axis=(1, 2))
    keys = list(dict.fromkeys(table.keys[predicted].tolist()))
    chosen = [keys[(2 * i + 1) * len(keys) // (2 * SAMPLES)] for i in range(min(SAMPLES, len(keys)))]
    drawn = []
    written = set()
    for number, key in enumerate(chosen):
        image = _plan(table, dataset, key)
        path = folder / f"plan-{number}.png"
        files.write(path, partial(Image.fromarray(image).save, format="PNG"))
        written.add(path)
        caption = f"{plan_caption(true=True)} Drawn by the evaluate stage: the method does not see the truth."
        drawn.append(DrawnPicture(file=path.name, key=key, title="True and predicted roots", caption=caption))
    if drawn:
        files.write(folder / INDEX, PictureFile(pictures=drawn).text().encode())
        written.add(folder / INDEX)
    return written


def _plan(table: PoseTable, dataset: Dataset, key: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
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
    """(P, 4) boxes of the predicted people; NaN: no box."""
    boxes = np.full((len(people), 4), np.nan)
    with_box = people < len(view.boxes_px)
    boxes[with_box] = view.boxes_px[people[with_box]]
    return boxes
