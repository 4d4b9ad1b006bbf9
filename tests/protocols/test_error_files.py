"""Errors per record are read only with the scores that they were made for."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles
from poseboard.protocols.error_files import read_errors, write_errors
from poseboard.protocols.records import ScoreFile

ROOT = Path(__file__).resolve().parents[2]
SCORES = ScoreFile.read(ROOT / "results/default/scores/dlt/human36m.json")


def made_up(seed: int = 0, table: str = "T1") -> pd.DataFrame:
    """Rows with every type that protocols use, and missing ones."""
    rng = np.random.default_rng(seed)
    error = rng.uniform(0, 100, 40).astype(np.float32)
    error[::7] = np.nan
    frame = pd.DataFrame(
        {
            "key": np.array([f"S9/Walking-1/{k:06d}" for k in range(40)], dtype=object),
            "person": np.zeros(40, dtype=np.int32),
            "subject": pd.Categorical(["S9", "S11"] * 20),
            "error": error,
            "right_ankle": rng.uniform(0, 100, 40),
            "missing": np.isnan(error),
            "seed": seed,
            "group": np.zeros(40, dtype=np.int16),
            "table": table,
            "cameras": "a, b",
        }
    )
    return frame.astype({"table": "category", "cameras": "str"})


def written(path: Path, errors: pd.DataFrame, scores: ScoreFile = SCORES) -> Path:
    with WholeFiles() as files:
        write_errors(path, errors, scores, files)
    return path


def test_errors_come_back_as_they_were(tmp_path: Path) -> None:
    errors = made_up()
    pd.testing.assert_frame_equal(read_errors(written(tmp_path / "e.parquet", errors), SCORES), errors)
    empty = errors.iloc[:0]
    assert len(read_errors(written(tmp_path / "e.parquet", empty), SCORES)) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.iloc[::2],
        lambda rows: rows.iloc[::-1],
        lambda rows: rows.drop(columns="right_ankle"),
        lambda rows: rows.assign(seed=1),
        lambda rows: rows.assign(table="T2"),
        lambda rows: rows.assign(error=rows.error + np.float32(1)),
        lambda rows: made_up(seed=1),
    ],
)
def test_rows_that_were_changed_are_refused(tmp_path: Path, change: object) -> None:
    path = written(tmp_path / "e.parquet", made_up())
    table = pq.read_table(path)
    assert callable(change)
    changed = type(table).from_pandas(change(table.to_pandas()), preserve_index=False)
    binding = {b"poseboard": table.schema.metadata[b"poseboard"]}
    pq.write_table(changed.replace_schema_metadata({**changed.schema.metadata, **binding}), path)
    with pytest.raises(InputError, match=r"e\.parquet: per-pose errors were changed or removed; run `pose"):
        read_errors(path, SCORES)


def test_errors_of_other_scores_and_of_none_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "e.parquet", made_up())
    one = SCORES.scores[0]
    for other in ({"value": 1.0}, {"seeds": []}, {"table": "T3"}, {"signature": one.signature.in_split("known")}):
        scores = SCORES.model_copy(update={"scores": [one.model_copy(update=other), *SCORES.scores[1:]]})
        with pytest.raises(InputError, match="are of other scores; run `poseboard score human36m dlt`"):
            read_errors(path, scores)
    made_up().to_parquet(path)
    with pytest.raises(InputError, match="are of other scores"):
        read_errors(path, SCORES)
    for content in (b"", b"PAR1 but cut off", path.read_bytes()[:-50]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            read_errors(path, SCORES)
