"""Monocular lifting with the networks of epipolar transformers' release (He et al., CVPR 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Poses, Sample, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Inputs, parse_options
from poseboard.methods.batches.crops import crop_pixels
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.lifting.canonical import median_of_views
from poseboard.methods.lifting.model import (
    CANONICAL,
    RELEASED_MAPS,
    LiftingArchitecture,
    canonical_indices,
    keep_variance,
)
from poseboard.methods.lifting.model import Lifting as LiftingModel
from poseboard.methods.lifting.train import LiftingOptions, LiftingTraining, crop_ray, which_hand
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.detector import decode_heatmaps
from poseboard.methods.nets.network_method import NetworkMethod
from poseboard.methods.nets.starting_weights import IMAGE_NETWORK, load_backbone


class Lifting(NetworkMethod[LiftingOptions, LiftingModel]):
    """Root-relative pose of one person or hand in the camera frame (mm), from the crop of one view.

    With ``views: median``, the prediction is the median over the crops of several views, in the world frame, at the
    root position that another row predicted. One view does not determine the size of a pose, so predictions have the
    median size of the training poses.

    Options: `LiftingOptions`.
    """

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        parsed = parse_options(LiftingOptions, options, "lifting")
        inputs = Inputs(views=(1, 1), extrinsics=False)
        if parsed.views == "median":
            inputs = Inputs(views=(2, 1_000), root="predicted")
        super().__init__("lifting", parsed, skeleton, inputs)

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Load the checkpoint, and declare the input ``hand`` if the network needs it."""
        super().load(checkpoint, device)
        self.inputs = replace(self.inputs, hand=self.loaded.architecture.handed)

    def network(self, checkpoint: Checkpoint, where: Path) -> tuple[LiftingModel, int]:
        """Build the network of a checkpoint, and return it with the side of its crops in pixels.

        Raises:
            InputError: the network or the joints differ from the options, or the checkpoint has no size of poses
                (``scale_mm``).
        """
        architecture = parse_options(LiftingArchitecture, checkpoint.architecture, f"{where}: architecture")
        architecture.backbone.require(self.skeleton, where)
        if architecture.network != self.options.network:
            raise InputError(
                where,
                f"weights are of network {architecture.network}",
                f"set `network: {architecture.network}` in the row",
            )
        if "scale_mm" not in checkpoint.constants:
            raise InputError(f"{where}: constants", "has no scale_mm", "train or import the weights again")
        backbone = architecture.backbone.exact
        with torch.random.fork_rng(devices=[]):
            model = LiftingModel(architecture.model_copy(update={"backbone": backbone}), backbone.build(seed=0))
        return model, backbone.crop_px

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """Predict one root-relative pose per sample in the frame of its first view (mm); NaN without a view.

        The network also predicts the root joint, which is near 0 and stays as predicted, as in the release. Medians
        over views are in the world frame, at the sample's root; NaN if the sample has none. The score is the mean
        soft-max peak of the heat maps, and 1 for "image_rotation". The column ``size_mm`` of a single-view pose is the
        size to which it was scaled.
        """
        if self.options.views == "median":
            return self._medians(samples)
        poses, scores = self._lifted([(sample, view) for sample in samples for view in sample.views[:1]])
        seen = [i for i, sample in enumerate(samples) if sample.views]
        joints_mm, score = np.full((len(samples), len(self.skeleton), 3), np.nan), np.zeros(len(samples))
        joints_mm[seen], score[seen] = poses, scores
        size_mm = np.full(1, self._constants["scale_mm"])
        return [
            Poses(
                self.skeleton,
                joints_mm[i : i + 1],
                score[i : i + 1],
                sample.views[0].name if sample.views else "world",
                columns={"size_mm": size_mm},
            )
            for i, sample in enumerate(samples)
        ]

    def _medians(self, samples: Sequence[Sample]) -> list[Poses]:
        seen = [(sample, view) for sample in samples for view in sample.views]
        lifted, peaks = self._lifted(seen)
        counts = np.array([len(sample.views) for sample in samples])
        valid = np.arange(counts.max(initial=1)) < counts[:, None]
        poses, R = np.full((*valid.shape, len(self.skeleton), 3), np.nan), np.tile(np.eye(3), (*valid.shape, 1, 1))
        scores = np.zeros(valid.shape)
        poses[valid], scores[valid] = lifted, peaks
        R[valid] = np.reshape([view.camera.R for _, view in seen], (-1, 3, 3))
        median = median_of_views(poses, R)[1]
        roots = np.full((len(samples), 1, 3), np.nan)
        for root, sample in zip(roots, samples, strict=True):
            if sample.root_mm is not None:
                root[:] = sample.root_mm
        joints_mm = median - median[:, [self.skeleton.root_index]] + roots
        score = scores.sum(axis=1) / np.maximum(counts, 1)
        return [Poses(self.skeleton, joints_mm[i : i + 1], score[i : i + 1]) for i in range(len(samples))]

    def _lifted(self, seen: Sequence[tuple[Sample, View]]) -> tuple[Array, Array]:
        """Root-relative poses (n, J, 3), mm, in the frame of each view; and scores (n,)."""
        model = self.loaded
        arch = model.architecture
        poses, scores = np.empty((len(seen), len(self.skeleton), 3)), np.ones(len(seen))
        side_px, chunk = arch.backbone.crop_px, arch.backbone.chunk
        for start in range(0, len(seen), chunk):
            rows = slice(start, start + chunk)
            views = [view for _, view in seen[rows]]
            images = torch.from_numpy(np.stack([crop_pixels(view, side_px) for view in views])).to(self._device)
            side = None
            if arch.handed:
                side = torch.tensor([[which_hand(sample)] for sample, _ in seen[rows]], device=self._device)
            lifted, heatmaps = model(arch.prepare(images), side)
            pose = lifted.pose.double().cpu().numpy() * self._constants["scale_mm"]
            if arch.centre_ray:
                pose = pose @ np.stack([crop_ray(view, side_px) for view in views])  # inverse of rows @ R.T
            poses[rows] = pose
            if arch.network != "image_rotation":
                scores[rows] = decode_heatmaps(arch.backbone, heatmaps, "softargmax")[1].mean(dim=1).double().cpu()
        return poses, scores

    def training(self, start: Path | None, seed: int) -> LiftingTraining:
        """Training from the backbone in ``start``. The lifting network gets random weights that depend on ``seed``."""
        options = self.options
        content, start = self.read_start(start, weights=options.start_weights)
        canonical_indices(self.skeleton)
        heads = {"alg_confidences": False, "vol_confidences": False}
        backbone = Architecture.of(content, start).model_copy(update=heads)
        if image_network := content.method == IMAGE_NETWORK:
            if options.network != "image_rotation":
                raise InputError(start, "an image network detects no joints", "use the weights of a pose network")
            backbone = backbone.model_copy(update={"joints": self.skeleton.joints})
        if options.image_px is not None:
            backbone = backbone.model_copy(update={"crop_px": options.image_px})
        if options.recipe == "published":
            backbone = backbone.exact
        backbone.require(self.skeleton, start)
        with torch.device("meta"):
            shapes = backbone.build(seed=0).eval()(torch.empty(1, 3, backbone.crop_px, backbone.crop_px))
        small = options.recipe == "small"
        drawn = RELEASED_MAPS[self.skeleton.name] if options.draws_maps else None
        architecture = LiftingArchitecture(
            backbone=backbone,
            network=options.network,
            map_px=drawn.side if drawn else shapes.heatmaps.shape[-1],
            pool=options.pool or (2 if small and not drawn else 8),
            drawn=drawn,
            feature_width=shapes.deepest.shape[1],
            handed=CANONICAL[self.skeleton.name].handed if options.handed is None else options.handed,
            mirror_right=options.mirror_right,
            centre_ray=small,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LiftingModel(architecture, load_backbone(backbone, content, start, seed, fresh_maps=image_network))
            if small:
                model.liftingnet.apply(keep_variance)
        return LiftingTraining(model, options, self.skeleton)
