"""Comparison of explanations for a rig whose cameras and detections do not fit.

An explanation changes one property of one camera, two cameras or all cameras. A coarse search chooses candidates. Each
candidate is fitted together with small errors of all cameras (calibration noise, half a frame of delay). Candidates are
compared by the log evidence of these fits. The rig without a change is fitted in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from poseboard.datasets.camera import Array, Camera
from poseboard.methods.geometry.rig_mistakes import epipolar_fit
from poseboard.methods.geometry.rig_mistakes.epipolar_fit import (
    CENTRE,
    FOCAL,
    K1,
    LAG,
    ROTATION,
    SCALE,
    Fit,
    Rays,
    costs,
    fit,
    pairs_of,
    sampson_px,
)  # fmt: skip
from poseboard.methods.geometry.rig_mistakes.explanations import (
    Explanation,
    candidates,
    change_cameras,
    correct_prior,
    lenses,
    with_intrinsics,
)
from poseboard.methods.geometry.rig_mistakes.rig_state import RigState, Tracks

_POINTS = 700
"""Points (frame and joint) of a fit."""
_MANY_POINTS = 4000
"""Points by which frame offsets are compared."""
_TEMPER = 0.3
"""Weight of an observation in the first comparison: errors of detectors are correlated over time and views."""
_PLAIN = 60.0
"""Score, in nats, above which the first comparison decides."""
_LUCK = 3.0
"""Standard deviations that the best of all frame offsets may gain by chance."""
_VISIBLE = 0.95
"""Least share of a view's detections that a changed camera must show."""
_BLOCK = 30
"""Frames over which the correlation of residuals is measured."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Explanation with its fit and score.

    Args:
        explanation: the change.
        fit: fit of the changed rig.
        score: log evidence minus that of the unchanged rig, nats.
        figures: size of the change: name with unit -> value.
        clear: whether the change is larger than a fit of a correct rig would give.
        state: the rig after the change, with the fitted figures.
    """

    explanation: Explanation
    fit: Fit
    score: float
    figures: Mapping[str, float]
    clear: bool
    state: RigState

    @property
    def kind(self) -> str:
        """Kind of the rig mistake, a value of `KINDS`."""
        return self.explanation.kind

    @property
    def views(self) -> tuple[int, ...]:
        """Indices of the changed views."""
        return self.explanation.views


@dataclass(frozen=True, eq=False)
class Round:
    """Result of one comparison: explanations of a rig's misfit, and the fit of the unchanged rig.

    Args:
        base: the rig.
        before_px: (P,) scale of each pair's residuals before any fit.
        unchanged: fit of the unchanged rig with small errors only.
        scored: explanations, best first.
    """

    base: RigState
    before_px: Array
    unchanged: Fit
    scored: tuple[Scored, ...]


def explain(joints_px: Array, base: RigState, flip_order: Sequence[int]) -> Round:
    """Compare the explanations of a rig's misfit.

    Args:
        joints_px: (V, F, J, 2) pixels; NaN where missing.
        base: the rig.
        flip_order: (J,) index of each joint's partner on the other side of the body.
    """
    views = len(base.cameras)
    many = Tracks.of(joints_px, flip_order, _MANY_POINTS)
    few = many.subset(_POINTS)
    prior = correct_prior(views)
    rays = few.rays(base)
    counts = _counts(rays) * _TEMPER
    unchanged = fit(rays, prior, counts)
    scored = []
    for e in [*candidates(few, base, counts), *_slow_offsets(base, unchanged)]:
        fitted = fit(few.rays(e.state), _widened(prior, e), counts, _start(unchanged, e))
        score = fitted.evidence + e.log_prior - unchanged.evidence - _luck(many, base, unchanged, e, fitted, counts)
        scored.append(_scored(base, e, fitted, score))
    scored = [s for s in scored if _shows_detections(few, s)]
    scored.sort(key=lambda s: s.score, reverse=True)
    if not scored or scored[0].score < _PLAIN:
        return _explain_closely(many, base, [s.explanation for s in scored[:4] if s.score > -5.0])
    return _round(many, base, costs(rays, unchanged.pairs)[1], unchanged, scored)


def _explain_closely(many: Tracks, base: RigState, explanations: Sequence[Explanation]) -> Round:
    """Compare explanations on more points, weighted down for their correlation over time.

    This finds small changes, especially of the lens, that the first comparison misses.
    """
    prior = correct_prior(len(base.cameras))
    rays = many.rays(base)
    counts = _counts(rays)
    free = prior.copy()
    free[:, K1] = 0.15
    of_lens = (
        []
        if any(e.kind == "distortion" and e.gain > _PLAIN for e in explanations)
        else lenses(base, fit(rays, free, counts))
    )
    twice = {(e.kind, e.views) for e in explanations if e.value == "twice"}
    changes = [*explanations, *(e for e in of_lens if e.value != "twice" or (e.kind, e.views) not in twice)]
    weight = 1.0
    while True:
        fits = [fit(rays, prior, counts * weight)]
        fits += [fit(many.rays(e.state), _widened(prior, e), counts * weight, _start(fits[0], e)) for e in changes]
        states = [base, *(e.state for e in changes)]
        dependence = min(_dependence(many, state, fitted) for state, fitted in zip(states, fits, strict=True))
        if weight < 1 or dependence < 1.3:
            break
        weight = 1 / dependence
    scored = [
        _scored(
            base,
            e,
            fitted,
            fitted.evidence + e.log_prior - fits[0].evidence - _luck(many, base, fits[0], e, fitted, counts * weight),
        )
        for e, fitted in zip(changes, fits[1:], strict=True)
    ]
    scored.sort(key=lambda s: s.score, reverse=True)
    return _round(many, base, costs(rays, fits[0].pairs)[1], fits[0], scored)


def _round(many: Tracks, base: RigState, before_px: Array, unchanged: Fit, scored: list[Scored]) -> Round:
    if scored and scored[0].kind == "frame offset" and scored[0].clear:
        scored[0] = _measured_offset(many, base, scored[0])
    return Round(base, before_px, unchanged, tuple(scored))


def _measured_offset(many: Tracks, base: RigState, best: Scored) -> Scored:
    """Fit a frame offset again from the nearest whole frame, because extrapolation along the velocity is only rough."""
    rays = many.rays(best.state)
    widths = {LAG: 2.0}
    prior = _widened(correct_prior(len(base.cameras)), replace(best.explanation, widths=widths))
    fitted = fit(rays, prior, _counts(rays))
    figures, _, state = _change(base, replace(best.explanation, state=best.state), fitted)
    return replace(best, figures=figures, state=state) if abs(figures["frames"]) >= 1 else best


def _counts(rays: Rays) -> Array:
    """Weight (P,) of each pair, in observations: a point has 2 V - 3 degrees of freedom in V (V - 1) / 2 pairs."""
    views = len(rays.R)
    pairs = pairs_of(views)
    common = np.asarray(np.isfinite(rays.points).all(-1))
    number = (common[pairs[:, 0]] & common[pairs[:, 1]]).sum(1)
    return np.asarray(np.maximum(number, 20) * (2 * views - 3) / len(pairs))


def _widened(prior: Array, e: Explanation) -> Array:
    out = prior.copy()
    for parameter, width in e.widths.items():
        out[list(e.views), parameter] = width
    return out


def _start(unchanged: Fit, e: Explanation) -> Array:
    """Starting parameters: those of the unchanged rig, with zeros for the changed views."""
    out = unchanged.theta.copy()
    out[list(e.views)] = 0.0
    return out


def _scored(base: RigState, e: Explanation, fitted: Fit, score: float) -> Scored:
    figures, clear, state = _change(base, e, fitted)
    return Scored(e, fitted, float(score), figures, clear, state)


def _shows_detections(tracks: Tracks, s: Scored) -> bool:
    """Whether enough detections lie inside the image, where the lens of the changed cameras has an inverse.

    Without this check a wide lens with strong distortion, or a much smaller image, would explain many rigs. Far from
    the centre such a lens has no inverse, and rays of a short focal length nearly coincide, so misfits disappear.
    """
    for v in s.views:
        camera = s.state.cameras[v]
        points = tracks.raw(s.state, v)[0]
        finite = np.isfinite(points).all(-1)
        visible = np.isfinite(tracks.normalised(s.state, v)[0]).all(-1)
        if s.kind == "resolution" and min(camera.size) > 0:
            with np.errstate(invalid="ignore"):
                visible &= ((points > 0) & (points < np.array(camera.size))).all(-1)
        if visible.sum() < _VISIBLE * finite.sum():
            return False
    return True


def _dependence(many: Tracks, state: RigState, fitted: Fit) -> float:
    """Variance of sums of residuals over about a second, relative to independent residuals; 1 for white noise."""
    rays = many.rays(state).moved(fitted.theta, fitted.size)
    z = sampson_px(rays, fitted.pairs) / fitted.scale_px[:, None]
    z = np.nan_to_num(np.clip(z, -3, 3))
    block = many.frame // _BLOCK
    group = block * (int(many.joint.max()) + 1) + many.joint
    number = int(group.max()) + 1
    sums = np.stack([np.bincount(group, row, number) for row in z])
    squares = np.stack([np.bincount(group, row * row, number) for row in z])
    return float((sums**2).sum() / max(float(squares.sum()), 1e-9))


def _slow_offsets(base: RigState, unchanged: Fit) -> Iterator[Explanation]:
    """Frame-offset explanations for the two views with the largest delay in the fit of the unchanged rig.

    These offsets move detections along their velocity, so the same detections are compared. Offsets by whole frames
    pair other detections and need a margin, see `_luck`.
    """
    views = len(base.cameras)
    for v in np.argsort(-np.abs(unchanged.theta[:, LAG]))[:2]:
        yield Explanation("frame offset", (int(v),), base, {LAG: 8.0}, -np.log(views), 0)


def _luck(many: Tracks, base: RigState, unchanged: Fit, e: Explanation, fitted: Fit, counts: Array) -> float:
    """Amount to subtract from an offset's score: gain on few points minus gain on many, plus what chance can gain.

    Another offset pairs other detections with other noise, so the best of many offsets gains by chance.
    """
    if e.state.offset_frames == base.offset_frames:
        return 0.0
    view = e.views[0]
    concerned = np.flatnonzero(np.any(unchanged.pairs == view, axis=1))
    rows, totals = [], []
    for state, of in ((base, unchanged), (e.state, fitted)):
        rays = many.rays(state).moved(of.theta, of.size)
        residual = sampson_px(rays, of.pairs[concerned])
        cost, scale = costs(rays, of.pairs[concerned])
        number = np.maximum(np.isfinite(residual).sum(1), 1)
        z = (epipolar_fit.FREEDOM + 1) / 2 * np.log1p((residual / scale[:, None]) ** 2 / epipolar_fit.FREEDOM)
        z = (z + np.log(scale)[:, None] - cost[:, None]) * (counts[concerned] / number)[:, None]
        rows.append(np.nansum(z, axis=0))
        totals.append(np.nan_to_num(cost, nan=epipolar_fit.NO_RELATION))
    weights = counts[concerned]
    gain_many = float(((totals[0] - totals[1]) * weights).sum())
    gain_few = 0.0
    for sign, of in ((1, unchanged), (-1, fitted)):
        gain_few += sign * float((np.nan_to_num(of.cost[concerned], nan=epipolar_fit.NO_RELATION) * weights).sum())
    spread = float(np.sqrt(((rows[0] - rows[1]) ** 2).sum()))
    return gain_few - gain_many + _LUCK * spread


def _change(base: RigState, e: Explanation, fitted: Fit) -> tuple[dict[str, float], bool, RigState]:
    """Figures of a change after the fit, whether they exceed those of a correct rig, and the rig with these figures."""
    v = e.views[0]
    theta = fitted.theta[list(e.views)]
    if e.kind == "frame offset":
        lag = float(e.state.offset_frames[v] - base.offset_frames[v] + theta[0, LAG])
        return {"frames": lag}, abs(lag) >= 1.0, base.with_offset(v, base.offset_frames[v] + round(lag))
    if e.kind == "focal length":
        factor = float(e.value) * float(np.exp(np.mean(theta[:, FOCAL])))  # type: ignore[arg-type]
        state = change_cameras(base, e.views, lambda c: with_intrinsics(c, focal=factor))
        return {"factor": factor}, abs(np.log(factor)) > 0.03, state
    if e.kind == "resolution":
        factor = _simple_ratio(float(e.value) * float(np.exp(np.mean(theta[:, SCALE]))))  # type: ignore[arg-type]
        state = change_cameras(base, e.views, lambda c: with_intrinsics(c, scale=factor))
        return {"factor": factor}, abs(np.log(factor)) > 0.05, state
    if e.kind == "distortion" and e.value != "twice":
        each = [e.state.cameras[w] for w in e.views]
        k1 = float(e.value) + float(np.mean(theta[:, K1]))  # type: ignore[arg-type]
        state = base
        for w, camera in zip(e.views, each, strict=True):
            of_view = float(e.value) + float(fitted.theta[w, K1])  # type: ignore[arg-type]
            state = state.with_camera(w, replace(camera, dist=np.array([of_view, -0.2 * of_view, 0, 0, 0])))
        return {"k1": k1}, abs(k1) > 0.04, state
    if e.kind == "camera moved":
        before, after = base.cameras[v], _moved_camera(e.state.cameras[v], fitted.theta[v], fitted.size)
        cosine = np.clip((np.trace(before.R @ after.R.T) - 1) / 2, -1, 1)
        angle = float(np.rad2deg(np.arccos(cosine)))
        distance = float(np.linalg.norm(before.centre_mm - after.centre_mm))
        clear = angle > 1.0 or distance > 0.015 * fitted.size
        return {"angle_deg": angle, "distance": distance}, clear, base.with_camera(v, after)
    return {}, True, e.state


def _simple_ratio(factor: float) -> float:
    """Round a factor to a ratio of two common resolutions if one is within 2 %; else return the factor."""
    usual = (1 / 4, 1 / 3, 3 / 8, 4 / 9, 1 / 2, 9 / 16, 3 / 5, 5 / 8, 2 / 3, 3 / 4, 4 / 5, 5 / 6)
    for ratio in (*usual, *(1 / u for u in usual)):
        if abs(np.log(factor / ratio)) < 0.02:
            return ratio
    return factor


def _moved_camera(camera: Camera, theta: Array, size: float) -> Camera:
    """Copy of a camera, moved by the rotation and centre of fitted parameters (10,)."""
    R = camera.R @ epipolar_fit.rotations(theta[ROTATION]).T
    centre = camera.centre_mm + size * theta[CENTRE]
    return replace(camera, R=R, t=-R @ centre)
