"""Attention block of epipolar transformers: each cell of a view's feature map attends to samples in other views.

He et al., *Epipolar Transformers*, CVPR 2020, section 3 and release code. The release gathers the K sampled features of
every cell, K x C x H x W numbers. This implementation needs less memory. On a CPU, compiled loops sum over the cells
around each sample (`sampling`). On a GPU, it uses that bilinear sampling is linear: the similarity to a sampled feature
is the interpolation of the similarities to the four cells around it. One matrix product gives the similarities of a
block of cells to all source cells that the block needs, and another gives the weighted sum of values. A block is a set
of cells with neighbouring epipolar lines, which need few source cells. Settings that are not linear in the samples
(cosine, maxima) gather the samples of one block at a time. Blocks are recomputed in the backward pass.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from poseboard.methods.base import Options
from poseboard.methods.epipolar import sampling
from poseboard.methods.epipolar.lines import MapGrid, Segments, looked_up

Layer = Literal["z", "theta", "phi", "g"]

_MASKED = -1e10
"""Replaces a similarity of exactly 0: a sample outside of the map, or a feature that is all zero (release)."""
_DENSE_CELLS = 1024
"""Maps up to this size are one block, which can hold several pairs of views."""
_BLOCK_CELLS = 512
"""Cells per block of larger maps."""
_BLOCK_NUMBERS = 4_000_000
"""Maximum number of similarities, or gathered numbers, per block."""
_KEPT_NUMBERS = 48_000_000
"""Maximum number of similarities that are stored for the backward pass; with more, blocks are recomputed."""


class AttentionSettings(Options):
    """Options of the attention block. The defaults are those of the published models.

    Args:
        samples: number K of samples per line.
        attention: "average": weighted mean over the samples. "max": the sample with the largest cosine similarity.
        similarity: similarity of a cell's query and a sample's key: dot product ("dot") or cosine ("cos"). "prior": no
            similarity; the prior gives the weights.
        softmax: True: soft-max over the samples. False: weights are similarity / K.
        scale: factor before the soft-max, 1/sqrt(64) for every number of channels and samples.
        layers: 1x1 convolutions to use: theta on queries, phi on keys, g on values, and z on the result. z has a batch
            normalisation with initial weights of zero.
        residual: add the input of z to its output.
        bottleneck: factor by which theta, phi and g reduce the channels.
        pool: merge samples i and i + K/2 by their maximum.
        prior: whether to add the prior to the similarities or multiply the weights by it.
        correct_normalise: convention of sampling coordinates, see `lines.normalised`.
        align_corners: convention of the sampling grid. The release code has False with PyTorch 1.3 and later.
    """

    samples: int = Field(default=64, ge=2)
    attention: Literal["average", "max"] = "average"
    similarity: Literal["dot", "cos", "prior"] = "dot"
    softmax: bool = True
    scale: float = Field(default=0.125, gt=0)
    layers: tuple[Layer, ...] = ("z",)
    residual: bool = True
    bottleneck: int = Field(default=1, ge=1)
    pool: bool = False
    prior: Literal["none", "add", "multiply"] = "none"
    correct_normalise: bool = True
    align_corners: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> AttentionSettings:
        if self.bottleneck > 1 and (self.residual or set(self.layers) != {"z", "theta", "phi", "g"}):
            raise ValueError("a bottleneck needs layers z, theta, phi and g, and no residual")
        if self.residual and "z" not in self.layers:
            raise ValueError("residual needs layer z: add z to layers or set residual to false")
        if self.pool and self.samples % 2:
            raise ValueError("pool needs an even number of samples")
        return self

    @property
    def linear(self) -> bool:
        """Whether similarities are linear in the samples."""
        return self.attention == "average" and self.similarity != "cos" and not self.pool

    @property
    def weights(self) -> int:
        """Number of attention weights per cell."""
        return self.samples // 2 if self.pool else self.samples


class Samples(NamedTuple):
    """Sample positions of m pairs of views: sample k of cell p is at ``start[p] + path[k] * span[p]``.

    Args:
        start: (m, H W, 2) first sample, fractional cell (x, y) of the source map.
        span: (m, H W, 2) vector from the first to the last sample, cells.
        path: (K, 2) factors of the span along x and y.
        hit: (m, H W) bool, whether any sample is inside the map.
    """

    start: Tensor
    span: Tensor
    path: Tensor
    hit: Tensor

    def at(self, pairs: slice, cells: Tensor) -> Tensor:
        """Sample positions (b, R, K, 2) of cells (R,) in b of the pairs."""
        return self.start[pairs, cells, None] + self.path * self.span[pairs, cells, None]


def along_lines(segments: Segments, grid: MapGrid, samples: int) -> Samples:
    """Sample positions at equal distances along epipolar lines, both ends included."""
    start = grid.cells(segments.start_px)
    t = torch.linspace(0, 1, samples, dtype=start.dtype, device=start.device)
    return Samples(start, grid.cells(segments.end_px) - start, t[:, None].expand(samples, 2), segments.hit)


def everywhere(pairs: int, grid: MapGrid, samples: int, device: torch.device | str = "cpu") -> Samples:
    """Sample positions evenly spread over the map (Roberts' R2 sequence), the same for every cell and camera."""
    k = torch.arange(samples, dtype=torch.float64, device=device)[:, None]
    ratio = 1.324717957244746  # the plastic number
    steps = torch.tensor([1 / ratio, 1 / ratio**2], dtype=torch.float64, device=device)
    path = (0.5 + k * steps).remainder(1) * torch.tensor([grid.width - 1, grid.height - 1], device=device)
    shape = (pairs, grid.height * grid.width, 2)
    start = torch.zeros(shape, dtype=torch.float64, device=device)
    return Samples(start, torch.ones_like(start), path, torch.ones(shape[:2], dtype=torch.bool, device=device))


class Attended(NamedTuple):
    """Output of the attention block for n reference views.

    Args:
        features: (n, C, H, W) features to add to the reference features.
        weights: (m, H W, K) attention weights of m pairs of views; None without ``detail``. With
            ``attention="max"`` they are similarities.
        best: (m, H W, 2) fractional cell (x, y) of the sample with the largest weight; None without ``detail``.
    """

    features: Tensor
    weights: Tensor | None
    best: Tensor | None


class EpipolarSampler(nn.Module):
    """Attention block of epipolar transformers. Its tensors have the published names.

    Args:
        channels: number of channels of the feature maps.
        settings: see `AttentionSettings`.
    """

    def __init__(self, channels: int, settings: AttentionSettings) -> None:
        super().__init__()
        self.settings = settings
        narrow = channels // settings.bottleneck
        layers: dict[str, nn.Module | None] = dict.fromkeys(("theta", "phi", "g"))
        layers |= {name: nn.Conv2d(channels, narrow, 1) for name in layers if name in settings.layers}
        self.theta, self.phi, self.g = layers["theta"], layers["phi"], layers["g"]
        self.z = nn.Conv2d(narrow, channels, 1) if "z" in settings.layers else None
        self.bn = nn.BatchNorm2d(channels) if "z" in settings.layers else None
        if self.bn is not None:
            nn.init.zeros_(self.bn.weight)

    def forward(
        self,
        reference: Tensor,
        source: Tensor,
        pairs: Tensor,
        samples: Samples,
        grid: MapGrid,
        *,
        prior: Tensor | None = None,
        detail: bool = False,
    ) -> Attended:
        """Attend to features of source views. A reference view with several sources gets the mean over them.

        Args:
            reference: (n, C, H, W) features of the reference views.
            source: (k, C, H, W) features of the source views.
            pairs: (m, 2) indices of a reference and a source view.
            samples: sample positions of each pair.
            grid: cell positions of the maps.
            prior: (m, K, H, W) prior of the weights; None if the settings use no prior.
            detail: also return weights and best samples of each pair.

        Raises:
            ValueError: the settings use a prior but ``prior`` is None, or the reverse.
        """
        settings = self.settings
        if (prior is not None) != (settings.prior != "none" or settings.similarity == "prior"):
            raise ValueError("give a prior if the settings use one, and only then")
        if prior is not None:
            prior = prior.flatten(2).mT  # (m, H W, K)
        # As lists of cells: the features of a cell are contiguous.
        query = _cells(reference if self.theta is None else self.theta(reference))
        value = _cells(source if self.g is None else self.g(source))
        key = value if self.phi is None and self.g is None else _cells(source if self.phi is None else self.phi(source))
        # 1. Attention of every cell of each pair.
        out, weights = _attend(settings, query, key, value, pairs, samples, grid, prior, detail)
        # 2. Mean over the sources of a reference view; a line that misses the map does not count.
        hit = samples.hit[..., None].to(out.dtype)
        shape = (len(reference), *out.shape[1:2], 1)
        count = hit.new_zeros(shape).index_add(0, pairs[:, 0], hit)
        summed = out.new_zeros((*shape[:2], out.shape[2])).index_add(0, pairs[:, 0], out * hit)
        attended = (summed / count.clamp(min=1)).mT.unflatten(2, reference.shape[2:])
        # 3. Layer z with its batch normalisation, and the residual: bn(z(x)) + x.
        if self.z is not None and self.bn is not None:
            normalised = self.bn(self.z(attended))
            attended = attended + normalised if settings.residual else normalised
            # The bias of the normalisation would reach views without any source; their output is 0.
            paired = torch.zeros(len(reference), dtype=torch.bool, device=out.device)
            paired[pairs[:, 0]] = True
            attended = torch.where(paired[:, None, None, None], attended, 0.0)
        # 4. The position that got the largest weight, for figures and triangulations.
        best = None
        if weights is not None:
            k = weights.argmax(dim=-1)
            best = samples.start + samples.path[k] * samples.span
        return Attended(attended, weights, best)


def _cells(maps: Tensor) -> Tensor:
    """Reorder maps (n, C, H, W) to cells (n, H W, C), contiguous float32."""
    return maps.flatten(2).mT.float().contiguous()


def _attend(
    settings: AttentionSettings,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pairs: Tensor,
    samples: Samples,
    grid: MapGrid,
    prior: Tensor | None,
    detail: bool,
) -> tuple[Tensor, Tensor | None]:
    """Compute attended values (m, H W, D) and, with ``detail``, weights (m, H W, K), block by block."""
    count, cells = samples.start.shape[:2]
    summed = settings.linear and _is_compiled(query.device)
    # Numbers held per cell: its samples (loops), its similarities to source cells (products) or all sampled features.
    gathering = settings.samples * query.shape[2]
    held = settings.samples if summed else min(cells, _DENSE_CELLS) if settings.linear else gathering
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    # Autograd would keep the intermediates of all blocks until the backward pass.
    recompute = learns and 2 * count * cells * held > _KEPT_NUMBERS
    # Whole maps at a time, of as many pairs as fit a block.
    whole = summed or (settings.linear and cells <= _DENSE_CELLS)
    together = max(1, _BLOCK_NUMBERS // (cells * held)) if whole else 1
    gathered = max(1, _BLOCK_NUMBERS // gathering)
    size = cells if whole else _BLOCK_CELLS if settings.linear else gathered
    outs: list[Tensor] = []
    kept: list[Tensor] = []
    for first in range(0, count, together):
        block_pairs = slice(first, first + together)
        ref, src = pairs[block_pairs].unbind(-1)
        # Cells whose lines start at neighbouring points of the border have neighbouring lines.
        begin = samples.start[first] - samples.start.new_tensor([grid.width - 1, grid.height - 1]) / 2
        order = torch.arange(cells, device=query.device) if whole else torch.atan2(begin[:, 1], begin[:, 0]).argsort()
        queries = (query[ref] if whole else query[ref[0], order][None]).split(size, dim=1)
        parts = []
        for rows, part in zip(order.split(size), queries, strict=True):
            places = looked_up(
                samples.at(block_pairs, rows),
                grid,
                correct=settings.correct_normalise,
                align_corners=settings.align_corners,
            )
            table = None if prior is None else prior[block_pairs, rows]
            arguments = (settings, part, key, value, src, places, grid, table)
            block = _summed if summed else _interpolated if settings.linear else _gathered
            parts.append(
                checkpoint(block, *arguments, use_reentrant=False, preserve_rng_state=False)
                if recompute
                else block(*arguments)
            )
        # Undo the order of the blocks.
        back = order.argsort()
        outs.append(torch.cat([out for out, _ in parts], dim=1)[:, back])
        if detail:
            kept.append(torch.cat([weights for _, weights in parts], dim=1)[:, back].detach())
    if not outs:
        return value.new_zeros((0, cells, value.shape[2])), value.new_zeros((0, cells, settings.weights))
    return torch.cat(outs), torch.cat(kept) if detail else None


def _is_compiled(device: torch.device) -> bool:
    return device.type == "cpu"


def _weights(settings: AttentionSettings, similarity: Tensor, prior: Tensor | None) -> Tensor:
    """Attention weights (b, R, K) from similarities (b, R, K) and the prior."""
    if settings.similarity == "prior":  # unchanged: no mask, no scale, no soft-max
        return similarity
    similarity = torch.where(similarity == 0, _MASKED, similarity)
    if settings.prior == "add" and prior is not None:
        similarity = similarity + prior
    scaled = similarity * settings.scale
    weights = scaled.softmax(dim=-1) if settings.softmax else similarity / similarity.shape[-1]
    return weights * prior if settings.prior == "multiply" and prior is not None else weights


def _corners(places: Tensor, grid: MapGrid) -> tuple[Tensor, Tensor]:
    """Indices and bilinear weights (..., K, 4) of the cells around fractional cells (..., K, 2); 0 outside the map."""
    low = places.floor()
    fx, fy = (places - low).float().unbind(-1)
    x0, y0 = low.unbind(-1)
    x, y = torch.stack([x0, x0 + 1, x0, x0 + 1], -1), torch.stack([y0, y0, y0 + 1, y0 + 1], -1)
    inside = (x >= 0) & (x < grid.width) & (y >= 0) & (y < grid.height)
    weight = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], -1) * inside
    index = y.clamp(0, grid.height - 1) * grid.width + x.clamp(0, grid.width - 1)
    return index.long(), weight


def _summed(
    settings: AttentionSettings,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    src: Tensor,
    places: Tensor,
    grid: MapGrid,
    prior: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Same as `_interpolated`, by compiled loops over the samples."""
    if settings.similarity == "prior":
        assert prior is not None
        similarity = prior
    else:
        similarity = sampling.products(query, key, src, places, grid)
    weights = _weights(settings, similarity, prior)
    return sampling.sums(weights, value, src, places, grid), weights


def _interpolated(
    settings: AttentionSettings,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    src: Tensor,
    places: Tensor,
    grid: MapGrid,
    prior: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Attention of one block of cells by matrix products with the source cells around its samples.

    Args:
        settings: settings with linear similarities.
        query: (b, R, C) queries of R cells in b pairs.
        key: (k, H W, C) keys of all source views.
        value: (k, H W, D) values of all source views.
        src: (b,) source view of each pair.
        places: (b, R, K, 2) sample positions, fractional cells.
        grid: cell positions of the maps.
        prior: (b, R, K) prior of the weights, or None.

    Returns:
        Attended values (b, R, D) and weights (b, R, K).
    """
    index, corner = _corners(places, grid)
    flat = index.flatten(2)
    if len(src) == 1 and key.shape[1] > _DENSE_CELLS:
        # Keep only the source cells that the samples of this block use.
        touched = torch.zeros(key.shape[1], dtype=torch.bool, device=key.device)
        touched[flat.flatten()] = True
        place_of = touched.cumsum(0) - 1
        flat = place_of[flat]
        cells = touched.nonzero()[:, 0]
        same = value is key
        key = key[src[0]].index_select(0, cells)[None]
        value = key if same else value[src[0]].index_select(0, cells)[None]
    else:
        key, value = key[src], value[src]
    if settings.similarity == "prior":
        assert prior is not None
        similarity = prior.expand(corner.shape[:3])
    else:
        # q · sum_c w_c k_c = sum_c w_c (q · k_c) over the four corners c of a sample: one product with all cells, then
        # interpolation.
        products = torch.bmm(query, key.mT)
        similarity = (products.gather(2, flat).view_as(corner) * corner).sum(-1)
    weights = _weights(settings, similarity, prior)
    # The same for values: add the weight of each sample to its four cells, then one product.
    spread = query.new_zeros((*query.shape[:2], key.shape[1]))
    spread = spread.scatter_add(2, flat, (weights[..., None] * corner).flatten(2))
    return torch.bmm(spread, value), weights


def _gathered(
    settings: AttentionSettings,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    src: Tensor,
    places: Tensor,
    grid: MapGrid,
    prior: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Same as `_interpolated` for similarities that are not linear in the samples; gathers the samples of the block."""
    size = places.new_tensor([grid.width, grid.height])
    # `places` follow the settings' convention already; here cells only become grid_sample's [-1, 1] of aligned corners.
    at = (2 * places / (size - 1) - 1).transpose(1, 2).float()  # (b, K, R, 2)

    def sampled(features: Tensor) -> Tensor:
        maps = features[src].mT.unflatten(2, (grid.height, grid.width))
        features_at = functional.grid_sample(maps, at, padding_mode="zeros", align_corners=True)
        return features_at.unflatten(2, (2, -1)).amax(2) if settings.pool else features_at

    keys = sampled(key)  # (b, C, K, R)
    values = keys if value is key else sampled(value)
    queries = query.mT[:, :, None]
    # "max" compares cosines, whatever the similarity is.
    if settings.attention == "max" or settings.similarity == "cos":
        similarity = functional.cosine_similarity(queries, keys, dim=1, eps=1e-8).mT
    elif settings.similarity == "prior":
        assert prior is not None
        similarity = prior
    else:
        similarity = (queries * keys).sum(1).mT
    if settings.attention == "max":
        best = similarity.argmax(dim=-1)
        return values.gather(2, best[:, None, None].expand(-1, values.shape[1], 1, -1))[:, :, 0].mT, similarity
    weights = _weights(settings, similarity, prior)
    return torch.einsum("bdkr,brk->brd", values, weights), weights
