"""The lifting networks: heat maps or image features of one view -> a root-relative pose in units of its own size.

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
    """The joints that define the size and the canonical frame of a pose; see `canonicalise`.

    Args:
        axis: joint on -y.
        plane: joint in z = 0.
        scale: two joints whose distance is the size of the pose.
        handed: the skeleton is one of hands, left or right.
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
    """Indices of the axis, plane and two scale joints; InputError if the skeleton has no canonical frame."""
    frame = CANONICAL.get(skeleton.name)
    if frame is None or skeleton.root is None:
        raise InputError(
            "lifting", f"there is no canonical frame for {skeleton.name}", f"known: {', '.join(CANONICAL)}"
        )
    axis, plane, first, second = skeleton.indices([frame.axis, frame.plane, *frame.scale])
    return axis, plane, (first, second)


class DrawnMaps(Options):
    """Settings of heat maps that are drawn from joints instead of predicted by the backbone.

    Args:
        side: of the square maps, in cells of 4 px.
        sigma_px: of the Gaussians.
        transposed: rows and columns are exchanged, as in the release's maps of hands (a defect: it passes (row, column)
            where (x, y) is expected).
        zeroed: maps of unknown joints are 0, as for hands; otherwise 0.01, the minimum of all maps.
        crop_px: side of the crops that the maps are for. Joints of other crops are scaled to it.
    """

    side: int = Field(ge=1)
    sigma_px: float = Field(gt=0)
    transposed: bool = False
    zeroed: bool = False
    crop_px: int = Field(default=256, ge=1)

    def draw(self, points_px: Tensor, crop_px: int, known: Tensor | None = None) -> Tensor:
        """Joints (B, J, 2) in crops of ``crop_px`` -> maps (B, J, side, side), empty where ``known`` (B, J) is 0."""
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
    """The architecture of a lifting network, in plain values.

    Args:
        backbone: the 2D network.
        network: "direct": heat maps to the pose. "rotation": heat maps to the canonical pose and its rotation.
            "image_rotation": pooled image features to both, one linear layer each.
        map_px: side of the heat maps.
        pool: heat maps are averaged over squares of this side; 8 as published (for maps of 64 and 224).
        drawn: heat maps are drawn from the backbone's joints; None: they are the backbone's own.
        feature_width: channels of the pooled image features.
        handed: whether left or right hand is an input.
        mirror_right: right hands have the canonical pose of left ones, mirrored in z.
        centre_ray: the pose is in the frame of the camera turned to the crop's centre, see `ray_rotation`.
        raw_maps: the backbone's maps are Gaussians, as in the release, and are used without soft-max.
        stretched: crops are RGB, their values stretched to 0 … 255 per crop and not normalised, as the release does for
            hands.
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
        """Crops (n, S, S, 3) uint8 RGB -> input of the backbone (n, 3, S, S) float32."""
        if not self.stretched:
            return self.backbone.prepare(images)
        low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
        return (255.0 * (images - low) / (high - low).clamp(min=1)).permute(0, 3, 1, 2)

    def build(self) -> LiftingNet | ImageLiftingNet:
        """The lifting network with random weights from torch's current random state."""
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
        known: (B, J); the map of a joint with 0 is empty.
    """

    points_px: Tensor
    known: Tensor


class Lifted(NamedTuple):
    """A root-relative pose in units of its size.

    Args:
        pose: (B, J, 3) in the frame of the camera, or of the camera turned to the crop's centre.
        canonical: (B, J, 3) in the canonical frame, ``pose = canonical @ R``; None of a direct network. With
            ``mirror_right`` right hands are mirrored before the rotation.
        R: (B, 3, 3), or None.
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

    PyTorch's initial weights divide the variance by six. After the six convolutions of a heat-map network poses hardly
    differ. Training then predicts only the mean pose for its first third, and sometimes until its end.

    Example:
        >>> network.apply(keep_variance)
    """
    if isinstance(layer, nn.Conv2d) and layer.bias is not None:
        nn.init.kaiming_normal_(layer.weight, 0.01, nonlinearity="leaky_relu")
        nn.init.zeros_(layer.bias)


def _with_side(features: Tensor, side: Tensor | None) -> Tensor:
    return features if side is None else torch.cat([features, 1 - side, side], dim=-1)


def _convolutions(width_in: int, widths: tuple[int, int, int]) -> nn.Sequential:
    """Six 3x3 convolutions, every other one with stride 2."""
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
    """Heat maps to a pose, or to a canonical pose and its rotation.

    The release's names: ``lifting_direct`` and ``lifting``, or ``lifting_rot``.

    Args:
        joints: number of heat maps and of joints.
        map_px: side of the heat maps.
        pool: side of the squares that the maps are averaged over.
        rotation: whether there is a viewpoint branch.
        handed: whether left or right hand is an input.
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
        """Lift heat maps (B, J, h, w); ``side`` (B, 1) of handed networks is 0 for left, 1 for right."""
        x = functional.avg_pool2d(heatmaps, self._pool, self._pool, ceil_mode=True)
        pose = self.poseprior(_with_side(self.conv1(x).flatten(1), side)).unflatten(-1, (-1, 3))
        if self.conv2 is None or self.viewpoint is None:
            return Lifted(pose)
        return _turned(pose, self.viewpoint(_with_side(self.conv2(x).flatten(1), side)), side, self._mirror_right)


class ImageLiftingNet(nn.Module):
    """Pooled image features to a canonical pose and its rotation, one linear layer each (``img_lifting_rot``).

    Args:
        joints: number of joints.
        width: channels of the features.
        handed: with left or right hand as an input.
        mirror_right: see `LiftingArchitecture`.
    """

    def __init__(self, joints: int, width: int, *, handed: bool = False, mirror_right: bool = False) -> None:
        super().__init__()
        self._mirror_right = mirror_right
        self.poseprior = nn.Linear(width + 2 * handed, 3 * joints)
        self.viewpoint = nn.Linear(width + 2 * handed, 3)

    def forward(self, features: Tensor, side: Tensor | None = None) -> Lifted:
        """Lift pooled features (B, C); ``side`` (B, 1) of handed networks is 0 for left, 1 for right."""
        x = _with_side(features, side)
        return _turned(self.poseprior(x).unflatten(-1, (-1, 3)), self.viewpoint(x), side, self._mirror_right)


def pose_loss(predicted: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Published loss: mean squared error of coordinates (B, J, 3); joints with ``known`` (B, J) of 0 count as 0."""
    mask = known[..., None] > 0
    zero = torch.zeros((), dtype=predicted.dtype, device=predicted.device)
    return (torch.where(mask, predicted, zero) - torch.where(mask, truth, zero)).square().mean()


def rotation_loss(predicted: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Published loss: mean squared error of matrices (B, 3, 3); matrices with ``known`` (B,) of 0 count as 0."""
    return ((known > 0)[:, None, None] * (predicted - truth)).square().mean()


class Lifting(nn.Module):
    """A backbone and a lifting network.

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
            side: (B, 1) hand of handed networks: 0 left, 1 right.
            joints: with ``drawn``: true joints to draw the maps from. The backbone does not run.

        Returns:
            The poses, and the raw heat maps of the backbone (B, J, h, w) or, with ``joints``, the drawn ones. The
            lifting network sees the backbone's maps scaled to a peak of 1, like the Gaussians of the published
            training, unless they are ``raw_maps``.
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
