"""`poseboard verify`: the first stage that differs, for planted faults, and the badge of submissions."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from poseboard.benchmarks import handover
from poseboard.datasets.human36m import Human36M
from poseboard.datasets.sample import Sample
from poseboard.methods.checkpoint import Checkpoint
from poseboard.protocols import predictions
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.submissions import read_submission

RESULTS = "results/smoke"
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "example-submission"
Patch = pytest.MonkeyPatch


def rewrite(workspace: Any, change: Callable[[PoseTable], PoseTable]) -> None:
    """Change the recorded predictions of dlt."""
    for path in (workspace.folder / RESULTS / "predictions/dlt/human36m").glob("*.parquet"):
        predictions.write(path, change(predictions.read(path)))


def with_joints(change: Callable[[Any], Any]) -> Callable[[Any, Patch], None]:
    """Fault that changes recorded joints in mm."""

    def plant(workspace: Any, patch: Patch) -> None:
        rewrite(workspace, lambda table: replace(table, joints_mm=np.asarray(change(table.joints_mm), np.float32)))

    return plant


def swap_channels(workspace: Any, patch: Patch) -> None:
    """Crops come in BGR now."""
    crop = handover.crop

    def swapped(*arguments: Any) -> Sample:
        sample = crop(*arguments)
        views = [replace(view, image=np.ascontiguousarray(view.pixels()[..., ::-1])) for view in sample.views]
        return replace(sample, views=tuple(views))

    patch.setattr(handover, "crop", swapped)


def shuffle_cameras(workspace: Any, patch: Patch) -> None:
    """Each view comes with the camera of the next one now."""
    choose = handover.choose_cameras

    def shuffled(*arguments: Any) -> Sample:
        views = choose(*arguments).views
        cameras = [view.camera for view in (*views[1:], views[0])]
        chosen = tuple(replace(view, camera=camera) for view, camera in zip(views, cameras, strict=True))
        return replace(choose(*arguments), views=chosen)

    patch.setattr(handover, "choose_cameras", shuffled)


def move_a_subject(workspace: Any, patch: Patch) -> None:
    """The training subject counts as a test subject now."""
    keys = Human36M.keys
    patch.setattr(Human36M, "keys", lambda self, split: keys(self, "test") + keys(self, "train")[:1])


def change_an_image(workspace: Any, patch: Patch) -> None:
    """One byte of one image, which keeps its size."""
    path = sorted(workspace.world.rglob("*.jpg"))[-1]
    path.write_bytes(path.read_bytes()[:-3] + b"\x00\xff\xd9")


def use_other_version(workspace: Any, patch: Patch) -> None:
    """Another release of PyTorch, whose results are 0.5 mm away."""
    with_joints(lambda joints_mm: joints_mm + 0.3)(workspace, patch)
    path = workspace.folder / RESULTS / "scores/dlt/human36m.json"
    record = json.loads(path.read_text())
    record["provenance"]["versions"]["torch"] = "1.0.0"
    path.write_text(json.dumps(record))


def round_weights(workspace: Any, patch: Patch) -> None:
    """Weights are stored in float16 now."""
    path = workspace.folder / RESULTS / "checkpoints/dlt/human36m/seed0.pt"
    whole = Checkpoint.read(path)
    half = {name: value.half().float() if value.is_floating_point() else value for name, value in whole.state.items()}
    replace(whole, state=half).save(path)


def move_a_joint(workspace: Any, patch: Patch) -> None:
    """One joint is moved by 3 mm, and the hash of the records is kept."""

    def moved(table: PoseTable) -> PoseTable:
        joints_mm = table.joints_mm.copy()
        joints_mm[0, 0, 0] += 3
        return replace(table, joints_mm=joints_mm)

    with pytest.MonkeyPatch.context() as keeping:
        keeping.setattr(PoseTable, "is_changed", False)
        rewrite(workspace, moved)


def truncate_a_file(workspace: Any, patch: Patch) -> None:
    """The last 100 bytes of a predictions file are lost."""
    path = next((workspace.folder / RESULTS / "predictions/dlt/human36m").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-100])


def train_with_other_seed(workspace: Any, patch: Patch) -> None:
    """The weights of seed 1 are recorded as those of seed 0."""
    values = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    text = (workspace.folder / "params.yaml").read_text()
    values["profiles"]["smoke"]["seeds"] = [1]
    workspace.write_params(**values)
    workspace.must("train", "human36m", "backbone")
    (workspace.folder / "params.yaml").write_text(text)
    path = workspace.folder / RESULTS / "training/backbone/human36m.json"
    record = json.loads(path.read_text().replace('"seed1"', '"seed0"'))
    record["runs"][0]["seed"], record["provenance"]["seeds"] = 0, [0]
    path.write_text(json.dumps(record))
    checkpoints = workspace.folder / RESULTS / "checkpoints/backbone/human36m"
    (checkpoints / "seed1.pt").replace(checkpoints / "seed0.pt")


def train_longer(workspace: Any, patch: Patch) -> None:
    """The row is trained again, and not predicted again."""
    values = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    values["methods"]["backbone"]["steps"] = 4
    workspace.write_params(**values)
    for row in ("backbone", "dlt"):
        workspace.must("train", "human36m", row)


def change_a_loss(workspace: Any, patch: Patch) -> None:
    """The last recorded loss of the backbone is a fifth larger."""
    path = workspace.folder / RESULTS / "training/backbone/human36m.json"
    record = json.loads(path.read_text())
    record["runs"][0]["curves"]["total"]["y"][-1] *= 1.2
    path.write_text(json.dumps(record))


def change_the_start(workspace: Any, patch: Patch) -> None:
    """The backbone has other weights now."""
    path = workspace.folder / RESULTS / "checkpoints/backbone/human36m/seed0.pt"
    whole = Checkpoint.read(path)
    replace(whole, state={name: value * 2 for name, value in whole.state.items()}).save(path)


FAULTS: dict[str, tuple[Callable[[Any, Patch], None], str, str]] = {
    "normalisation": (swap_channels, "inputs", "first sample: mean colour"),
    "joint order": (with_joints(lambda joints: joints[:, ::-1]), "predictions", "recorded in another joint order"),
    "unit": (with_joints(lambda joints: joints / 1000), "predictions", "recorded in metres"),
    "split": (move_a_subject, "data", "test samples recorded"),
    "precision": (with_joints(np.float16), "predictions", "precision of float16"),
    "library version": (use_other_version, "predictions", "possible cause: torch 1.0.0 when recorded"),
    "one changed image": (change_an_image, "data", ".jpg"),
    "other seed": (train_with_other_seed, "initial weights", "of seed 0 at step 1"),
    "shuffled cameras": (shuffle_cameras, "inputs", "first sample: camera"),
    "stale predictions": (train_longer, "predictions", "stale: made with checkpoint"),
    "moved joint": (move_a_joint, "predictions", "its records were changed after they were predicted"),
    "truncated file": (truncate_a_file, "predictions", "is not readable Parquet"),
    "training curve": (change_a_loss, "training curve", "total of seed 0 at step 3"),
    "initial weights": (change_the_start, "initial weights", "checkpoint seed0 of backbone is not"),
    "precision of weights": (round_weights, "checkpoint", "seed0 is not the file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_stage_that_differs_is_named(workspace: Any, monkeypatch: Patch, fault: str) -> None:
    plant, stage, says = FAULTS[fault]
    plant(workspace, monkeypatch)
    row = ("backbone", "--train") if fault in ("other seed", "training curve") else ("dlt", "--table", "T1")
    done = workspace.run("verify", *row)
    assert done.code == 1, done.err
    assert f"first difference: {stage}" in done.out.splitlines(), done.out
    assert says in done.out


def test_unchanged_results_are_confirmed_and_stay_as_they_are(workspace: Any) -> None:
    before = workspace.snapshot()
    done = workspace.must("verify", "dlt", "--json")
    (repetition,) = json.loads(done.out)
    states = {stage["name"]: stage["state"] for stage in repetition["stages"]}
    assert states == {name: "not checked" if name == "training curve" else "ok" for name in states}
    assert (repetition["first"], len(states)) == (None, 7)
    assert workspace.snapshot() == before  # the repetition leaves nothing

    path = workspace.folder / RESULTS / "scores/dlt/human36m.json"
    recorded = json.loads(path.read_text())
    recorded["scores"][0]["title"] = "In other words"
    path.write_text(json.dumps(recorded))
    workspace.must("verify", "dlt")
    recorded["scores"][0]["value"] += 1
    path.write_text(json.dumps(recorded))
    assert "first difference: scores" in workspace.run("verify", "dlt").out
    shutil.rmtree(workspace.folder / RESULTS / "predictions/dlt")
    done = workspace.run("verify", "dlt")
    assert "not recorded" in next(line for line in done.out.splitlines() if line.startswith("  predictions"))


def test_a_submission_is_verified_only_if_its_row_makes_its_predictions(workspace: Any) -> None:
    folder = workspace.folder / "submissions/example"
    folder.mkdir(parents=True)
    shutil.copyfile(EXAMPLE / "card.yaml", folder / "card.yaml")

    def submit(moved_mm: float) -> None:
        """The predictions of dlt, those of the first file moved along each axis."""
        for number, path in enumerate(sorted((workspace.folder / RESULTS / "predictions/dlt").rglob("*.parquet"))):
            table = predictions.read(path)
            info = table.info.model_copy(update={"method": "example"})
            joints_mm = table.joints_mm + np.float32(0 if number else moved_mm)
            predictions.write(folder / path.name, replace(table, info=info, joints_mm=joints_mm))

    submit(0)
    done = workspace.must("verify", "example", "--row", "dlt", "--table", "T1")
    assert "stays claimed: not all of its files" in done.err
    done = workspace.must("verify", "example")
    assert "stays claimed: only its numbers were computed again" in done.err
    assert read_submission(folder).badge == "claimed"
    assert "example is verified" in workspace.must("verify", "submissions/example", "--row", "dlt").err
    assert read_submission(folder).badge == "verified"
    with pytest.MonkeyPatch.context() as keeping:
        keeping.setattr(PoseTable, "is_changed", False)
        submit(3)
    done = workspace.run("verify", "example")
    assert (done.code, (folder / "verified.json").exists()) == (1, False)
    assert "its records were changed after they were predicted" in done.out
    submit(0)
    workspace.must("verify", "example", "--row", "dlt")
    submit(0.2)
    assert read_submission(folder).badge == "claimed"
    done = workspace.run("verify", "example", "--row", "dlt")
    assert (done.code, (folder / "verified.json").exists()) == (1, False)
    assert "first difference: predictions" in done.out
    workspace.must("verify", "example", "--row", "dlt", "--tolerance", "0.5")
    assert read_submission(folder).badge == "verified"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ransak",), "is neither a row of params.yaml nor in submissions/"),
        (("../dlt",), "is neither a row of params.yaml nor in submissions/"),
        (("dlt", "--row", "dlt"), "--row dlt: is used with dlt, which is a row"),
        (("dlt", "--table", "T99"), "--table T99: is not a table"),
        (("dlt", "--dataset", "human"), "data set 'human': is not in params.yaml"),
        (("dlt", "--tolerance", "-1"), "--tolerance -1: is not a tolerance"),
        (("algebraic",), "algebraic: has no recorded results"),
    ],
)
def test_wrong_arguments_are_one_line(workspace: Any, arguments: tuple[str, ...], says: str) -> None:
    assert says in workspace.run("verify", *arguments).error
