"""Calibration of predicted camera uncertainty: how often the predicted confidence regions contain the true rotation.

A method can predict a covariance of each camera's rotation, and so a region for each probability. Over many poses the
95 % region should contain the true rotation in 95 % of the cases. With fewer, the method is overconfident; with more,
its regions are too large. The number is the distance from the level, so larger regions are not better.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import scipy  # its parts load when they are used
from numpy.typing import NDArray
from pydantic import Field

from poseboard.protocols.base import Breakdown, TruthTable, finite
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import COVERAGE, Curve
from poseboard.protocols.recovered_cameras import CAMERA_COLUMN, Array, RecoveredCameras, Rigs

RADIUS_COLUMN = "radius_deg/"
"""Prefix of the columns of the cameras' radii."""
LEVELS = (*(round(0.05 * step, 2) for step in range(1, 20)), 0.99)
"""Of the curve."""


class CameraCoverage(RecoveredCameras):
    """Distance of the coverage from the level, percentage points; lower is better.

    The coverage is the percentage of cameras whose true rotation lies in the region of the level about the recovered
    rotation. The region is an ellipsoid of a normal distribution of the rotation vector (three degrees of freedom) with
    the rotation block of the covariance. A covariance that is not positive definite covers nothing.

    The number does not depend on the size of the regions; `secondary` has the coverage and the median radius. The
    number is a distance, so close to zero its interval may lie above it.

    Args:
        level: probability of the region, such as 0.95.

    Example:
        >>> CameraCoverage().metric_name()
        'camera coverage error@95%'
    """

    name: ClassVar[str] = "camera_coverage"
    version: ClassVar[int] = 2
    metric: ClassVar[str] = "camera coverage error"
    error_unit: ClassVar[str] = "%"
    columns: ClassVar[tuple[str, ...]] = ("camera_R", "camera_t_mm", "camera_covariance")

    level: float = Field(default=0.95, gt=0, lt=1)

    def metric_name(self) -> str:
        """Name of the metric with its level."""
        return f"{self.metric}@{100 * self.level:g}%"

    def camera_values(self, rigs: Rigs, pred: PoseTable, truth: TruthTable) -> tuple[Array, NDArray[np.bool_]]:
        """Level in [0, 1] of the smallest region with the true rotation, and mask of the cameras that count."""
        covariance = pred.column("camera_covariance")[rigs.rows, :, :3, :3].astype(np.float64)
        known = np.isfinite(covariance).all(axis=(2, 3)) & np.isfinite(rigs.R).all(axis=(2, 3))
        plain = np.where((known & rigs.counts)[..., None, None], covariance, np.eye(3))
        plain = (plain + np.swapaxes(plain, 2, 3)) / 2
        size, axes = np.linalg.eigh(plain)
        turn = rigs.true_relative[0] @ np.swapaxes(rigs.relative[0], 2, 3)
        turn = np.where((known & rigs.counts)[..., None, None], turn, np.eye(3))
        vector = (
            scipy.spatial.transform.Rotation.from_matrix(turn.reshape(-1, 3, 3)).as_rotvec().reshape(*turn.shape[:2], 3)
        )
        along = np.einsum("nvki,nvk->nvi", axes, vector)
        definite = (size > 0).all(axis=2)
        squared = np.divide(along**2, size, out=np.zeros_like(along), where=size > 0).sum(axis=2)
        level = np.where(definite, scipy.special.gammainc(1.5, squared / 2), 1.0)
        return np.where(known, level, np.nan), rigs.counts

    def further(self, rigs: Rigs, pred: PoseTable) -> dict[str, Array]:
        """Radius in degrees of the ball with the volume of the region."""
        covariance = pred.column("camera_covariance")[rigs.rows, :, :3, :3].astype(np.float64)
        known = np.asarray(np.isfinite(covariance).all(axis=(2, 3)))
        size = np.linalg.eigvalsh(np.where(known[..., None, None], covariance, np.eye(3)))
        radius = np.sqrt(scipy.stats.chi2.ppf(self.level, 3)) * np.cbrt(np.sqrt(size.clip(0)).prod(axis=2))
        return {RADIUS_COLUMN: np.where(known, np.rad2deg(radius), np.nan)}

    def number(self, values: Array) -> Array:
        """Convert levels to coverage in percent: 100 if the region of ``level`` covers the true rotation, else 0."""
        return np.where(np.isnan(values), np.nan, 100.0 * (values <= self.level))

    def estimate(
        self, table: pd.DataFrame, codes: NDArray[np.integer], multiplicity: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Distance (R,) of the coverage from the level, for each row of ``multiplicity``."""
        return np.abs(super().estimate(table, codes, multiplicity) - 100 * self.level)

    def breakdown(self, table: pd.DataFrame) -> Breakdown:
        """Number by action, subject and camera."""
        by_kind = super().breakdown(table)
        of_cameras = {
            name: None if coverage is None else abs(coverage - 100 * self.level)
            for name, coverage in by_kind["camera"].items()
        }
        return {"action": by_kind["action"], "subject": by_kind["subject"], "camera": of_cameras}

    def secondary(self, table: pd.DataFrame) -> dict[str, float | None]:
        """Coverage, and median radius of the regions over poses and cameras."""
        radii = np.stack([*self.by_column(RADIUS_COLUMN, table).values()], axis=1)
        return {
            "coverage (%)": finite(np.mean, table["error"].to_numpy(dtype=np.float64)),
            "median radius (deg)": finite(np.median, radii),
        }

    def curves(self, table: pd.DataFrame) -> dict[str, Curve]:
        """Coverage in percent against the level of the regions."""
        levels = np.stack([*self.by_column(CAMERA_COLUMN, table).values()], axis=1)
        levels = np.sort(levels[np.isfinite(levels)])
        share = np.searchsorted(levels, LEVELS, side="right") / max(levels.size, 1)
        y = [float(100 * value) if levels.size else None for value in share]
        x = [100 * level for level in LEVELS]
        label = "level of the region (%)"
        return {COVERAGE: Curve(x=x, y=y, x_label=label, y_label="cameras whose region holds the truth (%)")}
