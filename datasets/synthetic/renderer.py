"""Pictures of people, furniture and a room by analytic ray casting.

Frames: world z up, millimetres; cameras after OpenCV. A pixel's centre has whole coordinates, as in ``camera``. Rays
run through the lens, so an image is distorted as the camera says. Equal inputs give equal bytes.

Speed comes from culling: a camera's empty room is kept, solids are listed per screen tile, so that background pixels
test nothing, and per cell of a grid across the light, so that a shadow ray tests only what stands in its column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.synthetic import casting


@dataclass(frozen=True, eq=False)
class Solids:
    """Everything in a room at one instant.

    Args:
        cones: (N, 8) ends a and b (mm) and radii at a and b.
        frames: (N, 12) forward, left, up unit vectors of the part and the origin of its texture (mm).
        paint: (N, 3) material up to ``cut`` of the way from a to b, material beyond, cut.
        owner: (N,) person that a cone belongs to.
        boxes: (B, 8) centre, half extents (mm), cosine and sine of the yaw.
        box_material: (B,).
        materials: (M, 16), see MATERIAL_COLUMNS.
    """

    cones: Array
    frames: Array
    paint: Array
    owner: NDArray[np.int64]
    boxes: Array
    box_material: NDArray[np.int64]
    materials: Array


@dataclass(frozen=True, eq=False)
class Room:
    """A box room: half width (x), half depth (y), height in mm, and a texture for each of its six faces.

    ``textures`` is (6, h, w, 3) float32 linear light, faces in the order floor, ceiling, -x, +x, -y, +y; rows run along
    z (y for floor and ceiling) and columns along the other axis.
    """

    half_x_mm: float
    half_y_mm: float
    height_mm: float
    textures: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Light:
    """One directional light with shadows, ambient light from above, and what the sensor makes of it.

    Args:
        direction: (3,) unit vector towards the light.
        key: strength of the directional light.
        ambient: strength of the light from everywhere.
        tint: (3,) colour gains.
        noise: standard deviation of the sensor noise, grey levels.
    """

    direction: Array
    key: float
    ambient: float
    tint: Array
    noise: float


@dataclass(frozen=True, eq=False)
class Picture:
    """A rendered view.

    Args:
        image: (H, W, 3) uint8 RGB through the lens.
        ids: (H, W) int32 what each pixel's centre sees: cone index, then boxes from N on, -1 to -6 the room's faces.
        silhouette: (H, W) bool where person 0 would be seen if nothing stood before it.
    """

    image: NDArray[np.uint8]
    ids: NDArray[np.int32]
    silhouette: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Backdrop:
    """What a camera sees of an empty room: worth keeping, since a rig's cameras stand still.

    Args:
        camera: with its size set.
        room: around it.
        directions: (H, W, 3) ``rays(camera)``.
        albedo: (H, W, 3) float32 linear colour of the room, four rays a pixel.
        distance_mm: (H, W) to the room along the pixel's ray.
        face: (H, W) uint8 face of the room.
    """

    camera: Camera
    room: Room
    directions: Array
    albedo: NDArray[np.float32]
    distance_mm: Array
    face: NDArray[np.uint8]


def rays(camera: Camera) -> Array:
    """(H, W, 3) ray direction of each pixel in the camera frame, with z = 1, the lens undone."""
    width, height = camera.size
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float64)
    pixels = camera.undistort(grid)
    inverse = np.linalg.inv(camera.K)
    return np.asarray(np.concatenate([pixels, np.ones((height, width, 1))], -1) @ inverse.T)


def backdrop(room: Room, camera: Camera, directions: Array | None = None) -> Backdrop:
    """The empty room through a camera that stands in it; ``directions`` are ``rays(camera)`` if they are at hand."""
    width, height = camera.size
    directions = rays(camera) if directions is None else directions
    albedo = np.empty((height, width, 3), np.float32)
    distance, face = np.empty((height, width)), np.empty((height, width), np.uint8)
    casting.backdrop(directions, camera.R, _settings(camera, room, None), room.textures, albedo, distance, face)
    return Backdrop(camera, room, directions, albedo, distance, face)


def _settings(camera: Camera, room: Room, light: Light | None) -> Array:
    """(16,) numbers that every ray needs, in the order of `casting`'s settings; the light grid comes after."""
    lighting = (0.0, 0.0, 1.0, 0.0, 0.0) if light is None else (*light.direction, light.key, light.ambient)
    sensor = (0.0, 1.0, 1.0, 1.0) if light is None else (light.noise, *light.tint)
    extent = (room.half_x_mm, room.half_y_mm, room.height_mm)
    return np.array([*camera.centre_mm, *lighting, *extent, *sensor, 0.0])


def render(solids: Solids, view: Backdrop, light: Light, noise_seed: int) -> Picture:
    """People and things before a backdrop.

    Args:
        solids: what stands in the room.
        view: the camera and the room it stands in.
        light: and sensor.
        noise_seed: of the sensor noise.
    """
    camera = view.camera
    width, height = camera.size
    # Few, wide arrays: every array handed to a compiled function costs a dozen machine arguments a call.
    geometry = casting.prepare(solids.cones)
    cones = np.hstack([geometry, solids.frames, solids.paint, solids.owner[:, None]])
    boxes = np.hstack([solids.boxes, solids.box_material[:, None]])
    grid_start, grid_items, grid_frame = casting.light_grid(geometry, boxes, light.direction)
    distortion = np.array([*camera.dist, 1.0 if camera.distortion == "human36m" else 2.0])
    bounds = casting.screen_bounds(solids.cones, boxes, camera.R, camera.t, camera.K, distortion, width, height)
    tile_start, tile_items = casting.tiles(bounds, width, height)
    settings = np.concatenate([_settings(camera, view.room, light), grid_frame])
    image = np.empty((height, width, 3), np.uint8)
    ids = np.empty((height, width), np.int32)
    silhouette = np.zeros((height, width), np.bool_)
    casting.render(
        view.directions, view.albedo, view.distance_mm, view.face, camera.R, settings, cones, boxes, solids.materials,
        view.room.textures, tile_start, tile_items, grid_start, grid_items, np.uint64(noise_seed), image, ids,
        silhouette,
    )  # fmt: skip
    return Picture(image, ids, silhouette)


def first_hits(solids: Solids, origin_mm: Array, targets_mm: Array) -> tuple[Array, NDArray[np.int64]]:
    """What is met on the way from a point to each target.

    Args:
        solids: what stands in the way.
        origin_mm: (3,) outside all solids.
        targets_mm: (J, 3).

    Returns:
        (J,) distance of the first surface as a fraction of the way (1e30: none), (J,) its index as in ``Picture.ids``.
    """
    fraction = np.empty(len(targets_mm))
    index = np.empty(len(targets_mm), np.int64)
    casting.first_hits(casting.prepare(solids.cones), solids.boxes, origin_mm, targets_mm, fraction, index)
    return fraction, index
