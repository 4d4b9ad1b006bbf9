"""What a trained 2D backbone is, in plain values, and how its weights are loaded.

An `Architecture` is kept in the checkpoint beside the weights: from it the same network is built again, with the same
preprocessing and decoding. Published weights see BGR crops with ImageNet's RGB constants; that is theirs, not ours, so
the channel order is part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor, nn

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Sample, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Checkpoint, Options, parse_options
from poseboard.methods.nets.pose_resnet import NETWORKS, BackboneOutput, build_backbone
from poseboard.methods.nets.precision import bfloat16

Precision = Literal["float32", "bf16"]

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_CHUNK_PIXELS = 64 * 96 * 96
_HEADS = ("alg_confidences.", "vol_confidences.")

IMAGE_NETWORK = "resnet"
"""Method of a checkpoint whose weights were learned on labelled images: its layers up to the features, no heat maps."""


class Architecture(Options):
    """A 2D backbone with its preprocessing and decoding.

    Args:
        network: one of `pose_resnet.NETWORKS`.
        joints: names of the heat maps, in order.
        crop_px: side of the square crops it was trained on.
        channels: order in which the ImageNet constants meet the channels; published weights were trained on "bgr".
        multiplier: factor on heat maps before the soft-max.
        softmax: soft-max, or ReLU, before the expected position is taken.
        alg_confidences: with the confidence head of algebraic triangulation.
        vol_confidences: with the confidence head of volumetric triangulation.
        precision: "bf16" runs the convolutions of training in bfloat16; methods predict with `exact`.
        homogeneous: for methods that learn through linear triangulation: the published system, see `geometry`'s `dlt`.
    """

    network: str
    joints: tuple[str, ...]
    crop_px: int
    channels: Literal["rgb", "bgr"] = "rgb"
    multiplier: float = 1.0
    softmax: bool = True
    alg_confidences: bool = False
    vol_confidences: bool = False
    precision: Precision = "float32"
    homogeneous: bool = True

    @field_validator("network")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in NETWORKS:
            raise ValueError(f"no network {value!r}, known: {', '.join(NETWORKS)}")
        return value

    @classmethod
    def published(cls, network: str, joints: Sequence[str], *, alg_confidences: bool = False) -> Architecture:
        """The setting of learnable triangulation's published configurations: 384 px, BGR, multiplier 100."""
        return cls(
            network=network,
            joints=tuple(joints),
            crop_px=384,
            channels="bgr",
            multiplier=100.0,
            alg_confidences=alg_confidences,
        )

    @classmethod
    def of(cls, checkpoint: Checkpoint, where: str | Path) -> Self:
        """The architecture a checkpoint was saved with; InputError names ``where`` if it is none of ours."""
        return parse_options(cls, checkpoint.architecture, f"{where}: architecture")

    @property
    def exact(self) -> Self:
        """The same in float32: bfloat16 moves a triangulated joint by 0.8 mm on average, one in a hundred by 3 mm."""
        return self.model_copy(update={"precision": "float32"})

    def plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return self.model_dump(mode="json")

    def require(self, skeleton: Skeleton, where: str | Path) -> None:
        """InputError if the heat maps are not the skeleton's joints in its order."""
        if self.joints != skeleton.joints:
            raise InputError(
                where,
                f"weights answer {len(self.joints)} joints that are not those of {skeleton.name}",
                "train a backbone for this joint set",
            )

    def build(self, seed: int) -> nn.Module:
        """The network with fresh weights, a pure function of ``seed``; torch's random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = build_backbone(
                self.network,
                len(self.joints),
                alg_confidences=self.alg_confidences,
                vol_confidences=self.vol_confidences,
            )
        return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch stubs lack the keyword

    def prepare(self, images: Tensor) -> Tensor:
        """(n, S, S, 3) uint8 RGB -> (n, 3, S, S) float32, normalised; stays channels-last in memory."""
        if self.channels == "bgr":
            images = images.flip(-1)
        mean = torch.tensor(_MEAN, device=images.device)
        std = torch.tensor(_STD, device=images.device)
        return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2)

    def run(self, net: nn.Module, images: Tensor) -> BackboneOutput:
        """``net`` on normalised crops (n, 3, S, S), at the architecture's precision; heat maps come back float32."""
        with bfloat16(images.device.type, self.precision == "bf16"):
            out: BackboneOutput = net(images)
        return out._replace(heatmaps=out.heatmaps.float())

    def to_crop(self, points: Tensor, heatmaps: Tensor) -> Tensor:
        """Heat-map pixels (..., 2) to crop pixels, without half-pixel terms as published."""
        height, width = heatmaps.shape[-2:]
        return points * torch.tensor([self.crop_px / width, self.crop_px / height], device=points.device)

    @property
    def chunk(self) -> int:
        """Crops of one forward pass at inference: 64 of 96 px, 4 of 384."""
        return max(1, _CHUNK_PIXELS // self.crop_px**2)


def strip_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries under ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def backbone_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a 2D backbone, from its own state or from that of a method that carries it as ``backbone.``."""
    return strip_prefix(state, "backbone.") or dict(state)


def fitted_state(module: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> dict[str, Tensor]:
    """``state`` as the whole state of ``module``; only ``num_batches_tracked`` may be absent (PyTorch before 0.4.1).

    Raises:
        InputError: lists the keys that are missing, unexpected or of another shape.
    """
    own = module.state_dict()
    kept = dict(state)
    for key in own:
        if key.endswith(".num_batches_tracked"):
            kept.setdefault(key, torch.zeros((), dtype=torch.int64))
    problems = {
        "missing": [key for key in own if key not in kept],
        "unexpected": [key for key in kept if key not in own],
        "of another shape": [
            f"{key} {tuple(kept[key].shape)} instead of {tuple(value.shape)}"
            for key, value in own.items()
            if key in kept and kept[key].shape != value.shape
        ],
    }
    if any(problems.values()):
        told = [
            f"{len(keys)} {kind}: {', '.join(keys[:5])}{', …' if len(keys) > 5 else ''}"
            for kind, keys in problems.items()
            if keys
        ]
        raise InputError(where, f"weights do not fit the network ({'; '.join(told)})", "check whose weights they are")
    return kept


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Load ``state`` whole; see `fitted_state`."""
    module.load_state_dict(fitted_state(module, state, where))


def given_weights(row: str, weights: Path | None) -> Path:
    """The checkpoint that a row's option ``weights`` names; InputError says what to supply where there is none."""
    if weights is not None and weights.is_file():
        return weights
    problem = "names no file that training starts from" if weights is None else f"there is no {weights}"
    to = weights or "data/weights/NAME.pt"
    raise InputError(
        f"{row}: weights",
        problem,
        "download pose_resnet_4.5_pixels_human36m.pth (learnable triangulation, model zoo) or a ResNet's ImageNet "
        f"weights, `poseboard weights import backbone FILE --out {to}`, name that under `weights` in params.yaml",
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


def crop_pixels(view: View, crop_px: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The view's crop, (S, S, 3) uint8 RGB; ValueError if it is not ``crop_px`` wide."""
    pixels = view.pixels()
    if pixels.shape != (crop_px, crop_px, 3):
        raise ValueError(f"view {view.name}: crop of {crop_px} px expected, got {pixels.shape}")
    return pixels


def stack_views(samples: Sequence[Sample], crop_px: int) -> tuple[Tensor, Array, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Views of samples that may have different numbers of them.

    Returns:
        crops (n, S, S, 3) uint8 of the n views that are there, sample by sample; P (B, V, 3, 4), zero where a sample
        has fewer views than the largest; valid (B, V).
    """
    most = max((len(sample.views) for sample in samples), default=0)
    valid = np.arange(most) < np.array([len(sample.views) for sample in samples])[:, None]
    views = [view for sample in samples for view in sample.views]
    P = np.zeros((len(samples), most, 3, 4))
    if not views:
        return torch.zeros((0, crop_px, crop_px, 3), dtype=torch.uint8), P, valid
    P[valid] = np.stack([view.camera.P for view in views])
    return torch.from_numpy(np.stack([crop_pixels(view, crop_px) for view in views])), P, valid


def undistort_views(cameras: Sequence[Camera], points_px: Array) -> Array:
    """Points (n, J, 2) seen by n cameras, the lens undone where there is one."""
    points_px = points_px.copy()
    for i, camera in enumerate(cameras):
        if camera.dist.any():
            points_px[i] = camera.undistort(points_px[i])
    return points_px
