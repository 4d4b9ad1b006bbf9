"""Training in three phases: heat maps on images, then the fusion on generated rays, then the fusion on images.

The step determines the phase. The learning-rate scheduler counts steps, and a resumed training restores its count.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.sample import Sample, Truth, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Example, Inputs, Options, Training
from poseboard.methods.batches.augmentation import Augmentation, augment, transform_points
from poseboard.methods.batches.crops import crop_pixels
from poseboard.methods.batches.labels import inside_crop
from poseboard.methods.nets.losses import heatmap_cross_entropy
from poseboard.methods.nets.training import Recipe, by_recipe
from poseboard.methods.rays_mlp.augmentation import ColourAugmentation, Floats, crop_frame, drawn_crop
from poseboard.methods.rays_mlp.losses import (
    IMAGE_WING,
    RAY_WING,
    HeatmapTargets,
    Pictured,
    focal_loss,
    heatmap_targets,
    mean_of,
    offset_loss,
    point_figures,
    seven_figures,
    wing_loss,
)
from poseboard.methods.rays_mlp.model import RaysArchitecture, RaysNet, Seen, offsets_at, rays
from poseboard.methods.rays_mlp.rigs import RigRange, directions, in_random_rigs, noisy_rays, upright

Phase = Literal["maps", "rays", "images"]
MIRROR = np.diag([-1.0, 1.0, 1.0])

NO_COLOURS = ColourAugmentation(probability=0)


def _colours_of_the_encoder(options: dict[str, Any]) -> ColourAugmentation:
    return ColourAugmentation() if options.get("encoder") == "mobileone" else NO_COLOURS


class RaysMlpOptions(Options):
    """Options of the ray network and its training.

    Args:
        encoder: "backbone": frozen 2D backbone of the row that ``after:`` names. "mobileone": the published network.
        sizes: sizes of MobileOne and the fusion network: "small" or "published".
        recipe: "small" is ours: learning rates rise and fall in each phase, and the last phase trains only the fusion.
            "published" is the release's: constant learning rates, crops from whole frames with random scale and shift,
            and a last phase that trains neck, heads and fusion together.
        compat: reproduce the release with its defects, see the README. Imported weights set this themselves.
        start_weights: "mobileone": checkpoint to start from, of this method or of MobileOne for ImageNet. The stages
            are frozen.
        views: number of views. The weights depend on it.
        image_px: "mobileone": side of the crops.
        features: whether the fusion network gets the image features at the joints. They reveal the rig of an image.
            Default: only with rigs "own".
        rigs: rigs for training the fusion: "random", or "own" for the rigs of the data set.
        rig_range: options of the random rigs.
        rigs_per_pose: number of rigs for each pose of a batch.
        noise_px: standard deviation of the errors of generated rays, in crop pixels ("small", 1.5) or in pixels of the
            whole frame ("published", 2).
        map_steps: number of steps of the first phase (heat maps and offsets); 0 for "backbone".
        ray_steps: number of steps of the second phase (generated rays).
        image_steps: number of steps of the third phase (3D poses from images).
        batch_size: samples per step.
        map_rate: maximum learning rate of the first phase.
        ray_rate: maximum learning rate of the second phase.
        image_rate: maximum learning rate of the third phase.
        warmup_steps: "small": number of steps in which the learning rate of a phase rises.
        clip_norm: norm to which larger gradients are clipped; None: no clipping. Default: 10, None with "published".
        augmentation: "small": random changes of the crops. "published" uses the release's, see `drawn_crop`.
        colours: random changes of colours. Default: those of the release for MobileOne, none for a shared backbone.
    """

    encoder: Literal["backbone", "mobileone"] = "backbone"
    sizes: Literal["small", "published"] = "small"
    recipe: Recipe = "small"
    compat: bool = False
    start_weights: Path | None = None
    views: int = Field(default=4, ge=2)
    image_px: int = Field(default=96, ge=32, multiple_of=32)
    rigs: Literal["random", "own"] = "random"
    features: bool = Field(default_factory=lambda options: options.get("rigs") == "own")
    rig_range: RigRange = RigRange()
    rigs_per_pose: PositiveInt = 32
    noise_px: float = Field(default_factory=by_recipe(1.5, 2.0), ge=0)
    map_steps: NonNegativeInt = 0
    ray_steps: NonNegativeInt = 1200
    image_steps: NonNegativeInt = 300
    batch_size: int = Field(default=4, ge=1)
    map_rate: float = Field(default_factory=by_recipe(2e-3, 1e-4), gt=0)
    ray_rate: float = Field(default_factory=by_recipe(2e-3, 1e-3), gt=0)
    image_rate: float = Field(default_factory=by_recipe(5e-4, 1e-5), gt=0)
    warmup_steps: NonNegativeInt = 20
    clip_norm: float | None = Field(default_factory=by_recipe(10.0, None), gt=0)
    augmentation: Augmentation = Augmentation()
    colours: ColourAugmentation = Field(default_factory=_colours_of_the_encoder)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.map_steps + self.ray_steps + self.image_steps == 0:
            raise ValueError("map_steps, ray_steps and image_steps are all 0")
        if self.encoder == "backbone":
            for name in ("map_steps", "start_weights", "compat"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs encoder: mobileone, because the backbone is trained by another row")
            if self.recipe == "published":
                raise ValueError("recipe: published needs encoder: mobileone")
        if self.compat and self.recipe != "published":
            raise ValueError("compat needs recipe: published")
        return self


class RaysMlpTraining(Training):
    """Training of the ray network in three phases.

    Args:
        model: network with its starting weights.
        options: options of the training.
        skeleton: skeleton of the truth.
    """

    scheduler: torch.optim.lr_scheduler.LambdaLR

    def __init__(self, model: RaysNet, options: RaysMlpOptions, skeleton: Skeleton) -> None:
        self._architecture, self._options, self._skeleton = model.architecture, options, skeleton
        self._root = skeleton.root_index
        self.architecture = model.architecture.plain()
        self.model = model
        self._bare = model
        self._phases: dict[Phase, int] = {
            "maps": options.map_steps,
            "rays": options.ray_steps,
            "images": options.image_steps,
        }
        self.steps, self.every = sum(self._phases.values()), 1
        self.batch_size, self.clip_norm = options.batch_size, options.clip_norm
        arch = model.architecture
        # Training needs the truth in the frames of the cameras; prediction has neither R nor t.
        self.inputs = inputs_of(arch, extrinsics=True)
        if arch.backbone is not None:
            model.backbone.requires_grad_(False)
        encoder = [p for p in model.backbone.parameters() if p.requires_grad]
        groups = [{"params": list(model.fusion.parameters()), "lr": options.ray_rate}]
        joint = options.image_rate if options.recipe == "published" else 0.0
        rates: list[dict[Phase, float]] = [{"maps": 0.0, "rays": options.ray_rate, "images": options.image_rate}]
        if encoder:
            groups.append({"params": encoder, "lr": options.map_rate})
            rates.append({"maps": options.map_rate, "rays": 0.0, "images": joint})
        self.optimizer = torch.optim.Adam(groups)
        shares = [
            {phase: rate / float(group["lr"]) for phase, rate in of_group.items()}  # type: ignore[arg-type]  # a rate
            for group, of_group in zip(groups, rates, strict=True)
        ]
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, [self._factor(share) for share in shares])

    def phase(self, step: int) -> tuple[Phase, int]:
        """Phase of a step (counted from 0), and the number of the step within the phase. The last phase never ends."""
        last: Phase = "images"
        for phase, count in self._phases.items():
            if count and step < count:
                return phase, step
            if count:
                last = phase
            step -= count
        return last, step + self._phases[last]

    def _factor(self, shares: dict[Phase, float]) -> Callable[[int], float]:
        """Factor on the learning rate as a function of the step."""

        def factor(step: int) -> float:
            phase, within = self.phase(step)
            if self._options.recipe == "published":
                return shares[phase]
            rise = min(1.0, (within + 1) / (self._options.warmup_steps + 1))
            fall = 0.5 + 0.5 * np.cos(np.pi * min(1.0, within / self._phases[phase]))
            return shares[phase] * float(rise * fall)

        return factor

    def example(self, sample: Sample, truth: Truth, rng: np.random.Generator) -> Example:
        """Training example of V views of a sample in random order. Either all views are mirrored or none.

        Slots without a view are zero and not valid.

        Returns:
            images (V, S, S, 3) uint8 or float32; all others float32: K (V, 3, 3) of the crops; focal_px (V,) in the
            pixels of ``noise_px``; points_px (V, J, 2) in crop pixels; lens_px (V, J, 2), offsets from distorted to
            undistorted points; weights (V, J) of the 2D losses; points_mm (V, J, 3) in the frame of each camera;
            up (3,), the up direction in the frame of the first camera; known (J,); valid (V,).
        """
        arch, options = self._architecture, self._options
        views = self._drawn(sample, rng)
        # A mirrored rig is consistent only if all of its views are mirrored, with left and right joints exchanged.
        mirrored = not arch.whole_frames and bool(rng.random() < options.augmentation.flip)
        order = self._skeleton.flip_order if mirrored else list(range(len(self._skeleton)))
        mirror = MIRROR if mirrored else np.eye(3)
        (joints_mm,) = truth.joints_mm
        known = np.isfinite(joints_mm).all(axis=-1) & np.isfinite(joints_mm[self._root]).all()
        joints_mm = np.where(known[:, None], joints_mm, np.nan_to_num(joints_mm[self._root]))
        side, slots, joints = arch.crop_px, arch.views, len(joints_mm)
        floats = options.colours != NO_COLOURS or arch.whole_frames
        images = np.zeros((slots, side, side, 3), dtype=np.float32 if floats else np.uint8)
        K = np.tile(np.eye(3), (slots, 1, 1))
        focal_px, points, lens = np.ones(slots), np.zeros((slots, joints, 2)), np.zeros((slots, joints, 2))
        weights, points_mm = np.zeros((slots, joints)), np.zeros((slots, joints, 3))
        for i, view in enumerate(views):
            crop, camera, A = self._crop(view, rng, mirrored=mirrored)
            images[i] = options.colours.draw(rng).changed(crop) if floats else crop
            K[i] = A @ camera.K @ mirror
            focal_px[i] = abs((view.camera.K if arch.whole_frames else K[i])[0, 0])
            # 2D targets are in the distorted image; the offsets to undistorted points let the loss compare rays.
            seen, pinhole = camera.project(joints_mm), camera.undistorted().project(joints_mm)
            in_view = known & np.isfinite(seen).all(axis=-1)
            if view.name in truth.seen:
                in_view = in_view & truth.seen[view.name][0]
            points[i] = transform_points(A, np.where(in_view[:, None], seen, 0.0))[order]
            lens[i] = (np.nan_to_num(pinhole - seen) @ A[:2, :2].T)[order]
            weights[i] = in_view[order] * inside_crop(points[i], side)
            points_mm[i] = (camera.to_camera(joints_mm) @ mirror)[order]
        up = -np.mean([view.camera.R[1] for view in views], axis=0)
        values = {
            "K": K,
            "focal_px": focal_px,
            "points_px": points,
            "lens_px": lens,
            "weights": weights,
            "points_mm": points_mm,
            "up": mirror @ views[0].camera.R @ (up / max(float(np.linalg.norm(up)), 1e-6)),
            "known": known[order],
            "valid": np.arange(slots) < len(views),
        }
        return {"images": images, **{name: np.asarray(value, dtype=np.float32) for name, value in values.items()}}

    def _drawn(self, sample: Sample, rng: np.random.Generator) -> list[View]:
        """Draw views in random order; with ``compat``, keep the sample's order as in the release."""
        if self._architecture.compat:
            return list(sample.views[: self._architecture.views])
        return [sample.views[i] for i in rng.permutation(len(sample.views))[: self._architecture.views]]

    def _crop(self, view: View, rng: np.random.Generator, *, mirrored: bool) -> tuple[Floats, Camera, Array]:
        """Augment the crop of a view: new pixels, camera before the augmentation, and affine matrix A (3, 3)."""
        side = self._architecture.crop_px
        if self.inputs.crop_px is None:
            return *crop_frame(view, side, *drawn_crop(rng)), np.eye(3)
        settings = self._options.augmentation
        image, A = augment(crop_pixels(view, side), settings, rng, mirrored=mirrored)
        return image, view.camera, A  # type: ignore[return-value]  # bytes become floats where colours change

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses of the current phase, and metrics with the release's names; see `seven_figures`."""
        phase, _ = self.phase(self.scheduler.last_epoch)
        self._bare.backbone.train(phase == "maps" or self._options.recipe == "published")
        if phase == "maps":
            losses = self._maps(batch)
        elif phase == "rays":
            losses = self._generated(batch)
        elif self._options.recipe == "published":
            losses = self._together(batch)
        else:
            losses = self._detected(batch)
        if phase == "maps" or self._architecture.backbone is None:
            # Every process has to have a gradient of every parameter, also of those that the phase does not train.
            losses["total"] = losses["total"] + 0.0 * sum(p.sum() for p in self._bare.parameters() if p.requires_grad)
        return losses

    def _maps(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """First phase: losses of heat maps and offsets in all views."""
        valid = batch["valid"] > 0
        seen: Seen = self.model(batch["images"][valid]).seen
        points, weights = batch["points_px"][valid], batch["weights"][valid]
        targets = self._targets(points, weights, seen)
        assert seen.offsets is not None
        heat = focal_loss(seen.heatmaps, targets.heatmaps)
        offset = offset_loss(offsets_at(seen.offsets, targets.cell), targets)
        figures = point_figures(seen.points_px, points, weights, "x2d")
        return {"total": heat + offset, "loss/hm": heat.detach(), "loss/reg": offset.detach(), **figures}

    def _generated(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Second phase: losses on rays of the batch's poses with simulated errors, without features."""
        options, known = self._options, batch["known"]
        if options.rigs == "random":
            poses = self._random_rigs(batch)
            focal = batch["focal_px"][:, None, :1].expand(poses.shape[:3])
        else:
            known = known * batch["valid"].amin(dim=1, keepdim=True)
            orders = torch.rand((len(known), options.rigs_per_pose, self._architecture.views), device=known.device)
            place = torch.arange(len(known), device=known.device)[:, None, None], orders.argsort(dim=-1)
            poses, focal = batch["points_mm"][place], batch["focal_px"][place]
        noise = options.noise_px * torch.randn((*poses.shape[:-1], 2), device=poses.device)
        found = self.model(given_rays=noisy_rays(poses, noise, focal).flatten(0, 1)).pose_mm
        found = found.unflatten(0, poses.shape[:2])
        target, known = self._about_root(poses[:, :, 0]), known[:, None].expand(found.shape[:-1])
        total = mean_of(wing_loss(found, target, *RAY_WING), known)
        return {"total": total, "loss/x3d": total.detach(), **point_figures(found, target, known, "x3d")}

    def _together(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Third phase, "published": losses of the whole network on images. Only frozen stages are not trained."""
        answer = self.model(batch["images"].flatten(0, 1), batch["K"])
        figures = self._figures(batch, answer.seen, answer.pose_mm)
        return {"total": figures["loss"], **figures, "loss": figures["loss"].detach()}

    def _detected(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Third phase, "small": losses on rays of the joints that the frozen encoder detects.

        With random rigs, the errors of the detections are also added to rays in random rigs. What the fusion network
        learns about these errors then applies to rigs other than those of the images.
        """
        options, views = self._options, batch["valid"].shape
        with torch.no_grad():
            seen = self._bare.see(batch["images"].flatten(0, 1))
        points = seen.points_px.unflatten(0, views) + batch["lens_px"]
        given = rays(points, seen.peak.unflatten(0, views), batch["K"])
        target, known = (
            self._about_root(batch["points_mm"][:, 0]),
            batch["known"] * batch["valid"].amin(1, keepdim=True),
        )
        if options.rigs == "own":
            features = None if seen.features is None else seen.features.unflatten(0, views)
            pose = self.model(given_rays=given, features=features).pose_mm
            figures = self._figures(batch, seen, pose)
            total = mean_of(wing_loss(pose, target, *IMAGE_WING), known)
            return {"total": total, **figures, "loss": figures["loss"].detach()}
        rigs = self._random_rigs(batch)
        errors = (given[..., :2] - directions(batch["points_mm"])) * batch["valid"][..., None, None]
        carried = [directions(rigs) + errors[:, None], given[:, None, ..., 2:].expand(*rigs.shape[:-1], -1)]
        every = torch.cat([given[:, None], torch.cat(carried, dim=-1)], dim=1)
        poses = self.model(given_rays=every.flatten(0, 1)).pose_mm.unflatten(0, every.shape[:2])
        targets = torch.cat([target[:, None], self._about_root(rigs[:, :, 0])], dim=1)
        counts = torch.cat([known[:, None], batch["known"][:, None].expand(-1, options.rigs_per_pose, -1)], dim=1)
        figures = self._figures(batch, seen, poses[:, 0])
        others = point_figures(poses[:, 1:], targets[:, 1:], counts[:, 1:], "rigs")
        total = mean_of(wing_loss(poses, targets, *IMAGE_WING), counts)
        return {"total": total, **figures, "loss": figures["loss"].detach(), **others}

    def _random_rigs(self, batch: dict[str, Tensor]) -> Tensor:
        """Poses of the batch in the camera frames of random rigs, (B, G, V, J, 3) mm."""
        poses = upright(self._about_root(batch["points_mm"][:, 0]), batch["up"])
        count, ranges = self._options.rigs_per_pose, self._options.rig_range
        return in_random_rigs(poses, batch["known"], self._architecture.views, count, ranges)

    def _about_root(self, points_mm: Tensor) -> Tensor:
        return points_mm - points_mm[..., self._root, None, :]

    def _targets(self, points_px: Tensor, weights: Tensor, seen: Seen) -> HeatmapTargets:
        side, size = self._architecture.crop_px, seen.heatmaps.shape[-1]
        targets = heatmap_targets(points_px, side, size, compat=self._architecture.compat)
        shown = weights > 0
        return targets._replace(heatmaps=targets.heatmaps * shown[..., None, None], valid=targets.valid & shown)

    def _figures(self, batch: dict[str, Tensor], seen: Seen, pose_mm: Tensor) -> dict[str, Tensor]:
        """Metrics of a batch of images, see `seven_figures`. ``loss/hm`` is the training loss of the encoder."""
        arch, views = self._architecture, batch["valid"].shape
        points, weights = batch["points_px"].flatten(0, 1), batch["weights"].flatten(0, 1)
        if arch.backbone is not None:
            logits = seen.heatmaps * arch.backbone.multiplier
            heat = heatmap_cross_entropy(logits, points * (logits.shape[-1] / arch.crop_px), weights)
        else:
            targets = self._targets(points, weights, seen).heatmaps.unflatten(0, views)
            heatmaps = seen.heatmaps.unflatten(0, views)
            of_views = [focal_loss(heatmaps[:, v], targets[:, v]) for v in range(views[1])]
            heat = torch.stack(of_views).mean()
        return seven_figures(
            Pictured(seen.points_px.unflatten(0, views), pose_mm),
            Pictured(batch["points_px"], self._about_root(batch["points_mm"][:, 0])),
            heat,
            batch["weights"],
            batch["known"] * batch["valid"].amin(dim=1, keepdim=True),
        )


def inputs_of(architecture: RaysArchitecture, *, extrinsics: bool) -> Inputs:
    """Inputs of the ray network: person crops or whole frames, without extrinsics in prediction.

    Training samples may have more views than the network, of which some are drawn.
    """
    return Inputs(
        crop_px=None if architecture.whole_frames else architecture.crop_px,
        views=(architecture.views, 1_000 if extrinsics else architecture.views),
        extrinsics=extrinsics,
    )
