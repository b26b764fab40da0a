"""The local classifier: scores forward and the error's projection back, from signs that are made, not stored."""

from itertools import pairwise

from amaranth import Cat, Const, Module, Mux, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from locallearn.quant.lfsr import STATE_BITS
from locallearn.quant.plan import LayerPlan
from locallearn.rtl.arithmetic import adder_tree
from locallearn.rtl.layouts import activation_layout
from locallearn.rtl.lfsr import LeapLfsr, sequence

__all__ = ["Classifier"]


class Classifier(wiring.Component):
    """Scores S' = M' y while the activations pass, then h = M'^T e in the same order with the same signs.

    The signs of a neuron are the next `classes` bits of one LFSR, which restarts from `seed` for each pass.

    seed        state that a pass starts with; `restart` loads it, before the first pass of all and after each
    activation  one activation where `take` is high, in neuron order; one a cycle
    scores      complete in the cycle after the last activation
    errors      e, stable from `project` to the last group
    decay       what the learning rate's shift has grown by
    project     start the backward pass, group by group: `group_ready` says that `scaled_errors` holds a whole
                group's g = h << (max_decay - decay), 0 for lanes without a neuron, `group_zero` that all of it is 0;
                `next_group` gives the group up and starts the following one. A group is ready lanes + 2 cycles
                after `project` or `next_group`, and one more for every level of the adder tree.
    """

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        super().__init__(
            {
                "seed": In(STATE_BITS),
                "restart": In(1),
                "activation": In(activation_layout(plan)),
                "take": In(1),
                "scores": Out(plan.score_bits).array(plan.classes),
                "errors": In(signed(plan.error_width)).array(plan.classes),
                "decay": In(range(plan.max_decay + 1)),
                "project": In(1),
                "group_ready": Out(1),
                "group_zero": Out(1),
                "next_group": In(1),
                "scaled_errors": Out(signed(plan.scaled_error_width)).array(plan.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        m.submodules.lfsr = lfsr = LeapLfsr(p.classes)
        m.submodules.active = active = Memory(shape=1, depth=p.neurons, init=[])
        signs = sequence(lfsr.state, p.classes)

        # Forward. An AND for every class: M' is 0 or 1.
        for c in range(p.classes):
            with m.If(self.take):
                m.d.sync += self.scores[c].eq(
                    Mux(self.activation.first, 0, self.scores[c]) + Mux(signs[c], self.activation.value, 0)
                )
        remember = active.write_port()
        m.d.comb += [
            remember.addr.eq(self.activation.index),
            remember.data.eq(self.activation.value != 0),
            remember.en.eq(self.take),
        ]

        # Backward, stage 0: walk over the lanes of a group while its register is free.
        recall = active.read_port()
        neuron, lane = Signal(range(p.groups * p.lanes + 1)), Signal(range(p.lanes))
        walking = Signal()
        m.d.comb += recall.addr.eq(neuron)
        with m.If(walking):
            m.d.sync += [neuron.eq(neuron + 1), lane.eq(lane + 1)]
            with m.If(lane == p.lanes - 1):
                m.d.sync += [lane.eq(0), walking.eq(0)]
        with m.If(self.project):
            m.d.sync += [neuron.eq(0), lane.eq(0), walking.eq(1)]
        with m.If(self.next_group):
            m.d.sync += walking.eq(neuron != p.groups * p.lanes)

        # Stage 1: signs meet errors. Lanes beyond the last neuron contribute nothing and take no signs.
        valid, real = Signal(), Signal()
        m.d.sync += [valid.eq(walking), real.eq(walking & (neuron < p.neurons))]
        m.d.comb += [
            lfsr.seed.eq(self.seed),
            lfsr.load.eq(self.restart),
            lfsr.step.eq(self.take | real),
        ]
        gate = real & recall.data
        terms = [Mux(signs[c] & gate, self.errors[c], Const(0, signed(p.error_width))) for c in range(p.classes)]
        total, latency = adder_tree(m, terms, Shape(p.error_width, signed=True))

        # Last stage: scaled to the rate's decay, into the group's register.
        arrived = Signal(latency)
        m.d.sync += arrived.eq(Cat(valid, arrived))
        scaled = Signal(signed(p.scaled_error_width))
        m.d.comb += scaled.eq(total << (p.max_decay - self.decay)[: p.max_decay.bit_length()])
        filled = Signal(range(p.lanes))
        with m.If(arrived[-1]):
            m.d.sync += [
                *(low.eq(high) for low, high in pairwise([*self.scaled_errors, scaled])),
                self.group_zero.eq(Mux(filled == 0, 1, self.group_zero) & (total == 0)),
                filled.eq(filled + 1),
            ]
            with m.If(filled == p.lanes - 1):
                m.d.sync += [filled.eq(0), self.group_ready.eq(1)]
        with m.If(self.next_group):
            m.d.sync += self.group_ready.eq(0)
        return m
