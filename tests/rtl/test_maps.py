"""The map buffer against arrays: every value that is not 0, and every word of both masks."""

import math
import random
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from locallearn.quant.conv_plan import ConvPlan
from locallearn.quant.spec import ConvSpec, InputSpec, NetworkSpec
from locallearn.rtl.layouts import event_layout
from locallearn.rtl.maps import MapBuffer
from locallearn.rtl.target import GENERIC
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import IDLE, Source, pace
from tests.compare import assert_same
from tests.rtl.conftest import Bench

Ints = NDArray[np.int64]


@dataclass
class Sample:
    """x as rows, columns, channels."""

    x: Ints
    label: int
    learn: bool
    void: bool = False


def any_sample(plan: ConvPlan) -> Sample:
    """Empty, full, or with few or many zeros."""
    rng = np.random.default_rng(random.getrandbits(32))
    x = rng.integers(1, plan.input_format.max, plan.input_map, endpoint=True)
    x[rng.random(x.shape) >= random.choice((0, 0.1, 0.5, 1))] = 0
    void = plan.can_be_void and random.random() < 0.3
    return Sample(x, random.randrange(plan.classes), random.random() < 0.5, void)


def events(plan: ConvPlan, sample: Sample) -> list[dict[str, int]]:
    flat = sample.x.ravel()
    pairs = [*((int(i), int(flat[i])) for i in flat.nonzero()[0]), (plan.inputs, plan.input_format.half)]
    last = {"label": sample.label, "learn": int(sample.learn)} | (
        {"void": int(sample.void)} if plan.can_be_void else {}
    )
    scrambled = {name: 0 for name in last}
    return [
        {"index": i, "value": value, "last": int(i == plan.inputs), **(last if i == plan.inputs else scrambled)}
        for i, value in pairs
    ]


async def read(dut: Any, plan: ConvPlan) -> Sample:
    """All that the masks of pixels name; every word of those of channels."""
    rows, columns, channels = plan.input_map
    pixels = np.zeros((rows, columns, plan.channel_words * plan.channel_word), bool)
    lines = np.zeros((channels, rows, plan.column_words * plan.column_word), bool)
    words = (plan.channel_words - 1).bit_length()
    for row, column, part in np.ndindex(rows, columns, plan.channel_words):
        word = await at(dut, "pixel", (row << plan.column_bits | column) << words | part)
        first = part * plan.channel_word
        pixels[row, column, first : first + plan.channel_word] = bits(word, plan.channel_word)
    words = (plan.column_words - 1).bit_length()
    for channel, row, part in np.ndindex(channels, rows, plan.column_words):
        word = await at(dut, "columns", (channel << plan.row_bits | row) << words | part)
        first = part * plan.column_word
        lines[channel, row, first : first + plan.column_word] = bits(word, plan.column_word)
    assert_same(f"cycle {cycle()}: channel beyond the last", 0, int(pixels[..., channels:].sum()))
    assert_same(f"cycle {cycle()}: column beyond the last", 0, int(lines[..., columns:].sum()))
    assert_same(f"cycle {cycle()}: mask", pixels[..., :channels], lines[..., :columns].transpose(1, 2, 0))
    x = np.zeros(plan.input_map, np.int64)
    for row, column, channel in zip(*pixels[..., :channels].nonzero(), strict=True):
        address = (int(row) << plan.column_bits | int(column)) << plan.channel_bits | int(channel)
        x[row, column, channel] = await at(dut, "value", address)
    return Sample(x, int(dut.label.value), bool(dut.learn.value))


def bits(word: int, count: int) -> list[int]:
    return [word >> bit & 1 for bit in range(count)]


async def at(dut: Any, name: str, address: int) -> int:
    if hasattr(dut, f"{name}_at"):
        getattr(dut, f"{name}_at").value = address
    for _ in range(3):
        await RisingEdge(dut.clk)
    return int(getattr(dut, name).value)


@cocotb.test()
@cocotb.parametrize(idle=IDLE)
async def keeps_two_samples(dut: Any, idle: str) -> None:
    plan = parameters()
    await start(dut)
    source = Source(dut, "i", event_layout(plan), pace(idle, random.getrandbits(32)))
    samples = [any_sample(plan) for _ in range(5)]
    for sample in samples:
        source.send(events(plan, sample))
    for number, sample in enumerate(s for s in samples if not s.void):
        waited = cycle()
        while not dut.held.value:
            await RisingEdge(dut.clk)
            assert cycle() - waited < 40_000, f"cycle {cycle()}: expected sample {number}, actual none"
        actual = await read(dut, plan)
        where = f"cycle {cycle()}, sample {number}:"
        assert_same(f"{where} value", sample.x, actual.x)
        assert_same(f"{where} label", sample.label, actual.label)
        assert_same(f"{where} learn", sample.learn, actual.learn)
        dut.release.value = 1
        await RisingEdge(dut.clk)
        dut.release.value = 0
        await RisingEdge(dut.clk)


def plan_of(channels: int, rows: int, columns: int, below: int | None = None) -> ConvPlan:
    """Of the first layer; with `below` channels in a layer before it, of one that samples may not reach."""
    layers = tuple(ConvSpec(count, 1, resolution=0) for count in ([2] if below is None else [channels, 2]))
    image = (channels if below is None else below, rows, columns)
    spec = NetworkSpec("", 3, InputSpec(math.prod(image), shape=image), layers, early_exit=below is not None)
    return ConvPlan(spec, len(layers) - 1)


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(plan_of(3, 5, 6), id="3x5x6"),
        pytest.param(plan_of(1, 1, 1), id="1x1x1"),
        pytest.param(plan_of(20, 2, 18), id="words of 16"),
        pytest.param(plan_of(16, 3, 16), id="whole words"),
        pytest.param(plan_of(3, 4, 4, below=2), id="behind an early exit"),
    ],
)
def test_map_buffer(bench: Bench, plan: ConvPlan) -> None:
    bench(MapBuffer(plan, GENERIC), plan)
