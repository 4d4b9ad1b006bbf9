"""MobileOne with a neck and two heads, which computes heat maps, offsets and features of crops.

This is MobileOne (Vasu et al., CVPR 2023) as in the release of probabilistic triangulation (Jiang et al., ICCV 2023,
second version). In training a block is a sum of branches. For prediction, `folded` replaces the branches by one
convolution with equal outputs. Tensors have the published names in both forms.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from poseboard.methods.base import Options

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class EncoderSizes(Options):
    """Sizes of the encoder. The defaults are those of MobileOne-S4 with the published neck.

    Args:
        channels: channels of the five stages.
        pairs: number of pairs of a depthwise and a pointwise block in stages 1 to 4.
        excited: number of pairs with squeeze-and-excitation in stages 1 to 4, counted from the last pair.
        neck: channels after the last two pairs of the neck. The last number is the number of feature channels.
    """

    channels: tuple[int, int, int, int, int] = (64, 192, 448, 896, 2048)
    pairs: tuple[int, int, int, int] = (2, 8, 10, 1)
    excited: tuple[int, int, int, int] = (0, 0, 5, 1)
    neck: tuple[int, int] = (256, 128)


SMALL = EncoderSizes(channels=(16, 24, 48, 96, 128), pairs=(1, 2, 3, 1), excited=(0, 0, 1, 1), neck=(48, 48))
"""Sizes for a processor."""


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: weights each channel by a function of the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, max(1, channels // 16), 1)
        self.expand = nn.Conv2d(max(1, channels // 16), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weight the channels of maps (n, C, h, w)."""
        weights = functional.relu(self.reduce(x.mean(dim=(-2, -1), keepdim=True)))
        return x * torch.sigmoid(self.expand(weights))


class _Branch(nn.Module):
    """Branch of a block: a convolution without bias, and batch normalisation."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int, padding: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width_out, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(width_out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.bn(self.conv(x)))


class MobileOneBlock(nn.Module):
    """MobileOne block: the normalised sum of convolution branches, a 1x1 branch and the input, then ReLU.

    Args:
        width_in: channels of the input.
        width_out: channels of the output.
        kernel: side k of the convolution. If k > 1, the block also has a 1x1 branch.
        stride: stride of the convolution.
        groups: number of groups of the convolution.
        branches: number of k x k branches.
        excite: whether squeeze-and-excitation comes before the ReLU.
        linear: whether to omit the ReLU.
        deploy: whether the block has one convolution instead of branches.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        branches: int = 1,
        excite: bool = False,
        linear: bool = False,
        deploy: bool = False,
    ) -> None:
        super().__init__()
        self._shape = (width_in, width_out, kernel, stride, kernel // 2, groups)
        self.linear = linear
        self.se = SqueezeExcite(width_out) if excite else None
        self.reparam_conv: nn.Conv2d | None = None
        self.rbr_skip: nn.BatchNorm2d | None = None
        self.rbr_conv: nn.ModuleList | None = None
        self.rbr_scale: _Branch | None = None
        if deploy:
            self.reparam_conv = self._convolution()
            return
        if width_in == width_out and stride == 1:
            self.rbr_skip = nn.BatchNorm2d(width_in)
        self.rbr_conv = nn.ModuleList(_Branch(*self._shape) for _ in range(branches))
        if kernel > 1:
            self.rbr_scale = _Branch(width_in, width_out, 1, stride, 0, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map features (n, width_in, h, w) to (n, width_out, h / stride, w / stride)."""
        if self.reparam_conv is not None:
            y: Tensor = self.reparam_conv(x)
        else:
            y = sum((branch(x) for branch in self._branches()), torch.zeros((), dtype=x.dtype, device=x.device))
        if self.se is not None:
            y = self.se(y)
        return y if self.linear else functional.relu(y)

    @torch.no_grad()
    def fused(self) -> tuple[Tensor, Tensor]:
        """Kernel and bias of the single convolution that equals the sum of branches in evaluation mode."""
        width_in, width_out, kernel, _, _, groups = self._shape
        if self.reparam_conv is not None and self.reparam_conv.bias is not None:
            return self.reparam_conv.weight, self.reparam_conv.bias
        kernels: list[Tensor] = []
        bias = torch.zeros(width_out)
        for branch in self._branches():
            norm = branch.bn if isinstance(branch, _Branch) else branch
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            bias = bias.to(scale) + norm.bias - norm.running_mean * scale
            if isinstance(branch, _Branch):
                weight = branch.conv.weight * scale[:, None, None, None]
                margin = (kernel - weight.shape[-1]) // 2
                kernels.append(functional.pad(weight, [margin] * 4) if margin else weight)
                continue
            index = torch.arange(width_out, device=scale.device)
            identity = torch.zeros(width_out, width_in // groups, kernel, kernel, device=scale.device)
            identity[index, index % (width_in // groups), kernel // 2, kernel // 2] = scale
            kernels.append(identity)
        whole = kernels[0]
        for part in kernels[1:]:
            whole = whole.add_(part)
        return whole, bias

    def fold(self) -> None:
        """Replace the branches by a single convolution."""
        if self.reparam_conv is not None:
            return
        kernel, bias = self.fused()
        with torch.device("meta"):
            convolution = self._convolution()
        convolution.load_state_dict({"weight": kernel, "bias": bias}, assign=True)
        self.reparam_conv = convolution
        self.rbr_skip = self.rbr_conv = self.rbr_scale = None

    def _convolution(self) -> nn.Conv2d:
        width_in, width_out, kernel, stride, padding, groups = self._shape
        return nn.Conv2d(width_in, width_out, kernel, stride, padding, groups=groups)

    def _branches(self) -> list[_Branch | nn.BatchNorm2d]:
        parts = [*(self.rbr_conv or ()), self.rbr_scale, self.rbr_skip]
        return [part for part in parts if isinstance(part, _Branch | nn.BatchNorm2d)]


class _Pair(nn.Module):
    """Pair of a dense 3x3 block and a 1x1 block, which changes the number of channels."""

    def __init__(self, width_in: int, width_out: int, *, deploy: bool, linear: bool = False) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            MobileOneBlock(width_in, width_in, 3, deploy=deploy),
            MobileOneBlock(width_in, width_out, 1, deploy=deploy, linear=linear),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.convs(x))

    def shift(self) -> Tensor:
        """Bias of each output channel of an unfolded pair."""
        shift: Tensor = self.get_parameter("convs.1.rbr_conv.0.bn.bias")
        return shift


class Maps(NamedTuple):
    """Output of MobileOne for n crops (n, 3, S, S).

    Args:
        heatmaps: (n, J, S/4, S/4) probabilities.
        offsets: (n, 2J, S/4, S/4) offsets in cells; channel 2j is x of joint j, channel 2j + 1 is y.
        features: (n, C, S/4, S/4) features.
    """

    heatmaps: Tensor
    offsets: Tensor
    features: Tensor


class MobileOnePose(nn.Module):
    """MobileOne with a neck and heads for heat maps and offsets.

    Args:
        joints: number of heat maps.
        sizes: sizes of the layers.
        compat: True: heads of the release. Both end in ReLU, so that no offset is negative, and probabilities are a
            soft-max over the joints of each cell. False: linear heads, with a sigmoid for probabilities.
        deploy: whether each block has one convolution instead of branches.
    """

    def __init__(self, joints: int, sizes: EncoderSizes, *, compat: bool = False, deploy: bool = False) -> None:
        super().__init__()
        self.compat = compat
        self.frozen = False
        first, *widths = sizes.channels
        self.stage0 = MobileOneBlock(3, first, 3, stride=2, deploy=deploy)
        before, stages = first, []
        for width, pairs, excited in zip(widths, sizes.pairs, sizes.excited, strict=True):
            stages.append(_stage(before, width, pairs, excited, deploy=deploy))
            before = width
        self.stage1, self.stage2, self.stage3, self.stage4 = stages
        middle, features = sizes.neck
        self.upstage = nn.ModuleDict(
            {
                "proj4": nn.Sequential(_Pair(widths[3], widths[2], deploy=deploy)),
                "proj3": nn.Sequential(_Pair(widths[2], widths[1], deploy=deploy)),
                "proj2": nn.Sequential(_Pair(widths[1], widths[0], deploy=deploy)),
                "proj1": nn.Sequential(_Pair(widths[0], middle, deploy=deploy), _Pair(middle, features, deploy=deploy)),
            }
        )
        heat = _Pair(features, joints, deploy=deploy, linear=not compat)
        self.hm_head = nn.Sequential(heat)
        self.reg_head = nn.Sequential(_Pair(features, 2 * joints, deploy=deploy, linear=not compat))
        if not compat and not deploy:
            # Few cells show a joint: probabilities start near 0.1, as focal losses need it (Lin et al., ICCV 2017).
            nn.init.constant_(heat.shift(), -2.19)

    def stages(self) -> list[nn.Module]:
        """Stages of MobileOne, without neck and heads."""
        return [self.stage0, self.stage1, self.stage2, self.stage3, self.stage4]

    def freeze_stages(self) -> None:
        """Freeze the weights of the stages and keep these in evaluation mode.

        With ``compat``, the statistics of their batch normalisation still change in training, as in the release.
        """
        self.frozen = True
        for stage in self.stages():
            stage.requires_grad_(False)

    def train(self, mode: bool = True) -> MobileOnePose:
        """Set training or evaluation mode; frozen stages stay in evaluation mode, see `freeze_stages`."""
        super().train(mode)
        if self.frozen and not self.compat:
            for stage in self.stages():
                stage.eval()
        return self

    def forward(self, images: Tensor) -> Maps:
        """Run the network on crops (n, 3, H, W) with values in [0, 1]; H and W are multiples of 32."""
        levels = []
        # With three channels in channels-last order, the gradient of a 1x1 convolution of stride 2 writes beside its
        # memory (oneDNN of torch 2.13).
        x = self.stage0(images.contiguous())
        for stage in (self.stage1, self.stage2, self.stage3):
            x = stage(x)
            levels.append(x)
        x = self.stage4(x)
        for name, level in zip(("proj4", "proj3", "proj2"), reversed(levels), strict=True):
            x = level + functional.interpolate(
                self.upstage[name](x), scale_factor=2, mode="bilinear", align_corners=True
            )
        features = self.upstage["proj1"](x)
        logits = self.hm_head(features)
        heatmaps = logits.softmax(dim=1) if self.compat else torch.sigmoid(logits)
        return Maps(heatmaps, self.reg_head(features), features)


def _stage(width_in: int, width_out: int, pairs: int, excited: int, *, deploy: bool) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for i in range(pairs):
        excite, before = i >= pairs - excited, width_in if i == 0 else width_out
        blocks += [
            MobileOneBlock(before, before, 3, stride=2 if i == 0 else 1, groups=before, excite=excite, deploy=deploy),
            MobileOneBlock(before, width_out, 1, excite=excite, deploy=deploy),
        ]
    return nn.Sequential(*blocks)


def folded(network: ModuleT) -> ModuleT:
    """Copy of a network for prediction, with one convolution per block and equal outputs up to rounding.

    Example:
        >>> network = MobileOnePose(17, SMALL).eval()
        >>> "stage0.reparam_conv.weight" in folded(network).state_dict()
        True
    """
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, MobileOneBlock):
            module.fold()
    return network
