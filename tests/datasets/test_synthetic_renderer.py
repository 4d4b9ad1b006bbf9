"""The renderer against brute force: no culling, no closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poseboard.datasets.camera import Camera
from poseboard.datasets.synthetic import casting
from poseboard.datasets.synthetic.renderer import Solids, backdrop, first_hits, rays, render
from poseboard.datasets.synthetic.scene import assemble, make_room
from poseboard.datasets.synthetic.world import WorldOptions, direct, rig

coordinate = st.floats(-300, 300)
radius = st.floats(1, 200)


def _only(cones=(), boxes=()):
    cones = np.array(cones, dtype=float).reshape(-1, 8)
    boxes = np.array(boxes, dtype=float).reshape(-1, 8)
    none = np.zeros(len(cones), np.int64)
    return Solids(
        cones, np.zeros((len(cones), 12)), np.zeros((len(cones), 3)), none, boxes, np.zeros(len(boxes), np.int64),
        np.zeros((1, casting.MATERIAL_COLUMNS)),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(coordinate, min_size=9, max_size=9), radius, radius)
def test_round_cone_is_the_union_of_the_balls_between_its_ends(values, ra, rb):
    a, b, target = np.array(values).reshape(3, 3)
    origin = np.array([1500.0, -900.0, 700.0])
    share = np.linspace(0, 1, 4001)[:, None]
    centres, radii = a + share * (b - a), ra + share[:, 0] * (rb - ra)
    way = target - origin
    length = np.linalg.norm(way)
    along = (centres - origin) @ (way / length)
    off2 = ((centres - origin) ** 2).sum(1) - along**2
    met = off2 < radii**2
    fraction, index = first_hits(_only([[*a, *b, ra, rb]]), origin, target[None])
    margin = np.min(np.sqrt(np.maximum(off2, 0)) - radii)
    if abs(margin) < 0.5:
        return  # a grazing ray: the finite union of balls cannot decide it
    assert (index[0] == 0) == met.any()
    if met.any():
        nearest = (along[met] - np.sqrt(radii[met] ** 2 - off2[met])).min()
        assert fraction[0] * length == pytest.approx(nearest, abs=0.5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(20, 300), min_size=3, max_size=3),
    st.floats(0, 6.3),
    st.lists(coordinate, min_size=3, max_size=3),
)
def test_box_is_met_where_a_march_first_enters_it(half, yaw, target):
    origin, centre = np.array([1500.0, -900.0, 700.0]), np.array([30.0, -20.0, 10.0])
    way = np.array(target) - origin
    length = np.linalg.norm(way)
    steps = np.arange(0, 4000, 0.5)
    local = origin + steps[:, None] * way / length - centre
    c, s = np.cos(yaw), np.sin(yaw)
    local = np.stack([c * local[:, 0] + s * local[:, 1], c * local[:, 1] - s * local[:, 0], local[:, 2]], 1)
    inside = (np.abs(local) <= half).all(1)
    fraction, index = first_hits(_only(boxes=[[*centre, *half, c, s]]), origin, np.array(target)[None])
    if inside.sum() < 4:
        return  # a corner cut by less than the march can tell
    assert index[0] == 0
    assert fraction[0] * length == pytest.approx(steps[inside.argmax()], abs=0.6)


@pytest.fixture(scope="module")
def crowded():
    options = WorldOptions(seed=3, side_px=144, train_frames=2, occlusion=1.0)
    take = max((direct(options, "S1", f"{action}-1") for action in options.actions), key=lambda t: len(t.people))
    assert len(take.people) > 1
    assert take.furniture.boxes
    return options, take, assemble(take.people, take.furniture)[1]


def test_culled_picture_shows_what_a_plain_search_finds(crowded):
    options, take, solids = crowded
    room = make_room(np.random.default_rng(0))
    for camera in rig(options, "S1")[:2]:
        view = backdrop(room, camera)
        picture = render(solids, view, take.light, 1)
        rows, columns = np.mgrid[0:144:3, 0:144:3].reshape(2, -1)
        targets = camera.centre_mm + 20000 * view.directions[rows, columns] @ camera.R
        _, index = first_hits(solids, camera.centre_mm, targets)
        seen = picture.ids[rows, columns]
        assert (index >= 0).mean() > 0.05
        np.testing.assert_array_equal(np.maximum(seen, -1), index)
        assert picture.silhouette[picture.ids >= 0].any()
        own = (picture.ids >= 0) & (picture.ids < len(solids.owner))
        own[own] = solids.owner[picture.ids[own]] == 0
        assert picture.silhouette[own].all()  # whoever is seen is in the foreground mask
        assert own.sum() <= picture.silhouette.sum()


def test_shadow_grid_agrees_with_a_plain_search(crowded):
    _, take, solids = crowded
    geometry = casting.prepare(solids.cones)
    boxes = np.hstack([solids.boxes, solids.box_material[:, None]])
    start, items, frame = casting.light_grid(geometry, boxes, take.light.direction)
    numbers = np.concatenate([np.zeros(3), take.light.direction, np.zeros(10), frame])
    rng = np.random.default_rng(0)
    middle = take.people[0].figure.joints_mm[1, 6]
    points = np.concatenate([middle[:2] + rng.uniform(-1500, 1500, (600, 2)), np.full((600, 1), 0.5)], 1)
    lit = [casting.is_lit(*point, -1, geometry, boxes, numbers, start, items) for point in points]
    plain = [first_hits(solids, p, (p + 9000 * take.light.direction)[None])[1][0] < 0 for p in points]
    assert 0.02 < 1 - np.mean(plain) < 0.98
    np.testing.assert_array_equal(lit, plain)


def test_ray_of_a_pixel_projects_back_to_it():
    camera = rig(WorldOptions(side_px=96), "S5")[2]
    points = camera.centre_mm + 3000 * rays(camera) @ camera.R
    grid = np.stack(np.meshgrid(np.arange(96), np.arange(96)), -1)
    np.testing.assert_allclose(camera.project(points), grid, atol=1e-4)  # R is rounded to float32


def test_equal_inputs_give_equal_bytes_and_noise_follows_its_seed(crowded):
    options, take, solids = crowded
    view = backdrop(make_room(np.random.default_rng(0)), rig(options, "S1")[0])
    first, again, other = (render(solids, view, take.light, seed).image for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    difference = first.astype(float) - other
    assert difference.std() == pytest.approx(np.sqrt(2) * take.light.noise, rel=0.15)


def test_a_wall_before_the_lens_covers_the_frame():
    along_y = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    K = np.array([[50.0, 0, 24], [0, 50.0, 24], [0, 0, 1]])
    camera = Camera(K=K, R=along_y, t=along_y @ [0, 0, -1500.0], size=(48, 48))
    view = backdrop(make_room(np.random.default_rng(0)), camera)
    light = direct(WorldOptions(train_frames=1), "S1", "Posing-1").light
    wall = _only(boxes=[[0, 500, 1500, 2000, 100, 1400, 1, 0]])
    assert (render(wall, view, light, 0).ids == 0).all()
    assert (render(_only(), view, light, 0).ids < 0).all()
