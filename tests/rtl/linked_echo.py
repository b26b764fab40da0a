"""A stand-in for the chip behind its link: it answers each byte, when it likes to."""

from random import Random

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.rtl.link import Link
from locallearn.rtl.target import GENERIC

__all__ = ["Answerer", "LinkedAnswerer", "answers"]

_SILENCE = 40
"""Cycles that it takes to come to rest."""


def answers(data: bytes, talk: int) -> bytes:
    """What is said to these bytes: each once and `talk` times more, counting on from it."""
    return bytes((byte + more) % 256 for byte in data for more in range(talk + 1))


class Answerer(wiring.Component):
    """Takes a byte, says `answers` to it, and takes its time for either.

    rest   each transfer waits for a cycle that a random number of 0 to `rest` calls one
    abort  as of the chip: an answer under way goes on, and it takes a while until all is at rest
    idle   at rest
    """

    def __init__(self, talk: int, rest: int) -> None:
        self._talk = talk
        self._rest = rest
        byte = stream.Signature(8)
        super().__init__({"i": In(byte), "o": Out(byte), "abort": In(1), "idle": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        noise, wait = Signal(16, init=Random(self._rest).randrange(1, 1 << 16)), Signal(range(self._rest + 1))
        m.d.sync += noise.eq((noise << 1) | (noise[15] ^ noise[13] ^ noise[12] ^ noise[10]))
        willing = Signal()
        m.d.comb += willing.eq(wait == 0)
        m.d.sync += wait.eq(Mux(willing, Mux(noise < (1 << 16) - 256, noise % (self._rest + 1), self._rest), wait - 1))
        byte, left, age = Signal(8), Signal(range(self._talk + 1)), Signal(range(_SILENCE + 1))
        offered = Signal()
        m.d.comb += [self.o.payload.eq(byte), self.o.valid.eq(offered)]
        m.d.sync += age.eq(Mux(age == 0, 0, age - 1))
        with m.FSM():
            with m.State("Listen"):
                m.d.comb += [self.i.ready.eq(willing), self.idle.eq(age == 0)]
                with m.If(self.i.valid & willing):
                    m.d.sync += [byte.eq(self.i.payload), left.eq(self._talk)]
                    m.next = "Think"
            with m.State("Think"), m.If(willing):
                m.d.sync += offered.eq(1)
                m.next = "Answer"
            with m.State("Answer"), m.If(self.o.ready):
                m.d.sync += [offered.eq(0), byte.eq(byte + 1), left.eq(left - 1)]
                m.next = "Think"
                with m.If(left == 0):
                    m.d.sync += age.eq(_SILENCE)
                    m.next = "Listen"
        return m


class LinkedAnswerer(wiring.Component):
    """The link with an `Answerer` behind it, as the simulated chip has them."""

    def __init__(self, link_bytes: int, talk: int, rest: int) -> None:
        self._parts = Link(GENERIC, link_bytes), Answerer(talk, rest)
        byte = stream.Signature(8)
        super().__init__({"i": In(byte), "o": Out(byte), "idle": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.link, m.submodules.chip = link, chip = self._parts
        wiring.connect(m, wiring.flipped(self.i), link.i)
        wiring.connect(m, link.o, wiring.flipped(self.o))
        wiring.connect(m, link.to_chip, chip.i)
        wiring.connect(m, chip.o, link.from_chip)
        m.d.comb += [chip.abort.eq(link.abort), link.at_rest.eq(chip.idle), self.idle.eq(link.idle & chip.idle)]
        return m
