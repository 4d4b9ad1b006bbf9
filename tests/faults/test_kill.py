"""Kill -9 of stages on the results of the smoke profile; run by CI after `make repro PROFILE=smoke`."""

import random

import pytest
from kill import ROOT, kill_stage

OF_ROW = tuple(f"results/smoke/{kind}/dlt" for kind in ("predictions", "scores", "errors"))
STAGES = {
    "evaluate": (("evaluate", "dlt"), OF_ROW),
    "sync": (("sync",), ("mlflow.db",)),
}


@pytest.mark.pipeline
@pytest.mark.parametrize("name", STAGES)
def test_a_killed_stage_runs_to_equal_results(name: str) -> None:
    arguments, outs = STAGES[name]
    kill_stage(ROOT, arguments, outs, random.uniform(0, 0.3))
