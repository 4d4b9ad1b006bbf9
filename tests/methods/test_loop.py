"""The training loop: kill -9 and resume give bit-equal weights; batches are pure functions of (seed, step)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from launching import launch

from poseboard.datasets.errors import InputError
from poseboard.methods import loop

PROGRAM = Path(__file__).with_name("train_toy.py")


def run(folder: Path, *sessions: list[str], processes: int = 1) -> list[list[int]]:
    """Trainings one after another, each the folder's name and options; by process, the exit code of each.

    What the n-th one has left in its folder is in ``left-by-<n>`` as well.
    """
    words = json.dumps([[str(folder / name), *options] for name, *options in sessions])
    launch(PROGRAM, words, str(folder / "codes"), folder=folder, processes=processes)
    return [json.loads((folder / f"codes.{rank}").read_text()) for rank in range(processes)]


def final(folder: Path) -> dict[str, dict[str, Any]]:
    return torch.load(folder / "final.pt", weights_only=True)


def assert_bit_equal(one: Path, other: Path) -> None:
    first, second = final(one), final(other)
    assert first["state"].keys() == second["state"].keys()
    for name, value in first["state"].items():
        assert torch.equal(value, second["state"][name]), name
    assert first["curve"] == second["curve"]


AGAIN = ["killed", "--busy=0.02"]
KILLING = ["straight"], [*AGAIN, "--kill-at=17"], AGAIN
OTHERWISE = ["workers", "--workers=2"], ["idle", "--idle=0.05"], ["other"], ["other", "--learning-rate=0.5"]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[int]]]:
    """The folder of all trainings of one process, which share a start, and their exit codes."""
    folder = tmp_path_factory.mktemp("one-process")
    return folder, run(folder, *KILLING, *OTHERWISE)


def assert_resumed_bit_equal(folder: Path, codes: list[list[int]]) -> None:
    for straight, killed, resumed in codes:
        assert straight == resumed == 0
        assert killed != 0
    saved = torch.load(folder / "left-by-1" / "state.pt", weights_only=True)
    assert 0 < saved["step"] <= 17
    assert not (folder / "left-by-1" / "final.pt").exists()
    assert_bit_equal(folder / "straight", folder / "killed")
    # The busy steps of both sessions, though it is another process than the first that is busy.
    assert final(folder / "killed")["times"]["processor"] >= 30 * 0.02


def test_kill_and_rerun_gives_bit_equal_weights(one_process: tuple[Path, list[list[int]]]) -> None:
    folder, codes = one_process
    assert_resumed_bit_equal(folder, [of_process[: len(KILLING)] for of_process in codes])


def test_kill_and_rerun_as_under_torchrun_gives_bit_equal_weights(tmp_path: Path) -> None:
    assert_resumed_bit_equal(tmp_path, run(tmp_path, *KILLING, processes=2))


def test_what_does_not_change_a_training_and_what_does(one_process: tuple[Path, list[list[int]]]) -> None:
    folder, (codes,) = one_process
    assert codes[len(KILLING) :] == [0] * len(OTHERWISE)
    assert_bit_equal(folder / "straight", folder / "workers")
    # A state of another configuration is not resumed: the whole training runs anew.
    first, second = (
        torch.load(folder / name / "state.pt", weights_only=True)["identity"] for name in ("straight", "other")
    )
    assert first != second
    # What a training waits for is not a processor time.
    times = final(folder / "idle")["times"]
    assert times["seconds"] - times["processor"] >= 30 * 0.05 / 2  # the rest: what else the two processors run at once
    assert times["gpu"] is None


def test_every_epoch_shows_every_sample_once() -> None:
    for epoch in range(3):
        seen = [loop._shuffled(4, epoch * 11 + place, 11) for place in range(11)]
        assert sorted(seen) == list(range(11))
    assert [loop._shuffled(4, p, 11) for p in range(11)] != [loop._shuffled(4, 11 + p, 11) for p in range(11)]


@pytest.mark.parametrize(
    ("environment", "processes"),
    [
        ({}, None),
        ({"LOCAL_WORLD_SIZE": "3", "GROUP_WORLD_SIZE": "2"}, (3, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train"}, (4, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "bash"}, None),
    ],
    ids=["alone", "torchrun", "srun", "shell-in-slurm"],
)
def test_processes_of_a_launcher_are_found(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], processes: tuple[int, int] | None
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "SLURM_NTASKS", "SLURM_NNODES", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert loop._launched_processes() == processes


@pytest.mark.parametrize(("name", "value"), [("LOCAL_WORLD_SIZE", "x"), ("SLURM_NNODES", "0"), ("SLURM_NTASKS", "1e9")])
def test_a_launcher_without_a_number_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    for variable, of_slurm in {
        "SLURM_NTASKS": "8",
        "SLURM_NNODES": "2",
        "SLURM_JOB_NAME": "train",
        name: value,
    }.items():
        monkeypatch.setenv(variable, of_slurm)
    with pytest.raises(InputError, match=f"{name}: '{value}' is not a number of processes"):
        loop._launched_processes()
