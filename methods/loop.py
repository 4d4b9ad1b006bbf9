"""The training loop of all methods: ``fit`` trains a method's ``Training``.

Batches, augmentation and dropout are pure functions of (seed, step), and the state is written atomically to one file.
A training that is interrupted at any step and resumed therefore ends with bit-equal weights. This holds for one process
and for several (``torchrun``, SLURM or ``processes`` > 1). Lightning Fabric handles devices, processes and gradients.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter
from torch import Tensor
from torch.utils.data import default_collate

from poseboard.datasets.errors import InputError
from poseboard.methods.base import Example, LabelledSamples, Training
from poseboard.methods.checkpoint import read_tensors, write_tensors

if TYPE_CHECKING:
    # `launch` imports it, because the import takes a second and rows without training do not need it.
    from lightning_fabric import Fabric

Progress = Callable[[int, int, dict[str, float]], None]
"""Called after each step with (finished steps, all steps, losses of the step)."""

_log = logging.getLogger(__name__)

CURVE_POINTS = 200
"""Points per training curve; each is the mean over an equal number of steps."""
_FORMAT = 2


@dataclass
class Fit:
    """Result of a training run.

    Args:
        state: name -> tensor of the final weights, on the CPU.
        curve: loss name -> [(step, mean of the loss since the previous point)].
        seconds: wall time of all sessions. A session is one start of the program; a resumed training has several.
        processor_seconds: user and system time of all processes and sessions, including the preparation of batches;
            None on a GPU. This is our measure of cost, because other programs on the machine hardly change it.
        gpu_seconds: wall time × GPUs of all sessions; None on a CPU.
        skipped: number of steps without an update because a gradient was not finite.
    """

    state: dict[str, Tensor]
    curve: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    seconds: float = 0.0
    processor_seconds: float | None = None
    gpu_seconds: float | None = None
    skipped: int = 0


def launch(processes: int, accelerator: str = "auto") -> Fabric:
    """Start a group of ``processes`` CPU processes or GPUs. Under torchrun and SLURM, join the existing group."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    # For a 1x1 convolution channels-last and contiguous strides describe the same memory.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
    # Its default log level reports the number of processes at every start.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    processes, nodes = _launched_processes() or (processes, 1)
    several = processes * nodes > 1
    # One thread per process: on a busy machine two processes of one thread are faster than one of two.
    if several and accelerator == "cpu":
        torch.set_num_threads(1)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Only the first process's batch-norm statistics are saved, so buffers are not broadcast. PyTorch before 2.13 has no
    # other name for this argument.
    warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
    # One process may decode images for longer than the default timeout of half an hour. A process that dies is noticed
    # at once.
    strategy = DDPStrategy(broadcast_buffers=False, timeout=timedelta(days=1)) if several else "auto"
    fabric = Fabric(accelerator=accelerator, devices=processes, num_nodes=nodes, strategy=strategy)
    fabric.launch()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set through a module hook
    return fabric


def _launched_processes() -> tuple[int, int] | None:
    """Number of processes per node and number of nodes; None unless torchrun or srun started this process."""
    from lightning_fabric.plugins.environments import SLURMEnvironment

    if "LOCAL_WORLD_SIZE" in os.environ:
        return _count("LOCAL_WORLD_SIZE"), _count("GROUP_WORLD_SIZE")
    if SLURMEnvironment.detect():
        nodes = _count("SLURM_NNODES")
        return max(_count("SLURM_NTASKS") // nodes, 1), nodes
    return None


def _count(variable: str) -> int:
    """Value of an environment variable of torchrun or SLURM; 1 if the variable is not set."""
    text = os.environ.get(variable, "1")
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise InputError(variable, f"{text[:40]!r} is not a number of processes or nodes", "unset it, or use torchrun")
    return int(text)


def configuration_hash(configuration: dict[str, Any]) -> str:
    """SHA-256 of a training's configuration. Training resumes only from a state with the same hash."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True, default=str).encode()).hexdigest()


def fit(
    fabric: Fabric,
    training: Training,
    samples: LabelledSamples,
    *,
    seed: int,
    state_path: Path,
    configuration: dict[str, Any],
    save_every: int = 200,
    workers: int = 0,
    progress: Progress | None = None,
) -> Fit:
    """Train to the last step, resuming from ``state_path`` if its state has the same configuration.

    Args:
        fabric: result of ``launch``. Every process calls ``fit`` with the same arguments.
        training: training to run. Afterwards its model is unwrapped and has the final weights.
        samples: training data with the inputs that ``training.inputs`` declares.
        seed: source of every random choice, together with the step.
        state_path: file of the resumable state; written every ``save_every`` steps and at the end.
        configuration: all settings that the weights depend on, except seed and number of processes.
        save_every: steps between writes.
        workers: number of threads that prepare the next batch, which includes decoding images; 0: no extra thread.
        progress: called on the first process only.

    Raises:
        InputError: a sample cannot be read, or the saved state does not match the model.
    """
    identity = configuration_hash({**configuration, "seed": seed, "processes": fabric.world_size})
    module, bare_optimizer = training.model, training.optimizer
    done = _State.load(state_path, identity, tell=fabric.is_global_zero)
    if done is not None:
        done.resume(state_path, module, bare_optimizer, training)
    state = done or _State(identity)
    start = state.step
    training.model, training.optimizer = fabric.setup(module, bare_optimizer)
    training.model.train()
    clock = _Clock(fabric, state)
    every = max(1, training.steps // CURVE_POINTS)
    batches = _batches(fabric, training, samples, seed, start, workers)
    for step, batch in zip(range(start, training.steps), batches, strict=False):
        # Dropout depends on (seed, step) only, not on whether the training was resumed.
        torch.manual_seed(_mix(seed, step, fabric.global_rank))
        training.optimizer.zero_grad(set_to_none=True)
        losses = training.loss(batch)
        fabric.backward(losses["total"])
        # Without a `clip_norm` this only computes the norm. Gradients are already averaged over processes, so that all
        # processes have the same norm and decide alike whether to skip the step.
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), getattr(training, "clip_norm", None) or float("inf"))
        if bool(torch.isfinite(norm)):
            training.optimizer.step()
        else:
            state.skipped += 1
        if training.scheduler is not None:
            training.scheduler.step()
        values = {name: float(value.detach()) for name, value in losses.items()}
        state.step = step + 1
        state.pending.append(values)
        if state.step % every == 0 or state.step == training.steps:
            for name in dict.fromkeys(name for entry in state.pending for name in entry):
                logged = [entry[name] for entry in state.pending if name in entry]
                state.curve.setdefault(name, []).append((state.step, sum(logged) / len(logged)))
            state.pending = []
        if state.step % save_every == 0 and state.step < training.steps:
            clock.read_into(state)
            state.save(fabric, state_path, module, bare_optimizer, training)
        if progress is not None and fabric.is_global_zero:
            progress(state.step, training.steps, values)
    if start < training.steps:
        clock.read_into(state)
        state.save(fabric, state_path, module, bare_optimizer, training)
    training.model, training.optimizer = module, bare_optimizer
    module.eval()
    return Fit(
        {name: value.detach().cpu().clone() for name, value in module.state_dict().items()},
        state.curve,
        state.seconds,
        state.processor_seconds if fabric.device.type == "cpu" else None,
        None if fabric.device.type == "cpu" else state.seconds * fabric.world_size,
        state.skipped,
    )


@dataclass
class _State:
    """Resumable state of a training, stored in one file."""

    identity: str
    step: Annotated[int, Field(ge=0, strict=True)] = 0
    model: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    curve: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    pending: list[dict[str, float]] = field(default_factory=list)
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    processor_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    skipped: Annotated[int, Field(ge=0, strict=True)] = 0

    __pydantic_config__ = ConfigDict(extra="forbid")

    @classmethod
    def load(cls, path: Path, identity: str, tell: bool) -> _State | None:
        """Read the state of an earlier session; None if it does not exist, is damaged or has another configuration.

        With ``tell`` a damaged state is logged.
        """
        if not os.path.lexists(path):  # a link to nowhere is damage
            return None
        try:
            values = read_tensors(path)
            if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
                raise TypeError
            state = TypeAdapter(_State).validate_python(values)
        except (InputError, TypeError, ValueError) as error:
            if tell:
                _log.warning("%s: counts as no state, the training starts anew (%s)", path, _problem(error))
            return None
        return state if state.identity == identity else None

    def resume(self, path: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer, training: Training) -> None:
        """Load the state into a training; InputError if its tensors do not match, which only damage can cause."""
        try:
            module.load_state_dict(self.model)
            optimizer.load_state_dict(self.optimizer)
            if training.scheduler is not None:
                training.scheduler.load_state_dict(self.scheduler)
        except Exception as error:  # torch raises many types for values of another form
            first = (str(error).splitlines() or [""])[0][:120]
            raise InputError(
                path, f"state is damaged ({type(error).__name__}: {first})", "delete it to train from the start"
            ) from None

    def save(
        self, fabric: Fabric, path: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer, training: Training
    ) -> None:
        failure: OSError | None = None
        if fabric.is_global_zero:
            self.model, self.optimizer = module.state_dict(), optimizer.state_dict()
            self.scheduler = {} if training.scheduler is None else training.scheduler.state_dict()
            try:
                write_tensors(path, {"format": _FORMAT, **self.__dict__})
            except OSError as error:
                failure = error
        # All processes must know of the failure: otherwise the others would wait for the first one forever.
        failed = fabric.broadcast(failure is not None)
        if failure is not None:
            raise failure
        if failed:
            raise SystemExit(2)


class _Clock:
    """Clock of a training: wall and processor time of this session and of earlier ones, from the state."""

    def __init__(self, fabric: Fabric, state: _State) -> None:
        self.fabric = fabric
        self.wall = time.monotonic() - state.seconds
        self.processor = time.process_time()
        self.before = state.processor_seconds

    def read_into(self, state: _State) -> None:
        """Write the current times to the state. All processes must call it, because their times are summed."""
        mine = torch.tensor(time.process_time() - self.processor, dtype=torch.float64, device=self.fabric.device)
        state.processor_seconds = self.before + float(cast("Tensor", self.fabric.all_reduce(mine, reduce_op="sum")))
        state.seconds = time.monotonic() - self.wall


def _problem(error: Exception) -> str:
    return error.problem if isinstance(error, InputError) else "it holds no state of a training"


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _batches(
    fabric: Fabric, training: Training, samples: LabelledSamples, seed: int, start: int, workers: int
) -> Iterator[dict[str, Tensor]]:
    """Iterate over this process's share of each batch from step ``start`` on; ``workers`` threads prepare the next one.

    Process r of w gets the places r, r + w, … of a batch. Every example has its own random generator, seeded by (seed,
    step, place). It does not depend on the thread or process that prepares it.
    """
    places = range(len(samples))[:: getattr(training, "every", 1)]
    mine = range(fabric.global_rank, training.batch_size, fabric.world_size)

    def example(of_sample: int, step: int, place: int) -> Example:
        return training.example(*samples[of_sample], np.random.default_rng([seed, step, place, 1]))

    def share(step: int) -> list[tuple[int, int, int]]:
        positions = [step * training.batch_size + place for place in mine]
        return [
            (places[_shuffled(seed, position, len(places))], step, place)
            for position, place in zip(positions, mine, strict=True)
        ]

    def stack(examples: Sequence[Example]) -> dict[str, Tensor]:
        return cast("dict[str, Tensor]", fabric.to_device(default_collate(list(examples))))

    if workers == 0:
        for step in range(start, training.steps):
            yield stack([example(*part) for part in share(step)])
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead = [pool.submit(example, *part) for part in share(start)]
        for step in range(start, training.steps):
            current = ahead
            ahead = [pool.submit(example, *part) for part in share(step + 1)] if step + 1 < training.steps else []
            yield stack([future.result() for future in current])


def _shuffled(seed: int, position: int, count: int) -> int:
    """Index of the sample at a position in an infinite sequence of shuffled epochs."""
    epoch, place = divmod(position, count)
    return int(_permutation(seed, epoch, count)[place])


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, 2]).permutation(count)
