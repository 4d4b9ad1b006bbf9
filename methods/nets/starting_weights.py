"""Start of training from a 2D backbone: finding its checkpoint, and loading its weights into a network."""

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
"""Method name in a checkpoint of an image-classification network: layers up to the features, no heat maps."""


def backbone_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Extract the state of a 2D backbone from that of a method (keys ``backbone.…``), or copy its own state."""
    return strip_prefix(state, "backbone.") or dict(state)


def starting_checkpoint(method: str, start: Path | None, after: str = "`after: backbone`") -> Path:
    """Path of the checkpoint from which training starts; InputError if ``start`` is None.

    Args:
        method: name of the trained method, used in errors.
        start: checkpoint of the row that ``after:`` in params.yaml names.
        after: setting that the error message tells the user to make.
    """
    if start is None:
        raise InputError(method, "training starts from a 2D backbone", f"set {after} in params.yaml")
    return start


def checkpoint_of_option(row: str, weights: Path | None) -> Path:
    """Path of the checkpoint in a row's option ``start_weights``; InputError if the file does not exist."""
    if weights is not None and weights.is_file():
        return weights
    problem = "names no file that training starts from" if weights is None else f"there is no {weights}"
    to = weights or "data/weights/NAME.pt"
    raise InputError(
        f"{row}: start_weights",
        problem,
        "download pose_resnet_4.5_pixels_human36m.pth (learnable triangulation, model zoo) or a ResNet's ImageNet "
        f"weights, run `poseboard weights import backbone FILE --out {to}`, and set `start_weights` to the output file",
    )


def load_backbone(
    architecture: Architecture, checkpoint: Checkpoint, where: str | Path, seed: int = 0, *, fresh_maps: bool = False
) -> nn.Module:
    """Build the backbone of ``architecture`` with a checkpoint's weights.

    A confidence head that the checkpoint lacks keeps its random initialisation; one that the architecture lacks is left
    out. All other weights must match.

    Args:
        architecture: architecture of the network.
        checkpoint: checkpoint with the weights.
        where: path of the checkpoint, named in errors.
        seed: seed of the random initialisation.
        fresh_maps: initialise a new heat-map layer (weights N(0, 0.001), bias 0). The checkpoint may then have other
            joints.

    Raises:
        InputError: keys or shapes of the weights do not match the network.
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
