"""The counter bank against sums."""

import random
from typing import Any

import cocotb
from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import RisingEdge

from locallearn.quant.registers import COUNTER_BITS
from locallearn.rtl.counters import CounterBank
from locallearn.sim.bench import cycle, start
from tests.rtl.conftest import Bench

NAMES = ("ones", "threes", "sevens")
"""After the largest step of each."""


class Counted(wiring.Component):
    """A bank whose steps are ports."""

    def __init__(self) -> None:
        super().__init__(
            {
                "ones": In(1),
                "threes": In(2),
                "sevens": In(3),
                "clear": In(1),
                "select": In(range(len(NAMES))),
                "value": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The mapping's order is not that of the names.
        steps = {name: getattr(self, name) for name in reversed(NAMES)}
        m.submodules.bank = bank = CounterBank(NAMES, steps)
        m.d.comb += [bank.clear.eq(self.clear), bank.select.eq(self.select), self.value.eq(bank.value)]
        return m


@cocotb.test()
async def counts_and_clears(dut: Any) -> None:
    """Steps and clears at random, and any counter read at any time, one cycle later."""
    await start(dut)
    counts = dict.fromkeys(NAMES, 0)
    selected = 0
    for _ in range(500):
        steps = {name: random.randint(0, most) for name, most in zip(NAMES, (1, 3, 7), strict=True)}
        clear, select = random.random() < 0.02, random.randrange(len(NAMES))
        for name, step in steps.items():
            getattr(dut, name).value = step
        dut.clear.value, dut.select.value = clear, select
        await RisingEdge(dut.clk)
        actual = int(dut.value.value)
        assert actual == selected, f"cycle {cycle()}: expected {selected}, actual {actual}"
        selected = counts[NAMES[select]]
        counts = {name: 0 if clear else counts[name] + steps[name] for name in NAMES}


def test_counter_bank(bench: Bench) -> None:
    bench(Counted())
