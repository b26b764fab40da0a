"""The counter bank against sums."""

import random
from collections import deque
from typing import Any

import cocotb
import pytest
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from locallearn.quant.registers import COUNTER_BITS
from locallearn.rtl.counters import CounterBank
from locallearn.rtl.target import GENERIC
from locallearn.sim.bench import cycle, parameters, ports, start
from tests.rtl.conftest import Bench


class Counted(wiring.Component):
    """A bank whose steps are ports of these widths."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__(
            {
                **{f"step__{number}": In(width) for number, width in enumerate(widths)},
                "clear": In(1),
                "select": In(range(len(widths))),
                "value": Out(COUNTER_BITS),
            }
        )
        names = tuple(f"counter_{number}" for number in range(len(widths)))
        steps = {name: getattr(self, f"step__{number}") for number, name in enumerate(names)}
        # The mapping's order is not that of the names.
        self.bank = CounterBank(names, dict(reversed(steps.items())), GENERIC)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bank = bank = self.bank
        m.d.comb += [bank.clear.eq(self.clear), bank.select.eq(self.select), self.value.eq(bank.value)]
        return m


@cocotb.test()
async def counts_and_clears(dut: Any) -> None:
    """Any steps, often the largest for long; a counter shows a sum that is no older than its latency."""
    widths, latency = parameters()
    if max(widths) > 9:
        return  # a carry takes 3 cycles to the upper half
    await start(dut)
    select = selected_for = 0
    for _ in range(12):
        dut.clear.value = 1
        for _ in range(latency):
            await RisingEdge(dut.clk)
            dut.clear.value = 0
            selected_for += 1
        # Of each counter, after each of the last cycles.
        sums = [deque([0], latency) for _ in widths]
        share = random.choice((0.02, 0.5, 1.0))
        for _ in range(random.randrange(300)):
            steps = [((1 << width) - 1) * (random.random() < share) for width in widths]
            if share < 1:
                steps = [random.randint(0, step) for step in steps]
            for port, step in zip(ports(dut, "step", len(widths)), steps, strict=True):
                port.value = step
            if random.random() < 0.03:
                select, selected_for = random.randrange(len(widths)), 0
                dut.select.value = select
            await RisingEdge(dut.clk)
            if selected_for >= latency:
                actual, expected = int(dut.value.value), set(sums[select])
                assert actual in expected, f"cycle {cycle()}: expected one of {expected}, actual {actual}"
            for sum, step in zip(sums, steps, strict=True):
                sum.append(sum[-1] + step)
            selected_for += 1
        for port in ports(dut, "step", len(widths)):
            port.value = 0


@cocotb.test()
async def totals_are_exact(dut: Any) -> None:
    """Of the largest steps and of any, when nothing comes any more: with all carries to the upper half."""
    widths, latency = parameters()
    await start(dut)
    for cycles in (1, 7, 200):
        dut.clear.value = 1
        for _ in range(latency):
            await RisingEdge(dut.clk)
            dut.clear.value = 0
        totals = [0] * len(widths)
        for number in range(cycles):
            for place, (port, width) in enumerate(zip(ports(dut, "step", len(widths)), widths, strict=True)):
                largest = (1 << width) - 1
                step = largest if number % 3 else random.randint(0, largest)
                port.value = step
                totals[place] += step
            await RisingEdge(dut.clk)
        for port in ports(dut, "step", len(widths)):
            port.value = 0
        for place, total in enumerate(totals):
            dut.select.value = place
            for _ in range(2 * latency):
                await RisingEdge(dut.clk)
            actual = int(dut.value.value)
            assert actual == total, f"counter {place} after {cycles} cycles: expected {total:#x}, actual {actual:#x}"


@pytest.mark.parametrize(
    "widths",
    [
        # With fewer than three a turn is longer than the names.
        pytest.param((3, 1), id="2 counters"),
        pytest.param((1, 2, 3), id="3 counters"),
        pytest.param((1, 1, 9, 1, 6, 1, 1, 1), id="8 counters"),
        # Steps so large that the lower half soon overflows.
        pytest.param((COUNTER_BITS // 2 - 4, 1, COUNTER_BITS // 2 - 4), id="carries"),
    ],
)
def test_counter_bank(bench: Bench, widths: tuple[int, ...]) -> None:
    counted = Counted(widths)
    bench(counted, (widths, counted.bank.latency))
