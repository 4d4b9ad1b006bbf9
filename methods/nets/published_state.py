"""Conversion of published state dicts: detecting the ResNet and building the state of our network."""

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
    """Name of the ResNet of a state dict, such as "resnet50"; InputError if its blocks match no ResNet."""
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
        f"is not a PoseResNet: its stages have {counts} residual blocks",
        "check METHOD: whole models have keys backbone.…, a 2D backbone has keys without prefix",
    )


def published_backbone(
    state: Mapping[str, Tensor], file: Path, joints: tuple[str, ...], *, alg_confidences: bool = False
) -> tuple[Architecture, dict[str, Tensor]]:
    """Extract the 2D backbone of a model of learnable triangulation's release, whose keys are ``backbone.…``.

    Args:
        state: state dict of the file.
        file: path of the file, named in errors.
        joints: names of the heat maps in order.
        alg_confidences: whether the model has the confidence head of algebraic triangulation.

    Returns:
        Architecture of the backbone, and its complete state with the prefix in the keys.

    Raises:
        InputError: the file is not a PoseResNet, or its keys or shapes do not match the network.
    """
    network = resnet_name(strip_prefix(state, "backbone."), file)
    architecture = Architecture.published(network, joints, alg_confidences=alg_confidences)
    with torch.device("meta"):
        template = nn.ModuleDict({"backbone": architecture.build(seed=0)})
    return architecture, whole_state(template, state, file)


def whole_state(template: nn.Module, state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Check that ``state`` is complete for ``template`` (see `fitted_state`), and return it in its precision."""
    own = template.state_dict()
    return fitted_state(template, {key: own_copy(own.get(key), value) for key, value in state.items()}, file)


def own_copy(template: Tensor | None, value: Tensor) -> Tensor:
    """Copy of ``value`` with the dtype of ``template``, if it is not None."""
    return value.clone() if template is None else value.to(template.dtype, copy=True)
