"""Import of published 2D backbones, with the lenient rule of learnable triangulation's release.

The file is a pose network with one heat map per joint, or an ImageNet classifier. A classifier detects no joints, so
it can only be the start of training.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import HEAT_MAP_JOINTS, HeatMaps
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.published_state import own_copy, resnet_name
from poseboard.methods.nets.starting_weights import IMAGE_NETWORK

_log = logging.getLogger(__name__)


def published(state: Mapping[str, Tensor], file: Path, *, joints: HeatMaps = "human36m") -> Checkpoint:
    """Convert a published 2D backbone, whose keys have no prefix, to a checkpoint.

    Args:
        state: state dict of the file.
        file: path of the file, named in errors.
        joints: names of the heat maps, in order. Further heat maps of the file are dropped: the published backbone has
            17 of Human3.6M and then 16 of MPII. Other tensors with unknown names or shapes are dropped and logged.

    Raises:
        InputError: the file is not a PoseResNet, or most tensors of the network have no counterpart in the file.
    """
    architecture = Architecture.published(resnet_name(state, file), HEAT_MAP_JOINTS[joints].joints)
    of_images = not any(key.startswith(("deconv_layers.", "final_layer.")) for key in state)
    kind = IMAGE_NETWORK if of_images else "backbone"
    return Checkpoint(kind, architecture.plain(), _starting_weights(architecture, state, file))


def _starting_weights(architecture: Architecture, state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Starting weights by the release's rule: all tensors that match, and the first filters of the last layer."""
    own = architecture.build(seed=0).state_dict()
    fits = [key for key, value in state.items() if key in own and own[key].shape == value.shape]
    taken = {key: own_copy(own[key], state[key]) for key in fits}
    for key in ("final_layer.weight", "final_layer.bias"):
        filters, fresh = state.get(key), own[key]
        if key in taken or filters is None or filters.shape[1:] != fresh.shape[1:]:
            continue
        count = min(len(filters), len(fresh))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            taken[key] = nn.init.xavier_uniform_(torch.empty_like(fresh)) if fresh.ndim > 1 else torch.zeros_like(fresh)
        taken[key][:count] = filters[:count].to(fresh.dtype)
        _log.warning("%s: %s has %d filters, the first %d are taken", file, key, len(filters), count)
    missing = [key for key in own if key not in taken and not key.endswith(".num_batches_tracked")]
    ignored = [key for key in state if key not in taken]
    for outcome, keys in (("left fresh", missing), ("ignored", ignored)):
        if keys:
            _log.warning("%s: %d tensors %s: %s", file, len(keys), outcome, ", ".join(keys[:5]))
    if len(missing) > len(own) // 2:
        raise InputError(
            file, f"{len(missing)} of {len(own)} tensors do not fit {architecture.network}", "check METHOD"
        )
    return {**own, **taken}
