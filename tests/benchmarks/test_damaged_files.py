"""No file makes a reader hang, exhaust the memory or raise a traceback: each gives one line with its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from damaged_files import DAMAGES, NOT_REGULAR

from poseboard.benchmarks.exchange.freeze import check_frozen
from poseboard.benchmarks.params import read_params
from poseboard.benchmarks.pipeline import due_stages, remove_broken_lock, stage_times
from poseboard.benchmarks.plan import profile_of_run
from poseboard.datasets.calibrations import read_calibration
from poseboard.datasets.detections import read_detections
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import parse_json, parse_yaml
from poseboard.datasets.motion import read_motion
from poseboard.datasets.rig import read_rig
from poseboard.datasets.sample import read_image
from poseboard.datasets.unpickle import read_pickle
from poseboard.methods.checkpoint import Checkpoint
from poseboard.protocols import predictions
from poseboard.protocols.records import (
    ComparisonFile,
    DataFile,
    PublishedTable,
    ResultError,
    ScoreFile,
    TrainingFile,
)
from poseboard.protocols.root_files import read_roots
from poseboard.protocols.submissions import read_card
from poseboard.protocols.table import read_tables
from poseboard.report.examples import read_examples
from poseboard.report.readme import read_readme


def plan_in(home: Path) -> Any:
    times = home / "results" / "default" / "stage-times.json"
    return SimpleNamespace(home=home, rows=("dlt",), layout=SimpleNamespace(stage_times=times))


READERS: dict[str, Callable[[Path], Any]] = {
    "params.yaml": read_params,
    "results/run.yaml": lambda path: profile_of_run(path.parents[1]),
    "dvc.yaml": lambda path: due_stages(plan_in(path.parent)),
    "frozen/v1/SHA256SUMS": lambda path: check_frozen(path.parents[2], "v1"),
    "scores.json": ScoreFile.read,
    "training.json": TrainingFile.read,
    "comparison.json": ComparisonFile.read,
    "data.json": DataFile.read,
    "T1.yaml": PublishedTable.read,
    "table.yaml": read_tables,
    "card.yaml": read_card,
    "bbox_root_pose.json": read_roots,
    "test.parquet": predictions.read,
    "examples.npz": read_examples,
    "seed0.pt": Checkpoint.read,
    "rig.yaml": read_rig,
    "calibration.json": read_calibration,
    "walk.trc": read_motion,
    "walk.c3d": read_motion,
    "detections.pkl": read_detections,
    "labels.npy": read_pickle,
    "image.jpg": read_image,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    DAMAGES[damage](path)
    with pytest.raises((InputError, ResultError, OSError)) as caught:
        READERS[name](path)
    # The command line prints an OSError that names its file in one line.
    assert not isinstance(caught.value, OSError) or caught.value.filename == str(path)
    assert path.name in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("damage", [*NOT_REGULAR, "not UTF-8"])
def test_a_readme_that_is_no_text_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "README.md"
    assert read_readme(path) is None
    DAMAGES[damage](path)
    with pytest.raises(ResultError, match=r"README\.md: cannot be read"):
        read_readme(path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_notes_of_a_run_are_no_notes(tmp_path: Path, damage: str) -> None:
    plan = plan_in(tmp_path)
    plan.layout.stage_times.parent.mkdir(parents=True)
    DAMAGES[damage](plan.layout.stage_times)
    assert stage_times(plan) == {}
    lock = tmp_path / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(parents=True)
    DAMAGES[damage](lock)
    if damage in NOT_REGULAR:
        with pytest.raises(OSError, match="rwlock"):
            remove_broken_lock(tmp_path)
    else:
        remove_broken_lock(tmp_path)
        assert lock.exists() is (damage == "null")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: [", "line 3: "),
        ("a: 1\na: 2", "line 2: found duplicate key"),
        ("a: !!bool maybe", "cannot be parsed: 'maybe'"),
        ("a: !!int ''", "cannot be parsed: "),
        ("a: 2001-99-99", "month must be in 1..12"),
        ("a: !!python/object/apply:os.system [id]", "line 1: could not determine a constructor"),
        ("a: " + "1" * 5000, "5000 digits"),
        ("a: " + "[" * 5000, "is nested deeper than 100 levels"),
        ("- " * 5000, "is nested deeper than 100 levels"),
        ("a: *b", "line 1: found undefined alias"),
        ("a: &b {c: [*b]}", "has a value 'b' that contains itself"),
        ('a: "\\ud800"', "line 1: found invalid Unicode character escape code"),
        ("a: \0", "characters are not allowed"),
    ],
)
def test_a_text_that_is_not_yaml_is_one_problem(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"\xff", b"[" * 10**5, b"1" * 5000, b'{"a": ', b"\xfe\xff", b"", b'"\\ud800"'])
def test_a_text_that_is_not_json_is_one_problem(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)
