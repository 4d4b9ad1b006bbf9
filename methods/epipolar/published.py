"""Published weights of epipolar transformers (He et al., CVPR 2020): whole models, multi-view or single-view."""

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
    """Convert a released model to a checkpoint. The tensors determine the settings of the attention block.

    A single-view baseline has only keys ``backbone.…``. A block with theta, phi and g uses ``pool``, a block with only
    z is residual, and a block without tensors has no layers. Only residual blocks for 17 joints use
    ``correct_normalise``, as in the release's configurations: newer ones have 17 joints, older ones 20. The crop size
    does not follow from the tensors.

    Args:
        state: state dict of the file.
        file: path of the file. The release names the folder after the configuration.
        image_px: side of the crops; None: see `image_px_of`.

    Raises:
        InputError: the file is another kind of network, keys or shapes do not match, or the crop size is unknown.
    """
    copies = [copy for prefix in ("reference.", "backbone.") if (copy := strip_prefix(state, prefix))]
    stray = [key for key in state if not key.startswith(("reference.", "backbone."))]
    if stray or not copies:
        raise InputError(
            file,
            f"is no epipolar transformer: unexpected keys {', '.join(stray[:5]) or 'none'}",
            "check METHOD; keys of this one start with reference. or backbone.",
        )
    bare, *twin = copies
    if twin and (bare.keys() != twin[0].keys() or not all(torch.equal(bare[key], twin[0][key]) for key in bare)):
        raise InputError(file, "its two networks differ", "use a released model; its networks share their weights")
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
    """Side of a model's crops in pixels, read from the configuration's name in the path of the file.

    Names nearest to the file take precedence. Without a name, the side is 256 px for ResNet-50, as in the published
    models. ResNet-152 has configurations with 320 and 384 px, so the option ``image_px`` must be set.

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
        unknown = "the size of its crops is not part of its path"
        problem = unknown if side_px is None else f"no {network} of {side_px} px is known"
        raise InputError(file, problem, f"give --set image_px={' or '.join(map(str, sizes))}")
    return side_px
