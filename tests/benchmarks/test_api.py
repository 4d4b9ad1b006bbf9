"""The Python API: the numbers of the command line, errors in one line, current documentation."""

from __future__ import annotations

import doctest
import json
import re
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from api_reference import reference

import poseboard as pb
from poseboard.benchmarks import api
from poseboard.datasets import skeleton

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(workspace.folder)
    return workspace


def truth_mm(samples: pb.Samples) -> np.ndarray:
    return np.concatenate([samples.truth(key).joints_mm for key in samples.keys])


def test_a_function_its_file_and_the_command_line_have_one_number(home: Any) -> None:
    samples = pb.load("human36m")
    by_key = dict(zip(samples.keys, truth_mm(samples) + np.random.default_rng(0).normal(0, 9, (1, 17, 3)), strict=True))
    of_function = pb.evaluate(lambda sample: by_key[sample.key], "T1")
    batched = pb.evaluate(lambda batch: [by_key[sample.key] for sample in batch], "T1", batched=True)
    file = pb.write_predictions(
        "mine.parquet", samples.keys, np.stack(list(by_key.values())), dataset="human36m", method="mine"
    )
    scored = pb.evaluate(file, "T1")
    printed = home.must("score", "human36m", "mine", "--predictions", "mine.parquet", "--json")
    (of_command,) = [score for score in json.loads(printed.out)["scores"] if score["table"] == "T1"]
    assert of_function.value == batched.value == scored.value == of_command["value"] > 0
    assert of_function.signature == scored.signature
    assert of_function.unit == "mm"
    assert of_function.ci95 == scored.ci95
    assert len(of_function.per_joint) == 17
    assert of_function.per_action.mean() == pytest.approx(of_function.value)
    assert set(of_function.errors["key"]) == set(samples.keys)


def test_comparison_with_a_row(home: Any) -> None:
    samples = pb.load("human36m")
    pb.write_predictions("true.parquet", samples.keys, truth_mm(samples), dataset="human36m", method="true")
    difference = pb.compare("dlt", "true.parquet", table="T1")
    assert difference.difference is not None
    assert difference.difference < 0
    assert difference.a == pytest.approx(-difference.difference, abs=1e-3)
    assert difference.decided == (difference.verdict == "better")
    assert set(difference.per_joint.index) == set(samples.skeleton.joints)
    assert (difference.per_joint["b"] < 1e-3).all()
    assert len(difference.per_action) == 3
    for summary in (difference, pb.evaluate("true.parquet", "T1")):
        assert re.fullmatch(r"<\w+ T1: [^\n]{1,80}>", repr(summary))


def test_a_function_gets_only_declared_inputs(home: Any) -> None:
    keys: list[str] = []

    def camera_frame(sample: pb.Sample) -> pb.Poses:
        keys.append(sample.key)
        assert not hasattr(sample.views[0].camera, "R")
        return pb.Poses(skeleton.HUMAN36M, np.zeros((1, 17, 3)), np.ones(1), frame=sample.views[0].name)

    samples = pb.load("human36m")
    monocular = pb.Inputs(views=(1, 1), extrinsics=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        pb.evaluate(camera_frame, "human36m-monocular", inputs=monocular)
        without_extrinsics = pb.evaluate(camera_frame, "T6", inputs=pb.Inputs(extrinsics=False))
    assert keys
    assert not set(keys) & set(samples.keys)
    assert "extrinsics:withheld" in without_extrinsics.signature


MISTAKES: dict[str, tuple[Callable[[pb.Samples], object], str]] = {
    "data set": (
        lambda samples: pb.load("human37m"),
        "data set 'human37m': is not in params.yaml; did you mean human36m",
    ),
    "split": (
        lambda samples: pb.load("human36m", "tset"),
        "split 'tset': is not a split of human36m; did you mean test",
    ),
    "camera": (lambda samples: pb.load("human36m", cameras=["x"]), "camera 'x': is not a camera of human36m"),
    "table": (lambda samples: pb.evaluate(np.sum, "T11"), "table 'T11': is not a table on any data set"),
    "shape": (lambda samples: pb.evaluate(lambda sample: np.zeros((16, 3)), "T1"), r"returned shape \(16, 3\), not"),
    "joint set": (
        lambda samples: pb.evaluate(root_only, "T1"),
        "root_only: returned Poses of root; return the 17 joints",
    ),
    "no numbers": (lambda samples: pb.evaluate(lambda sample: "a", "T1"), "is str, not an array of numbers"),
    "no function": (lambda samples: pb.evaluate(3, "T1"), "predict: is int, not a function or a path"),
    "half NaN of a function": (
        lambda samples: pb.evaluate(half_nan, "T1"),
        "^half_nan: joints_mm: 6 records have joints",
    ),
    "two people": (
        lambda samples: pb.evaluate(lambda sample: np.zeros((2, 17, 3)), "T1"),
        "^<lambda>: key: 6 records repeat a key",
    ),
    "no batch": (
        lambda samples: pb.evaluate(half_nan, "T1", batched=True),
        "^half_nan: returned 17 results for 6 samples",
    ),
    "no list": (lambda samples: pb.evaluate(lambda batch: None, "T1", batched=True), "^<lambda>: returned NoneType"),
    "extrinsics": (
        lambda samples: pb.evaluate(half_nan, "T1", inputs=pb.Inputs(extrinsics=False)),
        "inputs.extrinsics: is False, and T1 needs poses in the world frame; use .*, or a table .*, such as T6,",
    ),
    "views": (
        lambda samples: pb.evaluate(half_nan, "T1", inputs=pb.Inputs(views=(1, 3))),
        r"inputs.views: is \(1, 3\), and the conditions of T1 have 4 views",
    ),
    "no file": (lambda samples: pb.evaluate("nowhere.parquet", "T1"), "nowhere.parquet: .*no such file"),
    "no row": (lambda samples: pb.compare("dtl", "x.parquet", "T1"), "'dtl': is neither a row"),
    "rows": (lambda samples: write(samples, truth_mm(samples)[:3]), "joints_mm: has shape"),
    "joints": (lambda samples: write(samples, truth_mm(samples)[:, :3]), "joints_mm: has shape"),
    "half NaN": (lambda samples: write(samples, truth_mm(samples) * [1, 1, np.nan]), "some coordinates NaN"),
    "infinite": (lambda samples: write(samples, truth_mm(samples) * np.inf), "infinite coordinates"),
    "key": (lambda samples: write(samples, truth_mm(samples), ["a"] * len(samples)), "keys\\[0\\]: 'a' is not a key"),
    "key twice": (
        lambda samples: write(samples, truth_mm(samples)[[0, 0]], samples.keys[:1] * 2),
        r"keys\[1\]: repeats 'S9/.*', and a sample of human36m has one person",
    ),
    "no key": (lambda samples: write(samples, np.zeros((0, 17, 3)), []), "keys: is empty"),
    "key without name": (lambda samples: write(samples, truth_mm(samples), [1] * 6), r"keys\[0\]: is int, not a text"),
    "name": (lambda samples: write(samples, truth_mm(samples), method="../x"), "'../x' is not a name"),
    "number as name": (lambda samples: write(samples, truth_mm(samples), method=3), r"method: .*valid string \(is 3\)"),
    "joint": (
        lambda samples: write(samples, truth_mm(samples), joints=["hip", *samples.skeleton.joints[1:]]),
        r"joints\[0\]: 'hip' is not a joint of human36m-17",
    ),
    "unknown camera": (
        lambda samples: write(samples, truth_mm(samples), cameras=["5413896"]),
        "camera '5413896': is not a camera of human36m; did you mean 54138969",
    ),
    "no camera": (lambda samples: write(samples, truth_mm(samples), cameras=[]), "cameras: is empty"),
    "text of cameras": (
        lambda samples: write(samples, truth_mm(samples), cameras="54138969"),
        "cameras: is '54138969', not a list of names",
    ),
    "people": (lambda samples: write(samples, truth_mm(samples), people="foo"), r"people: .*'all' \(is 'foo'\)"),
    "seed": (lambda samples: write(samples, truth_mm(samples), seed="a"), r"seed: .*valid integer.* \(is 'a'\)"),
    "folder": (lambda samples: write(samples, truth_mm(samples), path="."), "^.: is not the name of a .parquet file"),
    "folder in the way": (
        lambda samples: (Path("a.parquet").mkdir(), write(samples, truth_mm(samples), path="a.parquet")),
        r"^a.parquet: cannot be written \(Is a directory\)",
    ),
}


def write(samples: pb.Samples, joints_mm: Any, keys: Any = None, path: Any = "m.parquet", **options: Any) -> Path:
    keys = samples.keys if keys is None else keys
    return pb.write_predictions(path, keys, joints_mm, **{"dataset": "human36m", "method": "mine", **options})


def half_nan(sample: pb.Sample) -> np.ndarray:
    return np.where(np.arange(17)[:, None] == 3, [0, np.nan, 0], 0.0)


def root_only(sample: pb.Sample) -> pb.Poses:
    return pb.Poses(skeleton.ROOT, np.zeros((1, 1, 3)), np.ones(1))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_said_in_one_line(home: Any, mistake: str) -> None:
    make, message = MISTAKES[mistake]
    with pytest.raises(pb.InputError, match=message) as raised:
        make(pb.load("human36m"))
    assert "\n" not in str(raised.value)


def test_an_error_of_a_function_names_it(home: Any) -> None:
    def fails(sample: pb.Sample) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError) as raised:
        pb.evaluate(fails, "T1")
    assert raised.value.__notes__[0].startswith("raised by fails on S9/")


def test_a_file_is_scored_under_its_method_or_another_name(home: Any) -> None:
    samples = pb.load("human36m")
    path = write(samples, truth_mm(samples), method="m")
    assert pb.evaluate(path, "T1").value == pb.evaluate(path, "T1", name="other").value == pytest.approx(0, abs=1e-3)


MISMATCHES: dict[str, tuple[dict[str, Any], str]] = {
    "dataset": ({"dataset": "rigs"}, "metadata.dataset: is 'rigs', scored against 'human36m'; score it on rigs"),
    "manifest": ({"manifest": "x", "cameras": ["x"]}, "metadata.manifest: is 'x', scored against"),
    "split": ({"split": "train"}, "metadata.condition.split: is 'train', scored against 'test'"),
    "camera": ({"cameras": ["x"]}, "metadata.condition.cameras: 'x' is not a camera of human36m; one of 54138969, "),
    "cameras": (
        {"cameras": ["58860488", "54138969"]},
        "metadata.condition.cameras: 58860488, 54138969 are not the cameras of table T1; predict with 54138969, ",
    ),
    "frames": ({"every": 7}, "metadata.condition: cannot be scored in table T1; predict under a condition of it"),
}


@pytest.mark.parametrize("mismatch", MISMATCHES)
def test_predictions_that_match_no_table_say_why(home: Any, mismatch: str) -> None:
    changes, message = MISMATCHES[mismatch]
    path = relabelled(changes)
    with pytest.raises(pb.InputError, match=f"^m.parquet: {message}"):
        pb.evaluate(path, "T1")


def test_the_command_line_says_why_predictions_match_no_table(home: Any) -> None:
    error = home.run("score", relabelled({"cameras": ["x"]})).error
    assert "m.parquet: metadata.condition.cameras: 'x' is not a camera of human36m" in error
    error = home.run("score", relabelled({"dataset": "rigs"})).error
    assert "m.parquet: metadata.dataset: 'rigs' is not in params.yaml; one of human36m" in error


def relabelled(changes: dict[str, Any]) -> Path:
    """A file of true poses with other metadata."""
    samples = pb.load("human36m")
    table = pq.read_table(path := write(samples, truth_mm(samples)))
    info = json.loads(table.schema.metadata[b"poseboard"])
    for name, value in changes.items():
        (info if name in info else info["condition"])[name] = value
    pq.write_table(table.replace_schema_metadata({b"poseboard": json.dumps(info)}), path)
    return path


@pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame])
def test_joints_may_be_columns(home: Any, kind: Callable[[np.ndarray], Any]) -> None:
    samples = pb.load("human36m")
    write(samples, kind(truth_mm(samples).reshape(len(samples), -1)), pd.Series(samples.keys))
    assert pb.evaluate("m.parquet", "T1").value == pytest.approx(0, abs=1e-3)


def test_input_cameras_have_the_order_of_the_data_set(home: Any) -> None:
    samples = pb.load("human36m")
    write(samples, truth_mm(samples), cameras=[view.name for view in samples[0].views][::-1])
    assert pb.evaluate("m.parquet", "T1").value == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda joints_mm: joints_mm / 1000, "these seem to be metres"),
        (lambda joints_mm: joints_mm[:, ::-1], "if the joints are reversed"),
    ],
)
def test_simple_mistakes_are_warned_of(home: Any, change: Callable[..., np.ndarray], message: str) -> None:
    samples = pb.load("human36m")
    with pytest.warns(UserWarning, match=message):
        write(samples, change(truth_mm(samples)))


def test_the_notebook_runs(home: Any) -> None:
    notebook = json.loads((ROOT / "docs" / "compare.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (command,) = re.findall(r"`(poseboard compare .*?)`", "".join(notebook["cells"][-1]["source"]))
    assert command.endswith(" --profile smoke")
    namespace: dict[str, Any] = {}
    for cell in cells:
        exec(cell, namespace)
    assert 0 < namespace["score"].value < 1000
    assert namespace["difference"].difference == pytest.approx(namespace["score"].value - namespace["difference"].a)


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, poseboard; print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
    assert set(pb.__all__) == set(dir(pb))
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        pb.evaluat  # noqa: B018


def test_the_reference_is_current() -> None:
    assert (ROOT / "docs" / "api.md").read_text() == reference(), "run `python tests/api_reference.py > docs/api.md`"


@pytest.mark.parametrize("name", ["poseboard", *pb.__all__])
def test_the_examples_of_the_docstrings(home: Any, name: str) -> None:
    names = {**vars(api), **vars(skeleton), "view": pb.load("human36m")[0].views[0]}
    for entry in (pb.write_predictions, getattr(pb, name, pb)):  # the former writes the file that the others read
        (examples,) = doctest.DocTestFinder(recurse=False).find(entry, name, globs=names)
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples).failed == 0


def test_the_example(home: Any) -> None:
    with pytest.warns(UserWarning, match="the median pose is 0 mm tall"):
        printed = runpy.run_path(str(ROOT / "docs" / "example.py"))["report"]()
    assert "mm, worst" in printed
