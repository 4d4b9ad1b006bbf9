"""The network: a 2D backbone whose features look at other views before they become heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from poseboard.datasets.sample import Resampling
from poseboard.methods.epipolar.attention import (
    Attended,
    AttentionSettings,
    EpipolarSampler,
    Samples,
    along_lines,
    everywhere,
)
from poseboard.methods.epipolar.lines import MapGrid, epipolar_segments, nearest_views
from poseboard.methods.epipolar.release_rules import largest_cells, window_peaks
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.detector import decode_heatmaps

Fusion = Literal["epipolar", "none", "unconstrained"]
Decoding = Literal["softargmax", "window", "argmax"]

_STRIDE = 4
"""Crop pixels a cell of the maps of every backbone."""


class EpipolarArchitecture(Architecture):
    """A backbone with its block.

    Args:
        fusion: "epipolar" looks along epipolar lines; "none" at no other view; "unconstrained" is the same network and
            looks at as many places of the same views, which do not depend on the cameras.
        attention: of the block; with ``compat`` its ``align_corners`` is that of decoding, too.
        sources: nearest views that each view looks at; all others where there are fewer.
        compat: weights of the release: crops are warped, cells lie half a cell in, lines are cut by its border rule,
            maps are decoded in a window about the peak.
        window_cells: with ``compat``: its radius.
    """

    fusion: Fusion = "epipolar"
    attention: AttentionSettings = AttentionSettings()
    sources: int = Field(default=1, ge=1)
    compat: bool = False
    window_cells: int = Field(default=8, ge=1)

    @classmethod
    def released(
        cls, network: str, joints: Sequence[str], crop_px: int = 256, **settings: object
    ) -> EpipolarArchitecture:
        """The setting of the released H36M models: BGR, one nearest source; for 384 px the window is 12."""
        values = {"channels": "bgr", "compat": True, "window_cells": round(crop_px / 32), **settings}
        return cls.model_validate({"network": network, "joints": tuple(joints), "crop_px": crop_px, **values})

    @property
    def resampling(self) -> Resampling:
        """How its crops are made."""
        return "bilinear" if self.compat else "area"

    def grid(self, maps: Tensor) -> MapGrid:
        """Where the cells of maps (..., H, W) lie in the crop."""
        height, width = maps.shape[-2:]
        return MapGrid(height, width, _STRIDE, (_STRIDE - 1) / 2 if self.compat else 0.0)

    def decode(self, heatmaps: Tensor, decoding: Decoding | None = None) -> tuple[Tensor, Tensor]:
        """Heat maps (n, J, H, W) -> crop pixels (n, J, 2) and the certainty of each joint (n, J).

        Args:
            heatmaps: raw.
            decoding: None: as the weights were trained for, the window with ``compat``, else the soft-argmax.
        """
        decoding = decoding or ("window" if self.compat else "softargmax")
        if decoding == "softargmax":
            points, certainty = decode_heatmaps(self, heatmaps, "softargmax")
            return points + self.grid(heatmaps).offset_px, certainty
        if decoding == "window":
            cells, scores = window_peaks(heatmaps, self.window_cells, align_corners=self.attention.align_corners)
        else:
            cells, scores = largest_cells(heatmaps)
        grid = self.grid(heatmaps)
        return cells * grid.stride_px + grid.offset_px, scores


class Views(NamedTuple):
    """What is seen in r views.

    Args:
        heatmaps: (r, J, H, W), raw.
        pairs: (m, 2) which view looked at which, as indices of the n views handed over.
        samples: where, or None without fusion.
        attended: what it found, or None without fusion.
    """

    heatmaps: Tensor
    pairs: Tensor
    samples: Samples | None
    attended: Attended | None

    def found(self, points_px: Tensor, grid: MapGrid) -> tuple[Tensor, Tensor]:
        """Where each view found what it sees at some points in the nearest view that it looked at.

        Of a point's cell (its fractional part cut off, as in the release) the sample with the largest weight; that of a
        line which misses the source's map lies far outside.

        Args:
            points_px: (r, J, 2) crop pixels; all views were answered, with ``detail``.
            grid: of the maps.

        Returns:
            The source views (r,), -1 where there is none, and crop pixels there (r, J, 2), NaN where there is none.
        """
        source = self.pairs.new_full((len(points_px),), -1)
        if self.attended is None or self.attended.best is None or not len(self.pairs):
            return source, torch.full_like(points_px, torch.nan)
        reference = torch.arange(len(points_px), device=source.device)
        first = torch.searchsorted(self.pairs[:, 0].contiguous(), reference).clamp(max=len(self.pairs) - 1)
        there = self.pairs[first, 0] == reference
        column, row = grid.cells(points_px).long().unbind(-1)
        cell = row.clamp(0, grid.height - 1) * grid.width + column.clamp(0, grid.width - 1)
        best = self.attended.best[first[:, None], cell] * grid.stride_px + grid.offset_px
        return torch.where(there, self.pairs[first, 1], -1), torch.where(there[:, None, None], best, torch.nan)


class EpipolarPose(nn.Module):
    """The backbone (``backbone.*``) and the block (``epipolar_sampler.*``, the published names).

    Args:
        architecture: of both.
        backbone: built from it.
        seed: of the block's fresh weights.
    """

    def __init__(self, architecture: EpipolarArchitecture, backbone: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = backbone
        sampler = None
        if architecture.fusion != "none":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                sampler = EpipolarSampler(final_layer(backbone).in_channels, architecture.attention)
        self.epipolar_sampler = sampler

    def forward(
        self,
        images: Tensor,
        P: Tensor,
        valid: Tensor,
        answer: Tensor | None = None,
        *,
        sources: int | None = None,
        detail: bool = False,
    ) -> Views:
        """Heat maps of views that look at each other.

        Args:
            images: (n, 3, S, S) normalised crops, the views of sample after sample.
            P: (B, V, 3, 4) float64.
            valid: (B, V) bool with n true.
            answer: (B, V) bool, the views whose heat maps are wanted; the others then go through the backbone by
                themselves and before them, as in the release, whose batch statistics are of one kind of view each.
                None: all views, together.
            sources: nearest views that each looks at; None: the architecture's number.
            detail: keep attention weights.
        """
        arch = self.architecture
        wanted = torch.ones(len(images), dtype=torch.bool, device=images.device)
        if answer is None:
            features = arch.run(self.backbone, images).features
        else:
            wanted = answer[valid]
            parts = [(part, arch.run(self.backbone, images[part]).features) for part in (~wanted, wanted) if part.any()]
            first = parts[0][1]
            features = first.new_zeros((len(images), *first.shape[1:]))
            for part, found in parts:
                features = features.index_put((part.nonzero()[:, 0],), found)
        features = features.float()
        own = features if answer is None else features[wanted]
        if self.epipolar_sampler is None:
            none = torch.zeros((0, 2), dtype=torch.long, device=images.device)
            return Views(final_layer(self.backbone)(own), none, None, None)
        pairs = self.pairs(P, valid, arch.sources if sources is None else sources)
        pairs = pairs[wanted[pairs[:, 0]]]
        samples = self.samples(P[valid], pairs, features)
        among = torch.stack([wanted.cumsum(0)[pairs[:, 0]] - 1, pairs[:, 1]], dim=-1)
        attended = self.epipolar_sampler(own, features, among, samples, arch.grid(features), detail=detail)
        return Views(final_layer(self.backbone)(own + attended.features), pairs, samples, attended)

    @staticmethod
    def pairs(P: Tensor, valid: Tensor, sources: int | None) -> Tensor:
        """(m, 2) every view and its sources, as indices of the valid views, sample after sample."""
        flat = (valid.flatten().cumsum(0) - 1).unflatten(0, valid.shape)
        near = nearest_views(P, valid, sources)  # (B, V, S)
        there = near >= 0
        source = flat[:, None].expand(-1, near.shape[1], -1).gather(2, near.clamp(min=0))
        return torch.stack([flat[..., None].expand_as(near)[there], source[there]], dim=-1)

    def samples(self, P: Tensor, pairs: Tensor, maps: Tensor) -> Samples:
        """Where the cells of each pair of the views P (n, 3, 4) look."""
        arch = self.architecture
        grid = arch.grid(maps)
        if arch.fusion == "unconstrained":
            return everywhere(len(pairs), grid, arch.attention.samples, maps.device)
        P = P.double()
        segments = epipolar_segments(P[pairs[:, 0]], P[pairs[:, 1]], grid, published=arch.compat)
        return along_lines(segments, grid, arch.attention.samples)


def final_layer(backbone: nn.Module) -> nn.Conv2d:
    """The layer that makes heat maps of features."""
    layer = backbone.final_layer
    assert isinstance(layer, nn.Conv2d)
    return layer
