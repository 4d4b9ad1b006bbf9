"""Folded batch normalisation answers as the network it was made of, which stays as it was."""

import pytest
import torch
from torch import nn

from poseboard.methods.nets.fusion import folded
from poseboard.methods.nets.pose_resnet import build_backbone


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_a_folded_network_answers_alike(name):
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        network = build_backbone(name, 2).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 1.5)
        images = torch.rand(2, 3, 64, 64)
        before = network(images)
        after, again = folded(network)(images), network(images)
    for one, other, same in (
        (before.heatmaps, after.heatmaps, again.heatmaps),
        (before.deepest, after.deepest, again.deepest),
    ):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))
        assert torch.equal(one, same)


def test_only_what_follows_a_transposed_convolution_is_left():
    left = [m for m in folded(build_backbone("resnet18", 1).eval()).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(left) == 3
