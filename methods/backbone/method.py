"""The 2D backbone as a trainable row. `HeatmapTraining` implements the training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, parse_options
from poseboard.methods.nets.architecture import Architecture, NetworkName, Precision
from poseboard.methods.nets.heatmap_training import HeatmapOptions, HeatmapTraining
from poseboard.methods.nets.starting_weights import checkpoint_of_option


class BackboneOptions(HeatmapOptions):
    """Options of the 2D backbone, in addition to `HeatmapOptions`.

    Args:
        architecture: one of `pose_resnet.NETWORKS`.
        image_px: side of the crops.
        precision: precision of the convolutions in training: "bf16" or "float32".
        start_weights: checkpoint to start from, for example published weights (`poseboard weights import backbone`). It
            sets architecture, crop size and precision. The recipe "published" needs a checkpoint. A pose network for
            the data set's joints is used unchanged; a pose network for other joints or an image network is trained.
    """

    architecture: NetworkName = "small"
    image_px: int = Field(default=96, ge=32, multiple_of=32)
    precision: Precision = "bf16"
    start_weights: Path | None = None


class Backbone:
    """The 2D backbone that other methods start from. It predicts no 3D poses.

    Args:
        options: see `BackboneOptions`.
        skeleton: skeleton of its heat maps.

    Raises:
        InputError: an option is unknown or has an invalid value.
    """

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        self.options = parse_options(BackboneOptions, options, "backbone")
        self.skeleton = skeleton
        self.inputs = Inputs(crop_px=self.options.image_px, views=(1, 1_000))

    def training(self, start: Path | None, seed: int) -> HeatmapTraining:
        """Training from the backbone in ``start``, else from the option ``start_weights``, else from random weights.

        Raises:
            InputError: the checkpoint does not exist, or the recipe is "small" and the backbone is for other joints.
        """
        if self.options.recipe == "published" or self.options.start_weights is not None:
            start = start or checkpoint_of_option("backbone", self.options.start_weights)
        if start is not None:
            return HeatmapTraining.continued(start, self.options, self.skeleton, seed)
        architecture = Architecture(
            network=self.options.architecture,
            joints=self.skeleton.joints,
            crop_px=self.options.image_px,
            precision=self.options.precision,
        )
        return HeatmapTraining(architecture, architecture.build(seed), self.options, self.skeleton)
