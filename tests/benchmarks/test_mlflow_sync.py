"""The MLflow store: one run a file, every number under its own name, made anew from results/ and never twice."""

from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from poseboard.benchmarks.mlflow_sync import tracking_uri
from poseboard.protocols.records import ScoreFile


def runs(workspace: Any) -> dict[str, Run]:
    client = MlflowClient(tracking_uri(workspace.folder))
    (experiment,) = (e for e in client.search_experiments() if e.name == "poseboard-smoke-human36m")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    found = client.search_runs([experiment.experiment_id])
    by_name = {f"{run.data.tags['kind']}/{run.data.tags['method']}": run for run in found}
    assert len(by_name) == len(found)
    return by_name


def test_a_store_shows_what_was_done_and_what_came_out(workspace: Any, capfd: pytest.CaptureFixture[str]) -> None:
    done = workspace.must("sync")
    assert done.out.startswith("mlflow: 3 runs added")
    said = capfd.readouterr().err + done.err
    assert "INFO" not in said, said
    found = runs(workspace)
    assert set(found) == {"train/backbone", "train/dlt", "score/dlt"}
    backbone, score = found["train/backbone"], found["score/dlt"]
    assert backbone.data.params["options.steps"] == "3"
    assert backbone.data.params["options.learning_rate"], "defaults are in force as well"
    assert score.data.params["options.weights"] == "peak"
    assert score.data.params["seeds"] == "0"
    assert score.data.tags["synthetic"] == "True"
    assert backbone.info.status == "FINISHED"
    assert "seed0/total" in backbone.data.metrics
    file = ScoreFile.read(workspace.folder / "results/smoke/scores/human36m/dlt.json")
    values = {found.value for found in file.scores}
    logged = {value for name, value in score.data.metrics.items() if name.count("/") == 0 or "human36m-cameras" in name}
    assert values <= logged, "a table of several sets of cameras keeps each of its numbers"
    assert score.data.metrics["T1"] == pytest.approx(next(s.value for s in file.scores if s.table == "T1"))
    client = MlflowClient(tracking_uri(workspace.folder))
    curve = client.get_metric_history(score.info.run_id, "human36m-cameras/cameras_curve")
    assert [point.step for point in curve] == [2, 3, 4]
    assert {artifact.path for artifact in client.list_artifacts(score.info.run_id)} == {"dlt.json", "scores.json"}
    assert "losses.png" in {artifact.path for artifact in client.list_artifacts(backbone.info.run_id)}
    assert all(run.data.tags["mlflow.runName"].startswith(run.data.tags["method"]) for run in found.values())
    assert score.data.tags["train_run"] == found["train/dlt"].info.run_id
    assert score.data.tags["checkpoint.seed0"] == file.provenance.checkpoint_sha256["seed0"]
    (data,) = score.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.source_type) == ("human36m", "synthetic")
    assert not [name for name in score.data.metrics if "n_missing" in name or "ci95" in name]
    assert workspace.must("sync").out.startswith("mlflow: 0 runs added, 3 there already")


def test_the_same_predictions_scored_twice_add_no_run(workspace: Any) -> None:
    workspace.must("sync")
    path = workspace.folder / "results/smoke/scores/human36m/dlt.json"
    path.unlink()  # or else the file stays as it was
    workspace.must("score", "human36m", "dlt")
    assert workspace.must("sync").out.startswith("mlflow: 0 runs added, 3 there already")
    record = ScoreFile.read(path)
    record.scores[0].value = 1.0
    path.write_text(record.text())
    assert workspace.must("sync").out.startswith("mlflow: 1 runs added")


def test_a_run_that_was_cut_short_is_written_anew(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifact", cut)
        assert workspace.run("sync").code == 130
    assert workspace.must("sync").out.startswith("mlflow: 3 runs added")
    assert len(runs(workspace)) == 3


def test_a_store_that_is_none(workspace: Any) -> None:
    (workspace.folder / "mlflow.db").write_text("this is no database, and long enough to be seen as none" * 100)
    assert "mlflow.db" in workspace.run("sync").error


def test_sync_says_one_line_where_a_file_is_broken(workspace: Any) -> None:
    path = workspace.folder / "results/smoke/scores/human36m/dlt.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 1, "surprise": 2'))
    error = workspace.run("sync").error
    assert "dlt.json: surprise" in error
    assert "run the stage" in error
