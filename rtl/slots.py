"""A buffer's slots: the bytes of a frame's payload from 0 on, and behind them all how many they are."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.frames import SLOT_BYTES

__all__ = ["LENGTH_AT", "SlotReader"]

LENGTH_AT = SLOT_BYTES - 1
"""Where in the slot its length is."""


class SlotReader(wiring.Component):
    """The bytes of a slot, out of a `BlockMemory`. Latency 5 cycles to the first, then one a cycle.

    bits     of a slot's number

    there    the slot holds a frame
    slot     its number, the same until `done`
    address, read, enable, data  of the memory
    o        its bytes, held in the memory's output register
    done     the last of them is taken, or there is none
    clear    begin with a slot anew
    """

    def __init__(self, bits: int) -> None:
        super().__init__(
            {
                "there": In(1),
                "slot": In(bits),
                "address": Out(range(SLOT_BYTES << bits)),
                "read": Out(1),
                "enable": Out(1),
                "data": In(8),
                "o": Out(stream.Signature(8)),
                "done": Out(1),
                "clear": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        place, length = Signal(range(SLOT_BYTES), init=LENGTH_AT), Signal(range(SLOT_BYTES))
        # Whether the memory has something, and its output register; at first the length, alone, then bytes.
        before, full, inside = Signal(), Signal(), Signal()
        more, leaves = Signal(), Signal()
        m.d.comb += [
            more.eq(Mux(inside, place != length, ~before & ~full)),
            leaves.eq(full & (self.o.ready | ~inside)),
            self.enable.eq(before & (~full | leaves)),
            self.read.eq(self.there & more & (~before | self.enable)),
            self.address.eq(Cat(place, self.slot)),
            self.o.valid.eq(full & inside),
            self.o.payload.eq(self.data),
            # Or there is none, as in a slot that is just being filled again: what the host has is sent once more where
            # the chip went back too far, and means nothing to it.
            self.done.eq(inside & (place == length) & ~before & (~full | self.o.ready)),
        ]
        m.d.sync += [before.eq(self.read | (before & ~self.enable)), full.eq(self.enable | (full & ~leaves))]
        with m.If(self.read):
            m.d.sync += place.eq(place + 1)
        with m.If(full & ~inside):
            m.d.sync += [length.eq(self.data), inside.eq(1)]
        with m.If(self.done | self.clear):
            m.d.sync += [place.eq(LENGTH_AT), inside.eq(0), full.eq(0), before.eq(0)]
        return m
