"""State of a rig: cameras, their order, frame offsets and swapped sides, with the changes of an explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.methods.geometry.rig_mistakes import compiled_pairs
from poseboard.methods.geometry.rig_mistakes.epipolar_fit import Rays

_REACH = 4
"""Frames on either side by which the motion of a joint is estimated."""
_LONGER_STEP = 4
_LONGER_REACHES = (8, 12)
"""The same for slow people at high frame rates."""


@dataclass(frozen=True, eq=False)
class RigState:
    """Cameras of a rig, and how detections are assigned to them.

    Args:
        cameras: one camera per view.
        source: index of the view with each camera's detections; (0, 1, …) if the order is correct.
        offset_frames: frame of each camera's detections minus frame of the rig.
        swapped: whether left and right are exchanged in each camera's detections.
    """

    cameras: tuple[Camera, ...]
    source: tuple[int, ...]
    offset_frames: tuple[int, ...]
    swapped: tuple[bool, ...]

    @classmethod
    def of(cls, cameras: Sequence[Camera]) -> RigState:
        """State of a rig without changes."""
        views = len(cameras)
        return cls(tuple(cameras), tuple(range(views)), (0,) * views, (False,) * views)

    def with_camera(self, view: int, camera: Camera) -> RigState:
        """Copy in which a view has the camera ``camera``."""
        return replace(self, cameras=_put(self.cameras, view, camera))

    def with_offset(self, view: int, frames: int) -> RigState:
        """Copy in which a view has an offset of ``frames``."""
        return replace(self, offset_frames=_put(self.offset_frames, view, frames))

    def with_swapped(self, view: int) -> RigState:
        """Copy with left and right of a view exchanged (again)."""
        return replace(self, swapped=_put(self.swapped, view, not self.swapped[view]))

    def with_exchanged(self, a: int, b: int) -> RigState:
        """Copy in which two views exchange their cameras."""
        cameras = list(self.cameras)
        cameras[a], cameras[b] = cameras[b], cameras[a]
        return replace(self, cameras=tuple(cameras))


def _put(values: tuple[Any, ...], index: int, value: object) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])


@dataclass(frozen=True, eq=False)
class Tracks:
    """2D joints of every view over time, and a selection of N points from them.

    Args:
        joints_px: (V, F, J, 2) pixels; NaN where missing.
        velocity_px: (V, F, J, 2) pixels per frame, robust to outliers.
        flip_order: (J,) index of each joint's partner on the other side of the body.
        frame: (N,) frame indices of the selected points.
        joint: (N,) joint indices of the selected points.
    """

    joints_px: Array
    velocity_px: Array
    flip_order: NDArray[np.intp]
    frame: NDArray[np.intp]
    joint: NDArray[np.intp]
    _undistorted: dict[object, tuple[Array, Array, Array]] = field(default_factory=dict)

    @classmethod
    def of(cls, joints_px: Array, flip_order: Sequence[int], points: int, seed: int = 0) -> Tracks:
        """Select random points, over all frames and joints, that at least two views have.

        Raises:
            ValueError: there are fewer than 100 such points.
        """
        rng = np.random.default_rng(seed)
        motion = Motion.of(joints_px)
        joints_px = np.where(motion.reliable(joints_px)[..., None], joints_px, np.nan)
        visible = np.isfinite(joints_px).all(-1).sum(0)
        chosen = np.argwhere(visible >= 2)
        if len(chosen) < 100:
            raise ValueError("fewer than 100 joints in two cameras agree with their neighbouring frames")
        # More views see more pairs: a point with V views is worth V - 1 points with two.
        if len(chosen) > points:
            worth = (visible[chosen[:, 0], chosen[:, 1]] - 1.0) ** 0.5
            chosen = chosen[np.sort(rng.choice(len(chosen), points, replace=False, p=worth / worth.sum()))]
        frame, joint = chosen.T
        return cls(joints_px, motion.velocity_px, np.asarray(flip_order, dtype=np.intp), frame, joint)

    @classmethod
    def grid(cls, joints_px: Array, flip_order: Sequence[int], frames: int) -> Tracks:
        """Select all joints of evenly spaced frames, ordered by frame."""
        every = np.unique(np.linspace(0, joints_px.shape[1] - 1, frames).round().astype(np.intp))
        frame, joint = np.meshgrid(every, np.arange(joints_px.shape[2]), indexing="ij")
        order = np.asarray(flip_order, dtype=np.intp)
        return cls(joints_px, np.zeros_like(joints_px), order, frame.ravel(), joint.ravel())

    def subset(self, points: int, seed: int = 1) -> Tracks:
        """Copy with at most ``points`` of the selected points, chosen at random."""
        if len(self.frame) <= points:
            return self
        keep = np.sort(np.random.default_rng(seed).choice(len(self.frame), points, replace=False))
        return replace(self, frame=self.frame[keep], joint=self.joint[keep], _undistorted={})

    def raw(self, state: RigState, view: int) -> tuple[Array, Array]:
        """Pixels (N, 2) of the selected points in a view, and their change per frame (N, 2)."""
        frame = self.frame + state.offset_frames[view]
        joint = self.flip_order[self.joint] if state.swapped[view] else self.joint
        inside = (frame >= 0) & (frame < self.joints_px.shape[1])
        at = np.clip(frame, 0, self.joints_px.shape[1] - 1)
        source = state.source[view]
        points = np.where(inside[:, None], self.joints_px[source, at, joint], np.nan)
        return points, self.velocity_px[source, at, joint]

    def normalised(self, state: RigState, view: int) -> tuple[Array, Array, Array]:
        """Undistorted directions (N, 2) of the selected points, with their change per frame and per pixel."""
        camera = state.cameras[view]
        key = (
            camera.K.tobytes(), camera.dist.tobytes(), camera.distortion,
            state.source[view], state.offset_frames[view], state.swapped[view],
        )  # fmt: skip
        if key not in self._undistorted:
            if len(self._undistorted) > 500:
                self._undistorted.clear()
            points, velocity = self.raw(state, view)
            m, per_px = undistorted(camera, points)
            self._undistorted[key] = (m, velocity / camera.K[[0, 1], [0, 1]], per_px)
        return self._undistorted[key]

    def rays(self, state: RigState, base: Rays | None = None, views: Sequence[int] | None = None) -> Rays:
        """Normalised points and cameras of a state. With ``base``, only ``views`` are computed; others are copied."""
        cameras = state.cameras
        if base is None:
            count, points = len(cameras), len(self.frame)
            base = Rays(
                np.empty((count, points, 2)), np.empty((count, points, 2)), np.empty((count, 3, 3)),
                np.empty((count, 3)), np.empty((count, points, 2, 2)), np.empty((count, 2)),
            )  # fmt: skip
            out = base
        else:
            out = Rays(*(getattr(base, f.name).copy() for f in fields(Rays)))
        for v in range(len(cameras)) if views is None else views:
            out.points[v], out.per_frame[v], out.per_px[v] = self.normalised(state, v)
            out.R[v], out.centres[v] = cameras[v].R, cameras[v].centre_mm
            out.offset[v] = cameras[v].K[:2, 2] / cameras[v].K[[0, 1], [0, 1]]
        return out


def undistorted(camera: Camera, points_px: Array) -> tuple[Array, Array]:
    """Undistorted directions (N, 2) of pixels and their derivatives (N, 2, 2); NaN where the lens has no inverse."""
    m, per_px = np.empty(points_px.shape), np.empty((len(points_px), 2, 2))
    factor = 1.0 if camera.distortion == "human36m" else 2.0
    compiled_pairs.undistort(np.ascontiguousarray(points_px), camera.K, camera.dist, factor, m, per_px)
    return m, per_px


@dataclass(frozen=True, eq=False)
class Motion:
    """Motion of each joint, from lines fitted to neighbouring frames.

    Args:
        velocity_px: (V, F, J, 2) slope of the line, pixels per frame; 0 where unknown.
        expected_px: (V, F, J, 2) position predicted from the other frames; NaN where unknown.
        noise_px: (V,) robust standard deviation of the detections around the line.
    """

    velocity_px: Array
    expected_px: Array
    noise_px: Array

    @classmethod
    def of(cls, joints_px: Array) -> Motion:
        """Fit lines to joints (V, F, J, 2), without points far from the running median.

        Noise of the velocity shrinks estimated delays. If the noise is not small relative to the motion, more frames
        are used.
        """
        slope, expected = _lines(joints_px, _REACH)
        noise = np.array([1.48 * _median(of_view) for of_view in np.abs(joints_px - expected)])
        for reach in _LONGER_REACHES:
            # Variance of the slope of a line through 2 r + 1 points: 3 / (r (r + 1) (2 r + 1)) of that of a point.
            r = reach - _LONGER_STEP
            of_slope = np.median(noise) * np.sqrt(3 / (r * (r + 1) * (2 * r + 1)))
            moving = slope[np.isfinite(slope)]
            if not len(moving) or of_slope < 0.4 * 1.48 * np.median(np.abs(moving)):
                break
            slope, _ = _lines(joints_px, reach)
        return cls(np.nan_to_num(slope), expected, noise)

    def reliable(self, joints_px: Array) -> NDArray[np.bool_]:
        """Mask (V, F, J) of joints that agree with neighbouring frames and are not near the image border.

        Outliers are more often shifted towards the middle of the person than away from it, which looks like lens
        distortion. Near the border, detections with outward errors are missing, and the remaining ones look like lens
        distortion, too. The border is the extent of the detections. Neighbouring frames decide whether a joint is near
        it, so that the error of the joint itself has no influence.
        """
        out = np.asarray(np.isfinite(joints_px).all(-1))
        for v, points in enumerate(joints_px):
            if not out[v].any():
                continue
            low, high = np.nanpercentile(points.reshape(-1, 2), [0.05, 99.95], axis=0)
            margin = 3 * self.noise_px[v]
            with np.errstate(invalid="ignore"):
                jump = np.abs(points - self.expected_px[v]).max(-1)
                out[v] &= ~(jump > 3.5 * self.noise_px[v])
                out[v] &= ((self.expected_px[v] > low + margin) & (self.expected_px[v] < high - margin)).all(-1)
        return out


def _median(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else 0.0


def _lines(joints_px: Array, reach: int) -> tuple[Array, Array]:
    """Slope of the line through frames within ``reach``, and its value without the frame itself; NaN where unknown."""
    frames = joints_px.shape[1]
    padded = np.pad(joints_px, ((0, 0), (reach, reach), (0, 0), (0, 0)), constant_values=np.nan)
    windows = np.stack([padded[:, i : i + frames] for i in range(2 * reach + 1)])
    ordered = np.sort(windows, axis=0)  # NaN last
    count = np.isfinite(ordered).sum(0)
    median = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, axis=0)
    deviation = np.abs(windows - median)
    typical = np.array([_median(of_view) for of_view in np.moveaxis(deviation, 1, 0)])
    usable = np.where(deviation <= 4 * typical[:, None, None, None], 1.0, 0.0)  # NaN: 0
    values = np.where(usable > 0, windows, 0.0)
    t = np.arange(-reach, reach + 1.0)[:, None, None, None, None]

    def line(usable: Array, values: Array) -> tuple[Array, Array]:
        n, st, stt = usable.sum(0), (t * usable).sum(0), (t * t * usable).sum(0)
        sx, stx = values.sum(0), (t * values).sum(0)
        spread = n * stt - st * st
        spread = np.where((n >= 4) & (spread > 0), spread, np.nan)
        return (n * stx - st * sx) / spread, (stt * sx - st * stx) / spread

    other = (t != 0).astype(np.float64)
    return line(usable, values)[0], line(usable * other, values * other)[1]
