"""The figures that are drawn from arrays: what they show, read back from the axes."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import yaml
from fabricated_results import score
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from poseboard.protocols.records import Curve, ResultError
from poseboard.report.drawing import charts

# Machado, Oliveira and Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency (2009),
# severity 1.0, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]


def linear(colours: Iterable[str]) -> np.ndarray:
    """#rrggbb -> linear RGB, (N, 3)."""
    srgb = np.array([[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in colours]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Linear RGB -> CIELAB under D65."""
    xyz = rgb @ np.transpose(TO_XYZ) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("colours", "page"), [(charts.COLOURS, "#ffffff"), (charts.DARK_COLOURS, "#121519")])
def test_colours_stay_apart_in_every_vision_and_stand_out_from_the_page(colours, page, vision):
    seen = lab(np.clip(linear(colours.values()) @ np.transpose(VISION[vision]), 0, 1))
    apart = np.linalg.norm(seen[:, None] - seen, axis=-1)[np.triu_indices(len(seen), 1)]
    assert apart.min() > 16  # CIE76; 2.3 is just noticeable
    of_colours, of_page = linear(colours.values()) @ np.array(TO_XYZ)[1], linear([page]) @ np.array(TO_XYZ)[1]
    lighter, darker = np.maximum(of_colours, of_page), np.minimum(of_colours, of_page)
    assert ((lighter + 0.05) / (darker + 0.05)).min() > 3  # WCAG 2.2, 1.4.11
    assert list(colours) == list(charts.COLOURS)


NAMES = st.text(min_size=1, max_size=12)


@given(st.lists(NAMES, unique=True, max_size=30), st.lists(NAMES, unique=True, max_size=30), st.data())
def test_added_rows_change_no_look(names, added, data):
    colours = data.draw(st.dictionaries(st.sampled_from(names or ["x"]), st.sampled_from(list(charts.COLOURS))))
    before = charts.slots(names, colours)
    after = charts.slots([*names, *(name for name in added if name not in names)], colours)
    assert {name: after[name] for name in names} == before


@given(st.permutations([f"row{k}" for k in range(9)]), st.integers(0, 9))
def test_a_look_belongs_to_the_name_wherever_the_row_stands(names, count):
    alone = {name: charts.slots([name], {})[name] for name in names}
    assert len(set(alone.values())) == 9  # these share no pair of colour and marker, so none moves
    assert charts.slots(names[:count], {}) == {name: alone[name] for name in names[:count]}


def test_a_colour_that_is_asked_for_is_had_and_two_of_one_colour_have_two_markers():
    found = charts.slots(["new", "a", "b", "c"], {"a": "green", "b": "green", "c": "blue"})
    looks = {name: charts.look(slot) for name, slot in found.items()}
    assert looks["a"]["color"] == looks["b"]["color"] == charts.COLOURS["green"]
    assert looks["a"]["marker"] != looks["b"]["marker"]
    assert looks["c"]["color"] == charts.COLOURS["blue"]
    with pytest.raises(ResultError, match=r"colours\.a: unknown colour 'puce'; use one of blue, "):
        charts.slots(["a"], {"a": "puce"})


def test_no_two_of_48_rows_look_alike_and_none_has_a_colour_of_ours():
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    of_users = [f"row{k}" for k in range(48)]
    ours = [row for row in params["methods"] if row != "backbone"]  # it predicts nothing
    found = charts.slots([*ours, *of_users], params["colours"])
    looks = {row: charts.look(slot) for row, slot in found.items()}
    assert len({(looks[row]["color"], looks[row]["marker"]) for row in of_users}) == 48
    assert {looks[row]["color"] for row in of_users}.isdisjoint(looks[row]["color"] for row in ours)
    assert set(params["colours"].values()) <= set(list(charts.COLOURS)[: -charts.FREE])
    assert len(charts.slots([f"row{k}" for k in range(200)], {})) == 200


def test_no_two_rows_of_the_committed_run_look_alike():
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    assert set(params["colours"]) <= set(params["methods"])
    slots = charts.slots(params["methods"], params["colours"])
    looks = {row: charts.look(slot) for row, slot in slots.items()}
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == len(looks)
    named = [(looks[row]["color"], looks[row]["linestyle"]) for row in params["colours"]]
    assert len(set(named)) == len(named), "where a plot has no markers"
    for slot in slots.values():
        assert charts.marker_path(slot).startswith("M")


def test_intervals_of_a_curve_stand_side_by_side_and_none_is_made_up():
    x = [2.0, 4.0, 8.0]
    curves = {
        name: Curve(x=x, y=y, x_label="cameras", y_label="mm") for name, y in {"a": [9, 7, 6], "b": [8, 7, 5]}.items()
    }
    ranges = {"a": [(8.0, 10.0), None, (5.0, 9.0)], "b": [(7.5, 8.5), (6.0, 8.0), (4.0, 6.0)]}
    figure = charts.lines(curves, {"a": 0, "b": 1}, marks=True, from_zero=False, ranges=ranges)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.get_axes()
    bars = [[segment.tolist() for segment in bars.get_segments()] for bars in axes.collections]
    assert bars[0] == [[[2, 8], [2, 10]], [[8, 5], [8, 9]]]
    assert bars[1] == [[[2, 7.5], [2, 8.5]], [[4, 6], [4, 8]], [[8, 4], [8, 6]]]
    low, high = axes.get_ylim()
    assert low < 4, "the bars are inside"
    assert high > 10
    thin = {"a": [None, None, (3.0, 9.5)]}
    (axes_of_two,) = charts.lines(
        curves, {"a": 0, "b": 1}, marks=True, from_zero=False, ranges=ranges, widest=thin
    ).get_axes()
    of_a = axes_of_two.collections[:2]
    assert of_a[1].get_segments()[0].tolist() == [[8, 3], [8, 9.5]]
    assert of_a[1].get_linewidth() < of_a[0].get_linewidth()


def test_of_many_rows_each_has_a_panel_with_the_others_in_grey() -> None:
    x = [2.0, 4.0, 8.0, 16.0, 31.0]
    names = [f"m{k}" for k in range(7)]
    index = {name: k for k, name in enumerate([*names, "bound"])}
    curves = {n: Curve(x=x, y=[9, None, 6 - k / 9, 5, 4], x_label="cameras", y_label="mm") for k, n in enumerate(names)}
    ranges = {"m0": [(8.0, 10.0), None, None, None, (3.0, 5.0)]}
    figure = charts.each(curves, index, bounds={"bound": 2.0}, ranges=ranges)
    FigureCanvasAgg(figure).draw()
    panels = [axes for axes in figure.get_axes() if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == names
    for name, axes in zip(names, panels, strict=True):
        *of_rows, bound = axes.lines
        coloured = [line for line in of_rows if line.get_color() != charts.RULE]
        assert [line.get_color() for line in coloured] == [charts.look(index[name])["color"]]
        np.testing.assert_array_equal(coloured[0].get_ydata(), [np.nan if v is None else v for v in curves[name].y])
        assert len(of_rows) == len(names)
        assert list(bound.get_ydata()) == [2.0, 2.0]
    bars = [[segment.tolist() for bars in axes.collections for segment in bars.get_segments()] for axes in panels]
    assert bars == [[[[2, 8], [2, 10]], [[31, 3], [31, 5]]], *([[]] * 6)]


@pytest.mark.parametrize(("low", "high"), [(58.0, 270.0), (250.0, 950.0), (10.1, 31.0), (3.0, 4000.0)])
def test_a_logarithmic_axis_is_recognisable(low: float, high: float) -> None:
    curves = {"a": Curve(x=[0.0, 4.0], y=[low, high], x_label="severity", y_label="mm")}
    figure = charts.panels({"blur": curves, "noise": curves}, {"a": 0}, "MPJPE, mm")
    costs = {"a": (low, 1.0), "b": (high, 2.0), "c": (40 * low, 3.0)}
    scatter = charts.error_against_cost(costs, {"a": 0, "b": 1, "c": 2}, "MPJPE, mm", "time, ms")
    for drawn, along in ((figure, "y"), (scatter, "x")):
        FigureCanvasAgg(drawn).draw()
        axes = drawn.get_axes()[0]
        axis, (first, last) = (axes.yaxis, axes.get_ylim()) if along == "y" else (axes.xaxis, axes.get_xlim())
        labels = [tick.get_text() for tick in axis.get_ticklabels() if tick.get_text()]
        assert len(labels) >= 3
        assert all(first <= float(label) <= last for label in labels)
        assert len(labels) + len([tick for tick in axis.get_minorticklocs() if first <= tick <= last]) > 3
    assert figure.get_supylabel() == "MPJPE, mm, log scale"
    assert scatter.get_supxlabel() == "time, ms, log scale"


@pytest.mark.parametrize(("lower", "top"), [(True, "worst when lower is better"), (False, "worst when higher is")])
def test_the_worst_category_is_on_top_whichever_way_is_better(lower: bool, top: str) -> None:
    of_action = {"worst when lower is better": 80.0, "between": 50.0, "worst when higher is": 20.0}
    of_row = score("dlt", 50.0, "T1", np.random.default_rng(0)).model_copy(
        update={"breakdown": {"action": of_action}, "lower_is_better": lower}
    )
    (axes,) = charts.breakdown({"dlt": of_row}, {"dlt": 0}, "action", "label").get_axes()
    assert axes.get_yticklabels()[-1].get_text() == top
