"""From a published weights file to predictions on the command line, against the release's steps written out plainly.

The weights follow the rule of the vectors' README; the steps are those of learnable triangulation's release code, from
the image file on: BGR, black padding, area interpolation, ImageNet's constants, heat maps times 100, linear systems.
"""

import random
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from predicted import file_name
from torch import nn

from poseboard.benchmarks import cli, plan
from poseboard.datasets.human36m import LABELS
from poseboard.datasets.synthetic.layouts.human36m import WorldOptions, generate
from poseboard.methods.geometry.robust import ransac_published
from poseboard.methods.nets.pose_resnet import PoseResNet
from poseboard.protocols import predictions

pytestmark = pytest.mark.usefixtures("weights_are_given")

SIDE, WEIGHT_SEED = 384, 3
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
WORLD = WorldOptions(
    seed=5, side_px=96, train_subjects=("S1",), test_subjects=("S9",), train_frames=1, test_frames=1,
    actions=("Walking",),
)  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    generate(WORLD, folder / "world")
    rows = {
        "algebraic": {"code": "methods/algebraic"},
        "algebraic_no_conf": {"code": "methods/algebraic", "use_confidences": False},
        "ransac": {"code": "methods/ransac", "compat": True},
    }
    params = {
        "profile": "smoke",
        "datasets": {"human36m": {"root": "world"}},
        "methods": {name: {**row, "after": "scratch", "weights": f"{name}.pt"} for name, row in rows.items()},
        "profiles": {"smoke": {"seeds": [0], "processes": 1, "worlds": {"human36m": {}}}},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "tables").mkdir()
    shutil.copy(plan.TABLES / "T1.yaml", folder / "tables")
    return folder


@pytest.fixture(scope="module")
def seen():
    """What the release's networks make of the images."""
    return {}


def crops(root: Path, row, names, bgr=True):
    """(V, 3, S, S) float32 as the release's network sees them, and P (V, 3, 4) of the crops."""
    content = np.load(root / LABELS, allow_pickle=True).item()
    subject, action = names["subject_names"][row["subject_idx"]], names["action_names"][row["action_idx"]]
    folder = root / "processed" / subject / action / "imageSequence-undistorted"
    images, P = [], []
    for c, camera in enumerate(names["camera_names"]):
        top, left, bottom, right = map(int, row["bbox_by_camera_tlbr"][c])
        image = cv2.imread(str(folder / camera / f"img_{row['frame_idx'] + 1:06d}.jpg"))
        padded = cv2.copyMakeBorder(image, 500, 500, 500, 500, cv2.BORDER_CONSTANT)
        crop = padded[500 + top : 500 + bottom, 500 + left : 500 + right]
        crop = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        crop = crop if bgr else crop[..., ::-1]
        images.append(((crop / 255 - MEAN) / STD).transpose(2, 0, 1).astype(np.float32))
        of_camera = content["cameras"][row["subject_idx"], c]
        K = of_camera["K"].astype(np.float64)
        K[0, 2] -= left
        K[1, 2] -= top
        K[0] *= SIDE / (right - left)
        K[1] *= SIDE / (bottom - top)
        P.append(K @ np.hstack([of_camera["R"], of_camera["t"]]).astype(np.float64))
    return torch.from_numpy(np.stack(images)), np.stack(P)


def algebraic(out, P):
    """(J, 3) mm by the release's steps, the system solved in float64."""
    p = (100 * out.heatmaps.flatten(2)).softmax(-1).unflatten(2, out.heatmaps.shape[2:]).double()
    index = torch.arange(p.shape[-1], dtype=torch.float64)
    x, y = (4 * (p.sum(-2) @ index)).numpy(), (4 * (p.sum(-1) @ index)).numpy()
    c = np.ones_like(x) if out.alg_confidences is None else out.alg_confidences.double().numpy()
    w = c / c.sum(0) + 1e-5
    answers = []
    for j in range(x.shape[1]):
        rows = [
            w[v, j] * (value * P[v, 2] - P[v, r]) for v in range(len(P)) for r, value in enumerate((x[v, j], y[v, j]))
        ]
        solution = np.linalg.svd(np.stack(rows))[2][3]
        answers.append(solution[:3] / solution[3])
    return np.stack(answers)


def ransac(out, P, key):
    """(J, 3) mm from whole heat-map pixels."""
    best = out.heatmaps.flatten(2).argmax(-1).numpy()
    points = 4.0 * np.stack([best % (SIDE // 4), best // (SIDE // 4)], axis=-1)
    return ransac_published(P, points, random.Random(key)).points_mm


@pytest.mark.usefixtures("short_fits")
@pytest.mark.parametrize("method", ["algebraic", "algebraic_no_conf", "ransac"])
def test_published_weights_predict_as_the_release_does(workspace, seen, fill_by_rule, monkeypatch, capsys, method):
    net = PoseResNet(18, 17, alg_confidences=method == "algebraic").eval()
    whole = nn.ModuleDict({"backbone": net})
    fill_by_rule(whole, WEIGHT_SEED)
    torch.save({f"module.{key}": value for key, value in whole.state_dict().items()}, workspace / "weights.pth")
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(plan, "TABLES", workspace / "tables")  # one condition: all cameras
    for command in (
        f"weights import {method} weights.pth --out {method}.pt",
        f"train human36m {method}",
        f"predict human36m {method}",
    ):
        monkeypatch.setattr(sys, "argv", ["poseboard", *command.split()])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code, capsys.readouterr().err
    table = predictions.read(workspace / "results/smoke/predictions" / method / "human36m" / file_name())

    names = np.load(workspace / "world" / LABELS, allow_pickle=True).item()
    rows = [row for row in names["table"] if names["subject_names"][row["subject_idx"]] == "S9"]
    assert len(rows) == len(table) == 2

    def expected(row, key, bgr):
        images, P = crops(workspace / "world", row, names, bgr)
        asked = net.alg_confidences is not None, str(key), bgr
        if asked not in seen:  # two of the rows have the same network
            with torch.inference_mode():
                seen[asked] = net(images)
        return ransac(seen[asked], P, key) if method == "ransac" else algebraic(seen[asked], P)

    for row, key, answer in zip(rows, table.keys, table.joints_mm, strict=True):
        np.testing.assert_allclose(answer, expected(row, key, True), rtol=1e-3, atol=1.0)
    assert np.abs(expected(row, key, False) - answer).max() > 10
