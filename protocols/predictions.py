"""Predictions: the Parquet file between predicting and scoring, which other programs can write as well.

One file per data set, condition, method and seed. One row per predicted person: ``key`` (string), ``person`` (integer
from 0, unique within a key), ``score`` (finite, higher is more confident), ``frame`` ("world" or a camera's name) and
``joints_mm`` (fixed-size list of J·3 float32, x y z joint by joint). Further columns of numbers may follow
(``size_mm``, recovered cameras, covariances), each declared in the metadata with its shape; they are stored as
fixed-size lists of float32 and may be NaN. Files of other programs may have lists of any kind and floats of any width,
which are converted. The schema metadata holds one entry, ``poseboard``: the JSON of
:class:`PredictionInfo`.

A joint that is not predicted is NaN in all three coordinates; NaN in one or two of them, infinity, or a coordinate
beyond `LARGEST_MM` is an error: a prediction a kilometre away has diverged and must not enter a table. A missed
person is a row of NaN or no row at all; the protocols count both as missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, Self
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PositiveInt,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from poseboard.datasets.errors import InputError, field_error
from poseboard.datasets.files import WholeFiles, open_file, parse_json, write_file
from poseboard.datasets.sample import Poses
from poseboard.protocols.condition import Condition
from poseboard.protocols.records import Name, Weights

METADATA_KEY = b"poseboard"
LARGEST_MM = 1e6
"""Largest coordinate of a prediction."""
MOST_ROWS = 5_000_000
"""Largest number of rows of a file: a small compressed file could fill the memory."""
_METADATA_BYTES = 100_000  # options and joints of a few kilobytes; results and pages repeat them
_ROWS = 65536  # in a row group: reading one at a time keeps the peak at the size of the result
_ROUNDING = 1e-3
_COLUMNS = ("key", "person", "score", "frame", "joints_mm")


def _names(value: object) -> object:
    """Convert a single name to a tuple of names."""
    return (value,) if isinstance(value, str) else value


ColumnName = Annotated[str, StringConstraints(pattern=r"^[a-z][A-Za-z0-9_]{0,63}$")]


class PredictionInfo(BaseModel):
    """Metadata of a predictions file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = 2
    skeleton: str = Field(description="name of the joint set")
    joints: tuple[str, ...] = Field(
        description="its joints in storage order; scoring maps by these names", min_length=1
    )
    units: Literal["mm"] = "mm"
    dataset: Name
    condition: Condition = Field(description="what the method was shown")
    columns: dict[ColumnName, tuple[PositiveInt, ...]] = Field(
        default_factory=dict, description="further columns -> shape of a person's values; () for one number"
    )
    roots_sha256: str | None = Field(
        default=None, description="of the file or the weights that a predicted root is from"
    )
    manifest: str = Field(description="hash of the data set: its keys, truth and cameras, not its images")
    logical_sha256: str | None = Field(
        default=None,
        description="of the split (`TruthTable.logical_sha256`), for data stored in other bytes; None: not known",
    )
    method: str
    checkpoint_sha256: str | None = Field(default=None, description="None for a method without weights")
    trained_on: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = Field(
        default=None,
        description="data sets that the weights were trained on, or the name of one; None: ``dataset``, or nothing is "
        "trained; empty: not known",
    )
    weights: Weights | None = Field(default=None, description="where that checkpoint comes from; None: not known")
    seed: int = 0
    options: dict[str, JsonValue] = Field(default_factory=dict, description="of the method, as far as they are stated")
    basis_sha256: str | None = Field(
        default=None,
        description="of all that the answers depend on (checkpoint, condition, options, code, data, images): where it "
        "is unchanged they are not made again; None: not known",
    )
    answers_sha256: str | None = Field(default=None, description="of the answers (`PoseTable.answers_sha256`)")
    inputs: dict[str, JsonValue] | None = Field(
        default=None, description="what the method was allowed to see (`Inputs` of methods/base.py), if it is stated"
    )

    input_summary: dict[str, list[float | None]] | None = Field(
        default=None,
        description="quantity -> its values in the first sample as the method got it; `poseboard verify` compares them",
    )

    @property
    def extrinsics_withheld(self) -> bool:
        """Whether the input has several cameras without extrinsics."""
        return len(self.condition.cameras) > 1 and self.inputs is not None and self.inputs.get("extrinsics") is False

    @model_validator(mode="after")
    def _of_one_training(self) -> Self:
        of_condition = self.condition.trained_on
        if of_condition is not None and (of_condition == self.dataset or self.trained_on != (of_condition,)):
            stated = self.dataset if self.trained_on is None else ", ".join(self.trained_on) or "not known"
            raise ValueError(f"trained_on is {stated}, that of the condition {of_condition}")
        return self

    @field_validator("joints")
    @classmethod
    def _unique(cls, joints: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(joints)) != len(joints):
            raise ValueError("joint names repeat")
        return joints

    @field_validator("columns")
    @classmethod
    def _further(cls, columns: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        if taken := [name for name in columns if name in _COLUMNS]:
            raise ValueError(f"{taken[0]!r} is not a further column")
        return columns


@dataclass(frozen=True, eq=False)
class PoseTable:
    """Predicted people, one per row.

    Args:
        keys: (N,) str, key of each person's sample.
        person: (N,) int32, number of the person, from 0 within a key.
        score: (N,) float32, confidence; higher is more confident.
        frame: (N,) str, coordinate frame of the joints: "world" or the name of a camera.
        joints_mm: (N, J, 3) float32 joints, mm; NaN = not predicted.
        info: metadata of the file.
        source: path of the file, for error messages.
        columns: further columns that ``info`` declares, each (N, ...); NaN = unknown.
    """

    keys: NDArray[np.object_]
    person: NDArray[np.int32]
    score: NDArray[np.float32]
    frame: NDArray[np.object_]
    joints_mm: NDArray[np.float32]
    info: PredictionInfo
    source: str = "predictions"
    columns: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {len(column) for column in (self.keys, self.person, self.score, self.frame, self.joints_mm)}
        expected = (len(self.keys), len(self.info.joints), 3)
        if len(shapes) != 1 or self.joints_mm.shape != expected:
            raise ValueError(f"columns of {sorted(shapes)} rows, joints {self.joints_mm.shape}, expected {expected}")
        declared = {name: (len(self.keys), *shape) for name, shape in self.info.columns.items()}
        if declared != (further := {name: values.shape for name, values in self.columns.items()}):
            raise ValueError(f"further columns {further}, declared {declared}")

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def collect(cls, keys: Sequence[str], poses: Sequence[Poses], info: PredictionInfo) -> Self:
        """Collect a method's predictions, one :class:`Poses` per key, in one table.

        Args:
            keys: keys of the samples.
            poses: predicted people of each key.
            info: metadata of the file; the names and shapes of further columns are added.

        Raises:
            ValueError: the skeleton of some poses differs from that in ``info``.
            InputError: some poses lack a further column of the other poses, or have it in another shape.
        """
        for answer in poses:
            if answer.skeleton.joints != info.joints:
                raise ValueError(f"poses of {answer.skeleton.name} in predictions of {info.skeleton}")
        people = [len(answer.score) for answer in poses]
        empty = np.empty((0, len(info.joints), 3))
        columns = _together(keys, poses, info.method)
        return cls(
            keys=np.repeat(np.array(keys, dtype=object), people),
            person=np.concatenate([np.arange(n, dtype=np.int32) for n in (*people, 0)]),
            score=np.concatenate([*(a.score for a in poses), np.empty(0)]).astype(np.float32),
            frame=np.repeat(np.array([a.frame for a in poses], dtype=object), people),
            joints_mm=np.concatenate([*(a.joints_mm for a in poses), empty]).astype(np.float32),
            info=info.model_copy(update={"columns": {name: values.shape[1:] for name, values in columns.items()}}),
            columns=columns,
        )

    def answers_sha256(self) -> str:
        """SHA-256 of all columns; the predict stage stores it in the metadata to detect later changes."""
        digest = hashlib.sha256(json.dumps([self.keys.tolist(), self.frame.tolist()]).encode())
        arrays = {"person": self.person, "score": self.score, "joints_mm": self.joints_mm, **self.columns}
        for name, values in sorted(arrays.items()):
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            for start in range(0, len(values), _ROWS):  # one copy of all would double the memory
                rows = values[start : start + _ROWS]
                # NaN may have any sign or payload where it is computed, and means the same.
                plain = np.where(np.isnan(rows), np.float32(np.nan), rows) if values.dtype.kind == "f" else rows
                digest.update(np.ascontiguousarray(plain).tobytes())
        return digest.hexdigest()

    @property
    def is_changed(self) -> bool:
        """Whether the rows were changed since ``answers_sha256`` was computed; False without this hash."""
        return self.info.answers_sha256 is not None and self.info.answers_sha256 != self.answers_sha256()

    def column(self, name: str) -> NDArray[np.float32]:
        """Values of a further column, (N, ...); InputError if the file lacks it."""
        if name not in self.columns:
            raise InputError(f"{self.source}: {name}", "column is absent", "write it, because the table needs it")
        return self.columns[name]

    def mapped(self, joints: Sequence[str]) -> NDArray[np.float32]:
        """Coordinates of the named joints, (N, len(joints), 3) mm; InputError names the joints that the file lacks.

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


def _together(keys: Sequence[str], poses: Sequence[Poses], method: str) -> dict[str, NDArray[np.float32]]:
    """Concatenate the further columns of all poses, (N, ...) each. Poses without a person may lack them."""
    answered = [(key, answer) for key, answer in zip(keys, poses, strict=True) if len(answer.score)]
    shapes = {name: values.shape[1:] for name, values in answered[0][1].columns.items()} if answered else {}
    for key, answer in answered:
        if {name: values.shape[1:] for name, values in answer.columns.items()} != shapes:
            raise InputError(
                f"{method}: {key}",
                "has other further columns than the poses before",
                "return the same columns for each sample",
            )
    return {
        name: np.concatenate([np.asarray(answer.columns[name]) for _, answer in answered]).astype(np.float32)
        for name in shapes
    }


def write(path: Path, table: PoseTable, files: WholeFiles | None = None) -> None:
    """Write a predictions file atomically, or as part of the group ``files``.

    If the rows were changed after their prediction, ``answers_sha256`` is left out.

    Raises:
        InputError: the table violates the format, for example with a half-predicted joint.
        OSError: the file cannot be written.
    """
    check_values(table, path)
    width, info = len(table.info.joints) * 3, table.info
    if table.is_changed:
        info = info.model_copy(update={"answers_sha256": None})
    schema = _schema(width, info.columns).with_metadata({METADATA_KEY: info.model_dump_json().encode()})

    def fill(file: BinaryIO) -> None:
        with pq.ParquetWriter(
            file, schema, compression="zstd", use_dictionary=["frame"], write_page_checksum=True
        ) as writer:
            for start in range(0, max(len(table), 1), _ROWS):
                rows = slice(start, start + _ROWS)
                columns = [
                    pa.array(table.keys[rows], pa.string()),
                    pa.array(table.person[rows], pa.int32()),
                    pa.array(table.score[rows], pa.float32()),
                    pa.array(table.frame[rows], pa.string()),
                    _lists(table.joints_mm[rows], width),
                    *(_lists(table.columns[name][rows], _size(shape)) for name, shape in table.info.columns.items()),
                ]
                writer.write_table(pa.table(columns, schema=schema))

    if files is None:
        write_file(path, fill)
    else:
        files.write(path, fill)


def read(path: Path) -> PoseTable:
    """Read and check a file; InputError names the file, the field and the remedy.

    Errors are: a file that is absent, truncated or not Parquet; metadata that is absent, unknown or of another version;
    a column that is absent or of another type or width; nulls; joints that are infinite, beyond `LARGEST_MM` or
    half-predicted; scores that are not finite; a repeated pair of key and person; rows that differ from
    ``answers_sha256``.
    """
    _check_exists(path)
    try:
        with (
            open_file(path) as opened,
            pq.ParquetFile(opened, pre_buffer=False, page_checksum_verification=True) as file,
        ):  # else the whole file is held as well
            info = _info(path, file.schema_arrow)
            _check_schema(path, file.schema_arrow, info)
            table = _columns(path, file, info)
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0][:120]
        raise InputError(path, f"file is not readable Parquet ({first})", "write or copy it again") from None
    pa.default_memory_pool().release_unused()  # pages it keeps for the next read, 90 MB of a million poses
    check_values(table, path)
    if table.is_changed:
        problem = "its records were changed after they were predicted"
        raise InputError(path, problem, "predict again, or leave answers_sha256 out of its metadata")
    return table


def read_info(path: Path) -> PredictionInfo:
    """Read and check the metadata of a file, but not its rows.

    Raises:
        InputError: the file is absent or not Parquet, or its metadata is absent or invalid.

    Example:
        >>> read_info(Path("mine.parquet")).dataset  # doctest: +SKIP
        'human36m'
    """
    _check_exists(path)
    try:
        return _info(path, pq.read_schema(open_file(path)))
    except (pa.ArrowException, OSError):
        raise InputError(path, "file is not readable Parquet", "write or copy it again") from None


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise InputError(
            path, "there is no such file of predictions", "run `poseboard predict` first, or correct the path"
        )


_PLACES: WeakKeyDictionary[PoseTable, tuple[NDArray[np.object_], NDArray[np.int64]]] = WeakKeyDictionary()
"""Of predictions in use: the keys that their rows were last looked up in, and what was found there."""


def positions(table: PoseTable, known_keys: NDArray[np.object_]) -> NDArray[np.int64]:
    """Index of each row's key in the split's keys, (N,); InputError names the first unknown key and their number.

    The result is cached, because several tables score the same predictions.
    """
    keys, places = _PLACES.get(table, (None, np.empty(0, dtype=np.int64)))
    if keys is known_keys:
        return places
    places = pd.Index(known_keys, dtype=object).get_indexer(pd.Index(table.keys, dtype=object)).astype(np.int64)
    unknown = places < 0
    if unknown.any():
        raise InputError(
            f"{table.source}: key",
            f"{int(unknown.sum())} records have keys that are not in split {table.info.condition.split!r} of "
            f"{table.info.dataset}, for example {table.keys[int(np.argmax(unknown))]!r}",
            "predict only keys of this split",
        )
    places.flags.writeable = False
    _PLACES[table] = known_keys, places
    return places


def _schema(width: int, columns: Mapping[str, tuple[int, ...]]) -> pa.Schema:
    types = (pa.string(), pa.int32(), pa.float32(), pa.string(), pa.list_(pa.float32(), width))
    further = [(name, pa.list_(pa.float32(), _size(shape))) for name, shape in columns.items()]
    return pa.schema([*zip(_COLUMNS, types, strict=True), *further])


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _lists(values: NDArray[np.floating], width: int) -> pa.FixedSizeListArray:
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), width)


def _info(path: Path, schema: pa.Schema) -> PredictionInfo:
    text = (schema.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise InputError(
            f"{path}: metadata", "entry 'poseboard' is absent", "write the file with poseboard.protocols.predictions"
        )
    if len(text) > _METADATA_BYTES:
        problem = f"entry 'poseboard' is larger than {_METADATA_BYTES} bytes"
        raise InputError(f"{path}: metadata", problem, "shorten its options")
    try:
        values = parse_json(text)
        if any(not part.isprintable() for part in _strings(values)):
            raise InputError(f"{path}: metadata", "a text has control characters", "use printable characters")
        return PredictionInfo.model_validate(values)
    except InputError:
        raise
    except ValidationError as error:
        raise field_error(path, error, PredictionInfo.model_fields, "metadata") from None
    except ValueError as error:
        raise InputError(
            f"{path}: metadata",
            f"entry 'poseboard' is not JSON ({error})",
            "write the file with poseboard.protocols.predictions",
        ) from None


def _strings(values: JsonValue) -> Iterator[str]:
    """Iterate over all strings in a JSON value, including the names of fields."""
    waiting: list[JsonValue] = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            waiting += [*value, *value.values()] if isinstance(value, dict) else value


def _check_schema(path: Path, schema: pa.Schema, info: PredictionInfo) -> None:
    expected = _schema(len(info.joints) * 3, info.columns)
    for name, declared in zip(expected.names, expected.types, strict=True):
        if name not in schema.names:
            raise InputError(f"{path}: {name}", "column is absent", f"write the columns {', '.join(expected.names)}")
        stored = schema.field(name).type
        kinds = {
            "key": pa.types.is_string(stored) or pa.types.is_large_string(stored),
            "frame": pa.types.is_string(stored) or pa.types.is_large_string(stored),
            "person": pa.types.is_integer(stored),
            "score": pa.types.is_floating(stored),
        }
        lists = _holds_floats(stored) and _fixed_width(stored) in (None, _fixed_width(declared))
        if not kinds.get(name, lists):
            raise InputError(f"{path}: {name}", f"column is {stored}, expected {declared}", "convert it before writing")


def _is_list(stored: pa.DataType) -> bool:
    kinds = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)
    return any(is_kind(stored) for is_kind in kinds)


def _holds_floats(stored: pa.DataType) -> bool:
    """Whether a column holds lists of floats, or nested lists as pandas writes arrays."""
    if not _is_list(stored):
        return False
    while _is_list(stored):
        stored = stored.value_type
    return bool(pa.types.is_floating(stored))


def _fixed_width(stored: pa.DataType) -> int | None:
    """Length of each row in a column of lists; None if rows may have different lengths."""
    width = 1
    while pa.types.is_fixed_size_list(stored):
        width, stored = width * stored.list_size, stored.value_type
    return None if _is_list(stored) else width


def _float32(values: pa.Array) -> NDArray[np.float32]:
    """Convert floats to float32. Values beyond its range become infinite, which a later check refuses."""
    with np.errstate(over="ignore"):
        return np.asarray(values.to_numpy(zero_copy_only=False)).astype(np.float32, copy=False)


def _flat(column: pa.Array, width: int, keys: NDArray[np.object_], where: str) -> NDArray[np.float32]:
    """Convert a column of lists to an array (N, width); raise InputError for another length or nulls."""
    counts = np.ones(len(column), dtype=np.int64)  # of values in each row
    while _is_list(column.type):
        lengths = (
            np.full(len(column), column.type.list_size, dtype=np.int64)
            if pa.types.is_fixed_size_list(column.type)
            else column.value_lengths().to_numpy(zero_copy_only=False)
        )
        ends = np.concatenate([[0], np.cumsum(lengths)])[np.cumsum(counts)]
        counts, column = np.diff(ends, prepend=0), column.flatten()
        if column.null_count:
            raise InputError(where, f"{column.null_count} values are null", "write NaN instead")
    if (counts != width).any():
        first = int(np.argmax(counts != width))
        raise InputError(
            where, f"record of {keys[first]!r} has {counts[first]} numbers, not {width}", "write x y z per joint"
        )
    return _float32(column).reshape(-1, width)


def _columns(path: Path, file: pq.ParquetFile, info: PredictionInfo) -> PoseTable:
    """Read the rows into arrays of the final size, one row group at a time to save memory."""
    n, width = file.metadata.num_rows, len(info.joints) * 3
    if n > MOST_ROWS:
        raise InputError(path, f"has {n} records, more than {MOST_ROWS}", "write one file per condition or seed")
    keys, frame = np.empty(n, dtype=object), np.empty(n, dtype=object)
    person, score = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.float32)
    joints = np.empty((n, width), dtype=np.float32)
    further = {name: np.empty((n, _size(shape)), dtype=np.float32) for name, shape in info.columns.items()}
    start = 0
    for batch in file.iter_batches(batch_size=_ROWS, columns=[*_COLUMNS, *further]):
        rows = slice(start, start + batch.num_rows)
        columns = {name: batch.column(name) for name in (*_COLUMNS, *further)}
        for name, column in columns.items():
            if column.null_count:
                raise InputError(
                    f"{path}: {name}",
                    f"{column.null_count} values are null",
                    "fill them; joints that are not predicted are NaN",
                )
        keys[rows] = columns["key"].to_numpy(zero_copy_only=False)
        frames = columns["frame"].dictionary_encode()  # one string for all rows that hold it
        frame[rows] = frames.dictionary.to_numpy(zero_copy_only=False).astype(object)[frames.indices.to_numpy()]
        person[rows] = columns["person"].to_numpy()
        score[rows] = _float32(columns["score"])
        for name, into in (("joints_mm", joints), *further.items()):
            into[rows] = _flat(columns[name], into.shape[1], keys[rows], f"{path}: {name}")
        start += batch.num_rows
    if n and (person.min() < 0 or person.max() > np.iinfo(np.int32).max):
        raise InputError(
            f"{path}: person",
            f"numbers from {person.min()} to {person.max()} are not all in 0 … 2^31 - 1",
            "count people from 0",
        )
    shaped = {name: values.reshape(n, *info.columns[name]) for name, values in further.items()}
    joints_mm = joints.reshape(n, width // 3, 3)
    return PoseTable(keys, person.astype(np.int32), score, frame, joints_mm, info, str(path), shaped)


def check_values(table: PoseTable, where: str | Path) -> None:
    """Check the values of predictions as `read` and `write` do.

    Args:
        table: the predictions.
        where: file or function that they come from, for the error.

    Raises:
        InputError: a score is not finite, joints are infinite, beyond `LARGEST_MM` or half-predicted, a further column
            is invalid, or a pair of key and person repeats.

    Example:
        >>> check_values(table, "mine.parquet")  # doctest: +SKIP
    """
    if not len(table):
        return

    _refuse(
        table,
        where,
        "score",
        ~np.isfinite(table.score),
        "have a score that is not finite",
        "write 1 for a pose without a score",
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
    _refuse(table, where, "joints_mm", bad, "have infinite coordinates", "write NaN for a joint that is not predicted")
    _refuse(
        table,
        where,
        "joints_mm",
        far,
        f"have coordinates beyond {LARGEST_MM:.0f} mm",
        "write millimetres, and write NaN for a joint that is not predicted",
    )
    _refuse(
        table,
        where,
        "joints_mm",
        half,
        "have joints with some coordinates NaN and others not",
        "write NaN for all three",
    )
    for name, values in table.columns.items():
        infinite: NDArray[np.bool_] = np.any(np.isinf(values).reshape(len(table), -1), axis=1)
        _refuse(table, where, name, infinite, "have infinite values", "write NaN instead")
        if name == "camera_covariance" and values.ndim > 2 and values.shape[-1] == values.shape[-2]:
            problem = "have a matrix that is not symmetric and positive semidefinite"
            _refuse(table, where, name, _is_indefinite(values), problem, "write NaN instead")
    _refuse_repeated(table, where)


def _is_indefinite(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether any of a person's covariances (N, ..., D, D) is indefinite or not symmetric, up to rounding."""
    matrices = values.reshape(len(values), -1, *values.shape[-2:]).astype(np.float64)
    matrices = np.where(np.isfinite(matrices).all(axis=(2, 3), keepdims=True), matrices, 0.0)
    sigma = np.sqrt(np.abs(np.einsum("nvii->nvi", matrices)))
    # Correlations, because rotations and translations have different units.
    scale = np.maximum(sigma[..., None] * sigma[..., None, :], 1e-30)
    correlations = np.clip(matrices / scale, -1e6, 1e6)
    symmetric = (correlations + np.swapaxes(correlations, 2, 3)) / 2
    is_bad = np.abs(correlations - symmetric).max(axis=(2, 3)) > _ROUNDING
    is_bad |= np.linalg.eigvalsh(symmetric)[..., 0] < -_ROUNDING
    return np.asarray(is_bad.any(axis=1))


def _refuse_repeated(table: PoseTable, where: str | Path) -> None:
    if table.person.any():
        repeated = pd.DataFrame({"key": table.keys, "person": table.person}).duplicated().to_numpy()
    else:
        repeated = pd.Index(table.keys, dtype=object).duplicated()
    _refuse(table, where, "key", repeated, "repeat a (key, person)", "write one record per person")


def _refuse(table: PoseTable, where: str | Path, field: str, bad: NDArray[np.bool_], problem: str, remedy: str) -> None:
    if bad.any():
        first = table.keys[int(np.argmax(bad))]
        raise InputError(f"{where}: {field}", f"{int(bad.sum())} records {problem}, first key {first!r}", remedy)
