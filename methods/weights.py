"""Published weights of learnable triangulation and of epipolar transformers, brought into checkpoints of ours.

The files are PyTorch state dicts, bare or under ``state_dict`` or ``model``, whose keys carry ``module.`` where they
were saved from distributed training. Whole models are taken strictly; a 2D backbone by the lenient rule of learnable
triangulation's release for starting weights.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from poseboard.datasets import human36m_toolbox
from poseboard.datasets.errors import InputError
from poseboard.datasets.rhd import RHD_HAND
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.base import Checkpoint, read_tensors, refuse_unusable
from poseboard.methods.epipolar.model import EpipolarArchitecture, EpipolarPose
from poseboard.methods.geometry.unprojection import Aggregation
from poseboard.methods.lifting.model import RELEASED_MAPS, Lifting, LiftingArchitecture
from poseboard.methods.nets.architecture import (
    IMAGE_NETWORK,
    Architecture,
    fitted_state,
    load_backbone,
    strip_prefix,
)
from poseboard.methods.nets.epipolar_attention import AttentionSettings, Layer
from poseboard.methods.nets.pose_resnet import BLOCKS
from poseboard.methods.volumetric.model import VolumetricArchitecture, VolumetricTriangulation

_VOLUMETRIC: dict[str, Aggregation] = {
    "volumetric": "softmax",
    "volumetric_sum": "sum",
    "volumetric_max": "max",
    "volumetric_conf": "conf",
    "volumetric_conf_norm": "conf_norm",
}

PUBLISHED = ("backbone", "ransac", "algebraic", "algebraic_no_conf", *_VOLUMETRIC, "epipolar", "lifting")
"""What `import_weights` knows; how a volumetric network brings its views together cannot be read off its tensors."""

_BEHIND_FEATURES = ("deconv_layers.", "final_layer.", "fc.")
"""Layers of a ResNet that stand behind its pooled features."""

_log = logging.getLogger(__name__)


def import_weights(
    method: str,
    file: Path,
    joints: Sequence[str] = HUMAN36M.joints,
    scale_mm: float | None = None,
    backbone: Path | None = None,
) -> Checkpoint:
    """A published file as our checkpoint; the depth of the network is read off the tensors.

    Args:
        method: one of `PUBLISHED`.
        file: a state dict, whole models with keys ``backbone.…``, the 2D backbone with bare keys. Multi-view models of
            epipolar transformers hold their network twice, as ``reference.…`` and ``backbone.…``; its lifting networks
            are ``liftingnet.…`` on a ``backbone.…``.
        joints: names of the heat maps in order. A backbone with more of them keeps the first ones (the published one
            has 16 of MPII after 17 of Human3.6M, release code); what else does not fit there is left out and logged.
            A ResNet of labelled images answers none: only what is trained further can start from it.
        scale_mm: size of a pose in mm, of `lifting` only, which needs it: the release takes that of each true pose.
        backbone: of `lifting` networks on true heat maps: a checkpoint of ours with a 2D backbone, from whose joints
            such maps are drawn.

    Returns:
        A checkpoint of `backbone`, `ransac`, `algebraic`, `volumetric`, `epipolar` or `lifting` with the published
        preprocessing.

    Raises:
        InputError: unknown method; `scale_mm` or `backbone` for one that takes none; a file that is absent, damaged,
            holds code or other things than finite tensors; a network that is no PoseResNet; for whole models every
            key that is missing, unexpected or of another shape.
    """
    if method not in PUBLISHED:
        raise InputError(
            f"method {method!r}", "there are no published weights for it", f"one of {', '.join(PUBLISHED)}"
        )
    if scale_mm is not None and method != "lifting":
        raise InputError(f"method {method!r}", "has no size of a pose to be told", "leave out --scale-mm")
    if backbone is not None and method != "lifting":
        raise InputError(f"method {method!r}", "comes with its backbone", "leave out --backbone")
    state = _read_state(file)
    if method == "epipolar":
        return _epipolar(state, file)
    if method == "lifting":
        return _lifting(state, file, scale_mm, backbone)
    bare = state if method == "backbone" else strip_prefix(state, "backbone.")
    network = _network(bare, file)
    if method in _VOLUMETRIC:
        volumes = VolumetricArchitecture.published(network, joints, _VOLUMETRIC[method])
        with torch.device("meta"):
            volumetric = VolumetricTriangulation.build(volumes)
        return Checkpoint("volumetric", volumes.plain(), _whole(volumetric, state, file))
    architecture = Architecture.published(network, joints, alg_confidences=method == "algebraic")
    if method == "backbone":
        of_images = not any(key.startswith(("deconv_layers.", "final_layer.")) for key in bare)
        kind = IMAGE_NETWORK if of_images else method
        return Checkpoint(kind, architecture.plain(), _starting_weights(architecture, bare, file))
    with torch.device("meta"):
        template = nn.ModuleDict({"backbone": architecture.build(seed=0)})
    whole = _whole(template, state, file)
    if method == "ransac":
        return Checkpoint("ransac", architecture.plain(), strip_prefix(whole, "backbone."))
    return Checkpoint("algebraic", architecture.plain(), whole)


_OTHER_FILES = (
    (b"", "is empty"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file it stands for"),
    (b"<", "is a web page, not the file behind it"),
    (b"\x89HDF", "is an HDF5 file; PyTorch's are read here"),
    (b"\x1f\x8b", "is packed (gzip)"),
)


def _read_state(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise InputError(file, "there is no such file", "name the published .pth file")
    with file.open("rb") as opened:
        start = opened.read(64)
    for head, what in _OTHER_FILES:
        if start.lstrip().startswith(head) if head else not start:
            raise InputError(file, what, "give the published .pth file itself")
    try:
        values = read_tensors(file)
    except InputError:
        remedy = "download it again; of a file with other objects, save its state_dict() alone"
        raise InputError(
            file, "cannot be read: no PyTorch file, cut short, or with objects other than tensors", remedy
        ) from None
    for wrapper in ("state_dict", "model"):
        if isinstance(values, Mapping) and isinstance(values.get(wrapper), Mapping):
            values = values[wrapper]
    if not isinstance(values, Mapping) or not values:
        raise InputError(file, "file holds no state dict", "give the published .pth file")
    refuse_unusable(values, file, "give the published .pth file, or download it again")
    return {key.replace("module.", ""): value for key, value in values.items()}


def _epipolar(state: Mapping[str, Tensor], file: Path) -> Checkpoint:
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
    network = _network(bare, file)
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
    whole = {key: _like(own.get(key), value) for key, value in named.items()}
    return Checkpoint("epipolar", architecture.plain(), fitted_state(template, whole, file))


def _lifting(state: Mapping[str, Tensor], file: Path, scale_mm: float | None, backbone: Path | None) -> Checkpoint:
    """A lifting network on its backbone: which one, of bodies or of hands, and whether it is told which hand.

    One on true heat maps has none; maps like those it was trained on are drawn from the joints that ``backbone`` finds.
    All of it is read off the tensors. Bodies have 17 joints in the order of epipolar transformers' release and come in
    ours, hands have 21. What stands behind the pooled image features is left out, for nothing reads it.
    """
    if scale_mm is None or not 0 < scale_mm < math.inf:
        raise InputError(
            "scale_mm",
            "the file does not hold the size of a pose, of which the release takes the true one",
            "give --scale-mm: pelvis to thorax, or lower joint to base of the middle finger (`poseboard weights show` "
            "tells it of a lifting checkpoint trained on the data set)",
        )
    net, bare = strip_prefix(state, "liftingnet."), strip_prefix(state, "backbone.")
    if not net:
        raise InputError(file, "no liftingnet.… in it", "give a model that the release trained; check METHOD")
    if bare and backbone is not None:
        raise InputError(file, "has a backbone of its own", "leave out --backbone")
    if not bare and backbone is None:
        raise InputError(
            file,
            "no backbone.… under its lifting network: it lifts true heat maps",
            "give --backbone: a 2D backbone of ours, from whose joints such maps are drawn",
        )
    from_image = "poseprior.weight" in net
    rotation = not from_image and any(key.startswith(("conv2.", "viewpoint.")) for key in net)
    first, last = ("poseprior.weight",) * 2 if from_image else ("poseprior.0.weight", "poseprior.6.weight")
    sizes = [tuple(net[key].shape) if key in net else () for key in (first, last)]
    outputs = {3 * len(skeleton): skeleton for skeleton in (HUMAN36M, RHD_HAND)}
    if any(len(size) != 2 for size in sizes) or sizes[1][0] not in outputs:
        raise InputError(
            file,
            f"liftingnet.{first} {sizes[0]} and liftingnet.{last} {sizes[1]} are no layers of a lifting network",
            f"its last layer has {' or '.join(map(str, outputs))} outputs; check METHOD",
        )
    skeleton = outputs[sizes[1][0]]
    hand = skeleton is RHD_HAND
    handed = sizes[0][1] % 128 == 2  # two more than features and flattened maps have channels
    given = {"scale_mm": float(scale_mm)}
    if backbone is not None:
        read = Checkpoint.read(backbone)
        own = Architecture.of(read, backbone).model_copy(update={"alg_confidences": False, "vol_confidences": False})
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
        found = {f"backbone.{key}": value for key, value in load_backbone(own, read, backbone).state_dict().items()}
        lifting = _whole(nn.ModuleDict({"liftingnet": architecture.build()}), state, file)
        lifting = lifting if hand else _in_our_order(lifting, last)
        return Checkpoint("lifting", architecture.model_dump(mode="json"), {**found, **lifting}, given)
    network = _network(bare, file)
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
    whole = _whole(template, whole, file)
    ours = whole if hand else _in_our_order(whole, last)
    return Checkpoint("lifting", architecture.model_dump(mode="json"), ours, given)


def _in_our_order(state: Mapping[str, Tensor], last: str) -> dict[str, Tensor]:
    """A body's weights, the joints of its heat maps and answers put from the release's order in ours."""
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


def _network(state: Mapping[str, Tensor], file: Path) -> str:
    """Name of the ResNet whose blocks these are."""
    counts = [0, 0, 0, 0]
    for key in state:
        found = re.fullmatch(r"layer([1-4])\.(\d{1,3})\.conv1\.weight", key)
        if found:
            stage = int(found[1]) - 1
            counts[stage] = max(counts[stage], int(found[2]) + 1)
    bottleneck = "layer1.0.conv3.weight" in state
    for depth, blocks in BLOCKS.items():
        if tuple(counts) == blocks and bottleneck == (depth >= 50):
            return f"resnet{depth}"
    raise InputError(
        file,
        f"no PoseResNet: {counts} residual blocks in its stages",
        "whole models have keys backbone.…, the 2D backbone bare ones; check METHOD",
    )


def _whole(template: nn.Module, state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    own = template.state_dict()
    return fitted_state(template, {key: _like(own.get(key), value) for key, value in state.items()}, file)


def _like(template: Tensor | None, value: Tensor) -> Tensor:
    """An own copy, float32 where the network is."""
    return value.clone() if template is None else value.to(template.dtype, copy=True)


def _starting_weights(architecture: Architecture, state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The release's rule: take each tensor of the right name and shape, the first filters of the last layer."""
    own = architecture.build(seed=0).state_dict()
    fits = [key for key, value in state.items() if key in own and own[key].shape == value.shape]
    taken = {key: _like(own[key], state[key]) for key in fits}
    for key in ("final_layer.weight", "final_layer.bias"):
        given, fresh = state.get(key), own[key]
        if key in taken or given is None or given.shape[1:] != fresh.shape[1:]:
            continue
        count = min(len(given), len(fresh))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            taken[key] = nn.init.xavier_uniform_(torch.empty_like(fresh)) if fresh.ndim > 1 else torch.zeros_like(fresh)
        taken[key][:count] = given[:count].to(fresh.dtype)
        _log.warning("%s: %s has %d filters, the first %d are taken", file, key, len(given), count)
    missing = [key for key in own if key not in taken and not key.endswith(".num_batches_tracked")]
    ignored = [key for key in state if key not in taken]
    for told, keys in (("left fresh", missing), ("ignored", ignored)):
        if keys:
            _log.warning("%s: %d tensors %s: %s", file, len(keys), told, ", ".join(keys[:5]))
    if len(missing) > len(own) // 2:
        raise InputError(
            file, f"{len(missing)} of {len(own)} tensors do not fit {architecture.network}", "check METHOD"
        )
    return {**own, **taken}
