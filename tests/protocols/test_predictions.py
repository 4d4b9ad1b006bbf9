"""The file of predictions: what is written is read, and what is wrong is refused by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Poses
from poseboard.datasets.skeleton import COCO, HUMAN36M
from poseboard.protocols.predictions import METADATA_KEY, PoseTable, PredictionInfo, positions, read, write


@pytest.fixture
def file(make_truth, make_predictions, tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "pred.parquet"
    write(path, make_predictions(make_truth()))
    return path


def rewrite(path: Path, change) -> None:
    """Write the file again with a changed Arrow table, as a third party would."""
    pq.write_table(change(pq.read_table(path)), path)


def with_column(name: str, values: pa.Array):
    def change(table: pa.Table) -> pa.Table:
        i = table.schema.names.index(name)
        return table.set_column(i, name, values).replace_schema_metadata(table.schema.metadata)

    return change


def with_info(**fields):
    def change(table: pa.Table) -> pa.Table:
        info = {**PredictionInfo.model_validate_json(table.schema.metadata[METADATA_KEY]).model_dump(), **fields}
        return table.replace_schema_metadata({METADATA_KEY: json.dumps(info).encode()})

    return change


def test_round_trip(make_truth, make_predictions, tmp_path: Path) -> None:
    truth = make_truth()
    joints = truth.joints_mm.copy()
    joints[3], joints[4, 2] = np.nan, np.nan
    table = make_predictions(truth, joints, method="ransac", checkpoint_sha256="abc", seed=7)
    path = tmp_path / "a" / "b.parquet"
    write(path, table)
    again = read(path)
    assert again.info == table.info
    assert again.source == str(path)
    for field in ("keys", "person", "score", "frame", "joints_mm"):
        np.testing.assert_array_equal(getattr(again, field), getattr(table, field))
        assert getattr(again, field).dtype == getattr(table, field).dtype
    assert len({id(name) for name in again.frame}) == 1, "rows in one frame hold one string"
    assert list(path.parent.iterdir()) == [path], "no temporary file is left"


def test_many_row_groups_and_none(make_truth, make_predictions, tmp_path: Path) -> None:
    truth = make_truth()
    n = 150_000
    keys = np.array([f"k/{i}" for i in range(n)], dtype=object)
    joints = np.random.default_rng(0).normal(size=(n, 17, 3)).astype(np.float32)
    path = tmp_path / "big.parquet"
    write(path, make_predictions(truth, joints, keys))
    again = read(path)
    assert (again.joints_mm == joints).all()
    assert (again.keys == keys).all()
    write(path, make_predictions(truth, joints[:0], keys[:0]))
    assert len(read(path)) == 0


def test_answers_of_a_method_become_rows(make_truth, make_predictions) -> None:
    info = make_predictions(make_truth()).info
    rng = np.random.default_rng(0)
    people = [rng.normal(size=(n, 17, 3)) for n in (2, 0, 1)]
    poses = [Poses(HUMAN36M, p, np.arange(len(p)) / 10, frame) for p, frame in zip(people, "abc", strict=True)]
    table = PoseTable.collect(["x", "y", "z"], poses, info)
    assert table.keys.tolist() == ["x", "x", "z"]
    assert table.person.tolist() == [0, 1, 0]
    assert table.frame.tolist() == ["a", "a", "c"]
    np.testing.assert_allclose(table.joints_mm, np.concatenate(people), rtol=1e-6)
    assert len(PoseTable.collect([], [], info)) == 0
    with pytest.raises(ValueError, match="coco"):
        PoseTable.collect(["x"], [Poses(COCO, people[0], np.ones(2))], info)


def test_further_columns_are_kept(make_truth, make_predictions, tmp_path: Path) -> None:
    info = make_predictions(make_truth()).info
    rng = np.random.default_rng(0)
    columns = [{"size_mm": rng.normal(size=n), "covariance": rng.normal(size=(n, 2, 2))} for n in (2, 1)]
    columns[1]["covariance"][0, 0, 1] = np.nan
    poses = [
        Poses(HUMAN36M, rng.normal(size=(n, 17, 3)), np.ones(n), columns=of)
        for n, of in ((2, columns[0]), (0, {}), (1, columns[1]))
    ]
    table = PoseTable.collect(["x", "nobody", "z"], poses, info)
    assert table.info.columns == {"size_mm": (), "covariance": (2, 2)}
    path = tmp_path / "pred.parquet"
    write(path, table)
    again = read(path)
    assert again.info == table.info
    for name in ("size_mm", "covariance"):
        np.testing.assert_array_equal(
            again.column(name), np.concatenate([of[name] for of in columns]).astype(np.float32)
        )
    with pytest.raises(InputError, match="colour: column is absent"):
        again.column("colour")
    rewrite(path, lambda whole: whole.drop_columns(["covariance"]))
    with pytest.raises(InputError, match="covariance: column is absent"):
        read(path)
    again.columns["size_mm"][1] = np.inf
    with pytest.raises(InputError, match="size_mm: 1 records have infinite values, first key 'x'"):
        write(path, again)
    with pytest.raises(InputError, match="z: has other further columns than the poses before"):
        PoseTable.collect(["x", "y", "z"], [*poses[:2], replace(poses[2], columns={})], info)
    with pytest.raises(ValueError, match="column size_mm needs"):
        Poses(HUMAN36M, np.zeros((2, 17, 3)), np.ones(2), columns={"size_mm": np.ones(1)})


def test_a_failed_write_leaves_the_old_file(file: Path) -> None:
    before = file.read_bytes()
    table = read(file)
    joints = table.joints_mm.copy()
    joints[2, 3, 1] = np.inf
    with pytest.raises(InputError, match="infinite"):
        write(file, replace(table, joints_mm=joints))
    keys = table.keys.copy()
    keys[3] = 5
    with pytest.raises((pa.ArrowException, TypeError)):
        write(file, replace(table, keys=keys))
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("column", ["key", "person", "score", "frame", "joints_mm"])
def test_absent_column(file: Path, column: str) -> None:
    rewrite(file, lambda table: table.drop_columns([column]))
    with pytest.raises(InputError, match=f"{file.name}: {column}: column is absent"):
        read(file)


JOINTS = pa.array(np.zeros(34 * 51, dtype=np.float32))
BAD_COLUMNS = {
    "width": ("joints_mm", pa.FixedSizeListArray.from_arrays(JOINTS[: 34 * 48], 48), "expected"),
    "ragged": (
        "joints_mm",
        pa.array([[0.0] * 51, [0.0] * 54, [0.0] * 48, *[[0.0] * 51] * 31], pa.list_(pa.float32())),
        "record of 'S9/Walking-1/000001' has 54 numbers, not 51",
    ),
    "whole numbers": ("joints_mm", pa.FixedSizeListArray.from_arrays(JOINTS.cast(pa.int32()), 51), "expected"),
    "null in a list": ("joints_mm", pa.array([[None] + [0.0] * 50] * 34, pa.list_(pa.float64())), "34 values are null"),
    "too wide for float32": (
        "joints_mm",
        pa.array([[1e300] + [0.0] * 50] + [[0.0] * 51] * 33, pa.list_(pa.float64())),
        "1 records have infinite coordinates",
    ),
    "null number": (
        "joints_mm",
        pa.array([[None] * 2 + [0.0] * 49] + [[0.0] * 51] * 33, pa.list_(pa.float32(), 51)),
        "2 values are null",
    ),
    "null key": ("key", pa.array([None] + [str(i) for i in range(33)]), "1 values are null"),
    "number key": ("key", pa.array(range(34)), "expected string"),
    "text person": ("person", pa.array(["0"] * 34), "expected int32"),
    "negative person": ("person", pa.array([-1] * 34), "numbers from -1 to -1"),
    "nan score": ("score", pa.array([np.nan] + [1.0] * 33), "1 records have a score that is not finite"),
    "repeated key": ("key", pa.array(["a", "b"] * 17), "32 records repeat a .key, person., first key 'a'"),
    "inf": (
        "joints_mm",
        pa.FixedSizeListArray.from_arrays(pa.array(np.r_[np.zeros(60), np.inf, np.zeros(1673)].astype(np.float32)), 51),
        "1 records have infinite coordinates, first key 'S9/Walking-1/000001'",
    ),
    "half a joint": (
        "joints_mm",
        pa.FixedSizeListArray.from_arrays(pa.array(np.r_[np.zeros(60), np.nan, np.zeros(1673)].astype(np.float32)), 51),
        "1 records have joints with some coordinates NaN",
    ),
}


@pytest.mark.parametrize("name", BAD_COLUMNS)
def test_bad_column(file: Path, name: str) -> None:
    column, values, problem = BAD_COLUMNS[name]
    rewrite(file, with_column(column, values))
    with pytest.raises(InputError, match=problem) as caught:
        read(file)
    assert f"{file.name}: {column}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "stored",
    [
        pa.list_(pa.float64(), 51),
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.list_(pa.float64(), 3), 17),
        pa.list_(pa.list_(pa.float64())),
    ],
    ids=str,
)
def test_lists_and_floats_of_other_writers_are_converted(file: Path, stored: pa.DataType) -> None:
    expected = read(file)
    nested = stored.value_type not in (pa.float32(), pa.float64())
    poses = expected.joints_mm.astype(np.float64)
    rows = (poses if nested else poses.reshape(len(poses), -1)).tolist()
    rewrite(file, with_column("joints_mm", pa.array(rows, stored)))
    for column, wider in (("key", pa.large_string()), ("score", pa.float64()), ("person", pa.int64())):
        rewrite(file, with_column(column, pq.read_table(file)[column].cast(wider)))
    again = read(file)
    assert (again.keys == expected.keys).all()
    assert again.person.dtype == np.int32
    assert again.joints_mm.dtype == np.float32
    np.testing.assert_array_equal(again.joints_mm, expected.joints_mm)
    assert again.answers_sha256() == expected.answers_sha256()


def test_absent_metadata(file: Path) -> None:
    rewrite(file, lambda table: table.replace_schema_metadata(None))
    with pytest.raises(InputError, match="metadata: entry 'poseboard' is absent"):
        read(file)
    rewrite(file, lambda table: table.replace_schema_metadata({METADATA_KEY: b"{not json"}))
    with pytest.raises(InputError, match="not JSON"):
        read(file)
    rewrite(file, lambda table: table.replace_schema_metadata({METADATA_KEY: b"{}"}))
    with pytest.raises(InputError, match=r"metadata\.skeleton"):
        read(file)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 1),
        ("columns", {"joints_mm": []}),
        ("columns", {"Bad name": []}),
        ("columns", {"size_mm": [0]}),
        ("condition", {"cameras": []}),
        ("units", "m"),
        ("joints", ["a"] * 17),
        ("joints", []),
        ("seed", "one"),
        ("colour", "red"),
        ("manifest", None),
    ],
)
def test_wrong_metadata(file: Path, field: str, value: object) -> None:
    rewrite(file, with_info(**{field: value}))
    with pytest.raises(InputError, match=rf"metadata\.{field}"):
        read(file)


def test_wrong_skeleton(file: Path) -> None:
    """The metadata's joints must be those of the column, and those that are asked for must be among them."""
    rewrite(file, with_info(joints=HUMAN36M.joints[:16]))
    with pytest.raises(InputError, match="joints_mm: column is"):
        read(file)
    rewrite(file, with_info(skeleton="coco-17", joints=COCO.joints))
    with pytest.raises(InputError, match="coco-17 has no pelvis; "):
        read(file).mapped(["nose", "pelvis"])


@pytest.mark.parametrize("part", [0, 3, 100, 0.5, 0.99])
def test_truncated_file(file: Path, part: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content)) if 0 < part < 1 else int(part)])
    with pytest.raises(InputError, match="readable Parquet"):
        read(file)


def test_damaged_page(file: Path) -> None:
    """Bytes overwritten inside the data: an error in one line, or at least nothing else than numbers."""
    content = bytearray(file.read_bytes())
    content[200:1200] = b"\xff" * 1000
    file.write_bytes(bytes(content))
    with pytest.raises(InputError, match="readable Parquet"):
        read(file)


def test_no_parquet_and_no_file(tmp_path: Path) -> None:
    other = tmp_path / "pred.parquet"
    with pytest.raises(InputError, match="no such file"):
        read(other)
    other.write_text("key,person\n")
    with pytest.raises(InputError, match="readable Parquet"):
        read(other)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path)


def test_unknown_keys_are_named(make_truth, make_predictions) -> None:
    truth = make_truth()
    table = replace(make_predictions(truth, truth.joints_mm[4:], truth.keys[4:]), source="their.parquet")
    assert positions(table, truth.split_keys).tolist() == list(range(4, 34))
    with pytest.raises(InputError, match=r"their.parquet: key: 3 records .* for example 'S9/Walking-1/000004'"):
        positions(table, truth.keys[7:])


def test_null_poses(file: Path) -> None:
    rewrite(file, with_column("joints_mm", pa.array([None] + [[0.0] * 51] * 33, pa.list_(pa.float32(), 51))))
    with pytest.raises(InputError, match=file.name):
        read(file)


@pytest.mark.parametrize("name", ["key", "frame"])
def test_text_that_is_none_is_refused(file: Path, name: str) -> None:
    rows = pq.read_table(file).num_rows
    bytes_ = pa.array([b"\xff\xfe"] * rows, pa.binary())
    _, offsets, data = bytes_.buffers()
    rewrite(file, with_column(name, pa.StringArray.from_buffers(rows, offsets, data)))
    with pytest.raises(InputError, match=r"readable Parquet .*write or copy it again"):
        read(file)


def test_rows_that_differ_from_their_hash_are_refused(file: Path) -> None:
    table = read(file)
    info = table.info.model_copy(update={"answers_sha256": table.answers_sha256()})
    write(file, replace(table, info=info))
    assert read(file).info == info
    rewrite(file, with_column("score", pa.array(table.score + 1)))
    with pytest.raises(InputError, match="records were changed after they were predicted"):
        read(file)
    write(file, replace(table, info=info, joints_mm=table.joints_mm + 1))
    assert read(file).info.answers_sha256 is None, "rows changed by a program are other rows"


def test_indefinite_covariances_are_refused(make_truth, make_predictions, tmp_path: Path) -> None:
    table = make_predictions(make_truth())
    half = np.random.default_rng(0).normal(size=(len(table), 2, 6, 6)).astype(np.float32)
    covariance = half @ np.swapaxes(half, 2, 3)
    covariance[0, 0], covariance[1, 0] = 0, np.nan
    info = table.info.model_copy(update={"columns": {"camera_covariance": (2, 6, 6)}})
    write(tmp_path / "whole.parquet", replace(table, info=info, columns={"camera_covariance": covariance}))
    for change in (np.negative, np.triu, lambda c: c * np.where(np.eye(6), 1, 10)):
        changed = covariance.copy()
        changed[2, 1] = change(changed[2, 1])
        with pytest.raises(InputError, match="camera_covariance: 1 records have a matrix that is not symmetric"):
            write(tmp_path / "bad.parquet", replace(table, info=info, columns={"camera_covariance": changed}))
