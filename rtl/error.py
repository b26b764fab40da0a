"""The error unit: e = softmax(scores) - onehot(label) in integers, one class a cycle."""

from itertools import pairwise

from amaranth import Array, Cat, Const, Module, Mux, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import ERROR_TABLE, LayerPlan

__all__ = ["ErrorUnit"]

# The stage of the walk over the classes that has a class's ...
# 1: the scores of every fourth class
_SCORE = 2
# 3: difference from the largest, 4: the same in the table's units
_WEIGHT = 5  # in the softmax
_SHARE = 6  # of the sum of all weights

_TABLE_BITS = 9
_TABLE_ONE = ERROR_TABLE[0].bit_length() - 1


class ErrorUnit(wiring.Component):
    """Three walks over the scores: the largest, the softmax's sum, the errors. See `quant/classifier.py`, error().

    start      with `label` and `learn` stable until `done`, `scores` from the next cycle on
    select     of a class, whose score is `score` 3 cycles later while nothing else is under way
    done       high for a cycle, `timing.error_cycles` after start
    predicted  the first class with the largest score, from `done` on
    errors     e, from `done` on where `learn`; the sum is exactly 0
    size       the error at the label, negated, from `done` on; 0 means that there is no error at all
    """

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        super().__init__(
            {
                "start": In(1),
                "select": In(range(plan.classes)),
                "scores": In(Shape(plan.score_bits, plan.signed_scores)).array(plan.classes),
                "label": In(range(plan.classes)),
                "learn": In(1),
                "done": Out(1),
                "score": Out(Shape(plan.score_bits, plan.signed_scores)),
                "predicted": Out(range(plan.classes)),
                "errors": Out(signed(plan.error_width)).array(plan.classes),
                "size": Out(plan.error_bits + 1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan

        running = Signal()
        walk = [Signal(range(p.classes), name=f"class_{i}") for i in range(_SHARE + 1)]
        valid = [running, *(Signal(name=f"valid_{i}") for i in range(1, _SHARE + 1))]
        first = [Signal(init=1, name="first_0"), *(Signal(name=f"first_{i}") for i in range(1, _SCORE + 1))]
        final = [Signal(name=f"final_{i}") for i in range(_SHARE + 1)]
        score = Shape(p.score_bits, p.signed_scores)
        largest = Signal(score, reset_less=True)
        difference = Signal(p.score_bits, reset_less=True)
        distance = Signal(range(len(ERROR_TABLE) + 1), reset_less=True)
        weight = Signal(_TABLE_BITS, reset_less=True)
        share = Signal(p.error_bits + 1, reset_less=True)
        # The sum is at least 2^8, as the largest score weighs 2^8: count the powers of two above that.
        excess = Signal(range(p.normaliser_bits + 1), reset_less=True)
        table = Array(Const(entry, _TABLE_BITS) for entry in (*ERROR_TABLE, 0))
        exact = difference >> p.score_shift
        m.d.comb += final[0].eq(running & (walk[0] == p.classes - 1))
        for stages in (walk, valid, first, final):
            m.d.sync += [late.eq(early) for early, late in pairwise(stages)]
        quarters = [Signal(score, name=f"score_{c}", reset_less=True) for c in range(0, p.classes, 4)]
        m.d.sync += [
            *(quarter.eq(Array(self.scores[4 * i : 4 * i + 4])[walk[0][:2]]) for i, quarter in enumerate(quarters)),
            self.score.eq(Array(quarters)[walk[1][2:]]),
            difference.eq(largest - self.score),
            distance.eq(Mux(exact > len(ERROR_TABLE), len(ERROR_TABLE), exact)),
            weight.eq(table[distance]),
            share.eq(((weight << p.error_bits) >> _TABLE_ONE) >> excess),
        ]
        with m.If(running):
            m.d.sync += [walk[0].eq(walk[0] + 1), first[0].eq(0)]
            with m.If(final[0]):
                m.d.sync += [walk[0].eq(0), first[0].eq(1), running.eq(0)]

        total = Signal(range(p.classes * ERROR_TABLE[0] + 1), reset_less=True)
        others = Signal(p.error_bits + 1, reset_less=True)
        # Known long before it counts.
        is_label = Signal(p.classes)
        m.d.sync += is_label.eq(Cat(self.label == c for c in range(p.classes)))
        with m.FSM(name="pass"):
            with m.State("Idle"):
                m.d.sync += walk[0].eq(self.select)
                with m.If(self.start):
                    m.d.sync += [walk[0].eq(0), running.eq(1), self.size.eq(0)]
                    m.next = "Largest"
            with m.State("Largest"):
                with m.If(valid[_SCORE] & (first[_SCORE] | (self.score > largest))):
                    m.d.sync += [largest.eq(self.score), self.predicted.eq(walk[_SCORE])]
                with m.If(final[_SCORE]):
                    with m.If(self.learn):
                        m.d.sync += [running.eq(1), total.eq(0), *(stage.eq(0) for stage in valid[1:])]
                        m.next = "Sum"
                    with m.Else():
                        m.next = "Done"
            with m.State("Sum"), m.If(valid[_WEIGHT]):
                m.d.sync += total.eq(total + weight)
                with m.If(final[_WEIGHT]):
                    m.next = "Normalise"
            with m.State("Normalise"):
                for power in range(p.normaliser_bits + 1):
                    with m.If(total > (ERROR_TABLE[0] << power >> 1)):
                        m.d.sync += excess.eq(power)
                m.d.sync += [running.eq(1), others.eq(0)]
                m.next = "Errors"
            with m.State("Errors"), m.If(valid[_SHARE]):
                # They enter at the end, one after another, so that each comes to its place without a choice.
                m.d.sync += [error.eq(following) for error, following in pairwise([*self.errors, share])]
                with m.If(walk[_SHARE] != self.label):
                    m.d.sync += others.eq(others + share)
                with m.If(final[_SHARE]):
                    m.next = "Label"
            with m.State("Label"):
                for error, this in zip(self.errors, is_label, strict=True):
                    with m.If(this):
                        m.d.sync += error.eq(-others)
                m.d.sync += self.size.eq(others)
                m.next = "Done"
            with m.State("Done"):
                m.d.comb += self.done.eq(1)
                m.next = "Idle"
        return m
