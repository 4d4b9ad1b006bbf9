"""Brings the MLflow store level with results/: the JSON files are the truth, the store can be thrown away.

One flat run a TrainingFile and a ScoreFile, recognised by the hash of the file, so that a second sync adds nothing and
a stage restored from DVC's cache still has its run.
"""

from __future__ import annotations

import hashlib
import time
from datetime import datetime
from pathlib import Path

import filelock
import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from poseboard.benchmarks.settings import Settings
from poseboard.protocols.scores import Provenance, ScoreFile, TrainingFile

_HASH_TAG = "poseboard.file_sha256"
_BATCH = 1000
"""Metrics that MLflow takes in one call."""


def tracking_uri(home: Path) -> str:
    """Where the store of a checkout is: one sqlite file, named absolutely."""
    return f"sqlite:///{(home / 'mlflow.db').resolve()}"


def sync(settings: Settings) -> tuple[int, int]:
    """Add the runs that are missing; (added, already there).

    Raises:
        ResultError: a file in results/ does not follow its schema.
    """
    files = {
        path: kind.read(path)
        for folder, kind in (("training", TrainingFile), ("scores", ScoreFile))
        for path in sorted((settings.results / folder).glob("*/*.json"))
    }
    with filelock.FileLock(settings.home / "mlflow.db.lock"):
        mlflow.set_tracking_uri(tracking_uri(settings.home))
        client = MlflowClient()
        experiment = _experiment(client, settings)
        known = {
            run.data.tags.get(_HASH_TAG)
            for run in mlflow.search_runs([experiment], output_format="list", max_results=50_000)
        }
        added = 0
        for path, record in files.items():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest not in known:
                _write(client, experiment, path, record, digest)
                added += 1
    return added, len(files) - added


def _experiment(client: MlflowClient, settings: Settings) -> str:
    name = f"poseboard-{settings.params.profile}"
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = (settings.home / "mlruns" / name).resolve().as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def _write(client: MlflowClient, experiment: str, path: Path, record: TrainingFile | ScoreFile, digest: str) -> None:
    kind = "train" if isinstance(record, TrainingFile) else "score"
    made = record.provenance
    moment = int(datetime.fromisoformat(made.created).timestamp() * 1000)
    tags = {
        "kind": kind,
        "dataset": record.dataset,
        "method": record.method,
        "synthetic": str(record.synthetic),
        "mlflow.source.git.commit": made.git_commit,
        "git_dirty": str(made.git_dirty),
        "hardware": made.hardware,
    }
    if isinstance(record, TrainingFile):
        metrics, params = _training(record, moment), {"after": record.after or "", "parameters": str(record.parameters)}
    else:
        metrics, params = _scores(record, moment), {}
        tags["protocol"] = ", ".join(sorted({score.protocol for score in record.scores}))
        tags |= {f"signature.{score.table}": str(score.signature) for score in record.scores}
    params |= _provenance(made)
    run = client.create_run(experiment, start_time=moment, run_name=made.mlflow_run, tags=tags)
    for start in range(0, max(len(metrics), 1), _BATCH):
        rows = [Param(key, value[:500]) for key, value in params.items()] if start == 0 else []
        client.log_batch(run.info.run_id, metrics=metrics[start : start + _BATCH], params=rows)
    client.log_artifact(run.info.run_id, str(path))
    # The hash comes last: a run cut short is not taken for a whole one and is written anew.
    client.log_batch(run.info.run_id, tags=[RunTag(_HASH_TAG, digest)])
    client.set_terminated(run.info.run_id, end_time=int(time.time() * 1000))


def _training(record: TrainingFile, moment: int) -> list[Metric]:
    metrics = []
    for run in record.runs:
        seed = f"seed{run.seed}"
        metrics.append(Metric(f"{seed}/seconds", run.seconds, moment, 0))
        metrics += [Metric(f"{seed}/{name}", value, moment, 0) for name, value in run.constants.items()]
        for name, curve in run.curves.items():
            points = zip(curve.x, curve.y, strict=True)
            metrics += [Metric(f"{seed}/{name}", y, moment, int(x)) for x, y in points if y is not None]
    return metrics


def _scores(record: ScoreFile, moment: int) -> list[Metric]:
    metrics = []
    for score in record.scores:
        values = {score.table: score.value} | {f"{score.table}/seed{one.seed}": one.value for one in score.seeds}
        if score.ci95 is not None:
            values |= {f"{score.table}/ci95_low": score.ci95[0], f"{score.table}/ci95_high": score.ci95[1]}
        values |= {f"{score.table}/n_missing": score.n_missing, f"{score.table}/n_samples": score.n_samples}
        metrics += [Metric(name, value, moment, 0) for name, value in values.items() if value is not None]
    return metrics


def _provenance(made: Provenance) -> dict[str, str]:
    values = {"params_sha256": made.params_sha256, "data_manifest": made.data_manifest}
    values |= {f"checkpoint_{seed}": digest for seed, digest in made.checkpoint_sha256.items()}
    return values | {f"version_{name}": version for name, version in made.versions.items()}
