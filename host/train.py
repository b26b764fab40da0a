"""Training on a device: epochs, held-out accuracy, and the comparison with the golden model."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.compare import first_difference
from locallearn.host.datasets import Dataset
from locallearn.host.device import Device
from locallearn.host.follower import Follower
from locallearn.host.report import counter_figures, speed_figures, versions
from locallearn.host.run import Run

__all__ = ["Display", "train"]


class Display:
    """What a training run shows while it goes on; this one shows nothing."""

    def task(self, text: str, total: int) -> Callable[[int], None]:
        """A piece of work of `total` steps begins; call the result with how many are done."""
        return lambda done: None

    def epoch(self, metrics: dict[str, Any]) -> None:
        """An epoch is over."""


@dataclass
class _Stop:
    """Set by Ctrl-C or SIGTERM while `listening`; a second signal interrupts at once."""

    asked: bool = field(default=False)

    def __call__(self) -> bool:
        return self.asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked = True
            for each, handler in before.items():
                signal.signal(each, handler)

        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def train(
    device: Device,
    data: Dataset,
    run: Run,
    epochs: int,
    limit: int | None,
    display: Display,
    origin: Mapping[str, str | None],
) -> dict[str, Any]:
    """Train from the spec's initial weights; every epoch's order and decay come from the spec alone.

    epochs  passes over the training set
    limit   samples an epoch, chosen anew each time; None takes all
    origin  where `data` was loaded from: data_source and data_dir, for the report

    Returns the report, which is also in `run` together with metrics and weights. Its speeds and counters are those
    of the last epoch's training. Ctrl-C or SIGTERM end the run after the samples under way: the report then says
    `interrupted`, and everything learned is saved.
    """
    spec = device.spec
    report: dict[str, Any] = {
        "spec": spec.name,
        "device": device.name,
        "data": data.name,
        "held_out": data.held_out,
        "seed": spec.training.seed,
        "interrupted": False,
        "epochs": 0,
        "test_accuracy[%]": None,
        "weights_equal_golden": None,
    }
    stop = _Stop()
    run.save_spec(spec)
    device.reset()
    with ExitStack() as stack:
        stack.enter_context(stop.listening())
        follower = None
        if device.name != "model":
            follower = stack.enter_context(Follower(spec, data.train_x, data.train_y))
        for epoch in range(epochs):
            name = f"epoch {epoch + 1}/{epochs}"
            order = np.random.default_rng([spec.training.seed, epoch]).permutation(len(data.train_x))[:limit]
            decay = spec.training.decay_at(epoch)
            device.set_decay(decay)
            metrics: dict[str, Any] = {"epoch": epoch + 1, "decay": decay, "test_accuracy[%]": None}
            metrics |= _learn(device, data, order, decay, follower, display.task(f"{name} train", len(order)), stop)
            if not stop():
                report["epochs"] = epoch + 1
                tested = device.stream(data.test_x, None, display.task(f"{name} test", len(data.test_x)), stop)
                if not stop():
                    metrics["test_accuracy[%]"] = tested.accuracy(data.test_y)
            weights = device.read_weights()
            run.save_weights(weights)
            run.add_metrics(metrics)
            display.epoch(metrics)
            report |= {key: value for key, value in metrics.items() if key not in ("epoch", "decay")}
            if stop():
                report["interrupted"] = True
                break
        if follower is not None:
            report["first_difference"] = _first_difference(follower.weights(), weights)
            report["weights_equal_golden"] = report["first_difference"] is None
    report |= {"versions": versions(), "out": str(run.path), **origin}
    run.save_report(report)
    return report


def _learn(
    device: Device,
    data: Dataset,
    order: NDArray[np.int64],
    decay: int,
    follower: Follower | None,
    progress: Callable[[int], None],
    stop: _Stop,
) -> dict[str, Any]:
    """One pass over the samples `order`, with the follower close behind. Returns its figures."""
    followed = 0

    def follow(done: int) -> None:
        nonlocal followed
        progress(done)
        if follower is not None:
            follower.learn(order[followed:done], decay)
            followed = done

    device.clear_counters()
    labels = data.train_y[order]
    start = time.perf_counter()
    results = device.stream(data.train_x[order], labels, follow, stop)
    seconds = time.perf_counter() - start
    counters = device.counters()
    if not len(results):
        return {"samples": 0}
    figures = {"train_accuracy[%]": results.accuracy(labels)} | speed_figures(device.plan, counters, seconds)
    return figures | {"counters": counter_figures(counters)}


def _first_difference(
    expected: Sequence[NDArray[np.int32]], actual: Sequence[NDArray[np.int32]]
) -> dict[str, Any] | None:
    """The first weight that differs, by layer and index (neuron, input), or None."""
    for layer, (golden, chip) in enumerate(zip(expected, actual, strict=True)):
        place = first_difference(golden, chip)
        if place is not None:
            return {"layer": layer} | place
    return None
