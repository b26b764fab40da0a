"""Leap-forward LFSRs: the classifier's signs and the rounding noise. The sequence is that of `quant/lfsr.py`."""

from functools import reduce
from operator import xor

from amaranth import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.lfsr import STATE_BITS, TAPS

__all__ = ["LeapLfsr", "sequence"]


def sequence(m: Module, state: Value, count: int) -> Value:
    """The next `count` bits of the sequence, the first in bit 0: wires and XORs of the state only.

    Made in words as long as the taps allow, which simulate many times faster than single bits. Words that others are
    made from are signals of `m`: an expression would be repeated in each place that it stands in.
    """
    bits = state
    while len(bits) < count:
        known, new = len(bits), min(min(TAPS), count - len(bits))
        word: Value = reduce(xor, (bits[known - tap :][:new] for tap in TAPS))
        if known + new < count:
            shared = Signal(new, name=f"bits_{known}")
            m.d.comb += shared.eq(word)
            word = shared
        bits = Cat(bits, word)
    return bits[:count]


class LeapLfsr(wiring.Component):
    """A register that leaps `leap` bits forward when told to. Latency 1 cycle, one leap a cycle.

    load   take `seed` as the state; goes before `step`
    step   leap
    state  now
    """

    def __init__(self, leap: int) -> None:
        self._leap = leap
        super().__init__({"load": In(1), "seed": In(STATE_BITS), "step": In(1), "state": Out(STATE_BITS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        following = sequence(m, self.state, self._leap + STATE_BITS)[self._leap :]
        with m.If(self.load):
            m.d.sync += self.state.eq(self.seed)
        with m.Elif(self.step):
            m.d.sync += self.state.eq(following)
        return m
