"""Frozen boards: a dated copy of the recorded results and their page, with the SHA-256 of each file."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from poseboard.benchmarks.plan import Plan
from poseboard.benchmarks.provenance import file_sha256, git_output
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import read_bytes
from poseboard.protocols.records import check_name
from poseboard.report.site import build

SUMS = "SHA256SUMS"
"""File with a line for each other file of a frozen board, in the format of `sha256sum --check`."""
RECORDED = ("results", "submissions")
"""Folders whose files in git are copied."""


def freeze(plan: Plan, name: str) -> Path:
    """Copy the recorded results and submissions to ``frozen/<name>``, and write their page there.

    Only files in git are copied, so equal commits give equal bytes. The date is the date of the commit.

    Args:
        plan: rows and profile of the page.
        name: name of the frozen board, such as "v1".

    Returns:
        Path of the folder.

    Raises:
        InputError: this is not a git checkout, results are not committed, or ``frozen/<name>`` has other content.

    Example:
        >>> freeze(Plan.read(), "v1")  # doctest: +SKIP
        PosixPath('frozen/v1')
    """
    folder = plan.home / "frozen" / check_name("frozen board", name)
    commit = git_output(plan.home, "log", "-1", "--format=%H %ct")
    files = git_output(plan.home, "ls-files", "-z", "--", *RECORDED)
    if commit is None or files is None:
        raise InputError(plan.home, "is not a git checkout", "clone the repository with git")
    if changed := git_output(plan.home, "status", "--porcelain", "--", *RECORDED):
        first = changed.splitlines()[0].split()[-1]
        raise InputError(plan.home / first, "is not committed", "commit it, or remove it")
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
        copy = Path(temporary) / name
        for file in filter(None, files.split("\0")):
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(plan.home / file, copy / file)
        write_page(plan, copy / "results", copy / "page")
        sha, seconds = commit.split()
        date = datetime.fromtimestamp(int(seconds), UTC).date()
        head = f"# Poseboard {name}: profile {plan.params.profile}, {date}, commit {sha}\n"
        (copy / SUMS).write_text(head + "".join(f"{_sum}  {file}\n" for file, _sum in _sums(copy).items()))
        if not folder.exists():
            copy.rename(folder)
        elif different := _different(_sums(folder), _sums(copy)):
            raise InputError(folder, f"exists with another {different[0]}", "choose another name, or remove the folder")
    return folder


def check_frozen(home: Path, name: str) -> list[str]:
    """List the files of a frozen board that were changed, removed or added later.

    Args:
        home: folder of params.yaml.
        name: name of the frozen board.

    Raises:
        InputError: the board does not exist, or its list of files is damaged.

    Example:
        >>> check_frozen(Path(), "v1")  # doctest: +SKIP
        ['page/index.html']
    """
    path = home / "frozen" / check_name("frozen board", name) / SUMS
    try:
        lines = [line.split("  ", 1) for line in read_bytes(path).decode().splitlines() if not line.startswith("#")]
        recorded = {file: digest for digest, file in lines}
        if not recorded:
            raise ValueError
    except FileNotFoundError:
        raise InputError(path, "does not exist", f"run `poseboard freeze {name}` first") from None
    except ValueError:
        raise InputError(path, "is not a list of files and their SHA-256", "restore it with git") from None
    return _different(recorded, _sums(path.parent))


def write_page(plan: Plan, results: Path, out: Path, url: str = "", *, is_local: bool = True) -> list[Path]:
    """Write the page of results (`build`) with the rows of a plan.

    Args:
        plan: rows, their colours and their folders.
        results: parent of the profile's results folder.
        out: folder to write the pages into.
        url: address of the published folder; see `build`.
        is_local: whether pages link to the MLflow runs on this machine.

    Returns:
        Paths of the written files.

    Raises:
        ResultError: a result file does not follow its schema.

    Example:
        >>> write_page(plan, Path("results"), plan.layout.page)[0].name  # doctest: +SKIP
        'index.html'
    """
    rows = {row: plan.may_run(row) for row in plan.rows}
    code = {row: plan.home / entry.code for row, entry in plan.rows.items()}
    folders = {row: path.parent if path.name == "method.py" else path for row, path in code.items()}
    return build(results, plan.params.profile, out, rows, plan.params.colours, folders, url, is_local=is_local)


def _sums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a frozen board except `SUMS`, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files if path != folder / SUMS}


def _different(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(file for file in before.keys() | after.keys() if before.get(file) != after.get(file))
