import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from poseboard.datasets.camera import Camera, crop_affine, scale_box, square_box, undistort_each
from poseboard.datasets.sample import crop_image

seeds = st.integers(0, 2**32 - 1)


def random_camera(seed: int, lens: float = 1.0, distortion: str = "opencv") -> Camera:
    """Looks at the origin from 3 to 6 m; lens 0 is a pinhole, 1 a lens as strong as those of Human3.6M."""
    rng = np.random.default_rng(seed)
    K = np.array([[rng.uniform(600, 1500), 0, 500], [0, rng.uniform(600, 1500), 480], [0, 0, 1]])
    R = Rotation.random(random_state=rng).as_matrix()
    t = np.array([rng.uniform(-300, 300), rng.uniform(-300, 300), rng.uniform(3000, 6000)])
    dist = lens * rng.uniform(-1, 1, 5) * (0.25, 0.25, 0.005, 0.005, 0.05)
    return Camera(K, R, t, dist, (1000, 1002), distortion)


def points_about_origin(seed: int) -> np.ndarray:
    return np.random.default_rng(seed + 1).uniform(-900, 900, (20, 3))


@given(seeds)
def test_p_agrees_with_project(seed: int) -> None:
    camera, points = random_camera(seed, lens=0), points_about_origin(seed)
    homogeneous = np.concatenate([points, np.ones((20, 1))], axis=1) @ camera.P.T
    np.testing.assert_allclose(homogeneous[:, :2] / homogeneous[:, 2:], camera.project(points), atol=1e-8)
    np.testing.assert_allclose(camera.to_camera(camera.centre_mm), 0, atol=1e-8)


@given(seeds, st.integers(0, 5))
def test_lenses_are_undone_together_as_each_by_itself(seed: int, count: int) -> None:
    kinds = [("opencv", 1.0), ("human36m", 1.0), ("opencv", 0.0)]
    cameras = [random_camera(seed + i, kinds[i % 3][1], kinds[i % 3][0]) for i in range(count)]
    points = np.reshape([camera.project(points_about_origin(seed)) for camera in cameras], (count, 20, 2))
    each = [camera.undistort(of_camera) for camera, of_camera in zip(cameras, points, strict=True)]
    assert undistort_each(cameras, points).tobytes() == np.array(each).tobytes()


@given(seeds)
def test_lens_agrees_with_opencv(seed: int) -> None:
    camera, points = random_camera(seed), points_about_origin(seed)
    expected, _ = cv2.projectPoints(points, cv2.Rodrigues(camera.R)[0], camera.t, camera.K, camera.dist)
    np.testing.assert_allclose(camera.project(points), expected[:, 0], atol=1e-6)


@given(seeds, st.sampled_from(["opencv", "human36m"]))
def test_the_lens_can_be_undone(seed: int, distortion: str) -> None:
    camera, points = random_camera(seed, distortion=distortion), points_about_origin(seed)
    seen = camera.project(points)
    straight = camera.undistorted().project(points)
    np.testing.assert_allclose(camera.undistort(seen), straight, atol=1e-5)
    np.testing.assert_allclose(camera.distort(straight), seen, atol=1e-8)
    assert np.abs(seen - straight).max() > 1e-3, "the lens does something"


@given(seeds)
def test_the_two_lens_models_differ_by_their_tangential_term_only(seed: int) -> None:
    camera, points = random_camera(seed), points_about_origin(seed)
    radial = camera.dist * (1, 1, 0, 0, 1)
    seen = {}
    for name in ("opencv", "human36m"):
        pure = Camera(camera.K, camera.R, camera.t, radial, camera.size, name)
        full = Camera(camera.K, camera.R, camera.t, camera.dist, camera.size, name)
        seen[name] = pure.project(points), full.project(points)
    np.testing.assert_array_equal(seen["opencv"][0], seen["human36m"][0])
    assert np.abs(seen["opencv"][1] - seen["human36m"][1]).max() > 0


@given(seeds, st.integers(-200, 600), st.integers(-200, 600), st.integers(50, 900), st.integers(50, 900))
def test_a_crop_moves_projections(seed: int, left: int, upper: int, width: int, height: int) -> None:
    camera, points = random_camera(seed), points_about_origin(seed)
    crop = camera.crop_resize((left, upper, left + width, upper + height), (256, 192))
    expected = (camera.project(points) - (left, upper)) * (256 / width, 192 / height)
    np.testing.assert_allclose(crop.project(points), expected, atol=1e-7)
    assert crop.size == (256, 192)


@settings(max_examples=25)
@given(seeds, st.sampled_from([2, 3, 4]), st.integers(-20, 20), st.integers(-20, 20))
def test_a_crop_moves_pixels_as_it_moves_the_camera(seed: int, shrink: int, dx: int, dy: int) -> None:
    """A blob drawn where the camera sees a point is, in the crop, where the crop's camera sees it.

    Pixels are resized by area and intrinsics about the corner, so the two differ by half a pixel less half a crop
    pixel, as in the published pipelines.
    """
    camera = random_camera(seed)
    point = np.random.default_rng(seed).uniform(-100, 100, 3)
    x, y = camera.project(point)
    assume(60 < x < 940 and 60 < y < 940)
    columns, rows = np.meshgrid(np.arange(1000), np.arange(1002))
    blob = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 8.0**2))
    image = np.repeat(np.rint(blob).astype(np.uint8)[..., None], 3, axis=2)
    side = 60 * shrink
    left, upper = round(x) - side // 2 + dx, round(y) - side // 2 + dy
    box = (left, upper, left + side, upper + side)
    crop = crop_image(image, box, (60, 60))[..., 0].astype(float)
    centroid = np.array([(crop.sum(axis=0) @ np.arange(60)), (crop.sum(axis=1) @ np.arange(60))]) / crop.sum()
    expected = camera.crop_resize(box, (60, 60)).project(point) + 0.5 * (1 / shrink - 1)
    np.testing.assert_allclose(centroid, expected, atol=0.05)


def test_points_behind_the_camera_have_no_pixel() -> None:
    camera = Camera(np.diag([1000.0, 1000.0, 1.0]), np.eye(3), np.zeros(3))
    projected = camera.project([[0, 0, 1000], [0, 0, -1000], [0, 0, 0]])
    assert np.isnan(projected).all(axis=1).tolist() == [False, True, True]


def test_withheld_parameters_cannot_be_read() -> None:
    camera = random_camera(0)
    pixels = camera.withhold(intrinsics=False, extrinsics=True)
    assert pixels.K is not None
    for name in ("R", "t", "P", "centre_mm"):
        with pytest.raises(AttributeError, match="withheld"):
            getattr(pixels, name)
    with pytest.raises(AttributeError, match="withheld"):
        pixels.project([0, 0, 0])
    uncalibrated = camera.withhold(intrinsics=True, extrinsics=True)
    with pytest.raises(AttributeError, match=r"K.*withheld"):
        _ = uncalibrated.K
    assert not uncalibrated.dist.any()
    assert uncalibrated.size == camera.size


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"K": np.zeros((3, 3))}, "K is"),
        ({"K": np.eye(2)}, "K needs"),
        ({"R": 2 * np.eye(3)}, "R is"),
        ({"R": np.diag([1.0, 1.0, -1.0])}, "R is"),
        ({"t": [0, np.nan, 0]}, "t has"),
        ({"dist": [0.0] * 4}, "dist needs"),
    ],
)
def test_nonsense_is_refused(change: dict, problem: str) -> None:
    values = {"K": np.eye(3), "R": np.eye(3), "t": np.zeros(3), "dist": np.zeros(5)}
    with pytest.raises(ValueError, match=problem):
        Camera(**{**values, **change})


def test_a_camera_cannot_be_changed_behind_its_back() -> None:
    K = np.eye(3)
    camera = Camera(K, np.eye(3), np.zeros(3))
    K[0, 0] = 5
    assert camera.K[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        camera.K[0, 0] = 5


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((10, 10, 10, 20), (8, 8)),
        ((np.nan, 0, 1, 1), (8, 8)),
        ((0, 0, np.inf, 10), (8, 8)),
        ((0, 0, 10, 10), (8, 0)),
    ],
)
def test_an_empty_crop_is_refused(box: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"empty|finite"):
        random_camera(0).crop_resize(box, size)


@given(st.integers(-300, 300), st.integers(-300, 300), st.integers(1, 900), st.integers(1, 900))
def test_square_box_grows_the_short_side_in_place(left: int, upper: int, width: int, height: int) -> None:
    box = square_box((left, upper, left + width, upper + height))
    side = max(width, height)
    assert box[2] - box[0] == box[3] - box[1] == side
    assert box[0] <= left + 1
    assert box[2] >= left + width - 1
    assert abs((box[0] + box[2]) - (2 * left + width)) <= 2
    assert abs((box[1] + box[3]) - (2 * upper + height)) <= 2


@given(st.integers(-300, 300), st.integers(1, 900), st.floats(0.5, 2.0))
def test_scale_box_keeps_the_centre(left: int, side: int, scale: float) -> None:
    box = scale_box((left, left, left + side, left + side), scale)
    assert box[2] - box[0] == int(scale * side)
    assert abs((box[0] + box[2]) - (2 * left + side)) <= 2


@given(
    st.floats(-180, 180),
    st.floats(1, 500),
    st.floats(-1000, 1000),
    st.floats(-1000, 1000),
    st.sampled_from([64, 96, 256]),
)
def test_a_turned_crop_shows_its_square(rotation: float, square: float, x: float, y: float, side: int) -> None:
    A = crop_affine((x, y), square, (side, 2 * side), rotation)
    angle = np.deg2rad(rotation)
    up, right = np.array([np.sin(angle), -np.cos(angle)]), np.array([np.cos(angle), np.sin(angle)])
    for direction, wanted in ((0 * up, (side / 2, side)), (up, (side / 2, side / 2)), (right, (side, side))):
        point = np.array([x, y]) + square / 2 * direction
        # its three points are float32, so a small square far from the corner is as coarse as they are there
        rounding_px = side / square * np.spacing(np.float32(abs(x) + abs(y) + square))
        np.testing.assert_allclose(A @ (*point, 1), (*wanted, 1), rtol=0, atol=4 * rounding_px + 1e-4)


def test_an_empty_square_is_refused() -> None:
    with pytest.raises(ValueError, match="box"):
        crop_affine((5, 5), 0, (64, 64))
