"""Frames on the line: where they begin and end, what is escaped in them, and their CRC; see `quant/frames.py`."""

from amaranth import Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC  # type: ignore[import-untyped]  # not in the stubs
from amaranth.lib.wiring import In, Out

from locallearn.quant.frames import CRC_BYTES, ESCAPE, FLAG, FLIP

__all__ = ["FrameReceiver", "FrameSender"]


class FrameReceiver(wiring.Component):
    """From bytes of the line to those of frames, one a cycle. Latency 2 cycles.

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
        escaped, valid, flag = Signal(), Signal(), Signal()
        byte = Signal(8)
        special = self.i.payload == ESCAPE
        ends = self.i.payload == FLAG
        m.d.comb += [self.i.ready.eq(1), crc.data.eq(byte), crc.valid.eq(valid), crc.start.eq(flag)]
        m.d.sync += [valid.eq(self.i.valid & ~special & ~ends), flag.eq(self.i.valid & ends)]
        with m.If(self.i.valid):
            m.d.sync += [byte.eq(self.i.payload ^ (escaped << FLIP.bit_length() - 1)), escaped.eq(special)]
        m.d.sync += [
            self.byte.eq(byte),
            self.valid.eq(valid),
            self.end.eq(flag),
            self.whole.eq(crc.match_detected),
        ]
        return m


class FrameSender(wiring.Component):
    """From bytes of a frame to those of the line. At most a byte every 2 cycles.

    i  bytes; `end` in place of one after a frame's last
    o  bytes, held in a register
    """

    def __init__(self) -> None:
        item = data.StructLayout({"byte": 8, "end": 1})
        super().__init__({"i": In(stream.Signature(item)), "o": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(8).create()
        free = Signal()
        m.d.comb += [free.eq(~self.o.valid), crc.data.eq(self.i.payload.byte)]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        escaped, said = Signal(), Signal()

        def say(byte: Value) -> None:
            """The byte, or before it an escape; `said` when that was not needed, or is through."""
            special = ((byte == FLAG) | (byte == ESCAPE)) & ~escaped
            m.d.comb += said.eq(~special)
            m.d.sync += [self.o.valid.eq(1), escaped.eq(special), self.o.payload.eq(byte ^ (escaped << 5))]
            with m.If(special):
                m.d.sync += self.o.payload.eq(ESCAPE)

        word, left = Signal(8 * CRC_BYTES), Signal(range(CRC_BYTES))
        with m.FSM(name="frame"):
            with m.State("Begin"), m.If(self.i.valid & free):
                m.d.comb += crc.start.eq(1)
                m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(FLAG)]
                m.next = "Bytes"
            with m.State("Bytes"), m.If(self.i.valid & free):
                m.d.sync += [word.eq(crc.crc), left.eq(CRC_BYTES - 1)]
                with m.If(self.i.payload.end):
                    m.d.comb += self.i.ready.eq(1)
                    m.next = "CRC"
                with m.Else():
                    say(self.i.payload.byte)
                    m.d.comb += [self.i.ready.eq(said), crc.valid.eq(said)]
            with m.State("CRC"), m.If(free):
                say(word[:8])
                with m.If(said):
                    m.d.sync += [word.eq(word >> 8), left.eq(left - 1)]
                    with m.If(left == 0):
                        m.next = "End"
            with m.State("End"), m.If(free):
                m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(FLAG)]
                m.next = "Begin"
        return m
