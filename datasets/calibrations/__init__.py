"""Calibration files of other tools. A new format is one file with a `Format`, and its entry in `FORMATS`.

Files are recognised by their content. Cameras have millimetres and OpenCV's axes and lens model, whatever the file has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from poseboard.datasets.calibrations import anipose, caliscope, opencv, own, panoptic, qualisys
from poseboard.datasets.calibrations.format import UNIT_MM, Document, Format, Unit
from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError, did_you_mean

FORMATS: tuple[Format, ...] = (
    *(anipose.FORMAT, caliscope.FORMAT, qualisys.FORMAT),
    *(opencv.FORMAT, panoptic.FORMAT, own.FORMAT),
)
"""All formats that can be read."""

PERSON_MM = (900.0, 2600.0)
"""Plausible range of the extent of a standing person's joints. The range of one unit excludes those of the others."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibrated cameras of a file.

    Args:
        path: file or folder.
        format: name of the format.
        cameras: name -> camera, world mm.
        unit: unit of the file's translations.
        unit_source: "format", "people" or "option": what determined the unit.
        convention: how the numbers were read, one clause.
        remarks: what the reader left out or assumed, one sentence each.
    """

    path: Path
    format: str
    cameras: Mapping[str, Camera]
    unit: Unit
    unit_source: str
    convention: str
    remarks: tuple[str, ...] = ()


def read_calibration(
    path: Path,
    unit: str | None = None,
    format: str | None = None,
    extent_of_people: Callable[[Mapping[str, Camera]], float | None] | None = None,
) -> Calibration:
    """Read the cameras of a calibration file or folder.

    Args:
        path: file, or folder with several files of one calibration or with one calibration file.
        unit: unit of the translations, for formats that do not fix it.
        format: name of the format; None: recognised by content.
        extent_of_people: function of cameras in the unit of the file that returns the extent of a standing person in
            this unit, or None if it cannot be measured. It decides the unit if neither format nor ``unit`` does.

    Raises:
        InputError: the file is not recognised, matches several formats, has a wrong field, or its unit is unknown.

    Example:
        >>> read_calibration(Path("Calib.qca.txt")).cameras["cam01"].centre_mm  # doctest: +SKIP
        array([ 1460.2, -1909.2,  1896.5])
    """
    path = Path(path)
    if not path.exists():
        raise InputError(path, "there is no such file", "correct the path of the calibration")
    document, kind = _recognised(Document(path), format)
    content = kind.read(document)
    if not content.cameras:
        raise InputError(document.path, "has no camera", "export the calibration with its cameras")
    decided, source = _unit(kind, unit, document.path, content.cameras, extent_of_people)
    scale = UNIT_MM[decided]
    return Calibration(
        path=document.path,
        format=kind.name,
        cameras={name: replace(camera, t=camera.t * scale) for name, camera in content.cameras.items()},
        unit=decided,
        unit_source=source,
        convention=kind.convention,
        remarks=content.remarks,
    )


def _recognised(document: Document, name: str | None) -> tuple[Document, Format]:
    """Return the calibration file and its format. In a folder of other files, find the only calibration file."""
    kinds = {kind.name: kind for kind in FORMATS}
    if name is not None:
        if name not in kinds:
            raise InputError(f"--format {name}", "no such format", did_you_mean(name, kinds))
        kinds = {name: kinds[name]}
    candidates = [document, *document.files.values()]
    matches = [(part, kind) for part in candidates for kind in kinds.values() if kind.recognises(part)]
    if any(part is document for part, _ in matches):
        matches = [match for match in matches if match[0] is document]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        titles = "; ".join(f"{kind.name}: {kind.title}" for kind in kinds.values())
        problem = (
            "is not a calibration of a known format" if name is None else f"is not a calibration of the format {name}"
        )
        raise InputError(document.path, problem, f"export it in one of these formats: {titles}")
    parts = list(dict.fromkeys(part.path.name for part, _ in matches))
    if len(parts) > 1:
        raise InputError(document.path, f"has {len(parts)} calibrations: {', '.join(parts)}", "pass one of these files")
    names = " or ".join(kind.name for _, kind in matches)
    raise InputError(document.path, f"can be read as {names}", "choose one with --format")


def _unit(
    kind: Format,
    option: str | None,
    path: Path,
    cameras: Mapping[str, Camera],
    extent_of_people: Callable[[Mapping[str, Camera]], float | None] | None,
) -> tuple[Unit, str]:
    """Return the unit of the translations and its source: "format", "people" or "option"."""
    units: tuple[Unit, ...] = get_args(Unit)
    if option is not None:
        chosen = next((unit for unit in units if unit == option), None)
        if chosen is None:
            raise InputError(f"--unit {option}", "no such unit", f"use one of {', '.join(units)}")
        if kind.unit not in (None, chosen):
            raise InputError(f"--unit {option}", f"the format {kind.name} has {kind.unit}", "leave the option out")
        return chosen, "option" if kind.unit is None else "format"
    if kind.unit is not None:
        return kind.unit, "format"
    problem = "the file does not state its unit"
    if extent_of_people is not None:
        extent = extent_of_people(cameras)
        if extent is None:
            problem += ", and too few people could be measured"
        else:
            fitting = [unit for unit in units if PERSON_MM[0] <= extent * UNIT_MM[unit] <= PERSON_MM[1]]
            if len(fitting) == 1:
                return fitting[0], "people"
            problem += f", and people measure {extent:.4g} in it, which is not a size of a person in m, cm or mm"
    raise InputError(path, problem, "add --unit m, cm or mm (Pose2Sim writes m, FreeMoCap mm)")
