"""The network: where in the crop the root is, and a factor on the prior of its distance.

RootNet (Moon et al., ICCV 2019, section 6 and release code). A 2D backbone with one heat map; its deepest features give
the factor gamma, and the depth is gamma times k. "resnet50" is the published network, "small" ours.
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
    """What a trained network is.

    Args:
        backbone: its 2D part, with one heat map. Its precision is that of training.
        raw_input: images enter as 0 … 255, and not 0 … 1, before the mean is subtracted and the deviation divided by:
            a mistake of the release that its weights depend on (compat).
        whole_frames: crops are taken of whole frames by the release's rules; else they come from the hand-over.
    """

    backbone: Architecture
    raw_input: bool = False
    whole_frames: bool = False

    def prepare(self, images: Tensor) -> Tensor:
        """(n, S, S, 3) RGB, 0 … 255 -> (n, 3, S, S) float32, normalised."""
        return self.backbone.prepare(images.float() * 255 if self.raw_input else images)

    def plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return self.model_dump(mode="json")


class Root(NamedTuple):
    """What the network answers for n crops.

    Args:
        cells: (n, 2) x, y in cells of the heat map.
        depth_mm: (n,).
        gamma: (n,) the factor on k.
        heatmaps: (n, h, w) after the soft-max.
    """

    cells: Tensor
    depth_mm: Tensor
    gamma: Tensor
    heatmaps: Tensor

    @property
    def coordinates(self) -> Tensor:
        """(n, 3): x, y in cells, and the depth in mm."""
        return torch.cat([self.cells, self.depth_mm[:, None]], dim=1)

    @property
    def share(self) -> Tensor:
        """(n, 2): where in the crop the root is, as shares of its sides."""
        height, width = self.heatmaps.shape[-2:]
        return self.cells / torch.tensor([width, height], device=self.cells.device)


class RootNet(nn.Module):
    """The network.

    Args:
        architecture: architecture of the network.
        backbone: with its weights; its heat map is of the root.
        gamma: where the factor starts: 0 as published, or near what it comes to.
    """

    def __init__(self, architecture: RootArchitecture, backbone: nn.Module, gamma: float = 0.0) -> None:
        super().__init__()
        if architecture.backbone.joints != JOINTS:
            raise InputError("rootnet", "its backbone has one heat map, of the root", f"joints: {JOINTS}")
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
        """Normalised crops (n, 3, S, S) and k (n,) mm."""
        out = self.architecture.backbone.run(self.backbone, images)
        cells, heatmaps = soft_argmax_2d(out.heatmaps[:, 0])
        pooled = out.deepest.float().mean(dim=(-2, -1), keepdim=True)
        gamma = self.depth_layer(pooled).flatten()
        return Root(cells, gamma * k_mm, gamma, heatmaps)


def coordinate_loss(found: Tensor, target: Tensor, visible: Tensor, has_depth: Tensor) -> Tensor:
    """Loss of each crop, (n,): absolute errors of cells and depth, a third of their sum.

    Release code: depth counts in mm beside cells, and the sum is divided by three without a depth, too. ``visible`` is
    a plain factor.

    Args:
        found: (n, 3) x, y in cells and depth in mm.
        target: (n, 3) likewise.
        visible: (n, 1).
        has_depth: (n, 1) 0 where the target's depth is not known.
    """
    errors = (found - target).abs() * visible
    return (errors[:, :2].sum(dim=1) + errors[:, 2] * has_depth[:, 0]) / 3


Loss = Literal["coordinates", "gamma"]


def gamma_loss(root: Root, target: Tensor, k_mm: Tensor, visible: Tensor, has_depth: Tensor, weight: float) -> Tensor:
    """Loss of each crop, (n,), in which near and far people count alike: cells, and the error of gamma.

    Args:
        root: answered.
        target: (n, 3) x, y in cells and depth in mm.
        k_mm: (n,).
        visible: (n, 1).
        has_depth: (n, 1).
        weight: cells that an error of 1 in gamma stands for.
    """
    cells = (root.cells - target[:, :2]).abs().sum(dim=1)
    gamma = (root.gamma - target[:, 2] / k_mm).abs()
    return (cells + weight * gamma * has_depth[:, 0]) * visible[:, 0]
