"""A serial port: bytes as 8N1 on two wires, at any clock and any rate from 4 cycles a bit on.

A bit is 2^n units of phase, of which every cycle adds as many as the rate asks for, rounded by less than 1 in 4,000;
bytes begin anew, so that this does not add up.
"""

from math import ceil, log2

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer  # type: ignore[import-untyped]  # not in the stubs
from amaranth.lib.wiring import In, Out

__all__ = ["MIN_CYCLES", "UartReceiver", "UartTransmitter", "phase_steps"]

MIN_CYCLES = 4
"""Cycles a bit that are enough for clocks 2 % apart."""

_BITS = 10
"""Start, 8 of data from bit 0 up, stop."""


def phase_steps(clock_hz: float, baud: int) -> tuple[int, int]:
    """Bits of the phase, and what a cycle adds to it. Raises ValueError for fewer than MIN_CYCLES cycles a bit."""
    cycles = clock_hz / baud
    if cycles < MIN_CYCLES:
        raise ValueError(f"{baud} baud need a clock of at least {MIN_CYCLES * baud} Hz, not {clock_hz:.0f} Hz")
    bits = ceil(log2(cycles)) + 11
    return bits, round((1 << bits) / cycles)


class UartReceiver(wiring.Component):
    """From a wire to bytes. Latency 3 cycles from the middle of the stop bit.

    rx    the wire, 1 at rest
    o     bytes, there for one cycle: nothing stops the far end of two wires
    lost  a byte was lost: it had no stop bit, or was not taken. After that, and at first, the wire must have been at
          rest before a byte begins.
    """

    def __init__(self, clock_hz: float, baud: int) -> None:
        self._phase = phase_steps(clock_hz, baud)
        super().__init__({"rx": In(1), "o": Out(stream.Signature(8)), "lost": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, line, init=1)

        phase_bits, step = self._phase
        phase, middle = Signal(phase_bits), Signal()
        bits, count = Signal(8), Signal(range(_BITS))
        m.d.comb += self.o.payload.eq(bits)
        m.d.sync += Cat(phase, middle).eq(phase + step)
        with m.FSM(init="Wait", name="wire"):
            with m.State("Rest"):
                # The start bit began up to a cycle ago, and `middle` comes a cycle after its phase or up to two: half
                # a bit and two cycles ahead, each bit is looked at within a cycle of its middle.
                m.d.sync += [Cat(phase, middle).eq((1 << phase_bits >> 1) + 2 * step), count.eq(0)]
                with m.If(~line):
                    m.next = "Byte"
            with m.State("Byte"), m.If(middle):
                m.d.sync += [bits.eq(Cat(bits[1:], line)), count.eq(count + 1)]
                with m.If((count == 0) & line):
                    m.next = "Rest"  # too short for a start bit
                with m.If(count == _BITS - 1):
                    m.d.comb += [self.o.valid.eq(line), self.lost.eq(~(line & self.o.ready))]
                    m.next = "Wait"
                    with m.If(line):
                        m.next = "Rest"
            with m.State("Wait"), m.If(line):
                m.next = "Rest"
        return m


class UartTransmitter(wiring.Component):
    """From bytes to a wire. Latency 2 cycles to the start bit; while bytes wait, they follow without a pause.

    i   bytes
    tx  the wire, 1 at rest
    """

    def __init__(self, clock_hz: float, baud: int) -> None:
        self._phase = phase_steps(clock_hz, baud)
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The byte that waits is held in a register, so that `ready` is one too.
        waiting, byte = Signal(), Signal(8)
        m.d.comb += self.i.ready.eq(~waiting)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [waiting.eq(1), byte.eq(self.i.payload)]

        phase_bits, step = self._phase
        phase, end, free = Signal(phase_bits), Signal(), Signal()
        bits, left = Signal(_BITS - 1, init=-1), Signal(range(_BITS + 1))
        m.d.comb += [
            self.tx.eq(bits[0]),
            free.eq((left == 0) | (end & (left == 1))),
        ]
        # The phase goes on into a byte that follows at once, or each would be rounded up to whole cycles.
        m.d.sync += Cat(phase, end).eq(Mux(left == 0, 0, phase) + step)
        with m.If(end):
            m.d.sync += [bits.eq(Cat(bits[1:], Const(1, 1))), left.eq(left - 1)]
        with m.If(waiting & free):
            m.d.sync += [waiting.eq(0), bits.eq(Cat(Const(0, 1), byte)), left.eq(_BITS)]
        return m
