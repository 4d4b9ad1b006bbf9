"""Pictures of a row's predictions for its page.

Three kinds: what the method itself draws (`write_pictures`), plans of true and predicted roots (`write_plans`), and the
best, middle and worst samples (`examples`). Only pictures of synthetic people contain images, because the licences of
real data sets forbid to publish theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from poseboard.benchmarks.handover import Handover, poses_of
from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import Dataset, Poses, View, skeleton_of_truth
from poseboard.datasets.skeleton import ROOT
from poseboard.methods.base import Drawing, Method, Picture
from poseboard.protocols import metrics
from poseboard.protocols.base import TruthTable
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import DrawnPicture, PictureFile

PICTURES = "pictures"
"""Folder beside the predictions of a row, for the pictures that its method draws."""
DRAWN_SAMPLES = 3
"""Number of samples with pictures: the middle ones of equal parts of the split, the same for all rows."""
EXAMPLES = 9
"""Number of examples: a third each of the best, of those around the median, and of the worst."""
EXAMPLE_PX = 160


def write_pictures(
    method: Method, row: str, handover: Handover, poses: Mapping[str, Poses], folder: Path, files: WholeFiles
) -> set[Path]:
    """Let a method draw a few samples, and write its pictures.

    The method gets its inputs and its own prediction, and no ground truth. Of several people the first is drawn.

    Args:
        method: a loaded method; one that is no `Drawing` has no pictures.
        row: name of the row, for errors.
        handover: the samples as the row sees them.
        poses: key -> prediction, every key of the split in order.
        folder: folder of the pictures and their index.
        files: group of files that are written together.

    Returns:
        Paths of the written files.

    Raises:
        InputError: the method returns something else than pictures.
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
    """Draw a few samples from above with true and predicted roots, for a row that predicts only roots.

    Args:
        table: predictions of the row.
        dataset: the data set of these predictions.
        folder: folder of the pictures and their index.
        files: group of files that are written together.

    Returns:
        Paths of the written files; empty for poses of another joint set.
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
    """The middle ones of equal parts of the keys."""
    return [keys[(2 * i + 1) * len(keys) // (2 * DRAWN_SAMPLES)] for i in range(min(DRAWN_SAMPLES, len(keys)))]


def _write(drawn: Iterable[tuple[str, Picture]], folder: Path, prefix: str, files: WholeFiles) -> set[Path]:
    """Write pictures, each with the key of its sample, and their index; returns the paths."""
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
    """(P, 4) boxes of the predicted people; NaN: no box."""
    boxes = np.full((len(people), 4), np.nan)
    with_box = people < len(view.boxes_px)
    boxes[with_box] = view.boxes_px[people[with_box]]
    return boxes


def examples(table: PoseTable, truth: TruthTable, dataset: Dataset) -> dict[str, NDArray[Any]]:
    """The best, middle and worst samples by root-relative error: crops, both poses in their pixels, edges.

    Crops of real people are black. There are no examples if a sample has several people, or if truth and predictions
    have different joints.

    Args:
        table: predictions of a row.
        truth: ground truth of the split.
        dataset: data set of the predictions.

    Returns:
        Arrays by name, for the examples file of the row.
    """
    skeleton = truth.skeleton
    predicted_mm, error_mm = np.full(truth.joints_mm.shape, np.nan), np.full(len(truth), np.nan)
    one_each = not (truth.person.any() or table.person.any())
    if one_each and skeleton.root_joints and set(skeleton.joints) <= set(table.info.joints):
        rows = np.asarray(pd.Index(table.keys, dtype=object).get_indexer(pd.Index(truth.keys, dtype=object)))
        predicted_mm = _in_world(table, truth, rows)
        root = skeleton.indices(skeleton.root_joints)
        error_mm = metrics.pose_errors(metrics.joint_errors(predicted_mm, truth.joints_mm, root=root))
    order = np.flatnonzero(np.isfinite(error_mm))
    order = order[np.argsort(error_mm[order], kind="stable")]
    third = EXAMPLES // 3
    middle = len(order) // 2 - third // 2
    places = sorted({*range(third), *range(middle, middle + third), *range(len(order) - third, len(order))})
    chosen = order[[place for place in places if 0 <= place < len(order)]]
    shape = (len(chosen), len(truth.views))
    images = np.zeros((*shape, EXAMPLE_PX, EXAMPLE_PX, 3), dtype=np.uint8)
    drawn = {name: np.full((*shape, len(skeleton), 2), np.nan) for name in ("predicted_px", "truth_px")}
    for i, row in enumerate(chosen):
        for view in dataset.sample(truth.keys[row]).views:
            v = truth.views.index(view.name)
            crop = view.crop(EXAMPLE_PX)
            if dataset.synthetic:
                images[i, v] = crop.pixels()
            drawn["predicted_px"][i, v] = crop.camera.project(predicted_mm[row])
            drawn["truth_px"][i, v] = crop.camera.project(truth.joints_mm[row])
    return {
        "images": images,
        "edges": np.array(skeleton.edge_indices, dtype=np.int64),
        "keys": np.array([str(truth.keys[row]) for row in chosen], dtype=str),
        "error_mm": error_mm[chosen],
        "views": np.array(truth.views),
        **drawn,
    }


def _in_world(table: PoseTable, truth: TruthTable, rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """The answer to each truth pose in the world frame, NaN where none; of a camera's frame, put on the true root."""
    joints_mm = np.full(truth.joints_mm.shape, np.nan)
    answered = np.flatnonzero(rows >= 0)
    joints_mm[answered] = table.mapped(truth.skeleton.joints)[rows[answered]]
    frame = np.full(len(rows), "", dtype=object)
    frame[answered] = table.frame[rows[answered]]
    root_of = truth.skeleton.root_of
    for name in truth.views:
        of_camera = answered[frame[answered] == name]
        if of_camera.size and (R := truth.rotations(name, of_camera)) is not None:
            about_root = joints_mm[of_camera] - root_of(joints_mm[of_camera])[:, None]
            true_root = root_of(truth.joints_mm[of_camera])[:, None]
            joints_mm[of_camera] = about_root @ R + true_root
    return joints_mm
