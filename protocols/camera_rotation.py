"""Error of the orientation of recovered cameras, relative to the reference camera."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from poseboard.protocols.base import TruthTable
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.recovered_cameras import Array, RecoveredCameras, Rigs, angle_deg


class CameraRotation(RecoveredCameras):
    """Geodesic angle between the recovered and the true rotation relative to the reference camera, degrees.

    Example:
        >>> CameraRotation().unit
        'deg'
    """

    name: ClassVar[str] = "camera_rotation"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "camera rotation"

    def camera_values(self, rigs: Rigs, pred: PoseTable, truth: TruthTable) -> tuple[Array, NDArray[np.bool_]]:
        """Value of each camera and mask of the cameras that count; see :class:`RecoveredCameras`."""
        return angle_deg(rigs.relative[0], rigs.true_relative[0]), rigs.counts
