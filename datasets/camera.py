"""Cameras: projection, lens distortion, crops.

Conventions in all of Poseboard: OpenCV axes (x right, y down, z forward), millimetres and pixels,
``x_cam = R @ X_world + t``, ``P = K [R|t]``, camera centre ``-R.T @ t``. Pixel (0, 0) is at the top left. Crops and
resizes change the intrinsics without half-pixel terms, as the published pipelines do (learnable triangulation, release
code: K is scaled about the image corner).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Box = tuple[int, int, int, int]
"""Left, upper, right, lower, in pixels; right and lower are exclusive."""
_TANGENTIAL = {"opencv": 2.0, "human36m": 1.0}
"""Lens model -> factor of its tangential cross terms."""
_FIXED_POINT_STEPS = 20
"""Iterations that invert the lens model; 20 reach float64 precision for the lenses of our data sets."""


def _frozen(value: ArrayLike, shape: tuple[int, ...], name: str) -> Array:
    array = np.array(value, dtype=np.float64).reshape(-1)
    if array.size != int(np.prod(shape)):
        raise ValueError(f"camera {name} needs {shape}, got {np.shape(value)}")
    if not np.isfinite(array).all():
        raise ValueError(f"camera {name} has values that are not finite")
    array = array.reshape(shape)
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with lens distortion.

    Args:
        K: (3, 3) intrinsics, pixels.
        R: (3, 3) rotation, world to camera.
        t: (3,) translation, mm: ``x_cam = R @ X + t``.
        dist: (5,) k1, k2, p1, p2, k3 on normalised coordinates; zeros for an undistorted image.
        size: (width, height) of the image, pixels.
        distortion: "opencv" is the Brown–Conrady model of OpenCV; "human36m" is the model of the Human3.6M release,
            whose tangential cross term has no factor 2.

    Raises:
        ValueError: a shape is wrong, a value is not finite, K is singular or R is not a rotation.

    Example:
        >>> K = np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]])
        >>> Camera(K, np.eye(3), np.zeros(3), size=(1000, 1000)).project([100.0, 0, 2000])
        array([550., 500.])
    """

    K: Array
    R: Array
    t: Array
    dist: Array = field(default_factory=lambda: np.zeros(5))
    size: tuple[int, int] = (0, 0)
    distortion: Literal["opencv", "human36m"] = "opencv"

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "K", _frozen(self.K, (3, 3), "K"))
        set_(self, "R", _frozen(self.R, (3, 3), "R"))
        set_(self, "t", _frozen(self.t, (3,), "t"))
        set_(self, "dist", _frozen(self.dist, (5,), "dist"))
        if abs(np.linalg.det(self.K)) < 1e-9:
            raise ValueError("camera K is singular")
        if np.abs(self.R @ self.R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(self.R) < 0:
            raise ValueError("camera R is not a rotation")

    def __getattr__(self, name: str) -> Any:
        # Called only for absent attributes: `withhold` removes those that a method did not declare. P and centre_mm
        # end here as well, because they are computed from absent attributes.
        if name in {"K", "R", "t", "P", "centre_mm"}:
            raise AttributeError(f"camera {name} is withheld: the method's Inputs do not declare it")
        raise AttributeError(name)

    @property
    def P(self) -> Array:
        """(3, 4) projection matrix ``K [R|t]`` of the undistorted pinhole."""
        return np.asarray(self.K @ np.hstack([self.R, self.t[:, None]]))

    @property
    def centre_mm(self) -> Array:
        """(3,) camera centre in the world frame."""
        return np.asarray(-self.R.T @ self.t)

    def to_camera(self, points_mm: ArrayLike) -> Array:
        """Transform world points (..., 3) mm to points (..., 3) mm in the camera frame."""
        return np.asarray(np.asarray(points_mm, dtype=np.float64) @ self.R.T + self.t)

    def project(self, points_mm: ArrayLike) -> Array:
        """Project world points (..., 3) mm to pixels (..., 2) with lens distortion; NaN behind the camera."""
        x = self.to_camera(points_mm)
        z = np.where(x[..., 2:] > 0, x[..., 2:], np.nan)
        return self._to_pixels(self._distort(x[..., :2] / z))

    def image(self, normalised: ArrayLike) -> Array:
        """Convert directions (..., 2), x / z and y / z in the camera frame, to pixels (..., 2) with lens distortion."""
        return self._to_pixels(self._distort(np.asarray(normalised, dtype=np.float64)))

    def normalised(self, points_px: ArrayLike) -> Array:
        """Convert undistorted pixels (..., 2) to directions (..., 2), x / z and y / z in the camera frame."""
        return self._to_normalised(np.asarray(points_px, dtype=np.float64))

    def undistort(self, points_px: ArrayLike) -> Array:
        """Convert pixels (..., 2) of the distorted image to pixels of the undistorted image.

        The lens model has no closed inverse. The solution is the fixed point of m = m + (distorted - distort(m)).
        """
        points = np.asarray(points_px, dtype=np.float64)
        if not self.dist.any():
            return points.copy()
        distorted = self._to_normalised(points)
        m = distorted.copy()
        for _ in range(_FIXED_POINT_STEPS):
            m = m + (distorted - self._distort(m))
        return self._to_pixels(m)

    def distort(self, points_px: ArrayLike) -> Array:
        """Convert pixels (..., 2) of the undistorted image to pixels of the distorted image."""
        return self._to_pixels(self._distort(self._to_normalised(np.asarray(points_px, dtype=np.float64))))

    def undistorted(self) -> Camera:
        """Copy of the camera without lens distortion: the camera of the undistorted image."""
        return replace(self, dist=np.zeros(5))

    def crop_resize(self, box_px: Box, size: tuple[int, int]) -> Camera:
        """Camera of the crop ``box_px`` after resizing to ``size`` (width, height).

        As in learnable triangulation, the principal point is shifted by the corner of the box, then both rows of K are
        scaled.

        Raises:
            ValueError: the box or the size is empty or not finite.
        """
        left, upper, right, lower = box_px
        if not (0 < right - left < math.inf and 0 < lower - upper < math.inf and min(size) > 0):
            raise ValueError(f"box {box_px} or size {size} is empty, or not finite")
        K = self.K.copy()
        K[0, 2] -= left
        K[1, 2] -= upper
        K[0] *= size[0] / (right - left)
        K[1] *= size[1] / (lower - upper)
        K.flags.writeable = False
        # Without the checks of the constructor, which are the slowest part of a crop: K stays regular, R is unchanged.
        return self._with(K=K, size=(int(size[0]), int(size[1])))

    def withhold(self, *, intrinsics: bool, extrinsics: bool) -> Camera:
        """Copy of the camera without K and distortion, or without R and t; reading them raises AttributeError."""
        camera = self._with()
        kept = camera.__dict__
        if intrinsics:
            kept.pop("K", None)
            kept["dist"] = np.zeros(5)
        if extrinsics:
            kept.pop("R", None)
            kept.pop("t", None)
        return camera

    def _with(self, **changed: object) -> Camera:
        """Copy of the camera with replaced values, without checks."""
        camera = object.__new__(Camera)
        camera.__dict__.update(self.__dict__, **changed)
        return camera

    def _to_normalised(self, points_px: Array) -> Array:
        inverse = np.linalg.inv(self.K)
        return np.asarray(points_px @ inverse[:2, :2].T + inverse[:2, 2])

    def _to_pixels(self, normalised: Array) -> Array:
        return np.asarray(normalised @ self.K[:2, :2].T + self.K[:2, 2])

    def _distort(self, m: Array) -> Array:
        return _through_lens(m, self.dist, _TANGENTIAL[self.distortion]) if self.dist.any() else m


def _through_lens(m: Array, dist: Array, factor: Array | float) -> Array:
    """Distort directions (..., 2) by the Brown–Conrady model.

    With r² = x² + y²: m (1 + k1 r² + k2 r⁴ + k3 r⁶) + tangential terms. For x these are f p1 x y + p2 (r² + f x²), with
    f = 2 in OpenCV. Human3.6M's release uses f = 1.

    Args:
        m: (..., 2) undistorted directions.
        dist: (..., 5) k1, k2, p1, p2, k3.
        factor: f of the model.
    """
    k1, k2, p, k3 = dist[..., :1], dist[..., 1:2], dist[..., 2:4], dist[..., 4:]
    x, y = m[..., :1], m[..., 1:]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    tangential = factor * x * y * p + (r2 + factor * m * m) * p[..., ::-1]
    return np.asarray(m * radial + tangential)


def undistort_each(cameras: Sequence[Camera], points_px: Array) -> Array:
    """Undistort points (n, J, 2), row i by camera i; byte-equal to `Camera.undistort`."""
    out = np.array(points_px, dtype=np.float64)
    bent = [i for i, camera in enumerate(cameras) if camera.dist.any()]
    if not bent:
        return out
    K = np.stack([cameras[i].K for i in bent])
    dist = np.stack([cameras[i].dist for i in bent])[:, None]
    factor = np.array([_TANGENTIAL[cameras[i].distortion] for i in bent])[:, None, None]
    inverse = np.linalg.inv(K)
    distorted = out[bent] @ inverse[:, :2, :2].mT + inverse[:, None, :2, 2]
    m = distorted.copy()
    for _ in range(_FIXED_POINT_STEPS):
        m = m + (distorted - _through_lens(m, dist, factor))
    out[bent] = m @ K[:, :2, :2].mT + K[:, None, :2, 2]
    return out


def undistortion_map(camera: Camera) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Source position of each pixel of the undistorted image, in fixed point (16SC2) for `cv2.remap`."""
    width, height = camera.size
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1)
    source = camera.distort(grid).astype(np.float32)
    whole, part = cv2.convertMaps(source[..., 0], source[..., 1], cv2.CV_16SC2)
    return np.asarray(whole, np.int16), np.asarray(part, np.uint16)


def crop_affine(centre_px: ArrayLike, side_px: float, size: tuple[int, int], rotation_deg: float = 0.0) -> Array:
    """Affine transform (3, 3) from pixels of the image to pixels of a rotated crop.

    The transform is solved from three points in float32, as in the releases of epipolar transformers and RootNet. The
    rounding error is about 1e-5 px. Results equal those of the releases to the last digit.

    Args:
        centre_px: (2,) centre of the crop in the image, mapped to (width / 2, height / 2).
        side_px: side of the square around the centre that fills the width of the crop.
        size: (width, height) of the crop.
        rotation_deg: clockwise angle in the image between up and the direction that points up in the crop.

    Raises:
        ValueError: the square is empty.

    Example:
        >>> crop_affine((500, 500), 200, (100, 100)) @ (600, 500, 1)
        array([100.,  50.,   1.])
    """
    if not side_px > 0:
        raise ValueError(f"box of {side_px} px is empty")
    angle = np.deg2rad(rotation_deg)
    up = side_px / 2 * np.array([np.sin(angle), -np.cos(angle)])
    source = _right_angle(np.asarray(centre_px, dtype=np.float64), up)
    target = _right_angle(np.array(size) / 2, np.array([0.0, -size[0] / 2]))
    return np.vstack([cv2.getAffineTransform(source, target), [0.0, 0.0, 1.0]])


def _right_angle(centre: Array, arm: Array) -> NDArray[np.float32]:
    """Three points (3, 2) of an affine transform: centre, end of an arm, and the end plus the rotated arm."""
    first, second = centre.astype(np.float32), (centre + arm).astype(np.float32)
    back = first - second
    return np.stack([first, second, second + np.array([-back[1], back[0]], dtype=np.float32)])


def square_box(box_px: Box) -> Box:
    """Square around the integer centre of a box, with the box's longer side (learnable triangulation, release code).

    Example:
        >>> square_box((10, 10, 20, 30))
        (5, 10, 25, 30)
    """
    left, upper, right, lower = box_px
    width, height = right - left, lower - upper
    if width > height:
        upper = (upper + lower) // 2 - width // 2
        lower = upper + width
    else:
        left = (left + right) // 2 - height // 2
        right = left + height
    return left, upper, right, lower


def scale_box(box_px: Box, scale: float) -> Box:
    """Scale a box around its integer centre; sides are rounded down to whole pixels.

    Example:
        >>> scale_box((0, 0, 10, 10), 1.5)
        (-2, -2, 13, 13)
    """
    left, upper, right, lower = box_px
    width, height = int(scale * (right - left)), int(scale * (lower - upper))
    left = (right + left) // 2 - width // 2
    upper = (lower + upper) // 2 - height // 2
    return left, upper, left + width, upper + height
