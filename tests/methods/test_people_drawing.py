"""The picture of several people: detections, projections and residuals, read back from the axes."""

from pathlib import Path

import numpy as np
import pytest

from poseboard.datasets.camera import Camera
from poseboard.datasets.sample import Group, Sample, View
from poseboard.datasets.shelf import Shelf
from poseboard.datasets.skeleton import Skeleton
from poseboard.methods.base import Drawing
from poseboard.methods.dlt.method import Dlt
from poseboard.methods.drawing.people import ViewOfPeople, draw_people
from poseboard.methods.drawing.style import pixels
from poseboard.methods.ransac.method import Ransac

SHELF = Path(__file__).parents[2] / "../shared/data/shelf"
THREE = Skeleton("three", ("a", "b", "c"), (("a", "b"), ("b", "c")), None, ())
K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]])
CAMERAS = [
    Camera(K, np.eye(3), (0, 0, 0), (0.1, 0, 0, 0, 0), (640, 480)),
    Camera(K, np.eye(3), (-800, 0, 0), size=(640, 480)),
    Camera(K, np.eye(3), (0, -600, 0), size=(640, 480)),
]
PEOPLE = np.array([[(x, y, 4000.0) for y in (-400, 0, 400)] for x in (900.0, -200.0)])
PEOPLE[1] += (0, 150, 0)


def sample(image: np.ndarray | None = None) -> Sample:
    """Both people as every view sees them, the second one missed by the last view, with a stranger there."""
    views = []
    for v, camera in enumerate(CAMERAS):
        points = camera.project(PEOPLE)
        if v == 2:
            points[1] = (5.0, 5.0)
        boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
        views.append(View(f"c{v}$", camera, image, boxes, points, np.ones((2, 3))))
    return Sample("hall/0", tuple(views), Group("S", "A", "q"))


def test_views_show_detections_and_projections_and_people_stand_in_space() -> None:
    seen = sample()
    views = [
        ViewOfPeople(view.name, view.camera.size, None, view.joints_px, view.camera.project(PEOPLE))
        for view in seen.views
    ]
    figure = draw_people(views, PEOPLE, THREE)
    *flat, space = figure.axes
    assert [axes.get_title(loc="left") for axes in flat] == ["c0$", "c1$", "c2$"]
    for axes, view in zip(flat, views, strict=True):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), view.detected_px.reshape(-1, 2))
        first = np.array(axes.lines[0].get_data()).T
        np.testing.assert_allclose(first, view.projected_px[0, :2])
        assert axes.get_ylim() == (480, 0)
        assert not axes.images
    # a person has one colour everywhere
    assert {axes.lines[0].get_color() for axes in figure.axes} == {space.lines[0].get_color()}
    assert flat[0].lines[0].get_color() != flat[0].lines[2].get_color()
    assert pixels(figure).dtype == np.uint8


@pytest.mark.parametrize("kind", [Dlt, Ransac])
@pytest.mark.parametrize("images", [True, False])
def test_methods_that_triangulate_draw_what_they_were_given(kind: type, images: bool, monkeypatch) -> None:
    method = kind({}, THREE)
    assert isinstance(method, Drawing)
    shown = sample(np.full((480, 640, 3), 9, dtype=np.uint8))
    (answer,) = method.predict([shown])
    assert len(answer.score) == 2
    drawn = []
    monkeypatch.setattr(
        "poseboard.methods.drawing.people.draw_people", lambda *views: drawn.append(views) or draw_people(*views)
    )
    (picture,) = method.figures(shown, answer, images=images)
    assert picture.image.shape[2] == 3
    ((views, joints_mm, skeleton),) = drawn
    assert [view.image is not None for view in views] == [images] * 3
    assert skeleton is THREE
    np.testing.assert_array_equal(joints_mm, answer.joints_mm)
    assert "the 2 people triangulated from 5 of 6 detections" in picture.caption
    assert "median residual 0.0 px" in views[0].title, "the lens does not count"


def test_nothing_is_drawn_where_no_detections_were_given() -> None:
    method = Dlt({}, THREE)
    shown = sample()
    (answer,) = method.predict([shown])
    bare = Sample("hall/0", tuple(View(v.name, v.camera, None, v.boxes_px) for v in shown.views), shown.group)
    assert method.figures(bare, answer, images=True) == []


@pytest.mark.skipif(not SHELF.exists(), reason="no sample of Shelf beside the repository")
def test_residuals_of_real_detections() -> None:
    """Three frames of Shelf: twelve people from 49 of 59 detections, as the pictures say."""
    shelf = Shelf(SHELF)
    method = Ransac({}, shelf.skeleton)
    samples = [shelf.sample(key) for key in shelf.keys("test")]
    answers = method.predict(samples)
    captions = [method.figures(s, a, images=False)[0].caption for s, a in zip(samples, answers, strict=True)]
    numbers = [[int(word) for word in caption.split() if word.isdigit()] for caption in captions]
    assert np.sum(numbers, axis=0).tolist() == [12, 49, 59]
    medians = [float(caption.split(": ")[-1].split()[0]) for caption in captions]
    assert max(medians) < 6
