"""Rows that carry what one set of cameras showed into another, or claim something else once they have been believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from poseboard.benchmarks.handover import Handover
from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import Human36M
from poseboard.datasets.sample import Poses, View
from poseboard.methods.base import Inputs, declared_inputs
from poseboard.protocols import predictions

ROWS = '''
import numpy as np
from dataclasses import replace
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Inputs


class Plain:
    """Answers one number at every joint."""

    inputs = Inputs(views=(1, 9))

    def __init__(self, options, skeleton):
        self.skeleton = skeleton

    def load(self, checkpoint, device):
        pass

    def training(self, start, seed):
        return None

    def predict(self, samples):
        return [Poses(self.skeleton, np.full((1, len(self.skeleton), 3), self.number(s)), np.ones(1)) for s in samples]


class Hoarder(Plain):
    """Keeps every view it is shown, and answers from how many cameras it knows a sample."""

    def load(self, checkpoint, device):
        self.kept = {}

    def number(self, sample):
        known = self.kept.setdefault(sample.key, {})
        known |= {view.name: view for view in sample.views}
        return 100.0 * len(known)


class Greedy(Plain):
    """Declares no root, and asks for the true one once it has been believed: by a new claim and in the old one."""

    def load(self, checkpoint, device):
        self.inputs = Inputs(views=(1, 9))

    def number(self, sample):
        object.__setattr__(self.inputs, "root", "truth")
        self.inputs = replace(self.inputs, root="truth")
        return 1.0 if sample.root_mm is None else 2.0


class Modest(Plain):
    """Is handed the true root, and denies it when it has answered."""

    def load(self, checkpoint, device):
        self.inputs = Inputs(views=(1, 9), root="truth")

    def number(self, sample):
        object.__setattr__(self.inputs, "root", "none")
        self.inputs = Inputs(views=(1, 9))
        return 1.0 if sample.root_mm is None else 2.0


class Fickle(Plain):
    """Declares another thing whenever it is loaded again."""

    loads = 0

    def load(self, checkpoint, device):
        Fickle.loads += 1
        self.inputs = Inputs(views=(1, 9), root="truth" if Fickle.loads > 1 else "none")

    def number(self, sample):
        return 1.0
'''


@pytest.fixture
def predicted(workspace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Predicts a row of `ROWS`, and gives the command's end and the predictions by set of cameras."""
    module = tmp_path / "cheating_rows.py"
    module.write_text(ROWS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(name: str) -> tuple[Any, dict[str, predictions.PoseTable]]:
        params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
        row = {"class": f"cheating_rows:{name}", "code": str(module), "after": "backbone"}
        params["methods"]["cheat"] = row
        workspace.write_params(**params)
        workspace.must("train", "human36m", "cheat")
        done = workspace.run("predict", "human36m", "cheat")
        folder = workspace.folder / "results/smoke/predictions/cheat/human36m"
        return done, {path.stem: predictions.read(path) for path in sorted(folder.glob("*.parquet"))}

    return run


def test_no_image_is_carried_from_one_set_of_cameras_into_another(predicted: Any) -> None:
    done, tables = predicted("Hoarder")
    assert done.code == 0, done.err
    counts = {len(table.info.condition.cameras) for table in tables.values()}
    assert counts == {1, 2, 3, 4}, "the world of four cameras is predicted from all and from fewer"
    for table in tables.values():
        np.testing.assert_array_equal(table.joints_mm, 100.0 * len(table.info.condition.cameras))


def test_a_claim_made_after_loading_brings_nothing(predicted: Any) -> None:
    done, tables = predicted("Greedy")
    assert done.code == 0, done.err
    for table in tables.values():
        np.testing.assert_array_equal(table.joints_mm, 1.0)
        assert table.info.condition.root == "none"


def test_a_claim_that_is_taken_back_stays_on_record(predicted: Any) -> None:
    done, tables = predicted("Modest")
    assert done.code == 0, done.err
    for table in tables.values():
        np.testing.assert_array_equal(table.joints_mm, 2.0)
        assert table.info.condition.root == "truth"


def test_a_row_declares_the_same_whenever_it_is_loaded(predicted: Any) -> None:
    done, tables = predicted("Fickle")
    assert "row cheat: inputs: were Inputs(" in done.error
    assert not tables or all(table.info.condition.root == "none" for table in tables.values())


def test_what_is_declared_is_copied_and_checked() -> None:
    mine = Inputs(views=(2, 3))
    copy = declared_inputs(mine, "row a")
    object.__setattr__(mine, "root", "truth")
    assert copy == Inputs(views=(2, 3))
    with pytest.raises(InputError, match=r"row a: inputs\.root: .*'none', 'predicted' or 'truth'"):
        declared_inputs(Inputs(root="peek"), "row a")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"row a: inputs\.views\.1: "):
        declared_inputs(Inputs(views=(1, "all")), "row a")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="row a: inputs: dict is not an Inputs"):
        declared_inputs({}, "row a")  # type: ignore[arg-type]


def test_k_names_no_camera_of_the_rendered_world(workspace: Any, tmp_path: Path) -> None:
    """A look-up by the lenses in the labels, which are public: of every crop it names the camera, and of these none."""
    world = Human36M(workspace.world)
    keys = [key for split in ("train", "test") for key in world.keys(split)]

    def features(view: View) -> np.ndarray:
        """Of crops of square boxes; fx and fy alone change with the box."""
        K = view.camera.K
        return np.array([np.log(K[0, 0] / K[1, 1]), *view.camera.size])

    table = {view.name: features(view) for view in world.sample(keys[0]).views}
    for values in table.values():
        values[1:] = 64

    def named(inputs: Inputs) -> list[bool]:
        right = []
        for salt in range(4):  # chosen in another order, the views are drawn otherwise
            cameras = (*world.views[salt:], *world.views[:salt])
            given = Handover(world, inputs, tmp_path, cameras=cameras)
            for key in keys:
                (sample,) = given.samples(key)
                for view in sample.views:
                    found = min(table, key=lambda name: float(np.abs(table[name] - features(view)).sum()))
                    asked = Poses(world.skeleton, np.zeros((1, len(world.skeleton), 3)), np.ones(1), view.name)
                    right.append(given.merge(key, [asked]).frame == found)
        return right

    assert all(named(Inputs(crop_px=64, images=False)))
    right = named(Inputs(crop_px=64, images=False, extrinsics=False))
    assert len(right) >= 96
    assert np.mean(right) < 0.25 + 3.09 * np.sqrt(0.25 * 0.75 / len(right)), "what one guesser in a thousand exceeds"
