"""Crops of people, the prior of their distance, and back-projection from a crop to the camera frame.

RootNet (Moon et al., ICCV 2019, sections 4 and 5, and release code). All lengths are in millimetres, because adapters
of data sets convert other units. The assumed real size of a box is therefore always in the same unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from poseboard.datasets.boxes import crop_boxes
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import View

REAL_SIDE_MM = 2000.0
"""Side of the square that a person's crop is taken to show at the person's distance."""


def distance_prior_mm(focal_px: ArrayLike, area_px: ArrayLike) -> Array:
    """Prior k of the distance (...) in mm: the distance at which a square of side `REAL_SIDE_MM` fills the crop.

    k does not depend on the resolution, because focal length and side of the crop scale together.

    Args:
        focal_px: (..., 2) fx and fy.
        area_px: (...) area of the enlarged square crop, in pixels of the same image as ``focal_px``.

    Example:
        >>> float(distance_prior_mm([1500.0, 1500.0], 500.0**2))
        6000.0
    """
    focal, area = np.asarray(focal_px, dtype=np.float64), np.asarray(area_px, dtype=np.float64)
    return np.asarray(np.sqrt(REAL_SIDE_MM**2 * focal.prod(axis=-1) / area))


def patch_affine(box_xywh: ArrayLike, size: tuple[int, int], rotation_deg: float = 0.0) -> Array:
    """Affine matrix (3, 3) from pixels of the image to pixels of a patch that is cut from a box.

    Centre and sides of the box become centre and sides of the patch.

    Args:
        box_xywh: (4,) x, y of the upper left corner, width, height.
        size: width and height of the patch.
        rotation_deg: rotation about the centre. The direction this angle clockwise from up points up in the patch.

    Example:
        >>> patch_affine((100, 50, 200, 200), (64, 64))[:2].tolist()
        [[0.32, 0.0, -32.0], [0.0, 0.32, -16.0]]
    """
    box, patch = np.asarray(box_xywh, dtype=np.float64), np.asarray(size, dtype=np.float64)
    angle = np.deg2rad(rotation_deg)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    A = np.eye(3)
    A[:2, :2] = (patch / box[2:])[:, None] * turn
    A[:2, 2] = patch / 2 - A[:2, :2] @ (box[:2] + box[2:] / 2)
    return A


def mirrored_box(box_xywh: ArrayLike, width: int) -> Array:
    """Mirror a box (4,) in an image of ``width`` pixels: the centre x becomes width - 1 - x."""
    box = np.array(box_xywh, dtype=np.float64)
    box[0] = width - 1 - (box[0] + box[2])
    return box


@dataclass(frozen=True, eq=False)
class PersonCrop:
    """Square crop of one person in a view.

    Args:
        box_xywh: (4,) x, y, width, height of the crop, in pixels of the view.
        camera: camera of the view.
    """

    box_xywh: Array
    camera: Camera

    @classmethod
    def of(cls, view: View, person: int, *, cropped: bool) -> PersonCrop:
        """Compute the crop of one person in a view.

        Args:
            view: whole frame, or crop of one person.
            person: index of the person.
            cropped: whether the view already is the crop.

        Raises:
            InputError: the box is empty or outside the image.
        """
        left, upper, right, lower = view.boxes_px[person]
        box = np.array([left, upper, right - left, lower - upper])
        if not cropped:
            box = crop_boxes(box, view.camera.size)[0]
        if not np.isfinite(box).all() or not box[2:].min() > 0:
            raise InputError(f"view {view.name}", f"box {person} is empty or outside the image", "remove this box")
        return cls(box, view.camera)

    @property
    def prior_mm(self) -> float:
        """Prior k of the person's distance in mm, see `distance_prior_mm`."""
        K = self.camera.K
        return float(distance_prior_mm((K[0, 0], K[1, 1]), self.box_xywh[2] * self.box_xywh[3]))

    def root_mm(self, share: ArrayLike, depth_mm: ArrayLike) -> Array:
        """Root position (..., 3) mm in the camera frame, from its position in the crop and its depth.

        Args:
            share: (..., 2) position (x, y) as shares of the crop's sides, from the upper left corner.
            depth_mm: (...) depth along the optical axis.
        """
        pixels = self.box_xywh[:2] + np.asarray(share, dtype=np.float64) * self.box_xywh[2:]
        return back_projected(self.camera, pixels, depth_mm)


def back_projected(camera: Camera, points_px: ArrayLike, depth_mm: ArrayLike) -> Array:
    """Back-project (distorted) pixels (..., 2) with depths (...) mm to points (..., 3) mm in the camera frame.

    Example:
        >>> camera = Camera(np.array([[1500.0, 0, 320], [0, 1500, 240], [0, 0, 1]]), np.eye(3), np.zeros(3))
        >>> back_projected(camera, [470.0, 240.0], 3000.0).tolist()
        [300.0, 0.0, 3000.0]
    """
    depth = np.asarray(depth_mm, dtype=np.float64)[..., None]
    rays = camera.normalised(camera.undistort(points_px))
    return np.concatenate([rays * depth, depth], axis=-1)
