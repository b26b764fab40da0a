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

    The totals lie in a memory, each as two halves, and share one adder of half their width: in every other cycle the
    next counter takes what has come for it since its last turn, and 3 cycles later its upper half takes the carry. A
    step is in its total at most `latency` cycles later.

    names   two or more
    clear   all to 0, in `latency` cycles without a step
    select  which one is at `value` after `latency` cycles
    """

    def __init__(self, names: tuple[str, ...], steps: Mapping[str, Value], target: Target) -> None:
        self._target = target
        self._steps = [steps[name] for name in names]
        self._names = names
        self._turn = 2 * len(names)
        self.latency = self._turn + 8
        super().__init__({"clear": In(1), "select": In(range(len(names))), "value": Out(COUNTER_BITS)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        half = COUNTER_BITS // 2
        m.submodules.totals = totals = small_memory(self._target, half, self._turn)
        read, write = totals.read_port(), totals.write_port()
        # Stage 0 reads half a total and takes what has come, stage 1 adds them, stage 2 writes the sum back.
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
            m.d.sync += [came.eq(step), sum.eq(Mux(turn[0] == 2 * number, 0, sum) + came)]
            with m.If(self.clear):
                m.d.sync += sum.eq(0)
            pending.append(sum)

        clearing, total = Signal(range(self.latency)), Signal(half + 1)
        increment, carry = Signal(max(len(sum) for sum in pending)), Signal()
        with m.If(clearing != 0):
            m.d.sync += clearing.eq(clearing - 1)
        with m.If(self.clear):
            m.d.sync += clearing.eq(self.latency - 1)
        m.d.sync += [
            carry.eq(total[-1]),
            increment.eq(Mux(turn[0][0], carry, Array(pending)[turn[0][1:]])),
            total.eq(Mux(clearing == 0, read.data + increment, 0)),
        ]
        m.d.comb += [
            read.addr.eq(turn[0]),
            write.addr.eq(turn[2]),
            write.data.eq(total),
            write.en.eq(1),
        ]
        selected = Signal(4)
        m.d.comb += selected[0].eq(turn[2] == self.select << 1)
        m.d.sync += selected[1:].eq(selected)
        with m.If(selected[0]):
            m.d.sync += self.value[:half].eq(total)
        with m.If(selected[3]):
            m.d.sync += self.value[half:].eq(total)
        return m
