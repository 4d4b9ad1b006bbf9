"""Commands for results of other people; part of the top level of `poseboard`."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from poseboard.datasets.errors import InputError, did_you_mean

exchange_app = typer.Typer()

_MARGIN = "--fail-if-worse"


class OptionalMargin(TyperCommand):
    """Command with an option ``--fail-if-worse [MM]``, whose value may be left out: 0."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Add the value where it is left out."""
        parsed: list[str] = []
        for place, arg in enumerate(args):
            parsed.append(arg)
            if arg == _MARGIN and not _is_number(args[place + 1] if place + 1 < len(args) else ""):
                parsed.append("0")
        return super().parse_args(ctx, parsed)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Choice:
    """Options of `poseboard compare A B`.

    Args:
        dataset: the only data set; None: all in common.
        tables: the only tables; empty: all.
        margin_mm: exit status 1 if B is worse by more; None: never.
        as_json: whether JSON is printed.
        html: page to write; None: none.
    """

    dataset: str | None
    tables: tuple[str, ...]
    margin_mm: float | None
    as_json: bool
    html: Path | None


def compare_two(a: str, b: str, choice: Choice) -> None:
    """Compare two results and print what differs; exit status 1 if B is worse by more than the margin.

    Raises:
        InputError: a name is unknown, results are absent or of different data, or the margin is negative.
        OSError: the page cannot be written.
    """
    margin = choice.margin_mm
    if margin is not None and not (math.isfinite(margin) and margin >= 0):
        raise InputError(f"{_MARGIN} {margin:g}", "is not a margin", "give millimetres of 0 or more")
    if choice.html is not None and choice.html.is_dir():
        raise InputError(f"--html {choice.html}", "is a folder", "name a file, such as differences.html")
    from poseboard.benchmarks.exchange.folders import is_results_folder

    if any(is_results_folder(Path(each)) for each in (a, b)):
        failed, verdict, context, text = _compare_folders(Path(a), Path(b), choice)
    else:
        failed, verdict, context, text = _compare_sources(a, b, choice)
    print(text)
    if choice.html is not None:
        from poseboard.datasets.files import write_file
        from poseboard.report.differences_page import differences_page

        write_file(choice.html, differences_page({"differences": None, "folders": None, "verdict": verdict} | context))
        _say(f"wrote {choice.html}")
    if margin is not None:
        _say(verdict)
    if failed:
        raise typer.Exit(1)


Compared = tuple[bool, str, dict[str, Any], str]
"""Whether the exit status is 1, the verdict in one line, what the page shows, and what is printed."""


def _compare_sources(a: str, b: str, choice: Choice) -> Compared:
    """Compare two rows or files."""
    from poseboard.benchmarks.exchange.differences import compare_sources, failures, input_of, lines
    from poseboard.benchmarks.plan import Plan

    result = compare_sources(Plan.read(), a, b, choice.dataset, choice.tables, lambda line: _say(f"warning: {line}"))
    shown = result.model_dump(mode="json")
    shown["tables"] = [table.model_dump() | {"input": input_of(table.signature)} for table in result.tables]
    context = {"a": result.a, "b": result.b, "differences": shown}
    text = result.text().rstrip() if choice.as_json else "\n".join(lines(result, choice.tables))
    if choice.margin_mm is None:
        return False, "", context, text
    worse, beyond = failures(result, choice.margin_mm), f"worse than A by more than {choice.margin_mm:g} mm"
    if worse:
        return True, f"B is significantly {beyond}: {'; '.join(worse)}", context, text
    few = sum(table.verdict == "few groups" for table in result.tables)
    undecided = f"; {few} of {len(result.tables)} tables have too few groups to decide" if few else ""
    return False, f"B is not significantly {beyond}{undecided}", context, text


def compare_with_rows(file: Path, rows: list[str]) -> None:
    """Print the paired differences of a predictions file from each of several rows.

    Raises:
        InputError: a row has no results, or the file cannot be scored.
    """
    from poseboard.benchmarks.exchange.differences import compare_sources, lines
    from poseboard.benchmarks.plan import Plan

    plan = Plan.read()
    for row in rows:
        if row not in plan.rows:
            raise InputError(f"--against {row[:80]!r}", "is not a row of params.yaml", did_you_mean(row, plan.rows))
    warnings: dict[str, None] = {}
    texts = ["\n".join(lines(compare_sources(plan, row, str(file), doubt=warnings.setdefault))) for row in rows]
    for warning in warnings:
        _say(f"warning: {warning}")
    print("\n\n".join(texts))


def _compare_folders(a: Path, b: Path, choice: Choice) -> Compared:
    """Compare two results folders."""
    from poseboard.benchmarks.exchange.folders import beyond, compare_folders, folder_lines, grouped

    result = compare_folders(a, b, choice.dataset, choice.tables)
    shown = result.model_dump(mode="json") | {"is_equal": result.is_equal, "grouped": grouped(result)}
    context = {"a": result.a, "b": result.b, "folders": shown}
    text = result.text().rstrip() if choice.as_json else "\n".join(folder_lines(result))
    if choice.margin_mm is None:
        return False, "", context, text
    counted = beyond(result, choice.margin_mm)
    verdict = f"{counted} difference{'' if counted == 1 else 's'}"
    verdict += f" beyond {choice.margin_mm:g} mm" if choice.margin_mm else ""
    return counted > 0, verdict, context, text


def _say(line: str) -> None:
    print(f"poseboard: {line}", file=sys.stderr)


@exchange_app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="DATASET|TABLE", help="a data set, or the id of a table such as T1")],
    kind: Annotated[
        Literal["latex", "markdown", "csv", "bibtex", "json"],
        typer.Option("--format", help="latex needs the package booktabs; bibtex: the papers of the methods"),
    ],
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", metavar="ROW[,ROW...]", help="rows to print; may be repeated; default: all"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="file to write; default: standard output")] = None,
) -> None:
    """Print a data set's board, or one table, from the recorded results: for papers, spreadsheets and programs.

    Needs results/<profile>, but neither data nor weights. Values, intervals and bold rows are those of the page. Ranks
    and bold rows remain those among all rows if --rows names some of them. Synthetic worlds, bounds and numbers of
    predictions files are marked in every format.
    """
    from poseboard.benchmarks.exchange import export as exported
    from poseboard.benchmarks.plan import Plan
    from poseboard.datasets.files import write_file
    from poseboard.report.board import boards
    from poseboard.report.readme import read_readme
    from poseboard.report.results import read_results

    if out is not None and out.is_dir():
        raise InputError(f"--out {out}", "is a folder", "name a file in it")
    plan = Plan.read()
    results = read_results(plan.home / "results", plan.params.profile, {row: plan.may_run(row) for row in plan.rows})
    names = [part.strip() for entry in rows or () for part in entry.split(",")]
    sheets = exported.sheets(boards(results), name, plan.params.profile, names)
    if kind == "bibtex":
        methods = {method for sheet in sheets for method in sheet.methods if method in plan.rows}
        code = {method: plan.home / plan.entry(method).code for method in sorted(methods)}
        folders = {method: path.parent if path.name == "method.py" else path for method, path in code.items()}
        readmes = {method: read_readme(folder / "README.md") for method, folder in folders.items()}
        text = exported.bibtex(sheets, {method: readme.about for method, readme in readmes.items() if readme})
    else:
        writers = {
            "latex": exported.latex,
            "markdown": exported.markdown,
            "csv": exported.csv_text,
            "json": exported.json_text,
        }
        text = writers[kind](sheets)
    if out is None:
        print(text, end="")
    else:
        write_file(out, text.encode())
        print(out)


@exchange_app.command()
def submit(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="predictions, .parquet")],
    card: Annotated[Path, typer.Option(help="YAML file that describes the method; see docs/submissions.md")],
    replace: Annotated[bool, typer.Option("--replace", help="overwrite an earlier submission of this name")] = False,
) -> None:
    """Check predictions and copy them with their card to submissions/<name>, from where they get a row on the board.

    The files are checked and scored as by `poseboard score --predictions`. Each of its warnings is an error here, and
    so is a sample without a row. `poseboard compare` and `poseboard report` show the row with the badge "claimed".
    """
    from poseboard.benchmarks.exchange import submissions
    from poseboard.benchmarks.plan import Plan
    from poseboard.benchmarks.score import lines

    folder, records = submissions.submit(Plan.read(), files, card, replace=replace)
    for record in records:
        print("\n".join(lines(record)))
    print(f"{folder}: {len(files)} file{'' if len(files) == 1 else 's'} submitted")
