"""Real detections on real cameras: people associated over the views, triangulated, their residuals and a figure.

There is no training and no score here: the reprojection residual of each view says how well detections, association and
calibration agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D

from poseboard.benchmarks.data import open_named
from poseboard.benchmarks.harness import Bench, predict
from poseboard.benchmarks.settings import Settings
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import Dataset, Poses, Sample
from poseboard.methods.geometry.observations import observe
from poseboard.methods.geometry.triangulation import reprojection_error
from poseboard.methods.nets.triangulator import ASSOCIATION_PX
from poseboard.protocols.records import DetectionFile

_FRAME_COLUMNS = 3
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")


def detections_stage(settings: Settings, dataset: str, method: str) -> Iterator[str]:
    """Triangulate the given detections of a data set; yields a line a fact.

    Writes results/<profile>/detections/<dataset>-<method>.json and a .png beside it. A data set that is absent is
    recorded as such and is no failure, unless params.yaml names a folder.
    """
    target = settings.results / "detections" / f"{dataset}-{method}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    figure = target.with_suffix(".png")
    status, opened = open_named(settings, dataset)
    if opened is None:
        detail = f"{settings.portable(status.detail)}; to be had from {status.obtain}"
        DetectionFile(dataset=dataset, method=method, state="missing", detail=detail).write(target)
        figure.unlink(missing_ok=True)
        yield f"{dataset}/{method}: {status.state}, {detail}"
        return
    bench = Bench(settings, opened)
    model = bench.method(method)
    model.load(None, "cpu")
    samples = bench.handover(model.inputs)
    keys = list(opened.keys("test"))
    answers = predict(model, samples, keys)
    shown = [opened.sample(key) for key in keys]
    residuals = residuals_px(shown, answers, opened)
    views = opened.views
    median = {view: _median(residuals[:, v]) for v, view in enumerate(views)}
    people = sum(len(answer.score) for answer in answers)
    seen = np.isfinite(residuals).any(axis=2).sum()
    detail = (
        f"{people} people in {len(keys)} frames, triangulated from {seen} of "
        f"{sum(len(view.boxes_px) for sample in shown for view in sample.views)} detections; "
        f"{_spread(residuals)}"
    )
    title = f"{dataset}, {method}: {detail}"
    drawn = draw(shown[:_FRAME_COLUMNS], answers[:_FRAME_COLUMNS], opened, residuals, title)
    record = DetectionFile(
        dataset=dataset,
        method=method,
        state=status.state,
        detail=detail,
        people=people,
        residual_px=median,
        figure=figure.name,
    )
    with WholeFiles() as outputs:
        outputs.write(figure, lambda file: drawn.savefig(file, dpi=110, format="png"))
        record.write(target, outputs)
    yield f"{dataset}/{method}: {detail}"
    for view, value in median.items():
        yield f"{dataset}/{method}: {view}: median residual {value} px"
    yield f"figure: {figure}"


def residuals_px(samples: Sequence[Sample], answers: Sequence[Poses], dataset: Dataset) -> np.ndarray:
    """(people, V, J) distance between each detected joint and the reprojection of its person, pixels; NaN = not seen.

    Raises:
        InputError: the method answers with other people than the association finds.
    """
    found = observe(samples, dataset.skeleton, ASSOCIATION_PX)
    joints_mm = np.concatenate([answer.joints_mm for answer in answers])
    if len(joints_mm) != len(found.sample):
        raise InputError("detections", f"{len(joints_mm)} people answered, {len(found.sample)} associated")
    return reprojection_error(found.P, joints_mm, found.points_px)


def draw(
    samples: Sequence[Sample], answers: Sequence[Poses], dataset: Dataset, residuals: np.ndarray, title: str
) -> Figure:
    """One row a frame: each view with detections (dots) and reprojected people (lines), and the people in 3D."""
    columns = len(dataset.views) + 1
    with mpl.rc_context({"font.size": 8, "axes.titlesize": 8}):
        figure = Figure(figsize=(3.1 * columns, 2.55 * len(samples) + 0.5), layout="constrained")
        figure.suptitle(title, fontsize=10)
        first = 0
        for row, (sample, answer) in enumerate(zip(samples, answers, strict=True)):
            of_frame = residuals[first : first + len(answer.score)]
            first += len(answer.score)
            for column, view in enumerate(sample.views):
                axes = figure.add_subplot(len(samples), columns, row * columns + column + 1)
                _draw_view(axes, sample, column, answer, dataset)
                axes.set_title(f"{sample.key}  {view.name}  median {_median(of_frame[:, column])} px")
            axes = figure.add_subplot(len(samples), columns, (row + 1) * columns, projection="3d")
            _draw_people(axes, answer, dataset)
    return figure


def _draw_view(axes: Axes, sample: Sample, index: int, answer: Poses, dataset: Dataset) -> None:
    view = sample.views[index]
    width, height = view.camera.size
    if view.image is not None and dataset.synthetic:  # images of real people do not go on a page
        axes.imshow(view.pixels())
    else:
        axes.set_facecolor("#f2f2f2")
    if view.joints_px is not None:
        points = view.joints_px.reshape(-1, 2)
        axes.scatter(points[:, 0], points[:, 1], s=5, color="black", alpha=0.55, linewidths=0, zorder=3)
    for person, joints in enumerate(view.camera.project(_ordered(answer))):
        for a, b in dataset.skeleton.edge_indices:
            axes.plot(joints[[a, b], 0], joints[[a, b], 1], color=_COLOURS[person % len(_COLOURS)], linewidth=1.3)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")


def _draw_people(axes: Axes3D, answer: Poses, dataset: Dataset) -> None:
    for person, joints in enumerate(_ordered(answer) / 1000):
        for a, b in dataset.skeleton.edge_indices:
            axes.plot(*joints[[a, b]].T, color=_COLOURS[person % len(_COLOURS)], linewidth=1.3)
    axes.set_aspect("equal")
    axes.set(xlabel="x (m)", ylabel="y (m)", zlabel="z (m)")
    axes.tick_params(labelsize=6)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(MaxNLocator(3))


def _ordered(answer: Poses) -> np.ndarray:
    """People by where they stand, so that one keeps a colour over neighbouring frames."""
    known = np.isfinite(answer.joints_mm).all(axis=-1)
    middle = np.where(known, answer.joints_mm[..., 1], 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return answer.joints_mm[np.argsort(middle)]


def _spread(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    if not known.size:
        return "no joint is seen by two cameras"
    return f"median {_median(known)} px, 90 % below {np.percentile(known, 90):.1f} px"


def _median(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return round(float(np.median(known)), 2) if known.size else None
