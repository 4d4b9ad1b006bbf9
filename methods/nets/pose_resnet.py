"""2D backbones that compute heat maps, features and confidences of crops.

`PoseResNet` is the simple-baselines network with the confidence heads of learnable triangulation (Iskakov et al., ICCV
2019, section 3 and release code). Its tensors have the published names, so that published weights load strictly.
`SmallPoseNet` is ours: 0.7 M parameters, trained in minutes on a CPU. Both return a `BackboneOutput`; maps have a
quarter of the crop's side.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Depth of a ResNet -> residual blocks in its four stages; 18 and 34 have basic blocks, the others bottlenecks."""

NETWORKS = ("small", *(f"resnet{depth}" for depth in BLOCKS))
"""Names that `build_backbone` knows."""

VOLUME_CONFIDENCES = 32
"""Outputs of the volumetric confidence head: one per channel of the processed features (release code)."""


class BackboneOutput(NamedTuple):
    """Output of a backbone for n crops (n, 3, S, S).

    Args:
        heatmaps: (n, J, S/4, S/4), raw: before multiplier and soft-max.
        features: (n, C, S/4, S/4).
        alg_confidences: (n, J) in (0, 1); None if the backbone has no such head.
        vol_confidences: (n, 32) in (0, 1); None if the backbone has no such head.
        deepest: (n, C', S/32, S/32) before any upsampling (S/16 of the small network).
    """

    heatmaps: Tensor
    features: Tensor
    alg_confidences: Tensor | None
    vol_confidences: Tensor | None
    deepest: Tensor


class _Residual(nn.Module):
    """Base class of residual blocks: the sum of a branch and a shortcut, then ReLU."""

    downsample: nn.Module | None

    def branch(self, x: Tensor) -> Tensor:
        """The block without its shortcut."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(self.branch(x) + shortcut)


def _shortcut(width_in: int, width_out: int, stride: int) -> nn.Module | None:
    if stride == 1 and width_in == width_out:
        return None
    return nn.Sequential(nn.Conv2d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm2d(width_out))


class BasicBlock(_Residual):
    """Residual block of two 3x3 convolutions; the first has the stride."""

    expansion = 1

    def __init__(self, width_in: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(width_in, planes, stride)

    def branch(self, x: Tensor) -> Tensor:
        """The block without its shortcut."""
        x = functional.relu(self.bn1(self.conv1(x)))
        return torch.as_tensor(self.bn2(self.conv2(x)))


class Bottleneck(_Residual):
    """Residual block of 1x1, 3x3 (with the stride) and 1x1 convolutions; the last one has four times the channels."""

    expansion = 4

    def __init__(self, width_in: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = _shortcut(width_in, 4 * planes, stride)

    def branch(self, x: Tensor) -> Tensor:
        """The block without its shortcut."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        return torch.as_tensor(self.bn3(self.conv3(x)))


def _stage(block: type[BasicBlock | Bottleneck], width_in: int, planes: int, count: int, stride: int) -> nn.Sequential:
    blocks = [block(width_in, planes, stride)]
    blocks += [block(planes * block.expansion, planes, 1) for _ in range(count - 1)]
    return nn.Sequential(*blocks)


class ConfidenceHead(nn.Module):
    """Head that computes confidences of a view from the deepest features, as in the release code.

    Layers: two convolutions with pooling before ReLU, mean over the map, three linear layers. The features must be at
    least 4x4, which needs crops of 128 px or more.
    """

    def __init__(self, width_in: int, outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(width_in, 512, 3, padding=1),
            nn.BatchNorm2d(512),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(512, 256, 3, padding=1),
            nn.BatchNorm2d(256),
            nn.MaxPool2d(2),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, outputs), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute confidences (n, outputs) in (0, 1) from features (n, width_in, h, w)."""
        return torch.as_tensor(self.head(self.features(x).mean(dim=(-2, -1))))


class PoseResNet(nn.Module):
    """Simple-baselines network: ResNet, three transposed convolutions, a 1x1 convolution to the heat maps.

    Args:
        depth: number of layers, a key of `BLOCKS`.
        joints: number of heat maps.
        alg_confidences: whether to add the confidence head of algebraic triangulation, with one output per joint.
        vol_confidences: whether to add the confidence head of volumetric triangulation, with 32 outputs.
    """

    def __init__(
        self, depth: int, joints: int, *, alg_confidences: bool = False, vol_confidences: bool = False
    ) -> None:
        super().__init__()
        block: type[BasicBlock | Bottleneck] = BasicBlock if depth < 50 else Bottleneck
        counts = BLOCKS[depth]
        widths = [planes * block.expansion for planes in (64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(block, 64, 64, counts[0], 1)
        self.layer2 = _stage(block, widths[0], 128, counts[1], 2)
        self.layer3 = _stage(block, widths[1], 256, counts[2], 2)
        self.layer4 = _stage(block, widths[2], 512, counts[3], 2)
        self.alg_confidences = ConfidenceHead(widths[3], joints) if alg_confidences else None
        self.vol_confidences = ConfidenceHead(widths[3], VOLUME_CONFIDENCES) if vol_confidences else None
        layers: list[nn.Module] = []
        # Each doubles the resolution: from S/32 to S/4.
        for width in (widths[3], 256, 256):
            layers += [nn.ConvTranspose2d(width, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(256, joints, 1)
        for module in (*self.deconv_layers, self.final_layer):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.001)  # simple baselines: maps start near zero

    def forward(self, images: Tensor) -> BackboneOutput:
        """Run the network on normalised crops (n, 3, S, S), S a multiple of 32."""
        x = self.maxpool(functional.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        alg = None if self.alg_confidences is None else self.alg_confidences(x)
        vol = None if self.vol_confidences is None else self.vol_confidences(x)
        features = self.deconv_layers(x)
        return BackboneOutput(self.final_layer(features), features, alg, vol, x)


class HeatmapConfidence(nn.Module):
    """Head that computes each joint's confidence from its heat map and features. Ours, for the small network.

    Inputs per joint: the log of the soft-max peak, the entropy and the spread of the map, the mean of the features
    weighted by the map, the mean of the features over the crop, and a learned vector. Maps and features are detached,
    so that training the confidences does not change the maps.
    """

    def __init__(self, joints: int, features: int, hidden: int = 64) -> None:
        super().__init__()
        self.joint = nn.Parameter(torch.zeros(joints, hidden))
        self.first = nn.Linear(2 * features + 3, hidden)
        self.last = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Sigmoid())

    def forward(self, heatmaps: Tensor, features: Tensor) -> Tensor:
        """Compute confidences (n, J) in (0, 1) from raw maps (n, J, h, w) and features (n, C, h, w)."""
        with torch.autocast(heatmaps.device.type, enabled=False):  # weights of a least-squares problem: float32
            return self._confidences(heatmaps.detach().float(), features.detach().flatten(2).float())

    def _confidences(self, heatmaps: Tensor, features: Tensor) -> Tensor:
        logits = heatmaps.flatten(2)
        # 1. Shape of each map: log peak, entropy, log variance of the position.
        log_p = logits.log_softmax(dim=-1)
        p = log_p.exp()
        height, width = heatmaps.shape[-2:]
        index = torch.arange(height * width, device=p.device)
        grid = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1).to(p)
        variance = (p @ grid.square() - (p @ grid).square()).sum(dim=-1)
        statistics = torch.stack(
            [log_p.amax(dim=-1), -(p * log_p).sum(dim=-1), variance.clamp(min=0).add(1e-6).log()], dim=-1
        )
        # 2. Features at the joint, and of the whole crop for the rest of the scene.
        under_map = p @ features.transpose(1, 2)
        whole = features.mean(dim=-1)[:, None].expand_as(under_map)
        # 3. One network for all joints; the vector of a joint is its bias.
        hidden = self.first(torch.cat([statistics, under_map, whole], dim=-1)) + self.joint
        return torch.as_tensor(self.last(hidden)[..., 0])


class SmallPoseNet(nn.Module):
    """Our small backbone: one, two and two residual blocks of 32, 64 and 128 channels, summed at 1/4 resolution.

    Layers at 1/4 resolution cost the most, so the network has few of them: a stem with half of the channels, one
    block, and a 1x1 convolution of the sum (README of the backbone).

    Args:
        joints: number of heat maps.
        alg_confidences: whether to add the confidence head of algebraic triangulation.
        width: channels of the first stage.
        features: channels of the feature maps.
    """

    def __init__(self, joints: int, *, alg_confidences: bool = False, width: int = 32, features: int = 48) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 2, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        widths = (width, 2 * width, 4 * width)
        self.stages = nn.ModuleList(
            _stage(BasicBlock, before, planes, blocks, stride)
            for before, planes, blocks, stride in zip((width, *widths), widths, (1, 2, 2), (1, 2, 2), strict=False)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(planes, features, 1, bias=False) for planes in widths)
        self.smooth = nn.Sequential(
            nn.BatchNorm2d(features),
            nn.ReLU(),
            nn.Conv2d(features, features, 1, bias=False),
            nn.BatchNorm2d(features),
            nn.ReLU(),
        )
        self.final_layer = nn.Conv2d(features, joints, 1)
        self.alg_confidences = HeatmapConfidence(joints, features) if alg_confidences else None

    def forward(self, images: Tensor) -> BackboneOutput:
        """Run the network on normalised crops (n, 3, S, S), S a multiple of 16."""
        x = self.stem(images)
        summed: Tensor | None = None
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            level = lateral(x)
            if summed is not None:
                level = functional.interpolate(level, size=summed.shape[-2:], mode="bilinear", align_corners=False)
            summed = level if summed is None else summed + level
        features = self.smooth(summed)
        heatmaps = self.final_layer(features)
        confidences = None if self.alg_confidences is None else self.alg_confidences(heatmaps, features)
        return BackboneOutput(heatmaps, features, confidences, None, x)


def build_backbone(
    network: str, joints: int, *, alg_confidences: bool = False, vol_confidences: bool = False
) -> PoseResNet | SmallPoseNet:
    """Build a backbone by its name, one of `NETWORKS`, with weights drawn from torch's random state.

    Example:
        >>> net = build_backbone("small", joints=17)
        >>> net(torch.zeros(1, 3, 96, 96)).heatmaps.shape
        torch.Size([1, 17, 24, 24])
    """
    if network == "small":
        if vol_confidences:
            raise ValueError("the small network has no volumetric confidence head")
        return SmallPoseNet(joints, alg_confidences=alg_confidences)
    depth = int(network.removeprefix("resnet"))
    return PoseResNet(depth, joints, alg_confidences=alg_confidences, vol_confidences=vol_confidences)
