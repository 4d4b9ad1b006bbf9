"""What each protocol must and must not notice, through the function that the score stage calls."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from predicted import SIGNATURE, answered
from scipy.spatial.transform import Rotation

from poseboard.datasets.errors import InputError
from poseboard.datasets.facts import Facts
from poseboard.datasets.skeleton import COCO, HUMAN36M
from poseboard.protocols.base import TruthTable
from poseboard.protocols.comparison import compare
from poseboard.protocols.perturbation import Perturbation
from poseboard.protocols.records import Score, Signature
from poseboard.protocols.scoring import Scored, score

ROOT = HUMAN36M.root_index
PROTOCOLS = {
    "mpjpe_absolute": {},
    "mpjpe_clipped": {},
    "mpjpe_relative": {},
    "pa_mpjpe": {},
    "pck": {},
}
SHIFT = np.array([24.0, -32.0, 0.0])  # 40 mm


@pytest.fixture
def judge(make_truth, make_predictions, make_table):
    """Score predicted joints (None: the truth itself) of the small truth table by a protocol."""

    def run(protocol: str, joints_mm: NDArray | None = None, truth: TruthTable | None = None, **fields) -> Scored:
        truth = make_truth() if truth is None else truth
        table = make_table(protocol, **{**PROTOCOLS[protocol], **fields})
        return score(table, answered(make_predictions(truth, joints_mm)), truth, resamples=200)

    return run


def value(scored: Scored) -> float:
    assert len(scored.scores) == 1
    assert scored.scores[0].value is not None
    return scored.scores[0].value


@pytest.mark.parametrize("average", ["frames", "actions"])
@pytest.mark.parametrize("protocol", ["mpjpe_absolute", "mpjpe_clipped", "mpjpe_relative", "pa_mpjpe", "pck"])
def test_oracle_is_perfect(judge, protocol: str, average: str) -> None:
    scored = judge(protocol, average=average)
    perfect = 100 if protocol == "pck" else 0
    found = scored.scores[0]
    assert value(scored) == pytest.approx(perfect, abs=1e-3)
    assert found.ci95 == pytest.approx((perfect, perfect), abs=1e-3)
    assert (found.n_samples, found.n_missing, found.n_groups) == (34, 0, 8)
    assert found.signature.average == average
    for breakdown in found.breakdown.values():
        assert all(entry == pytest.approx(perfect, abs=1e-3) for entry in breakdown.values())
    assert set(found.breakdown["action"]) == {"Walking", "Sitting", "Greeting"}
    assert set(found.breakdown["subject"]) == {"S9", "S11"}
    assert set(found.breakdown["joint"]) == set(HUMAN36M.joints)


def test_shift_of_the_whole_pose(judge, make_truth) -> None:
    """Leak test: a shift is exactly what the absolute error sees, and nothing to the others."""
    moved = make_truth().joints_mm + SHIFT
    assert value(judge("mpjpe_absolute", moved)) == pytest.approx(40, abs=1e-4)
    assert value(judge("mpjpe_relative", moved)) == pytest.approx(0, abs=1e-4)
    assert value(judge("pa_mpjpe", moved)) == pytest.approx(0, abs=1e-3)
    assert value(judge("pck", moved, threshold_mm=1)) == pytest.approx(100)


def test_shift_of_the_root_alone(judge, make_truth) -> None:
    """One joint of 17 is off absolutely; relatively all the others are, and the root never is."""
    moved = make_truth().joints_mm.copy()
    moved[:, ROOT] += SHIFT
    absolute, relative = judge("mpjpe_absolute", moved), judge("mpjpe_relative", moved)
    assert value(absolute) == pytest.approx(40 / 17, abs=1e-4)
    assert value(relative) == pytest.approx(40 * 16 / 17, abs=1e-4)
    assert absolute.scores[0].breakdown["joint"]["pelvis"] == pytest.approx(40, abs=1e-4)
    assert relative.scores[0].breakdown["joint"]["pelvis"] == 0
    assert relative.scores[0].breakdown["joint"]["nose"] == pytest.approx(40, abs=1e-4)


def test_scale_leaks_into_all_but_procrustes(judge, make_truth) -> None:
    scaled = make_truth().joints_mm * 1.1
    assert value(judge("mpjpe_absolute", scaled)) > 10
    assert value(judge("mpjpe_relative", scaled)) > 10
    assert value(judge("pa_mpjpe", scaled)) == pytest.approx(0, abs=1e-3)


def test_similarity_leaks_into_all_but_procrustes(judge, make_truth) -> None:
    truth = make_truth()
    pred = truth.joints_mm + np.random.default_rng(1).normal(0, 20, truth.joints_mm.shape)
    turned = 0.7 * pred @ Rotation.random(random_state=4).as_matrix() + 100
    assert value(judge("pa_mpjpe", turned)) == pytest.approx(value(judge("pa_mpjpe", pred)), abs=1e-3)
    assert value(judge("mpjpe_relative", turned)) > 3 * value(judge("mpjpe_relative", pred))


@pytest.mark.parametrize("protocol", ["mpjpe_absolute", "mpjpe_clipped", "mpjpe_relative", "pa_mpjpe", "pck"])
def test_permuted_joints_are_seen_unless_they_are_named(
    judge, make_truth, make_predictions, make_table, protocol
) -> None:
    """The same numbers in another joint order are wrong, the same joints under their names are right."""
    truth = make_truth()
    order = np.roll(np.arange(17), 1)
    oracle, permuted = value(judge(protocol)), value(judge(protocol, truth.joints_mm[:, order]))
    assert abs(permuted - oracle) > 10
    named = make_predictions(truth, truth.joints_mm[:, order], joints=tuple(HUMAN36M.joints[i] for i in order))
    scored = score(make_table(protocol), answered(named), truth, resamples=50)
    assert value(scored) == pytest.approx(oracle, abs=1e-3)


def test_another_joint_set_is_an_error_that_names_the_joints(make_truth, make_predictions, make_table) -> None:
    truth = make_truth()
    coco = make_predictions(truth, joints=COCO.joints)
    with pytest.raises(InputError, match=r"joints_mm: .* has no pelvis, spine, thorax, head_top"):
        score(make_table("mpjpe_absolute"), answered(coco), truth)
    wrists = score(make_table("mpjpe_absolute", joints=["left_wrist", "nose"]), answered(coco), truth, resamples=50)
    assert wrists.scores[0].signature.joints == "2 of human36m-17: left_wrist, nose"
    with pytest.raises(InputError, match="root"):
        score(make_table("mpjpe_relative", root="tail"), answered(make_predictions(truth)), truth)


def test_a_clipped_joint_counts_its_limit_and_a_missing_one_stays_missing(judge, make_truth) -> None:
    """Epipolar transformers, release code: 150 mm at most; a pose that is not predicted is not 150 mm off."""
    moved = make_truth().joints_mm.copy()
    moved[:, 3] += (0.0, 0.0, 9000.0)
    moved[:, 4] += SHIFT
    scored = judge("mpjpe_clipped", moved)
    assert value(scored) == pytest.approx((150 + 40) / 17, abs=1e-4)
    assert scored.scores[0].signature.metric == "mpjpe<=150mm"
    assert value(judge("mpjpe_clipped", moved, limit_mm=30)) == pytest.approx(60 / 17, abs=1e-4)
    moved[0] = np.nan
    assert judge("mpjpe_clipped", moved).scores[0].n_missing == 1
    assert value(judge("mpjpe_clipped", moved)) == pytest.approx((150 + 40) / 17, abs=1e-4)


def test_root_is_subtracted_even_where_it_is_not_evaluated(judge, make_truth) -> None:
    moved = make_truth().joints_mm.copy()
    moved[:, ROOT] += SHIFT
    scored = judge("mpjpe_relative", moved, joints=["nose", "left_wrist"])
    assert value(scored) == pytest.approx(40, abs=1e-4)
    assert set(scored.scores[0].breakdown["joint"]) == {"nose", "left_wrist"}


def test_a_root_that_is_no_joint(make_truth, make_predictions, make_table) -> None:
    """Moving one hip by 80 mm moves the root by 40 and every other joint about it by as much."""
    truth = make_truth(skeleton=COCO)
    moved = truth.joints_mm.copy()
    moved[:, COCO.joints.index("left_hip")] += [80, 0, 0]
    predictions = answered(make_predictions(truth, moved))
    found = score(make_table("mpjpe_relative"), predictions, truth, resamples=20).scores[0]
    assert found.value == pytest.approx(40, abs=1e-3)
    assert found.signature.root == "mean of left_hip, right_hip"
    arms = make_table("mpjpe_relative", joints=["left_wrist"], root=["left_hip", "nose"])
    found = score(arms, predictions, truth, resamples=20).scores[0]
    assert found.value == pytest.approx(40, abs=1e-3)
    assert found.signature.root == "mean of left_hip, nose"
    with pytest.raises(InputError, match="'tail' is not a joint of coco-17"):
        score(make_table("mpjpe_relative", root=["nose", "tail"]), predictions, truth)


def test_frames_and_actions_are_two_averages(judge, make_truth) -> None:
    """Unequal actions: 24 poses of Walking, 6 of Sitting, 4 of Greeting are off by 10, 20 and 60 mm."""
    truth = make_truth()
    size = np.array([{"Walking": 10, "Sitting": 20, "Greeting": 60}[a] for a in truth.action])
    moved = truth.joints_mm + size[:, None, None] * [1.0, 0, 0]
    frames = judge("mpjpe_absolute", moved)
    actions = judge("mpjpe_absolute", moved, average="actions")
    assert value(frames) == pytest.approx((24 * 10 + 6 * 20 + 4 * 60) / 34, abs=1e-4)
    assert value(actions) == pytest.approx(30, abs=1e-4)
    assert frames.scores[0].breakdown["action"] == pytest.approx({"Walking": 10, "Sitting": 20, "Greeting": 60})
    assert str(frames.scores[0].signature) != str(actions.scores[0].signature)
    low, high = frames.scores[0].ci95
    assert low < value(frames) < high


def test_damaged_scenes_are_a_signature(judge, make_truth) -> None:
    truth = make_truth()
    moved = truth.joints_mm.copy()
    moved[[key.startswith("S9/Greeting-2/") for key in truth.keys]] += 1000
    everything, clean = judge("mpjpe_absolute", moved), judge("mpjpe_absolute", moved, exclude=["S9/Greeting-2"])
    assert value(everything) > 100
    assert value(clean) == pytest.approx(0, abs=1e-3)
    assert (everything.scores[0].n_samples, clean.scores[0].n_samples) == (34, 32)
    assert clean.scores[0].signature.exclusions == ("S9/Greeting-2",)
    assert everything.scores[0].signature.exclusions == ()
    third = judge("mpjpe_absolute", moved, exclude=["S9/Greeting-2"], every=3)
    assert third.scores[0].n_samples == 11
    assert third.scores[0].signature.every == 3


@pytest.mark.parametrize("prefix", ["S9/Greeting", "S9/Greting-2", "Greeting-2", "S9/Greeting-2/00000", "S1"])
def test_an_exclusion_that_matches_nothing_is_told(make_truth, make_table, prefix: str) -> None:
    """Prefixes are whole parts of keys: S9/Greeting is not S9/Greeting-2."""
    table = make_table("pck", exclude=["S11/Greeting-2", prefix])
    with pytest.raises(InputError, match=f"table B: exclude: '{prefix}' matches no key of split 'test' of human36m"):
        table.select(make_truth())
    assert len(make_table("pck", exclude=["S9/Greeting-2", "S11/"]).select(make_truth())) == 15


@pytest.mark.parametrize("how", ["no row", "all NaN", "one joint"])
@pytest.mark.parametrize("protocol", ["mpjpe_absolute", "mpjpe_clipped", "mpjpe_relative", "pa_mpjpe", "pck"])
def test_missing_poses_are_counted(make_truth, make_predictions, make_table, protocol: str, how: str) -> None:
    """The first five poses are not (wholly) predicted, the others are off by 40 mm."""
    truth = make_truth()
    joints = truth.joints_mm.copy()
    joints[:, 0] += SHIFT
    keys = truth.keys
    if how == "no row":
        joints, keys = joints[5:], keys[5:]
    elif how == "all NaN":
        joints[:5] = np.nan
    else:
        joints[:5, 3] = np.nan
    scored = score(make_table(protocol), answered(make_predictions(truth, joints, keys)), truth, resamples=50)
    found = scored.scores[0]
    assert found.n_samples == 34
    assert len(scored.errors) == 34
    if protocol == "pck":
        right = 29 * 17 + (5 * 16 if how == "one joint" else 0)
        assert found.value == pytest.approx(100 * right / (34 * 17))
        assert found.n_missing == (0 if how == "one joint" else 5)
        assert found.curves["pck"].y[-1] == pytest.approx(found.value)
        assert found.breakdown["joint"]["right_ankle"] == pytest.approx(100 if how == "one joint" else 100 * 29 / 34)
    else:
        assert found.n_missing == 5
        whole = score(
            make_table(protocol),
            answered(make_predictions(truth, np.where(np.isnan(joints), 0, joints), keys)),
            truth,
            resamples=50,
        )
        expected = whole.errors.loc[~scored.errors["missing"], "error"].mean()
        assert found.value == pytest.approx(expected)
        assert scored.errors["error"].isna().equals(scored.errors["missing"])


def test_truth_that_is_not_annotated_is_not_evaluated(judge, make_truth) -> None:
    truth = make_truth()
    joints = truth.joints_mm.copy()
    joints[:3] = np.nan
    joints[3, 5] = np.nan
    partly = replace(truth, joints_mm=joints)
    for protocol in ("mpjpe_absolute", "mpjpe_relative", "pa_mpjpe", "pck"):
        scored = judge(protocol, np.nan_to_num(joints), truth=partly)
        assert scored.scores[0].n_samples == 31
        assert value(scored) == pytest.approx(100 if protocol == "pck" else 0, abs=1e-3)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_predicted(make_truth, make_predictions, make_table, protocol: str) -> None:
    truth = make_truth()
    none = make_predictions(truth, truth.joints_mm[:0], truth.keys[:0])
    table = make_table(protocol, **PROTOCOLS[protocol])
    found = score(table, answered(none), truth, resamples=50).scores[0]
    assert found.n_missing == 34
    if protocol == "pck":
        assert (found.value, found.ci95) == (0, (0, 0))
    else:
        assert (found.value, found.ci95) == (None, None)
    assert Score.model_validate_json(found.model_dump_json()) == found


def test_seeds_are_averaged(make_truth, make_predictions, make_table) -> None:
    truth = make_truth()
    tables = {seed: make_predictions(truth, truth.joints_mm + seed * SHIFT, seed=seed) for seed in (1, 2, 3)}
    scored = score(make_table("mpjpe_absolute"), answered(*tables.values()), truth, resamples=50)
    found = scored.scores[0]
    assert [entry.seed for entry in found.seeds] == [1, 2, 3]
    assert [entry.value for entry in found.seeds] == pytest.approx([40, 80, 120], abs=1e-4)
    assert found.value == pytest.approx(80, abs=1e-4)
    assert found.ci95_groups == pytest.approx((80, 80), abs=1e-4)
    # Student's t of two degrees of freedom: 40 mm between seeds
    assert found.ci95 == pytest.approx((0, 80 + 4.3027 * 40 / np.sqrt(3)), abs=1e-2)
    assert scored.errors["seed"].value_counts().to_dict() == {1: 34, 2: 34, 3: 34}


def test_one_group_has_no_interval(make_truth, make_predictions, make_table) -> None:
    truth = make_truth()
    one = truth.take(np.arange(7))
    found = score(make_table("mpjpe_absolute"), answered(make_predictions(truth)), one).scores[0]
    assert (found.n_groups, found.ci95) == (1, None)


def test_a_sweep_has_a_score_for_each_group(make_truth, make_predictions, make_table) -> None:
    truth = make_truth()
    order = ("60457274", "54138969", "58860488", "55011271")
    table = make_table("mpjpe_relative", groups=[{"cameras": order[:count]} for count in (2, 3, 4)])
    conditions = [condition for (condition,) in table.conditions(truth.views)]
    assert [condition.cameras for condition in conditions] == [
        ("54138969", "60457274"), ("54138969", "58860488", "60457274"), truth.views]  # fmt: skip
    tables = []
    for condition in conditions:
        pred = truth.joints_mm + np.where(np.arange(17) == ROOT, 0, 5 - len(condition.cameras))[:, None] * SHIFT
        tables.append(make_predictions(truth, pred, cameras=condition.cameras))
    scored = score(table, answered(*tables), truth, resamples=50)
    assert [s.value for s in scored.scores] == pytest.approx([x * 40 * 16 / 17 for x in (3, 2, 1)], abs=1e-3)
    assert [s.signature.views for s in scored.scores] == [
        "54138969, 60457274", "54138969, 58860488, 60457274", "all 4"]  # fmt: skip
    assert [s.group for s in scored.scores] == [0, 1, 2]
    curve = scored.scores[0].curves["cameras"]
    assert (curve.x, curve.y) == ([2, 3, 4], [s.value for s in scored.scores])
    relative = score(make_table("mpjpe_relative"), answered(tables[-1]), truth, resamples=50).scores[0]
    assert scored.scores[2].signature == relative.signature
    assert scored.scores[2].value == relative.value
    some = score(table, answered(tables[-1]), truth, resamples=50)
    assert [(s.group, s.signature.views) for s in some.scores] == [(2, "all 4")]
    assert set(some.errors["group"]) == {2}


def test_a_method_that_is_handed_the_true_root_has_a_number_of_its_own(
    make_truth, make_predictions, make_table
) -> None:
    truth, table = make_truth(), make_table("mpjpe_relative")
    found = {
        name: score(table, answered(make_predictions(truth, method=name, root=root)), truth, resamples=50)
        for name, root in (("told", "truth"), ("bare", "none"), ("third", "none"))
    }
    assert [scored.scores[0].signature.given for scored in found.values()] == [("root",), (), ()]
    (compared,) = compare(table, found, resamples=50)
    assert {rank.method for rank in compared.ranks} == {"bare", "third"}


def test_numbers_on_other_boxes_truth_or_training_are_not_compared(make_truth, make_predictions, make_table) -> None:
    truth, table = make_truth(), make_table("mpjpe_relative")
    detected = replace(truth, facts=Facts(boxes="detected", truth="triangulated"))
    true_boxes = replace(truth, facts=Facts(boxes="true joints", truth="triangulated"))
    rows = {
        "here": (detected, None),
        "named": (detected, truth.dataset),
        "boxes": (true_boxes, None),
        "elsewhere": (detected, "panoptic"),
        "unknown": (truth, None),
    }
    scores = {
        name: score(table, answered(make_predictions(judged, method=name, trained_on=source)), judged, resamples=50)
        for name, (judged, source) in rows.items()
    }
    signatures = {name: scored.scores[0].signature for name, scored in scores.items()}
    assert [(one.boxes, one.truth, one.trained_on, one.usual) for one in signatures.values()] == [
        ("detected", "triangulated", None, True),
        ("detected", "triangulated", None, True),
        ("true joints", "triangulated", None, True),
        ("detected", "triangulated", ("panoptic",), False),
        (None, None, None, True),
    ]
    (compared,) = compare(table, scores, resamples=50)
    assert {rank.method for rank in compared.ranks} == {"here", "named"}
    of_two = answered(make_predictions(truth, seed=0), make_predictions(truth, seed=1, trained_on="panoptic"))
    with pytest.raises(InputError, match=r"metadata\.trained_on: is ..panoptic.., that of .* is null"):
        score(table, of_two, truth, resamples=50)


def test_whatever_a_signature_states_tells_two_numbers_apart() -> None:
    others = {
        "metric": "pck", "alignment": "none", "root": "none", "joints": "14 of 17", "average": "actions",
        "given": ("size",), "version": 2, "split": "validation", "every": 2, "exclusions": ("S9",),
        "cameras": (("a",), ("b",)), "root_cameras": ("a",), "boxes": "detected", "truth": "annotated",
        "trained_on": ("rhd",), "judged": "people who are seen",
        "perturbation": Perturbation(kind="boxes", severity=2), "severities": (0, 2, 4), "frames_per_rig": 10,
        "extrinsics": "withheld",
    }  # fmt: skip
    assert set(others) == set(Signature.model_fields) - {"cameras_of_dataset"}  # which words them for a reader
    of_area = {"perturbation": others["perturbation"]}  # without one there is no area
    lines = {
        str(SIGNATURE.model_copy(update={**(of_area if field == "severities" else {}), field: other}))
        for field, other in others.items()
    }
    assert len(lines | {str(SIGNATURE)}) == len(others) + 1


def test_predictions_from_elsewhere_are_refused(make_truth, make_predictions, make_table) -> None:
    truth = make_truth()
    table = make_table("mpjpe_absolute")

    def run(**info: object) -> None:
        score(table, answered(make_predictions(truth, **info)), truth, resamples=50)

    for field, other in (
        ("dataset", "shelf"),
        ("manifest", "x"),
    ):
        with pytest.raises(InputError, match=f"metadata.{field}"):
            run(**{field: other})
    for field, other in (
        ("split", "train"),
        ("cameras", ("54138969",)),
        ("root_cameras", ("54138969",)),
    ):
        root = {"root": "predicted"} if field == "root_cameras" else {}
        with pytest.raises(ValueError, match="no predictions"):
            run(**{field: other, **root})
    in_camera = replace(make_predictions(truth), frame=np.array(["54138969"] * 34, dtype=object))
    with pytest.raises(InputError, match=r"frame: 34 records are in a camera's frame, first '54138969'"):
        score(table, answered(in_camera), truth)
    assert score(make_table("pa_mpjpe"), answered(in_camera), truth, resamples=50).scores[0].value < 1e-3
    unknown = truth.keys.copy()
    unknown[[4, 9]] = ["S9/None-1/000001", "S9/None-1/000002"]
    with pytest.raises(InputError, match=r"key: 2 records have keys .* for example 'S9/None-1/000001'"):
        score(table, answered(make_predictions(truth, keys=unknown)), truth)
    twice = truth.keys.copy()
    twice[1] = twice[0]
    with pytest.raises(InputError, match=r"key: 1 records repeat a key, first 'S9/Walking-1/000000'"):
        score(table, answered(make_predictions(truth, keys=twice)), truth)
    crowd = replace(truth, person=np.arange(34, dtype=np.int32))
    with pytest.raises(InputError, match="several people"):
        score(table, answered(make_predictions(truth)), crowd)
    with pytest.raises(ValueError, match="no predictions"):
        score(table, {}, truth)
