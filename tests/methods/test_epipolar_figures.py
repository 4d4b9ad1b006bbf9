"""The picture of what the epipolar transformer attends to: what it shows, read back from the axes."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection

from poseboard.methods.drawing.style import pixels
from poseboard.methods.epipolar.figures import STYLE, Match, draw_matches

NAMES = ["54138969", "55011271", "58860488", "60457274"]
SIDE, PLACES = 48, 12


def matches(straight=True):
    """Of three views; the line misses the last one."""
    rng = np.random.default_rng(0)
    line = np.array([[4.0, 10.0], [44.0, 30.0]])
    places = line[0] + np.linspace(0, 1, PLACES)[:, None] * (line[1] - line[0])
    ends = line if straight else np.full_like(line, np.nan)
    return [
        Match(np.array([20.0, 24.0]), ends, places, rng.dirichlet(np.ones(PLACES)), hit) for hit in (True, True, False)
    ]


@pytest.fixture
def drawn():
    rng = np.random.default_rng(1)
    crops = [rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8) for _ in NAMES]
    predicted = rng.uniform(8, 40, (4, 2))
    return crops, predicted, draw_matches(NAMES, crops, SIDE, predicted, matches())


def stems(axes):
    """Place and height of every stem."""
    (found,) = [drawn for drawn in axes.collections if isinstance(drawn, LineCollection)]
    return np.array([[segment[0][0], segment[1][1]] for segment in found.get_segments()])


def marks(axes):
    return [tuple(float(v[0]) for v in line.get_data()) for line in axes.lines if len(line.get_xdata()) == 1]


def test_the_line_its_places_and_their_weights_are_drawn(drawn):
    crops, predicted, figure = drawn
    above, below = figure.axes[:4], figure.axes[5:]
    assert [axes.get_title(loc="left") for axes in above] == NAMES
    for axes, crop in zip(above, crops, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), crop)
    assert (20.0, 24.0) in marks(above[0])  # what was asked
    for v, (axes, match) in enumerate(zip(above[1:3], matches()[:2], strict=True), 1):
        (places,) = [shown for shown in axes.collections if isinstance(shown, PathCollection)]
        order = np.argsort(match.weights)
        np.testing.assert_allclose(places.get_offsets(), match.samples_px[order])  # the strongest on top
        assert (np.diff(places.get_sizes()) >= 0).all()
        assert {tuple(match.samples_px[match.weights.argmax()]), tuple(predicted[v])} <= set(marks(axes))
    for axes, match in zip(below, matches(), strict=True):
        at = np.linalg.norm(match.samples_px - match.line_px[0], axis=1)
        np.testing.assert_allclose(stems(axes), np.stack([at, match.weights], axis=-1))


def test_a_line_that_misses_is_not_drawn(drawn):
    above = drawn[2].axes[:4]
    assert not above[3].collections
    assert above[3].get_xlabel() == "the line misses this crop"
    assert above[2].collections


def test_images_that_may_not_be_shown_are_not_drawn(drawn):
    _, predicted, figure = drawn
    without = draw_matches(NAMES, None, SIDE, predicted, matches())
    assert not any(axes.images for axes in without.axes)
    shown, hidden = pixels(figure, STYLE), pixels(without, STYLE)
    assert shown.shape == hidden.shape
    assert shown.dtype == np.uint8
    assert not np.array_equal(shown, hidden)
    np.testing.assert_array_equal(hidden, pixels(draw_matches(NAMES, None, SIDE, predicted, matches()), STYLE))


def test_a_place_that_nothing_predicts_has_no_mark():
    predicted = np.full((4, 2), 12.0)
    predicted[2] = np.nan
    above = draw_matches(NAMES, None, SIDE, predicted, matches()).axes[:4]
    assert (12.0, 12.0) in marks(above[1])
    assert (12.0, 12.0) not in marks(above[2])
    assert not any(np.isnan(mark).any() for mark in marks(above[2]))
