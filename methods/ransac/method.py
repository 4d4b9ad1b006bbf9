"""Robust triangulation of 2D detections (baseline of Iskakov et al., ICCV 2019)."""

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
from poseboard.methods.nets.detector import Decode
from poseboard.methods.nets.heatmap_training import HeatmapTraining
from poseboard.methods.nets.triangulator import Triangulator
from poseboard.methods.ransac.train import RansacOptions, RansacTraining


class Ransac(Triangulator):
    """The views that agree best, then the smallest robust reprojection error.

    Args:
        options: see `RansacOptions`.
        skeleton: whose joints it answers in.

    Raises:
        InputError: an option is unknown or wrong.
    """

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        self.options = parse_options(RansacOptions, options, "ransac")
        decode: Decode = "argmax" if self.options.compat else "softargmax"
        super().__init__("ransac", skeleton, self.options.association_px, decode, checkpoints_of=("backbone", "ransac"))

    def triangulate(self, observations: Observations, keys: Sequence[str]) -> Array:
        """All people at once; with ``compat`` one joint at a time, its draws seeded by the sample's key."""
        if not self.options.compat:
            return ransac(observations.P, observations.points_px, self.threshold_px).points_mm
        people = [
            ransac_published(P, points, random.Random(key), threshold_px=self.threshold_px).points_mm
            for P, points, key in zip(observations.P, observations.points_px, keys, strict=True)
        ]
        return np.reshape(people, (-1, len(self.skeleton), 3))

    @property
    def threshold_px(self) -> float:
        """Of the option, else the checkpoint's fitted one, else (and with ``compat``) the published one."""
        fitted = {} if self.options.compat or self.checkpoint is None else self.checkpoint.constants
        return self.options.threshold_px or fitted.get("threshold_px", THRESHOLD_PX)

    def training(self, start: Path | None, seed: int) -> HeatmapTraining | None:
        """Further single-view steps for the backbone in ``start``, then the threshold; None with "published"."""
        start = self.started(start)
        if self.options.recipe == "published":
            return None
        return RansacTraining.continued(start, self.options, self.skeleton, seed)
