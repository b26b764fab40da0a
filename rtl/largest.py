"""The predicted class: one walk over the scores, one class a cycle."""

from amaranth import Array, Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import LayerPlan

__all__ = ["Largest"]


class Largest(wiring.Component):
    """All that a layer needs to know that does not learn from its own scores.

    start      with `scores` from the next cycle on
    select     of a class, whose score is `score` 3 cycles later while nothing else is under way
    valid, number, score, last
               of the walk, for who makes more of it: this class has this score, and is the last
    done       high for a cycle, `classes` + 3 cycles after start
    predicted  the first class with the largest score, from `done` on
    """

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        self._score = Shape(plan.score_bits, plan.signed_scores)
        super().__init__(
            {
                "start": In(1),
                "select": In(range(plan.classes)),
                "scores": In(self._score).array(plan.classes),
                "valid": Out(1),
                "number": Out(range(plan.classes)),
                "score": Out(self._score),
                "last": Out(1),
                "done": Out(1),
                "predicted": Out(range(plan.classes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        # Stage 0 chooses one of every four classes' scores, stage 1 one of those.
        running = Signal()
        number = [Signal(range(p.classes), name=f"number_{i}") for i in range(2)]
        valid, last = Signal(name="valid_1"), Signal(name="last_1")
        ends = running & (number[0] == p.classes - 1)
        quarters = [Signal(self._score, name=f"score_{c}", reset_less=True) for c in range(0, p.classes, 4)]
        m.d.sync += [
            *(quarter.eq(Array(self.scores[4 * i : 4 * i + 4])[number[0][:2]]) for i, quarter in enumerate(quarters)),
            self.score.eq(Array(quarters)[number[1][2:]]),
            *(valid.eq(running), self.valid.eq(valid)),
            *(last.eq(ends), self.last.eq(last), self.done.eq(self.last)),
            *(number[1].eq(number[0]), self.number.eq(number[1])),
        ]
        with m.If(running):
            m.d.sync += [number[0].eq(number[0] + 1), running.eq(~ends)]
        with m.Else():
            m.d.sync += [number[0].eq(self.select), running.eq(self.start)]
            with m.If(self.start):
                m.d.sync += number[0].eq(0)
        largest = Signal(self._score, reset_less=True)
        with m.If(self.valid & ((self.number == 0) | (self.score > largest))):
            m.d.sync += [largest.eq(self.score), self.predicted.eq(self.number)]
        return m
