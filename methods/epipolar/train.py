"""Training of the epipolar network on heat maps, from a trained 2D backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from poseboard.datasets.sample import Sample, Truth, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Example, Inputs
from poseboard.methods.batches.crops import crop_pixels
from poseboard.methods.batches.multiview import augmented_views, stack_changed
from poseboard.methods.epipolar.attention import AttentionSettings
from poseboard.methods.epipolar.model import Decoding, EpipolarArchitecture, EpipolarPose, Fusion
from poseboard.methods.epipolar.release_metrics import horizontal_pck, joint_detection_rate
from poseboard.methods.epipolar.release_rules import HeatmapLoss, released_loss, scale_and_turn
from poseboard.methods.epipolar.triangulation import CONFIDENCE, INLIER_MM, Scheme
from poseboard.methods.nets.gaussian_maps import gaussian_maps
from poseboard.methods.nets.heatmap_training import HeatmapOptions
from poseboard.methods.nets.losses import heatmap_losses
from poseboard.methods.nets.training import Epochs, Milestones, NetworkTraining, rate_groups


class EpipolarOptions(HeatmapOptions):
    """Options of epipolar transformers, in addition to `HeatmapOptions`.

    Args:
        fusion: "epipolar": attention along epipolar lines. "none": single-view baseline. "unconstrained": control with
            the same network, views, steps and number of samples, at positions that do not depend on the cameras.
        attention: settings of the block; None: ``SMALL`` ("small") or the defaults of `AttentionSettings`.
        sources: number of nearest views that each view attends to; None: 1 in training, and in prediction the number of
            the checkpoint.
        recipe: "small" is ours: all views of a frame together, soft-argmax and cross-entropy, AdamW with a cosine
            schedule. "published" is the release's: one pair of views per frame, Gaussian targets, mean squared error,
            Adam, a new heat-map layer.
        start_weights: checkpoint of the backbone to start from, instead of the row that ``after:`` names.
        image_px: side of the crops; None: side of the starting weights.
        steps: optimiser steps, or `Epochs`.
        milestones: "published": epochs, or steps if ``steps`` is a number, at which the learning rate is divided by
            ten; None: half and three quarters of the steps.
        views: "small": maximum number of views of a training sample. If a sample has more, they are drawn at random.
        block_rate_factor: "small": factor on the learning rate of the block, because its initial weights are random.
        loss: "published": loss on the heat maps, see `released_loss`.
        target_sigma_px: "published": standard deviation of the targets, crop pixels: 8 for 256 px, 12 for 384.
        source_choice: "published": number of nearest views from which the source view is drawn.
        scale_factor: "published": see `scale_and_turn`; 0.25 in the augmented configurations.
        rotation_deg: "published": see `scale_and_turn`; 30 in the augmented configurations.
        decoding: decoding of heat maps into points; None: as in training. "argmax": cell with the largest value, or
            the first cell for a map without positive values.
        triangulation: "peak": linear, weighted by the soft-max peak. "robust": consensus in pixels, see `ransac`. All
            others are schemes of the release, see `epipolar.triangulation.Scheme`.
        confidence: schemes of the release: peak above which a view is confident; None: default of the scheme.
        inlier_mm: "naive", "refine" and "epipolar": maximum distance of a joint from the ray of a view that agrees;
            None: default of the scheme.
    """

    steps: PositiveInt | Epochs = 600
    milestones: Milestones | None = None
    batch_size: int = Field(default=12, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    fusion: Fusion = "epipolar"
    attention: AttentionSettings | None = None
    sources: int | None = Field(default=None, ge=1)
    start_weights: Path | None = None
    image_px: int | None = Field(default=None, ge=32, multiple_of=32)
    views: int = Field(default=4, ge=2)
    block_rate_factor: float = Field(default=10.0, gt=0)
    loss: HeatmapLoss = "joint"
    target_sigma_px: float = Field(default=8.0, gt=0)
    source_choice: int = Field(default=1, ge=1)
    scale_factor: float = Field(default=0.0, ge=0, lt=1)
    rotation_deg: float = Field(default=0.0, ge=0, le=180)
    decoding: Decoding | None = None
    triangulation: Literal["peak", "robust", Scheme] = "peak"
    confidence: float | None = Field(default=None, ge=-1, le=10)
    inlier_mm: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> EpipolarOptions:
        if self.triangulation in ("epipolar", "epipolar_dlt") and self.fusion == "none":
            raise ValueError(
                f"triangulation {self.triangulation!r} needs other views, set fusion to epipolar or unconstrained"
            )
        if self.confidence is not None and self.triangulation not in CONFIDENCE:
            raise ValueError(f"confidence is only for triangulation {', '.join(CONFIDENCE)}")
        if self.inlier_mm is not None and self.triangulation not in INLIER_MM:
            raise ValueError(f"inlier_mm is only for triangulation {', '.join(INLIER_MM)}")
        return self


SMALL = AttentionSettings(samples=24, layers=("z", "theta", "phi", "g"), residual=False)
"""For maps of 24x24 cells and 48 channels. Without the residual, the untrained block adds nothing to the backbone."""


_PCK_PX = (5, 10)
"""Distances of the release's PCK at which trained networks differ."""


class EpipolarTraining(NetworkTraining[EpipolarOptions, EpipolarArchitecture]):
    """Training of the backbone and the attention block with losses on heat maps."""

    def __init__(self, model: EpipolarPose, options: EpipolarOptions, skeleton: Skeleton) -> None:
        small, network = options.recipe == "small", model.architecture
        # A rotated or enlarged box shows more than the crop: it is warped from the whole frame, as in the release.
        whole = not small and (options.scale_factor > 0 or options.rotation_deg > 0)
        super().__init__(
            model,
            network,
            options,
            skeleton,
            Inputs(None if whole else network.crop_px, resampling=network.resampling),
            rate_groups(model, options.learning_rate, {"epipolar_sampler": options.block_rate_factor} if small else {}),
            options.milestones,
            shares=(0.5, 0.75),
        )

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """Training example: views of a sample ("small"), or a reference view and, with fusion, its source view."""
        options, side = self.options, self.network.crop_px
        if self.small:
            return augmented_views(
                sample,
                truth,
                options.augmentation,
                rng,
                crop_px=side,
                slots=options.views,
                flip_order=self.skeleton.flip_order,
            )
        slots = 1 if options.fusion == "none" else 2
        return stack_changed(
            self._pair(sample, rng)[:slots],
            truth,
            (lambda view: scale_and_turn(view, side, options.scale_factor, options.rotation_deg, rng))
            if self.inputs.crop_px is None
            else (lambda view: (crop_pixels(view, side), np.eye(3))),
            crop_px=side,
            slots=slots,
            flip_order=None,
            published=True,
        )

    def _pair(self, sample: Sample, rng: np.random.Generator) -> list[View]:
        """Draw a random view and one of the views with the nearest cameras."""
        reference = int(rng.integers(len(sample.views)))
        others = [view for i, view in enumerate(sample.views) if i != reference]
        own = sample.views[reference]
        if not others:
            return [own]
        distance = [float(np.linalg.norm(view.camera.centre_mm - own.camera.centre_mm)) for view in others]
        near = np.argsort(distance, kind="stable")[: self.options.source_choice]
        return [own, others[int(near[rng.integers(len(near))])]]

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch: over all views ("small"), or over reference views, with release metrics ("published")."""
        arch, options, valid = self.network, self.options, batch["valid"]
        images = arch.prepare(batch["images"][valid])
        if self.small:
            heatmaps = self.model(images, batch["P"], valid).heatmaps
            points, weights = batch["points_px"][valid], batch["weights"][valid]
            return heatmap_losses(arch, heatmaps, points, weights, options.heatmap_weight, options.sigma_px)
        answer = torch.zeros_like(valid)
        answer[:, 0] = valid[:, 0]
        heatmaps = self.model(images, batch["P"], valid, answer).heatmaps
        points, weights = batch["points_px"][answer], batch["weights"][answer]
        targets = gaussian_maps(points, (heatmaps.shape[-2], heatmaps.shape[-1]), options.target_sigma_px)
        with torch.no_grad():
            predicted = arch.decode(heatmaps)[0]
            error = torch.linalg.vector_norm(predicted - points, dim=-1)
            shares = horizontal_pck(predicted, points, weights, _PCK_PX)
            logged = {
                "error_px": (error * weights).sum() / weights.sum().clamp(min=1),
                "jdr": joint_detection_rate(heatmaps, targets).nanmean().nan_to_num(),
                **{f"pck_x_{px}px": share for px, share in zip(_PCK_PX, shares, strict=True)},
            }
        return {"total": released_loss(options.loss, heatmaps, targets, weights), **logged}
