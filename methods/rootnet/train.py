"""Training of RootNet on single views of one person, with or without true depth."""

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
    """Options of random changes of crops in training, as in the release.

    The scale does not change, because k must stay the same.

    Args:
        rotation_deg: standard deviation of the rotation about the centre of the crop. Rotations are clipped at two
            standard deviations.
        rotated: share of crops that are rotated.
        flip: share of crops that are mirrored.
        colour: maximum relative change of each channel.
    """

    rotation_deg: float = Field(default=30.0, ge=0, le=90)
    rotated: float = Field(default=0.6, ge=0, le=1)
    flip: float = Field(default=0.5, ge=0, le=1)
    colour: float = Field(default=0.2, ge=0, lt=1)

    def draw(self, rng: np.random.Generator) -> Change:
        """Draw one change. Every call uses the same number of random numbers."""
        turn, turned, mirrored, colour = rng.standard_normal(), rng.random(), rng.random(), rng.uniform(-1, 1, size=3)
        rotation = float(np.clip(turn, -2, 2)) * self.rotation_deg if turned < self.rotated else 0.0
        return Change(rotation, bool(mirrored < self.flip), 1 + self.colour * colour)


class Change:
    """Change of a crop: rotation, mirroring and colours.

    Args:
        rotation_deg: angle clockwise from up of the direction that points up in the changed crop.
        mirrored: whether to mirror the image before the rotation.
        gains: (3,) factors on red, green, blue.
    """

    def __init__(self, rotation_deg: float = 0.0, mirrored: bool = False, gains: Array | None = None) -> None:
        self.rotation_deg, self.mirrored = rotation_deg, mirrored
        self.gains = np.ones(3) if gains is None else gains

    def affine(self, box_xywh: Array, width: int, size: tuple[int, int]) -> Array:
        """Affine matrix (3, 3) from pixels of an image of ``width`` to pixels of the changed patch of a box."""
        if not self.mirrored:
            return patch_affine(box_xywh, size, self.rotation_deg)
        mirror = np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        return np.asarray(patch_affine(mirrored_box(box_xywh, width), size, self.rotation_deg) @ mirror)

    def patch(self, image: Image, A: Array, size: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Cut a patch (h, w, 3) float32, 0 … 255, from an image (H, W, 3) uint8 by A; black outside the image."""
        warped = warp_image(image, A, size).astype(np.float32)
        return np.clip(warped * self.gains.astype(np.float32), 0, 255)


NO_CHANGE = Change()

NO_AUGMENTATION = RootAugmentation(rotation_deg=0, rotated=0, flip=0, colour=0)


class RootnetOptions(TrainingOptions):
    """Options of RootNet, in addition to `TrainingOptions`.

    Args:
        network: "rootnet", or "none" for the baseline without images, which predicts the root at the centre of the crop
            with the median gamma of the training split.
        recipe: "small" is ours: error of gamma, AdamW with a cosine schedule, person crops of the benchmark.
            "published" is the release's: error of depth in mm, Adam at 1e-3 with one milestone, crops from whole
            frames.
        architecture: network of a new backbone, one of `pose_resnet.NETWORKS`; only without starting weights.
        start_weights: checkpoint of the backbone to start from, instead of the row that ``after:`` names. It may be an
            image network.
        image_px: side of the crops; None: side of the starting weights, or a default.
        precision: precision of a new backbone in training.
        compat: "published": feed images as 0 … 255, as in the training of the release's weights. Imported weights set
            this themselves.
        milestones: "published": epochs, or steps if ``steps`` is a number, at which the learning rate is divided by
            ten; None: at 17/20 of the steps.
        gamma_weight: "small": weight of the error of gamma, in cells.
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
    """Root (..., k) of joints (..., J, k) in any coordinates, which is the mean of the root joints."""
    return np.asarray(values[..., skeleton.indices(skeleton.root_joints), :].mean(axis=-2))


def root_in_view(view: View, truth: Truth, person: int, skeleton: Skeleton) -> tuple[Array, float, float]:
    """True root of a person in a view: pixels (2,), depth in mm, and weight 1 or 0.

    Pixels are the 2D annotation of the view or, if it has none, the projection. The depth is NaN if not annotated.
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
    """True gamma (n,), depth divided by k, of every annotated person in every view."""
    found = [
        root_in_view(view, truth, person, skeleton)[1] / PersonCrop.of(view, person, cropped=cropped).prior_mm
        for sample, truth in zip(samples, truths, strict=True)
        for view in sample.views
        for person in range(len(view.boxes_px))
    ]
    values = np.array(found, dtype=np.float64)
    return values[np.isfinite(values)]


class RootnetTraining(NetworkTraining[RootnetOptions, RootArchitecture]):
    """Training of the whole RootNet on crops of single people."""

    def __init__(self, model: RootNet, options: RootnetOptions, skeleton: Skeleton) -> None:
        network = model.architecture
        # Training needs the truth in the camera's frame; prediction has neither R nor t.
        inputs = inputs_of(whole_frames=network.whole_frames, crop_px=network.backbone.crop_px)
        groups = rate_groups(model, options.learning_rate)
        super().__init__(model, network, options, skeleton, inputs, groups, options.milestones, shares=(17 / 20,))

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """Training example of a random person in the only view of the sample.

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
        """Losses of the recipe for a batch, the mean error in crop pixels, and the mean error of known depths."""
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
    """Training example of one person, see `RootnetTraining.example`.

    Args:
        view: view of the person.
        root: pixels of the root in the view, depth in mm (NaN: unknown), and weight; see `root_in_view`.
        crop: crop of the person in the view.
        change: change to apply to the crop.
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
    """Inputs of RootNet: whole frames, or person crops of the benchmark, or only the cameras of these crops."""
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
    """Training of the baseline without images: no steps, only a fit of gamma to the training split.

    Args:
        crop_px: side of the person crops.
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
        """Return an empty example. It is never used, because this training has no steps."""
        return {}

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return an empty example. It is never used, because this training has no steps."""
        return {"total": self.model(torch.zeros(1)).sum()}

    def finish(self, samples: Sequence[Sample], truths: Sequence[Truth]) -> dict[str, float]:
        """Fit ``gamma``, the median of depth divided by k."""
        values = gammas(samples, truths, self._skeleton, cropped=True)
        if not values.size:
            raise InputError("rootnet", "no training person has a depth", "train on a data set with 3D ground truth")
        return {"gamma": float(np.median(values))}
