"""A queue of bytes in block RAM."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.rtl.memory import BlockMemory
from locallearn.rtl.target import Target

__all__ = ["ByteQueue"]

_READ_LATENCY = 2


class ByteQueue(wiring.Component):
    """First in, first out. Latency 5 cycles; takes a byte a cycle and gives one every 4, without a path from `o.ready`.

    i  bytes; ready while fewer than `depth` wait, which is rounded up to a power of 2
    o  bytes, held in a register
    """

    def __init__(self, target: Target, depth: int) -> None:
        self._target = target
        # Positions wrap by themselves.
        self._depth = max(2, 1 << (depth - 1).bit_length())
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = BlockMemory(self._target, 8, self._depth)
        came, went = Signal(range(self._depth)), Signal(range(self._depth))
        level = Signal(range(self._depth + 1))
        taken, given = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~level[-1]),
            taken.eq(self.i.valid & self.i.ready),
            memory.write.eq(taken),
            memory.write_address.eq(came),
            memory.write_data.eq(self.i.payload),
            memory.address.eq(went),
        ]
        m.d.sync += [came.eq(came + taken), went.eq(went + given), level.eq(level + taken - given)]

        # An address stands until its byte has left the memory. In the cycle that a byte is written it may be read as
        # something else, but then nobody has asked for it yet.
        waiting, asked = Signal(), Signal(_READ_LATENCY)
        m.d.comb += given.eq(asked[-1])
        m.d.sync += [
            waiting.eq(level != 0),
            asked.eq(Mux(waiting & ~self.o.valid & ~given, Cat(Const(1, 1), asked), 0)),
        ]
        with m.If(given):
            m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(memory.data)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m
