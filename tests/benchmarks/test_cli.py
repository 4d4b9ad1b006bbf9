"""The command line as a user meets it: stages on a miniature world, and bad input told in one line with exit code 2."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from predicted import file_name

from poseboard.benchmarks import cli
from poseboard.datasets.human36m import CAMERAS, Human36M
from poseboard.methods.checkpoint import Checkpoint
from poseboard.protocols import doubts, predictions
from poseboard.protocols.records import ScoreFile, TrainingFile
from poseboard.report.examples import read_examples
from poseboard.report.pictures import CHROMIUM

ROOT = Path(__file__).resolve().parents[2]
LABELS = Path("extra") / "human36m-multiview-labels-GTbboxes.npy"
PREDICTED = Path("results/smoke/predictions/dlt/human36m") / file_name()

Fail = Callable[..., Any]


def read_labels(world: Path) -> dict[str, Any]:
    labels: dict[str, Any] = np.load(world / LABELS, allow_pickle=True).item()  # written by ourselves a moment ago
    return labels


def write_labels(world: Path, labels: object) -> None:
    np.save(world / LABELS, np.array(labels, dtype=object), allow_pickle=True)
    # A tree without our manifest is read as a real one: its identity is that of the labels.
    (world / "manifest.json").unlink()


def test_every_stage_leaves_its_file(ready_workspace: Any) -> None:
    results = ready_workspace.folder / "results" / "smoke"
    training = TrainingFile.read(results / "training/backbone/human36m.json")
    assert training.parameters > 100_000
    assert [run.steps for run in training.runs] == [3]
    scores = ScoreFile.read(results / "scores/dlt/human36m.json")
    assert scores.synthetic
    assert {"T1", "T2"} <= {score.table for score in scores.scores}
    assert all(score.n_samples for score in scores.scores)
    assert scores.provenance.checkpoint_sha256.keys() == {"seed0"}


def test_training_again_changes_no_weight(workspace: Any) -> None:
    path = workspace.folder / "results/smoke/checkpoints/backbone/human36m/seed0.pt"
    before = Checkpoint.read(path).state
    workspace.must("train", "human36m", "backbone")
    after = Checkpoint.read(path).state
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_help_teaches_and_is_quick() -> None:
    for command in ([], ["data"], ["data", "synthetic"], ["train"], ["predict"], ["score"], ["weights", "import"]):
        program = [sys.executable, "-X", "importtime", "-c", "from poseboard.benchmarks.cli import main; main()"]
        done = subprocess.run([*program, *command, "--help"], capture_output=True, text=True, check=True)
        assert "Usage:" in done.stdout
        imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
        assert not imported & {"torch", "mlflow", "lightning_fabric"}


def test_a_world_of_any_layout_is_rendered_by_its_own_options(ready_workspace: Any, tmp_path: Path) -> None:
    small = ("--set", "test_scenes=1", "--set", "frames=1", "--set", "size_px=[64, 48]")
    out = ready_workspace.must("data", "synthetic", str(tmp_path / "people"), "--layout", "mupots", *small).out
    assert "manifest" in out
    assert len(list((tmp_path / "people").rglob("*.jpg"))) == 1
    for option, named in (
        (("--subjects", "S1"), "world of mupots: train_subjects"),
        (("--set", "frames"), "NAME=VALUE"),
    ):
        done = ready_workspace.run("data", "synthetic", str(tmp_path / "other"), "--layout", "mupots", *option)
        assert done.code == 2
        assert named in done.error
    assert not (tmp_path / "other").exists()


def test_a_world_is_not_rendered_into_a_folder_with_files(ready_workspace: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    error = ready_workspace.run("data", "synthetic", tmp_path, "--set", "side_px=64").error
    assert error == f"poseboard: {tmp_path}: is not empty; choose a new folder"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("command", ["train", "predict", "score", "evaluate"])
def test_an_unknown_data_set_is_an_error_with_a_suggestion(spoil: Fail, command: str) -> None:
    assert "did you mean human36m?" in spoil(command, "human63m", "dlt").error


def test_compare_and_report_by_hand_say_that_mlflow_is_not_updated(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("compare", "report"):
        monkeypatch.delenv("DVC_STAGE", raising=False)
        done = workspace.must(command)
        assert "`poseboard sync`" in done.err
        assert not (workspace.folder / "mlflow.db").exists()
        monkeypatch.setenv("DVC_STAGE", command)
        assert "sync" not in workspace.must(command).err
    assert read_examples(workspace.folder / "results/smoke/comparisons/human36m.npz").rows == ["dlt"]
    assert (workspace.folder / "results/smoke/leaderboard/frames/human36m.html").is_file()


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_report_draws_the_pictures_of_the_readme(workspace: Any) -> None:
    out = workspace.must("report", "--pictures").out
    for name in ("site.png", "people.jpg"):
        path = workspace.folder / "report" / "images" / name
        assert path.stat().st_size > 1000
        assert str(path) in out


def test_methods_lists_rows_and_options(ready_workspace: Any) -> None:
    out = ready_workspace.must("methods").out
    assert re.search(r"dlt +dlt, after backbone; weighting=peak", out)
    assert re.search(r"folders without a row: .*\bransac\b", out)


def test_truncated_labels(workspace: Any, spoil: Fail) -> None:
    path = workspace.world / LABELS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert str(LABELS) in spoil("predict", "human36m", "dlt").error


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran-code"),))


def test_a_pickle_that_would_run_code(workspace: Any, spoil: Fail) -> None:
    write_labels(workspace.world, {"table": Hostile()})
    error = spoil("predict", "human36m", "dlt").error
    assert str(LABELS) in error
    assert not (workspace.folder / "ran-code").exists()


def test_labels_with_a_missing_field(workspace: Any, spoil: Fail) -> None:
    labels = read_labels(workspace.world)
    del labels["cameras"]
    write_labels(workspace.world, labels)
    error = spoil("predict", "human36m", "dlt").error
    assert str(LABELS) in error
    assert "cameras" in error


def test_a_camera_with_singular_k(workspace: Any, spoil: Fail) -> None:
    labels = read_labels(workspace.world)
    labels["cameras"]["K"][:, 2] = 0
    write_labels(workspace.world, labels)
    error = spoil("predict", "human36m", "dlt").error
    assert str(LABELS) in error
    assert ".K" in error
    assert "singular" in error


def test_a_missing_image(workspace: Any, spoil: Fail) -> None:
    write_labels(workspace.world, read_labels(workspace.world))
    image = sorted((workspace.world / "processed/S9/Greeting-1/imageSequence-undistorted/54138969").glob("*.jpg"))[0]
    image.unlink()
    assert image.name in spoil("predict", "human36m", "dlt").error


def blacken(world: Path, sequence: str) -> None:
    for path in (world / "processed" / sequence / "imageSequence-undistorted").rglob("*.jpg"):
        assert cv2.imwrite(str(path), np.zeros_like(cv2.imread(str(path))))


def test_a_world_that_was_changed_is_told_and_left_as_it_is(workspace: Any, spoil: Fail) -> None:
    blacken(workspace.world, "S9/Greeting-1")
    for command in (["predict", "human36m", "dlt"], ["score", "human36m", "dlt"], ["data", "prepare", "human36m"]):
        error = spoil(*command).error
        assert "was changed after it was generated: images of S9/Greeting-1" in error
        assert "delete the folder and generate the data set again" in error


def test_images_that_were_replaced_are_what_is_seen(workspace: Any) -> None:
    write_labels(workspace.world, read_labels(workspace.world))
    answers = []
    for _ in range(2):
        workspace.must("predict", "human36m", "dlt")
        answers.append(predictions.read(workspace.folder / PREDICTED))
        blacken(workspace.world, "S9/Greeting-1")
    before, after = (table.joints_mm for table in answers)
    touched = np.array([key.startswith("S9/Greeting-1/") for key in answers[0].keys])
    assert 0 < touched.sum() < len(touched)
    np.testing.assert_array_equal(before[~touched], after[~touched])
    assert np.abs(before[touched] - after[touched]).max() > 1


def spoiled_predictions(workspace: Any, change: Callable[[predictions.PoseTable], None]) -> Path:
    """Predictions of others, whose metadata has no hash of the rows."""
    path = workspace.folder / "theirs.parquet"
    table = predictions.read(workspace.folder / PREDICTED)
    change(table)
    whole = pq.read_table(workspace.folder / PREDICTED)
    joints = whole["joints_mm"].combine_chunks()
    flat = pa.FixedSizeListArray.from_arrays(pa.array(table.joints_mm.reshape(-1)), joints.type.list_size)
    columns = {"key": pa.array(table.keys, pa.string()), "score": pa.array(table.score), "joints_mm": flat}
    for name, column in columns.items():
        whole = whole.set_column(whole.schema.get_field_index(name), whole.schema.field(name), column)
    info = json.loads(whole.schema.metadata[predictions.METADATA_KEY])
    del info["answers_sha256"]
    pq.write_table(whole.replace_schema_metadata({predictions.METADATA_KEY: json.dumps(info)}), path)
    return path


@pytest.mark.parametrize("place", ["joint", "score"])
def test_nan_in_predictions(workspace: Any, spoil: Fail, place: str) -> None:
    def change(table: predictions.PoseTable) -> None:
        if place == "joint":
            table.joints_mm[1, 4, 2] = np.nan
        else:
            table.score[1] = np.nan

    path = spoiled_predictions(workspace, change)
    error = spoil("score", "human36m", "dlt", "--predictions", path).error
    assert path.name in error
    assert ("joints_mm" if place == "joint" else "score") in error


def test_a_whole_nan_joint_is_a_missing_prediction_and_counted(workspace: Any) -> None:
    def change(table: predictions.PoseTable) -> None:
        table.joints_mm[1, 4] = np.nan

    path = spoiled_predictions(workspace, change)
    assert "1 missing" in workspace.must("score", "human36m", "dlt", "--predictions", path).out


def test_predictions_of_another_method_are_refused_unless_they_are_given_a_name(workspace: Any, spoil: Fail) -> None:
    arguments = ("score", "human36m", "algebraic", "--predictions", PREDICTED)
    error = spoil(*arguments).error
    assert "metadata.method: is 'dlt', scored as 'algebraic'" in error
    assert "--as algebraic" in error
    done = workspace.must(*arguments, "--as", "my_dlt")
    assert "human36m/my_dlt: T1" in done.out
    assert "--as x: is used without --predictions" in spoil("score", "human36m", "dlt", "--as", "x").error


@pytest.mark.parametrize(
    ("factor", "hint"), [(1e-3, "metres"), (0.1, "centimetres"), (1e-6, "check the unit"), (1.0, "")]
)
def test_predictions_in_another_unit_are_scored_with_a_warning(workspace: Any, factor: float, hint: str) -> None:
    truth = Human36M(workspace.world)

    def change(table: predictions.PoseTable) -> None:
        for row, key in enumerate(table.keys):
            table.joints_mm[row] = factor * truth.truth(key).joints_mm[0]

    done = workspace.must("score", "human36m", "dlt", "--predictions", spoiled_predictions(workspace, change))
    assert "human36m/dlt: T1" in done.out
    warnings = [line for line in done.err.splitlines() if line.startswith("poseboard: warning: ")]
    if not hint:
        assert not warnings
        return
    (line,) = warnings
    assert "joints_mm: the median pose is" in line
    assert hint in line


def test_a_mistake_is_told_and_scored_as_it_is(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = Human36M(workspace.world)

    def reverse(table: predictions.PoseTable) -> None:
        for row, key in enumerate(table.keys):
            table.joints_mm[row] = truth.truth(key).joints_mm[0, ::-1] + 20

    path = spoiled_predictions(workspace, reverse)
    done = workspace.must("score", "human36m", "dlt", "--predictions", path)
    (line,) = (line for line in done.err.splitlines() if line.startswith("poseboard: warning: "))
    assert line.endswith("to 35 mm if the joints are reversed")
    assert float(re.findall(r"falls from (\d+) to", line)[0]) > 200
    monkeypatch.setattr(doubts, "doubt", lambda table, truth: None)
    quiet = workspace.must("score", "human36m", "dlt", "--predictions", path)
    assert (quiet.out, quiet.err) == (done.out, "")


def test_predictions_for_unknown_keys(workspace: Any, spoil: Fail) -> None:
    def change(table: predictions.PoseTable) -> None:
        table.keys[0] = "S9/Flying-1/000001"

    path = spoiled_predictions(workspace, change)
    error = spoil("score", "human36m", "dlt", "--predictions", path).error
    assert path.name in error
    assert "S9/Flying-1/000001" in error


def test_unknown_method_data_set_and_key(workspace: Any, spoil: Fail) -> None:
    assert "'nobody'" in spoil("train", "human36m", "nobody").error
    assert "'nowhere'" in spoil("train", "nowhere", "dlt").error
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["dlt"]["wieghts"] = "peak"
    workspace.write_params(**params)
    assert "wieghts" in spoil("predict", "human36m", "dlt").error
    params["methods"]["dlt"].pop("wieghts")
    workspace.write_params(**params, wolrds={})
    error = spoil("predict", "human36m", "dlt").error
    assert "params.yaml" in error
    assert "wolrds" in error


def test_a_checkpoint_of_another_configuration(workspace: Any, spoil: Fail) -> None:
    workspace.must("train", "human36m", "algebraic")
    path = workspace.folder / "results/smoke/checkpoints/algebraic/human36m/seed0.pt"
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["algebraic"]["use_confidences"] = False
    workspace.write_params(**params)
    assert str(path) in spoil("predict", "human36m", "algebraic").error
    backbone = path.parents[2] / "backbone/human36m/seed0.pt"
    params["methods"]["algebraic"]["weights"] = str(backbone)
    workspace.write_params(**params)
    workspace.must("train", "human36m", "algebraic")
    assert "checkpoint is of backbone" in spoil("predict", "human36m", "algebraic").error
    backbone.write_bytes(backbone.read_bytes()[:1000])
    assert str(backbone) in spoil("train", "human36m", "algebraic").error


def test_the_stage_before_is_named_where_it_is_lacking(workspace: Any) -> None:
    assert "poseboard predict human36m algebraic" in workspace.run("score", "human36m", "algebraic").error
    assert "poseboard train" in workspace.run("predict", "human36m", "algebraic").error


THIRD_PARTY = '''
"""A method from elsewhere: everybody stands where the first training pose stood."""
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Inputs


class Statue:
    def __init__(self, options, skeleton):
        self.skeleton, self.height = skeleton, options.get("height_mm", 900.0)
        self.inputs = Inputs(images=False, extrinsics=False)

    def load(self, checkpoint, device):
        pass

    def predict(self, samples):
        assert all(view.name.startswith("view-") for sample in samples for view in sample.views)
        pose = np.full((1, len(self.skeleton), 3), self.height)
        return [Poses(self.skeleton, pose, np.ones(1)) for _ in samples]

    def training(self, start, seed):
        return None
'''


def test_a_third_party_method_outside_the_rooms(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    package = workspace.folder / "elsewhere" / "statues"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "standing.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(str(package.parent))
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    entry = {"class": "statues.standing:Statue", "code": str(package), "after": "backbone", "height_mm": 1000.0}
    params["methods"]["statue"] = entry
    workspace.write_params(**params)
    assert workspace.error_mm("statue", "T6") > 100  # without extrinsics, so not judged in the world


ROOTED = '''
"""A method that is handed roots: everybody is one point."""
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from poseboard.datasets.sample import Poses
from poseboard.methods.base import Inputs


class Point:
    def __init__(self, options, skeleton):
        self.skeleton, self.inputs = skeleton, Inputs(images=False, views=(1, 9), root="predicted")

    def load(self, checkpoint, device):
        pass

    def predict(self, samples):
        return [Poses(self.skeleton, np.repeat(s.root_mm[:, None], len(self.skeleton), 1), np.ones(1)) for s in samples]

    def training(self, start, seed):
        return None
'''


def test_roots_are_the_answers_of_the_row_before_from_the_same_cameras(
    workspace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "rooted_point.py").write_text(ROOTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    entry = {"class": "rooted_point:Point", "code": str(tmp_path / "rooted_point.py"), "after": "dlt"}
    params["methods"]["point"] = entry
    workspace.write_params(**params)
    workspace.must("train", "human36m", "point")
    told = workspace.must("predict", "human36m", "point").out
    assert re.search("test-54138969-[0-9a-f]{8} left out, its predicted root needs at least 2 views", told)
    folder = workspace.folder / "results/smoke/predictions"
    pair = CAMERAS[:2]
    for cameras, source in ((CAMERAS, CAMERAS), (pair, pair), (CAMERAS[:1], CAMERAS)):
        before = predictions.read(folder / "dlt/human36m" / file_name(*source))
        given = predictions.read(folder / "point/human36m" / file_name(*cameras, root_cameras=source))
        pelvis = before.info.joints.index("pelvis")
        assert given.info.condition.root_cameras == before.info.condition.cameras
        np.testing.assert_allclose(given.joints_mm[:, 3], before.joints_mm[:, pelvis], rtol=1e-6)
    assert not (folder / "point/human36m" / file_name(CAMERAS[0], root_cameras=CAMERAS[:1])).exists()
    assert workspace.error_mm("point") > 100
    told = workspace.must("score", "human36m", "point").out
    assert f"root from:{', '.join(CAMERAS)}" in told
    assert "human36m-monocular" not in told
    params["methods"]["point"] = {**entry, "after": "backbone"}
    workspace.write_params(**params)
    assert "methods.point.after" in workspace.run("predict", "human36m", "point").error


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("nowhere.at_all:Method", "nowhere.at_all"),
        ("json:Method", "no class Method"),
        ("json:JSONDecoder", "lacks training"),
    ],
)
def test_a_third_party_class_that_is_none(workspace: Any, spoil: Fail, spec: str, named: str) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["theirs"] = {"class": spec, "code": "methods/dlt", "after": "backbone"}
    workspace.write_params(**params)
    assert named in spoil("train", "human36m", "theirs").error


def test_an_interrupt_is_told_in_one_line(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_read_plan", interrupted)
    done = workspace.run("report")
    assert (done.code, done.out) == (130, "")
    assert done.err == "poseboard: interrupted; the same command goes on from here\n"
