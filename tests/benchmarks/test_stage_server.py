"""A command that a server runs behaves as one that runs by itself, and does run by itself where the server cannot."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poseboard.benchmarks.stage_server import ADDRESS, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages are forked on Linux alone")

COMMAND = """
import os, signal, subprocess, sys, threading, time, types
import poseboard
from poseboard.benchmarks import stage_server
poseboard.__path__.append(os.environ["ROOMS"])
def modules():
    if os.environ.get("THREADS"):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    yield from ()
stage_server._modules = modules
if ahead := os.environ.get("AHEAD"):
    broken, sound = types.ModuleType("broken"), types.ModuleType("sound")
    sys.modules.update({"poseboard.broken": broken, "poseboard.sound": sound})
    broken.compile_ahead, sound.compile_ahead = lambda: [][0], lambda: exec(ahead, globals())
cli = sys.modules["poseboard.benchmarks.cli"] = types.ModuleType("cli")
cli.main = lambda: exec(sys.argv[1], globals())
stage_server.main()
"""
"""``poseboard`` with a command line that executes its first argument, and nothing to import in advance."""
WHO = "print(os.getppid())"


class Commands:
    """Starts commands of a run with a server."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self.folder = environment, folder

    def start(self, program: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, program, *arguments], env={**self.environment, **environment},
            cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, program: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Exit status, and what it says on standard output and standard error."""
        process = self.start(program, *arguments, **environment)
        out, err = process.communicate("words\n", timeout=30)
        return process.returncode, out, err

    def is_forked(self, **environment: str) -> bool:
        status, out, err = self.run(WHO, **environment)
        assert (status, err) == (0, "")
        return int(out) != os.getpid()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Commands]]:
    (tmp_path / "rooms" / "room").mkdir(parents=True)
    (tmp_path / "rooms" / "room" / "code.py").write_text("a = 1\n")
    folder = tmp_path / "work"
    folder.mkdir()
    opened = []

    def start(**environment: str) -> Commands:
        own = {**os.environ, "ROOMS": str(tmp_path / "rooms"), **environment}
        opened.append(serving(own, [sys.executable, "-c", COMMAND]))
        return Commands(opened[-1].__enter__(), folder)

    yield start
    for server in opened:
        server.__exit__(None, None, None)


@pytest.fixture
def commands(start_server: Callable[..., Commands]) -> Commands:
    return start_server()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_forked_command_has_what_it_was_started_with(commands: Commands) -> None:
    program = (
        "print(sys.argv[2:], os.getcwd(), os.environ['POSEBOARD_PROFILE'], sys.stdin.readline(), "
        "sys.stdout.line_buffering); print('wrong', file=sys.stderr); sys.exit(3)"
    )
    for environment in (commands.environment, {**commands.environment, ADDRESS: ""}):
        here = Commands(environment, commands.folder)
        said = f"['a', 'é \\udce9'] {commands.folder} smoke words\n False\n"
        own = here.run(program, "a", "é \udce9", POSEBOARD_PROFILE="smoke")
        assert own == (3, said, "wrong\n") or own[1].encode(errors="surrogateescape") == said.encode(errors="replace")
    assert commands.is_forked()
    assert commands.is_forked(PATH="/nowhere", DVC_STAGE="train@dlt")


def test_the_further_processes_of_a_stage_are_forks_and_end_with_it(commands: Commands) -> None:
    further = "print(os.getppid(), os.getpid(), os.environ['LOCAL_RANK'], flush=True); time.sleep(60)"
    program = (
        "os.environ.update(LOCAL_RANK='0', WORLD_SIZE='2', MASTER_PORT='1', DO_NOT_TRACK='true'); print(os.getppid()); "
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[3]], "
        "env={**os.environ, 'LOCAL_RANK': '1'}); print(os.getpid(), flush=True); child.wait()"
    )
    process = commands.start(program, COMMAND, further)
    assert process.stdout is not None
    server, first = int(process.stdout.readline()), int(process.stdout.readline())
    parent, second, rank = map(int, process.stdout.readline().split())
    assert (parent, rank) == (server, 1)
    process.kill()
    wait_for(lambda: not is_alive(first) and not is_alive(second))


def test_a_further_process_does_not_outlive_the_server(commands: Commands) -> None:
    program = "print(os.getppid(), flush=True); time.sleep(60)"
    process = commands.start(program, LOCAL_RANK="1")
    assert process.stdout is not None
    os.kill(int(process.stdout.readline()), signal.SIGKILL)
    assert process.wait(20) == 1
    assert process.stdout.read() == ""


def test_an_error_and_a_signal_end_a_forked_command_as_they_would_end_any(commands: Commands) -> None:
    status, _, err = commands.run("raise ValueError('no such thing')")
    assert status == 1
    assert err.endswith("ValueError: no such thing\n")
    assert commands.run("os.kill(os.getpid(), signal.SIGTERM)")[0] == -signal.SIGTERM
    assert commands.run("os.kill(os.getpid(), signal.SIGKILL)")[0] == -signal.SIGKILL


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Programs that are started do not ignore Ctrl-C, as those do that a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_reaches_the_forked_command(commands: Commands) -> None:
    program = (
        "try:\n print('ready', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n print('gone'); sys.exit(130)"
    )
    process = commands.start(program)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "gone\n", "")


def test_the_end_of_a_command_ends_its_fork_and_what_that_has_started(commands: Commands) -> None:
    program = "child = subprocess.Popen(['sleep', '60']); print(os.getpid(), child.pid, flush=True); time.sleep(60)"
    process = commands.start(program)
    assert process.stdout is not None
    started = [int(word) for word in process.stdout.readline().split()]
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_alive, started)))
    assert commands.is_forked()


def test_a_command_runs_by_itself_where_the_server_is_killed(commands: Commands) -> None:
    program = (
        "with open('who', 'a') as file: print(os.getppid(), file=file)\n"
        f"if os.getppid() != {os.getpid()}: os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)\n"
        "print('done')"
    )
    status, out, err = commands.run(program)
    assert (status, out) == (0, "done\n")
    assert err == "poseboard: the process that ran this has ended; running it again by itself\n"
    assert (commands.folder / "who").read_text().split()[1] == str(os.getpid())
    assert not commands.is_forked()  # nobody listens any more


def test_a_command_of_another_environment_runs_by_itself(commands: Commands) -> None:
    assert not commands.is_forked(OMP_NUM_THREADS="7")
    assert commands.is_forked()


def test_changed_code_runs_by_itself(commands: Commands) -> None:
    assert commands.is_forked()
    code = Path(commands.environment["ROOMS"]) / "room" / "code.py"
    before = code.stat()
    code.write_text("a = 22\n")
    assert not commands.is_forked()
    code.write_text("a = 1\n")
    os.utime(code, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert commands.is_forked()
    code.unlink()
    assert not commands.is_forked()


def test_a_server_with_threads_forks_nothing(start_server: Callable[..., Commands]) -> None:
    assert not start_server(THREADS="1").is_forked()


def test_a_forked_command_may_start_processes(commands: Commands) -> None:
    program = (
        "import multiprocessing, concurrent.futures as futures\n"
        "for how in ('spawn', 'fork'):\n"
        " with futures.ProcessPoolExecutor(2, multiprocessing.get_context(how)) as pool:\n"
        "  print(sum(pool.map(abs, [-1, 2])))"
    )
    assert commands.run(program) == (0, "3\n3\n", "")


def test_the_server_ends_with_the_run(start_server: Callable[..., Commands]) -> None:
    environment = {**os.environ, "ROOMS": str(start_server().environment["ROOMS"])}
    with serving(environment, [sys.executable, "-c", COMMAND]) as served:
        server = int(Commands(served, Path.cwd()).run(WHO)[1])
        folder = Path(served[ADDRESS]).parent
        assert folder.stat().st_mode & 0o077 == 0
    assert not is_alive(server)
    assert not folder.exists()


def test_nothing_is_left_where_a_run_is_killed(tmp_path: Path) -> None:
    (tmp_path / "rooms").mkdir()
    program = (
        "import os, subprocess, sys, time\nfrom poseboard.benchmarks import stage_server\n"
        "with stage_server.serving(os.environ, [sys.executable, '-c', sys.argv[1]]) as served:\n"
        " subprocess.run([sys.executable, '-c', sys.argv[1], 'print(os.getppid(), flush=True)'], env=served)\n"
        " time.sleep(60)"
    )
    environment = {**os.environ, "ROOMS": str(tmp_path / "rooms"), "TMPDIR": str(tmp_path)}
    call = [sys.executable, "-c", program, COMMAND]
    with subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        server = int(run.stdout.readline())
        assert server != run.pid
        run.kill()
    wait_for(lambda: not is_alive(server))
    assert [path.name for path in tmp_path.iterdir()] == ["rooms"]


def test_loops_are_compiled_ahead_in_silence_until_the_server_ends(
    start_server: Callable[..., Commands], tmp_path: Path
) -> None:
    note = tmp_path / "note"
    ahead = (
        "print('words'); print('words', file=sys.stderr); written = open('note.part', 'w')\n"
        "written.write(f'{os.getpid()} {os.getppid()} {os.nice(0)}'); written.close(); os.rename('note.part', 'note')\n"
        "time.sleep(60)"
    )
    rooms = start_server().environment["ROOMS"]
    program = (
        "import os, sys\nfrom poseboard.benchmarks import stage_server\n"
        "with stage_server.serving(os.environ, [sys.executable, '-c', sys.argv[1]]): sys.stdin.readline()"
    )
    environment = {**os.environ, "ROOMS": rooms, "AHEAD": ahead}
    call = [sys.executable, "-c", program, COMMAND]
    with subprocess.Popen(
        call, env=environment, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as run:
        wait_for(note.exists)
        compiler, server, priority = map(int, note.read_text().split())
        assert priority == 19
        assert is_alive(compiler)
        said, _ = run.communicate(b"end\n", timeout=20)
    assert (run.returncode, said) == (0, b"")
    wait_for(lambda: not is_alive(compiler) and not is_alive(server))


def test_stages_run_while_and_after_loops_are_compiled_ahead(start_server: Callable[..., Commands]) -> None:
    for ahead in ("time.sleep(60)", "os.abort()"):
        commands = start_server(AHEAD=ahead)
        assert commands.is_forked(AHEAD=ahead)
        assert commands.is_forked(AHEAD=ahead)
