"""Page of the recorded frames of a data set: images with projected poses, and a 3D viewer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

import numpy as np

from poseboard.report.examples import Examples
from poseboard.report.formatting import file_name
from poseboard.report.page import Page, PageFiles, Site
from poseboard.report.viewer import RigCamera, RigPerson, rounded_points, viewer_data

RATE_HZ = 5.0
"""Frames per second of the viewer: recorded frames are not at equal times."""


@dataclass(frozen=True, eq=False)
class FramesContext:
    """Variables of ``frames.html.j2``.

    Args:
        examples: recorded frames; None: the profile has none.
        synthetic: whether the people are rendered; there are no images of real people.
        hardware_of_boards: machine of the scores.
        rows: rows with a page; for each its best, median and worst frame as (key, error), None: not recorded.
        file: path of the data file for the script of the page.
    """

    examples: Examples | None = None
    synthetic: bool = False
    hardware_of_boards: str = ""
    rows: Sequence[tuple[str, Sequence[tuple[str, float] | None]]] = ()
    file: str = ""


def pages(site: Site) -> Iterator[Page]:
    """Yield ``frames/<data set>.html`` for each data set with recorded frames, or one page on how to record frames."""
    a_page = partial(
        Page,
        section="Frames",
        summary="Single frames: the true pose and the poses of all rows, in the images and in 3D.",
        template="frames.html.j2",
    )
    shown = shown_examples(site)
    for dataset, examples in shown.items():
        context = partial(_context, site, dataset, examples)
        scripts = ("site.js", "viewer.js", "frames.js")
        yield a_page(path=page_path(dataset), title=dataset, context=context, scripts=scripts)
    if not shown:
        yield a_page(path="frames/index.html", title="Frames", context=lambda files: FramesContext())


def shown_examples(site: Site) -> dict[str, Examples]:
    """Data set -> recorded frames, for data sets whose frames have predictions of a row of the site."""
    known = sorted(site.results.examples.items())
    return {dataset: examples for dataset, examples in known if not set(examples.rows).isdisjoint(site.slots)}


def page_path(dataset: str) -> str:
    """Path of a data set's page in the site."""
    return f"frames/{file_name(dataset)}.html"


def data_path(dataset: str) -> str:
    """Path of the data file of a data set's page in the site: names of frames and rows, errors, and images."""
    return f"frames/{file_name(dataset)}/frames.js"


def address(dataset: str, key: str, row: str) -> str:
    """Address of a frame in the site with the predicted pose of a row.

    Example:
        >>> address("human36m", "S9/Walking-1/000032", "dlt")
        'frames/human36m.html#frame=S9%2FWalking-1%2F000032&row=dlt'
    """
    return f"{page_path(dataset)}#{urlencode({'frame': key, 'row': row})}"


def image_names(dataset: str, examples: Examples) -> list[list[str]]:
    """Paths of the images in the site, by pictured frame and camera."""
    folder = f"frames/{file_name(dataset)}"
    return [[f"{folder}/{frame}-{k}.jpg" for k in range(len(examples.picture_views))] for frame in examples.pictured]


def _context(site: Site, dataset: str, examples: Examples, files: PageFiles) -> FramesContext:
    """Content of the page; adds images and scripts with the poses of each sequence to ``files``."""
    for names, images in zip(image_names(dataset, examples), examples.images, strict=True):
        for name, image in zip(names, images, strict=True):
            files.add(name, image)
    scores = [entry.scores for entry in site.results.entries if entry.scores.dataset == dataset]
    bounds = {file.method for file in scores if file.bound}
    shown = [row for row, name in enumerate(examples.rows) if name in site.slots]
    shown.sort(key=lambda row: examples.rows[row] in bounds)  # the first row is drawn when the page opens
    frames_of: dict[str, list[int]] = {}
    for frame, sequence in enumerate(examples.sequences):
        frames_of.setdefault(sequence, []).append(frame)
    folder = f"frames/{file_name(dataset)}"
    for number, frames in enumerate(frames_of.values()):
        files.data(f"{folder}/{number}.js", sequence_data(examples, shown, frames))
    index = {
        "folder": folder,
        "rows": [examples.rows[row] for row in shown],
        "keys": examples.keys,
        "views": [examples.views[view] for view in examples.picture_views],
        "side": 2 * examples.side_px,
        "edges": examples.edges.tolist(),
        "pictured": examples.pictured,
        "errors": [_numbers(examples.error_mm[row]) for row in shown],
        "sequences": [
            {"name": name, "action": examples.actions[frames[0]], "frames": frames}
            for name, frames in frames_of.items()
        ],
    }
    files.data(data_path(dataset), index)
    return FramesContext(
        examples=examples,
        synthetic=any(file.synthetic for file in scores),
        hardware_of_boards="; ".join(dict.fromkeys(file.provenance.hardware for file in scores)),
        rows=[(examples.rows[row], [_pick(examples, row, frame) for frame in examples.picks[row]]) for row in shown],
        file=data_path(dataset),
    )


def _pick(examples: Examples, row: int, frame: int) -> tuple[str, float] | None:
    return None if frame < 0 else (examples.keys[frame], float(examples.error_mm[row, frame]))


def sequence_data(examples: Examples, rows: Sequence[int], frames: Sequence[int]) -> dict[str, Any]:
    """Data of a sequence for the script of the page, as JSON values.

    The scene has the true person first, and then the prediction of each row. Cameras that move within the sequence are
    skipped. Image points are integers in units of half a pixel.

    Args:
        examples: recorded frames.
        rows: indices of the rows.
        frames: indices of the frames of the sequence.
    """
    poses_mm = [examples.truth_mm, *examples.predicted_mm[list(rows)]]
    frusta_mm = examples.frusta_mm[list(frames)]
    still = np.array_equal(frusta_mm, np.broadcast_to(frusta_mm[:1], frusta_mm.shape), equal_nan=True)
    cameras = [
        RigCamera(name, "", frustum[0], (frustum[1:] - frustum[0]) / 1000.0)
        for name, frustum in zip(examples.views, frusta_mm[0], strict=True)
        if still and np.isfinite(frustum).all()
    ]
    people = [RigPerson(str(number), 0, pose[list(frames)]) for number, pose in enumerate(poses_mm)]
    edges = [(int(a), int(b)) for a, b in examples.edges]
    scene = viewer_data(examples.joints, edges, cameras, people, RATE_HZ)
    places = {frame: k for k, frame in enumerate(examples.pictured)}
    pixels = np.stack([examples.truth_px, *examples.predicted_px[list(rows)]])
    return {
        "scene": scene | {"labels": [examples.keys[frame] for frame in frames]},
        "pixels": {frame: rounded_points(2 * pixels[:, places[frame]]) for frame in frames if frame in places},
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    return [round(value, 1) if np.isfinite(value) else None for value in values.tolist()]
