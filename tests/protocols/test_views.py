"""Cameras and 2D points of a split, as the truth table keeps them."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from poseboard.datasets.camera import Camera
from poseboard.datasets.sample import Group, Sample, Truth, View
from poseboard.datasets.skeleton import Skeleton
from poseboard.protocols.base import TruthTable
from poseboard.protocols.views import SeenBy

ANSWERS = Skeleton("three", ("a", "b", "c"), (), None, ())
TRUTH = Skeleton("two", ("a", "d"), (), None, ())
K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
LENS = (0.1, 0.01, 0.001, 0.002, 0.0)
CAMERAS = {name: Camera(K, np.eye(3), (dx, 0, 0), LENS, (640, 480)) for name, dx in (("left", 0), ("right", 300))}


class Hall:
    """People in 2D alone in the first sample, one in 3D in the second, nobody annotated in the third; other joints."""

    name, skeleton, truth_skeleton, synthetic, views = "hall", ANSWERS, TRUTH, True, ("left", "right")

    def facts(self, split):
        return None

    def manifest(self) -> str:
        return "m"

    def keys(self, split: str) -> list[str]:
        return {"middle": ["h/0", "h/1", "h/2"]}[split]

    def truth(self, key: str) -> Truth:
        flat = np.array([[[0.1, 0.2], [0.0, 0.0]], [[np.nan, np.nan], [np.nan, np.nan]]])
        return {
            "h/0": Truth.in_views({"left": flat, "right": flat[::-1]}),
            "h/1": Truth(np.full((1, 2, 3), 2000.0)),
            "h/2": Truth(np.empty((0, 2, 3))),
        }[key]

    def sample(self, key: str) -> Sample:
        detected = np.arange(12.0).reshape(2, 3, 2)
        sure = np.array([[1, 0, 0.5], [0, 0, 0]])
        views = [
            View("left", CAMERAS["left"], None, np.zeros((2, 4)), detected, sure),
            View("right", CAMERAS["right"], None, np.zeros((1, 4)), detected[:1]),
        ]
        return Sample(key, tuple(views[: 1 if key == "h/2" else 2]), Group("S", key, "q"))


@pytest.fixture(scope="module")
def truth() -> TruthTable:
    return TruthTable.collect(Hall(), "middle", ["detected", "annotated"])


def test_a_split_of_any_name_with_joints_of_its_own(truth: TruthTable) -> None:
    assert (truth.split, truth.skeleton) == ("middle", TRUTH)
    assert truth.keys.tolist() == ["h/0", "h/0", "h/1"]
    assert truth.person.tolist() == [0, 1, 0]
    assert truth.split_keys.tolist() == ["h/0", "h/1", "h/2"]
    assert truth.place.tolist() == [0, 0, 1]
    assert np.isnan(truth.joints_mm[:2]).all()
    assert (truth.joints_mm[2] == 2000).all()
    assert truth.mapped(["d"]).shape == (3, 1, 3)
    assert truth.take(np.array([2])).split_keys.tolist() == ["h/0", "h/1", "h/2"]
    np.testing.assert_array_equal(truth.rotations("right", np.arange(3)), [np.eye(3)] * 3)
    assert truth.rotations("middle", np.arange(3)) is None
    assert truth.groups is not None
    assert list(truth.groups["action"]) == ["h/0", "h/1", "h/2"]
    assert list(truth.action) == ["h/0", "h/0", "h/1"]


def test_detected_points_are_those_that_the_samples_give(truth: TruthTable) -> None:
    points = truth.points["detected"]
    assert points.skeleton is ANSWERS
    where = list(zip(points.sample.tolist(), points.view.tolist(), points.person.tolist(), strict=True))
    assert where == [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (2, 0, 0)], "a person without any joint is none"
    np.testing.assert_array_equal(points.points_px[0], [[0, 1], [np.nan, np.nan], [4, 5]])
    np.testing.assert_array_equal(points.points_px[1], [[0, 1], [2, 3], [4, 5]])


def test_annotated_points_are_pixels_of_the_image_with_its_lens(truth: TruthTable) -> None:
    points = truth.points["annotated"]
    assert points.skeleton is TRUTH
    assert list(zip(points.view.tolist(), points.person.tolist(), strict=True)) == [(0, 0), (1, 1)]
    expected = CAMERAS["left"].project([[200.0, 400.0, 2000.0], [0, 0, 1.0]])
    np.testing.assert_allclose(points.points_px[0], expected, atol=1e-9)


def test_people_in_2d_alone_need_views_that_agree() -> None:
    with pytest.raises(ValueError, match="not with the same"):
        Truth.in_views({"a": np.zeros((1, 2, 2)), "b": np.zeros((2, 2, 2))})
    with pytest.raises(ValueError, match="not with the same"):
        Truth.in_views({})


def test_a_camera_is_kept_once_and_projects_what_its_view_sees() -> None:
    rng = np.random.default_rng(0)
    near, far = (
        Camera(K, Rotation.random(random_state=rng).as_matrix(), (0, 0, z), LENS, size)
        for z, size in ((5e3, (640, 480)), (9e3, (0, 0)))
    )
    again = Camera(near.K, near.R, near.t, near.dist, near.size)
    seen_by = SeenBy.collect([[near, far], [again, None], [far, near]], 2)
    assert len(seen_by.cameras) == 2
    points_mm = rng.uniform(-500, 500, (4, 3, 3))
    samples = np.array([2, 0, 1, 0])
    for view, cameras in enumerate(([far, near, near, near], [near, far, None, far])):
        pixels = seen_by.project(points_mm, view, samples)
        rotations = seen_by.rotations(view, samples)
        sizes = seen_by.sizes_px(view, samples)
        for i, camera in enumerate(cameras):
            if camera is None:
                assert np.isnan(pixels[i]).all()
                assert np.isnan(rotations[i]).all()
                continue
            np.testing.assert_array_equal(pixels[i], camera.project(points_mm[i]))
            np.testing.assert_array_equal(rotations[i], camera.R)
            assert sizes[i].tolist() == ([np.inf] * 2 if camera is far else [640, 480])
