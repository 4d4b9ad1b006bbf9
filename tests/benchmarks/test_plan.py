"""What a run amounts to, and how far it is."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from poseboard.benchmarks.pipeline import awaited, changed_since_begin
from poseboard.benchmarks.plan import (
    ASSUMED_S,
    RENDER_S_PER_MEGAPIXEL,
    START_S,
    Countdown,
    PlannedStage,
    plan,
    total,
    trained_rows,
    up_to_date,
)
from poseboard.benchmarks.settings import Settings
from poseboard.benchmarks.stage_times import StageTimes
from poseboard.datasets.files import write_file
from poseboard.protocols.records import TrainingFile

ROOT = Path(__file__).resolve().parents[2]


def planned(home: Path) -> Settings:
    """The repository's params.yaml, pipeline and committed trainings in a folder of the test's own."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, home)
    shutil.copytree(ROOT / "results/default/training", home / "results/default/training")
    return Settings.read(home / "params.yaml").in_profile("default")


def test_every_stage_is_listed_and_trainings_by_what_they_took(tmp_path: Path) -> None:
    settings = planned(tmp_path)
    stages = {stage.name: stage for stage in plan(settings)}
    assert {f"{kind}@{row}" for kind in ("train", "evaluate") for row in settings.params.methods} <= set(stages)
    assert {"begin", "data@shelf", "report"} <= set(stages)
    assert len(stages) == len(plan(settings))
    # of the data sets that a world is rendered for; that of unseen rigs is taken over
    files = [ROOT / f"results/default/training/backbone/{name}.json" for name in ("human36m", "panoptic")]
    took = sum(run.seconds for file in files for run in TrainingFile.read(file).runs)
    assert stages["train@backbone"].seconds == pytest.approx(START_S + took)
    assert "default" in stages["train@backbone"].basis
    assert (stages["report"].seconds, stages["report"].basis) == (ASSUMED_S["report"], "assumed")
    assert stages["evaluate@dlt"].seconds == ASSUMED_S["evaluate"]


def test_a_world_that_is_not_there_is_rendered_first(tmp_path: Path) -> None:
    settings = planned(tmp_path)
    before = next(stage for stage in plan(settings) if stage.name == "data@human36m")
    settings.root("human36m").mkdir(parents=True)
    after = next(stage for stage in plan(settings) if stage.name == "data@human36m")
    # 2,220 moments in four cameras of 288 px: 737 megapixels.
    assert before.seconds == pytest.approx(START_S + 736.54 * RENDER_S_PER_MEGAPIXEL / (os.cpu_count() or 1), rel=1e-4)
    assert (after.seconds, after.basis) == (ASSUMED_S["data"], "assumed")


def test_other_stages_take_what_the_last_run_of_the_profile_measured(tmp_path: Path) -> None:
    settings = planned(tmp_path)
    ticks = iter([100.0, 131.5, 131.5, 140.0, 200.0])
    times = StageTimes(settings.stage_times, lambda: next(ticks))
    for line in (
        "Running stage 'evaluate@dlt':",
        "> poseboard evaluate dlt",
        "Running stage 'train@backbone':",
        "Stage 'speed' is cached - skipping run, checking out outputs",
        "Running stage 'report':",
    ):
        times.follow(line)
    stages = {stage.name: stage for stage in plan(settings)}
    assert (stages["evaluate@dlt"].seconds, stages["evaluate@dlt"].basis) == (
        31.5,
        "as the last run measured",
    )
    assert "default profile" in stages["train@backbone"].basis, "a killed training leaves the time of its last part"
    assert stages["speed"].seconds == ASSUMED_S["speed"], "restored from the cache, not run"
    assert stages["report"].seconds == ASSUMED_S["report"], "it has not ended"
    assert all(stage.basis != "as the last run measured" for stage in plan(settings.in_profile("smoke")))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"report": "long", "speed": -1, "sync": 4}', "\x00"])
def test_damaged_stage_times_are_none(tmp_path: Path, content: str) -> None:
    settings = planned(tmp_path)
    settings.stage_times.write_text(content)
    stages = {stage.name: stage for stage in plan(settings)}
    assert (stages["report"].seconds, stages["speed"].seconds) == (ASSUMED_S["report"], ASSUMED_S["speed"])
    assert stages["sync"].basis == ("as the last run measured" if "sync" in content else "assumed")


def test_the_rows_that_are_trained_follow_the_pipeline() -> None:
    settings = Settings.read(ROOT / "params.yaml")
    rows = trained_rows(settings.in_profile("default"))
    of_roots = {"human36m-coco", "mupots", "pw3d"}
    worlds = {"human36m", "human36m-rigs", "panoptic", "panoptic-people", *of_roots}
    assert set(rows) == worlds, "the others are not there, or only trained on"
    assert all({"rootnet", "k_only"} <= set(rows[dataset]) for dataset in of_roots)
    assert set(rows["panoptic"]) == {"backbone", "dlt", "ransac", "algebraic", "volumetric"}
    assert set(rows["panoptic-people"]) == {"backbone", "dlt", "ransac", "ransac_swap"}
    assert set(rows["human36m"]) > set(rows["human36m-rigs"]) >= {"backbone", "dlt", "volumetric", "epipolar"}
    elsewhere = {"epipolar_augmented", "epipolar_extra_data", "rootnet", "k_only"}
    assert set(rows["human36m"]) == settings.params.methods.keys() - elsewhere
    full = settings.in_profile("full").with_root("human36m-toolbox", ROOT).with_root("rhd", ROOT)
    assert "epipolar_augmented" in trained_rows(full)["human36m-toolbox"]
    assert trained_rows(full)["rhd"] == ["backbone", "lifting", "lifting_image"]


def test_another_profile_is_scaled_by_its_samples() -> None:
    settings = Settings.read(ROOT / "params.yaml")
    (small,) = (s for s in plan(settings.in_profile("smoke")) if s.name == "train@backbone")
    (large,) = (s for s in plan(settings.in_profile("seeds")) if s.name == "train@backbone")
    assert START_S <= small.seconds < large.seconds


def test_no_time_is_given_where_nothing_comparable_was_measured() -> None:
    stages = plan(Settings.read(ROOT / "params.yaml").in_profile("full"))
    (published,) = (stage for stage in stages if stage.name == "train@algebraic")
    assert published.seconds is None
    assert published.basis.startswith("nothing comparable was measured on human36m")
    assert total(stages)[1] > 5
    said = Countdown([published, PlannedStage("report", 100.0, "assumed")]).line("Running stage 'report':")
    assert said == "stage 1 of 2, about 2 min and 1 trainings of unknown length left if none is skipped"


def test_what_dvc_calls_unchanged_is_up_to_date() -> None:
    stages = [PlannedStage(name, 1.0, "assumed") for name in ("begin", "evaluate@dlt", "report")]
    changed = '{"evaluate@dlt": [{"changed deps": {"a": "new"}}], "speed": ["changed command"]}'
    assert up_to_date(stages, changed) == {"begin", "report"}
    assert up_to_date(stages, "{}") == {"begin", "evaluate@dlt", "report"}
    assert up_to_date(stages, "") is None
    assert up_to_date(stages, "[]") is None


def test_what_begin_will_write_anew_is_not_up_to_date(tmp_path: Path) -> None:
    settings = planned(tmp_path)
    every = {stage.name for stage in plan(settings)}
    assert changed_since_begin(settings) == every - {"begin"}, "nothing has been written"
    for path, content in awaited(settings).items():
        write_file(path, content)
    assert changed_since_begin(settings) == set()
    text = (tmp_path / "params.yaml").read_text()
    params = tmp_path / "params.yaml"
    params.write_text(text.replace("default: 8000,", "default: 9,", 1))
    edited = Settings.read(params)
    assert changed_since_begin(edited) == {"train@backbone", "evaluate@backbone", "compare", "report"}
    stages = [PlannedStage(name, 1.0, "assumed") for name in ("begin", "train@backbone", "train@dlt")]
    assert up_to_date(stages, '{"begin": []}', changed_since_begin(edited)) == {"train@dlt"}
    params.write_text(text.replace("rhd: {root: null}", "rhd: {root: elsewhere}"))
    assert changed_since_begin(Settings.read(params)) == {"data@rhd", "compare", "report"}
    # DVC would record the colours at the end of a run, while its page has those of the start.
    params.write_text(text.replace("  dlt: grey", "  dlt: blue", 1))
    assert changed_since_begin(Settings.read(params)) == {"report"}
    params.write_text("# Nothing that a stage depends on.\n" + text)
    assert changed_since_begin(Settings.read(params)) == set()


def test_the_countdown_follows_dvc() -> None:
    settings = Settings.read(ROOT / "params.yaml")
    stages = plan(settings)
    count = Countdown(stages)
    assert count.line("Stage 'begin' didn't change, skipping\n") is None
    said = count.line("Running stage 'data@human36m':\n")
    assert said is not None
    assert said.startswith(f"stage 2 of {len(stages)}, about ")
    assert count.line("> poseboard data prepare human36m\n") is None
    for stage in stages:
        said = count.line(f"Running stage '{stage.name}':\n") or said
    assert said == f"stage {len(stages)} of {len(stages)}, less than a minute left if none is skipped"
    assert not count.left
    # No stage of dvc.yaml is left out of the count, and they come in its order.
    of_pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(dict.fromkeys(stage.name.partition("@")[0] for stage in stages)) == list(of_pipeline)
