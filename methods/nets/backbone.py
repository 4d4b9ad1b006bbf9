"""Training of the 2D backbone on single views: a crop and the projection of the true joints into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Sample, Truth, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Checkpoint, Example, Inputs, Options, Training, parse_options
from poseboard.methods.nets.architecture import (
    IMAGE_NETWORK,
    Architecture,
    Precision,
    crop_pixels,
    given_weights,
    load_backbone,
)
from poseboard.methods.nets.augmentation import NO_AUGMENTATION, Augmentation, augment, transform_points
from poseboard.methods.nets.gaussian_maps import gaussian_maps
from poseboard.methods.nets.losses import coordinate_smooth_l1, heatmap_cross_entropy
from poseboard.methods.nets.pose_resnet import NETWORKS
from poseboard.methods.nets.schedule import Epochs, Length, Recipe, by_recipe, warmup_cosine
from poseboard.methods.nets.soft_argmax import soft_argmax_2d


class HeatmapOptions(Options):
    """How a backbone is trained on single views.

    Args:
        recipe: "small" is ours (soft-argmax and cross-entropy, AdamW with a cosine, augmentation); "published" is plain
            squared error of Gaussian maps, Adam at one rate, no augmentation.
        steps: of the optimiser, or `Epochs`.
        batch_size: crops a step.
        learning_rate: highest; "small": it rises over ``warmup_steps`` and falls along a cosine.
        warmup_steps: "small": steps of the rise.
        weight_decay: "small": of AdamW.
        heatmap_weight: "small": of the heat-map cross-entropy beside the smooth-L1 of the soft-argmax.
        sigma_px: of the true heat map, heat-map pixels.
        clip_norm: maximum gradient norm, larger gradients are clipped; None: never. Left out: 10 ("small") or never.
        augmentation: how crops are changed. Left out: `Augmentation` ("small") or not at all.
    """

    recipe: Recipe = "small"
    steps: PositiveInt | Epochs = 3000
    batch_size: int = Field(default=20, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    heatmap_weight: float = Field(default=0.3, ge=0)
    sigma_px: float = Field(default=1.0, gt=0)
    clip_norm: float | None = Field(default_factory=by_recipe(10.0, None), gt=0)
    augmentation: Augmentation = Field(default_factory=by_recipe(Augmentation(), NO_AUGMENTATION))


class BackboneOptions(HeatmapOptions):
    """What is trained, and how.

    Args:
        architecture: one of `pose_resnet.NETWORKS`.
        image_px: side of the crops.
        precision: "bf16" runs the convolutions in bfloat16.
        weights: checkpoint to start from, e.g. of published weights (`poseboard weights import backbone`); its
            architecture, crops and precision then count instead of those above. "published" needs one: a pose network
            for the data set's joints is taken as it is, one for others and an image network are trained.
    """

    architecture: str = "small"
    image_px: int = Field(default=96, ge=32, multiple_of=32)
    precision: Precision = "bf16"
    weights: Path | None = None

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in NETWORKS:
            raise ValueError(f"known: {', '.join(NETWORKS)}")
        return value


def inside_crop(points_px: Array, crop_px: int, *, published: bool = False) -> Array:
    """1 for points (J, 2) in the crop, else 0.

    In it are those between the centres of its outermost pixels, where there are pixels on both sides. The release of
    epipolar transformers (``published``) counts from 0 up to the side, so half of its last column and row, too.
    """
    below = points_px < crop_px if published else points_px <= crop_px - 1
    return np.asarray(np.all((points_px >= 0) & below, axis=-1), dtype=np.float64)


def visible_joints(view: View, truth: Truth, crop_px: int | None, *, published: bool = False) -> tuple[Array, Array]:
    """True joints as pixels (J, 2) of the view, and weights (J,): 0 where unknown, annotated as hidden, or outside.

    Without ``crop_px``, for a view that is still to be cropped, no joint is outside. Joints are the projections of the
    pose, and (0, 0) where their weight is 0.

    With ``published`` they are what the release of epipolar transformers trains on: where the view itself is annotated,
    that; kept where they are hidden or outside; inside by its rule, see `inside_crop`.
    """
    if published and view.name in truth.annotated:
        points = view.camera.image(truth.annotated[view.name][0])
    else:
        points = view.camera.project(truth.joints_mm[0])
    anywhere = np.asarray(np.isfinite(points).all(axis=-1), dtype=np.float64)
    weights = anywhere if crop_px is None else inside_crop(points, crop_px, published=published)  # 0 for NaN
    if view.name in truth.seen:
        weights = weights * truth.seen[view.name][0]
    return np.where((anywhere if published else weights)[:, None] > 0, points, 0.0), weights


class HeatmapTraining(Training):
    """The single-view training pipeline, for any method that carries a backbone.

    Args:
        architecture: of ``net``.
        net: what is trained.
        options: how.
        skeleton: of the truth, for the joints a mirror image swaps.
    """

    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    optimizer: torch.optim.Optimizer

    def __init__(self, architecture: Architecture, net: nn.Module, options: HeatmapOptions, skeleton: Skeleton) -> None:
        self._architecture = architecture
        self._options = options
        self._flip_order = skeleton.flip_order
        self.architecture = architecture.plain()
        self.model = net
        length = Length(options.steps, options.batch_size)
        self.steps, self.every = length.steps, length.every
        self.batch_size = options.batch_size
        if options.recipe == "published":
            self.optimizer = torch.optim.Adam(net.parameters(), lr=options.learning_rate)
        else:
            self.optimizer = torch.optim.AdamW(
                net.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
            )
            self.scheduler = warmup_cosine(self.optimizer, self.steps, options.warmup_steps)
        self.clip_norm = options.clip_norm
        self.inputs = Inputs(crop_px=architecture.crop_px, views=(1, 1_000), extrinsics=True)

    @classmethod
    def continued(cls, start: Path, options: HeatmapOptions, skeleton: Skeleton, seed: int = 0) -> HeatmapTraining:
        """Further steps for the backbone in the checkpoint ``start``.

        Raises:
            InputError: the checkpoint has no backbone, or one for other joints.
        """
        checkpoint = Checkpoint.read(start)
        heads: dict[str, Any] = {"alg_confidences": False, "vol_confidences": False}  # nothing here would train them
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
        """A random view: image (S, S, 3) uint8, points_px (J, 2) and weights (J,) float32."""
        view = sample.views[rng.integers(len(sample.views))]
        crop_px, settings = self._architecture.crop_px, self._options.augmentation
        mirrored = bool(rng.random() < settings.flip)
        image, A = augment(crop_pixels(view, crop_px), settings, rng, mirrored=mirrored)
        points, weights = visible_joints(view, truth, crop_px)
        points = transform_points(A, points)
        if mirrored:
            points, weights = points[self._flip_order], weights[self._flip_order]
        weights = weights * inside_crop(points, crop_px)
        return {
            "image": np.ascontiguousarray(image),
            "points_px": points.astype(np.float32),
            "weights": weights.astype(np.float32),
        }

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The recipe's loss; also the mean 2D error in crop pixels."""
        arch = self._architecture
        heatmaps = arch.run(self.model, arch.prepare(batch["image"])).heatmaps
        options, points, weights = self._options, batch["points_px"], batch["weights"]
        losses = heatmap_losses(arch, heatmaps, points, weights, options.heatmap_weight, options.sigma_px)
        if options.recipe == "small":
            return losses
        cells = points * (heatmaps.shape[-1] / arch.crop_px)
        targets = gaussian_maps(cells, (heatmaps.shape[-2], heatmaps.shape[-1]), options.sigma_px, cell_px=1)
        squared = weights[..., None, None] * (heatmaps - targets).square()
        return {"total": squared.mean(), "error_px": losses["error_px"]}


def heatmap_losses(
    architecture: Architecture,
    heatmaps: Tensor,
    points_px: Tensor,
    weights: Tensor,
    heatmap_weight: float,
    sigma_px: float,
) -> dict[str, Tensor]:
    """The 2D losses of raw heat maps (n, J, h, w) against points (n, J, 2) in crop pixels, weighted (n, J)."""
    predicted, _ = soft_argmax_2d(heatmaps, architecture.multiplier, architecture.softmax)
    factor = heatmaps.shape[-1] / architecture.crop_px
    target = points_px * factor
    entropy = heatmap_cross_entropy(heatmaps * architecture.multiplier, target, weights, sigma_px)
    distance = coordinate_smooth_l1(predicted, target, weights)
    with torch.no_grad():
        error = torch.linalg.vector_norm(predicted - target, dim=-1) / factor
        error_px = (error * weights).sum() / weights.sum().clamp(min=1)
    return {
        "total": heatmap_weight * entropy + distance,
        "heatmap": entropy.detach(),
        "smooth_l1": distance.detach(),
        "error_px": error_px,
    }


class Backbone:
    """The 2D backbone as a stage of its own: what the triangulating methods start from.

    Args:
        options: see `BackboneOptions`.
        skeleton: whose joints it learns.

    Raises:
        InputError: an option is unknown or wrong.
    """

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        self.options = parse_options(BackboneOptions, options, "backbone")
        self.skeleton = skeleton
        self.inputs = Inputs(crop_px=self.options.image_px, views=(1, 1_000))

    def training(self, start: Path | None, seed: int) -> HeatmapTraining:
        """From the backbone in ``start``, else from that of the option ``weights``, else from fresh weights.

        Raises:
            InputError: there is no such checkpoint, or its backbone is for other joints ("small").
        """
        if self.options.recipe == "published" or self.options.weights is not None:
            start = start or given_weights("backbone", self.options.weights)
        if start is not None:
            return HeatmapTraining.continued(start, self.options, self.skeleton, seed)
        architecture = Architecture(
            network=self.options.architecture,
            joints=self.skeleton.joints,
            crop_px=self.options.image_px,
            precision=self.options.precision,
        )
        return HeatmapTraining(architecture, architecture.build(seed), self.options, self.skeleton)
