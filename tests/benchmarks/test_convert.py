"""Conversion of the official Human3.6M download: round trip, choices of frames, faults, and runs that were killed."""

import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "datasets"))
from made_up_human36m_official import (
    CAMERAS,
    FRAMES,
    OF_32,
    SEQUENCES,
    OfficialDownload,
    read_archive,
    video,
    write_archive,
    write_official,
)
from made_up_human36m_official import SUBJECTS as ALL_SUBJECTS

from poseboard.benchmarks.conversions import human36m as conversions
from poseboard.benchmarks.conversions.human36m import Conversion, convert
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import Human36M
from poseboard.datasets.human36m_coco import Human36MCoco
from poseboard.datasets.human36m_official import _rotation, moved_frames, square_box_of


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> OfficialDownload:
    return write_official(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def converted(download: OfficialDownload, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("converted")
    return out, list(convert(of(download, out, undistort=True)))


def of(download: OfficialDownload, out: Path, **options: Any) -> Conversion:
    return Conversion(options.pop("target", "human36m"), download.folder, download.metadata, out, **options)


def copy_of(download: OfficialDownload, folder: Path) -> OfficialDownload:
    """A download whose archives may be changed."""
    shutil.copytree(download.folder, folder / "archives")
    shutil.copy(download.metadata, folder / "metadata.xml")
    return replace(download, folder=folder / "archives", metadata=folder / "metadata.xml")


def change(archive: Path, **files: bytes | None) -> None:
    """Replace the files of an archive whose names end so; None removes them."""
    content = read_archive(archive)
    for end, data in files.items():
        (name,) = [name for name in content if name.endswith(end)]
        if data is None:
            del content[name]
        else:
            content[name] = data
    write_archive(archive, content)


def published(download: OfficialDownload, subject: str, sequence: str) -> list[int]:
    if subject in ("S9", "S11"):
        return list(range(0, FRAMES, 64))
    chosen = [0]
    poses_mm = (0.9 * download.poses_mm[subject, sequence]).astype(np.float32)
    for frame in range(FRAMES):
        if np.linalg.norm(poses_mm[frame] - poses_mm[chosen[-1]], axis=1).max() >= 40:
            chosen.append(frame)
    return chosen


def test_labels_are_those_of_the_download(download: OfficialDownload, converted: tuple[Path, list[str]]) -> None:
    dataset = Human36M(converted[0], images="original")
    assert dataset.status().state == "ready"
    keys = [*dataset.keys("train"), *dataset.keys("test")]
    expected = [
        f"{subject}/{sequence}/{frame:06d}"
        for subject in ALL_SUBJECTS
        for sequence in SEQUENCES
        for frame in published(download, subject, sequence)
    ]
    assert keys == expected
    for key in keys:
        subject, sequence, number = key.split("/")
        frame = int(number)
        truth = dataset.truth(key).joints_mm[0]
        assert np.array_equal(truth, download.poses_mm[subject, sequence][frame][list(OF_32)])
        sample = dataset.sample(key)
        names = [view.name for view in sample.views]
        assert names == [c for c in CAMERAS if (subject, sequence, c) in download.masks]
        for view in sample.views:
            top, bottom, left, right = download.masks[subject, sequence, view.name][frame]
            mask = np.zeros((200, 200))
            mask[top : bottom + 1, left : right + 1] = 1
            upper, start, lower, end = square_box_of(mask)
            assert view.boxes_px[0].tolist() == [start, upper, end, lower]
            assert lower - upper == end - start == max(bottom - top, right - left) + 1
            R, t_mm, K, dist = download.cameras[subject, view.name]
            for ours, theirs in (
                (view.camera.R, R),
                (view.camera.t, t_mm),
                (view.camera.K, K),
                (view.camera.dist, dist),
            ):
                np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    (missing,) = [line for line in converted[1] if line.startswith("without images")]
    assert missing == "without images: S11/Directions-2, camera 54138969"
    assert any("of the joints project into their box" in line for line in converted[1])


def test_images_are_those_of_the_videos(download: OfficialDownload, converted: tuple[Path, list[str]]) -> None:
    original, undistorted = Human36M(converted[0], images="original"), Human36M(converted[0])
    assert undistorted.status().state == "ready"
    for key in ("S1/Directions-1/000000", "S9/Directions-1/000064", "S11/Directions-2/000064"):
        subject, sequence, frame = key.split("/")
        for view, flat in zip(original.sample(key).views, undistorted.sample(key).views, strict=True):
            source = download.images[subject, sequence, view.name][int(frame)]
            pixels = view.pixels()
            assert np.abs(pixels.astype(float) - source).mean() < 6, "MP4 and JPEG lose detail"
            camera = Camera(view.camera.K, view.camera.R, view.camera.t, view.camera.dist, (96, 96), "human36m")
            grid = np.stack(np.meshgrid(np.arange(96), np.arange(96)), -1)
            at = camera.distort(grid).astype(np.float32)
            expected = cv2.remap(pixels, at[..., 0], at[..., 1], cv2.INTER_CUBIC)
            assert np.abs(flat.pixels().astype(float) - expected).mean() < 2


def test_rotation_of_metadata_by_the_definition() -> None:
    """Elementary rotations, as the specification writes them."""
    angle = 0.3
    c, s = np.cos(angle), np.sin(angle)
    about = [
        [[1, 0, 0], [0, c, -s], [0, s, c]],
        [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    ]
    for axis, expected in enumerate(about):
        angles = [angle if axis == index else 0.0 for index in range(3)]
        np.testing.assert_allclose(_rotation(*angles), expected, atol=1e-12)
    product = np.array(about[0]) @ about[1] @ about[2]
    np.testing.assert_allclose(_rotation(angle, angle, angle), product, atol=1e-12)


@pytest.mark.parametrize(("frames", "expected"), [("every:20", [0, 20, 40, 60]), ("all", list(range(FRAMES)))])
def test_other_choices_of_frames(download: OfficialDownload, tmp_path: Path, frames: str, expected: list[int]) -> None:
    conversion = of(download, tmp_path / "out", frames=frames, target="human36m-coco")
    list(convert(conversion))
    dataset = Human36MCoco(tmp_path / "out", every_train=1, every_test=1)
    own = [int(key.rsplit("/", 1)[1]) for key in dataset.keys("test") if key.startswith("S9/Directions-1/")]
    assert own == expected


def test_annotations_of_rootnet(download: OfficialDownload, tmp_path: Path) -> None:
    list(convert(of(download, tmp_path / "out", target="human36m-coco")))
    dataset = Human36MCoco(tmp_path / "out")
    assert dataset.status().state == "ready", dataset.status().detail
    assert "t is the camera's centre" not in dataset.status().detail
    key = "S9/Directions-1/000064"
    assert key in dataset.keys("test")
    expected = download.poses_mm["S9", "Directions-1"][64][list(OF_32)]
    np.testing.assert_allclose(dataset.truth(key).joints_mm[0], expected, atol=1e-3)
    assert [int(k.rsplit("/", 1)[1]) % 5 for k in dataset.keys("train")] == [0] * len(dataset.keys("train"))
    for view in dataset.sample(key).views:
        source = download.images["S9", "Directions-1", view.name][64]
        assert np.abs(view.pixels().astype(float) - source).mean() < 6
        joints_px = view.camera.project(expected)
        left, upper, right, lower = view.boxes_px[0]
        assert ((joints_px >= (left, upper)) & (joints_px <= (right, lower))).all()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def test_a_killed_conversion_goes_on(
    download: OfficialDownload, converted: tuple[Path, list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code = (
        "from pathlib import Path; from poseboard.benchmarks.conversions.human36m import *; "
        f"list(convert(Conversion('human36m', Path({str(download.folder)!r}), Path({str(download.metadata)!r}), "
        f"Path({str(out)!r}), undistort=True)))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    limit = time.monotonic() + 120
    while len(list(out.glob("conversion/*/*.videos.json"))) < 5 and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in out.glob("conversion/*/*.videos.json")}
    assert done
    assert not (out / "extra").exists()
    list(convert(of(download, out, undistort=True)))
    assert all(path.stat().st_mtime_ns == before for path, before in done.items()), "finished videos are kept"
    assert contents(out) == contents(converted[0])


def test_a_full_disk_loses_nothing(
    download: OfficialDownload, converted: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = [0], conversions.write_file

    def fail(path: Path, content: Any) -> None:
        written[0] += 1
        if written[0] > 150:
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(conversions, "write_file", fail)
    with pytest.raises(OSError, match="No space left"):
        list(convert(of(download, tmp_path, undistort=True)))
    monkeypatch.undo()
    list(convert(of(download, tmp_path, undistort=True)))
    assert contents(tmp_path) == contents(converted[0])


def test_subjects_without_archives(download: OfficialDownload, tmp_path: Path) -> None:
    own = copy_of(download, tmp_path)
    (own.folder / "Videos_S7.tgz").unlink()
    with pytest.raises(InputError, match=r"lacks archives of S7: Videos_S7\.tgz.*--partial"):
        list(convert(of(own, tmp_path / "out")))
    list(convert(of(own, tmp_path / "out", partial=True)))
    subjects = {key.split("/")[0] for key in Human36M(tmp_path / "out", images="original").keys("train")}
    assert subjects == {"S1", "S5", "S6", "S8"}


def test_frames_that_a_video_lacks(download: OfficialDownload, tmp_path: Path) -> None:
    own = copy_of(download, tmp_path)
    frames = own.images["S9", "Directions-1", CAMERAS[2]]
    change(own.folder / "Videos_S9.tgz", **{f"Directions 1.{CAMERAS[2]}.mp4": video(tmp_path, frames[:62])})
    lines = list(convert(of(own, tmp_path / "out")))
    assert "S9/Directions-1: a file ends before frame 64; 1 are used" in lines
    assert "S9/Directions-1/000064" not in Human36M(tmp_path / "out", images="original").keys("test")
    change(own.folder / "Videos_S9.tgz", **{f"Directions 1.{CAMERAS[2]}.mp4": video(tmp_path, frames[:30])})
    with pytest.raises(InputError, match=r"Videos_S9\.tgz: Directions 1\.58860488\.mp4: video ends after 30 frames"):
        list(convert(of(own, tmp_path / "other")))


def test_damaged_files_are_named(download: OfficialDownload, tmp_path: Path) -> None:
    own = copy_of(download, tmp_path)
    outs = (tmp_path / f"out{number}" for number in range(99))

    def error() -> str:
        out = next(outs)
        with pytest.raises(InputError) as raised:
            list(convert(of(own, out, partial=True)))
        assert not (out / "extra").exists()
        return str(raised.value)

    def damaged(archive: str, end: str, data: bytes | None) -> str:
        kept = (own.folder / archive).read_bytes()
        change(own.folder / archive, **{end: data})
        text = error()
        (own.folder / archive).write_bytes(kept)
        return text

    assert "Directions 1.cdf: is not a CDF file" in damaged(
        "Poses_D3_Positions_S5.tgz", "Directions 1.cdf", b"CDF?" * 99
    )
    assert "Directions.cdf: file is missing" in damaged("Poses_D3_Positions_S5.tgz", "Directions.cdf", None)
    choice = f"Directions.{CAMERAS[0]}.cdf"
    assert f"{choice}: file is missing" in damaged("Poses_D3_Positions_mono_universal_S6.tgz", choice, None)
    mat = f"Directions.{CAMERAS[1]}.mat"
    assert f"S8.tgz: {mat}: is not a MATLAB" in damaged("Segments_mat_gt_bb_S8.tgz", mat, b"MATLAB 5" * 99)
    mp4 = f"Directions 1.{CAMERAS[3]}.mp4"
    assert f"Videos_S11.tgz: {mp4}: " in damaged("Videos_S11.tgz", mp4, b"\0" * 4000)
    assert f"Videos_S1.tgz: {mp4}: file is missing" in damaged("Videos_S1.tgz", mp4, None)
    whole = (own.folder / "Videos_S1.tgz").read_bytes()
    (own.folder / "Videos_S1.tgz").write_bytes(whole[: len(whole) // 2])
    assert "Videos_S1.tgz: is damaged or truncated" in error()
    (own.folder / "Videos_S1.tgz").write_bytes(whole)


def test_an_empty_mask_is_an_error(download: OfficialDownload, tmp_path: Path) -> None:
    import h5py

    own = copy_of(download, tmp_path)
    archive, name = own.folder / "Segments_mat_gt_bb_S1.tgz", f"Directions 1.{CAMERAS[0]}.mat"
    (data,) = [data for key, data in read_archive(archive).items() if key.endswith(name)]
    path = tmp_path / "masks.mat"
    path.write_bytes(data or b"")
    with h5py.File(path, "r+") as file:
        file[np.asarray(file["Masks"]).ravel()[0]][...] = 0
    change(archive, **{name: path.read_bytes()})
    with pytest.raises(InputError, match=r"Segments_mat_gt_bb_S1\.tgz: .*Masks, frame 0: mask is empty"):
        list(convert(of(own, tmp_path / "out")))


def test_names_of_members_lead_nowhere(download: OfficialDownload, tmp_path: Path) -> None:
    own = copy_of(download, tmp_path)
    archive = own.folder / "Poses_D3_Positions_S1.tgz"
    content = read_archive(archive)
    write_archive(archive, {"../../../escaped.cdf": b"x", "/tmp/absolute.cdf": b"x", "link.cdf": None, **content})
    list(convert(of(own, tmp_path / "out")))
    assert not list(tmp_path.rglob("escaped*"))
    linked = {name: None if name.endswith("Directions 1.cdf") else data for name, data in content.items()}
    write_archive(archive, linked)
    with pytest.raises(InputError, match=r"Directions 1\.cdf: file is missing"):
        list(convert(of(own, tmp_path / "other")))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("<metadata>", "<!DOCTYPE x [<!ENTITY a 'b'>]><metadata>", "declares entities"),
        ("54138969", "54138960", "index2id"),
        ("<w0>[", "<w0>[0.5 ", "is not 300 numbers"),
        ("<td>S9</td>", "<td>S99</td>", "has no column S9"),
        ("<td>Directions 1</td>", "<td>../Directions</td>", "row 2"),
        ("</metadata>", "", "is not XML"),
    ],
)
def test_metadata_is_checked(download: OfficialDownload, tmp_path: Path, old: str, new: str, field: str) -> None:
    own = replace(download, metadata=tmp_path / "metadata.xml")
    own.metadata.write_text(download.metadata.read_text().replace(old, new))
    with pytest.raises(InputError, match=rf"metadata\.xml: .*{field}"):
        list(convert(of(own, tmp_path / "out")))


def test_data_that_does_not_belong_together(download: OfficialDownload, tmp_path: Path) -> None:
    """Numbers of the cameras in another order: joints project elsewhere than the masks are."""
    text = download.metadata.read_text()
    numbers = text[text.index("[") + 1 : text.index("]")].split()
    numbers[:66], numbers[132:198] = numbers[132:198], numbers[:66]
    own = replace(download, metadata=tmp_path / "metadata.xml")
    start, end = text[: text.index("[") + 1], text[text.index("]") :]
    moved = [*numbers[:3], *map(str, np.array(numbers[3:6], dtype=float) + 2000), *numbers[6:]]
    own.metadata.write_text(start + " ".join(moved) + end)
    with pytest.raises(InputError, match=r"boxes: .* of the joints of S1 project into the boxes"):
        list(convert(of(own, tmp_path / "out")))


def test_the_choice_of_training_frames() -> None:
    poses_mm = np.cumsum(np.random.default_rng(0).uniform(-20, 20, (60, 4, 3)), axis=0)
    chosen = [0]
    for frame in range(60):
        if np.linalg.norm(poses_mm[frame] - poses_mm[chosen[-1]], axis=1).max() >= 40:
            chosen.append(frame)
    assert moved_frames(poses_mm).tolist() == chosen
    with pytest.raises(InputError, match="--frames every:0"):
        _ = Conversion("human36m", Path(), Path(), Path(), frames="every:0").every
