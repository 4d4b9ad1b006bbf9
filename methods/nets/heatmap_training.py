"""Training of 2D backbones on crops of single views and projections of the true joints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from poseboard.datasets.sample import Sample, Truth
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Example, Inputs
from poseboard.methods.batches.augmentation import NO_AUGMENTATION, Augmentation, augment, transform_points
from poseboard.methods.batches.crops import crop_pixels
from poseboard.methods.batches.labels import inside_crop, visible_joints
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.gaussian_maps import gaussian_maps
from poseboard.methods.nets.losses import heatmap_losses
from poseboard.methods.nets.starting_weights import IMAGE_NETWORK, load_backbone
from poseboard.methods.nets.training import Epochs, NetworkTraining, TrainingOptions, by_recipe, rate_groups


class HeatmapOptions(TrainingOptions):
    """Options for training a backbone on single views, in addition to `TrainingOptions`.

    Args:
        recipe: "small" is ours: soft-argmax and cross-entropy, augmentation. "published" is the release's: squared
            error of Gaussian maps, constant learning rate, no augmentation.
        heatmap_weight: "small": weight of the heat-map cross-entropy; the smooth L1 of the soft-argmax has weight 1.
        sigma_px: standard deviation of the true heat maps, heat-map pixels.
        augmentation: random changes of the crops. Default: `Augmentation` ("small"), none ("published").
    """

    steps: PositiveInt | Epochs = 3000
    batch_size: int = Field(default=20, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    heatmap_weight: float = Field(default=0.3, ge=0)
    sigma_px: float = Field(default=1.0, gt=0)
    augmentation: Augmentation = Field(default_factory=by_recipe(Augmentation(), NO_AUGMENTATION))


class HeatmapTraining(NetworkTraining[HeatmapOptions, Architecture]):
    """Training of a 2D backbone on single views, for the backbone row and for methods that train it further."""

    def __init__(self, architecture: Architecture, net: nn.Module, options: HeatmapOptions, skeleton: Skeleton) -> None:
        inputs = Inputs(crop_px=architecture.crop_px, views=(1, 1_000), extrinsics=True)
        super().__init__(net, architecture, options, skeleton, inputs, rate_groups(net, options.learning_rate))

    @classmethod
    def continued(cls, start: Path, options: HeatmapOptions, skeleton: Skeleton, seed: int = 0) -> HeatmapTraining:
        """Training that starts from the backbone in the checkpoint ``start``.

        With the recipe "published", a pose network for the skeleton's joints is not trained further (0 steps). Any
        other network gets a new heat-map layer.

        Raises:
            InputError: the checkpoint has no backbone, or the recipe is "small" and the backbone is for other joints.
        """
        checkpoint = Checkpoint.read(start)
        heads: dict[str, Any] = {"alg_confidences": False, "vol_confidences": False}  # single views do not train them
        architecture = Architecture.of(checkpoint, start).model_copy(update=heads)
        finished = checkpoint.method != IMAGE_NETWORK and architecture.joints == skeleton.joints
        if options.recipe == "published":
            architecture = architecture.exact.model_copy(update={"joints": skeleton.joints})
        else:
            architecture.require(skeleton, start)
        net = load_backbone(architecture, checkpoint, start, seed, fresh_maps=not finished)
        training = cls(architecture, net, options, skeleton)
        if finished and options.recipe == "published":
            training.steps = 0
        return training

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """Training example of a random view: image (S, S, 3) uint8; points_px (J, 2) and weights (J,) float32."""
        view = sample.views[rng.integers(len(sample.views))]
        crop_px, settings = self.network.crop_px, self.options.augmentation
        mirrored = bool(rng.random() < settings.flip)
        image, A = augment(crop_pixels(view, crop_px), settings, rng, mirrored=mirrored)
        points, weights = visible_joints(view, truth, crop_px)
        points = transform_points(A, points)
        if mirrored:
            order = self.skeleton.flip_order
            points, weights = points[order], weights[order]
        weights = weights * inside_crop(points, crop_px)
        return {
            "image": np.ascontiguousarray(image),
            "points_px": points.astype(np.float32),
            "weights": weights.astype(np.float32),
        }

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of the recipe for a batch, and the mean 2D error in crop pixels."""
        arch = self.network
        heatmaps = arch.run(self.model, arch.prepare(batch["image"])).heatmaps
        options, points, weights = self.options, batch["points_px"], batch["weights"]
        losses = heatmap_losses(arch, heatmaps, points, weights, options.heatmap_weight, options.sigma_px)
        if self.small:
            return losses
        cells = points * (heatmaps.shape[-1] / arch.crop_px)
        targets = gaussian_maps(cells, (heatmaps.shape[-2], heatmaps.shape[-1]), options.sigma_px, cell_px=1)
        squared = weights[..., None, None] * (heatmaps - targets).square()
        return {"total": squared.mean(), "error_px": losses["error_px"]}
