"""Example frames of a data set for the report: true poses, predictions of all rows, cameras, and a few images.

The report draws the frames without the data set. Each data set has one file of at most `MOST_BYTES`, small enough for
git. A small synthetic test split is stored whole. Of real data only the best, median and worst frames are stored,
without images, because the licences forbid publishing more.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.sample import Dataset, Sample
from poseboard.protocols import metrics
from poseboard.protocols.base import TruthTable
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.rig_plans import from_above

MOST_BYTES, PICTURE_BYTES = 1_300_000, 40_000
"""Largest file of a data set, and largest image in it: three data sets of the default profile are less than 4 MB."""
MOST_FRAMES, MOST_COORDINATES = 400, 350_000
"""Most frames of a file, and most coordinates of predictions; the frames are fewer with more rows."""
SIDE_PX, MOST_VIEWS = 160, 4
"""Side of the images; cameras of which there are images."""
LEADING = 4
"""Rows with the smallest errors; also recorded are the frames on which each two of them differ most."""
_FAR_MM = 60_000.0
"""Largest distance of a joint from the middle of the true pose, within float16; farther ones are drawn there."""
_ATTEMPTS = ((80, 1.0), (65, 1.0), (55, 1.0), (55, 0.75), (55, 0.5), (55, 0.25), (55, 0.1), (55, 0.0))
"""JPEG quality and share of the frames with images: the first that is small enough is recorded."""


def examples(tables: Mapping[str, PoseTable], truth: TruthTable, dataset: Dataset, hardware: str = "") -> bytes | None:
    """Content of a data set's examples file, in the NPZ format of `poseboard.report.examples`.

    Args:
        tables: row -> predictions of the split. Rows that lack a joint of the ground truth are skipped.
        truth: ground truth of the split.
        dataset: data set of the split, for cameras and images.
        hardware: machine of the predictions, for the page.

    Returns:
        Bytes of the file; None if samples have several people, or all rows are skipped.

    Example:
        >>> examples({}, truth, dataset) is None  # doctest: +SKIP
        True
    """
    skeleton = truth.skeleton
    if truth.person.any() or not skeleton.root_joints:
        return None
    root = skeleton.indices(skeleton.root_joints)
    predicted_mm, error_mm = {}, {}
    for row, table in tables.items():
        if set(skeleton.joints) <= set(table.info.joints) and not table.person.any():
            joints_mm = _in_world(table, truth)
            of_row = metrics.pose_errors(metrics.joint_errors(joints_mm, truth.joints_mm, root=root))
            if np.isfinite(of_row).any():
                predicted_mm[row], error_mm[row] = joints_mm, np.where(np.isfinite(of_row), of_row, np.nan)
    rows = sorted(error_mm, key=lambda row: float(np.nanmean(error_mm[row])))
    if not rows:
        return None
    errors = np.stack([error_mm[row] for row in rows])
    picks = np.array([_best_median_worst(of_row) for of_row in errors])
    chosen = list(dict.fromkeys([*picks.ravel().tolist(), *_differences(errors[:LEADING])]))
    most = max(1, min(MOST_FRAMES, MOST_COORDINATES // (3 * len(rows) * len(skeleton))))
    frames = _frames(chosen, truth, most) if dataset.synthetic else sorted(chosen[:most])
    place = {frame: k for k, frame in enumerate(frames)}
    poses_mm = np.stack([truth.joints_mm[frames], *(predicted_mm[row][frames] for row in rows)]).astype(np.float64)
    known: dict[str, Any] = {
        **_space(poses_mm, [dataset.sample(truth.keys[frame]) for frame in frames], truth.views),
        "rows": np.array(rows),
        "joints": np.array(skeleton.joints),
        "edges": np.array(skeleton.edge_indices, dtype=np.int64).reshape(-1, 2),
        "views": np.array(truth.views),
        "keys": np.array([str(truth.keys[frame]) for frame in frames]),
        "actions": np.array([str(truth.action[frame]) for frame in frames]),
        "sequences": np.array([f"{truth.subject[frame]}/{truth.sequence[frame]}" for frame in frames]),
        "error_mm": np.round(errors[:, frames], 1).astype(np.float32),
        "picks": np.vectorize(lambda frame: place.get(frame, -1))(picks),
        "n_frames": np.array([len(truth)]),
        "hardware": np.array([hardware]),
    }
    drawn = [frame for frame in chosen if frame in place]
    views = np.unique(np.linspace(0, len(truth.views) - 1, MOST_VIEWS).round().astype(int))
    crops, pixels = _crops([predicted_mm[row] for row in rows], truth, drawn, views, dataset)
    for quality, share in _ATTEMPTS:
        kept = slice(round(share * len(drawn)))
        images = [_jpeg(crop, quality) for crop in crops[kept].reshape(-1, SIDE_PX, SIDE_PX, 3)]
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            **known,
            **{name: values[..., kept, :, :, :] for name, values in pixels.items()},
            pictured=np.array([place[frame] for frame in drawn[kept]], dtype=np.int64),
            picture_views=views,
            jpegs=np.frombuffer(b"".join(images), dtype=np.uint8),
            jpeg_ends=np.cumsum([len(image) for image in images], dtype=np.int64).reshape(-1, len(views)),
        )
        if buffer.tell() <= MOST_BYTES and all(len(image) <= PICTURE_BYTES for image in images):
            return buffer.getvalue()
    return None


def _best_median_worst(error_mm: Array) -> list[int]:
    """Frames with the smallest, the median and the largest error (NaN: no prediction)."""
    order = np.argsort(error_mm, kind="stable")[: np.isfinite(error_mm).sum()].tolist()
    return [order[0], order[(len(order) - 1) // 2], order[-1]]


def _differences(error_mm: Array) -> list[int]:
    """For each pair of rows, the two frames with the largest difference in favour of either row."""
    frames = []
    for a, b in combinations(error_mm, 2):
        difference = a - b
        if np.isfinite(difference).any():
            frames += [int(np.nanargmin(difference)), int(np.nanargmax(difference))]
    return frames


def _frames(chosen: Sequence[int], truth: TruthTable, most: int) -> list[int]:
    """Up to ``most`` frames in the order of the split: the chosen frames first, then evenly spaced sequences."""
    frames = dict.fromkeys(chosen[:most])
    subjects, sequences = truth.subject.codes.astype(np.int64), truth.sequence.codes.astype(np.int64)
    _, first, group = np.unique(subjects * (sequences.max() + 1) + sequences, return_index=True, return_inverse=True)
    step = -(-len(truth) // most)
    for start in range(step):
        for sequence in np.argsort(first)[start::step]:
            frames.update(dict.fromkeys(np.flatnonzero(group == sequence).tolist()))
    return sorted(list(frames)[:most])


def _space(poses_mm: Array, samples: Sequence[Sample], views: Sequence[str]) -> dict[str, NDArray[np.floating]]:
    """Poses in whole mm, and cameras, in a world frame rotated so that y is up.

    Small numbers compress well, so true poses are relative to their centre and predictions to the true poses.

    Args:
        poses_mm: (1 + R, F, J, 3), the true poses first.
        samples: F samples.
        views: names of all cameras.
    """
    frusta_mm = np.full((len(samples), len(views), 5, 3), np.nan)
    rotations = []
    for k, sample in enumerate(samples):
        for view in sample.views:
            frusta_mm[k, views.index(view.name)] = frustum(view.camera)
            rotations.append(view.camera.R)
    _, (right, ahead, up) = from_above(np.stack(rotations))
    turn = np.stack([right, up, -ahead], axis=1)
    turned = poses_mm @ turn
    annotated: NDArray[np.bool_] = np.isfinite(turned[0]).all(axis=-1, keepdims=True)
    count = np.maximum(annotated.sum(axis=1), 1)
    anchor_mm = np.round(np.where(annotated, turned[0], 0.0).sum(axis=1) / count)
    around = np.round(turned - anchor_mm[:, None]).clip(-_FAR_MM, _FAR_MM)
    return {
        "anchor_mm": anchor_mm.astype(np.float32),
        "truth_mm": around[0].astype(np.float16),
        "predicted_mm": _offsets(around[1:], around[0]),
        "frusta_mm": np.round(frusta_mm @ turn).astype(np.float32),
    }


def _offsets(predicted: Array, true: Array) -> NDArray[np.float16]:
    """Offsets of predicted points from the true points; a missing true point counts as 0."""
    return (predicted - np.nan_to_num(true)).clip(-_FAR_MM, _FAR_MM).astype(np.float16)


def frustum(camera: Camera) -> Array:
    """Viewing pyramid of a camera, (5, 3) in world mm: the centre, and the image corners at 1 m depth.

    Lens distortion is ignored.

    Example:
        >>> camera = Camera(np.diag([100.0, 100, 1]), np.eye(3), np.zeros(3), size=(100, 50))
        >>> frustum(camera)[3].tolist()
        [1000.0, 500.0, 1000.0]
    """
    width, height = camera.size if min(camera.size) > 0 else 2 * camera.K[:2, 2]
    corners = camera.normalised([[0, 0], [width, 0], [width, height], [0, height]])
    directions = np.column_stack([corners, np.ones(4)]) @ camera.R
    return camera.centre_mm + np.vstack([np.zeros(3), 1000.0 * directions])


def _crops(
    predicted_mm: Sequence[Array],
    truth: TruthTable,
    frames: Sequence[int],
    views: NDArray[np.integer],
    dataset: Dataset,
) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Crops (P, W, S, S, 3) of the frames, black for real people, and all poses in crop pixels, rounded to 0.5 px."""
    shape = (len(frames), len(views))
    images = np.zeros((*shape, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    pixels = np.full((1 + len(predicted_mm), *shape, len(truth.skeleton), 2), np.nan)
    names = [truth.views[view] for view in views]
    for k, frame in enumerate(frames):
        for view in dataset.sample(truth.keys[frame]).views:
            if view.name not in names:
                continue
            crop, v = view.crop(SIDE_PX), names.index(view.name)
            if dataset.synthetic and view.image is not None:
                images[k, v] = crop.pixels()
            for pose, joints_mm in enumerate((truth.joints_mm, *predicted_mm)):
                pixels[pose, k, v] = crop.camera.project(joints_mm[frame])
    rounded = np.round(2 * pixels).clip(-9 * SIDE_PX, 9 * SIDE_PX) / 2
    return images, {"truth_px": rounded[0].astype(np.float16), "predicted_px": _offsets(rounded[1:], rounded[0])}


def _jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def _in_world(table: PoseTable, truth: TruthTable) -> Array:
    """Prediction for each true pose in the world frame (NaN: none); one in a camera frame is moved to the true root."""
    rows = np.asarray(pd.Index(table.keys, dtype=object).get_indexer(pd.Index(truth.keys, dtype=object)))
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
