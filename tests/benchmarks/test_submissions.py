"""`poseboard submit`, submissions on the board, and `poseboard score FILE --against ROW`."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from predicted import rows_of

from poseboard.benchmarks.pipeline import planned
from poseboard.benchmarks.plan import Plan
from poseboard.protocols import predictions
from poseboard.protocols.predictions import PoseTable
from poseboard.protocols.records import ScoreFile
from poseboard.protocols.submissions import Card, Verification, read_card, read_submission

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "example-submission"
CARD = yaml.safe_load((EXAMPLE / "card.yaml").read_text())


def changed(path: Path, change: Callable[[PoseTable], PoseTable]) -> Path:
    """A copy of the example's predictions with a change that the writer may refuse."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions, "check_values", lambda table, where: None)
        table = change(predictions.read(EXAMPLE / "example.parquet"))
        predictions.write(path, table)
    return path


def stated(table: PoseTable, **values: Any) -> PoseTable:
    return replace(table, info=table.info.model_copy(update=values))


def test_the_example_has_its_expected_scores_and_is_small(ready_workspace: Any) -> None:
    done = ready_workspace.must("score", EXAMPLE / "example.parquet", "--json")
    scores: dict[str, float | None] = {}
    for score in ScoreFile.model_validate(json.loads(done.out)).scores:
        scores.setdefault(score.table, score.value)
    assert scores == pytest.approx(json.loads((EXAMPLE / "expected-scores.json").read_text()), abs=1e-3)
    assert sum(path.stat().st_size for path in EXAMPLE.iterdir()) < 100_000


def test_a_submission_gets_a_row_until_it_is_removed(workspace: Any) -> None:
    scores = workspace.folder / "results/smoke/scores/example/human36m.json"
    comparisons = workspace.folder / "results/smoke/comparisons/human36m.json"
    page = workspace.folder / "results/smoke/leaderboard/methods/example.html"
    folder = workspace.folder / "submissions/example"

    def board() -> str:
        workspace.must("compare", "human36m")
        workspace.must("report")
        return page.read_text()

    workspace.must("compare", "human36m")
    before, due = comparisons.read_bytes(), planned(Plan.read(workspace.folder / "params.yaml"))
    card = workspace.folder / "card.yaml"
    card.write_text(yaml.safe_dump({**CARD, "title": "<script>alert(1)</script> & co"}))
    workspace.must("submit", EXAMPLE / "example.parquet", "--card", card)
    assert {path.name for path in folder.iterdir()} == {"card.yaml", "human36m-0.parquet"}
    check = ("submit", folder / "human36m-0.parquet", "--card", folder / "card.yaml", "--check")
    lines = workspace.must(*check).out.splitlines()
    assert max(map(len, lines[:-1])) <= 100
    assert any(re.match(r"T1 +all 4 +\d+\.\d mm +\[.*\] +6$", line) for line in lines)
    assert lines[-1].endswith("submissions/example: 1 file checked")
    after = planned(Plan.read(workspace.folder / "params.yaml"))
    assert {path.name for path in due if due[path] != after[path]} == {"compare.json", "report.json"}

    shown = board()
    assert '<span class="tag">claimed</span>' in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in shown
    assert "<script>alert" not in shown
    record = ScoreFile.read(scores)
    assert (record.source, record.method, record.provenance.checkpoint_sha256) == ("submission", "example", {})
    t1 = next(table for table in json.loads(comparisons.read_text())["tables"] if table["table"] == "T1")
    assert {rank["method"] for rank in t1["ranks"]} == {"dlt", "example"}

    # Verified only while the verified files are the submitted ones.
    digest = read_submission(folder).predictions_sha256()
    Verification(predictions_sha256=digest, scores_sha256=record.scores_sha256(), by="me").write(
        folder / "verified.json"
    )
    assert '<span class="tag">verified</span>' in board()
    noisier = changed(workspace.folder / "new.parquet", lambda table: replace(table, joints_mm=table.joints_mm + 1))
    assert "exists; use --replace" in workspace.run("submit", noisier, "--card", card).error
    workspace.must("submit", noisier, "--card", card, "--replace")
    assert '<span class="tag">claimed</span>' in board()

    shutil.rmtree(folder)
    workspace.must("compare", "human36m")
    assert not scores.exists()
    assert comparisons.read_bytes() == before


def test_equal_data_in_other_bytes_is_accepted_and_other_data_is_not(workspace: Any) -> None:
    workspace.must("submit", EXAMPLE / "example.parquet", "--card", EXAMPLE / "card.yaml")
    copy = predictions.read(workspace.folder / "submissions/example/human36m-0.parquet")
    path = workspace.folder / "theirs.parquet"
    predictions.write(path, stated(copy, manifest="of other bytes"))
    workspace.must("score", path)
    predictions.write(path, stated(copy, manifest="of other bytes", logical_sha256="of other numbers"))
    assert "metadata.manifest: is 'of other bytes'" in workspace.run("score", path).error


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: replace(table, joints_mm=table.joints_mm / 1000), "millimetres"),
        (lambda table: replace(table, joints_mm=table.joints_mm[:, ::-1].copy()), "if the joints are reversed"),
        (lambda table: rows_of(table, slice(1, None)), "1 samples of split 'test' have no record, first"),
        (lambda table: replace(table, joints_mm=np.where([1, 0, 0], np.nan, table.joints_mm)), "NaN and others not"),
        (lambda table: rows_of(table, np.array([0, *range(len(table))])), "repeat a (key, person)"),
        (lambda table: stated(table, manifest="0"), "metadata.manifest: is '0'"),
        (lambda table: stated(table, dataset="panoptic"), "panoptic"),
        (lambda table: stated(table, skeleton="\x1b[31m"), "metadata: a text has control characters"),
        (lambda table: stated(table, options={"a": "x" * 100_000}), "'poseboard' is larger than 100000 bytes"),
    ],
    ids=["unit", "joint order", "missing frame", "nan", "duplicate", "other data", "other data set", "escape", "size"],
)  # fmt: skip
def test_a_mistake_in_the_predictions_is_one_line(
    workspace: Any, spoil: Any, change: Callable[[PoseTable], PoseTable], says: str
) -> None:
    path = changed(workspace.folder / "wrong.parquet", change)
    assert says in spoil("submit", path, "--card", EXAMPLE / "card.yaml").error
    assert not (workspace.folder / "submissions").exists()


def test_a_small_file_of_many_rows_is_refused_before_it_is_read(
    ready_workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "MOST_ROWS", 5)
    assert "has 6 records, more than 5" in ready_workspace.run("score", EXAMPLE / "example.parquet").error


def card_text(**fields: Any) -> str:
    return yaml.safe_dump({**CARD, **fields}, allow_unicode=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (card_text(name="../../outside"), "is not a name"),
        (card_text(name="dlt"), "dlt is a row of params.yaml"),
        (card_text(title="\x1b]0;title\x07"), "control character '\\x1b'"),
        (card_text(authors=["right-to-left \u202e"]), "control character '\\u202e'"),
        (card_text(hardware="two\nlines"), "control character '\\n'"),
        (card_text(title="a" * 1_000_000), "is larger than 20000 bytes"),
        (card_text(title="a" * 201), "at most 200 characters"),
        (card_text(code="javascript:alert(1)"), "is not an http or https link"),
        (card_text(code="https://user@example.org"), "is not an http or https link"),
        (card_text(code="https://[::1"), "code: "),
        (card_text(paper="/etc/passwd"), "is not an http or https link"),
        (card_text(**{"\x1b[31m": "x"}), "'\\x1b[31m' is not a field of a card"),
        ("a: &a [x]\nb: &b [*a, *a]\nname: [*b, *b]\n", "has YAML aliases or tags"),
        ("name: !!str mine\n", "has YAML aliases or tags"),
        ("name: !!python/object/apply:os.system [id]\n", "is not YAML (line 1: "),
        ("[" * 10_000, "is not YAML"),
        ("a: b: c", "is not YAML (line 1: "),
        ("- a\n", "is not a list of fields"),
        ("name: x\n", "title: field is missing"),
    ],
    ids=[
        "path", "row", "escape", "bidi", "line break", "1 MB", "long", "script", "user", "ipv6", "file", "field",
        "alias", "tag", "python", "deep", "syntax", "list", "missing",
    ],
)  # fmt: skip
def test_a_hostile_card_is_one_line(ready_workspace: Any, tmp_path: Path, text: str, says: str) -> None:
    card = tmp_path / "card.yaml"
    card.write_text(text, encoding="utf-8")
    error = ready_workspace.run("submit", EXAMPLE / "example.parquet", "--card", card).error
    assert says in error
    assert error.isprintable()
    assert len(error) < 1000
    assert not (ready_workspace.folder / "submissions").exists()


def test_a_submission_in_its_folder_has_its_name(workspace: Any) -> None:
    for name, of_card, says in (
        ("other", "other", "metadata.method: is 'example', unlike the submission"),
        ("moved", "example", "is example, unlike the folder"),
    ):
        folder = workspace.folder / "submissions" / name
        folder.mkdir(parents=True)
        (folder / "card.yaml").write_text(card_text(name=of_card))
        shutil.copy(EXAMPLE / "example.parquet", folder)
        before = sorted(workspace.folder.rglob("*"))
        check = ("submit", folder / "example.parquet", "--card", folder / "card.yaml", "--check")
        assert says in workspace.run(*check).error
        assert sorted(workspace.folder.rglob("*")) == before
    workflow = (EXAMPLE.parent / "workflows/score-submission.yml").read_text()
    assert 'submit "submissions/$NAME"/*.parquet --card "submissions/$NAME/card.yaml" --check' in workflow


def test_a_pull_request_cannot_lead_elsewhere(workspace: Any, tmp_path: Path) -> None:
    folder = workspace.folder / "submissions" / "example"
    shutil.copytree(EXAMPLE, folder)
    (folder / "example.parquet").unlink()
    (folder / "example.parquet").symlink_to(EXAMPLE / "example.parquet")
    done = workspace.must("compare", "human36m")
    assert "warning: human36m/example: left out" in done.err
    assert not (workspace.folder / "results/smoke/scores/example").exists()


def test_the_comparison_with_rows_is_at_most_100_columns_wide(ready_workspace: Any) -> None:
    before = ready_workspace.snapshot()
    done = ready_workspace.must("score", EXAMPLE / "example.parquet", "--against", "dlt")
    assert done.out.startswith("A  row dlt\nB  ")
    assert "\nT1 " in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    assert (
        "--against: is used without a FILE" in ready_workspace.run("score", "human36m", "dlt", "--against", "dlt").error
    )
    for path in (EXAMPLE / "card.yaml", EXAMPLE):
        error = ready_workspace.run("score", path, "--against", "dlt").error
        assert f"{path}: is not a .parquet file; name a predictions file" in error
    assert "needs a data set and a row" in ready_workspace.run("score", "human36m").error
    assert "did you mean dlt?" in ready_workspace.run("score", EXAMPLE / "example.parquet", "--against", "dlt_").error
    assert ready_workspace.snapshot() == before


def test_the_fields_of_the_card_are_documented() -> None:
    text = (EXAMPLE.parent / "submissions.md").read_text()
    assert all(f"| `{name}` |" in text for name in Card.model_fields)
    assert read_card(EXAMPLE / "card.yaml").name == "example"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"submissions/example/card.yaml": "a", "submissions/example/a.parquet": "b"}, ""),
        ({"submissions/example/verified.json": "{}"}, "may change"),
        ({"submissions/example/card.yaml": "a", "benchmarks/cli.py": "evil"}, "may change"),
        ({"submissions/example/sub/a.parquet": "a"}, "may change"),
        ({"submissions/$(touch evil)/card.yaml": "a"}, "may change"),
        ({"submissions/example/card.yaml": "a", "submissions/other/card.yaml": "a"}, "one submission at a time"),
        ({"submissions/example/a.parquet": Path("/etc/passwd")}, "links and programs are refused"),
        ({f"submissions/example/{k}.parquet": "a" for k in range(21)}, "more than 20 files"),
    ],
    ids=["good", "verified", "code", "folder", "shell", "two", "link", "many"],
)
def test_the_workflow_copies_only_the_data_of_a_submission(
    tmp_path: Path, files: dict[str, str | Path], says: str
) -> None:
    workflow = yaml.safe_load((EXAMPLE.parent / "workflows/score-submission.yml").read_text())
    (copying,) = [step for step in workflow["jobs"]["score"]["steps"] if step.get("name", "").startswith("Copy")]
    origin, base = tmp_path / "origin", tmp_path / "base"
    origin.mkdir()

    def git(*arguments: str | Path) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", "-C", str(origin), *identity, *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "base")
    commit = git("rev-parse", "HEAD")
    subprocess.run(["git", "clone", "--quiet", origin, base], check=True)
    for name, content in files.items():
        path = origin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(content) if isinstance(content, Path) else path.write_text(content)
    git("add", "--all")
    git("commit", "--quiet", "--message", "theirs")
    git("update-ref", "refs/pull/1/head", "HEAD")
    variables = {"BASE": commit, "NUMBER": "1", "RUNNER_TEMP": str(tmp_path), "GITHUB_ENV": str(tmp_path / "env")}
    command = ["bash", "-e", "-c", copying["run"]]
    done = subprocess.run(command, cwd=base, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert says in done.stdout
    assert (done.returncode == 0) == (says == ""), done.stderr
    copied = {
        path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file() and ".git/" not in f"{path}"
    }
    if says:
        assert not {name for name in copied if "submissions/example/" not in name or (base / name).is_symlink()}
    else:
        assert copied == set(files)
        assert (tmp_path / "env").read_text() == "NAME=example\n"
