"""Boards as text for papers, spreadsheets and programs: LaTeX, Markdown, CSV, BibTeX and JSON.

All formats have the content of the boards on the page (`report/board.py`): rows, order, values, intervals and bold
rows. Every format marks synthetic worlds, bounds, claimed scores and missing predictions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal
from urllib.parse import quote

from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.protocols.records import ResultError
from poseboard.protocols.submissions import Card
from poseboard.report.board import Board, Row, main_boards
from poseboard.report.cells import absent, counted, facts_line
from poseboard.report.export import csv_lines
from poseboard.report.formatting import file_name, integer, number
from poseboard.report.readme import About
from poseboard.report.results import common_commit

Format = Literal["latex", "markdown", "csv", "bibtex", "json"]

_CLAIMED = "claimed"
"""Mark of a row that was scored from a predictions file: its number is its author's claim and cannot be reproduced."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True)
class Sheet:
    """Boards of one data set, printed as one table with a column per board.

    Args:
        boards: boards of the same data set.
        methods: names of the printed rows; those with a rank on any board come first.
        left_out: number of rows of the boards that are not printed.
        profile: name of the results' profile.
    """

    boards: tuple[Board, ...]
    methods: tuple[str, ...]
    left_out: int
    profile: str

    @classmethod
    def of(cls, boards: Sequence[Board], profile: str, rows: Sequence[str] = ()) -> Sheet:
        """Create a sheet with some rows of the boards; empty ``rows``: all.

        Example:
            >>> Sheet.of([], "default").methods
            ()
        """
        methods = _methods(boards)
        with_place = {row.method for board in boards for row in board.rows if row.order}
        printed = [name for name in methods if not rows or name in rows]
        printed.sort(key=lambda name: name not in with_place)
        return cls(tuple(boards), tuple(printed), len(methods) - len(printed), profile)

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.boards[0].dataset

    @property
    def world(self) -> str:
        """Kind of the data in words, synthetic or real."""
        return "synthetic world (rendered people)" if self.boards[0].synthetic else "real data"

    @property
    def heading(self) -> str:
        """Data set, kind of data and profile: "human36m, synthetic world (rendered people), profile default"."""
        return f"{self.dataset}, {self.world}, profile {self.profile}"

    @property
    def ids(self) -> str:
        """Ids of the tables."""
        return ", ".join(dict.fromkeys(board.table for board in self.boards))

    @cached_property
    def printed(self) -> list[tuple[Board, Row]]:
        """All printed scores, board by board."""
        return [
            (board, row)
            for board in self.boards
            for method in self.methods
            if (row := board.row_or_bound(method)) is not None
        ]

    @property
    def slug(self) -> str:
        """File name of the sheet: the data set and a hash of tables and signatures."""
        signatures = "\n".join(f"{board.synthetic} {board.table} {board.signature}" for board in self.boards)
        return f"{file_name(self.dataset)}-{hashlib.sha256(signatures.encode()).hexdigest()[:8]}"

    def marks(self, method: str) -> str:
        """Marks of a row, in words; empty for a ranked row of the pipeline."""
        return ", ".join(
            dict.fromkeys(
                mark
                for board in self.boards
                if (row := board.row_or_bound(method)) is not None
                for mark in marks_of(board, row)
            )
        )

    @cached_property
    def ranked(self) -> int:
        """Number of printed rows with a rank on any board."""
        return len({row.method for _, row in self.printed if row.order})


def _methods(boards: Iterable[Board]) -> list[str]:
    """Names of the rows and bounds of some boards, in order."""
    return list(dict.fromkeys(row.method for board in boards for row in (*board.rows, *board.bounds)))


def sheets(all_boards: Sequence[Board], name: str, profile: str, rows: Sequence[str] = ()) -> list[Sheet]:
    """Sheets of a data set's main board, or of all boards of one table.

    Args:
        all_boards: boards of one profile.
        name: name of a data set, or id of a table.
        profile: name of the boards' profile, for headings and errors.
        rows: names of the rows to print; empty: all. Ranks and bold rows still refer to all rows.

    Raises:
        InputError: the data set or table has no scores, or lacks one of the rows.

    Example:
        >>> sheets(boards(results), "human36m", "default")[0].ids  # doctest: +SKIP
        'T1, T2'
    """
    where = f"results/{profile}"
    if not all_boards:
        raise InputError(where, "has no scores", "run `poseboard repro`, or choose a profile with --profile")
    columns = [tuple(boards) for (dataset, _), boards in main_boards(all_boards).items() if dataset == name]
    columns = columns or [(board,) for board in all_boards if board.table == name]
    if not columns:  # a data set with only numbers that no main board has
        columns = [(board,) for board in all_boards if board.dataset == name]
    if not columns:
        names = dict.fromkeys([*(b.dataset for b in all_boards), *(b.table for b in all_boards)])
        raise InputError(where, f"has no scores on a data set or table {name!r}", did_you_mean(name, names))
    methods = _methods(board for boards in columns for board in boards)
    for row in rows:
        if row not in methods:
            raise InputError(f"--rows {row}", f"is not a row of {name} in {where}", did_you_mean(row, methods))
    made = [Sheet.of(boards, profile, rows) for boards in columns]
    return [sheet for sheet in made if sheet.methods]


def latex(printed: Sequence[Sheet]) -> str:
    r"""Sheets as LaTeX tables, for documents with ``\usepackage{booktabs}``."""
    return "% Needs \\usepackage{booktabs}.\n" + "\n".join(
        _latex_table(sheet, f"tab:{_label(sheet)}{f'-{k}' if len(printed) > 1 else ''}")
        for k, sheet in enumerate(printed, 1)
    )


def _label(sheet: Sheet) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{sheet.dataset}-{sheet.ids}")


def _latex_table(sheet: Sheet, label: str) -> str:
    names = [latex_text(board.name) for board in sheet.boards]
    units = [
        f"{latex_text(board.table)}, {latex_text(board.unit)} "
        + (r"$\downarrow$" if board.lower_is_better else r"$\uparrow$")
        for board in sheet.boards
    ]
    rows = _rows(sheet, latex_text, bold=r"\textbf{%s}", details=r"{\footnotesize %s}", absent="--")
    lines = [" & ".join(cells) + r" \\" for cells in rows]
    if 0 < sheet.ranked < len(lines):
        lines.insert(sheet.ranked, r"\midrule")
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(' '.join(_caption(sheet)))}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{l{'r' * len(sheet.boards)}}}",
            r"\toprule",
            " & ".join(["", *names]) + r" \\",
            " & ".join(["Method", *units]) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def markdown(printed: Sequence[Sheet]) -> str:
    """Sheets as Markdown tables, each with a heading and its caption."""
    return "\n".join(map(_markdown_table, printed))


def _markdown_table(sheet: Sheet) -> str:
    heads = [
        f"{markdown_text(board.name)} ({markdown_text(board.table)}), {markdown_text(board.unit)} "
        + ("↓" if board.lower_is_better else "↑")
        for board in sheet.boards
    ]
    rows = _rows(sheet, markdown_text, bold="**%s**", details="%s", absent="–")
    return "\n".join(
        [
            f"### {markdown_text(sheet.dataset)}: {markdown_text(sheet.ids)}",
            "",
            markdown_text(" ".join(_caption(sheet))),
            "",
            f"| {' | '.join(['Method', *heads])} |",
            f"|:--{'|--:' * len(sheet.boards)}|",
            *(f"| {' | '.join(cells)} |" for cells in rows),
            "",
        ]
    )


def csv_text(printed: Sequence[Sheet]) -> str:
    """Sheets as CSV, one line per score, with unrounded values."""
    return "".join(csv_lines(entry for sheet in printed for entry in _entries(sheet)))


def json_text(printed: Sequence[Sheet]) -> str:
    """Sheets as a JSON list with the fields of `csv_text`, and the signature as an object."""
    entries = [
        entry | {"signature": row.score.signature.model_dump(mode="json")}
        for sheet in printed
        for entry, (_, row) in zip(_entries(sheet), sheet.printed, strict=True)
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _entries(sheet: Sheet) -> list[dict[str, Any]]:
    signatures = {id(board): str(board.signature) for board in sheet.boards}
    return [
        {
            "dataset": board.dataset,
            "synthetic": board.synthetic,
            "profile": sheet.profile,
            "warning": row.file.warning,
            "table": board.table,
            "title": row.score.title,
            "method": row.method,
            "marks": ", ".join(marks_of(board, row)),
            "rank": row.rank.rank if row.rank else row.order,
            "value": row.score.value,
            "ci_low": row.score.ci95[0] if row.score.ci95 else None,
            "ci_high": row.score.ci95[1] if row.score.ci95 else None,
            "unit": row.score.unit,
            "lower_is_better": row.score.lower_is_better,
            "seeds": len(row.score.seeds),
            "n_samples": row.score.n_samples,
            "n_missing": row.score.n_missing,
            "n_left_out": row.score.n_left_out,
            "signature": signatures[id(board)],
        }
        for board, row in sheet.printed
    ]


def texts(sheet: Sheet, abouts: Mapping[str, About | None]) -> dict[str, str]:
    """Sheet in the formats that readers copy from the pages: name of the format -> text.

    Args:
        sheet: the sheet.
        abouts: front matter of the method's README by row; None or missing: the row has no code here.
    """
    return {
        "CSV": csv_text([sheet]),
        "LaTeX": latex([sheet]),
        "Markdown": markdown([sheet]),
        "BibTeX": bibtex([sheet], abouts),
    }


def bibtex(printed: Sequence[Sheet], abouts: Mapping[str, About | None]) -> str:
    """BibTeX entries of the methods in the sheets, without duplicates. A comment at each entry names its rows.

    Args:
        printed: sheets to cite.
        abouts: front matter of the method's README by row; None or missing: the row has no code here.

    Raises:
        ResultError: two READMEs have different entries with the same key.
    """
    rows_of: dict[str, list[str]] = {}
    entries: dict[str, str] = {}
    for method in dict.fromkeys(name for sheet in printed for name in sheet.methods):
        about = abouts.get(method)
        key, entry = (about.citation_key, about.bibtex.strip()) if about else ("", "")
        if entries.setdefault(key, entry) != entry:
            raise ResultError(f"README of {method}: bibtex: differs from another entry {key}; make the two equal")
        rows_of.setdefault(key, []).append(method)
    # BibTeX ignores text between entries, except for "@".
    lines = [f"% Methods of {', '.join(dict.fromkeys(f'{sheet.ids} on {sheet.heading}' for sheet in printed))}"]
    for key in sorted(rows_of):
        names = ", ".join(rows_of[key])
        lines.append(f"% {names}: {key or 'the suite knows no publication'}")
    comments = [_CONTROL.sub(" ", line).replace("@", "(at)") for line in lines]
    return "\n".join(comments) + "\n" + "".join(f"\n{entries[key]}\n" for key in sorted(entries) if key)


def about_card(card: Card) -> About:
    r"""Front matter of a submission, with a BibTeX entry from its card.

    Example:
        >>> fields = {"inputs": "4 cameras", "training_data": "none", "hardware": "1 GPU", "licence": "MIT"}
        >>> card = Card(name="mine", title="Poses & {more}", authors=["A. Author", "Müller, B."], **fields)
        >>> print(about_card(card).bibtex)
        @misc{submission:mine,
          title = {{Poses \& \textbraceleft{}more\textbraceright{}}},
          author = {A. Author and {Müller, B.}},
          note = {Submission mine to Poseboard},
        }
    """
    authors = [_bibtex_text(name) for name in card.authors]
    listed = " and ".join(f"{{{name}}}" if re.search(r",|\band\b", name, re.I) else name for name in authors)
    note = f"Submission {latex_text(card.name)} to Poseboard"
    fields = {"title": f"{{{_bibtex_text(card.title)}}}", "author": listed, "note": note}
    if link := card.paper or card.code:
        fields["url"] = quote(link, safe=":/?#[]!$&'()*+,;=%~")
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return About(summary=card.title, bibtex=f"@misc{{submission:{card.name},\n{lines}}}")


def _bibtex_text(text: str) -> str:
    """Escape a text for a field of BibTeX, which counts escaped braces too; Latin letters with accents stay."""
    other = {"{": r"\textbraceleft{}", "}": r"\textbraceright{}", "@": r"\char64{}"}
    return "".join(
        letter if "\u00c0" <= letter <= "\u017f" and letter.isalpha() else other.get(letter) or latex_text(letter)
        for letter in text
    )


def marks_of(board: Board, row: Row) -> list[str]:
    """Marks of a row's score on a board, such as "bound" or "claimed", in words."""
    marks = []
    if any(row is bound for bound in board.bounds):
        marks.append("true cameras, unranked")
    elif row.file.bound:
        marks.append("bound, unranked")
    if row.badge:
        marks.append(row.badge)
    return marks


def _rows(sheet: Sheet, text: Callable[[str], str], *, bold: str, details: str, absent: str) -> list[list[str]]:
    """Cells of each row of a sheet: its name with marks, then its score on each board.

    Args:
        sheet: the sheet.
        text: function that escapes plain text.
        bold: format string of a bold value.
        details: format string of intervals and missing predictions.
        absent: cell of a row without a score.
    """
    rows = []
    for method in sheet.methods:
        marks = sheet.marks(method)
        cells = [text(method) + (f" ({text(marks)})" if marks else "")]
        for board in sheet.boards:
            if (row := board.row_or_bound(method)) is None:
                cells.append(absent)
                continue
            value, more = map(text, _cell(row))
            cells.append((bold % value if row.bold else value) + (f" {details % more}" if more else ""))
        rows.append(cells)
    return rows


def _cell(row: Row) -> tuple[str, str]:
    """Value of a row, and its interval and missing predictions, as text."""
    score = row.score
    details = [f"[{number(score.ci95[0], score.unit)}, {number(score.ci95[1], score.unit)}]"] if score.ci95 else []
    if score.n_missing:
        details.append(f"{integer(score.n_missing)} of {integer(row.answers)} {absent(row)}")
    if score.counted == "people" and score.signature.truth != "none":
        details.append(f"{integer(score.n_false)} false")
    return number(score.value, score.unit), ", ".join(details)


def _caption(sheet: Sheet) -> list[str]:
    """Sentences of the caption: data, measures, signatures, marks and origin of the scores."""
    rows = [row for _, row in sheet.printed]
    sentences = [f"{sheet.heading}."]
    sentences += [f"{text}." for text in dict.fromkeys(row.file.warning.rstrip(".") for row in rows) if text]
    facts = [board.signature.facts | {"cameras": board.signature.views} for board in sheet.boards]
    common = {name: words for name, words in facts[0].items() if all(of.get(name) == words for of in facts)}
    for board, own in zip(sheet.boards, facts, strict=True):
        score = board.rows[0].score
        size = f"n = {integer(score.n_samples)} {counted(score)} in {integer(score.n_groups)} sequences"
        few = ", too few for a significant difference" if board.few else ""
        words = facts_line({name: text for name, text in own.items() if name not in common})
        sentences.append(f"{board.label}: {board.title.rstrip('.')}; {size}{few}{f'; {words}' if words else ''}.")
    sentences.append(f"Signature{' of all columns' if len(sheet.boards) > 1 else ''}: {facts_line(common)}.")
    sentences.append("Brackets: 95 % intervals.")
    if any(row.bold for row in rows):
        sentences.append("Bold: significantly better than the next ranked row.")
    if any(row.of_one_training for row in rows):
        sentences.append("Values and intervals of trained rows with one seed are of one training.")
    if any(row.score.n_left_out for row in rows):
        sentences.append("Values of rows with missing predictions are over predicted poses only, and unranked.")
    if any(_CLAIMED in marks_of(board, row) for board, row in sheet.printed):
        sentences.append("Claimed: scored from a predictions file, not reproduced.")
    if sheet.left_out:
        total = len(sheet.methods) + sheet.left_out
        sentences.append(f"{len(sheet.methods)} of {total} rows; bold is among all {total}.")
    commits = common_commit(row.file for row in rows)
    if commits:
        names = [commit[:10] + (" with uncommitted changes" if dirty else "") for commit, dirty, _ in commits]
        sentences.append(f"Poseboard, commit{'s' if len(names) > 1 else ''} {', '.join(names)}.")
    return sentences


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "{''}", "`": "{`}", "'": "{'}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # after the \\ of the row above they would be its argument
    "–": r"\textendash{}", "−": "$-$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "×": r"$\times$",
    "·": r"$\cdot$", "°": r"$^\circ$", "µ": r"$\mu$", "σ": r"$\sigma$", "’": "{'}", "“": "``", "”": "''",
    "…": r"\dots{}", "\N{NARROW NO-BREAK SPACE}": r"\,", "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip


def latex_text(text: str) -> str:
    r"""Escape a text for LaTeX; a character without a glyph in pdfLaTeX becomes its code point.

    Example:
        >>> print(latex_text("50 % of A_1 \N{LESS-THAN OR EQUAL TO} \\input{x}"), latex_text("\N{SNOWMAN}"))
        50 \% of A\_1 $\leq$ \textbackslash{}input\{x\} {[}U+2603{]}
    """

    def escaped(character: str) -> str:
        if " " <= character <= "~" or character in _LATEX:
            return _LATEX.get(character, character)
        return latex_text(f"[U+{ord(character):04X}]")

    escaped_text = "".join(map(escaped, _CONTROL.sub(" ", text)))
    return re.sub(r"-(?=-)", "-{}", escaped_text)  # two hyphens are not a dash


def markdown_text(text: str) -> str:
    r"""Escape a text for Markdown, also for a cell of a table.

    Example:
        >>> print(markdown_text("dlt_peak | <b>"))
        dlt\_peak \| &lt;b&gt;
    """
    plain = re.sub(r"([\\`*_\[\]|~$#!@])", r"\\\1", _CONTROL.sub(" ", text).replace("&", "&amp;"))
    return plain.replace("<", "&lt;").replace(">", "&gt;")
