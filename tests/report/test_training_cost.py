"""Training cost of a method with the trainings that it starts from."""

from __future__ import annotations

import pytest

from poseboard.protocols.records import TrainingFile
from poseboard.report.results import Results
from poseboard.report.training_cost import cost, measure_of


def test_cost_adds_what_a_method_starts_from(found: Results) -> None:
    dlt = cost(found.training, "human36m", "dlt")
    assert dlt.chain == ("dlt", "ransac", "backbone")
    own = {name: found.training["human36m", name].runs[0].processor_seconds for name in ("ransac", "backbone")}
    assert dlt.own_s == 0
    assert dlt.total_s == pytest.approx(sum(own.values()))
    assert dlt.hardware == ("2 CPU cores (x86-64), 8 GB",)
    assert dlt.measure == "processor s"
    assert cost(found.training, "human36m", "unknown").total_s is None


def test_costs_of_other_measures_are_named_and_never_added(found: Results) -> None:
    def measured(name: str, **times: float | None) -> TrainingFile:
        file = found.training["human36m", name]
        return file.model_copy(update={"runs": [run.model_copy(update=times) for run in file.runs]})

    unknown, gpu = {"processor_seconds": None}, {"processor_seconds": None, "gpu_seconds": 7.0}
    old = {("human36m", name): measured(name, **unknown) for name in ("dlt", "ransac", "backbone", "algebraic")}
    wall = cost(old, "human36m", "dlt")
    expected = sum(2 * old["human36m", name].runs[0].seconds for name in ("ransac", "backbone"))
    assert (wall.measure, wall.total_s) == ("wall s × processes", pytest.approx(expected))

    mixed = found.training | {("human36m", "algebraic"): measured("algebraic", **gpu)}
    spent = cost(mixed, "human36m", "algebraic")
    assert (spent.measure, spent.own_s, spent.total_s) == ("GPU s", 7.0, None)
    assert measure_of([spent, wall, wall]) == "wall s × processes"
    assert measure_of([]) is None
