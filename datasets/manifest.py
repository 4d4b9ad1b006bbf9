"""Manifest of a generated world: the options, and digests that reveal later changes of the files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from poseboard.datasets.errors import InputError
from poseboard.datasets.files import parse_json, read_bytes, write_file

NAME = "manifest.json"
_DIGEST = re.compile("[0-9a-f]{64}")
_AGAIN = "delete the folder and generate the data set again"


def labels_digest(names: Sequence[Sequence[str]], cameras: NDArray[Any], table: NDArray[Any]) -> hashlib._Hash:
    """SHA-256 of the content of a Human3.6M labels file: names, calibrations and table."""
    digest = hashlib.sha256(json.dumps([list(map(str, of_field)) for of_field in names]).encode())
    digest.update(cameras.tobytes())
    digest.update(table.tobytes())
    return digest


def read_manifest(root: Path) -> dict[str, Any] | None:
    """Read ``<root>/manifest.json``; None if the file is absent. Raises InputError if it is not a manifest."""
    path = root / NAME
    if not path.exists():
        return None
    try:
        content = parse_json(read_bytes(path))
        sequences = content.get("images", {}).values()
        whole = all(_DIGEST.fullmatch(entry["sha256"]) and isinstance(entry["bytes"], int) for entry in sequences)
        if whole and _DIGEST.fullmatch(content["sha256"]) and content["generator"] and content["options"]:
            return dict(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(path, "is not a manifest of a generated world", _AGAIN)


def write_manifest(root: Path, content: Mapping[str, Any]) -> None:
    """Write ``<root>/manifest.json`` atomically."""
    write_file(root / NAME, json.dumps(content, indent=1).encode())


def verify(
    root: Path,
    labels: hashlib._Hash,
    sequences: Mapping[str, Sequence[Path]],
    every_byte: bool = False,
) -> dict[str, Any]:
    """Check that a generated world still equals its manifest.

    Labels are compared by content. Images are compared by size, or by content if they are newer than the manifest.

    Args:
        root: folder of the world.
        labels: digest of the world's labels.
        sequences: name of a sequence -> paths of its images, in the order of the digest.
        every_byte: whether to compare all images by content.

    Returns:
        The manifest. Missing digests, as in manifests of earlier versions, are added.

    Raises:
        InputError: a file was changed, or there is no manifest.
    """
    manifest = read_manifest(root)
    if manifest is None:
        raise InputError(root / NAME, "file is missing", _AGAIN)
    recorded: dict[str, dict[str, Any]] = manifest.get("images", {})
    written_ns = (root / NAME).stat().st_mtime_ns
    if manifest.get("labels", labels.hexdigest()) != labels.hexdigest():
        raise _changed(root, "the labels are not those that were generated")
    images: dict[str, dict[str, Any]] = {}
    for sequence, paths in sequences.items():
        try:
            states = [path.stat() for path in paths]
            size = sum(state.st_size for state in states)
            of_manifest = recorded.get(sequence, {})
            later = any(state.st_mtime_ns > written_ns for state in states)
            if every_byte or later or not of_manifest:
                digest = hashlib.sha256()
                for path in paths:
                    digest.update(read_bytes(path))
                images[sequence] = {**of_manifest, "sha256": digest.hexdigest(), "bytes": size}
            else:
                images[sequence] = {**of_manifest, "bytes": size}
        except OSError as error:
            raise _changed(root, f"{error.filename} cannot be read ({error.strerror})") from None
        if of_manifest and images[sequence] != of_manifest:
            raise _changed(root, f"images of {sequence} are not those that were generated")
    total = labels.copy()
    for of_sequence in images.values():
        total.update(of_sequence["sha256"].encode())
    if total.hexdigest() != manifest["sha256"]:
        raise _changed(root, "labels or images are not those that were generated")
    return {**manifest, "labels": labels.hexdigest(), "images": images}


def files_digest(root: Path, files: Sequence[str]) -> hashlib._Hash:
    """SHA-256 of the bytes of files below ``root``; InputError if a file cannot be read."""
    digest = hashlib.sha256()
    for name in files:
        try:
            digest.update(read_bytes(root / name))
        except OSError as error:
            raise _changed(root, f"{error.filename} cannot be read ({error.strerror})") from None
    return digest


def verify_files(root: Path, every_byte: bool = False) -> dict[str, Any]:
    """Check that a generated world still equals its manifest, which lists the files; see `verify`.

    Raises:
        InputError: a file was changed, or the manifest lists no files.
    """
    manifest = read_manifest(root)
    if manifest is None:
        raise InputError(root / NAME, "file is missing", _AGAIN)
    labels: Any = manifest.get("label_files")
    images: dict[str, Any] = {name: entry.get("files") for name, entry in manifest["images"].items()}
    for files in (labels, *images.values()):
        if not _are_paths(files):
            raise InputError(root / NAME, "does not list the files of a generated world", _AGAIN)
    paths = {name: [root / file for file in files] for name, files in images.items()}
    return verify(root, files_digest(root, labels), paths, every_byte)


def _are_paths(files: object) -> bool:
    """Whether a value is a list of paths that stay below their folder."""
    return isinstance(files, list) and all(
        isinstance(name, str) and not {"", ".", ".."} & set(name.split("/")) and "\0" not in name for name in files
    )


def _changed(root: Path, what: str) -> InputError:
    remedy = f"{_AGAIN}, or remove its {NAME} and set `root` to the folder to use it as it is"
    return InputError(root, f"the world was changed after it was generated: {what}", remedy)
