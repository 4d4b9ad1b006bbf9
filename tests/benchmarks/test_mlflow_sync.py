"""The MLflow store: one run a file, every number under its own name, made anew from results/ and never twice."""

import contextlib
import json
import re
import socket
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_disk import no_room_beyond
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from PIL import Image
from sqlalchemy import Engine, event

from poseboard.benchmarks import mlflow_sync
from poseboard.benchmarks.mlflow_server import command, serving
from poseboard.benchmarks.mlflow_sync import _score_name, pages, tracking_uri
from poseboard.datasets.errors import InputError
from poseboard.protocols.records import ScoreFile

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


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
    assert score.data.params["options.weighting"] == "peak"
    assert score.data.params["seeds"] == "0"
    assert score.data.tags["synthetic"] == "True"
    assert backbone.info.status == "FINISHED"
    assert "seed0/total" in backbone.data.metrics
    file = ScoreFile.read(workspace.folder / "results/smoke/scores/dlt/human36m.json")
    values = {found.value for found in file.scores}
    logged = {value for name, value in score.data.metrics.items() if not name.endswith("_curve")}
    assert values <= logged, "a table of several sets of cameras, or perturbations, keeps each of its numbers"
    assert score.data.metrics["T1"] == pytest.approx(next(s.value for s in file.scores if s.table == "T1"))
    client = MlflowClient(tracking_uri(workspace.folder))
    curve = client.get_metric_history(score.info.run_id, "human36m-cameras/cameras_curve")
    assert [point.step for point in curve] == [2, 3, 4]
    assert {artifact.path for artifact in client.list_artifacts(score.info.run_id)} == {"human36m.json", "scores.json"}
    with Image.open(client.download_artifacts(backbone.info.run_id, "losses.png")) as losses:
        assert np.ptp(np.asarray(losses)) > 100, "something is drawn"
    assert all(run.data.tags["mlflow.runName"].startswith(run.data.tags["method"]) for run in found.values())
    assert score.data.tags["train_run"] == found["train/dlt"].info.run_id
    assert score.data.tags["checkpoint.seed0"] == file.provenance.checkpoint_sha256["seed0"]
    (data,) = score.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.source_type) == ("human36m", "synthetic")
    assert not [name for name in score.data.metrics if "n_missing" in name or "ci95" in name]
    assert workspace.must("sync").out.startswith("mlflow: 0 runs added, 3 there already")


def test_the_same_predictions_scored_twice_add_no_run(workspace: Any) -> None:
    workspace.must("sync")
    path = workspace.folder / "results/smoke/scores/dlt/human36m.json"
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


def test_an_experiment_opens_as_scored_runs_with_their_tables(workspace: Any) -> None:
    error = workspace.run("runs").error
    assert "mlflow.db" in error
    assert "poseboard sync" in error
    workspace.must("sync")
    client = MlflowClient(tracking_uri(workspace.folder))
    (name, page) = next(iter(pages(workspace.folder).items()))
    experiment = client.get_experiment_by_name(name)
    assert name == "poseboard-smoke-human36m"
    assert page.startswith(f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning&")
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{page.rpartition('=')[2]}"])
    assert (type(view["name"]), type(view["createdAt"]), type(view["state"])) == (str, int, str)
    state = json.loads(view["state"])
    found = client.search_runs([experiment.experiment_id], state["searchFilter"], order_by=[state["orderByKey"]])
    assert [run.data.tags["kind"] for run in found] == ["score"]
    columns = [column.removeprefix("metrics.").strip("`") for column in state["selectedColumns"]]
    assert {"T1", "T2"} <= set(columns) <= set(found[0].data.metrics)
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`T1`", True)


def test_the_view_is_sorted_by_the_headline_table_and_not_by_that_of_most_rows(workspace: Any) -> None:
    table = "human36m-pa-mpjpe"
    path = workspace.folder / "results/smoke/scores/dlt/human36m.json"
    file = ScoreFile.read(path)
    other = file.scores[0].model_copy(update={"table": table, "headline": False})
    more = file.model_copy(update={"method": "more", "scores": [other]})
    more.write(workspace.folder / "results/smoke/scores/more/human36m.json")
    file.model_copy(update={"scores": [*(s for s in file.scores if s.table != table), other]}).write(path)
    workspace.must("sync")
    (experiment,) = MlflowClient(tracking_uri(workspace.folder)).search_experiments(
        filter_string="name = 'poseboard-smoke-human36m'"
    )
    state = json.loads(json.loads(experiment.tags["mlflow.sharedViewState.scores"])["state"])
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`T1`", True)
    assert f"metrics.`{table}`" in state["selectedColumns"]


def test_the_server_of_runs() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.listen()
        with pytest.raises(InputError, match=f"port {port}: another program uses it"), serving(["true"], port):
            pass
    listens = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port={}, bind='127.0.0.1')"
    with serving([sys.executable, "-c", listens.format(port)], port) as server:
        socket.create_connection(("127.0.0.1", port)).close()
        assert server.poll() is None
    assert server.poll() is not None, "it is stopped"
    with pytest.raises(InputError, match="stopped with exit code 3"), serving(["sh", "-c", "exit 3"], port):
        pass
    assert {"sqlite:///a.db", str(port)} <= set(command("sqlite:///a.db", port))


def test_the_searches_of_the_readme_find_what_they_say(
    workspace: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace.folder / "results/smoke/scores/dlt/human36m.json"
    record = ScoreFile.read(path)
    next(score for score in record.scores if score.table == "T1").value = 64.5
    path.write_text(record.text())
    workspace.must("sync")
    section = README.partition("## Runs in MLflow")[2].partition("\n## ")[0]
    (search,) = re.findall(r"^tags\.kind.*$", section, flags=re.MULTILINE)
    client = MlflowClient(tracking_uri(workspace.folder))
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()]
    (found,) = client.search_runs(everywhere, search)
    assert (found.data.tags["kind"], found.data.tags["method"]) == ("score", "dlt")
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert '"algebraic"' in code
    monkeypatch.chdir(workspace.folder)
    exec(compile(code.replace('"algebraic"', '"dlt"'), "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert "64.5" in out
    assert out.count("dlt/") == 2, "its training and its score"


@contextlib.contextmanager
def databases_without_room(unfinished: bool) -> Iterator[None]:
    """What a full disk is to sqlite: a store that is being made, or one that is there, takes four more pages."""

    limited = []

    def limit(connection: Any, _: object) -> None:
        (path,) = (row[2] for row in connection.execute("PRAGMA database_list"))
        if ("unfinished" in path) == unfinished:
            (used,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {used + 4}")
            limited.append(connection)

    event.listen(Engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)
        for connection in limited:  # kept for the next sync of this process
            with contextlib.suppress(sqlite3.ProgrammingError):
                connection.execute(f"PRAGMA max_page_count = {2**30}")


@pytest.mark.parametrize("unfinished", [True, False], ids=["made", "filled"])
def test_a_database_without_room_is_completed_by_the_next_sync(workspace: Any, unfinished: bool) -> None:
    with databases_without_room(unfinished):
        failed = workspace.run("sync")
    assert str(workspace.folder / "mlflow.db") in failed.error
    assert "(database or disk is full)" in failed.error
    assert failed.err == failed.error + "\n", "one line, and no statement of SQL"
    assert (workspace.folder / "mlflow.db").exists() != unfinished, "no store with half of its tables"
    assert not list(workspace.folder.glob(".mlflow-*"))
    assert re.match(r"mlflow: [123] runs added", workspace.must("sync").out)
    assert len(runs(workspace)) == 3
    assert workspace.must("sync").out.startswith("mlflow: 0 runs added, 3 there already")


def test_a_store_whose_disk_fills_up_in_the_middle_is_completed_by_the_next_sync(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(write: Any, at: int) -> Any:
        calls = []

        def write_without_room(*arguments: Any, **named: Any) -> None:
            calls.append(arguments)
            if len(calls) < at:
                return write(*arguments, **named)
            with no_room_beyond(10):
                write(*arguments, **named)

        return write_without_room

    # The database entries of the second run, and then the copied file of the third.
    for name, at, target in (("log_batch", 2, "mlflow.db"), ("log_artifact", 2, "mlruns")):
        with monkeypatch.context() as patched:
            patched.setattr(MlflowClient, name, full(getattr(MlflowClient, name), at))
            error = workspace.run("sync").error
        assert target in error, name
        assert "/results/" not in error, "not the file that was read"
    assert re.match(r"mlflow: [123] runs added", workspace.must("sync").out)
    found = runs(workspace)
    assert set(found) == {"train/backbone", "train/dlt", "score/dlt"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    client = MlflowClient(tracking_uri(workspace.folder))
    assert {a.path for a in client.list_artifacts(found["score/dlt"].info.run_id)} == {"human36m.json", "scores.json"}


def test_a_store_that_is_none_is_told_at_once(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = workspace.folder / "mlflow.db"
    monkeypatch.setattr(mlflow_sync, "MlflowClient", lambda *_: pytest.fail("MLflow would try for two minutes"))
    store.write_text("this is no database, and long enough to be seen as none" * 100)
    for name in ("sync", "runs"):
        assert f"{store}: MLflow cannot use it (file is not a database)" in workspace.run(name).error
    store.unlink()
    store.mkdir()
    assert f"{store}: MLflow cannot use it (unable to open database file)" in workspace.run("sync").error


def test_sync_says_one_line_where_a_file_is_broken(workspace: Any) -> None:
    path = workspace.folder / "results/smoke/scores/dlt/human36m.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 1, "surprise": 2'))
    done = workspace.run("sync")
    assert "dlt/human36m.json: surprise" in done.error
    assert "run the stage" in done.error
    assert done.out.startswith("mlflow: 2 runs added, 0 there already")


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("dataset",), "x/../../../../../ESC1", "dataset: "),
        (("method",), "../dlt", "method: "),
        (("profile",), "a" * 65, "profile: "),
        (("scores", 0, "table"), "a/../../b", "scores.0.table: "),
        (("provenance", "created"), "0001-01-01T00:00:00+00:00", "provenance.created: is before 1970"),
        (("scores", 0, "curves"), {"x": {"x": [1e30], "y": [1.0], "x_label": "", "y_label": ""}}, "refuses a value"),
    ],
)
def test_one_bad_record_does_not_stop_the_others(workspace: Any, place: tuple[Any, ...], value: Any, says: str) -> None:
    path = workspace.folder / "results/smoke/scores/dlt/human36m.json"
    values = json.loads(path.read_text())
    *parents, last = place
    of_last = values
    for part in parents:
        of_last = of_last[part]
    of_last[last] = value
    bad = workspace.folder / "results/smoke/scores/odd/human36m.json"
    bad.parent.mkdir()
    bad.write_text(json.dumps(values))
    outside = set(workspace.folder.parent.rglob("*")) - set(workspace.folder.rglob("*"))
    done = workspace.run("sync")
    assert says in done.error.partition("odd/human36m.json: ")[2]
    assert done.out.startswith("mlflow: 3 runs added, 0 there already")
    assert set(runs(workspace)) == {"train/backbone", "train/dlt", "score/dlt"}
    assert set(workspace.folder.parent.rglob("*")) - set(workspace.folder.rglob("*")) == outside
    assert workspace.run("sync").out.startswith("mlflow: 0 runs added, 3 there already")
    bad.unlink()
    workspace.must("sync")


def test_each_number_of_a_row_has_a_name_of_its_own() -> None:
    """Of all rows that are recorded, those without extrinsics among them, whose tables are over frames per rig."""
    paths = sorted((ROOT / "results" / "default" / "scores").glob("*/*.json"))
    assert paths
    for path in paths:
        record = ScoreFile.read(path)
        names = [_score_name(score, record) for score in record.scores]
        assert len(set(names)) == len(names), path


def test_runs_sorted_by_a_table_start_with_ranked_rows() -> None:
    """The number of a row with missing predictions, or of a bound, is not under the name that runs are sorted by."""
    record = ScoreFile.read(ROOT / "results" / "default" / "scores" / "dlt" / "human36m.json")
    score = next(one for one in record.scores if one.table == "T1")
    assert _score_name(score, record) == "T1"
    assert _score_name(score.model_copy(update={"n_missing": 3, "n_left_out": 3}), record) == "T1/incomplete"
    assert _score_name(score, record.model_copy(update={"bound": True})) == "T1/bound"
