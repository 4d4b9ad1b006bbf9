"""The protocols against the reference's evaluation of fabricated Human3.6M labels (h36m_eval.npz)."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from predicted import answered

from poseboard.datasets.human36m import DAMAGED, LABELS, Human36M
from poseboard.datasets.skeleton import COCO, HUMAN36M, Skeleton
from poseboard.protocols import metrics
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.mpjpe_clipped import MpjpeClipped
from poseboard.protocols.mpjpe_true_size import MpjpeTrueSize
from poseboard.protocols.predictions import PoseTable, PredictionInfo, read, write
from poseboard.protocols.scoring import score
from poseboard.protocols.table import Table

Golden = Callable[[str], Mapping[str, NDArray]]
TOLERANCE_MM = 1e-3
METRICS = {"per_pose_error": "mpjpe_absolute", "per_pose_error_relative": "mpjpe_relative"}
MPII = Skeleton("mpii-16", HUMAN36M.joints[:16], (), "pelvis", ())
# learnable triangulation, transfer from CMU Panoptic: six joints by their places in either set, the first is the root
TRANSFER_HUMAN36M, TRANSFER_COCO = [10, 11, 15, 14, 1, 4], [10, 8, 9, 7, 14, 13]
SIX = tuple(HUMAN36M.joints[i] for i in TRANSFER_HUMAN36M)
TAGS = {
    "val_all": ("test", {}),
    "val_clean": ("test", {"exclude": DAMAGED}),
    "val_clean_every3": ("test", {"exclude": DAMAGED, "every": 3}),
    "train": ("train", {}),
    "val_mpii16": ("test", {}),
}


@pytest.fixture(scope="module")
def human36m(golden: Golden, golden_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Human36M:
    """The fabricated labels in the published layout, every image a black one."""
    labels = golden_folder / "h36m_labels_fabricated.npy"
    if not labels.exists():
        pytest.skip(f"{labels} is not in this set of vectors")
    root = tmp_path_factory.mktemp("human36m")
    (root / LABELS).parent.mkdir(parents=True)
    shutil.copy(labels, root / LABELS)
    picture = root / "picture.jpg"
    assert cv2.imwrite(str(picture), np.zeros((8, 8, 3), dtype=np.uint8))
    data = golden("h36m_eval")
    rows = zip(data["table_subject_idx"], data["table_action_idx"], data["table_frame_idx"], strict=True)
    for subject, action, frame in rows:
        sequence = root / "processed" / data["subject_names"][subject] / data["action_names"][action]
        for camera in data["camera_names"]:
            path = sequence / "imageSequence-undistorted" / camera / f"img_{frame + 1:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.hardlink_to(picture)
    dataset = Human36M(root)
    assert dataset.status().state == "ready", dataset.status()
    return dataset


def table_of(dataset: Human36M, keys: list[str], joints_mm: NDArray, skeleton: Skeleton, split: str) -> PoseTable:
    info = PredictionInfo(
        skeleton=skeleton.name,
        joints=skeleton.joints,
        dataset=dataset.name,
        condition=Condition(split=split, cameras=dataset.views),
        manifest=dataset.manifest(),
        method="recorded",
    )
    n = len(keys)
    return PoseTable(
        np.array(keys, dtype=object),
        np.zeros(n, dtype=np.int32),
        np.ones(n, dtype=np.float32),
        np.array(["world"] * n, dtype=object),
        joints_mm.astype(np.float32),
        info,
    )


def recorded_keys(data: Mapping[str, NDArray], tag: str) -> list[str]:
    subjects, actions = data["subject_names"], data["action_names"]
    rows = zip(data[f"{tag}_subject_idx"], data[f"{tag}_action_idx"], data[f"{tag}_frame_idx"], strict=True)
    return [f"{subjects[s]}/{actions[a]}/{f:06d}" for s, a, f in rows]


def means_by_name(errors: pd.DataFrame, names: list[str]) -> NDArray[np.float64]:
    """Frame means of "<subject or Average>/<action or Average>"."""
    means = []
    for name in names:
        subject, action = name.split("/")
        rows = errors
        if subject != "Average":
            rows = rows[rows["subject"] == subject]
        if action != "Average":
            rows = rows[rows["action"] == action]
        means.append(rows["error"].mean() if len(rows) else np.nan)
    return np.array(means)


def check_all_metrics(data: Mapping[str, NDArray], tag: str, errors: Mapping[str, pd.DataFrame]) -> None:
    names = [str(name).split("/", 1) for name in data[f"{tag}_metric_names"]]
    for metric, protocol in METRICS.items():
        chosen = [i for i, (kind, _) in enumerate(names) if kind == metric]
        assert chosen
        found = means_by_name(errors[protocol], [names[i][1] for i in chosen])
        np.testing.assert_allclose(found, data[f"{tag}_metric_values"][chosen], rtol=0, atol=TOLERANCE_MM)


@pytest.mark.parametrize("tag", TAGS)
def test_metrics_of_recorded_predictions(golden: Golden, human36m: Human36M, tmp_path: Path, tag: str) -> None:
    """From the labels file through the adapter and a predictions file to every number of the reference's evaluation."""
    data = golden("h36m_eval")
    split, rows = TAGS[tag]
    keys, pred = recorded_keys(data, tag), data[f"{tag}_pred"]
    skeleton = MPII if pred.shape[1] == len(MPII) else HUMAN36M
    write(tmp_path / "pred.parquet", table_of(human36m, keys, pred, skeleton, split))
    recorded = read(tmp_path / "pred.parquet")
    truth = TruthTable.collect(human36m, split)
    joints = {"joints": skeleton.joints} if skeleton is MPII else {}
    errors = {}
    for protocol in METRICS.values():
        board = Table(id="B", title="t", dataset="human36m", split=split, protocol=protocol, parameters=joints, **rows)
        assert list(board.select(truth).keys) == keys, "the reference selects other rows"
        scored = score(board, answered(recorded), truth)
        errors[protocol] = scored.errors
        assert scored.scores[0].n_samples == len(keys)
        assert scored.scores[0].n_missing == 0
        if protocol == "mpjpe_relative":
            assert scored.scores[0].value == pytest.approx(float(data[f"{tag}_scalar"]), abs=TOLERANCE_MM)
            by_action = [v for v in scored.scores[0].breakdown["action"].values() if v is not None]
            actions = score(
                board.model_copy(update={"parameters": {**joints, "average": "actions"}}),
                answered(recorded),
                truth,
            )
            assert actions.scores[0].value == pytest.approx(np.mean(by_action), abs=1e-9)
    check_all_metrics(data, tag, errors)


@pytest.mark.parametrize(("tag", "skeleton"), [("val_all_transfer_cmu", COCO), ("val_all_transfer_h36m", HUMAN36M)])
def test_transfer_metrics(golden: Golden, human36m: Human36M, tag: str, skeleton: Skeleton) -> None:
    """Six joints, mapped by name from the predictions' joint set; the right wrist is the root."""
    data = golden("h36m_eval")
    keys = recorded_keys(data, "val_all")
    assert tuple(COCO.joints[i] for i in TRANSFER_COCO) == SIX
    recorded = table_of(human36m, keys, data["val_all_pred"], skeleton, "test")
    truth = TruthTable.collect(human36m, "test")
    errors = {}
    for protocol in METRICS.values():
        parameters: dict[str, object] = {"joints": SIX}
        if protocol == "mpjpe_relative":
            parameters["root"] = SIX[0]
        board = Table(id="B", title="t", dataset="human36m", protocol=protocol, parameters=parameters)
        errors[protocol] = score(board, answered(recorded), truth).errors
    relative = errors["mpjpe_relative"]["error"].mean()
    assert relative == pytest.approx(float(data[f"{tag}_scalar"]), abs=TOLERANCE_MM)
    check_all_metrics(data, tag, errors)


@pytest.mark.parametrize("tag", TAGS)
def test_pure_metrics_of_recorded_predictions(golden: Golden, tag: str) -> None:
    """The metric functions on the plain arrays, without adapter, files and protocols."""
    data = golden("h36m_eval")
    rows = {
        key: i
        for i, key in enumerate(
            zip(*(data[f"table_{field}"].tolist() for field in ("subject_idx", "action_idx", "frame_idx")), strict=True)
        )
    }
    fields = (data[f"{tag}_{field}"].tolist() for field in ("subject_idx", "action_idx", "frame_idx"))
    chosen = [rows[key] for key in zip(*fields, strict=True)]
    pred = data[f"{tag}_pred"]
    truth = data["table_keypoints"][chosen][:, : pred.shape[1]]
    root = HUMAN36M.root_index
    relative = metrics.mpjpe(pred, truth, root=root).mean()
    assert relative == pytest.approx(float(data[f"{tag}_scalar"]), abs=TOLERANCE_MM)
    names = [str(name) for name in data[f"{tag}_metric_names"]]
    absolute = data[f"{tag}_metric_values"][names.index("per_pose_error/Average/Average")]
    assert metrics.mpjpe(pred, truth).mean() == pytest.approx(float(absolute), abs=TOLERANCE_MM)


def test_errors_at_the_true_size(golden_epipolar) -> None:
    """As lifting networks are measured: hidden joints are in the mean, and zero in the recorded errors of joints."""
    recorded = golden_epipolar("metrics")
    limit_mm = MpjpeTrueSize(size=("a", "b")).limit_mm
    errors = metrics.sized_joint_errors(
        recorded["scaled_pred"], recorded["scaled_gt"], recorded["scaled_scale"], limit_mm
    )
    assert metrics.pose_errors(errors).mean() == pytest.approx(float(recorded["scaled_mean"]), abs=1e-9)
    seen = recorded["scaled_vis"][0]
    np.testing.assert_allclose(errors[0, seen], recorded["scaled_perjoint0"][seen], rtol=0, atol=1e-9)
    assert not recorded["scaled_perjoint0"][~seen].any()


def test_errors_of_recorded_hands_at_the_true_size(golden_epipolar) -> None:
    recorded = golden_epipolar("lifting")
    size_mm = 1000 * recorded["epe_scale"][:, 0].astype(np.float64)
    pred, truth = (recorded[name].astype(np.float64) for name in ("img_rot_rhd_can", "loss_target"))
    errors = metrics.sized_joint_errors(pred, truth, size_mm, MpjpeTrueSize(size=("a", "b")).limit_mm)
    assert metrics.pose_errors(errors).mean() == pytest.approx(float(recorded["epe_mm_clipped"]), rel=1e-5)


def test_clipped_metric_of_epipolar_transformers(golden_epipolar) -> None:
    recorded = golden_epipolar("metrics")
    protocol = MpjpeClipped()
    pred, truth = recorded["pred3d"][None], recorded["gt3d"][None]
    distances = protocol.joint_errors(pred, truth, np.zeros(1, dtype=int), HUMAN36M.joints, HUMAN36M)
    assert protocol.pose_values(distances)[0] == pytest.approx(float(recorded["mpjpe_clipped150"]), abs=1e-9)
