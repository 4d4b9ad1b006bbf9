"""Prediction by several processes: each predicts every n-th chunk of the samples, and the first gathers the answers.

A method is asked for the same samples together as in one process, so that its answers are the same to the bit. The
processes are those of torchrun or SLURM, else as many as the command names, which are launched when the first
prediction that can be shared needs them. The first process alone reads and writes results and tells its progress.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from poseboard.benchmarks.locks import is_first_process
from poseboard.datasets.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

ChunkT = TypeVar("ChunkT")
AnswerT = TypeVar("AnswerT")
ValueT = TypeVar("ValueT")


class Sharing:
    """The processes of one command.

    Args:
        processes: that are launched, but under torchrun and SLURM, whose processes are used.
        device: torch device that is predicted on, cpu or cuda.
        fabric: the processes of a training, in place of those.

    Example:
        >>> sharing = Sharing(processes=2)
        >>> sharing.answers([["S9/a", "S9/b"]], lambda chunks: {key: 0 for chunk in chunks for key in chunk})
        {'S9/a': 0, 'S9/b': 0}
    """

    def __init__(self, processes: int, device: str = "cpu", fabric: Fabric | None = None) -> None:
        self._processes = processes if fabric is None else fabric.world_size
        self._device, self._launched = device.partition(":")[0], fabric

    @cached_property
    def _fabric(self) -> Fabric:
        if self._launched is not None:
            return self._launched
        import torch

        from poseboard.methods.loop import launch

        fabric = launch(self._processes, self._device)
        torch.use_deterministic_algorithms(False)  # as in one process: it is for trainings
        return fabric

    @property
    def _several(self) -> bool:
        return self._processes > 1 or launched_together()

    def answers(
        self, chunks: Sequence[ChunkT], predict: Callable[[Sequence[ChunkT]], Mapping[str, AnswerT]]
    ) -> dict[str, AnswerT] | None:
        """The answers of all chunks, in the first process; None in the others.

        Args:
            chunks: what is predicted together; a single one is left to the first process.
            predict: the answers of some chunks by key; called once at most.

        Raises:
            InputError: ``predict`` failed in another process, or one of them was killed.
        """
        if not self._several or len(chunks) < 2:
            return dict(predict(chunks)) if is_first_process() else None
        import torch.distributed as dist

        fabric = self._fabric
        if fabric.world_size == 1:
            return dict(predict(chunks))
        failure: Exception | None = None
        own: Mapping[str, AnswerT] | str = {}
        try:
            own = predict(chunks[fabric.global_rank :: fabric.world_size])
        except Exception as error:  # raised again below: the others wait for an answer
            failure, own = error, " ".join(str(error).split())
        parts: list[Mapping[str, AnswerT] | str | None] | None = None
        if fabric.is_global_zero:
            parts = [None] * fabric.world_size
        try:
            dist.gather_object(own, parts)
        except RuntimeError as error:
            if failure is not None:
                raise failure from None
            if not fabric.is_global_zero:
                raise SystemExit(2) from None  # the first process says so, unless it was killed
            raise InputError(
                "prediction in several processes",
                "one of them ended",
                "run it again; files of earlier predictions are as they were",
            ) from error
        if parts is None:
            if failure is not None:
                raise SystemExit(2)  # the first process says why
            return None
        if failure is not None:
            raise failure
        together: dict[str, AnswerT] = {}
        for part in parts:
            if isinstance(part, str):
                raise InputError("prediction in several processes", part, "see the row with one process")
            together |= part or {}
        return together

    def of_first(self, value: ValueT) -> ValueT:
        """What the first process holds, in all of them; for processes of a training."""
        if self._processes == 1:
            return value
        try:
            return self._fabric.broadcast(value)
        except RuntimeError:
            if is_first_process():
                raise
            raise SystemExit(2) from None  # the first process says why it ended


def launched_together() -> bool:
    """Whether torchrun or SLURM launched this process together with others."""
    return any(int(os.environ.get(count, "1") or 1) > 1 for count in ("WORLD_SIZE", "SLURM_NTASKS"))
