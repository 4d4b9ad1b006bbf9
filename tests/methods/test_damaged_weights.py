"""Files of weights that rotted on the disk, or hold what no training leaves, never become a number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from poseboard.datasets.errors import InputError
from poseboard.methods import loop
from poseboard.methods.checkpoint import Checkpoint, read_tensors, write_tensors

SMALL = Checkpoint(
    method="toy",
    architecture={"joints": ["pelvis", "neck"], "crop_px": 64},
    state={"weight": torch.arange(12.0).reshape(3, 4) / 7, "count": torch.tensor(5), "half": torch.ones(2).half()},
    constants={"threshold_px": 12.5},
)


def same(one: Checkpoint, other: Checkpoint) -> bool:
    plain = ("method", "architecture", "constants")
    return (
        all(getattr(one, name) == getattr(other, name) for name in plain)
        and list(one.state) == list(other.state)
        and all(one.state[key].dtype == other.state[key].dtype for key in one.state)
        and all(torch.equal(one.state[key], other.state[key]) for key in one.state)
    )


def read_or_refused(path: Path) -> Checkpoint | str:
    try:
        return Checkpoint.read(path)
    except InputError as error:
        return str(error)


def test_a_flipped_bit_anywhere_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "seed0.pt"
    SMALL.save(path)
    whole = path.read_bytes()
    assert same(Checkpoint.read(path), SMALL)
    # All over the file, and every bit of what the archive's directory says of a tensor's file: the bit that calls it a
    # folder made torch read memory that nobody had written.
    entry = whole.index(b"archive/data/0", whole.index(b"PK\x01\x02")) - 46
    assert whole[entry : entry + 4] == b"PK\x01\x02"
    bits = {place * 8 + place % 8 for place in range(0, len(whole), 5)} | set(range(8 * entry, 8 * (entry + 60)))
    refused = 0
    for bit in sorted(bits):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        read = read_or_refused(path)
        if isinstance(read, str):
            refused += 1
            assert read.startswith(f"{path}: ")
            assert "\n" not in read
        else:
            assert same(read, SMALL), f"bit {bit % 8} of byte {bit // 8} changed the weights"
    assert refused > len(bits) / 2


def test_every_bit_of_a_tensor_is_under_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "seed0.pt"
    SMALL.save(path)
    whole = path.read_bytes()
    start = whole.index(SMALL.state["weight"].numpy().tobytes())
    for bit in range(8 * SMALL.state["weight"].nbytes):
        damaged = bytearray(whole)
        damaged[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"seed0\.pt: .*checksum"):
            Checkpoint.read(path)


def test_values_changed_by_a_program_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.pt"
    SMALL.save(path)
    values = torch.load(path, weights_only=True)
    values["state"]["weight"].add_(1)
    torch.save(values, path)
    with pytest.raises(InputError, match="changed after it was written"):
        Checkpoint.read(path)
    del values["poseboard_sha256"]
    torch.save(values, path)  # as earlier versions wrote it
    Checkpoint.read(path)


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1.0, float("nan")]),
        torch.tensor([1.0, float("-inf")]).half(),
        torch.ones(2, dtype=torch.complex64),
        torch.ones(2, 2).to_sparse(),
        torch.empty(2, device="meta"),
        torch.ones(2).to(torch.float8_e4m3fn),
        [1.0, 2.0],
        None,
    ],
    ids=["nan", "infinite", "complex", "sparse", "meta", "float8", "list", "none"],
)
def test_weights_that_are_no_tensors_of_finite_real_numbers(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "seed0.pt"
    spoilt = Checkpoint("toy", {}, {"first": torch.ones(1), "deep.second": value})
    with pytest.raises(InputError, match=r"seed0\.pt: .*'deep\.second'"):
        spoilt.save(path)
    assert not list(tmp_path.iterdir())
    write_tensors(path, {"format": 1, **spoilt.__dict__})
    with pytest.raises(InputError, match=r"seed0\.pt: .*'deep\.second'"):
        Checkpoint.read(path)


@pytest.mark.parametrize("value", [float("nan"), "12", None, True, 1j])
def test_constants_that_are_no_finite_numbers(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "seed0.pt"
    write_tensors(path, {"format": 1, **SMALL.__dict__, "constants": {"threshold_px": value}})
    with pytest.raises(InputError, match=r"seed0\.pt.*'threshold_px'"):
        Checkpoint.read(path)


def damaged_states(whole: bytes) -> dict[str, bytes]:
    middle = len(whole) // 2
    return {
        "empty": b"",
        "truncated": whole[:middle],
        "zeroed": whole[: middle - 200] + bytes(400) + whole[middle + 200 :],
        "text": b"not a state",
    }


@pytest.mark.parametrize("kind", damaged_states(b""))
def test_a_damaged_state_counts_as_none_and_is_told(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "seed0.state.pt"
    write_tensors(path, {"format": loop._FORMAT, **loop._State("mine", step=7, model={"w": torch.ones(500)}).__dict__})
    loaded = loop._State.load(path, "mine", tell=True)
    assert loaded is not None
    assert loaded.step == 7
    assert loop._State.load(path, "another", tell=True) is None
    assert not caplog.records
    path.write_bytes(damaged_states(path.read_bytes())[kind])
    assert loop._State.load(path, "mine", tell=False) is None
    assert not caplog.records
    assert loop._State.load(path, "mine", tell=True) is None
    (told,) = caplog.messages
    assert told.startswith(f"{path}: ")
    assert "\n" not in told


@pytest.mark.parametrize("field", [{"step": "7"}, {"step": -1}, {"curve": {"total": [1.0]}}, {"seconds": float("nan")}])
def test_a_state_of_other_types_counts_as_none(
    tmp_path: Path, field: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "seed0.state.pt"
    write_tensors(path, {"format": loop._FORMAT, **loop._State("mine").__dict__, **field})
    assert loop._State.load(path, "mine", tell=True) is None
    assert "starts anew" in caplog.text


def test_a_state_that_does_not_fit_the_training_is_refused(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(net.parameters())
    state = loop._State("mine", model=net.state_dict(), optimizer={"state": 3, "param_groups": []})
    with pytest.raises(InputError, match=r"state is damaged .*; delete it"):
        state.resume(tmp_path / "seed0.state.pt", net, optimizer, SimpleNamespace(scheduler=None))


def test_a_checkpoint_says_what_it_was_trained_on_only_where_that_is_stated(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    plain = Checkpoint("toy", {}, {"w": torch.ones(2)})
    plain.save(path)
    assert set(read_tensors(path)) == {"format", "method", "architecture", "state", "constants"}
    assert Checkpoint.read(path).trained_on == ()
    replace(plain, trained_on=("mpii", "mscoco")).save(path)
    assert Checkpoint.read(path).trained_on == ("mpii", "mscoco")
    write_tensors(path, {**read_tensors(path), "trained_on": "mpii"})
    with pytest.raises(InputError, match="trained_on"):
        Checkpoint.read(path)
