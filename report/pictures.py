"""Pictures of the README: the first screen of the site, and rendered people of the first board's data set.

Each file contains a hash of the results that it shows, so that a test can detect outdated pictures.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from poseboard.datasets.files import WholeFiles, open_file
from poseboard.protocols.records import DataFile, ResultError
from poseboard.report.board import Board, boards, main_boards
from poseboard.report.page import row_slots
from poseboard.report.results import Results

SCREEN, PEOPLE = "site.png", "people.jpg"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""Path of the browser that draws the screen; None: not installed."""
_KEY = "Source"
_SCREEN_PX = (1440, 1080)
_PEOPLE_PX, _QUALITY = 1400, 85
_ACROSS = 4
"""Ratio of width to height of the people: two rows of samples of a contact sheet."""


def write_pictures(
    results: Results, rows: Mapping[str, Collection[str]], colours: Mapping[str, str], index: Path, out: Path
) -> list[Path]:
    """Draw the pictures of the README. Only rendered people are drawn.

    Args:
        results: results of one profile.
        rows: row of params.yaml -> its data sets.
        colours: row -> name of its colour.
        index: path of the site's first page, built from these results.
        out: folder for the pictures.

    Returns:
        Paths of the written files.

    Raises:
        ResultError: there is no board, its data set has no contact sheet, or Chromium is missing.
    """
    board, hashes = _first(results), current(results, rows, colours)
    contents = {PEOPLE: _people(_data(results, board)[1], hashes[PEOPLE])} if PEOPLE in hashes else {}
    contents[SCREEN] = _screen(index, hashes[SCREEN])
    with WholeFiles() as files:
        for name, content in contents.items():
            files.write(out / name, content)
    return [out / name for name in contents]


def current(results: Results, rows: Mapping[str, Collection[str]], colours: Mapping[str, str]) -> dict[str, str]:
    """Picture -> hash that the picture would have if it were drawn from these results."""
    board = _first(results)
    index = row_slots(results, rows, colours)
    numbers = [(row.method, row.score.value, row.score.ci95, index[row.method]) for row in board.rows]
    hashes = {SCREEN: _sha256([board.label, numbers])}
    file, _ = _data(results, board)
    return {**hashes, PEOPLE: _sha256([file.manifest, file.images])} if file.synthetic else hashes


def drawn(path: Path) -> str:
    """Read the hash in a picture; empty if it has none."""
    with open_file(path) as file, Image.open(file) as image:
        value = image.info.get(_KEY, image.info.get("comment", ""))
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _first(results: Results) -> Board:
    mains = main_boards(boards(results))
    if not mains:
        raise ResultError(f"results of profile {results.profile}: no row is scored; run `poseboard repro` first")
    return next(iter(mains.values()))[0]


def _data(results: Results, board: Board) -> tuple[DataFile, Path | None]:
    """Record of a board's data set, and the path of its contact sheet (None: no sheet)."""
    for file, paths in results.data:
        if file.dataset == board.dataset:
            return file, next(iter(paths), None)
    raise ResultError(f"data set {board.dataset}: has no record; run `poseboard data prepare {board.dataset}`")


def _screen(index: Path, source: str) -> bytes:
    """Screenshot of a page's first screen as a PNG file."""
    if CHROMIUM is None:
        raise ResultError("Chromium is not installed: it draws the picture of the site; run `apt-get install chromium`")
    with tempfile.TemporaryDirectory() as folder:
        shot, (width, height) = Path(folder) / SCREEN, _SCREEN_PX
        options = [
            "--headless", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1",
            # Otherwise the picture is sometimes taken before the lower part is drawn.
            "--run-all-compositor-stages-before-draw", "--virtual-time-budget=5000",
            f"--window-size={width},{height}", f"--user-data-dir={folder}", f"--screenshot={shot}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # as root, Chromium does not start with the sandbox
        ]  # fmt: skip
        try:
            command = [CHROMIUM, *options, index.resolve().as_uri()]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            with Image.open(shot) as opened:
                # The usual method takes the colours of small markers away.
                image = opened.convert("RGB").quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        except (subprocess.SubprocessError, OSError) as error:
            raise ResultError(f"{index}: Chromium cannot draw it ({str(error)[-120:]}); open it in a browser") from None
    buffer, source_text = io.BytesIO(), PngInfo()
    source_text.add_text(_KEY, source)
    image.save(buffer, "PNG", optimize=True, pnginfo=source_text)
    return buffer.getvalue()


def _people(sheet: Path | None, source: str) -> bytes:
    """First two rows of a contact sheet as a JPEG file."""
    if sheet is None or not sheet.is_file():
        raise ResultError(f"{sheet}: there is no contact sheet; run `poseboard data prepare` for its data set")
    with open_file(sheet) as file, Image.open(file) as opened:
        image = opened.convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, image.width // _ACROSS)))
    image.thumbnail((_PEOPLE_PX, _PEOPLE_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True, progressive=True, comment=source.encode())
    return buffer.getvalue()


def _sha256(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
