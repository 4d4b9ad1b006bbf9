"""Signatures and timings in words."""

from __future__ import annotations

import pytest
from predicted import SIGNATURE

from poseboard.protocols.perturbation import Perturbation
from poseboard.report import wording

SPOILED = Perturbation(kind="boxes", severity=2)


@pytest.mark.parametrize(
    ("changes", "name", "conditions"),
    [
        ({}, "MPJPE, root-relative", []),
        ({"average": "actions"}, "MPJPE, root-relative", ["mean of the actions"]),
        ({"alignment": "none", "exclusions": ("S9/A", "S9/B", "S9/C")}, "MPJPE, absolute", ["without 3 sequences"]),
        (
            {"metric": "mpjpe<=150mm", "alignment": "none", "every": 64},
            "MPJPE clipped at 150 mm, absolute",
            ["every 64th frame"],
        ),
        ({"metric": "pa_mpjpe", "alignment": "procrustes"}, "PA-MPJPE", []),
        ({"metric": "pck@150mm"}, "PCK at 150 mm, root-relative", []),
        ({"cameras_of_dataset": 4}, "MPJPE, root-relative, 2 cameras", []),
        (
            {"alignment": "root, in the camera's frame", "cameras": (("a",), ("b",)), "root_cameras": ("a", "b")},
            "MPJPE, root-relative, one camera, root from all",
            [],
        ),
        ({"given": ("size",)}, "MPJPE, root-relative", ["true size given"]),
        ({"trained_on": ("mpii", "panoptic")}, "MPJPE, root-relative", ["trained on mpii, panoptic"]),
        ({"trained_on": ()}, "MPJPE, root-relative", ["training data not known"]),
        (
            {"perturbation": SPOILED},
            "MPJPE, root-relative",
            ["perturbed by boxes 2: boxes moved and resized by 5 %; seed 0"],
        ),
    ],
)
def test_a_table_is_named_by_what_it_measures(changes: dict[str, object], name: str, conditions: list[str]) -> None:
    signature = SIGNATURE.model_copy(update=changes)
    assert (wording.measure(signature), wording.conditions(signature)) == (name, conditions)
