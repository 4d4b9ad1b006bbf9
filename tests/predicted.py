"""Predictions and cameras for tests of scoring."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Camera
from poseboard.datasets.human36m import CAMERAS
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import Signature
from poseboard.protocols.scoring import Predictions
from poseboard.protocols.views import SeenBy

SIGNATURE = Signature(
    metric="mpjpe", alignment="root", root="pelvis", joints="all 17", split="test", cameras=(("a", "b"),),
    cameras_of_dataset=2, average="frames", version=1,
)  # fmt: skip
"""Signature of an MPJPE from all cameras."""


def answered(*tables: PoseTable) -> Predictions:
    """Tables of one method, by condition and seed."""
    gathered: dict[Condition, dict[int, PoseTable]] = {}
    for table in tables:
        gathered.setdefault(table.info.condition, {})[table.info.seed] = table
    return gathered


def rows_of(pred: PoseTable, rows: NDArray[np.int64] | slice) -> PoseTable:
    """Some rows of predictions, in this order."""
    parts = {name: getattr(pred, name)[rows] for name in ("keys", "person", "score", "frame", "joints_mm")}
    return replace(pred, **parts, columns={name: values[rows] for name, values in pred.columns.items()})


def file_name(*cameras: str, seed: int = 0, root_cameras: tuple[str, ...] = ()) -> str:
    """File name of predictions from cameras of Human3.6M (default: all), with a predicted root or none."""
    root = "predicted" if root_cameras else "none"
    condition = Condition(cameras=cameras or CAMERAS, root=root, root_cameras=root_cameras)
    return f"{condition.slug}-seed{seed}.parquet"


def seen_by(turns: NDArray[np.float64]) -> SeenBy:
    """Cameras at the world's origin from (S, V, 3, 3) rotations."""
    cameras = [[Camera(np.eye(3), R, np.zeros(3)) for R in of_sample] for of_sample in turns]
    return SeenBy.collect(cameras, turns.shape[1])


def with_cameras(pred: PoseTable) -> PoseTable:
    """Predictions in the frame of their first camera, with cameras recovered as those of `seen_by` without turns."""
    names = pred.info.condition.cameras
    shape = (len(pred), len(names))
    columns = {
        "camera_R": np.broadcast_to(np.eye(3, dtype="f4"), (*shape, 3, 3)).copy(),
        "camera_t_mm": np.zeros((*shape, 3), dtype="f4"),
    }
    declared = {**pred.info.columns, **{name: values.shape[1:] for name, values in columns.items()}}
    frame = np.array([names[0]] * len(pred), dtype=object)
    info = pred.info.model_copy(update={"columns": declared})
    return replace(pred, frame=frame, columns={**pred.columns, **columns}, info=info)
