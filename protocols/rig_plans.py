"""Plans of recovered rigs: true and recovered cameras from above, as plain data for a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array
from poseboard.datasets.files import WholeFiles
from poseboard.protocols.base import TruthTable
from poseboard.protocols.metrics import procrustes
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import PlannedCamera, PlanPoint, RigFile, RigPlan, SpacePoint
from poseboard.protocols.recovered_cameras import Rigs, angle_deg, collect_rigs, direction_deg
from poseboard.protocols.single_person import one_answer_each

RIGS = "rigs.json"
_AXES = ("x", "y", "z")
_DIGITS = 5


def write_rig_plans(judged: Sequence[tuple[TruthTable, PoseTable]], folder: Path, files: WholeFiles) -> set[Path]:
    """Write the plans of a few rigs.

    Args:
        judged: predictions with recovered cameras, each with the truth of its split.
        folder: folder of the file.
        files: group of files that are written together.

    Returns:
        Paths of the written files; empty if no rig was recovered.
    """
    plans = [plan for truth, table in judged for plan in plan_rigs(truth, table)]
    if not plans:
        return set()
    files.write(folder / RIGS, RigFile(plans=plans).text().encode())
    return {folder / RIGS}


def plan_rigs(truth: TruthTable, table: PoseTable) -> list[RigPlan]:
    """Plans of the rigs with the median and the largest rotation error, each aligned with the true rig.

    A rig is all predictions with the same recovered cameras. Rigs with a missing camera are left out.

    Args:
        truth: ground truth of the split, with its cameras.
        table: predictions with the columns of recovered cameras.

    Returns:
        Plans of the median and the worst rig, or of the only rig; empty if no rig was recovered.

    Raises:
        InputError: the recovered cameras are not the cameras of the sample (`collect_rigs`).
    """
    rows = one_answer_each(table, truth)
    answered = np.flatnonzero((rows >= 0) & np.isfinite(truth.joints_mm).any(axis=(1, 2)))
    rigs = collect_rigs(table, truth, rows, answered)
    errors = np.stack(
        [angle_deg(rigs.relative[0], rigs.true_relative[0]), direction_deg(rigs.relative[1], rigs.true_relative[1])]
    )
    whole = np.flatnonzero((np.isfinite(errors).all(axis=0) | ~rigs.counts).all(axis=1) & rigs.counts.any(axis=1))
    if not whole.size:
        return []
    mean_deg = np.where(rigs.counts, errors, 0.0)[:, whole].sum(axis=2) / rigs.counts[whole].sum(axis=1)
    first, rig_of = _distinct(rigs.R[whole], rigs.t_mm[whole], rigs.true_rotation[whole])
    order = first[np.argsort(mean_deg[0, first], kind="stable")]
    places: dict[int, Literal["median", "worst"]] = {
        int(order[-1]): "worst",
        int(order[(len(order) - 1) // 2]): "median",
    }
    return [
        _plan(truth, table, rigs, errors, whole[rig_of == rig_of[row]], place, len(order))
        for row, place in sorted(places.items(), key=lambda item: item[1])
    ]


def _distinct(*values: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Group equal rows (NaN equals NaN): index of the first row of each group, and group of each row."""
    flat = np.ascontiguousarray(np.concatenate([value.reshape(len(value), -1) for value in values], axis=1))
    as_bytes = flat.view(f"V{flat.itemsize * flat.shape[1]}").ravel()
    _, first, group = np.unique(as_bytes, return_index=True, return_inverse=True)
    return np.sort(first), group


def centre_covariance(R: Array, t_mm: Array, covariance: Array) -> Array:
    """Covariances of the camera centres ``-R^T t``, (V, 3, 3) mm², to first order.

    Args:
        R: (V, 3, 3) rotations, world to camera.
        t_mm: (V, 3) translations, world to camera.
        covariance: (V, 6, 6) covariances of a rotation vector w and of t; the true rotation is ``exp(w) R``.

    Example:
        >>> of_t = np.diag([0.0, 0, 0, 4, 0, 0])[None]  # 2 mm along the camera's own x axis
        >>> quarter = np.array([[[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]])
        >>> np.diag(centre_covariance(quarter, np.zeros((1, 3)), of_t)[0]).tolist()
        [0.0, 4.0, 0.0]
    """
    x, y, z = t_mm.T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)  # cross @ w = t x w
    back = np.swapaxes(R, 1, 2)
    # -(exp(w) R)^T (t + d) = -R^T t - R^T (t x w) - R^T d
    jacobian = -np.concatenate([back @ cross, back], axis=2)
    moved: Array = jacobian @ covariance @ np.swapaxes(jacobian, 1, 2)
    return moved


def _plan(
    truth: TruthTable,
    table: PoseTable,
    rigs: Rigs,
    errors: Array,
    members: NDArray[np.intp],
    place: Literal["median", "worst"],
    count: int,
) -> RigPlan:
    """Draw the plan of a rig as data, with the pose that has the most predicted joints."""
    predicted = table.mapped(truth.skeleton.joints)[rigs.rows[members]].astype(np.float64)
    known = np.isfinite(predicted).all(axis=2) & np.isfinite(truth.joints_mm[rigs.poses[members]]).all(axis=2)
    best = int(np.argmax(known.sum(axis=1)))
    row = members[best]
    R, t_mm = rigs.R[row], rigs.t_mm[row]
    sees = rigs.sees[row]
    true_R, true_t = rigs.true_rotation[row], rigs.true_translation_mm[row]
    centres, true_centres = (-np.einsum("vji,vj->vi", *pair) for pair in ((R, t_mm), (true_R, true_t)))
    true_joints = truth.joints_mm[rigs.poses[row]].astype(np.float64)
    joints, seen = predicted[best], known[best]

    # four further points, moved by the same similarity, give its linear part
    beyond = np.concatenate([np.zeros((1, 3)), 1000 * np.eye(3)])
    points = np.concatenate([centres, joints, beyond])
    target = np.concatenate([true_centres, true_joints, np.full((4, 3), np.nan)])
    use = np.concatenate([sees, seen, np.zeros(4, dtype=bool)])
    moved = procrustes(np.where(np.isfinite(points), points, 0.0)[None], target[None], use[None])[0]
    linear = (moved[-3:] - moved[-4]) / 1000  # v -> v @ linear
    scale = float(np.cbrt(np.linalg.det(linear)))

    axes, turn = from_above(true_R[sees])
    covariance = None
    if "camera_covariance" in table.columns:
        stated = table.columns["camera_covariance"][rigs.rows[row]].astype(np.float64)
        on_plan = linear @ turn.T
        covariance = on_plan.T @ centre_covariance(R, t_mm, stated) @ on_plan / 1e6
    cameras = [
        PlannedCamera(
            name=name,
            reference=v == rigs.reference[row],
            true_m=_on_plan(turn @ true_centres[v] / 1000),
            true_direction=_on_plan(turn @ true_R[v, 2]),
            recovered_m=_on_plan(turn @ moved[v] / 1000),
            recovered_direction=_on_plan(turn @ (R[v, 2] @ linear) / scale),
            covariance_m2=None if covariance is None else _spread(covariance[v, :2, :2]),
            rotation_deg=round(float(errors[0, row, v]), _DIGITS) if rigs.counts[row, v] else None,
            direction_deg=round(float(errors[1, row, v]), _DIGITS) if rigs.counts[row, v] else None,
        )
        for v, name in enumerate(rigs.names)
        if sees[v]
    ]
    of_joints = slice(len(centres), len(centres) + len(joints))
    condition = table.info.condition
    mean_deg = errors[:, row][:, rigs.counts[row]].mean(axis=1)
    return RigPlan(
        place=place,
        rigs=count,
        key=str(table.keys[rigs.rows[row]]),
        frames=len(members),
        frames_per_rig=condition.frames_per_rig,
        perturbation=condition.perturbation,
        rotation_deg=round(float(mean_deg[0]), _DIGITS),
        direction_deg=round(float(mean_deg[1]), _DIGITS),
        scale=round(scale, _DIGITS),
        axes=axes,
        cameras=cameras,
        edges=[(int(a), int(b)) for a, b in truth.skeleton.edge_indices],
        true_joints_m=_in_space(true_joints @ turn.T / 1000, np.isfinite(true_joints).all(axis=1)),
        recovered_joints_m=_in_space(moved[of_joints] @ turn.T / 1000, np.isfinite(joints).all(axis=1)),
    )


def from_above(R: Array) -> tuple[tuple[str, str], Array]:
    """Axes of the plan: names of its right and upward axes, and a matrix with rows right, up and vertical.

    The vertical is the axis nearest to the vertical of the images.

    Args:
        R: (V, 3, 3) rotations of the cameras, world to camera.

    Example:
        >>> level = np.array([[[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]])  # looks along y, z is up
        >>> from_above(level)[0]
        ('x', 'y')
    """
    up = -R[:, 1].mean(axis=0)
    vertical = int(np.abs(up).argmax())
    right, ahead = (vertical + 1) % 3, (vertical + 2) % 3
    if up[vertical] < 0:
        right, ahead = ahead, right
    turn = np.eye(3)[[right, ahead, vertical]]
    turn[2] *= np.sign(up[vertical])
    return (_AXES[right], _AXES[ahead]), turn


def _on_plan(point: Array) -> PlanPoint:
    return round(float(point[0]), _DIGITS), round(float(point[1]), _DIGITS)


def _spread(covariance: Array) -> tuple[float, float, float] | None:
    """Entries xx, xy, yy of a covariance; None if the matrix is not finite or not positive semidefinite."""
    if not np.isfinite(covariance).all() or np.linalg.eigvalsh(covariance)[0] < -1e-9 * np.abs(covariance).max():
        return None
    xx, xy, yy = (float(f"{value:.6g}") for value in covariance[[0, 0, 1], [0, 1, 1]])
    return xx, xy, yy


def _in_space(points: Array, known: NDArray[np.bool_]) -> list[SpacePoint | None]:
    rounded = np.round(points, _DIGITS).tolist()
    return [(x, y, z) if there else None for (x, y, z), there in zip(rounded, known, strict=True)]
