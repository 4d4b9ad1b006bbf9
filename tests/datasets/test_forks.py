"""Tasks in forks: the same answers in the same order, and no process that outlives what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poseboard.datasets.errors import InputError
from poseboard.datasets.forks import can_fork, forked

HEARS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""What is started in the background of a shell ignores Ctrl-C otherwise."""
needs_forks = pytest.mark.skipif(not can_fork(), reason="tasks run in this process here")


@settings(max_examples=10)
@given(st.lists(st.integers(), max_size=7), st.integers(1, 3))
def test_answers_are_in_order(values: list[int], processes: int) -> None:
    tasks = [partial(lambda value: -value, value) for value in values]
    assert list(forked(tasks, processes)) == [-value for value in values]


@needs_forks
def test_each_works_for_itself_in_one_thread() -> None:
    held = [0]

    def count(_: int) -> tuple[int, int]:
        held[0] += 1
        time.sleep(0.02)
        return os.getpid(), torch.get_num_threads()

    answers = list(forked([partial(count, place) for place in range(8)], 2))
    processes = {process for process, _ in answers}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert {threads for _, threads in answers} == {1}
    assert held == [0]
    assert {os.getpid()} == {process for process, _ in forked([partial(count, 0)] * 2, 1)}


class OddError(Exception):
    """Can be written, not read."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} is odd")


def fails(error: Exception) -> int:
    raise error


@needs_forks
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("methods.mine", "cannot", "do otherwise"), InputError),
        (KeyError("hip"), KeyError),
        (OddError(1, 2), RuntimeError),
    ],
)
def test_an_error_is_raised_with_where_it_was(error: Exception, kind: type[Exception]) -> None:
    begun = time.monotonic()
    with pytest.raises(kind) as raised:
        list(forked([partial(fails, error), partial(time.sleep, 60), partial(time.sleep, 60)], 2))
    assert time.monotonic() - begun < 30, "the others are not waited for"
    assert "in fails" in "".join(raised.value.__notes__)
    assert str(error) in str(raised.value)
    assert not psutil.Process().children()


@needs_forks
def test_an_answer_that_cannot_be_handed_over_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="pickle"):
        list(forked([lambda: lambda: 0] * 2, 2))


@needs_forks
@pytest.mark.parametrize("end", [partial(os.kill, 0, 0), partial(os._exit, 0)], ids=["killed", "ended"])
def test_a_fork_that_ends_is_an_error(end: Any) -> None:
    def task() -> None:
        os.kill(os.getpid(), signal.SIGKILL) if end.func is os.kill else end()

    with pytest.raises(InputError, match="shares the work: ended"):
        list(forked([task, partial(time.sleep, 60)], 2))
    assert not psutil.Process().children()


@needs_forks
def test_who_stops_asking_leaves_nobody() -> None:
    answers = forked([partial(int, 1), partial(time.sleep, 60), partial(time.sleep, 60)], 3)
    assert next(answers) == 1
    assert len(psutil.Process().children()) == 3
    answers.close()
    assert not psutil.Process().children()


@needs_forks
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_forks_end_with_their_parent(number: int) -> None:
    program = (
        HEARS
        + "import time; from poseboard.datasets.forks import forked; list(forked([lambda: time.sleep(60)] * 2, 2))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as process:
        parent = psutil.Process(process.pid)
        deadline = time.monotonic() + 60
        while len(forks := parent.children()) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(forks) == 2
        for one in [*forks, parent] if number == signal.SIGINT else [parent]:
            one.send_signal(number)
        assert process.wait(60) != 0
    gone, alive = psutil.wait_procs(forks, timeout=60)
    assert (len(gone), alive) == (2, [])


@needs_forks
def test_who_is_interrupted_in_the_middle_of_a_fork_ends() -> None:
    """Python swallows an interrupt there; who pressed Ctrl-C waited for the tasks to end."""
    program = f"""{HEARS}
import os, time
from poseboard.datasets.forks import forked
interrupt = lambda: os.kill(os.getpid(), signal.SIGINT)
os.register_at_fork(after_in_parent=interrupt, after_in_child=interrupt)
list(forked([lambda: time.sleep(60)] * 2, 2))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=50, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


@needs_forks
def test_who_fails_between_two_answers_is_not_kept_from_ending() -> None:
    program = """
import time
from poseboard.datasets.forks import forked
kept = []
try:
    for answer in forked([lambda: 1, lambda: time.sleep(60), lambda: time.sleep(60)], 2):
        raise KeyError("odd")
except KeyError as error:
    kept.append(error)  # and with it the generator
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)


@needs_forks
def test_threads_of_this_process_are_not_waited_for() -> None:
    torch.set_num_threads(2)
    try:
        torch.ones(300, 300) @ torch.ones(300, 300)  # a pool of threads, which no fork has
        tasks = [lambda: float((torch.ones(300, 300) @ torch.ones(300, 300)).sum())] * 2
        assert list(forked(tasks, 2)) == [300.0**3] * 2
    finally:
        torch.set_num_threads(1)
