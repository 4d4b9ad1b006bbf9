"""Published weights of the RANSAC baseline of learnable triangulation (Iskakov et al., ICCV 2019): a 2D backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.checkpoint import Checkpoint, strip_prefix
from poseboard.methods.nets.published_state import published_backbone


def published(state: Mapping[str, Tensor], file: Path, *, joints: tuple[str, ...] = HUMAN36M.joints) -> Checkpoint:
    """A checkpoint of a complete model with keys ``backbone.…``.

    Args:
        state: state dict of the file.
        file: for errors.
        joints: names of the heat maps in order.

    Raises:
        InputError: no PoseResNet, or keys that are missing, unexpected or of another shape.
    """
    architecture, whole = published_backbone(state, file, joints)
    return Checkpoint("ransac", architecture.plain(), strip_prefix(whole, "backbone."))
