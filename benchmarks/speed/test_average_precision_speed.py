"""Speed of average precision on 10^5 images with five people each, compared with one image at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from poseboard.datasets.camera import Camera
from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.protocols.ap_root import ApRoot
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo
from poseboard.protocols.views import SeenBy

if TYPE_CHECKING:
    from poseboard.benchmarks.speed.conftest import RecordSpeed

IMAGES, FEW_IMAGES, LOOP_IMAGES, PEOPLE, SCENES = 100_000, 25_000, 2_000, 5, 20
LONGEST_S, STEEPEST = 5.0, 2.0
"""Four times as many images may take twice as long per image, for sorting and caches; quadratic time takes four."""
BODY = Skeleton("body", ("pelvis",), (), "pelvis", ())
CAMERA = Camera(np.array([[1500.0, 0, 960], [0, 1500, 540], [0, 0, 1]]), np.eye(3), np.zeros(3), size=(1920, 1080))


def made_up(images: int) -> tuple[PoseTable, TruthTable]:
    """Ground truth of people a few metres apart, and predictions with 150 mm noise in another order."""
    rng = np.random.default_rng(0)
    keys = np.array([f"TS{i * SCENES // images}/{i:06d}" for i in range(images)], dtype=object)
    scene = pd.Categorical.from_codes(np.arange(images) * SCENES // images, pd.Index([f"TS{i}" for i in range(SCENES)]))
    groups = {"subject": scene, "action": scene, "sequence": scene}
    of_row = np.repeat(np.arange(images), PEOPLE)
    person = np.tile(np.arange(PEOPLE, dtype=np.int32), images)
    roots = rng.uniform((-3000, -500, 2000), (3000, 500, 8000), (len(of_row), 3))[:, None]
    truth = TruthTable(
        keys=keys[of_row], person=person, joints_mm=roots,
        subject=scene.take(of_row), action=scene.take(of_row), sequence=scene.take(of_row),
        split_keys=keys, skeleton=BODY, dataset="crowd", split="test", views=("camera",), manifest="m",
        seen_by=SeenBy((CAMERA,), np.zeros((images, 1), dtype=np.int32)), groups=groups,
    )  # fmt: skip
    order = rng.permutation(len(of_row))
    info = PredictionInfo(
        skeleton=ROOT.name, joints=ROOT.joints, dataset="crowd", condition=Condition(cameras=("camera",)),
        manifest="m", method="noise",
    )  # fmt: skip
    guesses = (roots[order] + rng.normal(0, 150, roots.shape)).astype(np.float32)
    score = rng.uniform(size=len(order)).astype(np.float32)
    frame = np.full(len(order), "camera", dtype=object)
    return PoseTable(truth.keys[order], person[order], score, frame, guesses, info), truth


def evaluated(protocol: ApRoot, images: int) -> tuple[float, float]:
    """Processor seconds of computing the records and the score, and the score."""
    pred, truth = made_up(images)
    start = time.process_time()
    number = protocol.summarise(protocol.errors(pred, truth))
    assert number is not None
    return time.process_time() - start, number


def one_image_at_a_time(images: int) -> tuple[float, float]:
    """Reference by the published rule: match predictions in order of score to the people in their image."""
    pred, truth = made_up(images)
    start = time.process_time()
    people: dict[str, list[NDArray[np.float64]]] = {}
    for key, joints in zip(truth.keys, truth.joints_mm, strict=True):
        people.setdefault(key, []).append(joints[0])
    taken = {key: [False] * len(of_image) for key, of_image in people.items()}
    right, precision, recall = 0, [], []
    for count, row in enumerate(np.argsort(-pred.score, kind="stable"), start=1):
        key = pred.keys[row]
        distances = [float(np.linalg.norm(pred.joints_mm[row, 0] - other)) for other in people[key]]
        nearest = int(np.argmin(distances))
        if distances[nearest] < 250 and not taken[key][nearest]:
            taken[key][nearest] = True
            right += 1
        precision.append(right / count)
        recall.append(right / len(truth))
    area = sum(p * (b - a) for p, a, b in zip(precision[1:], recall, recall[1:], strict=False))
    return time.process_time() - start, 100 * area


@pytest.mark.full_size
def test_a_hundred_thousand_images(record_speed: RecordSpeed) -> None:
    published, sound = ApRoot(rule="published"), ApRoot()
    peer_s, expected = one_image_at_a_time(LOOP_IMAGES)
    assert abs(evaluated(published, LOOP_IMAGES)[1] - expected) < 1e-6
    ours = {protocol.rule: evaluated(protocol, IMAGES)[0] for protocol in (sound, published)}
    few = {protocol.rule: evaluated(protocol, FEW_IMAGES)[0] for protocol in (sound, published)}
    steepness = {rule: ours[rule] / few[rule] * FEW_IMAGES / IMAGES for rule in ours}
    record_speed(
        name="average-precision",
        title=f"AP of {IMAGES} images with {PEOPLE} people each, by the published rule",
        peer=f"one prediction at a time, {LOOP_IMAGES} images scaled to {IMAGES}",
        aim=1.0,
        ours=ours["published"],
        theirs=peer_s * IMAGES / LOOP_IMAGES,
        details={
            "images": IMAGES,
            "sound_rule_s": ours["sound"],
            **{f"time_per_image_against_{FEW_IMAGES}_{rule}": ratio for rule, ratio in steepness.items()},
        },
        kept=max(ours.values()) <= LONGEST_S and max(steepness.values()) <= STEEPEST,
    )
