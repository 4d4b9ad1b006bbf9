"""The MLflow store: one run per file, each number under its own name, made from results/ and never twice."""

import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from full_disk import no_room_beyond
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from poseboard.benchmarks import mlflow_sync
from poseboard.benchmarks.mlflow_sync import _metric_name, pages, server_command, tracking_uri
from poseboard.protocols.records import ScoreFile

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs/running.md").read_text(encoding="utf-8")
ALL = {"train/backbone", "train/dlt", "score/dlt"}


def runs(workspace: Any) -> dict[str, Run]:
    client = MlflowClient(tracking_uri(workspace.folder))
    (experiment,) = (e for e in client.search_experiments() if e.name == "poseboard-smoke-human36m")
    found = client.search_runs([experiment.experiment_id])
    by_name = {f"{run.data.tags['kind']}/{run.data.tags['method']}": run for run in found}
    assert len(by_name) == len(found)
    assert {run.info.status for run in found} == {"FINISHED"}
    return by_name


def score_path(workspace: Any, row: str = "dlt") -> Path:
    path: Path = workspace.folder / "results" / "smoke" / "scores" / row / "human36m.json"
    return path


def test_a_store_has_each_training_and_score_once(workspace: Any, capfd: pytest.CaptureFixture[str]) -> None:
    done = workspace.must("sync")
    assert done.out.startswith("mlflow: 3 runs added")
    assert "INFO" not in capfd.readouterr().err + done.err
    found = runs(workspace)
    assert set(found) == ALL
    backbone, score = found["train/backbone"], found["score/dlt"]
    assert backbone.data.params["options.steps"] == "3"
    assert backbone.data.params["options.learning_rate"], "defaults are in force as well"
    assert score.data.params["seeds"] == "0"
    assert "seed0/total" in backbone.data.metrics
    file = ScoreFile.read(score_path(workspace))
    assert {number.value for number in file.scores} <= set(score.data.metrics.values())
    assert score.data.metrics["T1"] == pytest.approx(next(s.value for s in file.scores if s.table == "T1"))
    client = MlflowClient(tracking_uri(workspace.folder))
    curve = client.get_metric_history(score.info.run_id, "human36m-cameras/cameras_curve")
    assert [point.step for point in curve] == [2, 3, 4]
    assert [artifact.path for artifact in client.list_artifacts(score.info.run_id)] == [
        "human36m.json",
        "signatures.json",
    ]
    signatures = json.loads(Path(client.download_artifacts(score.info.run_id, "signatures.json")).read_text())
    assert signatures["T1"] == next(s.signature.facts for s in file.scores if s.table == "T1")
    assert set(signatures) >= {name for name in score.data.metrics if not name.endswith("_curve")}
    facts = {name: value for name, value in score.data.tags.items() if name.startswith("signature.")}
    assert facts.pop("signature.measure") == "mpjpe, alignment root"
    assert facts == {"signature.cameras": "all 4", "signature.trained_on": "this data set, where anything is"}
    assert all(run.data.tags["mlflow.runName"].startswith(run.data.tags["method"]) for run in found.values())
    weights = file.provenance.checkpoint_sha256["seed0"]
    assert score.data.tags["checkpoint.seed0"] == found["train/dlt"].data.tags["checkpoint.seed0"] == weights
    assert (score.data.tags["dataset"], score.data.tags["synthetic"]) == ("human36m", "True")
    assert "mpjpe" in score.data.tags["protocol"]
    assert workspace.must("sync").out.startswith("mlflow: 0 runs added, 3 there already")
    shutil.rmtree(workspace.folder / "mlruns")
    assert workspace.must("sync").out.startswith("mlflow: 3 runs added")
    assert set(runs(workspace)) == ALL


def test_only_another_number_is_another_run(workspace: Any) -> None:
    workspace.must("sync")
    path = score_path(workspace)
    path.unlink()  # otherwise `score` leaves an equal file as it is
    workspace.must("score", "human36m", "dlt")
    assert workspace.must("sync").out.startswith("mlflow: 0 runs added, 3 there already")
    record = ScoreFile.read(path)
    record.scores[0].value = 1.0
    path.write_text(record.text())
    assert workspace.must("sync").out.startswith("mlflow: 1 runs added")


def test_an_experiment_opens_as_scored_runs_sorted_by_the_headline_table(workspace: Any) -> None:
    error = workspace.run("runs").error
    assert "mlflow.db" in error
    assert "poseboard sync" in error
    # A table that more rows have than the headline table.
    table = "human36m-pa-mpjpe"
    file = ScoreFile.read(score_path(workspace))
    other = next(score for score in file.scores if score.table == table)
    more = file.model_copy(update={"method": "more", "scores": [other.model_copy(update={"headline": False})]})
    more.write(score_path(workspace, "more"))
    workspace.must("sync")
    client = MlflowClient(tracking_uri(workspace.folder))
    ((name, page),) = pages(workspace.folder).items()
    assert name == "poseboard-smoke-human36m"
    experiment = client.get_experiment_by_name(name)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert page.startswith(f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning&")
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{page.rpartition('=')[2]}"])
    assert {key: type(value) for key, value in view.items()} == {"name": str, "createdAt": int, "state": str}
    state = json.loads(view["state"])
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`T1`", True)
    found = client.search_runs([experiment.experiment_id], state["searchFilter"], order_by=[state["orderByKey"]])
    assert [run.data.tags["method"] for run in found] == ["dlt", "more"]
    columns = {column.removeprefix("metrics.").strip("`") for column in state["selectedColumns"]}
    assert {"T1", "T2", table} <= columns <= set(found[0].data.metrics)


def test_runs_and_pages_name_each_other(workspace: Any) -> None:
    workspace.must("sync", "--record", "mlflow.json")
    workspace.must("report")
    score = runs(workspace)["score/dlt"]
    page = workspace.folder / "results" / "smoke" / "leaderboard" / "methods" / "dlt.html"
    assert page.as_uri() in score.data.tags["mlflow.note.content"]
    address = f"http://127.0.0.1:5000/#/experiments/{score.info.experiment_id}/runs/{score.info.run_id}"
    assert f'href="{address}"' in page.read_text()
    lines = workspace.must("runs", "dlt").out.splitlines()
    assert len(lines) == 2, "its training and its score"
    assert f"{score.info.run_name}: {address}" in lines
    assert "did you mean dlt?" in workspace.run("runs", "dlt_").error


def test_a_port_in_use_is_one_line(workspace: Any) -> None:
    workspace.must("sync")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        taken.listen()
        assert f"port {port}: another program uses it" in workspace.run("runs", "--port", port).error
    assert {tracking_uri(workspace.folder), port} <= set(server_command(workspace.folder, int(port)))


def test_the_documented_searches_work(
    workspace: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ScoreFile.read(score_path(workspace))
    next(score for score in record.scores if score.table == "T1").value = 64.5
    score_path(workspace).write_text(record.text())
    workspace.must("sync")
    section = DOCUMENT.partition("## Runs in MLflow")[2].partition("\n## ")[0]
    (search,) = re.findall(r"^tags\.kind.*$", section, flags=re.MULTILINE)
    client = MlflowClient(tracking_uri(workspace.folder))
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    (found,) = client.search_runs(everywhere, search)
    assert (found.data.tags["kind"], found.data.tags["method"]) == ("score", "dlt")
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert '"algebraic"' in code
    monkeypatch.chdir(workspace.folder)
    exec(compile(code.replace('"algebraic"', '"dlt"'), "documented", "exec"), {})
    out = capsys.readouterr().out
    assert "64.5" in out
    assert out.count("dlt/") == 2, "its training and its score"


@pytest.mark.parametrize(("name", "at"), [("log_batch", 1), ("log_artifact", 2)])
@pytest.mark.parametrize("fault", ["killed", "disk full"])
def test_a_sync_that_was_cut_short_is_completed_by_the_next(
    workspace: Any, monkeypatch: pytest.MonkeyPatch, name: str, at: int, fault: str
) -> None:
    write = getattr(MlflowClient, name)
    calls = []

    def fail(*arguments: Any, **named: Any) -> None:
        calls.append(arguments)
        if len(calls) < at:
            write(*arguments, **named)
        elif fault == "killed":
            raise KeyboardInterrupt
        else:
            with no_room_beyond(10):
                write(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, name, fail)
        done = workspace.run("sync")
    if fault == "killed":
        assert done.code == 130
    else:
        assert {"log_batch": "mlflow.db", "log_artifact": "mlruns"}[name] in done.error
        assert "/results/" not in done.error, "not the file that was read"
        assert done.err == done.error + "\n", "one line, and no statement of SQL"
    assert re.match(r"mlflow: [23] runs added", workspace.must("sync").out)
    assert set(runs(workspace)) == ALL
    client = MlflowClient(tracking_uri(workspace.folder))
    kinds = {name: len(client.list_artifacts(run.info.run_id)) for name, run in runs(workspace).items()}
    assert kinds == {name: 2 if name.startswith("score/") else 1 for name in ALL}


def test_a_store_is_made_whole_or_not_at_all(workspace: Any) -> None:
    with no_room_beyond(100_000):
        failed = workspace.run("sync")
    assert str(workspace.folder / "mlflow.db") in failed.error
    assert not list(workspace.folder.glob("*mlflow*.db")) + list(workspace.folder.glob(".mlflow-*"))
    assert workspace.must("sync").out.startswith("mlflow: 3 runs added")


def test_a_file_that_is_no_store_is_an_error_at_once(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = workspace.folder / "mlflow.db"
    monkeypatch.setattr(mlflow_sync, "MlflowClient", lambda *_: pytest.fail("MLflow would try for two minutes"))
    store.write_text("this is not a database, and long enough to be recognised as such" * 100)
    for name in ("sync", "runs"):
        assert f"{store}: MLflow cannot use it (file is not a database)" in workspace.run(name).error
    store.unlink()
    store.mkdir()
    assert f"{store}: MLflow cannot use it (unable to open database file)" in workspace.run("sync").error


BAD: tuple[tuple[tuple[str | int, ...], Any, str], ...] = (
    (("format",), 2, "format: "),
    (("dataset",), "x/../../../../../ESC1", "dataset: "),
    (("method",), "../dlt", "method: "),
    (("profile",), "a" * 65, "profile: "),
    (("scores", 0, "table"), "a/../../b", "scores.0.table: "),
    (("provenance", "created"), "0001-01-01T00:00:00+00:00", "provenance.created: is before 1970"),
    (("scores", 0, "curves"), {"x": {"x": [1e30], "y": [1.0], "x_label": "", "y_label": ""}}, "refuses a value"),
)


def test_bad_files_do_not_stop_the_others(workspace: Any) -> None:
    text = score_path(workspace).read_text()
    for number, ((*parents, last), value, _) in enumerate(BAD):
        values = parent = json.loads(text)
        for part in parents:
            parent = parent[part]
        parent[last] = value
        bad = score_path(workspace, f"odd{number}")
        bad.parent.mkdir()
        bad.write_text(json.dumps(values))
    outside = set(workspace.folder.parent.rglob("*")) - set(workspace.folder.rglob("*"))
    done = workspace.run("sync")
    assert done.code == 2
    lines = done.err.splitlines()
    for number, (_, _, says) in enumerate(BAD):
        (line,) = (line for line in lines if f"odd{number}/human36m.json: " in line)
        assert says in line.partition("human36m.json: ")[2]
    assert done.out.startswith("mlflow: 3 runs added, 0 there already")
    assert set(runs(workspace)) == ALL
    assert set(workspace.folder.parent.rglob("*")) - set(workspace.folder.rglob("*")) == outside
    assert workspace.run("sync").out.startswith("mlflow: 0 runs added, 3 there already")


def test_each_number_of_a_recorded_row_has_its_own_name() -> None:
    paths = sorted((ROOT / "results" / "default" / "scores").glob("*/*.json"))
    assert paths
    for path in paths:
        record = ScoreFile.read(path)
        names = [_metric_name(score, record) for score in record.scores]
        assert len(set(names)) == len(names), path


def test_unranked_numbers_are_not_under_the_name_that_runs_are_sorted_by() -> None:
    record = ScoreFile.read(ROOT / "results" / "default" / "scores" / "dlt" / "human36m.json")
    score = next(one for one in record.scores if one.table == "T1")
    assert _metric_name(score, record) == "T1"
    assert _metric_name(score.model_copy(update={"n_missing": 3, "n_left_out": 3}), record) == "T1/incomplete"
    assert _metric_name(score, record.model_copy(update={"bound": True})) == "T1/bound"
