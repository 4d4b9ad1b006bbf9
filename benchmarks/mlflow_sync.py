"""Brings the MLflow store level with results/: the JSON files are the truth, the store can be thrown away.

One experiment a data set and profile. One flat run a TrainingFile and a ScoreFile, recognised by the hash of what the
file says, date and timing left out, so that a second sync and a second scoring of the same predictions add nothing.
A run has what is looked for first as metrics (T1, T2, losses); n, missing poses and intervals are a table beside them.
A run that is not finished, as a full disk or a kill leaves it, does not count: the next sync writes it anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path

import filelock
import mlflow
import numpy as np
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from poseboard.benchmarks.settings import Settings
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

# MLflow sets its own levels when it is imported, and then tells each table that it makes.
for _name in ("mlflow", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)
# What it tells there as an error, with the whole statement, it raises as well.
logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)

_PREFIX = "poseboard-"
_UNFINISHED = ".mlflow-unfinished-"
_HASH_TAG = "poseboard.file_sha256"
_KIND_TAG = "kind"
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""What the experiment holds; MLflow's page asks for it only where the address does not say `workflowType`."""
_VIEW = "scores"
_VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"
"""MLflow keeps a view that is saved on its page in such a tag: what is searched, the order and the columns."""
_LONGEST_VIEWS = 64
Draw = Callable[[TrainingFile], NDArray[np.uint8]]
"""A picture (H, W, 3) of a training's losses."""


def tracking_uri(home: Path) -> str:
    """Where the store of a checkout is: one sqlite file, named absolutely."""
    return f"sqlite:///{(home / 'mlflow.db').resolve()}"


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: object, _: object) -> None:
    """Each run takes a dozen transactions.

    Where sync is killed, the store stays whole. A crash of the machine can damage it: remove it then.
    """
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def sync(settings: Settings, draw: Draw) -> tuple[int, int, list[str]]:
    """Add the runs that are missing.

    Args:
        settings: whose results, into the store beside its params.yaml.
        draw: the losses of a training as a picture; called only for a run that is added.

    Returns:
        How many runs were added, how many the store had already, and a line for each file that cannot be a run: it
        does not follow its schema, or MLflow refuses a value in it.

    Raises:
        InputError: the store cannot be used, or the disk is full.
    """
    files: dict[Path, TrainingFile | ScoreFile] = {}
    refused: list[str] = []
    kinds: dict[RowKind, type[TrainingFile | ScoreFile]] = {"training": TrainingFile, "scores": ScoreFile}
    for folder, kind in kinds.items():
        for path in row_paths(settings.results, folder):
            try:
                files[path] = kind.read(path)
            except ResultError as error:
                refused.append(str(error))
    with filelock.FileLock(settings.home / "mlflow.db.lock"), _problems(settings.home):
        added, refused_by_store = _add(settings, files, draw)
    return added, len(files) - added - len(refused_by_store), [*refused, *refused_by_store]


def _add(settings: Settings, files: Mapping[Path, TrainingFile | ScoreFile], draw: Draw) -> tuple[int, list[str]]:
    if (settings.home / "mlflow.db").exists():
        _read_store(settings.home)
    else:
        _make_store(settings.home)
    mlflow.set_tracking_uri(tracking_uri(settings.home))
    client = MlflowClient()
    experiments = {
        dataset: _experiment(client, settings, dataset)
        for dataset in dict.fromkeys(record.dataset for record in files.values())
    }
    known: dict[str, str] = {}
    trained: dict[tuple[str, ...], str] = {}
    for run in mlflow.search_runs(list(experiments.values()), output_format="list", max_results=50_000):
        tags = run.data.tags
        if _HASH_TAG in tags and run.info.status == RunStatus.to_string(RunStatus.FINISHED):
            known[tags[_HASH_TAG]] = run.info.run_id
        elif _KIND_TAG in tags:
            client.delete_run(run.info.run_id)  # what a sync that was cut short left
    added = 0
    refused: list[str] = []
    for path, record in files.items():  # trainings come first
        digest = _digest(record)
        weights = (record.dataset, record.method, *sorted(record.provenance.checkpoint_sha256.values()))
        if digest not in known:
            links = {}
            if isinstance(record, ScoreFile) and weights in trained:
                where = f"#/experiments/{experiments[record.dataset]}/runs/{trained[weights]}"
                links = {"train_run": trained[weights], "mlflow.note.content": f"Weights of [this training]({where})."}
            try:
                known[digest] = _write(client, experiments[record.dataset], path, record, digest, links, draw)
            except (MlflowException, ValueError, OverflowError) as error:
                if _database_error(error) is not None:
                    raise
                refused.append(f"{path}: MLflow refuses a value ({_words(error)}); run its stage again")
                continue
            added += 1
        if isinstance(record, TrainingFile):
            trained[weights] = known[digest]
    for dataset, experiment in experiments.items():
        records = [r for r in files.values() if isinstance(r, ScoreFile) and r.dataset == dataset]
        _save_view(client, client.get_experiment(experiment), records)
    return added, refused


def _read_store(home: Path) -> None:
    """Where it is no database, MLflow tries ten times within two minutes before it says so."""
    with closing(sqlite3.connect(home / "mlflow.db")) as store:
        store.execute("SELECT count(*) FROM sqlite_master")


def _make_store(home: Path) -> None:
    """All its tables or no file: MLflow cannot go on from the half of them that a full disk or a kill leaves."""
    for left in home.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=home) as folder:
        MlflowClient(tracking_uri(Path(folder)))  # makes them
        (Path(folder) / "mlflow.db").replace(home / "mlflow.db")


def _save_view(client: MlflowClient, experiment: Experiment, records: Sequence[ScoreFile]) -> None:
    """The scored runs, best first, with their tables as columns: as MLflow opens an experiment, no metric is shown."""
    rows: dict[str, list[Score]] = {}
    for record in records:
        for score in record.scores:
            rows.setdefault(_score_name(score, record), []).append(score)
    # Headline tables come first, then those that most rows have. A number of one set of cameras is left to the list of
    # columns.
    tables = sorted(
        (name for name in rows if "/" not in name),
        key=lambda name: (not rows[name][0].headline, -len(rows[name]), name),
    )
    if not tables:
        return
    state = {
        "searchFilter": f'tags.{_KIND_TAG} = "score"',
        "orderByKey": f"metrics.`{tables[0]}`",
        "orderByAsc": rows[tables[0]][0].lower_is_better,
        "selectedColumns": [f"metrics.`{name}`" for name in tables],
    }
    view = json.dumps({"name": "Scores", "createdAt": experiment.creation_time, "state": json.dumps(state)})
    if experiment.tags.get(_VIEW_TAG) != view:
        client.set_experiment_tag(experiment.experiment_id, _VIEW_TAG, view)


def pages(store: Path) -> dict[str, str]:
    """Each experiment of a store with where it is on the server's page: its runs, and not traces of a language model.

    MLflow 3 opens in the latter unless the address or an earlier choice in the same browser says otherwise.

    Args:
        store: a checkout's folder, that ``mlflow.db`` is in.

    Raises:
        InputError: there is no store, or it cannot be used.

    Example:
        >>> pages(Path("."))  # doctest: +SKIP
        {'poseboard-default-human36m': '#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=scores'}
    """
    if not (store / "mlflow.db").exists():
        raise InputError(store / "mlflow.db", "no run has been logged yet", "run `make repro`, or `poseboard sync`")
    with _problems(store):
        _read_store(store)
        experiments = MlflowClient(tracking_uri(store)).search_experiments(
            filter_string=f"name LIKE '{_PREFIX}%'", order_by=["experiment_id ASC"]
        )
    view = {True: f"&viewStateShareKey={_VIEW}", False: ""}
    return {
        experiment.name: f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
        + view[_VIEW_TAG in experiment.tags]
        for experiment in experiments
    }


def _database_error(error: BaseException) -> BaseException | None:
    """What the database raised below an error of MLflow; None: MLflow refused a value itself."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DBAPIError) and cause.orig is not None:
            return cause.orig
        cause = cause.__cause__ or cause.__context__
    return None


def _words(error: BaseException) -> str:
    """The database's own words, without the statement; MLflow's first line where it was not the database."""
    return str(_database_error(error) or str(error).partition("\n")[0][:160])


@contextmanager
def _problems(home: Path) -> Iterator[None]:
    """Of the store, as one line that names it."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise InputError(
            home / "mlflow.db",
            f"MLflow cannot use it ({_words(error)})",
            "free disk space and run it again, or move it away: a sync makes it anew",
        ) from error
    except OSError as error:
        # A copy that fails names its source first, which is not what is to be mended.
        place = error.filename2 or error.filename or home / "mlruns"
        raise OSError(error.errno, error.strerror, str(place)) from error


def _digest(record: TrainingFile | ScoreFile) -> str:
    """Of what a file says, without when it was made and how long it took."""
    values = record.model_dump(mode="json")
    for part, passing in (
        (values["provenance"], Provenance.passing),
        *((r, TrainingRun.passing) for r in values.get("runs", ())),
    ):
        for name in passing:
            del part[name]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _experiment(client: MlflowClient, settings: Settings, dataset: str) -> str:
    name = f"{_PREFIX}{settings.params.profile}-{dataset}"
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    location = (settings.home / "mlruns" / name).resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=location, tags=_EXPERIMENT_TAGS))


def _write(
    client: MlflowClient,
    experiment: str,
    path: Path,
    record: TrainingFile | ScoreFile,
    digest: str,
    links: Mapping[str, str],
    draw: Draw,
) -> str:
    kind = "train" if isinstance(record, TrainingFile) else "score"
    made = record.provenance
    moment = int(datetime.fromisoformat(made.created).timestamp() * 1000)
    tags = {
        _HASH_TAG: digest,
        _KIND_TAG: kind,
        "dataset": record.dataset,
        "method": record.method,
        "synthetic": str(record.synthetic),
        **({} if made.git_commit is None else {"mlflow.source.git.commit": made.git_commit}),
        **({} if made.git_dirty is None else {"git_dirty": str(made.git_dirty)}),
        "hardware": made.hardware,
        **{f"checkpoint.{seed}": sha256 for seed, sha256 in made.checkpoint_sha256.items()},
        **links,
    }
    began = moment
    if isinstance(record, TrainingFile):
        metrics, params = _training(record, moment), {"after": record.after or "", "parameters": str(record.parameters)}
        began -= int(1000 * sum(run.seconds for run in record.runs))
    else:
        metrics, params = _scores(record, moment), {"source": record.source}
        tags["protocol"] = ", ".join(sorted({score.protocol for score in record.scores}))
        tags |= {f"signature.{_score_name(score, record)}": str(score.signature) for score in record.scores}
    params |= _provenance(made)
    name = made.mlflow_run
    if not name.startswith(f"{record.method}/"):  # of a file that an older version wrote
        name = f"{record.method}/{kind}/{record.dataset}/{record.profile}/{made.created}"
    run = client.create_run(experiment, start_time=began, run_name=name, tags=tags)
    rows = [Param(_plain(key), value[:500]) for key, value in params.items()]
    try:
        client.log_batch(run.info.run_id, metrics=metrics, params=rows)
        client.log_artifact(run.info.run_id, str(path))
        _log_more(client, run.info.run_id, record, draw)
    except (MlflowException, ValueError, OverflowError):
        with suppress(MlflowException):
            client.delete_run(run.info.run_id)
        raise
    # Last: a run cut short is not taken for a whole one and is written anew.
    client.set_terminated(run.info.run_id, end_time=moment)
    return str(run.info.run_id)


def _log_more(client: MlflowClient, run: str, record: TrainingFile | ScoreFile, draw: Draw) -> None:
    """The data set it was made on, and the losses as a figure or the scores as a table."""
    data = Dataset(
        name=record.dataset,
        digest=record.provenance.data_manifest[:36],
        source_type="synthetic" if record.synthetic else "local",
        source=json.dumps({"manifest": record.provenance.data_manifest}),
    )
    context = "training" if isinstance(record, TrainingFile) else "testing"
    client.log_inputs(run, [DatasetInput(data, [InputTag("mlflow.data.context", context)])])
    if isinstance(record, ScoreFile):
        rows = [
            {
                "table": score.table,
                "views": score.signature.views,
                "metric": score.signature.metric,
                "value": score.value,
                "unit": score.unit,
                "ci95_low": None if score.ci95 is None else score.ci95[0],
                "ci95_high": None if score.ci95 is None else score.ci95[1],
                "n_samples": score.n_samples,
                "n_missing": score.n_missing,
                "secondary": json.dumps(score.secondary),
            }
            for score in record.scores
        ]
        client.log_table(run, {name: [row[name] for row in rows] for name in rows[0]} if rows else {}, "scores.json")
    elif any(one.curves for one in record.runs):
        client.log_image(run, draw(record), artifact_file="losses.png")


def _training(record: TrainingFile, moment: int) -> list[Metric]:
    metrics = []
    for run in record.runs:
        seed = f"seed{run.seed}"
        times = {"seconds": run.seconds, "processor_seconds": run.processor_seconds, "gpu_seconds": run.gpu_seconds}
        metrics += [Metric(f"{seed}/{name}", value, moment, 0) for name, value in times.items() if value is not None]
        metrics += [Metric(f"{seed}/{_plain(name)}", value, moment, 0) for name, value in run.constants.items()]
        for name, curve in run.curves.items():
            metrics += _points(f"{seed}/{_plain(name)}", curve, moment)
    return metrics


def _points(name: str, curve: Curve, moment: int) -> list[Metric]:
    return [Metric(name, y, moment, round(x)) for x, y in zip(curve.x, curve.y, strict=True) if y is not None]


def _plain(name: str) -> str:
    """A name from a file as MLflow admits it."""
    return re.sub(r"[^\w\-./ ]", "_", name)[:200]


def _score_name(score: Score, record: ScoreFile) -> str:
    """The table, and where it has several numbers what was shown: under one name one would hide the others.

    Numbers without a rank have a name of their own, or runs sorted by a table would have them first.
    """
    unranked = "/bound" if record.bound else "/incomplete" if score.n_left_out else ""
    of_table = [other.signature for other in record.scores if other.table == score.table]
    if len(of_table) == 1:
        return f"{_plain(score.table)}{unranked}"
    signature = score.signature
    views = "all" if signature.whole else "_".join("-".join(cameras) for cameras in signature.cameras)
    if len(views) > _LONGEST_VIEWS:
        views = f"{len(signature.cameras[0])}-cameras-{hashlib.sha256(views.encode()).hexdigest()[:8]}"
    if signature.frames_per_rig > 1:
        views += f"/{signature.frames_per_rig}-frames-per-rig"
    if (spoiled := signature.perturbation) is not None:
        views += f"/{spoiled.kind}-{'area' if signature.severities else spoiled.severity}"
    if signature.trained_on != of_table[0].trained_on:
        views += f"/trained-on-{'-'.join(signature.trained_on or (record.dataset,))}"
    return f"{_plain(score.table)}/{_plain(views)}{unranked}"


def _scores(record: ScoreFile, moment: int) -> list[Metric]:
    metrics = []
    for score in record.scores:
        table = _score_name(score, record)
        values = {table: score.value}
        if len(score.seeds) > 1:
            values |= {f"{table}/seed{one.seed}": one.value for one in score.seeds}
        metrics += [Metric(name, value, moment, 0) for name, value in values.items() if value is not None]
    # With x as the step: the threshold of a PCK curve, or the number of cameras, a curve that all of a table share.
    curves = {f"{_plain(s.table)}/{_plain(name)}": curve for s in record.scores for name, curve in s.curves.items()}
    return metrics + [point for name, curve in curves.items() for point in _points(f"{name}_curve", curve, moment)]


def _provenance(made: Provenance) -> dict[str, str]:
    values = {f"options.{name}": str(value) for name, value in made.options.items()}
    values |= {"seeds": ", ".join(map(str, made.seeds))}
    values |= {"params_sha256": made.params_sha256, "data_manifest": made.data_manifest}
    return values | {f"version_{name}": version for name, version in made.versions.items()}
