"""The Python API: the numbers of the command line, errors in one line, current documentation."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_reference import reference

import poseboard as pb

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


def test_a_function_gets_only_declared_inputs(home: Any) -> None:
    keys: list[str] = []

    def camera_frame(sample: pb.Sample) -> pb.Poses:
        keys.append(sample.key)
        assert not hasattr(sample.views[0].camera, "R")
        return pb.Poses(skeleton, np.zeros((1, 17, 3)), np.ones(1), frame=sample.views[0].name)

    samples = pb.load("human36m")
    skeleton = samples.skeleton
    monocular = pb.Inputs(views=(1, 1), extrinsics=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        pb.evaluate(camera_frame, "human36m-monocular", inputs=monocular)
    assert keys
    assert not set(keys) & set(samples.keys)


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
    "no numbers": (lambda samples: pb.evaluate(lambda sample: "a", "T1"), "is str, not an array of numbers"),
    "no file": (lambda samples: pb.evaluate("nowhere.parquet", "T1"), "nowhere.parquet: .*no such file"),
    "no row": (lambda samples: pb.compare("dtl", "x.parquet", "T1"), "'dtl': is neither a row"),
    "rows": (lambda samples: write(samples, truth_mm(samples)[:3]), "joints_mm: has shape"),
    "joints": (lambda samples: write(samples, truth_mm(samples)[:, :3]), "joints_mm: has shape"),
    "half NaN": (lambda samples: write(samples, truth_mm(samples) * [1, 1, np.nan]), "some coordinates NaN"),
    "infinite": (lambda samples: write(samples, truth_mm(samples) * np.inf), "infinite coordinates"),
    "key": (lambda samples: write(samples, truth_mm(samples), ["a"] * len(samples)), "keys\\[0\\]: 'a' is not a key"),
    "name": (lambda samples: write(samples, truth_mm(samples), method="../x"), "'../x' is not a name"),
    "key twice": (
        lambda samples: (
            write(samples, truth_mm(samples)[[0, 0]], samples.keys[:1] * 2),
            pb.evaluate("m.parquet", "T1"),
        ),
        "records repeat a key",
    ),
}


def write(samples: pb.Samples, joints_mm: np.ndarray, keys: Any = None, method: str = "mine") -> object:
    keys = samples.keys if keys is None else keys
    return pb.write_predictions("m.parquet", keys, joints_mm, dataset="human36m", method=method)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_said_in_one_line(home: Any, mistake: str) -> None:
    make, message = MISTAKES[mistake]
    with pytest.raises(pb.InputError, match=message) as raised:
        make(pb.load("human36m"))
    assert "\n" not in str(raised.value)


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


def test_the_example(home: Any) -> None:
    with pytest.warns(UserWarning, match="the median pose is 0 mm tall"):
        printed = runpy.run_path(str(ROOT / "docs" / "example.py"))["report"]()
    assert "mm, worst" in printed
