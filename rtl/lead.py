"""The lead: how sure a classifier is of a sample, and whether that is enough to stop."""

from amaranth import Cat, Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import LayerPlan
from locallearn.rtl.timing import SCORE

__all__ = ["Lead"]


class Lead(wiring.Component):
    """Watches the walk over the scores that finds the largest.

    start   of that walk
    score   class by class, the first `timing.SCORE` cycles after start
    least   the lead, of the best score over the second, with which a sample stops
    enough  the sample has that; from `classes` + 5 cycles after start until the next
    """

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        self._score = Shape(plan.score_bits, plan.signed_scores)
        super().__init__({"start": In(1), "score": In(self._score), "least": In(plan.exit_bits), "enough": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        begun, left = Signal(SCORE), Signal(range(p.classes))
        first = begun[-1]
        best, second = Signal(self._score, reset_less=True), Signal(self._score, reset_less=True)
        lead = Signal(p.score_bits, reset_less=True)
        lowest = -1 << (p.score_bits - 1) if p.signed_scores else 0
        m.d.sync += [
            begun.eq(Cat(self.start, begun)),
            lead.eq(best - second),
            self.enough.eq(lead >= self.least),
        ]
        with m.If(first):
            m.d.sync += [best.eq(self.score), second.eq(lowest), left.eq(p.classes - 1)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
            with m.If(self.score > best):
                m.d.sync += [best.eq(self.score), second.eq(best)]
            with m.Elif(self.score > second):
                m.d.sync += second.eq(self.score)
        return m
