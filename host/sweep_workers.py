"""The worker processes of one machine, replaced when they die."""

import multiprocessing
import signal
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self

from locallearn.host.sweep_worker import Work, work
from locallearn.quant.errors import RunError

__all__ = ["Workers"]

_PATIENCE = 30
"""Seconds that a worker has to leave its trial and go."""

_DEATHS = 3
"""Workers that may die one after the other without a trial coming to its end."""


class Workers:
    """`count` processes that take trials from the storage; a context manager, which stops them at its end."""

    def __init__(self, job: Work, count: int) -> None:
        self._job = job
        self._count = count
        self._leashes: dict[SpawnProcess, Connection] = {}
        self._deaths = 0

    def tend(self, seconds: float, alive: bool) -> None:
        """Wait, `seconds` at most, for a worker to die, and start those that are missing.

        alive  whether a trial has come to its end since the last call

        Raises RunError where nothing but deaths happens.
        """
        if alive:
            self._deaths = 0
        for process in [process for process in self._leashes if not process.is_alive()]:
            self._leashes.pop(process).close()
            self._deaths += 1
            if self._deaths == _DEATHS:
                raise RunError(
                    f"{_DEATHS} workers died one after the other, the last with exit code {process.exitcode}"
                    + ("; where that is for want of memory, fewer --jobs help" if process.exitcode == -9 else "")
                )
        while len(self._leashes) < self._count:
            self._start()
        wait([process.sentinel for process in self._leashes], seconds)

    def _start(self) -> None:
        # Not forked: a worker inherits none of the parent's threads and locks, nor another worker's leash.
        context = multiprocessing.get_context("spawn")
        theirs, ours = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(self._job, theirs))
        # Ctrl-C reaches every process of the terminal, but is only ours: this one is stopped by its leash.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        theirs.close()
        self._leashes[process] = ours

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for leash in self._leashes.values():
            leash.close()
        for process in self._leashes:
            process.join(_PATIENCE)
            process.kill()
            process.join()
