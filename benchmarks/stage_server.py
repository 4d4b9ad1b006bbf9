"""Stages of a run as forks of one process that has imported the heavy libraries once.

A stage of a small run works for a second or two and imports PyTorch, Lightning, pandas and numba for three to six.
``poseboard repro`` therefore starts a server beside DVC. The ``poseboard`` command that DVC starts for a stage hands
it its arguments, working directory, environment and standard streams over a Unix socket in a private folder; the server
forks a process that runs the stage with them, and the command waits for its exit status. Without the server, in a
checkout or environment other than the server's, where its code has changed since it started, or where it ends before
the stage does, the command runs by itself, as it does under a plain ``dvc repro``.

* A fork has no threads of its parent. The server runs no operation of any library but one that starts none
  (`ready_compiler`), and forks only while it has no threads but those of libraries that expect a fork (`_FORK_SAFE`,
  and OpenBLAS, which ends its own before each).
* Where a stage works in several processes, the others are forks as well. A stage that is stopped in its terminal stops
  its first process; the others wait for that one.
* Signals to the command that a terminal sends reach the stage and what it has started, a process group of its own. The
  command's end, ``kill -9`` included, ends the stage; so does the server's, after which the command runs by itself.
* One fork runs no stage: at a low priority, it compiles what stages will need into numba's cache on disk, where that
  is empty. Without it, stages compile the same themselves. It ends with the server.
* Linux alone: elsewhere libraries of the system do not expect a fork.

The module imports next to nothing, because every command starts with it.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from types import FrameType

ADDRESS = "POSEBOARD_STAGE_SERVER"
"""Environment variable that names the server's socket to the commands of a run."""
_LISTENER = "POSEBOARD_STAGE_LISTENER"
"""Environment variable that makes a command the server: the file descriptor of its listening socket."""
_OWN = {"PATH", "PWD", "OLDPWD", "SHLVL", "_", "DVC_ROOT", "DVC_STAGE", "POSEBOARD_PROFILE"}
"""What a stage's environment may have other than the server's; libraries read the rest when they are imported."""
_SET_BY_STAGES = {
    *("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "CUBLAS_WORKSPACE_CONFIG"),
    *("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY"),
}
"""What a stage sets for its further processes, which they may have besides. Of what the server imports, only Lightning
reads some of it, and again when it starts."""
_FORK_SAFE = {"jemalloc_bg_thd"}
_LONGEST = 1 << 20
_PDEATHSIG = 1
_LOWEST_PRIORITY = 19
_IMPORTED = (
    "poseboard.benchmarks.cli",
    "poseboard.benchmarks.data",
    "poseboard.datasets.synthetic.casting",
    "poseboard.benchmarks.evaluating",
    "poseboard.benchmarks.training",
    "lightning_fabric",
    # What the first optimiser of a process would import.
    "torch._dynamo",
    "poseboard.report.site",
    "poseboard.methods.geometry.compiled_triangulation",
    "poseboard.methods.geometry.consensus",
)


def main() -> None:
    """Entry point of ``poseboard``: run the command in a fork of the server where there is one, else here."""
    # PyTorch then asks Linux for large pages: a large tensor's memory is cleared in 2 MB at a time instead of in 4 kB.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if (descriptor := os.environ.pop(_LISTENER, None)) is not None:
        _Server(socket.socket(fileno=int(descriptor))).run()  # returns in the processes that it forks
    elif (address := os.environ.pop(ADDRESS, None)) is not None:
        try:
            status = _run_at(address)
        except KeyboardInterrupt:
            print("poseboard: interrupted; the same command goes on from here", file=sys.stderr)
            raise SystemExit(130) from None
        if status is not None:
            _end_like(status)
    from poseboard.benchmarks.cli import main as command

    command()


def _end_like(status: int) -> NoReturn:
    """End as the stage has: by an exit code, or by the signal that has ended it (negative)."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    raise SystemExit(status)


def _place() -> list[str]:
    """Whose code a process runs."""
    return [sys.prefix, sys.version, os.path.realpath(__file__)]


def _run_at(address: str) -> int | None:
    """The exit status of this command, run by the server; None where the server did not run it to its end."""
    import select

    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stage, is_due, status = 0, False, b""

    def forward(number: int, _: FrameType | None) -> None:
        nonlocal is_due
        if stage:
            _signal(stage, number)
        elif not is_due and select.select([server], [], [], 1.0)[0]:  # there is an answer: the stage may run already
            is_due = True
        else:
            raise KeyboardInterrupt

    def stop(_: int, frame: FrameType | None) -> None:
        _signal(stage, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        _signal(stage, signal.SIGCONT)

    ends = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    handlers = {**({signal.SIGINT: forward} if ends else {}), signal.SIGTSTP: stop}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        request = {"argv": sys.argv, "cwd": os.getcwd(), "environment": dict(os.environ)}
        server.connect(address)
        socket.send_fds(server, [json.dumps({**request, "place": _place(), "interrupted": ends}).encode()], [0, 1, 2])
        # Read only once `stage` says who it is: whoever is interrupted in between finds the answer still there.
        stage = int(server.recv(64, socket.MSG_PEEK) or 0)
        server.recv(64)
        if is_due and not stage:
            raise KeyboardInterrupt
        if is_due:
            _signal(stage, signal.SIGINT)
        # A signal that comes just before a call that waits is heard after it: so none waits long.
        while stage and not select.select([server], [], [], 0.5)[0]:
            pass
        status = server.recv(64) if stage else b""
    except OSError:
        status = b""
    finally:
        server.close()
        for number, earlier in before.items():
            signal.signal(number, earlier)
    if stage and not status:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            raise SystemExit(1)  # a further process, whose first one has ended with the server as well
        print("poseboard: the process that ran this has ended; running it again by itself", file=sys.stderr)
    return int(status) if status else None


def _signal(stage: int, number: int) -> None:
    """To a stage and all that it has started; 0: there is none yet."""
    if stage:
        with suppress(ProcessLookupError):
            os.killpg(stage, number)


@contextmanager
def serving(environment: Mapping[str, str], program: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
    """Start a server; the environment with which its commands are to be started, unchanged where there is no server.

    Args:
        environment: of the server and of the commands.
        program: that calls `main`; left out: this interpreter's ``poseboard``.

    Example:
        >>> with serving(os.environ) as environment:  # doctest: +SKIP
        ...     subprocess.run(["poseboard", "train", "dlt"], env=environment)
    """
    import subprocess
    import tempfile

    script = os.path.join(os.path.dirname(sys.executable), "poseboard")
    if sys.platform != "linux" or not (program or os.path.isfile(script)):
        yield dict(environment)
        return
    with tempfile.TemporaryDirectory(prefix="poseboard-", ignore_cleanup_errors=True) as folder:
        address = os.path.join(folder, "stages")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            try:
                listener.bind(address)
            except OSError:  # the path is too long for a socket
                yield dict(environment)
                return
            listener.listen()
            descriptor = listener.fileno()
            server = subprocess.Popen(
                program or [sys.executable, script],
                env={**environment, _LISTENER: str(descriptor)},
                pass_fds=[descriptor],
                stdin=subprocess.PIPE,  # its end tells the server that the run has ended
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        with server:
            try:
                yield {**environment, ADDRESS: address}
            finally:
                server.kill()


def _rooms() -> dict[str, tuple[int, int]]:
    """Time of change and size of every file of ours that code is read from, or that it reads."""
    import poseboard

    files = [
        os.path.join(folder, name)
        for path in poseboard.__path__
        for room in os.listdir(path)
        for folder, _, names in os.walk(os.path.join(path, room))
        if not folder.endswith("__pycache__")
        for name in names
    ]
    return {file: (stat.st_mtime_ns, stat.st_size) for file in files for stat in [os.stat(file)]}


def _has_strange_threads() -> bool:
    """Whether a fork would miss threads of this process; OpenBLAS has ended its own once there was a fork."""
    for attempt in range(2):
        tasks = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
        names = set()
        for task in tasks:
            with suppress(FileNotFoundError), open(f"/proc/self/task/{task}/comm", encoding="utf-8") as comm:
                names.add(comm.read().strip())
        if names <= _FORK_SAFE:
            return False
        if attempt == 0:
            if (child := os.fork()) == 0:
                os._exit(0)
            os.waitpid(child, 0)
    return True


class _Stage(NamedTuple):
    """A process that runs a stage, and the connection to the command that waits for it."""

    process: int
    ended: int
    """File descriptor that can be read from once the process has ended."""
    command: socket.socket


class _Server:
    """Forks a process per request, between the modules that it imports and after them.

    Args:
        listener: the socket; commands can connect before they are served.
    """

    def __init__(self, listener: socket.socket) -> None:
        import ctypes

        self._listener, self._libc = listener, ctypes.CDLL(None)
        self._environment, self._files = dict(os.environ), _rooms()
        self._stages: list[_Stage] = []
        self._open = True

    def run(self) -> None:
        """Serve until the run has ended; returns in each process that is forked, which then is the command."""
        import gc
        import importlib

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for name in _modules():
            importlib.import_module(name)
            if self._serve(wait=False):
                return
        if "numba" in sys.modules:
            ready_compiler()
        gc.collect()
        gc.freeze()  # a stage neither looks through these objects nor copies their pages
        if not _has_strange_threads():
            self._compile_ahead()
        while self._open or self._stages:
            if self._serve(wait=True):
                return
        raise SystemExit

    def _compile_ahead(self) -> None:
        """Start the process that fills numba's cache; nobody waits for it, and the server's end ends it."""
        server = os.getpid()
        if os.fork() == 0:
            try:
                self._part(server)
                nowhere = os.open(os.devnull, os.O_RDWR)
                for stream in range(3):
                    os.dup2(nowhere, stream)
                os.nice(_LOWEST_PRIORITY)
                compile_ahead()
            finally:
                os._exit(0)

    def _serve(self, wait: bool) -> bool:
        """Do what there is to do; True in a process that was forked to run a stage."""
        import select

        poll = select.poll()
        for descriptor in (0, self._listener.fileno()) if self._open else ():
            poll.register(descriptor, select.POLLIN)
        for stage in self._stages:
            poll.register(stage.ended, select.POLLIN)
            poll.register(stage.command, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(None if wait else 0)}
        for stage in list(self._stages):
            if stage.ended in ready:
                _, status = os.waitpid(stage.process, 0)
                with suppress(OSError):  # the command has ended
                    stage.command.send(str(os.waitstatus_to_exitcode(status)).encode())
                self._stages.remove(stage)
                stage.command.close()
                os.close(stage.ended)
            elif stage.command.fileno() in ready:  # a command says no more: it has ended
                os.killpg(stage.process, signal.SIGKILL)
        if 0 in ready:  # the run has ended
            self._open = False
            address = self._listener.getsockname()
            self._listener.close()
            with suppress(OSError):  # a run that was killed has left them
                os.unlink(address)
                os.rmdir(os.path.dirname(address))
        elif self._open and self._listener.fileno() in ready:
            return self._accept()
        return False

    def _accept(self) -> bool:
        command, _ = self._listener.accept()
        message, descriptors, _, _ = socket.recv_fds(command, _LONGEST, 3)
        request = json.loads(message) if message else None
        is_forked = False
        if request is not None and len(descriptors) == 3 and self._can_run(request):
            server = os.getpid()
            process = os.fork()
            if process == 0:
                self._become(request, descriptors, command, server)
                is_forked = True
            else:
                os.setpgid(process, process)
                self._stages.append(_Stage(process, os.pidfd_open(process), command))
        else:
            command.close()
        if not is_forked:
            for descriptor in descriptors:
                os.close(descriptor)
        return is_forked

    def _can_run(self, request: Mapping[str, Any]) -> bool:
        """Whether a fork would do as the command itself."""
        theirs = request["environment"]
        other = {name for name in theirs.keys() | self._environment if theirs.get(name) != self._environment.get(name)}
        is_same = other <= _OWN | _SET_BY_STAGES
        return is_same and request["place"] == _place() and _rooms() == self._files and not _has_strange_threads()

    def _part(self, server: int) -> None:
        """End with the server, of which this process was forked, and hold nothing of it."""
        self._libc.prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)
        self._listener.close()
        for stage in self._stages:
            stage.command.close()
            os.close(stage.ended)

    def _become(
        self, request: Mapping[str, Any], descriptors: Sequence[int], command: socket.socket, server: int
    ) -> None:
        """Make this process, which has just been forked, the one that was asked for."""
        import importlib

        address = self._listener.getsockname()
        os.setpgid(0, 0)
        self._part(server)
        with suppress(OSError):  # the command has ended, and this process will
            command.send(str(os.getpid()).encode())
        command.detach()  # it stays open until this process ends: the command then sees that nobody is left
        for stream, descriptor in enumerate(descriptors):
            os.dup2(descriptor, stream)
            os.close(descriptor)
        for output in (sys.stdout, sys.stderr):
            assert isinstance(output, io.TextIOWrapper)
            output.reconfigure(line_buffering=output is sys.stderr or output.isatty())
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.environ[ADDRESS] = address  # the further processes of the stage are commands, too
        sys.argv[:] = request["argv"]
        importlib.invalidate_caches()
        if request["interrupted"]:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def ready_compiler() -> None:
    """Have numba read the tables that it reads before it runs its first loop: half a second in every process.

    Example:
        >>> ready_compiler()
    """
    import numba

    numba.njit("int64(int64)")(lambda value: value)


def compile_ahead() -> None:
    """Fill numba's cache with the loops of the imported modules of ours, of which each says how to compile its own.

    Example:
        >>> import poseboard.methods.geometry.consensus
        >>> compile_ahead()  # of this module alone; what is in the cache already is loaded from there
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("poseboard.") and name != __name__ and hasattr(module, "compile_ahead"):
            with suppress(Exception):  # a stage compiles by itself, and says what is wrong
                module.compile_ahead()


def _modules() -> Iterator[str]:
    """What stages import, lightest first, so that the first stages need not wait for all of it."""
    import importlib
    import pkgutil

    yield from _IMPORTED
    methods = importlib.import_module("poseboard.methods")
    for package in pkgutil.iter_modules(methods.__path__, "poseboard.methods."):
        if package.ispkg and importlib.util.find_spec(f"{package.name}.method"):
            yield f"{package.name}.method"
