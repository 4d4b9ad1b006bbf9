import hashlib
import importlib
import os
import pickle

import pytest
import torch

import poseboard.methods
from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import COCO, HUMAN36M
from poseboard.methods.algebraic.method import Algebraic
from poseboard.methods.nets.detector import Detector
from poseboard.methods.nets.pose_resnet import PoseResNet
from poseboard.methods.weights import import_weights, published_names


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return PoseResNet(18, 17, alg_confidences=True)


def saved(tmp_path, state):
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    return path


def whole(net, prefix="module.backbone.", without=()):
    return {f"{prefix}{key}": value for key, value in net.state_dict().items() if not key.startswith(without)}


def test_whole_model_loads_into_its_method(net, tmp_path):
    checkpoint = import_weights("algebraic", saved(tmp_path, whole(net)))
    assert checkpoint.architecture["network"] == "resnet18"
    assert checkpoint.architecture["joints"] == list(HUMAN36M.joints)
    checkpoint.save(tmp_path / "ours.pt")
    Algebraic({}, HUMAN36M).load(tmp_path / "ours.pt", "cpu")
    assert all(torch.equal(value, checkpoint.state[f"backbone.{key}"]) for key, value in net.state_dict().items())


def test_heat_maps_of_other_joints(net, tmp_path):
    """Seventeen heat maps may be those of COCO, which nothing in a file tells."""
    import_weights("algebraic", saved(tmp_path, whole(net)), joints="coco").save(tmp_path / "ours.pt")
    Algebraic({}, COCO).load(tmp_path / "ours.pt", "cpu")
    with pytest.raises(InputError, match="human36m-17"):
        Algebraic({}, HUMAN36M).load(tmp_path / "ours.pt", "cpu")


def test_under_state_dict_and_without_batch_counts(net, tmp_path):
    state = {key: value for key, value in whole(net).items() if not key.endswith("num_batches_tracked")}
    checkpoint = import_weights("algebraic", saved(tmp_path, {"state_dict": state, "epoch": 3}))
    assert len(checkpoint.state) == len(net.state_dict())


def test_without_the_head(net, tmp_path):
    path = saved(tmp_path, whole(net, without=("alg_confidences",)))
    checkpoint = import_weights("algebraic_no_conf", path)
    assert checkpoint.method == "algebraic"
    checkpoint.save(tmp_path / "ours.pt")
    Algebraic({"use_confidences": False}, HUMAN36M).load(tmp_path / "ours.pt", "cpu")
    import_weights("ransac", path).save(tmp_path / "ransac.pt")
    assert Detector.read(tmp_path / "ransac.pt", "cpu", decode="argmax").crop_px == 384


@pytest.mark.parametrize("method", ["algebraic_no_conf", "ransac"])
def test_a_head_too_many_is_an_error(net, tmp_path, method):
    with pytest.raises(InputError, match=r"backbone\.alg_confidences"):
        import_weights(method, saved(tmp_path, whole(net)))


def test_missing_and_misshapen_keys_are_listed(net, tmp_path):
    state = whole(net)
    del state["module.backbone.conv1.weight"]
    state["module.backbone.bn1.bias"] = torch.zeros(3)
    state["module.backbone.extra"] = torch.zeros(3)
    with pytest.raises(InputError) as error:
        import_weights("algebraic", saved(tmp_path, state))
    for told in ("backbone.conv1.weight", "backbone.extra", "backbone.bn1.bias (3,)"):
        assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_backbone_with_more_heatmaps_keeps_the_first(tmp_path, caplog):
    torch.manual_seed(1)
    published = PoseResNet(18, 33)
    torch.nn.init.normal_(published.final_layer.bias)
    checkpoint = import_weights("backbone", saved(tmp_path, whole(published, "module.")))
    assert torch.equal(checkpoint.state["final_layer.weight"], published.final_layer.weight[:17])
    assert torch.equal(checkpoint.state["final_layer.bias"], published.final_layer.bias[:17])
    assert torch.equal(checkpoint.state["layer4.1.conv2.weight"], published.layer4[1].conv2.weight)
    assert "33 filters, the first 17 are taken" in caplog.text
    checkpoint.save(tmp_path / "backbone.pt")
    model = Algebraic({}, HUMAN36M).training(tmp_path / "backbone.pt", seed=0).model.state_dict()
    assert torch.equal(model["backbone.conv1.weight"], published.conv1.weight)


def test_backbone_ignores_what_does_not_fit(net, tmp_path, caplog):
    state = {
        **whole(net, "", without=("alg_confidences", "bn1")),
        "bn1.weight": torch.zeros(5),
        "head.x": torch.ones(2),
    }
    checkpoint = import_weights("backbone", saved(tmp_path, state))
    assert torch.equal(checkpoint.state["bn1.weight"], torch.ones(64))
    assert "ignored: bn1.weight, head.x" in caplog.text
    assert "left fresh: bn1.weight" in caplog.text
    again = import_weights("backbone", saved(tmp_path, state))
    assert all(torch.equal(value, again.state[key]) for key, value in checkpoint.state.items())


def test_a_hash_in_the_name_must_be_that_of_the_file(net, tmp_path):
    path = saved(tmp_path, whole(net, "", without=("alg_confidences",)))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in (f"resnet18-{sha256[:8]}.pth", "resnet18-20240115.pth"):  # the second is a date
        import_weights("backbone", path.rename(tmp_path / name))
        path = tmp_path / name
    with pytest.raises(InputError, match=rf"starts with {sha256[:8]}, not with 19c8e357"):
        import_weights("backbone", path.rename(tmp_path / "resnet18-19c8e357.pth"))


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile_was_here",)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_code_in_a_file_is_not_run(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"backbone.conv1.weight": Hostile()}, protocol=2))
    else:
        torch.save({"backbone.conv1.weight": Hostile()}, path)
    with pytest.raises(InputError, match=r"weights\.pth"):
        import_weights("algebraic", path)
    assert not (tmp_path / "hostile_was_here").exists()


@pytest.mark.parametrize(
    "values",
    [
        [torch.zeros(1)],
        {},
        {"a": 1},
        {3: torch.zeros(1)},
        {"backbone.conv1.weight": torch.zeros(2, 3)},
        {"backbone.layer1.999.conv1.weight": torch.zeros(1)},
        {"backbone.conv1.weight": torch.full((2,), float("nan"))},
        {"backbone.conv1.weight": torch.eye(3).to_sparse()},
        {"state_dict": {"backbone": {"conv1": torch.zeros(1)}}},
    ],
)
def test_other_contents_are_refused(tmp_path, values):
    for method in ("algebraic", "backbone"):
        with pytest.raises(InputError):
            import_weights(method, saved(tmp_path, values))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"\x1f\x8b\x08rest", "packed"),
        (b"PK\x03\x04 and no more", "download it again"),
        (None, ""),
    ],
)
def test_a_file_that_is_no_checkpoint_is_told_for_what_it_is(tmp_path, content, said):
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"weights\.pth: .*{said}"):
        import_weights("algebraic", path)


MADE_UP = """
from poseboard.methods.checkpoint import Checkpoint

VARIANTS = ("", "wide")


def published(state, file, *, variant="", scale_mm: float = 1.0):
    return Checkpoint("made_up", {"variant": variant}, dict(state), {"scale_mm": scale_mm})
"""


@pytest.fixture
def with_folder(tmp_path, monkeypatch):
    """Adds a method's folder with a published.py of the given text."""

    def add(name, text):
        (tmp_path / "theirs" / name).mkdir(parents=True)
        (tmp_path / "theirs" / name / "published.py").write_text(text)
        monkeypatch.setattr(poseboard.methods, "__path__", [*poseboard.methods.__path__, str(tmp_path / "theirs")])
        importlib.invalidate_caches()

    return add


def test_weights_of_a_new_method_are_found_in_its_folder(tmp_path, with_folder):
    with_folder("looked_up", MADE_UP)
    path = saved(tmp_path, {"module.a": torch.ones(2)})
    assert import_weights("looked_up", path).architecture == {"variant": ""}
    found = import_weights("looked_up_wide", path, scale_mm=3.0)
    assert (found.architecture, found.constants) == ({"variant": "wide"}, {"scale_mm": 3.0})
    assert torch.equal(found.state["a"], torch.ones(2))
    assert import_weights("looked_up", path, scale_mm="2.5").constants == {"scale_mm": 2.5}
    with pytest.raises(InputError, match=r"looked_up --set joints: .*scale_mm"):
        import_weights("looked_up", path, joints="coco")
    with pytest.raises(InputError, match="looked_up --set scale_mm=long"):
        import_weights("looked_up", path, scale_mm="long")
    with pytest.raises(InputError, match=r"'looked_up_narrow': .*looked_up, looked_up_wide"):
        import_weights("looked_up_narrow", path)


def test_a_folder_without_the_function_is_named(tmp_path, with_folder):
    with_folder("nothing_to_call", "")
    with pytest.raises(InputError, match=r"methods/nothing_to_call/published\.py"):
        import_weights("nothing_to_call", saved(tmp_path, {"a": torch.ones(2)}))


def test_every_name_that_is_listed_is_one():
    names = list(published_names())
    assert {"backbone", "ransac", "algebraic", "algebraic_no_conf", "epipolar", "lifting"} <= set(names)
    assert {name for name in names if name.startswith("volumetric")} == {
        f"volumetric{variant}" for variant in ("", "_sum", "_max", "_conf", "_conf_norm")
    }
    assert len(set(names)) == len(names)
