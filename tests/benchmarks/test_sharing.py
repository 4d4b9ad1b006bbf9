"""Prediction in several processes: the same files to the byte, and nothing half written where one of them ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed

from poseboard.benchmarks import harness, predicting, sharing
from poseboard.benchmarks.sharing import Sharing, Work, pieces
from poseboard.datasets.errors import InputError
from poseboard.datasets.forks import forked

PROGRAM = Path(__file__).with_name("predict_together.py")
CHUNK = 2
PREDICTIONS = "results/smoke/predictions/algebraic/human36m"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def predict_under_torchrun(folder: Path) -> subprocess.CompletedProcess[str]:
    own = {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONDONTWRITEBYTECODE": "",
        "CHUNK": str(CHUNK),
    }
    command = [sys.executable, *TORCHRUN, str(PROGRAM), "predict", "human36m", "algebraic"]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **own}, capture_output=True, text=True, check=False, timeout=300
    )


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / PREDICTIONS).rglob("*") if path.is_file()}


def test_several_processes_write_what_one_does(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "chunks", partial(harness.chunks, size=CHUNK))
    workspace.must("train", "human36m", "algebraic")
    alone = workspace.must("predict", "human36m", "algebraic")
    files = held(workspace.folder)
    assert any(name.endswith(".parquet") for name in files)

    def forget() -> None:
        for path in (workspace.folder / PREDICTIONS).glob("*.parquet"):
            path.unlink()

    forget()
    together = predict_under_torchrun(workspace.folder)
    assert together.returncode == 0, together.stderr
    assert held(workspace.folder) == files
    assert together.stdout == alone.out, "each line once"

    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    params["profiles"]["smoke"]["processes"] = 2
    workspace.write_params(**params)
    forget()
    in_forks: list[int] = []
    monkeypatch.setattr(
        sharing, "forked", lambda tasks, processes: in_forks.append(processes) or forked(tasks, processes)
    )
    assert workspace.must("predict", "human36m", "algebraic").out == alone.out
    assert held(workspace.folder) == files
    assert set(in_forks) == {2}

    forget()
    left = held(workspace.folder)
    first, answers_of = os.getpid(), predicting.answers_of

    def spoiled(*given: Any, **options: Any) -> Any:
        answers = answers_of(*given, **options)
        if os.getpid() != first:
            os.kill(os.getpid(), signal.SIGKILL)
        return answers

    monkeypatch.setattr(predicting, "answers_of", spoiled)
    done = workspace.run("predict", "human36m", "algebraic")
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert all("left out" in line for line in done.out.splitlines()), "of no file is said that it is there"
    assert done.err.startswith("poseboard: a process that shares the work: ended (-9); run it again")
    assert held(workspace.folder) == left


def test_what_the_first_process_holds_comes_to_all(tmp_path: Path) -> None:
    program = (
        "import os\n"
        "from poseboard.benchmarks.sharing import Sharing\n"
        "sharing = Sharing(1)\n"
        "held = [sharing.of_first(os.environ['RANK'] + word) for word in ('a', 'b')]\n"
        "open(os.environ['RANK'], 'w').write(' '.join(held))\n"
    )
    own = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, *TORCHRUN, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["0a 0b", "0a 0b"]


def works(*chunks: list[str], predict: Any) -> list[Work[int]]:
    return [Work([chunk], lambda mine, _: predict(mine)) for chunk in chunks]


def test_a_failure_in_one_process_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(chunks: Any) -> dict[str, int]:
        raise ValueError("the network is\nodd")

    def gathered(own: Any, parts: list[Any] | None) -> None:
        if parts is not None:
            parts[:] = [own, of_second]

    def draws() -> Iterator[int]:
        return iter([rank, 2])

    def answers(of: int, asked: list[Work[int]]) -> list[dict[str, int]] | None:
        nonlocal rank
        rank = of
        return Sharing(2, joined=True).answers(asked)

    rank = 0
    monkeypatch.setattr(distributed, "gather_object", gathered)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(sharing, "_draws", draws)
    of_second: Any = {1: {"2": 4}}
    good = works(["1"], ["2"], predict=lambda mine: {key: 1 for chunk in mine for key in chunk})
    assert answers(0, good) == [{"1": 1}, {"2": 4}]
    assert answers(1, good) is None
    with pytest.raises(ValueError, match="the network is"):
        answers(0, works(["1"], ["2"], predict=fail))
    with pytest.raises(SystemExit):
        answers(1, works(["1"], ["2"], predict=fail))
    of_second = "the network is odd"
    with pytest.raises(InputError, match="prediction in several processes: the network is odd"):
        answers(0, good)


def test_one_process_or_one_chunk_starts_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(chunks: Any) -> dict[str, int]:
        return {key: 2 * int(key) for chunk in chunks for key in chunk}

    told: list[tuple[int, int]] = []
    several = [Work([["1", "2"], ["3"]], told_of(doubled)), Work([["4"]], told_of(doubled))]
    assert Sharing(1).answers(several, lambda *counts: told.append(counts)) == [{"1": 2, "2": 4, "3": 6}, {"4": 8}]
    assert told == [(3, 4), (4, 4)], "samples of all works"
    assert Sharing(2).answers(works(["1", "2"], predict=doubled)) == [{"1": 2, "2": 4}]
    assert told == [(3, 4), (4, 4)]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Sharing(2).answers(works(["1", "2"], predict=doubled)) is None


def told_of(predict: Any) -> Any:
    """Predicts, and then says that it has."""

    def predicting(chunks: Any, progress: Any) -> dict[str, int]:
        answers: dict[str, int] = predict(chunks)
        progress(len(answers), len(answers))
        return answers

    return predicting


COSTS = st.lists(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), max_size=30)


@given(COSTS, st.floats(0.1, 100))
def test_pieces_are_each_chunk_once_and_of_similar_cost(costs: list[list[float]], most: float) -> None:
    found = pieces(costs, most)
    chunks = sorted((piece.work, chunk) for piece in found for chunk in piece.chunks)
    assert chunks == [(work, chunk) for work, of_work in enumerate(costs) for chunk in range(len(of_work))]
    assert all(piece.chunks == sorted(piece.chunks) for piece in found)
    assert [piece.cost for piece in found] == sorted((piece.cost for piece in found), reverse=True)
    for piece in found:
        own = [costs[piece.work][chunk] for chunk in piece.chunks]
        assert piece.cost == pytest.approx(sum(own))
        assert piece.cost <= 1.000001 * (most + 2 * max(costs[piece.work]))


@given(COSTS)
def test_what_costs_little_is_one_piece(costs: list[list[float]]) -> None:
    found = pieces(costs, most=max((sum(of_work) for of_work in costs), default=1) * 1.000001)
    assert sorted(piece.work for piece in found) == list(range(len(costs)))
