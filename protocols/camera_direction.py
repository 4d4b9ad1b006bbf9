"""Error of the direction from the reference camera to each recovered camera. Distances do not count."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from poseboard.protocols.base import TruthTable
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.recovered_cameras import Array, RecoveredCameras, Rigs, direction_deg


class CameraDirection(RecoveredCameras):
    """Angle between the recovered and the true translation relative to the reference camera, degrees.

    Example:
        >>> CameraDirection().unit
        'deg'
    """

    name: ClassVar[str] = "camera_direction"
    version: ClassVar[int] = 1
    metric: ClassVar[str] = "camera direction"

    def camera_values(self, rigs: Rigs, pred: PoseTable, truth: TruthTable) -> tuple[Array, NDArray[np.bool_]]:
        """Value of each camera and mask of the cameras that count; see :class:`RecoveredCameras`."""
        return direction_deg(rigs.relative[1], rigs.true_relative[1]), rigs.counts
