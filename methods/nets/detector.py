"""Joint detector with a trained 2D backbone, for methods that start from 2D points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from poseboard.datasets.camera import Array, undistort_each
from poseboard.datasets.sample import Sample
from poseboard.methods.batches.crops import stack_views
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.soft_argmax import soft_argmax_2d
from poseboard.methods.nets.starting_weights import load_backbone

Decode = Literal["softargmax", "argmax"]


@dataclass(frozen=True, eq=False)
class Detections:
    """2D joints in the crops of B samples with up to V views.

    Args:
        points_px: (B, V, J, 2) undistorted crop pixels; NaN where a view is absent.
        peak: (B, V, J) soft-max peak of the heat map in (0, 1]; NaN where a view is absent.
        P: (B, V, 3, 4) projection matrices of the crops; zero where a view is absent.
        valid: (B, V) whether the sample has this view.
    """

    points_px: Array
    peak: Array
    P: Array
    valid: NDArray[np.bool_]


def decode_heatmaps(architecture: Architecture, heatmaps: Tensor, decode: Decode) -> tuple[Tensor, Tensor]:
    """Decode raw heat maps (n, J, h, w) into points (n, J, 2) in crop pixels and soft-max peaks (n, J)."""
    flat = heatmaps.flatten(2)
    # 1 / sum exp(z - max z) is the soft-max at the largest value
    peak = 1 / (architecture.multiplier * (flat - flat.amax(-1, keepdim=True))).exp().sum(-1)
    if decode == "argmax":
        index = flat.argmax(dim=-1)
        width = heatmaps.shape[-1]
        points = torch.stack([index % width, index // width], dim=-1).to(heatmaps.dtype)
        return architecture.to_crop(points, heatmaps).trunc(), peak
    points, _ = soft_argmax_2d(heatmaps, architecture.multiplier, architecture.softmax)
    return architecture.to_crop(points, heatmaps), peak


class Detector:
    """Joint detector for crops; it runs in float32.

    Args:
        architecture: architecture of ``net``.
        net: the backbone. The detector sets it to evaluation mode.
        device: torch device.
        decode: "softargmax": expected position. "argmax": whole heat-map pixels, as in the RANSAC baseline of learnable
            triangulation.

    Example:
        >>> detector = Detector.read(Path("backbone.pt"), "cpu")
        >>> detections = detector.detect(samples)  # samples with crops of detector.crop_px
        >>> joints_mm = dlt(detections.P, detections.points_px, detections.peak)
    """

    def __init__(self, architecture: Architecture, net: nn.Module, device: str, decode: Decode = "softargmax") -> None:
        self._architecture = architecture.exact
        self.net = net.to(device).eval()
        self._device = device
        self._decode = decode

    @classmethod
    def read(cls, checkpoint: Path, device: str, decode: Decode = "softargmax") -> Detector:
        """Read a detector from the checkpoint of a backbone or of a method with a backbone; else raise InputError."""
        return cls.of(Checkpoint.read(checkpoint), checkpoint, device, decode)

    @classmethod
    def of(cls, content: Checkpoint, checkpoint: Path, device: str, decode: Decode = "softargmax") -> Detector:
        """Build a detector from the content of a checkpoint; InputError as in `read`."""
        heads = {"alg_confidences": False, "vol_confidences": False}
        architecture = Architecture.of(content, checkpoint).model_copy(update=heads)
        return cls(architecture, load_backbone(architecture, content, checkpoint), device, decode)

    @property
    def architecture(self) -> dict[str, Any]:
        """Plain values of the network's architecture, as a checkpoint stores them."""
        return self._architecture.plain()

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the joints, in order."""
        return self._architecture.joints

    @property
    def crop_px(self) -> int:
        """Side of the crops that the detector expects."""
        return self._architecture.crop_px

    @torch.inference_mode()
    def detect(self, samples: Sequence[Sample]) -> Detections:
        """Detect joints in every view of ``samples``. All views are crops with a side of ``crop_px``."""
        images, P, valid = stack_views(samples, self.crop_px)
        decoded = [self._decoded(part.to(self._device)) for part in images.split(self._architecture.chunk)]
        points = np.full((*valid.shape, len(self.joints), 2), np.nan)
        peak = np.full((*valid.shape, len(self.joints)), np.nan)
        if len(images):
            cameras = [view.camera for sample in samples for view in sample.views]
            decoded_px = torch.cat([points_px for points_px, _ in decoded]).double().cpu().numpy()
            points[valid] = undistort_each(cameras, decoded_px)
            peak[valid] = torch.cat([peaks for _, peaks in decoded]).double().cpu().numpy()
        return Detections(points, peak, P, valid)

    def _decoded(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect joints in crops (n, S, S, 3) uint8: points (n, J, 2) in crop pixels and peaks (n, J)."""
        if not len(images):
            return torch.zeros(0, len(self.joints), 2), torch.zeros(0, len(self.joints))
        arch = self._architecture
        return decode_heatmaps(arch, arch.run(self.net, arch.prepare(images)).heatmaps, self._decode)
