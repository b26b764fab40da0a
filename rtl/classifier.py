"""The local classifier: scores forward and the error's projection back, from signs that are made, not stored."""

from amaranth import Cat, Module, Mux, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.lfsr import STATE_BITS
from locallearn.quant.plan import LayerPlan
from locallearn.rtl.arithmetic import adder_tree
from locallearn.rtl.layouts import activation_layout
from locallearn.rtl.lfsr import LeapLfsr, sequence
from locallearn.rtl.memory import small_memory
from locallearn.rtl.target import Target

__all__ = ["Classifier"]


class Classifier(wiring.Component):
    """Scores S' = M' y while the activations pass, then h = M'^T e in the same order with the same signs.

    The signs of a neuron are the next `classes` bits of one LFSR, which restarts from `seed` for each pass.

    seed        state that a pass starts with; `restart` loads it, before the first pass of all and after each
    activation  one activation where `take` is high, in neuron order; one a cycle
    scores      complete two cycles after the last activation
    errors      e, stable from `project` to the last group
    decay       what the learning rate's shift has grown by
    project     start the backward pass, group by group: `load_g` is high once for every lane, with `g_lane` and
                `next_g` = h << (max_decay - decay), 0 for lanes without a neuron; then `group_ready` says that the
                group is whole, `group_zero` that all of it is 0; `next_group` gives the group up and starts the
                following one. A group is ready `timing.group_cycles` after `project` or `next_group`.
    """

    def __init__(self, plan: LayerPlan, target: Target) -> None:
        self._plan = plan
        self._target = target
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
                "load_g": Out(1),
                "g_lane": Out(range(plan.lanes)),
                "next_g": Out(signed(plan.scaled_error_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        m.submodules.lfsr = lfsr = LeapLfsr(p.classes)
        m.submodules.active = active = small_memory(self._target, 1, p.neurons)
        signs = sequence(lfsr.state, p.classes)

        # Forward. An AND for every class: M' is 0 or 1. The first activation clears the scores on its way.
        taken, value = Signal(), Signal(p.output_format.bits, reset_less=True)
        m.d.sync += [taken.eq(self.take), value.eq(self.activation.value)]
        for score, sign in zip(self.scores, signs, strict=True):
            with m.If(self.take & self.activation.first):
                m.d.sync += score.eq(0)
            with m.Elif(taken):
                m.d.sync += score.eq(score + Mux(sign, value, 0))
        remember = active.write_port()
        m.d.comb += [
            remember.addr.eq(self.activation.index),
            remember.data.eq(self.activation.active),
            remember.en.eq(self.take),
        ]

        # Backward, stage 0: walk over the lanes of a group while its register is free.
        recall = active.read_port()
        neuron, lane = Signal(range(p.groups * p.lanes + 1)), Signal(range(p.lanes))
        walking, last_group = Signal(), Signal()
        m.d.comb += recall.addr.eq(neuron)
        m.d.sync += last_group.eq(neuron == p.groups * p.lanes)
        with m.If(walking):
            m.d.sync += [neuron.eq(neuron + 1), lane.eq(lane + 1)]
            with m.If(lane == p.lanes - 1):
                m.d.sync += [lane.eq(0), walking.eq(0)]
        with m.If(self.project):
            m.d.sync += [neuron.eq(0), lane.eq(0), walking.eq(1)]
        with m.If(self.next_group):
            m.d.sync += walking.eq(~last_group)

        # Stage 1: signs meet errors. Lanes beyond the last neuron contribute nothing and take no signs.
        valid, real = Signal(), Signal()
        m.d.sync += [valid.eq(walking), real.eq(walking & (neuron < p.neurons))]
        m.d.comb += [
            lfsr.seed.eq(self.seed),
            lfsr.load.eq(self.restart),
            lfsr.step.eq(taken | real),
        ]
        gate = real & recall.data
        terms = [Signal(signed(p.error_width), name=f"term_{c}", reset_less=True) for c in range(p.classes)]
        m.d.sync += [term.eq(Mux(sign & gate, e, 0)) for term, sign, e in zip(terms, signs, self.errors, strict=True)]
        total, latency = adder_tree(m, terms, Shape(p.error_width, signed=True))

        # Last stage: scaled to the rate's decay, to its lane.
        arrived = Signal(latency + 1)
        m.d.sync += [
            arrived.eq(Cat(valid, arrived)),
            self.load_g.eq(arrived[-1]),
            self.next_g.eq(total << (p.max_decay - self.decay)[: p.max_decay.bit_length()]),
        ]
        with m.If(self.load_g):
            m.d.sync += [
                self.group_zero.eq(((self.g_lane == 0) | self.group_zero) & (self.next_g == 0)),
                self.g_lane.eq(self.g_lane + 1),
            ]
            with m.If(self.g_lane == p.lanes - 1):
                m.d.sync += [self.g_lane.eq(0), self.group_ready.eq(1)]
        with m.If(self.next_group):
            m.d.sync += self.group_ready.eq(0)
        return m
