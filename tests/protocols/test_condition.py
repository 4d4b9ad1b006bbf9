"""What a row is shown: whom, and how it is spoiled, and what of it reaches the signature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from predicted import answered

from poseboard.datasets.errors import InputError
from poseboard.protocols.condition import Condition
from poseboard.protocols.perturbation import KINDS, SCALES, Perturbation
from poseboard.protocols.scoring import score
from poseboard.protocols.table import Group

TURNED = {"kind": "extrinsics", "severity": 3, "seed": 3}


def test_every_fact_changes_the_name_of_the_file() -> None:
    plain = Condition(cameras=("a", "b"))
    others = [
        plain.reduced("none", people="all"),
        plain.reduced("predicted"),
        plain.reduced("truth"),
        Condition(cameras=("a", "b"), split="train"),
        plain.reduced("none", hand=True),
        Condition(cameras=("a", "b"), perturbation=Perturbation.model_validate(TURNED)),
        Condition(cameras=("a", "b"), perturbation=Perturbation.model_validate({**TURNED, "seed": 4})),
        Condition(cameras=("a", "b"), perturbation=Perturbation.model_validate({**TURNED, "severity": 4})),
        Condition(cameras=("a", "b"), frames_per_rig=2),
        Condition(cameras=("a", "b"), every=2),
        Condition(cameras=("a", "b"), trained_on="panoptic"),
    ]
    assert len({condition.slug for condition in (plain, *others)}) == 12


def test_a_row_of_one_frame_per_rig_is_shown_the_same_wherever_more_are_offered() -> None:
    plain, offered = (Condition(cameras=("a", "b"), frames_per_rig=frames) for frames in (1, 10))
    assert offered.reduced("none") == plain
    assert offered.reduced("none").slug == plain.slug == "test-a+b-f35c3652", "as in files of before"
    assert [offered.reduced("none", frames_per_rig=frames).frames_per_rig for frames in (3, 10, 99)] == [3, 10, 10]
    assert all(offered.reduced("none", frames_per_rig=frames).is_reduced(offered) for frames in (1, 3, 99))
    assert not plain.model_copy(update={"cameras": ("a",)}).is_reduced(offered)
    assert not offered.is_reduced(plain)


def test_a_root_is_predicted_from_what_is_as_spoiled() -> None:
    offered = Condition.model_validate(
        {"cameras": ["a"], "root": "predicted", "root_cameras": ["a", "b"], "perturbation": TURNED, "every": 3}
    )
    of_root = offered.reduced("predicted", hand=True, people="all").of_root
    assert of_root == offered.of_root
    assert of_root.cameras == of_root.root_cameras == ("a", "b")
    assert of_root.perturbation == offered.perturbation
    assert of_root.every == 3, "and of the same samples"
    elsewhere = offered.model_copy(update={"trained_on": "panoptic"})
    assert elsewhere.of_root.trained_on == "panoptic", "and by weights of the same training"
    assert not offered.is_reduced(elsewhere)


@pytest.mark.parametrize(
    "change", [{"severity": -1}, {"severity": 6}, {"severity": 0.5}, {"kind": "fog"}, {"seed": -1}]
)
def test_a_perturbation_that_is_none_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Perturbation.model_validate({**TURNED, **change})


def test_severity_0_is_the_condition_without_a_perturbation() -> None:
    plain = Condition(cameras=("a", "b"))
    none = Condition(cameras=("a", "b"), perturbation=Perturbation.model_validate({**TURNED, "severity": 0}))
    assert none == plain
    assert none.slug == plain.slug, "one file of predictions"


@pytest.mark.parametrize("kind", KINDS)
def test_every_severity_of_a_kind_is_stated_in_its_unit(kind: str) -> None:
    amounts = SCALES[kind].amounts  # type: ignore[index]
    weaker = [-amount if kind in ("image_contrast", "image_compression") else amount for amount in amounts]
    assert weaker == sorted(set(weaker)), "each is more than the one before"
    words = {str(Perturbation(kind=kind, severity=severity)) for severity in range(6)}  # type: ignore[arg-type]
    assert len(words) == 6
    with pytest.raises(ValueError, match="changes nothing"):
        _ = Perturbation(kind=kind, severity=0).amount  # type: ignore[arg-type]


def test_two_cameras_are_left() -> None:
    missing = {"perturbation": {"kind": "missing_cameras", "severity": 2}}
    assert Condition.model_validate({"cameras": list("abcd"), **missing}).fewest_views == 2
    with pytest.raises(ValueError, match="takes 2 of 3 cameras"):
        Condition.model_validate({"cameras": list("abc"), **missing})
    with pytest.raises(InputError, match=r"table T: perturbation: removes 2 of 3 cameras; remove fewer"):
        Group().conditions("abc", "test", "T", (None, Perturbation(kind="missing_cameras", severity=2)))


def test_a_group_that_is_spoiled_has_a_signature_of_its_own(make_truth, make_predictions, make_table) -> None:
    truth = make_truth()
    table = make_table("mpjpe_relative", perturbed={"extrinsics": [3]})
    spoiled = make_predictions(truth, truth.joints_mm + 5, perturbation={**TURNED, "seed": 0})
    plain, turned, _ = score(table, answered(make_predictions(truth), spoiled), truth, resamples=50).scores
    assert (plain.group, turned.group) == (0, 1)
    assert plain.signature != turned.signature
    assert "perturbed" not in plain.signature.facts
    assert turned.signature.facts["perturbed"] == (
        "extrinsics 3: cameras turned by 0.5° and moved by 20 mm per degree; seed 0"
    )
    # predictions of the other condition answer neither
    assert len(score(table, answered(spoiled), truth, resamples=50).scores) == 1
    again = type(turned).model_validate_json(turned.model_dump_json())
    assert again.signature == turned.signature


def test_numbers_say_how_many_frames_per_rig_they_rest_on(make_truth, make_predictions, make_table) -> None:
    truth = make_truth()
    table = make_table("mpjpe_relative", groups=[{"frames_per_rig": frames} for frames in (1, 5, 30)])
    pooled = answered(
        *(make_predictions(truth, truth.joints_mm + frames, frames_per_rig=frames) for frames in (1, 5, 12))
    )
    scores = score(table, pooled, truth, resamples=50).scores
    assert [(found.group, found.signature.frames_per_rig) for found in scores] == [(0, 1), (1, 5), (2, 12)]
    assert ["frames per rig" in found.signature.facts for found in scores] == [False, True, True]
    # a row that uses one frame is shown the same in every group, and has one number
    (alone,) = score(table, answered(make_predictions(truth)), truth, resamples=50).scores
    assert (alone.group, alone.signature.frames_per_rig) == (0, 1)
    of_one = {"cameras": [truth.views[0]]}
    other = make_table("mpjpe_relative", groups=[of_one, {**of_one, "roots": "all"}])
    of_first = answered(make_predictions(truth, cameras=truth.views[:1]))
    assert len(score(other, of_first, truth, resamples=50).scores) == 2, "of other offers"


def test_numbers_say_whether_the_cameras_were_known(make_truth, make_predictions, make_table) -> None:
    truth = make_truth()
    table, in_world = make_table("pa_mpjpe"), make_table("mpjpe_relative")
    withheld = make_predictions(truth, inputs={"extrinsics": False})
    in_view = replace(withheld, frame=np.array([truth.views[0]] * len(withheld), dtype=object))
    (free,) = score(table, answered(in_view), truth, resamples=50).scores
    (calibrated,) = score(
        table, answered(make_predictions(truth, inputs={"extrinsics": True})), truth, resamples=50
    ).scores
    assert (free.signature.extrinsics, calibrated.signature.extrinsics) == ("withheld", "given")
    assert free.signature.facts["extrinsics"] == "withheld"
    assert "extrinsics" not in calibrated.signature.facts
    assert str(free.signature) != str(calibrated.signature), "they are not ranked together"
    # where poses are judged in the world's frame they have no number; those of others are refused
    with pytest.raises(ValueError, match="no predictions"):
        score(in_world, answered(in_view), truth, resamples=50)
    unstated = replace(in_view, info=in_view.info.model_copy(update={"inputs": None}))
    with pytest.raises(InputError, match="predict in the world frame"):
        score(in_world, answered(unstated), truth, resamples=50)
    # one camera alone needs no extrinsics
    alone = make_predictions(truth, inputs={"extrinsics": False}, cameras=truth.views[:1])
    one = make_table("pa_mpjpe", groups=[{"cameras": [truth.views[0]]}])
    assert score(one, answered(alone), truth, resamples=50).scores[0].signature.extrinsics == "given"


def test_a_method_that_sees_all_people_answers_what_is_offered_to_all(make_truth, make_predictions, make_table) -> None:
    truth = make_truth()
    table = make_table("mpjpe_relative")
    (found,) = score(table, answered(make_predictions(truth, people="all")), truth, resamples=50).scores
    assert found.value == 0


def test_of_a_table_of_every_kth_sample_only_those_are_shown_spoiled(make_table, make_truth, make_predictions) -> None:
    truth = make_truth()
    spoiled = {"perturbed": {"extrinsics": [2, 3]}, "every": 3}
    table = make_table("mpjpe_relative", **spoiled)
    plain, *severities, area = table.conditions(truth.views)
    assert [condition.every for condition in plain] == [1], "other tables have the same predictions"
    assert [group[0].every for group in severities] == [3, 3]
    assert [condition.every for condition in area] == [1, 3, 3]
    left_out = make_table("mpjpe_relative", exclude=["S9/"], **spoiled)
    assert {one.every for group in left_out.conditions(truth.views) for one in group} == {1}

    keys = severities[0][0].samples(truth.split_keys)
    assert keys == list(table.select(truth).split_keys[table.select(truth).chosen])
    rows = np.flatnonzero(np.isin(truth.keys, keys))
    few = make_predictions(truth.take(rows), truth.joints_mm[rows] + 7, **dict(severities[0][0]))
    scored = score(table, answered(make_predictions(truth, truth.joints_mm), few), truth, resamples=50).scores
    assert [(one.n_samples, one.n_missing, one.signature.every) for one in scored] == [(len(rows), 0, 3)] * 2


def test_a_profile_may_have_other_severities(make_table) -> None:
    table = make_table("pck", perturbed={"boxes": [2]}, perturbed_in={"long": {"boxes": [1, 2], "occlusion": [5]}})
    assert table.in_profile("default").perturbed == {"boxes": (2,)}
    assert table.in_profile("long").perturbed == {"boxes": (1, 2), "occlusion": (5,)}
    assert [len(table.in_profile(name).conditions(["a", "b"])) for name in ("default", "long")] == [3, 6]
    with pytest.raises(ValueError, match=r"perturbed_in\.long\.boxes: name severities"):
        make_table("pck", perturbed_in={"long": {"boxes": [2, 1]}})
