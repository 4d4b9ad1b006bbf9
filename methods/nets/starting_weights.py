"""What a training starts from: the weights of a 2D backbone, found in a checkpoint and loaded into a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from poseboard.datasets.errors import InputError
from poseboard.methods.checkpoint import Checkpoint, load_strictly, strip_prefix
from poseboard.methods.nets.architecture import Architecture

_HEADS = ("alg_confidences.", "vol_confidences.")

IMAGE_NETWORK = "resnet"
"""Method of a checkpoint whose weights were learned on labelled images: its layers up to the features, no heat maps."""


def backbone_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a 2D backbone, from its own state or from that of a method that carries it as ``backbone.``."""
    return strip_prefix(state, "backbone.") or dict(state)


def given_weights(row: str, weights: Path | None) -> Path:
    """The checkpoint that the option ``start_weights`` names; InputError says what to supply where there is none."""
    if weights is not None and weights.is_file():
        return weights
    problem = "names no file that training starts from" if weights is None else f"there is no {weights}"
    to = weights or "data/weights/NAME.pt"
    raise InputError(
        f"{row}: start_weights",
        problem,
        "download pose_resnet_4.5_pixels_human36m.pth (learnable triangulation, model zoo) or a ResNet's ImageNet "
        f"weights, `poseboard weights import backbone FILE --out {to}`, name that under `start_weights` in params.yaml",
    )


def load_backbone(
    architecture: Architecture, checkpoint: Checkpoint, where: str | Path, seed: int = 0, *, fresh_maps: bool = False
) -> nn.Module:
    """The backbone of ``architecture`` with a checkpoint's weights.

    A confidence head the checkpoint lacks stays fresh (from ``seed``), one the architecture lacks is left out; all else
    is strict.

    Args:
        architecture: of the network.
        checkpoint: whose weights it gets.
        where: file of the checkpoint, for errors.
        seed: of what stays fresh.
        fresh_maps: the layer of the heat maps starts anew, N(0, 0.001) without bias, whatever joints the checkpoint's
            has.

    Raises:
        InputError: weights that do not fit.
    """
    net = architecture.build(seed)
    own = net.state_dict()
    state = backbone_state(checkpoint.state)
    if fresh_maps:
        generator = torch.Generator().manual_seed(seed)
        state |= {
            "final_layer.weight": torch.empty_like(own["final_layer.weight"]).normal_(0, 0.001, generator=generator),
            "final_layer.bias": torch.zeros_like(own["final_layer.bias"]),
        }
    fresh = {key: value for key, value in own.items() if key.startswith(_HEADS) and key not in state}
    kept = {key: value for key, value in state.items() if key in own or not key.startswith(_HEADS)}
    load_strictly(net, {**fresh, **kept}, where)
    return net
