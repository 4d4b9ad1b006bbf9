"""Coarse search for candidate explanations of a rig that does not fit its detections. Each is one change of the rig."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.methods.geometry.rig_mistakes.epipolar_fit import (
    CENTRE,
    FOCAL,
    K1,
    LAG,
    NO_RELATION,
    PARAMETERS,
    ROTATION,
    SCALE,
    Fit,
    Rays,
    costs,
    pairs_of,
)
from poseboard.methods.geometry.rig_mistakes.rig_state import RigState, Tracks
from poseboard.methods.geometry.triangulation import dlt

LARGEST_OFFSET = 30
"""Frames; larger offsets are not searched."""
_SMALLEST_GAIN = 2.0
"""Candidates that lower the coarse cost by less, in nats, are dropped."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Candidate explanation: one change of a rig.

    Args:
        kind: kind of the mistake, a value of `KINDS`.
        views: indices of the changed views; all views for a mistake of the whole rig.
        state: the rig after the change.
        widths: index of a parameter -> prior standard deviation in ``views``, which replaces that of a correct camera.
        log_prior: log prior density of the value that the coarse search chose, relative to ``widths``.
        value: size of the change: frames, factor or coefficient.
        gain: decrease of the coarse cost, nats.
    """

    kind: str
    views: tuple[int, ...]
    state: RigState
    widths: dict[int, float] = field(default_factory=dict)
    log_prior: float = 0.0
    value: float | str | None = None
    gain: float = 0.0


def correct_prior(views: int) -> Array:
    """Prior standard deviations (V, 10) of correct cameras, such as 0.25° of rotation and 0.4 % of the rig's size."""
    sigma = np.zeros(len(PARAMETERS))
    sigma[ROTATION], sigma[CENTRE] = np.deg2rad(0.25), 0.004
    sigma[FOCAL], sigma[K1], sigma[LAG] = 0.006, 0.01, 0.3
    return np.tile(sigma, (views, 1))


class CoarseCost:
    """Coarse cost of changed rigs relative to a base rig. Only pairs with a changed view are computed again."""

    def __init__(self, tracks: Tracks, base: RigState, counts: Array) -> None:
        self.tracks, self.base, self.counts = tracks, base, counts
        self.pairs = pairs_of(len(base.cameras))
        self.rays = tracks.rays(base)
        self.of_base = self._costs(self.rays, np.ones(len(self.pairs), dtype=bool))

    def _costs(self, rays: Rays, chosen: NDArray[np.bool_]) -> Array:
        of_pair = costs(rays, self.pairs[chosen])[0]
        return np.asarray(np.where(np.isfinite(of_pair), of_pair, NO_RELATION))

    def gain(self, state: RigState) -> float:
        """Decrease of the cost from the base rig to ``state``, nats."""
        base = self.base
        changed = np.array(
            [
                state.cameras[v] is not base.cameras[v]
                or state.source[v] != base.source[v]
                or state.offset_frames[v] != base.offset_frames[v]
                or state.swapped[v] != base.swapped[v]
                for v in range(len(base.cameras))
            ]
        )
        chosen = np.asarray(changed[self.pairs].any(1))
        cost = self._costs(self.tracks.rays(state, self.rays, np.flatnonzero(changed).tolist()), chosen)
        return float(((self.of_base[chosen] - cost) * self.counts[chosen]).sum())


def candidates(tracks: Tracks, base: RigState, counts: Array) -> list[Explanation]:
    """Best explanations by coarse cost: at most two of each kind for single views, and two for several views."""
    coarse = CoarseCost(tracks.subset(350), base, counts)
    out: list[Explanation] = []
    for kind_of in (_whole_rig, _exchanged, _offsets, _sides, _scaled, _lenses, _single_poses, _moved):
        best = sorted(kind_of(tracks, base, coarse), key=lambda e: e.gain - 1e-9 * len(e.views), reverse=True)
        taken: dict[tuple[str, bool], int] = {}
        for explanation in best:
            scope = (explanation.kind, len(explanation.views) > 1)
            if explanation.gain > _SMALLEST_GAIN and taken.get(scope, 0) < 2:
                taken[scope] = taken.get(scope, 0) + 1
                out.append(explanation)
    return out


def with_intrinsics(camera: Camera, *, focal: float = 1.0, scale: float = 1.0) -> Camera:
    """Copy of a camera with a scaled focal length (``focal``) or a scaled image (``scale``)."""
    K = camera.K.copy()
    K[[0, 1], [0, 1]] *= focal
    K[:2] *= scale
    size = camera.size if scale == 1 else (round(camera.size[0] * scale), round(camera.size[1] * scale))
    return replace(camera, K=K, size=size)


def inverted(camera: Camera) -> Camera:
    """Camera whose R and t are the inverse transform, for extrinsics that were given from camera to world."""
    return replace(camera, R=camera.R.T, t=-camera.R.T @ camera.t)


def from_centre(camera: Camera) -> Camera:
    """Camera whose centre is t, for extrinsics that were given with the camera centre as translation."""
    return replace(camera, t=-camera.R @ camera.t)


def transposed(camera: Camera) -> Camera:
    """Camera with transposed R, for a rotation that was read by columns instead of rows."""
    return replace(camera, R=camera.R.T)


EXTRINSICS: dict[str, Callable[[Camera], Camera]] = {
    "extrinsics inverted": inverted,
    "centre for translation": from_centre,
    "rotation transposed": transposed,
}


def _whole_rig(tracks: Tracks, base: RigState, coarse: CoarseCost) -> Iterator[Explanation]:
    everyone = tuple(range(len(base.cameras)))
    for kind, change in EXTRINSICS.items():
        state = replace(base, cameras=tuple(change(c) for c in base.cameras))
        yield Explanation(kind, everyone, state, gain=coarse.gain(state))


def _single_poses(tracks: Tracks, base: RigState, coarse: CoarseCost) -> Iterator[Explanation]:
    for kind, change in EXTRINSICS.items():
        for v, camera in enumerate(base.cameras):
            state = base.with_camera(v, change(camera))
            yield Explanation(kind, (v,), state, log_prior=-np.log(len(base.cameras)), gain=coarse.gain(state))


def _exchanged(tracks: Tracks, base: RigState, coarse: CoarseCost) -> Iterator[Explanation]:
    pairs = pairs_of(len(base.cameras))
    for a, b in pairs:
        state = base.with_exchanged(int(a), int(b))
        yield Explanation(
            "cameras swapped", (int(a), int(b)), state, log_prior=-np.log(len(pairs)), gain=coarse.gain(state)
        )


def _offsets(tracks: Tracks, base: RigState, coarse: CoarseCost) -> Iterator[Explanation]:
    views = len(base.cameras)
    largest = min(LARGEST_OFFSET, tracks.joints_px.shape[1] // 3)
    for v in range(views):
        states = {k: base.with_offset(v, base.offset_frames[v] + k) for k in range(-largest, largest + 1) if k}
        gains = {k: coarse.gain(state) for k, state in states.items()}
        if gains:
            k = max(gains, key=lambda k: gains[k])
            log_prior = -np.log(2 * LARGEST_OFFSET * views)
            yield Explanation("frame offset", (v,), states[k], log_prior=log_prior, value=k, gain=gains[k])


def _sides(tracks: Tracks, base: RigState, coarse: CoarseCost) -> Iterator[Explanation]:
    for v in range(len(base.cameras)):
        state = base.with_swapped(v)
        yield Explanation("sides swapped", (v,), state, log_prior=-np.log(len(base.cameras)), gain=coarse.gain(state))


def _scopes(views: int) -> list[tuple[int, ...]]:
    return [*((v,) for v in range(views)), tuple(range(views))]


def _best(states: Iterable[tuple[float, RigState]], coarse: CoarseCost) -> tuple[float, RigState, float]:
    return max(((value, state, coarse.gain(state)) for value, state in states), key=lambda triple: triple[2])


def change_cameras(base: RigState, views: Sequence[int], change: Callable[[Camera], Camera]) -> RigState:
    """Copy of a state in which ``change`` is applied to the cameras of ``views``."""
    cameras = [change(c) if v in views else c for v, c in enumerate(base.cameras)]
    return replace(base, cameras=tuple(cameras))


def _scaled(tracks: Tracks, base: RigState, coarse: CoarseCost) -> Iterator[Explanation]:
    count = len(base.cameras)
    grids = {
        "focal length": np.exp(np.linspace(np.log(0.5), np.log(2), 41)),
        "resolution": np.exp(np.linspace(np.log(0.25), np.log(4), 57)),
    }
    for views in _scopes(count):
        for kind, factors in grids.items():

            def scaled(factor: float, kind: str = kind, views: tuple[int, ...] = views) -> RigState:
                change = {"focal": factor} if kind == "focal length" else {"scale": factor}
                return change_cameras(base, views, lambda c: with_intrinsics(c, **change))

            value, *_ = _best(((s, scaled(s)) for s in factors if abs(np.log(s)) > 0.02), coarse)
            near = value * np.exp(np.linspace(-0.04, 0.04, 9))
            value, state, gain = _best(((s, scaled(s)) for s in near), coarse)
            parameter = FOCAL if kind == "focal length" else SCALE
            widths = {parameter: 0.02} if len(views) == 1 else {}
            log_prior = np.log(0.02 / 0.4) - (np.log(count) if len(views) == 1 else 0.0)
            yield Explanation(kind, views, state, widths, log_prior, value, gain)


def _lenses(tracks: Tracks, base: RigState, coarse: CoarseCost) -> Iterator[Explanation]:
    count = len(base.cameras)
    bent = [bool(c.dist.any()) for c in base.cameras]
    for views in _scopes(count):
        if all(bent[v] for v in views):
            e = _undistorted(base, views)
            yield replace(e, gain=coarse.gain(e.state))
        if not any(bent[v] for v in views):
            grid = np.concatenate([np.linspace(-0.45, -0.03, 15), np.linspace(0.03, 0.2, 6)])
            each = [_distorted(base, views, float(k1)) for k1 in grid]
            gains = [coarse.gain(e.state) for e in each]
            yield replace(each[int(np.argmax(gains))], gain=max(gains))


def _undistorted(base: RigState, views: tuple[int, ...]) -> Explanation:
    log_prior = -np.log(len(base.cameras)) if len(views) == 1 else 0.0
    return Explanation("distortion", views, change_cameras(base, views, Camera.undistorted), {}, log_prior, "twice")


def _distorted(base: RigState, views: tuple[int, ...], k1: float) -> Explanation:
    state = change_cameras(base, views, lambda c: replace(c, dist=np.array([k1, -0.2 * k1, 0, 0, 0])))
    log_prior = (-np.log(len(base.cameras)) if len(views) == 1 else 0.0) + np.log(0.05 / 0.3)
    return Explanation("distortion", views, state, {K1: 0.05}, log_prior, k1)


def lenses(base: RigState, free: Fit) -> list[Explanation]:
    """Explanations by lens distortion, for all views and for the two views with the largest k1 in the fit ``free``."""
    k1 = free.theta[:, K1]
    everyone = tuple(range(len(k1)))
    out = []
    for views in (everyone, *((int(v),) for v in np.argsort(-np.abs(k1))[:2])):
        if all(base.cameras[v].dist.any() for v in views):
            out.append(_undistorted(base, views))
        elif not any(base.cameras[v].dist.any() for v in views):
            out.append(_distorted(base, views, float(np.median(k1[list(views)]))))
    return out


def _moved(tracks: Tracks, base: RigState, coarse: CoarseCost) -> Iterator[Explanation]:
    """Explanations that move one camera to the pose that fits the points triangulated from all other cameras."""
    count = len(base.cameras)
    rays = coarse.rays
    P = np.concatenate([rays.R, -(rays.R @ rays.centres[..., None])], -1)
    for v in range(count):
        rest = [w for w in range(count) if w != v]
        X = triangulated(P[rest], rays.points[rest], np.array([base.cameras[w].K[0, 0] for w in rest]))
        pose = _resection(X, rays.points[v], 0.02)
        if pose is None:
            continue
        state = base.with_camera(v, replace(base.cameras[v], R=pose[0], t=pose[1]))
        widths = {i: np.deg2rad(1.0) for i in range(3)} | dict.fromkeys(range(3, 6), 0.02)
        log_prior = 3 * np.log(1 / 10) + 3 * np.log(0.02 / 0.1) - np.log(count)
        yield Explanation("camera moved", (v,), state, widths, log_prior, None, coarse.gain(state))


def triangulated(P: Array, m: Array, focal_px: Array) -> Array:
    """Triangulate points (N, 3) from directions (V, N, 2) twice; the second time without views far from the first."""
    X = dlt(P, m)
    for _ in range(2):
        x = np.einsum("vrc,nc->vnr", P[..., :3], X) + P[:, None, :, 3]
        with np.errstate(all="ignore"):
            error = np.linalg.norm(x[..., :2] / x[..., 2:] - m, axis=-1) * focal_px[:, None]
        typical = np.nanmedian(error) if np.isfinite(error).any() else 1.0
        weight = 1 / (1 + (np.nan_to_num(error, nan=np.inf) / (2 * typical + 1e-9)) ** 2)
        X = dlt(P, m, np.where(np.isfinite(m).all(-1), np.maximum(weight, 1e-9), 0.0))
    return X


def _resection(X: Array, m: Array, threshold: float) -> tuple[Array, Array] | None:
    """Pose (R, t) by PnP with RANSAC from points (N, 3) and directions (N, 2); None with too few inliers."""
    usable = np.isfinite(X).all(-1) & np.isfinite(m).all(-1)
    if usable.sum() < 12:
        return None
    X, m = X[usable], m[usable]
    middle = np.median(X, axis=0)
    cv2.setRNGSeed(1)
    done, w, t, inliers = cv2.solvePnPRansac(
        X - middle, m, np.eye(3), None, iterationsCount=200, reprojectionError=threshold, flags=cv2.SOLVEPNP_EPNP
    )
    if not done or inliers is None or len(inliers) < 12:
        return None
    keep = inliers.ravel()
    w, t = cv2.solvePnPRefineLM((X - middle)[keep], m[keep], np.eye(3), None, w, t)
    R = np.asarray(cv2.Rodrigues(w)[0], dtype=np.float64)
    if not np.isfinite(R).all():
        return None
    return R, np.asarray(t, dtype=np.float64).ravel() - R @ middle
