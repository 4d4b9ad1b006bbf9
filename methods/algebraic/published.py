"""Published weights of algebraic triangulation (Iskakov et al., ICCV 2019), with confidences and without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from poseboard.datasets.skeleton import HEAT_MAP_JOINTS, HeatMaps
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.published_state import published_backbone

VARIANTS = ("", "no_conf")


def published(
    state: Mapping[str, Tensor], file: Path, *, variant: str = "", joints: HeatMaps = "human36m"
) -> Checkpoint:
    """Convert a complete model with keys ``backbone.…`` to a checkpoint.

    Args:
        state: state dict of the file.
        file: path of the file, named in errors.
        variant: "" for a model with the confidence head, "no_conf" for a model without it.
        joints: names of the heat maps, in order.

    Raises:
        InputError: the file is not a PoseResNet, or its keys or shapes do not match the network.
    """
    architecture, whole = published_backbone(state, file, HEAT_MAP_JOINTS[joints].joints, alg_confidences=not variant)
    return Checkpoint("algebraic", architecture.plain(), whole)
