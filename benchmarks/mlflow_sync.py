"""Copies of the trainings and scores in results/ in an MLflow store. The JSON files are authoritative.

The store has one experiment per profile and data set, and one run without children per training file and score file. A
run is identified by a hash of its file without dates and timings, so a second sync adds nothing. An interrupted run
never reaches the status FINISHED; the next sync deletes and rewrites it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import filelock
from mlflow.entities import Experiment, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.protocols.records import (
    Curve,
    Provenance,
    ResultError,
    RowKind,
    Score,
    ScoreFile,
    TrainingFile,
    TrainingRun,
    row_paths,
)
from poseboard.report.formatting import file_name

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db").setLevel(
    logging.CRITICAL
)  # logs whole SQL statements of errors that it raises too

HOST, PORT = "127.0.0.1", 5000
_PREFIX = "poseboard-"
_HASH_TAG = "poseboard.file_sha256"
_KIND_TAG = "kind"
_VIEW_TAG = "mlflow.sharedViewState.scores"
"""MLflow's page keeps a saved view (filter, order, columns) in such a tag of the experiment."""
_MAX_LABEL = 64
_FINISHED = "attributes.status = 'FINISHED'"
_KINDS: dict[RowKind, type[TrainingFile | ScoreFile]] = {"training": TrainingFile, "scores": ScoreFile}


def tracking_uri(home: Path) -> str:
    """Absolute URI of the SQLite store of a checkout."""
    return f"sqlite:///{(home / 'mlflow.db').resolve()}"


def sync(home: Path, profile: str, results: Path) -> tuple[int, int, list[str]]:
    """Add runs to the store for all new training and score files.

    Args:
        home: folder of mlflow.db and mlruns/.
        profile: name of the profile, which is part of the experiments' names.
        results: results folder of the profile.

    Returns:
        Number of runs added, number of runs already in the store, and a line for each file that was skipped because it
        does not follow its schema or because MLflow refuses a value.

    Raises:
        InputError: the store cannot be used.
        OSError: an artifact cannot be written.
    """
    files: dict[Path, TrainingFile | ScoreFile] = {}
    skipped: list[str] = []
    for folder, record_type in _KINDS.items():
        for path in row_paths(results, folder):
            try:
                files[path] = record_type.read(path)
            except ResultError as error:
                skipped.append(str(error))
    added = kept = 0
    with filelock.FileLock(home / "mlflow.db.lock"), _store_problems(home):
        client = _open_store(home)
        for dataset in dict.fromkeys(record.dataset for record in files.values()):
            records = {path: record for path, record in files.items() if record.dataset == dataset}
            experiment = _experiment(client, home, f"{_PREFIX}{profile}-{dataset}")
            finished = _finished_runs(client, experiment)
            for path, record in records.items():
                digest = _digest(record)
                if digest in finished:
                    kept += 1
                    continue
                try:
                    _write(client, experiment, path, record, digest)
                    added += 1
                except (MlflowException, ValueError, OverflowError) as error:
                    if _database_error(error):
                        raise
                    reason = str(error).partition("\n")[0][:160]
                    skipped.append(f"{path}: MLflow refuses a value ({reason}); run its stage again")
            _save_view(client, experiment, [r for r in records.values() if isinstance(r, ScoreFile)])
    return added, kept, skipped


def server_command(home: Path, port: int) -> list[str]:
    """Command that starts MLflow's server for the store of a checkout, in one process."""
    server = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracking_uri(home), "--workers", "1"]
    # At its usual log level it prints every request, and an address that opens the view of traces.
    return [*server, "--host", HOST, "--port", str(port), "--uvicorn-opts", "--log-level warning"]


def pages(home: Path) -> dict[str, str]:
    """Map experiment names to addresses on the server. The addresses select the table of runs, not MLflow 3's traces.

    Args:
        home: folder of mlflow.db.

    Raises:
        InputError: the store does not exist or cannot be used.

    Example:
        >>> pages(Path("."))  # doctest: +SKIP
        {'poseboard-default-human36m': '#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=scores'}
    """
    with _store_problems(home):
        experiments = _experiments(_existing_store(home))
    return {
        experiment.name: f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
        + ("&viewStateShareKey=scores" if _VIEW_TAG in experiment.tags else "")
        for experiment in experiments
    }


def run_addresses(home: Path, row: str | None = None, port: int = PORT) -> dict[str, str]:
    """Map names of finished runs (`Provenance.mlflow_run`) to their addresses on the server.

    Args:
        home: folder of mlflow.db.
        row: name of a row; None: all rows.
        port: port of the server.

    Raises:
        InputError: the store does not exist, cannot be used, or has no run of the row.

    Example:
        >>> run_addresses(Path("."), "dlt")  # doctest: +SKIP
        {'dlt/score/human36m/default/2026-11-21…': 'http://127.0.0.1:5000/#/experiments/1/runs/0d1c…', …}
    """
    with _store_problems(home):
        client = _existing_store(home)
        experiments = [experiment.experiment_id for experiment in _experiments(client)]
        runs = client.search_runs(experiments, _FINISHED, max_results=50_000, order_by=["attributes.start_time ASC"])
    rows = dict.fromkeys(run.data.tags.get("method", "") for run in runs)
    if row is not None and row not in rows:
        raise InputError(home / "mlflow.db", f"has no run of row {row!r}", did_you_mean(row, rows))
    return {
        str(run.info.run_name): f"http://{HOST}:{port}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        for run in runs
        if _HASH_TAG in run.data.tags and row in (None, run.data.tags.get("method"))
    }


def _experiments(client: MlflowClient) -> list[Experiment]:
    return list(client.search_experiments(filter_string=f"name LIKE '{_PREFIX}%'", order_by=["experiment_id ASC"]))


def _existing_store(home: Path) -> MlflowClient:
    """Client of an existing store; raise InputError if there is no store."""
    if not (home / "mlflow.db").exists():
        raise InputError(home / "mlflow.db", "no run has been logged yet", "run `make repro`, or `poseboard sync`")
    return _open_store(home)


def _open_store(home: Path) -> MlflowClient:
    """Client of a store; a new store is moved into place only when all its tables exist."""
    store = home / "mlflow.db"
    if store.exists():
        # For a file that is not a database MLflow itself retries for two minutes.
        with closing(sqlite3.connect(store)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master")
    else:
        with tempfile.TemporaryDirectory(prefix=".mlflow-unfinished-", dir=home) as folder:
            MlflowClient(tracking_uri(Path(folder)))  # creates the tables
            (Path(folder) / "mlflow.db").replace(store)
    return MlflowClient(tracking_uri(home))


@contextmanager
def _store_problems(home: Path) -> Iterator[None]:
    """Convert errors of the database and the artifact folder to an InputError that names the store."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(home / "mlruns")) from error
    except Exception as error:  # MLflow and SQLAlchemy wrap the database's errors in several types
        reason = _database_error(error)
        if reason is None:
            raise
        remedy = "free disk space and run the command again, or move the file away: `poseboard sync` creates a new one"
        raise InputError(home / "mlflow.db", f"MLflow cannot use it ({reason})", remedy) from error


def _database_error(error: BaseException | None) -> sqlite3.Error | None:
    while error is not None and not isinstance(error, sqlite3.Error):
        error = error.__cause__ or error.__context__
    return error


def _experiment(client: MlflowClient, home: Path, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    # Without the kind, MLflow's page asks what the experiment holds.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    location = (home / "mlruns" / name).resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=location, tags=tags))


def _finished_runs(client: MlflowClient, experiment: str) -> set[str]:
    """File hashes of all complete runs; deletes unfinished runs and runs with missing artifacts."""
    finished = set()
    for run in client.search_runs([experiment], max_results=50_000):
        folder = urlsplit(run.info.artifact_uri)
        is_whole = folder.scheme not in ("", "file") or Path(unquote(folder.path)).is_dir()
        if run.info.status == "FINISHED" and is_whole:
            finished.add(run.data.tags.get(_HASH_TAG, ""))
        elif _HASH_TAG in run.data.tags:
            client.delete_run(run.info.run_id)
    return finished


def _digest(record: TrainingFile | ScoreFile) -> str:
    """Hash of a file's content without dates and timings."""
    values = record.model_dump(mode="json")
    for name in Provenance.passing:
        del values["provenance"][name]
    for run in values.get("runs", ()):
        for name in TrainingRun.passing:
            del run[name]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _write(client: MlflowClient, experiment: str, path: Path, record: TrainingFile | ScoreFile, digest: str) -> None:
    made = record.provenance
    end_ms = int(datetime.fromisoformat(made.created).timestamp() * 1000)
    tags = {
        _HASH_TAG: digest,
        "dataset": record.dataset,
        "method": record.method,
        "synthetic": str(record.synthetic),
        "hardware": made.hardware,
        # Links a score to the training of its weights.
        **{f"checkpoint.{seed}": sha256 for seed, sha256 in made.checkpoint_sha256.items()},
    }
    page = path.resolve().parents[2] / "leaderboard" / "methods" / f"{file_name(record.method)}.html"
    tags["mlflow.note.content"] = f"Page of the row, which `poseboard report` writes: {page.as_uri()}"
    if made.git_commit is not None:
        tags |= {"mlflow.source.git.commit": made.git_commit, "git_dirty": str(made.git_dirty)}
    params = {f"options.{name}": str(value) for name, value in made.options.items()}
    params |= {"seeds": ", ".join(map(str, made.seeds)), "data_manifest": made.data_manifest}
    params |= {f"version_{name}": version for name, version in made.versions.items()}
    start_ms = end_ms
    if isinstance(record, TrainingFile):
        tags[_KIND_TAG] = "train"
        params |= {"after": record.after or "", "parameters": str(record.parameters)}
        start_ms -= int(1000 * sum(run.seconds for run in record.runs))
        metrics = _training_metrics(record, end_ms)
    else:
        tags |= {_KIND_TAG: "score", "protocol": ", ".join(sorted({score.protocol for score in record.scores}))}
        tags |= _signature_tags(record)
        metrics = _score_metrics(record, end_ms)
    run = client.create_run(experiment, start_time=start_ms, run_name=made.mlflow_run, tags=tags).info.run_id
    try:
        client.log_batch(run, metrics=metrics, params=[Param(_plain(k), v[:500]) for k, v in params.items()])
        client.log_artifact(run, str(path))
        if isinstance(record, ScoreFile):
            signatures = {_metric_name(score, record): score.signature.facts for score in record.scores}
            client.log_dict(run, signatures, "signatures.json")
    except (MlflowException, ValueError, OverflowError):
        with suppress(MlflowException):
            client.delete_run(run)
        raise
    client.set_terminated(run, end_time=end_ms)  # last: only a complete run is FINISHED


def _signature_tags(record: ScoreFile) -> dict[str, str]:
    """Three facts of the first headline score as tags; the artifact signatures.json has all facts of all scores."""
    if not record.scores:
        return {}
    signature = next((score for score in record.scores if score.headline), record.scores[0]).signature
    return {
        "signature.measure": f"{signature.metric}, alignment {signature.alignment}",
        "signature.cameras": signature.views,
        "signature.trained_on": signature.trained,
    }


def _training_metrics(record: TrainingFile, moment: int) -> list[Metric]:
    metrics = []
    for run in record.runs:
        values = {name: getattr(run, name) for name in sorted(TrainingRun.passing)} | run.constants
        metrics += [Metric(f"seed{run.seed}/{_plain(k)}", v, moment, 0) for k, v in values.items() if v is not None]
        for name, curve in run.curves.items():
            metrics += _points(f"seed{run.seed}/{_plain(name)}", curve, moment)
    return metrics


def _score_metrics(record: ScoreFile, moment: int) -> list[Metric]:
    values: dict[str, float | None] = {}
    curves: dict[str, Curve] = {}
    for score in record.scores:
        name = _metric_name(score, record)
        values[name] = score.value
        if len(score.seeds) > 1:
            values |= {f"{name}/seed{seed.seed}": seed.value for seed in score.seeds}
        # All numbers of a table have the same curve over its axis.
        curves |= {f"{_plain(score.table)}/{_plain(curve)}_curve": points for curve, points in score.curves.items()}
    metrics = [Metric(name, value, moment, 0) for name, value in values.items() if value is not None]
    return metrics + [point for name, curve in curves.items() for point in _points(name, curve, moment)]


def _points(name: str, curve: Curve, moment: int) -> list[Metric]:
    """Curve as an MLflow metric; the step is x, such as a training step, a threshold or a number of cameras."""
    return [Metric(name, y, moment, round(x)) for x, y in zip(curve.x, curve.y, strict=True) if y is not None]


def _metric_name(score: Score, record: ScoreFile) -> str:
    """Metric name of a score: table, facts that distinguish its scores, and why the row has no rank.

    Unranked scores have another name, so that runs sorted by a table start with ranked rows.
    """
    of_table = [other.signature.facts for other in record.scores if other.table == score.table]
    facts = score.signature.facts
    differing = [words for name, words in facts.items() if any(other.get(name) != words for other in of_table)]
    label = "/".join(differing)
    if len(label) > _MAX_LABEL:
        label = f"{label[: _MAX_LABEL - 9]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    unranked = "bound" if record.bound else "incomplete" if score.n_left_out else ""
    return _plain("/".join(part for part in (score.table, label, unranked) if part))


def _plain(name: str) -> str:
    """Replace the characters of a name that MLflow does not allow."""
    return re.sub(r"[^\w./-]+", "-", name).strip("-")[:200]


def _save_view(client: MlflowClient, experiment: str, records: list[ScoreFile]) -> None:
    """Save the view for the addresses of `pages`: scored runs, tables as columns, sorted by the headline table."""
    scores = [s for record in records for s in record.scores if _metric_name(s, record) == s.table]
    if not scores:
        return
    rows = {table: [score for score in scores if score.table == table] for table in {s.table for s in scores}}
    tables = sorted(rows, key=lambda table: (not rows[table][0].headline, -len(rows[table]), table))
    state = {
        "searchFilter": f'tags.{_KIND_TAG} = "score"',
        "orderByKey": f"metrics.`{tables[0]}`",
        "orderByAsc": rows[tables[0]][0].lower_is_better,
        "selectedColumns": [f"metrics.`{table}`" for table in tables],
    }
    view = {"name": "Scores", "createdAt": client.get_experiment(experiment).creation_time, "state": json.dumps(state)}
    client.set_experiment_tag(experiment, _VIEW_TAG, json.dumps(view))
