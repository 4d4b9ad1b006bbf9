"""Roots that one row hands to another: read as it answered them, and predicted once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from predicted import file_name

from poseboard.benchmarks.predict import read_roots, write_roots
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.human36m import CAMERAS
from poseboard.protocols import predictions

ROWS = '''
import numpy as np
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Inputs

ASKED = []


class Finder:
    """Answers where the cameras are, in the mean, and a little that float32 cannot hold."""

    inputs = Inputs(views=(2, 9))

    def __init__(self, options, skeleton):
        self.skeleton, self.offset = skeleton, float(options.get("offset", 0.0))

    def load(self, checkpoint, device):
        pass

    def training(self, start, seed):
        return None

    def predict(self, samples):
        ASKED.append((type(self).__name__, len(samples)))
        return [Poses(self.skeleton, np.full((1, len(self.skeleton), 3), self.number(s)), np.ones(1)) for s in samples]

    def number(self, sample):
        return 1000.0 * len(sample.views) + 1e-9 + self.offset


class Taker(Finder):
    """Answers a million times what float32 takes away from the root that it is handed."""

    inputs = Inputs(views=(1, 9), root="predicted")

    def number(self, sample):
        (root_mm,) = sample.root_mm
        rounded = round(root_mm[0])
        return rounded + 1e8 * (root_mm[0] - rounded)
'''


@pytest.fixture
def rooted(workspace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A workspace with a row that finds roots and one that takes them, trained; and what rows were asked."""
    module = tmp_path / "rooted_rows.py"
    module.write_text(ROWS)
    monkeypatch.syspath_prepend(str(tmp_path))
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    row = {"code": str(module)}
    params["methods"]["finder"] = {**row, "class": "rooted_rows:Finder", "after": "backbone"}
    params["methods"]["taker"] = {**row, "class": "rooted_rows:Taker", "after": "finder"}
    workspace.write_params(**params)
    for name in ("finder", "taker"):
        workspace.must("train", "human36m", name)
    import rooted_rows

    rooted_rows.ASKED.clear()
    yield workspace, rooted_rows.ASKED
    import sys

    del sys.modules["rooted_rows"]


def taken(workspace: Any) -> dict[str, float]:
    """File -> what the taker answered."""
    folder = workspace.folder / "results/smoke/predictions/taker/human36m"
    return {path.name: float(predictions.read(path).joints_mm[0, 0, 0]) for path in sorted(folder.glob("*.parquet"))}


def test_roots_are_read_as_they_were_answered(rooted: Any) -> None:
    workspace, asked = rooted
    workspace.must("predict", "human36m", "finder")
    files = workspace.folder / "results/smoke/predictions/finder/human36m"
    assert len(list(files.glob("*.roots.npz"))) >= 1
    asked.clear()
    workspace.must("predict", "human36m", "taker")
    assert {name for name, _ in asked} == {"Taker"}, "nobody predicts roots a second time"
    answers = taken(workspace)
    assert answers[file_name(root_cameras=CAMERAS)] == pytest.approx(4000.1, abs=1e-3), "in float32 the tenth is lost"
    assert answers[file_name(CAMERAS[0], root_cameras=CAMERAS)] == pytest.approx(4000.1, abs=1e-3)
    before = {path: path.stat().st_mtime_ns for path in files.iterdir()}
    assert "nothing that it depends on changed" in workspace.must("predict", "human36m", "finder").out
    assert {path: path.stat().st_mtime_ns for path in files.iterdir()} == before


def test_roots_that_are_absent_or_of_another_state_are_predicted_now(rooted: Any) -> None:
    workspace, asked = rooted
    workspace.must("predict", "human36m", "taker")
    assert {name for name, _ in asked} == {"Finder", "Taker"}
    first = taken(workspace)
    workspace.must("predict", "human36m", "finder")
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["finder"]["offset"] = 7.0
    workspace.write_params(**params)
    asked.clear()
    (workspace.folder / "results/smoke/predictions/taker/human36m" / file_name(root_cameras=CAMERAS)).unlink()
    workspace.must("predict", "human36m", "taker")
    assert {name for name, _ in asked} == {"Finder", "Taker"}, "the files are of another offset"
    assert taken(workspace)[file_name(root_cameras=CAMERAS)] == pytest.approx(4007.1, abs=1e-3)
    assert first[file_name(root_cameras=CAMERAS)] == pytest.approx(4000.1, abs=1e-3)


def test_a_file_of_roots_is_whole_of_one_basis_or_none(tmp_path: Path) -> None:
    path = tmp_path / "a.roots.npz"
    roots_mm = {"a": np.array([[1.0, 2.0, 1 / 3]]), "b": np.zeros((0, 3)), "c": np.full((2, 3), np.nan)}
    with WholeFiles() as files:
        write_roots(path, roots_mm, "basis", files)
    again = read_roots(path, list(roots_mm), "basis")
    assert again is not None
    for key, of_key in roots_mm.items():
        np.testing.assert_array_equal(again[key], of_key)
    assert read_roots(path, list(roots_mm), "another") is None
    assert read_roots(path, ["a", "b"], "basis") is None
    assert read_roots(tmp_path / "absent.npz", ["a"], "basis") is None
    content = path.read_bytes()
    for damaged in (content[:-30], b"", b"nonsense"):
        path.write_bytes(damaged)
        assert read_roots(path, list(roots_mm), "basis") is None
