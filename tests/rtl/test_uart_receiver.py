"""The serial receiver: a far end with a clock of its own sends, with faults and pauses."""

from dataclasses import dataclass
from random import Random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import RisingEdge, Timer

from locallearn.rtl.uart import UartReceiver
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import Sink, pace
from tests.rtl.conftest import Bench
from tests.wires import send_byte, send_bytes

PERIOD_PS = 10_000
"""Of the bench's clock."""

CYCLES = {"4 cycles a bit": 4, "4 and a bit": 4.22, "25 MHz at 3 Mbaud": 25 / 3, "100 MHz": 100 / 3}


@pytest.mark.parametrize("cycles", CYCLES.values(), ids=CYCLES)
def test_receiver(bench: Bench, cycles: float) -> None:
    bench(UartReceiver(1_000_000 * cycles, 1_000_000), cycles)


# -- the bench -----------------------------------------------------------------------------------------


@dataclass
class Board:
    """The receiver with its far end, whose bits last `bit_ps`; the wire is at rest."""

    dut: Any
    bit_ps: int
    sink: Sink
    lost: int = 0

    async def count(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            self.lost += bool(self.dut.lost.value)

    async def rest(self, bits: float) -> None:
        await Timer(max(1, round(bits * self.bit_ps)), "ps")

    async def send(self, data: bytes) -> None:
        await send_bytes(self.dut.rx, data, self.bit_ps)


async def board(dut: Any, faster: float = 0) -> Board:
    """`faster` is by what part the far end's clock is."""
    await start(dut)
    self = Board(dut, round(parameters() * PERIOD_PS / (1 + faster)), Sink(dut, "o", 8, pace("steady", 2)))
    cocotb.start_soon(self.count())
    dut.rx.value = 1
    await self.rest(1)
    return self


@cocotb.test
@cocotb.parametrize(faster=(-0.02, 0, 0.02))
async def any_bytes_with_pauses(dut: Any, faster: float) -> None:
    """The far end's first bit begins anywhere in a cycle, as do those after a pause."""
    it, rng = await board(dut, faster), Random(faster)
    for _ in range(30):
        await it.rest(rng.choice([rng.random(), 30 * rng.random()]))
        data = rng.randbytes(rng.randint(1, 16))
        await it.send(data)
        await it.sink.expect(data)
    assert it.lost == 0


@cocotb.test
@cocotb.parametrize(faster=(-0.02, 0.02))
async def all_bytes_without_a_pause(dut: Any, faster: float) -> None:
    it = await board(dut, faster=faster)
    await it.rest(0.123)
    data = bytes(range(256))
    await it.send(data)
    await it.sink.expect(data)
    assert it.lost == 0


@cocotb.test
async def latency(dut: Any) -> None:
    """From the middle of the stop bit, give or take a cycle at either end."""
    it = await board(dut)
    for _ in range(20):
        await it.rest(3 + Random(cycle()).random())
        begin = cycle()
        await it.send(b"\xa5")
        await it.sink.expect(b"\xa5")
        middle = begin + 9.5 * parameters()
        assert abs(it.sink.received[-1].cycle - (middle + 3)) <= 2


@cocotb.test
async def what_is_not_taken_is_lost(dut: Any) -> None:
    """Each byte is there for one cycle, and told where that was in vain; the port goes on."""
    await start(dut)
    dut.rx.value, bit_ps = 1, round(parameters() * PERIOD_PS)
    offered, lost = bytearray(), 0

    async def look() -> None:
        nonlocal lost
        while True:
            await RisingEdge(dut.clk)
            lost += bool(dut.lost.value)
            if dut.o__valid.value:
                offered.append(int(dut.o__payload.value))

    cocotb.start_soon(look())
    await Timer(bit_ps, "ps")
    await send_bytes(dut.rx, b"lost!", bit_ps)
    await Timer(2 * bit_ps, "ps")
    assert (offered, lost) == (b"lost!", 5)


@cocotb.test
async def without_a_stop_bit(dut: Any) -> None:
    """The byte is lost, and what follows it until the wire was at rest."""
    it = await board(dut)
    for low_bits in (0, 1, 9, 30):
        before = it.lost
        await it.send(b"a")
        await send_byte(dut.rx, 0x55, it.bit_ps, stop=0)
        await it.rest(low_bits)
        dut.rx.value = 1
        await it.rest(1)
        await it.send(b"b")
        await it.sink.expect(b"ab")
        assert it.lost == before + 1
    it.sink.expect_nothing_more()


@cocotb.test
async def a_wire_that_is_not_at_rest_at_first(dut: Any) -> None:
    """Where nobody is at its far end yet."""
    await start(dut)
    it = Board(dut, round(parameters() * PERIOD_PS), Sink(dut, "o", 8, pace("steady", 2)))
    cocotb.start_soon(it.count())
    await it.rest(30)
    dut.rx.value = 1
    await it.rest(1)
    await it.send(b"a")
    await it.sink.expect(b"a")
    assert it.lost == 0


@cocotb.test
async def a_spike_is_no_start_bit(dut: Any) -> None:
    it = await board(dut)
    for _ in range(20):
        await it.rest(1 + Random(cycle()).random())
        dut.rx.value = 0
        await it.rest(0.25)
        dut.rx.value = 1
        await it.rest(1)
        await it.send(b"\x5a")
        await it.sink.expect(b"\x5a")
    assert it.lost == 0
    it.sink.expect_nothing_more()
