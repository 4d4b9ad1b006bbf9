"""3D poses of a rig with scores, pictures, files for other programs, and a page (`poseboard rig run`)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from poseboard.benchmarks.examples import frustum
from poseboard.benchmarks.plan import Plan, Run
from poseboard.benchmarks.predict import no_input
from poseboard.benchmarks.score import evaluate_stage
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.files import write_file
from poseboard.datasets.motion import FORMATS, Motion, Up, write_motion
from poseboard.datasets.rig import Rig, describe_cameras
from poseboard.methods.base import find_learner, predicts
from poseboard.methods.drawing.people import ViewOfPeople, draw_people
from poseboard.methods.drawing.style import pixels
from poseboard.protocols import predictions
from poseboard.protocols.predictions import PoseTable, positions
from poseboard.protocols.records import Score, ScoreFile
from poseboard.protocols.without_truth import track
from poseboard.report.rig_page import RigNumber, RigRun, rig_page
from poseboard.report.viewer import RigCamera, RigPerson

SHORTEST_TRACK_S = 0.5
"""Tracks shorter than this are not written, if there are longer ones: they are mostly false people."""

_PICTURES = 3
_WORST = 3
"""Joints and bones named in the summary."""


def run_of_rig(plan: Plan, name: str, row: str) -> Run:
    """Run of a row on a rig, which need not be in params.yaml.

    Raises:
        InputError: the rig or row is unknown, or the row cannot run on the rig.
    """
    if name not in plan.params.datasets:
        folder = plan.home / "data" / name
        if not folder.is_dir():
            rigs = [path.parent.name for path in sorted(plan.home.glob("data/*/rig.yaml"))]
            remedy = did_you_mean(name, rigs) if rigs else f"run `poseboard rig new {name}` first"
            raise InputError(f"rig {name!r}", f"there is no {folder}", remedy)
        plan = plan.with_root(name, folder, Rig.name)
    run = plan.run(row, name)
    if not isinstance(run.dataset, Rig):
        raise InputError(f"data set {name}", "is not a rig", f"run `poseboard evaluate {name} {row}` instead")
    if not predicts(find_learner(run.spec)):
        raise InputError(f"row {row}", "predicts nothing", "name a row such as ransac_swap")
    if reason := no_input(run):
        raise InputError(f"row {row}", f"cannot run on {name}: {reason}", "name a row such as ransac_swap")
    return run


def run_rig(run: Run, out: Path, formats: Sequence[str]) -> Iterator[str]:
    """Predict and score a rig, write its 3D points and its page, and yield messages for the user.

    Args:
        run: run of a row on a rig (`run_of_rig`).
        out: folder for the files of 3D points.
        formats: names in `datasets.motion.FORMATS`.

    Raises:
        InputError: a format is unknown, or the rig or the row cannot be used.
    """
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"--format {name}", "no such format of 3D points", did_you_mean(name, FORMATS))
    for _ in evaluate_stage([run]):
        pass  # the summary says what was predicted and scored
    rig = run.dataset
    assert isinstance(rig, Rig)
    yield f"{run.source.name} by {run.row}: {rig.status().detail}"
    scores = ScoreFile.read(run.path("scores"))
    yield from summary(scores.scores)
    tables = (predictions.read(path) for path in sorted(run.path("predictions").glob("test-*.parquet")))
    table = next(table for table in tables if len(table.info.condition.cameras) == len(rig.views))
    people = motions(table, list(rig.keys("test")), rig)
    if not people:
        yield "no person is triangulated in two frames or more: no 3D points are written"
    for person, motion in people.items():
        stem = run.row if len(people) == 1 else f"{run.row}-{person}"
        for name in formats:
            path = out / f"{stem}{FORMATS[name].suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_motion(path, motion, name)
            yield f"{path}: {FORMATS[name].what}, {len(motion)} frames"
    pictures = []
    for key in _chosen(table, list(rig.keys("test"))):
        frame = key.rpartition("/")[2]
        path = out / f"{run.row}-{frame}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures.append((f"Frame {int(frame)}", picture_of(table, rig, key)))
        write_file(path, pictures[-1][1])
        yield f"{path}: detections and poses of one frame"
    path = out / f"{run.row}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, rig_page(page_content(run, rig, scores, people, pictures)))
    yield f"{path}: page with the 3D frames; open it in a browser"


def page_content(
    run: Run, rig: Rig, scores: ScoreFile, people: Mapping[str, Motion], pictures: Sequence[tuple[str, bytes]]
) -> RigRun:
    """Content of the page of a rig.

    Args:
        run: run of a row on the rig.
        rig: cameras and joints.
        scores: scores of the run.
        people: tracked people (`motions`).
        pictures: caption and PNG of some frames.
    """
    lines = describe_cameras(rig.cameras)
    return RigRun(
        rig=run.source.name,
        row=run.row,
        detail=rig.status().detail,
        up=rig.rig.up,
        rate_hz=rig.rig.fps,
        joints=rig.skeleton.joints,
        edges=rig.skeleton.edge_indices,
        numbers=[
            RigNumber(
                table=score.table,
                title=score.title,
                unit=score.unit,
                value=score.value,
                ci95=score.ci95,
                counts=_counts(score),
                details=list(_details(score.breakdown, score.lower_is_better)),
            )
            for score in _in_order(scores.scores)
        ],
        cameras=[
            RigCamera(name, lines[name].removeprefix(f"{name}: "), *_pyramid(camera, rig.rig.up))
            for name, camera in rig.cameras.items()
        ],
        people=[RigPerson(name, motion.start_frame, motion.turned("y").points_mm) for name, motion in people.items()],
        pictures=pictures,
        warning=scores.warning,
        profile=scores.profile,
    )


def _pyramid(camera: Camera, up: Up) -> tuple[Array, Array]:
    """Centre (3,) in mm and directions (4, 3) to the image corners, in a world with y up; distortion is ignored."""
    turned = Motion(tuple("0abcd"), frustum(camera)[None], 1.0, up).turned("y").points_mm[0]
    return turned[0], (turned[1:] - turned[0]) / 1000.0


def _chosen(table: PoseTable, keys: Sequence[str]) -> list[str]:
    """Keys of a few frames with predictions, evenly spread over the recording."""
    with_people = set(table.keys[np.isfinite(table.joints_mm).any(axis=(1, 2))].tolist())
    places = [key for key in keys if key in with_people]
    return [places[k * (len(places) - 1) // max(_PICTURES - 1, 1)] for k in range(min(_PICTURES, len(places)))]


def picture_of(table: PoseTable, rig: Rig, key: str) -> bytes:
    """PNG of one frame: detections (dots) and projected poses (lines) in each view, and the poses in 3D.

    The images belong to the user, so they are drawn; a missing image is skipped.
    """
    joints_mm = table.joints_mm[table.keys == key].astype(np.float64)
    views = []
    for view in rig.sample(key).views:
        detected_px = np.empty((0, len(rig.skeleton), 2)) if view.joints_px is None else view.joints_px
        image = None if view.image is None else view.pixels()
        projected_px = view.camera.project(joints_mm)
        views.append(ViewOfPeople(view.name, view.camera.size, image, detected_px, projected_px))
    buffer = io.BytesIO()
    Image.fromarray(pixels(draw_people(views, joints_mm, rig.skeleton))).save(buffer, "PNG")
    return buffer.getvalue()


def motions(table: PoseTable, keys: Sequence[str], rig: Rig) -> dict[str, Motion]:
    """Tracks of the people in a recording.

    Args:
        table: predictions in the world frame.
        keys: keys of all frames in order.
        rig: frame rate, vertical axis and frame numbers.

    Returns:
        "person1", "person2", … in the order of their first frames -> points of the person from its first to its last
        frame; NaN where the person is not predicted.
    """
    rows = np.flatnonzero(np.isfinite(table.joints_mm).all(axis=-1).any(axis=-1))
    frame = positions(table, np.array(keys, dtype=object))[rows]
    order = np.argsort(frame, kind="stable")
    rows, frame = rows[order], frame[order]
    joints_mm = table.joints_mm[rows].astype(np.float64)
    person = track(joints_mm, frame)
    lengths = np.bincount(person)
    shortest = min(SHORTEST_TRACK_S * rig.rig.fps, lengths.max(initial=0))
    people: dict[str, Motion] = {}
    for index in dict.fromkeys(person.tolist()):
        if lengths[index] < max(shortest, 2):
            continue
        own = person == index
        frames = frame[own]
        points_mm = np.full((frames[-1] - frames[0] + 1, len(table.info.joints), 3), np.nan)
        points_mm[frames - frames[0]] = joints_mm[own]
        start = rig.frames[0] + int(frames[0])
        people[f"person{len(people) + 1}"] = Motion(table.info.joints, points_mm, rig.rig.fps, rig.rig.up, start)
    return people


def summary(scores: Sequence[Score]) -> Iterator[str]:
    """Scores as lines of text, with intervals, values by camera and the worst joints."""
    for score in _in_order(scores):
        yield f"{score.title}: {_number(score)}"
        yield from (f"    {line}" for line in _details(score.breakdown, score.lower_is_better))


def _in_order(scores: Sequence[Score]) -> list[Score]:
    """Scores with headline scores first."""
    return sorted(scores, key=lambda score: not score.headline)


def _number(score: Score) -> str:
    value = "no number" if score.value is None else f"{score.value:.1f} {score.unit}"
    interval = "" if score.ci95 is None else f" [{score.ci95[0]:.1f}, {score.ci95[1]:.1f}]"
    counts = _counts(score)
    return value + interval + (f", {counts}" if counts else "")


def _counts(score: Score) -> str:
    counts = ((score.n_missing, "missing"), (score.n_false, "false"))
    return ", ".join(f"{count} {what}" for count, what in counts if count)


def _details(breakdown: Mapping[str, Mapping[str, float | None]], lower_is_better: bool) -> Iterator[str]:
    for kind in ("view", "joint", "bone"):
        values = {name: value for name, value in breakdown.get(kind, {}).items() if value is not None}
        if len(set(values.values())) < 2:
            continue
        if kind == "view":
            yield "by camera: " + ", ".join(f"{name} {value:.1f}" for name, value in values.items())
        else:
            worst = sorted(values, key=lambda name: values[name], reverse=lower_is_better)[:_WORST]
            yield f"worst {kind}s: " + ", ".join(f"{name} {values[name]:.1f}" for name in worst)
