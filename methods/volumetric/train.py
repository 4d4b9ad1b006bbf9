"""Training of volumetric triangulation, from a trained 2D backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, PositiveInt, ValidationError, model_validator
from torch import Tensor

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import field_error
from poseboard.datasets.sample import Sample, Truth
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Example, Inputs
from poseboard.methods.batches.augmentation import NO_AUGMENTATION, Augmentation, augment
from poseboard.methods.batches.crops import crop_pixels
from poseboard.methods.batches.multiview import drawn_views
from poseboard.methods.nets.architecture import Architecture, Precision
from poseboard.methods.nets.losses import keypoint_l2, keypoint_mae
from poseboard.methods.nets.training import Epochs, NetworkTraining, TrainingOptions
from poseboard.methods.volumetric.lens import without_lens
from poseboard.methods.volumetric.losses import voxel_cross_entropy
from poseboard.methods.volumetric.model import VolumetricArchitecture, VolumetricTriangulation
from poseboard.methods.volumetric.unprojection import Aggregation, rotation_about

_CM = 0.1
"""mm -> cm: the unit of the published loss and of the weight of its cross-entropy."""

_AXES = ("x", "y", "z")


class VolumetricOptions(TrainingOptions):
    """Options of volumetric triangulation, in addition to `TrainingOptions`.

    Args:
        recipe: "small" is ours: evidence of the heat maps, a small 3D network, frozen backbone, augmentation, random
            numbers of views. "published": the paper's network and the release's training: three learning rates,
            randomly rotated cubes, all views.
        aggregation: rule that combines views, see `unproject`; None: "sum" ("small") or "softmax" ("published").
        voxels: number of voxels per edge of the cube.
        cuboid_mm: length of the edges.
        use_gt_pelvis: centre the cube at the true root instead of the predicted root.
        start_weights: checkpoint of the 2D backbone to start from, instead of the row that ``after:`` names.
        learning_rate: learning rate of the 3D network; None: 1e-2 ("small") or 1e-3 ("published").
        projection_learning_rate: learning rate of the feature projection; 0: frozen. None: 0 ("small") or 1e-3.
        backbone_learning_rate: learning rate of the backbone; 0: frozen. None: 0 ("small") or 1e-4.
        cross_entropy_weight: weight of the voxel cross-entropy; the mean absolute error in cm has weight 1.
        views: maximum number of views of a training sample.
        fewest_views: minimum of a random number of views.
        random_views: share of training samples with a random number of views, from ``fewest_views`` to ``views``;
            None: 0.3 ("small") or 0.
        centre_noise_mm: standard deviation of noise on the cube's centre in training; None: 30 ("small") or 0.
        up: vertical axis of the world, about which cubes are rotated in training; its sign does not matter. None: the
            axis nearest to the vertical of the images.
        transfer: see `VolumetricArchitecture`.
        precision: precision of the 3D network; None: "bf16" in training with "small", else float32.
        augmentation: "small": random changes of the crops and their cameras.
    """

    aggregation: Aggregation | None = None
    voxels: int = Field(default=32, ge=8)
    cuboid_mm: float = Field(default=2300.0, gt=0)
    use_gt_pelvis: bool = False
    start_weights: Path | None = None
    steps: PositiveInt | Epochs = 300
    batch_size: int = Field(default=4, ge=1)
    projection_learning_rate: float | None = Field(default=None, ge=0)
    backbone_learning_rate: float | None = Field(default=None, ge=0)
    warmup_steps: int = Field(default=10, ge=0)
    cross_entropy_weight: float = Field(default=0.01, ge=0)
    views: int = Field(default=4, ge=1)
    fewest_views: int = Field(default=1, ge=1)
    random_views: float | None = Field(default=None, ge=0, le=1)
    centre_noise_mm: float | None = Field(default=None, ge=0)
    up: Literal["x", "y", "z"] | None = None
    transfer: bool = False
    precision: Precision | None = None
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.fewest_views > self.views:
            raise ValueError(f"fewest_views {self.fewest_views} is larger than views {self.views}")
        return self

    @property
    def small(self) -> bool:
        """Whether the recipe is "small"."""
        return self.recipe == "small"

    def inputs(self, crop_px: int | None) -> Inputs:
        """Inputs of the method, with crops of side ``crop_px``."""
        return Inputs(crop_px=crop_px, views=(1, 1_000), root="truth" if self.use_gt_pelvis else "predicted")

    def architecture(self, backbone: Architecture, where: str | Path) -> VolumetricArchitecture:
        """Build the architecture from these options and a backbone; InputError if they contradict each other."""
        aggregation = self.aggregation or ("sum" if self.small else "softmax")
        heads = {
            "alg_confidences": backbone.alg_confidences and self.small,
            "vol_confidences": aggregation in ("conf", "conf_norm"),
        }
        form: dict[str, Any] = {"channels": len(backbone.joints), "evidence": True} if self.small else {}
        try:
            return VolumetricArchitecture(
                backbone=(backbone if self.small else backbone.exact).model_copy(update=heads),
                aggregation=aggregation,
                volume_net=self.recipe,
                voxels=self.voxels,
                cuboid_mm=self.cuboid_mm,
                compat=not self.small,
                transfer=self.transfer,
                precision=self.precision or ("bf16" if self.small else "float32"),
                **form,
            )
        except ValidationError as error:
            raise field_error(f"volumetric on {where}", error, ()) from None


class VolumetricTraining(NetworkTraining[VolumetricOptions, VolumetricArchitecture]):
    """Training of the 3D network, and of projection and backbone if their learning rates are not 0."""

    def __init__(self, model: VolumetricTriangulation, options: VolumetricOptions, skeleton: Skeleton) -> None:
        small = options.small
        self._root = skeleton.indices(skeleton.root_joints)
        self._augmentation = options.augmentation if small else NO_AUGMENTATION
        self._noise_mm = (30.0 if small else 0.0) if options.centre_noise_mm is None else options.centre_noise_mm
        self._random_views = (0.3 if small else 0.0) if options.random_views is None else options.random_views
        rate = options.learning_rate or (1e-2 if small else 1e-3)
        backbone_rate, projection_rate = options.backbone_learning_rate, options.projection_learning_rate
        if backbone_rate is None:
            backbone_rate = 0.0 if small else 1e-4
        if projection_rate is None:
            projection_rate = 0.0 if small else 1e-3
        if backbone_rate == 0:
            model.freeze_backbone()
        # The heat maps have no part in the loss.
        model.backbone.final_layer.requires_grad_(False)
        groups: list[dict[str, Any]] = [{"params": list(model.volume_net.parameters()), "lr": rate}]
        if model.architecture.evidence:
            groups[0]["params"].append(model.evidence_scale)
        if projection_rate == 0:
            model.process_features.requires_grad_(False)
        else:
            groups.append({"params": list(model.process_features.parameters()), "lr": projection_rate})
        if backbone_rate:
            groups.append({"params": [p for p in model.backbone.parameters() if p.requires_grad], "lr": backbone_rate})
        inputs = options.inputs(model.architecture.backbone.crop_px)
        super().__init__(model, model.architecture, options, skeleton, inputs, groups)

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """Training example of up to V views of a sample. Slots without a view are zero and not valid.

        Returns:
            images (V, S, S, 3) uint8; P (V, 3, 4) float64; valid (V,) bool; base_mm (3,) float64, centre of the cube;
            turn (3, 3) float32, orientation of the cube; joints_mm (J, 3) and known (J, 1) float64.
        """
        side, slots = self.network.backbone.crop_px, self.options.views
        fewest = self.options.fewest_views if rng.random() < self._random_views else slots
        views = drawn_views(sample, fewest, slots, rng)
        mirrored = bool(rng.random() < self._augmentation.flip)
        images, P = np.zeros((slots, side, side, 3), dtype=np.uint8), np.zeros((slots, 3, 4))
        for i, view in enumerate(views):
            straight = without_lens(view)
            images[i], A = augment(crop_pixels(straight, side), self._augmentation, rng, mirrored=mirrored)
            P[i] = A @ straight.camera.P
        theta = torch.tensor(rng.uniform(0, 2 * np.pi))
        turn = rotation_about(torch.tensor(self._vertical(sample), dtype=theta.dtype), theta).numpy()
        (joints_mm,) = truth.joints_mm
        base = self._base(sample, joints_mm) + rng.normal(0, 1, 3) * self._noise_mm
        if mirrored:
            # Mirrored crops show the left arm on the right. The cube is mirrored as well, so that it contains a person
            # with the left arm on the left.
            joints_mm, turn = joints_mm[self.skeleton.flip_order], turn @ np.diag([-1.0, 1.0, 1.0])
        known = np.isfinite(joints_mm).all(axis=-1, keepdims=True) & np.isfinite(base).all()
        return {
            "images": images,
            "P": P,
            "valid": np.arange(slots) < len(views),
            "base_mm": np.nan_to_num(base),
            "turn": turn.astype(np.float32),
            "joints_mm": np.where(known, joints_mm, 0.0),
            "known": known.astype(np.float64),
        }

    def _vertical(self, sample: Sample) -> Array:
        """Unit vector (3,) of the world's vertical axis."""
        up = self.options.up
        down = np.mean([view.camera.R[1] for view in sample.views], axis=0)
        axis: Array = np.eye(3)[int(np.abs(down).argmax()) if up is None else _AXES.index(up)]
        return axis

    def _base(self, sample: Sample, joints_mm: Array) -> Array:
        """Root (3,) of the sample, world mm; the true root if the sample has none."""
        if sample.root_mm is None or not np.isfinite(sample.root_mm).all():
            return np.asarray(self.skeleton.root_of(joints_mm), dtype=np.float64)
        (root_mm,) = sample.root_mm
        return np.asarray(root_mm, dtype=np.float64)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch: mean absolute error in cm and voxel cross-entropy; also the mean 3D error in mm."""
        valid, known, truth = batch["valid"], batch["known"], batch["joints_mm"]
        images = self.network.backbone.prepare(batch["images"][valid])
        volumes = self.model(images, batch["P"], valid, batch["base_mm"], batch["turn"])
        predicted, target, counted = self._single_views(volumes.joints_mm, truth, known, valid)
        mae = keypoint_mae(_CM * predicted, _CM * target, counted)
        offsets = (truth - batch["base_mm"][:, None]).float()
        entropy = voxel_cross_entropy(volumes.offsets_mm, volumes.probabilities, offsets, known)
        return {
            "total": mae + self.options.cross_entropy_weight * entropy,
            "mae_cm": mae.detach(),
            "cross_entropy": entropy.detach(),
            "error_mm": keypoint_l2(volumes.joints_mm.detach(), truth, known),
        }

    def _single_views(
        self, predicted: Tensor, truth: Tensor, known: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Make predicted and true joints root-relative in samples with one view, because one view shows no depth.

        If the root is a joint, this joint stays absolute. If it is the mean of several joints, all joints become
        relative.
        """
        alone = (valid.sum(dim=1) == 1)[:, None, None]
        if len(self._root) == 1:
            alone = alone & (torch.arange(predicted.shape[1], device=predicted.device)[:, None] != self._root[0])
        moved = [
            torch.where(alone, joints - joints[:, self._root].mean(dim=1, keepdim=True), joints)
            for joints in (predicted, truth)
        ]
        return moved[0], moved[1], torch.where(alone, known * known[:, self._root].amin(dim=1, keepdim=True), known)
