"""Batch normalisation folded into the convolutions before it, for prediction."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
"""Names under which modules other than a sequence keep a convolution and what normalises it."""


def folded(network: ModuleT) -> ModuleT:
    """Copy a network with its batch normalisations folded into convolutions.

    The copy is faster, gives equal outputs up to rounding and cannot be trained.

    Args:
        network: network in evaluation mode.

    Example:
        >>> predicting = folded(network.eval())
    """
    network = copy.deepcopy(network)
    for module in network.modules():
        children = dict(module.named_children())
        names = list(children)
        pairs = list(pairwise(names)) if isinstance(module, nn.Sequential) else _PAIRS
        for convolution, norm in pairs:
            first, second = children.get(convolution), children.get(norm)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, convolution, fuse_conv_bn_eval(first, second))
                setattr(module, norm, nn.Identity())
    return network
