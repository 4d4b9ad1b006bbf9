"""Every table that we run, every published table, and every protocol: the contracts they share."""

import importlib
import inspect
import pkgutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import poseboard.protocols
from poseboard.datasets.catalog import catalog
from poseboard.datasets.errors import InputError
from poseboard.datasets.human36m import CAMERAS, DAMAGED
from poseboard.datasets.rhd import RHD_HAND
from poseboard.datasets.sample import Group, Sample, Truth
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.protocols.base import Board, Protocol, TruthTable, find_protocol, view_set_name, view_text
from poseboard.protocols.scores import PublishedTable, ResultError, Score
from poseboard.protocols.scoring import score

ROOT = Path(__file__).resolve().parents[2]
TABLES = sorted((ROOT / "benchmarks" / "tables").glob("*.yaml"))
PUBLISHED = sorted((ROOT / "results" / "published").glob("*.yaml"))
OURS = {
    "ransac",
    "algebraic",
    "algebraic_no_conf",
    "volumetric",
    "epipolar",
    "epipolar_baseline",
    "probabilistic",
    "rootnet",
}


def protocols() -> dict[str, type[Protocol]]:
    found = {}
    for module in pkgutil.iter_modules(poseboard.protocols.__path__):
        for _, kind in inspect.getmembers(
            importlib.import_module(f"poseboard.protocols.{module.name}"), inspect.isclass
        ):
            if issubclass(kind, Protocol) and not inspect.isabstract(kind):
                found[kind.name] = kind
    return found


def test_the_protocols_of_the_suite_are_found() -> None:
    assert set(protocols()) >= {"mpjpe_relative", "mpjpe_absolute", "pa_mpjpe", "pck", "camera_sweep"}


@pytest.mark.parametrize("name", sorted(protocols()))
def test_protocol_keeps_its_contract(name: str, make_truth, make_predictions) -> None:
    """Every file of protocols/ that holds one, with the parameters of each table that uses it."""
    boards = [board for board in map(Board.read, TABLES) if board.protocol == name]
    assert boards, f"no table of benchmarks/tables uses {name}"
    for board in boards:
        truth = make_truth(skeleton=RHD_HAND if board.dataset == "rhd" else HUMAN36M)
        if name == "mpjpe_true_size":  # its answers are about the root as they stand
            truth.joints_mm[:] -= truth.joints_mm[:, [truth.skeleton.root_index]]
        predicted = partial(make_predictions, size_mm=400.0)
        noise = np.random.default_rng(0).normal(0, 60, truth.joints_mm.shape)
        rule = find_protocol(name, board.parameters, "here")
        assert type(rule) is protocols()[name]
        assert rule.version >= 1
        signature = rule.signature(board, truth.skeleton, "all")
        assert all(value not in ("", None) for value in signature.model_dump().values())
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
        assert rule.summarise(nothing) in (None, 0)
        assert nothing["missing"].all()


def cameras_of(board: Board) -> tuple[str, ...]:
    """Of a data set that the table could be on: those that it names and another one."""
    return CAMERAS if board.views == "all" else (*board.views, "another")


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_table_runs(path: Path, make_truth, make_predictions) -> None:
    """The whole contract of each table, on the oracle with noise."""
    board = Board.read(path)
    assert path.stem in (board.id, f"{board.id}-{board.dataset}")
    protocol = board.rule()
    names = cameras_of(board)
    skeleton = RHD_HAND if board.dataset == "rhd" else HUMAN36M
    truth = replace(make_truth(skeleton=skeleton), dataset=board.dataset, views=names)
    sets = board.view_sets(names)
    assert len(set(sets)) == len(sets)
    noise = np.random.default_rng(0).normal(0, 10, truth.joints_mm.shape)
    predictions = {
        view_set.name(names): {
            0: make_predictions(truth, truth.joints_mm + noise, views=view_set.cameras, size_mm=90.0)
        }
        for view_set in sets
    }
    scored = score(board, predictions, truth, resamples=200)
    assert len(scored.scores) == (1 if protocol.pools else len(sets))
    assert len({str(found.signature) for found in scored.scores}) == len(scored.scores)
    assert set(scored.errors["views"]) == {found.signature.views for found in scored.scores}
    for found in scored.scores:
        assert Score.model_validate_json(found.model_dump_json()) == found
        assert found.table == board.id
        assert found.title.startswith(board.title)
        assert found.unit == protocol.unit
        assert (found.ci95 is None) == (found.n_groups < 2)
        if found.ci95 is not None:
            assert found.ci95[0] <= found.value <= found.ci95[1]
        assert {"action", "subject", "joint"} <= set(found.breakdown)
    columns = {"key", "person", "subject", "action", "sequence", "error", "missing", "seed", "views", "cameras"}
    assert columns <= set(scored.errors.columns)


def test_tables_are_those_of_the_suite() -> None:
    boards = {board.id: board for board in map(Board.read, TABLES) if board.dataset == "human36m"}
    assert {"T1", "T1-actions", "T2", "T2-all-scenes", "human36m-pa-mpjpe", "human36m-pck", "human36m-cameras"} <= set(
        boards
    )
    assert boards["T2"].exclude == DAMAGED
    assert (boards["T1"].exclude, boards["T2-all-scenes"].exclude) == ((), ())
    assert [len(view_set.cameras) for view_set in boards["human36m-cameras"].view_sets(CAMERAS)] == [2, 3, 4]
    numbers = []
    for board in map(Board.read, TABLES):
        rule, names = board.rule(), cameras_of(board)
        sets = board.view_sets(names)
        for part in [sets] if rule.pools else [[view_set] for view_set in sets]:
            numbers.append((board.dataset, str(rule.signature(board, HUMAN36M, view_text(part, names)))))
    # the sweep over all cameras is T1 by its signature, and every other number is its own
    assert len(set(numbers)) == len(numbers) - 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id: T1\ntitle: t\ndataset: d\nprotocol: mpjpe_relative\ncolour: red", "colour"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: mpjpe_relative\nparameters: {average: median}", "parameters.average"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: mpjpe_relative\nparameters: {colour: red}", "parameters.colour"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: nothing", "there is no protocol 'nothing'"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: metrics", "has no Metrics"),
        ("id: ../T1\ntitle: t\ndataset: d\nprotocol: pck", "id"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: camera_sweep\nparameters: {order: [a, a], counts: [1]}", "twice"),
        ("id: T1\ntitle: t\ndataset: d\nprotocol: camera_sweep\nparameters: {order: [a, b], counts: [3]}", "counts"),
        ("id: [", "cannot be read"),
        ("- a", "valid dictionary"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "T1.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=problem) as caught:
        Board.read(path)
    assert "T1.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cameras_that_are_not_there(make_board) -> None:
    with pytest.raises(InputError, match="no camera 'x'"):
        make_board("pck", views=["a", "x"]).view_sets(["a", "b"])
    with pytest.raises(InputError, match="no camera 'x'"):
        make_board("camera_sweep", order=["a", "x"], counts=[2]).view_sets(["a", "b"])


def test_names_of_camera_sets() -> None:
    names = [f"00_{i:02d}" for i in range(31)]
    assert view_set_name(names[::-1], names) == "all"
    assert view_set_name(["00_03", "00_01"], names) == "00_01+00_03"
    long = {view_set_name(names[:n], names) for n in range(20, 31)}
    assert len(long) == 11
    assert all(len(name) < 64 for name in long)


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
    transfer = {row.name: row.values["paper"] for row in tables["F2"].rows}
    assert transfer["algebraic"] == 36
    assert transfer["volumetric"] == 34
    boards = [Board.read(path) for path in TABLES]
    assert {board.published for board in boards if board.published} <= set(tables)


def test_a_published_table_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "T1.yaml"
    path.write_text(PUBLISHED[0].read_text() + "\ncolour: red\n")
    with pytest.raises(ResultError, match="colour"):
        PublishedTable.read(path)


class Crowd:
    """A data set with two people, then none, then one."""

    name, skeleton, synthetic, views = "crowd", HUMAN36M, True, ("a", "b")

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.people = {
            "x/0": rng.normal(size=(2, 17, 3)),
            "x/1": np.empty((0, 17, 3)),
            "y/0": rng.normal(size=(1, 17, 3)),
        }

    def manifest(self) -> str:
        return "m"

    def keys(self, split: str) -> list[str]:
        return list(self.people)

    def truth(self, key: str) -> Truth:
        return Truth(self.people[key])

    def sample(self, key: str) -> Sample:
        return Sample(key, (), Group(subject="S", action=key[0].upper(), sequence=key[0]))


def test_truth_of_several_people_and_none() -> None:
    dataset = Crowd()
    truth = TruthTable.collect(dataset, "test")
    assert truth.keys.tolist() == ["x/0", "x/0", "y/0"]
    assert truth.person.tolist() == [0, 1, 0]
    assert truth.split_keys.tolist() == ["x/0", "x/1", "y/0"]
    assert truth.place.tolist() == [0, 0, 2]
    assert list(truth.action) == ["X", "X", "Y"]
    assert (truth.joints_mm == np.concatenate(list(dataset.people.values()))).all()
    assert truth.mapped(["nose", "pelvis"]).shape == (3, 2, 3)
    assert truth.take(np.array([2])).split_keys.tolist() == ["x/0", "x/1", "y/0"]
