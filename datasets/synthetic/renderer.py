"""Images of people, furniture and a room by analytic ray casting.

Frames: world with z up, millimetres; OpenCV cameras. Pixel centres have integer coordinates, as in ``camera``. Rays
follow the lens model, so images have the distortion of the camera. Equal inputs give equal bytes.

The image of the empty room is computed once per camera. Solids are listed per screen tile, so that rays of background
pixels test no solid, and per cell of a grid perpendicular to the light, so that a shadow ray tests only the solids of
its cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poseboard.datasets.camera import Array, Camera
from poseboard.datasets.synthetic import casting


@dataclass(frozen=True, eq=False)
class Solids:
    """All solids in a room at one instant: round cones (people) and boxes (furniture).

    Args:
        cones: (N, 8) ends a and b (mm) and radii at a and b.
        frames: (N, 12) forward, left and up unit vectors of the body part, and the origin of its texture (mm).
        paint: (N, 3) material from a to ``cut``, material from there to b, and ``cut`` as a share of the length.
        owner: (N,) index of the cone's person.
        boxes: (B, 8) centre, half extents (mm), cosine and sine of the yaw.
        box_material: (B,) material of each box, a row of ``materials``.
        materials: (M, 16) rows with the columns MATERIAL_COLUMNS.
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
    """A box-shaped room with a texture per face.

    Args:
        half_x_mm: half the width (x).
        half_y_mm: half the depth (y).
        height_mm: height (z).
        textures: (6, h, w, 3) float32 linear light; faces in the order floor, ceiling, -x, +x, -y, +y. Rows run along z
            (y for floor and ceiling), columns along the other axis.
    """

    half_x_mm: float
    half_y_mm: float
    height_mm: float
    textures: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Light:
    """A directional light with shadows, ambient light, and the sensor.

    Args:
        direction: (3,) unit vector towards the light.
        key: strength of the directional light.
        ambient: strength of the ambient light.
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
        image: (H, W, 3) uint8 RGB with lens distortion.
        ids: (H, W) int32 surface at each pixel's centre: a cone's index, N + a box's index, or -1 to -6 for the faces
            of the room.
        silhouette: (H, W) bool, the mask of person 0 without occlusion.
    """

    image: NDArray[np.uint8]
    ids: NDArray[np.int32]
    silhouette: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Backdrop:
    """A camera's view of the empty room, computed once because cameras do not move.

    Args:
        camera: camera with its image size.
        room: room of the camera.
        directions: (H, W, 3) ``rays(camera)``.
        albedo: (H, W, 3) float32 linear colour of the room, five rays per pixel.
        distance_mm: (H, W) distance to the room along the pixel's ray.
        face: (H, W) uint8 face of the room.
    """

    camera: Camera
    room: Room
    directions: Array
    albedo: NDArray[np.float32]
    distance_mm: Array
    face: NDArray[np.uint8]


def rays(camera: Camera) -> Array:
    """Ray directions (H, W, 3) of the pixels in the camera frame, undistorted, with z = 1."""
    width, height = camera.size
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float64)
    pixels = camera.undistort(grid)
    inverse = np.linalg.inv(camera.K)
    return np.asarray(np.concatenate([pixels, np.ones((height, width, 1))], -1) @ inverse.T)


def backdrop(room: Room, camera: Camera, directions: Array | None = None) -> Backdrop:
    """Render the empty room; ``directions``: ``rays(camera)``, computed if None."""
    width, height = camera.size
    directions = rays(camera) if directions is None else directions
    albedo = np.empty((height, width, 3), np.float32)
    distance, face = np.empty((height, width)), np.empty((height, width), np.uint8)
    casting.backdrop(directions, camera.R, _settings(camera, room, None), room.textures, albedo, distance, face)
    return Backdrop(camera, room, directions, albedo, distance, face)


def _settings(camera: Camera, room: Room, light: Light | None) -> Array:
    """Settings (16,) of `casting`, without the light grid that follows them."""
    lighting = (0.0, 0.0, 1.0, 0.0, 0.0) if light is None else (*light.direction, light.key, light.ambient)
    sensor = (0.0, 1.0, 1.0, 1.0) if light is None else (light.noise, *light.tint)
    extent = (room.half_x_mm, room.half_y_mm, room.height_mm)
    return np.array([*camera.centre_mm, *lighting, *extent, *sensor, 0.0])


def render(solids: Solids, view: Backdrop, light: Light, noise_seed: int) -> Picture:
    """Render solids in a room.

    Args:
        solids: people and furniture.
        view: the camera's view of the empty room.
        light: light and sensor.
        noise_seed: seed of the sensor noise.

    Example:
        >>> picture = render(solids, backdrop(room, camera), light, noise_seed=0)
        >>> picture.image.shape == (*camera.size[::-1], 3)
        True
    """
    camera = view.camera
    width, height = camera.size
    # A few wide arrays: each array is a dozen machine arguments in every call of a compiled function.
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
    """Find the first surface between a point and each target.

    Args:
        solids: possible occluders.
        origin_mm: (3,) start of the rays in the world, outside of all solids.
        targets_mm: (J, 3) ends of the rays in the world.

    Returns:
        (J,) distance of the first surface as a fraction of the distance of the target (1e30: none), and (J,) its index
        as in ``Picture.ids``.
    """
    fraction = np.empty(len(targets_mm))
    index = np.empty(len(targets_mm), np.int64)
    casting.first_hits(casting.prepare(solids.cones), solids.boxes, origin_mm, targets_mm, fraction, index)
    return fraction, index
