"""Readers of calibration files: each format gives the same made-up cameras, and bad files give one line."""

import re
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up_calibrations import (
    WRITERS,
    made_up_rig,
    write_anipose,
    write_caliscope,
    write_easymocap,
    write_own,
    write_panoptic,
    write_pose2sim,
    write_qualisys,
)

from poseboard.datasets import calibrations
from poseboard.datasets.calibrations import FORMATS, read_calibration
from poseboard.datasets.calibrations.format import Cameras, Document, Format
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError


def assert_same(read: Mapping[str, Camera], written: Mapping[str, Camera], tolerance: float = 1e-9) -> None:
    assert set(read) == set(written)
    for name, camera in written.items():
        for field in ("K", "R", "dist"):
            np.testing.assert_allclose(getattr(read[name], field), getattr(camera, field), rtol=0, atol=tolerance)
        np.testing.assert_allclose(read[name].t, camera.t, rtol=1e-12, atol=tolerance)
        assert read[name].size == camera.size


@pytest.mark.parametrize("tool", WRITERS)
def test_each_format_gives_the_cameras_that_were_written(tool: str, tmp_path: Path) -> None:
    write, name, unit, k3 = WRITERS[tool]
    names = ("cam_0", "cam_1", "cam_2") if tool == "caliscope" else ("left", "right", "back")
    cameras = made_up_rig(names, k3)
    calibration = read_calibration(write(tmp_path, cameras), unit)
    assert calibration.format == name
    assert calibration.unit_source == ("option" if unit else "format")
    assert_same(calibration.cameras, cameras)


def test_every_format_is_written_above() -> None:
    assert {name for _, name, _, _ in WRITERS.values()} == {kind.name for kind in FORMATS}


def test_a_format_is_a_file_and_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up format, as CONTRIBUTING describes it: a text file of camera centres above a floor."""

    def read(document: Document) -> Cameras:
        lines = (document.text or "").splitlines()[1:]
        K, down = np.diag([1000.0, 1000.0, 1.0]), np.diag([1.0, -1.0, -1.0])
        return Cameras({name: Camera(K, down, -down @ np.array([float(x), 0, 3])) for name, x in map(str.split, lines)})

    made_up = Format("ceiling", "made up", "centres", None, lambda d: (d.text or "").startswith("CEILING"), read)
    monkeypatch.setattr(calibrations, "FORMATS", (*FORMATS, made_up))
    (tmp_path / "rig.txt").write_text("CEILING\na 1\nb 2.5\n")
    calibration = read_calibration(tmp_path / "rig.txt", "m")
    assert calibration.format == "ceiling"
    np.testing.assert_allclose(calibration.cameras["b"].centre_mm, [2500, 0, 3000])


def test_the_lens_model_is_that_of_opencv(tmp_path: Path) -> None:
    cameras = read_calibration(write_panoptic(tmp_path, made_up_rig(k3=0.02))).cameras
    points = np.random.default_rng(0).normal([0, 0, 1000], 500, (50, 3))
    for camera in cameras.values():
        expected, _ = cv2.projectPoints(points, cv2.Rodrigues(camera.R)[0], camera.t, camera.K, camera.dist)
        np.testing.assert_allclose(camera.project(points), expected[:, 0], atol=1e-8)


@pytest.mark.parametrize(("unit", "scale"), [("m", 1000.0), ("cm", 10.0), ("mm", 1.0)])
def test_people_decide_the_unit_that_a_file_does_not_state(unit: str, scale: float, tmp_path: Path) -> None:
    path = write_pose2sim(tmp_path, made_up_rig(), scale)
    with pytest.raises(InputError, match="does not state its unit; add --unit m, cm or mm"):
        read_calibration(path)
    calibration = read_calibration(path, extent_of_people=lambda cameras: 1700 / scale)
    assert (calibration.unit, calibration.unit_source) == (unit, "people")
    assert_same(calibration.cameras, made_up_rig())
    with pytest.raises(InputError, match="not a size of a person in m, cm or mm"):
        read_calibration(path, extent_of_people=lambda cameras: 400 / scale)
    with pytest.raises(InputError, match="too few people could be measured"):
        read_calibration(path, extent_of_people=lambda cameras: None)


def test_a_unit_against_the_format_is_refused(tmp_path: Path) -> None:
    path = write_qualisys(tmp_path, made_up_rig())
    assert read_calibration(path, "mm").unit_source == "format"
    with pytest.raises(InputError, match="--unit m: the format qualisys has mm"):
        read_calibration(path, "m")
    with pytest.raises(InputError, match="--unit feet: no such unit"):
        read_calibration(path, "feet")


def test_names_with_spaces_and_umlauts(tmp_path: Path) -> None:
    names = ("Kamera über Tür", "caméra 2")
    cameras = made_up_rig(names)
    for index, write in enumerate((write_pose2sim, write_anipose, write_qualisys, write_panoptic, write_own)):
        folder = tmp_path / str(index)
        folder.mkdir()
        path = write(folder, cameras)
        assert_same(read_calibration(path, "m" if index == 0 else "mm" if index == 1 else None).cameras, cameras)


def test_a_folder_with_one_calibration_is_read(tmp_path: Path) -> None:
    write_qualisys(tmp_path, made_up_rig())
    (tmp_path / "notes.txt").write_text("lens 12 mm")
    (tmp_path / "Calib_board.jpg").write_bytes(b"\xff\xd8\xff")
    assert read_calibration(tmp_path).path.name == "Calib.qca.txt"
    write_pose2sim(tmp_path, made_up_rig())
    with pytest.raises(InputError, match=r"has 2 calibrations: Calib.qca.txt, Calib.toml; pass one of these files"):
        read_calibration(tmp_path)
    assert read_calibration(tmp_path, format="qualisys").format == "qualisys"


def test_two_readings_of_a_file_are_not_decided_by_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_own(tmp_path, made_up_rig())
    twin = Format("twin", "another tool", "camera to world", "mm", FORMATS[-1].recognises, FORMATS[-1].read)
    monkeypatch.setattr(calibrations, "FORMATS", (*FORMATS, twin))
    with pytest.raises(InputError, match="can be read as poseboard or twin; choose one with --format"):
        read_calibration(path)
    assert read_calibration(path, format="twin").convention == "camera to world"


def test_either_file_of_easymocap_stands_for_both(tmp_path: Path) -> None:
    write_easymocap(tmp_path, made_up_rig(k3=0.02))
    for file in ("intri.yml", "extri.yml"):
        assert_same(read_calibration(tmp_path / file, "m").cameras, made_up_rig(k3=0.02))
    (tmp_path / "extri.yml").unlink()
    with pytest.raises(InputError, match=r"extri.yml: R_left: field is missing"):
        read_calibration(tmp_path / "intri.yml", "m")


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    calibration = read_calibration(write_caliscope(tmp_path, made_up_rig(("cam_0", "cam_1"))))
    assert calibration.remarks == (
        "cam_2 is left out: the file says ignore = true",
        "cam_3 is left out: the file has no pose of it",
    )
    remarks = read_calibration(write_qualisys(tmp_path, made_up_rig())).remarks
    assert remarks == ("marker left is left out: Oqus 700 records markers, not video",)


FAULTS = {
    "rotation = ": ("rotaton = ", "Calib.toml: left.rotation: field is missing; export"),
    "fisheye = false": ("fisheye = true", "Calib.toml: left.fisheye: a fisheye lens is not supported; undistort"),
    "distortions = [": ("distortions = [0.1, ", "Calib.toml: left: "),
    "translation = [": ('translation = ["a", ', "Calib.toml: left.translation: is not a list of numbers"),
    "size = [ 1920": ("size = [ -1920", "Calib.toml: left.size: is -1920 x 1080, not whole"),
    "matrix = [[": ("matrix = [[nan, ", "Calib.toml: left.matrix: is not a list of numbers"),
    "[0.0, 0.0, 1.0]": ("[0.0, 0.0, 2.0]", "Calib.toml: left: the intrinsic matrix is not of the form"),
    "[0.0, 0.0,": ("[false, 0.0,", "Calib.toml: left.matrix: is not a list of numbers"),
    'name = "left"': ('name = "right"', "Calib.toml: right.name: 'right' names two cameras"),
    "rotation = [": ("rotation = [nan, ", "Calib.toml: left.rotation: has a number that is not finite"),
}  # fmt: skip


@pytest.mark.parametrize("old", FAULTS)
def test_a_wrong_field_is_named_in_one_line(old: str, tmp_path: Path) -> None:
    new, message = FAULTS[old]
    path = write_pose2sim(tmp_path, made_up_rig())
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    if old == "distortions = [":  # a fifth coefficient is k3
        assert read_calibration(path, "m").cameras["left"].dist[0] == 0.1
        path.write_text(text.replace(old, "distortions = [0.1, 0.2, ", 1))
        message = "Calib.toml: left.distortions: has 6 coefficients; give k1 k2 p1 p2"
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_calibration(path, "m")
    assert "\n" not in str(caught.value)


def test_a_richer_lens_model_is_refused(tmp_path: Path) -> None:
    path = write_pose2sim(tmp_path, made_up_rig())
    text = path.read_text()
    line = next(line for line in text.splitlines() if line.startswith("distortions"))
    path.write_text(text.replace(line, "distortions = [0.1, 0.2, 0.0, 0.0, 0.3, 0.0, 0.0, 0.0]", 1))
    np.testing.assert_array_equal(read_calibration(path, "m").cameras["left"].dist, [0.1, 0.2, 0, 0, 0.3])
    path.write_text(text.replace(line, "distortions = [0.1, 0.2, 0.0, 0.0, 0.3, 0.1, 0.0, 0.0]", 1))
    with pytest.raises(InputError, match="lens model of 8 coefficients, which is not supported; calibrate"):
        read_calibration(path, "m")


def test_a_mirrored_camera_is_no_rotation(tmp_path: Path) -> None:
    path = write_own(tmp_path, made_up_rig())
    text = path.read_text()
    row = str(made_up_rig()["right"].R.tolist()[0])
    path.write_text(text.replace(row, str([-value for value in made_up_rig()["right"].R.tolist()[0]])))
    with pytest.raises(InputError, match=r"cameras.yaml: cameras.right: camera R is not a rotation"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    t_mm", "    t_m", "cameras.left: t_mm: field is missing; add it"),
        ("    dist: [", "    distortion: [", "cameras.left: distortion: there is no such field; remove it, or use"),
        ("    f: [", "    K: [", "cameras.left: K.0: input should be a valid tuple"),
        ("    size: [1920", "    size: [19.5", "cameras.left: size.0: input should be a valid integer"),
        ("    t_mm: [", "    t_mm: [.nan, ", "cameras.left: t_mm: tuple should have at most 3 items"),
        ('  "left"', "  1", "cameras.1: is not a camera name"),
    ],
)  # fmt: skip
def test_our_own_form_is_strict(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = write_own(tmp_path, made_up_rig())
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=re.escape(message)):
        read_calibration(path)


@pytest.mark.parametrize("tool", WRITERS)
def test_damaged_files_give_one_line(tool: str, tmp_path: Path) -> None:
    write, _, unit, _ = WRITERS[tool]
    written = write(tmp_path, made_up_rig(("cam_0", "cam_1")))
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    refused = []
    for path in files:
        whole = path.read_bytes()
        cut = (whole[: len(whole) // 2], whole[: len(whole) // 3])
        for content in (b"", b"\x00nonsense", b"[" * 5000, b"\xff\xfe\x00", *cut):
            path.write_bytes(content)
            try:
                said = "; ".join(read_calibration(written, unit).remarks)
                refused += [said] if "left out" in said else []
            except InputError as error:
                refused.append(str(error))
        path.write_bytes(whole)
    assert not any("\n" in line for line in refused)
    assert len(refused) >= 4 * len(files), "a file that is cut between two cameras can be whole"


def test_absent_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_calibration(tmp_path / "nowhere.toml")
    (tmp_path / "notes.txt").write_text("lens 12 mm")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(
            InputError,
            match="is not a calibration of a known format; export it in one of these formats: anipose: Pose2Sim",
        ):
            read_calibration(path)
    with pytest.raises(InputError, match="--format anipos: no such format; did you mean anipose"):
        read_calibration(tmp_path, format="anipos")
    with pytest.raises(InputError, match="is not a calibration of the format qualisys"):
        read_calibration(tmp_path / "notes.txt", format="qualisys")
    (tmp_path / "evil.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><calibration><cameras/></calibration>')
    with pytest.raises(InputError, match="is not a calibration of a known format"):
        read_calibration(tmp_path / "evil.xml")
