import numpy as np
import pytest
import torch

from poseboard.datasets.camera import Camera
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Group, Sample, View
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.detector import Detector, decode_heatmaps

SIDE = 64
J = len(HUMAN36M)


def architecture(**update):
    return Architecture(network="small", joints=HUMAN36M.joints, crop_px=SIDE, **update)


def sample(seed, views, dist=(0, 0, 0, 0, 0), side=SIDE):
    rng = np.random.default_rng(seed)
    K = np.array([[90.0, 0, SIDE / 2], [0, 90.0, SIDE / 2], [0, 0, 1]])
    camera = Camera(K, np.eye(3), np.array([0, 0, 3000.0]), np.array(dist, dtype=float), (SIDE, SIDE))
    made = [
        View(f"c{i}", camera, rng.integers(0, 256, (side, side, 3), dtype=np.uint8), np.zeros((1, 4)))
        for i in range(views)
    ]
    return Sample(f"s{seed}", tuple(made), Group("S1", "Walking", "1"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "backbone.pt"
    Checkpoint("backbone", architecture().plain(), architecture().build(seed=1).state_dict()).save(path)
    return path


def test_absent_views_are_padded(checkpoint):
    found = Detector.read(checkpoint, "cpu").detect([sample(0, 3), sample(1, 1), sample(2, 2)])
    assert found.points_px.shape == (3, 3, J, 2)
    assert found.valid.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    np.testing.assert_array_equal(np.isfinite(found.points_px).all((-1, -2)), found.valid)
    np.testing.assert_array_equal(np.isfinite(found.peak).all(-1), found.valid)
    assert (found.P[~found.valid] == 0).all()
    assert (found.P[found.valid] == sample(0, 1).views[0].camera.P).all()
    peak = found.peak[found.valid]
    assert ((peak > 0) & (peak <= 1)).all()


def test_a_sample_is_seen_alike_in_any_company(checkpoint):
    detector = Detector.read(checkpoint, "cpu")
    alone = detector.detect([sample(5, 2)])
    among = detector.detect([sample(i, 3) for i in range(30)] + [sample(5, 2)])
    np.testing.assert_allclose(among.points_px[-1, :2], alone.points_px[0], atol=1e-3)


def test_the_lens_is_undone(checkpoint):
    detector = Detector.read(checkpoint, "cpu", decode="argmax")  # noise peaks anywhere, away from the lens' centre
    dist = (0.2, 0, 0.01, 0, 0)
    plain, through = detector.detect([sample(0, 1)]), detector.detect([sample(0, 1, dist)])
    camera = sample(0, 1, dist).views[0].camera
    np.testing.assert_allclose(camera.distort(through.points_px[0, 0]), plain.points_px[0, 0], atol=1e-6)
    assert np.abs(through.points_px - plain.points_px).max() > 0.1


def test_decoding_finds_a_peak():
    heatmaps = torch.zeros(1, J, 16, 16)
    heatmaps[0, :, 5, 9] = 50.0
    soft, peak = decode_heatmaps(architecture(), heatmaps, "softargmax")
    hard, _ = decode_heatmaps(architecture(), heatmaps, "argmax")
    np.testing.assert_allclose(soft, np.broadcast_to([36.0, 20.0], soft.shape), atol=1e-3)
    np.testing.assert_array_equal(hard, np.broadcast_to([36.0, 20.0], hard.shape))
    np.testing.assert_allclose(peak, 1.0, atol=1e-6)
    _, flat = decode_heatmaps(architecture(), torch.zeros(1, J, 16, 16), "softargmax")
    np.testing.assert_allclose(flat, 1 / 256, rtol=1e-6)


def test_channel_order_is_part_of_the_preprocessing():
    image = torch.tensor([0, 100, 255], dtype=torch.uint8).expand(1, 2, 2, 3)
    level = torch.tensor([0, 100, 255]) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    rgb, bgr = architecture().prepare(image), architecture(channels="bgr").prepare(image)
    torch.testing.assert_close(rgb[0, :, 0, 0], (level - mean) / std)
    torch.testing.assert_close(bgr[0, :, 0, 0], (level.flip(0) - mean) / std)


def test_bf16_is_close_to_float32():
    with torch.inference_mode():
        images = torch.randn(2, 3, SIDE, SIDE)
        net = architecture().build(seed=0).eval()
        exact = architecture().run(net, images).heatmaps
        rough = architecture(precision="bf16").run(net, images).heatmaps
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, atol=0.03 * exact.abs().max().item(), rtol=0)
    assert not torch.equal(rough, exact)


def test_weights_of_a_whole_method_and_of_other_networks(checkpoint, tmp_path):
    read = Checkpoint.read(checkpoint)
    whole = tmp_path / "algebraic.pt"
    prefixed = {f"backbone.{key}": value for key, value in read.state.items()}
    Checkpoint("algebraic", read.architecture, prefixed).save(whole)
    one, other = (Detector.read(path, "cpu").detect([sample(0, 2)]) for path in (checkpoint, whole))
    np.testing.assert_array_equal(one.points_px, other.points_px)
    Checkpoint("backbone", {**read.architecture, "network": "resnet18"}, read.state).save(whole)
    with pytest.raises(InputError, match=r"algebraic\.pt"):
        Detector.read(whole, "cpu")
    Checkpoint("rootnet", {"width": 3}, {}).save(whole)
    with pytest.raises(InputError, match="architecture"):
        Detector.read(whole, "cpu")


def test_crops_of_another_size_are_refused(checkpoint):
    with pytest.raises(ValueError, match="64"):
        Detector.read(checkpoint, "cpu").detect([sample(0, 1, side=32)])
