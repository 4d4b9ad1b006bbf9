"""Network of volumetric triangulation: features of all views in one cube of voxels, 3D network, soft-argmax."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from poseboard.methods.base import Options, parse_options
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture, Precision
from poseboard.methods.nets.pose_resnet import VOLUME_CONFIDENCES
from poseboard.methods.nets.precision import bfloat16
from poseboard.methods.nets.soft_argmax import soft_argmax_3d
from poseboard.methods.volumetric.unprojection import Aggregation, centred, over_views, unproject, voxel_offsets
from poseboard.methods.volumetric.v2v import SHAPES, V2V

_EVIDENCE_FLOOR = 3e-4
"""Probability of a pixel with no evidence. Without this floor the logarithm would let one view overrule all others."""

_EVIDENCE_SCALE = 0.7
"""Initial weight of the evidence, below 1 because errors of views are correlated."""

_VOXELS_A_PASS = 2 * 64**3


class VolumetricArchitecture(Options):
    """Architecture options of a volumetric network and its cube, stored in a checkpoint.

    Args:
        backbone: architecture of the 2D network.
        aggregation: rule that combines the features of several views per voxel; see `unproject`.
        channels: number of channels of the projected features; 32 in the paper.
        volume_net: widths of the 3D network, a key of `v2v.SHAPES`.
        voxels: number of voxels per edge of the cube.
        cuboid_mm: length of the edges.
        multiplier: factor on the volumes before the soft-max.
        softmax: True: soft-max over a volume. False: ReLU as in the release, whose expected position is not normalised.
        evidence: ours, for small budgets. The projected features are one map per joint, initialised from the heat-map
            layer of the backbone. Their log-probabilities are unprojected, weighted by the view's confidence if the
            backbone has the head of algebraic triangulation. The sum over views is added to the output of the 3D
            network, so that the network only learns a correction.
        compat: sample feature maps as the release does; see `unproject`. Published weights depend on it.
        transfer: swap axes for a world with another up direction; see `voxel_offsets`.
        precision: precision of the 3D network's convolutions: "bf16" or "float32". Geometry and soft-argmax always run
            in float32 or float64.
    """

    backbone: Architecture
    aggregation: Aggregation = "softmax"
    channels: int = Field(default=VOLUME_CONFIDENCES, ge=1)
    volume_net: Literal["published", "small"] = "published"
    voxels: int = Field(default=64, ge=8)
    cuboid_mm: float = Field(default=2500.0, gt=0)
    multiplier: float = 1.0
    softmax: bool = True
    evidence: bool = False
    compat: bool = True
    transfer: bool = False
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _consistent(self) -> VolumetricArchitecture:
        divisor = SHAPES[self.volume_net].divisor
        if self.voxels % divisor:
            raise ValueError(f"voxels must be a multiple of {divisor} for the {self.volume_net} 3D network")
        if self.uses_confidences != self.backbone.vol_confidences:
            raise ValueError(f"aggregation {self.aggregation} does not match vol_confidences of the backbone")
        if self.uses_confidences and (self.channels != VOLUME_CONFIDENCES or self.backbone.network == "small"):
            raise ValueError(f"aggregation {self.aggregation} needs a ResNet and {VOLUME_CONFIDENCES} channels")
        if self.evidence and self.channels != len(self.backbone.joints):
            raise ValueError("evidence needs one channel per joint")
        return self

    @property
    def uses_confidences(self) -> bool:
        """Whether the aggregation uses the backbone's confidence head."""
        return self.aggregation in ("conf", "conf_norm")

    @classmethod
    def published(cls, network: str, joints: Sequence[str], aggregation: Aggregation) -> VolumetricArchitecture:
        """Architecture of the published configurations: crops of 384 px, 64 voxels along 2.5 m."""
        head = {"vol_confidences": aggregation in ("conf", "conf_norm")}
        return cls(backbone=Architecture.published(network, joints).model_copy(update=head), aggregation=aggregation)

    @classmethod
    def of(cls, checkpoint: Checkpoint, where: str | Path) -> VolumetricArchitecture:
        """Read the architecture of a checkpoint.

        Raises:
            InputError: the checkpoint has an architecture of another kind; the error names the file ``where``.
        """
        return parse_options(cls, checkpoint.architecture, f"{where}: architecture")

    @property
    def frames_a_pass(self) -> int:
        """Number of samples per forward pass in prediction: 2 with 64 voxels, 16 with 32."""
        return max(1, _VOXELS_A_PASS // self.voxels**3)


class Maps(NamedTuple):
    """Projected features of n crops.

    Args:
        features: (n, C, h, w) projected features.
        confidences: (n, C) in (0, 1); None without a confidence head.
    """

    features: Tensor
    confidences: Tensor | None


class Volumes(NamedTuple):
    """Predicted joints and volumes of B cubes.

    Args:
        joints_mm: (B, J, 3) float64 joints, world.
        probabilities: (B, J, N, N, N) probability of each voxel.
        offsets_mm: (B, N, N, N, 3) voxel positions relative to the centres of the cubes.
    """

    joints_mm: Tensor
    probabilities: Tensor
    offsets_mm: Tensor


class VolumetricTriangulation(nn.Module):
    """Network of a backbone, a projection of its features, and a 3D network. Tensors have the published names.

    Args:
        architecture: architecture of all three parts.
        backbone: network built from ``architecture.backbone``.
    """

    def __init__(self, architecture: VolumetricArchitecture, backbone: nn.Module) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = backbone
        heatmaps: nn.Conv2d = backbone.final_layer  # type: ignore[assignment]  # nn.Module types attributes loosely
        joints = len(architecture.backbone.joints)
        self.process_features = nn.Sequential(nn.Conv2d(heatmaps.in_channels, architecture.channels, 1))
        self.volume_net = V2V(architecture.channels, joints, SHAPES[architecture.volume_net])
        if architecture.evidence:
            self.evidence_scale = nn.Parameter(torch.full((joints,), _EVIDENCE_SCALE))
            self.process_features[0].load_state_dict(heatmaps.state_dict())
            nn.init.zeros_(self.volume_net.output_layer.weight)
        self.volume_net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # stubs lack the keyword
        self._frozen = False

    @classmethod
    def build(
        cls, architecture: VolumetricArchitecture, seed: int = 0, backbone: nn.Module | None = None
    ) -> VolumetricTriangulation:
        """Build the network with random weights that depend only on ``seed``; ``backbone`` keeps its weights."""
        backbone = architecture.backbone.build(seed) if backbone is None else backbone
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(architecture, backbone)

    def freeze_backbone(self) -> None:
        """Freeze weights and batch statistics of the backbone in training."""
        self._frozen = True
        self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> VolumetricTriangulation:
        """Set training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self._frozen:
            self.backbone.eval()
        return self

    def see(self, images: Tensor) -> Maps:
        """Compute projected features of normalised crops (n, 3, S, S)."""
        arch = self.architecture
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            out = arch.backbone.run(self.backbone, images)
        features = self.process_features(out.features.float())
        if arch.evidence:
            logits = arch.backbone.multiplier * features
            p = logits.flatten(2).softmax(dim=-1).view_as(logits)
            features = torch.log1p(p / _EVIDENCE_FLOOR)
        confidences = out.alg_confidences if arch.evidence else out.vol_confidences
        return Maps(features, None if confidences is None else confidences.float())

    def fill(self, maps: Maps, P: Tensor, valid: Tensor, base_mm: Tensor, turn: Tensor) -> Volumes:
        """Predict joints in the cubes of B samples from projected features. All other arguments: see `forward`."""
        arch = self.architecture
        height, width = maps.features.shape[-2:]
        scale = torch.tensor([width, height, arch.backbone.crop_px], dtype=P.dtype, device=P.device)
        small = centred(P * (scale / arch.backbone.crop_px)[:, None], base_mm).float()
        offsets = voxel_offsets(arch.cuboid_mm, arch.voxels, turn.float(), transfer=arch.transfer)
        features = maps.features
        if arch.evidence and maps.confidences is not None:
            views = valid.sum(dim=1, keepdim=True).expand_as(valid)[valid]
            features = features * (over_views(maps.confidences, valid) * views[:, None])[..., None, None]
        volumes = unproject(features, small, offsets, valid, arch.aggregation, maps.confidences, compat=arch.compat)
        with bfloat16(volumes.device.type, arch.precision == "bf16"):
            logits = self.volume_net(volumes)
        logits = logits.float()
        if arch.evidence:
            summed = volumes if arch.aggregation == "sum" else unproject(features, small, offsets, valid, "sum")
            logits = logits + self.evidence_scale[:, None, None, None] * summed
        joints_mm, p = soft_argmax_3d(logits, offsets, arch.multiplier, arch.softmax, unnormalised_relu=True)
        if not arch.softmax:  # the release sums world positions: the missing normalisation also scales the centre
            joints_mm = joints_mm + (p.flatten(2).sum(dim=-1, keepdim=True) - 1) * base_mm[:, None]
        return Volumes(joints_mm.double() + base_mm[:, None].double(), p, offsets)

    def forward(self, images: Tensor, P: Tensor, valid: Tensor, base_mm: Tensor, turn: Tensor) -> Volumes:
        """Predict the joints of B samples.

        Args:
            images: (n, 3, S, S) normalised crops, ordered by sample, then view.
            P: (B, V, 3, 4) float64 projection matrices, world mm to crop pixels.
            valid: (B, V) bool, whether the sample has this view; n values are True, at least one per sample.
            base_mm: (B, 3) float64 centres of the cubes, world.
            turn: (B, 3, 3) orientations of the cubes; see `voxel_offsets`.
        """
        return self.fill(self.see(images), P, valid, base_mm, turn)
