"""V2V: 3D encoder-decoder that computes one volume per joint from a volume of features.

Learnable triangulation (Iskakov et al., ICCV 2019, section 3.2 and release code), after Moon et al., *V2V-PoseNet*,
CVPR 2018. The tensors have the published names for all widths.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class V2VShape(NamedTuple):
    """Widths of a V2V network.

    Args:
        front: channels after the first convolution.
        kernel: side of the first convolution's kernel.
        residuals: residual blocks before the encoder; the first one maps ``front`` to ``width`` channels.
        width: channels at the full resolution.
        levels: channels after each halving of the resolution.
    """

    front: int
    kernel: int
    residuals: int
    width: int
    levels: tuple[int, ...]

    @property
    def divisor(self) -> int:
        """Number by which the sides of input volumes must be divisible."""
        return int(2 ** len(self.levels))


PUBLISHED = V2VShape(front=16, kernel=7, residuals=3, width=32, levels=(64, 128, 128, 128, 128))
"""The network of the paper: 11 M parameters for 17 joints."""

SMALL = V2VShape(front=16, kernel=3, residuals=1, width=16, levels=(32, 48, 48))
"""Ours, for volumes of 24 or 32 voxels on a CPU."""

_LEAST_BF16_SIDE = 3
"""Smaller volumes use float32: on volumes of 2 voxels PyTorch's bfloat16 gradient of 3x3x3 convolutions is wrong on a
CPU, even NaN."""

SHAPES = {"published": PUBLISHED, "small": SMALL}


class _Basic(nn.Module):
    """3D convolution, batch normalisation, ReLU."""

    def __init__(self, width_in: int, width_out: int, kernel: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv3d(width_in, width_out, kernel, padding=kernel // 2),
            nn.BatchNorm3d(width_out),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.block(x))


class _Residual(nn.Module):
    """Residual block of two 3x3x3 convolutions and a shortcut, with ReLU after the sum."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.res_branch = nn.Sequential(
            nn.Conv3d(width_in, width_out, 3, padding=1),
            nn.BatchNorm3d(width_out),
            nn.ReLU(inplace=True),
            nn.Conv3d(width_out, width_out, 3, padding=1),
            nn.BatchNorm3d(width_out),
        )
        self.skip_con = nn.Sequential()
        if width_in != width_out:
            self.skip_con = nn.Sequential(nn.Conv3d(width_in, width_out, 1), nn.BatchNorm3d(width_out))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.res_branch(x) + self.skip_con(x), inplace=True)


class _Up(nn.Module):
    """Transposed convolution that doubles the resolution, batch normalisation, ReLU."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ConvTranspose3d(width_in, width_out, 2, 2), nn.BatchNorm3d(width_out), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.block(x))


class _EncoderDecoder(nn.ModuleDict):
    """Hourglass network: the output of a residual block per level is added in the decoder."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        """Build the layers; ``widths`` are channels at the full resolution and after each halving."""
        super().__init__()
        self.depth = len(widths) - 1
        for level, (above, below) in enumerate(pairwise(widths), start=1):
            self[f"encoder_res{level}"] = _Residual(above, below)
            self[f"skip_res{level}"] = _Residual(above, above)
            self[f"decoder_res{level}"] = _Residual(below, below)
            self[f"decoder_upsample{level}"] = _Up(below, above)
        self["mid_res"] = _Residual(widths[-1], widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        return self._level(1, x)

    def _level(self, level: int, x: Tensor) -> Tensor:
        # Skip connection at this resolution, then half the resolution.
        kept = self[f"skip_res{level}"](x)
        x = functional.max_pool3d(x, 2)
        # The deepest volumes leave bfloat16, see `_LEAST_BF16_SIDE`.
        kind = x.device.type
        exact = min(x.shape[2:]) < _LEAST_BF16_SIDE
        with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind) and not exact):
            x = self[f"encoder_res{level}"](x.float() if exact else x)
            x = self._level(level + 1, x) if level < self.depth else self["mid_res"](x)
            x = self[f"decoder_res{level}"](x)
        # The sum is after the ReLU of the upsampling and has none itself.
        return torch.as_tensor(self[f"decoder_upsample{level}"](x) + kept)


class V2V(nn.Module):
    """3D network of volumetric triangulation.

    Args:
        channels: number of channels of the input volume.
        joints: number of output volumes.
        shape: widths of the network.
    """

    def __init__(self, channels: int, joints: int, shape: V2VShape = PUBLISHED) -> None:
        super().__init__()
        width = shape.width
        self.front_layers = nn.Sequential(
            _Basic(channels, shape.front, shape.kernel),
            _Residual(shape.front, width),
            *(_Residual(width, width) for _ in range(shape.residuals - 1)),
        )
        self.encoder_decoder = _EncoderDecoder((width, *shape.levels))
        self.back_layers = nn.Sequential(_Residual(width, width), _Basic(width, width, 1), _Basic(width, width, 1))
        self.output_layer = nn.Conv3d(width, joints, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, volumes: Tensor) -> Tensor:
        """Compute raw volumes (B, joints, a, b, c) from (B, channels, a, b, c), sides multiples of the divisor."""
        x = self.encoder_decoder(self.front_layers(volumes))
        return torch.as_tensor(self.output_layer(self.back_layers(x)))
