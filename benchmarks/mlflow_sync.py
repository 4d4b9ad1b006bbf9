"""Copies the trainings and scores in results/ into an MLflow store. The JSON files are the truth; the store is a view.

One experiment per profile and data set, one flat run per training file and score file. A run is recognised by a hash of
its file without dates and timings, so a second sync adds nothing. A run that a kill or a full disk cut short never
reaches the status FINISHED; the next sync deletes and rewrites it.
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

import filelock
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from poseboard.datasets.errors import InputError
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

for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)
logging.getLogger("mlflow.store.db").setLevel(
    logging.CRITICAL
)  # logs whole SQL statements of errors that it raises too

HOST = "127.0.0.1"
_PREFIX = "poseboard-"
_HASH_TAG = "poseboard.file_sha256"
_KIND_TAG = "kind"
_VIEW_TAG = "mlflow.sharedViewState.scores"
"""MLflow's page keeps a saved view (filter, order, columns) in such a tag of the experiment."""
_MAX_LABEL = 64
_KINDS: dict[RowKind, type[TrainingFile | ScoreFile]] = {"training": TrainingFile, "scores": ScoreFile}


def tracking_uri(home: Path) -> str:
    """Absolute URI of the sqlite store of a checkout."""
    return f"sqlite:///{(home / 'mlflow.db').resolve()}"


def sync(home: Path, profile: str, results: Path) -> tuple[int, int, list[str]]:
    """Add the runs of all training and score files that the store does not have.

    Args:
        home: folder of mlflow.db and mlruns/.
        profile: name, for the experiments.
        results: results/<profile>.

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
    """Command of MLflow's own server of the store of a checkout, in one process."""
    server = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracking_uri(home), "--workers", "1"]
    # At its usual log level it prints every request, and an address that opens the view of traces.
    return [*server, "--host", HOST, "--port", str(port), "--uvicorn-opts", "--log-level warning"]


def pages(home: Path) -> dict[str, str]:
    """Name of each experiment -> its address on the server; MLflow 3 opens a bare address in a view of traces.

    Args:
        home: folder of mlflow.db.

    Raises:
        InputError: there is no store, or it cannot be used.

    Example:
        >>> pages(Path("."))  # doctest: +SKIP
        {'poseboard-default-human36m': '#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=scores'}
    """
    if not (home / "mlflow.db").exists():
        raise InputError(home / "mlflow.db", "no run has been logged yet", "run `make repro`, or `poseboard sync`")
    with _store_problems(home):
        experiments = _open_store(home).search_experiments(
            filter_string=f"name LIKE '{_PREFIX}%'", order_by=["experiment_id ASC"]
        )
    return {
        experiment.name: f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
        + ("&viewStateShareKey=scores" if _VIEW_TAG in experiment.tags else "")
        for experiment in experiments
    }


def _open_store(home: Path) -> MlflowClient:
    """The client of a store; a new store takes its place only when it has all its tables."""
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
    """Turn errors of the database and of the artifact folder into one line that names it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(home / "mlruns")) from error
    except Exception as error:  # MLflow and SQLAlchemy wrap the database's errors in several types
        reason = _database_error(error)
        if reason is None:
            raise
        remedy = "free disk space and run it again, or move it away: a sync makes it anew"
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
    """Hashes of the files whose runs are complete; deletes unfinished runs."""
    finished = set()
    for run in client.search_runs([experiment], max_results=50_000):
        if run.info.status == "FINISHED":
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
        metrics = _score_metrics(record, end_ms)
    run = client.create_run(experiment, start_time=start_ms, run_name=made.mlflow_run, tags=tags).info.run_id
    try:
        client.log_batch(run, metrics=metrics, params=[Param(_plain(k), v[:500]) for k, v in params.items()])
        client.log_artifact(run, str(path))
    except (MlflowException, ValueError, OverflowError):
        with suppress(MlflowException):
            client.delete_run(run)
        raise
    client.set_terminated(run, end_time=end_ms)  # last: only a complete run is FINISHED


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
    """A curve as a metric over steps: step = x, such as a training step, a threshold or a number of cameras."""
    return [Metric(name, y, moment, round(x)) for x, y in zip(curve.x, curve.y, strict=True) if y is not None]


def _metric_name(score: Score, record: ScoreFile) -> str:
    """Table, plus the facts in which its numbers differ, plus why the row has no rank.

    Unranked numbers get their own name, so that runs sorted by a table start with ranked rows.
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
    """A name with only the characters that MLflow admits."""
    return re.sub(r"[^\w./-]+", "-", name).strip("-")[:200]


def _save_view(client: MlflowClient, experiment: str, records: list[ScoreFile]) -> None:
    """Save the view that `pages` opens: scored runs with their tables as columns, sorted by the headline table."""
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
