"""Epipolar lines of the cells of a feature map in another view, clipped to the other view's map, in float64.

Epipolar Transformers (He et al., CVPR 2020), section 3.1 and release code. Crop pixels have their centres at integers.
Cell ``u`` of a map is at crop pixel ``u * stride + offset``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_FAR_PX = 10_000.0
"""A line that misses the map is placed this far before its first pixel, as in the release code."""
_CORNER_PX = 1e-3
"""Tolerance at the border and smallest divisor of the release code."""


@dataclass(frozen=True)
class MapGrid:
    """Positions of the cells of a feature map in its crop.

    Args:
        height: number of rows of cells.
        width: number of columns of cells.
        stride_px: crop pixels between neighbouring cells.
        offset_px: crop pixel of cell 0; published networks have ``stride / 2 - 0.5``.
    """

    height: int
    width: int
    stride_px: float
    offset_px: float

    def centres(self, device: torch.device | str = "cpu") -> Tensor:
        """Crop pixels (x, y) of all cells, row by row: (H W, 2) float64."""
        rows = torch.arange(self.height, dtype=torch.float64, device=device)
        columns = torch.arange(self.width, dtype=torch.float64, device=device)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return torch.stack([x, y], dim=-1).flatten(0, 1) * self.stride_px + self.offset_px

    def cells(self, points_px: Tensor) -> Tensor:
        """Convert crop pixels (..., 2) to fractional cells (..., 2)."""
        return (points_px - self.offset_px) / self.stride_px

    @property
    def last_px(self) -> tuple[float, float]:
        """Crop pixel (x, y) of the last cell."""
        return (self.width - 1) * self.stride_px + self.offset_px, (self.height - 1) * self.stride_px + self.offset_px


class Segments(NamedTuple):
    """Epipolar lines clipped to a map.

    Args:
        start_px: (..., 2) crop pixels. For a line that misses the map, start and end are the same distant point.
        end_px: (..., 2) crop pixels.
        hit: (...) bool, whether the line intersects the map.
    """

    start_px: Tensor
    end_px: Tensor
    hit: Tensor


def camera_centres(P: Tensor) -> Tensor:
    """Camera centres (..., 3) of P (..., 3, 4), world mm; NaN where P is zero."""
    present = P[..., :3].abs().amax(dim=(-2, -1)) > 0
    A = torch.where(present[..., None, None], P[..., :3], torch.eye(3, dtype=P.dtype, device=P.device))
    centres = -torch.linalg.solve(A, P[..., 3])
    return torch.where(present[..., None], centres, torch.nan)


def nearest_views(P: Tensor, valid: Tensor, count: int | None) -> Tensor:
    """Select the source views of each view, which are the views with the nearest camera centres.

    Args:
        P: (B, V, 3, 4) projection matrices.
        valid: (B, V) bool, whether the sample has this view.
        count: maximum number of sources per view; None: all other views.

    Returns:
        (B, V, S) indices of views, nearest first, padded with -1.
    """
    views = P.shape[1]
    count = views - 1 if count is None else min(count, views - 1)
    centres = camera_centres(P.double())
    distance = torch.linalg.vector_norm(centres[:, :, None] - centres[:, None], dim=-1)
    pair = valid[:, :, None] & valid[:, None] & ~torch.eye(views, dtype=torch.bool, device=P.device)
    distance = torch.where(pair, distance, torch.inf)
    # Rounded, so that equal distances keep the order of the views whatever the world frame.
    order = (distance * 1e6).round().argsort(dim=-1, stable=True)[..., : max(count, 0)]
    return torch.where(distance.gather(-1, order) < torch.inf, order, -1)


def epipole(P_ref: Tensor, P_src: Tensor) -> Tensor:
    """Epipole (..., 3): homogeneous image of the reference camera's centre in the source view."""
    centre = camera_centres(P_ref)
    return (P_src[..., :3] @ centre[..., None])[..., 0] + P_src[..., 3]


def epipolar_lines(P_ref: Tensor, P_src: Tensor, points_px: Tensor, *, published: bool = False) -> Tensor:
    """Epipolar lines (a, b, c), ``a x + b y + c = 0``, of points of the reference view in the source view.

    Args:
        P_ref: (m, 3, 4) projection matrices of the reference views.
        P_src: (m, 3, 4) projection matrices of the source views.
        points_px: (N, 2) pixels of the reference view.
        published: use the release's scale: a line is the cross product of two points with third component 1, which is
            infinite for an epipole at infinity. Otherwise (a, b) has length 1.

    Returns:
        Lines (m, N, 3) float64.

    Example:
        >>> P_ref, P_src = torch.eye(3, 4)[None], torch.eye(3, 4)[None].clone()
        >>> P_src[0, 0, 3] = 1.0  # cameras side by side: the lines are rows
        >>> epipolar_lines(P_ref, P_src, torch.tensor([[0.0, 3.0]])).abs()
        tensor([[[0., 1., 3.]]], dtype=torch.float64)
    """
    P_ref, P_src, points_px = P_ref.double(), P_src.double(), points_px.double()
    x = torch.cat([points_px, torch.ones_like(points_px[:, :1])], dim=-1)
    other = x @ (P_src @ torch.linalg.pinv(P_ref)).mT
    e = epipole(P_ref, P_src)[:, None]
    if published:
        return torch.linalg.cross(e / e[..., 2:], other / other[..., 2:])
    lines = torch.linalg.cross(e.expand_as(other), other)
    length = torch.linalg.vector_norm(lines[..., :2], dim=-1, keepdim=True)
    return lines / torch.where(length > 0, length, 1.0)


def cut(lines: Tensor, grid: MapGrid) -> Segments:
    """Clip lines (..., 3) of `epipolar_lines` to the rectangle from the first to the last cell of a map."""
    normal, offset = lines[..., :2], lines[..., 2:]
    low = lines.new_full((2,), grid.offset_px)
    high = lines.new_tensor(grid.last_px)
    middle = (low + high) / 2
    foot = middle - ((normal * middle).sum(-1, keepdim=True) + offset) * normal
    along = torch.stack([normal[..., 1], -normal[..., 0]], dim=-1)
    along_safe = torch.where(along.abs() < 1e-15, 1e-15, along)
    t = torch.stack([(low - foot) / along_safe, (high - foot) / along_safe])
    start, end = t.amin(0).amax(-1), t.amax(0).amin(-1)
    hit = (end > start) & (along.abs().amax(-1) > 0)
    far = low - _FAR_PX
    ends = [torch.where(hit[..., None], foot + s[..., None] * along, far) for s in (start, end)]
    return Segments(ends[0], ends[1], hit)


def border_hits(lines: Tensor, grid: MapGrid) -> tuple[Tensor, Tensor]:
    """Intersections of lines (..., 3) with the border of a map, by the release's rule.

    The border runs through the centres of the outer cells. The sides are half-open intervals, so that a corner counts
    once. A line through a corner may lose an intersection.

    Returns:
        Intersections (..., 4, 2) with the top, left, right and bottom side, and a mask (..., 4) of those that count.
    """
    a, b, c = lines.unbind(-1)
    left = top = grid.offset_px
    right, bottom = grid.last_px
    safe_a, safe_b = (v.sign() * v.abs().clamp(min=_CORNER_PX) for v in (a, b))
    x_top, x_bottom = -(top * b + c) / safe_a, -(bottom * b + c) / safe_a
    y_left, y_right = -(left * a + c) / safe_b, -(right * a + c) / safe_b
    eps = _CORNER_PX
    hits = [
        (x_top, torch.full_like(a, top), (x_top >= left + eps) & (x_top < right - eps)),
        (torch.full_like(a, left), y_left, (y_left > top + eps) & (y_left <= bottom - eps)),
        (torch.full_like(a, right), y_right, (y_right >= top + eps) & (y_right < bottom - eps)),
        (x_bottom, torch.full_like(a, bottom), (x_bottom > left + eps) & (x_bottom <= right - eps)),
    ]
    return torch.stack([torch.stack(hit[:2], -1) for hit in hits], -2), torch.stack([hit[2] for hit in hits], -1)


def cut_published(lines: Tensor, grid: MapGrid) -> Segments:
    """Clip lines like `cut`, by the release's rule: from the first to the second intersection of `border_hits`.

    A line with fewer than two such intersections misses the map.
    """
    crossings, counts = border_hits(lines, grid)
    first = (
        counts.to(torch.uint8)
        .argsort(dim=-1, descending=True, stable=True)[..., :2, None]
        .expand(*counts.shape[:-1], 2, 2)
    )
    hit = counts.sum(-1) >= 2
    ends = torch.where(hit[..., None, None], crossings.gather(-2, first), grid.offset_px - _FAR_PX)
    return Segments(ends[..., 0, :], ends[..., 1, :], hit)


def epipolar_segments(P_ref: Tensor, P_src: Tensor, grid: MapGrid, *, published: bool = False) -> Segments:
    """Epipolar line of every cell of the reference map, clipped to the source map with the same grid.

    Args:
        P_ref: (m, 3, 4) projection matrices of the reference views, world mm to crop pixels.
        P_src: (m, 3, 4) projection matrices of the source views.
        grid: cell positions of both maps.
        published: use the release's border rule and direction.

    Returns:
        (m, H W) segments, cells row by row. If both cameras have the same centre, all lines miss the map.
    """
    lines = epipolar_lines(P_ref, P_src, grid.centres(P_ref.device), published=published)
    if published:
        return cut_published(lines, grid)
    centres = camera_centres(P_ref.double()), camera_centres(P_src.double())
    apart = torch.linalg.vector_norm(centres[0] - centres[1], dim=-1)
    rounding = 1e-9 * sum(torch.linalg.vector_norm(centre, dim=-1) for centre in centres)
    return cut(torch.where((apart > rounding)[:, None, None], lines, 0.0), grid)


def normalised(cells: Tensor, grid: MapGrid, *, correct: bool = True) -> Tensor:
    """Convert fractional cells (..., 2) to sampling-grid coordinates from -1 to 1.

    Args:
        cells: (..., 2) fractional cells (x, y).
        grid: cell positions of the map.
        correct: True: -1 and 1 are the centres of the first and last cell. False: -1 and 1 are their outer borders, as
            in older published models.
    """
    size = cells.new_tensor([grid.width, grid.height])
    return 2 * cells / (size - 1) - 1 if correct else 2 * (cells + 0.5) / size - 1


def looked_up(cells: Tensor, grid: MapGrid, *, correct: bool = True, align_corners: bool = True) -> Tensor:
    """Fractional cells (..., 2) at which bilinear sampling reads when it gets ``normalised(cells)``.

    They differ from ``cells`` if ``correct`` and ``align_corners`` differ.
    """
    if correct == align_corners:
        return cells
    size = cells.new_tensor([grid.width, grid.height])
    n = normalised(cells, grid, correct=correct)
    return (n + 1) / 2 * (size - 1) if align_corners else ((n + 1) * size - 1) / 2
