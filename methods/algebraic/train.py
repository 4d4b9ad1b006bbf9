"""End-to-end training of algebraic triangulation, from a trained 2D backbone."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from poseboard.datasets.sample import Sample, Truth
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.algebraic.model import AlgebraicTriangulation
from poseboard.methods.base import Example, Inputs, Options, Training
from poseboard.methods.batches.augmentation import NO_AUGMENTATION, Augmentation
from poseboard.methods.batches.multiview import augmented_views
from poseboard.methods.nets.losses import heatmap_losses, keypoint_l2, keypoint_mse_smooth, keypoint_robust
from poseboard.methods.nets.schedule import Epochs, Length, Recipe, by_recipe, warmup_cosine

_CM = 0.1
"""mm -> cm: the published loss and its threshold are in centimetres."""


class AlgebraicOptions(Options):
    """Options of algebraic triangulation.

    Args:
        use_confidences: views are weighted by the confidence head; False: equally.
        recipe: "small" is ours: robust 3D loss and 2D losses, AdamW with a cosine schedule, augmentation. "published"
            is the release's: MSESmooth in cm, Adam at a constant rate, no augmentation.
        steps: optimiser steps, or `Epochs`.
        batch_size: samples per step.
        learning_rate: maximum; None: the recipe's own, 1e-3 or 1e-5.
        head_rate_factor: "small": factor on the learning rate of the confidence head.
        warmup_steps: "small": steps of the warm-up.
        weight_decay: "small": of AdamW.
        robust_scale_mm: "small": error at which the robust loss has its largest gradient.
        joints_2d_weight: "small": weight of the 2D losses; the 3D loss has weight 1.
        heatmap_weight: "small": weight of the heat-map cross-entropy within the 2D losses.
        sigma_px: "small": of the true heat maps, heat-map pixels.
        smooth_threshold_cm2: "published": threshold of MSESmooth.
        views: maximum number of views of a training sample; drawn at random from more.
        clip_norm: maximum gradient norm, larger gradients are clipped; None: no clipping. Default: 10 ("small"), None.
        augmentation: "small": of the crops and their cameras.
    """

    use_confidences: bool = True
    recipe: Recipe = "small"
    steps: PositiveInt | Epochs = 600
    batch_size: int = Field(default=12, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    head_rate_factor: float = Field(default=4.0, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    robust_scale_mm: float = Field(default=100.0, gt=0)
    joints_2d_weight: float = Field(default=0.3, ge=0)
    heatmap_weight: float = Field(default=0.3, ge=0)
    sigma_px: float = Field(default=1.0, gt=0)
    smooth_threshold_cm2: float = Field(default=400.0, gt=0)
    views: int = Field(default=4, ge=2)
    clip_norm: float | None = Field(default_factory=by_recipe(10.0, None), gt=0)
    augmentation: Augmentation = Augmentation()


class AlgebraicTraining(Training):
    """The training pipeline.

    Args:
        model: with the weights to start from.
        options: of the training.
        skeleton: of the truth; mirror images swap its left and right joints.
    """

    def __init__(self, model: AlgebraicTriangulation, options: AlgebraicOptions, skeleton: Skeleton) -> None:
        self._architecture = model.architecture
        self._options = options
        self._flip_order = skeleton.flip_order
        self._augmentation = options.augmentation if options.recipe == "small" else NO_AUGMENTATION
        self.architecture = model.architecture.plain()
        self.model = model
        length = Length(options.steps, options.batch_size)
        self.steps, self.every = length.steps, length.every
        self.batch_size = options.batch_size
        self.clip_norm = options.clip_norm
        self.inputs = Inputs(crop_px=model.architecture.crop_px)
        if options.recipe == "published":
            self.optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate or 1e-5)
            return
        rate = options.learning_rate or 1e-3
        named = list(model.named_parameters())
        head = [p for name, p in named if "alg_confidences" in name]
        groups = [{"params": [p for name, p in named if "alg_confidences" not in name], "lr": rate}]
        if head:
            groups.append({"params": head, "lr": rate * options.head_rate_factor})
        self.optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay, fused=True)
        self.scheduler = warmup_cosine(self.optimizer, self.steps, options.warmup_steps)

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """Up to ``views`` views of a sample; see `stack_changed`."""
        side, slots = self._architecture.crop_px, self._options.views
        return augmented_views(
            sample, truth, self._augmentation, rng, crop_px=side, slots=slots, flip_order=self._flip_order
        )

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The recipe's loss, and the mean 3D error (mm) of the batch."""
        arch, options, valid = self._architecture, self._options, batch["valid"]
        joints_mm, _, views = self.model(
            arch.prepare(batch["images"][valid]), batch["P"], valid, batch["lens_px"][valid]
        )
        known = batch["known"] * torch.isfinite(joints_mm.detach()).all(dim=-1, keepdim=True)
        logged = {"error_mm": keypoint_l2(joints_mm.detach(), batch["joints_mm"], known)}
        if options.recipe == "published":
            threshold = options.smooth_threshold_cm2
            total = keypoint_mse_smooth(_CM * joints_mm, _CM * batch["joints_mm"], known, threshold)
            return {"total": total, **logged}
        robust = keypoint_robust(joints_mm, batch["joints_mm"], known, options.robust_scale_mm)
        flat = heatmap_losses(
            arch,
            views.heatmaps,
            batch["points_px"][valid],
            batch["weights"][valid],
            options.heatmap_weight,
            options.sigma_px,
        )
        total = robust + options.joints_2d_weight * flat.pop("total")
        return {"total": total, "robust": robust.detach(), **flat, **logged}
