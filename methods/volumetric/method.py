"""Volumetric triangulation (Iskakov et al., ICCV 2019, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Poses, Sample
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import parse_options
from poseboard.methods.batches.crops import stack_views
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.network_method import NetworkMethod
from poseboard.methods.nets.starting_weights import load_backbone
from poseboard.methods.volumetric.lens import without_lens
from poseboard.methods.volumetric.model import VolumetricArchitecture, VolumetricTriangulation
from poseboard.methods.volumetric.train import VolumetricOptions, VolumetricTraining


class Volumetric(NetworkMethod[VolumetricOptions, VolumetricTriangulation]):
    """Volumetric triangulation of one person from a root position and crops of one or more calibrated views.

    Options: `VolumetricOptions`.
    """

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        parsed = parse_options(VolumetricOptions, options, "volumetric")
        super().__init__("volumetric", parsed, skeleton, parsed.inputs(None))

    def network(self, checkpoint: Checkpoint, where: Path) -> tuple[VolumetricTriangulation, int]:
        """Build the network of a checkpoint, and return it with the side of its crops in pixels.

        The precision is float32 unless the options set another.

        Raises:
            InputError: the aggregation differs from the option ``aggregation``, or the joints are not the skeleton's.
        """
        architecture = VolumetricArchitecture.of(checkpoint, where)
        architecture.backbone.require(self.skeleton, where)
        if self.options.aggregation not in (None, architecture.aggregation):
            problem = f"weights are for aggregation {architecture.aggregation}"
            raise InputError(where, problem, "set aggregation to match the weights")
        exact = {"backbone": architecture.backbone.exact, "precision": self.options.precision or "float32"}
        return VolumetricTriangulation.build(architecture.model_copy(update=exact)), architecture.backbone.crop_px

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """Predict one person per sample in the world frame (mm). The score is the mean peak of the volumes.

        Samples without a view or without a root are NaN.
        """
        model = self.loaded
        joints_mm, score = np.full((len(samples), len(self.skeleton), 3), np.nan), np.zeros(len(samples))
        roots = [_root(sample) for sample in samples]
        usable = [i for i, root in enumerate(roots) if root is not None and samples[i].views]
        step = model.architecture.frames_a_pass
        for batch in (usable[i : i + step] for i in range(0, len(usable), step)):
            joints_mm[batch], score[batch] = self._cubes(model, [samples[i] for i in batch], [roots[i] for i in batch])
        return [Poses(self.skeleton, joints_mm[i : i + 1], score[i : i + 1]) for i in range(len(samples))]

    def _cubes(
        self, model: VolumetricTriangulation, samples: Sequence[Sample], roots: Sequence[Array | None]
    ) -> tuple[Array, Array]:
        arch = model.architecture.backbone
        straight = [replace(sample, views=tuple(without_lens(view) for view in sample.views)) for sample in samples]
        images, P, valid = stack_views(straight, arch.crop_px)
        seen = [model.see(arch.prepare(part.to(self._device))) for part in images.split(arch.chunk)]
        maps = type(seen[0])(
            torch.cat([part.features for part in seen]),
            None if seen[0].confidences is None else torch.cat([part.confidences for part in seen]),  # type: ignore[misc]  # all or none
        )
        volumes = model.fill(
            maps,
            torch.from_numpy(P).to(self._device),
            torch.from_numpy(valid).to(self._device),
            torch.from_numpy(np.stack(roots)).to(self._device),  # type: ignore[arg-type]  # predict leaves out None
            torch.eye(3, device=self._device).expand(len(samples), 3, 3),
        )
        peaks = volumes.probabilities.flatten(2).amax(dim=-1).mean(dim=-1)
        return volumes.joints_mm.cpu().numpy(), peaks.double().cpu().numpy()

    def training(self, start: Path | None, seed: int) -> VolumetricTraining:
        """Training from the backbone in ``start`` or ``start_weights``, a checkpoint of a method with a 2D backbone."""
        content, start = self.read_start(
            start, "`after: algebraic`, or `after: backbone` and `roots`,", self.options.start_weights
        )
        architecture = self.options.architecture(Architecture.of(content, start), start)
        architecture.backbone.require(self.skeleton, start)
        backbone = load_backbone(architecture.backbone, content, start, seed)
        model = VolumetricTriangulation.build(architecture, seed, backbone)
        return VolumetricTraining(model, self.options, self.skeleton)


def _root(sample: Sample) -> Array | None:
    """Root (3,) of the sample's person, world mm; None if it is unknown."""
    if sample.root_mm is None or not np.isfinite(sample.root_mm).all():
        return None
    (root_mm,) = sample.root_mm
    return np.asarray(root_mm, dtype=np.float64)
