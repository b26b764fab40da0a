"""The watchdog: when it says that the chip hangs, and when not."""

from random import Random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from locallearn.rtl.watchdog import Watchdog
from locallearn.sim.bench import cycle, parameters, start
from tests.rtl.conftest import Bench

PATIENCE_BITS = 4


def test_watchdog(bench: Bench) -> None:
    bench(Watchdog(PATIENCE_BITS), 1 << PATIENCE_BITS)


async def feed(dut: Any, turns: list[tuple[bool, bool]]) -> int | None:
    """Cycles of (work, moves); the first in which it is stuck, counted from the first of them."""
    begin = cycle()
    for work, moves in turns:
        dut.work.value, dut.moves.value = work, moves
        await RisingEdge(dut.clk)
        if dut.stuck.value:
            return cycle() - begin
    return None


@cocotb.test
async def work_without_a_move(dut: Any) -> None:
    """After so many cycles and two, and from then on, whatever happens."""
    await start(dut)
    patience = parameters()
    assert await feed(dut, [(True, False)] * 3 * patience) == patience + 2
    for turn in ((False, False), (True, True), (False, True)):
        for _ in range(5):
            assert await feed(dut, [turn]) is not None


@cocotb.test
async def patience_begins_anew(dut: Any) -> None:
    """With each move, and whenever there is nothing to do."""
    await start(dut)
    rng, patience = Random(1), parameters()
    turns = []
    for _ in range(100):
        turns += [(True, False)] * rng.choice([patience - 1, rng.randrange(patience)])
        turns += [rng.choice([(True, True), (False, False), (False, True)])] * rng.randint(1, 3)
    assert await feed(dut, turns) is None
    assert await feed(dut, [(True, False)] * 2 * patience) == patience + 2
