"""The published baseline of learnable triangulation (Iskakov et al., ICCV 2019): a 2D backbone and no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.checkpoint import Checkpoint, strip_prefix
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.published_state import resnet_name, whole_state


def published(state: Mapping[str, Tensor], file: Path, *, joints: tuple[str, ...] = HUMAN36M.joints) -> Checkpoint:
    """A whole model with keys ``backbone.…``.

    Args:
        state: of the file.
        file: for errors.
        joints: names of the heat maps in order.

    Raises:
        InputError: no PoseResNet, or keys that are missing, unexpected or of another shape.
    """
    architecture = Architecture.published(resnet_name(strip_prefix(state, "backbone."), file), joints)
    with torch.device("meta"):
        template = nn.ModuleDict({"backbone": architecture.build(seed=0)})
    whole = whole_state(template, state, file)
    return Checkpoint("ransac", architecture.plain(), strip_prefix(whole, "backbone."))
