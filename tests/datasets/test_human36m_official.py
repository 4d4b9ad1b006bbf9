"""Readers of the official Human3.6M download: cameras of the release, file names of subjects, damaged files."""

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from cdflib.cdfwrite import CDF
from made_up_human36m_official import CAMERAS

from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m_official import read_boxes, read_metadata, read_poses

# Camera 54138969 of S1. The second and third angle follow from the first row of its published rotation, the first
# from its published translation. The rest of both is left to check.
ANGLES = (1.757789, 0.025751, -2.727957)
CENTRE_MM = (1841.107, 4955.285, 1563.445)
INTRINSICS = (1145.0494, 1143.7811, 512.5415, 515.4515, -0.2071, 0.2478, -0.0031, -0.0014, -0.0010)
HEADER = ("Action", "subaction", *(f"S{number}" for number in range(1, 12)))


def write_metadata(path: Path, rows: list[tuple[str, ...]], encoding: str = "utf-8", doctype: str = "") -> Path:
    w0 = np.zeros((75, 4))
    w0[:] = 1.0
    w0 = w0.ravel()
    w0[:6], w0[264:273] = (*ANGLES, *CENTRE_MM), INTRINSICS
    table = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in [HEADER, *rows])
    items = "".join(f"<item>{name}</item>" for name in ("All", "Directions", "Greeting"))
    serials = "".join(f"<item>{serial}</item>" for serial in CAMERAS)
    text = (
        f"<?xml version='1.0' encoding='{encoding}'?>{doctype}<metadata><mapping>{table}</mapping>"
        f"<actionnames>{items}</actionnames><dbcameras><index2id>{serials}</index2id></dbcameras>"
        f"<w0>[{' '.join(map(repr, w0.tolist()))}]</w0></metadata>"
    )
    path.write_bytes(text.encode(encoding))
    return path


def row(action: int, trial: int, prefix: str, s11: str) -> tuple[str, ...]:
    return (str(action), str(trial), *[prefix] * 10, s11)


ROWS = [row(1, 1, "_ALL", "_ALL"), row(3, 1, "Greeting 1", "Greeting 2"), row(3, 2, "Greeting", "Greeting")]


def test_camera_of_the_release(tmp_path: Path) -> None:
    camera = read_metadata(write_metadata(tmp_path / "metadata.xml", ROWS)).cameras["S1"]["54138969"]
    np.testing.assert_allclose(camera.R[0], (-0.915362, 0.401808, 0.025748), atol=4e-6)
    np.testing.assert_allclose(camera.R[:, 0], (-0.91536, 0.05155, -0.39932), atol=2e-5)
    np.testing.assert_allclose(camera.centre_mm, CENTRE_MM)
    np.testing.assert_allclose(camera.t, (-346.05, 546.98, 5474.48), atol=0.2)
    np.testing.assert_allclose(camera.dist, (-0.2071, 0.2478, -0.0014, -0.0010, -0.0031))
    assert camera.K.tolist() == [[1145.0494, 0, 512.5415], [0, 1143.7811, 515.4515], [0, 0, 1]]


def test_file_names_are_of_the_subject(tmp_path: Path) -> None:
    metadata = read_metadata(write_metadata(tmp_path / "metadata.xml", ROWS))
    prefixes = {str(sequence): sequence.prefix for sequence in metadata.sequences}
    assert prefixes["S1/Greeting-1"] == "Greeting 1"
    assert prefixes["S11/Greeting-1"] == "Greeting 2"
    assert metadata.names == ("Greeting-1", "Greeting-2")


@pytest.mark.parametrize("last", [row(3, 1, "Greeting 3", "Greeting 3"), row(2, 1, "Directions", "Greeting 2")])
def test_sequences_that_occur_twice(tmp_path: Path, last: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"metadata\.xml: mapping: S\d+: 'Greeting.* occurs twice"):
        read_metadata(write_metadata(tmp_path / "metadata.xml", [*ROWS, last]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    path = write_metadata(tmp_path / "metadata.xml", ROWS, encoding)
    assert read_metadata(path).names
    write_metadata(path, ROWS, encoding, "<!DOCTYPE metadata [<!ENTITY a 'b'>]>")
    with pytest.raises(InputError, match="declares entities"):
        read_metadata(path)


@pytest.mark.parametrize("shape", [(96,), (2, 5, 96), (1, 5, 95)])
def test_poses_of_another_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = CDF(tmp_path / "poses.cdf")
    variable = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": [*shape[1:]]}
    file.write_var(variable, var_data=np.zeros(shape, np.float32))
    file.close()
    with pytest.raises(InputError, match=r"poses\.cdf: Pose: is .* not floats \(1, T, 96\)"):
        read_poses(tmp_path / "poses.cdf")


def test_masks_are_read_one_at_a_time(tmp_path: Path) -> None:
    mask = np.zeros((500, 600), np.uint8)
    mask[100:400, 50:90] = 1
    with h5py.File(tmp_path / "masks.mat", "w") as file:
        stored = file.create_dataset("#refs#/mask", data=mask.T, compression=1)
        references = np.empty((200, 1), dtype=h5py.ref_dtype)
        references[:] = stored.ref
        file.create_dataset("Masks", data=references, dtype=h5py.ref_dtype)
    tracemalloc.start()
    boxes = read_boxes(tmp_path / "masks.mat", np.arange(250))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert boxes.tolist() == [[100, -80, 400, 220]] * 200
    assert peak < 10 * mask.nbytes
