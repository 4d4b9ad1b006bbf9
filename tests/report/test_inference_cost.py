"""Costs of predictions on the page: relative to a row, of this profile, and against the error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fabricated_results import write_everything
from page_reader import page

from poseboard.protocols.records import CostFile, InferenceCost
from poseboard.report.drawing import charts
from poseboard.report.inference_cost import inference
from poseboard.report.results import Results, read_results
from poseboard.report.site import build


def costs(dataset: str = "human36m", profile: str = "default", **ms: float) -> CostFile:
    rows = [
        InferenceCost(
            method=name, views=4, batch=64, ms_single=2 * value, ms_batch=value, memory_mib=30.0, parameters=1000,
            gflops=0.5,
        )
        for name, value in ms.items()
    ]  # fmt: skip
    return CostFile(
        dataset=dataset, synthetic=True, profile=profile, samples=64, threads=1, device="cpu", hardware="2 CPU cores",
        created="2026-11-21", reference="dlt", rows=rows,
    )  # fmt: skip


def test_times_are_relative_to_the_reference_and_follow_the_weights(found: Results) -> None:
    results = replace(found, costs={"human36m": costs(dlt=4.0, algebraic=10.0)})
    algebraic = inference(results, "human36m", "algebraic")
    assert algebraic is not None
    assert algebraic.relative == pytest.approx(2.5)
    assert inference(results, "human36m", "ransac") is None
    assert inference(results, "human36m-rigs", "algebraic") is None
    training = found.training["human36m", "algebraic"].model_copy(update={"same_as": "human36m"})
    taken_over = replace(results, training=found.training | {("human36m-rigs", "algebraic"): training})
    assert inference(taken_over, "human36m-rigs", "algebraic") == algebraic


def test_costs_of_the_run_replace_recorded_ones_of_the_profile(tmp_path: Path) -> None:
    write_everything(tmp_path)
    recorded = tmp_path / "speed" / "rows"
    costs(dlt=4.0).write(recorded / "human36m.json")
    costs("mupots", profile="full", dlt=4.0).write(recorded / "mupots.json")
    assert set(read_results(tmp_path, "default").costs) == {"human36m"}
    build(tmp_path, "default", tmp_path / "without")
    assert not list((tmp_path / "without" / "figures").glob("*-inference.svg")), "one point is not a plot"
    costs(dlt=5.0, algebraic=50.0).write(tmp_path / "default" / "costs" / "human36m.json")
    build(tmp_path, "default", tmp_path / "with")
    cells = {text.split()[0] for _, text in page(tmp_path / "with" / "index.html").cells if "× dlt" in text}
    assert cells == {"5", "50"}
    assert list((tmp_path / "with" / "figures").glob("*-inference.svg"))


@pytest.mark.parametrize(("lower_is_better", "front"), [(True, [(1, 5), (3, 2)]), (False, [(1, 5), (2, 7)])])
def test_the_front_has_the_rows_that_no_cheaper_row_beats(
    lower_is_better: bool, front: list[tuple[float, float]]
) -> None:
    points = {"a": (1.0, 5.0), "b": (2.0, 7.0), "c": (3.0, 2.0), "d": (3.0, 6.0)}
    slots = {name: k for k, name in enumerate(points)}
    figure = charts.error_against_cost(points, slots, "error", "cost", lower_is_better=lower_is_better)
    step = figure.axes[0].lines[0]
    assert list(zip(step.get_xdata(), step.get_ydata(), strict=True)) == front
