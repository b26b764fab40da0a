"""A bank of event counters that the host reads and clears."""

from collections.abc import Mapping

from amaranth import Array, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.registers import COUNTER_BITS
from locallearn.rtl.memory import small_memory
from locallearn.rtl.target import Target

__all__ = ["CounterBank"]


class CounterBank(wiring.Component):
    """Counters in the order of `names`, each growing by the value that `step` holds for it.

    The totals lie in a memory and share one adder: in every cycle the next counter takes what has come for it since
    its last turn. A step is in its total at most `latency` cycles later.

    clear   all to 0, in `latency` cycles without a step
    select  which one is at `value` after `latency` cycles
    """

    def __init__(self, names: tuple[str, ...], steps: Mapping[str, Value], target: Target) -> None:
        self._target = target
        self._steps = [steps[name] for name in names]
        self._names = names
        self._turn = max(len(names), 3)
        self.latency = self._turn + 5
        super().__init__({"clear": In(1), "select": In(range(len(names))), "value": Out(COUNTER_BITS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.totals = totals = small_memory(self._target, COUNTER_BITS, len(self._names))
        read, write = totals.read_port(), totals.write_port()
        # Stage 0 reads a total and takes what has come, stage 1 adds them, stage 2 writes the sum back.
        turn = [Signal(range(self._turn), name=f"turn_{i}") for i in range(3)]
        m.d.sync += [
            turn[0].eq(Mux(turn[0] == self._turn - 1, 0, turn[0] + 1)),
            turn[1].eq(turn[0]),
            turn[2].eq(turn[1]),
        ]
        pending = []
        for number, (name, step) in enumerate(zip(self._names, self._steps, strict=True)):
            came = Signal(len(step), name=f"{name}_step")
            sum = Signal(range(self._turn * ((1 << len(step)) - 1) + 1), name=f"{name}_pending")
            m.d.sync += [came.eq(step), sum.eq(Mux(turn[0] == number, 0, sum) + came)]
            with m.If(self.clear):
                m.d.sync += sum.eq(0)
            pending.append(sum)

        clearing, total = Signal(range(self.latency)), Signal(COUNTER_BITS)
        increment = Signal(max(len(sum) for sum in pending))
        with m.If(clearing != 0):
            m.d.sync += clearing.eq(clearing - 1)
        with m.If(self.clear):
            m.d.sync += clearing.eq(self.latency - 1)
        m.d.sync += [
            increment.eq(Array(pending)[turn[0]]),
            total.eq(Mux(clearing == 0, read.data + increment, 0)),
        ]
        m.d.comb += [
            read.addr.eq(turn[0]),
            write.addr.eq(turn[2]),
            write.data.eq(total),
            write.en.eq(turn[2] < len(self._names)),
        ]
        with m.If(turn[2] == self.select):
            m.d.sync += self.value.eq(total)
        return m
