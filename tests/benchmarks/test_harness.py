"""The harness hands a method what its Inputs declare and withholds the rest."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

from poseboard.benchmarks.handover import Handover
from poseboard.benchmarks.harness import LoadedRow, predict
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.sample import Group, Poses, Sample, Status, Truth, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.base import Inputs


class FourCameras:
    name, skeleton, synthetic = "four", HUMAN36M, True
    views = ("a", "b", "c", "d")

    splits = ("train", "test")

    def facts(self, split: str) -> Facts:
        return Facts(boxes="annotated", truth="synthetic")

    def status(self) -> Status:
        return Status("ready", "", "")

    def manifest(self) -> str:
        return "four"

    def keys(self, split: str) -> list[str]:
        return [f"{split}/{sequence}/{i}" for sequence in ("Walking-1", "Walking-2") for i in range(3)]

    def sample(self, key: str) -> Sample:
        split, sequence, number = key.split("/")
        camera = Camera(np.diag([500.0, 500.0, 1.0]), np.eye(3), np.array([0.0, 0.0, 4000.0]), size=(64, 64))
        image = np.full((64, 64, 3), int(number), dtype=np.uint8)
        box = np.array([[8.0, 8.0, 40.0, 40.0]])
        # The last frame of each sequence lacks its first view.
        names = self.views[1:] if number == "2" else self.views
        return Sample(key, tuple(View(name, camera, image, box) for name in names), Group(split, "Walking", sequence))

    def truth(self, key: str) -> Truth:
        return Truth(np.full((1, 17, 3), float(key[-1])))


def seen(tmp_path: Path, inputs: Inputs, key: str = "test/Walking-1/1", **given: object) -> Sample:
    (sample,) = Handover(FourCameras(), inputs, tmp_path, **given).samples(key)  # type: ignore[arg-type]
    return sample


def test_extrinsics_withheld(tmp_path: Path) -> None:
    sample = seen(tmp_path, Inputs(extrinsics=False))
    for number, view in enumerate(sample.views):
        assert view.name == f"view-{number}"
        assert view.camera.K.shape == (3, 3)
        for name in ("R", "t", "P", "centre_mm"):
            with pytest.raises(AttributeError, match="withheld"):
                getattr(view.camera, name)
        with pytest.raises(AttributeError, match="withheld"):
            view.camera.project(np.zeros(3))


def test_intrinsics_withheld(tmp_path: Path) -> None:
    camera = seen(tmp_path, Inputs(intrinsics=False)).views[0].camera
    with pytest.raises(AttributeError, match="K is withheld"):
        _ = camera.K


def test_everything_declared_is_there(tmp_path: Path) -> None:
    sample = seen(tmp_path, Inputs())
    assert [view.name for view in sample.views] == ["a", "b", "c", "d"]
    assert sample.views[0].camera.P.shape == (3, 4)
    assert sample.root_mm is None


def test_a_monocular_method_sees_one_view(tmp_path: Path) -> None:
    assert [view.name for view in seen(tmp_path, Inputs(views=(1, 1))).views] == ["a"]
    assert [view.name for view in seen(tmp_path, Inputs(views=(1, 1)), cameras=("c", "a")).views] == ["c"]


def test_views_are_chosen_in_order_and_an_absent_one_stays_absent(tmp_path: Path) -> None:
    given = Handover(FourCameras(), Inputs(), tmp_path, cameras=("c", "a"))
    assert [view.name for view in given.samples("test/Walking-1/0")[0].views] == ["c", "a"]
    assert [view.name for view in given.samples("test/Walking-1/2")[0].views] == ["c"]
    with pytest.raises(InputError, match="at least 3"):
        Handover(FourCameras(), Inputs(views=(3, 9)), tmp_path, cameras=("a", "b"))


def test_crops_move_the_camera_and_images_can_be_withheld(tmp_path: Path) -> None:
    view = seen(tmp_path, Inputs(crop_px=16)).views[0]
    assert view.pixels().shape == (16, 16, 3)
    np.testing.assert_allclose(view.camera.K[0, 0], 250)
    assert seen(tmp_path, Inputs(images=False)).views[0].image is None


def test_roots(tmp_path: Path) -> None:
    np.testing.assert_array_equal(seen(tmp_path, Inputs(root="truth")).root_mm, [[1.0, 1.0, 1.0]])
    with pytest.raises(InputError, match="predicted roots"):
        seen(tmp_path, Inputs(root="predicted"))
    predicted = {"test/Walking-1/1": np.array([[5.0, 6.0, 7.0]])}
    np.testing.assert_array_equal(seen(tmp_path, Inputs(root="predicted"), roots_mm=predicted).root_mm, [[5, 6, 7]])


class Forgetful:
    inputs = Inputs()

    def predict(self, samples: list[Sample]) -> list[Poses]:
        return [Poses(HUMAN36M, np.zeros((1, 17, 3)), np.ones(1))] * (len(samples) - 1)


def test_an_answer_short_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="returned 2 predictions for 3"):
        predict(Forgetful(), Handover(FourCameras(), Inputs(), tmp_path), FourCameras().keys("test")[:3])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answers", "named"),
    [(None, "returned NoneType"), (np.zeros((3, 17, 3)), "returned ndarray"), ([None] * 3, "NoneType for sample 0")],
)
def test_what_is_no_list_of_poses_is_an_error(tmp_path: Path, answers: object, named: str) -> None:
    class Wrong(Forgetful):
        def predict(self, samples: list[Sample]) -> list[Poses]:
            return answers  # type: ignore[return-value]  # the mistake

    with pytest.raises(InputError, match=rf"Wrong\.predict.*{named}"):
        predict(Wrong(), Handover(FourCameras(), Inputs(), tmp_path), FourCameras().keys("test")[:3])  # type: ignore[arg-type]


def arrays_in(value: object) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from arrays_in(part)
    elif is_dataclass(value):
        for entry in fields(value):
            yield from arrays_in(getattr(value, entry.name, None))


def test_truth_is_not_inside_a_sample(tmp_path: Path) -> None:
    sample = seen(tmp_path, Inputs(root="truth"))
    shapes = [array.shape for array in arrays_in(sample)]
    assert (1, 3) in shapes, "the root that was declared is found"
    assert not [shape for shape in shapes if shape[-2:] == (17, 3)]


class OneEye:
    """Answers zeros in the frame that it is told to name."""

    inputs = Inputs(views=(1, 1), extrinsics=False)

    def __init__(self, frame: str) -> None:
        self.frame = frame

    def predict(self, samples: list[Sample]) -> list[Poses]:
        return [Poses(HUMAN36M, np.zeros((1, 17, 3)), np.ones(1), self.frame) for _ in samples]


def test_the_frame_of_a_withheld_camera_gets_its_name_back(tmp_path: Path) -> None:
    keys = FourCameras().keys("test")[:3]
    one = Handover(FourCameras(), OneEye.inputs, tmp_path, cameras=("c",))
    answers = predict(OneEye("view-0"), one, keys)  # type: ignore[arg-type]
    assert [answer.frame for answer in answers] == ["c", "c", "c"]
    # The third sample lacks the first camera. Which of two is the first view is drawn for each sample.
    many = Handover(FourCameras(), Inputs(extrinsics=False), tmp_path, cameras=("a", "b"))
    answers = predict(OneEye("view-0"), many, keys)  # type: ignore[arg-type]
    assert {answers[0].frame, answers[1].frame} <= {"a", "b"}
    assert answers[2].frame == "b"


@pytest.mark.parametrize("frame", ["c", "view-1"])
def test_a_frame_that_the_method_does_not_see_is_refused(tmp_path: Path, frame: str) -> None:
    keys = FourCameras().keys("test")[:1]
    one = Handover(FourCameras(), OneEye.inputs, tmp_path, cameras=("c",))
    with pytest.raises(InputError, match=rf"test/Walking-1/0: frame: prediction is in frame '{frame}'.*: view-0"):
        predict(OneEye(frame), one, keys)  # type: ignore[arg-type]


def test_each_model_of_a_row_is_another_one() -> None:
    class Loaded(OneEye):
        def load(self, weights: Path | None, device: str) -> None: ...

    row = LoadedRow("one", lambda: Loaded("view-0"), None)  # type: ignore[arg-type]
    assert row.model() is not row.model()
