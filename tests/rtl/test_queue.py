"""The queue of bytes: order, room, and a byte every 4 cycles."""

from random import Random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge

from locallearn.rtl.queue import ByteQueue
from locallearn.rtl.target import GENERIC
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import IDLE, STALLS, Sink, Source, pace
from tests.rtl.conftest import Bench

ROOM = {1: 2, 2: 2, 13: 16, 1024: 1024}
"""By depth, which is rounded up."""


@pytest.mark.parametrize("depth", ROOM)
def test_queue(bench: Bench, depth: int) -> None:
    bench(ByteQueue(GENERIC, depth), ROOM[depth])


@cocotb.test
@cocotb.parametrize(idle=IDLE, stalls=STALLS)
async def any_bytes_at_any_pace(dut: Any, idle: str, stalls: str) -> None:
    await start(dut)
    source, sink = Source(dut, "i", 8, pace(idle, 1)), Sink(dut, "o", 8, pace(stalls, 2))
    data = Random(f"{idle} {stalls}").randbytes(60)
    source.send(data)
    await sink.expect(data)
    sink.expect_nothing_more()


@cocotb.test
async def room_for_depth_bytes(dut: Any) -> None:
    """For `depth` bytes, and one in the register before `o`; all of them come out, and the next take their places."""
    await start(dut)
    room, willing = parameters(), False
    source, sink = Source(dut, "i", 8, pace("steady", 1)), Sink(dut, "o", 8, lambda waiting: willing)
    for seed in range(3):
        willing = False
        data = Random(seed).randbytes(room + 5)
        source.send(data)
        for _ in range(room + 50):
            await RisingEdge(dut.clk)
        assert source.pending == 4
        assert not dut.i__ready.value
        willing = True
        await sink.expect(data)
    sink.expect_nothing_more()


@cocotb.test
async def four_cycles_a_byte(dut: Any) -> None:
    await start(dut)
    source, sink = Source(dut, "i", 8, pace("steady", 1)), Sink(dut, "o", 8, pace("steady", 2))
    source.send(b"abcdefgh")
    while not (dut.i__valid.value and dut.i__ready.value):
        await RisingEdge(dut.clk)
    begin = cycle()
    await sink.expect(b"abcdefgh")
    assert [received.cycle - begin for received in sink.received] == [5 + 4 * number for number in range(8)]
