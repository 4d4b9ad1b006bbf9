"""Targets, losses and printed figures of rays_mlp against numbers recorded from the reference implementation."""

import numpy as np
import torch

from poseboard.methods.rays_mlp.losses import (
    RAY_WING,
    HeatmapTargets,
    Pictured,
    focal_loss,
    heatmap_targets,
    offset_loss,
    point_figures,
    seven_figures,
    wing_loss,
)
from poseboard.methods.rays_mlp.mobileone import Maps
from poseboard.methods.rays_mlp.model import decode_peaks, offsets_at

ROOT = 6


def tensor(file, name):
    return torch.from_numpy(file[name])


def test_targets(golden_probabilistic):
    file = golden_probabilistic("heatmap_targets")
    found = heatmap_targets(tensor(file, "x2d"), int(file["image_size"]), int(file["heatmap_size"]), compat=True)
    np.testing.assert_allclose(found.heatmaps, file["hm"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.valid, file["mask"])
    np.testing.assert_array_equal(found.cell, file["ind"])
    valid = file["mask"] > 0
    np.testing.assert_array_equal(found.offsets[valid], file["reg"][valid])


def test_the_seven_figures(golden_probabilistic):
    file = golden_probabilistic("losses")
    gt_hm, pred_hm = tensor(file, "gt_hm"), tensor(file, "pred_hm")
    of_views = [focal_loss(pred_hm[:, v], gt_hm[:, v]) for v in range(4)]
    truth = tensor(file, "gt_x3d")[:, 0]
    predicted = tensor(file, "pred_x3d")
    figures = seven_figures(
        Pictured(tensor(file, "pred_x2d"), predicted),
        Pictured(tensor(file, "gt_x2d"), truth),
        torch.stack(of_views).mean(),
    )
    assert list(figures) == ["loss", "loss/hm", "loss/x3d", "x2d/l1", "x2d/l2", "x3d/l1", "x3d/l2"]
    for name, value in figures.items():
        np.testing.assert_allclose(value, file[f"cocktail_{name.replace('/', '_')}"], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(wing_loss(predicted, truth, 25, 5), file["x3d_loss_per_joint"], rtol=1e-5)
    np.testing.assert_allclose((predicted - truth).abs().sum(-1), file["x3d_l1_per_joint"], rtol=1e-5)
    np.testing.assert_allclose(wing_loss(predicted, truth, *RAY_WING).mean(), file["wing_loss"], rtol=1e-5)
    distances = point_figures(predicted, truth, torch.ones(2, 17), "diff")
    np.testing.assert_allclose(distances["diff/l1"], file["wing_diff_l1"], rtol=1e-5)
    np.testing.assert_allclose(distances["diff/l2"], file["wing_diff_l2"], rtol=1e-5)


def test_training_in_2d(golden_probabilistic):
    file = golden_probabilistic("losses")
    heatmaps, offsets = tensor(file, "pred_hm")[:, 0], tensor(file, "pred_reg_view0")
    targets = HeatmapTargets(
        tensor(file, "gt_hm")[:, 0],
        tensor(file, "gt_ind")[:, 0],
        tensor(file, "gt_reg")[:, 0],
        tensor(file, "gt_mask")[:, 0] > 0,
    )
    focal = focal_loss(heatmaps, targets.heatmaps)
    np.testing.assert_allclose(focal, file["det_loss_hm"], rtol=1e-5)
    np.testing.assert_allclose(focal, file["focal_view0"], rtol=1e-5)
    capped = focal_loss(heatmaps, targets.heatmaps.clamp(max=0.85))
    np.testing.assert_allclose(capped, file["focal_no_positive"], rtol=1e-5)
    offset = offset_loss(offsets_at(offsets, targets.cell), targets)
    np.testing.assert_allclose(offset, file["det_loss_reg"], rtol=1e-5)
    np.testing.assert_allclose(focal + offset, file["det_loss"], rtol=1e-5)
    cells, peak, _ = decode_peaks(Maps(heatmaps, offsets, heatmaps))
    points = 4 * cells
    np.testing.assert_allclose(points, file["det_pred_x2d"][..., :2], rtol=0, atol=1e-3)
    np.testing.assert_allclose(peak, file["det_pred_x2d"][..., 2], rtol=1e-5)
    figures = point_figures(points, tensor(file, "gt_x2d")[:, 0], torch.ones(2, 17), "diff")
    np.testing.assert_allclose(figures["diff/l1"], file["det_diff_l1"], rtol=1e-5)
    np.testing.assert_allclose(figures["diff/l2"], file["det_diff_l2"], rtol=1e-5)
