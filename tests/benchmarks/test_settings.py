"""params.yaml: profiles, options, and mistakes that are told in one line."""

from pathlib import Path

import pytest
import yaml

from poseboard.benchmarks.settings import BACKBONE, Settings
from poseboard.datasets.errors import InputError
from poseboard.datasets.skeleton import HUMAN36M
from poseboard.methods.backbone.train import Backbone
from poseboard.methods.base import Method, find_method

ROOT = Path(__file__).resolve().parents[2]
ODD_NAMES = ("dlt; touch X #", "../dlt", "/abs", "..", "a/b", "$(touch X)", "it's", "-f", "", "dlt\n", "dlté", "a.b")
ONE_SEED = {"seeds": [0], "processes": 1, "world": {}}


def params(**changes: object) -> dict[str, object]:
    profile = {"seeds": [0], "processes": 1, "world": {"seed": 1}}
    return {
        "profile": "default",
        "datasets": {"human36m": {"root": None}},
        "backbone": {"steps": {"default": 5, "full": 9}},
        "methods": {"dlt": {"code": "methods/dlt", "after": "backbone", "weights": "peak"}},
        "profiles": {"default": profile, "full": profile},
    } | changes


def write(folder: Path, **changes: object) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(params(**changes)))
    return path


def committed(folder: Path, profile: str) -> Settings:
    """The committed params.yaml, read in a profile."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values | {"profile": profile}))
    return Settings.read(path)


@pytest.mark.parametrize("profile", ["smoke", "default", "seeds", "full"])
def test_every_row_of_every_profile_is_valid(tmp_path: Path, profile: str) -> None:
    settings = committed(tmp_path, profile)
    assert profile in settings.params.profiles
    Backbone(settings.options(BACKBONE), HUMAN36M)
    for row, entry in settings.rows.items():
        method = find_method(entry.spec)(settings.options(row), HUMAN36M)
        assert isinstance(method, Method)
        recipe = settings.options(row).get("recipe")
        assert recipe is None or recipe == ("published" if profile == "full" else "small")


def test_a_row_of_one_profile_is_none_of_another(tmp_path: Path) -> None:
    own = {"epipolar_augmented", "epipolar_extra_data"}
    full = committed(tmp_path, "full")
    assert own <= set(full.rows)
    for profile in set(full.params.profiles) - {"full"}:
        settings = full.in_profile(profile)
        assert not own & set(settings.rows)
        with pytest.raises(InputError, match="'epipolar_augmented': is not in params"):
            settings.entry("epipolar_augmented")


def test_options_differ_by_profile_and_fall_back_to_default(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert Settings.read(path).options("backbone") == {"steps": 5}
    full = Settings.read(path).in_profile("full")
    assert full.options("backbone") == {"steps": 9}
    assert full.options("dlt") == {"weights": "peak"}


def test_a_world_is_kept_by_its_options(tmp_path: Path) -> None:
    one = Settings.read(write(tmp_path)).root("human36m")
    other = Settings.read(
        write(
            tmp_path,
            profiles={name: {"seeds": [0], "processes": 1, "world": {"seed": 2}} for name in ("default", "full")},
        )
    ).root("human36m")
    assert one != other
    assert Settings.read(write(tmp_path, datasets={"human36m": {"root": "/real"}})).root("human36m") == Path("/real")


def test_without_a_world_no_folder_means_absent(tmp_path: Path) -> None:
    datasets = {"human36m": {"root": None}, "panoptic": {"root": None}, "shelf": {"root": "data/shelf"}}
    (tmp_path / "data" / "human36m").mkdir(parents=True)  # the world stands, whatever lies there
    settings = Settings.read(write(tmp_path, datasets=datasets))
    assert [name for name in ("human36m", "panoptic", "shelf", "rhd") if settings.is_absent(name)] == [
        "panoptic",
        "rhd",
    ]
    with pytest.raises(
        InputError, match=r"datasets\.panoptic\.root: names no folder, and data/panoptic is .*poseboard data status"
    ):
        settings.root("panoptic")
    assert not settings.with_root("panoptic", tmp_path).is_absent("panoptic")
    assert [name for name in datasets if settings.is_named(name)] == ["shelf"]
    (tmp_path / "data" / "panoptic").mkdir()
    assert settings.root("panoptic") == tmp_path / "data" / "panoptic"
    assert settings.root("human36m").name.startswith("synthetic-human36m-")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"surprise": 1}, "surprise"),
        ({"profile": "huge"}, "profile"),
        ({"methods": {"dlt": {"after": "backbone"}}}, "methods.dlt.code"),
        ({"methods": {"dlt": {"code": "methods/dlt", "after": "nobody"}}}, "methods.dlt.after"),
        ({"methods": {"../dlt": {"code": "methods/dlt", "after": "backbone"}}}, "../dlt"),
        *(({"methods": {name: {"code": "methods/dlt", "after": "backbone"}}}, "methods") for name in ODD_NAMES),
        *(({"profiles": {name: ONE_SEED}, "profile": name}, "profiles") for name in (*ODD_NAMES, "speed")),
        *(({"datasets": {name: {"root": None}}}, "datasets") for name in ODD_NAMES),
        *(({"detections": {"shelf": [name]}}, "detections") for name in ODD_NAMES),
        ({"methods": {"backbone": {"code": "methods/dlt", "after": "backbone"}}}, "methods.backbone"),
        ({"profiles": {"default": {"seeds": [], "processes": 1, "world": {}}}}, "seeds"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, changes: dict[str, object], named: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        Settings.read(path)
    assert str(path) in str(caught.value)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_plain_names_are_names(tmp_path: Path) -> None:
    row = {"code": "methods/dlt", "after": "backbone"}
    read = Settings.read(write(tmp_path, methods=dict.fromkeys(("dlt-2", "_x", "3d", "A-b_c"), row)))
    assert list(read.params.methods) == ["3d", "A-b_c", "_x", "dlt-2"]
    for name in ODD_NAMES:
        with pytest.raises(InputError, match="is no name"):
            read.row_path("scores", "dlt-2", name)


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Settings.read(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("profile: [")
    with pytest.raises(InputError, match="is not YAML"):
        Settings.read(tmp_path / "params.yaml")
