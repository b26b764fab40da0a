"""Says that a chip hangs."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Watchdog"]

_PATIENCE_BITS = 26
"""Of cycles: half a second to some seconds; a large network's longest sample takes a hundredth of that."""


class Watchdog(wiring.Component):
    """Sees whether anything goes on.

    patience_bits  of 2^patience_bits cycles

    work   there is something to do
    moves  something has been done
    stuck  there was work in each of so many cycles, and nothing moved since; stays
    """

    def __init__(self, patience_bits: int = _PATIENCE_BITS) -> None:
        self._bits = patience_bits
        super().__init__({"work": In(1), "moves": In(1), "stuck": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        age = Signal(self._bits + 1)
        m.d.sync += age.eq(age + 1)
        with m.If(~self.work | self.moves):
            m.d.sync += age.eq(0)
        with m.If(age[-1]):
            m.d.sync += self.stuck.eq(1)
        return m
