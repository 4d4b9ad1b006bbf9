"""Formats of numbers, durations and file names on the pages."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np

_CONTROL = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")
"""Control characters except line ends and tabs, and those that reverse the direction of text."""
SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def number(value: float | None, unit: str = "mm") -> str:
    """Format a value with the usual number of decimals of its unit; a dash without a value.

    Example:
        >>> number(22.41), number(4.177, "px"), number(0.3861, "m"), number(None)
        ('22.4', '4.18', '0.386', '–')
    """
    if value is None or not np.isfinite(value):
        return "–"
    if unit in ("mm", "%") or abs(value) >= 100:
        return f"{value:.1f}"
    return f"{value:.3f}" if unit == "m" else f"{value:.2f}"


def signed(value: float, unit: str = "mm") -> str:
    """Format a difference with its sign; with two significant digits if it would be rounded to zero."""
    size = number(abs(value), unit)
    if value and not float(size):
        size = f"{abs(value):.2g}"
    return ("+" if value > 0 else "−" if value < 0 else "±") + size


def integer(value: float | None) -> str:
    """Format an integer with thin spaces between thousands."""
    return "–" if value is None else f"{round(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def ordinal(count: int) -> str:
    """Format an ordinal number: 1st, 2nd, 3rd, 4th, 11th, 64th."""
    ending = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{ending}"


def duration(seconds: float | None) -> str:
    """Format a duration in a readable unit: "92.7 µs", "115 ms", "34.4 s" (up to two minutes), "2.5 min", "2.5 h"."""
    if seconds is None:
        return "–"
    for size, unit, of_unit in ((7200.0, "h", 3600.0), (120.0, "min", 60.0)):
        if seconds >= size:
            return f"{seconds / of_unit:.1f} {unit}"
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= 0.9995 * size or seconds == 0:  # 999.7 ms would be written 1e+03 ms
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def file_name(name: str) -> str:
    """Safe file name for any name: the name itself if it is safe, otherwise its safe characters and a hash."""
    if SAFE_NAME.fullmatch(name):
        return name
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32]
    return f"{stem or 'name'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def visible(value: Any) -> Any:
    """Escape the control characters of a text for a template, except line ends and tabs; other values are unchanged.

    Example:
        >>> visible("a" + chr(27) + "[31m") == "a" + chr(92) + "x1b[31m"
        True
    """
    if not isinstance(value, str) or not _CONTROL.search(value):
        return value
    return type(value)(_CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), value))
