"""Network that fuses the rays and features of all views into one pose.

It is the second version of the release of probabilistic triangulation (Jiang et al., ICCV 2023, code). It uses neither
camera poses nor triangulation; it learns camera arrangements from the training data.
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
    """Sizes of the fusion network. The defaults are the published sizes.

    Args:
        ray: output channels of the layers on each ray.
        view: output channels of the layers on each view.
        pose: output channels of the layers on all views, except the last layer.
        unit_mm: millimetres per unit of the output.
        ray_scale: factor on x / z and y / z before the first layer, because these are small numbers.
    """

    ray: tuple[int, ...] = Field(default=(1024, 512, 256, 128), min_length=1)
    view: tuple[int, ...] = Field(default=(1024, 512, 256, 256), min_length=1)
    pose: tuple[int, ...] = (1024, 512)
    unit_mm: float = Field(default=1.0, gt=0)
    ray_scale: float = Field(default=1.0, gt=0)


SMALL_FUSION = FusionSizes(ray=(32, 16), view=(256, 128), pose=(256,), unit_mm=300.0, ray_scale=6.0)
"""Sizes for a processor. In units of their size, rays and answers are learned from the first step on."""


class RaysArchitecture(Options):
    """Architecture options of the ray network, stored in a checkpoint.

    Args:
        joints: names of the joints, in order.
        views: number of views. The weights depend on it.
        crop_px: side of the crops.
        encoder: sizes of the MobileOne encoder; None: the encoder is ``backbone``.
        backbone: architecture of the shared 2D backbone; None: the encoder is MobileOne.
        fusion: sizes of the fusion network.
        features: whether the fusion network gets the image features at the joints.
        compat: use heads and colours of the release, see the README.
        whole_frames: crop from whole frames as the release does, instead of using the person crops of the benchmark.
            Default: True with ``compat``.
        deploy: whether MobileOne has one convolution per block, as exported. It cannot be trained then.
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
            raise ValueError("give either `encoder` or `backbone`, not both")
        return self

    def require(self, skeleton: Skeleton, where: str | Path) -> None:
        """Raise InputError unless the joints are those of the skeleton, in the same order."""
        if self.joints != skeleton.joints:
            raise InputError(
                where,
                f"weights are for {len(self.joints)} joints that are not those of {skeleton.name}",
                "train it for this joint set",
            )

    def prepare(self, images: Tensor) -> Tensor:
        """Convert crops (n, S, S, 3) RGB, 0 … 255, to the input of the encoder (n, 3, S, S) float32."""
        if self.backbone is not None:
            return self.backbone.prepare(images)
        if self.compat:
            images = images.flip(-1)
        return (images.float() / 255).clamp(0, 1).permute(0, 3, 1, 2)


class Seen(NamedTuple):
    """2D joints of n crops, with features and maps.

    Args:
        points_px: (n, J, 2) (distorted) crop pixels.
        peak: (n, J) value of the heat map's peak, in (0, 1].
        features: (n, J, C) features at the joints; None if the fusion network does not use them.
        heatmaps: (n, J, h, w) probabilities (MobileOne) or raw maps (shared backbone).
        offsets: (n, 2J, h, w) offsets of MobileOne in cells; None for a shared backbone.
    """

    points_px: Tensor
    peak: Tensor
    features: Tensor | None
    heatmaps: Tensor
    offsets: Tensor | None


def sampled_features(features: Tensor, cells: Tensor) -> Tensor:
    """Bilinear samples (n, J, C) of features (n, C, h, w) at cells (x, y) (n, J, 2); zero outside the map."""
    height, width = features.shape[-2:]
    last = torch.tensor([width - 1, height - 1], dtype=cells.dtype, device=cells.device)
    grid = 2 * cells / last - 1
    sampled = functional.grid_sample(features, grid[:, :, None], mode="bilinear", align_corners=True)
    return sampled[..., 0].transpose(1, 2)


def decode_peaks(maps: Maps) -> tuple[Tensor, Tensor, Tensor]:
    """Decode each joint as the argmax of its heat map plus the predicted offset at that cell.

    Returns:
        Positions (n, J, 2), x and y in cells; values of the heat maps at the argmax (n, J); and flat row-major indices
        of the argmax (n, J), the first of equal cells. The argmax has no gradient.
    """
    width = maps.heatmaps.shape[-1]
    flat = maps.heatmaps.flatten(2)
    index = flat.argmax(dim=-1)
    peak = flat.gather(2, index[..., None])[..., 0]
    whole = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1)
    return whole + offsets_at(maps.offsets, index), peak, index


def offsets_at(offsets: Tensor, index: Tensor) -> Tensor:
    """Read offsets (n, 2J, h, w) at one cell (n, J) of each joint: (n, J, 2)."""
    of_joints = offsets.flatten(2).unflatten(1, (-1, 2))
    return of_joints.gather(3, index[..., None, None].expand(-1, -1, 2, 1))[..., 0]


def rays(points_px: Tensor, peak: Tensor, K: Tensor) -> Tensor:
    """Rays (..., J, 4) of joints in camera frames: x / z, y / z, 1, confidence.

    Args:
        points_px: (..., J, 2) undistorted crop pixels.
        peak: (..., J) peaks of the heat maps, from which confidences are computed.
        K: (..., 3, 3) intrinsics of the crops.
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
    """Network that predicts the root-relative pose in the first view's frame from rays and features of all views.

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
        """Predict poses (B, J, 3), mm, from rays (B, V, J, 4) and features (B, V, J, C); None: features of zero."""
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
    """Output of `RaysNet`: 2D joints, and poses (B, J, 3) in mm. Parts that were not computed are None."""

    seen: Seen | None
    pose_mm: Tensor | None


class RaysNet(nn.Module):
    """Network of encoder (``backbone.*``) and fusion (``fusion.*``), with the tensor names of published weights.

    Args:
        architecture: architecture of encoder and fusion.
        backbone: the encoder; None: MobileOne with random weights.
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
        """Detect 2D joints in crops (n, S, S, 3) RGB, 0 … 255."""
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
        """Predict 2D joints from images, poses from images and ``K``, or poses from rays.

        Args:
            images: (n, S, S, 3) RGB, 0 … 255, ordered by sample, then view; n = B V.
            K: (B, V, 3, 3) intrinsics of the crops; None: predict only 2D joints.
            given_rays: (B, V, J, 4) rays to use instead of images.
            features: (B, V, J, C) features for ``given_rays``; None: zeros.
        """
        if given_rays is not None:
            return Answer(None, self.fusion(given_rays, features))
        if images is None:
            raise ValueError("give images or given_rays")
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
