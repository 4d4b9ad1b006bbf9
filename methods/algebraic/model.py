"""Network of algebraic triangulation: heat maps, soft-argmax, confidences, weighted linear triangulation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poseboard.methods.geometry.triangulation import dlt
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.joints import Joints, see_joints


def normalised_weights(confidences: Tensor, valid: Tensor) -> Tensor:
    """Confidences (B, V, J) divided by their sum over views, plus 1e-5; 0 where ``valid`` (B, V) is False."""
    confidences = confidences * valid[..., None]
    total = confidences.sum(dim=1, keepdim=True)
    weights = confidences / torch.where(total > 0, total, torch.ones_like(total)) + 1e-5
    return weights * valid[..., None]


def triangulate(
    points_px: Tensor, confidences: Tensor, P: Tensor, valid: Tensor, homogeneous: bool
) -> tuple[Tensor, Tensor]:
    """Weighted linear triangulation of n views that belong to B samples.

    Args:
        points_px: (n, J, 2) undistorted pixels, ordered by sample, then view.
        confidences: (n, J) weights of the points.
        P: (B, V, 3, 4) projection matrices.
        valid: (B, V) bool, whether the sample has this view; n values are True.
        homogeneous: solve the published homogeneous system; see `dlt`.

    Returns:
        Joints (B, J, 3) float64, world mm, NaN with fewer than two views; normalised weights (B, V, J).
    """
    shape = (*valid.shape, points_px.shape[1])
    points = torch.zeros((*shape, 2), dtype=points_px.dtype, device=points_px.device)
    of_views = torch.zeros(shape, dtype=confidences.dtype, device=confidences.device)
    points[valid], of_views[valid] = points_px, confidences
    weights = normalised_weights(of_views, valid)
    return dlt(P.double(), points.double(), weights.double(), homogeneous=homogeneous), weights


class AlgebraicTriangulation(nn.Module):
    """Network of a backbone, soft-argmax and triangulation. Its tensors are ``backbone.*``, as in published weights.

    Args:
        architecture: architecture of the backbone; ``alg_confidences`` turns the confidence head on.
        backbone: network built from the architecture.
    """

    def __init__(self, architecture: Architecture, backbone: nn.Module) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = backbone

    def see(self, images: Tensor) -> Joints:
        """Detect 2D joints and their confidences in normalised crops (n, 3, S, S)."""
        return see_joints(self.architecture, self.backbone, images)

    def forward(
        self, images: Tensor, P: Tensor, valid: Tensor, lens_px: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Joints]:
        """Triangulate the joints of B samples.

        Args:
            images: (n, 3, S, S) normalised crops, ordered by sample, then view.
            P: (B, V, 3, 4) projection matrices of the crops.
            valid: (B, V) bool, whether the sample has this view; n values are True.
            lens_px: (n, J, 2) offsets from distorted to undistorted 2D points; None: no lens distortion.

        Returns:
            Joints (B, J, 3) float64, world mm; normalised weights (B, V, J); and the 2D joints.
        """
        views = self.see(images)
        points = views.points_px if lens_px is None else views.points_px + lens_px
        joints_mm, weights = triangulate(points, views.confidences, P, valid, self.architecture.homogeneous)
        return joints_mm, weights, views
