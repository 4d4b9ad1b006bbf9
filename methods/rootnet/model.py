"""Network that predicts the root's position in the crop and a factor on the prior of its distance.

RootNet (Moon et al., ICCV 2019, section 6 and release code) is a 2D backbone with one heat map. Its deepest features
give the factor gamma, and the depth is gamma times k. "resnet50" is the published network, "small" is ours.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from poseboard.datasets.errors import InputError
from poseboard.methods.base import Options
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.soft_argmax import soft_argmax_2d

JOINTS = ("root",)
"""Of the one heat map."""


class RootArchitecture(Options):
    """Architecture options of RootNet, stored in its checkpoint.

    Args:
        backbone: architecture of the 2D backbone with one heat map. Its precision applies to training.
        raw_input: feed images as 0 … 255 instead of 0 … 1 before normalisation. This reproduces a mistake of the
            release, and its weights depend on it (compat).
        whole_frames: crop from whole frames as the release does, instead of using the person crops of the benchmark.
    """

    backbone: Architecture
    raw_input: bool = False
    whole_frames: bool = False

    def prepare(self, images: Tensor) -> Tensor:
        """Normalise crops (n, S, S, 3) RGB, 0 … 255, to (n, 3, S, S) float32."""
        return self.backbone.prepare(images.float() * 255 if self.raw_input else images)

    def plain(self) -> dict[str, Any]:
        """Plain values (numbers, strings, lists, dicts), as a checkpoint stores them."""
        return self.model_dump(mode="json")


class Root(NamedTuple):
    """Output of RootNet for n crops.

    Args:
        cells: (n, 2) root position (x, y) in cells of the heat map.
        depth_mm: (n,) depth of the root.
        gamma: (n,) factor on the distance prior k.
        heatmaps: (n, h, w) heat maps after soft-max.
    """

    cells: Tensor
    depth_mm: Tensor
    gamma: Tensor
    heatmaps: Tensor

    @property
    def coordinates(self) -> Tensor:
        """Root coordinates (n, 3): x and y in cells, and depth in mm."""
        return torch.cat([self.cells, self.depth_mm[:, None]], dim=1)

    @property
    def share(self) -> Tensor:
        """Root position (n, 2) in the crop, as shares of its sides."""
        height, width = self.heatmaps.shape[-2:]
        return self.cells / torch.tensor([width, height], device=self.cells.device)


class RootNet(nn.Module):
    """RootNet: a backbone with the heat map of the root, and a head that predicts the factor gamma.

    Args:
        architecture: architecture of the network.
        backbone: network built from ``architecture.backbone``. Its heat map is that of the root.
        gamma: initial value of the factor: 0 as published, or a value near the final one.
    """

    def __init__(self, architecture: RootArchitecture, backbone: nn.Module, gamma: float = 0.0) -> None:
        super().__init__()
        if architecture.backbone.joints != JOINTS:
            problem = f"is {architecture.backbone.joints}, but RootNet predicts the root only"
            raise InputError("rootnet: backbone.joints", problem, f"set joints to {JOINTS}")
        self.architecture = architecture
        self.backbone = backbone
        with torch.no_grad():
            probe = torch.zeros(1, 3, 64, 64)
            training = backbone.training
            width = backbone.eval()(probe).deepest.shape[1]
            backbone.train(training)
        self.depth_layer = nn.Conv2d(width, 1, 1)
        nn.init.normal_(self.depth_layer.weight, std=0.001)
        nn.init.constant_(self.depth_layer.bias, gamma)  # type: ignore[arg-type]  # a convolution with a bias

    def forward(self, images: Tensor, k_mm: Tensor) -> Root:
        """Predict roots from normalised crops (n, 3, S, S) and distance priors k (n,) mm."""
        out = self.architecture.backbone.run(self.backbone, images)
        cells, heatmaps = soft_argmax_2d(out.heatmaps[:, 0])
        pooled = out.deepest.float().mean(dim=(-2, -1), keepdim=True)
        gamma = self.depth_layer(pooled).flatten()
        return Root(cells, gamma * k_mm, gamma, heatmaps)


def coordinate_loss(found: Tensor, target: Tensor, visible: Tensor, has_depth: Tensor) -> Tensor:
    """Loss (n,) of each crop, as in the release code: a third of the summed absolute errors of x, y and depth.

    The error of x and y is in cells, that of depth in mm. The sum is divided by three even if the depth is unknown.

    Args:
        found: (n, 3) predicted x and y in cells, and depth in mm.
        target: (n, 3) true x and y in cells, and depth in mm.
        visible: (n, 1) factor on the loss, 1 for visible roots and else 0.
        has_depth: (n, 1) 1 if the true depth is known, else 0.
    """
    errors = (found - target).abs() * visible
    return (errors[:, :2].sum(dim=1) + errors[:, 2] * has_depth[:, 0]) / 3


Loss = Literal["coordinates", "gamma"]


def gamma_loss(root: Root, target: Tensor, k_mm: Tensor, visible: Tensor, has_depth: Tensor, weight: float) -> Tensor:
    """Loss (n,) of each crop from absolute errors of x and y in cells and of gamma. Ours.

    Unlike the error of depth, the error of gamma does not grow with the distance of a person.

    Args:
        root: output of the network.
        target: (n, 3) true x and y in cells, and depth in mm.
        k_mm: (n,) distance priors.
        visible: (n, 1) factor on the loss, 1 for visible roots and else 0.
        has_depth: (n, 1) 1 if the true depth is known, else 0.
        weight: weight of the error of gamma, in cells.
    """
    cells = (root.cells - target[:, :2]).abs().sum(dim=1)
    gamma = (root.gamma - target[:, 2] / k_mm).abs()
    return (cells + weight * gamma * has_depth[:, 0]) * visible[:, 0]
