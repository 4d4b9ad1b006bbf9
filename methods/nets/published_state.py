"""State dicts of releases: which ResNet their tensors are of, and the whole state of a network of ours from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from poseboard.datasets.errors import InputError
from poseboard.methods.checkpoint import fitted_state
from poseboard.methods.nets.pose_resnet import BLOCKS


def resnet_name(state: Mapping[str, Tensor], file: Path) -> str:
    """Name of the ResNet whose blocks these are ("resnet50"); InputError if they are of none."""
    counts = [0, 0, 0, 0]
    for key in state:
        found = re.fullmatch(r"layer([1-4])\.(\d{1,3})\.conv1\.weight", key)
        if found:
            stage = int(found[1]) - 1
            counts[stage] = max(counts[stage], int(found[2]) + 1)
    bottleneck = "layer1.0.conv3.weight" in state
    for depth, blocks in BLOCKS.items():
        if tuple(counts) == blocks and bottleneck == (depth >= 50):
            return f"resnet{depth}"
    raise InputError(
        file,
        f"no PoseResNet: {counts} residual blocks in its stages",
        "whole models have keys backbone.…, the 2D backbone bare ones; check METHOD",
    )


def whole_state(template: nn.Module, state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """``state`` as the whole state of ``template``, in its precision; see `fitted_state`."""
    own = template.state_dict()
    return fitted_state(template, {key: own_copy(own.get(key), value) for key, value in state.items()}, file)


def own_copy(template: Tensor | None, value: Tensor) -> Tensor:
    """An own copy, float32 where the network is."""
    return value.clone() if template is None else value.to(template.dtype, copy=True)
