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
"""Parts of the backbones that image features do without."""


class LiftingOptions(Options):
    """What is trained, and how.

    Args:
        network: "direct", "rotation" or "image_rotation"; see `LiftingArchitecture`.
        recipe: "small" is ours (distances, 2D losses beside them, AdamW with a cosine, augmentation, poses in the frame
            of the crop's centre ray); "published" is that of the release (squared error, Adam 1e-5 with one step down,
            true heat maps, no augmentation, poses in the camera's frame).
        start_weights: checkpoint of a backbone to start from, instead of that of the row under ``after``; an image
            network will do for image features alone.
        image_px: side of the crops, where it is not that of the weights.
        steps: of the optimiser, or `Epochs`.
        milestones: "published": epochs (steps, where ``steps`` is a number) after which the rate is divided by ten;
            None: after three quarters of the steps.
        batch_size: views a step.
        learning_rate: highest rate; None: the recipe's own, 1e-3 or 1e-5.
        warmup_steps: "small": steps over which the rate rises.
        weight_decay: "small": of AdamW.
        pool: side of the squares that heat maps are averaged over; None: the recipe's own, 2 or 8; 8 if drawn.
        maps: heat-map networks see those the backbone answers ("predicted"), or such as the release trains on
            ("drawn"): Gaussians about the true joints in training, in which the backbone has no part and stays as it
            is, and about the joints that it finds in prediction. See `RELEASED_MAPS`. None: the recipe's own,
            "predicted" or "drawn".
        joints_2d_weight: "small": of the 2D losses beside the lifted pose's.
        heatmap_weight: "small": of the heat-map cross-entropy within the 2D losses.
        sigma_px: "small": of the true heat maps.
        views: how it predicts; training is the same. "one": from a single view, without extrinsics. "median": the
            median over two or more calibrated views, at a root that the row under ``after`` predicts.
        handed: it is told which hand it sees (`Inputs.hand`); None: if it sees hands.
        mirror_right: right hands share the canonical pose of left ones, mirrored.
        clip_norm: maximum gradient norm, larger gradients are clipped; None: never. Left out: 10 ("small") or never.
        augmentation: "small": how crops, and the poses with them, are changed.
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
        """Whether heat maps are drawn."""
        of_recipe = "drawn" if self.recipe == "published" and self.network != "image_rotation" else "predicted"
        return (self.maps or of_recipe) == "drawn"


def which_hand(sample: Sample) -> float:
    """0 for a left hand, 1 for a right one; InputError if the sample says neither."""
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
        options: how.
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
        self.architecture = model.architecture.model_dump(mode="json")
        self.model = model
        length = Length(options.steps, options.batch_size)
        self.steps, self.every = length.steps, length.every
        self.batch_size = options.batch_size
        self.clip_norm = options.clip_norm
        # Training needs the truth in the camera's frame, so it sees all cameras; prediction is handed one without R, t.
        arch = model.architecture
        self.inputs = Inputs(crop_px=arch.backbone.crop_px, views=(1, 1_000), hand=arch.handed)
        if self._architecture.drawn is not None:
            model.backbone.requires_grad_(False)
        elif options.recipe == "published" and options.network == "image_rotation":  # nothing would train them
            for name, parameter in model.backbone.named_parameters():
                parameter.requires_grad_(not name.startswith(_ONLY_FOR_MAPS))
        learned = [p for p in model.parameters() if p.requires_grad]
        if options.recipe == "published":
            self.optimizer = torch.optim.Adam(learned, lr=options.learning_rate or 1e-5)
            self.scheduler = length.falling(self.optimizer, options.milestones, shares=(0.75,))
            return
        self.optimizer = torch.optim.AdamW(learned, lr=options.learning_rate or 1e-3, weight_decay=options.weight_decay)
        self.scheduler = warmup_cosine(self.optimizer, self.steps, options.warmup_steps)

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """A random view and the pose that it shows.

        Returns:
            image (S, S, 3) uint8; and float32: points_px (J, 2), weights (J,) of the 2D losses; drawn (J,), which
            joints have a map where maps are drawn; pose and canonical (J, 3) about the root in units of ``scale_mm``
            (1,), R (3, 3) between them; known and framed (J, 1), which joints of pose and canonical count; side (1,).
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
        # What turns or mirrors the picture about its centre does so to the pose about the axis through it.
        in_plane = np.eye(3)
        in_plane[:2, :2] = A[:2, :2] / np.sqrt(abs(np.linalg.det(A[:2, :2])))
        about_root = (joints_mm - joints_mm[self._root]) @ (in_plane @ turn).T
        side = which_hand(sample) if self._architecture.handed else 0.0
        if mirror:  # a mirrored left arm is a right arm, at the place where the left one is
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
            # Its loss masks joints that are annotated as hidden and, of bodies, those outside the crop. Its maps are
            # drawn of all joints, outside or not; of hands, without the hidden ones.
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
        return {"image": np.array(image), **example}  # a copy: crops lie in a read-only memory map

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The recipe's loss; also the mean error (mm, with the pose's true size) of the batch."""
        arch, options = self._architecture.backbone, self._options
        side = batch["side"] if self._architecture.handed else None
        drawn = self._architecture.drawn is not None
        joints = Joints(batch["points_px"], batch["drawn"]) if drawn else None
        lifted, heatmaps = self.model(self._architecture.prepare(batch["image"]), side, joints)
        pose, known, framed = batch["pose"], batch["known"], batch["framed"]
        scale_mm = batch["scale_mm"][..., None]
        told = {"error_mm": keypoint_l2(lifted.pose.detach() * scale_mm, pose * scale_mm, known)}
        if options.recipe == "published":
            if lifted.canonical is None:
                return {"total": pose_loss(lifted.pose, pose, known[..., 0]), **told}
            canonical = pose_loss(lifted.canonical, batch["canonical"], framed[..., 0])
            rotation = rotation_loss(lifted.R, batch["R"], framed.amax(dim=(1, 2)))
            return {
                "total": canonical + rotation,
                "canonical": canonical.detach(),
                "rotation": rotation.detach(),
                **told,
            }
        total = keypoint_l2(lifted.pose, pose, known)
        parts = {"lifted": total.detach()}
        if lifted.canonical is not None:
            canonical = keypoint_l2(lifted.canonical, batch["canonical"], framed)
            rotation = rotation_loss(lifted.R, batch["R"], framed.amax(dim=(1, 2)))
            total = total + canonical + rotation
            parts |= {"canonical": canonical.detach(), "rotation": rotation.detach()}
        if drawn:
            return {"total": total, **parts, **told}
        flat = heatmap_losses(
            arch, heatmaps, batch["points_px"], batch["weights"], options.heatmap_weight, options.sigma_px
        )
        total = total + options.joints_2d_weight * flat.pop("total")
        return {"total": total, **parts, **flat, **told}

    def finish(self, samples: Sequence[Sample], truths: Sequence[Truth]) -> dict[str, float]:
        """``scale_mm``: the median size of a pose, which turns what is lifted into millimetres."""
        first, second = self._scale
        sizes = [np.linalg.norm(t.joints_mm[:, first] - t.joints_mm[:, second], axis=-1) for t in truths]
        known = np.concatenate(sizes)[np.isfinite(np.concatenate(sizes))]
        if not known.size:
            raise InputError("lifting", "no training pose shows its size", "annotate the joints that CANONICAL names")
        return {"scale_mm": float(np.median(known))}
