"""A row that is trained on several data sets with other joints: RootNet and its baseline, from photographs to pages."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from poseboard.benchmarks import train
from poseboard.benchmarks.harness import TrainingData, has_depth
from poseboard.benchmarks.plan import Plan
from poseboard.methods.checkpoint import Checkpoint
from poseboard.protocols import predictions
from poseboard.protocols.records import ComparisonFile, ScoreFile, TrainingFile

SPEC = importlib.util.spec_from_file_location(
    "made_up_photographs", Path(__file__).parents[1] / "datasets" / "made_up_photographs.py"
)
made_up = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(made_up)

ON = ["mupots", "pw3d", "human36m-coco"]
ROWS = {
    "rootnet": {
        "code": "methods/rootnet", "after": "scratch", "on": ON, "image_px": 32, "steps": 3, "batch_size": 4,
        "train_on": {"human36m-coco": ["human36m-coco", "mpii"], "default": ["muco", "mscoco"]},
    },
    "k_only": {
        "code": "methods/rootnet", "after": "scratch", "on": ON, "network": "none",
        "train_on": {"human36m-coco": ["human36m-coco", "mpii"], "default": ["muco", "mscoco"]},
    },
}  # fmt: skip


def _written(workspace: Any, rows: dict[str, Any], **options: Any) -> None:
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    datasets = {name: {"root": None} for name in made_up.TREES} | {"mupots": {"root": None, "boxes": "detected"}}
    world = params["profiles"]["smoke"]
    profiles = {"smoke": world, "default": {**world, "seeds": [0]}, **options}
    workspace.write_params(**{**params, "datasets": datasets, "methods": rows, "profiles": profiles})


@pytest.fixture
def photographs(workspace_with: Any, tmp_path: Path) -> Any:
    """A workspace with every data set of photographs but MPII."""
    made = workspace_with(tmp_path, "rhd", "rhd", "rhd", ROWS)
    for name in made_up.TREES:
        if name != "mpii":
            files = made_up.mupots(detections=True) if name == "mupots" else None
            made_up.write_tree(tmp_path / "data" / name, name, files)
    _written(made, ROWS)
    return made


@pytest.fixture
def plan(photographs: Any, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(photographs.folder)
    return Plan.read()


def _data(plan: Plan, dataset: str, row: str = "rootnet") -> TrainingData:
    return TrainingData(plan.run(row, dataset))


def test_it_is_trained_evaluated_compared_and_shown(photographs: Any) -> None:
    results = photographs.folder / "results/smoke"
    said = photographs.must("train", "rootnet").out
    assert "human36m-coco/rootnet: 1 trained" in said
    assert "; without mpii, of which there is no copy" in said
    # params.yaml names mupots before pw3d
    assert "pw3d/rootnet: trained as for mupots, whose weights it takes over" in said
    trained = {name: TrainingFile.read(results / f"training/rootnet/{name}.json") for name in ON}
    of_both, of_one = ["mscoco", "muco"], ["human36m-coco"]
    assert [list(trained[name].training_manifests) for name in ON] == [of_both, of_both, of_one]
    assert {name: (len(file.runs), file.same_as) for name, file in trained.items()} == {
        "mupots": (1, None), "pw3d": (0, "mupots"), "human36m-coco": (1, None),
    }  # fmt: skip
    names = [trained[name].provenance.weights.trained_on for name in ON]
    assert names == [("muco", "mscoco"), ("muco", "mscoco"), ()]
    weights = {name: (results / f"checkpoints/rootnet/{name}/seed0.pt").read_bytes() for name in ON}
    assert weights["mupots"] == weights["pw3d"] != weights["human36m-coco"]
    assert photographs.must("train", "rootnet").out.count("nothing that it depends on changed") == 3
    photographs.must("train", "k_only")

    said = "".join(photographs.must("evaluate", row).out for row in ROWS)
    scores = {name: {row: ScoreFile.read(results / f"scores/{row}/{name}.json").scores for row in ROWS} for name in ON}
    tables = {name: {score.table for score in of_rows["rootnet"]} for name, of_rows in scores.items()}
    assert tables["human36m-coco"] == {"T7", "T7-x", "T7-y", "T7-z"}
    assert tables["pw3d"] == {"T9", "T9-x", "T9-y", "T9-z"}
    # whole poses are judged elsewhere
    assert tables["mupots"] == {"T8", "mupots-ap", "mupots-recall", "mupots-pck-root", "mupots-pck-root-matched"}
    by_table = {score.table: score for score in scores["mupots"]["k_only"]}
    assert by_table["T8"].signature.trained_on == ("muco", "mscoco")
    assert (by_table["T8"].signature.boxes, by_table["T8"].lower_is_better) == ("detected", False)
    assert by_table["T8"].signature.average != by_table["mupots-ap"].signature.average
    assert {score.unit for score in scores["pw3d"]["rootnet"]} == {"m"}
    metres = {score.table: score.value for score in scores["pw3d"]["rootnet"]}
    assert f"{metres['T9']:.3f} m" in said
    assert 0.01 < max(metres["T9-x"], metres["T9-y"], metres["T9-z"]) <= metres["T9"] < 20

    photographs.must("compare")
    compared = ComparisonFile.read(results / "comparisons/mupots.json").tables
    assert {table.table for table in compared} == tables["mupots"]
    ranked = {table.table: {rank.method for rank in table.ranks} for table in compared}
    assert ranked["mupots-ap"] == ranked["mupots-recall"] == set(ROWS)
    photographs.must("report")
    page = "".join(path.read_text() for path in (results / "leaderboard").rglob("*.html"))
    assert "muco, mscoco" in page
    for name in ("T7", "T8", "T9"):
        assert name in page


def test_which_data_sets_have_depth_follows_from_their_truth(plan: Plan) -> None:
    names = ("human36m-coco", "muco", "pw3d", "mscoco")
    assert [has_depth(plan.source(name).dataset) for name in names] == [True, True, True, False]


def test_a_pass_is_half_with_depth_and_half_without(plan: Plan) -> None:
    """As many people of MSCOCO as of MuCo; the two moments of Human3.6M are seen by four cameras."""
    data = _data(plan, "mupots")
    of_row = data.learner().training(None, 0)
    samples = data.samples(of_row, of_row.inputs, 0, lambda done, total: None)
    depths = [bool(np.isfinite(samples[place][1].joints_mm).any()) for place in range(len(samples))]
    assert sum(depths) == len(depths) / 2
    people = sum(len(data.datasets[0].truth(key).joints_mm) for key in data.datasets[0].keys("train"))
    assert data.crops == 2 * max(people, 3)
    of_moments = _data(plan, "human36m-coco")
    assert of_moments.crops == 2 * 4
    of_row = of_moments.learner().training(None, 0)
    one_pass = of_moments.samples(of_row, of_row.inputs, 0, lambda done, total: None)
    seen = [(sample.key, *(view.name for view in sample.views)) for sample, _ in map(one_pass.__getitem__, range(8))]
    assert len(set(seen)) == 8, "each image of Human3.6M once"
    assert {len(of_example) for of_example in seen} == {2}, "a key and one view"


def test_the_order_of_the_samples_follows_from_the_seed_alone(plan: Plan) -> None:
    def drawn(seed: int) -> list[list[float]]:
        data = _data(plan, "pw3d")
        of_row = data.learner().training(None, 0)
        samples = data.samples(of_row, of_row.inputs, seed, lambda done, total: None)
        return [samples[place][0].views[0].camera.K.ravel().tolist() for place in range(len(samples))]

    assert drawn(3) == drawn(3)


def test_a_killed_training_ends_with_the_same_weights(photographs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = photographs.must("train", "mupots", "rootnet") and _weights(photographs)
    shutil.rmtree(photographs.folder / "results")
    fit = train.fit

    def killed(fabric: Any, of_row: Any, *arguments: Any, **options: Any) -> Any:
        steps, loss = [], of_row.loss

        def dies(batch: Any) -> Any:
            steps.append(1)
            if len(steps) == 3:
                raise KeyboardInterrupt
            return loss(batch)

        of_row.loss = dies
        return fit(fabric, of_row, *arguments, **options, save_every=1)

    monkeypatch.setattr(train, "fit", killed)
    assert photographs.run("train", "mupots", "rootnet").code == 130
    monkeypatch.setattr(train, "fit", fit)
    photographs.must("train", "mupots", "rootnet")
    resumed = _weights(photographs)
    assert whole.keys() == resumed.keys()
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def _weights(photographs: Any) -> dict[str, Any]:
    state = Checkpoint.read(photographs.folder / "results/smoke/checkpoints/rootnet/mupots/seed0.pt").state
    return {name: value.numpy() for name, value in state.items()}


def test_a_change_of_one_data_set_trains_again(photographs: Any) -> None:
    for row, dataset in (("k_only", "mupots"), ("k_only", "human36m-coco")):
        photographs.must("train", dataset, row)
    path = photographs.folder / "data/muco/data/MuCo-3DHP.json"
    content = json.loads(path.read_text())
    for person in content["annotations"]:
        for joint in person["keypoints_cam"]:
            joint[2] += 100
    path.write_text(json.dumps(content))
    assert "nothing that it depends on" in photographs.must("train", "human36m-coco", "k_only").out
    assert "1 trained" in photographs.must("train", "mupots", "k_only").out


def test_what_cannot_be_trained_on_is_told_in_a_line(photographs: Any) -> None:
    shutil.rmtree(photographs.folder / "data/muco")
    said = photographs.must("train", "rootnet").out
    assert "mupots/rootnet: left out, there is no copy of muco, and no depth in mscoco" in said
    assert "mupots/rootnet: left out" in photographs.must("evaluate", "rootnet").out
    shutil.rmtree(photographs.folder / "data/mscoco")
    said = photographs.must("train", "rootnet").out
    assert "mupots/rootnet: left out, it is trained on muco, mscoco, of which there is no copy" in said
    assert (
        "rootnet cannot be trained for it: it is trained on muco, mscoco"
        in photographs.run("train", "mupots", "rootnet").error
    )
    named = {**ROWS["rootnet"], "train_on": ["muc"]}
    _written(photographs, {"rootnet": named})
    assert "methods.rootnet.train_on: no data set 'muc'" in photographs.run("train", "rootnet").error


def test_other_joints_are_refused_of_whole_poses(photographs: Any) -> None:
    row = {"code": "methods/backbone", "after": "scratch", "architecture": "small", "image_px": 32, "steps": 1}
    _written(photographs, {"backbone": {**row, "train_on": ["pw3d", "mscoco"]}})
    told = photographs.run("train", "pw3d", "backbone").error
    assert "methods.backbone.train_on: mscoco has other joints (coco-17) than pw3d" in told


@pytest.mark.parametrize(("dataset", "unit", "images"), [("mscoco", 1, {40, 41}), ("pw3d", 1000, {0, 1})])
def test_roots_are_exchanged_by_file(photographs: Any, dataset: str, unit: float, images: set[int]) -> None:
    """Of photographs too that no table is run on: what is written has the data set's unit, and comes back as it was."""
    folder = photographs.folder / f"results/smoke/predictions/k_only/{dataset}"
    told = photographs.run("roots", "write", dataset, "k_only").error
    assert "no predictions of split test from camera camera; run `poseboard predict" in told
    photographs.must("train", dataset, "k_only")
    photographs.must("predict", dataset, "k_only")
    photographs.must("roots", "write", dataset, "k_only")
    file = folder / f"bbox_root_{dataset}_output.json"
    entries = json.loads(file.read_text())
    (path,) = folder.glob("*.parquet")
    predicted = predictions.read(path)
    assert {entry["image_id"] for entry in entries} == images
    written = np.array([entry["root_cam"] for entry in entries]) * unit
    np.testing.assert_allclose(written, predicted.joints_mm[:, 0], rtol=1e-6)

    entries.reverse()  # people keep the numbers of their boxes
    file.write_text(json.dumps(entries))
    photographs.must("roots", "read", dataset, file, "--as", "others", "--out", "others.parquet")
    back = predictions.read(photographs.folder / "others.parquet")
    assert (back.info.method, back.info.trained_on) == ("others", ())
    assert back.keys.tolist() == predicted.keys.tolist()
    np.testing.assert_array_equal(back.person, predicted.person)
    np.testing.assert_allclose(back.joints_mm, predicted.joints_mm, rtol=1e-6)

    entries[0]["image_id"] = 12345
    file.write_text(json.dumps(entries))
    good = (photographs.folder / "others.parquet").read_bytes()
    told = photographs.run("roots", "read", dataset, file, "--as", "others", "--out", "others.parquet").error
    assert "image_id: 12345 is not an image of test" in told
    assert (photographs.folder / "others.parquet").read_bytes() == good, "of an earlier run"


def test_roots_of_each_camera_are_scored_as_what_they_were_written_of(photographs: Any) -> None:
    for command in ("train", "predict", "score"):
        photographs.must(command, "human36m-coco", "k_only")
    own = ScoreFile.read(photographs.folder / "results/smoke/scores/k_only/human36m-coco.json").scores
    photographs.must("roots", "write", "human36m-coco", "k_only", "--out", "roots.json")
    photographs.must("roots", "read", "human36m-coco", "roots.json", "--as", "others", "--out", "others.parquet")
    files = sorted(photographs.folder.glob("others-*.parquet"))
    assert len(files) == 4
    before = [path.read_bytes() for path in files]
    entries = json.loads((photographs.folder / "roots.json").read_text())
    (photographs.folder / "bad.json").write_text(json.dumps([*entries, {**entries[0], "image_id": 10**6}]))
    told = photographs.run("roots", "read", "human36m-coco", "bad.json", "--as", "others", "--out", "others.parquet")
    assert "image_id: 1000000 is not an image of test" in told.error
    assert [path.read_bytes() for path in files] == before
    of_files = [argument for path in files for argument in ("--predictions", path)]
    done = photographs.must("score", "human36m-coco", "others", *of_files, "--json")
    assert "warning" not in done.err
    record = json.loads(done.out)
    values = {score["table"]: score["value"] for score in record["scores"]}
    assert values == pytest.approx({score.table: score.value for score in own}, rel=1e-6)
    assert all(score["signature"]["trained_on"] == [] for score in record["scores"])

    for entry in entries:
        entry["root_cam"] = [value / 1000 for value in entry["root_cam"]]
    (photographs.folder / "metres.json").write_text(json.dumps(entries))
    told = photographs.run("roots", "read", "human36m-coco", "metres.json", "--as", "others", "--out", "metres.parquet")
    assert "mm in front of the camera; write x, y, z" in told.error
