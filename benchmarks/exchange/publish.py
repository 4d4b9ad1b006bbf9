"""Checked copy of the site for a static host."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from poseboard.benchmarks.exchange.freeze import write_page
from poseboard.benchmarks.plan import Plan
from poseboard.datasets.errors import InputError
from poseboard.report.site_check import check_site


def publish(plan: Plan, folder: Path, url: str = "") -> Path:
    """Write the site of the recorded results into a new folder, if it passes `check_site`.

    Args:
        plan: rows and profile of the site.
        folder: folder to write; new or empty.
        url: address of the published site, for the picture of link previews; empty: previews have no picture.

    Returns:
        Path of the written ``index.html``.

    Raises:
        InputError: the folder has files, ``url`` is no web address, or `check_site` finds a problem.
        ResultError: a result file does not follow its schema.
        OSError: the folder cannot be written.

    Example:
        >>> publish(Plan.read(), Path("site"))  # doctest: +SKIP
        PosixPath('site/index.html')
    """
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if folder.exists():
        raise InputError(folder, "exists and is not an empty folder", "remove it, or name another folder")
    if url and not re.fullmatch(r"https?://[^\s?#]+", url):
        raise InputError(f"--url {url}", "is not an address of a folder", "use one such as https://example.org/poses")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        site = Path(temporary) / folder.name
        write_page(plan, plan.home / "results", site, url and url.rstrip("/") + "/", is_local=False)
        if problems := check_site(site):
            first, more = problems[0], len(problems) - 1
            raise InputError(
                folder / first.file,
                first.text + (f"; and {more} more problem{'' if more == 1 else 's'}" if more else ""),
                "nothing is written; to inspect the site, run `poseboard report`, which writes the same pages",
            )
        site.rename(folder)
    return folder / "index.html"
