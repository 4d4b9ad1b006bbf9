"""The pictures of the README: the first board as a plot, and rendered people of its data set.

Each file contains a hash of its content, so that a test can find a picture that is older than the results.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from PIL import Image

from poseboard.datasets.files import WholeFiles
from poseboard.protocols.records import DataFile, ResultError, Score
from poseboard.report.board import Board, boards, main_boards
from poseboard.report.drawing import charts
from poseboard.report.page import row_slots
from poseboard.report.plots import axis_label
from poseboard.report.results import Results

LEADERBOARD, PEOPLE = "leaderboard.png", "people.jpg"
_KEY = "Source"
_DPI, _PEOPLE_PX, _QUALITY = 200, 1400, 85
_ACROSS = 4
"""Ratio of width to height of the people: two rows of samples of a contact sheet."""


def write_pictures(
    results: Results, rows: Mapping[str, Collection[str]], colours: Mapping[str, str], out: Path
) -> list[Path]:
    """Draw the pictures of the README.

    Args:
        results: of one profile.
        rows: row of the run -> its data sets.
        colours: row -> name of its colour.
        out: folder of the pictures.

    Returns:
        The written files. People are drawn only of synthetic data sets.

    Raises:
        ResultError: there is no board, or no contact sheet of its data set.
    """
    board, hashes = _first(results), current(results, rows, colours)
    buffer = io.BytesIO()
    figure = charts.intervals(_plotted(board), row_slots(results, rows, colours), axis_label(board))
    figure.savefig(
        buffer, format="png", dpi=_DPI, facecolor="white", metadata={_KEY: hashes[LEADERBOARD], "Software": None}
    )
    contents = {LEADERBOARD: buffer.getvalue()}
    if PEOPLE in hashes:
        contents[PEOPLE] = _people(_data(results, board)[1], hashes[PEOPLE])
    with WholeFiles() as files:
        for name, content in contents.items():
            files.write(out / name, content)
    return [out / name for name in contents]


def current(results: Results, rows: Mapping[str, Collection[str]], colours: Mapping[str, str]) -> dict[str, str]:
    """Picture -> hash of its content if it were drawn from these results."""
    board = _first(results)
    index = row_slots(results, rows, colours)
    plotted = [(method, score.value, score.ci95, index[method]) for method, score in _plotted(board).items()]
    hashes = {LEADERBOARD: _sha256([axis_label(board), plotted])}
    file, _ = _data(results, board)
    return {**hashes, PEOPLE: _sha256([file.manifest, file.images])} if file.synthetic else hashes


def drawn(path: Path) -> str:
    """The hash in a picture; empty if it has none."""
    with Image.open(path) as image:
        value = image.info.get(_KEY, image.info.get("comment", ""))
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _plotted(board: Board) -> dict[str, Score]:
    """The scores of rows without missing predictions."""
    return {row.method: row.score for row in board.rows if row.score.complete}


def _first(results: Results) -> Board:
    mains = main_boards(boards(results))
    if not mains:
        raise ResultError(f"results of profile {results.profile}: no row is scored; run `poseboard repro` first")
    return next(iter(mains.values()))[0]


def _data(results: Results, board: Board) -> tuple[DataFile, Path | None]:
    """The record of the board's data set and its contact sheet."""
    for file, paths in results.data:
        if file.dataset == board.dataset:
            return file, next(iter(paths), None)
    raise ResultError(f"data set {board.dataset}: has no record; run `poseboard data prepare {board.dataset}`")


def _people(sheet: Path | None, source: str) -> bytes:
    """The first two rows of a contact sheet as a JPEG file."""
    if sheet is None or not sheet.is_file():
        raise ResultError(f"{sheet}: there is no contact sheet; run `poseboard data prepare` for its data set")
    with Image.open(sheet) as opened:
        image = opened.convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, image.width // _ACROSS)))
    image.thumbnail((_PEOPLE_PX, _PEOPLE_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True, progressive=True, comment=source.encode())
    return buffer.getvalue()


def _sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
