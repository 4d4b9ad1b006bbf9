"""What is left over, spoilt, removed or made twice never becomes a number, and is told in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from predicted import file_name
from typer.core import TyperCommand, TyperGroup

from poseboard.benchmarks import cli
from poseboard.datasets.catalog import catalog
from poseboard.protocols import predictions
from poseboard.protocols.records import ComparisonFile, DataFile, ScoreFile, TrainingFile

PREDICTED = Path("results/smoke/predictions/dlt/human36m")
SCORES = Path("results/smoke/scores")

Fail = Callable[..., Any]


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], TyperCommand]:
    found = {}
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            found |= commands(command, (*path, name))
        else:
            assert isinstance(command, TyperCommand)
            found[(*path, name)] = command
    return found


COMMANDS = commands(typer.main.get_command(cli.app))  # type: ignore[arg-type]  # the app has several commands: a group


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_says_what_a_command_and_each_of_its_options_does(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert len(command.help or "") > 40
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{' '.join(path)} {parameter.name}"


def change_info(path: Path, target: Path | None = None, **values: object) -> None:
    table = predictions.read(path)
    info = predictions.PredictionInfo.model_validate({**table.info.model_dump(), **values})
    predictions.write(target or path, predictions.PoseTable(**{**vars(table), "info": info}))


def second_row(workspace: Any) -> None:
    """A copy of the row ``dlt``, predicted and scored as ``other``."""
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["other"] = params["methods"]["dlt"]
    workspace.write_params(**params)
    for stage in ("train", "predict", "score"):
        workspace.must(stage, "human36m", "other")


def test_predictions_of_an_earlier_run_are_removed(workspace: Any) -> None:
    left = workspace.folder / PREDICTED / file_name(seed=7)
    change_info(left.with_name(file_name()), left, seed=7)
    workspace.must("predict", "human36m", "dlt")
    assert not left.exists()


@pytest.mark.parametrize(
    ("field", "value"), [("checkpoint_sha256", "00" * 32), ("method", "another"), ("options", {"weighting": "uniform"})]
)
def test_predictions_of_two_runs_are_not_scored_together(
    workspace: Any, spoil: Fail, field: str, value: object
) -> None:
    path = sorted((workspace.folder / PREDICTED).glob("*.parquet"))[0]
    change_info(path, **{field: value})
    error = spoil("score", "human36m", "dlt").error
    assert f"metadata.{field}" in error
    assert "poseboard evaluate human36m dlt" in error


def test_every_set_of_cameras_has_the_same_seeds(workspace: Any, spoil: Fail) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["profiles"]["smoke"]["seeds"] = [0, 7]
    workspace.write_params(**params)
    path = workspace.folder / PREDICTED / file_name()
    change_info(path, path.with_name(file_name(seed=7)), seed=7)
    assert "different seeds" in spoil("score", "human36m", "dlt").error


def test_a_score_says_what_was_predicted_with_not_what_lies_there_now(workspace: Any) -> None:
    info = predictions.read(workspace.folder / PREDICTED / file_name()).info
    (workspace.folder / "results/smoke/checkpoints/dlt/human36m/seed0.pt").write_bytes(b"trained again since")
    workspace.must("score", "human36m", "dlt")
    made = ScoreFile.read(workspace.folder / SCORES / "dlt/human36m.json").provenance
    assert made.checkpoint_sha256 == {"seed0": info.checkpoint_sha256}
    assert made.options == info.options
    assert made.options["weighting"] == "peak"
    assert {"compat"} <= set(made.options), "defaults are options in force as well"
    training = TrainingFile.read(workspace.folder / "results/smoke/training/backbone/human36m.json")
    assert training.provenance.options["steps"] == 3


def test_one_process_predicts_or_scores_a_row(workspace: Any, spoil: Fail) -> None:
    lock = workspace.folder / PREDICTED.parents[1] / ".dlt-human36m.lock"
    with filelock.FileLock(lock):
        for stage in ("predict", "score"):
            assert "another process" in spoil(stage, "human36m", "dlt").error


def test_a_row_taken_out_of_params_is_neither_compared_nor_shown(workspace: Any) -> None:
    second_row(workspace)
    compared = workspace.folder / "results/smoke/comparisons/human36m.json"
    page = workspace.folder / "results/smoke/leaderboard/index.html"

    def run() -> tuple[int, bool]:
        workspace.must("compare", "human36m")
        workspace.must("report")
        pairs = sum(len(table.pairs) for table in ComparisonFile.read(compared).tables)
        return pairs, "methods/other.html" in page.read_text(encoding="utf-8")

    pairs, shown = run()
    assert pairs
    assert shown
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    del params["methods"]["other"]
    workspace.write_params(**params)
    assert run() == (0, False)
    assert (workspace.folder / SCORES / "other/human36m.json").is_file()


def test_a_data_set_taken_out_of_a_row_is_neither_compared_nor_shown(workspace: Any) -> None:
    second_row(workspace)
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["other"] = {**params["methods"]["other"], "on": ["human36m"]}
    workspace.write_params(**params)
    workspace.must("compare", "human36m")
    page = workspace.folder / "results/smoke/leaderboard"
    assert "not shown" not in workspace.must("report").out
    assert "other" in (page / "leaderboard.csv").read_text(encoding="utf-8")

    params["methods"]["other"]["on"] = []
    workspace.write_params(**params)
    workspace.must("compare", "human36m")
    compared = ComparisonFile.read(workspace.folder / "results/smoke/comparisons/human36m.json")
    assert not any(rank.method == "other" for table in compared.tables for rank in table.ranks)
    said = workspace.must("report").out
    assert "other: its scores on human36m are not shown, params.yaml does not run it there" in said
    flat = (page / "leaderboard.csv").read_text(encoding="utf-8")
    assert ",dlt," in flat
    assert ",other," not in flat
    # Where its data is absent here, scores from elsewhere stay.
    params["methods"]["other"]["on"] = ["human36m", "rhd"]
    params["datasets"]["rhd"] = {"root": None}
    workspace.write_params(**params)
    scores = workspace.folder / SCORES / "other"
    text = (scores / "human36m.json").read_text(encoding="utf-8")
    (scores / "rhd.json").write_text(text.replace('"human36m"', '"rhd"'), encoding="utf-8")
    workspace.must("report")
    assert "rhd," in (page / "leaderboard.csv").read_text(encoding="utf-8")


def test_rows_of_two_states_of_the_data_are_not_compared(workspace: Any, spoil: Fail) -> None:
    second_row(workspace)
    path = workspace.folder / SCORES / "other/human36m.json"
    record = ScoreFile.read(path)
    moved = record.provenance.model_copy(update={"data_manifest": "another"})
    record.model_copy(update={"provenance": moved}).write(path)
    for command in (("compare", "human36m"), ("report",)):
        assert "other/human36m.json: provenance.data_manifest" in spoil(*command).error


@pytest.mark.parametrize("content", [None, b"", b"PAR1 but cut off"])
def test_errors_that_are_gone_or_damaged(workspace: Any, spoil: Fail, content: bytes | None) -> None:
    path = workspace.folder / "results/smoke/errors/dlt/human36m.parquet"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    error = spoil("compare", "human36m").error
    assert "dlt/human36m.parquet" in error
    assert "poseboard score human36m dlt" in error


def test_errors_of_other_scores_are_not_compared(workspace: Any, spoil: Fail) -> None:
    scores, errors = workspace.folder / SCORES / "dlt/human36m.json", "errors/dlt/human36m.parquet"
    path = workspace.folder / "results/smoke" / errors
    whole, known = path.read_bytes(), ScoreFile.read(scores)
    rows = pq.read_table(path)
    pq.write_table(rows.slice(0, len(rows) // 2), path)
    assert f"{errors}: per-pose errors were changed or removed; run `pose" in spoil("compare").error
    path.write_bytes(whole)
    known.scores[0].value = 1.0
    known.write(scores)
    assert f"{errors}: per-pose errors are of other scores; run `pose" in spoil("compare").error
    workspace.must("score", "human36m", "dlt")
    workspace.must("compare")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"format": 1', '"format": 1, "surprise": 2', "surprise"),
        ('"created": "', '"created": "yesterday, ', "provenance.created"),
        ('"synthetic": true', '"synthetic": NaN', "synthetic"),
        ('"unit": "mm"', '"unit": 3', "unit"),
    ],
)
def test_scores_that_break_their_schema(workspace: Any, spoil: Fail, old: str, new: str, named: str) -> None:
    path = workspace.folder / SCORES / "dlt/human36m.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    for command in (("compare", "human36m"), ("report",)):
        error = spoil(*command).error
        assert "dlt/human36m.json" in error
        assert named in error
        assert "run its stage again" in error


def test_a_row_that_stands_twice(workspace: Any, spoil: Fail) -> None:
    path = workspace.folder / "params.yaml"
    path.write_text(
        path.read_text().replace("methods:\n", "methods:\n  dlt: {code: methods/ransac, after: backbone}\n", 1)
    )
    error = spoil("predict", "human36m", "dlt").error
    assert "params.yaml" in error
    assert 'duplicate key "dlt"' in error


@pytest.mark.parametrize("seeds", [[0, 0], [-1]])
def test_seeds_that_are_none(workspace: Any, spoil: Fail, seeds: list[int]) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["profiles"]["smoke"]["seeds"] = seeds
    workspace.write_params(**params)
    assert "seeds" in spoil("predict", "human36m", "dlt").error


def test_a_root_that_is_no_path(workspace: Any, spoil: Fail) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["datasets"]["human36m"]["root"] = 5
    workspace.write_params(**params)
    assert "datasets.human36m.root" in spoil("predict", "human36m", "dlt").error


def test_a_folder_that_cannot_be_written_is_named(workspace: Any) -> None:
    folder = workspace.folder / "results" / "smoke" / "leaderboard"
    folder.write_text("a file where the pages should be")
    assert str(folder) in workspace.run("report").error


RAISES = """
from poseboard.methods.base import Inputs


class Broken:
    def __init__(self, options, skeleton):
        self.inputs = Inputs(images=False)

    def load(self, checkpoint, device):
        pass

    def predict(self, samples):
        raise ZeroDivisionError("of the method's own")

    def training(self, start, seed):
        return None
"""


def test_what_a_method_raises_keeps_its_traceback_and_names_the_samples(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace.folder / "broken_method.py").write_text(RAISES)
    monkeypatch.syspath_prepend(str(workspace.folder))
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["methods"]["broken"] = {
        "class": "broken_method:Broken",
        "code": str(workspace.folder / "broken_method.py"),
        "after": "backbone",
    }
    workspace.write_params(**params)
    workspace.must("train", "human36m", "broken")
    with pytest.raises(ZeroDivisionError) as caught:
        workspace.run("predict", "human36m", "broken")
    (note,) = caught.value.__notes__
    assert note.startswith("raised by Broken.predict on S9/")


def test_what_is_recorded_does_not_say_where_the_checkout_is(workspace: Any) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["datasets"]["shelf"] = {"root": None}
    workspace.write_params(**params)
    workspace.must("data", "prepare", "shelf")
    text = (workspace.folder / "results/smoke/data/shelf.json").read_text()
    assert "data/shelf is not there" in text
    assert str(workspace.folder) not in text


def test_a_data_set_that_no_run_has(workspace: Any, spoil: Fail) -> None:
    assert "data set 'muco': is not in params.yaml" in spoil("score", "muco", "dlt").error


def test_every_known_data_set_has_a_status_and_a_record(workspace: Any) -> None:
    folder = workspace.folder / "results/smoke/catalog"
    folder.mkdir(parents=True)
    (folder / "of_long_ago.json").write_text("{}")
    workspace.must("plan", "--write")
    status = workspace.must("data", "status").out
    published = {name: entry for name, entry in catalog().items() if entry.adapter.is_published}
    for name, entry in published.items():
        assert name in status
        path = folder / f"{name}.json"
        if name == "human36m":
            assert not path.exists(), "the data stage describes what params.yaml names"
        else:
            record = DataFile.read(path)
            assert record.state == "missing"
            assert record.obtain == entry.obtain
            assert entry.licence in record.detail
    assert not (folder / "of_long_ago.json").exists()
    workspace.must("report")
    page = (workspace.folder / "results/smoke/leaderboard/data.html").read_text(encoding="utf-8")
    assert "CMU Panoptic" in page
