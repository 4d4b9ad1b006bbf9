"""Published weights of epipolar transformers (He et al., CVPR 2020): whole models, multi-view or of one view."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from poseboard.datasets import human36m_toolbox
from poseboard.datasets.errors import InputError
from poseboard.methods.checkpoint import Checkpoint, strip_prefix
from poseboard.methods.epipolar.attention import AttentionSettings, Layer
from poseboard.methods.epipolar.model import EpipolarArchitecture, EpipolarPose
from poseboard.methods.nets.published_state import CropSide, resnet_name, whole_state

_SIZES_PX = {"resnet50": (256, 384), "resnet152": (320, 384)}
"""Network -> sides of the crops in the release's configurations."""
_IN_A_NAME = re.compile(r"resnet\d+_(256|320|384)(?!\d)")


def published(state: Mapping[str, Tensor], file: Path, *, image_px: CropSide | None = None) -> Checkpoint:
    """Convert a released model to a checkpoint; the settings of the attention block follow from the tensors.

    A single-view baseline has only ``backbone.…``. A block with theta, phi and g pools; one with only z is residual;
    one without tensors has no layers. Residual blocks for 17 joints have ``correct_normalise``, all others do not: so
    are the release's configurations, newer ones with 17 joints, older ones with 20. No tensor depends on the crop size.

    Args:
        state: state dict of the file.
        file: its path; the release writes it into a folder with the name of its configuration.
        image_px: side of the crops; None: see `image_px_of`.

    Raises:
        InputError: the file is another kind of network, weights do not fit, or the side of the crops is unknown.
    """
    copies = [copy for prefix in ("reference.", "backbone.") if (copy := strip_prefix(state, prefix))]
    stray = [key for key in state if not key.startswith(("reference.", "backbone."))]
    if stray or not copies:
        raise InputError(
            file,
            f"{len(stray)} keys do not belong to a network of epipolar transformers: {', '.join(stray[:5])}",
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
    older = len(bare.get("final_layer.bias", ())) == 20
    attention = AttentionSettings(
        layers=layers,
        residual=layers == ("z",),
        bottleneck=256 // max(1, width) if len(layers) == 4 else 1,
        pool=bool(narrowed),
        correct_normalise=layers == ("z",) and not older,
    )
    side_px = image_px_of(network, file) if image_px is None else image_px
    architecture = EpipolarArchitecture.released(
        network,
        human36m_toolbox.JOINTS,
        crop_px=side_px,
        # Peaks are decoded with the sigma of the targets: 8 px at 256, 12 at 384, and at 320 either 12 or 10.
        window_cells=12 if older and side_px == 320 else round(side_px / 32),
        fusion="epipolar" if twin else "none",
        attention=attention,
    )
    kept = dict(bare)
    for key in ("final_layer.weight", "final_layer.bias"):
        if key in kept and len(kept[key]) == 20:
            kept[key] = kept[key][list(human36m_toolbox.OF_20)]
    with torch.device("meta"):
        template = EpipolarPose(architecture, architecture.build(seed=0))
    named = {key if key.startswith("epipolar_sampler.") else f"backbone.{key}": value for key, value in kept.items()}
    return Checkpoint("epipolar", architecture.plain(), whole_state(template, named, file))


def image_px_of(network: str, file: Path) -> int:
    """Side of a model's crops, read from the configuration's name in the path of its file.

    Names nearest to the file take precedence. Without a name, ResNet-50 has 256 px, as the published models. ResNet-152
    has configurations with 320 and 384 px, so its size must be given.

    Raises:
        InputError: the size is unknown, or no configuration of the network has this size.

    Example:
        >>> image_px_of("resnet152", Path("outs/epipolar/keypoint_h36m_resnet152_320/model_final.pth"))
        320
    """
    sizes = _SIZES_PX.get(network, (256,))
    named = (match for part in reversed(file.parts) if (match := _IN_A_NAME.search(part)))
    side_px = next((int(match[1]) for match in named), None)
    if side_px is None and 256 in sizes:
        return 256
    if side_px is None or side_px not in sizes:
        unknown = "its name does not say which crops it saw"
        problem = unknown if side_px is None else f"no {network} of {side_px} px is known"
        raise InputError(file, problem, f"give --set image_px={' or '.join(map(str, sizes))}")
    return side_px
