"""Kinds of input: how a clean one is written, and how it is read to the end.

A new adapter of the catalogue is an input by being there.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / room) for room in ("datasets", "methods", "protocols", "")]

import cv2  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402
import yaml  # noqa: E402
from made_up_rig import write_inputs  # noqa: E402
from made_up_trees import write_made_up  # noqa: E402

from poseboard.benchmarks.data import check_everything  # noqa: E402
from poseboard.benchmarks.plan import Plan  # noqa: E402
from poseboard.benchmarks.rigs.new import NewRig, new_rig  # noqa: E402
from poseboard.datasets.catalog import catalog, open_dataset  # noqa: E402
from poseboard.datasets.errors import InputError  # noqa: E402
from poseboard.datasets.files import WholeFiles  # noqa: E402
from poseboard.datasets.keypoints import read_keypoints  # noqa: E402
from poseboard.datasets.mupots import MuPoTS  # noqa: E402
from poseboard.datasets.skeleton import HUMAN36M  # noqa: E402
from poseboard.methods import loop  # noqa: E402
from poseboard.methods.checkpoint import Checkpoint, write_tensors  # noqa: E402
from poseboard.protocols import predictions  # noqa: E402
from poseboard.protocols.condition import Condition  # noqa: E402
from poseboard.protocols.error_files import read_errors, write_errors  # noqa: E402
from poseboard.protocols.records import ScoreFile  # noqa: E402
from poseboard.protocols.root_files import RootRecord, processed_boxes, read_roots, to_predictions, write_roots  # noqa: E402
from poseboard.protocols.submissions import read_submission  # noqa: E402

cv2.setNumThreads(0)  # the pool of threads would not survive a fork
torch.set_num_threads(1)
pa.set_cpu_count(1)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a reader got.

    Args:
        values: numbers and texts, by place.
        warnings: what was said about them.
    """

    values: Mapping[str, Any]
    warnings: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Input:
    """A kind of input.

    Args:
        write: writes a clean one into a folder.
        read: reads the folder; an InputError is a refusal.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], Reading]


def flat(value: Any, place: str = "") -> dict[str, Any]:
    """All arrays, numbers and texts in a value, by place."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.tolist()
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in flat(inner, f"{place}.{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for key, inner in enumerate(value) for k, v in flat(inner, f"{place}.{key}").items()}
    if isinstance(value, np.ndarray | float | int | str):
        return {place: value}
    return {}


GRID = np.stack(np.meshgrid(*[np.linspace(0.05, 0.95, 7)] * 2), axis=-1).reshape(-1, 2)
"""Points of an image, in its sides. Where a lens moves them is compared, and not its coefficients."""


def _read_dataset(name: str, folder: Path) -> Reading:
    dataset = open_dataset(name, {"root": folder})
    status = dataset.status()
    if status.state in ("missing", "damaged"):
        raise InputError(folder, f"{status.state}: {status.detail}", status.obtain)
    dataset.manifest()
    found = [finding for of in check_everything(dataset, lambda done, total: None).values() for _, finding in of]
    said = {f"{'error' if finding.is_error else 'warning'}: {finding}" for finding in found}
    values: dict[str, Any] = {}
    for split in dataset.splits:
        for key in dataset.keys(split):
            sample = dataset.sample(key)
            for view in sample.views:
                camera = {name: getattr(view.camera, name) for name in ("K", "R", "t", "size", "distortion")}
                lens = view.camera.distort(GRID * view.camera.size) if min(view.camera.size) else view.camera.dist
                values |= flat(camera | {"lens": lens}, f"{key}.{view.name}.camera")
                values |= flat([view.boxes_px, view.joints_px, view.confidence], f"{key}.{view.name}.labels")
                if view.image is not None:
                    values[f"{key}.{view.name}.image"] = view.pixels()[::4, ::4]
            truth = dataset.truth(key)
            if not dataset.facts(split).associated:  # where 2D annotations only check the poses
                truth = dataclasses.replace(truth, annotated={})
            if dataset.facts(split).truth == "triangulated":  # bodies of a frame have no order
                order = np.lexsort(np.nan_to_num(truth.joints_mm[:, :2, 0]).T)
                truth = dataclasses.replace(truth, joints_mm=truth.joints_mm[order])
            values |= flat(truth, f"{key}.truth")
    partial = {f"partial: {status.detail}"} if status.state == "partial" else set()
    left_out = status.detail.partition("; left out: ")[2]
    return Reading(values, frozenset({*said, *partial, *({f"left out: {left_out}"} if left_out else ())}))


PARAMS: dict[str, Any] = {
    "profile": "smoke",
    "datasets": {"human36m": {"root": None}},
    "methods": {
        "net": {"code": "methods/backbone", "after": "scratch", "image_px": 64, "steps": 3, "batch_size": 2},
        "dlt": {"code": "methods/dlt", "after": "net", "weighting": "peak"},
        "volumetric": {"code": "methods/volumetric", "after": "net", "steps": 2, "batch_size": 2, "voxels": 32},
    },
    "profiles": {
        "smoke": {
            "seeds": [0, 1],
            "processes": 1,
            "full_size": False,
            "worlds": {"human36m": {"seed": 3, "side_px": 96, "train_subjects": ["S1"], "train_frames": 1}},
        }
    },
}


def _write_params(folder: Path) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))


def _read_params(folder: Path) -> Reading:
    """Numbers within their bounds and other names are other valid files: only the fields count."""
    plan = Plan.read(folder / "params.yaml")
    rows = {str(run): sorted(run.options) for row in plan.rows for run in plan.runs(row)}
    return Reading({"rows": str(sorted(rows)), "options": str(rows)})


def _write_predictions(folder: Path) -> None:
    rng = np.random.default_rng(0)
    keys = np.array([f"S9/Walking-1/{f:06d}" for f in range(20)], dtype=object)
    info = {
        "skeleton": "human36m",
        "joints": HUMAN36M.joints,
        "dataset": "human36m",
        "condition": Condition(cameras=("a", "b")).model_dump(),
        "columns": {"size_mm": ()},
        "manifest": "m",
        "method": "oracle",
    }
    table = predictions.PoseTable(
        keys=keys,
        person=np.zeros(20, dtype=np.int32),
        score=np.ones(20, dtype=np.float32),
        frame=np.array(["world"] * 20, dtype=object),
        joints_mm=rng.normal(0, 500, (20, 17, 3)).astype(np.float32),
        info=predictions.PredictionInfo.model_validate(info),
        columns={"size_mm": np.full(20, 1700, "f4")},
    )
    info = table.info.model_copy(update={"answers_sha256": table.answers_sha256()})
    predictions.write(folder / "mine.parquet", dataclasses.replace(table, info=info))


def _read_predictions(folder: Path) -> Reading:
    table = predictions.read(folder / "mine.parquet")
    parts = {name: getattr(table, name) for name in ("keys", "person", "score", "frame", "joints_mm", "columns")}
    return Reading(flat(parts))


def _write_checkpoint(folder: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    state = {"a.weight": torch.rand(8, 3, generator=rng), "b.bias": torch.rand(5, generator=rng)}
    Checkpoint("toy", {"width": 8}, state, {"threshold": 0.5}, ("mpii",)).save(folder / "toy.pt")


def _read_checkpoint(folder: Path) -> Reading:
    checkpoint = Checkpoint.read(folder / "toy.pt")
    return Reading(flat(checkpoint))


def _training() -> types.SimpleNamespace:
    """Three networks, because an optimizer of PyTorch takes seconds to import and is read alike."""
    parts = {name: torch.nn.Linear(3, 2) for name in ("model", "optimizer", "scheduler")}
    return types.SimpleNamespace(**parts)


def _write_state(folder: Path) -> None:
    torch.manual_seed(0)
    state = loop._State(
        "mine", 7, *(part.state_dict() for part in vars(_training()).values()),
        {"total": [(3, 0.5), (6, 0.25)]}, [{"total": 0.2}], 12.0, 11.0, 0,
    )  # fmt: skip
    write_tensors(folder / "seed0.state.pt", {"format": loop._FORMAT, **state.__dict__})


def _read_state(folder: Path) -> Reading:
    path, training, said = folder / "seed0.state.pt", _training(), set[str]()
    handler = logging.Handler()
    handler.emit = lambda record: said.add(record.getMessage())  # type: ignore[method-assign]
    loop._log.addHandler(handler)
    try:
        state = loop._State.load(path, "mine", tell=True)
    finally:
        loop._log.removeHandler(handler)
    if state is None:  # without a file, the training starts at step 0, which its progress shows
        return Reading({}, frozenset(said if path.is_symlink() or path.exists() else {"warning: starts at step 0"}))
    state.resume(path, training.model, training.optimizer, training)
    return Reading(flat([state, *(part.state_dict() for part in vars(training).values())]))


def _write_results(folder: Path) -> None:
    path = folder / "human36m-rigs.json"
    shutil.copy(TESTS.parent / "results" / "default" / "scores" / "dlt" / path.name, path)
    errors = pd.DataFrame({"key": [f"S9/Walking-1/{f:06d}" for f in range(9)], "table": "T1", "error": np.arange(9.0)})
    with WholeFiles() as files:
        write_errors(folder / "errors.parquet", errors, ScoreFile.read(path), files)


def _read_results(folder: Path) -> Reading:
    scores = ScoreFile.read(folder / "human36m-rigs.json")
    errors = read_errors(folder / "errors.parquet", scores)
    return Reading(flat([scores.model_dump()["scores"], errors.to_dict("list")]))


def _photographs(folder: Path) -> MuPoTS:
    """The data set of the roots, beside their folder, because only the roots are damaged."""
    return MuPoTS(folder.with_name("photographs"))


def _write_roots(folder: Path) -> None:
    dataset, records = _photographs(folder), []
    dataset.root.mkdir()
    write_made_up("mupots", dataset.root)
    for key in dataset.keys("test"):
        (view,) = dataset.sample(key).views
        poses_mm = dataset.truth(key).joints_mm
        for pose_mm, box in zip(poses_mm, processed_boxes(view), strict=True):
            root = tuple(pose_mm[dataset.skeleton.root_index].tolist())
            records.append(RootRecord(dataset.image_id(key), root, tuple(box.tolist())))
    write_roots(folder / "bbox_root_output.json", records)


def _read_roots(folder: Path) -> Reading:
    path = folder / "bbox_root_output.json"
    records = read_roots(path)
    tables = to_predictions(_photographs(folder), "test", records, "mine", path.name)
    return Reading(flat([{name: table.joints_mm for name, table in tables.items()}, *map(dataclasses.asdict, records)]))


def _write_rig_inputs(folder: Path) -> None:
    write_inputs(folder, frames=12)


def _read_rig_inputs(folder: Path) -> Reading:
    """Calibration and detections of other programs, as `poseboard rig new` reads and `data check` checks them."""
    with tempfile.TemporaryDirectory() as home:
        new_rig(NewRig("hall", folder / "Calib.toml", folder / "pose", fps=60.0), Path(home))
        remarks = read_keypoints(folder / "pose").remarks  # as `rig new` prints them
        read = _read_dataset("rig", Path(home) / "data" / "hall")
        return Reading(read.values, read.warnings | set(remarks))


def _write_card(folder: Path) -> None:
    (folder / "example").mkdir()
    source = TESTS.parent / "docs" / "example-submission"
    shutil.copy(source / "card.yaml", folder / "example")
    table = predictions.read(source / "example.parquet")
    info = table.info.model_copy(update={"answers_sha256": table.answers_sha256()})
    predictions.write(folder / "example" / "human36m-0.parquet", dataclasses.replace(table, info=info))


def _read_card(folder: Path) -> Reading:
    """Texts of a card are free: only their number counts."""
    submission = read_submission(folder / "example")
    table = predictions.read(submission.files[0])
    return Reading(flat([submission.name, len(submission.card.authors), table.joints_mm, table.keys]))


INPUTS: dict[str, Input] = {
    **{
        name: Input(
            partial(write_made_up, name, large=True),
            partial(_read_dataset, name),
        )
        for name in catalog()
    },
    "params.yaml": Input(_write_params, _read_params),
    "predictions": Input(_write_predictions, _read_predictions),
    "checkpoint": Input(_write_checkpoint, _read_checkpoint),
    "state": Input(_write_state, _read_state),
    "results": Input(_write_results, _read_results),
    "roots": Input(_write_roots, _read_roots),
    "rig-new": Input(_write_rig_inputs, _read_rig_inputs),
    "submission": Input(_write_card, _read_card),
}
