"""Published snapshots of RootNet (Moon et al., ICCV 2019, release code)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from poseboard.datasets.errors import InputError
from poseboard.methods.checkpoint import Checkpoint, strip_prefix
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.published_state import CropSide, resnet_name, whole_state
from poseboard.methods.rootnet.model import JOINTS, RootArchitecture, RootNet

_OURS = (
    ("root.deconv_layers.", "backbone.deconv_layers."),
    ("root.xy_layer.", "backbone.final_layer."),
    ("root.depth_layer.", "depth_layer."),
)
"""Where the release's names of the heads stand in ours; the rest is named alike."""


def published(state: Mapping[str, Tensor], file: Path, *, image_px: CropSide | None = None) -> Checkpoint:
    """Convert a snapshot of RootNet (ResNet-50, -101 or -152 with two heads) to a checkpoint with ``raw_input``.

    Args:
        state: state dict under the key ``network`` of the file.
        file: path of the file, named in errors.
        image_px: side of the crops; None: 256, as in the release.

    Raises:
        InputError: the file is not a RootNet, its ResNet has no bottlenecks, or its keys or shapes do not match.
    """
    bare = strip_prefix(state, "backbone.")
    if not bare or "root.depth_layer.weight" not in state:
        raise InputError(file, "has no keys backbone.… and root.…", "check METHOD, or give a snapshot of RootNet")
    architecture = RootArchitecture(
        backbone=Architecture(network=resnet_name(bare, file), joints=JOINTS, crop_px=image_px or 256),
        raw_input=True,
        whole_frames=True,
    )
    with torch.random.fork_rng(devices=[]):
        template = RootNet(architecture, architecture.backbone.build(seed=0))
    return Checkpoint("rootnet", architecture.plain(), whole_state(template, _renamed(state), file))


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename keys to ours. A key that already has our name would hide another; it gets a name that is refused."""
    renamed = {}
    for key, value in state.items():
        theirs = next((pair for pair in _OURS if key.startswith(pair[0])), None)
        ours_only = any(key.startswith(ours) for _, ours in _OURS)
        if theirs is not None:
            renamed[theirs[1] + key.removeprefix(theirs[0])] = value
        else:
            renamed[f"unknown.{key}" if ours_only else key] = value
    return renamed
