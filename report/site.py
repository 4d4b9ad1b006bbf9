"""The leaderboard: a folder of static pages that need no network and no JavaScript."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.image import imsave
from PIL import Image

from poseboard.datasets.files import Content, WholeFiles
from poseboard.datasets.forks import can_fork, forked
from poseboard.protocols.records import COVERAGE, Curve, DrawnPicture, ResultError, RigPlan, ScoreFile
from poseboard.report.board import Board, Row, boards, caveats, finding, main_boards
from poseboard.report.controls import ControlTable, controls
from poseboard.report.drawing import cameras, charts
from poseboard.report.examples import Example, overlay, pick_examples
from poseboard.report.formatting import duration, file_name, integer, number, signed
from poseboard.report.papers import paper_tables
from poseboard.report.readme import read_readme
from poseboard.report.results import Entry, Results, common_commit, read_results
from poseboard.report.robustness import RobustnessTable, predicted, robustness
from poseboard.report.sweeps import Sweep, sweeps
from poseboard.report.training_cost import cost, measure_of
from poseboard.report.transfers import TransferTable, transfers
from poseboard.report.wording import aim_of_speed, compared_speed, inputs_in_words, measured, metric_label

TEMPLATES = Path(__file__).parent / "templates"
JPEG = {"quality": 90, "subsampling": 0}
PICTURE_PX, PICTURE_BYTES = 1600, 280_000
"""Maximum width and file size of a picture on the pages."""
MOST_LISTED = 6
"""Numbers of a row on one data set that its page lists; of more it lists the first ones and folds the others."""


Page = Callable[[], list[tuple[str, Content]]]
"""Makes a page: the names and contents of its files, its pictures and figures among them."""
FEWEST_SHARED, MOST_PROCESSES = 8, 4
"""Pages from which they are shared by processes, and the most of these: each holds all results."""


@dataclass(frozen=True)
class Plot:
    """A figure on a page: inline, and as a file for slides and papers."""

    title: str
    caption: str
    svg: Markup
    file: str


@dataclass(frozen=True)
class Picture:
    """A picture file of the pages, with its size in pixels."""

    file: str
    width: int
    height: int


class _Folder:
    """The files of one page, in order."""

    def __init__(self) -> None:
        self.contents: list[tuple[str, Content]] = []

    def write(self, name: str, content: Content) -> None:
        self.contents.append((name, content))

    def text(self, name: str, text: str) -> None:
        self.write(name, text.encode())

    def plot(self, name: str, title: str, caption: str, figure: Figure) -> Plot:
        svg = charts.to_svg(figure, name)
        self.text(f"figures/{name}.svg", svg)
        return Plot(title, caption, Markup(charts.to_inline(svg, name, title)), f"figures/{name}.svg")


def build(
    results: Path,
    profile: str,
    out: Path,
    rows: Mapping[str, Collection[str]] | None = None,
    colours: Mapping[str, str] | None = None,
    folders: Mapping[str, Path] | None = None,
) -> list[Path]:
    """Write ``index.html``, one page per method, figures, pictures and ``leaderboard.{csv,json}`` into ``out``.

    Equal results give equal bytes. Files of an earlier build are overwritten, not deleted.

    Args:
        results: the results/ folder.
        profile: a folder of ``results``.
        out: folder of the pages; created if absent.
        rows: row of the run -> data sets that it runs on; no other results of the pipeline are shown. None: all are.
        colours: row -> name of its colour (`charts.COLOURS`); others have a colour by the hash of their name.
        folders: row -> folder of its method, whose README.md its page shows.

    Returns:
        The written files, ``index.html`` first.

    Raises:
        ResultError: a file of ``results`` is broken, or a colour is unknown; the message names it.
        OSError: a file cannot be written; all files of an earlier build remain unchanged.

    Example:
        >>> build(Path("results"), "default", Path("results/default/leaderboard"))[0].name
        'index.html'
    """
    contents = read_results(results, profile, rows)
    pages = _pages(contents, profile, rows, colours, folders)
    written = []
    with WholeFiles() as files:
        for name, content in itertools.chain.from_iterable(_made(pages)):
            written.append(out / name)
            files.write(written[-1], content)
    return written


def _pages(
    results: Results,
    profile: str,
    rows: Mapping[str, Collection[str]] | None,
    colours: Mapping[str, str] | None,
    folders: Mapping[str, Path] | None,
) -> list[Page]:
    all_boards = boards(results)
    index = row_slots(results, rows or {}, colours or {})
    pages = {name: f"methods/{file_name(name)}.html" for name in sorted(index)}
    environment = _environment()
    commits = common_commit(entry.scores for entry in results.entries)
    common = {
        "profile": profile,
        "warnings": list(dict.fromkeys(entry.scores.warning for entry in results.entries if entry.scores.warning)),
        "commits": commits,
        "created": max((entry.scores.provenance.created for entry in results.entries), default=""),
        "synthetic": any(entry.scores.synthetic for entry in results.entries),
        "index": index,
        "pages": pages,
        "training": results.training,
    }

    def main_page() -> list[tuple[str, Content]]:
        folder = _Folder()
        context = {**common, **_index_context(results, all_boards, index, folder), "root": ""}
        html = environment.get_template("index.html.j2").render(context)
        return [("index.html", html.encode()), *folder.contents]

    def method_page(name: str) -> list[tuple[str, Content]]:
        folder = _Folder()
        context = {
            **common,
            **_method_context(name, results, all_boards, index, folder),
            **_about(name, results, folders or {}),
            "root": "../",
        }
        folder.text(pages[name], environment.get_template("method.html.j2").render(context))
        return folder.contents

    def tables() -> list[tuple[str, Content]]:
        folder = _Folder()
        flat = _flat_rows(results, all_boards)
        folder.text("leaderboard.json", json.dumps(flat, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        folder.text("leaderboard.csv", _csv(flat))
        return folder.contents

    return [main_page, *(partial(method_page, name) for name in pages), tables]


def row_slots(results: Results, rows: Mapping[str, Collection[str]], colours: Mapping[str, str]) -> dict[str, int]:
    """`charts.slots` of all rows with results: those of the run in its order, then the others by name."""
    shown = {entry.scores.method for entry in results.entries}
    return charts.slots([*(row for row in rows if row in shown), *sorted(shown - set(rows))], colours)


def _made(pages: Sequence[Page]) -> list[list[tuple[str, Content]]]:
    """The files of the pages, made by as many processes as there are cores, where that is worth their start."""
    cores = len(os.sched_getaffinity(0)) if can_fork() else 1
    return list(forked(pages, min(cores, MOST_PROCESSES) if len(pages) >= FEWEST_SHARED else 1))


def _environment() -> Environment:
    script = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        signed=signed,
        integer=integer,
        duration=duration,
        metric=metric_label,
        breakable=lambda name: Markup("_<wbr>").join(name.split("_")),
    )
    environment.globals.update(
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=digest,
        caveats=caveats,
        finding=finding,
        is_bound=lambda boards, name: any(board.is_bound(name) for board in boards),
        cost=cost,
        palette=len(charts.PALETTE),
        light_colours=list(charts.COLOURS.values()),
        dark_colours=list(charts.DARK_COLOURS.values()),
        shape=charts.marker_path,
        compared_speed=compared_speed,
        aim_of_speed=aim_of_speed,
        measured=measured,
    )
    return environment


def _index_context(
    results: Results, all_boards: Sequence[Board], index: Mapping[str, int], folder: _Folder
) -> dict[str, Any]:
    mains = main_boards(all_boards)
    all_sweeps = sweeps(all_boards)
    shown = {id(board) for columns in mains.values() for board in columns}
    spoiled = robustness(all_boards)
    perturbed = {id(board) for table in spoiled for curve in table.curves for board in curve.boards}
    moved = transfers(all_boards)
    swept = perturbed | {id(board) for sweep in all_sweeps for board in sweep.columns} | _told(all_boards, all_sweeps)
    swept |= {id(board) for table in moved for board in table.columns}
    controlled = controls(all_boards)
    swept |= {id(table.control) for table in controlled}
    data = [
        (file, [(path.name, _picture(folder, path, f"data-{file.dataset}")) for path in paths if file.synthetic])
        for file, paths in results.data
    ]
    plots: dict[tuple[str, bool], list[Plot]] = {}
    for dataset, columns in mains.items():
        plots[dataset] = _board_plots(
            results, dataset, columns,
            [b for b in all_boards if (b.dataset, b.synthetic) == dataset and (id(b) in shown or id(b) not in swept)],
            [s for s in all_sweeps if (s.dataset, s.synthetic) == dataset],
            index, folder,
        )  # fmt: skip
    return {
        "mains": mains,
        "methods_of": {dataset: _methods(columns) for dataset, columns in mains.items()},
        "methods_in": _methods,
        "bounds_in": lambda columns: list(dict.fromkeys(row.method for board in columns for row in board.bounds)),
        "measure_in": lambda methods, dataset: measure_of(
            cost(results.training, dataset, method) for method in methods
        ),
        "hardware_of": lambda methods, dataset: list(
            dict.fromkeys(name for m in methods for name in cost(results.training, dataset, m).hardware)
        ),
        "others": _further([board for board in all_boards if id(board) not in shown | swept]),
        "sweeps": all_sweeps,
        "robustness": [(table, _robustness_plot(table, index, folder)) for table in spoiled],
        "predicted": predicted(spoiled),
        "transfers": [(table, _transfer_plots(table, index, folder)) for table in moved],
        "controls": [(table, _increase_plot(k, table, index, folder)) for k, table in enumerate(controlled, 1)],
        "kinds": {curve.title: curve.scale for table in spoiled for curve in table.curves},
        "breakdowns": [board for columns in mains.values() for board in columns if _has(board, "action")],
        "compared": _compared(all_boards, shown),
        "several": _over_seeds(results),
        "several_profile": results.reference.profile if results.reference else "",
        "plots": plots,
        "papers": paper_tables(results, all_boards),
        "data": data,
        "without_pictures": any(picture is None for _, pictures in data for _, picture in pictures),
        "catalog": results.catalog,
        "speed": results.speed,
        "recorded_speed": results.recorded_speed,
    }


def _told(all_boards: Sequence[Board], all_sweeps: Sequence[Sweep]) -> set[int]:
    """Boards of rows with extrinsics of a table that counts frames per rig: a frame is all that they need."""
    tables = {
        (sweep.dataset, sweep.synthetic, sweep.table) for sweep in all_sweeps if sweep.columns[0].calibration_free
    }
    return {id(b) for b in all_boards if (*b.data_key, b.table) in tables and not b.calibration_free}


def _further(members: Sequence[Board]) -> dict[tuple[str, bool, bool, bool], list[Board]]:
    """Boards that are columns of one table on the page.

    Of one data set, of single cameras or of several, and with extrinsics or without.
    """
    groups: dict[tuple[str, bool, bool, bool], list[Board]] = {}
    for board in members:
        key = (board.dataset, board.synthetic, board.from_one_camera, board.calibration_free)
        groups.setdefault(key, []).append(board)
    return {key: groups[key] for key in sorted(groups)}


def _compared(all_boards: Sequence[Board], shown: set[int]) -> list[tuple[Board, bool]]:
    """Boards with paired differences, and whether each is on the main board; those come first."""
    pairs = [(board, id(board) in shown) for board in all_boards if board.comparison and board.comparison.pairs]
    return sorted(pairs, key=lambda pair: not pair[1])


def _over_seeds(results: Results) -> list[Board]:
    """The main boards of the run with several seeds, if there is one."""
    if results.reference is None:
        return []
    return [board for columns in main_boards(boards(results.reference)).values() for board in columns]


def _methods(columns: Sequence[Board]) -> list[str]:
    return list(dict.fromkeys(row.method for board in columns for row in board.rows))


def _has(board: Board, kind: str) -> bool:
    return any(row.score.breakdown.get(kind) for row in board.rows)


def _picture(folder: _Folder, path: Path, prefix: str) -> Picture | None:
    """A picture for the pages, a JPEG of at most `PICTURE_BYTES`; None if the file is absent.

    Raises:
        ResultError: the file is not a picture.
    """
    if not path.is_file():
        return None
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ResultError(
            f"{path}: cannot be read as a picture ({str(error).splitlines()[0]}); make it again"
        ) from None
    image.thumbnail((PICTURE_PX, 4 * PICTURE_PX))
    for quality in (88, 80, 70, 60, 45, 30, 30, 30):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
        if buffer.tell() <= PICTURE_BYTES:
            break
        if quality <= 45:
            image.thumbnail((image.width * 3 // 4, image.height * 3 // 4))
    name = f"pictures/{file_name(f'{prefix}-{path.stem}'.lower())}.jpg"
    folder.write(name, buffer.getvalue())
    return Picture(name, *image.size)


def _labelled(curves: Mapping[str, Curve], board: Board) -> dict[str, Curve]:
    """Curves with the board's caveats in the label of the y axis."""
    label = _caveats(board)
    return {name: curve.model_copy(update={"y_label": f"{curve.y_label}{label}"}) for name, curve in curves.items()}


def _caveats(board: Board) -> str:
    """Caveats of a board for the axes of its plots, which are also used without the page."""
    warnings = dict.fromkeys(row.file.warning for row in board.rows if row.file.warning)
    return "".join(f", {words}" for words in (*(["synthetic world"] if board.synthetic else []), *warnings))


def _unit(board: Board) -> str:
    return f"{board.unit}{_caveats(board)}"


def axis_label(board: Board) -> str:
    """Label of the axis of a board's values, for example "MPJPE, root-relative, mm, synthetic world"."""
    return f"{board.name}, {_unit(board)}"


def _board_plots(
    results: Results, dataset: tuple[str, bool], columns: Sequence[Board], boards_here: Sequence[Board],
    swept: Sequence[Sweep], index: Mapping[str, int], folder: _Folder,
) -> list[Plot]:  # fmt: skip
    plots = []
    slug = file_name(f"{dataset[0]}{'' if dataset[1] else '-real'}")
    for board in columns[:1]:
        scores = {row.method: row.score for row in board.rows if row.score.complete}
        unit = _unit(board)
        plots.append(
            folder.plot(
                f"{slug}-intervals", f"{board.name}: value and 95 % interval",
                "Bootstrap over subject × sequence. If intervals overlap, see the paired differences."
                + (" Rows with missing predictions are left out." if board.incomplete else ""),
                charts.intervals(scores, index, axis_label(board)),
            )
        )  # fmt: skip
        spent = {row.method: cost(results.training, dataset[0], row.method) for row in board.ranked}
        measure = measure_of(spent.values())
        alike = all(one.measure in (measure, None) and one.total_s is not None for one in spent.values())
        costs = {
            row.method: (total, row.score.value)
            for row in board.ranked
            if (total := spent[row.method].total_s) is not None
            and spent[row.method].measure in (measure, None)
            and row.score.value is not None
        }
        if costs and measure is not None:
            plots.append(
                folder.plot(
                    f"{slug}-cost", f"{board.name} against training cost",
                    f"Training in {measure}, including the trainings that a method starts from. Dashed: Pareto front."
                    + ("" if alike else " Rows with another unit are left out.")
                    + ("" if len(board.ranked) == len(board.rows) else " Rows without a rank are left out."),
                    charts.error_against_cost(costs, index, f"{board.name}, {unit}", measure),
                )
            )  # fmt: skip
    for sweep in swept:
        if curves := _labelled(sweep.curves(), sweep.columns[-1]):
            crowded = len(curves) > charts.CROWDED
            drawing = charts.each if crowded else partial(charts.lines, marks=True, from_zero=False)
            plots.append(
                folder.plot(
                    f"{slug}-{file_name(sweep.over)}-{file_name(sweep.table.lower())}",
                    f"{sweep.name}, against the number of {sweep.over}",
                    f"The table of {sweep.over} says what each point is. Bars: 95 % intervals."
                    + (" Grey: the other rows." if crowded else "")
                    + (" Thin lines: from the best to the worst set of cameras." if sweep.over_sets else "")
                    + (" Dotted: the same weights with the true cameras." if sweep.bounds else ""),
                    drawing(
                        curves, index,
                        bounds=sweep.bound_values(), ranges=sweep.intervals(), widest=sweep.between_sets(),
                    ),
                )
            )  # fmt: skip
    for board in columns[:1]:
        scores = {row.method: row.score for row in board.ranked}
        for kind, title in (("action", "by action"), ("joint", "by joint")):
            with_kind = {name: score for name, score in scores.items() if score.breakdown.get(kind)}
            if with_kind:
                plots.append(
                    folder.plot(
                        f"{slug}-{kind}", f"{board.name}, {title}",
                        f"Hardest {kind} on top. Grey bar: from the best to the worst method."
                        + ("" if len(board.ranked) == len(board.rows) else " Rows without a rank are left out."),
                        charts.breakdown(with_kind, index, kind, f"{board.name}, {_unit(board)}"),
                    )
                )  # fmt: skip
    for board in boards_here:
        scores = {row.method: row.score for row in board.rows}
        names = dict.fromkeys(key for score in scores.values() for key in score.curves)
        for key in names:
            drawn = {n: s.curves[key] for n, s in scores.items() if key in s.curves and any(_known(s.curves[key]))}
            if key == "cameras" or not drawn:  # the sweeps draw these
                continue
            curves = _labelled(drawn, board)
            if key == COVERAGE:
                plots.append(
                    folder.plot(
                        f"{slug}-{file_name(board.table.lower())}-{key}",
                        f"Stated and observed uncertainty ({board.table})",
                        f"{board.label}. Below the dashed line a row is surer than it may be.",
                        cameras.reliability(curves, index),
                    )
                )
                continue
            plots.append(
                folder.plot(
                    f"{slug}-{file_name(board.table.lower())}-{file_name(key.lower())}",
                    "Share of joints within a distance (PCK)"
                    if key == "pck"
                    else f"{board.name}: {key.replace('_', ' ')}",
                    f"{board.label}.",
                    charts.lines(curves, index, marks=key != "pck", from_zero=True),
                )
            )
    return plots


def _known(curve: Curve) -> list[bool]:
    return [value is not None for value in curve.y]


def _robustness_plot(table: RobustnessTable, index: Mapping[str, int], folder: _Folder) -> Plot | None:
    """The curves of a table, a panel per kind; None where none has two severities."""
    of_kind = {curve.title: curves for curve in table.curves if (curves := curve.curves())}
    if not of_kind:
        return None
    crowded = len({name for curves in of_kind.values() for name in curves}) > charts.CROWDED
    first = table.of.columns[0]
    slug = file_name(f"{first.dataset}{'' if first.synthetic else '-real'}")
    withheld = "-withheld" if first.calibration_free else ""
    return folder.plot(
        f"{slug}-robustness-{file_name(table.of.table.lower())}{withheld}",
        f"{table.name}, against the severity of perturbations",
        f"{table.details}. A panel per kind, all on one axis; severity 0 is the number without a perturbation."
        + (" A kind has several panels where there are many rows, the others in grey." if crowded else ""),
        charts.panels(of_kind, index, f"{metric_label(table.signature)}, {_unit(first)}"),
    )


def _transfer_plots(table: TransferTable, index: Mapping[str, int], folder: _Folder) -> list[Plot]:
    """A plot per other training: its numbers beside those of the own one."""
    own = table.own
    slug = file_name(f"{own.dataset}{'' if own.synthetic else '-real'}-{own.table.lower()}")
    return [
        folder.plot(
            f"{slug}-{k}", f"{own.dataset}: {table.heads[0]} and {table.heads[k]}",
            f"{table.title}. Filled: {table.heads[0]}. Outlined: {table.heads[k]}.",
            charts.transfer(
                table.pairs(other), index, (table.heads[0], table.heads[k]),
                f"{metric_label(own.signature)}, {_unit(own)}",
            ),
        )
        for k, other in enumerate(table.others, 1)
    ]  # fmt: skip


def _increase_plot(k: int, table: ControlTable, index: Mapping[str, int], folder: _Folder) -> Plot:
    """By how much each row's error is larger than in the control; ``k``: number of the table among these."""
    board = table.board
    slug = file_name(f"{board.dataset}{'' if board.synthetic else '-real'}-{board.table.lower()}")
    return folder.plot(
        f"{slug}-increase-{k}",
        f"{board.name}: increase against the control",
        f"{board.details}, against {table.control.table}, with 95 % interval.",
        charts.intervals(table.increases, index, f"{metric_label(board.signature)}, increase in %", zero=True),
    )


def _method_context(
    name: str, results: Results, all_boards: Sequence[Board], index: Mapping[str, int], folder: _Folder
) -> dict[str, Any]:
    entries = [entry for entry in results.entries if entry.scores.method == name]
    rows = [(board, row) for board in all_boards if (row := board.row(name))]
    slug = file_name(name)
    curves = []
    for entry in entries:
        file = results.training.get((entry.scores.dataset, name))
        plot = None
        if file and any(run.curves for run in file.runs):
            plot = folder.plot(
                f"training-{slug}-{file_name(entry.scores.dataset)}", f"Training on {' and '.join(file.trained_on)}",
                "Terms of the loss. Faint: mean over a few batches. Bold: running mean.",
                charts.training_curves(file, index[name]),
            )  # fmt: skip
        curves.append((entry.scores, file, plot))
    return {
        "name": name,
        "files": [entry.scores for entry in entries],
        "rows": rows,
        "numbers": _listed(rows),
        "beyond": any((row := b.row(name)) and b.beyond_bound(row) is not None for b in all_boards),
        "trainings": curves,
        "published": [(table, row) for table in results.published for row in table.rows if row.method == name],
        "breakdowns": _breakdown_tables(name, all_boards),
        "examples": [(entry.scores, _draw_examples(entry, slug, folder)) for entry in entries],
        "pictures": [shown for entry in entries for shown in _pictures(entry, slug, folder)],
        "rigs": [(entry.scores, plan, plot) for entry in entries for plan, plot in _rigs(entry, slug, folder)],
        "reliability": _reliability(name, slug, all_boards, index, folder),
        "level": cameras.LEVEL,
    }


def _listed(
    rows: Sequence[tuple[Board, Row]],
) -> dict[tuple[str, bool], tuple[list[tuple[Board, Row]], list[tuple[Board, Row]]]]:
    """By data set, the numbers of a row that its page lists, and those that it folds.

    Of more than `MOST_LISTED` those of headline tables are listed, or of the first table where there are none.
    """
    by_dataset: dict[tuple[str, bool], list[tuple[Board, Row]]] = {}
    for board, row in rows:
        by_dataset.setdefault(board.data_key, []).append((board, row))
    listed = {}
    for dataset, of_dataset in sorted(by_dataset.items()):
        tables = {board.table for board, _ in of_dataset if board.headline} or {of_dataset[0][0].table}
        if len(of_dataset) <= MOST_LISTED:
            tables = {board.table for board, _ in of_dataset}
        listed[dataset] = (
            [pair for pair in of_dataset if pair[0].table in tables],
            [pair for pair in of_dataset if pair[0].table not in tables],
        )
    return listed


def _rigs(entry: Entry, slug: str, folder: _Folder) -> list[tuple[RigPlan, Plot]]:
    """The rigs that a row recovered, each with its plot."""
    file = entry.scores
    drawn = []
    for k, plan in enumerate(entry.rigs):
        title = f"{file.dataset}: {plan.place} of {plan.rigs} rigs by rotation error"
        shown = (
            f"{plan.frames} of up to {plan.frames_per_rig} frames together" if plan.frames_per_rig > 1 else "1 frame"
        )
        words = [*(["synthetic world"] if file.synthetic else []), plan.key, shown]
        words += [f"spoiled by {plan.perturbation}"] if plan.perturbation else []
        name = f"rig-{slug}-{file_name(file.dataset)}-{k}"
        figure = cameras.rig_plan(plan)
        drawn.append(
            (
                plan,
                folder.plot(name, title, f"{', '.join([*words, *([file.warning] if file.warning else [])])}.", figure),
            )
        )
    return drawn


def _reliability(
    name: str, slug: str, all_boards: Sequence[Board], index: Mapping[str, int], folder: _Folder
) -> list[tuple[Board, Row, Plot]]:
    """The boards that judge a row's statements of uncertainty, each with the plot of the row."""
    judged: list[tuple[Board, Row, Plot]] = []
    for board in all_boards:
        row = board.row(name)
        if row is None or row.score.value is None or COVERAGE not in row.score.curves:
            continue
        curve = _labelled({name: row.score.curves[COVERAGE]}, board)
        title = f"Stated and observed uncertainty ({board.table})"
        plot = folder.plot(
            f"{COVERAGE}-{slug}-{file_name(board.dataset)}-{len(judged)}", title,
            f"{board.label} on {board.dataset}.", cameras.reliability(curve, index),
        )  # fmt: skip
        judged.append((board, row, plot))
    return judged


def _about(name: str, results: Results, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Head of a method's page: README, the method of which the row is a variant, different options, inputs."""
    folder = candidate if (candidate := folders.get(name)) and candidate.is_dir() else None
    entries = [entry.scores for entry in results.entries if entry.scores.method == name]
    base = folder.name if folder else name
    plain = {entry.scores.dataset: entry.scores for entry in results.entries if entry.scores.method == base}
    differs: dict[str, Any] = {}
    for entry in entries if base != name else []:
        if (other := plain.get(entry.dataset)) is not None:
            differs |= {
                key: value
                for key, value in entry.provenance.options.items()
                if value != other.provenance.options.get(key)
            }
    return {
        "readme": read_readme(folder / "README.md") if folder else None,
        "base": base,
        "differs": differs,
        "inputs": next((inputs_in_words(file.inputs) for file in entries if file.inputs is not None), None),
    }


def _breakdown_tables(
    name: str, all_boards: Sequence[Board]
) -> list[tuple[bool, list[tuple[Board, str, list[tuple[str, float | None]]]]]]:
    """Values by action, joint, … of the main boards (True) and of the other boards (False)."""
    shown = {id(board) for columns in main_boards(all_boards).values() for board in columns}
    by_main: dict[bool, list[tuple[Board, str, list[tuple[str, float | None]]]]] = {True: [], False: []}
    for board in all_boards:
        if (row := board.row(name)) is not None:
            tables = [(board, kind, list(values.items())) for kind, values in row.score.breakdown.items() if values]
            by_main[id(board) in shown] += tables
    return list(by_main.items())


def _draw_examples(entry: Entry, slug: str, folder: _Folder) -> list[Example]:
    if (examples := entry.examples) is None:
        return []
    drawn = []
    where = f"examples/{slug}-{file_name(entry.scores.dataset)}"
    for place, k in pick_examples(examples.error_mm):
        overlays = []
        for v in range(len(examples.views)):
            image = f"{where}-{place}-{v}.jpg"
            folder.write(image, partial(imsave, arr=examples.images[k, v], format="jpg", pil_kwargs=JPEG))
            overlays.append(overlay(examples, k, v, image))
        drawn.append(
            Example(place, examples.keys[k], float(examples.error_mm[k]), examples.images.shape[2], tuple(overlays))
        )
    return drawn


def _pictures(entry: Entry, slug: str, folder: _Folder) -> list[tuple[ScoreFile, DrawnPicture, Picture]]:
    """Copies of the pictures that the method drew; missing files are left out."""
    prefix = f"{slug}-{file_name(entry.scores.dataset)}"
    copied = [(drawn, _picture(folder, path, prefix)) for drawn, path in entry.pictures]
    return [(entry.scores, drawn, picture) for drawn, picture in copied if picture is not None]


def _flat_rows(results: Results, all_boards: Sequence[Board]) -> list[dict[str, Any]]:
    rows = []
    for board in all_boards:
        for row in board.rows:
            spent = cost(results.training, board.dataset, row.method)
            score, file = row.score, row.file
            rows.append(
                {
                    "dataset": board.dataset,
                    "synthetic": board.synthetic,
                    "profile": results.profile,
                    "warning": file.warning,
                    "table": board.table,
                    "title": score.title,
                    "method": row.method,
                    "source": file.source,
                    "bound": row.file.bound,
                    "rank": row.rank.rank if row.rank else row.order,
                    "rank_low": row.rank.ci95[0] if row.rank else None,
                    "rank_high": row.rank.ci95[1] if row.rank else None,
                    "value": score.value,
                    "unit": score.unit,
                    "training_sd": row.training.sd if row.training else row.between,
                    "training_seeds": row.training.seeds if row.training else len(score.seeds),
                    "decidedly_best": row.bold,
                    "ci95_low": score.ci95[0] if score.ci95 else None,
                    "ci95_high": score.ci95[1] if score.ci95 else None,
                    "n_samples": score.n_samples,
                    "n_missing": score.n_missing,
                    "n_left_out": score.n_left_out,
                    "n_false": score.n_false,
                    "n_unjudged": score.n_unjudged,
                    "secondary": "; ".join(f"{name}: {number(figure, '')}" for name, figure in score.secondary.items()),
                    "counted": score.counted,
                    "n_groups": score.n_groups,
                    "training_s": spent.own_s,
                    "training_with_start_s": spent.total_s,
                    "training_measure": spent.measure,
                    "parameters": spent.parameters,
                    "signature": str(score.signature),
                    "git_commit": _commit(file),
                    "created": file.provenance.created,
                }
            )
    return rows


def _commit(file: ScoreFile) -> str | None:
    commit = file.provenance.git_commit
    return commit if commit is None else commit + ("+dirty" if file.provenance.git_dirty else "")


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; control characters are spaces, text that a spreadsheet would evaluate starts with an apostrophe."""
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) if isinstance(value, str) else value for name, value in row.items()})
    return buffer.getvalue()


def _cell(text: str) -> str:
    # A carriage return or another control character may start a row where the writer does not quote it.
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text)
    return f"'{plain}" if plain.lstrip()[:1] in tuple("=+-@") else plain
