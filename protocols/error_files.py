"""Errors per record of one row on one data set: ``results/<profile>/errors/<row>/<dataset>.parquet``.

One row per record, group of conditions and seed of every table, with the columns of `Protocol.errors` and ``table``,
``group``, ``cameras`` and ``seed``. Methods are compared on these errors, so they must belong to the scores: the schema
metadata holds a hash of the scores and a hash of the rows.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles, open_file, parse_json
from poseboard.protocols.records import ScoreFile

_METADATA_KEY = b"poseboard"


def write_errors(path: Path, errors: pd.DataFrame, scores: ScoreFile, files: WholeFiles) -> None:
    """Write the errors of a row on a data set, as part of a group of files.

    Args:
        path: path of the file.
        errors: records of all tables, with the columns of the module docstring.
        scores: scores computed from these errors.
        files: group of files that are renamed together.
    """
    table = pa.Table.from_pandas(errors, preserve_index=False)
    binding = json.dumps({"scores_sha256": scores.scores_sha256(), "rows_sha256": _rows_sha256(errors)})
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _METADATA_KEY: binding.encode()})
    files.write(path, lambda file: pq.write_table(table, file))


def read_errors(path: Path, scores: ScoreFile) -> pd.DataFrame:
    """Read the errors from which scores were computed.

    Args:
        path: path of the file.
        scores: scores of the same row on the same data set.

    Raises:
        InputError: the file is absent or damaged, its rows were changed, or it belongs to other scores.
    """
    remedy = f"run `poseboard score {scores.dataset} {scores.method}`"
    try:
        with open_file(path) as file:
            table = pq.read_table(file)
        binding = parse_json((table.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
        errors: pd.DataFrame = table.to_pandas()
    except (OSError, ValueError, pa.ArrowException) as error:
        first = str(error).splitlines()[0][:120]
        raise InputError(path, f"per-pose errors cannot be read ({first})", remedy) from None
    if binding.get("scores_sha256") != scores.scores_sha256():
        raise InputError(path, "per-pose errors are of other scores", remedy)
    if binding.get("rows_sha256") != _rows_sha256(errors):
        raise InputError(path, "per-pose errors were changed or removed", remedy)
    return errors


def _rows_sha256(errors: pd.DataFrame) -> str:
    """SHA-256 of column names and values in order, equal before writing and after reading a file."""
    digest = hashlib.sha256(json.dumps([str(name) for name in errors.columns]).encode())
    for name in errors.columns:
        digest.update(pd.util.hash_pandas_object(errors[name], index=False).to_numpy().tobytes())
    return digest.hexdigest()
