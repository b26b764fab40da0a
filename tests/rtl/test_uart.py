"""Both ends of a serial wire on one clock, at any rate and with any pauses."""

from random import Random
from typing import Any

import cocotb
import pytest
from amaranth import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from hypothesis import assume, given
from hypothesis import strategies as st

from locallearn.rtl.uart import MIN_CYCLES, UartReceiver, UartTransmitter, phase_steps
from locallearn.sim.bench import start
from locallearn.sim.streams import IDLE, Sink, Source, pace
from tests.rtl.conftest import Bench


class Loop(wiring.Component):
    """What goes in at one end of a wire comes out at the other."""

    def __init__(self, clock_hz: float, baud: int) -> None:
        self.transmitter, self.receiver = UartTransmitter(clock_hz, baud), UartReceiver(clock_hz, baud)
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8)), "lost": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.transmitter, m.submodules.receiver = self.transmitter, self.receiver
        wiring.connect(m, wiring.flipped(self.i), self.transmitter.i)
        wiring.connect(m, self.receiver.o, wiring.flipped(self.o))
        m.d.comb += [self.receiver.rx.eq(self.transmitter.tx), self.lost.eq(self.receiver.lost)]
        return m


RATES = [(round(1e6 * Random(seed).uniform(4, 12)), 1_000_000) for seed in range(3)]


@pytest.mark.parametrize(("clock_hz", "baud"), RATES)
def test_loop(bench: Bench, clock_hz: int, baud: int) -> None:
    bench(Loop(clock_hz, baud))


@given(st.integers(4_000_000, 400_000_000), st.integers(1200, 12_000_000))
def test_the_rate_is_exact_to_1_in_4000(clock_hz: int, baud: int) -> None:
    assume(clock_hz >= MIN_CYCLES * baud)
    bits, step = phase_steps(clock_hz, baud)
    assert 0 < step < 1 << bits
    assert abs(step * clock_hz / (baud << bits) - 1) < 1 / 4000


def test_too_fast() -> None:
    with pytest.raises(ValueError, match=r"^3000000 baud need a clock of at least 12000000 Hz, not 11999999 Hz$"):
        phase_steps(11_999_999, 3_000_000)


@cocotb.test
@cocotb.parametrize(idle=IDLE)
async def any_bytes_at_any_pace(dut: Any, idle: str) -> None:
    await start(dut)
    source, sink = Source(dut, "i", 8, pace(idle, 1)), Sink(dut, "o", 8, pace("steady", 2))
    data = Random(idle).randbytes(200)
    source.send(data)
    await sink.expect(data)
    assert not dut.lost.value
    sink.expect_nothing_more()
