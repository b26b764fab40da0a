"""Training on a device: epochs, held-out accuracy, and the comparison with the golden model."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locallearn.host.augment import augment
from locallearn.host.checkpoint import Checkpoint, Pass, newest_checkpoint, remove_checkpoints
from locallearn.host.compare import first_difference
from locallearn.host.confusion import confusion
from locallearn.host.datasets import Dataset, epoch_order
from locallearn.host.device import ChipDevice, Device
from locallearn.host.follower import Follower
from locallearn.host.report import counter_figures, speed_figures, versions
from locallearn.host.run import Run
from locallearn.host.stop import Stop
from locallearn.quant.errors import StateLost
from locallearn.quant.plan import NetworkPlan
from locallearn.quant.spec import NetworkSpec

__all__ = ["CHECKPOINT_EVERY", "Display", "resume", "train"]

CHECKPOINT_EVERY = 50_000
"""Samples: to read `mnist` back takes 0.8 s over a port of 3 Mbaud, where so many samples take 34 s; a model, 2 ms."""


class Display:
    """What a training run shows while it goes on; this one shows nothing."""

    def task(self, text: str, total: int) -> Callable[[int], None]:
        """A piece of work of `total` steps begins; call the result with how many are done."""
        return lambda done: None

    def initial(self, accuracy: list[float]) -> None:
        """What every layer gets right, in per cent, before anything is learned."""

    def epoch(self, metrics: dict[str, Any]) -> None:
        """An epoch is over."""

    def lost(self, text: str) -> None:
        """What the device had learned since the last checkpoint is, and is learned once more."""


def train(
    device: Device,
    data: Dataset,
    run: Run,
    epochs: int,
    limit: int | None,
    display: Display,
    origin: Mapping[str, Any],
    initial: Sequence[NDArray[np.int32]] | None = None,
    every: int = CHECKPOINT_EVERY,
) -> dict[str, Any]:
    """Train from the spec's initial weights; every epoch's order and decay come from the spec alone.

    epochs   passes over the training set
    limit    samples an epoch, chosen anew each time; None takes all
    origin   where `data` comes from, and `initial`, for the report: data_source, data_dir, validation, init
    initial  weights to begin with in their place, which are measured first
    every    samples from one checkpoint to the next; there are two at an epoch's end, before and after its test

    Returns the report, which is also in `run` together with metrics and weights. Its speeds and counters are those
    of the last epoch's training. Ctrl-C or SIGTERM end the run after the samples under way: the report then says
    `interrupted`, everything learned is saved, and `resume` goes on from there.
    """
    state = device.plan.initial_state()
    start = Checkpoint(
        number=0,
        spec=device.spec.to_toml(),
        data=data.checksum,
        device=device.name,
        epochs=epochs,
        limit=limit,
        origin=origin,
        given=initial is not None,
        initial_accuracy=None,
        epoch=0,
        under_way=Pass.nothing(device.spec),
        state=state if initial is None else replace(state, arrays=initial),
    )
    run.save_spec(device.spec)
    start.save(run.path)
    return resume(device, data, run, start, display, every)


def resume(
    device: Device, data: Dataset, run: Run, checkpoint: Checkpoint, display: Display, every: int = CHECKPOINT_EVERY
) -> dict[str, Any]:
    """Go on from a checkpoint, on any device: all but times comes out as `train` would have made it without a break.

    The run's description and `data` are those of the checkpoint, see its `check`. A chip that is reset under way goes
    on from the run's newest.
    """
    while True:
        try:
            return _go_on(device, data, run, checkpoint, display, every)
        except StateLost as lost:
            checkpoint, _ = newest_checkpoint(run.path)
            display.lost(f"{lost}; going on from epoch {checkpoint.epoch + 1}, sample {checkpoint.under_way.samples}")


def _go_on(
    device: Device, data: Dataset, run: Run, checkpoint: Checkpoint, display: Display, every: int
) -> dict[str, Any]:
    """Until the run is complete, interrupted, or the chip reset."""
    spec, stop = device.spec, Stop()
    now = replace(checkpoint, device=device.name)
    report: dict[str, Any] = {
        "spec": spec.name,
        "device": device.name,
        "data": data.name,
        "held_out": data.held_out,
        "seed": spec.training.seed,
        "interrupted": False,
        "epochs": now.epoch,
        "test_accuracy[%]": None,
        "weights_equal_golden": None,
    }
    measured = run.keep_metrics(now.epoch)
    device.reset()
    device.write_state(now.state)

    def save(**changes: Any) -> None:
        nonlocal now
        now = replace(now, number=now.number + 1, **changes)
        now.save(run.path)

    with ExitStack() as stack:
        stack.enter_context(stop.listening())
        follower = stack.enter_context(Follower(spec, now.state)) if isinstance(device, ChipDevice) else None
        if now.given and now.initial_accuracy is None:
            tested = device.stream(data.test_x, None, display.task("initial test", len(data.test_x)), stop)
            if not stop():
                now = replace(now, initial_accuracy=tested.accuracy(data.test_y))
                display.initial(tested.accuracy(data.test_y))
        for epoch in range(now.epoch, now.epochs):
            name = f"epoch {epoch + 1}/{now.epochs}"
            pixels, labels = _samples(data, spec, epoch, now.limit)
            decay = spec.decay_at(epoch)
            device.set_decay(decay)
            metrics: dict[str, Any] = {"epoch": epoch + 1, "decay": list(decay), "test_accuracy[%]": None}
            progress = display.task(f"{name} train", len(pixels))
            follow = _following(follower, pixels, labels, decay, now.under_way.samples, progress)
            for under_way in _learn(device, pixels, labels, now.under_way, every, follow, stop):
                save(under_way=under_way, state=device.read_state())
            metrics |= _figures(now.under_way)
            if not stop():
                report["epochs"] = epoch + 1
                tested = device.stream(data.test_x, None, display.task(f"{name} test", len(data.test_x)), stop)
                if not stop():
                    metrics["test_accuracy[%]"] = tested.accuracy(data.test_y)
                    run.save_confusion(confusion(tested.predicted, data.test_y, spec.classes))
            run.save_weights(now.state.arrays)
            run.add_metrics(metrics)
            if metrics["test_accuracy[%]"] is not None:
                # Last of all: a run that is killed before it makes the other files once more.
                save(epoch=epoch + 1, under_way=Pass.nothing(spec))
            display.epoch(metrics)
            measured.append(metrics)
            if stop():
                report["interrupted"] = True
                break
        if follower is not None:
            report["first_difference"] = _first_difference(device.plan, follower.weights(), device.read_weights())
            report["weights_equal_golden"] = report["first_difference"] is None
    if isinstance(device, ChipDevice):
        report["link"] = asdict(device.link_counters)
    if now.given:
        report["initial_test_accuracy[%]"] = now.initial_accuracy
    report |= {key: value for key, value in measured[-1].items() if key not in ("epoch", "decay")}
    report |= {"versions": versions(), "out": str(run.path), **now.origin}
    run.save_report(report)
    if not report["interrupted"]:
        remove_checkpoints(run.path)
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


def _following(
    follower: Follower | None,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    decay: tuple[float, ...],
    followed: int,
    progress: Callable[[int], None],
) -> Callable[[int], None]:
    """What hears how many of an epoch's samples are learned: the display, and close behind the device the follower."""

    def follow(done: int) -> None:
        nonlocal followed
        progress(done)
        if follower is not None:
            follower.learn(pixels[followed:done], labels[followed:done], decay)
            followed = done

    if follower is not None:
        # It holds the samples of one epoch at most; not waited for within one, it does not slow the chip.
        follower.wait()
    progress(followed)
    return follow


def _learn(
    device: Device,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    under_way: Pass,
    every: int,
    follow: Callable[[int], None],
    stop: Stop,
) -> Iterator[Pass]:
    """The rest of a pass over the samples; yields what it has come to after each `every` of them, and at its end."""
    before = under_way.counters
    device.clear_counters()
    while (begin := under_way.samples) < len(pixels) and not stop():
        part = slice(begin, begin + every)

        def heard(done: int, begin: int = begin) -> None:
            follow(begin + done)

        start = time.perf_counter()
        results = device.stream(pixels[part], labels[part], heard, stop)
        seconds = time.perf_counter() - start
        if not len(results):
            return
        counters = device.counters()
        correct = (results.predicted == labels[part][: len(results), None]).sum(axis=0)
        under_way = Pass(
            begin + len(results),
            (correct + under_way.correct).tolist(),
            counters if before is None else before + counters,
            under_way.seconds + seconds,
        )
        yield under_way


def _figures(under_way: Pass) -> dict[str, Any]:
    """Of an epoch's training, as metrics have them."""
    if under_way.counters is None:
        return {"samples": 0}
    accuracy = [round(100 * correct / under_way.samples, 4) for correct in under_way.correct]
    figures = {"train_accuracy[%]": accuracy} | speed_figures(under_way.counters, under_way.seconds)
    return figures | {"counters": counter_figures(under_way.counters)}


def _first_difference(
    plan: NetworkPlan, expected: Sequence[NDArray[np.int32]], actual: Sequence[NDArray[np.int32]]
) -> dict[str, Any] | None:
    """The first weight that differs, by its array and its place there (neuron, input or class), or None."""
    for name, golden, chip in zip(plan.arrays, expected, actual, strict=True):
        place = first_difference(golden, chip)
        if place is not None:
            return {"array": name} | place
    return None
