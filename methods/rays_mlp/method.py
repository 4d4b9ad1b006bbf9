"""Poses without extrinsics by fusion of rays (Jiang et al., ICCV 2023, second version of the release)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poseboard.datasets.camera import Array, Camera, undistort_each
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Poses, Sample, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, parse_options
from poseboard.methods.batches.crops import crop_pixels
from poseboard.methods.checkpoint import Checkpoint, load_strictly
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.network_method import NetworkMethod
from poseboard.methods.nets.starting_weights import load_backbone
from poseboard.methods.rays_mlp.augmentation import Floats, crop_frame
from poseboard.methods.rays_mlp.mobileone import SMALL, EncoderSizes, MobileOnePose, folded
from poseboard.methods.rays_mlp.model import SMALL_FUSION, FusionSizes, RaysArchitecture, RaysNet, rays
from poseboard.methods.rays_mlp.published import IMAGENET
from poseboard.methods.rays_mlp.train import RaysMlpOptions, RaysMlpTraining, inputs_of


class RaysMlp(NetworkMethod[RaysMlpOptions, RaysNet]):
    """Root-relative pose of one person from a fixed number of views without extrinsics, in the first view's frame (mm).

    The network learns the size of people and the camera arrangement from the training data. Options: `RaysMlpOptions`.
    """

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        parsed = parse_options(RaysMlpOptions, options, "rays_mlp")
        super().__init__("rays_mlp", parsed, skeleton, Inputs(views=(parsed.views, parsed.views), extrinsics=False))
        self._predicting: RaysNet | None = None

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Load a checkpoint; InputError if its number of views differs from the option ``views``."""
        super().load(checkpoint, device)
        architecture = self.loaded.architecture
        self.inputs = inputs_of(architecture, extrinsics=False)
        self._predicting = folded(self.loaded) if architecture.encoder is not None else self.loaded

    def network(self, checkpoint: Checkpoint, where: Path) -> tuple[RaysNet, int]:
        """Build the network of a checkpoint, and return it with the side of its crops in pixels.

        Of the options, only ``views`` matters. All others describe a new network.

        Raises:
            InputError: the number of views or the joints differ.
        """
        architecture = parse_options(RaysArchitecture, checkpoint.architecture, f"{where}: architecture")
        architecture.require(self.skeleton, where)
        if architecture.views != self.options.views:
            raise InputError(
                where,
                f"weights are for {architecture.views} views, but the row has views: {self.options.views}",
                f"set views: {architecture.views}, or train for {self.options.views}",
            )
        if architecture.backbone is not None:
            architecture = architecture.model_copy(update={"backbone": architecture.backbone.exact})
        with torch.random.fork_rng(devices=[]):
            return RaysNet(architecture), architecture.crop_px

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """Predict one root-relative pose per sample in the frame of its first view (mm); NaN if it has too few views.

        The network also predicts the root joint, which is near 0. The score is the mean peak of the heat maps.

        Raises:
            InputError: a sample has more views than the network.
        """
        loaded = self.loaded
        model, arch = self._predicting or loaded, loaded.architecture
        if (most := max((len(sample.views) for sample in samples), default=0)) > arch.views:
            raise InputError(
                "rays_mlp",
                f"the input has {most} views, but the weights are for {arch.views}",
                f"train it with views: {most}",
            )
        seen = [i for i, sample in enumerate(samples) if len(sample.views) == arch.views]
        joints_mm, score = np.full((len(samples), len(self.skeleton), 3), np.nan), np.zeros(len(samples))
        chunk = max(1, (64 * 96 * 96) // (arch.views * arch.crop_px**2))
        for start in range(0, len(seen), chunk):
            part = seen[start : start + chunk]
            joints_mm[part], score[part] = self._poses(model, [samples[i] for i in part])
        return [
            Poses(
                self.skeleton,
                joints_mm[i : i + 1],
                score[i : i + 1],
                sample.views[0].name if sample.views else "world",
            )
            for i, sample in enumerate(samples)
        ]

    def _poses(self, model: RaysNet, samples: Sequence[Sample]) -> tuple[Array, Array]:
        """Predict poses (n, J, 3), mm, and scores (n,) of samples with all views."""
        crops = [self._crop(view) for sample in samples for view in sample.views]
        cameras = [camera for _, camera in crops]
        seen = model.see(torch.from_numpy(np.stack([image for image, _ in crops])).to(self._device))
        points = torch.from_numpy(undistort_each(cameras, seen.points_px.double().cpu().numpy()))
        peak, shape = seen.peak.double().cpu(), (len(samples), model.architecture.views)
        K = torch.from_numpy(np.stack([camera.K for camera in cameras])).unflatten(0, shape)
        given = rays(points.unflatten(0, shape), peak.unflatten(0, shape), K).float().to(self._device)
        features = None if seen.features is None else seen.features.unflatten(0, shape)
        pose = model.fusion(given, features).double().cpu().numpy()
        return pose, peak.mean(dim=-1).unflatten(0, shape).mean(dim=-1).numpy()

    def _crop(self, view: View) -> tuple[Floats, Camera]:
        arch = self.loaded.architecture
        if arch.whole_frames:
            return crop_frame(view, arch.crop_px)
        return crop_pixels(view, arch.crop_px).astype(np.float32), view.camera

    def training(self, start: Path | None, seed: int) -> RaysMlpTraining:
        """Training from the backbone in ``start``, or for MobileOne from ``start_weights`` or random weights."""
        options = self.options
        sizes = SMALL_FUSION if options.sizes == "small" else FusionSizes()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if options.encoder == "backbone":
                content, start = self.read_start(start)
                heads = {"alg_confidences": False, "vol_confidences": False}
                backbone = Architecture.of(content, start).model_copy(update=heads).exact
                backbone.require(self.skeleton, start)
                architecture = RaysArchitecture(
                    crop_px=backbone.crop_px,
                    backbone=backbone,
                    fusion=sizes,
                    views=options.views,
                    features=options.features,
                    joints=self.skeleton.joints,
                )
                model = RaysNet(architecture, load_backbone(backbone, content, start, seed))
            else:
                architecture = RaysArchitecture(
                    crop_px=options.image_px,
                    encoder=SMALL if options.sizes == "small" else EncoderSizes(),
                    fusion=sizes,
                    compat=options.compat,
                    whole_frames=options.recipe == "published",
                    views=options.views,
                    features=options.features,
                    joints=self.skeleton.joints,
                )
                model = self._mobileone(architecture)
        return RaysMlpTraining(model, options, self.skeleton)

    def _mobileone(self, architecture: RaysArchitecture) -> RaysNet:
        """Build the network with MobileOne and the weights of ``start_weights``; random weights if it is not set."""
        if self.options.start_weights is None:
            return RaysNet(architecture)
        content, path = self.read_start(None, weights=self.options.start_weights)
        if content.method == IMAGENET:
            model = RaysNet(architecture)
            encoder = model.backbone
            assert isinstance(encoder, MobileOnePose)
            rest = {key: value for key, value in encoder.state_dict().items() if not key.startswith("stage")}
            load_strictly(encoder, rest | content.state, path)
            encoder.freeze_stages()
            return model
        if content.method != "rays_mlp":
            raise InputError(
                path, f"is a checkpoint of {content.method}", "use one of rays_mlp or of MobileOne trained on ImageNet"
            )
        own = parse_options(RaysArchitecture, content.architecture, f"{path}: architecture")
        own.require(self.skeleton, path)
        if own.encoder is None or own.deploy or own.views != architecture.views:
            problem = f"is for {own.views} views" if own.views != architecture.views else "has no trainable encoder"
            raise InputError(path, problem, f"use an unfused MobileOne checkpoint for {architecture.views} views")
        model = RaysNet(own)
        load_strictly(model, content.state, path)
        if isinstance(model.backbone, MobileOnePose):
            model.backbone.freeze_stages()
        return model
