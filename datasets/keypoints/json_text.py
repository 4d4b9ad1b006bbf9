"""Decoding of JSON that detectors write: typed, and with NaN, which Python's json module writes and JSON forbids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

import msgspec

from poseboard.datasets.errors import InputError

KindT = TypeVar("KindT")
_NOT_JSON = re.compile(rb"(?<=[\[,:\s])-?(?:NaN|Infinity)(?=\s*[,\]}])")


def decode(content: bytes, decoder: msgspec.json.Decoder[KindT], path: Path, remedy: str) -> KindT:
    """Decode JSON to the decoder's type; NaN and Infinity become null.

    Args:
        content: content of the file.
        decoder: decoder of the expected type.
        path: path of the file, for errors.
        remedy: remedy of the error.

    Raises:
        InputError: the content is empty, truncated or nested too deeply, or a field has another type.
    """
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        if b"NaN" in content or b"Infinity" in content:
            repaired = _NOT_JSON.sub(b"null", content)
            if repaired != content:
                return decode(repaired, decoder, path, remedy)
        if not content.strip():
            raise InputError(path, "file is empty", remedy) from None
        if isinstance(error, msgspec.ValidationError):
            problem, _, place = str(error).replace("`", "").partition(" - at ")
            place = place.removeprefix("$").removeprefix(".")
            raise InputError(f"{path}: {place}" if place else path, problem.lower(), remedy) from None
        raise InputError(path, f"is not JSON ({str(error)[:80]})", remedy) from None
