"""What a trained 2D backbone is, in plain values.

An `Architecture` is kept in the checkpoint beside the weights: from it the same network is built again, with the same
preprocessing and decoding. Published weights see BGR crops with ImageNet's RGB constants; that is theirs, not ours, so
the channel order is part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import field_validator
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


class Architecture(Options):
    """A 2D backbone with its preprocessing and decoding.

    Args:
        network: one of `pose_resnet.NETWORKS`.
        joints: names of the heat maps, in order.
        crop_px: side of the square crops it was trained on.
        channels: order in which the ImageNet constants meet the channels; published weights were trained on "bgr".
        multiplier: factor on heat maps before the soft-max.
        softmax: soft-max, or ReLU, before the expected position is taken.
        alg_confidences: with the confidence head of algebraic triangulation.
        vol_confidences: with the confidence head of volumetric triangulation.
        precision: "bf16" runs the convolutions of training in bfloat16; methods predict with `exact`.
        homogeneous: for methods that learn through linear triangulation: the published system, see `geometry`'s `dlt`.
    """

    network: str
    joints: tuple[str, ...]
    crop_px: int
    channels: Literal["rgb", "bgr"] = "rgb"
    multiplier: float = 1.0
    softmax: bool = True
    alg_confidences: bool = False
    vol_confidences: bool = False
    precision: Precision = "float32"
    homogeneous: bool = True

    @field_validator("network")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in NETWORKS:
            raise ValueError(f"no network {value!r}, known: {', '.join(NETWORKS)}")
        return value

    @classmethod
    def published(cls, network: str, joints: Sequence[str], *, alg_confidences: bool = False) -> Architecture:
        """The setting of learnable triangulation's published configurations: 384 px, BGR, multiplier 100."""
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
        """The architecture a checkpoint was saved with; InputError names ``where`` if it is none of ours."""
        return parse_options(cls, checkpoint.architecture, f"{where}: architecture")

    @property
    def exact(self) -> Self:
        """The same in float32: bfloat16 moves a triangulated joint by 0.8 mm on average, one in a hundred by 3 mm."""
        return self.model_copy(update={"precision": "float32"})

    def plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return self.model_dump(mode="json")

    def require(self, skeleton: Skeleton, where: str | Path) -> None:
        """InputError if the heat maps are not the skeleton's joints in its order."""
        if self.joints != skeleton.joints:
            raise InputError(
                where,
                f"weights answer {len(self.joints)} joints that are not those of {skeleton.name}",
                "train a backbone for this joint set",
            )

    def build(self, seed: int) -> nn.Module:
        """The network with fresh weights, a pure function of ``seed``; torch's random state is left as it was."""
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
        """(n, S, S, 3) uint8 RGB -> (n, 3, S, S) float32, normalised; stays channels-last in memory."""
        if self.channels == "bgr":
            images = images.flip(-1)
        mean = torch.tensor(_MEAN, device=images.device)
        std = torch.tensor(_STD, device=images.device)
        return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)

    def run(self, net: nn.Module, images: Tensor) -> BackboneOutput:
        """``net`` on normalised crops (n, 3, S, S), at the architecture's precision; heat maps come back float32."""
        with bfloat16(images.device.type, self.precision == "bf16"):
            out: BackboneOutput = net(images)
        return out._replace(heatmaps=out.heatmaps.float())

    def to_crop(self, points: Tensor, heatmaps: Tensor) -> Tensor:
        """Heat-map pixels (..., 2) to crop pixels, without half-pixel terms as published."""
        height, width = heatmaps.shape[-2:]
        return points * torch.tensor([self.crop_px / width, self.crop_px / height], device=points.device)

    @property
    def chunk(self) -> int:
        """Crops of one forward pass at inference: 64 of 96 px, 4 of 384."""
        return max(1, _CHUNK_PIXELS // self.crop_px**2)
