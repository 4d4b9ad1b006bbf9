import io
import pickle
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseboard.datasets.errors import InputError
from poseboard.datasets.unpickle import read_pickle

CONTENT = {
    "floats": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "records": np.array([(1, np.eye(3)), (2, 2 * np.eye(3))], dtype=[("id", "i1"), ("R", "f4", (3, 3))]),
    "aligned": np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "names": np.array(["S1", "S11"]),
    "bytes": np.array([b"ab"]),
    "objects": np.array([None, [1, 2], np.zeros(2)], dtype=object),
    "empty": np.zeros((0, 4)),
    "scalar": np.float64(3.5),
    "flag": np.bool_(True),
    "dtype": np.dtype("f4"),
    "plain": [1, 2.5, "text", b"\xff\x00", b"", True, None, (1, (2,)), {"a": {1, 2}}, 10**18],
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_values_come_back(tmp_path: Path, protocol: int) -> None:
    content = {k: v for k, v in CONTENT.items() if k != "plain" or protocol >= 4}  # a set needs a global before 4
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_pickle(path)
    assert read.keys() == content.keys()
    for name, value in content.items():
        assert type(read[name]) is type(value), name
        if isinstance(value, np.ndarray):
            assert read[name].dtype == value.dtype
            assert read[name].shape == value.shape
            if value.size:
                assert not read[name].flags.writeable
            if value.dtype.kind != "O":
                np.testing.assert_array_equal(read[name], value)
        else:
            assert read[name] == value
    np.testing.assert_array_equal(read["objects"][2], np.zeros(2))


def test_an_object_array_in_npy_form(tmp_path: Path) -> None:
    path = tmp_path / "labels.npy"
    np.save(path, np.array({"table": np.arange(3)}, dtype=object), allow_pickle=True)
    np.testing.assert_array_equal(read_pickle(path)["table"], np.arange(3))
    np.save(path, np.array([{"a": 1}, "b"], dtype=object), allow_pickle=True)
    assert read_pickle(path).tolist() == [{"a": 1}, "b"]
    np.save(path, np.arange(3))
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_pickle(path)


def test_python_2_arrays(tmp_path: Path) -> None:
    """Python 2 stored an array's bytes as a str; a protocol 2 pickle written by hand."""
    path = tmp_path / "a.pkl"
    data = struct.pack("<2d", 1.5, -2.0)
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x10" + data + b"tb."
    )
    assert read_pickle(path).tolist() == [1.5, -2.0]


class _Runs:
    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> Any:
        return self.reduced


def _global(module: str, name: str, arguments: bytes) -> bytes:
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + arguments + b"."


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def gadgets(marker: Path) -> dict[str, bytes]:
    """Pickles each of which would leave ``marker`` behind, or open the way to it, in an ordinary unpickler."""
    shell, code = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    one = {"shell": _text(shell) + b"\x85R", "code": _text(code) + b"\x85R"}
    return {
        "os.system": _global("os", "system", one["shell"]),
        "posix.system": _global("posix", "system", one["shell"]),
        "subprocess.getoutput": _global("subprocess", "getoutput", one["shell"]),
        "builtins.eval": _global("builtins", "eval", one["code"]),
        "__builtin__.eval": _global("__builtin__", "eval", one["code"]),
        "builtins.exec": _global("builtins", "exec", one["code"]),
        "builtins.getattr": _global("builtins", "getattr", _text("x") + _text("upper") + b"\x86R"),
        "numpy.load": _global("numpy", "load", _text("x.npy") + b"\x85R"),
        "numpy.testing._private.utils.runstring": _global(
            "numpy.testing._private.utils", "runstring", _text(code) + b"}\x86R"
        ),
        "numpy.ctypeslib.load_library": _global("numpy.ctypeslib", "load_library", _text("x") + _text("/") + b"\x86R"),
        "numpy.f2py.compile": _global("numpy.f2py", "compile", _text("x") + b"\x85R"),
        "_codecs.decode": _global("_codecs", "decode", b"C\x01a\x85R"),
        "numpy._core.multiarray._reconstruct.__globals__": b"\x80\x04"
        + b"\x8c\x16numpy._core.multiarray"
        + b"\x8c"
        + bytes([len("_reconstruct.__globals__")])
        + b"_reconstruct.__globals__"
        + b"\x93.",
        "instance": b"(ios\nsystem\n.".replace(b"(i", b"(" + _text(shell) + b"i"),
        "nested in an array": pickle.dumps(np.array([_Runs(exec, code)], dtype=object)),
    }


@pytest.mark.parametrize("name", gadgets(Path("unused")))
@pytest.mark.parametrize("as_npy", [False, True])
def test_code_is_named_and_not_run(tmp_path: Path, name: str, as_npy: bool) -> None:
    marker = tmp_path / "ran"
    content = gadgets(marker)[name]
    path = tmp_path / ("labels.npy" if as_npy else "labels.pkl")
    header = io.BytesIO()
    if as_npy:
        np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(header.getvalue() + content)
    with pytest.raises(InputError, match=r"labels\.(npy|pkl): .*nothing was run"):
        read_pickle(path)
    assert not marker.exists()


def test_the_gadgets_would_run_elsewhere(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(gadgets(marker)["builtins.exec"])
    assert marker.exists()


@pytest.mark.parametrize("as_npy", [False, True])
def test_truncation_at_any_length_is_found(tmp_path: Path, as_npy: bool) -> None:
    path = tmp_path / ("a.npy" if as_npy else "a.pkl")
    if as_npy:
        np.save(path, np.array(CONTENT, dtype=object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(CONTENT))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=re.escape(str(path))):
            read_pickle(path)


def test_flipped_bytes_raise_nothing_but_input_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    whole = pickle.dumps(CONTENT)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_pickle(path)
        except InputError:
            refused += 1
    assert refused > 0


def _array(shape: bytes, code: str, state: bytes) -> bytes:
    """A protocol 2 pickle of an array with this shape, type code, and byte string or list."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\n"
        + _text(code)
        + b"\x89\x88\x87R"
        + b"\x89"
        + state
        + b"tb."
    )


HUGE = b"\x8a\x05\x00\x00\x00\x00\x40"  # 2**38, as an integer

SIZES = {
    "array": _array(HUGE + b"\x85", "f8", b"C\x08" + bytes(8)),
    "object array": _array(HUGE + b"\x85", "O", b"]"),
    "negative": _array(b"J\xff\xff\xff\xff\x85", "f8", b"C\x08" + bytes(8)),
    "type": _array(b"K\x01\x85", "V999999999", b"C\x08" + bytes(8)),
    "numpy.ndarray itself": b"\x80\x02cnumpy\nndarray\n" + HUGE + b"\x85\x85R.",
    "reconstruct": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + HUGE + b"\x85C\x01b\x87R.",
    "bytes of a size": b"\x80\x03cbuiltins\nbytes\n" + HUGE + b"\x85R.",
    "declared bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
    "declared text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc.",
    "declared bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
    "memo": b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".",
}


@pytest.mark.parametrize("name", SIZES)
def test_declared_sizes_reserve_no_memory(tmp_path: Path, name: str) -> None:
    import resource

    path = tmp_path / "a.pkl"
    path.write_bytes(SIZES[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_pickle(path)
    grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (
        1 if sys.platform == "darwin" else 1024
    )
    assert grown_bytes < 50e6


def test_a_record_type_cannot_reach_beyond_its_data(tmp_path: Path) -> None:
    """numpy's own dtype takes field offsets from a pickle unchecked, and would read foreign memory."""
    honest = np.zeros(2, dtype=[("a", "<f8")])
    state = honest.dtype.__reduce__()[2]
    fields = {"a": (np.dtype("f8"), 4096)}
    evil = _Runs(np.dtype, "V8", False, True)
    evil.reduced = (np.dtype, ("V8", False, True), (*state[:4], fields, *state[5:]))
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(evil))
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_pickle(path)


def test_shared_parts_are_read_once_and_cycles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    level: Any = ["x"]
    for _ in range(60):
        level = [level, level]  # 2**60 leaves if it were copied
    path.write_bytes(pickle.dumps(level))
    assert len(read_pickle(path)) == 2
    cycle: list[Any] = []
    cycle.append(cycle)
    path.write_bytes(pickle.dumps(cycle))
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_pickle(path)


def test_functions_are_no_data_and_keep_no_state(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02cnumpy.core.multiarray\nscalar\n.")
    with pytest.raises(InputError):
        read_pickle(path)
    # State (None, {name: value}) sets attributes, of whatever the pickle was handed.
    path.write_bytes(b"\x80\x02c_codecs\nencode\nN}" + _text("_function") + b"K\x01s\x86b.")
    with pytest.raises(InputError):
        read_pickle(path)
    path.write_bytes(pickle.dumps(CONTENT["bytes"], protocol=2))
    assert read_pickle(path).tolist() == [b"ab"]


def test_deep_nesting_is_refused_not_crashed(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")
    with pytest.raises(InputError):
        read_pickle(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pkl"):
        read_pickle(tmp_path / "none.pkl")
