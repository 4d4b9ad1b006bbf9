"""Published weights of the second version of probabilistic triangulation, and of MobileOne-S4 for ImageNet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.published_state import CropSide, whole_state
from poseboard.methods.rays_mlp.mobileone import EncoderSizes, MobileOnePose
from poseboard.methods.rays_mlp.model import FusionSizes, RaysArchitecture, RaysNet

VARIANTS = ("", "imagenet")

IMAGENET = "mobileone"
"""Method name in a checkpoint of MobileOne's stages, trained on labelled images."""


def published(
    state: Mapping[str, Tensor], file: Path, *, image_px: CropSide | None = None, variant: str = ""
) -> Checkpoint:
    """Convert the whole network (unfused or exported), or MobileOne-S4 as a start of training, to a checkpoint.

    Args:
        state: state dict of the file.
        file: path of the file, named in errors.
        image_px: side of the crops; None: 384, as in the release.
        variant: "": the whole network. "imagenet": the official unfused MobileOne-S4; its classifier is left out.

    Raises:
        InputError: the file is another kind of network, or its keys or shapes do not match.
    """
    if variant == "imagenet":
        with torch.device("meta"):
            stages = MobileOnePose(len(HUMAN36M), EncoderSizes())
        for name in ("upstage", "hm_head", "reg_head"):
            delattr(stages, name)
        kept = {key: value for key, value in state.items() if not key.startswith("linear.")}
        return Checkpoint(IMAGENET, EncoderSizes().plain(), whole_state(stages, kept, file))
    last = state.get("fusion.pose1.0.weight")
    if last is None or last.ndim != 2 or not any(key.startswith("backbone.stage0.") for key in state):
        raise InputError(
            file,
            "no backbone.stage0.… and fusion.pose1.… in it",
            "give the whole network (pretrain.pth), not its 2D or fusion part; check METHOD",
        )
    width = FusionSizes().view[-1]
    architecture = RaysArchitecture(
        joints=HUMAN36M.joints,
        views=max(2, last.shape[1] // width),
        crop_px=image_px or 384,
        encoder=EncoderSizes(),
        compat=True,
        deploy=any(key.endswith(".reparam_conv.weight") for key in state),
    )
    with torch.device("meta"):
        template = RaysNet(architecture)
    return Checkpoint("rays_mlp", architecture.plain(), whole_state(template, state, file))
