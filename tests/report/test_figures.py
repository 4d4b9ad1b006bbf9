"""The figures that are drawn from arrays: what they show, read back from the axes."""

from pathlib import Path

import numpy as np
import pytest
from fabricated_results import write_matches
from matplotlib.collections import LineCollection, PathCollection

from poseboard.report import figures
from poseboard.report.results import Matches, read_matches


@pytest.fixture
def matches(tmp_path: Path) -> Matches:
    write_matches(tmp_path / "matches.npz")
    return read_matches(tmp_path / "matches.npz")


def stems(axes):
    """Place and height of every stem."""
    (found,) = [drawn for drawn in axes.collections if isinstance(drawn, LineCollection)]
    return np.array([[segment[0][0], segment[1][1]] for segment in found.get_segments()])


def test_the_line_its_places_and_their_weights_are_drawn(matches):
    figure = figures.epipolar_matches(matches, 0, synthetic=True)
    crops, below = figure.axes[:4], figure.axes[5:]
    assert [axes.get_title(loc="left") for axes in crops] == matches.views
    for axes, picture in zip(crops, matches.images[0], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), picture)
    for k, (crop, axes) in enumerate(zip(crops[1:], below, strict=True)):
        (places,) = [drawn for drawn in crop.collections if isinstance(drawn, PathCollection)]
        order = np.argsort(matches.weights[0, k])
        np.testing.assert_allclose(places.get_offsets(), matches.samples_px[0, k][order])  # the strongest on top
        assert (np.diff(places.get_sizes()) >= 0).all()
        at = np.linalg.norm(matches.samples_px[0, k] - matches.line_px[0, k, 0], axis=1)
        np.testing.assert_allclose(stems(axes), np.stack([at, matches.weights[0, k]], axis=-1))
        marked = [tuple(float(v[0]) for v in line.get_data()) for line in crop.lines if len(line.get_xdata()) == 1]
        assert tuple(matches.samples_px[0, k, matches.weights[0, k].argmax()]) in marked
        assert tuple(matches.truth_px[0, k + 1]) in marked
        assert tuple(matches.predicted_px[0, k + 1]) in marked


def test_a_line_that_misses_is_not_drawn(matches):
    figure = figures.epipolar_matches(matches, 1, synthetic=True)
    assert not figure.axes[3].collections
    assert figure.axes[3].get_xlabel() == "the line misses this crop"
    assert figure.axes[2].collections


def test_places_on_no_line_stand_at_their_distance_from_the_joint(tmp_path):
    write_matches(tmp_path / "matches.npz", straight=False)
    matches = read_matches(tmp_path / "matches.npz")
    axes = figures.epipolar_matches(matches, 0, synthetic=True).axes[5]
    away = np.linalg.norm(matches.samples_px[0, 0] - matches.truth_px[0, 1], axis=1)
    np.testing.assert_allclose(stems(axes)[:, 0], away)
    assert axes.get_xlabel() == "from the true joint, px"


def test_real_images_are_not_drawn_nor_called_synthetic(tmp_path):
    write_matches(tmp_path / "matches.npz", shown=False)
    figure = figures.epipolar_matches(read_matches(tmp_path / "matches.npz"), 0, synthetic=False)
    assert not any(axes.images for axes in figure.axes)
    assert "synthetic" not in figures.to_svg(figure, "x")


def test_no_two_of_twenty_methods_look_alike():
    looks = [figures.look(k) for k in range(20)]
    assert len({(look["color"], look["marker"]) for look in looks}) == 20
    assert len({(look["color"], str(look["linestyle"])) for look in looks}) == 20
