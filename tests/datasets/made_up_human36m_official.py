"""A made-up official download of Human3.6M: archives of CDF, MATLAB 7.3 and MP4 files, and metadata.xml."""

import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import h5py
import numpy as np
from cdflib.cdfwrite import CDF
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
OF_32 = (3, 2, 1, 6, 7, 8, 0, 12, 13, 15, 27, 26, 25, 17, 18, 19, 14)
SEQUENCES = {"Directions-1": "Directions 1", "Directions-2": "Directions"}
FRAMES = 70
SIDE_PX = 96


@dataclass
class OfficialDownload:
    """What was written.

    Args:
        folder: folder of the archives.
        metadata: path of metadata.xml.
        poses_mm: (subject, sequence) -> (T, 32, 3).
        cameras: (subject, camera) -> R, t, K, dist (k1, k2, p1, p2, k3).
        masks: (subject, sequence, camera) -> (T, 4) first and last row, first and last column with a set pixel.
        images: (subject, sequence, camera) -> (T, H, W, 3) RGB before compression.
    """

    folder: Path
    metadata: Path
    poses_mm: dict[tuple[str, str], NDArray[np.float32]] = field(default_factory=dict)
    cameras: dict[tuple[str, str], tuple[NDArray[np.float64], ...]] = field(default_factory=dict)
    masks: dict[tuple[str, str, str], NDArray[np.int64]] = field(default_factory=dict)
    images: dict[tuple[str, str, str], NDArray[np.uint8]] = field(default_factory=dict)


def write_official(root: Path) -> OfficialDownload:
    """Write seven subjects with two sequences each; S11 Directions-2 lacks the first camera."""
    rng = np.random.default_rng(5)
    download = OfficialDownload(root / "archives", root / "metadata.xml")
    download.folder.mkdir(parents=True)
    w0 = _cameras(download, rng)
    download.metadata.write_text(_metadata(w0))
    scratch = root / "scratch"
    scratch.mkdir()
    for subject in SUBJECTS:
        poses, choice, boxes, videos = {}, {}, {}, {}
        for sequence, prefix in SEQUENCES.items():
            body = rng.uniform([-300, -300, 0], [300, 300, 1700], (32, 3))
            steps = rng.uniform(-25, 25, (FRAMES, 1, 3)).cumsum(axis=0)
            poses_mm = (body + steps).astype(np.float32)
            download.poses_mm[subject, sequence] = poses_mm
            poses[f"{prefix}.cdf"] = _cdf(scratch, poses_mm)
            for camera in CAMERAS:
                choice[f"{prefix}.{camera}.cdf"] = _cdf(scratch, 0.9 * poses_mm)
                if (subject, sequence, camera) == ("S11", "Directions-2", CAMERAS[0]):
                    continue
                name = f"{prefix}.{camera}"
                bounds = _bounds(download.cameras[subject, camera], poses_mm[:, OF_32, :])
                download.masks[subject, sequence, camera] = bounds
                boxes[f"{name}.mat"] = _masks(scratch, bounds)
                frames = _pictures(rng, bounds)
                download.images[subject, sequence, camera] = frames
                videos[f"{name}.mp4"] = video(scratch, frames)
        archives = {
            f"Poses_D3_Positions_{subject}.tgz": poses,
            f"Poses_D3_Positions_mono_universal_{subject}.tgz": choice,
            f"Segments_mat_gt_bb_{subject}.tgz": boxes,
            f"Videos_{subject}.tgz": videos,
        }
        for name, files in archives.items():
            write_archive(
                download.folder / name, {f"{subject}/Some Folder/{file}": data for file, data in files.items()}
            )
    return download


def write_archive(path: Path, files: dict[str, bytes | None]) -> None:
    """Write a compressed tar file; a file without content is a symbolic link."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            if data is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(member)
            else:
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def read_archive(path: Path) -> dict[str, bytes | None]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]


def video(scratch: Path, frames: NDArray[np.uint8]) -> bytes:
    path = scratch / "video.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 50, (frames.shape[2], frames.shape[1]))
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path.read_bytes()


def _cameras(download: OfficialDownload, rng: np.random.Generator) -> NDArray[np.float64]:
    """Cameras in a ring that look at the middle; returns the 300 numbers of metadata.xml."""
    extrinsics, intrinsics = np.zeros((4, 11, 6)), np.zeros((4, 9))
    for c in range(4):
        intrinsics[c] = (110, 112, 48, 47, -0.2, 0.24, -0.003, -0.0014, -0.001)
        for s in range(11):
            angle = c * np.pi / 2 + rng.uniform(-0.2, 0.2)
            centre = np.array([4500 * np.cos(angle), 4500 * np.sin(angle), 1500 + rng.uniform(-100, 100)])
            z = np.array([0, 0, 900]) - centre
            z /= np.linalg.norm(z)
            x = np.cross(z, [0, 0, 1])
            x /= np.linalg.norm(x)
            R = np.stack([x, np.cross(z, x), z])
            extrinsics[c, s] = (*Rotation.from_matrix(R).as_euler("XYZ"), *centre)
            fx, fy, cx, cy, k1, k2, k3, p1, p2 = intrinsics[c]
            K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
            download.cameras[f"S{s + 1}", CAMERAS[c]] = (R, -R @ centre, K, np.array([k1, k2, p1, p2, k3]))
    return np.concatenate([extrinsics.ravel(), intrinsics.ravel()])


def _metadata(w0: NDArray[np.float64]) -> str:
    rows = [["Action", "subaction", *(f"S{n}" for n in range(1, 12))], ["1", "1", *["_ALL"] * 11]]
    rows += [["2", name[-1], *[prefix] * 11] for name, prefix in SEQUENCES.items()]
    table = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    serials = "".join(f"<item>{serial}</item>" for serial in CAMERAS)
    numbers = " ".join(repr(float(number)) for number in w0)
    return (
        f"<metadata><mapping>{table}</mapping><actionnames><item>All</item><item>Directions</item></actionnames>"
        f"<dbcameras><index2id>{serials}</index2id></dbcameras><w0>[{numbers}]</w0></metadata>"
    )


def _cdf(scratch: Path, poses_mm: NDArray[np.floating]) -> bytes:
    path = scratch / "poses.cdf"
    path.unlink(missing_ok=True)
    values = poses_mm.reshape(1, len(poses_mm), 96).astype(np.float32)
    file = CDF(path, cdf_spec={"Majority": "row_major", "Compressed": 0})
    variable = {
        "Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True,
        "Dim_Sizes": [len(poses_mm), 96], "Var_Type": "zVariable", "Dim_Vary": [True, True],
    }  # fmt: skip
    file.write_var(variable, var_data=values)
    file.close()
    return path.read_bytes()


def _bounds(camera: tuple[NDArray[np.float64], ...], joints_mm: NDArray[np.floating]) -> NDArray[np.int64]:
    """First and last row, first and last column of a mask around the projected joints, (T, 4)."""
    R, t, K, _ = camera
    x = joints_mm @ R.T + t
    pixels = x[..., :2] / x[..., 2:] @ K[:2, :2].T + K[:2, 2]
    low, high = np.floor(pixels.min(axis=1)) - 2, np.ceil(pixels.max(axis=1)) + 2
    bounds = np.stack([low[:, 1], high[:, 1], low[:, 0], high[:, 0]], axis=1)
    return np.clip(bounds, 0, SIDE_PX - 1).astype(np.int64)


def _masks(scratch: Path, bounds: NDArray[np.int64]) -> bytes:
    path = scratch / "masks.mat"
    with h5py.File(path, "w") as file:
        group = file.create_group("#refs#")
        references = np.empty((len(bounds), 1), dtype=h5py.ref_dtype)
        for frame, (top, bottom, left, right) in enumerate(bounds):
            mask = np.zeros((SIDE_PX, SIDE_PX), dtype=np.uint8)
            mask[top, left : right + 1] = mask[bottom, left : right + 1] = 1
            mask[top : bottom + 1, left] = mask[top : bottom + 1, right] = 1
            references[frame, 0] = group.create_dataset(str(frame), data=mask.T, compression=1).ref
        file.create_dataset("Masks", data=references, dtype=h5py.ref_dtype)
    return path.read_bytes()


def _pictures(rng: np.random.Generator, bounds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Smooth background with a bright box where the mask is."""
    across = np.linspace(30, 120, SIDE_PX)
    horizontal, vertical = np.meshgrid(across, across)
    background = np.stack([horizontal, vertical, np.full_like(horizontal, rng.uniform(40, 100))], axis=-1)
    frames = np.repeat(background[None], len(bounds), axis=0)
    for frame, (top, bottom, left, right) in zip(frames, bounds, strict=True):
        frame[top : bottom + 1, left : right + 1] += 90
    return frames.round().astype(np.uint8)
