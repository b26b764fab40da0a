"""Chip against golden model after every sample: the first difference, by its place."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locallearn.host.compare import first_difference
from locallearn.host.device import ChipDevice
from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.network import GoldenNetwork, quantise_pixels
from locallearn.quant.registers import CHIP, CHIP_COUNTERS, Kind, split_events
from locallearn.quant.spec import NetworkSpec

__all__ = ["made_samples", "read_events", "verify"]

_INFER_EVERY = 4
"""Every so many samples one goes without its label: nothing may change then."""

_ODDS = 2
"""With which these stop early, where they can."""


def verify(
    device: ChipDevice,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Train chip and golden model on the same samples, one at a time, and compare all that can be read.

    pixels (n, inputs) of 8 bits, labels (n,). Returns {"samples": compared, "equal": bool, "first_difference": None
    or {"sample", "layer", "what", "index", "expected", "actual", "cycle"}}. `what` is answered, then events, scores,
    predicted, errors, error, weights, noise or the name of a counter, looked at in that order, layer by layer; `index`
    is (neuron, input) for weights and the position in the list for the rest; `cycle` is the chip's cycle counter when
    the sample was done.
    """
    golden = GoldenNetwork(device.spec)
    device.reset()
    if device.spec.early_exit:
        golden.exits = device.plan.exits(odds=_ODDS)
        device.set_exits(golden.exits)
    for sample in range(len(pixels)):
        progress(sample)
        part = slice(sample, sample + 1)
        label = None if sample % _INFER_EVERY == _INFER_EVERY - 1 else labels[part]
        for what, layer, expected, actual in _compared(device, golden, pixels[part], label):
            place = first_difference(np.asarray(expected), np.asarray(actual))
            if place is not None:
                cycle = int(device.read(CHIP, Kind.COUNTERS)[CHIP_COUNTERS.index("cycles"), 0])
                difference = {"sample": sample, "layer": layer, "what": what} | place | {"cycle": cycle}
                return {"samples": sample + 1, "equal": False, "first_difference": difference}
    progress(len(pixels))
    return {"samples": len(pixels), "equal": True, "first_difference": None}


def made_samples(spec: NetworkSpec, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Random samples of every density, from an empty image to one without a single zero: pixels (count, inputs) and
    labels (count,)."""
    rng = np.random.default_rng(spec.training.seed)
    pixels = rng.integers(1, 256, (count, spec.input.size))
    density = rng.random((count, 1)).round(1)
    kept = rng.random(pixels.shape) < density
    return np.where(kept, pixels, spec.input.zero).astype(np.uint8), rng.integers(0, spec.classes, count)


def _compared(
    device: ChipDevice, golden: GoldenNetwork, pixels: NDArray[np.uint8], label: NDArray[np.int64] | None
) -> Iterator[tuple[str, int, ArrayLike, ArrayLike]]:
    """One sample through both: (what, layer, expected, actual), read from the chip as it is asked for."""
    traces = golden.step(quantise_pixels(golden.spec, pixels[0]), None if label is None else int(label[0]))
    results = device.stream(pixels, label)
    counters = device.counters()
    yield "answered", len(traces) - 1, [len(traces) - 1], results.answered
    for index, layer in enumerate(golden.layers):
        if index < len(traces):
            trace = traces[index]
            if not isinstance(layer.plan, ConvPlan):
                events = np.stack([trace.event_index, trace.event_value], axis=1)
                yield "events", index, events, read_events(device, layer.plan)
            yield "scores", index, trace.scores, device.read(index, Kind.SCORES)[:, 0]
            yield "predicted", index, [trace.predicted], results.predicted[:, index]
            if trace.error is not None and layer.plan.classifier.error == "local":
                yield "errors", index, trace.error, device.read(index, Kind.ERRORS)[:, 0]
            yield "error", index, [trace.error_size], results.error[:, index]
        yield "weights", index, layer.memory.weights, device.read_layer_weights(index)
        yield "noise", index, [layer.noise.state], device.read(index, Kind.NOISE_STATE).view(np.uint64)[0]
        if layer.plan.dropped:
            yield "mask", index, [layer.mask.state], device.read(index, Kind.MASK_STATE).view(np.uint64)[0]
        if layer.plan.classifier.learns:
            noise = device.read(index, Kind.MATRIX_NOISE_STATE).view(np.uint64)[0]
            yield "classifier's noise", index, [layer.matrix_noise.state], noise
            yield "classifier", index, layer.matrix, device.read(index, Kind.CLASSIFIER)
        chip = asdict(counters.layers[index])
        for name, expected in asdict(layer.counters).items():
            yield name, index, [expected], [chip[name]]


def read_events(device: ChipDevice, plan: LayerPlan) -> NDArray[np.int64]:
    """The last sample's events in a dense layer, shape (n, 2): input number and value, the bias last."""
    begin, end = device.read(plan.index, Kind.EVENT_SPAN)[:, 0].tolist()
    count = (end - begin) % plan.event_depth
    before_wrap = min(count, plan.event_depth - begin)
    words = np.concatenate(
        [
            device.read(plan.index, Kind.EVENTS, begin, before_wrap),
            device.read(plan.index, Kind.EVENTS, 0, count - before_wrap),
        ]
    )[:, 0]
    return np.stack(split_events(plan, words), axis=1)
