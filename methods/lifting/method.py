"""Monocular lifting, as the release of epipolar transformers (He et al., CVPR 2020) has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Poses, Sample
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Checkpoint, Inputs, parse_options
from poseboard.methods.lifting.model import CANONICAL, RELEASED_MAPS, LiftingArchitecture, canonical_indices
from poseboard.methods.lifting.model import Lifting as LiftingModel
from poseboard.methods.lifting.train import LiftingOptions, LiftingTraining, crop_ray, which_hand
from poseboard.methods.nets.architecture import Architecture, crop_pixels, load_backbone
from poseboard.methods.nets.detector import decode_heatmaps
from poseboard.methods.nets.network_method import NetworkMethod


class Lifting(NetworkMethod[LiftingOptions, LiftingModel]):
    """One person or hand from the crop of one view: a pose about its root, in the camera's frame.

    The size of a pose cannot be seen in one view: answers have the median size of the training poses.

    Its options are `LiftingOptions`.
    """

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        parsed = parse_options(LiftingOptions, options, "lifting")
        super().__init__("lifting", parsed, skeleton, Inputs(views=(1, 1), extrinsics=False))

    def network(self, read: Checkpoint, where: Path) -> tuple[LiftingModel, int]:
        """That of the row's options; the checkpoint must also say what size a pose has."""
        architecture = parse_options(LiftingArchitecture, read.architecture, f"{where}: architecture")
        architecture.backbone.require(self.skeleton, where)
        if architecture.network != self.options.network:
            raise InputError(where, f"weights are of network {architecture.network}", "set `network` accordingly")
        if "scale_mm" not in read.constants:
            raise InputError(f"{where}: constants", "has no scale_mm", "train it again")
        backbone = architecture.backbone.exact
        with torch.random.fork_rng(devices=[]):
            model = LiftingModel(architecture.model_copy(update={"backbone": backbone}), backbone.build(seed=0))
        return model, backbone.crop_px

    @property
    def size_mm(self) -> float | None:
        """See `Sized`."""
        return self._constants.get("scale_mm")

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """One pose a sample about its root, in the frame of its first view; NaN without a view.

        The root is where the network has it, near 0, as the release measures it.

        The score is the mean soft-max peak of the heat maps, 1 for networks that do without them.
        """
        model = self.loaded
        arch, joints = model.architecture, len(self.skeleton)
        seen = [i for i, sample in enumerate(samples) if sample.views]
        poses, scores = np.full((len(samples), joints, 3), np.nan), np.zeros(len(samples))
        side_px, chunk = arch.backbone.crop_px, arch.backbone.chunk
        for start in range(0, len(seen), chunk):
            rows = seen[start : start + chunk]
            views = [samples[i].views[0] for i in rows]
            images = torch.from_numpy(np.stack([crop_pixels(view, side_px) for view in views])).to(self._device)
            side = None
            if arch.handed:
                side = torch.tensor([[which_hand(samples[i])] for i in rows], device=self._device)
            lifted, heatmaps = model(arch.prepare(images), side)
            pose = lifted.pose.double().cpu().numpy() * self._constants["scale_mm"]
            if arch.centre_ray:
                pose = pose @ np.stack([crop_ray(view, side_px) for view in views])  # back: the inverse of rows @ R.T
            poses[rows] = pose
            scores[rows] = 1.0
            if arch.network != "image_rotation":
                scores[rows] = decode_heatmaps(arch.backbone, heatmaps, "softargmax")[1].mean(dim=1).double().cpu()
        return [
            Poses(self.skeleton, poses[i : i + 1], scores[i : i + 1], sample.views[0].name if sample.views else "world")
            for i, sample in enumerate(samples)
        ]

    def training(self, start: Path | None, seed: int) -> LiftingTraining:
        """From the backbone in ``start``, with a fresh lifting network from ``seed``."""
        (read, start), options = self.started(start), self.options
        canonical_indices(self.skeleton)
        heads = {"alg_confidences": False, "vol_confidences": False}
        backbone = Architecture.of(read, start).model_copy(update=heads)
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
            model = LiftingModel(architecture, load_backbone(backbone, read, start, seed))
        return LiftingTraining(model, options, self.skeleton)
