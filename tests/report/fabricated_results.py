"""Results files with invented values, written through the schema: what the pages are built from in tests."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.image import imsave

from poseboard.protocols.decisions import judge, places, trained, with_training
from poseboard.protocols.records import (
    ComparisonFile,
    Curve,
    DataFile,
    DrawnPicture,
    PairedDifference,
    PictureFile,
    Provenance,
    PublishedRow,
    PublishedTable,
    Rank,
    Score,
    ScoreFile,
    SeedValue,
    Signature,
    TableComparison,
    TrainingFile,
    TrainingRun,
)
from poseboard.report.results import Results, read_results

ACTIONS = (
    *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases", "Sitting"),
    *("SittingDown", "Smoking", "Waiting", "WalkDog", "Walking", "WalkTogether"),
)
JOINTS = ("ankle", "knee", "hip", "pelvis", "spine", "thorax", "head_top", "wrist", "elbow", "shoulder", "nose")
LEVELS = {"algebraic": 71.9, "dlt_peak": 78.3, "algebraic_no_conf": 85.2, "ransac": 85.9, "dlt": 87.6}
INCOMPLETE = "ransac"
"""The row with missing predictions."""
AFTER = {"backbone": None, "ransac": "backbone", "algebraic": "backbone", "algebraic_no_conf": "backbone",
         "dlt": "ransac", "dlt_peak": "ransac"}  # fmt: skip
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
STICK = np.array([[52, 15], [52, 30], [52, 55], [40, 32], [64, 32], [34, 46], [72, 44], [45, 57], [59, 57], [42, 74],
                  [62, 74], [41, 90], [64, 90]], dtype=np.float64)  # fmt: skip
EDGES = np.array([[0, 1], [1, 2], [1, 3], [1, 4], [3, 5], [4, 6], [2, 7], [2, 8], [7, 9], [8, 10], [9, 11], [10, 12]])


def provenance(method: str) -> Provenance:
    return Provenance(
        git_commit="a454ba0c1d2e3f405162738495a6b7c8d9e0f123",
        git_dirty=False,
        options={"steps": 600, "learning_rate": 0.001, "use_confidences": method == "algebraic"},
        params_sha256="5d1f" * 16,
        data_manifest="9c0a" * 16,
        checkpoint_sha256={"seed0": "77ab" * 16},
        seeds=[0],
        versions={"python": "3.11.2", "torch": "2.9.1", "numpy": "2.3.4"},
        hardware="2 CPU cores (x86-64), 8 GB",
        created="2026-11-21T09:30:00+00:00",
        mlflow_run=f"score/human36m/{method}",
    )


def signature(absolute: bool, cameras: Sequence[str] = CAMERAS) -> Signature:
    return Signature(
        metric="mpjpe", alignment="none" if absolute else "root", root="none" if absolute else "pelvis",
        joints="human36m-17, all 17", split="test (S9, S11)", every=64,
        exclusions=("S9/Greeting-2", "S9/SittingDown-2", "S9/Waiting-1") if absolute else (),
        cameras=(tuple(cameras),), cameras_of_dataset=len(CAMERAS),
        average="frames" if absolute else "actions", version=1,
    )  # fmt: skip


def score(method: str, level: float, table: str, rng: np.random.Generator, count: int = 4) -> Score:
    absolute = table == "T2"
    value = round(level, 3)
    spread = rng.uniform(0.7, 1.35, len(ACTIONS))
    thresholds = np.arange(0, 151, 10.0)
    full = table == "T1"
    return Score(
        table=table,
        title="MPJPE absolute" if absolute else "MPJPE relative to the pelvis",
        protocol="human36m",
        signature=signature(absolute, CAMERAS[:count]),
        published=table if table in ("T1", "T2") else None,
        headline=table in ("T1", "T2"),
        group=0 if count == 4 else count - 2,
        unit="mm",
        value=value,
        ci95=(round(value - rng.uniform(2, 4), 3), round(value + rng.uniform(2, 4.5), 3)),
        n_samples=900 - 36 * absolute,
        n_missing=3 if method == INCOMPLETE else 0,
        n_left_out=3 if method == INCOMPLETE else 0,
        n_groups=60 - 3 * absolute,
        seeds=[SeedValue(seed=0, value=value)],
        breakdown={
            "action": {a: round(float(value * s / spread.mean()), 2) for a, s in zip(ACTIONS, spread, strict=True)},
            "joint": {j: round(float(value * rng.uniform(0.5, 1.7)), 2) for j in JOINTS},
        }
        if full
        else {},
        curves={
            "pck": Curve(
                x=[float(t) for t in thresholds],
                y=[round(float(100 * (1 - np.exp(-t / value))), 2) for t in thresholds],
                x_label="threshold, mm",
                y_label="PCK, % of joints",
            )
        }
        if table == "human36m-pck"
        else {},
    )


def share_within(method: str, level: float, rng: np.random.Generator) -> Score:
    found = score(method, level, "human36m-pck", rng)
    reading = round(100 * (1 - np.exp(-150 / level)), 3)
    return found.model_copy(
        update={
            "title": "3D PCK at 150 mm", "unit": "%", "lower_is_better": False,
            "signature": found.signature.model_copy(update={"metric": "pck@150mm"}), "value": reading,
            "ci95": (reading - 1.2, reading + 1.1), "n_left_out": 0,
        }
    )  # fmt: skip


def write_method(root: Path, dataset: str, method: str, level: float, stem: str | None = None) -> None:
    """Scores of one method."""
    rng = np.random.default_rng(sum(map(ord, method)))
    scores = [score(method, level, "T1", rng), score(method, level * 1.06, "T2", rng)]
    sweep = [score(method, level * f, "human36m-cameras", rng, n)
             for n, f in ((2, 1.72), (3, 1.22), (4, 1.0))]  # fmt: skip
    curve = Curve(x=[2, 3, 4], y=[s.value for s in sweep], x_label="cameras", y_label="mpjpe (mm)")
    scores += [s.model_copy(update={"curves": {**s.curves, "cameras": curve}}) for s in sweep]
    scores.append(share_within(method, level, rng))
    file = ScoreFile(
        method=method, dataset=dataset, synthetic=True, profile="default", scores=scores, provenance=provenance(method)
    )
    file.write(root / "default" / "scores" / (stem or method) / f"{dataset}.json")


def write_seeds(root: Path, dataset: str) -> None:
    """The same rows, trained three times: each a little off its level, and two rows a little off each other."""
    for k, method in enumerate(LEVELS):
        file = ScoreFile.read(root / "default" / "scores" / method / f"{dataset}.json")
        offsets = (0.0, 1.0 + 0.1 * (k % 2), 0.5 - 0.05 * (k % 3))
        scores = [
            s.model_copy(
                update={
                    "value": s.value + 0.5,
                    "n_missing": 0,
                    "n_left_out": 0,
                    "seeds": [SeedValue(seed=n, value=s.value + offset) for n, offset in enumerate(offsets)],
                }
            )
            for s in file.scores
            if s.value is not None
        ]
        file.model_copy(update={"profile": "seeds", "scores": scores}).write(
            root / "seeds" / "scores" / method / f"{dataset}.json"
        )


def write_training(root: Path, dataset: str, method: str, after: str | None, learns: bool) -> None:
    steps = np.arange(0, 601, 20.0)
    curves = {
        name: Curve(
            x=steps.tolist(), y=np.round(a * np.exp(-steps / 150) + b, 4).tolist(), x_label="step", y_label=name
        )
        for name, a, b in (("total", 3.0, 0.8), ("joints_3d", 2.0, 0.4), ("heatmap", 1.0, 0.4))
    }
    run = TrainingRun(
        seed=0,
        steps=600,
        batch_size=12,
        processes=2,
        seconds=96.4 + 9 * len(method),
        processor_seconds=171.3 + 16 * len(method),
        curves=curves,
        constants={"scale": 2.7},
    )
    TrainingFile(
        method=method, dataset=dataset, synthetic=True, profile="default", after=after,
        parameters=712_345 if learns else 0, runs=[run] if learns else [], provenance=provenance(method),
    ).write(root / "default" / "training" / method / f"{dataset}.json")  # fmt: skip


def write_examples(path: Path, levels: Mapping[str, float], n: int = 5, side: int = 96, **changes: Any) -> None:
    """Two sequences of a data set, all frames with images; the rows get worse from frame to frame."""
    rng = np.random.default_rng(0)
    rows, views, joints = len(levels), len(CAMERAS), len(STICK)
    images = np.full((n, views, side, side, 3), 120, dtype=np.uint8)
    images[:, :, side * 3 // 4 :] = 90
    images[..., 40:64, 30:60, :] = (150, 80, 70)
    jpegs = [io.BytesIO() for _ in range(n * views)]
    for jpeg, image in zip(jpegs, images.reshape(-1, side, side, 3), strict=True):
        imsave(jpeg, image, format="jpeg")
    growing = np.linspace(0.5, 5, n)[:, None, None]
    truth_px = STICK + rng.normal(0, 2, (n, views, joints, 2))
    predicted_px = truth_px + rng.normal(0, 1, (rows, *truth_px.shape)) * growing[:, None]
    predicted_px[:, -1, 0] = np.nan
    stick_mm = np.stack([10 * (STICK[:, 0] - 50), 20 * (90 - STICK[:, 1]), np.zeros(joints)], axis=1)
    predicted_mm = stick_mm + 10 * growing * rng.normal(0, 1, (rows, n, joints, 3))
    predicted_mm[:, -1, 0] = np.nan
    corners = np.array([[0, 0, 0], [500, 300, 1000], [-500, 300, 1000], [-500, -300, 1000], [500, -300, 1000]])
    frusta_mm = np.array([[3000 * v - 4500, 1500, -4000] for v in range(views)])[:, None] + corners
    arrays: dict[str, Any] = {
        "rows": np.array(list(levels)),
        "joints": np.array([f"right_{k}" if k % 2 else f"left_{k}" for k in range(joints)]),
        "edges": EDGES,
        "views": np.array(CAMERAS),
        "keys": np.array([f"S9/{ACTIONS[k // 3]}-1/{k * 64:06d}" for k in range(n)]),
        "actions": np.array([ACTIONS[k // 3] for k in range(n)]),
        "sequences": np.array([f"S9/{ACTIONS[k // 3]}-1" for k in range(n)]),
        "error_mm": np.linspace(0.4, 2.4, n) * np.array(list(levels.values()))[:, None],
        "picks": np.array([[0, (n - 1) // 2, n - 1]] * rows),
        "n_frames": np.array([n]),
        "hardware": np.array([provenance("").hardware]),
        "anchor_mm": np.zeros((n, 3)),
        "truth_mm": np.broadcast_to(stick_mm, (n, joints, 3)),
        "predicted_mm": predicted_mm - stick_mm,
        "frusta_mm": np.broadcast_to(frusta_mm, (n, views, 5, 3)).astype(float),
        "pictured": np.arange(n),
        "picture_views": np.arange(views),
        "truth_px": truth_px,
        "predicted_px": predicted_px - truth_px,
        "jpegs": np.frombuffer(b"".join(jpeg.getvalue() for jpeg in jpegs), dtype=np.uint8),
        "jpeg_ends": np.cumsum([len(jpeg.getvalue()) for jpeg in jpegs]).reshape(n, views),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **(arrays | changes))


def write_pictures(folder: Path, name: str = "0.png") -> None:
    """Two pictures that a method drew of its own answers; only the first is there."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    imsave(folder / "0.png", rng.integers(60, 200, (60, 140, 3), dtype=np.uint8))
    caption = "Brighter is <b>surer</b>."
    PictureFile(
        pictures=[
            DrawnPicture(file=name, key="S9/Posing-1/000000", title="Right wrist", caption=caption),
            DrawnPicture(file="1.png", key="S9/Eating-1/000064", title="Right wrist", caption=caption),
        ]
    ).write(folder / "pictures.json")


def write_published(root: Path) -> None:
    """T1 … T10 in the shape of the real files, a few rows each."""
    for k in range(1, 11):
        rows = [PublishedRow(name="RANSAC", method="ransac", values={"README": 27.4, "page": 27.4}),
                PublishedRow(name="Tome et al.", values={"README": 52.8, "page": None}, note="as cited")]  # fmt: skip
        table = PublishedTable(
            id=f"T{k}",
            title=f"Title of table {k}",
            paper="Learnable Triangulation of Human Pose (ICCV 2019)",
            dataset="human36m" if k < 4 else "panoptic" if k < 8 else "mupots",
            unit="mm",
            sources={"README": "README of the code release, https://example.org/readme", "page": "project page"},
            signature={"metric": "MPJPE", "root": "pelvis"},
            rows=rows,
            notes=["The two sources disagree; both are kept."] if k == 4 else [],
        )
        path = root / "published" / f"T{k}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(table.model_dump(mode="json"), allow_unicode=True), encoding="utf-8")


def write_everything(root: Path) -> None:
    """A whole results/ folder for the profile "default"."""
    dataset = "human36m"
    for method, level in LEVELS.items():
        write_method(root, dataset, method, level)
    write_examples(root / "default" / "comparisons" / f"{dataset}.npz", LEVELS)
    write_pictures(root / "default" / "predictions" / "algebraic" / dataset / "pictures")
    for method, after in AFTER.items():
        write_training(root, dataset, method, after, learns=not method.startswith("dlt"))
    write_seeds(root, dataset)
    names = list(LEVELS)
    ComparisonFile(
        dataset=dataset, synthetic=True, profile="default",
        tables=[
            TableComparison(
                table=table, signature=signature(table == "T2"), unit="mm",
                pairs=[
                    PairedDifference(a=a, b=b, difference=round(LEVELS[a] - LEVELS[b], 3),
                                     ci95=(LEVELS[a] - LEVELS[b] - 2.1,
                                           LEVELS[a] - LEVELS[b] + (3.2 if b == "dlt" else 2.2)),
                                     n_samples=897, n_groups=60)
                    for i, a in enumerate(names) for b in names[i + 1 :]
                ],
                ranks=[
                    Rank(method=m, rank=k, ci95=((k, k) if k < 3 else (3, 4)))
                    for k, m in enumerate([m for m in names if m != INCOMPLETE], 1)
                ],
                unranked=[INCOMPLETE],
            )
            for table in ("T1", "T2")
        ],
    ).write(root / "default" / "comparisons" / f"{dataset}.json")  # fmt: skip
    data = root / "default" / "data"
    DataFile(
        dataset=dataset, synthetic=True, state="ready", detail="Synthetic world in the layout of Human3.6M.", obtain="",
        manifest="9c0a" * 16, counts={"train": 2400, "test": 900, "images": 13200, "cameras": 4, "subjects": 7},
        pictures=["sheet.png"],
    ).write(data / f"{dataset}.json")  # fmt: skip
    rng = np.random.default_rng(0)
    imsave(data / "sheet.png", rng.integers(60, 200, (120, 480, 3), dtype=np.uint8))
    DataFile(
        dataset="panoptic", synthetic=False, state="missing", detail="data/panoptic does not exist.",
        obtain="Get it from its authors’ page (research licence) and name its folder in params.yaml.", manifest=None,
    ).write(data / "panoptic.json")  # fmt: skip
    DataFile(
        dataset="mupots", synthetic=False, state="missing", detail="MuPoTS-3D (non-commercial research): no adapter",
        obtain="SingleShotMultiPerson page", manifest=None,
    ).write(root / "default" / "catalog" / "mupots.json")  # fmt: skip
    write_published(root)
    write_judged(root)


def judged(found: Results) -> Results:
    """The results with comparisons as the compare stage decides them."""

    def scores_of(table: TableComparison, results: Results | None) -> dict[str, Score]:
        return {
            entry.scores.method: with_training(score)
            for entry in (results.entries if results else ())
            for score in entry.scores.scores
            if score.table == table.table and score.signature == table.signature
        }

    files = []
    for file in found.comparisons:
        tables = []
        for table in file.tables:
            scores = scores_of(table, found)
            bounds = {entry.scores.method for entry in found.entries if entry.scores.bound}
            ranked = {name: score for name, score in scores.items() if score.complete and name not in bounds}
            rows = {"ranks": places(ranked), "unranked": [name for name in scores if name not in ranked]}
            learned = {entry.scores.method for entry in found.entries if trained(entry.scores)}
            tables.append(judge(table.model_copy(update=rows), scores, scores_of(table, found.reference), learned))
        files.append(file.model_copy(update={"tables": tables}))
    return replace(found, comparisons=tuple(files))


def write_judged(root: Path) -> None:
    """Decide the written comparisons again, after a change of scores."""
    for file in judged(read_results(root, "default")).comparisons:
        file.write(root / "default" / "comparisons" / f"{file.dataset}.json")


def edit_scores(root: Path, method: str, dataset: str = "human36m", **changes: object) -> None:
    """Change fields of a score file."""
    path = root / "default" / "scores" / method / f"{dataset}.json"
    file = ScoreFile.read(path)
    path.unlink()  # a file that differs only by its commit and date is not rewritten
    file.model_copy(update=changes).write(path)


def write_data(root: Path, dataset: str, pictures: Sequence[str], synthetic: bool = True) -> Path:
    """Write the record of a data set; returns its path, beside which the pictures lie."""
    path = root / "default" / "data" / f"{dataset}.json"
    record = {"dataset": dataset, "synthetic": synthetic, "state": "ready", "detail": "", "obtain": ""}
    DataFile.model_validate({**record, "manifest": None, "pictures": [*pictures]}).write(path)
    return path
