"""`poseboard export`: boards as text, from the recorded results without data."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt

from poseboard.benchmarks import cli
from poseboard.benchmarks.exchange.registries import every_eval_ever, hugging_face
from poseboard.datasets.errors import InputError
from poseboard.protocols.records import ResultError
from poseboard.protocols.submissions import Card
from poseboard.report.board import boards
from poseboard.report.readme import About, read_readme
from poseboard.report.results import read_results
from poseboard.report.sheet import (
    Sheet,
    about_card,
    bibtex,
    csv_text,
    json_text,
    latex,
    latex_text,
    markdown,
    markdown_text,
    sheets,
)

ROOT = Path(__file__).resolve().parents[2]
SCORES = ROOT / "results/default/scores"
HOSTILE = r"\input{/etc/passwd} & 50% of $x_1^2$ #~`'\"<b>|*[2ex] @book{x, ☃ 你 -- ]\\ " + "\n\r\x1b[31m=1+1"

ALL = boards(read_results(ROOT / "results", "default"))
REAL, SYNTHETIC = "pose2sim-single", "human36m"


@cache
def recorded(dataset: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(method, table, signature) -> a score of the files, as plain JSON."""
    files = [json.loads(path.read_text()) for path in SCORES.glob(f"*/{dataset}.json")]
    return {
        (file["method"], score["table"], json.dumps(score["signature"], sort_keys=True)): score
        for file in files
        for score in file["scores"]
    }


def spoiled(name: str = HOSTILE, **changes: Any) -> Sheet:
    """T1 of human36m with a first row of another name, and other changes of its score file."""
    (board, *_) = (board for board in ALL if board.dataset == SYNTHETIC and board.table == "T1")
    first = board.rows[0]
    file = first.file.model_copy(update={"method": name, **changes})
    row = replace(first, file=file, badge="claimed" if file.source == "submission" else "")
    return Sheet.of([replace(board, rows=(row, *board.rows[1:]), title=name)], "default")


@pytest.fixture
def export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command where there are only the recorded results: exit code, output and errors."""
    for name in ("params.yaml", "results", "methods", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["poseboard", "export", *words])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            os.environ.pop("POSEBOARD_PROFILE", None)  # which --profile sets
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("name", [SYNTHETIC, REAL, "T1", "human36m-cameras", "mupots"])
def test_numbers_are_those_of_the_score_files(name: str, kind: str) -> None:
    printed = sheets(ALL, name, "default")
    rows = [row for sheet in printed for _, row in sheet.printed]
    text = csv_text(printed) if kind == "csv" else json_text(printed)
    entries = (
        pd.read_csv(io.StringIO(text)).astype(object) if kind == "csv" else pd.DataFrame(json.loads(text), dtype=object)
    )
    assert len(entries) == len(rows) > 0
    for (_, entry), row in zip(entries.iterrows(), rows, strict=True):
        signature = row.score.signature
        key = (entry["method"], entry["table"], json.dumps(signature.model_dump(mode="json"), sort_keys=True))
        score = recorded(entry["dataset"])[key]
        low, high = score["ci95"] or (None, None)
        for field, value in {"value": score["value"], "ci_low": low, "ci_high": high}.items():
            assert entry[field] == value or (value is None and pd.isna(entry[field])), (key, field)
        for field in ("unit", "n_samples", "n_missing", "n_left_out", "title"):
            assert entry[field] == score[field], (key, field)
        assert entry["signature"] == (str(signature) if kind == "csv" else score["signature"])


@pytest.mark.parametrize("name", [SYNTHETIC, "T1", "human36m-frames-per-rig", REAL])
def test_tables_have_the_values_intervals_and_order_of_the_board(name: str) -> None:
    for sheet in sheets(ALL, name, "default"):
        parsed = cells(markdown([sheet]))
        tex = re.findall(r"(?m)^(?!Method| &)(.*) & .* \\\\$", latex([sheet]))
        assert len(parsed) == len(tex) == len(sheet.methods)
        for method, words in zip(sheet.methods, parsed, strict=True):
            assert words[0].split(" (")[0] == method
            for board, cell in zip(sheet.boards, words[1:], strict=True):
                row = board.row_or_bound(method)
                value, interval = (row.score.value, row.score.ci95) if row else (None, None)
                numbers = [float(number) for number in re.findall(r"\d+\.\d+", cell)]
                expected = [] if value is None else [value, *(interval or ())]
                assert numbers == pytest.approx(expected, abs=0.051, rel=0.01), (board.label, method)


def cells(text: str) -> list[list[str]]:
    """Words of the body of the only table in a Markdown text, as a reader sees them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows: list[list[str]] = []
    for k, token in enumerate(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            rows[-1].append("".join(child.content for child in tokens[k + 1].children or []))
    return rows[1:]


def test_bold_is_the_row_that_is_significantly_better() -> None:
    for sheet in sheets(ALL, SYNTHETIC, "default"):
        bold = [row.method for _, row in sheet.printed if row.bold]
        assert bold == ["volumetric"]  # first in both columns, significantly in one
        (line,) = [line for line in latex([sheet]).splitlines() if line.count(r"\textbf")]
        assert line.startswith("volumetric & ")
        (line,) = [line for line in markdown([sheet]).splitlines() if "**" in line]
        assert line.startswith("| volumetric | ")


@pytest.mark.parametrize("text", [latex, markdown, csv_text, json_text])
def test_every_format_says_what_is_synthetic_claimed_and_a_bound(text: Callable[[list[Sheet]], str]) -> None:
    synthetic = text(sheets(ALL, SYNTHETIC, "default"))
    real = text(sheets(ALL, REAL, "default"))
    if text in (latex, markdown):
        assert "synthetic world (rendered people)" in synthetic
        assert "real data" in real
        assert "synthetic world" not in real
    else:
        frames = [
            pd.read_csv(io.StringIO(words)) if text is csv_text else pd.DataFrame(json.loads(words))
            for words in (synthetic, real)
        ]
        assert [set(frame["synthetic"]) for frame in frames] == [{True}, {False}]
    claimed = text([spoiled("theirs", source="submission", warning="Not to be quoted")])
    assert claimed.count("claimed") == 1
    assert "Not to be quoted" in claimed
    assert "claimed" not in synthetic
    bounds = [board for board in ALL if board.bounds or any(row.file.bound for row in board.rows)]
    assert bounds
    for board in bounds:
        assert ("true cameras, unranked" if board.bounds else "bound, unranked") in text([Sheet.of([board], "default")])
    assert "bound, unranked" not in real


@pytest.mark.parametrize("name", [SYNTHETIC, "human36m-cameras"])
def test_the_caption_has_every_fact_of_the_signature(name: str) -> None:
    for sheet in sheets(ALL, name, "default"):
        (caption,) = re.findall(r"(?m)^\\caption\{(.*)\}$", latex([sheet]))
        for board in sheet.boards:
            facts = board.signature.facts | {"cameras": board.signature.views}
            for fact, words in facts.items():
                assert latex_text(f"{fact}: {words}") in caption


TEXTS, RELATIONS = dict[str, str], ("first_party", "third_party", "collaborative", "other")
EVALUATION = {
    "evaluation_result_id": str,
    "evaluation_name": str,
    "evaluation_timestamp": str,
    "source_data": {
        "dataset_name": str, "source_type": ("other",), "source_id": str, "source_version": str,
        "additional_details": TEXTS,
    },
    "metric_config": {
        "evaluation_description": str, "metric_id": str, "metric_name": str, "metric_unit": str,
        "metric_parameters": TEXTS, "lower_is_better": bool, "score_type": ("continuous",), "min_score": (0,),
        "max_score": (100, "Infinity"),
    },
    "score_details": {"score": float, "details": TEXTS, "uncertainty": {"num_samples": int}},
}  # fmt: skip
RECORD = {
    "schema_version": ("0.3.0",),
    "evaluation_id": str,
    "evaluation_timestamp": str,
    "retrieved_timestamp": str,
    "source_metadata": {
        "source_name": str, "source_type": ("evaluation_run",), "source_organization_name": str,
        "evaluator_relationship": RELATIONS,
    },
    "eval_library": {"name": str, "version": str},
    "model_info": {
        "name": str, "id": str, "developer": str, "inference_engine": {"name": str, "version": str},
        "additional_details": {"deployment_type": ("self_deployed",), "model_availability": ("unknown",)},
    },
}  # fmt: skip
"""What eval.schema.json of Every Eval Ever demands of the fields that we write: type, or allowed values."""


def follows(value: Any, demand: Any) -> bool:
    """Whether a value has exactly the demanded fields, types and values."""
    if isinstance(demand, dict):
        return value.keys() == demand.keys() and all(follows(value[name], demand[name]) for name in demand)
    if isinstance(demand, tuple):
        return value in demand
    if demand == TEXTS:
        return all(isinstance(words, str) and words for words in value.values())
    return type(value) is demand


@pytest.mark.parametrize("name", [SYNTHETIC, REAL, "T1", "human36m-pck", "human36m-robustness"])
def test_every_eval_ever_follows_its_schema(name: str) -> None:
    """Each record has the fields, types and values that `RECORD` and `EVALUATION` list.

    The schema itself is a file of Every Eval Ever, which is not copied here: its facts are written out by hand.
    """
    for method in {method for sheet in sheets(ALL, name, "default") for method in sheet.methods}:
        printed = sheets(ALL, name, "default", [method])
        numbers = [(board, row.score) for sheet in printed for board, row in sheet.printed]
        record = json.loads(every_eval_ever(printed))
        evaluations = record.pop("evaluation_results")
        assert follows(record, RECORD), record
        ids = [evaluation["evaluation_result_id"] for evaluation in evaluations]
        assert len(set(ids)) == len(ids) == len(numbers) > 0
        for evaluation, (board, score) in zip(evaluations, numbers, strict=True):
            interval = evaluation["score_details"]["uncertainty"].pop("confidence_interval", None)
            assert follows(evaluation, EVALUATION), evaluation
            assert evaluation["score_details"]["score"] == score.value
            assert (interval and (interval["lower"], interval["upper"])) == score.ci95
            assert evaluation["metric_config"]["metric_parameters"] == score.signature.facts
            names = (evaluation["evaluation_name"], *evaluation["source_data"].values())
            assert [board.dataset + "-synthetic" in str(words) for words in names[:2]] == [board.synthetic] * 2


def test_hugging_face_has_the_required_fields_and_says_what_is_synthetic() -> None:
    printed = sheets(ALL, SYNTHETIC, "default", ["volumetric"])
    text = hugging_face(printed, "lab/people-synthetic")
    assert text.startswith("# volumetric on human36m-synthetic\n")
    entries = yaml.safe_load(text)
    rows = [row for sheet in printed for _, row in sheet.printed]
    assert len({entry["dataset"]["task_id"] for entry in entries}) == len(entries) == len(rows)
    for entry, row in zip(entries, rows, strict=True):
        assert set(entry) == {"dataset", "value", "date", "notes"}
        assert entry["dataset"]["id"] == "lab/people-synthetic"
        assert entry["dataset"]["task_id"].startswith(f"{row.score.table}-synthetic-")
        assert entry["value"] == row.score.value
        assert "synthetic world (rendered people)" in entry["notes"]
        assert str(row.score.signature) in entry["notes"]
    real = hugging_face(sheets(ALL, REAL, "default", ["dlt"]), "lab/people")
    assert "synthetic" not in real
    claimed = hugging_face([Sheet.of(spoiled("theirs", source="submission", warning="Quick").boards, "default",
                                     ["theirs"])], "lab/people-synthetic")  # fmt: skip
    assert "claimed" in claimed
    assert "Quick" in claimed


@pytest.mark.parametrize(
    "hub_dataset", ["lab/people", "lab-synthetic/people", "people-synthetic", "lab/a/synthetic", ""]
)
def test_synthetic_results_need_a_data_set_that_says_so(hub_dataset: str) -> None:
    with pytest.raises(InputError, match=r"synthetic|OWNER/NAME"):
        hugging_face(sheets(ALL, SYNTHETIC, "default", ["dlt"]), hub_dataset)


def test_files_for_registries_are_of_one_row() -> None:
    with pytest.raises(InputError, match=r"is for one row, not 1[0-9]; choose one, such as --rows "):
        every_eval_ever(sheets(ALL, SYNTHETIC, "default"))


def test_hostile_names_stay_in_their_field() -> None:
    (sheet,) = [Sheet.of(spoiled().boards, "default", [HOSTILE])]
    entries = yaml.safe_load(hugging_face([sheet], "lab/synthetic"))
    assert {len(entry) for entry in entries} == {4}
    assert json.loads(every_eval_ever([sheet]))["model_info"]["name"] == HOSTILE


def test_bibtex_says_what_is_synthetic() -> None:
    assert "synthetic world (rendered people)" in bibtex(sheets(ALL, SYNTHETIC, "default"), {}).splitlines()[0]
    assert "real data" in bibtex(sheets(ALL, REAL, "default"), {}).splitlines()[0]


def test_missing_predictions_are_counted_beside_the_value() -> None:
    board, row = next((board, row) for board in ALL for row in board.rows if row.score.n_missing)
    count = f"{row.score.n_missing} of "
    (line,) = cells(markdown([Sheet.of([board], "default", [row.method])]))
    assert count in line[1]
    assert count in latex([Sheet.of([board], "default", [row.method])])


def test_only_some_rows_keep_the_marks_of_all() -> None:
    (whole,) = sheets(ALL, SYNTHETIC, "default")
    (part,) = sheets(ALL, SYNTHETIC, "default", ["ransac", "dlt"])
    assert part.methods == ("ransac", "dlt")
    assert part.left_out == len(whole.methods) - 2
    assert r"\textbf" not in latex([part])  # the better of two rows is not the best of the board
    assert f"2 of {len(whole.methods)} rows" in latex([part])
    ranks = pd.read_csv(io.StringIO(csv_text([part]))).groupby("table")["rank"].min()
    assert (ranks > 1).all()


def test_hostile_text_is_printed_literally() -> None:
    sheet = spoiled()
    tex = latex([sheet])
    assert r"\input" not in tex
    assert "\x1b" not in tex
    body = [line for line in tex.splitlines() if line.startswith(r"\textbackslash{}input\{")]
    assert len(body) == 1, "the name stays in one row"
    assert re.findall(r"(?<!\\)&", body[0]) == ["&"], "two cells"
    assert len(cells(markdown([sheet]))) == len(sheet.methods)
    words = HOSTILE.partition("\n")[0].strip()
    assert cells(markdown([sheet]))[0][0].startswith(words)
    for text in (markdown([sheet]), csv_text([sheet]), bibtex([sheet], {})):
        assert "\x1b" not in text
        assert "\r" not in text
    assert "@" not in bibtex([sheet], {})
    frame = pd.read_csv(io.StringIO(csv_text([spoiled("=HYPERLINK(1)")])))
    assert frame["method"].iloc[0] == "'=HYPERLINK(1)"
    assert json.loads(json_text([sheet]))[0]["method"] == HOSTILE


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("a_b", r"a\_b"),
        ("50 %", r"50 \%"),
        ("[2ex]", "{[}2ex{]}"),
        ("MPJPE≤150 mm, 5°", r"MPJPE$\leq$150 mm, 5$^\circ$"),
        ("a--b---c", "a-{}-b-{}-{}-c"),
        ("你", "{[}U+4F60{]}"),
        ("\\", r"\textbackslash{}"),
    ],
)
def test_latex_specials(text: str, tex: str) -> None:
    assert latex_text(text) == tex


def test_markdown_specials() -> None:
    text = "a_b *c* | `d` <e> [f](https://g.example) &amp; \\ $h$ ~i~ ![j](k)"
    assert MarkdownIt("commonmark").enable(["table", "strikethrough"]).renderInline(
        markdown_text(text)
    ) == text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    if (
        shutil.which("kpsewhich") is None
        or not subprocess.run(["kpsewhich", "booktabs.sty"], check=False, capture_output=True).stdout
    ):
        pytest.skip("the LaTeX package booktabs is not installed")
    first = {board.table: board for board in ALL}  # one board of each table
    printed = [*sheets(ALL, SYNTHETIC, "default"), *(Sheet.of([board], "default") for board in first.values())]
    printed += [spoiled(), spoiled("[2ex] x"), spoiled("*")]
    body = "\n\\clearpage\n".join(latex([sheet]) for sheet in printed)
    document = f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (tmp_path / "tables.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    log = (tmp_path / "tables.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Missing character" not in log
    assert f"Output written on tables.pdf ({len(printed)} pages" in log


def test_every_method_has_an_entry_that_agrees_with_its_readme() -> None:
    texts: dict[str, str] = {}
    folders = sorted(path.parent for path in (ROOT / "methods").glob("*/method.py"))
    for folder in folders:
        readme = read_readme(folder / "README.md")
        assert readme is not None
        assert readme.about is not None
        about, key = readme.about, readme.about.citation_key
        assert key, folder
        assert texts.setdefault(key, about.bibtex) == about.bibtex, folder
        assert f"{{{about.year}}}" in about.bibtex
        assert f"{{{about.link}}}" in about.bibtex
        (title,) = re.findall(r"(?m)^  title += (.*),$", about.bibtex)
        assert title.replace("{", "").replace("}", "") in (about.paper or "")
        names = [name.split()[-1] for name in about.authors.split(", ")]
        (authors,) = re.findall(r"author += \{(.*)\},\n", about.bibtex)
        assert [author.partition(",")[0] for author in authors.split(" and ")] == names
    assert len(texts) >= 4


def test_rows_of_one_paper_share_an_entry(export: Callable[..., tuple[int, str, str]]) -> None:
    code, text, _ = export("human36m", "--format", "bibtex", "--rows", "algebraic,volumetric", "--rows", "dlt")
    assert code == 0
    assert re.findall(r"(?m)^@\w+\{(\S+),$", text) == ["hartley2004multiple", "iskakov2019learnable"]
    assert re.search(r"(?m)^% (algebraic, volumetric|volumetric, algebraic): iskakov2019learnable$", text)
    assert re.search(r"(?m)^% theirs, .*: the suite knows no publication$", bibtex([spoiled("theirs")], {}))


def test_a_submission_is_cited_from_its_card() -> None:
    fields = {"inputs": "x", "training_data": "none", "hardware": "x", "licence": "MIT"}
    card = Card(
        name="theirs",
        title="}, year = {1} } @book{x, % \\input{y}",
        authors=["Ö. Åkesson", "Rock and Roll, Inc.", "{"],
        paper="https://example.org/a{b}/@c?d=%20#e",
        **fields,
    )
    text = bibtex([spoiled("theirs")], {"theirs": about_card(card)})
    assert re.search(r"(?m)^% theirs, .*: submission:theirs$|^% theirs: submission:theirs$", text)
    entry = text[text.index("@misc{") :]
    assert entry.count("@") == 1
    assert entry.count("{") == entry.count("}")
    assert r"\input" not in entry
    assert "\n  author = {Ö. Åkesson and {Rock and Roll, Inc.} and \\textbraceleft{}},\n" in entry
    assert "\n  url = {https://example.org/a%7Bb%7D/%40c?d=%20#e},\n" in entry
    names = re.findall(r"(?m)^  (\w+) = \{.*\},$", entry)
    assert names == ["title", "author", "note", "url"]
    without = about_card(card.model_copy(update={"paper": None})).bibtex
    assert "url" not in without


@pytest.mark.parametrize(
    "entry",
    ["book{x, year = 1}", "@book{x year}", "@book{x, year = {1}", "@book{x, a = 1} @book{y, b = 2}", "@book{x, a}}{"],
)
def test_a_broken_entry_is_an_error_with_its_field(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"---\nsummary: x\nbibtex: '{entry}'\n---\n\nWords.\n")
    with pytest.raises(ResultError, match=r"README\.md: front matter: bibtex: "):
        read_readme(path)


def test_two_entries_of_one_key_are_an_error() -> None:
    (sheet,) = sheets(ALL, SYNTHETIC, "default", ["dlt", "ransac"])
    abouts = {row: About(summary="x", bibtex=f"@misc{{key, note = {{{row}}}}}") for row in sheet.methods}
    with pytest.raises(ResultError, match="differs from another entry key"):
        bibtex([sheet], abouts)


@pytest.mark.parametrize(
    "words",
    [
        "latex",
        "markdown",
        "csv",
        "bibtex",
        "json",
        "every-eval-ever --rows dlt",
        "huggingface --rows dlt --hub-dataset a/synthetic",
    ],
)
def test_the_command_writes_every_format(
    export: Callable[..., tuple[int, str, str]], tmp_path: Path, words: str
) -> None:
    file = tmp_path / "table.txt"
    assert export("T1", "--format", *words.split(), "--out", str(file)) == (0, f"{file}\n", "")
    text = file.read_text(encoding="utf-8")
    assert "dlt" in text
    if words == "csv":  # printed without --out
        assert export("T1", "--format", "csv") == (0, text, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["human36"], "has no scores on a data set or table 'human36'; did you mean human36m?"),
        (["campus"], "has no scores on a data set or table 'campus'; "),
        (["T1", "--rows", "dtl"], "--rows dtl: is not a row of T1 in results/default; did you mean dlt?"),
        (["T1", "--rows", ""], "--rows : is not a row"),
        (["T1", "--profile", "full"], "results/full: has no scores; run `poseboard repro`"),
        (["T1", "--out", "results"], "--out results: is a folder; name a file in it"),
        (["T1", "--hub-dataset", "lab/people"], "--hub-dataset: is only for --format huggingface; omit it"),
    ],
)
def test_wrong_arguments_are_one_line(export: Callable[..., tuple[int, str, str]], words: list[str], says: str) -> None:
    code, out, error = export(*words, "--format", "latex")
    assert (code, out) == (2, "")
    assert says in error
    assert error.startswith("poseboard: ")
    assert error.count("\n") == 1


def test_a_data_set_without_boards_is_an_error() -> None:
    with pytest.raises(InputError, match="has no scores"):
        sheets([], "human36m", "default")
