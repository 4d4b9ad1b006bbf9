"""Contact sheet: a few samples of a data set in one image. Every second sample has boxes and poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.datasets.sample import Dataset, Group, Image, View
from poseboard.datasets.skeleton import Skeleton

CELL_PX = 288
VIEWS = 4
"""Maximum number of views per sample."""
_CELLS_PER_ROW = 8
_GAP_PX = 3
_RIGHT, _LEFT, _MIDDLE = (255, 80, 80), (60, 170, 255), (90, 230, 90)
_BOX = (255, 220, 60)


def spread(groups: Mapping[str, Group], count: int = 12) -> list[str]:
    """Choose up to ``count`` samples that cover as many actions and subjects as possible.

    Args:
        groups: key of a sample -> its group, in the data set's order.
        count: maximum number of keys.

    Example:
        >>> spread({f"S1/{a}-1/00": Group("S1", a, f"{a}-1") for a in ("Sitting", "Walking")}, 2)
        ['S1/Sitting-1/00', 'S1/Walking-1/00']
    """
    keys = list(groups)
    actions = list(dict.fromkeys(group.action for group in groups.values()))
    subjects = list(dict.fromkeys(group.subject for group in groups.values()))
    chosen: dict[str, None] = {}
    for n in range(min(count, len(keys))):
        action = actions[n * len(actions) // count if len(actions) >= count else n % len(actions)]
        subject = subjects[n % len(subjects)]
        left = [key for key in keys if key not in chosen]
        of_action = [key for key in left if groups[key].action == action] or left
        candidates = [key for key in of_action if groups[key].subject == subject] or of_action
        chosen[candidates[(3 * n) % len(candidates)]] = None
    return list(chosen)


def contact_sheet(dataset: Dataset, keys: Sequence[str]) -> Image:
    """Draw samples side by side, (H, W, 3) uint8 RGB: up to four views per sample, cropped to the people.

    Boxes and poses are drawn on every second sample. Poses are the 2D detections, or the projected true joints if there
    are no detections. A view without an image is grey.

    Args:
        dataset: data set of the samples.
        keys: keys of the samples, for example from `spread`.

    Raises:
        InputError: an image cannot be read.
    """
    blocks = [_block(dataset, key, drawn=n % 2 == 1) for n, key in enumerate(keys)]
    if not blocks:
        return np.full((16, 16, 3), 255, np.uint8)
    width = max(block.shape[1] for block in blocks)
    across = min(max(1, _CELLS_PER_ROW * CELL_PX // (width - 2 * _GAP_PX)), len(blocks))
    blank = np.full((blocks[0].shape[0], width, 3), 255, np.uint8)
    for n, block in enumerate(blocks):
        whole = blank.copy()
        whole[:, : block.shape[1]] = block
        blocks[n] = whole
    blocks += [blank] * (-len(blocks) % across)
    return np.concatenate([np.concatenate(blocks[i : i + across], 1) for i in range(0, len(blocks), across)])


def write_contact_sheet(dataset: Dataset, groups: Mapping[str, Group], path: Path) -> None:
    """Write the contact sheet of a data set as a PNG file, atomically.

    Args:
        dataset: data set to draw.
        groups: key -> group of the samples to choose from, see `spread`.
        path: path of the file.

    Raises:
        InputError: an image cannot be read.
    """
    encoded, png = cv2.imencode(".png", contact_sheet(dataset, spread(groups))[..., ::-1])
    if not encoded:
        raise RuntimeError("the PNG encoder refused the contact sheet")
    write_file(path, bytes(png))


def _block(dataset: Dataset, key: str, drawn: bool) -> Image:
    views = dataset.sample(key).views
    chosen = [views[v] for v in np.unique(np.linspace(0, len(views) - 1, VIEWS).round().astype(int))] if views else []
    joints_mm = _annotated(dataset, key)
    cells = [_cell(view, dataset.skeleton, joints_mm, drawn) for view in chosen]
    block = np.concatenate(cells or [np.full((CELL_PX, CELL_PX, 3), 128, np.uint8)], 1)
    cv2.putText(block, key, (5, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    edge = (_GAP_PX,) * 4
    return np.asarray(cv2.copyMakeBorder(block, *edge, cv2.BORDER_CONSTANT, value=(255, 255, 255)), np.uint8)


def _annotated(dataset: Dataset, key: str) -> Array | None:
    """True poses (P, J, 3) mm; None without true poses, or if their joints differ from the data set's skeleton."""
    try:
        joints_mm = dataset.truth(key).joints_mm
    except InputError:
        return None
    return joints_mm if joints_mm.shape[1] == len(dataset.skeleton) else None


def _cell(view: View, skeleton: Skeleton, joints_mm: Array | None, drawn: bool) -> Image:
    """Square image around the people of a view; without people, the largest square at the centre of the image."""
    if view.image is None:
        width, height = view.camera.size
        image = np.full((height, width, 3), 96, np.uint8)
    else:
        image = view.pixels()
    height, width = image.shape[:2]
    boxes = view.boxes_px[np.isfinite(view.boxes_px).all(axis=1)]
    if len(boxes):
        (left, upper), (right, lower) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    else:
        left, upper, right, lower = 0, 0, width, height
    side = int(np.clip(1.2 * max(right - left, lower - upper), 16, min(width, height)))
    x = int(np.clip((left + right - side) / 2, 0, width - side))
    y = int(np.clip((upper + lower - side) / 2, 0, height - side))
    zoom = CELL_PX / side
    cell = np.asarray(
        cv2.resize(
            image[y : y + side, x : x + side],
            (CELL_PX, CELL_PX),
            interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC,
        ),
        np.uint8,
    )
    if drawn or view.image is None:
        for box in boxes:
            a, b = ((box.reshape(2, 2) - (x, y)) * zoom).round().astype(int)
            cv2.rectangle(cell, a.tolist(), (b - 1).tolist(), _BOX, 1)
        if view.joints_px is not None:
            people = view.joints_px
        else:
            people = view.camera.project(joints_mm) if joints_mm is not None else np.zeros((0, len(skeleton), 2))
        for points in people:
            _draw(cell, skeleton, (points - (x, y)) * zoom)
    return cell


def _draw(image: Image, skeleton: Skeleton, points_px: Array) -> None:
    """Draw the skeleton's edges between points (J, 2). Points that are NaN or far outside the image are skipped."""
    near = np.abs(points_px - CELL_PX / 2).max(axis=1) < 4 * CELL_PX  # false for NaN
    for a, b in skeleton.edge_indices:
        if near[a] and near[b]:
            names = skeleton.joints[a] + skeleton.joints[b]
            colour = _RIGHT if "right" in names else (_LEFT if "left" in names else _MIDDLE)
            ends = (points_px[[a, b]] * 16).round().astype(int).tolist()
            cv2.line(image, ends[0], ends[1], colour, 1, cv2.LINE_AA, shift=4)
