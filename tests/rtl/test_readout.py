"""The readout against the golden requantisation, with groups and flushes at any time."""

import random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from locallearn.quant.formats import QFormat
from locallearn.quant.layer_plan import LayerPlan
from locallearn.rtl.layouts import activation_layout
from locallearn.rtl.readout import Readout
from locallearn.rtl.timing import READOUT
from locallearn.sim.bench import cycle, parameters, ports, start
from locallearn.sim.streams import STALLS, Sink, pace, unpack
from tests.rtl.conftest import Bench
from tests.rtl.plans import layer


def requantised(plan: LayerPlan, total: int) -> int:
    """Round down, as the half is in the sum already; ReLU, clamp."""
    return min(max(total >> plan.requantise_shift, 0), plan.output_format.max)


def any_sum(plan: LayerPlan) -> int:
    """An accumulator: at its limits, at a step of the rounding, around 0, or anywhere."""
    limit = 1 << (plan.accumulator_bits - 1)
    shift = plan.requantise_shift
    step = random.randint(-1, plan.output_format.max + 1) << shift
    kinds = (-limit, limit - 1, step - 1, step, random.randint(-2, 2), random.randrange(-limit, limit))
    return min(max(random.choice(kinds), -limit), limit - 1)


def groups(plan: LayerPlan, sums: list[int]) -> list[list[int]]:
    """A sample's sums, lane by lane; lanes without a neuron hold anything."""
    padding = [any_sum(plan) for _ in range(plan.groups * plan.lanes - plan.neurons)]
    padded = sums + padding
    return [padded[first : first + plan.lanes] for first in range(0, len(padded), plan.lanes)]


def stream_of(plan: LayerPlan, sums: list[int]) -> list[dict[str, int]]:
    """What leaves the readout for a sample."""
    values = [requantised(plan, total) for total in sums]
    return [
        {"index": i, "value": value, "active": value > 0, "first": i == 0, "last": i == plan.neurons - 1}
        for i, value in enumerate(values)
    ]


class Lanes:
    """Where the sums come from: bank after bank, each for a single cycle, and anything before and after."""

    def __init__(self, dut: Any, plan: LayerPlan) -> None:
        self._dut, self._plan = dut, plan
        self._loads = 0

    async def load(self, group: list[int]) -> None:
        """To the first bank in this cycle, to the others one after another behind it, in the background."""
        for number, lanes in enumerate(self._plan.banks):
            cocotb.start_soon(self._bank(number, lanes, group))
        await RisingEdge(self._dut.clk)

    async def _bank(self, number: int, lanes: range, group: list[int]) -> None:
        for _ in range(number):
            await RisingEdge(self._dut.clk)
        self._drive(self._loads | 1 << number, {i: group[i] for i in lanes})
        await RisingEdge(self._dut.clk)
        self._drive(self._loads & ~(1 << number), {i: any_sum(self._plan) for i in lanes})

    def _drive(self, loads: int, sums: dict[int, int]) -> None:
        self._dut.load.value = self._loads = loads
        for i, port in enumerate(ports(self._dut, "accumulators", self._plan.lanes)):
            if i in sums:
                port.value = sums[i]


async def until_left(dut: Any) -> None:
    """To the cycle in which the next group may be loaded."""
    while True:
        await RisingEdge(dut.clk)
        if dut.left.value:
            return


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(stall=STALLS)
async def requantises_in_order(dut: Any, stall: str) -> None:
    """Samples as fast as they leave, or with pauses."""
    plan = parameters()
    await start(dut)
    lanes = Lanes(dut, plan)
    sink = Sink(dut, "o", activation_layout(plan), pace(stall, random.getrandbits(32)))
    dut.enable.value = 1
    samples = [[any_sum(plan) for _ in range(plan.neurons)] for _ in range(-(-100 // plan.neurons))]
    for sums in samples:
        for group in groups(plan, sums):
            await lanes.load(group)
            await until_left(dut)
            for _ in range(random.choice((0, 0, 3))):
                await RisingEdge(dut.clk)
    await sink.expect([activation for sums in samples for activation in stream_of(plan, sums)])
    sink.expect_nothing_more()


@cocotb.test()
async def leaves_after_the_latency_one_a_cycle(dut: Any) -> None:
    """The stated latency from the first bank's load, and `left` a cycle after the last sum has left."""
    plan = parameters()
    await start(dut)
    lanes = Lanes(dut, plan)
    sink = Sink(dut, "o", activation_layout(plan), pace("steady", 0))
    dut.enable.value = 1
    count = min(plan.lanes, plan.neurons)
    await RisingEdge(dut.clk)
    await lanes.load([any_sum(plan) for _ in range(plan.lanes)])
    loaded, left = cycle(), None
    for _ in range(count + 6):
        await RisingEdge(dut.clk)
        if dut.left.value:
            left = cycle()
    actual = [received.cycle - loaded for received in sink.received]
    expected = list(range(READOUT, count + READOUT))
    assert actual == expected, f"expected activations {expected} cycles after load, actual {actual}"
    assert left == loaded + count + 1, f"expected left in cycle {loaded + count + 1}, actual {left}"


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(stall=("steady", "random"))
async def waits_for_enable_and_forgets_when_flushed(dut: Any, stall: str) -> None:
    """A sample begins to leave only when enabled; what was flushed before that never leaves."""
    plan = parameters()
    await start(dut)
    lanes = Lanes(dut, plan)
    sink = Sink(dut, "o", activation_layout(plan), pace(stall, random.getrandbits(32)))
    for _ in range(30):
        sums = [any_sum(plan) for _ in range(plan.neurons)]
        first, *others = groups(plan, sums)
        if random.random() < 0.5:
            await lanes.load([any_sum(plan) for _ in range(plan.lanes)])
            for _ in range(random.randrange(4)):
                await RisingEdge(dut.clk)
            dut.flush.value = 1
            await RisingEdge(dut.clk)
            dut.flush.value = 0
            dut.enable.value = random.getrandbits(1)
            for _ in range(6):
                await RisingEdge(dut.clk)
            dut.enable.value = 0
        await lanes.load(first)
        for _ in range(random.randrange(6)):
            await RisingEdge(dut.clk)
            assert not dut.left.value, f"cycle {cycle()}: expected the group to wait for enable, actual left"
        sink.expect_nothing_more()
        dut.enable.value = 1
        await until_left(dut)
        for group in others:
            await lanes.load(group)
            await until_left(dut)
        await sink.expect(stream_of(plan, sums))
        dut.enable.value = 0
    sink.expect_nothing_more()


@cocotb.test(timeout_time=200, timeout_unit="us")
async def holds_the_next_sample_back_until_the_last_neuron_is_taken(dut: Any) -> None:
    """With `enable` high until the cycle in which the last neuron is taken, as the layer drives it."""
    plan = parameters()
    await start(dut)
    lanes = Lanes(dut, plan)
    sink = Sink(dut, "o", activation_layout(plan), pace("rare", random.getrandbits(32)))
    dut.enable.value = 1
    sums = [any_sum(plan) for _ in range(plan.neurons)]
    for group in groups(plan, sums):
        await lanes.load(group)
        await until_left(dut)
    cocotb.start_soon(lanes.load(groups(plan, sums)[0]))
    layout, taken = activation_layout(plan), False
    while not taken:
        await RisingEdge(dut.clk)
        last = unpack(layout, int(dut.o__payload.value))["last"]
        taken = dut.o__valid.value and dut.o__ready.value and last
    dut.enable.value = 0
    for _ in range(50):
        await RisingEdge(dut.clk)
    await sink.expect(stream_of(plan, sums))
    sink.expect_nothing_more()


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(layer(1, 1, activation=QFormat(1, 1)), id="1 neuron of 1 bit"),
        pytest.param(layer(5, 1), id="5 neurons, 1 lane"),
        pytest.param(layer(5, 2, inputs=1), id="sums narrower than activations"),
        pytest.param(layer(10, 4, activation=QFormat(8, 8)), id="10 neurons, 4 lanes"),
        pytest.param(layer(12, 9), id="12 neurons, 9 lanes"),
        # In the last group the banks behind the first have no neuron.
        pytest.param(layer(40, 19), id="40 neurons, 19 lanes"),
        pytest.param(layer(8, 8, weight=QFormat(2, 0, signed=True), activation=QFormat(8, 8)), id="shift 0"),
    ],
)
def test_readout(bench: Bench, plan: LayerPlan) -> None:
    bench(Readout(plan, plan.neurons), plan)
