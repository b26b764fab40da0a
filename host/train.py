"""Training on a device: epochs, held-out accuracy, and the comparison with the golden model."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.augment import augment
from locallearn.host.compare import first_difference
from locallearn.host.confusion import confusion
from locallearn.host.datasets import Dataset, epoch_order
from locallearn.host.device import ChipDevice, Device
from locallearn.host.follower import Follower
from locallearn.host.report import counter_figures, speed_figures, versions
from locallearn.host.run import Run
from locallearn.host.stop import Stop
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import NetworkSpec

__all__ = ["Display", "train"]


class Display:
    """What a training run shows while it goes on; this one shows nothing."""

    def task(self, text: str, total: int) -> Callable[[int], None]:
        """A piece of work of `total` steps begins; call the result with how many are done."""
        return lambda done: None

    def initial(self, accuracy: list[float]) -> None:
        """What every layer gets right, in per cent, before anything is learned."""

    def epoch(self, metrics: dict[str, Any]) -> None:
        """An epoch is over."""


def train(
    device: Device,
    data: Dataset,
    run: Run,
    epochs: int,
    limit: int | None,
    display: Display,
    origin: Mapping[str, Any],
    initial: Sequence[NDArray[np.int32]] | None = None,
) -> dict[str, Any]:
    """Train from the spec's initial weights; every epoch's order and decay come from the spec alone.

    epochs   passes over the training set
    limit    samples an epoch, chosen anew each time; None takes all
    origin   where `data` comes from, and `initial`, for the report: data_source, data_dir, validation, init
    initial  weights to begin with in their place, which are measured first

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
    stop = Stop()
    run.save_spec(spec)
    device.reset()
    if initial is not None:
        device.write_weights(initial)
    with ExitStack() as stack:
        stack.enter_context(stop.listening())
        follower = None
        if isinstance(device, ChipDevice):
            follower = stack.enter_context(Follower(spec, initial))
        if initial is not None:
            tested = device.stream(data.test_x, None, display.task("initial test", len(data.test_x)), stop)
            accuracy = report["initial_test_accuracy[%]"] = None if stop() else tested.accuracy(data.test_y)
            if accuracy is not None:
                display.initial(accuracy)
        for epoch in range(epochs):
            name = f"epoch {epoch + 1}/{epochs}"
            pixels, labels = _samples(data, spec, epoch, limit)
            decay = spec.decay_at(epoch)
            device.set_decay(decay)
            metrics: dict[str, Any] = {"epoch": epoch + 1, "decay": list(decay), "test_accuracy[%]": None}
            progress = display.task(f"{name} train", len(pixels))
            metrics |= _learn(device, pixels, labels, decay, follower, progress, stop)
            if not stop():
                report["epochs"] = epoch + 1
                tested = device.stream(data.test_x, None, display.task(f"{name} test", len(data.test_x)), stop)
                if not stop():
                    metrics["test_accuracy[%]"] = tested.accuracy(data.test_y)
                    run.save_confusion(confusion(tested.predicted, data.test_y, spec.classes))
            weights = device.read_weights()
            run.save_weights(weights)
            run.add_metrics(metrics)
            display.epoch(metrics)
            report |= {key: value for key, value in metrics.items() if key not in ("epoch", "decay")}
            if stop():
                report["interrupted"] = True
                break
        if follower is not None:
            report["first_difference"] = _first_difference(device.plan, follower.weights(), weights)
            report["weights_equal_golden"] = report["first_difference"] is None
    report |= {"versions": versions(), "out": str(run.path), **origin}
    run.save_report(report)
    return report


def _samples(
    data: Dataset, spec: NetworkSpec, epoch: int, limit: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The pixels (n, size) and labels (n,) of an epoch, in their order."""
    training = spec.training
    order = epoch_order(training.seed, epoch, len(data.train_x), limit)
    chance = np.random.default_rng([training.seed, epoch, 1])
    pixels = augment(data.train_x[order], data.shape, training.augment, chance, spec.input.zero)
    return pixels, data.train_y[order]


def _learn(
    device: Device,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    decay: tuple[float, ...],
    follower: Follower | None,
    progress: Callable[[int], None],
    stop: Stop,
) -> dict[str, Any]:
    """One pass over the samples, with the follower close behind. Returns its figures."""
    followed = 0

    def follow(done: int) -> None:
        nonlocal followed
        progress(done)
        if follower is not None:
            follower.learn(pixels[followed:done], labels[followed:done], decay)
            followed = done

    if follower is not None:
        # It holds the samples of one epoch at most; not waited for within one, it does not slow the chip.
        follower.wait()
    device.clear_counters()
    start = time.perf_counter()
    results = device.stream(pixels, labels, follow, stop)
    seconds = time.perf_counter() - start
    counters = device.counters()
    if not len(results):
        return {"samples": 0}
    figures = {"train_accuracy[%]": results.accuracy(labels)} | speed_figures(counters, seconds)
    return figures | {"counters": counter_figures(counters)}


def _first_difference(
    plan: NetworkPlan, expected: Sequence[NDArray[np.int32]], actual: Sequence[NDArray[np.int32]]
) -> dict[str, Any] | None:
    """The first weight that differs, by its array and its place there (neuron, input or class), or None."""
    for name, golden, chip in zip(plan.arrays, expected, actual, strict=True):
        place = first_difference(golden, chip)
        if place is not None:
            return {"array": name} | place
    return None
