"""Made-up people before cameras, several in an image, and predictions of them."""

import numpy as np
import pandas as pd

from poseboard.datasets.camera import Camera
from poseboard.datasets.mupots import MUPOTS
from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.protocols.views import SeenBy

BODY = Skeleton("body", ("head", "pelvis", "foot"), (), "pelvis", ())
OFFSETS_MM = np.array([[0, -700.0, 0], [0, 0, 0], [0, 900, 0]])
"""Joints of `BODY` about the pelvis."""
STANDING_MM = np.array(
    [
        [0.0, -750, 0], [0, -500, 0],
        [-150, -500, 0], [-150, -200, 0], [-150, 100, 0], [150, -500, 0], [150, -200, 0], [150, 100, 0],
        [-100, 0, 0], [-100, 400, 0], [-100, 800, 0], [100, 0, 0], [100, 400, 0], [100, 800, 0],
        [0, 0, 0], [0, -250, 0], [0, -580, 0],
    ]
)  # fmt: skip
"""Joints of `MUPOTS` about the pelvis, y down: legs of 400 mm, arms of 300 mm."""
VIEW = "camera"
TURN = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
"""The camera of every second sample is not at the world's origin."""


def camera(sample):
    focal = 800.0 + 100 * (sample % 3)
    K = np.array([[focal, 0, 960], [0, focal, 540], [0, 0, 1]])
    R, t = (np.eye(3), np.zeros(3)) if sample % 2 else (TURN, np.array([100.0, 200, 300]))
    return Camera(K, R, t, size=(1920, 1080))


def crowd(people=(2, 3, 1, 0, 2), scenes=2, seed=0, unannotated=(), actions=None, skeleton=BODY):
    """Truth with so many people in each image, two metres apart or more; and their joints in the cameras' frames.

    ``unannotated``: rows of people who are there without joints. ``skeleton``: `BODY` or `MUPOTS`.
    """
    rng = np.random.default_rng(seed)
    keys = np.array([f"TS{i * scenes // len(people)}/{i:03d}" for i in range(len(people))], dtype=object)
    of_row = np.repeat(np.arange(len(people)), people)
    person = np.concatenate([np.arange(n) for n in (*people, 0)]).astype(np.int32)
    roots = np.stack(
        [2000.0 * person - 3000, rng.uniform(-500, 500, len(person)), rng.uniform(3000, 8000, len(person))], 1
    )
    joints = roots[:, None] + (STANDING_MM if skeleton == MUPOTS else OFFSETS_MM)
    cameras = [camera(i) for i in range(len(people))]
    world = np.array([(joints[i] - cameras[s].t) @ cameras[s].R for i, s in enumerate(of_row)]).reshape(joints.shape)
    world[list(unannotated)] = np.nan
    scene = [key.split("/")[0] for key in keys]
    groups = {
        "subject": pd.Categorical(["all"] * len(keys)),
        "action": pd.Categorical(scene if actions is None else [actions[i % len(actions)] for i in range(len(keys))]),
        "sequence": pd.Categorical(scene),
    }
    truth = TruthTable(
        keys=keys[of_row], person=person, joints_mm=world,
        **{name: column.take(of_row) for name, column in groups.items()},
        split_keys=keys, skeleton=skeleton, dataset="crowd", split="test", views=(VIEW,), manifest="m",
        seen_by=SeenBy.collect([[c] for c in cameras], 1), groups=groups,
    )  # fmt: skip
    return truth, joints


def told(truth, joints_mm, rows=None, score=None, frame=VIEW, roots_only=True, keys=None, seed=0):
    """Predictions of people (N, J, 3) in the camera's frame for rows of the truth, numbered anew within each key."""
    rows = np.arange(len(truth)) if rows is None else np.asarray(rows, dtype=np.int64)
    keys = truth.keys[rows] if keys is None else keys
    person = pd.Series(keys).groupby(pd.Series(keys), sort=False).cumcount().to_numpy(dtype=np.int32)
    joints = joints_mm[:, [truth.skeleton.root_index]] if roots_only else joints_mm
    skeleton = ROOT if roots_only else truth.skeleton
    info = PredictionInfo(
        skeleton=skeleton.name, joints=skeleton.joints, dataset="crowd", condition=Condition(cameras=(VIEW,)),
        manifest="m", method="m", seed=seed,
    )  # fmt: skip
    score = np.linspace(0.9, 0.1, len(keys)) if score is None else np.asarray(score)
    frames = np.full(len(keys), frame, dtype=object)
    return PoseTable(keys, person, score.astype(np.float32), frames, joints.astype(np.float32), info)


def value(protocol, pred, truth):
    """The number, with the check that neither predictions nor truth are changed."""
    before = [pred.joints_mm.copy(), pred.score.copy(), truth.joints_mm.copy()]
    table = protocol.errors(pred, truth)
    for now, then in zip((pred.joints_mm, pred.score, truth.joints_mm), before, strict=True):
        np.testing.assert_array_equal(now, then)
    number = protocol.summarise(table)
    assert protocol.summarise(protocol.errors(pred, truth)) == number
    return number
