"""Submissions: predictions files of other people, with a card that describes them.

``submissions/<name>/card.yaml``        `Card`
``submissions/<name>/*.parquet``        predictions (:mod:`poseboard.protocols.predictions`) of the method ``<name>``
``submissions/<name>/verified.json``    `Verification`, written by `poseboard verify`

Nothing in this folder is trusted. Texts of a card are one line of limited length without control characters, links are
http or https, and the card is plain YAML without aliases and tags.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, Field, StringConstraints

from poseboard.datasets.errors import InputError, validated
from poseboard.datasets.files import open_file, parse_yaml, read_bytes
from poseboard.protocols.records import Name, Record, ResultError, check_name

FOLDER = "submissions"
CARD_BYTES = 20_000
"""Largest size of a card."""
FILE_BYTES = 100_000_000
"""Largest size of a predictions file."""


def _one_line(text: str) -> str:
    bad = next((letter for letter in text if unicodedata.category(letter)[0] == "C"), None)
    if bad is not None:
        raise ValueError(f"has the control character {bad!a}")
    return text


def _http(link: str) -> str:
    parts = urlsplit(_one_line(link))
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or " " in link:
        raise ValueError("is not an http or https link")
    return link


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_one_line)]
LongText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000), AfterValidator(_one_line)
]
Link = Annotated[str, StringConstraints(strip_whitespace=True, max_length=300), AfterValidator(_http)]


class Card(Record):
    """Description of a submission by its authors."""

    name: Name = Field(description="of the row and of the folder: letters, digits, _ and -")
    title: Text
    authors: list[Text] = Field(min_length=1, max_length=50)
    paper: Link | None = None
    code: Link | None = None
    inputs: LongText = Field(description="what the method uses: cameras, boxes, 2D detections, roots, time")
    training_data: LongText = Field(description='data sets of the training; "none" for a method that learns nothing')
    hardware: Text
    licence: Text


class Verification(Record):
    """A successful run of `poseboard verify` on a submission."""

    predictions_sha256: str = Field(description="`Submission.predictions_sha256` of the verified files")
    scores_sha256: str = Field(description="`ScoreFile.scores_sha256` of the verified numbers")
    by: Text = Field(description="who ran it, or with which version")


@dataclass(frozen=True)
class Submission:
    """A submission: its card and its predictions files.

    Args:
        folder: submissions/<name>.
        card: its card.
        files: predictions files, sorted.
    """

    folder: Path
    card: Card
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Name of the row."""
        return self.card.name

    def predictions_sha256(self) -> str:
        """SHA-256 of the names and bytes of the predictions files."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(f"{path.name} {hashlib.sha256(read_bytes(path)).hexdigest()}\n".encode())
        return digest.hexdigest()

    @property
    def badge(self) -> Literal["claimed", "verified"]:
        """Whether `poseboard verify` confirmed exactly these files."""
        try:
            verification = Verification.read(self.folder / "verified.json")
        except ResultError:
            return "claimed"
        return "verified" if verification.predictions_sha256 == self.predictions_sha256() else "claimed"


def read_card(path: Path) -> Card:
    """Read a card from an untrusted YAML file.

    Args:
        path: the file, of at most `CARD_BYTES`.

    Raises:
        InputError: the file is absent, too large, not plain YAML, or a field is missing, unknown or invalid.

    Example:
        >>> read_card(Path("docs/example-submission/card.yaml")).name
        'example'
    """
    try:
        with open_file(path) as file:
            content = file.read(CARD_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise InputError(
            path, f"cannot be read ({error.strerror})", "write card.yaml like the example in docs/submissions.md"
        ) from None
    except UnicodeDecodeError:
        raise InputError(path, "is not UTF-8 text", "write the card as UTF-8") from None
    if len(content) > CARD_BYTES:
        raise InputError(path, f"is larger than {CARD_BYTES} bytes", "shorten the card")
    try:
        values = parse_yaml(text)  # limits the depth, without which the next parser takes minutes
    except ValueError as error:
        problem = f"is not YAML ({error})"
        raise InputError(path, problem, "write the card like the example in docs/submissions.md") from None
    events = yaml.parse(text, yaml.SafeLoader)
    if any(isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) for event in events):
        raise InputError(path, "has YAML aliases or tags", "write plain texts and lists")
    if not isinstance(values, dict):
        raise InputError(path, "is not a list of fields", "write the card like the example in docs/submissions.md")
    unknown = [key for key in values if key not in Card.model_fields]
    if unknown:
        fields = ", ".join(Card.model_fields)
        raise InputError(path, f"{ascii(unknown[0])[:60]} is not a field of a card", f"use fields of {fields}")
    return validated(Card, values, path)


def read_submission(folder: Path) -> Submission:
    """Read the card of a submission and list its predictions files.

    Args:
        folder: submissions/<name>.

    Raises:
        InputError: the card is invalid or has another name than the folder, or a predictions file is absent, a symbolic
            link or too large.

    Example:
        >>> read_submission(Path("submissions/mine")).badge  # doctest: +SKIP
        'claimed'
    """
    card = read_card(folder / "card.yaml")
    if card.name != folder.name:
        raise InputError(f"{folder / 'card.yaml'}: name", f"is {card.name}, unlike the folder", "rename the folder")
    files = tuple(sorted(folder.glob("*.parquet")))
    check_files(files, folder)
    return Submission(folder, card, files)


def check_files(files: Sequence[Path], where: Path) -> None:
    """Raise InputError if there are no files, or a file is absent, a symbolic link or larger than `FILE_BYTES`."""
    if not files:
        raise InputError(where, "has no predictions file", "add a .parquet file")
    for path in files:
        if not path.is_file() or path.is_symlink():
            raise InputError(path, "is not a file", "copy the predictions file itself")
        if path.stat().st_size > FILE_BYTES:
            raise InputError(path, f"is larger than {FILE_BYTES // 1_000_000} MB", "submit smaller files")


def submission_folders(home: Path) -> list[Path]:
    """The folders of all submissions, sorted by name; empty if there are none.

    Args:
        home: folder of params.yaml.

    Raises:
        InputError: a folder has an invalid name.

    Example:
        >>> submission_folders(Path("/nowhere"))
        []
    """
    folders = sorted(path.parent for path in (home / FOLDER).glob("*/card.yaml"))
    for folder in folders:
        check_name(home / FOLDER, folder.name)
    return folders
