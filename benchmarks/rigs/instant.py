"""2D and 3D pose of one person from several views of one instant (`poseboard demo --calibration`).

Also draws the 2D skeletons of `poseboard demo` into single photographs if the weights of the 2D detector exist.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Picture

from poseboard.datasets.blazepose import BlazePose, Region
from poseboard.datasets.calibrations import read_calibration
from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import write_file
from poseboard.datasets.keypoints.joint_sets import BLAZEPOSE
from poseboard.datasets.sample import Group, Image, Sample, View, read_image
from poseboard.methods.drawing.people import ViewOfPeople, draw_people
from poseboard.methods.drawing.style import pixels
from poseboard.methods.geometry.observations import observe
from poseboard.methods.geometry.triangulation import reprojection_error
from poseboard.methods.nets.triangulator import ASSOCIATION_PX
from poseboard.methods.ransac.method import Ransac

_COLOUR = (0, 114, 178)
_SURE = 0.5
"""Confidence below which a joint is not drawn."""
_MARGIN = 1.2
"""Side of the square around a box, divided by the longer side of the box."""


def instant(
    images: Sequence[Path], calibration: Path, weights: Path, out: Path, unit: str | None = None
) -> tuple[Path, list[str]]:
    """Detect one person in views of one instant, triangulate, and draw all views and the pose in 3D.

    Args:
        images: one image per camera, named like the camera.
        calibration: calibration file of the cameras (`read_calibration`).
        weights: weights of BlazePose.
        out: folder for the picture.
        unit: unit of the calibration, if its format has no fixed unit.

    Returns:
        Path of the picture, and messages for the user: detections, and agreement of the views.

    Raises:
        InputError: an image, the calibration or the weights cannot be read, a name is not a camera, or the person is
            detected in fewer than two views.
    """
    cameras = read_calibration(calibration, unit).cameras
    network = BlazePose(weights)
    views, lines = [], []
    for path in images:
        camera = cameras.get(path.stem)
        if camera is None:
            names = ", ".join(cameras)
            raise InputError(path, f"{path.stem} is not a camera of {calibration.name}", f"name images like {names}")
        view = _view(path, camera, network)
        views.append(view)
        lines.append(f"{path.name}: " + ("one person" if np.isfinite(view.boxes_px).all() else "no person"))
    if sum(np.isfinite(view.boxes_px).all() for view in views) < 2:
        raise InputError(", ".join(path.name for path in images), "fewer than two views have a person", "add views")
    sample = Sample("instant", tuple(views), Group("instant", "instant", "instant"))
    method = Ransac({"swaps": True}, BLAZEPOSE)
    (poses,) = method.predict([sample])
    observed = observe([sample], BLAZEPOSE, ASSOCIATION_PX)
    residuals_px = reprojection_error(observed.P, poses.joints_mm, observed.points_px)
    lines.append(f"median distance of joints from their detections: {np.nanmedian(residuals_px):.1f} px")
    drawn = [
        ViewOfPeople(view.name, view.camera.size, view.pixels(), view.joints_px, view.camera.project(poses.joints_mm))
        for view in views
        if view.joints_px is not None
    ]
    target = out / "instant.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, _png(pixels(draw_people(drawn, poses.joints_mm, BLAZEPOSE))))
    return target, lines


def with_skeletons(image: Image, boxes_px: Array, network: BlazePose) -> Image:
    """Draw the 2D skeleton of the person in each box (P, 4) into a copy of an image (H, W, 3)."""
    drawn = np.ascontiguousarray(image.copy())
    width = max(1, round(max(image.shape[:2]) / 300))
    for left, upper, right, lower in boxes_px.tolist():
        side = _MARGIN * max(right - left, lower - upper)
        person = network.detect(image, Region((left + right) / 2, (upper + lower) / 2, side))
        person = network.detect(image, person.region)
        for a, b in BLAZEPOSE.edge_indices:
            if min(person.confidence[[a, b]]) >= _SURE:
                ends = [tuple(map(round, person.xy_px[joint].tolist())) for joint in (a, b)]
                cv2.line(drawn, ends[0], ends[1], _COLOUR, width, cv2.LINE_AA)
    return drawn


def _view(path: Path, camera: Camera, network: BlazePose) -> View:
    """View of an image with its largest person; NaN without a person."""
    image = read_image(path)
    size = (image.shape[1], image.shape[0])
    if min(camera.size) > 0 and camera.size != size:
        problem = f"is {size[0]} x {size[1]}, its calibration is for {camera.size[0]} x {camera.size[1]}"
        raise InputError(path, problem, "use an image with the size of the calibration")
    people = network.find(image)
    joints_px, confidence = np.full((1, len(BLAZEPOSE), 2), np.nan), np.zeros((1, len(BLAZEPOSE)))
    if people:
        joints_px, confidence = people[0].xy_px[None], people[0].confidence[None]
    box = np.concatenate([joints_px.min(axis=1), joints_px.max(axis=1)], axis=1)
    own = Camera(camera.K, camera.R, camera.t, camera.dist, size, camera.distortion)
    return View(path.stem, own, image, box, joints_px, confidence)


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    Picture.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
