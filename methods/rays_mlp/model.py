"""The network: heat maps -> rays and sampled features of each view -> one pose.

Probabilistic triangulation, second version of the release (Jiang et al., ICCV 2023, code): it has neither camera poses
nor triangulation, and learns what it knows of rigs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Options
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.detector import decode_heatmaps
from poseboard.methods.rays_mlp.mobileone import EncoderSizes, Maps, MobileOnePose


class FusionSizes(Options):
    """Sizes of the fusion; the defaults are the published ones.

    Args:
        ray: outputs of the layers on each ray.
        view: outputs of the layers on each view.
        pose: outputs of the layers on all views, without the last one.
        unit_mm: millimetres per unit of the output.
        ray_scale: factor on x / z and y / z, which are small numbers, before the first layer.
    """

    ray: tuple[int, ...] = Field(default=(1024, 512, 256, 128), min_length=1)
    view: tuple[int, ...] = Field(default=(1024, 512, 256, 256), min_length=1)
    pose: tuple[int, ...] = (1024, 512)
    unit_mm: float = Field(default=1.0, gt=0)
    ray_scale: float = Field(default=1.0, gt=0)


SMALL_FUSION = FusionSizes(ray=(32, 16), view=(256, 128), pose=(256,), unit_mm=300.0, ray_scale=6.0)
"""Sizes for a processor. In units of their size, rays and answers are learned from the first step on."""


class RaysArchitecture(Options):
    """What a trained network is.

    Args:
        joints: names of the joints in order.
        views: number of views, which the weights fix.
        crop_px: side of the crops.
        encoder: sizes of the MobileOne encoder; None: the encoder is ``backbone``.
        backbone: the shared 2D backbone, with its preprocessing and decoding; None: MobileOne.
        fusion: sizes of the fusion.
        features: features under the joints enter the fusion.
        compat: heads and colours of the release, see the README.
        whole_frames: crops are cut from whole frames as the release does; default: with ``compat``.
        deploy: MobileOne with one convolution a block, as exported; it is not trained.
    """

    joints: tuple[str, ...]
    views: int = Field(ge=2)
    crop_px: int = Field(ge=32, multiple_of=32)
    encoder: EncoderSizes | None = None
    backbone: Architecture | None = None
    fusion: FusionSizes = FusionSizes()
    features: bool = True
    compat: bool = False
    whole_frames: bool = Field(default_factory=lambda given: bool(given.get("compat")))
    deploy: bool = False

    @model_validator(mode="after")
    def _one_encoder(self) -> Self:
        if (self.encoder is None) == (self.backbone is None):
            raise ValueError("either `encoder` or `backbone` is given")
        return self

    def require(self, skeleton: Skeleton, where: str | Path) -> None:
        """InputError if the joints are not those of the skeleton, in its order."""
        if self.joints != skeleton.joints:
            raise InputError(
                where,
                f"weights are for {len(self.joints)} joints that are not those of {skeleton.name}",
                "train it for this joint set",
            )

    def prepare(self, images: Tensor) -> Tensor:
        """(n, S, S, 3) RGB, 0 … 255 -> (n, 3, S, S) float32 as the encoder takes it."""
        if self.backbone is not None:
            return self.backbone.prepare(images)
        if self.compat:
            images = images.flip(-1)
        return (images.float() / 255).clamp(0, 1).permute(0, 3, 1, 2)


class Seen(NamedTuple):
    """2D joints of n crops.

    Args:
        points_px: (n, J, 2) in crop pixels, with the lens.
        peak: (n, J) value of the heat map's peak, in (0, 1].
        features: (n, J, C) under the joints; None where the fusion takes none.
        heatmaps: (n, J, h, w): probabilities of MobileOne, raw maps of a shared backbone.
        offsets: (n, 2J, h, w) of MobileOne.
    """

    points_px: Tensor
    peak: Tensor
    features: Tensor | None
    heatmaps: Tensor
    offsets: Tensor | None


def sampled_features(features: Tensor, cells: Tensor) -> Tensor:
    """Features (n, C, h, w) at cells (n, J, 2) x and y, bilinear, zero outside: (n, J, C)."""
    height, width = features.shape[-2:]
    last = torch.tensor([width - 1, height - 1], dtype=cells.dtype, device=cells.device)
    grid = 2 * cells / last - 1
    sampled = functional.grid_sample(features, grid[:, :, None], mode="bilinear", align_corners=True)
    return sampled[..., 0].transpose(1, 2)


def decode_peaks(maps: Maps) -> tuple[Tensor, Tensor, Tensor]:
    """Largest cell of each heat map, the first of equal ones, plus the offset that stands there.

    Returns:
        cells (n, J, 2) x and y; peak (n, J); index of the cell (n, J), row by row. No gradient reaches a cell through
        the choice of the largest one.
    """
    width = maps.heatmaps.shape[-1]
    flat = maps.heatmaps.flatten(2)
    index = flat.argmax(dim=-1)
    peak = flat.gather(2, index[..., None])[..., 0]
    whole = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1)
    return whole + offsets_at(maps.offsets, index), peak, index


def offsets_at(offsets: Tensor, index: Tensor) -> Tensor:
    """Offsets (n, 2J, h, w) at a cell (n, J) of each joint: (n, J, 2)."""
    of_joints = offsets.flatten(2).unflatten(1, (-1, 2))
    return of_joints.gather(3, index[..., None, None].expand(-1, -1, 2, 1))[..., 0]


def rays(points_px: Tensor, peak: Tensor, K: Tensor) -> Tensor:
    """Rays (..., J, 4): x / z, y / z, 1, confidence, each view in the frame of its own camera.

    Args:
        points_px: (..., J, 2), the lens undone.
        peak: (..., J).
        K: (..., 3, 3) of the crops.
    """
    homogeneous = functional.pad(points_px, (0, 1), value=1.0)
    direction = homogeneous @ torch.linalg.inv(K.double()).to(points_px.dtype).transpose(-1, -2)
    return torch.cat([direction, peak[..., None]], dim=-1)


def _layers(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Fusion(nn.Module):
    """Rays and features of all views -> the pose about the root, in the frame of the first view.

    Args:
        joints: number of joints.
        views: number of views, whose order matters.
        features: channels of the features.
        sizes: sizes of the layers.
    """

    def __init__(self, joints: int, views: int, features: int, sizes: FusionSizes) -> None:
        super().__init__()
        self.features, self.unit_mm, self.ray_scale = features, sizes.unit_mm, sizes.ray_scale
        self.embed = _layers((4, *sizes.ray))
        self.pose0 = _layers((joints * (sizes.ray[-1] + features), *sizes.view))
        self.pose1 = _layers((views * sizes.view[-1], *sizes.pose, 3 * joints))

    def forward(self, rays: Tensor, features: Tensor | None = None) -> Tensor:
        """Rays (B, V, J, 4) and features (B, V, J, C), None for zeros -> (B, J, 3) mm."""
        if self.ray_scale != 1:
            rays = torch.cat([self.ray_scale * rays[..., :2], rays[..., 2:]], dim=-1)
        embedded = self.embed(rays)
        if self.features:
            if features is None:
                features = embedded.new_zeros((*embedded.shape[:-1], self.features))
            embedded = torch.cat([embedded, features], dim=-1)
        of_views = self.pose0(embedded.flatten(2))
        pose = self.pose1(of_views.flatten(1))
        return torch.as_tensor(self.unit_mm * pose.unflatten(1, (-1, 3)))


class Answer(NamedTuple):
    """Output of `RaysNet`; None for parts that were not computed."""

    seen: Seen | None
    pose_mm: Tensor | None


class RaysNet(nn.Module):
    """Encoder and fusion; tensors are ``backbone.*`` and ``fusion.*``, as in published weights.

    Args:
        architecture: architecture of encoder and fusion.
        backbone: the encoder; None: a fresh MobileOne.
    """

    def __init__(self, architecture: RaysArchitecture, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        arch = architecture
        if arch.encoder is not None:
            channels = arch.encoder.neck[-1]
            self.backbone = backbone or MobileOnePose(
                len(arch.joints), arch.encoder, compat=arch.compat, deploy=arch.deploy
            )
        elif arch.backbone is not None:
            self.backbone = backbone or arch.backbone.build(seed=0)
            channels = _feature_channels(self.backbone)
        self.fusion = Fusion(len(arch.joints), arch.views, channels if arch.features else 0, arch.fusion)

    def see(self, images: Tensor) -> Seen:
        """2D joints of crops (n, S, S, 3) RGB, 0 … 255."""
        arch = self.architecture
        prepared = arch.prepare(images)
        if arch.backbone is not None:
            out = arch.backbone.run(self.backbone, prepared)
            points, peak = decode_heatmaps(arch.backbone, out.heatmaps, "softargmax")
            cells = points * (out.features.shape[-1] / arch.crop_px)
            return Seen(points, peak, self._sampled(out.features.float(), cells), out.heatmaps, None)
        maps: Maps = self.backbone(prepared)
        cells, peak, _ = decode_peaks(maps)
        points = cells * (arch.crop_px / maps.heatmaps.shape[-1])
        return Seen(points, peak, self._sampled(maps.features, cells), maps.heatmaps, maps.offsets)

    def _sampled(self, features: Tensor, cells: Tensor) -> Tensor | None:
        return sampled_features(features, cells) if self.architecture.features else None

    def forward(
        self,
        images: Tensor | None = None,
        K: Tensor | None = None,
        given_rays: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Answer:
        """What the arguments allow.

        Args:
            images: (n, S, S, 3) RGB, 0 … 255: 2D joints; with ``K`` also poses.
            K: (B, V, 3, 3) of the crops, n = B V, sample by sample.
            given_rays: (B, V, J, 4) instead of images.
            features: (B, V, J, C) with them; None for zeros.
        """
        if given_rays is not None:
            return Answer(None, self.fusion(given_rays, features))
        if images is None:
            raise ValueError("images or rays are needed")
        seen = self.see(images)
        if K is None:
            return Answer(seen, None)
        views = K.shape[:2]
        of_views = rays(seen.points_px.unflatten(0, views), seen.peak.unflatten(0, views), K)
        return Answer(seen, self.fusion(of_views, None if seen.features is None else seen.features.unflatten(0, views)))


def _feature_channels(backbone: nn.Module) -> int:
    training = backbone.training
    with torch.no_grad():
        out: Any = backbone.eval()(torch.zeros(1, 3, 64, 64))
    backbone.train(training)
    return int(out.features.shape[1])
