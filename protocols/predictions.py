"""Predictions: the one Parquet file between predicting and scoring, which a third party can write as well.

One file a (data set, view setting, method, seed). One row a predicted person: ``key`` (string), ``person`` (integer
from 0, unique within a key), ``score`` (finite, higher is surer), ``frame`` ("world" or a camera's name) and
``joints_mm`` (fixed-size list of J·3 float32, x y z joint by joint). The schema metadata holds one entry,
``poseboard``: the JSON of :class:`PredictionInfo`.

A joint that is not predicted is NaN in all three coordinates; NaN in one or two of them, infinity, or a coordinate
beyond `LARGEST_MM` is an error: an answer a kilometre away has diverged, and no table should rest on it. A person
that is not predicted is a row of NaN or no row at all: both are counted as missing by the protocols.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles, write_file
from poseboard.datasets.sample import Poses

METADATA_KEY = b"poseboard"
LARGEST_MM = 1e6
"""Largest coordinate of a prediction."""
_ROWS = 65536  # in a row group: reading one at a time keeps the peak at the size of the result
_COLUMNS = ("key", "person", "score", "frame", "joints_mm")


class PredictionInfo(BaseModel):
    """What a file of predictions says about itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    skeleton: str = Field(description="name of the joint set")
    joints: tuple[str, ...] = Field(
        description="its joints in storage order; scoring maps by these names", min_length=1
    )
    units: Literal["mm"] = "mm"
    dataset: str
    split: str
    views: tuple[str, ...] = Field(description="cameras that the method was handed, in the data set's order")
    root_views: tuple[str, ...] | None = Field(
        description="cameras that the root it was handed was predicted from; None: no such root",
    )
    roots_sha256: str | None = Field(default=None, description="of the file or the weights that this root came from")
    true_root: bool = Field(description="whether the method was handed the true root")
    size_mm: float | None = Field(
        default=None,
        ge=1e-3,
        le=LARGEST_MM,
        description="size that a method which cannot see it gave all poses; None: they have sizes of their own",
    )
    manifest: str = Field(description="hash of the data set")
    method: str
    checkpoint_sha256: str | None = Field(default=None, description="None for a method without weights")
    seed: int = 0
    options: dict[str, JsonValue] = Field(default_factory=dict, description="of the method, as far as they are stated")
    inputs: dict[str, JsonValue] | None = Field(
        default=None, description="what the method was allowed to see (`Inputs` of methods/base.py), if it is stated"
    )

    @field_validator("joints")
    @classmethod
    def _unique(cls, joints: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(joints)) != len(joints):
            raise ValueError("joint names repeat")
        return joints


@dataclass(frozen=True, eq=False)
class PoseTable:
    """Predicted people, one a row.

    Args:
        keys: (N,) str.
        person: (N,) int32, from 0 within a key.
        score: (N,) float32, higher is surer.
        frame: (N,) str, "world" or the camera whose frame the joints are in.
        joints_mm: (N, J, 3) float32; NaN = not predicted.
        info: what the file says about itself.
        source: file it was read from, for messages.
    """

    keys: NDArray[np.object_]
    person: NDArray[np.int32]
    score: NDArray[np.float32]
    frame: NDArray[np.object_]
    joints_mm: NDArray[np.float32]
    info: PredictionInfo
    source: str = "predictions"

    def __post_init__(self) -> None:
        shapes = {len(column) for column in (self.keys, self.person, self.score, self.frame, self.joints_mm)}
        expected = (len(self.keys), len(self.info.joints), 3)
        if len(shapes) != 1 or self.joints_mm.shape != expected:
            raise ValueError(f"columns of {sorted(shapes)} rows, joints {self.joints_mm.shape}, expected {expected}")

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def collect(cls, keys: Sequence[str], poses: Sequence[Poses], info: PredictionInfo) -> Self:
        """The answers of a method, one :class:`Poses` a key, as a table; ValueError for another skeleton."""
        for answer in poses:
            if answer.skeleton.joints != info.joints:
                raise ValueError(f"poses of {answer.skeleton.name} in predictions of {info.skeleton}")
        people = [len(answer.score) for answer in poses]
        empty = np.empty((0, len(info.joints), 3))
        return cls(
            keys=np.repeat(np.array(keys, dtype=object), people),
            person=np.concatenate([np.arange(n, dtype=np.int32) for n in (*people, 0)]),
            score=np.concatenate([*(a.score for a in poses), np.empty(0)]).astype(np.float32),
            frame=np.repeat(np.array([a.frame for a in poses], dtype=object), people),
            joints_mm=np.concatenate([*(a.joints_mm for a in poses), empty]).astype(np.float32),
            info=info,
        )

    def mapped(self, joints: Sequence[str]) -> NDArray[np.float32]:
        """The named joints in that order, (N, len(joints), 3); InputError names those the file does not have.

        No copy is made where the file has exactly these joints.
        """
        if tuple(joints) == self.info.joints:
            return self.joints_mm
        index = {name: i for i, name in enumerate(self.info.joints)}
        lacking = [name for name in joints if name not in index]
        if lacking:
            raise InputError(
                f"{self.source}: joints_mm",
                f"skeleton {self.info.skeleton} has no {', '.join(lacking)}",
                "predict every joint that the table evaluates, or name them as the data set does",
            )
        return self.joints_mm[:, [index[name] for name in joints]]


def write(path: Path, table: PoseTable, files: WholeFiles | None = None) -> None:
    """Write the file whole or not at all, with ``files`` together with those.

    Raises:
        InputError: the table breaks the contract of this module.
        OSError: the file cannot be written.
    """
    _check_values(table, path)
    width = len(table.info.joints) * 3
    schema = _schema(width).with_metadata({METADATA_KEY: table.info.model_dump_json().encode()})

    def fill(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=["frame"]) as writer:
            for start in range(0, max(len(table), 1), _ROWS):
                rows = slice(start, start + _ROWS)
                flat = pa.array(np.ascontiguousarray(table.joints_mm[rows], dtype=np.float32).reshape(-1))
                columns = [
                    pa.array(table.keys[rows], pa.string()),
                    pa.array(table.person[rows], pa.int32()),
                    pa.array(table.score[rows], pa.float32()),
                    pa.array(table.frame[rows], pa.string()),
                    pa.FixedSizeListArray.from_arrays(flat, width),
                ]
                writer.write_table(pa.table(columns, schema=schema))

    if files is None:
        write_file(path, fill)
    else:
        files.write(path, fill)


def read(path: Path) -> PoseTable:
    """Read and check a file; InputError names the file, the field and the remedy.

    Refused: a file that is absent, truncated or no Parquet; metadata that is absent, unknown or of another version;
    an absent column or one of another type or width; nulls; joints that are infinite, beyond `LARGEST_MM` or
    half-predicted; scores that are not finite; a (key, person) that repeats.
    """
    if not path.is_file():
        raise InputError(
            path, "there is no such file of predictions", "run `poseboard predict` first or check the path"
        )
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:  # else the whole file is held as well
            info = _info(path, file.schema_arrow)
            _check_schema(path, file.schema_arrow, len(info.joints) * 3)
            table = _columns(path, file, info)
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0][:120]
        raise InputError(path, f"file is no readable Parquet ({first})", "write or copy it again") from None
    pa.default_memory_pool().release_unused()  # pages it keeps for the next read, 90 MB of a million poses
    _check_values(table, path)
    return table


def positions(table: PoseTable, known_keys: pd.Index) -> NDArray[np.int64]:
    """Place of each row's key among the split's keys, (N,); InputError names file, first unknown key and how many."""
    found = known_keys.get_indexer(pd.Index(table.keys, dtype=object))
    unknown = found < 0
    if unknown.any():
        raise InputError(
            f"{table.source}: key",
            f"{int(unknown.sum())} rows have a key that split {table.info.split!r} of {table.info.dataset} does not "
            f"have, first {table.keys[int(np.argmax(unknown))]!r}",
            "predict the keys of the split and no others",
        )
    return np.asarray(found, dtype=np.int64)


def _schema(width: int) -> pa.Schema:
    types = (pa.string(), pa.int32(), pa.float32(), pa.string(), pa.list_(pa.float32(), width))
    return pa.schema(list(zip(_COLUMNS, types, strict=True)))


def _info(path: Path, schema: pa.Schema) -> PredictionInfo:
    text = (schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise InputError(
            f"{path}: metadata", "entry 'poseboard' is absent", "write the file with poseboard.protocols.predictions"
        )
    try:
        return PredictionInfo.model_validate(json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: metadata.{field}", first["msg"].lower(), "see PredictionInfo") from None
    except ValueError as error:
        raise InputError(f"{path}: metadata", f"entry 'poseboard' is no JSON ({error})", "see PredictionInfo") from None


def _check_schema(path: Path, schema: pa.Schema, width: int) -> None:
    expected = _schema(width)
    for name in _COLUMNS:
        if name not in schema.names:
            raise InputError(f"{path}: {name}", "column is absent", f"columns: {', '.join(_COLUMNS)}")
        found, wanted = schema.field(name).type, expected.field(name).type
        kinds = {
            "key": pa.types.is_string(found) or pa.types.is_large_string(found),
            "frame": pa.types.is_string(found) or pa.types.is_large_string(found),
            "person": pa.types.is_integer(found),
            "score": pa.types.is_floating(found),
            "joints_mm": found == wanted
            or (pa.types.is_fixed_size_list(found) and found.value_type == pa.float32() and found.list_size == width),
        }
        if not kinds[name]:
            raise InputError(f"{path}: {name}", f"column is {found}, expected {wanted}", "convert it before writing")


def _columns(path: Path, file: pq.ParquetFile, info: PredictionInfo) -> PoseTable:
    """Row groups one after the other into arrays of the final size."""
    n, width = file.metadata.num_rows, len(info.joints) * 3
    keys, frame = np.empty(n, dtype=object), np.empty(n, dtype=object)
    person, score = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.float32)
    joints = np.empty((n, width), dtype=np.float32)
    start = 0
    for batch in file.iter_batches(batch_size=_ROWS, columns=list(_COLUMNS)):
        rows = slice(start, start + batch.num_rows)
        columns = {name: batch.column(name) for name in _COLUMNS}
        for name, column in columns.items():
            if column.null_count:
                raise InputError(f"{path}: {name}", f"{column.null_count} values are null", "joints not known are NaN")
        values = columns["joints_mm"].flatten()
        if values.null_count:
            raise InputError(f"{path}: joints_mm", f"{values.null_count} values are null", "joints not known are NaN")
        keys[rows] = columns["key"].to_numpy(zero_copy_only=False)
        frame[rows] = columns["frame"].to_pandas().to_numpy(dtype=object)
        person[rows] = columns["person"].to_numpy()
        score[rows] = columns["score"].to_numpy()
        joints[rows] = values.to_numpy().reshape(-1, width)
        start += batch.num_rows
    if n and (person.min() < 0 or person.max() > np.iinfo(np.int32).max):
        raise InputError(f"{path}: person", "numbers must be 0 or above and below 2^31", "count people from 0")
    table = PoseTable(keys, person.astype(np.int32), score, frame, joints.reshape(n, width // 3, 3), info)
    return replace(table, source=str(path))


def _check_values(table: PoseTable, path: Path) -> None:
    if not len(table):
        return

    _refuse(
        table, path, "score", ~np.isfinite(table.score), "have a score that is not finite", "give 1 where there is none"
    )
    bad = np.zeros(len(table), dtype=bool)
    far = np.zeros(len(table), dtype=bool)
    half = np.zeros(len(table), dtype=bool)
    for start in range(0, len(table), _ROWS):
        rows = slice(start, start + _ROWS)
        flat = table.joints_mm[rows].reshape(len(table.joints_mm[rows]), -1)
        strange = np.flatnonzero(~(np.abs(flat) <= LARGEST_MM).all(axis=1))  # NaN is among them
        if strange.size:
            joints = table.joints_mm[rows][strange]
            absent: NDArray[np.bool_] = np.isnan(joints)
            far[start + strange] = np.any(np.abs(joints) > LARGEST_MM, axis=(1, 2))
            bad[start + strange] = np.isinf(joints).any(axis=(1, 2))
            half[start + strange] = np.any(absent.any(axis=2) & ~absent.all(axis=2), axis=1)
    _refuse(table, path, "joints_mm", bad, "have infinite coordinates", "write NaN for a joint that is not predicted")
    _refuse(
        table,
        path,
        "joints_mm",
        far,
        f"have coordinates beyond {LARGEST_MM:.0f} mm",
        "answer in millimetres, and write NaN for a joint that is not predicted",
    )
    _refuse(
        table,
        path,
        "joints_mm",
        half,
        "have joints with some coordinates NaN and others not",
        "write NaN for all three",
    )
    _refuse_repeated(table, path)


def _refuse_repeated(table: PoseTable, where: str | Path) -> None:
    if table.person.any():
        repeated = pd.DataFrame({"key": table.keys, "person": table.person}).duplicated().to_numpy()
    else:
        repeated = pd.Index(table.keys, dtype=object).duplicated()
    _refuse(table, where, "key", repeated, "repeat a (key, person)", "one row a person")


def _refuse(table: PoseTable, where: str | Path, field: str, bad: NDArray[np.bool_], problem: str, remedy: str) -> None:
    if bad.any():
        first = table.keys[int(np.argmax(bad))]
        raise InputError(f"{where}: {field}", f"{int(bad.sum())} rows {problem}, first key {first!r}", remedy)
