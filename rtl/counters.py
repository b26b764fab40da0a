"""A bank of event counters that the host reads and clears."""

from collections.abc import Mapping

from amaranth import Array, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.registers import COUNTER_BITS

__all__ = ["CounterBank"]


class CounterBank(wiring.Component):
    """Counters in the order of `names`, each growing by the value that `step` holds for it.

    clear   all to 0
    select  which one is at `value`, latency 1 cycle
    """

    def __init__(self, names: tuple[str, ...], steps: Mapping[str, Value]) -> None:
        self._steps = [steps[name] for name in names]
        self._names = names
        super().__init__({"clear": In(1), "select": In(range(len(names))), "value": Out(COUNTER_BITS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bank = [Signal(COUNTER_BITS, name=name) for name in self._names]
        for counter, step in zip(bank, self._steps, strict=True):
            m.d.sync += counter.eq(counter + step)
        with m.If(self.clear):
            m.d.sync += [counter.eq(0) for counter in bank]
        m.d.sync += self.value.eq(Array(bank)[self.select])
        return m
