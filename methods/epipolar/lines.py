"""Epipolar lines of a view's map pixels in another view, cut to that view's map and sampled, in float64.

Epipolar Transformers (He et al., CVPR 2020), section 3.1 and release code. Crop pixels have their centres at integers;
cell ``u`` of a map lies at crop pixel ``u * stride + offset``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_FAR_PX = 10_000.0
"""How far before the map's first pixel a line that misses the map is put, as in the release code."""
_CORNER_PX = 1e-3
"""The release code's tolerance at the border, and its smallest divisor."""


@dataclass(frozen=True)
class MapGrid:
    """Where the cells of a feature map lie in its crop.

    Args:
        height: cells.
        width: cells.
        stride_px: crop pixels between neighbouring cells.
        offset_px: crop pixel of cell 0; published networks have ``stride / 2 - 0.5``.
    """

    height: int
    width: int
    stride_px: float
    offset_px: float

    def centres(self, device: torch.device | str = "cpu") -> Tensor:
        """(H W, 2) float64 crop pixels (x, y) of the cells, row by row."""
        rows = torch.arange(self.height, dtype=torch.float64, device=device)
        columns = torch.arange(self.width, dtype=torch.float64, device=device)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return torch.stack([x, y], dim=-1).flatten(0, 1) * self.stride_px + self.offset_px

    def cells(self, points_px: Tensor) -> Tensor:
        """Crop pixels (..., 2) as fractional cells."""
        return (points_px - self.offset_px) / self.stride_px

    @property
    def last_px(self) -> tuple[float, float]:
        """Crop pixel (x, y) of the last cell."""
        return (self.width - 1) * self.stride_px + self.offset_px, (self.height - 1) * self.stride_px + self.offset_px


class Segments(NamedTuple):
    """What a map sees of epipolar lines.

    Args:
        start_px: (..., 2) crop pixels.
        end_px: (..., 2); where the line misses the map, the same far point as the start.
        hit: (...) bool, whether it does not miss.
    """

    start_px: Tensor
    end_px: Tensor
    hit: Tensor


def camera_centres(P: Tensor) -> Tensor:
    """World mm (..., 3) of the camera centres of P (..., 3, 4); NaN for a P that is zero."""
    there = P[..., :3].abs().amax(dim=(-2, -1)) > 0
    A = torch.where(there[..., None, None], P[..., :3], torch.eye(3, dtype=P.dtype, device=P.device))
    centres = -torch.linalg.solve(A, P[..., 3])
    return torch.where(there[..., None], centres, torch.nan)


def nearest_views(P: Tensor, valid: Tensor, count: int | None) -> Tensor:
    """The source views of each view: those whose camera centres are nearest to its own.

    Args:
        P: (B, V, 3, 4).
        valid: (B, V) bool, whether there is a view.
        count: most sources a view; None: all other views.

    Returns:
        (B, V, S) indices of views, nearest first, -1 where there are no more.
    """
    views = P.shape[1]
    count = views - 1 if count is None else min(count, views - 1)
    centres = camera_centres(P.double())
    distance = torch.linalg.vector_norm(centres[:, :, None] - centres[:, None], dim=-1)
    pair = valid[:, :, None] & valid[:, None] & ~torch.eye(views, dtype=torch.bool, device=P.device)
    distance = torch.where(pair, distance, torch.inf)
    # Rounded, so that equal distances keep the order of the views in whatever frame the world is given.
    order = (distance * 1e6).round().argsort(dim=-1, stable=True)[..., : max(count, 0)]
    return torch.where(distance.gather(-1, order) < torch.inf, order, -1)


def epipole(P_ref: Tensor, P_src: Tensor) -> Tensor:
    """(..., 3) homogeneous image of the reference camera's centre in the source view."""
    centre = camera_centres(P_ref)
    return (P_src[..., :3] @ centre[..., None])[..., 0] + P_src[..., 3]


def epipolar_lines(P_ref: Tensor, P_src: Tensor, points_px: Tensor, *, published: bool = False) -> Tensor:
    """Lines (a, b, c) with ``a x + b y + c = 0`` in the source view, on which points of the reference view lie.

    Args:
        P_ref: (m, 3, 4).
        P_src: (m, 3, 4).
        points_px: (N, 2) pixels of the reference view.
        published: the release's scale, the cross product of two points whose third component is 1 (infinite where the
            epipole is); otherwise (a, b) has length 1.

    Returns:
        (m, N, 3) float64.
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
    """Lines (..., 3) of `epipolar_lines` between the first and last cell of a map, both included."""
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
    """Where lines (..., 3) cross the border of a map, by the release's rule.

    The borders run through the first and last cells. A crossing counts on a half-open side, so that a corner is not
    counted twice; a line through a corner may lose one.

    Returns:
        crossings (..., 4, 2) with the top, left, right and bottom side, and whether each counts (..., 4).
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
    """As `cut`, by the release's rule: from the first counted crossing to the second, lines with fewer are missed."""
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
    """The epipolar line of every cell of the reference map, cut to the source map of the same grid.

    Args:
        P_ref: (m, 3, 4) world mm to crop pixels.
        P_src: (m, 3, 4).
        grid: of both maps.
        published: the release's border rule and direction.

    Returns:
        (m, H W) segments, cells row by row. Cameras that share their centre have no lines: all are missed.
    """
    lines = epipolar_lines(P_ref, P_src, grid.centres(P_ref.device), published=published)
    if published:
        return cut_published(lines, grid)
    centres = camera_centres(P_ref.double()), camera_centres(P_src.double())
    apart = torch.linalg.vector_norm(centres[0] - centres[1], dim=-1)
    rounding = 1e-9 * sum(torch.linalg.vector_norm(centre, dim=-1) for centre in centres)
    return cut(torch.where((apart > rounding)[:, None, None], lines, 0.0), grid)


def normalised(cells: Tensor, grid: MapGrid, *, correct: bool = True) -> Tensor:
    """Fractional cells (..., 2) as coordinates from -1 to 1 of a sampling grid.

    Args:
        cells: (x, y).
        grid: of the map.
        correct: -1 and 1 are the first and last cell; otherwise the older published rule, their outer borders.
    """
    size = cells.new_tensor([grid.width, grid.height])
    return 2 * cells / (size - 1) - 1 if correct else 2 * (cells + 0.5) / size - 1


def looked_up(cells: Tensor, grid: MapGrid, *, correct: bool = True, align_corners: bool = True) -> Tensor:
    """The cells (..., 2) that bilinear look-up at ``normalised(cells)`` reads: others where the two rules disagree."""
    if correct == align_corners:
        return cells
    size = cells.new_tensor([grid.width, grid.height])
    n = normalised(cells, grid, correct=correct)
    return (n + 1) / 2 * (size - 1) if align_corners else ((n + 1) * size - 1) / 2
