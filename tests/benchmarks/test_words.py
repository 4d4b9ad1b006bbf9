"""What the command line says: versions, help, names that were nearly right, typos in rows, and records as JSON."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from predicted import file_name

from poseboard.protocols.records import Provenance, ScoreFile, TrainingFile

ROOT = Path(__file__).resolve().parents[2]
SCORES = Path("results/smoke/scores/dlt/human36m.json")
PREDICTED = Path("results/smoke/predictions/dlt/human36m") / file_name()
Fail = Callable[..., Any]


def test_version_and_short_help(ready_workspace: Any) -> None:
    assert re.fullmatch(r"poseboard \d+\.\d+\.\d+\n", ready_workspace.must("--version").out)
    for command in ([], ["repro"], ["data"], ["data", "status"], ["weights", "import"]):
        assert "Usage:" in ready_workspace.must(*command, "-h").out
    assert "--install-completion" in ready_workspace.must("--help").out


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        (["train", "human36m", "algebriac"], "did you mean algebraic? One of algebraic, backbone, dlt"),
        (["predict", "human36", "dlt"], "did you mean human36m?"),
        (["score", "human36m", "ltd"], "did you mean dlt? One of"),
        (["repro", "--profile", "smok"], "did you mean smoke?"),
        # A row comes as its stage from DVC: of this command, and of this data set.
        (["train", "human36m", "nonsense@dlt"], "method 'nonsense@dlt': is not in params.yaml; did you mean dlt?"),
        (["train", "human36m", "evaluate@dlt"], "method 'evaluate@dlt': is not in params.yaml; did"),
        (["predict", "human36m", "evaluate@dlt"], "method 'evaluate@dlt': is not in params.yaml; did you"),
        (["score", "human36m", "@dlt"], "method '@dlt': is not in params.yaml; did you mean dlt?"),
    ],
)
def test_a_name_that_was_nearly_right(ready_workspace: Any, command: list[str], meant: str) -> None:
    before = ready_workspace.snapshot()
    assert meant in ready_workspace.run(*command).error
    assert ready_workspace.snapshot() == before


def test_every_stage_of_the_pipeline_names_its_row(ready_workspace: Any) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    commands = {
        name: stage["do"]["cmd"].partition("${poseboard} ")[2] for name, stage in stages.items() if "do" in stage
    }
    assert {command.split()[0] for command in commands.values()} == {"train", "evaluate"}
    for name, command in commands.items():
        assert '"$DVC_STAGE"' in command
        error = ready_workspace.run(*command.replace('"$DVC_STAGE"', f"{name}@dtl").split()).error
        assert error.startswith("poseboard: method 'dtl': is not in params.yaml; did you mean dlt?"), name


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("wieghting", "peak", "methods.dlt: dlt: wieghting: "),
        ("weighting", {"smkoe": "peak"}, "methods.dlt.weighting: no profile or data set 'smkoe'; did you mean smoke?"),
        (
            "weighting",
            {"smoke": "peak", "huge": "peak"},
            "methods.dlt.weighting: no profile or data set 'huge'; one of",
        ),
    ],
)
@pytest.mark.parametrize(
    "command",
    ["train human36m algebraic", "score human36m dlt", "compare human36m", "report", "sync", "data status", "methods"],
)
def test_a_typo_in_a_row_stops_every_command(
    workspace: Any, spoil: Fail, command: str, option: str, value: object, named: str
) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["profiles"]["default"] = params["profiles"]["smoke"]
    params["methods"]["dlt"][option] = value
    workspace.write_params(**params)
    assert named in spoil(*command.split()).error


def test_scores_as_json(workspace: Any) -> None:
    done = workspace.must("score", "human36m", "dlt", "--json", "--predictions", PREDICTED)
    printed = ScoreFile.model_validate(json.loads(done.out))
    kept = ScoreFile.read(workspace.folder / SCORES)
    assert printed.source == "submission"
    value = next(score.value for score in printed.scores if score.table == "T1")
    assert value == next(score.value for score in kept.scores if score.table == "T1")


def test_predict_says_how_many_answers_are_missing(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{file_name()}: 6 samples, 4 cameras, all predicted; nothing that it depends on changed" in predict(
        workspace
    )
    (workspace.folder / PREDICTED).unlink()
    assert re.search(rf"{re.escape(file_name())}: 6 samples, 4 cameras, all predicted\n", predict(workspace))
    from poseboard.methods.dlt.method import Dlt

    whole = Dlt.triangulate

    def without_the_first(self: Dlt, *arguments: Any) -> Any:
        joints = whole(self, *arguments)
        joints[0, 3] = float("nan")
        return joints

    monkeypatch.setattr(Dlt, "triangulate", without_the_first)
    (workspace.folder / PREDICTED).unlink()
    assert re.search(rf"{re.escape(file_name())}: 6 samples, 4 cameras, 1 without a whole pose\n", predict(workspace))


def predict(workspace: Any) -> str:
    return str(workspace.must("predict", "human36m", "dlt").out)


def test_a_rerun_that_comes_to_the_same_leaves_its_files_alone(workspace: Any) -> None:
    kept = [workspace.folder / SCORES, workspace.folder / "results/smoke/training/backbone/human36m.json"]
    old = "2020-01-01T00:00:00+00:00"
    for path in kept:
        path.write_text(re.sub(r'"created": "[^"]*"', f'"created": "{old}"', path.read_text()))
    before = [path.read_bytes() for path in kept]
    workspace.must("train", "human36m", "backbone")
    workspace.must("score", "human36m", "dlt")
    assert [path.read_bytes() for path in kept] == before
    # Another number is written.
    record = ScoreFile.read(kept[0])
    record.scores[0].value = 1.0
    kept[0].write_text(record.text())
    workspace.must("score", "human36m", "dlt")
    assert ScoreFile.read(kept[0]).provenance.created > old


def test_what_counts_as_the_same_result(ready_workspace: Any) -> None:
    folder = ready_workspace.folder / "results/smoke"
    training = TrainingFile.read(folder / "training/backbone/human36m.json")

    def timed(**times: float | None) -> TrainingFile:
        return training.model_copy(update={"runs": [run.model_copy(update=times) for run in training.runs]})

    assert timed(seconds=1e6).says_what(training)
    assert not training.says_what(timed(processor_seconds=None)), "a cost that was not recorded before is news"
    assert not timed(steps=4).says_what(training)

    def made(**changes: object) -> Provenance:
        return training.provenance.model_copy(update=changes)

    clean, dirty = made(git_commit="one", git_dirty=False), made(git_commit="one", git_dirty=True)
    assert made(git_dirty=True, git_commit="other", created="2031-01-01T00:00:00+00:00").says_what(clean)
    assert not clean.says_what(dirty), "made without uncommitted changes, a result is worth more"
    assert not clean.says_what(made(git_commit=None, git_dirty=None)), "of the older one it is not even known"
    assert made(git_commit=None, git_dirty=None).says_what(clean)
    assert not made(hardware="another").says_what(training.provenance)
    assert not made(versions={}).says_what(training.provenance)
