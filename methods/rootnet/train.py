"""Training of RootNet on single views of one person, with depth where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Image, Sample, Truth, View, warp_image
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Example, Inputs, Options, Training
from poseboard.methods.batches.augmentation import transform_points
from poseboard.methods.nets.architecture import Precision
from poseboard.methods.nets.training import (
    Epochs,
    Milestones,
    NetworkTraining,
    TrainingOptions,
    by_recipe,
    rate_groups,
)
from poseboard.methods.rootnet.crop import PersonCrop, mirrored_box, patch_affine
from poseboard.methods.rootnet.model import RootArchitecture, RootNet, coordinate_loss, gamma_loss


class RootAugmentation(Options):
    """Random changes of crops in training, as in the release. k stays the same, so there is no change of scale.

    Args:
        rotation_deg: standard deviation of the rotation about the centre of the crop, clipped at two of them.
        rotated: share of the crops that are rotated.
        flip: share of the crops that are mirrored.
        colour: largest relative change of each channel.
    """

    rotation_deg: float = Field(default=30.0, ge=0, le=90)
    rotated: float = Field(default=0.6, ge=0, le=1)
    flip: float = Field(default=0.5, ge=0, le=1)
    colour: float = Field(default=0.2, ge=0, lt=1)

    def draw(self, rng: np.random.Generator) -> Change:
        """Draw one change; it always takes the same number of random numbers from the generator."""
        turn, turned, mirrored, colour = rng.standard_normal(), rng.random(), rng.random(), rng.uniform(-1, 1, size=3)
        rotation = float(np.clip(turn, -2, 2)) * self.rotation_deg if turned < self.rotated else 0.0
        return Change(rotation, bool(mirrored < self.flip), 1 + self.colour * colour)


class Change:
    """A change of a crop.

    Args:
        rotation_deg: clockwise direction from up that points up in the changed crop.
        mirrored: whether left and right are exchanged, before the rotation.
        gains: (3,) factors on red, green, blue.
    """

    def __init__(self, rotation_deg: float = 0.0, mirrored: bool = False, gains: Array | None = None) -> None:
        self.rotation_deg, self.mirrored = rotation_deg, mirrored
        self.gains = np.ones(3) if gains is None else gains

    def affine(self, box_xywh: Array, width: int, size: tuple[int, int]) -> Array:
        """Pixels of an image of that width -> those of the changed patch of ``size`` about a box; (3, 3)."""
        if not self.mirrored:
            return patch_affine(box_xywh, size, self.rotation_deg)
        mirror = np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        return np.asarray(patch_affine(mirrored_box(box_xywh, width), size, self.rotation_deg) @ mirror)

    def patch(self, image: Image, A: Array, size: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """(h, w, 3) float32, 0 … 255, of an image (H, W, 3) uint8 through A; black outside of the image."""
        warped = warp_image(image, A, size).astype(np.float32)
        return np.clip(warped * self.gains.astype(np.float32), 0, 255)


NO_CHANGE = Change()

NO_AUGMENTATION = RootAugmentation(rotation_deg=0, rotated=0, flip=0, colour=0)


class RootnetOptions(TrainingOptions):
    """Options of RootNet; those of every training are `TrainingOptions`.

    Args:
        network: "rootnet"; or "none": the baseline without images. The root is at the centre of the crop, and gamma is
            the median of the training split.
        recipe: "small" is ours (errors of gamma, AdamW with a cosine, crops of the hand-over); "published" is that of
            the release (errors of depth in mm, Adam 1e-3 with one step down, crops of whole frames).
        architecture: architecture of a new backbone, if training starts from none: one of `pose_resnet.NETWORKS`.
        start_weights: checkpoint of a backbone to start from, instead of that of the row under ``after``; an image
            network will do.
        image_px: side of the crops of a fresh backbone, or where it is not that of the weights.
        precision: precision of a new backbone in training.
        compat: "published": images enter as 0 … 255, as the release's weights were trained. Imported weights say it
            themselves.
        milestones: "published": epochs (steps, where ``steps`` is a number) from which on the rate is a tenth; None:
            after 17 of 20 parts.
        gamma_weight: "small": cells that an error of 1 in gamma stands for.
        augmentation: random changes of the crops.
    """

    network: Literal["rootnet", "none"] = "rootnet"
    architecture: str = Field(default_factory=by_recipe("small", "resnet50"))
    start_weights: Path | None = None
    image_px: int | None = Field(default=None, ge=32, multiple_of=32)
    precision: Precision = Field(default_factory=by_recipe("bf16", "float32"))
    compat: bool = False
    steps: PositiveInt | Epochs = 1200
    milestones: Milestones | None = None
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    gamma_weight: float = Field(default=20.0, ge=0)
    augmentation: RootAugmentation = RootAugmentation()


def root_of(values: Array, skeleton: Skeleton) -> Array:
    """Root (..., k) of joints (..., J, k) in any coordinates: the mean of the root joints."""
    return np.asarray(values[..., skeleton.indices(skeleton.root_joints), :].mean(axis=-2))


def root_in_view(view: View, truth: Truth, person: int, skeleton: Skeleton) -> tuple[Array, float, float]:
    """The true root in a view: pixels (2,), depth in mm, and its weight, 1 or 0.

    Pixels are the 2D annotation of the view if there is one, else the projection. The depth is NaN if not annotated.
    """
    root_mm = view.camera.to_camera(root_of(truth.joints_mm[person], skeleton))
    if view.name in truth.annotated:
        pixels = root_of(view.camera.image(truth.annotated[view.name][person]), skeleton)
    else:
        pixels = view.camera.project(root_of(truth.joints_mm[person], skeleton))
    known = bool(np.isfinite(pixels).all())
    if view.name in truth.seen:
        known = known and bool(truth.seen[view.name][person][skeleton.indices(skeleton.root_joints)].all())
    return pixels, float(root_mm[2]), float(known)


def gammas(samples: Sequence[Sample], truths: Sequence[Truth], skeleton: Skeleton, *, cropped: bool) -> Array:
    """Depth by k of every annotated person in every view, (n,)."""
    found = [
        root_in_view(view, truth, person, skeleton)[1] / PersonCrop.of(view, person, cropped=cropped).prior_mm
        for sample, truth in zip(samples, truths, strict=True)
        for view in sample.views
        for person in range(len(view.boxes_px))
    ]
    values = np.array(found, dtype=np.float64)
    return values[np.isfinite(values)]


class RootnetTraining(NetworkTraining[RootnetOptions, RootArchitecture]):
    """Training of backbone, heat map and depth factor on single people."""

    def __init__(self, model: RootNet, options: RootnetOptions, skeleton: Skeleton) -> None:
        network = model.architecture
        # Training needs the truth in the camera's frame; prediction has neither R nor t.
        inputs = inputs_of(whole_frames=network.whole_frames, crop_px=network.backbone.crop_px)
        groups = rate_groups(model, options.learning_rate)
        super().__init__(model, network, options, skeleton, inputs, groups, options.milestones, shares=(17 / 20,))

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """A random person of the sample in its only view.

        Returns:
            float32: image (S, S, 3) RGB, 0 … 255; k_mm (); root (3,), x and y in cells and depth in mm; visible (1,);
            has_depth (1,).
        """
        (view,) = sample.views
        person = int(rng.integers(len(view.boxes_px)))
        change = self.options.augmentation.draw(rng)
        return person_example(
            view,
            root_in_view(view, truth, person, self.skeleton),
            PersonCrop.of(view, person, cropped=not self.network.whole_frames),
            change,
            self.network.backbone.crop_px,
        )

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss of the recipe, the mean error in crop pixels, and the mean error of known depths."""
        root = self.model(self.network.prepare(batch["image"]), batch["k_mm"])
        target, visible, has_depth = batch["root"], batch["visible"], batch["has_depth"]
        # Targets are in cells of a quarter of the crop, which every backbone answers.
        if not self.small:
            total = coordinate_loss(root.coordinates, target, visible, has_depth).mean()
        else:
            weight = self.options.gamma_weight
            total = gamma_loss(root, target, batch["k_mm"], visible, has_depth, weight).mean()
        with torch.no_grad():
            errors = (root.coordinates - target).abs()
            counts = (visible[:, 0] > 0).float()
            deep = counts * has_depth[:, 0]
            pixels = 4 * (errors[:, :2].square().sum(dim=1).sqrt() * counts).sum() / counts.sum().clamp(min=1)
            depth = (errors[:, 2] * deep).sum() / deep.sum().clamp(min=1)
        return {"total": total, "error_px": pixels, "depth_error_mm": depth}


def person_example(
    view: View, root: tuple[Array, float, float], crop: PersonCrop, change: Change, crop_px: int
) -> Example:
    """One person's example, see `RootnetTraining.example`.

    Args:
        view: view of the person.
        root: where it is seen (px), its depth (mm, NaN: not known), and how much it counts.
        crop: crop of the person in the view.
        change: done to the crop.
        crop_px: side of the patch.
    """
    pixels, depth_mm, visible = root
    image, size = view.pixels(), (crop_px, crop_px)
    A = change.affine(crop.box_xywh, image.shape[1], size)
    place = transform_points(A, np.nan_to_num(pixels))
    inside = bool(np.all((place >= 0) & (place < crop_px)))
    has_depth = bool(np.isfinite(depth_mm))
    cells = place / crop_px * (crop_px // 4)
    values = {
        "k_mm": crop.prior_mm,
        "root": [*cells, depth_mm if has_depth else 0.0],
        "visible": [visible * inside],
        "has_depth": [has_depth],
    }
    example: Example = {name: np.asarray(value, dtype=np.float32) for name, value in values.items()}
    return {"image": change.patch(image, A, size), **example}


def inputs_of(*, whole_frames: bool, crop_px: int, extrinsics: bool = True, images: bool = True) -> Inputs:
    """Inputs of RootNet: whole frames that it crops itself, or crops of the hand-over, or only their cameras."""
    if whole_frames:
        return Inputs(views=(1, 1_000 if extrinsics else 1), extrinsics=extrinsics)
    return Inputs(
        crop_px=crop_px,
        box_scale=1.25,
        resampling="bilinear",
        views=(1, 1_000 if extrinsics else 1),
        extrinsics=extrinsics,
        images=images,
    )


class PriorTraining(Training):
    """Training of the baseline: no steps, and gamma is the median of the training split.

    Args:
        architecture: architecture whose crops are used.
        skeleton: skeleton of the truth.
    """

    def __init__(self, crop_px: int, skeleton: Skeleton) -> None:
        self.architecture = {"network": "none", "crop_px": crop_px}
        self._skeleton = skeleton
        self.model = nn.Linear(1, 1)  # the loop wants weights; it makes no step
        for weight in self.model.parameters():
            nn.init.zeros_(weight)  # the checkpoint is the same in every run
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.steps, self.batch_size = 0, 1
        self.inputs = inputs_of(whole_frames=False, crop_px=crop_px, images=False)

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """Unused, because there are no steps."""
        return {}

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Unused, because there are no steps."""
        return {"total": self.model(torch.zeros(1)).sum()}

    def finish(self, samples: Sequence[Sample], truths: Sequence[Truth]) -> dict[str, float]:
        """``gamma``: the median of depth by k."""
        values = gammas(samples, truths, self._skeleton, cropped=True)
        if not values.size:
            raise InputError("rootnet", "no training person has a depth", "train on a data set in 3D")
        return {"gamma": float(np.median(values))}
