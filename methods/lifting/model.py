"""Lifting networks, which predict a scale-free root-relative pose from heat maps or image features of one view.

They are the networks of the release of epipolar transformers (He et al., CVPR 2020), after Zimmermann and Brox (ICCV
2017) and Ge et al. (CVPR 2019). Tensors have the release's names under ``liftingnet.`` and ``backbone.``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Options
from poseboard.methods.lifting.canonical import axis_angle_to_matrix
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.detector import decode_heatmaps
from poseboard.methods.nets.gaussian_maps import gaussian_maps

Network = Literal["direct", "rotation", "image_rotation"]


class CanonicalFrame(NamedTuple):
    """Joints that define the size and the canonical frame of a pose; see `canonicalise`.

    Args:
        axis: name of the joint on the -y axis.
        plane: name of the joint in the plane z = 0.
        scale: names of the two joints whose distance is the size of the pose.
        handed: whether the skeleton is that of a left or right hand.
    """

    axis: str
    plane: str
    scale: tuple[str, str]
    handed: bool = False


CANONICAL = {
    "human36m-17": CanonicalFrame("thorax", "left_hip", ("thorax", "pelvis")),
    "rhd-21": CanonicalFrame("middle_base", "little_base", ("middle_base", "middle_lower"), handed=True),
}
"""Name of a skeleton -> its canonical frame. That of hands is published. The release has none for bodies: ours."""


def canonical_indices(skeleton: Skeleton) -> tuple[int, int, tuple[int, int]]:
    """Indices of the joints ``axis``, ``plane`` and ``scale`` (two) of a skeleton, see `CanonicalFrame`.

    Raises:
        InputError: the skeleton has no canonical frame.
    """
    frame = CANONICAL.get(skeleton.name)
    if frame is None or skeleton.root is None:
        raise InputError(
            "lifting", f"there is no canonical frame for {skeleton.name}", f"use a data set of {', '.join(CANONICAL)}"
        )
    axis, plane, first, second = skeleton.indices([frame.axis, frame.plane, *frame.scale])
    return axis, plane, (first, second)


class DrawnMaps(Options):
    """Options of heat maps that are drawn from joints instead of predicted by the backbone.

    Args:
        side: side of the square maps, in cells of 4 px.
        sigma_px: standard deviation of the Gaussians, crop pixels.
        transposed: exchange rows and columns. This is a defect of the release's maps of hands, which passes (row,
            column) where (x, y) is expected.
        zeroed: value of the maps of unknown joints. True: 0, as for hands. False: 0.01, the minimum of all maps.
        crop_px: side of the crops to which the maps belong. Joints in other crops are scaled to this side.
    """

    side: int = Field(ge=1)
    sigma_px: float = Field(gt=0)
    transposed: bool = False
    zeroed: bool = False
    crop_px: int = Field(default=256, ge=1)

    def draw(self, points_px: Tensor, crop_px: int, known: Tensor | None = None) -> Tensor:
        """Draw maps (B, J, side, side) of joints (B, J, 2) in crops of ``crop_px``; empty where ``known`` is 0."""
        points = points_px * (self.crop_px / crop_px)
        points = points.flip(-1) if self.transposed else points
        if known is not None and not self.zeroed:  # outside of the map
            points, known = points.masked_fill((known <= 0)[..., None], torch.inf), None
        return gaussian_maps(points, (self.side, self.side), self.sigma_px, known)


RELEASED_MAPS = {
    "human36m-17": DrawnMaps(side=64, sigma_px=8),
    "rhd-21": DrawnMaps(side=224, sigma_px=25, transposed=True, zeroed=True),
}
"""Name of a skeleton -> the true heat maps that the release trains on. In those of hands a crop of 256 px fills the
upper left 64 x 64 cells."""


class LiftingArchitecture(Options):
    """Architecture options of a lifting network, stored in a checkpoint.

    Args:
        backbone: architecture of the 2D network.
        network: "direct": heat maps to the pose. "rotation": heat maps to the canonical pose and its rotation.
            "image_rotation": pooled image features to both, by one linear layer each.
        map_px: side of the heat maps.
        pool: side of the squares over which heat maps are averaged; 8 as published (for maps of 64 and 224).
        drawn: options for drawing heat maps from the backbone's joints; None: the network gets the backbone's maps.
        feature_width: number of channels of the pooled image features.
        handed: whether the network gets the hand (left or right) as an input.
        mirror_right: whether right hands have the canonical pose of left hands, mirrored in z.
        centre_ray: whether the pose is in the frame of the camera rotated to the crop's centre, see `ray_rotation`.
        raw_maps: use the backbone's maps without soft-max, because they are Gaussians, as in the release.
        stretched: stretch RGB values of each crop to 0 … 255 without normalisation, as the release does for hands.
    """

    backbone: Architecture
    network: Network
    map_px: int
    pool: int
    feature_width: int
    drawn: DrawnMaps | None = None
    handed: bool = False
    mirror_right: bool = False
    centre_ray: bool = False
    raw_maps: bool = False
    stretched: bool = False

    def prepare(self, images: Tensor) -> Tensor:
        """Convert crops (n, S, S, 3) uint8 RGB to the input of the backbone (n, 3, S, S) float32."""
        if not self.stretched:
            return self.backbone.prepare(images)
        low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
        return (255.0 * (images - low) / (high - low).clamp(min=1)).permute(0, 3, 1, 2)

    def build(self) -> LiftingNet | ImageLiftingNet:
        """Build the lifting network with random weights from torch's random state."""
        joints = len(self.backbone.joints)
        if self.network == "image_rotation":
            return ImageLiftingNet(joints, self.feature_width, handed=self.handed, mirror_right=self.mirror_right)
        return LiftingNet(
            joints,
            self.map_px,
            self.pool,
            rotation=self.network == "rotation",
            handed=self.handed,
            mirror_right=self.mirror_right,
        )


class Joints(NamedTuple):
    """True joints of crops, from which heat maps are drawn.

    Args:
        points_px: (B, J, 2) in crop pixels.
        known: (B, J) 1 or 0; the map of a joint with 0 is empty.
    """

    points_px: Tensor
    known: Tensor


class Lifted(NamedTuple):
    """Root-relative poses in units of their size.

    Args:
        pose: (B, J, 3) poses in the frame of the camera, or of the camera rotated to the crop's centre.
        canonical: (B, J, 3) poses in the canonical frame, ``pose = canonical @ R``; None for a direct network. With
            ``mirror_right``, right hands are mirrored before the rotation.
        R: (B, 3, 3) rotations; None for a direct network.
    """

    pose: Tensor
    canonical: Tensor | None = None
    R: Tensor | None = None


def _turned(canonical: Tensor, axis_angle: Tensor, side: Tensor | None, mirror_right: bool) -> Lifted:
    R = axis_angle_to_matrix(axis_angle)
    own = mirrored(canonical, side) if mirror_right and side is not None else canonical
    return Lifted(own @ R, canonical, R)


def mirrored(canonical: Tensor, side: Tensor) -> Tensor:
    """Mirror the canonical poses (B, J, 3) of right hands (``side`` (B, 1) is 1) in z."""
    z = canonical[..., 2:] * (1 - 2 * side)[..., None]
    return torch.cat([canonical[..., :2], z], dim=-1)


def keep_variance(layer: nn.Module) -> None:
    """Initialise a convolution so that its output has the variance of its input (He et al., ICCV 2015).

    PyTorch's initial weights divide the variance by six. After the six convolutions of a heat-map network, poses then
    hardly differ, and the network predicts only the mean pose for the first third of training, sometimes to its end.

    Example:
        >>> network.apply(keep_variance)
    """
    if isinstance(layer, nn.Conv2d) and layer.bias is not None:
        nn.init.kaiming_normal_(layer.weight, 0.01, nonlinearity="leaky_relu")
        nn.init.zeros_(layer.bias)


def _with_side(features: Tensor, side: Tensor | None) -> Tensor:
    return features if side is None else torch.cat([features, 1 - side, side], dim=-1)


def _convolutions(width_in: int, widths: tuple[int, int, int]) -> nn.Sequential:
    """Six 3x3 convolutions; every second one has stride 2."""
    layers: list[nn.Module] = []
    for width in widths:
        for stride in (1, 2):
            layers += [nn.Conv2d(width_in, width, 3, stride, 1), nn.LeakyReLU(0.01)]
            width_in = width
    return nn.Sequential(*layers)


def _head(width_in: int, hidden: tuple[int, int], width_out: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(width_in, width), nn.LeakyReLU(0.01), nn.Dropout(dropout)]
        width_in = width
    return nn.Sequential(*layers, nn.Linear(width_in, width_out))


class LiftingNet(nn.Module):
    """Network that lifts heat maps to a pose, or to a canonical pose and its rotation.

    The release names these networks ``lifting_direct`` and ``lifting``, or ``lifting_rot``.

    Args:
        joints: number of heat maps and of joints.
        map_px: side of the heat maps.
        pool: side of the squares over which the maps are averaged.
        rotation: whether the network has a branch that predicts the rotation.
        handed: whether the network gets the hand (left or right) as an input.
        mirror_right: see `LiftingArchitecture`.
    """

    def __init__(
        self, joints: int, map_px: int, pool: int, *, rotation: bool, handed: bool = False, mirror_right: bool = False
    ) -> None:
        super().__init__()
        self._pool, self._mirror_right = pool, mirror_right
        side = -(-map_px // pool)
        for _ in range(3):
            side = -(-side // 2)
        self.conv1 = _convolutions(joints, (32, 64, 128))
        self.poseprior = _head(128 * side**2 + 2 * handed, (512, 512), 3 * joints, 0.2)
        self.conv2 = _convolutions(joints, (64, 128, 256)) if rotation else None
        self.viewpoint = _head(256 * side**2 + 2 * handed, (256, 128), 3, 0.25) if rotation else None

    def forward(self, heatmaps: Tensor, side: Tensor | None = None) -> Lifted:
        """Lift heat maps (B, J, h, w). ``side`` (B, 1), only for handed networks: 0 left, 1 right."""
        x = functional.avg_pool2d(heatmaps, self._pool, self._pool, ceil_mode=True)
        pose = self.poseprior(_with_side(self.conv1(x).flatten(1), side)).unflatten(-1, (-1, 3))
        if self.conv2 is None or self.viewpoint is None:
            return Lifted(pose)
        return _turned(pose, self.viewpoint(_with_side(self.conv2(x).flatten(1), side)), side, self._mirror_right)


class ImageLiftingNet(nn.Module):
    """Network that lifts pooled image features to a canonical pose and its rotation (``img_lifting_rot``).

    It has one linear layer for the pose and one for the rotation.

    Args:
        joints: number of joints.
        width: number of channels of the features.
        handed: whether the network gets the hand (left or right) as an input.
        mirror_right: see `LiftingArchitecture`.
    """

    def __init__(self, joints: int, width: int, *, handed: bool = False, mirror_right: bool = False) -> None:
        super().__init__()
        self._mirror_right = mirror_right
        self.poseprior = nn.Linear(width + 2 * handed, 3 * joints)
        self.viewpoint = nn.Linear(width + 2 * handed, 3)

    def forward(self, features: Tensor, side: Tensor | None = None) -> Lifted:
        """Lift pooled features (B, C). ``side`` (B, 1), only for handed networks: 0 left, 1 right."""
        x = _with_side(features, side)
        return _turned(self.poseprior(x).unflatten(-1, (-1, 3)), self.viewpoint(x), side, self._mirror_right)


def pose_loss(predicted: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Published pose loss: mean squared error of coordinates (B, J, 3). Joints with ``known`` 0 have error 0."""
    mask = known[..., None] > 0
    zero = torch.zeros((), dtype=predicted.dtype, device=predicted.device)
    return (torch.where(mask, predicted, zero) - torch.where(mask, truth, zero)).square().mean()


def rotation_loss(predicted: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Published rotation loss: mean squared error of matrices (B, 3, 3). Matrices with ``known`` 0 have error 0."""
    return ((known > 0)[:, None, None] * (predicted - truth)).square().mean()


class Lifting(nn.Module):
    """Network of a backbone and a lifting network.

    Args:
        architecture: architecture of backbone and lifting network.
        backbone: network built from ``architecture.backbone``.
    """

    def __init__(self, architecture: LiftingArchitecture, backbone: nn.Module) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = backbone
        self.liftingnet = architecture.build()

    def forward(
        self, images: Tensor, side: Tensor | None = None, joints: Joints | None = None
    ) -> tuple[Lifted, Tensor]:
        """Lift crops to root-relative poses.

        Args:
            images: (B, 3, S, S) from `LiftingArchitecture.prepare`.
            side: (B, 1) hand, only for handed networks: 0 left, 1 right.
            joints: only with ``drawn``: true joints, from which heat maps are drawn instead of running the backbone.

        Returns:
            The poses, and the heat maps (B, J, h, w): those of the backbone (raw) or, with ``joints``, the drawn ones.
            Unless ``raw_maps`` is set, the lifting network gets the backbone's maps after soft-max, scaled to a peak of
            1 like the Gaussians of the published training.
        """
        arch, drawn = self.architecture.backbone, self.architecture.drawn
        if drawn is not None and joints is not None:
            maps = drawn.draw(joints.points_px, arch.crop_px, joints.known)
            return self.liftingnet(maps, side), maps
        out = arch.run(self.backbone, images)
        if drawn is not None:
            points_px, _ = decode_heatmaps(arch, out.heatmaps, "softargmax")
            return self.liftingnet(drawn.draw(points_px, arch.crop_px), side), out.heatmaps
        if isinstance(self.liftingnet, ImageLiftingNet):
            return self.liftingnet(out.deepest.float().mean(dim=(-2, -1)), side), out.heatmaps
        if self.architecture.raw_maps:
            return self.liftingnet(out.heatmaps, side), out.heatmaps
        logits = out.heatmaps * arch.multiplier
        return self.liftingnet((logits - logits.amax(dim=(-2, -1), keepdim=True)).exp(), side), out.heatmaps
