"""Published weights of algebraic triangulation (Iskakov et al., ICCV 2019), with confidences and without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.checkpoint import Checkpoint, strip_prefix
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.published_state import resnet_name, whole_state

VARIANTS = ("", "no_conf")


def published(
    state: Mapping[str, Tensor], file: Path, *, variant: str = "", joints: tuple[str, ...] = HUMAN36M.joints
) -> Checkpoint:
    """A whole model with keys ``backbone.…``.

    Args:
        state: of the file.
        file: for errors.
        variant: "", or "no_conf" for one without the confidence head.
        joints: names of the heat maps in order.

    Raises:
        InputError: no PoseResNet, or keys that are missing, unexpected or of another shape.
    """
    network = resnet_name(strip_prefix(state, "backbone."), file)
    architecture = Architecture.published(network, joints, alg_confidences=not variant)
    with torch.device("meta"):
        template = nn.ModuleDict({"backbone": architecture.build(seed=0)})
    return Checkpoint("algebraic", architecture.plain(), whole_state(template, state, file))
