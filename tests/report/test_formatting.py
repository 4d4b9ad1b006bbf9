"""Numbers, durations and file names of the pages, and what is drawn of examples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from poseboard.report.examples import limb_path
from poseboard.report.formatting import SAFE_NAME, duration, file_name, number, signed, visible


@given(st.text(max_size=40), st.text(max_size=40))
def test_file_names_are_plain_and_differ_where_names_differ(a: str, b: str) -> None:
    made = file_name(a), file_name(b)
    for name in made:
        assert SAFE_NAME.fullmatch(name)
    assert (made[0] == made[1]) == (a == b)


def test_numbers_read_as_the_field_prints_them() -> None:
    assert [number(v) for v in (22.44, 8.0, None, float("nan"))] == ["22.4", "8.0", "–", "–"]
    assert [number(0.3864, "m"), number(4.177, "px")] == ["0.386", "4.18"]
    assert [signed(v) for v in (1.26, -1.26)] == ["+1.3", "−1.3"]
    assert [duration(s) for s in (40.0, 600.0, 9000.0, None)] == ["40 s", "10.0 min", "2.5 h", "–"]
    assert [duration(s) for s in (34.4, 0.9996, 0.1146, 9.27e-5, 0.0)] == ["34.4 s", "1 s", "115 ms", "92.7 µs", "0 s"]


def test_limbs_skip_what_was_not_predicted() -> None:
    points = np.array([[0.0, 0.0], [1.0, 2.0], [np.nan, np.nan]])
    assert limb_path(points, np.array([[0, 1], [1, 2]])) == "M0.0 0.0L1.0 2.0"


def test_control_characters_are_shown() -> None:
    assert visible("a\x1b[31m\u202eb\n\tc") == "a\\x1b[31m\\u202eb\n\tc"
    assert isinstance(visible(Markup("<b>\x07</b>")), Markup)
