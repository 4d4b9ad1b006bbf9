"""Dot products and weighted sums of feature-map samples at fractional cells, with gradients, on a CPU.

A sample is the bilinear interpolation of the four cells around it, and 0 outside the map. Only the positions of the
samples are stored, neither their C x K features per cell nor a matrix of all pairs of cells.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor

from poseboard.methods.epipolar import compiled_samples
from poseboard.methods.epipolar.lines import MapGrid


def products(vectors: Tensor, maps: Tensor, source: Tensor, places: Tensor, grid: MapGrid) -> Tensor:
    """Dot product of each vector with each of its samples.

    Args:
        vectors: (b, R, C) float32 query vectors.
        maps: (n, H W, C) float32 feature maps.
        source: (b,) index of the map with the samples of each row of vectors.
        places: (b, R, K, 2) float64 fractional cells (x, y).
        grid: cell positions of the maps.

    Returns:
        (b, R, K) float32.

    Example:
        >>> grid = MapGrid(1, 2, stride_px=4, offset_px=0)
        >>> maps, halfway = torch.tensor([[[2.0], [4.0]]]), torch.tensor([[[[0.5, 0.0]]]], dtype=torch.float64)
        >>> products(torch.ones(1, 1, 1), maps, torch.tensor([0]), halfway, grid)
        tensor([[[3.]]])
    """
    return cast("Tensor", _Products.apply(vectors, maps, source, places, grid))


def sums(weights: Tensor, maps: Tensor, source: Tensor, places: Tensor, grid: MapGrid) -> Tensor:
    """Sums (b, R, C) of samples, weighted by ``weights`` (b, R, K). All other arguments are those of `products`."""
    return cast("Tensor", _Sums.apply(weights, maps, source, places, grid))


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, maps: Tensor, *of: Any) -> Tensor:
        ctx.save_for_backward(vectors, maps)
        ctx.of = of
        return _products(vectors, maps, *of)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,), (vectors, maps) = gradients, ctx.saved_tensors
        of_vectors = _sums(gradient, maps, *ctx.of) if ctx.needs_input_grad[0] else None
        of_maps = _spread(gradient, vectors, maps, *ctx.of) if ctx.needs_input_grad[1] else None
        return of_vectors, of_maps, None, None, None


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, maps: Tensor, *of: Any) -> Tensor:
        ctx.save_for_backward(weights, maps)
        ctx.of = of
        return _sums(weights, maps, *of)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,), (weights, maps) = gradients, ctx.saved_tensors
        of_weights = _products(gradient, maps, *ctx.of) if ctx.needs_input_grad[0] else None
        of_maps = _spread(weights, gradient, maps, *ctx.of) if ctx.needs_input_grad[1] else None
        return of_weights, of_maps, None, None, None


def _products(vectors: Tensor, maps: Tensor, source: Tensor, places: Tensor, grid: MapGrid) -> Tensor:
    out = vectors.new_empty(places.shape[:3])
    compiled_samples.products(*_arrays(vectors, maps, source, places), grid.width, grid.height, *_arrays(out))
    return out


def _sums(weights: Tensor, maps: Tensor, source: Tensor, places: Tensor, grid: MapGrid) -> Tensor:
    out = maps.new_zeros((*places.shape[:2], maps.shape[2]))
    compiled_samples.sums(*_arrays(weights, maps, source, places), grid.width, grid.height, *_arrays(out))
    return out


def _spread(weights: Tensor, vectors: Tensor, maps: Tensor, source: Tensor, places: Tensor, grid: MapGrid) -> Tensor:
    out = torch.zeros_like(maps, memory_format=torch.contiguous_format)
    compiled_samples.spread(*_arrays(weights, vectors, source, places), grid.width, grid.height, *_arrays(out))
    return out


def _arrays(*values: Tensor) -> list[NDArray[Any]]:
    return [value.detach().contiguous().numpy() for value in values]
