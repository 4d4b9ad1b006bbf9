"""What every file of results/ has: names that may be part of a path, reading and writing."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import WholeFiles, write_file

RowKind = Literal["checkpoints", "training", "predictions", "scores", "errors", "examples"]
"""A folder of a profile's results that has a folder per row."""

_SUFFIXES: dict[RowKind, str] = {"training": ".json", "scores": ".json", "errors": ".parquet", "examples": ".npz"}
"""Of a row's file per data set; kinds without one have a folder per data set."""

_REMEDY = "correct the file, or run its stage again"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


def check_name(where: str | Path, name: str) -> str:
    """A name that may be part of a path and of a stage's name: at most 64 letters, digits, _ and - (not first).

    Args:
        where: the file or setting that has the name, for the error.
        name: of a profile, row, data set, table or camera.

    Raises:
        InputError: the name has other characters.

    Example:
        >>> check_name("params.yaml: methods", "ransac_swap")
        'ransac_swap'
    """
    if not _NAME.fullmatch(name):
        raise InputError(where, f"{name[:80]!r} is no name", "use letters, digits, _ and - (not first), at most 64")
    return name


Name = Annotated[str, AfterValidator(partial(check_name, "name"))]
"""Field of a file with a name that may be part of a path (`check_name`)."""


def row_path(profile: Path, kind: RowKind, row: str, dataset: str) -> Path:
    """The file, or the folder, of one kind of result of one row on one data set.

    Args:
        profile: results/<profile>.
        kind: of result.
        row: its name in params.yaml.
        dataset: its name in params.yaml.

    Raises:
        InputError: one of the names is no name (`check_name`).

    Example:
        >>> row_path(Path("results/default"), "scores", "dlt", "human36m").as_posix()
        'results/default/scores/dlt/human36m.json'
    """
    return row_folder(profile, kind, row) / f"{check_name('data set', dataset)}{_SUFFIXES.get(kind, '')}"


def row_folder(profile: Path, kind: RowKind, row: str) -> Path:
    """The folder of one kind of result of one row, on all data sets."""
    return profile / kind / check_name("row", row)


def row_paths(profile: Path, kind: RowKind) -> list[Path]:
    """The existing files of all rows and data sets, by data set, then by row."""
    return sorted(profile.glob(f"{kind}/*/*{_SUFFIXES.get(kind, '')}"), key=lambda path: (path.name, path.parent.name))


class ResultError(ValueError):
    """A file of results/ does not follow its schema; the message names file and field."""


class Record(BaseModel):
    """Base of every file: unknown fields and NaN are errors, files are written whole or not at all."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    passing: ClassVar[frozenset[str]] = frozenset()
    """Fields of date, cost and commit, which do not count as a difference."""

    def text(self) -> str:
        """As JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def write(self, path: Path, files: WholeFiles | None = None) -> None:
        """Write as JSON, whole or not at all, unless the file differs only in date and timing.

        So an equal rerun changes no file, and a file states when, at which commit and at what cost its numbers were
        first computed. A file from uncommitted changes is replaced by one without.

        Args:
            path: the file.
            files: files that are replaced together with it; None: none.

        Raises:
            OSError: the file cannot be written.
        """
        try:
            if path.is_file() and self.says_what(type(self).read(path)):
                return
        except ResultError:
            pass
        if files is None:
            write_file(path, self.text().encode())
        else:
            files.write(path, self.text().encode())

    def says_what(self, old: Self) -> bool:
        """Whether an older record holds the same but for the fields that pass; one that lacks such a value does not."""
        return all(
            getattr(self, name) is None or getattr(old, name) is not None
            if name in self.passing
            else _same(getattr(self, name), getattr(old, name))
            for name in type(self).model_fields
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Parse a JSON or YAML file; ResultError names the file and the first wrong field."""
        try:
            text = path.read_text(encoding="utf-8")
            values = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            problem = first["msg"].removeprefix("Value error, ")  # which pydantic puts before the text of our checks
            raise ResultError(f"{path}: {'.'.join(map(str, first['loc']))}: {problem}; {_REMEDY}") from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError, RecursionError) as error:
            raise ResultError(f"{path}: cannot be read ({str(error).splitlines()[0]}); {_REMEDY}") from None


def _same(new: object, old: object) -> bool:
    if isinstance(new, Record) and isinstance(old, Record):
        return type(new) is type(old) and new.says_what(old)
    if isinstance(new, list) and isinstance(old, list):
        return len(new) == len(old) and all(map(_same, new, old))
    return new == old
