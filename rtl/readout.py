"""Readout: a group's sums leave the lanes one neuron a cycle, clamped to activations."""

from functools import reduce
from itertools import pairwise
from operator import or_

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import LayerPlan
from locallearn.rtl.arithmetic import clamp
from locallearn.rtl.layouts import activation_layout

__all__ = ["Readout"]


class Readout(wiring.Component):
    """Holds the sums of one group while the lanes go on, and streams clamp(sum >> shift), negatives as 0.

    A sample is `neurons` activations; to a convolution, which counts its places and groups itself, a group is one.

    load          for every bank of lanes: take its `accumulators`, which include half a unit for the rounding. The
                  first bank's only after the group before has `left`, the others' one after another behind it
    accumulators  of all lanes
    left          the group's last activation has been on its way for a cycle, the next group may be loaded
    enable        a sample may begin to leave
    flush         forget a group of a sample that has not begun to leave
    o             activations in neuron order; `timing.READOUT` cycles after the first load, one a cycle
    """

    def __init__(self, plan: LayerPlan, neurons: int) -> None:
        self._plan = plan
        self._neurons = neurons
        self._banks = plan.banks
        super().__init__(
            {
                "load": In(len(self._banks)),
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
        value = signed(p.accumulator_bits - p.requantise_shift)
        sums = [Signal(value, name=f"sum_{i}", reset_less=True) for i in range(p.lanes)]
        for load, lanes in zip(self.load, self._banks, strict=True):
            with m.If(load):
                m.d.sync += [sums[i].eq(self.accumulators[i] >> p.requantise_shift) for i in lanes]

        # The lane whose turn it is has a one, which wanders past them all: that needs no wire across the chip.
        neuron, turn = Signal(range(self._neurons)), Signal(p.lanes, init=1)
        begun, last = Signal(), Signal(init=self._neurons == 1)
        busy, ending, choose, advance = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            # While a sample's last neuron is on its way, it is not known yet whether the next sample may begin.
            choose.eq(busy & (begun | (self.enable & ~ending))),
            advance.eq(~self.o.valid | self.o.ready),
        ]
        m.d.sync += self.left.eq(0)
        with m.If(self.o.valid & self.o.ready & self.o.payload.last):
            m.d.sync += ending.eq(0)
        with m.If(advance & choose):
            m.d.sync += [neuron.eq(neuron + 1), turn.eq(turn.rotate_left(1)), begun.eq(~last)]
            if self._neurons > 1:
                m.d.sync += last.eq(neuron == self._neurons - 2)
            with m.If(last | turn[-1]):
                m.d.sync += [busy.eq(0), self.left.eq(1)]
            with m.If(last):
                m.d.sync += [neuron.eq(0), ending.eq(1)]
                if self._neurons % p.lanes:
                    m.d.sync += turn.eq(1)

        # Stage 1: the lane, from its bank; 0 from the others. Stage 2: from all of them. Stage 3, the output: clamped.
        valid = [choose, Signal(name="valid_1"), Signal(name="valid_2"), self.o.valid]
        which = [Signal(activation_layout(p), name=f"which_{i}") for i in range(3)]
        lane_sums = [Signal(value, name=f"lane_sum_{i}", reset_less=True) for i in range(len(self._banks))]
        # Where sums are few and small, they are narrower than an activation.
        wide = signed(max(value.width, p.output_format.bits + 1))
        total = Signal(wide, reset_less=True)
        m.d.comb += [which[0].index.eq(neuron), which[0].first.eq(~begun), which[0].last.eq(last)]
        with m.If(advance):
            m.d.sync += [
                *(late.eq(early) for stages in (valid, which) for early, late in pairwise(stages)),
                *(
                    sum.eq(reduce(or_, (Mux(turn[i], sums[i], 0) for i in lanes)))
                    for sum, lanes in zip(lane_sums, self._banks, strict=True)
                ),
                total.eq(reduce(or_, lane_sums)),
                self.o.payload.eq(which[2]),
                self.o.payload.value.eq(clamp(total, p.output_format)[0]),
                self.o.payload.active.eq(~total[-1] & total.any()),
            ]
        with m.If(self.load[0]):
            m.d.sync += busy.eq(1)
        with m.If(self.flush):
            m.d.sync += busy.eq(0)
        return m
