"""Commands of `poseboard` that exchange results with other people: compare, export, submit, verify and publish."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from poseboard.datasets.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from poseboard.benchmarks.plan import DataSource

exchange_app = typer.Typer()

_MARGIN = "--fail-if-worse"


class OptionalMargin(TyperCommand):
    """Command with the option ``--fail-if-worse [MM]``; the default of MM is 0."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the value 0 if the option has no value."""
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
        dataset: data set to compare on; None: all that A and B share.
        tables: ids of the tables to compare; empty: all.
        margin_mm: exit with status 1 if B is worse by more than this, in mm; None: never.
        as_json: whether to print JSON.
        html: path of an HTML page to write; None: no page.
    """

    dataset: str | None
    tables: tuple[str, ...]
    margin_mm: float | None
    as_json: bool
    html: Path | None


def compare_two(a: str, b: str, choice: Choice) -> None:
    """Compare two results and print what differs; exit status 1 if B is worse by more than the margin.

    Raises:
        InputError: a name is unknown, results are missing or of different data, or the margin is negative.
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

    result = compare_sources(Plan.read(), a, b, choice.dataset, choice.tables, _warn)
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
        _warn(warning)
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


def _present(sources: Iterable[DataSource]) -> set[str]:
    """Names of the data sets that are here, after a line with the others; all names if none is here."""
    by_name = {source.name: source for source in sources}
    missing = [name for name, source in by_name.items() if source.is_missing]
    if not 0 < len(missing) < len(by_name):
        return set(by_name)
    _say(f"left out, absent here: {', '.join(missing)}")
    return by_name.keys() - missing


def _say(line: str) -> None:
    print(f"poseboard: {line}", file=sys.stderr)


def _warn(line: str) -> None:
    _say(f"warning: {line}")


@exchange_app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="DATASET|TABLE", help="a data set, or the id of a table such as T1")],
    kind: Annotated[
        Literal["latex", "markdown", "csv", "bibtex", "json", "huggingface", "every-eval-ever"],
        typer.Option(
            "--format",
            help="latex needs the package booktabs; bibtex: the papers of the methods; huggingface and "
            "every-eval-ever: one row, for registries of models",
        ),
    ],
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", metavar="ROW[,ROW...]", help="rows to print; may be repeated; default: all"),
    ] = None,
    hub_dataset: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="for huggingface: the data set on the Hub with the tasks")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="file to write; default: standard output")] = None,
) -> None:
    """Print a data set's board, or one table, from the recorded results: for papers, spreadsheets and programs.

    Needs only results/<profile>, no data or weights. Values, intervals and bold rows equal those of the page. With
    --rows, ranks and bold rows still refer to all rows. Every format marks synthetic worlds, bounds and scores of
    predictions files.
    """
    from poseboard.benchmarks.exchange import registries
    from poseboard.benchmarks.plan import Plan
    from poseboard.datasets.files import write_file
    from poseboard.report import sheet as exported
    from poseboard.report.board import boards
    from poseboard.report.readme import read_readme
    from poseboard.report.results import read_results

    if out is not None and out.is_dir():
        raise InputError(f"--out {out}", "is a folder", "name a file in it")
    if (kind == "huggingface") != (hub_dataset is not None):
        problem = "is only for --format huggingface" if hub_dataset else "is missing"
        raise InputError("--hub-dataset", problem, "omit it" if hub_dataset else "name the data set on the Hub")
    plan = Plan.read()
    results = read_results(plan.home / "results", plan.params.profile, {row: plan.may_run(row) for row in plan.rows})
    names = [part.strip() for entry in rows or () for part in entry.split(",")]
    sheets = exported.sheets(boards(results), name, plan.params.profile, names)
    if kind == "bibtex":
        methods = {method for sheet in sheets for method in sheet.methods if method in plan.rows}
        code = {method: plan.home / plan.entry(method).code for method in sorted(methods)}
        folders = {method: path.parent if path.name == "method.py" else path for method, path in code.items()}
        readmes = {method: read_readme(folder / "README.md") for method, folder in folders.items()}
        cards = {name: exported.about_card(submission.card) for name, submission in results.submissions.items()}
        abouts = {method: readme.about for method, readme in readmes.items() if readme}
        text = exported.bibtex(sheets, cards | abouts)
    elif hub_dataset is not None:
        text = registries.hugging_face(sheets, hub_dataset)
    else:
        writers = {
            "latex": exported.latex,
            "markdown": exported.markdown,
            "csv": exported.csv_text,
            "json": exported.json_text,
            "every-eval-ever": registries.every_eval_ever,
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
    check: Annotated[
        bool, typer.Option("--check", help="check a submission in its folder submissions/<name>, and write nothing")
    ] = False,
) -> None:
    """Check predictions and copy them with their card to submissions/<name>, which adds a row to the board.

    The files are checked and scored as by `poseboard score --predictions`, but its warnings and missing samples are
    errors. `poseboard compare` and `poseboard report` show the row with the badge "claimed". `poseboard score FILE
    --json` prints the signatures of the numbers.
    """
    from poseboard.benchmarks.exchange import submissions
    from poseboard.benchmarks.plan import Plan

    folder, records = submissions.submit(Plan.read(), files, card, replace=replace, check=check)
    for record in records:
        print("\n".join(submissions.lines(record)))
    print(f"{folder}: {len(files)} file{'' if len(files) == 1 else 's'} {'checked' if check else 'submitted'}")


@exchange_app.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="ROW|SUBMISSION", help="row of `methods`, or name of a submission")],
    row: Annotated[
        str | None, typer.Option(metavar="ROW", help="row of this checkout that the submission comes from")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="verify only on this data set")] = None,
    table: Annotated[list[str] | None, typer.Option(help="verify only for this table; repeatable")] = None,
    again: Annotated[
        bool, typer.Option("--train", help="also train again, instead of using the recorded checkpoints")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(metavar="MM", help="largest difference of a joint in predictions that count as equal")
    ] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, a list with an entry for each data set")] = False,
) -> None:
    """Predict again, compare with the recorded results, and name the first stage that differs.

    The stages are data, inputs, initial weights, training curve, checkpoint, predictions and scores. The exit status is
    1 if one differs. Recorded results are not changed. A submission becomes "verified" if the row of --row reproduces
    all its predictions within the tolerance. Without --row only its scores are computed again. See docs/verify.md.
    """
    from poseboard.benchmarks.exchange import verify as verified
    from poseboard.benchmarks.jobs import use_one_thread, workers
    from poseboard.benchmarks.plan import Plan
    from poseboard.benchmarks.provenance import versions
    from poseboard.protocols.submissions import FOLDER

    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise InputError(f"--tolerance {tolerance:g}", "is not a tolerance", "give millimetres of 0 or more")
    plan = Plan.read()
    claims = verified.claims(plan, name, row, dataset, table or ())
    name = claims[0].name
    present = _present(claim.run.source for claim in claims)
    claims = [claim for claim in claims if claim.run.source.name in present]
    use_one_thread()
    processes, repetitions = plan.profile.processes, []
    with workers(processes, plan.cluster):
        for claim in claims:
            repetition = verified.verify(claim, tolerance, again=again, processes=processes)
            repetitions.append(repetition)
            if not as_json:
                print("\n".join(verified.lines(repetition)), flush=True)
    if as_json:
        print(json.dumps([repetition.model_dump(mode="json") for repetition in repetitions], indent=1))
    if claims[0].is_submission:
        by = f"poseboard {versions()['poseboard']}, row {row}, within {tolerance:g} mm"
        if verified.mark_submission(plan.home / FOLDER / name, repetitions, by):
            _say(f"{name} is verified: row {row} makes its predictions")
        elif all(repetition.first is None for repetition in repetitions):
            of_numbers = "only its numbers were computed again, not its predictions"
            _say(f"{name} stays claimed: {of_numbers if row is None else 'not all of its files were made again'}")
    if any(repetition.first is not None for repetition in repetitions):
        raise typer.Exit(1)


@exchange_app.command()
def rescore(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ROW|SUBMISSION]...", help="rows and submissions to score; default: all"),
    ] = None,
    table: Annotated[str | None, typer.Option(help="print this table only, and write nothing")] = None,
) -> None:
    """Score all stored predictions again, without any inference, and print each number that changed.

    Use it after a change of a table or protocol. The files in results/<profile>/predictions are scored even if the code
    of their row has changed since. Scores, errors and comparisons are written, as by `poseboard score` and `poseboard
    compare`. With --table, the scores of one table are printed in order, and nothing is written. Data sets that are
    absent are left out, and so are submissions that cannot be scored.
    """
    from poseboard.benchmarks.exchange import rescore as rescored
    from poseboard.benchmarks.plan import Plan

    plan = Plan.read()
    stored = rescored.stored(plan, names or (), _warn if table is not None else lambda line: None)
    present = _present(run.source for run, _ in stored)
    chosen = [(run, files) for run, files in stored if run.source.name in present]
    if table is not None:
        print("\n".join(rescored.table_lines(rescored.score_table(chosen, table, _warn))))
        return
    runs = changed = numbers = 0
    for one in rescored.rescore(plan, chosen, _warn):
        runs, changed, numbers = runs + 1, changed + len(one.changes), numbers + len(one.after)
        for line in rescored.lines(one):
            print(line)
    print(f"{numbers} numbers of {runs} runs scored; {changed or 'none'} changed")


@exchange_app.command()
def freeze(
    name: Annotated[str, typer.Argument(metavar="NAME", help="name of the frozen board, such as v1")],
    check: Annotated[
        bool, typer.Option("--check", help="list the files that changed since; exit status 1 if any")
    ] = False,
) -> None:
    """Copy the recorded results and their page to frozen/NAME, with the SHA-256 of each file.

    Only files in git are copied, so equal commits give equal bytes. `sha256sum --check SHA256SUMS` in that folder
    checks the files without Poseboard.
    """
    from poseboard.benchmarks.exchange.freeze import SUMS, check_frozen
    from poseboard.benchmarks.exchange.freeze import freeze as freeze_board
    from poseboard.benchmarks.plan import Plan

    plan = Plan.read()
    if not check:
        print(f"{freeze_board(plan, name) / SUMS}: profile {plan.params.profile}")
        return
    for file in (changed := check_frozen(plan.home, name)):
        print(file)
    _say(f"{name}: {len(changed) or 'no'} file{'' if len(changed) == 1 else 's'} changed")
    if changed:
        raise typer.Exit(1)


@exchange_app.command()
def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="new folder of the site")] = Path("site"),
    url: Annotated[str, typer.Option(help="its address, for the picture in previews of links")] = "",
) -> None:
    """Check the site of the recorded results and write it into a new folder for a static host.

    Needs only results/<profile>, no data or weights. The check requires that links and anchors exist, that pages load
    nothing from other sites, that each page has a Content-Security-Policy, and that all files together have at most
    50 MB. If it fails, nothing is written. docs/publish.md has a workflow for GitHub Pages.
    """
    from poseboard.benchmarks.exchange.publish import publish as publish_site
    from poseboard.benchmarks.plan import Plan

    plan = Plan.read()
    index = publish_site(plan, folder, url)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    files = f"{len(sizes)} file{'' if len(sizes) == 1 else 's'}"
    print(f"{index}: profile {plan.params.profile}, {files}, {sum(sizes) / 1e6:.1f} MB, checked")
