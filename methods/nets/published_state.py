"""State dicts of releases: the ResNet that their tensors belong to, and the state of our network made from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from poseboard.datasets.errors import InputError
from poseboard.methods.checkpoint import fitted_state, strip_prefix
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.pose_resnet import BLOCKS

CropSide = Annotated[int, Field(ge=32)]
"""Side of the crops that a published network saw, where its file does not say it, px."""


def resnet_name(state: Mapping[str, Tensor], file: Path) -> str:
    """Name of the ResNet with these residual blocks ("resnet50"); InputError if there is none."""
    counts = [0, 0, 0, 0]
    for key in state:
        match = re.fullmatch(r"layer([1-4])\.(\d{1,3})\.conv1\.weight", key)
        if match:
            stage = int(match[1]) - 1
            counts[stage] = max(counts[stage], int(match[2]) + 1)
    bottleneck = "layer1.0.conv3.weight" in state
    for depth, blocks in BLOCKS.items():
        if tuple(counts) == blocks and bottleneck == (depth >= 50):
            return f"resnet{depth}"
    raise InputError(
        file,
        f"no PoseResNet: {counts} residual blocks in its stages",
        "whole models have keys backbone.…, the 2D backbone bare ones; check METHOD",
    )


def published_backbone(
    state: Mapping[str, Tensor], file: Path, joints: tuple[str, ...], *, alg_confidences: bool = False
) -> tuple[Architecture, dict[str, Tensor]]:
    """A 2D backbone of learnable triangulation's release and its complete state, from keys ``backbone.…``.

    Args:
        state: state dict of the file.
        file: path of the file, named in errors.
        joints: names of the heat maps in order.
        alg_confidences: with the confidence head of algebraic triangulation.

    Returns:
        Architecture of the backbone, and its tensors (keys with the prefix).

    Raises:
        InputError: the file is not a PoseResNet, or keys are missing, unexpected or of another shape.
    """
    network = resnet_name(strip_prefix(state, "backbone."), file)
    architecture = Architecture.published(network, joints, alg_confidences=alg_confidences)
    with torch.device("meta"):
        template = nn.ModuleDict({"backbone": architecture.build(seed=0)})
    return architecture, whole_state(template, state, file)


def whole_state(template: nn.Module, state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """``state`` as the complete state of ``template``, in its precision; see `fitted_state`."""
    own = template.state_dict()
    return fitted_state(template, {key: own_copy(own.get(key), value) for key, value in state.items()}, file)


def own_copy(template: Tensor | None, value: Tensor) -> Tensor:
    """A copy of ``value`` with the type of ``template``."""
    return value.clone() if template is None else value.to(template.dtype, copy=True)
