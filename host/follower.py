"""The golden model in a process of its own, learning what the chip learns while the chip learns it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from locallearn.host.connect import fastest_model
from locallearn.quant.network import Model, quantise_pixels
from locallearn.quant.spec import NetworkSpec
from locallearn.quant.state import State

__all__ = ["Follower"]

_golden: Model


def _start(spec: NetworkSpec, state: State) -> None:
    # Ctrl-C reaches all processes of a terminal, a service's end all of that; the parent ends this one in order.
    for reason in (signal.SIGINT, signal.SIGTERM):
        signal.signal(reason, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _golden
    _golden = fastest_model()(spec)
    _golden.state = state


def _end_with_parent() -> None:
    """One that was killed ends nothing in order."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _learn(pixels: NDArray[np.uint8], labels: NDArray[np.int64], decay: tuple[float, ...]) -> None:
    _golden.decay = decay
    _golden.run(quantise_pixels(_golden.spec, pixels), labels)


def _weights() -> list[NDArray[np.int32]]:
    return _golden.weights


class Follower:
    """Repeats training on the golden model, from `state` on.

    Samples are kept until they are learned; `wait` now and then bounds how many.
    """

    def __init__(self, spec: NetworkSpec, state: State) -> None:
        # Spawned, not forked: the parent holds sockets and threads by now.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, initializer=_start, initargs=(spec, state))
        self._work: list[Future[None]] = []

    def learn(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], decay: tuple[float, ...]) -> None:
        """Learn from samples (n, inputs) of 8-bit pixels, behind all that was asked for before; returns at once."""
        self._work.append(self._pool.submit(_learn, pixels, labels, decay))

    def wait(self) -> None:
        """Until all of that is learned."""
        for work in self._work:
            work.result()
        self._work.clear()

    def weights(self) -> Sequence[NDArray[np.int32]]:
        """When all of that is learned."""
        self.wait()
        return self._pool.submit(_weights).result()

    def __enter__(self) -> "Follower":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
