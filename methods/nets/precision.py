"""Convolutions in bfloat16, also on processors without bfloat16 instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = (torch.conv2d, torch.conv3d, torch.conv_transpose2d, torch.conv_transpose3d)


class RoundedConvolutions(TorchFunctionMode):
    """Emulate bfloat16 convolutions in float32: round inputs, weights, outputs and gradients to bfloat16.

    On a processor without bfloat16 instructions PyTorch's bfloat16 convolutions take twenty times as long. Products of
    two bfloat16 numbers are exact in float32, and the instructions also sum in float32. Results differ only by the
    order of summation.

    Example:
        >>> images, weights = torch.ones(1, 1, 3, 3), torch.full((1, 1, 3, 3), 1 / 3)
        >>> with torch.autocast("cpu", torch.bfloat16), RoundedConvolutions():
        ...     torch.conv2d(images, weights)
        tensor([[[[3.]]]], dtype=torch.bfloat16)
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Round convolutions under autocast, and leave every other function unchanged."""
        if func not in _CONVOLUTIONS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **(kwargs or {}))
        rounded = [_rounded(value) for value in args]
        named = {name: _rounded(value) for name, value in (kwargs or {}).items()}
        with torch.autocast("cpu", enabled=False):
            output: Tensor = func(*rounded, **named)
        return output.bfloat16()


def _rounded(value: Any) -> Any:
    return value.bfloat16().float() if isinstance(value, Tensor) and value.is_floating_point() else value


def has_bfloat16() -> bool:
    """Whether PyTorch has fast bfloat16 convolutions on this processor."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def bfloat16(device: str, enabled: bool = True) -> Iterator[None]:
    """Run a block in bfloat16: `torch.autocast`, plus `RoundedConvolutions` on a CPU without bfloat16 instructions.

    Args:
        device: type of device, "cpu" or "cuda".
        enabled: False: no change.
    """
    with torch.autocast(device, torch.bfloat16, enabled=enabled):
        if enabled and device == "cpu" and not has_bfloat16():
            with RoundedConvolutions():
                yield
        else:
            yield
