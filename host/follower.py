"""The golden model in a process of its own, learning what the chip learns while the chip learns it."""

import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from locallearn.quant.network import GoldenNetwork, quantise_pixels
from locallearn.quant.spec import NetworkSpec

__all__ = ["Follower"]

_golden: GoldenNetwork
_x: NDArray[np.uint8]
_y: NDArray[np.int64]


def _start(spec: NetworkSpec, x: NDArray[np.uint8], y: NDArray[np.int64]) -> None:
    # Ctrl-C reaches all processes of the terminal; the parent ends this one in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    global _golden, _x, _y
    _golden, _x, _y = GoldenNetwork(spec), quantise_pixels(spec, x), y


def _learn(order: NDArray[np.int64], decay: int) -> None:
    _golden.decay = decay
    for index in order:
        _golden.step(_x[index], int(_y[index]))


def _weights() -> list[NDArray[np.int32]]:
    return _golden.weights


class Follower:
    """Repeats training on the golden model. Its worker has the training set from the start."""

    def __init__(self, spec: NetworkSpec, x: NDArray[np.uint8], y: NDArray[np.int64]) -> None:
        # Spawned, not forked: the parent holds sockets and threads by now.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, initializer=_start, initargs=(spec, x, y))
        self._work: list[Future[None]] = []

    def learn(self, order: NDArray[np.int64], decay: int) -> None:
        """Learn from the training samples `order`, in that order, behind all that was asked for before."""
        self._work.append(self._pool.submit(_learn, order, decay))

    def weights(self) -> Sequence[NDArray[np.int32]]:
        """When all of that is learned."""
        for work in self._work:
            work.result()
        return self._pool.submit(_weights).result()

    def __enter__(self) -> "Follower":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
