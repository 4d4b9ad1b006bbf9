"""What the package declares about itself: dependencies, licence, citation, and that no file names a registry."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("benchmarks", "datasets", "methods", "protocols", "report")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normal(name: str) -> str:
    """A distribution's name as registries compare them, without version or marker."""
    return re.sub(r"[-_.]+", "-", re.split(r"[ <>=!~;\[]", name, maxsplit=1)[0]).lower()


def imported(folder: Path) -> dict[str, Path]:
    """Top-level modules that Python files of a folder import, wherever in the file, and one file that does."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            found |= {name.partition(".")[0]: path for name in names}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_every_import_of_the_package_is_a_declared_dependency(room: str) -> None:
    extras = PROJECT["optional-dependencies"]
    declared = {normal(name) for name in (*PROJECT["dependencies"], *extras["cluster"], *extras["peers"])}
    owners = packages_distributions()
    for module, path in imported(ROOT / room).items():
        if module in sys.stdlib_module_names or module == "poseboard":
            continue
        # Several distributions may fill one name (opencv-contrib-python-headless: cv2).
        assert {normal(owner) for owner in owners[module]} & declared, f"{path.relative_to(ROOT)} imports {module}"


def test_constraints_name_no_host_and_every_dependency() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert " @ " not in text
    assert "--" not in text
    pinned = {normal(line) for line in text.splitlines()}
    extras = [name for names in PROJECT["optional-dependencies"].values() for name in names]
    assert {normal(name) for name in (*PROJECT["dependencies"], *extras)} <= pinned


def test_the_licence_is_the_one_declared() -> None:
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith(f"{PROJECT['license']} License")
    assert "LICENSE" in PROJECT["license-files"]
    (author,) = PROJECT["authors"]
    assert author["name"] in licence


def test_the_citation_is_of_this_version_and_names_every_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert [reference["year"] for reference in citation["references"]] == [2019, 2020, 2019, 2023]
    assert all(reference["authors"] and reference["title"] for reference in citation["references"])
