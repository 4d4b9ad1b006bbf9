"""Cameras that a method recovered: oracles are perfect, known errors come out as they are, what is lost is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from predicted import answered, rows_of
from scipy.spatial.transform import Rotation

from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import CAMERAS
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.protocols.base import find_protocol
from poseboard.protocols.recovered_cameras import angle_deg, direction_deg
from poseboard.protocols.scoring import score
from poseboard.protocols.views import SeenBy

V, J = len(CAMERAS), len(HUMAN36M)
OF_CAMERAS = ("camera_rotation", "camera_direction", "camera_reprojection", "camera_coverage")
OF_POSES = ("pa_mpjpe", "mpjpe_scale", "mpjpe_root_camera", "failure_rate")


def rig(seed: int) -> list[Camera]:
    """Four cameras on a ring of 5 m that look at the origin, with lenses."""
    cameras = []
    for v in range(V):
        centre = np.array([5000 * np.cos(1.5 * v + seed), 5000 * np.sin(1.5 * v + seed), 300.0 * v])
        z = -centre / np.linalg.norm(centre)
        x = np.cross(z, [0.0, 0, 1])
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z])
        K = np.array([[1100.0 + 10 * v, 0, 500], [0, 1100, 505], [0, 0, 1]])
        dist = np.array([-0.2, 0.1, 0.001, -0.001, 0.02])
        cameras.append(Camera(K, R, -R @ centre, dist=dist, size=(1000, 1000)))
    return cameras


@pytest.fixture
def truth(make_truth):
    """People of the made-up truth near the origin, S9 before one rig and S11 before another."""
    table = make_truth()
    joints_mm = table.joints_mm - table.joints_mm[:, [HUMAN36M.root_index]]
    rigs = {"S9": rig(0), "S11": rig(1)}
    cameras = [rigs[key.split("/")[0]] for key in table.split_keys]
    return replace(table, joints_mm=joints_mm, seen_by=SeenBy.collect(cameras, V))


@pytest.fixture
def recovered(truth, make_predictions):
    """The truth in the frame of a camera, ``scale`` times as large, with its cameras; each turned by ``turn`` (w)."""

    def make(scale=1.0, turn=(0.0, 0.0, 0.0), reference=None, spread=1e-3, moved=(0.0, 0.0, 0.0), **info):
        n = len(truth)
        reference = np.arange(n) % V if reference is None else np.full(n, reference)
        cameras = [[truth.seen_by.cameras[place] for place in row] for row in truth.seen_by.place]
        of_frame = [row[r] for row, r in zip(cameras, reference, strict=True)]
        joints_mm = np.stack([c.to_camera(p) for c, p in zip(of_frame, truth.joints_mm, strict=True)])
        R = np.array([[c.R @ f.R.T for c in row] for row, f in zip(cameras, of_frame, strict=True)])
        t = np.array([[c.t for c in row] for row in cameras])
        t = t - np.einsum("nvij,nj->nvi", R, np.array([f.t for f in of_frame])) + np.array(moved)
        wrong = Rotation.from_rotvec(turn).as_matrix().T
        R = np.where((np.arange(V) == reference[:, None])[..., None, None], R, wrong @ R)
        made = make_predictions(truth, scale * joints_mm, inputs={"extrinsics": False}, **info)
        columns = {
            "camera_R": R.astype("f4"),
            "camera_t_mm": (scale * t).astype("f4"),
            "camera_covariance": np.broadcast_to(np.eye(6, dtype="f4") * spread**2, (n, V, 6, 6)).copy(),
        }
        declared = {name: values.shape[1:] for name, values in columns.items()}
        frame = np.array([CAMERAS[r] for r in reference], dtype=object)
        info = made.info.model_copy(update={"columns": declared})
        return replace(made, frame=frame, columns=columns, info=info)

    return make


@pytest.fixture
def judge(truth, make_table):
    def run(protocol, pred, **fields):
        (found,) = score(make_table(protocol, **fields), answered(pred), truth, resamples=50).scores
        return found

    return run


@pytest.mark.parametrize("scale", [1.0, 1 / 4000])
@pytest.mark.parametrize("protocol", [*OF_CAMERAS, *OF_POSES])
def test_the_oracle_is_perfect_in_any_gauge(judge, recovered, protocol, scale):
    found = judge(protocol, recovered(scale))
    assert (found.n_samples, found.n_missing) == (34, 0)
    assert found.signature.extrinsics == "withheld"
    if protocol == "mpjpe_root_camera" and scale != 1:
        assert found.value > 100, "the size that it declares is wrong"
    else:
        assert found.value == pytest.approx(5 if protocol == "camera_coverage" else 0, abs=0.02)


def test_a_turn_of_a_degree_is_a_degree(judge, recovered):
    found = judge("camera_rotation", recovered(turn=np.deg2rad([0.0, 0.6, 0.8])))
    assert found.value == pytest.approx(1, abs=1e-3)
    assert found.unit == "deg"
    assert found.breakdown["camera"] == pytest.approx(dict.fromkeys(CAMERAS, 1.0), abs=1e-3)
    assert found.breakdown["median of poses"]["all"] == pytest.approx(1, abs=1e-3)
    assert found.signature.alignment == "relative to the reference camera"


def test_the_direction_forgets_distances_and_nothing_else(judge, recovered, truth):
    pred = recovered(reference=0)
    t = pred.columns["camera_t_mm"]
    farther = replace(pred, columns={**pred.columns, "camera_t_mm": t * np.array([1, 2, 3, 0.5], "f4")[:, None]})
    assert judge("camera_direction", farther).value == pytest.approx(0, abs=0.02)
    behind = replace(pred, columns={**pred.columns, "camera_t_mm": -t})
    assert judge("camera_direction", behind).value == pytest.approx(180, abs=0.02)
    aside = replace(pred, columns={**pred.columns, "camera_t_mm": np.cross(t, [1.0, 2, 3]).astype("f4")})
    assert judge("camera_direction", aside).value == pytest.approx(90, abs=0.02)
    nowhere = replace(pred, columns={**pred.columns, "camera_t_mm": np.zeros_like(t)})
    lost = judge("camera_direction", nowhere)
    assert (lost.value, lost.n_missing) == (None, 34), "a camera in the same place has no direction"


def test_reprojection_is_in_pixels_of_the_full_frame_with_its_lens(judge, recovered, truth):
    assert judge("camera_reprojection", recovered(reference=1)).breakdown["camera"][CAMERAS[1]] < 0.01
    moved = recovered(reference=0, moved=(0.0, 10.0, 0.0))
    found = judge("camera_reprojection", moved)
    expected = []
    for row, place in enumerate(truth.seen_by.place):
        for camera in (truth.seen_by.cameras[p] for p in place):
            shifted = truth.joints_mm[row] + camera.R.T @ np.array([0.0, 10, 0])
            expected.append(np.linalg.norm(camera.project(shifted) - camera.project(truth.joints_mm[row]), axis=1))
    assert found.value == pytest.approx(np.mean(expected), rel=1e-3)
    assert found.unit == "px"
    # a joint behind a camera is no better than one that is far off
    mirrored = replace(moved, joints_mm=-moved.joints_mm)
    assert judge("camera_reprojection", mirrored, limit_px=300).value > 200
    far = judge("camera_reprojection", replace(moved, joints_mm=moved.joints_mm + 5e5), limit_px=300)
    assert far.value <= 300


def test_coverage_counts_how_often_the_region_holds_the_truth(judge, truth, recovered):
    rng = np.random.default_rng(4)
    pred = recovered(reference=0)
    root = rng.normal(size=(len(truth), V, 3, 3)) * 0.01
    covariance = np.zeros((len(truth), V, 6, 6))
    covariance[..., :3, :3] = root @ np.swapaxes(root, 2, 3)
    covariance[..., 3:, 3:] = np.eye(3)
    drawn = (root @ rng.normal(size=(len(truth), V, 3, 1)))[..., 0]
    wrong = Rotation.from_rotvec(-drawn.reshape(-1, 3)).as_matrix().reshape(len(truth), V, 3, 3)
    wrong[:, 0] = np.eye(3)
    R = (wrong @ pred.columns["camera_R"]).astype("f4")
    honest = replace(pred, columns={**pred.columns, "camera_R": R, "camera_covariance": covariance.astype("f4")})
    found = judge("camera_coverage", honest)
    assert (found.unit, found.lower_is_better) == ("%", True)
    coverage = found.secondary["coverage (%)"]
    assert 88 < coverage < 100
    assert found.value == pytest.approx(abs(coverage - 95))
    radii = np.cbrt(np.abs(np.linalg.det(root[:, 1:])))
    expected = np.rad2deg(np.median(radii) * np.sqrt(7.8147))
    assert found.secondary["median radius (deg)"] == pytest.approx(expected, rel=1e-3)
    curve = found.curves["coverage"]
    np.testing.assert_allclose(curve.y, curve.x, atol=14)
    assert judge("camera_coverage", honest, level=0.5).value < 14
    sure = replace(honest, columns={**honest.columns, "camera_covariance": (covariance / 100).astype("f4")})
    assert judge("camera_coverage", sure).value > 65, "ten times as sure as it may be"
    none = replace(honest, columns={**honest.columns, "camera_covariance": (covariance * 0).astype("f4")})
    found = judge("camera_coverage", none)
    assert found.value == 95, "a region without extent holds nothing"
    assert found.secondary == {"coverage (%)": 0, "median radius (deg)": 0}
    # larger regions are no better, and neither is the frame of another camera
    wide = replace(honest, columns={**honest.columns, "camera_covariance": (covariance * 100).astype("f4")})
    found = judge("camera_coverage", wide)
    assert found.value == pytest.approx(5)
    assert found.secondary["coverage (%)"] == 100
    assert found.secondary["median radius (deg)"] == pytest.approx(10 * expected, rel=1e-3)
    assert judge("camera_coverage", honest).value < 5
    for label in (np.full(34, CAMERAS[2], dtype=object), np.array([CAMERAS[n % V] for n in range(34)], dtype=object)):
        assert judge("camera_coverage", replace(honest, frame=label)).value > judge("camera_coverage", honest).value


def test_coverage_is_of_a_rotation_on_the_left(judge, recovered):
    """R_true = exp(w) R: sure about every axis but the first of the camera's own frame."""
    covariance = np.diag([1.0, 1e-10, 1e-10, 1, 1, 1]).astype("f4")
    for turn, coverage in (((0.1, 0.0, 0.0), 100), ((0.0, 0.1, 0.0), 0)):
        pred = recovered(turn=turn, reference=2)
        columns = {**pred.columns, "camera_covariance": np.broadcast_to(covariance, (34, V, 6, 6)).copy()}
        # the reference's own rotation is exact, and the others' errors of a millionth do not count
        columns["camera_covariance"][..., 1, 1] = columns["camera_covariance"][..., 2, 2] = 1e-8
        found = judge("camera_coverage", replace(pred, columns=columns))
        assert (found.secondary["coverage (%)"], found.value) == (coverage, abs(coverage - 95))


@pytest.mark.parametrize("protocol", OF_CAMERAS)
def test_what_was_not_recovered_is_counted_and_has_no_number(judge, recovered, protocol):
    pred = recovered(reference=0)
    columns = {name: values.copy() for name, values in pred.columns.items()}
    columns["camera_R"][:3, 2] = np.nan
    columns["camera_covariance"][:3, 2] = np.nan
    found = judge(protocol, replace(pred, columns=columns))
    assert (found.n_samples, found.n_missing) == (34, 3)
    found = judge(protocol, rows_of(pred, slice(5, None)))
    assert (found.n_samples, found.n_missing) == (34, 5)
    for values in columns.values():
        values[:] = np.nan
    found = judge(protocol, replace(pred, columns=columns, frame=np.array(["world"] * 34, dtype=object)))
    assert (found.value, found.n_missing) == (None, 34)


def test_a_camera_that_does_not_see_the_sample_does_not_count(truth, recovered, make_table):
    place = truth.seen_by.place.copy()
    place[4, 3] = -1
    unseen = replace(truth, seen_by=replace(truth.seen_by, place=place))
    pred = recovered(reference=0)
    columns = {name: values.copy() for name, values in pred.columns.items()}
    for values in columns.values():
        values[4, 3] = np.nan
    for protocol in OF_CAMERAS:
        (found,) = score(make_table(protocol), answered(replace(pred, columns=columns)), unseen, resamples=50).scores
        assert (found.n_samples, found.n_missing) == (34, 0)


@pytest.mark.parametrize("protocol", [*OF_CAMERAS, "pa_mpjpe_sequence"])
def test_rows_without_the_columns_have_no_number(truth, make_predictions, make_table, protocol):
    parameters = {"frames": 10} if protocol == "pa_mpjpe_sequence" else {}
    assert "camera_R" in find_protocol(protocol, parameters, "test").columns
    with pytest.raises(ValueError, match="no predictions"):
        score(make_table(protocol, **parameters), answered(make_predictions(truth)), truth, resamples=50)


@pytest.fixture
def rotation():
    return find_protocol("camera_rotation", {}, "test")


def message_of(call, *arguments):
    with pytest.raises(InputError) as raised:
        call(*arguments)
    return str(raised.value)


def test_what_are_no_cameras_is_refused(rotation, recovered, truth):
    pred = recovered(reference=0)

    def message(**changed):
        return message_of(rotation.errors, replace(pred, **changed), truth)

    R = pred.columns["camera_R"]
    for factor in (1.1, -1, 1.0006):  # the entries of R R^T may differ from the identity's by 0.001
        spoiled = R.copy()
        spoiled[5:, 1] *= np.float32(factor)
        assert message(columns={**pred.columns, "camera_R": spoiled}) == (
            f"{pred.source}: camera_R: 29 records have a matrix that is not a rotation, first {pred.keys[5]!r}; "
            "store proper rotations"
        )
    frame = pred.frame.copy()
    frame[[2, 7]] = "world"
    assert message(frame=frame) == (
        f"{pred.source}: frame: 2 records are not in the frame of an input camera, first {pred.keys[2]!r}; "
        f"predict in the frame of an input camera: {', '.join(CAMERAS)}"
    )
    of_three = {name: values[:, :3] for name, values in pred.columns.items()}
    declared = {name: values.shape[1:] for name, values in of_three.items()}
    assert message(columns=of_three, info=pred.info.model_copy(update={"columns": declared})) == (
        f"{pred.source}: camera_R: is (3, 3, 3) per person; store (4, 3, 3), in the order of the condition's cameras"
    )
    without = message_of(rotation.errors, pred, replace(truth, seen_by=None))
    assert without == f"{truth.dataset}: cameras: are missing; collect the truth with its cameras"


def test_matrices_are_rotations_within_the_tolerance_or_not_recovered(rotation, recovered, truth):
    pred = recovered(reference=0)
    R = pred.columns["camera_R"].copy()
    R[:, 1] *= np.float32(1.0004)
    R[3, 2, 0, 0] = np.nan
    R[3, 2, 1] = 7
    frame = pred.frame.copy()
    frame[4], R[4] = "world", np.nan
    table = rotation.errors(replace(pred, columns={**pred.columns, "camera_R": R}, frame=frame), truth)
    assert np.flatnonzero(table["missing"]).tolist() == [3, 4]


def test_records_have_the_mean_over_the_cameras_and_their_values(rotation, recovered, truth):
    pred = recovered()
    turns = Rotation.from_rotvec([[0, 0, np.deg2rad(v + 1)] for v in range(V)]).as_matrix()
    turned = pred.columns["camera_R"].copy()
    reference = np.arange(34) % V
    for v in range(V):
        others = reference != v
        turned[others, v] = turns[v] @ turned[others, v]
    turned[9, 2] = np.nan
    joints_mm = truth.joints_mm.copy()
    joints_mm[3], joints_mm[5, 4] = np.nan, np.nan
    place = truth.seen_by.place.copy()
    place[6, 1] = -1
    place[11] = -1
    place[12, [1, 3]] = -1
    truth = replace(truth, joints_mm=joints_mm, seen_by=replace(truth.seen_by, place=place))
    pred = replace(pred, columns={**pred.columns, "camera_R": turned})
    table = rotation.errors(rows_of(pred, np.arange(34)[np.arange(34) != 7][::-1]), truth)
    evaluated = np.delete(np.arange(34), 3)
    expected = np.array([[np.nan if v == r else v + 1.0 for v in range(V)] for r in reference])
    expected[6, 1] = expected[12, [1, 3]] = np.nan
    expected[[7, 9, 11]] = np.nan
    assert table.columns.tolist() == [*truth.columns, "error", "missing", *(f"camera/{name}" for name in CAMERAS)]
    np.testing.assert_allclose(table[[f"camera/{name}" for name in CAMERAS]], expected[evaluated], atol=1e-3)
    mean = [row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in expected[evaluated]]
    np.testing.assert_allclose(table["error"], mean, atol=1e-3)
    assert np.array_equal(table["missing"], np.isnan(mean))
    for name, column in truth.columns.items():
        assert np.array_equal(table[name], np.asarray(column)[evaluated])
    found = rotation.breakdown(table)
    assert found["camera"] == pytest.approx(dict(zip(CAMERAS, (1.0, 2, 3, 4), strict=True)), abs=1e-3)
    assert found["median of poses"] == pytest.approx({"all": np.nanmedian(mean)}, abs=1e-3)
    assert set(found) == {"action", "subject", "camera", "median of poses"}


def test_radii_are_of_the_cameras_that_count(recovered, truth):
    pred = recovered(spread=np.deg2rad(1.0))
    R = pred.columns["camera_R"].copy()
    R[2, 0] = np.nan
    pred = replace(pred, columns={**pred.columns, "camera_R": R})
    table = find_protocol("camera_coverage", {}, "test").errors(pred, truth)
    radii = table[[f"radius_deg/{name}" for name in CAMERAS]].to_numpy()
    assert radii.dtype == np.float64
    counts = np.arange(V) != (np.arange(34) % V)[:, None]
    counts[2] = False
    np.testing.assert_allclose(radii, np.where(counts, np.sqrt(7.8147), np.nan), rtol=1e-4)


def test_the_measure_names_the_reference_camera(rotation):
    assert rotation.measure(HUMAN36M).model_dump() == {
        "metric": "camera rotation", "alignment": "relative to the reference camera", "root": "none", "joints": "none",
        "average": "frames", "given": (), "judged": "recovered cameras", "version": 1,
    }  # fmt: skip


def test_angles_of_rotations_are_exact_when_small_and_when_opposite():
    angles = np.array([0, 1e-9, 1e-4, 1, 90, 179.9, 180])
    axis = np.array([1.0, 2, -2]) / 3
    a = Rotation.from_rotvec([0.3, 0.1, -0.7]).as_matrix()
    b = Rotation.from_rotvec(np.deg2rad(angles)[:, None] * axis).as_matrix() @ a
    np.testing.assert_allclose(angle_deg(a, b), angles, rtol=1e-6, atol=1e-13)
    assert angle_deg(np.eye(3), 3 * np.eye(3) - 3) == 180
    assert np.isnan(angle_deg(b[:2], np.full((3, 3), np.nan))).tolist() == [True, True]


def test_angles_of_directions_are_exact_when_small_and_when_opposite():
    angles = np.array([0, 1e-9, 1e-4, 1, 90, 179.9, 180])
    b = np.stack([np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles)), 0 * angles], axis=-1)
    np.testing.assert_allclose(direction_deg(np.array([2.0, 0, 0]), 5 * b), angles, rtol=1e-6, atol=1e-13)
    assert np.isnan(direction_deg(np.array([[1.0, 0, 0], [0, 0, 0]]), np.zeros(3))).all()


def test_cameras_in_another_order_are_wrong(judge, recovered):
    pred = recovered(reference=0)
    swapped = replace(pred, columns={name: values[:, [0, 2, 1, 3]] for name, values in pred.columns.items()})
    assert judge("camera_rotation", swapped).value > 20
    assert judge("camera_reprojection", swapped).value > 30


# --- poses of such methods ---


def test_only_scale_is_taken_out(judge, recovered, truth):
    pred = recovered(0.37, reference=0)
    turned = replace(pred, joints_mm=pred.joints_mm @ Rotation.from_rotvec([0, 0, 0.2]).as_matrix().astype("f4"))
    assert judge("pa_mpjpe", turned).value == pytest.approx(0, abs=0.02)
    assert judge("mpjpe_scale", turned).value > 20
    mirrored = replace(pred, joints_mm=-pred.joints_mm)
    size = np.linalg.norm(truth.joints_mm, axis=2).mean()
    assert judge("mpjpe_scale", mirrored).value == pytest.approx(size, rel=1e-3), "a factor is never negative"
    assert judge("mpjpe_scale", replace(pred, joints_mm=pred.joints_mm * 0)).value == pytest.approx(size, rel=1e-3)
    world = replace(pred, joints_mm=truth.joints_mm.astype("f4"), frame=np.array(["world"] * 34, dtype=object))
    assert judge("mpjpe_scale", world).value == pytest.approx(0, abs=0.02)
    assert judge("mpjpe_scale", pred).signature.alignment == "root and scale, in the camera's frame"


def test_the_scale_is_that_of_least_squares(judge, recovered, truth):
    rng = np.random.default_rng(0)
    pred = recovered(reference=0)
    noisy = pred.joints_mm + rng.normal(0, 30, pred.joints_mm.shape).astype("f4")
    noisy[:, HUMAN36M.root_index] = pred.joints_mm[:, HUMAN36M.root_index]
    found = judge("mpjpe_scale", replace(pred, joints_mm=noisy))
    about = noisy - noisy[:, [HUMAN36M.root_index]]
    R = truth.rotations(CAMERAS[0], np.arange(len(truth)))
    target = np.einsum("nij,nkj->nki", R, truth.joints_mm)
    factors = [
        np.linalg.lstsq(p.reshape(-1, 1), t.reshape(-1), rcond=None)[0][0] for p, t in zip(about, target, strict=True)
    ]
    error = np.linalg.norm(np.array(factors)[:, None, None] * about - target, axis=2).mean()
    assert found.value == pytest.approx(error, abs=1e-2)


def test_one_similarity_for_frames_of_a_rig_sees_what_jumps_from_frame_to_frame(judge, recovered, truth):
    steady = recovered(0.01, reference=0)
    assert judge("pa_mpjpe_sequence", steady, frames=10).value == pytest.approx(0, abs=0.02)
    rng = np.random.default_rng(1)
    grown = steady.joints_mm * rng.uniform(0.8, 1.25, (len(truth), 1, 1)).astype("f4")
    jumping = replace(steady, joints_mm=grown)
    assert judge("pa_mpjpe", jumping).value == pytest.approx(0, abs=0.02)
    found = judge("pa_mpjpe_sequence", jumping, frames=10)
    assert found.value > 20
    assert found.signature.alignment == "procrustes, one per 10 frames of a rig"
    assert judge("pa_mpjpe", jumping).signature.alignment == "procrustes"
    absent = replace(steady, joints_mm=np.where(np.arange(34)[:, None, None] < 4, np.nan, steady.joints_mm))
    found = judge("pa_mpjpe_sequence", absent, frames=10)
    assert (found.value, found.n_missing) == (pytest.approx(0, abs=0.02), 4)


def test_the_camera_that_poses_are_predicted_in_does_not_matter(judge, recovered, truth):
    """The same wrong poses and cameras in the frame of one camera, and in those of all cameras in turn."""
    rng = np.random.default_rng(2)
    one = recovered(0.5, turn=(0.0, 0.1, 0.05), reference=0)
    one = replace(one, joints_mm=one.joints_mm + rng.normal(0, 60, one.joints_mm.shape).astype("f4"))
    expected = judge("pa_mpjpe_sequence", one, frames=10).value
    assert expected > 50

    each, label = np.arange(len(truth)), np.arange(len(truth)) % V
    R, t = (one.columns[name].astype("f8") for name in ("camera_R", "camera_t_mm"))
    to_label, shift = R[each, label], t[each, label]
    joints_mm = np.einsum("nij,nkj->nki", to_label, one.joints_mm) + shift[:, None]
    turned = R @ np.swapaxes(to_label, 1, 2)[:, None]
    moved = t - np.einsum("nvij,nj->nvi", turned, shift)
    frame = np.array([CAMERAS[v] for v in label], dtype=object)
    columns = {**one.columns, "camera_R": turned.astype("f4"), "camera_t_mm": moved.astype("f4")}
    relabelled = replace(one, joints_mm=joints_mm.astype("f4"), frame=frame, columns=columns)
    assert judge("pa_mpjpe_sequence", relabelled, frames=10).value == pytest.approx(expected, abs=0.01)
    assert judge("pa_mpjpe_sequence", replace(one, frame=frame), frames=10).value == pytest.approx(expected, abs=0.01)


def test_a_pose_without_recovered_cameras_has_no_number_for_a_rig(judge, recovered):
    pred = recovered(reference=0)
    columns = {name: values.copy() for name, values in pred.columns.items()}
    columns["camera_R"][:5] = np.nan
    found = judge("pa_mpjpe_sequence", replace(pred, columns=columns), frames=10)
    assert (found.value, found.n_missing) == (pytest.approx(0, abs=0.02), 5)
    columns["camera_R"][:] = np.nan
    found = judge("pa_mpjpe_sequence", replace(pred, columns=columns), frames=10)
    assert (found.value, found.n_missing) == (None, 34)


def test_poses_are_judged_by_another_camera_where_one_was_not_recovered(judge, recovered):
    pred = recovered(reference=1)
    columns = {name: values.copy() for name, values in pred.columns.items()}
    columns["camera_R"][:, 0] = np.nan
    found = judge("pa_mpjpe_sequence", replace(pred, columns=columns), frames=10)
    assert (found.value, found.n_missing) == (pytest.approx(0, abs=0.02), 0)


def test_fewer_frames_used_together_give_no_similarities_more(judge, recovered, truth):
    pred = recovered(reference=0)
    rng = np.random.default_rng(1)
    jumping = replace(pred, joints_mm=pred.joints_mm * rng.uniform(0.8, 1.25, (len(truth), 1, 1)).astype("f4"))
    values = [
        judge(
            "pa_mpjpe_sequence",
            replace(jumping, info=jumping.info.model_copy(update={"condition": condition})),
            frames=10,
            groups=[{"frames_per_rig": 10}],
        ).value
        for condition in (pred.info.condition.model_copy(update={"frames_per_rig": frames}) for frames in (1, 2, 10))
    ]
    assert values[0] == values[1] == values[2] > 20


def test_a_failure_is_no_answer_or_one_far_off(judge, recovered, truth):
    pred = recovered(reference=0)
    joints_mm = pred.joints_mm.copy()
    joints_mm[0] = np.nan
    joints_mm[1] = np.random.default_rng(2).normal(0, 300, (J, 3))
    joints_mm[2, 3] = np.nan
    joints_mm[3] *= 5
    found = judge("failure_rate", replace(pred, joints_mm=joints_mm))
    assert found.value == pytest.approx(100 * 3 / 34)
    assert (found.unit, found.n_missing, found.lower_is_better) == ("%", 2, True)
    half = rows_of(pred, slice(17, None))
    assert judge("failure_rate", half).value == pytest.approx(50), "who answers half has failed in half"
    assert judge("failure_rate", replace(pred, joints_mm=joints_mm), limit_mm=1e4).value == pytest.approx(100 * 2 / 34)
