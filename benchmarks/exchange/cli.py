"""Commands for results of other people; part of the top level of `poseboard`."""

from __future__ import annotations

import typer

exchange_app = typer.Typer()
