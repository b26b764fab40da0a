"""The local classifier: scores forward and the error's projection back, from matrices that are made, not stored."""

from functools import reduce
from operator import or_

from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import LayerPlan
from locallearn.quant.lfsr import STATE_BITS
from locallearn.rtl.arithmetic import adder_tree
from locallearn.rtl.groups import group_members, pass_groups, walk_groups
from locallearn.rtl.layouts import activation_layout
from locallearn.rtl.lfsr import LeapLfsr, sequence
from locallearn.rtl.memory import small_memory
from locallearn.rtl.target import Target
from locallearn.rtl.timing import score_cycles

__all__ = ["Classifier"]


class Classifier(wiring.Component):
    """Scores S' = M' y (or S = M y) while the activations pass, then h = K' e (or d = K e) in the same order.

    A feature's row of M is made from the next `plan.matrix_bits` bits of one LFSR, and what its row of K has beyond
    M's bits from the next `plan.feedback_bits` of another. Both restart from their seeds for each pass.

    seed, feedback_seed
                states that a pass starts with; the latter where K has bits of its own
    restart     loads them, before the first pass of all and after each
    activation  one feature where `take` is high, in order; one a cycle
    scores      complete `timing.score_cycles` + 2 cycles after the last activation
    errors      e, stable from `project` to the last group; where it is minus the label, only `label`, the class
    decay       what the learning rate's shift has grown by
    and the members of `groups.group_members`.
    """

    def __init__(self, plan: LayerPlan, target: Target) -> None:
        self._plan = plan
        self._target = target
        members = {
            "seed": In(STATE_BITS),
            "restart": In(1),
            "activation": In(activation_layout(plan)),
            "take": In(1),
            "scores": Out(Shape(plan.score_bits, plan.signed_scores)).array(plan.classes),
            "decay": In(range(plan.max_decay + 1)),
        } | group_members(plan)
        if plan.feedback_bits:
            members["feedback_seed"] = In(STATE_BITS)
        if plan.classifier.error == "label":
            members["label"] = In(range(plan.classes))
        else:
            members["errors"] = In(signed(plan.error_width)).array(plan.classes)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p, spec = self._plan, self._plan.classifier
        m.submodules.lfsr = lfsr = LeapLfsr(p.matrix_bits)
        m.submodules.active = active = small_memory(self._target, 1, p.features)
        drawn = _entries(sequence(m, lfsr.state, p.matrix_bits), p.classes)

        # Forward. The first activation clears the scores on its way. The product with an entry of a single bit is an
        # AND, and goes straight into the sum.
        taken, value = Signal(), Signal(p.output_format.bits, reset_less=True)
        m.d.sync += [taken.eq(self.take), value.eq(self.activation.value)]
        added: Value = taken
        for _ in range(score_cycles(p)):
            later = Signal()
            m.d.sync += later.eq(added)
            added = later
        for score, entry in zip(self.scores, drawn, strict=True):
            terms = _terms(entry, spec.matrix_weights, value, p.signed_scores)
            product = terms[0] if len(terms) == 1 else adder_tree(m, terms, score.shape())[0]
            with m.If(self.take & self.activation.first):
                m.d.sync += score.eq(0)
            with m.Elif(added):
                m.d.sync += score.eq(score + product)
        remember = active.write_port()
        m.d.comb += [
            remember.addr.eq(self.activation.index),
            remember.data.eq(self.activation.active),
            remember.en.eq(self.take),
        ]

        # Backward, stage 0: walk over the features of a group while its register is free.
        recall = active.read_port()
        walking, feature = walk_groups(m, p, self)
        m.d.comb += recall.addr.eq(feature)

        # Stage 1: entries meet errors. Lanes beyond the last feature contribute nothing and take no entries.
        valid, real = Signal(), Signal()
        m.d.sync += [valid.eq(walking), real.eq(walking & (feature < p.features))]
        m.d.comb += [
            lfsr.seed.eq(self.seed),
            lfsr.load.eq(self.restart),
            lfsr.step.eq(taken | real),
        ]
        shape = signed(p.scaled_error_width - p.max_decay)
        products = self._project(m, self._feedback(m, drawn, real), real & recall.data)
        terms = [Signal(shape, name=f"term_{i}", reset_less=True) for i in range(len(products))]
        m.d.sync += [term.eq(product) for term, product in zip(terms, products, strict=True)]
        total, latency = adder_tree(m, terms, shape)

        # Last stage: scaled to the rate's decay, to its lane.
        arrived = Signal(latency + 1)
        m.d.sync += [
            arrived.eq(Cat(valid, arrived)),
            self.load_g.eq(arrived[-1]),
            self.next_g.eq(total << (p.max_decay - self.decay)[: p.max_decay.bit_length()]),
        ]
        pass_groups(m, p, self)
        return m

    def _feedback(self, m: Module, drawn: list[list[Value]], step: Value) -> list[list[Value]]:
        """The bits of a neuron's row of K, from those of its row of M; what is its own moves on by `step`."""
        p = self._plan
        if not p.feedback_bits:
            return drawn
        m.submodules.feedback = lfsr = LeapLfsr(p.feedback_bits)
        m.d.comb += [lfsr.seed.eq(self.feedback_seed), lfsr.load.eq(self.restart), lfsr.step.eq(step)]
        own = _entries(sequence(m, lfsr.state, p.feedback_bits), p.classes)
        if p.classifier.feedback == "sign-concordant":
            return [[*bits, entry[-1]] for bits, entry in zip(own, drawn, strict=True)]
        return own

    def _project(self, m: Module, feedback: list[list[Value]], gate: Value) -> list[Value]:
        """What is to be added up for a feature, all 0 without `gate`."""
        p, weights = self._plan, self._plan.classifier.feedback_weights
        if p.classifier.error == "label":
            # Of a row only the label's entry counts.
            is_label = Signal(p.classes)
            m.d.sync += is_label.eq(Cat(self.label == c for c in range(p.classes)))
            chosen = [
                reduce(or_, (this & bit for this, bit in zip(is_label, bits, strict=True)))
                for bits in zip(*feedback, strict=True)
            ]
            terms = _terms(chosen, weights, Const(-1 << p.error_bits), signed=True)
            return [Mux(gate, term, 0) for term in terms]
        products: list[Value] = []
        for entry, e in zip(feedback, self.errors, strict=True):
            if p.signed_feedback:
                products += [Mux(gate, term, 0) for term in _terms(entry, weights, e, signed=True)]
            else:
                products += _terms([bit & gate for bit in entry], weights, e, signed=False)
        return products


def _entries(bits: Value, classes: int) -> list[list[Value]]:
    """The bits of a row's entries, smallest weight first."""
    size = len(bits) // classes
    return [[bits[size * c + i] for i in range(size)] for c in range(classes)]


def _terms(entry: list[Value], weights: tuple[int, ...], value: Value, signed: bool) -> list[Value]:
    """What to add up for `value` times an entry: its weighted bits, or with `signed` their signs."""
    shifted = [value << (weight.bit_length() - 1) if weight > 1 else value for weight in weights]
    return [Mux(bit, v, -v if signed else 0) for bit, v in zip(entry, shifted, strict=True)]
