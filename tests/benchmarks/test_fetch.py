"""Fetching of files from wheels, with made-up wheels instead of the network."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from poseboard.benchmarks import fetch as fetching
from poseboard.benchmarks.fetch import BUNDLES, Bundle, fetch, is_complete
from poseboard.datasets.errors import InputError

MEMBERS = {"Pkg/Demo/videos/cam1.mp4": b"video", "Pkg/Demo/a.png": b"picture", "pkg-1.dist-info/LICENSE": b"free"}
BUNDLE = Bundle(
    what="a demonstration",
    package="pkg==1",
    licence="BSD-3-Clause",
    wheel_mb=1,
    files_mb=1,
    folders=("Pkg/Demo",),
    suffixes=(".mp4",),
    files={"LICENSE": "pkg-1.dist-info/LICENSE"},
)


def write_wheel(path: Path, members: dict[str, bytes] = MEMBERS) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel whose hash is the published one of the bundle `demo`."""
    path = write_wheel(tmp_path / "pkg-1-py3-none-any.whl")
    pinned = replace(BUNDLE, wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(fetching, "BUNDLES", {"demo": pinned})
    return path


def test_wanted_files_are_unpacked_once(wheel: Path, tmp_path: Path) -> None:
    folder, lines = tmp_path / "data" / "demo", []
    assert fetch("demo", folder, wheel=wheel, say=lines.append)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"Demo/videos/cam1.mp4", "LICENSE", "fetched.json"}
    assert (folder / "Demo" / "videos" / "cam1.mp4").read_bytes() == b"video"
    assert "1 MB to download" in lines[0]
    assert "BSD-3-Clause" in lines[0]
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]
    assert not fetch("demo", folder, wheel=wheel)
    (folder / "LICENSE").unlink()
    assert not is_complete(folder, fetching.BUNDLES["demo"])
    assert fetch("demo", folder, wheel=wheel), "a damaged folder is fetched again"
    assert (folder / "LICENSE").read_bytes() == b"free"


def test_a_download_goes_on_where_it_was_killed(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = []

    def download(_: Bundle, work: Path) -> None:
        downloads.append(work)
        (work / "download.whl").write_bytes(wheel.read_bytes())

    monkeypatch.setattr(fetching, "_download", download)
    unpack = fetching._unpack

    def killed(wheel: Path, wanted: Bundle, folder: Path) -> None:
        folder.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(fetching, "_unpack", killed)
    folder = tmp_path / "data" / "demo"
    with pytest.raises(KeyboardInterrupt):
        fetch("demo", folder)
    assert not folder.exists()
    monkeypatch.setattr(fetching, "_unpack", unpack)
    assert fetch("demo", folder)
    assert len(downloads) == 1
    assert is_complete(folder, fetching.BUNDLES["demo"])


def test_other_wheels_are_refused(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "demo"
    other = write_wheel(tmp_path / "other.whl", MEMBERS | {"x": b"y"})
    with pytest.raises(InputError, match=r"other\.whl: SHA-256 is not"):
        fetch("demo", folder, wheel=other)
    with pytest.raises(InputError, match="does not exist"):
        fetch("demo", folder, wheel=tmp_path / "absent.whl")
    monkeypatch.setattr(fetching, "BUNDLES", {"demo": replace(BUNDLE, sha256={"LICENSE": "0" * 64})})
    with pytest.raises(InputError, match="has another hash than the published file"):
        fetch("demo", folder, wheel=other)
    monkeypatch.setattr(fetching, "BUNDLES", {"demo": replace(BUNDLE, suffixes=(".avi",))})
    with pytest.raises(InputError, match="Pkg/Demo: is not in the wheel"):
        fetch("demo", folder, wheel=other)
    monkeypatch.setattr(fetching, "BUNDLES", {"demo": BUNDLE})
    outside = write_wheel(tmp_path / "outside.whl", MEMBERS | {"Pkg/Demo/../../evil.mp4": b"x"})
    with pytest.raises(InputError, match="would leave the folder"):
        fetch("demo", folder, wheel=outside)
    (tmp_path / "text.whl").write_text("no wheel")
    with pytest.raises(InputError, match=r"text\.whl"):
        fetch("demo", folder, wheel=tmp_path / "text.whl")
    assert not folder.exists()
    assert not (tmp_path / "evil.mp4").exists()


def test_folders_of_the_user_are_left_alone(wheel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="was not fetched; move it away"):
        fetch("demo", folder, wheel=wheel)
    assert (folder / "mine.txt").read_text() == "mine"


def test_failures_of_pip_are_one_line(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InputError, match=r"pip download pkg==1: .*; run `pip download --no-deps") as error:
        fetch("demo", tmp_path / "demo")
    assert "--file" in error.value.remedy
    assert "\n" not in str(error.value)


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="did you mean blazepose"):
        fetch("blazepos", Path("data"))


def test_all_bundles_state_what_is_checked() -> None:
    for content in BUNDLES.values():
        assert content.wheel_sha256 or set(content.files) - {"LICENSE"} <= set(content.sha256)
        assert "LICENSE" in content.files
        assert "==" in content.package


def test_the_record_names_package_and_licence(wheel: Path, tmp_path: Path) -> None:
    fetch("demo", tmp_path / "demo", wheel=wheel)
    record = json.loads((tmp_path / "demo" / "fetched.json").read_text())
    assert (record["package"], record["licence"]) == ("pkg==1", "BSD-3-Clause")
    assert set(record["files"]) == {"Demo/videos/cam1.mp4", "LICENSE"}
