"""The public documents hold: their methods run as they are printed, their commands and links exist."""

import ast
import inspect
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import yaml
from predicted import file_name

import poseboard.methods
from poseboard.benchmarks import cli
from poseboard.benchmarks.handover import Handover
from poseboard.benchmarks.harness import build_method
from poseboard.benchmarks.plan import Plan
from poseboard.datasets.catalog import catalog
from poseboard.methods.checkpoint import Checkpoint
from poseboard.protocols import predictions
from poseboard.protocols.records import TrainingFile
from poseboard.protocols.table import Table

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("methods/*/README.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
METHODS = (ROOT / "docs/methods.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def documented_method(name: str) -> str:
    (code,) = [block for block in blocks(METHODS, "python") if block.startswith(f"# methods/{name}/method.py\n")]
    return code


def documented_line(name: str) -> str:
    (line,) = [block for block in blocks(METHODS, "yaml") if block.startswith(f"  {name}: ")]
    return line


def documented_row(name: str) -> dict[str, Any]:
    row = yaml.safe_load(documented_line(name))[name]
    assert row["code"] == f"methods/{name}"
    return row


def statements(code: str) -> int:
    """Lines of code, without imports, docstrings, comments and blank lines."""
    beside: set[int] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            beside |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(code.splitlines(), 1)
    return sum(number not in beside and line.strip() != "" and line.lstrip()[0] != "#" for number, line in lines)


@pytest.fixture
def with_documented_method(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a method of docs/methods.md into the workspace as its text says; the workspace."""

    def add(name: str, **changes: Any) -> Any:
        room = workspace.folder / "their_methods"
        (room / name).mkdir(parents=True)
        (room / name / "method.py").write_text(documented_method(name))
        monkeypatch.setattr(poseboard.methods, "__path__", [*poseboard.methods.__path__, str(room)])
        params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
        params["methods"][name] = {**documented_row(name), "code": f"their_methods/{name}", **changes}
        workspace.write_params(**params)
        return workspace

    return add


def test_the_first_documented_method(with_documented_method: Any) -> None:
    assert len(documented_method("reweighted").splitlines()) < 60
    workspace = with_documented_method("reweighted", after="dlt")
    # Both triangulate the same detections of the same barely trained network.
    assert 0.2 < workspace.error_mm("reweighted") / workspace.error_mm("dlt") < 5


def test_the_learned_documented_method(with_documented_method: Any) -> None:
    assert statements(documented_method("joint_powers")) <= 33
    workspace = with_documented_method("joint_powers", steps=3)
    assert np.isfinite(workspace.error_mm("joint_powers"))
    folder = workspace.folder / "results/smoke"
    state = Checkpoint.read(folder / "checkpoints/joint_powers/human36m/seed0.pt").state
    assert not torch.equal(state["power"], torch.ones(17))
    start = Checkpoint.read(folder / "checkpoints/backbone/human36m/seed0.pt").state
    assert all(torch.equal(state[f"backbone.{name}"], value) for name, value in start.items())
    (run,) = TrainingFile.read(folder / "training/joint_powers/human36m.json").runs
    assert run.curves["total"].x == [1, 2, 3]
    # With every power at 1 it is the row that weighs by the peak.
    before = predictions.read(folder / "predictions/joint_powers/human36m" / file_name()).joints_mm
    peak = predictions.read(folder / "predictions/dlt/human36m" / file_name()).joints_mm
    assert not np.allclose(before, peak, atol=1e-3)


def test_the_first_method_needs_two_views_and_no_origin(
    with_documented_method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = with_documented_method("reweighted", after="dlt")
    monkeypatch.chdir(workspace.folder)
    plan = Plan.read()
    run = plan.run("reweighted", "human36m")
    method = build_method(run)
    method.load(plan.run("backbone", "human36m").checkpoint(0), "cpu")
    handover = Handover(run.dataset, method.inputs, run.layout.crops)
    (sample,) = handover.samples(run.dataset.keys("test")[0])
    answers = method.predict([replace(sample, views=sample.views[:count]) for count in (4, 1, 0, 2)])
    assert [bool(np.isfinite(answer.joints_mm).all()) for answer in answers] == [True, False, False, True]
    assert all(np.isfinite(answer.score).all() for answer in answers)
    assert method.predict([]) == []
    # The stable system: where the world has its origin, at a joint if need be, changes nothing.
    joints_mm = answers[0].joints_mm
    for joint in range(0, 17, 4):
        origin_mm = joints_mm[0, joint]
        moved = [
            replace(view, camera=replace(view.camera, t=view.camera.t + view.camera.R @ origin_mm))
            for view in sample.views
        ]
        (there,) = method.predict([replace(sample, views=tuple(moved))])
        np.testing.assert_allclose(there.joints_mm + origin_mm, joints_mm, rtol=0, atol=1e-3)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = {re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in text.splitlines()}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        assert "://" in target or not path or (document.parent / path).exists(), target
        assert path or anchor in headings, target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_number_is_quoted_from_memory(document: Path) -> None:
    assert not re.search(r"from\s+memory|check\s+(it\s+)?before\s+use", document.read_text(encoding="utf-8"))


def test_every_data_set_that_can_be_opened_is_described_with_its_options() -> None:
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    found = re.findall(r"(?ms)^## [^\n]*\((`[^\n]+`)\)\n(.*?)(?=^## )", text)
    sections = {name: section for names, section in found for name in re.findall("`([^`]+)`", names)}
    for entry in catalog().values():
        options = set(inspect.signature(entry.adapter).parameters) - {"root", "synthetic"}
        assert {option for option in options if f"`{option}" in sections[entry.name]} == options


def test_the_table_of_the_contributing_guide_is_one() -> None:
    (table,) = blocks((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "yaml")
    board = Table.model_validate(yaml.safe_load(table))
    assert board.rule().unit == "%"
    assert board.id not in {path.stem for path in (ROOT / "benchmarks/tables").glob("*.yaml")}


def commands(app: typer.Typer) -> dict[str, set[str]]:
    """Command -> its long options, groups as "data status"."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, name: str) -> None:
        for key, part in getattr(command, "commands", {}).items():
            walk(part, f"{name} {key}".strip())
        if not hasattr(command, "commands"):
            found[name] = {option for parameter in command.params for option in parameter.opts}

    walk(typer.main.get_command(app), "")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_there(document: Path) -> None:
    known = commands(cli.app)
    groups = {name.partition(" ")[0] for name in known if " " in name}
    text = document.read_text(encoding="utf-8")
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    lines += re.findall(r"`((?:poseboard|make) [^`]+)`", text.replace("\n", " "))
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    for line in lines:
        words = shlex.split(line, comments=True)
        program, words = (Path(words[0]).name, words[1:]) if words else ("", [])
        if program == "make":
            assert {word for word in words if "=" not in word} <= targets, line
        if program != "poseboard" or not words or words[0].startswith("-"):
            continue
        name = " ".join(words[:2]) if words[0] in groups and len(words) > 1 else words[0]
        assert name in known or name in groups, line
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known.get(name, set()) | {"--help"}, line


def test_the_pictures_are_small_enough_for_a_page() -> None:
    pictures = [ROOT / target for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)]
    assert len(pictures) >= 2
    assert all(path.stat().st_size < 300_000 for path in pictures)
