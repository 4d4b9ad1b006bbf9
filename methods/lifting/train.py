"""Training of the lifting networks with their backbone, on single views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import HANDS, Sample, Truth, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Example, Inputs
from poseboard.methods.batches.augmentation import NO_AUGMENTATION, Augmentation, augment, transform_points
from poseboard.methods.batches.crops import crop_pixels
from poseboard.methods.batches.labels import inside_crop, visible_joints
from poseboard.methods.lifting.canonical import canonicalise, ray_rotation
from poseboard.methods.lifting.model import (
    CANONICAL,
    Joints,
    Lifting,
    LiftingArchitecture,
    Network,
    canonical_indices,
    pose_loss,
    rotation_loss,
)
from poseboard.methods.nets.losses import heatmap_losses, keypoint_l2
from poseboard.methods.nets.training import Epochs, Milestones, NetworkTraining, TrainingOptions, rate_groups

_ONLY_FOR_MAPS = ("deconv_layers.", "final_layer.", "lateral.", "smooth.")
"""Layers of the backbones that come after the image features."""


class LiftingOptions(TrainingOptions):
    """Options of monocular lifting, in addition to `TrainingOptions`.

    Args:
        network: "direct", "rotation" or "image_rotation"; see `LiftingArchitecture`.
        recipe: "small" is ours: joint distances and 2D losses, augmentation, poses in the frame of the camera rotated
            to the crop. "published" is the release's: squared error, one milestone, true heat maps, no augmentation,
            poses in the camera frame.
        start_weights: checkpoint of the backbone to start from, instead of the row that ``after:`` names. For
            "image_rotation" it may be an image network.
        image_px: side of the crops; None: side of the starting weights.
        milestones: "published": epochs, or steps if ``steps`` is a number, at which the learning rate is divided by
            ten; None: three quarters of the steps.
        learning_rate: maximum learning rate; None: 1e-3 ("small") or 1e-5 ("published").
        pool: side of the squares over which heat maps are averaged; None: 2 ("small") or 8 ("published" or drawn maps).
        maps: input of heat-map networks. "predicted": the backbone's maps. "drawn": Gaussians (see `RELEASED_MAPS`) at
            the true joints in training and at the backbone's joints in prediction; the backbone is not trained. None:
            "predicted" ("small") or "drawn" ("published").
        joints_2d_weight: "small": weight of the 2D losses; the loss of the pose has weight 1.
        heatmap_weight: "small": weight of the heat-map cross-entropy within the 2D losses.
        sigma_px: "small": standard deviation of the true heat maps, heat-map pixels.
        views: views of a prediction. "one": a single view without extrinsics. "median": the median over two or more
            calibrated views, at the root that the row under ``after:`` predicts.
        handed: whether the network gets the hand (`Inputs.hand`); None: only for skeletons of hands.
        mirror_right: whether right hands have the canonical pose of left hands, mirrored in z.
        augmentation: "small": random changes of the crops and their poses.
    """

    network: Network = "direct"
    start_weights: Path | None = None
    image_px: int | None = Field(default=None, ge=32, multiple_of=32)
    steps: PositiveInt | Epochs = 1200
    milestones: Milestones | None = None
    batch_size: int = Field(default=24, ge=1)
    pool: int | None = Field(default=None, ge=1)
    maps: Literal["predicted", "drawn"] | None = None
    joints_2d_weight: float = Field(default=0.1, ge=0)
    heatmap_weight: float = Field(default=0.3, ge=0)
    sigma_px: float = Field(default=1.0, gt=0)
    views: Literal["one", "median"] = "one"
    handed: bool | None = None
    mirror_right: bool = False
    augmentation: Augmentation = Augmentation(rotation_deg=15.0, scale=0.1)

    @model_validator(mode="after")
    def _has_maps(self) -> Self:
        if self.maps == "drawn" and self.network == "image_rotation":
            raise ValueError("maps: drawn is not possible for network image_rotation, which uses no heat maps")
        return self

    @property
    def draws_maps(self) -> bool:
        """Whether the input of the lifting network are drawn heat maps."""
        of_recipe = "drawn" if self.recipe == "published" and self.network != "image_rotation" else "predicted"
        return (self.maps or of_recipe) == "drawn"


def which_hand(sample: Sample) -> float:
    """Hand of a sample: 0 for left, 1 for right; InputError if it is not annotated."""
    try:
        return float(HANDS.index(sample.hand or ""))
    except ValueError:
        raise InputError(
            f"lifting: {sample.key}", "does not say which hand it shows", "set handed: false for this data set"
        ) from None


def crop_ray(view: View, side_px: int) -> Array:
    """Rotation (3, 3) that points the camera at the centre of a crop, see `ray_rotation`."""
    centre = (side_px - 1) / 2
    return ray_rotation(view.camera.K, (centre, centre))


class LiftingTraining(NetworkTraining[LiftingOptions, LiftingArchitecture]):
    """Training of the lifting network and, unless heat maps are drawn, of its backbone.

    Raises:
        InputError: the skeleton has no canonical frame.
    """

    def __init__(self, model: Lifting, options: LiftingOptions, skeleton: Skeleton) -> None:
        small, network = options.recipe == "small", model.architecture
        self._axis, self._plane, self._scale = canonical_indices(skeleton)
        self._of_hands = CANONICAL[skeleton.name].handed
        self._augmentation = options.augmentation if small else NO_AUGMENTATION
        if network.drawn is not None:
            model.backbone.requires_grad_(False)
        elif not small and options.network == "image_rotation":  # layers without a gradient
            for name, parameter in model.backbone.named_parameters():
                parameter.requires_grad_(not name.startswith(_ONLY_FOR_MAPS))
        super().__init__(
            model,
            network,
            options,
            skeleton,
            # Training needs the truth in the camera's frame and therefore R and t. Prediction has neither.
            Inputs(crop_px=network.backbone.crop_px, views=(1, 1_000), hand=network.handed),
            rate_groups(model, options.learning_rate or (1e-3 if small else 1e-5)),
            options.milestones,
            shares=(0.75,),
        )

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """Training example of a random view.

        Returns:
            image (S, S, 3) uint8; all others float32: points_px (J, 2) crop pixels; weights (J,) of the 2D losses;
            drawn (J,), 1 for joints with a drawn map; pose and canonical (J, 3), root-relative in units of ``scale_mm``
            (1,); R (3, 3) with ``pose == canonical @ R``; known and framed (J, 1), 1 for valid joints of pose and
            canonical; side (1,), 0 for a left and 1 for a right hand.
        """
        side_px = self.network.backbone.crop_px
        view = sample.views[rng.integers(len(sample.views))]
        mirror = bool(rng.random() < self._augmentation.flip)
        image, A = augment(crop_pixels(view, side_px), self._augmentation, rng, mirrored=mirror)
        (joints_mm,) = truth.joints_mm
        published = not self.small
        points, weights = visible_joints(view, truth, side_px, published=published)
        points = transform_points(A, points)

        turn = view.camera.R
        if self.network.centre_ray:
            turn = crop_ray(view, side_px) @ turn
        # Rotation and reflection of the image about its centre are those of the pose about the axis through the centre.
        in_plane = np.eye(3)
        in_plane[:2, :2] = A[:2, :2] / np.sqrt(abs(np.linalg.det(A[:2, :2])))
        about_root = (joints_mm - joints_mm[self.skeleton.root_index]) @ (in_plane @ turn).T
        side = which_hand(sample) if self.network.handed else 0.0
        if mirror:  # in a mirror image the left arm looks like a right arm
            order = self.skeleton.flip_order
            points, weights, about_root, side = points[order], weights[order], about_root[order], 1.0 - side
        weights = weights * inside_crop(points, side_px, published=published)

        scale_mm = float(np.linalg.norm(about_root[self._scale[0]] - about_root[self._scale[1]]))
        scale_mm = scale_mm if scale_mm > 0 else np.nan
        pose = about_root / scale_mm
        canonical, R = canonicalise(pose, self._axis, self._plane)
        if self.options.mirror_right and side:
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
        """Losses of the recipe for a batch, and its mean error in mm after scaling to the true size of the poses."""
        arch, options = self.network.backbone, self.options
        side = batch["side"] if self.network.handed else None
        drawn = self.network.drawn is not None
        joints = Joints(batch["points_px"], batch["drawn"]) if drawn else None
        lifted, heatmaps = self.model(self.network.prepare(batch["image"]), side, joints)
        pose, known, framed = batch["pose"], batch["known"], batch["framed"]
        scale_mm = batch["scale_mm"][..., None]
        logged = {"error_mm": keypoint_l2(lifted.pose.detach() * scale_mm, pose * scale_mm, known)}
        # Published recipe: losses of the pose, or of the canonical pose and its rotation; no 2D loss.
        if not self.small:
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
        # Small recipe: joint distances, and 2D losses unless the heat maps are drawn from the labels.
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
        """Compute ``scale_mm``, the median size of the training poses, by which predicted poses are scaled to mm."""
        first, second = self._scale
        sizes = [np.linalg.norm(t.joints_mm[:, first] - t.joints_mm[:, second], axis=-1) for t in truths]
        known = np.concatenate(sizes)[np.isfinite(np.concatenate(sizes))]
        if not known.size:
            raise InputError(
                "lifting", "no training pose has the joints that define its size", "use a data set that annotates them"
            )
        return {"scale_mm": float(np.median(known))}
