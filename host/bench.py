"""Training speed of one network on one data set, side by side: the models, the simulated chip, and PyTorch.

Training speed depends on the data: only inputs that are not zero and samples that are got wrong cost the chip and
its models time. So what is timed is training as it happens, in the second epoch: a model learns from one epoch
(the warm-up), its weights go into every device, and each of them then learns from the beginning of the next one,
from these weights again and again. PyTorch computes everything every time and needs no such state. Nothing is
augmented.

All but the simulator compute in this process, one after the other, each on one thread: that way they take turns
through the rounds, and what else the machine does meets all of them alike. The simulator is a process beside it.
"""

import math
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.connect import connect
from locallearn.host.datasets import Dataset, epoch_order
from locallearn.host.device import Device
from locallearn.host.report import versions
from locallearn.quant import machine
from locallearn.quant.spec import NetworkSpec

__all__ = ["bench"]

_EXTRAS = {"numba": "fast", "torch": "torch"}
"""What some contestants need, and the extra that brings it along."""

_WARM_UP = 20.0
"""Seconds that the warm-up may take: an epoch of the NumPy model can be many minutes."""


@dataclass
class _Contestant:
    """Something that learns.

    learn   from the first n samples of a pass
    device  on which it does, or None: then every sample takes the same time
    begin   brings the device to where a pass begins; not timed
    alone   whether all the work is this process's
    """

    name: str
    learn: Callable[[int], None]
    device: Device | None = None
    begin: Callable[[], None] = lambda: None
    alone: bool = True

    def learned_fraction(self) -> list[float] | None:
        """Of every layer, since `begin`; None where every sample is learned from."""
        if self.device is None:
            return None
        counters = self.device.counters()
        return [round(layer.learned / counters.samples, 4) for layer in counters.layers]


def bench(
    spec: NetworkSpec,
    data: Dataset,
    samples: int | None = None,
    rounds: int = 5,
    sim: bool = True,
    seconds: float = 1.0,
    stage: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure training samples/s.

    samples  of an epoch, chosen at random as `train` does; None takes all
    rounds   in each of which every contestant takes its turn; their median counts
    sim      whether to build and measure the simulated chip
    seconds  of work that a turn has at least: few samples for the slow ones, several passes for the fast ones
    stage    hears what is being done

    Returns the report: a row each for what is there of `model` (compiled), `numpy`, `sim` and the rules of
    `reference`, and under `not_installed` what to install for the others. `model_ratio` is the throughput of `model`
    over the row's. `cpu[cores]` is the processor time a second, where the work is all this process's.
    """
    missing = {name: f"pip install 'locallearn[{extra}]'" for name, extra in _EXTRAS.items() if not find_spec(name)}
    warm_up, measured = (epoch_order(spec.training.seed, epoch, len(data.train_x), samples) for epoch in range(2))
    x, y = data.train_x[measured], data.train_y[measured]
    with ExitStack() as stack:
        names = [*([] if "numba" in missing else ["model"]), "numpy", *(["sim"] if sim else [])]
        devices = {name: stack.enter_context(connect(spec, name, stage)) for name in names}
        fastest = devices[names[0]]
        stage("warming up")
        warmed = _warm_up(fastest, data.train_x[warm_up], data.train_y[warm_up])
        weights = fastest.read_weights()
        contestants = [_on_device(name, device, weights, x, y) for name, device in devices.items()]
        if "torch" not in missing:
            from locallearn.host.bench_torch import torch_learners

            learners = stack.enter_context(torch_learners(spec, x, y))
            contestants += [_Contestant(name, learn) for name, learn in learners.items()]
        rows = _measure(contestants, len(x), rounds, seconds, stage)
    return {
        "spec": spec.name,
        "neurons": [layer.neurons for layer in spec.layers],
        "data": data.name,
        "seed": spec.training.seed,
        "warm_up[samples]": warmed,
        "rounds": rounds,
        "rows": rows,
        "not_installed": missing,
        "versions": versions() | ({} if "torch" in missing else {"torch": metadata.version("torch")}),
        "processor": machine.processor(),
        "cores": machine.cores(),
    }


def _warm_up(device: Device, x: NDArray[np.uint8], y: NDArray[np.int64]) -> int:
    """The first epoch from initial weights, as far as there is time; returns from how many samples it learned."""
    device.stream(x[:1], y[:1])  # compiles
    device.reset()
    device.set_decay(device.spec.decay_at(0))
    end = time.perf_counter() + _WARM_UP
    return len(device.stream(x, y, stop=lambda: time.perf_counter() > end))


def _on_device(
    name: str, device: Device, weights: list[NDArray[np.int32]], x: NDArray[np.uint8], y: NDArray[np.int64]
) -> _Contestant:
    def begin() -> None:
        device.write_weights(weights)
        device.clear_counters()

    def learn(count: int) -> None:
        device.stream(x[:count], y[:count])

    device.reset()  # a chip knows no classifier before
    device.set_decay(device.spec.decay_at(1))
    return _Contestant(name, learn, device, begin, alone=name != "sim")


def _measure(
    contestants: list[_Contestant], most: int, rounds: int, seconds: float, stage: Callable[[str], None]
) -> list[dict[str, Any]]:
    """All rounds; at most `most` samples a pass. Returns the rows of the report."""
    plans = []
    for contestant in contestants:
        stage(f"how fast is {contestant.name}?")
        needed = math.ceil(_speed(contestant, most, seconds / 10) * seconds)
        count = min(most, needed)
        plans.append((contestant, count, math.ceil(needed / count)))
    speeds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    cores: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant, count, passes in plans:
            stage(f"round {number + 1}/{rounds}: {contestant.name}")
            wall, processor = _turn(contestant, count, passes)
            speeds[contestant.name].append(count * passes / wall)
            cores[contestant.name].append(processor / wall)
    median = {name: statistics.median(values) for name, values in speeds.items()}
    return [
        {
            "name": contestant.name,
            "throughput[samples/s]": round(median[contestant.name], 1),
            "min[samples/s]": round(min(speeds[contestant.name]), 1),
            "max[samples/s]": round(max(speeds[contestant.name]), 1),
            "model_ratio": round(median["model"] / median[contestant.name], 4) if "model" in median else None,
            "learned_fraction": contestant.learned_fraction(),
            "cpu[cores]": round(statistics.median(cores[contestant.name]), 3) if contestant.alone else None,
            "samples_per_round": count * passes,
        }
        for contestant, count, passes in plans
    ]


def _speed(contestant: _Contestant, most: int, seconds: float) -> float:
    """Samples/s, roughly: more and more of them until they take `seconds` or there are no more."""
    count = min(most, 32)
    _turn(contestant, count, 1)  # libraries have a first time, too
    while True:
        wall, _ = _turn(contestant, count, 1)
        if wall >= seconds or count == most:
            return count / wall
        count = min(most, 4 * count)


def _turn(contestant: _Contestant, count: int, passes: int) -> tuple[float, float]:
    """Seconds of the clock, and of all threads of this process, for as many passes over `count` samples."""
    wall = processor = 0.0
    for _ in range(passes):
        contestant.begin()
        begun = time.perf_counter(), time.process_time()
        contestant.learn(count)
        wall += time.perf_counter() - begun[0]
        processor += time.process_time() - begun[1]
    return wall, processor
