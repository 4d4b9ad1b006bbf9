"""Share of failed poses: missing, or with an error after Procrustes alignment above a limit.

A mean error hides failures: a method that predicts only easy poses has a low one. Here every evaluated pose counts, and
a missing pose is a failure.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from poseboard.protocols import metrics
from poseboard.protocols.metrics import Array
from poseboard.protocols.pa_mpjpe import PaMpjpe


class FailureRate(PaMpjpe):
    """Percent of the poses whose error after Procrustes alignment is above a limit, or that lack an evaluated joint.

    Args:
        limit_mm: limit of the mean error over joints; a pose above it is a failure.

    Example:
        >>> FailureRate().pose_values(np.array([[10.0, 20.0], [100.0, 400.0], [10.0, np.inf], [np.nan, np.nan]]))
        array([  0., 100., 100.,  nan])
    """

    name: ClassVar[str] = "failure_rate"
    version: ClassVar[int] = 1
    error_unit: ClassVar[str] = "%"

    limit_mm: float = Field(default=150, gt=0)

    def metric_name(self) -> str:
        """Name of the metric with its limit."""
        return f"failed poses>{self.limit_mm:g}mm"

    def pose_values(self, errors: Array) -> NDArray[np.float64]:
        """Convert errors (N, J) to percent: 100 for a failed or missing pose, else 0."""
        means = metrics.pose_errors(errors)
        return np.where(np.isnan(means), np.nan, 100.0 * (means > self.limit_mm))

    def joint_values(self, distances: Array, missing: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Convert a joint's distances (N,) to percent: 100 for a failed or missing joint, else 0."""
        return self.pose_values(distances[:, None])
