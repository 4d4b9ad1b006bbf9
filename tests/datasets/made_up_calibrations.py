"""A made-up rig, written in the convention of each format of calibration files.

The files are written by hand, from the conventions that the tools document; no reader or writer of ours takes part.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from poseboard.datasets.camera import Camera


def made_up_rig(names: tuple[str, ...] = ("left", "right", "back"), k3: float = 0.0) -> dict[str, Camera]:
    """Cameras on a circle of 4 m that look at (0, 0, 1000) mm, each with its own lens."""
    cameras = {}
    for index, name in enumerate(names):
        angle = 0.3 + 1.9 * index
        centre = np.array([4000 * np.cos(angle), 4000 * np.sin(angle), 1500.0 + 100 * index])
        forward = np.array([0, 0, 1000.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        K = np.array([[1400.0 + 10 * index, 0, 955.5], [0, 1405.25 + index, 541.25], [0, 0, 1]])
        dist = np.array([-0.11 + 0.01 * index, 0.07, 0.0011, -0.0007, k3])
        cameras[name] = Camera(K, R, -R @ centre, dist, (1920, 1080 + 4 * index))
    return cameras


def _rodrigues(R: np.ndarray) -> list[float]:
    return [float(value) for value in cv2.Rodrigues(R)[0].ravel()]


def _toml(camera: Camera, unit_mm: float, coefficients: int = 4) -> str:
    t = (camera.t / unit_mm).tolist()
    return (
        f"size = [ {camera.size[0]}, {camera.size[1]}]\nmatrix = {camera.K.tolist()}\n"
        f"distortions = {camera.dist[:coefficients].tolist()}\nrotation = {_rodrigues(camera.R)}\ntranslation = {t}\n"
    )


def write_pose2sim(folder: Path, cameras: Mapping[str, Camera], unit_mm: float = 1000.0) -> Path:
    """Pose2Sim's Calib.toml: metres, sizes as floats."""
    parts = [
        f'["{name}"]\nname = "{name}"\n{_toml(camera, unit_mm)}fisheye = false\n\n' for name, camera in cameras.items()
    ]
    path = folder / "Calib.toml"
    path.write_text("".join(parts) + "[metadata]\nadjusted = false\nerror = 0.0\n", encoding="utf-8")
    return path


def write_anipose(folder: Path, cameras: Mapping[str, Camera]) -> Path:
    """Anipose's calibration.toml: numbered tables, five coefficients, here of a board measured in millimetres."""
    parts = [f'[cam_{i}]\nname = "{name}"\n{_toml(c, 1.0, 5)}\n' for i, (name, c) in enumerate(cameras.items())]
    path = folder / "calibration.toml"
    path.write_text("".join(parts) + "[metadata]\nadjusted = true\nerror = 0.31\n", encoding="utf-8")
    return path


def write_caliscope(folder: Path, cameras: Mapping[str, Camera]) -> Path:
    """caliscope's camera_array.toml with the names cam_0, cam_1, …; a camera without a pose, and an ignored one."""
    parts = [
        f"[cameras.{i}]\ncam_id = {i}\nrotation_count = 0\nerror = 0.4\nfisheye = false\n{_toml(camera, 1000.0, 5)}\n"
        for i, camera in enumerate(cameras.values())
    ]
    more = len(parts)
    first = _toml(next(iter(cameras.values())), 1000.0, 5)
    parts.append(f"[cameras.{more}]\ncam_id = {more}\nignore = true\n{first}\n")
    parts.append(f"[cameras.{more + 1}]\ncam_id = {more + 1}\nsize = [640, 480]\n\n")
    path = folder / "camera_array.toml"
    path.write_text("".join(parts), encoding="utf-8")
    return path


def write_qualisys(folder: Path, cameras: Mapping[str, Camera]) -> Path:
    """Qualisys' file: camera centres in mm, axes x right, y up, z backward, 1/64 px; a marker camera."""
    parts = []
    left, top = 64, 16
    for name, camera in cameras.items():
        axes = np.diag([1, -1, -1]) @ camera.R
        rotation = " ".join(f'r{i + 1}{j + 1}="{float(axes[i, j])!r}"' for i in range(3) for j in range(3))
        x, y, z = camera.centre_mm.tolist()
        k1, k2, p1, p2, _ = camera.dist.tolist()
        right, bottom = left + camera.size[0] - 1, top + camera.size[1] - 1
        K = camera.K
        parts.append(
            f'<camera active="1" avg-residual="0.4" model="Miqus Video" serial="{name}" viewrotation="0">'
            f'<fov_video left="{left}" top="{top}" right="{right}" bottom="{bottom}"/>'
            f'<transform x="{x!r}" y="{y!r}" z="{z!r}" {rotation}/>'
            f'<intrinsic focalLengthU="{64 * float(K[0, 0])!r}" focalLengthV="{64 * float(K[1, 1])!r}" '
            f'centerPointU="{64 * float(K[0, 2] + left)!r}" centerPointV="{64 * float(K[1, 2] + top)!r}" '
            f'skew="0" radialDistortion1="{k1!r}" radialDistortion2="{k2!r}" radialDistortion3="0" '
            f'tangentalDistortion1="{p1!r}" tangentalDistortion2="{p2!r}"/></camera>'
        )
    marker = parts[0].replace("Miqus Video", "Oqus 700").replace('serial="', 'serial="marker ')
    path = folder / "Calib.qca.txt"
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><calibration><cameras>{"".join(parts)}{marker}</cameras></calibration>'
    )
    path.write_text(text, encoding="utf-8")
    return path


def _matrix(key: str, values: np.ndarray) -> str:
    values = np.atleast_2d(values)
    data = ", ".join(repr(float(value)) for value in values.ravel())
    rows, cols = values.shape
    return f"{key}: !!opencv-matrix\n   rows: {rows}\n   cols: {cols}\n   dt: d\n   data: [ {data} ]\n"


def write_easymocap(folder: Path, cameras: Mapping[str, Camera]) -> Path:
    """EasyMocap's intri.yml and extri.yml, here in metres. Returns the folder."""
    names = "names:\n" + "".join(f'  - "{name}"\n' for name in cameras)
    intri = "".join(
        _matrix(f"K_{name}", camera.K)
        + _matrix(f"dist_{name}", camera.dist)
        + f"H_{name}: {camera.size[1]}\nW_{name}: {camera.size[0]}\n"
        for name, camera in cameras.items()
    )
    extri = "".join(
        _matrix(f"R_{name}", np.array(_rodrigues(camera.R))[:, None])
        + _matrix(f"Rot_{name}", camera.R)
        + _matrix(f"T_{name}", camera.t[:, None] / 1000)
        for name, camera in cameras.items()
    )
    for file, content in (("intri.yml", intri), ("extri.yml", extri)):
        (folder / file).write_text(f"%YAML:1.0\n---\n{names}{content}", encoding="utf-8")
    return folder


def write_openpose(folder: Path, cameras: Mapping[str, Camera]) -> Path:
    """OpenPose's camera parameters: one XML file per camera, eight coefficients. Returns the folder."""
    for name, camera in cameras.items():
        storage = cv2.FileStorage(str(folder / f"{name}.xml"), cv2.FILE_STORAGE_WRITE)
        storage.write("CameraMatrix", np.hstack([camera.R, camera.t[:, None] / 10]))
        storage.write("Intrinsics", camera.K)
        storage.write("Distortion", np.pad(camera.dist, (0, 3))[:, None])
        storage.write("image_width", camera.size[0])
        storage.write("image_height", camera.size[1])
        storage.release()
    return folder


def write_panoptic(folder: Path, cameras: Mapping[str, Camera]) -> Path:
    """CMU Panoptic's calibration: centimetres."""
    entries = [
        {
            "name": name, "type": "hd", "resolution": list(camera.size), "K": camera.K.tolist(),
            "distCoef": camera.dist.tolist(), "R": camera.R.tolist(), "t": (camera.t[:, None] / 10).tolist(),
        }
        for name, camera in cameras.items()
    ]  # fmt: skip
    path = folder / "calibration_171204_pose1.json"
    path.write_text(json.dumps({"calibDataSource": "made up", "cameras": entries}), encoding="utf-8")
    return path


def write_own(folder: Path, cameras: Mapping[str, Camera]) -> Path:
    """Our own form: one camera by f, c and a rotation vector, the others by K and R."""
    lines = ["cameras:"]
    for index, (name, camera) in enumerate(cameras.items()):
        K = camera.K
        lines.append(f'  "{name}":')
        lines.append(f"    size: {list(camera.size)}")
        if index == 0:
            f, c = [float(K[0, 0]), float(K[1, 1])], [float(K[0, 2]), float(K[1, 2])]
            lines += [f"    f: {f}", f"    c: {c}", f"    rotation: {_rodrigues(camera.R)}"]
        else:
            lines += [f"    K: {K.tolist()}", f"    R: {camera.R.tolist()}"]
        lines += [f"    dist: {camera.dist.tolist()}", f"    t_mm: {camera.t.tolist()}"]
    path = folder / "cameras.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


WRITERS: dict[str, tuple[Callable[[Path, Mapping[str, Camera]], Path], str, str | None, float]] = {
    "pose2sim": (write_pose2sim, "anipose", "m", 0.0),
    "anipose": (write_anipose, "anipose", "mm", 0.02),
    "caliscope": (write_caliscope, "caliscope", None, 0.02),
    "qualisys": (write_qualisys, "qualisys", None, 0.0),
    "easymocap": (write_easymocap, "opencv", "m", 0.02),
    "openpose": (write_openpose, "opencv", "cm", 0.02),
    "panoptic": (write_panoptic, "panoptic", None, 0.02),
    "own": (write_own, "poseboard", None, 0.02),
}
"""Tool -> writer, format, unit that has to be given, third radial coefficient that the format can hold."""
