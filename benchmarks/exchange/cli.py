"""Commands for results of other people; part of the top level of `poseboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from poseboard.datasets.errors import InputError

exchange_app = typer.Typer()


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
