"""Error messages for users: place, problem and remedy in one line."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

_LONGEST = 800
"""Maximum number of characters of a part of a message."""

ModelT = TypeVar("ModelT", bound=BaseModel)


class InputError(ValueError):
    """Invalid input from the user: a file, a setting or an argument.

    Args:
        where: file, setting or argument, and the field if there are several.
        problem: description of the wrong value.
        remedy: action that solves the problem.

    Example:
        >>> str(InputError("labels.npy: table", "field is missing", "build the labels again"))
        'labels.npy: table: field is missing; build the labels again'
    """

    def __init__(self, where: str | Path, problem: str, remedy: str = "") -> None:
        self.where, self.problem, self.remedy = (short(printable(part)) for part in (str(where), problem, remedy))
        super().__init__(f"{self.where}: {self.problem}" + (f"; {self.remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, self.problem, self.remedy), self.__dict__


def short(text: str) -> str:
    """Shorten a text of thousands of characters by cutting out its middle.

    Example:
        >>> len(short("x" * 5000))
        803
    """
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def printable(text: str) -> str:
    """Escape control characters and lone surrogates in a text, so that file contents cannot control a terminal.

    Example:
        >>> printable(chr(27) + "[31m") == chr(92) + "x1b[31m"
        True
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Remedy for an unknown name: the most similar valid name and a list of all valid names.

    Example:
        >>> did_you_mean("ransak", ["dlt", "ransac"])
        'did you mean ransac? One of dlt, ransac'
    """
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return (f"did you mean {close[0]}? One of " if close else "one of ") + ", ".join(names)


def validated(kind: type[ModelT], values: Mapping[str, Any], where: str | Path) -> ModelT:
    """Validate values as a pydantic model. InputError names ``where``, the first invalid field and all valid ones."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        names = sorted(field_info.alias or name for name, field_info in kind.model_fields.items())
        raise field_error(where, error, names) from None


def field_error(where: str | Path, error: ValidationError, names: Iterable[str], section: str = "") -> InputError:
    """InputError for the first invalid field of a pydantic model, with the value if it is short.

    Args:
        where: file or setting.
        error: error of pydantic.
        names: names of the valid fields.
        section: section of ``where`` that has the fields.
    """
    first = error.errors()[0]
    field = ".".join(map(str, (*([section] if section else []), *first["loc"])))
    # Pydantic puts "Value error, " before the text of our validators.
    problem = first["msg"].removeprefix("Value error, ")
    problem = problem[:1].lower() + problem[1:]
    if first["type"] == "missing":
        problem, remedy = "field is missing", "add it"
    elif first["type"] == "extra_forbidden":
        problem, remedy = "there is no such field", f"remove it, or use one of {', '.join(names)}"
    else:
        remedy = "correct the value"
        value = first["input"]
        if value is None or isinstance(value, bool | int | float | str):
            problem += f" (is {value!r})"
    return InputError(f"{where}: {field}" if field else where, problem, remedy)
