"""Augmentation of crops, which also returns the affine transform of the pixels."""

from __future__ import annotations

import cv2
import numpy as np
from pydantic import Field

from poseboard.datasets.camera import Array
from poseboard.datasets.sample import Image
from poseboard.methods.base import Options


class Augmentation(Options):
    """Options of random changes of crops in training. Zeros change nothing.

    Args:
        flip: probability of a mirror image.
        rotation_deg: maximum rotation about the centre, in both directions.
        scale: maximum relative change of size, in both directions.
        shift: maximum shift along each axis, as a share of the crop's side.
        brightness: maximum relative change of brightness.
        colour: maximum relative change of a single channel.
    """

    flip: float = Field(default=0.5, ge=0, le=1)
    rotation_deg: float = Field(default=5.0, ge=0, le=180)
    scale: float = Field(default=0.05, ge=0, lt=1)
    shift: float = Field(default=0.02, ge=0, lt=1)
    brightness: float = Field(default=0.3, ge=0, lt=1)
    colour: float = Field(default=0.15, ge=0, lt=1)


NO_AUGMENTATION = Augmentation(flip=0, rotation_deg=0, scale=0, shift=0, brightness=0, colour=0)


def augment(image: Image, settings: Augmentation, rng: np.random.Generator, *, mirrored: bool) -> tuple[Image, Array]:
    """Change a crop at random.

    Args:
        image: (S, S, 3) uint8.
        settings: ranges of the changes. ``settings.flip`` is not used here; the caller draws ``mirrored`` once for all
            views of a frame.
        rng: source of every random choice.
        mirrored: mirror the crop: x becomes S - 1 - x. The caller swaps left and right joints.

    Returns:
        The new crop, black outside of the old one, and A (3, 3): pixel (x, y, 1) of the old crop is ``A @ (x, y, 1)``
        in the new one. A camera's P becomes ``A @ P``.

    Example:
        >>> crop, A = augment(crop, Augmentation(rotation_deg=15), np.random.default_rng(0), mirrored=False)
        >>> P, points_px = A @ camera.P, transform_points(A, points_px)
    """
    side = image.shape[0]
    angle = np.deg2rad(settings.rotation_deg) * rng.uniform(-1, 1)
    factor = 1 + settings.scale * rng.uniform(-1, 1)
    shift = settings.shift * side * rng.uniform(-1, 1, size=2)
    gain = (1 + settings.brightness * rng.uniform(-1, 1)) * (1 + settings.colour * rng.uniform(-1, 1, size=3))
    centre = (side - 1) / 2
    turn = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        turn = turn @ np.diag([-1.0, 1.0])
    A = np.eye(3)
    A[:2, :2] = turn
    A[:2, 2] = centre + shift - turn @ (centre, centre)
    if not np.array_equal(A, np.eye(3)):
        image = np.asarray(cv2.warpAffine(image, A[:2], (side, side), flags=cv2.INTER_LINEAR), dtype=np.uint8)
    if not np.array_equal(gain, np.ones(3)):
        levels = np.clip(np.arange(256)[:, None] * gain + 0.5, 0, 255).astype(np.uint8)
        image = np.asarray(cv2.LUT(image, levels[None]), dtype=np.uint8)
    return image, A


def transform_points(A: Array, points_px: Array) -> Array:
    """Transform pixels (..., 2) by an affine matrix A (3, 3)."""
    return np.asarray(points_px @ A[:2, :2].T + A[:2, 2])
