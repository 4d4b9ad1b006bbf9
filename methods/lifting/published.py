"""Published lifting networks of the release of epipolar transformers (He et al., CVPR 2020), of bodies and of hands."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from poseboard.datasets import human36m_toolbox
from poseboard.datasets.errors import InputError
from poseboard.datasets.rhd import RHD_HAND
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.checkpoint import Checkpoint, strip_prefix
from poseboard.methods.lifting.model import RELEASED_MAPS, Lifting, LiftingArchitecture
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.published_state import resnet_name, whole_state
from poseboard.methods.nets.starting_weights import load_backbone

_BEHIND_FEATURES = ("deconv_layers.", "final_layer.", "fc.")
"""Layers of a ResNet after its pooled features."""

_log = logging.getLogger(__name__)


def published(
    state: Mapping[str, Tensor], file: Path, *, scale_mm: float | None = None, backbone: Path | None = None
) -> Checkpoint:
    """Convert a lifting network and its backbone to a checkpoint. The tensors determine the kind of network.

    Networks of bodies have 17 joints, which are converted from the release's order to ours. Networks of hands have 21
    joints. Layers after the pooled image features are left out.

    Args:
        state: state dict of the file.
        file: path of the file, named in errors.
        scale_mm: size to which predicted poses are scaled, mm.
        backbone: checkpoint of a 2D backbone, for a network without one, which was trained on true heat maps. Its input
            maps are then drawn from the joints that this backbone detects.

    Raises:
        InputError: the file is not a lifting network, an option is missing or not needed, or keys or shapes do not
            match.
    """
    if scale_mm is None or not 0 < scale_mm < math.inf:
        raise InputError(
            "scale_mm",
            "needs a positive value, because the file does not contain the size of poses",
            "give --set scale_mm=SIZE: the mean distance from pelvis to thorax, or from the lower joint to the base of "
            "the middle finger (`poseboard weights show` prints it for a lifting checkpoint trained on the data set)",
        )
    net, bare = strip_prefix(state, "liftingnet."), strip_prefix(state, "backbone.")
    if not net:
        raise InputError(file, "has no keys liftingnet.…", "check METHOD, or use a lifting model of the release")
    if bare and backbone is not None:
        raise InputError(file, "already contains a backbone", "leave out --set backbone")
    if not bare and backbone is None:
        raise InputError(
            file,
            "has no keys backbone.…, because it was trained on true heat maps",
            "give --set backbone=CHECKPOINT, a 2D backbone; heat maps are then drawn from its joints",
        )
    from_image = "poseprior.weight" in net
    rotation = not from_image and any(key.startswith(("conv2.", "viewpoint.")) for key in net)
    first, last = ("poseprior.weight",) * 2 if from_image else ("poseprior.0.weight", "poseprior.6.weight")
    sizes = [tuple(net[key].shape) if key in net else () for key in (first, last)]
    outputs = {3 * len(skeleton): skeleton for skeleton in (HUMAN36M, RHD_HAND)}
    if any(len(size) != 2 for size in sizes) or sizes[1][0] not in outputs:
        raise InputError(
            file,
            f"liftingnet.{first} {sizes[0]} and liftingnet.{last} {sizes[1]} are not layers of a lifting network",
            f"check METHOD: the last layer of a lifting network has {' or '.join(map(str, outputs))} outputs",
        )
    skeleton = outputs[sizes[1][0]]
    hand = skeleton is RHD_HAND
    handed = sizes[0][1] % 128 == 2  # two inputs more than features or flattened maps: left and right
    constants = {"scale_mm": float(scale_mm)}
    if backbone is not None:
        content = Checkpoint.read(backbone)
        own = Architecture.of(content, backbone).model_copy(update={"alg_confidences": False, "vol_confidences": False})
        own.require(skeleton, backbone)
        drawn = RELEASED_MAPS[skeleton.name]
        architecture = LiftingArchitecture(
            backbone=own,
            network="rotation" if rotation else "direct",
            map_px=drawn.side,
            pool=8,
            feature_width=0,
            drawn=drawn,
            handed=handed,
        )
        loaded = load_backbone(own, content, backbone).state_dict()
        lifting = whole_state(nn.ModuleDict({"liftingnet": architecture.build()}), state, file)
        lifting = lifting if hand else _in_our_order(lifting, last)
        weights = {f"backbone.{key}": value for key, value in loaded.items()} | lifting
        return Checkpoint("lifting", architecture.plain(), weights, constants)
    network = resnet_name(bare, file)
    crop_px = 256
    architecture = LiftingArchitecture(
        backbone=Architecture(
            network=network, joints=skeleton.joints, crop_px=crop_px, channels="rgb" if hand else "bgr"
        ),
        network="image_rotation" if from_image else "rotation" if rotation else "direct",
        map_px=crop_px // 4,
        pool=2 if rotation else 8,
        feature_width=2048 if "layer1.0.conv3.weight" in bare else 512,
        handed=handed,
        raw_maps=True,
        stretched=hand,
    )
    whole = dict(state)
    if from_image:
        behind = {key for key in bare if key.startswith(_BEHIND_FEATURES)}
        whole = {key: value for key, value in state.items() if key.removeprefix("backbone.") not in behind}
        fresh = architecture.backbone.build(seed=0).state_dict()
        whole |= {f"backbone.{key}": value for key, value in fresh.items() if key.startswith(_BEHIND_FEATURES)}
        if behind:
            _log.warning("%s: %d tensors behind the pooled features are left out", file, len(behind))
    with torch.device("meta"):
        template = Lifting(architecture, architecture.backbone.build(seed=0))
    whole = whole_state(template, whole, file)
    ours = whole if hand else _in_our_order(whole, last)
    return Checkpoint("lifting", architecture.plain(), ours, constants)


def _in_our_order(state: Mapping[str, Tensor], last: str) -> dict[str, Tensor]:
    """Reorder the joints of heat maps and outputs in weights for bodies from the release's order to ours."""
    order = human36m_toolbox.ROWS
    coordinates = [3 * joint + axis for joint in order for axis in range(3)]
    moved = dict(state)
    for key in (f"liftingnet.{last}", f"liftingnet.{last.removesuffix('weight')}bias"):
        moved[key] = state[key][coordinates]
    for key in ("backbone.final_layer.weight", "backbone.final_layer.bias"):
        if key in state:
            moved[key] = state[key][order]
    for key in ("liftingnet.conv1.0.weight", "liftingnet.conv2.0.weight"):
        if key in state:
            moved[key] = state[key][:, order]
    return moved
