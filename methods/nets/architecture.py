"""Architecture of a 2D backbone, with its preprocessing and decoding, in plain values.

A checkpoint stores an `Architecture` with the weights, from which the network is rebuilt. An architecture includes the
channel order, because published weights were trained on BGR crops normalised with ImageNet's RGB constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import torch
from pydantic import AfterValidator
from torch import Tensor, nn

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Options, parse_options
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.pose_resnet import NETWORKS, BackboneOutput, build_backbone
from poseboard.methods.nets.precision import bfloat16

Precision = Literal["float32", "bf16"]

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_CHUNK_PIXELS = 64 * 96 * 96
"""Pixels per forward pass at inference; bounds the memory."""


def _known(name: str) -> str:
    if name not in NETWORKS:
        raise ValueError(f"no network {name!r}, known: {', '.join(NETWORKS)}")
    return name


NetworkName = Annotated[str, AfterValidator(_known)]
"""One of `pose_resnet.NETWORKS`."""


class Architecture(Options):
    """Options of a 2D backbone, its preprocessing and its decoding.

    Args:
        network: one of `pose_resnet.NETWORKS`.
        joints: names of the heat maps, in order.
        crop_px: side of the square crops in training.
        channels: channel order of the normalised crops; published weights were trained on "bgr".
        multiplier: factor on heat maps before the soft-max.
        softmax: True: soft-max before the expected position is computed. False: ReLU.
        alg_confidences: whether the network has the confidence head of algebraic triangulation.
        vol_confidences: whether the network has the confidence head of volumetric triangulation.
        precision: precision of the convolutions in training: "bf16" or "float32". Methods predict with `exact`.
        homogeneous: argument of `geometry.triangulation.dlt`, for methods that learn through linear triangulation.

    Example:
        >>> architecture = Architecture(network="small", joints=HUMAN36M.joints, crop_px=96)
        >>> net = architecture.build(seed=0)
        >>> heatmaps = architecture.run(net, architecture.prepare(crops)).heatmaps  # (n, J, 24, 24)
    """

    network: NetworkName
    joints: tuple[str, ...]
    crop_px: int
    channels: Literal["rgb", "bgr"] = "rgb"
    multiplier: float = 1.0
    softmax: bool = True
    alg_confidences: bool = False
    vol_confidences: bool = False
    precision: Precision = "float32"
    homogeneous: bool = True

    @classmethod
    def published(cls, network: str, joints: Sequence[str], *, alg_confidences: bool = False) -> Architecture:
        """Architecture of learnable triangulation's published configurations: 384 px, BGR, multiplier 100."""
        return cls(
            network=network,
            joints=tuple(joints),
            crop_px=384,
            channels="bgr",
            multiplier=100.0,
            alg_confidences=alg_confidences,
        )

    @classmethod
    def of(cls, checkpoint: Checkpoint, where: str | Path) -> Self:
        """Read the architecture of a checkpoint.

        Raises:
            InputError: the checkpoint has an architecture of another kind; the error names the file ``where``.
        """
        return parse_options(cls, checkpoint.architecture, f"{where}: architecture")

    @property
    def exact(self) -> Self:
        """Same architecture in float32.

        bfloat16 moves triangulated joints by 0.8 mm on average, and 1 % of them by 3 mm.
        """
        return self.model_copy(update={"precision": "float32"})

    def require(self, skeleton: Skeleton, where: str | Path) -> None:
        """Raise InputError unless the heat maps are those of the skeleton's joints, in the same order."""
        if self.joints != skeleton.joints:
            raise InputError(
                where,
                f"weights are for {len(self.joints)} joints that are not those of {skeleton.name}",
                "train a backbone for this joint set",
            )

    def build(self, seed: int) -> nn.Module:
        """Build the network with random weights that depend only on ``seed``. Torch's random state does not change."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = build_backbone(
                self.network,
                len(self.joints),
                alg_confidences=self.alg_confidences,
                vol_confidences=self.vol_confidences,
            )
        return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch stubs lack the keyword

    def prepare(self, images: Tensor) -> Tensor:
        """Normalise crops (n, S, S, 3) uint8 RGB to (n, 3, S, S) float32, channels-last in memory."""
        if self.channels == "bgr":
            images = images.flip(-1)
        mean = torch.tensor(_MEAN, device=images.device)
        std = torch.tensor(_STD, device=images.device)
        return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)

    def run(self, net: nn.Module, images: Tensor) -> BackboneOutput:
        """Run the network on normalised crops (n, 3, S, S) in the architecture's precision; heat maps are float32."""
        with bfloat16(images.device.type, self.precision == "bf16"):
            out: BackboneOutput = net(images)
        return out._replace(heatmaps=out.heatmaps.float())

    def to_crop(self, points: Tensor, heatmaps: Tensor) -> Tensor:
        """Convert heat-map pixels (..., 2) to crop pixels by one factor, without half-pixel offset (as the release)."""
        height, width = heatmaps.shape[-2:]
        return points * torch.tensor([self.crop_px / width, self.crop_px / height], device=points.device)

    @property
    def chunk(self) -> int:
        """Number of crops per forward pass in prediction: 64 of 96 px, 4 of 384 px."""
        return max(1, _CHUNK_PIXELS // self.crop_px**2)
