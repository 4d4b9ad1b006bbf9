"""Algebraic triangulation (Iskakov et al., ICCV 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poseboard.datasets.camera import undistort_each
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Poses, Sample
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.algebraic.model import AlgebraicTriangulation, triangulate
from poseboard.methods.algebraic.train import AlgebraicOptions, AlgebraicTraining
from poseboard.methods.base import Inputs, parse_options
from poseboard.methods.batches.crops import stack_views
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.network_method import NetworkMethod
from poseboard.methods.nets.starting_weights import load_backbone


class Algebraic(NetworkMethod[AlgebraicOptions, AlgebraicTriangulation]):
    """Algebraic triangulation of one person from crops of two or more calibrated views. Options: `AlgebraicOptions`."""

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        super().__init__("algebraic", parse_options(AlgebraicOptions, options, "algebraic"), skeleton, Inputs())

    def network(self, checkpoint: Checkpoint, where: Path) -> tuple[AlgebraicTriangulation, int]:
        """Build the network of a checkpoint, and return it with the side of its crops in pixels.

        Raises:
            InputError: the confidence head contradicts the option ``use_confidences``, or the joints are not the
                skeleton's.
        """
        architecture = Architecture.of(checkpoint, where).exact
        architecture.require(self.skeleton, where)
        if architecture.alg_confidences != self.options.use_confidences:
            have = "with" if architecture.alg_confidences else "without"
            raise InputError(where, f"weights are {have} a confidence head", "set use_confidences to match the weights")
        return AlgebraicTriangulation(architecture, architecture.build(seed=0)), architecture.crop_px

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """Predict one person per sample in the world frame (mm). The score is the mean confidence.

        Samples with fewer than two views are NaN.
        """
        model = self.loaded
        if not samples:
            return []
        arch = model.architecture
        images, P, valid = stack_views(samples, arch.crop_px)
        joints = len(self.skeleton)
        joints_mm, score = np.full((len(samples), joints, 3), np.nan), np.zeros(len(samples))
        if len(images):
            seen = [model.see(arch.prepare(part.to(self._device))) for part in images.split(arch.chunk)]
            points = torch.cat([views.points_px for views in seen]).double().cpu().numpy()
            confidences = torch.cat([views.confidences for views in seen]).double().cpu()
            cameras = [view.camera for sample in samples for view in sample.views]
            mask = torch.from_numpy(valid)
            pinhole = torch.from_numpy(undistort_each(cameras, points))
            joints_mm = triangulate(pinhole, confidences, torch.from_numpy(P), mask, arch.homogeneous)[0].numpy()
            mean = torch.zeros(valid.shape, dtype=torch.float64)
            mean[mask] = confidences.mean(dim=-1)
            score = mean.sum(dim=1).numpy() / np.maximum(valid.sum(axis=1), 1)
        return [Poses(self.skeleton, joints_mm[i : i + 1], score[i : i + 1]) for i in range(len(samples))]

    def training(self, start: Path | None, seed: int) -> AlgebraicTraining:
        """Training from the backbone in ``start``; a missing confidence head gets random weights from ``seed``."""
        content, start = self.read_start(start)
        update = {
            "alg_confidences": self.options.use_confidences,
            "vol_confidences": False,
            "homogeneous": self.options.recipe == "published",
        }
        architecture = Architecture.of(content, start).model_copy(update=update)
        if self.options.recipe == "published":
            architecture = architecture.exact
        architecture.require(self.skeleton, start)
        model = AlgebraicTriangulation(architecture, load_backbone(architecture, content, start, seed))
        return AlgebraicTraining(model, self.options, self.skeleton)
