"""Readout: a group's sums leave the lanes one neuron a cycle, requantised to activations."""

from itertools import pairwise

from amaranth import Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.plan import LayerPlan
from locallearn.rtl.arithmetic import clamp
from locallearn.rtl.layouts import activation_layout

__all__ = ["Readout"]


class Readout(wiring.Component):
    """Holds the sums of one group while the lanes go on, and streams clamp(round(sum >> shift)), negatives as 0.

    load          take `accumulators`; only after the group before has `left`
    accumulators  of all lanes
    left          the group's last activation is on its way, the next group may be loaded
    enable        a sample may begin to leave
    flush         forget a group of a sample that has not begun to leave
    o             activations in neuron order; latency 2 cycles from load, one a cycle
    """

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        super().__init__(
            {
                "load": In(1),
                "accumulators": In(signed(plan.accumulator_bits)).array(plan.lanes),
                "left": Out(1),
                "enable": In(1),
                "flush": In(1),
                "o": Out(stream.Signature(activation_layout(plan))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        sums = [Signal(signed(p.accumulator_bits), name=f"sum_{i}", reset_less=True) for i in range(p.lanes)]
        neuron, lane = Signal(range(p.neurons)), Signal(range(p.lanes))
        last = Signal()
        busy, may_begin, advance = Signal(), Signal(), Signal()
        m.d.comb += [
            last.eq(neuron == p.neurons - 1),
            # While a sample's last neuron waits to be taken, it is not known yet whether the next may begin.
            may_begin.eq((neuron != 0) | (self.enable & ~(self.o.valid & self.o.payload.last))),
            advance.eq(busy & may_begin & (~self.o.valid | self.o.ready)),
        ]
        rounded = (sums[0] + (1 << p.requantise_shift >> 1)) >> p.requantise_shift
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(advance):
            m.d.sync += [
                self.o.valid.eq(1),
                self.o.payload.index.eq(neuron),
                self.o.payload.value.eq(clamp(rounded, p.output_format)),
                self.o.payload.first.eq(neuron == 0),
                self.o.payload.last.eq(last),
                *(low.eq(high) for low, high in pairwise(sums)),
                neuron.eq(neuron + 1),
                lane.eq(lane + 1),
            ]
            with m.If(last):
                m.d.sync += neuron.eq(0)
            with m.If(last | (lane == p.lanes - 1)):
                m.d.comb += self.left.eq(1)
                m.d.sync += [lane.eq(0), busy.eq(0)]
        with m.If(self.load):
            m.d.sync += [busy.eq(1), *(s.eq(a) for s, a in zip(sums, self.accumulators, strict=True))]
        with m.If(self.flush):
            m.d.sync += busy.eq(0)
        return m
