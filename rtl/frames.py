"""Frames on the line: where they begin and end, what is escaped in them, and their CRC; see `quant/frames.py`."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC  # type: ignore[import-untyped]  # not in the stubs
from amaranth.lib.wiring import In, Out

from locallearn.quant.frames import CRC_BYTES, ESCAPE, FLAG, FLIP
from locallearn.rtl.timing import SAY_CYCLES

__all__ = ["FrameReceiver", "FrameSender"]

_SAY = SAY_CYCLES - 1
"""The last of a byte's steps."""


class FrameReceiver(wiring.Component):
    """From bytes of the line to those of frames, one a cycle. Latency 1 cycle.

    i      bytes, always taken
    byte   of a frame, its CRC's included, where `valid`
    end    the frame's bytes have all been there, or there were none since the last end; never with `valid`
    whole  with `end`: the frame's last bytes were the CRC of the others
    """

    def __init__(self) -> None:
        super().__init__(
            {"i": In(stream.Signature(8)), "byte": Out(8), "valid": Out(1), "end": Out(1), "whole": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(8).create()
        escaped = Signal()
        special = self.i.payload == ESCAPE
        ends = self.i.payload == FLAG
        m.d.comb += [
            self.i.ready.eq(1),
            crc.data.eq(self.byte),
            crc.valid.eq(self.valid),
            crc.start.eq(self.end),
            self.whole.eq(crc.match_detected),
        ]
        m.d.sync += [self.valid.eq(self.i.valid & ~special & ~ends), self.end.eq(self.i.valid & ends)]
        with m.If(self.i.valid):
            m.d.sync += [self.byte.eq(self.i.payload ^ Mux(escaped, FLIP, 0)), escaped.eq(special)]
        return m


class FrameSender(wiring.Component):
    """From bytes of a frame to those of the line, a byte every SAY_CYCLES: the CRC goes bit by bit, for a quarter of
    the LUTs.

    i  bytes; `end` in place of one after a frame's last, taken when all of the frame has been said
    o  bytes, held in a register
    """

    def __init__(self) -> None:
        item = data.StructLayout({"byte": 8, "end": 1})
        super().__init__({"i": In(stream.Signature(item)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(1).create()
        byte, escaped, left = Signal(8), Signal(), Signal(range(CRC_BYTES), init=CRC_BYTES - 1)
        # Of a byte: it is taken over, goes round by 8 bits for the CRC, and is said.
        step = Signal(range(_SAY + 1))
        special, free = Signal(), Signal()
        m.d.comb += [free.eq(~self.o.valid), special.eq(((byte == FLAG) | (byte == ESCAPE)) & ~escaped)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.FSM(name="frame"):
            with m.State("Begin"), m.If(self.i.valid & free):
                m.d.comb += crc.start.eq(1)
                m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(FLAG)]
                m.next = "Bytes"
            with m.State("Bytes"):
                tail = self.i.payload.end
                with m.If(step == 0):
                    m.d.sync += [byte.eq(self.i.payload.byte), step.eq(self.i.valid)]
                with m.Elif(step != _SAY):
                    # What is sent of the CRC comes out of its register, into which its own bits shift zeros.
                    m.d.comb += [crc.valid.eq(1), crc.data.eq(Mux(tail, ~crc.crc[0], byte[0]))]
                    m.d.sync += [byte.eq(Cat(byte[1:], Mux(tail, crc.crc[0], byte[0]))), step.eq(step + 1)]
                with m.Elif(free):
                    m.d.sync += [self.o.valid.eq(1), escaped.eq(special)]
                    m.d.sync += self.o.payload.eq(Mux(special, ESCAPE, byte ^ Mux(escaped, FLIP, 0)))
                    with m.If(~special):
                        m.d.comb += self.i.ready.eq(~tail)
                        m.d.sync += [step.eq(0), left.eq(left - tail)]
                        with m.If(tail & (left == 0)):
                            m.next = "End"
            with m.State("End"), m.If(free):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(FLAG)]
                m.next = "Begin"
        return m
