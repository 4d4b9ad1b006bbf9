"""Examples of a row and what is drawn of them."""

from __future__ import annotations

import numpy as np

from poseboard.report.examples import limb_path, pick_examples


def test_examples_are_picked_by_error() -> None:
    assert pick_examples([3.0, 1.0, 2.0, np.nan]) == [("best", 1), ("median", 2), ("worst", 3)]
    assert pick_examples([1.0]) == [("best", 0)]
    assert pick_examples([]) == []


def test_limbs_skip_what_was_not_predicted() -> None:
    points = np.array([[0.0, 0.0], [1.0, 2.0], [np.nan, np.nan]])
    assert limb_path(points, np.array([[0, 1], [1, 2]])) == "M0.0 0.0L1.0 2.0"
