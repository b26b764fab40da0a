"""The error unit of a layer that learns by the squared hinge: e = -u max(0, 1 - u s), one class a cycle."""

from itertools import pairwise

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from locallearn.quant.layer_plan import LayerPlan
from locallearn.rtl.largest import Largest

__all__ = ["HingeUnit"]


class HingeUnit(wiring.Component):
    """Makes the errors in the walk that finds the largest score. See `quant/classifier.py`, error().

    Members as those of `ErrorUnit`; `done` comes as late without `learn`.
    size  the sum of all errors' sizes
    """

    def __init__(self, plan: LayerPlan) -> None:
        self._plan = plan
        score = signed(plan.score_bits)
        super().__init__(
            {
                "start": In(1),
                "select": In(range(plan.classes)),
                "scores": In(score).array(plan.classes),
                "label": In(range(plan.classes)),
                "learn": In(1),
                "done": Out(1),
                "score": Out(score),
                "predicted": Out(range(plan.classes)),
                "errors": Out(signed(plan.error_width)).array(plan.classes),
                "size": Out(plan.error_size_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._plan
        m.submodules.walk = walk = Largest(p)
        m.d.comb += [
            walk.start.eq(self.start),
            walk.select.eq(self.select),
            self.score.eq(walk.score),
            self.predicted.eq(walk.predicted),
            *(port.eq(score) for port, score in zip(walk.scores, self.scores, strict=True)),
        ]
        # Behind the walk: 1 what is missing from the margin, 2 that in the error's units, 3 cut off at both ends, 4 the
        # errors and their sum.
        valid = [walk.valid, *(Signal(name=f"valid_{i}") for i in range(1, 4))]
        last = [walk.last, *(Signal(name=f"last_{i}") for i in range(1, 5))]
        wanted = [walk.number == self.label, *(Signal(name=f"wanted_{i}") for i in range(1, 4))]
        for stages in (valid, last, wanted):
            m.d.sync += [late.eq(early) for early, late in pairwise(stages)]
        one = 1 << p.margin_shift
        missing = Signal(signed(max(p.score_bits, one.bit_length() + 1) + 1), reset_less=True)
        scaled = Signal(signed(len(missing) + p.error_bits), reset_less=True)
        limit = p.spec.error_max(p.index)
        part = Signal(range(limit + 1), reset_less=True)
        m.d.sync += [
            missing.eq(Mux(wanted[0], one - walk.score, one + walk.score)),
            scaled.eq((missing << p.error_bits) >> p.margin_shift),
            part.eq(Mux(scaled < 0, 0, Mux(scaled > limit, limit, scaled))),
            self.done.eq(last[-1]),
        ]
        with m.If(self.start):
            m.d.sync += self.size.eq(0)
        with m.If(valid[-1] & self.learn):
            # They enter at the end, one after another, so that each comes to its place without a choice.
            entering = Mux(wanted[-1], -part, part)
            m.d.sync += [error.eq(following) for error, following in pairwise([*self.errors, entering])]
            m.d.sync += self.size.eq(self.size + part)
        return m
