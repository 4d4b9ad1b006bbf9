"""Training of the lifting networks with their backbone, on single views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import HANDS, Sample, Truth, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Example, Inputs, Options, Training
from poseboard.methods.batches.augmentation import NO_AUGMENTATION, Augmentation, augment, transform_points
from poseboard.methods.batches.crops import crop_pixels
from poseboard.methods.batches.labels import inside_crop, visible_joints
from poseboard.methods.lifting.canonical import canonicalise, ray_rotation
from poseboard.methods.lifting.model import (
    CANONICAL,
    Joints,
    Lifting,
    Network,
    canonical_indices,
    pose_loss,
    rotation_loss,
)
from poseboard.methods.nets.losses import heatmap_losses, keypoint_l2
from poseboard.methods.nets.schedule import Epochs, Length, Milestones, Recipe, by_recipe, warmup_cosine

_ONLY_FOR_MAPS = ("deconv_layers.", "final_layer.", "lateral.", "smooth.")
"""Layers of the backbones that come after the image features."""


class LiftingOptions(Options):
    """Options of monocular lifting.

    Args:
        network: "direct", "rotation" or "image_rotation"; see `LiftingArchitecture`.
        recipe: "small" is ours: joint distances and 2D losses, AdamW with a cosine schedule, augmentation, poses in the
            frame of the camera turned to the crop. "published" is the release's: squared error, Adam 1e-5 with one
            milestone, true heat maps, no augmentation, poses in the camera's frame.
        start_weights: checkpoint of a backbone to start from, instead of that of the row under ``after``; for
            "image_rotation" also an image network.
        image_px: side of the crops; None: that of the weights.
        steps: optimiser steps, or `Epochs`.
        milestones: "published": epochs, or steps if ``steps`` is a number, at which the learning rate is divided by
            ten; None: three quarters of the steps.
        batch_size: views per step.
        learning_rate: maximum; None: the recipe's own, 1e-3 or 1e-5.
        warmup_steps: "small": steps of the warm-up.
        weight_decay: "small": of AdamW.
        pool: side of the squares that heat maps are averaged over; None: the recipe's own, 2 or 8; 8 if drawn.
        maps: input of heat-map networks. "predicted": the backbone's maps. "drawn": Gaussians, see `RELEASED_MAPS`, at
            the true joints in training, where the backbone is not trained, and at the backbone's joints in prediction.
            None: the recipe's own, "predicted" or "drawn".
        joints_2d_weight: "small": weight of the 2D losses; the loss of the pose has weight 1.
        heatmap_weight: "small": weight of the heat-map cross-entropy within the 2D losses.
        sigma_px: "small": of the true heat maps, heat-map pixels.
        views: of prediction. "one": a single view without extrinsics. "median": the median over two or more calibrated
            views, with the root that the row under ``after`` predicts.
        handed: left or right hand is an input (`Inputs.hand`); None: for skeletons of hands.
        mirror_right: right hands have the canonical pose of left ones, mirrored.
        clip_norm: maximum gradient norm, larger gradients are clipped; None: no clipping. Default: 10 ("small"), None.
        augmentation: "small": of the crops and their poses.
    """

    network: Network = "direct"
    recipe: Recipe = "small"
    start_weights: Path | None = None
    image_px: int | None = Field(default=None, ge=32, multiple_of=32)
    steps: PositiveInt | Epochs = 1200
    milestones: Milestones | None = None
    batch_size: int = Field(default=24, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    warmup_steps: int = Field(default=20, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    pool: int | None = Field(default=None, ge=1)
    maps: Literal["predicted", "drawn"] | None = None
    joints_2d_weight: float = Field(default=0.1, ge=0)
    heatmap_weight: float = Field(default=0.3, ge=0)
    sigma_px: float = Field(default=1.0, gt=0)
    views: Literal["one", "median"] = "one"
    handed: bool | None = None
    mirror_right: bool = False
    clip_norm: float | None = Field(default_factory=by_recipe(10.0, None), gt=0)
    augmentation: Augmentation = Augmentation(rotation_deg=15.0, scale=0.1)

    @model_validator(mode="after")
    def _has_maps(self) -> Self:
        if self.maps == "drawn" and self.network == "image_rotation":
            raise ValueError("network image_rotation sees no heat maps that could be drawn")
        return self

    @property
    def draws_maps(self) -> bool:
        """Whether the network sees drawn heat maps."""
        of_recipe = "drawn" if self.recipe == "published" and self.network != "image_rotation" else "predicted"
        return (self.maps or of_recipe) == "drawn"


def which_hand(sample: Sample) -> float:
    """0 for a left hand, 1 for a right hand; InputError if the sample does not say which it shows."""
    try:
        return float(HANDS.index(sample.hand or ""))
    except ValueError:
        raise InputError(
            f"lifting: {sample.key}", "does not say which hand it shows", "set handed: false for this data set"
        ) from None


def crop_ray(view: View, side_px: int) -> Array:
    """`ray_rotation` to the centre of a crop, (3, 3)."""
    centre = (side_px - 1) / 2
    return ray_rotation(view.camera.K, (centre, centre))


class LiftingTraining(Training):
    """The training pipeline.

    Args:
        model: with the weights to start from.
        options: of the training.
        skeleton: of the truth.

    Raises:
        InputError: the skeleton has no canonical frame.
    """

    scheduler: torch.optim.lr_scheduler.LRScheduler | None

    def __init__(self, model: Lifting, options: LiftingOptions, skeleton: Skeleton) -> None:
        self._architecture, self._options = model.architecture, options
        self._flip_order, self._root = skeleton.flip_order, skeleton.root_index
        self._axis, self._plane, self._scale = canonical_indices(skeleton)
        self._of_hands = CANONICAL[skeleton.name].handed
        self._augmentation = options.augmentation if options.recipe == "small" else NO_AUGMENTATION
        self.architecture = model.architecture.plain()
        self.model = model
        length = Length(options.steps, options.batch_size)
        self.steps, self.every = length.steps, length.every
        self.batch_size = options.batch_size
        self.clip_norm = options.clip_norm
        # Training needs the truth in the camera's frame and therefore R and t. Prediction has neither.
        arch = model.architecture
        self.inputs = Inputs(crop_px=arch.backbone.crop_px, views=(1, 1_000), hand=arch.handed)
        if self._architecture.drawn is not None:
            model.backbone.requires_grad_(False)
        elif options.recipe == "published" and options.network == "image_rotation":  # layers without a gradient
            for name, parameter in model.backbone.named_parameters():
                parameter.requires_grad_(not name.startswith(_ONLY_FOR_MAPS))
        parameters = [p for p in model.parameters() if p.requires_grad]
        if options.recipe == "published":
            self.optimizer = torch.optim.Adam(parameters, lr=options.learning_rate or 1e-5)
            self.scheduler = length.falling(self.optimizer, options.milestones, shares=(0.75,))
            return
        self.optimizer = torch.optim.AdamW(
            parameters, lr=options.learning_rate or 1e-3, weight_decay=options.weight_decay, fused=True
        )
        self.scheduler = warmup_cosine(self.optimizer, self.steps, options.warmup_steps)

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """A random view and its pose.

        Returns:
            image (S, S, 3) uint8; all others float32: points_px (J, 2); weights (J,) of the 2D losses; drawn (J,), 1
            for joints with a drawn map; pose and canonical (J, 3), root-relative in units of ``scale_mm`` (1,); R (3,
            3) with ``pose == canonical @ R``; known and framed (J, 1), 1 for valid joints of pose and canonical; side
            (1,).
        """
        side_px = self._architecture.backbone.crop_px
        view = sample.views[rng.integers(len(sample.views))]
        mirror = bool(rng.random() < self._augmentation.flip)
        image, A = augment(crop_pixels(view, side_px), self._augmentation, rng, mirrored=mirror)
        (joints_mm,) = truth.joints_mm
        published = self._options.recipe == "published"
        points, weights = visible_joints(view, truth, side_px, published=published)
        points = transform_points(A, points)

        turn = view.camera.R
        if self._architecture.centre_ray:
            turn = crop_ray(view, side_px) @ turn
        # Rotation and reflection of the image about its centre are those of the pose about the axis through the centre.
        in_plane = np.eye(3)
        in_plane[:2, :2] = A[:2, :2] / np.sqrt(abs(np.linalg.det(A[:2, :2])))
        about_root = (joints_mm - joints_mm[self._root]) @ (in_plane @ turn).T
        side = which_hand(sample) if self._architecture.handed else 0.0
        if mirror:  # in a mirror image the left arm looks like a right arm
            order = self._flip_order
            points, weights, about_root, side = points[order], weights[order], about_root[order], 1.0 - side
        weights = weights * inside_crop(points, side_px, published=published)

        scale_mm = float(np.linalg.norm(about_root[self._scale[0]] - about_root[self._scale[1]]))
        scale_mm = scale_mm if scale_mm > 0 else np.nan
        pose = about_root / scale_mm
        canonical, R = canonicalise(pose, self._axis, self._plane)
        if self._options.mirror_right and side:
            canonical = canonical * (1.0, 1.0, -1.0)
        known, framed = (np.isfinite(a).all(axis=-1, keepdims=True) for a in (pose, canonical))
        drawn = weights > 0
        if published:
            # The release's loss leaves out joints annotated as hidden and, for bodies, joints outside of the crop. Its
            # maps have all joints, also those outside; for hands, not the hidden ones.
            shown = drawn
            drawn = np.ravel(known)
            if self._of_hands:
                if view.name in truth.seen:
                    (drawn,) = truth.seen[view.name]
                shown = drawn
            known, framed = known & shown[:, None], framed & shown[:, None]
        values = {
            "points_px": points,
            "weights": weights,
            "drawn": drawn,
            "pose": np.where(known, pose, 0.0),
            "known": known,
            "canonical": np.where(framed, canonical, 0.0),
            "framed": framed,
            "R": np.nan_to_num(R),
            "scale_mm": np.nan_to_num(np.array([scale_mm])),
            "side": np.array([side]),
        }
        example = {name: np.asarray(value, dtype=np.float32) for name, value in values.items()}
        return {"image": np.array(image), **example}  # a copy: crops are in a read-only memory map

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The recipe's loss, and the mean error (mm, with the true size of the pose) of the batch."""
        arch, options = self._architecture.backbone, self._options
        side = batch["side"] if self._architecture.handed else None
        drawn = self._architecture.drawn is not None
        joints = Joints(batch["points_px"], batch["drawn"]) if drawn else None
        lifted, heatmaps = self.model(self._architecture.prepare(batch["image"]), side, joints)
        pose, known, framed = batch["pose"], batch["known"], batch["framed"]
        scale_mm = batch["scale_mm"][..., None]
        logged = {"error_mm": keypoint_l2(lifted.pose.detach() * scale_mm, pose * scale_mm, known)}
        if options.recipe == "published":
            if lifted.canonical is None:
                return {"total": pose_loss(lifted.pose, pose, known[..., 0]), **logged}
            canonical = pose_loss(lifted.canonical, batch["canonical"], framed[..., 0])
            rotation = rotation_loss(lifted.R, batch["R"], framed.amax(dim=(1, 2)))
            return {
                "total": canonical + rotation,
                "canonical": canonical.detach(),
                "rotation": rotation.detach(),
                **logged,
            }
        total = keypoint_l2(lifted.pose, pose, known)
        parts = {"lifted": total.detach()}
        if lifted.canonical is not None:
            canonical = keypoint_l2(lifted.canonical, batch["canonical"], framed)
            rotation = rotation_loss(lifted.R, batch["R"], framed.amax(dim=(1, 2)))
            total = total + canonical + rotation
            parts |= {"canonical": canonical.detach(), "rotation": rotation.detach()}
        if drawn:
            return {"total": total, **parts, **logged}
        flat = heatmap_losses(
            arch, heatmaps, batch["points_px"], batch["weights"], options.heatmap_weight, options.sigma_px
        )
        total = total + options.joints_2d_weight * flat.pop("total")
        return {"total": total, **parts, **flat, **logged}

    def finish(self, samples: Sequence[Sample], truths: Sequence[Truth]) -> dict[str, float]:
        """``scale_mm``: the median size of the training poses, by which lifted poses are scaled to millimetres."""
        first, second = self._scale
        sizes = [np.linalg.norm(t.joints_mm[:, first] - t.joints_mm[:, second], axis=-1) for t in truths]
        known = np.concatenate(sizes)[np.isfinite(np.concatenate(sizes))]
        if not known.size:
            raise InputError("lifting", "no training pose shows its size", "annotate the joints that CANONICAL names")
        return {"scale_mm": float(np.median(known))}
