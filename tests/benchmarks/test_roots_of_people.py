"""From photographs of several people, with the boxes of a detector, to AP and MRPE: the whole way in small."""

import numpy as np
import pytest
import torch

from poseboard.benchmarks.handover import Handover
from poseboard.benchmarks.harness import predict
from poseboard.datasets.camera import Camera
from poseboard.datasets.sample import Group, Sample, Status, Truth, View
from poseboard.datasets.skeleton import HUMAN36M, ROOT
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.rootnet.method import Rootnet
from poseboard.methods.rootnet.model import JOINTS, RootArchitecture, RootNet
from poseboard.protocols.ap_root import ApRoot
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.mrpe import Mrpe
from poseboard.protocols.predictions import PoseTable, PredictionInfo

SIZE = (160, 120)
CAMERA = Camera(np.array([[150.0, 0, 80], [0, 150, 60], [0, 0, 1]]), np.eye(3), np.zeros(3), size=SIZE)
HALF = np.array([12.0, 32.0])
PEOPLE = {"TS1/0": 2, "TS1/1": 0, "TS2/2": 1}


class Street:
    """Photographs with none to two people, whose boxes have scores unless they are annotated."""

    name, skeleton, synthetic, views, splits = "street", HUMAN36M, True, ("camera",), ("test",)

    def __init__(self, scored: bool) -> None:
        self.scored = scored

    def status(self) -> Status:
        return Status("ready", "", "")

    def facts(self, split):
        return None

    def manifest(self) -> str:
        return "m"

    def keys(self, split: str) -> list[str]:
        return list(PEOPLE)

    def truth(self, key: str) -> Truth:
        roots = np.array([[-600.0 + 1200 * p, 0, 4000] for p in range(PEOPLE[key])]).reshape(-1, 1, 3)
        return Truth(roots + np.zeros((len(roots), len(HUMAN36M), 3)))

    def sample(self, key: str) -> Sample:
        middle = CAMERA.project(self.truth(key).joints_mm[:, 0])
        boxes = np.concatenate([middle - HALF, middle + HALF], axis=1)
        image = np.random.default_rng(int(key[-1])).integers(0, 256, size=(SIZE[1], SIZE[0], 3), dtype=np.uint8)
        scores = np.linspace(0.9, 0.5, len(boxes)) if self.scored else None
        return Sample(key, (View("camera", CAMERA, image, boxes, box_scores=scores),), Group(key[:3], key[:3], key[:3]))


@pytest.mark.parametrize("whole_frames", [True, False])
@pytest.mark.parametrize("scored", [True, False])
def test_people_are_found_with_the_scores_of_their_boxes(tmp_path, whole_frames, scored):
    street = Street(scored)
    backbone = Architecture(network="small", joints=JOINTS, crop_px=32)
    architecture = RootArchitecture(backbone=backbone, whole_frames=whole_frames)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = RootNet(architecture, backbone.build(seed=0), gamma=1.0)
    Checkpoint("rootnet", architecture.plain(), net.state_dict()).save(tmp_path / "net.pt")
    method = Rootnet({}, HUMAN36M)
    method.load(tmp_path / "net.pt", "cpu")
    keys = street.keys("test")
    answers = predict(method, Handover(street, method.inputs, tmp_path), keys)
    assert [len(answer.score) for answer in answers] == [2, 0, 1]
    assert all(answer.skeleton.joints == ROOT.joints for answer in answers)
    np.testing.assert_allclose(answers[0].score, [0.9, 0.5] if scored else [1, 1])
    assert answers[0].frame == "camera"
    # k of these boxes is 150 · 2000 / 80 px
    np.testing.assert_allclose(answers[0].joints_mm[:, 0, 2], 3750, rtol=0.1)
    info = PredictionInfo(skeleton=ROOT.name, joints=ROOT.joints, dataset="street", manifest="m", method="rootnet",
                          condition=Condition(cameras=("camera",)))  # fmt: skip
    pred, truth = PoseTable.collect(keys, answers, info), TruthTable.collect(street, "test")
    mrpe = Mrpe().summarise(Mrpe().errors(pred, truth))
    assert mrpe is not None
    assert 0 < mrpe < 700
    assert ApRoot(within_mm=700).summarise(ApRoot(within_mm=700).errors(pred, truth)) == pytest.approx(100)
