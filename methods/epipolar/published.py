"""Published weights of epipolar transformers (He et al., CVPR 2020): whole models, multi-view or of one view."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from poseboard.datasets import human36m_toolbox
from poseboard.datasets.errors import InputError
from poseboard.methods.checkpoint import Checkpoint, fitted_state, strip_prefix
from poseboard.methods.epipolar.attention import AttentionSettings, Layer
from poseboard.methods.epipolar.model import EpipolarArchitecture, EpipolarPose
from poseboard.methods.nets.published_state import own_copy, resnet_name


def published(state: Mapping[str, Tensor], file: Path) -> Checkpoint:
    """A model of epipolar transformers: what its block does is read off the tensors, as the released models have it.

    A single-view baseline has ``backbone.…`` alone. A block with theta, phi and g pools; one with z alone is residual;
    one without tensors is plain. All but the residual ones of 17 joints look up by the older rule: so are the release's
    configurations, whose newer ones have 17 joints and the older 20.
    """
    copies = [found for prefix in ("reference.", "backbone.") if (found := strip_prefix(state, prefix))]
    stray = [key for key in state if not key.startswith(("reference.", "backbone."))]
    if stray or not copies:
        raise InputError(
            file,
            f"{len(stray)} keys belong to no network of epipolar transformers: {', '.join(stray[:5])}",
            "whole models have keys reference.… and backbone.…; check METHOD",
        )
    bare, *twin = copies
    if twin and (bare.keys() != twin[0].keys() or not all(torch.equal(bare[key], twin[0][key]) for key in bare)):
        raise InputError(file, "its two networks differ", "only models with shared weights were released")
    network = resnet_name(bare, file)
    every: tuple[Layer, ...] = ("z", "theta", "phi", "g")
    layers = tuple(name for name in every if f"epipolar_sampler.{name}.weight" in bare)
    narrowed = {"theta", "phi", "g"} & set(layers)
    width = bare.get("epipolar_sampler.theta.bias", torch.zeros(256)).numel()
    attention = AttentionSettings(
        layers=layers,
        residual=layers == ("z",),
        bottleneck=256 // max(1, width) if len(layers) == 4 else 1,
        pool=bool(narrowed),
        correct_normalise=layers == ("z",) and len(bare.get("final_layer.bias", ())) != 20,
    )
    architecture = EpipolarArchitecture.released(
        network,
        human36m_toolbox.JOINTS,
        crop_px=384 if network == "resnet152" else 256,
        fusion="epipolar" if twin else "none",
        attention=attention,
    )
    kept = dict(bare)
    for key in ("final_layer.weight", "final_layer.bias"):
        if key in kept and len(kept[key]) == 20:
            kept[key] = kept[key][list(human36m_toolbox.OF_20)]
    with torch.device("meta"):
        template = EpipolarPose(architecture, architecture.build(seed=0))
    own = template.state_dict()
    named = {key if key.startswith("epipolar_sampler.") else f"backbone.{key}": value for key, value in kept.items()}
    whole = {key: own_copy(own.get(key), value) for key, value in named.items()}
    return Checkpoint("epipolar", architecture.plain(), fitted_state(template, whole, file))
