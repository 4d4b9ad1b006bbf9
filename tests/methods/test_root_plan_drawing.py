"""The root plan: where people stand in it, the field of view, and what RootNet draws without the truth."""

import numpy as np

from poseboard.datasets.camera import Camera
from poseboard.datasets.sample import Group, Poses, Sample, View
from poseboard.datasets.skeleton import HUMAN36M, ROOT
from poseboard.methods.base import Drawing
from poseboard.methods.drawing.root_plan import Photograph, draw_plan
from poseboard.methods.rootnet.method import Rootnet

SIZE = (200, 100)
CAMERA = Camera(np.array([[100.0, 0, 100], [0, 100, 50], [0, 0, 1]]), np.eye(3), np.zeros(3), size=SIZE)
ROOTS = np.array([[500.0, 100.0, 4000.0], [-1000.0, 0.0, 6000.0], [np.nan] * 3])
BOXES = np.array([[100.0, 20, 120, 80], [75, 30, 90, 70], [0, 0, 10, 10]])


def dots(axes, place):
    """Positions of the scatter plot ``place`` of a panel."""
    return np.ma.filled(axes.collections[place].get_offsets(), np.nan)


def test_people_stand_in_metres_where_they_were_found():
    photograph, plan = draw_plan(Photograph(CAMERA, None, BOXES), ROOTS).axes
    np.testing.assert_allclose(dots(plan, 0)[:2], [[0.5, 4.0], [-1.0, 6.0]])
    np.testing.assert_allclose(dots(photograph, 0)[:2], [[112.5, 52.5], [100 - 100 / 6, 50]])
    assert [text.get_text() for text in plan.texts if not text.get_text().endswith("m")] == ["1", "2"]
    assert plan.get_aspect() == 1
    assert not len(photograph.images)


def test_true_roots_are_open_circles_beside_them():
    true = ROOTS[:2] + np.array([0, 0, 500.0])
    _, plan = draw_plan(Photograph(CAMERA, None, BOXES), ROOTS, true).axes
    halo, circles, found = (dots(plan, place) for place in range(3))
    np.testing.assert_allclose(circles, [[0.5, 4.5], [-1.0, 6.5]])
    np.testing.assert_allclose(halo, circles)
    np.testing.assert_allclose(found[:2], [[0.5, 4.0], [-1.0, 6.0]])
    assert not len(plan.collections[1].get_facecolors())
    assert "true" in plan.get_title("left")


def test_the_field_of_view_is_the_cameras():
    """100 px to either side at a focal length of 100 px: 45 degrees."""
    _, plan = draw_plan(Photograph(CAMERA, None, BOXES), ROOTS).axes
    left, right = (line.get_xydata()[1] for line in plan.lines[:2])
    np.testing.assert_allclose([left[0] / left[1], right[0] / right[1]], [-1, 1])
    reach = np.hypot(*left)
    assert reach >= np.hypot(1.0, 6.0)
    (x0, x1), (y0, y1) = plan.get_xlim(), plan.get_ylim()
    assert x0 < left[0] < right[0] < x1
    assert y0 < 0 < reach < y1


def test_nobody_and_behind_the_camera_are_no_errors():
    draw_plan(Photograph(CAMERA, None, np.empty((0, 4))), np.empty((0, 3)))
    photograph, _ = draw_plan(Photograph(CAMERA, None, BOXES[:1]), np.array([[0.0, 0, -2000]])).axes
    assert np.isnan(dots(photograph, 0)).all()


def rootnet_picture(images, camera=CAMERA):
    image = np.full((camera.size[1], camera.size[0], 3), (250, 10, 120), dtype=np.uint8)
    view = View("view-0", camera.withhold(intrinsics=False, extrinsics=True), image, BOXES[:2])
    answer = Poses(ROOT, ROOTS[:2, None], np.ones(2), "view-0")
    method = Rootnet({}, HUMAN36M)
    assert isinstance(method, Drawing)
    return method.figures(Sample("k", (view,), Group("", "", "")), answer, images=images)


def test_rootnet_draws_everyone_and_photographs_only_where_it_may():
    (shown,), (hidden,) = rootnet_picture(True), rootnet_picture(False)
    assert shown.title == "Root plan"
    assert shown.image.dtype == np.uint8
    assert shown.image.shape == hidden.image.shape
    of_photograph = [(picture.image == (250, 10, 120)).all(axis=2).sum() for picture in (shown, hidden)]
    assert of_photograph[0] > 10_000
    assert of_photograph[1] == 0


def test_rootnet_draws_no_plan_of_one_persons_crop():
    crop = Camera(CAMERA.K, CAMERA.R, CAMERA.t, size=(32, 32))
    assert rootnet_picture(True, crop) == []
