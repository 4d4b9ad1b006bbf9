"""Views without lens distortion, for methods that sample feature maps along straight rays."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from poseboard.datasets.sample import View


def without_lens(view: View) -> View:
    """Undistort image, camera and detections of a view; black outside the image. A view without distortion is kept."""
    camera = view.camera
    if not camera.dist.any():
        return view
    pixels = view.pixels()
    height, width = pixels.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)
    source = camera.distort(grid).astype(np.float32)
    straight = cv2.remap(pixels, source[..., 0], source[..., 1], cv2.INTER_LINEAR)
    joints = None if view.joints_px is None else camera.undistort(view.joints_px)
    return replace(view, camera=camera.undistorted(), image=np.asarray(straight, dtype=np.uint8), joints_px=joints)
