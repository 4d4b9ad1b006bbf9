"""End-to-end training of algebraic triangulation, from a trained 2D backbone."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from poseboard.datasets.sample import Sample, Truth
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.algebraic.model import AlgebraicTriangulation
from poseboard.methods.base import Example, Inputs
from poseboard.methods.batches.augmentation import NO_AUGMENTATION, Augmentation
from poseboard.methods.batches.multiview import augmented_views
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.losses import heatmap_losses, keypoint_l2, keypoint_mse_smooth, keypoint_robust
from poseboard.methods.nets.training import NetworkTraining, TrainingOptions, rate_groups

_CM = 0.1
"""mm -> cm: the published loss and its threshold are in centimetres."""


class AlgebraicOptions(TrainingOptions):
    """Options of algebraic triangulation, in addition to `TrainingOptions`.

    Args:
        use_confidences: True: the confidence head weights the views. False: equal weights.
        recipe: "small" is ours: robust 3D loss and 2D losses, augmentation. "published" is the release's: MSESmooth in
            cm, no augmentation.
        learning_rate: maximum learning rate; None: 1e-3 ("small") or 1e-5 ("published").
        head_rate_factor: "small": factor on the learning rate of the confidence head.
        robust_scale_mm: "small": error at which the robust loss has its largest gradient.
        joints_2d_weight: "small": weight of the 2D losses; the 3D loss has weight 1.
        heatmap_weight: "small": weight of the heat-map cross-entropy within the 2D losses.
        sigma_px: "small": standard deviation of the true heat maps, heat-map pixels.
        smooth_threshold_cm2: "published": threshold of MSESmooth.
        views: maximum number of views of a training sample. If a sample has more, they are drawn at random.
        augmentation: "small": random changes of the crops and their cameras.
    """

    use_confidences: bool = True
    head_rate_factor: float = Field(default=4.0, gt=0)
    robust_scale_mm: float = Field(default=100.0, gt=0)
    joints_2d_weight: float = Field(default=0.3, ge=0)
    heatmap_weight: float = Field(default=0.3, ge=0)
    sigma_px: float = Field(default=1.0, gt=0)
    smooth_threshold_cm2: float = Field(default=400.0, gt=0)
    views: int = Field(default=4, ge=2)
    augmentation: Augmentation = Augmentation()


class AlgebraicTraining(NetworkTraining[AlgebraicOptions, Architecture]):
    """End-to-end training of the backbone with losses on the triangulated joints."""

    def __init__(self, model: AlgebraicTriangulation, options: AlgebraicOptions, skeleton: Skeleton) -> None:
        small = options.recipe == "small"
        rate = options.learning_rate or (1e-3 if small else 1e-5)
        groups = rate_groups(model, rate, {"alg_confidences": options.head_rate_factor} if small else {})
        network = model.architecture
        super().__init__(model, network, options, skeleton, Inputs(crop_px=network.crop_px), groups)
        self._augmentation = options.augmentation if small else NO_AUGMENTATION

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """Training example with up to ``views`` views of a sample; see `stack_changed`."""
        return augmented_views(
            sample,
            truth,
            self._augmentation,
            rng,
            crop_px=self.network.crop_px,
            slots=self.options.views,
            flip_order=self.skeleton.flip_order,
        )

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of the recipe for a batch, and its mean 3D error in mm."""
        arch, options, valid = self.network, self.options, batch["valid"]
        joints_mm, _, views = self.model(
            arch.prepare(batch["images"][valid]), batch["P"], valid, batch["lens_px"][valid]
        )
        known = batch["known"] * torch.isfinite(joints_mm.detach()).all(dim=-1, keepdim=True)
        logged = {"error_mm": keypoint_l2(joints_mm.detach(), batch["joints_mm"], known)}
        if not self.small:
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
