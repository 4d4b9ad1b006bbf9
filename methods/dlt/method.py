"""Linear triangulation of 2D detections: the simplest baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Options, parse_options
from poseboard.methods.geometry.observations import Array, Observations
from poseboard.methods.geometry.triangulation import dlt
from poseboard.methods.nets.triangulator import ASSOCIATION_PX, Triangulator


class DltOptions(Options):
    """Options of linear triangulation.

    Args:
        weighting: weights of the views. "uniform": equal weights. "peak": the soft-max peak of the heat map, or the
            confidence of a sample's 2D detections.
        association_px: maximum mean epipolar distance of 2D detections of one person.
        compat: minimise over unit homogeneous vectors, as learnable triangulation does. This is less precise near the
            world origin, see `dlt`.
    """

    weighting: Literal["uniform", "peak"] = "uniform"
    association_px: float = Field(default=ASSOCIATION_PX, gt=0)
    compat: bool = False


class Dlt(Triangulator):
    """Linear triangulation (DLT) of 2D points. The 2D network is the unchanged checkpoint of the row ``after:``.

    Args:
        options: see `DltOptions`.
        skeleton: skeleton of the predictions.

    Raises:
        InputError: an option is unknown or has an invalid value.
    """

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        self.options = parse_options(DltOptions, options, "dlt")
        super().__init__("dlt", skeleton, self.options.association_px, checkpoints_of=("backbone", "ransac"))

    def triangulate(self, observations: Observations, keys: Sequence[str]) -> Array:
        """Triangulate each joint by one weighted linear system over all views."""
        weights = observations.confidence if self.options.weighting == "peak" else None
        return dlt(observations.P, observations.points_px, weights, homogeneous=self.options.compat)

    def training(self, start: Path | None, seed: int) -> None:
        """Return None, because the method has nothing to train."""
