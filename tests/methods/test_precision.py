import pytest
import torch
from torch import nn

from poseboard.methods.nets.precision import RoundedConvolutions, bfloat16

SHAPES = [
    (nn.Conv2d(3, 5, 3, stride=2, padding=1), (2, 3, 9, 8)),
    (nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1), (2, 3, 6, 5)),
    (nn.Conv3d(3, 5, 3, padding=1), (2, 3, 6, 5, 4)),
    (nn.ConvTranspose3d(3, 5, 2, stride=2), (2, 3, 3, 4, 2)),
]


@pytest.mark.parametrize(("layer", "shape"), SHAPES, ids=lambda value: type(value).__name__)
def test_convolutions_are_those_of_rounded_numbers(layer: nn.Module, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.data.normal_(generator=generator)
    x = torch.randn(shape, generator=generator)
    with torch.autocast("cpu", torch.bfloat16), RoundedConvolutions():
        answer = layer(x)
    assert answer.dtype == torch.bfloat16
    exact = type(layer)(*(3, 5), **{k: getattr(layer, k) for k in ("kernel_size", "stride", "padding")}).double()
    exact.load_state_dict({name: value.bfloat16().double() for name, value in layer.state_dict().items()})
    wanted = exact(x.bfloat16().double())
    # half a unit of the last of 8 bits, and the sums of float32
    torch.testing.assert_close(answer.double(), wanted, rtol=2**-8, atol=1e-5)


def test_gradients_point_where_those_of_float32_do() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
    x = torch.randn(2, 3, 12, 12)
    gradients = []
    for rounded in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded), RoundedConvolutions():
            answer = net(x)
        found = torch.autograd.grad(answer.float().square().mean(), list(net.parameters()))
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    assert gradients[1].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.999


def test_where_autocast_is_off_everything_stays_float32() -> None:
    layer, x = nn.Conv2d(3, 5, 3), torch.randn(1, 3, 6, 6)
    with RoundedConvolutions(), torch.autocast("cpu", enabled=False):
        assert torch.equal(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias))
    with bfloat16("cpu", enabled=False):
        assert layer(x).dtype == torch.float32


@pytest.mark.parametrize("supported", [True, False])
def test_they_are_used_where_the_processor_needs_them(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    seen = []
    monkeypatch.setattr(
        RoundedConvolutions, "__torch_function__", lambda self, f, types, args=(), kw=None: seen.append(f) or f(*args)
    )
    with bfloat16("cpu"):
        assert torch.relu(torch.ones(2)).sum() == 2
    assert bool(seen) is not supported
