"""Crops of people, the prior of their distance, and the way back from a crop to the camera's frame.

RootNet (Moon et al., ICCV 2019, sections 4 and 5, and release code). All of it is in millimetres: a data set that is
published in metres comes in millimetres out of its adapter, so the real size of a box cannot be in another unit.
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
    """k: the distance (...) mm at which `REAL_SIDE_MM` squared fills the crop.

    Crops may be enlarged: focal lengths and sides grow alike, and k stays as it is.

    Args:
        focal_px: (..., 2) fx, fy.
        area_px: (...) of the crop, squared and enlarged, in pixels of the same image as ``focal_px``.

    Example:
        >>> float(distance_prior_mm([1500.0, 1500.0], 500.0**2))
        6000.0
    """
    focal, area = np.asarray(focal_px, dtype=np.float64), np.asarray(area_px, dtype=np.float64)
    return np.asarray(np.sqrt(REAL_SIDE_MM**2 * focal.prod(axis=-1) / area))


def patch_affine(box_xywh: ArrayLike, size: tuple[int, int], rotation_deg: float = 0.0) -> Array:
    """What taking a patch of ``size`` (width, height) does to pixels: (3, 3).

    The centre of the box goes to that of the patch, its sides to those of the patch, and what points ``rotation_deg``
    clockwise from up points up.

    Args:
        box_xywh: (4,) x, y of the upper left corner, width, height.
        size: width and height of the patch.
        rotation_deg: rotation of the patch about its centre.

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
    """The box (4,) in the mirrored image of that width: its centre x becomes width - 1 - x."""
    box = np.array(box_xywh, dtype=np.float64)
    box[0] = width - 1 - (box[0] + box[2])
    return box


@dataclass(frozen=True, eq=False)
class PersonCrop:
    """One person's square crop in a view.

    Args:
        box_xywh: (4,) of the crop, in pixels of the view.
        camera: camera of the view.
    """

    box_xywh: Array
    camera: Camera

    @classmethod
    def of(cls, view: View, person: int, *, cropped: bool) -> PersonCrop:
        """The crop of one person of a view.

        Args:
            view: a whole frame, or one person's crop.
            person: index of the person.
            cropped: whether the view is the crop already.

        Raises:
            InputError: the box is none (`datasets.boxes.cut_boxes`).
        """
        left, upper, right, lower = view.boxes_px[person]
        box = np.array([left, upper, right - left, lower - upper])
        if not cropped:
            box = crop_boxes(box, view.camera.size)[0]
        if not np.isfinite(box).all() or not box[2:].min() > 0:
            raise InputError(f"view {view.name}", f"box {person} is empty or outside of the image", "leave it out")
        return cls(box, view.camera)

    @property
    def prior_mm(self) -> float:
        """`distance_prior_mm` of this crop."""
        K = self.camera.K
        return float(distance_prior_mm((K[0, 0], K[1, 1]), self.box_xywh[2] * self.box_xywh[3]))

    def root_mm(self, share: ArrayLike, depth_mm: ArrayLike) -> Array:
        """(..., 3) mm in the camera's frame, for where in the crop the root is and how deep.

        Args:
            share: (..., 2) of the crop's sides, from its upper left corner.
            depth_mm: (...).
        """
        pixels = self.box_xywh[:2] + np.asarray(share, dtype=np.float64) * self.box_xywh[2:]
        return back_projected(self.camera, pixels, depth_mm)


def back_projected(camera: Camera, points_px: ArrayLike, depth_mm: ArrayLike) -> Array:
    """Pixels (..., 2) at depths (...) mm as points (..., 3) mm in the camera's frame, a lens undone where there is one.

    Example:
        >>> camera = Camera(np.array([[1500.0, 0, 320], [0, 1500, 240], [0, 0, 1]]), np.eye(3), np.zeros(3))
        >>> back_projected(camera, [470.0, 240.0], 3000.0).tolist()
        [300.0, 0.0, 3000.0]
    """
    depth = np.asarray(depth_mm, dtype=np.float64)[..., None]
    rays = camera.normalised(camera.undistort(points_px))
    return np.concatenate([rays * depth, depth], axis=-1)
