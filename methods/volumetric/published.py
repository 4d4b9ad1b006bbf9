"""Published weights of volumetric triangulation (Iskakov et al., ICCV 2019), one variant per aggregation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from poseboard.datasets.skeleton import HEAT_MAP_JOINTS, HeatMaps
from poseboard.methods.checkpoint import Checkpoint, strip_prefix
from poseboard.methods.nets.published_state import resnet_name, whole_state
from poseboard.methods.volumetric.model import VolumetricArchitecture, VolumetricTriangulation
from poseboard.methods.volumetric.unprojection import Aggregation

_AGGREGATIONS: dict[str, Aggregation] = {
    "": "softmax",
    "sum": "sum",
    "max": "max",
    "conf": "conf",
    "conf_norm": "conf_norm",
}

VARIANTS = tuple(_AGGREGATIONS)
"""One per aggregation, which the tensors do not show."""


def published(
    state: Mapping[str, Tensor], file: Path, *, variant: str = "", joints: HeatMaps = "human36m"
) -> Checkpoint:
    """Convert a complete model with its 2D network under ``backbone.…`` to a checkpoint.

    Args:
        state: state dict of the file.
        file: path of the file, named in errors.
        variant: aggregation of the model, one of `VARIANTS`; "": soft-max.
        joints: names of the volumes, in order.

    Raises:
        InputError: the file is not a PoseResNet, or its keys or shapes do not match the network.
    """
    network = resnet_name(strip_prefix(state, "backbone."), file)
    architecture = VolumetricArchitecture.published(network, HEAT_MAP_JOINTS[joints].joints, _AGGREGATIONS[variant])
    with torch.device("meta"):
        template = VolumetricTriangulation.build(architecture)
    return Checkpoint("volumetric", architecture.plain(), whole_state(template, state, file))
