"""Where a row looks in other views for one joint: arrays beside its predictions, drawn on its page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseboard.benchmarks.harness import Bench, Restricted
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Inputs, Matching, Method

JOINT = "right_wrist"
"""Far from the trunk and often hidden, so that one view alone finds it badly."""
SAMPLES = 3


def write_matches(
    bench: Bench, method: Method, samples: Restricted, answers: Mapping[str, Poses], path: Path, files: WholeFiles
) -> bool:
    """Ask a row where the first camera's view of `JOINT` was looked for in each other view, and write it down.

    The pixel asked is the true joint's and the samples are the middle ones of equal parts of the split, so that all
    rows are asked the same. Pixels are of the crops that the row is handed. The crops themselves are written of
    synthetic people only: images of real data sets are not ours to pass on.

    Args:
        bench: the data set, for the truth and for cameras that may be withheld from the row.
        method: loaded; one that is not `Matching`, or looks at no other view, leaves no file.
        samples: all cameras, as the row sees them.
        answers: key -> what the row predicted, every key of the split in order.
        path: file to write.
        files: that it is written together with.

    Returns:
        Whether there is anything to be written.
    """
    skeleton, own = bench.dataset.skeleton, samples.inputs
    side = own.crop_px
    if not isinstance(method, Matching) or side is None or JOINT not in skeleton.joints or len(samples.views) < 2:
        return False
    joint, keys = skeleton.joints.index(JOINT), list(answers)
    seen = bench.restricted(Inputs(crop_px=side, box_scale=own.box_scale, resampling=own.resampling), samples.views)
    drawn = side if bench.dataset.synthetic else 0
    rows: list[dict[str, NDArray[Any]]] = []
    for key in (keys[(2 * i + 1) * len(keys) // (2 * SAMPLES)] for i in range(min(SAMPLES, len(keys)))):
        views, answer = seen.sample(key).views, answers[key]
        both_mm = np.full((2, 3), np.nan)
        both_mm[0] = bench.dataset.truth(key).joints_mm[0, joint]
        if answer.frame == "world" and len(answer.score):
            both_mm[1] = answer.joints_mm[0, joint]
        both_px = np.stack([view.camera.project(both_mm) for view in views])
        if len(views) < len(samples.views) or not np.isfinite(both_px[:, 0]).all():
            continue
        matches = [method.match(samples.sample(key), 0, v, both_px[0, 0]) for v in range(1, len(views))]
        found = [match for match in matches if match is not None]
        if not found:
            return False
        rows.append(
            {
                "keys": np.array(key),
                "images": np.stack([view.pixels()[:drawn, :drawn] for view in views]),
                "truth_px": both_px[:, 0],
                "predicted_px": both_px[:, 1],
                "pixel_px": found[0].pixel_px,
                **{
                    name: np.stack([getattr(match, name) for match in found])
                    for name in ("line_px", "samples_px", "weights", "hit")
                },
            }
        )
    if not rows:
        return False
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    arrays |= {"joint": np.array(JOINT), "views": np.array(samples.views), "side_px": np.array(side)}
    files.write(
        path,
        lambda file: np.savez_compressed(file, **arrays),  # type: ignore[arg-type]  # as if arrays were flags
    )
    return True
