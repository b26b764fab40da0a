"""Is the chip well: its link, its memories, and what every layer makes of some samples."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np

from locallearn.host.device import ChipDevice
from locallearn.host.train import Display
from locallearn.host.verify import made_samples, verify
from locallearn.quant.registers import CHIP, Kind, Region, regions

__all__ = ["Finding", "examine"]

_ROUND_TRIPS = 100

_BLOCK = 64
"""Rows that are written and compared at a time."""

_SAMPLES = 8


@dataclass(frozen=True)
class Finding:
    """What one examination came to.

    what  was examined
    well  nothing is wrong with it
    text  what was measured, or what is wrong and where
    """

    what: str
    well: bool
    text: str


def examine(device: ChipDevice, display: Display) -> Iterator[Finding]:
    """The link, each memory, then all layers together; what the chip has learned is read before and written back at the
    end, its counters and decay are lost.

    Raises DeviceError where the link does not even let it be examined.
    """
    yield _link(device, display)
    state = device.read_state()
    try:
        for layer, kind in _memories(device):
            yield _memory(device, layer, kind, display)
        yield _layers(device, display)
    finally:
        device.reset()
        device.write_state(state)


def _link(device: ChipDevice, display: Display) -> Finding:
    """Small packets one by one, then all weights of a layer there and back."""
    device.clear_counters()
    progress, seconds = display.task("link", _ROUND_TRIPS), []
    for number in range(_ROUND_TRIPS):
        seconds.append(_timed(lambda: device.read(CHIP, Kind.FINGERPRINT)))
        progress(number + 1)
    layer = max(device.plan.layers, key=lambda plan: plan.weight_rows * plan.lanes).index
    rows = device.read(layer, Kind.WEIGHTS)
    size = rows.size * _region(device, layer, Kind.WEIGHTS).size
    read_s = _timed(lambda: device.read(layer, Kind.WEIGHTS))
    write_s = _timed(lambda: device.write(layer, Kind.WEIGHTS, rows))
    chip, host = device.counters(), device.link_counters
    rates = f"{size / read_s / 1000:.0f} kB/s from the chip, {size / write_s / 1000:.0f} kB/s to it"
    text = f"{1000 * median(seconds):.2f} ms there and back, {rates}"
    altered = (chip.bad_frames or 0, host.bad)
    if any(altered):
        text += f"; altered frames, all sent again: {altered[0]} on the way to the chip, {altered[1]} on the way back"
    return Finding("link", not any(altered), text)


def _timed(work: Callable[[], object]) -> float:
    """In seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _region(device: ChipDevice, layer: int, kind: Kind) -> Region:
    return regions(device.plan)[layer, kind]


# -- memories ------------------------------------------------------------------------------------------


def _memories(device: ChipDevice) -> Iterator[tuple[int, Kind]]:
    """Those that hold what is learned."""
    for plan in device.plan.layers:
        yield plan.index, Kind.WEIGHTS
        if plan.classifier.learns:
            yield plan.index, Kind.CLASSIFIER


def _memory(device: ChipDevice, layer: int, kind: Kind, display: Display) -> Finding:
    """March C- (van de Goor, "Testing Semiconductor Memories", 1991): {any(w0); up(r0, w1); up(r1, w0); down(r0, w1);
    down(r1, w0); any(r0)}, by blocks of rows, with words by chance as 0 and their complements as 1, so that an address
    that leads elsewhere finds another word. The chip reads and compares by itself."""
    region = _region(device, layer, kind)
    low = -(1 << region.bits - 1) if region.signed else 0
    chance = np.random.default_rng([layer, kind])
    zeros = chance.integers(low, low + (1 << region.bits), (region.rows, region.lanes))
    ones = 2 * low + (1 << region.bits) - 1 - zeros
    blocks = range(0, region.rows, _BLOCK)
    up, down = list(blocks), list(reversed(blocks))
    elements = [(up, None, zeros), (up, zeros, ones), (up, ones, zeros), (down, zeros, ones), (down, ones, zeros)]
    name = f"layer {layer}, {kind.name.lower()}"
    progress, done = display.task(name, (len(elements) + 1) * len(blocks)), 0
    for order, held, written in [*elements, (up, zeros, None)]:
        for row in order:
            part = slice(row, row + _BLOCK)
            fault = None if held is None else device.first_fault(layer, kind, held[part], row)
            if fault is not None:
                return Finding(name, False, _place(device, layer, kind, *fault))
            if written is not None:
                device.write(layer, kind, written[part], row)
            done += 1
            progress(done)
    return Finding(name, True, f"{region.rows} rows of {region.lanes} words of {region.bits} bits")


def _place(device: ChipDevice, layer: int, kind: Kind, row: int, lane: int, expected: int, actual: int) -> str:
    """Where a fault is, as the chip and as the network see it."""
    region, plan = _region(device, layer, kind), device.plan.layers[layer]
    bits = region.bits
    mask = (1 << bits) - 1
    text = f"row {row}, lane {lane}: wrote {expected & mask:0{bits}b}, read {actual & mask:0{bits}b}"
    if kind is Kind.CLASSIFIER:
        return f"{text} (neuron {row}, class {lane})"
    words = np.arange(region.rows * region.lanes, dtype=np.int32).reshape(region.rows, region.lanes)
    weight = np.argwhere(plan.from_rows(words) == row * region.lanes + lane)
    return f"{text} (neuron {weight[0, 0]}, input {weight[0, 1]})" if len(weight) else f"{text} (no weight)"


# -- layers --------------------------------------------------------------------------------------------


def _layers(device: ChipDevice, display: Display) -> Finding:
    """Trains from the spec's seed on samples that are made, in step with the golden model."""
    pixels, labels = made_samples(device.spec, _SAMPLES)
    found = verify(device, pixels, labels, display.task("layers", _SAMPLES))["first_difference"]
    if found is None:
        text = f"{_SAMPLES} samples: events, scores, errors, weights, noise, counters as they should be in all layers"
        return Finding("layers", True, text)
    where = f"sample {found['sample']}, layer {found['layer']}, {found['what']} {found['index']}"
    said = f"expected {found['expected']}, actual {found['actual']}"
    return Finding("layers", False, f"{where}: {said} (cycle {found['cycle']}); layers before it are well")
