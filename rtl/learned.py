"""The local classifier that learns: its matrix is kept in block RAM, a row a feature; one multiplier a class."""

from itertools import pairwise

from amaranth import Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import NOISE_LEAP, LayerPlan, lane_rotation
from locallearn.quant.lfsr import STATE_BITS
from locallearn.rtl.arithmetic import adder_tree, clamp
from locallearn.rtl.groups import group_members, pass_groups, walk_groups
from locallearn.rtl.layouts import activation_layout
from locallearn.rtl.lfsr import LeapLfsr
from locallearn.rtl.memory import BlockMemory, small_memory
from locallearn.rtl.multiplier import Multiplier
from locallearn.rtl.target import Target

__all__ = ["LearnedClassifier"]

# The cycle after its row's address in which a neuron ...
_OPERANDS = 3  # meets its entries at the multipliers
_PRODUCT = 6  # has been multiplied by them
_WRITTEN = 9  # has new entries on their way back to the memory


class _Column(wiring.Component):
    """One class's multiplier, which all three passes use.

    entry       of the class in a row that is read in cycle 0; in cycle 2
    project     the other operand is the error's size in place of the activation, in cycle 3
    learn       the error in place of the entry, in cycle 2
    activation  in cycle 3
    error       stable
    scale       how far the error is shifted up to be learned from
    product     of activation or error and entry, in cycle 6
    noise       of the rounding, in cycle 6
    learned     the new entry, by the product of cycle 6, in cycle 9
    """

    def __init__(self, plan: LayerPlan, target: Target) -> None:
        self._plan = plan
        self._target = target
        self._narrow, self._wide = plan.matrix_operand_bits
        entry = signed(plan.classifier.format.bits)
        super().__init__(
            {
                "entry": In(entry),
                "project": In(1),
                "learn": In(1),
                "activation": In(plan.output_format.bits),
                "error": In(signed(plan.error_width)),
                "scale": In(range(plan.max_decay + 1)),
                "product": Out(signed(self._narrow + self._wide)),
                "noise": In(plan.matrix_noise_bits),
                "learned": Out(entry),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p, form = self._plan, self._plan.classifier.format
        m.submodules.multiplier = multiplier = Multiplier(
            self._target, unsigned(self._narrow), Shape(self._wide, signed=True)
        )
        size, negative, scaled = Signal(self._narrow), Signal(), Signal(signed(p.matrix_error_width))
        m.d.sync += [
            negative.eq(self.error < 0),
            size.eq(Mux(self.error < 0, -self.error, self.error)),
            scaled.eq(self.error << self.scale),
        ]
        operand = Signal(Shape(self._wide, signed=True), reset_less=True)
        m.d.sync += operand.eq(Mux(self.learn, scaled, self.entry))
        m.d.comb += [
            multiplier.a.eq(Mux(self.project, size, self.activation)),
            multiplier.b.eq(operand),
        ]
        # What is projected has the error's sign; the other passes come with a size that is their own.
        projecting = [self.project, *(Signal(name=f"project_{i}") for i in range(1, _PRODUCT - _OPERANDS + 1))]
        m.d.sync += [late.eq(early) for early, late in pairwise(projecting)]
        m.d.comb += self.product.eq(Mux(projecting[-1] & negative, -multiplier.product, multiplier.product))

        delayed: list[Value] = [self.entry]
        for i in range(_PRODUCT - 1):
            late = Signal(signed(form.bits), reset_less=True, name=f"entry_{i}")
            m.d.sync += late.eq(delayed[-1])
            delayed.append(late)
        change = Signal(signed(max(2, len(multiplier.product) + 1 - p.matrix_update_shift)), reset_less=True)
        exact = Signal(signed(max(len(change), form.bits) + 1), reset_less=True)
        spare = p.matrix_update_shift - p.matrix_noise_bits
        noise = Cat(Const(1 << spare >> 1, spare), self.noise)
        m.d.sync += [
            change.eq((multiplier.product + noise) >> p.matrix_update_shift),
            exact.eq(delayed[-1] - change),
            self.learned.eq(clamp(exact, form)[0]),
        ]
        return m


class LearnedClassifier(wiring.Component):
    """Scores S = M y while the activations pass, then d = M^T e in the same order, then M -= 2^-rate e y^T.

    Members as those of `Classifier`, without its seeds, and:

    weights_frozen
            only M learns: nothing comes back to the lanes
    idle    M has learned all that there was: neither `take` nor the host's access may come before
    accessed, row
            the host's access to a row, whose `entries` are there 2 cycles later
    store   for every class: write `data` as its entry of the row, 2 cycles later, the others as they were
    noise, noise_seed, load_noise
            the state of the rounding noise's register, and the host's way to set it
    """

    def __init__(self, plan: LayerPlan, target: Target) -> None:
        self._plan = plan
        self._target = target
        entry = signed(plan.classifier.format.bits)
        super().__init__(
            {
                "activation": In(activation_layout(plan)),
                "take": In(1),
                "scores": Out(signed(plan.score_bits)).array(plan.classes),
                "errors": In(signed(plan.error_width)).array(plan.classes),
                "decay": In(range(plan.max_decay + 1)),
                "weights_frozen": In(1),
                "idle": Out(1),
                "accessed": In(1),
                "row": In(range(plan.features)),
                "entries": Out(entry).array(plan.classes),
                "store": In(plan.classes),
                "data": In(entry),
                "noise": Out(STATE_BITS),
                "noise_seed": In(STATE_BITS),
                "load_noise": In(1),
            }
            | group_members(plan)
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        form = p.classifier.format
        columns = [_Column(p, self._target) for _ in range(p.classes)]
        for c, column in enumerate(columns):
            m.submodules[f"column_{c}"] = column
        m.submodules.memory = memory = BlockMemory(self._target, p.classes * form.bits, p.features)
        m.submodules.activations = activations = small_memory(self._target, p.output_format.bits + 1, p.features)
        keep, recall = activations.write_port(), activations.read_port()

        # Where rows come from: the activations that pass, the walk over a group, or the walk over all rows to learn.
        index, value = Signal(range(p.features)), Signal(p.output_format.bits, reset_less=True)
        walking, feature = walk_groups(m, p, self)
        adding, learning, busy = Signal(), Signal(), Signal()
        real, last_row = Signal(), Signal()
        learned, row = Signal(range(p.features)), Signal(range(p.features))
        m.d.comb += [
            keep.addr.eq(self.activation.index),
            keep.data.eq(Cat(self.activation.value, self.activation.active)),
            keep.en.eq(self.take),
            row.eq(Mux(adding, index, Mux(learning, learned, feature))),
            recall.addr.eq(row),
            real.eq(feature < p.features),
            last_row.eq(learning & (learned == p.features - 1)),
            self.idle.eq(~busy),
        ]
        m.d.sync += [
            adding.eq(self.take),
            index.eq(self.activation.index),
            value.eq(self.activation.value),
        ]
        with m.If(walking & (feature == p.error_groups * p.error_group - 1)):
            m.d.sync += learning.eq(1)
        with m.If(learning):
            m.d.sync += learned.eq(learned + 1)
            with m.If(last_row):
                m.d.sync += [learned.eq(0), learning.eq(0)]
        with m.If(self.project):
            m.d.sync += busy.eq(1)

        def delayed(signal: Value, first: int, last: int, name: str) -> dict[int, Value]:
            """`signal` of cycle `first`, in each cycle until `last`."""
            stages = {first: signal}
            for cycle in range(first + 1, last + 1):
                late = Signal.like(signal, name=f"{name}_{cycle}")
                m.d.sync += late.eq(stages[cycle - 1])
                stages[cycle] = late
            return stages

        added, projected = delayed(adding, 0, _PRODUCT, "adding"), delayed(walking, 0, _PRODUCT, "walking")
        written, rows = delayed(learning, 0, _WRITTEN, "learning"), delayed(row, 0, _WRITTEN, "row")
        with m.If(delayed(last_row, 0, _WRITTEN, "last_row")[_WRITTEN]):
            m.d.sync += busy.eq(0)
        passing = delayed(value, 0, 1, "value")[1]
        recalled = recall.data[: p.output_format.bits]
        activation = delayed(Mux(added[1], passing, recalled), 1, _OPERANDS, "activation")[_OPERANDS]
        exists = delayed(real, 0, 1, "real")[1]
        comes_back = exists & recall.data[-1] & ~self.weights_frozen
        gate = delayed(comes_back, 1, _PRODUCT, "gate")[_PRODUCT]
        m.submodules.noise = noise = LeapLfsr(NOISE_LEAP)
        m.d.comb += [
            noise.seed.eq(self.noise_seed),
            noise.load.eq(self.load_noise),
            noise.step.eq(written[_PRODUCT]),
            self.noise.eq(noise.state),
        ]
        scale = (p.max_decay - self.decay)[: p.max_decay.bit_length()]
        stored, write_row = delayed(self.store, 0, 2, "store")[2], rows[_WRITTEN]
        writes = []
        parts = enumerate(zip(columns, self.errors, self.entries, stored, strict=True))
        for number, (column, error, entry, store) in parts:
            m.d.comb += [
                entry.eq(memory.data[number * form.bits : (number + 1) * form.bits]),
                column.entry.eq(entry),
                column.noise.eq(noise.state.rotate_right(lane_rotation(number))),
                column.learn.eq(written[_OPERANDS - 1]),
                column.project.eq(projected[_OPERANDS]),
                column.activation.eq(activation),
                column.error.eq(error),
                column.scale.eq(scale),
            ]
            writes.append(Mux(self.accessed, Mux(store, self.data, entry), column.learned))
        m.d.comb += [
            memory.address.eq(Mux(self.accessed, self.row, row)),
            memory.write.eq(written[_WRITTEN] | stored.any()),
            memory.write_address.eq(Mux(self.accessed, self.row, write_row)),
            memory.write_data.eq(Cat(writes)),
        ]

        # Forward. The first activation clears the sums on its way.
        limit = p.features * p.output_format.max * -form.min
        for column, score in zip(columns, self.scores, strict=True):
            total = Signal(signed(limit.bit_length() + 1), name="total")
            m.d.comb += score.eq(total >> p.score_drop)
            with m.If(self.take & self.activation.first):
                m.d.sync += total.eq(0)
            with m.Elif(added[_PRODUCT]):
                m.d.sync += total.eq(total + column.product)

        # Backward: exact sums, rounded to the error's units, scaled to the rate's decay, to their lanes.
        shape = signed(p.scaled_error_width - p.max_decay + form.fraction)
        terms = [Signal(shape, name=f"term_{c}", reset_less=True) for c in range(p.classes)]
        m.d.sync += [term.eq(Mux(gate, column.product, 0)) for term, column in zip(terms, columns, strict=True)]
        exact, latency = adder_tree(m, terms, shape)
        rounded = Signal(signed(p.scaled_error_width - p.max_decay), reset_less=True)
        m.d.sync += [
            rounded.eq((exact + (1 << form.fraction >> 1)) >> form.fraction),
            self.next_g.eq(rounded << scale),
        ]
        m.d.comb += self.load_g.eq(delayed(projected[_PRODUCT], 0, latency + 3, "load_g")[latency + 3])
        pass_groups(m, p, self)
        return m
