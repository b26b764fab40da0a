"""The ones of a word, one a cycle."""

from amaranth import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Ones", "one_layout", "word_layout"]


def word_layout(width: int, about: data.Layout) -> data.StructLayout:
    """A word whose ones are wanted, and what else is to be known of it."""
    return data.StructLayout({"word": width, "about": about})


def one_layout(width: int, about: data.Layout) -> data.StructLayout:
    """A one: which bit of the word it is, whether it is the `first` or the `last` of its word."""
    return data.StructLayout({"bit": range(width), "first": 1, "last": 1, "about": about})


class Ones(wiring.Component):
    """Gives the ones of words, lowest first, words one behind another without a pause. Latency 1 cycle.

    i  words, each with a one at least
    o  their ones; without a path from `o.ready` to `o`, with one to `i.ready`
    """

    def __init__(self, width: int, about: data.Layout) -> None:
        self._width = width
        super().__init__(
            {
                "i": In(stream.Signature(word_layout(width, about))),
                "o": Out(stream.Signature(one_layout(width, about))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word, rest, one = (Signal(self._width, name=name) for name in ("word", "rest", "one"))
        m.d.comb += [
            rest.eq(word & (word - 1)),
            one.eq(word & ~rest),
            self.o.valid.eq(word.any()),
            self.o.payload.last.eq(~rest.any()),
            self.i.ready.eq(~self.o.valid | (self.o.ready & self.o.payload.last)),
            # A one at bit i: every bit of i is that of the ones that can stand there.
            self.o.payload.bit.eq(
                Cat(
                    Cat(one[i] for i in range(self._width) if i >> position & 1).any()
                    for position in range((self._width - 1).bit_length())
                )
            ),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += [word.eq(rest), self.o.payload.first.eq(0)]
        with m.If(self.i.ready):
            m.d.sync += [
                word.eq(self.i.payload.word & self.i.valid.replicate(self._width)),
                self.o.payload.about.eq(self.i.payload.about),
                self.o.payload.first.eq(1),
            ]
        return m
