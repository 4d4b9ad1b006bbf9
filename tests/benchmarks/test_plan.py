"""What a run amounts to, and how far it is."""

from pathlib import Path

import pytest
import yaml

from poseboard.benchmarks.plan import ASSUMED_S, START_S, Countdown, PlannedStage, plan, up_to_date
from poseboard.benchmarks.settings import Settings
from poseboard.protocols.scores import TrainingFile

ROOT = Path(__file__).resolve().parents[2]


def test_every_stage_is_listed_and_trainings_by_what_they_took() -> None:
    settings = Settings.read(ROOT / "params.yaml").in_profile("default")
    stages = {stage.name: stage for stage in plan(settings)}
    assert {f"{kind}-human36m@{row}" for kind in ("train", "score") for row in settings.params.methods} <= set(stages)
    assert {"backbone-human36m", "detections-shelf@dlt", "report"} <= set(stages)
    assert len(stages) == len(plan(settings))
    took = sum(r.seconds for r in TrainingFile.read(ROOT / "results/default/training/human36m/backbone.json").runs)
    assert stages["backbone-human36m"].seconds == pytest.approx(START_S + took)
    assert "default" in stages["backbone-human36m"].basis
    assert (stages["report"].seconds, stages["report"].basis) == (ASSUMED_S["report"], "assumed")
    assert stages["score-human36m@dlt"].seconds == ASSUMED_S["score"]


def test_another_profile_is_scaled_by_its_samples() -> None:
    settings = Settings.read(ROOT / "params.yaml")
    (small,) = (s for s in plan(settings.in_profile("smoke")) if s.name == "backbone-human36m")
    (large,) = (s for s in plan(settings.in_profile("seeds")) if s.name == "backbone-human36m")
    assert START_S <= small.seconds < large.seconds


def test_what_dvc_calls_unchanged_is_up_to_date() -> None:
    stages = [PlannedStage(name, 1.0, "assumed") for name in ("names", "score-human36m@dlt", "report")]
    changed = '{"score-human36m@dlt": [{"changed deps": {"a": "new"}}], "speed": ["changed command"]}'
    assert up_to_date(stages, changed) == {"names", "report"}
    assert up_to_date(stages, "{}") == {"names", "score-human36m@dlt", "report"}
    assert up_to_date(stages, "") is None
    assert up_to_date(stages, "[]") is None


def test_the_countdown_follows_dvc() -> None:
    settings = Settings.read(ROOT / "params.yaml")
    stages = plan(settings)
    count = Countdown(stages)
    assert count.line("Stage 'names' didn't change, skipping\n") is None
    said = count.line("Running stage 'data-human36m':\n")
    assert said is not None
    assert said.startswith(f"stage 2 of {len(stages)}, about ")
    assert count.line("> poseboard data prepare human36m\n") is None
    for stage in stages:
        said = count.line(f"Running stage '{stage.name}':\n") or said
    assert said == f"stage {len(stages)} of {len(stages)}, less than a minute left if none is skipped"
    assert yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
