"""A buffer's slots: the bytes of a frame's payload from 0 on, and behind them all how many they are."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.frames import SLOT_BYTES

__all__ = ["LENGTH_AT", "SLOT_CYCLES", "SlotReader"]

LENGTH_AT = SLOT_BYTES - 1
"""Where in the slot its length is."""

_BYTE_CYCLES = 2

SLOT_CYCLES = _BYTE_CYCLES * SLOT_BYTES
"""To read a full slot, its length included."""


class SlotReader(wiring.Component):
    """The bytes of a slot, out of a `BlockMemory`. Latency 4 cycles to the first, then one every _BYTE_CYCLES.

    bits     of a slot's number

    there    the slot holds a frame
    slot     its number, the same until `done`
    address, enable, data  of the memory
    o        its bytes, held in the memory's output register
    done     the last of them is taken
    clear    begin with a slot anew
    """

    def __init__(self, bits: int) -> None:
        super().__init__(
            {
                "there": In(1),
                "slot": In(bits),
                "address": Out(range(SLOT_BYTES << bits)),
                "enable": Out(1),
                "data": In(8),
                "o": Out(stream.Signature(8)),
                "done": Out(1),
                "clear": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The next byte's, and whether the memory has had its address for a cycle.
        place, fresh = Signal(range(SLOT_BYTES), init=LENGTH_AT), Signal()
        # What is in the output register: nothing, the length, or a byte.
        full, inside, length = Signal(), Signal(), Signal(range(SLOT_BYTES))
        leaves = Signal()
        m.d.comb += [
            leaves.eq(full & (self.o.ready | ~inside)),
            self.enable.eq(fresh & (~full | leaves)),
            self.address.eq(Cat(place, self.slot)),
            self.o.valid.eq(full & inside),
            self.o.payload.eq(self.data),
            self.done.eq(self.o.valid & self.o.ready & (place == length)),
        ]
        m.d.sync += [fresh.eq(self.there & ~self.enable), full.eq(self.enable | (full & ~leaves))]
        with m.If(self.enable):
            m.d.sync += place.eq(place + 1)
        with m.If(full & ~inside):
            m.d.sync += [length.eq(self.data), inside.eq(1)]
        with m.If(self.done | self.clear):
            m.d.sync += [place.eq(LENGTH_AT), inside.eq(0), full.eq(0), fresh.eq(0)]
        return m
