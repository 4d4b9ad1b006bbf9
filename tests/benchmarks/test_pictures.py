"""Pictures that a method draws of its answers: from the predict stage to its page, on the miniature world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from poseboard.protocols.records import PictureFile

ROWS = {"epipolar": "epipolar", "control": "unconstrained", "baseline": "none"}
FOLDER = "results/smoke/predictions"


@pytest.fixture(scope="module")
def samples_drawn() -> None:
    """As many as by default."""


@pytest.fixture(scope="module")
def trained(copied_into: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    workspace = copied_into(tmp_path_factory.mktemp("pictures"))
    folder = workspace.folder
    row = {"code": "methods/epipolar", "after": "backbone", "steps": 1, "batch_size": 2}
    rows = {name: {**row, "fusion": fusion, "attention": {"samples": 6}} for name, fusion in ROWS.items()}
    params = yaml.safe_load((folder / "params.yaml").read_text())
    workspace.write_params(**{**params, "methods": {"backbone": params["methods"]["backbone"], **rows}})
    for name in ROWS:
        workspace.must("train", "human36m", name)
        workspace.must("predict", "human36m", name)
        workspace.must("score", "human36m", name)
    return workspace


def pictures_of(workspace: Any, row: str) -> Path:
    return Path(workspace.folder / FOLDER / row / "human36m" / "pictures")


def test_rows_that_look_at_other_views_draw_where(trained: Any) -> None:
    assert not pictures_of(trained, "baseline").exists()
    own, control = (PictureFile.read(pictures_of(trained, row) / "pictures.json") for row in ("epipolar", "control"))
    assert [drawn.key for drawn in own.pictures] == [drawn.key for drawn in control.pictures]  # both of the same
    assert len({drawn.key for drawn in own.pictures}) == 3
    for drawn in own.pictures:
        assert drawn.title == "Right wrist"
        with Image.open(pictures_of(trained, "epipolar") / drawn.file) as picture:
            assert picture.width > picture.height > 300


def test_they_are_on_the_pages_of_these_rows(trained: Any) -> None:
    trained.must("report")
    pages = trained.folder / "results/smoke/leaderboard"
    for name in ("epipolar", "control"):
        text = (pages / f"methods/{name}.html").read_text(encoding="utf-8")
        assert text.count("<strong>Right wrist of") == 3
        assert len(list((pages / "pictures").glob(f"{name}-human36m-*.jpg"))) == 3
    assert "Right wrist" not in (pages / "methods/baseline.html").read_text(encoding="utf-8")


def test_images_of_a_real_data_set_are_not_shown_and_old_pictures_do_not_stay(trained: Any) -> None:
    (trained.world / "manifest.json").unlink()  # a tree without it is read as a real one
    trained.must("predict", "human36m", "epipolar")
    for drawn in PictureFile.read(pictures_of(trained, "epipolar") / "pictures.json").pictures:
        assert "Images of real people are not shown" in drawn.caption
    left = pictures_of(trained, "baseline") / "0.png"
    left.parent.mkdir()
    left.write_bytes(b"of an earlier run")
    trained.must("predict", "human36m", "baseline")
    assert not left.exists()


DRAWING = '''
import numpy as np
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Inputs, Picture


class Told:
    """Answers one number per set of cameras, another one once it has been asked for a picture."""

    drawn = []
    inputs = Inputs(views=(1, 9), crop_px=16)

    def __init__(self, options, skeleton):
        self.skeleton, self.seen = skeleton, 0

    def load(self, checkpoint, device):
        pass

    def training(self, start, seed):
        return None

    def predict(self, samples):
        self.seen += len(samples)
        number = 1000.0 + len(Told.drawn)
        return [Poses(self.skeleton, np.full((1, len(self.skeleton), 3), number), np.ones(1)) for s in samples]

    def figures(self, sample, answer, *, images):
        Told.drawn.append((sample, answer, self.seen))
        return [Picture("What it drew", "Black.", np.zeros((8, 8, 3), np.uint8))]


class NoPicture(Told):
    def figures(self, sample, answer, *, images):
        return [Picture("Nothing", "None.", np.zeros((8, 8)))]
'''


@pytest.fixture
def drawing(workspace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    module = tmp_path / "drawing_rows.py"
    module.write_text(DRAWING)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(name: str) -> Any:
        params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
        params["methods"]["drawing"] = {
            "class": f"drawing_rows:{name}", "code": str(module), "after": "backbone",
        }  # fmt: skip
        workspace.write_params(**params)
        workspace.must("train", "human36m", "drawing")
        return workspace.run("predict", "human36m", "drawing")

    return run


def test_nothing_that_is_handed_over_for_a_picture_reaches_a_prediction(drawing: Any, workspace: Any) -> None:
    import drawing_rows

    from poseboard.protocols import predictions

    done = drawing("Told")
    assert done.code == 0, done.err
    tables = [predictions.read(path) for path in (workspace.folder / FOLDER / "drawing/human36m").glob("*.parquet")]
    assert len(tables) > 2
    for table in tables:  # every set of cameras was predicted before the first picture was asked for
        assert (table.joints_mm == 1000.0).all()
    assert len(drawing_rows.Told.drawn) == 3
    for sample, answer, seen in drawing_rows.Told.drawn:
        assert seen == 0, "it is asked of a model that has predicted nothing"
        assert sample.root_mm is None
        assert [view.image.shape for view in sample.views] == [(16, 16, 3)] * 4
        assert (answer.joints_mm == 1000.0).all()


def test_what_is_no_picture_is_named(drawing: Any, workspace: Any) -> None:
    error = drawing("NoPicture").error
    assert "row drawing: figures: drew float64 (8, 8)" in error
    assert not list((workspace.folder / FOLDER).glob("drawing/human36m/*.parquet"))
