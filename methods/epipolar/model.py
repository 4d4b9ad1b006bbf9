"""Network of epipolar transformers: a 2D backbone whose features attend to other views before the heat-map layer."""

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
"""Crop pixels per cell of the maps, the same for all backbones."""


class EpipolarArchitecture(Architecture):
    """Architecture options of the backbone and its attention block, stored in a checkpoint.

    Args:
        fusion: "epipolar": attention along epipolar lines. "none": no attention. "unconstrained": the same network with
            as many samples of the same views at positions that do not depend on the cameras.
        attention: settings of the block. With ``compat``, ``align_corners`` also applies to decoding.
        sources: number of nearest views that each view attends to.
        compat: conventions of the release: bilinear crops, cells offset by half a cell, the release's border rule for
            lines, and decoding in a window around the peak. Released weights need them.
        window_cells: with ``compat``: radius of the window, heat-map cells.
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
        """Architecture of the released H36M models: BGR, one source view, window of 8 cells at 256 px and 12 at 384."""
        values = {"channels": "bgr", "compat": True, "window_cells": round(crop_px / 32), **settings}
        return cls.model_validate({"network": network, "joints": tuple(joints), "crop_px": crop_px, **values})

    @property
    def resampling(self) -> Resampling:
        """Resampling filter of the crops."""
        return "bilinear" if self.compat else "area"

    def grid(self, maps: Tensor) -> MapGrid:
        """Positions of the cells of maps (..., H, W) in the crop."""
        height, width = maps.shape[-2:]
        return MapGrid(height, width, _STRIDE, (_STRIDE - 1) / 2 if self.compat else 0.0)

    def decode(self, heatmaps: Tensor, decoding: Decoding | None = None) -> tuple[Tensor, Tensor]:
        """Decode heat maps (n, J, H, W) into crop pixels (n, J, 2) and scores (n, J).

        Args:
            heatmaps: maps before soft-max.
            decoding: decoding rule; None: "window" with ``compat``, else "softargmax", as in training.
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
    """Heat maps and attention of r views.

    Args:
        heatmaps: (r, J, H, W), raw.
        pairs: (m, 2) reference and source view of each pair, indices of the n input views.
        samples: sample positions of the pairs; None without fusion.
        attended: output of the attention block; None without fusion.
    """

    heatmaps: Tensor
    pairs: Tensor
    samples: Samples | None
    attended: Attended | None

    def correspondences(self, points_px: Tensor, grid: MapGrid) -> tuple[Tensor, Tensor]:
        """Corresponding points in the nearest source view, which are the samples with the largest weight.

        Coordinates of a point are rounded down to a cell, as in the release. If the epipolar line misses the source
        map, the corresponding point is far outside the crop. The views must be computed with ``detail``.

        Args:
            points_px: (r, J, 2) crop pixels of all r views.
            grid: cell positions of the maps.

        Returns:
            Indices of source views (r,), -1 if there is none; and points in the source crops (r, J, 2), NaN if there is
            none.
        """
        source = self.pairs.new_full((len(points_px),), -1)
        if self.attended is None or self.attended.best is None or not len(self.pairs):
            return source, torch.full_like(points_px, torch.nan)
        reference = torch.arange(len(points_px), device=source.device)
        first = torch.searchsorted(self.pairs[:, 0].contiguous(), reference).clamp(max=len(self.pairs) - 1)
        paired = self.pairs[first, 0] == reference
        column, row = grid.cells(points_px).long().unbind(-1)
        cell = row.clamp(0, grid.height - 1) * grid.width + column.clamp(0, grid.width - 1)
        best = self.attended.best[first[:, None], cell] * grid.stride_px + grid.offset_px
        return torch.where(paired, self.pairs[first, 1], -1), torch.where(paired[:, None, None], best, torch.nan)


class EpipolarPose(nn.Module):
    """Network of a backbone (``backbone.*``) and an attention block (``epipolar_sampler.*``, the published names).

    Args:
        architecture: architecture of backbone and attention block.
        backbone: network built from the architecture.
        seed: seed of the block's random weights.
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
        """Compute heat maps of views that attend to each other.

        Args:
            images: (n, 3, S, S) normalised crops, ordered by sample, then view.
            P: (B, V, 3, 4) float64 projection matrices of the crops.
            valid: (B, V) bool, whether the sample has this view; n values are True.
            answer: (B, V) bool, the views whose heat maps are computed. All other views go through the backbone first,
                as a separate batch. Batch statistics are then computed over one kind of view, as in the release. None:
                all views in one batch.
            sources: number of nearest views that each view attends to; None: the architecture's number.
            detail: also return attention weights and best samples.
        """
        arch = self.architecture
        reference = torch.ones(len(images), dtype=torch.bool, device=images.device)
        if answer is None:
            features = arch.run(self.backbone, images).features
        else:
            reference = answer[valid]
            masks = [mask for mask in (~reference, reference) if mask.any()]
            parts = [arch.run(self.backbone, images[mask]).features for mask in masks]
            features = parts[0].new_zeros((len(images), *parts[0].shape[1:]))
            for mask, part in zip(masks, parts, strict=True):
                features = features.index_put((mask.nonzero()[:, 0],), part)
        features = features.float()
        own = features if answer is None else features[reference]
        if self.epipolar_sampler is None:
            none = torch.zeros((0, 2), dtype=torch.long, device=images.device)
            return Views(final_layer(self.backbone)(own), none, None, None)
        pairs = self.pairs(P, valid, arch.sources if sources is None else sources)
        pairs = pairs[reference[pairs[:, 0]]]
        samples = self.samples(P[valid], pairs, features)
        among = torch.stack([reference.cumsum(0)[pairs[:, 0]] - 1, pairs[:, 1]], dim=-1)
        attended = self.epipolar_sampler(own, features, among, samples, arch.grid(features), detail=detail)
        return Views(final_layer(self.backbone)(own + attended.features), pairs, samples, attended)

    @staticmethod
    def pairs(P: Tensor, valid: Tensor, sources: int | None) -> Tensor:
        """Pairs (m, 2) of each view and its source views, as indices of the valid views, ordered by sample."""
        flat = (valid.flatten().cumsum(0) - 1).unflatten(0, valid.shape)
        near = nearest_views(P, valid, sources)  # (B, V, S)
        present = near >= 0
        source = flat[:, None].expand(-1, near.shape[1], -1).gather(2, near.clamp(min=0))
        return torch.stack([flat[..., None].expand_as(near)[present], source[present]], dim=-1)

    def samples(self, P: Tensor, pairs: Tensor, maps: Tensor) -> Samples:
        """Sample positions of pairs (m, 2) of the n views with projection matrices P (n, 3, 4)."""
        arch = self.architecture
        grid = arch.grid(maps)
        if arch.fusion == "unconstrained":
            return everywhere(len(pairs), grid, arch.attention.samples, maps.device)
        P = P.double()
        segments = epipolar_segments(P[pairs[:, 0]], P[pairs[:, 1]], grid, published=arch.compat)
        return along_lines(segments, grid, arch.attention.samples)


def final_layer(backbone: nn.Module) -> nn.Conv2d:
    """Last layer of a backbone, which computes heat maps from features."""
    layer = backbone.final_layer
    assert isinstance(layer, nn.Conv2d)
    return layer
