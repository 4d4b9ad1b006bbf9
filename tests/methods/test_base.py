"""The class of a row is found by name; whatever is wrong with it is one line."""

from pathlib import Path

import pytest

from poseboard.datasets.errors import InputError
from poseboard.methods.base import find_method
from poseboard.methods.dlt.method import Dlt


def test_a_method_is_found_by_its_folder_or_its_class() -> None:
    assert find_method("dlt") is Dlt
    assert find_method("poseboard.methods.dlt.method:Dlt") is Dlt


@pytest.mark.parametrize(
    ("spec", "code", "named"),
    [
        ("there_is_none", "", "there_is_none"),
        ("own_empty:Own", "a = 1\n", "own_empty.*Own"),
        ("own_bare:Own", "class Own:\n    pass\n", "Own.*predict"),
        ("own_broken:Own", "a = 1\nclass Own\n", r"own_broken\.py:2"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, code: str, named: str
) -> None:
    (tmp_path / f"{spec.partition(':')[0]}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=named) as caught:
        find_method(spec)
    assert "\n" not in str(caught.value)


def test_an_error_within_a_method_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_wrong.py").write_text("import math\nclass Own:\n    a = math.no_such_thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AttributeError, match="no_such_thing"):
        find_method("own_wrong:Own")
