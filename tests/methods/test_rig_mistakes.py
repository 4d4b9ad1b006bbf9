"""`check_rig` on simulated rigs with one mistake each; `tests/rig_mistakes_table.py` makes the full table."""

import numpy as np
import pytest
from simulated_rigs import KINDS, Simulation, World, simulate

from poseboard.datasets.camera import Camera
from poseboard.datasets.skeleton import COCO
from poseboard.methods.geometry.rig_mistakes import check_rig, epipolar_fit, flip_order
from poseboard.methods.geometry.rig_mistakes.rig_state import RigState, Tracks

SMALL = World(cameras=(4, 5), frames=(150, 200), noise_px=(2.0, 6.0))
REPAIRED = ("extrinsics inverted", "unit", "frame offset", "camera moved")
"""Kinds whose repaired rig is checked once more."""
PLAIN = World(cameras=(4, 4), frames=(150, 150), noise_px=(2.0, 3.0), lag=(6, 10), moved_deg=(6.0, 10.0))


def check(rig: Simulation):
    return check_rig(rig.cameras, rig.joints_px, rig.joints, rig.confidence)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_named_with_its_cameras_and_repaired(kind: str) -> None:
    rig = simulate(20002, kind, PLAIN)
    findings = check(rig)
    assert [(f.kind, f.cameras) for f in findings] == [(kind, rig.concerned)], [f.text for f in findings]
    finding = findings[0]
    assert finding.warning == (kind == "up axis")
    assert finding.repair.changes(rig.cameras)
    if kind == "up axis":
        assert finding.repair.changes(rig.cameras) == {"up": "y"}
    if kind not in REPAIRED:
        return
    cameras, joints_px = finding.repair.apply(rig.cameras, rig.joints_px, rig.joints)
    assert check_rig(cameras, joints_px, rig.joints, rig.confidence) == []


@pytest.mark.parametrize(("kind", "seed"), [("centre for translation", 10087), ("resolution", 10013)])
def test_a_camera_that_cannot_show_the_detections_explains_nothing(kind: str, seed: int) -> None:
    # A quarter of the resolution, and k1 of -0.64, fit better, but such cameras could not have taken the pictures.
    rig = simulate(seed, kind)
    assert [(f.kind, f.cameras) for f in check(rig)][:1] == [(kind, rig.concerned)]


@pytest.mark.parametrize("seed", range(20010, 20012))
def test_a_clean_rig_is_not_accused(seed: int) -> None:
    assert [f.text for f in check(simulate(seed, None, SMALL))] == []


def test_the_repair_of_an_offset_is_the_field_of_the_rig_file() -> None:
    rig = simulate(20020, "frame offset", PLAIN)
    (finding,) = check(rig)
    lag = int(rig.magnitude.split()[0])
    # Detections that start `lag` frames late hold frame n + lag of the rig at their frame n.
    ((field, value),) = finding.repair.changes(rig.cameras).items()
    assert field == f"cameras.{rig.concerned[0]}.offset_frames"
    assert abs(value + lag) <= 1


def test_the_gradient_of_the_fit_is_that_of_its_cost() -> None:
    rig = simulate(3, "focal length", SMALL)
    state = RigState.of(list(rig.cameras.values()))
    rays = Tracks.of(rig.joints_px, flip_order(rig.joints), 300).rays(state)
    pairs = epipolar_fit.pairs_of(len(state.cameras))
    counts = np.full(len(pairs), 100.0)
    size = epipolar_fit.rig_size(rays.centres)
    _, scale = epipolar_fit.costs(rays, pairs)
    _, gradient = epipolar_fit._linearise(rays, pairs, scale, counts, size)
    numeric = np.empty(len(gradient))
    for i in range(len(gradient)):
        step = np.zeros(len(gradient))
        step[i] = 1e-6
        up, down = (
            float(np.nansum(epipolar_fit.costs(rays.moved(s.reshape(-1, 10), size), pairs)[0] * counts))
            for s in (step, -step)
        )
        numeric[i] = (up - down) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=2e-3, atol=2e-3 * np.abs(numeric).max())


def test_exact_data_of_correct_cameras_fit_exactly() -> None:
    world = World(
        noise_px=(0, 0), outliers=0, missing=0, gaps=0, sync_frames=0, rotation_noise_deg=0, centre_noise_mm=0,
        focal_noise=0,
    )  # fmt: skip
    rig = simulate(5, None, world)
    state = RigState.of(list(rig.cameras.values()))
    rays = Tracks.of(rig.joints_px, flip_order(rig.joints), 300).rays(state)
    residual = epipolar_fit.sampson_px(rays, epipolar_fit.pairs_of(len(state.cameras)))
    assert np.nanmax(np.abs(residual)) < 1e-5


def test_sides_are_told_by_names() -> None:
    assert flip_order(COCO.joints) == COCO.flip_order
    assert flip_order(["nose", "left_wrist"]) == [0, 1]


def test_too_few_detections_and_wrong_shapes_are_refused() -> None:
    rig = simulate(1, None, SMALL)
    with pytest.raises(ValueError, match="expected"):
        check_rig(rig.cameras, rig.joints_px[:-1], rig.joints)
    with pytest.raises(ValueError, match="fewer than 100 joints"):
        check_rig(rig.cameras, np.full_like(rig.joints_px, np.nan), rig.joints)


def test_detections_without_relation_to_the_cameras_are_reported() -> None:
    rig = simulate(2, None, PLAIN)
    rng = np.random.default_rng(0)
    joints_px = rig.joints_px.copy()
    joints_px[1] = rng.uniform(0, 800, joints_px[1].shape)
    findings = check_rig(rig.cameras, joints_px, rig.joints)
    assert [(f.kind, f.cameras) for f in findings] == [("no explanation", ("cam2",))]


def test_cameras_are_not_changed_by_a_repair_of_others() -> None:
    rig = simulate(20001, "focal length", PLAIN)
    (finding,) = check(rig)
    cameras, _ = finding.repair.apply(rig.cameras, rig.joints_px, rig.joints)
    changed = [name for name, camera in cameras.items() if camera is not rig.cameras[name]]
    assert tuple(changed) == rig.concerned
    assert all(isinstance(camera, Camera) for camera in cameras.values())
