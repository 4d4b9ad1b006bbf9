"""The costs of predictions: what is measured, of which rows, and where it is shown."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from poseboard.benchmarks.harness import LoadedRow, build_method
from poseboard.benchmarks.plan import Plan
from poseboard.protocols.records import CostFile, TrainingFile


def operations_of_convolutions(model: nn.Module, crop_px: int) -> int:
    """Operations of a crop's forward pass by the formula of a convolution, from the sizes that its hooks see."""
    total = 0

    def count(layer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        places = (inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output).shape[-2:].numel()
        total += 2 * places * layer.weight.numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 3, crop_px, crop_px))
    return total


def test_costs_of_trained_rows_are_measured_and_on_the_page(workspace: Any) -> None:
    # algebraic is in params.yaml and has no predictions.
    (line,) = workspace.must("speed", "--rows").out.splitlines()
    assert line.startswith("human36m/dlt: ")
    file = CostFile.read(workspace.folder / "results/smoke/costs/human36m.json")
    (cost,) = file.rows
    run = Plan.read(workspace.folder / "params.yaml").run("dlt", "human36m")
    assert (file.profile, file.threads, file.reference) == ("smoke", 1, None)
    assert (cost.method, cost.views, cost.batch) == ("dlt", 4, min(64, len(run.dataset.keys("test"))))
    assert cost.parameters == TrainingFile.read(run.path("training")).parameters
    method: Any = LoadedRow("dlt", partial(build_method, run), run.checkpoint(0)).model()
    model = method._detector.net
    assert cost.gflops == pytest.approx(4 * operations_of_convolutions(model, 64) / 1e9, rel=0.01)
    assert 0 < cost.ms_batch < 1000
    assert 0 < cost.ms_single < 5000
    assert cost.memory_mib is None or 0 < cost.memory_mib < 1000
    workspace.must("report")
    page = (workspace.folder / "results/smoke/leaderboard/index.html").read_text()
    assert "time, <br>ms / sample" in page


def test_an_unknown_reference_is_one_line(workspace: Any) -> None:
    path = workspace.folder / "params.yaml"
    path.write_text(path.read_text() + "cost_reference: dtl\n")
    error = workspace.run("speed", "--rows").error
    assert "cost_reference: no row 'dtl'" in error
    assert "dlt" in error
