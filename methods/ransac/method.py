"""RANSAC triangulation of 2D detections (baseline of Iskakov et al., ICCV 2019)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import parse_options
from poseboard.methods.geometry.observations import Array, Observations
from poseboard.methods.geometry.robust import THRESHOLD_PX, ransac, ransac_published
from poseboard.methods.geometry.swaps import without_swaps
from poseboard.methods.nets.detector import Decode
from poseboard.methods.nets.heatmap_training import HeatmapTraining
from poseboard.methods.nets.triangulator import Triangulator
from poseboard.methods.ransac.train import RansacOptions, RansacTraining


class Ransac(Triangulator):
    """RANSAC triangulation of the views that agree best, refined by minimising a robust reprojection error.

    Args:
        options: see `RansacOptions`.
        skeleton: skeleton of the predictions.

    Raises:
        InputError: an option is unknown or has an invalid value.
    """

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        self.options = parse_options(RansacOptions, options, "ransac")
        decode: Decode = "argmax" if self.options.compat else "softargmax"
        super().__init__("ransac", skeleton, self.options.association_px, decode, checkpoints_of=("backbone", "ransac"))

    def triangulate(self, observations: Observations, keys: Sequence[str]) -> Array:
        """Triangulate all people together; with ``compat`` person by person, with draws seeded by the sample's key."""
        if self.options.swaps:
            order, threshold_px = self.skeleton.flip_order, self.threshold_px
            return without_swaps(self._robust, observations.P, observations.points_px, order, threshold_px)[0]
        if not self.options.compat:
            return self._robust(observations.P, observations.points_px)
        people = [
            ransac_published(P, points, random.Random(key), threshold_px=self.threshold_px).points_mm
            for P, points, key in zip(observations.P, observations.points_px, keys, strict=True)
        ]
        return np.reshape(people, (-1, len(self.skeleton), 3))

    def _robust(self, P: Array, points_px: Array) -> Array:
        return ransac(P, points_px, self.threshold_px).points_mm

    @property
    def threshold_px(self) -> float:
        """Reprojection threshold: the option if set, else the fitted value, else the published 30 px.

        With ``compat`` the fitted value is ignored.
        """
        fitted = {} if self.options.compat or self.checkpoint is None else self.checkpoint.constants
        return self.options.threshold_px or fitted.get("threshold_px", THRESHOLD_PX)

    def training(self, start: Path | None, seed: int) -> HeatmapTraining | None:
        """Training that continues with the backbone in ``start`` and then fits the threshold.

        None with the recipe "published" or with ``swaps``: the checkpoint ``start`` is used unchanged.
        """
        start = self.starting_checkpoint(start)
        if self.options.recipe == "published" or self.options.swaps:
            return None
        return RansacTraining.continued(start, self.options, self.skeleton, seed)
