"""The one error that a user of Poseboard is shown: one line naming where, what and the remedy."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

ModelT = TypeVar("ModelT", bound=BaseModel)


class InputError(ValueError):
    """Something given from outside (a file, a setting, an argument) cannot be used.

    Args:
        where: the file, setting or argument, with the field if there is one ("labels.npy: table.bbox_by_camera_tlbr").
        problem: what is wrong with it.
        remedy: what the user can do about it.
    """

    def __init__(self, where: str | Path, problem: str, remedy: str = "") -> None:
        self.where, self.problem, self.remedy = str(where), problem, remedy
        super().__init__(f"{where}: {problem}" + (f"; {remedy}" if remedy else ""))


def one_of(name: str, known: Iterable[str]) -> str:
    """The remedy where a name is unknown: the name that was probably meant, and all there are.

    Example: one_of("ransak", ["dlt", "ransac"]) -> "did you mean ransac? One of dlt, ransac"
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return (f"did you mean {close[0]}? One of " if close else "one of ") + ", ".join(names)


def validated(kind: type[ModelT], values: Mapping[str, Any], where: str | Path) -> ModelT:
    """``values`` as a model; InputError names ``where``, the first field that is unknown or wrong, and those known."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        # Pydantic says "value error, …" before the text of our own validators.
        problem = first["msg"].removeprefix("Value error, ")
        problem = problem[:1].lower() + problem[1:]
        known = ", ".join(sorted(found.alias or name for name, found in kind.model_fields.items()))
        raise InputError(f"{where}: {field}" if field else where, problem, f"known: {known}") from None
