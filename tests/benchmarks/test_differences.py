"""`poseboard compare A B`: paired differences of rows and files, changes between results folders."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from predicted import file_name, rows_of

from poseboard.benchmarks.exchange import folders
from poseboard.benchmarks.exchange.differences import WIDTH, Differences, failures
from poseboard.benchmarks.plan import Plan
from poseboard.datasets.files import WholeFiles
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.protocols import predictions
from poseboard.protocols.base import TruthTable
from poseboard.protocols.predictions import PoseTable

PREDICTED = Path("results/smoke/predictions/dlt/human36m") / file_name()
NOSE = HUMAN36M.joints.index("nose")
JOINTS = len(HUMAN36M.joints)
WriteFile = Callable[..., Path]


def write(path: Path, table: PoseTable) -> Path:
    with WholeFiles() as files:
        predictions.write(path, table, files)
    return path


@pytest.fixture(scope="module")
def truth(ready_workspace: Any) -> TruthTable:
    plan = Plan.read(ready_workspace.folder / "params.yaml")
    return TruthTable.collect(plan.source("human36m").dataset, "test")


@pytest.fixture
def write_file(ready_workspace: Any, truth: TruthTable, tmp_path: Path) -> WriteFile:
    """Writes a file of true poses with the nose moved by some mm (scalar or (N,)); without its last ``left_out``."""
    template = predictions.read(ready_workspace.folder / PREDICTED)

    def make(name: str, nose_mm: NDArray[np.float64] | float, left_out: int = 0, **changed: Any) -> Path:
        order = [list(truth.keys).index(key) for key in template.keys]
        joints_mm = truth.joints_mm[order].copy()
        joints_mm[:, NOSE, 0] += nose_mm
        info = template.info.model_copy(update={"method": name, "checkpoint_sha256": None, **changed})
        table = replace(template, joints_mm=joints_mm.astype(np.float32), info=info)
        return write(tmp_path / f"{name}.parquet", rows_of(table, slice(len(table.keys) - left_out)))

    return make


def compared(workspace: Any, *arguments: str | Path, code: int = 0) -> Differences:
    done = workspace.run("compare", *arguments, "--json")
    assert done.code == code, done.err
    return Differences.model_validate(json.loads(done.out))


def test_two_files_by_table_action_and_joint(ready_workspace: Any, write_file: WriteFile) -> None:
    before = ready_workspace.snapshot()
    (one,) = compared(ready_workspace, write_file("a", 10.0), write_file("b", 27.0), "--table", "T1").tables
    assert (one.a, one.b) == (pytest.approx(10 / JOINTS, abs=1e-3), pytest.approx(27 / JOINTS, abs=1e-3))
    assert one.difference == pytest.approx(1, abs=1e-3)
    assert one.ci95 == pytest.approx((1, 1), abs=1e-3)
    assert one.verdict == "worse"
    assert {entry.name: round(entry.difference or 0, 2) for entry in one.joints} == {
        joint: 17.0 if joint == "nose" else 0.0 for joint in HUMAN36M.joints
    }
    assert [entry.name for entry in one.actions] == ["Greeting", "SittingDown", "Waiting"]
    assert all(entry.difference == pytest.approx(1, abs=1e-3) and entry.n_groups == 2 for entry in one.actions)
    assert ready_workspace.snapshot() == before


def test_the_order_of_the_sides_changes_the_sign_only(
    ready_workspace: Any, write_file: WriteFile, only_tables: Callable[..., None]
) -> None:
    only_tables("T1", "T1-actions", "human36m-pa-mpjpe", "human36m-pck", "human36m-clipped", "T6")
    a, b = write_file("a", np.linspace(5, 10, 6)), write_file("b", np.linspace(20, 30, 6))
    one, other = (compared(ready_workspace, *pair, "--dataset", "human36m") for pair in ((a, b), (b, a)))
    assert [table.table for table in one.tables] == [table.table for table in other.tables]
    assert len(one.tables) > 3
    for forward, back in zip(one.tables, other.tables, strict=True):
        assert (forward.a, forward.b) == (back.b, back.a)
        if forward.difference is not None:
            assert back.difference == -forward.difference
            assert back.ci95 == (-forward.ci95[1], -forward.ci95[0])
        if forward.table == "T1":
            assert (forward.verdict, back.verdict) == ("worse", "better")


@pytest.mark.parametrize(
    ("option", "code", "says"),
    [
        ((), 0, ""),
        (
            ("--fail-if-worse",),
            1,
            "B is significantly worse than A by more than 0 mm: human36m T1 +1.0 [+1.0, +1.0] mm",
        ),
        (("--fail-if-worse", "0.9"), 1, "worse than A by more than 0.9 mm: human36m T1"),
        (("--fail-if-worse", "1.1"), 0, "B is not significantly worse than A by more than 1.1 mm"),
    ],
)
def test_status_of_worse_predictions(
    ready_workspace: Any, write_file: WriteFile, option: tuple[str, ...], code: int, says: str
) -> None:
    a, b = write_file("a", 10.0), write_file("b", 27.0)
    for order in ((a, b, "--table", "T1", *option), (*option, a, b, "--table", "T1")):  # the margin may be left out
        done = ready_workspace.run("compare", *order)
        assert done.code == code
        lines = done.err.splitlines()
        assert (len(lines) == 1 and says in lines[0]) if says else not lines
        assert "worse" in done.out
    assert ready_workspace.run("compare", b, a, "--table", "T1", *option).code == 0


def test_a_file_that_leaves_poses_out_fails_and_is_not_better(
    ready_workspace: Any, write_file: WriteFile, tmp_path: Path
) -> None:
    a, b = write_file("a", 27.0), write_file("b", 10.0, left_out=1)
    result = compared(ready_workspace, a, b, "--table", "T1")
    assert result.tables[0].difference == pytest.approx(-1, abs=1e-3)
    assert result.tables[0].verdict != "better"
    assert result.tables[0].left_out == (0, 1)
    assert failures(result, 100.0) == ["human36m T1 leaves out 1 poses instead of 0"]
    assert failures(compared(ready_workspace, b, a, "--table", "T1"), 100.0) == []
    page = tmp_path / "page.html"
    lines = ready_workspace.must("compare", a, b, "--table", "T1", "--html", page).out.splitlines()
    assert any(re.match(r"T1 .* mm +few groups$", line) for line in lines)
    assert "A leaves out 0 poses, B 1: T1" in lines
    assert "There A and B are over all poses that each predicts, B - A is over the poses of both." in lines
    assert "A leaves out 0 poses, B 1</td>" in page_of(page)
    assert "leaves out" not in ready_workspace.must("compare", a, a, "--table", "T1").out


def test_a_file_without_records_has_no_number(ready_workspace: Any, write_file: WriteFile, tmp_path: Path) -> None:
    a, b = write_file("a", 27.0), write_file("b", 10.0, left_out=6)
    done = ready_workspace.run("compare", a, b, "--table", "T1", "--fail-if-worse")
    assert done.code == 1
    assert "human36m T1 leaves out 6 poses instead of 0" in done.err
    assert any(re.match(r"T1 +all 4 +1\.6 +- +- +- +mm +incomplete$", line) for line in done.out.splitlines())
    for pair in ((a, b), (b, a)):
        (one,) = compared(ready_workspace, *pair, "--table", "T1").tables
        assert (one.a is None, one.b is None) == (pair[0] == b, pair[1] == b)
        assert (one.difference, one.ci95, one.verdict, one.n_samples) == (None, None, "undecided", 0)
    every = {table.table for table in compared(ready_workspace, a, b).tables}
    assert every == {table.table for table in compared(ready_workspace, a, a).tables}


@pytest.mark.parametrize("path", [PREDICTED, PREDICTED.parent], ids=["file", "folder of files"])
def test_a_row_equals_its_predictions(ready_workspace: Any, only_tables: Callable[..., None], path: Path) -> None:
    only_tables("T1", "T1-actions", "human36m-pa-mpjpe", "human36m-pck", "human36m-clipped", "T6")
    result = compared(ready_workspace, "dlt", path, "--fail-if-worse")
    pairs = [(table.difference, table.verdict) for table in result.tables if table.difference is not None]
    assert len(pairs) > 3
    assert {difference for difference, _ in pairs} == {0.0}
    assert {"better", "worse"}.isdisjoint(verdict for _, verdict in pairs)


def test_tables_are_narrow_and_alone_on_stdout(ready_workspace: Any, write_file: WriteFile) -> None:
    done = ready_workspace.must("compare", write_file("a", 10.0), write_file("b", 99999.0), "--fail-if-worse", "1e9")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= WIDTH == 100
    assert any(line.startswith("T1 ") for line in lines)
    assert any(line.startswith("  nose ") for line in lines)
    assert "poseboard:" not in done.out


def test_errors_name_what_to_do(workspace: Any, write_file: WriteFile, spoil: Callable[..., Any]) -> None:
    a = write_file("a", 10.0)
    assert "did you mean dlt? One of" in spoil("compare", "dtl", a).error
    assert "run `poseboard evaluate algebraic`" in spoil("compare", "algebraic", "dlt").error
    assert "there is no such file" in spoil("compare", "dlt", "absent.parquet").error
    assert (
        "are of different data sets: human36m | panoptic"
        in spoil("compare", a, write_file("b", 10.0, dataset="panoptic")).error
    )
    assert "is not a table on human36m; did you mean T1?" in spoil("compare", "dlt", a, "--table", "T11").error
    assert "did you mean human36m?" in spoil("compare", "dlt", a, "--dataset", "human36").error
    assert "more than two names" in spoil("compare", "dlt", a, a).error
    assert "name A and B" in spoil("compare", "human36m", "--json").error
    assert "is not a margin" in spoil("compare", "dlt", a, "--fail-if-worse", "-1").error
    given = write_file("c", 10.0, condition=predictions.read(a).info.condition.model_copy(update={"root": "truth"}))
    error = spoil("compare", "dlt", given, "--table", "T1").error
    assert "no number of the same table and signature; predict both under the same condition" in error
    assert "given: nothing | root" in error
    (workspace.folder / "results/smoke/errors/dlt/human36m.parquet").unlink()
    assert "per-pose errors cannot be read" in spoil("compare", "dlt", a).error


RECORDED = Path(__file__).resolve().parents[2] / "results/default"
Edit = Callable[[dict[str, Any]], None]


def copy_recorded(folder: Path) -> Path:
    """Scores of three rows from the recorded results, and comparisons of two data sets."""
    for row in ("dlt", "dlt_peak", "ransac"):
        shutil.copytree(RECORDED / "scores" / row, folder / "scores" / row)
    for dataset in ("human36m", "panoptic"):
        (folder / "comparisons").mkdir(exist_ok=True)
        shutil.copy(RECORDED / "comparisons" / f"{dataset}.json", folder / "comparisons")
    return folder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_recorded(tmp_path_factory.mktemp("recorded") / "before")


@pytest.fixture
def after(tmp_path: Path) -> Path:
    """The same results, to edit."""
    return copy_recorded(tmp_path / "after")


def edit(path: Path, change: Edit) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def score_of(values: dict[str, Any], table: str) -> dict[str, Any]:
    return next(score for score in values["scores"] if score["table"] == table)


def test_equal_folders(ready_workspace: Any, recorded: Path, after: Path) -> None:
    # Dates and commits do not count, nor the order of rows in a comparison.
    edit(after / "scores/dlt/human36m.json", lambda values: values["provenance"].update(git_commit="f" * 40))
    edit(after / "comparisons/human36m.json", lambda values: values["tables"][0]["pairs"].reverse())
    done = ready_workspace.must("compare", recorded, after, "--fail-if-worse")
    assert done.out.splitlines()[-1] == "nothing differs"
    assert done.err == "poseboard: 0 differences\n"


def test_one_edited_number(ready_workspace: Any, recorded: Path, after: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        score_of(values, "T1").update(value=80.25)

    edit(after / "scores/dlt/human36m.json", change)
    old = score_of(json.loads((recorded / "scores/dlt/human36m.json").read_text()), "T1")["value"]
    result = folders.compare_folders(recorded, after)
    (found,) = result.changes
    assert (found.dataset, found.row, found.table, found.field, found.unit) == ("human36m", "dlt", "T1", "value", "mm")
    assert (found.old, found.new) == (old, 80.25)
    assert (result.added, result.gone, result.signatures) == ([], [], [])
    done = ready_workspace.must("compare", recorded, after)
    assert f"human36m/dlt/T1 (all 4)  value {old:.1f} -> 80.2 (" in done.out
    assert "nothing differs" not in done.out
    for margin, code in (((), 1), ((f"{80.25 - old - 0.01}",), 1), ((f"{80.25 - old + 0.01}",), 0)):
        assert ready_workspace.run("compare", recorded, after, "--fail-if-worse", *margin).code == code
    assert ready_workspace.run("compare", recorded, after, "--table", "T2", "--fail-if-worse").code == 0
    assert ready_workspace.run("compare", recorded, after, "--dataset", "panoptic", "--fail-if-worse").code == 0


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda v: score_of(v, "T1")["signature"].update(version=9), "  protocol version: 1 -> 9"),
        (lambda v: v["scores"].remove(score_of(v, "T1")), "only in A: human36m/dlt/T1 (all 4)"),
        (lambda v: v["provenance"]["options"].update(new=3), "human36m/dlt  options.new absent -> 3"),
        (lambda v: v["provenance"].update(data_manifest="x"), "human36m/dlt  data_manifest "),
        (lambda v: score_of(v, "T1").update(n_missing=3), "human36m/dlt/T1 (all 4)  n_missing 0 -> 3"),
        (
            lambda v: score_of(v, "T1")["breakdown"]["joint"].update(nose=1.0, thorax=2.0),
            "human36m/dlt/T1 (all 4)  breakdown.joint: 2 changes",
        ),
    ],
)
def test_other_changes_of_a_row(ready_workspace: Any, recorded: Path, after: Path, change: Edit, line: str) -> None:
    edit(after / "scores/dlt/human36m.json", change)
    done = ready_workspace.run("compare", recorded, after, "--fail-if-worse")
    assert done.code == 1
    assert sum(each.startswith(line) for each in done.out.splitlines()) == 1, done.out
    assert max(map(len, done.out.splitlines()[2:])) <= WIDTH


def test_rows_and_comparisons(ready_workspace: Any, recorded: Path, after: Path) -> None:
    shutil.rmtree(after / "scores/ransac")
    (after / "comparisons/panoptic.json").unlink()

    def change(values: dict[str, Any]) -> None:
        table = values["tables"][0]
        pair = next(pair for pair in table["pairs"] if {pair["a"], pair["b"]} == {"dlt", "dlt_peak"})
        pair["difference"] += 1 if pair["a"] == "dlt" else -1

    edit(after / "comparisons/human36m.json", change)
    forward, back = folders.compare_folders(recorded, after), folders.compare_folders(after, recorded)
    assert "human36m/ransac" in forward.gone
    assert "panoptic/comparisons" in forward.gone
    assert (forward.added, back.gone, back.added) == ([], [], forward.gone)
    (found,) = forward.changes  # pairs with the row that is gone are no changes of their own
    assert (found.row, found.field) == ("dlt - dlt_peak", "comparison.difference")
    assert found.new == pytest.approx(found.old + 1)
    assert json.loads(ready_workspace.must("compare", recorded, after, "--json").out) == json.loads(forward.text())


def test_wrong_folders(
    ready_workspace: Any, spoil: Callable[..., Any], recorded: Path, after: Path, tmp_path: Path
) -> None:
    assert f"name {RECORDED}" in spoil("compare", RECORDED.parents[1], after).error
    assert f"name {RECORDED}" in spoil("compare", RECORDED.parent, after).error
    assert "is not a results folder" in spoil("compare", "dlt", after).error
    assert "did you mean T1?" in spoil("compare", recorded, after, "--table", "T11").error
    assert "did you mean human36m?" in spoil("compare", recorded, after, "--dataset", "human36").error
    edit(after / "scores/dlt/human36m.json", lambda values: values.update(scores=3))
    assert "scores/dlt/human36m.json: scores: " in spoil("compare", recorded, after).error


def page_of(path: Path) -> str:
    """The page, checked to be whole, without scripts and anything that a browser would fetch."""
    text = path.read_text(encoding="utf-8")
    assert text.rstrip().endswith("</html>")
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", text)
    assert "default-src 'none'" in text
    return text


def test_page_of_two_files(ready_workspace: Any, write_file: WriteFile, tmp_path: Path) -> None:
    a, b, page = write_file("a", 10.0), write_file("b", 27.0), tmp_path / "<i>x.html"
    shutil.copy(a, tmp_path / "<b>a&.parquet")
    done = ready_workspace.run(
        "compare", tmp_path / "<b>a&.parquet", b, "--table", "T1", "--html", page, "--fail-if-worse"
    )
    assert done.code == 1
    text = page_of(page)
    assert "&lt;b&gt;a&amp;.parquet" in text
    assert "<b>a" not in text
    assert "B is significantly worse than A" in text
    assert re.search(r'<td class="worse">worse</td>', text)
    assert re.search(r'<th scope="row">nose</th><td class="num">10.0</td><td class="num">27.0</td>', text)
    assert "is a folder; name a file" in ready_workspace.run("compare", a, b, "--html", tmp_path).error


def test_page_of_two_folders(ready_workspace: Any, recorded: Path, after: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    ready_workspace.must("compare", recorded, after, "--html", page)
    assert "Nothing differs" in page_of(page)
    edit(after / "scores/dlt/human36m.json", lambda v: score_of(v, "T1").update(value=80.25))
    edit(after / "scores/dlt/panoptic.json", lambda v: v["scores"][0]["signature"].update(joints="<script>"))
    shutil.rmtree(after / "scores/ransac")
    ready_workspace.must("compare", recorded, after, "--html", page)
    text = page_of(page)
    assert "Nothing differs" not in text
    assert "-&gt; 80.2 (" in text
    assert "<li>human36m/ransac</li>" in text
    assert "<td>&lt;script&gt;</td>" in text
