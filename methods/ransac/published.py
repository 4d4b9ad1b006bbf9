"""Published weights of the RANSAC baseline of learnable triangulation (Iskakov et al., ICCV 2019): a 2D backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from poseboard.datasets.skeleton import HEAT_MAP_JOINTS, HeatMaps
from poseboard.methods.checkpoint import Checkpoint, strip_prefix
from poseboard.methods.nets.published_state import published_backbone


def published(state: Mapping[str, Tensor], file: Path, *, joints: HeatMaps = "human36m") -> Checkpoint:
    """Convert a complete model with keys ``backbone.…`` to a checkpoint.

    Args:
        state: state dict of the file.
        file: path of the file, named in errors.
        joints: names of the heat maps, in order.

    Raises:
        InputError: the file is not a PoseResNet, or its keys or shapes do not match the network.
    """
    architecture, whole = published_backbone(state, file, HEAT_MAP_JOINTS[joints].joints)
    return Checkpoint("ransac", architecture.plain(), strip_prefix(whole, "backbone."))
