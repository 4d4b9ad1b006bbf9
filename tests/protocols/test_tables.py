"""Every table that we run, every published table, and every protocol: the contracts they share."""

import importlib
import inspect
import pkgutil
import re
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from crowd import crowd, told
from predicted import answered, seen_by, with_cameras

import poseboard.protocols
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import CAMERAS, DAMAGED
from poseboard.datasets.rhd import RHD_HAND
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.protocols.ap_people import ApPeople
from poseboard.protocols.base import Protocol, errors_of, find_protocol
from poseboard.protocols.condition import Condition
from poseboard.protocols.records import PublishedTable, ResultError, Score
from poseboard.protocols.scoring import score
from poseboard.protocols.single_person import SinglePerson
from poseboard.protocols.table import Group as CameraGroup
from poseboard.protocols.table import Subsets, Table, read_tables

SEQUENCES = {"Walking-1": 7, "Walking-2": 5, "Sitting-1": 3}
ROOT = Path(__file__).resolve().parents[2]
TABLES = [table for path in sorted((ROOT / "benchmarks/tables").glob("*.yaml")) for table in read_tables(path)]
PUBLISHED = sorted((ROOT / "results" / "published").glob("*.yaml"))
OURS = set(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["methods"])


def protocols() -> dict[str, type[Protocol]]:
    found = {}
    for module in pkgutil.iter_modules(poseboard.protocols.__path__):
        for _, kind in inspect.getmembers(
            importlib.import_module(f"poseboard.protocols.{module.name}"), inspect.isclass
        ):
            if issubclass(kind, Protocol) and not inspect.isabstract(kind):
                found[kind.name] = kind
    return found


ONE_PERSON = sorted(name for name, kind in protocols().items() if issubclass(kind, SinglePerson))


def test_the_protocols_of_the_suite_are_found() -> None:
    assert set(ONE_PERSON) >= {"mpjpe_relative", "mpjpe_absolute", "pa_mpjpe", "pck"}
    used = {table.protocol for table in TABLES}
    assert used == set(protocols())


def recovering(predicted):
    """Predictions with recovered cameras instead of those in the world."""
    return lambda *args: with_cameras(predicted(*args))


@pytest.mark.parametrize("name", ONE_PERSON)
def test_protocol_keeps_its_contract(name: str, make_truth, make_predictions) -> None:
    """Every one of a single person, with the parameters of each table that uses it."""
    tables = [table for table in TABLES if table.protocol == name]
    for table in tables:
        truth = make_truth(skeleton=RHD_HAND if table.dataset == "rhd" else HUMAN36M)
        if name == "mpjpe_true_size":  # its answers are about the root as they stand
            truth.joints_mm[:] -= truth.joints_mm[:, [truth.skeleton.root_index]]
        predicted = partial(make_predictions, size_mm=400.0)
        if name == "pa_mpjpe_sequence":
            truth = replace(truth, seen_by=seen_by(np.broadcast_to(np.eye(3), (len(truth), len(CAMERAS), 3, 3))))
            predicted = recovering(predicted)
        noise = np.random.default_rng(1).normal(0, 60, truth.joints_mm.shape)  # not the truth's own draws
        rule = find_protocol(name, table.parameters, "here")
        assert type(rule) is protocols()[name]
        assert rule.version >= 1
        measure = rule.measure(truth.skeleton).model_dump(exclude={"judged"})
        assert all(value not in ("", None) for value in measure.values())
        answered = predicted(truth, (truth.joints_mm + noise)[6:], truth.keys[6:])
        rows = rule.errors(answered, truth)
        assert (len(rows), int(rows["missing"].sum())) == (len(truth), 6)
        assert rows["key"].tolist() == truth.keys.tolist()
        # the order of the answers says nothing, and nothing of them is changed
        before = answered.joints_mm.copy()
        turned = predicted(truth, (truth.joints_mm + noise)[6:][::-1], truth.keys[6:][::-1])
        pd.testing.assert_frame_equal(rule.errors(turned, truth), rows)
        assert (answered.joints_mm == before).all()
        # the number is the estimate in which all groups count once, and a group that counts twice changes it
        codes = np.asarray(truth.subject.codes, dtype=np.int64)
        once, double, first, second = rule.estimate(rows, codes, np.array([[1.0, 1], [2, 1], [1, 0], [0, 1]]))
        assert once == pytest.approx(rule.summarise(rows))
        if table.parameters.get("average") == "worst_subject":
            assert once == double == (max if rule.lower_is_better else min)(first, second)
        else:
            assert min(first, second) < once < max(first, second)
            assert abs(double - first) < abs(once - first)
        assert dict(zip(truth.subject.categories, (first, second), strict=True)) == pytest.approx(
            rule.breakdown(rows)["subject"]
        )
        # worse predictions get a worse number
        worse = rule.summarise(rule.errors(predicted(truth, truth.joints_mm + 4 * noise), truth))
        better = rule.summarise(rule.errors(predicted(truth, truth.joints_mm + noise), truth))
        assert (better < worse) == rule.lower_is_better
        nothing = rule.errors(predicted(truth, truth.joints_mm[:0], truth.keys[:0]), truth)
        assert rule.summarise(nothing) in (None, 100 if name == "failure_rate" else 0)
        assert nothing["missing"].all()


def cameras_of(table: Table) -> tuple[str, ...]:
    """Of a data set that the table could be on: those that it names and another one, or enough for its random sets."""
    most = max((group.subsets.size for group in table.groups if group.subsets), default=0)
    if most >= len(CAMERAS):
        return tuple(f"camera{number}" for number in range(most + 1))
    named = dict.fromkeys(name for group in table.groups if group.cameras != "all" for name in group.cameras)
    return (*named, "another") if named and not set(named) <= set(CAMERAS) else CAMERAS


@pytest.mark.parametrize(
    "table", [table for table in TABLES if table.protocol in ONE_PERSON], ids=lambda table: table.id
)
def test_table_runs(table: Table, make_truth, make_predictions) -> None:
    """The whole contract of each table, on the oracle with noise."""
    protocol = table.rule()
    names = cameras_of(table)
    skeleton = RHD_HAND if table.dataset == "rhd" else HUMAN36M
    excluded = {prefix.partition("/")[2]: 2 for prefix in table.exclude}
    truth = make_truth(skeleton=skeleton, sequences={**SEQUENCES, **excluded})
    truth = replace(truth, dataset=table.dataset, split=table.split, views=names)
    if table.protocol == "pa_mpjpe_sequence":
        truth = replace(truth, seen_by=seen_by(np.broadcast_to(np.eye(3), (len(truth), len(names), 3, 3))))
    groups = table.conditions(names)
    single = [
        condition
        for group, (_, perturbations) in zip(groups, table.all_groups, strict=True)
        if len(perturbations) == 1
        for condition in group
    ]
    offered = list(dict.fromkeys(condition for group in groups for condition in group))
    assert len(set(single)) == len(single)
    assert set(single) == set(offered), "an area is over what has numbers of its own"
    noise = np.random.default_rng(0).normal(0, 10, truth.joints_mm.shape)
    tables = []
    for condition in offered:
        facts = dict(condition)
        facts["elsewhere"] = facts.pop("trained_on")
        made = make_predictions(truth, truth.joints_mm + noise, size_mm=90.0, **facts)
        tables.append(with_cameras(made) if table.protocol == "pa_mpjpe_sequence" else made)
    scored = score(table, answered(*tables), truth, resamples=200)
    assert [found.group for found in scored.scores] == list(range(len(groups)))
    assert len({str(found.signature) for found in scored.scores}) == len(scored.scores)
    assert set(scored.errors["group"]) == set(range(len(groups)))
    for found in scored.scores:
        assert Score.model_validate_json(found.model_dump_json()) == found
        assert found.table == table.id
        assert (found.title, found.published, found.headline) == (table.title, table.published, table.headline)
        assert found.unit == protocol.unit
        stated = table.parameters.get("average") != "worst_subject"
        assert (found.ci95 is None) == (found.n_groups < 2 or not stated)
        if found.ci95 is not None:
            assert found.ci95[0] <= found.value <= found.ci95[1]
        assert {"action", "subject", "joint"} <= set(found.breakdown)
    columns = {"key", "person", "subject", "action", "sequence", "error", "missing", "seed", "group", "cameras"}
    assert columns <= set(scored.errors.columns)


def test_tables_are_those_of_the_suite() -> None:
    tables = {table.id: table for table in TABLES if table.dataset == "human36m"}
    assert {"T1", "T1-actions", "T2", "T2-all-scenes", "human36m-pa-mpjpe", "human36m-pck", "human36m-cameras"} <= set(
        tables
    )
    assert tables["T2"].exclude == DAMAGED
    assert (tables["T1"].exclude, tables["T2-all-scenes"].exclude) == ((), ())
    assert [len(group[0].cameras) for group in tables["human36m-cameras"].conditions(CAMERAS)] == [2, 3, 4]
    numbers = [
        (table.dataset, table.every, table.exclude, table.rule().measure(HUMAN36M).model_dump_json(), group)
        for table in TABLES
        for group in table.conditions(cameras_of(table))
    ]
    # the sweep over all cameras is T1 by its signature, that over four of the dome T4, one frame per rig is PA-MPJPE as
    # ever (twice), robustness on Shelf and Campus starts from their 3D PCP, and every other number is its own
    assert len(set(numbers)) == len(numbers) - 6


def test_the_sweep_over_the_dome_is_nested_and_holds_the_four_cameras_of_its_table() -> None:
    tables = {table.id: table for table in TABLES}
    sets = [set(group.cameras) for group in tables["F1"].groups]
    assert [len(cameras) for cameras in sets] == [2, 3, 4, 6, 8, 12, 16, 24, 31]
    assert all(fewer < more for fewer, more in pairwise(sets))
    assert sets[2] == set(tables["T4"].groups[0].cameras)
    order = re.findall(r"00_[0-9]{2}", tables["F1"].notes[0])
    assert sets == [set(order[: len(cameras)]) for cameras in sets], "the note states the order"


def test_random_sets_of_cameras_are_drawn_alike_everywhere_and_nested_order_by_order() -> None:
    names = tuple(f"00_{i:02d}" for i in range(31))
    pairs, eights = Subsets(size=2, most=5).of(names), Subsets(size=8, most=5).of(names)
    assert pairs[0] == ("00_10", "00_22"), "the sets follow from the names and the seed, on every machine"
    assert [len(set(sets)) for sets in (pairs, eights)] == [5, 5]
    assert all(set(two) < set(eight) for two, eight in zip(pairs, eights, strict=True))
    assert all(list(cameras) == sorted(cameras) for cameras in eights)
    assert Subsets(size=2, most=3).of(names) == pairs[:3], "further sets leave the first ones"
    assert Subsets(size=2, most=5, seed=1).of(names) != pairs
    every = Subsets(size=2, most=6).of(names[:4])
    assert len(set(every)) == 6, "no more than there are"
    assert set(Subsets(size=2, most=5).of(names[:4])) < set(every)
    assert Subsets(size=9, most=1).of(names[:4]) == ()


def test_the_number_over_random_sets_is_their_mean_and_says_how_far_they_are_apart(
    make_truth, make_predictions
) -> None:
    groups = (CameraGroup(subsets=Subsets(size=2, most=6)), CameraGroup(subsets=Subsets(size=3, most=2)), CameraGroup())
    table = Table(id="sets", title="t", dataset="human36m", protocol="mpjpe_absolute", groups=groups)
    truth = make_truth()
    pairs, triples, (whole,) = table.conditions(CAMERAS)
    assert [len(pairs), len(triples)] == [6, 2]
    off_mm = {condition: 10.0 * place for place, condition in enumerate((*pairs, *triples, whole))}
    moved = [make_predictions(truth, truth.joints_mm + np.array([mm, 0, 0]), **dict(one)) for one, mm in off_mm.items()]
    scored = score(table, answered(*moved), truth, resamples=20)
    of_pairs, of_triples, of_all = scored.scores
    assert of_pairs.value == pytest.approx(25.0)
    assert of_pairs.over_cameras == pytest.approx([0, 10, 20, 30, 40, 50])
    assert of_pairs.signature.cameras == tuple(condition.cameras for condition in pairs)
    assert (of_pairs.sets.count, of_pairs.sets.lowest) == (6, pytest.approx(0.0))
    assert of_pairs.sets.sd == pytest.approx(np.std([0, 10, 20, 30, 40, 50], ddof=1))
    assert of_triples.over_cameras == pytest.approx([60, 70])
    assert (of_all.over_cameras, of_all.sets) == ([], None)
    # a set that was not predicted is missed: the mean over the others is another number
    assert [found.group for found in score(table, answered(*moved[1:]), truth, resamples=20).scores] == [1, 2]
    with pytest.raises(InputError, match="table sets: subsets: 3 of 2 cameras cannot be chosen"):
        table.conditions(CAMERAS[:2])
    partial = table.model_copy(update={"partial": True})
    assert [len(conditions) for conditions in partial.conditions(CAMERAS[:2])] == [1, 0, 1]
    with pytest.raises(ValueError, match="subsets: and each or leave_out contradict one another"):
        CameraGroup(subsets=Subsets(size=2, most=6), each=True)


def test_of_a_partial_table_groups_without_their_cameras_are_left_out(make_truth, make_predictions) -> None:
    sets = (CAMERAS[:2], (*CAMERAS, "another"), CAMERAS[1:])
    groups = tuple(CameraGroup(cameras=cameras) for cameras in sets)
    table = Table(id="sweep", title="t", dataset="human36m", protocol="mpjpe_relative", groups=groups, partial=True)
    truth = make_truth()
    first, absent, last = table.conditions(CAMERAS)
    assert absent == ()
    predictions = [make_predictions(truth, truth.joints_mm, **dict(condition)) for condition in (*first, *last)]
    assert [found.group for found in score(table, answered(*predictions), truth, resamples=20).scores] == [0, 2]
    with pytest.raises(InputError, match="table sweep: cameras: there is no camera 'another'"):
        table.model_copy(update={"partial": False}).conditions(CAMERAS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id: T1\ntitle: t\ndataset: d\nprotocol: mpjpe_relative\ncolour: red", "colour"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: mpjpe_relative\nparameters: {average: median}", "parameters.average"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: mpjpe_relative\nparameters: {colour: red}", "parameters.colour"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: nothing", "there is no protocol 'nothing'"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: os", "there is no protocol 'os'"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: ../methods/base", "there is no protocol"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: metrics", "has no class Metrics"),
        ("id: ../T1\ntitle: t\ndataset: d\nprotocol: pck", "id"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: pck\ngroups: [{cameras: [a, a]}]", "twice"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: pck\ngroups: [{cameras: []}]", "at least one"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: pck\ngroups: []", "groups"),
        ("id: T2\ntitle: t\ndataset: d\nprotocol: pck", "rename the file to T2.yaml"),
        ("id: [", "cannot be read"),
        ("- a", "valid dictionary"),
        ("dataset: d\nprotocol: pck\nnumbers: []", "numbers: is not a list"),
        ("dataset: d\nprotocol: pck\nnumbers: [T1]", "numbers.0: is not a mapping"),
        ("id: T1\ndataset: d\nprotocol: pck\nnumbers: [{id: a, title: t}]", "id: belongs to each entry of numbers"),
        (
            "dataset: d\nprotocol: pck\nnumbers: [{id: a, title: t, split: s}]",
            "numbers.0.split: is not a field of a number",
        ),
        (
            "dataset: d\nprotocol: pck\nnumbers: [{id: a, title: t, parameters: x}]",
            "numbers.0.parameters: is not a mapping",
        ),
        ("dataset: d\nprotocol: pck\nnumbers: [{id: a, title: t}, {id: b}]", "numbers.1: title"),
        ("dataset: d\nprotocol: pck\nnumbers: [{id: a, title: t, parameters: {c: 1}}]", "numbers.0: parameters.c"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "T1.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        read_tables(path)
    assert "T1.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


SEVERAL_NUMBERS = """
dataset: crowd
protocol: ap_people
parameters: {lacking_mm: 500}
notes: [of the file]
numbers:
  - {id: near, title: t, parameters: {within_mm: 25}, headline: true}
  - {id: far, title: t, parameters: {within_mm: 150}, notes: [of the number]}
  - {id: stricter, title: t, parameters: {lacking_mm: 1000}}
"""


def test_numbers_of_a_file_share_its_fields_and_their_people_are_matched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "crowd.yaml"
    path.write_text(SEVERAL_NUMBERS)
    near, far, stricter = tables = read_tables(path)
    assert [table.id for table in tables] == ["near", "far", "stricter"]
    assert (near.parameters, near.notes, near.headline) == (
        {"lacking_mm": 500, "within_mm": 25},
        ("of the file",),
        True,
    )
    assert (far.parameters, far.notes, far.headline) == (
        {"lacking_mm": 500, "within_mm": 150},
        ("of the number",),
        False,
    )
    assert near.basis == far.basis == stricter.basis
    assert near.basis != near.model_copy(update={"every": 2}).basis
    truth, joints = crowd()
    pred = told(truth, joints + np.random.default_rng(0).normal(0, 40, joints.shape), roots_only=False)
    alone = [table.rule().errors(pred, truth) for table in tables]
    matched = []
    match = ApPeople.match
    monkeypatch.setattr(ApPeople, "match", lambda self, *of: matched.append(self) or match(self, *of))
    together = errors_of([table.rule() for table in tables], pred, truth)
    for rows, of_one in zip(together, alone, strict=True):
        pd.testing.assert_frame_equal(rows, of_one)
    assert [rule.lacking_mm for rule in matched] == [500, 1000]


def test_conditions_name_files() -> None:
    names = tuple(f"00_{i:02d}" for i in range(31))
    (few,) = CameraGroup(cameras=("00_03", "00_01")).conditions(names, "test", "T")
    assert few.cameras == ("00_01", "00_03")
    assert few.slug.startswith("test-00_01+00_03-")
    long = {Condition(cameras=names[:n]).slug for n in range(20, 31)}
    assert len(long) == 11
    assert all(len(slug) < 64 for slug in long)
    hostile = Condition(split="../x", cameras=("../../a", "b c"))
    assert re.fullmatch(r"split-2-cameras-[0-9a-f]{8}", hostile.slug)
    (elsewhere,) = CameraGroup(cameras=("00_03", "00_01"), roots="all").conditions(names, "test", "T")
    assert len({few.slug, few.reduced("none").slug, elsewhere.slug}) == 3
    assert few.reduced("none") == elsewhere.reduced("none")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"cameras": ()}, "cameras"),
        ({"cameras": ("a", "a")}, "twice"),
        ({"cameras": ("a",), "root": "predicted"}, "root_cameras"),
        ({"cameras": ("a",), "root_cameras": ("a",)}, "root_cameras"),
        ({"cameras": ("a",), "colour": "red"}, "colour"),
    ],
)
def test_conditions_that_contradict_themselves(fields: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Condition.model_validate(fields)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_table(path: Path) -> None:
    table = PublishedTable.read(path)
    assert table.id.replace("-", "_") == path.stem
    assert table.sources
    assert table.dataset in {*catalog(), "several"}, "the page finds the data set by its name in the catalog"
    for row in table.rows:
        assert set(row.values) <= set(table.sources), row.name
        assert row.method is None or row.method in OURS, row.name


def test_published_tables_are_complete_and_apart() -> None:
    tables = {table.id: table for table in map(PublishedTable.read, PUBLISHED)}
    assert set(tables) >= {*(f"T{i}" for i in range(1, 11)), "F1", "F2", "state-of-the-art"}
    rows = {row.name: row.values for row in tables["T1"].rows}
    assert rows["volumetric"] == {"README": 20.5, "page": 20.8, "model zoo": 20.4}
    assert rows["algebraic"] == {"README": 22.4, "page": 22.6, "model zoo": 22.5}
    assert tables["T9"].unit == "m"
    assert any("absolute" in note and "relative" in note for note in tables["T4"].notes)
    for figure in ("F1", "T10"):
        assert all(value is None for row in tables[figure].rows for value in row.values.values())
    assert tables["T10"].unit == "mm"
    for table in tables.values():
        methods = [row.method for row in table.rows if row.method is not None]
        assert len(methods) == len(set(methods)), f"{table.id}: a number of ours would stand in several rows"
    transfer = {row.name: row.values["paper"] for row in tables["F2"].rows}
    assert transfer["algebraic"] == 36
    assert transfer["volumetric"] == 34
    assert {ours.published for ours in TABLES if ours.published} <= set(tables)


def test_a_published_table_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "T1.yaml"
    path.write_text(PUBLISHED[0].read_text() + "\ncolour: red\n")
    with pytest.raises(ResultError, match="colour"):
        PublishedTable.read(path)
