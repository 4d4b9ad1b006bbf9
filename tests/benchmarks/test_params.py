"""params.yaml: profiles, options, and mistakes that are told in one line."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from poseboard.benchmarks.plan import Plan
from poseboard.datasets.errors import InputError
from poseboard.datasets.files import parse_yaml
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.base import find_learner

ROOT = Path(__file__).resolve().parents[2]
ODD_NAMES = ("dlt; touch X #", "../dlt", "/abs", "..", "a/b", "$(touch X)", "it's", "-f", "", "dlt\n", "dlté", "a.b")
ROW = {"code": "methods/dlt", "after": "scratch"}
ONE_SEED = {"seeds": [0], "processes": 1, "worlds": {"human36m": {}}}


def params(**changes: object) -> dict[str, object]:
    profile = {"seeds": [0], "processes": 1, "worlds": {"human36m": {"seed": 1}}}
    return {
        "profile": "default",
        "datasets": {"human36m": {"root": None}},
        "methods": {
            "net": {"code": "methods/backbone", "after": "scratch", "steps": {"default": 5, "full": 9}},
            "dlt": {"code": "methods/dlt", "after": "net", "weighting": "peak"},
        },
        "profiles": {"default": profile, "full": profile},
    } | changes


def write(folder: Path, **changes: object) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(params(**changes)))
    return path


def committed(folder: Path, profile: str) -> Plan:
    """The committed params.yaml, read in a profile."""
    values = parse_yaml((ROOT / "params.yaml").read_text())
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values | {"profile": profile}))
    return Plan.read(path)


@pytest.mark.parametrize("profile", ["smoke", "default", "seeds", "full"])
def test_every_row_of_every_profile_is_valid(tmp_path: Path, profile: str) -> None:
    plan = committed(tmp_path, profile)
    assert profile in plan.params.profiles
    for row, entry in plan.rows.items():
        options = plan.options(row, "human36m")
        find_learner(entry.spec)(options, HUMAN36M)
        recipe = options.get("recipe")
        assert recipe is None or recipe == ("published" if profile == "full" else "small")


def test_a_row_of_one_profile_is_none_of_another(tmp_path: Path) -> None:
    own = {"epipolar_augmented", "epipolar_extra_data"}
    full = committed(tmp_path, "full")
    for profile in full.params.profiles:
        of_profile = {row: full.in_profile(profile).may_run(row) for row in own}
        assert of_profile == dict.fromkeys(own, ["human36m-toolbox"] if profile == "full" else [])


def test_options_differ_by_profile_and_fall_back_to_default(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert Plan.read(path).options("net") == {"steps": 5}
    full = Plan.read(path).in_profile("full")
    assert full.options("net") == {"steps": 9}
    assert full.options("dlt") == {"weighting": "peak"}


def test_options_differ_by_data_set_within_a_profile_and_the_other_way_round(tmp_path: Path) -> None:
    options = {
        "up": {"panoptic": "y", "default": "z"},
        "voxels": {"default": 32, "full": {"panoptic": 48, "default": 64}},
        "steps": {"default": 10, "full": {"epochs": 3, "every": {"human36m": 5, "default": 1}}},
        "side": {"human36m": {"default": 1, "full": 2}, "default": 3},
    }
    datasets = {"human36m": {"root": None}, "panoptic": {"root": None}}
    plan = Plan.read(write(tmp_path, datasets=datasets, methods={"cube": {**ROW, **options}}))
    full = plan.in_profile("full")
    assert plan.options("cube", "human36m") == {"up": "z", "voxels": 32, "steps": 10, "side": 1}
    assert full.options("cube", "human36m")["steps"] == {"epochs": 3, "every": 5}
    assert full.options("cube", "panoptic") == {
        "up": "y",
        "voxels": 48,
        "steps": {"epochs": 3, "every": 1},
        "side": 3,
    }
    assert full.options("cube", "human36m")["side"] == 2


def test_a_row_without_on_and_train_on_is_trained_on_what_its_start_is(tmp_path: Path) -> None:
    rows = {
        "net": {**ROW, "train_on": {"human36m-rigs": ["human36m"]}},
        "other": {**ROW, "after": "net"},
        "third": {**ROW, "after": "other"},
        "named": {**ROW, "after": "net", "on": ["human36m-rigs"]},
        "own": {**ROW, "after": "net", "train_on": ["human36m-rigs"]},
        "scratch_row": ROW,
    }
    plan = Plan.read(write(tmp_path, datasets={"human36m": {}, "human36m-rigs": {}}, methods=rows))
    trained = {row: plan.run(row, "human36m-rigs").training[0].name for row in rows}
    assert trained == {
        "net": "human36m",
        "other": "human36m",
        "third": "human36m",
        "named": "human36m-rigs",
        "own": "human36m-rigs",
        "scratch_row": "human36m-rigs",
    }
    third = plan.run("third", "human36m-rigs")
    assert third.same_as is not None
    assert third.same_as.source.name == "human36m"
    # Its stages run again if that of the row under `after` changes.
    assert third.facts()["same training as"] == "human36m"


def test_a_row_of_imported_weights_has_one_seed(tmp_path: Path) -> None:
    seeds = {"seeds": [0, 1], "processes": 1, "worlds": {"human36m": {}}}
    rows = {"trained": ROW, "imported": {**ROW, "weights": {"full": "x.pt", "default": None}}}
    plan = Plan.read(write(tmp_path, methods=rows, profiles={"default": seeds, "full": seeds}))
    assert plan.run("imported", "human36m").weights is None
    full = plan.in_profile("full")
    assert full.run("imported", "human36m").weights == tmp_path / "x.pt"
    assert [full.run(row, "human36m").seeds for row in rows] == [(0, 1), (0,)]


def test_a_world_is_kept_by_its_options(tmp_path: Path) -> None:
    one = Plan.read(write(tmp_path)).source("human36m").root
    other = (
        Plan.read(
            write(
                tmp_path,
                profiles={
                    name: {"seeds": [0], "processes": 1, "worlds": {"human36m": {"seed": 2}}}
                    for name in ("default", "full")
                },
            )
        )
        .source("human36m")
        .root
    )
    assert one != other
    assert Plan.read(write(tmp_path, datasets={"human36m": {"root": "/real"}})).source("human36m").root == Path("/real")


def test_worlds_are_told_apart_by_data_set_and_profile(tmp_path: Path) -> None:
    worlds = {"human36m": {"seed": 1}, "mupots": {"seed": 2}}
    profiles = {
        "default": {"seeds": [0], "processes": 1, "worlds": worlds},
        "full": {"seeds": [0], "processes": 1, "worlds": {}},
    }
    datasets = {name: {"root": None} for name in ("human36m", "mupots", "muco")}
    plan = Plan.read(write(tmp_path, datasets=datasets, profiles=profiles))
    assert [plan.source(name).world is not None for name in datasets] == [True, True, False]
    assert str(plan.source("mupots").root).startswith(str(tmp_path / "data" / "synthetic-mupots-"))
    full = plan.in_profile("full")
    assert [full.source(name).is_absent for name in datasets] == [True, True, True]
    profiles["full"]["worlds"] = {"shelf": {}}
    with pytest.raises(InputError, match=r"profiles\.full\.worlds\.shelf: no synthetic world is written in its layout"):
        Plan.read(write(tmp_path, datasets=datasets, profiles=profiles))


def test_the_known_rig_is_that_of_the_world_that_rows_are_trained_on(tmp_path: Path) -> None:
    """Where their folder is named the rig is none of ours, and nobody is filmed by it."""
    worlds = {"human36m": {"seed": 7}, "human36m-rigs": {"seed": 2, "known_rig": "human36m"}}
    profiles = {name: {"seeds": [0], "processes": 1, "worlds": worlds} for name in ("default", "full")}
    datasets: dict[str, Any] = {"human36m": {"root": None}, "human36m-rigs": {"root": None}}
    plan = Plan.read(write(tmp_path, datasets=datasets, profiles=profiles))
    assert plan.source("human36m-rigs").world == {"seed": 2, "known_rig": 7}
    with_rig = plan.source("human36m-rigs").root
    datasets["human36m"]["root"] = "/real"
    plan = Plan.read(write(tmp_path, datasets=datasets, profiles=profiles))
    assert plan.source("human36m-rigs").world == {"seed": 2}
    assert plan.source("human36m-rigs").root != with_rig
    worlds["human36m-rigs"]["known_rig"] = "human"
    with pytest.raises(InputError, match=r"human36m-rigs\.known_rig: no data set 'human'"):
        Plan.read(write(tmp_path, datasets=datasets, profiles=profiles))


def test_without_a_world_no_folder_means_absent(tmp_path: Path) -> None:
    datasets = {"human36m": {"root": None}, "panoptic": {"root": None}, "shelf": {"root": "data/shelf"}}
    (tmp_path / "data" / "human36m").mkdir(parents=True)  # the world stands, whatever lies there
    plan = Plan.read(write(tmp_path, datasets=datasets))
    assert [name for name in datasets if plan.source(name).is_absent] == ["panoptic"]
    with pytest.raises(
        InputError, match=r"datasets\.panoptic\.root: names no folder, and data/panoptic is .*poseboard data status"
    ):
        plan.source("panoptic").open()
    assert not plan.with_root("panoptic", tmp_path).source("panoptic").is_absent
    assert [name for name in datasets if plan.source(name).is_named] == ["shelf"]
    (tmp_path / "data" / "panoptic").mkdir()
    plan = Plan.read(tmp_path / "params.yaml")
    assert plan.source("panoptic").root == tmp_path / "data" / "panoptic"
    assert str(plan.source("human36m").root).startswith(str(tmp_path / "data" / "synthetic-human36m-"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"surprise": 1}, "surprise"),
        ({"colours": {"dlt_": "grey"}}, "colours.dlt_"),
        ({"profile": "huge"}, "profile"),
        ({"methods": {"dlt": {"after": "scratch"}}}, "methods.dlt.code"),
        ({"methods": {"dlt": {"code": "methods/dlt", "after": "nobody"}}}, "methods.dlt.after"),
        ({"methods": {"../dlt": {"code": "methods/dlt", "after": "scratch"}}}, "../dlt"),
        *(({"methods": {name: {"code": "methods/dlt", "after": "scratch"}}}, "methods") for name in ODD_NAMES),
        *(({"profiles": {name: ONE_SEED}, "profile": name}, "profiles") for name in (*ODD_NAMES, "speed")),
        *(({"datasets": {name: {"root": None}}}, "datasets") for name in ODD_NAMES),
        ({"methods": {"scratch": {"code": "methods/dlt", "after": "scratch"}}}, "methods.scratch"),
        ({"methods": {"dlt": {**ROW, "on": ["human36n"]}}}, "methods.dlt.on"),
        ({"methods": {"dlt": {**ROW, "on": "human36m"}}}, "methods.dlt.on"),
        ({"methods": {"dlt": {**ROW, "on": {"fulll": []}}}}, "methods.dlt.on"),
        ({"methods": {"dlt": {**ROW, "steps": {"full": {"human36n": 1}}}}}, "methods.dlt.steps.full"),
        ({"datasets": {"full": {"root": None}}}, "datasets.full"),
        ({"methods": {"dlt": {**ROW, "steps": 1e30}}}, "methods.dlt.steps"),
        ({"methods": {"dlt": {**ROW, "batch_size": {"default": 10**6, "full": 2}}}}, "methods.dlt.batch_size.default"),
        ({"methods": {"dlt": {**ROW, "image_px": 1e30}}}, "methods.dlt.image_px"),
        ({"methods": {"dlt": {**ROW, "rate": float("nan")}}}, "methods.dlt.rate"),
        ({"methods": {"dlt": {**ROW, "since": date(2001, 1, 1)}}}, "methods.dlt.since: is a date; put it in quotes"),
        ({"methods": {"dlt": {**ROW, "gains": {3: 1}}}}, "methods.dlt.gains: the key 3 is not a text"),
        ({"methods": {"dlt": {**ROW, "gains": [{None: 1}]}}}, "methods.dlt.gains.0: the key None is not a text"),
        ({"profiles": {"default": {"seeds": [0], "processes": 10**6}}}, "profiles.default.processes"),
        ({"profiles": {"default": {"seeds": [], "processes": 1, "worlds": {"human36m": {}}}}}, "seeds"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, changes: dict[str, object], named: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        Plan.read(path)
    assert str(path) in str(caught.value)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_plain_names_are_names(tmp_path: Path) -> None:
    row = {"code": "methods/dlt", "after": "scratch"}
    read = Plan.read(write(tmp_path, methods=dict.fromkeys(("dlt-2", "_x", "3d", "A-b_c"), row)))
    assert list(read.params.methods) == ["3d", "A-b_c", "_x", "dlt-2"]
    for name in ODD_NAMES:
        with pytest.raises(InputError, match="is not a name"):
            read.layout.row_path("scores", "dlt-2", name)


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Plan.read(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("profile: [")
    with pytest.raises(InputError, match="is not YAML"):
        Plan.read(tmp_path / "params.yaml")


def test_a_name_that_begins_with_true_is_a_name() -> None:
    read = parse_yaml("{true_cameras: 1, False: 2, truest: true}")
    assert read == {"true_cameras": 1, False: 2, "truest": True}


@pytest.mark.parametrize("of_net", ["net", "dlt", "far"])
def test_rows_that_start_from_one_another_are_refused(tmp_path: Path, of_net: str) -> None:
    rows = {"net": {**ROW, "after": of_net}, "dlt": {**ROW, "after": "net"}, "far": {**ROW, "after": "dlt"}}
    problem = rf"methods\.\w+\.after: .*net after {of_net}.* is circular; let one of these rows start from scratch"
    with pytest.raises(InputError, match=problem):
        Plan.read(write(tmp_path, methods=rows))
