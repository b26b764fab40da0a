"""The serial transmitter: a far end with a clock of its own listens."""

from random import Random
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge
from cocotb.utils import get_sim_time

from locallearn.rtl.uart import UartTransmitter
from locallearn.sim.bench import cycle, parameters, start
from locallearn.sim.streams import IDLE, Source, pace
from tests.rtl.conftest import Bench
from tests.wires import listen

PERIOD_PS = 10_000
CYCLES = {"4 cycles a bit": 4, "4 and a bit": 4.22, "25 MHz at 3 Mbaud": 25 / 3, "100 MHz": 100 / 3}


@pytest.mark.parametrize("cycles", CYCLES.values(), ids=CYCLES)
def test_transmitter(bench: Bench, cycles: float) -> None:
    bench(UartTransmitter(1_000_000 * cycles, 1_000_000), cycles)


async def heard(dut: Any, received: bytearray, count: int) -> None:
    """Until as many bytes have come and the wire is at rest; nothing more comes."""
    since, before = cycle(), len(received)
    while len(received) < count:
        if len(received) > before:
            since, before = cycle(), len(received)
        assert cycle() - since < 2000, f"{len(received)} of {count} bytes, no more since cycle {since}"
        await RisingEdge(dut.clk)
    for _ in range(int(20 * parameters())):
        await RisingEdge(dut.clk)
        assert dut.tx.value
    assert len(received) == count


@cocotb.test
@cocotb.parametrize(idle=IDLE, faster=(-0.02, 0, 0.02))
async def any_bytes_at_any_pace(dut: Any, idle: str, faster: float) -> None:
    await start(dut)
    source, rng, received = Source(dut, "i", 8, pace(idle, 1)), Random(f"{idle} {faster}"), bytearray()
    cocotb.start_soon(listen(dut.tx, round(parameters() * PERIOD_PS / (1 + faster)), received))
    data = b""
    for _ in range(3):
        part = rng.randbytes(rng.randint(1, 20))
        data += part
        source.send(part)
        await heard(dut, received, len(data))
    assert received == data


@cocotb.test
async def at_rest_from_the_start(dut: Any) -> None:
    await start(dut)
    for _ in range(100):
        assert dut.tx.value
        await RisingEdge(dut.clk)


@cocotb.test
async def latency(dut: Any) -> None:
    await start(dut)
    source = Source(dut, "i", 8, pace("steady", 1))
    source.send(b"a")
    while not (dut.i__valid.value and dut.i__ready.value):
        await RisingEdge(dut.clk)
    taken = cycle()
    while dut.tx.value:
        await RisingEdge(dut.clk)
    assert cycle() - taken == 2


@cocotb.test
async def bytes_follow_without_a_pause(dut: Any) -> None:
    """100 of them take as long as their bits, by the rate rounded to 1 in 4,000."""
    await start(dut)
    source, received = Source(dut, "i", 8, pace("steady", 1)), bytearray()
    cocotb.start_soon(listen(dut.tx, round(parameters() * PERIOD_PS), received))
    source.send(b"\x55" * 101)
    await FallingEdge(dut.tx)
    begin = get_sim_time("ps")
    edges = 0
    while edges < 100 * 5:
        await FallingEdge(dut.tx)
        edges += 1
    bits = (get_sim_time("ps") - begin) / (parameters() * PERIOD_PS)
    assert abs(bits / 1000 - 1) < 1 / 4000
