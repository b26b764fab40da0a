"""Says that a chip hangs."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["PATIENCE", "Watchdog"]

PATIENCE = 1 << 26
"""Cycles: half a second to some seconds; a large network's longest sample takes a hundredth of that."""


class Watchdog(wiring.Component):
    """Sees whether anything goes on.

    work   there is something to do
    moves  something has been done
    stuck  there was work in each of `patience` cycles, and nothing moved since; stays
    """

    def __init__(self, patience: int = PATIENCE) -> None:
        self._patience = patience
        super().__init__({"work": In(1), "moves": In(1), "stuck": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        age = Signal(range(self._patience + 1))
        m.d.sync += age.eq(Mux(self.work & ~self.moves, age + 1, 0))
        with m.If(age == self._patience):
            m.d.sync += [self.stuck.eq(1), age.eq(age)]
        return m
