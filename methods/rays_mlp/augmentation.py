"""Augmentation of colours and crops in training, as in the release."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from poseboard.datasets.camera import Array, Box, Camera
from poseboard.datasets.sample import Image, View
from poseboard.methods.base import Options

Floats = NDArray[np.float32]


class ColourChange(NamedTuple):
    """Change of an image's colours. Its steps are applied in the order of the fields.

    Args:
        brightness: grey levels to add.
        contrast: factor on all values.
        saturation: factor on the saturation in HSV.
        hue_deg: degrees to add to the hue in HSV.
        channels: index of the old channel for each new channel.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue_deg: float = 0.0
    channels: tuple[int, int, int] = (0, 1, 2)

    def changed(self, image: NDArray[np.generic]) -> Floats:
        """Apply the change to an image (H, W, 3) RGB, 0 … 255. Values of the result may exceed this range."""
        pixels = np.clip(image.astype(np.float32), 0, 255) + np.float32(self.brightness)
        hsv = np.asarray(cv2.cvtColor(pixels * np.float32(self.contrast), cv2.COLOR_RGB2HSV), dtype=np.float32)
        hsv[..., 1] = hsv[..., 1] * self.saturation
        hsv[..., 0] = (hsv[..., 0] + self.hue_deg) % 360
        return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[..., list(self.channels)], dtype=np.float32)


class ColourAugmentation(Options):
    """Options of random colour changes. Zeros change nothing, and the defaults are those of the release.

    Args:
        probability: probability of each of the five changes.
        brightness: maximum change of brightness, grey levels.
        contrast: maximum relative change of contrast.
        saturation: maximum relative change of saturation.
        hue_deg: maximum change of hue.
        channels: whether to permute channels.
    """

    probability: float = Field(default=0.5, ge=0, le=1)
    brightness: float = Field(default=32.0, ge=0, le=255)
    contrast: float = Field(default=0.5, ge=0, lt=1)
    saturation: float = Field(default=0.5, ge=0, le=1)
    hue_deg: float = Field(default=18.0, ge=0, le=180)
    channels: bool = True

    def draw(self, rng: np.random.Generator) -> ColourChange:
        """Draw one change. Every call uses the same number of random numbers."""
        drawn = rng.random(5) < self.probability
        brightness, contrast, saturation, hue = drawn[:4] * rng.uniform(-1, 1, size=4)
        order = rng.permutation(3)
        return ColourChange(
            brightness=self.brightness * brightness,
            contrast=1 + self.contrast * contrast,
            saturation=1 + self.saturation * saturation,
            hue_deg=self.hue_deg * hue,
            channels=tuple(order.tolist()) if drawn[4] and self.channels else (0, 1, 2),
        )


def jittered_square(box_px: Box, scale: float, shift: tuple[float, float]) -> Box:
    """Square (left, upper, right, lower) in integer pixels around the shifted centre of a box.

    Args:
        box_px: left, upper, right, lower.
        scale: side of the square divided by the longer side of the box.
        shift: shift of the centre along x and y, as shares of the width and height of the box.

    Example:
        >>> jittered_square((10, 10, 20, 30), 1.5, (0.0, 0.0))
        (0, 5, 30, 35)
    """
    left, upper, right, lower = box_px
    width, height = right - left, lower - upper
    x, y = int((left + right) / 2 + shift[0] * width), int((upper + lower) / 2 + shift[1] * height)
    side = int(max(width, height) * scale)
    left, upper = x - side // 2, y - side // 2
    return left, upper, left + side, upper + side


def padded_crop(image: Image, box_px: Box) -> Image:
    """Crop the pixels of a box; black outside the image."""
    left, upper, right, lower = box_px
    height, width = image.shape[:2]
    crop = np.zeros((lower - upper, right - left, 3), dtype=np.uint8)
    x0, x1, y0, y1 = max(left, 0), min(right, width), max(upper, 0), min(lower, height)
    if x1 > x0 and y1 > y0:
        crop[y0 - upper : y1 - upper, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return crop


MIDDLE_SCALE = 1.15
"""Of the release's crops: it draws the factor between 1.1 and 1.2, in its tests as well; ours do not draw."""


def crop_frame(
    view: View, side_px: int, scale: float = MIDDLE_SCALE, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[Floats, Camera]:
    """Crop the only person of a whole frame: pixels (S, S, 3) float32, cubic interpolation, and the crop's camera.

    Args:
        view: view of one person, with or without extrinsics.
        side_px: side S of the crop.
        scale: see `jittered_square`.
        shift: see `jittered_square`.
    """
    left, upper, right, lower = (round(float(value)) for value in view.boxes_px[0])
    box = jittered_square((left, upper, right, lower), scale, shift)
    pixels = padded_crop(view.pixels(), box).astype(np.float32)
    resized = cv2.resize(pixels, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.float32), view.camera.crop_resize(box, (side_px, side_px))


def drawn_crop(rng: np.random.Generator) -> tuple[float, tuple[float, float]]:
    """Draw scale and shift of a training crop, with the distributions of the release."""
    scale, x, y = rng.uniform(1.1, 1.2), rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1)
    return float(scale), (float(x), float(y))


def about_root(camera: Camera, joints_mm: Array, root: int) -> Array:
    """Convert world joints (J, 3) to root-relative joints in the camera's frame."""
    of_camera = camera.to_camera(joints_mm)
    return np.asarray(of_camera - of_camera[root])
