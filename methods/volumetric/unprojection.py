"""Cubes of voxels around a person, and unprojection of the features of several views into these cubes.

Learnable triangulation (Iskakov et al., ICCV 2019, section 3.2 and release code). Positions are in the world frame in
mm, and P projects to feature pixels.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

Aggregation = Literal["softmax", "sum", "max", "conf", "conf_norm"]
"""How the features of several views are combined per voxel; see `unproject`."""

AGGREGATIONS: tuple[str, ...] = get_args(Aggregation)

_CACHE_BYTES = 2**20
"""Size of the largest intermediate on a CPU: it should stay in the cache."""
_DEVICE_BYTES = 2**28
"""The same on a GPU."""


def rotation_about(axis: Tensor, theta: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) by ``theta`` (...) rad counter-clockwise about unit axes (..., 3)."""
    x, y, z = axis.expand(*theta.shape, 3).unbind(-1)
    zero = torch.zeros_like(x)
    # Rodrigues: R = cos I + sin [a]x + (1 - cos) a a^T.
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    outer = axis[..., :, None] * axis[..., None, :]
    eye = torch.eye(3, dtype=theta.dtype, device=theta.device)
    cos, sin = theta.cos()[..., None, None], theta.sin()[..., None, None]
    return cos * eye + sin * cross + (1 - cos) * outer


def voxel_offsets(side_mm: float, voxels: int, turn: Tensor, *, transfer: bool = False) -> Tensor:
    """Positions of the voxels of B cubes relative to their centres.

    The outer voxels lie on the faces of the cube, so that the pitch is ``side_mm / (voxels - 1)``. The axes of the grid
    are the world axes, transformed by ``turn``.

    Args:
        side_mm: length of an edge.
        voxels: number N of voxels per edge.
        turn: (B, 3, 3) rotation of the cube about its centre, or a reflection for a mirrored person.
        transfer: swap the last two axes of the grid and reverse the new second one. A network that was trained on a
            world with y down can then be used in a world with z up (`transfer_cmu_to_human36m` of the release).

    Returns:
        (B, N, N, N, 3) mm, with the type of ``turn``.

    Example:
        >>> voxel_offsets(2000, 3, torch.eye(3)[None])[0, 0, 1, 2]
        tensor([-1000.,     0.,  1000.])
    """
    line = torch.linspace(-side_mm / 2, side_mm / 2, voxels, dtype=turn.dtype, device=turn.device)
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1)
    offsets = torch.einsum("brc,xyzc->bxyzr", turn, grid)
    return offsets.transpose(2, 3).flip(2) if transfer else offsets


def centred(P: Tensor, centre_mm: Tensor) -> Tensor:
    """Projection matrices (B, V, 3, 4) for points relative to ``centre_mm`` (B, 3), which float32 represents well."""
    shift = torch.einsum("bvrc,bc->bvr", P[..., :3], centre_mm) + P[..., 3]
    return torch.cat([P[..., :3], shift[..., None]], dim=-1)


def over_views(confidences: Tensor, valid: Tensor) -> Tensor:
    """Confidences (n, C) of n views divided by their sum per sample; ``valid`` (B, V) assigns views to samples."""
    of_views = confidences.new_zeros((*valid.shape, confidences.shape[-1]))
    of_views[valid] = confidences
    return confidences / of_views.sum(dim=1, keepdim=True).expand_as(of_views)[valid]


def unproject(
    features: Tensor,
    P: Tensor,
    positions_mm: Tensor,
    valid: Tensor,
    aggregation: Aggregation = "softmax",
    confidences: Tensor | None = None,
    *,
    compat: bool = False,
    memory_bytes: int | None = None,
) -> Tensor:
    """Unproject features into voxels: bilinear samples of each view's map, aggregated over the views of a sample.

    The feature of a voxel behind a camera or outside the map is 0, and the aggregation includes this 0. Absent views
    are not included.

    Args:
        features: (n, C, h, w) feature maps, ordered by sample, then view.
        P: (B, V, 3, 4) projection matrices, world mm to feature pixels.
        positions_mm: (B, a, b, c, 3) voxel positions, world.
        valid: (B, V) bool, whether the sample has this view; n values are True, at least one per sample.
        aggregation: "sum", "max", "softmax" (views weighted by the soft-max of their features), "conf" (sum weighted by
            ``confidences``), "conf_norm" (the same with confidences divided by their sum over the views).
        confidences: (n, C), for "conf" and "conf_norm".
        compat: sample as the release does, because published weights depend on it: x is divided by the height of the
            map and y by its width, and both address corner-aligned maps, so that a map of 96 px shrinks by 1/96.
        memory_bytes: maximum size of an intermediate tensor; None: 1 MiB on a CPU, 256 MiB elsewhere.

    Returns:
        Features (B, C, a, b, c), channels last in memory.

    Raises:
        ValueError: the aggregation is unknown, or it needs ``confidences`` and they are None.
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"no aggregation {aggregation!r}, known: {', '.join(AGGREGATIONS)}")
    if aggregation in ("conf", "conf_norm"):
        if confidences is None:
            raise ValueError(f"aggregation {aggregation} needs confidences")
        weights = over_views(confidences, valid) if aggregation == "conf_norm" else confidences
        features = features * weights[..., None, None].to(features.dtype)
    samples, views = valid.shape
    channels, height, width = features.shape[1:]
    # Maps padded with zeros, so that positions outside of a map need no mask: a zero column before every row, which is
    # also the column after the row above, and zero rows above and below.
    table = functional.pad(features, (1, 0, 1, 3)).permute(0, 2, 3, 1).reshape(-1, channels)
    # First row of each view's map in the table. Absent views point to the first map; P = 0 sends them to its zeros.
    place = torch.where(valid, valid.flatten().cumsum(0).view_as(valid) - 1, 0) * ((height + 4) * (width + 1))
    P = torch.where(valid[..., None, None], P, 0).to(torch.promote_types(features.dtype, torch.float32))
    flat = positions_mm.flatten(1, 3).to(P.dtype).mT.contiguous()  # (B, 3, M)
    limit = memory_bytes or (_CACHE_BYTES if features.device.type == "cpu" else _DEVICE_BYTES)
    step = max(1, limit // (samples * views * max(32, channels * features.element_size())))
    parts = []
    # A few voxels of all views at a time. The embedding bag sums the four weighted corners without storing them.
    for chunk in flat.split(step, dim=2):
        index, weight = _corners(P, chunk, place, (height, width), compat=compat)  # (V, B, m, 4)
        seen = functional.embedding_bag(
            index.flatten(0, 2), table, mode="sum", per_sample_weights=weight.flatten(0, 2).to(features.dtype)
        )
        parts.append(_aggregate(seen.unflatten(0, index.shape[:3]), valid, aggregation))
    whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return whole.unflatten(1, positions_mm.shape[1:4]).permute(0, 4, 1, 2, 3)


def _corners(
    P: Tensor, positions: Tensor, place: Tensor, size: tuple[int, int], *, compat: bool
) -> tuple[Tensor, Tensor]:
    """Rows of the padded feature table and bilinear weights of the four pixels around each projection.

    Args:
        P: (B, V, 3, 4) projection matrices; 0 for an absent view.
        positions: (B, 3, m) voxel positions.
        place: (B, V) first row of each view's map in the table.
        size: height and width of a map.
        compat: see `unproject`.

    Returns:
        Rows and weights, both (V, B, m, 4).
    """
    height, width = size
    stride = width + 1
    # 1. Project: x = P X.
    x = (P[..., :3].flatten(1, 2) @ positions).unflatten(1, P.shape[1:3]) + P[..., 3:]  # (B, V, 3, m)
    x = x.permute(2, 1, 0, 3)
    ahead = x[2] > 0  # false for NaN as well
    inverse = x[2].reciprocal()
    u, v = x[0] * inverse, x[1] * inverse
    if compat:
        u, v = u * ((width - 1) / height), v * ((height - 1) / width)
    # 2. Points behind the camera or outside go to the border of zeros, at -1 or at the size. The clamp also keeps the
    # indices in the table.
    u = torch.where(ahead, u, -1.0).clamp_(-1, width)
    v = torch.where(ahead, v, -1.0).clamp_(-1, height)
    # 3. Rows of the four pixels around (u, v), and their bilinear weights.
    left, upper = u.floor(), v.floor()
    first = torch.add(left, upper, alpha=stride).to(torch.int32)
    first += (place.T[..., None] + stride + 1).to(torch.int32)
    around = torch.tensor([0, 1, stride, stride + 1], dtype=torch.int32, device=P.device)
    a, b = u - left, v - upper
    both = a * b
    return first[..., None] + around, torch.stack([1 - a - b + both, a - both, b - both, both], dim=-1)


def _aggregate(views: Tensor, valid: Tensor, aggregation: str) -> Tensor:
    """Aggregate features (V, B, m, C) over views: (B, m, C)."""
    if aggregation not in ("max", "softmax"):
        return views.sum(dim=0)
    counted = views if bool(valid.all()) else views.masked_fill(~valid.T[:, :, None, None], -torch.inf)
    if aggregation == "max":
        return counted.amax(dim=0)
    # Soft-max over the views, per voxel and channel: sum_v softmax(f)_v f_v.
    weights = counted.softmax(dim=0)
    # In place if there is no gradient: faster on a CPU.
    weighted = weights * views if weights.requires_grad else weights.mul_(views)
    return weighted.sum(dim=0)
