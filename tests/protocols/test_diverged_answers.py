"""Leak tests: an answer that is far off, tiny or absurd never scores better than a pose shrunk to one point."""

import importlib
import pkgutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from predicted import answered, seen_by, with_cameras

import poseboard.protocols
from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.protocols import metrics
from poseboard.protocols.mpjpe_true_size import MpjpeTrueSize
from poseboard.protocols.predictions import LARGEST_MM, read, write
from poseboard.protocols.records import Score
from poseboard.protocols.scoring import score
from poseboard.protocols.single_person import SinglePerson
from poseboard.protocols.views import SeenBy

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
SIZE = ("pelvis", "thorax")
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "failure_rate": ("failure_rate", {}),
    "mpjpe_absolute": ("mpjpe_absolute", {}),
    "mpjpe_clipped": ("mpjpe_clipped", {}),
    "mpjpe_relative": ("mpjpe_relative", {}),
    "mpjpe_relative, mean of two": ("mpjpe_relative", {"root": ("left_hip", "right_hip")}),
    "mpjpe_root_camera": ("mpjpe_root_camera", {}),
    "mpjpe_scale": ("mpjpe_scale", {}),
    "mpjpe_true_size": ("mpjpe_true_size", {"size": SIZE}),
    "pa_mpjpe": ("pa_mpjpe", {}),
    "pa_mpjpe_sequence": ("pa_mpjpe_sequence", {"frames": 10}),
    "pck": ("pck", {}),
    "pck, area": ("pck", {"report": "auc"}),
}
J = len(HUMAN36M)


def constant(size: float):
    return lambda truth: np.full_like(truth, size)


def another_per_axis(size: float):
    return lambda truth: np.broadcast_to(size * np.array([1.0, -0.7, 0.3]), truth.shape)


def truth_moved_by(size: float):
    """Where the shift is far larger than the truth it takes its place: what is left is a constant."""
    return lambda truth: truth + size


def one_joint_away(size: float):
    def answer(truth: NDArray) -> NDArray:
        moved = np.zeros_like(truth)
        moved[:, 3] = size
        return moved

    return answer


def mixed(truth: NDArray) -> NDArray:
    """Every joint of another order of magnitude, from a denormal to the largest that float32 has room for."""
    return np.broadcast_to(np.logspace(-44, 38, J)[:, None] * np.array([1.0, -1.0, 0.5]), truth.shape)


def mixed_by_pose(truth: NDArray) -> NDArray:
    return np.broadcast_to(np.logspace(-44, 38, len(truth))[:, None, None], truth.shape)


SIZES = (1e6, 1e12, 5e19, 1e20, 3e38, -1e20, 1e-38, 1e-42, 1e-45, 0.0)
ANSWERS = {
    **{f"constant {size:g}": constant(size) for size in SIZES},
    **{f"another per axis {size:g}": another_per_axis(size) for size in (1e6, 5e19, 1e-42)},
    **{f"truth moved by {size:g}": truth_moved_by(size) for size in (1e12, 5e19, 1e20, 3e38)},
    **{f"one joint at {size:g}": one_joint_away(size) for size in (1e6, 1e20, 3e38)},
    "mixed magnitudes": mixed,
    "mixed by pose": mixed_by_pose,
}


@cache
def seen_from_the_origin(samples: int) -> SeenBy:
    return seen_by(np.broadcast_to(np.eye(3), (samples, len(CAMERAS), 3, 3)))


@pytest.fixture(scope="module")
def of_one_point() -> dict[str, Score]:
    """What a pose shrunk to one point scores, by case."""
    return {}


@pytest.fixture
def judge(make_truth, make_predictions, make_table):
    def run(case: str, joints_mm: NDArray):
        protocol, parameters = CASES[case]
        truth = make_truth()
        truth = replace(truth, seen_by=seen_from_the_origin(len(truth)))
        size = {"size_mm": 500.0} if protocol == "mpjpe_true_size" else {}
        alone = protocol in ("mpjpe_root_camera", "mpjpe_scale", "mpjpe_true_size")
        sets = [(name,) for name in CAMERAS] if alone else [CAMERAS]
        tables = [make_predictions(truth, joints_mm, cameras=cameras, **size) for cameras in sets]
        if protocol == "pa_mpjpe_sequence":
            tables = [with_cameras(made) for made in tables]
        table = make_table(protocol, groups=[{"each": alone}], **parameters)
        (found,) = score(table, answered(*tables), truth, resamples=20).scores
        return found

    return run


def test_every_protocol_is_here() -> None:
    """A new protocol of one person has its leak tests from the first day; others have theirs beside their own tests."""
    for module in pkgutil.iter_modules(poseboard.protocols.__path__):
        importlib.import_module(f"poseboard.protocols.{module.name}")

    def below(kind: type[SinglePerson]) -> set[type[SinglePerson]]:
        return {kind, *(found for sub in kind.__subclasses__() for found in below(sub))}

    ours = {
        kind.name for kind in below(SinglePerson) if hasattr(kind, "name") and kind.__module__.startswith("poseboard.")
    }
    assert ours == {protocol for protocol, _ in CASES.values()}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("case", CASES)
def test_no_absurd_answer_scores_well(judge, make_truth, of_one_point, case: str, answer: str) -> None:
    """All of it is counted, none of it is missing, and it is as bad as one point, up to the one joint it may get."""
    truth = make_truth().joints_mm
    with np.errstate(over="ignore"):
        joints_mm = np.clip(ANSWERS[answer](truth), -3.4e38, 3.4e38)
    if case not in of_one_point:
        of_one_point[case] = judge(case, np.zeros_like(truth))
    found, collapsed = judge(case, joints_mm), of_one_point[case]
    assert found.n_missing == 0
    assert found.value is not None
    assert np.isfinite(found.value)
    if found.lower_is_better:
        assert collapsed.value == 100 if found.signature.metric.startswith("failed") else collapsed.value > 100
        assert found.value >= 0.7 * collapsed.value
    else:
        assert collapsed.value < 20
        assert found.value <= collapsed.value + 100 / J


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1e6, 1e12, 5e19, 3e38, 1e-45])
def test_the_same_point_at_every_joint_is_the_pose_of_one_point(size: float, dtype: type) -> None:
    """Root-relative, a constant answer has every joint at the root, however large it is; aligned, at the mean."""
    truth = np.random.default_rng(0).normal(0, 300, (6, J, 3)).astype(dtype)
    same = np.full_like(truth, size)
    about_root = np.linalg.norm(truth - truth[:, [6]], axis=2)
    np.testing.assert_allclose(metrics.joint_errors(same, truth, root=6), about_root, rtol=1e-5)
    about_mean = np.linalg.norm(truth - truth.mean(axis=1, keepdims=True), axis=2)
    np.testing.assert_allclose(metrics.aligned_joint_errors(same, truth), about_mean, rtol=1e-4)
    assert (metrics.pose_pck(metrics.joint_errors(same, truth, root=6), 1.0) == 1 / J).all()


@pytest.mark.parametrize("size", [1e200, 1e300, 1e-200, 5e-324])
def test_alignment_of_coordinates_whose_squares_are_no_numbers(size: float) -> None:
    truth = np.random.default_rng(1).normal(0, 300, (4, J, 3))
    errors = metrics.aligned_joint_errors(np.full_like(truth, size), truth)
    assert np.isfinite(errors).all()
    assert (metrics.pose_errors(errors) > 100).all()
    if size > 1e-300:
        np.testing.assert_allclose(metrics.pa_mpjpe(truth * (size / 1e3), truth), 0, atol=1e-6)


def test_an_error_too_large_for_float32_still_counts() -> None:
    truth = np.zeros((2, J, 3), dtype=np.float32)
    far = truth.copy()
    far[0] = 3.4e38
    errors = metrics.joint_errors(far, truth)
    assert errors.dtype == np.float32
    assert np.isfinite(errors).all()
    assert metrics.pose_errors(errors)[0] > 1e38


@pytest.mark.parametrize("size", [1.001e6, -2e6, 1e12, 5e19, 3e38])
def test_answers_beyond_a_kilometre_are_refused_by_file_and_key(make_truth, make_predictions, tmp_path, size) -> None:
    truth = make_truth()
    path = tmp_path / "pred.parquet"
    fine = truth.joints_mm.copy()
    fine[:] = LARGEST_MM
    fine[4] = np.nan
    write(path, make_predictions(truth, fine))
    assert read(path).joints_mm.max(where=~np.isnan(fine), initial=0) == LARGEST_MM
    kept = path.read_bytes()
    far = truth.joints_mm.copy()
    far[2, 5, 1] = size
    far[7] = size
    far[4] = np.nan
    message = (
        r"pred\.parquet: joints_mm: 2 records have coordinates beyond 1000000 mm, first key 'S9/Walking-1/000002'; "
        "write millimetres"
    )
    with pytest.raises(InputError, match=message) as refused:
        write(path, make_predictions(truth, far))
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == kept


def test_a_file_written_by_others_is_refused_as_well(make_truth, make_predictions, tmp_path, monkeypatch) -> None:
    truth = make_truth()
    path = tmp_path / "pred.parquet"
    with monkeypatch.context() as patched:
        patched.setattr("poseboard.protocols.predictions.LARGEST_MM", 1e30)
        write(path, make_predictions(truth, np.full_like(truth.joints_mm, 5e19)))
    with pytest.raises(InputError, match=r"pred\.parquet: joints_mm: 34 records have coordinates beyond 1000000 mm"):
        read(path)


@pytest.mark.parametrize("size_mm", [0.0, -1.0, 1e-40, 1e30, np.nan])
def test_a_size_that_is_none_is_refused(make_truth, make_predictions, size_mm: float) -> None:
    truth = make_truth()
    table = make_predictions(truth, size_mm=100.0)
    table.columns["size_mm"][3] = size_mm
    with pytest.raises(InputError, match=f"size_mm: 1 records have no size from .* first '{table.keys[3]}'"):
        MpjpeTrueSize(size=SIZE).errors(table, truth)
