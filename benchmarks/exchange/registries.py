"""Scores of one row as files for model registries: Hugging Face and Every Eval Ever.

Readers of a registry have no other file of this suite, so every score includes its signature, interval and marks.
Results on a synthetic world have "synthetic" in the names of their data set and tasks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import yaml

from poseboard.datasets.errors import InputError, printable
from poseboard.report.board import Board, Row
from poseboard.report.formatting import number
from poseboard.report.sheet import Sheet, marks_of

_SCHEMA = "0.3.0"
"""Version of eval.schema.json of Every Eval Ever."""
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_INTERVAL = "bootstrap over subject × sequence, and over seeds if there are several"


def hugging_face(printed: Sequence[Sheet], hub_dataset: str) -> str:
    r"""Scores of one row as YAML for the folder ``.eval_results`` of its model repository on the Hugging Face Hub.

    Args:
        printed: sheets of one row.
        hub_dataset: id of the data set on the Hub whose ``eval.yaml`` declares the tasks, such as "lab/pose-synthetic".

    Raises:
        InputError: the sheets have several rows or no score, the id is not OWNER/NAME, or the data are synthetic and
            the id lacks "synthetic".

    Example:
        >>> hugging_face(sheets(boards(results), "T1", "default", ["dlt"]), "lab/pose-synthetic")  # doctest: +SKIP
        '# dlt on human36m-synthetic\n- dataset:\n    id: lab/pose-synthetic…'
    """
    results = _results(printed, "huggingface")
    where = f"--hub-dataset {hub_dataset}"
    if not _HUB_ID.fullmatch(hub_dataset):
        raise InputError(where, "is not the id of a data set on the Hub", "write OWNER/NAME")
    if any(board.synthetic for _, board, _ in results) and "synthetic" not in hub_dataset.partition("/")[2]:
        raise InputError(
            where, "is for results on a synthetic world", 'name a data set that has "synthetic" in its name'
        )
    entries = [
        {
            "dataset": {"id": hub_dataset, "task_id": task_id(board)},
            "value": row.score.value,
            "date": row.file.provenance.created,
            "notes": "; ".join(_notes(sheet, board, row)),
        }
        for sheet, board, row in results
    ]
    datasets = ", ".join(dict.fromkeys(_dataset_name(board) for _, board, _ in results))
    head = printable(f"# {results[0][2].method} on {datasets}")
    return f"{head}\n" + yaml.safe_dump(entries, sort_keys=False, width=10**9)


def every_eval_ever(printed: Sequence[Sheet]) -> str:
    r"""Scores of one row as JSON in the schema of Every Eval Ever.

    Args:
        printed: sheets of one row.

    Raises:
        InputError: the sheets have several rows or no score.

    Example:
        >>> every_eval_ever(sheets(boards(results), "T1", "default", ["dlt"]))  # doctest: +SKIP
        '{\n "schema_version": "0.3.0",…'
    """
    results = _results(printed, "every-eval-ever")
    _, _, first = results[0]
    files = [row.file for _, _, row in results]
    created = max(file.provenance.created for file in files)
    seconds = datetime.fromisoformat(created).timestamp()
    relations = {_relation(row) for _, _, row in results}
    model, version = f"poseboard/{first.method}", first.file.provenance.versions.get("poseboard", "unknown")
    names = "+".join(dict.fromkeys(_dataset_name(board) for _, board, _ in results))
    record = {
        "schema_version": _SCHEMA,
        "evaluation_id": f"{names}/{model}/{seconds:.0f}",
        "evaluation_timestamp": created,
        "retrieved_timestamp": f"{seconds:.0f}",
        "source_metadata": {
            "source_name": f"Poseboard, profile {first.file.profile}",
            "source_type": "evaluation_run",
            "source_organization_name": "poseboard",
            "evaluator_relationship": relations.pop() if len(relations) == 1 else "other",
        },
        "eval_library": {"name": "poseboard", "version": version},
        "model_info": {
            "name": first.method,
            "id": model,
            "developer": "poseboard" if first.file.source == "pipeline" else "not stated",
            "inference_engine": {"name": "poseboard", "version": version},
            "additional_details": {"deployment_type": "self_deployed", "model_availability": "unknown"},
        },
        "evaluation_results": [_evaluation(sheet, board, row) for sheet, board, row in results],
    }
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def task_id(board: Board) -> str:
    """Task id of a board: table, "synthetic" for a synthetic world, and eight digits of the signature's hash.

    Scores with different signatures have different ids.

    Example:
        >>> task_id(board)  # doctest: +SKIP
        'T1-synthetic-5f0c9e1b'
    """
    digest = hashlib.sha256(str(board.signature).encode()).hexdigest()[:8]
    return f"{board.table}{'-synthetic' if board.synthetic else ''}-{digest}"


def _results(printed: Sequence[Sheet], kind: str) -> list[tuple[Sheet, Board, Row]]:
    """Scores of the only row, with their sheets and boards."""
    rows = list(dict.fromkeys(method for sheet in printed for method in sheet.methods))
    if len(rows) != 1:
        raise InputError(
            f"--format {kind}", f"is for one row, not {len(rows)}", f"choose one, such as --rows {rows[0]}"
        )
    results = [(sheet, board, row) for sheet in printed for board, row in sheet.printed if row.score.value is not None]
    if not results:
        raise InputError(f"--rows {rows[0]}", "has no score in this table", "choose another row or table")
    return results


def _dataset_name(board: Board) -> str:
    return f"{board.dataset}-synthetic" if board.synthetic else board.dataset


def _notes(sheet: Sheet, board: Board, row: Row) -> list[str]:
    """Notes on a score for its reader, as phrases."""
    score = row.score
    notes = [f"{sheet.heading}: {board.label}", *([row.file.warning] if row.file.warning else [])]
    notes += [*marks_of(board, row), f"unit {score.unit}, {'lower' if score.lower_is_better else 'higher'} is better"]
    if score.ci95:
        notes.append(f"95 % interval {number(score.ci95[0], score.unit)} to {number(score.ci95[1], score.unit)}")
    notes.append(f"{score.n_samples} {score.counted} in {score.n_groups} sequences")
    if score.n_missing:
        notes.append(f"{score.n_missing} predictions missing, {score.n_left_out} of them left out of the value")
    return [*notes, f"signature {score.signature}"]


def _relation(row: Row) -> str:
    """Relationship between the evaluator (this suite) and the developer of the weights."""
    if row.file.source == "submission":
        return "collaborative"  # its authors predicted, the suite scored
    weights = row.file.provenance.weights
    return "third_party" if weights and weights.origin == "imported" else "first_party"


def _evaluation(sheet: Sheet, board: Board, row: Row) -> dict[str, Any]:
    score, provenance = row.score, row.file.provenance
    uncertainty: dict[str, Any] = {"num_samples": score.n_samples}
    if score.ci95:
        low, high = score.ci95
        uncertainty["confidence_interval"] = {
            "lower": low, "upper": high, "confidence_level": 0.95, "method": _INTERVAL
        }  # fmt: skip
    details = {
        "marks": ", ".join(marks_of(board, row)),
        "warning": row.file.warning,
        "sequences": str(score.n_groups),
        "missing predictions": str(score.n_missing),
        "left out of the score": str(score.n_left_out),
        "seeds": ", ".join(str(seed.seed) for seed in score.seeds),
        "checkpoint SHA-256": ", ".join(provenance.checkpoint_sha256.values()),
        "git commit": (provenance.git_commit or "") + (" with uncommitted changes" if provenance.git_dirty else ""),
    }
    return {
        "evaluation_result_id": task_id(board),
        "evaluation_name": f"{_dataset_name(board)}: {board.label}",
        "source_data": {
            "dataset_name": f"{_dataset_name(board)}, {sheet.world}",
            "source_type": "other",
            "source_id": _dataset_name(board),
            "source_version": provenance.data_manifest,
            "additional_details": {"synthetic": str(board.synthetic).lower(), "split": score.signature.split},
        },
        "evaluation_timestamp": provenance.created,
        "metric_config": {
            "evaluation_description": f"{score.title}; {sheet.heading}",
            "metric_id": f"poseboard.{score.signature.metric}",
            "metric_name": board.metric,
            "metric_unit": score.unit,
            "metric_parameters": score.signature.facts,
            "lower_is_better": score.lower_is_better,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 100 if score.unit == "%" and not score.lower_is_better else "Infinity",
        },
        "score_details": {
            "score": score.value,
            "details": {name: words for name, words in details.items() if words},
            "uncertainty": uncertainty,
        },
    }
